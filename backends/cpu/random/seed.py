"""RandomSeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.random.seed_block import SEED, Seed

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.lower.fuse import Group


@RULES.lowers("RandomSeed")
def lower_seed(lo: CpuLowering, group: Group) -> None:
    y = lo.write(group.output).ref
    lo.emit(Seed(), SEED(y=y, salt=1 + len(lo.program.steps)), lo.info(group, "seed"), writes=[y])
