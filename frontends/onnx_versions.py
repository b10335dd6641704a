"""Older forms of ONNX operators -> the newest, which is what graphc's records describe.

Each rule holds for nodes of an opset below a number. It changes the node in place (attributes that became inputs,
defaults that changed) or, where one node of the newest form can't say the same, returns the values that replace it.
Source: the operator changelog, https://onnx.ai/onnx/operators/ and `onnx.defs`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from graphc.errors import GraphcWarning, TypeRuleError, UnsupportedError
from graphc.frontends.onnx_values import known_type
from graphc.graph import Builder, Value

NEWEST_OPSET = 29  # of the semantics written down here and in graphc/ops
RENAMED = frozenset({"Scatter", "Upsample"})  # operators that only older opsets have


@dataclass
class Use:
    """One node as its file has it, on its way to the newest form. Rules pop the attributes that they read."""

    op: str
    inputs: list[Value | None]
    attrs: dict[str, Any]
    outputs: list[str]
    opset: int
    builder: Builder  # takes the nodes that come before (or instead of) this one

    def input(self, i: int) -> Value | None:
        return self.inputs[i] if i < len(self.inputs) else None

    def required(self, i: int) -> Value:
        """Operand i. Raises TypeRuleError when it is absent."""
        v = self.input(i)
        if v is None:
            raise TypeRuleError(f"operand {i} is missing")
        return v

    def set_input(self, i: int, value: Any, dtype: DTypeLike = np.int64) -> None:
        """Operand i becomes the constant `value`, or absent where it is None."""
        self.inputs += [None] * (i + 1 - len(self.inputs))
        self.inputs[i] = None if value is None else self.constant(value, dtype)

    def constant(self, value: Any, dtype: DTypeLike = np.int64) -> Value:
        return self.builder.constant(value, dtype)

    def pop(self, attr: str) -> Any:
        """A required attribute. Raises TypeRuleError when it is missing."""
        if attr not in self.attrs:
            raise TypeRuleError(f"attribute '{attr}' is missing", hint=f"opset {self.opset} requires it")
        return self.attrs.pop(attr)

    def has_output(self, i: int) -> bool:
        return i < len(self.outputs) and self.outputs[i] != ""

    def add(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        return self.builder.add(op, *inputs, **attrs)

    def like(self, value: Value, x: Value) -> Value:
        """A constant in the dtype of x."""
        return self.constant(value.data, x.type.dtype) if x.type is not None else self.add("CastLike", value, x)

    def rank(self, i: int) -> int:
        """Rank of operand i. Raises UnknownTypeError while it is unknown."""
        return known_type(self.required(i)).rank


Rule = Callable[[Use], "Sequence[Value] | None"]
_RULES: dict[str, list[tuple[int, Rule]]] = {}


def below(opset: int, *names: str) -> Callable[[Rule], Rule]:
    """The rule holds for these operators in opsets below that number. Rules run in the order of the file."""

    def add(rule: Rule) -> Rule:
        for name in names:
            _RULES.setdefault(name, []).append((opset, rule))
        return rule

    return add


def modernize(use: Use) -> Sequence[Value] | None:
    """Bring the node to its newest form, in place; or return the values that replace its outputs.

    Raises UnsupportedError for opsets above `NEWEST_OPSET` and forms that have no newest counterpart.
    """
    if use.opset > NEWEST_OPSET:
        raise UnsupportedError(
            f"opset {use.opset} is newer than graphc knows", hint=f"export with opset {NEWEST_OPSET} or older"
        )
    if use.opset < 6:
        use.attrs.pop("consumed_inputs", None)
    for limit, rule in _RULES.get(use.op, ()):
        if use.opset < limit:
            replaced = rule(use)
            if replaced is not None:
                return replaced
    return None


# --- broadcasting -----------------------------------------------------------------------------------------------------
@below(7, "Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
def _limited_broadcast(use: Use) -> None:
    """B was aligned with A's dims from `axis` on; now both align at the end."""
    axis = use.attrs.pop("axis", None)
    if use.attrs.pop("broadcast", 0) and axis is not None:
        axis = axis % use.rank(0)
        trailing = use.rank(0) - axis - use.rank(1)
        if trailing > 0:
            axes = range(use.rank(1), use.rank(1) + trailing)
            use.inputs[1] = use.add("Unsqueeze", use.inputs[1], use.constant(list(axes)))


