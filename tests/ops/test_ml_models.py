"""Linear models, support vector machines, encoders and maps of ai.onnx.ml: by their formulas, and by ONNX Runtime."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import graphc
from graphc.errors import GraphcError

ML = "ai.onnx.ml"
FEATURES = 4


def node_model(op: str, attrs: dict[str, Any], x: np.ndarray, results: list[Any], version: int = 3) -> bytes:
    """One node. results: dtypes, or types."""
    attrs = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attrs.items()}

    def value(name: str, kind: Any) -> onnx.ValueInfoProto:
        if isinstance(kind, onnx.TypeProto):
            return helper.make_value_info(name, kind)
        number = 8 if kind == "string" else helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        return helper.make_tensor_value_info(name, number, x.shape if name == "x" else None)

    names = [f"y{i}" for i in range(len(results))]
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], names, domain=ML, **attrs)],
        "g",
        [value("x", "string" if x.dtype == object else x.dtype)],
        [value(n, r) for n, r in zip(names, results)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def same_as_runtime(data: bytes, x: np.ndarray, tolerance: float = 2e-6) -> list[Any]:
    """graphc's results, which are ONNX Runtime's."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    want = ort.InferenceSession(data, options).run(None, {"x": x})
    got = list(graphc.compile(data).run({"x": x}).values())
    for g, w in zip(got, want, strict=True):
        if isinstance(w, list) or w.dtype.kind != "f":
            assert (g if isinstance(g, list) else g.tolist()) == (w if isinstance(w, list) else w.tolist())
        else:
            assert g.dtype == w.dtype and g.shape == w.shape
            scale = np.abs(w[np.isfinite(w)]).max(initial=1)
            np.testing.assert_allclose(g, w, rtol=0, atol=tolerance * scale)
    return got


