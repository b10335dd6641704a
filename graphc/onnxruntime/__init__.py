"""ONNX Runtime's Python API on graphc: `import graphc.onnxruntime as ort` in the place of `import onnxruntime as ort`.

>>> session = ort.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
>>> (y,) = session.run(None, {session.get_inputs()[0].name: x})

Where another package imports onnxruntime: `graphc.onnxruntime.install()` before it is imported, or
`python -m graphc.onnxruntime script.py`. docs/front-doors.md says what there is, and what differs.
"""

from __future__ import annotations

import warnings
from typing import Any

import graphc.onnxruntime.capi._pybind_state
import graphc.onnxruntime.capi.onnxruntime_inference_collection  # noqa: F401  (attributes, as in ONNX Runtime)
from graphc.errors import GraphcWarning
from graphc.onnxruntime.binding import IOBinding as IOBinding
from graphc.onnxruntime.nodes import ModelMetadata as ModelMetadata
from graphc.onnxruntime.nodes import NodeArg as NodeArg
from graphc.onnxruntime.options import ExecutionMode as ExecutionMode
from graphc.onnxruntime.options import ExecutionOrder as ExecutionOrder
from graphc.onnxruntime.options import GraphOptimizationLevel as GraphOptimizationLevel
from graphc.onnxruntime.options import RunOptions as RunOptions
from graphc.onnxruntime.options import SessionOptions as SessionOptions
from graphc.onnxruntime.options import get_all_providers as get_all_providers
from graphc.onnxruntime.options import get_available_providers as get_available_providers
from graphc.onnxruntime.options import set_global_thread_pool_sizes as set_global_thread_pool_sizes
from graphc.onnxruntime.session import InferenceSession as InferenceSession
from graphc.onnxruntime.swap import install as install
from graphc.onnxruntime.swap import uninstall as uninstall
from graphc.onnxruntime.values import OrtDevice as OrtDevice
from graphc.onnxruntime.values import OrtValue as OrtValue

__version__ = "1.32.0"  # of ONNX Runtime, whose API this is: what packages ask for when they ask for a version


def get_version_string() -> str:
    return __version__


def get_build_info() -> str:
    return f"graphc {graphc.__version__} with the API of ONNX Runtime {__version__}"


def get_device() -> str:
    return "CPU"


def set_default_logger_severity(severity: int) -> None:
    """graphc has no log: what it has to say are Python's warnings."""


def set_default_logger_verbosity(verbosity: int) -> None:
    """As above."""


def enable_telemetry_events() -> None:
    """There are none."""


disable_telemetry_events = enable_telemetry_events


def set_seed(seed: int) -> None:
    """Warns: graphc's random operators draw other numbers than ONNX Runtime's."""
    warnings.warn(GraphcWarning("set_seed has no effect: random operators draw by graphc's own seeds"), stacklevel=2)


def preload_dlls(*args: Any, **kwargs: Any) -> None:
    """There are none to load."""
