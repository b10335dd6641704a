"""Where Resize and GridSample read: ties, whole coordinates, borders, and how integers are rounded.

The oracle of positions is the text of ONNX Resize in exact rational arithmetic, written out here once more.
"""

from __future__ import annotations

import math
from fractions import Fraction as F

import numpy as np
import pytest

import graphc
from graphc.errors import TypeRuleError
from graphc.graph import Builder
from graphc.ops._taps import simplest_fraction

ROUND = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil(x - F(1, 2)),
    "round_prefer_ceil": lambda x: math.floor(x + F(1, 2)),
}
MODES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
TARGETS = ("cpu", "reference")


def position(i: int, size: int, out: int, scale: F, mode: str) -> F:
    if mode == "asymmetric":
        return i / scale
    if mode == "align_corners":
        return F(i * (size - 1), out - 1) if out > 1 else F(0)
    if mode == "pytorch_half_pixel" and out == 1:
        return F(0)
    x = (i + F(1, 2)) / scale - F(1, 2)
    if mode == "half_pixel_symmetric":
        x += F(size, 2) * (1 - out / (scale * size))
    return x


def resized(target: str, x: np.ndarray, scales=None, sizes=None, roi=None, **attrs) -> np.ndarray:
    b = Builder("resize")
    operands = [
        None if v is None else b.constant(np.array(v, d))
        for v, d in ((roi, "float32"), (scales, "float32"), (sizes, "int64"))
    ]
    g = b.build((b.add("Resize", b.input("x", x.dtype, x.shape), *operands, **attrs),))
    return graphc.compile(g, target=target, threads=1)(x)


