"""Sequences and optionals that are taken apart into tensors: what becomes of a call, by what Python's lists do."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

import graphc
from graphc.backends.reference import run
from graphc.errors import GraphcError, InputError
from graphc.graph import Builder, Value
from graphc.objects import optional, sequence
from graphc.passes.dissolve_objects import MOST_NODES
from graphc.structures import structure
from graphc.taken_apart import FEW
from graphc.types import TensorType

ROWS = TensorType(np.float32, ("n", 3))
TARGETS = pytest.mark.parametrize("target", ["cpu", "reference", pytest.param("cuda:emulate", marks=pytest.mark.slow)])


def model(text, target="cpu", opset=21, **options):
    header = f'<ir_version: 10, opset_import: ["" : {opset}]>\n'
    host = {"host": True} if target.startswith("cuda") else {}
    return graphc.compile(parser.parse_model(header + text), target=target, **host, **options)


def rows(*counts, start=0.0):
    """Arrays of so many rows of three, all elements different."""
    ends = np.cumsum(counts).tolist()
    every = np.arange(start, start + 3 * sum(counts), dtype=np.float32).reshape(-1, 3)
    return [every[end - n : end].copy() for n, end in zip(counts, ends)]


def same(got, want):
    if isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want)
        for a, b in zip(got, want):
            same(a, b)
    elif want is None:
        assert got is None
    else:
        np.testing.assert_array_equal(got, want, strict=True)


def on_the_host(compiled, feeds):
    """Operators of the plan that no kernel computes."""
    plan = compiled.plan(values=feeds)
    return [s.ops[0] for s in plan.steps if s.host] + [p.op for p in plan.pending if p.host]


# --- any program ------------------------------------------------------------------------------------------------------
@st.composite
def programs(draw):
    """Edits of a list of at least `least` elements, as (name, position): positions count from its two ends."""
    least, edits = draw(st.integers(0, 3)), []
    length = least
    for _ in range(draw(st.integers(0, 6))):
        names = ["insert", "append", "same"] + (["erase", "negate", "pop"] if length else [])
        name = draw(st.sampled_from(names))
        last = length if name == "insert" else length - 1
        at = draw(st.integers(-length, last)) if length else 0
        length += {"insert": 1, "append": 1, "erase": -1, "pop": -1}.get(name, 0)
        edits.append((name, at))
    return least, edits


def by_lists(edits, items, x):
    items = list(items)
    for name, at in edits:
        if name in ("insert", "append"):
            items.insert(at if name == "insert" else len(items), x)
        elif name == "erase":
            del items[at]
        elif name == "pop":
            del items[-1]
        elif name == "negate":
            items.insert(0, -items.pop(at))
    return items


def as_graph(edits):
    b = Builder()
    s = Value("s", sequence(ROWS))
    b.inputs.append(s)
    x = b.input("x", "float32", ("k", 3))
    for name, at in edits:
        position = b.constant(at, np.int64)
        if name == "insert":
            s = b.add("SequenceInsert", s, x, position)
        elif name == "append":
            s = b.add("SequenceInsert", s, x)
        elif name == "erase":
            s = b.add("SequenceErase", s, position)
        elif name == "pop":
            s = b.add("SequenceErase", s)
        elif name == "same":
            s = b.add("OptionalGetElement", b.add("Optional", b.add("Identity", s)))
        else:
            y = b.add("Neg", b.add("SequenceAt", s, position))
            s = b.add("SequenceInsert", b.add("SequenceErase", s, position), y, b.constant(0, np.int64))
    return b.build({"t": s, "count": b.add("SequenceLength", s)})


@settings(max_examples=15, deadline=None)
@given(programs(), st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=3))
def test_programs_of_edits(program, more):
    """Lists of several lengths, elements of several shapes, one model."""
    least, edits = program
    compiled = graphc.compile(as_graph(edits))
    for k, counts in enumerate([*more, more[0][::-1], [c + 1 for c in more[0]]]):
        items, x = rows(*[k] * least, *counts), rows(2 + k, start=-1.5)[0]
        feeds = {"s": items, "x": x}
        results, want = compiled.run(feeds), by_lists(edits, items, x)
        same(results["t"], want)
        same(results["count"], np.array(len(want), np.int64))
        assert on_the_host(compiled, feeds) == []


# --- nothing is left to the host ----------------------------------------------------------------------------------------
A, B = rows(2, 1)
X = np.arange(12, dtype=np.float32).reshape(4, 3)
COMPILED = {
    "joined": ("(seq(float[n, 3]) s) => (float[m, 3] y) { y = ConcatFromSequence<axis = 0>(s) }", {"s": [A, B, A]}),
    "stacked": (
        "(seq(float[n, 3]) s) => (float[n, 3, m] y) { y = ConcatFromSequence<axis = -1, new_axis = 1>(s) }",
        {"s": [A, -A]},
    ),
    "any ranks": ("(seq(float) s, float[k] x) => (seq(float) t) { t = SequenceInsert(s, x) }", {"s": [A, B[0]], "x": X[0]}),
    "a position that is an input": (
        "(seq(float[n, 3]) s, int64 at) => (float[m, 3] y, seq(float[n, 3]) t) { z = SequenceAt(s, at) y = Neg(z) t = SequenceErase(s, at) }",
        {"s": [A, B], "at": np.int64(-2)},
    ),
    "split": ("(float[n, 3] x) => (seq(float[a, 3]) s) { s = SplitToSequence(x) }", {"x": X}),
    "split into rows": (
        "(float[n, 3] x) => (seq(float[n]) s) { s = SplitToSequence<axis = 1, keepdims = 0>(x) }",
        {"x": X},
    ),
    "split as an input says": (
        "(float[n, 3] x, int64[k] sizes) => (seq(float[a, 3]) s) { s = SplitToSequence(x, sizes) }",
        {"x": X, "sizes": np.int64([1, 0, 3])},
    ),
    "split by a number": (
        "(float[n, 3] x, int64 size) => (seq(float[a, 3]) s) { s = SplitToSequence(x, size) }",
        {"x": X, "size": np.int64(3)},
    ),
    "lists of lists": (
        "(seq(seq(float[n, 3])) s) => (seq(float[n, 3]) t, int64 count) { z = Constant<value = int64 {0}>() t = SequenceAt(s, z) count = SequenceLength(s) }",
        {"s": [[A, B], [A]]},
    ),
    "a branch": (
        """(bool c, seq(float[n, 3]) s) => (seq(float[n, 3]) t) { t = If(c) <
          then_branch = a () => (seq(float[n, 3]) u) { u = SequenceErase(s) },
          else_branch = b () => (seq(float[n, 3]) v) { z = Constant<value = int64 {0}>() w = SequenceAt(s, z) v = SequenceInsert(s, w) }
        > }""",
        {"c": np.array(False), "s": [A, B]},
    ),
    "an optional that is there": (
        "(optional(float[n, 3]) o) => (float[n, 3] y, bool has) { has = OptionalHasElement(o) y = OptionalGetElement(o) }",
        {"o": A},
    ),
    "an optional that is not": ("(optional(float[n, 3]) o) => (bool has) { has = OptionalHasElement(o) }", {"o": None}),
    "optionals are handed on": (
        "(optional(seq(float[n, 3])) o) => (optional(seq(float[n, 3])) p) { p = Identity(o) }",
        {"o": [A, B]},
    ),
    "an empty one is handed on": (
        "(optional(seq(float[n, 3])) o) => (optional(seq(float[n, 3])) p) { p = Identity(o) }",
        {"o": None},
    ),
    "behind what data decides": (
        """(float[n] x) => (seq(float[a]) s, float[b] y) { i = NonZero(x) z = Cast<to = 1>(i) f = Flatten<axis = 0>(z)
          r = Constant<value_ints = [-1]>() g = Reshape(f, r) s = SequenceConstruct(g, x) y = ConcatFromSequence<axis = 0>(s) }""",
        {"x": np.float32([0, 3, 0, 4])},
    ),
}  # fmt: skip


@TARGETS
@pytest.mark.parametrize("name", COMPILED)
def test_no_step_is_left(name, target):
    """And the values are those of the references, run node by node over Python's objects."""
    text, feeds = COMPILED[name]
    compiled = model("g " + text, target)
    got = compiled.run(feeds)
    want = run(compiled.source_graph, feeds)
    assert got.keys() == want.keys()
    for key, value in want.items():
        same(got[key], value)
    if target == "cpu":
        assert on_the_host(compiled, feeds) == []


