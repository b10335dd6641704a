"""Reductions over any axes, as passes along rows or down columns; and the emission of such passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc import expr as e
from graphc.backends.cpu.blocks.reduce import PASSES
from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.elementwise import emit_map
from graphc.backends.cpu.lower.registry import lowers, native_dtypes
from graphc.backends.cpu.lower.strides import collapse
from graphc.backends.cpu.micro.reduce import Pass
from graphc.backends.cpu.sizes import PASS_DIMS, PASS_RECORDS
from graphc.backends.cpu.storage import Buffer, Ref
from graphc.dtypes import is_float, is_narrow
from graphc.expr import Expr
from graphc.fuse import Group
from graphc.op import all_ops
from graphc.ops.reduce import reduced_axes
from graphc.report import StepInfo

ROW_CHUNK = 8192  # elements of a row that one call reduces: partial sums keep their accuracy, threads share long rows
COLUMN_CHUNK = 512
SHORT = 4  # vectors: rows that are no longer have one accumulator
ROWS_CHUNK = 8192  # elements of the rows that one call reduces, where it reduces several
LANES_CHUNK = 1024  # columns of one call


@dataclass(frozen=True)
class Record:
    """One operand or output of a micro-kernel that takes (m, n, table): an address and a byte step.

    strides: bytes along each outer dim, outermost first; chunk_m, chunk_n: bytes from one chunk of m or n to the next.
    """

    ref: Ref | int
    strides: Sequence[int]
    step: int = 0
    chunk_m: int = 0
    chunk_n: int = 0


def emit_passes(
    lo: Lowering,
    micro: Kernel,
    dims: Sequence[int],
    records: Sequence[Record],
    m: int,
    n: int,
    info: StepInfo,
    chunk_m: int | None = None,
    chunk_n: int | None = None,
) -> None:
    """Call `micro` for each element of the outer `dims` and each chunk of m by n."""
    dims, strides = collapse(list(dims), [list(r.strides) for r in records])
    if len(dims) > PASS_DIMS or len(records) > PASS_RECORDS:
        raise AssertionError(f"{info.output} needs {len(dims)} loops and {len(records)} operands")
    scratch, stride = lo.scratch(info.output, 16 * len(records))
    missing = PASS_DIMS - len(dims)
    args = PASSES(
        micro=micro, operands=len(records), scratch=scratch, stride=stride, m=m, m_chunk=chunk_m or max(m, 1),
        n=n, n_chunk=chunk_n or max(n, 1), dims=dims[::-1] + [1] * missing,
        records=[
            {"ref": r.ref, "step": r.step, "m_bytes": r.chunk_m, "n_bytes": r.chunk_n, "strides": s[::-1] + [0] * missing}
            for r, s in zip(records, strides)
        ],
    )  # fmt: skip
    lo.emit(Kernel("passes"), args, info)


def accumulator(dtype: np.dtype) -> np.dtype:
    """What sums of a dtype are kept in."""
    return np.dtype(np.float32) if is_narrow(dtype) else dtype


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

    def kernel(self, name: str, *form: bool) -> Kernel:
        mapped = self.map(e.arg(0, self.dtype))
        count = self.count_dtype if mapped.dtype.kind != "b" else np.dtype(np.int64)
        wide = mapped.dtype if is_float(mapped.dtype) or mapped.dtype == bool else count
        total = e.cast(e.arg(2, mapped.dtype), wide)
        finish = e.cast(self.finish(total, e.arg(1, wide)), self.result)
        p, dtypes, result = Pass(self.combine, mapped, finish), (self.dtype.name, wide.name), e.arg(2, self.result)
        return Kernel(
            name, (dtypes, p, result, *form) if name == "many_rows" else ("vc", dtypes, (p,), (("s", result),))
        )

    @property
    def partial(self) -> np.dtype:
        return self.map(e.arg(0, self.dtype)).dtype

    def first(self) -> Reducer:
        """Without the finish: for a part of the elements."""
        return replace(self, finish=lambda total, n: total, result=self.partial)

    def rest(self) -> Reducer:
        """What combines the parts."""
        return replace(self, dtype=self.partial, map=lambda x: x)


def emit_reduction(
    lo: Lowering, r: Reducer, x: Ref, shape: tuple[int, int, int], out: Ref, count: int, info: StepInfo
) -> None:
    """Reduce the middle of [outer, size, inner] dense elements. `count`: how many elements r.finish divides by.

    Long axes go in chunks whose partial results are reduced again, the same way for any number of threads.
    """
    outer, size, inner = shape
    chunk = ROW_CHUNK if inner == 1 else COLUMN_CHUNK
    if size >= 4 * chunk:
        pieces = -(-size // chunk)
        partial = Ref(Buffer(f"{info.output}/partial", outer * pieces * inner * r.partial.itemsize))
        _emit_chunks(lo, r.first(), x, shape, chunk, partial, count, info)
        emit_reduction(lo, r.rest(), partial, (outer, pieces, inner), out, count, replace(info, nbytes=0, flops=0))
    else:
        _emit_chunks(lo, r, x, shape, max(size, 1), out, count, info)


def _emit_chunks(lo, r: Reducer, x: Ref, shape, chunk: int, out: Ref, count: int, info: StepInfo) -> None:
    outer, size, inner = shape
    pieces = max(-(-size // chunk), 1)
    item, to = r.dtype.itemsize, r.result.itemsize
    counted = Record(count, [0])
    if inner == 1 and pieces == 1 and outer > 1:
        rows = -(-ROWS_CHUNK // max(size, 1) // lo.target.vl) * lo.target.vl
        records = [Record(x, [0], size * item, rows * size * item), counted, Record(out, [0], to, rows * to)]
        micro = r.kernel("many_rows", size < SHORT * lo.target.vl)
        emit_passes(lo, micro, [1], records, outer, size, info, rows, size)
        return
    if inner == 1:
        records = [Record(x, [size * item], chunk_n=chunk * item), counted, Record(out, [pieces * to], chunk_n=to)]
        emit_passes(lo, r.kernel("row_passes"), [outer], records, 1, size, info, chunk_n=chunk)
        return
    width = LANES_CHUNK
    records = [
        Record(x, [size * inner * item], inner * item, chunk * inner * item, width * item),
        counted,
        Record(out, [pieces * inner * to], 0, inner * to, width * to),
    ]
    emit_passes(lo, r.kernel("column_passes"), [outer], records, size, inner, info, chunk, width)


def around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """[outer, size, inner]: the axis between what is before and after it."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def groups_of(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, bool]]:
    """The shape as (extent, reduced?) with neighbours of a kind merged and extents of 1 left out."""
    groups: list[tuple[int, bool]] = []
    for i, d in enumerate(shape):
        reduced = i in axes
        if d == 1:
            continue
        if groups and groups[-1][1] == reduced:
            groups[-1] = (groups[-1][0] * d, reduced)
        else:
            groups.append((d, reduced))
    return groups


