"""The verifier names what is broken."""

from dataclasses import replace

import numpy as np
import pytest

from graphc.attrs import Attrs
from graphc.graph import Builder, Graph, Node, Value, constant
from graphc.op import Attr, Op, get_op
from graphc.types import Blocked, TensorType
from graphc.verify import BrokenInvariant, verify

F32 = np.dtype("float32")


def small() -> Graph:
    """y = leaky(x) + relu(x)"""
    b = Builder("small")
    x = b.input("x", F32, (2, 3))
    return b.build({"y": b.add("Add", b.add("LeakyRelu", x, name="leaky"), b.add("Relu", x, name="relu"), name="sum")})


def with_node(graph: Graph, index: int, **changes) -> Graph:
    nodes = list(graph.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(graph, nodes=tuple(nodes))


def broken(graph: Graph, match: str) -> None:
    with pytest.raises(BrokenInvariant, match=match):
        verify(graph)


def test_a_good_graph_passes():
    verify(small())


def test_the_pass_is_named():
    g = small()
    with pytest.raises(BrokenInvariant, match="after pass 'fold_constants'"):
        verify(replace(g, nodes=g.nodes[:2]), after="fold_constants")


def test_order():
    g = small()
    broken(replace(g, nodes=g.nodes[::-1]), "Add 'sum' uses 'leaky' before it is made")
    broken(replace(g, nodes=g.nodes[1:]), "Add 'sum' uses 'leaky' that nothing makes")
    broken(replace(g, nodes=g.nodes[:2]), "nothing makes the result 'sum'")
    broken(replace(g, nodes=(*g.nodes, g.nodes[0])), "LeakyRelu 'leaky' makes 'leaky' again")
    broken(with_node(g, 0, outputs=g.inputs), "LeakyRelu 'leaky' makes 'x' again")
    data = constant("leaky", np.zeros((2, 3), F32))
    broken(with_node(g, 0, outputs=(data,)), "makes the constant 'leaky'")


def test_names():
    g = small()
    double = Node(get_op("Relu"), g.inputs, (Value("relu", g.inputs[0].type),), Attrs(), "other")
    broken(replace(g, nodes=(*g.nodes, double)), "two values are named 'relu'")
    broken(with_node(g, 0, name="relu"), "two nodes are named 'relu'")
    verify(replace(g, outputs=g.outputs * 2, output_names=("y", "y")))  # one value twice
    broken(replace(g, outputs=(*g.outputs, *g.inputs), output_names=("y", "y")), "two results are named 'y'")
    broken(replace(g, output_names=("y", "z")), "1 results have 2 names")


def test_a_constant_may_share_its_name_with_the_input_that_it_fixes_but_not_with_a_made_value():
    b = Builder()
    x = b.input("x", F32, (3,))
    verify(b.build([b.add("Add", x, constant("x", np.zeros(3, F32)), name="sum")]))
    broken(b.build([b.add("Add", x, constant("sum", np.zeros(3, F32)), name="again")]), "two values are named 'sum'")


def test_operands_and_attributes():
    g = small()
    broken(with_node(g, 1, inputs=(None,)), "Relu 'relu' lacks its operands x")
    broken(with_node(g, 1, inputs=()), "Relu 'relu' lacks its operands x")
    broken(with_node(g, 1, inputs=g.inputs * 2), "Relu 'relu' has 2 operands, its operator takes 1")
    broken(with_node(g, 0, attrs={}), "LeakyRelu 'leaky' lacks its attributes alpha")
    broken(with_node(g, 0, attrs={"alpha": "steep"}), "'leaky' is not valid: .*alpha")
    broken(with_node(g, 1, outputs=(*g.nodes[1].outputs, Value("extra", None))), "has 2 outputs, its type rule knows 1")


def test_types():
    g = small()
    broken(
        with_node(g, 1, outputs=(Value("relu", TensorType(F32, (3, 2))),)),
        r"makes 'relu' of type float32\[3, 2\].* float32\[2, 3\]",
    )
    broken(with_node(g, 1, outputs=(Value("relu", None),)), r"'relu' of type None")
    x = Value("x", TensorType(F32, (2, 4)))
    other = Node(get_op("Add"), (x, g.nodes[0].output), (Value("sum", g.nodes[2].output.type),), Attrs(), "sum")
    broken(
        replace(g, inputs=(*g.inputs, x), nodes=(g.nodes[0], other), outputs=other.outputs),
        "'sum' is not valid: .*broadcast",
    )


def test_types_that_wait_for_binding_pass():
    relu = Node(get_op("Relu"), (Value("x", None),), (Value("y", None),), Attrs(), "relu")
    verify(Graph("g", relu.inputs, relu.outputs, (relu,), ("y",)))


def test_a_layout_is_not_the_type_rules_business():
    relu = small().nodes[1].output
    blocked = replace(relu, type=replace(relu.type, layout=Blocked(16)))
    b = Builder()
    x = b.input("x", F32, (2, 3))
    node = Node(get_op("Relu"), (x,), (blocked,), Attrs(), "relu")
    verify(Graph("g", (x,), (blocked,), (node,), ("y",)))


def test_constants():
    b = Builder()
    x = b.input("x", F32, (3,))
    wrong = Value("w", TensorType(F32, (4,)), constant("w", np.zeros(3, F32)).data)
    node = Node(get_op("Add"), (x, wrong), (Value("y", TensorType(F32, (3,))),), Attrs(), "sum")
    broken(
        Graph("g", (x,), node.outputs, (node,), ("y",)), r"constant 'w' holds float32\[3\] but has type float32\[4\]"
    )
    writeable = replace(wrong, type=TensorType(F32, (3,)), data=np.zeros(3, F32))
    node = replace(node, inputs=(x, writeable))
    broken(Graph("g", (x,), node.outputs, (node,), ("y",)), "constant 'w' is writeable")


def test_every_broken_invariant_is_reported():
    g = with_node(small(), 0, name="relu", attrs={})
    with pytest.raises(BrokenInvariant) as error:
        verify(g)
    assert "two nodes" in str(error.value) and "alpha" in str(error.value)


def test_subgraphs_are_verified():
    relu = get_op("Relu")
    holder = Op("Holder", ("x",), relu.infer, relu.reference, {"body": Attr("graph")})
    good = small()
    broken_body = replace(good, nodes=good.nodes[:2])
    for body in (good, broken_body):
        b = Builder("outer")
        graph = b.build([b.add(holder, b.input("x", F32, (2, 3)), body=body)])
        if body is good:
            verify(graph)
        else:
            broken(graph, "graph 'small' is broken")
