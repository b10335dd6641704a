"""TfIdfVectorizer: how often n-grams of a table occur in rows of numbers or strings. It runs on the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.types import TensorType, dtype_name


def _grams(pool: Sequence[Any], starts: Sequence[int], shortest: int, longest: int) -> Iterator[tuple[int, tuple]]:
    """(number among all, the n-gram) of those n that count. Those of n items lie in the pool from starts[n - 1] on."""
    number = 0
    for n, (first, end) in enumerate(zip(starts, (*starts[1:], len(pool))), 1):
        for at in range(first, end, n):
            if shortest <= n <= longest:
                yield number, tuple(pool[at : at + n])
            number += 1


def _pool(attrs: Any) -> Sequence[Any]:
    return attrs["pool_int64s"] if attrs["pool_strings"] is None else attrs["pool_strings"]


def _infer(call: Call) -> list[TensorType]:
    """float32 [C] -> [columns], [N, C] -> [N, columns]."""
    x, a = call.type(0), call.attrs
    if x.rank not in (1, 2):
        raise call.fail("takes items [C] or [N, C]")
    if (a.pool_int64s is None) == (a.pool_strings is None):
        raise call.fail("has pool_int64s or pool_strings, one of them")
    wanted = ("int32", "int64") if a.pool_strings is None else ("string",)
    if dtype_name(x.dtype) not in wanted:
        raise call.fail(f"the pool has {' or '.join(wanted)}, the operand {dtype_name(x.dtype)}")
    pool, starts = _pool(a), a.ngram_counts
    ends = (*starts[1:], len(pool))
    parts = zip(starts, ends)
    if not starts or starts[0] != 0 or any(b < s or (b - s) % n for n, (s, b) in enumerate(parts, 1)):
        raise call.fail(f"ngram_counts {list(starts)} do not cut the pool of {len(pool)} items into n-grams")
    count = sum((b - s) // n for n, (s, b) in enumerate(zip(starts, ends), 1))
    if len(a.ngram_indexes) != count or min(a.ngram_indexes, default=0) < 0:
        raise call.fail(f"ngram_indexes must be {count} numbers from 0 up, one for each n-gram")
    if a.weights is not None and len(a.weights) != count:
        raise call.fail(f"weights must be {count} numbers, one for each n-gram")
    if not 1 <= a.min_gram_length <= a.max_gram_length <= len(starts) or a.max_skip_count < 0:
        raise call.fail(f"lengths of n-grams must be from 1 to {len(starts)}, and max_skip_count from 0 up")
    return [TensorType(np.float32, (*x.shape[:-1], max(a.ngram_indexes, default=-1) + 1))]


def _tfidf(
    x: np.ndarray,
    mode: str,
    ngram_indexes: Sequence[int],
    ngram_counts: Sequence[int],
    min_gram_length: int,
    max_gram_length: int,
    max_skip_count: int,
    weights: Sequence[float] | None,
    **pools: Any,
) -> np.ndarray:
    """Items of an n-gram are 1 to max_skip_count + 1 apart, all as far. weights[i] is of the i-th n-gram."""
    found: dict[tuple, list[int]] = {}
    for number, gram in _grams(_pool(pools), ngram_counts, min_gram_length, max_gram_length):
        found.setdefault(gram, []).append(number)
    lengths = sorted({len(gram) for gram in found})
    rows = x.reshape(-1, x.shape[-1]).tolist()
    counts = np.zeros((len(rows), len(ngram_indexes)), np.int64)
    for row, items in zip(counts, rows):
        for n in lengths:
            for step in range(1, max_skip_count + 2) if n > 1 else (1,):
                for at in range(len(items) - (n - 1) * step):
                    row[found.get(tuple(items[at : at + (n - 1) * step + 1 : step]), [])] += 1
    scores = (np.minimum(counts, 1) if mode == "IDF" else counts).astype(np.float32)
    if mode != "TF" and weights is not None:
        scores *= np.asarray(weights, np.float32)
    y = np.zeros((len(rows), max(ngram_indexes, default=-1) + 1), np.float32)
    np.add.at(y.T, list(ngram_indexes), scores.T)
    return y.reshape(*x.shape[:-1], y.shape[1])


_TABLE = {
    "min_gram_length": 1,
    "max_gram_length": 2,
    "ngram_counts": (0, 4),
    "ngram_indexes": (0, 1, 2, 3, 4, 5, 6),
    "pool_int64s": (2, 3, 5, 4, 5, 6, 7, 8, 6, 7),
}
_BATCH = Const([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], "int32")

register(
    Op(
        "TfIdfVectorizer",
        ("x",),
        _infer,
        _tfidf,
        {
            "mode": Attr(str, choices=("TF", "IDF", "TFIDF")),
            "ngram_indexes": Attr("ints"),
            "ngram_counts": Attr("ints"),
            "min_gram_length": Attr(int),
            "max_gram_length": Attr(int),
            "max_skip_count": Attr(int),
            "weights": Attr("floats", None),
            "pool_int64s": Attr("ints", None),
            "pool_strings": Attr("strings", None),
        },
        tolerance=0.0,
        samples=Samples(
            ("int32", "int64"),
            2,
            8,
            cases=(
                Case((_BATCH,), {"mode": "TF", "max_skip_count": 0, **_TABLE}),
                Case((_BATCH,), {"mode": "TF", "max_skip_count": 5, **_TABLE, "min_gram_length": 2}),
                Case((Tensor((30,)),), {"mode": "IDF", "max_skip_count": 1, **_TABLE}),
                Case(
                    (Tensor((3, 20)),),
                    {"mode": "TFIDF", "max_skip_count": 2, "weights": (1, 2, 3, 4, 5, 6, 0.5), **_TABLE},
                ),
            ),
        ),
        family=Family.TABLE,
    )
)
