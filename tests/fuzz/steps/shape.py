"""Operators that move elements: shapes, axes, parts."""

from __future__ import annotations

import math

import numpy as np

from ..draft import Draft, Reject, Tensor
from ..draws import BOOL, I64, is_float
from . import step


def not_a_scalar(d: Draft, most: int = 8) -> Tensor:
    return d.pick(lambda t: 0 < t.rank <= most)


@step(2)
def transpose(d: Draft) -> None:
    x = d.pick(lambda t: t.rank > 1) if d.draw.chance(0.95) else d.pick()
    d.node("Transpose", x, perm=d.draw.one_of(None, *[d.draw.shuffled(range(x.rank))] * 3) if x.rank else None)


def factors(d: Draft, n: int, rank: int) -> list[int]:
    """`rank` dims of product n."""
    dims = [1] * rank
    for p in (2, 3, 5, 7, 11, 17):
        while n % p == 0 and n:
            dims[d.draw.count(0, rank - 1)] *= p
            n //= p
    dims[d.draw.count(0, rank - 1)] *= n
    return dims


@step(2.5)
def reshape(d: Draft) -> Tensor:
    """To any shape of as many elements: dims copied (0), inferred (-1), with open dims as such."""
    x = d.pick(lambda t: t.size > 0) if d.draw.chance(0.9) else d.pick()
    if x.open:
        front = 0
        while front in x.open or (front < x.rank and d.draw.chance(0.5)):
            front += 1
        rest = x.shape[front:]
        if any(i in x.open for i in range(front, x.rank)):
            return d.node("Reshape", x, d.ints(*[0] * front, -1))
        tail = factors(d, math.prod(rest), d.draw.count(1, 3))
        if len(x.open) == 1 and d.draw.chance(0.4):
            return d.node("Reshape", x, d.ints(-1, *tail))
        return d.node("Reshape", x, d.ints(*[0] * front, *tail))
    if x.size == 0:
        return d.node("Reshape", x, d.ints(*d.draw.shuffled(x.shape)), allowzero=1) if d.opset >= 14 else None
    target = factors(d, x.size, d.draw.count(1, 5))
    if d.draw.chance(0.5):
        target[d.draw.count(0, len(target) - 1)] = -1
    elif d.draw.chance(0.3) and x.rank and target[0] == x.shape[0]:
        target[0] = 0
    return d.node("Reshape", x, d.ints(*target))


@step(1)
def to_vector_dims(d: Draft) -> Tensor:
    """To a sequence [1, n, d] or an image [1, c, h, w]."""
    x = d.pick(lambda t: is_float(t.dtype) and not t.open and t.size > 3)
    return d.node("Reshape", x, d.ints(1, *factors(d, x.size, d.draw.one_of(2, 3))))


@step(1)
def computed_reshape(d: Draft) -> Tensor:
    """A dim is read from the shape, as exporters write it."""
    x = d.pick(lambda t: t.rank > 1 and t.size > 0)
    i = d.draw.count(0, x.rank - 1)
    n = d.node("Gather", d.node("Shape", x), d.ints(i), axis=0)
    if d.draw.chance(0.3):
        n = d.node("Unsqueeze", d.node("Squeeze", n, d.ints(0)), d.ints(0))
    return d.node("Reshape", x, d.node("Concat", n, d.ints(-1), axis=0))


@step(1)
def flatten(d: Draft) -> Tensor:
    x = d.pick()
    return d.node("Flatten", x, axis=d.draw.one_of(None, d.draw.count(-x.rank, x.rank)))


@step(1.5)
def squeeze(d: Draft) -> Tensor:
    x = d.pick()
    ones = [i for i, n in enumerate(x.shape) if n == 1 and i not in x.open]
    if ones and d.draw.chance(0.5):
        axes = d.draw.some(ones, 0.7) or ones
        return d.node("Squeeze", x, d.ints(*(i - x.rank if d.draw.chance(0.3) else i for i in d.draw.shuffled(axes))))
    n = d.draw.one_of(1, 1, 1, 2)
    if x.rank + n > 8:
        raise Reject("rank")
    axes = d.draw.shuffled(range(x.rank + n))[:n]
    return d.node("Unsqueeze", x, d.ints(*(i - x.rank - n if d.draw.chance(0.3) else i for i in axes)))


