"""What the experiments share: their arguments, their data, and how a result gets onto its page.

Each script measures, prints its table, draws its figure into images/measured/ and puts the table into measured.md:
all under docs/, or under --out. `--quick` measures almost nothing; it shows that the script still runs.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import rot180
from rot180 import data
from rot180.arrays import Array
from rot180.data import Dataset
from rot180.errors import DivergenceError

DOCS = Path(__file__).parent.parent
GUESSING = 90.0  # the error, in percent, of a network whose training diverged
COLOURS = ("#b22234", "#2154a6", "#2e8b57", "#d28a1d", "#6a4c93", "#555555")

plt.rcParams.update({
    "axes.grid": True,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 110,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
})  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """One measurement: its name, where its results go, and whether it is only to be seen running."""

    name: str
    quick: bool
    out: Path

    @property
    def engine(self) -> str:
        """The fast one; in a quick run the one that compiles nothing."""
        return "reference" if self.quick else "lanes"

    def choose(self, full, quick):
        """A setting of the real measurement, or of a quick run."""
        return quick if self.quick else full

    def digits(self, train: int, test: int = 2000) -> tuple[Dataset, Dataset]:
        """The first images of MNIST's training and test sets."""
        digits = data.mnist()
        count = self.choose((train, test), (min(train, 60), 40))
        return digits.train.take(slice(count[0])), digits.test.take(slice(count[1]))

    def publish(self, columns: Sequence[str], rows: Iterable[Sequence[str]], figure: Figure | None = None) -> None:
        """Print the table and put it, and the figure, where the page expects them."""
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        print(table)
        if figure is not None:
            folder = self.out / "images" / "measured"
            folder.mkdir(parents=True, exist_ok=True)
            figure.tight_layout()
            figure.savefig(folder / f"{self.name}.png", metadata={"Software": None})
        page = self.out / "measured.md"
        if page.exists():
            begin, end = f"<!-- table of {self.name} -->\n", f"<!-- end of {self.name} -->"
            old = page.read_text(encoding="utf-8")
            new, found = re.subn(f"({begin}).*?({end})", lambda m: f"{m[1]}{table}\n{m[2]}", old, flags=re.DOTALL)
            if not found:
                raise SystemExit(f"{page} has no place for {self.name}")
            page.write_text(new, encoding="utf-8")


def begin(name: str) -> Experiment:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=f"Measures for docs/measured.md, section {name}.")
    parser.add_argument("--quick", action="store_true", help="a few images only: does it run?")
    parser.add_argument("--out", type=Path, default=DOCS, help="instead of docs/")
    given = parser.parse_args()
    return Experiment(name, given.quick, given.out)


def trained(network: rot180.Network, train: Dataset, recipe: rot180.Recipe) -> float:
    """Train; the mean loss of the last epoch's images when their turn came, infinite where training diverged."""
    loss = float("inf")
    try:
        for step in rot180.train(network, train, recipe):
            loss = step.loss
    except DivergenceError:
        return float("inf")
    return loss


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The mean over seeds and the standard deviation."""
    return f"{np.mean(values):{form}} ± {np.std(values):{form}}"


def rms(values: Array) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
