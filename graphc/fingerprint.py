"""What tells states of the software apart: graphc's own text, and the packages that it computes with."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any

from graphc.documents import Stamp, stamp_of
from graphc.installed import load_installed
from graphc.own import PARTS
from graphc.store import open_store

_PACKAGES = ("numpy", "numba", "llvmlite", "onnx", "ml_dtypes", "yaml", "safetensors")
_NO_PART = ("__pycache__", "docs", "examples")  # of what computes
_ROOT = os.path.dirname(os.path.abspath(__file__))


def fingerprint() -> str | None:
    """Of graphc's own text, of the packages that it computes with, and of operators that users have registered. None where these
    read what can't be told from what they read another time."""
    load_installed()
    if not PARTS:
        return _of_graphc()
    from graphc.code_digest import Unknown, code_digest

    try:
        return f"{_of_graphc()} {code_digest(*PARTS)}"
    except Unknown:
        return None


@lru_cache(maxsize=1)
def _of_graphc() -> str:
    """The text is read where one of its files has changed since somebody read it last."""
    store = open_store()
    read = partial(text_digest, _ROOT)
    text = read() if store is None else store.remembered(_ROOT, partial(text_stamp, _ROOT), read)
    digest = hashlib.sha256(f"{sys.version} {text}".encode())
    for package in _PACKAGES:
        digest.update(package_version(package))
    return digest.hexdigest()


def text_digest(root: str) -> str:
    """Of all Python files below a folder, and their names."""
    digest = hashlib.sha256()
    for path, *_ in _sources(root):
        with open(path, "rb") as f:
            digest.update(f"{path.removeprefix(root)}\0".encode("utf-8", "surrogateescape") + f.read())
    return digest.hexdigest()


def text_stamp(root: str) -> Stamp:
    """What changes when one of these files does, or there are others."""
    sources = _sources(root)
    _, sizes, modified, changed, *_ = zip(*sources)
    whole = hashlib.sha256(repr(sources).encode("utf-8", "surrogateescape")).digest()
    return [sum(sizes), max(modified), max(changed), int.from_bytes(whole, "big")]


def _sources(root: str) -> list[tuple[Any, ...]]:
    """The files in order, each with its stamp."""
    found: list[tuple[Any, ...]] = []

    def visit(folder: str) -> None:
        fd = os.open(folder, os.O_RDONLY)  # names are then looked up here, and not from the root for each
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        found.append((f"{folder}/{entry.name}", *stamp_of(entry.stat())))
                    elif entry.name not in _NO_PART and entry.is_dir():  # in a checkout, parts are links
                        visit(f"{folder}/{entry.name}")
        finally:
            os.close(fd)

    visit(root)
    return sorted(found)


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
