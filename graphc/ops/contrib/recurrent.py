"""DynamicQuantizeLSTM: an LSTM with 8-bit weights, whose input and state are quantised while it runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.graph import Builder, Graph, Value
from graphc.op import Call, Case, Const, Family, Op, Samples, Tensor, get_op, register
from graphc.ops.contract import differ, require_dtype
from graphc.ops.contrib.record import DOMAIN
from graphc.ops.recurrent import lstm_reference
from graphc.types import TensorType, number

_INPUTS = "x w r b? sequence_lens? initial_h? initial_c? p? w_scale w_zero_point r_scale r_zero_point"
_LSTM = get_op("LSTM")
_ATTRS = {k: v for k, v in _LSTM.attrs.items() if k != "layout"}


def _infer(call: Call) -> list[TensorType]:
    """As LSTM, with W [directions, inputs, 4·hidden] and R [directions, hidden, 4·hidden]."""
    require_dtype(call, 0, ("float32", "float64"))
    for i in (1, 2):
        require_dtype(call, i, ("int8", "uint8"))
        if call.rank(i) != 3:
            raise call.fail(f"operand {call.op.inputs[i]} has shape {call.shape(i)}, not three axes")
    for i in (8, 10):
        weights, scale, zero = call.shape(i // 2 - 3), call.shape(i), call.shape(i + 1)
        if (
            len(scale) != len(zero)
            or any(map(differ, scale, zero))
            or len(scale) not in (1, 2)
            or differ(scale[0], weights[0])
        ):
            name = call.op.inputs[i]
            raise call.fail(
                f"'{name}' has shape {scale}, its zero point {zero}", "one per direction, or per column too"
            )
    wide = [call.inputs[0], *(_transposed(call, i) for i in (1, 2)), *call.inputs[3:8]]
    attrs = {**call.attrs, "layout": 0}
    return list(_LSTM.infer(Call(_LSTM, wide, attrs, call.n_outputs)))


def _transposed(call: Call, i: int):
    """The weights as LSTM has them, for its type rule."""
    d, rows, columns = call.shape(i)
    return Value(call.inputs[i].name, TensorType(call.dtype(0), (d, columns, rows)))


def _dequantized(q: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """[directions, rows, columns] with one scale per direction, or per direction and column; then as LSTM has them."""
    shape = (len(q), 1, -1)
    return ((q.astype(np.float32) - zero.reshape(shape).astype(np.float32)) * scale.reshape(shape)).swapaxes(1, 2)


def _quantized(x: np.ndarray) -> np.ndarray:
    """x rounded to 8 bits over its whole range, as DynamicQuantizeLinear does, and back."""
    dynamic = get_op("DynamicQuantizeLinear")
    q, scale, zero = dynamic.reference(x.astype(np.float32))
    return ((q.astype(x.dtype) - zero.astype(x.dtype)) * scale).astype(x.dtype)


def _reference(x, w, r, b, lens, h0, c0, p, w_scale, w_zero, r_scale, r_zero, **attrs):
    """X is quantised once, over all steps; H once per step, over the batch.

    ONNX Runtime does so on one thread; on several, each takes some rows of the batch and quantises those by their own range.
    A sequence that has ended counts with its last H for one step, then with zeros.
    """
    w, r = (_dequantized(*args).astype(x.dtype) for args in ((w, w_scale, w_zero), (r, r_scale, r_zero)))
    return lstm_reference(_quantized(x), w, r, b, lens, h0, c0, p, layout=0, rounded=_quantized, **attrs)


def _expand(b: Builder, call: Call) -> tuple[Value, ...] | None:
    """A Scan for each direction. None for lengths of sequences, peepholes, a clip, and activations of one's own."""
    attrs = call.attrs
    if call.has(4) or call.has(7) or attrs.clip is not None or attrs.input_forget or not _usual(attrs.activations):
        return None
    attrs.ignore("activation_alpha", "activation_beta")  # the usual activations have none
    x, w, r, bias, _, h0, c0, _, *quantization = call.inputs
    hidden = number(call.shape(2)[1])
    codes = _codes(b, x)
    runs = []
    for d in range(number(call.shape(1)[0])):
        weights, again, *scales = (_of_direction(b, v, d) for v in (w, r, *quantization))
        inputs = _scaled_product(b, *codes, weights, *scales[:2])
        if call.has(3):
            halves = b.add("Split", _of_direction(b, bias, d), b.constant([4 * hidden] * 2, np.int64), outputs=2)
            inputs = b.add("Add", inputs, b.add("Add", *halves))
        states = [_of_direction(b, v, d) if v is not None else _nothing(b, x, hidden) for v in (h0, c0)]
        back = attrs.direction == "reverse" or d == 1
        captures = (again, *scales[2:])
        runs.append(
            b.add(
                "Scan", *states, inputs, *captures, outputs=3, body=_step(states, inputs, captures), n_states=2,
                num_scan_inputs=1, scan_input_directions=[int(back)], scan_output_directions=[int(back)],
            )
        )  # fmt: skip
    h, c, y = zip(*runs)
    return tuple(_stacked(b, values, axis) for values, axis in ((y, 1), (h, 0), (c, 0)))[: call.n_outputs]


