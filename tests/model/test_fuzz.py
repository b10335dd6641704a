"""Random models on every engine; and what runs them: tolerances, small failing models, processes that end."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
from fuzz import campaign
from fuzz.campaign import Plan, run
from fuzz.check import attempt, smallest
from fuzz.compare import difference
from fuzz.draft import Draft, Shared
from fuzz.draws import F32, Draw
from fuzz.engines import ENGINES, RUNTIME
from fuzz.evaluate import Reject, Tensor, evaluate, known
from fuzz.generate import first_inputs, generate, open_dims
from fuzz.peers import reasons
from fuzz.steps import Step, load
from fuzz_engines import FAULTY
from onnx import helper

SEED, MODELS = 0, 300
WITH_FAULTY = 150  # of the first models, some have a Tanh


def test_random_models_on_every_engine(tmp_path: Path):
    """Each model on the reference, on ONNX Runtime, and on one of the CPU's instruction sets in turn; `python -m tests.fuzz`
    runs more of them, on all."""
    summary = run(Plan(SEED, range(MODELS), ENGINES, tmp_path, rotate=True))
    assert not summary.findings, f"\n{summary}"
    assert len(summary.seen) == MODELS
    assert len(summary.operators) > 130
    assert summary.models["reference"] == MODELS
    assert all(summary.models[name] == MODELS // 3 for name in ENGINES if name.startswith("cpu"))
    assert summary.models[RUNTIME] > 0.7 * MODELS
    assert all(0.05 < ratio < 1 for ratio in summary.ratios.values()), "the tolerances are no measure of the errors"


def test_the_page_names_every_explained_difference():
    page = (Path(__file__).parents[2] / "docs" / "random-models.md").read_text()
    missing = [name for name, reason in reasons().items() if f"| {name} | {reason} |" not in page]
    assert not missing


# --- models -----------------------------------------------------------------------------------------------------------
def test_a_seed_and_a_number_give_one_model():
    first, again, other = generate(3, 5), generate(3, 5), generate(3, 6)
    assert first.model == again.model and first.options == again.options
    assert first.model != other.model
    for a, b in zip(first.feeds, again.feeds):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[n], b[n], equal_nan=a[n].dtype.kind == "f") for n in a)


def test_models_are_valid_and_finite():
    for i in range(30):
        case = generate(4, i)
        onnx.checker.check_model(case.model)
        for name in case.outputs:
            t = case.tensors[name]
            assert all(w[0].dtype.kind in "fiub" for w in t.worlds)
            assert case.options.winograd == 0 or all(
                np.isfinite(w[0]).all() for w in t.worlds if w[0].dtype.kind == "f"
            )


def draft(i: int, opset: int, kind: str = "any") -> Draft:
    """A model with its inputs and no nodes."""
    draw = Draw(1, i)
    d = Draft(Shared(draw, Draw(2, i), opset, open_dims(draw), special=False))
    first_inputs(d, kind, F32)
    return d


@pytest.mark.sample(12)
@pytest.mark.parametrize("step", [s for steps in load().values() for s in steps], ids=lambda s: s.run.__name__)
def test_each_step_gives_models(step: Step):
    kinds = ("any", "sampled", "microsoft", "small", "quantized", "integers")
    opsets = [o for o in (7, 9, 10, 13, 17, 21, 23, 24, 26) if o >= step.opset]
    for i in range(200):
        d = draft(i, opsets[i % len(opsets)], kinds[i % len(kinds)])
        with suppress(Reject), d.attempt():
            step.run(d)
            if d.nodes:
                return
    pytest.fail("no draw of it was taken")


X = np.arange(-6, 6, dtype=F32).reshape(2, 2, 3)


@pytest.mark.parametrize(
    ("op", "opset", "constants", "attrs", "want"),
    [
        ("Unsqueeze", 12, [[0]], {}, X[None]),
        ("Unsqueeze", 13, [[0]], {}, X[None]),
        ("Slice", 9, [[1], [3], [2]], {}, X[:, :, 1:3]),
        ("Slice", 10, [[0], [3], [2], [2]], {}, X[:, :, ::2]),
        ("ReduceSum", 11, [[1]], {"keepdims": 0}, X.sum(1)),
        ("ReduceMax", 17, [[-1]], {}, X.max(2, keepdims=True)),
        ("ReduceMax", 10, [], {"axes": [-1]}, X.max(2, keepdims=True)),
        ("Pad", 10, [[0, 0, 1, 0, 0, 0], 2.0], {}, np.pad(X, ((0, 0), (0, 0), (1, 0)), constant_values=2)),
        ("Clip", 10, [-1.0, 2.0], {}, X.clip(-1, 2)),
        ("Split", 12, [[1, 2]], {"axis": -1}, X[:, :, :1]),
        ("TopK", 9, [[1]], {"axis": 2}, X.max(2, keepdims=True)),
        ("Concat", 10, [], {"axis": -1}, X),
    ],
)
def test_older_opsets_have_their_own_form(op: str, opset: int, constants: list, attrs: dict, want: np.ndarray):
    """A node of any opset is written in that opset's form, and means the same."""
    d = draft(0, opset)
    x = d.input_of([X] * d.shared.worlds, X.shape)
    operands = [d.const(c, np.int64 if isinstance(c, list) else F32) for c in constants]
    y = d.node(op, x, *operands, outputs=2 if op in ("Split", "TopK") else 1, **attrs)
    y = y[0] if isinstance(y, tuple) else y
    np.testing.assert_array_equal(y.native(0), want)
    onnx.checker.check_node(d.nodes[-1], checker_context(opset))


