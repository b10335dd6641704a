"""Bodies of the functions of LLVM IR that stand for what only a GPU has.

A helper has the parameters of what it stands for, %a0, %a1 …, and before them %emu.fiber and %line, the line of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from graphc.backends.cuda.emulator.ir_text import layout_of, split
from graphc.backends.cuda.emulator.records import F_BLOCK, F_SLOTS

NOTHING_ELSE = "ret void"


class Use(NamedTuple):
    """Where a helper is called. returns: the type that it gives; args: types of its operands; checks: are accesses watched?"""

    returns: str
    args: tuple[str, ...]
    checks: bool


Body = Callable[[Use], list[str]]


def lines(text: str) -> Body:
    """A body that is the same for all uses."""
    return lambda use: [line.strip() for line in text.strip().splitlines()]


NOTHING = lines(NOTHING_ELSE)


def constant(value: int) -> Body:
    return lambda use: [f"ret {use.returns} {value}"]


def of_fiber(offset: int) -> Body:
    """A word of the fiber's record."""
    return lambda use: [
        f"%p = getelementptr i8, ptr %emu.fiber, i64 {offset}",
        f"%v = load {use.returns}, ptr %p",
        f"ret {use.returns} %v",
    ]


def of_block(offset: int, per_warp: int | None = None) -> Body:
    """A word of the worker's record; per_warp: of an array of words with one for each warp, whose number the fiber has there."""

    def body(use: Use) -> list[str]:
        found = [f"%bp = getelementptr i8, ptr %emu.fiber, i64 {F_BLOCK}", "%b = load ptr, ptr %bp"]
        found += [f"%p = getelementptr i8, ptr %b, i64 {offset}"]
        at = "%p"
        if per_warp is not None:
            found += [f"%wp = getelementptr i8, ptr %emu.fiber, i64 {per_warp}", "%w = load i64, ptr %wp"]
            found += ["%q = getelementptr i64, ptr %p, i64 %w"]
            at = "%q"
        return [*found, f"%v = load {use.returns}, ptr {at}", f"ret {use.returns} %v"]

    return body


def access(address: str, nbytes: int | str, alignment: int, kind: int, use: Use) -> list[str]:
    """Tell the checker; address: an i64."""
    if not use.checks:
        return []
    return [
        f"call void @emu.check(ptr %emu.fiber, i64 {address}, i64 {nbytes}, i64 {alignment}, i64 {kind}, i64 %line)"
    ]


# --- warp operations -----------------------------------------------------------------------------------------------------
def program(*operations: int) -> str:
    """The name of the constant that tells the runtime what to do: code and first slot of each operation."""
    return "@emu.program." + ".".join(map(str, operations))


def program_definition(name: str) -> str:
    words = name.removeprefix("@emu.program.").split(".")
    numbers = ", ".join(f"i64 {w}" for w in (str(len(words) // 2), *words))
    return f"{name} = internal constant [{len(words) + 1} x i64] [{numbers}]"


def slots_of(kind: str) -> int:
    return -(-layout_of(kind)[0] // 4)


def put(operands: Sequence[str], first: int, prefix: str) -> list[str]:
    """Operands ('float %x') into slots, from the first on."""
    found, at = [], first
    for i, operand in enumerate(operands):
        found.append(f"%{prefix}.p{i} = getelementptr i8, ptr %emu.fiber, i64 {F_SLOTS + 4 * at}")
        found.append(f"store {operand}, ptr %{prefix}.p{i}, align 4")
        at += slots_of(operand.split()[0])
    return found


def take(returns: str, first: int, name: str, prefix: str) -> list[str]:
    """The value `name` out of slots: of a type of 32 bits or less, or a structure of such types."""
    if returns == "void":
        return []
    whole = returns.startswith("{")
    kinds = split(returns[1:-1]) if whole else [returns]
    found, last = [], "undef"
    for i, kind in enumerate(kinds):
        value = f"%{prefix}.v{i}" if whole else name
        found.append(f"%{prefix}.r{i} = getelementptr i8, ptr %emu.fiber, i64 {F_SLOTS + 4 * (first + i)}")
        found.append(f"{value} = load {kind}, ptr %{prefix}.r{i}, align 4")
        if whole:
            new = name if i == len(kinds) - 1 else f"%{prefix}.s{i}"
            found.append(f"{new} = insertvalue {returns} {last}, {kind} {value}, {i}")
            last = new
    return found


def collective(operation: int, mask: int | None = None, operands: Sequence[int | str] | None = None) -> Body:
    """Operands into slots, meet the other lanes, results out of slots.

    mask: number of the parameter that has the mask of lanes, None for all lanes. operands: numbers of the parameters, or
    constants ('i32 3'), that go into slots; None for all.
    """

    def body(use: Use) -> list[str]:
        chosen = range(len(use.args)) if operands is None else operands
        found = put([o if isinstance(o, str) else f"{use.args[o]} %a{o}" for o in chosen], 0, "in")
        lanes = "-1"
        if mask is not None:
            found.append(f"%mask = zext i32 %a{mask} to i64")
            lanes = "%mask"
        found.append(
            f"call void @emu.collective(ptr %emu.fiber, i64 ptrtoint (ptr {program(operation, 0)} to i64), i64 {lanes}, i64 %line)"
        )
        found += take(use.returns, 0, "%r", "out")
        return [*found, NOTHING_ELSE if use.returns == "void" else f"ret {use.returns} %r"]

    return body


def barrier(kind: int = 0, predicate: int | None = None) -> Body:
    """kind: of the vote that goes with it (`barrier` in fibers_njit.py); predicate: number of the parameter, an i1."""

    def body(use: Use) -> list[str]:
        found, holds = [], "0"
        if predicate is not None:
            found.append(f"%holds = zext {use.args[predicate]} %a{predicate} to i64")
            holds = "%holds"
        found.append(f"%r = call i64 @emu.barrier(ptr %emu.fiber, i64 {kind}, i64 {holds}, i64 %line)")
        if use.returns == "void":
            return [*found, NOTHING_ELSE]
        found.append("%t = icmp ne i64 %r, 0" if use.returns == "i1" else f"%t = trunc i64 %r to {use.returns}")
        return [*found, f"ret {use.returns} %t"]

    return body


def fault(code: int) -> Body:
    return lines(f"call void @emu.fault(ptr %emu.fiber, i64 {code}, i64 %line)\nunreachable")
