"""What the machine can do, as far as code generation cares."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from graphc.errors import UnsupportedError

CGROUP = Path("/sys/fs/cgroup")
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
    """An instruction set: `vl` float32 lanes per vector, `registers` vector registers, LLVM's names of CPU and features.

    `asm` is the x86 vector register class of the hand-scheduled inner step, or None where LLVM schedules it.
    """

    isa: str
    vl: int
    registers: int
    asm: str | None
    cpu: str
    features: str

    def __str__(self) -> str:
        return f"cpu:{self.isa}"

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


@lru_cache(maxsize=1)
def machine() -> str:
    """What tells CPUs with other features apart, without LLVM."""
    try:
        with open("/proc/cpuinfo") as f:
            first = next(iter(f.read(1 << 14).split("\n\n")))
        kept = [line for line in first.splitlines() if not line.startswith(_CHANGING)]
        return "\n".join(sorted(kept))
    except OSError:
        target = detect(None)
        return f"{target.cpu} {target.features}"


@lru_cache
def detect(isa: str | None = None) -> Target:
    """The host's best instruction set, or the named one. `GRAPHC_ISA` overrides the default.

    Raises UnsupportedError for an unknown name, or one that this CPU does not have.
    """
    import llvmlite.binding as llvm

    has = llvm.get_host_cpu_features()
    cpu = llvm.get_host_cpu_name()
    features = has.flatten()
    offered = {}
    if has.get("avx512f") and has.get("avx512vl") and has.get("avx512dq") and has.get("avx512bw"):
        # 256-bit preference would split every vector of ours in two
        offered["avx512"] = Target("avx512", 16, 32, "v", cpu, features + ",-prefer-256-bit")
    if has.get("avx2") and has.get("fma"):
        without = ",".join(f"-{name}" for name in sorted(has) if name.startswith(("avx512", "amx")))
        offered["avx2"] = Target("avx2", 8, 16, "x", "haswell", f"+avx2,+fma,{without}")
    offered["portable"] = Target("portable", 8, 16, None, *_baseline(cpu, features))
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
