"""Shapes and operands that all windowed kernels share: convolutions and pools over 1, 2 or 3 spatial dims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.backends.cpu.conv.conv_row_block import EPILOGUE_OPERAND_SIZE, MAX_EPILOGUE_OPERANDS
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.sizes import padded
from graphc.dtypes import FLOAT32
from graphc.expr import Expr
from graphc.graph import Node, Value
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref, Storage
from graphc.ops.window import geometry
from graphc.sizes import is_size, largest, most_of
from graphc.types import Dim, numbers

Triple = tuple[int, int, int]


def triple(values: Iterable[int]) -> Triple:
    """Three numbers. Raises ValueError for more or fewer."""
    d, h, w = values
    return d, h, w


@dataclass(frozen=True)
class Window:
    """A windowed operator as (d, h, w) triples; missing spatial dims have size 1."""

    n: int
    channels: int
    out_channels: int
    size: Triple
    out: Triple
    kernel: Triple
    stride: Triple
    dilation: Triple
    pad: Triple
    pad_end: Triple

    @property
    def pixels(self) -> int:
        return self.out[0] * self.out[1] * self.out[2]

    @property
    def is_planar(self) -> bool:
        """One or two spatial dims, or a third that changes nothing."""
        return self.size[0] == self.kernel[0] == self.out[0] == 1 and self.pad[0] == 0

    @property
    def halo(self) -> tuple[int, int]:
        """Columns that the windows of a row reach beyond its left and right end; at most, where its length stands for many."""
        if is_size(self.size[2]):
            return most_of(largest(0, self.pad[2])), most_of(largest(0, self.pad_end[2]))
        reach = (self.out[2] - 1) * self.stride[2] + (self.kernel[2] - 1) * self.dilation[2] - self.pad[2]
        return max(0, self.pad[2]), max(0, reach - (self.size[2] - 1))


def window_of(node: Node) -> Window:
    g = geometry(node.call)
    x, y = node.inputs[0].shape, node.output.shape

    def three(dims: Sequence[Dim], fill: int) -> Triple:
        return triple((fill,) * (3 - len(dims)) + numbers(dims))

    return Window(
        x[0], x[1], y[1], three(x[2:], 1), three(y[2:], 1), three(g.kernel, 1), three(g.strides, 1),
        three(g.dilations, 1), three(g.pads_begin, 0), three(g.pads_end, 0),
    )  # fmt: skip


def is_pointwise(w: Window) -> bool:
    """Does each output pixel read one input pixel, the one at its own position?"""
    return w.kernel == (1, 1, 1) and w.stride == (1, 1, 1) and not any(w.pad) and not any(w.pad_end)


def is_packed(w: Window, strides: tuple[int, ...]) -> bool:
    """Do all pixels of a result follow each other without a gap, or is there one for all? strides: as of `five`."""
    if not any(strides[2:]):
        return True
    step = strides[4]
    for size, stride in zip(reversed(w.out), reversed(strides[2:])):
        if size > 1 and stride != step:  # the stride of a single row or plane says nothing
            return False
        step *= size
    return True


def five(s: Storage) -> tuple[int, int, int, int, int]:
    """Byte strides of [n, channel block, d, h, w] of a blocked value."""
    n, c, *spatial = s.strides
    return n, c, *triple([0] * (3 - len(spatial)) + spatial)


@dataclass(frozen=True)
class EpilogueOperand:
    """An operand of an epilogue: address and byte strides of [n, channel block, d, h, w] (0 where broadcast)."""

    ref: Ref
    strides: tuple[int, int, int, int, int]


def epilogue_operands_of(lo: CpuLowering, group: Group) -> list[EpilogueOperand]:
    """The operands of a group's epilogue, in order."""
    return [epilogue_operand_of(lo, v, group.output) for v in group.operands]


def operand_slots(operands: Sequence[EpilogueOperand]) -> list[int]:
    """The fields of a CONV_ROW block for the operands of an epilogue; addresses are filled in at run time."""
    fields = [field for e in operands for field in (0, e.strides[1], e.strides[4])]
    return padded(fields, EPILOGUE_OPERAND_SIZE * MAX_EPILOGUE_OPERANDS)


def epilogue_operand_of(lo: CpuLowering, v: Value, out: Value) -> EpilogueOperand:
    """An operand of the result's shape is walked as the result is; every other one is a number per channel, of all images or
    of each."""
    if v.is_const:
        c = out.type.blocks.c
        return EpilogueOperand(Ref(channel_vector(lo, v.data, out.shape[1], c)), (0, c * FLOAT32.item, 0, 0, 0))
    s = lo.read(v)
    strides = five(s)
    if v.shape == out.shape:
        return EpilogueOperand(s.ref, strides)
    return EpilogueOperand(s.ref, (strides[0] if v.shape[0] > 1 else 0, strides[1], 0, 0, 0))


def bias_of(node: Node) -> np.ndarray | None:
    """The constant bias of a convolution."""
    return node.inputs[2].data if len(node.inputs) > 2 and node.inputs[2] is not None else None


@dataclass(frozen=True)
class Epilogue:
    """How a kernel ends: `expression` None means clip(acc + operand 0 if there is one, lo, hi)."""

    expression: Expr | None
    lo: float = -np.inf
    hi: float = np.inf

    @property
    def bounds(self) -> tuple[int, int]:
        """Bits of lo and hi as int64 arguments."""
        lo, hi = (int(np.float32(v).view(np.uint32)) for v in (self.lo, self.hi))
        return lo, hi


def epilogue_of(group: Group) -> Epilogue:
    """The standard form where the expression fits it, so that most layers share their kernels. Raises AssertionError for
    more operands than argument blocks have room for (graphc/lower/fuse.py takes fewer)."""
    if len(group.operands) > MAX_EPILOGUE_OPERANDS:
        raise AssertionError(
            f"{group} has {len(group.operands)} operands, kernels have room for {MAX_EPILOGUE_OPERANDS}"
        )
    e = group.expression
    if e is None:
        return Epilogue(None)
    lo, hi = -np.inf, np.inf
    body = e
    if body.prim == "min" and body.args[1].prim == "const":
        hi, body = body.args[1].number, body.args[0]
    if body.prim == "max" and body.args[1].prim == "const":
        lo, body = body.args[1].number, body.args[0]

    def is_arg(t: Expr, i: int) -> bool:
        return t.prim == "arg" and t.value == i

    plain = is_arg(body, 0)
    residual = body.prim == "add" and (
        is_arg(body.args[0], 0) and is_arg(body.args[1], 1) or is_arg(body.args[0], 1) and is_arg(body.args[1], 0)
    )
    return Epilogue(None, lo, hi) if plain or residual else Epilogue(e)
