"""RandomSeed."""

from __future__ import annotations

from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.random.seed_block import SEED, Seed
from graphc.lower.fuse import Group


@lowers("RandomSeed")
def lower_seed(lo: CudaLowering, group: Group) -> None:
    y = lo.write(group.output).ref
    lo.emit(Seed(), SEED(grid=1, y=y, salt=1 + len(lo.program.steps)), lo.info(group, "seed"), writes=[y])
