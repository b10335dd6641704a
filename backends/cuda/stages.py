"""From a bound graph to a program for the GPU, in stages that a person can read one by one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from graphc.backend import Stage
from graphc.backends.cuda.lower.epilogue import accepts_operand
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import RULES, host_reason, load_lowerings
from graphc.classes import Many
from graphc.errors import UnsupportedError
from graphc.graph import Graph, Node
from graphc.lower import verify
from graphc.lower.binder import Binder
from graphc.lower.fuse import Group, fuse
from graphc.lower.group import lower_group
from graphc.lower.host import copy_results
from graphc.lower.kernel import Kernel
from graphc.lower.placement import place_concatenations, place_externals, require_growing
from graphc.lower.program import Assembled, Form, HostStep, assemble
from graphc.lower.shown import shown_groups, shown_places
from graphc.lower.weights import WeightStore
from graphc.report import FusionNote, MemoryReport, format_bytes
from graphc.types import MaybeNone

HOST_HINT = "host=True (--host) lets the CPU run such nodes; target='cpu' has kernels for most"


@dataclass(eq=False)
class Draft:
    """A bound graph on its way to a program. host: may nodes run on the CPU? checked: for runs whose kernels are watched, with
    every buffer a memory of its own. many: of a graph for many sizes."""

    graph: Graph
    weights: WeightStore
    host: bool = False
    checked: bool = False
    many: Many | None = None

    reasons: dict[Node, str | None] = field(default_factory=dict)

    groups: list[Group] = field(default_factory=list)
    notes: tuple[FusionNote, ...] = ()

    lowering: CudaLowering | MaybeNone = None

    assembled: Assembled | MaybeNone = None
    binder: Binder | None = None
    kernels: tuple[Kernel, ...] = ()
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
    """Nodes that become one kernel. Raises UnsupportedError where one has no kernel and may not run on the CPU."""
    load_lowerings()
    if not d.host:
        for node in d.graph.nodes:
            if not d.compiled(node):
                raise UnsupportedError(
                    f"no CUDA kernel computes it: {d.reasons[node]}", hint=HOST_HINT, op=node.op.name, node=node.name
                )
    d.groups, notes = fuse(d.graph, _has_epilogue, accepts_operand, d.compiled)
    d.notes = tuple(notes)


def _has_epilogue(node: Node) -> bool:
    rule = RULES.rule_of(node)
    return rule is not None and rule.epilogue is not None and rule.epilogue(node)


def place(d: Draft) -> None:
    """Inputs and results in arrays that the caller sees, parts of concatenations in the whole."""
    lo = d.lowering = CudaLowering(d.weights, d.checked)
    if d.many is not None:
        require_growing(d.graph, d.many, d.compiled)
    place_externals(lo, d.graph, d.groups, d.native, many=d.many)
    place_concatenations(lo, [g for g in d.groups if d.compiled(g.anchor or g.nodes[0])])


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
    d.assembled, d.kernels, memory, d.binder = assemble(d.lowering.program, form, d.weights.place_of, d.many)
    constants = dict.fromkeys(b for s in d.lowering.program.steps for b in s.buffers() if b.kind == "const")
    d.memory = replace(memory, weights=sum(b.nbytes for b in constants))


# --- for a person -----------------------------------------------------------------------------------------------------
def _show_steps(d: Draft) -> str:
    lines = []
    for i, step in enumerate(d.lowering.program.steps):
        kernel = "host" if isinstance(step, HostStep) else str(step.kernel)
        grid = "" if isinstance(step, HostStep) else f"grid {step.args[0]}"
        lines.append("  ".join(filter(None, [f"{i}:", kernel, grid, step.info.label, step.info.algorithm])))
    return "\n".join(lines)


def _show_table(d: Draft) -> str:
    m, a = d.memory, d.assembled
    return (
        f"table: {len(a.words)} words, {len(a.blocks)} launches, {len(d.kernels)} kernels\n"
        f"arena: {format_bytes(m.arena)}, at least {format_bytes(m.lower_bound)}; weights {format_bytes(m.weights)}"
    )


STAGES = (
    Stage("fuse", fuse_nodes, lambda d: shown_groups(d.groups, d.reasons), lambda d: verify.groups(d.graph, d.groups)),
    Stage("place", place, lambda d: shown_places(d.lowering.storage), lambda d: verify.places(d.lowering.storage)),
    Stage("lower", lower, _show_steps, lambda d: verify.steps(d.lowering)),
    Stage("assemble", assemble_table, _show_table, lambda d: verify.table(d.assembled, d.memory)),
)
