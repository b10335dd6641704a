"""Recurrent layers: RNN, LSTM and GRU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype, require_same_dtype
from graphc.ops.precision import widen
from graphc.types import Dim, Shape, TensorType, numbers, prod

# name -> (function of x, alpha, beta; default alpha; default beta); None: the function has no such parameter
_ACTIVATIONS: dict[str, tuple[Callable, float | None, float | None]] = {
    "Relu": (lambda x, a, b: np.maximum(x, 0), None, None),
    "Tanh": (lambda x, a, b: np.tanh(x), None, None),
    "Sigmoid": (lambda x, a, b: 0.5 * (1 + np.tanh(0.5 * x)), None, None),
    "Affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "LeakyRelu": (lambda x, a, b: np.where(x >= 0, x, a * x), 0.01, None),
    "ThresholdedRelu": (lambda x, a, b: np.where(x >= a, x, 0), 1.0, None),
    "ScaledTanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "HardSigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "Elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), 1.0, None),
    "Softsign": (lambda x, a, b: x / (1 + np.abs(x)), None, None),
    "Softplus": (lambda x, a, b: np.logaddexp(x, 0), None, None),
}
_BY_LOWER = {name.lower(): name for name in _ACTIVATIONS}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULT_ACTIVATIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


@dataclass(frozen=True)
class Activation:
    """An activation with its parameters resolved (0.0 where the function has none)."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return _ACTIVATIONS[self.name][0](x, self.alpha, self.beta).astype(x.dtype, copy=False)


@dataclass(frozen=True)
class Cell:
    """What a kernel needs to know of a recurrent layer, with every default resolved.

    gates: 1 RNN, 3 GRU (z r h), 4 LSTM (i o f c). reverse: for each direction, does it run from the end to the start?
    activations: for each direction (f,), (f, g) or (f, g, h) of the equations. seq, batch, inputs, hidden: sizes.
    """

    gates: int
    seq: Dim
    batch: Dim
    inputs: Dim
    hidden: Dim
    reverse: tuple[bool, ...]
    activations: tuple[tuple[Activation, ...], ...]
    clip: float | None
    batch_first: bool


@dataclass(frozen=True)
class BoundCell(Cell):
    """A cell whose sizes are known."""

    seq: int
    batch: int
    inputs: int
    hidden: int


def bound_cell(call: Call) -> BoundCell:
    """`cell` of a bound graph. Raises TypeError where a size is not known."""
    c = cell(call)
    seq, batch, inputs, hidden = numbers((c.seq, c.batch, c.inputs, c.hidden))
    return BoundCell(c.gates, seq, batch, inputs, hidden, c.reverse, c.activations, c.clip, c.batch_first)


def cell(call: Call) -> Cell:
    """The layer's sizes and resolved attributes. Raises TypeRuleError on activations that don't fit."""
    x, r = call.shape(0), call.shape(2)
    seq, batch = x[1::-1] if call.attrs.layout else x[:2]
    try:
        functions = _activations(
            call.op.name,
            call.attrs.direction,
            call.attrs.activations,
            call.attrs.activation_alpha,
            call.attrs.activation_beta,
        )
    except ValueError as error:
        raise call.fail(str(error)) from None
    reverse = _reverse(call.attrs.direction)
    return Cell(
        _GATES[call.op.name], seq, batch, x[2], r[2], reverse, functions, call.attrs.clip, bool(call.attrs.layout)
    )


def _reverse(direction: str) -> tuple[bool, ...]:
    return {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]


def _activations(op: str, direction: str, names, alphas, betas) -> tuple[tuple[Activation, ...], ...]:
    """For each direction its activations. Each function takes the next alpha (beta) if it has one, else its default."""
    default = _DEFAULT_ACTIVATIONS[op]
    directions = len(_reverse(direction))
    names = names or default * directions
    if op == "RNN" and directions == 1:
        names = names[:1]  # the default that ONNX declares is a pair
    if len(names) != len(default) * directions:
        raise ValueError(f"{len(names)} activations {names}: {op} {direction} takes {len(default) * directions}")
    alphas, betas = iter(alphas or ()), iter(betas or ())
    functions = []
    for given in names:
        name = _BY_LOWER.get(given.lower())
        if name is None:
            raise ValueError(f"unknown activation '{given}'; one of: {', '.join(_ACTIVATIONS)}")
        _, alpha, beta = _ACTIVATIONS[name]
        alpha, beta = (0.0 if d is None else next(values, d) for d, values in ((alpha, alphas), (beta, betas)))
        functions.append(Activation(name, alpha, beta))
    return tuple(tuple(functions[i : i + len(default)]) for i in range(0, len(functions), len(default)))


