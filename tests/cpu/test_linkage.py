"""The linker: what LLVM makes of IR does in a shared object, and in this process, what it did alone."""

from __future__ import annotations

import base64
import ctypes
import math
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import pytest
from scripts import run_script

from graphc.backends.cpu.runtime import code_memory
from graphc.backends.cpu.runtime.code_memory import CodeMemory
from graphc.backends.cpu.runtime.object_file import CantLink
from graphc.backends.cpu.runtime.shared_object import link

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
BIG = """
@zeros = internal constant [{n} x i64] zeroinitializer, align 32
define i64 @big(i64 %i) {{
  %p = getelementptr [{n} x i64], ptr @zeros, i64 0, i64 %i
  %v = load volatile i64, ptr %p
  ret i64 %v
}}
"""
# loads the same object file again and again, with blocks of memory between; what LLVM's loader can't do
LARGE_BLOCKS = """
import base64, ctypes, mmap, sys
from graphc.backends.cpu.runtime.code_memory import CodeMemory

code, memory, blocks = base64.b64decode(sys.argv[1]), CodeMemory(), []
def mappings():
    with open("/proc/self/maps") as f:
        return sum(1 for _ in f)
memory.load({"calls": code})
before = mappings()
for k in range(1000):
    if k % 4 == 0:
        blocks.append(mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0))
    at = memory.load({"calls": code})["calls"]
    assert [ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(at)(i) for i in range(4)] == [11, 21, 31, 41]
assert mappings() - before < len(blocks) + 20, "Linux allows a process 65,530"
print("ok")
"""


def compiled(ir: str, model: str = "default", reloc: str = "pic") -> bytes:
    module = llvm.parse_assembly(ir)
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, reloc=reloc, codemodel=model)
    return machine.emit_object(module)


Library = Callable[..., Callable]
Load = Callable[[dict[str, bytes]], Library]


@pytest.fixture(params=["a shared object", "this process"])
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Load:
    """Load object files; gives what finds a function by its name and type."""
    memory = CodeMemory()

    def shared(objects: dict[str, bytes]) -> Library:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.so"
        path.write_bytes(link(objects))
        library = ctypes.CDLL(str(path))
        return lambda name, kind=ctypes.c_int64: ctypes.CFUNCTYPE(kind, kind)((name, library))

    def here(objects: dict[str, bytes]) -> Library:
        addresses = memory.load(objects)
        return lambda name, kind=ctypes.c_int64: ctypes.CFUNCTYPE(kind, kind)(addresses[name])

    return shared if request.param == "a shared object" else here


def test_many_objects(load: Load):
    library = load({f"add_{n}": compiled(ADD.format(name=f"add_{n}", n=n)) for n in range(100)})
    assert [library(f"add_{n}")(1) for n in range(100)] == list(range(1, 101))
    with pytest.raises((AttributeError, KeyError)):
        library("add_100")


def test_private_functions_and_constants(load: Load):
    other = CALLS.replace("i64 10", "i64 50").replace("@calls", "@others")
    library = load({"calls": compiled(CALLS), "others": compiled(other)})
    assert [library("calls")(i) for i in range(4)] == [11, 21, 31, 41]
    assert library("others")(0) == 51
    with pytest.raises((AttributeError, KeyError)):
        library("inner")


def test_functions_of_libm(load: Load):
    library = load({"of_math": compiled(MATH), "add": compiled(ADD.format(name="add", n=2))})
    for x in (-0.3, 0.0, 1.7):
        assert math.isclose(library("of_math", ctypes.c_double)(x), math.erf(x) + 1.5 * math.exp(x), rel_tol=1e-14)


def test_data_and_pointers_to_it(load: Load):
    first, second = (load({"state": compiled(STATE)}) for _ in range(2))
    assert [first("state")(n) for n in (1, 2)] == [6, 8]
    assert second("state")(10) == 15


def test_jump_tables(load: Load):
    library = load({"jumps": compiled(JUMPS)})
    assert [library("jumps")(i) for i in (0, 1, 2, 3, 4, 5, -1)] == [7, 11, 13, 17, 19, -1, -1]


def test_nothing_to_link(load: Load):
    load({})


def test_one_load_after_another(load: Load):
    """Each begins on pages of its own: what was loaded before runs on."""
    libraries = [load({f"of_math_{n}": compiled(MATH.replace("of_math", f"of_math_{n}"))}) for n in range(20)]
    for n, library in enumerate(libraries):
        assert math.isclose(library(f"of_math_{n}", ctypes.c_double)(0.5), math.erf(0.5) + 1.5 * math.exp(0.5))


def test_more_code_than_a_region_holds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(code_memory, "REGION", 1 << 16)
    memory, big = CodeMemory(), BIG.format(n=40_000)
    addresses = memory.load({"add": compiled(ADD.format(name="add", n=1))})
    addresses |= memory.load({"big": compiled(big)})
    addresses |= memory.load({"more": compiled(ADD.format(name="more", n=7))})
    call = {name: ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(at) for name, at in addresses.items()}
    assert (call["add"](1), call["big"](39_999), call["more"](1)) == (2, 0, 8)


def test_code_between_large_blocks_of_memory():
    """Kernels are loaded while arenas and weights come: the address space between two free pages may be terabytes."""
    assert run_script(LARGE_BLOCKS, base64.b64encode(compiled(CALLS)).decode()).split()[0] == "ok"


def test_a_function_that_the_process_lacks():
    objects = {"of_math": compiled(MATH.replace("@erf", "@no_such_function"))}
    with pytest.raises(CantLink, match="no_such_function"):
        CodeMemory().load(objects)


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
    for use in (link, CodeMemory().load):
        with pytest.raises(CantLink):
            use(objects)
