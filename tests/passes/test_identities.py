"""What changes nothing is dropped; what looks like it but does change something stays."""

import numpy as np
import pytest
from passcheck import F32, bound, build, image, ints, left, refused, rewritten, weights

import graphc
from graphc.graph import Builder, Value
from graphc.interpret import interpret
from graphc.passes.identities import _exact, identities
from graphc.passes.log import Log
from graphc.types import Sym, broadcast
from graphc.types import dtype_from_name as dtype_of


def relu_of(b: Builder, x: Value) -> Value:
    return b.add("Relu", x)


# --- one node -----------------------------------------------------------------------------------------------------------
NO_EFFECT = {
    "Identity": lambda b, x: b.add("Identity", x),
    "Dropout": lambda b, x: b.add("Dropout", x, b.constant(0.3, F32)),
    "Dropout, training mode off": lambda b, x: b.add("Dropout", x, None, b.constant(False)),
    "Dropout, mask unread": lambda b, x: b.add("Dropout", x, outputs=2)[0],
    "Cast": lambda b, x: b.add("Cast", x, to="float32"),
    "CastLike": lambda b, x: b.add("CastLike", x, b.constant(1, F32)),
    "Sum": lambda b, x: b.add("Sum", x),
    "Mean": lambda b, x: b.add("Mean", x),
    "Max": lambda b, x: b.add("Max", x),
    "Concat": lambda b, x: b.add("Concat", x, axis=1),
    "Reshape": lambda b, x: b.add("Reshape", x, ints(b, 0, -1, 6, 6)),
    "Squeeze": lambda b, x: b.add("Squeeze", x, ints(b)),
    "Expand": lambda b, x: b.add("Expand", x, ints(b, 4, 1, 1)),
    "Tile": lambda b, x: b.add("Tile", x, ints(b, 1, 1, 1, 1)),
    "Pad": lambda b, x: b.add("Pad", x, ints(b, *[0] * 8)),
    "Split": lambda b, x: b.add("Split", x, ints(b, 4), axis=1),
    "Slice": lambda b, x: b.add("Slice", x, ints(b, 0, 0), ints(b, 99, 4), ints(b, 3, 1), ints(b, 1, 1)),
    "Transpose": lambda b, x: b.add("Transpose", x, perm=[0, 1, 2, 3]),
    "x + -0.0": lambda b, x: b.add("Add", x, b.constant(-0.0, F32)),
    "-0.0 + x": lambda b, x: b.add("Add", b.constant(np.full((4, 1, 1), -0.0), F32), x),
    "x - 0": lambda b, x: b.add("Sub", x, b.constant(0, F32)),
    "1x": lambda b, x: b.add("Mul", b.constant(1, F32), x),
    "x / 1": lambda b, x: b.add("Div", x, b.constant([1], F32)),
    "x ^ 1": lambda b, x: b.add("Pow", x, b.constant(1, np.int64)),
    "Where, true": lambda b, x: b.add("Where", b.constant(True), x, b.constant(0, F32)),
    "Where, false": lambda b, x: b.add("Where", b.constant([False]), b.constant(0, F32), x),
    "Neg twice": lambda b, x: b.add("Neg", b.add("Neg", x)),
    "Cast and back": lambda b, x: b.add("Cast", b.add("Cast", x, to="float64"), to="float32"),
    "Transpose and back": lambda b, x: b.add("Transpose", b.add("Transpose", x, perm=[1, 2, 3, 0]), perm=[3, 0, 1, 2]),
}


@pytest.mark.parametrize("name", NO_EFFECT)
@pytest.mark.parametrize("batch", [2, Sym("batch")], ids=["static", "symbolic"])
def test_dropped(name, batch):
    g = build(lambda b: relu_of(b, NO_EFFECT[name](b, image(b, batch, 4, 6, 6))))
    assert left(identities, g) == ["Relu"]


@pytest.mark.parametrize("name", NO_EFFECT)
def test_dropped_as_the_result(name):
    g = build(lambda b: NO_EFFECT[name](b, relu_of(b, image(b))))
    after = rewritten(identities, g)
    assert [n.op.name for n in after.nodes] == ["Relu"]
    assert after.output_names == g.output_names