@step(3)
def concat(d: Draft) -> Tensor:
    """Values of equal dims, or parts made for the place; up to 40 of them, one twice."""
    x = not_a_scalar(d)
    axis = d.draw.count(0, x.rank - 1)

    def fits(t: Tensor) -> bool:
        same = t.dtype == x.dtype and t.rank == x.rank
        return same and all(
            a[:axis] + a[axis + 1 :] == b[:axis] + b[axis + 1 :] for a, b in zip(t.shapes(), x.shapes())
        )

    n = d.draw.one_of(1, 2, 2, 2, 3, 3, 4, 5, 8, 33, 40)
    parts = [x, *(d.pick(fits) for _ in range(n - 1))]
    if not x.open and d.draw.chance(0.4):
        dims = list(x.shape)
        dims[axis] = d.draw.one_of(0, 1, 2, 3, 8)
        parts.append(d.operand(x.dtype, dims))
    return d.node("Concat", *d.draw.shuffled(parts), axis=d.draw.one_of(axis, axis - x.rank))


@step(2)
def split(d: Draft) -> tuple:
    x = not_a_scalar(d)
    axis = d.axis(x, fixed=True)
    n = x.shape[axis]
    parts = d.draw.count(1, min(4, n)) if n else 1
    if n % parts == 0 and d.draw.chance(0.4):
        given = {"num_outputs": parts} if d.opset >= 18 else {}
        return d.node("Split", x, axis=axis, outputs=[True] * parts, **given)
    if d.opset >= 18 and parts > 1 and -(-n // parts) * (parts - 1) < n and d.draw.chance(0.2):
        return d.node("Split", x, axis=axis, outputs=[True] * parts, num_outputs=parts)
    cuts = sorted(d.draw.count(0, n) for _ in range(parts - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, n])]
    wanted = [d.draw.chance(0.85) for _ in sizes]
    wanted[d.draw.count(0, parts - 1)] = True
    return d.node("Split", x, d.ints(*sizes), axis=axis, outputs=wanted)


@step(2.5)
def slice_(d: Draft) -> Tensor:
    """Parts of one or two axes, forwards and backwards, with ends far outside."""
    x = not_a_scalar(d)
    axes = d.draw.shuffled(range(x.rank))[: d.draw.count(1, min(2, x.rank))]
    starts, ends, steps = [], [], []
    for i in axes:
        n = x.shape[i]
        stride = d.draw.one_of(1, 1, 1, 2, 3, -1, -1, -2)
        a, b = d.draw.count(0, n), d.draw.count(0, n)
        if stride > 0:
            a, b = min(a, b), d.draw.one_of(max(a, b), 2**31 - 1, 2**63 - 1)
            a = a - n if d.draw.chance(0.2) and a < n else a
        else:
            a, b = d.draw.one_of(max(a, b), n - 1, 2**31 - 1), d.draw.one_of(min(a, b) - n - 1, -(2**31), -(2**63) + 1)
        starts.append(a)
        ends.append(b)
        steps.append(stride)
    given = [i - x.rank if d.draw.chance(0.3) else i for i in axes]
    if axes == list(range(len(axes))) and set(steps) == {1} and d.draw.chance(0.5):
        return d.node("Slice", x, d.ints(*starts), d.ints(*ends))
    with_steps = set(steps) != {1} or d.draw.chance(0.3)
    return d.node("Slice", x, d.ints(*starts), d.ints(*ends), d.ints(*given), d.ints(*steps) if with_steps else None)


@step(2)
def pad(d: Draft) -> Tensor:
    """Grows and crops; constant, reflected, repeated."""
    x = not_a_scalar(d, 5)
    mode = d.draw.one_of("constant", "constant", "constant", "reflect", "edge", *(["wrap"] if d.opset >= 19 else []))
    axes = d.draw.some(range(x.rank), 0.5) or [x.rank - 1]
    low = -1 if mode == "constant" and d.draw.chance(0.4) else 0
    amounts = [[d.draw.count(low, 2) if i in axes else 0 for i in range(x.rank)] for _ in range(2)]
    if mode in ("reflect", "wrap", "edge"):
        least = 2 if mode == "reflect" else 0
        for i in range(x.rank):
            n = min(s[i] for s in x.shapes())
            for side in amounts:
                side[i] = min(side[i], max(0, n - 1)) if n >= least else 0
    value = d.const(d.draw.one_of(0, 0, 1, 2), x.dtype) if mode == "constant" and d.draw.chance(0.5) else None
    if value is None and x.dtype == BOOL:
        value = d.const(False)
    if d.opset >= 18 and d.draw.chance(0.4):
        pads = [side[i] for side in amounts for i in axes]
        return d.node("Pad", x, d.ints(*pads), value, d.ints(*axes), mode=mode)
    return d.node(
        "Pad",
        x,
        d.ints(*amounts[0], *amounts[1]),
        value,
        mode=d.draw.one_of(None, mode) if mode == "constant" else mode,
    )


