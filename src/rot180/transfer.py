"""Transfer: what a network has learned of some images, put to use on others.

    network = rot180.load("efficientnet-lite0.onnx")                # any network of ours, or an ONNX model
    network = transfer.start(network, ("daisy", "rose"), pixels="-1..1")
    parts = transfer.Parts(network, below=transfer.head(network.graph))
    for step in rot180.train(parts.upper, parts.features(photos), recipe):
        ...
    parts.join()                                                    # the network has what the upper part learned

The first layers of a deep network see edges and textures, which serve any photograph; only the last tell its own
classes apart (Yosinski et al. 2014, "How transferable are features in deep neural networks?"). So the head is made anew
for the new classes, and what lies below a node may stay as it is: it is then run once for each image, as in inference,
with batch normalization's running means, and training sees what it gave. What is not frozen is trained as ever.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import prod

import numpy as np

from rot180.arrays import Array, Shape, text
from rot180.data.augmentation import AS_THEY_ARE, Augmentation
from rot180.data.dataset import Dataset
from rot180.engines import Varies
from rot180.errors import GraphError, SettingError
from rot180.graph import IMAGE, LABEL, Graph, Node
from rot180.layers import Affine, Convolution, Dense, Layer, Reshape, ScalePixels, SoftmaxCrossEntropy
from rot180.network import Network
from rot180.parameters import Initializer, undrawn

AT_ONCE = 256  # images that pass through the frozen part together, 16 by 16 on as many threads as there are

PIXELS: dict[str, tuple[tuple[float, ...], tuple[float, ...]] | None] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0..1": ((0.0,), (1.0,)),
    "-1..1": ((0.5,), (0.5,)),
    "as they are": None,
}
"""What networks were fed when they were trained: (x/255 - mean)/deviation, by channel; None: pixels 0..255.

"imagenet" is what PyTorch's model zoo uses, the mean and deviation of ImageNet's pixels.
"""


def start(
    network: Network, class_names: tuple[str, ...], *, pixels: str | None = None, new_head: bool = True, seed: int = 0
) -> Network:
    """The network for these classes, its head drawn anew by the seed, everything else as it was learned.

    pixels: one of PIXELS, put before a network that wants its images prepared; without, it takes them as it did.
    new_head=False: keep the head, which then must have as many classes.
    Raises SettingError where the network has no head that could be replaced.
    """
    graph = adapted(network.graph, len(class_names) if new_head else None, pixels)
    return taken_over(network, graph, class_names, fresh=head(graph) if new_head else None, seed=seed)


# --- the graph ---------------------------------------------------------------------------------------------------


def adapted(graph: Graph, classes: int | None, pixels: str | None) -> Graph:
    """The graph without heads on the side, with a head for so many classes, and with pixels scaled; None: as it is."""
    graph = without_side_heads(graph)
    if pixels is not None:
        graph = with_pixels(graph, pixels)
    return graph if classes is None else with_head(graph, classes)


def head(graph: Graph) -> str:
    """The node that makes the scores: the last layer with weights.

    SettingError where that is no dense or convolutional layer, or several paths lead from it to the scores.
    """
    name = graph.output
    while name != IMAGE:
        node = graph[name]
        if isinstance(node.layer, Dense | Convolution) and graph.shapes[name][0] == graph.classes:
            return name
        if len(node.inputs) != 1 or node.layer.parameter_shapes(graph.input_shape_of(node)):
            break
        name = node.inputs[0]
    raise SettingError(
        f"the network's scores come from {graph[graph.output].layer} (node {graph.output!r}): a new head can only take "
        "the place of a dense or convolutional layer; choose another network to start from"
    )


def with_head(graph: Graph, classes: int) -> Graph:
    """The graph with a head for so many classes."""
    name, before = head(graph), graph.classes
    behind = False
    nodes = []
    for node in graph:
        layer: Layer = node.layer
        if node.name == name:
            layer = replace(layer, **{"outputs" if isinstance(layer, Dense) else "filters": classes})
        elif behind and isinstance(layer, Reshape):  # (1000,1,1) -> (1000,)
            layer = Reshape(tuple(classes if size == before else size for size in layer.shape))
        behind = behind or node.name == name
        nodes.append(replace(node, layer=layer))
    return Graph(nodes, graph.input_shape, graph.output)


def with_pixels(graph: Graph, pixels: str) -> Graph:
    """The graph with pixels scaled as one of PIXELS says before anything else; SettingError for another word."""
    if pixels not in PIXELS:
        raise SettingError(f"there is no scaling of pixels {pixels!r}: choose one of {', '.join(PIXELS)}")
    scaling, channels = PIXELS[pixels], graph.input_shape[0]
    if scaling is None:
        return graph
    mean, deviation = scaling
    if len(mean) not in (1, channels):
        raise SettingError(f"{pixels!r} is for {len(mean)} channels, but the network's images have {channels}")
    low = tuple(-m / d for m, d in zip(mean, deviation, strict=True))
    high = tuple((1 - m) / d for m, d in zip(mean, deviation, strict=True))
    layer = ScalePixels(low[0], high[0]) if len(mean) == 1 else ScalePixels(low, high)
    name = _free("pixels", graph)
    nodes = [
        replace(node, inputs=tuple(name if source == IMAGE else source for source in node.inputs)) for node in graph
    ]
    return Graph([Node(name, layer, (IMAGE,)), *nodes], graph.input_shape, graph.output)


def wants_pixels(graph: Graph) -> bool:
    """Does the network take pixels 0..255, since it begins with scaling them in some way?"""
    return all(isinstance(node.layer, ScalePixels | Affine) for node in graph if IMAGE in node.inputs)


def usual_pixels(graph: Graph) -> str:
    """The likeliest of PIXELS for a network that wants its images prepared."""
    return "imagenet" if graph.input_shape[0] == 3 else "0..1"


def without_side_heads(graph: Graph) -> Graph:
    """The graph with its output's own loss alone, and without what only other heads need."""
    needed = graph.needed_for(graph.output)
    loss = replace(graph.nodes[-1], layer=graph.loss.of_output, inputs=(graph.output, LABEL))
    return Graph([*(node for node in graph if node.name in needed), loss], graph.input_shape, graph.output)


