#!/usr/bin/env python3
"""graphc beside other runtimes: the same models, the same inputs, in one run.

Each engine has a process of its own, pinned to the same cores; rounds are interleaved, so that a slow minute of the
machine hits all of them. Prints one line a model and a Markdown table with medians; `--write FILE` puts the table
between the markers of a page. Results are checked against each other first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from engines import ENGINES, installed
from models import make_models, random_feeds

HERE = Path(__file__).resolve().parent


BEGIN, END = "<!-- peers: begin (written by benchmarks/peers.py) -->", "<!-- peers: end -->"
RUNS = 3  # a round is the median of so many runs
PAUSE = 0.05  # seconds between two engines, for the threads of the one before to go to sleep


# --- a worker: one engine, one model ---------------------------------------------------------------------------------
def work(engine: str, model: Path, threads: int, results: Path) -> None:
    """Load, run once, save the outputs, say how long that took; then time RUNS runs for each line on stdin."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    feeds = random_feeds(model)
    start = time.perf_counter()
    run = ENGINES[engine](model, threads)
    outputs = run(feeds)
    first = time.perf_counter() - start
    np.savez(results, *[np.asarray(o) for o in outputs])
    say(first)
    for _ in sys.stdin:
        say(float(np.median([_timed(run, feeds) for _ in range(RUNS)])))


def _timed(run, feeds) -> float:
    start = time.perf_counter()
    run(feeds)
    return time.perf_counter() - start


def say(seconds: float) -> None:
    print(json.dumps({"seconds": seconds}), flush=True)


class Worker:
    """The driver's end of a worker. Raises RuntimeError with the worker's last words where it died."""

    def __init__(self, engine: str, model: Path, threads: int, folder: Path) -> None:
        self.engine, self.results, self.errors = engine, folder / f"{engine}.npz", folder / f"{engine}.txt"
        arguments = ["--worker", engine, "--threads", str(threads), "--results", str(self.results), str(model)]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "peers.py"), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.first = self._answer()

    def round(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def outputs(self) -> list[np.ndarray]:
        loaded = np.load(self.results)
        return [loaded[name] for name in loaded.files]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> float:
        for line in self.process.stdout:
            if line.startswith('{"seconds"'):  # engines print things of their own
                return json.loads(line)["seconds"]
        said = self.errors.read_text().strip().splitlines()
        raise RuntimeError(said[-1] if said else f"ended with {self.process.wait()}")


# --- the driver ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """By engine: median seconds of a run, and seconds to load and run once.

    `error` is graphc's largest difference from ONNX Runtime over its scale, None where one of them failed.
    """

    model: str
    seconds: dict[str, float]
    first: dict[str, float]
    error: float | None

    @property
    def ratio(self) -> float | None:
        """graphc over the fastest peer: below 1, graphc is faster."""
        peers = [s for name, s in self.seconds.items() if name != "graphc"]
        return self.seconds["graphc"] / min(peers) if peers and "graphc" in self.seconds else None


def measure(name: str, model: Path, engines: Sequence[str], threads: int, rounds: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        workers = []
        for engine in engines:
            try:
                workers.append(Worker(engine, model, threads, Path(folder)))
            except RuntimeError as error:
                print(f"{name}: {engine} failed: {error}", file=sys.stderr)
        outputs = {w.engine: w.outputs() for w in workers}
        times: dict[str, list[float]] = {w.engine: [] for w in workers}
        for turn in range(rounds + 1):
            for worker in workers:
                time.sleep(PAUSE)
                seconds = worker.round()
                if turn:  # the first round warms up
                    times[worker.engine].append(seconds)
        for worker in workers:
            worker.close()
    error = None
    if {"graphc", "onnxruntime"} <= outputs.keys():
        error = max(map(_error, outputs["graphc"], outputs["onnxruntime"]))
    return Row(name, {e: float(np.median(t)) for e, t in times.items()}, {w.engine: w.first for w in workers}, error)


def _error(actual: np.ndarray, expected: np.ndarray) -> float:
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def line(row: Row) -> str:
    parts = [f"{engine} {s * 1e3:.3g} ms (start {row.first[engine]:.2f} s)" for engine, s in row.seconds.items()]
    ratio = "" if row.ratio is None else f"; ratio to the best peer {row.ratio:.2f}"
    error = "" if row.error is None else f"; differs by {row.error:.1e} of scale"
    return f"{row.model}: {', '.join(parts)}{ratio}{error}"


def table(rows: Sequence[Row], versions: dict[str, str], threads: int, rounds: int) -> str:
    """The rows as Markdown, with what was measured where."""
    engines = [e for e in versions if any(e in r.seconds for r in rows)]
    head = ["model", *(f"{e} {versions[e]}" for e in engines), "ratio to the best peer", "difference from ONNX Runtime"]
    body = [
        [
            r.model,
            *(f"{r.seconds[e] * 1e3:.3g}" if e in r.seconds else "failed" for e in engines),
            "" if r.ratio is None else f"{r.ratio:.2f}",
            "" if r.error is None else f"{r.error:.0e}",
        ]
        for r in rows
    ]
    ratios = [r.ratio for r in rows if r.ratio is not None]
    if ratios:
        mean = float(np.exp(np.mean(np.log(ratios))))
        body.append(["**geometric mean**", *[""] * len(engines), f"**{mean:.2f}**", ""])
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---", *["--:"] * (len(head) - 1)], *body)]
    threaded = "1 thread" if threads == 1 else f"{threads} threads"
    caption = (
        f"Milliseconds a run, batch 1, {threaded}, float32: medians of {rounds} interleaved rounds on {cpu_name()}."
    )
    return f"{caption}\n\n" + "\n".join(lines)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")), platform.machine())


def write_between_markers(page: Path, text: str) -> None:
    """Replace what stands between BEGIN and END. Raises ValueError where the page lacks them."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the lines '{BEGIN}' and '{END}'")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names of models, or ONNX files; all without")
    parser.add_argument("--engines", default=",".join(ENGINES), help="which, of those installed (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--folder", type=Path, default=HERE.parent / "build" / "models", help="where model files are made"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers of this page")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, Path(args.models[0]), args.threads, args.results)
        return
    files = {Path(m).stem: Path(m) for m in args.models if m.endswith(".onnx")}
    names = [m for m in args.models if not m.endswith(".onnx")]
    if names or not files:
        try:
            files.update(make_models(args.folder, names))
        except ValueError as error:
            parser.error(str(error))
    versions = {e: v for e, v in installed().items() if e in args.engines.split(",")}
    rows = []
    for name, model in files.items():
        rows.append(measure(name, model, list(versions), args.threads, args.rounds))
        print(line(rows[-1]), flush=True)
    text = table(rows, versions, args.threads, args.rounds)
    print(f"\n{text}")
    if args.write:
        write_between_markers(args.write, text)


if __name__ == "__main__":
    main()
