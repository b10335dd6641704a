"""Matrix products in all their forms, and what is made of them."""

from __future__ import annotations

import numpy as np
from onnx import helper

from ..draft import Draft, Reject, Tensor
from ..draws import BFLOAT16, FLOATS, is_float
from . import step
from .elementwise import activation, ordered


def matrix(d: Draft) -> Tensor:
    """A value whose last dim is known."""
    return d.pick(
        lambda t: is_float(t.dtype) and t.rank > 0 and t.size > 0 and t.rank - 1 not in t.open and t.shape[-1] < 130
    )


def weights(d: Draft, *shape: int, dtype) -> Tensor:
    reach = (3 / max(1, shape[-2] if len(shape) > 1 else shape[-1])) ** 0.5
    return d.weights(*shape, dtype=dtype, low=-reach, high=reach, style="uniform")


@step(4)
def matmul(d: Draft) -> Tensor:
    """Vectors, matrices, stacks that broadcast; the other operand constant or computed."""
    x = matrix(d)
    k, n = x.shape[-1], d.draw.size()
    batch = list(x.shape[:-2]) if not x.open else []
    match d.draw.one_of("weights", "weights", "weights", "stack", "vector", "left", "self"):
        case "weights":
            y = d.node("MatMul", x, weights(d, k, n, dtype=x.dtype))
        case "stack":
            dims = [1 if d.draw.chance(0.4) else b for b in batch]
            dims = dims[d.draw.count(0, len(dims)) :]
            y = d.node("MatMul", x, d.operand(x.dtype, (*dims, k, min(n, 17)), -0.5, 0.5))
        case "vector":
            y = d.node("MatMul", x, d.operand(x.dtype, (k,), -0.5, 0.5))
        case "left":
            if x.rank < 2 or x.rank - 2 in x.open:
                raise Reject("open")
            y = d.node("MatMul", d.operand(x.dtype, d.draw.one_of((n, x.shape[-2]), (x.shape[-2],)), -0.5, 0.5), x)
        case _:
            if x.rank < 2:
                raise Reject("rank")
            y = d.node("MatMul", x, d.node("Transpose", x, perm=[*range(x.rank - 2), x.rank - 1, x.rank - 2]))
    return after(d, y)


def after(d: Draft, y: Tensor) -> Tensor:
    """Bias, activation, residual; or nothing."""
    if d.draw.chance(0.4) and y.rank and y.rank - 1 not in y.open:
        y = d.node("Add", *ordered(d, y, d.weights(y.shape[-1], dtype=y.dtype)))
    if d.draw.chance(0.3):
        y = activation(d, y)
    if d.draw.chance(0.35):
        y = d.node(d.draw.one_of("Add", "Add", "Mul", "Sub", "Max"), *ordered(d, y, d.partner(y)))
    return y


@step(2)
def gemm(d: Draft) -> Tensor:
    x = d.pick(lambda t: is_float(t.dtype) and t.rank == 2 and t.size > 0 and max(t.shape) < 130)
    transposed = d.draw.chance(0.3)
    if (0 if transposed else 1) in x.open:
        raise Reject("open")
    m, k = reversed(x.shape) if transposed else x.shape
    n = d.draw.size()
    b_t = d.draw.chance(0.5)
    w = weights(d, *((n, k) if b_t else (k, n)), dtype=x.dtype)
    shape = d.draw.one_of(None, (n,), (n,), (1, n), (m, 1), (m, n), (1,), ())
    c = None if shape is None or (m in shape and x.open) else d.operand(x.dtype, shape)
    scales = [d.draw.one_of(None, None, 1.0, 0.5, -2.0, 0.0) for _ in range(2)]
    y = d.node("Gemm", x, w, c, transA=int(transposed) or None, transB=int(b_t), alpha=scales[0], beta=scales[1])
    return activation(d, y) if d.draw.chance(0.4) else y


