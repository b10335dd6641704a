"""Resize, Pad and LRN of values that are channel-blocked already."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphc import expr as e
from graphc.backends.cpu.blocked.blocked_block import (
    JOIN_TAPS,
    LRN_BLOCKED,
    PICK_PIXELS,
    RESIZE_BLOCKED,
    JoinTaps,
    LrnBlocked,
    LrnRow,
    MixPixels,
    MixRows,
    PickPixels,
    ResizeBlocked,
)
from graphc.backends.cpu.conv.window import five
from graphc.backends.cpu.conv.window_block import dhw
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers_blocked
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.verbs.numbers import tap_tables
from graphc.graph import Node, Value
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.lrn import scaled
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.lower.tables import table
from graphc.ops._positions import Reads, every, padded
from graphc.ops._taps import TapRule, Taps, unchanged
from graphc.ops.movement import pad_amounts
from graphc.ops.resize import resize_plan
from graphc.report import StepInfo
from graphc.sizes import holds_sizes, is_size

MAX_TAPS = 32  # that a micro-kernel unrolls


def sizes(lo: CpuLowering, x: Storage, y: Storage, out: Value) -> dict[str, int | Ref]:
    """The words that the argument blocks of blocked/blocked_driver.py share."""
    n, channels, *spatial = out.shape
    strides = {f"{s}s_{at}": st for s, v in (("x", x), ("y", y)) for at, st in zip(("n", "block", "d", "h"), five(v))}
    extents = dhw("out", [1] * (3 - len(spatial)) + spatial)
    return {"x": x.ref, "y": y.ref, "n": n, "blocks": -(-channels // lo.target.vl), **extents, **strides}


def spatial_rank(v: Value) -> bool:
    """Has it one to three spatial dims, and elements?"""
    return 3 <= v.type.rank <= 5 and 0 not in v.shape


# --- LRN --------------------------------------------------------------------------------------------------------------
def _lrn_form(node: Node, c: int) -> str | None:
    attrs, x = node.attrs, node.inputs[0]
    finite = attrs["bias"] > 0 and attrs["alpha"] >= 0  # what lies behind the last channel must stay a number
    return "own" if spatial_rank(x) and attrs["size"] // 2 <= c and (finite or x.shape[1] % c == 0) else None


@lowers_blocked("LRN", form=_lrn_form)
def lower_lrn(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    size = node.attrs["size"]
    expression = scaled(e.arg(0, np.float32), e.arg(1, np.float32), node.attrs)
    micro = LrnRow(before=(size - 1) // 2, after=size // 2, expression=expression)
    args = LRN_BLOCKED(**sizes(lo, x, y, node.output), micro=micro, channels=node.output.shape[1])
    lo.emit(LrnBlocked(), args, lo.info(group, str(micro)), writes=[y.ref])


# --- pixels from other places -----------------------------------------------------------------------------------------
def emit_pick(
    lo: CpuLowering, group: Group, axes: Sequence[Reads | np.ndarray | None], fill: float, reason: str
) -> None:
    """y[…, d, h, w] = x[…, axes[0][d], …], or `fill` where there is no such pixel. None: an axis as it is."""
    node = group.nodes[0]
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    spatial = x.type.extents[2:]
    given = [every(d) if reads is None else reads for d, reads in zip(spatial, axes)]
    reads = [every(1)] * (3 - len(spatial)) + given
    tables = [table(lo, r, st) for r, st in zip(reads, five(x)[2:])]
    run, end = tables[2].run
    if not is_size(end - run) and end - run <= 1:
        run, end = 0, 0
    vector = constant(lo, np.full(lo.target.vl, fill, np.float32)).ref
    args = PICK_PIXELS(
        **sizes(lo, x, y, node.output),
        **dhw("from", [t.ref for t in tables]),
        fill=vector,
        run=run,
        run_end=end,
    )
    lo.emit(PickPixels(), args, lo.info(group, "pick_pixels", "", reason), writes=[y.ref])


def _pad_fill(node: Node) -> float:
    given = node.inputs[2] if len(node.inputs) > 2 else None
    return 0.0 if given is None else float(given.data.reshape(()))


def _pad_form(node: Node, c: int) -> str | None:
    x = node.inputs[0]
    if not spatial_rank(x) or not spatial_rank(node.output):
        return None
    if any(n for pair in pad_amounts(node.call)[:2] for n in pair):
        return None
    legal = node.attrs["mode"] != "constant" or np.isfinite(_pad_fill(node)) or x.shape[1] % c == 0
    return "own" if legal else None


@lowers_blocked("Pad", form=_pad_form)
def lower_pad(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    mode, amounts = node.attrs["mode"], pad_amounts(node.call)[2:]
    axes = [padded(d, *pair, mode) for d, pair in zip(node.inputs[0].shape[2:], amounts)]
    emit_pick(lo, group, axes, _pad_fill(node) if mode == "constant" else 0.0, mode)


# --- Resize -----------------------------------------------------------------------------------------------------------
def _taps(node: Node) -> list[Taps | TapRule | None] | None:
    """The taps of each spatial axis (None: it stays), or None if another axis changes."""
    given = [v.data if v is not None else None for v in node.inputs[1:]] + [None] * (4 - len(node.inputs))
    plan = dict(resize_plan(node.inputs[0].shape, *given, **node.attrs))
    if 0 in plan or 1 in plan:
        return None
    return [plan.get(axis) for axis in range(2, node.output.type.rank)]


def _resize_form(node: Node, c: int) -> str | None:
    if not spatial_rank(node.inputs[0]) or not spatial_rank(node.output):
        return None
    axes = _taps(node)
    if axes is None:
        return None
    given = [t for t in axes if t is not None]
    if any(isinstance(t, Taps) and t.outside.any() for t in given):  # the extrapolation value
        return None
    return "own" if math.prod(t.width for t in given) <= MAX_TAPS else None


@lowers_blocked("Resize", form=_resize_form)
def lower_resize(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    axes = _taps(node)
    assert axes is not None  # see _resize_form
    if node.attrs["mode"] == "nearest" or not any(t is not None for t in axes):
        picked = [t.reads if isinstance(t, TapRule) else None if t is None else t.indices[:, 0] for t in axes]
        emit_pick(lo, group, picked, 0.0, node.attrs["mode"])
        return
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    xs, spatial = five(x), x.type.extents[2:]
    depth, rows, along = [None] * (3 - len(spatial)) + axes
    depths, heights, width = [1] * (3 - len(spatial)) + list(spatial)
    offsets, weights, count = _rows(lo, [(depth, depths, xs[2]), (rows, heights, xs[3])])
    vector = lo.target.vl * FLOAT_BYTES
    scratch, stride = lo.scratch(node.output.name, 16 * count + (width + 1) * vector)
    places, place_weights = (0, 0) if along is None else tap_tables(lo, along, vector, np.dtype(np.float32))
    args = RESIZE_BLOCKED(
        **sizes(lo, x, y, node.output),
        mix_rows=MixRows(count) if count > 1 or along is None else 0,
        mix_pixels=0 if along is None else MixPixels(along.width),
        count=count,
        offsets=offsets,
        weights=weights,
        along=places,
        along_weights=place_weights,
        in_w=width,
        scratch=scratch,
        stride=stride,
    )
    reason = f"{count} x {1 if along is None else along.width} taps"
    lo.emit(ResizeBlocked(), args, lo.info(group, "resize_blocked", node.attrs["mode"], reason), writes=[y.ref])


def _rows(lo: CpuLowering, axes: Sequence[tuple[Taps | TapRule | None, int, int]]) -> tuple[Ref, Ref, int]:
    """What is summed for each row of the result, [depth, rows, taps], and the number of taps: offsets and the bits of float32
    weights, both int64. axes: taps, size and stride of depth and rows."""
    (depth, d_stride), (rows, h_stride) = ((unchanged(n) if t is None else t, stride) for t, n, stride in axes)
    count = depth.width * rows.width
    if isinstance(depth, TapRule) and isinstance(rows, TapRule) and holds_sizes((depth, rows, d_stride, h_stride)):
        return *_joined(lo, (depth, d_stride), (rows, h_stride)), count
    (di, dw), (hi, hw) = ((t.indices, t.weights) if isinstance(t, Taps) else t.taps() for t in (depth, rows))
    offsets = (di[:, None, :, None] * d_stride + hi[:, None, :] * h_stride).astype(np.int64)
    weights = (dw[:, None, :, None] * hw[:, None, :]).astype(np.float32).view(np.uint32).astype(np.int64)
    return constant(lo, offsets).ref, constant(lo, weights).ref, count


def _joined(lo: CpuLowering, depth: tuple[TapRule, int], rows: tuple[TapRule, int]) -> tuple[Ref, Ref]:
    """Both tables written by a step."""
    (d, h), records = (depth[0], rows[0]), []
    for rule, stride in (depth, rows):
        places, weights = tap_tables(lo, rule, stride, np.dtype(np.float64))
        records.append({"count": rule.count, "taps": rule.width, "places": places, "weights": weights})
    nbytes = 8 * d.count * h.count * d.width * h.width
    tables = [Ref(Buffer(name, nbytes)) for name in ("rows", "weights")]
    info = StepInfo(0, (), ("Taps",), "join_taps", output="rows", nbytes=2 * nbytes)
    lo.emit(JoinTaps(), JOIN_TAPS(offsets=tables[0], weights=tables[1], records=records), info, writes=tables)
    return tables[0], tables[1]
