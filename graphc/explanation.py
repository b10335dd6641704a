"""What a model became, and why, for people: as text and as HTML. `model.explain()` and `graphc explain` give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from graphc.lower.memory import ArenaPlan, Lifetime, draw
from graphc.report import STEPS, Pending, Plan, rows_of
from graphc.tables import WIDTH, text_table
from graphc.words import many, seconds

MARGIN = 12  # beside the picture of the memory


@dataclass(frozen=True)
class Explanation:
    """Prints as text, and shows as HTML in notebooks. `plan` holds all of it as data.

    name    of the model
    many    the plan was asked to serve many shapes
    static  all shapes are known: no other is to be served
    """

    name: str
    plan: Plan
    many: bool = False
    static: bool = False

    def text(self, width: int = WIDTH, why: bool = False) -> str:
        """In lines of about `width` characters. why: with every rewrite that matched and did not apply."""
        plan = self.plan
        sizes = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in plan.shapes.items())
        parts = [f"{self.name} for {plan.target}, {many(plan.threads, 'thread')}, {sizes}"]
        if plan.target == "reference":
            parts.append("nothing is fused or planned: NumPy computes what the passes left, node by node")
            return "\n".join([*parts, *_passes(plan, width, why)])
        parts += [*([] if self.static else _guards(plan, self.many)), *_steps(plan, width)]
        if plan.pending:
            parts += [
                f"behind them {many(len(plan.pending), 'node')}, planned when the model runs, for each shape that turns up"
            ]
            parts += [pending_text(plan.pending, width)]
        return "\n".join([*parts, *_fusion(plan, width), *_memory(plan, width), *_passes(plan, width, why)])

    __str__ = text

    def __repr__(self) -> str:
        return f"Explanation of '{self.name}': {self.plan!r}"

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(self.name)}</b></p>{self.plan._repr_html_()}"


def pending_text(nodes: Sequence[Pending], width: int) -> str:
    """A table of nodes that wait for their shapes."""
    rows = [(n.node, n.op, n.result, "on the host (NumPy)" if n.host else "compiled", n.reason) for n in nodes]
    return text_table(("node", "operator", "result", "+runs", "+because"), rows, width=width)


def _guards(plan: Plan, for_many: bool) -> list[str]:
    """Which sizes the plan serves."""
    if plan.guards is None:
        why = (
            "; ".join(plan.because)
            if for_many
            else "--many tells which others would share a plan with them, and many=True"
        )
        return [f"for these shapes alone: {why}"]
    return ["one plan for all sizes of which this is true:", *(f"  {guard}" for guard in plan.guards)]


def _steps(plan: Plan, width: int) -> list[str]:
    kernels = len({step.kernel for step in plan.steps if not step.host})
    title = f"\n{many(len(plan.steps), 'step')}, {many(kernels, 'kernel')}"
    return [text_table(STEPS, rows_of(plan.steps), width=width, title=title), ""]


def _fusion(plan: Plan, width: int) -> list[str]:
    fused = sum(note.applied for note in plan.notes)
    refused = [(note.node, note.reason) for note in plan.notes if not note.applied]
    lines = [f"fusion: {many(fused, 'node')} went into the kernel of a neighbour, {len(refused)} did not"]
    return lines + ([text_table(("node", "+not fused because"), refused, width=width)] if refused else [])


def _memory(plan: Plan, width: int) -> list[str]:
    memory = plan.memory
    buffers = [Lifetime(i.name, i.nbytes, i.first, i.last) for i in memory.intervals]
    offsets = tuple(i.offset for i in memory.intervals)
    drawn = draw(buffers, ArenaPlan(offsets, memory.arena, memory.lower_bound, memory.total), min(96, width - MARGIN))
    return [f"\nmemory: weights {memory.about_weights}; {drawn.rstrip()}"]


def _passes(plan: Plan, width: int, why: bool) -> list[str]:
    rows = [(p.name, p.before, p.after, seconds(p.seconds)) for p in plan.passes]
    table = text_table(("pass", ">nodes before", ">after", ">time"), rows, width=width, title="\npasses")
    notes = list(dict.fromkeys(f"{p.name}: {note}" for p in plan.passes for note in p.notes))
    if not notes:
        return [table, "", "every rewrite that matched has been applied"]
    if why:
        return [table, "", "rewrites that matched and did not apply:", *(f"  {note}" for note in notes)]
    return [table, "", f"{len(notes)} rewrites matched and did not apply: --why lists them, and text(why=True)"]
