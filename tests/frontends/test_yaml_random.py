"""`sample`: the same draws on every backend, their distributions at fixed seeds, streams, and what is said of wrong ones.

Every figure of a distribution is compared with what one fixed stream in a thousand or fewer would exceed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from many import agree

import graphc
from graphc.backends.reference import run
from graphc.errors import GraphcError
from graphc.frontends.onnx_export import to_onnx
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Graph

N = 40_000
FLOAT = {"rtol": 1e-5, "atol": 1e-5}  # of a logarithm, a cosine and a root in float32
KINDS = ["bernoulli", "normal", "uniform", "{kind: categorical, of: probabilities}", "{kind: categorical, of: logits}"]


def graph(steps: str, inputs: str = "x: [n, m]", outputs: str = "r: last") -> Graph:
    net = "".join(f"  - {step}\n" for step in steps.splitlines())
    return loads_yaml(f"graphc: 1\ninputs: {{{inputs}}}\nnet:\n{net}outputs: {{{outputs}}}\n")


def draws(steps: str, x: Any = 0.5, shape: tuple[int, ...] = (N, 1), **feeds: Any) -> np.ndarray:
    """Of the reference."""
    more = "".join(f", {name}: {{shape: {list(np.shape(v))}, dtype: int64}}" for name, v in feeds.items())
    given = {name: np.array(v, np.int64) for name, v in feeds.items()}
    x = np.broadcast_to(np.float32(x), shape)
    return run(graph(f"identity: {{from: x}}\n{steps}", f"x: {list(shape)}{more}"), {"x": x, **given})["r"]


# --- backends ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def everything() -> tuple[Graph, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A net of every kind, with what it reads and gives."""
    outputs = ", ".join(f"r{i}: r{i}" for i in range(len(KINDS)))
    net = "".join(f"  - sample: {kind}\n    from: x\n    as: r{i}\n" for i, kind in enumerate(KINDS))
    net += "  - sample: {kind: uniform, seed: seed, draw: draw, from: x, as: other}\n"
    head = "inputs: {x: [n, m], seed: {shape: [], dtype: int64}, draw: {shape: [], dtype: int32}}"
    g = loads_yaml(f"graphc: 1\n{head}\nnet:\n{net}outputs: {{{outputs}, other: other}}\n")
    feeds = {
        "x": np.random.default_rng(0).random((37, 11), np.float32),
        "seed": np.array(-5),
        "draw": np.array(3, np.int32),
    }
    return g, feeds, run(g, feeds)


@pytest.mark.parametrize("target, threads", [("cpu", 1), ("cpu", 2), ("cpu:portable", 1), ("cuda:emulate", None)])
def test_every_backend_draws_the_same(everything, target: str, threads: int | None):
    g, feeds, want = everything
    got = graphc.compile(g, target=target, **({"threads": threads} if threads else {})).run(feeds)
    for name, w in want.items():
        if name == "r1":
            np.testing.assert_allclose(got[name], w, **FLOAT)
        else:
            np.testing.assert_array_equal(got[name], w, name)


def test_onnx_runtime_draws_the_same(everything):
    import onnxruntime

    g, feeds, want = everything
    session = onnxruntime.InferenceSession(to_onnx(g).SerializeToString(), providers=["CPUExecutionProvider"])
    got = dict(zip([v.name for v in session.get_outputs()], session.run(None, feeds)))
    for name, w in want.items():
        if name == "r1":
            np.testing.assert_allclose(got[name], w, **FLOAT)
        else:
            np.testing.assert_array_equal(got[name], w, name)


def test_types(everything):
    g, _, want = everything
    assert [str(v.type) for v in g.outputs] == [*["float32[n, m]"] * 3, *["int64[n]"] * 2, "float32[n, m]"]


