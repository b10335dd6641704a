"""A program run step by step, each buffer alone before pages that nobody may touch, and looked at after every step.

Memory is new in each run and full of signalling numbers. While a step runs, all buffers are read-only but those that it
declares to write. After each step: nobody has touched memory that is not his, what lies before each piece and the argument
block are as they were, values that are complete have no element that was not written, halos of zeros and finite numbers in
the lanes behind their last channel, and no step changes a value that another one has made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from graphc.backends.cpu.checked import values
from graphc.backends.cpu.checked.guard import Fault, Memory, Watch
from graphc.backends.cpu.checked.values import CheckFailed, Held
from graphc.backends.cpu.runtime.run import Runner
from graphc.backends.cpu.runtime.threads import Executor
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.executable import check_results
from graphc.lower.kernel import Kernel
from graphc.lower.program import HostStep, Made, Program, Step
from graphc.lower.storage import Buffer, ExternBuffer, Piece, Place, Ref
from graphc.types import TensorType

MENTIONED = 4  # faults of a step


@dataclass(frozen=True)
class Checkable:
    """A program with the places of its constants."""

    program: Program
    places: Mapping[Buffer, Place]


class CheckedRunner:
    """Runs a program; see this module. Steps that threads may share are shared by all of them, however short.

    addresses: of kernels. plain: what measures the same program.
    """

    def __init__(self, checkable: Checkable, addresses: Mapping[Kernel, int], plain: Runner) -> None:
        self._checkable, self._addresses, self.executor = checkable, addresses, plain.executor
        self._results = [(n, TensorType(dtype, shape)) for n, shape, dtype in plain.named]
        self.quick, self.stepper, self.measure = None, plain.stepper, plain.measure

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        """As Runner.run. Raises CheckFailed, which names the step."""
        if out is not None:
            check_results(out, self._results)
        run = _Run(self._checkable, self._addresses, self.executor)
        run.give(arrays)
        with Watch(run.memory) as watch:
            run.steps(watch)
        results = run.results()
        for given, made in zip(out or (), results):
            if given is not None:
                given[...] = made
        return [made if given is None else given for given, made in zip(out or [None] * len(results), results)]


class _Run:
    """One run's memory: buffers by their number in it, then the steps' argument blocks, each behind its turn counter."""

    def __init__(self, checkable: Checkable, addresses: Mapping[Kernel, int], executor: Executor) -> None:
        self.program, self._kernels, self._executor = checkable.program, addresses, executor
        externs = [*self.program.inputs, *self.program.outputs]
        named = [b for s in self.program.steps for b in s.buffers()]
        buffers = dict.fromkeys(b for b in (*externs, *named) if isinstance(b, Buffer))
        # arrays of Python's objects are none of the kernels' business
        self._objects = {
            b: np.empty(b.shape, b.dtype) for b in buffers if isinstance(b, ExternBuffer) and b.dtype.kind in "OUS"
        }
        self._number = {b: i for i, b in enumerate(b for b in buffers if b not in self._objects)}
        native = [s for s in self.program.steps if isinstance(s, Step)]
        self._names = [*map(_name, self._number), *(f"the argument block of '{s.info.label}'" for s in native)]
        pieces = [b.spread or (Piece(0, b.nbytes),) for b in self._number]
        pieces += [(Piece(0, CACHE_LINE + 8 * len(s.args)),) for s in native]
        self.memory = Memory(pieces)
        dtypes = {m.storage.ref.buffer: m.storage.type.dtype for m in self.program.made}
        for b, i in self._number.items():
            self._fill(i, b.dtype if isinstance(b, ExternBuffer) else dtypes.get(b, values.FLOAT))
            if b.kind == "const":
                self._write(i, values.bytes_at(checkable.places[b].address, b.nbytes))
        blocks = zip(range(len(self._number), len(pieces)), native)
        self._blocks = {s: self._write_block(s, number) for number, s in blocks}
        self._last = {b: i for i, s in enumerate(self.program.steps) for b in s.buffers()}
        self._held: list[tuple[Buffer, Held]] = []
        self._given = {i for b, i in self._number.items() if b.kind == "const" or b in self.program.inputs}
        for i in self._number.values():
            self.memory.freeze(i)

    def _fill(self, number: int, dtype: np.dtype) -> None:
        for first, end in self.memory.pieces[number]:
            values.fill(self.memory.bytes[first:end], dtype)
        for margin in self.memory.margins(number):
            values.fill(margin, values.FLOAT)

    def _write(self, number: int, data: np.ndarray) -> None:
        """Bytes that nobody may write to."""
        at = self.memory.at[number]
        self.memory.open(number)
        self.memory.bytes[at : at + data.nbytes] = data
        self.memory.freeze(number)

    @contextmanager
    def _writable(self, buffers: Iterable[Buffer]) -> Iterator[None]:
        """What a step declares to write, but for what is only to be read."""
        numbers = {self._number[b] for b in buffers if b in self._number} - self._given
        for i in numbers:
            self.memory.open(i)
        yield
        for i in numbers:
            self.memory.freeze(i)

    def _write_block(self, step: Step, number: int) -> np.ndarray:
        """The words of an argument block."""
        at = self.memory.at[number]
        self.memory.bytes[at : at + CACHE_LINE] = 0
        words = np.ndarray(len(step.args), np.int64, self.memory.bytes, at + CACHE_LINE)
        for i, a in enumerate(step.args):
            words[i] = self._address(a) if isinstance(a, Ref) else self._kernels[a] if isinstance(a, Kernel) else a
        return words

    def _address(self, ref: Ref) -> int:
        if ref.buffer in self._objects:
            return self._objects[ref.buffer].ctypes.data + ref.offset
        return self.memory.address + self._place(ref)

    def _place(self, ref: Ref) -> int:
        """Its bytes in the memory."""
        return self.memory.at[self._number[ref.buffer]] + ref.offset

    def _array(self, b: ExternBuffer) -> np.ndarray:
        """A buffer as Python sees it."""
        if b in self._objects:
            return self._objects[b]
        return np.ndarray(b.shape, b.dtype, self.memory.bytes, self._place(Ref(b)))

    # --- a run -----------------------------------------------------------------------------------------------------
    def give(self, arrays: Sequence[np.ndarray]) -> None:
        """The inputs."""
        for b, array in zip(self.program.inputs, arrays):
            if b in self._objects:
                self._objects[b][...] = array
            else:
                self._write(self._number[b], np.ascontiguousarray(array).reshape(-1).view(np.uint8))

    def steps(self, watch: Watch) -> None:
        """All of them. Raises CheckFailed, and InputError where an operator reads or writes at a position that its data puts
        out of range."""
        made = sorted(self.program.made, key=lambda m: -m.steps)
        error = None
        for i, step in enumerate(self.program.steps):
            if isinstance(step, HostStep):
                self._host(step)
            else:
                assert isinstance(step, Step)
                error = self._native(step, watch) or error
            while made and made[-1].steps <= i + 1:
                self._complete(step, made.pop())
            self._held = [(b, held) for b, held in self._held if self._last.get(b, -1) > i]
        if error is not None:
            raise error

    def results(self) -> list[np.ndarray]:
        """Copies. Raises CheckFailed for one that was not written."""
        found = []
        for made in self.program.outputs:
            if isinstance(made, ExternBuffer):
                array = self._array(made)
                if why := values.unwritten(array):
                    raise CheckFailed(f"result '{made.name}'", why)
            else:
                array = made
            found.append(array.copy())
        return found

    def _host(self, step: HostStep) -> None:
        from graphc.interpret import run_node

        operands = [self._array(v) if isinstance(v, ExternBuffer) else v for v in step.inputs]
        results = run_node(step.node, operands)
        with self._writable(step.writes):
            for b, array in zip(step.outputs, results):
                self._array(b)[...] = array

    def _native(self, step: Step, watch: Watch) -> Exception | None:
        """Raises CheckFailed. The error for a position out of range."""
        watch.step, words = values.name_of(step.info), self._blocks[step]
        reports = len(words) - 2 * self._executor.threads if step.check is not None else len(words)
        given = words[:reports].copy()
        row = np.array([self._kernels[step.kernel], words.ctypes.data, self._executor.threads > 1], np.int64)
        with self._writable(step.writes):
            self._executor.run(row.ctypes.data, 1)
        if watch.faults:
            raise CheckFailed(watch.step, "; ".join(dict.fromkeys(map(self._described, watch.faults[:MENTIONED]))))
        changed = np.flatnonzero(words[:reports] != given)
        if len(changed):
            raise CheckFailed(watch.step, f"it changed word {changed[0]} of its argument block")
        for b in step.buffers():
            self._look_around(watch.step, b)
        found = words[reports:].reshape(-1, 2)
        bad = found[found[:, 0] > 0]
        if step.check is None or not len(bad):
            return None
        number, value = bad[bad[:, 0].argmin()]
        return step.check(int(number) - 1, int(value))

    def _look_around(self, step: str, b: Buffer) -> None:
        """Nothing was written before the pieces of a buffer that a step has the address of, nor into values that are there."""
        if b in self._objects or b.kind == "const":
            return
        for margin in self.memory.margins(self._number[b]):
            if not values.is_filled(margin):
                raise CheckFailed(step, f"it writes before {self._names[self._number[b]]}")
        for other, held in self._held:
            if other is b:
                held.verify(step)

    def _complete(self, step: Step | HostStep, m: Made) -> None:
        """Check a value, which nobody may change from here on."""
        b = m.storage.ref.buffer
        if b in self._objects or b.kind == "const" or b not in self._number:
            return
        if m.taken_part is not None:
            at = self._place(m.taken_part)
            if values.is_filled(self.memory.bytes[at : at + 8]):
                return
        held = Held(m.name, m.storage, self.memory.bytes, self._place(m.storage.ref))
        held.check(values.name_of(step.info))
        self._held.append((b, held))

    def _described(self, fault: Fault) -> str:
        """The piece that a fault lies behind, or in."""
        at = fault.address - self.memory.address
        numbered = [(*piece, i) for i, pieces in enumerate(self.memory.pieces) for piece in pieces]
        first, end, number = max((p for p in numbered if p[0] <= at), default=(0, 0, 0))
        verb = {True: "writes", False: "reads", None: "touches"}[fault.writes]
        if at < end:
            why = "is only to be read" if number in self._given else "it does not declare"
            return f"it {verb} {self._names[number]}, which {why}"
        return f"it {verb} byte {at - first} of {self._names[number]}, which has {end - first}"


def _name(b: Buffer) -> str:
    return f"{ {'extern': 'the array', 'const': 'the constant'}.get(b.kind, 'the memory') } '{b.name}'"
