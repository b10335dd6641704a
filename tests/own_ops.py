"""Operators of users in a process of tests, which other tests must not meet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphc import op, own

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "my_ops.py"


@contextmanager
def forgotten() -> Iterator[None]:
    """What is registered and imported inside is gone afterwards."""
    op.all_ops()
    registry, parts, files, modules = dict(op._REGISTRY), [*own.PARTS], dict(own.FILES), {*sys.modules}
    try:
        yield
    finally:
        for kept, now in ((registry, op._REGISTRY), (files, own.FILES)):
            now.clear()
            now.update(kept)
        own.PARTS[:] = parts
        for name in {*sys.modules} - modules:
            if not name.startswith(("graphc", "numpy", "onnx", "numba", "llvmlite")):
                del sys.modules[name]
