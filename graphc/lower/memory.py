"""Static memory planning: buffers with lifetimes -> offsets in one arena. Pure: no graph, no backend, no clock.

Placing intervals of given length in the least memory is NP-hard ("dynamic storage allocation", Garey & Johnson SR2),
but networks are kind instances. Several greedy orders (by size and by breadth: Pisarchyk & Lee, "Efficient Memory
Management for Deep Neural Net Inference", 2020) are tried and the best is kept; one that is not at the lower bound is
improved by "squeaky wheel" search: the buffer that did not fit is placed earlier in the next try.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from string import ascii_letters, digits

from graphc.report import MemoryReport, format_bytes


@dataclass(frozen=True)
class Lifetime:
    """Bytes that must keep their value from step `first` to step `last`, both included."""

    name: str
    nbytes: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.nbytes < 0 or self.last < self.first:
            raise ValueError(f"buffer '{self.name}' has {self.nbytes} bytes from step {self.first} to step {self.last}")


@dataclass(frozen=True)
class ArenaPlan:
    """Where each buffer lies (`offsets`, in the order of the buffers given) in `nbytes` of memory.

    lower_bound  largest sum of (aligned) bytes alive at one step: no plan can be smaller
    total        sum of all (aligned) bytes: the memory without any reuse
    """

    offsets: tuple[int, ...]
    nbytes: int
    lower_bound: int
    total: int

    def __str__(self) -> str:
        ratio = self.nbytes / self.lower_bound if self.lower_bound else 1.0
        return (
            f"arena {format_bytes(self.nbytes)} = {ratio:.3f} x the lower bound of {format_bytes(self.lower_bound)}"
            f" (all buffers: {format_bytes(self.total)})"
        )


def plan(buffers: Sequence[Lifetime], alignment: int = 64, effort: int = 1_000_000, reuse: bool = True) -> ArenaPlan:
    """Offsets, multiples of `alignment`, such that no two buffers alive at one step share a byte.

    lower_bound <= arena <= total. Deterministic. `effort` bounds the search beyond the greedy orders, in pairs of
    overlapping buffers looked at (30 to 100 ns each); it is spent only where these miss the lower bound. Without `reuse`, no
    two buffers share a byte at all.
    """
    problem = _Problem(buffers, alignment)
    best = problem.solve(effort) if reuse else problem.stack()
    offsets = [0] * len(buffers)
    for i, offset in zip(problem.index, best):
        offsets[i] = offset
    end = max((o + s for o, s in zip(best, problem.size)), default=0)
    return ArenaPlan(tuple(offsets), end, problem.lower_bound, sum(problem.size))


def measured(report: MemoryReport) -> MemoryReport:
    """The report with the sums that follow from its intervals: of a plan whose sizes were told afterwards."""
    lifetimes = [Lifetime(i.name, i.nbytes, i.first, i.last) for i in report.intervals]
    problem = _Problem(lifetimes, 64)
    end = max((-(-(i.offset + i.nbytes) // 64) * 64 for i in report.intervals), default=0)
    return replace(report, arena=end, lower_bound=problem.lower_bound, total=sum(problem.size))


class _Problem:
    """The buffers that have bytes, sizes rounded up, and who overlaps whom in time."""

    def __init__(self, buffers: Sequence[Lifetime], alignment: int) -> None:
        self.index = [i for i, b in enumerate(buffers) if b.nbytes]
        self.size = [-(-buffers[i].nbytes // alignment) * alignment for i in self.index]
        self.first = [buffers[i].first for i in self.index]
        self.last = [buffers[i].last for i in self.index]
        self.alignment = alignment
        self.overlaps, self.breadth = self._sweep()
        self.lower_bound = max(self.breadth, default=0)

    def _sweep(self) -> tuple[list[list[int]], list[int]]:
        """For each buffer: those alive with it, and the most bytes alive during its life when a buffer starts.

        The bytes alive grow only where a buffer starts, so the largest of these is the peak.
        """
        overlaps: list[list[int]] = [[] for _ in self.size]
        breadth = list(self.size)
        alive: list[int] = []
        for i in sorted(range(len(self.size)), key=self.first.__getitem__):
            alive = [j for j in alive if self.last[j] >= self.first[i]]
            overlaps[i].extend(alive)
            for j in alive:
                overlaps[j].append(i)
            alive.append(i)
            bytes_alive = sum(self.size[j] for j in alive)
            for j in alive:
                breadth[j] = max(breadth[j], bytes_alive)
        return overlaps, breadth

    def solve(self, effort: int) -> list[int]:
        best, best_end = self.stack(), sum(self.size)
        starts: list[tuple[int, int, list[int]]] = []
        for order in self._orders():
            for best_fit in (True, False):
                if best_end == self.lower_bound:
                    return best
                offsets, _ = self._place(order, best_fit, limit=None)
                end = max(o + s for o, s in zip(offsets, self.size))
                starts.append((end, len(starts), order))
                if end < best_end:
                    best, best_end = offsets, end
        return self._search(best, best_end, [order for _, _, order in sorted(starts)[:4]], effort)

    def stack(self) -> list[int]:
        """No reuse at all."""
        return list(accumulate(self.size, initial=0))[:-1]

    def _orders(self) -> Iterator[list[int]]:
        size, first, last, breadth = self.size, self.first, self.last, self.breadth
        n = range(len(size))
        yield sorted(n, key=lambda i: (-size[i], first[i]))
        yield sorted(n, key=lambda i: (-breadth[i], -size[i], first[i]))
        yield sorted(n, key=lambda i: (first[i] - last[i], -size[i]))
        yield sorted(n, key=lambda i: ((first[i] - last[i] - 1) * size[i], first[i]))
        yield sorted(n, key=lambda i: (first[i], -size[i]))
        yield sorted(n, key=lambda i: (-last[i], -size[i]))

    def _place(self, order: Sequence[int], best_fit: bool, limit: int | None) -> tuple[list[int], int | None]:
        """Place in this order, each in the tightest (or the lowest) gap. Stops at the first that ends above `limit`."""
        size = self.size
        offsets = [-1] * len(size)
        for i in order:
            need, cursor, found, slack = size[i], 0, -1, None
            for start, end in sorted([(offsets[j], offsets[j] + size[j]) for j in self.overlaps[i] if offsets[j] >= 0]):
                gap = start - cursor
                if gap >= need and (slack is None or gap < slack):
                    found, slack = cursor, gap
                    if not best_fit or gap == need:
                        break
                if end > cursor:
                    cursor = end
            offsets[i] = found if slack is not None else cursor
            if limit is not None and offsets[i] + need > limit:
                return offsets, i
        return offsets, None

    def _search(self, best: list[int], best_end: int, starts: list[list[int]], effort: int) -> list[int]:
        """Squeaky wheel: ask for less than the best so far; what does not fit moves ahead of others in the order."""
        rng = random.Random(0)
        cost = sum(map(len, self.overlaps)) + len(self.size)
        orders = [list(order) for order in starts]
        for turn in range(effort // cost):
            if best_end == self.lower_bound:
                break
            order = orders[turn % len(orders)]
            offsets, misfit = self._place(order, bool(rng.getrandbits(1)), best_end - self.alignment)
            if misfit is None:
                best, best_end = offsets, max(o + s for o, s in zip(offsets, self.size))
                continue
            position = order.index(misfit)
            order.pop(position)
            order.insert(rng.randrange(position + 1), misfit)
        return best


def draw(buffers: Sequence[Lifetime], arena: ArenaPlan, width: int = 96, height: int = 24, legend: int = 12) -> str:
    """The arena as text: steps to the right, offsets upwards, a letter per buffer, '.' free; then the largest.

    Where several steps or buffers fall into one character, the one in its middle is shown.
    """
    if not arena.nbytes:
        return f"{arena}\n"
    names = ascii_letters + digits
    start, end = min(b.first for b in buffers), max(b.last for b in buffers) + 1
    width, height = min(width, end - start), min(height, -(-arena.nbytes // 64))
    columns = [start + (2 * c + 1) * (end - start) // (2 * width) for c in range(width)]
    rows = [(2 * r + 1) * arena.nbytes // (2 * height) for r in range(height)]
    letter = {i: names[k % len(names)] for k, i in enumerate(i for i, b in enumerate(buffers) if b.nbytes)}
    lines = [str(arena)]
    for middle in reversed(rows):
        here = [i for i in letter if arena.offsets[i] <= middle < arena.offsets[i] + buffers[i].nbytes]
        cells = (next((letter[i] for i in here if buffers[i].first <= c <= buffers[i].last), ".") for c in columns)
        lines.append(f"{format_bytes(middle):>10} |{''.join(cells)}")
    lines.append(f"{'':>10} +{'-' * width} steps {start} to {end - 1}")
    for i in sorted(letter, key=lambda i: -buffers[i].nbytes)[:legend]:
        b = buffers[i]
        lines.append(
            f"  {letter[i]}  {format_bytes(b.nbytes):>10} at {arena.offsets[i]:>11}, steps {b.first}-{b.last}: {b.name}"
        )
    return "\n".join(lines) + "\n"
