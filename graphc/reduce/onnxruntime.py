"""What ONNX Runtime makes of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from graphc.errors import InputError, MissingPackageError
from graphc.graph import Graph


def run(source: Graph | str, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Results by name. source: a graph, which is written as ONNX, or the path of an ONNX file. Raises MissingPackageError
    without ONNX Runtime, and InputError where it does not take the model."""
    try:
        ort: Any = import_module("onnxruntime")
    except ImportError as error:
        raise MissingPackageError(f"ONNX Runtime is not installed: {error}", hint="pip install onnxruntime") from None
    if isinstance(source, Graph):
        from graphc.frontends.onnx_export import to_onnx

        model: Any = to_onnx(source).SerializeToString()
    else:
        model = source
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        given = {i.name: feeds[i.name] for i in session.get_inputs() if i.name in feeds}
        results = session.run(None, given)
    except Exception as error:  # its errors have no base class of their own
        if isinstance(error, (KeyboardInterrupt, MemoryError)):
            raise
        raise InputError(f"ONNX Runtime does not run it: {error}") from error
    return dict(zip(source.output_names if isinstance(source, Graph) else names, results))
