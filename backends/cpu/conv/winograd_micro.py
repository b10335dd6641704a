"""Transforms of Winograd's minimal filtering F(m x m, 3 x 3) (Lavin & Gray, "Fast Algorithms for Convolutional Neural
Networks", 2016), one tile of c channels at a time. The matrices are exact fractions; the code is unrolled from them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from llvmlite import ir

from graphc.backends.cpu.conv.conv_row_micro import BLOCK_BYTES, MAX_EPILOGUE_OPERANDS, clip, operand_indices
from graphc.backends.cpu.conv.winograd_block import WINOGRAD_IN, WINOGRAD_OUT, WinogradIn, WinogradOut
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.sizes import lines
from graphc.backends.cpu.target import Target
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, I64, PTR, Emit, define, i64
from graphc.expr import Expr

Matrix = list[list[Fraction]]
# points of interpolation, besides 0 and infinity; in +- pairs, so that transforms share sums and differences; those with
# the least `amplification` among fractions whose powers float32 holds
POINTS: dict[int, tuple[int | Fraction, ...]] = {
    2: (1,),
    4: (Fraction(3, 4), Fraction(3, 2)),
    6: (1, 2, Fraction(1, 2)),
}


@lru_cache
def matrices(m: int) -> tuple[Matrix, Matrix, Matrix]:
    """B^T (n x n), G (n x 3) and A^T (m x n) of F(m, 3), n = m + 2, by Cook-Toom over POINTS[m].

    y = A^T [(G g) * (B^T d)]. B^T is scaled to hold the small numbers: rows are the coefficients of the Lagrange products.
    """
    n = m + 2
    points = [Fraction(0)] + [s * Fraction(p) for p in POINTS[m] for s in (1, -1)]
    at = [[p**i for p in points] + [Fraction(int(i == m - 1))] for i in range(m)]
    g, bt = [], []
    for k, p in enumerate(points):
        others = [q for j, q in enumerate(points) if j != k]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        g.append([p**i / scale for i in range(3)])
        bt.append(_coefficients(others) + [Fraction(0)])
    g.append([Fraction(0), Fraction(0), Fraction(1)])
    bt.append(_coefficients(points))
    assert all(len(row) == n for row in bt)
    return bt, g, at


@lru_cache
def amplification(m: int) -> float:
    """How much A^T enlarges the rounding errors of the n points, in one direction: the standard deviation of the error of
    that output which has most, over that of the output itself, where weights and pixels are independent and of equal
    variance and each point has an error of 1 standard deviation of its own."""
    bt, g, at = matrices(m)
    points = [sum(v * v for v in b) * sum(v * v for v in f) for b, f in zip(bt, g)]
    return float(max(sum(a * a * p for a, p in zip(row, points)) for row in at) / 3) ** 0.5


def _coefficients(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of prod (x - r), lowest power first."""
    c = [Fraction(1)]
    for r in roots:
        c = [(c[i - 1] if i else 0) - r * (c[i] if i < len(c) else 0) for i in range(len(c) + 1)]
    return c


def _combine(q: Emit, coefficients: list[Fraction], vectors: list[ir.Value], lanes: int) -> ir.Value:
    """sum of coefficient * vector, with multiplications by 1 and -1 left out."""
    terms = sorted(((Fraction(c), v) for c, v in zip(coefficients, vectors) if c), key=lambda t: t[0] != 1)
    c, v = terms[0]
    acc = v if c == 1 else q.b.fmul(q.const(float(c), F32, lanes), v)
    for c, v in terms[1:]:
        if c == 1:
            acc = q.b.fadd(acc, v)
        elif c == -1:
            acc = q.b.fsub(acc, v)
        else:
            acc = q.fma(q.const(float(c), F32, lanes), v, acc)
    return acc


