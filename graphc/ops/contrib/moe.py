"""MoE and QMoE of com.microsoft: a few of many experts, two layers each, for every token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.attrs import Attrs
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype, require_same_dtype
from graphc.ops.contrib.attention import expect
from graphc.ops.contrib.blocks.bits import bytes_of, emit_unpacked, unpacked
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import FLOAT32, widen
from graphc.types import Dim, TensorType, prod

GATED = ("swiglu", "geglu")  # one half of a layer's results is multiplied by the other
APART, INTERLEAVED, SIDE_BY_SIDE = range(3)


def _fused(attrs: Mapping[str, Any]) -> int:
    """Into how many parts the first layer's results fall."""
    return 2 if attrs["activation_type"] in GATED and attrs["swiglu_fusion"] != APART else 1


def _check(call: Call, first: tuple, second: tuple, third: tuple | None, biases: tuple[int, int, int]) -> TensorType:
    """first, second, third: shapes of the layers' weights [experts, rows, columns], unpacked. Raises TypeRuleError."""
    attrs, x = call.attrs, call.shape(0)
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    if len(x) not in (2, 3):
        raise call.fail(f"'input' has shape {x}", "give [tokens, hidden] or [batch, sequence, hidden]")
    tokens, hidden, (experts, rows, _) = prod(x[:-1]), x[-1], first
    if hidden == 0:
        raise call.fail(f"'input' has shape {x}: its hidden size is 0")
    inner = rows // _fused(attrs)
    expect(call, 1, (tokens, experts))
    for shape, wanted, what in (
        (first, (experts, rows, hidden), "first"),
        (second, (experts, hidden, inner), "second"),
        (third, (experts, inner, hidden), "third"),
    ):
        if shape is not None and (len(shape) != 3 or any(map(differ, shape, wanted))):
            raise call.fail(f"the {what} layer's weights are {shape}", f"they must be {wanted}")
    for i, size in zip(biases, (rows, hidden, inner)):
        expect(call, i, (experts, size))
    if attrs.k < 1 or (isinstance(experts, int) and attrs.k > experts):
        raise call.fail(f"k is {attrs.k}, of {experts} experts")
    if attrs.use_sparse_mixer:
        raise call.fail("use_sparse_mixer is not supported", "set it to 0")
    apart = attrs.activation_type in GATED and attrs.swiglu_fusion == APART
    if apart and (attrs.activation_type == "geglu" or third is None):
        raise call.fail(
            f"{attrs.activation_type} has its gate in the first layer, or in a third one", "set swiglu_fusion"
        )
    if third is not None and not apart:
        raise call.fail("a third layer is for swiglu with swiglu_fusion=0", "leave it out")
    return TensorType(dtype, x)


# --- reference --------------------------------------------------------------------------------------------------------
def _gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _activated(h, other, attrs):
    kind, limit = attrs["activation_type"], attrs["swiglu_limit"]
    if kind not in GATED:
        simple = {"relu": lambda v: np.maximum(v, 0), "relu2": lambda v: np.maximum(v, 0) ** 2, "gelu": _gelu}
        simple |= {"silu": lambda v: v * _sigmoid(v), "identity": lambda v: v}
        return simple[kind](h)
    if other is None:
        halves = (h[..., ::2], h[..., 1::2]) if attrs["swiglu_fusion"] == INTERLEAVED else np.split(h, 2, -1)
        h, other = halves
    if kind == "geglu":
        return _gelu(h) * other
    late = attrs["swiglu_limit_after_activation"]
    if limit is not None:
        h, other = (h if late else np.minimum(h, limit)), np.clip(other, -limit, limit)
    h = h * _sigmoid(attrs["activation_alpha"] * h)
    return (np.minimum(h, limit) if late and limit is not None else h) * (other + attrs["activation_beta"])


def _mixed(x, router, layers, attrs, weights=None):
    dtype, shape = x.dtype, x.shape
    x, router, w1, b1, w2, b2, w3, b3, weights = map(widen, (x, router, *layers, weights))
    x, y = x.reshape(-1, shape[-1]), np.zeros((math.prod(shape[:-1]), shape[-1]), x.dtype)
    powers = np.exp(router - router.max(-1, keepdims=True))
    probabilities = powers / powers.sum(-1, keepdims=True)
    order = np.argsort(-router, axis=-1, kind="stable")[:, : attrs["k"]]
    for token, chosen in enumerate(order):
        share = (probabilities if weights is None else weights)[token, chosen]
        share = share / share.sum() if attrs["normalize_routing_weights"] else share
        for e, s in zip(chosen, share):
            h = w1[e] @ x[token] + (0 if b1 is None else b1[e])
            other = None if w3 is None else w3[e] @ x[token] + (0 if b3 is None else b3[e])
            y[token] += s * (w2[e] @ _activated(h, other, attrs) + (0 if b2 is None else b2[e]))
    return y.reshape(shape).astype(dtype)


