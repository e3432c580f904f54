"""A trained network, wherever it lies: a run's folder, or a file."""

import argparse
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


def configure_pixels(parser: argparse.ArgumentParser) -> None:
    """Declare what `load_to_use` takes."""
    parser.add_argument(
        "--pixels",
        metavar="HOW",
        help="of a file: what the network was fed, if no pixels 0..255: imagenet, 0..1, -1..1, 'as they are' "
        "(default for .onnx: imagenet for colours, else 0..1)",
    )


def load_to_use(path: Path, pixels: str | None) -> Trained:
    """The network of a run or of a file, ready for pixels 0..255.

    pixels: one of transfer.PIXELS. An ONNX model that begins with no scaling of them was fed prepared images; what is
    usual is then put before it, and said.
    """
    from rot180.errors import SettingError
    from rot180.notices import notify
    from rot180.transfer import taken_over, usual_pixels, wants_pixels, with_pixels

    trained = load_trained(path)
    if path.suffix not in FILES:
        if pixels is not None:
            raise SettingError(f"--pixels is for files: {path} is a run, which knows what its network was fed")
        return trained
    network = trained.network
    if pixels is None and path.suffix == ".onnx" and not wants_pixels(network.graph):
        pixels = usual_pixels(network.graph)
        notify(f"{path} takes no pixels 0..255; they are scaled as is usual: --pixels={pixels}")
    if pixels is None:
        return trained
    return Trained(taken_over(network, with_pixels(network.graph, pixels), network.class_names))


def load_trained(path: Path) -> Trained:
    """The network of a run or of a file."""
    from rot180.network import load
    from rot180.training.run import load_run, load_run_preparation

    if path.suffix in FILES:
        return Trained(load(path))
    settings, network = load_run(path)
    return Trained(network, settings.data, load_run_preparation(path))
