"""RNN, LSTM and GRU against ONNX Runtime, against themselves in the other layout and direction; errors."""

from __future__ import annotations

import numpy as np
import opcheck
import pytest

import graphc
from graphc.errors import GraphcError, TypeRuleError
from graphc.graph import Builder
from graphc.op import Case, Tensor, get_op
from graphc.ops.recurrent import Activation, cell
from graphc.types import Sym

NAMES = ("RNN", "GRU", "LSTM")
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def batch_first(case) -> bool:
    return case.attrs.get("layout", 0) == 1


@pytest.mark.parametrize(("name", "case"), [c for c in opcheck.cases(*NAMES) if not batch_first(c.values[1])])
def test_agrees_with_peers(name, case):
    opcheck.against_peers(name, case, wrong=["onnx"])  # ignores lengths, clip, activations


@pytest.mark.parametrize(("name", "case"), [c for c in opcheck.cases(*NAMES) if batch_first(c.values[1])])
def test_batch_first_is_the_other_layout_transposed(name, case):
    """No peer has layout 1: the same layer with its operands and results transposed."""
    arrays = opcheck.operands(get_op(name), case)
    turned = [a.swapaxes(0, 1) if a is not None and i in (0, 5, 6) else a for i, a in enumerate(arrays)]
    specs = tuple(s if a is None or i == 4 else Tensor(a.shape) for i, (s, a) in enumerate(zip(case.inputs, turned)))
    plain = Case(specs, {**case.attrs, "layout": 0}, case.n_outputs)
    y, *states = opcheck.reference(name, plain, turned)
    want = [y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in states)]
    opcheck.agree(opcheck.reference(name, case, arrays), want)


