"""What a model may hold. A step adds one or a few nodes to a draft, or raises Reject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from ..draft import Draft

FAMILIES = (
    "elementwise",
    "shape",
    "index",
    "images",
    "nets",
    "products",
    "reduce",
    "recurrent",
    "quantize",
    "control",
    "domains",
    "small",
    "sampling",
    "sequences",
    "microsoft",
    "learned",
)


@dataclass(frozen=True)
class Step:
    run: Callable[[Draft], object]
    weight: float
    opset: int  # the lowest that has all its operators


STEPS: dict[str, list[Step]] = {}


def step(weight: float = 1.0, opset: int = 7) -> Callable:
    """Register a step of the family that its module is named after."""

    def register(run: Callable[[Draft], object]) -> Callable[[Draft], object]:
        STEPS.setdefault(run.__module__.rpartition(".")[2], []).append(Step(run, weight, opset))
        return run

    return register


def load() -> dict[str, list[Step]]:
    """All steps by family."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
    return STEPS