def _usual(activations) -> bool:
    return activations is None or all(a.lower() == u for a, u in zip(activations, ("sigmoid", "tanh", "tanh") * 2))


def _of_direction(b: Builder, v: Value, d: int) -> Value:
    return b.add("Gather", v, b.constant(d, np.int64), axis=0)


def _nothing(b: Builder, x: Value, hidden: int) -> Value:
    """Zeros [batch, hidden]."""
    shape = b.add("Concat", b.add("Shape", x, start=1, end=2), b.constant([hidden], np.int64), axis=0)
    return b.add("Expand", b.constant(0, x.dtype), shape, types=[TensorType(x.dtype, (x.shape[1], hidden))])


def _codes(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """Codes, scale and zero point, as `_quantized` has them."""
    q, scale, zero = b.add("DynamicQuantizeLinear", b.add("Cast", x, to=np.float32), outputs=3)
    return q, b.add("Cast", scale, to=x.dtype), zero


def _scaled_product(b: Builder, q: Value, scale: Value, zero: Value, w: Value, w_scale: Value, w_zero: Value) -> Value:
    """The product of what two operands of codes stand for."""
    total = b.add("Cast", b.add("MatMulInteger", q, w, zero, w_zero), to=scale.dtype)
    return b.add("Mul", total, b.add("Mul", scale, b.add("Cast", w_scale, to=scale.dtype)))


def _step(states: Sequence[Value], inputs: Value, captures: Sequence[Value]) -> Graph:
    """H, C, what the step's input adds to the gates, R with its scale and zero point -> H, C, H."""
    b = Builder("step")
    h, c = (b.input(name, v.dtype, v.shape) for name, v in zip("hc", states))
    gates = b.input("x", inputs.dtype, inputs.shape[1:])
    weights = [b.input(name, v.dtype, v.shape) for name, v in zip(("r", "scale", "zero"), captures)]
    again = _scaled_product(b, *_codes(b, h), *weights)
    parts = b.add("Split", b.add("Add", gates, again), outputs=4, axis=1, num_outputs=4)
    i, o, f = (b.add("Sigmoid", z) for z in parts[:3])
    new = b.add("Add", b.add("Mul", f, c), b.add("Mul", i, b.add("Tanh", parts[3])))
    out = b.add("Mul", o, b.add("Tanh", new))
    return b.build({"h_next": out, "c_next": new, "y": out})


def _stacked(b: Builder, values: Sequence[Value], axis: int) -> Value:
    parts = [b.add("Unsqueeze", v, b.constant([axis], np.int64)) for v in values]
    return parts[0] if len(parts) == 1 else b.add("Concat", *parts, axis=axis)


def _case(directions: int = 1, per_column: bool = False, dtype: str = "int8", given: bool = False, **attrs) -> Case:
    """given: bias and first states, too."""
    rng, d = np.random.default_rng(directions), directions
    low = -100 if dtype == "int8" else 0
    weights = [Const(rng.integers(low, 100, (d, n, 16)), dtype) for n in (5, 4)]
    shape = (d, 16) if per_column else (d,)
    scale, zero = Const(rng.uniform(0.005, 0.01, shape), "float32"), Const(np.zeros(shape), dtype)
    others = (Tensor((d, 32)), None, Tensor((d, 2, 4)), Tensor((d, 2, 4)), None) if given else (None,) * 5
    return Case(
        (Tensor((3, 2, 5)), *weights, *others, scale, zero, scale, zero),
        {"hidden_size": 4, **attrs},
        3,
    )


register(
    Op(
        f"{DOMAIN}::DynamicQuantizeLSTM",
        tuple(_INPUTS.split()),
        _infer,
        _reference,
        _ATTRS,
        ("y", "y_h", "y_c"),
        expand=_expand,
        samples=Samples(
            ("float32",),
            -1.0,
            1.0,
            (
                _case(),
                _case(2, True, direction="bidirectional"),
                _case(dtype="uint8", given=True),
                _case(2, given=True, direction="bidirectional"),
                _case(direction="reverse", given=True),
                _case(clip=0.5),
            ),
        ),
        tolerance=1e-2,  # an element that lies between two steps of 8 bits may round either way
        family=Family.RECURRENT,
    )
)
