"""What must be the same on every target: the operators that graphc/lower lowers, through the verbs of each backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from suite import OPS, as_inputs, axes, check, compiled, host_reasons, results, use, uses_of

import graphc
from graphc import backends
from graphc.errors import InputError
from graphc.interpret import run_graph
from graphc.lower.registry import NEUTRAL, load
from graphc.op import Family
from graphc.testing import Use, broadcasts, cases, use_of, uses

load("graphc.lower")
TARGETS = ["cpu", "loops"]
ELEMENTWISE = {n for n, op in OPS.items() if op.scalar is not None}
LOWERED = sorted((NEUTRAL.operators() | ELEMENTWISE) - {"Raise"})  # an error in the place of a branch


@pytest.fixture(autouse=True)
def loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """loops_backend.py, as an installed distribution would bring it."""
    monkeypatch.setattr(backends, "_added", lambda: {"loops": "loops_backend"})


def test_lenet_on_another_backend_with_the_planned_arena():
    path = "examples/zoo/lenet5.yaml"
    model = graphc.compile(path, target="loops")
    x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    want = graphc.compile(path, target="reference")(x)
    np.testing.assert_allclose(model(x), want, rtol=1e-4, atol=1e-5)  # float32 sums of 400 products
    plan = model.plan({"image": x.shape})
    assert not [s for s in plan.steps if s.host] and {"window", "matrix_product"} <= {s.kernel for s in plan.steps}
    memory = plan.memory
    assert memory.lower_bound <= memory.arena < memory.total  # buffers share memory


@pytest.mark.parametrize("name", LOWERED)
def test_every_case_and_dtype(name: str):
    """tests/cpu/test_cpu_ops.py has the same for the CPU."""
    op = OPS[name]
    first = uses_of(name)
    others = [as_inputs(use_of(op, cases(op)[0], dtype, seed=1)) for dtype in op.samples.dtypes[1:]]
    for one in (*first, *others):
        model = check(one, "loops")
        assert host_reasons(model, one) <= {"the shape of its result follows from data"}, one


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if broadcasts(op) and op.family is not Family.TABLE])
@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_elementwise_operators_broadcast_and_take_special_values(name: str, target: str, data):
    check(data.draw(uses(OPS[name]), "use"), target)


@pytest.mark.parametrize("target", ["reference", *TARGETS])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmax_of_infinities(name: str, target: str):
    """As ONNX Runtime and onnx.reference have it: a row with an infinity, with nothing but minus infinity, or with a NaN is
    NaN; minus infinity in another row has the probability 0."""
    inf, nan = np.inf, np.nan
    x = np.array([[1, 2, inf], [1, -inf, 0], [-inf, -inf, -inf], [inf, inf, -inf], [nan, 1, 2]], np.float32)
    (y,) = results(compiled(use(name, x), target), use(name, x))
    row = np.array([1 / (1 + np.exp(-1)), 0, 1 / (1 + np.exp(1))])
    with np.errstate(divide="ignore"):
        want = np.log(row) if name == "LogSoftmax" else row
    np.testing.assert_allclose(y[1], want, rtol=1e-6)
    assert np.isnan(np.delete(y, 1, 0)).all()


@pytest.mark.parametrize("target", TARGETS)
def test_top_k_and_extremes_of_ties_and_nan(target: str):
    x = np.random.default_rng(3).integers(-2, 3, (6, 90)).astype(np.float32)
    x[1, 7] = x[1, 50] = x[4, 0] = np.nan
    x[2] = np.where(x[2] == 0, -0.0, x[2])
    for largest in (True, False):
        for axis in (0, 1):
            check(use("TopK", x, axes(5), constants=[1], n_outputs=2, axis=axis, largest=largest), target)
    for name in ("ArgMax", "ArgMin"):
        for axis in (0, 1):
            for last in (True, False):
                check(use(name, x, axis=axis, select_last_index=last), target)


# --- positions out of range -------------------------------------------------------------------------------------------
X = np.arange(12, dtype=np.float32).reshape(3, 4)
OUT_OF_RANGE = [
    (use("Gather", X, axes(0, 2, 3, 9)), "index 3 at [2] is out of range for axis 0", "-3 to 2"),
    (use("Gather", X, np.array([[-5]], np.int32), axis=1), "index -5 at [0, 0] is out of range for axis 1", "-4 to 3"),
    (use("Gather", X[:0], axes(2, 4), axis=1), "index 4 at [1] is out of range for axis 1", "-4 to 3"),
    (use("GatherElements", X, np.array([[0, 1, -4, 0]])), "index -4 at [0, 2] is out of range for axis 0", "-3 to 2"),
    (use("GatherND", X, np.array([[2, 3], [0, 4]])), "index 4 at [1, 1] is out of range for axis 1", "-4 to 3"),
    (use("ScatterElements", X, np.array([[0, 7]]), X[:1, :2]), "index 7 at [0, 1] is out of range for axis 0", "-3 to 2"),
    (use("ScatterND", X, np.array([[2**40, 0]]), X[0, :1]), f"index {2**40} at [0, 0] is out of range for axis 0", "-3 to 2"),
    (use("ReverseSequence", X, axes(1, 5, 3, 0)), "sequence length 5 at [1] is out of range for axis 0", "0 to 3"),
    (
        use("MaxUnpool", X[None, None, :1, :1], np.array([[[[4]]]]), kernel_shape=(2, 2), strides=(2, 2)),
        "index 4 at [0, 0, 0, 0] is out of range for the flat result", "0 to 3",
    ),
]  # fmt: skip


@pytest.mark.parametrize("target, threads", [("cpu", 1), ("cpu", 2), ("loops", 1)])
@pytest.mark.parametrize("case, message, valid", OUT_OF_RANGE, ids=[case.op.name for case, _, _ in OUT_OF_RANGE])
def test_positions_out_of_range_are_errors_and_touch_nothing(
    case: Use, message: str, valid: str, target: str, threads: int
):
    model = compiled(case, target, threads)
    for _ in range(2):  # a report does not outlive its run
        with pytest.raises(InputError) as error:
            results(model, case)
        assert error.value.message == message
        assert valid in error.value.hint
        assert (error.value.op, error.value.node) == (case.op.name, "node")
    good = replace(case, arrays=(case.arrays[0], np.zeros_like(case.arrays[1]), *case.arrays[2:]))
    for a, w in zip(results(model, good), run_graph(good.graph(), good.inputs)):
        np.testing.assert_array_equal(a, w)


@pytest.mark.parametrize("target", ["reference", *TARGETS])
def test_positions_in_an_empty_axis_are_errors_though_nothing_is_read(target: str):
    case = use("Gather", np.zeros((3, 0, 0), np.float32), np.array(0), axis=-1)
    with pytest.raises(InputError, match=r"index 0 at \[\] is out of range for axis"):
        results(compiled(case, target), case)
