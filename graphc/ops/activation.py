"""Activation functions.

The formulas are those of the ONNX operator documents; where a scalar is another form of it, its comment says why.
"""

from __future__ import annotations

import math

import numpy as np

from graphc import expr as e
from graphc.op import Attr, Call, Case, Laws, Tensor
from graphc.ops.elementwise import EXACT, ROUNDED, broadcasting, elementwise, kind_of, require_broadcasts_to_first
from graphc.ops.precision import NUMERIC, SIGNED
from graphc.ops.transcendental import erf_reference
from graphc.types import TensorType

NAN = (math.nan,)  # at infinity, products such as 0*inf make the result depend on the form of the formula


def _varied(**attrs) -> tuple[Case, ...]:
    return (Case((Tensor((3, 5)),), attrs),)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# --- rectifiers -------------------------------------------------------------------------------------------------------
elementwise(
    "Relu",
    "x",
    lambda x: e.maximum(x, 0),
    lambda x: np.where(x < 0, 0, x),
    takes=SIGNED,
    tolerance=EXACT,
    laws=Laws(idempotent=True, not_negative=True),
)
elementwise(
    "LeakyRelu",
    "x",
    lambda x, alpha: e.where(x < 0, x * alpha, x),
    lambda x, alpha: np.where(x < 0, x * alpha, x),
    attrs={"alpha": Attr(float, 0.01)},
    cases=_varied(alpha=-1.5),
    tolerance=ROUNDED,
)
elementwise(
    "ThresholdedRelu",
    "x",
    lambda x, alpha: e.where(x > alpha, x, 0),
    lambda x, alpha: np.where(x > alpha, x, 0),
    attrs={"alpha": Attr(float, 1.0)},
    cases=_varied(alpha=-2.0),
    tolerance=EXACT,
)


def _infer_prelu(call: Call) -> list[TensorType]:
    require_broadcasts_to_first(call, 1)
    (y,) = broadcasting(NUMERIC)(call)
    return [y.with_shape(call.shape(0))]


elementwise(
    "PRelu",
    "x slope",
    lambda x, slope: e.where(x < 0, x * slope, x),
    lambda x, slope: np.where(x < 0, x * slope, x),
    takes=SIGNED,
    infer=_infer_prelu,
    cases=(
        Case((Tensor((2, 3, 4)), Tensor((3, 1)))),
        Case((Tensor((2, 3)), Tensor((2, 3)))),
        Case((Tensor((2, 3)), Tensor(()))),
        Case((Tensor((0, 3)), Tensor((1,)))),
    ),
    tolerance=ROUNDED,
)


def _shrink(x, lambd, bias):
    if kind_of(x) != "f":
        return e.cast(_shrink(e.cast(x, "float64"), lambd, bias), x.dtype)
    return e.where(x < -lambd, x + bias, e.where(x > lambd, x - bias, 0))


elementwise(
    "Shrink",
    "x",
    _shrink,
    lambda x, lambd, bias: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)),
    takes=NUMERIC,
    attrs={"lambd": Attr(float, 0.5), "bias": Attr(float, 0.0)},
    cases=_varied(lambd=1.5, bias=1.5),
    tolerance=ROUNDED,
)


# --- exponential units ------------------------------------------------------------------------------------------------
def _expm1(x):
    """exp(x) - 1 for x <= 0, with the digits of small x: 2*t/(1 - t) where t = tanh(x/2)."""
    t = e.tanh(x * 0.5)
    return e.div(t + t, 1 - t)


