"""A page about one image: what the network says of it, what that rests on, what every layer makes of it, and the
arithmetic of the units that decided, from the winning score down to a pixel.
"""

from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from rot180 import arithmetic
from rot180.arithmetic import Computation, Operand, Place
from rot180.arrays import Array
from rot180.explain import attribution
from rot180.explain.page import (
    LEVELS,
    LINE,
    NEGATIVE,
    POSITIVE,
    data_uri,
    image_picture,
    render,
    signed_levels,
    signed_palette,
    signed_picture,
)
from rot180.graph import IMAGE
from rot180.network import Network, Trace

MOST_MAPS = 64  # of a node
ACROSS = 16  # maps in a row; values of a vector likewise, four times as many
TABLES = 3  # channels of a window that are written out; of the others, the sum
WIDEST = 12  # a window with more rows or columns is shown by its largest terms
FINEST = 60  # pixels of a small map on the sheet, about
WIDEST_MAP = 2 * FINEST  # larger maps are averaged down: the sheet shows them smaller than that
GREY = 0.4  # how light the picture lies under a map


class Explanation(NamedTuple):
    """Everything about one image and one class."""

    image: Array  # (C,H,W), as the network takes it
    label: int  # the class whose score is explained
    probabilities: Array  # (K,)
    trace: Trace
    maps: dict[str, Array]  # attributions by name: (C,H,W), or (H,W)
    grad_cam_node: str | None
    path: list[Computation]  # from the score to a pixel


def explain_image(network: Network, image: Array, label: int | None = None) -> Explanation:
    """All that the page shows, as numbers. label: without, the class that wins."""
    image = np.asarray(image, network.dtype).reshape(network.graph.input_shape)
    trace = network.score_gradients(image, label)
    probabilities = network.graph.loss.probabilities(trace.outputs[network.graph.output].reshape(1, -1))[0]
    label = int(probabilities.argmax()) if label is None else label
    maps = {
        "saliency": trace.gradients[IMAGE][0],
        "guided backpropagation": attribution.guided_backpropagation(network, image, label),
        "deconvnet": attribution.deconvnet(network, image, label),
        "occlusion": attribution.occlusion(network, image, label),
    }
    node = attribution.last_maps(network)
    if node:
        maps["Grad-CAM"] = attribution.weighed_maps(trace, node)
    output = network.graph.shapes[network.graph.output]
    place = tuple(int(each) for each in np.unravel_index(label, output))
    path = arithmetic.follow(lambda name, at: _explain(trace, name, at), network.graph.output, place, IMAGE)
    return Explanation(image, label, probabilities, trace, maps, node, path)


def _explain(trace: Trace, node: str, place: Place) -> Computation:
    if len(place) == 1:
        return trace.explain(node, unit=place[0])
    channel, row, column = place
    return trace.explain(node, channel=channel, row=row, column=column)


def image_page(
    network: Network, explanation: Explanation, name: str, original: Array | None = None, top: int = 5
) -> bytes:
    """The page. name: of the picture. original: what it looks like, where the network sees something prepared."""
    shown = explanation.image if original is None else original
    order = explanation.probabilities.argsort()[::-1]
    names = network.class_names
    return render(
        "image.html",
        title=f"{name}: {names[explanation.label]}",
        name=name,
        says=names[int(order[0])],
        sure=float(explanation.probabilities[order[0]]),
        label=names[explanation.label],
        top=[(names[int(k)], float(explanation.probabilities[k])) for k in order[:top]],
        picture=data_uri(image_picture(shown)),
        prepared=data_uri(image_picture(explanation.image)) if original is not None else None,
        panels=_panels(explanation),
        layers=_layers(network, explanation.trace),
        path=[_written(each) for each in explanation.path],
    )


# --- what it rests on --------------------------------------------------------------------------------------------

CAPTIONS = {
    "saliency": "How much the score grows for a pixel that grows: its gradient; of colours, the largest.",
    "guided backpropagation": "The same, but every ReLU on the way back passes only what speaks for the class.",
    "deconvnet": "The score sent back as if each layer were turned round, with a ReLU on every way.",
    "occlusion": "Red: covering this place lowers the score. Blue: covering it raises it.",
    "Grad-CAM": "Where the last maps are active that raise the score.",
}


def _panels(explanation: Explanation) -> list[dict[str, str]]:
    panels = []
    for name, caption in CAPTIONS.items():
        values = explanation.maps.get(name)
        if values is None:
            continue
        title = name[0].upper() + name[1:]
        if name == "Grad-CAM":
            title = f"{title} of {explanation.grad_cam_node}"
        picture = data_uri(picture_of(explanation.image, values))
        panels.append({"title": title, "caption": caption, "picture": picture})
    return panels


def picture_of(image: Array, values: Array) -> Array:
    """An attribution as colours (H,W,3): one (C,H,W) by its strongest channel, one (H,W) laid over the image."""
    if values.ndim == 2:
        return _laid_over(image, values)
    strongest = np.abs(values).argmax(axis=0)
    return signed_picture(np.take_along_axis(values, strongest[None], 0)[0])


