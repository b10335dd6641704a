"""The modules of the operators' families, by kind: in each folder `x.py` lowers, `x_block.py` declares argument blocks,
`x_driver.py` has the loops around micro-kernels (Numba), `x_micro.py` emits these (LLVM IR), `x_njit.py` is what drivers share.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from pathlib import Path

OTHERS = ("checked", "codegen", "runtime")  # folders that are no family's
FAMILIES = tuple(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.ispkg and m.name not in OTHERS)
KINDS = ("block", "driver", "micro", "njit")


@lru_cache
def load(kind: str) -> None:
    """Import all modules of a kind, which register what they have: one of KINDS, or '' for those that lower."""
    package = importlib.import_module(__package__)
    for family in FAMILIES:
        name = f"{package.__name__}.{family}"
        for module in pkgutil.iter_modules(importlib.import_module(name).__path__):
            if kind_of(module.name) == kind:
                importlib.import_module(f"{name}.{module.name}")


def kind_of(module: str) -> str:
    last = module.rpartition("_")[2]
    return last if last in KINDS else ""
