"""The lowering context of the CPU: its target and threads, scratch memory, and the verbs of the neutral half."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from graphc.backends.cpu.blocked.reorder_block import CLEAR_HALO, ClearHalo
from graphc.backends.cpu.lower.policy import Choice, Policy
from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.sizes import lines
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs import copy, index, numbers, ordered, passes, rows
from graphc.lower.lowering import Lowering
from graphc.lower.storage import Buffer, Ref, Storage, halo_bytes
from graphc.lower.weights import WeightStore
from graphc.report import StepInfo
from graphc.sizes import largest

UNITS_PER_THREAD = 6  # work units of a step: enough to end together, few enough to share what they read


class CpuLowering(Lowering):
    """choices: the algorithm of each convolution, by the name of its result. policy: what decides between those of products.
    checked: for runs that look at every step (backends/cpu/checked/)."""

    def __init__(
        self,
        target: Target,
        threads: int,
        weights: WeightStore,
        policy: Policy,
        choices: Mapping[str, Choice],
        checked: bool = False,
    ) -> None:
        super().__init__(weights, RULES, checked)
        self.target, self.threads, self.policy, self.choices = target, threads, policy, choices
        self.check_words = 2 * threads
        self.packed_rows: dict[tuple, Ref] = {}  # left operands of products, by where they are and how they were packed

    copy_strided = copy.copy_strided
    copy_by_table = copy.copy_by_table
    write_numbers = numbers.write_numbers
    count_up = numbers.count_up
    write_positions = numbers.write_positions
    map = rows.map_rows
    row_passes = passes.row_passes
    column_passes = passes.column_passes
    reduce = passes.reduce
    extreme = ordered.extreme
    scan = ordered.scan
    top_k = ordered.top_k
    blend = passes.blend
    gather = index.gather
    scatter = index.scatter
    reverse = index.reverse

    def clear_halo(self, s: Storage) -> None:
        """The step that does, if there is a halo."""
        left, right = halo_bytes(s.type)
        if not left and not right:
            return
        t = s.type
        blocks = -(-t.extents[1] // t.blocks.c)
        rows = math.prod(t.extents[2:-1])  # spatial dims but the last are contiguous rows
        start, row = s.whole_rows
        args = CLEAR_HALO(
            y=start, n=t.extents[0], n_stride=s.strides[0], blocks=blocks, block_stride=s.strides[1], rows=rows, row=row,
            left=left, right=right,
        )  # fmt: skip
        info = StepInfo(0, (), ("Halo",), "clear_halo", output="")
        self.emit(ClearHalo(), args, info, t.nbytes // 50, writes=[start])

    def rows_per_work_unit(self, rows: int, units: int, heavy: bool = False) -> int:
        """The most of `rows` rows that one work unit should take, where there are `units` of them before rows are cut:
        ceil(rows / cuts) with cuts = ceil(UNITS_PER_THREAD * threads / units).

        heavy: each unit reads weights larger than its rows; a third of the units per thread is then enough.
        """
        wanted = (UNITS_PER_THREAD // 3 if heavy else UNITS_PER_THREAD) * self.threads
        cuts = 1 if self.threads == 1 else -(-wanted // largest(units, 1))
        return largest(1, -(-rows // cuts))

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
