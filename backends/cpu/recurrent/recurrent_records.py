"""The records of a recurrent layer's directions: see recurrent/recurrent_block.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc import expr
from graphc.backends.cpu.recurrent.recurrent_block import MAX_STAGES, MAX_STREAMS, STAGE, STATES_AT, STREAM, CellStage
from graphc.backends.cpu.recurrent.recurrent_operands import Operands
from graphc.backends.cpu.recurrent.recurrent_plan import RecurrentPlan
from graphc.backends.cpu.recurrent.recurrent_projection import Projection
from graphc.backends.cpu.sizes import FLOAT_BYTES, lines, padded
from graphc.backends.cpu.tile.dot import PAIRS
from graphc.backends.cpu.tile.short_loop_micro import UNROLL
from graphc.lower.storage import Buffer, Ref, Storage

INT32_BYTES = np.dtype(np.int32).itemsize


@dataclass(frozen=True)
class Stream:
    """Numbers for each unit and row of the batch. Strides in bytes; double_buffer: the offset, added on odd steps."""

    base: Ref
    panel: int
    row: int
    time: int
    double_buffer: int
    vector: int

    @property
    def result(self) -> Stream:
        """Where a step writes what the next one reads."""
        return replace(self, base=self.base + self.double_buffer, double_buffer=-self.double_buffer)

    @property
    def words(self) -> list[Any]:
        return STREAM(
            base=self.base,
            by_panel=self.panel,
            by_row=self.row,
            by_time=self.time,
            by_double_buffer=self.double_buffer,
            by_vector=self.vector,
        )


class States:
    """Memory of one direction: the barrier's words, then states: 'h' and 'c' twice, 'z', 'rh'."""

    def __init__(self, name: str, layer: RecurrentPlan) -> None:
        self.double_buffer = lines(layer.cell.batch * layer.row * FLOAT_BYTES)
        used = {n for stage in layer.stages for n, _ in stage.results}
        at, places = STATES_AT, {}
        for key, count in (("h", 2), ("c", 2), ("z", 1), ("rh", 1)):
            if key in used:
                places[key] = at
                at += count * self.double_buffer
        self.nbytes = at
        self.base = Ref(Buffer(name, at))
        self.at = {n: self.base + place for n, place in places.items()}


