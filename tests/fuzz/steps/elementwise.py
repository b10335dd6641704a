"""Elementwise operators: functions of one value, of two that broadcast, and of many."""

from __future__ import annotations

import numpy as np
from onnx import helper

from ..draft import Draft, Reject, Tensor, broadcast
from ..draws import BOOL, F32, FLOATS, INTS, is_float
from . import step

SMOOTH = [
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Softplus",
    "Softsign",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Erf",
    "Sin",
    "Cos",
    "Asin",
    "Acos",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
    "Acosh",
    "Atanh",
    "Abs",
    "Neg",
    "Identity",
    "ThresholdedRelu",
    "Shrink",
    "Tan",
]
OFTEN = ["Relu", "Sigmoid", "Tanh", "HardSwish", "Clip", "LeakyRelu", "Elu"]
STEPPED = ["Floor", "Ceil", "Round", "Sign", "IsNaN", "IsInf"]
NEWER = {"Mish": 18, "Gelu": 20, "HardSwish": 14}
COMPARE = ["Less", "Greater", "Equal", "LessOrEqual", "GreaterOrEqual"]


def activation(d: Draft, x: Tensor) -> Tensor:
    """One of the usual activations, or none."""
    match d.draw.one_of(
        "", "Relu", "Relu", "Relu6", "Sigmoid", "Tanh", "HardSwish", "Swish", "LeakyRelu", "Gelu", "PRelu"
    ):
        case "":
            return x
        case "Relu6":
            return d.node("Clip", x, d.const(0, x.dtype), d.const(6, x.dtype))
        case "Swish":
            return d.node("Mul", x, d.node("Sigmoid", x))
        case "HardSwish" if d.opset < 14:
            return d.node("Mul", x, d.node("HardSigmoid", x))
        case "Gelu":
            half = d.node("Mul", x, d.const(0.5, x.dtype))
            inside = d.node("Div", x, d.const(1.4142135, x.dtype))
            return d.node("Mul", half, d.node("Add", d.node("Erf", inside), d.const(1, x.dtype)))
        case "PRelu":
            slope = [1] * max(0, x.rank - 1)
            if x.rank > 1 and 1 not in x.open:
                slope[0] = x.shape[1]
            return d.node("PRelu", x, d.weights(*slope, dtype=x.dtype, low=0))
        case op:
            return d.node(op, x)


@step(3)
def unary(d: Draft) -> None:
    op = d.draw.one_of(*OFTEN, *SMOOTH, *NEWER)
    if NEWER.get(op, 0) > d.opset:
        raise Reject("newer")
    x = d.floats()
    match op:
        case "Clip":
            clip(d, x)
        case "LeakyRelu" | "Elu" | "Celu" | "ThresholdedRelu":
            d.node(op, x, alpha=d.draw.one_of(None, 0.5, 0.25, 1.0))
        case "HardSigmoid":
            d.node(op, x, alpha=d.draw.one_of(None, 0.25), beta=d.draw.one_of(None, 0.5, 0.0))
        case "Shrink":
            d.node(op, x, lambd=d.draw.one_of(0.5, 0.25), bias=d.draw.one_of(0.0, 0.25))
        case "Gelu":
            d.node(op, x, approximate=d.draw.one_of(None, "none", "tanh"))
        case _:
            d.node(op, x)


@step(0.7)
def stepped(d: Draft) -> None:
    """Functions with jumps: of values that are far from them, or exact."""
    x = d.floats()
    match op := d.draw.one_of(*STEPPED):
        case "IsInf":
            d.node(op, x, detect_negative=d.draw.one_of(None, 0), detect_positive=d.draw.one_of(None, 0))
        case _:
            d.node(op, x)


def clip(d: Draft, x: Tensor) -> Tensor:
    low, high = sorted((d.draw.one_of(-2, -1, 0, 0.25), d.draw.one_of(0.5, 1, 2, 6)))
    bounds = [
        d.const(low, x.dtype) if d.draw.chance(0.8) else None,
        d.const(high, x.dtype) if d.draw.chance(0.8) else None,
    ]
    return d.node("Clip", x, *bounds)