def samples(count: int = 9, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return (2 * np.random.default_rng(seed).normal(size=(count, FEATURES))).astype(dtype)


def floats(rng: np.random.Generator, count: int) -> list[float]:
    return np.float32(rng.normal(size=count)).tolist()


# --- linear models ----------------------------------------------------------------------------------------------------
@pytest.mark.sample(12)
@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("labels", [[], [4, 9], [7, 3, 5], ["no", "yes"], ["u", "v", "w"]])
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_linear_classifiers(post: str, labels: list, rows: int, dtype: str):
    if labels and rows not in (len(labels), 1) or (rows == 1 and len(labels) == 3) or (rows > 1 and not labels):
        pytest.skip("labels that do not fit")
    rng = np.random.default_rng([rows, len(labels)])
    attrs: dict[str, Any] = {
        "coefficients": floats(rng, rows * FEATURES),
        "intercepts": floats(rng, rows),
        "post_transform": post,
    }
    if labels:
        attrs["classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"] = labels
    kind = "string" if labels and isinstance(labels[0], str) else "int64"
    x = samples(dtype=dtype)
    _, scores = same_as_runtime(node_model("LinearClassifier", attrs, x, [kind, "float32"], 1), x)
    raw = x.astype(np.float32) @ np.float32(attrs["coefficients"]).reshape(rows, -1).T + np.float32(attrs["intercepts"])
    if post == "NONE":
        want = np.hstack([1 - raw, raw]) if rows == 1 and labels else raw
        np.testing.assert_allclose(scores, want, rtol=0, atol=2e-6 * np.abs(raw).max())


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
@pytest.mark.parametrize("targets", [1, 3])
def test_linear_regressors(post: str, targets: int):
    rng = np.random.default_rng(targets)
    attrs = {
        "coefficients": (0.1 * np.float32(floats(rng, targets * FEATURES))).tolist(),
        "intercepts": [0.5] * targets,
    }
    x = 0.2 * samples()  # so that most results are in (0, 1), where PROBIT is defined
    tolerance = (
        1e-3 if post == "PROBIT" else 1e-5
    )  # it takes the root of a difference that is near 0 for numbers near 1/2
    same_as_runtime(
        node_model("LinearRegressor", attrs | {"targets": targets, "post_transform": post}, x, ["float32"], 1),
        x,
        tolerance,
    )


# --- support vector machines ------------------------------------------------------------------------------------------
@pytest.mark.sample(12)
@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("labels", [[4, 9], [7, 3, 5], ["a", "b", "c", "d"]])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_support_vectors(kernel: str, labels: list, probabilities: bool, post: str):
    rng = np.random.default_rng([len(labels), probabilities])
    k, sizes = len(labels), list(range(2, 2 + len(labels)))
    count, pairs = sum(sizes), k * (k - 1) // 2
    attrs: dict[str, Any] = {
        "kernel_type": kernel,
        "kernel_params": [0.25, 0.5, 2.0],
        "support_vectors": floats(rng, count * FEATURES),
        "coefficients": floats(rng, count * (k - 1)),
        "rho": floats(rng, pairs),
        "vectors_per_class": sizes,
        "post_transform": post,
    }
    attrs["classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"] = labels
    if probabilities:
        attrs |= {"prob_a": (-np.abs(floats(rng, pairs))).tolist(), "prob_b": floats(rng, pairs)}
    x = samples()
    kind = "string" if isinstance(labels[0], str) else "int64"
    label, scores = same_as_runtime(node_model("SVMClassifier", attrs, x, [kind, "float32"], 1), x, 5e-6)
    v = np.array(attrs["support_vectors"]).reshape(count, -1)
    products = x.astype(float) @ v.T
    kernels = {
        "LINEAR": products,
        "POLY": (0.25 * products + 0.5) ** 2,
        "RBF": np.exp(-0.25 * ((x[:, None].astype(float) - v) ** 2).sum(-1)),
        "SIGMOID": np.tanh(0.25 * products + 0.5),
    }
    w, of = np.array(attrs["coefficients"]).reshape(k - 1, -1), np.repeat(np.arange(k), sizes)
    votes, decisions = np.zeros((len(x), k)), []
    for (i, j), rho in zip(itertools.combinations(range(k), 2), attrs["rho"]):
        d = kernels[kernel][:, of == i] @ w[j - 1, of == i] + kernels[kernel][:, of == j] @ w[i, of == j] + rho
        votes[np.arange(len(x)), np.where(d > 0, i, j)] += 1
        decisions.append(d)
    assert list(label) == [labels[i] for i in votes.argmax(axis=1)]
    if post == "NONE" and not probabilities:
        want = np.stack([-decisions[0], decisions[0]] if k == 2 else decisions, axis=1)
        np.testing.assert_allclose(scores, want, rtol=0, atol=5e-6 * np.abs(want).max())


def test_near_support_vectors_far_from_zero():
    """Distances of 1e-2 between numbers of 1e3: sums of squares would cancel."""
    rng = np.random.default_rng(1)
    v = np.float32(1000 + rng.normal(size=(6, FEATURES)))
    attrs = {
        "kernel_type": "RBF",
        "kernel_params": [100.0, 0.0, 3.0],
        "support_vectors": v.reshape(-1).tolist(),
        "coefficients": [1.0] * 6,
        "rho": [0.0],
        "n_supports": 6,
    }
    x = v[:4] + np.float32(0.0625)
    (got,) = same_as_runtime(node_model("SVMRegressor", attrs, x, ["float32"], 1), x)
    want = np.exp(-100 * ((x[:, None].astype(float) - v) ** 2).sum(-1)).sum(-1)
    np.testing.assert_allclose(got[:, 0], want, rtol=1e-4)


# --- encoders ---------------------------------------------------------------------------------------------------------
NUMBERS = {
    "int64": ([5, -2, 7, 5], [5, 7, -2, 0, 2**40]),
    "float32": ([0.5, math.nan, -0.0, 0.5], [0.0, math.nan, 0.5, 3.0, -math.inf]),
    "float64": ([0.5, math.nan, -0.0, 0.5], [0.0, math.nan, 0.5, 3.0, math.inf]),
    "string": (["a", "", "c", "a"], ["c", "a", "", "z", "A"]),
}
VALUES = {
    "int64": [1, 2, 3, 4],
    "float32": [0.5, 1.5, 2.5, 3.5],
    "float64": [0.1, 0.2, 0.3, 0.4],
    "string": ["u", "v", "w", "x"],
}
VALUES["int16"] = VALUES["int64"]


@pytest.mark.parametrize("given", [False, True], ids=["default", "default_tensor"])
@pytest.mark.parametrize(
    ("keys", "values"),
    [*itertools.product(("int64", "float32", "string"), repeat=2), ("string", "int16"), ("string", "float64"),
     ("float64", "string"), ("int64", "float64"), ("float64", "int64"), ("float64", "float64")],
)  # fmt: skip
def test_label_encoders(keys: str, values: str, given: bool):
    """Of a key given twice the first holds, a NaN is found, 0 and -0 are one."""
    table, x = NUMBERS[keys]

    def column(v: list, dtype: str) -> np.ndarray:
        return np.array(v, object if dtype == "string" else dtype)

    attrs = {"keys_tensor": column(table, keys), "values_tensor": column(VALUES[values], values)}
    default = {"string": "?", "int64": -9, "int16": -9, "float32": -9.5, "float64": -9.5}[values] if given else None
    if given:
        attrs["default_tensor"] = column([default], values)
    else:
        default = {"string": "_Unused", "int64": -1, "int16": -1}.get(values, 0.0)
    array = column([x, x[::-1]], keys)
    got = graphc.compile(node_model("LabelEncoder", attrs, array, [values], 4)).run({"x": array})["y0"]
    first = {"nan" if k != k else k: v for k, v in reversed(list(zip(table, VALUES[values])))}
    want = [[first.get("nan" if v != v else v, default) for v in row] for row in (x, x[::-1])]
    assert got.tolist() == column(want, values).tolist()
    with contextlib.suppress(ort.capi.onnxruntime_pybind11_state.NotImplemented):  # a pair that it does not have
        same_as_runtime(node_model("LabelEncoder", attrs, array, [values], 4), array)


def test_a_table_of_many_keys():
    rng = np.random.default_rng(3)
    keys = rng.permutation(5000)[:3000] * 7 - 9000
    attrs = {"keys_int64s": keys.tolist(), "values_floats": floats(rng, 3000), "default_float": -1.0}
    x = rng.integers(-9100, 27000, (700, 3))
    model = graphc.compile(node_model("LabelEncoder", attrs, x, ["float32"], 4), threads=2)
    want = np.vectorize(dict(zip(keys.tolist(), attrs["values_floats"])).get)(x, -1.0)
    np.testing.assert_array_equal(model.run({"x": x})["y0"], want.astype(np.float32))
    assert not [s for s in model.plan({"x": x.shape}).steps if s.host]


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
@pytest.mark.parametrize("categories", [[1, 3, 2], [2, 1, 2]])
def test_one_hot(dtype: str, categories: list[int]):
    x = np.array([[1, 2], [3, 9], [-1, 0]]).astype(dtype) + (0.75 if dtype != "int64" else 0)
    data = node_model("OneHotEncoder", {"cats_int64s": categories}, x, ["float32"], 1)
    (got,) = same_as_runtime(data, x)
    assert got.sum() == np.isin(x.astype(np.int64), categories).sum()


def test_positions_that_are_none():
    x = samples()
    b = node_model("ArrayFeatureExtractor", {}, x, ["float32"], 1)
    model = onnx.load_from_string(b)
    model.graph.node[0].input.append("at")
    model.graph.input.append(helper.make_tensor_value_info("at", 7, [None]))
    compiled = graphc.compile(model.SerializeToString())
    got = compiled.run({"x": x, "at": np.array([3, 0, 3])})["y0"]
    np.testing.assert_array_equal(got, x[:, [3, 0, 3]])
    for bad in (-1, FEATURES):
        with pytest.raises(GraphcError, match="out of range|none of"):
            compiled.run({"x": x, "at": np.array([bad])})


# --- maps -------------------------------------------------------------------------------------------------------------
def map_type(key: int, value: int) -> onnx.TypeProto:
    return helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))