EFFECT = {
    "Cast": lambda b, x: b.add("Cast", x, to="float64"),
    "Sum of two": lambda b, x: b.add("Sum", x, x),
    "Reshape": lambda b, x: b.add("Reshape", x, ints(b, 2, 4, 36)),
    "Expand": lambda b, x: b.add("Expand", x, ints(b, 3, 1, 1, 1, 1)),
    "Tile": lambda b, x: b.add("Tile", x, ints(b, 1, 1, 1, 2)),
    "Pad that crops": lambda b, x: b.add("Pad", x, ints(b, 0, 0, 0, -1, 0, 0, 0, 1)),
    "Slice that reverses": lambda b, x: b.add("Slice", x, ints(b, -1), ints(b, -99), ints(b, 1), ints(b, -1)),
    "Transpose of equal dims": lambda b, x: b.add("Transpose", x, perm=[0, 1, 3, 2]),
    "x - 1": lambda b, x: b.add("Sub", x, b.constant(1, F32)),
    "0 - x": lambda b, x: b.add("Sub", b.constant(0, F32), x),
    "1 / x": lambda b, x: b.add("Div", b.constant(1, F32), x),
    "1 ^ x": lambda b, x: b.add("Pow", b.constant(1, F32), x),
    "x + 0 that broadcasts": lambda b, x: b.add("Add", x, b.constant(np.full((3, 1, 1, 1, 1), -0.0), F32)),
    "x + 0.0, which changes -0.0": lambda b, x: b.add("Add", x, b.constant(0.0, F32)),
    "x - -0.0": lambda b, x: b.add("Sub", x, b.constant(-0.0, F32)),
    "x + zeros of either sign": lambda b, x: b.add("Add", x, b.constant([-0.0] * 5 + [0.0], F32)),
    "Abs of a root, which may be -0.0": lambda b, x: b.add("Abs", b.add("Sqrt", x)),
    "almost 1": lambda b, x: b.add("Mul", x, b.constant([1, 1, 1, 1, 1, 1.5], F32)),
    "Where, mixed": lambda b, x: b.add("Where", b.constant([True, False] * 3), x, b.constant(0, F32)),
    "Where, scalar branch": lambda b, x: b.add("Where", b.constant(False), x, b.constant(2, F32)),
    "Cast that rounds": lambda b, x: b.add("Cast", b.add("Cast", x, to="float16"), to="float32"),
    "Cast of bytes that rounds": lambda b, x: b.add(
        "Cast", b.add("Cast", b.add("Cast", x, to="int8"), to="float8_e5m2"), to="float32"
    ),
    "Cast that truncates": lambda b, x: b.add("Cast", b.add("Cast", x, to="int32"), to="float32"),
    "Relu of Neg": lambda b, x: b.add("Relu", b.add("Neg", x)),
}


@pytest.mark.parametrize("name", EFFECT)
def test_kept(name):
    g = build(lambda b: EFFECT[name](b, image(b)))
    log = Log()
    assert identities(g, log) is g
    assert log.applied() == []


@pytest.mark.parametrize("source", ["int8", "uint8", "int16", "uint16", "float16", "float8_e5m2"])
def test_casts_are_left_out_where_every_number_stays(source: str):
    """numpy.can_cast(uint8, float8_e5m2) is true, and 18 becomes 16."""
    start = np.arange(65536).astype(np.uint16).view(np.int16) if source != "uint8" else np.arange(256)
    numbers = start.astype(dtype_of(source)).astype(np.float64)
    for middle in (
        "float16",
        "float32",
        "float64",
        "bfloat16",
        "float8_e5m2",
        "float8_e4m3fn",
        "int16",
        "int32",
        "uint8",
    ):
        with np.errstate(all="ignore"):
            there = numbers.astype(dtype_of(middle)).astype(np.float64)
        if not np.array_equal(numbers, there, equal_nan=True):
            assert not _exact(dtype_of(source), dtype_of(middle)), middle


def test_kept_for_a_reason():
    assert "reverses" in refused(identities, build(lambda b: EFFECT["Slice that reverses"](b, image(b))))
    assert "rounds" in refused(identities, build(lambda b: EFFECT["Cast that rounds"](b, image(b))))
    assert "crops" in refused(identities, build(lambda b: EFFECT["Pad that crops"](b, image(b))))
    assert "broadcasts" in refused(identities, build(lambda b: EFFECT["x + 0 that broadcasts"](b, image(b))))


