"""show what a network is made of

Shapes, parameters, connections (biases counted, as LeCun et al. 1998 do), multiply-adds and receptive fields.

  rot180 summary lenet-5
  rot180 summary runs/lenet-5-mnist-1
  rot180 summary model.onnx
  rot180 summary 'INPUT(3, 32, 32) -> [[CONV -> RELU]*2 -> POOL]*3 -> FC(100) -> RELU -> FC'
  rot180 summary lenet-5 --sharing        what windows and shared weights save
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rot180 import models
from rot180.arrays import text
from rot180.cli.output import print_json, print_table
from rot180.cli.trained import FILES
from rot180.graph import Graph


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "network", metavar="NETWORK", help=f"{', '.join(models.MODELS)}; a pattern as above; a run's folder; or a file"
    )
    parser.add_argument("--classes", type=int, metavar="N", help="(default: the paper's)")
    parser.add_argument(
        "--sharing", action="store_true", help="each layer's weights were it fully or only locally connected"
    )
    parser.add_argument("--kernels", action="store_true", help="which kernels the lanes engine runs, and why")
    parser.add_argument("--memory", action="store_true", help="where the lanes engine puts every value")
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="for --kernels and --memory (default: 64)")


def graph_of(network: str, build: Callable[[str], Graph] = models.build) -> Graph:
    """The graph of a network by name or pattern, of the run in a folder, or of a file."""
    if Path(network).suffix in FILES:
        from rot180.network import load

        return load(Path(network), engine="reference").graph
    if not models.is_pattern(network) and network not in models.MODELS and Path(network).is_dir():
        from rot180.training.run import read_settings

        return read_settings(Path(network)).graph
    return build(network)


def run(arguments: argparse.Namespace) -> int:
    """Summarise."""
    from rot180.summary import summarize

    graph = graph_of(arguments.network, partial(models.build, classes=arguments.classes))
    if arguments.kernels or arguments.memory:
        return _plan(graph, arguments)
    if arguments.sharing:
        return _sharing(graph, arguments)
    whole = summarize(graph)
    if arguments.json:
        rows = [row._asdict() for row in whole.rows]
        print_json({"network": arguments.network, "input": graph.input_shape, **whole._asdict(), "rows": rows})
        return 0
    table = [
        [
            row.name,
            row.layer,
            text(row.output),
            f"{row.parameters:,}",
            f"{row.connections:,}",
            f"{row.multiply_adds:,}",
            text(row.receptive_field) if any(row.receptive_field) else "",
        ]
        for row in whole.rows
    ]
    sums = [f"{whole.parameters:,}", f"{whole.connections:,}", f"{whole.multiply_adds:,}"]
    table.append(["", "", "", *("─" * len(each) for each in sums), ""])
    table.append(["sum", "", "", *sums, ""])
    columns = ["node", "layer", "output", "parameters", "connections", "multiply-adds", "receptive field"]
    print_table(f"{arguments.network}: input {text(graph.input_shape)}", columns, table, left=3)
    print(
        f"memory: parameters {whole.parameter_bytes / 1024:,.1f} KiB, "
        f"values of one image {whole.activation_bytes / 1024:,.1f} KiB (float32)"
    )
    return 0


def _sharing(graph: Graph, arguments: argparse.Namespace) -> int:
    """The same units in three ways."""
    from rot180.summary import Windowed, sharing

    rows = {
        node.name: sharing(node.layer, graph.input_shape_of(node)) for node in graph if isinstance(node.layer, Windowed)
    }
    if arguments.json:
        print_json({name: row._asdict() for name, row in rows.items()})
        return 0
    table = [[name, *(f"{number:,}" for number in row)] for name, row in rows.items()]
    columns = ["node", "units", "fully connected", "locally connected", "shared"]
    print_table(f"{arguments.network}: weights that as many units would need, without biases", columns, table)
    return 0


def _plan(graph: Graph, arguments: argparse.Namespace) -> int:
    """What the lanes engine makes of the network."""
    from rot180.engines.lanes.program import LanesEngine
    from rot180.errors import SettingError
    from rot180.parameters import Layout

    if arguments.batch < 1:
        raise SettingError(f"--batch is {arguments.batch}: choose at least 1")
    program = LanesEngine().compile(graph, Layout.of_parameters(graph), Layout.of_statistics(graph))
    kernels, memory = program.explain(arguments.batch)
    if arguments.json:
        print_json({"kernels": [use._asdict() for use in kernels], "memory": [use._asdict() for use in memory]})
        return 0
    if arguments.kernels:
        rows = [[use.node, use.in_pass, _without_tiles(use.kernels), use.reason] for use in kernels]
        print_table(f"training, batch {arguments.batch}", ["node", "pass", "kernels", "why"], rows, left=4)
    if arguments.memory:
        rows = [
            [use.value, use.size, text(use.halo), f"{use.offset:,}", f"{use.bytes:,}", f"{use.born}-{use.dies}"]
            for use in memory
        ]
        columns = ["value", "maps", "halo", "at byte", "bytes", "lives"]
        print_table(f"values of {arguments.batch} images, or of 16 at a time", columns, rows, left=2)
    return 0


def _without_tiles(kernels: Sequence[str]) -> str:
    """The kernels' names, each once."""
    return ", ".join(dict.fromkeys(name.partition("(")[0] for name in kernels))