@pytest.mark.parametrize("labels", [["a", "b", "c", "d"], [7, 3, 5, 1]])
@pytest.mark.parametrize("shape", [(3, 4), (4,), (0, 4)])
def test_zip_map(labels: list, shape: tuple[int, ...]):
    text = isinstance(labels[0], str)
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape) / 4
    kind = helper.make_sequence_type_proto(map_type(8 if text else 7, 1))
    data = node_model("ZipMap", {"classlabels_strings" if text else "classlabels_int64s": labels}, x, [kind], 1)
    (got,) = same_as_runtime(data, x)
    assert got == [dict(zip(labels, row)) for row in np.atleast_2d(x).tolist()]


def test_labels_that_do_not_fit_scores():
    x = np.zeros((2, 3), np.float32)
    kind = helper.make_sequence_type_proto(map_type(7, 1))
    with pytest.raises(GraphcError, match="2 class labels for 3 scores"):
        graphc.compile(node_model("ZipMap", {"classlabels_int64s": [1, 2]}, x, [kind], 1))


def from_map(op: str, attrs: dict[str, Any], kind: onnx.TypeProto, to: int, given: dict) -> np.ndarray:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], domain=ML, **attrs)],
        "g",
        [helper.make_value_info("x", kind)],
        [helper.make_tensor_value_info("y", to, None)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return graphc.compile(model).run({"x": given})["y"]


def test_dict_vectorizer():
    words = {"string_vocabulary": ["a", "b", "c"]}
    assert from_map("DictVectorizer", words, map_type(8, 1), 1, {"c": 1.5, "z": 2.0}).tolist() == [[0, 0, 1.5]]
    numbers = from_map("DictVectorizer", {"int64_vocabulary": [5, 2]}, map_type(7, 8), 8, {2: "two"})
    assert numbers.tolist() == [["", "two"]]
    with pytest.raises(GraphcError, match="the map is empty"):
        from_map("DictVectorizer", words, map_type(8, 7), 7, {})


@pytest.mark.parametrize(
    ("to", "code", "dense", "sparse"),
    [
        ("TO_FLOAT", 1, [-2.75, 1.5], [0, -2.75, 0, 1.5]),
        ("TO_INT64", 7, [-2, 1], [0, -2, 0, 1]),
        ("TO_STRING", 8, ["-2.750000", "1.500000"], ["0.f", "-2.750000", "0.f", "1.500000"]),
    ],
)
def test_cast_map(to: str, code: int, dense: list, sparse: list):
    """Keys beyond the columns are dropped."""
    given = {3: 1.5, 1: -2.75}
    assert from_map("CastMap", {"cast_to": to}, map_type(7, 1), code, given).tolist() == [dense]
    attrs = {"cast_to": to, "map_form": "SPARSE", "max_map": 4}
    assert from_map("CastMap", attrs, map_type(7, 1), code, given | {8: 1.0}).tolist() == [sparse]
    with pytest.raises(GraphcError, match="key -1 is no position"):
        from_map("CastMap", attrs, map_type(7, 1), code, {-1: 1.0})
