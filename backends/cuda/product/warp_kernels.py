"""What a warp does with tiles in shared memory: the products of tensor cores, and its sums as rows.

A line of a tile has its 16-byte chunks in another order, which the line's number says, so that neither copies nor the reads of
a warp meet in a bank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.ptx import SHARED, assembly, ldmatrix, mma, rounded, shared_word
from graphc.backends.cuda.product.tile import DEPTH
from graphc.backends.llvm.emit import F32, I32, I64

CHUNK = 16  # bytes
STEP = 32  # bytes of a row that one instruction multiplies
FLOAT = 4  # bytes of a sum
TF32 = 0xFFFFE000  # the bits of a float32 that tf32 has
HALF = 0x1000  # of the last of them

Groups = list[list[ir.Value]]


def line_of(nbytes: int) -> int:
    """Bytes from one line of so many to the next: lines whose chunks are in another order are 64 bytes or a multiple of 128; others
    are an odd number of chunks."""
    return nbytes if nbytes == 64 or nbytes % 128 == 0 else nbytes + CHUNK


def _swizzle(b: ir.IRBuilder, line: ir.Value, nbytes: int, across: bool, item: int) -> ir.Value:
    """What the chunks' byte offsets in a line are xored with. nbytes: from a line to the next."""
    if across and item == 4:  # a warp reads words, of 4 lines
        return b.shl(b.and_(line, I32(3)), I32(5))
    if nbytes % (2 * CHUNK):
        return I32(0)
    if nbytes == 64:
        return b.shl(b.and_(b.lshr(line, I32(1)), I32(3)), I32(4))
    return b.shl(b.and_(line, I32(7)), I32(4))


def order(nbytes: int, across: bool, item: int) -> Callable[[int], int]:
    """order(...)(line): what byte offsets of chunks in that line of a tile are xored with. nbytes: of a line; across: of a right
    operand whose rows are lines."""
    return device(lambda q, a: _swizzle(q.b, a[0], nbytes, across, item), types.int32, types.int32)


def _chunk(
    b: ir.IRBuilder, tile: ir.Value, line: ir.Value, byte: ir.Value, nbytes: int, across: bool, item: int
) -> ir.Value:
    """Where a byte of a line of a tile lies."""
    return b.add(b.add(tile, b.mul(line, I32(nbytes))), b.xor(byte, _swizzle(b, line, nbytes, across, item)))


def left_fragments(
    b: ir.IRBuilder, tile: ir.Value, lane: ir.Value, step: int, count: int, nbytes: int, item: int
) -> Groups:
    """Of a left operand whose lines, `nbytes` apart, are rows: STEP bytes down the sum of 16 rows each, from number `step` on."""
    byte = b.add(b.shl(b.lshr(lane, I32(4)), I32(4)), I32(STEP * step))
    first = _chunk(b, tile, b.and_(lane, I32(15)), byte, nbytes, False, item)
    return [ldmatrix(b, b.add(first, I32(16 * i * nbytes))) for i in range(count)]


