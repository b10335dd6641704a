"""The LLVM IR that numba-cuda hands to libNVVM, rewritten for the host, line by line.

Every function gets a first parameter, the record of the fiber that runs it. What only a GPU has becomes calls of small helpers
(helpers.py), most of which call the runtime. An instruction, an intrinsic or a function that nothing here knows is an error
that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from graphc.backends.cuda.emulator import libdevice, nvvm, ptx
from graphc.backends.cuda.emulator.batching import ASSEMBLY, CALL, batched
from graphc.backends.cuda.emulator.faults import DIVIDED_BY_ZERO, TRAP
from graphc.backends.cuda.emulator.helpers import Body, Use, fault, program_definition
from graphc.backends.cuda.emulator.ir_text import (
    NAME,
    SourceLines,
    bare,
    return_type,
    size_of,
    split,
    suffix_of,
    type_of,
)
from graphc.backends.cuda.emulator.linking import SHARED_ADDRESS, Linked
from graphc.backends.cuda.emulator.records import B_ARGUMENT, B_SHARED, F_BLOCK, F_SERVICES, SERVICES, WORD
from graphc.backends.cuda.emulator.watching import FIBER, Watch
from graphc.errors import UnsupportedError

ENTRY = "graphc_emulated_kernel"  # what the object code exports: a void function of a fiber's record
_INSTRUCTIONS = """
    ret br switch unreachable fneg add fadd sub fsub mul fmul udiv sdiv fdiv urem srem frem shl lshr ashr and or xor
    extractelement insertelement shufflevector extractvalue insertvalue alloca load store fence cmpxchg atomicrmw getelementptr
    trunc zext sext fptrunc fpext fptoui fptosi uitofp sitofp ptrtoint inttoptr bitcast addrspacecast icmp fcmp phi select
    freeze call tail musttail notail
