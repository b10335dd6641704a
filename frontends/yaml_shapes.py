"""The layers that move elements: shapes, slices, padding, enlarging; and reductions over axes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from graphc.frontends.yaml_args import Number
from graphc.frontends.yaml_given import given_array
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.frontends.yaml_weights import INITS as DRAWN
from graphc.graph import Value

Ints = int | tuple[int, ...]
Init = Literal[
    "small", "he", "lecun", "around_one", "embedding", "zeros", "ones", "identity", "uniform", "normal", "xavier"
]


@layer
def flatten(c: LayerBuilder, x: Value, *, axis: int = 1) -> Value:
    """[batch, everything else]."""
    return c.add("Flatten", x, axis=axis)


@layer
def reshape(c: LayerBuilder, x: Value, *, shape: tuple[int, ...]) -> Value:
    """Another shape: 0 keeps the dim of the input, -1 takes what is left."""
    return c.add("Reshape", x, c.const(shape))


@layer
def transpose(c: LayerBuilder, x: Value, *, perm: tuple[int, ...]) -> Value:
    """Axes in another order."""
    return c.add("Transpose", x, perm=perm)


@layer
def squeeze(c: LayerBuilder, x: Value, *, axes: Ints) -> Value:
    """Remove axes of size 1."""
    return c.add("Squeeze", x, c.const(_list(axes)))


@layer
def unsqueeze(c: LayerBuilder, x: Value, *, axes: Ints) -> Value:
    """Insert axes of size 1."""
    return c.add("Unsqueeze", x, c.const(_list(axes)))


@layer(name="slice")
def slice_(c: LayerBuilder, x: Value, *, axis: int, start: int = 0, end: int | None = None, step: int = 1) -> Value:
    """x[start:end:step] along an axis."""
    stop = np.iinfo(np.int64).max if end is None else end
    return c.add("Slice", x, *(c.const([v]) for v in (start, stop, axis, step)))


@layer
def split(c: LayerBuilder, x: Value, *, parts: int, axis: int = 1) -> tuple[Value, ...]:
    """Equal parts along an axis; `as: [a, b]` names them."""
    if not 1 <= parts <= 4096:
        raise c.fail(f"parts must be from 1 to 4096, not {parts}")
    out = c.add("Split", x, outputs=parts, axis=axis, num_outputs=parts)
    return out if isinstance(out, tuple) else (out,)


@layer
def pad(
    c: LayerBuilder,
    x: Value,
    *,
    by: Ints,
    mode: Literal["constant", "reflect", "edge", "wrap"] = "constant",
    value: Number = 0,
) -> Value:
    """Pad the axes from 2 on: a number for all sides, one for each axis, or begins then ends."""
    space = len(x.shape) - 2
    amounts = [by] if isinstance(by, int) else list(by)
    if space < 1 or len(amounts) not in (1, space, 2 * space):
        raise c.fail(
            f"by has {len(amounts)} numbers, but the input is {x.type}", f"give 1, {space} or {2 * space} numbers"
        )
    amounts *= 2 * space // len(amounts)
    pads = [0, 0, *amounts[:space], 0, 0, *amounts[space:]]
    filling = [] if isinstance(value, int) and value == 0 else [c.const(value, x.dtype)]
    return c.add("Pad", x, c.const(pads), *filling, mode=mode)


@layer
def upsample(
    c: LayerBuilder, x: Value, *, scale: int = 2, mode: Literal["nearest", "linear", "cubic"] = "nearest"
) -> Value:
    """Enlarge the axes from 2 on by a whole number. nearest repeats; linear and cubic align half pixels."""
    scales = c.const([1, 1] + [scale] * (len(x.shape) - 2), np.float32)
    attrs: dict[str, Any] = (
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if mode == "nearest" else {}
    )
    return c.add("Resize", x, None, scales, mode=mode, **attrs)


def _reduce(name: str, op: str, doc: str) -> None:
    def build(c: LayerBuilder, x: Value, *, axis: Ints, keepdims: bool = False) -> Value:
        return c.add(op, x, c.const(_list(axis)), keepdims=int(keepdims))

    build.__doc__ = doc
    layer(build, name=name)


for _name, _op in (("mean", "ReduceMean"), ("sum", "ReduceSum"), ("max", "ReduceMax"), ("min", "ReduceMin")):
    _reduce(_name, _op, f"The {_name} along axes.")


@layer
def param(
    c: LayerBuilder,
    *,
    shape: tuple[int, ...] | None = None,
    init: Init = "small",
    value: Any = None,
) -> Value:
    """A learned tensor by itself (a position embedding, a scale); its weight is named `value`.

    value: written out, from a file or drawn (see `weights`); a list or a file says the shape, too.
    """
    if value is None and init not in DRAWN:
        value = c.item.of(init)
    if value is not None:
        c.given = {**c.given, "value": value}
    if shape is None:
        array = None if value is None else given_array(value, c.folder)
        if array is None:
            raise c.fail("it needs a 'shape', or a 'value' that has one")
        shape = array.shape
    return c.weight("value", shape, np.float32, init if init in DRAWN else "small")


def _list(value: Ints) -> list[int]:
    return [value] if isinstance(value, int) else list(value)
