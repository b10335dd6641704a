"""Whatever callers do, in whatever order work happens: results are those of the CPU, nothing is left, nothing is refused."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from driver_double import State, double
from driver_double.work import ORDERS
from foreign import Dlpack, Interface, read
from nets import weights

import graphc
from graphc.backends.cuda.runtime.arrays import DeviceArray
from graphc.backends.cuda.runtime.gpu import gpu
from graphc.errors import InputError
from graphc.graph import Builder, Graph

WIDTH, STEPS = 6, 40


def layers() -> Graph:
    b = Builder("layers")
    x = b.input("x", np.float32, ("n", WIDTH))
    y = b.add("Tanh", b.add("Gemm", x, weights(b, WIDTH, WIDTH)))
    return b.build({"y": b.add("Tanh", b.add("Gemm", y, weights(b, WIDTH, WIDTH))), "between": y})


def with_host_node() -> Graph:
    b = Builder("host")
    x = b.input("x", np.float32, ("n", WIDTH))
    square = b.add("MatMul", b.add("Transpose", x, perm=[1, 0]), x)
    return b.build({"y": b.add("Tanh", b.add("Add", x, b.add("Det", b.add("Tanh", square))))})


def picked() -> Graph:
    """Rows by position; of positions out of range an error."""
    b = Builder("picked")
    x, at = b.input("x", np.float32, ("n", WIDTH)), b.input("at", np.int64, ("k",))
    return b.build({"y": b.add("Neg", b.add("Gather", x, at))})


class Caller:
    """One who has models, arrays of several kinds and streams, and does with them what chance says."""

    def __init__(self, d: State, seed: int) -> None:
        self.d, self.chance, self.numbers, self.gpu = d, random.Random(seed), np.random.default_rng(seed), gpu(0)
        self.pairs = [
            (graphc.compile(make(), target="cuda", host=True), graphc.compile(make()))
            for make in (layers, with_host_node, picked)
        ]
        self.streams = [self.gpu.stream_of(n) for n in (1, 2)]
        self.held: list[tuple[DeviceArray, np.ndarray]] = []  # results, and what they are to be
        self.copies: list[tuple[Any, np.ndarray, np.ndarray]] = []  # a stream, what it reads to, and what that is to be

    def stream(self) -> Any:
        if len(self.streams) < 4 or self.chance.random() < 0.1:
            with self.gpu.current():
                self.streams.append(self.gpu.stream())
        return self.chance.choice(self.streams)

    def array(self) -> tuple[Any, np.ndarray]:
        if self.held and self.chance.random() < 0.3:
            return self.chance.choice(self.held)
        a = self.numbers.uniform(-1, 1, (self.chance.choice([1, 2, 5]), WIDTH)).astype(np.float32)
        kind = self.chance.choice([None, Dlpack, Interface])
        return (a.copy() if kind is None else kind(self.gpu, a, self.stream(), self.chance.choice([0, 0, 4]))), a

    def run(self) -> None:
        model, other = self.chance.choice(self.pairs)
        x, a = self.array()
        feeds, values = {"x": x}, {"x": a}
        if len(model.inputs) == 2:
            at = self.numbers.integers(0, len(a) + (self.chance.random() < 0.2), 3)
            feeds["at"] = Dlpack(self.gpu, at, self.stream()) if self.chance.random() < 0.5 else at
            values["at"] = at
        stream = self.chance.choice([None, self.stream()])
        if "at" in values and values["at"].max() == len(a):
            with pytest.raises(InputError, match="out of range|range"):
                model.run(feeds, stream=None if stream is None else stream.handle)
            return
        want = other.run(values)
        out = {}
        if self.chance.random() < 0.3:
            y = want["y"]
            to = self.chance.choice([Dlpack, Interface])
            out["y"] = to(self.gpu, 0 * y, self.stream(), self.chance.choice([0, 4])) if stream is None else y * 0
        got = model.run(feeds, out=out or None, stream=None if stream is None else stream.handle)
        if isinstance(x, (Dlpack, Interface)) and (stream is None) == (x.stream.handle == 1) and x.stream is stream:
            x.write(0 * a)  # its own stream is that of the run
        for name, y in got.items():
            if isinstance(y, (Dlpack, Interface)):  # the caller's own
                np.testing.assert_allclose(y.numpy(), want[name], atol=1e-5)
            elif isinstance(y, DeviceArray):
                self.held.append((y, want[name]))
            else:
                np.testing.assert_allclose(y, want[name], atol=1e-5)

    def read(self) -> None:
        if self.held:
            array, want = self.chance.choice(self.held)
            if self.chance.random() < 0.5:
                np.testing.assert_allclose(array.numpy(), want, atol=1e-5)
            elif hasattr(array, "__dlpack__"):
                stream = self.stream()
                self.copies.append((stream, read(self.gpu, array, stream), want))

    def drop(self) -> None:
        self.chance.shuffle(self.held)
        del self.held[: self.chance.randrange(3)]

    def settle(self) -> None:
        """What was read on streams; one of them goes."""
        for stream, found, want in self.copies:
            stream.wait()
            np.testing.assert_allclose(found, want, atol=1e-5)
        self.copies.clear()
        if len(self.streams) > 2:
            gone = self.streams.pop(self.chance.randrange(2, len(self.streams)))
            gone.wait()

    def end(self) -> None:
        self.settle()
        for array, want in self.held:
            np.testing.assert_allclose(array.numpy(), want, atol=1e-5)


@pytest.mark.parametrize("order", [*ORDERS, *(f"random {n}" for n in range(4))])
@pytest.mark.parametrize("seed", range(4))
def test_what_callers_do(order: str, seed: int):
    with double(order=order) as d:
        caller = Caller(d, seed)
        for _ in range(STEPS):
            caller.chance.choice([caller.run, caller.run, caller.run, caller.read, caller.drop, caller.settle])()
        caller.end()
        del caller
