"""What a GPU can do at most: arithmetic by its multiprocessors, clock and generation, memory as a copy in it finds it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphc.backends.cuda.codegen.figures import Card, card_of
from graphc.backends.cuda.runtime.device import DeviceMemory
from graphc.backends.cuda.runtime.gpu import Gpu
from graphc.dtypes import FLOAT32
from graphc.report import Roofline, StepInfo, format_bytes

COPIED = 1 << 28  # bytes, more than any L2 holds
WARMUP, ROUNDS = 2, 5
KILOHERTZ = 1e3


@dataclass(frozen=True)
class GpuRoofline(Roofline):
    """card: with the numbers of this GPU."""

    card: Card

    @property
    def float32(self) -> float:
        """Operations per second of the cores that are no tensor cores."""
        return self.peaks[FLOAT32.name]

    def flops_of(self, step: StepInfo) -> float:
        """Of the units that its kernel uses, as its algorithm names them (product/product_block.py)."""
        if "tensor cores" not in step.algorithm:
            return self.float32
        item, products = (4, 3 if "3xTF32" in step.algorithm else 1) if "TF32" in step.algorithm else (2, 1)
        return self.card.rate(item, "wgmma" in step.algorithm) / products

    def about(self, threads: int) -> str:
        c = self.card
        tensor = f"{c.half / 1e12:.3g} (float16), {c.tf32 / 1e12:.3g} (TF32) by mma.sync"
        tensor += f", {c.rate(2, True) / 1e12:.3g} and {c.rate(4, True) / 1e12:.3g} by wgmma" * (c.mma < 1)
        rates = ", ".join(f"{rate / 1e12:.3g} of {format_bytes(size)}" for size, rate in self.rates)
        return (
            f"{c.name}, {c.multiprocessors} multiprocessors at {c.clock / 1e9:.3g} GHz: TFLOP/s {self.float32 / 1e12:.3g} "
            f"(float32), {tensor}; TB/s: {rates}"
        )


def roofline(gpu: Gpu) -> GpuRoofline:
    """Takes some milliseconds, and half a gigabyte of the GPU's memory meanwhile."""
    known = card_of(gpu.arch)
    card = replace(
        known,
        name=gpu.name,
        multiprocessors=gpu.multiprocessors,
        clock=gpu.attribute("CLOCK_RATE") * KILOHERTZ,
        l2=gpu.attribute("L2_CACHE_SIZE"),
    )
    card = replace(card, cache=known.cache * card.cycles / known.cycles, memory=copy_rate(gpu, COPIED))
    return of_card(card, gpu.memory)


def of_card(card: Card, memory: int) -> GpuRoofline:
    """memory: bytes that it has."""
    return GpuRoofline(
        {FLOAT32.name: card.float32}, ((card.l2, max(card.cache, card.memory)), (memory, card.memory)), card
    )


def copy_rate(gpu: Gpu, nbytes: int) -> float:
    """Bytes per second, read and written, of the fastest of a few copies in the GPU's memory."""
    with gpu.current():
        stream, source, to = gpu.stream(), DeviceMemory(gpu, nbytes), DeviceMemory(gpu, nbytes)
        times = gpu.seconds_of(lambda: gpu.copy(to.address, source.address, nbytes, stream), stream, WARMUP + ROUNDS)
    return 2 * nbytes / max(min(times[WARMUP:]), 1e-9)
