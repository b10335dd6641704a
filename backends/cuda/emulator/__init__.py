"""Runs CUDA kernels on the CPU, from the LLVM IR that numba-cuda hands to libNVVM. No GPU, and none of NVIDIA's software.

A block runs on one thread of the system, each of its CUDA threads on a fiber, with a stack of its own. The IR is that of the
GPU, so types, address arithmetic and layouts of shared memory are those of the GPU too; what only a GPU has becomes calls of a
runtime. In the checking mode every access to memory is watched; without it, addresses out of bounds do what they do in C.

What it can't show: speed, bank conflicts, occupancy; the memory model (it is sequentially consistent; fences do nothing; blocks
that signal each other through global memory look like races, and a loop that waits for a flag never ends); that wgmma is
asynchronous; the rounding of tensor cores; approximate instructions and those that flush denormals (they are exact). Not there:
mbarrier, TMA, clusters, stmatrix, integer and 8-bit mma, named barriers, grid-wide barriers.
"""

from __future__ import annotations

from graphc.backends.cuda.emulator.faults import KernelFault, Range
from graphc.backends.cuda.emulator.kernel import EmulatedKernel

__all__ = ["EmulatedKernel", "KernelFault", "Range"]