def test_integers_have_one_zero():
    after = rewritten(
        identities, build(lambda b: b.add("Neg", b.add("Add", b.input("x", "int32", (3,)), b.constant(0, "int32"))))
    )
    assert [n.op.name for n in after.nodes] == ["Neg"]


def test_dropout_whose_mask_is_read_stays():
    assert "mask" in refused(identities, build(lambda b: b.add("Dropout", image(b), outputs=2)))


def test_dropout_whose_training_mode_is_an_input_stays():
    g = build(lambda b: b.add("Dropout", image(b), None, b.input("training", bool, ())))
    log = Log()
    assert identities(g, log) is g
    assert "training mode 'training' is not known to be off" in log.refused()[0].reason


def test_equal_unknown_dims_are_not_known_to_be_equal():
    def make(b):
        x = b.input("x", F32, (Sym("?"), 3))
        return b.add("Expand", x, b.add("Shape", b.input("like", F32, (Sym("?"), 3))))

    g = build(make)
    assert identities(g) is g


def test_long_integers_are_not_exact_in_doubles():
    def make(b):
        return b.add("Cast", b.add("Cast", b.input("x", np.int64, (3,)), to="float64"), to="int64")

    assert "rounds" in refused(identities, build(make))


# --- neighbours -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", ["Relu", "Abs", "Ceil", "Floor", "Round", "Sign"])
def test_idempotent(op):
    assert left(identities, build(lambda b: b.add(op, b.add(op, b.add(op, image(b)))))) == [op]


@pytest.mark.parametrize("op", ["Sigmoid", "Exp", "Abs", "Softmax"])
def test_relu_of_what_is_not_negative(op):
    assert left(identities, build(lambda b: b.add("Relu", b.add(op, image(b))))) == [op]


def test_relu_of_an_integer_abs_stays():
    """The least signed integer is its own Abs."""

    def make(b):
        return b.add("Relu", b.add("Abs", b.input("x", np.int8, (3,))))

    assert left(identities, build(make)) == ["Abs", "Relu"]


def test_casts_through_a_wider_type():
    def make(b):
        x = b.input("x", np.int16, (3,))
        return b.add("Cast", b.add("Cast", x, to="int32"), to="float32")

    assert left(identities, build(make)) == ["Cast"]


def test_transposes_compose():
    def make(b):
        x = image(b, 2, 3, 4, 5)
        return b.add("Transpose", b.add("Transpose", b.add("Transpose", x, perm=[0, 2, 3, 1]), perm=[1, 0, 3, 2]))

    after = rewritten(identities, build(make))
    assert [n.op.name for n in after.nodes] == ["Transpose"]


def test_transposing_only_unit_dims_is_a_reshape():
    after = rewritten(identities, build(lambda b: b.add("Transpose", image(b, 2, 8, 1, 1), perm=[0, 2, 3, 1])))
    assert [n.op.name for n in after.nodes] == ["Reshape"]
    assert left(identities, build(lambda b: b.add("Transpose", image(b, 2, 8, 1, 3), perm=[0, 2, 3, 1]))) == [
        "Transpose"
    ]


def test_a_transpose_whose_first_half_is_read_twice_still_composes():
    def make(b):
        t = b.add("Transpose", image(b), perm=[0, 2, 3, 1])
        return b.add("Transpose", t, perm=[0, 3, 1, 2]), b.add("Relu", t)

    assert left(identities, build(make)) == ["Transpose", "Relu"]


def test_concats_merge():
    def make(b):
        x = image(b)
        return b.add("Concat", b.add("Concat", x, x, axis=1), b.add("Concat", x, x, x, axis=-3), x, axis=1)

    after = rewritten(identities, build(make))
    assert [len(n.inputs) for n in after.nodes] == [6]


def test_concats_of_different_axes_do_not_merge():
    def make(b):
        x = image(b)
        return b.add("Concat", b.add("Concat", x, x, axis=2), b.add("Concat", x, x, axis=2), axis=1)

    assert left(identities, build(make)) == ["Concat", "Concat", "Concat"]


