"""The layers with windows and weights: convolutions, pools, dense, normalisation.

Each is a function whose signature is its syntax in YAML; it emits ONNX operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value

Ints = int | tuple[int, ...]
Padding = Literal["same", "valid", "same_upper"] | int | tuple[int, ...]


# --- convolutions -----------------------------------------------------------------------------------------------------
@layer
def conv(
    c: LayerBuilder,
    x: Value,
    *,
    out: int,
    k: Ints = 3,
    s: Ints = 1,
    pad: Padding = "valid",
    groups: int = 1,
    dilation: Ints = 1,
    bias: bool = True,
) -> Value:
    """Convolution over [batch, channels, …space]. pad: same = (k-1)*dilation in total, half on each side, for any s;
    same_upper = TensorFlow's SAME; a number or a list for all sides, each axis, or begins then ends."""
    space = c.rank(x, 3, 4, 5) - 2
    channels = c.fixed(x, 1, "the number of channels")
    if groups < 1 or channels % groups or out % groups:
        raise c.fail(f"groups {groups} does not divide {channels} input and {out} output channels")
    kernel, dilations = window(c, "k", k, space), window(c, "dilation", dilation, space)
    w = c.weight("weight", (out, channels // groups, *kernel), x.dtype, "he")
    b = [c.weight("bias", (out,), x.dtype, "small")] if bias else []
    attrs = pads(c, pad, kernel, dilations)
    return c.add(
        "Conv",
        x,
        w,
        *b,
        kernel_shape=kernel,
        strides=window(c, "s", s, space),
        dilations=dilations,
        group=groups,
        **attrs,
    )


@layer
def depthwise(
    c: LayerBuilder,
    x: Value,
    *,
    k: Ints = 3,
    s: Ints = 1,
    pad: Padding = "same",
    dilation: Ints = 1,
    bias: bool = True,
    multiplier: int = 1,
) -> Value:
    """Depthwise convolution: every channel by itself, `multiplier` outputs each."""
    c.rank(x, 3, 4, 5)
    channels = c.fixed(x, 1, "the number of channels")
    return conv(c, x, out=channels * multiplier, k=k, s=s, pad=pad, groups=channels, dilation=dilation, bias=bias)


@layer
def conv_transpose(
    c: LayerBuilder,
    x: Value,
    *,
    out: int,
    k: Ints = 2,
    s: Ints = 2,
    pad: Padding = "valid",
    output_pad: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    bias: bool = True,
) -> Value:
    """Transposed convolution; pad same makes the output s times the input."""
    space = c.rank(x, 3, 4, 5) - 2
    channels = c.fixed(x, 1, "the number of channels")
    if groups < 1 or channels % groups or out % groups:
        raise c.fail(f"groups {groups} does not divide {channels} input and {out} output channels")
    kernel, strides = window(c, "k", k, space), window(c, "s", s, space)
    dilations, extra = window(c, "dilation", dilation, space), window(c, "output_pad", output_pad, space, least=0)
    if pad in ("same", "same_upper"):
        total = [(n - 1) * d + 1 + e - t for n, d, e, t in zip(kernel, dilations, extra, strides)]
        if min(total) < 0:
            raise c.fail(
                f"pad same needs a kernel of at least the stride {list(strides)}, not {list(kernel)}",
                "raise k or set output_pad",
            )
        attrs: dict[str, Any] = {"pads": [t // 2 for t in total] + [t - t // 2 for t in total]}
    else:
        attrs = pads(c, pad, kernel, dilations)
    w = c.weight("weight", (channels, out // groups, *kernel), x.dtype, "he_transposed")
    b = [c.weight("bias", (out,), x.dtype, "small")] if bias else []
    return c.add(
        "ConvTranspose",
        x,
        w,
        *b,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        output_padding=extra,
        group=groups,
        **attrs,
    )


def window(c: LayerBuilder, name: str, value: Ints, space: int, least: int = 1) -> tuple[int, ...]:
    """One number for each spatial axis."""
    values = (value,) * space if isinstance(value, int) else tuple(value)
    if len(values) != space:
        raise c.fail(
            f"{name} has {len(values)} numbers, but the input has {space} spatial axes", f"give one number, or {space}"
        )
    if min(values) < least:
        raise c.fail(f"{name} must be at least {least}, not {value}")
    return values


def pads(c: LayerBuilder, pad: Padding, kernel: Sequence[int], dilations: Sequence[int]) -> dict:
    """The ONNX attributes of a padding."""
    space = len(kernel)
    if pad == "same_upper":
        return {"auto_pad": "SAME_UPPER"}
    if pad == "same":
        total = [(k - 1) * d for k, d in zip(kernel, dilations)]
        return {"pads": [t // 2 for t in total] + [t - t // 2 for t in total]}
    values = [0] if pad == "valid" else [pad] if isinstance(pad, int) else list(pad)
    if len(values) not in (1, space, 2 * space):
        raise c.fail(
            f"pad has {len(values)} numbers, but the input has {space} spatial axes",
            f"give 1, {space} or {2 * space} numbers",
        )
    return {"pads": values * (2 * space // len(values))}


# --- pools ------------------------------------------------------------------------------------------------------------
@layer
def maxpool(
    c: LayerBuilder,
    x: Value,
    *,
    k: Ints = 2,
    s: Ints | None = None,
    pad: Padding = "valid",
    dilation: Ints = 1,
    ceil: bool = False,
    indices: bool = False,
) -> Value | tuple[Value, Value]:
    """Maximum over windows; s is k where it is not given. ceil: round the output's size up. indices: also where in all of
    the input each stood, for `unpool`; `as: [pooled, places]`."""
    space = c.rank(x, 3, 4, 5) - 2
    kernel, dilations = window(c, "k", k, space), window(c, "dilation", dilation, space)
    strides = kernel if s is None else window(c, "s", s, space)
    attrs = pads(c, pad, kernel, dilations)
    attrs |= {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "ceil_mode": int(ceil)}
    return c.add("MaxPool", x, outputs=2 if indices else 1, **attrs)


@layer
def avgpool(
    c: LayerBuilder,
    x: Value,
    *,
    k: Ints = 2,
    s: Ints | None = None,
    pad: Padding = "valid",
    ceil: bool = False,
    count_pad: bool = False,
) -> Value:
    """Mean over windows; s is k where it is not given. count_pad: padding counts as zeros in the mean."""
    space = c.rank(x, 3, 4, 5) - 2
    kernel = window(c, "k", k, space)
    strides = kernel if s is None else window(c, "s", s, space)
    attrs = pads(c, pad, kernel, (1,) * space)
    return c.add(
        "AveragePool",
        x,
        kernel_shape=kernel,
        strides=strides,
        ceil_mode=int(ceil),
        count_include_pad=int(count_pad),
        **attrs,
    )


@layer
def global_avgpool(c: LayerBuilder, x: Value, *, keepdims: bool = False) -> Value:
    """Mean of each channel: [batch, channels], or [batch, channels, 1, …] with keepdims."""
    return _global_pool(c, x, "GlobalAveragePool", keepdims)


@layer
def global_maxpool(c: LayerBuilder, x: Value, *, keepdims: bool = False) -> Value:
    """Maximum of each channel: [batch, channels], or [batch, channels, 1, …] with keepdims."""
    return _global_pool(c, x, "GlobalMaxPool", keepdims)


def _global_pool(c: LayerBuilder, x: Value, op: str, keepdims: bool) -> Value:
    c.rank(x, 3, 4, 5)
    y = c.add(op, x)
    return y if keepdims else c.add("Flatten", y, axis=1)


# --- dense and normalisation ------------------------------------------------------------------------------------------
@layer
def dense(c: LayerBuilder, x: Value, *, out: int, bias: bool = True) -> Value:
    """Fully connected layer over the last axis of [batch, features] or [batch, steps, features]."""
    hint = "put `flatten` or `global_avgpool` before it" if len(x.shape) > 3 else "it reads [batch, features]"
    rank = c.rank(x, 2, 3, hint=hint)
    features = c.fixed(x, -1, "the number of features")
    w = c.weight("weight", (out, features), x.dtype, "he")
    b = [c.weight("bias", (out,), x.dtype, "small")] if bias else []
    if rank == 2:
        return c.add("Gemm", x, w, *b, transB=1)
    y = c.add("MatMul", x, c.add("Transpose", w, perm=(1, 0)))
    return c.add("Add", y, b[0]) if b else y


@layer
def bn(c: LayerBuilder, x: Value, *, eps: float = 1e-5, frozen: bool = False) -> Value:
    """Batch normalisation with its running statistics (axis 1). frozen: its scale and shift are not trained either, and not
    counted."""
    c.rank(x, 2, 3, 4, 5)
    channels = c.fixed(x, 1, "the number of channels")
    scale = "below_one" if c.residual else "around_one"  # so that a sum of many random residuals stays small
    parts = (("weight", scale), ("bias", "small"), ("running_mean", "small"), ("running_var", "around_one"))
    learned = () if frozen else ("weight", "bias")
    w = [c.weight(n, (channels,), x.dtype, init, trainable=n in learned) for n, init in parts]
    return c.add("BatchNormalization", x, *w, epsilon=eps)


@layer
def layernorm(c: LayerBuilder, x: Value, *, eps: float = 1e-5, bias: bool = True) -> Value:
    """Layer normalisation over the last axis (Ba et al. 2016, arXiv:1607.06450)."""
    n = c.fixed(x, -1, "the number of features")
    w = c.weight("weight", (n,), x.dtype, "around_one")
    b = [c.weight("bias", (n,), x.dtype, "small")] if bias else []
    return c.add("LayerNormalization", x, w, *b, axis=-1, epsilon=eps)


@layer
def rmsnorm(c: LayerBuilder, x: Value, *, eps: float = 1e-5) -> Value:
    """Root-mean-square normalisation over the last axis (Zhang, Sennrich 2019, arXiv:1910.07467)."""
    w = c.weight("weight", (c.fixed(x, -1, "the number of features"),), x.dtype, "around_one")
    return c.add("RMSNormalization", x, w, axis=-1, epsilon=eps)


@layer
def groupnorm(c: LayerBuilder, x: Value, *, groups: int, eps: float = 1e-5) -> Value:
    """Group normalisation (Wu, He 2018, arXiv:1803.08494)."""
    channels = c.fixed(x, 1, "the number of channels")
    w, b = c.weight("weight", (channels,), x.dtype, "around_one"), c.weight("bias", (channels,), x.dtype, "small")
    return c.add("GroupNormalization", x, w, b, num_groups=groups, epsilon=eps)


@layer
def instancenorm(c: LayerBuilder, x: Value, *, eps: float = 1e-5) -> Value:
    """Instance normalisation (Ulyanov et al. 2016, arXiv:1607.08022)."""
    channels = c.fixed(x, 1, "the number of channels")
    w, b = c.weight("weight", (channels,), x.dtype, "around_one"), c.weight("bias", (channels,), x.dtype, "small")
    return c.add("InstanceNormalization", x, w, b, epsilon=eps)


@layer
def lrn(c: LayerBuilder, x: Value, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Value:
    """Local response normalisation across channels; alpha is divided by size, as in ONNX and PyTorch."""
    return c.add("LRN", x, size=size, alpha=alpha, beta=beta, bias=k)


@layer
def dropout(c: LayerBuilder, x: Value, *, p: float = 0.5) -> Value:
    """Nothing at inference; here so that a description can be complete."""
    if not 0 <= p <= 1:
        raise c.fail(f"p is a probability, from 0 to 1, not {p}")
    return x
