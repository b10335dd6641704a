"""Batch normalisation, scales and shifts fold into the layer before them where that is right, and only there."""

import ml_dtypes
import numpy as np
import pytest
from passcheck import F32, bound, build, image, left, refused, rewritten, weights

from graphc.graph import Builder, Value
from graphc.passes.fold_batch_norm import fold_batch_norm
from graphc.passes.log import Log
from graphc.types import Sym
from graphc.verify import verify


def norm(b: Builder, x: Value, channels: int, **attrs) -> Value:
    return b.add(
        "BatchNormalization",
        x,
        weights(b, channels, seed=1),
        weights(b, channels, seed=2),
        weights(b, channels, seed=3),
        weights(b, channels, low=0.1, high=2, seed=4),
        **attrs,
    )


def conv(b: Builder, x: Value, m: int = 6, c: int = 4, bias: bool = True, k: int = 3, **attrs) -> Value:
    return b.add(
        "Conv",
        x,
        weights(b, m, c // attrs.get("group", 1), k, k),
        weights(b, m) if bias else None,
        name="conv",
        **attrs,
    )


# --- what folds -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2])
def test_conv(bias, group):
    g = build(lambda b: norm(b, conv(b, image(b), bias=bias, group=group, pads=[1] * 4), 6, epsilon=1e-3))
    after = rewritten(fold_batch_norm, g)
    assert [n.op.name for n in after.nodes] == ["Conv"]
    assert after.nodes[0].name == "conv", "the layer keeps its name"
    assert after.outputs[0].name == g.outputs[0].name, "and the result keeps its own"


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 4, 5, 6), (2, 4, 3, 4, 3)])
def test_conv_transpose(group, shape):
    def make(b):
        w = weights(b, 4, 6 // group, *[3] * (len(shape) - 2))
        return norm(b, b.add("ConvTranspose", image(b, *shape), w, group=group), 6)

    assert left(fold_batch_norm, build(make)) == ["ConvTranspose"]


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("c", [None, (3,), (1, 3), (2, 3), ()])
def test_gemm(transposed, c):
    def make(b):
        w = weights(b, *((3, 5) if transposed else (5, 3)))
        bias = None if c is None else weights(b, *c)
        return norm(b, b.add("Gemm", image(b, 2, 5), w, bias, transB=transposed, alpha=0.5, beta=2.0), 3)

    after = rewritten(fold_batch_norm, build(make))
    assert [n.op.name for n in after.nodes] == ["Gemm"]
    assert after.nodes[0].attrs["alpha"] == 0.5


def test_matmul_becomes_gemm():
    assert left(fold_batch_norm, build(lambda b: norm(b, b.add("MatMul", image(b, 2, 5), weights(b, 5, 3)), 3))) == [
        "Gemm"
    ]


def test_bias_after_matmul_becomes_gemm():
    def make(b):
        return b.add("Add", b.add("MatMul", image(b, 2, 5), weights(b, 5, 3)), weights(b, 3))

    assert left(fold_batch_norm, build(make)) == ["Gemm"]


def test_scale_of_a_stack_of_products_goes_into_its_weights_and_the_shift_stays():
    def make(b):
        y = b.add("Mul", b.add("MatMul", image(b, 2, 4, 5), weights(b, 5, 3)), weights(b, 3))
        return b.add("Add", y, weights(b, 3, seed=1))

    assert left(fold_batch_norm, build(make)) == ["MatMul", "Add"]


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (1,), ()])
def test_scale_and_shift_written_as_elementwise_nodes(shape):
    def make(b):
        y = b.add("Mul", conv(b, image(b), bias=False), weights(b, *shape))
        y = b.add("Add", weights(b, *shape, seed=1), y)
        y = b.add("Div", y, weights(b, *shape, low=1, high=2))
        return b.add("Sub", weights(b, *shape, seed=5), y)

    assert left(fold_batch_norm, build(make)) == ["Conv"]