def test_what_is_not_known_stays_on_the_host():
    """A position that is computed from data, in a sequence of elements of several shapes."""
    compiled = model(
        """g (seq(float[n, 3]) s, float[4] x) => (float[m, 3] y) {
          i = ArgMax<axis = 0, keepdims = 0>(x)
          z = SequenceAt(s, i)
          y = Neg(z)
        }"""
    )
    for k in (0, 1, 2):
        x = np.eye(4, dtype=np.float32)[k]
        same(compiled([A, B, A[:0]], x), -[A, B, A[:0]][k])
    with pytest.raises(GraphcError, match="position 3 in a sequence of 3"):
        compiled([A, B, A], np.eye(4, dtype=np.float32)[3])


# --- loops --------------------------------------------------------------------------------------------------------------
LOOP = """g (float[3] x, seq(float[3]) s) => (seq(float[3]) t, float[3] sum, float[trips, 3] seen) {
  n = SequenceLength(s)
  go = Constant<value = bool {1}>()
  zero = Constant<value_floats = [0.0, 0.0, 0.0]>()
  t, sum, seen = Loop(n, go, s, zero) <
    body = b (int64 i, bool a, seq(float[3]) u, float[3] p) => (bool c, seq(float[3]) v, float[3] q, float[3] r) {
      c = Identity(a)
      e = SequenceAt(s, i)
      q = Add(p, e)
      r = Mul(e, x)
      front = Constant<value = int64 {0}>()
      v = SequenceInsert(u, r, front)
    }
  >
}"""


