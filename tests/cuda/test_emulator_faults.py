"""Planted mistakes: the checking mode finds each, with the line and a thread, and has nothing to say of the correct twin."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import numpy as np
import pytest
import tensor_kernels
from emulated import ArrayKernel, array_of
from numba import cuda
from numba.cuda import types
from numba.cuda.types import float32, int32, int64

from graphc.backends.cuda.codegen.compiler import nvvm_ir
from graphc.backends.cuda.emulator import EmulatedKernel, KernelFault, Range, faults

ALL = 0xFFFFFFFF
RACE = {faults.READ_AFTER_WRITE, faults.WRITE_AFTER_WRITE, faults.WRITE_AFTER_READ}
F1 = array_of(float32)


# Each kernel has a mistake where `wrong` is true. The line that a fault is reported at ends with "found".
def reverse(wrong: bool) -> Callable:
    def kernel(a, o, n):
        s = cuda.shared.array(128, float32)
        i = int32(cuda.threadIdx.x)
        s[i] = a[i]  # found
        if not wrong:
            cuda.syncthreads()
        o[i] = s[127 - i]  # found

    return kernel


def write_after_read(wrong: bool) -> Callable:
    def kernel(a, o, n):
        s = cuda.shared.array(128, float32)
        i = int32(cuda.threadIdx.x)
        s[i] = a[i]
        cuda.syncthreads()
        v = s[127 - i]  # found
        if not wrong:
            cuda.syncthreads()
        s[i] = v  # found
        o[i] = v

    return kernel


def same_cell(wrong: bool) -> Callable:
    def kernel(a, o, n):
        s = cuda.shared.array(128, float32)
        i = int32(cuda.threadIdx.x)
        s[i >> 1 if wrong else i] = a[i]  # found
        cuda.syncthreads()
        o[i] = s[i]

    return kernel


def no_syncwarp(wrong: bool) -> Callable:
    def kernel(a, o, n):
        s = cuda.shared.array(128, float32)
        i = int32(cuda.threadIdx.x)
        s[i] = a[i]  # found
        if not wrong:
            cuda.syncwarp()
        o[i] = s[i ^ 1]  # found

    return kernel


def no_guard(wrong: bool) -> Callable:
    def kernel(a, o, n):
        i = int32(cuda.grid(1))
        if wrong or i < n:
            o[i] = a[i]  # found

    return kernel


def small_array(wrong: bool) -> Callable:
    size = 100 if wrong else 128

    def kernel(a, o, n):
        s = cuda.shared.array(size, float32)
        i = int32(cuda.threadIdx.x)
        s[i] = a[i]  # found
        cuda.syncthreads()
        o[i] = s[i]

    return kernel


def half_written(wrong: bool) -> Callable:
    def kernel(a, o, n):
        s = cuda.shared.array(128, float32)
        i = int32(cuda.threadIdx.x)
        if not wrong or i < 64:
            s[i] = a[i]
        cuda.syncthreads()
        o[i] = s[i]  # found

    return kernel


def two_barriers(wrong: bool) -> Callable:
    def kernel(a, o, n):
        i = int32(cuda.threadIdx.x)
        if wrong and i < 64:
            cuda.syncthreads()
            o[i] = a[i]
        else:
            cuda.syncthreads()  # found
            o[i] = a[i]

    return kernel


def early_return(wrong: bool) -> Callable:
    def kernel(a, o, n):
        i = int32(cuda.threadIdx.x)
        if wrong and i >= 100:
            return
        cuda.syncthreads()  # found
        o[i] = a[i]

    return kernel


def missing_lane(wrong: bool) -> Callable:
    def kernel(a, o, n):
        i = int32(cuda.threadIdx.x)
        v = a[i]
        if not wrong or i & 31 != 5:
            v = cuda.shfl_xor_sync(ALL, v, 1)
        o[i] = v

    return kernel


def wrong_mask(wrong: bool) -> Callable:
    def kernel(a, o, n):
        i = int32(cuda.threadIdx.x)
        mask = 0xFFFF if wrong or i & 31 < 16 else 0xFFFF0000
        o[i] = cuda.shfl_xor_sync(mask, a[i], 1)  # found

    return kernel


def lane_outside(wrong: bool) -> Callable:
    distance = 16 if wrong else 1

    def kernel(a, o, n):
        i = int32(cuda.threadIdx.x)
        o[i] = a[i]
        if i & 31 < 16:
            o[i] = cuda.shfl_xor_sync(0xFFFF, a[i], distance)  # found

    return kernel


def two_blocks(wrong: bool) -> Callable:
    def kernel(a, o, n):
        i = int32(cuda.threadIdx.x)
        first = int32(0 if wrong else cuda.blockIdx.x * 128)
        o[first + i] = a[i]  # found

    return kernel


@cuda.jit(device=True)
def element(a, i):
    return a[i]


def in_a_function(wrong: bool) -> Callable:
    def kernel(a, o, n):
        i = int32(cuda.threadIdx.x)
        o[i] = element(a, i + (1 if wrong else 0))  # found

    return kernel


def lost_update(wrong: bool) -> Callable:
    def kernel(a, o, n):
        i = int32(cuda.threadIdx.x)
        if wrong:
            o[0] += a[i]  # found
        else:
            cuda.atomic.add(o, 0, a[i])

    return kernel


CASES = [
    (reverse, 1, RACE | {faults.NOT_WRITTEN}),
    (write_after_read, 1, RACE),
    (same_cell, 1, {faults.WRITE_AFTER_WRITE}),
    (no_syncwarp, 1, RACE | {faults.NOT_WRITTEN}),
    (no_guard, 3, {faults.OUT_OF_BOUNDS}),
    (small_array, 1, {faults.OUT_OF_BOUNDS}),
    (half_written, 1, {faults.NOT_WRITTEN}),
    (two_barriers, 1, {faults.OTHER_BARRIER}),
    (early_return, 1, {faults.ENDED}),
    (missing_lane, 1, {faults.DEADLOCK, faults.DIVERGED}),
    (wrong_mask, 1, {faults.NOT_IN_MASK}),
    (lane_outside, 1, {faults.NO_SUCH_LANE}),
    (two_blocks, 2, {faults.WRITE_AFTER_WRITE}),
    (in_a_function, 1, {faults.OUT_OF_BOUNDS}),
    (lost_update, 1, RACE),
]


def run(make: Callable, wrong: bool, blocks: int, check: bool = True) -> None:
    a, o = np.arange(128, dtype=np.float32), np.zeros(256, np.float32)
    ArrayKernel(make(wrong), (F1, F1, int32), 128, check=check)(blocks, a, o, 128)


def found_lines(make: Callable) -> set[int]:
    lines, first = inspect.getsourcelines(make)
    return {first + i for i, line in enumerate(lines) if line.rstrip().endswith("# found")}


@pytest.mark.parametrize(("make", "blocks", "codes"), CASES, ids=[make.__name__ for make, *_ in CASES])
def test_a_mistake_is_found(make: Callable, blocks: int, codes: set[int]):
    run(make, False, blocks)
    with pytest.raises(KernelFault) as caught:
        run(make, True, blocks)
    fault = caught.value
    assert fault.code in codes
    lines = found_lines(make)
    assert not lines or fault.line in lines
    assert 0 <= fault.thread < 128 and 0 <= fault.block < blocks
    assert f"kernel:{fault.line}: {fault.reason} (thread {fault.thread}, block {fault.block})" == str(fault)


def test_constants_are_no_fault():
    table = np.arange(128, dtype=np.float32)[::-1].copy()

    def kernel(a, o):
        fixed = cuda.const.array_like(table)
        i = int32(cuda.threadIdx.x)
        o[i] = a[i] + fixed[i]

    for check in (False, True):
        a, o = np.arange(128, dtype=np.float32), np.zeros(128, np.float32)
        ArrayKernel(kernel, (F1, F1), 128, check=check)(1, a, o)
        assert (o == 127).all()


def test_threads_of_a_race_are_named():
    with pytest.raises(KernelFault, match=r"race: writes what thread 0 writes.*\(thread 1, block 0\)"):
        run(same_cell, True, 1)


def test_bounds_name_the_nearest_memory():
    with pytest.raises(KernelFault, match=r"out of bounds.*0 bytes behind the end of 'argument 0'.*thread 0, block 1"):
        run(no_guard, True, 3)
    with pytest.raises(KernelFault, match=r"0 bytes behind the end of shared memory \(400 bytes\)") as caught:
        run(small_array, True, 1)
    assert caught.value.thread == 100


RAW = """
define void @raw(i64 %a) {{
entry:
  %tid = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %t = zext i32 %tid to i64
  {body}
  ret void
}}
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare void @llvm.nvvm.barrier0()
declare void @llvm.trap()
"""


def raw(body: str, threads: int = 1, check: bool = False) -> EmulatedKernel:
    return EmulatedKernel([RAW.format(body=body)], "raw", threads, 0, "raw", check)


def memory_of(array: np.ndarray, writable: bool = True) -> Range:
    return Range(array.ctypes.data, array.ctypes.data + array.nbytes, array.itemsize, "array", writable)


STORE = (
    "%at = add i64 %a, {offset}\n %p = inttoptr i64 %at to ptr addrspace(1)\n store i32 7, ptr addrspace(1) %p, align 4"
)


def test_memory_that_may_only_be_read():
    array = np.zeros(4, np.int32)
    kernel = raw(STORE.format(offset=4), check=True)
    kernel.launch(1, array.ctypes.data, [memory_of(array)])
    assert array.tolist() == [0, 7, 0, 0]
    with pytest.raises(KernelFault, match="may only read: address 0x[0-9a-f]+, byte 4 of 'array'") as caught:
        kernel.launch(1, array.ctypes.data, [memory_of(array, writable=False)])
    assert caught.value.code == faults.READ_ONLY
    assert caught.value.address == array.ctypes.data + 4


@pytest.mark.parametrize(
    ("offset", "where"), [(-12, "12 bytes before 'array'"), (20, "4 bytes behind the end of 'array'")]
)
def test_distance_of_an_address_out_of_bounds(offset: int, where: str):
    array = np.zeros(4, np.int32)
    with pytest.raises(KernelFault, match=where):
        raw(STORE.format(offset=offset), check=True).launch(1, array.ctypes.data, [memory_of(array)])


def test_an_access_that_begins_inside_and_ends_outside():
    array = np.zeros(2, np.int32)
    store = STORE.format(offset=4).replace("store i32 7", "store i64 7")
    with pytest.raises(KernelFault, match="out of bounds"):
        raw(store, check=True).launch(1, array.ctypes.data, [memory_of(array)])


def test_misaligned_access():
    array = np.zeros(4, np.int32)
    with pytest.raises(KernelFault, match="misaligned access"):
        raw(STORE.format(offset=2), check=True).launch(1, array.ctypes.data, [memory_of(array)])


def test_division_by_zero():
    body = "%p = inttoptr i64 %a to ptr\n %d = load i64, ptr %p\n %q = sdiv i64 100, %d\n store i64 %q, ptr %p"
    word = np.array([7], np.int64)
    kernel = raw(body)
    kernel.launch(1, word.ctypes.data)
    assert word[0] == 14
    word[0] = 0
    with pytest.raises(KernelFault, match="divided by zero"):
        kernel.launch(1, word.ctypes.data)
    word[0] = -1
    lowest = raw(body.replace("100", str(-(1 << 63))))
    lowest.launch(1, word.ctypes.data)
    assert word[0] == -(1 << 63)


def test_trap():
    with pytest.raises(KernelFault, match="trap"):
        raw("call void @llvm.trap()").launch(1, 0)


def test_barriers_that_only_some_reach_end_in_plain_mode_too():
    body = """%c = icmp ult i64 %t, 32
  br i1 %c, label %some, label %other
