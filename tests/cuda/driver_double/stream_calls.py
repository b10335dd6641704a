"""Functions of streams and events."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from driver_double.abi import Refused, driver_function, handle, i32, to, u32
from driver_double.state import Context, Handle, State
from driver_double.work import LEGACY, PER_THREAD, Work

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
NOT_TIMED = 2  # CU_EVENT_DISABLE_TIMING


@dataclass(eq=False)
class Stream(Handle):
    blocking: bool  # together with the legacy default stream


@dataclass(frozen=True)
class DefaultStream:
    """thread: 0 for the legacy one, which all threads have."""

    context: Context
    thread: int
    blocking = True


@dataclass(eq=False)
class Event(Handle):
    timed: bool
    mark: Work | None = None  # the last record
    time: float = 0.0


def stream_of(d: State, number: int, anywhere: bool = False) -> Stream | DefaultStream:
    if number in (0, LEGACY, PER_THREAD):
        return DefaultStream(d.current(), threading.get_ident() if number == PER_THREAD else 0)
    return d.get(Stream, number, anywhere)


def give(
    d: State,
    number: int,
    what: str,
    act: Callable[[], None],
    touches: Iterable[tuple[int, int]] = (),
    after: Iterable[Work | None] = (),
    anywhere: bool = False,
) -> Work:
    """Work to the stream of this handle. anywhere: its context need not be the current one."""
    stream = stream_of(d, number, anywhere)
    before = [*after]
    if isinstance(stream, DefaultStream) and not stream.thread:
        others = [*d.all_of(Stream), *(s for s in d.queue.streams() if isinstance(s, DefaultStream))]
        before += [d.queue.last_of(s) for s in others if s.blocking and s.context is stream.context]
    elif stream.blocking:
        before.append(d.queue.last_of(DefaultStream(stream.context, 0)))

    def guarded() -> None:
        try:
            act()
        except Exception as error:
            d.broken.append(error)
            d.lose("UNKNOWN")

    return d.queue.give(Work(what, stream, guarded, tuple(touches)), before)


@driver_function(2000, to(handle), u32)
def cuStreamCreate(d: State, to: Any, flags: int) -> None:
    if flags not in (0, NON_BLOCKING):
        raise Refused("INVALID_VALUE", f"flags {flags}")
    to[0] = d.add(Stream(d.current(), flags != NON_BLOCKING))


@driver_function(4000, handle, context=False)
def cuStreamDestroy(d: State, number: int) -> None:
    d.drop(Stream, number)  # its work goes on


@driver_function(2000, handle)
def cuStreamSynchronize(d: State, number: int) -> None:
    stream = stream_of(d, number)
    if isinstance(stream, DefaultStream) and not stream.thread:
        d.queue.wait_for(give(d, number, "a wait", lambda: None))  # for those with which it is together
    else:
        d.queue.wait_for(d.queue.last_of(stream))


@driver_function(2000, handle)
def cuStreamQuery(d: State, number: int) -> None:
    last = d.queue.last_of(stream_of(d, number))
    if last is not None and not last.done:
        d.queue.step(last)
        raise Refused("NOT_READY")


@driver_function(3020, handle, handle, u32)
def cuStreamWaitEvent(d: State, number: int, event: int, flags: int) -> None:
    mark = d.get(Event, event, anywhere=True).mark
    give(d, number, "a wait for an event", lambda: None, after=[mark], anywhere=True)


@driver_function(9020, handle, to(handle), until=12_050)
def cuStreamGetCtx(d: State, number: int, context: Any) -> None:
    context[0] = stream_of(d, number).context.handle


@driver_function(10000, handle, to(i32))
def cuStreamIsCapturing(d: State, number: int, status: Any) -> None:
    stream_of(d, number)
    status[0] = 0


@driver_function(2000, to(handle), u32)
def cuEventCreate(d: State, to: Any, flags: int) -> None:
    assert flags & ~3 == 0, f"flags {flags} of an event"
    to[0] = d.add(Event(d.current(), not flags & NOT_TIMED))


@driver_function(2000, handle, handle)
def cuEventRecord(d: State, event: int, number: int) -> None:
    e = d.get(Event, event)

    def happen() -> None:
        e.time = d.queue.time

    e.mark = give(d, number, "an event", happen)


@driver_function(2000, handle)
def cuEventSynchronize(d: State, event: int) -> None:
    d.queue.wait_for(d.get(Event, event).mark)


@driver_function(2000, handle)
def cuEventQuery(d: State, event: int) -> None:
    mark = d.get(Event, event).mark
    if mark is not None and not mark.done:
        d.queue.step(mark)
        raise Refused("NOT_READY")


@driver_function(4000, handle, context=False)
def cuEventDestroy(d: State, event: int) -> None:
    d.drop(Event, event)


@driver_function(2000, to(ctypes.c_float), handle, handle)
def cuEventElapsedTime(d: State, milliseconds: Any, start: int, end: int) -> None:
    events = [d.get(Event, e) for e in (start, end)]
    for e in events:
        if not e.timed or e.mark is None:
            raise Refused("INVALID_HANDLE", "an event without a time")
        if not e.mark.done:
            raise Refused("NOT_READY")
    milliseconds[0] = (events[1].time - events[0].time) * 1e3
