"""The CPU backend's driver: a bound graph -> layouts -> groups -> steps -> machine code."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.lower import core
from graphc.backends.cpu.lower.algorithms import DEFAULT, Policy
from graphc.backends.cpu.lower.core import Lowering, dense_strides, lowering_of
from graphc.backends.cpu.lower.elementwise import lower_elementwise
from graphc.backends.cpu.lower.images import image_runs, lower_images
from graphc.backends.cpu.lower.movement import VIEWS
from graphc.backends.cpu.program import Assembled, Buffer, ExternBuffer, HostStep, Program, Ref, assemble
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.toolchain import Kernel
from graphc.backends.cpu.weights import WeightStore
from graphc.files import owned
from graphc.fuse import MOST_OPERANDS, Group, fuse
from graphc.graph import Graph, Node, Value
from graphc.layout import assign_layouts
from graphc.op import Kind, get_op
from graphc.report import FusionNote, MemoryReport, StepInfo
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.backends.cpu.checked.run import Checkable

Progress = Callable[[str, int, int], None]


@lru_cache(maxsize=1)
def _load_lowerings() -> None:
    import graphc.backends.cpu.lower as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def kernel_operators() -> frozenset[str]:
    """Operators with kernels of their own, which need no decomposition."""
    _load_lowerings()
    return frozenset(core._LOWER)


def host_reason(node: Node, target: Target, pending: bool = False) -> str | None:
    """Why a node runs on the host, or None. pending: it is not planned yet."""
    _load_lowerings()
    if node.op.kind is Kind.ELEMENTWISE and node.op.scalar is not None:
        if len(node.inputs) > MOST_OPERANDS:
            return f"more than {MOST_OPERANDS} operands"
        return core.native_dtypes(node)
    return core.unsupported(node, target, pending)


def is_native(graph: Graph, target: Target) -> bool:
    """Do kernels compute all of it?"""
    return not any(v.is_const for v in graph.outputs) and all(host_reason(n, target) is None for n in graph.nodes)


@dataclass(frozen=True, eq=False)
class Lowered:
    """A bound graph as a table of kernel calls."""

    assembled: Assembled
    kernels: tuple[Kernel, ...]
    steps: tuple[StepInfo, ...]
    memory: MemoryReport
    notes: tuple[FusionNote, ...]
    results: tuple[tuple[str, TensorType], ...]
    checkable: Checkable | None = None


def lower(
    graph: Graph,
    target: Target,
    threads: int,
    weights: WeightStore,
    progress: Progress | None = None,
    policy: Policy = DEFAULT,
    checked: bool = False,
) -> Lowered:
    """Layouts, groups, steps, table: everything but machine code and addresses. policy: what decides between algorithms.
    checked: for runs that look at every step.

    Raises Full (see WeightStore).
    """
    _load_lowerings()
    from graphc.backends.cpu.lower.rules import accepts_operand, layout_rules, takes_epilogue, takes_prologue

    graph = assign_layouts(graph, layout_rules(target, policy))
    compiled = lambda node: host_reason(node, target) is None  # noqa: E731
    groups, notes = fuse(
        graph,
        lambda n: compiled(n) and takes_epilogue(n),
        accepts_operand,
        compiled,
        lambda n: compiled(n) and takes_prologue(n, target, policy),
    )
    lo = Lowering(target, threads, weights, policy, checked)
    native = all(compiled(g.nodes[0]) for g in groups)
    place_externals(lo, graph, groups, native)
    runs = image_runs(groups, graph.outputs) if native else []
    alone = {groups[i] for run in runs for i in run}
    place_concatenations(lo, [g for g in groups if compiled(g.nodes[0])], alone)
    starts = {run.start: run for run in runs}
    for i, group in enumerate(groups):
        if progress:
            progress("lowering", i, len(groups))
        if i in starts:
            lower_images(lo, groups, starts[i], graph.outputs, _lower_images)
        elif group not in alone:
            _lower(lo, group)
    _copy_results(lo, graph)
    assembled, kernels, memory = assemble(lo.program, threads, weights.place_of)
    results = tuple((n, v.type) for n, v in zip(graph.output_names, graph.outputs))
    steps = tuple(s.info for s in lo.program.steps)
    checkable = _checkable(lo.program, weights) if checked else None
    return Lowered(assembled, kernels, steps, replace(memory, weights=weights.nbytes), tuple(notes), results, checkable)


def _checkable(program: Program, weights: WeightStore) -> Checkable:
    from graphc.backends.cpu.checked.run import Checkable

    constants = {b for step in program.steps for b in step.buffers() if b.kind == "const"}
    return Checkable(program, {b: weights.place_of(b) for b in constants})


def _lower_images(lo: Lowering, groups: Sequence[Group]) -> None:
    place_concatenations(lo, groups)
    for group in groups:
        _lower(lo, group)


def _lower(lo: Lowering, group: Group) -> None:
    node = group.anchor or group.nodes[0]
    reason = host_reason(node, lo.target)
    if reason is not None:
        _lower_on_host(lo, node, reason)
    elif group.anchor is None:
        lower_elementwise(lo, group)
    else:
        lowering_of(node)(lo, group)
    lo.made(group.nodes[-1].outputs)


def _extern(v: Value) -> ExternBuffer:
    return ExternBuffer(v.name, v.type.nbytes, "extern", shape=v.type.shape, dtype=v.dtype)


def place_externals(lo: Lowering, graph: Graph, groups: list[Group], native: bool) -> None:
    """Inputs and results live in the caller's arrays. A result that is not one kernel's dense output is copied at the end.

    native: no step runs on the host, which sees the caller's arrays in the shape of the results. Then what a result has the
    bytes of lives there, too.
    """
    for v in graph.inputs:
        buffer = _extern(v)
        lo.program.inputs.append(buffer)
        lo.place(v, Ref(buffer))
    made = {o: g for g in groups for n in g.nodes for o in n.outputs}
    for v in graph.outputs:
        if v.is_const:
            lo.program.outputs.append(owned(np.asarray(v.data)))
        else:
            buffer = _extern(v)
            lo.program.outputs.append(buffer)
            while v in made and v not in lo.storage and v.type.layout is None:
                lo.place(v, Ref(buffer))
                first, *others = made[v].nodes
                if not native or others or first.op.name not in VIEWS:
                    break
                v = first.inputs[0]


def place_concatenations(lo: Lowering, groups: Sequence[Group], without: Collection[Group] = ()) -> None:
    """Let producers write straight into their part of a concatenation.

    Possible where the part is one piece of memory: channel blocks of a blocked value, or a dense concatenation along the
    first dim that is not 1. Later concatenations first, so that nested ones share the outermost buffer. `without`: groups
    that are left alone.
    """
    producers = {v: g for g in groups for n in g.nodes for v in n.outputs}
    for group in reversed(groups):
        node = group.nodes[0]
        if node.op.name != "Concat" or len(group.nodes) > 1 or group in without:
            continue
        out = node.output
        axis = node.attrs["axis"] % out.type.rank
        blocked = out.type.layout is not None
        if not blocked and any(d != 1 for d in out.shape[:axis]):
            continue
        if blocked and any(v.shape[1] % out.type.layout.c for v in node.operands[:-1]):
            continue  # a part begins inside a block
        whole = lo.storage.get(out) or lo.reserve(out)
        at = 0
        for v in node.operands:
            made = v in producers and not _is_view(producers[v])
            if made and v not in lo.storage and v.type.layout == out.type.layout:
                if blocked:
                    lo.place(v, whole.ref + at // out.type.layout.c * whole.strides[1], whole.strides)
                else:
                    lo.place(v, whole.ref + at * whole.strides[axis], dense_strides(v.type))
            at += v.shape[axis]


def _is_view(group: Group) -> bool:
    return group.nodes[0].op.name in (
        "Reshape",
        "Reorder",
        "Split",
        "Slice",
        "Identity",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
    )


def _copy_results(lo: Lowering, graph: Graph) -> None:
    """Results that live elsewhere (an input, a view, or a value that is two results) are copied into the caller's array."""
    from graphc.backends.cpu.lower.movement import emit_copy

    for name, v, buffer in zip(graph.output_names, graph.outputs, lo.program.outputs):
        if v.is_const or lo.storage[v].ref.buffer is buffer:
            continue
        if v.dtype.name not in core.NATIVE and v.dtype.kind in "OUS":  # references to Python objects are not mere bytes
            identity = Node(get_op("Identity"), (v,), (Value(name, v.type),), {}, f"result {name}")
            lo.place(identity.output, Ref(buffer))
            _lower_on_host(lo, identity, "strings are Python objects")
            continue
        emit_copy(lo, lo.read(v), Ref(buffer), f"result {name}")


