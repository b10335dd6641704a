"""Work in streams, which happens only when somebody waits for it: what is not waited for is seen not to have happened.

order 'late': only what is waited for, and what it comes after. 'others': first what all other streams have, then that.
'at once': everything when it is given. A program without a race gives the same results with each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

ORDERS = ("late", "others", "at once")
LEGACY, PER_THREAD = 1, 2  # handles of the default streams


@dataclass(eq=False)
class Work:
    """act: what happens. touches: memory, first and end of each piece."""

    what: str
    stream: object
    act: Callable[[], None]
    touches: tuple[tuple[int, int], ...] = ()
    after: list[Work] = field(default_factory=list)
    done: bool = False


class Queue:
    def __init__(self, order: str) -> None:
        assert order in ORDERS, order
        self.order = order
        self.time = 0.0  # seconds
        self._last: dict[object, Work] = {}  # of each stream
        self._pending: dict[Work, None] = {}

    def give(self, work: Work, after: Iterable[Work | None] = ()) -> Work:
        """To the end of its stream."""
        before = [self._last.get(work.stream), *after]
        work.after = [w for w in before if w is not None and not w.done]
        self._last[work.stream] = work
        self._pending[work] = None
        if self.order == "at once":
            self.finish(work)
        return work

    def last_of(self, stream: object) -> Work | None:
        return self._last.get(stream)

    def streams(self) -> list[object]:
        return [*self._last]

    def step(self, work: Work) -> None:
        """One piece, of what there is to do before it and itself."""
        while work.after:
            waiting = [w for w in work.after if not w.done]
            if not waiting:
                break
            work = waiting[0]
        self.finish(work)

    def pending(self) -> Iterator[Work]:
        return iter(list(self._pending))

    def wait_for(self, work: Work | None) -> None:
        if work is None or work.done:
            return
        if self.order == "others":
            for stream, last in reversed(list(self._last.items())):
                if stream is not work.stream:
                    self.finish(last)
        self.finish(work)

    def finish(self, work: Work) -> None:
        """It, and what it comes after."""
        stack = [work]
        while stack:
            w = stack[-1]
            missing = [b for b in w.after if not b.done]
            if missing and not w.done:
                stack += missing
                continue
            stack.pop()
            if not w.done:
                w.done = True
                w.after.clear()
                self._pending.pop(w, None)
                self.time += 1e-6
                w.act()

    def finish_all(self) -> None:
        for work in self.pending():
            self.finish(work)

    def abandon(self) -> None:
        for work in self.pending():
            work.done = True
        self._pending.clear()
