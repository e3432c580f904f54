"""Is a model that was written what it should be? By the ONNX project's checker and, where installed, by onnxruntime."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx

from rot180.arrays import Array
from rot180.errors import ModelFileError

TOLERANCE = 1e-4  # of the largest score: rounding through a hundred layers stays below, a wrong operator does not


def check(content: bytes, images: Array, scores: Array) -> None:
    """Raise ModelFileError where the model is not valid, or onnxruntime finds other scores for the images."""
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelFileError(f"the model is not valid ONNX: {error}") from error
    if find_spec("onnxruntime"):
        difference = relative_difference(run(content, images)[0], scores)
        if not difference <= TOLERANCE:
            raise ModelFileError(f"onnxruntime finds other scores: they differ by {difference:.1e} of the largest")


def run(content: bytes, images: Array) -> list[Array]:
    """What onnxruntime finds, on one thread: the model's outputs."""
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: images.astype(np.float32)}))


def relative_difference(found: Array, expected: Array) -> float:
    """The largest difference of two arrays, as a share of the largest value expected; NaN where there is one."""
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
