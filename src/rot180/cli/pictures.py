"""What `rot180 train` says of a folder of pictures before it begins."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rot180.data.augmentation import Augmentation
from rot180.data.dataset import Sets
from rot180.data.folder import shown
from rot180.training.recipe import Recipe
from rot180.training.suggestion import Suggestion

UNEVEN = 1.5  # from here on the most frequent class is named beside the rarest


def described_pictures(
    sets: Sets, network: str, recipe: Recipe, suggestion: Suggestion, given: Mapping[str, Any]
) -> str:
    """What was found, and each choice: the option with its value, and why, or that it was asked for."""
    report = sets.train.report or {}
    counts = {name: count["train"] for name, count in report["classes"].items()}
    rarest, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    lines = [
        f"{report['folder']}: {len(sets.train):,} pictures for training, {len(sets.test):,} for testing "
        f"({report['split']}), {report['skipped_count']:,} left out",
        f"{len(counts)} classes: {', '.join(f'{shown(name)} {count:,}' for name, count in counts.items())}",
    ]
    if report["imbalance"] and report["imbalance"] >= UNEVEN and not given["balance"]:
        lines.append(
            f"there are {report['imbalance']:g} times as many {shown(most)} as {shown(rarest)}: "
            "--balance duplicate or remove evens them out"
        )
    usual = suggestion.recipe
    changed = {
        name
        for name in ("epochs", "batch", "learning_rate", "augmentation", "validation")
        if getattr(recipe, name) != getattr(usual, name)
    }
    changed |= {"network"} if network != suggestion.network else set()
    changed |= {"size"} if given["size"] is not None else set()
    rows = [
        ("size", f"--size {report['size']}"),
        ("network", f"--network {network}" if " " not in network else f"--network '{network}'"),
        ("epochs", f"--epochs {recipe.epochs}"),
        ("batch", f"--batch {recipe.batch}"),
        ("learning_rate", f"--learning-rate {recipe.learning_rate:g}"),
        ("augmentation", options_of(recipe.augmentation)),
        ("validation", f"--validation {recipe.validation:.3g}"),
    ]
    width = max(len(option) for _, option in rows)
    lines.append("chosen; the option changes it:")
    for name, option in rows:
        lines.append(f"  {option:<{width}}  {'as asked' if name in changed else suggestion.reasons[name]}")
    return "\n".join(lines)


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
