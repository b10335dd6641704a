"""Channel-blocked values whose rows have zeros around them: every way in which values share memory or are copied into another's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from targets import require

import graphc
from graphc.graph import Builder, Value

F32 = np.float32
TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]


def weights(b: Builder, *shape: int) -> Value:
    rng = np.random.default_rng([len(b.nodes), *shape])
    return b.constant(rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5, F32)


def conv(b: Builder, x: Value, channels: int, kernel: int = 3, group: int = 1) -> Value:
    w = weights(b, channels, x.shape[1] // group, *[kernel] * (len(x.shape) - 2))
    return b.add("Conv", x, w, pads=[kernel // 2] * 2 * (len(x.shape) - 2), group=group)


def pooled(b: Builder, x: Value) -> Value:
    return b.add("GlobalAveragePool", x)


def check(make: Callable[[Builder, Value], dict[str, Value]], shape: tuple[int, ...], target: str) -> None:
    """The results of the graph agree with those of the reference, with one thread and with two."""
    require(target)
    b = Builder("halo")
    graph = b.build(make(b, b.input("x", F32, shape)))
    x = np.random.default_rng(7).standard_normal(shape).astype(F32)
    want = graphc.compile(graph, target="reference").run({"x": x})
    for threads in (1, 2):
        got = graphc.compile(graph, target=target, threads=threads).run({"x": x})
        for name, w in want.items():
            np.testing.assert_allclose(got[name], w, rtol=0, atol=3e-5 * np.abs(w).max(), err_msg=f"{name}, {threads}")


# --- a part that is copied beside one that is written in place ---------------------------------------------------------
def ghost_module(b: Builder, x: Value) -> dict[str, Value]:
    """A layer's channels and cheap ones made of them."""
    ghost = b.add("Concat", x, conv(b, x, x.shape[1], 3, group=x.shape[1]), axis=1)
    return {"ghost": ghost, "y": conv(b, b.add("Relu", ghost), 16), "z": conv(b, ghost, 8, 5)}


def dense_block(b: Builder, x: Value) -> dict[str, Value]:
    for channels in (8, 16, 24):
        x = b.add("Concat", x, conv(b, b.add("Tanh", x), channels), axis=1)
    return {"y": x}


def input_last(b: Builder, x: Value) -> dict[str, Value]:
    y = b.add("Concat", conv(b, x, 32), conv(b, x, 16, 1), x, axis=1)
    return {"y": y, "z": conv(b, b.add("Neg", y), 16, 5)}


def results_as_parts(b: Builder, x: Value) -> dict[str, Value]:
    """A part that is a result, one that is there twice, one that another concatenation has."""
    first = b.add("Relu", conv(b, x, 32))
    y = b.add("Concat", first, x, first, axis=1)
    z = b.add("Concat", conv(b, y, 16), y, axis=1)
    return {"first": first, "y": y, "w": conv(b, b.add("Sigmoid", z), 16, 5), "z": z}


def shuffle_unit(b: Builder, x: Value) -> dict[str, Value]:
    """ShuffleNet v2: half of the channels pass, the others are convolved; then they are interleaved."""
    half, (n, c, *size) = x.shape[1] // 2, x.shape
    x = b.add("Relu", x)
    for _ in range(2):
        kept, other = b.add("Split", x, b.constant([half, half], np.int64), axis=1, outputs=2)
        other = conv(b, conv(b, conv(b, other, half, 1), half, 3, group=half), half, 1)
        x = b.add("Concat", kept, other, axis=1)
        x = b.add("Reshape", x, b.constant([n, 2, half, *size], np.int64))
        x = b.add("Transpose", x, perm=[0, 2, 1, *range(3, 3 + len(size))])
        x = b.add("Reshape", x, b.constant([n, c, *size], np.int64))
    return {"x": x, "y": conv(b, x, 16, 5)}


