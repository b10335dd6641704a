"""The algorithm of a convolution as a datum, and what decides between algorithms and which optimisations are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphc.backends.cpu.conv.winograd_micro import POINTS


class Algorithm(str):
    """An algorithm, by the name that people see. tile: the side of an output tile of Winograd's, 0 for the others."""

    __slots__ = ("tile",)
    tile: int

    def __new__(cls, name: str, tile: int = 0) -> Algorithm:
        made = super().__new__(cls, name)
        made.tile = tile
        return made


DIRECT, DEPTHWISE, STRASSEN = Algorithm("direct"), Algorithm("depthwise"), Algorithm("strassen")
WINOGRAD = {m: Algorithm(f"winograd F({m}x{m})", m) for m in POINTS}


@dataclass(frozen=True)
class Choice:
    """The algorithm of one layer, and why."""

    algorithm: Algorithm
    reason: str


@dataclass(frozen=True)
class Policy:
    """What decides between algorithms, and which optimisations are made.

    winograd  largest output tile (m of F(m x m)) that may be chosen; 0: none
    disabled  parts that are switched off: see backends/cpu/parts.py
    measured  seconds of each algorithm by layer (`layer_key`), where they were measured on this machine
    forced    the algorithm of every convolution, which it must fit: for measuring it
    precision of products of float32: 'float32'; 'bf16', whose operands are rounded to bfloat16 and summed in float32;
              'bf16-weights', whose constant weights alone are
    """

    winograd: int = max(POINTS)
    disabled: frozenset[str] = frozenset()
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    forced: Algorithm | None = None
    precision: str = "float32"

    def uses(self, part: str) -> bool:
        """Is it switched on?"""
        return part not in self.disabled


DEFAULT = Policy()