# --- expansion --------------------------------------------------------------------------------------------------------
def _emit_activated(b: Builder, h: Value, other: Value | None, attrs) -> Value:
    kind, limit, dtype = attrs.activation_type, attrs.swiglu_limit, h.dtype
    if kind not in GATED:
        if kind == "identity":
            return h
        if kind == "gelu":
            return b.add("Gelu", h, approximate="tanh")
        y = b.add("Swish" if kind == "silu" else "Relu", h)
        return b.add("Mul", y, y) if kind == "relu2" else y
    if other is None:
        *lead, width = h.shape
        if attrs.swiglu_fusion == INTERLEAVED:
            pairs = b.add("Reshape", h, b.constant([*lead, width // 2, 2], np.int64))
            h, other = (b.add("Gather", pairs, b.constant(i, np.int64), axis=-1) for i in (0, 1))
        else:
            h, other = b.add("Split", h, b.constant([width // 2] * 2, np.int64), axis=-1, outputs=2)
    if kind == "geglu":
        return b.add("Mul", b.add("Gelu", h, approximate="tanh"), other)
    late = attrs.swiglu_limit_after_activation
    if limit is not None:
        highest = b.constant(limit, dtype)
        h = h if late else b.add("Min", h, highest)
        other = b.add("Clip", other, b.constant(-limit, dtype), highest)
    h = b.add("Swish", h, alpha=attrs.activation_alpha)
    if late and limit is not None:
        h = b.add("Min", h, highest)
    return b.add("Mul", h, b.add("Add", other, b.constant(attrs.activation_beta, dtype)))


def _emit_mixed(b: Builder, x: Value, router: Value, layers, attrs, weights: Value | None = None) -> Value:
    """layers: weights and bias (or None) of each of the three; None for no third one.

    For few tokens the weights of their experts are gathered; for many, every expert sees all, and what was not chosen is 0.
    """
    shape, given = x.shape, x.dtype
    wide = FLOAT32 if given.itemsize < 4 else given
    hidden, tokens, experts, k = shape[-1], prod(shape[:-1]), router.shape[1], attrs.k
    x = b.add("Cast", b.add("Reshape", x, b.constant([tokens, hidden], np.int64), allowzero=True), to=wide)
    scores = b.add("Softmax", b.add("Cast", router, to=wide), axis=-1)
    shares, chosen = b.add("TopK", scores, b.constant([k], np.int64), axis=-1, outputs=2)
    if weights is not None:
        shares = b.add("GatherElements", b.add("Cast", weights, to=wide), chosen, axis=1)
    if attrs.normalize_routing_weights:
        shares = b.add("Div", shares, b.add("ReduceSum", shares, b.constant([1], np.int64), keepdims=True))
    few = tokens * k < experts
    if few:
        flat = b.add("Reshape", chosen, b.constant([-1], np.int64))
        rows = b.add("Expand", b.add("Unsqueeze", x, b.constant([1], np.int64)), b.constant([1, k, 1], np.int64))
        x = b.add("Reshape", rows, b.constant([tokens * k, 1, hidden], np.int64))

    def layer(v: Value, i: int) -> Value | None:
        if layers[i] is None:
            return None
        w, bias = layers[i]
        if few:
            w, bias = (None if p is None else b.add("Gather", p, flat, axis=0) for p in (w, bias))
        y = b.add("MatMul", v, b.add("Transpose", b.add("Cast", w, to=wide), perm=(0, 2, 1)))
        if bias is None:
            return y
        return b.add("Add", y, b.add("Unsqueeze", b.add("Cast", bias, to=wide), b.constant([1], np.int64)))

    first = layer(x, 0)
    assert first is not None
    y = layer(_emit_activated(b, first, layer(x, 2), attrs), 1)
    if few:
        y = b.add("Reshape", y, b.constant([tokens, k, hidden], np.int64))
        y = b.add("ReduceSum", b.add("Mul", y, b.add("Unsqueeze", shares, b.constant([2], np.int64))), b.constant([1], np.int64), keepdims=False)  # fmt: skip
    else:
        there = b.add("Expand", b.constant(True, np.bool_), b.constant([tokens, k], np.int64))
        share, seen = (_by_expert(b, v, chosen, tokens, experts) for v in (shares, there))
        y = b.add("Where", seen, b.add("Mul", y, share), b.constant(0, wide))  # 0 times infinity would be NaN
        y = b.add("ReduceSum", y, b.constant([0], np.int64), keepdims=False)
    return b.add("Cast", b.add("Reshape", y, b.constant(shape, np.int64), allowzero=True), to=given)


# --- MoE --------------------------------------------------------------------------------------------------------------
def _by_expert(b: Builder, v: Value, chosen: Value, tokens: Dim, experts: Dim) -> Value:
    """[experts, tokens, 1]: the numbers [tokens, k] at the chosen experts, 0 elsewhere."""
    nothing = b.add("Expand", b.constant(0, v.dtype), b.constant([tokens, experts], np.int64))
    placed = b.add("Transpose", b.add("ScatterElements", nothing, chosen, v, axis=1), perm=(1, 0))
    return b.add("Unsqueeze", placed, b.constant([2], np.int64))


def _infer(call: Call) -> list[TensorType]:
    require_same_dtype(call, *range(8))
    first, second = call.shape(2), call.shape(4)
    if len(first) != 3:
        raise call.fail(f"the first layer's weights have shape {first}", "give [experts, rows, columns]")
    return [_check(call, first, second, call.shape(6) if call.has(6) else None, (3, 5, 7))]


def _reference(x, router, w1, b1=None, w2=None, b2=None, w3=None, b3=None, **attrs):
    return _mixed(x, router, (w1, b1, w2, b2, w3, b3), attrs)


@where_static
def _expand(b: Builder, call: Call) -> Value:
    given: list = [call.given(i) for i in range(8)]
    layers = [(given[2], given[3]), (given[4], given[5]), None if given[6] is None else (given[6], given[7])]
    return _emit_mixed(b, given[0], given[1], layers, call.attrs)


def _macs(call: Call) -> Dim:
    return prod((*call.shape(0), call.attrs.k, call.shape(2)[1])) * 2


_ACTIVATION = {
    "activation_type": Attr(str, "relu", ("relu", "gelu", "silu", "identity", "relu2", *GATED)),
    "activation_alpha": Attr(float, 1.0, settled=True),
    "activation_beta": Attr(float, 0.0, settled=True),
    "k": Attr(int, 1),
    "normalize_routing_weights": Attr(bool, False),
    "swiglu_fusion": Attr(int, 0, (APART, INTERLEAVED, SIDE_BY_SIDE), settled=True),
    "swiglu_limit": Attr(float, None, settled=True),
    "swiglu_limit_after_activation": Attr(bool, False, settled=True),
    "use_sparse_mixer": Attr(bool, False, settled=True),
}


def _cases() -> list[Case]:
    def case(tokens=(5,), bias=True, experts=3, fused=1, third=False, **attrs):
        hidden, inner = 8, 12
        first, second = Tensor((experts, fused * inner, hidden)), Tensor((experts, hidden, inner))
        biases = [Tensor((experts, n)) if bias else None for n in (fused * inner, hidden, inner)]
        more = [Tensor((experts, inner, hidden)), biases[2]] if third else []
        operands = [
            Tensor((*tokens, hidden)),
            Tensor((int(np.prod(tokens)), experts)),
            first,
            biases[0],
            second,
            biases[1],
        ]
        operands += more
        while operands[-1] is None:
            operands.pop()
        return Case(tuple(operands), attrs)

    gated = {"activation_type": "swiglu", "activation_alpha": 1.7, "activation_beta": 1.0, "swiglu_limit": 7.0}
    return [
        case(),
        case((2, 3), activation_type="silu", k=2),
        case(activation_type="gelu", k=2, normalize_routing_weights=True, bias=False),
        case((1,), experts=8, activation_type="identity", k=2, normalize_routing_weights=True),
        case(fused=2, swiglu_fusion=INTERLEAVED, **gated),
        case(fused=2, swiglu_fusion=SIDE_BY_SIDE, swiglu_limit_after_activation=True, **gated),
        case(third=True, k=2, activation_type="swiglu"),
        case(fused=2, swiglu_fusion=SIDE_BY_SIDE, activation_type="geglu"),
        case((1,), experts=8, activation_type="relu2", k=3),
    ]


contrib(
    "MoE",
    "input router_probs fc1_experts_weights fc1_experts_bias? fc2_experts_weights fc2_experts_bias? "
    "fc3_experts_weights? fc3_experts_bias?",
    _infer,
    _reference,
    _expand,
    _cases(),
    _ACTIVATION,
    macs=_macs,
)

# --- QMoE -------------------------------------------------------------------------------------------------------------
# of each layer: weights, scales, bias, zero points
_LAYERS = ((2, 3, 4, 11), (5, 6, 7, 12), (8, 9, 10, 13))
ROUTER_WEIGHTS = 14


def _bits(call: Call, layer: int) -> int:
    return call.attrs[f"fc{layer + 1}_expert_weight_bits"] or call.attrs.expert_weight_bits


def _layer_shape(call: Call, layer: int) -> tuple:
    """[experts, rows, columns], unpacked. Raises TypeRuleError where scales or zero points do not fit."""
    weights, scales, _, zeros = _LAYERS[layer]
    require_dtype(call, weights, ("uint8",))
    packed, bits, size = call.shape(weights), _bits(call, layer), call.attrs.block_size
    if bits not in (2, 4, 8):
        raise call.fail(f"weights have {bits} bits", "2, 4 or 8")
    if len(packed) != 3 or not call.has(scales):
        raise call.fail(f"the weights {packed} of layer {layer + 1} need three axes and scales")
    experts, rows, columns = packed[0], packed[1], packed[2] * (8 // bits)
    require_dtype(call, scales, FLOAT_NAMES)
    expect(call, scales, (experts, rows, (columns + size - 1) // size) if size else (experts, rows))
    if call.has(zeros):
        require_dtype(call, zeros, ("uint8",))
        count = (columns + size - 1) // size if size else 0
        expect(call, zeros, (experts, rows, bytes_of(count, bits)) if size else (experts, bytes_of(rows, bits)))
    return experts, rows, columns


def _quantized_infer(call: Call) -> list[TensorType]:
    attrs = call.attrs
    if attrs.quant_type != "int":
        raise call.fail(f"quant_type is {attrs.quant_type!r}", "only 'int' is supported")
    if attrs.weights_prepacked == 1:
        raise call.fail("weights_prepacked is 1: weights in the order of another machine's kernel", "set it to 0")
    for i in range(15, 21):
        if call.has(i):
            raise call.fail(f"'{call.op.inputs[i].rstrip('?')}' is for weights in floating point")
    require_same_dtype(call, 0, 1, 4, 7, 10, ROUTER_WEIGHTS)
    third = _layer_shape(call, 2) if call.has(_LAYERS[2][0]) else None
    y = _check(call, _layer_shape(call, 0), _layer_shape(call, 1), third, (4, 7, 10))
    expect(call, ROUTER_WEIGHTS, call.shape(1))
    return [y]


def _normalizes(attrs: Mapping[str, Any], weights: Any) -> bool:
    """Are shares divided by their sum? As in ONNX Runtime always, where they are the router's probabilities."""
    return weights is None or attrs["normalize_routing_weights"]


def _by_rows(numbers: np.ndarray, size: int) -> np.ndarray:
    """Zero points, or their scales, of blocks, for each column; of rows, behind them."""
    return np.repeat(numbers, size, -1) if size else numbers[..., None]


def _quantized_reference(x, router, *operands, **attrs):
    operands = (*operands, *(19 - len(operands)) * (None,))
    layers, size, wide = [], attrs["block_size"], widen(x).dtype
    for n, (at, scale_at, bias_at, zero_at) in enumerate(_LAYERS):
        packed, scales, bias, zeros = (operands[i - 2] for i in (at, scale_at, bias_at, zero_at))
        if packed is None:
            layers += [None, None]
            continue
        bits = attrs[f"fc{n + 1}_expert_weight_bits"] or attrs["expert_weight_bits"]
        q = unpacked(packed, bits).astype(wide)
        zero = np.array(2.0 ** (bits - 1), wide)
        if zeros is not None:
            zero = _by_rows(unpacked(zeros, bits)[..., : scales.shape[-1]].astype(wide), size)[..., : q.shape[2]]
        layers += [(q - zero) * _by_rows(scales.astype(wide), size)[..., : q.shape[2]], bias]
    weights = operands[ROUTER_WEIGHTS - 2]
    return _mixed(x, router, layers, {**attrs, "normalize_routing_weights": _normalizes(attrs, weights)}, weights)


@where_static
def _expand_quantized(b: Builder, call: Call) -> Value:
    given: list = [call.given(i) for i in range(15)]
    dtype = call.dtype(0) if call.dtype(0).itemsize >= 4 else FLOAT32
    layers: list[tuple | None] = []
    for n, (at, scale_at, bias_at, zero_at) in enumerate(_LAYERS):
        packed = given[at]
        if packed is None:
            layers.append(None)
            continue
        experts, rows, columns = _layer_shape(call, n)
        size, bits, scales, zeros = call.attrs.block_size or columns, _bits(call, n), given[scale_at], given[zero_at]
        count = -(-columns // size)
        q = b.add("Cast", emit_unpacked(b, packed, bits), to=dtype)
        if count * size != columns:
            q = b.add("Pad", q, b.constant([0] * 5 + [count * size - columns], np.int64), b.constant(0, dtype))
        q = b.add("Reshape", q, b.constant([experts, rows, count, size], np.int64))
        by_block = b.constant([experts, rows, count, 1], np.int64)
        zero = b.constant(2 ** (bits - 1), dtype)
        if zeros is not None:
            numbers = emit_unpacked(b, zeros, bits)
            numbers = b.add("Slice", numbers, *(b.constant([i], np.int64) for i in (0, scales.shape[-1], -1)))
            zero = b.add("Cast", b.add("Reshape", numbers, by_block), to=dtype)
        w = b.add("Mul", b.add("Sub", q, zero), b.add("Cast", b.add("Reshape", scales, by_block), to=dtype))
        w = b.add("Reshape", w, b.constant([experts, rows, count * size], np.int64))
        if count * size != columns:
            w = b.add("Slice", w, *(b.constant([i], np.int64) for i in (0, columns, 2)))
        layers.append((w, given[bias_at]))
    weights = given[ROUTER_WEIGHTS]
    attrs = Attrs({**call.attrs, "normalize_routing_weights": _normalizes(call.attrs, weights)})
    return _emit_mixed(b, given[0], given[1], layers, attrs, weights)


def _quantized_cases() -> list[Case]:
    rng = np.random.default_rng(6)

    def case(tokens=5, experts=3, bits=4, size=0, zeros=False, weights=False, fused=1, **attrs):
        hidden = inner = 32
        operands: list[Tensor | Const | None] = [Tensor((tokens, hidden)), Tensor((tokens, experts))]
        points: list[Tensor | Const | None] = []
        for rows, columns in ((fused * inner, hidden), (hidden, inner)):
            packed = Const(rng.integers(0, 256, (experts, rows, columns * bits // 8)), "uint8")
            scales = (experts, rows, columns // size) if size else (experts, rows)
            operands += [packed, Tensor(scales, 0.01, 0.1), Tensor((experts, rows))]
            shape = (experts, rows, bytes_of(columns // size, bits)) if size else (experts, bytes_of(rows, bits))
            points.append(Const(rng.integers(0, 256, shape), "uint8") if zeros else None)
        operands += [None] * 3 + points + [None] + ([Tensor((tokens, experts), 0.1, 1.0)] if weights else [])
        while operands[-1] is None:
            operands.pop()
        return Case(tuple(operands), {"expert_weight_bits": bits, **({"block_size": size} if size else {}), **attrs})

    return [
        case(k=2),
        case(1, 8, size=16, activation_type="silu", k=2, normalize_routing_weights=True),
        case(bits=8, size=16, zeros=True),
        case(zeros=True, weights=True, k=2, fused=2, activation_type="swiglu", swiglu_fusion=INTERLEAVED),
    ]


contrib(
    "QMoE",
    "input router_probs fc1_experts_weights fc1_scales? fc1_experts_bias? fc2_experts_weights fc2_scales? "
    "fc2_experts_bias? fc3_experts_weights? fc3_scales? fc3_experts_bias? fc1_zero_points? fc2_zero_points? "
    "fc3_zero_points? router_weights? fc1_global_scale? fc2_global_scale? fc1_act_scale? fc2_act_scale? "
    "fc1_act_block_scale? fc2_act_block_scale?",
    _quantized_infer,
    _quantized_reference,
    _expand_quantized,
    _quantized_cases(),
    {
        **_ACTIVATION,
        "accuracy_level": Attr(int, 0, settled=True),
        "block_size": Attr(int, 0),
        "expert_weight_bits": Attr(int, 4),
        **{f"fc{n}_expert_weight_bits": Attr(int, 0) for n in (1, 2, 3)},
        "quant_type": Attr(str, "int", settled=True),
        "weights_prepacked": Attr(int, -1, settled=True),
    },
    macs=_macs,
)
