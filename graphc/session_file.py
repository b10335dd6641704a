"""States of a session in a file: .npz without pickles."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.signature import State
from graphc.types import dtype_from_name, dtype_name

FORMAT = 1
KINDS = ("now", "first")  # of values
Values = dict[str, dict[str, np.ndarray]]  # by kind and by the states' names; those that there are


def write(path: str | os.PathLike[str], states: Sequence[State], values: Values) -> None:
    """Write states to a file: who they are and their dtypes as JSON, and an array for each value. Raises OSError."""
    places = [(kind, i, s.name) for kind in KINDS for i, s in enumerate(states)]
    found = {f"{kind} {i}": values[kind][name] for kind, i, name in places if name in values[kind]}
    header = {
        "format": FORMAT,
        "states": [[s.name, s.input, s.output] for s in states],
        "dtypes": {key: dtype_name(a.dtype) for key, a in found.items()},
    }
    plain: dict[str, Any] = {key: _plain(np.asarray(a)) for key, a in found.items()} | {
        "session": np.array(json.dumps(header))
    }
    temporary = f"{os.fspath(path)}.{os.getpid()}.part"
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **plain)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def read(path: str | os.PathLike[str]) -> tuple[list[State], Values]:
    """What `write` wrote. Raises OSError, and InputError for other files."""
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["session"]))
            if header["format"] != FORMAT:
                raise ValueError(f"format {header['format']}")
            states = [State(*map(str, names)) for names in header["states"]]
            arrays = {key: _as(file[key], dtype) for key, dtype in header["dtypes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        why = "" if "pickle" in str(error) else f": {error}"
        hint = "make it with session.save(path)"
        raise InputError(f"'{os.fspath(path)}' is no file of a session{why}", hint=hint) from None
    numbered = [(i, s.name) for i, s in enumerate(states)]
    return states, {k: {n: arrays[f"{k} {i}"] for i, n in numbered if f"{k} {i}" in arrays} for k in KINDS}


def _plain(a: np.ndarray) -> np.ndarray:
    """In a dtype of NumPy itself, which files can hold."""
    if a.dtype.kind == "O":
        return a.astype(str)
    return a.view(f"u{a.dtype.itemsize}") if a.dtype.kind == "V" else a


def _as(a: np.ndarray, name: str) -> np.ndarray:
    """The inverse of `_plain`. Raises ValueError where the array is of another dtype."""
    if name == "string":
        return a.astype(object)
    dtype = dtype_from_name(name)
    a = a.view(dtype) if dtype.kind == "V" else a
    if a.dtype != dtype:
        raise ValueError(f"an array is {a.dtype}, not {dtype}")
    return a
