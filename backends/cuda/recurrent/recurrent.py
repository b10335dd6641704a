"""RNN, GRU and LSTM: one matrix product projects the whole input, then every direction runs through time (forms.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from graphc.backends.cuda.kernel import THREADS as THREADS_OF_BEGIN
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.product.tile import MULTIPROCESSORS
from graphc.backends.cuda.recurrent.forms import STEPS, Form, Problem, form_of, groups_of, parts_of, problem_of
from graphc.backends.cuda.recurrent.operands import Operands
from graphc.backends.cuda.recurrent.persistent_block import PERSISTENT, Persistent, PersistentBegin, exchanged
from graphc.backends.cuda.recurrent.recurrent_block import (
    NEIGHBOURS,
    RECURRENT,
    SHARED_BYTES,
    STEP,
    Recurrent,
    RecurrentEnd,
    RecurrentStep,
    slot_count,
)
from graphc.graph import Node
from graphc.lower.checks import Check
from graphc.lower.fuse import Group
from graphc.lower.recurrent_cells import Stage, stages
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.ops.recurrent import BoundCell, bound_cell
from graphc.report import StepInfo
from graphc.sizes import choose, example, hint_of, is_size, need

ROWS = (1, 2, 4, 8)  # of the batch, in a block
MANY = 4  # with more rows, kernels of two stages, of float64 or with states in scratch memory would spill registers
BUSY = (
    MULTIPROCESSORS // 2
)  # blocks that read weights at once before they keep each other waiting for the level-2 cache
STEP_THREADS = 256
PERSISTENT_NAMES = "persistent", "persistent, tensor cores"
BOUNDED = {"Sigmoid", "Tanh", "HardSigmoid", "Softsign"}  # activations between -1 and 1
NARROW, THREADS = 16, (64, 512)  # up to so many units a small block is enough


def supported(node: Node, target: Any = None) -> str | None:
    return "the input has no features" if node.inputs[0].shape[2] == 0 else native_dtypes(node)


@lowers("RNN", "GRU", "LSTM", supported=supported)
def lower_recurrent(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    results = [lo.write(v) for v in node.outputs]
    c = bound_cell(node.call)
    if c.batch and c.hidden:
        _emit_layer(lo, group, c, results)


def kernel_of(node: Node, c: BoundCell) -> Recurrent:
    """The kernel of a layer of these sizes."""
    dtype = node.output.dtype
    wide = summed(dtype)
    peepholes = len(node.inputs) > 7 and node.inputs[7] is not None
    every = tuple(stages(node.op.name, f, c.clip, node.attrs, peepholes, wide) for f in c.activations)
    alike = all(repr(s) == repr(every[0]) for s in every)
    rows, shared = _rows(c, every[0], wide)
    return Recurrent(every[:1] if alike else every, c.gates, rows, THREADS[c.hidden > NARROW], shared, dtype.name)


def _rows(c: BoundCell, cell: tuple[Stage, ...], wide: np.dtype) -> tuple[int, bool]:
    """Rows of the batch in a block, and whether their states fit in shared memory.

    More rows in a block use each weight that it reads more often; fewer leave work for more blocks.
    """
    nbytes = slot_count(cell) * c.hidden * wide.itemsize
    shared = nbytes <= SHARED_BYTES
    most = max((n for n in ROWS if n * nbytes <= SHARED_BYTES), default=MANY)
    if len(cell) > 1 or wide == np.float64:
        most = min(most, MANY)
    return choose(lambda batch: min(most, _enough(batch, len(c.reverse))), c.batch), shared


def _enough(batch: int, directions: int) -> int:
    """Rows with which there are not too many blocks."""
    return min((n for n in ROWS if directions * -(-batch // n) <= BUSY), default=ROWS[-1])


def _emit_layer(lo: CudaLowering, group: Group, c: BoundCell, results: list[Storage]) -> None:
    node, operands = group.nodes[0], Operands(lo, group, c)
    kernel = kernel_of(node, c)
    cells, wide = kernel.directions[0], summed(node.output.dtype)
    problem = _problem(node, c, kernel)
    form = form_of(problem, lo.card, lo.multiprocessors, not is_size(c.seq))
    lens = operands.lengths()
    words = operands.projection(cells) | operands.initial() | operands.vectors(cells) | _results(c, results)
    words |= {
        "total": c.batch, "indices": lens.ref if lens else 0, "wide": int(lens is not None and lens.type.dtype.itemsize == 8),
        "seq": c.seq, "batch": c.batch, "hidden": c.hidden, "reverse": (*map(int, c.reverse), 0)[:2],
    }  # fmt: skip
    info = lo.info(group, "")
    info = replace(info, flops=info.flops * c.hidden // (c.hidden + c.inputs))
    check = operands.out_of_range if lens else None
    if form.layout is not None:
        given, aligned = operands.weights()
        _emit_grid(lo, kernel, form, problem, aligned, words | given, info, check)
        return
    stepwise = form.kind == STEPS
    if stepwise:
        kernel = replace(kernel, rows=_rows_of_step(c, cells, wide), shared=False)
    groups = -(-c.batch // kernel.rows)
    holders = groups * len(c.reverse)
    states = slot_count(cells) * c.hidden * kernel.rows * wide.itemsize
    nbytes = 0 if kernel.shared else -(-states // 128) * 128
    words |= operands.recurrence() | {"grid": holders, "groups": groups, "scratch": 0, "scratch_bytes": nbytes}
    if stepwise:
        words["scratch"] = Ref(Buffer(f"{node.name}/states", nbytes * holders))
        _emit_steps(lo, kernel, c.seq, holders, words, info, check)
        return
    if nbytes:
        words["scratch"] = lo.scratch(node.name, nbytes * holders)
    where = "shared memory" if kernel.shared else "scratch memory"
    rows = f"{hint_of(kernel.rows)} of {c.batch} rows a block, states in {where}"
    info = replace(info, kernel=str(example(kernel)), reason=rows)
    lo.emit(kernel, RECURRENT(**words), info, check=check, writes=[s.ref for s in results])


def _problem(node: Node, c: BoundCell, kernel: Recurrent) -> Problem:
    cells, dtype = kernel.directions[0], node.output.dtype
    wide = summed(dtype)
    rows = hint_of(kernel.rows), _rows_of_step(c, cells, wide)
    constant = dtype.itemsize == 2 and node.inputs[2].is_const
    tensor = constant and c.hidden * dtype.itemsize % 16 == 0 and _bounded(c, dtype)  # rows of weights are vectors
    return problem_of(c, cells, dtype, wide, rows, tensor)


def _bounded(c: BoundCell, dtype: np.dtype) -> bool:
    """Are all states within the dtype's range?"""
    return dtype.name == "bfloat16" or {f.name for of in c.activations for f in of} <= BOUNDED


