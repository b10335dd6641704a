"""Transposing one row between `c` planes of pixels and pixels of `c` channels."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.blocked.reorder_block import InterleaveRow, SeparateRow
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.copy_block import TransposePanel
from graphc.backends.llvm.emit import F32, I64, Emit, define, i64


@micro(InterleaveRow)
def interleave_row(module: ir.Module, symbol: str, target: Target, c: int) -> None:
    """void(planes, pixels, w, channels, plane bytes): pixels[i][j] = planes[j][i]."""
    _row(module, symbol, c, to_pixels=True)


@micro(SeparateRow)
def separate_row(module: ir.Module, symbol: str, target: Target, c: int) -> None:
    """void(pixels, planes, w, channels, plane bytes): planes[j][i] = pixels[i][j]."""
    _row(module, symbol, c, to_pixels=False)


@micro(TransposePanel)
def transpose_panel(module: ir.Module, symbol: str, target: Target, tile: int, item: int) -> None:
    """void(columns, x, x_row, y, y_column): y[j * y_column + i] = x[i * x_row + j] for `tile` rows i, columns j >= tile.

    Elements of `item` bytes. The last tile overlaps the one before it.
    """
    fn, q = define(module, symbol, [I64] * 5)
    columns, x, x_row, y, y_column = fn.args
    b, kind = q.b, ir.IntType(8 * item)
    last = b.sub(columns, i64(tile))
    with q.loop(columns, step=tile) as start:
        j = b.select(b.icmp_signed("<", start, last), start, last)
        from_x = b.add(x, b.mul(j, i64(item)))
        rows = [q.load_raw(q.pointer(b.add(from_x, b.mul(x_row, i64(i)))), kind, tile) for i in range(tile)]
        to_y = b.add(y, b.mul(j, y_column))
        for i, value in enumerate(transpose(q, rows)):
            q.store_raw(value, q.pointer(b.add(to_y, b.mul(y_column, i64(i)))))
    b.ret_void()


def _row(module: ir.Module, symbol: str, c: int, to_pixels: bool) -> None:
    fn, q = define(module, symbol, [I64] * 5)
    b = q.b
    source, target, w, channels, plane = fn.args
    planes, pixels = (q.pointer(source), q.pointer(target)) if to_pixels else (q.pointer(target), q.pointer(source))
    full = b.icmp_signed("==", channels, i64(c))
    with b.if_else(full) as (whole, part):
        with whole:
            done = b.and_(w, i64(-c))
            with q.loop(done, step=c) as i:  # c x c tiles: load rows, shuffle, store rows
                at_planes = [q.offset(planes, b.add(b.mul(plane, i64(j)), b.mul(i, i64(4)))) for j in range(c)]
                at_pixels = [q.offset(pixels, b.mul(b.add(i, i64(j)), i64(4 * c))) for j in range(c)]
                rows = [q.load_raw(p, F32, c) for p in (at_planes if to_pixels else at_pixels)]
                for value, p in zip(transpose(q, rows), at_pixels if to_pixels else at_planes):
                    q.store_raw(value, p)
            _scalar(q, planes, pixels, plane, i64(c), c, done, w, to_pixels)
        with part:
            _scalar(q, planes, pixels, plane, channels, c, i64(0), w, to_pixels)
    b.ret_void()


def _scalar(
    q: Emit,
    planes: ir.Value,
    pixels: ir.Value,
    plane: ir.Value,
    channels: ir.Value,
    c: int,
    start: ir.Value,
    w: ir.Value,
    to_pixels: bool,
) -> None:
    b = q.b
    with q.loop(channels) as j:
        row = q.offset(planes, b.mul(j, plane))
        with q.loop(w, start=start) as i:
            p = q.offset(row, b.mul(i, i64(4)))
            x = q.offset(pixels, b.add(b.mul(i, i64(4 * c)), b.mul(j, i64(4))))
            a, z = (p, x) if to_pixels else (x, p)
            q.store_raw(q.load_raw(a, F32, 1), z)


def transpose(q: Emit, rows: list[ir.Value]) -> list[ir.Value]:
    """Transpose n vectors of n lanes (n a power of two) in log2(n) rounds of two-operand shuffles."""
    n = len(rows)
    half = n // 2
    while half:
        out = list(rows)
        for i in range(n):
            if not i & half:
                lo, hi = rows[i], rows[i | half]
                keep = [k if not k & half else n + (k ^ half) for k in range(n)]
                swap = [(k | half) if not k & half else n + k for k in range(n)]
                out[i], out[i | half] = _shuffle(q, lo, hi, keep), _shuffle(q, lo, hi, swap)
        rows = out
        half //= 2
    return rows


def _shuffle(q: Emit, a: ir.Value, b: ir.Value, mask: list[int]) -> ir.Value:
    return q.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(mask)), mask))
