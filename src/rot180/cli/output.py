"""What commands print: JSON for machines, tables for people."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
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


def write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """A table with its heads in the first row, as RFC 4180 has it, in UTF-8; what that cannot say is escaped."""
    from rot180.files import replace_file

    written = io.StringIO()
    csv.writer(written).writerows(rows)
    replace_file(path, written.getvalue().encode("utf-8", "backslashreplace"))


def percent(share: float) -> str:
    """0.0078 -> 0.78 %; a dash where there is none."""
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"