@pytest.mark.parametrize("dtype, digits", [("float16", 2**-11), ("bfloat16", 2**-8), ("float64", 2**-23)])
def test_other_floats(dtype: str, digits: float):
    """Narrow ones are rounded float32; float64 has digits that float32 has not."""
    for kind in KINDS[:3]:
        one, other = (graph(f"Cast: {{to: {to}}}\nsample: {kind}") for to in ("float32", dtype))
        assert str(other.outputs[0].type) == f"{dtype}[n, m]"
        feeds = {"x": np.full((500, 3), 0.25, np.float32)}
        want, got = run(one, feeds)["r"], graphc.compile(other).run(feeds)["r"]
        got = got.astype(np.float64)
        np.testing.assert_allclose(got, want, rtol=1.01 * digits, atol=3e-6)  # of an angle in float32


def test_one_plan_for_many_shapes_and_none_on_the_host(everything):
    g, feeds, _ = everything
    shapes = [(37, 11), (5, 4), (64, 3), (2, 90)]
    many = [{**feeds, "x": np.random.default_rng(i).random(s, np.float32)} for i, s in enumerate(shapes)]
    agree(g, many, 1)
    assert not any(step.host for step in graphc.compile(g).plan(None, many[0]).steps)


@pytest.mark.parametrize("kind", ["bernoulli", "{kind: uniform, low: -1}"])
def test_a_step_is_two_kernels(kind: str):
    plan = graphc.compile(graph(f"sample: {kind}")).plan({"x": (64, 8)})
    assert [step.kernel for step in plan.steps] == ["count_up", "map"]


# --- distributions ----------------------------------------------------------------------------------------------------
def distance(found: np.ndarray, cdf: Any) -> float:
    """Of Kolmogorov and Smirnov, times the root of how many there are: one stream in a thousand exceeds 1.95."""
    x = np.sort(found.ravel().astype(np.float64))
    want = cdf(x)
    steps = np.arange(x.size + 1) / x.size
    return max(np.abs(want - steps[1:]).max(), np.abs(want - steps[:-1]).max()) * math.sqrt(x.size)


def gaussian(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@pytest.mark.parametrize("seed", [0, 1, 2**40, -1])
def test_normal(seed: int):
    z = draws(f"sample: {{kind: normal, seed: {seed}}}")
    assert distance(z, gaussian) < 1.95
    assert abs(z.mean()) * math.sqrt(N) < 3.3
    assert abs(z.var() - 1) * math.sqrt(N / 2) < 3.3
    assert 3.7 < abs(z).max() < 6 and abs((z**3).mean()) * math.sqrt(N / 15) < 3.3


def test_the_tail_of_normal():
    z = draws("sample: normal", shape=(1000, 1000))
    for bound in (3, 4, 4.5):
        expected = z.size * math.erfc(bound / math.sqrt(2))
        assert abs((abs(z) > bound).sum() - expected) < 3.5 * math.sqrt(expected)


def test_normal_of_mean_and_std():
    z = draws("sample: {kind: normal, name: z}", shape=(N, 2))
    x = np.broadcast_to(np.float32([3, 0.5]), (N, 2))
    np.testing.assert_allclose(
        draws("sample: {kind: normal, mean: 3, std: 0.5, name: z}", shape=(N, 2)), 3 + 0.5 * z, rtol=1e-5
    )
    two = graph("sample: {kind: normal, from: [x, s], name: z}", "x: [n, 2], s: [2]")
    np.testing.assert_allclose(run(two, {"x": x, "s": np.float32([1, 4])})["r"], x + np.float32([1, 4]) * z, rtol=1e-5)
    wider = graph("sample: {kind: normal, from: [s, x], name: z}", "x: [n, 2], s: [2]")
    assert str(wider.outputs[0].type) == "float32[n, 2]"
    found = run(wider, {"x": x, "s": np.float32([1, 4])})["r"]
    np.testing.assert_allclose(found, np.float32([1, 4]) + x * z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("low, high", [(0, 1), (-2, 6), (0.25, 0.5)])
def test_uniform(low: float, high: float):
    u = draws(f"sample: {{kind: uniform, low: {low}, high: {high}}}")
    assert low <= u.min() and u.max() < high
    assert distance(u, lambda x: (x - low) / (high - low)) < 1.95
    double = run(graph("sample: uniform", "x: {shape: [n], dtype: float64}"), {"x": np.zeros(N)})["r"]
    assert distance(double, lambda x: x) < 1.95 and len(np.unique(double * 2**32 % 1)) > 0.98 * N, (
        "digits beyond float32"
    )


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.75, 0.999])
def test_bernoulli(p: float):
    drawn = draws("sample: bernoulli", p)
    assert set(np.unique(drawn)) == {0, 1}
    assert abs(drawn.mean() - p) < 3.3 * math.sqrt(p * (1 - p) / N)


