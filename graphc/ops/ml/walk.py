"""TreeScores: what the leaves add up to that samples reach in a packed forest. The operators of trees expand to it."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.contract import differ
from graphc.ops.ml.forest import LEAF, Forest
from graphc.ops.ml.packed import LANES, NARROW, WIDE, packed
from graphc.ops.ml.record import as_rows
from graphc.types import Dim, TensorType, dtype_name

DECISION = 3  # operations: load, compare, add


def _infer(call: Call) -> list[TensorType]:
    x, nodes, trees = call.type(0), call.type(2), call.type(3)
    if dtype_name(x.dtype) not in ("float32", "float64") or x.rank != 2:
        raise call.fail(f"takes samples [N, F] in float32 or float64, not {x}")
    if nodes.dtype != np.uint8 or nodes.rank != 2 or nodes.shape[1] not in (NARROW.itemsize, WIDE.itemsize):
        raise call.fail(f"takes nodes uint8[nodes, {NARROW.itemsize} or {WIDE.itemsize}], not {nodes}")
    if trees.dtype != np.int64 or trees.rank != 2 or trees.shape[1] != 3:
        raise call.fail(f"takes trees int64[trees, 3], not {trees}")
    if trees.shape[0] != 0 and nodes.shape[0] == 0:
        raise call.fail("the trees have no nodes")
    if call.has(4) and (call.rank(4) != 2 or call.shape(4)[0] == 0 or differ(call.shape(4)[1], call.attrs.n_targets)):
        raise call.fail(f"takes leaves [leaves, {call.attrs.n_targets}], not {call.type(4)}")
    if call.inputs[3].data is not None and call.const(3)[:, 1].any():  # some tree decides
        for what, size in (("samples have no features", x.shape[1]), ("slots are none", call.shape(1)[0])):
            if size == 0:
                raise call.fail(f"the {what}, and trees read them")
    return [TensorType(call.attrs.to, (x.shape[0], call.attrs.n_targets))]


def _scores(x, slots, nodes, trees, leaves=None, *, aggregate, n_targets, to):
    start = {"SUM": 0, "MIN": np.inf, "MAX": -np.inf}[aggregate]
    join = {"SUM": np.add, "MIN": np.minimum, "MAX": np.maximum}[aggregate]
    narrow = nodes.shape[1] == NARROW.itemsize
    table = np.ascontiguousarray(nodes).view(NARROW if narrow else WIDE).reshape(-1)
    pairs = np.stack([x, np.where(np.isnan(x), -np.inf, x)], axis=2).reshape(len(x), 2 * x.shape[1])
    samples = pairs[:, slots].astype(x.dtype)
    samples = np.concatenate([np.full((len(x), 1), -np.inf, x.dtype), samples], axis=1)
    scores, every = np.full((len(x), n_targets), start, to), np.arange(len(x))
    for root, depth, column in trees:
        at = np.full(len(x), root)
        for _ in range(depth):
            second = ~(samples[every, table["slot"][at] // LANES] <= table["split"][at])
            if narrow:
                at = at + table["step"][at] + second
            else:
                at = np.where(second, table["second"][at], table["first"][at]) // WIDE.itemsize
        reached = table["split"][at]
        if leaves is None:
            scores[:, column] = join(scores[:, column], reached.astype(to))
        else:
            scores = join(scores, leaves[reached.view(np.int32 if narrow else np.int64)])
    return scores.astype(to)


def _flops(call: Call) -> Dim:
    depths = int(call.const(3)[:, 1].sum()) if call.inputs[3].data is not None else call.shape(3)[0]
    return call.shape(0)[0] * (DECISION * depths)


def _nodes(dtype: np.dtype, *rows: tuple) -> Const:
    return Const(np.array(list(rows), dtype).view(np.uint8).reshape(-1, dtype.itemsize), "uint8")


def _case(dtype: str, nodes: Const, leaves: Const | None, outputs: int, aggregate: str, to: str) -> Case:
    """Samples of three features; slots: the first one as it is, the third one with NaN as -infinity."""
    trees = Const([[0, 1, 0], [3, 2, outputs - 1]])
    attrs = {"aggregate": aggregate, "n_targets": outputs, "to": np.dtype(to)}
    return Case((Tensor((11, 3), dtype=dtype), Const([0, 5]), nodes, trees, leaves), attrs)


def _bits(i: int, dtype: str) -> float:
    return float(np.array([i], "int32" if dtype == "float32" else "int64").view(dtype)[0])


_SPLITS = ((0.5, 8), (1.0, 0), (-2.0, 0), (0.25, 16), (-1.0, 8), (2.5, 0), (0.75, 0), (-0.5, 0))


def _two_trees(dtype: str, table: bool) -> Const:
    """The second tree: x2 <= 0.25 leads to x0 <= -1, else to a leaf."""
    rows = [(_bits(i % 3, dtype) if table and not slot else split, slot) for i, (split, slot) in enumerate(_SPLITS)]
    if dtype == "float32":
        return _nodes(NARROW, *((*row, step) for row, step in zip(rows, (1, 0, 0, 1, 2, 0, 0, 0))))
    children = ((1, 2), (1, 1), (2, 2), (4, 5), (6, 7), (5, 5), (6, 6), (7, 7))
    return _nodes(WIDE, *((*row, *(24 * c for c in pair), 0) for row, pair in zip(rows, children)))


_LEAVES = [[1.0, 2.0], [-0.5, 0.25], [3.0, -1.0]]

register(
    Op(
        "TreeScores",
        ("x", "slots", "nodes", "trees", "leaves?"),
        _infer,
        reference=_scores,
        attrs={"aggregate": Attr(str, "SUM", ("SUM", "MIN", "MAX")), "n_targets": Attr(int), "to": Attr("dtype")},
        flops=_flops,
        values=(2, 3),
        samples=Samples(
            ("float32", "float64"),
            cases=tuple(
                _case(d, _two_trees(d, table), Const(_LEAVES, to) if table else None, 1 + (table or a == "SUM"), a, to)
                for d, to in (("float32", "float32"), ("float64", "float64"), ("float64", "float32"))
                for table in (False, True)
                for a in ("SUM", "MIN", "MAX")
            ),
        ),
        family=Family.INDEX,
        internal=True,
    )
)


# --- from a forest ----------------------------------------------------------------------------------------------------
def tree_scores(b: Builder, x: Value, forest: Forest, aggregate: str) -> tuple[Value, Value | np.ndarray]:
    """`Forest.sums` of samples by operators: scores [N, outputs], and which of them any leaf wrote: bool [N, outputs], or [outputs]
    where that is the same for all samples."""
    join = "SUM" if aggregate == "AVERAGE" else aggregate
    outputs, dtype = forest.weights.shape[1], forest.weights.dtype
    unwritten = {"SUM": 0, "MIN": np.inf, "MAX": -np.inf}[join]
    weights = np.where(forest.written, forest.weights, unwritten).astype(dtype)
    tree, leaf = _reached(forest)
    written, starts = forest.written[leaf], np.searchsorted(tree, np.arange(len(forest.roots)))
    if len(starts):
        every, some = np.logical_and.reduceat(written, starts), np.logical_or.reduceat(written, starts)
    else:
        every = some = np.zeros((0, outputs), bool)
    always: np.ndarray = np.asarray(every.any(axis=0))
    static = bool((always | ~some.any(axis=0)).all())
    if static and (some.sum(axis=1) <= 1).all():
        columns, given = some.argmax(axis=1), np.zeros(len(weights), dtype)
        given[leaf] = weights[leaf, columns[tree]]
        table = packed(forest, given, columns)
    elif static:
        table = packed(forest, weights, None)
    else:  # as many numbers more tell whether a leaf wrote
        flag = -1 if join == "MIN" else 1
        table = packed(forest, np.hstack([weights, np.where(forest.written, flag, unwritten)]).astype(dtype), None)
    x = as_rows(b, x, forest.split.dtype)
    wide = np.dtype(np.float64 if table.nodes.dtype == WIDE else np.float32)
    x = x if x.dtype == wide else b.add("Cast", x, to=wide)
    nodes = np.ascontiguousarray(table.nodes).view(np.uint8).reshape(-1, table.nodes.dtype.itemsize)
    constants = [b.constant(a.astype(np.int64)) for a in (table.slots, table.trees)]
    leaves = [] if table.leaves is None else [b.constant(table.leaves)]
    count = outputs if static else 2 * outputs
    scores = b.add(
        "TreeScores",
        x,
        constants[0],
        b.constant(nodes),
        constants[1],
        *leaves,
        aggregate=join,
        n_targets=count,
        to=dtype,
    )
    seen: Value | np.ndarray = always
    if not static:
        scores, flags = b.add("Split", scores, b.constant([outputs] * 2, np.int64), axis=1, outputs=2)
        seen = b.add("Less" if join == "MIN" else "Greater", flags, b.constant(0, dtype))
    if join != "SUM" and not (static and always.all()):
        mask = seen if isinstance(seen, Value) else b.constant(seen)
        scores = b.add("Where", mask, scores, b.constant(0, dtype))
    if aggregate == "AVERAGE":
        scores = b.add("Div", scores, b.constant(len(forest.roots) or 1, dtype))
    return scores, seen


def _reached(forest: Forest) -> tuple[np.ndarray, np.ndarray]:
    """(tree, leaf) of every leaf that a tree leads to, tree after tree."""
    pairs = np.stack([np.arange(len(forest.roots)), forest.roots], axis=1).reshape(-1, 2)
    found = []
    while pairs.size:
        leaf = forest.modes[pairs[:, 1]] == LEAF
        found.append(pairs[leaf])
        tree, node = pairs[~leaf].T
        pairs = np.stack([np.tile(tree, 2), np.concatenate([forest.yes[node], forest.no[node]])], axis=1)
        if np.bincount(pairs[:, 1]).max(initial=0) > 1:  # a node with several parents
            pairs = np.unique(pairs, axis=0)
    every = np.concatenate([np.zeros((0, 2), np.int64), *found])
    tree, leaf = every[np.argsort(every[:, 0], kind="stable")].T
    return tree, leaf
