"""Blocks that run at once in the emulator, and hand each other tagged words: right ones, and planted mistakes."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
from emulated import ArrayKernel, array_of
from numba import cuda
from numba.cuda.types import float32, int32, int64

from graphc.backends.cuda.codegen.device import load
from graphc.backends.cuda.codegen.ptx import pause
from graphc.backends.cuda.codegen.tagged import PAIR, WORD, keep, publish, take
from graphc.backends.cuda.emulator import KernelFault, faults
from graphc.backends.cuda.recurrent.state_kernels import pointer_of

THREADS, BLOCKS, STEPS = 64, 4, 5
WORDS = 8  # of a slot: one for each block, and some that nobody writes
ADDRESS = int64


# In each step a block adds up what all blocks have, and hands on the sum and its number. Where a mistake is reported, the line
# ends with "found".
def relay(mistake: str) -> Callable:
    give, taken, kept, fetch = publish(np.dtype("float32")), take(1, 1, WORDS, WORDS), keep(1, 1), load("float32")
    slots = 1 if mistake == "one slot" else 2

    def kernel(words, out, blocks):
        numbers = cuda.shared.array(WORDS, float32)
        tile, got = pointer_of(numbers), pointer_of(cuda.local.array(PAIR, int32))
        t, b = int32(cuda.threadIdx.x), int32(cuda.blockIdx.x)
        value = float32(b)
        for step in range(STEPS):
            slot = words + (step % slots) * (WORDS * WORD)
            if t == 0 and not (mistake == "silent" and b == 2 and step == 3):
                give(slot + b * WORD, value, int32(step + 1))  # found: no wait
            if t < WORDS // PAIR:
                if mistake == "no wait":
                    numbers[2 * t] = fetch(slot + 2 * t * WORD)  # found: no wait
                    numbers[2 * t + 1] = fetch(slot + (2 * t + 1) * WORD)
                else:
                    while taken(got, slot + t * (PAIR * WORD), t, blocks, int32(step + 1)) == 0:
                        pause()  # found: silent, one slot, alone
                    kept(got, tile, t)
            cuda.syncthreads()
            value = float32(b)
            for i in range(blocks):
                value = float32(value + numbers[i])
            cuda.syncthreads()
        if t == 0:
            out[b if mistake != "outside" or b != 2 else BLOCKS] = value  # found: outside

    return kernel


PARAMS = (ADDRESS, array_of(float32), int32)


def launch(mistake: str, check: bool, together: bool = True) -> np.ndarray:
    words, out = np.full(2 * WORDS, -1, np.int64), np.zeros(BLOCKS, np.float32)
    kernel = ArrayKernel(relay(mistake), PARAMS, THREADS, check=check, together=together)
    kernel.memory(words)
    kernel(BLOCKS, words.ctypes.data, out, BLOCKS)
    return out


def expected() -> np.ndarray:
    values = np.arange(BLOCKS, dtype=np.float32)
    for _ in range(STEPS):
        values = np.arange(BLOCKS, dtype=np.float32) + values.sum()
    return values


@pytest.mark.parametrize("check", [False, True])
def test_blocks_hand_each_other_numbers(check: bool):
    np.testing.assert_array_equal(launch("", check), expected())


@pytest.mark.parametrize(
    "mistake, check, codes",
    [
        *(("silent", check, {faults.NOBODY}) for check in (False, True)),  # the others wait for ever
        *(("one slot", check, {faults.NOBODY}) for check in (False, True)),  # written again before all have read
        ("no wait", True, {faults.READ_AFTER_WRITE, faults.WRITE_AFTER_READ}),
        ("outside", True, {faults.OUT_OF_BOUNDS}),
    ],
)
def test_mistakes(mistake: str, check: bool, codes: set[int]):
    with pytest.raises(KernelFault) as found:
        launch(mistake, check)
    assert found.value.code in codes, found.value
    if check:
        lines, first = inspect.getsourcelines(relay)
        text = lines[found.value.line - first]
        assert "# found" in text and mistake in text, (found.value, text)


def test_who_waits_for_others_must_run_with_them():
    """One after another, they would wait for ever."""
    with pytest.raises(KernelFault, match="need not run at once") as found:
        launch("", False, together=False)
    assert found.value.code == faults.ALONE


def test_a_fault_leaves_the_emulator_usable():
    for _ in range(2):
        with pytest.raises(KernelFault):
            launch("silent", False)
        np.testing.assert_array_equal(launch("", True), expected())


def test_hundreds_of_blocks():
    """More than the machine has cores."""
    words, out = np.zeros(2 * WORDS, np.int64), np.zeros(300, np.float32)

    def kernel(words, out, blocks):
        b = int32(cuda.blockIdx.x)
        if cuda.threadIdx.x == 0:
            while cuda.atomic.add(words, 0, 0) != b:  # in turn, the last block last
                pause()
            cuda.atomic.add(words, 0, 1)
            out[b] = float32(b)

    ArrayKernel(kernel, (array_of(int64), array_of(float32), int32), 32, together=True)(300, words, out, 300)
    np.testing.assert_array_equal(out, np.arange(300))
    assert words[0] == 300
