"""What GPUs can do, for models of cost. Of the data sheets, where nothing else is said; nothing here was measured by graphc."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """multiprocessors; clock in Hz; half, tf32: operations per second of tensor cores by mma.sync; float32: of CUDA cores; memory,
    cache: bytes per second, the second of L2."""

    name: str
    multiprocessors: int
    clock: float
    half: float
    tf32: float
    float32: float
    memory: float
    cache: float

    def __str__(self) -> str:
        return self.name


# L2 bandwidth as microbenchmarks have it (Luo et al., "Dissecting the NVIDIA Hopper Architecture", 2025); so is mma.sync on
# Hopper, which reaches 0.63 of what wgmma does
A100 = Card("A100", 108, 1.41e9, half=312e12, tf32=156e12, float32=19.5e12, memory=2.0e12, cache=4.0e12)
H100 = Card("H100", 132, 1.83e9, half=620e12, tf32=310e12, float32=67e12, memory=3.35e12, cache=5.5e12)


def card_of(arch: tuple[int, int]) -> Card:
    """The large card of a generation: others are like it in what matters, which is proportions."""
    return A100 if arch < (9, 0) else H100
