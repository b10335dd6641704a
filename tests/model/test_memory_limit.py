"""Models of extreme sizes: values beyond the machine's memory, very many operands, long chains, deep nesting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc import expr, frontends
from graphc.errors import GraphcError, InputError, LoadError, OutOfMemoryError
from graphc.frontends import yaml_weights
from graphc.graph import Builder
from graphc.lower import fuse
from graphc.report import format_bytes
from graphc.types import Sym

F, I = TensorProto.FLOAT, TensorProto.INT64
F32 = np.float32
TARGETS = ("cpu", "reference")
node, info = helper.make_node, helper.make_tensor_value_info


def model(nodes, inputs, opset=17, **initializers) -> onnx.ModelProto:
    consts = [numpy_helper.from_array(np.asarray(v), k) for k, v in initializers.items()]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name="y")], consts)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


# --- beyond the memory ------------------------------------------------------------------------------------------------
X = [info("x", F, [2, 3])]
IMAGE = [info("x", F, [1, 1, 2, 3])]
HUGE = {
    "ConstantOfShape": model([node("ConstantOfShape", ["s"], ["c"]), node("Add", ["c", "x"], ["y"])], [info("x", F, [1])], s=[1 << 40]),
    "Expand": model([node("Expand", ["x", "s"], ["e"]), node("Relu", ["e"], ["y"])], [info("x", F, [1])], s=[10**6, 10**6]),
    "Expand, 128-bit": model([node("Expand", ["x", "s"], ["y"])], [info("x", F, [1])], s=[1 << 62, 1 << 62]),
    "Tile": model([node("Tile", ["x", "r"], ["y"])], X, r=[10**12, 1]),
    "Tile, 64-bit": model([node("Tile", ["x", "r"], ["y"])], X, r=[1 << 62, 1 << 62]),
    "Pad": model([node("Pad", ["x", "p"], ["y"])], X, p=[0, 0, 10**12, 0]),
    "Resize": model([node("Resize", ["x", "", "s"], ["y"])], IMAGE, s=np.float32([1, 1, 1e6, 1e6])),
    "Resize, 128-bit": model([node("Resize", ["x", "", "s"], ["y"])], IMAGE, s=np.float32([1, 1, 1e30, 1e30])),
    "Upsample": model([node("Upsample", ["x", "s"], ["y"])], IMAGE, opset=9, s=np.float32([1, 1, 1e9, 1e9])),
    "OneHot": model([node("OneHot", ["i", "d", "v"], ["h"]), node("ReduceSum", ["h"], ["t"]), node("Add", ["t", "x"], ["y"])], X,
                    i=[0, 1], d=np.int64(10**12), v=np.float32([0, 1])),
    "ConvTranspose": model([node("ConvTranspose", ["x", "w"], ["y"], strides=[1 << 40, 1])], IMAGE, w=np.ones((1, 1, 1, 1), F32)),
    "broadcast": model([node("Add", ["x", "b"], ["y"])], [info("x", F, [10**7, 1])], b=np.ones((1, 10**7), F32)),
    "MatMul": model([node("MatMul", ["x", "b"], ["y"])], [info("x", F, [10**7, 1])], b=np.ones((1, 10**7), F32)),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", HUGE)
def test_a_value_beyond_the_memory_is_refused_with_its_node_and_bytes(name: str, target: str):
    with pytest.raises(OutOfMemoryError, match=r"node \d.*float32\[.*TiB \(\d+ bytes\); this machine has") as error:
        graphc.compile(HUGE[name], target=target)
    assert isinstance(error.value, MemoryError) and "bug" not in str(error.value)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Range"])
def test_so_is_one_whose_size_is_an_input(op: str, target: str):
    scalar = op == "Range"
    inputs = {"ConstantOfShape": ["s"], "Expand": ["x", "s"], "Range": ["zero", "s", "one"]}[op]
    consts = {"zero": np.int64(0), "one": np.int64(1), "x": np.ones(1, F32)}
    m = model([node(op, inputs, ["y"])], [info("s", I, [] if scalar else [1])], **consts)
    compiled = graphc.compile(m, target=target)
    assert compiled.run({"s": np.array(3) if scalar else np.int64([3])})["y"].shape == (3,)
    for size in (10**13, (1 << 63) - 1):
        with pytest.raises(OutOfMemoryError, match=f"{op} 'y'"):
            compiled.run({"s": np.array(size) if scalar else np.int64([size])})


@pytest.mark.parametrize("target", TARGETS)
def test_a_concatenation_that_doubles_itself(target: str):
    """Also while its sizes are symbols, whose text must not double with them."""
    steps = [node("Concat", [f"h{i}" if i else "x"] * 2, [f"h{i + 1}"], axis=0) for i in range(60)]
    m = model([*steps, node("Slice", ["h60", "a", "b"], ["y"])], [info("x", F, ["n", 3])], a=[0], b=[2])
    compiled = graphc.compile(m, target=target)
    with pytest.raises(OutOfMemoryError, match="Concat"):
        compiled.run({"x": np.ones((2, 3), F32)})


def test_shapes_given_to_plan_for():
    m = model([node("Relu", ["x"], ["y"])], [info("x", F, ["n", "m"])])
    with pytest.raises(OutOfMemoryError, match="'x' is float32"):
        graphc.compile(m, shapes={"x": (10**7, 10**7)})
    with pytest.raises(InputError, match="can't be"):
        graphc.compile(m, shapes={"x": (1 << 62, 1 << 62)})


@pytest.mark.parametrize("target", TARGETS)
def test_empty_values_of_large_dims_are_none_of_these(target: str):
    m = model([node("Expand", ["x", "s"], ["y"])], [info("x", F, [1])], s=[1 << 40, 0])
    assert graphc.compile(m, target=target)(np.ones(1, F32)).shape == (1 << 40, 0)
    m = model([node("Expand", ["x", "s"], ["y"])], [info("x", F, [1])], s=[1 << 62, 1 << 62, 0])
    with pytest.raises(OutOfMemoryError, match="no array can be"):
        graphc.compile(m, target=target)


@pytest.mark.parametrize("delta", [np.nan, 0.0])
def test_a_range_without_end(delta: float):
    m = model([node("Range", ["a", "n", "d"], ["y"])], [info("n", F, [])], a=F32(0), d=F32(delta))
    with pytest.raises(GraphcError, match="Range 'y'"):
        graphc.compile(m).run({"n": np.array(3, F32)})


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_system_refuses_while_a_file_is_read(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise MemoryError("no room for 4 GiB")

    monkeypatch.setattr(yaml_weights, "generator", full)
    text = b"graphc: 1\ninputs: {x: [n, 4]}\nnet:\n  - dense: {out: 3, from: x}\n"
    (path := tmp_path / "m.yaml").write_bytes(text)
    for use in (frontends.load, lambda p: graphc.compile(p, target=target)):
        with pytest.raises(OutOfMemoryError, match="no room for 4 GiB"):
            use(path)


def test_bytes_for_people():
    assert [format_bytes(n) for n in (5, 5 << 10, 5 << 30, 5 << 40)] == ["5 B", "5.0 KiB", "5.00 GiB", "5.00 TiB"]
    assert format_bytes(1 << 100) == "1.15e+18 TiB"


# --- very many --------------------------------------------------------------------------------------------------------
FOLDS = {"Sum": np.sum, "Mean": np.mean, "Max": np.max, "Min": np.min}


@pytest.mark.parametrize("disabled", [(), ("canonicalize",)])
@pytest.mark.parametrize("count", [64, 65, 320, 1000])
@pytest.mark.parametrize("op", FOLDS)
def test_elementwise_operators_of_many_operands(op: str, count: int, disabled: tuple):
    """Shapes that are broadcast among them. What differs from one kernel is nothing: the order is the same."""
    rng, b = np.random.default_rng(count), Builder("many")
    shapes = [(3, 1, 5), (4, 5), (), (3, 4, 1)]
    xs = [rng.standard_normal(shapes[i % 4]).astype(F32) for i in range(count)]
    graph = b.build({"y": b.add(op, *(b.input(f"x{i}", F32, x.shape) for i, x in enumerate(xs)))})
    actual = graphc.compile(graph, threads=1, disabled=disabled).run({f"x{i}": x for i, x in enumerate(xs)})["y"]
    want = FOLDS[op](np.stack([np.broadcast_to(x, (3, 4, 5)) for x in xs]).astype(np.float64), 0)
    np.testing.assert_allclose(actual, want, rtol=0, atol=count * 2e-7 * (2 if op == "Sum" else 1))


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_narrow_floats_are_rounded_once(op: str):
    b, rng = Builder("narrow"), np.random.default_rng(0)
    xs = [rng.uniform(0, 1, 50).astype(np.float16) for _ in range(200)]
    graph = b.build({"y": b.add(op, *(b.input(f"x{i}", np.float16, (50,)) for i in range(200)))})
    actual = graphc.compile(graph, threads=1).run({f"x{i}": x for i, x in enumerate(xs)})["y"]
    want = FOLDS[op](np.stack(xs).astype(np.float64), 0)
    assert actual.dtype == np.float16
    np.testing.assert_allclose(actual.astype(np.float64), want, rtol=6e-4)  # half a unit of float16's last place


@pytest.mark.parametrize("op", ["Concat", "Split"])
def test_many_parts(op: str):
    x = np.arange(600, dtype=F32).reshape(300, 2)
    if op == "Split":
        parts = [f"p{i}" for i in range(300)]
        m = model(
            [node("Split", ["x"], parts, axis=0), node("Concat", parts[::-1], ["y"], axis=0)],
            [info("x", F, [300, 2])],
            opset=13,
        )
        np.testing.assert_array_equal(graphc.compile(m, threads=1)(x), x[::-1])
        return
    m = model(
        [node("Concat", [f"x{i}" for i in range(300)], ["y"], axis=1)], [info(f"x{i}", F, [1, 2]) for i in range(300)]
    )
    np.testing.assert_array_equal(
        graphc.compile(m, threads=1).run({f"x{i}": x[i : i + 1] for i in range(300)})["y"], x.reshape(1, -1)
    )


@pytest.mark.parametrize("op, arity", [("Add", 2), ("Max", 4), ("Mul", 2)])
def test_expressions_that_read_a_value_several_times(op: str, arity: int):
    """Each level of such a chain doubles the tree, or worse, though there are few nodes."""
    b = Builder("doubling")
    y = b.input("x", F32, (3,))
    for _ in range(40):
        y = b.add(op, *[y] * arity)
    data = np.float32([0.5, 1, -1])
    want = {"Add": data * 2.0**40, "Max": data, "Mul": np.float32([0, 1, 1])}[op]
    np.testing.assert_array_equal(graphc.compile(b.build({"y": y}), threads=1)(data), want)


def test_trees_are_measured_by_their_parts():
    x = expr.arg(0, F32)
    for _ in range(200):
        x = x + x
    assert fuse.size(x) == 2**201 - 1 and fuse.depth(x) == 201


@pytest.mark.parametrize("op", ["Relu", "Sin", "Add", "Identity", "Transpose"])
def test_long_chains(op: str):
    nodes = []
    for i in range(1200):
        inputs = ["x" if i == 0 else f"h{i}"] + (["b"] if op == "Add" else [])
        nodes.append(
            node(op, inputs, ["y" if i == 1199 else f"h{i + 1}"], **({"perm": [1, 0]} if op == "Transpose" else {}))
        )
    x = np.random.default_rng(0).uniform(0, 1, (2, 3)).astype(F32)
    y = graphc.compile(model(nodes, X, b=np.ones(3, F32)), threads=1)(x)
    want = x.astype(np.float64)
    if op == "Sin":
        for _ in range(1200):
            want = np.sin(want)
    np.testing.assert_allclose(y, want + 1200 * (op == "Add"), rtol=1e-4)


def test_symbols_stay_short():
    n = Sym("n")
    long = n
    for _ in range(80):
        long = long + long
    assert len(str(long)) < 300
    again = n
    for _ in range(80):
        again = again + again
    assert long == again and long != long + 1  # equal expressions are equal
    assert "?" in str(sum([Sym("?")] * 200, start=Sym("?")))  # unknown stays unknown


# --- very deep --------------------------------------------------------------------------------------------------------
def nested(levels: int) -> onnx.ModelProto:
    m = model([], [info("x", F, [2]), info("c", TensorProto.BOOL, [])])
    graph = m.graph
    for i in range(levels):
        n = graph.node.add(op_type="If", input=["c"], output=["r" if i else "y"])
        for key in ("else_branch", "then_branch"):
            a = n.attribute.add(name=key, type=onnx.AttributeProto.GRAPH)
            a.g.name, graph = key, a.g
            graph.output.add(name="r")
            if key == "else_branch":
                graph.node.add(op_type="Neg", input=["x"], output=["r"])
    graph.node.add(op_type="Abs", input=["x"], output=["r"])
    return m


def test_branches_within_branches():
    x = np.float32([1, -2])
    compiled = graphc.compile(nested(20))
    np.testing.assert_array_equal(compiled.run({"x": x, "c": np.array(True)})["y"], np.abs(x))
    for levels in (60, 2000):  # protobuf reads 33 of them; a message that is not written has no such limit
        m = nested(levels)
        with pytest.raises(LoadError, match="nested too deeply"):
            graphc.compile(m.SerializeToString())
    with pytest.raises(LoadError, match="nested too deeply"):
        graphc.compile(m, cache=False)