def test_a_chain_without_a_layer_becomes_one_mul_and_one_add():
    def make(b):
        y = norm(b, b.add("Relu", image(b)), 4)
        return b.add("Add", b.add("Mul", y, weights(b, 4, 1, 1)), weights(b, 4, 1, 1))

    after = rewritten(fold_batch_norm, build(make))
    assert [n.op.name for n in after.nodes] == ["Relu", "Mul", "Add"]
    assert after.nodes[1].inputs[1].shape == (4, 1, 1)


def test_weights_are_scaled_in_double_precision():
    """Two steps in float32 would round twice: scale 1/sqrt(var) and the product."""
    b = Builder()
    x = b.input("x", F32, (1, 1, 1, 1))
    w, var = np.float32(1.2345678), np.float32(3.3333333)
    y = b.add("Conv", x, b.constant([[[[w]]]], F32))
    one, zero = b.constant([1], F32), b.constant([0], F32)
    y = b.add("BatchNormalization", y, one, zero, zero, b.constant([var], F32), epsilon=1e-5)
    after = fold_batch_norm(b.build([y]))
    assert after.nodes[0].inputs[1].data.item() == np.float32(np.float64(w) / np.sqrt(np.float64(var) + 1e-5))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))

    def make(b):
        x = b.input("x", dtype, (1, 2, 3, 3))
        parts = [b.constant(np.linspace(0.5, 1.5, 2), dtype) for _ in range(4)]
        y = b.add("BatchNormalization", x, *parts)
        y = b.add("Conv", b.add("Relu", y), b.constant(np.ones((2, 2, 1, 1)), dtype))
        return b.add("BatchNormalization", y, *parts)

    after = fold_batch_norm(build(make))
    verify(after, "fold_batch_norm")
    assert [n.op.name for n in after.nodes] == ["Mul", "Add", "Relu", "Conv"]
    assert after.outputs[0].dtype == dtype


def test_symbolic_batch():
    g = build(lambda b: norm(b, conv(b, image(b, Sym("batch"), 4, 6, 6)), 6))
    after = rewritten(fold_batch_norm, g)
    assert [n.op.name for n in after.nodes] == ["Conv"]
    assert after.outputs[0].shape == (Sym("batch"), 6, 4, 4)


# --- what must not fold -------------------------------------------------------------------------------------------------
def test_not_into_a_layer_that_is_read_twice():
    def make(b):
        y = conv(b, image(b))
        return norm(b, y, 6), b.add("Relu", y)

    assert left(fold_batch_norm, build(make)) == ["Conv", "Mul", "Add", "Relu"]


def test_not_into_a_layer_that_is_a_result():
    def make(b):
        y = conv(b, image(b))
        return norm(b, y, 6), y

    assert sorted(left(fold_batch_norm, build(make))) == ["Add", "Conv", "Mul"]


def test_a_shift_read_twice_stays():
    def make(b):
        y = conv(b, image(b))
        return b.add("Add", y, weights(b, 6, 1, 1)), b.add("Relu", y)

    assert "read by others" in refused(fold_batch_norm, build(make))


def test_a_chain_is_not_merged_over_a_value_that_others_read():
    def make(b):
        y = b.add("Mul", image(b), weights(b, 4, 1, 1))
        return b.add("Mul", y, weights(b, 4, 1, 1)), y

    assert "read by others" in refused(fold_batch_norm, build(make))


def test_not_with_weights_that_are_inputs():
    def make(b):
        y = b.add("Conv", image(b), image(b, 6, 4, 3, 3, name="w"))
        return b.add("Mul", y, weights(b, 6, 1, 1))

    assert "weights 'w' are not constant" in refused(fold_batch_norm, build(make))


def test_a_shift_folds_beside_weights_that_are_inputs():
    def make(b):
        return b.add("Add", b.add("Conv", image(b), image(b, 6, 4, 3, 3, name="w")), weights(b, 6, 1, 1))

    assert left(fold_batch_norm, build(make)) == ["Conv"]


