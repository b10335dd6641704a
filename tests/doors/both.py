"""One call on two modules: what it gives, or how it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

onnxruntime.set_default_logger_severity(4)  # else it prints what it raises
X = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4)


def outcome(function: Callable[[ModuleType], Any], ort: ModuleType) -> Any:
    """What it gives, or the exception: its name and the first line of what it says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = plain(function(ort))
        except Exception as error:
            return type(error).__name__, str(error).splitlines()[0]
    return found, sorted({str(w.message).split("Available")[0] for w in caught})


def plain(value: Any) -> Any:
    """Comparable by ==."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value
