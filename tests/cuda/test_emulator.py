"""The emulator itself: object code that is kept, what it refuses, many blocks and threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numba import cuda
from numba.cuda import types
from numba.cuda.types import int64

from graphc.backends.cuda.codegen import compiler
from graphc.backends.cuda.codegen.compiler import nvvm_ir
from graphc.backends.cuda.emulator import EmulatedKernel, KernelFault, Range
from graphc.errors import UnsupportedError

ROOT = Path(__file__).resolve().parents[2]
ADD = """
define void @add(i64 %a) {
entry:
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %b = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %n = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %first = mul i32 %b, %n
  %i = add i32 %first, %t
  %wide = zext i32 %i to i64
  %p = inttoptr i64 %a to ptr addrspace(1)
  %q = getelementptr i32, ptr addrspace(1) %p, i64 %wide
  %v = load i32, ptr addrspace(1) %q, align 4
  %w = add i32 %v, 1
  store i32 %w, ptr addrspace(1) %q, align 4
  ret void
}
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
"""


def module(body: str, more: str = "") -> list[str]:
    return [f"define void @kernel(i64 %a) {{\n{body}\n  ret void\n}}\n{more}\n"]


def emulated(body: str, more: str = "", check: bool = False) -> EmulatedKernel:
    return EmulatedKernel(module(body, more), "kernel", 1, 0, "kernel", check)


@pytest.mark.parametrize("check", [False, True])
def test_object_code_can_be_kept(check: bool):
    made = EmulatedKernel([ADD], "add", 64, 0, "add", check)
    for kernel in (made, EmulatedKernel.from_code(made.code, 64, 0, "add")):
        x = np.zeros(192, np.int32)
        kernel.launch(3, x.ctypes.data, [Range(x.ctypes.data, x.ctypes.data + x.nbytes, 4, "x")])
        assert (x == 1).all()
        if check:
            with pytest.raises(KernelFault, match="behind the end of 'x'"):
                kernel.launch(4, x.ctypes.data, [Range(x.ctypes.data, x.ctypes.data + x.nbytes, 4, "x")])


def test_object_code_needs_no_compiler(tmp_path: Path):
    (tmp_path / "code").write_bytes(EmulatedKernel([ADD], "add", 64, 0, "add").code)
    program = f"""
