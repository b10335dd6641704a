"""Sessions of a model: from first values, and from files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.arguments import Arguments
from graphc.errors import InputError
from graphc.remedies import fits, remedy
from graphc.session import Carried, Session
from graphc.session_file import read
from graphc.signature import Growth, Signature
from graphc.state import joined, open_axes, require_types

if TYPE_CHECKING:
    from graphc.model import Model


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
    growing = [g for g in signature.growing if any(_grows(s, g) for s in carried)]
    return Session(model, carried, values, None if now is None else current, growing)


def _grows(s: Carried, g: Growth) -> bool:
    return (s.state.input, s.state.output, s.length_axis) == (g.input, g.output, g.axis)


def load(model: Model, signature: Signature, arguments: Arguments, path: str | os.PathLike[str]) -> Session:
    """See `Model.load_session`."""
    states, values = read(path)
    known = {s.input: s for s in signature.states}
    for s in states:
        if known.get(s.input, s) != s:
            hint = f"the model's takes output '{known[s.input].output}'"
            raise InputError(f"'{os.fspath(path)}' has another state of input '{s.input}'", hint=hint)
    pairs = {s.input: s.output for s in states if s.input not in known}
    return open_session(model, signature, arguments, pairs, values["first"], values["now"])


def _checked(s: Carried, arguments: Arguments, value: Any) -> np.ndarray:
    """A copy of a state's value, in the host's memory. Raises InputError where it does not fit."""
    a = arguments.checked(arguments.names.index(s.state.input), value)
    if not fits(a, s.type):
        hint = remedy(a.shape, s.type)
        raise InputError(f"state '{s.name}' has shape {a.shape}, the model wants {s.type}", hint=hint)
    return np.array(a, order="C")