# --- type rule --------------------------------------------------------------------------------------------------------
def _recurrent_infer(call: Call) -> list[TensorType]:
    """Y [seq, directions, batch, hidden] (layout 1: [batch, seq, directions, hidden]), Y_h and Y_c without seq."""
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, *(i for i in range(len(call.inputs)) if i != 4))
    for i, name in enumerate(("X", "W", "R")):
        if call.rank(i) != 3:
            raise call.fail(f"operand {name} has shape {call.shape(i)}, not three axes", _layout_hint(call))
    c = cell(call)
    d, h, g = len(c.reverse), c.hidden, c.gates
    if call.attrs.hidden_size is not None and differ(call.attrs.hidden_size, h):
        raise call.fail(f"hidden_size is {call.attrs.hidden_size}, the recurrence weights R {call.shape(2)} have {h}")
    state = (c.batch, d, h) if call.attrs.layout else (d, c.batch, h)
    _expect(call, 1, "W", (d, g * h, c.inputs))
    _expect(call, 2, "R", (d, g * h, h))
    _expect(call, 3, "B", (d, 2 * g * h))
    _expect(call, 4, "sequence_lens", (c.batch,))
    _expect(call, 5, "initial_h", state)
    if call.has(4) and call.dtype(4).kind not in "iu":
        raise call.fail(f"sequence_lens is {call.dtype(4)}, not int32", "insert a Cast")
    if call.op.name == "LSTM":
        _expect(call, 6, "initial_c", state)
        _expect(call, 7, "P", (d, 3 * h))
    y = (c.batch, c.seq, d, h) if call.attrs.layout else (c.seq, d, c.batch, h)
    return [TensorType(dtype, s) for s in (y, *[state] * (len(call.op.outputs) - 1))]


def _layout_hint(call: Call) -> str:
    order = "[batch, seq, inputs] (layout=1)" if call.attrs.layout else "[seq, batch, inputs] (layout=0)"
    return f"X is {order}, W [directions, gates·hidden, inputs], R [directions, gates·hidden, hidden]"


def _expect(call: Call, i: int, name: str, want: Shape) -> None:
    if call.has(i) and (call.rank(i) != len(want) or any(differ(a, b) for a, b in zip(call.shape(i), want))):
        raise call.fail(f"operand {name} has shape {call.shape(i)}, not {want}", _layout_hint(call))


def _recurrent_macs(call: Call) -> Dim:
    """One for every weight of W and R, at each step of each sequence."""
    c = cell(call)
    return prod((c.seq, c.batch, len(c.reverse), c.gates, c.hidden, c.inputs + c.hidden))


# --- references -------------------------------------------------------------------------------------------------------
def _run(op: str, step: Callable, x, w, r, b, lens, initial, attrs) -> tuple[np.ndarray, ...]:
    """Each direction over time: `step(x W^T, state, direction, activations) -> next state`, where state[0] is H.

    A sequence that has ended keeps its state and gives zeros; the reverse direction starts at each sequence's own end.
    """
    if attrs["layout"]:
        x, initial = x.swapaxes(0, 1), [None if s is None else s.swapaxes(0, 1) for s in initial]
    seq, batch, _ = x.shape
    hidden = r.shape[2]
    lens = np.full(batch, seq) if lens is None else lens.astype(np.int64)
    if lens.size and not (lens.min() >= 0 and lens.max() <= seq):
        raise InputError(f"sequence_lens from {lens.min()} to {lens.max()} do not lie between 0 and {seq} steps")
    names = ("direction", "activations", "activation_alpha", "activation_beta")
    functions = _activations(op, *(attrs[n] for n in names))
    reverse = _reverse(attrs["direction"])
    y = np.zeros((seq, len(reverse), batch, hidden), x.dtype)
    finals = [np.zeros((len(reverse), batch, hidden), x.dtype) for _ in initial]
    steps, rows = np.arange(seq)[:, None], np.arange(batch)[None]
    for d, backward in enumerate(reverse):
        order = np.where(steps < lens, lens - 1 - steps, steps) if backward else np.broadcast_to(steps, (seq, batch))
        state = [np.zeros((batch, hidden), x.dtype) if s is None else s[d] for s in initial]
        inputs = np.matmul(x[order, rows], w[d].T)
        for t in range(seq):
            live = (t < lens)[:, None]
            known = (t <= lens)[
                :, None
            ]  # what a step takes from ended sequences matters where H is quantised: see contrib
            new = step(inputs[t], [np.where(known, s, 0) for s in state], d, functions[d])
            state = [np.where(live, n, s) for n, s in zip(new, state)]
            y[order[t], d, rows[0]] = np.where(live, state[0], 0)
        for final, s in zip(finals, state):
            final[d] = s
    if attrs["layout"]:
        return y.transpose(2, 0, 1, 3), *(f.swapaxes(0, 1) for f in finals)
    return y, *finals


