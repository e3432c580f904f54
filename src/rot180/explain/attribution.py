"""Which parts of an image a network's answer rests on: maps of what a class's score is sensitive to.

All but occlusion are one backward pass from one score to the image, by the layers' own gradients. Three differ only in
what a ReLU y = max(0, x) hands back of dy:

    saliency                 dy where x > 0                  the gradient itself
    deconvnet                dy where dy > 0                 as if going back up were one more ReLU
    guided backpropagation   dy where x > 0 and dy > 0       both: what spoke, and speaks for the class

ReLU6, a Clip from 0 to 6, is one too: x is then below its ceiling as well. In a network without ReLUs all three are the
gradient. Each takes one image (C,H,W), as the network does, and a label;
without one, that of the class which wins. ShapeError and DataError as from Network.
"""

import numpy as np

from rot180.arrays import Array, Pair, pair
from rot180.errors import SettingError
from rot180.graph import IMAGE
from rot180.network import Network, Trace

AT_ONCE = 64  # images with something covered, at most


def feature_maps(network: Network, image: Array) -> dict[str, Array]:
    """What every node that leads to the scores makes of the image: (C,H,W) or (D,), by name."""
    outputs = network.score_gradients(image).outputs
    return {name: values[0] for name, values in outputs.items() if name != IMAGE}


def saliency(network: Network, image: Array, label: int | None = None) -> Array:
    """∂score/∂image, (C,H,W): how much the score grows for each pixel that grows. Simonyan et al. 2014."""
    return network.score_gradients(image, label).gradients[IMAGE][0]


def deconvnet(network: Network, image: Array, label: int | None = None) -> Array:
    """The score sent back to the pixels, (C,H,W), ReLUs passing what is above 0. Zeiler and Fergus 2014."""
    return network.score_gradients(image, label, _deconvnet).gradients[IMAGE][0]


def guided_backpropagation(network: Network, image: Array, label: int | None = None) -> Array:
    """The gradient, (C,H,W), ReLUs passing what is above 0 where they were open. Springenberg et al. 2015."""
    return network.score_gradients(image, label, _guided).gradients[IMAGE][0]


def grad_cam(network: Network, image: Array, label: int | None = None, node: str | None = None) -> Array:
    """max(0, Σ_k α_k A_k), (H',W') of the maps A of a node, α_k = 1/(H'·W') Σ_ij ∂score/∂A_kij.

    node: which maps; without, the last that are larger than one pixel. SettingError where there are none.
    Selvaraju et al. 2017.
    """
    node = node or last_maps(network)
    if node is None or len(network.graph.shapes.get(node, ())) != 3:
        raise SettingError(f"Grad-CAM weighs maps: {node or 'the network'} has none larger than one pixel")
    trace = network.score_gradients(image, label)
    if node not in trace.gradients:
        raise SettingError(f"the scores do not depend on {node!r}: choose another node")
    return weighed_maps(trace, node)


def weighed_maps(trace: Trace, node: str) -> Array:
    """Grad-CAM's map, where the score's gradients are known already."""
    maps, weights = trace.outputs[node][0], trace.gradients[node][0].mean(axis=(1, 2))
    return np.maximum(np.tensordot(weights, maps, 1), 0)  # (C') with (C',H',W') -> (H',W')


def last_maps(network: Network) -> str | None:
    """The last node on the way to the scores whose output is maps of more than one pixel."""
    graph = network.graph
    needed = graph.needed_for(graph.output)
    names = [each.name for each in graph if each.name in needed and len(graph.shapes[each.name]) == 3]
    return next((name for name in reversed(names) if graph.shapes[name][1:] != (1, 1)), None)


def occlusion(
    network: Network,
    image: Array,
    label: int | None = None,
    size: int | Pair | None = None,
    stride: int | Pair | None = None,
    fill: Array | float | None = None,
) -> Array:
    """By how much the score falls when a window is covered, (H,W): of each pixel the mean over the windows on it.

    size, stride: of the window, (rows, columns); without, about a seventh of the image and half of that. The last
    windows end with the image. fill: what covers it, one number or one for each channel; without, the image's mean.
    A pixel that no window covers has 0. Zeiler and Fergus 2014, figure 7.
    """
    image = np.asarray(image, network.dtype)
    scores = network(image)
    label = int(scores[0].argmax()) if label is None else label
    if not 0 <= label < scores.shape[1]:
        raise SettingError(f"there is no class {label}: choose from 0 to {scores.shape[1] - 1}")
    image = image.reshape(network.graph.input_shape)
    _, height, width = image.shape
    size = pair(size or (max(1, round(height / 7)), max(1, round(width / 7))), "size")
    stride = pair(stride or (max(1, size[0] // 2), max(1, size[1] // 2)), "stride")
    cover = image.mean(axis=(1, 2)) if fill is None else np.broadcast_to(np.asarray(fill, image.dtype), len(image))
    windows = [
        (slice(top, top + size[0]), slice(left, left + size[1]))
        for top in _starts(height, size[0], stride[0])
        for left in _starts(width, size[1], stride[1])
    ]
    falls, count = np.zeros((height, width)), np.zeros((height, width))
    parts = -(-len(windows) // AT_ONCE)  # about equal: a few left over would need kernels of their own
    for k in range(parts):
        part = windows[len(windows) * k // parts : len(windows) * (k + 1) // parts]
        covered = np.repeat(image[None], len(part), axis=0)
        for each, (rows, columns) in zip(covered, part, strict=True):
            each[:, rows, columns] = cover[:, None, None]
        for (rows, columns), score in zip(part, network(covered)[:, label], strict=True):
            falls[rows, columns] += float(scores[0, label]) - float(score)
            count[rows, columns] += 1
    return falls / np.maximum(count, 1)


def _starts(length: int, size: int, stride: int) -> range:
    """Where windows begin, until one reaches the end."""
    return range(0, max(length - size, 0) + stride, stride)


def _deconvnet(dy: Array, _: Array) -> Array:
    return np.maximum(dy, 0)


def _guided(dy: Array, slope: Array) -> Array:
    return np.maximum(dy, 0) * slope
