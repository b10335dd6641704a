"""The context of a lowering: where each value lives, and the steps so far.

A backend derives its own from `Lowering` and gives it the verbs (verbs.py). What lowers each operator is registered with
registry.py.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

import numpy as np

from graphc import expr as e
from graphc.graph import Node, Value
from graphc.lower.binder import resolved
from graphc.lower.checks import Check
from graphc.lower.fuse import Group
from graphc.lower.kernel import Kernel, Variants
from graphc.lower.program import Made, Program, Step, Word
from graphc.lower.registry import Registry
from graphc.lower.storage import (
    Buffer,
    Ref,
    Storage,
    blocked_strides,
    channels_last_strides,
    dense_strides,
    halo_bytes,
    storage_bytes,
)
from graphc.lower.verbs import Verbs, Walk
from graphc.lower.weights import WeightStore
from graphc.op import Call
from graphc.report import StepInfo
from graphc.sizes import is_size_array, whole
from graphc.types import dtype_name, number


class Lowering(Verbs):
    """State of one lowering: the program so far, and the storage of each value.

    rules        what lowers each operator
    check_words  zeros behind the arguments of a step that checks positions, for its reports
    checked      for runs that look at every step
    any_strides  kernels of elementwise groups are as fast whatever the strides
    channels_last  values that are to have their channels innermost in memory
    """

    check_words = 2
    any_strides = False

    def __init__(self, weights: WeightStore, rules: Registry, checked: bool = False) -> None:
        self.weights, self.rules, self.checked = weights, rules, checked
        self.program = Program()
        self.storage: dict[Value, Storage] = {}
        self.channels_last: set[Value] = set()
        self.idle: set[Value] = set()  # operands that make no difference, as what fills a border of no width
        self.packed_from: dict[Buffer, Buffer] = {}  # of what steps packed for several others: what they packed it from
        self._cleared: set[Value] = set()
        self._copies: dict[tuple[Value, bool], Storage] = {}

    # --- values --------------------------------------------------------------------------------------------------
    def place(self, v: Value, ref: Ref, strides: tuple[int, ...] | None = None, channels_last: bool = False) -> Storage:
        """Say where a value lives (inputs, results, parts of a concatenation, views): `ref` is its first element. The memory
        has the halo of the value's type."""
        t = v.type
        s = Storage(ref, t, strides or (dense_strides(t) if t.layout is None else blocked_strides(t)), channels_last)
        self.storage[v] = s
        return s

    def reserve(self, v: Value) -> Storage:
        """Memory of its own for a value that has no place yet."""
        ref = Ref(Buffer(v.name, storage_bytes(v.type)), halo_bytes(v.type)[0])
        if v in self.channels_last:
            return self.place(v, ref, channels_last_strides(v.type), True)
        return self.place(v, ref)

    def write(self, v: Value) -> Storage:
        """Storage for a value that the next step makes; a new arena buffer unless it has been placed already.

        The halo of a blocked value is cleared here, before its first producer.
        """
        s = self.storage.get(v) or self.reserve(v)
        if v not in self._cleared:
            self._cleared.add(v)
            self.clear_halo(s)
        return s

    def read(self, v: Value, channels_last: bool = False) -> Storage:
        """Where a value is, as `strided`; a copy of one with gaps between its rows (a state that grows), or whose channels are
        not where they should be in memory."""
        s = self.strided(v)
        if s.type.layout is not None or (s.packed and s.channels_last == channels_last):
            return s
        if (v, channels_last) not in self._copies:
            strides = channels_last_strides(s.type) if channels_last else dense_strides(s.type)
            self._copies[v, channels_last] = self.copied(
                v, Storage(Ref(Buffer(v.name, s.type.nbytes)), s.type, strides, channels_last)
            )
        return self._copies[v, channels_last]

    def copied(self, v: Value, y: Storage) -> Storage:
        """y, into which a value was copied."""
        x, order = self.strided(v), y.order
        last = "last" if y.channels_last else "first"
        reason = "rows with gaps" if x.channels_last == y.channels_last else f"channels {last}"
        info = StepInfo(0, (), ("Copy",), "copy_strided", "", reason, v.name, 0, 2 * x.type.nbytes)
        xs, ys, shape = ([of[i] for i in order] for of in (x.strides, y.strides, x.type.extents))
        self.copy(x.ref, xs, y.ref, ys, shape, x.type.dtype.itemsize, info)
        return y

    def lies_in(self, v: Value, buffers: Container[Buffer]) -> bool:
        """Is the value, or a copy that was made of it, in one of these?"""
        places = [self.storage.get(v), *(self._copies.get((v, last)) for last in (False, True))]
        return any(s is not None and s.ref.buffer in buffers for s in places)

    def packed(self, v: Value) -> Storage:
        """Where a value is if it has no gaps, in whichever order; else a row-major copy."""
        s = self.strided(v)
        return s if s.packed else self.read(v)

    def strided(self, v: Value) -> Storage:
        """Where a value is, with strides that the caller has to respect. Constants are placed at first use, dense."""
        s = self.storage.get(v)
        if s is None:
            if not v.is_const:
                raise AssertionError(f"%{v.name} is read before it is written")
            if is_size_array(v.data):
                return self._write_sizes(v)
            s = self.place(v, Ref(self.weights.dense(v)))
        return s

    def _write_sizes(self, v: Value) -> Storage:
        """A constant that holds sizes is written by a step, at its first use."""
        s, t = self.reserve(v), np.dtype(np.int64)
        values = [whole(d) for d in v.data.reshape(-1)]
        numbers = s.ref if v.dtype == t else Ref(Buffer(f"{v.name}/int64", t.itemsize * len(values)))
        info = StepInfo(0, (), ("Sizes",), "write_numbers", output=v.name, nbytes=t.itemsize * len(values))
        self.write_numbers(numbers, values, info)
        if v.dtype != t:
            walks = [Walk(s.ref, v.dtype, [v.dtype.itemsize]), Walk(numbers, t, [t.itemsize])]
            self.map(e.cast(e.arg(0, t), v.dtype), [len(values)], walks, 1, v.name, replace(info, kernel="map"))
        return s

    def keep_halo(self, v: Value) -> None:
        """The halo of a value that was placed is zero already."""
        self._cleared.add(v)

    # --- steps ---------------------------------------------------------------------------------------------------
    def emit(
        self,
        kernel: Kernel | Variants,
        args: Sequence[Word],
        info: StepInfo,
        nbytes: int | None = None,
        check: Check | None = None,
        *,
        writes: Sequence[Ref],
        reads: Sequence[Ref] | None = None,
    ) -> None:
        """Append a step: a kernel with its argument block.

        writes: the arguments that it writes behind; scratch memory need not be named. reads: those that it reads behind, by
        default all others. check: see `Step`; its words are added here. Raises AssertionError where `writes` are no arguments
        by which the others could be told apart.
        """
        info = replace(info, index=len(self.program.steps), nbytes=info.nbytes if nbytes is None else nbytes)
        words = [0] * self.check_words if check else []
        named = [a for a in args if type(a) is not int and isinstance(a, Ref)]
        one, choice = resolved(kernel)
        if reads is None:
            if missing := set(writes) - set(named):
                raise AssertionError(f"{one.name} writes what is none of its arguments: {missing}")
            reads = [a for a in named if a not in writes]
        written = _buffers([*writes, *(a for a in named if a.buffer.kind == "scratch")])
        read = _buffers(a for a in reads if a.buffer.kind != "scratch")
        self.program.steps.append(Step(one, (*args, *words), info, written, read, check, choice))

    def info(self, group: Group, kernel: str, algorithm: str = "", reason: str = "") -> StepInfo:
        """What a person wants to know of a group's main step."""
        moved = sum(v.type.nbytes for v in group.inputs) + group.output.type.nbytes
        return StepInfo(
            0,
            tuple(n.name for n in group.every_node),
            tuple(n.op.name for n in group.every_node),
            kernel,
            algorithm,
            reason,
            group.output.name,
            sum(flops(n) for n in group.every_node),
            moved,
            type=dtype_name((group.anchor.output if group.anchor else group.output).dtype),
        )

    def moving(self, group: Group, nbytes: int, reason: str = "") -> StepInfo:
        """Of a copy beside a group's main step: of so many bytes, which are read and written."""
        return replace(self.info(group, "copy_strided", "", reason), flops=0, nbytes=2 * nbytes, type="")

    def made(self, values: Iterable[Value]) -> None:
        """The steps so far have made these values."""
        if self.checked:
            done = len(self.program.steps)
            self.program.made += [Made(done, v.name, self.storage[v]) for v in values if v in self.storage]


def _buffers(refs: Iterable[Ref]) -> tuple[Buffer, ...]:
    return tuple(dict.fromkeys(r.buffer for r in refs))


def flops(node: Node) -> int:
    """Floating point operations of a node whose types are bound."""
    if node.op.flops is not None:
        return whole(number(node.op.flops(Call(node.op, node.inputs, node.attrs, len(node.outputs)))))
    return node.output.type.elements if node.output.type is not None else 0
