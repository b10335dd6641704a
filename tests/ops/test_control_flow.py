"""If, Loop and Scan whose graphs do not fit, are never run, or have dims without names, beside ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc.bind import bind
from graphc.cli import main
from graphc.errors import GraphcError, TypeRuleError

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node, info = helper.make_node, helper.make_tensor_value_info


def model(nodes, inputs, outputs, **initializers) -> bytes:
    consts = [numpy_helper.from_array(np.asarray(v), k) for k, v in initializers.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, consts)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def same(data: bytes, feeds: dict[str, np.ndarray]) -> None:
    """graphc on both targets gives what ONNX Runtime gives."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(data, options)
    want = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))
    for target in ("cpu", "reference"):
        got = graphc.compile(data, target=target).run(feeds)
        for name, w in want.items():
            assert got[name].shape == w.shape, (target, name)
            np.testing.assert_allclose(got[name], w, rtol=1e-6)


def if_model(then: list, *consts, otherwise=None) -> bytes:
    """If(flag, then, otherwise): both read x [a, b], and give r."""
    otherwise = otherwise or [node("Identity", ["x"], ["e"])]
    graphs = {
        key: helper.make_graph(nodes, key, [], [info(nodes[-1].output[0], F, None)])
        for key, nodes in (("then_branch", then), ("else_branch", otherwise))
    }
    inputs = [info("x", F, ["a", "b"]), info("flag", B, [])]
    return model([node("If", ["flag"], ["y"], **graphs)], inputs, [info("y", F, None)], **dict(consts))


MISFITS = {
    "Squeeze": if_model([node("Squeeze", ["x", "k"], ["r"])], ("k", np.int64([1]))),
    "Reshape": if_model([node("Reshape", ["x", "k"], ["r"])], ("k", np.int64([-1, 4]))),
    "MatMul": if_model([node("MatMul", ["x", "k"], ["r"])], ("k", np.ones((4, 2), np.float32))),
    "Conv": if_model([node("Unsqueeze", ["x", "o"], ["i"]), node("Conv", ["i", "k"], ["r"])],
                     ("o", np.int64([0])), ("k", np.ones((1, 4, 3), np.float32))),
    "nested": if_model([node("Relu", ["x"], ["i"]), node("Add", ["i", "k"], ["r"])], ("k", np.ones(4, np.float32))),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_a_branch_that_is_not_taken_need_not_fit(name: str):
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    same(MISFITS[name], {"x": x, "flag": np.array(False)})


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_a_branch_that_is_taken_must_fit(name: str, target: str):
    """The error is that of the operator's type rule, not of the reference that stumbles over it."""
    run = graphc.compile(MISFITS[name], target=target)
    with pytest.raises(TypeRuleError, match="then_branch"):
        run.run({"x": np.zeros((3, 5), np.float32), "flag": np.array(True)})


def test_one_of_two_branches_must_fit():
    add = [[node("Add", ["x", k], [f"r{k}"])] for k in "pq"]
    data = if_model(add[0], ("p", np.ones(4, np.float32)), ("q", np.ones(6, np.float32)), otherwise=add[1])
    with pytest.raises(TypeRuleError, match="do not broadcast"):
        graphc.compile(data).run({"x": np.zeros((3, 5), np.float32), "flag": np.array(True)})


@pytest.mark.parametrize("shape", [(3, 1), (3, 4), (3, 5)])
def test_a_branch_within_a_branch(shape: tuple):
    """A squeeze where the size is 1, else a product where it is 4, else nothing: the conditions follow from the shape."""
    size = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "one"], ["d"])]
    checks = [node("Equal", ["d", k], [f"is_{k}"]) for k in ("one", "four")]
    graphs = [
        helper.make_graph([n], n.output[0], [], [info(n.output[0], F, None)])
        for n in (
            node("Squeeze", ["x", "axis"], ["p"]), node("MatMul", ["x", "w"], ["q"]), node("Identity", ["x"], ["r"])
        )
    ]  # fmt: skip
    inner = node("If", ["is_four"], ["t"], then_branch=graphs[1], else_branch=graphs[2])
    held = helper.make_graph([inner], "held", [], [info("t", F, None)])
    outer = node("If", ["is_one"], ["y"], then_branch=graphs[0], else_branch=held)
    w = np.arange(16, dtype=np.float32).reshape(4, 4)
    data = model(
        [*size, *checks, outer], [info("x", F, ["a", "b"])], [info("y", F, None)], one=np.int64(1), four=np.int64(4),
        axis=np.int64([1]), w=w,
    )  # fmt: skip
    same(data, {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)})