"""
INSTRUCTIONS = frozenset(_INSTRUCTIONS.split())
_CASE = re.compile(r"    i\d+ -?\d+, label |  \]")  # of a switch, and its end
_OPCODE = re.compile(r"^\s+(?:%\S+ = )?(\w+)")
_DEFINE = re.compile(rf"^define (.*?)@({NAME})\((.*)\)(.*)$")
_DECLARE = re.compile(rf"^declare (.*?)@({NAME})\((.*)\)")
_CALLED = re.compile(rf"(.*?) @({NAME})\((.*)\)(?: #\d+)?$")
_ROUNDS = re.compile(r"= (fadd|fsub|fmul) (?=float|double|half|<)")
_DIVISION = re.compile(r"^(\s+%\S+ = )([us](?:div|rem))(?: exact)? (i\d+) (\S+), (\S+)$")
_TO_INTEGER = re.compile(r"^(\s+%\S+ = )fpto([us])i (float|double) (\S+) to (i32|i64)$")
# intrinsics of other processors, which would end the process; LLVM's own either have code on the host or are found as imports
_OTHERS = re.compile(
    r"llvm\.(?:aarch64|amdgcn|arm|bpf|dx|hexagon|loongarch|mips|ppc|r600|riscv|s390|spv|ve|wasm|x86|xcore)\."
)
_DROPPED = ("target ", "source_filename", "@llvm.used", "@llvm.compiler.used", "!", "; ModuleID")
_KEPT_ATTRIBUTES = {"alwaysinline", "noinline", "nounwind", "convergent"}
# functions of cuda_fp16.h that numba-cuda declares: operators of half
_HALF_OPERATORS = {"ml": "fmul", "pl": "fadd", "mi": "fsub", "dv": "fdiv"}
_HALF = re.compile(r"_Z(\w\w)RK6__halfS1__nbst")


class Retargeted(NamedTuple):
    """text: of a module for the host, which defines ENTRY; grain: see Watch."""

    text: str
    grain: int


def retarget(linked: Linked, entry: str, check: bool) -> Retargeted:
    """check: with calls of the checker. Raises UnsupportedError."""
    return _Rewriter(linked, entry, check).module()


class _Rewriter:
    def __init__(self, linked: Linked, entry: str, check: bool) -> None:
        self._text, self._places = linked.text.splitlines(), linked.places
        self._lines = SourceLines(linked.text)
        self._watch = Watch() if check else None
        self._helpers: dict[tuple[str, str, tuple[str, ...]], tuple[str, str]] = {}  # -> name, definition
        self._declared: dict[str, str] = {}  # functions by name -> their declarations
        self._defined = {m[2] for line in self._text if (m := _DEFINE.match(line))}
        self._params: list[str] | None = None
        self._entry = next((d for d in self._defined if d.strip('"') == entry), None)
        if self._entry is None:
            raise UnsupportedError(f"the kernel's LLVM IR does not define '{entry}'")

    def module(self) -> Retargeted:
        body = [new for line in batched(self._text, self._lines) for new in self._rewritten(line)]
        body += [self._entry_definition(), *(text for _, text in self._helpers.values())]
        body += self._library()
        text = "\n".join([*_SUPPORT, *body])
        programs = sorted(set(re.findall(r"@emu\.program\.[\d.]*\d", text)))
        parts = [*map(program_definition, programs), *self._missing(text), text]
        return Retargeted("\n".join(parts) + "\n", self._watch.grain if self._watch else 0)

    # --- lines -----------------------------------------------------------------------------------------------------------
    def _rewritten(self, line: str) -> list[str]:
        if not line.startswith(" "):
            return self._top(line)
        if _CASE.match(line):
            return [bare(line)]
        source_line = self._lines.of(line)
        line = _generic(bare(line))
        opcode = _OPCODE.match(line)
        if opcode is None or opcode[1] not in INSTRUCTIONS:
            raise UnsupportedError(f"the emulator does not know this instruction: {line.strip()}")
        before = self._watch.before(line, source_line) if self._watch else []
        if opcode[1] in ("load", "store") and " atomic " not in line:
            line = re.sub(r", align \d+$", ", align 1", line)  # what a GPU calls misaligned must not end the process
        elif "call " in line:
            line = self._call(line, source_line)
        elif m := _DIVISION.match(line):
            line = self._division(line, m, source_line)
        elif m := _TO_INTEGER.match(line):
            line = self._to_integer(m)
        return [*before, _ROUNDS.sub(r"= \1 contract ", line)]  # libNVVM fuses multiplications and additions

    def _top(self, line: str) -> list[str]:
        """A line that is no instruction."""
        if line.startswith(_DROPPED) or re.match(r"@.* addrspace\(3\) ", line):
            return []
        if line.startswith("attributes "):
            head, _, rest = line.partition("{")
            kept = [word for word in re.sub(r'"[^"]*"(?:="[^"]*")?', "", rest).split() if word in _KEPT_ATTRIBUTES]
            return [f"{head}{{ {' '.join(kept)} }}"]
        line = _generic(bare(line))
        if m := _DEFINE.match(line):
            if self._watch:
                self._watch.begin_function()
            params = split(m[3])
            if m[2] == self._entry:
                self._params = [type_of(p) for p in params]
            head = re.sub(r"\b(?:ptx_kernel|ptx_device|dso_local|local_unnamed_addr) ", "", m[1])
            return [f"define {head}@{m[2]}({', '.join([f'ptr {FIBER}', *params])}){m[4]}"]
        if m := _DECLARE.match(line):
            self._declared[m[2]] = line
            return []
        return [line]

    def _call(self, line: str, source_line: int) -> str:
        m = CALL.match(line)
        if m is None:
            raise UnsupportedError(f"the emulator does not know this call: {line.strip()}")
        result, rest = m[1], m[3]
        if a := ASSEMBLY.match(rest):
            if self._watch:
                self._watch.assembly(a[2])
            return self._helper(result, a[1], split(a[3]), f"asm {a[2]}", lambda: ptx.body_of(a[2]), source_line)
        c = _CALLED.match(rest)
        if c is None:
            raise UnsupportedError(f"the emulator does not know this call: {line.strip()}")
        name, operands = c[2].strip('"'), split(c[3])
        if name.startswith(nvvm.PREFIX):
            short = name.removeprefix(nvvm.PREFIX)
            key = name if not short.startswith("barrier") else f"{name}({c[3]})"
            return self._helper(result, c[1], operands, key, lambda: nvvm.body_of(short, operands), source_line)
        if name.startswith(SHARED_ADDRESS):
            return f"{result}call ptr @emu.shared(ptr {FIBER}, i64 {self._place_of(name)})"
        if name in ("llvm.trap", "llvm.debugtrap"):
            return self._helper(result, "void", [], name, lambda: fault(TRAP), source_line)
        if c[2] in self._defined:
            given = f", {c[3]}" if c[3] else ""
            return line.replace(f"@{c[2]}({c[3]})", f"@{c[2]}(ptr {FIBER}{given})", 1)
        known = name.startswith(("llvm.", libdevice.PREFIX, "emu.")) or _HALF.fullmatch(name)
        if not known or _OTHERS.match(name):
            raise UnsupportedError(
                f"the emulator does not know the function '{name}', which the kernel does not define"
            )
        return line

    def _place_of(self, name: str) -> int:
        array = name.removeprefix(SHARED_ADDRESS)
        return self._places[array if array in self._places else f'"{array}"']

    def _division(self, line: str, m: re.Match[str], source_line: int) -> str:
        """On the host, a division by zero, or one that overflows, would end the process."""
        result, operation, kind, x, y = m.groups()
        if re.fullmatch(r"-?\d+", y) and y not in ("0", "-1"):
            return line
        return self._helper(
            result, kind, [f"{kind} {x}", f"{kind} {y}"], operation, lambda: _divide(operation), source_line
        )

    def _to_integer(self, m: re.Match[str]) -> str:
        """A GPU gives the nearest number for one that is out of range."""
        result, sign, source, value, kind = m.groups()
        return self._helper(result, kind, [f"{source} {value}"], f"fpto{sign}i", lambda: _saturate(sign), 0)

    def _helper(
        self, result: str, returns: str, operands: Sequence[str], key: str, make: Callable[[], Body], source_line: int
    ) -> str:
        """A call of the helper for a key, which is made where there is none for such operands."""
        returns, kinds = return_type(returns), tuple(map(type_of, operands))
        if (key, returns, kinds) not in self._helpers:
            name = f"emu.helper.{len(self._helpers)}"
            params = "".join(f", {kind} %a{i}" for i, kind in enumerate(kinds))
            body = "\n".join(f"  {line}" for line in make()(Use(returns, kinds, self._watch is not None)))
            head = f"define internal {returns} @{name}(ptr {FIBER}, i64 %line{params}) alwaysinline"
            self._helpers[key, returns, kinds] = name, f"{head} {{\n{body}\n}}"
        name, _ = self._helpers[key, returns, kinds]
        given = "".join(f", {operand}" for operand in operands)
        return f"{result}call {returns} @{name}(ptr {FIBER}, i64 {source_line}{given})"

    # --- the rest of the module ------------------------------------------------------------------------------------------
    def _entry_definition(self) -> str:
        """Calls the kernel: its one int64 is the launch's argument, or several parameters are words at that address."""
        assert self._params is not None
        body = [*_BLOCK, f"%p = getelementptr i8, ptr %block, i64 {B_ARGUMENT}", "%argument = load i64, ptr %p"]
        values = ["i64 %argument"]
        if self._params != ["i64"]:
            body.append("%words = inttoptr i64 %argument to ptr")
            values = []
            for i, kind in enumerate(self._params):
                body += [f"%p{i} = getelementptr i8, ptr %words, i64 {WORD * i}", f"%v{i} = load {kind}, ptr %p{i}"]
                values.append(f"{kind} %v{i}")
        body.append(f"call void @{self._entry}({', '.join([f'ptr {FIBER}', *values])})")
        body += [f"call void @emu.leave(ptr {FIBER})", "unreachable"]
        return _function(f"define void @{ENTRY}(ptr {FIBER})", body)

    def _library(self) -> list[str]:
        """Definitions of what the kernel declares: libdevice, operators of half."""
        found = []
        for quoted, line in self._declared.items():
            name, m = quoted.strip('"'), _DECLARE.match(line)
            assert m is not None
            returns, kinds = return_type(m[1]), [type_of(p) for p in split(m[3])]
            if name.startswith(libdevice.PREFIX):
                found.append(libdevice.definition(name.removeprefix(libdevice.PREFIX), returns, kinds))
            elif h := _HALF.fullmatch(name):
                if h[1] not in _HALF_OPERATORS:
                    raise UnsupportedError(f"the emulator does not know the function '{name}'")
                body = ["%x = load half, ptr %a", "%y = load half, ptr %b", f"%z = {_HALF_OPERATORS[h[1]]} half %x, %y"]
                body += ["store half %z, ptr %r", "ret i32 0"]
                found.append(_function(f"define internal i32 @{name}(ptr %r, ptr %a, ptr %b) alwaysinline", body))
        return found

    def _missing(self, text: str) -> list[str]:
        """Declarations of the functions of LLVM and of the C library that the module calls."""
        found = {}
        for m in re.finditer(r"call ([^@\n\"]+?) @([\w.]+)\(([^\n]*)\)(?: #\d+)?$", text, re.M):
            name = m[2]
            if name.startswith(("emu.", libdevice.PREFIX)) or name in self._defined or _HALF.fullmatch(name):
                continue
            kinds = ", ".join(type_of(o) for o in split(m[3]))
            found[name] = f"declare {return_type(m[1])} @{name}({kinds})"
        return [*found.values()]


