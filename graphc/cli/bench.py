"""graphc bench: how long a model takes, whole or step by step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.console import many, progress_bars, seconds
from graphc.cli.described import described
from graphc.cli.feeds import input_files, make_feeds, plan_of
from graphc.cli.machine import Record, json_option
from graphc.cli.options import compile_options, feed_options, model_argument, open_backend, open_model
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.cli.picture import picture, require_matplotlib
from graphc.cli.profile import chrome_trace, print_profile
from graphc.objects import tensors_of

if TYPE_CHECKING:
    from pathlib import Path

    from graphc.cli.preparation import Preparation

WARMUP = 3


@click.command()
@model_argument
@feed_options
@click.option("--rounds", type=click.IntRange(min=1), default=30, show_default=True, help="Runs to time.")
@click.option("--profile", is_flag=True, help="Also time each step, and say how near it comes to the machine's limits.")
@click.option("--trace", type=OutputFile(".json"), help="Write the steps as a Chrome trace (JSON).")
@click.option("--picture", "drawing", type=OutputFile(".svg"), help="Draw the steps and the roofline (SVG).")
@compile_options
@json_option
def bench(
    model: str,
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    seed: int,
    cast: bool,
    how: Preparation,
    rounds: int,
    profile: bool,
    trace: Path | None,
    drawing: Path | None,
    **settings: Any,
) -> Record:
    """Time MODEL on this machine."""
    refuse_inputs((trace, drawing), (model, *input_files(inputs)))
    if drawing:
        require_matplotlib()
    start = time.perf_counter()
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        refuse_inputs((trace, drawing), compiled.files)
        feeds = make_feeds(
            compiled.inputs, inputs, dict(shapes), batch, seed, cast, described(how, compiled.described, model)
        )
        plan = plan_of(compiled, feeds)
    if profile or trace or drawing:
        plan.require_times()
    ready = time.perf_counter() - start
    times = time_runs(partial(compiled.run, feeds), rounds)
    plan = plan_of(compiled, feeds)  # now with what follows from data
    sizes = ", ".join(
        f"{name} {list(array.shape)}" for key, value in feeds.items() for name, array in tensors_of(key, value).items()
    )
    click.echo(f"{compiled.name} for {plan.target}, threads {plan.threads}, {sizes}: ready in {seconds(ready)}")
    record: Record = {
        "name": compiled.name,
        "target": plan.target,
        "threads": plan.threads,
        "shapes": {n: a.shape for key, value in feeds.items() for n, a in tensors_of(key, value).items()},
        "seconds": {"ready": ready, **_times(times)},
        "on_device": None,
        "flops": sum(step.flops for step in plan.steps),
        "emulated": plan.emulated,
        "profile": [],
        "written": [path for path in (trace, drawing) if path],
    }
    if plan.emulated:
        click.echo(f"{_described(times)}: of the emulator on this CPU, which say nothing about a GPU")
        return record
    click.echo(_described(times, record["flops"]))
    if plan.target == "cuda" and not any(s.content for s in (*compiled.inputs, *compiled.outputs)):
        there = {name: compiled.to_device(array) for name, array in feeds.items()}
        inside = time_runs(_waiting(compiled, there), rounds)
        click.echo(f"inputs and results in the GPU's memory: {_described(inside)}")
        record["on_device"] = _times(inside)
    if not (profile or trace or drawing):
        return record
    median = float(np.median(times))
    spent = plan.profile(feeds, rounds)
    limits = open_backend(**settings).roofline() if profile or drawing else None
    if profile:
        print_profile(plan, spent, limits)
        record["profile"] = [
            {**asdict(step), "seconds": t, "roofline": limits.seconds(step) if limits and not step.host else None}
            for step, t in zip(plan.steps, spent)
        ]
    if trace:
        events = json.dumps(chrome_trace(plan, spent)).encode()
        write_file(trace, lambda f: f.write(events))
        click.echo(f"wrote {trace}: open it in chrome://tracing or ui.perfetto.dev")
    if drawing:
        title = f"{compiled.name}, {many(plan.threads, 'thread')}, {seconds(median)}"
        svg = picture(plan, spent, title, limits).encode()
        write_file(drawing, lambda f: f.write(svg))
        click.echo(f"wrote {drawing}")
    return record


def _times(times: Sequence[float]) -> Record:
    return {
        "median": float(np.median(times)),
        "min": min(times),
        "within_90_percent": float(np.quantile(times, 0.9)),
        "rounds": len(times),
    }


def time_runs(run: Callable[[], Any], rounds: int) -> list[float]:
    """Seconds of each round, after some that do not count."""
    times = []
    for _ in range(WARMUP + rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times[WARMUP:]


def _waiting(compiled: Any, feeds: dict[str, Any]) -> Callable[[], None]:
    """A run whose results are there when it returns."""

    def run() -> None:
        for result in compiled.run(feeds).values():
            result.wait()

    return run


def _described(times: Sequence[float], flops: int | None = None) -> str:
    median = float(np.median(times))
    rate = "" if flops is None else f"{flops / median / 1e9:.3g} GFLOP/s, "
    return (
        f"median {seconds(median)}, min {seconds(min(times))}, 90 % within {seconds(float(np.quantile(times, 0.9)))} "
        f"({len(times)} rounds); {rate}{1 / median:.4g} runs/s"
    )
