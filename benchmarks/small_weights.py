"""Kernels for small weights beside those for any: products with blocks of zeros, and of signs.

    python benchmarks/small_weights.py [--isa avx2] [--rounds N]

All runs of a line are interleaved; medians of processor time, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import graphc
from graphc.graph import Builder, Graph, Value

F32 = np.dtype(np.float32)
SIZES = (
    (1, 256, 256),
    (1, 1024, 1024),
    (4, 768, 3072),
    (16, 768, 768),
    (128, 256, 256),
    (128, 768, 3072),
)  # rows, K, columns
SHARES = (0.2, 0.3, 0.4, 0.5, 0.7, 0.9)  # of blocks that are zero
WORK = 3e9  # multiply-adds of a line's runs


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--isa", default=None)
    arguments.add_argument("--rounds", type=int, default=300, help="at most, of each line")
    options = arguments.parse_args()
    from graphc.backends.cpu.product import block_sparse

    block_sparse.KEPT = 1.0  # for all shares
    settings = {"threads": 1, "target": f"cpu:{options.isa}" if options.isa else "cpu"}
    rng = np.random.default_rng(0)

    def line(rows: int, k: int, n: int, runs: dict[str, Callable[[], object]]) -> None:
        rounds = max(5, min(options.rounds, int(WORK / (rows * k * n))))
        times = medians([*runs.values()], rounds)
        said = "".join(f"  {name}: {1e6 * seconds:<6.0f}" for name, seconds in zip(runs, times))
        print(f"{rows:>4} x {k} x {n:<5}{said}", flush=True)

    def model(graph: Graph, x: np.ndarray, **more: object) -> Callable[[], object]:
        compiled = graphc.compile(graph, **settings, **more)
        compiled(x)
        return lambda: compiled(x)

    print("products with blocks of 16x1 zeros, µs: the part of them that is zero")
    for rows, k, n in SIZES:
        x = rng.standard_normal((rows, k)).astype(F32)
        runs = {"dense": model(product(rows, sparse(rng, k, n, 0.5)), x, disabled=["block_sparse"])}
        line(rows, k, n, runs | {f"{s:.0%}": model(product(rows, sparse(rng, k, n, s)), x) for s in SHARES})
    print("products of signs, µs: bits of a sign of rows and of weights; the same in float32; bytes alone")
    for rows, k, n in SIZES:
        x = rng.standard_normal((rows, k)).astype(F32)
        binary, ternary = rng.choice([-1, 1], (k, n)).astype(F32), rng.integers(-1, 2, (k, n)).astype(F32)
        graphs = {"1x1": (either, binary), "1x2": (either, ternary), "2x1": (sign, binary), "2x2": (sign, ternary)}
        runs = {name: model(product(rows, w, of), x) for name, (of, w) in graphs.items()}
        runs["float32"] = model(product(rows, binary, sign), x, disabled=["sign_products"])
        runs["int8"] = model(of_bytes(rows, binary), (x > 0).astype(np.uint8))
        line(rows, k, n, runs)


def sparse(rng: np.random.Generator, k: int, n: int, zeros: float) -> np.ndarray:
    kept = rng.random((k, -(-n // 16))) >= zeros
    return rng.standard_normal((k, n)).astype(F32) * kept.repeat(16, 1)[:, :n]


def sign(b: Builder, x: Value) -> Value:
    return b.add("Sign", x)


def either(b: Builder, x: Value) -> Value:
    return b.add("Where", b.add("Greater", x, b.constant(0, F32)), b.constant(1, F32), b.constant(-1, F32))


def product(rows: int, w: np.ndarray, of: Callable[[Builder, Value], Value] | None = None) -> Graph:
    b = Builder()
    x = b.input("x", F32, (rows, len(w)))
    return b.build([b.add("MatMul", x if of is None else of(b, x), b.constant(w))])


def of_bytes(rows: int, w: np.ndarray) -> Graph:
    b = Builder()
    y = b.add("MatMulInteger", b.input("x", np.uint8, (rows, len(w))), b.constant(w.astype(np.int8)))
    return b.build([b.add("Cast", y, to=F32)])


def medians(runs: list[Callable[[], object]], rounds: int) -> list[float]:
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, taken in zip(runs, times):
            start = time.thread_time()
            run()
            taken.append(time.thread_time() - start)
    return [float(np.median(taken)) for taken in times]


if __name__ == "__main__":
    main()
