"""The model of what products on tensor cores cost: bounds that it must keep, and what it chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc
from graphc.backends.cuda.codegen.figures import Card, card_of
from graphc.backends.cuda.product.costs import GAIN, Problem, best, dealt, on_cuda_cores, predicted, ranked, whole_tiles
from graphc.backends.cuda.product.tile import GROUPS, LARGE, group_tiles, warp_tiles
from graphc.graph import Builder

A100, L40S, H100 = (card_of(arch) for arch in ((8, 0), (8, 9), (9, 0)))
KINDS = [(2, 1), (4, 1), (4, 3)]  # bytes of an element, products
SIZES = st.integers(1, 5000)
CALMLY = settings(deadline=None)  # on a machine that has other things to do


def choice(card: Card, m: int, n: int, k: int, kind: tuple[int, int] = (2, 1), batch: int = 1):
    return best(card, Problem(m, n, k, batch, *kind), warp_tiles(*kind))


@CALMLY
@given(st.sampled_from((A100, L40S, H100)), SIZES, SIZES, SIZES, st.integers(1, 9), st.sampled_from(KINDS))
def test_nothing_is_faster_than_the_card(card: Card, m: int, n: int, k: int, batch: int, kind: tuple[int, int]):
    p = Problem(m, n, k, batch, *kind)
    found = best(card, p, warp_tiles(*kind))
    rate = card.half if p.item == 2 else card.tf32 / p.products
    assert found.seconds >= 2 * batch * m * n * k / rate
    assert found.seconds >= p.item * batch * (m * k + k * n + m * n) / card.memory
    assert card.fits(found.tile.shared(p.item))
    assert all(
        found.seconds <= predicted(card, p, t, 1).seconds for t in warp_tiles(*kind) if card.fits(t.shared(p.item))
    )


@CALMLY
@given(st.sampled_from((A100, L40S, H100)), SIZES, SIZES, SIZES, st.sampled_from(KINDS))
def test_a_slower_card_is_slower(card: Card, m: int, n: int, k: int, kind: tuple[int, int]):
    half = replace(card, memory=card.memory / 2, cache=card.cache / 2, clock=card.clock / 2)
    assert choice(half, m, n, k, kind).seconds >= choice(card, m, n, k, kind).seconds


@pytest.mark.parametrize("card", [A100, H100])
@pytest.mark.parametrize("kind", KINDS)
def test_what_it_chooses(card: Card, kind: tuple[int, int]):
    large = choice(card, 8192, 8192, 8192, kind)
    assert large.parts == 1 and large.waves > 4 and large.tile.m * large.tile.n >= 128 * 128 or kind == (4, 3)
    deep = choice(card, 64, 64, 8192, kind)
    assert deep.parts > 4 and deep.seconds < predicted(card, Problem(64, 64, 8192, 1, *kind), deep.tile, 1).seconds / 2
    assert choice(card, 64, 64, 64, kind).parts == 1
    assert choice(card, 16, 4096, 4096, kind).tile.m <= 64
    assert choice(card, 64, 3136, 256, kind, batch=8).tile.m <= 128


@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_chosen_for_what_is_large(kind: tuple[int, int]):
    p = Problem(4096, 4096, 4096, 1, *kind)
    without, found = (best(H100, p, (*groups, *warp_tiles(*kind))) for groups in ((), group_tiles(*kind)))
    assert found.tile.group and found.seconds < without.seconds
    assert found.seconds >= 2 * 4096**3 / H100.rate(kind[0], True) * kind[1]


@CALMLY
@given(st.sampled_from((A100, L40S, H100)), SIZES, SIZES, SIZES, st.integers(1, 9), st.sampled_from(KINDS))
def test_steps_are_dealt_where_that_is_faster(card: Card, m: int, n: int, k: int, batch: int, kind: tuple[int, int]):
    p, tiles = Problem(m, n, k, batch, *kind), warp_tiles(*kind)
    found, others = ranked(card, p, tiles, dealing=True), best(card, p, tiles)
    assert found[0] == others or found[0].seconds < others.seconds / (1 + GAIN)
    rate = card.half if p.item == 2 else card.tf32 / p.products
    for c in (c for c in found if c.blocks):
        assert c.seconds >= 2 * batch * m * n * k / rate and c.seconds >= p.nbytes / card.memory
        assert c.blocks % card.multiprocessors == 0 and c.blocks <= card.multiprocessors * c.tile.blocks
        count = batch * -(-m // c.tile.m) * -(-n // c.tile.n)
        whole = whole_tiles(count, c.blocks)
        assert whole % c.blocks == 0 and count - 2 * c.blocks < whole <= count


def test_which_steps_are_dealt():
    """Where tiles are one to three waves, and deep; not where they fill the GPU, are too few for it, or are shallow."""
    tiles = (*GROUPS, *warp_tiles(2, 1))
    for m, n, k in ((12608, 768, 3072), (512, 11008, 4096), (3000, 3000, 3000)):
        found, others = (
            ranked(H100, Problem(m, n, k, 1, 2), tiles, dealing=True)[0],
            best(H100, Problem(m, n, k, 1, 2), tiles),
        )
        assert found.blocks == H100.multiprocessors and found.seconds < 0.9 * others.seconds
    resnet = [(3136, 64, 256), (784, 512, 128), (196, 1024, 256), (49, 2048, 512), (64, 1000, 2048)]
    cubes = [(n, n, n) for n in (1024, 2048, 4096, 8192)]
    for m, n, k in ((1024, 1152, 512), (128, 768, 768), (128, 3072, 768), *resnet, *cubes):
        assert not ranked(H100, Problem(m, n, k, 1, 2), tiles, dealing=True)[0].blocks, (m, n, k)
    full = Problem(128 * 12, 256 * 11, 4096, 1, 2)  # as many tiles as there are multiprocessors
    assert dealt(H100, full, tiles[0]) == []


def test_float32_is_faster_on_tensor_cores_only_where_there_is_enough_of_it():
    for card in (A100, H100):
        many, few = Problem(4096, 4096, 4096, 1, 4, 3), Problem(40, 40, 40, 1, 4, 3)
        assert best(card, many, warp_tiles(4, 3)).seconds < on_cuda_cores(card, many, LARGE) / 1.5
        assert best(card, few, warp_tiles(4, 3)).seconds > on_cuda_cores(card, few, LARGE) / 3


def test_each_architecture_has_a_card():
    """Whose shared memory is no more than the architecture's (CUDA C++ Programming Guide, table of compute capabilities)."""
    most = {(8, 0): 163, (8, 6): 99, (8, 7): 163, (8, 9): 99, (9, 0): 227, (10, 0): 227, (12, 0): 99, (12, 1): 99}
    for arch, kilobytes in most.items():
        assert card_of(arch).shared - (1 << 10) <= kilobytes << 10, arch


def test_explain_shows_what_it_says():
    b = Builder("net")
    w = np.ones((2048, 64), np.float16)
    graph = b.build([b.add("MatMul", b.add("Relu", b.input("x", np.float16, (64, 2048))), b.constant(w))])
    step = graphc.compile(graph, target="cuda:emulate", arch="sm_80").plan().steps[1]
    assert step.algorithm.startswith("tensor cores, tiles of 64x64, sums in ")
    assert "µs on A100 by the model, 0." in step.reason and step.reason.endswith(" waves")