def test_a_concat_that_others_read_does_not_merge():
    """It has to be made anyway: two copies of its operands would be more work."""

    def make(b):
        x = image(b)
        inner = b.add("Concat", x, x, axis=1)
        return b.add("Concat", inner, x, axis=1), b.add("Relu", inner)

    assert "read by others" in refused(identities, build(make))


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_chains_of_constants(op):
    def make(b):
        y = b.add(op, b.add(op, image(b), b.constant(3, F32)), weights(b, 4, 1, 1))
        return b.add(op, y, b.constant(0.5, F32))

    after = rewritten(identities, build(make))
    assert [n.op.name for n in after.nodes] == [op]
    assert after.nodes[0].inputs[1].shape == (4, 1, 1)


def test_chains_of_constants_that_would_grow_stay():
    def make(b):
        return b.add("Mul", b.add("Mul", image(b), weights(b, 4, 1, 1)), weights(b, 6))

    assert "larger" in refused(identities, build(make))


@pytest.mark.parametrize(("factor", "why"), [(1e30, "overflows"), (1e-30, "underflows")])
def test_chains_of_constants_that_leave_the_range_stay(factor, why):
    """x may be so small, or so large, that the two products are in range."""

    def make(b):
        return b.add("Mul", b.add("Mul", image(b), b.constant(factor, F32)), b.constant(factor, F32))

    log = Log()
    g = build(make)
    assert identities(g, log) is g
    assert why in log.refused()[0].reason


def test_integer_chains_wrap_as_the_two_nodes_do():
    def make(b):
        x = b.input("x", np.int8, (3,))
        return b.add("Add", b.add("Add", x, b.constant(100, np.int8)), b.constant(100, np.int8))

    assert left(identities, build(make)) == ["Add"]


def test_what_waits_for_binding_is_dropped_after_it():
    def make(b):
        x = image(b, Sym("batch"), 4, 6, 6)
        return b.add("Relu", b.add("Expand", x, ints(b, 2, 1, 1, 1)))

    g = build(make)
    assert identities(g) is g
    assert left(identities, bound(g)) == ["Relu"]


# --- open dims --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_of_open_dims_may_be_the_one_that_broadcasts(flag: bool):
    """Either of two open dims may be 1: the result has the size of the other."""
    b = Builder("open")
    x, y = b.input("x", F32, ("n", 3)), b.input("y", F32, ("m", 3))
    graph = b.build({"out": b.add("Where", b.constant([flag]), x, y), "sum": b.add("Add", x, y)})
    for n, m in ((1, 4), (4, 1), (4, 4), (1, 0)):
        given = {"x": np.ones((n, 3), F32), "y": np.zeros((m, 3), F32)}
        for target in ("reference", "cpu"):
            got = graphc.compile(graph, target=target).run(given)
            np.testing.assert_array_equal(got["out"], np.where(flag, given["x"], given["y"]))
            np.testing.assert_array_equal(got["sum"], given["x"] + given["y"])


def test_broadcast_of_symbols():
    n, m = Sym("n"), Sym("m")
    assert broadcast((n,), (n,)) == broadcast((n,), (1,)) == broadcast((), (n,)) == (n,)
    assert broadcast((n,), (3,)) == broadcast((3,), (m,), (n,)) == (3,)
    both = broadcast((n, 2), (m, 1))
    assert both[1] == 2 and both[0] not in (n, m, 1)
    with pytest.raises(ValueError, match="do not broadcast at axis -1"):
        broadcast((n, 2), (3,))


@pytest.mark.parametrize("number", [0.0, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Max"])
def test_a_constant_of_higher_rank_where_the_type_is_not_known(op: str, number: float):
    """Types that are both unknown are not equal: the constant broadcasts."""
    b = Builder("open")
    x, shape = b.input("x", F32, (2, 4, 3, 3)), b.input("shape", np.int64, (4,))
    y = b.add("Reshape", x, shape)  # of a type that the value of its operand decides
    y = b.add("Conv", y, weights(b, 4, 4, 1, 1))
    y = b.add(op, y, b.constant(np.full((1, 1, 1, 1, 1), number, F32), F32))
    g = b.build((y,))
    feeds = {"x": np.random.default_rng(0).uniform(0.5, 1, (2, 4, 3, 3)).astype(F32), "shape": np.array([2, 4, 9, 1])}
    for target in ("reference", "cpu"):
        (got,) = graphc.compile(g, target=target).run(feeds).values()
        (want,) = interpret(g, feeds).values()
        assert got.shape == want.shape == (1, 2, 4, 9, 1)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
