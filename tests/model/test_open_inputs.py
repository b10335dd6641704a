"""What a file leaves to its callers: ranks of inputs, defaults of inputs, dims of one name that are not equal."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc import frontends
from graphc.cli import app
from graphc.errors import CheckError, GraphcWarning, InputError, UnsupportedError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder
from graphc.signature import Signature, Spec

F, I = TensorProto.FLOAT, TensorProto.INT64
TARGETS = ("cpu", "reference")
node, info = helper.make_node, helper.make_tensor_value_info


def model(nodes, inputs, outputs="y", opset=17, ir=8, **initializers) -> onnx.ModelProto:
    consts = [numpy_helper.from_array(np.asarray(v), k) for k, v in initializers.items()]
    results = [onnx.ValueInfoProto(name=o) for o in outputs.split()]
    graph = helper.make_graph(nodes, "g", inputs, results, consts)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def same(m: onnx.ModelProto, compiled: graphc.Model, feeds: dict[str, np.ndarray], rtol: float = 1e-5) -> None:
    """The compiled model gives what ONNX Runtime gives."""
    typed = onnx.ModelProto()
    typed.CopyFrom(m)
    for out in typed.graph.output:
        out.type.tensor_type.elem_type = F
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(typed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for got, want in zip(compiled.run(feeds).values(), session.run(None, feeds)):
        assert got.shape == want.shape and got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- inputs without a shape -------------------------------------------------------------------------------------------
ANY_RANK = [info("x", F, None)]
OPEN = {
    "elementwise": (model([node("Relu", ["x"], ["h"]), node("Neg", ["h"], ["y"])], ANY_RANK), [(), (3,), (2, 3), (1, 2, 3, 4)]),
    "reduction": (model([node("ReduceSum", ["x", "a"], ["y"])], ANY_RANK, a=np.int64([-1])), [(3,), (2, 3), (2, 3, 4)]),
    "shape": (
        model([node("Shape", ["x"], ["s"]), node("Reshape", ["x", "m"], ["f"]), node("Reshape", ["f", "s"], ["y"])],
              ANY_RANK, m=np.int64([-1])), [(4,), (2, 2), (0, 3)],
    ),
    "product": (model([node("MatMul", ["x", "w"], ["y"])], ANY_RANK, w=random(3, 5)), [(3,), (2, 3), (4, 2, 3)]),
    "old softmax": (model([node("Softmax", ["x"], ["y"])], ANY_RANK, opset=11), [(2, 3), (2, 3, 4)]),
    "old axis": (model([node("Softmax", ["x"], ["h"], axis=-1), node("Squeeze", ["h"], ["y"], axes=[0])], ANY_RANK, opset=11), [(1, 3), (1, 2, 3)]),
    "old broadcast": (
        model([node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)], ANY_RANK, opset=6, ir=3, b=random(3)), [(2, 3), (2, 3, 4)]
    ),
    "split": (
        model([node("SplitToSequence", ["x"], ["s"], axis=0), node("SequenceAt", ["s", "p"], ["y"])], ANY_RANK, p=np.int64(1)),
        [(2,), (3, 4)],
    ),
    "two inputs": (model([node("Add", ["x", "z"], ["y"])], [*ANY_RANK, info("z", F, ["n"])]), [(3,), (2, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OPEN)
def test_an_input_without_a_shape_has_that_of_its_array(name: str, target: str):
    m, shapes = OPEN[name]
    compiled = graphc.compile(m, target=target)
    for shape in shapes:
        feeds = {"x": random(*shape)} | ({"z": random(3, seed=1)} if name == "two inputs" else {})
        if name == "old broadcast":  # ONNX Runtime has no opset 6 any more
            bias = numpy_helper.to_array(m.graph.initializer[0]).reshape(-1, *[1] * (len(shape) - 2))
            np.testing.assert_allclose(compiled.run(feeds)["y"], feeds["x"] + bias, rtol=1e-6)
        else:
            same(m, compiled, feeds)


def test_what_is_known_of_such_an_input_is_told_and_checked():
    compiled = graphc.compile(OPEN["elementwise"][0])
    assert compiled.inputs == (Spec("x", np.dtype(np.float32), None),) and "x: float32[...]" in repr(compiled)
    with pytest.raises(InputError, match=r"'x' is float64, the model wants float32\[\.\.\.\]"):
        compiled(np.zeros(3))
    with pytest.raises(InputError, match="shape of input 'x' is open"):
        compiled.plan()
    assert compiled.plan({"x": (2, 3)}).shapes == {"x": (2, 3)}
    out = np.empty((2, 2), np.float32)
    assert compiled.run({"x": -np.ones((2, 2), np.float32)}, out={"y": out})["y"] is out and not out.any()
    assert graphc.compile(OPEN["elementwise"][0], shapes={"x": (2, 3)})._readings


def test_a_valued_input_without_a_shape():
    m = model([node("Reshape", ["x", "s"], ["y"])], [info("x", F, None), info("s", I, None)])
    compiled = graphc.compile(m, shapes={"x": (6,), "s": (2,)})  # nothing can be planned ahead
    for shape in ([2, 3], [3, 2], [6]):
        same(m, compiled, {"x": random(6), "s": np.int64(shape)})


def test_an_input_of_no_type_at_all():
    m = model([node("Add", ["x", "x"], ["y"])], [onnx.ValueInfoProto(name="x")])
    compiled = graphc.compile(m)
    for x in (np.float32([1, 2]), np.int64([[3]]), np.float64(2)):
        np.testing.assert_array_equal(compiled.run({"x": x})["y"], x + x)


def test_problems_that_no_shape_mends_are_found_at_once():
    m = model([node("Softmax", ["x"], ["h"]), node("Frob", ["h"], ["y"])], ANY_RANK, opset=11)
    with pytest.raises(CheckError, match="1 problem.*\n.*Frob"):
        graphc.compile(m)


def test_a_loop_whose_body_declares_nothing():
    body = helper.make_graph(
        [node("Identity", ["c"], ["c2"]), node("Add", ["v", "x"], ["v2"]), node("Neg", ["v2"], ["r"])], "b",
        [info("i", I, []), info("c", TensorProto.BOOL, []), info("v", F, None)],
        [info("c2", TensorProto.BOOL, []), info("v2", F, None), info("r", F, None)],
    )  # fmt: skip
    m = model([node("Loop", ["n", "", "x"], ["last", "rows"], body=body)], [info("n", I, []), *ANY_RANK], "last rows")
    compiled = graphc.compile(m)
    for shape in ((3,), (2, 2)):
        same(m, compiled, {"n": np.array(2), "x": random(*shape)})


def test_plans_of_such_models_are_found_by_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    data = OPEN["product"][0].SerializeToString()
    x = random(2, 3)
    want = graphc.compile(data).run({"x": x})["y"]
    again = graphc.compile(data)
    np.testing.assert_array_equal(again.run({"x": x})["y"], want)
    (inner,) = again._readings.values()
    assert inner._source._loaded is None, "the plan was made anew"


def test_export_and_pickle_of_such_models():
    compiled = pickle.loads(pickle.dumps(graphc.compile(OPEN["product"][0])))
    same(OPEN["product"][0], compiled, {"x": random(4, 2, 3)})
    partial = graphc.compile(OPEN["old broadcast"][0])
    assert pickle.loads(pickle.dumps(partial)).inputs == partial.inputs  # by its bytes, which may be read again
    with pytest.raises(InputError, match="pickle the path"):
        pickle.dumps(
            graphc.compile(OPEN["old broadcast"][0], target="reference")
        )  # that keeps no bytes, only the graph
    with pytest.raises(UnsupportedError, match="inputs without a shape"):
        to_onnx(partial.source_graph)
    again = to_onnx(frontends.load(OPEN["product"][0]))
    assert again.graph.input[0].type.tensor_type.elem_type == F
    same(again, graphc.compile(again), {"x": random(4, 3)})


def invoke(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app.main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result.output


def test_commands_ask_for_the_shape(tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(OPEN["split"][0], path)
    assert "no problems" in invoke("check", path)
    for command in (
        ["run"],
        ["show"],
        ["explain"],
        ["compare"],
        ["compile", "--stop-after", "canonicalize"],
        ["bench"],
    ):
        message = invoke(*command, path, code=4)
        assert "gives input 'x' no shape" in message and "--shape x=" in message, command
        invoke(*command, path, "--shape", "x=2,3")
    np.save(tmp_path / "x.npy", random(2, 3))
    assert "input x: float32[2, 3]" in invoke("run", path, "--input", f"x={tmp_path / 'x.npy'}")


# --- inputs with a default --------------------------------------------------------------------------------------------
X, K = [info("x", F, ["n"])], [info("k", F, [])]
SCALE = model([node("Mul", ["x", "k"], ["y"])], X + K, k=np.float32(2))


@pytest.mark.parametrize("target", TARGETS)
def test_a_value_that_is_given_wins(target: str):
    compiled = graphc.compile(SCALE, target=target)
    x, k = random(3), np.array(5, np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(compiled.run({"x": x})["y"], 2 * x)
        np.testing.assert_array_equal(compiled(x), 2 * x)
        np.testing.assert_array_equal(compiled.run({"x": x, "k": k})["y"], 5 * x)
        np.testing.assert_array_equal(compiled(x, k), 5 * x)
        np.testing.assert_array_equal(compiled(x, k=k + 1), 6 * x)


def test_the_signature_tells_what_is_optional():
    compiled = graphc.compile(SCALE)
    assert [(s.name, s.optional) for s in compiled.inputs] == [("x", False), ("k", True)]
    assert "k: float32[] (optional)" in repr(compiled)
    signature = compiled._source.signature
    assert Signature.from_json(signature.to_json()) == signature
    with pytest.raises(InputError, match="missing: x"):
        compiled.run({"k": np.float32(1)})
    with pytest.raises(InputError, match="unknown: z"):
        compiled.run({"x": random(3), "z": np.float32(1)})
    with pytest.raises(InputError, match=r"'k' has shape \(2,\)"):
        compiled.run({"x": random(3), "k": np.float32([1, 2])})


def test_the_default_is_a_constant_where_it_is_not_given():
    """A model that lists all its weights as inputs is as fast as one that lists none: they are folded and packed."""
    w = random(4, 5)
    nodes = [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])]
    m = model(nodes, [info("x", F, ["n", 4]), info("w", F, [5, 4])], w=np.ascontiguousarray(w.T))
    compiled = graphc.compile(m)
    assert [n.op.name for n in compiled.graph.nodes] == ["MatMul"]
    same(m, compiled, {"x": random(3, 4)})
    same(m, compiled, {"x": random(3, 4), "w": random(5, 4, seed=3)})


@pytest.mark.parametrize("ir", [3, 4, 8])
def test_the_oldest_files_list_every_initializer_and_none_is_optional(ir: int):
    compiled = graphc.compile(model([node("Mul", ["x", "k"], ["y"])], X + K, opset=8, ir=ir, k=np.float32(2)))
    x = random(3)
    np.testing.assert_array_equal(compiled.run({"x": x})["y"], 2 * x)
    if ir < 4:  # as in ONNX Runtime: there they have to be listed, and mean nothing
        assert [s.name for s in compiled.inputs] == ["x"]
        with pytest.raises(InputError, match="unknown: k"):
            compiled.run({"x": x, "k": np.array(5, np.float32)})
    else:
        np.testing.assert_array_equal(compiled.run({"x": x, "k": np.array(5, np.float32)})["y"], 5 * x)


@pytest.mark.parametrize("target", TARGETS)
def test_defaults_that_decide_shapes_types_and_branches(target: str):
    """What is read off a default when the file is loaded is read anew: a shape, axes, a condition, positions in sequences."""
    then, other = (
        helper.make_graph([node(op, ["f"], [r])], r, [], [info(r, F, None)]) for op, r in (("Exp", "t"), ("Neg", "e"))
    )
    nodes = [
        node("Reshape", ["x", "s"], ["h"]), node("ReduceSum", ["h", "a"], ["f"], keepdims=0),
        node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        node("SplitToSequence", ["x"], ["q"], axis=0), node("SequenceAt", ["q", "p"], ["z"]),
    ]  # fmt: skip
    inputs = [
        info("x", F, [24]),
        info("s", I, ["r"]),
        info("a", I, [1]),
        info("c", TensorProto.BOOL, []),
        info("p", I, []),
    ]
    defaults = {"s": np.int64([2, 3, 4]), "a": np.int64([1]), "c": np.array(True), "p": np.int64(0)}
    m = model(nodes, inputs, "y z", **defaults)
    compiled = graphc.compile(m, target=target)
    x = random(24)
    for given in ({}, {"s": np.int64([4, 6])}, {"a": np.int64([2])}, {"c": np.array(False)}, {"p": np.array(1)},
                  {"s": np.int64([6, 2, 2]), "a": np.int64([-1]), "c": np.array(False), "p": np.array(-2)}):  # fmt: skip
        same(m, compiled, {"x": x, **given})


def test_a_default_that_a_branch_reads():
    then = helper.make_graph([node("Mul", ["x", "k"], ["t"])], "t", [], [info("t", F, None)])
    other = helper.make_graph([node("Neg", ["x"], ["e"])], "e", [], [info("e", F, None)])
    m = model(
        [node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [*X, info("c", TensorProto.BOOL, []), *K],
        k=np.float32(2),
    )
    compiled = graphc.compile(m)
    feeds = {"x": random(3), "c": np.array(True)}
    same(m, compiled, feeds)
    same(m, compiled, feeds | {"k": np.array(7, np.float32)})


def test_a_default_without_a_declared_shape_and_one_of_other_sizes():
    m = model([node("Add", ["x", "k"], ["y"])], [*X, info("k", F, ["m"])], k=np.float32([2]))
    same(m, graphc.compile(m), {"x": random(3), "k": random(3)})
    m = model([node("Add", ["x", "k"], ["y"])], [*X, info("k", F, None)], k=np.float32(2))
    same(m, graphc.compile(m), {"x": random(3), "k": random(2, 3)})


def test_a_model_pickled_by_its_graph_has_its_defaults_as_constants():
    compiled = pickle.loads(pickle.dumps(graphc.compile(graphc.compile(SCALE).source_graph)))
    x = random(3)
    np.testing.assert_array_equal(compiled(x), 2 * x)
    with pytest.raises(InputError, match="default is a constant.*\n.*compile the file"):
        compiled.run({"x": x, "k": np.array(5, np.float32)})


def test_a_model_pickled_by_its_bytes_keeps_its_defaults():
    x, k = random(3), np.array(5, np.float32)
    compiled = pickle.loads(pickle.dumps(graphc.compile(SCALE)))
    np.testing.assert_array_equal(compiled.run({"x": x, "k": k})["y"], 5 * x)


def test_export_keeps_inputs_with_their_defaults(tmp_path: Path):
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    onnx.save(SCALE, path)
    invoke("export", path, out)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    x = random(3)
    for given in ({}, {"k": np.array(5, np.float32)}):
        same(SCALE, graphc.compile(out), {"x": x, **given})
        same(onnx.load(out), graphc.compile(SCALE), {"x": x, **given})


def test_export_of_a_default_that_decides_an_operator_is_of_a_constant(tmp_path: Path):
    """Only its value tells which operators there are."""
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    nodes = [node("SequenceConstruct", ["x", "n"], ["q"]), node("SequenceInsert", ["q", "x", "p"], ["r"])]
    nodes = [node("Neg", ["x"], ["n"]), *nodes, node("ConcatFromSequence", ["r"], ["y"], axis=0)]
    onnx.save(model(nodes, [*X, info("p", I, [])], p=np.int64(1)), path)
    invoke("export", path, out)
    assert [i.name for i in onnx.load(out).graph.input] == ["x"]
    x = random(3)
    np.testing.assert_array_equal(graphc.compile(out)(x), np.concatenate([x, x, -x]))


def test_commands_take_defaults_by_name(tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(SCALE, path)
    np.save(tmp_path / "k.npy", np.array(5, np.float32))
    assert "input k" not in invoke("run", path, "--shape", "x=3", "--input", "ones")
    text = invoke("run", path, "--shape", "x=3", "--input", "x=ones", "--input", f"k={tmp_path / 'k.npy'}")
    assert "input k: float32[]" in text and " 5 " in text
    assert "input k" in invoke("run", path, "--shape", "x=3", "--input", "k=zeros")
    invoke("bench", path, "--shape", "x=3", "--input", f"k={tmp_path / 'k.npy'}", "--rounds", "1")


# --- dims of one name -------------------------------------------------------------------------------------------------
ROWS = [info("x", F, ["n", "m"]), info("z", F, ["n", "m"])]
JOINED = model([node("Concat", ["x", "z"], ["h"], axis=0), node("Relu", ["h"], ["y"])], ROWS)


@pytest.mark.parametrize("target", TARGETS)
def test_dims_of_one_name_may_differ_as_in_onnx_runtime(target: str):
    compiled = graphc.compile(JOINED, target=target)
    same(JOINED, compiled, {"x": random(3, 2), "z": random(3, 2)})
    with pytest.warns(GraphcWarning, match="dim 'n' is 3 in input 'x' and another size in 'z'"):
        same(JOINED, compiled, {"x": random(3, 2), "z": random(2, 2)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        same(JOINED, compiled, {"x": random(4, 2), "z": random(5, 2)})
        same(JOINED, compiled, {"x": random(3, 2), "z": random(3, 2)})


def test_no_rewrite_relies_on_a_name_that_lies():
    """With n as one dim the Reshape is none, and Expand neither."""
    nodes = [node("Shape", ["z"], ["s"]), node("Reshape", ["x", "s"], ["h"]), node("Expand", ["h", "s"], ["y"])]
    m = model(nodes, ROWS)
    compiled = graphc.compile(m)
    with pytest.warns(GraphcWarning):
        same(m, compiled, {"x": random(2, 6), "z": random(3, 4)})


def test_dims_of_one_input_that_have_one_name():
    m = model([node("Relu", ["x"], ["y"])], [info("x", F, ["n", "n"])])
    with pytest.warns(GraphcWarning, match="dim 'n'"):
        same(m, graphc.compile(m), {"x": random(2, 3)})


def test_where_they_must_be_equal_the_error_says_so():
    compiled = graphc.compile(model([node("Add", ["x", "z"], ["y"])], ROWS))
    for _ in range(2):
        with (
            pytest.raises(InputError, match="'z' has shape.*\n.*dim 'n' is 3 in input 'x'.*equal"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            compiled.run({"x": random(3, 2), "z": random(2, 2)})


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32", "int64"])
def test_a_plan_for_many_values_keeps_their_dtype(dtype: str):
    """Inputs whose values decide shapes: as sizes they are int64, which results must not become."""
    b = Builder("counted")
    start, limit, delta = (b.input(n, np.dtype(dtype), ()) for n in ("start", "limit", "delta"))
    model = graphc.compile(b.build({"y": b.add("Range", start, limit, delta)}), cache=False)
    for values in ((3, 9, 2), (3, 11, 2), (2, 20, 3)):
        feeds = {n: np.array(v, dtype) for n, v in zip(("start", "limit", "delta"), values)}
        y = model.run(feeds)["y"]
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.arange(*values, dtype=dtype))
