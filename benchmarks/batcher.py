"""Dynamic batching beside single calls: N callers that each wait for their answer before they ask again.

    python benchmarks/batcher.py [--callers 8] [--rounds 5] [--seconds 2] [--json FILE]

Both sides in one process on the same compiled model, a round of each after the other; of rates the median of rounds, of latencies
quantiles of all rounds' calls. 'single': each caller calls the model; 'batcher': through one batcher of as many rows as callers.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import graphc
from graphc.graph import Builder, Graph
from graphc.model import Model

MODELS = ("mobilenet_v2", "resnet18", "lenet5", "dense")
DELAY = 0.002  # seconds


@dataclass(frozen=True)
class Side:
    """rate: requests a second; p50, p99: seconds that a caller waited."""

    rate: float
    p50: float
    p99: float


def dense() -> Graph:
    """x [batch, 2048] -> three layers of 2048 by 2048: as a ranking model, one row reads 48 MiB of weights."""
    b, rng = Builder("dense"), np.random.default_rng(0)
    x = b.input("x", np.float32, ("batch", 2048))
    for _ in range(3):
        x = b.add("Relu", b.add("Gemm", x, b.constant(rng.normal(0, 0.03, (2048, 2048)), np.float32)))
    return b.build({"y": x})


def round_of(ask: Callable[[np.ndarray], object], row: np.ndarray, callers: int, seconds: float) -> list[float]:
    """How long each call took, of callers that begin together."""
    begin, taken = threading.Barrier(callers), [list[float]() for _ in range(callers)]

    def caller(mine: list[float]) -> None:
        begin.wait()
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            ask(row)
            mine.append(time.perf_counter() - now)

    threads = [threading.Thread(target=caller, args=(mine,)) for mine in taken]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [t for mine in taken for t in mine]


def measured(model: Model, callers: int, rounds: int, seconds: float) -> dict[str, Side]:
    spec = model.inputs[0]
    assert spec.shape is not None
    row = np.random.default_rng(0).uniform(-1, 1, (1, *spec.shape[1:])).astype(spec.dtype)  # type: ignore[arg-type]
    with model.batcher(max_batch=callers, max_delay=DELAY) as batcher:
        batcher.warm(row)
        sides: dict[str, Callable[[np.ndarray], object]] = {"single": model, "batcher": batcher}
        times: dict[str, list[list[float]]] = {name: [] for name in sides}
        for ask in sides.values():
            round_of(ask, row, callers, 0.3)
        for _ in range(rounds):
            for name, ask in sides.items():
                times[name].append(round_of(ask, row, callers, seconds))
    return {
        name: Side(
            float(np.median([len(r) / seconds for r in found])),
            *np.quantile(np.concatenate(found), [0.5, 0.99]).tolist(),
        )
        for name, found in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, help=f"of {', '.join(MODELS)}, or other pages of the zoo")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    report = {}
    print(f"{'model':14} {'side':8} {'rows/s':>8} {'p50 ms':>8} {'p99 ms':>8}   {args.callers} callers")
    for name in args.models:
        model = graphc.compile(dense() if name == "dense" else f"zoo:{name}", threads=args.threads)
        sides = measured(model, args.callers, args.rounds, args.seconds)
        for side, s in sides.items():
            more = f"{s.rate / sides['single'].rate:6.2f} ×" if side != "single" else ""
            print(f"{name:14} {side:8} {s.rate:8.1f} {s.p50 * 1e3:8.2f} {s.p99 * 1e3:8.2f} {more}")
        sys.stdout.flush()
        report[name] = {side: asdict(s) for side, s in sides.items()}
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
