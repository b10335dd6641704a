"""Attention, rotary embedding and class losses: against onnx.reference, their expansions and their definitions."""

from __future__ import annotations

import numpy as np
import opcheck
import pytest

from graphc.errors import GraphcError, TypeRuleError
from graphc.graph import Builder
from graphc.op import Case, Const, Tensor, get_op
from graphc.types import Sym

NAMES = ("Attention", "RotaryEmbedding", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")


def wrong_peers(name: str, case: Case) -> list[str]:
    """onnx.reference gives the scores after the soft cap where the raw ones are asked for."""
    capped = name == "Attention" and case.attrs.get("softcap") and case.attrs.get("qk_matmul_output_mode") == 0
    return ["onnx"] if capped else []


@pytest.mark.parametrize(("name", "case"), [c for c in opcheck.cases(*NAMES) if not wrong_peers(*c.values)])
def test_agrees_with_peers(name, case):
    opcheck.against_peers(name, case)


@pytest.mark.parametrize(("name", "case"), opcheck.cases(*NAMES))
def test_expansion_agrees(name, case):
    arrays = opcheck.operands(get_op(name), case)
    opcheck.agree(opcheck.expanded(name, case, arrays), opcheck.reference(name, case, arrays))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(("name", "case"), opcheck.cases(*NAMES)[::3])
def test_dtypes(name, case, dtype):
    pytest.importorskip("ml_dtypes")
    arrays = [
        a if a is None or a.dtype.kind in "iub" else a.astype(dtype) for a in opcheck.operands(get_op(name), case)
    ]
    wide = [a if a is None or a.dtype.kind in "iub" else a.astype(np.float64) for a in arrays]
    want = [w.astype(dtype) for w in opcheck.reference(name, case, wide)]
    opcheck.agree(
        opcheck.reference(name, case, arrays), want, {"float16": 2e-3, "bfloat16": 1.6e-2, "float64": 0}[dtype]
    )


def test_raw_scores_come_before_the_soft_cap():
    q, k = np.array([[[[3.0, 4.0]]]]), np.array([[[[2.0, 0.0], [0.0, 1.0]]]])
    attrs = {"scale": 1.0, "softcap": 1.0, "qk_matmul_output_mode": 0}
    case = Case((Tensor(q.shape), Tensor(k.shape), Tensor(k.shape)), attrs, 4)
    np.testing.assert_allclose(opcheck.reference("Attention", case, [q, k, k])[3], [[[[6, 4]]]])


def test_a_query_that_sees_nothing_gives_zeros():
    rng = np.random.default_rng(0)
    q, mask = rng.standard_normal((1, 1, 2, 4)), np.array([[True, False, True], [False] * 3])
    kv = rng.standard_normal((1, 1, 3, 4))
    case = Case((Tensor(q.shape), Tensor(kv.shape), Tensor(kv.shape), Tensor(mask.shape)))
    for (y,) in (run("Attention", case, [q, kv, kv, mask]) for run in (opcheck.reference, opcheck.expanded)):
        assert not y[0, 0, 1].any()
        assert y[0, 0, 0].all()


def test_attention_symbolic_shapes():
    b, n, s = Builder(), Sym("n"), Sym("s")
    q, kv = b.input("q", "float32", (n, s, 24)), b.input("k", "float32", (n, s, 12))
    y, k, *_ = b.add("Attention", q, kv, kv, q_num_heads=4, kv_num_heads=2, outputs=4)
    assert y.shape == (n, s, 24)
    assert k.shape == (n, 2, s, 6)


@pytest.mark.parametrize(
    ("shapes", "attrs", "words"),
    [
        ([(2, 3, 4, 8), (2, 3, 6, 7), (2, 3, 6, 8)], {}, ["size 8", "7"]),
        ([(2, 4, 24), (2, 6, 24), (2, 6, 24)], {}, ["q_num_heads", "set"]),
        ([(2, 4, 24), (2, 6, 24), (2, 6, 24)], {"q_num_heads": 5, "kv_num_heads": 3}, ["24 columns", "q_num_heads=5"]),
        ([(2, 4, 4, 8), (2, 3, 6, 8), (2, 3, 6, 8)], {}, ["4 query heads", "3 key heads"]),
        ([(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 5, 8)], {}, ["sequence length", "6", "5"]),
        ([(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 6, 8), (5, 6)], {}, ["mask", "(5, 6)", "(2, 3, 4, 6)"]),
        ([(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 6, 8), (4, 7)], {}, ["mask", "(4, 7)"]),
        ([(2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 6, 8), None, (2, 3, 5, 8)], {}, ["past_value", "missing"]),
    ],
)
def test_attention_errors(shapes, attrs, words):
    b = Builder()
    with pytest.raises(TypeRuleError) as error:
        b.add(
            "Attention", *(s and b.input(f"x{i}", "float32", s) for i, s in enumerate(shapes)), name="layer7", **attrs
        )
    assert all(word in str(error.value) for word in ["Attention 'layer7'", *words]), str(error.value)


def test_rotary_errors():
    b = Builder()
    x, table = b.input("x", "float32", (2, 3, 5, 8)), b.input("c", "float32", (10, 3))
    positions = b.input("p", "int64", (2, 5))
    with pytest.raises(TypeRuleError, match=r"\(10, 3\), not \(10, 4\)"):
        b.add("RotaryEmbedding", x, table, table, positions)
    with pytest.raises(TypeRuleError, match="3 elements of a head of 8"):
        b.add("RotaryEmbedding", x, table, table, positions, rotary_embedding_dim=3)
    case = Case((Tensor((1, 1, 1, 2)), Tensor((4, 1)), Tensor((4, 1)), Const([[4]])))
    with pytest.raises(GraphcError, match="position_ids from 4 to 4, the cache has 4 rows"):
        opcheck.reference("RotaryEmbedding", case, opcheck.operands(get_op("RotaryEmbedding"), case))


def test_rotation_keeps_lengths():
    rng = np.random.default_rng(0)
    x, angle = rng.standard_normal((2, 3, 5, 8)), rng.uniform(0, 6, (2, 5, 4))
    case = Case((Tensor(x.shape), Tensor(angle.shape), Tensor(angle.shape)))
    (y,) = opcheck.reference("RotaryEmbedding", case, [x, np.cos(angle), np.sin(angle)])
    pairs = [v[..., :4] ** 2 + v[..., 4:] ** 2 for v in (x, y)]
    np.testing.assert_allclose(*pairs)
    assert not np.allclose(x, y)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(5,), (5,)], ["(5,)", "[N, C"]),
        ([(5, 7), (4,)], ["(4,)", "(5,)"]),
        ([(5, 7, 2), (5,)], ["(5,)", "(5, 2)"]),
        ([(5, 7), (5,), (6,)], ["(6,)", "7 classes"]),
    ],
)
def test_loss_errors(shapes, words):
    b = Builder()
    dtypes = ("float32", "int64", "float32")
    with pytest.raises(TypeRuleError) as error:
        b.add("NegativeLogLikelihoodLoss", *(b.input(f"x{i}", d, s) for i, (d, s) in enumerate(zip(dtypes, shapes))))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_labels_are_checked():
    case = Case((Tensor((2, 3)), Const([0, 3])))
    with pytest.raises(GraphcError, match="labels from 0 to 3 do not name one of 3 classes"):
        opcheck.reference("NegativeLogLikelihoodLoss", case, [np.ones((2, 3), np.float32), np.array([0, 3])])
