"""Writes docs/networks.md: every network by name, its paper, its layers and its counts.

python docs/networks.py
"""

from collections.abc import Iterator
from pathlib import Path

from rot180 import models
from rot180.arrays import Shape, text
from rot180.graph import Graph
from rot180.summary import summarize

PAGE = Path(__file__).with_suffix(".md")

HEAD = """# Networks

Each by the name that the command line takes; `models.build(name)` makes the same graph in Python, and each has a
function of its own with its settings. Without settings they are the papers' networks: `classes` and `shape` (of an
image: channels, height, width) make them others. The tables hold the blocks that have parameters or change the shape of
their input; `rot180 summary NAME` prints every node, with connections and receptive fields too. Multiply-adds are those
of one image, forward; parameters are counted with their biases.

The page is written by `python docs/networks.py`, from the graphs themselves.
"""

FAMILIES: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "LeNet-5",
        """LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.

`lenet-5-1998` is the paper's: the table of connections in C3, subsampling that learns a weight and a bias for each map,
1.7159 tanh(2x/3) behind every layer, and an output that compares F6 with a picture of each class, with the loss of its
equation 9. It has the paper's 60,000 parameters and 340,908 connections. The digits are 28x28 and C1 pads them, where
the paper pads them beforehand; its border is 0, the paper's was the value of blank paper, -0.1.

`lenet-5` is what is called LeNet-5 today: ReLU, max pooling, every map of C3 sees every map of S2, softmax.
`lenet-sigmoid` has the same shapes with average pooling and sigmoid.""",
        ("lenet-5-1998", "lenet-5"),
        ("lenet-sigmoid",),
    ),
    (
        "AlexNet",
        """Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012.

`alexnet` is in two halves. In layers 1 and 2 they are branches, normalization included, so that nothing passes from one
to the other; layer 3 sees both; layers 4 and 5 are convolutions of two groups. (Where all of layer 1 is normalized as
one, as other versions do, a few maps see across the border.) Pooling windows overlap; half of the units of the first
two dense layers are left out in training; the biases of layers 2, 4, 5, 6 and 7 start at 1.

`alexnet-column` is the single column of Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
2014, in the form that is mostly built: no normalization, 61,100,840 parameters.""",
        ("alexnet", "alexnet-column"),
        (),
    ),
    (
        "GoogLeNet (Inception v1)",
        """Szegedy and others, "Going deeper with convolutions", 2015.

Each `inception` block has four paths side by side: 1x1, 1x1 then 3x3, 1x1 then 5x5, pooling then 1x1. The two heads are
classifiers on the side, whose losses count 0.3 each; only training runs them. Without them
(`models.googlenet(heads=False)`) the network has 6,998,552 parameters. The paper gives no constants for its
normalization: here they are AlexNet's.""",
        ("googlenet",),
        (),
    ),
    (
        "Residual networks",
        """He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.

`resnet-20` to `resnet-110` are the family for images of 32x32; `resnet-18` to `resnet-152` that for photographs, from
50 layers on with bottlenecks, whose stride is in their 3x3 convolution. Where a block changes the shape, the shortcut
is a 1x1 convolution. For images below 64 pixels the photographs' family begins with one 3x3 convolution.""",
        ("resnet-20", "resnet-18", "resnet-50"),
        ("resnet-32", "resnet-44", "resnet-56", "resnet-110", "resnet-34", "resnet-101", "resnet-152"),
    ),
    (
        "Highway networks",
        """Srivastava, Greff and Schmidhuber, "Highway networks" and "Training very deep networks", 2015.

y = H(x) ⊙ T(x) + x ⊙ (1 - T(x)): a gate T, a sigmoid, says how much of the layer's output goes on and how much of its
input. The gates' biases start at -2, so that at first the input passes nearly as it is. `highway-10` to `highway-100`
are the dense ones for MNIST: a dense layer, then highway layers of 50 units. `highway-conv-16` and `highway-conv-32`
are the convolutional ones of 10 layers, with 16 and 32 maps throughout: the paper's 39,000 and 151,000 parameters.
`models.highway_dense(depth)` and `models.highway_convolutional(depth)` have any depth.""",
        ("highway-10", "highway-conv-16"),
        ("highway-20", "highway-50", "highway-100", "highway-conv-32"),
    ),
)

