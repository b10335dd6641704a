"""The context of a lowering for the GPU: the verbs."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from graphc.backends.cuda.codegen.arch import EMULATED, WITH_GROUPS, Arch
from graphc.backends.cuda.codegen.figures import card_of
from graphc.backends.cuda.lower.choices import Choices
from graphc.backends.cuda.lower.registry import RULES
from graphc.backends.cuda.verbs import copy, index, map, numbers, ordered, passes  # noqa: A004
from graphc.expr import Expr
from graphc.graph import Value
from graphc.lower.checks import Check
from graphc.lower.kernel import Passes
from graphc.lower.lowering import Lowering
from graphc.lower.program import Step
from graphc.lower.storage import Buffer, Ref, Storage, channels_last_strides
from graphc.lower.verbs import Along, Around, Blend, Lookup, Table, Walk
from graphc.lower.weights import WeightStore
from graphc.ops._positions import Reads
from graphc.report import StepInfo

PIXEL = 16  # bytes that are copied at once


class CudaLowering(Lowering):
    """See graphc/lower/verbs.py for what each verb does. arch, precision: see `CudaOptions`; choices: see there. multiprocessors:
    that the GPU surely has. has_groups: can four warps multiply together?"""

    any_strides = True

    def __init__(
        self,
        weights: WeightStore,
        checked: bool = False,
        arch: Arch = EMULATED,
        precision: str = "float32",
        multiprocessors: int | None = None,
        choices: Choices | None = None,
    ) -> None:
        super().__init__(weights, RULES, checked)
        self.arch, self.card, self.precision = arch, card_of(arch), precision
        self.multiprocessors = min(self.card.multiprocessors, multiprocessors or self.card.multiprocessors)
        self.has_groups = arch == WITH_GROUPS
        self.choices = choices or Choices()
        self._pixels: dict[Value, Storage] = {}

    def inner(self) -> CudaLowering:
        """For a graph that a node holds."""
        return CudaLowering(self.weights, self.checked, self.arch, self.precision, self.multiprocessors, self.choices)

    @contextmanager
    def aside(self) -> Iterator[list[Step]]:
        """Of the steps until the end, none is one of the program's: the list has them then."""
        made: list[Step] = []
        steps, copies, pixels = self.program.steps, dict(self._copies), dict(self._pixels)
        before = len(steps)
        yield made
        made += [s for s in steps[before:] if isinstance(s, Step)]
        del steps[before:]
        self._copies, self._pixels = copies, pixels

    def scratch(self, name: str, nbytes: int) -> Ref:
        """Memory that one step uses."""
        return Ref(Buffer(f"{name}/scratch", nbytes, "scratch"))

    def lies_in(self, v: Value, buffers: Container[Buffer]) -> bool:
        pixels = self._pixels.get(v)
        return super().lies_in(v, buffers) or (pixels is not None and pixels.ref.buffer in buffers)

    def has_pixels(self, v: Value) -> bool:
        return v in self._pixels

    def pixels(self, v: Value) -> Storage:
        """A copy of an image [N, C, *spatial] with its channels innermost, each pixel at a multiple of PIXEL bytes."""
        if v not in self._pixels:
            t = v.type
            whole = t.with_shape(
                (t.extents[0], -(-t.extents[1] * t.dtype.itemsize // PIXEL) * PIXEL // t.dtype.itemsize, *t.extents[2:])
            )
            to = Ref(Buffer(f"{v.name}/pixels", whole.nbytes))
            self._pixels[v] = self.copied(v, Storage(to, t, channels_last_strides(whole), True))
        return self._pixels[v]

    def copy_strided(
        self, x: Ref, xs: list[int], y: Ref, ys: list[int], dims: list[int], item: int, info: StepInfo
    ) -> None:
        copy.copy_strided(self, x, xs, y, ys, dims, item, info)

    def copy_by_table(self, x: Ref, y: Ref, fill: Ref, item: int, tables: Sequence[Table], info: StepInfo) -> None:
        copy.copy_by_table(self, x, y, fill, item, tables, info)

    def write_numbers(self, y: Ref, values: Sequence[int], info: StepInfo) -> None:
        numbers.write_numbers(self, y, values, info)

    def count_up(self, y: Ref, start: int, step: int, count: int, info: StepInfo) -> None:
        numbers.count_up(self, y, start, step, count, info)

    def write_positions(self, y: Ref, reads: Reads, stride: int, info: StepInfo) -> None:
        numbers.write_positions(self, y, reads, stride, info)

    def map(
        self, expression: Expr, dims: list[int], walks: Sequence[Walk], unit: int, name: str, info: StepInfo
    ) -> None:
        map.emit_map(self, expression, dims, walks, unit, info)

    def row_passes(
        self, p: Passes, dims: Sequence[int], operands: Sequence[Along], m: int, n: int, info: StepInfo
    ) -> None:
        passes.row_passes(self, p, dims, operands, m, n, info)

    def column_passes(
        self, p: Passes, dims: Sequence[int], operands: Sequence[Along], m: int, n: int, info: StepInfo
    ) -> None:
        passes.column_passes(self, p, dims, operands, m, n, info)

    def extreme(
        self, largest: bool, last: bool, dtype: np.dtype, x: Ref, shape: Around, y: Ref, info: StepInfo
    ) -> None:
        ordered.extreme(self, largest, last, dtype, x, shape, y, info)

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
        ordered.scan(self, combine, exclusive, reverse, dtype, x, shape, y, info)

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
        ordered.top_k(self, largest, dtype, x, shape, k, y, places, name, info)

    def blend(self, b: Blend, name: str, info: StepInfo) -> None:
        passes.blend(self, b, name, info)

    def gather(self, lookup: Lookup, x: Ref, y: Ref, block: int, check: Check, info: StepInfo) -> None:
        index.gather(self, lookup, x, y, block, check, info)

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
        index.scatter(self, lookup, x, y, total, updates, block, reduction, check, name, info)

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
        index.reverse(self, x, y, lengths, batch, time, block, check, info)
