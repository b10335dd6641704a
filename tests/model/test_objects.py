"""Sequences, optionals and maps as inputs, values and results of a model."""

import pickle

import numpy as np
import pytest
from onnx import parser

import graphc
from graphc.errors import GraphcError, InputError
from graphc.graph import Builder
from graphc.objects import Loose, box, common, from_json, mapping, optional, sequence, to_json, unbox
from graphc.op import Op
from graphc.types import TensorType

FLOAT = np.dtype(np.float32)
A, B, C = (np.arange(n * 3, dtype=np.float32).reshape(n, 3) + n for n in (2, 1, 4))
TARGETS = pytest.mark.parametrize("target", ["cpu", "reference", pytest.param("cuda:emulate", marks=pytest.mark.slow)])


def model(text, target="cpu", opset=21, **options):
    header = f'<ir_version: 10, opset_import: ["" : {opset}]>\n'
    host = {"host": True} if target.startswith("cuda") else {}
    return graphc.compile(parser.parse_model(header + text), target=target, **host, **options)


def same(got, want):
    """Equal to the bit, in structure, dtypes and shapes."""
    assert type(got) is type(want), (got, want)
    if isinstance(want, list):
        assert len(got) == len(want)
        for a, b in zip(got, want):
            same(a, b)
    elif isinstance(want, dict):
        assert got == want
    elif want is not None:
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want, strict=True)


EDITS = """g (seq(float[n, 3]) s, int64 at, float[k, 3] x) => (seq(float[a, 3]) t, seq(float[d, 3]) u, float[b, 3] y, int64 count, float[c, 3] all) {
  t = SequenceInsert(s, x, at)
  u = SequenceErase(t, at)
  y = SequenceAt(t, at)
  count = SequenceLength(t)
  all = ConcatFromSequence<axis = 0>(t)
}"""


@TARGETS
@pytest.mark.parametrize("given, at", [([A, B], 1), ([A, B], 0), ([A, B, A], 3), ([A], -1), ([], 0)])
def test_positions_known_at_run_time(target, given, at):
    """Elements differ in shape; a list is Python's."""
    results = model(EDITS, target).run({"s": given, "at": np.int64(at), "x": C})
    want = list(given)
    want.insert(at, C)
    same(results["t"], want)
    same(results["y"], want[at])
    same(results["count"], np.array(len(want), np.int64))
    same(results["all"], np.concatenate(want))
    del want[at]
    same(results["u"], want)


@TARGETS
def test_one_model_takes_any_lengths(target):
    compiled = model(EDITS, target)
    for given in ([A], [A, B, C], [], [B, B]):
        same(compiled.run({"s": given, "at": np.int64(0), "x": A})["t"], [A, *given])


WRONG = [
    (A, "input 's' is an array of float32, the model wants sequence(float32[n, 3])"),
    (None, "input 's' is NoneType"),
    ([A.astype(np.float64)], "element 0 of input 's' is float64, the model wants float32[n, 3]"),
    ([A, A[0]], "element 1 of input 's' has shape (3,)"),
    ([A, A[:, :2]], "element 1 of input 's' has shape (2, 2)"),
    ([A, None], "element 1 of input 's' is None"),
    ([[[1, 2, 3.3]]], "can't hold exactly"),
]


@pytest.mark.parametrize("given, message", WRONG)
def test_what_is_no_sequence_of_the_type(given, message):
    with pytest.raises(InputError) as caught:
        model(EDITS).run({"s": given, "at": np.int64(0), "x": A})
    assert message in str(caught.value)


@TARGETS
@pytest.mark.parametrize("given, at", [([A, B], 5), ([], 1), ([A], -2)])
def test_positions_out_of_range(target, given, at):
    with pytest.raises(GraphcError, match=f"position {at} in a sequence of {len(given)}"):
        model(EDITS, target).run({"s": given, "at": np.int64(at), "x": A})


def test_results_are_the_callers_own():
    """Nothing of a result shares memory with an input, a constant or another result."""
    compiled = model("g (seq(float[n]) s) => (seq(float[n]) a, seq(float[n]) b) { a = Identity(s) b = Identity(s) }")
    given = [np.ones(3, np.float32)]
    first, second = compiled(given)
    first[0][:] = 7
    assert given[0].tolist() == second[0].tolist() == [1, 1, 1]
    fixed = model("g () => (seq(float[2]) s) { c = Constant<value_floats = [1.0, 2.0]>() s = SequenceConstruct(c, c) }")
    fixed.run({})["s"][0][:] = 7
    assert [x.tolist() for x in fixed.run({})["s"]] == [[1, 2], [1, 2]]


