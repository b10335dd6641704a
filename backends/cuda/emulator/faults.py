"""What a kernel can do wrong, in words: the codes that the runtime reports, and the error that a launch raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

(
    DEADLOCK,
    DIVERGED,
    OTHER_BARRIER,
    ENDED,
    OUT_OF_BOUNDS,
    MISALIGNED,
    READ_AFTER_WRITE,
    WRITE_AFTER_WRITE,
    WRITE_AFTER_READ,
    NOT_WRITTEN,
    STACK_OVERFLOW,
    TOO_MANY_COPIES,
    DESCRIPTOR,
    NO_SUCH_LANE,
    NOT_IN_MASK,
    READ_ONLY,
    DIVIDED_BY_ZERO,
    TRAP,
    ALONE,
    NOBODY,
) = range(1, 21)

REASONS = {
    DEADLOCK: "deadlock: some threads wait at a barrier or a warp operation that the others never reach",
    DIVERGED: "warp divergence: lanes of one mask meet at different operations, or give different masks",
    OTHER_BARRIER: "barrier divergence: threads of the block meet at different barriers",
    ENDED: "barrier divergence: a thread ended while others wait at a barrier",
    OUT_OF_BOUNDS: "out of bounds",
    MISALIGNED: "misaligned access",
    READ_AFTER_WRITE: "race: reads what thread {other} writes, no barrier between",
    WRITE_AFTER_WRITE: "race: writes what thread {other} writes, no barrier between",
    WRITE_AFTER_READ: "race: writes what thread {other} reads, no barrier between",
    NOT_WRITTEN: "reads shared memory that no thread of the block has written yet",
    STACK_OVERFLOW: "a thread's local variables take more than its stack",
    TOO_MANY_COPIES: "more asynchronous copies in flight than are emulated",
    DESCRIPTOR: "a matrix descriptor that is not emulated: K-major rows with the 128-byte swizzle only",
    NO_SUCH_LANE: "shuffle from lane {other}, which is not in the mask",
    NOT_IN_MASK: "a lane takes part in a warp operation whose mask is without it",
    READ_ONLY: "writes memory that it may only read",
    DIVIDED_BY_ZERO: "an integer divided by zero",
    TRAP: "trap",
    ALONE: "waits for another block, and the blocks of this kernel need not run at once",
    NOBODY: "deadlock: every block waits for another one, for what none of them writes",
}
WITH_ADDRESS = {
    OUT_OF_BOUNDS,
    MISALIGNED,
    READ_AFTER_WRITE,
    WRITE_AFTER_WRITE,
    WRITE_AFTER_READ,
    NOT_WRITTEN,
    READ_ONLY,
}


class Range(NamedTuple):
    """Global memory that a kernel may touch: addresses first … end - 1. Races are tracked by cells of `item` bytes.

    Ranges should not overlap: the first that holds an address counts.
    """

    first: int
    end: int
    item: int
    name: str
    writable: bool = True


class Report(NamedTuple):
    """What the runtime wrote down of a fault."""

    code: int
    thread: int
    block: int
    line: int
    address: int
    other: int


class KernelFault(RuntimeError):
    """A kernel did what no kernel may do, or what the emulator can't follow.

    code     which of this module's
    reason   it in words
    line     of the kernel's source, 0 where the kernel was compiled without lines
    thread   and block that were found at it
    address  of the memory, where there is one
    """

    def __init__(self, kernel: str, report: Report, memory: Sequence[Range] = (), shared: range = range(0)) -> None:
        self.kernel, self.code = kernel, report.code
        self.line, self.thread, self.block, self.address = report.line, report.thread, report.block, report.address
        self.reason = REASONS[report.code].format(other=report.other)
        if report.code in WITH_ADDRESS:
            self.reason += f": {place(report.address, memory, shared)}"
        at = f"{kernel}:{self.line}" if self.line else kernel
        super().__init__(f"{at}: {self.reason} (thread {self.thread}, block {self.block})")


def place(address: int, memory: Sequence[Range], shared: range) -> str:
    """Where an address lies, by the nearest memory that has a name."""
    parts = [(r.first, r.end, f"'{r.name}'") for r in memory]
    if len(shared):
        parts.append((shared.start, shared.stop, "shared memory"))
    if not parts:
        return f"address {address:#x}"

    def distance(part: tuple[int, int, str]) -> int:
        first, end, _ = part
        return max(first - address, address - (end - 1), 0)

    first, end, name = min(parts, key=distance)
    if address < first:
        where = f"{first - address} bytes before {name}"
    elif address >= end:
        where = f"{address - end} bytes behind the end of {name}"
    else:
        where = f"byte {address - first} of {name}"
    return f"address {address:#x}, {where} ({end - first} bytes)"