def ordered(d: Draft, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return (x, y) if d.draw.chance(0.5) else (y, x)


@step(4)
def binary(d: Draft) -> None:
    """Two operands that broadcast, in either order."""
    x = d.floats() if d.draw.chance(0.85) else d.pick(lambda t: t.dtype != BOOL)
    op = d.draw.one_of("Add", "Add", "Sub", "Mul", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu", "Pow", "Mod")
    if not is_float(x.dtype) and op in ("Sum", "Mean", "PRelu"):
        op = "Add"
    match op:
        case "Div":
            y = d.partner(x, 1, 4)
            d.node(op, *(ordered(d, x, y) if is_float(x.dtype) else (x, y)))
        case "Pow":
            exponent = d.draw.one_of(0.0, 0.5, 1.0, 2.0, 3.0, -1.0) if is_float(x.dtype) else d.draw.one_of(0, 1, 2, 3)
            if is_float(x.dtype) and exponent not in (2.0, 3.0, 1.0, 0.0):
                x = d.node("Sigmoid", x)
            d.node(op, x, d.const(exponent, x.dtype))
        case "Mod":
            y = d.partner(x, 1, 4)
            d.node(
                op,
                x,
                y,
                fmod=1 if is_float(x.dtype) else d.draw.one_of(None, 0, 1) if x.dtype.name == "int64" else None,
            )
        case "PRelu":
            slope = d.partner(x, 0, 1)
            d.node(op, x, slope)
        case _:
            d.node(op, *ordered(d, x, d.partner(x)))


@step(1.5)
def by_a_number(d: Draft) -> None:
    """By a constant that often changes nothing, on either side; of any rank."""
    x = d.floats()
    c = d.const(
        np.full([1] * d.draw.count(0, min(8, x.rank + 1)), d.draw.one_of(0.0, -0.0, 1.0, -1.0, 2.0, 0.5)), x.dtype
    )
    op = d.draw.one_of("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")
    if op in ("Div", "Pow"):
        d.node(op, x, c)
    else:
        d.node(op, *ordered(d, x, c))


@step(1)
def many(d: Draft) -> None:
    """Sum, Max, Min, Mean of 3 to 40 operands."""
    x = d.floats()
    n = d.draw.one_of(3, 3, 4, 5, 7, 8, 9, 16, 31, 32, 33, 40)
    operands = [x]
    for _ in range(n - 1):
        fits = [x, *(t for t in d.values if t.dtype == x.dtype and broadcast(x, t))]
        operands.append(d.partner(x) if d.draw.chance(0.2) else d.draw.one_of(*fits))
    d.node(d.draw.one_of("Sum", "Max", "Min", "Mean"), *d.draw.shuffled(operands))


@step(1)
def compare(d: Draft) -> None:
    x = d.pick(lambda t: t.dtype != BOOL)
    op = d.draw.one_of(*COMPARE)
    y = d.partner(x)
    d.node(op, *ordered(d, x, y))


@step(1)
def logic(d: Draft) -> None:
    x = d.pick(lambda t: t.dtype == BOOL)
    op = d.draw.one_of("And", "Or", "Xor", "Not", "Equal")
    d.node(op, x) if op == "Not" else d.node(op, *ordered(d, x, d.partner(x)))


@step(1.2)
def where(d: Draft) -> None:
    x = d.pick()
    y = d.partner(x)
    condition = d.partner(known_bool(d, x))
    d.node("Where", condition, *ordered(d, x, y))


def known_bool(d: Draft, x: Tensor) -> Tensor:
    """A bool value of x's shape that is not part of the model unless it is read."""
    worlds = tuple((np.zeros(s, bool),) for s in x.shapes())
    return Tensor("", BOOL, worlds)


@step(0.8)
def integers(d: Draft) -> None:
    """Arithmetic that wraps, and bits."""
    x = d.pick(lambda t: t.dtype in INTS)
    op = d.draw.one_of(
        "Add", "Sub", "Mul", "Neg", "Abs", "Sign", "BitShift", "BitwiseAnd", "BitwiseXor", "BitwiseNot", "Relu"
    )
    match op:
        case "BitShift":
            if x.dtype.kind != "u":
                raise Reject("unsigned only")
            d.node(op, x, d.partner(x, 0, 7), direction=d.draw.one_of("LEFT", "RIGHT"))
        case "BitwiseAnd" | "BitwiseXor":
            d.node(d.draw.one_of(op, "BitwiseOr"), x, d.partner(x, -100, 100))
        case "Neg" | "Abs" | "Sign" | "BitwiseNot" | "Relu":
            d.node(op, x)
        case _:
            d.node(op, x, d.partner(x, -100, 100))


@step(1.2)
def cast(d: Draft) -> None:
    """To another dtype; sometimes and back."""
    x = d.pick()
    to = d.draw.one_of(F32, F32, *FLOATS, *INTS, BOOL)
    y = d.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(to))
    if d.draw.chance(0.4) and is_float(to):
        d.node("Cast", y, to=helper.np_dtype_to_tensor_dtype(x.dtype))
    elif d.draw.chance(0.3):
        d.node("CastLike", y, d.floats()) if d.opset >= 15 else None


@step(0.6)
def twice(d: Draft) -> None:
    """The same computation two times."""
    x = d.floats()
    op = d.draw.one_of("Tanh", "Relu", "Sigmoid", "Neg")
    d.node(d.draw.one_of("Add", "Mul", "Sub"), d.node(op, x), d.node(op, x))


@step(0.6)
def constant_side(d: Draft) -> None:
    """A subgraph that depends on no input."""
    x = d.floats()
    c = d.node("Mul", d.node("Sqrt", d.const([4.0], x.dtype)), d.const(0.5, x.dtype))
    d.node("Mul", *ordered(d, x, c))
