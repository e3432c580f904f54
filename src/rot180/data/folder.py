"""A folder of pictures, one sub-folder for each class: CLASS/*.jpg, or train/CLASS/*.jpg and val/ or test/ likewise.

Where nothing says what is for testing, the pictures are split 65/25/10: a quarter of every class is the test set, the
rest is for training, which holds out its own 10 % (HELD_OUT of the rest). With both val/ and test/, test/ is the test
set and val/ joins training. Class names are sorted; a class's pictures may lie in folders below it.

Each picture is made what the network takes by one rule (pictures.fitted), in parallel, and kept in a file for the next
time. One that cannot be read is left out and listed with the reason; so is what is no picture by its name, and a link
that leads out of the folder. Hidden files are passed over.
"""

import hashlib
import json
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rot180.arrays import Array, Shape, whole
from rot180.data import array_cache
from rot180.data.dataset import Dataset, Sets, split
from rot180.data.mapped_rows import MappedRows
from rot180.data.parallel import in_order
from rot180.errors import DataError, SettingError
from rot180.notices import notify

SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"))
PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
TEST_SHARE = 0.25
HELD_OUT = 0.1 / (1 - TEST_SHARE)  # of what is left for training: 10 % of all
SMALLEST, LARGEST = 8, 512  # sizes
MANY = 5000  # pictures: from so many on, ...
SIZES = 64, 96  # ... the larger size
NAMED = 10  # how many left-out files are named at once; the report has them all

Progress = Callable[[int, int], None]  # (done, of so many)


class PictureOptions(NamedTuple):
    """How a folder of pictures is to be read.

    size: of a picture, height and width; without, by their number. channels: 1 or 3; without, 3 unless all are grey.
    class_names: of a network that is to be tested: labels are then its, and pictures of other classes are left out.
    progress: told as pictures are decoded.
    """

    size: int | None = None
    channels: int | None = None
    class_names: tuple[str, ...] | None = None
    progress: Progress | None = None

    @classmethod
    def fitting(cls, shape: Shape, class_names: tuple[str, ...] | None = None) -> "PictureOptions":
        """What a network for images (C,H,W) needs."""
        channels, height, _ = (*shape, 1, 1)[:3]
        return cls(height, channels, class_names)


AS_USUAL = PictureOptions()


class File(NamedTuple):
    """A picture by its name."""

    name: str  # below the folder, with /
    label: int
    part: str  # train, test, val, or nothing where the folder has no parts
    size: int
    modified: int  # nanoseconds


@dataclass(frozen=True)
class Listing:
    """What a folder holds, by names alone."""

    class_names: tuple[str, ...]
    files: list[File]
    skipped: list[tuple[str, str]]  # a file, and why


def is_picture_folder(folder: Path) -> bool:
    """Has the folder sub-folders, which may be classes?"""
    return folder.is_dir() and any(each.is_dir() for each in _visible(folder))


def load_folder(folder: str | os.PathLike[str], options: PictureOptions = AS_USUAL) -> Sets:
    """The training and the test set of the folder.

    The images are memory-mapped; `train.report` tells what was found and what was left out. Classes take turns, so
    that the first few images have some of each.
    Raises DataError where there is nothing to learn from or to test on.
    """
    every, parts = read_folder(folder, options)
    name = Path(folder).resolve().name
    if not parts.any():
        train, test = split(every, [1 - TEST_SHARE, TEST_SHARE])
        rule = "65/25/10: a quarter of every class is for testing, a tenth is held out of training"
    else:
        test_part = "test" if (parts == "test").any() else "val"
        train, test = (every.take(np.flatnonzero((parts == test_part) == wanted)) for wanted in (False, True))
        rule = f"by folders: {test_part} is for testing"
        rule += ", val joins training" if test_part == "test" and (parts == "val").any() else ""
    if not len(train):
        raise DataError(f"{folder}: there are no pictures to train on; put some into train/CLASS")
    if not len(test):
        raise DataError(
            f"{folder}: there are no pictures to test on; "
            + (
                f"add test/ or val/, or name {Path(folder) / 'train'}, of which a quarter is then for testing"
                if parts.any()
                else "put three or more into a class's folder"
            )
        )
    report = {**(every.report or {}), "split": rule, "classes": _counts(every.class_names, train, test)}
    counts = [each["train"] for each in report["classes"].values() if each["train"]]
    report["imbalance"] = round(max(counts) / min(counts), 2) if counts else None
    return Sets(
        replace(_in_turns(train), name=f"{name}/train", report=report),
        replace(test, name=f"{name}/test", report=report),
    )


