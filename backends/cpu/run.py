"""An assembled program with addresses: memory for each run at a time, native steps, host calls between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from backends.cpu.program import Assembled, Extern, HostCall, aligned_empty

if TYPE_CHECKING:
    from backends.cpu.threads import Executor


STAGED_BYTES = 16384  # of an input or result that is copied rather than pointed at
ROW_BYTES = 24  # of the executor's table
SHARED_STEP = 3_000  # nanoseconds from which threads help: the way of a cache line
SHARED_PROGRAM = 30_000  # the same of all shared steps: waking a sleeper


def shared(nanoseconds: np.ndarray) -> np.ndarray:
    """Which steps the executor's threads share, by what they take."""
    long = nanoseconds >= SHARED_STEP
    return long & (nanoseconds[long].sum() >= SHARED_PROGRAM)


class Instance:
    """Memory and addresses for one run at a time.

    `staged`: arrays of its own for the small externs. Copying a few values in and out is cheaper than asking NumPy for the
    address of an array and pointing the program there.
    """

    def __init__(self, runner: Runner) -> None:
        a = runner.assembled
        self.table = aligned_empty(runner.table.nbytes).view(np.int64)
        self.table[:] = runner.table
        self._externs = runner.extern_slots
        self._arena = aligned_empty(max(a.arena, 1))
        self.table[a.arena_slots.at] = a.arena_slots.offset + self._arena.ctypes.data
        self.steps = np.stack([runner.drivers, self.table.ctypes.data + 8 * a.blocks[:, 1], runner.shared], 1)
        self.steps_address = self.steps.ctypes.data
        self._bound = [0] * len(a.externs)
        self.staged: list[np.ndarray | None] = [None] * len(a.externs)
        for index in runner.small:
            self.staged[index] = np.empty(a.externs[index].shape, a.externs[index].dtype)
            self.bind(index, self.staged[index].ctypes.data)
        self.inputs = [self.staged[index] for index in a.inputs]
        self.outputs = [self.staged[index] if isinstance(index, int) else index for index in a.outputs]
        self._words = memoryview(self.table)  # reads one word in a tenth of the time that NumPy takes
        self._reports = [i for words, _ in a.checks for i in range(words.start, words.stop, 2)]

    def bind(self, index: int, address: int) -> None:
        """Point extern `index` at memory."""
        if self._bound[index] != address:
            at, offset = self._externs[index]
            if len(at) == 1:
                self.table[at[0]] = address + int(offset[0])
            elif len(at):
                self.table[at] = offset + address
            self._bound[index] = address

    def failure(self, checks: Sequence) -> Exception | None:
        """The error for the first position out of range that a driver has met since the last call."""
        words = self._words
        for i in self._reports:
            if words[i]:
                break
        else:
            return None
        found = None
        for words, error in checks:
            reports = self.table[words].reshape(-1, 2)
            bad = reports[reports[:, 0] > 0]
            if len(bad):
                number, value = bad[bad[:, 0].argmin()]
                found = found or error(int(number) - 1, int(value))
                self.table[words] = 0
        return found