def test_not_with_a_bias_that_is_an_input():
    def make(b):
        y = b.add("Conv", image(b), weights(b, 6, 4, 3, 3), image(b, 6, name="bias"))
        return b.add("Mul", y, weights(b, 6, 1, 1))

    assert "bias 'bias' is not constant" in refused(fold_batch_norm, build(make))


def test_not_with_statistics_that_are_inputs():
    def make(b):
        y, c = conv(b, image(b)), [weights(b, 6, low=0.5) for _ in range(3)]
        return b.add("BatchNormalization", y, *c, b.input("variance", F32, (6,)))

    g = build(make)
    log = Log()
    assert fold_batch_norm(g, log) is g
    assert "'variance' is not a constant" in log.refused()[0].reason


def test_not_in_training_mode():
    def make(b):
        parts = [weights(b, 4, low=0.5, high=1) for _ in range(4)]
        return b.add("BatchNormalization", image(b), *parts, training_mode=True, outputs=3)[0]

    assert "training mode" in refused(fold_batch_norm, build(make))


@pytest.mark.parametrize("shape", [(6,), (4, 1), (2, 1, 1, 1), (6, 4, 1)])
def test_not_a_constant_along_another_axis(shape):
    """After a Conv [2, 6, 4, 6]: along the width, the height, the batch, or along several."""

    def make(b):
        y = b.add("Conv", image(b), weights(b, 6, 4, 3, 1))
        return b.add("Mul", y, weights(b, *shape))

    refused(fold_batch_norm, build(make))


def test_not_a_constant_that_broadcasts_the_layer():
    def make(b):
        return b.add("Mul", conv(b, image(b)), weights(b, 1, 1, 1, 1, 1))

    assert refused(fold_batch_norm, build(make)) == ""


def test_not_a_division_by_zero():
    g = build(lambda b: b.add("Div", conv(b, image(b)), b.constant(np.zeros((6, 1, 1)), F32)))
    after = fold_batch_norm(g)
    assert after is g


def test_not_where_the_weights_would_overflow():
    def make(b):
        y = b.add("Conv", image(b), b.constant(np.full((1, 4, 1, 1), 1e30), F32))
        return b.add("Mul", y, b.constant(1e20, F32))

    g = build(make)
    log = Log()
    assert fold_batch_norm(g, log) is g
    assert "overflow" in log.refused()[0].reason


def test_vectors_times_matrices():
    """[5]·[2, 5, 3] is a matrix too, but no Gemm; [2, 3, 5]·[5] has no channels."""
    stack = build(lambda b: b.add("Add", b.add("MatMul", image(b, 5), weights(b, 2, 5, 3)), weights(b, 3)))
    assert "vector" in refused(fold_batch_norm, stack)
    vector = build(lambda b: b.add("Mul", b.add("MatMul", image(b, 2, 3, 5), weights(b, 5)), weights(b, 3)))
    assert "vector" in refused(fold_batch_norm, vector)
    both = build(lambda b: b.add("Mul", b.add("MatMul", image(b, 4, 5), weights(b, 2, 5, 3)), weights(b, 3)))
    assert left(fold_batch_norm, both) == ["MatMul"]


def test_not_integers():
    def make(b):
        y = b.add("MatMul", b.input("x", np.int32, (2, 3)), b.constant(np.ones((3, 4)), np.int32))
        return b.add("Mul", y, b.constant(3, np.int32))

    g = build(make)
    assert fold_batch_norm(g) is g


def test_unknown_types_wait_for_binding():
    """The rank is known only when the shape that Reshape reads is a constant."""

    def make(b):
        x = image(b, Sym("batch"), 4, 6, 6)
        y = b.add("Reshape", x, b.add("Slice", b.add("Shape", x), b.constant([0]), b.constant([3])))
        return b.add("Relu", norm(b, y, 4))

    g = build(make)
    log = Log()
    assert fold_batch_norm(g, log) is g
    assert "not known before the inputs are bound" in log.refused()[0].reason
    assert bound(g).outputs[0].type is None
