"""Operators whose results' sizes follow from data, on CUDA."""

from __future__ import annotations

import numpy as np
import pytest
from selections import *  # noqa: F403  (its tests)
from selections import F32, boxes, check, mask, suppression
from suite import compiled, use

from graphc.backends.cuda.codegen.build import device_code
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.backends.cuda.selection import ranks
from graphc.backends.cuda.selection.positions_block import CountTrue, FindTrue, Take
from graphc.backends.cuda.selection.ranks import TILE
from graphc.backends.cuda.selection.suppression_block import BOXES, PARTS, ScoreKeys, Suppress, Suppressed
from graphc.backends.cuda.selection.unique_block import (
    CountDistinct,
    CountFirsts,
    Describe,
    NumberDistinct,
    NumberFirsts,
)
from graphc.errors import UnsupportedError
from graphc.lower.kernel import Kernel

TARGET = "cuda:emulate"


@pytest.fixture(params=["", "memory"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    monkeypatch.setenv("GRAPHC_CHECK", request.param)
    return TARGET, 1


@pytest.mark.parametrize("n", [TILE - 1, TILE, TILE + 1, 3 * TILE, 5 * TILE + 7])
def test_chunks_of_several_tiles(n: int, where: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    """Blocks of threads that go on, as they do with more than a million elements."""
    monkeypatch.setattr(ranks, "CHUNKS", 2)
    for share in (0.3, 1.0):
        check(use("NonZero", mask(n, share=share)), where)
        check(use("Compress", np.arange(n, dtype=F32), mask(n, share=share)), where)
        check(use("Compress", np.arange(n, dtype=F32)[None], mask(1, n, share=share)), where)
    x = np.random.default_rng(n).integers(0, 700, n).astype(F32)
    for is_sorted in (True, False):
        check(use("Unique", x, n_outputs=4, sorted=is_sorted), where)


@pytest.mark.parametrize("n", [BOXES - 1, BOXES, BOXES + 1, 2 * BOXES, BOXES * PARTS, BOXES * PARTS + 1, 900])
def test_boxes_at_once(n: int, where: tuple[str, int]):
    """Around the candidates that a block of threads has at a time, and the chosen boxes that it has in shared memory."""
    scores = np.random.default_rng(n).random((1, 2, n))
    for extent in (0.0, 0.02, 0.5):
        for limit in (n, BOXES, 3):
            check(suppression(boxes(1, n, extent), scores, limit, 0.3, 0.05), where)


def test_an_overlap_that_is_the_limit_is_not_above_it():
    """Intersection over union, each step rounded."""
    (ir, *_) = device_code(Suppress(False), (9, 0)).modules
    assert "llvm.nvvm.mul.rn.f" in ir and " fmul " not in ir  # which ptxas would fuse with what follows
    one = suppression(boxes(1, 2, 0.5), np.array([[[2, 1]]]), 2, 0.5, 0.0)
    model, rng = compiled(one, TARGET), np.random.default_rng(0)
    for _ in range(100):
        (low, high), (width, height) = rng.uniform(0, 0.3, (2, 2)).astype(F32), rng.uniform(0.5, 1, (2, 2)).astype(F32)
        b = np.stack(
            [
                [low[0], high[0], low[0] + width[0], high[0] + height[0]],
                [low[1], high[1], low[1] + width[1], high[1] + height[1]],
            ]
        )
        sides = np.minimum(b[0, 2:], b[1, 2:]) - np.maximum(b[0, :2], b[1, :2])
        areas, common = np.prod(b[:, 2:] - b[:, :2], 1), sides[0] * sides[1]
        limit = common / (areas[0] + areas[1] - common)
        for given, kept in ((limit, 2), (np.nextafter(limit, F32(0)), 1)):
            feeds = [b[None], *one.inputs[1:3], np.array([given]), one.inputs[4]]
            (rows,) = model.run(dict(zip([s.name for s in model.inputs], feeds))).values()
            assert len(rows) == kept, (b, limit)


def test_what_has_no_kernel():
    wide = suppression(boxes(1, 9, 0.4), np.ones((1, 1, 9)), 6, 0.4, 0.2).with_floats("float64")
    with pytest.raises(UnsupportedError, match="its 'boxes' is float64, not float32"):
        compiled(wide, TARGET)
    with pytest.raises(UnsupportedError, match="distinct rows have no kernel"):
        compiled(use("Unique", mask(3, 4), axis=0), TARGET)


KERNELS = [
    CountTrue("bool"), CountTrue("float16"), FindTrue("bool"), FindTrue("float64"), Take(1), Take(8),
    CountDistinct("float32"), CountDistinct("bfloat16"), NumberDistinct("float32"), NumberDistinct("int64"), CountFirsts(),
    NumberFirsts(), Describe(4), ScoreKeys(), Suppress(False), Suppress(True), Suppressed(),
]  # fmt: skip


@pytest.mark.sample(12)
@pytest.mark.parametrize("arch", [(8, 0), (9, 0)])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_nothing_is_spilled(kernel: Kernel, arch: tuple[int, int]):
    cubin = cubin_of(kernel, arch)
    assert cubin.spilled == cubin.stack == 0
