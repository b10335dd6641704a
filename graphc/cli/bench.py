"""graphc bench: how long a model takes, whole or step by step."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.console import print_table, progress_bars, seconds
from graphc.cli.feeds import make_feeds
from graphc.cli.options import compile_options, feed_options, model_argument, open_model

if TYPE_CHECKING:
    from graphc.report import Plan

WARMUP = 3


@click.command()
@model_argument
@feed_options
@click.option("--rounds", type=click.IntRange(min=1), default=30, show_default=True, help="Runs to time.")
@click.option("--profile", is_flag=True, help="Also time each step.")
@click.option(
    "--trace", type=click.Path(dir_okay=False, writable=True), help="Write the steps as a Chrome trace (JSON)."
)
@compile_options
def bench(
    model: str,
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    seed: int,
    rounds: int,
    profile: bool,
    trace: str | None,
    **settings: Any,
) -> None:
    """Time MODEL on this machine."""
    start = time.perf_counter()
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        feeds = make_feeds(compiled.inputs, inputs, dict(shapes), batch, seed)
        plan = compiled.plan({name: array.shape for name, array in feeds.items()})
    ready = time.perf_counter() - start
    times = _time_runs(compiled, feeds, rounds)
    median = float(np.median(times))
    sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
    flops = sum(step.flops for step in plan.steps)
    click.echo(f"{compiled.name} for {plan.target}, threads {plan.threads}, {sizes}: ready in {seconds(ready)}")
    click.echo(
        f"median {seconds(median)}, min {seconds(min(times))}, 90 % within {seconds(float(np.quantile(times, 0.9)))} "
        f"({rounds} rounds); {flops / median / 1e9:.3g} GFLOP/s, {1 / median:.4g} runs/s"
    )
    if profile or trace:
        spent = plan.profile(feeds, rounds)
        if profile:
            _print_profile(plan, spent)
        if trace:
            Path(trace).write_text(json.dumps(chrome_trace(plan, spent)))
            click.echo(f"wrote {trace}: open it in chrome://tracing or ui.perfetto.dev")


def _time_runs(compiled: Any, feeds: dict[str, np.ndarray], rounds: int) -> list[float]:
    times = []
    for _ in range(WARMUP + rounds):
        start = time.perf_counter()
        compiled.run(feeds)
        times.append(time.perf_counter() - start)
    return times[WARMUP:]


def _print_profile(plan: Plan, spent: Sequence[float]) -> None:
    total = sum(spent) or 1e-12
    print_table(
        (">step", "nodes", "kernel", "algorithm", ">time", ">part", ">GFLOP/s", ">GB/s"),
        [
            (
                step.index,
                step.label,
                "host (NumPy)" if step.host else step.kernel,
                step.algorithm,
                seconds(t),
                f"{t / total:.1%}",
                _rate(step.flops, t),
                _rate(step.nbytes, t),
            )
            for step, t in zip(plan.steps, spent)
        ],
        title=f"steps, one at a time: {seconds(total)} together",
    )


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
                    "flops": step.flops,
                    "bytes": step.nbytes,
                },
            }
        )
        now += t
    return {"traceEvents": events, "displayTimeUnit": "ms"}