def lengths_model() -> bytes:
    """If(flag, x, an If on the length of x): the inner one adds p [4] where that is 5, else q [5]. So of no use is the else branch for
    lengths other than 1, which only the value of the inner condition tells."""
    adds = [helper.make_graph([node("Add", ["x", k], [f"r{k}"])], k, [], [info(f"r{k}", F, None)]) for k in "pq"]
    size = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "one"], ["d"]), node("Equal", ["d", "five"], ["is_five"])]
    inner = node("If", ["is_five"], ["t"], then_branch=adds[0], else_branch=adds[1])
    held = helper.make_graph([*size, inner], "held", [], [info("t", F, None)])
    same = helper.make_graph([node("Neg", ["x"], ["n"])], "same", [], [info("n", F, None)])
    outer = node("If", ["flag"], ["y"], then_branch=same, else_branch=held)
    ones = {"one": np.int64(1), "five": np.int64(5), "p": np.ones(4, np.float32), "q": np.ones(5, np.float32)}
    return model([outer], [info("x", F, ["a", "b"]), info("flag", B, [])], [info("y", F, None)], **ones)


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_a_branch_whose_inner_branch_does_not_fit_is_an_error_where_it_is_taken(target: str):
    """Its types are valid as long as the inner condition is not known; one program holds both branches."""
    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    compiled = graphc.compile(lengths_model(), target=target)
    np.testing.assert_array_equal(compiled.run({"x": x, "flag": np.array(True)})["y"], -x)
    for _ in range(2):
        with pytest.raises(TypeRuleError, match="else_branch(.|\n)*then_branch(.|\n)*do not broadcast"):
            compiled.run({"x": x, "flag": np.array(False)})
    np.testing.assert_array_equal(compiled.run({"x": x, "flag": np.array(True)})["y"], -x)
    if target != "reference":
        assert not any(step.host for step in compiled.plan({"x": (3, 5)}).steps)
    np.testing.assert_array_equal(compiled.run({"x": x[:, :1], "flag": np.array(False)})["y"], x[:, :1] + np.ones(5))


def test_check_warns_of_a_branch_that_is_an_error_to_take(tmp_path: Path):
    path = tmp_path / "lengths.onnx"
    path.write_bytes(lengths_model())
    for shape, warned in (("x=3,5", True), ("x=3,1", False)):
        for _ in range(2):  # planned, then from disk
            result = CliRunner().invoke(main, ["check", str(path), "--shape", shape])
            said = [line for line in result.output.splitlines() if line.startswith("warning: If 'y': else_branch: ")]
            assert result.exit_code == 0 and "no problems" in result.output and len(said) == warned
            assert all("do not broadcast" in line for line in said)


def loop_model(body_nodes, state, results, extra=(), **initializers) -> bytes:
    """Loop over n trips with the state v; body results: v2, then `results`."""
    keep = node("Identity", ["c"], ["c2"])
    outputs = [info("c2", B, []), info("v2", F, state), *(info(r, F, None) for r in results)]
    body = helper.make_graph(
        [keep, *body_nodes], "b", [info("i", I, []), info("c", B, []), info("v", F, state)], outputs
    )
    names = ["last", *(f"all_{r}" for r in results)]
    loop = node("Loop", ["n", "", "x"], names, body=body)
    inputs = [info("n", I, []), info("x", F, state), *extra]
    return model([loop], inputs, [info(n, F, None) for n in names], **initializers)


@pytest.mark.parametrize("trips", [1, 3])
@pytest.mark.parametrize("state", [[2, 3], [None, 3], ["a", "b"]])
def test_what_loops_collect(state: list, trips: int):
    body = [node("Add", ["v", "k"], ["v2"]), node("Transpose", ["v2"], ["row"], perm=[1, 0])]
    data = loop_model(body, state, ["row"], k=np.float32(1))
    same(data, {"n": np.array(trips), "x": np.ones((2, 3), np.float32)})


@pytest.mark.parametrize("target", ["cpu", "reference"])
@pytest.mark.parametrize("state", [[2, 3], [None, 3], ["a", "b"]])
def test_what_loops_of_no_trips_collect(state: list, target: str):
    """No rows, of the size that they would have had. ONNX Runtime makes dims without a number 0."""
    body = [node("Add", ["v", "k"], ["v2"]), node("Transpose", ["v2"], ["row"], perm=[1, 0])]
    x = np.ones((2, 3), np.float32)
    run = graphc.compile(loop_model(body, state, ["row"], k=np.float32(1)), target=target)
    results = run.run({"n": np.array(0), "x": x})
    np.testing.assert_array_equal(results["last"], x)
    assert results["all_row"].shape == (0, 3, 2)


