"""Operators that users register: the files and the installed packages that bring them.

A package brings operators by an entry point of the group `graphc.operators`, whose value is the module that registers them.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
import warnings
from functools import lru_cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from graphc.documents import Stamp, stamp_of
from graphc.errors import GraphcWarning, LoadError, Location
from graphc.store import open_store

GROUP = "graphc.operators"
PARTS: list[Any] = []  # operators and lowerings that code outside of graphc has registered
FILES: dict[str, str] = {}  # where operators of these names were registered, if it was in a file


def file_outside() -> str | None:
    """The file of the code that has called graphc, '' where it is in none; None where it is graphc's own, which is being imported."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    if frame.f_globals.get("__name__", "").endswith("importlib._bootstrap"):
        return None
    return frame.f_globals.get("__file__", "")


def note(part: Any) -> None:
    """Remember an operator or a lowering, if code outside of graphc registers it: compiled models follow from it."""
    file = file_outside()
    if file is not None:
        PARTS.append(part)
    if file:
        FILES[getattr(part, "name", "")] = os.path.abspath(file)


def _is_ours(module: str) -> bool:
    return module == "graphc" or module.startswith("graphc.")


def load_file(path: str | os.PathLike[str]) -> None:
    """Import a Python file that registers operators, once in a process. Raises LoadError with the line where it fails."""
    name = os.path.realpath(path)
    known = [file for m in [*sys.modules.values()] if (file := getattr(m, "__file__", None))]
    if any(os.path.basename(file) == os.path.basename(name) and os.path.realpath(file) == name for file in known):
        return
    stem, folder = Path(name).stem, os.path.dirname(name)
    if stem in sys.modules:
        stem = f"{stem}_{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    spec = spec_from_file_location(stem, name)
    if spec is None or spec.loader is None or not os.path.isfile(name):
        raise LoadError(f"'{os.fspath(path)}' is no Python file", hint="a file that registers operators ends in .py")
    module = sys.modules[stem] = module_from_spec(spec)
    sys.path.insert(0, folder)  # as Python does for a program: what lies beside the file is imported by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[stem]
        raise LoadError(f"{type(error).__name__}: {error}", source=_place(error, name)) from error
    finally:
        sys.path.remove(folder)


def _place(error: Exception, name: str) -> Location:
    if isinstance(error, SyntaxError) and error.filename:
        return Location(error.filename, f"line {error.lineno}")
    lines = [f"line {f.lineno}" for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
    return Location(name, lines[-1] if lines else None)


@lru_cache(maxsize=1)
def load_installed() -> None:
    """Import what installed packages name as bringing operators. One that fails is a GraphcWarning: others go on."""
    for name, module in _entry_points():
        try:
            import_module(module)
        except Exception as error:
            said = f"operators of the installed package '{name}' are missing: {module}: {type(error).__name__}: {error}"
            warnings.warn(said, GraphcWarning, stacklevel=2)


def _entry_points() -> list[tuple[str, str]]:
    """(name, module) of each. Looking through all packages takes tens of milliseconds, so what was found is remembered."""
    store = open_store()
    found = _scan() if store is None else store.remembered(f"{GROUP} {sys.path}", _stamp, _scan)
    return [(name, module) for name, module in json.loads(found)]


def _scan() -> str:
    from importlib.metadata import entry_points

    return json.dumps([[e.name, e.value.partition(":")[0]] for e in sorted(entry_points(group=GROUP))])


def _stamp() -> Stamp:
    """What changes when a package is installed, or removed."""
    stamps: list[tuple[str, Stamp]] = []
    for folder in dict.fromkeys(sys.path):
        try:
            stamps.append((folder, stamp_of(os.stat(folder or "."))))
        except OSError:
            continue
    text = repr(stamps).encode("utf-8", "surrogateescape")
    last = max((max(stamp[1:3]) for _, stamp in stamps), default=0)
    return [len(stamps), last, last, int.from_bytes(hashlib.sha256(text).digest(), "big")]
