"""What a backend must be able to do so that the neutral half of lowering (the other modules here) emits steps for it.

Each verb appends one step, or a few, to the program. Memory is named by `Ref`s; strides are in bytes; nothing is 0 elements
long unless a verb says so. graphc/lower/limits.py says how many loops and operands a verb must take.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_float
from graphc.expr import Expr
from graphc.lower.checks import Check
from graphc.lower.kernel import Pass, Passes
from graphc.lower.storage import Ref, Storage
from graphc.lower.strides import collapse
from graphc.ops._positions import Reads
from graphc.ops._taps import TapRule, Taps
from graphc.report import StepInfo


# --- elementwise ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Walk:
    """A strided operand: the address of its first element, its dtype, a byte stride per loop; and what it is along the
    innermost one: 'v' elements, 's' one element, 'c' one vector of channels again and again (of blocked operands)."""

    ref: Ref
    dtype: np.dtype
    strides: list[int]
    kind: str = "v"


# --- reductions along rows and down columns -----------------------------------------------------------------------------
@dataclass(frozen=True)
class Along:
    """One operand or output of passes: its address (or count), byte strides along the outer loops, outermost first, and the
    byte step to the next segment of a row, or down a column."""

    ref: Ref | int
    strides: Sequence[int]
    step: int = 0


Around = tuple[int, int, int]  # [outer, size, inner] dense elements: an axis between what is before and after it


def around(shape: Sequence[int], axis: int) -> Around:
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


@dataclass(frozen=True)
class Reducer:
    """combine over map(element), then finish(total, count). `dtype` of the elements, `result` of finish."""

    dtype: np.dtype
    combine: str
    map: Callable[[Expr], Expr]
    finish: Callable[[Expr, Expr], Expr]
    result: np.dtype

    @property
    def count_dtype(self) -> np.dtype:
        """Integers are finished in 64 bits: a count need not fit their dtype."""
        return self.dtype if is_float(self.dtype) else np.dtype(np.uint64 if self.dtype.kind == "u" else np.int64)

    @property
    def passes(self) -> Passes:
        """Operands: the elements, their count."""
        mapped = self.map(e.arg(0, self.dtype))
        count = self.count_dtype if mapped.dtype.kind != "b" else np.dtype(np.int64)
        wide = mapped.dtype if is_float(mapped.dtype) or mapped.dtype == bool else count
        total = e.cast(e.arg(2, mapped.dtype), wide)
        finish = e.cast(self.finish(total, e.arg(1, wide)), self.result)
        one = Pass(self.combine, mapped, finish)
        return Passes("vc", (self.dtype.name, wide.name), (one,), (("s", e.arg(2, self.result)),))

    @property
    def partial(self) -> np.dtype:
        return self.map(e.arg(0, self.dtype)).dtype

    def first(self) -> Reducer:
        """Without the finish: for a part of the elements."""
        return replace(self, finish=lambda total, n: total, result=self.partial)

    def rest(self) -> Reducer:
        """What combines the parts."""
        return replace(self, dtype=self.partial, map=lambda x: x)


# --- positions from data ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Lookup:
    """Places in a tensor that positions name, over loops of the extents `dims`.

    index          positions, int32 or int64; those of one place lie side by side
    index_strides  bytes from one loop's positions to the next; data_strides: bytes that the place itself advances
    axes           (size, byte stride) of each axis that a position is looked up in
    negative       may positions count from the end?
    """

    index: Storage
    dims: Sequence[int]
    index_strides: Sequence[int]
    data_strides: Sequence[int]
    axes: Sequence[tuple[int, int]]
    negative: bool = True

    @property
    def count(self) -> int:
        return math.prod(self.dims)


@dataclass(frozen=True)
class Blend:
    """Weighted sums along the middle of [outer, size, inner] dense elements: result[i] = finish(sum over taps k of
    weights[i, k] * term(x[indices[i, k]])).

    taps    indices and weights, or where sizes stand for many what they follow from
    term    of an element (argument 0), in the dtype that is computed with; finish: of a sum
    """

    x: Ref
    y: Ref
    dtype: np.dtype
    around: Around
    taps: Taps | TapRule
    term: Expr
    finish: Expr


@dataclass(frozen=True)
class Table:
    """`count` byte offsets, int64, OUTSIDE where there is a fill. Those in [first, end) of `run` are of neighbours."""

    ref: Ref
    count: int
    run: tuple[int, int]


class Verbs(ABC):
    """A backend's verbs."""

    # --- copies --------------------------------------------------------------------------------------------------
    def copy(
        self, x: Ref, xs: Sequence[int], y: Ref, ys: Sequence[int], shape: Sequence[int], item: int, info: StepInfo
    ) -> None:
        """Copy `shape` elements of `item` bytes from byte strides xs to byte strides ys; none if the shape has a 0."""
        if 0 in shape:
            return
        while item > 8:  # complex numbers and the like: as pairs
            shape, xs, ys, item = [*shape, 2], [*xs, item // 2], [*ys, item // 2], item // 2
        dims, (xs, ys) = collapse(list(shape), [list(xs), list(ys)])
        self.copy_strided(x, xs, y, ys, dims, item, info)

    @abstractmethod
    def copy_strided(
        self, x: Ref, xs: list[int], y: Ref, ys: list[int], dims: list[int], item: int, info: StepInfo
    ) -> None:
        """As `copy`, of items of 1, 2, 4 or 8 bytes; loops that both sides walk as one are one."""

    @abstractmethod
    def copy_by_table(self, x: Ref, y: Ref, fill: Ref, item: int, tables: Sequence[Table], info: StepInfo) -> None:
        """y[i, j, …] = the item at x + tables[0][i] + tables[1][j] + …, or the one at `fill` where an offset is negative.
        y is dense."""

    @abstractmethod
    def write_numbers(self, y: Ref, values: Sequence[int], info: StepInfo) -> None:
        """y = the values, as int64: what sizes give."""

    @abstractmethod
    def count_up(self, y: Ref, start: int, step: int, count: int, info: StepInfo) -> None:
        """y[i] = start + i step, `count` numbers of int64."""

    @abstractmethod
    def write_positions(self, y: Ref, reads: Reads, stride: int, info: StepInfo) -> None:
        """y[i] = the element that result i reads times `stride`, or OUTSIDE, as int64."""

    def clear_halo(self, s: Storage) -> None:
        """Clear the halo of a blocked value. Only for backends whose layouts have halos."""
        layout = s.type.layout
        if layout is not None and (layout.left or layout.right):
            raise NotImplementedError(f"{type(self).__name__} has no halos")

    # --- arithmetic ----------------------------------------------------------------------------------------------
    @abstractmethod
    def map(
        self, expression: Expr, dims: list[int], walks: Sequence[Walk], unit: int, name: str, info: StepInfo
    ) -> None:
        """walks[0] = expression(walks[1:]) over `dims`, whose innermost counts runs of `unit` elements. name: of the
        result."""

    @abstractmethod
    def row_passes(
        self, p: Passes, dims: Sequence[int], operands: Sequence[Along], m: int, n: int, info: StepInfo
    ) -> None:
        """Per element of the outer `dims`: passes over a row of m segments of n contiguous elements."""

    @abstractmethod
    def column_passes(
        self, p: Passes, dims: Sequence[int], operands: Sequence[Along], m: int, n: int, info: StepInfo
    ) -> None:
        """Per element of the outer `dims`: passes down n neighbouring columns of m elements."""

    def reduce(self, r: Reducer, x: Ref, shape: Around, y: Ref, count: int, info: StepInfo) -> None:
        """Reduce the middle of [outer, size, inner] dense elements, which may be 0. `count`: what r.finish divides by."""
        outer, size, inner = shape
        item, to = r.dtype.itemsize, r.result.itemsize
        operands = [Along(x, [size * inner * item], inner * item), Along(count, [0]), Along(y, [inner * to])]
        if inner == 1:
            self.row_passes(r.passes, [outer], [replace(o, step=0) for o in operands], 1, size, info)
        else:
            self.column_passes(r.passes, [outer], operands, size, inner, info)

    @abstractmethod
    def extreme(
        self, largest: bool, last: bool, dtype: np.dtype, x: Ref, shape: Around, y: Ref, info: StepInfo
    ) -> None:
        """Positions, int64, of the largest (or smallest) along the middle of [outer, size, inner]; of equals the first or
        the last."""

    @abstractmethod
    def scan(
        self,
        combine: str,
        exclusive: bool,
        reverse: bool,
        dtype: np.dtype,
        x: Ref,
        shape: Around,
        y: Ref,
        info: StepInfo,
    ) -> None:
        """Running 'add' or 'mul' along the middle of [outer, size, inner]. exclusive: without the element itself."""

    @abstractmethod
    def top_k(
        self,
        largest: bool,
        dtype: np.dtype,
        x: Ref,
        shape: Around,
        k: int,
        y: Ref,
        places: Ref,
        name: str,
        info: StepInfo,
    ) -> None:
        """The k largest (or smallest) along the middle of [outer, size, inner], in order, and their places as int64; of
        equals the first."""

    @abstractmethod
    def blend(self, b: Blend, name: str, info: StepInfo) -> None:
        """See `Blend`. name: of the result."""

    # --- positions from data -------------------------------------------------------------------------------------
    @abstractmethod
    def gather(self, lookup: Lookup, x: Ref, y: Ref, block: int, check: Check, info: StepInfo) -> None:
        """y[i] = the `block` bytes at each place of x, one after the other. A position out of range: `check`."""

    @abstractmethod
    def scatter(
        self,
        lookup: Lookup,
        x: Ref | None,
        y: Ref,
        total: int,
        updates: Storage,
        block: int,
        reduction: str,
        check: Check,
        name: str,
        info: StepInfo,
    ) -> None:
        """y = x (zeros for None), `total` elements; then at each place, in order, `block` elements become (or are combined
        with, by `reduction`: 'none', 'add', 'mul', 'max', 'min') those of `updates`. There may be no place."""

    @abstractmethod
    def reverse(
        self,
        x: Ref,
        y: Ref,
        lengths: Storage,
        batch: tuple[int, int],
        time: tuple[int, int],
        block: int,
        check: Check,
        info: StepInfo,
    ) -> None:
        """Of each batch entry the first lengths[entry] steps in reverse, the others as they are. batch, time: (extent, byte
        stride); a step is `block` bytes."""
