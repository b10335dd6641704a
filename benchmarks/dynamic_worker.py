"""One engine and one workload in a process of its own: dynamic_worker.py ENGINE WORKLOAD MODEL RESULTS.npz THREADS CLOCK CALLS.

Answers with lines of JSON: one when the model is compiled, then one for each line `first last` that it reads: it runs these
calls in order and gives the seconds of each, and of the same call made again at once where nothing is carried.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import dynamic_models as made
import numpy as np
import onnx
from dynamic_workloads import SEED, WORKLOADS, Workload
from engines import ENGINES, Feeds
from worker import CLOCKS, answer

Results = dict[str, np.ndarray]
KEPT = 10  # results of every so manieth call are written down
AGAIN = 3  # times that a shape which has been there is measured


def main() -> None:
    engine, name, path, results, threads, clock, calls = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    workload = next(w for w in WORKLOADS if w.name == name)
    run = runner(engine, workload, Path(path), int(threads))
    feeds = workload.draw(np.random.default_rng(SEED), int(calls))
    if workload.again is not None or workload.binding is not None:
        times = AGAIN
    else:
        times = 0
    bind = binder(Path(path), int(threads)) if engine == "graphc" and workload.binding is not None else None
    kept: Results = {}
    answer()
    for line in sys.stdin:
        first, last = map(int, line.split())
        seconds, again, bound = [], [], []
        if first and not workload.carried:
            run(feeds[first - 1])  # caches are full of another engine's data
        for i in range(first, last):
            taken, outputs = timed(run, feeds[i], CLOCKS[clock])
            seconds.append(taken)
            again.append(float(np.median([timed(run, feeds[i], CLOCKS[clock])[0] for _ in range(times)] or [0.0])))
            if bind is not None and i:
                bound += bind(feeds[i - 1], feeds[i])
            if i % KEPT == 0:
                kept |= {f"{i} {n}": a for n, a in outputs.items() if not n.startswith("present")}
        if last == len(feeds):
            np.savez(results, **kept)
        answer(seconds=seconds, again=again, bound=bound)


def runner(engine: str, workload: Workload, path: Path, threads: int) -> Callable[[Feeds], Results]:
    """One call by names; caches are carried inside where the workload carries them."""
    graph = onnx.load(path, load_external_data=False)
    names = [o.name for o in graph.graph.output]
    caches = made.caches(graph)
    if workload.session and engine == "graphc":
        import graphc

        return graphc.compile(str(path), threads=threads, states=caches).session().run
    call = ENGINES[engine](path, threads)
    if not workload.carried:
        return lambda feeds: dict(zip(names, call(feeds)))
    state = made.empty_caches(graph)

    def step(feeds: Feeds) -> Results:
        outputs = dict(zip(names, call({**feeds, **state})))
        state.update({past: outputs[present] for past, present in caches.items()})
        return outputs

    return step


def binder(path: Path, threads: int) -> Callable[[Feeds, Feeds], list[float]]:
    """Seconds that the plan which serves both of two calls takes to be bound to the one, and to the other; none where they have
    no plan in common."""
    import graphc

    model = graphc.compile(str(path), threads=threads)

    def bind(*calls: Feeds) -> list[float]:
        for feeds in calls:
            model.run(feeds)
        arrays = [[feeds[s.name] for s in model.inputs] for feeds in calls]
        plan = next((e for e in model._many if all(map(e.holds, arrays))), None)
        if plan is None:
            return []
        arena = plan.program.arenas.take()
        seconds = []
        for each in arrays * 3:  # the first one may make the arena larger
            start = perf_counter()
            plan.program._context(arena, each)
            seconds.append(perf_counter() - start)
        plan.program.arenas.free.append(arena)
        return seconds[2:]

    return bind


def timed(run: Callable[[Feeds], Results], feeds: Feeds, clock: Callable[[], float]) -> tuple[float, Results]:
    start = clock()
    outputs = run(feeds)
    return clock() - start, outputs


if __name__ == "__main__":
    main()
