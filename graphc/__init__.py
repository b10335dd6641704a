"""graphc: a neural-network graph compiler. `graphc.compile("model.onnx")` gives a callable model."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["CheckError", "Graph", "GraphcError", "Model", "__version__", "compile"]


def compile(source: Any, **options: Any):  # noqa: A001  (the field's name)
    """Compile a model file, bytes, an onnx ModelProto or a Graph. See `graphc.compiler.compile` for the options."""
    from graphc.compiler import compile as run

    return run(source, **options)


def __getattr__(name: str) -> Any:  # the rest is loaded when first used, so that `import graphc` stays light
    if name == "Model":
        from graphc.model import Model

        return Model
    if name == "Graph":
        from graphc.graph import Graph

        return Graph
    if name in ("GraphcError", "CheckError"):
        from graphc import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'graphc' has no attribute '{name}'")
