"""Operators in the forms of every opset: what a file says, and what it means by the standard's text of that opset.

Results are formulas of this module; `tests/frontends/test_onnx_versions.py` runs them and checks that no change of the standard
is left out.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphc import frontends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 4, 4)).astype(np.float32)
M = RNG.normal(size=(3, 4)).astype(np.float32)
CHANNEL = RNG.uniform(0.5, 1.5, 6).astype(np.float32)
F32, I64 = np.float32, np.int64


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def flat(f, x, axis=1):
    return f(x.reshape(int(np.prod(x.shape[:axis])), -1), 1).reshape(x.shape)


def hardmax(x, axis):
    return np.eye(x.shape[axis], dtype=x.dtype)[x.argmax(axis)]


def batch_norm(x, scale, bias, mean, var, epsilon=1e-5):
    return (x - mean) / np.sqrt(var + epsilon) * scale + bias


def column(a):
    return a.reshape(-1, 1, 1)


def group_norm(x, scale, bias, groups):
    g = x.reshape(x.shape[0], groups, -1)
    g = (g - g.mean(2, keepdims=True)) / np.sqrt(g.var(2, keepdims=True) + 1e-5)
    return (g * scale[None, :, None] + bias[None, :, None]).reshape(x.shape)


def enlarge(x, k=2):
    return x.repeat(k, 2).repeat(k, 3)


SLOPE = np.float32([[0.5]])
PLANE = RNG.uniform(0.5, 1.5, (6, 4, 4)).astype(np.float32)
GROUP = np.float32([1, 2, 3])
NEAREST = np.float32([1, 1, 2, 2])
SHRINK = np.float32([1, 1, 0.6, 0.6])
ROW = X[:1, :1]
FLOOR = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
SCATTERED = np.concatenate([F32([[6, M[0, 1], 5, M[0, 3]]]), M[1:]])

# (operator, opset, inputs, attributes, expected). Arrays of the first input are graph inputs, the others initializers.
FORMS = [
    ("Add", 6, [X, CHANNEL], {"axis": 1, "broadcast": 1}, X + column(CHANNEL)),
    ("Sub", 6, [X, M[0]], {"broadcast": 1}, X - M[0]),
    ("Mul", 5, [X, X[0, 0, 0, :1]], {"broadcast": 1, "consumed_inputs": [0, 0]}, X * X[0, 0, 0, 0]),
    ("Pow", 1, [abs(X), CHANNEL], {"axis": -3, "broadcast": 1}, abs(X) ** column(CHANNEL)),
    ("Less", 1, [X, CHANNEL], {"axis": 1, "broadcast": 1}, np.less(X, column(CHANNEL))),
    ("PRelu", 6, [X, CHANNEL], {}, np.where(X < 0, X * column(CHANNEL), X)),
    ("Gemm", 6, [M, M.T, M[:, 0]], {"broadcast": 1, "alpha": 2.0}, 2 * M @ M.T + M[:, 0]),
    ("Relu", 1, [X], {"consumed_inputs": [0]}, np.maximum(X, 0)),
    ("Selu", 1, [M], {}, np.where(M > 0, 1.0507 * M, 1.0507 * (1.6732 * np.exp(M) - 1.6732))),
    ("Clip", 6, [X], {"min": -0.5, "max": 0.5}, X.clip(-0.5, 0.5)),
    ("Clip", 6, [X], {"max": 0.25}, np.minimum(X, 0.25)),
    ("Pad", 1, [M], {"paddings": [0, 1, 0, 2], "value": 3.0}, np.pad(M, ((0, 0), (1, 2)), constant_values=3)),
    ("Pad", 2, [M], {"pads": [1, 0, 0, 2], "mode": "edge"}, np.pad(M, ((1, 0), (0, 2)), "edge")),
    ("Slice", 1, [X], {"starts": [1, -3], "ends": [9, -1], "axes": [1, 3]}, X[:, 1:, :, -3:-1]),
    ("Slice", 9, [M], {"starts": [1, 0], "ends": [3, 2]}, M[1:3, :2]),
    ("Split", 2, [X], {"axis": 1, "split": [1, 2, 3]}, np.split(X, [1, 3], 1)),
    ("Split", 11, [X], {"axis": 1}, np.split(X, 2, 1)),
    ("Split", 13, [X, I64([4, 2])], {"axis": 1}, np.split(X, [4], 1)),
    ("Split", 13, [X], {}, np.split(X, 2, 0)),
    ("Squeeze", 11, [M[None, :, None]], {"axes": [0, -2]}, M),
    ("Squeeze", 1, [M[None]], {}, M),
    ("Unsqueeze", 11, [M], {"axes": [0, -1]}, M[None, :, :, None]),
    ("ReduceSum", 11, [X], {"axes": [1, -1], "keepdims": 0}, X.sum((1, 3))),
    ("ReduceMean", 13, [X], {"axes": [2]}, X.mean(2, keepdims=True)),
    ("ReduceMax", 17, [X], {}, X.max(keepdims=True)),
    ("ReduceL2", 1, [X], {"axes": [3]}, np.sqrt((X * X).sum(3, keepdims=True))),
    ("ReduceLogSumExp", 13, [M], {"axes": [0], "keepdims": 0}, np.log(np.exp(M).sum(0))),
    ("TopK", 1, [M], {"k": 2}, [-np.sort(-M, 1)[:, :2], np.argsort(-M, 1)[:, :2]]),
    ("TopK", 10, [M, I64([1])], {"axis": 0}, [M.max(0, keepdims=True), M.argmax(0)[None]]),
    ("Reshape", 1, [M], {"shape": [2, -1]}, M.reshape(2, 6)),
    ("Reshape", 5, [M, I64([0, 2, 2])], {}, M.reshape(3, 2, 2)),
    ("Tile", 1, [M, F32(3), F32(1)], {}, np.tile(M, (1, 3))),
    ("Tile", 6, [M, I64([2, 1])], {}, np.tile(M, (2, 1))),
    ("Concat", 1, [M, M], {}, np.concatenate([M, M], 1)),
    ("Cast", 1, [M], {"to": "INT32"}, M.astype(np.int32)),
    ("Cast", 6, [M], {"to": TensorProto.DOUBLE}, M.astype(np.float64)),
    ("Dropout", 6, [M], {"is_test": 1, "ratio": 0.3}, M),
    ("Dropout", 7, [M], {}, [M, np.ones_like(M)]),
    ("Dropout", 10, [M], {"ratio": 0.3}, [M, np.ones_like(M, bool)]),
    ("Scatter", 9, [M, I64([[2, 0]]), F32([[5, 6]])], {"axis": 1}, SCATTERED),
    ("Softmax", 11, [X], {}, flat(softmax, X)),
    ("Softmax", 9, [X], {"axis": 2}, flat(softmax, X, 2)),
    ("Softmax", 12, [X], {"axis": 3}, softmax(X, 3)),
    ("Softmax", 10, [M[:0, :1]], {"axis": 0}, M[:0, :1]),
    ("LogSoftmax", 10, [X[:, :0]], {}, X[:, :0]),
    ("Softmax", 13, [X], {}, softmax(X, -1)),
    ("LogSoftmax", 11, [X], {"axis": -2}, np.log(flat(softmax, X, 2))),
    ("Hardmax", 1, [X], {}, flat(hardmax, X)),
    ("BatchNormalization", 6, [X, *[CHANNEL] * 4], {"is_test": 1}, batch_norm(X, *[column(CHANNEL)] * 4)),
    ("BatchNormalization", 9, [X, *[CHANNEL] * 4], {"epsilon": 0.1}, batch_norm(X, *[column(CHANNEL)] * 4, 0.1)),
    ("BatchNormalization", 7, [X, *[PLANE] * 4], {"spatial": 0}, batch_norm(X, *[PLANE] * 4)),
    ("GroupNormalization", 18, [X, GROUP, GROUP], {"num_groups": 3}, group_norm(X, GROUP, GROUP, 3)),
    ("Upsample", 1, [X], {"height_scale": 2.0, "width_scale": 2.0, "mode": "nearest"}, enlarge(X)),
    ("Upsample", 7, [X], {"scales": [1.0, 1.0, 3.0, 3.0]}, enlarge(X, 3)),
    ("Upsample", 9, [X, NEAREST], {"mode": "nearest"}, enlarge(X)),
    ("Upsample", 9, [F32([[[[0, 1]]]]), F32([1, 1, 1, 2])], {"mode": "linear"}, F32([[[[0, 0.5, 1, 1]]]])),
    ("Resize", 10, [X, NEAREST], {}, enlarge(X)),
    ("Resize", 10, [ROW, SHRINK], {}, ROW[:, :, ::2, ::2]),  # floor(4·0.6) = 2 of each: rows 0 and ceil(1/0.6) = 2
    ("Resize", 11, [X, F32([]), NEAREST], FLOOR, enlarge(X)),
]  # fmt: skip


# --- recurrent layers, of one direction -------------------------------------------------------------------------------
SEQUENCE, W_REC, R_REC, B_REC = (
    RNG.uniform(-1, 1, s).astype(np.float32) for s in ((3, 2, 4), (1, 20, 4), (1, 20, 5), (1, 40))
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def recurrent(op, x, w, r, b, linear_before_reset=0):
    """Y and Y_h of x [time, batch, input], 5 wide; w, r, b without their axis of directions."""
    w, r, (wb, rb) = np.split(w, len(w) // 5), np.split(r, len(r) // 5), np.split(b, 2)
    wb, rb = (np.split(v, len(w)) for v in (wb, rb))
    h = c = np.zeros((x.shape[1], 5))
    rows = []
    for step in x:
        gates = [step @ a.T + d for a, d in zip(w, wb)]
        back = [h @ a.T + d for a, d in zip(r, rb)]
        if op == "RNN":
            h = np.tanh(gates[0] + back[0])
        elif op == "GRU":
            z, reset = (sigmoid(gates[i] + back[i]) for i in range(2))
            held = reset * back[2] if linear_before_reset else (reset * h) @ r[2].T + rb[2]
            h = (1 - z) * np.tanh(gates[2] + held) + z * h
        else:
            i, o, f = (sigmoid(gates[k] + back[k]) for k in range(3))
            c = f * c + i * np.tanh(gates[3] + back[3])
            h = o * np.tanh(c)
        rows.append(h)
    return np.stack(rows).astype(np.float32), h.astype(np.float32)


def layers():
    """RNN, GRU and LSTM in each version that changed them."""
    for op, n in (("RNN", 5), ("GRU", 15), ("LSTM", 20)):
        w, r, b = W_REC[:, :n], R_REC[:, :n], B_REC[:, : 2 * n]
        y, last = recurrent(op, SEQUENCE, w[0], r[0], b[0])
        inputs, size = [SEQUENCE, w, r, b], {"hidden_size": 5}
        want = [y[:, None], last[None]]
        yield op, 1, inputs, {**size, "output_sequence": 1}, want
        yield op, 7, inputs, size, want
        turned = [SEQUENCE.swapaxes(0, 1).copy(), *inputs[1:]]
        yield op, 14, turned, {**size, "layout": 1}, [y[:, None].transpose(2, 0, 1, 3), last[:, None]]
        if op == "GRU":
            y, last = recurrent(op, SEQUENCE, w[0], r[0], b[0], 1)
            yield op, 3, inputs, {**size, "linear_before_reset": 1, "output_sequence": 1}, [y[:, None], last[None]]


# --- what the rows below say ------------------------------------------------------------------------------------------
A3, ROW4 = RNG.uniform(0.5, 2, (2, 3, 4)).astype(np.float32), RNG.uniform(0.5, 2, 4).astype(np.float32)
COLUMN3 = RNG.uniform(0.5, 2, 3).astype(np.float32)
TIES = F32([[1, 3, 3, 0], [2, 2, 1, 2]])
LINE = F32([[[1, 2, 3, 4, 5]]])
MARKS = I64([0, -1, 2])
Q, K, V = (RNG.uniform(-1, 1, (1, 1, s, 4)).astype(np.float32) for s in (2, 3, 3))
FLOAT8 = TensorProto.FLOAT8E4M3FN


def attention(keep):
    """Of Q, K and V where keep [query, key] is true."""
    scores = np.where(keep, Q[0, 0] @ K[0, 0].T / 2, -np.inf)
    return (softmax(scores, 1) @ V[0, 0])[None, None].astype(np.float32)


def eight(*numbers):
    return np.array(numbers, dtype=ml_dtypes.float8_e4m3fn)


def limited_broadcasts():
    """Below opset 7 B's dims began at an axis of A; from there on they end where A's do."""
    arithmetic = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power}
    logic = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
    compared = {"Greater": np.greater, "Less": np.less, "Equal": np.equal}
    for op, f in (arithmetic | logic | compared).items():
        a, b = (A3, COLUMN3) if op in arithmetic else (A3 > 1, COLUMN3 > 1)
        if op in compared:
            a, b = (np.round(v).astype(np.int32 if op == "Equal" else np.float32) for v in (A3, COLUMN3))
        yield op, 6 if op in ("Add", "Sub", "Mul", "Div") else 1, [a, b], {"axis": 1, "broadcast": 1}, f(a, b[:, None])
        yield op, 7, [a, b[:, None]], {}, f(a, b[:, None])


def reductions():
    """Axes became an operand, and without any, all or none are reduced."""
    sums = {
        "ReduceSum": np.sum,
        "ReduceMean": np.mean,
        "ReduceProd": np.prod,
        "ReduceMax": np.max,
        "ReduceMin": np.min,
        "ReduceL1": lambda x, axis, keepdims: np.abs(x).sum(axis, keepdims=keepdims),
        "ReduceL2": lambda x, axis, keepdims: np.sqrt(np.square(x).sum(axis, keepdims=keepdims)),
        "ReduceSumSquare": lambda x, axis, keepdims: np.square(x).sum(axis, keepdims=keepdims),
        "ReduceLogSum": lambda x, axis, keepdims: np.log(x.sum(axis, keepdims=keepdims)),
        "ReduceLogSumExp": lambda x, axis, keepdims: np.log(np.exp(x).sum(axis, keepdims=keepdims)),
    }
    for op, f in sums.items():
        after = 13 if op == "ReduceSum" else 18
        for axes in ([1], [0, 2]):
            yield op, after - 1, [A3], {"axes": axes, "keepdims": 0}, f(A3, axis=tuple(axes), keepdims=False)
            yield op, after, [A3, I64(axes)], {"keepdims": 0}, f(A3, axis=tuple(axes), keepdims=False)
        yield op, after - 1, [A3], {}, f(A3, axis=None, keepdims=True)
        yield op, after, [A3], {}, f(A3, axis=None, keepdims=True)
        yield op, after, [A3, I64([])], {}, f(A3, axis=None, keepdims=True)
        alone = f(A3[None], axis=0, keepdims=False)  # over no axes: each element by itself
        yield op, after, [A3, I64([])], {"noop_with_empty_axes": 1}, alone
        yield op, after, [A3], {"noop_with_empty_axes": 1}, alone


MORE = [
    *limited_broadcasts(),
    *reductions(),
    *layers(),
    ("ArgMax", 11, [TIES], {"axis": 1}, I64([[1], [0]])),
    ("ArgMax", 12, [TIES], {"axis": 1, "select_last_index": 1}, I64([[2], [3]])),
    ("ArgMin", 11, [-TIES], {"axis": 1, "keepdims": 0}, I64([1, 0])),
    ("ArgMin", 12, [-TIES], {"axis": 1, "keepdims": 0, "select_last_index": 1}, I64([2, 3])),
    ("Attention", 23, [Q, K, V], {}, attention(np.ones((2, 3)))),
    ("Attention", 23, [Q, K, V], {"is_causal": 1}, attention(np.tri(2, 3))),
    ("Attention", 24, [Q, K, V, None, None, None, I64([2])], {}, attention(np.arange(3) < [[2], [2]])),
    ("Attention", 24, [Q, K, V, None, None, None, I64([3])], {"is_causal": 1}, attention(np.tri(2, 3, 1))),
    ("Attention", 25, [Q, K, V], {"left_window_size": 0, "right_window_size": 0}, attention(np.eye(2, 3))),
    ("AveragePool", 1, [LINE], {"kernel_shape": [2], "pads": [1, 1]}, F32([[[1, 1.5, 2.5, 3.5, 4.5, 5]]])),
    ("AveragePool", 7, [LINE], {"kernel_shape": [2], "pads": [1, 0], "count_include_pad": 1},
     F32([[[0.5, 1.5, 2.5, 3.5, 4.5]]])),
    ("AveragePool", 7, [LINE], {"kernel_shape": [2], "strides": [2]}, F32([[[1.5, 3.5]]])),
    ("AveragePool", 10, [LINE], {"kernel_shape": [2], "strides": [2], "ceil_mode": 1}, F32([[[1.5, 3.5, 5]]])),
    ("AveragePool", 11, [LINE], {"kernel_shape": [2]}, F32([[[1.5, 2.5, 3.5, 4.5]]])),
    ("AveragePool", 19, [LINE], {"kernel_shape": [2], "dilations": [3]}, F32([[[2.5, 3.5]]])),
    *((op, v, [LINE], {"kernel_shape": [3], "strides": [3], "pads": [0, 2], "ceil_mode": 1}, want) for op, want, versions in (
        ("AveragePool", F32([[[2, 4.5]]]), (19, 22)), ("MaxPool", F32([[[3, 5]]]), (12, 22))) for v in versions),
    ("BatchNormalization", 15, [X, *[CHANNEL] * 4], {}, batch_norm(X, *[column(CHANNEL)] * 4)),
    ("BatchNormalization", 14, [X, *[CHANNEL] * 4], {}, batch_norm(X, *[column(CHANNEL)] * 4)),
    ("BatchNormalization", 14, [X, *[CHANNEL] * 4], {"training_mode": 1, "momentum": 0.75}, [
        batch_norm(X, column(CHANNEL), column(CHANNEL), X.mean((0, 2, 3), keepdims=True)[0], column(X.var((0, 2, 3)))),
        0.75 * CHANNEL + 0.25 * X.mean((0, 2, 3)), 0.75 * CHANNEL + 0.25 * X.var((0, 2, 3))]),
    ("Cast", 13, [F32([1.5, -2.5, 300])], {"to": TensorProto.INT32}, np.int32([1, -2, 300])),
    ("Cast", 19, [F32([1, 1000])], {"to": FLOAT8}, eight(1, 448)),
    ("Cast", 19, [F32([1, 1000])], {"to": FLOAT8, "saturate": 0}, eight(1, np.nan)),
    ("Cast", 23, [F32([1, 1000])], {"to": FLOAT8}, eight(1, 448)),
    ("Cast", 24, [F32([1, 3])], {"to": TensorProto.FLOAT8E8M0}, np.array([1, 4], ml_dtypes.float8_e8m0fnu)),
    ("Cast", 24, [F32([1, 3.5])], {"to": TensorProto.FLOAT8E8M0, "round_mode": "down"},
     np.array([1, 2], ml_dtypes.float8_e8m0fnu)),
    ("CastLike", 15, [F32([1.5, -2.5]), np.int32([0])], {}, np.int32([1, -2])),
    ("CastLike", 19, [F32([1, 1000]), eight(0)], {}, eight(1, 448)),
    ("CastLike", 19, [F32([1, 1000]), eight(0)], {"saturate": 0}, eight(1, np.nan)),
    ("CastLike", 23, [F32([1.5, -2.5]), np.int32([0])], {}, np.int32([1, -2])),
    ("CastLike", 24, [F32([1, 3.5]), np.array([1], ml_dtypes.float8_e8m0fnu)], {"round_mode": "down"},
     np.array([1, 2], ml_dtypes.float8_e8m0fnu)),
    ("Clip", 1, [M], {"min": -0.5}, np.maximum(M, -0.5)),
    ("Clip", 11, [M, F32(-0.5), F32(0.5)], {}, M.clip(-0.5, 0.5)),
    ("Clip", 11, [M, None, F32(0.5)], {}, np.minimum(M, 0.5)),
    ("Concat", 4, [M, M], {"axis": 0}, np.concatenate([M, M])),
    ("ConvTranspose", 1, [LINE, F32([[[1, 10]]])], {"strides": [2], "output_padding": [1]},
     F32([[[1, 10, 2, 20, 3, 30, 4, 40, 5, 50, 0]]])),
    ("ConvTranspose", 11, [LINE, F32([[[1, 10, 100]]])], {"auto_pad": "SAME_UPPER", "strides": [2]},
     F32([[[1, 10, 102, 20, 203, 30, 304, 40, 405, 50]]])),
    ("Conv", 1, [LINE, F32([[[1, 10]]])], {"auto_pad": "SAME_LOWER"}, F32([[[10, 21, 32, 43, 54]]])),
    ("Conv", 11, [LINE, F32([[[1, 10]]])], {"auto_pad": "SAME_UPPER"}, F32([[[21, 32, 43, 54, 5]]])),
    ("Gather", 1, [ROW4, I64([2, 0])], {}, ROW4[[2, 0]]),
    ("Gather", 11, [ROW4, I64([-1, 0])], {}, ROW4[[-1, 0]]),
    ("Flatten", 9, [A3], {"axis": 2}, A3.reshape(6, 4)),
    ("Flatten", 11, [A3], {"axis": -2}, A3.reshape(2, 12)),
    ("Softmax", 1, [A3], {}, flat(softmax, A3)),
    ("Softmax", 11, [A3], {"axis": -1}, softmax(A3, 2)),
    ("EyeLike", 9, [M], {"k": 1}, np.eye(3, 4, 1, dtype=F32)),
    ("EyeLike", 22, [M], {"k": 1, "dtype": TensorProto.DOUBLE}, np.eye(3, 4, 1)),
    ("DFT", 17, [LINE[..., None]], {}, np.stack([LINE, 0 * LINE], -1)),  # over axis 1, which has one element
    ("DFT", 20, [LINE[..., None]], {}, np.stack([np.fft.fft(LINE).real, np.fft.fft(LINE).imag], -1).astype(F32)),
    ("DFT", 20, [LINE[..., None], None, I64(1)], {}, np.stack([LINE, 0 * LINE], -1)),
    ("DepthToSpace", 1, [F32(np.arange(8)).reshape(1, 8, 1, 1)], {"blocksize": 2},
     F32([[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]])),
    ("DepthToSpace", 11, [F32(np.arange(8)).reshape(1, 8, 1, 1)], {"blocksize": 2, "mode": "CRD"},
     F32([[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]])),
    ("DequantizeLinear", 10, [np.uint8([[0, 130], [128, 255]]), F32(0.5), np.uint8(128)], {}, F32([[-64, 1], [0, 63.5]])),
    ("DequantizeLinear", 13, [np.int8([[1, 2], [3, 4]]), F32([1, 2])], {}, F32([[1, 4], [3, 8]])),
    ("DequantizeLinear", 13, [np.int8([[1, 2], [3, 4]]), F32([1, 2]), np.int8([0, 1])], {"axis": 0}, F32([[1, 2], [4, 6]])),
    ("DequantizeLinear", 19, [eight(1, 448), F32(0.5)], {}, F32([0.5, 224])),
    ("DequantizeLinear", 21, [np.int8([[1, 2, 3, 4]]), F32([[1, 2]])], {"block_size": 2}, F32([[1, 2, 6, 8]])),
    ("DequantizeLinear", 23, [np.int8([1, 2]), F32(0.5)], {"output_dtype": TensorProto.FLOAT16}, np.float16([0.5, 1])),
    ("QuantizeLinear", 10, [F32([0.5, 1.5, -9, 2.6]), F32(1), np.uint8(3)], {}, np.uint8([3, 5, 0, 6])),
    ("QuantizeLinear", 13, [F32([[2, 2], [4, 400]]), F32([1, 2]), np.int8([0, 1])], {}, np.int8([[2, 2], [4, 127]])),
    ("QuantizeLinear", 13, [F32([[2, 2], [4, 4]]), F32([1, 2])], {"axis": 0}, np.uint8([[2, 2], [2, 2]])),
    ("QuantizeLinear", 19, [F32([1, 1000]), F32(1), eight(0)[0]], {}, eight(1, 448)),
    ("QuantizeLinear", 19, [F32([1, 1000]), F32(1), eight(0)[0]], {"saturate": 0}, eight(1, np.nan)),
    ("QuantizeLinear", 21, [F32([[2, 2, 4, 4]]), F32([[1, 2]])], {"block_size": 2}, np.uint8([[2, 2, 2, 2]])),
    ("QuantizeLinear", 21, [F32([2, -300]), F32(1)], {"output_dtype": TensorProto.INT16}, np.int16([2, -300])),
    ("QuantizeLinear", 23, [F32([2.5, 3]), F32(2)], {"precision": TensorProto.FLOAT}, np.uint8([1, 2])),
    ("Dropout", 12, [M], {}, M),
    ("Dropout", 12, [M, F32(0.3), np.bool_(False)], {}, [M, np.ones_like(M, bool)]),
    ("Dropout", 12, [M, F32(0.0), np.bool_(True)], {}, [M, np.ones_like(M, bool)]),
    ("Dropout", 7, [M], {"ratio": 0.3}, M),
    ("GatherND", 11, [A3, I64([[0, 1], [1, 2]])], {}, A3[[0, 1], [1, 2]]),
    ("GatherND", 12, [A3, I64([[1], [2]])], {"batch_dims": 1}, A3[[0, 1], [1, 2]]),
    ("Gemm", 7, [M, M.T.copy(), M[:, 0].copy()], {"beta": 0.5}, M @ M.T + 0.5 * M[:, 0]),
    ("Gemm", 9, [M, M, M[:, 0].copy()], {"transB": 1}, M @ M.T + M[:, 0]),
    ("Gemm", 11, [M, M.T.copy()], {}, M @ M.T),
    ("GlobalLpPool", 1, [LINE], {"p": 1.0}, F32([[[15]]])),
    ("GlobalLpPool", 1, [LINE], {}, np.sqrt(F32([[[55]]]))),
    ("GlobalLpPool", 2, [LINE], {"p": 1}, F32([[[15]]])),
    ("LpPool", 1, [LINE], {"kernel_shape": [3], "p": 1.0}, F32([[[6, 9, 12]]])),
    ("LpPool", 2, [LINE], {"kernel_shape": [3], "p": 1}, F32([[[6, 9, 12]]])),
    ("LpPool", 11, [LINE], {"kernel_shape": [3]}, np.sqrt(F32([[[14, 29, 50]]]))),
    ("LpPool", 18, [LINE], {"kernel_shape": [2], "dilations": [3], "p": 1}, F32([[[5, 7]]])),
    ("LpPool", 18, [LINE], {"kernel_shape": [2], "strides": [2], "ceil_mode": 1, "p": 1}, F32([[[3, 7, 5]]])),
    ("GridSample", 16, [LINE[:, :, None], F32([[[[-0.5, 0], [0, 0]]]])], {"align_corners": 1}, F32([[[[2, 3]]]])),
    ("GridSample", 16, [LINE[:, :, None], F32([[[[-0.75, 0]]]])], {"mode": "bilinear", "align_corners": 1},
     F32([[[[1.5]]]])),
    ("GridSample", 20, [LINE[:, :, None], F32([[[[-0.75, 0]]]])], {"mode": "linear", "align_corners": 1}, F32([[[[1.5]]]])),
    ("GridSample", 20, [LINE[:, :, None], F32([[[[-0.75, 0]]]])], {"align_corners": 1}, F32([[[[1.5]]]])),
    ("GroupNormalization", 21, [X, CHANNEL, CHANNEL], {"num_groups": 3},
     group_norm(X, GROUP / GROUP, 0 * GROUP, 3) * column(CHANNEL) + column(CHANNEL)),
    ("Softmax", 13, [X], {"axis": 1}, softmax(X, 1)),
    ("LogSoftmax", 13, [X], {}, np.log(softmax(X, -1))),
    ("Hardmax", 11, [X], {"axis": -2}, flat(hardmax, X, 2)),
    ("Hardmax", 13, [X], {}, hardmax(X, -1)),
    ("MaxPool", 1, [LINE], {"kernel_shape": [2], "strides": [2]}, F32([[[2, 4]]])),
    ("MaxPool", 8, [LINE], {"kernel_shape": [2], "strides": [2]}, [F32([[[2, 4]]]), I64([[[1, 3]]])]),
    ("MaxPool", 8, [M[None, None]], {"kernel_shape": [3, 4], "storage_order": 1},
     [M.max(keepdims=True)[None, None], I64(np.ravel(M.T).argmax()).reshape(1, 1, 1, 1)]),
    ("MaxPool", 10, [LINE], {"kernel_shape": [2], "strides": [2], "ceil_mode": 1}, F32([[[2, 4, 5]]])),
    ("MaxPool", 10, [-LINE], {"kernel_shape": [2], "dilations": [2]}, F32([[[-1, -2, -3]]])),
    ("Mod", 10, [I64([-7, 7, -8]), I64([3, -3, 4])], {}, I64([2, -2, 0])),
    ("Mod", 10, [I64([-7, 7, -8]), I64([3, -3, 4])], {"fmod": 1}, I64([-1, 1, 0])),
    ("Mod", 13, [F32([-7.5, 7.5]), F32([2, -2])], {"fmod": 1}, F32([-1.5, 1.5])),
    ("Mod", 28, [F32([-7.5, 7.5, 1]), F32([2, -2, np.inf])], {}, F32([0.5, -0.5, 1])),
    ("Mod", 28, [F32([-7.5, 7.5]), F32([2, -2])], {"fmod": 1}, F32([-1.5, 1.5])),
    ("OneHot", 9, [MARKS, I64(3), F32([0, 5])], {}, F32([[5, 0, 0], [0, 0, 0], [0, 0, 5]])),  # -1 is out of range
    ("OneHot", 10, [F32([0, -1, 3]), F32([3]), F32([1, 5])], {"axis": 0}, F32([[5, 1, 1], [1, 1, 1], [1, 1, 1]])),
    ("OneHot", 11, [MARKS, I64(3), F32([0, 5])], {}, F32([[5, 0, 0], [0, 0, 5], [0, 0, 5]])),  # -1 is the last
    ("Pad", 11, [M, I64([1, 0, 0, 2]), F32(3)], {}, np.pad(M, ((1, 0), (0, 2)), constant_values=3)),
    ("Pad", 13, [M, I64([1, 0, -1, 2])], {"mode": "reflect"}, np.pad(M, ((1, 0), (0, 2)), "reflect")[:-1]),
    ("Pad", 18, [M, I64([1, 2]), F32(3), I64([-1])], {}, np.pad(M, ((0, 0), (1, 2)), constant_values=3)),
    ("Pad", 19, [M, I64([1, 0, 2, 1])], {"mode": "wrap"}, np.pad(M, ((1, 2), (0, 1)), "wrap")),
    ("Range", 11, [np.int32(2), np.int32(9), np.int32(3)], {}, np.int32([2, 5, 8])),
    ("Range", 27, [np.float16(0), np.float16(1), np.float16(0.1)], {}, F32(np.arange(11) * F32(np.float16(0.1))).astype("f2")),
    ("Reshape", 13, [np.zeros((0, 3), F32), I64([0, 3])], {}, np.zeros((0, 3), F32)),
    ("Reshape", 14, [np.zeros((2, 0), F32), I64([0, 2])], {"allowzero": 1}, np.zeros((0, 2), F32)),
    ("Reshape", 14, [M, I64([0, -1, 2])], {}, M.reshape(3, 2, 2)),
    ("Resize", 10, [F32([[[1, 3]]]), F32([1, 1, 2])], {"mode": "linear"}, F32([[[1, 2, 3, 3]]])),
    ("Resize", 11, [F32([[[1, 3]]]), F32([]), F32([1, 1, 2])], {"mode": "linear"}, F32([[[1, 1.5, 2.5, 3]]])),
    ("Resize", 11, [F32([[[1, 3]]]), F32([]), F32([1, 1, 2])], {"mode": "linear", "coordinate_transformation_mode":
     "align_corners"}, F32([[[1, 5 / 3, 7 / 3, 3]]])),
    ("Resize", 11, [F32([[[1, 3, 5]]]), F32([]), F32([]), I64([1, 1, 2])], {"coordinate_transformation_mode":
     "tf_half_pixel_for_nn", "nearest_mode": "floor"}, F32([[[1, 5]]])),  # (i + 0.5) · 1.5 = 0.75, 2.25
    ("Resize", 13, [F32([[[1, 3]]]), None, F32([1, 1, 2])], {"mode": "linear"}, F32([[[1, 1.5, 2.5, 3]]])),
    ("Resize", 13, [F32([[[1, 3, 5, 7]]]), None, None, I64([1, 1, 2])], {"mode": "linear"}, F32([[[2, 6]]])),
    ("Resize", 18, [F32([[[1, 3, 5, 7]]]), None, F32([0.5])], {"mode": "linear", "axes": [2], "antialias": 1},
     F32([[[(1 + 3 * 1 + 3 * 3 + 5) / 8, (3 + 5 * 3 + 7 * 3 + 7) / 8]]])),  # weights 1, 3, 3, 1 on an edge that goes on
    ("Resize", 18, [X, None, None, I64([8, 12])], {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, enlarge(X)),
    ("Resize", 19, [F32([[[1, 3]]]), None, F32([1, 1, 2])], {"mode": "linear", "coordinate_transformation_mode":
     "half_pixel_symmetric"}, F32([[[1, 1.5, 2.5, 3]]])),
    ("RoiAlign", 10, [LINE[:, :, None].repeat(2, 2), F32([[0, 0, 2, 1]]), I64([0])], {"output_width": 2, "sampling_ratio": 1},
     F32([[[[1.5, 2.5]]]])),  # pixels' corners: samples at 0.5 and 1.5
    ("RoiAlign", 16, [LINE[:, :, None].repeat(2, 2), F32([[0, 0, 2, 1]]), I64([0])], {"output_width": 2, "sampling_ratio": 1},
     F32([[[[1, 2]]]])),  # half a pixel before
    ("RoiAlign", 16, [LINE[:, :, None].repeat(2, 2), F32([[0, 0, 2, 1]]), I64([0])], {"output_width": 2, "sampling_ratio": 1,
     "coordinate_transformation_mode": "output_half_pixel"}, F32([[[[1.5, 2.5]]]])),
    ("ScatterElements", 11, [ROW4, I64([1, -1]), F32([5, 6])], {}, F32([ROW4[0], 5, ROW4[2], 6])),
    ("ScatterElements", 13, [ROW4, I64([1, -1]), F32([5, 6])], {}, F32([ROW4[0], 5, ROW4[2], 6])),
    ("ScatterElements", 16, [ROW4, I64([1, 1]), F32([5, 6])], {"reduction": "add"}, ROW4 + F32([0, 11, 0, 0])),
    ("ScatterElements", 18, [ROW4, I64([1, 1]), F32([5, 6])], {"reduction": "max"}, F32([ROW4[0], 6, *ROW4[2:]])),
    ("ScatterND", 11, [ROW4, I64([[1], [3]]), F32([5, 6])], {}, F32([ROW4[0], 5, ROW4[2], 6])),
    ("ScatterND", 13, [ROW4, I64([[1], [-1]]), F32([5, 6])], {}, F32([ROW4[0], 5, ROW4[2], 6])),
    ("ScatterND", 16, [ROW4, I64([[1], [1]]), F32([5, 6])], {"reduction": "mul"}, ROW4 * F32([1, 30, 1, 1])),
    ("ScatterND", 18, [ROW4, I64([[1], [1]]), F32([0.1, 0.2])], {"reduction": "min"}, F32([ROW4[0], 0.1, *ROW4[2:]])),
    ("Selu", 6, [M], {}, np.where(M > 0, 1.0507009 * M, 1.0507009 * (1.6732632 * np.exp(M) - 1.6732632))),
    ("Shape", 13, [A3], {}, I64([2, 3, 4])),
    ("Shape", 15, [A3], {"start": 1, "end": -1}, I64([3])),
    ("Slice", 10, [X, I64([1, -3]), I64([9, -1]), I64([1, 3]), I64([2, 1])], {}, X[:, 1::2, :, -3:-1]),
    ("Slice", 10, [M, I64([3]), I64([-9]), I64([1]), I64([-2])], {}, M[:, ::-2]),
    ("Split", 1, [X], {"axis": 1, "split": [2, 4]}, np.split(X, [2], 1)),
    ("Split", 18, [X], {"axis": 1, "num_outputs": 4}, [X[:, :2], X[:, 2:4], X[:, 4:], X[:, 6:]]),
    ("Split", 18, [X, I64([1, 5])], {"axis": 1}, np.split(X, [1], 1)),
    ("Squeeze", 13, [M[None, :, None], I64([0])], {}, M[:, None]),
    ("Unsqueeze", 13, [M, I64([-1, 0])], {}, M[None, :, :, None]),
    ("TopK", 10, [M, I64([2])], {}, [-np.sort(-M, 1)[:, :2], np.argsort(-M, 1)[:, :2]]),
    ("TopK", 11, [M, I64([2])], {"largest": 0}, [np.sort(M, 1)[:, :2], np.argsort(M, 1)[:, :2]]),
    *(("Max", v, [A3, A3[::-1].copy()], {}, np.maximum(A3, A3[::-1])) for v in (1, 6)),
    *((op, v, [A3, A3[:1].copy()], {}, f(A3, A3[:1])) for op, f, v in (
        ("Max", np.maximum, 8), ("Min", np.minimum, 8), ("Sum", np.add, 8), ("Mean", lambda a, b: (a + b) / 2, 8))),
    *((op, 6, [A3, A3[::-1].copy()], {}, f(A3, A3[::-1])) for op, f in (
        ("Min", np.minimum), ("Sum", np.add), ("Mean", lambda a, b: (a + b) / 2))),
    ("PRelu", 7, [X, column(CHANNEL)], {}, np.where(X < 0, X * column(CHANNEL), X)),
    ("Constant", 9, [], {"value": numpy_helper.from_array(M)}, M),
    ("Constant", 11, [], {"sparse_value": helper.make_sparse_tensor(
        numpy_helper.from_array(F32([5, 6]), "v"), numpy_helper.from_array(I64([1, 3]), "i"), [4])}, F32([0, 5, 0, 6])),
    ("Constant", 12, [], {"value_floats": [1.5, 2.0]}, F32([1.5, 2])),
    ("Constant", 12, [], {"value_int": 3}, I64(3)),
    ("SpaceToDepth", 13, [F32(np.arange(8)).reshape(1, 2, 2, 2)], {"blocksize": 2},
     F32([0, 4, 1, 5, 2, 6, 3, 7]).reshape(1, 8, 1, 1)),
    ("SpaceToDepth", 28, [F32(np.arange(8)).reshape(1, 2, 2, 2)], {"blocksize": 2, "mode": "CRD"},
     F32(np.arange(8)).reshape(1, 8, 1, 1)),
    ("BitShift", 11, [np.uint8([1, 4]), np.uint8([1, 2])], {"direction": "LEFT"}, np.uint8([2, 16])),
    ("BitShift", 28, [np.int8([-8, 4, -1]), np.int8([1, 2, 9])], {"direction": "RIGHT"}, np.int8([-4, 1, -1])),
    ("BitShift", 28, [np.int8([-8, 4, -1]), np.int8([1, 6, -1])], {"direction": "LEFT"}, np.int8([-16, 0, 0])),
    ("ReduceMax", 20, [TIES > 1, I64([1])], {"keepdims": 0}, (TIES > 1).max(1)),
    ("ReduceMin", 20, [TIES > 1, I64([1])], {"keepdims": 0}, (TIES > 1).min(1)),
]  # fmt: skip


def model(op, opset, inputs, attrs, n_outputs=1):
    """Of one node. The first input is the graph's, the others are initializers; None is left out."""
    infos, weights = [], []
    for i, a in enumerate(inputs):
        if i == 0:
            infos.append(helper.make_tensor_value_info("i0", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape))
        elif a is not None:
            weights.append(numpy_helper.from_array(np.asarray(a), f"i{i}"))
    outputs = [f"o{i}" for i in range(n_outputs)]
    node = helper.make_node(op, [f"i{i}" * (a is not None) for i, a in enumerate(inputs)], outputs, **attrs)
    results = [onnx.ValueInfoProto(name=o) for o in outputs]
    graph = helper.make_graph([node], "g", infos, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def load(op, opset, inputs, attrs, n_outputs=1):
    return frontends.load(model(op, opset, inputs, attrs, n_outputs))
