"""What `rot180 train` says before it begins: what a folder of pictures holds, and what was chosen."""

from collections.abc import Iterable
from dataclasses import fields

from rot180.data.augmentation import Augmentation
from rot180.data.dataset import Sets
from rot180.data.folder import shown

UNEVEN = 1.5  # from here on the most frequent class is named beside the rarest


def described_pictures(sets: Sets, balance: str | None) -> str:
    """What was found in the folder; balance: what was asked for against uneven classes."""
    report = sets.train.report or {}
    counts = {name: count["train"] for name, count in report["classes"].items()}
    rarest, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    lines = [
        f"{report['folder']}: {len(sets.train):,} pictures for training, {len(sets.test):,} for testing "
        f"({report['split']}), {report['skipped_count']:,} left out",
        f"{len(counts)} classes: {', '.join(f'{shown(name)} {count:,}' for name, count in counts.items())}",
    ]
    if report["imbalance"] and report["imbalance"] >= UNEVEN and not balance:
        lines.append(
            f"there are {report['imbalance']:g} times as many {shown(most)} as {shown(rarest)}: "
            "--balance duplicate or remove evens them out"
        )
    return "\n".join(lines)


def described_choices(choices: Iterable[tuple[str, str]]) -> str:
    """Each choice: the option with its value, and why, or that it was asked for."""
    choices = list(choices)
    width = max(len(option) for option, _ in choices)
    lines = (f"  {option:<{width}}  {reason}" for option, reason in choices)
    return "\n".join(("chosen; the option changes it:", *lines))


def options_of(augmentation: Augmentation) -> str:
    """The options that give this augmentation."""
    parts = []
    for each in fields(augmentation):
        value = getattr(augmentation, each.name)
        if value == each.default:
            continue
        if value is True:
            parts.append(f"--{each.name}")
        elif isinstance(value, tuple):
            parts.append(f"--{each.name} {' '.join(f'{number:g}' for number in value)}")
        else:
            parts.append(f"--{each.name} {value:g}")
    return " ".join(parts) or "--no-flip --shift 0"
