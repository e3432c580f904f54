"""A network: a graph, its parameters, and the engine that runs it."""

import json
import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rot180 import engines, interchange
from rot180.arithmetic import Computation, explain
from rot180.arrays import Array, Shape, text
from rot180.chance import LARGEST_SEED, Training, Use, key, uniform
from rot180.data.dataset import Dataset
from rot180.data.preparation import Preparation
from rot180.engines import DEFAULT_ENGINE, Explains, Gradients
from rot180.engines.reference import ReferenceProgram, Rule
from rot180.errors import DataError, ModelFileError, Rot180Error, SettingError, ShapeError
from rot180.files import digest, replace_file
from rot180.graph import IMAGE, Graph
from rot180.layers import BatchNormalization, Dropout
from rot180.parameters import Initializer, Layout, initial_vector, initializer, undrawn
from rot180.summary import summarize

if TYPE_CHECKING:
    from rot180.interchange.onnx_reader import Translation

EVALUATION_BATCH = 250  # images at a time, at most
FORMAT = "rot180 network 1"


class Evaluation(NamedTuple):
    """How a network does on a data set."""

    images: int
    errors: int
    loss: float  # the mean over the images
    confusion: Array  # (K, K): [true class, predicted class], counts

    @property
    def error(self) -> float:
        """The share of images that are classified wrongly."""
        return self.errors / self.images

    @property
    def recall(self) -> Array:
        """(K,): of the images of each class, the share that is recognised; NaN where there are none."""
        return _shares(self.confusion.diagonal(), self.confusion.sum(axis=1))

    @property
    def precision(self) -> Array:
        """(K,): of the images said to be of each class, the share that is; NaN where nothing is."""
        return _shares(self.confusion.diagonal(), self.confusion.sum(axis=0))

    def _repr_html_(self) -> str:
        """Error, loss, and the confusion as a coloured table, for notebooks."""
        from rot180 import notebook

        line = f"error {100 * self.error:.2f} % ({self.errors:,} of {self.images:,}), loss {self.loss:.4f}"
        if len(self.confusion) > notebook.MOST_CLASSES:
            return notebook.paragraph(line)
        legend = notebook.paragraph("rows: what it is; columns: what the network says")
        return notebook.paragraph(line) + legend + notebook.confusion_table(self.confusion)


