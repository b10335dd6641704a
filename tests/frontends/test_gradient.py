"""Gradient of ai.onnx.preview.training: derivatives against differences, in float64."""

import numpy as np
import pytest
from onnx import parser

import graphc
from graphc.errors import CheckError, UnsupportedError
from graphc.gradient import differentiable, gradients, substituted
from graphc.graph import Builder
from graphc.interpret import run_graph

RNG = np.random.default_rng(0)
STEP = 1e-6


def positive(*shape):
    return RNG.uniform(0.5, 2, shape)


def signed(*shape):
    """Away from 0, where some have no derivative."""
    return positive(*shape) * RNG.choice([-1, 1], shape)


ONE = {"Neg", "Identity", "Exp", "Reciprocal", "Sin", "Cos", "Tanh", "Sigmoid", "Softplus", "Erf", "Relu", "Abs"}
# (operator, operands, attributes); ints and booleans are constants
USES = [
    *((op, [signed(2, 3)], {}) for op in sorted(ONE)),
    *((op, [positive(2, 3)], {}) for op in ("Log", "Sqrt")),
    *((op, [signed(2, 3), signed(2, 3)], {}) for op in ("Add", "Sub", "Mul", "Div")),
    *((op, [signed(2, 1, 3), signed(4, 1)], {}) for op in ("Add", "Sub", "Mul", "Div")),
    ("Pow", [positive(2, 3), signed(3)], {}),
    ("Pow", [signed(2, 3), np.int64(3)], {}),
    ("Sum", [signed(2, 3), signed(3), signed(2, 1)], {}),
    ("Where", [np.array([[True, False, True]]), signed(2, 3), signed(2, 1)], {}),
    ("Cast", [signed(3)], {"to": np.float64}),
    ("MatMul", [signed(2, 3), signed(3, 4)], {}),
    ("MatMul", [signed(5, 1, 2, 3), signed(6, 3, 4)], {}),
    ("MatMul", [signed(3), signed(5, 3, 4)], {}),
    ("MatMul", [signed(5, 2, 3), signed(3)], {}),
    ("MatMul", [signed(3), signed(3)], {}),
    *(
        ("Gemm", [signed(*((3, 2) if a else (2, 3))), signed(*((4, 3) if b else (3, 4))), signed(4)], {"alpha": 0.5, "beta": 2.0, "transA": a, "transB": b})
        for a in (0, 1)
        for b in (0, 1)
    ),
    ("Gemm", [signed(2, 3), signed(3, 4)], {}),
    ("Reshape", [signed(2, 6), np.array([3, -1])], {}),
    ("Flatten", [signed(2, 3, 2)], {"axis": 2}),
    ("Squeeze", [signed(2, 1, 3), np.array([1])], {}),
    ("Unsqueeze", [signed(2, 3), np.array([0, 3])], {}),
    ("Expand", [signed(2, 1), np.array([4, 2, 3])], {}),
    ("Transpose", [signed(2, 3, 4)], {"perm": (1, 2, 0)}),
    ("Transpose", [signed(2, 3)], {}),
    *((op, [signed(2, 3, 4), np.array(axes)], {"keepdims": k}) for op in ("ReduceSum", "ReduceMean") for axes in ([-1], [0, 2]) for k in (0, 1)),
    ("ReduceMean", [signed(2, 3)], {"keepdims": 0}),
    # what stands for others
    ("LayerNormalization", [signed(2, 5), signed(5), signed(5)], {}),
]  # fmt: skip


def weighted(b, y):
    """A sum in which each element counts differently: a derivative that mixes them up is found."""
    if not y.shape:
        return y
    weights = np.linspace(0.5, 1.5, int(np.prod(y.shape))).reshape(y.shape)
    return b.add("ReduceSum", b.add("Mul", y, b.constant(weights)), keepdims=False)