def _clipper(clip: float | None) -> Callable:
    return (lambda v: v) if clip is None else (lambda v: np.clip(v, -clip, clip))


def _biases(b: np.ndarray | None, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Wb, Rb), each [directions, gates·hidden]."""
    rows = r.shape[1]
    return (np.zeros(r.shape[:2], r.dtype),) * 2 if b is None else (b[:, :rows], b[:, rows:])


def _narrow_results(reference: Callable) -> Callable:
    """The reference on operands widened to float32, its results rounded to the dtype of the first operand."""

    def run(*arrays, **attrs):
        return tuple(y.astype(arrays[0].dtype, copy=False) for y in reference(*map(widen, arrays), **attrs))

    return run


def _rnn_reference(x, w, r, b=None, lens=None, h0=None, *, clip, **attrs):
    """H' = f(x W^T + Wb + H R^T + Rb)."""
    bias, bounded = np.asarray(sum(_biases(b, r))), _clipper(clip)

    def step(xw, state, d, functions):
        return [functions[0](bounded(xw + state[0] @ r[d].T + bias[d]))]

    return _run("RNN", step, x, w, r, b, lens, [h0], attrs)


def _gru_reference(x, w, r, b=None, lens=None, h0=None, *, clip, linear_before_reset, **attrs):
    """z, r = f(…); candidate = g(…) with the reset gate before or after its matrix; H' = (1 - z) candidate + z H."""
    (wb, rb), bounded, n = _biases(b, r), _clipper(clip), r.shape[2]

    def step(xw, state, d, functions):
        (h,), (f, g), gates = state, functions, slice(0, 2 * n)
        xw = xw + wb[d]
        z, reset = np.split(f(bounded(xw[:, gates] + h @ r[d, gates].T + rb[d, gates])), 2, axis=1)
        matrix, bias = r[d, 2 * n :].T, rb[d, 2 * n :]
        recurrent = reset * (h @ matrix + bias) if linear_before_reset else (reset * h) @ matrix + bias
        return [(1 - z) * g(bounded(xw[:, 2 * n :] + recurrent)) + z * h]

    return _run("GRU", step, x, w, r, b, lens, [h0], attrs)


def lstm_reference(
    x, w, r, b=None, lens=None, h0=None, c0=None, p=None, *, clip, input_forget, rounded=lambda h: h, **attrs
):
    """Gates i, o, f with peepholes P (i, f see C, o sees C'); C' = f C + i g(…); H' = o h(C').

    rounded: what becomes of H before it is multiplied by R.
    """
    bias, bounded, n = np.asarray(sum(_biases(b, r))), _clipper(clip), r.shape[2]

    def step(xw, state, d, functions):
        (hidden, c), (f, g, h) = state, functions
        zi, zo, zf, zc = np.split(xw + rounded(hidden) @ r[d].T + bias[d], 4, axis=1)

        def seen(z, k, c):
            """With the peephole, if there is one: zeros would make NaN of an infinite state."""
            return z if p is None else z + p[d, k * n : (k + 1) * n] * c

        i = f(bounded(seen(zi, 0, c)))
        forget = 1 - i if input_forget else f(bounded(seen(zf, 2, c)))
        new = forget * c + i * g(bounded(zc))
        return [f(bounded(seen(zo, 1, new))) * h(new), new]

    return _run("LSTM", step, x, w, r, b, lens, [h0, c0], attrs)


