"""What is left of a draft when it has gone through all stages: a table of kernel calls, with registers in the place of sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from graphc.growing import results_of
from graphc.lower.assembled import Assembled, HostCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphc.backend import Stage
    from graphc.classes import Many
    from graphc.graph import Graph
    from graphc.lower.binder import Binder
    from graphc.lower.kernel import Kernel
    from graphc.lower.lowering import Lowering
    from graphc.report import FusionNote, MemoryReport, StepInfo
    from graphc.types import TensorType


@dataclass(frozen=True, eq=False)
class Lowered:
    """A bound graph as a table of kernel calls: everything but code and addresses. lengths: see `Drafted`."""

    assembled: Assembled
    kernels: tuple[Kernel, ...]
    steps: tuple[StepInfo, ...]
    memory: MemoryReport
    notes: tuple[FusionNote, ...]
    inputs: tuple[tuple[str, TensorType], ...]
    results: tuple[tuple[str, TensorType], ...]
    lengths: tuple[Any, ...] = ()


class Drafted(Protocol):
    """A backend's draft behind its last stage. many, binder: of a graph for many sizes. lengths: of states that grow in place,
    after a run, where the host is to compute them."""

    @property
    def graph(self) -> Graph: ...
    @property
    def many(self) -> Many | None: ...
    @property
    def lengths(self) -> tuple[Any, ...]: ...
    @property
    def lowering(self) -> Lowering: ...
    @property
    def assembled(self) -> Assembled: ...
    @property
    def binder(self) -> Binder | None: ...
    @property
    def kernels(self) -> tuple[Kernel, ...]: ...
    @property
    def memory(self) -> MemoryReport: ...
    @property
    def notes(self) -> tuple[FusionNote, ...]: ...


def lowered(stages: Sequence[Stage], d: Drafted) -> Lowered:
    """All stages. Raises SegmentWriteError (see WeightStore)."""
    for stage in stages:
        stage.run(d)
    grown = () if d.many is None else d.many.growing
    results = tuple((n, v.type) for n, v in results_of(d.graph, grown))
    inputs = tuple((v.name, v.type) for v in d.graph.inputs)
    steps = tuple(s.info for s in d.lowering.program.steps)
    done = Lowered(d.assembled, d.kernels, steps, d.memory, d.notes, inputs, results, d.lengths)
    return done if d.binder is None else _bindable(done, d.binder)


def _bindable(done: Lowered, binder: Binder) -> Lowered:
    """With registers in the place of sizes."""
    in_registers, a = binder.writer.with_registers, done.assembled
    inputs, results, lengths = (in_registers(x) for x in (done.inputs, done.results, done.lengths))
    externs = tuple(e._replace(shape=in_registers(e.shape)) for e in a.externs)
    runs = tuple(
        replace(r, node=binder.writer.node_with_registers(r.node)) if isinstance(r, HostCall) else in_registers(r)
        for r in a.runs
    )
    binder.writer.end_of_bound()
    checks = tuple((words, in_registers(check)) for words, check in a.checks)
    steps, memory = in_registers(done.steps), in_registers(done.memory)
    a = replace(a, externs=externs, checks=checks, runs=runs, binding=binder.binding())
    return replace(done, assembled=a, steps=steps, memory=memory, inputs=inputs, results=results, lengths=lengths)
