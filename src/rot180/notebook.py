"""How values show themselves in a notebook: small pieces of HTML that need nothing else, every text escaped.

Imported where it is needed: `import rot180` is quick.
"""

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from rot180.arrays import Array

CELL = "padding:1px 6px;text-align:"
THUMBNAIL = 64  # pixels
MOST_CLASSES = 30  # whose confusion is shown as a table
PIXEL = 255


def paragraph(text: str) -> str:
    """A line of text."""
    return f"<div>{escape(text)}</div>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A table, the first `left` columns flush left, the others flush right."""

    def cells(values: Sequence[object], tag: str) -> str:
        return "".join(
            f'<{tag} style="{CELL}{"left" if index < left else "right"}">{escape(str(value))}</{tag}>'
            for index, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<table style="border-collapse:collapse"><tr>{cells(columns, "th")}</tr>{body}</table>'


def confusion_table(counts: Array) -> str:
    """(K,K) counts, true class by said class; the deeper the colour, the larger the share of the true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = "".join(f'<th style="{CELL}right">{said}</th>' for said in range(len(counts)))
    rows = []
    for true in range(len(counts)):
        cells = "".join(
            f'<td style="{CELL}right;background:rgba({"38,139,70" if true == said else "200,40,40"},{share:.2f})">'
            f"{count or '·'}</td>"
            for said, (count, share) in enumerate(zip(counts[true].tolist(), shares[true], strict=True))
        )
        rows.append(f'<tr><th style="{CELL}right">{true}</th>{cells}</tr>')
    return f'<table style="border-collapse:collapse"><tr><th></th>{head}</tr>{"".join(rows)}</table>'


def thumbnails(images: Array, captions: Sequence[str]) -> str:
    """Images (N,C,H,W) side by side, each with its caption below."""
    figures = "".join(
        '<div style="display:inline-block;margin:2px;text-align:center;vertical-align:top">'
        f'<img src="data:image/png;base64,{b64encode(_png(image)).decode()}" alt="{escape(caption, quote=True)}" '
        f'style="height:{THUMBNAIL}px;image-rendering:pixelated"><br><small>{escape(caption)}</small></div>'
        for image, caption in zip(images, captions, strict=True)
    )
    return f"<div>{figures}</div>"


def _png(image: Array) -> bytes:
    """(C,H,W) in colour where C is 3, else the first map; numbers that are not bytes from the least to the largest."""
    from PIL import Image

    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    if pixels.dtype != np.uint8:
        values = pixels.astype(np.float64)
        low, high = values.min(), values.max()
        pixels = np.rint((values - low) / ((high - low) or 1) * PIXEL).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))  # what a screen of twice the pixels can show
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return written.getvalue()
