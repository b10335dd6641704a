"""Algorithms by measurement: the steps of one convolution, run on this machine with each of its candidates in turn.

What was measured is kept on disk, a document per layer, under a key of everything that its time depends on: the machine, the
instruction set, the number of threads, the text of what generates code, the layer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from graphc.backend import Progress
from graphc.backends.cpu.codegen.cache import code_fingerprint
from graphc.backends.cpu.conv.algorithms import candidates, layer_key
from graphc.backends.cpu.conv.conv import allowed, form
from graphc.backends.cpu.conv.window import window_of
from graphc.backends.cpu.lower.policy import Algorithm, Policy
from graphc.backends.cpu.native import host_reason
from graphc.backends.cpu.options import machine
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.cpu.runtime.run import Runner
from graphc.backends.cpu.stages import STAGES, Draft
from graphc.backends.cpu.target import Target
from graphc.backends.tuned import Times, Tuned
from graphc.graph import Graph, Node, Value
from graphc.lower.lowered import lowered
from graphc.lower.weights import WeightStore
from graphc.types import TensorType

COLD_BYTES = 48 << 20  # read between runs: more than the caches in which the weights of a model would stay
ROUNDS = 12
LAYER_SECONDS = 1.0  # of measuring one layer, after which no further round begins
TOTAL_SECONDS = 60.0  # of a plan, compiling kernels and packing weights included, after which no further layer begins


def measured(
    graph: Graph, target: Target, threads: int, policy: Policy, cache: bool, progress: Progress | None
) -> dict[str, Times]:
    """Seconds of each allowed algorithm by layer, for the convolutions of a bound graph that have a choice.

    From disk where they were measured before; the largest layers first, as many as TOTAL_SECONDS allow.
    """
    found: dict[str, Times] = {}
    open_layers: dict[str, tuple[float, Node, list[Algorithm]]] = {}
    facts = [machine(), str(target), target.cpu, target.features, str(threads), code_fingerprint().hex()]
    kept = Tuned(facts, cache)
    for node in graph.nodes:
        if node.op.name != "Conv" or host_reason(node, target) or form(node, target) != "blocked":
            continue
        w, groups = window_of(node), node.attrs["group"]
        own = allowed(node, policy)
        open_to_it = [c for c in candidates(w, groups, target, own.winograd, own.uses("strassen")) if not c.excluded]
        key = layer_key(w, groups)
        if len(open_to_it) < 2 or key in found or key in open_layers:
            continue
        names = [c.algorithm for c in open_to_it]
        known = kept.read(key)
        if all(name in known for name in names):
            found[key] = known
        else:
            open_layers[key] = open_to_it[0].seconds, node, names
    order = sorted(open_layers, key=lambda key: -open_layers[key][0])
    deadline = time.perf_counter() + TOTAL_SECONDS
    evict = evictor() if order else None
    for i, key in enumerate(order):
        if progress:
            progress("tuning", i, len(order))
        if time.perf_counter() > deadline:
            break
        _, node, names = open_layers[key]
        found[key] = measure(node, target, threads, names, cache, evict)
        kept.write(key, found[key])
    if progress and order:
        progress("tuning", len(order), len(order))
    return found


def measure(
    node: Node,
    target: Target,
    threads: int,
    names: Sequence[Algorithm],
    cache: bool = True,
    evict: Callable[[], object] | None = None,
    rounds: int = ROUNDS,
) -> Times:
    """Least seconds of each algorithm for one image of a convolution, run in turn."""
    trials = {name: Trial(node, target, threads, name, cache) for name in names}
    best: Times = dict.fromkeys(names, math.inf)
    deadline = time.perf_counter() + LAYER_SECONDS
    for i in range(rounds):
        for name, trial in trials.items():
            best[name] = min(best[name], trial.seconds(evict))
        if i and time.perf_counter() > deadline:
            break
    return best


class Trial:
    """The steps of one convolution with one algorithm, compiled."""

    def __init__(self, node: Node, target: Target, threads: int, algorithm: Algorithm, cache: bool) -> None:
        graph = alone(node)
        self._weights = WeightStore()
        done = lowered(STAGES, Draft(graph, target, threads, self._weights, Policy(forced=algorithm)))
        runtime = runtime_of(target)
        addresses, executor = runtime.toolchain(cache).addresses(done.kernels), runtime.executor(threads, cache)
        results = [(t.extents, t.dtype) for _, t in done.results]
        runner = Runner(done.assembled, [addresses[k] for k in done.kernels], executor, results)
        x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape, np.float32)
        self._step = runner.stepper([x])
        self._own = [i for i, step in enumerate(done.steps) if graph.nodes[0].name in step.nodes]

    def seconds(self, evict: Callable[[], object] | None) -> float:
        """Of the convolution's steps, after its input was written. evict: empties the caches before that."""
        if evict is not None:
            evict()
        for i in range(self._own[0]):
            self._step(i)
        start = time.perf_counter()
        for i in self._own:
            self._step(i)
        return time.perf_counter() - start


def alone(node: Node) -> Graph:
    """A graph of one node, for one image: operand 0 is its input, the other operands are the node's constants."""
    x, y = (Value(n, TensorType(v.dtype, (1, *v.shape[1:]))) for n, v in (("x", node.inputs[0]), ("y", node.output)))
    only = replace(node, inputs=(x, *node.inputs[1:]), outputs=(y,), name="layer")
    return Graph("layer", (x,), (y,), (only,), ("y",))


def evictor(nbytes: int = COLD_BYTES) -> Callable[[], object]:
    """Reads so much memory that the caches hold nothing else."""
    return np.ones(nbytes // 8, np.int64).max  # not zeros: untouched, they are all one page