def load_test_folder(folder: str | os.PathLike[str], options: PictureOptions, *, learned_from: bool) -> Dataset:
    """What a trained network is to be tested on: test/, else val/; of a folder without parts everything.

    learned_from: was the network trained on this folder? Then of one without parts only what was kept for testing.
    """
    every, parts = read_folder(folder, options)
    if learned_from and not parts.any():
        return load_folder(folder, options).test
    for part in ("test", "val"):
        if (parts == part).any():
            return every.take(np.flatnonzero(parts == part))
    return every


def _in_turns(dataset: Dataset) -> Dataset:
    """The first image of each class, the second of each, and so on."""
    turn = np.empty(len(dataset), np.int64)
    for label in range(len(dataset.class_names)):
        members = np.flatnonzero(dataset.labels == label)
        turn[members] = np.arange(len(members))
    return dataset.take(np.lexsort((dataset.labels, turn)))


def read_folder(folder: str | os.PathLike[str], options: PictureOptions = AS_USUAL) -> tuple[Dataset, Array]:
    """All pictures, whatever they are for, and the part of each (N,): train, test, val or nothing."""
    from rot180.data.pictures import RULE  # Pillow is imported where it is needed

    class_names = options.class_names
    folder = Path(folder).resolve()
    listing = list_folder(folder)
    if not listing.files:
        raise DataError(f"{folder}: no sub-folder holds a picture; put CLASS/*.jpg there (or {_endings()})")
    size = whole(options.size or default_size(len(listing.files)), "size", at_least=SMALLEST)
    if size > LARGEST:
        raise SettingError(f"size is {size}: choose from {SMALLEST} to {LARGEST}")
    images, known, path = _decoded(folder, listing, size, options.progress)
    labels, parts = np.array(known["labels"], np.int64), np.array(known["parts"], "U5")
    torn = dict(known["skipped"])
    called = np.array([file.name for file in listing.files if file.name not in torn], object)
    skipped = [*listing.skipped, *torn.items()]
    here = listing.class_names
    good = np.bincount(labels, minlength=len(here))
    names = class_names or tuple(name for name, count in zip(here, good, strict=True) if count)
    place = {name: number for number, name in enumerate(names)}
    mapping = np.array([place.get(name, -1) for name in here])
    if class_names:
        unknown = [name for name, count in zip(here, good, strict=True) if name not in place and count]
        skipped += [(name, f"a class that the network does not know; it knows {_some(names)}") for name in unknown]
    kept = np.flatnonzero(mapping[labels] >= 0)
    _tell(skipped)
    _tell_apart(names)
    if not kept.size and labels.size:
        raise DataError(f"{folder}: none of its classes ({_some(here)}) is one that the network knows ({_some(names)})")
    if not kept.size:
        raise DataError(
            f"{folder}: of {len(listing.files):,} pictures none could be used; {_first(list(torn.items()))}"
        )
    if len(names) < 2:
        raise DataError(f"{folder}: there is one class, {names[0]}; two are needed to tell apart")
    report = {
        "folder": str(folder),
        "rule": RULE.format(size=size),
        "size": size,
        "cache": str(path),
        "skipped_count": len(skipped),
        "skipped": [{"file": file, "reason": reason} for file, reason in skipped],
    }
    chosen: Any = MappedRows(images, kept)
    if options.channels not in (None, images.shape[1]):
        chosen = _with_channels(chosen[:], options.channels)
    return Dataset(chosen, mapping[labels[kept]], names, folder.name, report, called[kept]), parts[kept]


def default_size(pictures: int) -> int:
    """The size for so many pictures."""
    return SIZES[pictures >= MANY]


# --- names -------------------------------------------------------------------------------------------------------