def constant_part(b: Builder, x: Value) -> dict[str, Value]:
    """Coordinates, or a learned embedding, beside channels."""
    k = weights(b, x.shape[0], 32, *x.shape[2:])
    y, z = b.add("Concat", k, conv(b, x, 16), axis=1), b.add("Concat", conv(b, x, 16), k, axis=1)
    return {"y": y, "conv": conv(b, b.add("Relu", y), 16), "z": z}


def every_reader(b: Builder, x: Value) -> dict[str, Value]:
    """What reads and writes rows with and without a halo."""
    y = b.add("Concat", b.add("Sigmoid", x), conv(b, x, 32), axis=1)
    rank = len(x.shape) - 2
    space = {"kernel_shape": [3] * rank, "pads": [1] * 2 * rank}
    pool = b.add("Concat", b.add("MaxPool", y, **space), b.add("AveragePool", y, **space), axis=1)
    up = b.add("ConvTranspose", y, weights(b, y.shape[1], 16, *[4] * rank), strides=[2] * rank, pads=[1] * 2 * rank)
    larger = b.add("Resize", y, None, b.constant([1, 1, *[2.0] * rank], F32), mode="nearest")
    gate = b.add("Sigmoid", conv(b, pooled(b, y), y.shape[1], 1))
    results = {"pool": conv(b, pool, 16), "gate": conv(b, b.add("Mul", y, gate), 16, 1)}
    results["up"] = conv(b, b.add("Concat", up, larger, axis=1), 16)
    return results | {"lrn": conv(b, b.add("Add", y, b.add("LRN", y, size=3)), 8), "y": y}


NETS = [ghost_module, dense_block, input_last, results_as_parts, shuffle_unit, constant_part, every_reader]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", NETS)
@pytest.mark.parametrize("shape", [(1, 16, 6, 6), (3, 32, 5, 9)], ids=str)
def test_parts_of_concatenations(make: Callable, shape: tuple[int, ...], target: str):
    check(make, shape, target)


@pytest.mark.parametrize("make", NETS)
@pytest.mark.parametrize("shape", [(2, 16, 11), (1, 16, 4, 3, 5), (2, 16, 4, 1), (4, 16, 48, 48)], ids=str)
def test_parts_of_other_shapes(make: Callable, shape: tuple[int, ...]):
    """One and three dims of space, rows of one pixel, and images one by one."""
    check(make, shape, "cpu")


# --- rows of one pixel -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1, 32, 1, 1), (2, 32, 5, 1), (2, 48, 1), (1, 32, 3, 2, 1)], ids=str)
def test_elementwise_rows_of_one_pixel(shape: tuple[int, ...], target: str):
    """The pixels of a row with a halo do not follow each other, whichever operand has it."""

    def make(b: Builder, x: Value) -> dict[str, Value]:
        wide = conv(b, x, 32)  # read with a halo
        y = b.add("Mul", wide, b.add("Sigmoid", conv(b, x, 32, 1)))
        z = b.add("PRelu", wide, b.constant(np.linspace(0.1, 0.9, 32).reshape(1, 32, *[1] * (len(shape) - 2)), F32))
        return {"a": conv(b, wide, 16), "y": y, "z": z, "b": conv(b, y, 16, 5), "c": b.add("Tanh", z)}

    check(make, shape, target)


# --- views as dense values ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_parts_of_single_pixels_as_rows(batch: int, target: str):
    """Channels of a pixel are a row; those of a part lie a whole image apart."""

    def make(b: Builder, x: Value) -> dict[str, Value]:
        y = pooled(b, conv(b, x, 48))
        first, second = b.add("Split", y, b.constant([16, 32], np.int64), axis=1, outputs=2)
        z = b.add("Concat", pooled(b, x), pooled(b, b.add("Neg", x)), conv(b, second, 16, 1), axis=1)
        part = b.add("Slice", z, *(b.constant([n], np.int64) for n in (16, 48, 1)))
        flat = {name: b.add("Flatten", v) for name, v in (("first", first), ("second", second), ("part", part))}
        w = weights(b, 16, 8)
        return {n: b.add("Gemm", v, w) if v.shape[1] == 16 else v for n, v in flat.items()} | {"z": z}

    check(make, (batch, 16, 4, 5), target)
