"""A forest as kernels read it: every decision is `not (x <= split)`, which leads to the second of two nodes.

The other comparisons become that one. `x < t` is `x <= p`, with p the next number below t; `>=` and `>` exchange the children; EQ is
two decisions, and MEMBER one EQ after the other. A NaN goes to the second node. Where it should go to the first one, the node reads
another copy of the feature, in which NaN is -infinity. A leaf is its own first node: it reads slot 0, which is -infinity in every
sample, so that trees of any depth are walked by a fixed number of decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphc.ops.ml.forest import EQ, GT, GTE, LEAF, LEQ, LT, MEMBER, NEQ, Forest

LANES = 8  # samples, or trees, that are walked at once: a slot holds as many numbers
# two nodes that are children of one lie next to each other, `step` nodes behind it
NARROW = np.dtype([("split", "<f4"), ("slot", "<u2"), ("step", "<u2")])
# any node may be a child of any other; children are bytes from the first node
WIDE = np.dtype([("split", "<f8"), ("slot", "<i4"), ("first", "<i4"), ("second", "<i4"), ("unused", "<i4")])
_MOST = np.iinfo(np.uint16).max
_SPARE = 64  # nodes that may be added by giving every node one parent, besides as many as there are


@dataclass(frozen=True, eq=False)
class Packed:
    """slots: which number of a sample's [raw, NaN as -infinity] pairs is in each slot behind slot 0. nodes: NARROW or WIDE.
    trees: [trees, 3], the first node, the depth, and the output to which leaves add their number.

    leaves: None where each tree has one output, whose numbers are the splits of its leaves; else [leaves, outputs], the rows of
    which the splits of leaves are, as bits, the positions.
    """

    slots: np.ndarray
    nodes: np.ndarray
    trees: np.ndarray
    leaves: np.ndarray | None


@dataclass(frozen=True, eq=False)
class _Decisions:
    """The nodes of a forest, decisions brought to one form; then those that come on top. nan_first: NaN goes to the first one."""

    feature: np.ndarray
    split: np.ndarray
    first: np.ndarray
    second: np.ndarray
    nan_first: np.ndarray


def _decisions(forest: Forest) -> _Decisions:
    modes, yes, no = forest.modes, forest.yes, forest.no
    below, swap = np.isin(modes, (LT, GTE)), np.isin(modes, (GTE, GT))
    with np.errstate(all="ignore"):
        split = np.where(below, np.nextafter(forest.split, forest.split.dtype.type(-np.inf)), forest.split)
    columns = (
        forest.feature,
        split,
        np.where(swap, no, yes),
        np.where(swap, yes, no),
        np.where(swap, ~forest.missing_yes, forest.missing_yes),
    )
    ordered = np.isin(modes, (LEQ, LT, GTE, GT))
    no_number = ordered & np.isnan(forest.split) | (below & np.isneginf(forest.split))
    if not (no_number | (~ordered & (modes != LEAF))).any():
        return _Decisions(*columns)
    rare = _Rare(*(c.tolist() for c in columns))
    for i in np.flatnonzero(no_number).tolist():  # no number decides here, only whether it is one
        always = modes[i] == GTE and not np.isnan(forest.split[i])
        rare.is_number(i, yes[i] if always else no[i], yes[i] if forest.missing_yes[i] else no[i])
    for i in np.flatnonzero((modes == EQ) | (modes == NEQ)).tolist():
        one, other = (yes[i], no[i]) if modes[i] == EQ else (no[i], yes[i])
        rare.equal(i, forest.split[i], one, other, bool(forest.missing_yes[i]) and modes[i] == EQ)
    for i in np.flatnonzero(modes == MEMBER).tolist():
        members, missing = forest.members[i], bool(forest.missing_yes[i])
        if not len(members):
            rare.is_number(i, no[i], yes[i] if missing else no[i])
            continue
        at = i
        for v in members[:-1]:
            other = rare.more(i)
            rare.equal(at, v, yes[i], other, missing)
            at = other
        rare.equal(at, members[-1], yes[i], no[i], missing)
    return _Decisions(*(np.array(c, a.dtype) for c, a in zip(rare.columns, columns)))


class _Rare:
    """Decisions that take more than one node, or no number."""

    def __init__(self, *columns: list) -> None:
        self.columns = columns

    def more(self, like: int) -> int:
        """One more node that reads the same feature."""
        for column in self.columns:
            column.append(column[like])
        return len(self.columns[0]) - 1

    def _set(self, i: int, *row: object) -> None:
        for column, value in zip(self.columns[1:], row):
            column[i] = value

    def is_number(self, i: int, number: int, nan: int) -> None:
        self._set(i, np.inf, number, nan, False)

    def equal(self, i: int, value: np.floating, one: int, other: int, nan_is_equal: bool) -> None:
        """x <= value, and then not x <= the number below. A NaN that is equal gets there as -infinity, and on as it is."""
        if np.isnan(value):
            self.is_number(i, other, one if nan_is_equal else other)
            return
        inner = self.more(i)
        self._set(i, value, inner, other, nan_is_equal)
        below = np.nan if np.isneginf(value) else np.nextafter(value, type(value)(-np.inf))
        self._set(inner, below, other, one, False)


def packed(forest: Forest, weights: np.ndarray, column: np.ndarray | None) -> Packed:
    """weights: [nodes, outputs], what leaves give; or, with `column`, the output of each tree, [nodes]."""
    d = _decisions(forest)
    leaf = np.concatenate([forest.modes == LEAF, np.zeros(len(d.split) - len(forest.modes), bool)])
    pairs = np.unique((2 * d.feature + d.nan_first)[~leaf])
    slot = np.where(leaf, 0, np.searchsorted(pairs, 2 * d.feature + d.nan_first) + 1)
    row = np.cumsum(leaf) - 1
    leaves = np.ascontiguousarray(weights[np.flatnonzero(leaf)]) if column is None else None
    columns = np.zeros(len(forest.roots), np.int64) if column is None else column
    narrow = (
        forest.split.dtype == weights.dtype == np.float32 and len(pairs) * LANES < _MOST and not np.isnan(weights).any()
    )
    order = _one_parent(forest.roots, d, leaf, 2 * len(leaf) + _SPARE) if narrow else None
    if order is not None:
        node, child, tree_of, depth = order
        starts = np.searchsorted(tree_of, np.arange(len(forest.roots)))
        step = np.where(leaf[node], 0, child - np.arange(len(node)))
        if step.max(initial=0) <= _MOST:
            nodes = np.zeros(len(node), NARROW)
            nodes["split"], nodes["slot"], nodes["step"] = d.split[node], slot[node] * LANES, step
            at = np.flatnonzero(leaf[node])
            reached = node[at]
            nodes["split"][at] = (
                row[reached].astype(np.int32).view(np.float32) if leaves is not None else weights[reached]
            )
            return Packed(pairs, nodes, np.stack([starts, depth, columns], axis=1).reshape(-1, 3), leaves)
    wide = np.zeros(len(leaf), WIDE)
    wide["split"], wide["slot"] = d.split, slot * LANES
    itself = np.arange(len(leaf))
    wide["first"] = np.where(leaf, itself, d.first) * WIDE.itemsize
    wide["second"] = np.where(leaf, itself, d.second) * WIDE.itemsize
    at = np.flatnonzero(leaf)
    wide["split"][at] = row[at].view(np.float64) if leaves is not None else weights[at]
    trees = np.stack([forest.roots, _depths(forest.roots, d, leaf), columns], axis=1).reshape(-1, 3)
    return Packed(pairs, wide, trees.astype(np.int64), leaves)


def _one_parent(roots: np.ndarray, d: _Decisions, leaf: np.ndarray, most: int) -> tuple[np.ndarray, ...] | None:
    """The forest level by level, tree after tree, nodes with several parents repeated: (node, place of its first child, tree) of
    each place, and the depth of each tree. None where these are more than `most`."""
    level, tree = roots, np.arange(len(roots))
    levels, trees, parents = [level], [tree], []
    depth = np.zeros(len(roots), np.int64)
    total = len(level)
    while True:
        inner = ~leaf[level]
        if not inner.any():
            break
        parents.append(inner)
        level = np.stack([d.first[level[inner]], d.second[level[inner]]], axis=1).reshape(-1)
        tree = np.repeat(tree[inner], 2)
        total += len(level)
        if total > most:
            return None
        depth[np.unique(tree)] += 1
        levels.append(level)
        trees.append(tree)
    node, tree_of = np.concatenate(levels), np.concatenate(trees)
    order = np.argsort(tree_of, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    child = np.zeros(len(node), np.int64)
    start = 0
    for inner, below in zip(parents, levels[1:]):
        end = start + len(inner)
        child[start:end][inner] = place[end : end + len(below) : 2]
        start = end
    return node[order], child[order], tree_of[order], depth


def _depths(roots: np.ndarray, d: _Decisions, leaf: np.ndarray) -> np.ndarray:
    """The longest way from each root to a leaf."""
    depth = np.full(len(leaf), -1, np.int64)
    depth[leaf] = 0
    stack = [int(r) for r in roots if depth[r] < 0]
    while stack:
        i = stack[-1]
        below = [int(c) for c in (d.first[i], d.second[i]) if depth[c] < 0]
        if below:
            stack += below
            continue
        depth[i] = 1 + max(depth[d.first[i]], depth[d.second[i]])
        stack.pop()
    return depth[roots]
