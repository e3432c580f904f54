"""Answers for one image: rot180 (frozen), PyTorch in both layouts, and onnxruntime, in turns in one process.

    python benchmarks/inference.py [lenet-5 | resnet-18 ...] [--threads 2] [--rounds 7]

Needs torch, onnx and onnxruntime. All sides run the same graph on the same parameters; their answers must agree.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from rot180 import models
from rot180.arrays import Array, pair
from rot180.layers import (
    Add,
    BatchNormalization,
    Convolution,
    Dense,
    GlobalAveragePooling,
    MaxPooling,
    ReLU,
    ScalePixels,
)
from rot180.network import Network
from rot180.summary import summarize
from rot180.torch_twin import TorchTwin

ROUND_SECONDS = 0.4
TOLERANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["lenet-5", "resnet-18"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.networks:
        graph = models.build(name, 1000 if name == "resnet-18" else 10)
        compare(name, Network(graph, seed=1, threads=arguments.threads), arguments.threads, arguments.rounds)


def compare(name: str, network: Network, threads: int, rounds: int) -> None:
    """Time all sides and print."""
    shape = (1, *network.graph.input_shape)
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.float32)
    frozen, session = network.frozen(threads), onnx_session(network, threads)
    sides: dict[str, Callable[[], Array]] = {
        "rot180": lambda: frozen(image),
        "PyTorch contiguous": torch_side(network, image, torch.contiguous_format),
        "PyTorch channels_last": torch_side(network, image, torch.channels_last),
        "onnxruntime": lambda: session.run(None, {"image": image})[0],
    }
    answer = sides["PyTorch contiguous"]()
    for side, run in sides.items():
        error = float(np.abs(np.asarray(run()) - answer).max() / np.abs(answer).max())
        if error > TOLERANCE:
            raise SystemExit(f"{name}: {side} answers otherwise, by {error:.1e}")
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            times[side].append(once(run))
    work = 2.0 * summarize(network.graph).multiply_adds
    print(f"{name}, one image, {threads} threads: {work / 1e6:.1f} MFLOP")
    medians = {side: statistics.median(each) for side, each in times.items()}
    for side, seconds in medians.items():
        print(f"  {side:22} {1e6 * seconds:10.1f} us  {work / seconds / 1e9:7.1f} GFLOP/s")
    best_torch = min(medians["PyTorch contiguous"], medians["PyTorch channels_last"])
    print(f"  ratio to PyTorch's better layout {best_torch / medians['rot180']:.2f}")
    print(f"  ratio to onnxruntime {medians['onnxruntime'] / medians['rot180']:.2f}", flush=True)


def once(run: Callable[[], Any]) -> float:
    """The mean time of a call over one round."""
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < ROUND_SECONDS:
        run()
        calls += 1
    return (time.perf_counter() - began) / calls


def torch_side(network: Network, image: Array, form: Any) -> Callable[[], Array]:
    """PyTorch in one memory layout."""
    twin, x = TorchTwin(network, form), torch.from_numpy(image).contiguous(memory_format=form)

    def run() -> Array:
        with torch.inference_mode():
            return twin.scores(x).numpy()

    return run


def onnx_session(network: Network, threads: int) -> onnxruntime.InferenceSession:
    """The network's graph in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    model = onnx_model(network).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_model(network: Network) -> onnx.ModelProto:
    """The layers of the networks compared here, as ONNX operators."""
    graph, weights, nodes = network.graph, [], []

    def constant(name: str, values: Array) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def own(name: str, *parameters: str) -> list[str]:
        return [constant(f"{name}.{each}", network[f"{name}.{each}"]) for each in parameters]

    for node in graph:
        layer, name, x = node.layer, node.name, list(node.inputs)
        shape = graph.input_shape_of(node)
        match layer:
            case ScalePixels():
                factors, added = (each[:, None, None] for each in layer.by_channel(shape[0]))
                scale, shift = constant(f"{name}.scale", factors), constant(f"{name}.shift", added)
                nodes.append(helper.make_node("Mul", [x[0], scale], [f"{name}.scaled"]))
                nodes.append(helper.make_node("Add", [f"{name}.scaled", shift], [name]))
            case Convolution():
                (top, bottom), (left, right) = layer.pads(shape)
                settings = {"kernel_shape": pair(layer.size, "size"), "strides": pair(layer.stride, "stride")}
                inputs = x + own(name, "w", *(["b"] if layer.bias else []))
                nodes.append(helper.make_node("Conv", inputs, [name], pads=[top, left, bottom, right], **settings))
            case Dense():
                nodes.append(helper.make_node("Flatten", x, [f"{name}.flat"]))
                nodes.append(helper.make_node("Gemm", [f"{name}.flat", *own(name, "w", "b")], [name], transB=1))
            case MaxPooling():
                (top, bottom), (left, right) = layer.pads(shape)
                size, stride = layer.window(shape)
                settings = {"kernel_shape": size, "strides": stride, "pads": [top, left, bottom, right]}
                nodes.append(helper.make_node("MaxPool", x, [name], **settings))
            case BatchNormalization():
                inputs = x + own(name, "gamma", "beta", "running_mean", "running_variance")
                nodes.append(helper.make_node("BatchNormalization", inputs, [name], epsilon=layer.epsilon))
            case GlobalAveragePooling():
                nodes.append(helper.make_node("GlobalAveragePool", x, [name]))
            case ReLU():
                nodes.append(helper.make_node("Relu", x, [name]))
            case Add():
                nodes.append(helper.make_node("Add", x, [name]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *graph.input_shape])
    scores = helper.make_tensor_value_info(graph.output, TensorProto.FLOAT, None)
    whole = helper.make_graph(nodes, "network", [image], [scores], weights)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


if __name__ == "__main__":
    main()
