"""An assembled program with addresses: memory for each run at a time, native steps, host calls between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import empty

from graphc.backends.cpu.executor.program_block import PROGRAM_STEP
from graphc.backends.cpu.runtime import entry
from graphc.backends.cpu.runtime.arenas import Arena, Arenas
from graphc.executable import check_results
from graphc.lower.aligned import aligned_empty
from graphc.lower.assembled import Assembled, HostCall
from graphc.types import MaybeNone, TensorType

if TYPE_CHECKING:
    from graphc.backends.cpu.runtime.bound import Bound, Guards
    from graphc.backends.cpu.runtime.threads import Executor
    from graphc.classes import Sources
    from graphc.graph import Node


ROW_BYTES = 24  # of the executor's table
SHARED_STEP = 3_000  # nanoseconds from which threads help: the way of a cache line
SHARED_PROGRAM = 30_000  # the same of all shared steps: waking a sleeper


def shared(nanoseconds: np.ndarray) -> np.ndarray:
    """Which steps the executor's threads share, by what they take."""
    long = nanoseconds >= SHARED_STEP
    return long & (nanoseconds[long].sum() >= SHARED_PROGRAM)


class RunContext:
    """A program with the addresses of an arena, for one run at a time.

    enter, check_and_enter: the program as functions of inputs and results, see backends/cpu/runtime/entry.py; the second one looks at
    the inputs. None where Python lacks them, or steps run on the host.
    """

    def __init__(self, runner: Runner, arena: Arena) -> None:
        a = runner.assembled
        self.sizes: tuple[int, ...] | None = None  # that it is bound to
        self.results, self.named = runner.results, runner.named
        self.table = aligned_empty(runner.table.nbytes).view(np.int64)
        self.table[:] = runner.table
        self.externs = runner.extern_slots
        if a.binding is not None:
            self.externs = [(at, offset.copy()) for at, offset in self.externs]
        self.table[a.arena_slots.at] = a.arena_slots.offset + arena.address
        start = self.table.ctypes.data
        rows = PROGRAM_STEP(driver=runner.drivers, block=start + 8 * a.blocks[:, 1], shared=runner.shared)
        self.steps = np.stack(rows, 1)
        self.steps_address = self.steps.ctypes.data
        self._words = self.table.data  # a memoryview reads one word in a tenth of the time that NumPy takes
        self._reports = [i for words, _ in a.checks for i in range(words.start, words.stop, 2)]
        self.enter: Callable[..., bool | None] | None = None
        self.check_and_enter: Callable[..., bool | None] | MaybeNone = None
        if runner.has_entry:
            ends = [*a.inputs, *(i for i in a.outputs if isinstance(i, int))]
            words = [
                (k, start + 8 * int(at), int(offset))
                for k, index in enumerate(ends)
                for at, offset in zip(*self.externs[index])
            ]
            facts = runner.executor.facts(runner.shares)
            facts |= {"steps": self.steps_address, "count": len(self.steps)}
            inputs, reports = [a.externs[i] for i in a.inputs], [start + 8 * i for i in self._reports]
            table = np.array(words, np.int64).reshape(-1, 3)
            records = [entry.record(facts, looked_at, len(ends), table, reports) for looked_at in ([], inputs)]
            self.enter, self.check_and_enter = (entry.function(runner.executor.entry, r) for r in records)

        else:
            records, inputs = [], []
        self._bound: Bound | None = None
        if a.binding is not None:
            from graphc.backends.cpu.runtime.bound import Bound

            self._bound = Bound(runner, self, arena, records, inputs)

    def share(self, nanoseconds: np.ndarray) -> None:
        """Say anew which steps threads share, by what they take."""
        self.steps[:, 2] = shared(nanoseconds)

    def fit(self, sizes: tuple[int, ...]) -> int | None:
        """Bind the program to sizes for which its guards hold. None, or the bytes that it wants of the arena where it is too
        small."""
        assert self._bound is not None
        wanted = self._bound.fit(self, sizes)
        if wanted is None:
            self.sizes = sizes
        return wanted

    def shape_of(self, shape: Sequence[Any]) -> tuple[int, ...]:
        """A shape that may name registers."""
        return tuple(shape) if self._bound is None else self._bound.with_numbers(tuple(shape))

    def node_of(self, call: HostCall) -> Node:
        """With numbers for sizes."""
        return call.node if self._bound is None else self._bound.node_with_numbers(call.node)

    def bind(self, index: int, address: int) -> None:
        """Point extern `index` at memory."""
        at, offset = self.externs[index]
        self.table[at] = offset + address

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
                error = error if self._bound is None else self._bound.with_numbers(error)
                found = found or error(int(number) - 1, int(value))
                self.table[words] = 0
        return found