@TARGETS
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_loop_over_a_sequence_is_written_out(count, target):
    compiled, x = model(LOOP, target), np.float32([1, 2, 4])
    items = list(np.random.default_rng(count).integers(0, 9, (count, 3)).astype(np.float32))
    results = compiled.run({"x": x, "s": items})
    same(results["t"], [item * x for item in items[::-1]] + items)
    same(results["sum"], sum(items, np.zeros(3, np.float32)))
    same(results["seen"], np.array(items, np.float32).reshape(-1, 3) * x)
    if target == "cpu":
        assert on_the_host(compiled, {"x": x, "s": items}) == []


def test_a_loop_of_many_trips_stays_one():
    n = MOST_NODES
    compiled = model(
        f"""g (float[3] x, seq(float[3]) s) => (seq(float[3]) t) {{
          n = Constant<value = int64 {{{n}}}>()
          go = Constant<value = bool {{1}}>()
          t = Loop(n, go, s) <
            body = b (int64 i, bool a, seq(float[3]) u) => (bool c, seq(float[3]) v) {{
              c = Identity(a)
              f = CastLike(i, x)
              r = Mul(x, f)
              v = SequenceInsert(u, r)
            }}
          >
        }}"""
    )
    x = np.float32([1, 2, 3])
    got = compiled.run({"x": x, "s": [-x]})["t"]
    same(got, [-x] + [x * np.float32(i) for i in range(n)])
    assert on_the_host(compiled, {"x": x, "s": [-x]}) == ["SequenceConstruct", "Loop"]


# --- calls --------------------------------------------------------------------------------------------------------------
ALIASES = """g (seq(float[n, 3]) s, float[k, 3] x) => (seq(float[m, 3]) t, float[k, 3] y, seq(float[k, 3]) u, float[k, 3] z) {
  t = SequenceInsert(s, x)
  last = Constant<value = int64 {-1}>()
  y = SequenceAt(t, last)
  u = SequenceConstruct(y, y, x)
  z = Identity(x)
}"""


