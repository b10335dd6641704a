"""Means over space and channel shuffles become the operators that backends have kernels for; what only looks so stays."""

from __future__ import annotations

import pytest
from passcheck import build, image, ints, left, refused, weights

from graphc.graph import Builder, Value
from graphc.passes.feature_maps import feature_maps
from graphc.types import Sym


def conv(b: Builder, x: Value, channels: int = 6) -> Value:
    return b.add("Conv", x, weights(b, channels, x.shape[1], 1, 1))


def shuffle(b: Builder, x: Value, apart: tuple[int, ...], perm: tuple[int, ...], back: tuple[int, ...]) -> Value:
    return b.add("Reshape", b.add("Transpose", b.add("Reshape", x, ints(b, *apart)), perm=perm), ints(b, *back))


@pytest.mark.parametrize("batch", [2, Sym("batch")], ids=["static", "symbolic"])
def test_a_mean_over_space_is_a_pool(batch):
    for axes in ((2, 3), (-1, 2)):
        g = build(lambda b, axes=axes: b.add("ReduceMean", conv(b, image(b, batch, 4, 5, 5)), ints(b, *axes)))
        assert left(feature_maps, g) == ["Conv", "GlobalAveragePool"]
    g = build(
        lambda b: b.add("ReduceMean", b.add("Relu", conv(b, image(b, batch, 4, 5, 5))), ints(b, 2, 3), keepdims=False)
    )
    assert left(feature_maps, g) == ["Conv", "Relu", "GlobalAveragePool", "Flatten"]


def test_other_means_stay():
    g = build(lambda b: b.add("ReduceMean", conv(b, image(b)), ints(b, 3)))
    assert "not over all spatial axes" in refused(feature_maps, g)
    for x in (lambda b: image(b), lambda b: b.add("Transpose", conv(b, image(b)), perm=(0, 2, 3, 1))):
        g = build(lambda b, x=x: b.add("ReduceMean", x(b), ints(b, 2, 3)))
        assert refused(feature_maps, g) == ""  # not of a feature map
    g = build(lambda b: b.add("ReduceMean", conv(b, image(b))))
    assert refused(feature_maps, g) == ""


@pytest.mark.parametrize("batch", [2, Sym("batch")], ids=["static", "symbolic"])
def test_a_shuffle_of_channels(batch):
    n = 0 if isinstance(batch, Sym) else batch
    g = build(lambda b: shuffle(b, image(b, batch, 6, 4, 5), (n, 3, 2, 4, 5), (0, 2, 1, 3, 4), (n, 6, 4, 5)))
    assert left(feature_maps, g) == ["ChannelShuffle"]


LOOKALIKES = {
    "other axes": ((2, 3, 2, 4, 4), (0, 1, 2, 4, 3), (2, 6, 4, 4)),
    "axes of space too": ((2, 3, 2, 4, 4), (0, 2, 1, 4, 3), (2, 6, 4, 4)),
    "another shape": ((2, 3, 2, 4, 4), (0, 2, 1, 3, 4), (2, 6, 16)),
    "the batch too": ((3, 2, 2, 4, 4), (0, 2, 1, 3, 4), (2, 6, 4, 4)),
    "space too": ((2, 3, 4, 2, 4), (0, 2, 1, 3, 4), (2, 6, 4, 4)),
    "more dims": ((2, 3, 2, 2, 2, 4), (0, 2, 1, 3, 4, 5), (2, 6, 4, 4)),
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_no_shuffle_of_channels(name):
    g = build(lambda b: shuffle(b, image(b, 2, 6, 4, 4), *LOOKALIKES[name]))
    assert left(feature_maps, g) == ["Reshape", "Transpose", "Reshape"]
