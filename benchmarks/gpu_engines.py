"""What runs a case on a GPU (graphc, PyTorch), on one stream, with everything in the GPU's memory; and what times runs.

In the emulator the same code runs on the CPU, to be tested: times mean nothing there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np
from gpu_cases import Case

import graphc

EMULATED = "cuda:emulate"
WARMUP = 3
FEWEST, MOST = 3, 2000  # runs in one round
FEW = 20  # that no queue of the driver is too short for: then the host would wait for the GPU


class Engine(Protocol):
    """run: one inference, given to the stream. results: of the last."""

    def run(self) -> None: ...

    def results(self) -> list[np.ndarray]: ...


class Ours:
    """graphc: inputs and results are arrays of the device."""

    def __init__(
        self, case: Case, target: str, feeds: Mapping[str, np.ndarray], stream: int, tune: bool = False
    ) -> None:
        self.model = graphc.compile(case.source(), target=target, shapes=case.shapes, tune=tune, **case.options)
        self._feeds = {name: self.model.to_device(a) for name, a in feeds.items()}
        first = self.model.run(self._feeds)
        self._out = {name: self.model.to_device(np.zeros(a.shape, a.dtype)) for name, a in first.items()}
        self._stream = stream

    def run(self) -> None:
        self.model.run(self._feeds, out=self._out, stream=self._stream)

    def results(self) -> list[np.ndarray]:
        return [a.numpy() for a in self._out.values()]


class Torch:
    """PyTorch: eager, in a CUDA graph, cuDNN's algorithms measured; or by torch.compile, with all that it can tune."""

    def __init__(self, case: Case, feeds: Mapping[str, np.ndarray], stream: Any, compiled: bool = False) -> None:
        """stream: PyTorch's; None runs it on the CPU."""
        import torch
        from torch_peer import peer

        self._torch, self._stream = torch, stream
        there = "cuda" if stream is not None else "cpu"
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.precision == "tf32"
        module = peer(case.graph(), case.shapes).to(there)
        module = module.half() if case.precision == "float16" else module
        inputs = [torch.from_numpy(a).to(there) for a in feeds.values()]
        if case.images:
            module = module.to(memory_format=torch.channels_last)
            inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        if compiled:
            module = torch.compile(module, mode="max-autotune" if stream is not None else "default")
        self._call: Callable[[], Any] = lambda: module(*inputs)
        self._last: Any = None
        with self._current():
            for _ in range(WARMUP):
                self._last = self._call()
        if stream is not None and not compiled:
            self._capture()

    def _capture(self) -> None:
        graph, call = self._torch.cuda.CUDAGraph(), self._call
        self._torch.cuda.synchronize()
        with self._torch.inference_mode(), self._torch.cuda.graph(graph, stream=self._stream):
            held = call()

        def replay() -> Any:
            graph.replay()
            return held

        self._call = replay

    @contextmanager
    def _current(self) -> Iterator[None]:
        with self._torch.inference_mode():
            if self._stream is None:
                yield
            else:
                with self._torch.cuda.stream(self._stream):
                    yield

    def run(self) -> None:
        with self._current():
            self._last = self._call()

    def results(self) -> list[np.ndarray]:
        if self._stream is not None:
            self._stream.synchronize()
        return [y.cpu().numpy() for y in self._last]


# --- a place to run -----------------------------------------------------------------------------------------------------
class Place:
    """A device and a stream. torch: PyTorch's stream, None where PyTorch runs on the CPU."""

    def __init__(self, target: str) -> None:
        self.emulated = target == EMULATED
        self.torch: Any = None
        if self.emulated:
            self.name, self.stream = "the emulator", 0
            return
        from graphc.backends.cuda.runtime.gpu import gpu

        self.gpu = gpu(0)
        self.name = self.gpu.name
        torch = installed_torch()
        if torch is not None and torch.cuda.is_available():
            self.torch = torch.cuda.Stream()
            self.stream = self.torch.cuda_stream
        else:
            with self.gpu.current():
                self._own = self.gpu.stream()
            self.stream = self._own.handle

    def wait(self) -> None:
        if not self.emulated:
            self.gpu.stream_of(self.stream).wait()

    def seconds(self, run: Callable[[], None], count: int) -> tuple[float, float]:
        """Of one run of `count` one after the other: on the GPU, and of the host's time to give it to the stream."""
        if self.emulated:
            start = time.perf_counter()
            for _ in range(count):
                run()
            spent = (time.perf_counter() - start) / count
            return spent, spent
        host = 0.0

        def work() -> None:
            nonlocal host
            start, few = time.perf_counter(), min(count, FEW)
            for i in range(count):
                run()
                if i == few - 1:
                    host = (time.perf_counter() - start) / few

        self.wait()
        with self.gpu.current():
            (spent,) = self.gpu.seconds_of(work, self.gpu.stream_of(self.stream), 1)
        return spent / count, host

    def copy_rate(self, nbytes: int) -> float:
        """Bytes per second, read and written, of a copy in the device's memory."""
        if not self.emulated:
            from graphc.backends.cuda.roofline import copy_rate

            return copy_rate(self.gpu, nbytes)
        a = np.ones(nbytes, np.uint8)
        return 2 * nbytes / self.seconds(lambda: np.copyto(np.empty_like(a), a), WARMUP)[0]


def installed_torch() -> Any | None:
    try:
        import torch
    except ImportError:
        return None
    return torch


# --- times --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Times:
    """Medians of rounds, in seconds: of a run on the GPU; of the host's part of it. spread: of the rounds, largest over least."""

    seconds: float
    host: float
    spread: float


def interleaved(place: Place, engines: Mapping[str, Engine], budget: float, rounds: int) -> dict[str, Times]:
    """Engines in turn, `rounds` times, about `budget` seconds for each engine."""
    counts, found = {}, {name: [] for name in engines}
    for name, engine in engines.items():
        once, _ = place.seconds(engine.run, WARMUP)
        counts[name] = int(min(max(budget / rounds / max(once, 1e-7), FEWEST), MOST))
    for _ in range(rounds):
        for name, engine in engines.items():
            found[name].append(place.seconds(engine.run, counts[name]))
    return {
        name: Times(median(s for s, _ in times), median(h for _, h in times), max(times)[0] / min(times)[0])
        for name, times in found.items()
    }


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest, of the largest element; of the worst result. NaN where one has NaN."""
    found = []
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"results have shapes {a.shape} and {b.shape}")
        a, b = a.astype(np.float64), b.astype(np.float64)
        found.append(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)))
    return float(np.max(found))
