"""The lowering context: where each value lives, and how steps are emitted.

What lowers each operator is registered in registry.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.policy import Choice, Policy
from graphc.backends.cpu.program import Made, Program, Step
from graphc.backends.cpu.sizes import lines
from graphc.backends.cpu.storage import Buffer, Ref, Storage, blocked_strides, dense_strides, halo_bytes, storage_bytes
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.weights import WeightStore
from graphc.fuse import Group
from graphc.graph import Node, Value
from graphc.op import Call
from graphc.report import StepInfo

ITEMS = 6  # of work for each thread of a step: enough to end together, few enough to share what they read


class Lowering:
    """State of one lowering: the program so far, and the storage of each value. choices: the algorithm of each convolution,
    by the name of its result. policy: what decides between those of products. checked: for runs that look at every step
    (backends/cpu/checked/)."""

    def __init__(
        self,
        target: Target,
        threads: int,
        weights: WeightStore,
        policy: Policy,
        choices: Mapping[str, Choice],
        checked: bool = False,
    ) -> None:
        self.target, self.threads, self.weights, self.policy = target, threads, weights, policy
        self.choices, self.checked = choices, checked
        self.program = Program()
        self.storage: dict[Value, Storage] = {}
        self.packed_rows: dict[tuple, Ref] = {}  # left operands of products, by where they are and how they were packed
        self._cleared: set[Value] = set()

    # --- values --------------------------------------------------------------------------------------------------
    def place(self, v: Value, ref: Ref, strides: tuple[int, ...] | None = None) -> Storage:
        """Say where a value lives (inputs, results, parts of a concatenation, views): `ref` is its first element. The memory
        has the halo of the value's type."""
        t = v.type
        s = Storage(ref, t, strides or (dense_strides(t) if t.layout is None else blocked_strides(t)))
        self.storage[v] = s
        return s

    def reserve(self, v: Value) -> Storage:
        """Memory of its own for a value that has no place yet."""
        return self.place(v, Ref(Buffer(v.name, storage_bytes(v.type)), halo_bytes(v.type)[0]))

    def write(self, v: Value) -> Storage:
        """Storage for a value that the next step makes; a new arena buffer unless it has been placed already.

        The halo of a blocked value is cleared here, before its first producer.
        """
        s = self.storage.get(v) or self.reserve(v)
        if v not in self._cleared:
            self._cleared.add(v)
            self.clear_halo(s)
        return s

    def read(self, v: Value) -> Storage:
        """Where a value is. Constants are placed at first use, dense."""
        s = self.storage.get(v)
        if s is None:
            if not v.is_const:
                raise AssertionError(f"%{v.name} is read before it is written")
            s = self.place(v, Ref(self.weights.dense(v)))
        return s

    def keep_halo(self, v: Value) -> None:
        """The halo of a value that was placed is zero already."""
        self._cleared.add(v)

    def clear_halo(self, s: Storage) -> None:
        """The step that clears a halo, if there is one."""
        left, right = halo_bytes(s.type)
        if not left and not right:
            return
        t = s.type
        blocks = -(-t.shape[1] // t.layout.c)
        rows = int(np.prod(t.shape[2:-1], dtype=np.int64))  # spatial dims but the last are contiguous rows
        start, row = s.whole_rows
        args = [start, t.shape[0], s.strides[0], blocks, s.strides[1], rows, row, left, right]
        self.emit(Kernel("clear_halo"), args, StepInfo(0, (), ("Halo",), "clear_halo", output=""), t.nbytes // 50)

    # --- steps ---------------------------------------------------------------------------------------------------
    def emit(
        self,
        kernel: Kernel,
        args: Sequence[int | Ref | Kernel],
        info: StepInfo,
        nbytes: int | None = None,
        check: Callable[[int, int], Exception] | None = None,
    ) -> None:
        """Append a step: the driver `kernel` with its argument block. `check`: see `Step`; its words are added here."""
        info = replace(info, index=len(self.program.steps), nbytes=info.nbytes if nbytes is None else nbytes)
        words = [0] * (2 * self.threads) if check else []
        self.program.steps.append(Step(kernel, (*args, *words), info, check))

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
        )

    def rows_of_item(self, rows: int, items: int, heavy: bool = False) -> int:
        """At most so many of `rows` rows make one item of work, so that each thread finds ITEMS; `items` are there anyway.

        heavy: each item reads weights that are more than the rows; then a third as many will do.
        """
        wanted = (ITEMS // 3 if heavy else ITEMS) * self.threads
        cuts = 1 if self.threads == 1 else -(-wanted // max(items, 1))
        return max(1, -(-rows // cuts))

    def scratch(self, name: str, nbytes_per_thread: int) -> tuple[Ref, int]:
        """Memory that one step uses: address of thread 0's part and the byte stride to the next thread's."""
        if self.checked:
            ref, stride, _ = self.spread_scratch(name, [nbytes_per_thread])
            return ref, stride
        stride = lines(nbytes_per_thread)
        return Ref(Buffer(f"{name}/scratch", stride * self.threads, "scratch")), stride

    def spread_scratch(self, name: str, sizes: Sequence[int]) -> tuple[Ref, int, list[int]]:
        """Scratch of several pieces that are apart from each other, and the offset of each."""
        from graphc.backends.cpu.checked.guard import spread

        offsets, stride, pieces = spread(sizes, self.threads)
        return Ref(Buffer(f"{name}/scratch", pieces[-1].end, "scratch", None, pieces)), stride, offsets

    def made(self, values: Iterable[Value]) -> None:
        """The steps so far have made these values."""
        if self.checked:
            done = len(self.program.steps)
            self.program.made += [Made(done, v.name, self.storage[v]) for v in values if v in self.storage]


def flops(node: Node) -> int:
    """Floating point operations of a node whose types are bound."""
    if node.op.flops is not None:
        return int(node.op.flops(Call(node.op, node.inputs, node.attrs, len(node.outputs))))
    return int(node.output.type.size) if node.output.type is not None else 0
