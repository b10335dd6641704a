"""What the runtime exports: the services that kernels call, in the order of the table, and what runs blocks."""

from __future__ import annotations

from numba import types

from graphc.backends.cuda.emulator.blocks_njit import run_blocks, run_together
from graphc.backends.cuda.emulator.checker_njit import check
from graphc.backends.cuda.emulator.copies_njit import copy_async, copy_commit, copy_wait
from graphc.backends.cuda.emulator.fibers_njit import barrier, fault, leave, pause
from graphc.backends.cuda.emulator.records import SERVICES
from graphc.backends.cuda.emulator.warp_njit import collective

i64 = types.int64
_BY_NAME = {
    f.__name__: f for f in (barrier, leave, pause, collective, copy_async, copy_commit, copy_wait, check, fault)
}
FUNCTIONS = {
    name: (_BY_NAME[name], (i64 if name == "barrier" else types.void)(i64, *[i64] * parameters))
    for name, parameters in SERVICES.items()
}
FUNCTIONS["run_blocks"] = run_blocks, types.void(i64, i64, i64, i64)
FUNCTIONS["run_together"] = run_together, types.void(i64, i64)
