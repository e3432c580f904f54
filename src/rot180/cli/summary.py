"""show what a network is made of

Shapes, parameters, connections (biases counted, as LeCun et al. 1998 do), multiply-adds and receptive fields.

  rot180 summary lenet-5
  rot180 summary runs/lenet-5-mnist-1
"""

import argparse
from pathlib import Path

from rot180 import models
from rot180.arrays import text
from rot180.cli.output import print_json, print_table
from rot180.graph import Graph


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("network", metavar="NETWORK", help=f"{', '.join(models.MODELS)}, or a run's folder")


def graph_of(network: str) -> Graph:
    """The graph of a network by name, or of the run in a folder."""
    if network not in models.MODELS and Path(network).is_dir():
        from rot180.training.run import read_settings

        return read_settings(Path(network)).graph
    return models.build(network)


def run(arguments: argparse.Namespace) -> int:
    """Summarise."""
    from rot180.summary import summarize

    graph = graph_of(arguments.network)
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