def test_arrays_are_no_place_for_a_sequence():
    compiled = model("g (seq(float[n]) s) => (seq(float[n]) t) { t = Identity(s) }")
    with pytest.raises(InputError, match=r"output 't' is a sequence\(float32\[n\]\)"):
        compiled.run({"s": []}, out={"t": np.zeros(3, np.float32)})


# --- control flow -------------------------------------------------------------------------------------------------------
LOOP = """g (int64 n, float[3] x, seq(float[m]) first) => (seq(float[m]) out, int64 count) {
  go = Constant<value = bool {1}>()
  out = Loop(n, go, first) <body = b (int64 i, bool go_in, seq(float[m]) s) => (bool go_out, seq(float[m]) t) {
    go_out = Identity(go_in)
    f = CastLike(i, x)
    v = Mul(x, f)
    t = SequenceInsert(s, v)
  }>
  count = SequenceLength(out)
}"""


@TARGETS
@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_loop_that_appends(target, n):
    x, first = np.float32([1, 2, 3]), [np.float32([9])]
    results = model(LOOP, target).run({"n": np.int64(n), "x": x, "first": first})
    same(results["out"], first + [x * np.float32(i) for i in range(n)])
    assert results["count"] == n + 1


@TARGETS
def test_a_loop_from_an_empty_sequence_tells_shapes(target):
    """What EmbeddingBag is exported as: the rank of the result follows from what is appended."""
    compiled = model(
        """g (int64 n, float[3] x) => (float[n, 3] y) {
          go = Constant<value = bool {1}>()
          none = SequenceEmpty()
          s = Loop(n, go, none) <body = b (int64 i, bool a, seq(float) u) => (bool c, seq(float) v) {
            c = Identity(a)
            v = SequenceInsert(u, x)
          }>
          z = ConcatFromSequence<axis = 0, new_axis = 1>(s)
          y = Neg(z)
        }""",
        target,
    )
    assert len(compiled.outputs[0].shape) == 2 and compiled.outputs[0].shape[1] == 3
    x = np.float32([1, 2, 3])
    same(compiled(np.int64(4), x), -np.stack([x] * 4))
    same(compiled(np.int64(0), x), np.zeros((0, 3), np.float32))


GATHERED = """g (int64 n, float[9, 3] w) => (float[n, 3] y, int64 count, float[3] last, float[3] h, float[n, 3] seen, seq(float[3]) all) {
  go = Constant<value = bool {1}>()
  end = Constant<value = int64 {-1}>()
  zeros = Constant<value_floats = [0.0, 0.0, 0.0]>()
  none = SequenceEmpty()
  h, s, seen = Loop(n, go, zeros, none) <
    body = b (int64 i, bool a, float[3] p, seq(float) u) => (bool c, float[3] q, seq(float) v, float[3] t) {
      c = Identity(a)
      row = Gather(w, i)
      q = Add(p, row)
      t = Neg(q)
      v = SequenceInsert(u, q)
    }
  >
  y = ConcatFromSequence<axis = 0, new_axis = 1>(s)
  count = SequenceLength(s)
  last = SequenceAt(s, end)
  all = Identity(s)
}"""


@TARGETS
@pytest.mark.parametrize("n", [1, 5])
def test_a_loop_that_only_appends_collects(target, n):
    """Beside other states and results of its own."""
    compiled, w = model(GATHERED, target), np.random.default_rng(0).random((9, 3), np.float32)
    got, sums = compiled.run({"n": np.int64(n), "w": w}), np.cumsum(w[:n], 0)
    for name, want in (("y", sums), ("last", sums[-1]), ("h", sums[-1]), ("seen", -sums)):
        np.testing.assert_allclose(got[name], want, rtol=1e-6)
    assert got["count"] == n == len(got["all"])
    np.testing.assert_array_equal(np.stack(got["all"]), got["y"])


def test_a_loop_that_collects_is_compiled():
    text = GATHERED.replace(", seq(float[3]) all)", ")").replace("  all = Identity(s)\n", "")
    feeds = {"n": np.int64(3), "w": np.zeros((9, 3), np.float32)}
    compiled = model(text)
    compiled.run(feeds)
    assert not any(step.host for step in compiled.plan(values=feeds).steps)