def test_the_body_of_a_loop_of_no_trips_need_not_fit():
    body = [node("Squeeze", ["z", "k"], ["q"]), node("Add", ["v", "q"], ["v2"])]
    data = loop_model(body, ["u"], [], [info("z", F, ["a", "b"])], k=np.int64([1]))
    feeds = {"x": np.arange(3, dtype=np.float32), "z": np.ones((3, 2), np.float32)}
    same(data, feeds | {"n": np.array(0)})
    same(data, feeds | {"n": np.array(2), "z": np.ones((3, 1), np.float32)})
    with pytest.raises(graphc.GraphcError, match="Squeeze"):
        graphc.compile(data).run(feeds | {"n": np.array(2)})


def test_a_loop_without_an_end_is_refused():
    keep = [node("Identity", ["c"], ["c2"]), node("Add", ["v", "v"], ["v2"])]
    body = helper.make_graph(
        keep, "b", [info("i", I, []), info("c", B, []), info("v", F, [2])], [info("c2", B, []), info("v2", F, [2])]
    )
    for inputs in (["", "", "x"], ["", "t", "x"]):
        loop = node("Loop", inputs, ["y"], body=body)
        data = model([loop], [info("x", F, [2])], [info("y", F, None)], t=np.array(True))
        with pytest.raises(graphc.GraphcError, match="Loop 'y': it never ends"):
            graphc.compile(data)


def test_a_state_whose_dtype_changes_is_refused_though_the_loop_may_never_run():
    body = [node("Cast", ["v"], ["v2"], to=I)]
    with pytest.raises(graphc.GraphcError, match="insert a Cast"):
        graphc.compile(loop_model(body, ["n"], []))


def test_sizes_that_no_trip_decides():
    """What a body reshapes by a value that it computes is as the file declares it, as in ONNX Runtime."""
    nodes = [node("Identity", ["c"], ["c2"]), node("Identity", ["v"], ["v2"]), node("Add", ["i", "one"], ["j"]),
             node("Reshape", ["j", "m"], ["k"]), node("Concat", ["k", "four"], ["z"], axis=0),
             node("ConstantOfShape", ["z"], ["row"])]  # fmt: skip
    body = helper.make_graph(
        nodes, "b", [info("i", I, []), info("c", B, []), info("v", F, [2])],
        [info("c2", B, []), info("v2", F, [2]), info("row", F, ["a", 4])],
    )  # fmt: skip
    loop = node("Loop", ["n", "", "x"], ["last", "rows"], body=body)
    consts = {"one": np.int64(1), "m": np.int64([1]), "four": np.int64([4])}
    data = model([loop], [info("n", I, []), info("x", F, [2])], [info(n, F, None) for n in ("last", "rows")], **consts)
    x = np.float32([1, 2])
    same(data, {"n": np.array(0), "x": x})
    same(data, {"n": np.array(1), "x": x})


