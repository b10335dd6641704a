"""Samples walk through trees, several at once, so that the latencies of their loads overlap.

What leaves give is joined tree after tree, whichever thread does it.
"""

from __future__ import annotations

import math

from numba import njit, types

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    as_block,
    load_f32,
    load_i32,
    load_i64,
    load_u16,
    store_f32,
    typed_memory,
)
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.trees.trees_block import LANES, NARROW_BYTES, TREES, WIDE_BYTES, Trees

X, Y, N, FEATURES, SLOTS, USED, NODES = TREES["x y n features slots used nodes"]
TREE_ROWS, COUNT, LEAVES, OUTPUTS, ROWS, STRIDE, TILE = TREES["trees count leaves outputs rows stride tile"]

TREE_BYTES, LOOK = 24, 3  # levels less one between looks whether all are at leaves
_load_f64, _store_f64 = typed_memory(types.float64)
INFINITY = math.inf


@njit(error_model="numpy")
def _narrow_step(nodes, x, at):
    """The next node of the sample whose slots begin at x, eight numbers apart."""
    second = not (load_f32(x + (load_u16(at + 4) << 2)) <= load_f32(at))
    return at + ((load_u16(at + 6) + second) << 3)


@njit(error_model="numpy")
def _wide_step(nodes, x, at):
    second = not (_load_f64(x + (load_i32(at + 8) << 3)) <= _load_f64(at))
    return nodes + load_i32(at + 12 + (second << 2))


@njit(error_model="numpy")
def _narrow_open(nodes, at):
    """Not 0 unless the node is a leaf."""
    return load_u16(at + 6)


@njit(error_model="numpy")
def _wide_open(nodes, at):
    return load_i32(at + 12) ^ (at - nodes)


def _walk(step, is_open):
    @njit(error_model="numpy")
    def walk(nodes, depth, x0, x1, x2, x3, x4, x5, x6, x7, a0, a1, a2, a3, a4, a5, a6, a7):
        for level in range(depth):
            a0, a1, a2, a3 = step(nodes, x0, a0), step(nodes, x1, a1), step(nodes, x2, a2), step(nodes, x3, a3)
            a4, a5, a6, a7 = step(nodes, x4, a4), step(nodes, x5, a5), step(nodes, x6, a6), step(nodes, x7, a7)
            if level & LOOK == LOOK:
                going = is_open(nodes, a0) | is_open(nodes, a1) | is_open(nodes, a2) | is_open(nodes, a3)
                if going | is_open(nodes, a4) | is_open(nodes, a5) | is_open(nodes, a6) | is_open(nodes, a7) == 0:
                    break
        return a0, a1, a2, a3, a4, a5, a6, a7

    return walk