@pytest.mark.parametrize("op, arrays, attrs", [pytest.param(*u, id=f"{u[0]}-{i}") for i, u in enumerate(USES)])
def test_against_differences(op, arrays, attrs):
    b, xs, values = Builder(), [], []
    operands = []
    for i, a in enumerate(arrays):
        if a.dtype == np.float64:
            xs.append(b.input(f"x{i}", a.dtype, a.shape))
            values.append(a)
        operands.append(xs[-1] if a.dtype == np.float64 else b.constant(a))
    y = weighted(b, b.add(op, *operands, **attrs))
    found = gradients(b, list(b.nodes), y, xs)
    graph = b.build({"y": y, **{f"d{i}": v for i, v in enumerate(found)}})
    _, *got = run_graph(graph, values)
    for k, (a, derivative) in enumerate(zip(values, got)):
        assert derivative.shape == a.shape
        for at in np.ndindex(a.shape):
            ends = []
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[k][at] += sign * STEP
                ends.append(run_graph(graph, moved)[0])
            np.testing.assert_allclose(derivative[at], (ends[0] - ends[1]) / (2 * STEP), rtol=1e-6, atol=1e-7)


def test_every_rule_is_tried():
    assert differentiable() <= {op for op, *_ in USES}


def test_what_several_read_adds_up_and_what_nothing_reads_is_zero():
    b = Builder()
    x, z = b.input("x", "float64", (2,)), b.input("z", "float64", (3,))
    y = b.add("Add", b.add("Mul", x, x), b.add("Exp", x))
    found = gradients(b, list(b.nodes), y, [x, z])
    dx, dz = run_graph(b.build({"dx": found[0], "dz": found[1]}), [np.array([1.0, 2.0]), np.ones(3)])
    np.testing.assert_allclose(dx, [2 + np.e, 4 + np.exp(2)])
    assert dz.tolist() == [0, 0, 0]


def test_at_other_values():
    b = Builder()
    x, other = b.input("x", "float64", (2,)), b.input("other", "float64", (2,))
    y = b.add("Mul", x, x)
    nodes, y = substituted(b, list(b.nodes), y, {x: other})
    (d,) = gradients(b, nodes, y, [other])
    (got,) = run_graph(b.build({"d": d}), [np.array([9.0, 9.0]), np.array([1.0, 3.0])])
    assert got.tolist() == [2, 6]


def test_what_has_no_derivative_is_named():
    b = Builder()
    x = b.input("x", "float64", (2, 2))
    y = b.add("Det", x, name="volume")
    with pytest.raises(UnsupportedError, match="the derivative of Det 'volume'"):
        gradients(b, list(b.nodes), y, [x])
    whole = b.add("Cast", x, to=np.int64)
    with pytest.raises(UnsupportedError, match="the derivative of int64"):
        gradients(b, list(b.nodes), whole, [x])


MODEL = """<ir_version: 10, opset_import: ["" : 21, "ai.onnx.preview.training" : 1]>
g (float[2, 3] w, float[3] x, float[3] h) => (float y, float[2, 3] dw, float[3] dx, float[3] dh) {
  a = MatMul(w, x)
  b = Tanh(a)
  y = ReduceSum<keepdims = 0>(b)
  dw, dx = ai.onnx.preview.training.Gradient<xs = ["w", "x"], y = "y">(w, x)
  dh = ai.onnx.preview.training.Gradient<xs = ["x"], zs = ["w"], y = "y">(h, w)
}"""


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_a_model(target):
    w, x, h = (signed(*s).astype(np.float32) for s in ((2, 3), (3,), (3,)))
    got = graphc.compile(parser.parse_model(MODEL), target=target).run({"w": w, "x": x, "h": h})
    slope, at_h = (1 - np.tanh(w @ v) ** 2 for v in (x, h))
    np.testing.assert_allclose(got["dw"], np.outer(slope, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["dx"], w.T @ slope, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["dh"], w.T @ at_h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (('y = "y"', 'y = "q"'), "no tensor is named 'q'"),
        (("(h, w)", "(h)"), "do not fit 1 operands"),
        (("Tanh", "Floor"), "the derivative of Floor"),
    ],
)
def test_models_that_make_no_sense(change, message):
    with pytest.raises(CheckError, match=message):
        graphc.compile(parser.parse_model(MODEL.replace(*change)))
