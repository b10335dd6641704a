"""A model on a local Dask cluster: two workers beside one, and what a lost worker costs.

    python benchmarks/cluster.py [MODEL] [--inputs 400] [--rounds 3] [--json FILE]

Each worker is a process with one thread. Clusters of both sizes are up all the time, and a round of each follows the other; the
throughput of a side is the median of its rounds. In the last round one of the two workers is killed half way.

wall: what a clock on the wall says, which means something on an idle machine with a CPU for each worker and a share of one for
the scheduler. CPU time: of the workers alone, what they would reach with a CPU each. own: what the scheduler and the client took
of their CPU, an input; while they wait they look around every few milliseconds, so a busy machine makes it larger.
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


def rates(
    client: Client, model: Model, count: int, after: Callable[[int], None] = lambda done: None
) -> tuple[float, float, float]:
    """Inputs a second, on the wall and by CPU time, and milliseconds that this process took for one. after: called with how many results have come."""
    done, workers = 0, len(client.nthreads())
    with fleet.engine(client) as engine:
        begin, own, theirs = time.perf_counter(), time.process_time(), client.run(time.process_time)
        for done, _ in enumerate(engine.map(model, inputs_of(model, count)), 1):
            after(done)
        seconds, own = time.perf_counter() - begin, time.process_time() - own
        taken = sum(t - theirs.get(w, 0.0) for w, t in client.run(time.process_time).items())
    assert done == count, f"{count - done} results are lost"
    return count / seconds, count * workers / taken, own / count * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="zoo:resnet50")
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
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
        for client in sides.values():
            rates(client, model, 8)
        for _ in range(args.rounds):
            for name, client in sides.items():
                found[name].append(rates(client, model, args.inputs))

        def kill(done: int) -> None:
            if done == args.inputs // 2:
                os.kill(min(both.run(os.getpid).values()), signal.SIGKILL)

        report = {name: np.median(rounds, axis=0).tolist() for name, rounds in found.items()}
        report["two workers, one killed"] = [rates(both, model, args.inputs, kill)[0], np.nan, np.nan]
    print(f"{'inputs a second':26} {'wall':>8} {'':7} {'CPU time':>8} {'':7} {'own ms':>7}")
    for name, (*values, own) in report.items():
        columns = (f"{v:8.1f} {v / first:5.2f} ×" for v, first in zip(values, report["one worker"]))
        print(f"{name:26} {' '.join(columns)} {own:7.1f}")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
