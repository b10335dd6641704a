"""Many cases, in processes of their own, and a summary."""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from . import peers
from .check import Finding
from .process import Worker, start
from .shrink import shrink
from .worker import told

PATIENCE = 300.0  # seconds without a word from a process
PER_PROCESS = 500  # models


@dataclass(frozen=True)
class Plan:
    """Which models on which engines. folder: findings and progress. rotate: one of the CPU targets in turn for each model."""

    seed: int
    models: Sequence[int]
    engines: Sequence[str]
    folder: Path
    rotate: bool = False
    jobs: int = 2
    seconds: float = 30.0


def _worker(plan: Plan) -> Worker:
    call = f"serve({plan.seed}, {list(plan.engines)!r}, {plan.rotate}, {str(plan.folder)!r}, {plan.seconds})"
    return Worker(f"{__package__}.worker", call, PATIENCE)


def run(plan: Plan, on_line: Callable[[dict], None] = lambda line: None) -> Summary:
    """All models of the plan. on_line is called with what each gave. A model is left out that the folder's progress holds."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    progress = plan.folder / "progress.jsonl"
    summary = Summary(plan)
    for line in _read(progress):
        if line["i"] in set(plan.models):
            summary.add(line)
    queue: SimpleQueue[int] = SimpleQueue()
    for i in plan.models:
        if i not in summary.seen:
            queue.put(i)
    lock = threading.Lock()
    with progress.open("a") as file:

        def done(line: dict) -> None:
            with lock:
                file.write(json.dumps(line) + "\n")
                file.flush()
                summary.add(line)
                on_line(line)

        threads = [threading.Thread(target=_work, args=(plan, queue, done)) for _ in range(plan.jobs)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    return summary


def forget_findings(folder: Path) -> None:
    """Have the folder's next run check the models again that had findings."""
    progress = folder / "progress.jsonl"
    kept = [line for line in _read(progress) if not line["findings"]]
    progress.write_text("".join(json.dumps(line) + "\n" for line in kept))


def all_runs(plan: Plan, out: Path) -> Summary:
    """What the folders of all seeds know."""
    summary = Summary(plan)
    for progress in sorted(out.glob("seed-*/progress.jsonl")):
        seed = progress.parent.name.removeprefix("seed-")
        for line in _read(progress):
            summary.add({**line, "i": f"{seed}-{line['i']}"})
    return summary


def _read(progress: Path) -> Iterable[dict]:
    if progress.exists():
        for text in progress.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # cut off when the run was ended
                yield json.loads(text)


def _work(plan: Plan, queue: SimpleQueue[int], done: Callable[[dict], None]) -> None:
    worker: Worker | None = None
    while True:
        try:
            i = queue.get_nowait()
        except Empty:
            break
        worker = worker or _worker(plan)
        line, at = worker.check(i)
        if line is None:
            hung, text = worker.close()
            line = _ended(plan, i, at, "hang" if hung else "crash", text, worker)
            worker = None
        elif worker.done >= PER_PROCESS:
            worker.close()
            worker = None
        done(line)
    if worker:
        worker.close()


def _ended(plan: Plan, i: int, at: str, kind: str, text: str, worker: Worker) -> dict:
    """A model that ended its process or did not come to an end."""
    finding, explained = Finding(at, kind, text), []
    kept = plan.folder / f"running-{worker.process.pid}.pickle"
    if kept.exists() and at not in ("start", "generate"):
        finding.case = pickle.loads(kept.read_bytes())
        if kind == "crash":
            finding.case = shrink(finding.case, lambda case: _crashes(case, at, plan.folder), 2 * plan.seconds)
        known = peers.fault(finding.case, kind)
        if at == "onnxruntime" and known:
            explained.append(known)
    kept.unlink(missing_ok=True)
    findings = [] if explained else [told(finding, plan.folder, {"seed": plan.seed, "i": i}, 0)]
    return {
        "i": i, "kind": "?", "operators": {}, "worlds": 0, "counts": {}, "findings": findings, "explained": explained
    }  # fmt: skip


def _crashes(case, engine: str, folder: Path) -> bool:
    path = folder / f"crash-{threading.get_ident()}.pickle"
    path.write_bytes(pickle.dumps(case))
    try:
        quiet = subprocess.DEVNULL
        with start(
            f"{__package__}.worker", f"try_once({str(path)!r}, {engine!r})", stdout=quiet, stderr=quiet
        ) as process:
            return process.wait() < 0
    finally:
        path.unlink()


@dataclass
class Summary:
    """What all models gave."""

    plan: Plan
    seen: set[int | str] = field(default_factory=set)
    operators: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    open_dims: int = 0
    models: Counter[str] = field(default_factory=Counter)  # by engine
    values: Counter[str] = field(default_factory=Counter)
    elements: Counter[str] = field(default_factory=Counter)
    ratios: dict[str, float] = field(default_factory=dict)
    explained: Counter[str] = field(default_factory=Counter)
    findings: list[dict] = field(default_factory=list)

    def add(self, line: dict) -> None:
        if line["i"] in self.seen:
            return
        self.seen.add(line["i"])
        self.operators.update(line["operators"])
        self.kinds[line["kind"]] += 1
        self.open_dims += line["worlds"] > 1
        for engine, c in line["counts"].items():
            self.models[engine] += 1
            self.values[engine] += c["values"]
            self.elements[engine] += c["elements"]
            self.ratios[engine] = max(self.ratios.get(engine, 0.0), c["ratio"])
        self.explained.update(line["explained"])
        self.findings += [{**f, "i": line["i"]} for f in line["findings"]]

    def __str__(self) -> str:
        n = len(self.seen)
        kinds = ", ".join(f"{k} {v}" for k, v in self.kinds.most_common())
        lines = [
            f"{n} models, {sum(self.operators.values())} nodes, {self.open_dims} models with open dims",
            f"kinds: {kinds}",
            f"{len(self.operators)} operators: " + ", ".join(f"{k} {v}" for k, v in self.operators.most_common()),
            "",
            f"{'engine':<14}{'models':>8}{'results':>9}{'elements':>12}  largest error over its tolerance",
        ]
        for e in self.plan.engines:
            ratio = self.ratios.get(e, 0.0)
            lines.append(f"{e:<14}{self.models[e]:>8}{self.values[e]:>9}{self.elements[e]:>12}  {ratio:.3f}")
        reasons = peers.reasons()
        lines += ["", f"explained by what ONNX Runtime is known to do: {sum(self.explained.values())}"]
        lines += [f"  {count:>5}  {name}: {reasons.get(name, '')}" for name, count in self.explained.most_common()]
        lines += ["", f"not explained: {len(self.findings)}"]
        lines += [self._shown(f) for f in self.findings[:100]]
        return "\n".join(lines)

    def _shown(self, f: dict) -> str:
        text = "\n    ".join(f["text"].strip().splitlines()[-8:])
        return f"  model {f['i']}, {f['engine']}, {f['kind']} [{f['operators']}] {f['at']}\n    {text}"