def emit_reduction_over(lo: Lowering, r: Reducer, x: Ref, shape, axes, out: Ref, info: StepInfo) -> None:
    """Reduce over several axes: the innermost neighbours first, what is left after them again."""
    groups = groups_of(shape, axes)
    count = math.prod(shape[a] for a in axes)
    at = [i for i, (_, reduced) in enumerate(groups) if reduced]
    while len(at) > 1:
        outer, size, inner = _split(groups, at[-1])
        partial = Ref(Buffer(f"{info.output}/partial{len(at)}", outer * inner * r.partial.itemsize))
        emit_reduction(lo, r.first(), x, (outer, size, inner), partial, count, info)
        groups.pop(at[-1])
        x, r, info = partial, r.rest(), replace(info, nbytes=0, flops=0)
        groups = _merged(groups)
        at = [i for i, (_, reduced) in enumerate(groups) if reduced]
    emit_reduction(lo, r, x, _split(groups, at[0]) if at else (math.prod(shape), 1, 1), out, count, info)


def _split(groups: list[tuple[int, bool]], at: int) -> tuple[int, int, int]:
    extents = [d for d, _ in groups]
    return math.prod(extents[:at]), extents[at], math.prod(extents[at + 1 :])


def _merged(groups: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    return groups_of([d for d, _ in groups], [i for i, (_, reduced) in enumerate(groups) if reduced])


def reducer_of(node) -> Reducer:
    """A Reduce* operator's own record, sums of narrow floats in float32."""
    reduction, dtype = node.op.reduction, node.inputs[0].dtype
    return Reducer(
        dtype, reduction.combine, lambda x: e.cast(reduction.map(x), accumulator(x.dtype)), reduction.finish, dtype
    )


@lowers(*(name for name, op in all_ops().items() if op.reduction is not None), supported=native_dtypes)
def lower_reduction(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    if node.output.type.size == 0:
        return
    r, axes = reducer_of(node), reduced_axes(node.call)
    if not any(node.inputs[0].shape[a] != 1 for a in axes):  # each element by itself
        total = r.map(e.arg(0, r.dtype))
        expression = e.cast(r.finish(total, e.const(1, total.dtype)), r.dtype)
        plain = replace(group, anchor=None, expression=expression, operands=(node.inputs[0],))
        item = r.dtype.itemsize
        emit_map(lo, plain, [node.output.type.size], [[item], [item]], [out, x])
        return
    emit_reduction_over(
        lo, r, x.ref, node.inputs[0].shape, axes, out.ref, lo.info(group, "passes", "", f"over axes {list(axes)}")
    )
