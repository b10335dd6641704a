"""Runs a program on a device: inputs in, launches, nodes of the host between them, results out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cuda.runtime.arrays import LEGACY, DeviceArray, Given, Result
from graphc.backends.cuda.runtime.context import Context
from graphc.backends.cuda.runtime.device import Device, Stream
from graphc.backends.cuda.runtime.states import StateArray
from graphc.backends.cuda.runtime.turns import Turns
from graphc.backends.cuda.runtime.workspace import Workspace, Workspaces
from graphc.errors import InputError
from graphc.interpret import run_node
from graphc.lower.assembled import HostCall, JumpCall

if TYPE_CHECKING:
    from graphc.backends.cuda.runtime.bound import Bindings, Bound
    from graphc.lower.kernel import Kernel
    from graphc.lower.plans import CompiledPlan

ALIGNED = 16  # bytes, as kernels expect of arrays: others are copied


class Functions:
    """Kernels as the device has them, by index: made when they are called first."""

    def __init__(self, device: Device, kernels: Sequence[Kernel], cache: bool) -> None:
        self._device, self._kernels, self._cache = device, kernels, cache
        self._made: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        if index not in self._made:
            self._made[index] = self._device.function(self._kernels[index], self._cache)
        return self._made[index]


class Runner:
    """Runs a program; many threads may call it at once.

    constants: bytes of each. Results are on the device if an input is, or the array for one; states of a session don't count.
    """

    def __init__(
        self,
        plan: CompiledPlan,
        bindings: Bindings,
        functions: Functions,
        constants: Sequence[int],
        workspaces: Workspaces,
        changed: Sequence[int] = (),
    ) -> None:
        """changed: inputs that kernels write to, by their numbers: states that grow in place."""
        self.assembled, self.device, self.functions = plan.assembled, workspaces.device, functions
        self.changed = frozenset(self.assembled.inputs[i] for i in changed)
        self._bindings = bindings
        self._workspaces, self._number = workspaces, workspaces.number()
        with self.device.current():
            self.constants = workspaces.constants(plan.assembled.constants, constants)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            self._workspaces.forget(self._number)

    def run(
        self, arrays: Sequence[Any], out: Sequence[Any | None] | None = None, stream: Stream | None = None
    ) -> list[Any]:
        """Results in order, for inputs in order: of the host or the device, contiguous, of the bound dtypes and shapes (not
        checked here). stream: the caller's.

        Raises InputError where an operator reads or writes at a position that its data puts out of range.
        """
        with self.device.current():
            bound = self._bindings.of(arrays)
            workspace = self._workspaces.take(bound.nbytes)
            context = self._context(workspace, bound)
            one = Run(self, workspace, context, stream)
            try:
                results = one.run(arrays, out)
            except InputError:  # of the data: the work is done, and nothing failed
                self._workspaces.give_back(workspace)
                raise
            self._workspaces.give_back(workspace)
        return results

    def _context(self, workspace: Workspace, bound: Bound) -> Context:
        found = workspace.contexts.get(self._number)
        if found is None:
            found = workspace.contexts[self._number] = Context(self, workspace, bound)
        found.fit(bound)
        return found

    def measure(self, arrays: Sequence[Any], rounds: int) -> list[float]:
        """Median seconds of each step, one after the other; 0 for nodes of the host and jumps. Raises UnsupportedError."""
        with self.device.current():
            bound = self._bindings.of(arrays)
            workspace = self._workspaces.take(bound.nbytes)
            context = self._context(workspace, bound)
            one = Run(self, workspace, context, None)
            one.run(arrays, None)  # so that every step finds the values that it reads
            times: list[float] = []
            for part in bound.runs:
                if not isinstance(part, tuple):
                    times.append(0.0)
                    continue
                times += [self.device.seconds([launch], one.stream, rounds) for launch in context.launches(*part)]
            self._workspaces.give_back(workspace)
        return times

    @contextmanager
    def laid_out(self, pattern: np.ndarray) -> Iterator[tuple[Context, Stream]]:
        """The plan in memory, until the end, for launches to be timed: of no sizes that are open, with a pattern in the place of all
        values."""
        with self.device.current():
            bound = self._bindings.of(())
            workspace = self._workspaces.take(bound.nbytes)
            context, source = self._context(workspace, bound), self.device.host_array(pattern.nbytes)
            source[...] = pattern.view(np.uint8)
            places = [(workspace.arena.address, bound.nbytes)]
            for i, e in enumerate(bound.shapes):
                if context.native[i]:
                    nbytes = int(np.prod(e.shape, dtype=np.int64)) * e.dtype.itemsize
                    places.append((context.staged(i, nbytes)[0], nbytes))
            for address, nbytes in places:
                for at in range(0, nbytes, source.nbytes):
                    n = min(source.nbytes, nbytes - at)
                    self.device.copy(address + at, source.ctypes.data, n, workspace.stream)
            context.upload(workspace.stream)
            workspace.stream.wait()
            yield context, workspace.stream
            workspace.stream.wait()
            self._workspaces.give_back(workspace)


class Run:
    """One run of a program."""

    def __init__(self, runner: Runner, workspace: Workspace, context: Context, stream: Stream | None) -> None:
        self._a, self._bound, self._device = runner.assembled, context.bound, runner.device
        self._changed: dict[int, np.ndarray | None] = dict.fromkeys(runner.changed)  # where the host has them
        self._workspace, self._context = workspace, context
        self.stream = stream or workspace.stream
        self._own = stream is None
        self._live: dict[int, np.ndarray] = {}  # externs whose content the host has
        self._turns = Turns()

    def run(self, arrays: Sequence[Any], out: Sequence[Any | None] | None) -> list[Any]:
        workspace = self._workspace
        given = list(out) if out is not None else [None] * len(self._a.outputs)
        if workspace.busy:
            self.stream.follow(workspace.stream)
        try:
            results = self._run(arrays, given)
        finally:  # the caller's stream may end before this memory does
            workspace.stream.follow(self.stream)
        if self._own and any(isinstance(x, Given) for x in arrays):  # which callers may write to on the default stream
            self._device.stream_of(LEGACY).follow(workspace.stream)
        mine = [x for x in (*arrays, *given) if isinstance(x, DeviceArray)]
        # of an array that a caller gave for a result nothing says when he reads it, but on his own stream
        ordered = not self._own or all(g is None or isinstance(g, StateArray) for g in given)
        states = self._states(arrays, given)
        if ordered and (results or states) and all(isinstance(r, DeviceArray) for r in results):
            workspace.hold(mine)
        else:
            workspace.settle()
        for state in states:
            state.stream = workspace.stream
        return results

    def _states(self, arrays: Sequence[Any], given: Sequence[Any | None]) -> list[StateArray]:
        """Those that kernels have written to."""
        changed = [x for i, x in zip(self._a.inputs, arrays) if i in self._changed]
        return [x for x in (*changed, *given) if isinstance(x, StateArray)]

    def _run(self, arrays: Sequence[Any], given: Sequence[Any | None]) -> list[Any]:
        a = self._a
        on_device = any(isinstance(x, DeviceArray) and not isinstance(x, StateArray) for x in (*arrays, *given))
        for index, array in zip(a.inputs, arrays):
            self._take(index, array)
        results = [self._result(index, array, on_device) for index, array in zip(a.outputs, given)]
        for index in self._context.between:
            self._context.staged(index, self._nbytes(index))
        self._workspace.busy = True
        self._context.upload(self.stream)
        at = 0
        while at < len(self._bound.runs):
            part = self._bound.runs[at]
            at += 1
            if isinstance(part, HostCall):
                self._on_the_host(part)
            elif isinstance(part, JumpCall):
                at = part.to if self._jumps(part) else at
            else:
                self._context.run(*part, self.stream)
        self._give(results)
        self._give_changed()
        self._check()
        return results

    def _jumps(self, jump: JumpCall) -> bool:
        if jump.word is None:
            return self._turns.go_on(jump)
        answer = self._context.condition(jump, self.stream)
        if answer is None:
            self._check()
        return bool(answer)

    def _nbytes(self, index: int) -> int:
        e = self._bound.shapes[index]
        return int(np.prod(e.shape, dtype=np.int64)) * e.dtype.itemsize

    # --- in --------------------------------------------------------------------------------------------------------
    def _take(self, index: int, array: Any) -> None:
        if isinstance(array, DeviceArray):
            self.stream.follow(array.stream)
            if array.address % ALIGNED == 0 or not self._context.native[index]:
                self._context.point(index, array.address)
                return
            to, _ = self._context.staged(index, array.nbytes)
            self._device.copy(to, array.address, array.nbytes, self.stream)
            return
        if index in self._changed:
            self._changed[index] = array
        else:
            self._live[index] = array
        if self._context.native[index]:
            self._workspace.settle()
            to, host = self._context.staged(index, array.nbytes)
            host[...] = array.reshape(-1).view(np.uint8)
            self._device.copy(to, host.ctypes.data, array.nbytes, self.stream)

    # --- out -------------------------------------------------------------------------------------------------------
    def _result(self, index: int | np.ndarray, given: Any | None, on_device: bool) -> Any:
        """The array of a result; kernels write to it, or to what stands for it on the device."""
        if isinstance(index, np.ndarray):
            return given if given is not None else self._new(index.shape, index.dtype, on_device)
        e = self._bound.shapes[index]
        made = given if given is not None else self._new(e.shape, e.dtype, on_device)
        if isinstance(made, DeviceArray):
            if given is not None:
                self.stream.follow(made.stream)
            if made.address % ALIGNED == 0:
                self._context.point(index, made.address)
                return made
        if self._context.native[index]:
            self._context.staged(index, self._nbytes(index))
        return made

    def _new(self, shape: tuple[int, ...], dtype: np.dtype, on_device: bool) -> Any:
        if on_device and dtype.kind != "O":
            made = Result(self._device, shape, dtype, self.stream)
            made.stream = self._workspace.stream  # behind the run's
            return made
        return np.empty(shape, dtype)

    def _give(self, results: Sequence[Any]) -> None:
        waiting = []
        for index, result in zip(self._a.outputs, results):
            source = index if isinstance(index, np.ndarray) else self._live.get(index)
            if isinstance(result, DeviceArray):
                self._give_device(index, source, result)
            elif source is not None:
                result[...] = source
            else:
                assert isinstance(index, int)
                address, host = self._context.staged(index, result.nbytes)
                self._device.copy(host.ctypes.data, address, result.nbytes, self.stream)
                waiting.append((result, host))
        if waiting:
            self.stream.wait()
        for result, host in waiting:
            result[...] = host.view(result.dtype).reshape(result.shape)

    def _give_changed(self) -> None:
        """To the host, what kernels have written to its arrays' copies."""
        for index, array in self._changed.items():
            if array is not None:
                address, host = self._context.staged(index, array.nbytes)
                self._device.copy(host.ctypes.data, address, array.nbytes, self.stream)
                self.stream.wait()
                array.reshape(-1).view(np.uint8)[...] = host

    def _give_device(self, index: int | np.ndarray, source: np.ndarray | None, result: DeviceArray) -> None:
        if source is not None:
            source = np.ascontiguousarray(source)
            self._device.copy(result.address, source.ctypes.data, result.nbytes, self.stream)
            self.stream.wait()
        elif result.address % ALIGNED:
            assert isinstance(index, int)
            address, _ = self._context.staged(index, result.nbytes)
            self._device.copy(result.address, address, result.nbytes, self.stream)

    def _check(self) -> None:
        """Raises what a kernel has found wrong."""
        if not self._bound.checks:
            return
        words = self._context.reports(self.stream)
        failed = [(where, check) for where, check in self._bound.checks if words[where][0]]
        if failed:
            self._context.clear_reports()
            where, check = failed[0]
            raise check(int(words[where][0]) - 1, int(words[where][1]))

    # --- between ---------------------------------------------------------------------------------------------------
    def _on_the_host(self, call: HostCall) -> None:
        operands = [self._fetched(i) if isinstance(i, int) else i for i in call.inputs]
        for i, result in zip(call.outputs, run_node(call.node, operands)):
            e = self._bound.shapes[i]
            made = self._live[i] = np.empty(e.shape, e.dtype)
            made[...] = result
            if self._context.native[i]:
                self._device.copy(self._context.address(i), made.ctypes.data, made.nbytes, self.stream)
                self.stream.wait()

    def _fetched(self, index: int) -> np.ndarray:
        if index not in self._live:
            e = self._bound.shapes[index]
            made = np.empty(e.shape, e.dtype)
            self._device.copy(made.ctypes.data, self._context.address(index), made.nbytes, self.stream)
            self.stream.wait()
            self._live[index] = made
        return self._live[index]
