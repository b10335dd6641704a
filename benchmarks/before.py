#!/usr/bin/env python3
"""This checkout beside an older one, on every model of sets.py: the same files, the same inputs, in one run.

    python benchmarks/before.py ../graphc-before                      # all sets, one and two threads
    python benchmarks/before.py ../graphc-before --only light,small --threads 1 --limit 1.02

Each build runs in a process of its own on the same cores, in turn; each pair of processes gives a ratio. A model is measured
until the median ratio is known within half of what the limit allows, or for --patience seconds. Prints a row per model; the
last line names those that are slower than the limit for certain, and the exit status is 1 if there is one. Writes nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import PAUSE, Worker, error
from sets import SETS

ROOT = Path(__file__).resolve().parent.parent
BEFORE, NOW = "before", "now"
LEAST, ROUNDS = 3, 5  # pairs of processes, rounds of each


@dataclass(frozen=True)
class Comparison:
    """Medians of both builds in seconds; the ratio now / before with its standard error; peak memory and results' distance."""

    seconds: dict[str, float]
    ratio: float
    doubt: float
    pairs: int
    memory: dict[str, float]
    difference: float

    def slower(self, limit: float) -> bool:
        return self.ratio - 2 * self.doubt > limit


def main() -> None:
    options = _options()
    with TemporaryDirectory() as folder:
        builds = {BEFORE: options.before.resolve(), NOW: ROOT}
        ratios, slower = [], []
        for threads, name, case in _cases(options):
            files = case.network.files(options.folder)
            found = compare(files, threads, builds, Path(folder), options)
            ratios.append(found.ratio)
            verdict = "SLOWER" if found.slower(options.limit) else ""
            slower += [case.name] if verdict else []
            memory = found.memory[NOW] / found.memory[BEFORE]
            print(
                f"{name:12} {case.name:34} {threads} {found.seconds[BEFORE] * 1e3:10.3f} ms {found.seconds[NOW] * 1e3:10.3f} ms"
                f"  {found.ratio:.3f} ± {found.doubt:.3f} ({found.pairs} pairs)  memory {memory:.2f}"
                f"  results differ by {found.difference:.1e} {verdict}",
                flush=True,
            )
    mean = np.exp(np.mean(np.log(ratios)))
    print(f"{len(ratios)} rows, geometric mean {mean:.3f}, slower than {options.limit}: {', '.join(slower) or 'none'}")
    sys.exit(bool(slower))


def compare(
    files: tuple[Path, Path], threads: int, builds: dict[str, Path], folder: Path, options: argparse.Namespace
) -> Comparison:
    """Pairs of processes until the median of their ratios is known well enough.

    Where memory happens to lie moves times by some percent, for as long as a process lives and as its files are cached: so
    there are several processes, each with a copy of the cache.
    """
    caches = {label: folder / f"cache-{label}" for label in builds}
    for label, path in builds.items():  # kernels and plans
        shutil.rmtree(caches[label], ignore_errors=True)
        _start(label, path, caches[label], files, threads, folder, options).close()
    pairs: list[dict[str, float]] = []
    ratios: list[float] = []
    started = time.perf_counter()
    while True:
        order = (BEFORE, NOW) if len(pairs) % 2 else (NOW, BEFORE)
        workers = {}
        for label in order:
            copy = Path(shutil.copytree(caches[label], folder / f"copy-{label}-{len(pairs)}"))
            workers[label] = _start(label, builds[label], copy, files, threads, folder, options)
        medians = _alternate(workers, options.seconds)
        pairs.append(medians)
        ratios.append(medians[NOW] / medians[BEFORE])
        outputs = {label: worker.outputs() for label, worker in workers.items()}
        for label, worker in workers.items():
            worker.close()
            shutil.rmtree(folder / f"copy-{label}-{len(pairs) - 1}")
        # standard error of a median of normal numbers: 1.2533 σ/√n
        doubt = 1.2533 * float(np.std(ratios, ddof=1)) / len(ratios) ** 0.5 if len(ratios) > 1 else float("inf")
        known = 2 * doubt < (options.limit - 1) / 2
        late = time.perf_counter() - started > options.patience
        if len(ratios) >= LEAST and (known or late):
            break
    return Comparison(
        {label: float(np.median([p[label] for p in pairs])) for label in builds},
        float(np.median(ratios)),
        doubt,
        len(ratios),
        {label: worker.memory for label, worker in workers.items()},
        error(outputs[NOW], outputs[BEFORE]),
    )


def _start(
    label: str,
    build: Path,
    cache: Path,
    files: tuple[Path, Path],
    threads: int,
    folder: Path,
    options: argparse.Namespace,
) -> Worker:
    (folder / label).mkdir(exist_ok=True)
    environment = {"PYTHONPATH": str(build), "GRAPHC_CACHE_DIR": str(cache)}
    return Worker("graphc", *files, threads, folder / label, options.clock, environment)


def _alternate(workers: dict[str, Worker], seconds: float) -> dict[str, float]:
    """The median of ROUNDS rounds of each process, in turn."""
    times: dict[str, list[float]] = {label: [] for label in workers}
    for worker in workers.values():  # warms up
        worker.round(0)
    for _ in range(ROUNDS):
        for label, worker in workers.items():
            time.sleep(PAUSE)
            times[label].append(worker.round(seconds))
    return {label: float(np.median(t)) for label, t in times.items()}


def _cases(options: argparse.Namespace) -> Iterator[tuple]:
    for threads in options.threads:
        for name in options.only:
            for case in SETS[name].cases:
                if not options.models or case.name in options.models:
                    yield threads, name, case


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--threads", type=lambda t: [int(n) for n in t.split(",")], default=[1, 2], help="default: 1,2")
    parser.add_argument("--only", type=names, default=list(SETS), help="sets, with commas; default: all")
    parser.add_argument("--models", type=names, help="only these of the sets' models")
    parser.add_argument("--limit", type=float, default=1.02, help="the largest ratio that is allowed; default: 1.02")
    parser.add_argument("--seconds", type=float, default=0.1, help="for a build and a round")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds per model")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="processor: for one thread")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "models", help="where model files are made")
    options = parser.parse_args()
    if unknown := set(options.only) - {*SETS}:
        parser.error(f"unknown sets: {', '.join(sorted(unknown))}; known: {', '.join(SETS)}")
    return options


if __name__ == "__main__":
    main()