# --- records ----------------------------------------------------------------------------------------------------------
def _cases(op: str, variants: list[dict]) -> tuple[Case, ...]:
    """Each variant: attributes, and in 'with' the optional operands that are given ('b', 'lens', 'h', 'c', 'p')."""
    gates, outputs = _GATES[op], 3 if op == "LSTM" else 2

    def case(given: str = "b", seq=5, batch=3, inputs=7, hidden=6, outs=outputs, lens=(5, 3, 4), **attrs):
        d = 2 if attrs.get("direction") == "bidirectional" else 1
        first = attrs.get("layout", 0) == 1
        state = Tensor((batch, d, hidden) if first else (d, batch, hidden))
        operands = [
            Tensor((batch, seq, inputs) if first else (seq, batch, inputs)),
            Tensor((d, gates * hidden, inputs)),
            Tensor((d, gates * hidden, hidden)),
            Tensor((d, 2 * gates * hidden)) if "b" in given else None,
            Const(lens[:batch], "int32") if "l" in given else None,
            state if "h" in given else None,
        ]
        if op == "LSTM":
            operands += [state if "c" in given else None, Tensor((d, 3 * hidden)) if "p" in given else None]
        while operands[-1] is None:
            operands.pop()
        return Case(tuple(operands), {"hidden_size": hidden, **attrs}, outs)

    shared: list[dict[str, Any]] = [
        {},
        {"given": ""},
        {"given": "bhc", "batch": 1, "hidden": 16, "inputs": 16},
        {"given": "bhc", "direction": "reverse"},
        {"given": "blhcp", "direction": "bidirectional"},
        {"given": "blhc", "direction": "reverse", "outs": 1},
        {"given": "bhc", "layout": 1, "direction": "bidirectional"},
        {"given": "bl", "layout": 1, "direction": "reverse"},
        {"given": "bhc", "clip": 0.5},
        {"seq": 1, "batch": 1, "hidden": 1, "inputs": 1},
        {"hidden": 13, "inputs": 3, "batch": 2, "seq": 9},
    ]
    return tuple(case(**v) for v in [*shared, *variants])


def _recurrent(name: str, reference: Callable, attrs: dict, variants: list[dict]) -> Op:
    lstm = name == "LSTM"
    return register(
        Op(
            name,
            ("x", "w", "r", "b?", "sequence_lens?", "initial_h?", *(("initial_c?", "p?") if lstm else ())),
            _recurrent_infer,
            _narrow_results(reference),
            {
                "direction": Attr(str, "forward", ("forward", "reverse", "bidirectional")),
                "hidden_size": Attr(int, None, settled=True),
                "activations": Attr("strings", None),
                "activation_alpha": Attr("floats", None),
                "activation_beta": Attr("floats", None),
                "clip": Attr(float, None),
                "layout": Attr(int, 0, (0, 1)),
                **attrs,
            },
            ("y", "y_h", "y_c") if lstm else ("y", "y_h"),
            macs=_recurrent_macs,
            samples=Samples(low=-1.0, high=1.0, cases=_cases(name, variants)),
            family=Family.RECURRENT,
        )
    )


_BOTH = {"direction": "bidirectional"}
_recurrent(
    "RNN",
    _rnn_reference,
    {},
    [
        {"activations": ("Relu",)},
        {
            "activations": ("LeakyRelu", "ScaledTanh"),
            "activation_alpha": (0.2, 1.5),
            "activation_beta": (0.7,),
            **_BOTH,
        },
        {"activations": ("Affine",), "activation_alpha": (0.5,), "activation_beta": (0.1,)},
        {"activations": ("ThresholdedRelu",), "activation_alpha": (0.1,)},
        {"activations": ("HardSigmoid",)},
        {"activations": ("Elu",), "activation_alpha": (0.8,)},
        {"activations": ("Softsign",)},
        {"activations": ("Softplus",)},
    ],
)
_recurrent(
    "GRU",
    _gru_reference,
    {"linear_before_reset": Attr(bool, False)},
    [
        {"given": "bh", "linear_before_reset": True},
        {"given": "blh", "linear_before_reset": True, "clip": 0.7, **_BOTH},
        {"activations": ("HardSigmoid", "Softsign"), "activation_alpha": (0.3,), "activation_beta": (0.4,)},
        {"activations": ("Sigmoid", "Tanh", "HardSigmoid", "LeakyRelu"), "activation_alpha": (0.3, 0.1), **_BOTH},
    ],
)
_recurrent(
    "LSTM",
    lstm_reference,
    {"input_forget": Attr(bool, False)},
    [
        {"given": "bhcp"},
        {"given": "bhcp", "input_forget": True},
        {"given": "bp", "outs": 2, "direction": "bidirectional"},
        {"activations": ("HardSigmoid", "Softsign", "Relu"), "activation_alpha": (0.3,), "activation_beta": (0.4,)},
        {
            "activations": ("Sigmoid", "Tanh", "Tanh", "Sigmoid", "LeakyRelu", "Tanh"),
            "activation_alpha": (0.1,),
            **_BOTH,
        },
    ],
)
