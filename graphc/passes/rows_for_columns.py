"""Images one pixel wide become images one pixel high.

A convolution along time is often exported over [N, C, T, 1], sometimes over [N, C, 1, T]: the same bytes. Kernels put the pixels
of a row into a register tile, and the halo around rows, so that only the second form is fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc.graph import Node, Value
from graphc.passes.rewrite import Rewrite, Sweep
from graphc.types import number

CONVOLUTIONS = ("Conv", "ConvTranspose")
POOLS = ("MaxPool", "AveragePool", "LpPool")
GLOBAL_POOLS = ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
PER_AXIS = ("kernel_shape", "strides", "dilations", "output_padding", "output_shape")

rows_for_columns = Rewrite("rows_for_columns")


@rows_for_columns.on(*CONVOLUTIONS, *POOLS)
def window(node: Node, sweep: Sweep) -> Value | None:
    """window over [..., T, 1] -> Reshape∘window∘Reshape, with the last two axes exchanged."""
    x, *others = node.inputs
    if len(node.outputs) > 1 or not (_is_column(x) and _is_column(node.output, least=1)):
        return None
    if node.op.name in CONVOLUTIONS:
        w, *others = others
        if not w.is_const:
            return None
        others = [sweep.constant(w.data.swapaxes(-1, -2)), *others]
    row = sweep.add(node.op, _row(x, sweep), *others, **_exchanged(node.attrs))
    return _column(row, node, sweep)


@rows_for_columns.on(*GLOBAL_POOLS)
def global_pool(node: Node, sweep: Sweep) -> Value | None:
    """The result is one pixel either way."""
    row = _row_behind(node.inputs[0], sweep)
    return None if row is None else sweep.remake(node, row)


@rows_for_columns.on("Concat")
def concatenation(node: Node, sweep: Sweep) -> Value | None:
    """Of channels."""
    rows = [_row_behind(v, sweep) for v in node.inputs]
    known = [r for r in rows if r is not None]
    if len(known) < len(rows) or node.attrs["axis"] % len(known[0].shape) >= len(known[0].shape) - 2:
        return None
    return _column(sweep.add(node.op, *known, **node.attrs), node, sweep)


@rows_for_columns.on("*")
def elementwise(node: Node, sweep: Sweep) -> Value | None:
    """Between windows: operands are columns of one shape, or the same for all pixels."""
    if not node.op.elementwise or not all(v.type and v.type.is_static for v in node.operands):
        return None
    given = list(node.operands)
    rows = [_row_behind(v, sweep) for v in given]
    if not any(rows) or any(r is None and not _is_uniform(v) for r, v in zip(rows, given)):
        return None
    if any(r is not None and v.shape != node.output.shape for r, v in zip(rows, given)):
        return None
    by_value = dict(zip(given, rows))
    operands = [v if v is None else by_value[v] or v for v in node.inputs]
    return _column(sweep.add(node.op, *operands, **node.attrs), node, sweep)


def _is_column(v: Value, least: int = 2) -> bool:
    """[N, C, …, T, 1] of a known T."""
    t = v.type
    return t is not None and t.is_static and t.rank >= 4 and t.shape[-1] == 1 and number(t.shape[-2]) >= least


def _is_uniform(v: Value) -> bool:
    """Does it broadcast over the last two axes?"""
    return all(d == 1 for d in v.shape[-2:])


def _exchange(shape: Sequence[int]) -> list[int]:
    return [*shape[:-2], shape[-1], shape[-2]]


def _row_behind(v: Value, sweep: Sweep) -> Value | None:
    """[..., 1, T] of which the column v is a Reshape."""
    node = sweep.producer(v, "Reshape")
    if node is None or not _is_column(v):
        return None
    x = node.inputs[0]
    return x if x.type is not None and list(x.shape) == _exchange(v.shape) else None


def _row(v: Value, sweep: Sweep) -> Value:
    """The column v as [..., 1, T]."""
    found = _row_behind(v, sweep)
    return (
        found
        if found is not None
        else sweep.add("Reshape", v, sweep.constant(_exchange(v.shape), "int64"), allowzero=1)
    )


def _column(row: Value, node: Node, sweep: Sweep) -> Value:
    """The row in the shape of the node's result, under its name."""
    shape = sweep.constant(list(node.output.shape), "int64")
    return sweep.remake(node, row, shape, op="Reshape", attrs={"allowzero": 1})


def _exchanged(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a window with the last two axes exchanged."""
    new = {k: _exchange(v) if k in PER_AXIS and v is not None else v for k, v in attrs.items()}
    if new.get("pads") is not None:
        half = len(new["pads"]) // 2
        new["pads"] = [*_exchange(new["pads"][:half]), *_exchange(new["pads"][half:])]
    return new
