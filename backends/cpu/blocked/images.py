"""Resize, Pad and LRN of values that are channel-blocked already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc import expr as e
from graphc.backends.cpu.blocked.blocked_block import (
    LRN_BLOCKED,
    PICK_PIXELS,
    RESIZE_BLOCKED,
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
from graphc.graph import Node, Value
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.lrn import scaled
from graphc.lower.pad import OUTSIDE, padded_positions
from graphc.lower.storage import Ref, Storage
from graphc.ops._taps import Taps
from graphc.ops.movement import pad_amounts
from graphc.ops.resize import resize_plan

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
def emit_pick(lo: CpuLowering, group: Group, positions: Sequence[np.ndarray | None], fill: float, reason: str) -> None:
    """y[…, d, h, w] = x[…, positions[0][d], …], or `fill` where a position is OUTSIDE. None: an axis as it is."""
    node = group.nodes[0]
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    spatial = x.type.extents[2:]
    given = [np.arange(d) if p is None else p for d, p in zip(spatial, positions)]
    axes = [np.zeros(1, np.int64)] * (3 - len(spatial)) + given
    tables = [np.where(p == OUTSIDE, OUTSIDE, p * st).astype(np.int64) for p, st in zip(axes, five(x)[2:])]
    breaks = np.flatnonzero((np.diff(axes[2]) != 1) | (axes[2][1:] < 0) | (axes[2][:-1] < 0)) + 1
    edges = np.concatenate([[0], breaks, [len(axes[2])]])
    longest = int(np.argmax(np.diff(edges)))
    run, end = int(edges[longest]), int(edges[longest + 1])
    if end - run <= 1:
        run, end = 0, 0
    vector = constant(lo, np.full(lo.target.vl, fill, np.float32)).ref
    args = PICK_PIXELS(
        **sizes(lo, x, y, node.output),
        **dhw("from", [constant(lo, t).ref for t in tables]),
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
    positions = [padded_positions(d, *pair, mode) for d, pair in zip(node.inputs[0].shape[2:], amounts)]
    emit_pick(lo, group, positions, _pad_fill(node) if mode == "constant" else 0.0, mode)


# --- Resize -----------------------------------------------------------------------------------------------------------
def _taps(node: Node) -> list[Taps | None] | None:
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
    if any(t.outside.any() for t in given):  # the extrapolation value
        return None
    counts = [t.indices.shape[1] for t in given]
    return "own" if int(np.prod(counts)) <= MAX_TAPS else None


@lowers_blocked("Resize", form=_resize_form)
def lower_resize(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    axes = _taps(node)
    assert axes is not None  # see _resize_form
    if node.attrs["mode"] == "nearest" or not any(t is not None for t in axes):
        emit_pick(lo, group, [None if t is None else t.indices[:, 0] for t in axes], 0.0, node.attrs["mode"])
        return
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    spatial = x.type.extents[2:]
    depth, rows, along = [_single(1)] * (3 - len(spatial)) + [
        _single(d) if t is None else t for t, d in zip(axes, spatial)
    ]
    xs = five(x)
    offsets = depth.indices[:, None, :, None] * xs[2] + rows.indices[:, None, :] * xs[3]
    weights = (depth.weights[:, None, :, None] * rows.weights[:, None, :]).astype(np.float32)
    count = offsets.shape[2] * offsets.shape[3]
    width, vector = spatial[-1], lo.target.vl * FLOAT_BYTES
    taps = along.indices.shape[1]
    moves = not along.is_identity(width)
    scratch, stride = lo.scratch(node.output.name, 16 * count + (width + 1) * vector)
    args = RESIZE_BLOCKED(
        **sizes(lo, x, y, node.output),
        mix_rows=MixRows(count) if count > 1 or not moves else 0,
        mix_pixels=MixPixels(taps) if moves else 0,
        count=count,
        offsets=_table(lo, offsets),
        weights=_table(lo, weights.view(np.uint32)),
        along=_table(lo, along.indices * vector),
        along_weights=constant(lo, along.weights.astype(np.float32)).ref,
        in_w=width,
        scratch=scratch,
        stride=stride,
    )
    info = lo.info(group, "resize_blocked", node.attrs["mode"], f"{count} x {taps} taps")
    lo.emit(ResizeBlocked(), args, info, writes=[y.ref])


def _single(size: int) -> Taps:
    """An axis as it is."""
    return Taps(np.arange(size)[:, None], np.ones((size, 1)), np.zeros(size, bool))


def _table(lo: CpuLowering, numbers: np.ndarray) -> Ref:
    return constant(lo, numbers.astype(np.int64)).ref
