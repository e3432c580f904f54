"""say what pictures show

Pictures of any size are made what the network was trained on: the middle of each, cut to the network's shape and scaled
(docs/photos.md). For a network trained on MNIST a digit may be dark on light or light on dark, anywhere in the picture:
it is cut out, scaled and centred as MNIST's digits were.

  rot180 predict runs/lenet-5-mnist-1 digit.png photo.jpg
  rot180 predict runs/resnet-8-photos-1 HOLIDAY/ --csv holiday.csv     every picture in the folder and below it
  rot180 predict runs/resnet-8-photos-1 'HOLIDAY/*.jpg' --top 5 --json
"""

import argparse
import glob
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rot180.cli.output import percent, print_json, print_table, write_csv
from rot180.cli.trained import HELP, configure_pixels, load_to_use

if TYPE_CHECKING:
    from rot180.arrays import Array


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help=HELP)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="JPEG, PNG, GIF, BMP, TIFF or WebP; a folder; a pattern"
    )
    parser.add_argument("--top", type=int, default=3, metavar="K", help="the K likeliest classes (default: 3)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a table with the probability of every class")
    configure_pixels(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict each; a picture that cannot be read is named and does not stop the others."""
    from rot180.data.folder import shown
    from rot180.data.parallel import in_order
    from rot180.errors import DataError, SettingError

    if arguments.top < 1:
        raise SettingError(f"--top is {arguments.top}: choose at least 1")
    trained = load_to_use(arguments.folder, arguments.pixels)

    def image_of(path: Path) -> "Array":
        if path.is_dir() or (not path.exists() and glob.has_magic(str(path))):
            raise DataError(f"{path}: there is no picture")
        return trained.image_of(path)

    network, prepared, names = trained.network, trained.preparation, trained.network.class_names
    results: list[dict[str, Any]] = []
    table = [["image", "class", "probability", *names, "error"]]
    for path, image in in_order(image_of, _pictures(arguments.images)):
        try:
            pixels = image()
        except DataError as error:
            sentence = str(error) if str(path) in str(error) else f"{path}: {error}"
            print(f"rot180: {shown(sentence)}", file=sys.stderr)
            results.append({"image": str(path), "error": sentence})
            table.append([str(path), "", "", *("" for _ in names), sentence])
            continue
        probabilities = network.probabilities(prepared.apply(pixels[None])[0] if prepared else pixels)[0]
        best = probabilities.argsort()[::-1][: arguments.top]
        top = [{"class": names[k], "probability": float(probabilities[k])} for k in best]
        results.append({"image": str(path), **top[0], "top": top})
        table.append([str(path), names[best[0]], *(f"{p:.6g}" for p in (probabilities[best[0]], *probabilities)), ""])
    if arguments.csv:
        write_csv(arguments.csv, table)
    readable = [result for result in results if "error" not in result]
    if arguments.json:
        print_json(results)
    elif readable:
        rows = [
            [shown(each["image"]), each["class"], percent(each["probability"]), _others(each["top"][1:])]
            for each in readable
        ]
        print_table("", ["image", "class", "sure", "or"], rows)
    if len(results) > len(readable) > 0:
        print(f"rot180: {len(results) - len(readable):,} of {len(results):,} could not be read", file=sys.stderr)
    return 0 if len(readable) == len(results) else 1


def _pictures(given: list[Path]) -> Iterator[Path]:
    """Files as they are; of a folder, and of a pattern that no shell has expanded, the pictures they stand for.

    Where there is none, the folder or the pattern itself, so that it is named and does not stop the others.
    """
    from rot180.data.folder import pictures_below

    for path in given:
        if path.is_dir():
            found = pictures_below(path)
        elif not path.exists() and glob.has_magic(str(path)):
            names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
            found = [Path(name) for name in names if Path(name).is_file()]
        else:
            found = []
        yield from found or [path]


def _others(top: list[dict[str, Any]]) -> str:
    return "  ".join(f"{each['class']} {percent(each['probability'])}" for each in top)
