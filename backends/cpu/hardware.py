"""What is to be known of the machine before any code is made: how many CPUs and which caches."""

from __future__ import annotations

import os

CGROUP = "/sys/fs/cgroup"
CACHES = "/sys/devices/system/cpu/cpu0/cache"


def cpu_count() -> int:
    """CPUs this process may use: affinity mask and container quota (cgroup v1 and v2), at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, int(quota + 0.999)) if quota else count)


def cpu_flags() -> frozenset[str]:
    """What the first CPU has, by Linux's names; empty where the system does not tell."""
    try:
        lines = _text("/proc/cpuinfo").partition("\n\n")[0].splitlines()
    except OSError:
        return frozenset()
    return frozenset(w for line in lines if line.startswith("flags") for w in line.partition(":")[2].split())


def _cgroup_quota() -> float | None:
    """CPUs that the container may use on average, or None where nothing limits it."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            limit, period = " ".join(_text(f"{CGROUP}/{name}") for name in files).split()
            return None if limit in ("max", "-1") else int(limit) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None


def cache_sizes(folder: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """The fields l1, l2, l3 of a target, as the system describes the first core's caches; without those that it does not know.

    A core without a third level has the second as its last.
    """
    found: dict[int, int] = {}
    for index in _indices(folder or CACHES):
        try:
            level, kind, size = (_text(f"{index}/{name}") for name in ("level", "type", "size"))
            nbytes = int(size.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(size[-1:], 0)
            if kind != "Instruction" and nbytes > 0:
                found[int(level)] = nbytes
        except (OSError, ValueError):
            continue
    if 2 in found:
        found.setdefault(3, found[2])
    return {f"l{level}": found[level] for level in (1, 2, 3) if level in found}


def _indices(folder: str | os.PathLike[str]) -> list[str]:
    try:
        return sorted(entry.path for entry in os.scandir(folder) if entry.name.startswith("index"))
    except OSError:
        return []


def _text(path: str) -> str:
    with open(path) as f:
        return f.read().strip()
