"""Both products of attention for few rows of queries: keys and values are read where they lie, each row of them once."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from graphc.backends.cpu.attention.attention_block import KEY_DOTS, TILE_ROW, VALUE_SUMS, KeyDots, ValueSums
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA
from graphc.backends.llvm.emit import F32, I16, I32, I64, PTR, Emit, define, i64
from graphc.dtypes import BY_NAME

ITEM = FMA.item
KEYS, K_ROW, BLOCKS, LANES = KEY_DOTS["keys k_row blocks lanes"]
SUM_KEYS, V_ROW, SUM_ROWS, SUM_LANES = VALUE_SUMS["keys v_row rows lanes"]
ROW_BYTES, ROW_Y = 8 * TILE_ROW.size, 8 * TILE_ROW.at["y"]


@micro(KeyDots)
def key_dots(module: ir.Module, symbol: str, target: Target, rows: int, masked: bool, dtype: str) -> None:
    """void(block, q, k, scores): scores[KEYS / vl][rows][vl] = q k^T.

    q: [blocks of size][rows][vl], filled up with zeros; k: rows of BLOCKS vectors, and LANES more elements if masked. vl
    scores are summed at a time, of vl / rows keys, and their vectors of partial sums are then reduced together. Lanes
    behind the last key are any number. dtype: of k.
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64])
    block, queries, keys_at, scores = fn.args
    b, vl, vector = q.b, target.vl, target.vector
    together, item = vl // rows, BY_NAME[dtype].numpy.itemsize
    keys, pitch, blocks = (q.slot(block, i) for i in (KEYS, K_ROW, BLOCKS))
    queries, keys_at, scores = (q.pointer(p) for p in (queries, keys_at, scores))
    part = q.lane_mask(q.slot(block, LANES), vl) if masked else None
    nothing = q.const(0.0, F32, vl)
    sums = [q.variable(nothing.type) for _ in range(vl)]

    def dots(group: ir.Value, key: Sequence[ir.Value]) -> None:
        def step(d: ir.Value, part: ir.Value | None) -> None:
            at, tile = b.mul(d, i64(vl * item)), q.offset(queries, b.mul(d, i64(rows * vector)))
            row = [q.load_raw(q.offset(tile, r * vector), F32, vl) for r in range(rows)]
            for j, k in enumerate(key):
                where = q.offset(k, at)
                x = _widened(q, where, dtype, vl, part)
                for r in range(rows):
                    s = sums[r * together + j]
                    b.store(q.fma(x, row[r], b.load(s)), s)

        for s in sums:
            b.store(nothing, s)
        with q.loop(blocks) as d:
            step(d, None)
        if part is not None:
            step(blocks, part)
        total = sum_each(q, [b.load(s) for s in sums])
        to = q.offset(scores, b.mul(b.sdiv(group, i64(rows)), i64(rows * vector)))
        to = q.offset(to, b.mul(b.srem(group, i64(rows)), i64(together * ITEM)))
        for r in range(rows):
            q.store_raw(_lanes(q, total, r * together, together), q.offset(to, r * vector))

    whole = b.sdiv(keys, i64(together))
    with q.loop(whole) as group:
        first = q.offset(keys_at, b.mul(group, b.mul(pitch, i64(together))))
        dots(group, [q.offset(first, b.mul(pitch, i64(j))) for j in range(together)])
    with b.if_then(b.icmp_signed("<", b.mul(whole, i64(together)), keys)):  # the last key stands in for those behind it
        last, first = b.sub(keys, i64(1)), b.mul(whole, i64(together))
        numbers = [b.add(first, i64(j)) for j in range(together)]
        numbers = [b.select(b.icmp_signed("<", n, last), n, last) for n in numbers]
        dots(whole, [q.offset(keys_at, b.mul(n, pitch)) for n in numbers])
    b.ret_void()


def _widened(q: Emit, where: ir.Value, name: str, vl: int, part: ir.Value | None) -> ir.Value:
    """vl elements in float32, those outside of a mask zero."""
    dtype = BY_NAME[name].numpy
    if part is None:
        return q.load(where, dtype, vl)
    bits = {2: I16, 4: I32}[dtype.itemsize]
    raw = q.b.bitcast(q.masked_load(where, bits, part), q.vector(q.kept_type(dtype), vl))
    return q.widen(raw, dtype, vl)


