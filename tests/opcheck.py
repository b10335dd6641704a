"""Running an operator's sample cases: through its reference, through onnx.reference and through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from graphc.graph import Builder, Node
from graphc.interpret import run_node
from graphc.op import Case, Const, Op, get_op
from graphc.testing import Use, use_of
from graphc.testing.checking import expanded as testing_expanded
from graphc.types import TensorType, dtype_name

RUNTIME_OPSET = 22
RUNTIME_OPSETS = {"GlobalLpPool": 21}  # operators that ONNX Runtime has in an older form only


def cases(*names: str) -> list:
    """Every sample case of the operators as a pytest parameter (name, case), with an id to select it by."""
    return [pytest.param(n, c, id=f"{n}-{i}") for n in names for i, c in enumerate(get_op(n).samples.cases)]


def operands(op: Op, case: Case, dtype: str | None = None, seed: int = 0) -> list[np.ndarray | None]:
    """Random operands of a case; `dtype` (default: the samples' first) for those that do not name theirs."""
    return list(use_of(op, case, dtype or op.samples.dtypes[0], seed).arrays)


def used(name: str, case: Case, arrays: Sequence[np.ndarray | None]) -> Use:
    """The case with these operands: constants for what the operator reads when compiling and for Const operands."""
    op = get_op(name)
    constants = {i for i, spec in enumerate(case.inputs) if isinstance(spec, Const) or i in op.values}
    return Use(op, tuple(arrays), case.attrs, case.n_outputs, frozenset(constants))


def build(name: str, case: Case, arrays: Sequence[np.ndarray | None]) -> tuple[Builder, Node]:
    """A builder holding the one node."""
    b, use = Builder("case"), used(name, case, arrays)
    b.add(name, *use.operands(b), name="node", outputs=case.n_outputs, **case.attrs)
    return b, b.nodes[-1]


def reference(name: str, case: Case, arrays: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
    """Results of the operator's reference, whose dtypes and shapes are checked against the inferred ones."""
    return run_node(build(name, case, arrays)[1], arrays)


def expanded(name: str, case: Case, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """Results of the operator's expansion, node by node, or None where it has none for this case."""
    return testing_expanded(used(name, case, arrays))


def onnx_model(
    name: str, case: Case, arrays: Sequence[np.ndarray | None], opset: int, domain: str = ""
) -> onnx.ModelProto:
    """The case as an ONNX model of one node. Attributes that the case leaves out stay out."""
    _, node = build(name, case, arrays)
    attrs = {k: _onnx_attr(node.attrs[k]) for k in case.attrs}
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    outs = [f"y{i}" for i in range(case.n_outputs)]
    proto = helper.make_node(name, names, outs, domain=domain, **attrs)
    inputs = [_info(n, TensorType(a.dtype, a.shape)) for n, a in zip(names, arrays) if a is not None]
    graph = helper.make_graph([proto], "case", inputs, [_info(o, v.type) for o, v in zip(outs, node.outputs)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=10)


def _onnx_attr(value):
    if isinstance(value, np.dtype):
        return helper.np_dtype_to_tensor_dtype(value)
    return int(value) if isinstance(value, bool) else value


def _info(name: str, t: TensorType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(t.dtype), [d if isinstance(d, int) else str(d) for d in t.shape]
    )


def onnx_reference(name: str, case: Case, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Results of onnx.reference at the newest opset."""
    model = onnx_model(name, case, arrays, onnx.defs.onnx_opset_version())
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
    return ReferenceEvaluator(model).run(None, feeds)


def onnx_runtime(name: str, case: Case, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Results of ONNX Runtime. Skips the test where it is not installed."""
    ort = pytest.importorskip("onnxruntime")
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    opset = RUNTIME_OPSETS.get(name, RUNTIME_OPSET)
    model = onnx_model(name, case, arrays, opset).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
    return session.run(None, feeds)


def agree(actual: Sequence[np.ndarray], want: Sequence[np.ndarray], tolerance: float = 1e-5) -> None:
    """Same number of results, dtypes, shapes; values within `tolerance` of the largest magnitude (integers equal)."""
    assert len(actual) == len(want)
    for a, w in zip(actual, want):
        a, w = np.asarray(a), np.asarray(w)
        assert dtype_name(a.dtype) == dtype_name(w.dtype)
        assert a.shape == w.shape
        if a.dtype.kind in "iub":
            np.testing.assert_array_equal(a, w)
        else:
            a, w = a.astype(np.float64), w.astype(np.float64)
            finite = np.abs(w[np.isfinite(w)])
            np.testing.assert_allclose(a, w, rtol=0, atol=tolerance * max(1.0, finite.max(initial=0.0)))


def against_peers(name: str, case: Case, *, wrong: Sequence[str] = (), tolerance: float = 1e-5) -> None:
    """The operator's reference agrees with every peer that takes the case ('onnx', 'runtime'), and one does.

    `wrong` names a peer whose answer is known to contradict the specification.
    """
    arrays = operands(get_op(name), case)
    actual = reference(name, case, arrays)
    takers = 0
    for peer, run in (("onnx", onnx_reference), ("runtime", onnx_runtime)):
        if peer in wrong:
            continue
        try:
            want = run(name, case, arrays)
        except Exception:  # each peer has its own kind of error for what it lacks
            continue
        agree(actual, want, tolerance)
        takers += 1
    assert takers, "no peer takes this case: compare it with something else"


def wider(array: np.ndarray | None) -> np.ndarray | None:
    """float64 in place of a float."""
    return array.astype(np.float64) if array is not None and array.dtype.kind == "f" else array
