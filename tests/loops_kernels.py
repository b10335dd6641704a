"""Kernels of loops_backend.py: functions specialised by what never changes, called with the addresses in the table."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from graphc.expr import Expr, evaluate
from graphc.ops._positions import OUTSIDE
from graphc.types import dtype_from_name

KERNELS: dict[str, Callable[..., None]] = {}  # (params…) -> None, given the step's addresses


def kernel(fn: Callable[..., None]) -> Callable[..., None]:
    return KERNELS.setdefault(fn.__name__, fn)


def at(address: int, dtype: np.dtype, shape: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """Memory as an array."""
    reach = [(d - 1) * s for d, s in zip(shape, strides)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + np.dtype(dtype).itemsize
    memory = (ctypes.c_byte * (high - low)).from_address(address + low)
    return np.ndarray(tuple(shape), dtype, memory, -low, tuple(strides))


def dense(address: int, dtype: np.dtype, *shape: int) -> np.ndarray:
    return at(address, dtype, shape, [math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape))])


def value(e: Expr, numbers: Sequence[Any]) -> np.generic:
    """An expression of NumPy numbers, in its dtype."""
    found = evaluate(e, [n.item() if e.dtype.kind != "V" else float(n) for n in map(np.asarray, numbers)])
    if e.dtype.kind in "iu":  # Python's integers have no end
        bits = 8 * e.dtype.itemsize
        return np.array(int(found) % (1 << bits), f"u{e.dtype.itemsize}").view(e.dtype)[()]
    with np.errstate(all="ignore"):
        return np.asarray(found).astype(e.dtype)[()]


# --- kernels ------------------------------------------------------------------------------------------------------------
@kernel
def copy_strided(dims, xs, ys, item, x, y):
    at(y, f"V{item}", dims, ys)[...] = at(x, f"V{item}", dims, xs)


@kernel
def copy_by_table(extents, item, x, y, fill, *tables):
    lists = [dense(t, np.dtype(np.int64), n) for t, n in zip(tables, extents)]
    for i, offsets in enumerate(product(*lists)):
        source = fill if min(offsets) < 0 else x + int(sum(offsets))
        ctypes.memmove(y + i * item, source, item)


@kernel
def write_numbers(values, y):
    dense(y, np.dtype(np.int64), len(values))[...] = values


@kernel
def count_up(start, step, count, y):
    dense(y, np.dtype(np.int64), count)[...] = start + step * np.arange(count)


@kernel
def write_positions(reads, stride, y):
    indices = reads.indices()
    dense(y, np.dtype(np.int64), len(indices))[...] = np.where(indices == OUTSIDE, OUTSIDE, indices * stride)


@kernel
def map_elements(e, dims, unit, dtypes, strides, *addresses):
    assert unit == 1  # blocks are for backends that ask for them
    y, *xs = (at(a, dtype_from_name(d), dims, s) for a, d, s in zip(addresses, dtypes, strides))
    for i in np.ndindex(*dims):
        y[i] = value(e, [x[i] for x in xs])


@kernel
def run_passes(down, p, dims, m, n, strides, steps, *addresses):
    """Along rows of m segments of n elements, or down n columns of m."""
    count = len(p.kinds)
    dtypes = [*map(dtype_from_name, p.dtypes), *(e.dtype for _, e in p.outputs)]
    kinds = [*p.kinds, *("s" if kind == "s" and not down else "v" for kind, _ in p.outputs)]
    for outer in np.ndindex(*dims):
        arrays = []
        for address, s, step, dtype, kind in zip(addresses, strides, steps, dtypes, kinds):
            first = address + sum(i * by for i, by in zip(outer, s))
            if kind == "c":
                arrays.append(np.full((m, n), address, dtype))
            else:
                number = len(arrays) >= count and p.outputs[len(arrays) - count][0] == "s"  # one per row, or per column
                shape = (1 if number else m, 1 if number and not down else n)
                arrays.append(at(first, dtype, shape, (step, dtype.itemsize if kind == "v" else 0)))
        cells = [[(i, j) for i in range(m)] for j in range(n)] if down else [list(np.ndindex(m, n))]
        for j, places in enumerate(cells):
            results: list[Any] = []
            single = [a[0, j] if m and n else a.dtype.type(0) for a in arrays[:count]]
            for i, kind in enumerate(p.kinds):
                if kind == "c":
                    single[i] = dtypes[i].type(addresses[i])
            for one in p.passes:
                total = None
                for place in places:
                    mapped = value(one.map, [*(a[place] for a in arrays[:count]), *results])
                    if one.keep:
                        arrays[count][place] = mapped
                    total = mapped if total is None else _combined(one.combine, total, mapped)
                total = _neutral(one.combine, one.map.dtype) if total is None else total
                results.append(value(one.finish, [*single, *results, total]))
            for array, (kind, e) in zip(arrays[count:], p.outputs):
                if kind == "s":
                    array[0, j] = value(e, [*single, *results])
                for place in places if kind == "v" else ():
                    array[place] = value(e, [*(a[place] for a in arrays[:count]), *results])


def _combined(combine: str, a, b):
    both = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "and": np.bitwise_and}
    with np.errstate(all="ignore"):
        return both.get(combine, np.bitwise_or)(a, b)


def _neutral(combine: str, dtype: np.dtype):
    if combine in ("max", "min") and dtype.kind in "iu":
        return getattr(np.iinfo(dtype), "min" if combine == "max" else "max")
    inf = {"max": -math.inf, "min": math.inf}
    return dtype.type(inf[combine] if combine in inf and dtype.kind != "b" else combine in ("mul", "and", "min"))


@kernel
def extreme(largest, last, dtype, shape, x, y):
    a = dense(x, dtype_from_name(dtype), *shape)
    a = a[:, ::-1] if last else a
    places = (np.argmax if largest else np.argmin)(a, axis=1)
    dense(y, np.dtype(np.int64), shape[0], shape[2])[...] = shape[1] - 1 - places if last else places


@kernel
def scan(combine, exclusive, reverse, dtype, shape, x, y):
    a, out = (dense(p, dtype_from_name(dtype), *shape) for p in (x, y))
    order = range(shape[1])[::-1] if reverse else range(shape[1])
    total = np.full((shape[0], shape[2]), combine == "mul", a.dtype)
    for i in order:
        after = _combined(combine, total, a[:, i])
        out[:, i] = total if exclusive else after
        total = after


@kernel
def top_k(largest, dtype, shape, k, x, y, places):
    a = dense(x, dtype_from_name(dtype), *shape)
    if largest:  # of equals the first, and NaN is the largest: a stable sort of the axis in reverse, read from its end
        order = shape[1] - 1 - np.argsort(a[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :k]
    else:
        order = np.argsort(a, axis=1, kind="stable")[:, :k]
    dense(y, a.dtype, shape[0], k, shape[2])[...] = np.take_along_axis(a, order, 1)
    dense(places, np.dtype(np.int64), shape[0], k, shape[2])[...] = order


@kernel
def blend(b, shape, x, y, indices, weights):
    outer, size, inner = b["around"]
    a, (n, taps) = dense(x, dtype_from_name(b["dtype"]), outer, size, inner), shape
    i, w = dense(indices, np.dtype(np.int64), n, taps), dense(weights, np.dtype(np.float64), n, taps)
    out = dense(y, b["finish"].dtype, outer, n, inner)
    for o, p, q in np.ndindex(outer, n, inner):
        total = sum(w[p, t] * value(b["term"], [a[o, i[p, t], q]]) for t in range(taps))
        out[o, p, q] = value(b["finish"], [b["term"].dtype.type(total)])


def places(k: dict[str, Any], index: int, report: int) -> Iterator[tuple[int, int | None]]:
    """(number, offset in the data, or None where a position is out of range: the first is reported)."""
    dtype, axes = dtype_from_name(k["dtype"]), k["axes"]
    for number, i in enumerate(np.ndindex(*k["dims"])):
        first = index + sum(a * s for a, s in zip(i, k["index_strides"]))
        offset: int | None = sum(a * s for a, s in zip(i, k["data_strides"]))
        for j, (size, stride) in enumerate(axes):
            given = int(dense(first + j * dtype.itemsize, dtype, 1)[0])
            position = given + size if given < 0 and k["negative"] else given
            if not 0 <= position < size:
                words = dense(report, np.dtype(np.int64), 2)
                if words[0] == 0:
                    words[:] = (first - index) // dtype.itemsize + j + 1, given
                offset = None
                break
            offset += position * stride
        yield number, offset


@kernel
def gather(k, block, index, x, y, report):
    for number, offset in places(k, index, report):
        to = y + number * block
        ctypes.memset(to, 0, block) if offset is None else ctypes.memmove(to, x + offset, block)


@kernel
def scatter(k, dtype, total, block, reduction, index, x, y, updates, report):
    dtype = dtype_from_name(dtype)
    ctypes.memmove(y, x, total * dtype.itemsize) if x else ctypes.memset(y, 0, total * dtype.itemsize)
    for number, offset in places(k, index, report):
        if offset is not None:
            to, new = dense(y + offset, dtype, block), dense(updates + number * block * dtype.itemsize, dtype, block)
            to[...] = new if reduction == "none" else _combined(reduction, to, new)


@kernel
def reverse(dtype, batch, time, block, x, y, lengths, report):
    for i in range(batch[0]):
        n = int(dense(lengths, dtype_from_name(dtype), batch[0])[i])
        if not 0 <= n <= time[0]:
            dense(report, np.dtype(np.int64), 2)[:] = i + 1, n
            n = 0
        for t in range(time[0]):
            source = n - 1 - t if t < n else t
            ctypes.memmove(y + i * batch[1] + t * time[1], x + i * batch[1] + source * time[1], block)


@kernel
def window(what, x_type, y_type, kernel, strides, dilations, pads, groups, x, y, *weights):
    """Of one image after the other: a sum over taps, or the largest of them, or their mean."""
    a, out = dense(x, np.dtype(np.float32), *x_type), dense(y, np.dtype(np.float32), *y_type)
    ends = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(y_type[2:], strides, kernel, dilations)]
    room = [(0, 0), (0, 0), *((p, max(0, e - p - n)) for p, e, n in zip(pads, ends, x_type[2:]))]
    a = np.pad(a, room, constant_values=-np.inf if what == "MaxPool" else 0)
    out[...] = -np.inf if what == "MaxPool" else 0
    if what == "Conv":
        w = dense(weights[0], np.dtype(np.float32), y_type[1], x_type[1] // groups, *kernel)
        out[...] = (
            dense(weights[1], np.dtype(np.float32), y_type[1]).reshape(-1, *[1] * len(kernel)) if weights[1:] else 0
        )
    for tap in np.ndindex(*kernel):
        cut = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilations, y_type[2:], strides))
        part = a[(slice(None), slice(None), *cut)]
        if what == "MaxPool":
            np.maximum(out, part, out)
        elif what == "AveragePool":
            out += part / math.prod(kernel)
        else:
            for g in range(groups):
                c, k = x_type[1] // groups, y_type[1] // groups
                rows, columns = w[(slice(g * k, (g + 1) * k), slice(None), *tap)], part[:, g * c : (g + 1) * c]
                out[:, g * k : (g + 1) * k] += np.einsum("kc,nc...->nk...", rows, columns)


@kernel
def matrix_product(m, k, n, a_strides, b_strides, c_strides, alpha, beta, a, b, c, y):
    """Gemm: alpha * a @ b + beta * c, where c is 0 if there is none."""
    left, right = at(a, np.dtype(np.float32), (m, k), a_strides), at(b, np.dtype(np.float32), (k, n), b_strides)
    total = sum((np.outer(left[:, i], right[i]) for i in range(k)), np.zeros((m, n), np.float32))
    added = beta * at(c, np.dtype(np.float32), (m, n), c_strides) if c else 0
    dense(y, np.dtype(np.float32), m, n)[...] = alpha * total + added
