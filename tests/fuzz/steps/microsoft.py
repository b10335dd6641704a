"""com.microsoft: attention, norms, activations with a bias, products of quantised weights, quantised layers."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Reject, Tensor
from ..draws import BFLOAT16, F32, I64
from . import step
from .images import image
from .products import sequence, weights

NARROW = ("uint8", "int8")


def op(name: str) -> str:
    return f"com.microsoft::{name}"


def wide(d: Draft) -> Tensor:
    """A value [batch, length, width] of a dtype that the domain's kernels take."""
    x = sequence(d)
    if x.dtype in (BFLOAT16, np.float64):
        raise Reject("dtype")
    return x


def heads_of(d: Draft, width: int) -> int:
    return d.draw.one_of(*(h for h in (1, 2, 4) if width % h == 0))


def seen(d: Draft, shape: tuple[int, ...]) -> Tensor:
    """A mask that leaves each query a key: where all scores are moved by -10000, few of their digits are left."""
    mask = d.draw.array("int32", shape, 0, 1)
    mask[..., 0] = 1
    return d.const(mask)


@step(2)
def attention(d: Draft) -> object:
    """From projected weights: masks of each form, causal, a past, the present."""
    x = wide(d)
    batch, length, width = x.shape
    heads = heads_of(d, width)
    w, b = weights(d, width, 3 * width, dtype=x.dtype), d.weights(3 * width, dtype=x.dtype)
    mask = None
    past = None
    if not x.open:
        if d.draw.chance(0.3):
            past = d.operand(x.dtype, (2, batch, heads, d.draw.count(1, 3), width // heads), -1, 1)
        total = length + (past.shape[3] if past else 0)
        shape = d.draw.one_of(None, None, (batch,), (batch, total), (batch, length, total))
        if shape == (batch,) and past is None:
            mask = d.const(d.draw.array("int32", shape, 1, total))
        elif shape is not None and len(shape) > 1:
            mask = seen(d, shape)
    return d.node(
        op("Attention"), x, w, b, mask, past, num_heads=heads, unidirectional=d.draw.one_of(None, 0, 1),
        scale=d.draw.one_of(None, 0.3), outputs=2 if past or d.draw.chance(0.3) else 1,
    )  # fmt: skip


@step(2)
def multi_head(d: Draft) -> object:
    """Queries, keys and values apart; a bias, masks, scores added, other lengths of keys."""
    x = wide(d)
    if x.open:
        raise Reject("open")
    batch, length, width = x.shape
    heads = heads_of(d, width)
    keys = d.draw.one_of(length, length, 1, 5)
    k, v = (d.operand(x.dtype, (batch, keys, width), -1, 1) for _ in range(2))
    bias = d.weights(3 * width, dtype=x.dtype) if d.draw.chance(0.4) else None
    mask = seen(d, (batch, keys)) if d.draw.chance(0.3) else None
    scores = None
    if d.draw.chance(0.3):
        scores = d.operand(x.dtype, (d.draw.one_of(1, batch), d.draw.one_of(1, heads), length, keys), -1, 1)
    return d.node(
        op("MultiHeadAttention"), x, k, v, bias, mask, scores, num_heads=heads, scale=d.draw.one_of(None, 0.4),
        unidirectional=d.draw.one_of(None, None, 1) if keys == length else None,
    )  # fmt: skip


@step(2)
def grouped_queries(d: Draft) -> object:
    """A prompt or a step of a decoder with a cache; windows, soft caps, rotated positions."""
    batch, size = d.draw.count(1, 2), d.draw.one_of(16, 32)
    shared = d.draw.one_of(1, 2)
    heads = shared * d.draw.one_of(1, 2)
    past = d.draw.one_of(0, 0, 2, 5)
    length = d.draw.one_of(1, 3) if not past else d.draw.one_of(1, 2) if batch == 1 else 1
    dtype = d.draw.one_of("float32", "float32", "float16")
    q = d.input(dtype, (batch, length, heads * size), -1, 1)
    k, v = (d.input(dtype, (batch, length, shared * size), -1, 1) for _ in range(2))
    pasts = [d.input(dtype, (batch, shared, past, size), -1, 1) if past else None for _ in range(2)]
    total = past + length
    last = d.const([total - 1] * batch, "int32")
    cache = [None, None]
    rotary = None
    if d.draw.chance(0.4):
        angles = np.outer(np.arange(16), 1.0 / 10 ** np.linspace(0, 1, size // 2))
        cache, rotary = [d.const(np.cos(angles), dtype), d.const(np.sin(angles), dtype)], 1
    return d.node(
        op("GroupQueryAttention"), q, k, v, *pasts, last, d.const(total, "int32"), *cache, outputs=3,
        num_heads=heads, kv_num_heads=shared, do_rotary=rotary, local_window_size=d.draw.one_of(None, None, 2),
        softcap=d.draw.one_of(None, None, 3.0), rotary_interleaved=d.draw.one_of(None, 1) if rotary else None,
    )  # fmt: skip


@step(2)
def norms(d: Draft) -> object:
    """Layer and root mean square norms of a sum, with its sum as a result."""
    x = wide(d)
    n = x.shape[2]
    skip = d.node("Identity", x) if x.open or d.draw.chance(0.3) else d.operand(x.dtype, x.shape)
    scale = d.weights(n, dtype=x.dtype)
    bias, shift = (d.weights(n, dtype=x.dtype) if d.draw.chance(0.6) else None for _ in range(2))
    wanted = [True, False, False, True] if d.draw.chance(0.4) else 1
    if d.draw.chance(0.5):
        return d.node(op("SkipLayerNormalization"), x, skip, scale, shift, bias, epsilon=1e-3, outputs=wanted)
    return d.node(op("SkipSimplifiedLayerNormalization"), x, skip, scale, bias, epsilon=1e-3, outputs=wanted)


@step(1.5)
def activations(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.dtype == F32 and t.rank > 0 and t.size > 0 and t.rank - 1 not in t.open)
    b = d.weights(x.shape[-1])
    match d.draw.one_of("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "FastGelu+"):
        case "FastGelu":
            return d.node(op("FastGelu"), x)
        case "FastGelu+":
            return d.node(op("FastGelu"), x, b)
        case "BiasGelu":
            return d.node(op("BiasGelu"), x, b)
        case "QuickGelu":
            return d.node(op("QuickGelu"), x, alpha=d.draw.one_of(None, 1.0))
        case name:
            return d.node(op(name), x)


@step(1.5)
def fused_products(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.dtype == F32 and 1 < t.rank < 4 and t.size > 0 and not t.open)
    a, b = d.draw.chance(0.4), d.draw.chance(0.4)
    m, k = x.shape[-2:] if not a else x.shape[-1:-3:-1]
    n = d.draw.size(17)
    if x.rank == 2 and d.draw.chance(0.4):
        c = d.weights(n) if d.draw.chance(0.6) else None
        w = weights(d, *((n, k) if b else (k, n)), dtype=F32)
        activation = d.draw.one_of("Relu", "Tanh", "Sigmoid", "LeakyRelu")
        alpha = 0.1 if activation == "LeakyRelu" else None
        return d.node(
            op("FusedGemm"), x, w, c, transA=int(a), transB=int(b), activation=activation, activation_alpha=alpha
        )
    w = weights(d, *x.shape[:-2], *((n, k) if b else (k, n)), dtype=F32)
    return d.node(op("FusedMatMul"), x, w, transA=int(a), transB=int(b), alpha=d.draw.one_of(None, 0.5))


@step(0.8)
def fused_convolution(d: Draft) -> Tensor:
    x = image(d, (4,), F32)
    w = d.weights(4, x.shape[1], 1, 1, low=-0.5, high=0.5)
    return d.node(op("FusedConv"), x, w, d.weights(4), activation=d.draw.one_of("Relu", "Tanh", "Sigmoid"))


@step(2)
def packed_product(d: Draft) -> Tensor:
    """Weights of 4 or 8 bits in blocks; zero points packed, or none; a bias."""
    bits, size = d.draw.one_of(4, 4, 8), d.draw.one_of(16, 16, 32)
    k, n, rows = d.draw.one_of(16, 32, 40, 64), d.draw.size(17), d.draw.one_of(1, 2, 7)
    blocks = -(-k // size)
    x = d.input(F32, (*d.draw.one_of((), (), (2,)), rows, k), -1, 1)
    w = d.const(d.draw.array("uint8", (n, blocks, size * bits // 8), 0, 255))
    scale = d.weights(n, blocks, low=0.01, high=0.1)
    zero = d.const(d.draw.array("uint8", (n, -(-blocks * bits // 8)), 0, 255)) if d.draw.chance(0.4) else None
    bias = d.weights(n) if d.draw.chance(0.3) else None
    return d.node(op("MatMulNBits"), x, w, scale, zero, None, bias, K=k, N=n, bits=bits, block_size=size)


@step(1)
def byte_products(d: Draft) -> Tensor:
    """Bytes whose product is a float: scales by tensor or column."""
    m, k, n = d.draw.size(9), d.draw.size(17), d.draw.size(17)
    left, right = d.draw.one_of(("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8"))
    a, b = d.operand(left, (m, k), 0, 100), d.const(d.draw.array(right, (k, n), -50, 50))
    columns = d.draw.chance(0.4)
    scales = d.const(0.02, F32), d.const(d.draw.rng.choice((0.02, 0.05), n), F32) if columns else d.const(0.05, F32)
    zeros = d.const(d.draw.count(0, 20), left), d.const(np.full(n if columns else (), 3), right)
    bias = d.weights(n) if d.draw.chance(0.4) else None
    match d.draw.one_of("float", "gemm", "quantised gemm", "dynamic"):
        case "float":
            return d.node(op("MatMulIntegerToFloat"), a, b, *scales, *zeros, bias)
        case "dynamic":
            x = d.input(F32, (m, k), -1, 1)
            return d.node(op("DynamicQuantizeMatMul"), x, b, scales[1], zeros[1], bias)
        case form:
            c = d.const(d.draw.array("int32", (n,), -200, 200)) if d.draw.chance(0.5) else None
            out = (d.const(0.5, F32), d.const(7, left)) if form == "quantised gemm" else ()
            return d.node(
                op("QGemm"), a, scales[0], zeros[0], b, scales[1], zeros[1], c, *out, alpha=d.draw.one_of(None, 1.0)
            )


def bytes_of(d: Draft, rank: int | None = None) -> Tensor:
    fits = [t for t in d.values if t.dtype.name in NARROW and t.size and (rank is None or t.rank == rank)]
    if fits and d.draw.chance(0.6):
        return d.draw.one_of(*fits)
    shape = d.draw.shape(rank or d.draw.count(1, 4), 300)
    dtype = d.draw.one_of(*NARROW)
    return d.input(dtype, shape, *((0, 255) if dtype == "uint8" else (-128, 127)))


@step(3)
def quantised(d: Draft) -> object:
    """QLinear operators between bytes."""
    name = d.draw.one_of(
        "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "QLinearSoftmax",
        "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearWhere",
    )  # fmt: skip
    x = bytes_of(d, 4 if "Pool" in name else None)
    kind = x.dtype.name

    def scale() -> Tensor:
        return d.const(d.draw.one_of(0.25, 0.125, 0.5, 0.1, 0.037), F32)

    def zero() -> Tensor:
        return d.const(d.draw.count(0, 20), kind)

    match name:
        case "QLinearAdd" | "QLinearMul":
            return d.node(op(name), x, scale(), zero(), d.partner(x, -100, 200), scale(), zero(), scale(), zero())
        case "QLinearConcat":
            if not x.rank:
                raise Reject("rank")
            parts = [x, *([x] * d.draw.count(0, 2))]
            given = [t for part in parts for t in (part, scale(), zero())]
            return d.node(op(name), scale(), zero(), *given, axis=d.axis(x))
        case "QLinearSoftmax":
            out = d.const(1 / 256, F32), d.const(0 if kind == "uint8" else -128, kind)
            return d.node(op(name), x, scale(), zero(), *out, axis=d.axis(x), opset=d.draw.one_of(11, 13))
        case "QLinearAveragePool":
            return d.node(
                op(name), x, scale(), zero(), scale(), zero(), kernel_shape=[2, 2], pads=d.draw.one_of(None, [1] * 4),
                strides=d.draw.one_of(None, [2, 2]), count_include_pad=d.draw.one_of(None, 1),
                ceil_mode=d.draw.one_of(None, 1),
            )  # fmt: skip
        case "QLinearWhere":
            choice = d.const(d.draw.rng.random(x.shape) < 0.5)
            return d.node(
                op(name), choice, x, scale(), zero(), d.operand(kind, x.shape, 0, 90), scale(), zero(), scale(), zero()
            )
        case _:
            return d.node(op(name), x, scale(), zero(), scale(), zero())


@step(1)
def others(d: Draft) -> object:
    """Padding, inverses, rotated positions, gathered blocks, distances, windows."""
    x = d.pick(lambda t: t.dtype == F32 and t.rank > 0 and t.size > 0 and not t.open)
    match d.draw.one_of(
        "Pad", "ExpandDims", "Trilu", "CDist", "UnfoldTensor", "RotaryEmbedding", "GridSample", "Unique"
    ):
        case "Pad":
            pads = [d.draw.count(0, 2) for _ in range(2 * x.rank)]
            return d.node(op("Pad"), x, d.ints(*pads), d.const([0.5], F32), mode="constant")
        case "ExpandDims":
            return d.node(op("ExpandDims"), x, d.const(d.draw.count(-1, x.rank), "int32"))
        case "Trilu":
            return d.node(op("Trilu"), d.pick(lambda t: t.dtype == F32 and t.rank > 1), upper=d.draw.one_of(0, 1))
        case "CDist":
            n = d.draw.size(9)
            a, b = d.input(F32, (d.draw.size(9), n)), d.input(F32, (d.draw.size(9), n))
            return d.node(op("CDist"), a, b, metric=d.draw.one_of("sqeuclidean", "euclidean"))
        case "UnfoldTensor":
            axis = d.axis(x)
            return d.node(op("UnfoldTensor"), x, dim=axis, size=d.draw.count(1, x.shape[axis]), step=d.draw.count(1, 2))
        case "RotaryEmbedding":
            size, length = d.draw.one_of(4, 8), d.draw.count(1, 5)
            y = d.input(F32, (2, length, 2 * size), -1, 1)
            angles = np.outer(np.arange(8), np.linspace(0.1, 1, size // 2))
            places = d.const(np.arange(2 * length).reshape(2, length) % 8, I64) if d.draw.chance(0.5) else d.ints(0)
            return d.node(
                op("RotaryEmbedding"), y, places, d.const(np.cos(angles), F32), d.const(np.sin(angles), F32),
                num_heads=2, interleaved=d.draw.one_of(None, 1),
            )  # fmt: skip
        case "GridSample":
            y = image(d, (4,), F32)
            grid = d.weights(y.shape[0], 2, 3, 2, low=-1.2, high=1.2, style="uniform")
            mode = d.draw.one_of("bilinear", "nearest", "bicubic")
            return d.node(op("GridSample"), y, grid, mode=mode, align_corners=d.draw.one_of(0, 1))
        case name:
            y = d.input(F32, (d.draw.count(1, 12),), -2, 2, "whole")
            return d.node(op(name), y, outputs=3)