import sys, numpy as np
from graphc.backends.cuda.emulator import EmulatedKernel
kernel = EmulatedKernel.from_code(open({str(tmp_path / "code")!r}, "rb").read(), 64, 0, "add")
x = np.zeros(64, np.int32)
kernel.launch(1, x.ctypes.data)
print(x.sum(), [name for name in ("numba", "numba_cuda", "numba.cuda") if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "64 []"


def test_other_bytes_are_refused():
    code = EmulatedKernel([ADD], "add", 64, 0, "add").code
    for wrong in (code.replace(b'"version": "', b'"version": "x'), b"{}\n", b"[]\n", b"", b"\x7fELF"):
        with pytest.raises(ValueError):
            EmulatedKernel.from_code(wrong, 64, 0, "add")


def test_importing_is_light():
    program = "import sys, graphc.backends.cuda.emulator\nprint([m for m in ('numba', 'llvmlite') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_blocks_share_workers():
    """Enough of them that other threads help."""

    def count(a):
        i = cuda.grid(1)
        total = int64(0)
        for k in range(2000):
            total = total * 31 + k
            cuda.syncthreads()
        words = cuda.local.array(1, int64)
        words[0] = total
        cuda.atomic.add(result(a), i, words[0])

    result = _array_at()
    code = nvvm_ir(count, types.void(int64))
    out = np.zeros(40 * 64, np.int64)
    EmulatedKernel(code.modules, code.entry, 64, 0, "count").launch(40, out.ctypes.data)
    total = 0
    for k in range(2000):
        total = (total * 31 + k) % (1 << 64)
    assert (out == np.array(total, np.uint64).view(np.int64)).all()


def _array_at():
    """int64 numbers at an address, as Numba has arrays."""
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    @intrinsic
    def array_at(typing, address):
        kind = types.Array(int64, 1, "C")

        def code(context, builder, signature, args):
            made = context.make_array(kind)(context, builder)
            word = ir.IntType(64)
            pointer = builder.inttoptr(args[0], word.as_pointer())
            made.data = pointer
            made.shape = builder.insert_value(ir.Constant(ir.ArrayType(word, 1), ir.Undefined), word(1 << 40), 0)
            made.strides = builder.insert_value(ir.Constant(ir.ArrayType(word, 1), ir.Undefined), word(8), 0)
            made.itemsize, made.nitems = word(8), word(1 << 40)
            return made._getvalue()

        return kind(address), code

    return array_at


def test_threads_of_python_launch_at_the_same_time():
    kernel = EmulatedKernel([ADD], "add", 128, 0, "add")
    arrays = [np.zeros(128, np.int32) for _ in range(4)]

    def launch(x: np.ndarray) -> None:
        for _ in range(200):
            kernel.launch(1, x.ctypes.data)

    threads = [threading.Thread(target=launch, args=(x,)) for x in arrays]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all((x == 200).all() for x in arrays)


def test_no_blocks():
    EmulatedKernel([ADD], "add", 128, 0, "add").launch(0, 0)


def test_several_parameters_are_words():
    body = "  %p = inttoptr i64 %a to ptr\n  %s = fadd float %x, 1.0\n  store float %s, ptr %p\n  ret void\n}\n"
    kernel = EmulatedKernel([f"define void @kernel(float %x, i64 %a) {{\n{body}"], "kernel", 1, 0, "kernel")
    out = np.zeros(1, np.float32)
    words = np.array([int(np.float32(2.5).view(np.int32)), out.ctypes.data])
    kernel.launch(1, words.ctypes.data)
    assert out[0] == 3.5


UNKNOWN = {
    "an intrinsic of NVVM": (
        "  call void @llvm.nvvm.mbarrier.inval(ptr null)",
        "declare void @llvm.nvvm.mbarrier.inval(ptr)",
        "llvm.nvvm.mbarrier.inval",
    ),
    "a register": (
        "  %x = call i32 @llvm.nvvm.read.ptx.sreg.envreg0()\n  %p = inttoptr i64 %a to ptr\n  store i32 %x, ptr %p",
        "declare i32 @llvm.nvvm.read.ptx.sreg.envreg0()",
        "register %envreg0",
    ),
    "a named barrier": (
        "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 1)",
        "declare void @llvm.nvvm.barrier.cta.sync.aligned.all(i32)",
        r"barrier.cta.sync.aligned.all\(i32 1\)",
    ),
    "PTX": ('  call void asm sideeffect "tcgen05.dealloc $0;", "r"(i32 1)', "", "tcgen05.dealloc"),
    "two instructions in one": (
        '  call void asm sideeffect "bar.sync 0; bar.sync 0;", ""()',
        "",
        "bar.sync 0; bar.sync 0;",
    ),
    "operands out of order": (
        '  %x = call i32 asm "cvt.rn.f16x2.f32 $0, $2, $1;", "=r,f,f"(float 1.0, float 2.0)',
        "",
        "cvt.rn.f16x2.f32",
    ),
    "libdevice": ("  %x = call float @__nv_j0f(float 1.0)", "declare float @__nv_j0f(float)", "__nv_j0f"),
    "a function": ("  call void @printf(i64 %a)", "declare void @printf(i64)", "'printf'"),
    "an indirect call": ("  %f = inttoptr i64 %a to ptr\n  call void %f()", "", r"call void %f\(\)"),
    "an instruction": ("  %x = va_arg ptr null, i32", "", "va_arg"),
    "an intrinsic that is none": ("  call void @llvm.nonsense()", "declare void @llvm.nonsense()", "llvm.nonsense"),
    "another processor's": ("  call void @llvm.amdgcn.s.barrier()", "declare void @llvm.amdgcn.s.barrier()", "amdgcn"),
    "recursion": (
        "  %x = call i64 @again(i64 %a)",
        "define i64 @again(i64 %n) noinline {\n  %c = call i64 @other(i64 %n)\n  %d = add i64 %c, 1\n  ret i64 %d\n}\n"
        "define i64 @other(i64 %n) noinline {\n  %p = inttoptr i64 %n to ptr\n  %m = load volatile i64, ptr %p\n"
        "  %z = icmp eq i64 %m, 0\n  br i1 %z, label %done, label %more\nmore:\n  %c = call i64 @again(i64 %m)\n"
        "  ret i64 %c\ndone:\n  ret i64 0\n}",
        "recursion: .*again.*other",
    ),
    "local memory of unknown size": (
        "  %p = alloca i8, i64 %a\n  store volatile i8 1, ptr %p",
        "",
        "not constant",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_unknown_is_named(case: str):
    body, more, match = UNKNOWN[case]
    with pytest.raises(UnsupportedError, match=match):
        emulated(body, more)


def test_narrow_stores_of_ptx_are_no_race():
    body = """
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %s = ptrtoint ptr addrspace(3) @s to i32
  %twice = shl i32 %t, 1
  %at = add i32 %s, %twice
  call void asm sideeffect "st.shared.b16 [$0], $1;", "r,h,~{memory}"(i32 %at, i16 5)
  call void @llvm.nvvm.barrier0()
  %v = call i16 asm sideeffect "ld.shared.b16 $0, [$1];", "=h,r,~{memory}"(i32 %at)
  %wide = zext i32 %twice to i64
  %out = add i64 %a, %wide
  %p = inttoptr i64 %out to ptr
  store i16 %v, ptr %p, align 2"""
    more = """
@s = internal addrspace(3) global [64 x i16] undef, align 4
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare void @llvm.nvvm.barrier0()"""
    x = np.zeros(64, np.int16)
    for check in (False, True):
        x[:] = 0
        kernel = EmulatedKernel(module(body, more), "kernel", 64, 0, "kernel", check)
        kernel.launch(1, x.ctypes.data, [Range(x.ctypes.data, x.ctypes.data + x.nbytes, 2, "x")])
        assert (x == 5).all()


def test_text_that_is_no_ir():
    with pytest.raises(UnsupportedError, match="can't read the kernel's LLVM IR"):
        EmulatedKernel(["nonsense"], "kernel", 1, 0, "kernel")
    with pytest.raises(UnsupportedError, match="does not define 'other'"):
        EmulatedKernel(module(""), "other", 1, 0, "kernel")


def test_too_much_of_a_block():
    with pytest.raises(ValueError, match="1025 threads"):
        EmulatedKernel([ADD], "add", 1025, 0, "add")
    with pytest.raises(UnsupportedError, match="bytes of shared memory"):
        EmulatedKernel([ADD], "add", 128, 228 << 10, "add")


def test_another_processor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(UnsupportedError, match="can't be emulated on aarch64"):
        EmulatedKernel([ADD], "add", 128, 0, "add")


def test_scalar_code_of_half_precision():
    """As graphc's own emitter writes it."""
    body = """
  %p = inttoptr i64 %a to ptr
  %half = bitcast ptr %p to ptr
  %h = load half, ptr %half, align 2
  %x = fpext half %h to float
  %m = call float @llvm.fabs.f32(float %x)
  %n = call float @llvm.fmuladd.f32(float %m, float 2.0, float 1.0)
  %f = call float @llvm.floor.f32(float %n)
  %nan = fcmp uno float %f, %f
  %safe = select i1 %nan, float 0.0, float %f
  %i = fptosi float %safe to i32
  %c = call i32 @llvm.ctpop.i32(i32 %i)
  %q = getelementptr i8, ptr %p, i64 4
  store i32 %i, ptr %q, align 4
  %r = getelementptr i8, ptr %p, i64 8
  store i32 %c, ptr %r, align 4
  %s = fptrunc float %n to half
  %t = getelementptr inbounds half, ptr %p, i64 1
  store half %s, ptr %t, align 2
  %bits = load i16, ptr %t, align 2
  %wide = zext i16 %bits to i32
  %u = getelementptr i8, ptr %p, i64 12
  store i32 %wide, ptr %u, align 4
  switch i32 %c, label %end [
    i32 1, label %one
    i32 3, label %three
  ]
one:
  br label %end
three:
  br label %end
end:
  %chosen = phi i32 [ 0, %0 ], [ 10, %one ], [ 30, %three ]
  %v = getelementptr i8, ptr %p, i64 16
  store i32 %chosen, ptr %v, align 4"""
    more = """
declare float @llvm.fabs.f32(float)
declare float @llvm.fmuladd.f32(float, float, float)
declare float @llvm.floor.f32(float)
declare i32 @llvm.ctpop.i32(i32)"""
    for check in (False, True):
        memory = np.zeros(5, np.int32)
        memory.view(np.float16)[0] = -3.25
        emulated(body, more, check).launch(
            1, memory.ctypes.data, [Range(memory.ctypes.data, memory.ctypes.data + 20, 1, "m")]
        )
        assert memory.view(np.float16)[1] == 7.5
        assert memory[1:].tolist() == [7, 3, np.float16(7.5).view(np.int16), 30]


@pytest.mark.parametrize("operation", ["memcpy", "memset"])
def test_bulk_copies_are_watched(operation: str):
    pointers = "  %p = inttoptr i64 %a to ptr\n  %q = getelementptr i8, ptr %p, i64 16\n"
    if operation == "memcpy":
        body = "  call void @llvm.memcpy.p0.p0.i64(ptr align 4 %q, ptr align 4 %p, i64 100, i1 false)"
        more = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"
    else:
        body = "  call void @llvm.memset.p0.i64(ptr align 4 %q, i8 3, i64 100, i1 false)"
        more = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"
    memory = np.arange(200, dtype=np.uint8)
    inside = Range(memory.ctypes.data, memory.ctypes.data + 200, 1, "m")
    emulated(pointers + body, more, check=True).launch(1, memory.ctypes.data, [inside])
    with pytest.raises(KernelFault, match="out of bounds.*'m'"):
        emulated(pointers + body, more, check=True).launch(
            1, memory.ctypes.data, [inside._replace(end=inside.first + 60)]
        )


def test_without_numba_cuda(monkeypatch: pytest.MonkeyPatch):
    versions = {"numba-cuda": "0.30.4"}
    monkeypatch.setattr(compiler, "version", lambda name: versions[name])
    monkeypatch.setattr("numpy.__version__", "2.5.0")
    for found, match in (
        ("0.30.4", "compiles nothing beside NumPy 2.5.0"),
        ("0.9.0", "0.30 or newer, and this is 0.9.0"),
    ):
        versions["numba-cuda"] = found
        compiler._numba_cuda.cache_clear()
        with pytest.raises(UnsupportedError, match=match) as caught:
            compiler.require_numba_cuda()
        assert "pip install" in str(caught.value)

    def missing(name: str) -> str:
        raise compiler.PackageNotFoundError(name)

    monkeypatch.setattr(compiler, "version", missing)
    compiler._numba_cuda.cache_clear()
    with pytest.raises(UnsupportedError, match="not installed"):
        compiler.require_numba_cuda()
    monkeypatch.undo()
    compiler._numba_cuda.cache_clear()
    compiler.require_numba_cuda()
