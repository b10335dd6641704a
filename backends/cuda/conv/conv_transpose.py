"""ConvTranspose as convolutions, one for each phase of the result.

Along an axis of stride s, the outputs o with the same (o + pad) mod s form a phase. Each of them sums the same taps of the kernel
over consecutive positions of the input, so that a phase is a convolution of stride 1 whose results lie s apart: nothing is
multiplied by the zeros that a transposed convolution is said to insert. Dilation d leaves the taps s / gcd(s, d) apart, and the
positions that they read d / gcd(s, d).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc.backends.cuda.conv.conv import conv_end, conv_supported, emit_conv
from graphc.backends.cuda.conv.filters import Filters, Packed
from graphc.backends.cuda.conv.window import ALONE, Axis, part_of
from graphc.backends.cuda.lower.channels import of_floats
from graphc.backends.cuda.lower.epilogue import Ending
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref, dense_strides
from graphc.ops.window import geometry
from graphc.report import StepInfo
from graphc.types import TensorType, numbers


@dataclass(frozen=True)
class Phase:
    """first, step: of the outputs. axis: the convolution that makes them."""

    first: int
    step: int
    axis: Axis


NO_PHASE = Phase(0, 1, ALONE)


def phases(size: int, kernel: int, stride: int, dilation: int, pad: int, out: int) -> list[Phase]:
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
        taps = range(tap, kernel, tap_step)
        # tap number j reads `step` positions before tap number j - 1; the last one's are counted from
        back = (tap * dilation - residue) // stride + (len(taps) - 1) * step - m if taps else 0
        places = tuple(step * (len(taps) - 1 - j) for j in range(len(taps)))
        found.append(Phase(first, stride, Axis(size, count, 1, back, places, tuple(taps))))
    return found


def phases_of(node: Node) -> list[tuple[Phase, ...]]:
    """Phases along depth, height and width."""
    g = geometry(node.call)
    spatial, outs = numbers(node.inputs[0].shape[2:]), numbers(node.output.shape[2:])
    each = zip(spatial, numbers(g.kernel), g.strides, g.dilations, numbers(g.pads_begin), outs)
    axes = [phases(*numbers_of) for numbers_of in each]
    return list(itertools.product(*[[NO_PHASE]] * (3 - len(axes)), *axes))


@lowers("ConvTranspose", supported=conv_supported, epilogue=lambda node: True, channels_last=of_floats)
def lower_conv_transpose(lo: CudaLowering, group: Group) -> None:
    node = group.anchor
    ending = conv_end(lo, group)
    if 0 in group.output.shape:
        return
    found, info = phases_of(node), lo.info(group, "conv")
    info = replace(info, flops=info.flops // len(found), nbytes=info.nbytes // len(found))
    for each in found:
        first, step, axes = [p.first for p in each], [p.step for p in each], [p.axis for p in each]
        part = Ending(
            ending.expression,
            part_of(ending.result, first, step),
            tuple(part_of(o, first, step) for o in ending.operands),
        )
        emit_conv(lo, node.inputs[0], _filters(lo, node, axes, info), axes, part, info)


def _filters(lo: CudaLowering, node: Node, axes: Sequence[Axis], info: StepInfo) -> Filters:
    """The taps of a phase, of weights [C, M / groups, *kernel] as those of a convolution: [M, C / groups, *taps]."""
    v, groups = node.inputs[1], node.attrs["group"]
    per_in, per_out = v.shape[0] // groups, v.shape[1]
    kernel = (*(1,) * (5 - v.type.rank), *v.shape[2:])
    whole = TensorType(v.dtype, (groups, per_in, per_out, *kernel))
    sizes = per_out * groups, per_in, groups, tuple(len(a.taps) for a in axes)
    if not v.is_const:
        return Filters(_taps(lo, v, axes, whole, info), v.dtype, *sizes)

    def make() -> np.ndarray:
        data = v.data.reshape(whole.shape)
        for i, a in enumerate(axes):
            data = data.take(a.kernel, i + 3)
        return np.ascontiguousarray(data.swapaxes(1, 2))

    recipe = ("taps", *(a.kernel for a in axes), groups)
    return Filters(Packed(v.data, recipe, make), v.dtype, *sizes)


def _taps(lo: CudaLowering, v: Value, axes: Sequence[Axis], whole: TensorType, info: StepInfo) -> Ref:
    """Of weights that are computed at run time. whole: [groups, C / groups, M / groups, *kernel]."""
    first, strides = lo.read(v).ref, list(dense_strides(whole))
    for i, a in enumerate(axes, 3):
        if len(a.kernel) > 1:
            first, strides[i] = first + a.kernel[0] * strides[i], (a.kernel[1] - a.kernel[0]) * strides[i]
        elif a.kernel:
            first += a.kernel[0] * strides[i]
    groups, per_in, per_out = whole.extents[:3]
    taps = TensorType(v.dtype, (groups, per_out, per_in, *(len(a.kernel) for a in axes)))
    strides[1], strides[2] = strides[2], strides[1]
    to = Ref(Buffer(f"{v.name}/taps", taps.nbytes))
    step = StepInfo(0, info.nodes[:1], ("Copy",), "copy_strided", "", "the taps of a phase", v.name, 0, 2 * taps.nbytes)
    lo.copy(first, strides, to, dense_strides(taps), taps.extents, v.dtype.itemsize, step)
    return to