class Runner:
    """Runs a program; many threads may call it at once.

    kernels: addresses by index. results: shape and dtype of each output. quick: see `Executable.quick`; it needs names.
    arenas: of the model. sources: of a program for many sizes; its results' shapes name registers.
    """

    def __init__(
        self,
        assembled: Assembled,
        kernels: Sequence[int],
        executor: Executor,
        results: Sequence[tuple[tuple[Any, ...], np.dtype]],
        names: Sequence[str] = (),
        arenas: Arenas | None = None,
        sources: Sources | None = None,
    ) -> None:
        a = self.assembled = assembled
        self.executor, self.results = executor, results
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
        self.has_entry = not self._host and entry.supported()
        self._native = [isinstance(i, int) for i in a.outputs]  # results that the program makes
        self.named = [(n, *r) for n, r in zip(names, results)]
        self._names = names
        self.sources = sources
        self.shares = executor.threads > 1 and (a.binding is not None or bool(self.shared.any()))
        self.variants = np.array(
            [addresses[k] for k in ([] if a.binding is None else a.binding.variants)] or [0], np.int64
        )
        self.constants = places
        by_name = bool(names) and len({*names}) == len(results)
        self._is_quick = by_name and self.has_entry and all(self._native)
        self.arenas = Arenas() if arenas is None else arenas
        self._free = self.arenas.free
        self._number = self.arenas.register(a.arena if a.binding is None else 0)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            self.arenas.forget(self._number)

    @property
    def quick(self) -> Callable[[Sequence[object]], dict[str, np.ndarray] | None] | None:
        """See `Executable.quick`. (Kept as a field, a method of its own would keep the runner alive.)"""
        return self._quick if self._is_quick else None

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        """Results in order, for inputs in order: contiguous arrays of the bound dtypes and shapes (not checked here).

        Raises InputError where an operator reads or writes at a position that its data puts out of range.
        """
        arena = self.arenas.take()
        context = self._context(arena, arrays)
        results = self._made(out, context)
        if context.enter is not None:
            if self.shares:
                self.executor.start()
            context.enter(*arrays, *(r for r, native in zip(results, self._native) if native))
        else:
            self._point(context, arrays, results)
            if self._host:
                self._run_with_host(context, self._live(context, arrays, results))
            else:
                self.executor.run(context.steps_address, len(context.steps))
        failure = context.failure(self.assembled.checks) if self.assembled.checks else None
        self._give_back(arena)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it refers to this frame
        return results

    def _quick(self, arrays: Sequence[object]) -> dict[str, np.ndarray] | None:
        """`run`, by the results' names, where the inputs are contiguous arrays of exactly the bound dtypes and shapes. None,
        and nothing is done, where they are not."""
        free = self._free
        try:
            arena = free.pop()
        except IndexError:
            arena = self.arenas.take()
        context = arena.contexts.get(self._number)
        if context is None:
            if self.sources is not None:  # not bound to any sizes yet
                free.append(arena)
                return None
            context = self._context(arena, ())
        arena.taken = True
        if self.shares:
            self.executor.start()
        results = {}
        for name, shape, dtype in context.named:  # no comprehension: it would be a call
            results[name] = empty(shape, dtype)
        done = context.check_and_enter(*arrays, *results.values())
        if done:
            free.append(arena)
            if len(free) > 1:
                self.arenas.trim()
            return results
        failure = None if done is None else context.failure(self.assembled.checks)
        self._give_back(arena)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it refers to this frame
        return None

    def _made(self, out: Sequence[np.ndarray | None] | None, context: RunContext) -> list[np.ndarray]:
        """Arrays for the results: those that are given, new ones, copies of constants."""
        results = []
        if out is not None:
            check_results(out, [(n, TensorType(d, s)) for n, s, d in context.named])
        for k, (index, (shape, dtype)) in enumerate(zip(self.assembled.outputs, context.results)):
            given = out[k] if out is not None else None
            if not isinstance(index, int):
                results.append(_constant_result(index, given))
            else:
                results.append(given if given is not None else np.empty(shape, dtype))
        return results

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        """Is the program for inputs of these shapes?"""
        if self.sources is None:
            return True
        sizes = self.sources.sizes(arrays)
        binding = self.assembled.binding
        assert binding is not None
        return sizes is not None and self._guards.hold(sizes)

    @cached_property
    def _guards(self) -> Guards:
        from graphc.backends.cpu.runtime.bound import Guards

        assert self.assembled.binding is not None
        return Guards(self.assembled.binding.program, self.executor)

    def _context(self, arena: Arena, arrays: Sequence[np.ndarray]) -> RunContext:
        """The program in an arena that nobody else uses, bound to the inputs' sizes; who took it gives it back after a run that
        ended well."""
        context = arena.contexts.get(self._number)
        if context is None:
            if self.sources is None and arena.memory.nbytes < self.assembled.arena:
                arena.grow(self.arenas.nbytes)
            context = arena.contexts[self._number] = RunContext(self, arena)
        if self.sources is not None:
            sizes = self.sources.sizes(arrays)
            assert sizes is not None, "inputs of another plan"
            if sizes != context.sizes:
                wanted = context.fit(sizes)
                if wanted is not None:
                    self.arenas.enlarge(arena, wanted)
                    context = arena.contexts[self._number] = RunContext(self, arena)
                    context.fit(sizes)
        return context

    def _give_back(self, arena: Arena) -> None:
        arena.taken = True
        self._free.append(arena)
        if len(self._free) > 1:
            self.arenas.trim()

    def _point(self, context: RunContext, arrays: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> None:
        """Point the context at the inputs and at the results."""
        for index, array in zip(self.assembled.inputs, arrays):
            context.bind(index, array.ctypes.data)
        for result, array in zip(self.assembled.outputs, results):
            if isinstance(result, int):
                context.bind(result, array.ctypes.data)

    def _live(
        self, context: RunContext, arrays: Sequence[np.ndarray], results: Sequence[np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Arrays of the externs: inputs, results, and values of host steps, made here."""
        live = dict(zip(self.assembled.inputs, arrays))
        live.update((index, array) for index, array in zip(self.assembled.outputs, results) if isinstance(index, int))
        for i, e in enumerate(self.assembled.externs):
            if i not in live:
                live[i] = np.empty(context.shape_of(e.shape), e.dtype)
                context.bind(i, live[i].ctypes.data)
        return live

    def _run_with_host(self, context: RunContext, live: Mapping[int, np.ndarray]) -> None:
        """Native segments and host steps in turn. Values between them are NumPy arrays."""
        for part in self.assembled.runs:
            if isinstance(part, tuple):
                self.executor.run(context.steps_address + ROW_BYTES * part[0], part[1])
                continue
            from graphc.interpret import run_node

            assert isinstance(part, HostCall)
            values = [live[b] if isinstance(b, int) else b for b in part.inputs]
            for b, array in zip(part.outputs, run_node(context.node_of(part), values)):
                live[b][...] = array

    def stepper(self, arrays: Sequence[np.ndarray]) -> Callable[[int], None]:
        """Run once; what then runs a native step by its index, on the values that are there. No host steps.

        `arrays`: as for `run`."""
        arena = self.arenas.take()
        context = self._context(arena, arrays)
        alive = arena, arrays, self._made(None, context)
        self._point(context, *alive[1:])
        self.executor.run(context.steps_address, len(context.steps))

        def step(i: int, _: object = alive) -> None:
            self.executor.run(context.steps_address + ROW_BYTES * i, 1)

        return step

    def measure(self, arrays: Sequence[np.ndarray], rounds: int) -> list[float]:
        """Median seconds of each step, run one after the other on the executor's threads; 0 for host steps.

        Takes and raises what `run` does.
        """
        self.run(arrays)
        arena = self.arenas.take()
        context = self._context(arena, arrays)
        results = self._made(None, context)
        self._point(context, arrays, results)
        live = self._live(context, arrays, results)
        self._run_with_host(context, live)  # so that every step finds the values that it reads
        native = [list(range(r[0], r[0] + r[1])) if isinstance(r, tuple) else [None] for r in self.assembled.runs]
        steps = [i for part in native for i in part]
        times: list[list[float]] = [[] for _ in steps]
        clock = time.perf_counter
        for _ in range(rounds):
            for i, spent in zip(steps, times):
                start = clock()
                if i is not None:
                    self.executor.run(context.steps_address + ROW_BYTES * i, 1)
                spent.append(clock() - start if i is not None else 0.0)
        self._give_back(arena)
        return [float(np.median(t)) for t in times]


def _constant_result(value: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    if given is None:
        return value.copy()
    given[...] = value
    return given
