"""Pictures per second: decoding a folder, reading it from the cache, and PyTorch's DataLoader on the same files.

    python benchmarks/photos.py PHOTOS [--size 64] [--batch 64] [--workers 2] [--rounds 7]

Needs torch. PHOTOS has a sub-folder for each class. Four ways to bring every picture to batches of bytes (N,3,S,S):

    decode    rot180 with an empty cache: names, decoding, resizing, writing the cache with its checksum
    cache     rot180 afterwards: checking the cache, and one epoch of batches in shuffled order
    usual     DataLoader: Pillow opens, converts, resizes and cuts, as torchvision's Resize and CenterCrop do
    draft     DataLoader, with rot180's rule in every respect: large JPEGs are decoded at a part of their size

Each way takes one round in turn; the median of all rounds is printed. rot180 has as many threads as the DataLoader has
worker processes, which live through all rounds and so are started before the clock. All files have been read once
before: this is decoding, not the disk.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from rot180.arrays import Array
from rot180.data import parallel
from rot180.data.array_cache import CACHE_FOLDER
from rot180.data.folder import PictureOptions, list_folder, read_folder
from rot180.data.pictures import fitted, read_picture

TOLERANCE = 20  # of 255; pictures of other things differ by 60 and more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64, help="a worker makes a whole one: take less for few pictures")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    folder, size = arguments.photos.resolve(), arguments.size
    if hasattr(os, "sched_setaffinity"):  # as many processors for either side
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: arguments.workers]))
    paths = [folder / file.name for file in list_folder(folder).files]
    with tempfile.TemporaryDirectory() as cache:
        os.environ[CACHE_FOLDER] = cache
        ways: dict[str, Callable[[], int]] = {
            "decode": lambda: decode(folder, size, cache),
            "cache": lambda: from_cache(folder, size, arguments.batch),
        }
        for name, transform in (("usual", usual), ("draft", with_draft)):
            loader = DataLoader(
                Files(paths, size, transform),
                arguments.batch,
                shuffle=True,
                num_workers=arguments.workers,
                persistent_workers=True,
            )
            ways[name] = lambda loader=loader: sum(len(batch) for batch in loader)
        compare(paths, size)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for round_number in range(arguments.rounds + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                done = way()
                if done != len(paths):
                    raise SystemExit(f"{name}: {done} of {len(paths)} pictures")
                if round_number:  # the first starts the workers
                    seconds[name].append(time.perf_counter() - began)
    print(f"{len(paths)} pictures to {size}x{size}; {parallel.processors()} threads, {arguments.workers} workers")
    speed = {name: len(paths) / statistics.median(each) for name, each in seconds.items()}
    for name, each in speed.items():
        lowest, highest = (len(paths) / bound(seconds[name]) for bound in (max, min))
        print(
            f"{name:8}{each:9,.0f} pictures/s ({lowest:,.0f} to {highest:,.0f})"
            f"{each / speed['usual']:8.2f}x usual{each / speed['draft']:8.2f}x draft"
        )


def decode(folder: Path, size: int, cache: str) -> int:
    shutil.rmtree(Path(cache, "pictures"), ignore_errors=True)
    return len(read_folder(folder, PictureOptions(size, 3))[0])


def from_cache(folder: Path, size: int, batch: int) -> int:
    images = read_folder(folder, PictureOptions(size, 3))[0].images
    order = np.random.default_rng(0).permutation(len(images))
    return sum(len(images[order[first : first + batch]]) for first in range(0, len(order), batch))


class Files(TorchDataset):  # type: ignore[type-arg]
    """Pictures by their paths, as bytes (3,S,S)."""

    def __init__(self, paths: list[Path], size: int, transform: Callable[[Path, int], Array]) -> None:
        self.paths, self.size, self.transform = paths, size, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.transform(self.paths[index], self.size)))


def usual(path: Path, size: int) -> Array:
    """The shorter side to `size`, bicubic; then the middle."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = size / min(picture.size)
    width, height = (max(size, int(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def with_draft(path: Path, size: int) -> Array:
    return fitted(read_picture(path, size), (3, size, size))


def compare(paths: list[Path], size: int) -> None:
    """Do both transforms show the same? The usual one cuts at whole pixels of the small picture: up to one aside."""
    sample = paths[::16]
    difference = [np.abs(usual(path, size) - with_draft(path, size).astype(int)).mean() for path in sample]
    if np.mean(difference) > TOLERANCE:
        raise SystemExit(f"the two transforms differ by {np.mean(difference):.1f} of 255 in the mean")


if __name__ == "__main__":
    main()