SIZES = [(8, 5), (12, 9), (15, 25), (22, 6), (9, 30), (33, 11), (11, 33), (64, 48), (5, 1), (1, 4), (100, 35), (49, 14)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nearest", ROUND)
def test_nearest_to_sizes(mode: str, nearest: str):
    for size, out in SIZES:
        x = np.arange(size, dtype="float32").reshape(1, 1, size, 1)
        places = [ROUND[nearest](position(i, size, out, F(out, size), mode)) for i in range(out)]
        want = np.clip(places, 0, size - 1)
        for target in TARGETS:
            y = resized(target, x, sizes=[1, 1, out, 1], nearest_mode=nearest, coordinate_transformation_mode=mode)
            np.testing.assert_array_equal(y.ravel(), want, f"{size} to {out}, {target}")


SCALES = [F(7, 10), F(3, 5), F(1, 3), F(5, 3), F(11, 10), F(13, 4), F(2), F(9, 7)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nearest", ROUND)
def test_nearest_by_scales_that_float32_rounds(mode: str, nearest: str):
    """0.7 is meant as 7/10: ONNX Runtime, which divides in float32, agrees on 97 % of such sizes, more than with the
    exact value of the rounded scale."""
    for scale in SCALES:
        for size in (6, 10, 21):
            x = np.arange(size, dtype="float32").reshape(1, size)
            out = math.floor(np.float32(size) * np.float32(scale))
            places = [ROUND[nearest](position(i, size, out, scale, mode)) for i in range(out)]
            want = np.clip(places, 0, size - 1)
            for target in TARGETS:
                y = resized(target, x, [1, scale], nearest_mode=nearest, coordinate_transformation_mode=mode)
                np.testing.assert_array_equal(y.ravel(), want, f"{size} by {scale}, {target}")


@pytest.mark.parametrize("nearest", ROUND)
@pytest.mark.parametrize("start, end", [(F(1, 5), F(4, 5)), (F(0), F(1)), (F(1, 10), F(9, 10)), (F(-1, 5), F(6, 5))])
def test_nearest_of_a_crop(nearest: str, start: F, end: F):
    for size, out in ((11, 7), (21, 13), (6, 4), (31, 1)):
        x = np.arange(size, dtype="float32") + 1
        span = (end - start) * (size - 1)
        places = [
            start * (size - 1) + i * span / (out - 1) if out > 1 else (start + end) * (size - 1) / 2 for i in range(out)
        ]
        want = [1 + ROUND[nearest](p) if 0 <= p <= size - 1 else -9 for p in places]
        for target in TARGETS:
            y = resized(
                target, x, sizes=[out], roi=[start, end], nearest_mode=nearest, extrapolation_value=-9.0,
                coordinate_transformation_mode="tf_crop_and_resize",
            )  # fmt: skip
            np.testing.assert_array_equal(y, want, f"{size} to {out}, {target}")


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(
    "transform, size, out", [("align_corners", 7, 19), ("asymmetric", 6, 42), ("half_pixel", 10, 30)]
)
def test_whole_coordinates_read_one_element(mode: str, transform: str, size: int, out: int):
    x = np.random.default_rng(0).normal(size=(3, size)).astype("float32")
    places = [position(i, size, out, F(out, size), transform) for i in range(out)]
    whole = [i for i, p in enumerate(places) if p.denominator == 1]
    for target in TARGETS:
        y = resized(target, x, sizes=[3, out], mode=mode, coordinate_transformation_mode=transform)
        np.testing.assert_array_equal(y[:, whole], x[:, [int(places[i]) for i in whole]])


def test_a_kept_aspect_ratio_rounds_halves_up():
    x = np.zeros((1, 14, 6), "float32")  # 14 to 49 is 3.5: 6 rows become 21; 5 of 10 of 7 is 3.5, which becomes 4
    assert resized("cpu", x, sizes=[49, 99], axes=(1, 2), keep_aspect_ratio_policy="not_larger").shape == (1, 49, 21)
    x = np.zeros((1, 10, 7), "float32")
    assert resized("cpu", x, sizes=[5, 99], axes=(1, 2), keep_aspect_ratio_policy="not_larger").shape == (1, 5, 4)
    nothing = np.zeros((1, 0, 0), np.float32)
    for target in ("cpu", "reference"):
        for policy in ("not_larger", "not_smaller"):
            assert resized(target, nothing, sizes=[4, 5], axes=(1, 2), keep_aspect_ratio_policy=policy).shape == (
                1,
                0,
                0,
            )


def test_sizes_of_a_kept_aspect_ratio_are_not_equal():
    """Height and width of any picture: two sizes, whatever they follow from."""
    b = Builder("resize")
    x, sizes = b.input("x", "float32", ("n", 3, "h", "w")), b.constant([8, 8])
    y = b.add("Resize", x, None, None, sizes, axes=(2, 3), keep_aspect_ratio_policy="not_smaller")
    assert y.shape[2] != y.shape[3]


def test_upsample_by_a_scale_that_float32_rounds():
    x = np.arange(20, dtype="float32").reshape(1, 20)
    b = Builder("upsample")
    g = b.build((b.add("Upsample", b.input("x", "float32", x.shape), b.constant([1, 1.1], "float32"), mode="nearest"),))
    for target in TARGETS:
        assert graphc.compile(g, target=target)(x).ravel().tolist() == [math.floor(F(i) * 10 / 11) for i in range(22)]


def test_the_simplest_fraction_of_a_float():
    for value, want in ((0.7, F(7, 10)), (1 / 3, F(1, 3)), (2.0, F(2)), (-0.2, F(-1, 5)), (0.0, F(0)), (1e6, F(10**6))):
        assert simplest_fraction(value) == want
    rng = np.random.default_rng(0)
    for value in rng.uniform(0.01, 20, 200).astype("float32"):
        assert np.float32(float(simplest_fraction(value))) == value
    assert simplest_fraction(np.float16(0.7), np.dtype("float16")) == F(7, 10)


@pytest.mark.parametrize("scale", [math.inf, math.nan, 0.0, -1.0])
def test_scales_that_are_no_sizes(scale: float):
    with pytest.raises(TypeRuleError, match="positive"):
        resized("cpu", np.zeros((2, 3), "float32"), [1, scale])


# --- integers ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "dtype, value", [("uint8", 57), ("uint8", 255), ("int8", -77), ("int16", 32767), ("int32", 2**31 - 1)]
)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_an_even_image_stays_even(dtype: str, value: int, antialias: bool, mode: str):
    x = np.full((1, 1, 12, 16), value, dtype)
    for scales in ([1, 1, 2.3, 1.1], [1, 1, 0.3, 0.7], [1, 1, 1, 5 / 3]):
        for target in TARGETS:
            y = resized(target, x, scales, mode=mode, antialias=antialias)
            assert y.dtype == x.dtype
            np.testing.assert_array_equal(y, np.full(y.shape, value))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "uint16"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(
    "shape, scales", [((2, 3, 12, 16), [1, 1, 0.4, 0.3]), ((1, 10, 30), [1, 0.5, 0.23]), ((9, 7), [1.7, 1])]
)
def test_integers_are_cut_off_and_rounded_with_antialias(
    dtype: str, mode: str, shape: tuple[int, ...], scales: list[float]
):
    info = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(info.min, info.max, shape, dtype, endpoint=True)
    for antialias, whole in ((False, np.trunc), (True, lambda v: np.floor(v + 0.5))):
        exact = resized("reference", x.astype("float64"), scales, mode=mode, antialias=antialias)
        want = np.clip(whole(exact), info.min, info.max)
        clear = np.abs(np.abs(exact - np.floor(exact)) - (0.5 if antialias else 1)) > 1e-3  # not beside a step
        for target in TARGETS:
            y = resized(target, x, scales, mode=mode, antialias=antialias)
            assert clear.mean() > 0.9
            np.testing.assert_array_equal(y[clear], want[clear])


def test_antialias_of_bytes_is_that_of_onnx_runtime():
    ort = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    x = np.random.default_rng(1).integers(0, 256, (1, 3, 32, 40), "uint8")
    scales = np.array([1, 1, 1, 0.3], "float32")
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear", antialias=1)
    y_info = helper.make_tensor_value_info("y", TensorProto.UINT8, None)
    info = helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)
    g = helper.make_graph([node], "g", [info], [y_info], [numpy_helper.from_array(scales, "s")])
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    (want,) = ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    exact = resized("reference", x.astype("float64"), scales, mode="linear", antialias=True)
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3  # its weights are fixed-point numbers, which miss exact halves
    assert clear.mean() > 0.98
    for target in TARGETS:
        np.testing.assert_array_equal(graphc.compile(m, target=target)(x)[clear], want[clear])