def right_fragments(
    b: ir.IRBuilder, tile: ir.Value, column: ir.Value, lane: ir.Value, step: int, count: int, nbytes: int, item: int,
    across: bool,
) -> Groups:  # fmt: skip
    """Of a right operand the same: of 8 columns each from `column` on, an even number. Its lines are columns; across: rows."""
    if not across:
        at = b.add(b.and_(lane, I32(7)), b.shl(b.lshr(lane, I32(4)), I32(3)))
        byte = b.add(b.shl(b.and_(b.lshr(lane, I32(3)), I32(1)), I32(4)), I32(STEP * step))
        first = _chunk(b, tile, b.add(column, at), byte, nbytes, False, item)
        fours = [ldmatrix(b, b.add(first, I32(16 * j * nbytes))) for j in range(count // 2)]
        return [half for four in fours for half in (four[:2], four[2:])]
    if item == 4:
        lines = [b.add(b.and_(lane, I32(3)), I32(8 * step + 4 * h)) for h in range(2)]
        bytes_ = [b.mul(b.add(b.add(column, I32(8 * j)), b.lshr(lane, I32(2))), I32(item)) for j in range(count)]
        return [[shared_word(b, _chunk(b, tile, line, byte, nbytes, True, item)) for line in lines] for byte in bytes_]
    at, found = b.add(b.and_(lane, I32(15)), I32(16 * step)), []
    for j in range(count // 2):
        place = b.add(b.add(column, I32(16 * j)), b.shl(b.lshr(lane, I32(4)), I32(3)))
        four = ldmatrix(b, _chunk(b, tile, at, b.mul(place, I32(item)), nbytes, True, item), transposed=True)
        found += [four[:2], four[2:]]
    return found


def warp_product(
    rows: int, columns: int, line: int, across: bool, dtype: str, products: int = 3
) -> Callable[..., None]:
    """multiply(sums, left, right, column, lane): sums[(i * columns + j) * 4 + e] += the product of 16 * rows rows of the tile at
    `left` and of 8 * columns columns, from `column` on, of the tile at `right`. line: bytes of a line of the right tile; products:
    of the digits of float32, 3 or 1."""
    item = 4 if dtype == "float32" else 2
    row_bytes = DEPTH * item

    @intrinsic
    def multiply(typing: Any, sums: Any, left: Any, right: Any, column: Any, lane: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            kept = elements(context, b, signature.args[0], args[0], rows * columns * 4)
            totals = [b.load(p) for p in kept]
            left, right, column, lane = args[1:]
            for step in range(row_bytes // STEP):
                lefts = left_fragments(b, left, lane, step, rows, row_bytes, item)
                rights = right_fragments(
                    b, right, column, lane, step, columns, line if across else row_bytes, item, across
                )
                for of_left, of_right in _terms(b, lefts, rights, item, products):
                    for i in range(rows):
                        for j in range(columns):
                            at = (i * columns + j) * 4
                            totals[at : at + 4] = mma(b, dtype, of_left[i], of_right[j], totals[at : at + 4])
            for pointer, value in zip(kept, totals):
                b.store(value, pointer)
            return context.get_dummy_value()

        return types.void(sums, types.int32, types.int32, types.int32, types.int32), code

    made: Callable[..., None] = multiply
    return made


def elements(context: Any, b: ir.IRBuilder, kind: Any, array: ir.Value, count: int) -> list[ir.Value]:
    """Pointers to the first elements of an array."""
    data = context.make_array(kind)(context, b, value=array).data
    return [b.gep(data, [I32(i)]) for i in range(count)]


def _terms(b: ir.IRBuilder, left: Groups, right: Groups, item: int, products: int) -> list[tuple[Groups, Groups]]:
    """The products that are summed, the smallest first."""
    if item == 2:
        return [(left, right)]
    if products == 1:
        return [(_rounded(b, left), _rounded(b, right))]
    (l_large, l_finite, l_small), (r_large, r_finite, r_small) = _digits(b, left), _digits(b, right)
    return [(l_small, r_finite), (l_finite, r_small), (l_large, r_large)]


def _rounded(b: ir.IRBuilder, groups: Groups) -> Groups:
    return [[rounded(b, b.bitcast(x, F32)) for x in group] for group in groups]


def _digits(b: ir.IRBuilder, groups: Groups) -> tuple[Groups, Groups, Groups]:
    """The first digits of float32s, cut, so that none becomes infinite; the same with 0 for infinities and NaN; what is left of
    finite ones, rounded. Integers and comparisons, which are fewer instructions than the conversions are."""
    q, infinity = CudaEmit(b), ir.Constant(F32, float("inf"))
    large, finite, small = ([[b.and_(x, I32(TF32)) for x in group] for group in groups] for _ in range(3))
    for group, first, whole, rest in zip(groups, large, finite, small):
        for i, x in enumerate(group):
            left = b.fsub(b.bitcast(x, F32), b.bitcast(first[i], F32))  # exact, NaN if x is not finite
            is_finite = b.fcmp_ordered("<", q.intrinsic("fabs", left), infinity)
            near = b.and_(b.add(b.bitcast(left, I32), I32(HALF)), I32(TF32))
            whole[i], rest[i] = b.select(is_finite, first[i], I32(0)), b.select(is_finite, near, I32(0))
    return large, finite, small


# --- groups of warps --------------------------------------------------------------------------------------------------
_GROUP_KINDS = {"float16": "f16", "bfloat16": "bf16", "float32": "tf32"}
LINE = 128  # bytes: lines of both tiles, in the order of `order`
_EIGHTS = 8 * LINE  # bytes from eight lines to the next
_LINES = 1 << 62 | (_EIGHTS >> 4) << 32  # of a descriptor


def group_product(columns: int, depth: int, across: bool, dtype: str, rest: int = 0) -> Callable[..., None]:
    """As `warp_product`, of four warps: sums of each are its 16 rows of 64, and all columns. Tiles begin at multiples of 1024, and
    have lines of 128 bytes down the sum, `depth` steps; the right one, across, has so many lines of 64 columns each, then those of
    the next 64. rest: bytes from a tile of first digits of float32 to that of what is left, 0 where there is none. It goes on
    while the warp does, but the one before is done."""
    count = columns // 2
    names = ", ".join(f"${i}" for i in range(count))
    kind = _GROUP_KINDS[dtype]
    steps, turned = ("k8", "") if kind == "tf32" else ("k16", f", 0, {int(across)}")
    text = f"wgmma.mma_async.sync.aligned.m64n{columns}{steps}.f32.{kind}.{kind} {{{names}}}, ${2 * count}, ${2 * count + 1}, p"
    text = f"{{ .reg .pred p; setp.ne.b32 p, ${2 * count + 2}, 0; {text}, 1, 1{turned}; }}"
    terms = [(rest, 0), (0, rest), (0, 0)] if rest else [(0, 0)]  # where their operands lie, the smallest first
    constraints = ",".join(["=f"] * count + [str(i) for i in range(count)] + ["l", "l", "r", "~{memory}"])
    beside = (
        depth * LINE if across else 16
    )  # bytes to the columns beside those of a line; of other tiles it means nothing
    further = STEP // 2 * LINE if across else STEP  # bytes to the next step of the right tile

    @intrinsic
    def multiply(typing: Any, sums: Any, left: Any, right: Any, column: Any, lane: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            kept = elements(context, b, signature.args[0], args[0], count)
            totals = [b.load(p) for p in kept]

            def lines(address: ir.Value, beside: int) -> ir.Value:
                place = b.zext(b.and_(b.lshr(address, I32(4)), I32(0x3FFF)), I64)
                return b.or_(place, I64(_LINES | (beside >> 4) << 16))

            left, right = lines(args[1], 16), lines(args[2], beside)
            assembly(b, [], "wgmma.fence.sync.aligned;", "~{memory}", [])
            for step in range(LINE // STEP):
                for of_left, of_right in terms:
                    at_left = b.add(left, I64(step * STEP + of_left >> 4))
                    at_right = b.add(right, I64(step * further + of_right >> 4))
                    totals = assembly(b, [F32] * count, text, constraints, [*totals, at_left, at_right, I32(1)])
            assembly(b, [], "wgmma.commit_group.sync.aligned;", "~{memory}", [])
            _wait_for_groups(b, 1, kept, totals)
            return context.get_dummy_value()

        return types.void(sums, types.int32, types.int32, types.int32, types.int32), code

    made: Callable[..., None] = multiply
    return made


def group_digits(count: int, step: int, rest: int) -> Callable[[int], None]:
    """digits(address): of `count` chunks of 16 bytes of float32s, `step` bytes apart in shared memory, what `group_product` reads:
    rounded to tf32, or the first digits, and what is left `rest` bytes behind.

    What is left of an infinity or NaN is itself, and its first digits are those of 1, with its sign: so it meets each number once."""
    kind = ir.VectorType(I32, 4)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b = q.b
        infinity, one, sign = ir.Constant(F32, float("inf")), 0x3F800000, 0x80000000

        def split(x: ir.Value) -> tuple[ir.Value, ...]:
            number = b.bitcast(x, F32)
            if not rest:
                return (rounded(b, number),)
            first = b.and_(x, I32(TF32))
            left = b.fsub(number, b.bitcast(first, F32))  # exact, NaN if x is not finite
            is_finite = b.fcmp_ordered("<", q.intrinsic("fabs", number), infinity)
            near = b.and_(b.add(b.bitcast(left, I32), I32(HALF)), I32(TF32))
            unit = b.or_(b.and_(x, I32(sign)), I32(one))
            return b.select(is_finite, first, unit), b.select(is_finite, near, x)

        for i in range(count):
            at = b.add(a[0], I32(i * step))
            given = b.load(b.inttoptr(at, ir.PointerType(kind, SHARED)), align=16, typ=kind)
            made = zip(*(split(b.extract_element(given, I32(e))) for e in range(4)))
            for four, to in zip(made, (0, rest)):
                vector: ir.Value = ir.Constant(kind, ir.Undefined)
                for e, x in enumerate(four):
                    vector = b.insert_element(vector, x, I32(e))
                b.store(vector, b.inttoptr(b.add(at, I32(to)), ir.PointerType(kind, SHARED)), align=16)

    return device(emit, types.void, types.int32)


def group_done(count: int) -> Callable[..., None]:
    """group_done(count)(sums): so many sums are complete."""

    @intrinsic
    def done(typing: Any, sums: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            kept = elements(context, b, signature.args[0], args[0], count)
            _wait_for_groups(b, 0, kept, [b.load(p) for p in kept])
            return context.get_dummy_value()

        return types.void(sums), code

    made: Callable[..., None] = done
    return made


def _wait_for_groups(b: ir.IRBuilder, pending: int, kept: Sequence[ir.Value], totals: Sequence[ir.Value]) -> None:
    """Until no more products are on their way. The compiler must not move sums across it."""
    assembly(b, [], f"wgmma.wait_group.sync.aligned {pending};", "~{memory}", [])
    for pointer, value in zip(kept, totals):
        b.store(assembly(b, [F32], "", "=f,0,~{memory}", [value])[0], pointer)


# --- sums as rows -----------------------------------------------------------------------------------------------------
def _row_chunk(b: ir.IRBuilder, base: ir.Value, row: ir.Value, byte: ir.Value, width: int) -> ir.Value:
    """Where a chunk of a row of sums lies. width: columns of a row. Fragments are written by pairs of 4 rows, so two chunks stay
    together."""
    return b.add(b.add(base, b.mul(row, I32(FLOAT * width))), b.xor(byte, b.shl(b.and_(row, I32(3)), I32(5))))


def spread(rows: int, columns: int, width: int = 0) -> Callable[..., None]:
    """spread(sums, at, lane): the warp's sums, as `warp_product` has them, as rows in shared memory. width: floats from a row to the
    next, a multiple of 32; 0: as many as there are columns."""
    width = width or 8 * columns

    @intrinsic
    def spread(typing: Any, sums: Any, at: Any, lane: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            kept = elements(context, b, signature.args[0], args[0], rows * columns * 4)
            _, at, lane = args
            row, byte = b.lshr(lane, I32(2)), b.shl(b.and_(lane, I32(3)), I32(3))
            kind = ir.VectorType(F32, 2)
            for i in range(rows):
                for j in range(columns):
                    for half in range(2):
                        own, first = b.add(row, I32(16 * i + 8 * half)), (i * columns + j) * 4 + 2 * half
                        to = _row_chunk(b, at, own, b.add(byte, I32(8 * j * FLOAT)), width)
                        pair = ir.Constant(kind, ir.Undefined)
                        for e in range(2):
                            pair = b.insert_element(pair, b.load(kept[first + e]), I32(e))
                        b.store(pair, b.inttoptr(to, ir.PointerType(kind, SHARED)), align=8)
            return context.get_dummy_value()

        return types.void(sums, types.int32, types.int32), code

    made: Callable[..., None] = spread
    return made


@cache
def row_of(width: int, count: int) -> Callable[[int, int, int], Any]:
    """row_of(width, count)(at, row, column): so many sums (1, 2, 4 or 8) of a row that `spread` wrote, from that column on, a
    multiple of their number. width: columns of a row."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b, (base, row, column) = q.b, a
        wide = min(count, 4)
        first = _row_chunk(b, base, row, b.mul(column, I32(FLOAT)), width)
        found = ir.Constant(ir.ArrayType(F32, count), ir.Undefined)
        for start in range(0, count, wide):
            kind = ir.VectorType(F32, wide)
            pointer = b.inttoptr(b.add(first, I32(FLOAT * start)), ir.PointerType(kind, SHARED))
            loaded = b.load(pointer, align=FLOAT * wide, typ=kind)
            for i in range(wide):
                found = b.insert_value(found, b.extract_element(loaded, I32(i)), start + i)
        return found

    return device(emit, types.UniTuple(types.float32, count), types.int32, types.int32, types.int32)
