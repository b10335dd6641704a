"""What `onnxruntime_pybind11_state` has, by ONNX Runtime's other name for it."""

from graphc.onnxruntime.capi.onnxruntime_pybind11_state import *  # noqa: F403