@dataclass(frozen=True)
class Direction:
    """Number d of a layer's directions. results: y, then the final states that are wanted. lens: address and bytes of an
    element of the sequences' lengths."""

    d: int
    operands: Operands
    projection: Projection
    lens: tuple[Ref, int] | None
    results: list[Storage]
    states: States

    def record(self) -> dict[str, Any]:
        c, layer, states = self.operands.cell, self.operands.layer, self.states
        y, _, y_row, y_time = self._y()
        whole = self._whole()
        lens, lens_item = self.lens or (0, INT32_BYTES)
        words = {
            "clear": states.base,
            "clear_bytes": states.nbytes,
            "seq": c.seq,
            "batch": c.batch,
            "hidden": c.hidden,
            "mr": layer.mr,
            "reverse": int(c.reverse[self.d]),
            "lens": lens,
            "lens_item": lens_item,
            "lane_bytes": layer.vl * FLOAT_BYTES,
            "double_buffer": states.double_buffer,
            "h": states.at["h"],
            "c": states.at.get("c", 0),
            "depth_blocks": c.hidden if layer.dot is PAIRS else layer.depth // UNROLL,
            "y": 0 if whole else y,
            "y_time": y_time,
            "y_row": y_row,
            "stages": len(layer.stages),
        }
        words |= self._initial() | self._final()
        stages = [padded(self._stage(s, whole), STAGE.size) for s in range(len(layer.stages))]
        return words | {"stage_records": padded([word for stage in stages for word in stage], MAX_STAGES * STAGE.size)}

    def _y(self) -> tuple[Ref, int, int, int]:
        """Where this direction's results begin; strides of a direction, a row of the batch, a step."""
        y = self.results[0]
        step, row, direction = (y.strides[i] for i in ((1, 0, 2) if self.operands.cell.batch_first else (0, 2, 1)))
        return y.ref + self.d * direction, direction, row, step

    def _initial(self) -> dict[str, Any]:
        c, d = self.operands.cell, self.d
        unit = c.hidden * FLOAT_BYTES
        direction, row = (unit, len(self.operands.layer.directions) * unit) if c.batch_first else (c.batch * unit, unit)
        given = (self.operands.h, self.operands.c)
        h, c_state = (0 if v is None else self.operands.dense(v) + d * direction for v in given)
        return {"h_initial": h, "c_initial": c_state, "initial_row": row}

    def _final(self) -> dict[str, Any]:
        axis, batch_axis = (1, 0) if self.operands.cell.batch_first else (0, 1)
        finals = self.results[1:]
        h, c = padded([s.ref + self.d * s.strides[axis] for s in finals], 2)
        h_row, c_row = padded([s.strides[batch_axis] for s in finals], 2)
        return {"h_final": h, "c_final": c, "h_final_row": h_row, "c_final_row": c_row}

    def _whole(self) -> Stream | None:
        """y as a result of the last stage, where vectors of the new state can be stored as they are."""
        c, layer = self.operands.cell, self.operands.layer
        span = layer.span(len(layer.stages) - 1)
        if self.lens or c.hidden % span:
            return None
        y, _, row, step = self._y()
        return Stream(y, span * FLOAT_BYTES, row, step, 0, layer.vl * FLOAT_BYTES)

    def _stage(self, s: int, whole: Stream | None) -> list[Any]:
        layer, states, stage = self.operands.layer, self.states, self.operands.layer.directions[self.d][s]
        gates, span, last = len(stage.gates), layer.span(s) * FLOAT_BYTES, s == len(layer.stages) - 1
        expressions = [e for _, e in stage.results]
        if last and whole:
            number = gates + len(stage.operands) + [name for name, _ in stage.results].index("h")
            expressions.append(expr.arg(number, np.float32))
        micro = CellStage(
            mr=layer.mr, gates=gates, vectors=layer.vectors[s], operands=len(stage.operands), results=tuple(expressions),
            far=layer.far, dot=layer.dot.name,
        )  # fmt: skip
        depth, columns = layer.depth, layer.columns(s, self.d)
        weights = self.operands.columns(
            self.operands.r, self.operands.cell.hidden, columns, gates * layer.span(s), depth, dot=layer.dot
        )
        streams = [self._stream(name, s) for name in (*stage.starts, *stage.operands)]
        streams += [self._stream(name, s).result for name, _ in stage.results]
        if last and whole:
            streams.append(whole)
        words = [word for stream in streams for word in stream.words]
        return STAGE(
            micro=micro,
            panels=layer.panels(s),
            span=span,
            w=weights,
            panel_bytes=layer.panel_bytes(s),
            x=states.at[stage.state],
            x_double_buffer=states.double_buffer if stage.state == "h" else 0,
            result=states.at["h"] + states.double_buffer if last else states.at["rh"],
            result_double_buffer=-states.double_buffer if last else 0,
            count=len(streams),
            streams=padded(words, MAX_STREAMS * STREAM.size),
        )

    def _stream(self, name: str, s: int) -> Stream:
        layer, states, c = self.operands.layer, self.states, self.operands.cell
        span, vector = layer.span(s) * FLOAT_BYTES, layer.vl * FLOAT_BYTES
        if name[0] == "x":
            gates = layer.stages[s].gates
            before = self.d * len(layer.projection) // len(layer.directions)
            before += sum(len(layer.columns(i)) for i in range(s))
            base = self.projection.ref + before * FLOAT_BYTES + gates.index(int(name[1:])) * span
            return Stream(base, len(gates) * span, *self.projection.strides(layer), 0, vector)
        if name in states.at:
            double_buffer = states.double_buffer if name in ("h", "c") else 0
            return Stream(states.at[name], c.batch * span, vector, 0, double_buffer, c.batch * vector)
        return Stream(self.operands.vector(name, self.d), span, 0, 0, 0, vector)
