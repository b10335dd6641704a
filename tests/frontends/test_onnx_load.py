"""Loading ONNX: names, order, constants, external data, functions; and files that are wrong."""

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc import frontends
from graphc.backends.reference import run, trace
from graphc.errors import CheckError, LoadError, TypeRuleError, UnsupportedError
from graphc.frontends import onnx_data, onnx_load
from graphc.frontends.onnx_file import read_model
from graphc.op import all_ops
from graphc.types import Sym

F = TensorProto.FLOAT


def model(nodes, inputs=None, outputs=("y",), initializers=(), opset=21, functions=(), domains=(), name="m"):
    """A ModelProto; inputs: name -> shape (or (enum, shape))."""
    infos = []
    for key, spec in (inputs or {"x": (2, 3)}).items():
        enum, shape = spec if isinstance(spec[0] if spec else None, int) and isinstance(spec[-1], tuple) else (F, spec)
        infos.append(helper.make_tensor_value_info(key, enum, shape))
    results = [onnx.ValueInfoProto(name=o) for o in outputs]
    weights = [numpy_helper.from_array(np.asarray(a), n) for n, a in dict(initializers).items()]
    graph = helper.make_graph(list(nodes), name, infos, results, weights)
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions))


def node(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs.split(), outputs.split(), **attrs)


def problems(source):
    return frontends.check(source.SerializeToString() if isinstance(source, onnx.ModelProto) else source)


X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2


# --- what a good file becomes -----------------------------------------------------------------------------------------
def test_path_bytes_and_proto_give_the_same_graph(tmp_path):
    w = np.random.default_rng(0).normal(size=(3, 400)).astype(np.float32)
    m = model([node("MatMul", "x w", "h"), node("Relu", "h", "y")], initializers={"w": w})
    path = tmp_path / "m.onnx"
    onnx.save(m, path)
    for source in (path, str(path), path.read_bytes(), m):
        graph = frontends.load(source)
        assert [n.op.name for n in graph.nodes] == ["MatMul", "Relu"]
        assert [v.name for v in graph.inputs] == ["x"] and graph.output_names == ("y",)
        np.testing.assert_allclose(run(graph, {"x": X})["y"], np.maximum(X @ w, 0), rtol=1e-6)
    assert frontends.load(graph) is graph
    assert "reference" not in graph.meta and graph.meta["opset"] == {"": 21}


def test_large_weights_leave_the_message_and_are_read_only(tmp_path):
    w = np.random.default_rng(0).normal(size=(3, 400)).astype(np.float32)
    path = tmp_path / "m.onnx"
    onnx.save(model([node("MatMul", "x w", "y")], initializers={"b": np.float32(1), "w": w}), path)
    parsed = read_model(path)
    assert not parsed.proto.graph.initializer[1].HasField("raw_data") and list(parsed.raw) == [1]
    assert parsed.proto.graph.initializer[0].HasField("raw_data")
    (constant,) = (v for v in frontends.load(path).constants() if v.name == "w")
    np.testing.assert_array_equal(constant.data, w)
    assert constant.data.flags.aligned and not constant.data.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        constant.data[0] = 0


def test_an_initializer_that_is_also_an_input_is_a_constant():
    m = model([node("Add", "x b", "y")], {"x": (2, 3), "b": (3,)}, initializers={"b": np.ones(3, np.float32)})
    graph = frontends.load(m)
    assert [v.name for v in graph.inputs] == ["x"]
    np.testing.assert_array_equal(run(graph, {"x": X})["y"], X + 1)


def test_symbolic_and_missing_dims():
    m = model([node("Relu", "x", "y")], {"x": ("batch", None, 4)})
    assert frontends.load(m).inputs[0].type.shape == (Sym("batch"), Sym("x_d1"), 4)


def test_nodes_out_of_order_are_sorted():
    m = model([node("Relu", "h", "y"), node("Neg", "x", "h")])
    assert [n.op.name for n in frontends.load(m).nodes] == ["Neg", "Relu"]


def test_absent_operands_and_outputs():
    m = model(
        [node("Clip", "x", "h"), helper.make_node("Clip", ["h", "", "hi"], ["y"])], initializers={"hi": np.float32(1)}
    )
    graph = frontends.load(m)
    assert graph.nodes[1].inputs[1] is None
    np.testing.assert_array_equal(run(graph, {"x": X})["y"], np.minimum(X, 1))


