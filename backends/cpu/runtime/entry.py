"""Python's side of a program's entry (see executor/entry_driver.py): which interpreters have it, the record that it reads, the call."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cpu.executor.program_block import ENTRY

if TYPE_CHECKING:
    from graphc.lower.assembled import Extern

# Arrays as NumPy's C interface lays them out (PyArrayObject_fields), in bytes.
HEAD = 16  # of an object before its own fields: reference count, type
TYPE = 8
DATA, NDIM, DIMENSIONS, DESCR, FLAGS = HEAD, HEAD + 8, HEAD + 16, HEAD + 40, HEAD + 48
C_CONTIGUOUS = 1

FIXED = ENTRY.size
_FASTCALL = 0x80  # METH_FASTCALL
_WORD = ctypes.c_int64


class Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = [("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


@lru_cache(maxsize=1)
def supported() -> bool:
    """Does this interpreter lay out arrays as the entry reads them, and guard them with a lock?"""
    if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    if object.__basicsize__ != HEAD or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    a = np.zeros((3, 5, 7), np.float32)[:2]
    fields = {TYPE: id(np.ndarray), DATA: a.ctypes.data, DESCR: id(a.dtype)}
    words = all(_WORD.from_address(id(a) + at).value == value for at, value in fields.items())
    halves = {NDIM: a.ndim, FLAGS: a.flags.num}
    if not words or any(ctypes.c_int32.from_address(id(a) + at).value != value for at, value in halves.items()):
        return False
    sizes = _WORD.from_address(id(a) + DIMENSIONS).value
    return [_WORD.from_address(sizes + 8 * d).value for d in range(a.ndim)] == list(a.shape)


@lru_cache(maxsize=1)
def _interface() -> dict[str, int]:
    """Addresses of Python's C functions and objects, by field of the record. `id` is an address here."""
    functions = {"save_thread": "PyEval_SaveThread", "restore_thread": "PyEval_RestoreThread", "incref": "Py_IncRef"}
    found = {w: address_of(getattr(ctypes.pythonapi, f)) for w, f in functions.items()}
    return found | {"array": id(np.ndarray), "done": id(True), "refused": id(None), "failed": id(False)}


def address_of(function: Any) -> int:
    """Where a function of a library lies in memory."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None, function
    return address


def method(address: int) -> Method:
    """The native entry at an address, as Python's functions refer to it: it must live as long as they do."""
    return Method(b"run", address, _FASTCALL, None)


def record(
    facts: Mapping[str, int],
    inputs: Sequence[Extern],
    arguments: int,
    words: np.ndarray,
    reports: Sequence[int],
) -> np.ndarray:
    """An entry's record. facts: steps to submit; inputs: that are looked at; words: int64[n, 3] rows of argument, address of
    a word of the table, offset; reports: addresses."""
    counts = {"checked": len(inputs), "arguments": arguments, "words": len(words), "reports": len(reports)}
    fixed = ENTRY(**facts, **_interface(), **counts)
    types = [number for e in inputs for number in (id(e.dtype), len(e.shape), *map(_dim, e.shape))]
    return np.concatenate([np.array([*fixed, *types], np.int64), words.reshape(-1), np.array(reports, np.int64)])


def _dim(d: object) -> int:
    """One that a register holds is nothing yet."""
    return d if isinstance(d, int) else -1


def word_of(record: np.ndarray, address: int) -> int | None:
    """The place of the offset that goes with a word of the program's table, which is at `address`."""
    fixed = dict(zip(ENTRY.at, record[:FIXED].tolist()))
    at = FIXED
    for _ in range(fixed["checked"]):
        at += 2 + int(record[at + 1])
    for row in range(fixed["words"]):
        if record[at + 3 * row + 1] == address:
            return at + 3 * row + 2
    return None


def function(method: Method, record: np.ndarray) -> Callable[..., bool | None]:
    """The entry as a function of arrays: inputs, then results. Gives True, or False after a report, or None for inputs that
    are not as the record says. It keeps the record; the caller keeps the method and all that the record has addresses of."""
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.POINTER(Method), ctypes.py_object, ctypes.c_void_p]
    return new(ctypes.byref(method), record, None)
