"""What GPUs can do, for models of cost. Of the data sheets, where nothing else is said; nothing here was measured by graphc."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.backends.cuda.codegen.arch import Arch


@dataclass(frozen=True)
class Card:
    """multiprocessors; clock in Hz; half, tf32: operations per second of tensor cores by mma.sync; float32: of CUDA cores; memory,
    cache: bytes per second, the second of L2; shared: bytes of shared memory that the blocks of a multiprocessor may use; groups: as
    half, by wgmma."""

    name: str
    multiprocessors: int
    clock: float
    half: float
    tf32: float
    float32: float
    memory: float
    cache: float
    shared: int
    groups: float = 0.0

    def __str__(self) -> str:
        return self.name


# mma.sync on Hopper reaches 0.63 of what wgmma does (Luo et al., "Dissecting the NVIDIA Hopper Architecture", 2025). L2: what
# products of the libraries need at their pace, which is more than microbenchmarks of reads alone show
A100 = Card("A100", 108, 1.41e9, 312e12, 156e12, 19.5e12, memory=2.0e12, cache=4.0e12, shared=163 << 10)
L40S = Card("L40S", 142, 2.52e9, 362e12, 183e12, 91.6e12, memory=0.864e12, cache=3.0e12, shared=99 << 10)
H100 = Card("H100", 132, 1.83e9, 620e12, 310e12, 67e12, memory=3.35e12, cache=7.5e12, shared=227 << 10, groups=989e12)


def card_of(arch: Arch) -> Card:
    """The large card of a kind: others are like it in what matters, which is proportions, and shared memory."""
    if arch in ((8, 6), (8, 9)) or arch[0] == 12:
        return L40S
    return A100 if arch < (9, 0) else H100