some:
  call void @llvm.nvvm.barrier0()
  br label %other
other:
  %v = call i32 @llvm.nvvm.shfl.sync.i32(i32 -1, i32 0, i32 0, i32 0, i32 31)"""
    ir = RAW.format(body=body).replace(
        "declare void @llvm.trap()", "declare i32 @llvm.nvvm.shfl.sync.i32(i32, i32, i32, i32, i32)"
    )
    EmulatedKernel([ir], "raw", 64, 0, "raw").launch(1, 0)  # the hardware counts threads that have ended
    with pytest.raises(KernelFault) as caught:
        EmulatedKernel([ir], "raw", 64, 0, "raw", check=True).launch(1, 0)
    assert caught.value.code == faults.ENDED
    for make in (missing_lane, wrong_mask, lane_outside):
        with pytest.raises(KernelFault):
            run(make, True, 1, check=False)


def test_a_stack_that_overflows(monkeypatch: pytest.MonkeyPatch):
    """Local memory is counted; registers that are spilled are not."""

    def local(a):
        kept = cuda.local.array(600, int64)
        for i in range(600):
            kept[i] = a + i
        cuda.syncthreads()
        if kept[(a + cuda.threadIdx.x) % 600] == 5:
            cuda.syncthreads()

    code = nvvm_ir(local, types.void(int64))
    EmulatedKernel(code.modules, code.entry, 64, 0, "local").launch(1, 1 << 20)
    monkeypatch.setattr("graphc.backends.cuda.emulator.object_code.STACK", -128)  # as if it needed that much more
    kernel = EmulatedKernel(code.modules, code.entry, 64, 0, "local")
    with pytest.raises(KernelFault, match="local variables take more than its stack"):
        kernel.launch(1, 1 << 20)


def test_the_next_launch_is_not_affected():
    kernel = raw(
        "%c = icmp eq i64 %a, 1\n br i1 %c, label %bad, label %good\nbad:\n call void @llvm.trap()\n unreachable\ngood:"
    )
    for argument in (0, 1, 0, 1, 0):
        if argument:
            with pytest.raises(KernelFault):
                kernel.launch(3, argument)
        else:
            kernel.launch(3, argument)


# --- the pipeline of a product on tensor cores -------------------------------------------------------------------------
def tensor_product(check: bool, rows: int = 64, shared: int | None = None, **mistakes) -> float:
    made = tensor_kernels.make_product("f16", **mistakes)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((64, 192)).astype(np.float16) for _ in "ab")
    c = np.zeros((64, 64), np.float16)
    kernel = ArrayKernel(made.function, made.params, made.threads, made.shared if shared is None else shared, check)
    kernel(1, a[:rows].ravel(), b.ravel(), c.reshape(-1), 64, 64, 192)
    return float(np.abs(c - a.astype(float) @ b.T.astype(float)).max())


MISTAKES = {
    "waits for one group too few": ({"pending": 2}, RACE),
    "no barrier": ({"barrier": False}, RACE | {faults.NOT_WRITTEN}),
    "shared memory of one stage too few": ({"shared": 2 * 2 * 64 * 32 * 2}, {faults.OUT_OF_BOUNDS}),
    "an array that is too small": ({"rows": 60}, {faults.OUT_OF_BOUNDS}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_pipeline_is_found(mistake: str):
    planted, codes = MISTAKES[mistake]
    with pytest.raises(KernelFault) as caught:
        tensor_product(True, **planted)
    assert caught.value.code in codes
    first = inspect.getsourcelines(tensor_kernels.make_product)[1]
    assert caught.value.line > first


def test_a_missing_wait_gives_wrong_results():
    """What is copied arrives no earlier than it is waited for."""
    assert tensor_product(False) < 0.05
    assert not tensor_product(False, pending=2) < 0.05


def test_faults_are_sentences():
    assert {*faults.REASONS} == {*range(1, 21)}
    assert all(re.match(r"[a-z]", reason) for reason in faults.REASONS.values())