# --- GridSample -------------------------------------------------------------------------------------------------------
def cubic_of_clamped_taps(row: np.ndarray, p: float) -> float:
    """Keys' cubic convolution with a = -0.75 of a row that goes on with its last elements on both sides."""
    base, a = math.floor(p), -0.75
    total = 0.0
    for k in range(base - 1, base + 3):
        d = abs(p - k)
        w = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        total += w * row[min(max(k, 0), len(row) - 1)]
    return total


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_cubic_sampling_clamps_each_tap_at_the_border(align: bool, size: int):
    row = np.random.default_rng(2).normal(size=size)
    at = np.linspace(-1.9, 1.9, 41)
    b = Builder("sample")
    x, grid = b.input("x", "float64", (1, 1, size)), b.input("grid", "float64", (1, len(at), 1))
    g = b.build((b.add("GridSample", x, grid, mode="cubic", padding_mode="border", align_corners=align),))
    places = (at + 1) / 2 * (size - 1) if align else ((at + 1) * size - 1) / 2
    want = [cubic_of_clamped_taps(row, p) for p in places]
    for target in TARGETS:
        (y,) = graphc.compile(g, target=target).run({"x": row[None, None], "grid": at[None, :, None]}).values()
        np.testing.assert_allclose(y[0, 0], want, atol=1e-12)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [False, True])
def test_sampling_is_that_of_onnx_runtime(mode: str, padding: str, align: bool):
    ort = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    rng = np.random.default_rng(3)
    ticks = np.array(
        [-1.5, -1, -0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1, 1.2], "float32"
    )  # pixels, and half way
    feeds = {"x": rng.normal(size=(1, 2, 5, 4)).astype("float32"), "g": np.stack(np.meshgrid(ticks, ticks), -1)[None]}
    node = helper.make_node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding, align_corners=int(align))
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in feeds.items()]
    g = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    (want,) = ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
    (y,) = graphc.compile(m).run(feeds).values()
    np.testing.assert_allclose(y, want, atol=2e-6)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding, far", [("zeros", (0, 0)), ("border", (np.inf, 2))])
def test_infinity_does_not_meet_the_weight_of_a_tap_outside(mode: str, padding: str, far: tuple[float, float]):
    """PyTorch and ONNX Runtime do not read it; zero times infinity would be NaN."""
    b = Builder("border")
    x, at = b.input("x", "float32", (1, 1, 3)), b.input("at", "float32", (1, 6, 1))
    g = b.build((b.add("GridSample", x, at, mode=mode, padding_mode=padding, align_corners=True),))
    row, pixels = np.float32([2, 2, np.inf]), np.float32([2, 2.5, 4, 1.5, 0, -8])
    for target in TARGETS:
        (y,) = graphc.compile(g, target=target).run({"x": row[None, None], "at": pixels[None, :, None] - 1}).values()
        np.testing.assert_array_equal(y[0, 0], np.float32([np.inf, np.inf, far[0], np.inf, 2, far[1]]))


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_positions_as_far_away_as_float32_goes(mode: str, padding: str):
    b = Builder("far")
    x, at = b.input("x", "float32", (1, 1, 5, 6)), b.input("at", "float32", (1, 1, 2, 2))
    g = b.build((b.add("GridSample", x, at, mode=mode, padding_mode=padding),))
    far = np.float32([[1e38, -1e38], [3.4e38, 3.4e38]])[None, None]
    for target in TARGETS:
        (y,) = graphc.compile(g, target=target).run({"x": np.ones((1, 1, 5, 6), "float32"), "at": far}).values()
        np.testing.assert_allclose(y, 0 if padding == "zeros" else 1, atol=1e-6)