def _lower_on_host(lo: Lowering, node: Node, reason: str) -> None:
    """A node that runs through its reference, on arrays of the caller's side."""
    from graphc.backends.cpu.lower.movement import emit_copy

    inputs: list[Buffer | np.ndarray | None] = []
    for v in node.inputs:
        if v is None or v.is_const:
            inputs.append(None if v is None else owned(v.data))
            continue
        s = lo.read(v)
        whole = s.ref.buffer.kind == "extern" and s.contiguous and s.ref.offset == 0 and s.ref.buffer.shape == v.shape
        if not whole:
            buffer = _extern(v)
            emit_copy(lo, s, Ref(buffer), v.name)
            inputs.append(buffer)
        else:
            inputs.append(s.ref.buffer)
    outputs = []
    for v in node.outputs:
        s = lo.storage.get(v)
        if s is None or s.ref.buffer.kind != "extern":
            buffer = _extern(v)
            if s is None:
                lo.place(v, Ref(buffer))
            outputs.append(buffer)
        else:
            outputs.append(s.ref.buffer)
    info = StepInfo(
        len(lo.program.steps), (node.name,), (node.op.name,), "host", "", reason, node.output.name, 0, 0, host=True
    )
    lo.program.steps.append(HostStep(node, tuple(inputs), tuple(outputs), info))
    for v, b in zip(node.outputs, outputs):
        s = lo.storage[v]
        if s.ref.buffer is not b:  # the value has a place of its own (part of a concatenation)
            emit_copy(lo, core.Storage(Ref(b), v.type, dense_strides(v.type)), s.ref, v.name)
