"""Operators of detectors in plans for many sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pytest

import graphc
from graphc import classes
from graphc.backends.reference import run as reference
from graphc.graph import Builder, Value
from graphc.model import Model

F32 = np.float32
Feeds = Mapping[str, np.ndarray]
SIZES = (5, 17, 64, 200, 1000, 33, 4097)


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a plan from standing for many sizes is an error."""
    monkeypatch.setattr(classes, "STRICT", True)


def served(make: Callable[[Builder], list[Value]], calls: Iterable[Feeds]) -> Model:
    b = Builder("sizes")
    graph = b.build({f"y{i}": v for i, v in enumerate(make(b))})
    model = graphc.compile(graph)
    for feeds in calls:
        want = reference(graph, feeds)
        for name, a in model.run(feeds).items():
            assert a.dtype == want[name].dtype
            np.testing.assert_allclose(a, want[name], atol=2e-5)
    assert len(model._plans) + len(model._many) <= 3
    return model


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_nonzero():
    served(
        lambda b: [b.add("NonZero", b.input("x", F32, ("n", "k")))],
        [{"x": (rng().random((n, 3 + n % 3)) < 0.5).astype(F32)} for n in SIZES],
    )


@pytest.mark.parametrize("axis", [0, 1, None])
def test_compress(axis: int | None):
    def make(b: Builder) -> list[Value]:
        return [b.add("Compress", b.input("x", F32, ("n", "k")), b.input("c", "bool", ("m",)), axis=axis)]

    def call(n: int) -> Feeds:
        x = rng().random((n, 3 + n % 3) if axis != 1 else (3 + n % 3, n)).astype(F32)
        return {"x": x, "c": rng().random(n - n % 4) < 0.5}

    served(make, map(call, SIZES))


def test_unique():
    served(
        lambda b: list(b.add("Unique", b.input("x", F32, ("n",)), outputs=4)),
        [{"x": rng().integers(0, 9, n).astype(F32)} for n in SIZES],
    )


def boxes(batch: int, n: int) -> np.ndarray:
    center, half = rng().random((batch, n, 2)), rng().random((batch, n, 2)) * 0.15
    return np.concatenate([center - half, center + half], -1).astype(F32)


@pytest.mark.parametrize("limit", [10, None])
def test_suppression(limit: int | None):
    """limit: of boxes; None: an input."""

    def make(b: Builder) -> list[Value]:
        most = b.constant([limit]) if limit else b.input("most", np.int64, (1,))
        rest = b.constant([0.5], F32), b.constant([0.2], F32)
        corners, scores = b.input("boxes", F32, ("batch", "n", 4)), b.input("scores", F32, ("batch", "classes", "n"))
        return [b.add("NonMaxSuppression", corners, scores, most, *rest)]

    def call(n: int) -> Feeds:
        batch = 2 + n % 2
        scores = rng().random((batch, 2 + n % 3, n)).astype(F32)
        return {"boxes": boxes(batch, n), "scores": scores, **({} if limit else {"most": np.array([n // 3])})}

    served(make, map(call, SIZES))


def test_regions():
    def make(b: Builder) -> list[Value]:
        x, rois = b.input("x", F32, ("batch", 5, "h", "w")), b.input("rois", F32, ("n", 4))
        numbers = b.input("numbers", np.int64, ("n",))
        return [b.add("RoiAlign", x, rois, numbers, output_height=3, output_width=4, sampling_ratio=2)]

    def call(n: int) -> Feeds:
        rois = (rng().random((n, 4)) * [3, 3, 9, 9]).astype(F32)
        x = rng().random((2, 5, 8 + n % 5, 9 + n % 7)).astype(F32)
        return {"x": x, "rois": rois, "numbers": rng().integers(0, 2, n)}

    served(make, map(call, SIZES))


def test_grids():
    def make(b: Builder) -> list[Value]:
        x, grid = b.input("x", F32, ("batch", 5, "h", "w")), b.input("grid", F32, ("batch", "p", "q", 2))
        return [b.add("GridSample", x, grid)]

    def call(n: int) -> Feeds:
        grid = rng().uniform(-1.1, 1.1, (2, n, 3, 2)).astype(F32)
        return {"x": rng().random((2, 5, 8 + n % 5, 9 + n % 7)).astype(F32), "grid": grid}

    served(make, map(call, SIZES))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("start, step", [(0, 1), (3, 2), (-2, 5)])
def test_floats_counted_up_to_a_size(dtype: str, start: int, step: int):
    """As detectors make their grids."""

    def make(b: Builder) -> list[Value]:
        x = b.input("x", F32, (2, "n"))
        size = b.add("Squeeze", b.add("Slice", b.add("Shape", x), *(b.constant([k]) for k in (1, 2))), b.constant([0]))
        bounds = b.constant(start, dtype), b.add("Cast", size, to=dtype), b.constant(step, dtype)
        return [b.add("Mul", b.add("Range", *bounds), b.constant(0.5, dtype))]

    model = served(make, [{"x": np.zeros((2, n), F32)} for n in SIZES])
    assert not any(s.host for s in model.plan({"x": (2, 9)}).steps)