def _laid_over(image: Array, values: Array) -> Array:
    """A map over the image in light grey: red above 0, blue below, stronger where it is larger. (H,W,3)"""
    grey = image_picture(image)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey.astype(np.float64)
    large = Image.fromarray(np.asarray(values, np.float32)).resize(grey.shape[::-1], Image.Resampling.BILINEAR)
    share = np.asarray(large, np.float64) / max(float(np.abs(values).max()), 1e-30)
    colour = np.where(share[..., None] > 0, POSITIVE, NEGATIVE)
    under = (255 - (255 - grey) * GREY)[..., None]
    mixed = under + np.abs(share)[..., None].clip(0, 1) * 0.8 * (colour - under)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


# --- what the layers make of it ----------------------------------------------------------------------------------


def _layers(network: Network, trace: Trace) -> list[dict[str, Any]]:
    layers = []
    for node in network.graph:
        if node.name not in trace.outputs:
            continue
        values = trace.outputs[node.name][0]
        shown = len(values) if values.ndim == 1 else min(len(values), MOST_MAPS)
        layers.append(
            {
                "name": node.name,
                "layer": str(node.layer),
                "shape": values.shape,
                "low": float(values.min()),
                "high": float(values.max()),
                "shown": shown,
                "picture": data_uri(_sheet(values), signed_palette()),
                "width": 5 * min(shown, ACROSS) if values.ndim == 3 and values.shape[1:] != (1, 1) else 1.2 * shown,
            }
        )
    return layers


def _sheet(values: Array) -> Array:
    """Maps side by side with lines between them, or the values of a vector as one pixel each: (H,W), signed levels."""
    if values.ndim == 1 or values.shape[1:] == (1, 1):
        flat = values.reshape(-1)
        across = min(len(flat), 4 * ACROSS)
        sheet = np.full((-(-len(flat) // across), across), LEVELS, np.uint8)
        sheet.reshape(-1)[: len(flat)] = signed_levels(flat)
        return sheet
    largest = float(np.abs(values).max())
    values = _of_medium_size(values[:MOST_MAPS])
    count, height, width = values.shape
    across, line = min(count, ACROSS), max(1, round(max(height, width) / 30))
    down = -(-count // across)
    sheet = np.full((down * (height + line) - line, across * (width + line) - line), LINE, np.uint8)
    for index in range(count):
        top, left = index // across * (height + line), index % across * (width + line)
        sheet[top : top + height, left : left + width] = signed_levels(values[index], largest)
    return sheet


def _of_medium_size(maps: Array) -> Array:
    """Small maps enlarged, so that a line between them is thinner than a pixel of theirs; large ones averaged down."""
    side = max(maps.shape[1:])
    if side <= WIDEST_MAP:
        larger = max(1, round(FINEST / side))
        return maps.repeat(larger, axis=1).repeat(larger, axis=2)
    size = [max(1, round(length * WIDEST_MAP / side)) for length in maps.shape[:0:-1]]
    shrunk = [Image.fromarray(np.float32(each)).resize(size, Image.Resampling.BOX) for each in maps]
    return np.stack([np.asarray(each) for each in shrunk])


# --- the arithmetic ----------------------------------------------------------------------------------------------


def _written(each: Computation) -> dict[str, Any]:
    """One number for the page: windows as tables, long sums by their largest terms."""
    small = [o for o in each.operands if o.x.ndim == 3 and o.x.size > 1 and max(o.x.shape[1:]) <= WIDEST]
    tables = [table for operand in small for table in _tables(operand)] if len(small) == len(each.operands) else []
    total = sum(operand.x.size for operand in each.operands)
    terms = [] if tables else each.largest_terms()
    return {
        "arithmetic": each,
        "tables": tables,
        "channels": sum(len(operand.x) for operand in small),
        "terms": terms,
        "others": total - len(terms),
        "rest": float(sum(o.products.sum() for o in each.operands) - sum(term[-1] for term in terms)),
        "multiplied": any(operand.w is not None for operand in each.operands),
    }


def _tables(operand: Operand) -> list[dict[str, Any]]:
    """Of the channels that add most: window, kernel and products, each number with its colour's share."""
    products = operand.products
    order = np.argsort(-np.abs(products.sum(axis=(1, 2))), kind="stable")[:TABLES]
    parts = [("x", operand.x)]
    if operand.w is not None:
        parts += [("w", operand.w), ("w · x", products)]
    return [
        {
            "source": operand.source,
            "channel": operand.corner[0] + int(k),
            "corner": operand.corner[1:],
            "sum": float(products[k].sum()),
            "grids": [(name, _coloured(values[k], float(np.abs(values).max()))) for name, values in parts],
        }
        for k in order
    ]


def _coloured(values: Array, largest: float) -> list[list[tuple[float, float]]]:
    """Rows of (value, share of the largest)."""
    return [[(float(value) + 0.0, float(value) / max(largest, 1e-30)) for value in row] for row in values]  # no -0
