"""The linker: what LLVM makes of IR, in one shared object, does what it did alone."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from graphc.backends.cpu.shared_object import CantLink, link

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
llvm.initialize_native_asmparser()
if not llvm.get_default_triple().startswith("x86_64"):
    pytest.skip("the linker is for x86-64", allow_module_level=True)

ADD = "define i64 @{name}(i64 %a) {{ %r = add i64 %a, {n} ret i64 %r }}"
CALLS = """
@table = internal constant [4 x i64] [i64 10, i64 20, i64 30, i64 40], align 32
define internal i64 @inner(i64 %i) noinline {
  %p = getelementptr [4 x i64], ptr @table, i64 0, i64 %i
  %v = load volatile i64, ptr %p
  ret i64 %v
}
define i64 @calls(i64 %i) { %v = call i64 @inner(i64 %i) %r = add i64 %v, 1 ret i64 %r }
"""
MATH = """
declare double @erf(double)
declare double @exp(double)
define double @of_math(double %x) {
  %a = call double @erf(double %x) %b = call double @exp(double %x) %c = fmul double %b, 0x3FF8000000000000
  %r = fadd double %a, %c ret double %r
}
"""
STATE = """
@count = internal global i64 5
@where = internal global ptr @count
define i64 @state(i64 %a) {
  %p = load volatile ptr, ptr @where %v = load volatile i64, ptr %p
  %r = add i64 %v, %a store volatile i64 %r, ptr %p ret i64 %r
}
"""
JUMPS = """
define i64 @jumps(i64 %i) {
  switch i64 %i, label %other [i64 0, label %a i64 1, label %b i64 2, label %c i64 3, label %d i64 4, label %e]
a: ret i64 7
b: call void asm sideeffect "nop", ""() ret i64 11
c: call void asm sideeffect "nop; nop", ""() ret i64 13
d: call void asm sideeffect "nop; nop; nop", ""() ret i64 17
e: call void asm sideeffect "nop; nop; nop; nop", ""() ret i64 19
other: ret i64 -1
}
"""


def compiled(ir: str, model: str = "default", reloc: str = "pic") -> bytes:
    module = llvm.parse_assembly(ir)
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, reloc=reloc, codemodel=model)
    return machine.emit_object(module)


def load(tmp_path: Path, objects: dict[str, bytes]) -> ctypes.CDLL:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.so"
    path.write_bytes(link(objects))
    return ctypes.CDLL(str(path))


def function(library: ctypes.CDLL, name: str, kind: type = ctypes.c_int64):
    f = getattr(library, name)
    f.argtypes, f.restype = [kind], kind
    return f


def test_many_objects(tmp_path: Path):
    library = load(tmp_path, {f"add_{n}": compiled(ADD.format(name=f"add_{n}", n=n)) for n in range(100)})
    assert [function(library, f"add_{n}")(1) for n in range(100)] == list(range(1, 101))
    with pytest.raises(AttributeError):
        _ = library.add_100


def test_private_functions_and_constants(tmp_path: Path):
    other = CALLS.replace("i64 10", "i64 50").replace("@calls", "@others")
    library = load(tmp_path, {"calls": compiled(CALLS), "others": compiled(other)})
    assert [function(library, "calls")(i) for i in range(4)] == [11, 21, 31, 41]
    assert function(library, "others")(0) == 51
    with pytest.raises(AttributeError):
        _ = library.inner


def test_functions_of_libm(tmp_path: Path):
    library = load(tmp_path, {"of_math": compiled(MATH), "add": compiled(ADD.format(name="add", n=2))})
    for x in (-0.3, 0.0, 1.7):
        assert math.isclose(
            function(library, "of_math", ctypes.c_double)(x), math.erf(x) + 1.5 * math.exp(x), rel_tol=1e-14
        )


def test_data_and_pointers_to_it(tmp_path: Path):
    first, second = (load(tmp_path, {"state": compiled(STATE)}) for _ in range(2))
    assert [function(first, "state")(n) for n in (1, 2)] == [6, 8]
    assert function(second, "state")(10) == 15


def test_jump_tables(tmp_path: Path):
    library = load(tmp_path, {"jumps": compiled(JUMPS)})
    assert [function(library, "jumps")(i) for i in (0, 1, 2, 3, 4, 5, -1)] == [7, 11, 13, 17, 19, -1, -1]


def test_nothing_to_link(tmp_path: Path):
    load(tmp_path, {})


@pytest.mark.parametrize(
    "objects",
    [
        {"f": b""},
        {"f": b"not an object file at all, but longer than its header would be" * 3},
        {"g": compiled(ADD.format(name="f", n=1))},
        {"calls": compiled(CALLS, model="large", reloc="static")},
        {"f": compiled(ADD.format(name="f", n=1))[:200]},
    ],
    ids=["empty", "text", "another symbol", "absolute addresses", "truncated"],
)
def test_what_can_not_be_linked(objects: dict[str, bytes]):
    with pytest.raises(CantLink):
        link(objects)
