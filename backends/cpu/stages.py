"""From a bound graph to a program, in stages that a person can read one by one: `graphc compile MODEL --stop-after fuse`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphc.backend import Progress, Stage
from graphc.backends.cpu.conv.in_bfloat16 import in_bfloat16
from graphc.backends.cpu.costs import nanoseconds
from graphc.backends.cpu.lower.groups import grouped, laid_out
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.policy import DEFAULT, Choice, Policy
from graphc.backends.cpu.lower.rules import choices_of, converts
from graphc.backends.cpu.native import host_reason, load_lowerings
from graphc.backends.cpu.nested.depth_first import depth_first_runs, lower_depth_first
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.classes import Many
from graphc.graph import Graph, Node
from graphc.lower import verify
from graphc.lower.assembled import Assembled
from graphc.lower.binder import Binder
from graphc.lower.channels import assign_channels_last
from graphc.lower.fuse import Group
from graphc.lower.group import lower_group
from graphc.lower.host import copy_results
from graphc.lower.kernel import Kernel
from graphc.lower.placement import place_concatenations, place_externals, require_growing
from graphc.lower.program import Form, HostStep, assemble
from graphc.lower.shown import shown_groups, shown_places
from graphc.lower.weights import WeightStore
from graphc.passes.bfloat16_convolutions import Bfloat16Convolutions
from graphc.report import FusionNote, MemoryReport, format_bytes
from graphc.types import MaybeNone

if TYPE_CHECKING:
    from graphc.backends.cpu.checked.run import Checkable

LINE = CACHE_LINE // 8  # words before a step's block: the counter of the threads' turns, see executor/work_njit.py


@dataclass(eq=False)
class Draft:
    """A bound graph on its way to a program: each stage fills in the fields of its paragraph.

    policy   what decides between algorithms, and which optimisations the stages make
    checked  for runs that look at every step
    many     of a graph for many sizes

    choices  the algorithm of each convolution, by the name of its result
    reasons  why a node runs on the host, or None where a kernel computes it
    groups   what becomes one kernel each
    lowering the steps so far, and where each value lives
    runs     of groups that go through a batch depth first
    """

    graph: Graph
    target: Target
    threads: int
    weights: WeightStore
    policy: Policy = DEFAULT
    progress: Progress | None = None
    checked: bool = False
    many: Many | None = None
    lengths: tuple[()] = ()

    choices: dict[str, Choice] = field(default_factory=dict)

    reasons: dict[Node, str | None] = field(default_factory=dict)

    groups: list[Group] = field(default_factory=list)
    notes: tuple[FusionNote, ...] = ()

    lowering: CpuLowering | MaybeNone = None
    runs: list[range] = field(default_factory=list)

    assembled: Assembled | MaybeNone = None
    binder: Binder | None = None
    kernels: tuple[Kernel, ...] = ()
    memory: MemoryReport | MaybeNone = None

    def compiled(self, node: Node) -> bool:
        """Does a kernel compute it?"""
        if node not in self.reasons:
            self.reasons[node] = host_reason(node, self.target)
        return self.reasons[node] is None

    @property
    def native(self) -> bool:
        """Does no step run on the host?"""
        return all(self.compiled(g.nodes[0]) for g in self.groups)


def narrow(d: Draft) -> None:
    """Convolutions in bfloat16, where they are asked for."""
    load_lowerings()
    if d.policy.precision == "bf16":
        computed = Bfloat16Convolutions(d.compiled, lambda node: in_bfloat16(node, d.target, d.policy))
        d.graph = computed(d.graph)


def choose(d: Draft) -> None:
    """The algorithm of each convolution."""
    d.choices = choices_of(d.graph, d.target, d.policy)


def layout(d: Draft) -> None:
    """Channel blocks, halos, and Reorder nodes at the borders of blocked regions."""
    d.graph = laid_out(d.graph, d.target, d.policy, d.choices)


def fuse_nodes(d: Draft) -> None:
    """Nodes that become one kernel."""
    d.groups, notes = grouped(d.graph, d.target, d.policy, d.choices, d.compiled)
    d.notes = tuple(notes)


def place(d: Draft) -> None:
    """Inputs and results in the caller's arrays, parts of concatenations in the whole; runs of groups depth first."""
    lo = d.lowering = CpuLowering(d.target, d.threads, d.weights, d.policy, d.choices, d.checked)
    if d.many is not None:
        require_growing(d.graph, d.many, d.compiled)
    place_externals(lo, d.graph, d.groups, d.native, d.policy.uses("results_in_place"), d.many)
    compiled = [d.compiled(g.nodes[0]) for g in d.groups]
    assign_channels_last(lo, d.groups, compiled, converts)
    d.runs = depth_first_runs(d.groups, d.graph.outputs, d.target) if d.native and d.policy.uses("image_runs") else []
    alone = {d.groups[i] for run in d.runs for i in run}
    if d.policy.uses("concat_in_place"):
        place_concatenations(lo, [g for g in d.groups if d.compiled(g.nodes[0])], alone)


