"""A double of CUDA's driver: cuda.bindings and cuda.core load it instead, and kernels run in the emulator.

    with double(memory=1 << 20) as d:
        Gpu(0).allocate(...)

Device memory is memory of the host, of which the double knows what is allocated; it refuses what the driver refuses, and fails
the test for what a driver would crash on, or not notice. What it can't show: see the emulator's list; several streams at work
at the same time; the exact moment at which memory is used again; the driver's own limits.
"""

from __future__ import annotations

from driver_double.double import cubin_of, double
from driver_double.state import State

__all__ = ["State", "cubin_of", "double"]
