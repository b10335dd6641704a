#!/usr/bin/env python3
"""Calls whose shapes change: graphc beside the runtimes that are installed, the same calls in the same order, in turn.

    python benchmarks/dynamic.py                                       # all workloads, one and two threads
    python benchmarks/dynamic.py --threads 1 --only encoder,unet       # some: those whose names begin so
    python benchmarks/dynamic.py --calls 40                            # fewer calls of each, to have a look

Each engine compiles the model, then gets its calls in blocks, in turn with the others; all first calls count. Per row: the
median and the mean of a call in milliseconds, graphc's over the best peer's, and the largest ratio that is meant to be
reached. graphc starts with an empty cache. benchmarks/README.md says more.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from dynamic_workloads import WORKLOADS, Workload
from engines import installed
from measure import PAUSE, Child, error

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).resolve().with_name("dynamic_worker.py")
PEERS = ("onnxruntime", "openvino")


@dataclass
class Measured:
    """What a workload took: seconds of each call by engine, of the same call made again, and plans on disk."""

    workload: Workload
    threads: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    again: dict[str, list[float]] = field(default_factory=dict)
    bound: list[float] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    error: float | None = None
    plans: int = 0


@dataclass(frozen=True)
class Row:
    """A figure and its target: the ratio to the best peer, to graphc itself, milliseconds, or a number of plans.

    peers: was it beside them?
    """

    name: str
    threads: int
    measured: float | None
    target: float
    text: str
    peers: bool = False

    def __str__(self) -> str:
        found = "        –" if self.measured is None else f"{self.measured:9.3f}"
        verdict = "ok" if self.measured is not None and self.measured <= self.target else "MISSED"
        return f"{self.name:30} {self.threads}  {found}  (at most {self.target:g}: {verdict})  {self.text}"


def measure(
    workload: Workload,
    engines: Sequence[str],
    threads: int,
    models: Path,
    calls: int | None = None,
    clock: str = "wall",
) -> Measured:
    """models: the folder of model files; calls: at most so many; clock: 'processor' means something for one thread only."""
    found = Measured(workload, threads)
    count = min(workload.calls, calls or workload.calls)
    counted = [e for e in engines if e == "graphc" or (e in PEERS and workload.target is not None)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        workers = {}
        for engine in counted:
            arguments = [engine, workload.name, workload.file(models), folder / f"{engine}.npz", threads]
            arguments += [clock if threads == 1 else "wall", count]
            try:
                cache = {"GRAPHC_CACHE_DIR": str(folder / "cache")}
                workers[engine] = Child(WORKER, arguments, folder / f"{engine}.txt", cache)
            except RuntimeError as problem:
                found.failed[engine] = str(problem)
        plans: set[str] = set()
        for first in range(0, count, workload.block):
            for engine, worker in [*workers.items()]:
                time.sleep(PAUSE)
                try:
                    answer = worker.ask(f"{first} {min(first + workload.block, count)}")
                except RuntimeError as problem:
                    found.failed[engine] = str(problem)
                    del workers[engine]
                    continue
                found.seconds.setdefault(engine, []).extend(answer["seconds"])
                found.again.setdefault(engine, []).extend(answer["again"])
                found.bound += answer["bound"] if engine == "graphc" else []
                found.memory[engine] = answer["memory"]
            plans |= {p.name for p in (folder / "cache").rglob("plan-*.json")}  # the oldest of many are deleted
        for worker in workers.values():
            worker.close()
        for engine in found.failed:
            found.seconds.pop(engine, None)
        found.plans = len(plans)
        if {"graphc", "onnxruntime"} <= workers.keys():
            found.error = _difference(folder / "graphc.npz", folder / "onnxruntime.npz")
    return found


def _difference(ours: Path, theirs: Path) -> float:
    """The largest of all calls that were kept, of each result's scale."""
    a, b = np.load(ours), np.load(theirs)
    return max(error([a[n]], [b[n]]) if b[n].size else 0.0 if a[n].shape == b[n].shape else np.inf for n in b.files)


def rows(found: Measured) -> Iterator[Row]:
    """What there is to be said of a workload."""
    workload, threads, times = found.workload, found.threads, found.seconds
    if workload.target is not None:
        yield Row(workload.name, threads, _ratio(times, np.median), workload.target, _times(found), True)
    if "graphc" not in times:
        return
    new, seen = np.array(times["graphc"]), np.array(found.again["graphc"])
    if workload.again is not None:
        text = f"a call {_ms(np.median(new))} ms, again {_ms(np.median(seen))}; means {_ms(new.mean())}, {_ms(seen.mean())}"
        yield Row(f"{workload.name} new to seen", threads, float(np.median(new / seen)), workload.again, text)
    if workload.binding is not None:
        yield rebinding(found)
    if workload.plans is not None:
        yield Row(workload.name, threads, float(found.plans), workload.plans, f"after {len(new)} lengths")


def rebinding(found: Measured) -> Row:
    """What binding a plan to other shapes takes; and what a shape costs that comes first, beyond the same call again: there are
    memory and caches in it, and for some shapes planning and new kernels."""
    new, seen = np.array(found.seconds["graphc"]), np.array(found.again["graphc"])
    more = (new - seen) * 1e3
    text = f"a new shape takes {np.median(more):.3f} ms more than the {_ms(np.median(seen))} of a call; mean {more.mean():.3f}"
    target = (found.workload.binding or 0.0) * 1e3
    measured = float(np.median(found.bound)) * 1e3 if found.bound else None
    return Row(f"{found.workload.name} binding in ms", found.threads, measured, target, text)


def _ratio(seconds: dict[str, list[float]], of: np.ufunc) -> float | None:
    peers = [of(t) for engine, t in seconds.items() if engine != "graphc"]
    return float(of(seconds["graphc"]) / min(peers)) if peers and "graphc" in seconds else None


def _times(found: Measured) -> str:
    parts = [
        f"{engine} {_ms(np.median(t))} ms (mean {_ms(np.mean(t))}, first {_ms(t[0])}, {found.memory[engine] / 2**20:.0f} MiB)"
        for engine, t in found.seconds.items()
    ]
    mean = _ratio(found.seconds, np.mean)
    parts += [] if mean is None else [f"ratio of means {mean:.3f}"]
    parts += [] if found.error is None else [f"results differ by {found.error:.1e}"]
    parts += [f"{engine} FAILED: {text[:160]}" for engine, text in found.failed.items()]
    return "; ".join(parts)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def main() -> None:
    options = _options()
    engines = [e for e in installed() if e in options.engines]
    written = []
    for threads in options.threads:
        for workload in WORKLOADS:
            if any(workload.name.startswith(name) for name in options.only):
                found = measure(workload, engines, threads, options.folder, options.calls, options.clock)
                for row in rows(found):
                    print(row, flush=True)
                    written.append(asdict(row))
    if options.json is not None:
        options.json.write_text(json.dumps(written, indent=1))


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=lambda t: [int(n) for n in t.split(",")], default=[1, 2], help="default: 1,2")
    parser.add_argument(
        "--only", type=names, default=[""], help="workloads whose names begin so, with commas; default: all"
    )
    parser.add_argument("--engines", type=names, default=["graphc", *PEERS], help="default: all that are installed")
    parser.add_argument("--calls", type=int, help="at most so many calls of each workload")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="processor: for one thread")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "models", help="where model files are made")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
