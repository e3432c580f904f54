"""Draws docs/images/augmentation.png: one digit, and one photograph of CIFAR-10, under each augmentation.

python docs/data_figure.py CIFAR        CIFAR: the folder of CIFAR-10's binary version
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rot180.arrays import Array
from rot180.data import Augmentation, load, mnist

WAYS = {
    "as it is": Augmentation(),
    "shift 4": Augmentation(shift=4),
    "flip": Augmentation(flip=True),
    "rotate 25": Augmentation(rotate=25),
    "scale 0.3": Augmentation(scale=0.3),
    "shear 25": Augmentation(shear=25),
    "elastic 34 4": Augmentation(elastic=(34, 4)),
    "crop 0.4": Augmentation(crop=0.4),
    "cutout 12": Augmentation(cutout=12),
    "all but flip": Augmentation(2, False, 15, 0.15, 10, (34, 4), 0.8, 8),
}
SIDE, GAP, LABEL, EPOCHS = 84, 6, 118, (0, 1, 2)


def picture(image: Array) -> Image.Image:
    """(C,H,W) of 0..255 as a picture of SIDE x SIDE."""
    values = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    colours = values.transpose(1, 2, 0) if len(values) == 3 else values[0]
    return Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def main() -> None:
    photographs, digits = load(sys.argv[1]).train, mnist().train
    columns = [(digits, 0), (photographs, int(np.flatnonzero(photographs.labels == 7)[0]))]
    width = LABEL + len(columns) * (len(EPOCHS) * (SIDE + GAP) + 2 * GAP)
    sheet = Image.new("RGB", (width, len(WAYS) * (SIDE + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for row, (name, augmentation) in enumerate(WAYS.items()):
        top = GAP + row * (SIDE + GAP)
        draw.text((GAP, top + SIDE / 2), name, fill=(30, 30, 30), font=font, anchor="lm")
        left = LABEL
        for dataset, index in columns:
            for epoch in EPOCHS:
                varied = augmentation.apply(dataset.images[[index]], 1, epoch, np.array([index]))
                sheet.paste(picture(varied[0]), (left, top))
                left += SIDE + GAP
            left += 2 * GAP
    sheet.save(Path(__file__).parent / "images" / "augmentation.png", optimize=True)


if __name__ == "__main__":
    main()
