"""measure the speed beside PyTorch: the same work, in turns

Needs PyTorch (pip install torch). Prints for each work the floating-point operations it takes, the time of each side,
its share of the processor's peak (measured too), and the ratio to PyTorch's faster memory layout.

  rot180 bench                       all works but the long ones: some minutes
  rot180 bench lenet-5 --threads 2
  rot180 bench alexnet googlenet     as their papers have them, at 224x224: some minutes each
"""

import argparse

from rot180.cli.output import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "works", nargs="*", metavar="WORK", help="words of the works' names (default: all but long ones)"
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of both sides (default: 2)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="turns of each side (default: 7)")


def run(arguments: argparse.Namespace) -> int:
    """Measure and report."""
    from rot180 import bench
    from rot180.engines.lanes.peak import peak_speed
    from rot180.errors import SettingError

    if arguments.threads < 1 or arguments.rounds < 1:
        raise SettingError("--threads and --rounds are whole numbers of at least 1")
    works = bench.find(arguments.works)
    peak = peak_speed(arguments.threads)
    if not arguments.json:
        print(f"peak: {peak / 1e9:.0f} GFLOP/s on {arguments.threads} threads")
    measured = []
    for work in works:
        measurement = bench.measure(work, arguments.threads, arguments.rounds)
        measured.append({**measurement._asdict(), "peak": peak})
        if not arguments.json:
            print("\n".join(bench.lines(measurement, peak)), flush=True)
    if arguments.json:
        print_json(measured)
    return 0
