"""The layers of activations and arithmetic."""

from __future__ import annotations

from typing import Any, Literal

from graphc.frontends.yaml_args import Number
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value


def _simple(name: str, op: str, doc: str, **attrs: Any) -> None:
    def build(c: LayerBuilder, x: Value) -> Value:
        return c.add(op, x, **attrs)

    build.__doc__ = doc
    layer(build, name=name)


for _name, _op in {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "softsign": "Softsign",
    "mish": "Mish", "hswish": "HardSwish", "selu": "Selu", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "neg": "Neg", "abs": "Abs",
}.items():  # fmt: skip
    _simple(_name, _op, f"The ONNX operator {_op}.")
_simple(
    "hsigmoid", "HardSigmoid", "clip(x/6 + 1/2, 0, 1), as in MobileNet v3 (arXiv:1905.02244).", alpha=1 / 6, beta=0.5
)


@layer
def identity(c: LayerBuilder, x: Value) -> Value:
    """Nothing."""
    return x


@layer
def relu6(c: LayerBuilder, x: Value) -> Value:
    """clip(x, 0, 6)."""
    return clip(c, x, low=0, high=6)


@layer
def clip(c: LayerBuilder, x: Value, *, low: Number | None = None, high: Number | None = None) -> Value:
    """x between low and high."""
    bounds = [None if v is None else c.const(v, x.dtype) for v in (low, high)]
    return c.add("Clip", x, *bounds)


@layer
def swish(c: LayerBuilder, x: Value) -> Value:
    """x·sigmoid(x), also known as silu."""
    return c.add("Mul", x, c.add("Sigmoid", x))


layer(swish, name="silu")


@layer
def gelu(c: LayerBuilder, x: Value, *, approximate: Literal["none", "tanh"] = "none") -> Value:
    """x·Φ(x) (Hendrycks, Gimpel 2016, arXiv:1606.08415)."""
    return c.add("Gelu", x, approximate=approximate)


@layer
def leaky_relu(c: LayerBuilder, x: Value, *, alpha: float = 0.01) -> Value:
    """x where positive, else alpha·x."""
    return c.add("LeakyRelu", x, alpha=alpha)


@layer
def elu(c: LayerBuilder, x: Value, *, alpha: float = 1.0) -> Value:
    """x where positive, else alpha·(exp(x) - 1)."""
    return c.add("Elu", x, alpha=alpha)


@layer
def prelu(c: LayerBuilder, x: Value) -> Value:
    """Leaky relu with a learned slope for each channel."""
    channels = c.fixed(x, 1, "the number of channels")
    slope = c.weight("weight", (channels, *(1,) * (len(x.shape) - 2)), x.dtype, "small")
    return c.add("PRelu", x, slope)


@layer
def softmax(c: LayerBuilder, x: Value, *, axis: int = -1) -> Value:
    """exp(x)/Σ exp(x) along an axis."""
    return c.add("Softmax", x, axis=axis)


@layer
def log_softmax(c: LayerBuilder, x: Value, *, axis: int = -1) -> Value:
    """log of softmax along an axis."""
    return c.add("LogSoftmax", x, axis=axis)


# --- arithmetic of several values -------------------------------------------------------------------------------------
def _fold(name: str, op: str, symbol: str) -> None:
    def build(c: LayerBuilder, *xs: Value) -> Value:
        if len(xs) < 2:
            raise c.fail("needs at least two operands", "name them: from: [a, b]")
        y = xs[0]
        for x in xs[1:]:
            y = c.add(op, y, x)
        return y

    build.__doc__ = f"a {symbol} b {symbol} … of what `from` names, with broadcasting."
    layer(build, name=name)


for _name, _op, _symbol in (("add", "Add", "+"), ("sub", "Sub", "-"), ("mul", "Mul", "·"), ("div", "Div", "/")):
    _fold(_name, _op, _symbol)


@layer
def scale(c: LayerBuilder, x: Value, *, by: Number) -> Value:
    """x times a number."""
    return c.add("Mul", x, c.const(by, x.dtype))


@layer
def matmul(c: LayerBuilder, a: Value, b: Value) -> Value:
    """Matrix product of the two values that `from` names."""
    return c.add("MatMul", a, b)


@layer
def concat(c: LayerBuilder, *xs: Value, axis: int = 1) -> Value:
    """Join what `from` names along an axis."""
    return xs[0] if len(xs) == 1 else c.add("Concat", *xs, axis=axis)