def test_a_result_may_be_an_input_a_constant_or_named_twice():
    m = model([node("Relu", "x", "h")], outputs=("x", "c", "h", "h"), initializers={"c": np.float32(3)})
    graph = frontends.load(m)
    assert graph.output_names == ("x", "c", "h", "h") and graph.outputs[2] is graph.outputs[3]
    recorded = trace(graph, {"x": X})
    np.testing.assert_array_equal(recorded.outputs["h"], np.maximum(X, 0))
    np.testing.assert_array_equal(recorded.outputs["x"], X)
    assert list(recorded.values) == [graph.outputs[2]]


def test_types_follow_from_shapes_that_the_graph_computes():
    """Shape -> Gather -> Concat -> Reshape, as exporters write x.view(x.size(0), -1)."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Concat", "n rest", "target", axis=0),
        node("Reshape", "x target", "y"),
    ]
    consts = {"zero": np.array([0]), "rest": np.array([-1])}
    graph = frontends.load(model(nodes, {"x": (2, 3, 4)}, initializers=consts))
    assert graph.outputs[0].type.shape == (2, 12)
    assert [n.op.name for n in graph.nodes] == ["Shape", "Gather", "Concat", "Reshape"]


@pytest.mark.parametrize(
    "attrs, expected",
    [
        ({"value": numpy_helper.from_array(np.float64([1, 2]))}, np.float64([1, 2])),
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_ints": [3, 4]}, np.int64([3, 4])),
        ({"value_strings": ["a", "bc"]}, np.array(["a", "bc"], object)),
    ],
)
def test_constant_nodes(attrs, expected):
    (v,) = frontends.load(model([node("Constant", "", "y", **attrs)])).outputs
    assert v.is_const and v.data.dtype == expected.dtype
    np.testing.assert_array_equal(v.data, expected)


# --- tensors ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("enum", sorted(onnx_data.DTYPES), ids=TensorProto.DataType.Name)
def test_tensors_of_every_dtype_there_and_back(enum):
    dtype = onnx_data.DTYPES[enum]
    if dtype.kind == "O":
        array = np.array([["a", "é"], ["", "d"]], object)
    elif dtype.kind in "bc":
        array = np.array([[0, 1, 1]]).astype(dtype)
    elif dtype.kind in "iu" and dtype.isbuiltin == 1:
        array = np.array([[np.iinfo(dtype).min, 7, np.iinfo(dtype).max]], dtype)
    else:
        array = np.array([1, 0.5, 1, 1, 0.5], np.float32).astype(dtype)
    proto = onnx_data.from_array(array, "t")
    back = onnx_data.to_array(proto)
    theirs = numpy_helper.to_array(proto)
    assert back.dtype == dtype and back.shape == array.shape
    assert back.tolist() == array.tolist() == theirs.tolist()
    if dtype.kind != "O":
        assert proto.raw_data == numpy_helper.from_array(array, "t").raw_data
    typed = helper.make_tensor("t", enum, array.shape, theirs.reshape(-1).tolist(), raw=False)
    assert onnx_data.to_array(typed).tolist() == array.tolist()


def test_negative_values_of_small_integer_types():
    for dtype in (ml_dtypes.int4, ml_dtypes.int2):
        array = np.array([-2, -1, 1], np.int8).astype(dtype)
        assert onnx_data.to_array(numpy_helper.from_array(array)).astype(int).tolist() == [-2, -1, 1]


def test_sparse_tensors():
    values = numpy_helper.from_array(np.float32([5, 7]), "w")
    for indices in (np.int64([1, 5]), np.int64([[0, 1], [1, 2]])):
        sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(indices), [2, 3])
        np.testing.assert_array_equal(onnx_data.to_dense(sparse), np.float32([[0, 5, 0], [0, 0, 7]]))
    outside = helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([1, 6])), [2, 3])
    with pytest.raises(LoadError, match="outside its dims"):
        onnx_data.to_dense(outside)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.dims.append(1 << 40), "needs .* bytes"),
        (lambda t: t.dims.append(-1), "negative dim"),
        (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "needs 12 bytes but has 11"),
        (lambda t: (t.ClearField("raw_data"), t.float_data.append(1.0)), "has 1 values, not 3"),
        (lambda t: setattr(t, "data_type", 99), "unknown dtype number 99"),
        (lambda t: setattr(t, "data_type", TensorProto.STRING), "strings and has raw data"),
    ],
)
def test_a_tensor_whose_data_disagrees(change, message):
    m = model([node("Add", "x b", "y")], initializers={"b": np.ones(3, np.float32)})
    change(m.graph.initializer[0])
    (problem,) = problems(m)
    with pytest.raises(LoadError, match=message):
        raise problem
    assert "initializer 0" in str(problem)


# --- external data ----------------------------------------------------------------------------------------------------
def external(tmp_path, location="w.bin", **entries):
    m = model([node("Add", "x w", "y")], initializers={"w": np.zeros(3, np.float32)})
    t = m.graph.initializer[0]
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        t.external_data.add(key=key, value=str(value))
    path = tmp_path / "models" / "m.onnx"
    path.parent.mkdir(exist_ok=True)
    onnx.save_model(m, path)
    return path


def test_external_data_inside_the_folder(tmp_path):
    path = external(tmp_path, "data/w.bin", offset=4, length=12)
    (path.parent / "data").mkdir()
    (path.parent / "data" / "w.bin").write_bytes(np.float32([9, 1, 2, 3]).tobytes())
    np.testing.assert_array_equal(run(frontends.load(path), {"x": X})["y"], X + np.float32([1, 2, 3]))
    (problem,) = problems(path.read_bytes())
    assert "has no folder" in str(problem)


@pytest.mark.parametrize("location", ["../w.bin", "a/../../w.bin", "", ".", "C:\\w.bin", "missing.bin", "w\0.bin"])
def test_external_data_out_of_reach(tmp_path, location):
    (tmp_path / "w.bin").write_bytes(bytes(12))
    (problem,) = problems(external(tmp_path, location))
    assert isinstance(problem, LoadError)


def test_external_data_at_an_absolute_path_or_behind_a_link(tmp_path):
    secret = tmp_path / "w.bin"
    secret.write_bytes(bytes(12))
    (problem,) = problems(external(tmp_path, str(secret)))
    assert "outside the model's folder" in str(problem)
    path = external(tmp_path, "link.bin")
    os.symlink(secret, path.parent / "link.bin")
    assert "is a link to" in str(problems(path)[0])
    os.symlink(tmp_path, path.parent / "up")
    assert "is a link to" in str(problems(external(tmp_path, "up/w.bin"))[0])


@pytest.mark.parametrize("store", ["../../blobs", "../../../elsewhere"])
def test_external_data_in_a_download_cache(tmp_path, store):
    """models--x/snapshots/1/{m.onnx,w.bin} are links into models--x/blobs. What leads out of that folder is refused."""
    made = external(tmp_path, "w.bin")
    snapshot = tmp_path / "models--x" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    for folder in ("../../blobs", store):
        (snapshot / folder).mkdir(exist_ok=True)
    (snapshot / "../../blobs/a1").write_bytes(made.read_bytes())
    (snapshot / store / "b2").write_bytes(np.float32([1, 2, 3]).tobytes())
    os.symlink("../../blobs/a1", snapshot / "m.onnx")
    os.symlink(f"{store}/b2", snapshot / "w.bin")
    if store == "../../blobs":
        for _ in range(2):  # the second time from the cache of plans
            np.testing.assert_array_equal(graphc.compile(snapshot / "m.onnx")(X), X + np.float32([1, 2, 3]))
    else:
        (problem,) = problems(snapshot / "m.onnx")
        assert "elsewhere" in str(problem) and "blobs" in str(problem)


@pytest.mark.parametrize("repository", ["models--x--y", "x"])
def test_a_file_among_the_links_of_a_download_cache(tmp_path, repository):
    """A model that is no link, in a snapshot whose data are links: in the cache of another kind they are refused."""
    snapshot = tmp_path / repository / "snapshots" / "1" / "onnx"
    snapshot.mkdir(parents=True)
    (tmp_path / repository / "blobs").mkdir()
    (tmp_path / repository / "blobs" / "b2").write_bytes(np.float32([1, 2, 3]).tobytes())
    (snapshot / "m.onnx").write_bytes(external(tmp_path, "w.bin").read_bytes())
    os.symlink("../../../blobs/b2", snapshot / "w.bin")
    if repository == "models--x--y":
        np.testing.assert_array_equal(graphc.compile(snapshot / "m.onnx")(X), X + np.float32([1, 2, 3]))
    else:
        assert "is a link to" in str(problems(snapshot / "m.onnx")[0])


def test_external_data_behind_a_link_in_the_folder(tmp_path):
    path = external(tmp_path, "link.bin")
    (path.parent / "w.bin").write_bytes(np.float32([1, 2, 3]).tobytes())
    os.symlink("w.bin", path.parent / "link.bin")
    np.testing.assert_array_equal(run(frontends.load(path), {"x": X})["y"], X + np.float32([1, 2, 3]))


@pytest.mark.parametrize("location", ["folder", "x" * 5000, "a\x01b", "pipe"])
def test_external_data_that_is_no_file(tmp_path, location):
    path = external(tmp_path, location)
    (path.parent / "folder").mkdir()
    os.mkfifo(path.parent / "pipe")
    (problem,) = problems(path)
    assert isinstance(problem, LoadError) and "external data" in str(problem) and len(str(problem)) < 1000


@pytest.mark.parametrize(
    "entries", [{"offset": 4}, {"length": 8}, {"offset": -4}, {"offset": "x"}, {"length": 1 << 60}]
)
def test_external_data_outside_its_file(tmp_path, entries):
    path = external(tmp_path, **entries)
    (path.parent / "w.bin").write_bytes(bytes(12))
    assert isinstance(problems(path)[0], LoadError)


# --- paths that are no files ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name, said",
    [
        ("missing", "does not exist"), ("folder", "is a folder"), ("pipe", "is not a regular file"),
        ("device", "is not a regular file"), ("dangling", "does not exist"), ("circle", "can't be read"),
        ("x" * 5000, "can't be read"), ("a\0b", "can't be read"), ("file/inside", "can't be read"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".onnx", ".yaml"])
def test_paths_that_are_no_files(tmp_path, name, said, suffix):
    """With the cache too, which looks at files before they are loaded: it must not wait for a pipe."""
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    for link, target in (("device", "/dev/zero"), ("dangling", "nowhere"), ("circle", f"circle{suffix}")):
        os.symlink(target, tmp_path / f"{link}{suffix}")
    path = f"{tmp_path}/{name}{suffix}"
    for source in (path, Path(path)):
        with pytest.raises(LoadError, match=said) as error:
            graphc.compile(source)
        assert len(str(error.value)) < 1000
    assert said in str(problems(path)[0])


# --- files that are not models ----------------------------------------------------------------------------------------
def valid_bytes():
    w = np.random.default_rng(0).normal(size=(3, 400)).astype(np.float32)
    return model([node("MatMul", "x w", "h"), node("Relu", "h", "y")], initializers={"w": w}).SerializeToString()


@given(st.binary(max_size=200))
@settings(max_examples=25, deadline=None)
def test_random_bytes(data):
    assert problems(data)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_damaged_file_never_ends_in_a_traceback(data):
    good = valid_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        assert problems(good[:at]), "a truncated file loads"
    else:  # a changed byte may be harmless (a name, a weight), but is never a crash
        frontends.check(good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :])


@pytest.mark.parametrize(
    "data", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"\x80" * 40, b"{}"]
)
def test_files_of_another_kind(data, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(LoadError, match=r"m\.onnx"):
        frontends.load(path)


def test_a_name_that_is_no_text():
    data = valid_bytes().replace(b"Relu", b"Re\xff\xfe")
    with pytest.raises(LoadError, match="not UTF-8"):
        frontends.load(data)


def test_another_protobuf_message():
    tensor = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "t")
    with pytest.raises(LoadError, match="not an ONNX model"):
        frontends.load(tensor.SerializeToString())


@pytest.mark.parametrize(
    "name, message", [("gone.onnx", "does not exist"), ("m.txt", "unknown suffix"), ("dir.onnx", "folder")]
)
def test_paths_that_hold_no_model(tmp_path, name, message):
    (tmp_path / "dir.onnx").mkdir()
    with pytest.raises(LoadError, match=message):
        frontends.load(tmp_path / name)
    with pytest.raises(LoadError, match="can't load a model from int"):
        frontends.load(3)


# --- graphs that are wrong --------------------------------------------------------------------------------------------
def test_every_problem_in_one_report():
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], name="first"),
        node("Relu", "a", "b"),  # follows from the first: not a problem of its own
        helper.make_node("Other", ["b"], ["c"], domain="com.acme"),
        node("Add", "x w", "d"),
        node("Relu", "x", "e", slope=3),
        node("Concat", "c d e", "y", axis=0),
    ]
    m = model(nodes, initializers={"w": np.ones((4, 5), np.float32)}, domains=("com.acme",))
    with pytest.raises(CheckError) as caught:
        frontends.load(m)
    first, second, third, fourth = caught.value.problems
    text = str(first)
    for part in ("Frobnicate", "'first'", "node 0 (opset 21)", "float32[2, 3]", "`graphc operators` lists"):
        assert part in text
    assert isinstance(second, UnsupportedError) and "com.acme" in str(second) and "node 2" in str(second)
    assert "do not broadcast" in str(third) and "float32[4, 5]" in str(third)
    assert "unknown attribute 'slope'" in str(fourth)
    assert len(problems(m)) == 4


def test_what_onnx_runtime_has_and_graphc_has_not_is_no_misspelt_name():
    """`LongformerAttention` is not meant to be `Attention`."""
    nodes = [node("LongformerAttention", "x", "y", domain="com.microsoft")]
    (problem,) = problems(model(nodes, domains=("com.microsoft",)))
    assert "did you mean" not in str(problem)
    assert "and not this one; `graphc operators com.microsoft` lists what is" in str(problem)


@pytest.mark.parametrize(
    "nodes, message",
    [
        ([node("Relu", "b", "a"), node("Relu", "a", "b"), node("Relu", "x", "y")], r"cycle: node 0 \(Relu\)"),
        ([node("Relu", "xx", "y")], "reads 'xx', which nothing produces\n  did you mean 'x'"),
        ([node("Relu", "x", "h")], "output 'y' is produced by no node"),
        ([node("Relu", "x", "y"), node("Neg", "x", "y")], "produces 'y', which node 0 produces too"),
        ([node("Relu", "x", "x"), node("Relu", "x", "y")], "which an input or initializer produces too"),
        ([node("Add", "x", "y")], "takes 2 operands"),
        ([node("Relu", "x x", "y")], "takes 1 operands"),
        ([node("Constant", "", "y")], "one attribute, not 0"),
        ([node("Relux", "x", "y")], "did you mean"),
        ([node("Cast", "x", "y", to=77)], "unknown dtype number 77"),
    ],
)
def test_a_wrong_graph_says_what_is_wrong(nodes, message):
    with pytest.raises(CheckError, match=message):
        frontends.load(model(nodes))


def test_a_graph_without_outputs():
    with pytest.raises(CheckError, match="no outputs"):
        frontends.load(model([node("Relu", "x", "y")], outputs=()))


def test_an_opset_from_the_future_and_a_missing_one():
    with pytest.raises(CheckError, match="opset 999 is newer"):
        frontends.load(model([node("Relu", "x", "y")], opset=999))
    m = model([node("Relu", "x", "y")], domains=("com.acme",))
    del m.opset_import[0]
    with pytest.raises(CheckError, match="imports no opset"):
        frontends.load(m)


def test_inputs_that_are_no_tensors():
    m = model([node("Relu", "x", "y")])
    m.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", F, (2,)))
    with pytest.raises(CheckError, match="'x' is of type sequence") as caught:
        frontends.load(m)
    assert len(caught.value.problems) == 1, "who reads it is not wrong as well"


# --- functions --------------------------------------------------------------------------------------------------------
def function(name, inputs, outputs, nodes, attributes=(), defaults=()):
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_function(
        "local", name, inputs.split(), outputs.split(), nodes, imports, list(attributes), list(defaults)
    )


def reference(op, inputs, outputs, **refs):
    n = node(op, inputs, outputs)
    for key, ref in refs.items():
        kind = onnx.AttributeProto.INT if key == "axis" else onnx.AttributeProto.FLOAT
        n.attribute.append(onnx.AttributeProto(name=key, ref_attr_name=ref, type=kind))
    return n


def test_functions_are_inlined_with_their_attributes():
    leak = function("Leak", "a", "b", [reference("LeakyRelu", "a", "b", alpha="slope")], ["slope"])
    twice = function(
        "Twice",
        "a",
        "c",
        [helper.make_node("Leak", ["a"], ["t"], domain="local", name="inner"), node("Add", "t a", "c")],
        defaults=[helper.make_attribute("slope", 0.25)],
    )
    twice.node[0].attribute.append(
        onnx.AttributeProto(name="slope", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    )
    calls = [
        helper.make_node("Twice", ["x"], ["h"], domain="local", name="A"),
        helper.make_node("Twice", ["h"], ["y"], domain="local", name="B", slope=0.5),
    ]
    graph = frontends.load(model(calls, functions=[leak, twice], domains=("local",)))
    assert [n.op.name for n in graph.nodes] == ["LeakyRelu", "Add"] * 2
    assert [n.attrs["alpha"] for n in graph.nodes[::2]] == [0.25, 0.5]
    assert graph.nodes[0].source.path == ("Twice 'A'", "Leak 'A/inner'")
    names = [v.name for v in graph.values()]
    assert len(names) == len(set(names))
    h = np.where(X < 0, X * np.float32(0.25), X) + X
    np.testing.assert_allclose(run(graph, {"x": X})["y"], np.where(h < 0, h * np.float32(0.5), h) + h)


@pytest.mark.parametrize(
    "body, message",
    [
        ([helper.make_node("F", ["a"], ["b"], domain="local")], "calls itself"),
        ([reference("LeakyRelu", "a", "b", alpha="gone")], None),
        ([node("Relu", "gone", "b")], r"reads 'gone'.*"),
        ([node("Relu", "a", "c")], "does not produce its output 'b'"),
    ],
)
def test_functions_that_are_wrong(body, message):
    call = helper.make_node("F", ["x"], ["y"], domain="local")
    m = model([call], functions=[function("F", "a", "b", body)], domains=("local",))
    if message is None:  # an attribute that the caller leaves out takes the operator's default
        assert frontends.load(m).nodes[0].attrs["alpha"] == pytest.approx(0.01)
    else:
        with pytest.raises(CheckError, match=message):
            frontends.load(m)


@pytest.mark.parametrize("calls", [40, 20_000])
def test_functions_that_grow_without_bound(calls):
    levels = [function("F0", "a", "b", [node("Relu", "a", "b")])]
    for i in range(1, calls):
        inner = [helper.make_node(f"F{i - 1}", [a], [b], domain="local") for a, b in (("a", "t"), ("t", "b"))]
        levels.append(function(f"F{i}", "a", "b", inner))
    name = f"F{calls - 1}"
    m = model([helper.make_node(name, ["x"], ["y"], domain="local")], functions=levels, domains=("local",))
    with pytest.raises(LoadError, match=f"{2 ** min(calls - 1, 62)} nodes .* more than 200000; most of them '{name}'"):
        frontends.load(m)


def test_a_large_function_within_a_branch_is_named():
    levels = [function("F0", "a", "b", [node("Relu", "a", "b")])]
    for i in range(1, 20):
        inner = [helper.make_node(f"F{i - 1}", [a], [b], domain="local") for a, b in (("a", "t"), ("t", "b"))]
        levels.append(function(f"F{i}", "a", "b", inner))
    branches = {
        f"{key}_branch": helper.make_graph(
            [helper.make_node(f"F{i}", ["x"], [key], domain="local")], key, [], [onnx.ValueInfoProto(name=key)]
        )
        for key, i in (("then", 3), ("else", 19))
    }
    choice = helper.make_node("If", ["c"], ["y"], **branches)
    m = model([choice], {"x": (2, 3), "c": (TensorProto.BOOL, ())}, functions=levels, domains=("local",))
    with pytest.raises(LoadError, match="more than 200000; most of them 'F19'"):
        frontends.load(m)


@pytest.mark.parametrize("depth", [100, 101, 20_000])
def test_functions_in_functions(depth):
    levels = [function("F0", "a", "b", [node("Relu", "a", "b")])]
    for i in range(1, depth):
        levels.append(function(f"F{i}", "a", "b", [helper.make_node(f"F{i - 1}", ["a"], ["b"], domain="local")]))
    m = model([helper.make_node(f"F{depth - 1}", ["x"], ["y"], domain="local")], functions=levels, domains=("local",))
    if depth <= 100:
        assert [n.op.name for n in frontends.load(m).nodes] == ["Relu"]
    else:
        with pytest.raises(LoadError, match=f"{depth} levels of calls"):
            frontends.load(m)


def test_functions_that_call_each_other():
    ping, pong = (function(a, "a", "b", [helper.make_node(b, ["a"], ["b"], domain="local")]) for a, b in ("PQ", "QP"))
    m = model([helper.make_node("P", ["x"], ["y"], domain="local")], functions=[ping, pong], domains=("local",))
    with pytest.raises(CheckError, match="calls itself"):
        frontends.load(m)


@pytest.mark.parametrize(
    "op, inputs, feeds, attrs, expected",
    [
        ("HannWindow", {"n": (TensorProto.INT64, ())}, {"n": np.int64(8)}, {"periodic": 0}, np.hanning(8).astype("f")),
        ("HardSigmoid", {"x": (2, 3)}, {"x": X}, {"alpha": 0.5}, np.clip(X * np.float32(0.5) + np.float32(0.5), 0, 1)),
        ("Celu", {"x": (2, 3)}, {"x": X}, {"alpha": 2.0}, np.where(X > 0, X, 2 * np.expm1(X / 2))),
    ],
)
def test_operators_without_a_record_use_onnx_own_body(monkeypatch, op, inputs, feeds, attrs, expected):
    monkeypatch.setattr(onnx_load, "named_ops", lambda: {k: v for k, v in all_ops().items() if k != op})
    graph = frontends.load(model([node(op, " ".join(inputs), "y", **attrs)], inputs))
    assert op not in {n.op.name for n in graph.nodes}
    np.testing.assert_allclose(run(graph, feeds)["y"], expected, atol=1e-6)


# --- control flow -----------------------------------------------------------------------------------------------------
def subgraph(nodes, inputs=(), outputs=("r",)):
    infos = [helper.make_tensor_value_info(n, enum, shape) for n, enum, shape in inputs]
    return helper.make_graph(list(nodes), "body", infos, [onnx.ValueInfoProto(name=o) for o in outputs])


def if_model(then, other, inputs=None, before=(), **more):
    n = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=then, else_branch=other)
    return model([*before, n], inputs or {"x": (2, 3), "z": (2, 3), "c": (TensorProto.BOOL, ())}, **more)


def test_captures_are_operands_and_constants_are_not():
    m = if_model(
        subgraph([node("Add", "x w", "r")]), subgraph([node("Mul", "z x", "r")]), initializers={"w": np.float32(10)}
    )
    graph = frontends.load(m)
    (n,) = graph.nodes
    captured = [v.name for v in n.inputs[1:]]
    assert n.inputs[0].name == "c" and sorted(captured) == ["x", "z"]
    for branch in (n.attrs["then_branch"], n.attrs["else_branch"]):
        assert [v.name for v in branch.inputs] == captured
    feeds = {"x": X, "z": X + 1}
    np.testing.assert_array_equal(run(graph, {**feeds, "c": np.array(True)})["y"], X + 10)
    np.testing.assert_array_equal(run(graph, {**feeds, "c": np.array(False)})["y"], X * (X + 1))


def test_captures_through_two_levels():
    inner = helper.make_node(
        "If", ["c"], ["r"], then_branch=subgraph([node("Neg", "h", "r")]), else_branch=subgraph([node("Abs", "x", "r")])
    )
    m = if_model(subgraph([node("Exp", "x", "r")]), subgraph([inner]), before=[node("Relu", "x", "h")])
    graph = frontends.load(m)
    feeds = {"x": X, "z": X, "c": np.array(False)}
    np.testing.assert_array_equal(run(graph, feeds)["y"], np.abs(X))


def test_a_constant_condition_leaves_one_branch():
    broken = subgraph([node("Reshape", "x bad", "r")])
    consts = {"c": np.array(True), "bad": np.array([5, 5])}
    graph = frontends.load(if_model(subgraph([node("Neg", "x", "r")]), broken, {"x": (2, 3)}, initializers=consts))
    assert [n.op.name for n in graph.nodes] == ["Neg"]


def test_a_branch_without_valid_types_is_an_error_where_the_other_has_none_either():
    good, broken = subgraph([node("Neg", "x", "r")]), subgraph([node("Reshape", "x bad", "r")])
    bad = {"bad": np.array([5, 5])}
    graph = frontends.load(if_model(good, broken, initializers=bad))
    warning = graph.meta["warnings"][0]
    assert "else_branch" in str(warning) and "Reshape" in str(warning) and "is taken" in warning.hint
    np.testing.assert_array_equal(run(graph, {"x": X, "z": X, "c": np.array(True)})["y"], -X)
    with pytest.raises(TypeRuleError, match="Reshape"):
        run(graph, {"x": X, "z": X, "c": np.array(False)})
    with pytest.raises(CheckError, match="2 problems"):
        frontends.load(if_model(broken, subgraph([node("Reshape", "x bad", "r")]), initializers=bad))
    with pytest.raises(CheckError, match="no operator|not supported"):
        frontends.load(if_model(good, subgraph([node("Nonsense", "x", "r")])))


def test_loop_with_captures_and_collected_results():
    body = subgraph(
        [
            node("Identity", "go", "go_on"),
            node("Add", "s x", "t"),
            node("Cast", "i", "f", to=F),
            node("Add", "f t", "u"),
        ],
        [("i", TensorProto.INT64, ()), ("go", TensorProto.BOOL, ()), ("s", F, (2, 3))],
        ("go_on", "t", "u"),
    )
    loop = helper.make_node("Loop", ["n", "", "s0"], ["y", "all"], body=body)
    graph = frontends.load(model([loop], {"x": (2, 3), "n": (TensorProto.INT64, ()), "s0": (2, 3)}, ("y", "all")))
    (n,) = graph.nodes
    assert n.attrs["n_states"] == 1 and [v and v.name for v in n.inputs] == ["n", None, "s0", "x"]
    results = run(graph, {"x": X, "n": np.int64(3), "s0": X})
    np.testing.assert_array_equal(results["y"], 4 * X)
    np.testing.assert_array_equal(results["all"], np.stack([2 * X, 1 + 3 * X, 2 + 4 * X]))


def test_scan_over_rows():
    body = subgraph([node("Add", "s e", "t"), node("Mul", "t k", "u")], [("s", F, (3,)), ("e", F, (3,))], ("t", "u"))
    scan = helper.make_node("Scan", ["s0", "x"], ["y", "all"], body=body, num_scan_inputs=1, scan_input_directions=[1])
    graph = frontends.load(model([scan], {"x": (2, 3), "s0": (3,), "k": (3,)}, ("y", "all")))
    k = np.float32([1, 2, 3])
    results = run(graph, {"x": X, "s0": np.zeros(3, np.float32), "k": k})
    np.testing.assert_array_equal(results["y"], X.sum(0))
    np.testing.assert_array_equal(results["all"], np.cumsum(X[::-1], 0) * k)


def test_problems_inside_a_branch_say_where():
    m = if_model(subgraph([node("Frob", "x", "r")]), subgraph([node("Neg", "gone", "r")]))
    other, then = sorted(map(str, problems(m)), key=lambda text: "Frob" in text)
    assert "(in If 'choice' then_branch)" in then and "Frob" in then
    assert "(in If 'choice' else_branch)" in other and "'gone'" in other


@pytest.mark.parametrize("name", [n for n, op in all_ops().items() if op.internal])
def test_a_file_names_no_operator_of_the_compilers_own(name: str):
    """Their operands are trusted: tables of addresses, packed weights."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy")
    graph = helper.make_graph([helper.make_node(name, ["x"], ["y"])], "g", [x], [y])
    with pytest.raises(CheckError, match=f"operator '{name}' is not supported"):
        frontends.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def test_an_operator_of_a_domain_of_nobodys_may_be_imported():
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Frob", ["x"], ["y"], domain="org.nobody")], "g", [x], [y])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("org.nobody", 1)]
    with pytest.raises(
        CheckError, match=r"(?s)operator 'Frob' of domain 'org.nobody' is not supported\n.*--import FILE.py"
    ):
        frontends.load(helper.make_model(graph, opset_imports=opsets))