def test_bernoulli_of_what_is_certain():
    for p, want in ((0, 0), (1, 1), (-1, 0), (2, 1), (math.nan, 0)):
        assert (draws("sample: bernoulli", p) == want).all(), p


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_categorical(of: str):
    p = np.float32([0.5, 0.25, 0.125, 0.1, 0.025, 0])
    with np.errstate(divide="ignore"):
        given = p if of == "probabilities" else np.log(p) + 3
    drawn = draws(f"sample: {{kind: categorical, of: {of}}}", given, (N, 6))
    assert drawn.shape == (N,) and drawn.dtype == np.int64
    counts = np.bincount(drawn, minlength=6)
    assert counts[5] == 0, "what has no probability is never drawn"
    assert ((counts - N * p)[:5] ** 2 / (N * p[:5])).sum() < 18.5  # chi-square of 4 degrees of freedom
    along = draws(f"sample: {{kind: categorical, of: {of}, axis: 0}}", given[:, None], (6, N))
    assert ((np.bincount(along, minlength=6) - N * p)[:5] ** 2 / (N * p[:5])).sum() < 18.5


def test_categorical_of_many_classes():
    """Of equal chances: what is drawn is the least of 50,000 exponential variables."""
    drawn = draws("sample: {kind: categorical, of: logits}", 0, (400, 50_000))
    assert len(np.unique(drawn)) > 390 and distance(drawn / 50_000, lambda x: x) < 1.95