def _function(head: str, body: Sequence[str]) -> str:
    return "\n".join([f"{head} {{", *(f"  {line}" for line in body), "}"])


def _generic(line: str) -> str:
    """Without address spaces and scopes: on the host there is one memory, and all see it alike."""
    if "addrspace" in line:
        line = re.sub(r" ?addrspace\(\d\)", "", line)
    if "addrspacecast " in line:
        line = re.sub(r"\baddrspacecast (?=[(<\w])", "bitcast ", line)
    if "syncscope" in line:
        line = re.sub(r' syncscope\("[^"]*"\)', "", line)
    if "@llvm.mem" in line:
        line = re.sub(r"@llvm\.mem[\w.]+", lambda m: re.sub(r"\.p[1-7](?=\.)", ".p0", m[0]), line)
    return line


def _divide(operation: str) -> Body:
    def body(use: Use) -> list[str]:
        kind = use.returns
        found = [f"%zero = icmp eq {kind} %a1, 0", "br i1 %zero, label %wrong, label %right", "wrong:"]
        found += [f"call void @emu.fault(ptr {FIBER}, i64 {DIVIDED_BY_ZERO}, i64 %line)", "unreachable", "right:"]
        if operation[0] == "u":
            return [*found, f"%r = {operation} {kind} %a0, %a1", f"ret {kind} %r"]
        found += [f"%minus = icmp eq {kind} %a1, -1", f"%y = select i1 %minus, {kind} 1, {kind} %a1"]
        found += [f"%q = {operation} {kind} %a0, %y"]
        other = "%n" if operation == "sdiv" else "0"
        return [
            *found,
            f"%n = sub {kind} 0, %a0",
            f"%r = select i1 %minus, {kind} {other}, {kind} %q",
            f"ret {kind} %r",
        ]

    return body


