"""ConvTranspose as plain convolutions, one for each phase of the output.

Along an axis of stride s, the output pixels o with the same (o + pad) mod s form a phase. Each of them sums the same taps of the
kernel over consecutive input pixels, so that a phase is a convolution of stride 1 with those taps, reversed, whose results lie
s pixels apart: no multiplication by the zeros that a transposed convolution is said to insert. Dilation d leaves the taps
s / gcd(s, d) apart, and the input pixels that they read d / gcd(s, d).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from graphc.backends.cpu.conv import dense_window
from graphc.backends.cpu.conv.conv import conv_supported, form, in_blocks
from graphc.backends.cpu.conv.direct import emit_direct
from graphc.backends.cpu.conv.filters import Filters
from graphc.backends.cpu.conv.window import (
    EpilogueOperand,
    Window,
    epilogue_of,
    epilogue_operands_of,
    five,
    triple,
    window_of,
)
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.policy import Choice
from graphc.backends.cpu.lower.registry import is_blocked, lowers
from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref
from graphc.types import Blocked, TensorType


@dataclass(frozen=True)
class Phase:
    """One axis of one phase: which outputs, which taps, and the convolution that they are."""

    first: int  # of the output pixels first, first + stride …
    count: int
    tap: int  # of the taps tap, tap + tap_step …
    tap_step: int
    taps: int
    dilation: int
    pad: int  # input pixel of output 0 and the last tap is -pad; may be negative


def phases(kernel: int, stride: int, dilation: int, pad: int, out: int) -> list[Phase]:
    """The phases of an axis that have outputs."""
    common = math.gcd(stride, dilation)
    tap_step, step = stride // common, dilation // common
    found = []
    for residue in range(stride):
        m = -((residue - pad) // stride)  # the first m with m * stride + residue - pad >= 0
        first = m * stride + residue - pad
        count = -((first - out) // stride)
        if count <= 0:
            continue
        tap = next((k for k in range(min(kernel, tap_step)) if k * dilation % stride == residue), kernel)
        taps = -((tap - kernel) // tap_step)
        back = (tap * dilation - residue) // stride + (taps - 1) * step  # input pixels that the last tap lies behind m
        found.append(Phase(first, count, tap, tap_step, taps, step, back - m))
    return found


def _axes(node: Node) -> list[list[Phase]]:
    w = window_of(node)
    return [phases(*axis) for axis in zip(w.kernel, w.stride, w.dilation, w.pad, w.out)]


def _windows(node: Node) -> list[tuple[tuple[Phase, ...], Window]]:
    """Each phase of the output, as a convolution."""
    w = window_of(node)
    return [(axes, _phase_window(w, axes)) for axes in itertools.product(*_axes(node))]


def _phase_window(w: Window, axes: tuple[Phase, ...]) -> Window:
    out = triple(p.count for p in axes)
    if any(p.taps == 0 for p in axes):  # nothing but the bias: one tap, above all rows of the image
        pad, ones = (0, out[1] + 1, 0), (1, 1, 1)
        end = triple(o - 1 - p - (size - 1) for o, p, size in zip(out, pad, w.size))
        return replace(w, out=out, kernel=ones, stride=ones, dilation=ones, pad=pad, pad_end=end)
    kernel, dilation, pad = (triple(getattr(p, f) for p in axes) for f in ("taps", "dilation", "pad"))
    end = triple(o - 1 + (k - 1) * d - p - (size - 1) for o, k, d, p, size in zip(out, kernel, dilation, pad, w.size))
    return replace(w, out=out, kernel=kernel, stride=(1, 1, 1), dilation=dilation, pad=pad, pad_end=end)


def halo(node: Node, choice: Choice | None = None) -> tuple[int, int]:
    """Columns that some phase reads left and right of a row."""
    sides = [w.halo for axes, w in _windows(node) if all(p.taps for p in axes)]
    return max((left for left, _ in sides), default=0), max((right for _, right in sides), default=0)


@lowers("ConvTranspose", supported=conv_supported, form=form, halo=halo, epilogue=in_blocks)
def lower_conv_transpose(lo: CpuLowering, group: Group) -> None:
    node = group.anchor
    if not is_blocked(node.inputs[0]):
        dense_window.emit_conv(lo, group)
        return
    y, epilogue_operands, epilogue = lo.write(group.output), epilogue_operands_of(lo, group), epilogue_of(group)
    stride = window_of(node).stride
    windows = _windows(node)
    for axes, w in windows:
        strides = tuple(st * s for st, s in zip(five(y)[2:], stride))
        place = Value(f"{group.output.name}/{len(windows)} phases", _phase_type(y.type, w))
        rank = place.type.rank - 2
        lo.place(place, y.ref + _shift(axes, five(y)), (*y.strides[:2], *strides[3 - rank :]))
        part = _phase_group(group, place, w)
        emit_direct(
            lo, part, w, f"phase {'x'.join(map(str, stride))}", epilogue, [_phase_operand(e, axes, stride) for e in epilogue_operands],
            _filters(node, w, axes),
        )  # fmt: skip


def _shift(axes: tuple[Phase, ...], strides: tuple[int, ...]) -> int:
    """Bytes to the first pixel of a phase."""
    return sum(p.first * st for p, st in zip(axes, strides[2:]))


def _phase_type(t: TensorType, w: Window) -> TensorType:
    rank = t.rank - 2
    return TensorType(t.dtype, (*t.shape[:2], *w.out[3 - rank :]), Blocked(t.blocks.c))


def _phase_group(group: Group, place: Value, w: Window) -> Group:
    """The group for one phase, which makes `place`: each node with its share of the work."""
    products = 2 * place.type.elements * math.prod(w.kernel) * (w.channels // group.anchor.attrs["group"])
    anchor, *rest = [_with_flops(n, products if n is group.anchor else place.type.elements) for n in group.nodes]
    if rest:
        rest[-1] = replace(rest[-1], outputs=(place,))
    else:
        anchor = replace(anchor, outputs=(place,))
    return Group((anchor, *rest), anchor, group.expression, group.operands)


def _with_flops(node: Node, count: int) -> Node:
    return replace(node, op=replace(node.op, flops=lambda call: count))


def _phase_operand(e: EpilogueOperand, axes: tuple[Phase, ...], stride: tuple[int, int, int]) -> EpilogueOperand:
    ref = e.ref + _shift(axes, e.strides) if isinstance(e.ref, Ref) else e.ref
    return EpilogueOperand(ref, (*e.strides[:2], *triple(st * s for st, s in zip(e.strides[2:], stride))))


def _filters(node: Node, w: Window, axes: tuple[Phase, ...]) -> Filters:
    """The taps of a phase, reversed, of weights [C, M / groups, *kernel] as those of a convolution, [M, C / groups, *taps]."""
    data, groups = node.inputs[1].data, node.attrs["group"]
    per_in, per_out = w.channels // groups, w.out_channels // groups
    empty = any(p.taps == 0 for p in axes)

    def load() -> np.ndarray:
        if empty:
            return np.zeros((w.out_channels, per_in, *w.kernel), np.float32)
        kernel = (1,) * (5 - data.ndim) + data.shape[2:]
        depth, rows, columns = (slice(p.tap, None, p.tap_step) for p in axes)
        picked = data.reshape(groups, per_in, per_out, *kernel)[..., depth, rows, columns][..., ::-1, ::-1, ::-1]
        return picked.swapaxes(1, 2).reshape(w.out_channels, per_in, *w.kernel)

    return Filters(data, ("transposed", *(None if empty else (p.tap, p.tap_step) for p in axes)), load)
