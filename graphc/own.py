"""Operators that users register, and the files that bring them. Installed packages do, too: graphc/installed.py."""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from graphc.errors import GraphcError, LoadError, Location, TypeRuleError

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


@contextmanager
def mistakes(name: str, part: str, *passing: type[Exception]) -> Iterator[None]:
    """Raises GraphcError with the user's file and line where a function fails that belongs to the operator of that name and comes
    from outside of graphc. part: the field of its record that holds the function. passing: no mistakes."""
    try:
        yield
    except passing:
        raise
    except GraphcError as error:
        if name in FILES and part == "expand":  # of a node of the expansion, which is in no file of a model
            error.located(op=name, source=_place(error, FILES[name]))
        raise
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        if name not in FILES:
            raise
        kind = TypeRuleError if part == "infer" else GraphcError
        raise mistake(name, f"its `{part}` fails: {type(error).__name__}: {error}", error, kind) from error


def mistake(
    name: str, text: str, error: BaseException | None = None, kind: type[GraphcError] = GraphcError
) -> GraphcError:
    """What is told of an operator from a user's file that is not as it should be. error: whose line is told."""
    frozen = isinstance(error, ValueError) and "read-only" in str(error)
    return kind(
        text,
        hint="operands belong to the model: a result is an array of its own"
        if frozen
        else f"`graphc test {os.path.basename(FILES[name])}` tries it with small operands",
        op=name,
        source=_place(error, FILES[name]),
    )


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
    if not os.path.exists(name):
        raise LoadError(f"'{os.fspath(path)}' does not exist")
    if spec is None or spec.loader is None or not os.path.isfile(name):
        raise LoadError(f"'{os.fspath(path)}' is no Python file", hint="a file that registers operators ends in .py")
    module = sys.modules[stem] = module_from_spec(spec)
    sys.path.insert(0, folder)  # as Python does for a program: what lies beside the file is imported by its name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[stem]
        ends = isinstance(error, SystemExit)
        hint = "what is for a program only goes below: if __name__ == '__main__':" if ends else None
        raise LoadError(f"{type(error).__name__}: {error}", hint=hint, source=_place(error, name)) from error
    finally:
        sys.path.remove(folder)


def _place(error: BaseException | None, name: str) -> Location:
    if error is None:
        return Location(name)
    if isinstance(error, SyntaxError) and error.filename:
        return Location(error.filename, f"line {error.lineno}")
    lines = [f"line {f.lineno}" for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
    return Location(name, lines[-1] if lines else None)
