"""Registers that say where a thread is. Grids and blocks have one dimension."""

from __future__ import annotations

from graphc.backends.cuda.emulator.helpers import Body, constant, lines, of_block, of_fiber
from graphc.backends.cuda.emulator.records import (
    B_BLOCK,
    B_BLOCKS,
    B_DYNAMIC,
    B_THREADS,
    F_LANE,
    F_THREAD,
    F_WARP,
    WARP,
)
from graphc.errors import UnsupportedError

_OF_X = {
    "tid": of_fiber(F_THREAD),
    "ntid": of_block(B_THREADS),
    "ctaid": of_block(B_BLOCK),
    "nctaid": of_block(B_BLOCKS),
}
_OTHER_DIMS = {"tid": 0, "ntid": 1, "ctaid": 0, "nctaid": 1}
# lanes below this one, at most this one …: from 1 << lane
_LANE_MASKS = {
    "eq": "%r = add i32 %bit, 0",
    "lt": "%r = sub i32 %bit, 1",
    "le": "%n = sub i32 %bit, 1\n%r = or i32 %n, %bit",
    "ge": "%r = sub i32 0, %bit",
    "gt": "%n = sub i32 0, %bit\n%r = xor i32 %n, %bit",
}
_CYCLES = lines("%r = call i64 @llvm.readcyclecounter()\nret i64 %r")


def special_register(name: str) -> Body:
    """By PTX's name of it, without the sign before. Raises UnsupportedError."""
    kind, _, dim = name.partition(".")
    if kind in _OF_X and dim == "x":
        return _OF_X[kind]
    if kind in _OF_X and dim in ("y", "z"):
        return constant(_OTHER_DIMS[kind])
    if kind == "lanemask" or kind.startswith("lanemask_"):
        text = _LANE_MASKS[dim or kind.removeprefix("lanemask_")]
        return lines(
            f"%p = getelementptr i8, ptr %emu.fiber, i64 {F_LANE}\n%lane = load i32, ptr %p\n%bit = shl i32 1, %lane\n{text}\nret i32 %r"
        )
    simple = {
        "laneid": of_fiber(F_LANE),
        "warpid": of_fiber(F_WARP),
        "warpsize": constant(WARP),
        "WARP_SZ": constant(WARP),
        "dynamic_smem_size": of_block(B_DYNAMIC),
        "clock64": _CYCLES,
        "globaltimer": _CYCLES,
    }
    if name not in simple:
        raise UnsupportedError(f"the emulator does not know the register %{name}")
    return simple[name]
