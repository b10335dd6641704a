"""Every operator: type rule, scalar body and expansion against its reference, and that against the tests of ONNX."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

import graphc
from graphc import expr as e
from graphc.dims import evaluate, symbols
from graphc.dtypes import is_float
from graphc.graph import Builder, Value, make_node
from graphc.interpret import run_graph
from graphc.op import Call, Family, Op, all_ops
from graphc.testing import Use, cases, use_of, uses
from graphc.testing.checking import expanded
from graphc.types import Sym, TensorType, dtype_name

OPS = all_ops()
ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
FLOAT64_TOLERANCE = 1e-9
NARROW = {"float16": 2**-10, "bfloat16": 2**-7}  # half an ulp of the result, and of an intermediate rounding
STATISTICAL = {Family.ELEMENTWISE, Family.REDUCTION, Family.NORMALIZE}


def names(wanted: Callable[[Op], bool]) -> list[str]:
    return [name for name, op in OPS.items() if wanted(op)]


def assert_close(actual: np.ndarray, want: np.ndarray, tolerance: float, what: str, least: float = 1e-300) -> None:
    """Same shape; values within `tolerance` of the largest finite magnitude, or `least`, NaN and infinities in the same places."""
    actual, want = np.asarray(actual), np.asarray(want)
    if not is_float(want.dtype):
        np.testing.assert_array_equal(actual, want, what)
        return
    actual, want = actual.astype(np.float64), want.astype(np.float64)
    scale = np.abs(want[np.isfinite(want)]).max(initial=least)
    np.testing.assert_allclose(actual, want, rtol=0, atol=tolerance * scale, err_msg=what)


# --- types ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", names(lambda op: not (op.holds_graphs or op.objects or op.name == "Raise")))
def test_an_operator_has_inputs_to_test_it_on(name: str):
    op = OPS[name]
    assert cases(op), f"{op.name} has no domain cases and does not broadcast: give Samples(cases=…) in its record"


def fits(inferred: TensorType | None, actual: TensorType) -> bool:
    """Is the inferred type the actual one, as far as it is known?"""
    if inferred is None:
        return True
    dims = zip(inferred.shape, actual.shape)
    same_rank = len(inferred.shape) == len(actual.shape)
    same_dtype = dtype_name(inferred.dtype) == dtype_name(actual.dtype)
    return same_dtype and same_rank and all(isinstance(d, Sym) or d == n for d, n in dims)


@pytest.mark.parametrize("name", names(lambda op: True))
def test_inferred_types_are_those_of_the_reference(name: str):
    op = OPS[name]
    for case in cases(op):
        for dtype in op.samples.dtypes:
            use = use_of(op, case, dtype)
            graph = use.graph()
            for value, array in zip(graph.outputs, run_graph(graph, use.inputs, strict=False), strict=True):
                actual = TensorType(array.dtype, array.shape)
                assert fits(value.type, actual), f"{use}: its reference gives {actual}, its type rule {value.type}"


@pytest.mark.parametrize("name", names(lambda op: True))
def test_type_rules_and_expansions_take_symbolic_dims(name: str):
    """With the first dim of the first operand a symbol, types agree with the static ones or are unknown."""
    op = OPS[name]
    for case in cases(op):
        use, b = use_of(op, case, op.samples.dtypes[0]), Builder("symbolic")
        x, *others = use.operands(b) or [None]
        if x is None or x.is_const or not x.shape:
            continue
        x = replace(x, type=x.type.with_shape((Sym("n"), *x.shape[1:])))
        node = make_node(op, [x, *others], use.attrs, name="node", outputs=[""] * use.n_outputs)
        expansion = op.expand(b, node.call) if op.expand else None
        expansion = (expansion,) if isinstance(expansion, Value) else expansion or ()
        static = use.graph().outputs
        for value, want in [*zip(node.outputs, static), *zip(expansion, static)]:
            known = want.type is None or fits(value.type, want.type)
            assert known, f"{use}: {value.type} where a dim is symbolic, {want.type} where it is not"


@pytest.mark.parametrize("name", names(lambda op: not op.holds_graphs))
def test_type_rules_refuse_no_dim_that_is_not_known(name: str):
    """Each dim of each operand that is read at run time as a symbol, and all of them."""
    op = OPS[name]
    for case in cases(op):
        use = use_of(op, case, op.samples.dtypes[0])
        use = replace(use, constants=frozenset(i for i in use.constants if i in op.values))
        operands, static = use.operands(Builder("symbols")), use.graph().outputs
        dims = [(i, k) for i, v in enumerate(operands) if v is not None and not v.is_const for k in range(len(v.shape))]
        for chosen in [dims, *([d] for d in dims)]:
            open_ = [
                v if v is None or v.is_const else replace(v, type=v.type.with_shape(
                    [Sym(f"s{i}_{k}") if (i, k) in chosen else d for k, d in enumerate(v.shape)]
                ))
                for i, v in enumerate(operands)
            ]  # fmt: skip
            node = make_node(op, open_, use.attrs, name="node", outputs=[""] * use.n_outputs)
            for value, want in zip(node.outputs, static):
                assert want.type is None or fits(value.type, want.type), (
                    f"{use}: {value.type} with symbols for {chosen}"
                )
                sizes = {f"s{i}_{k}": operands[i].shape[k] for i, k in chosen}
                for dim, size in zip(value.shape, want.shape) if value.type and want.type else ():
                    if set(symbols(dim)) <= sizes.keys():
                        assert evaluate(dim, sizes) == size, f"{use}: {dim} is not {size} where {sizes}"


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", names(lambda op: op.family in STATISTICAL and "float32" in op.samples.dtypes))
def test_references_take_narrow_floats(name: str, dtype: str):
    op = OPS[name]
    for case in cases(op):
        use = use_of(op, case, dtype).with_floats(dtype)
        for narrow, wide in zip(use.run(), use.with_floats("float64").run()):
            if is_float(narrow.dtype) == is_float(wide.dtype):
                assert_close(narrow, wide.astype(narrow.dtype), NARROW[dtype], f"{use}")


# --- scalar bodies ----------------------------------------------------------------------------------------------------
def interpret_scalar(use: Use) -> np.ndarray:
    """The scalar body as a tree, evaluated in Python element by element; integers wrapped to their dtype at the end."""
    op, attrs = use.op, use.op.complete_attrs(use.attrs)
    operands = [None if a is None else e.arg(i, a.dtype) for i, a in enumerate(use.arrays)]
    tree = op.scalar(*operands, **{k: attrs[k] for k in op.scalar_attrs})
    given = [np.zeros(()) if a is None else a for a in use.arrays]
    columns = np.broadcast_arrays(*given) if given else []
    values = [e.evaluate(tree, [c[at].item() for c in columns]) for at in np.ndindex(columns[0].shape)]
    dtype = use.graph().outputs[0].dtype
    assert tree.dtype == dtype, f"the scalar of {op.name} is {tree.dtype}, its type rule says {dtype}"
    if dtype.kind in "iu":
        values = [v % 2 ** (8 * dtype.itemsize) for v in values]
        return np.array(values, np.uint64).astype(dtype).reshape(columns[0].shape)
    return np.array(values, dtype).reshape(columns[0].shape)


@pytest.mark.parametrize("name", names(lambda op: op.scalar is not None))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_scalar_agrees_with_reference(name: str, data):
    op = OPS[name]
    use = data.draw(uses(op), "use").with_floats("float64")
    (want,) = use.run()
    with np.errstate(all="ignore"):
        actual = interpret_scalar(use)
    assert actual.shape == want.shape, use
    # a result far smaller than the operands, as the tail of Gelu, is what terms of their size leave of each other
    sizes = [np.abs(a[np.isfinite(a)]).max(initial=0) for a in use.arrays if a is not None and is_float(a.dtype)]
    least = max(1e-300, 1e-3 * max(sizes, default=0))
    assert_close(actual, want, FLOAT64_TOLERANCE, f"scalar and reference of {use}", least)


# --- expansions -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", names(lambda op: op.expand is not None))
def test_expansion_agrees_with_reference(name: str):
    op = OPS[name]
    taken = 0
    for case in cases(op):
        for seed in range(3):
            use = use_of(op, case, op.samples.dtypes[0], seed)
            single = name.startswith("ai.onnx.ml::")  # which compute in float32, whatever they are given
            use = use if single else use.with_floats("float64")
            actual = expanded(use)
            taken += actual is not None
            for a, want in zip(actual or (), use.run()):
                assert a.dtype == want.dtype and a.shape == want.shape
                if op.deterministic is not False:  # else see test_ops_random.py
                    tolerance = op.tolerance if single else FLOAT64_TOLERANCE
                    assert_close(a, want, tolerance, f"expansion and reference of {use}")
    assert taken, f"the expansion of {op.name} declines every case of its domain"


@pytest.mark.parametrize(
    ("name", "attrs", "vectors"),
    [
        ("GroupNormalization", {"num_groups": 2}, 2),
        ("LRN", {"size": 3, "alpha": 0.5}, 0),
        ("InstanceNormalization", {}, 2),
    ],
)
def test_expansions_run_with_every_size_symbolic(name: str, attrs: dict, vectors: int):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 4, 3, 5)), *rng.normal(size=(vectors, 4))]
    b = Builder("symbolic")
    x = b.input("x", "float64", (Sym("n"), 4, Sym("h"), Sym("w")))
    operands = [x, *(b.input(f"v{i}", "float64", (4,)) for i in range(vectors))]
    op = OPS[name]
    y = op.expand(b, Call(op, operands, op.complete_attrs(attrs), 1))
    (actual,) = run_graph(b.build({"y": y}), arrays)
    assert_close(actual, op.reference(*arrays, **op.complete_attrs(attrs)), FLOAT64_TOLERANCE, name)


def test_the_example_of_a_custom_operator_runs():
    example = Path(__file__).resolve().parents[2] / "examples" / "custom_operator.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, cwd=example.parent.parent, env=ENV)
    assert done.returncode == 0, done.stderr
    assert "SquaredReLU: (4, 64)" in done.stdout


# --- ONNX's own node tests --------------------------------------------------------------------------------------------
ALSO = ("BatchNormalization", "BitCast", "CastLike", "ReduceLogSumExp")


@pytest.fixture(scope="module")
def node_tests() -> dict[str, list]:
    """Tests of one node by operator, of those opsets in which the operator has its newest form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases()
    found: dict[str, list] = {}
    for case in collected:
        node, opset = case.model.graph.node[0], case.model.opset_import[0]
        if len(case.model.graph.node) == 1 and opset.domain == "" and node.op_type in OPS:
            newest, then = onnx.defs.get_schema(node.op_type), onnx.defs.get_schema(node.op_type, opset.version)
            if newest.attributes.keys() == then.attributes.keys() and len(newest.inputs) == len(then.inputs):
                found.setdefault(node.op_type, []).append(case)
    return found


