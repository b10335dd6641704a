"""Steps of optimizers, domain ai.onnx.preview.training: new values of tensors from old ones, gradients and what was kept.

Formulas: the operators' texts in ONNX. What depends on the learning rate and the count of updates is one number, computed in
float64 as 1 - 0.999^T has few digits left in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.dtypes import is_float
from graphc.graph import Builder, Value
from graphc.op import FLOATS, Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.types import TensorType

DOMAIN = "ai.onnx.preview.training"


def _infer(kinds: int) -> Callable[[Call], list[TensorType]]:
    """Operands R, T, then all X, all gradients, and what is kept of each; results are X and what is kept."""

    def infer(call: Call) -> list[TensorType]:
        count, rest = divmod(len(call.inputs) - 2, kinds)
        if rest or not count:
            raise call.fail(
                f"takes R, T and {kinds} tensors for each that is optimized, not {len(call.inputs)} operands"
            )
        rate, updates = call.type(0), call.type(1)
        if not is_float(rate.dtype) or updates.dtype != np.int64 or rate.rank or updates.rank:
            raise call.fail(f"R must be a number and T an int64, not {rate} and {updates}")
        types = [call.type(i) for i in range(2, len(call.inputs))]
        for i, t in enumerate(types):
            x = types[i % count]
            if t.dtype != x.dtype or not is_float(t.dtype):
                raise call.fail(f"'{call.inputs[i + 2].name}' is {t}, what it belongs to {x}")
            if t.rank != x.rank or any(
                isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(t.shape, x.shape)
            ):
                raise call.fail(f"'{call.inputs[i + 2].name}' of shape {t.shape} belongs to one of {x.shape}")
        return [*types[:count], *types[2 * count :]]

    return infer


class _Numbers:
    """Arithmetic on values of one dtype: constants are numbers."""

    def __init__(self, b: Builder, dtype: np.dtype) -> None:
        self.b, self.dtype = b, dtype

    def __call__(self, op: str, *operands: Value | float) -> Value:
        values = (v if isinstance(v, Value) else self.b.constant(v, self.dtype) for v in operands)
        return self.b.add(op, *values)


def _expand(kinds: int, number: Callable, step: Callable) -> Callable[[Builder, Call], tuple[Value, ...]]:
    """number: the rate, and the count as float64 -> a number; step: that number, X, its gradient, what is kept -> new ones."""

    def expand(b: Builder, call: Call) -> tuple[Value, ...]:
        wide = _Numbers(b, np.dtype(np.float64))
        rate, count = (b.add("Cast", v, to=np.float64) for v in call.inputs[:2])
        at = number(wide, call.attrs, rate, count)
        n = (len(call.inputs) - 2) // kinds
        made = []
        for i in range(n):
            x, *others = call.inputs[2 + i :: n]
            own = _Numbers(b, x.dtype)
            at_own = [b.add("Cast", v, to=x.dtype) for v in at]
            gradient = others[0]
            if call.attrs.norm_coefficient:
                gradient = own("Add", own("Mul", x, call.attrs.norm_coefficient), gradient)
            made.append(step(own, call.attrs, at_own, x, gradient, *others[1:]))
        return tuple(v for results in zip(*made) for v in results)

    return expand


def _reference(kinds: int, number: Callable, step: Callable) -> Callable[..., tuple[np.ndarray, ...]]:
    def reference(rate: np.ndarray, count: np.ndarray, *tensors: np.ndarray, **attrs: Any) -> tuple[np.ndarray, ...]:
        at = number(float(rate), int(count), **attrs)
        n = len(tensors) // kinds
        made = []
        for i in range(n):
            x, gradient, *kept = (t.astype(np.float64) for t in tensors[i::n])
            results = step(at, x, gradient + attrs["norm_coefficient"] * x, *kept, **attrs)
            made.append([r.astype(tensors[i].dtype) for r in results])
        return tuple(a for results in zip(*made) for a in results)

    return reference


def _optimizer(
    name: str,
    kinds: int,
    attrs: dict[str, Attr],
    expand: Sequence[Callable],
    reference: Sequence[Callable],
    cases: Sequence[dict],
) -> None:
    """kinds: how many tensors belong to each that is optimized, that one included."""

    def case(given: dict, count: int, shapes: Sequence[tuple[int, ...]]) -> Case:
        positive = [Tensor(s, 0.1, 4) for s in shapes]  # the last of those that are kept is a sum of squares
        tensors = [Tensor(s) for _ in range(kinds - 1) for s in shapes] + positive
        return Case((Const(0.1, "float32"), Const(count), *tensors), given, len(shapes) * (kinds - 1))

    uses = [case(a, count, s) for a in cases for count, s in ((0, [(2, 3)]), (3, [(4,), (2, 1)]))]
    register(
        Op(
            f"{DOMAIN}::{name}",
            ("rate", "count", "*tensors"),
            _infer(kinds),
            _reference(kinds, *reference),
            attrs,
            outputs=("*new_tensors",),
            expand=_expand(kinds, *expand),
            samples=Samples(FLOATS, cases=tuple(uses)),
            family=Family.COMPOSITE,
        )
    )


# --- Adagrad ------------------------------------------------------------------------------------------------------------
def _adagrad(own: _Numbers, a: Any, at: Sequence[Value], x: Value, g: Value, h: Value) -> tuple[Value, ...]:
    h = own("Add", h, own("Mul", g, g))
    adaptive = own("Add", own("Sqrt", h), a.epsilon)
    return own("Sub", x, own("Div", own("Mul", at[0], g), adaptive)), h


def _adagrad_formula(rate, x, g, h, epsilon, **_):
    h = h + g * g
    return x - rate * g / (np.sqrt(h) + epsilon), h


_optimizer(
    "Adagrad",
    3,
    {"decay_factor": Attr(float, 0.0), "epsilon": Attr(float, 1e-6), "norm_coefficient": Attr(float, 0.0)},
    (lambda w, a, r, t: [w("Div", r, w("Add", w("Mul", t, a.decay_factor), 1.0))], _adagrad),
    (lambda r, t, decay_factor, **_: r / (1 + t * decay_factor), _adagrad_formula),
    ({}, {"decay_factor": 0.1, "epsilon": 1e-2, "norm_coefficient": 0.1}),
)


# --- Adam ---------------------------------------------------------------------------------------------------------------
def _adam_rate(w: _Numbers, a: Any, rate: Value, count: Value) -> list[Value]:
    powers = (w("Sub", 1.0, w("Pow", coefficient, count)) for coefficient in (a.beta, a.alpha))
    of_beta, of_alpha = powers
    adjusted = w("Div", w("Mul", rate, w("Sqrt", of_beta)), of_alpha)
    return [w.b.add("Where", w("Greater", count, 0.0), adjusted, rate)]


def _adam(own: _Numbers, a: Any, at: Sequence[Value], x: Value, g: Value, v: Value, h: Value) -> tuple[Value, ...]:
    v = own("Add", own("Mul", v, a.alpha), own("Mul", g, 1 - a.alpha))
    h = own("Add", own("Mul", h, a.beta), own("Mul", own("Mul", g, g), 1 - a.beta))
    x = own("Sub", x, own("Div", own("Mul", at[0], v), own("Add", own("Sqrt", h), a.epsilon)))
    if a.norm_coefficient_post:
        x = own("Mul", x, 1 - a.norm_coefficient_post)
    return x, v, h


def _adam_formula(rate, x, g, v, h, alpha, beta, epsilon, norm_coefficient_post, **_):
    v = alpha * v + (1 - alpha) * g
    h = beta * h + (1 - beta) * g * g
    return (1 - norm_coefficient_post) * (x - rate * v / (np.sqrt(h) + epsilon)), v, h


_optimizer(
    "Adam",
    4,
    {
        "alpha": Attr(float, 0.9),
        "beta": Attr(float, 0.999),
        "epsilon": Attr(float, 1e-6),
        "norm_coefficient": Attr(float, 0.0),
        "norm_coefficient_post": Attr(float, 0.0),
    },
    (_adam_rate, _adam),
    (lambda r, t, alpha, beta, **_: r * np.sqrt(1 - beta**t) / (1 - alpha**t) if t > 0 else r, _adam_formula),
    ({}, {"alpha": 0.95, "beta": 0.85, "epsilon": 1e-2, "norm_coefficient": 0.1, "norm_coefficient_post": 0.2}),
)


# --- Momentum -----------------------------------------------------------------------------------------------------------
def _momentum_numbers(w: _Numbers, a: Any, rate: Value, count: Value) -> list[Value]:
    ones = (w.b.constant(v, np.float64) for v in (a.beta, 1.0))
    return [rate, w.b.add("Where", w("Greater", count, 0.0), *ones)]


def _momentum(own: _Numbers, a: Any, at: Sequence[Value], x: Value, g: Value, v: Value) -> tuple[Value, ...]:
    v = own("Add", own("Mul", v, a.alpha), own("Mul", g, at[1]))
    along = own("Add", g, own("Mul", v, a.alpha)) if a.mode == "nesterov" else v
    return own("Sub", x, own("Mul", at[0], along)), v


def _momentum_formula(at, x, g, v, alpha, mode, **_):
    v = alpha * v + at[1] * g
    return x - at[0] * (g + alpha * v if mode == "nesterov" else v), v


_optimizer(
    "Momentum",
    3,
    {
        "alpha": Attr(float),
        "beta": Attr(float),
        "mode": Attr(str, choices=("nesterov", "standard")),
        "norm_coefficient": Attr(float),
    },
    (_momentum_numbers, _momentum),
    (lambda r, t, beta, **_: (r, beta if t > 0 else 1.0), _momentum_formula),
    [
        {"alpha": 0.95, "beta": 0.85, "norm_coefficient": c, "mode": m}
        for c, m in ((0.0, "standard"), (0.1, "nesterov"))
    ],
)
