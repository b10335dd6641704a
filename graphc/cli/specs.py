"""The inputs of a model as commands name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Union

import numpy as np

from graphc.dims import UNKNOWN
from graphc.errors import InputError
from graphc.signature import Spec

if TYPE_CHECKING:
    from graphc.graph import Value

ANY = str(UNKNOWN)  # a dim without a name: two of them are not the same

Input = Union[Spec, "Value"]


def specs_of(inputs: Sequence[Input], dtypes: Mapping[str, np.dtype] | None = None) -> list[Spec]:
    return [s if isinstance(s, Spec) else Spec.of(s.name, s.type, (dtypes or {}).get(s.name)) for s in inputs]


def spec_named(specs: Sequence[Spec], name: str, dims: Iterable[str] = ()) -> Spec:
    """dims: whose names may stand in the place of an input's. Raises InputError."""
    for spec in specs:
        if spec.name == name:
            return spec
    close = get_close_matches(name, [*(s.name for s in specs), *dims], 1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    sizes = f"; sizes: {', '.join(sorted(dims))}" if dims else ""
    raise InputError(f"the model has no input '{name}'", hint=f"{guess}{names_of(specs)}{sizes}")


def the_spec(specs: Sequence[Spec], name: str, source: str) -> Spec:
    """The input of a name, or the only one. Raises InputError where there are several and no name."""
    if not name and len(specs) != 1:
        raise InputError(f"which input is '{source}'?", hint=f"write NAME={source}; {names_of(specs)}")
    return spec_named(specs, name) if name else specs[0]


def names_of(specs: Sequence[Spec]) -> str:
    return f"inputs: {', '.join(s.name for s in specs)}"


def shape_text(shape: Sequence | None) -> str:
    return "[...]" if shape is None else f"[{', '.join(map(str, shape))}]"


def split_name(specs: Sequence[Spec], text: str) -> tuple[str, str]:
    """(name, source) of 'name=source'; the name is '' where none is given. Names and paths may hold '='."""
    for spec in specs:
        if text.startswith(f"{spec.name}="):
            return spec.name, text[len(spec.name) + 1 :]
    name, equals, source = text.partition("=")
    return (name, source) if equals and not Path(text).is_file() else ("", text)
