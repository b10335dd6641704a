"""Inputs for a run: shapes from the command line, arrays from files, or made up by a seed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import numpy as np

from graphc.errors import InputError
from graphc.types import UNKNOWN

FILLS = ("random", "ones", "zeros")
_ANY = str(UNKNOWN)  # a dim without a name: two of them are not the same


class Spec(Protocol):
    """An input: `graphc.model.Spec`, or a value of a graph.

    Dims that are no ints are symbols: equal where their texts are.
    """

    name: str
    dtype: np.dtype
    shape: tuple


def resolve_shapes(
    specs: Sequence[Spec], shapes: Mapping[str, Sequence[int]], batch: int | None = None
) -> dict[str, tuple[int, ...]]:
    """The shape of every input: from `shapes`; else with symbols that these bind; else first dims are `batch` (or 1).

    Raises InputError for unknown names, shapes that do not fit, and dims that stay open.
    """
    bound: dict[str, int] = {}
    for name, shape in shapes.items():
        _bind(_spec(specs, name), shape, bound)
    taken = batch is None
    for spec in specs:
        if spec.name in shapes or not spec.shape or isinstance(spec.shape[0], int):
            continue
        first = str(spec.shape[0])
        taken |= first == _ANY or bound.setdefault(first, batch or 1) == batch
    if not taken:
        fixed = ", ".join(f"{s.name}{_text(s.shape)}" for s in specs)
        raise InputError(f"no input takes a batch of {batch}: {fixed}", hint="leave --batch away")
    return {s.name: tuple(shapes[s.name]) if s.name in shapes else _complete(s, bound, batch or 1) for s in specs}


def make_feeds(
    specs: Sequence[Spec],
    sources: Iterable[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """An array for every input. A source is 'name=file.npy', 'file.npz', 'name=random' …; the rest is random.

    Random floats lie in [0, 1), random integers in [0, 10). Raises InputError where a source can't be used.
    """
    arrays: dict[str, np.ndarray] = {}
    fills: dict[str, str] = {}
    for text in sources:
        name, source = _named(specs, text)
        if source in FILLS:
            fills.update({s.name: source for s in specs} if not name else {_spec(specs, name).name: source})
        else:
            arrays.update(_read(specs, name, source))
    known = {**{name: a.shape for name, a in arrays.items()}, **dict(shapes or {})}
    resolved = resolve_shapes(specs, known, batch)
    rng = np.random.default_rng(seed)
    made = {s.name: _fill(fills.get(s.name, "random"), s.dtype, resolved[s.name], rng) for s in specs}
    return {**made, **arrays}


def input_files(sources: Iterable[str]) -> list[str]:
    """What may be a file of arrays in 'name=file', 'file', 'name=random' …"""
    return [path for text in sources for path in (text, text.partition("=")[2]) if path]


def _named(specs: Sequence[Spec], text: str) -> tuple[str, str]:
    """(name, source); the name is '' where none is given. Names and paths may hold '='."""
    for spec in specs:
        if text.startswith(f"{spec.name}="):
            return spec.name, text[len(spec.name) + 1 :]
    name, equals, source = text.partition("=")
    return (name, source) if equals and not Path(text).is_file() else ("", text)


def _spec(specs: Sequence[Spec], name: str) -> Spec:
    for spec in specs:
        if spec.name == name:
            return spec
    close = get_close_matches(name, [s.name for s in specs], 1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    raise InputError(f"the model has no input '{name}'", hint=f"{guess}inputs: {', '.join(s.name for s in specs)}")


def _bind(spec: Spec, shape: Sequence[int], bound: dict[str, int]) -> None:
    fits = len(shape) == len(spec.shape)
    for want, size in zip(spec.shape, shape):
        symbol = str(want)
        fits &= size == want if isinstance(want, int) else symbol == _ANY or bound.setdefault(symbol, size) == size
    if not fits:
        sizes = ", ".join(f"{dim} = {size}" for dim, size in bound.items())
        where = f" with {sizes}" if sizes else ""
        raise InputError(f"input '{spec.name}' can't be {_text(shape)}: the model wants {_text(spec.shape)}{where}")


def _complete(spec: Spec, bound: Mapping[str, int], batch: int) -> tuple[int, ...]:
    sizes = [d if isinstance(d, int) else bound.get(str(d), str(d)) for d in spec.shape]
    if sizes and sizes[0] == _ANY:
        sizes[0] = batch
    unbound = [d for d in sizes if isinstance(d, str)]
    if unbound:
        raise InputError(
            f"input '{spec.name}' is {_text(spec.shape)}, and {', '.join(unbound)} must be known",
            hint=f"give its sizes: --shape {spec.name}={','.join(str(d) for d in sizes)} with numbers",
        )
    return tuple(sizes)


def _text(shape: Sequence) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _read(specs: Sequence[Spec], name: str, path: str) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {name: loaded}
    except FileNotFoundError:
        raise InputError(
            f"no file '{path}'", hint=f"a source is a .npy or .npz file, or one of {', '.join(FILLS)}"
        ) from None
    except OSError as error:
        raise InputError(f"can't read '{path}': {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):  # NumPy's own text tells how to unpickle
        raise InputError(
            f"'{path}' is no .npy or .npz file of numbers or text", hint="write it with numpy.save"
        ) from None
    if len(arrays) == 1 and (name or len(specs) == 1):
        arrays = {name or specs[0].name: next(iter(arrays.values()))}
    elif "" in arrays:
        raise InputError(
            f"which input is '{path}'?", hint=f"write NAME={path}; inputs: {', '.join(s.name for s in specs)}"
        )
    elif name:
        raise InputError(f"'{path}' holds {len(arrays)} arrays ({', '.join(arrays)}): give it without '{name}='")
    return {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items() if _spec(specs, n)}


def _fill(kind: str, dtype: np.dtype, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(dtype)
    if kind == "ones":
        return np.ones(shape, dtype)
    if kind == "zeros":
        return np.zeros(shape, dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0, 10, shape).astype(dtype)
    if dtype.kind in "OUS":
        return np.char.mod("text %d", rng.integers(0, 10, shape)).astype(object)
    return rng.random(shape).astype(dtype)
