"""What ONNX Runtime is known to get wrong, to refuse, or to take though it is not valid, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from .case import Case, all_nodes
from .draws import is_float


@dataclass(frozen=True)
class Known:
    """A name to count it by, and the reason."""

    name: str
    reason: str
    matches: Callable[[Case | None, str], bool]


def says(pattern: str) -> Callable[[Case | None, str], bool]:
    return lambda case, text: re.search(pattern, text) is not None


def has(op: str, *also: Callable[[NodeProto], bool]) -> Callable[[Case, str], bool]:
    """A node of that operator, of which all that is true."""
    return lambda case, text: any(n.op_type == op and all(f(n) for f in also) for n in all_nodes(case.model.graph))


def value(case: Case, name: str) -> np.ndarray:
    return case.tensors[name].value


def reaches(is_special: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Callable[[Case, str], bool]]:
    """A test for nodes of given operators that read such a number."""

    def reads(*ops: str) -> Callable[[Case, str], bool]:
        def matches(case: Case, text: str) -> bool:
            read = {i for n in case.model.graph.node if n.op_type in ops for i in n.input if i}
            floats = [case.tensors[i] for i in read if is_float(case.tensors[i].dtype)]
            return any(is_special(w[0]).any() for t in floats for w in t.worlds)

        return matches

    return reads


nan_reaches = reaches(np.isnan)
non_finite_reaches = reaches(lambda a: ~np.isfinite(a))


# ONNX Runtime is not asked: the process would end.
DEADLY = [
    Known(
        "Split with absent outputs", "the optional outputs of Split may be '': a null pointer is written through",
        has("Split", lambda n: "" in n.output),
    ),
]  # fmt: skip
REFUSALS = [
    Known("MatMul of uint32", "an assertion about element types fails", says(r"running MatMul node.*Tensor type mismatch")),
    Known(
        "no kernel", "it has no kernel for the operator's dtype, rank or opset",
        says("NOT_IMPLEMENTED|does not support double yet|Linear' mode only supports|NumDimensions\\(\\) == 4|data type is not supported with Scatter|Pad should be smaller than kernel|Unexpected mode of 3"),
    ),
    Known("body without shapes", "values of the body of a Loop or Scan must have declared shapes", says("subgraph input 0 has unknown shape|must have the shape set for all outputs")),
    Known(
        "zero points by channel", "ConvInteger and MatMulInteger take one zero point for each operand",
        says("Non per-tensor quantization is not supported now|zero point must be a scalar or 1D tensor of size 1"),
    ),
]  # fmt: skip
FAULTS = [
    Known("NaN in a recurrent layer", "its sigmoid and tanh bound their argument first, which turns NaN into a number", nan_reaches("LSTM", "GRU", "RNN")),
    Known("Loop of no trips", "collected values have dims of 0 where the body's result has none that are declared", lambda case, text: has("Loop")(case, text) and re.search(r"has shape \(0,", text) is not None),
    Known("NaN in LRN", "the sum over channels slides: a NaN or an infinity stays in it", non_finite_reaches("LRN")),
    Known("NaN quantised", "ONNX does not say what NaN becomes", nan_reaches("QuantizeLinear", "DynamicQuantizeLinear")),
    Known("MeanVarianceNormalization", "its variance is mean(x²) - mean(x)², which rounding makes negative", has("MeanVarianceNormalization")),
    Known("NaN loses", "the larger or smaller of NaN and a number is the number, or depends on their places", nan_reaches(
        "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "Unique")),
    Known(
        "sequence of no steps", "RNN, GRU and LSTM give 0 as last state of a sequence of length 0, also where there is an initial one",
        lambda case, text: any(
            n.op_type in ("RNN", "GRU", "LSTM") and len(n.input) > 5 and n.input[4] and (value(case, n.input[4]) == 0).any()
            for n in all_nodes(case.model.graph)
        ),
    ),
]  # fmt: skip
LENIENT = [
    Known(
        "window larger than the input",
        "ONNX defines no such output size",
        says("the output size would not be positive"),
    ),
    Known(
        "PRelu's slope enlarges x",
        "ONNX broadcasts the slope to x, not x to the slope",
        says("PRelu.*does not broadcast to"),
    ),
]


def deadly(case: Case) -> str | None:
    return next((k.name for k in DEADLY if k.matches(case, "")), None)


def refusal(text: str) -> str | None:
    return next((k.name for k in REFUSALS if k.matches(None, text)), None)


def fault(case: Case, text: str) -> str | None:
    """The known fault that explains the difference; the case should be small, so that it explains nothing else."""
    return next((k.name for k in FAULTS if k.matches(case, text)), None)


def lenient(case: Case, text: str) -> str | None:
    return next((k.name for k in LENIENT if k.matches(case, text)), None)


def reasons() -> dict[str, str]:
    return {k.name: k.reason for k in (*DEADLY, *REFUSALS, *FAULTS, *LENIENT)}