def cut(graph: Graph, below: str) -> tuple[str, Graph, Graph]:
    """What the node `below` is computed from, and the rest: the value between them, the lower and the upper graph.

    The lower graph's output is that value; the upper one takes it as its image, (D,) as (D,1,1).
    Raises GraphError where nothing below the node has learned, nothing above it learns, or several values pass.
    """
    lower, passing = _below(graph, below)
    kept = [node for node in graph if node.name in lower]
    upper = [node for node in graph if node.name not in lower]
    if not _learns(graph, kept):
        raise GraphError(
            f"nothing below {below!r} learns, so that nothing would be frozen: name a later node, or image"
        )
    if not _learns(graph, upper):
        raise GraphError(f"nothing from {below!r} on learns: name an earlier node, such as {head(graph)!r}")
    if len(passing) > 1:
        raise GraphError(
            f"from below {below!r} {len(passing)} values pass ({', '.join(passing)}), and only one may: "
            f"choose one of {', '.join(_cuts(graph))}"
        )
    (value,) = passing
    flat, loss = _free("values", graph), _free("loss", graph)
    ending = [
        Node(flat, Reshape((prod(graph.shapes[value]),)), (value,)),
        Node(loss, SoftmaxCrossEntropy(), (flat, LABEL)),  # nobody asks for it, but a graph ends with one
    ]
    moved = [
        replace(node, inputs=tuple(IMAGE if source == value else source for source in node.inputs)) for node in upper
    ]
    return (
        value,
        Graph([*kept, *ending], graph.input_shape, value),
        Graph(moved, _as_image(graph.shapes[value]), graph.output),
    )


def _learns(graph: Graph, nodes: Iterable[Node]) -> bool:
    return any(node.layer.parameter_shapes(graph.input_shape_of(node)) for node in nodes)


def _below(graph: Graph, name: str) -> tuple[set[str], list[str]]:
    """The nodes that the node is computed from, and the values of theirs, or the image, that others read."""
    lower = graph.needed_for(*graph[name].inputs) - {LABEL}
    read = {source for node in graph if node.name not in lower for source in node.inputs}
    return lower - {IMAGE}, [value for value in graph.shapes if value in lower and value in read]


def _cuts(graph: Graph) -> Iterator[str]:
    """The nodes that learn, with something below that has learned, and from there one value alone that passes."""
    for node in graph:
        lower, passing = _below(graph, node.name)
        if len(passing) == 1 and _learns(graph, [node]) and _learns(graph, [graph[name] for name in lower]):
            yield node.name


