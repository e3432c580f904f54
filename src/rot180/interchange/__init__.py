"""Networks for other programs and from them: ONNX. The package onnx is an extra, and imported where it is needed."""

from importlib.util import find_spec

from rot180.errors import Rot180Error


def require_onnx() -> None:
    """Raise Rot180Error, saying what to do, where the package onnx is not installed."""
    if find_spec("onnx") is None:
        raise Rot180Error("the package onnx is not installed: pip install 'rot180[onnx]'")
