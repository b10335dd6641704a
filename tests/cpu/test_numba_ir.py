"""The front end of drivers: the same types as plain Numba, and apart from what else a process does with Numba."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numba import njit
from numba.core import errors
from scripts import run_script

from graphc.backends.cpu import kernel
from graphc.backends.cpu.codegen.intrinsics import POINTER, STEP, i64, load_i64
from graphc.backends.cpu.codegen.numba_ir import driver_ir
from graphc.backends.cpu.codegen.toolchain import Toolchain
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.target import detect
from graphc.lower.kernel import Kernel


@njit(error_model="numpy")
def _clamped(x, low, high):
    return max(low, min(x, high))


@pytest.fixture(params=[True, False], ids=["constant", "not"])
def clamp(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A driver that a constant of its maker specialises. Block: x, low, high, result."""
    halve = request.param

    class Clamp(Kernel, name=f"clamp_{halve}"):
        """A kernel of this test."""

    @driver(Clamp)
    def make(target):
        def clamp(a, tid, nth):
            y = _clamped(a[0], a[1], a[2])
            if halve:  # decided when compiling: y would be a float64 otherwise
                y = y // 2
            else:
                y = y / 1
            a[3] = y
            first, end = piece(a, 10, nth, 0)
            a[4] = end - first

        return clamp, STEP

    yield Clamp()
    del kernel._GENERATORS[Clamp.name]


def run(tools: Toolchain, kernel: Kernel, *block: int) -> list[int]:
    numbers = np.array([*block, 0, 0], np.int64)
    function = tools.function(kernel, None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    function(numbers.ctypes.data, 0, 1)
    return numbers[-2:].tolist()


def test_helpers_constants_and_whole_numbers(clamp: Kernel):
    """An int64 beyond float64's 53 bits comes back whole only if the dead branch had no part in its type."""
    large = 2**62 + 3
    half = clamp.name == "clamp_True"
    expected = large // 2 if half else int(float(large))
    assert run(Toolchain(detect(None), cache=False), clamp, large, -5, 2**63 - 1) == [expected, 10]


def test_helpers_that_plain_numba_compiles_too():
    """Both know `min`, `max` and the intrinsics by the same objects; neither takes the other's code."""

    def own(x):
        return driver_ir(lambda a, tid, nth: max(a[0], x) + load_i64(a[1]), i64(POINTER, i64, i64))

    modules, symbol = own(3)
    assert symbol in modules[0]
    clamp = njit(i64(i64, i64, i64))(
        lambda x, low, high: _clamped(x, low, high) + max(x, 0) + (load_i64(x) if x < 0 else 0)
    )
    assert clamp(7, 0, 5) == 12
    again, _ = own(4)
    assert len(modules) == len(again)
    assert njit(i64(i64))(lambda x: max(x, 2))(1) == 2


def test_what_drivers_do_not_use_is_refused():
    with pytest.raises(errors.NumbaError):
        driver_ir(lambda a, tid, nth: [a[0]] + [a[1]], i64(POINTER, i64, i64))


def test_a_process_that_uses_numba_first():
    program = """
import numpy as np
from numba import njit
from graphc.graph import Builder
import graphc

total = njit(lambda x: max(x.sum(), min(len(x), 3)))
assert total(np.arange(4.0)) == 6
b = Builder("net")
x = b.input("x", np.float32, (2, 8))
model = graphc.compile(b.build({"y": b.add("MatMul", x, b.constant(np.eye(8), np.float32))}), cache=False)
print(model(np.ones((2, 8), np.float32)).sum(), total(np.arange(5)), njit(lambda a, b: max(a, b))(1, 2))
"""
    assert run_script(program).split() == ["16.0", "10", "2"]


def test_a_generator_takes_the_fields_of_its_kernel():
    @dataclass(frozen=True, eq=False)
    class Scale(Kernel, name="scale"):
        factor: int
        dtype: str

    for make in (lambda target, dtype, factor: None, lambda target, factor: None):
        with pytest.raises(TypeError, match=r"takes \['.*'\], but Scale has \['factor', 'dtype'\]"):
            driver(Scale)(make)
    assert Scale.name not in kernel._GENERATORS
