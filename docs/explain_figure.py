"""Draws docs/images/explain.png: a digit, and what the scores of its two likeliest classes rest on.

python docs/explain_figure.py [OUT.png]        --quick: a network that has learned almost nothing, drawn in a moment
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import rot180
from rot180 import data, models
from rot180.explain import explain_image
from rot180.explain.image_page import picture_of
from rot180.explain.page import image_picture

OUT = Path(__file__).parent / "images" / "explain.png"
CELL, GAP, LABEL = 168, 10, 22
INK, PAPER = (30, 30, 30), (255, 255, 255)
DIGIT = 4


def main() -> None:
    arguments = [each for each in sys.argv[1:] if each != "--quick"]
    quick = "--quick" in sys.argv
    digits = data.mnist()
    network = rot180.Network(models.lenet5(), seed=1, engine="reference" if quick else None)
    recipe = rot180.Recipe(epochs=1 if quick else 3)
    for _ in rot180.train(network, digits.train.take(slice(300 if quick else 10_000)), recipe):
        pass
    image = digits.test.images[int(np.flatnonzero(digits.test.labels == DIGIT)[0])]
    best = [int(k) for k in network(image)[0].argsort()[::-1][:2]]
    rows = [(network.class_names[k], explain_image(network, image, k)) for k in best]
    panels = [*rows[0][1].maps]
    sheet = Image.new("RGB", ((len(panels) + 1) * (CELL + GAP) + GAP, 2 * (CELL + LABEL + GAP) + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for r, (name, found) in enumerate(rows):
        top = GAP + r * (CELL + LABEL + GAP)
        shown = [(f"the score of {name}", image_picture(image))]
        shown += [(panel, picture_of(found.image, found.maps[panel])) for panel in panels]
        for c, (title, picture) in enumerate(shown):
            left = GAP + c * (CELL + GAP)
            pen.text((left, top), title, INK, font)
            large = Image.fromarray(picture).convert("RGB").resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(large, (left, top + LABEL))
    sheet.save(arguments[0] if arguments else OUT, optimize=True)


if __name__ == "__main__":
    main()