def _as_image(shape: Shape) -> Shape:
    return (*shape, *(1,) * (3 - len(shape)))


def _free(wanted: str, graph: Graph) -> str:
    number, name = 1, wanted
    while name in graph.shapes:
        number += 1
        name = f"{wanted} {number}"
    return name


# --- the numbers -------------------------------------------------------------------------------------------------


def taken_over(
    network: Network,
    graph: Graph,
    class_names: tuple[str, ...],
    *,
    fresh: str | None = None,
    seed: int = 0,
    engine: str | None = None,
) -> Network:
    """A network of this graph with the numbers of `network` by node; those of `fresh` are drawn by the seed.

    engine: without, the one of `network`.
    """
    made = _like(network, graph, class_names, seed, "he" if fresh else undrawn, engine)
    copy_arrays(network, made, {node.name for node in graph} - {fresh})
    return made


def _like(
    network: Network,
    graph: Graph,
    class_names: tuple[str, ...] = (),
    seed: int = 0,
    start: Initializer | str = undrawn,
    engine: str | None = None,
) -> Network:
    """A network of this graph that computes as the other does."""
    engine, threads, dtype = engine or network.engine_name, network.threads, network.dtype.type
    return Network(graph, seed, start=start, engine=engine, threads=threads, dtype=dtype, class_names=class_names)


def copy_arrays(source: Network, target: Network, nodes: set[str] | None = None) -> None:
    """Parameters and statistics of the nodes that both have, or of these, from one network into the other.

    SettingError where a node's arrays have another shape.
    """
    for layout, vector, into in (
        (source.layout, source.parameters, target.layout.views(target.parameters)),
        (source.statistics_layout, source.statistics, target.statistics_layout.views(target.statistics)),
    ):
        for place in layout.places:
            if place.node not in into or (nodes is not None and place.node not in nodes):
                continue
            view = into[place.node].get(place.name)
            if view is None or view.shape != place.shape:
                raise SettingError(
                    f"{place.node}.{place.name} is {text(place.shape)} in the network to start from, "
                    f"but {text(view.shape) if view is not None else 'missing'} in the new one"
                )
            view[...] = vector[place.slice].reshape(place.shape)


class Parts:
    """A network in two: `lower`, frozen, and `upper`, which learns. `join` brings what it learned back.

    below: the first node that learns, and what else is not needed for it; what it is computed from is frozen.
    """

    def __init__(self, network: Network, below: str) -> None:
        self.network = network
        self.value, self._lower_graph, upper = cut(network.graph, below)
        self._lower: Network | None = None
        self.upper = _like(network, upper, network.class_names)
        copy_arrays(network, self.upper)

    @property
    def lower(self) -> Network:
        """The frozen part; made when it is needed."""
        if self._lower is None:
            self._lower = _like(self.network, self._lower_graph)
            copy_arrays(self.network, self._lower)
        return self._lower

    def release(self) -> None:
        """Give back the frozen part's memory, much of it for large images, when nothing more shall pass through it."""
        self._lower = None

    def features_of(
        self, images: Array, augmentation: Augmentation = AS_THEY_ARE, seed: int = 0, epoch: int = 0
    ) -> Iterator[Array]:
        """What the frozen part makes of the images, AT_ONCE at a time: (n,C,H,W), or (n,D,1,1).

        augmentation: vary them first, as in that epoch of a training with that seed.
        """
        lower = self.lower
        for first in range(0, len(images), AT_ONCE):
            order = np.arange(first, min(first + AT_ONCE, len(images)))
            if isinstance(lower.program, Varies):  # which reads bytes as they are
                arrays = lower.parameters, lower.statistics
                values = lower.program.varied_scores(images, order, augmentation, seed, epoch, *arrays)
            else:
                values = lower(augmentation.apply(images[order], seed, epoch, order))
            yield values.reshape(len(values), *self.upper.graph.input_shape)

    def features(self, dataset: Dataset) -> Dataset:
        """The data set as the upper part takes it, in memory. `training.features` keeps it in a file."""
        images = np.concatenate(list(self.features_of(dataset.images)))
        return replace(dataset, images=images)

    def join(self) -> Network:
        """The network, with what the upper part has learned."""
        copy_arrays(self.upper, self.network)
        return self.network
