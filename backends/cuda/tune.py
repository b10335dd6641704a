"""Choices by measurement: the candidates of each product and convolution, run on this GPU in turn.

A program of nothing but their steps is laid out in memory, with numbers in the place of all values; it does not compute the
model. What was measured is kept on disk, under a key of everything that a time depends on (`Tuned`): the GPU, the text of what
generates code, sizes and strides, the ending.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.codegen.cache import text_of_generators
from graphc.backends.cuda.lower.choices import Choices, Trial
from graphc.backends.cuda.runtime.bound import Bindings
from graphc.backends.cuda.runtime.device import DeviceMemory
from graphc.backends.cuda.runtime.run import Functions, Runner
from graphc.backends.cuda.runtime.workspace import Workspaces
from graphc.backends.cuda.stages import STAGES, assemble_table
from graphc.backends.tuned import Times, Tuned
from graphc.errors import OutOfMemoryError, UnsupportedError
from graphc.lower.plans import CompiledPlan, KernelName, Report
from graphc.lower.program import Program

if TYPE_CHECKING:
    from graphc.backend import Progress
    from graphc.backends.cuda.runtime.context import Context
    from graphc.backends.cuda.runtime.device import Device, Launch, Stream
    from graphc.backends.cuda.stages import Draft

ROUNDS = 7
SITE_SECONDS = 0.5  # of measuring one site, after which no further round begins
TOTAL_SECONDS = 180.0  # of a plan, compiling included, after which no further site begins
PATTERN = 1 << 22  # numbers


def measured(d: Draft, device: Device, cache: bool, progress: Progress | None) -> Choices:
    """Of a new draft, with weights of its own, whose candidates are to be tried. From disk where they were measured before; the
    largest sites first, as many as TOTAL_SECONDS allow. The model chooses where there is not the memory to measure."""
    sites = _sites(d)
    kept = Tuned(["cuda", device.name, str(device.arch), text_of_generators("cuda").hex()], cache)
    times = {site: kept.read(site) for site in sites}
    missing = {site: [t for t in trials if t.name not in times[site]] for site, trials in sites.items()}
    order = sorted((s for s in sites if missing[s]), key=lambda s: -_work(sites[s][0]))
    lacking: dict[str, int] = {}
    if not order:
        return Choices(times)
    deadline = time.perf_counter() + TOTAL_SECONDS
    try:
        with _bench(d, [t for site in order for t in missing[site]], device, cache) as bench:
            for i, site in enumerate(order):
                if progress:
                    progress("tuning", i, len(order))
                if time.perf_counter() > deadline:
                    break
                found, lacking[site] = bench.measure(missing[site])
                if found:
                    times[site] = times[site] | found
                    kept.write(site, times[site])
    except OutOfMemoryError:
        pass
    if progress:
        progress("tuning", len(order), len(order))
    return Choices(times, lacking)


def compile_candidates(d: Draft, compile_one: Callable[..., object], progress: Progress | None) -> None:
    """The kernels of all candidates of a draft as of `measured`, for a machine that measures them and has no compilers."""
    trials = [t for group in _sites(d).values() for t in group]
    kernels = list(dict.fromkeys(step.kernel for t in trials for step in t.steps))
    for i, kernel in enumerate(kernels):
        if progress:
            progress("tuning", i, len(kernels))
        compile_one(kernel)
    if progress and kernels:
        progress("tuning", len(kernels), len(kernels))


def _sites(d: Draft) -> dict[str, list[Trial]]:
    assert d.choices.trials is not None
    for stage in STAGES:
        if stage.run is assemble_table:
            break
        stage.run(d)
    return {site: list(trials) for site, trials in groupby(d.choices.trials, key=lambda t: t.site)}


def _work(t: Trial) -> int:
    return sum(s.info.flops for s in t.steps)


@contextmanager
def _bench(d: Draft, trials: Sequence[Trial], device: Device, cache: bool) -> Iterator[_Bench]:
    """The steps of trials as a program of their own, in memory."""
    whole = d.lowering.program
    d.lowering.program = Program([step for t in trials for step in t.steps], whole.inputs, whole.outputs)
    assemble_table(d)
    names = tuple(KernelName(k.name, k.spec, k.symbol) for k in d.kernels)
    plan = CompiledPlan("cuda", 1, (), (), d.assembled, names, lambda: Report((), d.memory, (), ()))
    functions = Functions(device, d.kernels, cache)
    runner = Runner(plan, Bindings(plan), functions, d.constants, Workspaces(device))
    with runner.laid_out(_pattern()) as (context, stream):
        yield _Bench(trials, context, device, stream, d.lowering.card.l2)


class _Bench:
    """cold: bytes that empty the cache in which weights would stay from one run to the next."""

    def __init__(self, trials: Sequence[Trial], context: Context, device: Device, stream: Stream, cold: int) -> None:
        self._context, self._device, self._stream = context, device, stream
        ends = accumulate(len(t.steps) for t in trials)
        self._first = {t: end - len(t.steps) for t, end in zip(trials, ends)}
        self._cold = [DeviceMemory(device, cold) for _ in range(2)]

    def measure(self, trials: Sequence[Trial]) -> tuple[Times, int]:
        """Least seconds of each, and how many have no machine code."""
        launches = {t.name: found for t in trials if (found := self._launches(t)) is not None}
        best = dict.fromkeys(launches, math.inf)
        deadline = time.perf_counter() + SITE_SECONDS
        for i in range(ROUNDS):
            for name, steps in launches.items():
                best[name] = min(best[name], self._device.seconds(steps, self._stream, 1, self._evict))
            if i and time.perf_counter() > deadline:
                break
        return best, len(trials) - len(launches)

    def _evict(self) -> None:
        to, source = self._cold
        self._device.copy(to.address, source.address, to.nbytes, self._stream)

    def _launches(self, t: Trial) -> list[Launch] | None:
        """None where a kernel is neither kept nor to be compiled here."""
        try:
            return self._context.launches(self._first[t], len(t.steps))
        except UnsupportedError:
            return None


def _pattern() -> np.ndarray:
    """Numbers like those of a network, whether they are read as float32, as float16 or as bfloat16."""
    bits = np.random.default_rng(0).standard_normal(PATTERN, np.float32).view(np.uint32)
    return bits >> 16 | bits & 0xFFFF0000
