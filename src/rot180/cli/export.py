"""write a trained network as an ONNX file, for other programs

The file holds everything, and what is done to images before the network sees them ("denoise" is the exception, which
ONNX cannot say). It takes "image" (N,C,H,W) and gives "scores" and "probabilities" (N,K); the names of the classes are
in its metadata. It is checked before it is written, against onnxruntime too where that is installed.

  rot180 export runs/lenet-5-mnist-1 digits.onnx
"""

import argparse
from pathlib import Path

from rot180.arrays import text
from rot180.cli.output import print_json
from rot180.cli.trained import HELP, load_trained


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("network", type=Path, metavar="RUN", help=HELP)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="the file to write")


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written."""
    network, _, preparation = load_trained(arguments.network)
    network.export_onnx(arguments.model, preparation)
    size = arguments.model.stat().st_size
    graph, shape = network.graph, preparation.shape if preparation else network.graph.input_shape
    if arguments.json:
        result = {"model": str(arguments.model), "bytes": size, "input": shape, "classes": graph.classes}
        print_json(result)
    else:
        print(f"{arguments.model}: {size:,} bytes, images {text(shape)}, {graph.classes} classes")
    return 0
