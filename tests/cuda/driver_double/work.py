"""Work in streams, which happens only when somebody waits for it: what is not waited for is seen not to have happened.

order 'late': only what is waited for, and what it comes after. 'others': first what all other streams have, then that.
'in turns': a piece of each stream, then the next of each. 'at once': everything when it is given. 'random 7': some of it at
any time, by a seed. A program without a race gives the same results with each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

ORDERS = ("late", "others", "in turns", "at once")
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
        name, _, seed = order.partition("random ")
        assert order in ORDERS or not name, order
        self.order = order
        self._random = random.Random(int(seed)) if seed else None
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
        self._some()
        return work

    def _some(self) -> None:
        if self._random is not None and self._pending and self._random.random() < 0.3:
            self.finish(self._random.choice([*self._pending]))

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
        while self.order == "in turns" and not work.done:
            heads: dict[object, Work] = {}
            for w in self._pending:
                heads.setdefault(w.stream, w)
            for head in reversed(heads.values()):
                if all(b.done for b in head.after):
                    self.finish(head)
        self._some()
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