@pytest.mark.parametrize(
    "change",
    [
        ("SequenceInsert(u, q)", "SequenceInsert(u, q, i)"),  # not at the end: i is, too, but who knows
        ("SequenceInsert(u, q)", "SequenceInsert(u, r)"),  # of another shape each time
        ("t = Neg(q)", "l = SequenceLength(u)  m = CastLike(l, q)  t = Mul(q, m)"),  # it is read inside
        ("none = SequenceEmpty()", "none = SequenceConstruct(zeros)"),
    ],
)
def test_other_loops_with_sequences(change):
    """They are what they were: each against the reference in NumPy of the same text."""
    text = GATHERED.replace(*change)
    if "SequenceInsert(u, r)" in text:
        text = text.replace(
            "t = Neg(q)", "t = Neg(q)  one = Constant<value_ints = [1]>()  k = Reshape(i, one)  k1 = Add(k, one)"
        )
        text = text.replace("v = Seq", "start = Constant<value_ints = [0]>()  r = Slice(q, start, k1)  v = Seq")
        text = text.replace("<axis = 0, new_axis = 1>", "<axis = 0>").replace("float[n, 3] y", "float[j] y")
        text = text.replace("float[3] last", "float[e] last").replace("seq(float[3]) all", "seq(float) all")
    w = np.random.default_rng(0).random((9, 3), np.float32)
    got = model(text).run({"n": np.int64(3), "w": w})
    sums = np.cumsum(w[:3], 0)
    parts = [*sums] if "SequenceInsert(u, r)" not in text else [sums[i, : i + 1] for i in range(3)]
    parts = [np.zeros(3, np.float32), *parts] if "SequenceConstruct" in text else parts
    assert got["count"] == len(parts)
    for a, b in zip(got["all"], parts):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    factor = np.arange(3)[:, None] if "SequenceLength(u)" in text else -1
    np.testing.assert_allclose(got["seen"], sums * factor, rtol=1e-6)


@TARGETS
def test_branches_that_give_sequences(target):
    compiled = model(
        """g (bool c, float[k] x) => (seq(float[n]) y, float[m] z) {
          y = If(c) <
            then_branch = t () => (seq(float[n]) a) { a = SplitToSequence(x) },
            else_branch = e () => (seq(float[n]) b) { b = SequenceConstruct(x, x) }
          >
          z = ConcatFromSequence<axis = 0>(y)
        }""",
        target,
    )
    x = np.float32([4, 5, 6])
    for c, want in ((True, [x[:1], x[1:2], x[2:]]), (False, [x, x])):
        y, z = compiled(np.array(c), x)
        same(y, want)
        same(z, np.concatenate(want))


@TARGETS
def test_a_sequence_that_a_branch_captures(target):
    compiled = model(
        """g (bool c, seq(float[n]) s, float[4] x) => (float[m] y) {
          two = Constant<value = int64 {2}>()
          at = Constant<value = int64 {1}>()
          parts = SplitToSequence(x, two)
          y = If(c) <
            then_branch = t () => (float[m] a) { a = SequenceAt(s, at) },
            else_branch = e () => (float[m] b) { b = SequenceAt(parts, at) }
          >
        }""",
        target,
    )
    x = np.float32([1, 2, 3, 4])
    same(compiled(np.array(True), [x, x[:3]], x), x[:3])
    same(compiled(np.array(False), [x, x[:3]], x), x[2:])


MAP = """g (seq(float[n]) s, float[1] x) => (seq(float[n]) t) {
  t = SequenceMap(s, x) <body = b (float[n] a, float[1] c) => (float[n] d) { d = Mul(a, c) }>
}"""


@TARGETS
def test_sequence_map(target):
    given = [np.float32([1, 2]), np.float32([]), np.float32([3])]
    same(model(MAP, target)(given, np.float32([2])), [2 * g for g in given])
    same(model(MAP, target)([], np.float32([2])), [])


def test_sequence_map_of_a_known_number_is_compiled():
    compiled = model(
        """g (float[4, 3] x, float[3] w) => (float[4, 3] y) {
          s = SplitToSequence(x)
          t = SequenceMap(s) <body = b (float[1, 3] a) => (float[1, 3] d) { d = Mul(a, w) }>
          y = ConcatFromSequence<axis = 0>(t)
        }"""
    )
    assert not any(step.host for step in compiled.plan().steps)
    x, w = np.random.default_rng(0).random((4, 3), np.float32), np.float32([1, 2, 3])
    same(compiled(x, w), x * w)


# --- optionals and maps -------------------------------------------------------------------------------------------------
OPTIONALS = """g (optional(seq(float[n])) o) => (bool has, optional(seq(float[n])) same) {
  has = OptionalHasElement(o)
  same = Identity(o)
}"""


@TARGETS
def test_optional_inputs(target):
    compiled = model(OPTIONALS, target, opset=18)
    given = [np.float32([1, 2])]
    assert compiled.run({"o": given})["has"]
    same(compiled.run({"o": given})["same"], given)
    for feeds in ({"o": None}, {}):  # one that is not given is empty
        assert not compiled.run(feeds)["has"]
        assert compiled.run(feeds)["same"] is None


