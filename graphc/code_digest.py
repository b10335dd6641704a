"""A digest of what functions do: of their code, and of all that it reads. Not of files, which may have changed since they were
imported."""

from __future__ import annotations

import enum
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cached_property, partial
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

KNOWN = frozenset({"graphc", "numpy", "numba", "llvmlite", "onnx", "ml_dtypes", "yaml", "safetensors"})
"""Packages whose text or version tells states of graphc apart already (graphc/fingerprint.py)."""


class Unknown(Exception):
    """A value of which nobody knows what it holds."""


def code_digest(*values: Any) -> str:
    """Of functions, and records and objects that hold some. Raises Unknown where code reads what can't be told by its parts."""
    reader = _Reader()
    for value in values:
        reader.value(value)
    return reader.digest.hexdigest()


def _is_known(module: str | None) -> bool:
    top = (module or "").partition(".")[0]
    return top in KNOWN or top in sys.stdlib_module_names and top != "__main__"


class _Reader:
    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._seen: dict[int, Any] = {}  # holds what was read, so that no other value gets its id

    def _say(self, *texts: object) -> None:
        self.digest.update("\0".join(map(repr, texts)).encode("utf-8", "surrogateescape") + b"\1")

    def value(self, value: Any) -> None:
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, type(...), np.generic, np.dtype)):
            self._say(type(value).__name__, value)
        elif id(value) in self._seen:
            self._say("again", list(self._seen).index(id(value)))
        else:
            self._seen[id(value)] = value
            self._structure(value)

    def _structure(self, value: Any) -> None:
        self._say(type(value).__module__, type(value).__qualname__)
        match value:
            case np.ndarray():
                self._say(value.dtype, value.shape)
                self.value(value.tolist() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes())
            case tuple() | list():
                self._each(value)
            case dict():
                self._each(x for item in value.items() for x in item)
            case set() | frozenset():
                self._each(sorted(value, key=repr))
            case CodeType():
                self._code(value)
            case FunctionType():
                self._function(value)
            case MethodType():
                self._each((value.__func__, value.__self__))
            case partial():
                self._each((value.func, value.args, value.keywords))
            case BuiltinFunctionType() | np.ufunc():
                self._say(getattr(value, "__module__", None), value.__name__)
            case ModuleType():
                self._say(value.__name__)
            case enum.Enum():
                self._say(value.name)
            case type():
                self._class(value)
            case property() | staticmethod() | classmethod():
                self._each([getattr(value, n, None) for n in ("fget", "__func__")])
            case cached_property():
                self.value(value.func)
            case MemberDescriptorType() | GetSetDescriptorType():
                self._say(value.__name__)
            case _ if is_dataclass(value):  # without what it has computed from its fields
                self.value(type(value))
                self._each(getattr(value, f.name) for f in fields(value))
            case _ if hasattr(value, "__dict__"):
                self.value(type(value))
                self.value(vars(value))
            case _:
                raise Unknown(f"a value of type {type(value).__qualname__}")

    def _each(self, values: Any) -> None:
        items = list(values)
        self._say(len(items))
        for item in items:
            self.value(item)

    def _code(self, code: CodeType) -> None:
        self._say(code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_flags)
        self._each(code.co_consts)

    def _function(self, function: FunctionType) -> None:
        self._each((function.__defaults__, function.__kwdefaults__))
        self._each([_content(cell) for cell in function.__closure__ or ()])
        self._say(function.__module__, function.__qualname__)
        if _is_known(function.__module__):
            return
        self.value(function.__code__)
        names = list(dict.fromkeys(_names(function.__code__)))
        for name in names:
            if name in function.__globals__:
                read = function.__globals__[name]
                self._say(name)
                self.value(read)
                if isinstance(read, ModuleType) and not _is_known(read.__name__):
                    self._each([getattr(read, n, None) for n in names])

    def _class(self, value: type) -> None:
        self._say(value.__module__, value.__qualname__)
        if not _is_known(value.__module__):
            self._each(value.__bases__)
            for key, member in vars(value).items():
                if key not in ("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"):
                    self._say(key)
                    self.value(member)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is in it yet
        return None


def _names(code: CodeType) -> Iterator[str]:
    """Of globals and attributes that the code reads, and those in it."""
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)
