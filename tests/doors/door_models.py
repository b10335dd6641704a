"""Small models, as bytes of ONNX files."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

F, I, S, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
info = helper.make_tensor_value_info


def bytes_of(
    nodes: list, inputs: list, outputs: list, constants: tuple = (), opset: int = 18, ir: int = 8, **more
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, [*constants], doc_string="two operators")
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir, producer_name="a test", **more)
    helper.set_model_props(model, {"author": "nobody", "characters": "äöü"})
    return model.SerializeToString()


def relu(shape: list | None, to: list | None = None) -> bytes:
    return bytes_of([helper.make_node("Relu", ["x"], ["y"])], [info("x", F, shape)], [info("y", F, to)])


def node(op: str, *inputs: str, **attributes: object) -> bytes:
    """One operator of `x`, float32[n, 3], and what else it reads."""
    return bytes_of(
        [helper.make_node(op, ["x", *inputs], ["y"], **attributes)], [info("x", F, ["n", 3])], [info("y", F, None)]
    )


def chain(ir: int = 8) -> bytes:
    """y = x + b, z = relu(y): b has a default, which can be given."""
    nodes = [helper.make_node("Add", ["x", "b"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    inputs = [info("x", F, ["n", 3, None]), info("b", F, [1])]
    outputs = [info("y", F, None), info("z", F, ["n", 3, "m"])]
    default = helper.make_tensor("b", F, [1], [1.0])
    return bytes_of(nodes, inputs, outputs, (default,), ir=ir, domain="here", model_version=7, doc_string="what it is")


def strings() -> bytes:
    return bytes_of([helper.make_node("Identity", ["x"], ["y"])], [info("x", S, ["n"])], [info("y", S, None)])


def sequence() -> bytes:
    held = [helper.make_tensor_sequence_value_info(name, F, None) for name in ("s", "q")]
    return bytes_of([helper.make_node("SequenceInsert", ["s", "x"], ["q"])], [held[0], info("x", F, ["n"])], [held[1]])


def maps() -> bytes:
    of = helper.make_map_type_proto(I, helper.make_tensor_type_proto(F, None))
    result = helper.make_value_info("y", helper.make_sequence_type_proto(of))
    zipped = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[1, 2])
    return bytes_of([zipped], [info("x", F, ["n", 2])], [result])


def optional() -> bytes:
    given = helper.make_value_info("o", helper.make_optional_type_proto(helper.make_tensor_type_proto(F, [2])))
    return bytes_of([helper.make_node("OptionalHasElement", ["o"], ["y"])], [given], [info("y", B, None)])


def convolutions() -> bytes:
    """Convolutions with a batch norm, and a product: what optimisations change."""
    rng = np.random.default_rng(3)
    sizes = {"w0": (16, 3, 3, 3), "s": (16,), "t": (16,), "m": (16,), "w1": (16, 16, 3, 3), "w2": (16, 5)}
    arrays = {k: rng.normal(0, 0.3, v) for k, v in sizes.items()} | {"v": rng.random(16) + 0.5}
    constants = tuple(helper.make_tensor(k, F, v.shape, v.ravel()) for k, v in arrays.items())
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["a", "s", "t", "m", "v"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w1"], ["d"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "w2"], ["g"]),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    return bytes_of(nodes, [info("x", F, ["n", 3, 24, 24])], [info("y", F, ["n", 5])], constants)
