"""Operands of RNN, GRU and LSTM as their steps read them: columns of panels, vectors of hidden units, lengths."""

from __future__ import annotations

import numpy as np

from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.recurrent.recurrent_block import PACK_COLUMNS, PackColumns
from graphc.backends.cpu.recurrent.recurrent_plan import RecurrentPlan
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.tile.dot import FMA, Dot
from graphc.graph import Node, Value
from graphc.lower.checks import LengthOutOfRange
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.index import positions
from graphc.lower.movement import emit_copy
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo

PEEPHOLES = ("pi", "po", "pf")  # streams of the last operand, in its order


class Operands:
    """Those of one layer. An operand that is absent is None."""

    def __init__(self, lo: CpuLowering, group: Group, layer: RecurrentPlan) -> None:
        self.lo, self.group, self.layer, self.cell = lo, group, layer, layer.cell
        self.node: Node = group.nodes[0]
        self.x, self.w, self.r, *rest = self.node.inputs
        given: list[Value | None] = [*rest, *[None] * 5]
        self.b, self.lens, self.h, self.c, self.p = given[:5]

    def dense(self, v: Value) -> Ref:
        """An operand as a contiguous array."""
        s = self.lo.read(v)
        if s.contiguous:
            return s.ref
        whole = Ref(Buffer(f"{v.name}/dense", v.type.nbytes))
        emit_copy(self.lo, s, whole, v.name)
        return whole

    def columns(
        self,
        v: Value | None,
        length: int,
        rows: np.ndarray,
        width: int,
        depth: int,
        second: np.ndarray | None = None,
        dot: Dot = FMA,
    ) -> Ref:
        """Rows of an operand, a matrix whose rows have `length` elements, as columns of panels of `width` columns.

        rows: the number of each column's row, or -1. second: rows that are added to them. An absent operand gives zeros.
        depth: steps of `dot`, which is another than FMA of constants only.
        """
        numbers = [rows] if second is None else [rows, second]
        nbytes = len(rows) * depth * FLOAT_BYTES
        if v is None:
            return Ref(self.lo.weights.zeros(nbytes))

        def make() -> np.ndarray:
            matrix = np.asarray(v.data).reshape(-1, length)
            columns = np.zeros((depth * dot.k, len(rows)), np.float32)
            for n in numbers:
                columns[:length, n >= 0] += matrix[n[n >= 0]].T
            return np.concatenate(
                [dot.pack(columns[:, at : at + width]).reshape(-1) for at in range(0, len(rows), width)]
            )

        assert v.is_const or dot is FMA, dot
        if v.is_const:
            recipe = ("columns", length, *(n.tobytes() for n in numbers), width, depth, *dot.recipe)
            return Ref(self.lo.weights.pack(v.data, recipe, make))
        to = Ref(Buffer(f"{v.name}/packed", nbytes))
        tables = [constant(self.lo, n.astype(np.int64)).ref for n in numbers]
        args = PACK_COLUMNS(
            source=self.dense(v),
            to=to,
            rows=tables[0],
            others=0 if second is None else tables[1],
            columns=len(rows),
            length=length,
            stride=length * FLOAT_BYTES,
            width=width,
            depth=depth,
        )
        info = StepInfo(
            0, (self.node.name,), ("Pack",), "pack_columns", "", f"%{v.name} is computed at run time", v.name
        )
        self.lo.emit(PackColumns(), args, info, 2 * nbytes, writes=[to])
        return to

    def biases(self) -> Ref:
        """Wb + Rb of each column of the projection; Rb is left out where a stage adds it later.

        B is [directions, Wb of every gate and unit, then Rb]; the columns' numbers are those of rows of W.
        """
        rows, block = self.layer.projection, self.cell.gates * self.cell.hidden
        of_w = np.where(rows >= 0, rows + rows // block * block, -1)
        later = [int(start[1:]) for stage in self.layer.stages for start in stage.starts if start[0] == "b"]
        none = (rows < 0) | np.isin(rows % block // self.cell.hidden, later)
        return self.columns(self.b, 1, of_w, len(rows), 1, np.where(none, -1, of_w + block))

    def vector(self, name: str, d: int) -> Ref:
        """One number per hidden unit: 'b2', the recurrent bias of gate 2, or a peephole."""
        hidden, gates = self.cell.hidden, self.cell.gates
        if name[0] == "b":
            v, at = self.b, (d * 2 * gates + gates + int(name[1:])) * hidden
        else:
            v, at = self.p, (d * len(PEEPHOLES) + PEEPHOLES.index(name)) * hidden
        units = np.arange(self.layer.row)
        return self.columns(v, 1, np.where(units < hidden, at + units, -1), self.layer.row, 1)

    def lengths(self) -> tuple[Ref, int] | None:
        """Address and bytes of an element of sequence_lens. Raises InputError where constants are out of range."""
        v = self.lens
        if v is None:
            return None
        for number, value in enumerate(v.data.reshape(-1) if v.is_const else ()):
            if not 0 <= value <= self.cell.seq:
                raise self.out_of_range(number, int(value))
        s = positions(self.lo, self.group, v)
        return (s.ref if s.contiguous else self.dense(v)), s.type.dtype.itemsize

    @property
    def out_of_range(self) -> LengthOutOfRange:
        return LengthOutOfRange(self.node.op.name, self.node.name, self.node.source, self.cell.seq)