@below(7, "PRelu")
def _prelu_slope(use: Use) -> None:
    """A slope of one number per channel (axis 1)."""
    slope = use.required(1)
    if slope.type is not None and slope.type.rank == 1 and slope.type.shape != (1,) and use.rank(0) > 2:
        use.inputs[1] = use.add("Unsqueeze", slope, use.constant(list(range(1, use.rank(0) - 1))))


@below(7, "Gemm")
def _gemm_broadcast(use: Use) -> None:
    use.attrs.pop("broadcast", None)


# --- attributes that became inputs ------------------------------------------------------------------------------------
@below(13, "Squeeze", "Unsqueeze", "ReduceSum")
@below(
    18,
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
)
def _axes(use: Use) -> None:
    if use.op == "Unsqueeze":
        use.set_input(1, use.pop("axes"))
    elif "axes" in use.attrs:
        use.set_input(1, use.attrs.pop("axes"))


@below(11, "Clip")
def _clip_bounds(use: Use) -> None:
    for i, bound in ((1, "min"), (2, "max")):
        if bound in use.attrs:
            use.set_input(i, use.attrs.pop(bound), np.float32)
            use.inputs[i] = use.like(use.required(i), use.required(0))


@below(2, "Pad")
def _paddings(use: Use) -> None:
    use.attrs["pads"] = use.pop("paddings")


@below(11, "Pad")
def _pads(use: Use) -> None:
    use.set_input(1, use.pop("pads"))
    use.set_input(2, use.attrs.pop("value", 0.0), np.float32)
    use.inputs[2] = use.like(use.required(2), use.required(0))


@below(10, "Slice")
def _slice(use: Use) -> None:
    use.set_input(1, use.pop("starts"))
    use.set_input(2, use.pop("ends"))
    use.set_input(3, use.attrs.pop("axes", None))


@below(13, "Split")
def _split_sizes(use: Use) -> None:
    if "split" in use.attrs:
        use.set_input(1, use.attrs.pop("split"))


@below(18, "Split")
def _split_equal(use: Use) -> None:
    if use.input(1) is None:
        use.attrs["num_outputs"] = len(use.outputs)


@below(10, "TopK")
def _topk(use: Use) -> None:
    use.set_input(1, [use.pop("k")])


@below(5, "Reshape")
def _reshape(use: Use) -> None:
    use.set_input(1, use.pop("shape"))


@below(6, "Tile")
def _tile(use: Use) -> None:
    tiles, axis = use.required(1), use.required(2)
    if tiles.data is None or axis.data is None:
        raise UnsupportedError(
            "Tile of opset 1 with tiles or axis that are not constants", hint="export with opset 6 or newer"
        )
    repeats = np.ones(use.rank(0), np.int64)
    repeats[int(axis.data.reshape(-1)[0])] = int(tiles.data.reshape(-1)[0])
    use.inputs[1:] = [use.constant(repeats)]


@below(20, "DFT")
def _dft_axis(use: Use) -> None:
    use.set_input(2, use.attrs.pop("axis", 1))


@below(12, "Dropout")
def _dropout(use: Use) -> Sequence[Value] | None:
    if use.opset < 7 and not use.attrs.pop("is_test", 0):
        warnings.warn(
            GraphcWarning(f"Dropout of opset {use.opset} without is_test: treated as inference"), stacklevel=2
        )
    use.set_input(1, use.attrs.pop("ratio", 0.5), np.float32)
    if use.opset < 10 and use.has_output(1):  # the mask had the dtype of the data
        x = use.required(0)
        y, mask = use.builder.add("Dropout", x, use.inputs[1], outputs=2)
        return y, use.add("CastLike", mask, x)
    return None


