"""Residual networks: layers that learn what to add to their input. (C6)

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016. Where a block changes the number or
the size of the maps, its shortcut is a 1x1 convolution (the paper's option B).
"""

from collections.abc import Sequence

from rot180.arrays import Shape
from rot180.errors import SettingError
from rot180.graph import Block, Chain, Graph, Residual, chain, residual, sequence
from rot180.layers import (
    BatchNormalization,
    Convolution,
    Dense,
    GlobalAveragePooling,
    MaxPooling,
    ReLU,
    ScalePixels,
    SoftmaxCrossEntropy,
)

IMAGENET_DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
"""Blocks in each of the four stages, and whether they are bottlenecks."""


def resnet_small(depth: int = 20, classes: int = 10, shape: Shape = (3, 32, 32), *, maps: int = 16) -> Graph:
    """The family for small images, section 4.2: 6n+2 layers in three stages of 16, 32 and 64 maps.        (C6)

    maps: of the first stage.
    """
    if depth < 8 or (depth - 2) % 6:
        raise SettingError(f"a ResNet for small images has 6n+2 layers (20, 32, 44, 56, 110), not {depth}")
    blocks = [(depth - 2) // 6] * 3
    stem = chain(conv=_convolution(maps, 3), norm=BatchNormalization(), relu=ReLU())
    return _assemble(shape, classes, stem, maps, blocks, bottleneck=False)


def resnet(
    depth: int = 18,
    classes: int = 1000,
    shape: Shape = (3, 224, 224),
    *,
    maps: int = 64,
    blocks: Sequence[int] | None = None,
) -> Graph:
    """The family for photographs, table 1: 18, 34, 50, 101 or 152 layers; four stages from 64 maps up.    (C6)

    For images below 64 pixels the stem is one 3x3 convolution in place of 7x7 with stride 2 and pooling.
    maps: of the first stage. blocks: in each stage, where it shall not be table 1's number for this depth.
    """
    if depth not in IMAGENET_DEPTHS:
        raise SettingError(
            f"there is no ResNet of {depth} layers: choose one of {', '.join(map(str, IMAGENET_DEPTHS))}"
        )
    of_depth, bottleneck = IMAGENET_DEPTHS[depth]
    if shape[-1] < 64:
        stem = chain(conv=_convolution(maps, 3), norm=BatchNormalization(), relu=ReLU())
    else:
        stem = chain(
            conv=_convolution(maps, 7, stride=2),
            norm=BatchNormalization(),
            relu=ReLU(),
            pool=MaxPooling(3, stride=2, padding=1, remainder="floor"),
        )
    return _assemble(shape, classes, stem, maps, blocks or of_depth, bottleneck)


def _assemble(shape: Shape, classes: int, stem: Chain, maps: int, blocks: Sequence[int], bottleneck: bool) -> Graph:
    stages: dict[str, Block] = {}
    before = maps
    for stage, count in enumerate(blocks, start=1):
        for number in range(1, count + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            block, after = (_bottleneck if bottleneck else _basic)(before, maps * 2 ** (stage - 1), stride)
            stages[f"stage{stage}_{number}"] = chain(sum=block, relu=ReLU())
            before = after
    return sequence(
        shape,
        pixels=ScalePixels(-2, 2),
        stem=stem,
        **stages,
        pool=GlobalAveragePooling(),
        scores=Dense(classes),
        loss=SoftmaxCrossEntropy(),
    )


def _basic(before: int, maps: int, stride: int) -> tuple[Residual, int]:
    """Two 3x3 convolutions; and how many maps come out."""
    body = chain(
        conv1=_convolution(maps, 3, stride),
        norm1=BatchNormalization(),
        relu1=ReLU(),
        conv2=_convolution(maps, 3),
        norm2=BatchNormalization(),
    )
    return residual(body, _shortcut(before, maps, stride)), maps


def _bottleneck(before: int, maps: int, stride: int) -> tuple[Residual, int]:
    """1x1 down, 3x3 (with the stride), 1x1 up to four times the maps."""
    body = chain(
        conv1=_convolution(maps, 1),
        norm1=BatchNormalization(),
        relu1=ReLU(),
        conv2=_convolution(maps, 3, stride),
        norm2=BatchNormalization(),
        relu2=ReLU(),
        conv3=_convolution(4 * maps, 1),
        norm3=BatchNormalization(),
    )
    return residual(body, _shortcut(before, 4 * maps, stride)), 4 * maps


def _shortcut(before: int, after: int, stride: int) -> Chain | None:
    if before == after and stride == 1:
        return None
    return chain(conv=_convolution(after, 1, stride), norm=BatchNormalization())


def _convolution(filters: int, size: int, stride: int = 1) -> Convolution:
    """Without a bias: the normalization behind it has one."""
    return Convolution(filters, size, stride, padding=size // 2, bias=False, remainder="floor")
