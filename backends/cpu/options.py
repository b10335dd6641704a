"""What a caller may ask of the CPU backend."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from graphc.backend import Request, whole_number
from graphc.backends.cpu.hardware import cache_sizes, cpu_count
from graphc.backends.cpu.parts import without
from graphc.errors import InputError, UnsupportedError
from graphc.records import record

WINOGRAD = (6, 4, 2, 0)  # output tiles that may be the largest
PRECISIONS = ("float32", "bf16", "bf16-weights")
MAX_THREADS = 1024  # each has scratch memory of its own

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


@record(frozen=True)
class CpuOptions:
    """isa: None for the best that the machine has; threads: of one inference; winograd: the largest output tile, 0 for none;
    tune: choose algorithms by measuring them; disabled: parts (backends/cpu/parts.py) that are switched off; precision: of float32
    products, see `Policy`."""

    isa: str | None
    threads: int
    winograd: int = 6
    tune: bool = False
    disabled: frozenset[str] = frozenset()
    precision: str = PRECISIONS[0]

    @classmethod
    def parse(cls, request: Request) -> CpuOptions:
        """Raises InputError for a value that an option does not take, UnsupportedError for an instruction set that this CPU
        does not have."""
        given = dict(request.options)
        threads = whole_number("threads", given.pop("threads", None), MAX_THREADS, "None takes all cores")
        winograd, tune = given.pop("winograd", 6), given.pop("tune", False)
        precision = given.pop("precision", PRECISIONS[0])
        if given:
            raise InputError(
                f"target 'cpu' has no option '{next(iter(given))}'", hint="it has: threads, winograd, tune, precision"
            )
        if isinstance(winograd, bool) or not hasattr(winograd, "__index__") or winograd not in WINOGRAD:
            raise InputError(
                f"winograd must be 6, 4, 2 or 0, not {winograd!r}", hint="the largest output tile; 0: none"
            )
        if not isinstance(tune, bool):
            raise InputError(f"tune must be True or False, not {tune!r}")
        if precision not in PRECISIONS:
            hint = (
                "bf16: bfloat16 operands and float32 sums; bf16-weights: weights kept in bfloat16, products in float32"
            )
            raise InputError(f"precision must be {', '.join(map(repr, PRECISIONS))}, not {precision!r}", hint=hint)
        isa = request.variant or None
        if isa:
            from graphc.backends.cpu.target import detect

            detect(isa)  # a name that this CPU lacks is an error now; the default is looked up when code is made
        if precision == "bf16":
            _require_bfloat16(isa)
        disabled = without(frozenset(request.disabled))
        return cls(isa, threads or cpu_count(), int(winograd), tune, disabled, precision)

    def identity(self) -> list[Any]:
        """What plans depend on besides the graph. (`detect` would load LLVM.)"""
        facts = {"isa": self.isa or os.environ.get("GRAPHC_ISA"), "disabled": sorted(self.disabled)}
        return ["cpu", asdict(self) | facts, machine()]


def _require_bfloat16(isa: str | None) -> None:
    """Raises UnsupportedError where no instruction multiplies bfloat16. (`detect` would load LLVM, which a kept plan does without.)"""
    if (isa or os.environ.get("GRAPHC_ISA") or "avx512") == "avx512" and "avx512_bf16" in machine():
        return
    from graphc.backends.cpu.target import detect

    target = detect(isa)
    if not target.dots_bfloat16:
        raise UnsupportedError(
            f"precision 'bf16' needs AVX-512 with BF16, which {target} of this CPU ({target.cpu}) lacks",
            hint="'bf16-weights' keeps weights in bfloat16 and multiplies in float32, on any CPU",
        )


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
        from graphc.backends.cpu.target import detect

        target = detect(None)
        return f"{target.cpu} {target.features} {caches}"
