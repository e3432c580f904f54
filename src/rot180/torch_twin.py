"""A network's graph run by PyTorch on copies of its parameters: to compare speed, and gradients, with another system.

PyTorch is imported when a twin is made, and is no dependency: Rot180Error says so where it is missing.
"""

import operator
from collections.abc import Callable
from math import prod
from typing import Any

from rot180.arrays import Pair, pair
from rot180.convolve import Pads
from rot180.errors import Rot180Error, SettingError
from rot180.graph import IMAGE, LABEL
from rot180.layers import (
    ELU,
    Add,
    Affine,
    Arithmetic,
    AveragePooling,
    BatchNormalization,
    ChannelShuffle,
    Clip,
    Concatenate,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    HighwayGate,
    Identity,
    Layer,
    LeakyReLU,
    LocallyConnected,
    LocalResponseNormalization,
    LogSoftmax,
    MaxPooling,
    Pad,
    ParametricReLU,
    RadialBasisLoss,
    RadialBasisOutput,
    ReLU,
    Reshape,
    ScaledTanh,
    ScalePixels,
    Sigmoid,
    Softmax,
    SoftmaxCrossEntropy,
    Softplus,
    SquaredError,
    TableConvolution,
    Tanh,
    TrainableSubsampling,
    Transpose,
)
from rot180.layers.pooling import Pooling
from rot180.network import Network

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
}
PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def import_torch() -> Any:
    """PyTorch; Rot180Error where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise Rot180Error("PyTorch is not installed: pip install torch, to have something to compare with") from error
    return torch


class TorchTwin:
    """The graph, by PyTorch's own functions and its automatic differentiation.

    form: the memory format of images and kernels, as PyTorch has them. Dropout leaves out other values than rot180's.
    """

    def __init__(self, network: Network, form: Any = None) -> None:
        torch = import_torch()
        self._graph = network.graph
        self._for_output = network.graph.needed_for(network.graph.output)
        self._values: dict[str, dict[str, Any]] = {}
        for layout, vector in (
            (network.layout, network.parameters),
            (network.statistics_layout, network.statistics),
        ):
            for node, arrays in layout.views(vector).items():
                for name, array in arrays.items():
                    value = torch.from_numpy(array.copy())
                    if form is not None and value.ndim == 4:
                        value = value.contiguous(memory_format=form)
                    value.requires_grad_(layout is network.layout)
                    self._values.setdefault(node, {})[name] = value

    def learned(self) -> list[Any]:
        """The parameters, for an optimiser."""
        return [value for arrays in self._values.values() for value in arrays.values() if value.requires_grad]

    def parameter(self, node: str, name: str) -> Any:
        """One parameter, with its gradient after a backward pass."""
        return self._values[node][name]

    def scores(self, images: Any) -> Any:
        """The output node's values in inference."""
        outputs = {IMAGE: images}
        for node in self._graph:
            if node.name in self._for_output:
                x = [outputs[name] for name in node.inputs]
                outputs[node.name] = torch_layer(node.layer, x, self._values.get(node.name, {}), training=False)
        return outputs[self._graph.output]

    def loss(self, images: Any, labels: Any) -> Any:
        """The loss, layers behaving as in training."""
        outputs = {IMAGE: images, LABEL: labels}
        for node in self._graph:
            x = [outputs[name] for name in node.inputs]
            outputs[node.name] = torch_layer(node.layer, x, self._values.get(node.name, {}), training=True)
        return outputs[self._graph.nodes[-1].name]


