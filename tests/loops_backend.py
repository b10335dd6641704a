"""A third backend: plain NumPy loops behind the verbs of graphc/lower, with the table and the arena that graphc plans.

All that graphc/lower lowers runs, by the kernels in loops_kernels.py; convolution, pooling and products are lowered here, one
way each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from loops_kernels import (
    KERNELS,
    blend,
    copy_by_table,
    copy_strided,
    count_up,
    extreme,
    gather,
    map_elements,
    matrix_product,
    reverse,
    run_passes,
    scan,
    scatter,
    top_k,
    window,
    write_numbers,
    write_positions,
)

from graphc.backend import Capabilities, Request, Stage
from graphc.backends.reference import ReferenceBackend
from graphc.executable import Executable, check_results
from graphc.graph import Graph, Node
from graphc.interpret import run_node
from graphc.lower.aligned import aligned_empty
from graphc.lower.assembled import Assembled, HostCall
from graphc.lower.constants import constant
from graphc.lower.elementwise import row_major
from graphc.lower.fuse import Group, fuse
from graphc.lower.group import lower_group
from graphc.lower.host import copy_results
from graphc.lower.kernel import Kernel
from graphc.lower.lowering import Lowering
from graphc.lower.placement import place_concatenations, place_externals
from graphc.lower.program import Form, assemble
from graphc.lower.registry import NEUTRAL, Registry, load
from graphc.lower.storage import Ref, Storage
from graphc.lower.verbs import Lookup
from graphc.lower.weights import WeightStore
from graphc.ops._taps import TapRule
from graphc.ops.window import geometry
from graphc.report import MemoryReport, PassInfo, Plan

RULES = Registry("loops", NEUTRAL)


@dataclass(frozen=True, eq=False)
class Loops(Kernel, name="loops"):
    """A function of loops_kernels.py, and what it is given before addresses."""

    function: str
    given: tuple


# --- lowering -----------------------------------------------------------------------------------------------------------
class LoopsLowering(Lowering):
    def step(self, fn, params, refs, info, writes, check=None) -> None:
        kernel, args = Loops(fn.__name__, tuple(params)), [r or 0 for r in refs]
        self.emit(kernel, args, replace(info, kernel=fn.__name__), check=check, writes=writes)

    def copy_strided(self, x, xs, y, ys, dims, item, info):
        self.step(copy_strided, (tuple(dims), tuple(xs), tuple(ys), item), (x, y), info, [y])

    def copy_by_table(self, x, y, fill, item, tables, info):
        refs = [t.ref for t in tables]
        self.step(copy_by_table, (tuple(t.count for t in tables), item), (x, y, fill, *refs), info, [y])

    def write_numbers(self, y, values, info):
        self.step(write_numbers, (tuple(values),), (y,), info, [y])

    def count_up(self, y, start, step, count, info):
        self.step(count_up, (start, step, count), (y,), info, [y])

    def write_positions(self, y, reads, stride, info):
        self.step(write_positions, (reads, stride), (y,), info, [y])

    def map(self, expression, dims, walks, unit, name, info):
        dtypes, strides = tuple(w.dtype.name for w in walks), tuple(tuple(w.strides) for w in walks)
        self.step(
            map_elements, (expression, tuple(dims), unit, dtypes, strides), [w.ref for w in walks], info, [walks[0].ref]
        )

    def _passes(self, down, p, dims, operands, m, n, info):
        strides, steps = tuple(tuple(o.strides) for o in operands), tuple(o.step for o in operands)
        refs = [o.ref for o in operands]
        self.step(run_passes, (down, p, tuple(dims), m, n, strides, steps), refs, info, refs[len(p.kinds) :])

    def row_passes(self, p, dims, operands, m, n, info):
        self._passes(False, p, dims, operands, m, n, info)

    def column_passes(self, p, dims, operands, m, n, info):
        self._passes(True, p, dims, operands, m, n, info)

    def extreme(self, largest, last, dtype, x, shape, y, info):
        self.step(extreme, (largest, last, dtype.name, shape), (x, y), info, [y])

    def scan(self, combine, exclusive, reverse, dtype, x, shape, y, info):
        self.step(scan, (combine, exclusive, reverse, dtype.name, shape), (x, y), info, [y])

    def top_k(self, largest, dtype, x, shape, k, y, places, name, info):
        self.step(top_k, (largest, dtype.name, shape, k), (x, y, places), info, [y, places])

    def blend(self, b, name, info):
        params = {"around": b.around, "dtype": b.dtype.name, "term": b.term, "finish": b.finish}
        indices, weights = b.taps.taps() if isinstance(b.taps, TapRule) else (b.taps.indices, b.taps.weights)
        tables = [constant(self, a).ref for a in (indices.astype(np.int64), weights.astype(np.float64))]
        self.step(blend, (params, indices.shape), (b.x, b.y, *tables), info, [b.y])

    def _lookup(self, k: Lookup) -> dict[str, Any]:
        return {
            "dtype": k.index.type.dtype.name, "dims": tuple(k.dims), "index_strides": tuple(k.index_strides),
            "data_strides": tuple(k.data_strides), "axes": tuple(k.axes), "negative": k.negative,
        }  # fmt: skip

    def gather(self, lookup, x, y, block, check, info):
        self.step(gather, (self._lookup(lookup), block), (lookup.index.ref, x, y), info, [y], check)

    def scatter(self, lookup, x, y, total, updates, block, reduction, check, name, info):
        params = self._lookup(lookup), updates.type.dtype.name, total, block, reduction
        self.step(scatter, params, (lookup.index.ref, x, y, updates.ref), info, [y], check)

    def reverse(self, x, y, lengths, batch, time, block, check, info):
        self.step(reverse, (lengths.type.dtype.name, batch, time, block), (x, y, lengths.ref), info, [y], check)


def _plain(node, target) -> str | None:
    g = geometry(node.call)
    padded = node.op.name == "AveragePool" and any((*g.pads_begin, *g.pads_end))
    floats = all(v.dtype == np.float32 for v in (*node.operands, *node.outputs))
    return None if floats and len(node.outputs) == 1 and not padded and not node.attrs.get("ceil_mode") else "not plain"


@RULES.lowers("Conv", "MaxPool", "AveragePool", supported=_plain)
def lower_window(lo: LoopsLowering, group: Group) -> None:
    node, g = group.nodes[0], geometry(group.nodes[0].call)
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    weights = [contiguous(lo, lo.read(v)) for v in node.operands[1:]]
    params = (
        node.op.name, x.type.shape, y.type.shape, tuple(g.kernel), tuple(g.strides), tuple(g.dilations),
        tuple(g.pads_begin), node.attrs.get("group", 1),
    )  # fmt: skip
    lo.step(window, params, (contiguous(lo, x), y.ref, *weights), lo.info(group, "window"), [y.ref])


def contiguous(lo: LoopsLowering, s: Storage) -> Ref:
    return row_major(lo, s).ref


def _matrices(node: Node, target: None) -> str | None:
    plain = all(v.dtype == np.float32 and v.type.rank <= 2 for v in node.operands) and node.output.type.rank == 2
    return None if plain else "not float32 matrices"


@RULES.lowers("MatMul", "Gemm", supported=_matrices)
def lower_product(lo: LoopsLowering, group: Group) -> None:
    node = group.nodes[0]
    a, b, *rest = (lo.read(v) for v in node.operands)
    (m, n), get = node.output.shape, node.attrs.get
    a_strides, b_strides = a.strides[:: -1 if get("transA") else 1], b.strides[:: -1 if get("transB") else 1]
    k = a.type.shape[0 if get("transA") else 1]
    c, c_strides = (rest[0], broadcast(rest[0], 2)) if rest else (None, (0, 0))
    params = m, k, n, tuple(a_strides), tuple(b_strides), c_strides, float(get("alpha", 1)), float(get("beta", 1))
    y = lo.write(group.output).ref
    refs = a.ref, b.ref, c.ref if c else 0, y
    lo.step(matrix_product, params, refs, lo.info(group, "matrix_product"), [y])


def broadcast(s: Storage, rank: int) -> tuple[int, ...]:
    return (*(0,) * (rank - s.type.rank), *(0 if d == 1 else by for d, by in zip(s.type.shape, s.strides)))


# --- stages and the executable --------------------------------------------------------------------------------------------
@dataclass(eq=False)
class Draft:
    graph: Graph
    lo: LoopsLowering = field(default_factory=lambda: LoopsLowering(WeightStore(), RULES))
    groups: list[Group] = field(default_factory=list)
    made: tuple[Assembled, tuple[Kernel, ...], MemoryReport] | None = None


def reason(node) -> str | None:
    return RULES.host_reason(node, None)


def fuse_nodes(d: Draft) -> None:
    d.groups, _ = fuse(d.graph, lambda n: False, lambda *values: None, lambda n: reason(n) is None)


def lower(d: Draft) -> None:
    native = [g for g in d.groups if reason(g.anchor or g.nodes[0]) is None]
    place_externals(d.lo, d.graph, d.groups, len(native) == len(d.groups))
    place_concatenations(d.lo, native)
    for group in d.groups:
        lower_group(d.lo, group, reason(group.anchor or group.nodes[0]))
    copy_results(d.lo, d.graph)


def assemble_table(d: Draft) -> None:
    d.made = assemble(d.lo.program, Form(cost=lambda info: 0), d.lo.weights.place_of)[:3]


def nothing(d: Draft) -> None:
    pass


class LoopsBackend(ReferenceBackend):
    target = "loops"
    capabilities = Capabilities(needs_static_shapes=True)

    def kernel_operators(self) -> frozenset[str]:
        load("graphc.lower")
        return RULES.operators()

    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage("fuse", fuse_nodes, lambda d: "\n".join(map(str, d.groups)), nothing),
            Stage("lower", lower, lambda d: "\n".join(s.info.label for s in d.lo.program.steps), nothing),
            Stage("assemble", assemble_table, lambda d: f"arena of {d.made[0].arena} bytes", nothing),
        )

    def draft(self, graph: Graph) -> Draft:
        return Draft(graph)

    def executable(self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None) -> Executable:
        draft = self.draft(graph)
        for stage in self.stages():
            stage.run(draft)
        return LoopsExecutable(draft, passes)


class LoopsExecutable(Executable):
    def __init__(self, d: Draft, passes: tuple[PassInfo, ...]) -> None:
        self.graph = d.graph
        self.table, self.kernels, memory = d.made
        self.lengths = [len(s.args) for s in d.lo.program.steps if hasattr(s, "args")]
        infos = tuple(s.info for s in d.lo.program.steps)
        self.plan = Plan("loops", 1, {v.name: v.type.shape for v in self.graph.inputs}, infos, memory, (), passes)

    def run(self, arrays, out=None):
        t = self.table
        if out is not None:
            check_results(out, [(n, v.type) for n, v in zip(self.graph.output_names, self.graph.outputs)])
        externs = [np.zeros(e.shape, e.dtype) for e in t.externs]  # fresh: results are given away
        for i, a in zip(t.inputs, arrays):
            externs[i] = np.ascontiguousarray(a)
        for k, given in enumerate(out or ()):
            if given is not None and isinstance(t.outputs[k], int):
                externs[t.outputs[k]] = given
        arena, words = aligned_empty(t.arena), t.words.copy()
        for slots, addresses in (
            (t.constant_slots, [c.address for c in t.constants]),
            (t.arena_slots, [arena.ctypes.data]),
            (t.extern_slots, [e.ctypes.data for e in externs]),
        ):
            for where, what, offset in zip(*slots):
                words[where] = addresses[what] + offset
        for run in t.runs:
            if isinstance(run, HostCall):
                given = [externs[i] if isinstance(i, int) else i for i in run.inputs]
                for i, result in zip(run.outputs, run_node(run.node, given)):
                    externs[i][...] = result
                continue
            for number, first, _ in t.blocks[run[0] : sum(run)]:
                self._step(words, self.kernels[number], int(first), int(np.flatnonzero(t.blocks[:, 1] == first)[0]))
        for where, check in t.checks:
            if words[where][0]:
                raise check(int(words[where][0]) - 1, int(words[where][1]))
        return [externs[o] if isinstance(o, int) else o for o in t.outputs]

    def _step(self, words: np.ndarray, kernel: Loops, first: int, step: int) -> None:
        addresses = [int(w) for w in words[first : first + self.lengths[step]]]
        checked = any(where.stop == first + self.lengths[step] for where, _ in self.table.checks)
        if checked:  # the kernel is told where its report goes
            addresses = [*addresses[:-2], words.ctypes.data + 8 * (first + self.lengths[step] - 2)]
        KERNELS[kernel.function](*kernel.given, *addresses)


TARGETS = ("loops",)


def open_backend(request: Request) -> LoopsBackend:
    return LoopsBackend()