def _apply_bt(q: Emit, bt: Matrix, d: list[ir.Value], lanes: int) -> list[ir.Value]:
    """B^T d. Rows 1 … n-2 come in pairs of points +-p, which share their even and odd parts."""
    n = len(bt)
    out: list = [None] * n
    out[0], out[n - 1] = _combine(q, bt[0], d, lanes), _combine(q, bt[n - 1], d, lanes)
    for i in range(1, n - 1, 2):
        even = _combine(q, [(a + b) / 2 for a, b in zip(bt[i], bt[i + 1])], d, lanes)
        odd = _combine(q, [(a - b) / 2 for a, b in zip(bt[i], bt[i + 1])], d, lanes)
        out[i], out[i + 1] = q.b.fadd(even, odd), q.b.fsub(even, odd)
    return out


def _apply_at(q: Emit, at: Matrix, d: list[ir.Value], lanes: int) -> list[ir.Value]:
    """A^T d. Columns of points +-p share their sums (even powers) and differences (odd powers)."""
    n = len(d)
    pairs = range(1, n - 1, 2)
    sums = [q.b.fadd(d[i], d[i + 1]) for i in pairs]
    differences = [q.b.fsub(d[i], d[i + 1]) for i in pairs]
    out = []
    for row in at:
        coefficients, vectors = [row[0]], [d[0]]
        for k, i in enumerate(pairs):
            coefficients.append(row[i])
            vectors.append(sums[k] if row[i] == row[i + 1] else differences[k])
        out.append(_combine(q, [*coefficients, row[n - 1]], [*vectors, d[n - 1]], lanes))
    return out


@micro(WinogradIn)
def winograd_in(module: ir.Module, symbol: str, target: Target, m: int) -> None:
    """void(block, source, to, first row, end row, first column, end column): V = B^T d B of the n x n pixels at source.

    Rows and columns outside [first, end) are outside the image and count as zeros. Point (r, c) goes to
    to + (r * n + c) * `point`.
    """
    bt, _, _ = matrices(m)
    n, vl = m + 2, target.vl
    vector = target.vector
    fn, q = define(module, symbol, [PTR] + [I64] * 6)
    block, source, to, r0, r1, c0, c1 = fn.args
    b = q.b
    source, to = q.pointer(source), q.pointer(to)
    row, point = (q.slot(block, i) for i in WINOGRAD_IN["row point"])
    temporary, zeros = (q.pointer(q.slot(block, i)) for i in WINOGRAD_IN["temporary zeros"])
    whole = b.icmp_signed("==", b.add(b.sub(r1, r0), b.sub(c1, c0)), i64(2 * n))

    def columns(load: Callable[..., ir.Value]) -> None:
        with q.loop(i64(n)) as c:
            at = q.offset(source, b.mul(c, i64(vector)))
            done = _apply_bt(q, bt, [load(at, r, c) for r in range(n)], vl)
            for r, v in enumerate(done):
                q.store_raw(v, q.offset(temporary, b.add(b.mul(c, i64(vector)), i64(r * n * vector))))

    def inside(at: ir.Value, r: int, c: ir.Value) -> ir.Value:
        return q.load_raw(q.offset(at, b.mul(row, i64(r))), F32, vl)

    def at_border(at: ir.Value, r: int, c: ir.Value) -> ir.Value:
        ok = b.and_(b.icmp_signed(">=", c, c0), b.icmp_signed("<", c, c1))
        ok = b.and_(ok, b.and_(b.icmp_signed("<=", r0, i64(r)), b.icmp_signed(">", r1, i64(r))))
        return q.load_raw(b.select(ok, q.offset(at, b.mul(row, i64(r))), zeros), F32, vl)

    with b.if_else(whole) as (interior, border):
        with interior:
            columns(inside)
        with border:
            columns(at_border)
    with q.loop(i64(n)) as r:
        at = q.offset(temporary, b.mul(r, i64(n * vector)))
        out = q.offset(to, b.mul(r, b.mul(point, i64(n))))
        for c, v in enumerate(_apply_bt(q, bt, [q.load_raw(q.offset(at, c * vector), F32, vl) for c in range(n)], vl)):
            q.store_raw(v, q.offset(out, b.mul(point, i64(c))))
    b.ret_void()


