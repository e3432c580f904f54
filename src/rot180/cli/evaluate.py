"""measure a trained network on test images

rot180 evaluate runs/lenet-5-mnist-1             on the test set of the data it was trained on
rot180 evaluate runs/lenet-5-mnist-1 FOLDER      on the test set of other data (pictures without
                                                 test/ or val/: on all of them)
"""

import argparse
from pathlib import Path

from rot180.cli.output import percent, print_json, print_table
from rot180.cli.trained import HELP, load_trained


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help=HELP)
    parser.add_argument("data", nargs="?", metavar="DATA", help="mnist, or a folder of pictures or of IDX files")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and report."""
    from rot180 import data
    from rot180.cli.progress import counted
    from rot180.errors import SettingError
    from rot180.training.run import describe

    network, trained_on, prepared = load_trained(arguments.folder)
    source = arguments.data or trained_on
    if source is None:
        raise SettingError(f"{arguments.folder} does not say what it was trained on: name the data behind it")
    shape = prepared.shape if prepared else network.graph.input_shape
    channels, height, _ = (*shape, 1, 1)[:3]
    with counted("decoding pictures") as progress:
        pictures = data.PictureOptions(height, channels, network.class_names, progress)
        test = data.load_test(source, pictures, trained_on)
    result = network.evaluate(prepared.apply_to(test) if prepared else test)
    if arguments.json:
        print_json(
            {"run": str(arguments.folder), "data": source, "class_names": network.class_names, **describe(result)}
        )
        return 0
    print(f"error {percent(result.error)} ({result.errors} of {result.images:,})  loss {result.loss:.4f}")
    names = network.class_names
    rows = [
        [true, *(str(count or "·") for count in counts), percent(1 - counts[k] / max(counts.sum(), 1))]
        for k, (true, counts) in enumerate(zip(names, result.confusion, strict=False))
    ]
    print_table("rows: what it is; columns: what the network says", ["", *names, "error"], rows)
    return 0
