"""If: both branches are lowered, and a step runs one of them."""

from __future__ import annotations

from functools import partial

from graphc.backends.cpu.control.branch_block import BRANCH, HEAD, Branch
from graphc.backends.cpu.control.held import steps_of
from graphc.backends.cpu.control.subprogram import Row, Subprogram, among, memory_of, subprogram, touched
from graphc.backends.cpu.control.subprogram_block import TEAM as TEAM_BLOCK
from graphc.backends.cpu.costs import ALONE, TEAM
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import RULES, lowers
from graphc.backends.cpu.sizes import CONTROL_BYTES
from graphc.lower.fuse import Group
from graphc.lower.held import BRANCHES, branch_reason, dense
from graphc.lower.program import Program
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo, type_of


@lowers("If", supported=partial(branch_reason, RULES))
def lower_if(lo: CpuLowering, group: Group) -> None:
    (node,) = group.nodes
    name = node.output.name
    condition = dense(lo, node.inputs[0])
    results = [lo.write(v) for v in node.outputs]
    programs: list[Program] = []
    given: dict[Buffer, None] = {}
    for key in BRANCHES:
        graph = node.attrs[key]
        read = {v for n in graph.nodes for v in n.operands} | set(graph.outputs)
        places = [lo.read(x) if v in read else None for v, x in zip(graph.inputs, node.inputs[1:])]
        given |= {s.ref.buffer: None for s in places if s is not None}
        programs.append(steps_of(lo, graph, places, results))
    outside = {*given, *(s.ref.buffer for s in results)}
    memory = memory_of(lo, programs, outside, name)
    then, other = both = [subprogram(lo, p, memory, {}) for p in programs]
    team = any(p.team for p in both)
    copy = Ref(Buffer(f"{name}/steps", CONTROL_BYTES + max(p.nbytes for p in both), "scratch"))
    checks = [then.records(lo, 0), other.records(lo, len(then.checks))]
    then_checks, else_checks = HEAD, HEAD + len(checks[0])
    then_words = else_checks + len(checks[1])
    else_words = then_words + len(then.words)
    args = [
        *BRANCH(condition=condition),
        *TEAM_BLOCK(
            team=int(team), control=copy, report=else_words + len(other.words),
            number=len(then.checks) + len(other.checks),
        ),
        *then.head(copy + CONTROL_BYTES, then_words, then_checks),
        *other.head(copy + CONTROL_BYTES, else_words, else_checks),
        *checks[0], *checks[1], *then.words, *other.words,
    ]  # fmt: skip
    info = StepInfo(
        0, (node.name,), (node.op.name,), Branch.name, TEAM if team else ALONE,
        f"{len(then.steps)} steps, or {len(other.steps)}, as the condition says", name,
        (then.flops + other.flops) // 2, (then.moved + other.moved) // 2, inside=_marked(then, "then") + _marked(other, "else"),
        type=type_of(s.info for s in (*then.steps, *other.steps)),
    )  # fmt: skip
    writes, reads = touched(programs, outside)
    writes += [s.ref for s in results]
    lo.emit(Branch(), args, info, check=among(both), writes=writes, reads=[condition, *reads])


def _marked(program: Subprogram, branch: str) -> tuple[Row, ...]:
    return tuple((f"{branch}: {label}", k, algorithm, why, flops) for label, k, algorithm, why, flops in program.inside)
