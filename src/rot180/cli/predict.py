"""say what pictures show

Pictures of any size; for a network trained on MNIST a digit may be dark on light or light on dark, anywhere in the
picture: it is cut out, scaled and centred as MNIST's digits were.

  rot180 predict runs/lenet-5-mnist-1 digit.png photo.jpg
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from rot180.cli.output import percent, print_json, print_table
from rot180.cli.trained import HELP, load_trained


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help=HELP)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="JPEG, PNG, GIF, BMP, TIFF or WebP")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="the K likeliest classes (default: 3)")


def run(arguments: argparse.Namespace) -> int:
    """Predict each; a picture that cannot be read is named and does not stop the others."""
    from rot180.data.pictures import as_digit, read_picture, resized
    from rot180.data.source import EMBEDDED
    from rot180.errors import DataError, SettingError

    if arguments.top < 1:
        raise SettingError(f"--top is {arguments.top}: choose at least 1")
    network, trained_on, prepared = load_trained(arguments.folder)
    results: list[dict[str, Any]] = []
    for path in arguments.images:
        try:
            picture = read_picture(path)
            digits = trained_on == EMBEDDED
            image = as_digit(picture) if digits else resized(picture, network.graph.input_shape)
            if prepared:
                image = prepared.apply(image[None])[0]
        except DataError as error:
            sentence = str(error) if str(path) in str(error) else f"{path}: {error}"
            print(f"rot180: {sentence}", file=sys.stderr)
            results.append({"image": str(path), "error": sentence})
            continue
        probabilities = network.probabilities(image)[0]
        best = probabilities.argsort()[::-1][: arguments.top]
        top = [{"class": network.class_names[k], "probability": float(probabilities[k])} for k in best]
        results.append({"image": str(path), **top[0], "top": top})
    readable = [result for result in results if "error" not in result]
    if arguments.json:
        print_json(results)
    elif readable:
        rows = [
            [each["image"], each["class"], percent(each["probability"]), _others(each["top"][1:])] for each in readable
        ]
        print_table("", ["image", "class", "sure", "or"], rows)
    return 0 if len(readable) == len(results) else 1


def _others(top: list[dict[str, Any]]) -> str:
    return "  ".join(f"{each['class']} {percent(each['probability'])}" for each in top)
