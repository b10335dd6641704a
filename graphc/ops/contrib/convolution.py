"""Convolutions of com.microsoft: depthwise ones along a sequence with a state, and those of images with channels last."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor, get_op
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype, require_same_dtype
from graphc.ops.contrib.attention import expect
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import FLOAT32, widen
from graphc.types import Dim, Shape, TensorType, prod


# --- CausalConvWithState ----------------------------------------------------------------------------------------------
def _state_length(call: Call) -> Dim:
    return (call.shape(1)[2] - 1) * call.attrs.dilation


def _causal_type(call: Call) -> list[TensorType]:
    """y, and the inputs that the next step sees, [batch, channels, state], or with channels last."""
    dtype, attrs = require_dtype(call, 0, FLOAT_NAMES), call.attrs
    require_same_dtype(call, 0, 1, 2, 3)
    for name, plain in (
        ("ndim", 1),
        ("state_update_capacity", 0),
        ("state_channels_last", -1),
        ("state_window", 0),
        ("state_length", 0),
        ("input_channel_offset", 0),
        ("input_channels", 0),
    ):
        if attrs[name] != plain:
            raise call.fail(f"{name} is {attrs[name]}", f"only {plain} is supported")
    if attrs.dilation < 1:
        raise call.fail(f"dilation is {attrs.dilation}", "1 or more")
    x = call.shape(0)
    if len(x) < 3 or (len(x) > 3 and not attrs.channels_last):
        raise call.fail(f"'x' has shape {x}", "give [batch, channels, length], or channels last")
    channels: Dim = 1
    for d in x[2:] if attrs.channels_last else (x[1],):
        channels = channels * d
    if call.rank(1) != 3 or differ(call.shape(1)[0], channels) or differ(call.shape(1)[1], 1):
        raise call.fail(f"the weights have shape {call.shape(1)}", f"give [{channels}, 1, taps]")
    if channels == 0 or call.shape(1)[2] == 0:
        raise call.fail(f"'x' has shape {x}, the weights {call.shape(1)}", "one channel and one tap, or more")
    expect(call, 2, (channels,))
    length = _state_length(call)
    state: Shape = (x[0], length, *x[2:]) if attrs.channels_last else (x[0], x[1], length)
    expect(call, 3, state)
    return [TensorType(dtype, x), TensorType(dtype, state)]


def _causal_reference(x, w, bias=None, past=None, **attrs):
    dtype, shape, dilation = x.dtype, x.shape, attrs["dilation"]
    x, w, bias, past = map(widen, (x, w, bias, past))
    taps, length = w.shape[2], (w.shape[2] - 1) * dilation
    last = attrs["channels_last"]
    if last:
        x, past = (None if a is None else a.reshape(*a.shape[:2], len(w)).swapaxes(1, 2) for a in (x, past))
    past = np.zeros((*x.shape[:2], length), x.dtype) if past is None else past
    seen = np.concatenate([past, x], 2)
    y = sum(seen[:, :, k * dilation :][:, :, : x.shape[2]] * w[:, :, k] for k in range(taps))
    y = y if bias is None else y + bias[:, None]
    if attrs["activation"] != "none":
        y = y / (1 + np.exp(-y))
    state = seen[:, :, seen.shape[2] - length :]
    if last:
        y, state = (a.swapaxes(1, 2).reshape(shape[0], a.shape[2], *shape[2:]) for a in (y, state))
    return y.astype(dtype), state.astype(dtype)


@where_static
def _expand_causal(b: Builder, call: Call) -> tuple[Value, ...]:
    (x, w), attrs = call.inputs[:2], call.attrs
    shape, length, last = x.shape, _state_length(call), call.attrs.channels_last

    def channels_first(v: Value) -> Value:
        flat = v if len(v.shape) == 3 else b.add("Reshape", v, b.constant([0, v.shape[1], w.shape[0]], np.int64))
        return b.add("Transpose", flat, perm=(0, 2, 1))

    def as_given(v: Value, rows: Dim) -> Value:
        v = b.add("Transpose", v, perm=(0, 2, 1))
        return v if len(shape) == 3 else b.add("Reshape", v, b.constant([shape[0], rows, *shape[2:]], np.int64))

    past = call.given(3)
    if last:
        x, past = channels_first(x), None if past is None else channels_first(past)
    if past is None:
        pads = b.constant([0, 0, length, 0, 0, 0], np.int64)
        seen = b.add("Pad", x, pads, b.constant(0, x.dtype)) if length else x
    else:
        seen = b.add("Concat", past, x, axis=2)
    bias = call.given(2)
    if x.shape[2] == 0:
        y = b.add("Identity", x)
    else:
        y = b.add("Conv", seen, w, bias, group=w.shape[0], dilations=(attrs.dilation,))
    if attrs.activation != "none":
        y = b.add("Swish", y)
    results = [as_given(y, shape[1]) if last else y]
    if call.n_outputs > 1:
        total = seen.shape[2]
        state = b.add("Slice", seen, *(b.constant([n], np.int64) for n in (total - length, total, 2)))
        results.append(as_given(state, length) if last else state)
    return tuple(results)


def _causal_cases() -> list[Case]:
    x, w, bias, past = Tensor((2, 4, 6)), Tensor((4, 1, 3)), Tensor((4,)), Tensor((2, 4, 2))
    return [
        Case((x, w, bias), {}, 2),
        Case((x, w, bias, past), {"activation": "silu"}, 2),
        Case((x, w, None, Tensor((2, 4, 4))), {"dilation": 2}, 2),
        Case((Tensor((2, 6, 4)), w, bias, Tensor((2, 2, 4))), {"channels_last": True, "activation": "swish"}, 2),
        Case((Tensor((2, 1, 2, 2)), w), {"channels_last": True}, 2),
    ]


contrib(
    "CausalConvWithState",
    "x weight bias? past_state?",
    _causal_type,
    _causal_reference,
    _expand_causal,
    _causal_cases(),
    {
        "activation": Attr(str, "none", ("none", "silu", "swish")),
        "ndim": Attr(int, 1, settled=True),
        "dilation": Attr(int, 1),
        "channels_last": Attr(bool, False),
        "state_update_capacity": Attr(int, 0, settled=True),
        "state_channels_last": Attr(int, -1, settled=True),
        "state_window": Attr(int, 0, settled=True),
        "state_length": Attr(int, 0, settled=True),
        "input_channel_offset": Attr(int, 0, settled=True),
        "input_channels": Attr(int, 0, settled=True),
    },
    ("y", "present_state"),
)


# --- channels last ----------------------------------------------------------------------------------------------------
def _first(rank: int) -> list[int]:
    """Axes that bring channels from the end to the front."""
    return [0, rank - 1, *range(1, rank - 1)]


def _last(rank: int) -> list[int]:
    return [0, *range(2, rank), 1]


def _channels_last(name: str, inner: str, inputs: str, cases: list[Case]) -> None:
    """`inner` on feature maps [batch, *space, channels]; the weights as ONNX has them."""
    record = get_op(inner)
    maps = [i for i, n in enumerate(inputs.split()) if n.rstrip("?") in ("x", "z")]

    def turned(call: Call) -> Call:
        values = [
            Value(v.name, v.type.with_shape([v.shape[a] for a in _first(v.type.rank)]))
            if i in maps and v is not None
            else v
            for i, v in enumerate(call.inputs)
        ]
        return Call(record, values, call.attrs, 1)

    def infer(call: Call) -> list[TensorType]:
        if any(call.has(i) and call.rank(i) < 3 for i in maps):
            raise call.fail(f"'x' has shape {call.shape(0)}", "give [batch, *space, channels]")
        (y,) = record.infer(turned(call))
        return [y.with_shape([y.shape[a] for a in _last(y.rank)])]

    def reference(*arrays, **attrs):
        first = [a.transpose(_first(a.ndim)) if i in maps and a is not None else a for i, a in enumerate(arrays)]
        y = record.reference(*first, **attrs)
        return y.transpose(_last(y.ndim))

    def expand(b: Builder, call: Call) -> Value:
        values = [
            b.add("Transpose", v, perm=_first(len(v.shape))) if i in maps and v is not None else v
            for i, v in enumerate(call.inputs)
        ]
        y = b.add(inner, *values, **call.attrs)
        return b.add("Transpose", y, perm=_last(len(y.shape)))

    contrib(name, inputs, infer, reference, expand, cases, record.attrs, tolerance=record.tolerance, macs=lambda call: record.macs(turned(call)) if record.macs else 0)  # fmt: skip


_XWB = (Tensor((1, 6, 6, 3)), Tensor((4, 3, 3, 3)), Tensor((4,)))
_channels_last(
    "NhwcConv",
    "Conv",
    "x w b?",
    [Case(_XWB), Case((Tensor((2, 5, 4)), Tensor((6, 2, 3))), {"group": 2, "pads": (1, 1), "strides": (2,)})],
)
_channels_last(
    "NhwcFusedConv",
    "com.microsoft::FusedConv",
    "x w b? z?",
    [
        Case((*_XWB, Tensor((1, 4, 4, 4))), {"activation": "Relu"}),
        Case(_XWB, {"activation": "Clip", "activation_params": (-0.5, 0.7), "pads": (1, 1, 1, 1)}),
    ],
)


# --- GroupNorm, SkipGroupNorm -----------------------------------------------------------------------------------------
def _group_type(call: Call) -> list[TensorType]:
    dtype, x = require_dtype(call, 0, FLOAT_NAMES), call.shape(0)
    require_same_dtype(call, 0, 3, 4)
    require_same_dtype(call, 1, 2)
    if len(x) != 4:
        raise call.fail(f"'x' has shape {x}", "give [batch, height, width, channels], or channels first")
    channels = x[3] if call.attrs.channels_last else x[1]
    groups = call.attrs.groups
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        raise call.fail(f"{channels} channels do not divide into {groups} groups")
    for i in (1, 2):
        expect(call, i, (channels,))
    if len(call.op.inputs) > 3:
        ones = (x[0], 1, 1, channels) if call.attrs.channels_last else (x[0], channels, 1, 1)
        expect(call, 3, x, ones, (x[0], channels))
        expect(call, 4, (channels,))
    y = TensorType(dtype, x)
    return [y, y][: len(call.op.outputs)]


def _group_reference(x, gamma, beta, skip=None, bias=None, *, groups, epsilon, activation, channels_last):
    dtype = x.dtype
    x, gamma, beta, skip, bias = map(widen, (x, gamma, beta, skip, bias))
    if channels_last:
        x, skip = (a.transpose(0, 3, 1, 2) if a is not None and a.ndim == 4 else a for a in (x, skip))
    for more in (skip, bias):
        if more is not None:
            x = x + (more if more.ndim == 4 else more[..., None, None])
    apart = x.reshape(len(x), groups, prod(x.shape[1:]) // groups)
    mean = apart.mean(-1, keepdims=True)
    variance = ((apart - mean) ** 2).mean(-1, keepdims=True)
    y = ((apart - mean) / np.sqrt(variance + x.dtype.type(epsilon))).reshape(x.shape)
    y = y * gamma[:, None, None] + beta[:, None, None]
    y = y / (1 + np.exp(-y)) if activation else y
    return tuple((a.transpose(0, 2, 3, 1) if channels_last else a).astype(dtype) for a in (y, x))


@where_static
def _expand_group(b: Builder, call: Call) -> tuple[Value, ...]:
    x, gamma, beta = call.inputs[:3]
    attrs, channels = call.attrs, gamma.shape[0]
    around = (lambda v: v) if not attrs.channels_last else (lambda v: b.add("Transpose", v, perm=(0, 2, 3, 1)))
    if call.has(3):
        skip = call.inputs[3]
        if len(skip.shape) == 2:
            shape = [x.shape[0], 1, 1, channels] if attrs.channels_last else [x.shape[0], channels, 1, 1]
            skip = b.add("Reshape", skip, b.constant(shape, np.int64), allowzero=True)
        x = b.add("Add", x, skip)
    if call.has(4):
        shape = [channels] if attrs.channels_last else [channels, 1, 1]
        x = b.add("Add", x, b.add("Reshape", call.inputs[4], b.constant(shape, np.int64)))
    total, wide = x, FLOAT32 if x.dtype.itemsize < 4 else x.dtype
    x, gamma, beta = (b.add("Cast", v, to=wide) for v in (x, gamma, beta))
    x = b.add("Transpose", x, perm=(0, 3, 1, 2)) if attrs.channels_last else x
    y = b.add("GroupNormalization", x, gamma, beta, num_groups=attrs.groups, epsilon=attrs.epsilon)
    y = b.add("Swish", y) if attrs.activation else y
    return (b.add("Cast", around(y), to=total.dtype), total)[: call.n_outputs]


_GROUP = {
    "groups": Attr(int),
    "activation": Attr(int, choices=(0, 1)),
    "epsilon": Attr(float, 1e-5),
    "channels_last": Attr(bool, True),
}
_IMAGE, _EIGHT = Tensor((2, 3, 4, 8)), Tensor((8,))
contrib(
    "GroupNorm",
    "x gamma beta",
    _group_type,
    lambda *arrays, **attrs: _group_reference(*arrays, **attrs)[0],
    _expand_group,
    [
        Case((_IMAGE, _EIGHT, _EIGHT), {"groups": 4, "activation": 1}),
        Case((Tensor((2, 8, 3, 4)), _EIGHT, _EIGHT), {"groups": 2, "activation": 0, "channels_last": False}),
    ],
    _GROUP,
    tolerance=1e-4,  # as GroupNormalization
)
contrib(
    "SkipGroupNorm",
    "x gamma beta skip bias?",
    _group_type,
    _group_reference,
    _expand_group,
    [
        Case((_IMAGE, _EIGHT, _EIGHT, _IMAGE, _EIGHT), {"groups": 4, "activation": 1}, 2),
        Case((_IMAGE, _EIGHT, _EIGHT, Tensor((2, 8))), {"groups": 4, "activation": 0}),
        Case(
            (Tensor((2, 8, 3, 4)), _EIGHT, _EIGHT, Tensor((2, 8, 1, 1)), _EIGHT),
            {"groups": 2, "activation": 0, "channels_last": False},
            2,
        ),
    ],
    _GROUP,
    ("y", "sum"),
    tolerance=1e-4,
)