@driver(Trees, computes=True)
def trees(target, wide, table, join, double):
    """Groups of eight samples go through one tree at once; of those that are left, each goes through eight trees at once."""
    item, node_bytes = (8, WIDE_BYTES) if wide else (4, NARROW_BYTES)
    load, store = (_load_f64, _store_f64) if wide else (load_f32, store_f32)
    load_y, store_y, y_bytes = (_load_f64, _store_f64, 8) if double else (load_f32, store_f32, 4)
    result = types.float64 if double else types.float32
    load_row = load_i64 if wide else load_i32
    walk = _walk(_wide_step, _wide_open) if wide else _walk(_narrow_step, _narrow_open)
    start = {"SUM": 0.0, "MIN": INFINITY, "MAX": -INFINITY}[join]
    lane = item
    group_item = LANES * item

    if join == "SUM":

        @njit(error_model="numpy")
        def joined(a, b):
            return a + b

    elif join == "MIN":

        @njit(error_model="numpy")
        def joined(a, b):
            return b if b < a else a

    else:

        @njit(error_model="numpy")
        def joined(a, b):
            return b if b > a else a

    @njit(error_model="numpy")
    def add(a, leaf, y, column):
        """A leaf into the results of a sample."""
        if table:
            outputs = a[OUTPUTS]
            row = a[LEAVES] + load_row(leaf) * outputs * y_bytes
            for c in range(outputs):
                store_y(y + c * y_bytes, joined(load_y(y + c * y_bytes), load_y(row + c * y_bytes)))
        else:
            at = y + column * y_bytes
            store_y(at, joined(load_y(at), result(load(leaf))))

    @njit(error_model="numpy")
    def fill(a, row, to):
        """The slots of a sample; eight numbers apart."""
        x, slots = a[X] + row * a[FEATURES] * item, as_block(a[SLOTS])
        store(to, -INFINITY)
        for i in range(a[USED]):
            slot = slots[i]
            v = load(x + (slot >> 1) * item)
            if slot & 1 and v != v:
                v = -INFINITY
            to += group_item
            store(to, v)

    def trees(a, tid, nth):
        n, outputs, count, tile, used = a[N], a[OUTPUTS], a[COUNT], a[TILE], a[USED]
        rows, nodes = a[ROWS] + tid * a[STRIDE], a[NODES]
        group_bytes, row_bytes = (used + 1) * group_item, outputs * y_bytes
        work = (n + LANES - 1) // LANES
        first, end = piece(a, work, nth, 0)
        while first < end:
            stop = min(end * LANES, n)
            base = first * LANES
            while base < stop:
                size = min(tile, stop - base)
                y = a[Y] + base * row_bytes
                for i in range(size * outputs):
                    store_y(y + i * y_bytes, result(start))
                for i in range(size):
                    fill(a, base + i, rows + (i // LANES) * group_bytes + (i & (LANES - 1)) * lane)
                whole = size // LANES
                for t in range(count if whole else 0):
                    tree = as_block(a[TREE_ROWS] + t * TREE_BYTES)
                    root, depth, column = nodes + tree[0] * node_bytes, tree[1], tree[2]
                    for g in range(whole):
                        x = rows + g * group_bytes
                        a0, a1, a2, a3, a4, a5, a6, a7 = walk(
                            nodes, depth, x, x + lane, x + 2 * lane, x + 3 * lane, x + 4 * lane, x + 5 * lane,
                            x + 6 * lane, x + 7 * lane, root, root, root, root, root, root, root, root,
                        )  # fmt: skip
                        to = y + g * LANES * row_bytes
                        add(a, a0, to, column)
                        add(a, a1, to + row_bytes, column)
                        add(a, a2, to + 2 * row_bytes, column)
                        add(a, a3, to + 3 * row_bytes, column)
                        add(a, a4, to + 4 * row_bytes, column)
                        add(a, a5, to + 5 * row_bytes, column)
                        add(a, a6, to + 6 * row_bytes, column)
                        add(a, a7, to + 7 * row_bytes, column)
                for i in range(whole * LANES, size):
                    x, to = rows + whole * group_bytes + (i & (LANES - 1)) * lane, y + i * row_bytes
                    t = 0
                    while t < count:
                        tree, last = as_block(a[TREE_ROWS] + t * TREE_BYTES), count - 1 - t
                        depth = tree[1]
                        for k in range(1, LANES):
                            depth = max(depth, tree[3 * min(k, last) + 1])
                        a0, a1, a2, a3, a4, a5, a6, a7 = walk(
                            nodes, depth, x, x, x, x, x, x, x, x,
                            nodes + tree[0] * node_bytes, nodes + tree[3 * min(1, last)] * node_bytes,
                            nodes + tree[3 * min(2, last)] * node_bytes, nodes + tree[3 * min(3, last)] * node_bytes,
                            nodes + tree[3 * min(4, last)] * node_bytes, nodes + tree[3 * min(5, last)] * node_bytes,
                            nodes + tree[3 * min(6, last)] * node_bytes, nodes + tree[3 * min(7, last)] * node_bytes,
                        )  # fmt: skip
                        add(a, a0, to, tree[2])
                        if last >= 1:
                            add(a, a1, to, tree[5])
                        if last >= 2:
                            add(a, a2, to, tree[8])
                        if last >= 3:
                            add(a, a3, to, tree[11])
                        if last >= 4:
                            add(a, a4, to, tree[14])
                        if last >= 5:
                            add(a, a5, to, tree[17])
                        if last >= 6:
                            add(a, a6, to, tree[20])
                        if last >= 7:
                            add(a, a7, to, tree[23])
                        t += LANES
                base += size
            first, end = piece(a, work, nth, end)

    return trees, STEP
