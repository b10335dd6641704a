"""RNN, GRU and LSTM: one matrix product projects the whole input, then one step runs every direction through time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.gemm import kinds
from graphc.backends.cpu.recurrent.recurrent_block import (
    HEAD_BYTES,
    MAX_STREAMS,
    RECURRENT,
    TILES,
    Recurrent,
    RecurrentStart,
)
from graphc.backends.cpu.recurrent.recurrent_operands import Operands
from graphc.backends.cpu.recurrent.recurrent_plan import RecurrentPlan, plan_recurrent, rounded_bytes
from graphc.backends.cpu.recurrent.recurrent_projection import Projection, emit_projection
from graphc.backends.cpu.recurrent.recurrent_records import Direction, States
from graphc.backends.cpu.runtime.threads import SPINS
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BFLOAT16, FMA, PAIRS, Dot
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Ref, Storage
from graphc.ops.recurrent import cell
from graphc.report import StepInfo
from graphc.sizes import hint_of, is_size, whole


def supported(node: Node, target: Target) -> str | None:
    if node.output.dtype != np.float32:
        return f"{node.op.name} has no {node.output.dtype.name} kernel"
    return "the input has no features" if node.inputs[0].shape[2] == 0 else native_dtypes(node)


@lowers("RNN", "GRU", "LSTM", supported=supported)
def lower_recurrent(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    results = [lo.write(v) for v in node.outputs]
    c = cell(node.call)
    if c.batch and c.hidden:
        _emit_layer(lo, group, plan_recurrent(node, lo.target, lo.threads, _dot_of(lo, node)), results)


def _dot_of(lo: CpuLowering, node: Node) -> Dot:
    """The inner step of a state's product: as the caller asks, where weights are constant. One row waits for them."""
    batch = cell(node.call).batch
    if not node.inputs[2].is_const or lo.policy.precision == "float32":
        return FMA
    if lo.policy.precision == "bf16":
        return PAIRS
    return BFLOAT16 if not is_size(batch) and batch == 1 else FMA


def _emit_layer(lo: CpuLowering, group: Group, layer: RecurrentPlan, results: list[Storage]) -> None:
    node, c = group.nodes[0], layer.cell
    operands, projection = Operands(lo, group, layer), Projection.of(node.name, layer)
    emit_projection(lo, operands, projection)
    lens = operands.lengths()
    states = [States(f"{node.name}/states {d}", layer) for d in range(len(layer.directions))]
    records = [Direction(d, operands, projection, lens, results, s).record() for d, s in enumerate(states)]
    gathered = MAX_STREAMS * TILES * layer.mr * layer.row * FLOAT_BYTES if lens else 0
    state = rounded_bytes(layer)
    scratch, stride = lo.scratch(node.name, state + HEAD_BYTES + gathered)
    args = RECURRENT(
        directions=len(layer.directions),
        shared=whole(layer.shared),
        spins=SPINS,
        scratch=scratch + state,
        scratch_stride=stride,
        records=records,
    )
    start = StepInfo(0, (node.name,), ("Start",), "recurrent_start", output=node.output.name)
    check = operands.out_of_range if lens else None
    memory = [s.base for s in states]
    initial = [r[name] for r in records for name in ("lens", "h_initial", "c_initial") if isinstance(r[name], Ref)]
    lo.emit(RecurrentStart(), args, start, check=check, writes=memory, reads=initial)
    info = lo.info(group, "recurrent", "", _reason(layer))
    info = replace(info, flops=info.flops * c.hidden // (c.hidden + c.inputs))
    made = [s.ref for s in results]
    reads = [a for a in args if isinstance(a, Ref) and a.buffer not in [r.buffer for r in made]]
    if not c.seq:  # the final states are the initial ones
        reads = memory
    lo.emit(Recurrent(), args, info, writes=[*made, *memory], reads=reads)


def _reason(layer: RecurrentPlan) -> str:
    widths = " and ".join(str(len(stage.gates) * v) for stage, v in zip(layer.stages, layer.vectors))
    shared = "panels shared" if hint_of(layer.shared) else "one thread per direction"
    return f"tile {hint_of(layer.mr)}x{widths}; {shared}{kinds(layer.dot)}"
