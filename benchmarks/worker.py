"""One engine and one model in a process of its own: worker.py ENGINE MODEL FEEDS.npz RESULTS.npz THREADS CLOCK.

Answers with lines of JSON: one after the first run, then one for each number of seconds that it reads, after having run the
model for about as long.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from engines import BFLOAT16, DEFAULTS, ENGINES, Feeds, Run

LEAST = 3  # the first run after another engine's finds the caches full of that one's data
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
SLOW = 0.3  # seconds per run from which on that makes no difference


def main() -> None:
    engine, model, feeds, results, threads, clock = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    inputs = dict(np.load(feeds))
    run = {**ENGINES, **BFLOAT16, **DEFAULTS}[engine](Path(model), int(threads))
    outputs = run(inputs)
    answer()
    np.savez(results, *[np.asarray(o) for o in outputs])
    for line in sys.stdin:
        answer(seconds=timed(run, inputs, float(line), CLOCKS[clock]))


def timed(run: Run, feeds: Feeds, budget: float, clock: Callable[[], float]) -> float:
    """Median seconds of as many runs as fit into `budget` seconds."""
    times: list[float] = []
    while not times or sum(times) < budget or (len(times) < LEAST and times[-1] < SLOW):
        start = clock()
        run(feeds)
        times.append(clock() - start)
    return float(np.median(times))


def answer(**numbers: object) -> None:
    print(json.dumps({"memory": peak_memory(), "processor": time.process_time(), **numbers}), flush=True)


def peak_memory() -> int:
    """Largest resident set of this process so far, in bytes (getrusage would count the parent's at the time of the fork)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
