"""Arrays for a model's inputs that no honest caller gives."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

from graphc.signature import Spec

LARGEST, MOST_AXES = 1 << 20, 64  # elements of an array that is made up; axes that NumPy has
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-45, 1e-30, 1e9, 1e30, 3e38, np.inf, -np.inf, np.nan, -2147483649.0, 9.3e18)
WORDS = ("", "a", "a" * 10_000, "ümlaut", "\x00", "\ud800", "-1", "nan", "(a+)+$")


def values(dtype: np.dtype, shape: tuple[int, ...], rng: random.Random) -> np.ndarray:
    """An array of one kind of trouble: one extreme everywhere, or many."""
    size, one = int(np.prod(shape)), rng.random() < 0.4
    if dtype.kind in "OUS":
        return np.array([rng.choice(WORDS) for _ in range(size)], object).reshape(shape)
    if dtype.kind == "b":
        return np.array([rng.random() < 0.5 for _ in range(size)], bool).reshape(shape)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        far = [v for v in (*_integers(), info.min, info.max, info.max - 1) if info.min <= v <= info.max]
        near = [v for v in range(-4, 12) if info.min <= v <= info.max]
        pick = rng.choice((far, near, near + far))
        found = [rng.choice(pick)] * size if one else [rng.choice(pick) for _ in range(size)]
        return np.array(found, dtype).reshape(shape)
    found = [rng.choice(FLOATS)] * size if one else [rng.choice((*FLOATS, rng.uniform(-3, 3))) for _ in range(size)]
    with np.errstate(all="ignore"):
        return np.array(found, np.complex128 if dtype.kind == "c" else np.float64).astype(dtype).reshape(shape)


def _integers() -> tuple[int, ...]:
    return *(s * (1 << b) + d for b in (7, 15, 20, 31, 32, 33, 40, 62, 63) for s in (1, -1) for d in (-1, 0, 1)), -1, 0


def worse(feeds: Mapping[str, np.ndarray], rng: random.Random) -> dict[str, np.ndarray]:
    """Valid arrays, some of which get values out of range, or another shape."""
    out = dict(feeds)
    names = sorted(out)
    whole = [n for n in names if out[n].dtype.kind in "iu"]
    for name in {rng.choice(whole if whole and rng.random() < 0.8 else names) for _ in range(rng.choice((1, 1, 2)))}:
        old = out[name]
        if rng.random() < 0.15 and old.ndim:
            shape = list(old.shape)
            axis = rng.randrange(old.ndim)
            shape[axis] = max(0, rng.choice((0, shape[axis] - 1, shape[axis] + 1, 2 * shape[axis])))
            out[name] = np.resize(old, shape) if old.size else np.zeros(shape, old.dtype)
        elif rng.random() < 0.5 and old.size and old.dtype.kind not in "OUS":
            out[name] = old = old.copy()
            for _ in range(rng.choice((1, 1, 3))):
                old.reshape(-1)[rng.randrange(old.size)] = values(old.dtype, (), rng)
        elif old.size <= LARGEST:
            out[name] = values(old.dtype, old.shape, rng)
    return out


def made_up(inputs: tuple[Spec, ...], rng: random.Random) -> dict[str, object] | None:
    """Arrays for any model; None where an input is too large to be made up."""
    out: dict[str, object] = {}
    dims: dict[str, int] = {}
    for spec in inputs:
        if spec.content is not None:
            out[spec.name] = [] if spec.content.kind == "sequence" else {} if spec.content.kind == "map" else None
            continue
        shape = tuple(
            d if isinstance(d, int) else dims.setdefault(d, rng.choice((0, 1, 2, 2, 3, 5)))
            for d in (spec.shape if spec.shape is not None else [2] * rng.randrange(4))
        )
        if len(shape) > MOST_AXES or np.prod([float(max(d, 1)) for d in shape]) > LARGEST:
            return None
        out[spec.name] = values(np.dtype(spec.dtype or np.float32), shape, rng)
    return out
