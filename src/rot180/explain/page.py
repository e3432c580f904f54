"""What the HTML pages share: templates that escape whatever they are given, and pictures inside the page.

A page is one file: no script, nothing from a network. Colours follow the reader's choice of light or dark.
"""

import base64
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from rot180.arrays import Array, text
from rot180.version import VERSION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POSITIVE, NEGATIVE = (178, 34, 52), (33, 84, 166)  # of signed maps; 0 is white
LEVELS = 127  # of each of the two: with white and LINE, a byte is enough for a pixel
LINE = 255  # between maps: grey
COLOURS = {  # as matplotlib is told, and what stands for it on the page
    "#010101": "var(--ink)",
    "#010102": "var(--line)",
    "#010103": "var(--first)",
    "#010104": "var(--second)",
}
RGB = 3


def render(template: str, **values: Any) -> bytes:
    """The page. Everything that is not the template's own is escaped: names of classes and files are only data."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("rot180.explain"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"shape": text, "percent": percent, "number": number}
    return pages.get_template(template).render(version=VERSION, **values).encode("utf-8", "backslashreplace")


def percent(share: float | None) -> str:
    """0.0078 -> 0.78 %; a dash where there is none."""
    return "–" if share is None or not np.isfinite(share) else f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


def number(value: float) -> str:
    """Four digits that count."""
    return f"{value:.4g}".replace("-", "−")


# --- pictures ----------------------------------------------------------------------------------------------------


def image_picture(image: Array) -> Array:
    """An image (C,H,W) as bytes (H,W) or (H,W,3): pixels 0..255 as they are, others from their least to their largest.

    Three channels are colours; of two, or more than three, the mean is shown.
    """
    values = np.asarray(image, np.float64)
    values = values.transpose(1, 2, 0) if len(values) == RGB else values.mean(axis=0)
    if image.dtype != np.uint8 and (values.min() < 0 or values.max() > 255 or values.max() <= 1):
        values = (values - values.min()) * (255 / max(float(np.ptp(values)), 1e-12))
    return np.rint(values).astype(np.uint8)


def signed_picture(values: Array, largest: float | None = None) -> Array:
    """A map (H,W) as colours (H,W,3): 0 white, above it red, below blue, full colour at the largest magnitude."""
    return signed_palette()[signed_levels(values, largest)]


def signed_levels(values: Array, largest: float | None = None) -> Array:
    """The same as bytes (H,W), each a colour of the signed palette."""
    largest = float(np.abs(values).max()) if largest is None else largest
    share = np.clip(np.asarray(values, np.float64) / max(largest, 1e-30), -1, 1)
    return (np.rint(share * LEVELS) + LEVELS).astype(np.uint8)


def signed_palette() -> Array:
    """(256, 3): NEGATIVE, by way of white, to POSITIVE; and LINE."""
    share = np.arange(-LEVELS, LEVELS + 1)[:, None] / LEVELS
    colours = 255 + np.abs(share) * (np.where(share > 0, POSITIVE, NEGATIVE) - np.float64(255))
    return np.concatenate([np.rint(colours), [[128, 128, 128]]]).astype(np.uint8)


def data_uri(picture: Array, palette: Array | None = None) -> str:
    """Bytes (H,W), grey or of the palette (256,3), or (H,W,3), as a PNG that a page holds itself."""
    from PIL import Image

    file = io.BytesIO()
    image = Image.fromarray(picture)
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def svg(figure: "Figure", label: str) -> Any:
    """A figure as the page's own SVG: its colours are the page's, its width the reader's."""
    import matplotlib as mpl
    from markupsafe import Markup, escape

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r' (width|height)="[\d.]+pt"', "", drawn, count=2)
    for told, meant in COLOURS.items():
        drawn = drawn.replace(told, meant)
    # matplotlib escapes the texts it draws; the label is escaped here
    return Markup(drawn.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))  # noqa: S704


def page_colours() -> Any:
    """Within it, matplotlib draws in colours that `svg` makes the page's."""
    import matplotlib as mpl
    from cycler import cycler

    ink, line, *series = COLOURS
    return mpl.rc_context(
        {
            "axes.prop_cycle": cycler(color=series),
            "axes.edgecolor": line,
            "axes.labelcolor": ink,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlecolor": ink,
            "font.size": 10,
            "grid.color": line,
            "legend.frameon": False,
            "text.color": ink,
            "xtick.color": ink,
            "ytick.color": ink,
        }
    )
