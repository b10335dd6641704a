"""Intrinsics of NVVM: what the emulator knows of them, and what each becomes. One that is not in the table is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from graphc.backends.cuda.emulator import operations
from graphc.backends.cuda.emulator.faults import TRAP
from graphc.backends.cuda.emulator.helpers import (
    NOTHING,
    Body,
    Use,
    barrier,
    collective,
    fault,
    lines,
    of_block,
)
from graphc.backends.cuda.emulator.ir_text import suffix_of
from graphc.backends.cuda.emulator.records import F_WARP, W_ALIVE
from graphc.backends.cuda.emulator.special_registers import special_register
from graphc.errors import UnsupportedError

PREFIX = "llvm.nvvm."
_SHUFFLES = {"idx": operations.INDEX, "up": operations.UP, "down": operations.DOWN, "bfly": operations.XOR}
_VOTES = {"all": operations.ALL, "any": operations.ANY, "uni": operations.EQUAL, "ballot": operations.BALLOT}
_BLOCK_VOTES = ("popc", "and", "or")
# intrinsics of LLVM's that do the same (approximations are exact here)
_SAME = {
    "fabs": "fabs",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "rint",  # "round to integer, to even"
    "fmax": "maxnum",
    "fmin": "minnum",
    "sqrt.rn": "sqrt",
    "sqrt.approx": "sqrt",
    "sqrt": "sqrt",
    "ex2.approx": "exp2",
    "lg2.approx": "log2",
    "sin.approx": "sin",
    "cos.approx": "cos",
    "fma.rn": "fma",
}


def _same(m: re.Match[str]) -> Body:
    def body(use: Use) -> list[str]:
        operands = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(use.args))
        return [
            f"%r = call {use.returns} @llvm.{_SAME[m[1]]}.{suffix_of(use.returns)}({operands})",
            f"ret {use.returns} %r",
        ]

    return body


def _operator(name: str) -> Body:
    return lambda use: [f"%r = {name} {use.returns} %a0, %a1", f"ret {use.returns} %r"]


def _reciprocal(m: re.Match[str]) -> Body:
    def body(use: Use) -> list[str]:
        kind, found, of = use.returns, [], "%a0"
        if m[1] == "rsqrt":
            found, of = [f"%s = call {kind} @llvm.sqrt.{suffix_of(kind)}({kind} %a0)"], "%s"
        return [*found, f"%r = fdiv {kind} 1.0, {of}", f"ret {kind} %r"]

    return body


def _barrier(name: str, operands: Sequence[str]) -> Body | None:
    """Of the whole block; one with another number than 0 is not emulated."""
    m = re.fullmatch(r"barrier0|barrier\.cta\.(?:sync|red\.(popc|and|or))(?:\.aligned)?\.all", name)
    if m is None or (name != "barrier0" and operands[0] != "i32 0"):
        return None
    return barrier(_BLOCK_VOTES.index(m[1]) + 1, 1) if m[1] else barrier()


_TABLE: list[tuple[str, Callable[[re.Match[str]], Body]]] = [
    (r"read\.ptx\.sreg\.([\w.]+)", lambda m: special_register(m[1])),
    (r"bar\.warp\.sync", lambda m: collective(operations.SYNCWARP, 0, [])),
    (
        r"shfl\.sync\.(idx|up|down|bfly)\.[if]32p?",
        lambda m: collective(operations.SHUFFLE, 0, [f"i32 {_SHUFFLES[m[1]]}", 1, 2, 3]),
    ),
    (r"shfl\.sync\.i32", lambda m: collective(operations.SHUFFLE, 0, [1, 2, 3, 4])),
    (r"vote\.sync", lambda m: collective(operations.VOTE, 0, [1, 2])),
    (r"match\.any\.sync\.i32", lambda m: collective(operations.MATCH, 0, [1])),
    (r"activemask", lambda m: of_block(W_ALIVE, F_WARP)),
    (r"membar\.\w+|fence\.[\w.]+|nanosleep", lambda m: NOTHING),
    (r"(fabs|floor|ceil|trunc|round|fmax|fmin|sqrt|sqrt\.rn|sqrt\.approx|fma\.rn)(?:\.ftz)?\.[fd]", _same),
    (r"(ex2\.approx|lg2\.approx|sin\.approx|cos\.approx)(?:\.ftz)?\.[fd]", _same),
    (r"(rcp|rsqrt)\.(?:rn|approx)(?:\.ftz)?\.[fd]", _reciprocal),
    (r"div\.(?:rn|approx)(?:\.ftz)?\.[fd]", lambda m: _operator("fdiv")),
    (r"mul\.rn(?:\.ftz)?\.[fd]", lambda m: _operator("fmul")),
    (r"add\.rn(?:\.ftz)?\.[fd]", lambda m: _operator("fadd")),
    (r"exit", lambda m: lines("call void @emu.leave(ptr %emu.fiber)\nunreachable")),
    (r"trap", lambda m: fault(TRAP)),
]
_COMPILED = [(re.compile(pattern), make) for pattern, make in _TABLE]


def body_of(name: str, operands: Sequence[str]) -> Body:
    """What an intrinsic does. name: without `PREFIX`; operands: as they are written. Raises UnsupportedError."""
    found = _barrier(name, operands)
    if found is not None:
        return found
    for pattern, make in _COMPILED:
        if m := pattern.fullmatch(name):
            return make(m)
    raise UnsupportedError(f"the emulator does not know the intrinsic {PREFIX}{name}({', '.join(operands)})")