def checker_context(opset: int) -> onnx.checker.C.CheckerContext:
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 10, {"": opset}
    return context


def test_what_an_older_opset_lacks_is_rejected():
    d = draft(0, 9)
    x = d.input_of([X] * d.shared.worlds, X.shape)
    with pytest.raises(Reject):
        d.node("Slice", x, *(d.ints(i) for i in (0, 3, 2, 2)))
    with pytest.raises(Reject):
        d.node("Clip", x, d.node("ReduceMin", x, keepdims=0))


def test_values_that_are_no_tensors_pass_between_nodes_only():
    d = draft(0, 17)
    x = d.input_of([X] * d.shared.worlds, X.shape)
    parts = d.proto("SplitToSequence", [x], [True], {"axis": 0})
    joined = d.proto("ConcatFromSequence", parts.output, [True], {"axis": 0})
    (y,) = d.unit([parts, joined], *joined.output)
    np.testing.assert_array_equal(y.native(0), X)
    assert y.certain and parts.output[0] not in d.tensors


# --- tolerances -------------------------------------------------------------------------------------------------------
def node(op: str, *arrays: np.ndarray, **attrs) -> Tensor:
    """The result of one node."""
    names = [f"x{i}" for i in range(len(arrays))]
    operands = {n: known(n, a, 1, constant=False) for n, a in zip(names, arrays)}
    return evaluate(helper.make_node(op, names, ["y"], **attrs), operands, 1, 21, Draw(0))[0]


def rng_array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(F32)


@pytest.mark.parametrize(
    ("make", "compute"),
    [
        (lambda a: node("MatMul", a, a.T.copy()), lambda a: a @ a.T),
        (lambda a: node("Softmax", a), lambda a: np.exp(a) / np.exp(a).sum(-1, keepdims=True)),
        (lambda a: node("ReduceSum", a, keepdims=0), lambda a: np.sum(a[::-1, ::-1])),
        (lambda a: node("Mul", a, a), lambda a: a * a),
        (lambda a: node("Exp", a), lambda a: np.exp(a)),
    ],
)
def test_float32_is_inside_the_tolerance_and_a_thousandth_is_not(make: Callable, compute: Callable):
    a = rng_array(17, 33)
    want, got = make(a), np.asarray(compute(a), F32)
    assert difference(want, 0, got, signs=False)[0] == ""
    wrong = got.copy()
    wrong.flat[0] += np.abs(got).max() * F32.type(1e-3)
    assert "1 of" in difference(want, 0, wrong, signs=False)[0]


