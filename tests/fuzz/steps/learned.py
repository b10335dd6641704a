"""ai.onnx.ml: forests, linear models, support vectors, scalers, encoders; what scikit-learn's exporter writes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper

from ..draft import Draft, Reject, Tensor
from ..draws import F32, I64
from . import step


def op(name: str) -> str:
    return f"ai.onnx.ml::{name}"


def table(d: Draft, most: int = 12) -> Tensor:
    """Rows of features."""
    fits = [t for t in d.values if t.dtype == F32 and t.rank == 2 and t.size and 1 not in t.open and t.shape[1] <= most]
    if fits and d.draw.chance(0.6):
        return d.draw.one_of(*fits)
    rows = "batch" if "batch" in d.shared.dims else d.draw.size(9)
    return d.input(F32, (rows, d.draw.count(1, 6)), -2, 2)


def floats(d: Draft, n: int, reach: float = 1.0) -> list[float]:
    return d.draw.rng.uniform(-reach, reach, n).astype(F32).tolist()


def forest(d: Draft, features: int, targets: int, leaf: str) -> dict:
    """Random trees: splits at multiples of 1/8, moved by 1/16 so that no coarse number lies on one."""
    rows: dict[str, list] = {
        k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing")
    }
    leaves: dict[str, list] = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    mode = d.draw.one_of("BRANCH_LEQ", "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT")
    for tree in range(d.draw.count(1, 4)):
        waiting, count = [(0, d.draw.count(0, 3))], 1
        while waiting:
            node, deeper = waiting.pop(0)
            split = deeper > 0 and (node == 0 or d.draw.chance(0.8))
            yes, no = (count, count + 1) if split else (0, 0)
            if split:
                waiting += [(yes, deeper - 1), (no, deeper - 1)]
                count += 2
            else:
                for target in d.draw.some(range(targets), 0.7) or [0]:
                    for key, value in zip(leaves, (tree, node, target, floats(d, 1)[0])):
                        leaves[key].append(value)
            feature = d.draw.count(0, features - 1)
            where = d.draw.count(-16, 16) / 8 + 1 / 16
            entry = (
                tree,
                node,
                feature,
                where if split else 0.0,
                mode if split else "LEAF",
                yes,
                no,
                d.draw.count(0, 1),
            )
            for key, value in zip(rows, entry):
                rows[key].append(value)
    missing = rows.pop("missing")
    attrs = {f"nodes_{k}": v for k, v in rows.items()}
    if d.draw.chance(0.5):
        attrs["nodes_missing_value_tracks_true"] = missing
    return attrs | {f"{leaf}_{k}": v for k, v in leaves.items()}


def transform(d: Draft) -> str | None:
    return d.draw.one_of(None, "NONE", "LOGISTIC", "SOFTMAX")


@step(2)
def tree_regressor(d: Draft) -> Tensor:
    x, targets = table(d), d.draw.one_of(1, 1, 2, 3)
    attrs = forest(d, x.shape[1], targets, "target")
    base = floats(d, targets) if d.draw.chance(0.4) else None
    aggregate = d.draw.one_of(None, "SUM", "AVERAGE", "MIN", "MAX")
    return d.node(
        op("TreeEnsembleRegressor"), x, n_targets=targets, base_values=base, aggregate_function=aggregate,
        post_transform=transform(d), **attrs,
    )  # fmt: skip


@step(2)
def tree_classifier(d: Draft) -> tuple:
    x, classes = table(d), d.draw.one_of(2, 2, 3, 4)
    ids = 1 if classes == 2 and d.draw.chance(0.6) else classes
    attrs = forest(d, x.shape[1], ids, "class")
    if ids == 1 and d.draw.chance(0.5):
        attrs["class_weights"] = np.abs(attrs["class_weights"]).tolist()
    base = floats(d, ids) if d.draw.chance(0.3) else None
    return d.node(
        op("TreeEnsembleClassifier"), x, classlabels_int64s=list(range(classes)), base_values=base,
        post_transform=transform(d), outputs=2, **attrs,
    )  # fmt: skip


@step(1.5, opset=21)
def trees_of_five(d: Draft) -> Tensor:
    """TreeEnsemble, the form that version 5 of the domain has: comparisons of each kind, sets of members."""
    x, targets, roots = table(d), d.draw.count(1, 3), d.draw.count(1, 3)
    rows = [
        (
            d.draw.one_of(0, 0, 1, 2, 3, 4, 5, 6), d.draw.count(0, x.shape[1] - 1), d.draw.count(-16, 16) / 8 + 1 / 16,
            d.draw.count(0, 2 * roots - 1), d.draw.count(0, 2 * roots - 1),
        )
        for _ in range(roots)
    ]  # fmt: skip
    modes, features, splits, yes, no = (list(column) for column in zip(*rows))
    members = [v for m in modes if m == 6 for v in (*d.draw.some((-1.0, 0.0, 0.25, 1.0, 2.0)), np.nan)]
    return d.node(
        op("TreeEnsemble"), x, n_targets=targets, tree_roots=list(range(roots)), nodes_featureids=features,
        nodes_modes=tensor(modes, np.uint8), nodes_splits=tensor(splits, F32), nodes_truenodeids=yes,
        nodes_falsenodeids=no, nodes_trueleafs=[1] * roots, nodes_falseleafs=[1] * roots,
        leaf_targetids=[d.draw.count(0, targets - 1) for _ in range(2 * roots)],
        leaf_weights=tensor(floats(d, 2 * roots), F32), membership_values=tensor(members, F32) if members else None,
        aggregate_function=d.draw.one_of(None, 0, 1, 2, 3), post_transform=d.draw.one_of(None, 0, 0, 3),
    )  # fmt: skip


def tensor(values: list, dtype) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype))


@step(1.5)
def linear(d: Draft) -> object:
    x = table(d)
    n = x.shape[1]
    if d.draw.chance(0.5):
        targets = d.draw.one_of(1, 1, 2, 3)
        shift = floats(d, targets) if d.draw.chance(0.7) else None
        return d.node(
            op("LinearRegressor"), x, coefficients=floats(d, n * targets), intercepts=shift, targets=targets,
            post_transform=transform(d),
        )  # fmt: skip
    classes = d.draw.one_of(2, 3, 4)
    return d.node(
        op("LinearClassifier"), x, coefficients=floats(d, n * classes), intercepts=floats(d, classes),
        classlabels_ints=list(range(classes)), post_transform=transform(d), outputs=2,
    )  # fmt: skip


@step(1.2)
def support_vectors(d: Draft) -> object:
    x = table(d)
    n = x.shape[1]
    kernel = d.draw.one_of("LINEAR", "POLY", "RBF", "SIGMOID")
    params = [0.5, 0.25, 2.0]
    if d.draw.chance(0.5):
        count = d.draw.count(1, 4)
        return d.node(
            op("SVMRegressor"), x, coefficients=floats(d, count), kernel_type=kernel, kernel_params=params,
            n_supports=count, rho=floats(d, 1), support_vectors=floats(d, count * n),
        )  # fmt: skip
    per_class = [d.draw.count(1, 2) for _ in range(d.draw.one_of(2, 3))]
    classes, count = len(per_class), sum(per_class)
    return d.node(
        op("SVMClassifier"), x, coefficients=floats(d, count * (classes - 1)), kernel_type=kernel, kernel_params=params,
        rho=floats(d, classes * (classes - 1) // 2), support_vectors=floats(d, count * n), outputs=2,
        vectors_per_class=per_class, classlabels_ints=list(range(classes)),
    )  # fmt: skip


@step(1.5)
def scaled(d: Draft) -> Tensor:
    x = table(d)
    n = x.shape[1]
    match d.draw.one_of("Scaler", "Normalizer", "Imputer", "Binarizer", "FeatureVectorizer"):
        case "Scaler":
            m = d.draw.one_of(1, n)
            return d.node(op("Scaler"), x, offset=floats(d, m), scale=floats(d, m))
        case "Normalizer":
            return d.node(op("Normalizer"), x, norm=d.draw.one_of(None, "L1", "L2", "MAX"))
        case "Imputer":
            return d.node(
                op("Imputer"), x, imputed_value_floats=floats(d, d.draw.one_of(1, n)),
                replaced_value_float=d.draw.one_of(None, 1.0),
            )  # fmt: skip
        case "Binarizer":
            return d.node(op("Binarizer"), x, threshold=d.draw.one_of(None, 0.5))
        case _:
            if x.open:
                raise Reject("open")
            return d.node(op("FeatureVectorizer"), x, x, inputdimensions=[n, d.draw.count(1, n + 1)])


@step(1.5)
def encoded(d: Draft) -> Tensor:
    """Labels to labels, and to a one among zeros."""
    shape = d.draw.shape(d.draw.count(1, 2), 30)
    keys = list(range(d.draw.count(1, 5)))
    x = d.input(I64, shape, -1, 6)
    match d.draw.one_of("ints", "floats", "onehot", "extract"):
        case "ints":
            return d.node(
                op("LabelEncoder"), x, keys_int64s=keys, values_int64s=[7 * k for k in keys],
                default_int64=d.draw.one_of(None, 5),
            )  # fmt: skip
        case "floats":
            return d.node(op("LabelEncoder"), x, keys_int64s=keys, values_floats=floats(d, len(keys)))
        case "onehot":
            return d.node(op("OneHotEncoder"), x, cats_int64s=keys, zeros=1)
        case _:
            y = table(d)
            places = d.ints(*(d.draw.count(0, y.shape[1] - 1) for _ in range(d.draw.count(1, 3))))
            return d.node(op("ArrayFeatureExtractor"), y, places)


@step(1)
def probabilities(d: Draft) -> tuple:
    """A classifier and a ZipMap: rows of a map by label, taken to a vector again by no operator; its label only."""
    x = table(d)
    attrs = forest(d, x.shape[1], 3, "class")
    label, scores = d.node(
        op("TreeEnsembleClassifier"), x, classlabels_int64s=[4, 2, 9], post_transform=transform(d), outputs=2, **attrs
    )
    return label, d.node(op("Normalizer"), scores, norm="L1")
