"""float32 in memory to the pairs of bfloat16 that the inner step PAIRS takes (tile/dot.py), rounded to nearest even.

Infinities and NaN stay what they are; numbers below float32's smallest normal one become 0, as the inner step takes them.
"""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.pairs_block import PairColumns, PairRow
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import PAIRS
from graphc.backends.cpu.verbs.transpose_micro import transpose
from graphc.backends.llvm.emit import F32, I16, I32, I64, PTR, Emit, define, i64

FLOAT = PAIRS.accumulator.item  # bytes


def rounded(q: Emit, target: Target, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two vectors of float32 as one of bfloat16, as 32-bit words of two each."""
    kind = q.vector(I32, target.vl)
    signature = ir.FunctionType(kind, [low.type] * 2)
    constraints = f"={target.asm},{target.asm},{target.asm}"
    return q.b.asm(signature, "vcvtne2ps2bf16 $1, $2, $0", constraints, [low, high], False)


def _run(q: Emit, target: Target, room: ir.Value, source: ir.Value, stride: ir.Value, count: ir.Value) -> ir.Value:
    """The next `count` numbers, `stride` bytes apart, as a vector of pairs; zeros behind them. room: for two vectors."""
    b, vl = q.b, target.vl
    whole = b.and_(b.icmp_signed(">=", count, i64(2 * vl)), b.icmp_signed("==", stride, i64(FLOAT)))
    found = q.variable(q.vector(I32, vl))

    def round_at(place: ir.Value) -> None:
        halves = [q.load_raw(q.offset(place, half * target.vector), F32, vl) for half in (0, 1)]
        b.store(rounded(q, target, *halves), found)

    with b.if_else(whole) as (at_once, one_by_one):
        with at_once:
            round_at(source)
        with one_by_one:
            for half in (0, 1):
                q.store_raw(q.const(0.0, F32, vl), q.offset(room, half * target.vector))
            there = b.select(b.icmp_signed("<", count, i64(2 * vl)), count, i64(2 * vl))
            with q.loop(there) as i:
                number = q.load_raw(q.offset(source, b.mul(i, stride)), F32, 1)
                q.store_raw(number, q.offset(room, b.mul(i, i64(FLOAT))))
            round_at(room)
    return b.load(found)


def _room(q: Emit, target: Target, vectors: int) -> ir.Value:
    return q.b.bitcast(q.variable(ir.ArrayType(q.vector(I32, target.vl), vectors)), PTR)


@micro(PairRow)
def pair_row(module: ir.Module, symbol: str, target: Target) -> None:
    """void(to, to_block, row, stride, depth): `depth` numbers, `stride` bytes apart, as vectors of pairs `to_block` bytes apart."""
    fn, q = define(module, symbol, [I64] * 5)
    to, to_block, row, stride, depth = fn.args
    b, each = q.b, 2 * target.vl
    to, row, room = q.pointer(to), q.pointer(row), _room(q, target, 2)
    with q.loop(depth, step=each) as k:
        pairs = _run(q, target, room, q.offset(row, b.mul(k, stride)), stride, b.sub(depth, k))
        q.store_raw(pairs, q.offset(to, b.mul(b.sdiv(k, i64(each)), to_block)))
    b.ret_void()


@micro(PairColumns)
def pair_columns(module: ir.Module, symbol: str, target: Target) -> None:
    """void(to, vectors, b, depth, row, column, count): `count` columns of depth numbers as [step][vector][lane], where steps are
    whole vectors of them and there are `vectors` of columns. row, column: strides of b."""
    fn, q = define(module, symbol, [I64] * 7)
    to, vectors, source, depth, row, column, count = fn.args
    b, vl, vector = q.b, target.vl, i64(target.vector)
    to, source, step_bytes = q.pointer(to), q.pointer(source), b.mul(vectors, vector)
    padded = b.mul(b.sdiv(b.add(depth, i64(2 * vl - 1)), i64(2 * vl)), i64(vl))  # steps
    room, columns = _room(q, target, 2), _room(q, target, vl)
    with b.if_else(b.icmp_signed("==", column, i64(FLOAT))) as (neighbours, apart):
        with neighbours, q.loop(padded) as step, q.loop(vectors) as j:
            first, start = b.mul(step, i64(2)), q.offset(source, b.mul(j, vector))
            left = b.sub(count, b.mul(j, i64(vl)))
            halves = []
            for number in (first, b.add(first, i64(1))):
                lanes = b.select(b.icmp_signed("<", number, depth), left, i64(0))
                mask = q.lane_mask(lanes, vl)
                halves.append(q.masked_load(q.offset(start, b.mul(number, row)), F32, mask))
            both = b.bitcast(rounded(q, target, *halves), q.vector(I16, 2 * vl))
            order = ir.Constant(ir.VectorType(I32, 2 * vl), [lane + half * vl for lane in range(vl) for half in (0, 1)])
            pairs = b.shuffle_vector(both, ir.Constant(both.type, ir.Undefined), order)
            q.store_raw(pairs, q.offset(to, b.add(b.mul(step, step_bytes), b.mul(j, vector))))
        with apart, q.loop(vectors) as j, q.loop(padded, step=vl) as step:
            first, k = b.mul(j, i64(vl)), b.mul(step, i64(2))
            with q.loop(i64(vl)) as lane:
                number = b.add(first, lane)
                there = b.select(b.icmp_signed("<", number, count), b.sub(depth, k), i64(0))
                start = q.offset(source, b.add(b.mul(number, column), b.mul(k, row)))
                q.store_raw(_run(q, target, room, start, row, there), q.offset(columns, b.mul(lane, vector)))
            loaded = [q.load_raw(q.offset(columns, lane * target.vector), I32, vl) for lane in range(vl)]
            for i, pairs in enumerate(transpose(q, loaded)):
                at = b.add(b.mul(b.add(step, i64(i)), step_bytes), b.mul(j, vector))
                q.store_raw(pairs, q.offset(to, at))
    b.ret_void()