def torch_layer(layer: Layer, x: list[Any], p: dict[str, Any], training: bool) -> Any:
    """One layer by PyTorch's own function, on tensors; x is the list of its inputs, p its parameters by name."""
    torch = import_torch()
    f: Any = torch.nn.functional
    match layer:
        case ScalePixels():
            shape = -1, *(1,) * (x[0].ndim - 2)
            scale, low = (torch.tensor(each, dtype=x[0].dtype) for each in layer.by_channel(x[0].shape[1]))
            return x[0] * scale.reshape(shape) + low.reshape(shape)
        case Convolution():
            maps, padding = _padded(f, x[0], layer.pads(tuple(x[0].shape[1:])))
            stride, dilation = pair(layer.stride, "stride"), pair(layer.dilation, "dilation")
            return f.conv2d(maps, p["w"], p.get("b"), stride, padding, dilation, layer.groups)
        case TableConvolution():
            filters, maps = layer.links
            kernel = torch.zeros(len(layer.table), x[0].shape[1], *p["w"].shape[1:], dtype=p["w"].dtype)
            kernel = kernel.index_put((torch.tensor(filters), torch.tensor(maps)), p["w"])
            return torch_layer(layer.whole, x, {**p, "w": kernel}, training)
        case LocallyConnected():
            maps, padding = _padded(f, x[0], layer.pads(tuple(x[0].shape[1:])))
            height, width, count = p["w"].shape[:3]
            windows = f.unfold(maps, pair(layer.size, "size"), padding=padding, stride=pair(layer.stride, "stride"))
            y = torch.einsum("nds,sfd->nfs", windows, p["w"].reshape(height * width, count, -1))
            y = y.reshape(len(y), count, height, width)
            return y + p["b"] if layer.bias else y
        case Dense():
            return f.linear(x[0].flatten(1), p["w"], p.get("b"))
        case MaxPooling():
            return _max_pooling(f, layer, x[0])
        case AveragePooling():
            return _average_pooling(f, layer, x[0])
        case TrainableSubsampling():
            total = _average_pooling(f, layer, x[0]) * prod(layer.window(tuple(x[0].shape[1:])).size)
            return total * p["w"][:, None, None] + p["b"][:, None, None]
        case GlobalAveragePooling():
            return x[0].mean((2, 3))
        case BatchNormalization():
            means = p["running_mean"], p["running_variance"]
            return f.batch_norm(x[0], *means, p["gamma"], p["beta"], training, layer.momentum, layer.epsilon)
        case LocalResponseNormalization(size, alpha, beta, k):
            return f.local_response_norm(x[0], size, alpha * size, beta, k)
        case Affine():
            y = x[0] * p["w"] if layer.scale else x[0]
            return y + p["b"] if layer.shift else y
        case Dropout(rate):
            return f.dropout(x[0], rate, training)
        case Identity():
            return x[0]
        case ReLU():
            return f.relu(x[0])
        case LeakyReLU(slope):
            return f.leaky_relu(x[0], slope)
        case Sigmoid():
            return torch.sigmoid(x[0])
        case Tanh():
            return torch.tanh(x[0])
        case ScaledTanh():
            return 1.7159 * torch.tanh(x[0] * (2 / 3))
        case ELU(alpha, scale):
            return scale * f.elu(x[0], alpha)
        case Softplus():
            return f.softplus(x[0])
        case Clip(low, high):
            return x[0] if low is high is None else torch.clamp(x[0], low, high)
        case HardSigmoid(gain, offset):
            return torch.clamp(gain * x[0] + offset, 0, 1)
        case HardSwish():
            return f.hardswish(x[0])
        case ParametricReLU():
            return torch.where(x[0] > 0, x[0], p["a"] * x[0])
        case Softmax():
            return torch.softmax(x[0], 1)
        case LogSoftmax():
            return torch.log_softmax(x[0], 1)
        case Reshape(shape):
            return x[0].reshape(len(x[0]), *shape)
        case Transpose(axes):
            return x[0].permute(0, *(axis + 1 for axis in axes))
        case ChannelShuffle(groups):
            return f.channel_shuffle(x[0], groups)
        case Pad():
            (top, bottom), (left, right) = layer.pads(tuple(x[0].shape[1:]))
            value = layer.value if layer.mode == "constant" else None
            return f.pad(x[0], (left, right, top, bottom), PAD_MODES[layer.mode], value)
        case Add():
            return sum(x[1:], start=x[0])
        case Arithmetic(operation):
            return ARITHMETIC[operation](*x)
        case Concatenate():
            return torch.cat(x, 1)
        case HighwayGate():
            h, t, carried = x
            return h * t + carried * (1 - t)
        case RadialBasisOutput():
            return -(x[0][:, None] - torch.from_numpy(layer.w).to(x[0].dtype)).square().sum(2)
        case RadialBasisLoss(rubbish):
            loss = -x[0].gather(1, x[1][:, None])[:, 0]
            if rubbish is not None:
                loss = loss + torch.logsumexp(f.pad(x[0], (0, 1), value=-rubbish), 1)
            return loss.mean()
        case SoftmaxCrossEntropy(weights, smoothing):
            *heads, labels = x
            losses = [f.cross_entropy(z, labels, label_smoothing=smoothing) for z in heads]
            return sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        case SquaredError(off_target):
            target = torch.full_like(x[0], off_target).scatter(1, x[1][:, None], 1.0)
            return (x[0] - target).square().sum() / (2 * len(target))
    raise SettingError(f"the comparison knows no {type(layer).__name__} of PyTorch's")


