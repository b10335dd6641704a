"""RNN, GRU and LSTM: one matrix product projects the whole input, then one step runs every direction through time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from graphc import expr
from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.gemm import Product, emit_product, panels_of, product_tile
from graphc.backends.cpu.lower.index import constant, positions
from graphc.backends.cpu.lower.movement import emit_copy
from graphc.backends.cpu.lower.recurrent_plan import RecurrentPlan, plan_recurrent
from graphc.backends.cpu.lower.registry import lowers, native_dtypes
from graphc.backends.cpu.lower.strassen import Matrix, Rows, emit_strassen, halves_of, serves
from graphc.backends.cpu.lower.window import Epilogue
from graphc.backends.cpu.micro.recurrent import HEAD_BYTES
from graphc.backends.cpu.micro.short_loop import UNROLL
from graphc.backends.cpu.runtime.checks import LengthOutOfRange
from graphc.backends.cpu.runtime.threads import SPINS
from graphc.backends.cpu.sizes import (
    BATCH_DIMS,
    MAX_STAGES,
    MAX_STREAMS,
    STAGE_HEAD,
    STATES_AT,
    STREAM,
    TILES,
    lines,
    padded,
)
from graphc.backends.cpu.storage import ALIGNMENT, Buffer, Ref, Storage
from graphc.backends.cpu.target import Target
from graphc.fuse import Group
from graphc.graph import Node, Value
from graphc.ops.recurrent import cell
from graphc.report import StepInfo

LONG = 8  # steps, from which on an operand that is batch first is projected sequence by sequence
CROWDED = 2048  # bytes: rows of a tile a multiple of this apart fall into one set of the level-1 cache, which holds few of them
Argument = Ref | Kernel | int
Stream = tuple[
    Ref, int, int, int, int, int
]  # address, then strides of a panel, a row of the batch, a step, the swing, a vector


def supported(node: Node, target: Target) -> str | None:
    if node.output.dtype != np.float32:
        return f"{node.op.name} has no {node.output.dtype.name} kernel"
    return "the input has no features" if node.inputs[0].shape[2] == 0 else native_dtypes(node)


@lowers("RNN", "GRU", "LSTM", supported=supported)
def lower_recurrent(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    results = [lo.write(v) for v in node.outputs]
    c = cell(node.call)
    if c.batch and c.hidden:
        _Recurrent(lo, group, plan_recurrent(node, lo.target, lo.threads)).emit(results)


class _Recurrent:
    """The steps of one layer."""

    def __init__(self, lo: Lowering, group: Group, layer: RecurrentPlan) -> None:
        self.lo, self.group, self.layer, self.cell = lo, group, layer, layer.cell
        self.node: Node = group.nodes[0]
        self.operands: list[Value | None] = [*self.node.inputs, *[None] * 8]
        self.width = len(layer.projection)
        crowded = self.width * 4 % CROWDED == 0  # rows would meet in one set of the level-1 cache
        # the sequences' rows of one step lie side by side: in other orders they too would meet in one set
        self.by_steps = not self.cell.batch_first or self.cell.seq >= LONG
        self.pitch = (self.width + (ALIGNMENT // 4 if crowded else 0)) * 4

    def emit(self, results: list[Storage]) -> None:
        layer, c, lo = self.layer, self.cell, self.lo
        projection = self._project()
        lens = self._lengths()
        records: list[Argument] = []
        for d in range(len(layer.directions)):
            records += self._direction(d, projection, lens, results)
        gathered = MAX_STREAMS * TILES * layer.mr * layer.row * 4 if lens else 0
        scratch, stride = lo.scratch(self.node.name, HEAD_BYTES + gathered)
        args = [len(layer.directions), int(layer.shared), SPINS, scratch, stride, *records]
        start = StepInfo(0, (self.node.name,), ("Start",), "recurrent_start", output=self.node.output.name)
        lo.emit(Kernel("recurrent_start"), args, start, check=self._out_of_range if lens else None)
        widths = [str(len(stage.gates) * v) for stage, v in zip(layer.stages, layer.vectors)]
        reason = f"tile {layer.mr}x{' and '.join(widths)}; " + (
            "panels shared" if layer.shared else "one thread per direction"
        )
        info = lo.info(self.group, "recurrent", "", reason)
        lo.emit(Kernel("recurrent"), args, replace(info, flops=info.flops * c.hidden // (c.hidden + c.inputs)))

    # --- operands ------------------------------------------------------------------------------------------------
    def _dense(self, v: Value) -> Ref:
        """An operand as a contiguous array."""
        s = self.lo.read(v)
        if s.contiguous:
            return s.ref
        whole = Ref(Buffer(f"{v.name}/dense", v.type.nbytes))
        emit_copy(self.lo, s, whole, v.name)
        return whole

    def _columns(
        self, v: Value | None, length: int, rows: np.ndarray, width: int, depth: int, second: np.ndarray | None = None
    ) -> Ref:
        """Rows of an operand, a matrix whose rows have `length` elements, as columns of panels of `width` columns.

        rows: the number of each column's row, or -1. second: rows that are added to them. An absent operand gives zeros.
        """
        numbers = [rows] if second is None else [rows, second]
        nbytes = len(rows) * depth * 4

        def make() -> np.ndarray:
            matrix = np.asarray(v.data).reshape(-1, length)
            columns = np.zeros((depth, len(rows)), np.float32)
            for n in numbers:
                columns[:length, n >= 0] += matrix[n[n >= 0]].T
            return np.concatenate([columns[:, at : at + width].reshape(-1) for at in range(0, len(rows), width)])

        if v is None:
            return Ref(self.lo.weights.zeros(nbytes))
        if v.is_const:
            recipe = ("columns", length, *(n.tobytes() for n in numbers), width, depth)
            return Ref(self.lo.weights.pack(v.data, recipe, make))
        to = Ref(Buffer(f"{v.name}/packed", nbytes))
        tables: list[Argument] = [constant(self.lo, n.astype(np.int64)).ref for n in numbers]
        args = [self._dense(v), to, *tables, *[0] * (2 - len(tables)), len(rows), length, length * 4, width, depth]
        info = StepInfo(
            0, (self.node.name,), ("Pack",), "pack_columns", "", f"%{v.name} is computed at run time", v.name
        )
        self.lo.emit(Kernel("pack_columns"), args, info, 2 * nbytes)
        return to

    def _project(self) -> Ref:
        """x W^T + biases of all steps at once: [step][sequence][`RecurrentPlan.projection`], `pitch` bytes per row. With few steps of
        an operand that is batch first, [sequence][step]."""
        c, lo, n, x = self.cell, self.lo, self.width, self.lo.read(self.node.inputs[0])
        y = Ref(Buffer(f"{self.node.name}/projection", max(1, c.seq * c.batch) * self.pitch))
        if c.seq == 0:
            return y
        outer, rows, _ = x.type.shape
        ones, zeros = (1,) * BATCH_DIMS, (0,) * BATCH_DIMS

        def first(v: int) -> tuple[int, ...]:
            return (v, *zeros[1:])

        p = Product(outer * rows, n, c.inputs, x.strides[1:], (0, 0), self.pitch, ones, zeros, zeros, zeros)
        if rows == 1:
            p = replace(p, a=(x.strides[0], x.strides[2]))
        elif outer > 1 and self.by_steps and c.batch_first:
            p = replace(
                p, m=rows, batch=(outer, *ones[1:]), a_batch=first(x.strides[0]), y_row=outer * self.pitch,
                y_batch=first(self.pitch),
            )  # fmt: skip
        elif outer > 1 and x.strides[0] != rows * x.strides[1]:
            p = replace(
                p, m=rows, batch=(outer, *ones[1:]), a_batch=first(x.strides[0]), y_batch=first(rows * self.pitch)
            )
        flops = 2 * c.seq * c.batch * len(self.layer.directions) * c.gates * c.hidden * c.inputs
        size = f"{outer * rows}x{p.k} by {p.k}x{p.n}, every step at once"
        nbytes = 4 * (c.seq * c.batch * (c.inputs + n) + n * c.inputs)
        ops, out = (f"{self.node.op.name} input",), self.node.output.name
        info = StepInfo(0, (self.node.name,), ops, "gemm", "gemm", "", out, flops, nbytes)
        if self._by_strassen(x, y, size, info):
            return y
        panels = panels_of(lo.target, p.m, n, c.inputs)
        weights = self._columns(
            self.operands[1], c.inputs, self.layer.projection, panels.nv * lo.target.vl, panels.padded
        )
        info = replace(info, reason=f"{size}; tile {panels.mr}x{panels.nv}")
        emit_product(lo, p, panels, (x.ref, weights, self._biases(), y), zeros, info)
        return y

    def _by_strassen(self, x: Storage, y: Ref, size: str, info: StepInfo) -> bool:
        """The projection by Strassen's algorithm, where that serves."""
        lo, c, v, vector = self.lo, self.cell, self.operands[1], self.lo.target.vl * 4
        m, n, k = c.seq * c.batch, self.width, c.inputs
        if not v.is_const or not self.by_steps or x.strides[2] != 4 or not serves(lo, m, n, k):
            return False
        h = halves_of(lo.target, m, n, k, partial(product_tile, lo.target))
        rows = self.layer.projection

        def load() -> np.ndarray:
            return np.where(rows[:, None] >= 0, v.data.reshape(-1, k)[rows], 0).T

        matrix = Matrix(v.data, ("projection", rows.tobytes()), load)
        info = replace(info, reason=f"{size}; tile {h.mr}x{h.nv}, an eighth fewer multiplications")
        time, row = (x.strides[i] for i in ((1, 0) if c.batch_first else (0, 1)))
        if c.batch_first and h.within(c.seq):  # rows in the order in which they lie
            left = Rows(x.ref, time, vector, width=c.seq, line=row)
            result = Rows(y, c.batch * self.pitch, vector, width=c.seq, line=self.pitch)
        else:
            left, result = Rows(x.ref, row, vector, width=c.batch, line=time), Rows(y, self.pitch, vector)
        emit_strassen(lo, h, 1, left, result, matrix, self._biases(), Epilogue(None), (), info)
        return True

    def _biases(self) -> Ref:
        """Wb + Rb of each column of the projection; Rb is left out where a stage adds it later.

        B is [directions, Wb of every gate and unit, then Rb]; the columns' numbers are those of rows of W.
        """
        rows, block = self.layer.projection, self.cell.gates * self.cell.hidden
        of_w = np.where(rows >= 0, rows + rows // block * block, -1)
        later = [int(start[1:]) for stage in self.layer.stages for start in stage.starts if start[0] == "b"]
        none = (rows < 0) | np.isin(rows % block // self.cell.hidden, later)
        return self._columns(self.operands[3], 1, of_w, self.width, 1, np.where(none, -1, of_w + block))

    def _vector(self, name: str, d: int) -> Ref:
        """One number a hidden unit: 'b2', the recurrent bias of gate 2, or a peephole."""
        hidden, gates = self.cell.hidden, self.cell.gates
        if name[0] == "b":
            v, at = self.operands[3], (d * 2 * gates + gates + int(name[1:])) * hidden
        else:
            v, at = self.operands[7], (d * 3 + ("pi", "po", "pf").index(name)) * hidden
        units = np.arange(self.layer.row)
        return self._columns(v, 1, np.where(units < hidden, at + units, -1), self.layer.row, 1)

    def _lengths(self) -> tuple[Ref, int] | None:
        """Address and bytes of an element of sequence_lens. Raises InputError where constants are out of range."""
        v = self.operands[4]
        if v is None:
            return None
        for number, value in enumerate(v.data.reshape(-1) if v.is_const else ()):
            if not 0 <= value <= self.cell.seq:
                raise self._out_of_range(number, int(value))
        s = positions(self.lo, self.group, v)
        return (s.ref if s.contiguous else self._dense(v)), s.type.dtype.itemsize

    @property
    def _out_of_range(self) -> LengthOutOfRange:
        return LengthOutOfRange(self.node.op.name, self.node.name, self.node.source, self.cell.seq)

    # --- records, as in drivers/recurrent.py -----------------------------------------------------------------------
    def _direction(
        self, d: int, projection: Ref, lens: tuple[Ref, int] | None, results: list[Storage]
    ) -> list[Argument]:
        c, layer, memory = self.cell, self.layer, _States(f"{self.node.name}/states {d}", self.layer)
        axis, batch_axis = (1, 0) if c.batch_first else (0, 1)  # of directions and of the batch in the states
        initial: list[Argument] = [0, 0]
        initial_strides = (c.hidden * 4, len(layer.directions) * c.hidden * 4)
        if not c.batch_first:
            initial_strides = (c.batch * c.hidden * 4, c.hidden * 4)
        for i, v in enumerate(self.operands[5:7]):
            if v is not None:
                initial[i] = self._dense(v) + d * initial_strides[0]
        y, *finals = results
        time, row, direction = (y.strides[i] for i in ((1, 0, 2) if c.batch_first else (0, 2, 1)))
        final: list[Argument] = [s.ref + d * s.strides[axis] for s in finals]
        final_row = [s.strides[batch_axis] for s in finals]
        y_ref = y.ref + d * direction
        span = layer.span(len(layer.stages) - 1)
        whole = {} if lens or c.hidden % span else {"y": (y_ref, span * 4, row, time, 0, layer.vl * 4)}
        head: list[Argument] = [
            memory.base, memory.nbytes, c.seq, c.batch, c.hidden, layer.mr, int(c.reverse[d]), *(lens or (0, 4)),
            layer.vl * 4, memory.swing, memory.states["h"], memory.states.get("c", 0), layer.depth // UNROLL,
            *initial, initial_strides[1], 0 if whole else y_ref, time, row, *final, *[0] * (2 - len(final)), *final_row,
            *[0] * (2 - len(final)), len(layer.stages),
        ]  # fmt: skip
        for s in range(MAX_STAGES):
            stage = self._stage(d, s, memory, projection, whole) if s < len(layer.stages) else []
            head += padded(stage, STAGE_HEAD + MAX_STREAMS * STREAM)
        return head

    def _stage(self, d: int, s: int, memory: _States, projection: Ref, whole: dict[str, Stream]) -> list[Argument]:
        """whole: 'y', where vectors of the new state can be stored as they are."""
        layer, stage = self.layer, self.layer.directions[d][s]
        gates, span, last = len(stage.gates), layer.span(s) * 4, s == len(layer.stages) - 1
        results = list(stage.results)
        if last and whole:
            number = gates + len(stage.operands) + [name for name, _ in results].index("h")
            results.append(("y", expr.arg(number, np.float32)))
        expressions = tuple(e for _, e in results)
        params = (layer.mr, gates, layer.vectors[s], len(stage.operands), expressions, layer.far)
        rows = layer.columns(s, d)
        weights = self._columns(self.operands[2], self.cell.hidden, rows, gates * layer.span(s), layer.depth)
        x, swing = memory.states[stage.state], memory.swing
        result = [memory.states["h"] + swing, -swing] if last else [memory.states["rh"], 0]
        streams: list[Argument] = []
        for name in (*stage.starts, *stage.operands):
            streams += self._stream(name, d, s, memory, projection)
        for name, _ in results:
            base, *steps, swung, vector = whole.get(name) or self._stream(name, d, s, memory, projection)
            streams += [base + swung, *steps, -swung, vector]
        return [
            Kernel("cell_stage", params), layer.panels(s), span, weights, layer.depth * gates * span, x,
            swing if stage.state == "h" else 0, *result, len(streams) // STREAM, *streams,
        ]  # fmt: skip

    def _stream(self, name: str, d: int, s: int, memory: _States, projection: Ref) -> Stream:
        c, layer, span, vector = self.cell, self.layer, self.layer.span(s) * 4, self.layer.vl * 4
        if name[0] == "x":
            gates = layer.stages[s].gates
            before = d * self.width // len(layer.directions) + sum(len(layer.columns(i)) for i in range(s))
            row, step = (1, c.batch) if self.by_steps else (c.seq, 1)
            base = projection + before * 4 + gates.index(int(name[1:])) * span
            return base, len(gates) * span, row * self.pitch, step * self.pitch, 0, vector
        if name in memory.states:
            swing = memory.swing if name in ("h", "c") else 0
            return memory.states[name], c.batch * span, vector, 0, swing, c.batch * vector
        return self._vector(name, d), span, 0, 0, 0, vector


class _States:
    """Memory of one direction: the barrier's words, then states: 'h' and 'c' twice, 'z', 'rh'."""

    def __init__(self, name: str, layer: RecurrentPlan) -> None:
        self.swing = lines(layer.cell.batch * layer.row * 4)
        used = {n for stage in layer.stages for n, _ in stage.results}
        at, places = STATES_AT, {}
        for key, count in (("h", 2), ("c", 2), ("z", 1), ("rh", 1)):
            if key in used:
                places[key] = at
                at += count * self.swing
        self.nbytes = at
        self.base = Ref(Buffer(name, at))
        self.states = {n: self.base + place for n, place in places.items()}