@pytest.mark.parametrize(("name", "case"), opcheck.cases(*NAMES))
def test_float64_and_narrow_floats(name, case):
    pytest.importorskip("ml_dtypes")
    narrow = opcheck.operands(get_op(name), case, "bfloat16")
    floats = [a is not None and a.dtype.kind != "i" for a in narrow]
    want = opcheck.reference(name, case, [a.astype("float64") if f else a for a, f in zip(narrow, floats)])
    for dtype, tolerance in (("bfloat16", 8e-3), ("float16", 2e-3), ("float32", 1e-5)):
        actual = opcheck.reference(name, case, [a.astype(dtype) if f else a for a, f in zip(narrow, floats)])
        opcheck.agree(actual, [w.astype(dtype) for w in want], tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_each_sequence_stands_alone(name):
    """A batch of sequences of different lengths gives, for each, what it gives alone without padding."""
    rng, g, lens = np.random.default_rng(0), GATES[name], np.array([4, 0, 2], np.int32)
    x, w = rng.standard_normal((4, 3, 5)), rng.standard_normal((2, g * 6, 5))
    r, b = rng.standard_normal((2, g * 6, 6)), rng.standard_normal((2, 2 * g * 6))
    outputs = 3 if name == "LSTM" else 2
    specs = [Tensor(a.shape) for a in (x, w, r, b)]
    both = {"direction": "bidirectional"}
    y, *states = opcheck.reference(name, Case((*specs, Tensor((3,))), both, outputs), [x, w, r, b, lens])
    for k, n in enumerate(lens):
        alone = Case((Tensor((n, 1, 5)), *specs[1:]), both, outputs)
        one, *finals = opcheck.reference(name, alone, [x[:n, k : k + 1], w, r, b])
        np.testing.assert_allclose(y[:n, :, k], one[:, :, 0])
        assert not y[n:, :, k].any()
        for state, final in zip(states, finals):
            np.testing.assert_allclose(state[:, k], final[:, 0])


def layer(name="LSTM", x=(5, 3, 7), w=(1, 24, 7), r=(1, 24, 6), *more, **attrs):
    b = Builder()
    operands = [b.input(f"x{i}", "float32", s) if s else None for i, s in enumerate((x, w, r, *more))]
    b.add(name, *operands, name="layer7", outputs=2, **attrs)
    return b.nodes[0]


def test_cell_resolves_the_defaults():
    c = cell(layer(direction="reverse").call)
    assert (c.gates, c.seq, c.batch, c.inputs, c.hidden, c.reverse) == (4, 5, 3, 7, 6, (True,))
    assert c.activations == ((Activation("Sigmoid"), Activation("Tanh"), Activation("Tanh")),)
    names = ("LeakyRelu", "sigmoid", "hardsigmoid", "Elu")
    attrs = {"activations": names, "activation_alpha": (0.25, 0.375), "direction": "bidirectional"}
    c = cell(layer("GRU", (5, 3, 7), (2, 18, 7), (2, 18, 6), **attrs).call)
    assert c.activations == (
        (Activation("LeakyRelu", 0.25), Activation("Sigmoid")),
        (Activation("HardSigmoid", 0.375, 0.5), Activation("Elu", 1.0)),
    )
    assert cell(layer("RNN", (3, 5, 7), (1, 6, 7), (1, 6, 6), activations=("Tanh", "Tanh"), layout=1).call).batch == 3


def test_symbolic_sizes():
    b = Builder()
    x = b.input("x", "float32", (Sym("seq"), Sym("n"), 7))
    w, r = b.input("w", "float32", (2, 18, 7)), b.input("r", "float32", (2, 18, 6))
    y, y_h = b.add("GRU", x, w, r, direction="bidirectional", outputs=2)
    assert y.shape == (Sym("seq"), 2, Sym("n"), 6)
    assert y_h.shape == (2, Sym("n"), 6)


@pytest.mark.parametrize(
    ("shapes", "attrs", "words"),
    [
        (((5, 7),), {}, ["operand X", "(5, 7)", "three axes"]),
        (((5, 3, 8),), {}, ["operand W", "(1, 24, 7)", "(1, 24, 8)"]),
        (((5, 3, 7), (1, 18, 7)), {}, ["operand W", "(1, 18, 7)", "(1, 24, 7)", "gates"]),
        (((5, 3, 7), (1, 24, 7), (1, 24, 6)), {"direction": "bidirectional"}, ["operand W", "(2, 24, 7)"]),
        (((5, 3, 7), (1, 24, 7), (1, 24, 6), (1, 24)), {}, ["operand B", "(1, 24)", "(1, 48)"]),
        (((5, 3, 7), (1, 24, 7), (1, 24, 6), None, None, (3, 1, 6)), {}, ["initial_h", "(1, 3, 6)"]),
        (((5, 3, 7),), {"hidden_size": 5}, ["hidden_size is 5", "6"]),
        (((5, 3, 7),), {"activations": ("Tanh",)}, ["1 activations", "takes 3"]),
        (((5, 3, 7),), {"activations": ("Tanh", "Tanh", "Swish")}, ["Swish", "one of", "HardSigmoid"]),
        (((5, 3, 7),), {"direction": "backward"}, ["direction", "reverse"]),
    ],
)
def test_errors_name_the_sizes(shapes, attrs, words):
    with pytest.raises(TypeRuleError) as error:
        layer("LSTM", *shapes, **attrs)
    assert all(word in str(error.value) for word in ["LSTM 'layer7'", *words]), str(error.value)


def test_sequence_lens_are_checked():
    case = Case((Tensor((2, 1, 3)), Tensor((1, 4, 3)), Tensor((1, 4, 4)), None, Tensor((1,))))
    x, w, r = np.ones((2, 1, 3)), np.ones((1, 4, 3)), np.ones((1, 4, 4))
    for bad in (3, -1):
        with pytest.raises(GraphcError, match="between 0 and 2 steps"):
            opcheck.reference("RNN", case, [x, w, r, None, np.array([bad], np.int32)])


def test_flops():
    node = layer()
    assert node.op.flops(node.call) == 2 * 5 * 3 * 4 * 6 * (7 + 6)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_an_infinite_state_meets_no_peephole_that_is_not_there(target: str):
    """As in ONNX Runtime; zeros in the place of P would make it NaN."""
    rng = np.random.default_rng(0)
    b = Builder("lstm")
    x, c = b.input("x", "float32", (1, 2, 3)), b.input("c", "float32", (1, 2, 4))
    w, r = (b.constant(rng.uniform(-1, 1, (1, 16, k)), np.float32) for k in (3, 4))
    h, _, last = b.add("LSTM", x, w, r, None, None, None, c, hidden_size=4, outputs=3)
    g = b.build({"h": h, "c": last})
    start = np.full((1, 2, 4), np.inf, np.float32)
    start[:, 1] *= -1
    y = graphc.compile(g, target=target).run({"x": rng.uniform(-1, 1, (1, 2, 3)).astype("float32"), "c": start})
    np.testing.assert_array_equal(y["c"], start)
    assert (np.abs(y["h"][0, 0]) < 1).all() and (np.sign(y["h"][0, 0, 0]) == 1).all() and (y["h"][0, 0, 1] < 0).all()
