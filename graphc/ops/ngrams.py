"""TfIdfVectorizer: how often n-grams of a table occur in rows of numbers or strings. Of strings it runs on the host."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops.ml.lookup import table
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
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).tolist()
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


# --- of numbers, in other operators -----------------------------------------------------------------------------------------
MOST_LAYERS = 16  # n-grams that count for one column


def _expand(b: Builder, call: Call) -> Value | None:
    """Each n-gram is found item by item: what was found of it so far and the next item are one number, which a table of all
    beginnings knows. 0 is what no n-gram begins with."""
    a, x = call.attrs, call.inputs[0]
    if a.pool_strings is not None:
        return None
    grams = list(_grams(a.pool_int64s, a.ngram_counts, a.min_gram_length, a.max_gram_length))
    known = {gram: k for k, gram in enumerate(dict.fromkeys(gram for _, gram in grams), 1)}
    layers = _layers(a.ngram_indexes, {number: known[gram] for number, gram in grams}, len(known) + 1)
    length, skips = x.shape[-1], a.max_skip_count if a.max_gram_length > 1 else 0
    if not isinstance(length, int) or not length or not known or len(layers) > MOST_LAYERS:
        return None
    x = x if x.dtype == np.int64 else b.add("Cast", x, to=np.dtype(np.int64))
    rows = x if x.type.rank == 2 else b.add("Unsqueeze", x, b.constant([0], np.int64))
    found = [
        _found(b, rows, {gram: k for gram, k in known.items() if len(gram) == n}, step)
        for n in sorted({len(gram) for gram in known})
        for step in range(1, skips + 2 if n > 1 else 2)
        if length > (n - 1) * step
    ]
    first = b.add("Slice", rows, *(b.constant([k], np.int64) for k in (0, 1, 1)))
    counts = b.add("Mul", first, b.constant(np.zeros((1, len(known) + 2), np.int64)))
    if found:
        ids = b.add("Concat", *found, axis=1)
        ones = b.add("Cast", b.add("Equal", ids, ids), to=np.dtype(np.int64))
        counts = b.add("ScatterElements", counts, ids, ones, axis=1, reduction="add")
    if a.mode == "IDF":
        counts = b.add("Min", counts, b.constant(1, np.int64))
    counts = b.add("Cast", counts, to=np.dtype(np.float32))
    weights = None if a.mode == "TF" or a.weights is None else np.array([*a.weights, 1], np.float32)
    a.ignore("weights", "max_skip_count")  # which nothing of this mode, or of one item, needs
    y: Value | None = None
    for numbers, ids_of in layers:
        part = b.add("Gather", counts, b.constant(ids_of, np.int64), axis=1)
        part = part if weights is None else b.add("Mul", part, b.constant(weights[numbers]))
        y = part if y is None else b.add("Add", y, part)
    assert y is not None
    if weights is not None and (weights < 0).any():
        y = b.add("Add", y, b.constant(np.zeros((), np.float32)))  # no zero is negative
    return y if x.type.rank == 2 else b.add("Squeeze", y, b.constant([0], np.int64))


def _layers(columns: Sequence[int], ids: dict[int, int], never: int) -> list[tuple[list[int], list[int]]]:
    """For each column the number of the first n-gram that counts for it (-1 for none), and its id; then of the second …; an n-gram
    that is not counted has the id `never`."""
    layers: list[tuple[list[int], list[int]]] = []
    seen: Counter[int] = Counter()
    for number, column in enumerate(columns):
        if seen[column] == len(layers):
            layers.append(([-1] * (max(columns) + 1), [never] * (max(columns) + 1)))
        numbers, of = layers[seen[column]]
        numbers[column], of[column] = number, ids.get(number, never)
        seen[column] += 1
    return layers


def _found(b: Builder, rows: Value, grams: dict[tuple, int], step: int) -> Value:
    """The id of the n-gram, of n items that are a step apart, that begins at each position [N, P]; 0 where there is none."""
    n = len(next(iter(grams)))
    if n == 1:
        return _looked_up(b, rows, {item: k for (item,), k in grams.items()})
    items = {item: k for k, item in enumerate(sorted({item for gram in grams for item in gram}), 1)}
    numbers, count = _looked_up(b, rows, items), rows.shape[1] - (n - 1) * step
    base, axis = b.constant(len(items) + 1, np.int64), b.constant([1], np.int64)
    begun: dict[tuple, int] = {(item,): k for item, k in items.items()}
    at: Value | None = None
    for k in range(n):
        first, end = (b.constant([d], np.int64) for d in (k * step, k * step + count))
        item = b.add("Slice", numbers, first, end, axis)
        if at is None:
            at = item
            continue
        ends = dict.fromkeys(gram[: k + 1] for gram in grams)
        longer = grams if k == n - 1 else {gram: i for i, gram in enumerate(ends, 1)}
        keys = {begun[gram[:k]] * (len(items) + 1) + items[gram[k]]: i for gram, i in longer.items()}
        at, begun = _looked_up(b, b.add("Add", b.add("Mul", at, base), item), keys), longer
    assert at is not None
    return at


def _looked_up(b: Builder, v: Value, numbers: dict[int, int]) -> Value:
    keys, values = table(np.array([*numbers], np.int64), np.array([*numbers.values()], np.int64), 0)
    return b.add("LookUp", v, b.constant(keys), b.constant(values))


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
        expand=_expand,
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
    )
)
