"""DynamicQuantizeLSTM: an LSTM with 8-bit weights, whose input and state are quantised while it runs."""

from __future__ import annotations

import numpy as np

from graphc.op import Call, Case, Const, Family, Op, Samples, Tensor, get_op, register
from graphc.ops.contract import differ, require_dtype
from graphc.ops.contrib.record import DOMAIN
from graphc.ops.recurrent import lstm_reference
from graphc.types import TensorType

_INPUTS = "x w r b? sequence_lens? initial_h? initial_c? p? w_scale w_zero_point r_scale r_zero_point"
_LSTM = get_op("LSTM")
_ATTRS = {k: v for k, v in _LSTM.attrs.items() if k != "layout"}


def _infer(call: Call) -> list[TensorType]:
    """As LSTM, with W [directions, inputs, 4·hidden] and R [directions, hidden, 4·hidden]."""
    require_dtype(call, 0, ("float32",))
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
    from graphc.graph import Value

    d, rows, columns = call.shape(i)
    return Value(call.inputs[i].name, TensorType(np.float32, (d, columns, rows)))


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


def _case(directions: int = 1, per_column: bool = False, dtype: str = "int8", **attrs) -> Case:
    rng, d = np.random.default_rng(directions), directions
    low = -100 if dtype == "int8" else 0
    weights = [Const(rng.integers(low, 100, (d, n, 16)), dtype) for n in (5, 4)]
    shape = (d, 16) if per_column else (d,)
    scale, zero = Const(rng.uniform(0.005, 0.01, shape), "float32"), Const(np.zeros(shape), dtype)
    return Case(
        (Tensor((3, 2, 5)), *weights, None, None, None, None, None, scale, zero, scale, zero),
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
        samples=Samples(
            ("float32",), -1.0, 1.0, (_case(), _case(2, True, direction="bidirectional"), _case(dtype="uint8"))
        ),
        tolerance=1e-2,  # an element that lies between two steps of 8 bits may round either way
        family=Family.RECURRENT,
    )
)
