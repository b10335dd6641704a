"""Sessions of a model: from first values, and from files."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.arguments import Arguments, fits, remedy
from graphc.errors import InputError
from graphc.session import Carried, Session
from graphc.signature import Signature
from graphc.state import State, joined, open_axes, require_types
from graphc.types import dtype_from_name, dtype_name

if TYPE_CHECKING:
    from graphc.model import Model

FORMAT = 1


def open_session(
    model: Model,
    signature: Signature,
    arguments: Arguments,
    pairs: Mapping[str, str],
    first: Mapping[str, Any],
    now: Mapping[str, Any] | None = None,
) -> Session:
    """See `Model.session`. pairs: states, output by input, besides those of the model; first, now: values by name."""
    inputs, outputs = {s.name: s for s in signature.inputs}, {s.name: s for s in signature.outputs}
    defaults = [s.name for s in signature.optional]
    states = joined(signature.states, pairs, [*inputs, *defaults], [*outputs], defaults) or signature.caches
    if not states:
        hint = "name them: model.session(states={'input': 'output'})"
        raise InputError(f"{model.name} has no states for a session to carry; {arguments.signature}", hint=hint)
    names = [s.name for s in states]
    unknown = [n for n in first if n not in names]
    if unknown:
        raise InputError(f"'{unknown[0]}' is no state", hint=f"states: {', '.join(names)}")
    kept = {s.input for s in states}
    fed = {d for s in signature.inputs if s.name not in kept for d in s.shape or () if isinstance(d, str)}
    carried, values, current = [], {}, {}
    for state in states:
        spec, after = inputs[state.input], outputs[state.output].type
        before = require_types(state, spec.type, after)
        s = Carried(state, before, open_axes(before, after, fed))
        carried.append(s)
        if s.name in first:
            values[s.name] = _checked(s, arguments, first[s.name])
        elif not s.names <= fed or len(s.axes) > 1 or s.type.dtype.kind == "O":
            raise InputError(
                f"state '{s.name}', {spec}, needs a first value", hint=f"give it: model.session({s.name}=…)"
            )
        elif not s.names:
            values[s.name] = s.empty({})
        if now is not None and s.name in now:
            current[s.name] = _checked(s, arguments, now[s.name])
    return Session(model, carried, values, None if now is None else current)


def _checked(s: Carried, arguments: Arguments, value: Any) -> np.ndarray:
    """A copy of a state's value. Raises InputError where it does not fit."""
    a = arguments.checked(arguments.names.index(s.state.input), value)
    if not fits(a, s.type):
        hint = remedy(a, s.type)
        raise InputError(f"state '{s.name}' has shape {a.shape}, the model wants {s.type}", hint=hint)
    return a.copy()


# --- files ------------------------------------------------------------------------------------------------------------
def write(
    path: str | os.PathLike[str], states: Sequence[State], values: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Write states to a .npz file: who they are and their dtypes as JSON, and an array for each value.

    values: by what they are ('now', 'first') and by the states' names; those that there are. Raises OSError.
    """
    found = {
        f"{what} {i}": kept[s.name] for what, kept in values.items() for i, s in enumerate(states) if s.name in kept
    }
    header = {
        "format": FORMAT,
        "states": [[s.name, s.input, s.output] for s in states],
        "dtypes": {key: dtype_name(a.dtype) for key, a in found.items()},
    }
    plain: dict[str, Any] = {key: _plain(a) for key, a in found.items()} | {"session": np.array(json.dumps(header))}
    temporary = f"{os.fspath(path)}.{os.getpid()}.part"
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **plain)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def load(model: Model, signature: Signature, arguments: Arguments, path: str | os.PathLike[str]) -> Session:
    """See `Model.load_session`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["session"]))
            if header["format"] != FORMAT:
                raise ValueError(f"format {header['format']}")
            states = [State(*map(str, names)) for names in header["states"]]
            arrays = {key: _as(file[key], dtype) for key, dtype in header["dtypes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        hint = "make it with session.save(path)"
        raise InputError(f"'{os.fspath(path)}' is no file of a session: {error}", hint=hint) from None
    known = {s.input: s for s in signature.states}
    for s in states:
        if s.input in known and known[s.input] != s:
            raise InputError(
                f"'{os.fspath(path)}' has another state of input '{s.input}'", hint=f"the model's: {known[s.input]}"
            )
    now, first = (
        {s.name: arrays[f"{what} {i}"] for i, s in enumerate(states) if f"{what} {i}" in arrays}
        for what in ("now", "first")
    )
    pairs = {s.input: s.output for s in states if s.input not in known}
    return open_session(model, signature, arguments, pairs, first, now)


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
