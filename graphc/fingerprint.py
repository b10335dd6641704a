"""What tells states of the software apart: graphc's own text, and the packages that it computes with."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import lru_cache
from importlib.util import find_spec

_PACKAGES = ("numpy", "numba", "llvmlite", "onnx", "ml_dtypes", "yaml", "safetensors")


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Of graphc's own text and of the packages that it computes with."""
    digest = hashlib.sha256(sys.version.encode())
    root = os.path.dirname(os.path.abspath(__file__))
    for folder, below, files in os.walk(root, followlinks=True):  # in a checkout, frontends and backends are links
        below[:] = sorted(d for d in below if d != "__pycache__")
        for name in sorted(f for f in files if f.endswith(".py")):
            with open(os.path.join(folder, name), "rb") as f:
                digest.update(name.encode() + b"\0" + f.read())
    for package in _PACKAGES:
        digest.update(package_version(package))
    return digest.hexdigest()


def package_version(package: str) -> bytes:
    """What tells versions of a package apart, without importing it (importlib.metadata is slow to load)."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return b"none"
    for name in ("_version.py", "version.py", "version.txt"):
        path = os.path.join(os.path.dirname(spec.origin), name)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                return f.read()
    info = os.stat(spec.origin)
    return f"{info.st_size} {info.st_mtime_ns}".encode()