def _padded(f: Any, x: Any, pads: Pads) -> tuple[Any, Pair]:
    """The maps, and what PyTorch's function shall pad: it cannot pad one end more than the other."""
    (top, bottom), (left, right) = pads
    if (top, left) == (bottom, right):
        return x, (top, left)
    return f.pad(x, (left, right, top, bottom)), (0, 0)


def _max_pooling(f: Any, layer: Pooling, x: Any) -> Any:
    shape = tuple(x.shape[1:])
    size, stride, pads = pair(layer.size, "size"), layer.window(shape).stride, layer.pads(shape)
    dilation = pair(layer.dilation, "dilation")
    before = pads[0][0], pads[1][0]
    if all(2 * each <= most for each, most in zip(before, size, strict=True)):
        y = f.max_pool2d(x, size, stride, before, dilation, ceil_mode=any(first < last for first, last in pads))
        if tuple(y.shape[1:]) == layer.output_shape(shape):  # rounding up is padding the end: no copy
            return y
    maps = f.pad(x, (*pads[1], *pads[0]), value=float("-inf"))  # PyTorch itself pads half a window at most
    return f.max_pool2d(maps, size, stride, 0, dilation)


def _average_pooling(f: Any, layer: Pooling, x: Any) -> Any:
    """The mean over a window's places; over those that count, where only some of the padding does."""
    shape = tuple(x.shape[1:])
    pads, stride = layer.pads(shape), layer.window(shape).stride
    mean = _mean(f, _around(f, x, pads), pair(layer.size, "size"), stride, pair(layer.dilation, "dilation"))
    if not isinstance(layer, AveragePooling) or layer.counted is None:
        return mean
    counted = layer.counted_pads(shape)
    others = tuple((a - c, b - d) for (a, b), (c, d) in zip(pads, counted, strict=True))
    counts = _around(f, _around(f, x.new_ones((1, 1, *shape[1:])), counted, 1.0), others)
    return mean / _mean(f, counts, pair(layer.size, "size"), stride, pair(layer.dilation, "dilation"))


def _around(f: Any, x: Any, pads: Any, value: float = 0.0) -> Any:
    (top, bottom), (left, right) = pads
    return f.pad(x, (left, right, top, bottom), value=value) if any((top, bottom, left, right)) else x


def _mean(f: Any, x: Any, size: Pair, stride: Pair, dilation: Pair) -> Any:
    """Over each window; with gaps in it by a convolution of each map for itself, since PyTorch pools without."""
    if dilation == (1, 1):
        return f.avg_pool2d(x, size, stride)
    kernel = x.new_full((x.shape[1], 1, *size), 1 / prod(size))
    return f.conv2d(x, kernel, None, stride, 0, dilation, x.shape[1])