def list_folder(folder: Path) -> Listing:
    """What lies in the folder, sorted by name: nothing is opened."""
    try:
        below = {each.name.lower(): each for each in _visible(folder) if each.is_dir()}
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    roots = {part: [below[name] for name in names if name in below] for part, names in PARTS.items()}
    if not roots["train"] and sum(map(len, roots.values())) < len(below):  # then they are classes like the others
        roots = {"": [folder]}
    skipped: list[tuple[str, str]] = []
    found: list[tuple[str, str, Path, os.stat_result]] = []
    for part, places in roots.items():
        for place in places:
            for entry in _visible(place):
                if _leads_out(entry, folder):
                    skipped.append((_name(entry, folder), "a link that leads out of the folder"))
                elif entry.is_dir():
                    kind = shown(unicodedata.normalize("NFC", entry.name))
                    of_kind = [(kind, part, *file) for file in _files(entry, folder, skipped)]
                    found += of_kind
                    if not of_kind:
                        skipped.append((_name(entry, folder), "there is no picture in it"))
                elif entry.suffix.lower() in SUFFIXES:
                    skipped.append((_name(entry, folder), "it lies in no class's folder"))
    names = tuple(sorted({kind for kind, *_ in found}))
    place_of = {name: number for number, name in enumerate(names)}
    files = [
        File(_name(path, folder), place_of[kind], part, status.st_size, status.st_mtime_ns)
        for kind, part, path, status in found
    ]
    return Listing(names, files, skipped)


def pictures_below(folder: Path) -> list[Path]:
    """All files in the folder and below it that are pictures by their names; what else there is is told."""
    skipped: list[tuple[str, str]] = []
    found = [path for path, _ in _files(folder, folder, skipped)]
    _tell(skipped)
    return found


def _files(place: Path, folder: Path, skipped: list[tuple[str, str]]) -> Iterator[tuple[Path, os.stat_result]]:
    """The pictures below, by their names; what else there is goes to `skipped`."""
    for parent, folders, names in os.walk(place, onerror=lambda error: skipped.append(_unreadable(error, folder))):
        for name in [*folders]:
            linked = Path(parent, name).is_symlink()
            if linked:
                skipped.append((_name(Path(parent, name), folder), "a link to a folder"))
            if linked or name.startswith("."):
                folders.remove(name)
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            try:
                reason, status = _objection(path, folder), path.stat()
            except OSError as error:
                reason = "a link that leads nowhere" if path.is_symlink() else error.strerror or str(error)
            if reason:
                skipped.append((_name(path, folder), reason))
            else:
                yield path, status


def _objection(path: Path, folder: Path) -> str:
    """Why the file is not even opened; nothing where it may be."""
    if path.suffix.lower() not in SUFFIXES:
        return "no picture by its name"
    if _leads_out(path, folder):
        return "a link that leads out of the folder"
    if not stat.S_ISREG(path.stat().st_mode):
        return "no plain file"
    return "" if os.access(path, os.R_OK) else "there is no permission to read it"


def _visible(folder: Path) -> list[Path]:
    return sorted((each for each in folder.iterdir() if not each.name.startswith(".")), key=lambda each: each.name)


def _leads_out(path: Path, folder: Path) -> bool:
    """A link to somewhere else. (realpath, unlike Path.resolve, does not mind links that go round in a circle.)"""
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _unreadable(error: OSError, folder: Path) -> tuple[str, str]:
    return _name(Path(error.filename), folder), error.strerror or str(error)