elementwise(
    "Elu",
    "x",
    lambda x, alpha: e.where(x < 0, _expm1(x) * alpha, x),
    lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x),
    finite=True,
    attrs={"alpha": Attr(float, 1.0)},
    cases=_varied(alpha=2.0),
)
elementwise(
    "Selu",
    "x",
    lambda x, alpha, gamma: e.where(x > 0, x * gamma, _expm1(x) * (alpha * gamma)),
    lambda x, alpha, gamma: gamma * np.where(x > 0, x, alpha * np.expm1(x)),
    finite=True,
    attrs={"alpha": Attr(float, 1.67326319217681884765625), "gamma": Attr(float, 1.05070102214813232421875)},
    cases=_varied(alpha=2.0, gamma=3.0),
)
elementwise(
    "Celu",
    "x",
    lambda x, alpha: e.where(x < 0, _expm1(x * (1 / alpha if alpha else math.inf)) * alpha, x),
    lambda x, alpha: np.where(x < 0, alpha * np.expm1(x / alpha), x),
    finite=True,
    attrs={"alpha": Attr(float, 1.0)},
    special=NAN,
    cases=_varied(alpha=2.0),
)


# --- sigmoids ---------------------------------------------------------------------------------------------------------
def _log1p(x):
    """log(1 + x) for x >= 0, with the digits of small x (Kahan): u - 1 has the same rounding error as u = 1 + x."""
    u = x + 1
    rounded = u - 1
    return e.where(rounded > 0, e.log(u) * e.div(x, rounded), x)


def _hard_sigmoid(x, alpha, beta):
    return e.clamp(x * alpha + beta, 0, 1)


elementwise("Sigmoid", "x", e.sigmoid, _sigmoid, low=-9, high=9, laws=Laws(not_negative=True))
elementwise("Tanh", "x", e.tanh, np.tanh)
elementwise(
    "Softsign", "x", lambda x: e.div(x, e.absolute(x) + 1), lambda x: x / (1 + np.abs(x)), special=NAN, finite=True
)
elementwise(
    "Softplus",  # without overflow of exp
    "x",
    lambda x: e.maximum(x, 0) + _log1p(e.exp(-e.absolute(x))),
    lambda x: np.logaddexp(x, np.zeros_like(x)),
    finite=True,
    low=-9,
    high=9,
    laws=Laws(not_negative=True),
)
elementwise(
    "HardSigmoid",
    "x",
    _hard_sigmoid,
    lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    attrs={"alpha": Attr(float, 0.2), "beta": Attr(float, 0.5)},
    cases=_varied(alpha=0.5, beta=0.6),
    laws=Laws(not_negative=True),
)


# --- gated: x times a sigmoid of x ------------------------------------------------------------------------------------
elementwise(
    "HardSwish", "x", lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5), lambda x: x * np.clip(x / 6 + 0.5, 0, 1), special=NAN
)
elementwise(
    "Swish",
    "x",
    lambda x, alpha: x * e.sigmoid(x * alpha),
    lambda x, alpha: x * _sigmoid(alpha * x),
    attrs={"alpha": Attr(float, 1.0)},
    special=NAN,
    cases=_varied(alpha=-0.5),
)


def _mish(x):
    """With t = exp(x): tanh(log(1 + t)) = n/(n + 2), n = t*(t + 2). Above 20 it is 1 in float64 too."""
    t = e.exp(e.minimum(x, 20))
    n = t * (t + 2)
    return x * e.div(n, n + 2)


elementwise("Mish", "x", _mish, lambda x: x * np.tanh(np.log1p(np.exp(x))), special=NAN, finite=True)


def _gelu(x, approximate):
    """With 1 + tanh(u) = 2*sigmoid(2*u)."""
    if approximate == "tanh":
        c = 2 * math.sqrt(2 / math.pi)
        return x * e.sigmoid(x * (c + 0.044715 * c * (x * x)))
    return x * 0.5 * (e.erf(x * math.sqrt(0.5)) + 1)


def _gelu_reference(x: np.ndarray, approximate: str) -> np.ndarray:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf_reference(x / math.sqrt(2)))


elementwise(
    "Gelu",
    "x",
    _gelu,
    _gelu_reference,
    attrs={"approximate": Attr(str, "none", choices=("none", "tanh"))},
    low=-2,  # further down 1 + erf cancels, which matters only where no larger result stands beside it
    special=NAN,
    cases=tuple(Case((Tensor((3, 5), -9, 9),), {"approximate": a}) for a in ("none", "tanh")),
)
