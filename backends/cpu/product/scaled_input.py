"""Convolutions of an input times one number per channel (squeeze and excitation): the weights are multiplied instead.

They are fewer than the pixels of a large image, and the input is read where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphc.backends.cpu.conv.window import Window
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.tile.dot import FMA
from graphc.expr import Expr
from graphc.graph import Value
from graphc.lower.elementwise import emit_map
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.lower.strides import collapse
from graphc.types import TensorType

WORTH = 4  # times as many pixels as output channels: rows of weights are short, and multiplied one by one


@dataclass(frozen=True)
class ScaledInput:
    """What a group's prologue multiplies: `x`, of the input's type, by one number per channel, `scale`."""

    prologue: Group
    x: Value
    scale: Value

    @classmethod
    def of(cls, group: Group, w: Window) -> ScaledInput | None:
        """None where the prologue does something else, or it pays to multiply the input."""
        before = group.prologue
        assert before is not None and before.expression is not None
        if not _is_product(before.expression) or w.n > 1 or WORTH * w.out_channels > w.pixels:
            return None
        x, scale = before.operands
        if x.shape != before.output.shape:
            x, scale = scale, x
        single = x.shape == before.output.shape and not scale.is_const and all(d == 1 for d in scale.shape[2:])
        return cls(before, x, scale) if single and x.type.layout and scale.type.layout else None

    def emit(self, lo: CpuLowering, weights: Buffer, shape: tuple[int, int, int, int, int]) -> Buffer:
        """The step that scales packed weights of `shape` [tile][input block][window][channel][output channel]."""
        t = TensorType(FMA.b.numpy, shape)
        scaled = Buffer(f"{self.prologue.output.name}/weights", t.nbytes)
        s, packed = lo.read(self.scale), list(dense_strides(t))
        sources = {
            self.x: (Storage(Ref(weights), t, dense_strides(t)), packed),
            self.scale: (s, [0, s.strides[1], 0, s.type.dtype.itemsize, 0]),
        }
        places = [(Storage(Ref(scaled), t, dense_strides(t)), packed), *(sources[v] for v in self.prologue.operands)]
        dims, walks = collapse(list(shape), [list(strides) for _, strides in places])
        info = lo.info(self.prologue, "map", "", "weights instead of pixels")
        info = replace(info, flops=t.elements, nbytes=2 * t.nbytes)
        emit_map(lo, self.prologue, dims, walks, [storage for storage, _ in places], info)
        return scaled


def _is_product(e: Expr) -> bool:
    return e.prim == "mul" and [a.prim for a in e.args] == ["arg", "arg"] and e.args[0].index != e.args[1].index