@TARGETS
def test_every_result_has_memory_of_its_own(target):
    """One array that is an element twice, an element of two results, a result itself, and an input."""
    compiled, x = model(ALIASES, target), rows(2)[0]
    results = compiled.run({"s": [x, x], "x": x})
    arrays = [*results["t"], results["y"], *results["u"], results["z"]]
    for k, a in enumerate(arrays):
        same(a, x)
        assert not any(np.shares_memory(a, b) for b in (x, *arrays[:k]))
    later = compiled.run({"s": [x + 1, x + 1], "x": x + 1})
    for a, b in zip(arrays, (*later["t"], later["y"], *later["u"], later["z"])):
        same(a, x)
        same(b, x + 1)
        b[:] = 7
    same(x, rows(2)[0])


def test_results_into_arrays_of_the_callers():
    compiled, x = model(ALIASES), rows(2)[0]
    y, z = np.empty_like(x), np.empty_like(x)
    results = compiled.run({"s": [], "x": x}, out={"y": y, "z": z})
    assert results["y"] is y and results["z"] is z
    for a in (y, z, *results["t"], *results["u"]):
        same(a, x)


def test_threads_with_lists_of_their_own():
    compiled = model(
        "g (seq(float[n, 3]) s, float[k, 3] x) => (seq(float[m, 3]) t, float[c, 3] y) { t = SequenceInsert(s, x) y = ConcatFromSequence<axis = 0>(t) }"
    )

    def calls(k):
        for turn in range(20):
            items, x = rows(*range(k), start=k), rows(1 + turn % 3, start=-turn)[0]
            t, y = compiled(items, x)
            same(t, [*items, x])
            same(y, np.concatenate([*items, x]))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(calls, range(6)))


def test_hardly_two_lengths_alike(monkeypatch):
    """Then sequences stay whole, so that nothing is planned for each; those of before keep their plans."""
    made = []
    monkeypatch.setattr("graphc.taken_apart.structure", lambda *args: made.append(args) or structure(*args))
    compiled = model(
        "g (seq(float[n, 3]) s) => (seq(float[n, 3]) t, int64 count) { t = SequenceErase(s) count = SequenceLength(t) }"
    )
    for n in range(1, 3 * FEW):
        t, count = compiled(rows(*[2] * n))
        same(t, rows(*[2] * n)[:-1])
        assert count == n - 1
    assert len(made) == FEW
    assert on_the_host(compiled, {"s": rows(1)}) == []


def test_positions_out_of_range_between_others():
    compiled = model("g (seq(float[n, 3]) s, int64 at) => (float[m, 3] y) { y = SequenceAt(s, at) }")
    for at in (0, 1, -1, -2):
        same(compiled([A, B], np.int64(at)), [A, B][at])
        for wrong in (2, -3):
            with pytest.raises(InputError, match=f"position {wrong} in a sequence of 2"):
                compiled([A, B], np.int64(wrong))
    with pytest.raises(InputError, match="it is empty"):
        compiled([], np.int64(0))


