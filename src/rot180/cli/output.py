"""What commands print: JSON for machines, tables for people."""

import json
import sys
from collections.abc import Sequence
from typing import Any

FILE_WIDTH = 200  # of a table that goes to a file or a program: nothing is cut off


def print_json(result: Any) -> None:
    """The result on stdout."""
    print(json.dumps(result, indent=1))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """A table on stdout, the first `left` columns flush left, the others flush right."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH, highlight=False, markup=False).print(table)


def percent(share: float) -> str:
    """0.0078 -> 0.78 %."""
    return f"{100 * share:.2f} %"
