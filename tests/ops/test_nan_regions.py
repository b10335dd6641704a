"""What lies in no number's order: NaN in a region's largest corner, infinity in an expert that nobody asked."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.graph import Builder

F32 = np.float32
TARGETS = ("reference", "cpu", "cpu:avx2", "cpu:portable", "cuda:emulate")


def run(b: Builder, y, target: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return graphc.compile(b.build({"y": y}), target=target).run(feeds)["y"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("corner", [(2, 2), (2, 3), (3, 2), (3, 3)])
def test_the_largest_corner_of_a_sample_is_nan_where_one_is(target: str, corner: tuple[int, int]):
    b = Builder()
    x, boxes = b.input("x", F32, (1, 2, 6, 6)), b.input("boxes", F32, (2, 4))
    y = b.add("RoiAlign", x, boxes, b.constant([0, 0]), mode="max", output_height=1, output_width=1, sampling_ratio=1)
    image = np.ones((1, 2, 6, 6), F32)
    image[0, 0][corner] = np.nan
    given = np.array([[2, 2, 4, 4], [0, 0, 2, 2]], F32)  # the first is sampled between the four corners
    found = run(b, y, target, {"x": image, "boxes": given})[:, :, 0, 0]
    assert np.isnan(found).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("target", TARGETS)
def test_experts_that_were_not_chosen_are_no_part_of_a_token(target: str):
    rng = np.random.default_rng(0)
    b = Builder()
    router = np.array([[3, 1, -2], [-2, 3, 1], [1, -3, 2], [4, 2, 0]], F32)
    bias = np.zeros((3, 8), F32)
    bias[2, 5] = np.inf
    w1, w2 = (rng.normal(size=s).astype(F32) for s in ((3, 12, 8), (3, 8, 12)))
    operands = [
        b.input("x", F32, (4, 8)),
        b.input("router", F32, (4, 3)),
        b.constant(w1),
        None,
        b.constant(w2),
        b.constant(bias),
    ]
    y = b.add("com.microsoft::MoE", *operands, k=2)
    found = run(b, y, target, {"x": rng.normal(size=(4, 8)).astype(F32), "router": router})
    assert np.isinf(found).tolist() == [[c == 5 and token in (1, 2) for c in range(8)] for token in range(4)]
    assert not np.isnan(found).any()
