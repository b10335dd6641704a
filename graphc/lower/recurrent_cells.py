"""The equations of RNN, GRU and LSTM as stages: each multiplies a state by the weights of some gates, all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from graphc import expr
from graphc.dtypes import FLOAT32
from graphc.expr import Expr
from graphc.op import get_op
from graphc.ops.recurrent import Activation

Scalar = Callable[[Expr], Expr]


@dataclass(frozen=True)
class Stage:
    """gates: their numbers in ONNX's order. Names are streams, a number for each unit and row of the batch.

    starts: what each gate's accumulator starts from. results: expressions by the stream that they become; arg g is gate g's
    accumulator, then come `operands`, then the results before it. state: what is multiplied.
    Streams: 'x0' … the input's projection for that gate; 'b2' the recurrent bias of gate 2; 'h', 'c' the states, of the last
    step as operands and of the next as results; 'z', 'rh' what a GRU's first stage hands to its second; 'pi', 'po', 'pf'
    peepholes.
    """

    gates: tuple[int, ...]
    starts: tuple[str, ...]
    operands: tuple[str, ...]
    results: tuple[tuple[str, Expr], ...]
    state: str = "h"


def _stage(
    gates: tuple[int, ...],
    operands: tuple[str, ...],
    equations: Callable[..., dict[str, Expr]],
    *,
    dtype: np.dtype,
    starts: tuple[str, ...] = (),
    state: str = "h",
) -> Stage:
    """equations(*gates, *operands) gives the results by stream."""
    starts = starts or tuple(f"x{g}" for g in gates)
    count = len(gates) + len(operands)
    results = equations(*(expr.arg(i, dtype) for i in range(count)))
    return Stage(gates, starts, operands, tuple(results.items()), state)


def activate(f: Activation, x: Expr) -> Expr:
    """An activation of the RNN, GRU and LSTM operators. All but two are operators of their own."""
    if f.name == "Affine":
        return x * f.alpha + f.beta
    if f.name == "ScaledTanh":
        return expr.tanh(x * f.beta) * f.alpha
    op = get_op(f.name)
    assert op.scalar is not None, f.name
    if f.name == "ThresholdedRelu":  # the operator gives 0 at the threshold, the activation x
        return expr.where(x >= f.alpha, x, 0)
    return op.scalar(x, **{name: getattr(f, name) for name in op.scalar_attrs})


def stages(
    op: str,
    activations: tuple[Activation, ...],
    clip: float | None,
    attrs: Mapping[str, object],
    peepholes: bool,
    dtype: np.dtype = FLOAT32.numpy,
) -> tuple[Stage, ...]:
    """The stages of one step, in order; the last one makes the new states. dtype: of all numbers."""

    def gate(i: int) -> Scalar:
        return lambda x: activate(activations[i], x if clip is None else expr.clamp(x, -clip, clip))

    if op == "RNN":
        return (_stage((0,), (), lambda x: {"h": gate(0)(x)}, dtype=dtype),)
    if op == "GRU":
        return _gru(gate(0), gate(1), bool(attrs["linear_before_reset"]), dtype)
    output = partial(activate, activations[2])  # the clip is for the gates
    return (_lstm(gate(0), gate(1), output, bool(attrs["input_forget"]), peepholes, dtype),)


def _gru(f: Scalar, g: Scalar, linear_before_reset: bool, dtype: np.dtype) -> tuple[Stage, ...]:
    """Gates z, r, candidate. The candidate's matrix multiplies r * h, unless the reset gate comes after it."""
    if linear_before_reset:

        def whole(z: Expr, r: Expr, recurrent: Expr, x: Expr, h: Expr) -> dict[str, Expr]:
            z = f(z)
            return {"h": (1 - z) * g(x + f(r) * recurrent) + z * h}

        return (_stage((0, 1, 2), ("x2", "h"), whole, dtype=dtype, starts=("x0", "x1", "b2")),)
    return (
        _stage((0, 1), ("h",), lambda z, r, h: {"z": f(z), "rh": f(r) * h}, dtype=dtype),
        _stage((2,), ("z", "h"), lambda x, z, h: {"h": (1 - z) * g(x) + z * h}, dtype=dtype, state="rh"),
    )


def _lstm(f: Scalar, g: Scalar, output: Scalar, input_forget: bool, peepholes: bool, dtype: np.dtype) -> Stage:
    """Gates i, o, f, c; with input_forget f is 1 - i. Peepholes let i and f see the old cell, o the new one."""
    gates = (0, 1, 3) if input_forget else (0, 1, 2, 3)
    seen = ("pi", "po") if input_forget else ("pi", "po", "pf")
    operands = ("c", *seen) if peepholes else ("c",)

    def equations(*xs: Expr) -> dict[str, Expr]:
        x, c, p = dict(zip(gates, xs)), xs[len(gates)], dict(zip(seen, xs[len(gates) + 1 :]))

        def see(name: str, value: Expr, cell: Expr) -> Expr:
            return value + p[name] * cell if p else value

        i = f(see("pi", x[0], c))
        forget = 1 - i if input_forget else f(see("pf", x[2], c))
        new = expr.arg(len(xs), dtype)  # the first result
        return {"c": forget * c + i * g(x[3]), "h": f(see("po", x[1], new)) * output(new)}

    return _stage(gates, operands, equations, dtype=dtype)
