"""Convolutions on tensor cores, in checked runs: sizes around the edges of tiles, geometries, both layouts, parts of sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import graphc
from graphc.backends.cuda.conv import tensor_conv
from graphc.backends.cuda.product.costs import Choice
from graphc.backends.cuda.product.tile import WarpTile
from graphc.errors import TypeRuleError
from graphc.graph import Builder, Value
from graphc.report import StepInfo
from graphc.types import dtype_from_name

TARGET = "cuda:emulate"
FLOATS = ["float16", "bfloat16", "float32"]
HALF, TF32, FLOAT = ([t for t in tensor_conv.tiles_of(*kind, True) if t.group] for kind in ((2, 1), (4, 1), (4, 3)))
GROUPS = [
    *(("float16", t) for t in HALF),
    *(("bfloat16", t) for t in HALF[:2]),
    *(("float32", t) for t in TF32 + FLOAT),
]
TILES = [(d, t) for d in FLOATS for t in tensor_conv.TILES[dtype_from_name(d).itemsize]] + [
    ("float32", tensor_conv.WIDE),
    *GROUPS,
]
SMALL, THIN = tensor_conv.TILES[4][1], tensor_conv.TILES[4][-1]
ROUNDED = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # a kernel takes seconds to compile: no search for smaller examples
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, copies that nobody waits for, and accesses out of bounds are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


def force(monkeypatch: pytest.MonkeyPatch, tile: WarpTile, parts: int = 1) -> dict[str, str]:
    """The one choice that there is now. Gives the options of what has it."""
    monkeypatch.setattr(tensor_conv, "choices_of", lambda *_: [Choice(tile, parts, 0, 0, 0)])
    return {
        "arch": "sm_90a" if tile.group else "sm_90",
        "precision": "tf32" if tile in (tensor_conv.WIDE, *TF32) else "float32",
    }


@dataclass(frozen=True)
class Case:
    """relu(conv(|x|, w) + bias + |z|), then a pool of one element where `last`: the convolution's result and the residual have
    their channels innermost. made: the weights come of a step. inputs: of a group."""

    dtype: str
    batch: int
    inputs: int
    outputs: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    group: int = 1
    last: bool = True
    made: bool = False
    transposed: bool = False
    attrs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)

    def build(self, dtype: Any, w: np.ndarray, bias: np.ndarray) -> graphc.Graph:
        b, kind = Builder("net"), np.dtype(dtype)
        x = b.add("Abs", b.input("x", kind, (self.batch, self.inputs * self.group, *self.size)))
        weights: Value = b.add("Neg", b.input("w", kind, w.shape)) if self.made else b.constant(-w.astype(kind))
        name = "ConvTranspose" if self.transposed else "Conv"
        y = b.add(name, x, weights, b.constant(bias.astype(kind)), group=self.group, **self.attrs)
        y = b.add("Relu", b.add("Add", y, b.add("Abs", b.input("z", kind, y.shape))))
        return b.build({"y": b.add("MaxPool", y, kernel_shape=[1] * len(self.size)) if self.last else y})

    def check(self) -> list[StepInfo]:
        """The steps of the convolution, whose result was compared with the reference in float64."""
        rng, kind = np.random.default_rng([self.inputs, self.outputs]), dtype_from_name(self.dtype)
        ends = self.inputs * self.group, self.outputs // self.group
        w = rng.uniform(-1, 1, (*ends, *self.kernel) if self.transposed else (self.outputs, self.inputs, *self.kernel))
        w, bias = w.astype(kind), rng.uniform(-1, 1, self.outputs).astype(kind)
        graph = self.build(kind, w, bias)
        feeds = {v.name: rng.uniform(-1, 1, v.shape).astype(kind) for v in graph.inputs}
        if self.made:
            feeds["w"] = w
        model = graphc.compile(graph, target=TARGET, **self.options)
        got = model.run(feeds)["y"].astype(np.float64)

        def exact(weights: np.ndarray) -> np.ndarray:
            wide = {n: a.astype(np.float64) for n, a in feeds.items()}
            model = graphc.compile(self.build(np.float64, -weights, bias), target="reference")
            return model.run(wide | ({"w": -weights.astype(np.float64)} if self.made else {}))["y"]

        want, size = exact(-w), exact(np.abs(w).astype(kind))  # size: of the terms, without their signs
        steps = self.inputs * prod(self.kernel)
        # three products of tf32 leave out terms of 2**-22 twice; sums round at each step; then the conv, the bias, the residual
        # one product of tf32 rounds both operands to 11 digits
        digits = 2.0**-10 if self.options.get("precision") == "tf32" else 2.0**-21
        error = (digits + steps * 2.0**-24) * size + 3 * ROUNDED[self.dtype] * (np.abs(want) + 2)
        assert (np.abs(got - want) <= error).all(), (np.abs(got - want) / error).max()
        return [s for s in model.plan().steps if {"Conv", "ConvTranspose"} & set(s.ops)]


def tensor(steps: Sequence[StepInfo]) -> bool:
    return all(s.algorithm.startswith(("tensor cores", "the sum")) for s in steps)


EDGES = [1, 3, 4, 8, 12, 16, 17, 31, 32, 33, 64, 65, 72]


@FEW
@given(st.data())
def test_sizes_around_the_edges_of_tiles(monkeypatch: pytest.MonkeyPatch, data: st.DataObject):
    dtype, tile = data.draw(st.sampled_from(TILES))
    size = data.draw(st.sampled_from([(3, 11), (7, 9), (8, 8), (5, 13), (2, 65), (1, 31)]))
    kernel = data.draw(st.sampled_from([(3, 3), (1, 4), (2, 1)]))
    options = force(monkeypatch, tile, data.draw(st.sampled_from([1, 1, 2, 3])))
    most = [*EDGES, 128, 130, 255, 257][: None if tile.n > 128 else -2]
    inputs, outputs, batch = (data.draw(st.sampled_from(of)) for of in (EDGES, most, [1, 2, 3]))
    pads = [data.draw(st.integers(k - 1, k)) for k in kernel] * 2
    last = data.draw(st.booleans())
    assert tensor(
        Case(dtype, batch, inputs, outputs, size, kernel, last=last, attrs={"pads": pads}, options=options).check()
    )


@FEW
@given(st.data(), st.booleans())
def test_geometries(monkeypatch: pytest.MonkeyPatch, data: st.DataObject, transposed: bool):
    """Strides, dilations, padding, groups of any rank, weights that a step makes."""
    rank, group, dtype = (
        data.draw(st.integers(1, 3)),
        data.draw(st.sampled_from([1, 1, 2, 3])),
        data.draw(st.sampled_from(FLOATS)),
    )

    def draw(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(count))

    tiles = [SMALL, THIN, *(FLOAT if dtype == "float32" else HALF)]
    options = force(monkeypatch, data.draw(st.sampled_from(tiles)), data.draw(st.sampled_from([1, 2])))
    attrs = {"strides": draw(1, 3), "dilations": draw(1, 2), "pads": draw(0, 2, 2 * rank)}
    inputs = data.draw(st.integers(1, 9)) if group == 1 else 8
    last, made = data.draw(st.booleans()), data.draw(st.booleans())
    one = Case(
        dtype, data.draw(st.integers(1, 2)), inputs, group * data.draw(st.integers(1, 6)), draw(3, 7), draw(1, 4), group,
        last, made, transposed, attrs, options,
    )  # fmt: skip
    try:
        steps = one.check()
    except TypeRuleError:
        assume(False)
    assert steps


@pytest.mark.sample(6)
@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("dtype, tile", TILES)
def test_every_pipeline(monkeypatch: pytest.MonkeyPatch, dtype: str, tile: Any, parts: int):
    """Depths of one step, of fewer and of more than there are stages; parts of the sum that have fewer steps, or none."""
    options = force(monkeypatch, tile, parts)
    for inputs in (2, 8, 16, 40):
        steps = Case(dtype, 1, inputs, 24, (9, 15), (3, 3), attrs={"pads": [1] * 4}, options=options).check()
        assert tensor(steps) and ("wgmma" in steps[0].algorithm) == tile.group


@pytest.mark.sample(2)
@pytest.mark.parametrize("dtype, tile", [*((d, SMALL) for d in FLOATS), GROUPS[0], *GROUPS[-2:]])
def test_infinities_reach_their_windows_alone(monkeypatch: pytest.MonkeyPatch, dtype: str, tile: WarpTile):
    """Neither padding nor the zeros that fill up chunks of channels read them, nor other groups and images."""
    options = force(monkeypatch, tile)
    kind = dtype_from_name(dtype)
    x, w = np.ones((3, 16, 6, 6), kind), np.ones((8, 8, 3, 3), kind)
    x[1, 1, 0, 0], x[2, 9, 5, 5] = np.inf, np.nan
    b = Builder("net")
    y = b.add("Conv", b.input("x", kind, x.shape), b.constant(w), pads=[1] * 4, group=2)
    y = graphc.compile(b.build({"y": y}), target=TARGET, **options).run({"x": x})["y"].astype(np.float64)
    odd = np.zeros(y.shape, bool)
    odd[1, :4, :2, :2] = odd[2, 4:, 4:, 4:] = True
    assert np.isposinf(y[1, :4, :2, :2]).all() and np.isnan(y[2, 4:, 4:, 4:]).all() and np.isfinite(y[~odd]).all()


def test_unaligned_groups_are_left_to_other_kernels(monkeypatch: pytest.MonkeyPatch):
    force(monkeypatch, SMALL)
    assert not tensor(Case("float32", 1, 3, 8, (6, 6), (3, 3), group=2).check())
    assert tensor(Case("float32", 1, 4, 8, (6, 6), (3, 3), group=2).check())
    assert not tensor(Case("float16", 1, 4, 8, (6, 6), (3, 3), group=2).check())


@pytest.mark.sample(2)
@pytest.mark.parametrize("tile", [SMALL, *FLOAT], ids=str)
def test_float32_keeps_its_digits(monkeypatch: pytest.MonkeyPatch, tile: WarpTile):
    """Of numbers that tf32 has no digits for."""
    options = force(monkeypatch, tile)
    x, w = np.full((1, 8, 5, 5), 1 + 2.0**-20, np.float32), np.full((4, 8, 3, 3), 1 - 2.0**-18, np.float32)
    b = Builder("net")
    graph = b.build({"y": b.add("Conv", b.input("x", np.float32, x.shape), b.constant(w))})
    y = graphc.compile(graph, target=TARGET, **options).run({"x": x})["y"]
    np.testing.assert_allclose(
        y, 72 * (1 + 2.0**-20) * (1 - 2.0**-18), rtol=2.0**-19
    )  # the sum rounds; without the second digits of w it would be 2**-18


def kernel_of(arch: str, dtype: str, precision: str = "float32") -> StepInfo:
    """Of a convolution of 128 channels, of 64 images."""
    b, kind = Builder("net"), dtype_from_name(dtype)
    x, w = b.add("Abs", b.input("x", kind, (64, 128, 28, 28))), b.constant(np.ones((128, 128, 3, 3), kind))
    graph = b.build({"y": b.add("Conv", x, w, pads=[1] * 4)})
    plan = graphc.compile(graph, target=TARGET, arch=arch, precision=precision).plan()
    (step,) = (s for s in plan.steps if s.ops == ("Conv",))
    return step


def test_only_what_has_groups_uses_them(monkeypatch: pytest.MonkeyPatch):
    """sm_90a, where the model says that they are faster."""
    monkeypatch.setenv("GRAPHC_CHECK", "")
    for kind, how in ((("float16",), ""), (("float32",), ", 3xTF32"), (("float32", "tf32"), ", TF32")):
        step = kernel_of("sm_90a", *kind)
        assert step.algorithm.startswith(f"tensor cores{how}, wgmma, tiles of ")
        assert "µs on H100 by the model" in step.reason
    assert kernel_of("sm_90", "float16").algorithm.startswith("tensor cores, tiles of ")


@pytest.mark.sample(1)
@pytest.mark.parametrize("tile", FLOAT, ids=str)
def test_infinities_meet_each_number_once(monkeypatch: pytest.MonkeyPatch, tile: WarpTile):
    """Digits of infinities and NaN in either operand, or in both: as IEEE has their products."""
    options = force(monkeypatch, tile)
    numbers = np.array([1.1, -1.1, 0.0, np.inf, -np.inf, np.nan, 3e38, -1e-30], np.float32)
    x, w = numbers.reshape(1, 1, 1, -1), np.zeros((numbers.size, 1, 1, 2), np.float32)
    w[:, 0, 0, 0] = numbers
    b = Builder("net")
    graph = b.build({"y": b.add("Conv", b.input("x", np.float32, x.shape), b.constant(w), strides=[1, 2])})
    with np.errstate(all="ignore"):
        want = np.where(np.isfinite(numbers[1::2]), 0, np.nan) + numbers[:, None] * numbers[::2]
    np.testing.assert_allclose(
        graphc.compile(graph, target=TARGET, **options).run({"x": x})["y"][0, :, 0], want, rtol=2.0**-20
    )