# bytes of a thread's scratch: argument blocks of the transforms and of the products, then the other memory
IN_BLOCK = 0
OUT_BLOCK = IN_BLOCK + lines(8 * WINOGRAD_IN.size)
PRODUCT_BLOCK = OUT_BLOCK + lines(8 * (WINOGRAD_OUT.size + WINOGRAD_OUT.record_size * MAX_EPILOGUE_OPERANDS))
HEAD_BYTES = PRODUCT_BLOCK + BLOCK_BYTES


@micro(WinogradOut)
def winograd_out(module: ir.Module, symbol: str, target: Target, m: int, epilogue: Expr | None) -> None:
    """void(block, source, to, bias, rows, columns): Y = A^T M A, bias, epilogue, for the rows x columns pixels inside the image.

    The epilogue is as in conv/conv_row_micro.py: clip(y + operand 0 of the epilogue, lo, hi), or an expression of y and the epilogue's operands.
    """
    _, _, at = matrices(m)
    n, vl = m + 2, target.vl
    vector = target.vector
    fn, q = define(module, symbol, [PTR] + [I64] * 5)
    block, source, to, bias, rows, columns = fn.args
    b = q.b
    source, to = q.pointer(source), q.pointer(to)
    row, point, temporary = (q.slot(block, i) for i in WINOGRAD_OUT["row point temporary"])
    temporary = q.pointer(temporary)
    bias = q.load_raw(q.pointer(bias), F32, vl)
    lo, hi = (q.splat(q.slot_f32(block, s), vl) for s in WINOGRAD_OUT["lo hi"])
    with q.loop(i64(n)) as c:
        here = q.offset(source, b.mul(c, point))
        loads = [q.load_raw(q.offset(here, b.mul(point, i64(r * n))), F32, vl) for r in range(n)]
        for r, v in enumerate(_apply_at(q, at, loads, vl)):
            q.store_raw(v, q.offset(temporary, b.add(b.mul(c, i64(vector)), i64(r * n * vector))))
    epilogue_operands = [0] if epilogue is None else sorted(e - 1 for e in operand_indices(epilogue) if e > 0)
    first_operand, operand_size = WINOGRAD_OUT.size, WINOGRAD_OUT.record_size
    at_ref, at_row, at_pixel = WINOGRAD_OUT.in_record("ref row pixel")
    residual = q.slot(block, first_operand + at_ref)
    has_residual = b.icmp_signed("!=", residual, i64(0))
    with q.loop(rows) as r:
        here = q.offset(temporary, b.mul(r, i64(n * vector)))
        out = q.offset(to, b.mul(r, row))
        values = _apply_at(q, at, [q.load_raw(q.offset(here, c * vector), F32, vl) for c in range(n)], vl)
        values = [b.fadd(v, bias) for v in values]
        starts = {}
        for e in epilogue_operands:
            record = first_operand + operand_size * e
            starts[e] = q.offset(q.pointer(q.slot(block, record + at_ref)), b.mul(r, q.slot(block, record + at_row)))

        def operand(e: int, c: int, starts: dict[int, ir.Value] = starts) -> ir.Value:
            pixel = q.slot(block, first_operand + operand_size * e + at_pixel)
            return q.load_raw(q.offset(starts[e], b.mul(pixel, i64(c))), F32, vl)

        def finish(c: int, v: ir.Value, out: ir.Value = out, operand: Callable[..., ir.Value] = operand) -> None:
            if epilogue is None:
                slot = q.variable(v.type)
                b.store(v, slot)
                with b.if_then(has_residual):
                    b.store(b.fadd(v, operand(0, c)), slot)
                v = clip(q, b.load(slot, typ=v.type), lo, hi)
            else:
                v = expr_code.emit(q, epilogue, lambda i: v if i == 0 else operand(i - 1, c), vl)
            q.store_raw(v, q.offset(out, c * vector))

        with b.if_else(b.icmp_signed("==", columns, i64(m))) as (full, part):
            with full:
                for c, v in enumerate(values):
                    finish(c, v)
            with part:
                for c, v in enumerate(values[:-1]):
                    with b.if_then(b.icmp_signed("<", i64(c), columns)):
                        finish(c, v)
    b.ret_void()
