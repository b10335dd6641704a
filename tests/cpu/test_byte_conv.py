"""Convolutions of 8-bit integers: every signedness, zero points at the ends, borders, groups, channels that do not fill vectors; each
instruction set. The reference is a sum in int64, tap by tap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import require

import graphc
from graphc.graph import Builder

TARGETS = ("cpu", "cpu:avx2", "cpu:portable")
KINDS = ("uint8", "int8")


def numbers(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray:
    """The whole range, its ends often: they are what would saturate."""
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    drawn = rng.integers(low, high, shape, np.int64, endpoint=True)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high], shape), drawn).astype(kind)


def sums(x, w, x_zero, w_zero, strides, pads, dilations, group) -> np.ndarray:
    """Σ (x - x_zero)(w - w_zero), where what is behind the border is x_zero."""
    x = x.astype(np.int64) - int(x_zero)
    w = w.astype(np.int64) - np.asarray(w_zero, np.int64).reshape(-1, 1, 1, 1)
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (n, _, height, width), (filters, depth, kh, kw) = x.shape, w.shape
    (sh, sw), (dh, dw) = strides, dilations
    out_h, out_w = (height - (kh - 1) * dh - 1) // sh + 1, (width - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((n, filters, out_h, out_w), np.int64)
    each = filters // group
    for f in range(filters):
        first = f // each * depth
        for i in range(kh):
            for j in range(kw):
                part = x[:, first : first + depth, i * dh :, j * dw :][
                    :, :, : sh * (out_h - 1) + 1, : sw * (out_w - 1) + 1
                ]
                y[:, f] += np.einsum("nchw,c->nhw", part[:, :, ::sh, ::sw], w[f, :, i, j])
    return y


def compiled(target: str, b: Builder, outputs: dict, threads: int = 1) -> graphc.model.Model:
    return graphc.compile(b.build(outputs), target=target, threads=threads, cache=False)


def check(
    target: str,
    rng: np.random.Generator,
    kinds,
    x_shape,
    w_shape,
    x_zero,
    w_zero,
    threads: int = 1,
    most=128,
    **attrs,
) -> None:
    """most: the largest magnitude of weights, less 128 where they have no signs. Without an instruction for bytes there are other
    kernels for at most 127 and 64."""
    x, w = numbers(rng, kinds[0], *x_shape), numbers(rng, kinds[1], *w_shape)
    middle = np.iinfo(w.dtype).min + 128
    w = w if most == 128 else np.clip(w, middle - most, middle + most)
    b = Builder("conv")
    zeros = [b.constant(np.asarray(z, k)) for z, k in zip((x_zero, w_zero), kinds)]
    y = b.add("ConvInteger", b.input("x", kinds[0], x_shape), b.constant(w), *zeros, **attrs)
    model = compiled(target, b, {"y": y}, threads)
    want = sums(
        x, w, x_zero, w_zero, attrs.get("strides", (1, 1)), attrs.get("pads", (0,) * 4), attrs.get("dilations", (1, 1)),
        attrs.get("group", 1),
    )  # fmt: skip
    np.testing.assert_array_equal(model.run({"x": x})["y"], want)
    assert not any(s.host for s in model.plan().steps)


CASES = {
    "pointwise": ((2, 8, 6, 7), (20, 8, 1, 1), {}),
    "odd channels": ((1, 7, 5, 9), (33, 7, 1, 1), {}),
    "strided": ((1, 12, 9, 9), (70, 12, 1, 1), {"strides": (2, 2)}),
    "3x3": ((1, 16, 7, 7), (64, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    "image": ((1, 3, 23, 21), (16, 3, 7, 7), {"pads": (3, 3, 3, 3), "strides": (2, 2)}),
    "dilated": ((1, 5, 11, 12), (9, 5, 3, 2), {"pads": (2, 1, 2, 0), "dilations": (2, 3)}),
    "uneven": ((2, 4, 8, 6), (5, 4, 3, 3), {"pads": (0, 1, 2, 0), "strides": (2, 1)}),
    "groups": ((1, 24, 6, 6), (40, 6, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}),
    "odd groups": ((1, 9, 6, 5), (12, 3, 1, 3), {"group": 3, "pads": (0, 1, 0, 1)}),
    "depthwise": ((1, 37, 9, 8), (37, 1, 3, 3), {"group": 37, "pads": (1, 1, 1, 1)}),
    "depthwise strided": ((2, 16, 9, 9), (16, 1, 5, 5), {"group": 16, "pads": (2, 2, 2, 2), "strides": (2, 2)}),
    "depthwise dilated": ((1, 20, 9, 9), (20, 1, 3, 3), {"group": 20, "pads": (2, 2, 2, 2), "dilations": (2, 2)}),
    "wide windows": ((1, 20, 3, 40), (20, 1, 1, 33), {"group": 20}),
    "one window": ((2, 21, 5, 17), (21, 1, 5, 17), {"group": 21}),
    "one wide window": ((1, 16, 1, 300), (16, 1, 1, 300), {"group": 16}),
    "multiplied": ((1, 6, 5, 5), (18, 1, 3, 3), {"group": 6}),
    "a pixel": ((1, 64, 1, 1), (48, 64, 1, 1), {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_sums(target: str, case: str):
    require(target)
    x, w, attrs = CASES[case]
    rng = np.random.default_rng(len(case))
    check(target, rng, ("uint8", "int8"), x, w, 255, 0, **attrs)
    check(target, rng, ("int8", "int8"), x, w, -128, 0, threads=2, **attrs)
    check(target, rng, ("uint8", "uint8"), x, w, 7, 128, **attrs)
    for most in (127, 64):
        check(target, rng, ("uint8", "int8"), x, w, 3, 0, most=most, **attrs)
        check(target, rng, ("int8", "uint8"), x, w, -1, 128, threads=2, most=most, **attrs)


@pytest.mark.parametrize("kinds", [(a, b) for a in KINDS for b in KINDS], ids="-".join)
def test_zero_points_of_weights(kinds: tuple[str, str]):
    """A number, and one for each filter, at the ends of the range."""
    rng = np.random.default_rng(3)
    for x, w, attrs in (CASES["3x3"], CASES["groups"], CASES["depthwise"]):
        ends = np.resize([np.iinfo(kinds[1]).min, np.iinfo(kinds[1]).max, 5], w[0])
        check("cpu", rng, kinds, x, w, 3, ends, **attrs)
        check("cpu", rng, kinds, x, w, np.iinfo(kinds[0]).max, ends[1], **attrs)


@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_shape(data: st.DataObject):
    draw = data.draw
    group = draw(st.sampled_from([1, 1, 2, 3]))
    depth, each = draw(st.integers(1, 9)), draw(st.integers(1, 20))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    size = tuple(
        max(1, (k - 1) * d + 1 - a - b) + draw(st.integers(0, 9))
        for k, d, a, b in zip(kernel, dilations, pads[:2], pads[2:])
    )
    kinds = draw(st.sampled_from(KINDS)), draw(st.sampled_from(KINDS))
    ends = [np.iinfo(kinds[0]).min, 3, np.iinfo(kinds[0]).max]
    check(
        draw(st.sampled_from(TARGETS[:2])), np.random.default_rng(draw(st.integers(0, 99))), kinds,
        (draw(st.integers(1, 2)), group * depth, *size), (group * each, depth, *kernel), draw(st.sampled_from(ends)),
        0 if kinds[1] == "int8" else 128, group=group, pads=pads, dilations=dilations,
        strides=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))), threads=draw(st.integers(1, 2)),
    )  # fmt: skip


def test_one_zero_point_of_weights_is_in_the_epilogue():
    """The sums over windows that it is multiplied with are a number per pixel."""
    b, rng = Builder("conv"), np.random.default_rng(8)
    x, w = numbers(rng, "uint8", 2, 8, 7, 9), numbers(rng, "uint8", 20, 8, 3, 3)
    zeros = b.constant(np.uint8(9)), b.constant(np.uint8(130))
    y = b.add("ConvInteger", b.input("x", "uint8", x.shape), b.constant(w), *zeros, pads=(1, 1, 1, 1))
    model = compiled("cpu", b, {"y": y})
    np.testing.assert_array_equal(model.run({"x": x})["y"], sums(x, w, 9, 130, (1, 1), (1, 1, 1, 1), (1, 1), 1))
    convs = [s for s in model.plan().steps if s.algorithm == "bytes"]
    assert len(convs) == 2 and "Sub" in convs[-1].ops


# --- what follows the sums --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_ties_and_saturation(target: str, kind: str):
    """Factors of a power of two, so that float32 is exact: halves are rounded to the even number, and all lies in the range."""
    require(target)
    rng = np.random.default_rng(5)
    x_shape, w_shape = (1, 5, 6, 6), (21, 5, 3, 3)
    x, w = numbers(rng, kind, *x_shape), rng.integers(-3, 4, w_shape).astype(np.int8)
    bias = rng.integers(-999, 999, w_shape[0]).astype(np.int32)
    scales = np.resize(np.float32([1, 0.5, 4]), w_shape[0])
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    zero = high - 3
    b = Builder("conv")
    one = [b.constant(np.float32(1)), b.constant(np.asarray(low + 1, kind))]
    y = b.add(
        "QLinearConv", b.input("x", kind, x_shape), *one, b.constant(w), b.constant(scales),
        b.constant(np.zeros(w_shape[0], np.int8)), b.constant(np.float32(8)), b.constant(np.asarray(zero, kind)),
        b.constant(bias), pads=(1, 1, 1, 1),
    )  # fmt: skip
    model = compiled(target, b, {"y": y})
    total = sums(x, w, low + 1, 0, (1, 1), (1, 1, 1, 1), (1, 1), 1) + bias.reshape(-1, 1, 1)
    scaled = total * scales.reshape(-1, 1, 1).astype(np.float64) / 8
    want = np.clip(np.rint(scaled) + zero, low, high)
    assert (scaled % 1 == 0.5).any() and (want == low).any() and (want == high).any()
    got = model.run({"x": x})["y"]
    np.testing.assert_array_equal(got, want.astype(kind))
    assert len([s for s in model.plan().steps if "conv" in s.kernel.lower()]) == 1


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (5, 4, 6), (5, 1, 1), (1, 1, 4, 6), (5, 1, 6)], ids=str)
@pytest.mark.parametrize("columns", [6, 1])
def test_addends_of_fewer_dims(shape: tuple[int, ...], columns: int):
    """Dims of 1 that are not there: the others are those at the end."""
    rng = np.random.default_rng(7)
    shape = tuple(columns if i == len(shape) - 1 and n == 6 else n for i, n in enumerate(shape))
    x, w, addend = numbers(rng, "uint8", 1, 3, 4, columns), numbers(rng, "int8", 5, 3, 1, 1), rng.normal(size=shape)
    addend = (1000 * addend).astype(np.float32)
    b = Builder("conv")
    total = b.add("ConvInteger", b.input("x", "uint8", x.shape), b.constant(w))
    y = b.add("Add", b.add("Cast", total, to="float32"), b.constant(addend))
    want = sums(x, w, 0, 0, (1, 1), (0,) * 4, (1, 1), 1).astype(np.float32) + addend
    np.testing.assert_array_equal(compiled("cpu", b, {"y": y}).run({"x": x})["y"], want)


@pytest.mark.parametrize("shape", [(5, 1), (1, 5, 1), (1, 1)], ids=str)
def test_one_pixel_of_one_dim(shape: tuple[int, ...]):
    rng = np.random.default_rng(8)
    x, w, scale = numbers(rng, "uint8", 1, 3, 6), numbers(rng, "int8", 5, 3, 6), rng.uniform(1, 2, shape)
    scale = scale.astype(np.float32)
    b = Builder("conv")
    total = b.add("ConvInteger", b.input("x", "uint8", x.shape), b.constant(w))
    y = b.add("Mul", b.add("Cast", total, to="float32"), b.constant(scale))
    want = np.einsum("ncx,mcx->nm", x.astype(np.int64), w.astype(np.int64))[..., None].astype(np.float32) * scale
    np.testing.assert_array_equal(compiled("cpu", b, {"y": y}).run({"x": x})["y"], want)
