"""The layers that compare, choose and count: arg max, top k, gather, one-hot codes, where, cumulative sums."""

from __future__ import annotations

from graphc.frontends.yaml_args import Number
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value

Ints = int | tuple[int, ...]


# --- which is the largest ---------------------------------------------------------------------------------------------
@layer
def argmax(c: LayerBuilder, x: Value, *, axis: int = -1, keepdims: bool = False) -> Value:
    """Where the largest element along an axis stands, int64; the first of several."""
    return c.add("ArgMax", x, axis=axis, keepdims=int(keepdims))


@layer
def argmin(c: LayerBuilder, x: Value, *, axis: int = -1, keepdims: bool = False) -> Value:
    """Where the smallest element along an axis stands, int64; the first of several."""
    return c.add("ArgMin", x, axis=axis, keepdims=int(keepdims))


@layer
def topk(c: LayerBuilder, x: Value, *, k: int, axis: int = -1, largest: bool = True) -> tuple[Value, Value]:
    """The k largest (or smallest) elements along an axis, best first, and where they stand: `as: [values, places]`."""
    return c.add("TopK", x, c.const([k]), outputs=2, axis=axis, largest=int(largest), sorted=1)


# --- elements by number -----------------------------------------------------------------------------------------------
@layer
def gather(c: LayerBuilder, *xs: Value, index: Ints | None = None, axis: int = 0) -> Value:
    """What stands at whole numbers along an axis: `from: [table, numbers]`, or at a fixed `index` (one number removes the
    axis, a list keeps it)."""
    if index is None:
        c.operands(xs, 2, hint="name them: from: [table, numbers], or give `index`")
        if xs[1].dtype.kind not in "iu":
            raise c.fail(f"takes whole numbers, not {xs[1].type}", "declare the input with dtype: int64")
        return c.add("Gather", *xs, axis=axis)
    c.operands(xs, 1, hint="`index` takes the place of the second one")
    return c.add("Gather", xs[0], c.const(index if isinstance(index, int) else list(index)), axis=axis)


@layer
def one_hot(c: LayerBuilder, ids: Value, *, classes: int, axis: int = -1) -> Value:
    """1 at the place that a whole number names and 0 elsewhere, float32; a new axis of size `classes`."""
    if ids.dtype.kind not in "iu":
        raise c.fail(f"takes whole numbers, not {ids.type}", "declare the input with dtype: int64")
    return c.add("OneHot", ids, c.const(classes), c.const([0, 1], "float32"), axis=axis)


# --- conditions -------------------------------------------------------------------------------------------------------
def _compare(name: str, op: str, symbol: str) -> None:
    def build(c: LayerBuilder, *xs: Value, to: Number | None = None) -> Value:
        return _condition(c, xs, op, to)

    build.__doc__ = f"true where x {symbol} to; or a {symbol} b of `from: [a, b]`."
    layer(build, name=name)


def _condition(c: LayerBuilder, xs: tuple[Value, ...], op: str, to: Number | None) -> Value:
    if to is None:
        c.operands(xs, 2, hint="name them: from: [a, b], or give a number: to")
        return c.add(op, *xs)
    c.operands(xs, 1, hint="`to` takes the place of the second one")
    return c.add(op, xs[0], c.const(to, xs[0].dtype))


for _name, _op, _symbol in (
    ("equal", "Equal", "="),
    ("greater", "Greater", ">"),
    ("greater_equal", "GreaterOrEqual", "≥"),
    ("less", "Less", "<"),
    ("less_equal", "LessOrEqual", "≤"),
):
    _compare(_name, _op, _symbol)


@layer
def where(c: LayerBuilder, *xs: Value, other: Number | None = None) -> Value:
    """`from: [condition, a, b]`: a where the condition is true, else b; or `from: [condition, a]` and a number, `other`."""
    if other is None:
        c.operands(xs, 3, hint="name them: from: [condition, a, b], or give `other` for b")
    else:
        c.operands(xs, 2, hint="name them: from: [condition, a]; `other` is the third")
        xs = (*xs, c.const(other, xs[1].dtype))
    if xs[0].dtype.kind != "b":
        raise c.fail(f"the condition must be true or false, not {xs[0].type}", "compare it: {greater: 0}")
    return c.add("Where", *xs)


@layer
def heaviside(c: LayerBuilder, x: Value, *, at: Number = 0) -> Value:
    """Heaviside's step: 1 where x ≥ at, else 0, in the type of x (McCulloch, Pitts 1943; Rosenblatt's perceptron)."""
    return c.add("Cast", c.add("GreaterOrEqual", x, c.const(at, x.dtype)), to=x.dtype)


@layer
def sign(c: LayerBuilder, x: Value) -> Value:
    """-1, 0 or 1."""
    return c.add("Sign", x)


# --- cumulative -------------------------------------------------------------------------------------------------------
@layer
def cumsum(c: LayerBuilder, x: Value, *, axis: int = -1, exclusive: bool = False, reverse: bool = False) -> Value:
    """Sums of all elements up to each along an axis; exclusive: without it; reverse: from the end."""
    return c.add("CumSum", x, c.const(axis), exclusive=int(exclusive), reverse=int(reverse))
