"""The machinery of rewrites, and the passes that know no operator: constants, dead code, duplicates, forms, expansions."""

import numpy as np
import pytest
from passcheck import F32, bound, build, image, ints, left, refused, rewritten, same_results, weights

from graphc.bind import bind
from graphc.graph import Builder
from graphc.op import Op, get_op
from graphc.passes import fold_constants as folding
from graphc.passes.canonicalize import canonicalize
from graphc.passes.common_subexpressions import common_subexpressions
from graphc.passes.dead_code import dead_code
from graphc.passes.decompose import Decompose
from graphc.passes.fold_constants import fold_constants
from graphc.passes.log import Log, LogEntry
from graphc.passes.rewrite import Rewrite, Skip, all_equal, same_type
from graphc.types import Sym
from graphc.verify import verify


# --- the machinery ------------------------------------------------------------------------------------------------------
def halving() -> Rewrite:
    """Neg∘Neg -> nothing, and a refusal at every Abs."""
    rewrite = Rewrite("halving")

    @rewrite.on("Neg")
    def twice(node, sweep):
        inner = sweep.producer(node.inputs[0], "Neg")
        return inner.inputs[0] if inner else None

    @rewrite.on("Abs")
    def never(node, sweep):
        return Skip("it never does")

    return rewrite


def test_a_chain_collapses_in_one_sweep():
    def make(b):
        y = image(b)
        for _ in range(5):
            y = b.add("Neg", y)
        return b.add("Abs", y)

    assert left(halving(), build(make)) == ["Neg", "Abs"]


def test_the_log_says_what_applied_and_why_not():
    log = Log()
    halving()(build(lambda b: b.add("Abs", b.add("Neg", b.add("Neg", image(b), name="a"), name="b"), name="c")), log)
    assert log.applied() == [LogEntry("halving", "twice", "Neg", "b")]
    assert log.refused("halving") == [LogEntry("halving", "never", "Abs", "c", "it never does")]
    assert log.applied("other") == []
    assert str(log).splitlines() == ["halving: Neg 'b': twice: applied", "halving: Abs 'c': never: it never does"]


def test_what_is_refused_again_and_again_is_reported_once():
    log, g = Log(), build(lambda b: b.add("Abs", image(b)))
    for _ in range(3):
        halving()(g, log)
    assert len(log.refused()) == 1


def test_a_value_that_is_a_result_keeps_its_producer():
    def make(b):
        inner = b.add("Neg", image(b))
        return b.add("Neg", inner), inner

    after = rewritten(halving(), build(make))
    assert [n.op.name for n in after.nodes] == ["Neg"]
    assert after.outputs[0] is after.inputs[0]


def test_names_stay_unique_when_one_node_grows_in_several_sweeps():
    grow = Rewrite("grow")

    @grow.on("Neg")
    def doubled(node, sweep):
        if sweep.producer(node.inputs[0], "Abs"):
            return None
        return sweep.remake(node, sweep.add("Abs", sweep.add("Relu", node.inputs[0])))

    g = build(lambda b: b.add("Neg", image(b), name="neg"))
    for turn in range(1, 4):
        grown = grow(g)
        verify(grown)
        g = Rewrite("drop", {"Abs": [lambda node, sweep: node.inputs[0]]})(grown)
        assert len(g.nodes) == turn + 1


def test_sole():
    seen = {}
    probe = Rewrite("probe")

    @probe.on("Neg", "Abs")
    def look(node, sweep):
        seen[node.name] = sweep.sole(node.inputs[0])

    def make(b):
        once, twice, result = (b.add("Relu", image(b, name=n)) for n in "abc")
        square = b.add("Mul", twice, twice)
        return (
            b.add("Neg", once, name="once"),
            b.add("Neg", twice, name="twice"),
            square,
            b.add("Abs", result, name="result"),
            result,
        )

    probe(build(make))
    assert seen == {"once": True, "twice": False, "result": False}


def test_questions():
    b = Builder()
    x, y = b.input("x", F32, (Sym("n"), 3)), b.input("y", F32, (Sym("n"), 3))
    unknown = b.input("u", F32, (Sym("?"), 3))
    assert same_type(x, y) and not same_type(unknown, unknown)
    assert all_equal(b.constant([1, 1], F32), 1) and not all_equal(b.constant([1, 2], F32), 1)
    assert not all_equal(x, 1) and not all_equal(None, 1) and not all_equal(b.constant([], F32), 1)


