"""What ONNX Runtime is known to get wrong, to refuse, or to take though it is not valid, each with its reason.

Measured with 1.32. A difference is explained by the smallest model that shows it, so that a reason covers nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from .case import Case, all_nodes
from .draws import is_float
from .evaluate import full_name

Test = Callable[[Case, str], bool]  # of the case and of what is said about it


@dataclass(frozen=True)
class Known:
    """A name to count it by, and the reason."""

    name: str
    reason: str
    matches: Test


def says(*patterns: str) -> Test:
    """The message holds one of the regular expressions."""
    return lambda case, text: any(re.search(p, text, re.DOTALL) for p in patterns)


def has(*ops: str) -> Test:
    """A node of one of the operators."""
    return lambda case, text: any(full_name(n) in ops for n in all_nodes(case.model.graph))


def casts_to(*types: int) -> Test:
    """A Cast to one of them."""
    return lambda case, text: any(
        n.op_type == "Cast" and a.name == "to" and a.i in types
        for n in all_nodes(case.model.graph)
        for a in n.attribute
    )


def attribute(op: str, name: str, value: object) -> Test:
    """A node with that attribute."""
    return lambda case, text: any(
        full_name(n) == op and a.name == name and helper.get_attribute_value(a) == value
        for n in all_nodes(case.model.graph)
        for a in n.attribute
    )


def both(*tests: Test) -> Test:
    return lambda case, text: all(test(case, text) for test in tests)


def reaches(is_special: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Test]:
    """A test for nodes of given operators that read such a number."""

    def reads(*ops: str) -> Test:
        def matches(case: Case, text: str) -> bool:
            read = {i for n in case.model.graph.node if n.op_type in ops for i in n.input if i}
            floats = [case.tensors[i] for i in read if is_float(case.tensors[i].dtype)]
            return any(is_special(w[0]).any() for t in floats for w in t.worlds)

        return matches

    return reads


SATURATES = "without VNNI ONNX Runtime adds products by int8 weights in 16 bits, which saturate"


@cache
def runtime_saturates() -> bool:
    """Are its products by int8 weights wrong on this CPU?"""
    w = helper.make_tensor("w", TensorProto.INT8, [8, 1], [127] * 8)
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "sum", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (found,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": np.full((1, 8), 255, np.uint8)})
    return int(found[0, 0]) != 8 * 255 * 127


nan_reaches = reaches(np.isnan)
non_finite_reaches = reaches(lambda a: ~np.isfinite(a))


def _absent_parts(case: Case, text: str) -> bool:
    return any(n.op_type == "Split" and "" in n.output for n in all_nodes(case.model.graph))


def _sequence_of_no_steps(case: Case, text: str) -> bool:
    if any(_is_empty(case, n.input[0]) for n in all_nodes(case.model.graph) if n.op_type in ("RNN", "LSTM")):
        return True
    lengths = [
        n.input[4] for n in all_nodes(case.model.graph) if n.op_type in ("RNN", "GRU", "LSTM") and len(n.input) > 5
    ]
    return any((case.tensors[name].value == 0).any() for name in lengths if name)


def _is_empty(case: Case, name: str) -> bool:
    return name in case.tensors and any(0 in shape[:2] for shape in case.tensors[name].shapes())


def _empty_recurrent(case: Case, text: str) -> bool:
    layers = [n for n in all_nodes(case.model.graph) if n.op_type in ("GRU", "LSTM") and n.input[0] in case.tensors]
    steps = [(n.op_type, s[0]) for n in layers for s in case.tensors[n.input[0]].shapes()]
    batches = [s[1] for n in layers for s in case.tensors[n.input[0]].shapes()]
    return ("GRU", 0) in steps or 0 in batches


def _empty_instances(case: Case, text: str) -> bool:
    names = [n.input[0] for n in all_nodes(case.model.graph) if n.op_type == "InstanceNormalization"]
    return any(0 in shape for n in names if n in case.tensors for shape in case.tensors[n].shapes())


def _reads(op: str, operand: int) -> Test:
    return lambda case, text: any(
        n.op_type == op and len(n.input) > operand and n.input[operand] for n in all_nodes(case.model.graph)
    )


def _of_double(*ops: str) -> Test:
    return lambda case, text: any(
        n.op_type in ops and case.tensors[n.input[0]].dtype == np.float64 for n in case.model.graph.node
    )


def _tied_experts(case: Case, text: str) -> bool:
    routers = [n.input[1] for n in case.model.graph.node if n.op_type in ("MoE", "QMoE")]
    rows = [row for n in routers if n in case.tensors for row in case.tensors[n].native(0)]
    return any(len(np.unique(row)) < len(row) for row in rows)


def _same_with_gaps(case: Case, text: str) -> bool:
    """A transposed convolution whose steps are wider than its kernel, padded automatically."""
    for n in case.model.graph.node:
        if n.op_type == "ConvTranspose":
            a = {x.name: helper.get_attribute_value(x) for x in n.attribute}
            kernel = case.tensors[n.input[1]].shapes()[0][2:]
            extents = [(k - 1) * d + 1 for k, d in zip(kernel, a.get("dilations", [1] * len(kernel)))]
            if a.get("auto_pad", b"").startswith(b"SAME") and any(k < s for k, s in zip(extents, a.get("strides", ()))):
                return True
    return False


def _opset_below(limit: int) -> Test:
    return lambda case, text: any(o.domain in ("", "ai.onnx") and o.version < limit for o in case.model.opset_import)


def _by_one(case: Case, text: str) -> bool:
    """The elements that are told of are one step apart."""
    pairs = re.findall(r"expected +(-?\d+) +got +(-?\d+)", text)
    return bool(pairs) and all(abs(int(a) - int(b)) == 1 for a, b in pairs)


def _chirp(case: Case, text: str) -> bool:
    """A Fourier transform of a length that is no power of two."""
    lengths: list[int] = []
    for n in all_nodes(case.model.graph):
        operands = [case.tensors.get(i) for i in n.input]
        if n.op_type == "STFT":  # the window, or else the length of a frame
            window, length = (*operands, None, None)[2:4]
            lengths += (
                [s[0] for s in window.shapes()] if window else [int(x) for x in length.native(0).flat] if length else []
            )
        elif n.op_type == "DFT":
            given = operands[1] if len(operands) > 1 else None
            sizes = operands[0].shapes() if operands[0] else []
            lengths += [int(given.native(0))] if given else [d for s in sizes for d in s[:-1]]
    return any(n & (n - 1) for n in lengths)


# ONNX Runtime is not asked: the process would end.
DEADLY = [
    Known("empty recurrent layer", "a GRU of no steps, or of no batch as an LSTM of none", _empty_recurrent),
    Known("InstanceNormalization of nothing", "a segmentation fault", _empty_instances),
    Known("Split with absent outputs", "outputs may be '': a null pointer is written through", _absent_parts),
]

REFUSALS = [
    Known(
        "no kernel",
        "it has none for the operator's dtype, rank or opset",
        says(
            "NOT_IMPLEMENTED",
            "does not support double yet",
            "mode only supports",
            r"NumDimensions\(\) == 4",
            "data type is not supported with Scatter",
            "Pool.*padding values must be non-negative",
            "DeformConv.*Input X must be 4D",
            "layout_ == 0 was false",
            "Pad.*Unexpected mode of 3",
            r"tensor\(bfloat16\).*is invalid",
            "ReduceSumInteger.*type inference failed",
            "not implemented for CPU",
            "GroupQueryAttention .CPU.*not supported",
            "MemberShip values is only implemented for integers",
            "CPU MoE only supports interleaved SwiGLU",
            "Unsupported MoE activation type",
            "swiglu_limit_after_activation.*requires CUDA",
            "UnfoldTensor node.*Unsupported data type",
            "running Resize node.*Tensor type mismatch",
            "past_present_share_buffer_ was false",
        ),
    ),
    Known("unknown operator", "of a domain that it does not know", says("is not a registered function/op")),
    Known(
        "types of com.microsoft",
        "its schemas have fewer types than graphc takes",
        lambda case, text: (
            any(n.domain == "com.microsoft" for n in case.model.graph.node)
            and bool(re.search(r"Type 'tensor\(\w+\)' of input parameter .* is invalid", text))
        ),
    ),
    Known(
        "MatMul of uint32", "an assertion about element types fails", says("running MatMul node.*Tensor type mismatch")
    ),
    Known(
        "body without shapes",
        "values of the body of a Loop or Scan must have declared shapes",
        says(
            "subgraph input 0 has unknown shape",
            "must have the shape set for all outputs",
        ),
    ),
    Known(
        "zero points by channel",
        "ConvInteger and MatMulInteger take one zero point for each operand",
        says(
            "Non per-tensor quantization is not supported now",
            "zero point must be a scalar or 1D tensor of size 1",
        ),
    ),
    Known(
        "pads as wide as the kernel",
        "pools want pads that are smaller, whatever the dilation",
        says(
            "Pad should be smaller than kernel",
        ),
    ),
    Known(
        "division by zero",
        "of integers: an error, where others give what the machine gives",
        says("Integer division by zero"),
    ),
    Known(
        "Attention of nothing",
        "neither its batch nor its queries may be 0",
        says("Batch size must be greater than 0", "Q sequence length must be greater than 0"),
    ),
    Known(
        "GroupNormalization of nothing",
        "its steps have a Reshape that keeps a dim which is not there",
        both(has("GroupNormalization"), says("Reshape.*dimension with value zero exceeds")),
    ),
    Known(
        "scores of half precision",
        "its type inference has them in float32",
        says(r"DecoderMaskedMultiHeadAttention\).*type inference failed"),
    ),
    Known(
        "casts within branches",
        "one that it inserts for float16 reads what is not there",
        says("InsertedPrecisionFreeCast.*Missing Input"),
    ),
    Known(
        "Squeeze in a branch",
        "without axes it reads an operand that is not there",
        says("Squeeze node.*op_kernel_context"),
    ),
    Known(
        "ceil_mode",
        "its shape inference counts windows that begin behind the input",
        both(
            has("AveragePool", "MaxPool", "LpPool"),
            says("ShapeInferenceError"),
        ),
    ),
    Known(
        "Loop of no trips",
        "what it collects has dims of 0 where the body's result has no declared ones",
        both(
            has("Loop"),
            says("Can broadcast 0 by 0 or 1"),
        ),
    ),
    Known("Reshape of nothing", "-1 beside a dim of 0", says("Reshape.*cannot be reshaped.*Input shape:{[^}]*\\b0\\b")),
    Known("pools of nothing", "only the batch may be 0", says("Invalid input shape. Only N can be zero")),
    Known(
        "softmax of a vector",
        "before opset 13 the axis was 1 by default, which a vector does not have",
        both(
            has("Softmax", "LogSoftmax", "Hardmax"),
            says("HandleNegativeAxis"),
        ),
    ),
    Known(
        "Resize of a region by scales",
        "the size of the result leaves out the region's",
        both(attribute("Resize", "coordinate_transformation_mode", b"tf_crop_and_resize"), says("ShapeInferenceError")),
    ),
    Known(
        "optionals of float16",
        "what has no kernel for float16 gets float32, and the type of the optional stays as it was",
        says(r"optional\(tensor\(float16\)\).*does not match expected type .optional\(tensor\(float\)"),
    ),
    Known("LRN of even sizes", "the size must be odd", says("lrn.h.*size_ % 2 == 1 was false")),
    Known("Pad of a scalar", "it must have a dim", says("pad.cc.*Input tensor has no dimensions")),
]

FAULTS = [
    Known("NaN loses", "of NaN and a number the number is the larger or smaller one, or their places decide", nan_reaches(
        "MaxPool", "GlobalMaxPool", "MaxRoiPool", "RoiAlign", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "Hardmax", "Unique",
        "ReduceLogSumExp", "ScatterElements", "ScatterND",
    )),
    Known("NaN in a recurrent layer", "sigmoid and tanh bound their argument first, which makes a number of NaN", non_finite_reaches(
        "LSTM", "GRU", "RNN",
    )),
    Known("NaN in attention", "a score that is NaN may count as one that is hidden", non_finite_reaches(
        "Attention", "MultiHeadAttention", "GroupQueryAttention",
    )),
    Known("NaN in LRN", "the sum over channels slides: a NaN or an infinity stays in it", non_finite_reaches("LRN")),
    Known("NaN quantised", "ONNX does not say what NaN becomes", nan_reaches("QuantizeLinear")),
    Known("MeanVarianceNormalization", "the variance is mean(x²) - mean(x)², which rounding makes negative", has(
        "MeanVarianceNormalization",
    )),
    Known("bytes of NaN and infinity", "what is quantised within an operator has no scale then", non_finite_reaches(
        "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "QMoE",
    )),
    Known("ties of experts", "the last of equal ones is chosen; graphc chooses the first, as TopK does", _tied_experts),
    Known("QLinearAdd's ties", "scales and zero points are folded into one line, by fused steps: a tie may fall the other way", both(
        has("com.microsoft::QLinearAdd"), says("differs"), _by_one,
    )),
    Known("QMoE of 8 bits", "it rounds its operand to 8 bits, too, where its weights lie in blocks", attribute(
        "com.microsoft::QMoE", "expert_weight_bits", 8,
    )),
    Known("sums of bytes", SATURATES, both(
        has(
            "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul",
            *(f"com.microsoft::{name}" for name in (
                "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "QGemm", "QLinearConv",
            )),
        ),
        says("differs", "times the tolerance"),
        lambda case, text: runtime_saturates(),
    )),
    Known("casts to 4 bits and less", "floats are rounded, halves away from zero, not cut off; what is too large is the largest", casts_to(
        TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2,
    )),
    Known("sequence of no steps", "the last state is 0, also where there is an initial one", _sequence_of_no_steps),
    Known("Fourier transforms of lengths that are no power of two", "they go through a chirp in float32: 1e-5 off", both(
        has("STFT", "DFT"), says("times the tolerance"), _chirp,
    )),
    Known("MaxUnpool to a given shape", "positions are read as those in output_shape, not in the inferred one", _reads(
        "MaxUnpool", 2,
    )),
    Known("ConvTranspose with gaps", "a negative sum of pads is taken as 0: not the size that SAME asks for", _same_with_gaps),
    Known("constants in float64", "those of Gelu by tanh, of HardSwish and of Attention are float32 ones: 1e-7 off", _of_double(
        "Gelu", "FastGelu", "HardSwish", "Attention",
    )),
    Known("infinity through LogSoftmax", "of rows in float64 that hold it the logarithm of the sum is not a number", both(
        non_finite_reaches("LogSoftmax", "Softmax"), says("NaN or infinity"),
    )),
    Known("infinity in a norm", "scale and bias are one line, whose offset is not a number then", non_finite_reaches(
        "InstanceNormalization", "GroupNormalization", "BatchNormalization", "LayerNormalization",
    )),
    Known("ReduceLogSumExp of integers", "the largest is taken out first, and the logarithm of what is left cut off", both(
        has("ReduceLogSumExp"), says("differs"), _by_one,
    )),
    Known("NaN among experts", "probabilities that are NaN choose none", non_finite_reaches("MoE")),
    Known("rows behind the queries", "where each batch has a length of its own, the results behind it are not written", _reads(
        "GroupQueryAttention", 16,
    )),
    Known("transforms of TreeEnsemble", "SOFTMAX and LOGISTIC have each other's numbers", lambda case, text: any(
        attribute("ai.onnx.ml::TreeEnsemble", "post_transform", number)(case, text) for number in (1, 2)
    )),
    Known("negative positions of OneHot", "before opset 11 they were out of range; it counts them from the end", both(
        has("OneHot"), _opset_below(11),
    )),
    Known("Resize of integers", "cut off, and from positions in float32", both(
        has("Resize", "Upsample"), says("differs"), _by_one,
    )),
    Known("Shrink in float32", "float64 goes through float32: 1e-7 off", _of_double("Shrink")),
    Known("positions in float32", "where it samples: 1e-6 of the size off", both(
        has("Resize", "Upsample", "DeformConv", "GridSample", "RoiAlign"), says("times the tolerance"),
    )),
    Known("powers that integers can't hold", "of a float exponent: ONNX does not say what they are", both(
        has("Pow"), says("^differs|: differs"),
    )),
    Known("infinity through Clip", "without a bound the largest finite number is it", non_finite_reaches("Clip")),
    Known("infinity at the edge of a Resize", "both neighbours are one element there, with weights of 1/2; graphc's are 1 and 0", both(
        non_finite_reaches("Resize", "Upsample"), says("NaN or infinity"),
    )),
    Known("NaN as a key", "LabelEncoder does not find it before its opset 4", nan_reaches("LabelEncoder")),
    Known("cubic Resize", "weights that are left out are divided by a sum of 0", both(
        has("Resize"), says("NaN or infinity"),
    )),
    Known("Resize of a region by scales", "the size of the result leaves out the region's", both(
        attribute("Resize", "coordinate_transformation_mode", b"tf_crop_and_resize"), says("has shape"),
    )),
    Known("Loop of no trips", "what it collects has dims of 0 where the body's result has no declared ones", both(
        has("Loop"), says(r"has shape \(0,"),
    )),
]  # fmt: skip

# Nodes that graphc refuses.
LENIENT = [
    Known("window larger than the input", "ONNX has no output size for it", says("the output size would not be positive")),
    Known("positions that are none", "NaN and infinity in a grid", says("GridSample.*holds NaN or infinite positions")),
    Known("a condition longer than the axis", "it chooses what is not there", says("Compress.*is out of range")),
    Known("Resize-10 that enlarges and shrinks", "its two modes of rounding differ, and ONNX does not say which one it is", says(
        "opset 10 that enlarges one axis and shrinks another",
    )),
    Known("PRelu's slope enlarges x", "ONNX broadcasts the slope to x, not x to the slope", says(
        "PRelu.*does not broadcast to",
    )),
]  # fmt: skip


def deadly(case: Case) -> str | None:
    return _first(DEADLY, case, "")


def refusal(case: Case, text: str) -> str | None:
    return _first(REFUSALS, case, text)


def fault(case: Case, text: str) -> str | None:
    return _first(FAULTS, case, text)


def lenient(case: Case, text: str) -> str | None:
    return _first(LENIENT, case, text)


def _first(known: list[Known], case: Case, text: str) -> str | None:
    return next((k.name for k in known if k.matches(case, text)), None)


def reasons() -> dict[str, str]:
    return {k.name: k.reason for k in (*DEADLY, *REFUSALS, *FAULTS, *LENIENT)}
