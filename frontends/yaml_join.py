"""How the paths of a branch meet: joins with checked shapes, and skips that project themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from graphc.dtypes import is_float
from graphc.frontends import yaml_layers
from graphc.frontends.yaml_args import convert
from graphc.frontends.yaml_expr import same_dim
from graphc.frontends.yaml_registry import LayerBuilder
from graphc.frontends.yaml_syntax import Item, check_keys
from graphc.graph import Value
from graphc.types import Dim

MAX_STRIDE = 16
_OPS = {"add": "Add", "mean": "Add", "mul": "Mul", "max": "Max"}


def join(cell: LayerBuilder, how: str, paths: Mapping[str, Value], axis: int) -> Value:
    """The paths' values joined. Raises LoadError that shows all shapes when they do not fit."""
    values = list(paths.values())
    if not values:
        raise cell.fail("it has no paths", "for example: paths: {main: [{conv: 8}], skip: []}")
    rank = len(values[0].shape)
    if how == "concat" and not -rank <= axis < rank:
        raise cell.fail(f"axis {axis} is out of range for {values[0].type}", f"use an axis from {-rank} to {rank - 1}")
    for value in values:
        pairs = list(zip(value.shape, values[0].shape))
        free = axis % rank if how == "concat" else None
        fits = [i == free or same_dim(a, b) or (free is None and 1 in (a, b)) for i, (a, b) in enumerate(pairs)]
        if len(value.shape) != rank or not all(fits):
            shapes = "\n  ".join(f"{name}: {v.type}" for name, v in paths.items())
            if rank > 2:
                hint = "`skip: {project: auto}` makes a skip that fits" if how == "add" else "check strides and padding"
            else:
                hint = f"the paths must be of one size{' but along the axis' if how == 'concat' else ''}"
            raise cell.fail(f"the paths can't be joined by {how}:\n  {shapes}", hint)
    if len(values) == 1:
        return values[0]
    if how == "concat":
        return cell.add("Concat", *values, axis=axis)
    if how == "mean" and not is_float(values[0].dtype):
        raise cell.fail(f"a mean needs floats, not {values[0].type}", "cast the paths: {Cast: {to: float32}}")
    total = values[0]
    for value in values[1:]:
        total = cell.add(_OPS[how], total, value)
    return cell.add("Mul", total, cell.const(1 / len(values), total.dtype)) if how == "mean" else total


def project(
    item: Item,
    x: Value,
    target: Value,
    part: Callable[[str, Callable[[LayerBuilder], Value]], Value],
    norm: Callable[[Value], Value],
) -> Value | None:
    """`{project: auto | zeros | never, bn: true}`: x itself where it has the target's shape already; else a 1×1 convolution
    with the stride that gives it (and batch norm); for zeros, what that stride meets of x and channels of zeros behind its own
    (He et al. 2015, arXiv:1512.03385, option A); or no skip at all for never.

    `part(name, build)` makes a layer, `norm` batch norm. Raises LoadError where no stride fits.
    """
    spec = check_keys(item, ("project", "bn"), "a projected skip")
    mode = spec["project"].value
    if mode not in ("auto", "zeros", "never"):
        raise spec["project"].error(f"project must be auto, zeros or never, not {mode!r}")
    if "bn" in spec and mode != "auto":
        raise item.at_key("bn").error(f"project: {mode} has no batch norm", "leave `bn` out")
    if _same(x, target):
        return x
    if mode == "never":
        return None
    with_bn = convert(spec["bn"], bool, "bn") if "bn" in spec else True
    if len(x.shape) != len(target.shape) or len(x.shape) < 3 or not isinstance(target.shape[1], int):
        raise item.error(f"no 1x1 convolution makes {target.type} of {x.type}")
    strides = tuple(_stride(a, b, item, x, target) for a, b in zip(x.shape[2:], target.shape[2:]))
    if mode == "zeros":
        missing = target.shape[1] - x.shape[1] if isinstance(x.shape[1], int) else -1
        if missing < 0:
            raise item.error(
                f"no channels of zeros make {target.type} of {x.type}", "project: auto learns a projection"
            )
        return part("zeros", lambda c: _padded(c, x, strides, missing))
    y = part("conv", lambda c: yaml_layers.conv(c, x, out=target.shape[1], k=1, s=strides, bias=not with_bn))
    return norm(y) if with_bn else y


def _padded(c: LayerBuilder, x: Value, strides: tuple[int, ...], channels: int) -> Value:
    """Every place that the strides meet, and so many more channels, of zeros."""
    rank = len(x.shape)
    axes = [2 + i for i, s in enumerate(strides) if s > 1]
    if axes:
        ends = c.const([np.iinfo(np.int64).max] * len(axes))
        x = c.add("Slice", x, c.const([0] * len(axes)), ends, c.const(axes), c.const([s for s in strides if s > 1]))
    return c.add("Pad", x, c.const([0] * (rank + 1) + [channels] + [0] * (rank - 2))) if channels else x


def _same(a: Value, b: Value) -> bool:
    return len(a.shape) == len(b.shape) and all(same_dim(p, q) for p, q in zip(a.shape, b.shape))


def _stride(size: Dim, wanted: Dim, item: Item, x: Value, target: Value) -> int:
    for s in range(1, MAX_STRIDE + 1):
        if same_dim((size - 1) // s + 1, wanted):
            return s
    raise item.error(f"no stride makes {target.type} of {x.type}")