@TARGETS
def test_an_optional_tensor(target):
    compiled = model(
        """g (optional(float[n]) o, float[n] x) => (float[n] y) {
          has = OptionalHasElement(o)
          y = If(has) <
            then_branch = t () => (float[n] a) { a = OptionalGetElement(o) },
            else_branch = e () => (float[n] b) { b = Neg(x) }
          >
        }""",
        target,
    )
    x = np.float32([1, 2, 3])
    same(compiled.run({"o": 2 * x, "x": x})["y"], 2 * x)
    same(compiled.run({"x": x})["y"], -x)
    with pytest.raises(InputError, match=r"input 'o' is float64, the model wants float32\[n\]"):
        compiled.run({"o": np.zeros(3), "x": x})


def test_maps_go_in_and_out():
    of = mapping(object, TensorType(FLOAT, ()))
    double = Op(
        "test.objects::Double",
        ("m",),
        lambda call: [sequence(call.type(0))],
        lambda m: box([m[()], {k: 2 * v for k, v in m[()].items()}]),
        objects=True,
    )
    b = Builder("maps")
    b.inputs.append(graphc.graph.Value("m", of))
    compiled = graphc.compile(b.build({"y": b.add(double, b.inputs[0])}))
    assert str(compiled.inputs[0]) == "m: map(string, float32[])"
    same(compiled({"a": 1.5, "b": np.float32(2)}), [{"a": 1.5, "b": 2.0}, {"a": 3.0, "b": 4.0}])
    for wrong, message in (({1: 1.0}, "has the key 1"), ([1], "is list"), ({"a": "x"}, "'a'"), ({"a": [1.0]}, "shape")):
        with pytest.raises(InputError, match=message):
            compiled.run({"m": wrong})


# --- types --------------------------------------------------------------------------------------------------------------
T3, T4, TN = (TensorType(FLOAT, s) for s in ((3,), (4,), ("?",)))


@pytest.mark.parametrize(
    "a, b, want",
    [
        (T3, T4, TN),
        (T3, TensorType(FLOAT, ()), Loose(FLOAT)),
        (T3, Loose(FLOAT, nothing=True), T3),
        (T3, Loose(FLOAT), Loose(FLOAT)),
        (T3, Loose(), Loose(FLOAT)),
        (T3, TensorType(np.int64, (3,)), None),
        (sequence(T3), sequence(T4), sequence(TN)),
        (sequence(T3), optional(sequence(T3)), optional(sequence(T3))),
        (sequence(T3), mapping(object, T3), None),
        (mapping(np.int64, T3), mapping(object, T3), None),
        (sequence(T3), T3, None),
    ],
)
def test_the_type_that_two_have_in_common(a, b, want):
    assert common(a, b) == common(b, a) == want


@pytest.mark.parametrize(
    "t", [sequence(TN), optional(sequence(Loose(FLOAT, True))), mapping(np.int64, T3), sequence(Loose())]
)
def test_types_on_disk(t):
    assert from_json(to_json(t)) == t


@pytest.mark.parametrize("value", [[A], None, {"a": A}, A])
def test_boxes(value):
    assert unbox(box(value)) is value


def test_the_signature_comes_from_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    first, second = model(EDITS), model(EDITS)
    assert first.inputs == second.inputs and first.outputs == second.outputs
    same(second.run({"s": [A], "at": np.int64(0), "x": B})["t"], [B, A])
    again = pickle.loads(pickle.dumps(second))
    same(again.run({"s": [A], "at": np.int64(0), "x": B})["t"], [B, A])


def test_tensors_are_wanted():
    b = Builder()
    s = b.add("SequenceConstruct", b.input("x", "float32", (3,)))
    for op in ("Relu", "Shape", "StringConcat"):
        with pytest.raises(GraphcError, match="takes tensors"):
            b.add(op, s, s) if op == "StringConcat" else b.add(op, s)


def test_states_of_sessions_are_tensors():
    text = "g (seq(float[3]) s, float[3] x) => (seq(float[3]) t) { t = SequenceInsert(s, x) }"
    with pytest.raises(InputError, match=r"states are tensors, not sequence\(float32\[3\]\)"):
        model(text, states={"s": "t"})


def test_loops_stack_tensors_only():
    text = """g (int64 n, float[2] x) => (seq(float[2]) y) {
      go = Constant<value = bool {1}>()
      y = Loop(n, go) <body = b (int64 i, bool a) => (bool d, seq(float[2]) e) { d = Identity(a) e = SequenceConstruct(x) }>
    }"""
    with pytest.raises(GraphcError, match=r"can't stack values of type sequence\(float32\[2\]\)"):
        model(text)
