"""A forest of decision trees as one table, built from the two forms in which ai.onnx.ml writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.errors import TypeRuleError

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER, LEAF = range(8)  # as TreeEnsemble-5 numbers the comparisons
_COMPARE = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)
_CODES = {f"BRANCH_{n}": i for i, n in enumerate(("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"))} | {"LEAF": LEAF}


@dataclass(frozen=True, eq=False)
class Forest:
    """All nodes of all trees in one table; a child is a row of it.

    feature, split, yes, no, missing_yes: [nodes]. modes: the comparison of each node, LEAF for leaves. members: the sets of
    MEMBER nodes. weights, written: [nodes, outputs], what a leaf adds, and whether it names that output.
    """

    roots: np.ndarray
    feature: np.ndarray
    split: np.ndarray
    modes: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    missing_yes: np.ndarray
    members: Mapping[int, np.ndarray]
    weights: np.ndarray
    written: np.ndarray

    def output(self, i: int) -> Forest:
        """The same trees, and one of the outputs."""
        return replace(self, weights=self.weights[:, i : i + 1], written=self.written[:, i : i + 1])

    def leaves(self, x: np.ndarray) -> np.ndarray:
        """The leaf [N, trees] that each sample [N, features] reaches in each tree."""
        at = np.broadcast_to(self.roots, (len(x), len(self.roots))).copy()
        open_ = self.modes[at] != LEAF
        while open_.any():
            samples, trees = np.nonzero(open_)
            node = at[samples, trees]
            values = x[samples, self.feature[node]]
            at[samples, trees] = np.where(self._true(node, values), self.yes[node], self.no[node])
            open_[samples, trees] = self.modes[at[samples, trees]] != LEAF
        return at

    def _true(self, node: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Does the sample go to the branch `yes`? A comparison with NaN is false, but for NEQ."""
        out = np.zeros(len(node), bool)
        modes = self.modes[node]
        for mode in np.unique(modes):
            some = modes == mode
            if mode == MEMBER:
                out[some] = [v in self.members[n] for n, v in zip(node[some], values[some])]
            else:
                out[some] = _COMPARE[mode](values[some], self.split[node[some]])
        return out | (np.isnan(values) & self.missing_yes[node])

    def sums(self, x: np.ndarray, aggregate: str) -> tuple[np.ndarray, np.ndarray]:
        """Scores [N, outputs] over the trees in order, and whether any leaf wrote them; those that none wrote are 0."""
        leaves = self.leaves(x)
        scores = np.zeros((len(x), self.weights.shape[1]), self.weights.dtype)
        seen = np.zeros(scores.shape, bool)
        for leaf in leaves.T:
            w, written = self.weights[leaf], self.written[leaf]
            if aggregate in ("MIN", "MAX"):
                better = np.minimum(scores, w) if aggregate == "MIN" else np.maximum(scores, w)
                scores = np.where(written, np.where(seen, better, w), scores)
            else:
                scores += w
            seen |= written
        return scores / scores.dtype.type(len(self.roots) or 1) if aggregate == "AVERAGE" else scores, seen