class Runner:
    """Runs a program; many threads may call it at once.

    kernels: addresses by number. results: shape and dtype of each output.
    """

    def __init__(
        self,
        assembled: Assembled,
        kernels: Sequence[int],
        executor: Executor,
        results: Sequence[tuple[tuple[int, ...], np.dtype]],
    ) -> None:
        a = self.assembled = assembled
        self._executor, self._results = executor, results
        addresses = np.array([*kernels, 0], np.int64)
        self.drivers = addresses[a.blocks[:, 0]]
        self.shared = shared(a.blocks[:, 2])
        places = np.array([*(c.address for c in a.constants), 0], np.int64)
        self.table = a.words.copy()
        self.table[a.kernel_slots.at] = addresses[a.kernel_slots.what]
        self.table[a.constant_slots.at] = places[a.constant_slots.what] + a.constant_slots.offset
        mine = [a.extern_slots.what == i for i in range(len(a.externs))]
        self.extern_slots = [(a.extern_slots.at[m], a.extern_slots.offset[m]) for m in mine]
        self._host = any(isinstance(r, HostCall) for r in a.runs)
        small = [i for i, e in enumerate(a.externs) if e.dtype != object and _nbytes(e) <= STAGED_BYTES]
        self.small = [] if self._host else small  # host steps look at the caller's arrays
        ends = {*a.inputs, *(i for i in a.outputs if isinstance(i, int))}
        self._copies = not self._host and ends <= set(self.small)  # every input and result is copied
        self._count, self._checks = len(self.drivers), a.checks
        self._free: list[Instance] = []

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        """Results in order, for inputs in order: contiguous arrays of the bound dtypes and shapes (not checked here).

        Raises InputError where an operator reads or writes at a position that its data puts out of range.
        """
        if self._copies and out is None:
            return self._run_small(arrays)
        instance = self._instance()
        results = self._bind(instance, arrays, out)
        if not self._host:
            self._executor.run(instance.steps_address, len(instance.steps))
        else:
            self._run_with_host(instance, self._live(instance, arrays, results))
        failure = instance.failure(self.assembled.checks) if self.assembled.checks else None
        if self.small:
            results = self._unstaged(instance, results, out)
        self._free.append(instance)
        if failure is not None:
            raise failure
        return results

    def _run_small(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same without pointing the program at anything."""
        free = self._free
        try:
            instance = free.pop()
        except IndexError:
            instance = Instance(self)
        for mine, array in zip(instance.inputs, arrays):
            mine[...] = array
        self._executor.run(instance.steps_address, self._count)
        results = [mine.copy() for mine in instance.outputs]
        failure = instance.failure(self._checks) if self._checks else None
        free.append(instance)
        if failure is not None:
            raise failure
        return results

    def _unstaged(
        self, instance: Instance, results: list[np.ndarray], out: Sequence[np.ndarray | None] | None
    ) -> list[np.ndarray]:
        """The results, copied where the instance has kept them in arrays of its own."""
        for k, index in enumerate(self.assembled.outputs):
            if isinstance(index, int) and instance.staged[index] is not None:
                given = out[k] if out is not None else None
                if given is None:
                    results[k] = results[k].copy()
                else:
                    given[...] = results[k]
                    results[k] = given
        return results

    def _instance(self) -> Instance:
        """One that nobody uses; who takes it puts it back into `_free` after a run that ended well."""
        try:
            return self._free.pop()
        except IndexError:
            return Instance(self)

    def _bind(
        self, instance: Instance, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None
    ) -> list[np.ndarray]:
        """Point the instance at the inputs and at the results, which are returned."""
        bind, staged = instance.bind, instance.staged
        for index, array in zip(self.assembled.inputs, arrays):
            if staged[index] is None:
                bind(index, array.ctypes.data)
            else:
                staged[index][...] = array
        results = []
        for k, index in enumerate(self.assembled.outputs):
            given = out[k] if out is not None else None
            if not isinstance(index, int):
                results.append(_constant_result(index, given))
                continue
            if staged[index] is not None:
                results.append(staged[index])
                continue
            shape, dtype = self._results[k]
            result = given if given is not None else np.empty(shape, dtype)
            bind(index, result.ctypes.data)
            results.append(result)
        return results

    def _live(
        self, instance: Instance, arrays: Sequence[np.ndarray], results: Sequence[np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Arrays of the externs: inputs, results, and values of host steps, made here."""
        live = dict(zip(self.assembled.inputs, arrays))
        live.update((index, array) for index, array in zip(self.assembled.outputs, results) if isinstance(index, int))
        for i, e in enumerate(self.assembled.externs):
            if i not in live:
                live[i] = np.empty(e.shape, e.dtype)
                instance.bind(i, live[i].ctypes.data)
        return live

    def _run_with_host(self, instance: Instance, live: Mapping[int, np.ndarray]) -> None:
        """Native segments and host steps in turn. Values between them are NumPy arrays."""
        for part in self.assembled.runs:
            if isinstance(part, tuple):
                self._executor.run(instance.steps_address + ROW_BYTES * part[0], part[1])
                continue
            from graphc.interpret import run_node

            values = [live[b] if isinstance(b, int) else b for b in part.inputs]
            for b, array in zip(part.outputs, run_node(part.node, values)):
                live[b][...] = array

    def stepper(self, arrays: Sequence[np.ndarray]) -> Callable[[int], None]:
        """Run once; what then runs a native step by its number, on the values that are there. No host steps.

        `arrays`: as for `run`."""
        instance = self._instance()
        alive = arrays, self._bind(instance, arrays, None)
        self._executor.run(instance.steps_address, len(instance.steps))

        def step(i: int, _: object = alive) -> None:
            self._executor.run(instance.steps_address + ROW_BYTES * i, 1)

        return step

    def measure(self, arrays: Sequence[np.ndarray], rounds: int) -> list[float]:
        """Median seconds of each step, run one after the other on the executor's threads; 0 for host steps.

        Takes and raises what `run` does.
        """
        self.run(arrays)
        instance = self._instance()
        live = self._live(instance, arrays, self._bind(instance, arrays, None))
        self._run_with_host(instance, live)  # so that every step finds the values that it reads
        native = [list(range(r[0], r[0] + r[1])) if isinstance(r, tuple) else [None] for r in self.assembled.runs]
        steps = [i for part in native for i in part]
        times: list[list[float]] = [[] for _ in steps]
        clock = time.perf_counter
        for _ in range(rounds):
            for i, spent in zip(steps, times):
                start = clock()
                if i is not None:
                    self._executor.run(instance.steps_address + ROW_BYTES * i, 1)
                spent.append(clock() - start if i is not None else 0.0)
        self._free.append(instance)
        return [float(np.median(t)) for t in times]


def _nbytes(e: Extern) -> int:
    return math.prod(e.shape) * e.dtype.itemsize


def _constant_result(value: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    if given is None:
        return value.copy()
    given[...] = value
    return given