@step(1)
def tile(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.size < 700)
    return d.node("Tile", x, d.ints(*(d.draw.one_of(1, 1, 2, 3) for _ in range(x.rank))))


@step(1.3)
def expand(d: Draft) -> Tensor:
    """By a constant shape, or by the shape of another value."""
    x = d.pick(lambda t: t.size < 500)
    if d.draw.chance(0.3):
        return d.node("Expand", x, d.node("Shape", d.partner(x)))
    dims = [d.draw.one_of(1, 2, 3, 9) if n == 1 else d.draw.one_of(1, n) for n in x.shape]
    dims = [1 if i in x.open else n for i, n in enumerate(dims)]
    dims = dims[d.draw.count(0, len(dims)) if d.draw.chance(0.2) else 0 :]
    if len(dims) < 7 and d.draw.chance(0.3):
        dims = [d.draw.one_of(1, 2), *dims]
    return d.node("Expand", x, d.ints(*dims))


@step(0.6)
def blocks(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.rank == 4 and t.size > 0)
    if d.draw.chance(0.5):
        return d.node("SpaceToDepth", x, blocksize=d.draw.one_of(1, 2, 3))
    return d.node("DepthToSpace", x, blocksize=d.draw.one_of(1, 2, 3), mode=d.draw.one_of(None, "DCR", "CRD"))


@step(0.6)
def triangle(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.rank > 1)
    if d.opset < 14:
        raise Reject("newer")
    k = d.const(d.draw.count(-3, 3), np.int64) if d.draw.chance(0.6) else None
    return d.node("Trilu", x, k, upper=d.draw.one_of(None, 0, 1))


@step(0.8)
def from_shape(d: Draft) -> Tensor:
    """Values that follow from the shape of others."""
    x = d.pick()
    match d.draw.one_of("Shape", "Size", "ConstantOfShape", "Range", "EyeLike"):
        case "Shape" if d.opset >= 15:
            start = d.draw.one_of(None, d.draw.count(-x.rank - 1, x.rank))
            return d.node("Shape", x, start=start, end=d.draw.one_of(None, d.draw.count(-x.rank - 1, x.rank + 1)))
        case "Size":
            return d.node("Size", x)
        case "Range":
            n = d.node("Squeeze", d.node("Gather", d.node("Shape", x), d.ints(d.axis(x)), axis=0), d.ints(0))
            return d.node("Range", d.const(0, I64), n, d.const(d.draw.one_of(1, 1, 2), I64))
        case "EyeLike":
            return d.node("EyeLike", d.pick(lambda t: t.rank == 2), k=d.draw.one_of(None, -1, 0, 1))
        case _:
            y = d.node("ConstantOfShape", d.node("Shape", x))
            return d.node("Add", y, x) if x.dtype.name == "float32" else y


@step(0.4)
def crop(d: Draft) -> Tensor:
    if d.opset < 18:
        raise Reject("newer")
    x = not_a_scalar(d)
    axes = d.draw.some([i for i in range(x.rank) if i not in x.open], 0.5)
    if not axes:
        raise Reject("no axis")
    return d.node("CenterCropPad", x, d.ints(*(d.draw.size(9) for _ in axes)), axes=axes)


@step(0.8)
def without_effect(d: Draft) -> Tensor:
    x = d.pick()
    match d.draw.one_of("Dropout", "Expand", "Tile", "Pad", "Where", "Slice", "Transpose", "Reshape"):
        case "Dropout" if is_float(x.dtype):
            return d.node("Dropout", x, d.const(0.5, np.float32), d.const(False) if d.draw.chance(0.3) else None)
        case "Tile":
            return d.node("Tile", x, d.ints(*[1] * x.rank))
        case "Pad" if x.dtype != BOOL:
            return d.node("Pad", x, d.ints(*[0] * 2 * x.rank))
        case "Where":
            return d.node("Where", d.const(d.draw.chance(0.5)), x, x)
        case "Slice" if x.rank:
            return d.node("Slice", x, d.ints(0), d.ints(2**63 - 1), d.ints(d.axis(x)))
        case "Transpose":
            return d.node("Transpose", x, perm=list(range(x.rank)) or None)
        case "Reshape":
            return d.node("Reshape", x, d.node("Shape", x))
        case _:
            return d.node("Expand", x, d.ints(*[1] * x.rank))
