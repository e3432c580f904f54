"""What a network is made of: shapes, parameters, connections, multiply-adds, receptive fields, memory. (C8)"""

from math import prod
from typing import NamedTuple

from rot180.arrays import Pair, Shape
from rot180.errors import SettingError
from rot180.graph import IMAGE, LABEL, Graph
from rot180.layers import Convolution, LocallyConnected, Loss, TableConvolution

BYTES_PER_VALUE = 4  # float32


class Row(NamedTuple):
    """One node."""

    name: str
    layer: str
    inputs: tuple[str, ...]
    output: Shape
    parameters: int
    connections: int  # of one image, biases counted, as LeCun et al. 1998 do
    multiply_adds: int  # of one image, forward
    receptive_field: Pair  # pixels of the image that one output can see: height, width
    activation_bytes: int  # of one image's output


class Summary(NamedTuple):
    """All nodes, and the sums."""

    rows: tuple[Row, ...]
    parameters: int
    connections: int
    multiply_adds: int
    parameter_bytes: int
    activation_bytes: int


def summarize(graph: Graph) -> Summary:
    """One row a node. A receptive field grows by (K-1) times the distance, in the image, of two neighbours:

    field = field_in + (K - 1) · jump_in,  jump = jump_in · S;  with several inputs the largest counts, and no
    field is larger than the image.
    """
    image: Pair = (graph.input_shape[-2], graph.input_shape[-1]) if len(graph.input_shape) == 3 else (1, 1)
    fields: dict[str, Pair] = {IMAGE: (1, 1), LABEL: (0, 0)}
    jumps: dict[str, Pair] = {IMAGE: (1, 1), LABEL: (1, 1)}
    rows = []
    for node in graph:
        shape = graph.input_shape_of(node)
        cost, window = node.layer.cost(shape), node.layer.window(shape)
        seen, jump = (tuple(max(of[name][axis] for name in node.inputs) for axis in (0, 1)) for of in (fields, jumps))
        grown = [min(seen[a] + (window.size[a] - 1) * jump[a], image[a]) for a in (0, 1)]
        fields[node.name] = grown[0], grown[1]
        jumps[node.name] = jump[0] * window.stride[0], jump[1] * window.stride[1]
        output = graph.shapes[node.name]
        rows.append(
            Row(
                node.name,
                type(node.layer).__name__,
                node.inputs,
                output,
                sum(prod(each) for each in node.layer.parameter_shapes(shape).values()),
                cost.connections,
                cost.multiply_adds,
                (0, 0) if isinstance(node.layer, Loss) else fields[node.name],
                prod(output) * BYTES_PER_VALUE,
            )
        )
    parameters = sum(row.parameters for row in rows)
    return Summary(
        tuple(rows),
        parameters,
        sum(row.connections for row in rows),
        sum(row.multiply_adds for row in rows),
        parameters * BYTES_PER_VALUE,
        sum(row.activation_bytes for row in rows),
    )


# --- what sharing saves, and how many filters to take -----------------------------------------------------------

Windowed = Convolution | LocallyConnected | TableConvolution
"""Layers whose units each see a window of their input."""


class Sharing(NamedTuple):
    """The weights, without biases, that as many units would need: joined to everything, to windows, sharing."""

    units: int
    fully_connected: int  # units times inputs
    locally_connected: int  # units times the inputs of a window
    shared: int  # one window for each filter


def sharing(layer: Windowed, shape: Shape) -> Sharing:
    """What a layer's two ideas save on an input of this shape: windows first, then weights that all places share.

    Seed 002's example: a million units on an image of 1000x1000, windows of 10x10 and one filter; then 100 filters.

    >>> sharing(Convolution(1, 10, padding="same"), (1, 1000, 1000))
    Sharing(units=1000000, fully_connected=1000000000000, locally_connected=100000000, shared=100)
    >>> sharing(Convolution(100, 10, stride=10), (1, 1000, 1000))
    Sharing(units=1000000, fully_connected=1000000000000, locally_connected=100000000, shared=10000)
    """
    output = layer.output_shape(shape)
    connections = layer.cost(shape).multiply_adds
    return Sharing(prod(output), prod(shape) * prod(output), connections, connections // prod(output[1:]))


def balanced_filters(filters: int, before: Pair, after: Pair) -> int:
    """How many filters keep filters · places as it was when maps of size `before` become maps of size `after`.

    Seed 002's rule of thumb. A layer costs places · window · filters before · filters: with few places, many filters
    cost no more than few with many. The product is also the number of values: constant, it throws nothing away; most
    networks let it fall and only double the filters where a pooling leaves a quarter of the places.

    >>> balanced_filters(6, (28, 28), (14, 14))
    24
    """
    if min(filters, *before, *after) < 1:
        raise SettingError(f"{filters} filters, maps of {before} and {after}: give whole numbers of at least 1")
    return max(1, round(filters * prod(before) / prod(after)))