# --- fold_constants -----------------------------------------------------------------------------------------------------
def test_constants_fold_through_several_nodes():
    def make(b):
        c = b.add("Mul", b.add("Sqrt", b.constant(4, F32)), b.constant(np.ones((4, 1, 1)), F32))
        return b.add("Add", image(b), c)

    after = rewritten(fold_constants, build(make))
    assert [n.op.name for n in after.nodes] == ["Add"]
    assert after.nodes[0].inputs[1].data.tolist() == np.full((4, 1, 1), 2.0).tolist()


def test_a_constant_result():
    after = rewritten(
        fold_constants, build(lambda b: [b.add("Relu", b.constant([-1, 2], F32)), b.add("Relu", image(b))])
    )
    assert after.outputs[0].data.tolist() == [0, 2]


def test_all_outputs_of_a_node_fold():
    after = fold_constants(build(lambda b: b.add("Split", b.constant(np.arange(5), F32), ints(b, 2, 3), outputs=2)))
    assert [v.data.tolist() for v in after.outputs] == [[0, 1], [2, 3, 4]]
    assert all(v.data.base is None or v.data.base.nbytes == v.data.nbytes for v in after.outputs), "no view of all 5"


def test_shape_and_size_of_a_known_type():
    def make(b):
        x = image(b)
        n = b.add("Gather", b.add("Shape", x), ints(b, 0), axis=0)
        return (
            b.add("Reshape", x, b.add("Concat", n, ints(b, -1), axis=0)),
            b.add("Size", x),
            b.add("Shape", x, start=1, end=-1),
        )

    after = rewritten(fold_constants, build(make))
    assert [n.op.name for n in after.nodes] == ["Reshape"]
    assert after.outputs[0].shape == (2, 144)
    assert after.outputs[1].data == 288
    assert after.outputs[2].data.tolist() == [4, 6]


def test_shapes_fold_after_binding_and_types_follow():
    def flat(b):
        x = image(b, Sym("batch"), 4, 6, 6)
        shape = b.add("Concat", b.add("Shape", x, end=1), ints(b, -1), axis=0)
        return b.add("Relu", b.add("Reshape", x, shape))

    g = build(flat)
    assert g.outputs[0].type is None
    assert "symbolic" in refused(fold_constants, g)
    after = rewritten(fold_constants, bound(g))
    assert after.outputs[0].shape == (2, 144)


def test_an_input_fixed_by_binding_folds():
    b = Builder()
    x, shape = image(b), b.input("shape", np.int64, (2,))
    g = b.build([b.add("Reshape", x, b.add("Abs", shape))])
    fixed = bind(g, {}, {"shape": np.array([4, 72])})
    after = fold_constants(fixed)
    verify(after, "fold_constants")
    assert after.outputs[0].shape == (4, 72)
    assert [v.name for v in after.inputs] == ["x", "shape"]


def test_large_results_are_not_folded(monkeypatch):
    monkeypatch.setattr(folding, "MAX_BYTES", 1000)
    grown = build(lambda b: [b.add("Expand", b.constant(1, F32), ints(b, 300)), image(b)])
    assert "MiB" in refused(fold_constants, grown)
    same_size = build(lambda b: b.add("Mul", image(b, 300), b.add("Neg", weights(b, 300))))
    assert left(fold_constants, same_size) == ["Mul"]


def test_huge_results_are_refused_before_they_are_computed():
    g, log = build(lambda b: b.add("ConstantOfShape", ints(b, 1 << 20, 1 << 20))), Log()
    assert fold_constants(g, log) is g
    assert log.refused()[0].reason == "its result has 4194304 MiB"


def test_random_numbers_are_not_folded():
    g = build(lambda b: b.add("RandomNormal", shape=[3], seed=1.0))
    assert fold_constants(g) is g


# --- dead_code ----------------------------------------------------------------------------------------------------------
def test_dead_code():
    def make(b):
        x = image(b)
        b.add("Neg", b.add("Exp", x, name="first"), name="second")
        parts = b.add("Split", x, ints(b, 1, 3), axis=1, outputs=2)
        return b.add("Relu", parts[1])

    g, log = build(make), Log()
    after = rewritten(dead_code, g, log)
    assert [n.op.name for n in after.nodes] == ["Split", "Relu"]
    assert {e.node for e in log.applied()} == {"first", "second"}
    assert dead_code(after) is after


def test_unused_inputs_stay():
    g = build(lambda b: [b.add("Relu", image(b)), image(b, name="unused")][:1])
    assert [v.name for v in rewritten(dead_code, g).inputs] == ["x", "unused"]


