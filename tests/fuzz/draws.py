"""Random numbers, shapes and arrays: small, and where code goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import ml_dtypes
import numpy as np

T = TypeVar("T")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = tuple(map(np.dtype, ("float32", "float64", "float16"))) + (BFLOAT16,)
INTS = tuple(map(np.dtype, ("int64", "int32", "int8", "uint8", "int16", "uint16", "uint32", "uint64")))
BOOL = np.dtype(bool)
# floats of 8 bits and less, integers of 2 and 4: of ONNX's standard, with the opset that has them
SMALL = {
    np.dtype(getattr(ml_dtypes, name)): opset
    for name, opset in (
        ("float8_e4m3fn", 19), ("float8_e4m3fnuz", 19), ("float8_e5m2", 19), ("float8_e5m2fnuz", 19), ("int4", 21),
        ("uint4", 21), ("float4_e2m1fn", 23), ("float8_e8m0fnu", 24), ("int2", 25), ("uint2", 25),
    )
}  # fmt: skip
F32, I64 = np.dtype("float32"), np.dtype("int64")

# dims: small ones, and those around the number of elements in a vector (4, 8, 16 and 32)
SIZES = (1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 32, 33)
SPECIAL = (math.nan, math.inf, -math.inf, -0.0)


def is_float(dtype: np.dtype) -> bool:
    return dtype in FLOATS


def integer_range(dtype: np.dtype) -> tuple[int, int] | None:
    """The least and the largest number of an integer dtype; None of others."""
    if dtype in INTS:
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if dtype.name in ("int2", "int4", "uint2", "uint4"):
        return int(ml_dtypes.iinfo(dtype).min), int(ml_dtypes.iinfo(dtype).max)
    return None


class Draw:
    """A seeded source of random choices."""

    def __init__(self, *seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one_of(self, *choices: T) -> T:
        return choices[self.rng.integers(len(choices))]

    def count(self, low: int, high: int) -> int:
        """An int from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def some(self, items: Sequence[T], p: float = 0.5) -> list[T]:
        """Each of the items with probability p, in order."""
        return [item for item in items if self.chance(p)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return [items[i] for i in self.rng.permutation(len(items))]

    def size(self, most: int = 33) -> int:
        return self.one_of(*(s for s in SIZES if s <= most))

    def shape(self, rank: int, most: int = 1500, zeros: bool = False) -> tuple[int, ...]:
        """A shape of at most `most` elements. zeros: now and then a dim of 0."""
        dims: list[int] = []
        for _ in range(rank):
            dims.append(self.size(max(1, most // max(1, math.prod(dims)))))
        dims = self.shuffled(dims)
        if zeros and rank and self.chance(0.5):
            dims[self.count(0, rank - 1)] = 0
        return tuple(dims)

    def signs(self, shape: Sequence[int], together: bool = False) -> np.ndarray:
        """1.0 or -1.0 for each element; together: 1.0 for all."""
        return np.ones(shape) if together else self.rng.choice((-1.0, 1.0), shape)

    def array(
        self, dtype: Any, shape: Sequence[int], low: float = -2, high: float = 2, style: str = "", special: bool = False
    ) -> np.ndarray:
        """Elements between low and high. Floats by `style`: 'uniform', 'grid' (multiples of 1/4: sums and ties are exact)
        or 'whole'; default: any. special: a few are NaN, infinite or -0.0."""
        dtype, shape = np.dtype(dtype), tuple(shape)
        if dtype == BOOL:
            return self.rng.random(shape) < self.one_of(0.5, 0.5, 0.1, 0.9)
        if bounds := integer_range(dtype):
            low, high = max(math.ceil(low), bounds[0]), min(math.floor(high), bounds[1])
            return self.rng.integers(low, high, shape, np.int64 if dtype in SMALL else dtype, endpoint=True).astype(
                dtype
            )
        if dtype.kind == "O":  # strings
            return self.rng.choice(np.array(["", "a", "b", "graph"], object), shape)
        x = self.rng.uniform(low, high, shape)
        style = style or self.one_of("uniform", "uniform", "uniform", "grid", "grid", "whole")
        if style != "uniform":
            step = 0.25 if style == "grid" else 1.0
            x = np.clip(np.round(x / step) * step, math.ceil(low / step) * step, math.floor(high / step) * step)
        if special:
            x = np.where(self.rng.random(shape) < 0.1, self.rng.choice(SPECIAL, shape), x)
        return np.asarray(x, dtype)
