"""From a bound graph to a program for the GPU, in stages that a person can read one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graphc.backend import Stage
from graphc.backends.cuda.codegen.arch import EMULATED
from graphc.backends.cuda.lower.channels import gains
from graphc.backends.cuda.lower.choices import Choices
from graphc.backends.cuda.lower.groups import grouped
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import host_reason, load_lowerings
from graphc.backends.cuda.options import CudaOptions
from graphc.classes import Many
from graphc.errors import CheckError, GraphcError, UnsupportedError
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
from graphc.lower.program import Form, Step, assemble
from graphc.lower.shown import shown_groups, shown_places
from graphc.lower.storage import Buffer, Place
from graphc.lower.weights import WeightStore
from graphc.report import FusionNote, MemoryReport, format_bytes
from graphc.sizes import hint_of
from graphc.types import MaybeNone

HOST_HINT = "host=True (--host) lets the CPU run such nodes; target='cpu' has kernels for most"


@dataclass(eq=False)
class Draft:
    """A bound graph on its way to a program. checked: for runs whose kernels are watched, with every buffer a memory of its
    own. many: of a graph for many sizes. lengths: of its states that grow, after a run. multiprocessors: of the GPU, where it is
    known. choices: see there."""

    graph: Graph
    weights: WeightStore
    options: CudaOptions
    checked: bool = False
    many: Many | None = None
    lengths: tuple[Any, ...] = ()
    multiprocessors: int | None = None
    choices: Choices = field(default_factory=Choices)

    reasons: dict[Node, str | None] = field(default_factory=dict)

    groups: list[Group] = field(default_factory=list)
    notes: tuple[FusionNote, ...] = ()

    lowering: CudaLowering | MaybeNone = None

    assembled: Assembled | MaybeNone = None
    binder: Binder | None = None
    kernels: tuple[Kernel, ...] = ()
    constants: tuple[int, ...] = ()  # bytes of the table's
    memory: MemoryReport | MaybeNone = None

    def compiled(self, node: Node) -> bool:
        """Does a kernel compute it?"""
        if node not in self.reasons:
            self.reasons[node] = host_reason(node)
        return self.reasons[node] is None

    @property
    def native(self) -> bool:
        return all(self.compiled(g.anchor or g.nodes[0]) for g in self.groups)


def fuse_nodes(d: Draft) -> None:
    """Nodes that become one kernel. Raises UnsupportedError where one has no kernel and may not run on the CPU, and CheckError
    where several have none."""
    load_lowerings()
    if not d.options.host:
        problems: list[GraphcError] = [
            UnsupportedError(
                f"no CUDA kernel computes it: {d.reasons[node]}", hint=HOST_HINT, op=node.op.name, node=node.name
            )
            for node in d.graph.nodes
            if not d.compiled(node)
        ]
        if problems:
            raise problems[0] if len(problems) == 1 else CheckError(problems)
    d.groups, notes = grouped(d.graph, d.compiled)
    d.notes = tuple(notes)


def place(d: Draft) -> None:
    """Inputs and results in arrays that the caller sees, images with their channels innermost in memory where convolutions
    read them, parts of concatenations in the whole."""
    arch = d.options.arch or EMULATED
    lo = d.lowering = CudaLowering(d.weights, d.checked, arch, d.options.precision, d.multiprocessors, d.choices)
    if d.many is not None:
        require_growing(d.graph, d.many, d.compiled)
    place_externals(lo, d.graph, d.groups, d.native, many=d.many)
    compiled = [d.compiled(g.anchor or g.nodes[0]) for g in d.groups]
    assign_channels_last(lo, d.groups, compiled, gains)
    place_concatenations(lo, [g for g, kernel in zip(d.groups, compiled) if kernel])


def lower(d: Draft) -> None:
    """Steps: kernels with their argument blocks, and calls of the host."""
    for group in d.groups:
        node = group.anchor or group.nodes[0]
        d.compiled(node)
        lower_group(d.lowering, group, d.reasons[node])
    copy_results(d.lowering, d.graph, () if d.many is None else d.many.growing)


def assemble_table(d: Draft) -> None:
    """The arena's plan, and the table of argument blocks."""
    form = Form(cost=lambda info: 0, reuse=not d.checked)
    nbytes: dict[Place, int] = {}

    def place_of(b: Buffer) -> Place:
        place = d.weights.place_of(b)
        nbytes[place] = hint_of(b.nbytes)
        return place

    d.assembled, d.kernels, d.memory, d.binder = assemble(d.lowering.program, form, place_of, d.many)
    d.constants = tuple(nbytes[place] for place in d.assembled.constants)


# --- for a person -----------------------------------------------------------------------------------------------------
def _show_places(d: Draft) -> str:
    last = ", ".join(sorted(v.name for v in d.lowering.channels_last))
    return f"{shown_places(d.lowering.storage)}\nchannels innermost: {last or 'none'}"


def _show_steps(d: Draft) -> str:
    lines = []
    for i, step in enumerate(d.lowering.program.steps):
        kernel, grid = step.info.kernel, ""
        if isinstance(step, Step):
            kernel, grid = str(step.kernel), f"grid {step.args[0]}"
        lines.append("  ".join(filter(None, [f"{i}:", kernel, grid, step.info.label, step.info.algorithm])))
    return "\n".join(lines)


def _show_table(d: Draft) -> str:
    m, a = d.memory, d.assembled
    return (
        f"table: {len(a.words)} words, {len(a.blocks)} launches, {len(d.kernels)} kernels\n"
        f"arena: {format_bytes(m.arena)}, at least {format_bytes(m.lower_bound)}; weights {m.about_weights}"
    )


STAGES = (
    Stage("fuse", fuse_nodes, lambda d: shown_groups(d.groups, d.reasons), lambda d: verify.groups(d.graph, d.groups)),
    Stage("place", place, _show_places, lambda d: verify.places(d.lowering.storage)),
    Stage("lower", lower, _show_steps, lambda d: verify.steps(d.lowering)),
    Stage("assemble", assemble_table, _show_table, lambda d: verify.table(d.assembled, d.memory)),
)