@step(0.8)
def einsum(d: Draft) -> Tensor:
    x = d.pick(lambda t: is_float(t.dtype) and 1 < t.rank < 4 and 0 < t.size < 1500)
    i, j = x.shape[-2:]
    if x.open & {x.rank - 2, x.rank - 1}:
        raise Reject("open")
    n = d.draw.size(9)
    form, shape = d.draw.one_of(
        ("ij,jk->ik", (j, n)), ("ij,kj->ik", (n, j)), ("ij,ij->i", (i, j)), ("ij,ij->", (i, j)), ("ij->ji", None),
        ("ij,jk", (j, n)), ("ij,ik->jk", (i, n)), ("ij->j", None),
    )  # fmt: skip
    if x.rank == 3:
        first, _, out = form.partition("->")
        form = "b" + first + ("->" + "b" + out if "->" in form else "->b" + "ik")
        if form.count(",") == 0 and "->" not in form:
            raise Reject("form")
    return d.node("Einsum", x, *([d.operand(x.dtype, shape, -0.5, 0.5)] if shape else []), equation=form)


def sequence(d: Draft) -> Tensor:
    """A value [batch, length, width]."""
    return d.pick(lambda t: is_float(t.dtype) and t.rank == 3 and t.size > 0 and 2 not in t.open and t.shape[2] < 70)


@step(2.5)
def attention(d: Draft) -> Tensor:
    """Written out, as exporters do: heads, scale before or after, mask, softmax."""
    x = sequence(d)
    width = x.shape[2]
    heads = d.draw.one_of(*(h for h in (1, 2, 3, 4) if width % h == 0))
    size = width // heads

    def project(perm: list[int], source: Tensor) -> Tensor:
        y = d.node("MatMul", source, weights(d, width, width, dtype=x.dtype))
        if d.draw.chance(0.5):
            y = d.node("Add", *ordered(d, y, d.weights(width, dtype=x.dtype)))
        return d.node("Transpose", d.node("Reshape", y, d.ints(0, 0, heads, size)), perm=perm)

    source = x
    if d.draw.chance(0.2):
        source = d.pick(
            lambda t: t.dtype == x.dtype and t.rank == 3 and t.shape[2] == width and t.shape[0] == x.shape[0]
        )
    q, k, v = project([0, 2, 1, 3], x), project([0, 2, 3, 1], source), project([0, 2, 1, 3], source)
    if d.draw.chance(0.4):
        q = d.node("Mul", q, d.const(size**-0.5, x.dtype))
    scores = d.node("MatMul", q, k)
    if d.draw.chance(0.4):
        scores = d.node("Div", scores, d.const(size**0.5, x.dtype))
    if d.draw.chance(0.4) and not scores.open:
        dims = [n if d.draw.chance(0.5) else 1 for n in scores.shape]
        if d.draw.chance(0.5):
            mask = d.const(np.where(d.draw.rng.random(dims) < 0.3, -1e4, 0.0), x.dtype)
            scores = d.node("Add", scores, mask)
        else:
            mask = d.const(d.draw.rng.random(dims) < 0.3)
            scores = d.node("Where", mask, d.const(-1e4, x.dtype), scores)
    y = d.node("MatMul", d.node("Softmax", scores, axis=d.draw.one_of(-1, 3)), v)
    y = d.node("Reshape", d.node("Transpose", y, perm=[0, 2, 1, 3]), d.ints(0, 0, width))
    y = d.node("MatMul", y, weights(d, width, width, dtype=x.dtype))
    return d.node("Add", *ordered(d, y, x)) if d.draw.chance(0.6) else y


@step(1)
def attention_operator(d: Draft) -> Tensor:
    if d.opset < 23:
        raise Reject("newer")
    x = sequence(d)
    width = x.shape[2]
    heads = d.draw.one_of(*(h for h in (1, 2, 4) if width % h == 0))
    q, k, v = (d.node("MatMul", x, weights(d, width, width, dtype=x.dtype)) for _ in range(3))
    mask = None
    if d.draw.chance(0.4) and not x.open:
        n = x.shape[1]
        mask = d.const(d.draw.rng.random((n, n)) < 0.8) if d.draw.chance(0.5) else d.operand(x.dtype, (n, n))
    return d.node(
        "Attention", q, k, v, mask, q_num_heads=heads, kv_num_heads=heads, is_causal=d.draw.one_of(None, 1),
        softcap=d.draw.one_of(None, 5.0),
    )  # fmt: skip