def test_a_cancellation_widens_the_tolerance():
    """x·0.3 + 100 - 100 is off by what 100 rounds to; x + 100 - 100 of quarters is exact."""
    a = rng_array(9)
    third, hundred = np.full((), 0.3, F32), np.full((), 100, F32)
    operands = {n: known(n, v, 1, constant=False) for n, v in (("x0", a), ("x1", third), ("x2", hundred))}
    for op, inputs, y in (("Mul", ["x0", "x1"], "p"), ("Add", ["p", "x2"], "s"), ("Sub", ["s", "x2"], "y")):
        operands[y] = evaluate(helper.make_node(op, inputs, [y]), operands, 1, 21, Draw(0))[0]
    got = a * third + hundred - hundred
    assert difference(operands["y"], 0, got, signs=False)[0] == ""
    assert np.abs(got - a * third).max() > 1e-6
    quarters = np.round(a * 4) / 4
    assert node("Add", quarters, np.full((), 100, F32)).certain
    assert not node("Add", a, np.full((), 100, F32)).certain


def test_a_jump_that_rounding_decides_is_rejected():
    third = np.array([1.0], F32) / 3
    tripled = node("Mul", third, np.array([3.0], F32))
    with pytest.raises(Reject):
        evaluate(helper.make_node("Floor", ["t"], ["y"]), {"t": tripled}, 1, 21, Draw(0))
    assert node("Floor", np.array([0.5, 1.0], F32)).certain


@pytest.mark.parametrize(
    ("got", "what"),
    [
        ([0.0, np.nan, np.inf, 1.0], ""),
        ([0.0, np.nan, -np.inf, 1.0], "NaN or infinity"),
        ([0.0, 1.0, np.inf, 1.0], "NaN or infinity"),
        ([0.0, np.nan, np.inf, np.nan], "NaN or infinity"),
        ([-0.0, np.nan, np.inf, 1.0], "sign of zero"),
        ([0.0, np.nan, np.inf], "has shape"),
    ],
)
def test_what_differs(got: list[float], what: str):
    want = known("y", np.array([0.0, np.nan, np.inf, 1.0], F32), 1)
    found, _ = difference(want, 0, np.array(got, F32), signs=True)
    assert found.startswith(what) and bool(found) == bool(what)
    assert difference(want, 0, np.array(got, np.float64), signs=True)[0].startswith("is float64")


# --- faults -----------------------------------------------------------------------------------------------------------
def faulty() -> int:
    """A model that has the operator which the engines of fuzz_engines.py get wrong, among others."""
    return next(i for i in range(WITH_FAULTY) if has_faulty(i) and worlds(i) > 1)


@cache
def has_faulty(i: int) -> bool:
    return generate(SEED, i).operators()[FAULTY] > 0


def worlds(i: int) -> int:
    return len(generate(SEED, i).feeds)


def test_a_wrong_result_is_found_and_made_small():
    finding, _ = attempt(generate(SEED, faulty()), "@fuzz_engines:wrong")
    small = smallest(finding, 60)
    assert small.kind == "difference" and "times the tolerance" in small.text
    assert small.case.operators() == {FAULTY: 1}
    assert len(small.case.feeds) == 1 and len(small.case.outputs) == 1


def test_what_ends_a_process_is_told_with_the_model(tmp_path: Path):
    ending = list(islice(filter(has_faulty, range(WITH_FAULTY)), 2))
    others = list(islice((i for i in range(WITH_FAULTY) if not has_faulty(i)), 2))
    summary = run(Plan(SEED, [*ending, *others], ["@fuzz_engines:ends"], tmp_path, jobs=1, seconds=3))
    assert [f["i"] for f in summary.findings] == ending and len(summary.seen) == 4
    for f in summary.findings:
        assert f["kind"] == "crash" and "Segmentation fault" in f["text"] and FAULTY in f["operators"].split()
        onnx.checker.check_model(onnx.load(Path(f["at"]) / "model.onnx"))
        assert json.loads((Path(f["at"]) / "case.json").read_text())["i"] == f["i"]
        assert (Path(f["at"]) / "inputs-0.npz").exists()


def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaign, "PATIENCE", 5.0)
    summary = run(Plan(SEED, [1], ["@fuzz_engines:hangs"], tmp_path, jobs=1))
    assert [f["kind"] for f in summary.findings] == ["hang"]


def test_a_run_goes_on_where_it_ended(tmp_path: Path):
    plan = Plan(SEED, range(4), ["reference"], tmp_path, jobs=1)
    seen: list[int] = []
    run(Plan(SEED, range(2), ["reference"], tmp_path, jobs=1))
    summary = run(plan, lambda line: seen.append(line["i"]))
    assert seen == [2, 3] and summary.seen == {0, 1, 2, 3}
    assert summary.models["reference"] == 4