def test_a_scan_whose_body_does_not_fit_may_have_no_elements():
    nodes = [node("Add", ["s", "e"], ["s2"]), node("MatMul", ["e", "w"], ["row"])]
    states, elements = [info("s", F, ["k"]), info("e", F, ["k"])], [info("s2", F, ["k"]), info("row", F, [2])]
    body = helper.make_graph(nodes, "b", states, elements)
    scan = node("Scan", ["x", "z"], ["last", "rows"], body=body, num_scan_inputs=1)
    outputs = [info(n, F, None) for n in ("last", "rows")]
    data = model([scan], [info("x", F, ["k"]), info("z", F, ["t", "k"])], outputs, w=np.ones((4, 2), np.float32))
    x = np.float32([1, 2, 3])
    run = graphc.compile(data)
    results = run.run({"x": x, "z": np.zeros((0, 3), np.float32)})
    np.testing.assert_array_equal(results["last"], x)
    assert results["rows"].shape == (0, 2)
    with pytest.raises(TypeRuleError, match="MatMul 'row'"):
        run.run({"x": x, "z": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_scans_of_no_elements(target: str):
    """ONNX Runtime refuses them."""
    nodes = [node("Add", ["s", "e"], ["s2"]), node("Concat", ["s2", "e"], ["row"], axis=0)]
    states, elements = [info("s", F, ["k"]), info("e", F, ["k"])], [info("s2", F, ["k"]), info("row", F, ["m"])]
    scan = node(
        "Scan", ["x", "z"], ["last", "rows"], body=helper.make_graph(nodes, "b", states, elements), num_scan_inputs=1
    )
    inputs, outputs = [info("x", F, ["k"]), info("z", F, ["t", "k"])], [info(n, F, None) for n in ("last", "rows")]
    data = model([scan], inputs, outputs)
    rng = np.random.default_rng(1)
    x = rng.random(3, np.float32)
    same(data, {"x": x, "z": rng.random((4, 3), np.float32)})
    results = graphc.compile(data, target=target).run({"x": x, "z": np.zeros((0, 3), np.float32)})
    np.testing.assert_array_equal(results["last"], x)
    assert results["rows"].shape == (0, 6)


@pytest.mark.parametrize(
    "attrs, message",
    [
        ({"num_scan_inputs": 0}, "num_scan_inputs is 0, and there are 2 operands"),
        ({"num_scan_inputs": -1}, "num_scan_inputs is -1"),
        ({"num_scan_inputs": 1 << 40}, "num_scan_inputs is 1099511627776"),
        ({"scan_input_axes": [0, 0]}, "scan_input_axes has 2 entries, and 1 inputs are scanned"),
        ({"scan_output_directions": [0, 1]}, "scan_output_directions has 2 entries, and 1 outputs are scanned"),
        ({"scan_input_directions": [2]}, r"scan_input_directions holds 0 for forwards and 1 for backwards, not \[2\]"),
    ],
)
def test_attributes_of_a_scan_that_do_not_fit_it(attrs: dict, message: str):
    nodes = [node("Add", ["s", "e"], ["s2"]), node("Identity", ["s2"], ["row"])]
    states, elements = [info("s", F, [2]), info("e", F, [2])], [info("s2", F, [2]), info("row", F, [2])]
    body = helper.make_graph(nodes, "b", states, elements)
    scan = node("Scan", ["x", "z"], ["last", "rows"], body=body, **{"num_scan_inputs": 1} | attrs)
    outputs = [info(n, F, None) for n in ("last", "rows")]
    with pytest.raises(GraphcError, match=message):
        graphc.compile(model([scan], [info("x", F, [2]), info("z", F, [3, 2])], outputs))


@pytest.mark.parametrize("op", ["Loop", "Scan"])
def test_loops_within_each_other_whose_states_grow(op: str, monkeypatch: pytest.MonkeyPatch):
    """Types of a body are inferred until they hold, twice or more: of the innermost not 2^depth times."""
    depth, inferred = 13, Counter()

    def counting(graph, *more):
        inferred[graph.name] += 1
        assert inferred.total() < 4 * depth**3
        return bind(graph, *more)

    monkeypatch.setattr("graphc.ops.specialised.bind", counting)
    made: list = []
    for i in range(depth):
        nodes = [*made, node("Concat", [f"v{i}" if made else f"s{i}", "x"], [f"t{i}"], axis=0)]
        formal, results = [info(f"s{i}", F, None)], [info(f"t{i}", F, None)]
        if op == "Loop":
            nodes.append(node("Identity", [f"go{i}"], [f"on{i}"]))
            formal, results = (
                [info(f"i{i}", I, []), info(f"go{i}", B, []), *formal],
                [info(f"on{i}", B, []), *results],
            )
            body = helper.make_graph(nodes, f"body{i}", formal, results)
            made = [node("Loop", ["trips", "", f"s{i + 1}"], [f"v{i + 1}"], body=body)]
        else:
            body = helper.make_graph(nodes, f"body{i}", [*formal, info(f"e{i}", F, None)], results)
            made = [node("Scan", [f"s{i + 1}", "z"], [f"v{i + 1}"], body=body, num_scan_inputs=1)]
    start = node("Identity", ["x"], [f"s{depth}"])
    inputs = [info("x", F, [2]), info("z", F, [1])]
    data = model([start, *made], inputs, [info(f"v{depth}", F, None)], trips=np.int64(1))
    feeds = {"x": np.float32([1, 2]), "z": np.float32([0])}
    for target in ("cpu", "reference"):
        (result,) = graphc.compile(data, target=target).run(feeds).values()
        np.testing.assert_array_equal(result, np.tile(feeds["x"], depth + 1))
    assert inferred


@pytest.mark.parametrize("name", ["?", "-1", "None", ""])
def test_dims_whose_name_is_none(name: str):
    data = model([node("Relu", ["x"], ["y"])], [info("x", F, [name, 3, name])], [info("y", F, None)])
    same(data, {"x": np.random.default_rng(2).standard_normal((2, 3, 5)).astype(np.float32)})
    assert graphc.compile(data).inputs[0].shape == ("x_d0", 3, "x_d2")
