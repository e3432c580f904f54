"""write a finished run's report anew

One HTML file in the run's folder, report.html: learning curves, precision and recall, confusion, the worst mistakes,
filters, data, network, and how to do it again. It needs no network and no script. rot180 train writes it at its end.

  rot180 report runs/lenet-5-mnist-1
"""

import argparse
from pathlib import Path

from rot180.cli.output import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="a finished run's folder")


def run(arguments: argparse.Namespace) -> int:
    """Write it, and say where."""
    from rot180.explain import write_report

    path = write_report(arguments.folder)
    if arguments.json:
        print_json({"run": str(arguments.folder), "report": str(path)})
    else:
        print(path)
    return 0
