"""Steps along rows or down columns: passes, reductions of long axes in parts, weighted sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from graphc import expr as e
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.sizes import either
from graphc.backends.cuda.verbs.numbers import tap_tables
from graphc.backends.cuda.verbs.passes_block import BLEND, PASSES, BlendAxis, ColumnPasses, RowPasses
from graphc.expr import Expr
from graphc.lower.kernel import Kernel, Passes
from graphc.lower.limits import PASS_DIMS, PASS_RECORDS
from graphc.lower.storage import Buffer, Ref
from graphc.lower.strides import collapse
from graphc.lower.verbs import Along, Blend
from graphc.report import StepInfo
from graphc.sizes import choose, is_size, largest, smallest, where
from graphc.types import dtype_from_name

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

WARP = 32
EACH = 4  # elements of a short row that a thread takes
LONG = 1024  # rows that are longer have a whole block
WIDE, WIDE_THREADS = 8192, 512  # rows that are longer have a larger one
ROW_PART, COLUMN_PART = 8192, 512  # elements of a part of an axis that is reduced in parts
BUSY = 1 << 15  # threads that a GPU wants at least
NARROW = 8  # columns of a block at least, where there are as many neighbours


class _Group(NamedTuple):
    """The kernel, and how its threads share rows or columns: see PASSES."""

    kernel: Kernel
    shift: int
    per_block: int


def row_passes(
    lo: CudaLowering, p: Passes, dims: Sequence[int], operands: Sequence[Along], m: int, n: int, info: StepInfo
) -> None:
    if m == 1 and n >= 4 * ROW_PART and _in_parts(lo, p, dims, operands, n, None, info):
        return
    loops, walks = _loops(dims, operands, info)
    length = m * n
    threads = either(length - WIDE, WIDE_THREADS, THREADS)
    kernel = RowPasses(**vars(p), loops=len(loops), segments=m > 1, threads=threads)
    shift = where(length - LONG, where(length - WIDE, *map(_log2, (WIDE_THREADS, THREADS))), choose(_row_shift, length))
    group = _Group(kernel, shift, where(length - LONG, 1, choose(lambda n: THREADS >> _row_shift(n), length)))
    _emit(lo, group, loops, walks, operands, prod(dims), length, n, info, len(p.kinds))


def column_passes(
    lo: CudaLowering, p: Passes, dims: Sequence[int], operands: Sequence[Along], m: int, n: int, info: StepInfo
) -> None:
    if m >= 4 * COLUMN_PART and _in_parts(lo, p, dims, operands, m, n, info):
        return
    loops, walks = _loops(dims, operands, info)
    columns = prod(dims) * n
    group = _Group(ColumnPasses(**vars(p), loops=len(loops)), *column_width(columns, m, n))
    _emit(lo, group, loops, walks, operands, columns, m, n, info, len(p.kinds))


def power_of_two(n: int) -> int:
    """The smallest that is no less."""
    return 1 << max(n - 1, 0).bit_length()


def _log2(n: int) -> int:
    return n.bit_length() - 1


def _row_shift(length: int) -> int:
    """Of threads that share a row which is not long."""
    return _log2(min(WARP, power_of_two(-(-length // EACH))))


def column_width(columns: int, length: int, neighbours: int) -> tuple[int, int]:
    """Columns of a block, a power of two, and before it which one, as values. More threads share one where there are too few
    columns to keep a GPU busy, and each has enough elements."""
    most = choose(lambda n: _log2(THREADS // min(power_of_two(n), NARROW)), neighbours)
    busy = choose(lambda n: _log2(power_of_two(n)), -(-BUSY // largest(columns, 1)))
    enough = choose(lambda n: _log2(power_of_two(n)), length // (2 * EACH) + 1)
    shift = _log2(THREADS) - smallest(most, busy, enough)
    return shift, choose(lambda n: 1 << (n - 1), shift + 1)


def _loops(dims: Sequence[int], operands: Sequence[Along], info: StepInfo) -> tuple[list[int], list[list[int]]]:
    loops, walks = collapse(list(dims), [list(o.strides) for o in operands])
    if len(loops) > PASS_DIMS or len(operands) > PASS_RECORDS:
        raise AssertionError(f"{info.output} needs {len(loops)} loops and {len(operands)} operands")
    return loops, walks


def _emit(
    lo: CudaLowering,
    group: _Group,
    loops: Sequence[int],
    walks: Sequence[Sequence[int]],
    operands: Sequence[Along],
    total: int,
    length: int,
    n: int,
    info: StepInfo,
    reads: int,
) -> None:
    pad = PASS_DIMS - len(loops)
    args = PASSES(
        grid=-(-total // group.per_block), total=total, length=length, n=n, shift=group.shift, dims=[*loops[::-1], *[1] * pad],
        records=[{"ref": o.ref, "step": o.step, "strides": [*w[::-1], *[0] * pad]} for o, w in zip(operands, walks)],
    )  # fmt: skip
    lo.emit(group.kernel, args, info, writes=[o.ref for o in operands[reads:] if isinstance(o.ref, Ref)])


# --- long axes ----------------------------------------------------------------------------------------------------------
def _in_parts(
    lo: CudaLowering,
    p: Passes,
    dims: Sequence[int],
    operands: Sequence[Along],
    size: int,
    columns: int | None,
    info: StepInfo,
) -> bool:
    """Reduce parts of an axis of `size` elements, then what they gave: so that many threads share it, and sums of many stay
    accurate. columns: how many neighbours there are, None of a row. False where p is no plain reduction."""
    parts = _parted(p)
    if parts is None or len(dims) == PASS_DIMS:
        return False
    first, rest = parts
    part, width, count = (ROW_PART, 1, len(p.kinds)) if columns is None else (COLUMN_PART, columns, len(p.kinds))
    pieces, dtype = -(-size // part), p.passes[0].map.dtype
    whole = pieces - 1 if is_size(size) else size // part
    left = size - whole * part  # a whole part, too, where a size that stands for many has nothing left
    row = pieces * width * dtype.itemsize
    outer = [row * prod(dims[i + 1 :]) for i in range(len(dims))]
    partial = Ref(Buffer(f"{info.output}/partial", row * prod(dims)))

    steps = [_between(o, kind, d, columns is None) for o, kind, d in zip(operands, p.kinds, p.dtypes)]
    given = [replace(o, strides=[*o.strides, part * by]) for o, by in zip(operands, steps)]
    given.append(Along(partial, [*outer, width * dtype.itemsize]))
    _piece(lo, first, [*dims, whole], given, part, columns, info)
    info = replace(info, nbytes=0, flops=0)
    if left:
        given = [replace(o, ref=o.ref + whole * part * by) for o, by in zip(operands, steps)]
        given.append(Along(partial + whole * width * dtype.itemsize, outer))
        _piece(lo, first, dims, given, left, columns, info)

    of_parts = Along(partial, outer, width * dtype.itemsize if columns else 0)
    given = [o if kind == "c" else of_parts for o, kind in zip(operands, p.kinds)]
    _piece(lo, rest, dims, [*given, *operands[count:]], pieces, columns, info)
    return True


def _piece(
    lo: CudaLowering,
    p: Passes,
    dims: Sequence[int],
    operands: Sequence[Along],
    size: int,
    columns: int | None,
    info: StepInfo,
) -> None:
    if columns is None:
        row_passes(lo, p, dims, operands, 1, size, info)
    else:
        column_passes(lo, p, dims, operands, size, columns, info)


def _between(o: Along, kind: str, dtype: str, along: bool) -> int:
    """Bytes from one element of the axis to the next."""
    if kind == "c":
        return 0
    return o.step if not along else dtype_from_name(dtype).itemsize if kind == "v" else 0


def _parted(p: Passes) -> tuple[Passes, Passes] | None:
    """Passes over a part of an axis, which give what its elements combine to; and over what the parts gave."""
    one, count = p.passes[0], len(p.kinds)
    numbers = (one.finish, *(value for _, value in p.outputs))
    used = {i for value in numbers for i in _operands(value) if i < count}
    if len(p.passes) > 1 or one.keep or any(k == "v" for k, _ in p.outputs) or any(p.kinds[i] != "c" for i in used):
        return None
    dtype = one.map.dtype
    total = e.arg(count, dtype)
    first = replace(p, passes=(replace(one, finish=total),), outputs=(("s", total),))
    kinds = "".join("c" if k == "c" else "v" for k in p.kinds)
    dtypes = tuple(d if k == "c" else dtype.name for k, d in zip(p.kinds, p.dtypes))
    part = e.arg(kinds.index("v"), dtype)
    return first, Passes(kinds, dtypes, (replace(one, map=part),), p.outputs)


def _operands(value: Expr) -> set[int]:
    """Indices of the operands that an expression reads."""
    if value.prim == "arg":
        return {value.index}
    return {i for a in value.args for i in _operands(a)}


# --- weighted sums ------------------------------------------------------------------------------------------------------
def blend(lo: CudaLowering, b: Blend, name: str, info: StepInfo) -> None:
    outer, size, inner = b.around
    n, taps = b.taps.count, b.taps.width
    row, total = inner * b.dtype.itemsize, outer * n * inner
    offsets, weights = tap_tables(lo, b.taps, row, b.term.dtype)
    args = BLEND(
        grid=-(-total // THREADS), total=total, x=b.x, y=b.y, n=n, inner=inner, x_bytes=size * row, taps=taps,
        offsets=offsets, weights=weights,
    )  # fmt: skip
    lo.emit(BlendAxis(b.dtype.name, b.term, b.finish), args, info, writes=[b.y])
