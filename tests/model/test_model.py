"""The compiled model: ways to call it, what it refuses, and that its results belong to the caller."""

from __future__ import annotations

import copy
import pickle
import re
import threading
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.backends.reference import run as reference
from graphc.bind import bind
from graphc.errors import InputError
from graphc.executable import MAX_PLANS, PLANNING
from graphc.graph import Builder, Graph
from graphc.model import FOR_SESSIONS, Model
from graphc.types import Sym, TensorType

RNG = np.random.default_rng(0)
F32 = np.float32
TARGETS = ("cpu", "reference")


def random(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(F32)


def two_by_two() -> Graph:
    """a [n, 4], b [n, 4] -> total = a + b, product = tanh(a * b)."""
    b = Builder("pair")
    x, y = b.input("a", F32, ("n", 4)), b.input("b", F32, ("n", 4))
    return b.build({"total": b.add("Add", x, y), "product": b.add("Tanh", b.add("Mul", x, y))})


def network() -> Graph:
    """x [batch, 3, 12, 12] -> a convolution, a pool and a dense layer -> y [batch, 10]."""
    b, rng = Builder("network"), np.random.default_rng(1)
    x = b.input("x", F32, ("batch", 3, 12, 12))
    w = b.constant(rng.uniform(-0.3, 0.3, (16, 3, 3, 3)), F32)
    x = b.add("MaxPool", b.add("Relu", b.add("Conv", x, w, pads=[1] * 4)), kernel_shape=[2, 2], strides=[2, 2])
    dense = b.constant(rng.uniform(-0.1, 0.1, (16 * 36, 10)), F32)
    return b.build({"y": b.add("Gemm", b.add("Flatten", x), dense)})


def agree(model: Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's results, after they are found equal to the reference's up to rounding."""
    results = model.run(feeds)
    for name, want in reference(model.source_graph, feeds).items():
        got = results[name]
        assert got.dtype == want.dtype and got.shape == want.shape, name
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(got, want, err_msg=name)
    return results


@pytest.fixture(scope="module")
def pair() -> Model:
    return graphc.compile(two_by_two())


@pytest.fixture(scope="module")
def net() -> Model:
    return graphc.compile(network())


# --- calls -------------------------------------------------------------------------------------
def test_every_form_of_a_call_gives_the_same(pair: Model):
    a, b = random(3, 4), random(3, 4)
    want = agree(pair, {"a": a, "b": b})
    for total, product in (pair(a, b), pair(a, b=b), pair(b=b, a=a), pair.run({"b": b, "a": a}).values()):
        np.testing.assert_array_equal(total, want["total"])
        np.testing.assert_array_equal(product, want["product"])


def test_one_output_is_an_array_and_several_are_a_tuple(pair: Model, net: Model):
    assert isinstance(net(random(1, 3, 12, 12)), np.ndarray)
    assert isinstance(pair(random(1, 4), random(1, 4)), tuple)


def test_specs(pair: Model):
    assert [str(s) for s in pair.inputs] == ["a: float32[n, 4]", "b: float32[n, 4]"]
    assert [(s.name, s.dtype, s.shape) for s in pair.outputs] == [
        ("total", np.dtype(F32), ("n", 4)),
        ("product", np.dtype(F32), ("n", 4)),
    ]


def test_repr_shows_the_signature(pair: Model):
    text = repr(pair)
    assert "'pair' for cpu" in text and "a: float32[n, 4]" in text and "total: float32[n, 4]" in text


def test_what_completion_offers_is_for_users(pair: Model):
    assert dir(graphc) == sorted(graphc.__all__)
    offered, steps = set(dir(pair)), set(FOR_SESSIONS)
    assert {"graph", "inputs", "outputs", "plan", "run", "session", "states"} <= offered
    assert not offered & steps and all(hasattr(pair, name) for name in offered | steps)
    assert not any(name.startswith("_") for name in offered)


def test_lists_and_other_layouts_are_taken():
    b = Builder("ints")
    model = graphc.compile(b.build({"y": b.add("Neg", b.input("x", np.int64, ("n", 2)))}))
    np.testing.assert_array_equal(model([[1, 2], [3, 4]]), [[-1, -2], [-3, -4]])


@pytest.mark.parametrize("name", ["transposed", "strided", "reversed", "misaligned", "foreign byte order", "read-only"])
def test_arrays_of_any_layout_mean_their_elements(pair: Model, name: str):
    plain = random(6, 4)
    shifted = np.empty(plain.nbytes + 1, np.uint8)[1:].view(F32).reshape(plain.shape)
    shifted[...] = plain
    fixed = plain.copy()
    fixed.flags.writeable = False
    wide = np.zeros((6, 8), F32)
    wide[:, ::2] = plain
    given = {
        "transposed": np.asfortranarray(plain),
        "strided": wide[:, ::2],
        "reversed": plain[::-1].copy()[::-1],
        "misaligned": shifted,
        "foreign byte order": plain.astype(plain.dtype.newbyteorder()),
        "read-only": fixed,
    }[name]
    total, product = pair(given, plain)
    np.testing.assert_array_equal(total, plain + plain)
    np.testing.assert_allclose(product, np.tanh(plain * plain), rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("float32", [[1, 2.5], [-3, 0]]), ("float32", [[float("nan"), float("-inf")]]), ("float16", [[0.5, 2]]),
        ("int8", [[127, -128]]), ("int64", [[2.0, 2**53 - 1]]), ("uint64", [[2**64 - 1, 0]]), ("bool", [[True, False]]),
    ],
)  # fmt: skip
def test_numbers_of_a_list_are_taken_where_they_are_exact(dtype: str, given: list):
    b = Builder("list")
    model = graphc.compile(b.build({"y": b.add("Identity", b.input("x", dtype, ("n", 2)))}))
    want = np.array(given, dtype)
    for y in (model(given), model.run({"x": given})["y"]):
        assert y.dtype == want.dtype
        np.testing.assert_array_equal(y, want)


# --- what is refused -----------------------------------------------------------------------------
def refused(message: str, call, *args, **kwargs) -> None:
    """`call` raises InputError whose text holds each of the comma-free parts of `message`, parted by ' … '."""
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    for part in message.split(" … "):
        assert part in str(error.value), str(error.value)


def test_wrong_inputs_name_the_input_what_is_wanted_and_the_remedy(pair: Model):
    a, b = random(2, 4), random(2, 4)
    refused("'b' is float64 … float32[n, 4] … astype('float32')", pair, a, b.astype(np.float64))
    refused("'b' has shape (2, 5) … float32[n, 4]", pair, a, random(2, 5))
    refused("'a' has shape (4,) … float32[n, 4] … 2 dims", pair, a[0], b)
    refused("'b' has shape (3, 4) … 'n' is 2 in input 'a'", pair, a, random(3, 4))
    refused("takes 2 inputs, not 1 … a: float32[n, 4]", pair, a)
    refused("takes 2 inputs, not 3", pair, a, b, b)
    refused("missing: b … unknown: c … inputs: a: float32[n, 4]", pair.run, {"a": a, "c": b})
    refused("missing: b", pair, a=a)
    refused("unknown: c", pair, a, b, c=a)
    refused("'a' is given twice", pair, a, b, a=a)
    refused("takes 2 inputs, not 3", pair, a, b, b, a=a)
    refused("'a' is string", pair, "text", b)
    refused("'a' is NoneType", pair, None, b)
    refused("'a' is an array of objects", pair, np.array([None]), b)


def test_habits_of_other_packages_get_a_remedy(pair: Model):
    a, b = random(2, 4), random(2, 4)
    for outputs in (None, ["total"], ("total", "product")):
        refused("no list of outputs … model.run({'a': …, 'b': …})", pair.run, outputs, {"a": a, "b": b})
    refused("by name, not ndarray … model(…)", pair.run, a)
    refused("by name, not list", pair.run, [a, b])
    refused("'a' is dict … model.run({'a': …, 'b': …})", pair, {"a": a}, b)
    refused("'a' is str", pair, "a.npy", b)
    refused("'b' can't be made an array", pair, a, [[1, 2, 3, 4], [5]])
    refused("'b' holds 0.1, which float32 can't hold exactly … numpy.asarray", pair, a, [[0.1, 1, 2, 3]] * 2)
    refused("'b' is bool", pair, a, [[True] * 4] * 2)
    with pytest.raises(ValueError):
        pair(a)


@pytest.mark.parametrize(
    ("dtype", "given"), [("int8", 128), ("int64", 2.5), ("int64", 2.0**63), ("float16", 1e5), ("uint8", -1)]
)
def test_numbers_that_would_change_are_refused(dtype: str, given: float):
    b = Builder("list")
    model = graphc.compile(b.build({"y": b.add("Identity", b.input("x", dtype, (1,)))}))
    refused(f"'x' holds {given}, which {dtype} can't hold exactly", model, [given])


def test_what_makes_arrays_of_itself_is_taken(pair: Model):
    class Tensor:
        def __init__(self, data: np.ndarray) -> None:
            self.data, self.dtype = data, "float32 of another package"

        def __array__(self, dtype=None, copy=None) -> np.ndarray:
            return self.data

    a = random(2, 4)
    np.testing.assert_array_equal(pair(Tensor(a), a)[0], a + a)


def test_a_refused_call_leaves_the_model_as_it_was(pair: Model):
    plans = len(pair._plans)
    with pytest.raises(InputError):
        pair(random(2, 5), random(2, 5))
    assert len(pair._plans) == plans
    agree(pair, {"a": random(2, 4), "b": random(2, 4)})


def test_shapes_to_plan_for_are_checked():
    graph = two_by_two()
    refused("'nonsense' … inputs: a", graphc.compile, graph, shapes={"nonsense": (2, 4)})
    refused("shape of input 'b' is open … shapes={'b'", graphc.compile, graph, shapes={"a": (2, 4)})
    refused("'a' has shape (2, 5)", graphc.compile, graph, shapes={"a": (2, 5), "b": (2, 4)})
    refused("'a' … (-1, 4)", graphc.compile, graph, shapes={"a": (-1, 4), "b": (2, 4)})


# --- buffers of the caller ------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
def test_results_go_into_given_arrays(target: str):
    model = graphc.compile(two_by_two(), target=target)
    feeds = {"a": random(2, 4), "b": random(2, 4)}
    want = model.run(feeds)
    total, product = np.empty((2, 4), F32), np.empty((2, 4), F32)
    results = model.run(feeds, out={"total": total, "product": product})
    assert results["total"] is total and results["product"] is product
    np.testing.assert_array_equal(total, want["total"])
    np.testing.assert_array_equal(product, want["product"])
    partly = model.run(feeds, out={"product": product})
    assert partly["product"] is product
    np.testing.assert_array_equal(partly["total"], want["total"])


@pytest.mark.parametrize("target", TARGETS)
def test_wrong_buffers_are_refused(target: str):
    model = graphc.compile(two_by_two(), target=target)
    a, b = random(2, 4), random(2, 4)

    def run(**out):
        model.run({"a": a, "b": b}, out=out)

    refused("unknown output 'sum' … outputs: total", run, sum=np.empty((2, 4), F32))
    refused("output 'total' is float64[2, 4] … float32[2, 4]", run, total=np.empty((2, 4)))
    refused("output 'total' is float32[4, 2] … float32[2, 4]", run, total=np.empty((4, 2), F32))
    refused("output 'total' must be a writable, C-contiguous", run, total=np.empty((4, 2), F32).T)
    refused("output 'total' must be", run, total=[[0.0] * 4] * 2)
    fixed = np.empty((2, 4), F32)
    fixed.flags.writeable = False
    refused("output 'total' must be a writable", run, total=fixed)


def test_buffers_that_share_memory_are_refused(pair: Model):
    a, b, both = random(2, 4), random(2, 4), np.empty((3, 4), F32)
    refused("'product' … 'total' … share memory", pair.run, {"a": a, "b": b}, {"total": both[:2], "product": both[1:]})
    refused("'total' … 'a' … share memory", pair.run, {"a": a, "b": b}, {"total": a})


# --- shapes -----------------------------------------------------------------------------------------
def test_each_batch_size_has_a_plan_and_the_references_answer(net: Model):
    for batch in (1, 2, 5, 1):
        agree(net, {"x": random(batch, 3, 12, 12)})
    assert [key[0][0] for key in net._plans] == [1]
    assert len(net._many) == 1, "2 and 5 share one"
    assert "2 plans" in repr(net)


def test_shapes_given_when_compiling_are_planned_at_once():
    model = graphc.compile(network(), shapes={"x": (2, 3, 12, 12)})
    assert list(model._plans) == [((2, 3, 12, 12),)]
    assert model.plan({"x": (2, 3, 12, 12)}).shapes == {"x": (2, 3, 12, 12)}


def test_old_plans_are_forgotten_so_that_many_shapes_do_not_fill_the_memory(pair: Model):
    for n in range(1, MAX_PLANS + 10):
        pair.prepare({"a": (n, 4), "b": (n, 4)})
    assert len(pair._plans) == MAX_PLANS
    agree(pair, {"a": random(1, 4), "b": random(1, 4)})


def test_a_reshape_to_a_shape_given_at_run_time_has_a_plan_for_its_values():
    b = Builder("reshape")
    x, shape = b.input("x", F32, ("n", 6)), b.input("shape", np.int64, (2,))
    model = graphc.compile(b.build({"y": b.add("Relu", b.add("Reshape", x, shape))}))
    x = random(4, 6)
    for value in ((3, 8), (8, -1), (3, 8), (2, 12)):
        agree(model, {"x": x, "shape": np.array(value)})
    assert len(model._plans) == 1 and len(model._many) == 2, "of -1 there is no other one"
    refused("values of 'shape' … run the model", model.plan, {"x": (4, 6)})


def test_a_value_that_decides_a_shape_is_not_kept_by_reference():
    b = Builder("reshape")
    x, shape = b.input("x", F32, (12,)), b.input("shape", np.int64, (2,))
    model = graphc.compile(b.build({"y": b.add("Reshape", x, shape)}))
    x, value = random(12), np.array([3, 4])
    assert model(x, value).shape == (3, 4)
    value[:] = 4, 3
    assert model(x, value).shape == (4, 3)
    assert model(x, np.array([3, 4])).shape == (3, 4)


def test_scalars():
    b = Builder("scalars")
    x, y = b.input("x", F32, ()), b.input("y", np.int64, ())
    outputs = {"sum": b.add("Add", x, b.constant(1.5, F32)), "square": b.add("Mul", y, y), "same": x}
    model = graphc.compile(b.build(outputs))
    results = agree(model, {"x": np.array(2, F32), "y": np.array(7)})
    assert all(isinstance(r, np.ndarray) and r.shape == () for r in results.values())
    assert model(F32(2), np.int64(7))[0] == F32(3.5)


def test_strings():
    b = Builder("strings")
    x, y = b.input("x", object, ("n",)), b.input("y", object, ("n",))
    model = graphc.compile(b.build({"same": x, "equal": b.add("Equal", x, y), "joined": b.add("StringConcat", x, y)}))
    y = np.array(["a", "x"], object)
    for x in (np.array(["a", "bcd"]), np.array(["a", "bcd"], object), ["a", "bcd"]):
        same, equal, joined = model(x, y)
        assert same.tolist() == ["a", "bcd"] and equal.tolist() == [True, False] and joined.tolist() == ["aa", "bcdx"]
        assert same is not x
    refused("'x' is float64 … string[n] … astype('str')", model, np.ones(2), y)


EMPTY = {
    "unary": lambda b, x: b.add("Relu", x),
    "binary": lambda b, x: b.add("Add", x, b.constant(np.ones((1, 8)), F32)),
    "sum of nothing": lambda b, x: b.add("ReduceSum", x, b.constant([0], np.int64)),
    "sum of rows": lambda b, x: b.add("ReduceSum", x, b.constant([1], np.int64)),
    "mean of rows": lambda b, x: b.add("ReduceMean", x, b.constant([1], np.int64)),
    "softmax": lambda b, x: b.add("Softmax", x),
    "gemm": lambda b, x: b.add("Gemm", x, b.constant(np.ones((8, 3)), F32), b.constant(np.ones(3), F32)),
    "matmul": lambda b, x: b.add("MatMul", x, b.constant(np.ones((8, 3)), F32)),
    "matmul over nothing": lambda b, x: b.add("MatMul", b.add("Transpose", x), x),
    "transpose": lambda b, x: b.add("Transpose", x),
    "concat": lambda b, x: b.add("Concat", x, b.constant(np.ones((2, 8)), F32), x, axis=0),
    "gather": lambda b, x: b.add("Gather", x, b.constant([1, 0], np.int64), axis=1),
    "cast": lambda b, x: b.add("Cast", x, to="int32"),
    "layer norm": lambda b, x: b.add("LayerNormalization", x, b.constant(np.ones(8), F32)),
    "slice": lambda b, x: b.add("Slice", x, *(b.constant([k], np.int64) for k in (1, 5, 1))),
    "nothing of something": lambda b, x: b.add(
        "Slice", b.constant(np.ones((3, 4)), F32), *(b.constant([k], np.int64) for k in (2, 2, 0))
    ),
    "where": lambda b, x: b.add("Where", b.add("Greater", x, b.constant(0, F32)), x, b.add("Neg", x)),
    "argmax": lambda b, x: b.add("ArgMax", x, axis=1),
    "cumsum": lambda b, x: b.add("CumSum", x, b.constant(0, np.int64)),
    "expand": lambda b, x: b.add("Expand", b.constant(np.ones((1, 8)), F32), b.constant([0, 8], np.int64)),
    "pad": lambda b, x: b.add("Pad", x, b.constant([1, 0, 1, 0], np.int64)),
    "tile": lambda b, x: b.add("Tile", x, b.constant([2, 2], np.int64)),
    "batch norm": lambda b, x: b.add("BatchNormalization", x, *(b.constant(np.ones(8), F32) for _ in range(4))),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_empty_tensors(name: str):
    b = Builder("empty")
    model = graphc.compile(b.build({"y": EMPTY[name](b, b.input("x", F32, ("n", 8)))}))
    for n in (0, 2, 0):
        agree(model, {"x": random(n, 8)})


IMAGES = {
    "conv": lambda b, x: b.add("Conv", x, b.constant(np.ones((16, 4, 3, 3)), F32)),
    "depthwise": lambda b, x: b.add("Conv", x, b.constant(np.ones((4, 1, 3, 3)), F32), group=4),
    "max pool": lambda b, x: b.add("MaxPool", x, kernel_shape=[2, 2]),
    "average pool": lambda b, x: b.add("GlobalAveragePool", x),
    "resize": lambda b, x: b.add("Resize", x, None, b.constant([1, 1, 2, 2], F32)),
    "transposed conv": lambda b, x: b.add("ConvTranspose", x, b.constant(np.ones((4, 2, 2, 2)), F32)),
    "depth to space": lambda b, x: b.add("DepthToSpace", x, blocksize=2),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_batch_of_no_images(name: str):
    b = Builder("empty")
    model = graphc.compile(b.build({"y": IMAGES[name](b, b.input("x", F32, ("n", 4, 6, 6)))}))
    for n in (0, 1):
        agree(model, {"x": random(n, 4, 6, 6)})


def test_a_sequence_of_no_steps_in_no_batch():
    b, rng = Builder("empty"), np.random.default_rng(0)
    x = b.input("x", F32, ("steps", "n", 4))
    w, r = (b.constant(rng.uniform(-1, 1, (1, 12, 4)), F32) for _ in range(2))
    y, last = b.add("GRU", x, w, r, hidden_size=4, outputs=["y", "last"])
    b = b.build({"y": y, "last": last})
    model = graphc.compile(b)
    for steps, n in ((3, 0), (3, 2), (0, 2)):
        agree(model, {"x": random(steps, n, 4)})


# --- results belong to the caller ---------------------------------------------------------------------
def aliases() -> Graph:
    """Results that are an input, one value twice, a view of an input, and constants."""
    b = Builder("aliases")
    x = b.input("x", F32, (2, 6))
    y, c = b.add("Relu", x), b.constant(np.arange(3), F32)
    view = b.add("Reshape", x, b.constant([3, 4], np.int64))
    outputs = {"input": x, "again": x, "y": y, "y2": y, "view": view, "c": c, "c2": c}
    outputs["folded"] = b.add("Add", c, c)
    return b.build(outputs)


@pytest.mark.parametrize("target", TARGETS)
def test_results_share_memory_with_nothing(target: str):
    model = graphc.compile(aliases(), target=target)
    x = random(2, 6)
    first = agree(model, {"x": x})
    arrays = [x, *first.values()]
    for i, a in enumerate(arrays):
        assert a.flags.writeable and a.flags.c_contiguous
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
    kept = {n: a.copy() for n, a in first.items()}
    second = agree(model, {"x": -x})
    for name, a in first.items():
        np.testing.assert_array_equal(a, kept[name], err_msg="changed by the second run")
        assert not any(np.shares_memory(a, b) for b in second.values())
    for a in (*first.values(), *second.values()):
        a[...] = 99
    agree(model, {"x": x})


@pytest.mark.parametrize("target", TARGETS)
def test_such_results_go_into_given_arrays_too(target: str):
    model = graphc.compile(aliases(), target=target)
    x = random(2, 6)
    want = model.run({"x": x})
    out = {n: np.full_like(a, 99) for n, a in want.items()}
    for name, a in model.run({"x": x}, out=out).items():
        assert a is out[name]
        np.testing.assert_array_equal(a, want[name])


def test_a_graph_without_nodes():
    b = Builder("nothing")
    x = b.input("x", F32, ("n",))
    agree(graphc.compile(b.build({"y": x, "c": b.constant([1, 2], F32)})), {"x": random(3)})


def test_a_graph_without_inputs():
    b = Builder("source")
    model = graphc.compile(b.build({"y": b.add("Exp", b.constant([0.0, 1.0], F32))}))
    np.testing.assert_allclose(model(), np.exp([0, 1]), rtol=1e-6)
    assert model.run({})["y"].shape == (2,)


def test_an_input_that_nothing_reads_is_still_checked():
    b = Builder("unread")
    b.input("unread", F32, (2,))
    model = graphc.compile(b.build({"y": b.add("Neg", b.input("x", F32, (2,)))}))
    np.testing.assert_array_equal(model(np.ones(2, F32), np.ones(2, F32)), [-1, -1])
    refused("'unread' has shape (3,)", model, np.ones(3, F32), np.ones(2, F32))


# --- copies of the model ------------------------------------------------------------------------------
@pytest.mark.parametrize("duplicate", [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy])
def test_pickled_and_copied_models_give_the_same(net: Model, duplicate):
    x = random(2, 3, 12, 12)
    other = duplicate(net)
    assert other.inputs == net.inputs and other.outputs == net.outputs
    np.testing.assert_array_equal(other(x), net(x))


def test_a_model_read_from_yaml_pickles():
    from pathlib import Path

    model = graphc.compile(Path(__file__).resolve().parents[2] / "examples" / "zoo" / "lenet5.yaml", threads=1)
    x = random(1, *(d for d in model.inputs[0].shape[1:]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_input_errors_pickle(pair: Model):
    with pytest.raises(InputError) as error:
        pair(random(2, 5), random(2, 5))
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_the_profile_checks_its_feeds(pair: Model):
    plan = pair.plan({"a": (2, 4), "b": (2, 4)})
    feeds = {"a": random(2, 4), "b": random(2, 4)}
    assert len(plan.profile(feeds, 2)) == len(plan.steps)
    refused("'b' … float32[3, 4]", plan.profile, feeds | {"b": random(3, 4)}, 2)
    refused("'b' … float64", plan.profile, feeds | {"b": random(2, 4).astype(float)}, 2)
    refused("missing: b", plan.profile, {"a": random(2, 4)}, 2)


def test_a_profile_around_steps_on_the_host(pair: Model):
    """Steps of both kinds are timed, and the model goes on as before."""
    b = Builder("hosted")
    x = b.input("x", F32, (64, 64))
    image = b.add("Reshape", b.add("Cast", b.add("Exp", x), to=np.float64), b.constant([1, 1, 64, 64], np.int64))
    largest = b.add("MaxRoiPool", image, b.constant([[0, 0, 0, 63, 63]], np.float64), pooled_shape=(1, 1))
    h = b.add("Cast", b.add("Reshape", largest, b.constant([], np.int64)), to=F32)
    graph = b.build({"y": b.add("Add", b.add("Tanh", x), h), "h": h})
    model, feeds = graphc.compile(graph), {"x": random(64, 64) * F32(0.1)}
    want = model.run(feeds)
    for _ in range(3):
        spent = model.plan().profile(feeds, 3)
        assert len(spent) == len(model.plan().steps)
        for name, a in model.run(feeds).items():
            np.testing.assert_array_equal(a, want[name])
    hosted = [s.host for s in model.plan().steps]
    assert any(hosted) and not all(hosted)
    assert all((t == 0) == host for t, host in zip(spent, hosted))


def test_the_signature_of_a_wrong_call_is_one_line(pair: Model):
    with pytest.raises(InputError) as error:
        pair()
    assert re.fullmatch(r"inputs: a: .*; b: .* -> outputs: total: .*; product: .*", error.value.hint)


# --- results that have the bytes of other values ----------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["native", "text", "from the host", "read on the host too"])
def test_results_that_are_reshapes(kind: str):
    """Kernels write such a result in its place; a step on the host must not meet an array of another shape there."""
    b = Builder("reshapes")
    x = b.input("x", F32, (2, 3))
    shape = b.constant([3, 2], np.int64)
    y = b.add("Relu", x)
    results = {}
    if kind == "text":
        y = b.add("Cast", x, to=np.dtype(object))
    elif kind == "from the host":
        y, shape = b.add("NonZero", x), b.constant([-1], np.int64)
    elif kind == "read on the host too":
        results["where"] = b.add("NonZero", y)
    first = b.add("Reshape", y, shape)
    results |= {"first": first, "again": b.add("Identity", b.add("Reshape", first, b.constant([-1], np.int64)))}
    agree(graphc.compile(b.build(results)), {"x": random(2, 3)})


# --- values that change while a plan is made ----------------------------------------------------------------------------
VALUED = {
    "Reshape": (np.array([3, 4]), np.array([6, 2]), lambda b, x, s: b.add("Reshape", x, s)),
    "Expand": (np.array([2, 12]), np.array([5, 1]), lambda b, x, s: b.add("Expand", x, s)),
    "Tile": (np.array([2]), np.array([3]), lambda b, x, s: b.add("Tile", x, s)),
    "ConstantOfShape": (
        np.array([3, 4]),
        np.array([0, 9]),
        lambda b, x, s: b.add("Add", b.add("ConstantOfShape", s), b.add("ReduceSum", x, keepdims=False)),
    ),
    "Slice": (np.array([5]), np.array([9]), lambda b, x, s: b.add("Slice", x, b.constant([0], np.int64), s)),
    "TopK": (np.array([5]), np.array([2]), lambda b, x, s: b.add("TopK", x, s, outputs=["y", "at"])[0]),
    "Range": (np.array(5), np.array(7), lambda b, x, s: b.add("Range", *b_range(b, s))),
    "behind a look at the data": (
        np.array([1, -1]),
        np.array([-1, 1]),
        lambda b, x, s: b.add("Reshape", b.add("NonZero", x), s),
    ),
}


def b_range(b: Builder, end) -> tuple:
    return b.constant(0, np.int64), end, b.constant(1, np.int64)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", VALUED)
def test_a_value_that_another_thread_changes_while_the_plan_waits(name: str, target: str):
    first, later, make = VALUED[name]
    b = Builder("valued")
    x, s = b.input("x", F32, (12,)), b.input("s", np.int64, first.shape)
    graph = b.build({"y": make(b, x, s), "kept": b.add("Neg", x)})
    model, value, x = graphc.compile(graph, target=target, threads=1), first.copy(), random(12)
    want = {tuple(v.reshape(-1)): reference(graph, {"x": x, "s": v})["y"] for v in (first, later)}
    results = []
    with PLANNING:  # as another thread holds it that compiles
        run = threading.Thread(target=lambda: results.append(model.run({"x": x, "s": value})["y"]))
        run.start()
        run.join(0.05)
        value[...] = later
    run.join()
    (got,) = results
    assert any(got.shape == w.shape and np.allclose(got, w, atol=1e-6) for w in want.values())
    for v in (first, later, first):
        np.testing.assert_allclose(model.run({"x": x, "s": v})["y"], want[tuple(v.reshape(-1))], rtol=1e-5, atol=1e-6)


# --- types of results without a plan ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["unet", "yolo_v3_tiny", "char_rnn", "transformer_encoder", "dcgan_generator"])
def test_result_types_are_those_of_binding(name: str):
    path = Path(__file__).resolve().parents[2] / "examples" / "zoo" / f"{name}.yaml"
    model = graphc.compile(path, target="reference", cache=False)
    sizes = {
        d: 3 + i for i, d in enumerate(dict.fromkeys(d for s in model.inputs for d in s.shape if isinstance(d, str)))
    }
    shapes = {s.name: [sizes.get(d, d) for d in s.shape] for s in model.inputs}
    bound = bind(model.graph, {s.name: TensorType(s.dtype, shapes[s.name]) for s in model.inputs})
    assert sizes and model.result_types(shapes) == {n: v.type for n, v in zip(bound.output_names, bound.outputs)}


def test_result_types_that_are_expressions():
    b = Builder("shapes")
    x, y = b.input("x", F32, ("n", 1, "h")), b.input("y", F32, ("m", 1, "h"))
    joined = b.add("Concat", x, y, axis=0)
    pooled = b.add("MaxPool", joined, kernel_shape=[3], strides=[2], pads=[1, 1])
    rest = b.add("Slice", x, b.constant([2]), b.constant([2**40]), b.constant([2]))
    found = b.add("NonZero", x)
    graph = b.build({"pooled": pooled, "sum": b.add("Add", x, y), "rest": rest, "found": found})
    assert [str(v.type) for v in graph.outputs[:2]] == [
        "float32[m + n, 1, (h + 1)//2]",
        "float32[broadcast(m, n), 1, h]",
    ]
    for target in TARGETS:
        model = graphc.compile(graph, target=target, threads=1)
        for n, m, h in ((2, 1, 7), (1, 5, 2), (3, 3, 1)):
            arrays = {"x": random(n, 1, h), "y": random(m, 1, h)}
            types = model.result_types({name: a.shape for name, a in arrays.items()})
            results = model.run(arrays)
            assert all(types[name].shape == results[name].shape for name in ("pooled", "sum", "rest"))
            assert types["found"].shape == (3, Sym("NonZero(x)"))
    with pytest.raises(InputError, match="output 'sum'.*2 and 3 do not broadcast"):
        model.result_types({"x": (2, 1, 4), "y": (3, 1, 4)})
    with pytest.raises(InputError, match="is open"):
        model.result_types({"x": (2, 1, 4)})


def test_result_types_where_dims_contradict():
    b, h = Builder("halves"), Sym("h")
    x, y = b.input("x", F32, (1, 1, h)), b.input("y", F32, (2 * h,))
    w = b.constant(np.ones((1, 1, 3)), F32)
    model = graphc.compile(b.build({"conv": b.add("Conv", x, w), "y": b.add("Relu", y)}), target="reference")
    assert model.result_types({"x": (1, 1, 4), "y": (8,)})["conv"].shape == (1, 1, 2)
    with pytest.raises(InputError, match=r"input 'y' has shape \(9,\), the model wants float32\[2\*h\]"):
        model.result_types({"x": (1, 1, 4), "y": (9,)})
    with pytest.raises(InputError, match=r"output 'conv' of type float32\[1, 1, h - 2\] would have the shape"):
        model.result_types({"x": (1, 1, 1), "y": (2,)})
