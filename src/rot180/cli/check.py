"""prove the gradients: of every layer, or of a network

Each hand-written gradient against finite differences in float64 along a random direction, and for linear layers the
adjoint test <Au, v> = <u, Aᵀv>. Exit code 1 if one is wrong.

  rot180 check
  rot180 check lenet-5
"""

import argparse

from rot180 import models
from rot180.cli.output import print_json, print_table
from rot180.cli.summary import graph_of
from rot180.gradient_check import ADJOINT_TOLERANCE, DIRECTIONAL_TOLERANCE


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "network",
        nargs="?",
        metavar="NETWORK",
        help=f"{', '.join(models.MODELS)}, or a run's folder (default: all layers)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the test values (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Check and report."""
    from rot180.chance import LARGEST_SEED
    from rot180.errors import SettingError
    from rot180.gradient_check import check_all, check_network

    if not 0 <= arguments.seed <= LARGEST_SEED:
        raise SettingError(f"--seed is {arguments.seed}: choose a whole number from 0 to {LARGEST_SEED}")
    network = arguments.network
    checks = check_network(graph_of(network), arguments.seed) if network else check_all(arguments.seed)
    passed = all(check.passed for check in checks)
    if arguments.json:
        print_json({"passed": passed, "checks": [{**vars(check), "passed": check.passed} for check in checks]})
        return 0 if passed else 1
    rows = [
        [
            check.name,
            f"{check.directional:.1e}",
            "" if check.adjoint is None else f"{check.adjoint:.1e}",
            "ok" if check.passed else "WRONG",
        ]
        for check in checks
    ]
    print_table("relative errors of the gradients", ["layer", "directional", "adjoint", ""], rows)
    print(
        f"{'all gradients are right' if passed else 'some gradients are WRONG'}: directional error below "
        f"{DIRECTIONAL_TOLERANCE:g}, adjoint error below {ADJOINT_TOLERANCE:g}"
    )
    return 0 if passed else 1