def sum_each(q: Emit, vectors: Sequence[ir.Value]) -> ir.Value:
    """The sum of each of as many vectors as they have lanes: lane i is that of vectors[i]."""
    b, lanes = q.b, len(vectors)
    width = lanes  # lanes that belong to one vector
    while width > 1:
        width //= 2
        half = len(vectors) // 2
        low = [i for start in range(0, lanes, 2 * width) for i in range(start, start + width)]
        halves = [[*part, *(lanes + i for i in part)] for part in (low, [i + width for i in low])]
        # pairs of vectors, whose runs of lanes alternate
        order = [
            i
            for start in range(0, len(low), width)
            for of in (0, len(low))
            for i in range(of + start, of + start + width)
        ]
        masks = [ir.Constant(ir.VectorType(I32, lanes), [h[i] for i in order]) for h in halves]
        vectors = [b.fadd(*(b.shuffle_vector(x, y, m) for m in masks)) for x, y in zip(vectors[:half], vectors[half:])]
    return vectors[0]


def _lanes(q: Emit, x: ir.Value, first: int, count: int) -> ir.Value:
    if count == 1:
        return q.b.extract_element(x, ir.Constant(I32, first))
    undef = ir.Constant(x.type, ir.Undefined)
    return q.b.shuffle_vector(x, undef, ir.Constant(ir.VectorType(I32, count), list(range(first, first + count))))


@micro(ValueSums)
def value_sums(module: ir.Module, symbol: str, target: Target, rows: int, nv: int, masked: bool, dtype: str) -> None:
    """void(block, weights, v, column): nv vectors of each row's result, from byte `column` on: weights v.

    weights: [KEYS / vl][rows][vl]; v: the first row's vectors. masked: of the last vector LANES elements exist. dtype: of v.
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64])
    block, weights, v, column = fn.args
    b, vl, vector = q.b, target.vl, target.vector
    keys, pitch, table = (q.slot(block, i) for i in (SUM_KEYS, V_ROW, SUM_ROWS))
    weights, v, table = (q.pointer(p) for p in (weights, v, table))
    part = q.lane_mask(q.slot(block, SUM_LANES), vl) if masked else None
    chains, item = sums_at_once(target, rows, nv), BY_NAME[dtype].numpy.itemsize
    nothing = q.const(0.0, F32, vl)
    sums = [[[q.variable(nothing.type) for _ in range(nv)] for _ in range(rows)] for _ in range(chains)]
    for s in (s for chain in sums for row in chain for s in row):
        b.store(nothing, s)

    def add(key: ir.Value, tile: ir.Value, chain: int) -> None:
        """One key's values; tile: its weight of the first row."""
        row = q.offset(v, b.mul(key, pitch))
        xs = [_widened(q, q.offset(row, i * vl * item), dtype, vl, part if i == nv - 1 else None) for i in range(nv)]
        for r in range(rows):
            weight = q.splat(q.load_raw(q.offset(tile, r * vector), F32, 1), vl)
            for x, s in zip(xs, sums[chain][r]):
                b.store(q.fma(weight, x, b.load(s)), s)

    def block_of(i: ir.Value) -> ir.Value:
        return q.offset(weights, b.mul(i, i64(rows * vector)))

    whole = b.sdiv(keys, i64(vl))
    with q.loop(whole) as i:
        tile, first = block_of(i), b.mul(i, i64(vl))
        with q.loop(i64(vl), step=chains) as j:
            for chain in range(chains):
                key = b.add(j, i64(chain))
                add(b.add(first, key), q.offset(tile, b.mul(key, i64(ITEM))), chain)
    tile, first = block_of(whole), b.mul(whole, i64(vl))
    with q.loop(b.sub(keys, first)) as j:
        add(b.add(first, j), q.offset(tile, b.mul(j, i64(ITEM))), 0)
    for r in range(rows):
        record = q.offset(table, r * ROW_BYTES + ROW_Y)
        to = q.pointer(b.add(b.load(record, align=8, typ=I64), column))
        for i in range(nv):
            total = b.load(sums[0][r][i])
            for chain in range(1, chains):
                total = b.fadd(total, b.load(sums[chain][r][i]))
            where = q.offset(to, i * vector)
            if part is not None and i == nv - 1:
                q.masked_store(total, where, part)
            else:
                q.store_raw(total, where)
    b.ret_void()


def sums_at_once(target: Target, rows: int, nv: int) -> int:
    """Keys whose products are added apart, a power of 2: more would wait for each other's sums, or have no registers."""
    chains = 1
    while 2 * chains * rows * nv <= target.registers // 2 and chains < target.vl:
        chains *= 2
    return chains
