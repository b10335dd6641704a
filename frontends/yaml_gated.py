"""The layers whose units choose and gate: maxout, squeeze and excitation, convolutional LSTM."""

from __future__ import annotations

from typing import Any, Literal

from graphc.frontends.yaml_layers import Ints, dense, window
from graphc.frontends.yaml_pointwise import swish
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value


@layer
def maxout(c: LayerBuilder, x: Value, *, out: int, k: int = 2, bias: bool = True) -> Value:
    """The maximum of k dense layers (Goodfellow et al. 2013, arXiv:1302.4389); weight [out·k, in]."""
    y = dense(c, x, out=out * k, bias=bias)
    y = c.add("Reshape", y, c.const([0] * (len(x.shape) - 1) + [out, k]))
    return c.add("ReduceMax", y, c.const([-1]), keepdims=0)


@layer
def glu(c: LayerBuilder, x: Value, *, axis: int = -1) -> Value:
    """a·sigmoid(b) of the two halves along an axis (Dauphin et al. 2016, arXiv:1612.08083)."""
    a, b = c.add("Split", x, outputs=2, axis=axis, num_outputs=2)
    return c.add("Mul", a, c.add("Sigmoid", b))


@layer
def squeeze_excite(
    c: LayerBuilder,
    x: Value,
    *,
    reduction: int = 16,
    hidden: int | None = None,
    act: Literal["relu", "swish"] = "relu",
    gate: Literal["sigmoid", "hsigmoid"] = "sigmoid",
) -> Value:
    """Weigh the channels by what all the image says (Hu et al. 2017, arXiv:1709.01507). hidden: channels inside, else those of
    the input divided by reduction. Weights: reduce.weight, reduce.bias, expand.weight, expand.bias, of 1×1 convolutions."""
    rank = c.rank(x, 3, 4, 5)
    channels = c.fixed(x, 1, "the number of channels")
    inner = channels // reduction if hidden is None and reduction > 0 else hidden
    if not inner or inner < 1:
        raise c.fail(f"reduction {reduction} leaves none of {channels} channels", "lower it, or give `hidden`")
    ones = (1,) * (rank - 2)
    y = c.add("GlobalAveragePool", x)
    for name, size, before in (("reduce", inner, channels), ("expand", channels, inner)):
        w = c.weight(f"{name}.weight", (size, before, *ones), x.dtype, "he")
        y = c.add("Conv", y, w, c.weight(f"{name}.bias", (size,), x.dtype, "small"), kernel_shape=ones)
        if name == "reduce":
            y = swish(c, y) if act == "swish" else c.add("Relu", y)
    y = c.add("Sigmoid", y) if gate == "sigmoid" else c.add("HardSigmoid", y, alpha=1 / 6, beta=0.5)
    return c.add("Mul", y, x)


@layer
def conv_lstm(
    c: LayerBuilder,
    *xs: Value,
    hidden: int,
    k: Ints = 3,
    bias: bool = True,
    peepholes: bool | Literal["channels"] = False,
    return_: Literal["all", "last"] = "all",
) -> Value | tuple[Value, Value]:
    """LSTM whose products are convolutions that keep the size (Shi et al. 2015, arXiv:1506.04214).

    Of [batch, steps, channels, height, width], a fixed number of steps: [batch, steps, hidden, …], or the last of them.
    One step of `from: [x, h, c]`, [batch, channels, height, width] and the state: the new h and c, `as: [h, c]`; of
    `from: [h, c]`, one that reads nothing else.
    Weights: w.weight [4·hidden, channels, …k], r.weight [4·hidden, hidden, …k], bias [4·hidden], gates in ONNX's order
    (input, output, forget, cell); peephole [3·hidden, height, width] (input, output, forget), or [3·hidden, 1, 1] where
    `peepholes: channels` has one number for all places of a channel."""
    c.operands(xs, 1, 2, 3, hint="give one sequence, or one step: from: [x, h, c]")
    x = xs[0]
    if len(xs) > 1:
        c.rank(x, 4, hint="one step is [batch, channels, height, width]")
        read = x if len(xs) == 3 else None
        return _ConvLstm(c, x, 1, hidden, window(c, "k", k, 2), bias, peepholes, read is not None).step(read, *xs[-2:])
    c.rank(x, 5, hint="a sequence is [batch, steps, channels, height, width]; one step: from: [x, h, c]")
    steps = c.fixed(x, 1, "the number of steps")
    if not 1 <= steps <= 4096:
        raise c.fail(f"takes 1 to 4096 steps, not {steps}")
    cell = _ConvLstm(c, x, 2, hidden, window(c, "k", k, 2), bias, peepholes)
    h: Value | None = None
    state: Value | None = None
    out = []
    for i in range(steps):
        h, state = cell.step(c.add("Gather", x, c.const(i), axis=1), h, state)
        out.append(h)
    assert h is not None
    if return_ == "last":
        return h
    return c.add("Concat", *(c.add("Unsqueeze", v, c.const([1])) for v in out), axis=1)


class _ConvLstm:
    """The weights, and one step."""

    def __init__(
        self,
        c: LayerBuilder,
        x: Value,
        axis: int,
        hidden: int,
        kernel: tuple[int, ...],
        bias: bool,
        peepholes: bool | Literal["channels"],
        reads: bool = True,
    ) -> None:
        """x: what is read, with the channels at `axis`, or, where nothing is (not reads), a state."""
        if any(n % 2 == 0 for n in kernel):
            raise c.fail(f"k must be odd, not {list(kernel)}", "so that the size stays")
        channels = c.fixed(x, axis, "the number of channels")
        self.c, self.kernel, self.peephole = c, kernel, None
        if reads:
            self.w = c.weight("w.weight", (4 * hidden, channels, *kernel), x.dtype, "lecun")
        self.r = c.weight("r.weight", (4 * hidden, hidden, *kernel), x.dtype, "lecun")
        self.b = [c.weight("bias", (4 * hidden,), x.dtype, "small")] if bias else []
        if peepholes:
            one = peepholes == "channels"
            places = (1, 1) if one else tuple(c.fixed(x, a, "the size of the image") for a in (-2, -1))
            whole = c.weight("peephole", (3 * hidden, *places), x.dtype, "small")
            self.peephole = c.add("Split", whole, outputs=3, axis=0, num_outputs=3)

    def step(self, x: Value | None, h: Value | None, state: Value | None) -> tuple[Value, Value]:
        """h and the state behind x, if anything is read; None before the first step: zeros."""
        c = self.c
        around: dict[str, Any] = {"kernel_shape": self.kernel, "pads": tuple(n // 2 for n in self.kernel) * 2}
        if x is None:
            sums = c.add("Conv", h, self.r, *self.b, **around)
        else:
            sums = c.add("Conv", x, self.w, *self.b, **around)
            if h is not None:
                sums = c.add("Add", sums, c.add("Conv", h, self.r, **around))
        i, o, f, g = c.add("Split", sums, outputs=4, axis=1, num_outputs=4)
        new = c.add("Mul", c.add("Sigmoid", self._peep(i, 0, state)), c.add("Tanh", g))
        if state is not None:
            new = c.add("Add", new, c.add("Mul", c.add("Sigmoid", self._peep(f, 2, state)), state))
        return c.add("Mul", c.add("Sigmoid", self._peep(o, 1, new)), c.add("Tanh", new)), new

    def _peep(self, gate: Value, which: int, state: Value | None) -> Value:
        if self.peephole is None or state is None:
            return gate
        return self.c.add("Add", gate, self.c.add("Mul", self.peephole[which], state))
