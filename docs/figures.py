"""Draws the pictures of the README from a trained network.

python docs/figures.py RUN         RUN: a run's folder, such as runs/lenet-5-mnist-1
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rot180.arrays import Array
from rot180.data import mnist
from rot180.training import load_run

IMAGES = Path(__file__).parent / "images"
CELL, GAP, LABEL = 112, 10, 24
INK, PAPER = (30, 30, 30), (255, 255, 255)
POSITIVE, NEGATIVE = np.array([178, 34, 52]), np.array([33, 84, 166])


def main() -> None:
    _, network = load_run(sys.argv[1])
    digits = mnist().test
    index = int(np.flatnonzero(digits.labels == 4)[0])
    trace = network.trace(digits.images[index], int(digits.labels[index]))
    kernels = network["C1.w"][:, 0]
    rows = [
        (
            "forward: the image, and the six maps that C1 makes of it",
            [trace.outputs["image"][0, 0], *trace.outputs["C1"][0]],
        ),
        (
            "backward: what the loss asks of C1's maps, and through them of the image",
            [trace.gradients["image"][0, 0], *trace.gradients["C1"][0]],
        ),
        ("C1's six kernels W, as the forward pass slides them", [None, *kernels]),
        ("rot180(W), as the backward pass slides them", [None, *kernels[:, ::-1, ::-1]]),
    ]
    draw(rows).save(IMAGES / "passes.png", optimize=True)


def draw(rows: list[tuple[str, list[Array | None]]]) -> Image.Image:
    """Rows of maps under their captions."""
    height, width = len(rows) * (LABEL + CELL + GAP) + GAP, 7 * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for r, (caption, maps) in enumerate(rows):
        top = GAP + r * (LABEL + CELL + GAP)
        pen.text((GAP, top), caption, INK, font)
        for c, values in enumerate(maps):
            if values is not None:
                sheet.paste(picture(values), (GAP + c * (CELL + GAP), top + LABEL))
    return sheet


def picture(values: Array) -> Image.Image:
    """One map: white is 0, red above, blue below, full colour at the largest magnitude."""
    share = (values / max(float(np.abs(values).max()), 1e-12))[..., None]
    colour = 255 + np.abs(share) * (np.where(share > 0, POSITIVE, NEGATIVE) - 255)
    return Image.fromarray(np.uint8(np.rint(colour))).resize((CELL, CELL), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
