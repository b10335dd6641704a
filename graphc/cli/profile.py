"""Where the time of a model goes: a table against the roofline, a Chrome trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import print_table, seconds

if TYPE_CHECKING:
    from graphc.report import Plan, Roofline, StepInfo


BEYOND = "an algorithm of fewer operations (Winograd) may pass it"  # the roofline


def print_profile(plan: Plan, spent: Sequence[float], limits: Roofline | None) -> None:
    """A row for each step, with the part of its time that the machine's limits explain, where the backend knows them."""
    total = sum(spent) or 1e-12
    occupied = any(step.occupancy is not None for step in plan.steps)
    print_table(
        (
            *(
                ">step",
                "nodes",
                "+kernel",
                "+algorithm",
                "+type",
                ">time",
                ">part",
                ">GFLOP/s",
                ">GB/s",
                ">of roofline",
            ),
            *([">occupancy"] if occupied else []),
        ),
        [
            (
                step.index,
                step.label,
                "host (NumPy)" if step.host else step.kernel,
                step.algorithm,
                step.type,
                seconds(t),
                f"{t / total:.1%}",
                _rate(step.flops, t),
                _rate(step.nbytes, t),
                f"{limits.seconds(step) / t:.0%}" if limits is not None and t > 0 else "",
                *([f"{step.occupancy:.0%}" if step.occupancy is not None else ""] if occupied else []),
            )
            for step, t in zip(plan.steps, spent)
        ],
        title=f"steps, one at a time: {seconds(total)} together",
    )
    if limits is None:
        return
    least = sum(limits.seconds(step) for step in plan.steps if not step.host)
    click.echo(f"{limits.about(plan.threads)}\nall steps at the roofline: {seconds(least)}; {BEYOND}")


def _rate(amount: int, t: float) -> str:
    return f"{amount / t / 1e9:.3g}" if amount and t > 0 else ""


def chrome_trace(plan: Plan, spent: Sequence[float]) -> dict[str, Any]:
    """The steps in a row as complete events (ph 'X', microseconds) of the Trace Event Format."""
    events, now = [], 0.0
    for step, t in zip(plan.steps, spent):
        events.append(
            {
                "name": step.label,
                "cat": "host" if step.host else "kernel",
                "ph": "X",
                "ts": now * 1e6,
                "dur": t * 1e6,
                "pid": 0,
                "tid": 0,
                "args": {
                    "ops": list(step.ops),
                    "kernel": step.kernel,
                    "algorithm": step.algorithm,
                    "type": step.type,
                    "flops": step.flops,
                    "bytes": step.nbytes,
                    **({} if step.occupancy is None else {"occupancy": step.occupancy}),
                },
            }
        )
        now += t
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def main_operator(step: StepInfo) -> str:
    """The first one."""
    return step.ops[0] if step.ops else step.kernel