def _emit_grid(
    lo: CudaLowering,
    whole: Recurrent,
    form: Form,
    p: Problem,
    aligned: bool,
    words: dict[str, Any],
    info: StepInfo,
    check: Check | None,
) -> None:
    """The first states, then all steps."""
    layout, cells = form.layout, whole.directions[0]
    assert layout is not None
    most = groups_of(layout, p, lo.multiprocessors)
    if is_size(p.batch):
        need(p.batch <= most * layout.rows)
    if is_size(p.hidden):
        need(p.hidden == hint_of(p.hidden))
    groups, parts, slots = -(-p.batch // layout.rows), parts_of(layout, p.hidden), exchanged(cells)
    teams = p.directions * groups
    scratch = Ref(Buffer(f"{info.nodes[0]}/states", teams * slots * layout.slot))
    words |= {
        "groups": groups, "teams": teams, "parts": parts, "scratch": scratch, "scratch_bytes": 0,
        "team_bytes": slots * layout.slot,
    }  # fmt: skip
    shape = layout.rows, layout.lanes, layout.warps, layout.span
    begin = PersistentBegin(slots, *shape, layout.tensor, whole.dtype)
    nothing = dict.fromkeys(("x", "r", "b", "p", "c", "y", "h_final", "c_final"), 0)
    grid = -(-teams * slots * layout.tile // THREADS_OF_BEGIN)
    moved = replace(info, kernel=str(begin), flops=0, nbytes=0, reason="states")
    lo.emit(begin, PERSISTENT(**words | nothing | {"grid": grid}), moved, check=check, writes=[scratch])
    kernel = Persistent(
        whole.directions, whole.gates, *shape, layout.vector if aligned else 1, layout.tensor, whole.dtype
    )
    blocks = f"{teams * parts} blocks at once, each {layout.units} units and {layout.rows} of {p.batch} rows"
    info = replace(
        info, kernel=str(kernel), algorithm=PERSISTENT_NAMES[layout.tensor], reason=f"{blocks}; {form.on(lo.card)}"
    )
    writes = [scratch, *(words[n] for n in ("y", "h_final", "c_final") if isinstance(words[n], Ref))]
    lo.emit(kernel, PERSISTENT(**words | {"grid": teams * parts}), info, writes=writes)


def _rows_of_step(c: BoundCell, cells: tuple[Stage, ...], wide: np.dtype) -> int:
    """Rows of the batch in a block: as many as there are, if registers hold their sums."""
    most = MANY if len(cells) > 1 or wide == np.float64 else ROWS[-1]
    return next((n for n in ROWS if n >= hint_of(c.batch) or n == most), most)


def _emit_steps(
    lo: CudaLowering, whole: Recurrent, seq: int, holders: int, words: dict[str, Any], info: StepInfo, check: Check | None
) -> None:  # fmt: skip
    """The first states, a launch for each stage of each step, the last states."""
    cells, states = whole.directions[0], words["scratch"]
    inside = {"h": 0, "c": 0, "h_final": 0, "c_final": 0}
    at_first, at_last = {n: words[n] for n in ("h", "c")}, {n: words[n] for n in ("h_final", "c_final")}
    begin = RecurrentEnd(False, cells, whole.rows, THREADS[1], whole.dtype)
    moved = replace(info, kernel=str(begin), flops=0, nbytes=0, reason="states")
    args = RECURRENT(**words | inside | at_first | {"x": 0, "r": 0, "b": 0, "p": 0, "y": 0})
    lo.emit(begin, args, moved, check=check, writes=[states])
    unit_groups = -(-words["hidden"] // NEIGHBOURS)
    count = seq * len(cells)
    for step in range(seq):
        for stage in range(len(cells)):
            kernel = RecurrentStep(whole.directions, stage, whole.gates, whole.rows, STEP_THREADS, whole.dtype)
            of_step = words | inside | {"grid": holders * unit_groups, "unit_groups": unit_groups, "step": step}
            last = stage == len(cells) - 1
            args = STEP(**of_step if last else of_step | {"y": 0})
            share = replace(info, flops=info.flops // count, nbytes=info.nbytes // count)
            share = replace(share, kernel=str(kernel), algorithm="step by step", reason=f"step {step} of {seq}")
            lo.emit(kernel, args, share, writes=[states, *([words["y"]] if last else [])])
    end = RecurrentEnd(True, cells, whole.rows, THREADS[1], whole.dtype)
    finals = [r for r in at_last.values() if isinstance(r, Ref)]
    if not finals and not isinstance(words["indices"], Ref):
        return
    args = RECURRENT(**words | inside | at_last | {"x": 0, "r": 0, "b": 0, "p": 0})
    lo.emit(end, args, replace(moved, kernel=str(end)), writes=[words["y"], *finals])


def _results(c: BoundCell, results: list[Storage]) -> dict[str, Any]:
    """Words of the results: y, then the final states that are wanted."""
    y, *finals = results
    time, row, direction = (y.strides[i] for i in ((1, 0, 2) if c.batch_first else (0, 2, 1)))
    words: dict[str, Any] = {"y": y.ref, "y_direction": direction, "y_row": row, "y_time": time}
    for name, s in zip(("h_final", "c_final"), (*finals, None, None)):
        by_row, by_direction = (s.strides[i] for i in ((0, 1) if c.batch_first else (1, 0))) if s else (0, 0)
        words |= {name: s.ref if s else 0, f"{name}_direction": by_direction, f"{name}_row": by_row}
    return words