# --- streams ----------------------------------------------------------------------------------------------------------
def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two streams, as a number of standard deviations."""
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return abs(np.corrcoef(a, b)[0, 1]) * math.sqrt(a.size)


def test_a_model_is_a_function():
    model = graphc.compile(graph("sample: normal"))
    x = np.zeros((50, 3), np.float32)
    first = model.run({"x": x})["r"]
    np.testing.assert_array_equal(model.run({"x": x})["r"], first)
    np.testing.assert_array_equal(model.run({"x": x[:20]})["r"], first[:20])


@pytest.mark.parametrize("lag", [1, 2, 3, 7, 64])
def test_neighbours_are_independent(lag: int):
    u = draws("sample: uniform").ravel()
    assert correlation(u[lag:], u[:-lag]) < 3.5


ONE = "sample: uniform"
OTHERS = {
    "a later step": "identity\nsample: uniform",
    "a step with a name": "sample: {kind: uniform, name: other}",
    "a seed": "sample: {kind: uniform, seed: 1}",
    "a large seed": "sample: {kind: uniform, seed: 4294967296}",
    "a draw": "sample: {kind: uniform, draw: 1}",
    "the last draw": "sample: {kind: uniform, draw: 4294967295}",
}


@pytest.mark.parametrize("steps", OTHERS.values(), ids=OTHERS)
def test_streams_are_independent(steps: str):
    one, other = draws(ONE), draws(steps)
    assert correlation(one, other) < 3.5 and not (one == other).all() and distance(other, lambda x: x) < 1.95


def test_steps_with_names_keep_their_streams():
    alone, later = "sample: {kind: uniform, name: noise}", "identity\nsample: {kind: uniform, name: noise}"
    np.testing.assert_array_equal(draws(alone), draws(later))


@pytest.mark.parametrize("structure", ["repeat", "loop"])
def test_iterations_have_streams_of_their_own(structure: str):
    steps = f"{structure}: {{n: 3, of: [{{sample: uniform}}, {{let: 'last + 0*x'}}]}}"
    flows = [draws(steps.replace("n: 3", f"n: {n}")) for n in (1, 2, 3)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert correlation(flows[a], flows[b]) < 3.5


def test_seeds_and_draws_that_are_values():
    for seed in (0, 1, 7, -3, 2**40):
        want = draws(f"sample: {{kind: uniform, seed: {seed}, draw: 5}}")
        got = draws("sample: {kind: uniform, seed: s, draw: d}", s=seed, d=5)
        np.testing.assert_array_equal(got, want, f"seed {seed}")
    np.testing.assert_array_equal(
        draws("sample: {kind: uniform, seed: s}", s=3), draws("sample: {kind: uniform, seed: 3}")
    )


def test_a_seed_for_each_row():
    seeds = np.arange(4)[:, None]
    rows = draws("sample: {kind: uniform, seed: s}", shape=(4, 1000), s=seeds)
    for i in range(4):
        np.testing.assert_array_equal(rows[i], draws(f"sample: {{kind: uniform, seed: {i}}}", shape=(4, 1000))[i])


def test_a_seed_of_the_file():
    text = "graphc: 1\nparams: {s: 4}\ninputs: {x: [9, 5]}\ndefaults: {sample: {seed: $s}}\nnet: [identity, {sample: uniform}]\n"
    x = np.zeros((9, 5), np.float32)
    for given, seed in ((None, 4), ({"s": 6}, 6)):
        found = run(loads_yaml(text, params=given), {"x": x})["output"]
        np.testing.assert_array_equal(found, draws(f"sample: {{kind: uniform, seed: {seed}}}", shape=(9, 5)))


# --- what is wrong ----------------------------------------------------------------------------------------------------
WRONG = [
    ("sample", "'sample' needs 'kind' (it also takes seed, draw, mean, std, low, high, of, axis)"),
    (
        "sample: gaussian",
        "'kind' of 'sample' must be 'bernoulli' or 'normal' or 'uniform' or 'categorical', not 'gaussian'",
    ),
    ("sample: {kind: bernoulli, mean: 1}", "bernoulli takes no 'mean'"),
    ("sample: {kind: normal, low: 1}", "normal takes no 'low'"),
    ("sample: {kind: bernoulli, from: [x, x]}", "bernoulli takes 1 value, not 2"),
    ("sample: {kind: normal, from: [x, x, x]}", "normal takes 1 or 2 values, not 3"),
    ("sample: {kind: normal, from: [x, x], std: 2}", "'std' is given twice: `from` names the mean and the std"),
    ("sample: {kind: normal, std: -1}", "std must not be negative, as -1 is"),
    ("sample: {kind: uniform, low: 2}", "low must be below high, and 2 is not below 1"),
    ("sample: categorical", "categorical needs 'of'"),
    ("sample: {kind: categorical, of: odds}", "'of' of 'sample' must be 'probabilities' or 'logits', not 'odds'"),
    ("sample: {kind: bernoulli, from: i}", "takes floats, and 'i' is int64[n, m]"),
    ("sample: {kind: uniform, seed: 0.5}", "'seed' of 'sample' must be a whole number or the name of a value, not 0.5"),
    ("sample: {kind: uniform, seed: z}", "no value is named 'z' here"),
    ("sample: {kind: uniform, seed: x}", "'seed' must be whole numbers, and 'x' is float32"),
    ("sample: {kind: uniform, draw: -1}", "draw must be from 0 to 4294967295, not -1"),
    (
        "sample: {kind: uniform, draw: w}",
        "'draw' of shape (2, 2, 2) does not broadcast to (n, m)\n  operand types: int64[n, m], int64[2, 2, 2], uint64[]",
    ),
]


@pytest.mark.parametrize("step, message", WRONG, ids=[s for s, _ in WRONG])
def test_what_is_wrong(step: str, message: str):
    inputs = "x: [n, m], i: {shape: [n, m], dtype: int64}, w: {shape: [2, 2, 2], dtype: int64}"
    with pytest.raises(GraphcError) as caught:
        graph(f"relu: {{from: x}}\n{step}", inputs)
    assert caught.value.message.removeprefix("sample: ") == message
    assert caught.value.source is not None and caught.value.source.place.startswith("line 5,")
