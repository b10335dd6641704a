"""Samples that walk through decision trees: a sample per thread, tree after tree, so that sums have one order."""

from __future__ import annotations

from numba.cuda.extending import register_jitable
from numba.cuda.types import int64

from graphc.backends.cuda.codegen.device import load, register, store, word
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.trees.trees_block import LANES, NARROW, TREES, WIDE, Trees

N, X, Y, FEATURES, SLOTS, NODES = TREES["n x y features slots nodes"]
ROWS, COUNT, LEAVES, OUTPUTS = TREES["trees count leaves outputs"]
ROW = 24  # bytes of a tree: its first node, depth and output
read = load("int64")


@makes(Trees)
def trees(wide: bool, table: bool, join: str, double: bool) -> Code:
    node_bytes, SLOT, STEP = WIDE if wide else NARROW
    item, number, slot_of = (8, "float64", load("int32")) if wide else (4, "float32", load("uint16"))
    row_of = read if wide else load("int32")
    out, size = ("float64", 8) if double else ("float32", 4)
    get, get_out, put, result = load(number), load(out), store(out), register(out)
    LEAST = register(number)(float("-inf"))
    START = result({"SUM": 0.0, "MIN": float("inf"), "MAX": float("-inf")}[join])
    total, lowest = join == "SUM", join == "MIN"

    @register_jitable
    def joined(a, b):
        if total:
            return result(a + b)
        return b if (b < a if lowest else b > a) else a

    @register_jitable
    def leaf_of(a, x, root, depth):
        """The address of the leaf that a sample reaches."""
        nodes, at = word(a, NODES), root
        for _ in range(depth):
            slot = int64(slot_of(at + SLOT)) // LANES
            if slot == 0:
                break
            source = read(word(a, SLOTS) + 8 * (slot - 1))
            value = get(x + (source >> 1) * item)
            if source & 1 != 0 and value != value:
                value = LEAST
            second = int64(0) if value <= get(at) else int64(1)
            if wide:
                at = nodes + int64(slot_of(at + STEP + 4 * second))
            else:
                at += (int64(slot_of(at + STEP)) + second) * node_bytes
        return at

    def trees(a):
        sample = thread_number(THREADS)
        if sample < word(a, N):
            outputs = word(a, OUTPUTS)
            x, y = word(a, X) + sample * word(a, FEATURES) * item, word(a, Y) + sample * outputs * size
            for column in range(outputs):
                put(y + column * size, START)
            for tree in range(word(a, COUNT)):
                row = word(a, ROWS) + tree * ROW
                leaf = leaf_of(a, x, word(a, NODES) + read(row) * node_bytes, read(row + 8))
                if table:
                    numbers = word(a, LEAVES) + int64(row_of(leaf)) * outputs * size
                    for column in range(outputs):
                        to = y + column * size
                        put(to, joined(get_out(to), get_out(numbers + column * size)))
                else:
                    to = y + read(row + 16) * size
                    put(to, joined(get_out(to), result(get(leaf))))

    return Code(trees)
