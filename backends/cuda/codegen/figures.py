"""What GPUs can do: the one table of figures for models of cost, rooflines and predictions.

Of NVIDIA's data sheets and the CUDA programming guide (table of compute capabilities), but for what a comment says. Nothing here
was measured by graphc.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.backends.cuda.codegen.arch import Arch

KIB, MIB = 1 << 10, 1 << 20
REGISTERS = 1 << 16  # of a multiprocessor, of every architecture since sm_50
PARTS = 4  # in which it has them
GRANULE = 256  # registers that a warp is given at a time
RESERVED = KIB  # of shared memory, for each block
WARP = 32


@dataclass(frozen=True)
class Card:
    """A GPU of a generation; others of it are like it in what matters to models, which is proportions.

    clock            Hz, of the data sheet's peaks
    *_per_clock      operations (2 of a multiply-add) per multiprocessor and cycle: tensor cores with sums in float32, dense;
                     float32 on CUDA cores
    mma              what part of that mma.sync reaches; the rest needs wgmma or tcgen05
    memory, cache    bytes per second of global memory, and of L2
    l2, shared       bytes of L2; of shared memory of a multiprocessor
    threads, blocks  resident at most on a multiprocessor
    """

    name: str
    multiprocessors: int
    clock: float
    half_per_clock: int
    tf32_per_clock: int
    float32_per_clock: int
    memory: float
    cache: float
    l2: int
    shared: int
    threads: int
    blocks: int
    mma: float = 1.0

    @property
    def cycles(self) -> float:
        """Of all multiprocessors in a second."""
        return self.multiprocessors * self.clock

    def rate(self, item: int, group: bool) -> float:
        """Operations per second of tensor cores: of elements of two bytes, or of TF32; by wgmma, where that is, or by mma.sync."""
        return self.cycles * (self.half_per_clock if item == 2 else self.tf32_per_clock) * (1.0 if group else self.mma)

    @property
    def half(self) -> float:
        """Of float16 and bfloat16 by mma.sync."""
        return self.rate(2, False)

    @property
    def tf32(self) -> float:
        """Of TF32 by mma.sync."""
        return self.rate(4, False)

    @property
    def float32(self) -> float:
        """Operations per second of float32 on CUDA cores."""
        return self.cycles * self.float32_per_clock

    def occupancy(self, threads: int, registers: int, shared: int) -> float:
        """What part of the threads that a multiprocessor can have at a time it has of a kernel. threads and bytes of shared memory
        of its blocks, registers of its threads."""
        warps, of_warp = -(-threads // WARP), -(-registers * WARP // GRANULE) * GRANULE
        by_registers = REGISTERS // PARTS // of_warp * PARTS // warps
        limits = self.blocks, self.threads // (warps * WARP), by_registers, self.shared // (shared + RESERVED)
        return min(limits) * threads / self.threads

    def fits(self, shared: int) -> int:
        """How many blocks of so many bytes of shared memory a multiprocessor has at a time."""
        return self.shared // (shared + RESERVED)

    def __str__(self) -> str:
        return self.name


# mma.sync on Hopper: Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture via Microbenchmarking", 2024;
# so is L2's bandwidth of A100 and, by the GeForce of its generation, L40S. That of H100 is what products of the libraries need at
# their pace, which is more than reads alone show; of the others it is estimated, as is mma.sync on sm_100.
CARDS = {
    (8, 0): Card("A100", 108, 1.41e9, 2048, 1024, 128, 2039e9, 4.0e12, 40 * MIB, 164 * KIB, 2048, 32),
    (8, 6): Card("A40", 84, 1.74e9, 1024, 512, 256, 696e9, 2.0e12, 6 * MIB, 100 * KIB, 1536, 16),
    (8, 9): Card("L40S", 142, 2.52e9, 1024, 512, 256, 864e9, 4.0e12, 96 * MIB, 100 * KIB, 1536, 24),
    (9, 0): Card("H100", 132, 1.83e9, 4096, 2048, 256, 3350e9, 7.5e12, 50 * MIB, 228 * KIB, 2048, 32, mma=0.63),
    (10, 0): Card("B200", 148, 1.85e9, 8192, 4096, 256, 8000e9, 1e13, 126 * MIB, 228 * KIB, 2048, 32, mma=0.63),
    (12, 0): Card("RTX PRO 6000", 188, 2.6e9, 1024, 512, 256, 1792e9, 5e12, 128 * MIB, 100 * KIB, 1536, 24),
}


def card_of(arch: Arch) -> Card:
    """For this compute capability: of the last generation that is no newer."""
    return CARDS[max(known for known in CARDS if known <= max(arch[:2], min(CARDS)))]
