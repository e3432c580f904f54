"""A trained network, wherever it lies: a run's folder, or a file."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rot180.arrays import Array
    from rot180.data.preparation import Preparation
    from rot180.network import Network

HELP = "a finished run's folder, or a network's file (.onnx, .safetensors)"
FILES = ".onnx", ".safetensors"


class Trained(NamedTuple):
    """A network and, where it comes from a run, what that knows of it."""

    network: "Network"
    data: str | None = None  # what it was trained on
    preparation: "Preparation | None" = None  # what is done to images before it sees them

    def image_of(self, path: Path) -> "Array":
        """The picture (C,H,W) as it was for training, before preparation. DataError where it cannot be read."""
        from rot180.data.pictures import as_digit, fitted, read_picture
        from rot180.data.source import EMBEDDED

        shape = self.preparation.shape if self.preparation else self.network.graph.input_shape
        picture = read_picture(path, None if self.data == EMBEDDED else max(shape))
        return as_digit(picture) if self.data == EMBEDDED else fitted(picture, shape)


def load_trained(path: Path) -> Trained:
    """The network of a run or of a file."""
    from rot180.network import load
    from rot180.training.run import load_run, load_run_preparation

    if path.suffix in FILES:
        return Trained(load(path))
    settings, network = load_run(path)
    return Trained(network, settings.data, load_run_preparation(path))
