"""prove the gradients: of every layer, of a network, or of all

Each hand-written gradient against finite differences in float64 along a random direction, and for linear layers the
adjoint test <Au, v> = <u, Aᵀv>. Exit code 1 if one is wrong. The large networks by name are checked in a small form,
with every kind of layer and connection they have, in seconds; --whole takes the network itself, and its time.

  rot180 check
  rot180 check googlenet
  rot180 check all               every layer, and the small form of every network
"""

import argparse

from rot180 import models
from rot180.arrays import text
from rot180.cli.output import print_json, print_table
from rot180.cli.summary import graph_of
from rot180.gradient_check import ADJOINT_TOLERANCE, DIRECTIONAL_TOLERANCE


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "network",
        nargs="?",
        metavar="NETWORK",
        help=f"{', '.join(models.MODELS)}; a pattern; a run's folder; or all (default: all layers)",
    )
    parser.add_argument("--whole", action="store_true", help="check a network by name as large as it is")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the test values (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Check and report."""
    from rot180.chance import LARGEST_SEED
    from rot180.errors import SettingError
    from rot180.gradient_check import check_all, check_network, worst

    if not 0 <= arguments.seed <= LARGEST_SEED:
        raise SettingError(f"--seed is {arguments.seed}: choose a whole number from 0 to {LARGEST_SEED}")
    network = None if arguments.network == "all" else arguments.network
    graph = graph_of(network, models.build if arguments.whole else models.build_small) if network else None
    checks = check_network(graph, arguments.seed) if graph else check_all(arguments.seed)
    if arguments.network == "all":
        from rich.console import Console
        from rich.progress import track

        names = track(models.one_of_each_kind(), "networks", console=Console(stderr=True), transient=True)
        checks += [worst(name, check_network(models.build_small(name), arguments.seed)) for name in names]
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
    of = f", {network} for images of {text(graph.input_shape)}" if graph else ""
    print_table(f"relative errors of the gradients{of}", ["layer", "directional", "adjoint", ""], rows)
    print(
        f"{'all gradients are right' if passed else 'some gradients are WRONG'}: directional error below "
        f"{DIRECTIONAL_TOLERANCE:g}, adjoint error below {ADJOINT_TOLERANCE:g}"
    )
    return 0 if passed else 1
