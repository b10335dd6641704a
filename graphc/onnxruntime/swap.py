"""graphc in the place of the package onnxruntime, for modules that import it by that name."""

from __future__ import annotations

import sys
from importlib import import_module

from graphc.errors import GraphcError

HERE = __name__.rpartition(".")[0]
MODULES = (
    "",
    ".capi",
    ".capi._pybind_state",
    ".capi.onnxruntime_pybind11_state",
    ".capi.onnxruntime_inference_collection",
)


def install() -> None:
    """From now on `import onnxruntime` gives `graphc.onnxruntime`, in this process.

    Raises GraphcError where the other one is imported already: whoever did so keeps it.
    """
    known = sys.modules.get("onnxruntime")
    if known is not None and known.__name__ != HERE:
        hint = "call graphc.onnxruntime.install() before anything that imports it, or python -m graphc.onnxruntime script.py"
        raise GraphcError("onnxruntime is imported already", hint=hint)
    for name in MODULES:
        sys.modules[f"onnxruntime{name}"] = import_module(f"{HERE}{name}")


def uninstall() -> None:
    """From now on `import onnxruntime` gives the package of that name again."""
    for name in [
        n for n, m in sys.modules.items() if n.partition(".")[0] == "onnxruntime" and m.__name__.startswith(HERE)
    ]:
        del sys.modules[name]