def lower(d: Draft) -> None:
    """Steps: kernels with their argument blocks, and calls of the host. Raises SegmentWriteError (see WeightStore)."""
    starts = {run.start: run for run in d.runs}
    alone = {i for run in d.runs for i in run}
    for i, group in enumerate(d.groups):
        if d.progress:
            d.progress("lowering", i, len(d.groups))
        if i in starts:
            lower_depth_first(d.lowering, d.groups, starts[i], d.graph.outputs, _lower_samples)
        elif i not in alone:
            node = group.anchor or group.nodes[0]
            d.compiled(node)
            lower_group(d.lowering, group, d.reasons[node])
    if d.progress:
        d.progress("lowering", len(d.groups), len(d.groups))
    copy_results(d.lowering, d.graph, () if d.many is None else d.many.growing)


def _lower_samples(lo: CpuLowering, groups: Sequence[Group]) -> None:
    """Kernels compute all of them."""
    assign_channels_last(lo, groups, [True] * len(groups), converts)
    if lo.policy.uses("concat_in_place"):
        place_concatenations(lo, groups)
    for group in groups:
        lower_group(lo, group, None)


def assemble_table(d: Draft) -> None:
    """The arena's plan, and the table that threads walk."""
    form = Form(nanoseconds, d.lowering.check_words, LINE, d.policy.uses("arena_reuse"))
    program = d.lowering.program
    d.assembled, d.kernels, d.memory, d.binder = assemble(program, form, d.weights.place_of, d.many)


# --- for a person -----------------------------------------------------------------------------------------------------
def _show_choices(d: Draft) -> str:
    lines = [f"%{name}: {c.algorithm}, {c.reason}" for name, c in d.choices.items()]
    return "\n".join(lines) or "no convolution has a choice"


def _show_places(d: Draft) -> str:
    runs = [f"depth-first: %{d.groups[r.start].output.name} … %{d.groups[r[-1]].output.name}" for r in d.runs]
    return "\n".join([shown_places(d.lowering.storage), *runs])


def _show_steps(d: Draft) -> str:
    lines = []
    for i, step in enumerate(d.lowering.program.steps):
        info = step.info
        buffers = ", ".join(f"{b.kind} '{b.name}'" for b in step.buffers())
        kernel = "host" if isinstance(step, HostStep) else step.kernel.name
        parts = [f"{i}:", kernel, info.label, info.algorithm, f"[{buffers}]"]
        lines.append("  ".join(filter(None, parts)))
    return "\n".join(lines)


def _show_table(d: Draft) -> str:
    m, a = d.memory, d.assembled
    lines = [
        f"table: {len(a.words)} words, {len(a.blocks)} native steps, {len(d.kernels)} kernels",
        f"arena: {format_bytes(m.arena)}, at least {format_bytes(m.lower_bound)}; weights {m.about_weights}",
    ]
    return "\n".join(
        lines + [f"[{i.offset}, {i.offset + i.nbytes}) steps {i.first}-{i.last}: {i.name}" for i in m.intervals]
    )


STAGES = (
    Stage("narrow", narrow, lambda d: str(d.graph), lambda d: verify.graph(d.graph)),
    Stage("choose", choose, _show_choices, lambda d: verify.graph(d.graph)),
    Stage("layout", layout, lambda d: str(d.graph), lambda d: verify.graph(d.graph)),
    Stage("fuse", fuse_nodes, lambda d: shown_groups(d.groups, d.reasons), lambda d: verify.groups(d.graph, d.groups)),
    Stage("place", place, _show_places, lambda d: verify.places(d.lowering.storage)),
    Stage("lower", lower, _show_steps, lambda d: verify.steps(d.lowering)),
    Stage("assemble", assemble_table, _show_table, lambda d: verify.table(d.assembled, d.memory)),
)


def checkable(d: Draft) -> Checkable:
    """For a run that looks at every step of the draft."""
    from graphc.backends.cpu.checked.run import Checkable

    program = d.lowering.program
    constants = {b for step in program.steps for b in step.buffers() if b.kind == "const"}
    return Checkable(program, {b: d.weights.place_of(b) for b in constants})