SHOWN_WHOLE = "halves"  # of AlexNet: a block that is shown node by node

PATTERN = """## Any network of the usual order, from its pattern

    INPUT -> [[CONV]*N -> POOL?]*M -> [FC]*K
    INPUT -> [[CONV -> RELU]*N -> POOL?]*M -> [FC -> RELU]*K -> FC

`models.pattern` reads such a string, with numbers for the letters or the letters as arguments, and
`str(models.Pattern.read(...))` writes it again. Wherever the command line takes a network's name it takes a pattern:

    rot180 summary 'INPUT(3, 32, 32) -> [[CONV(32) -> RELU]*2 -> POOL]*2 -> FC(128) -> RELU -> FC'
    rot180 train --network 'INPUT -> [[CONV]*1 -> POOL]*2 -> [FC]*2'

Behind a word may stand its numbers: `INPUT(channels, height, width)`, `CONV(filters, size)`, `POOL(size, stride)`,
`FC(units)`. A convolution keeps the size of its input. Without a number the first convolution has 16 filters of 3x3,
each pooling doubles the number, a pooling is 2x2, and a dense layer has 128 units. A pattern that names no activation
has a ReLU behind each layer but the last. `RELU`, `SIGMOID` and `TANH` may stand where they are wanted.

### How many filters?

A convolution costs places · window · filters before · filters; a dense layer only inputs · units. That is why a network
of convolutions has fewer filters than a dense one has units, and why the number may rise as the maps get smaller:
filters · places about constant keeps the number of values, and throws nothing away
(`rot180.summary.balanced_filters`); most networks let the product fall, and double the filters where a pooling leaves a
quarter of the places. How many filters the last layers should have depends on how much data there is. Small images take
kernels of 5x5 in the first layer, photographs larger ones or several small ones; pooling is 2x2, and 4x4 at most for
large images, since it throws 15 of 16 values away.

## What windows and shared weights save

`rot180 summary NETWORK --sharing` counts, for each layer that sees windows, the weights that as many units would need
if each saw everything, if each had a window of its own, and as they are. The example of a million units on 1000x1000
pixels, with windows of 10x10: `rot180 summary 'INPUT(1, 1000, 1000) -> CONV(1, 10) -> POOL(100) -> FC' --sharing` gives
10^12, 10^8 and 10^2; a hundred filters, 10 pixels apart, make the last 10^4.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for family in FAMILIES for line in section(*family)), PATTERN])


def section(title: str, about: str, shown: tuple[str, ...], others: tuple[str, ...]) -> Iterator[str]:
    """A family: what it is, the tables of some, the counts of the others."""
    yield f"## {title}\n\n{about}\n"
    for name in shown:
        yield from table(name, models.build(name))
    if others:
        yield "| network | input | parameters | multiply-adds |\n|---|---|---:|---:|"
        for name in others:
            graph = models.build(name)
            whole = summarize(graph)
            yield f"| `{name}` | {text(graph.input_shape)} | {whole.parameters:,} | {whole.multiply_adds:,} |"
        yield ""


def table(name: str, graph: Graph) -> Iterator[str]:
    """A network, block by block."""
    whole = summarize(graph)
    yield f"`{name}`, input {text(graph.input_shape)}:\n"
    yield "| block | layers | output | parameters | multiply-adds |\n|---|---|---|---:|---:|"
    blocks: dict[str, list[int]] = {}
    for index, row in enumerate(whole.rows):
        blocks.setdefault(row.name if row.name.startswith(SHOWN_WHOLE) else row.name.partition(".")[0], []).append(
            index
        )
    before: Shape = graph.input_shape
    for block, indices in blocks.items():
        rows = [whole.rows[index] for index in indices]
        parameters, output = sum(row.parameters for row in rows), rows[-1].output
        if parameters or output not in (before, ()):
            layers = rows[0].layer if len(rows) == 1 else f"{len(rows)} nodes"
            work = sum(row.multiply_adds for row in rows)
            yield f"| {block} | {layers} | {text(output)} | {parameters:,} | {work:,} |"
        before = output
    yield f"| all | {len(whole.rows)} nodes | | {whole.parameters:,} | {whole.multiply_adds:,} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
