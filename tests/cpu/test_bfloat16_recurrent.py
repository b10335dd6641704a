"""Recurrent layers in bfloat16 on request, against the reference in float64 of operands that are rounded to bfloat16."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import opcheck
import pytest
from test_cpu_recurrent import LARGE, NAMES, OF_LARGE, compiled, sized, wanted

from graphc.backends.cpu.recurrent import recurrent_plan
from graphc.backends.cpu.target import detect
from graphc.op import Case, get_op
from graphc.ops.recurrent import lstm_reference

pairs = pytest.mark.skipif(not detect().dots_bfloat16, reason="this CPU has no AVX-512 with BF16")
X, W, R, H = 0, 1, 2, 5  # operands
SIZES = [(1, 7, 6), (3, 37, 35), (1, 64, 129), (9, 33, 70), (40, 5, 300)]  # batch, inputs, hidden units


def rounded(a: np.ndarray) -> np.ndarray:
    return a.astype(ml_dtypes.bfloat16).astype(a.dtype)


def operands(name: str, case: Case, *numbers: int) -> list[Any]:
    """Those of a case, and the same with those of these numbers rounded."""
    given = opcheck.operands(get_op(name), case)
    return [given, [rounded(a) if i in numbers and a is not None else a for i, a in enumerate(given)]]


def reasons(model: Any) -> list[str]:
    return [s.reason for s in model.plan().steps if "tile" in s.reason]


@pairs
@pytest.mark.parametrize(("batch", "inputs", "hidden"), SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_one_step(name: str, batch: int, inputs: int, hidden: int):
    """From a state of numbers that bfloat16 has: what is left is the rounding of float32 sums. A GRU applies its reset gate to the
    product, not to the state, which would be rounded after it."""
    case = sized(name, 1, batch, inputs, hidden, **({"linear_before_reset": True} if name == "GRU" else {}))
    given, exact = operands(name, case, X, W, R)
    given[H] = exact[H] = rounded(given[H])
    actual, model = compiled(name, case, given, precision="bf16", threads=1)
    assert ["both operands in bfloat16" in r for r in reasons(model)] == [True, True]
    for a, w in zip(actual, wanted(name, case, exact)):
        np.testing.assert_allclose(a, w, rtol=0, atol=1e-6)


@pairs
@pytest.mark.parametrize("lens", [None, [7, 0, 4]])
@pytest.mark.parametrize("hidden", [6, 35, 64])
def test_many_steps_round_the_state_each_time(hidden: int, lens: list[int] | None):
    """A sum in another order may round a state to the neighbour, 2^-8 of it, times a weight of about hidden ** -0.5."""
    case = sized("LSTM", 7, 3, 20, hidden, lens=lens)
    given, exact = operands("LSTM", case, X, W, R)
    actual, _ = compiled("LSTM", case, given, precision="bf16", threads=1)
    attrs = {
        k: v
        for k, v in opcheck.build("LSTM", case, exact)[1].attrs.items()
        if k not in ("hidden_size", "output_sequence")
    }
    want = lstm_reference(*[None if a is None else opcheck.wider(a) for a in exact], rounded=rounded, **attrs)
    plain = wanted("LSTM", case, given)
    for a, w, p in zip(actual, want, plain):
        error, effect = np.abs(a - w).mean(), np.abs(a - p).mean()
        assert np.abs(a - w).max() < 4e-4 and error < effect / 10


@pairs
@pytest.mark.parametrize(("name", "case"), list(zip(OF_LARGE, LARGE)), ids=lambda v: v if isinstance(v, str) else "")
def test_any_number_of_threads_gives_the_same_bits(name: str, case: Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recurrent_plan, "WORTH_SHARING", 0)
    arrays = opcheck.operands(get_op(name), case)
    alone, _ = compiled(name, case, arrays, precision="bf16", threads=1)
    for a, w in zip(alone, wanted(name, case, arrays)):
        np.testing.assert_allclose(a, w, rtol=0, atol=0.02)  # some roundings of 2^-8, carried on
    for threads in (2, 5):
        together, _ = compiled(name, case, arrays, precision="bf16", threads=threads)
        for a, b in zip(together, alone):
            np.testing.assert_array_equal(a, b)


@pairs
@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_computed_stay_in_float32(name: str):
    case = sized(name, 4, 2, 9, 20)
    arrays = opcheck.operands(get_op(name), case)
    actual, model = compiled(name, case, arrays, fixed=(), precision="bf16")
    opcheck.agree(actual, wanted(name, case, arrays))
    assert not [r for r in reasons(model) if "bfloat16" in r]


@pairs
@pytest.mark.parametrize("batch", (1, 20))
def test_units_that_fill_a_vector_up_do_not_reach_the_others(batch: int):
    """Their cell doubles at each step until it is infinite, that of the others is 0."""
    hidden, seq = 17, 200
    attrs = {"direction": "forward", "hidden_size": hidden, "activations": ["Affine"] * 3}
    attrs |= {"activation_alpha": [0.0, 1.0, 1.0], "activation_beta": [2.0, 1.0, 0.0]}
    biases = np.zeros((1, 8, hidden), np.float32)
    biases[:, 3] = -1  # of the candidate
    weights = [np.zeros((1, 4 * hidden, n), np.float32) for n in (2, hidden)]
    arrays = [np.ones((seq, batch, 2), np.float32), *weights, biases.reshape(1, -1)]
    for result in compiled("LSTM", Case((), attrs, 3), arrays, precision="bf16")[0]:
        np.testing.assert_array_equal(result, np.zeros_like(result))


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize(("batch", "inputs", "hidden"), SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_one_sequence_keeps_weights_in_bfloat16(name: str, batch: int, inputs: int, hidden: int, target: str):
    case = sized(name, 5, batch, inputs, hidden)
    given, exact = operands(name, case, *([R] if batch == 1 else []))
    actual, model = compiled(name, case, given, precision="bf16-weights", target=target, threads=1)
    opcheck.agree(actual, wanted(name, case, exact))
    assert ["weights in bfloat16" in r for r in reasons(model)] == [False, batch == 1]
