"""The memory planner: values alive together never share a byte, and the arena stays near the lower bound."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.lower.memory import ArenaPlan, Lifetime, draw, plan


def overlapping(buffers, arena: ArenaPlan) -> list[tuple[str, str]]:
    """Pairs alive at one step that share bytes."""
    placed = [(b, o) for b, o in zip(buffers, arena.offsets) if b.nbytes]
    return [
        (a.name, b.name)
        for k, (a, p) in enumerate(placed)
        for b, q in placed[k + 1 :]
        if a.first <= b.last and b.first <= a.last and p < q + b.nbytes and q < p + a.nbytes
    ]


def peak(buffers, alignment: int) -> int:
    """The lower bound, step by step."""
    steps = range(min(b.first for b in buffers), max(b.last for b in buffers) + 1)
    return max(sum(-(-b.nbytes // alignment) * alignment for b in buffers if b.first <= s <= b.last) for s in steps)


intervals = st.tuples(st.integers(0, 5000), st.integers(-3, 20), st.integers(0, 12))


@settings(max_examples=60, deadline=None)
@given(st.lists(intervals, min_size=1, max_size=25), st.sampled_from([1, 16, 64, 4096]))
def test_live_together_never_overlap(drawn, alignment):
    buffers = [Lifetime(f"b{i}", size, first, first + length) for i, (size, first, length) in enumerate(drawn)]
    arena = plan(buffers, alignment)
    assert overlapping(buffers, arena) == []
    assert all(o % alignment == 0 for o in arena.offsets)
    assert all(o + b.nbytes <= arena.nbytes for b, o in zip(buffers, arena.offsets))
    assert arena.lower_bound == peak(buffers, alignment)
    assert arena.lower_bound <= arena.nbytes <= arena.total


def test_the_check_of_overlaps_sees_one():
    buffers = [Lifetime("a", 64, 0, 1), Lifetime("b", 64, 1, 2)]
    assert overlapping(buffers, ArenaPlan((0, 0), 64, 128, 128)) == [("a", "b")]


def test_no_buffers():
    assert plan([]) == ArenaPlan((), 0, 0, 0)
    assert "lower bound" in draw([], plan([]))


def test_zero_sized_buffers_take_no_memory():
    arena = plan([Lifetime("empty", 0, 0, 9), Lifetime("full", 100, 0, 9)])
    assert arena == ArenaPlan((0, 0), 128, 128, 128)


@pytest.mark.parametrize(("nbytes", "first", "last"), [(-1, 0, 0), (1, 3, 2)])
def test_impossible_buffers_are_refused(nbytes, first, last):
    with pytest.raises(ValueError, match="buffer 'bad'"):
        Lifetime("bad", nbytes, first, last)


def test_deterministic():
    buffers = rectangle(random.Random(3), 60)
    assert plan(buffers) == plan(buffers)


# --- the shapes of real nets ------------------------------------------------------------------------------------------
def chain(n: int, skip: int = 0) -> list[Lifetime]:
    """Each value is read by the next step, every `skip`-th also by the third after."""
    rng = random.Random(1)
    return [
        Lifetime(f"x{i}", rng.choice([1 << 20, 1 << 19, 3 << 18]), i, i + (3 if skip and i % skip == 0 else 1))
        for i in range(n)
    ]


def shrinking_chain(n: int) -> list[Lifetime]:
    return [Lifetime(f"x{i}", max(1000, (1 << 22) * 3**i // 4**i), i, i + 1) for i in range(n)]


def dense_block(layers: int, pixels: int) -> list[Lifetime]:
    """DenseNet with the concatenation in place: a layer's channels live to the block's end."""
    grown = [Lifetime(f"grow{i}", 4 * 32 * pixels, 2 * i, 2 * layers) for i in range(layers)]
    return grown + [Lifetime(f"bottleneck{i}", 4 * 128 * pixels, 2 * i + 1, 2 * i + 2) for i in range(layers)]


def dense_copies(layers: int, pixels: int) -> list[Lifetime]:
    """DenseNet with a copying Concat: the running concatenation grows with each layer."""
    out = []
    for i in range(layers):
        out.append(Lifetime(f"cat{i}", 4 * (64 + 32 * i) * pixels, 3 * i, 3 * i + 3))
        out.append(Lifetime(f"bottleneck{i}", 4 * 128 * pixels, 3 * i + 1, 3 * i + 2))
        out.append(Lifetime(f"grow{i}", 4 * 32 * pixels, 3 * i + 2, 3 * i + 3))
    return out


def inception(modules: int) -> list[Lifetime]:
    """Four branches of unequal sizes and lengths into one concatenation, which the next module reads."""
    out, step = [Lifetime("stem", 4 * 192 * 784, 0, 6)], 0
    for m in range(modules):
        for k, (channels, reduced) in enumerate([(64, 0), (128, 96), (32, 16), (32, 192)]):
            if reduced:
                out.append(Lifetime(f"m{m}.reduce{k}", 4 * reduced * 784, step + k + 1, step + k + 2))
            out.append(Lifetime(f"m{m}.branch{k}", 4 * channels * 784, step + k + 2, step + 7))
        out.append(Lifetime(f"m{m}.cat", 4 * 256 * 784, step + 7, step + 7 + 6))
        step += 7
    return out


NETS = {
    "chain": chain(300),
    "skips": chain(300, skip=4),
    "shrinking": shrinking_chain(40),
    "dense block": dense_block(58, 784),
    "dense copies": dense_copies(58, 784),
    "inception": inception(9),
    "unet": [Lifetime(f"down{i}", 4_000_000 >> i, i, 20 - i) for i in range(9)]
    + [Lifetime(f"up{i}", 4_000_000 >> i, 20 - i, 21 - i) for i in range(9)],
}


@pytest.mark.parametrize("name", NETS)
def test_nets_reach_the_lower_bound(name):
    arena = plan(NETS[name])
    assert overlapping(NETS[name], arena) == []
    assert arena.nbytes <= 1.05 * arena.lower_bound


def test_the_search_improves_on_the_greedy_orders():
    greedy, searched = plan(NETS["chain"], effort=0), plan(NETS["chain"])
    assert greedy.nbytes > 1.05 * greedy.lower_bound
    assert searched.nbytes == searched.lower_bound


# --- hard cases: a rectangle cut into pieces, where a plan without any waste exists -----------------------------------
def rectangle(rng: random.Random, pieces: int, steps: int = 200, lines: int = 1024) -> list[Lifetime]:
    rects = [(0, steps, 0, lines)]
    while len(rects) < pieces:
        a, b, c, d = rects.pop(rng.randrange(len(rects)))
        if rng.random() < 0.5 and b - a >= 2:
            m = rng.randrange(a + 1, b)
            rects += [(a, m, c, d), (m, b, c, d)]
        elif d - c >= 2:
            m = rng.randrange(c + 1, d)
            rects += [(a, b, c, m), (a, b, m, d)]
        else:
            rects.append((a, b, c, d))
    rng.shuffle(rects)
    return [Lifetime(f"r{i}", (d - c) * 64, a, b - 1) for i, (a, b, c, d) in enumerate(rects)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("pieces", "ratio"), [(20, 1.0), (60, 1.05), (200, 1.2)])
def test_rectangles_without_waste(pieces, ratio, seed):
    buffers = rectangle(random.Random(seed), pieces)
    arena = plan(buffers)
    assert arena.lower_bound == 1024 * 64
    assert overlapping(buffers, arena) == []
    assert arena.nbytes <= ratio * arena.lower_bound


# --- the drawing ------------------------------------------------------------------------------------------------------
def test_drawing_shows_each_buffer_where_it_lies():
    buffers = [Lifetime("first", 64, 0, 1), Lifetime("second", 128, 1, 2), Lifetime("third", 64, 2, 3)]
    arena = plan(buffers)
    text = draw(buffers, arena)
    picture = [line.split("|")[1] for line in text.splitlines() if "|" in line]
    assert len(picture) == 3 and all(len(row) == 4 for row in picture)
    for letter, b, offset in zip("abc", buffers, arena.offsets):
        cells = {(2 - r, step) for r, row in enumerate(picture) for step, c in enumerate(row) if c == letter}
        assert cells == {(offset // 64 + k, s) for k in range(b.nbytes // 64) for s in range(b.first, b.last + 1)}
        assert b.name in text


def test_drawing_of_a_large_plan_fits_a_terminal():
    text = draw(NETS["inception"], plan(NETS["inception"]), width=60, height=10, legend=3)
    assert max(map(len, text.splitlines())) < 100
    assert len(text.splitlines()) == 1 + 10 + 1 + 3