@pytest.mark.parametrize(
    "text, feeds, message",
    [
        ("(seq(float[n]) s) => (float[m] y) { y = ConcatFromSequence<axis = 0>(s) }", {"s": []}, "nothing to concatenate"),
        (
            "(seq(float[n, m]) s) => (float[k, m] y) { y = ConcatFromSequence<axis = 0>(s) }",
            {"s": [A, A[:, :2]]},
            r"shapes \[2, 3\], \[2, 2\] can't be joined",
        ),
        ("(optional(float[n, 3]) o) => (float[n, 3] y) { y = OptionalGetElement(o) }", {"o": None}, "the optional is empty"),
        (
            "(float[n, 3] x, int64[k] sizes) => (seq(float[a, 3]) s) { s = SplitToSequence(x, sizes) }",
            {"x": X, "sizes": np.int64([1, 2])},
            "sum to the dim, 4",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense(text, feeds, message):
    with pytest.raises(InputError, match=message):
        model("g " + text).run(feeds)


def test_names_that_elements_would_have():
    """An input has the name that an element of another one gets."""
    b = Builder()
    b.inputs.append(Value("s", sequence(ROWS)))
    x = b.input("s[0]", "float32", ("k", 3))
    compiled = graphc.compile(b.build({"t": b.add("SequenceInsert", b.inputs[0], x)}))
    same(compiled.run({"s": [A], "s[0]": B})["t"], [A, B])


def test_an_optional_and_its_element():
    """A value of which nothing is known but that it is one."""
    b = Builder()
    b.inputs.append(Value("o", optional(sequence(ROWS))))
    inside = b.add("OptionalGetElement", b.inputs[0])
    compiled = graphc.compile(b.build({"n": b.add("SequenceLength", inside), "o": b.add("Identity", b.inputs[0])}))
    for items in ([], [A], [B, A]):
        results = compiled.run({"o": items})
        assert results["n"] == len(items)
        same(results["o"], items)


def test_elements_that_decide_shapes():
    compiled = model(
        "g (seq(int64[k]) s, float[n] x) => (float[a, b] y) { z = Constant<value = int64 {1}>() t = SequenceAt(s, z) y = Reshape(x, t) }"
    )
    x = np.arange(6, dtype=np.float32)
    for shape in ([2, 3], [3, 2], [1, 6], [-1, 3]):
        s = [np.int64([9]), np.int64(shape)]
        same(compiled(s, x), x.reshape(shape))
        assert on_the_host(compiled, {"s": s, "x": x}) == []


def test_plans_come_from_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    text = "g (seq(float[n, 3]) s) => (float[m, 3] y) { z = ConcatFromSequence<axis = 0>(s) y = Neg(z) }"
    same(model(text)([A, B]), -np.concatenate([A, B]))
    kept = len(list(tmp_path.rglob("plan-*.json")))
    assert kept >= 1
    again = model(text)
    same(again([A, B]), -np.concatenate([A, B]))
    assert len(list(tmp_path.rglob("plan-*.json"))) == kept
    assert again._source._loaded is None, "the graph was read again"
    same(model(text)([A, B, A]), -np.concatenate([A, B, A]))


def test_weights_are_packed_once_for_all_structures():
    w = np.random.default_rng(0).random((64, 64), np.float32)
    b = Builder()
    b.inputs.append(Value("s", sequence(TensorType(np.float32, ("n", 64)))))
    joined = b.add("ConcatFromSequence", b.inputs[0], axis=0)
    compiled = graphc.compile(b.build({"y": b.add("MatMul", joined, b.constant(w))}))
    sizes = []
    for count in range(1, 6):
        items = [np.full((2, 64), k, np.float32) for k in range(count)]
        np.testing.assert_allclose(compiled(items), np.concatenate(items) @ w, rtol=1e-5)
        sizes.append(compiled._source.backend.weights.nbytes)
    assert sizes[0] >= w.nbytes and len({*sizes}) == 1


def test_steps_are_timed_with_what_callers_give():
    compiled = model(
        "g (seq(float[n, 3]) s, float[3] x) => (float[m, 3] y) { z = ConcatFromSequence<axis = 0>(s) y = Mul(z, x) }"
    )
    feeds = {"s": [A, B], "x": X[0]}
    plan = compiled.plan(values=feeds)
    assert len(plan.profile(feeds, rounds=2)) == len(plan.steps)


def test_plans_with_values_of_some_inputs():
    compiled = model(
        "g (seq(float[n, 3]) s, float[k, 3] x) => (float[m, 3] y) { t = SequenceInsert(s, x) y = ConcatFromSequence<axis = 0>(t) }"
    )
    plan = compiled.plan({"x": (5, 3)}, {"s": [A, B]})
    assert not any(step.host for step in plan.steps)
    with pytest.raises(InputError, match="shape of input 'x' is open"):
        compiled.plan(values={"s": [A, B]})
