"""What of an operator's result is exact, and how far rounding may carry the rest.

A value of a model is known as a float64 result and, unless every engine must get it exactly, as some perturbed ones: the
same computation with each node's operands and results changed by a few units of rounding, once up and once down, as far as
an engine may be off. They show how far an error of rounding is carried, through a cancellation or a division as through a
jump: a node whose perturbed results differ in an integer, in a NaN, or by more than `CHAOTIC`, is not taken into a model.

The unit of rounding is that of the narrowest float that takes part (2^-24 for float32). `EFFORT` says how many units each
operand of an operator may be off (backward error), relative to the operand's elements, or, for operators that add over
many elements and may do it in transformed bases (Winograd, Strassen, FFT), to its largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .draws import is_float

MARGIN = 8  # perturbations are so many times what an engine is expected to be off, so that they meet each jump nearby
CHAOTIC = {"float64": 1e-9, "float32": 2e-3, "float16": 0.1, "bfloat16": 0.4}  # of the largest magnitude of a result
LARGEST = {"float64": 1e12, "float32": 1e9, "float16": 2e3, "bfloat16": 1e9}  # magnitude that a finite result may have
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
TINY = {"float64": 1e-300, "float32": 1e-36, "float16": 2.0**-23, "bfloat16": 1e-36}  # denormals may be lost

# Elements move and do not change: exact, and a zero keeps its sign.
MOVES = frozenset({
    "Abs", "Cast", "CastLike", "CenterCropPad", "Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace",
    "Dropout", "Expand", "EyeLike", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Neg", "OneHot",
    "Pad", "Reshape", "ReverseSequence", "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze",
    "TensorScatter", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where",
})  # fmt: skip
# One of the operands' elements, or a number that follows from comparing them.
SELECTS = frozenset({
    "And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Clip",
    "ConvInteger", "Equal", "Floor", "GlobalMaxPool", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN",
    "Less", "LessOrEqual", "MatMulInteger", "Max", "MaxPool", "MaxUnpool", "Min", "Mod", "NonMaxSuppression",
    "NonZero", "Not", "Or", "Range", "ReduceMax", "ReduceMin", "Relu", "Round", "Shape", "Sign", "Size",
    "ThresholdedRelu", "Unique", "Xor",
})  # fmt: skip
# Exact where all numbers are small multiples of a power of two, in whatever order an engine adds.
SUMS = frozenset({
    "Add", "CumSum", "Div", "Einsum", "Gemm", "MatMul", "Mul", "ReduceL1", "ReduceMean", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Sqrt", "Sub", "Sum",
})  # fmt: skip
SIGNED_SUMS = frozenset({"Mul", "Div"})  # of these, the ones whose zeros have a sign that no order of adding changes

# They quantise their operands by scales that they compute: constants have to be moved, too, for a tie to be seen.
ROUND_WITHIN = tuple(
    f"com.microsoft::{name}"
    for name in ("DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "QMoE", "MatMulBnb4")
)
# Units that each operand may be off.
EFFORT: Mapping[str, float] = {
    "Conv": 48, "ConvTranspose": 8, "DeformConv": 8, "MatMul": 8, "Gemm": 8, "Einsum": 8, "Attention": 8, "LSTM": 8,
    "GRU": 8, "RNN": 8, "RoiAlign": 4, "DFT": 64, "STFT": 64, "LRN": 4, "Resize": 4, "GridSample": 8, "AffineGrid": 4,
    "GroupNormalization": 8, "InstanceNormalization": 16, "LayerNormalization": 4, "MeanVarianceNormalization": 16,
    "BatchNormalization": 4, "RMSNormalization": 4, "ReduceSum": 4, "ReduceMean": 4, "ReduceProd": 16, "CumProd": 16,
    "ReduceSumSquare": 4, "ReduceL1": 4, "ReduceL2": 4, "ReduceLogSum": 4, "ReduceLogSumExp": 4, "CumSum": 4,
    "Softmax": 4, "LogSoftmax": 4, "AveragePool": 4, "GlobalAveragePool": 4, "LpPool": 4, "GlobalLpPool": 4,
    "Sum": 4, "Mean": 4, "Det": 16, "If": 8, "Loop": 16, "Scan": 16, "QLinearConv": 2, "QLinearMatMul": 2, "Pow": 4,
    **dict.fromkeys((f"com.microsoft::{n}" for n in ("Attention", "FusedConv", "NhwcConv", "NhwcFusedConv")), 48), **dict.fromkeys(ROUND_WITHIN, 16),
}  # fmt: skip
OTHER_DOMAINS = 16.0  # their operators are several steps in one
# Of the others, and of these, a constant is what it is: an exponent, a scale that quantises, a bound, an operand of a body.
EXACT_CONSTANTS = frozenset({"Pow", "QLinearConv", "QLinearMatMul", "If", "Loop", "Scan"})
# Relative to the operand's largest element, not to each.
OVER_LARGEST = frozenset({
    "Attention", "Conv", "ConvTranspose", "CumSum", "DFT", "DeformConv", "Einsum", "GRU", "Gemm", "GridSample",
    "GroupNormalization", "InstanceNormalization", "LSTM", "LayerNormalization", "LogSoftmax", "MatMul",
    "MeanVarianceNormalization", "RMSNormalization", "RNN", "Resize", "RoiAlign", "STFT", "Softmax",
})  # fmt: skip
# Where NaN and infinity get to depends on the algorithm: on whether 1 + 0i is multiplied by, on which row is the pivot, on whether
# a product of codes is corrected by their zero points, on whether squares are expanded, on whether padding and neighbours of weight 0
# are multiplied, on how NaN compares.
SPREADS = frozenset(
    {"DFT", "STFT", "Rfft", "Irfft", "Det", "Inverse", "MatMulNBits", "CDist", "RoiAlign", "DynamicTimeWarping"}
)
SPREADS_PADDED = frozenset(
    {"Conv", "ConvTranspose", "FusedConv", "NhwcConv", "NhwcFusedConv"}
)  # weights that are not finite
# Plain sums of many elements: all may be off to the same side, and the more the longer the sum is.
LONG_SUMS = frozenset({
    "ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceProd", "CumSum", "CumProd", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalLpPool", "Sum", "Mean",
})  # fmt: skip
# Computed by polynomials or tables with an absolute error: units of 1 that a result may be off.
ABSOLUTE = 4.0
WITH_ABSOLUTE = frozenset({
    "Attention", "BlackmanWindow", "Cos", "Erf", "GRU", "Gelu", "HammingWindow", "HannWindow", "HardSigmoid", "LSTM", "Mish", "RNN", "Sigmoid", "Sin", "Softmax",
    "SoftmaxCrossEntropyLoss", "Softplus", "Swish", "Tan", "Tanh",
})  # fmt: skip


def is_among(op: str, some: frozenset[str]) -> bool:
    """Of other domains, whose operators are many steps in one, all are."""
    return op in some or "::" in op


def unit_of(op: str, dtypes: Sequence[np.dtype]) -> float:
    """The unit of rounding: of the narrowest float, and of float32 for operators that compute in it whatever they take."""
    units = [UNIT[d.name] for d in dtypes if is_float(d)]
    if op in ("LayerNormalization", "RMSNormalization", "GroupNormalization", "Range", "QuantizeLinear"):
        units.append(UNIT["float32"])
    return max(units, default=0.0)


def effort_of(op: str, operands: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> float:
    """Units that an operand's elements may be off. A sum of k elements is off by up to √k units (independent errors)."""
    effort = EFFORT.get(op, OTHER_DOMAINS if "::" in op else 1.0)
    if op in LONG_SUMS:
        effort += (max(a.size for a in operands) / max(1, results[0].size)) ** 0.5
    return effort


def nudged(x: np.ndarray, by: float, over_largest: bool, signs: np.ndarray) -> np.ndarray:
    """x with every element changed by `by` times its size, or that of the largest."""
    size = np.abs(x)
    if over_largest and x.size:
        size = np.full_like(x, np.max(size, where=np.isfinite(x), initial=0.0))
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(x), x + by * size * signs, x)


def is_coarse(dtype: np.dtype, *arrays: np.ndarray) -> bool:
    """Are all numbers finite multiples of 1/64, and so small that sums of thousands of them are exact in that dtype?"""
    bits = {"float64": 40, "float32": 18, "float16": 8, "bfloat16": 6}.get(dtype.name, 62)
    for a in arrays:
        if a.dtype.kind != "f":
            continue
        if not np.isfinite(a).all() or (a * 64 != np.round(a * 64)).any() or np.abs(a).max(initial=0) * 64 >= 2**bits:
            return False
    return True


def widened(a: np.ndarray) -> np.ndarray:
    """float64 in place of a float."""
    return a.astype(np.float64) if is_float(a.dtype) else a


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal shapes and elements; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())
