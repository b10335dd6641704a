"""nested/nested_driver.py."""

from __future__ import annotations

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# steps, shifts, words: how many; steps_at, shifts_at, words_at: indices of words of this block. scratch: of each thread, `stride`
# bytes apart: first its copy of the inner words, then the inner steps' memory
NESTED = Block("samples steps shifts words scratch stride steps_at shifts_at words_at")
INNER_STEP = Block("driver block")  # block: the first of its inner words
# an inner word that is an address, its bytes from sample to sample, and 1 where it lies in scratch
SHIFT = Block("word per_sample in_scratch")


class Nested(Kernel, name="nested"):
    """A program for each sample of a batch."""
