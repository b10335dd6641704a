"""One use of an operator compiled for a target, against the reference in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from strategies import Use, cases, use_of

import graphc
from graphc.dtypes import is_float
from graphc.interpret import run_graph
from graphc.op import Op, all_ops

OPS = {
    n: op for n, op in all_ops().items() if not op.objects or n == "Identity"
}  # the others: tests/ops/test_sequences.py
FLOAT64_TOLERANCE = 1e-9
NARROW = {"float16": 2**-9, "bfloat16": 2**-6}  # two ulps: a rounded operand, a rounded result


def as_inputs(use: Use) -> Use:
    """Only what the type rule needs as constants: what else a case gives as numbers is read at run time."""
    return replace(use, constants=frozenset(use.op.values) & use.constants)


def compiled(use: Use, target: str = "cpu", threads: int = 1, disabled: Sequence[str] = ()) -> graphc.Model:
    return graphc.compile(use.graph(), target=target, threads=threads, disabled=disabled)


def results(model: graphc.Model, use: Use) -> list[np.ndarray]:
    return list(model.run(dict(zip([s.name for s in model.inputs], use.inputs))).values())


def wide(use: Use) -> Use:
    """With float64 operands, for an exact answer; as it is where the operator is about the bits of a dtype."""
    bits = ("BitCast", "QuantizeLinear", "DynamicQuantizeLinear", "com.microsoft::DynamicQuantizeLSTM")
    return use if use.op.name in bits else use.with_floats("float64")


def tolerance(use: Use, dtype: np.dtype) -> float:
    """Relative to the largest magnitude, growing with the root of how many elements go into one."""
    if dtype == np.float64:
        base = FLOAT64_TOLERANCE
    else:
        base = max(use.op.tolerance, NARROW.get(dtype.name, 0.0))
    ins = max((a.size for a in use.arrays if a is not None), default=1)
    outs = max((v.type.size for v in use.graph().outputs), default=1) if use.graph().outputs[0].type.is_static else 1
    return base * max(1.0, (ins / max(outs, 1) / 64) ** 0.5)


def check(use: Use, target: str = "cpu", threads: int = 1, disabled: Sequence[str] = ()) -> graphc.Model:
    """Compile and run; values, dtypes and shapes must be those of the reference in float64."""
    graph, model = use.graph(), compiled(use, target, threads, disabled)
    want = run_graph(wide(use).graph(), wide(use).inputs, strict=False)
    got = results(model, use)
    assert len(got) == len(want)
    for a, w, v in zip(got, want, graph.outputs):
        assert a.dtype == v.dtype and a.shape == w.shape, use
        if v.type.is_static:
            assert a.shape == v.shape, use
        if not use.op.deterministic:
            continue
        if not is_float(a.dtype):
            np.testing.assert_array_equal(a, w, err_msg=f"{use} for {target}")
            continue
        a, w = a.astype(np.float64), np.asarray(w).astype(np.float64)
        scale = np.abs(w[np.isfinite(w)]).max(initial=1e-300)
        np.testing.assert_allclose(a, w, rtol=0, atol=tolerance(use, v.dtype) * scale, err_msg=f"{use} for {target}")
    return model


def host_reasons(model: graphc.Model, use: Use) -> set[str]:
    return {s.reason for s in model.plan().steps if s.host} if use.inputs else set()


def uses_of(name: str, dtypes: Iterable[str] | None = None) -> list[Use]:
    op = OPS[name]
    return [as_inputs(use_of(op, case, dtype)) for case in cases(op) for dtype in dtypes or op.samples.dtypes[:1]]


# --- uses of one operator ---
def use(name: str, *arrays: np.ndarray, constants: Sequence[int] = (), n_outputs: int = 1, **attrs) -> Use:
    op: Op = OPS[name]
    return Use(op, arrays, attrs, n_outputs, frozenset(constants))


def randoms(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).uniform(-2, 3, shape)
    return x.astype(dtype)


def axes(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def positions(high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-high, high, shape)