# --- renamed operators and values -------------------------------------------------------------------------------------
@below(11, "OneHot")
def _one_hot_of_negative(use: Use) -> None:
    """Negative numbers were out of range, whose rows are off; now they count from the end."""
    indices, depth = (use.add("Cast", use.required(i), to=np.dtype(np.int64)) for i in (0, 1))
    use.inputs[0] = use.add("Where", use.add("Less", indices, use.constant(0)), use.add("Squeeze", depth), indices)


@below(11, "Scatter")
def _scatter(use: Use) -> None:
    use.op = "ScatterElements"


@below(20, "GridSample")
def _grid_sample_modes(use: Use) -> None:
    mode = use.attrs.get("mode", "bilinear")
    use.attrs["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


@below(16, "RoiAlign")
def _roi_align_coordinates(use: Use) -> None:
    use.attrs["coordinate_transformation_mode"] = "output_half_pixel"


@below(4, "Concat")
def _concat_axis(use: Use) -> None:
    use.attrs.setdefault("axis", 1)


@below(6, "Selu")
def _selu_constants(use: Use) -> None:
    use.attrs.setdefault("alpha", 1.6732)
    use.attrs.setdefault("gamma", 1.0507)


@below(7, "RNN", "LSTM", "GRU")
def _output_sequence(use: Use) -> None:
    """output_sequence said whether the first output is wanted; now its name does."""
    use.attrs.pop("output_sequence", None)


# --- softmax over flattened dims --------------------------------------------------------------------------------------
@below(13, "Softmax", "LogSoftmax", "Hardmax")
def _flat_softmax(use: Use) -> Sequence[Value] | None:
    """Was over all dims from `axis` (default 1) on, as one."""
    x, axis = use.required(0), use.attrs.pop("axis", 1)
    if axis == -1 or (x.type is not None and axis == x.type.rank - 1):
        use.attrs["axis"] = -1
        return None
    flat = use.add("Flatten", x, axis=axis)
    y = use.add(use.op, flat, axis=-1)
    return (use.builder.add("Reshape", y, use.add("Shape", x), outputs=use.outputs[:1], allowzero=True),)


# --- normalisation ----------------------------------------------------------------------------------------------------
@below(14, "BatchNormalization")
def _batch_norm(use: Use) -> Sequence[Value] | None:
    """Training was asked for by naming more outputs. spatial=0: statistics of every position, [C, H, W]."""
    use.attrs.pop("is_test", None)
    if any(use.has_output(i) for i in range(1, len(use.outputs))):
        raise UnsupportedError(f"the training form of opset {use.opset}", hint="export the model for inference")
    use.outputs = use.outputs[:1]
    if use.attrs.pop("spatial", 1):
        return None
    x, scale, bias, mean, var = (use.required(i) for i in range(5))
    epsilon = use.constant(use.attrs.pop("epsilon", 1e-5), var.dtype)
    deviation = use.add("Sqrt", use.add("Add", var, epsilon))
    scaled = use.add("Mul", use.add("Div", use.add("Sub", x, mean), deviation), scale)
    return (use.builder.add("Add", scaled, bias, outputs=use.outputs),)


@below(21, "GroupNormalization")
def _group_norm(use: Use) -> None:
    """Scale and bias were one number per group, [G]; now one per channel, [C]."""
    x, groups = use.required(0), use.attrs.get("num_groups", 0)
    channels = x.type.shape[1] if x.type is not None and x.type.rank > 1 else None
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        raise TypeRuleError(f"{channels} channels and {groups} groups do not fit")
    if isinstance(channels, int):
        each = use.constant([channels // groups])
    else:
        each = use.add("Div", use.add("Shape", x, start=1, end=2), use.constant([groups]))
    for i in (1, 2):
        column = use.add("Unsqueeze", use.required(i), use.constant([1]))
        repeated = use.add("Expand", column, use.add("Concat", use.constant([groups]), each, axis=0))
        use.inputs[i] = use.add("Reshape", repeated, use.constant([-1]))


# --- resizing ---------------------------------------------------------------------------------------------------------
@below(2, "Upsample")
def _upsample_sizes(use: Use) -> None:
    use.attrs["scales"] = [1.0, 1.0, use.pop("height_scale"), use.pop("width_scale")]


@below(9, "Upsample")
def _upsample_scales(use: Use) -> None:
    use.set_input(1, use.pop("scales"), np.float32)


@below(NEWEST_OPSET + 1, "Upsample")
@below(11, "Resize")
def _asymmetric_resize(use: Use) -> None:
    """x_original = x_resized / scale; 'nearest' took the floor when enlarging and the ceiling when shrinking."""
    scales = use.required(1)
    mode = use.attrs.get("mode", "nearest")
    use.attrs["mode"] = {"bilinear": "linear"}.get(mode, mode)
    use.attrs["coordinate_transformation_mode"] = "asymmetric"
    shrinks = False
    if use.attrs["mode"] == "nearest":
        if scales.data is None:
            message = f"{use.op} of opset {use.opset} with computed scales: read as enlarging (nearest takes the floor)"
            warnings.warn(GraphcWarning(message), stacklevel=2)
        elif use.op == "Resize":
            shrinks = bool(np.any(scales.data < 1))
            if shrinks and np.any(scales.data > 1):
                raise UnsupportedError(
                    f"opset {use.opset} that enlarges one axis and shrinks another",
                    hint="export with opset 11 or newer",
                )
    use.attrs["nearest_mode"] = "ceil" if shrinks else "floor"
    use.op, use.inputs = "Resize", [use.inputs[0], None, scales]


@below(NEWEST_OPSET + 1, "Resize")
def _empty_operands(use: Use) -> None:
    """Empty tensors stood for absent roi, scales and sizes."""
    for i in (1, 2, 3):
        v = use.input(i)
        if v is not None and v.type is not None and v.type.shape == (0,):
            use.inputs[i] = None


# --- control flow -----------------------------------------------------------------------------------------------------
def scans_of_samples(use: Use, scan: Callable[[Use], Sequence[Value]]) -> Sequence[Value]:
    """Scan of opset 8, which has a batch axis and the lengths of the sequences: a Scan for each sample. scan: adds one.

    Results are zero behind the end of their sequence. Raises UnsupportedError for a batch whose size is not known.
    """
    count = use.attrs.get("num_scan_inputs", 0)
    lengths, *operands = use.inputs
    batch = known_type(use.required(len(use.inputs) - 1)).shape[0]
    if not isinstance(batch, int) or batch < 1:
        raise UnsupportedError(
            f"Scan of opset 8 of a batch of {batch} samples", hint="export with opset 9 or newer, or a fixed batch"
        )
    attrs = {
        "body": use.pop("body"),
        "num_scan_inputs": count,
        "scan_input_directions": use.attrs.get("directions", []),
    }
    n_states, zero, samples = len(operands) - count, use.constant([0]), []
    for i in range(batch):
        place = use.constant(i)
        own: list[Value | None] = [use.add("Gather", v, place, axis=0) for v in operands]
        length = None if lengths is None else use.add("Reshape", use.add("Gather", lengths, place), use.constant([1]))
        if length is not None:
            own[n_states:] = [use.add("Slice", v, zero, length, zero) for v in own[n_states:]]
        names = [name and f"{name}.{i}" for name in use.outputs]
        results = list(scan(Use("Scan", own, dict(attrs), names, 9, use.builder)))
        if length is not None:
            missing = use.add("Sub", use.add("Shape", operands[-1], start=1, end=2), length)
            for k, v in enumerate(results[n_states:], n_states):
                shape = use.add("Concat", missing, use.add("Shape", v, start=1), axis=0)
                zeros = use.add("CastLike", use.add("ConstantOfShape", shape), v)
                results[k] = use.add("Concat", v, zeros, axis=0)
        samples.append([use.add("Unsqueeze", v, zero) for v in results])
    return [
        use.builder.add("Concat", *parts, axis=0, outputs=[name]) for name, parts in zip(use.outputs, zip(*samples))
    ]
