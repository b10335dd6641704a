"""A plan in a workspace: its table with addresses, on the host and on the device; the graphs of its launches."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING
from weakref import proxy

import numpy as np

from graphc.backends.cuda.runtime.device import DeviceMemory, Launch, LaunchGraph, Mark, Stream
from graphc.lower.assembled import JumpCall

if TYPE_CHECKING:
    from graphc.backends.cuda.runtime.bound import Bound
    from graphc.backends.cuda.runtime.run import Runner
    from graphc.backends.cuda.runtime.workspace import Workspace

WORD = 8
AHEAD = 8  # tables that may be on their way at one time


class Context:
    """words: the table as it is to be; `upload` brings it to the device where it has changed."""

    def __init__(self, runner: Runner, workspace: Workspace, bound: Bound) -> None:
        a, device = runner.assembled, runner.device
        self._device = device
        self._workspace: Workspace = proxy(workspace)  # which has this: a cycle would keep the device's memory
        self._functions = runner.functions
        self.words = np.append(a.words, 0)  # a table has bytes
        self._uploads: deque[tuple[np.ndarray, Mark]] = deque()
        self._table = DeviceMemory(device, self.words.nbytes)
        self._places = np.array([c.address for c in runner.constants] or [0], np.int64)
        self._mine = [np.flatnonzero(a.extern_slots.what == i) for i in range(len(a.externs))]
        self.native = [len(m) > 0 for m in self._mine]  # externs that kernels touch
        ends = {*a.inputs, *(i for i in a.outputs if isinstance(i, int))}
        self.between = [i for i, native in enumerate(self.native) if native and i not in ends]  # of nodes of the host
        self._staging: dict[int, tuple[DeviceMemory, np.ndarray]] = {}
        self._parts = [r for r in a.runs if isinstance(r, tuple)]
        self._answers: dict[JumpCall, np.ndarray] = {}
        self._graphs: dict[int, LaunchGraph] = {}
        self._bind(bound)

    # --- sizes -----------------------------------------------------------------------------------------------------
    def fit(self, bound: Bound) -> None:
        """To other sizes, perhaps."""
        if bound is not self.bound:
            self._bind(bound)
            for first, count in self._parts:
                if first in self._graphs:
                    self._graphs[first].change(self.launches(first, count))

    def _bind(self, bound: Bound) -> None:
        """Addresses of callers' arrays are still to come."""
        self.bound = bound
        self.words[:-1] = bound.words
        self.words[bound.arena.at] = self._workspace.arena.address + bound.arena.offset
        self.words[bound.constants.at] = self._places[bound.constants.what] + bound.constants.offset
        self._slots = [(bound.externs.at[m], bound.externs.offset[m]) for m in self._mine]
        self._addresses = [0] * len(self._mine)
        self._dirty = True

    # --- arrays of callers -----------------------------------------------------------------------------------------
    def point(self, index: int, address: int) -> None:
        """Extern `index` lies there."""
        if self._addresses[index] != address:
            at, offset = self._slots[index]
            self.words[at] = address + offset
            self._addresses[index], self._dirty = address, True

    def address(self, index: int) -> int:
        """Of extern `index`."""
        return self._addresses[index]

    def staged(self, index: int, nbytes: int) -> tuple[int, np.ndarray]:
        """Memory for extern `index` on the device, which it then points to, and on the host."""
        if index not in self._staging or self._staging[index][0].nbytes < nbytes:
            self._workspace.settle()
            self._staging[index] = DeviceMemory(self._device, nbytes), self._device.host_array(nbytes)
        memory, host = self._staging[index]
        self.point(index, memory.address)
        return memory.address, host[:nbytes]

    # --- the table -------------------------------------------------------------------------------------------------
    def upload(self, stream: Stream) -> None:
        if self._dirty:
            held = self._idle()
            held[...] = self.words
            self._device.copy(self._table.address, held.ctypes.data, held.nbytes, stream)
            self._uploads.append((held, stream.mark()))
            self._dirty = False

    def _idle(self) -> np.ndarray:
        """Words that no upload reads any more."""
        if self._uploads and (len(self._uploads) >= AHEAD or self._uploads[0][1].reached()):
            held, mark = self._uploads.popleft()
            mark.wait()
            return held
        return self._device.host_array(self.words.nbytes).view(np.int64)

    def condition(self, jump: JumpCall, stream: Stream) -> bool | None:
        """Does it say that the program jumps, when the stream has done what it was given? None where a step that the program
        would go back to has found something wrong: a loop need not end then."""
        if jump not in self._answers:
            self._answers[jump] = self._device.host_array(WORD * (1 + len(jump.reports))).view(np.int64)
        answer = self._answers[jump]
        assert jump.word is not None
        self._device.copy(answer.ctypes.data, int(self.words[jump.word]), 1, stream)
        for i, word in enumerate(jump.reports):
            self._device.copy(answer[1 + i :].ctypes.data, self._table.address + WORD * word, WORD, stream)
        stream.wait()
        return None if answer[1:].any() else (answer.view(np.uint8)[0] != 0) == (jump.when != 0)

    def reports(self, stream: Stream) -> np.ndarray:
        """The table as kernels have left it, when the stream's work is done."""
        found = np.empty_like(self.words)
        self._device.copy(found.ctypes.data, self._table.address, found.nbytes, stream)
        stream.wait()
        return found

    def clear_reports(self) -> None:
        """Before the next run."""
        self._dirty = True

    # --- launches --------------------------------------------------------------------------------------------------
    def launches(self, first: int, count: int) -> list[Launch]:
        start = self._table.address
        return [
            Launch(self._functions[kernel], max(grid, 0), start + WORD * at)
            for kernel, at, grid in self.bound.launches[first : first + count].tolist()
        ]

    def run(self, first: int, count: int, stream: Stream) -> None:
        """Native steps, of a part of the program."""
        if first not in self._graphs:
            self._graphs[first] = self._device.graph(self.launches(first, count))
        self._graphs[first].run(stream)