def compared(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The samples [N, F] in the dtype of the splits, in which they are compared."""
    return np.atleast_2d(x).astype(dtype)


# --- the forms up to opset 3: parallel lists with ids -----------------------------------------------------------------
def floats_or_tensor(attrs: Mapping[str, Any], name: str, default: Any, count: int) -> tuple[np.ndarray, bool]:
    """An attribute of floats, or its form as a tensor of doubles; and whether that was given."""
    tensor = attrs.get(f"{name}_as_tensor")
    if tensor is not None and tensor.size:
        return tensor.reshape(-1), tensor.dtype == np.float64
    values = attrs[name]
    return np.array(values if values else [default] * count, np.float32), False


def forest_of(attrs: Mapping[str, Any], kind: str, outputs: int) -> Forest:
    """kind: 'class' or 'target', the prefix of the leaves' attributes. Raises TypeRuleError where the lists do not fit."""
    trees, ids = np.array(attrs["nodes_treeids"], np.int64), np.array(attrs["nodes_nodeids"], np.int64)
    count = len(ids)
    split, double = floats_or_tensor(attrs, "nodes_values", 0.0, count)
    weights, double_weights = floats_or_tensor(attrs, f"{kind}_weights", 0.0, 0)
    sizes = {len(attrs[f"nodes_{n}"]) for n in ("treeids", "featureids", "modes", "truenodeids", "falsenodeids")}
    leaf_ids = [np.array(attrs[f"{kind}_{n}"], np.int64) for n in ("treeids", "nodeids", "ids")]
    if sizes | {len(split)} != {count} or {len(a) for a in leaf_ids} != {len(weights)}:
        raise TypeRuleError("the lists of its trees do not fit together", hint="export the model again")
    unknown = sorted(set(attrs["nodes_modes"]) - {*_CODES})
    if unknown:
        raise TypeRuleError(f"unknown mode of a node: {unknown[0]}", hint=f"one of: {', '.join(_CODES)}")
    modes = np.fromiter(map(_CODES.__getitem__, attrs["nodes_modes"]), np.uint8, count)
    find, inner = _Rows(trees, ids), modes != LEAF
    yes, no = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for child, name in ((yes, "true"), (no, "false")):
        child[inner] = find(trees[inner], np.array(attrs[f"nodes_{name}nodeids"], np.int64)[inner])
    leaves, output = find(*leaf_ids[:2]), leaf_ids[2]
    bad = output[(output < 0) | (output >= outputs)]
    if bad.size:
        raise TypeRuleError(f"a leaf names {kind} {bad[0]} of {outputs}", hint="export the model again")
    dtype = np.float64 if double or double_weights else np.float32
    table, written = np.zeros((count, outputs), dtype), np.zeros((count, outputs), bool)
    np.add.at(table, (leaves, output), weights.astype(dtype))
    written[leaves, output] = True
    roots = _roots(trees, np.concatenate([yes[inner], no[inner]]))
    _require_no_cycle(roots, yes, no, inner)
    missing = np.array(attrs["nodes_missing_value_tracks_true"] or [0] * count, bool)
    if len(missing) != count:
        raise TypeRuleError("the lists of its trees do not fit together", hint="export the model again")
    feature = np.where(inner, np.array(attrs["nodes_featureids"], np.int64), 0)
    if feature.min(initial=0) < 0:
        raise TypeRuleError(f"a node names feature {feature.min()}", hint="export the model again")
    return Forest(
        roots, feature, split.astype(dtype if double else np.float32), modes, yes, no, missing, {}, table, written
    )


class _Rows:
    """Finds the row of the node table where a tree's node is."""

    def __init__(self, trees: np.ndarray, ids: np.ndarray) -> None:
        """Raises TypeRuleError where a node stands twice."""
        self.order = np.lexsort((ids, trees))
        self.trees, self.tree = np.unique(trees, return_inverse=True)
        self.low, self.width = ids.min(initial=0), int(ids.max(initial=0)) - int(ids.min(initial=0)) + 1
        self.keys = (self.tree * self.width + ids - self.low)[self.order]
        if (np.diff(self.keys) == 0).any():
            raise TypeRuleError("the lists of its trees do not fit together", hint="export the model again")

    def __call__(self, trees: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The row of each (tree, node). Raises TypeRuleError where there is none."""
        tree = np.searchsorted(self.trees, trees).clip(max=max(len(self.trees) - 1, 0))
        keys = tree * self.width + ids - self.low
        at = np.searchsorted(self.keys, keys).clip(max=max(len(self.keys) - 1, 0))
        if not len(self.keys) and len(trees):
            wrong = np.ones(len(trees), bool)
        else:
            in_range = (ids >= self.low) & (ids < self.low + self.width)
            wrong = ~in_range | (self.trees[tree] != trees) | (self.keys[at] != keys)
        if wrong.any():
            pair = (int(trees[wrong][0]), int(ids[wrong][0]))
            raise TypeRuleError(f"tree and node {pair} do not exist", hint="export the model again")
        return self.order[at]


def _roots(trees: np.ndarray, children: np.ndarray) -> np.ndarray:
    """The node of each tree that is nobody's child, or its first node where there is not exactly one; in order of the trees."""
    orphan = np.ones(len(trees), bool)
    orphan[children] = False
    names, first, tree = np.unique(trees, return_index=True, return_inverse=True)
    orphans = np.flatnonzero(orphan)
    roots = first.copy()
    roots[tree[orphans]] = orphans
    roots = np.where(np.bincount(tree[orphans], minlength=len(names)) == 1, roots, first)
    return roots[np.argsort(first)]


def _require_no_cycle(roots: np.ndarray, yes: np.ndarray, no: np.ndarray, inner: np.ndarray) -> None:
    """Raises TypeRuleError where a walk from a root does not end."""
    level, depth = np.unique(roots), 0
    while level.size:
        level = level[inner[level]]
        level = np.unique(np.concatenate([yes[level], no[level]]))
        depth += 1
        if depth > len(inner) + 1:
            raise TypeRuleError("the nodes of a tree form a circle", hint="export the model again")


# --- the form of opset 5: inner nodes and leaves are two tables -------------------------------------------------------
def forest_of_tables(attrs: Mapping[str, Any]) -> Forest:
    """Inner nodes and leaves are two tables; here leaves follow the inner nodes. Raises TypeRuleError where they do not fit."""
    splits, leaf_weights = np.asarray(attrs["nodes_splits"]).reshape(-1), np.asarray(attrs["leaf_weights"]).reshape(-1)
    codes = np.asarray(attrs["nodes_modes"]).reshape(-1)
    inner, leaves = len(splits), len(leaf_weights)
    targets = np.array(attrs["leaf_targetids"], np.int64)
    ids = [
        np.array(attrs[f"nodes_{n}"], np.int64)
        for n in ("truenodeids", "trueleafs", "falsenodeids", "falseleafs", "featureids")
    ]
    if {len(codes), *map(len, ids)} != {inner} or len(targets) != leaves or (codes.size and codes.max() > MEMBER):
        raise TypeRuleError("the tables of its trees do not fit together", hint="export the model again")
    children = [np.where(leaf != 0, node + inner, node) for node, leaf in (ids[:2], ids[2:4])]
    roots = np.array(attrs["tree_roots"], np.int64)
    for rows_ in (*children, roots):
        if rows_.size and not (rows_.min() >= 0 and rows_.max() < inner + leaves):
            raise TypeRuleError("a tree names a node that does not exist", hint="export the model again")
    if targets.size and not (targets.min() >= 0 and targets.max() < attrs["n_targets"]):
        raise TypeRuleError(
            f"a leaf names a target that is none of {attrs['n_targets']}", hint="export the model again"
        )
    modes = np.concatenate([codes, np.full(leaves, LEAF)]).astype(np.uint8)
    yes, no = (np.concatenate([c, np.zeros(leaves, np.int64)]) for c in children)
    weights, written = (
        np.zeros((inner + leaves, attrs["n_targets"]), leaf_weights.dtype),
        np.zeros((inner + leaves, attrs["n_targets"]), bool),
    )
    at = (inner + np.arange(leaves), targets)
    weights[at], written[at] = leaf_weights, True
    if inner == 1 and leaves == 0:
        raise TypeRuleError("a tree has no leaves", hint="export the model again")
    _require_no_cycle(roots, yes, no, modes != LEAF)
    missing = np.zeros(inner + leaves, bool)
    tracks = attrs["nodes_missing_value_tracks_true"]
    missing[:inner] = np.array(tracks or [0] * inner, bool)
    pad = np.zeros(leaves, np.int64)
    members = _member_sets(np.flatnonzero(modes == MEMBER), attrs["membership_values"])
    return Forest(
        roots,
        np.concatenate([ids[4], pad]),
        np.concatenate([splits, pad]).astype(splits.dtype),
        modes,
        yes,
        no,
        missing,
        members,
        weights,
        written,
    )


def _member_sets(nodes: np.ndarray, values: np.ndarray | None) -> dict[int, np.ndarray]:
    """One set per node, each closed by a NaN (the last may be open)."""
    flat = np.asarray(values if values is not None else ()).reshape(-1)
    sets: list[np.ndarray] = [part[~np.isnan(part)] for part in np.split(flat, np.flatnonzero(np.isnan(flat)) + 1)]
    if len(sets) < len(nodes):
        raise TypeRuleError(
            f"membership_values holds {len(sets)} sets for {len(nodes)} nodes", hint="close each set by NaN"
        )
    return {int(n): s for n, s in zip(nodes, sets)}
