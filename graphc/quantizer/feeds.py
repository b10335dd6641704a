"""Data as batches that a model takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.graph import Value
from graphc.objects import is_object
from graphc.types import dtype_name


def batches(
    data: Any, inputs: Sequence[Value], batch: int, samples: int | None = None
) -> tuple[list[dict[str, np.ndarray]], int]:
    """Batches of the inputs by name, and how many samples there are.

    data     arrays by the names of inputs, an array for the only input, or several of these one after the other
    batch    samples of a batch, where the model leaves its first dims open
    samples  how many are taken from the beginning; None: all

    The first axis of an array are samples: of an input whose first dim is open, or with an axis more than the input has. An array
    with an axis less is a sample. Raises InputError for names, shapes, dtypes and values that are not the model's.
    """
    if any(v.type is None for v in inputs):
        raise InputError(f"input '{next(v.name for v in inputs if v.type is None)}' has no shape in the model's file")
    parts = [_named(part, inputs) for part in _parts(data)]
    found: list[dict[str, np.ndarray]] = []
    total = 0
    for i, part in enumerate(parts):
        where = f" of part {i + 1}" if len(parts) > 1 else ""
        arrays = {v.name: _checked(part[v.name], v, where) for v in inputs}
        count = _count(arrays, inputs, where)
        taken = count if samples is None else min(count, samples - total)
        found += _cut(arrays, inputs, count, taken, batch)
        total += taken
    if not found:
        raise InputError("there is no data to calibrate with", hint="give a sample or more")
    return _merged(found, inputs, batch), total


def _parts(data: Any) -> Iterable[Any]:
    if isinstance(data, (Mapping, np.ndarray)):
        return [data]
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise InputError(f"data must be arrays by the names of inputs, not {type(data).__name__}", hint="data={'x': x}")
    return list(data)


def _named(part: Any, inputs: Sequence[Value]) -> Mapping[str, np.ndarray]:
    names = [v.name for v in inputs]
    if not isinstance(part, Mapping):
        if len(names) != 1:
            raise InputError(
                f"the model has {len(names)} inputs", hint=f"give arrays by their names: {', '.join(names)}"
            )
        part = {names[0]: part}
    for name in part:
        if name not in names:
            close = get_close_matches(str(name), names, 1)
            guess = f"did you mean '{close[0]}'? " if close else ""
            raise InputError(f"the model has no input '{name}'", hint=f"{guess}inputs: {', '.join(names)}")
    missing = [name for name in names if name not in part]
    if missing:
        raise InputError(f"the data has nothing for {', '.join(map(repr, missing))}", hint="give an array for each")
    return part


def _checked(given: Any, v: Value, where: str) -> np.ndarray:
    """The array in the input's dtype, with an axis of samples."""
    if is_object(v.type):
        raise InputError(f"input '{v.name}' is no tensor: a model that takes {v.type} can't be calibrated")
    array = np.asarray(given)
    if array.dtype.kind == "U":
        array = array.astype(object)
    if not np.can_cast(array.dtype, v.dtype, "same_kind"):
        raise InputError(f"input '{v.name}' is {dtype_name(v.dtype)}, its data{where} {array.dtype}")
    rank, open_first = len(v.shape), bool(v.shape) and not isinstance(v.shape[0], int)
    if array.ndim == rank - 1 and (open_first or v.shape[0] == 1):
        array = array[None]
    own = array.shape[array.ndim - rank :] if array.ndim in (rank, rank + 1) else None
    if own is None or any(isinstance(d, int) and d != n for d, n in list(zip(v.shape, own))[array.ndim == rank :]):
        raise _misfit(v, array, where)
    if array.ndim == rank and rank and not open_first and (len(array) % v.shape[0] if v.shape[0] else len(array)):
        raise _misfit(v, array, where)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        at = np.argwhere(~np.isfinite(array))[0]
        kind = "NaN" if np.isnan(array[tuple(at)]) else "infinity"
        raise InputError(
            f"the data of input '{v.name}'{where} has {kind} at {[*map(int, at)]}",
            hint="leave such samples out, or fill the gaps",
        )
    return array.astype(v.dtype, copy=False)


def _misfit(v: Value, array: np.ndarray, where: str) -> InputError:
    shape = ", ".join(map(str, v.shape))
    return InputError(
        f"input '{v.name}' is [{shape}], its data{where} {list(array.shape)}",
        hint="the first axis of data are samples, the others as the model has them",
    )


def _samples(array: np.ndarray, v: Value) -> int:
    """How many samples an array has."""
    if array.ndim > len(v.shape):
        return len(array)
    if not v.shape or v.shape[0] == 0:
        return 1
    return len(array) // v.shape[0] if isinstance(v.shape[0], int) else len(array)


def _count(arrays: Mapping[str, np.ndarray], inputs: Sequence[Value], where: str) -> int:
    """Samples of all arrays; one that has a single sample of fixed shape is the same for all."""
    counts = {v.name: _samples(arrays[v.name], v) for v in inputs}
    several = {name: n for name, n in counts.items() if n != 1}
    if len(set(several.values())) > 1:
        said = ", ".join(f"{n} of '{name}'" for name, n in several.items())
        raise InputError(f"the data{where} has as many samples as: {said}", hint="give as many of each input")
    return next(iter(several.values()), 1)


def _cut(
    arrays: Mapping[str, np.ndarray], inputs: Sequence[Value], count: int, taken: int, batch: int
) -> list[dict[str, np.ndarray]]:
    """Batches of the first samples of a part; one each where an input does not leave its first dim open."""
    size = batch if _mergeable(arrays, inputs, count) else 1
    return [
        {v.name: _slice(arrays[v.name], v, i, min(i + size, taken), count) for v in inputs}
        for i in range(0, taken, size)
    ]


def _mergeable(arrays: Mapping[str, np.ndarray], inputs: Sequence[Value], count: int) -> bool:
    """Can several samples be one batch?"""
    return all(
        bool(v.shape) and not isinstance(v.shape[0], int) and arrays[v.name].ndim == len(v.shape)
        and len(arrays[v.name]) == count
        for v in inputs
    )  # fmt: skip


def _slice(array: np.ndarray, v: Value, first: int, last: int, count: int) -> np.ndarray:
    if _samples(array, v) != count or not v.shape and not array.ndim:
        return array
    if array.ndim > len(v.shape):
        return array[first]
    size = v.shape[0] if isinstance(v.shape[0], int) else 1
    return array[first * size : last * size]


def _merged(feeds: Sequence[dict[str, np.ndarray]], inputs: Sequence[Value], batch: int) -> list[dict[str, np.ndarray]]:
    """Parts of single samples of one shape as batches."""
    if any(not v.shape or isinstance(v.shape[0], int) for v in inputs):
        return list(feeds)
    found: list[list[dict[str, np.ndarray]]] = []
    for feed in feeds:
        last = found[-1] if found else []
        sizes = {len(a) for a in feed.values()}
        room = last and len(sizes) == 1 and sum(len(f[inputs[0].name]) for f in last) + max(sizes) <= batch
        if room and all(f.shape[1:] == last[0][n].shape[1:] for n, f in feed.items()):
            last.append(feed)
        else:
            found.append([feed])
    return [{n: np.concatenate([f[n] for f in part]) for n in part[0]} for part in found]
