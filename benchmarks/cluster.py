"""A model on a local Dask cluster: two workers beside one, and what a lost worker costs.

    python benchmarks/cluster.py [MODEL] [--inputs 400] [--rounds 3] [--json FILE]

Each worker is a process with one thread. Clusters of both sizes are up all the time, and a round of each follows the other; the
throughput of a side is the median of its rounds. In the last round one of the two workers is killed half way.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

import graphc
from graphc import fleet
from graphc.model import Model


def inputs_of(model: Model, count: int) -> Iterator[dict[str, np.ndarray]]:
    spec, rng = model.inputs[0], np.random.default_rng(0)
    assert spec.shape is not None
    for _ in range(count):
        yield {spec.name: rng.random((1, *spec.shape[1:]), np.float32)}


def rate(client: Client, model: Model, count: int, after: Callable[[int], None] = lambda done: None) -> float:
    """Inputs a second. after: called with how many results have come."""
    done = 0
    with fleet.engine(client) as engine:
        begin = time.perf_counter()
        for done, _ in enumerate(engine.map(model, inputs_of(model, count)), 1):
            after(done)
        seconds = time.perf_counter() - begin
    assert done == count, f"{count - done} results are lost"
    return count / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="zoo:resnet18")
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = graphc.compile(args.model, threads=1)
    model.run(next(inputs_of(model, 1)))  # plans are on disk from here on
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None, "silence_logs": 50}
    with (
        LocalCluster(n_workers=1, **options) as one,
        LocalCluster(n_workers=2, **options) as two,
        Client(one) as alone,
        Client(two) as both,
    ):
        sides = {"one worker": alone, "two workers": both}
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for client in sides.values():
            rate(client, model, 8)
        for _ in range(args.rounds):
            for name, client in sides.items():
                rates[name].append(rate(client, model, args.inputs))

        def kill(done: int) -> None:
            if done == args.inputs // 2:
                os.kill(min(both.run(os.getpid).values()), signal.SIGKILL)

        report = {name: float(np.median(found)) for name, found in rates.items()}
        report["two workers, one killed"] = rate(both, model, args.inputs, kill)
    for name, found in report.items():
        print(f"{name:26} {found:8.1f} inputs/s  {found / report['one worker']:5.2f} ×")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
