"""The tables of a report: what `explain`, `bench --profile` and `check` print, as cells that sort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

from graphc.cli.console import count, seconds
from graphc.cli.profile import main_operator
from graphc.report import Pending, Plan, Roofline, StepInfo, format_bytes

Cell = Union[str, tuple[float, str]]  # text, or a number and how it reads
Table = dict[str, Any]


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], bars: str = "", steps: Sequence[int] = ()) -> Table:
    """columns: those that begin with '>' are numbers. bars: the column that has a bar in each cell. steps: of each row."""
    return {"columns": list(columns), "rows": rows, "bars": bars, "steps": list(steps)}


def profile(plan: Plan, spent: Sequence[float] | None, limits: Roofline | None) -> Table:
    """A row for each step, and for those that it runs itself."""
    total = sum(spent or ()) or 1e-12
    columns = [">step", "nodes", "kernel", "algorithm", "type", ">flop", ">bytes"]
    if spent is not None:
        columns += [">time", ">part", ">GFLOP/s", ">GB/s", *([">of roofline"] if limits else [])]
    occupied = any(step.occupancy is not None for step in plan.steps)
    columns += [*([">occupancy"] if occupied else []), "because"]
    rows: list[list[Cell]] = []
    for i, step in enumerate(plan.steps):
        row: list[Cell] = [
            (step.index, str(step.index)),
            step.label,
            kernel(step),
            step.algorithm,
            step.type,
            (step.flops, count(step.flops)),
            (step.nbytes, format_bytes(step.nbytes)),
        ]
        if spent is not None:
            t = spent[i]
            row += [(t, seconds(t)), (t / total, f"{t / total:.1%}"), _rate(step.flops, t), _rate(step.nbytes, t)]
            if limits is not None:
                part = limits.seconds(step) / t if t > 0 and not step.host else 0.0
                row.append((part, f"{part:.0%}" if part else ""))
        if occupied:
            row.append((step.occupancy or 0.0, "" if step.occupancy is None else f"{step.occupancy:.0%}"))
        rows.append([*row, _because(step)])
    return table(columns, rows, "part" if spent is not None else "flop", [step.index for step in plan.steps])


def operators(plan: Plan, spent: Sequence[float]) -> Table:
    """Which operators take the time, the most first: a step counts for its first."""
    found: dict[str, list[float]] = {}
    for step, t in zip(plan.steps, spent):
        found.setdefault(main_operator(step), []).append(t)
    total = sum(spent) or 1e-12
    rows: list[list[Cell]] = [
        [
            op,
            (len(times), str(len(times))),
            (sum(times), seconds(sum(times))),
            (sum(times), f"{sum(times) / total:.1%}"),
        ]
        for op, times in sorted(found.items(), key=lambda item: -sum(item[1]))
    ]
    return table(("operator", ">steps", ">time", ">part"), rows, "part")


def kernel(step: StepInfo) -> str:
    return "host (NumPy)" if step.host else step.kernel


def _because(step: StepInfo) -> str:
    inside = [f"{label}: {kernel} {algorithm} {reason}".strip() for label, kernel, algorithm, reason, _ in step.inside]
    return "; ".join([*([step.reason] if step.reason else []), *inside])


def _rate(amount: int, t: float) -> Cell:
    rate = amount / t / 1e9 if t > 0 else 0.0
    return rate, f"{rate:.3g}" if rate else ""


def fusion(plan: Plan) -> Table:
    """Those that did not fuse first."""
    notes = sorted(plan.notes, key=lambda note: note.applied)
    return table(("node", "fused", "because"), [(n.node, "yes" if n.applied else "no", n.reason) for n in notes])


def passes(plan: Plan) -> Table:
    rows = [
        (p.name, (p.before, str(p.before)), (p.after, str(p.after)), (p.seconds, seconds(p.seconds)))
        for p in plan.passes
    ]
    return table(("pass", ">nodes before", ">after", ">time"), rows)


def refused(plan: Plan) -> Table:
    """Rewrites that matched and did not apply."""
    notes = dict.fromkeys((p.name, note) for p in plan.passes for note in p.notes)
    return table(("pass", "matched and did not apply"), list(notes))


def buffers(plan: Plan) -> Table:
    rows = [
        (
            i.name,
            (i.nbytes, format_bytes(i.nbytes)),
            (i.offset, f"{i.offset:,}"),
            (i.first, str(i.first)),
            (i.last, str(i.last)),
        )
        for i in plan.memory.intervals
    ]
    return table(("buffer", ">size", ">offset", ">first step", ">last step"), rows)


def pending(nodes: Sequence[Pending]) -> Table:
    rows = [(n.node, n.op, n.result, "on the host (NumPy)" if n.host else "compiled", n.reason) for n in nodes]
    return table(("node", "operator", "result", "runs", "because"), rows)
