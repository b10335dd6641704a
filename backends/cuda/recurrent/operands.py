"""Operands of RNN, GRU and LSTM as the kernel through time reads them: words of its block."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import expr as e
from graphc.backends.cuda.lower.epilogue import Ending, Walked, summed
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.product.matrices import Matrices, Result
from graphc.backends.cuda.product.product import emit_product
from graphc.backends.cuda.recurrent.persistent_block import VECTOR
from graphc.backends.cuda.recurrent.recurrent_block import NEIGHBOURS
from graphc.graph import Node, Value
from graphc.lower.checks import LengthOutOfRange
from graphc.lower.fuse import Group
from graphc.lower.index import positions
from graphc.lower.recurrent_cells import Stage
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.lower.verbs import Walk
from graphc.ops.recurrent import BoundCell
from graphc.report import StepInfo


class Operands:
    """Those of one layer. An operand that is absent is None."""

    def __init__(self, lo: CudaLowering, group: Group, c: BoundCell) -> None:
        self._lo, self._group, self._cell = lo, group, c
        self._node: Node = group.nodes[0]
        self._x, self._w, self._r, *rest = self._node.inputs
        given: list[Value | None] = [*rest, *[None] * 5]
        self._b, self._lens, self._h, self._c, self._p = given[:5]
        self._width = c.gates * c.hidden
        self._dtype = self._node.output.dtype
        self._wide = summed(self._dtype)  # of the projection

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
        c, width, directions, wide = self._cell, self._width, len(self._cell.reverse), self._wide.itemsize
        row = directions * width * wide
        outer, inner = (c.seq, 1) if c.batch_first else (1, c.batch)  # rows from one of the batch, one step to the next
        words = {"x_direction": width * wide, "x_row": outer * row, "x_time": inner * row}
        if c.seq == 0:
            return words | {"x": 0}
        node, rows = self._node, c.seq * c.batch
        x, w = self._lo.read(self._x), self._lo.strided(self._w)
        y = Ref(Buffer(f"{node.name}/projection", rows * row))
        item = self._dtype.itemsize
        results = [Result(y, wide, row, (width * wide,))]
        total, bias = e.arg(0, self._wide), self._biases(stages)
        if bias is not None:
            results.append(Result(bias, wide, 0, (width * wide,)))
            total = total + e.arg(1, self._wide)
        walked = [Walked(r.ref, self._wide, (width * wide, r.row, wide)) for r in results]
        m = Matrices(
            rows, width, c.inputs, x.ref, w.ref, (c.inputs * item, item), (w.strides[2], w.strides[1]),
            (directions,), (0,), w.strides[:1], tuple(results),
        )  # fmt: skip
        size = f"{rows}x{c.inputs} by {c.inputs}x{directions * width}, every step at once"
        flops = 2 * rows * c.inputs * directions * width
        nbytes = rows * row + item * c.inputs * (rows + directions * width)
        info = StepInfo(
            0, (node.name,), (f"{node.op.name} input",), "product", "", size, node.output.name, flops, nbytes
        )
        emit_product(self._lo, m, self._dtype, Ending(total, walked[0], tuple(walked[1:])), info)
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
            b = v.data.astype(self._wide).reshape(directions, 2, c.gates, c.hidden)
            whole = b[:, 0].copy()
            whole[:, :apart] += b[:, 1, :apart]
            return whole

        if v.is_const:
            return Ref(lo.weights.pack(v.data, ("recurrent biases", c.gates, c.hidden, apart), make))
        item, wide, info = self._dtype.itemsize, self._wide.itemsize, self._info(v, "Bias")
        given, to = lo.read(v).ref, Ref(Buffer(f"{v.name}/sum", directions * self._width * wide))
        first, second = (e.cast(e.arg(i, self._dtype), self._wide) for i in range(2))
        both, row, sums = [2 * self._width * item, item], [self._width * wide, wide], apart * c.hidden
        walks = [
            Walk(to, self._wide, row),
            *(Walk(given + k * self._width * item, self._dtype, both) for k in range(2)),
        ]
        lo.map(first + second, [directions, sums], walks, 1, v.name, info)
        if later:
            walks = [Walk(to + sums * wide, self._wide, row), Walk(given + sums * item, self._dtype, both)]
            lo.map(first, [directions, self._width - sums], walks, 1, v.name, info)
        return to

    # --- the recurrence ----------------------------------------------------------------------------------------------
    def recurrence(self) -> dict[str, Any]:
        """R packed: [direction][unit of the state][gate][unit], so that neighbouring threads read neighbouring weights."""
        v, c, lo, directions = self._r, self._cell, self._lo, len(self._cell.reverse)
        item = self._dtype.itemsize
        padded = -(-c.hidden // NEIGHBOURS) * NEIGHBOURS  # the rows of a warp's units are whole sectors
        shape = directions, c.hidden, c.gates, padded
        words = {"r_direction": c.hidden * c.gates * padded * item, "pitch": padded * item}

        def make() -> np.ndarray:
            packed = np.zeros(shape, v.dtype)
            packed[..., : c.hidden] = v.data.reshape(directions, c.gates, c.hidden, c.hidden).transpose(0, 3, 1, 2)
            return packed

        if v.is_const:
            return words | {"r": Ref(lo.weights.pack(v.data, ("recurrent weights", *shape), make))}
        given, to = lo.strided(v), Ref(Buffer(f"{v.name}/packed", directions * words["r_direction"]))
        by_direction, by_row, by_element = given.strides
        source = [by_direction, by_element, c.hidden * by_row, by_row]
        row = c.gates * padded * item
        target = [c.hidden * row, row, padded * item, item]
        dims = [directions, c.hidden, c.gates, c.hidden]
        lo.copy(given.ref, source, to, target, dims, item, self._info(v, "Pack"))
        return words | {"r": to}

    def weights(self) -> tuple[dict[str, Any], bool]:
        """R as ONNX has it, [direction][gate][unit][unit of the state]. Are all its rows multiples of 16 bytes of float32?"""
        c, item = self._cell, self._dtype.itemsize
        r, row = self._lo.read(self._r).ref, c.hidden * item
        vector = VECTOR // self._wide.itemsize
        aligned = c.hidden % vector == 0 and r.offset % (vector * item) == 0
        return {"r": r, "r_direction": c.gates * c.hidden * row, "pitch": row}, aligned

    def initial(self) -> dict[str, Any]:
        """The initial states."""
        c, item = self._cell, self._dtype.itemsize
        words: dict[str, Any] = {}
        unit = c.hidden * item
        direction, row = (unit, len(c.reverse) * unit) if c.batch_first else (c.batch * unit, unit)
        for name, v in (("h", self._h), ("c", self._c)):
            words |= {name: self._whole(v), f"{name}_direction": direction, f"{name}_row": row}
        return words

    def vectors(self, stages: tuple[Stage, ...]) -> dict[str, Any]:
        """Biases that a stage adds, and peepholes."""
        nbytes = len(self._cell.reverse) * 2 * self._width * self._dtype.itemsize
        b: Any = 0
        if any(start[0] == "b" for stage in stages for start in stage.starts):
            b = Ref(self._lo.weights.zeros(nbytes)) if self._b is None else self._whole(self._b)
        return {"b": b, "p": self._whole(self._p)}

    def _whole(self, v: Value | None) -> Any:
        return 0 if v is None else self._lo.read(v).ref

    def _info(self, v: Value, what: str) -> StepInfo:
        reason, nbytes = f"%{v.name} is computed at run time", 2 * v.type.nbytes
        return StepInfo(0, (self._node.name,), (what,), "copy_strided", "", reason, v.name, 0, nbytes)
