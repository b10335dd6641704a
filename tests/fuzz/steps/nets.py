"""Patterns of convolutional networks: what layouts, fusion and memory planning meet."""

from __future__ import annotations

from ..draft import Draft, Reject, Tensor
from . import step
from .elementwise import activation, ordered
from .images import batch_norm, channels, conv, image


@step(2)
def residual(d: Draft) -> Tensor:
    """A convolution, and something of its result's shape added: the input, a view, another branch, a constant."""
    x = image(d)
    c = x.shape[1]
    y = conv(d, activation(d, conv(d, x, c, d.draw.one_of(1, 3))) if d.draw.chance(0.5) else x, c, d.draw.one_of(1, 3))
    if d.draw.chance(0.4):
        y = batch_norm(d, y)
    match d.draw.one_of("input", "branch", "value", "view", "const", "broadcast"):
        case "input":
            other = x
        case "branch":
            other = conv(d, x, c, 1)
        case "value":
            other = d.pick(lambda t: t.dtype == y.dtype and t.shapes() == y.shapes())
        case "view":
            other = d.node("Slice", d.node("Concat", x, x, axis=1), d.ints(c // 2), d.ints(c // 2 + c), d.ints(1))
        case "broadcast":
            other = d.partner(y)
        case _:
            other = d.operand(y.dtype, [1 if i in y.open else n for i, n in enumerate(y.shape)])
    y = d.node(d.draw.one_of("Add", "Add", "Add", "Sum", "Mul", "Sub"), *ordered(d, y, other))
    return activation(d, y)


@step(1.5)
def gate(d: Draft) -> Tensor:
    """Squeeze and excite, then often a convolution."""
    x = image(d, (4,))
    c = x.shape[1]
    s = d.node("GlobalAveragePool", x)
    s = d.node("Relu", conv(d, s, d.draw.one_of(1, 2, 4, 8), 1))
    s = d.node(d.draw.one_of("Sigmoid", "HardSigmoid", "Tanh"), conv(d, s, c, 1))
    y = d.node("Mul", *ordered(d, x, s))
    if d.draw.chance(0.3):
        y = activation(d, y)
    return conv(d, y, channels(d), d.draw.one_of(1, 1, 1, 3)) if d.draw.chance(0.7) else y


@step(1.5)
def pre_activated(d: Draft) -> Tensor:
    """Norm and activation in front of a 1x1 convolution, as in DenseNet."""
    x = image(d, (4,))
    return conv(d, activation(d, batch_norm(d, x)), channels(d), d.draw.one_of(1, 1, 3))


@step(2)
def dense_block(d: Draft) -> Tensor:
    """Each layer reads all results before it."""
    x = image(d, (4, 4, 3))
    growth = d.draw.one_of(1, 4, 8, 12, 16)
    parts = [x]
    for _ in range(d.draw.count(1, 4)):
        y = d.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        if d.draw.chance(0.4):
            y = d.node("Relu", batch_norm(d, y))
        parts.append(activation(d, conv(d, y, growth, d.draw.one_of(1, 3, 3))))
    y = d.node("Concat", *parts, axis=1)
    return conv(d, y, channels(d), d.draw.one_of(1, 3)) if d.draw.chance(0.6) else y


@step(1.5)
def ghost(d: Draft) -> Tensor:
    """Half of the channels by a cheap depthwise convolution of the other half."""
    x = image(d, (4,))
    c = d.draw.one_of(4, 8, 12, 16, 24)
    y = conv(d, x, c, 1)
    y = d.node("Relu", y) if d.draw.chance(0.5) else y
    z = conv(d, y, c, 3, group=c)
    y = d.node("Concat", y, z, axis=1)
    if d.draw.chance(0.4):
        y = d.node("Slice", y, d.ints(0), d.ints(2 * c - d.draw.one_of(0, 1, 3)), d.ints(1))
    return conv(d, y, channels(d), d.draw.one_of(1, 3)) if d.draw.chance(0.6) else y


@step(1.5)
def shuffle(d: Draft) -> Tensor:
    """Split, a branch, Concat, channel shuffle (ShuffleNet v2)."""
    x = image(d, (4,))
    c = x.shape[1]
    if c % 2:
        x = conv(d, x, 8, 1)
        c = 8
    given = {"num_outputs": 2} if d.opset >= 18 else {}
    a, b = d.node("Split", x, axis=1, outputs=2, **given)
    b = activation(d, conv(d, conv(d, b, c // 2, 1), c // 2, 3, group=c // 2))
    y = d.node("Concat", *ordered(d, a, b), axis=1)
    if y.open:
        n = [0, 2, c // 2, -1]
        shape = d.node("Shape", y)
    else:
        n, shape = [y.shape[0], 2, c // 2, *y.shape[2:]], None
    z = d.node("Transpose", d.node("Reshape", y, d.ints(*n)), perm=[0, 2, 1, *range(3, len(n))])
    z = d.node("Reshape", z, shape or d.ints(y.shape[0], -1, *y.shape[2:]))
    return conv(d, z, channels(d), d.draw.one_of(1, 3)) if d.draw.chance(0.6) else z


@step(1.5)
def branches(d: Draft) -> Tensor:
    """Several ways of several kinds, joined: Inception."""
    x = image(d, (4,))
    ways = []
    for _ in range(d.draw.count(2, 5)):
        match d.draw.one_of("1", "3", "pool", "depthwise", "identity", "average"):
            case "1":
                ways.append(conv(d, x, channels(d), 1))
            case "3":
                ways.append(activation(d, conv(d, x, channels(d), 3)))
            case "pool":
                ways.append(d.node("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4))
            case "average":
                ways.append(d.node("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4))
            case "depthwise":
                ways.append(conv(d, x, x.shape[1], 3, group=x.shape[1]))
            case _:
                ways.append(x)
    y = d.node("Concat", *d.draw.shuffled(ways), axis=1)
    return conv(d, y, channels(d), d.draw.one_of(1, 3)) if d.draw.chance(0.6) else y


@step(1.2)
def mobile(d: Draft) -> Tensor:
    """Wide by 1x1, depthwise, narrow by 1x1, and the input again."""
    x = image(d, (4,))
    c = x.shape[1]
    wide = c * d.draw.one_of(1, 2, 3)
    if wide > 64:
        raise Reject("large")
    y = activation(d, batch_norm(d, conv(d, x, wide, 1, bias=False)))
    y = activation(d, conv(d, y, wide, d.draw.one_of(3, 5), group=wide))
    y = conv(d, y, c, 1)
    return d.node("Add", *ordered(d, y, x)) if d.draw.chance(0.7) else y


@step(1)
def pieces(d: Draft) -> tuple:
    """A convolution's result taken apart along its channels, and each part convolved."""
    x = image(d, (4,))
    parts = d.draw.count(2, 3)
    sizes = [d.draw.one_of(1, 3, 8, 16) for _ in range(parts)]
    y = conv(d, x, sum(sizes), d.draw.one_of(1, 3))
    cut = d.node("Split", y, d.ints(*sizes), axis=1, outputs=parts)
    made = [conv(d, t, channels(d), d.draw.one_of(1, 3)) if d.draw.chance(0.6) else t for t in cut]
    return d.node("Concat", *made, axis=1) if d.draw.chance(0.6) else made


@step(1)
def upsampled(d: Draft) -> Tensor:
    """A decoder's step: down, up, and joined with what was skipped."""
    x = image(d, (4,))
    if min(min(s[2:]) for s in x.shapes()) < 2 or any(n % 2 for s in x.shapes() for n in s[2:]):
        raise Reject("odd")
    y = activation(d, conv(d, x, channels(d), 3, stride=2))
    if d.draw.chance(0.5):
        y = d.node(
            "Resize",
            y,
            None,
            d.const([1, 1, 2, 2], "float32"),
            mode=d.draw.one_of("nearest", "linear"),
            coordinate_transformation_mode="asymmetric",
        )
    else:
        w = d.weights(y.shape[1], 4, 2, 2, dtype=y.dtype, low=-0.3, high=0.3)
        y = d.node("ConvTranspose", y, w, strides=[2, 2])
    y = d.node("Concat", *ordered(d, x, y), axis=1)
    return conv(d, y, channels(d), 3)


@step(1)
def head(d: Draft) -> Tensor:
    """Pool, flatten, fully connected, softmax."""
    x = image(d, (4,))
    y = d.node("GlobalAveragePool", x)
    y = d.node("Flatten", y) if d.draw.chance(0.6) else d.node("Squeeze", y, d.ints(2, 3))
    y = d.node("Gemm", y, d.weights(d.draw.one_of(3, 10, 16), x.shape[1], dtype=x.dtype), transB=1)
    return d.node("Softmax", y, axis=d.draw.one_of(1, -1)) if d.draw.chance(0.5) else y


@step(0.8)
def chain(d: Draft) -> Tensor:
    """Convolutions with elementwise nodes between."""
    x = image(d, (4, 4, 3, 5))
    for _ in range(d.draw.count(2, 4)):
        x = activation(d, conv(d, x, channels(d), d.draw.one_of(1, 3, 3), stride=d.draw.one_of(1, 1, 1, 2)))
    return x
