"""What the machine can do, as far as code generation cares (see hardware.py for what else is to be known of it)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphc.backends.cpu.hardware import cache_sizes
from graphc.dtypes import FLOAT32, Element
from graphc.errors import UnsupportedError

BASELINE = "x86-64"  # LLVM's name of what every 64-bit x86 has
AVX512 = "x86-64-v4"  # and of what every CPU with AVX-512 has that is made for servers
EXTRAS = ("avx512vnni", "avx512vbmi", "avx512bf16")  # what some have beyond it and kernels use


@dataclass(frozen=True)
class Target:
    """An instruction set and the core that runs it.

    isa       its name
    vl        float32 lanes per vector
    registers vector registers
    asm       x86 vector register class of the hand-scheduled inner step, or None where LLVM schedules it
    cpu       LLVM's names of the CPU and
    features  of its features
    chains    multiply-adds of vectors that run at the same time: latency times units (4 cycles and 2 units since Skylake and Zen 3)
    l1 l2 l3  bytes of the caches that serve one core. The last one may be shared
    name      where that is not the isa: of a level that many machines have, 'x86-64-v4+avx512vnni'

    Machine code depends on the first six only, under which it is kept; plans depend on all.
    """

    isa: str
    vl: int
    registers: int
    asm: str | None
    cpu: str
    features: str
    chains: int = 8
    l1: int = 32 << 10
    l2: int = 1 << 20
    l3: int = 32 << 20
    name: str = ""

    def __str__(self) -> str:
        return f"cpu:{self.name or self.isa}"

    @property
    def vector(self) -> int:
        """Bytes of a vector register."""
        return self.vl * FLOAT32.item

    def lanes(self, element: Element) -> int:
        """Elements of a vector register."""
        return self.vector // element.item

    @property
    def pairs(self) -> int:
        """Accumulators where each has an operand of its own in a register, and four registers hold what they share."""
        return (self.registers - 4) // 2

    @property
    def dots_bfloat16(self) -> bool:
        """Is there an instruction that sums products of pairs of bfloat16 in float32 (AVX512_BF16)?"""
        return self.isa == "avx512" and "+avx512bf16" in self.features.split(",")

    @property
    def converts_half(self) -> bool:
        """Has it instructions between float16 and float32? (F16C is older than AVX2.)"""
        return self.cpu != BASELINE

    @property
    def permutes_bytes(self) -> bool:
        """Has it an instruction that chooses any bytes of two registers (AVX-512 VBMI)?"""
        return self.isa == "avx512" and "+avx512vbmi" in self.features.split(",")


@lru_cache
def detect(isa: str | None = None) -> Target:
    """The host's best instruction set, or the named one. `GRAPHC_ISA` overrides the default. Code for 'avx512' is for the host's
    own CPU; that for 'x86-64-v4', with those of `EXTRAS` behind it that are named ('x86-64-v4+avx512vnni'), for all that have these.

    Raises UnsupportedError for an unknown name, or one that this CPU does not have.
    """
    import llvmlite.binding as llvm

    has = llvm.get_host_cpu_features()
    cpu = llvm.get_host_cpu_name()
    features = has.flatten()
    caches: dict[str, Any] = cache_sizes()
    offered = {}
    if has.get("avx512f") and has.get("avx512vl") and has.get("avx512dq") and has.get("avx512bw"):
        # 256-bit preference would split every vector of ours in two
        offered["avx512"] = Target("avx512", 16, 32, "v", cpu, features + ",-prefer-256-bit", **caches)
    if has.get("avx2") and has.get("fma"):
        without = ",".join(f"-{name}" for name in sorted(has) if name.startswith(("avx512", "amx")))
        offered["avx2"] = Target("avx2", 8, 16, "x", "haswell", f"+avx2,+fma,{without}", **caches)
    plain, few = _baseline(cpu, features)
    offered["portable"] = Target("portable", 8, 16, None, plain, few, **caches)
    chosen = os.environ.get("GRAPHC_ISA")
    name = isa or chosen or next(iter(offered))
    origin = "" if isa or not chosen else " (from GRAPHC_ISA)"
    if "avx512" in offered and name.startswith(AVX512):
        level, *extras = name.split("+")
        if level == AVX512 and all(e in EXTRAS and has.get(e) for e in extras) and has.get("avx512cd"):
            features = ",".join(["-prefer-256-bit", *(f"+{e}" for e in extras)])
            return Target("avx512", 16, 32, "v", AVX512, features, **caches, name=name)
    if name not in ("avx512", "avx2", "portable"):
        raise UnsupportedError(f"unknown instruction set '{name}'{origin}", hint=f"one of: {', '.join(offered)}")
    if name not in offered:
        raise UnsupportedError(f"this CPU ({cpu}) has no {name}{origin}", hint=f"it has: {', '.join(offered)}")
    return offered[name]


def _baseline(cpu: str, features: str) -> tuple[str, str]:
    """x86 falls back to what every 64-bit CPU has; elsewhere the host's own features serve the portable path."""
    import platform

    return (BASELINE, "") if platform.machine() in ("x86_64", "AMD64") else (cpu, features)
