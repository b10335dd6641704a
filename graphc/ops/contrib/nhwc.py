"""Convolutions and pools of com.ms.internal.nhwc, ONNX Runtime's own: ai.onnx's on feature maps [N, *space, C]."""

from __future__ import annotations

from graphc.graph import Builder, Value
from graphc.op import Call, Case, Op, Tensor, get_op
from graphc.ops.contrib.channels_last import channels_first, emit_channels_first, require_space
from graphc.ops.contrib.record import composed


def _channels_last(name: str, *uses: tuple[tuple[int, ...], tuple[tuple[int, ...], ...], dict]) -> None:
    """The operator with its first operand and its result channels last; weights are as ai.onnx has them."""
    record, macs = get_op(name), get_op(name).macs

    def expand(b: Builder, call: Call) -> Value:
        x, *others = call.inputs
        return emit_channels_first(b, x, True, lambda v: b.add(record, v, *others, **call.attrs))

    def reference(x, *others, **attrs):
        return channels_first(x, True, lambda v: record.reference(v, *others, **attrs))

    composed(
        name,
        " ".join(record.inputs),
        reference,
        expand,
        [Case((Tensor(x), *map(Tensor, others)), attrs) for x, others, attrs in uses],
        record.attrs,
        check=require_space,
        domain="com.ms.internal.nhwc",
        tolerance=record.tolerance,
        macs=macs and (lambda call: macs(_as_first(record, call))),
    )


def _as_first(record: Op, call: Call) -> Call:
    """The call on [N, C, *space], for what it costs."""
    x = call.inputs[0]
    n, *space, c = x.shape
    return Call(record, (Value(x.name, x.type.with_shape((n, c, *space))), *call.inputs[1:]), call.attrs, 1)


_AROUND = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
_channels_last(
    "Conv",
    ((1, 6, 7, 4), ((5, 4, 3, 3), (5,)), {"pads": (1, 1, 1, 1)}),
    ((2, 9, 4), ((6, 2, 3),), {"group": 2, "strides": (2,)}),
)
_channels_last("ConvTranspose", ((1, 5, 4, 3), ((3, 2, 3, 3), (2,)), {"strides": (2, 2)}))
_channels_last("MaxPool", ((1, 6, 7, 4), (), {**_AROUND, "strides": (2, 2)}))
_channels_last("AveragePool", ((1, 6, 7, 4), (), {**_AROUND, "count_include_pad": True}), ((1, 6, 7, 4), (), _AROUND))
_channels_last("GlobalAveragePool", ((2, 6, 7, 4), (), {}))
_channels_last("GlobalMaxPool", ((2, 6, 7, 4), (), {}))
