"""Draws docs/images/filters.png: one drawn picture under every kernel of `rot180 filter --list`.

python docs/filters_figure.py [OUT.png]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rot180 import image_filters as filters
from rot180.arrays import Array

OUT = Path(__file__).parent / "images" / "filters.png"
SIDE, GAP, LABEL, COLUMNS = 176, 12, 22, 4
INK, PAPER = 30, 255
SMOOTH = 4  # the picture is drawn this much larger, then made smaller: soft edges


def scene(side: int = SIDE) -> Array:
    """A house, a sun, a wire fence and a slope, with a little noise: edges and lines of every direction. (H, W)."""
    big = side * SMOOTH
    sheet = Image.new("L", (big, big), 150)
    pen = ImageDraw.Draw(sheet)

    def at(*values: float) -> list[float]:
        return [value * big for value in values]

    pen.polygon(at(0, 0.72, 1, 0.6, 1, 1, 0, 1), fill=90)
    pen.ellipse(at(0.68, 0.08, 0.9, 0.3), fill=250)
    pen.rectangle(at(0.14, 0.42, 0.54, 0.84), fill=215)
    pen.polygon(at(0.08, 0.42, 0.34, 0.18, 0.6, 0.42), fill=50)
    pen.rectangle(at(0.22, 0.52, 0.32, 0.62), fill=30)
    pen.rectangle(at(0.4, 0.6, 0.48, 0.84), fill=70)
    for k in range(6):
        left = 0.64 + 0.06 * k
        pen.line(at(left, 0.62, left, 0.86), fill=235, width=SMOOTH)
    for top in (0.67, 0.79):
        pen.line(at(0.62, top, 0.98, top), fill=235, width=SMOOTH)
    pen.line(at(0.62, 0.86, 0.96, 0.62), fill=235, width=SMOOTH)
    values = np.asarray(sheet.resize((side, side), Image.Resampling.BOX), np.float64)
    noisy = values + np.random.default_rng(1).normal(0, 2, values.shape)
    return np.uint8(np.clip(np.rint(noisy), 0, 255))


def panels(x: Array) -> list[tuple[str, Array]]:
    """The picture, and what every kernel makes of it, shown as the command would."""
    shown = [("the picture", x)]
    for name in filters.KERNELS:
        w = filters.kernel(name)
        w = w / w.sum() if name == "gaussian-template" else w
        shown.append((name, filters.to_picture(filters.apply(x, w), filters.natural_range(w))))
    shown += [(name, filters.to_picture(filters.magnitude(x, name), "absolute")) for name in filters.MAGNITUDES]
    return shown


def main() -> None:
    shown = panels(scene())
    rows = -(-len(shown) // COLUMNS)
    cell = SIDE + GAP, SIDE + LABEL + GAP
    sheet = Image.new("L", (COLUMNS * cell[0] + GAP, rows * cell[1] + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, (name, values) in enumerate(shown):
        left, top = GAP + index % COLUMNS * cell[0], GAP + index // COLUMNS * cell[1]
        pen.text((left, top), name, INK, font)
        sheet.paste(Image.fromarray(values), (left, top + LABEL))
    sheet.save(sys.argv[1] if len(sys.argv) > 1 else OUT, optimize=True)


if __name__ == "__main__":
    main()
