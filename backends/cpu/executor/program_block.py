"""A program as threads walk it (executor/executor_driver.py) and as Python enters it (executor/entry_driver.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

PROGRAM_STEP = Block("driver block shared")  # a row of the table of steps; shared: do all threads take part?

# steps, count: the program. pool: address of the word that holds a pool's control block or 0; 0 where the program runs on its
# caller alone. nth, spins, submit: see executor/executor_driver.py. save_thread, restore_thread, incref: of Python's C interface. array:
# the type of arrays. checked: inputs that are looked at; arguments, words, reports: how many there are. done, refused, failed:
# what is returned after a run, for inputs that are not as bound, after a report.
ENTRY = Block(
    "steps count pool nth spins submit save_thread restore_thread incref array checked arguments words reports done refused "
    "failed"
)

# code, tables: of the program on registers (graphc/lower/binding.py); guards, count: its instructions up to the last guard, and all
# that running needs. targets: rows of the address of a word, a register, and what is added to it; choices: rows of the address of a
# word, a register, and the first among `kernels`, addresses, of those among which the register chooses. arena: the register of the
# bytes that are needed; capacity: those that are there.
BIND = Block("code guards count tables targets target_count choices choice_count kernels arena capacity")
BOUND, TOO_SMALL = 0, -1


# A program of a C library, and where its tables are. allocate, release: aligned_alloc and free. slots: of workspaces that no run uses.
# words, word_count: the table without addresses. steps: rows of a block's word and whether threads share it, beside drivers;
# kernels: rows of a word and an address; constants: rows of a word, the number of a segment, an offset; segments: their addresses;
# places: rows of a word and an offset into the arena; ends: rows of a word, the number of an argument, an offset; reports: words.
LIBRARY = Block(
    "allocate release slots slot_count words word_count arena_bytes drivers steps step_count kernels kernel_words kernel_count constants "
    "constant_count segments places place_count ends end_count reports report_count"
)
DONE, NO_MEMORY, OUT_OF_RANGE, NO_CPU = range(4)  # what its function returns


class Execute(Kernel, name="execute"):
    """A program's steps, on the thread that calls."""


class Work(Kernel, name="work"):
    """What the workers of a pool do."""


class Submit(Kernel, name="submit"):
    """A program's steps, on a pool."""


class Entry(Kernel, name="entry"):
    """A program as Python enters it."""

    block: ClassVar[Block] = ENTRY


class Bind(Kernel, name="bind"):
    """A program is bound to sizes."""

    block: ClassVar[Block] = BIND


@dataclass(frozen=True, eq=False)
class PeakProduct(Kernel, name="peak_product"):
    """An inner step of register tiles from the nearest cache, for the roofline. dot: as in `product_tile`."""

    dot: str


class PeakRead(Kernel, name="peak_read"):
    """Reads of memory, for the roofline."""


class RunLibrary(Kernel, name="run_library"):
    """A program as C calls it, in a workspace of the run's own."""

    block: ClassVar[Block] = LIBRARY