def attribute(op: Op, proto: onnx.AttributeProto):
    value = helper.get_attribute_value(proto)
    if op.attrs[proto.name].type == "dtype":
        return np.dtype(object) if value == onnx.TensorProto.STRING else helper.tensor_dtype_to_np_dtype(value)
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    "name", names(lambda op: (op.family in STATISTICAL or op.name in ALSO) and onnx.defs.has(op.name))
)
def test_reference_passes_the_node_tests_of_onnx(name: str, node_tests: dict[str, list]):
    op = OPS[name]
    assert name in node_tests, f"onnx has no node test of {name} in its newest form"
    for case in node_tests[name]:
        node = case.model.graph.node[0]
        attrs = {a.name: attribute(op, a) for a in node.attribute}
        for inputs, outputs in case.data_sets:
            arrays = dict(zip((i.name for i in case.model.graph.input), map(as_array, inputs)))
            operands = tuple(arrays.get(n) for n in node.input)
            actual = Use(op, operands, attrs, len(node.output), frozenset(op.values)).run()
            for a, want in zip(actual, map(as_array, outputs), strict=True):
                message = f"{case.name}: {name} {attrs}"
                assert dtype_name(a.dtype) == dtype_name(want.dtype), message
                assert a.shape == want.shape, message
                if want.dtype.kind in "OUS":
                    assert a.astype(str).tolist() == want.astype(str).tolist(), message
                else:
                    np.testing.assert_allclose(
                        a.astype(float), want.astype(float), case.rtol, case.atol, err_msg=message
                    )


def as_array(value) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_means_of_large_integers_are_exact(target: str):
    """float64 has 53 bits."""
    b = Builder("means")
    graph = b.build(
        {n: b.add("ReduceMean", b.input(n, n, (1, 2)), b.constant([1]), keepdims=False) for n in ("int64", "uint64")}
    )
    feeds = {
        "int64": np.array([[-(2**62) - 3, -(2**61)]], np.int64),
        "uint64": np.array([[2**63 + 5, 2**62]], np.uint64),
    }
    got = graphc.compile(graph, target=target).run(feeds)
    assert got["int64"][0] == -((2**62 + 3 + 2**61) // 2) and got["uint64"][0] == (2**63 + 5 + 2**62) // 2