@step(1.2)
def feed_forward(d: Draft) -> Tensor:
    x = sequence(d)
    width, inner = x.shape[2], d.draw.one_of(8, 16, 32, 48)
    y = d.node("Add", d.node("MatMul", x, weights(d, width, inner, dtype=x.dtype)), d.weights(inner, dtype=x.dtype))
    y = activation(d, y)
    y = d.node("MatMul", y, weights(d, inner, width, dtype=x.dtype))
    return d.node("Add", *ordered(d, x, y)) if d.draw.chance(0.7) else y


@step(1)
def other_precision(d: Draft) -> Tensor:
    """A product or a convolution in another float than its neighbours are in."""
    x = d.pick(lambda t: is_float(t.dtype) and 1 < t.rank < 5 and t.size > 0 and not t.open)
    to = d.draw.one_of(*(t for t in FLOATS if t != x.dtype and (t != BFLOAT16 or d.opset >= 13)))
    y = d.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(to))
    if x.rank == 4:
        n = d.draw.one_of(1, 3, 8)
        y = d.node("Conv", y, d.weights(n, x.shape[1], 1, 1, dtype=to), d.weights(n, dtype=to))
    else:
        y = d.node("MatMul", y, weights(d, x.shape[-1], d.draw.size(17), dtype=to))
    y = activation(d, y)
    return d.node("Cast", y, to=helper.np_dtype_to_tensor_dtype(x.dtype)) if d.draw.chance(0.7) else y


@step(0.4)
def whole_gemm(d: Draft) -> Tensor:
    """Of integers, which wrap."""
    dtype = d.draw.one_of("int32", "int64", "uint32", "uint64")
    m, k, n = (d.draw.size(9) for _ in range(3))
    a, b, c = d.operand(dtype, (m, k), -90, 90), d.operand(dtype, (k, n), -90, 90), d.operand(dtype, (n,), -90, 90)
    return d.node("Gemm", a, b, c, alpha=d.draw.one_of(None, 1.0, 2.0), beta=d.draw.one_of(None, 3.0))


@step(0.4)
def large_product(d: Draft) -> Tensor:
    """One that the algorithms for large matrices take."""
    x = d.input("float32", (d.draw.one_of(33, 96, 100), d.draw.one_of(20, 40)))
    return d.node("MatMul", x, weights(d, x.shape[1], d.draw.one_of(32, 48, 60), dtype=x.dtype))


@step(0.5)
def integer_product(d: Draft) -> Tensor:
    m, k, n = d.draw.size(), d.draw.size(), d.draw.size()
    dtypes = [d.draw.one_of("uint8", "int8"), d.draw.one_of("uint8", "int8")]
    batch = d.draw.one_of((), (), (2,))
    a, b = d.operand(dtypes[0], (*batch, m, k), -128, 255), d.operand(dtypes[1], (k, n), -128, 255)
    zero = [d.const(d.draw.count(0, 100), t) if d.draw.chance(0.5) else None for t in dtypes]
    if zero[0] is None and zero[1] is not None:
        zero[0] = d.const(0, dtypes[0])
    return d.node("MatMulInteger", a, b, *zero)


@step(0.4)
def whole_product(d: Draft) -> Tensor:
    """A product of integers, or of floats that are whole."""
    dtype = d.draw.one_of("int32", "int64", "float32", "float64")
    a, b = d.draw.size(17), d.draw.size(17)
    x = d.const(d.draw.array(dtype, (a, b), -4, 4, "whole"))
    y = d.input_of([d.draw.array(dtype, (b, 5), -4, 4, "whole")] * d.shared.worlds, (b, 5))
    return d.node("MatMul", x, y)
