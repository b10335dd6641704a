"""Operands of RNN, GRU and LSTM as the kernel through time reads them: words of its block."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import expr as e
from graphc.backends.cuda.lower.epilogue import Ending, Walked
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.product.matrices import Matrices, Result
from graphc.backends.cuda.product.product import emit_product
from graphc.backends.cuda.recurrent.recurrent_block import ITEM, NEIGHBOURS
from graphc.graph import Node, Value
from graphc.lower.checks import LengthOutOfRange
from graphc.lower.fuse import Group
from graphc.lower.index import positions
from graphc.lower.recurrent_cells import Stage
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.lower.verbs import Walk
from graphc.ops.recurrent import BoundCell
from graphc.report import StepInfo

F32 = np.dtype(np.float32)


class Operands:
    """Those of one layer. An operand that is absent is None."""

    def __init__(self, lo: CudaLowering, group: Group, c: BoundCell) -> None:
        self._lo, self._group, self._cell = lo, group, c
        self._node: Node = group.nodes[0]
        self._x, self._w, self._r, *rest = self._node.inputs
        given: list[Value | None] = [*rest, *[None] * 5]
        self._b, self._lens, self._h, self._c, self._p = given[:5]
        self._width = c.gates * c.hidden

    @property
    def out_of_range(self) -> LengthOutOfRange:
        return LengthOutOfRange(self._node.op.name, self._node.name, self._node.source, self._cell.seq)

    def lengths(self) -> Storage | None:
        """sequence_lens as int32 or int64. Raises InputError where constants are out of range."""
        v = self._lens
        if v is None:
            return None
        for number, value in enumerate(v.data.reshape(-1) if v.is_const else ()):
            if not 0 <= value <= self._cell.seq:
                raise self.out_of_range(number, int(value))
        return positions(self._lo, self._group, v)

    # --- the input ---------------------------------------------------------------------------------------------------
    def projection(self, stages: tuple[Stage, ...]) -> dict[str, Any]:
        """x W^T + biases of every step, direction and gate, by one product; rows in the order of those of x."""
        c, width, directions = self._cell, self._width, len(self._cell.reverse)
        row = directions * width * ITEM
        outer, inner = (c.seq, 1) if c.batch_first else (1, c.batch)  # rows from one of the batch, one step to the next
        words = {"x_direction": width * ITEM, "x_row": outer * row, "x_time": inner * row}
        if c.seq == 0:
            return words | {"x": 0}
        node, rows = self._node, c.seq * c.batch
        x, w = self._lo.read(self._x), self._lo.strided(self._w)
        y = Ref(Buffer(f"{node.name}/projection", rows * row))
        results = [Result(y, ITEM, row, (width * ITEM,))]
        total, bias = e.arg(0, F32), self._biases(stages)
        if bias is not None:
            results.append(Result(bias, ITEM, 0, (width * ITEM,)))
            total = total + e.arg(1, F32)
        walked = [Walked(r.ref, F32, (width * ITEM, r.row, ITEM)) for r in results]
        m = Matrices(
            rows, width, c.inputs, x.ref, w.ref, (c.inputs * ITEM, ITEM), (w.strides[2], w.strides[1]),
            (directions,), (0,), w.strides[:1], tuple(results),
        )  # fmt: skip
        size = f"{rows}x{c.inputs} by {c.inputs}x{directions * width}, every step at once"
        flops = 2 * rows * c.inputs * directions * width
        nbytes = ITEM * (rows * (c.inputs + directions * width) + directions * width * c.inputs)
        info = StepInfo(
            0, (node.name,), (f"{node.op.name} input",), "product", "", size, node.output.name, flops, nbytes
        )
        emit_product(self._lo, m, F32, Ending(total, walked[0], tuple(walked[1:])), info)
        return words | {"x": y}

    def _biases(self, stages: tuple[Stage, ...]) -> Ref | None:
        """Wb + Rb [direction][gate][unit]; Rb is left out where a stage adds it later."""
        v, c, lo = self._b, self._cell, self._lo
        if v is None:
            return None
        later = {int(start[1:]) for stage in stages for start in stage.starts if start[0] == "b"}
        apart, directions = c.gates - len(later), len(c.reverse)
        assert later == set(range(apart, c.gates))  # the last ones

        def make() -> np.ndarray:
            b = v.data.reshape(directions, 2, c.gates, c.hidden)
            whole = b[:, 0].copy()
            whole[:, :apart] += b[:, 1, :apart]
            return whole

        if v.is_const:
            return Ref(lo.weights.pack(v.data, ("recurrent biases", c.gates, c.hidden, apart), make))
        given, to = lo.read(v).ref, Ref(Buffer(f"{v.name}/sum", directions * self._width * ITEM))
        info = self._info(v, "Bias")
        both, sums = [2 * self._width * ITEM, ITEM], apart * c.hidden
        row = [self._width * ITEM, ITEM]
        walks = [Walk(to, F32, row), Walk(given, F32, both), Walk(given + self._width * ITEM, F32, both)]
        lo.map(e.arg(0, F32) + e.arg(1, F32), [directions, sums], walks, 1, v.name, info)
        at = sums * ITEM
        lo.copy(given + at, both, to + at, row, [directions, self._width - sums], ITEM, info)
        return to

    # --- the recurrence ----------------------------------------------------------------------------------------------
    def recurrence(self) -> dict[str, Any]:
        """R packed: [direction][unit of the state][gate][unit], so that neighbouring threads read neighbouring weights."""
        v, c, lo, directions = self._r, self._cell, self._lo, len(self._cell.reverse)
        padded = -(-c.hidden // NEIGHBOURS) * NEIGHBOURS  # the rows of a warp's units are whole sectors
        shape = directions, c.hidden, c.gates, padded
        words = {"r_direction": c.hidden * c.gates * padded * ITEM, "pitch": padded * ITEM}

        def make() -> np.ndarray:
            packed = np.zeros(shape, F32)
            packed[..., : c.hidden] = v.data.reshape(directions, c.gates, c.hidden, c.hidden).transpose(0, 3, 1, 2)
            return packed

        if v.is_const:
            return words | {"r": Ref(lo.weights.pack(v.data, ("recurrent weights", *shape), make))}
        given, to = lo.strided(v), Ref(Buffer(f"{v.name}/packed", directions * words["r_direction"]))
        by_direction, by_row, by_element = given.strides
        source = [by_direction, by_element, c.hidden * by_row, by_row]
        row = c.gates * padded * ITEM
        target = [c.hidden * row, row, padded * ITEM, ITEM]
        dims = [directions, c.hidden, c.gates, c.hidden]
        lo.copy(given.ref, source, to, target, dims, ITEM, self._info(v, "Pack"))
        return words | {"r": to}

    def initial(self) -> dict[str, Any]:
        """The initial states."""
        c = self._cell
        words: dict[str, Any] = {}
        unit = c.hidden * ITEM
        direction, row = (unit, len(c.reverse) * unit) if c.batch_first else (c.batch * unit, unit)
        for name, v in (("h", self._h), ("c", self._c)):
            words |= {name: self._whole(v), f"{name}_direction": direction, f"{name}_row": row}
        return words

    def vectors(self, stages: tuple[Stage, ...]) -> dict[str, Any]:
        """Biases that a stage adds, and peepholes."""
        nbytes = len(self._cell.reverse) * 2 * self._width * ITEM
        b: Any = 0
        if any(start[0] == "b" for stage in stages for start in stage.starts):
            b = Ref(self._lo.weights.zeros(nbytes)) if self._b is None else self._whole(self._b)
        return {"b": b, "p": self._whole(self._p)}

    def _whole(self, v: Value | None) -> Any:
        return 0 if v is None else self._lo.read(v).ref

    def _info(self, v: Value, what: str) -> StepInfo:
        reason, nbytes = f"%{v.name} is computed at run time", 2 * v.type.nbytes
        return StepInfo(0, (self._node.name,), (what,), "copy_strided", "", reason, v.name, 0, nbytes)
