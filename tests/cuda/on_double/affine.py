"""A kernel of the tests: y = x * by + 1 of int64, whose result depends on the order of launches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphc.backends.cuda.codegen.device import load, store, word
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.runtime.device import Launch, Stream
from graphc.backends.cuda.runtime.gpu import Gpu
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

AFFINE = Block("grid count y x by")


@dataclass(frozen=True, eq=False)
class Affine(Kernel, name="affine_of_tests"):
    """shared: bytes of dynamic shared memory, which it has and does not use. together: are its blocks to run at once?"""

    block: ClassVar[Block] = AFFINE
    threads: int = 32
    shared: int = 0
    together: bool = False


@makes(Affine)
def affine(threads: int, shared: int, together: bool) -> Code:
    COUNT, Y, X, BY = AFFINE["count y x by"]
    fetch, put = load("int64"), store("int64")

    def affine(a):
        i = thread_number(threads)
        if i < word(a, COUNT):
            put(word(a, Y) + 8 * i, fetch(word(a, X) + 8 * i) * word(a, BY) + 1)

    return Code(affine, threads, shared, together=together)


class OnGpu:
    """An array of int64 on the GPU, and launches of `Affine` on it, in place. The GPU is to be current."""

    def __init__(self, gpu: Gpu, stream: Stream, values: np.ndarray, kernel: Kernel | None = None) -> None:
        self.gpu, self.stream, self.count = gpu, stream, len(values)
        self.function = gpu.function(kernel or Affine(), cache=True)
        self.at = gpu.allocate(values.nbytes)
        self.blocks: list[int] = []
        gpu.copy(self.at, values.ctypes.data, values.nbytes, stream)

    def launch(self, by: int, count: int | None = None) -> Launch:
        count = self.count if count is None else count
        grid = -(-count // 32)
        words = np.array(AFFINE(grid=grid, count=count, y=self.at, x=self.at, by=by), np.int64)
        self.blocks.append(self.gpu.allocate(words.nbytes))
        self.gpu.copy(self.blocks[-1], words.ctypes.data, words.nbytes, self.stream)
        return Launch(self.function, grid, self.blocks[-1])

    def values(self, stream: Stream | None = None) -> np.ndarray:
        found = np.empty(self.count, np.int64)
        self.gpu.copy(found.ctypes.data, self.at, found.nbytes, stream or self.stream)
        (stream or self.stream).wait()
        return found

    def free(self) -> None:
        for at in [self.at, *self.blocks]:
            self.gpu.free(at)