class Network:
    """A graph with parameters, ready to be called, trained, examined, saved.

    Images are (N,C,H,W), or one of (C,H,W), of numbers as the graph takes them: pixels 0..255 where it begins with
    ScalePixels. Labels are whole numbers (N,). The same seed gives the same parameters.

    engine: "lanes", the fast one, in float32, or "reference", the definition; without, lanes where the dtype allows.
    threads: how many the engine may use; without, as many as the process. The numbers do not depend on it.
    """

    def __init__(
        self,
        graph: Graph,
        seed: int = 0,
        *,
        start: Initializer | str = "he",
        engine: str | None = None,
        threads: int | None = None,
        dtype: type[np.floating] = np.float32,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self.graph = graph
        self.dtype = np.dtype(dtype)
        if not 0 <= seed <= LARGEST_SEED:
            raise SettingError(f"the seed is {seed}: choose a whole number from 0 to {LARGEST_SEED}")
        names = class_names or ()
        if len(names) > graph.classes:
            raise SettingError(f"{len(names)} class names for a network of {graph.classes} classes")
        self.class_names = (*names, *(str(label) for label in range(len(names), graph.classes)))
        self.layout = Layout.of_parameters(graph)
        self.statistics_layout = Layout.of_statistics(graph)
        start = initializer(start) if isinstance(start, str) else start
        self.parameters = initial_vector(graph, self.layout, start, seed, self.dtype)
        """Everything learned, one flat vector; `layout` says what lies where."""
        self.statistics = initial_vector(graph, self.statistics_layout, start, seed, self.dtype)
        """Everything measured in training (running means and variances), likewise."""
        self.threads = threads
        self.engine_name = engine or (DEFAULT_ENGINE if self.dtype == np.float32 else "reference")
        if self.engine_name != "reference" and self.dtype != np.float32:
            raise SettingError(f"the engine {self.engine_name!r} computes in float32, not {self.dtype}: leave it out")
        self.program = engines.engine(self.engine_name, threads).compile(graph, self.layout, self.statistics_layout)
        self._reads_bytes = isinstance(self.program, engines.Varies)

    def __getitem__(self, name: str) -> Array:
        """A parameter or statistic by its full name, such as "C1.w": a view into the flat vector."""
        arrays = self.named_arrays()
        if name not in arrays:
            raise SettingError(f"the network has no parameter {name!r}; it has {', '.join(arrays)}")
        return arrays[name]

    def named_arrays(self) -> dict[str, Array]:
        """Parameters and statistics by their full names: views into the flat vectors."""
        return {**self.layout.named(self.parameters), **self.statistics_layout.named(self.statistics)}

    def _repr_html_(self) -> str:
        """What it is made of, for notebooks."""
        from rot180 import notebook

        summary = summarize(self.graph)
        rows = [
            (
                row.name,
                row.layer,
                text(row.output),
                f"{row.parameters:,}",
                f"{row.multiply_adds:,}",
                text(row.receptive_field) if any(row.receptive_field) else "",
            )
            for row in summary.rows
        ]
        line = (
            f"{summary.parameters:,} parameters, {summary.multiply_adds:,} multiply-adds an image, "
            f"images {text(self.graph.input_shape)}, engine {self.engine_name}"
        )
        columns = "node", "layer", "output", "parameters", "multiply-adds", "sees"
        classes = notebook.paragraph(f"classes: {', '.join(self.class_names)}")
        return notebook.paragraph(line) + classes + notebook.table(columns, rows, left=2)

    # --- running -----------------------------------------------------------------------------------------------

    def __call__(self, images: Array) -> Array:
        """The scores (N, K), before the loss turns them into probabilities.

        Few images at a time go through other kernels than many, whose sums have another order: an image's scores may
        differ in their last bits between a call for it alone and one for a batch. The same call gives the same bits.
        """
        return self.program.scores(self._pixels(images), self.parameters, self.statistics)

    def probabilities(self, images: Array) -> Array:
        """(N, K): how sure the network is of each class."""
        return self.graph.loss.probabilities(self(images))

    def frozen(self, threads: int | None = None) -> "Frozen":
        """The network as it is now, for serving: its parameters are copied and laid out once.

        Calls cost less, and later training does not change it. threads: as for the network.
        """
        program = engines.engine(self.engine_name, threads).compile(self.graph, self.layout, self.statistics_layout)
        return Frozen(self.graph, self.dtype, program.frozen(self.parameters, self.statistics))

    def loss_and_gradients(self, images: Array, labels: Array, training: Training | None = None) -> Gradients:
        """The mean loss over a batch, and ∂L/∂parameters as the flat vector's twin."""
        images = self._pixels(images)
        return self.program.loss_and_gradients(
            images, self._labels(labels, len(images)), self.parameters, self.statistics, training
        )

    def trace(self, images: Array, labels: Array | int, training: Training | None = None) -> "Trace":
        """Every value and every gradient of one forward and backward pass, by node name."""
        images = self._images(images)
        labels = self._labels(np.atleast_1d(np.asarray(labels)), len(images))
        values = self.program.values(images, labels, self.parameters, self.statistics, training)
        return Trace(*values, self.graph, self._arrays(), training is None)

    def score_gradients(self, images: Array, labels: Array | int | None = None, relu: Rule | None = None) -> "Trace":
        """Every value of inference by node name, and what it does to one score of each image: ∂score/∂value.

        labels: whose scores; without, the largest. relu: what ReLUs hand back in place of their gradient, from dy and
        f'(x): the maps of `rot180.explain` differ in nothing else. There are no parameter gradients.
        """
        images = self._images(images)
        if labels is not None:
            labels = self._labels(np.atleast_1d(np.asarray(labels)), len(images))

        def start(scores: Array) -> Array:
            flat = scores.reshape(len(scores), -1)
            one = np.zeros_like(flat)
            one[np.arange(len(flat)), flat.argmax(axis=1) if labels is None else labels] = 1
            return one

        program = ReferenceProgram(self.graph, self.layout, self.statistics_layout)
        values = program.score_gradients(images, self.parameters, self.statistics, start, relu)
        return Trace(values.outputs, values.gradients, {}, {}, self.graph, self._arrays(), True)

    def _by_node(self, parameters: Array, statistics: Array) -> dict[str, dict[str, Array]]:
        """{node: {name: array}}: both vectors in parts, shared, not copied."""
        arrays = self.layout.views(parameters)
        for node, measured in self.statistics_layout.views(statistics).items():
            arrays.setdefault(node, {}).update(measured)
        return arrays

    def _arrays(self) -> dict[str, dict[str, Array]]:
        """The same of copies, as they are now."""
        return self._by_node(self.parameters.copy(), self.statistics.copy())

    def explain(self, batch: int = 64) -> list[Any]:
        """Which kernels train batches of this size, for each pass of each node, and why: a list of tuples with names.

        Raises SettingError for the reference engine, which has nothing to choose.
        """
        if not isinstance(self.program, Explains):
            raise SettingError(f"the engine {self.engine_name!r} runs the layers as they stand: nothing to explain")
        return self.program.explain(batch)[0]

    def evaluate(self, dataset: Dataset, tell: Callable[[slice, Array], None] | None = None) -> Evaluation:
        """Error, loss and confusion on a data set.

        tell: called for some images after the other with which they are, and how sure the network is of each class.
        """
        dataset.check_fits(self.graph.input_shape, self.graph.classes)
        if not len(dataset):
            raise DataError(f"{dataset.name}: there are no images to evaluate")
        confusion = np.zeros((self.graph.classes, self.graph.classes), np.int64)
        loss = 0.0
        parts = -(-len(dataset) // EVALUATION_BATCH)  # about equal: a few left over would need kernels of their own
        for part in range(parts):
            batch = slice(len(dataset) * part // parts, len(dataset) * (part + 1) // parts)
            scores, labels = self(dataset.images[batch]), dataset.labels[batch]
            loss += float(self.graph.loss.of_output.forward((scores, labels), {})[0]) * len(labels)
            np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
            if tell:
                tell(batch, self.graph.loss.probabilities(scores))
        errors = len(dataset) - int(np.trace(confusion))
        return Evaluation(len(dataset), errors, loss / len(dataset), confusion)

    def _pixels(self, images: Array) -> Array:
        """For a program that reads bytes, these as they are: large ones need not lie in memory four times as large."""
        as_bytes = self._reads_bytes and getattr(images, "dtype", None) == np.uint8
        return _checked(images, self.graph, np.dtype(np.uint8) if as_bytes else self.dtype)

    def _images(self, images: Array) -> Array:
        return _checked(images, self.graph, self.dtype)

    def _labels(self, labels: Array, images: int) -> Array:
        labels = np.asarray(labels)
        if labels.shape != (images,) or labels.dtype.kind not in "ui":
            raise DataError(f"labels are {labels.dtype} of shape {labels.shape}: give one whole number per image")
        if labels.size and not 0 <= labels.min() <= labels.max() < self.graph.classes:
            raise DataError(
                f"labels reach from {labels.min()} to {labels.max()}; classes from 0 to {self.graph.classes - 1}"
            )
        return labels

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, statistics and graph to a safetensors file; a crash leaves the old file or the new one."""
        replace_file(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        from safetensors.numpy import save

        arrays = self.named_arrays()
        described = {"format": FORMAT, "classes": self.class_names, "graph": json.loads(self.graph.to_json())}
        described["digest"] = digest(arrays, self.graph.to_json())
        metadata = {"rot180": json.dumps(described)}  # one entry: safetensors writes several in any order
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata)

    def export_onnx(self, path: str | os.PathLike[str], preparation: Preparation | None = None) -> None:
        """Write the network as an ONNX model for other programs, in float32.

        It takes "image" (N,C,H,W) as the network does, scaling of pixels and all, and gives "scores" and
        "probabilities" (N,K). Needs the package onnx. Before anything is written, the ONNX project's checker looks at
        the model, and onnxruntime, where it is installed, runs it on two images: ModelFileError where they object.
        preparation: what is done to images before this network sees them; the model does it too. SettingError for
        "denoise", which is not linear.
        """
        interchange.require_onnx()
        from rot180.interchange import onnx_check, onnx_writer

        parameters, statistics = self.parameters.astype(np.float32), self.statistics.astype(np.float32)
        arrays = self._by_node(parameters, statistics)
        linear = None
        if preparation is not None:
            if preparation.mean is None or preparation.matrix is None:
                raise SettingError(f"ONNX has no operator for the preparation {preparation.kind!r}: it is not linear")
            linear = onnx_writer.Linear(
                preparation.shape, preparation.mean, preparation.matrix, np.asarray(preparation.offset, np.float32)
            )
        content = onnx_writer.model(self.graph, arrays, self.class_names, linear).SerializeToString()
        shape = preparation.shape if preparation else self.graph.input_shape
        images = 255 * uniform(key(Use.GRADIENT_CHECK, 0, np.arange(2)), prod(shape))
        images = images.reshape(2, *shape).astype(np.float32)
        prepared = preparation.apply(images) if preparation else images
        definition = engines.engine("reference").compile(self.graph, self.layout, self.statistics_layout)
        try:
            onnx_check.check(content, images, definition.scores(prepared, parameters, statistics))
        except ModelFileError as error:
            raise ModelFileError(f"{path}: not written, since {error}") from error
        replace_file(path, content)


class Trace(NamedTuple):
    """Every number of one forward and one backward pass, by node."""

    outputs: dict[str, Array]  # y of each node, and of "image" and "label"
    gradients: dict[str, Array]  # ∂L/∂y of each node, and of "image"
    parameter_gradients: dict[str, dict[str, Array]]  # {node: {name: ∂L/∂parameter}}
    statistics: dict[str, dict[str, Array]]  # {node: {name: value after this batch}}
    graph: Graph
    arrays: dict[str, dict[str, Array]]  # parameters and statistics as they were
    inference: bool

    def explain(
        self,
        node: str,
        *,
        channel: int | None = None,
        row: int | None = None,
        column: int | None = None,
        unit: int | None = None,
        image: int = 0,
    ) -> Computation:
        """How one number came to be: what was read, what it was multiplied by, and the sum.

        print(network.trace(image, label).explain("C1", channel=0, row=3, column=4))

        A value of maps has channel, row and column, one of a vector a unit. image: which of the batch.
        Raises SettingError where there is no such value, and where it is a loss or was made by chance (training).
        """
        layer = self.graph[node].layer
        if not self.inference and isinstance(layer, BatchNormalization | Dropout):
            raise SettingError(f"{node} does something else in training: trace without training to explain it")
        place: tuple[int | None, ...] = (unit,) if unit is not None else (channel, row, column)
        if node not in self.outputs or not 0 <= image < len(self.outputs[IMAGE]):
            raise SettingError(f"there is no value of node {node!r} for image {image}")
        outputs = {name: values[image] for name, values in self.outputs.items() if np.ndim(values)}
        return explain(self.graph, self.graph[node], outputs, self.arrays.get(node, {}), place)


class Frozen:
    """A network as it was when `Network.frozen` was called: images in, scores out. Any thread may call it."""

    def __init__(self, graph: Graph, dtype: np.dtype[np.floating], scores: Callable[[Array], Array]) -> None:
        self.graph, self.dtype = graph, dtype
        self._scores = scores

    def __call__(self, images: Array) -> Array:
        """The scores (N, K) of images (N,C,H,W), or of one (C,H,W)."""
        return self._scores(_checked(images, self.graph, self.dtype))

    def probabilities(self, images: Array) -> Array:
        """(N, K): how sure the network is of each class."""
        return self.graph.loss.probabilities(self(images))


def _shares(parts: Array, of: Array) -> Array:
    return np.divide(parts, of, out=np.full(len(of), np.nan), where=of > 0)


def _checked(images: Array, graph: Graph, dtype: np.dtype[Any]) -> Array:
    """The images as (N,C,H,W); ShapeError where they do not fit the graph."""
    images = np.asarray(images)
    if images.ndim == len(graph.input_shape):
        images = images[None]
    if images.shape[1:] != graph.input_shape:
        raise ShapeError(f"images are {text(images.shape)}, but the network takes (images, {text(graph.input_shape)})")
    return np.require(images, dtype, ["C", "W"])  # read-only ones are copied: compiled code takes no others


def load(path: str | os.PathLike[str], engine: str | None = None, threads: int | None = None) -> Network:
    """The network that `Network.save` wrote, or that an ONNX model (.onnx) describes.

    Of an ONNX model it takes what leads from its one input, images of a size that it declares, to its first output;
    a softmax at the end becomes the loss's. It can be trained on: batch normalization and dropout are layers again.
    Without `engine` the fastest runs it that has all of its layers.

    Nothing in the file is run, and nothing is allocated that it does not hold or that is not checked before.
    Raises ModelFileError, naming the file, where it is missing, damaged, or another program's, and for an operator that
    rot180 has no layer for.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return _load_onnx(path, engine, threads)
    if engine is not None:
        engines.engine(engine, threads)  # an unknown one is not the file's fault
    try:
        with safe_open(path, framework="numpy") as file:
            described = json.loads((file.metadata() or {}).get("rot180", "{}"))
            if described.get("format") != FORMAT:
                raise ModelFileError(f"{path}: safetensors, but not a network that rot180 saved")
            graph = Graph.from_json(json.dumps(described["graph"]))
            places: dict[str, Shape] = {}
            for layout in (Layout.of_parameters(graph), Layout.of_statistics(graph)):
                places |= {f"{place.node}.{place.name}": place.shape for place in layout.places}
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if stored != places:
                odd = sorted(name for name in places.keys() | stored.keys() if places.get(name) != stored.get(name))
                raise ModelFileError(f"{path}: array {odd[0]!r} is not what the network in the file describes")
            kinds = {file.get_slice(name).get_dtype() for name in stored}
            if not (kinds <= {"F32"} or kinds == {"F64"}):
                raise ModelFileError(f"{path}: its numbers are {', '.join(sorted(kinds))}, not all F32 or all F64")
            dtype = np.float64 if kinds == {"F64"} else np.float32
            class_names = tuple(str(name) for name in described["classes"])
            if dtype != np.float32:
                engine = "reference"
            network = Network(
                graph, start=undrawn, engine=engine, threads=threads, dtype=dtype, class_names=class_names
            )
            for name in places:
                network[name][...] = file.get_tensor(name)
            arrays = {name: network[name] for name in places}
            if "digest" in described and described["digest"] != digest(arrays, graph.to_json()):
                raise ModelFileError(f"{path}: damaged: its checksum is not that of what it holds")
    except ModelFileError as error:
        raise error if str(path) in str(error) else ModelFileError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: there is no such file") from error
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path}: not a network that rot180 saved ({error})") from error
    return network


def _load_onnx(path: Path, engine: str | None, threads: int | None) -> Network:
    interchange.require_onnx()
    from rot180.interchange import onnx_file, onnx_reader

    if engine is not None:
        engines.engine(engine, threads)
    try:
        with onnx_file.suspicion():
            return from_translation(onnx_reader.translate(onnx_file.read_file(path)), engine, threads)
    except Rot180Error as error:
        raise ModelFileError(f"{path}: {error}") from error


def from_translation(read: "Translation", engine: str | None = None, threads: int | None = None) -> Network:
    """The network of an ONNX model, by the fastest engine that has all of its layers where none is named."""
    network = Network(
        read.graph,
        engine=engine or engines.fastest_for(read.graph),
        start=undrawn,
        threads=threads,
        class_names=read.class_names,
    )
    for layout, vector in (
        (network.layout, network.parameters),
        (network.statistics_layout, network.statistics),
    ):
        for place in layout.places:
            vector[place.slice] = np.ravel(read.arrays[place.node][place.name])
    return network
