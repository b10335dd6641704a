"""Any graph back to ONNX: what is written loads again and computes the same, here and in ONNX's own evaluator."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from zoo import EXAMPLES

from graphc import frontends
from graphc.backends.reference import run
from graphc.errors import CheckError, GraphcError, UnsupportedError
from graphc.frontends.onnx_export import OLDEST_OPSET, to_onnx
from graphc.graph import Builder, Graph
from graphc.op import Attr, Const, Op, all_ops
from graphc.types import Sym

RNG = np.random.default_rng(0)


def array(spec, samples, i):
    low, high = (b[i] if isinstance(b, tuple) else b for b in (samples.low, samples.high))
    low = low if spec.low is None else spec.low
    high = high if spec.high is None else spec.high
    dtype = np.dtype(spec.dtype or samples.dtypes[0])
    x = RNG.uniform(low, high, spec.shape)
    if dtype.kind in "OUS":
        return np.full(spec.shape, "ab", object)
    return x > (low + high) / 2 if dtype.kind == "b" else x.astype(dtype)


def use_of(op, case) -> tuple[Graph, dict[str, np.ndarray]]:
    b = Builder("g")
    operands, feeds = [], {}
    for i, spec in enumerate(case.inputs):
        if spec is None:
            operands.append(None)
        elif isinstance(spec, Const):
            operands.append(b.constant(np.asarray(spec.value, spec.dtype)))
        else:
            feeds[f"x{i}"] = array(spec, op.samples, i)
            operands.append(b.input(f"x{i}", feeds[f"x{i}"].dtype, feeds[f"x{i}"].shape))
    outputs = b.add(op, *operands, outputs=[f"y{i}" for i in range(case.n_outputs)], **case.attrs)
    return b.build(outputs if isinstance(outputs, tuple) else [outputs]), feeds


def first_cases():
    for name, op in all_ops().items():
        newest = onnx.defs.onnx_opset_version()
        if op.deterministic and onnx.defs.has(name, newest) and not onnx.defs.get_schema(name, newest).deprecated:
            for i, case in enumerate(op.samples.cases[:2]):
                yield pytest.param(op, case, id=f"{name}-{i}")


@pytest.mark.parametrize("op, case", list(first_cases()))
def test_every_operator_there_and_back(op, case):
    graph, feeds = use_of(op, case)
    model = to_onnx(graph)
    onnx.checker.check_model(model)
    again = frontends.load(model.SerializeToString())
    assert [n.op.name for n in again.nodes] == [op.name] or op.name == "Constant"
    expected, got = run(graph, feeds), run(again, feeds)
    assert list(got) == list(expected)
    for key in expected:
        np.testing.assert_array_equal(got[key], expected[key])


# Of other domains, those that nothing of ONNX says.
NO_FORM = {
    *(f"ai.onnx.ml::{n}" for n in ("CategoryMapper", "LabelEncoder", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor")),
    *(f"com.microsoft::{n}" for n in ("Tokenizer", "BifurcationDetector", "DynamicTimeWarping", "Inverse", "MaxpoolWithMask", "MurmurHash3", "Unique")),
}  # fmt: skip
FOREIGN = [n for n, op in all_ops().items() if "::" in n and not op.internal and op.deterministic and op.samples.cases]


@pytest.mark.sample(40)
@pytest.mark.parametrize("name", FOREIGN)
def test_operators_of_other_domains_are_written_in_those_of_onnx(name: str):
    op = all_ops()[name]
    graph, feeds = use_of(op, op.samples.cases[0])
    if name in NO_FORM:
        with pytest.raises(GraphcError, match="can't be written"):
            to_onnx(graph)
        return
    model = to_onnx(graph)
    onnx.checker.check_model(model)
    expected, got = run(graph, feeds), run(frontends.load(model.SerializeToString()), feeds)
    for key, want in expected.items():
        steps = want.dtype.kind in "iu"  # a rounding may fall the other way
        np.testing.assert_allclose(got[key].astype(float), want.astype(float), rtol=1e-3, atol=1 if steps else 1e-4)


def test_what_only_a_run_brings_has_no_form():
    b = Builder("net")
    q, kv, past = (
        b.input(n, "float32", shape) for n, shape in (("q", (1, 1, 32)), ("kv", (1, 1, 16)), ("p", (1, 2, 4, 8)))
    )
    lengths, total = b.input("lengths", "int32", (1,)), b.input("total", "int32", ())
    made = b.add(
        "com.microsoft::GroupQueryAttention",
        q,
        kv,
        kv,
        past,
        past,
        lengths,
        total,
        num_heads=4,
        kv_num_heads=2,
        outputs=3,
    )
    with pytest.raises(UnsupportedError, match="it needs the value of 'total', which only a run brings"):
        to_onnx(b.build(made))


def small_graph():
    b = Builder("net")
    x = b.input("x", "float32", (Sym("batch"), 3, 8, 8))
    w = b.constant(RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), name="w")
    h = b.add("Conv", x, w, None, pads=(1, 1, 1, 1), strides=(2, 2), kernel_shape=(3, 3))
    h = b.add("Clip", h, None, b.constant(np.float32(1)))
    y = b.add("ReduceMean", h, b.constant(np.array([2, 3])), keepdims=False)
    return b.build({"features": h, "logits": y, "same": y, "x": x, "w": w})


def test_a_network_runs_elsewhere():
    graph = small_graph()
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == OLDEST_OPSET
    assert [i.name for i in model.graph.input] == ["x"]
    assert [o.name for o in model.graph.output] == ["features", "logits", "same", "x", "w"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    feeds = {"x": RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)}
    expected = run(graph, feeds)
    for key, theirs in zip(expected, ReferenceEvaluator(model).run(None, feeds)):
        np.testing.assert_allclose(theirs, expected[key], rtol=1e-5, atol=1e-6)


def test_defaults_of_onnx_are_left_out():
    b = Builder()
    x = b.input("x", "float32", (2, 3))
    (n,) = to_onnx(b.build([b.add("LeakyRelu", x)])).graph.node
    assert not n.attribute
    (n,) = to_onnx(b.build([b.add("LeakyRelu", x, alpha=0.5)])).graph.node[1:]
    assert n.attribute[0].f == 0.5


@pytest.mark.parametrize("op, opset", [("Relu", 21), ("RMSNormalization", 23)])
def test_the_lowest_opset_that_has_everything(op, opset):
    b = Builder()
    x = b.input("x", "float32", (2, 3))
    more = [b.constant(np.ones(3, np.float32))] if op == "RMSNormalization" else []
    assert to_onnx(b.build([b.add(op, x, *more)])).opset_import[0].version == opset


def test_equal_names_are_told_apart():
    b = Builder()
    x = b.input("x", "float32", (2,))
    y = b.add("Neg", b.add("Relu", x, outputs=["x"]), outputs=["x"])
    model = to_onnx(b.build({"x_1": y}))
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(run(frontends.load(model), {"x": np.float32([-1, 2])})["x_1"], [0, -2])


def test_control_flow():
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "x"], ["t"]),
            helper.make_node("Mul", ["t", "k"], ["u"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [value("i", TensorProto.INT64, ()), value("go", TensorProto.BOOL, ()), value("s", 1, (2,))],
        [value("on", TensorProto.BOOL, ()), value("t", 1, (2,)), value("u", 1, (2,))],
    )
    loop = helper.make_node("Loop", ["n", "c", "x"], ["y", "all"], body=body)
    weights = [onnx.numpy_helper.from_array(a, n) for n, a in {"k": np.float32(3), "c": np.array(True)}.items()]
    inputs = [value("x", 1, (2,)), value("n", TensorProto.INT64, ())]
    results = [value("y", 1, (2,)), value("all", 1, ("trips", 2))]
    g = helper.make_graph([loop], "g", inputs, results, weights)
    graph = frontends.load(helper.make_model(g, opset_imports=[helper.make_opsetid("", 21)]))
    model = to_onnx(graph)
    feeds = {"x": np.float32([1, 2]), "n": np.int64(3)}
    expected = run(graph, feeds)
    for got in (run(frontends.load(model), feeds), dict(zip(expected, ReferenceEvaluator(model).run(None, feeds)))):
        np.testing.assert_array_equal(got["y"], 4 * feeds["x"])
        np.testing.assert_array_equal(got["all"], expected["all"])


def graphs_of(graph):
    yield graph
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):
                yield from graphs_of(a.g)


def types_of(graph):
    """Of values inside the graph: dtype and dims, numbers or names; None where there is no shape."""
    types = {v.name: v.type.tensor_type for v in graph.value_info}
    return {
        name: (t.elem_type, [d.dim_param or d.dim_value for d in t.shape.dim] if t.HasField("shape") else None)
        for name, t in types.items()
    }


def without_types(model):
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for graph in graphs_of(bare.graph):
        del graph.value_info[:]
    return bare


def agree(ours, theirs):
    """ONNX knows no more of the type, and nothing else. What it does not know it calls unk__0 …"""
    (dtype, dims), (their_dtype, their_dims) = ours, theirs
    if their_dims is None:
        return dtype == their_dtype
    same = (b in (a, 0) or str(b).startswith("unk__") for a, b in zip(dims, their_dims))
    return (dtype, len(dims)) == (their_dtype, len(their_dims)) and all(same)


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    "name",
    [
        "art1",
        "transformer_encoder",
        "som_training",
        "elman",
        "char_rnn",
        "vae",
        "squeezenet",
        "unet",
        "googlenet",
        "boltzmann",
    ],
)
def test_types_inside_are_what_onnx_infers(name):
    """Also in held graphs; and no two tools would say different things of one value."""
    graph = frontends.load(EXAMPLES / f"{name}.yaml")
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(without_types(model), strict_mode=True, data_prop=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for ours, theirs in zip(graphs_of(model.graph), graphs_of(inferred.graph)):
        known, found = types_of(ours), types_of(theirs)
        results = {o.name for o in ours.output}
        inside = {o for node in ours.node for o in node.output if o} - results
        assert known.keys() <= inside and found.keys() <= inside
        assert len(inside - known.keys()) <= len([node for node in ours.node if node.op_type == "Range"])
        assert all(agree(known[key], found[key]) for key in known.keys() & found.keys())


def test_sizes_that_follow_from_others_are_expressions():
    """ONNX Runtime takes them as names, of which equal ones are of equal size."""
    ort = pytest.importorskip("onnxruntime")
    b = Builder("net")
    x = b.input("x", "float32", (Sym("batch"), 1, Sym("h"), Sym("w")))
    half = b.add("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    wide = b.add("Concat", half, half, axis=3)
    y = b.add("Relu", b.add("Neg", wide))
    model = to_onnx(b.build({"y": y}))
    inside = types_of(model.graph)
    assert inside[half.name] == (1, ["batch", 1, "h//2", "w//2"])
    assert inside[wide.name] == (1, ["batch", 1, "h//2", "2*(w//2)"])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 4, 6), (2, 1, 9, 5)):
        feeds = {"x": RNG.normal(size=shape).astype(np.float32)}
        np.testing.assert_array_equal(session.run(None, feeds)[0], run(b.build({"y": y}), feeds)["y"])


def test_types_behind_an_expansion_are_known():
    """Though they do not follow from its operators alone."""
    lost = foreign("Lost", lambda b, call: b.add("Relu", call.inputs[0], types=[None]))
    b = Builder()
    x = b.input("x", "float32", ("n", 2))
    y = b.add("Neg", b.add(lost, x, name="lost"), name="after")
    model = to_onnx(b.build({"z": b.add("Abs", y)}))
    assert sorted(dims for _, dims in types_of(model.graph).values()) == [["n", 2], ["n", 2]]


def foreign(name, expand=None):
    return Op(
        name, ("x",), lambda call: [call.type(0)], lambda x, scale: x * scale, {"scale": Attr(float, 2.0)},
        expand=expand,
    )  # fmt: skip


def test_an_operator_that_onnx_does_not_have_is_written_as_its_expansion():
    op = foreign("Scaled", lambda b, call: b.add("Mul", call.inputs[0], b.constant(call.attrs.scale, np.float32)))
    b = Builder()
    x = b.input("x", "float32", (2,))
    model = to_onnx(b.build({"y": b.add("Relu", b.add(op, x, scale=3.0))}))
    assert [n.op_type for n in model.graph.node] == ["Mul", "Relu"]
    np.testing.assert_array_equal(run(frontends.load(model), {"x": np.float32([1, -1])})["y"], [3, 0])


def test_what_onnx_can_not_say_is_reported_together():
    b = Builder()
    x = b.input("x", "float32", (2,))
    y = b.add(foreign("Scaled"), b.add(foreign("Stretched"), x, name="first"), name="second")
    with pytest.raises(CheckError) as caught:
        to_onnx(b.build([y]))
    first, second = caught.value.problems
    assert "Stretched 'first'" in str(first) and "Scaled 'second'" in str(second)


def test_the_models_that_load_are_the_models_that_were_written(tmp_path):
    model = to_onnx(small_graph())
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    again = frontends.load(path)
    assert isinstance(again, Graph) and to_onnx(again) == model


def test_an_operator_that_is_expanded_for_known_shapes_alone():
    """With open ones it is refused, and written as it is for readers of its domain."""
    b = Builder("net")
    packed, scales = b.constant(np.zeros((8, 2, 8)), np.uint8), b.constant(np.ones((8, 2)), np.float32)
    attrs = {"K": 32, "N": 8, "bits": 4, "block_size": 16}
    y = b.add("com.microsoft::MatMulNBits", b.input("x", "float32", ("n", 32)), packed, scales, **attrs)
    graph = b.build({"y": y})
    with pytest.raises(UnsupportedError, match="can't be written in operators of ONNX while its shapes are open"):
        to_onnx(graph)
    model = to_onnx(graph, domains=["com.microsoft"])
    assert [(n.op_type, n.domain) for n in model.graph.node] == [("MatMulNBits", "com.microsoft")]
    assert {o.domain: o.version for o in model.opset_import}["com.microsoft"] == 1