def shown(name: str) -> str:
    """A name with what cannot be printed (or would move the cursor) as a question mark."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)


# --- pixels ------------------------------------------------------------------------------------------------------


def _decoded(
    folder: Path, listing: Listing, size: int, progress: Progress | None
) -> tuple[Array, dict[str, Any], Path]:
    """All pictures that could be read, mapped; what is known of them; where they are kept."""
    import PIL

    from rot180.data.pictures import RULE_VERSION

    prefix = f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}-{size}-"
    fingerprint = json.dumps([RULE_VERSION, PIL.__version__, listing.class_names, listing.files])
    kept = prefix + hashlib.sha256(fingerprint.encode()).hexdigest()[:32]
    path = array_cache.cache_folder("pictures") / f"{kept}.npy"
    found = array_cache.stored(path)
    if found is None or len(found[0]) != len(found[1]["labels"]):
        found = array_cache.store(path, _Decoding(folder, listing.files, size, progress))
        array_cache.forget_others(path, prefix)
        notify(f"decoded pictures are kept in {path}")
    return *found, path


class _Decoding:
    """Iterating gives the pictures (3,size,size) in the order of the files, and notes those that cannot be read."""

    dtype: type[np.generic] = np.uint8

    def __init__(self, folder: Path, files: list[File], size: int, progress: Progress | None) -> None:
        self.shape: Shape = (3, size, size)
        self._grey = True  # all of them so far
        self._folder, self._files, self._size, self._progress = folder, files, size, progress
        self._good: list[File] = []
        self._skipped: list[tuple[str, str]] = []

    def __iter__(self) -> Iterator[Array]:
        for done, (file, image) in enumerate(in_order(self._decode, self._files), start=1):
            try:
                pixels = image()
            except (DataError, OSError, MemoryError) as error:
                place = f"{self._folder / file.name}: "
                self._skipped.append((file.name, (str(error) or "not enough memory").removeprefix(place)))
            else:
                self._good.append(file)
                self._grey = self._grey and bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
                yield pixels
            if self._progress:
                self._progress(done, len(self._files))

    def _decode(self, file: File) -> Array:
        from rot180.data.pictures import fitted, read_picture

        return fitted(read_picture(self._folder / file.name, self._size), (3, self._size, self._size))

    def known(self) -> dict[str, Any]:
        """What the cache keeps beside the pixels."""
        return {
            "labels": [file.label for file in self._good],
            "parts": [file.part for file in self._good],
            "skipped": self._skipped,
        }

    def compact(self, file: BinaryIO, start: int, count: int) -> Shape:
        """Where all are grey, keep the first of each three maps, moved forward in place."""
        if not self._grey:
            return self.shape
        pixels = self._size * self._size
        for k in range(count):
            file.seek(start + 3 * k * pixels)
            plane = file.read(pixels)
            file.seek(start + k * pixels)
            file.write(plane)
        file.truncate(start + count * pixels)
        return 1, self._size, self._size


def _with_channels(images: Array, channels: int | None) -> Array:
    """Grey as three equal channels, or colours as grey: what a network with so many takes."""
    if channels == 3:
        return np.repeat(images, 3, axis=1)
    weights = np.array([19595, 38470, 7471], np.int64)  # of 65,536: Pillow's, ITU-R 601-2
    return ((np.einsum("nchw,c->nhw", images.astype(np.int64), weights) + 0x8000) >> 16).astype(np.uint8)[:, None]


# --- what is told ------------------------------------------------------------------------------------------------


def _tell(skipped: list[tuple[str, str]]) -> None:
    for file, reason in skipped[:NAMED]:
        notify(f"left out: {shown(file)}: {shown(reason)}")
    if len(skipped) > NAMED:
        notify(f"left out: {len(skipped) - NAMED:,} more (a run's results.json names them all)")


def _tell_apart(names: tuple[str, ...]) -> None:
    """Point out classes that may be meant to be one."""
    alike: dict[str, str] = {}
    for name in names:
        other = alike.setdefault(name.casefold(), name)
        if other != name:
            notify(f"{shown(other)} and {shown(name)} are two classes, though their names differ in capitals alone")


def _first(skipped: list[tuple[str, str]]) -> str:
    return f"the first: {shown(skipped[0][0])}: {shown(skipped[0][1])}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(map(shown, names[:NAMED])) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _counts(names: tuple[str, ...], train: Dataset, test: Dataset) -> dict[str, dict[str, int]]:
    """How many pictures of each class are for training and for testing."""
    counted = [np.bincount(each.labels, minlength=len(names)).tolist() for each in (train, test)]
    return {name: {"train": a, "test": b} for name, a, b in zip(names, *counted, strict=True)}


def _endings() -> str:
    return ", ".join(sorted(SUFFIXES - {".jpg"}))
