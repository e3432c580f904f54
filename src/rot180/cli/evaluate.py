"""measure a trained network on test images

rot180 evaluate runs/lenet-5-mnist-1             on the test set of the data it was trained on
rot180 evaluate runs/lenet-5-mnist-1 FOLDER      on the test set of other data (pictures without
                                                 test/ or val/: on all of them)
rot180 evaluate runs/lenet-5-mnist-1 --csv a.csv what it says of each image, as a table
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rot180.cli.output import percent, print_json, print_table, write_csv
from rot180.cli.trained import HELP, configure_pixels, load_to_use

if TYPE_CHECKING:
    from rot180.arrays import Array
    from rot180.explain.mistakes import Mistake
    from rot180.network import Evaluation

MATRIX_CLASSES = 15  # with more, the confusion matrix is too wide to be printed
MISTAKES = 5  # are printed
JSON_MISTAKES = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help=HELP)
    parser.add_argument("data", nargs="?", metavar="DATA", help="mnist, or a folder of pictures or of IDX files")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write a table: each image, its class, and how likely is every class"
    )
    configure_pixels(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and report."""
    from rot180 import data
    from rot180.cli.progress import counted
    from rot180.errors import SettingError
    from rot180.explain.mistakes import Mistakes
    from rot180.training.run import describe

    network, trained_on, prepared = load_to_use(arguments.folder, arguments.pixels)
    source = arguments.data or trained_on
    if source is None:
        raise SettingError(f"{arguments.folder} does not say what it was trained on: name the data behind it")
    shape = prepared.shape if prepared else network.graph.input_shape
    with counted("decoding pictures") as progress:
        pictures = data.PictureOptions.fitting(shape, network.class_names)
        test = data.load_test(source, pictures._replace(progress=progress), trained_on)
    names = network.class_names
    mistakes = Mistakes(test, names, JSON_MISTAKES)
    table = [["image", "class", "predicted", "probability", *names]]

    def note(part: slice, probabilities: "Array") -> None:
        mistakes.note(part, probabilities)
        for position, each in enumerate(probabilities if arguments.csv else (), start=part.start):
            best = int(each.argmax())
            label = names[test.labels[position]]
            table.append([test.name_of(position), label, names[best], *(f"{p:.6g}" for p in (each[best], *each))])

    result = network.evaluate(prepared.apply_to(test) if prepared else test, note)
    if arguments.csv:
        write_csv(arguments.csv, table)
    if arguments.json:
        print_json(
            {
                "run": str(arguments.folder),
                "data": source,
                "class_names": names,
                **describe(result),
                "worst_mistakes": [each._asdict() for each in mistakes.worst()],
                "left_out": (test.report or {}).get("skipped", []),
            }
        )
    else:
        _print(result, names, mistakes.worst()[:MISTAKES])
    return 0


def _print(result: "Evaluation", names: tuple[str, ...], mistakes: "list[Mistake]") -> None:
    """Error and loss, every class with what it is taken for, its recall and its precision; the worst mistakes."""
    from rot180.data.folder import shown

    print(f"error {percent(result.error)} ({result.errors:,} of {result.images:,})  loss {result.loss:.4f}")
    matrix = len(names) <= MATRIX_CLASSES
    rows = [
        [
            shown(name),
            f"{result.confusion[k].sum():,}",
            *(str(count or "·") for count in result.confusion[k] if matrix),
            percent(result.recall[k]),
            percent(result.precision[k]),
        ]
        for k, name in enumerate(names)
    ]
    said = "; columns: what the network says" if matrix else ""
    columns = ["", "images", *(shown(name) for name in names if matrix), "recall", "precision"]
    print_table(f"rows: what it is{said}", columns, rows)
    if mistakes:
        rows = [
            [shown(each.name), shown(each.true), shown(each.said), percent(each.probability), percent(each.of_true)]
            for each in mistakes
        ]
        print_table("the worst mistakes", ["image", "is", "said to be", "sure", "of what it is"], rows, left=3)