# --- common_subexpressions ----------------------------------------------------------------------------------------------
def test_duplicates_merge_through_several_nodes():
    def make(b):
        x = image(b)
        a, c = (b.add("Mul", b.add("Tanh", x), b.constant(2, F32)) for _ in range(2))
        return b.add("Add", a, c), c

    g, log = build(make), Log()
    after = rewritten(common_subexpressions, g, log)
    assert [n.op.name for n in after.nodes] == ["Tanh", "Mul", "Add"]
    assert len(log.applied()) == 2


DIFFERENT = {
    "attributes": lambda b, x: (b.add("LeakyRelu", x, alpha=0.1), b.add("LeakyRelu", x, alpha=0.2)),
    "operators": lambda b, x: (b.add("Sin", x), b.add("Cos", x)),
    "order": lambda b, x: (b.add("Sub", x, b.constant(1, F32)), b.add("Sub", b.constant(1, F32), x)),
    "constants": lambda b, x: (b.add("Add", x, b.constant(1, F32)), b.add("Add", x, b.constant(2, F32))),
    "shapes of constants": lambda b, x: (
        b.add("Add", x, b.constant(1, F32)),
        b.add("Add", x, b.constant([[[[[1]]]]], F32)),
    ),
    "numbers of outputs": lambda b, x: (b.add("Dropout", x, outputs=1), b.add("Dropout", x, outputs=2)[1]),
    "dtypes of attributes": lambda b, x: (b.add("Cast", x, to="int8"), b.add("Cast", x, to="uint8")),
    "random": lambda b, x: (b.add("RandomNormalLike", x), b.add("RandomNormalLike", x)),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_nodes_do_not_merge(what):
    g = build(lambda b: DIFFERENT[what](b, image(b)))
    assert common_subexpressions(g) is g


def test_large_constants_merge_by_identity_only():
    def make(b, share):
        x, w = image(b, 2, 40), weights(b, 40, 40)
        return b.add("MatMul", x, w), b.add("MatMul", x, w if share else weights(b, 40, 40))

    assert len(common_subexpressions(build(lambda b: make(b, True))).nodes) == 1
    assert len(common_subexpressions(build(lambda b: make(b, False))).nodes) == 2


def test_what_follows_from_types_is_made_once_for_each_type():
    def make(b):
        x, y, z = (b.input(name, F32, shape) for name, shape in (("x", ("n", 3)), ("y", ("n", 3)), ("z", ("m", 3))))
        values = [x, b.add("Tanh", x), y, z]
        return [b.add(op, v) for op in ("Positions", "EyeLike") for v in values]

    after = rewritten(common_subexpressions, build(make))
    assert [n.name.rstrip("0123456789_") for n in after.nodes] == ["Positions", "Positions", "EyeLike", "EyeLike"]
    assert [v.name for n in after.nodes for v in n.operands] == ["x", "z", "x", "z"]


# --- canonicalize -------------------------------------------------------------------------------------------------------
def test_constants_go_second():
    after = rewritten(
        canonicalize, build(lambda b: b.add("Mul", b.constant(2, F32), b.add("Add", weights(b, 6), image(b))))
    )
    assert [n.inputs[1].is_const for n in after.nodes] == [True, True]


def test_subtracting_a_constant_is_adding():
    assert left(canonicalize, build(lambda b: b.add("Sub", image(b), b.constant(2, F32)))) == ["Add"]
    assert left(canonicalize, build(lambda b: b.add("Sub", b.constant(2, F32), image(b)))) == ["Sub"]
    unsigned = build(lambda b: b.add("Sub", b.input("x", np.uint8, (3,)), b.constant(2, np.uint8)))
    assert canonicalize(unsigned) is unsigned


def test_sum_of_two():
    assert left(canonicalize, build(lambda b: b.add("Sum", image(b), image(b, name="y")))) == ["Add"]
    assert left(canonicalize, build(lambda b: b.add("Sum", *(image(b, name=n) for n in "xyz")))) == ["Sum"]


@pytest.mark.parametrize(
    ("exponent", "dtype", "op"),
    [(2, F32, "Mul"), (2, np.int64, "Mul"), (3, F32, "Pow"), ([2, 2, 2, 2, 2, 2], F32, "Mul")],
)
def test_squares(exponent, dtype, op):
    assert left(canonicalize, build(lambda b: b.add("Pow", image(b), b.constant(exponent, dtype)))) == [op]


def test_a_square_that_broadcasts_stays():
    assert left(canonicalize, build(lambda b: b.add("Pow", image(b, 3), b.constant([[2, 2, 2]], F32)))) == ["Pow"]


def gemm(b, bias=None, **attrs):
    return b.add("Gemm", image(b, 2, 5), weights(b, 5, 3), bias, **attrs)


def test_gemm_factors_go_into_constants():
    after = rewritten(canonicalize, build(lambda b: gemm(b, weights(b, 3), alpha=0.5, beta=2.0)))
    assert (after.nodes[0].attrs["alpha"], after.nodes[0].attrs["beta"]) == (1, 1)
    plain = build(lambda b: gemm(b, weights(b, 3)))
    assert canonicalize(plain) is plain


def test_gemm_bias_times_zero_is_dropped():
    after = rewritten(canonicalize, build(lambda b: gemm(b, image(b, 3, name="c"), beta=0.0)))
    assert after.nodes[0].inputs[2] is None


def test_gemm_splits_off_what_is_no_constant_row():
    g = build(
        lambda b: b.add("Gemm", image(b, 2, 5), image(b, 5, 3, name="w"), image(b, 3, name="c"), alpha=0.5, beta=2.0)
    )
    after = rewritten(canonicalize, g)
    assert [n.op.name for n in after.nodes] == ["Gemm", "Mul", "Add"]
    assert after.nodes[0].attrs["alpha"] == 0.5 and after.nodes[0].inputs[2] is None


def test_gemm_factor_of_an_input_stays():
    g = build(lambda b: b.add("Gemm", image(b, 2, 5), image(b, 5, 3, name="w"), alpha=0.5))
    assert "alpha=0.5: operand is not constant" in refused(canonicalize, g)


# --- decompose ----------------------------------------------------------------------------------------------------------
def composite(name: str, expand, scalar=None) -> Op:
    relu = get_op("Relu")
    return Op(
        name,
        ("x",),
        relu.infer,
        relu.reference,
        expand=expand,
        scalar=scalar,
    )


# both have Relu's reference: relu(relu(x)) = relu(x)
INNER = composite("Inner", lambda b, call: b.add("Relu", b.add("Relu", call.inputs[0])))
OUTER = composite("Outer", lambda b, call: b.add(INNER, b.add("Relu", b.add(INNER, call.inputs[0]))))


def test_expansions_of_expansions():
    g = build(lambda b: b.add("Neg", b.add(OUTER, image(b), name="outer")))
    after = rewritten(Decompose(), g)
    assert [n.op.name for n in after.nodes] == ["Relu"] * 5 + ["Neg"]
    assert after.nodes[4].output.name == "outer", "the result of the expansion keeps the name"


def test_kept_operators():
    g = build(lambda b: b.add(OUTER, image(b)))
    assert left(Decompose(frozenset({"Outer"})), g) == ["Outer"]
    assert left(Decompose(frozenset({"Inner"})), g) == ["Inner", "Relu", "Inner"]


def test_elementwise_bodies_are_kept():
    both = composite("Both", INNER.expand, scalar=lambda x: x)
    g = build(lambda b: b.add(both, image(b)))
    assert Decompose()(g) is g


def test_an_expansion_that_declines():
    declines = composite("Declines", lambda b, call: None)
    assert "does not cover" in refused(Decompose(), build(lambda b: b.add(declines, image(b))))


def test_an_expansion_that_gives_its_operand():
    nothing = composite("Nothing", lambda b, call: call.inputs[0])
    g = build(lambda b: b.add("Neg", b.add(nothing, image(b))))
    after = Decompose()(g)
    verify(after, "decompose")
    assert [n.op.name for n in after.nodes] == ["Neg"]


def test_an_expansion_without_end_is_an_error():
    endless = composite("Endless", lambda b, call: b.add("Relu", b.add(endless, call.inputs[0])))
    with pytest.raises(RecursionError, match="Endless"):
        Decompose()(build(lambda b: b.add(endless, image(b))))


def test_a_real_composite():
    def make(b):
        return b.add("LayerNormalization", image(b), weights(b, 6), weights(b, 6))

    after = rewritten(Decompose(), build(make))
    assert "LayerNormalization" not in [n.op.name for n in after.nodes]
    same_results(build(make), after)


def test_a_kept_operator_without_a_kernel_for_a_use_is_expanded_where_its_parts_have_one():
    g = build(lambda b: b.add(OUTER, image(b)))
    keep = frozenset({"Outer", "Inner"})

    def has(*names: str) -> Decompose:
        return Decompose(keep, compiles=lambda node: node.op.name in names)

    assert left(has("Outer", "Inner", "Relu"), g) == ["Outer"], "it has a kernel"
    assert left(has("Inner", "Relu"), g) == ["Inner", "Relu", "Inner"]
    assert left(has("Relu"), g) == ["Relu"] * 5
    assert left(has(), g) == ["Outer"], "its parts would run on the host as well"
