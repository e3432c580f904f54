"""rot180 as a backend of the ONNX project: its interface, so that its own tests, and its users' programs, run on us.

import onnx, rot180
answer = rot180.onnx.Backend.prepare(onnx.load("model.onnx")).run([images])

For a network to keep, to train on and to save, rot180.load("model.onnx") is the way.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rot180.interchange import require_onnx

require_onnx()

from onnx import ModelProto, NodeProto, helper  # noqa: E402 - only where there is one
from onnx.backend.base import Backend as OnnxBackend  # noqa: E402
from onnx.backend.base import BackendRep  # noqa: E402
from onnx.checker import ValidationError  # noqa: E402

from rot180.arrays import Array  # noqa: E402
from rot180.errors import ModelFileError  # noqa: E402
from rot180.interchange.onnx_file import OnnxModel, Operation, read_model, suspicion  # noqa: E402
from rot180.interchange.onnx_interpreter import interpret, knows  # noqa: E402
from rot180.interchange.onnx_reader import Translation, translate  # noqa: E402
from rot180.network import Network, from_translation  # noqa: E402


class Backend(OnnxBackend):
    """ONNX models on rot180's layers. `engine`: of rot180.engines; None: the fastest that has all of a model's layers.

    A model of images with weights inside becomes a network, which an engine runs; anything else, single operators of
    any number of axes say, runs operator by operator on the layers' definitions. Raises ModelFileError, naming the
    operator, for what rot180 does not have.
    """

    engine: str | None = None

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **_: Any) -> bool:
        """Does rot180 have the model's operators?"""
        try:
            with suspicion():
                return cls.supports_device(device) and all(map(knows, read_model(model).operations))
        except ModelFileError:
            return False

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **_: Any) -> "Prepared":
        """The model, checked and ready to run."""
        try:
            super().prepare(model, device)
        except ValidationError as error:
            raise ModelFileError(f"not a valid model: {error}") from error
        with suspicion():
            return Prepared(read_model(model), cls.engine)

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **settings: Any
    ) -> tuple[Any, ...]:
        """One operator on arrays; opset_version: of ONNX's operators, without the newest."""
        try:
            super().run_node(node, inputs, device, outputs_info, **settings)
        except ValidationError as error:
            raise ModelFileError(f"not a valid operator: {error}") from error
        values = [helper.make_empty_tensor_value_info(name) for name in node.input if name]
        results = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "node", values, results)
        version = settings.get("opset_version")
        opsets = None if version is None else [helper.make_opsetid("", version)]
        return Prepared(read_model(helper.make_model(graph, opset_imports=opsets)), cls.engine).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """CPU alone."""
        return device.partition(":")[0] == "CPU"


class Prepared(BackendRep):
    """A model that is ready to run."""

    def __init__(self, model: OnnxModel, engine: str | None = None) -> None:
        self.model = model
        self.network: Network | None = None
        """What runs it, where it is a network of images."""
        self._rest: list[Operation] = []  # from the network's scores to the outputs
        if model.constants and len(model.inputs) == 1:
            try:
                with suspicion():
                    self._read = translate(model)
            except ModelFileError:
                return
            self._rest, alone = _behind(self._read, model)
            if alone:
                self.network = from_translation(self._read, engine)

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        """The outputs, for inputs in their order, by name, or one alone."""
        given = self._by_name(inputs)
        values: dict[str, Array] = {**self.model.constants, **given}
        if self.network is None:
            interpret(self.model.operations, values, self.model.opset)
        else:
            (images,) = given.values()
            scores = self.network(images).reshape(len(images), *self._read.scores_shape)
            values |= self._read.constants
            values[self._read.scores] = scores
            interpret(self._rest, values, self.model.opset)
        return tuple(values[name] for name in self.model.outputs)

    def _by_name(self, inputs: Any) -> dict[str, Array]:
        if isinstance(inputs, Mapping):
            named = dict(inputs)
        else:
            in_order = inputs if isinstance(inputs, Sequence) else [inputs]
            if len(in_order) > len(self.model.inputs):
                raise ModelFileError(f"the model takes {len(self.model.inputs)} inputs, not {len(in_order)}")
            named = dict(zip(self.model.inputs, in_order, strict=False))
        missing = [name for name in self.model.inputs if name not in named]
        if missing:
            raise ModelFileError(f"the model's input {missing[0]!r} is missing")
        return {name: np.asarray(named[name]) for name in self.model.inputs}


def _behind(read: Translation, model: OnnxModel) -> tuple[list[Operation], bool]:
    """The operators between the scores and the outputs, and whether they need nothing else."""
    wanted, behind = set(model.outputs), []
    for operation in reversed(model.operations):
        new = {name for name in operation.outputs if name in wanted}
        if new and read.scores not in new and not new & read.constants.keys():
            behind.append(operation)
            wanted.update(operation.inputs)
    return behind[::-1], wanted.isdisjoint(model.inputs)
