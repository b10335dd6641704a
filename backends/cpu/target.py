"""What the machine can do, as far as code generation cares."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from graphc.dtypes import FLOAT32, Element
from graphc.errors import UnsupportedError

CGROUP = Path("/sys/fs/cgroup")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
BASELINE = "x86-64"  # LLVM's name of what every 64-bit x86 has
_CHANGING = (
    "processor",
    "cpu MHz",
    "bogomips",
    "physical id",
    "siblings",
    "core id",
    "cpu cores",
    "apicid",
    "initial apicid",
)


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

    def __str__(self) -> str:
        return f"cpu:{self.isa}"

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
    def converts_half(self) -> bool:
        """Has it instructions between float16 and float32? (F16C is older than AVX2.)"""
        return self.cpu != BASELINE


def cpu_count() -> int:
    """CPUs this process may use: affinity mask and container quota (cgroup v1 and v2), at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, int(quota + 0.999)) if quota else count)


def _cgroup_quota() -> float | None:
    """CPUs that the container may use on average, or None where nothing limits it."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            limit, period = " ".join((CGROUP / name).read_text() for name in files).split()
            return None if limit in ("max", "-1") else int(limit) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None


def cache_sizes(folder: Path | None = None) -> dict[str, int]:
    """The fields l1, l2, l3 of a target, as the system describes the first core's caches; without those that it does not know.

    A core without a third level has the second as its last.
    """
    found: dict[int, int] = {}
    for index in sorted((folder or CACHES).glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
            nbytes = int(size.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(size[-1:], 0)
            if kind != "Instruction" and nbytes > 0:
                found[int(level)] = nbytes
        except (OSError, ValueError):
            continue
    if 2 in found:
        found.setdefault(3, found[2])
    return {f"l{level}": found[level] for level in (1, 2, 3) if level in found}


@lru_cache(maxsize=1)
def machine() -> str:
    """What tells CPUs with other features or caches apart, without LLVM."""
    caches = " ".join(f"{name} {size}" for name, size in cache_sizes().items())
    try:
        with open("/proc/cpuinfo") as f:
            first = next(iter(f.read(1 << 14).split("\n\n")))
        kept = [line for line in first.splitlines() if not line.startswith(_CHANGING)]
        return "\n".join([*sorted(kept), caches])
    except OSError:
        target = detect(None)
        return f"{target.cpu} {target.features} {caches}"


@lru_cache
def detect(isa: str | None = None) -> Target:
    """The host's best instruction set, or the named one. `GRAPHC_ISA` overrides the default.

    Raises UnsupportedError for an unknown name, or one that this CPU does not have.
    """
    import llvmlite.binding as llvm

    has = llvm.get_host_cpu_features()
    cpu = llvm.get_host_cpu_name()
    features = has.flatten()
    caches = cache_sizes()
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
    if name not in ("avx512", "avx2", "portable"):
        raise UnsupportedError(f"unknown instruction set '{name}'{origin}", hint=f"one of: {', '.join(offered)}")
    if name not in offered:
        raise UnsupportedError(f"this CPU ({cpu}) has no {name}{origin}", hint=f"it has: {', '.join(offered)}")
    return offered[name]


def _baseline(cpu: str, features: str) -> tuple[str, str]:
    """x86 falls back to what every 64-bit CPU has; elsewhere the host's own features serve the portable path."""
    import platform

    return (BASELINE, "") if platform.machine() in ("x86_64", "AMD64") else (cpu, features)