def _saturate(sign: str) -> Body:
    def body(use: Use) -> list[str]:
        kind, (source,) = use.returns, use.args
        found = [f"%n = call {kind} @llvm.fpto{sign}i.sat.{kind}.{suffix_of(source)}({source} %a0)"]
        if source == "float" and kind == "i32":
            return [*found, f"ret {kind} %n"]
        lowest = -(1 << 8 * size_of(kind) - 1)  # what PTX says of NaN
        found += [f"%nan = fcmp uno {source} %a0, %a0", f"%r = select i1 %nan, {kind} {lowest}, {kind} %n"]
        return [*found, f"ret {kind} %r"]

    return body


_BLOCK = [f"%bp = getelementptr i8, ptr {FIBER}, i64 {F_BLOCK}", "%block = load ptr, ptr %bp"]


def _service(name: str, number: int) -> str:
    """A call of the runtime, through the table in the fiber's record."""
    returns = "i64" if name == "barrier" else "void"
    kinds = "".join(f", i64 %a{i}" for i in range(SERVICES[name]))
    body = [f"%p = getelementptr i8, ptr {FIBER}, i64 {F_SERVICES + WORD * number}", "%f = load ptr, ptr %p"]
    call = f"call {returns} %f(ptr {FIBER}{kinds})"
    body += [f"%r = {call}", "ret i64 %r"] if returns == "i64" else [call, "ret void"]
    return _function(f"define internal {returns} @emu.{name}(ptr {FIBER}{kinds}) alwaysinline", body)


_SUPPORT = [
    *(_service(name, i) for i, name in enumerate(SERVICES)),
    _function(
        f"define internal ptr @emu.shared(ptr {FIBER}, i64 %offset) alwaysinline",
        [
            *_BLOCK,
            f"%p = getelementptr i8, ptr %block, i64 {B_SHARED}",
            "%shared = load ptr, ptr %p",
            "%r = getelementptr i8, ptr %shared, i64 %offset",
            "ret ptr %r",
        ],
    ),
]
