"""What a report tells, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc import __version__
from graphc.cli.console import count, many, seconds
from graphc.cli.page import tables
from graphc.cli.page.graph import graph_data
from graphc.cli.profile import BEYOND
from graphc.report import Pending, Plan, Roofline, format_bytes

if TYPE_CHECKING:
    from graphc.graph import Graph


@dataclass(frozen=True)
class Findings:
    """All that is known of a model.

    title     its name
    facts     what stands at the top: names and values
    graph     of the sizes that were planned; None where the model has problems
    plan      None where what runs where depends on the inputs
    spent     seconds of each step; None where it was not run
    whole     seconds of a whole run, in the middle
    limits    of the machine, where the backend knows them
    problems  what is wrong with the file
    warnings  what is odd in it
    hosted    what runs on the host, by operator and reason
    pending   nodes that are planned when the model runs
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    graph: Graph | None = None
    plan: Plan | None = None
    spent: Sequence[float] | None = None
    whole: float | None = None
    limits: Roofline | None = None
    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()
    hosted: Sequence[str] = ()
    pending: Sequence[Pending] = ()


def content(found: Findings) -> dict[str, Any]:
    """The page's data; a part that there is nothing to tell of is missing."""
    plan = found.plan
    data: dict[str, Any] = {
        "title": found.title,
        "version": __version__,
        "facts": list(found.facts),
        "cards": _cards(plan, found) if plan else [],
        "problems": list(found.problems),
        "warnings": list(found.warnings),
        "hosted": list(found.hosted),
    }
    if found.graph is not None:
        data["graph"] = graph_data(found.graph, plan.steps if plan else ())
    if found.pending:
        data["pending"] = tables.pending(found.pending)
    if plan is not None and found.spent is not None:
        data["operators"] = tables.operators(plan, found.spent)
    if plan is not None:
        data["steps"] = _steps(plan, found)
        data["profile"] = tables.profile(plan, found.spent, found.limits)
        data["fusion"] = tables.fusion(plan)
        data["passes"] = tables.passes(plan)
        data["refused"] = tables.refused(plan)
        data["memory"] = _memory(plan)
        if found.limits is not None and found.spent is not None:
            data["roofline"] = _roofline(plan, found.spent, found.limits)
    return data


def _cards(plan: Plan, found: Findings) -> list[tuple[str, str, str]]:
    """What stands first, in large: a name, a value, and what else there is to say of it."""
    kernels = len({step.kernel for step in plan.steps if not step.host})
    flops = sum(step.flops for step in plan.steps)
    cards = []
    if found.whole is not None:
        cards.append(("a run takes", seconds(found.whole), f"{flops / found.whole / 1e9:.3g} GFLOP/s"))
    if found.spent is not None and found.limits is not None:
        least = sum(found.limits.seconds(step) for step in plan.steps if not step.host)
        taken = f"its steps take {seconds(sum(found.spent))}, one by one; {BEYOND}"
        cards.append(("all steps at the roofline", seconds(least), taken))
    fused = sum(note.applied for note in plan.notes)
    cards += [
        ("steps", str(len(plan.steps)), f"of {many(kernels, 'kernel')}, {many(fused, 'node')} fused"),
        ("arithmetic", count(flops), "operations"),
        ("weights", format_bytes(plan.memory.weights), plan.memory.about_weights.partition(", ")[2]),
        ("arena", format_bytes(plan.memory.arena), f"{format_bytes(plan.memory.total)} without reuse"),
    ]
    return cards


def _steps(plan: Plan, found: Findings) -> list[dict[str, Any]]:
    """Of each: what a node or a point that is chosen shows."""
    total = sum(found.spent or ()) or 1e-12
    out = []
    for i, step in enumerate(plan.steps):
        told: list[tuple[str, str]] = [("step", step.label), ("kernel", tables.kernel(step))]
        told += [(name, text) for name, text in (("algorithm", step.algorithm), ("because", step.reason)) if text]
        told += [("type", step.type)] if step.type else []
        told += [("operations", count(step.flops)), ("bytes", format_bytes(step.nbytes))]
        record: dict[str, Any] = {"index": step.index, "label": step.label, "host": step.host}
        if found.spent is not None:
            t = found.spent[i]
            told.append(("time", f"{seconds(t)}, {t / total:.1%}"))
            record |= {"time": seconds(t), "part": t / total}
            if found.limits is not None and not step.host and t > 0:
                part = found.limits.seconds(step) / t
                told.append(("of the roofline", f"{part:.0%}" + (f": {BEYOND}" if part > 1 else "")))
        out.append({**record, "told": told})
    return out


def _memory(plan: Plan) -> dict[str, Any]:
    memory = plan.memory
    saved = f"; without reuse {format_bytes(memory.total)}" if memory.total > memory.arena else ""
    return {
        "about": f"arena {format_bytes(memory.arena)}; at least {format_bytes(memory.lower_bound)} are in use at once{saved}",
        "steps": len(plan.steps),
        "lower_bound": memory.lower_bound,
        "arena": memory.arena,
        "buffers": [{**vars(i), "size": format_bytes(i.nbytes), "step": i.first} for i in memory.intervals if i.nbytes],
        "table": tables.buffers(plan),
    }


def _roofline(plan: Plan, spent: Sequence[float], limits: Roofline) -> dict[str, Any]:
    """Points: operations per byte, operations per second. Roofs: of the types that steps have."""
    timed = [(step, t) for step, t in zip(plan.steps, spent) if t > 0]
    shown = [(step, t) for step, t in timed if step.flops and step.nbytes]
    total = sum(spent) or 1e-12
    rest = sum(t for step, t in timed if not (step.flops and step.nbytes)) / total
    without = len(plan.steps) - len(shown)
    return {
        "about": f"{limits.about(plan.threads)}; {BEYOND}",
        "rest": f"{many(without, 'step')} without arithmetic, {rest:.1%} of the time, cannot be shown"
        if without
        else "",
        "roofs": [
            {"type": kind or "float32", "peak": peak}
            for kind, peak in {step.type: limits.flops_of(step) for step, _ in shown if not step.host}.items()
        ],
        "rates": [{"size": format_bytes(size), "rate": rate} for size, rate in limits.rates],
        "points": [
            {
                "step": step.index,
                "label": step.label,
                "kernel": tables.kernel(step),
                "type": "host" if step.host else step.type or "float32",
                "x": step.flops / step.nbytes,
                "y": step.flops / t,
                "part": t / total,
                "time": seconds(t),
                "of": f"{limits.seconds(step) / t:.0%}",
            }
            for step, t in shown
        ],
    }
