"""Engines side by side: each in a process of its own on the same cores, rounds interleaved, medians.

A slow minute of the machine hits all engines alike; where other processes take processor time, more rounds are run and the
quietest are taken.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

WORKER = Path(__file__).resolve().parent / "worker.py"
PAUSE = 0.05  # seconds between two engines, for the threads of the one before to go to sleep
WRONG = 1e-2  # difference from ONNX Runtime, of the scale, that no rounding explains
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}  # modules are compiled once, as those of an installed package are
BUSY = 0.1  # CPUs that other processes may use during a round


@dataclass(frozen=True)
class Effort:
    """How to measure: `rounds` rounds of `seconds` together for each engine, up to `patience` seconds more for quiet ones.

    clock: 'wall', or 'processor' for the time that the process itself had, on a machine that does other things too. It
    means something for one thread only.
    """

    rounds: int = 7
    seconds: float = 0.7
    patience: float = 0.0
    clock: str = "wall"


@dataclass
class Measured:
    """What one model took, by engine; `failed` has the last words of engines that could not run it.

    start     seconds from the start of the process to the first result
    seconds   median of a run
    memory    peak resident set, bytes
    outputs   results of the first run
    others    CPUs that other processes used meanwhile, median of the rounds
    """

    start: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    others: float = 0.0

    def renamed(self, names: Mapping[str, str]) -> Measured:
        """With other names of engines; those that are not named keep theirs."""
        fields = ("start", "seconds", "memory", "outputs", "failed")
        by = {f: {names.get(engine, engine): v for engine, v in getattr(self, f).items()} for f in fields}
        return Measured(**by, others=self.others)


class Child:
    """The driver's end of a process that answers each line with a line of JSON, and one when it is ready.

    Raises RuntimeError with its last words where it died.
    """

    def __init__(
        self, script: Path, arguments: Sequence[object], errors: Path, variables: dict[str, str] | None = None
    ) -> None:
        """errors: the file that it writes its last words to."""
        self._errors = errors
        begin = time.perf_counter()
        with errors.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, str(script), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={**os.environ, **COMPILED, **(variables or {})},
            )
        self._answer()
        self.start = time.perf_counter() - begin

    def ask(self, line: str) -> dict[str, Any]:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def cpu(self) -> float:
        """Seconds of processor time that the worker has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith('{"memory"'):  # engines print things of their own
                answer = json.loads(line)
                self.memory, self.processor = answer["memory"], answer["processor"]
                return answer
        self._process.wait()
        said = self._errors.read_text().strip().splitlines()
        raise RuntimeError(said[-1] if said else f"ended with {self._process.returncode}")


class Worker(Child):
    """The driver's end of worker.py."""

    def __init__(
        self,
        engine: str,
        model: Path,
        feeds: Path,
        threads: int,
        folder: Path,
        clock: str = "wall",
        variables: dict[str, str] | None = None,
    ) -> None:
        self.engine, self._results = engine, folder / f"{engine}.npz"
        arguments = [engine, model, feeds, self._results, threads, clock]
        super().__init__(WORKER, arguments, folder / f"{engine}.txt", variables)

    def round(self, budget: float) -> float:
        """Median seconds of a run, from as many as fit into `budget` seconds."""
        return self.ask(str(budget))["seconds"]

    def outputs(self) -> list[np.ndarray]:
        """Results of the first run; there after a round."""
        loaded = np.load(self._results)
        return [loaded[name] for name in loaded.files]


def measure(
    model: Path, feeds: Path, engines: Sequence[str], threads: int, effort: Effort, wrong: float = WRONG
) -> Measured:
    """Run a model on each of the engines. wrong: see `Set`."""
    found = Measured()
    with TemporaryDirectory() as folder:
        workers = []
        for engine in engines:
            try:
                workers.append(Worker(engine, model, feeds, threads, Path(folder), effort.clock))
            except RuntimeError as error:
                found.failed[engine] = str(error)
        rounds: list[tuple[float, dict[str, float]]] = []
        deadline = time.perf_counter() + effort.patience
        for worker in workers:  # the first round warms up
            worker.round(0)
        while len(rounds) < effort.rounds or (
            _quietest(rounds, effort)[-1][0] > BUSY and time.perf_counter() < deadline
        ):
            rounds.append(_round(workers, effort.seconds / effort.rounds))
        kept = _quietest(rounds, effort)
        for worker in workers:
            found.start[worker.engine] = worker.start
            found.seconds[worker.engine] = float(np.median([seconds[worker.engine] for _, seconds in kept]))
            found.memory[worker.engine] = worker.memory
            found.outputs[worker.engine] = worker.outputs()
            worker.close()
    found.others = float(np.median([busy for busy, _ in kept]))
    _drop_wrong(found, wrong)
    return found


def _quietest(rounds: Sequence[tuple[float, dict[str, float]]], effort: Effort) -> list[tuple[float, dict[str, float]]]:
    return sorted(rounds, key=lambda r: r[0])[: effort.rounds]


def _drop_wrong(found: Measured, wrong: float) -> None:
    """A peer whose results are not ONNX Runtime's does not count: it has failed."""
    expected = found.outputs.get("onnxruntime")
    for engine in [e for e in found.outputs if expected is not None and e != "graphc"]:
        difference = error(found.outputs[engine], expected)
        if not difference < wrong:
            found.failed[engine] = f"wrong results, {difference:.1g} of their scale"
            del found.seconds[engine], found.memory[engine], found.start[engine]


def starts(model: Path, feeds: Path, engines: Sequence[str], threads: int, rounds: int) -> Measured:
    """Only from the start of a process to its first result, medians of `rounds` processes for each engine."""
    found = Measured()
    times: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        for _ in range(rounds):
            for engine in [e for e in engines if e not in found.failed]:
                try:
                    worker = Worker(engine, model, feeds, threads, Path(folder))
                    times.setdefault(engine, []).append(worker.start)
                    worker.close()
                except RuntimeError as error:
                    found.failed[engine] = str(error)
    found.start = {engine: float(np.median(t)) for engine, t in times.items()}
    return found


def cold_start(model: Path, feeds: Path, threads: int, processes: int) -> float:
    """Seconds from the start of a process to graphc's first result, each with an empty cache: the median."""
    seconds = []
    for _ in range(processes):
        with TemporaryDirectory() as folder:
            empty = {"GRAPHC_CACHE_DIR": str(Path(folder) / "cache")}
            worker = Worker("graphc", model, feeds, threads, Path(folder), variables=empty)
            worker.close()
            seconds.append(worker.start)
    return float(np.median(seconds))


def error(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Largest difference over the largest magnitude, of the worst output; infinite where one is missing.

    Engines give outputs in different orders: each expected one is compared with the most similar.
    """
    return max(min((_error(a, e) for a in actual if a.shape == e.shape), default=float("inf")) for e in expected)


def _error(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def _round(workers: Sequence[Worker], budget: float) -> tuple[float, dict[str, float]]:
    """How many CPUs other processes used meanwhile, and seconds of a run of each engine in turn."""
    own, busy, begin = sum(w.cpu() for w in workers), _busy(), time.perf_counter()
    seconds = {}
    for worker in workers:
        time.sleep(PAUSE)
        seconds[worker.engine] = worker.round(budget)
    own, busy = sum(w.cpu() for w in workers) - own, _busy() - busy
    return max(busy - own, 0.0) / (time.perf_counter() - begin), seconds


def _busy() -> float:
    """Seconds that all CPUs have been busy since the machine started, those included that its host took away."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
