"""The operation itself: cross-correlation and true convolution, in one and two dimensions. (A1-A6)

    cross-correlation   y[i] = Σ_u w[u] x[i + u]          slide the kernel as it is     Y = W ⊗ X
    convolution         y[i] = Σ_u w[u] x[i - u]          flip it, then slide           Y = W * X

so that W ⊗ X = rot180(W) * X. Networks correlate: a learned kernel may as well learn the flipped values.
The flip comes back in the backward pass, where it cannot be learned away (layers/convolution.py).

`correlate_maps` is the one primitive; everything else here, and both gradients of the convolution layer,
are written with it.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rot180.arrays import Array, Pair, Shape, pair, text, whole
from rot180.errors import SettingError, ShapeError

Remainder: TypeAlias = Literal["floor", "error"]
Padding: TypeAlias = int | str | Sequence[int | Pair]
Pads: TypeAlias = tuple[Pair, Pair]  # ((top, bottom), (left, right)); a negative number cuts off

LARGEST_MAP = 2**28  # padded pixels of one map: more is a mistake, or a hostile file
PADDING_NAMES = ("narrow", "wide", "equal", "valid", "same")


def rot180(w: Array) -> Array:
    """The kernel turned by 180 degrees: reversed along its last two axes (a 1-D kernel along its one)."""
    return w[::-1] if w.ndim == 1 else w[..., ::-1, ::-1]


# --- sizes -------------------------------------------------------------------------------------------------


def output_size(
    size: int, kernel: int, stride: int = 1, padding: Pair = (0, 0), dilation: int = 1, remainder: Remainder = "error"
) -> int:
    """How many outputs: (M - K + 2P)/S + 1, with K the dilated kernel D·(K-1)+1.                          (A2)

    Where S does not divide M - K + 2P the last positions are lost: `remainder` "floor" accepts that,
    "error" refuses it. Raises ShapeError where the kernel does not fit at all.
    """
    if remainder not in ("floor", "error"):
        raise SettingError(f'remainder is {remainder!r}: choose "floor" or "error"')
    extent = dilation * (kernel - 1) + 1
    room = size + padding[0] + padding[1] - extent
    if room < 0:
        raise ShapeError(
            f"a window of {extent} does not fit into {size} with padding {padding[0]} and {padding[1]}: "
            "use a larger input, a smaller window or more padding"
        )
    if room % stride and remainder == "error":
        raise ShapeError(
            f"stride {stride} does not divide {size} + {padding[0]} + {padding[1]} - {extent} = {room}: the last "
            f'{room % stride} rows or columns would be lost; choose remainder="floor" to accept that, '
            "or another padding"
        )
    return room // stride + 1


def resolve_padding(padding: Padding, size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pads:
    """((top, bottom), (left, right)) from a number, two numbers, two pairs, or a name.                    (A2)

    "narrow", "valid": none. "wide": K-1 on either side, every overlap counts. "equal": (K-1)/2, output as
    large as the input at stride 1. "same": as much as an output of ceil(M/S) needs, the odd one at the end.
    Raises SettingError for anything else, and for "equal" with an even kernel.
    """
    if isinstance(padding, str):
        vertical, horizontal = (
            _named_padding(padding, m, d * (k - 1) + 1, s)
            for m, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        )
        return vertical, horizontal
    both = (padding, padding) if isinstance(padding, int | np.integer) else padding
    if not isinstance(both, Sequence) or len(both) != 2:
        raise SettingError(f"padding is {padding!r}: give a number, (vertical, horizontal), or one of {PADDING_NAMES}")
    vertical, horizontal = (pair(each, "padding", at_least=0) for each in both)
    if (size[0] + sum(vertical)) * (size[1] + sum(horizontal)) > LARGEST_MAP:
        raise SettingError(f"padding {padding!r} would make a map of more than {LARGEST_MAP} pixels: is it right?")
    return vertical, horizontal


def _named_padding(name: str, size: int, extent: int, stride: int) -> Pair:
    match name:
        case "narrow" | "valid":
            return 0, 0
        case "wide":
            return extent - 1, extent - 1
        case "equal":
            if extent % 2 == 0:
                raise SettingError(f'equal-width padding needs an odd kernel, not {extent}: use "same" instead')
            return extent // 2, extent // 2
        case "same":
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            return total // 2, total - total // 2
    raise SettingError(f"padding is {name!r}: give a number, (vertical, horizontal), or one of {PADDING_NAMES}")


def rounds_down(padding: Padding, remainder: Remainder) -> Remainder:
    """The remainder rule that counts: "valid" and "same" round down by their own definition."""
    return "floor" if padding in ("valid", "same") else remainder


# --- the primitive -----------------------------------------------------------------------------------------


def pad(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """X (..., H, W) with `value` around its maps; a negative number cuts rows or columns off."""
    (top, bottom), (left, right) = pads
    x = x[..., max(-top, 0) : x.shape[-2] - max(-bottom, 0), max(-left, 0) : x.shape[-1] - max(-right, 0)]
    if max(top, bottom, left, right) <= 0:
        return x
    (top, bottom), (left, right) = (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))
    height, width = x.shape[-2:]
    padded = np.full((*x.shape[:-2], top + height + bottom, left + width + right), value, x.dtype)
    padded[..., top : top + height, left : left + width] = x
    return padded


def expand(x: Array, stride: Pair) -> Array:
    """X (..., H, W) with stride-1 zeros between neighbours: a map of stride S as it would be at stride 1."""
    if stride == (1, 1):
        return x
    height, width = x.shape[-2:]
    expanded = np.zeros((*x.shape[:-2], (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1), x.dtype)
    expanded[..., :: stride[0], :: stride[1]] = x
    return expanded


def windows(x: Array, size: Pair, stride: Pair = (1, 1), dilation: Pair = (1, 1)) -> Array:
    """Every window as a view: (..., H, W) -> (..., OH, OW, KH, KW), nothing copied."""
    extent = dilation[0] * (size[0] - 1) + 1, dilation[1] * (size[1] - 1) + 1
    return sliding_window_view(x, extent, axis=(-2, -1))[
        ..., :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]
    ]


def correlate_maps(
    x: Array, w: Array, stride: Pair = (1, 1), pads: Pads = ((0, 0), (0, 0)), dilation: Pair = (1, 1)
) -> Array:
    """y[..., f, i, j] = Σ_cuv w[..., f, c, u, v] · x[..., c, i·S + u·D, j·S + v·D]                       (A5)

    x (..., C, H, W), w (..., F, C, KH, KW) -> y (..., F, OH, OW); leading axes are broadcast (images, groups).
    Positions that a stride leaves over are dropped. The sum is one matrix product: the windows are laid out as
    a matrix whose rows are c, u, v and whose columns are i, j.
    """
    filters, (channels, kh, kw) = w.shape[-4], w.shape[-3:]
    view = windows(pad(x, pads), (kh, kw), stride, dilation)  # (..., C, OH, OW, KH, KW)
    lead, (oh, ow) = view.shape[:-5], view.shape[-4:-2]
    if ow >= kw:  # copy along the longer run of neighbours: pixels, or taps
        columns = np.ascontiguousarray(np.moveaxis(view, (-4, -3), (-2, -1))).reshape(
            *lead, channels * kh * kw, oh * ow
        )
    else:
        rows = np.ascontiguousarray(np.moveaxis(view, -5, -3)).reshape(*lead, oh * ow, channels * kh * kw)
        columns = np.swapaxes(rows, -1, -2)
    # (..., F, C·KH·KW) @ (..., C·KH·KW, OH·OW) -> (..., F, OH·OW)
    y = w.reshape(*w.shape[:-4], filters, channels * kh * kw) @ columns
    return y.reshape(*y.shape[:-1], oh, ow)


# --- one signal or one image ---------------------------------------------------------------------------------


def correlate(
    x: Array,
    w: Array,
    padding: Padding = "narrow",
    stride: int | Pair = 1,
    dilation: int | Pair = 1,
    remainder: Remainder = "error",
) -> Array:
    """The cross-correlation W ⊗ X of a signal (M,) with a kernel (K,), or of an image (H,W) with (KH,KW). (A1)

    >>> correlate(np.array([1, 2, 3, 4]), np.array([1, 0, -1]))
    array([-2, -2])
    """
    x, w = np.asarray(x), np.asarray(w)
    if x.ndim not in (1, 2) or x.ndim != w.ndim or 0 in (*x.shape, *w.shape):
        raise ShapeError(
            f"correlate takes a signal and a kernel, both 1-D or both 2-D and not empty, "
            f"not {text(x.shape)} and {text(w.shape)}"
        )
    if x.ndim == 1:  # a signal is a row
        one_row = {"stride": (1, stride), "dilation": (1, dilation)}
        if not isinstance(padding, str):
            before, after = pair(padding, "padding", at_least=0)  # type: ignore[arg-type]
            return correlate(x[None], w[None], ((0, 0), (before, after)), **one_row, remainder=remainder)[0]  # type: ignore[arg-type]
        return correlate(x[None], w[None], padding, **one_row, remainder=remainder)[0]  # type: ignore[arg-type]
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    kernel = (w.shape[0], w.shape[1])
    pads = resolve_padding(padding, (x.shape[0], x.shape[1]), kernel, stride, dilation)
    for axis in (0, 1):
        output_size(
            x.shape[axis], kernel[axis], stride[axis], pads[axis], dilation[axis], rounds_down(padding, remainder)
        )
    return correlate_maps(x[None], w[None, None], stride, pads, dilation)[0]


def convolve(
    x: Array,
    w: Array,
    padding: Padding = "narrow",
    stride: int | Pair = 1,
    dilation: int | Pair = 1,
    remainder: Remainder = "error",
) -> Array:
    """The true convolution W * X = rot180(W) ⊗ X: flip, slide, add.                                       (A1)

    >>> convolve(np.array([1, 2, 3, 4]), np.array([1, 0, -1]))
    array([2, 2])
    """
    return correlate(x, rot180(np.asarray(w)), padding, stride, dilation, remainder)


def convolution_matrix(
    w: Array, shape: Shape, stride: int | Pair = 1, padding: Padding = 0, dilation: int | Pair = 1
) -> Array:
    """The matrix A with A @ x.ravel() == y.ravel(): the convolution as a fully connected layer.           (A6)

    w (F,C,KH,KW), shape (C,H,W) -> A (F·OH·OW, C·H·W). Two things tell it from a dense layer's matrix: it is
    sparse (a row has C·KH·KW entries that are not zero by construction, however large the image) and its weights
    are shared (each row of one filter holds the same numbers, moved along). Column k is the answer to an image
    whose only pixel is k. Positions that a stride leaves over are dropped.
    """
    if w.ndim != 4 or len(shape) != 3 or w.shape[1] != shape[0]:
        raise ShapeError(
            f"a kernel of {text(w.shape)} does not fit maps of {text(shape)}: give (F,C,KH,KW) and (C,H,W)"
        )
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    pads = resolve_padding(padding, (shape[1], shape[2]), (w.shape[2], w.shape[3]), stride, dilation)
    for axis in (0, 1):
        output_size(shape[1 + axis], w.shape[2 + axis], stride[axis], pads[axis], dilation[axis], "floor")
    pixels = int(np.prod(shape))
    one_pixel_each = np.eye(pixels, dtype=w.dtype).reshape(pixels, *shape)
    return correlate_maps(one_pixel_each, w, stride, pads, dilation).reshape(pixels, -1).T


# --- signals (A4) ----------------------------------------------------------------------------------------------


def decaying_echo(x: Array, decay: Sequence[float] = (1.0, 1 / 2, 1 / 4)) -> Array:
    """y_t = Σ_k decay[k] x_{t-k}: what is heard at t, the echo of k steps ago weakened by decay[k].

    As long as x: before its start there was silence.
    """
    x = np.asarray(x)
    weights = np.asarray(decay, np.result_type(x, np.float32))
    return correlate(x, rot180(weights), padding=(len(weights) - 1, 0))


def moving_average(x: Array, length: int) -> Array:
    """y_t = the mean of `length` neighbours; length-1 shorter than x."""
    x = np.asarray(x)
    return correlate(x, np.full(length, 1 / whole(length, "the length"), np.result_type(x, np.float32)))


def second_difference(x: Array) -> Array:
    """x''(t) ≈ x(t+1) - 2 x(t) + x(t-1); two shorter than x."""
    x = np.asarray(x)
    return correlate(x, np.array([1, -2, 1], np.result_type(x, np.int8)))  # signed, whatever x is
