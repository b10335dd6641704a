"""Control flow when the model runs: scan, while and when; and values for each iteration of a repeat or loop."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc
from graphc.backends.reference import run
from graphc.errors import GraphcError
from graphc.frontends.onnx_export import to_onnx
from graphc.frontends.yaml_load import check as check_file
from graphc.frontends.yaml_load import load_yaml, loads_yaml
from graphc.graph import Graph
from graphc.types import Sym
from graphc.verify import verify

HEAD = """\
graphc: 1
params: {c: 4}
inputs: {x: [n, 5, 3], y: [n, 5], f: {shape: [], dtype: bool}, v: [3], k: {shape: [], dtype: int64}}
net:
"""
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 5, 3)).astype(np.float32)
Y = RNG.standard_normal((2, 5)).astype(np.float32)
V = RNG.standard_normal(3).astype(np.float32)
FEEDS = {"x": X, "y": Y, "f": np.array(True), "v": V, "k": np.array(3)}


def load(net: str, head: str = HEAD, **params: object) -> Graph:
    return loads_yaml(head + net, params or None, file="m.yaml")


def results(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What graphc's reference and ONNX Runtime agree on."""
    verify(graph)
    feeds = {v.name: feeds[v.name] for v in graph.inputs}
    found = run(graph, feeds)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of inputs that nothing reads
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString(), options)
    for (name, ours), theirs in zip(found.items(), session.run(None, dict(feeds))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)
        assert ours.dtype == theirs.dtype
    return found


def check(
    net: str, wanted: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray] = FEEDS, **params: object
) -> Graph:
    outputs = f"outputs: [{', '.join(wanted)}]"
    graph = load(net + outputs, **params)
    found = results(graph, feeds)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    return graph


def weights(graph: Graph) -> dict[str, np.ndarray]:
    """Constants by name, those in held graphs too."""
    found = {v.name: v.data for v in graph.constants()}
    for node in graph.nodes:
        for held in node.attrs.values():
            if isinstance(held, Graph):
                found |= weights(held)
    return found


def operators(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def compiled_without_host(graph: Graph, feeds: Mapping[str, np.ndarray]) -> None:
    """Kernels compute all of it, and what the reference does."""
    model = graphc.compile(graph, cache=False, threads=1)
    feeds = {v.name: feeds[v.name] for v in graph.inputs}
    for name, value in run(graph, feeds).items():
        np.testing.assert_allclose(model.run(feeds)[name], value, rtol=1e-4, atol=1e-5)
    steps = model.plan(shapes={name: a.shape for name, a in feeds.items()}).steps
    assert [s.reason for s in steps if s.host] == []


# --- scan -------------------------------------------------------------------------------------------------------------
ELMAN = """\
graphc: 1
inputs: {x: [batch, steps, 3]}
net:
  - scan:
      over: {now: x}
      states: {h: {shape: [batch, 4]}}
      of:
        - dense: {out: 4, from: now, as: a}
        - dense: {out: 4, from: h, bias: false, name: recurrent}
        - add: {from: [a, last]}
        - tanh: {as: h}
      collect: {all: h}
outputs: {all: all, h: h}
"""


@pytest.mark.parametrize("steps", [1, 5])
def test_a_recurrent_network(steps: int):
    graph = loads_yaml(ELMAN)
    w = weights(graph)
    x = RNG.standard_normal((2, steps, 3)).astype(np.float32)
    h, every = np.zeros((2, 4), np.float32), []
    for t in range(steps):
        h = np.tanh(x[:, t] @ w["net.0.0.dense.weight"].T + w["net.0.0.dense.bias"] + h @ w["net.0.recurrent.weight"].T)
        every.append(h)
    found = results(graph, {"x": x})
    np.testing.assert_allclose(found["h"], h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["all"], np.stack(every, 1), rtol=1e-5, atol=1e-6)


def test_weights_are_those_of_all_steps_and_types_have_symbols():
    graph = loads_yaml(ELMAN)
    assert {n for n in weights(graph) if n.startswith("net") and "const" not in n} == {
        "net.0.0.dense.weight", "net.0.0.dense.bias", "net.0.recurrent.weight"
    }  # fmt: skip
    assert graph.meta["parameters"] == 4 * 3 + 4 + 4 * 4
    batch, steps = Sym("batch"), Sym("steps")
    assert [v.shape for v in graph.outputs] == [(batch, steps, 4), (batch, 4)]
    assert [(row.name, row.line, row.parameters) for row in graph.meta["layers"]] == [
        ("net.0.0.dense", 8, 16), ("net.0.recurrent", 9, 16), ("net.0.2.add", 10, 0), ("net.0.3.tanh", 11, 0), ("net.0", 4, 0),
    ]  # fmt: skip
    assert graph.meta["warnings"] == ()


def test_a_scan_is_compiled():
    compiled_without_host(loads_yaml(ELMAN), {"x": RNG.standard_normal((2, 5, 3)).astype(np.float32)})


def test_a_scan_gives_what_it_collects_first_to_the_next_step():
    check("  - scan: {over: x, of: [{neg: {as: m}}], collect: [m]}\n  - {abs: {}, as: r}\n", {"r": np.abs(X), "m": -X})
    net = "  - scan: {over: y, axis: 0, states: {s: {shape: [5]}}, of: [{identity: {as: s}}]}\n  - neg: {as: r}\n"
    check(net, {"r": -Y[-1], "s": Y[-1]})


@pytest.mark.parametrize(
    "over", ["over: x, of: [{neg: {from: x, as: m}}]", "over: {t: x}, of: [{neg: {from: t, as: m}}]",
             "over: [x], of: [{neg: {as: m}}]", "from: x, over: last, of: [{neg: {as: m}}]",
             "from: x, over: {t: last}, of: [{neg: {from: t, as: m}}]"],
)  # fmt: skip
def test_ways_to_name_the_element(over: str):
    check(f"  - scan: {{{over}, collect: m}}\n", {"m": -X})


@settings(max_examples=25, deadline=None)
@given(st.integers(-3, 2), st.booleans(), st.integers(1, 4), st.integers(0, 99))
def test_sums_along_an_axis(axis: int, reverse: bool, length: int, seed: int):
    """Running sums, from either end, along any axis of a fixed or a symbolic length."""
    shape = [2, 3, 4]
    shape[axis] = length
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    dims = [*"pqr"]
    rest = [d for k, d in enumerate(dims) if k != axis % 3]
    fixed = [str(length) if k == axis % 3 else d for k, d in enumerate(dims)]
    head = f"graphc: 1\ninputs: {{a: [{', '.join(dims)}], b: [{', '.join(fixed)}]}}\nnet:\n"
    net = f"""\
  - scan:
      over: [a, b]
      axis: {axis}
      reverse: {str(reverse).lower()}
      states: {{s: {{shape: [{", ".join(rest)}]}}}}
      of: [{{mul: {{from: [a, b]}}}}, {{add: {{from: [s, last], as: s}}}}]
      collect: {{sums: s}}
outputs: [sums, s]
"""
    found = results(load(net, head), {"a": a, "b": b})
    product = np.flip(a * b, axis) if reverse else a * b
    sums = np.cumsum(product, axis)
    np.testing.assert_allclose(found["sums"], np.flip(sums, axis) if reverse else sums, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["s"], np.take(sums, -1, axis), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("first", "value"),
    [
        ("v", V), ("[1.0, 2.0, 3.0]", [1, 2, 3]), ("{like: v}", np.zeros(3)), ("{like: v, value: 2.5}", [2.5] * 3),
        ("{shape: [3]}", np.zeros(3)), ("{shape: [$c - 1], value: $c/2}", [2.0] * 3), ("{shape: [n, 3], value: -1.0}", [[-1.0] * 3] * 2),
        ("{like: k, dtype: float32, value: 1}", 1.0), ("0.5", 0.5), ("$c/8", 0.5),
    ],
)  # fmt: skip
def test_first_values(first: str, value: object):
    net = f"  - scan: {{over: {{t: y}}, states: {{s: {first}}}, of: [{{Mul: {{inputs: [s, 2.0], as: s}}}}]}}\n"
    check(net, {"s": np.asarray(value) * 32})


def test_whole_numbers_and_booleans_are_states_too():
    net = """\
  - scan:
      over: {t: y}
      axis: 0
      states: {n: 0, big: false, last_row: {shape: [5], dtype: float64}}
      of:
        - Add: {inputs: [n, 1], as: n}
        - Greater: {inputs: [n, 1], as: big}
        - Cast: {inputs: [t], to: float64, as: last_row}
      collect: {count: n}
"""
    check(
        net, {"n": np.array(2), "big": np.array(True), "last_row": Y[-1].astype(np.float64), "count": np.array([1, 2])}
    )


def test_a_state_goes_on_with_the_name_of_its_first_value():
    step = "  - scan: {over: {t: y}, axis: 0, states: {s: s}, of: [{sum: {from: t, axis: 0}}, {add: {from: [s, last], as: s}}]}\n"
    net = "  - sum: {from: v, axis: 0, as: s}\n" + step
    check(net, {"s": V.sum() + Y.sum()})
    looped = (
        "  - sum: {from: v, axis: 0, as: s}\n  - loop:\n      n: 3\n      of:\n      " + step.replace("\n", "") + "\n"
    )
    check(looped, {"s": V.sum() + 3 * Y.sum()})


def test_what_is_outside_is_captured():
    """Values, weights by a shared name, and a scan within a scan."""
    net = """\
  - dense: {out: 3, share: w, from: v2, bias: false, as: outside}
  - scan:
      over: {row: x}
      of:
        - dense: {out: 3, share: w, bias: false, as: r}
        - scan: {over: {e: row}, states: {s: {shape: [n]}}, of: [{mul: {from: [e, total]}}, {add: {from: [s, last], as: s}}]}
      collect: [r, s]
"""
    head = HEAD.replace("v: [3]", "v: [3], v2: [1, 3]")
    first = "  - sum: {from: v, axis: 0, as: total}\n"
    graph = load(first + net + "outputs: [outside, r, s]", head)
    w = weights(graph)["w.weight"]
    assert sum(name.endswith("weight") for name in weights(graph)) == 1
    found = results(graph, {**FEEDS, "v2": V[None]})
    np.testing.assert_allclose(found["outside"], V[None] @ w.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["r"], X @ w.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["s"], (X * V.sum()).sum(-1), rtol=1e-5, atol=1e-5)


def test_inside_blocks_branches_and_repeats():
    blocks = """\
blocks:
  running:
    args: {by: 1.0}
    body:
      - scan: {over: {e: input}, states: {s: {shape: [n, 3]}}, of: [{scale: $by}, {add: {from: [s, last], as: s}}], collect: {sums: s}}
"""
    head = HEAD.replace("net:\n", blocks + "net:\n")
    net = """\
  - branch: {from: x, join: add, paths: {a: [running], b: [{running: 2.0}]}}
  - repeat: {n: 2, of: running, by: 0.5}
outputs: [last]
"""
    graph = load(net.replace("[last]", "{r: last}"), head)
    sums = 3 * np.cumsum(X, 1)
    for _ in range(2):
        sums = np.cumsum(sums / 2, 1)
    np.testing.assert_allclose(results(graph, FEEDS)["r"], sums, rtol=1e-4, atol=1e-5)
    names = [row.name for row in graph.meta["layers"]]
    assert "net.0.a.0.scan.0.scale" in names and "net.1.1.scan.1.add" in names


def test_repeats_and_loops_inside_carry_states_on():
    net = """\
  - scan:
      over: {t: y}
      states: {s: {shape: [n]}}
      of:
        - loop: {n: 3, of: [{add: {from: [s, t], as: s}}]}
        - repeat: {n: 2, of: [{add: {from: [s, t], as: s}}]}
"""
    check(net, {"s": 5 * Y.sum(1)})


def test_collected_lists_and_last():
    net = "  - scan: {over: {t: x}, of: [{exp: {as: a}}, {neg: {from: t, as: b}}], collect: [a, b]}\n"
    check(net, {"a": np.exp(X), "b": -X})
    check(
        "  - scan: {over: {t: x}, of: [{exp: {}}, neg], collect: {b: last, again: last}}\n",
        {"b": -np.exp(X), "again": -np.exp(X)},
    )


# --- while ------------------------------------------------------------------------------------------------------------
NEWTON = """\
  - while:
      states: {r: {like: v, value: 1.0}, error: .inf, n: 0}
      condition:
        - Greater: {inputs: [error, 1.0e-3]}
      at_most: 50
      of:
        - abs: {from: v}
        - div: {from: [last, r]}
        - add: {from: [r, last]}
        - scale: {by: 0.5, as: better}
        - sub: {from: [better, r]}
        - abs
        - max: {axis: 0, as: error}
        - identity: {from: better, as: r}
        - Add: {inputs: [n, 1], as: n}
"""


def _newton(at_most: int = 50) -> tuple[np.ndarray, int, list[np.ndarray]]:
    r, error, n, every = np.ones(3, np.float32), np.inf, 0, []
    while error > 1e-3 and n < at_most:
        better = (r + np.abs(V) / r) * np.float32(0.5)
        error, r, n = np.abs(better - r).max(), better, n + 1
        every.append(r)
    return r, n, every


def test_while_a_condition_holds():
    r, n, _ = _newton()
    assert 2 < n < 50
    graph = check(NEWTON, {"r": r, "n": np.array(n)})
    np.testing.assert_allclose(r**2, np.abs(V), rtol=1e-2)
    compiled_without_host(graph, FEEDS)


def test_conditions_and_states_by_let():
    net = """\
  - while:
      states: {r: {like: v, value: 1.0}, error: .inf}
      condition: error > 1.0e-3 and not f
      at_most: 50
      of:
        - let: {better: 0.5*(r + abs(v)/r)}
        - let: abs(better - r)
        - max: {axis: 0, as: error}
        - let: {r: better}
"""
    check(net, {"r": _newton()[0]}, {**FEEDS, "f": np.array(False)})
    check(net, {"r": np.ones(3)})
    net = "  - {while: {states: {m: 0}, condition: m < 2*$c, at_most: 99, of: [{let: {m: m + 3}}]}}\n"
    check(net, {"m": np.array(9)})
    for k in (2, 3):
        feeds = {**FEEDS, "k": np.array(k)}
        for condition in ("k > 2", "k > $c - 2"):
            net = f"  - {{when: {condition}, from: x, then: [{{let: last + 1.0}}], else: [{{let: last*2}}], as: r}}\n"
            check(net, {"r": X + 1 if k > 2 else X * 2}, feeds)
    with pytest.raises(GraphcError, match=r"line 5, column 12: no value is named 'q' here"):
        load("  - {when: q > 2, from: x, then: [relu]}\n")


def test_at_most():
    r, n, _ = _newton(2)
    assert n == 2
    check(NEWTON.replace("at_most: 50", "at_most: $c - 2"), {"r": r, "n": np.array(2)})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_while_collects(axis: int):
    every = _newton()[2]
    net = NEWTON + f"      collect: {{all: r}}\n      axis: {axis}\n"
    check(net, {"all": np.stack(every, axis)})


def test_a_condition_by_name_is_asked_before_the_first_step():
    net = "  - while: {states: {go: f, n: k}, condition: go, at_most: 9, of: [{Add: {inputs: [n, 1], as: n}}, {Less: {inputs: [n, 7], as: go}}]}\n"
    check(net, {"n": np.array(7), "go": np.array(False)})
    check(net, {"n": np.array(3)}, {**FEEDS, "f": np.array(False)})
    check(net, {"n": np.array(6), "go": np.array(True)}, {**FEEDS, "k": np.array(-3)})


def test_nothing_is_collected_where_the_condition_never_holds():
    net = "  - while: {states: {n: k}, condition: [{Less: {inputs: [n, 3]}}], at_most: 9, of: [{Add: {inputs: [n, 1], as: n}}], collect: {all: n}}\n"
    check(net, {"all": np.zeros(0, np.int64), "n": np.array(3)})
    check(net, {"all": np.array([1, 2, 3]), "n": np.array(3)}, {**FEEDS, "k": np.array(0)})


def test_weights_of_a_condition_are_the_same_each_time():
    net = """\
  - identity: {from: y, as: h}
  - while:
      states: {h: h}
      condition: [{dense: 1}, {ReduceMax: {keepdims: 0}}, {Greater: {inputs: [last, -1.0]}}]
      at_most: 30
      of: [{Sub: {inputs: [h, 0.5], as: h}}]
outputs: [h]
"""
    graph = load(net)
    found = weights(graph)
    w, b = found["net.1.condition.0.dense.weight"], found["net.1.condition.0.dense.bias"]
    assert graph.meta["parameters"] == 6
    h, n = Y, 0
    while (h @ w.T + b).max() > -1 and n < 30:
        h, n = h - np.float32(0.5), n + 1
    assert n > 0
    np.testing.assert_allclose(results(graph, FEEDS)["h"], h, rtol=1e-4, atol=1e-5)


def test_whiles_in_whiles():
    """1 + 2 + 3, one by one; and states that change places."""
    net = """\
  - while:
      states: {n: 0, a: 0.0}
      condition: n < 4
      at_most: 9
      of:
        - while: {states: {m: 0, b: a}, condition: m < n, at_most: 9, of: [{let: {m: m + 1, b: b + 1.0}}]}
        - let: {n: n + 1, a: b}
"""
    graph = check(net, {"n": np.array(4), "a": np.array(6.0)})
    compiled_without_host(graph, FEEDS)
    net = "  - scan: {over: {t: y}, states: {s: v, q: {like: v}}, of: [{let: {w: s}}, {let: {s: q}}, {let: {q: w}}]}\n"
    check(net, {"s": np.zeros(3), "q": V})


# --- when -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("flag", [True, False])
def test_one_of_two_ways(flag: bool):
    feeds = {**FEEDS, "f": np.array(flag)}
    net = """\
  - when: f
    from: x
    then: [{exp: {as: a}}, {neg: {as: b}}]
    else: [{neg: {as: b}}, {abs: {as: a}}, {sub: {from: [a, b], as: unseen}}, {neg: {from: b}}]
    as: r
"""
    a, b = (np.exp(X), -np.exp(X)) if flag else (np.abs(X), -X)
    graph = check(net, {"r": b if flag else X, "a": a, "b": b}, feeds)
    assert operators(graph) == ["If"]
    compiled_without_host(graph, feeds)
    check("  - {when: f, from: x, then: [neg], as: r}\n", {"r": -X if flag else X}, feeds)
    check("  - {when: f, from: x, then: [neg], else: [], as: r}\n", {"r": -X if flag else X}, feeds)
    check("  - {when: {Not: {inputs: [f]}}, from: x, then: neg, as: r}\n", {"r": X if flag else -X}, feeds)


def test_weights_of_the_ways():
    graph = load("  - {when: f, from: y, then: [{dense: 2}], else: [{dense: 3}, {dense: 2}]}\n")
    assert {n for n in weights(graph) if n.endswith("weight")} == {
        "net.0.then.0.dense.weight", "net.0.else.0.dense.weight", "net.0.else.1.dense.weight"
    }  # fmt: skip
    assert graph.outputs[0].shape == (Sym("n"), 2)


def test_a_loop_changes_names_in_one_way_only():
    """The least element of v by a loop over its elements, and by a scan."""
    loop = """\
  - max: {from: v, axis: 0, as: least}
  - loop:
      n: 3
      of:
        - slice: {from: v, axis: 0, start: $i, end: $i + 1}
        - squeeze: {axes: 0, as: e}
        - Less: {inputs: [e, least], as: smaller}
        - {when: smaller, then: [{identity: {from: e, as: least}}, {neg: {from: v}}]}
"""
    check(loop, {"least": V.min()})
    scan = """\
  - scan:
      over: {e: v}
      axis: 0
      states: {least: .inf, at: -1, i: 0}
      of:
        - Less: {inputs: [e, least], as: smaller}
        - {when: smaller, then: [{identity: {from: e, as: least}}, {identity: {from: i, as: at}}]}
        - Add: {inputs: [i, 1], as: i}
"""
    graph = check(scan, {"least": V.min(), "at": V.argmin()})
    compiled_without_host(graph, FEEDS)


# --- with -------------------------------------------------------------------------------------------------------------
def test_values_of_each_iteration():
    net = "  - identity: {from: v, as: w}\n  - loop: {n: 3, with: {rate: [0.5, 0.25, $c], of: [1.0, 2.0, 3.0]}, of: [{Mul: {inputs: [w, $rate*$of], as: w}}]}\n"
    check(net, {"w": V * 0.5 * 0.5 * 12})
    check(net.replace("n: 3, ", ""), {"w": V * 3})
    graph = load("  - repeat: {with: {size: [7, 6], act: [relu, tanh]}, from: y, of: [{dense: $size}, $act]}\n")
    assert operators(graph) == ["Gemm", "Relu", "Gemm", "Tanh"]
    assert [n.output.shape[1] for n in graph.nodes] == [7, 7, 6, 6]
    blocks = "blocks: {b: {args: {out: required}, body: [{dense: $out}]}}\nnet:\n"
    graph = load("  - repeat: {with: {size: [7, 6]}, from: y, of: b, out: $size}\n", HEAD.replace("net:\n", blocks))
    assert [n.output.shape[1] for n in graph.nodes] == [7, 6]


# --- types that are known later, and weights from a file ---------------------------------------------------------------
UNKNOWN = "  - {Shape: {inputs: [x], as: shape}}\n  - Reshape: {inputs: [x, shape], as: u}\n"


def test_states_of_unknown_types():
    net = (
        UNKNOWN
        + "  - scan: {over: {t: y}, states: {s: u}, of: [{Add: {inputs: [s, 1.0], as: s}}], collect: {all: s}}\n"
    )
    steps = np.arange(1, 6, dtype=np.float32)[:, None]
    check(net, {"s": X + 5, "all": X[:, None] + steps[..., None]})
    check(
        UNKNOWN + "  - {when: f, then: [{relu: {from: u}}], else: [{tanh: {from: x}}], as: r}\n",
        {"r": np.maximum(X, 0)},
    )
    with pytest.raises(
        GraphcError, match=r"line 7, column 22: the type of 'net.1.Reshape' is known only when the model runs"
    ):
        load(UNKNOWN + "  - scan: {over: {t: u}, of: [{neg: {as: m}}], collect: m}\n")


def test_weights_from_a_file(tmp_path: Path):
    rng = np.random.default_rng(3)
    shapes = {"net.0.0.dense.weight": (4, 3), "net.0.0.dense.bias": (4,), "net.0.recurrent.weight": (4, 4)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "w.npz", **arrays)
    path = tmp_path / "m.yaml"
    path.write_text(ELMAN + "weights: {file: w.npz}\n")
    found = weights(load_yaml(path))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    np.savez(tmp_path / "w.npz", **{**arrays, "net.0.0.dense.bias": np.zeros(3, np.float32)})
    assert [p.message for p in check_file(path)] == ["weight 'net.0.0.dense.bias' has shape [3] in w.npz, not [4]"]


# --- problems ---------------------------------------------------------------------------------------------------------
def said(net: str, head: str = HEAD) -> list[str]:
    """Line and message of each problem."""
    try:
        load(net, head)
    except GraphcError as error:
        found = getattr(error, "problems", [error])
        return [f"{p.source.place.split(',')[0].removeprefix('line ')}: {p.message}" for p in found]
    return []


@pytest.mark.parametrize(
    ("net", "wanted"),
    [
        # what is there and what is missing
        ("  - scan: {}", ["5: scan needs 'over', 'of'"]),
        ("  - scan: x", ["5: 'scan' must be a mapping (key: value), not text"]),
        ("  - scan: {over: q, of: [relu], collect: r, axs: 1}", ["5: scan has no 'axs'"]),
        ("  - scan: {over: x, of: [relu]}", ["5: scan gives nothing: it has neither states nor `collect`"]),
        ("  - scan: {over: x, of: [relu], states: {}, collect: []}", ["5: scan gives nothing: it has neither states nor `collect`"]),
        ("  - scan: {over: [], of: [{relu: {as: r}}], collect: r}", ["5: there is nothing to scan over"]),
        ("  - while: {}", ["5: while needs 'states', 'condition', 'at_most', 'of'"]),
        ("  - while: {states: {}, condition: f, at_most: 3, of: [relu]}", ["5: while needs a state: nothing else changes its condition"]),
        ("  - {when: f, else: [relu]}", ["5: when needs `then`"]),
        ("  - {when: f, then: [relu], otherwise: [relu]}", ["5: when has no 'otherwise'"]),
        ("  - loop: {of: [{relu: {from: x}}]}", ["5: loop needs 'n'"]),
        # what is scanned
        ("  - scan: {over: q, of: [{relu: {as: r}}], collect: r}", ["5: no value is named 'q' here"]),
        ("  - scan: {over: 3, of: [{relu: {as: r}}], collect: r}", ["5: a value must be a name, not a whole number (3)"]),
        ("  - scan: {over: x, axis: 3, of: [{relu: {as: r}}], collect: r}", ["5: 'x' is float32[n, 5, 3]: it has no axis 3 to scan along"]),
        ("  - scan: {over: x, axis: one, reverse: 2, of: [{relu: {as: r}}], collect: r}",
         ["5: axis must be a whole number, not 'one'", "5: reverse must be true or false, not 2"]),
        ("  - scan: {over: [x, {t: y}], of: [relu], collect: r}", ["5: a value must be a name, not a mapping"]),
        ("  - scan: {over: [y, x], axis: -1, of: [{relu: {from: x, as: r}}], collect: r}",
         ["5: 'x' is float32[n, 5, 3], but 'y' is float32[n, 5]: they differ along axis -1"]),
        # first values
        ("  - scan:\n      over: x\n      states:\n        a: {shape: [n, 3], dtype: flaot32}\n        b: {shape: [n, 3], value: 0.5, dtype: int64}\n"
         "        c: {like: q}\n        d: {shape: [3], value: [1, 2]}\n        e:\n        g: r\n        h: {shape: [m, 3]}\n        i: {shap: [3]}\n"
         "        j: {dtype: float32}\n        l: {shape: [n + 1]}\n      of:\n        - {split: {parts: 1, as: [z]}}\n"
         + "".join(f"        - {{identity: {{as: {name}}}}}\n" for name in "abcdeghijl"),
         ["8: unknown dtype 'flaot32'", "9: 0.5 is a float beside an operand of int64", "10: no value is named 'q' here",
          "11: value must be one number", "12: a state needs a first value", "13: no value is named 'r' here", "14: no input has a size 'm'",
          "15: a first value has no 'shap'", "16: a first value takes either 'like' or 'shape'", "17: no input has a size 'n + 1'"]),
        # states
        ("  - scan: {over: x, states: {h: 0.0}, of: [{relu: {as: r}}], collect: r}", ["5: no step gives the next 'h'"]),
        ("  - scan:\n      over: x\n      states: {h: 0.0}\n      of:\n        - relu: {as: h}", ["9: state 'h' is float32[] at first and float32[n, 3] after a step"]),
        ("  - scan: {over: x, states: {h: {shape: [n, 3], value: 0}}, of: [{relu: {as: h}}]}",
         ["5: state 'h' is int64[n, 3] at first and float32[n, 3] after a step"]),
        ("  - scan: {over: x, states: {h: {shape: [n, 4]}}, of: [{relu: {as: h}}]}",
         ["5: state 'h' is float32[n, 4] at first and float32[n, 3] after a step"]),
        ("  - scan: {over: x, states: {h: v, x: 0.0}, of: [{relu: {from: v, as: h}}]}", ["5: 'x' is both a state and an element"]),
        ("  - scan: {over: {t: x}, states: {y: {shape: [n, 3]}}, of: [{relu: {from: t, as: y}}]}", ["5: the name 'y' is taken"]),
        ("  - scan: {over: {t: x}, states: {h: {shape: [n, 3]}}, of: [{relu: {from: t, as: y}}, {tanh: {as: h}}]}",
         ["5: 'y' is a value outside, which a step of a scan can't change"]),
        # what is collected
        ("  - scan: {over: x, of: [{relu: {as: r}}], collect: rr}", ["5: no value is named 'rr' here"]),
        ("  - scan: {over: x, of: [{relu: {as: r}}], collect: [r, r]}", ["5: 'r' is collected twice"]),
        ("  - scan: {over: x, of: [{relu: {as: r}}], collect: {last: r}}", ["5: 'last' always means what the step before gave"]),
        ("  - scan: {over: x, states: {h: {shape: [n, 3]}}, of: [{relu: {as: h}}], collect: h}",
         ["5: 'h' is a state: its last value goes by that name"]),
        ("  - scan: {over: y, of: [{ReduceSum: {keepdims: 0, as: r}}], collect: r}", ["5: 'r' is float32[]: it can't be stacked along axis 1"]),
        ("  - scan: {over: x, of: [{relu: {as: r}}, {tanh: {as: s}}], collect: s}\n  - relu: {from: r}", ["6: no value is named 'r' here"]),
        # what follows is not reported, what does not follow is
        ("  - scan: {over: {t: x}, states: {h: {shape: [n, 3]}, k2: 0.0}, of: [{relu: {from: tt, as: h}}, {dense: {out: three, as: k2}}, {conv: 3}], "
         "collect: {h: k2, q: nope}}\n  - relu: {from: q}\n  - nope",
         ["5: no value is named 'tt' here", "5: 'out' of 'dense' must be a whole number, not 'three'", "5: 'h' is a state: its last value goes by that name",
          "5: no value is named 'nope' here", "7: unknown layer 'nope'"]),
        ("  - scan: {over: x, states: {h: q}, of: [{add: {from: [h, x], as: h}}, {conv: {from: x, out: 3}}], collect: {all: h}}\n  - relu: {from: all}\n  - tanh: {from: h}",
         ["5: no value is named 'q' here", "5: conv: needs an input of rank 3 or 4 or 5, not float32[n, 3]"]),
        # conditions
        ("  - while: {states: {n: 0}, condition: g, at_most: 3, of: [{Add: {inputs: [n, 1], as: n}}, {Less: {inputs: [n, 3], as: g}}]}",
         ["5: the condition 'g' is not known"]),
        ("  - while: {states: {n: 0}, condition: n, at_most: 3, of: [{Add: {inputs: [n, 1], as: n}}]}",
         ["5: the condition must be one boolean, bool[], not int64[]"]),
        ("  - while: {states: {n: v}, condition: [{Less: {inputs: [n, 3.0]}}], at_most: 4, of: [{Add: {inputs: [n, 1.0], as: n}}]}",
         ["5: the condition must be one boolean, bool[], not bool[3]"]),
        ("  - while: {states: {n: 0}, condition: 3, at_most: 9, of: [{Add: {inputs: [n, 1], as: n}}]}",
         ["5: the condition must be the name of a boolean, or steps that give one, not a whole number"]),
        ("  - while: {states: {n: 0}, condition: [{Less: {inputs: [m, 3]}}], at_most: 9, of: [{Add: {inputs: [n, 1.5], as: n}}]}",
         ["5: no value is named 'm' here", "5: 1.5 is a float beside an operand of int64"]),
        ("  - while: {states: {n: 0}, condition: [{Less: {inputs: [n, 3], as: n}}], at_most: 4, of: [{Add: {inputs: [n, 1], as: n}}]}",
         ["5: 'n' is a value outside, which a step of a while can't change"]),
        ("  - while: {states: {n: 0}, condition: f, at_most: 0, of: [{Add: {inputs: [n, 1], as: n}}]}", ["5: at_most must be from 1 to 2147483648, not 0"]),
        ("  - while: {states: {n: 0}, condition: f, at_most: many, of: [{Add: {inputs: [n, 1], as: n}}]}", ["5: at_most must be a whole number, not 'many'"]),
        ("  - {when: q, then: [{relu: {from: x}}], else: [{nope: 3}]}", ["5: no value is named 'q' here", "5: unknown layer 'nope'"]),
        ("  - {when: y, then: [{relu: {from: x}}], else: [{tanh: {from: x}}]}", ["5: the condition must be one boolean, bool[], not float32[n, 5]"]),
        # ways
        ("  - {when: f, then: [{relu: {from: x}}], else: [{tanh: {from: y}}]}", ["5: `then` gives float32[n, 5, 3] and `else` float32[n, 5]"]),
        ("  - {when: f, then: [{relu: {from: x}}]}", ["5: `then` gives float32[n, 5, 3] and `else` nothing"]),
        ("  - when: f\n    then: [{relu: {from: x, as: a}}]\n    else: [{tanh: {from: y, as: a}}]", ["6: 'a' is float32[n, 5, 3] by `then` and float32[n, 5] by `else`"]),
        ("  - {when: f, then: [{relu: {from: x, as: a}}], else: [{tanh: {from: x, as: b}}]}\n  - {add: {from: [a, b]}}",
         ["6: no value is named 'a' here", "6: no value is named 'b' here"]),
        ("  - {when: f, then: [{relu: {from: x, as: y}}], else: [{tanh: {from: x, as: y}}]}", ["5: the name 'y' is taken"]),
        ("  - {when: f, then: [{dense: {from: k, out: 3, as: a}}], else: [{relu: {from: x, as: a}}, {conv: {from: v, out: 3}}]}\n  - relu: {from: a}",
         ["5: dense: needs an input of rank 2 or 3, not int64[]", "5: conv: needs an input of rank 3 or 4 or 5, not float32[3]"]),
        ("  - {when: q, from: x, then: [{let: {a: last}}], else: [{let: {a: -last}}]}\n  - relu: {from: a}", ["5: no value is named 'q' here"]),
        # with
        ("  - loop: {n: 3, with: {a: [1, 2]}, of: [{scale: {by: $a, from: x}}]}", ["5: 'a' has 2 of 3 values"]),
        ("  - loop: {with: {a: [1, 2], b: [1]}, of: [{scale: {by: $a*$b, from: x}}]}", ["5: 'b' has 1 of 2 values"]),
        ("  - loop: {with: {a: 1}, of: [{scale: {by: $a, from: x}}]}", ["5: 'a' of with must be a list, not a whole number"]),
        ("  - loop: {with: {c: [1]}, of: [{scale: {by: $c, from: x}}]}", ["5: 'c' is a param or argument already"]),
        ("  - loop: {with: {i: [1], a-b: [2]}, of: [{scale: {by: $i, from: x}}]}", ["5: 'i' can't be a name here", "5: 'a-b' can't be a name here"]),
        ("  - loop: {with: {}, of: [{relu: {from: x}}]}", ["5: with names nothing"]),
        ("  - loop: {with: {a: [1.0, 2.0]}, of: [{scale: {by: $aa, from: x}}]}\n  - scale: {by: $a}",
         ["5: unknown variable '$aa': did you mean '$a'?", "6: unknown variable '$a': known here: c, channels, features, i"]),
    ],
)  # fmt: skip
def test_mistakes(net: str, wanted: list[str]):
    assert said(net) == wanted


def test_hints_of_names_that_are_known_inside_only():
    with pytest.raises(GraphcError, match="it is inside the scan of line 5: `collect` hands its values on"):
        load("  - scan: {over: x, of: [{relu: {as: r}}, {tanh: {as: s}}], collect: s}\n  - relu: {from: r}")
    with pytest.raises(GraphcError, match="only one way of the when of line 5 gives it: name it on both"):
        load("  - {when: f, then: [{relu: {from: x, as: a}}], else: [{tanh: {from: x}}]}\n  - relu: {from: a}")
    with pytest.raises(GraphcError, match=r"a state of zeros says its shape: \{shape: \[n, 3\]\}"):
        load("  - scan: {over: x, states: {h: 0.0}, of: [{relu: {as: h}}]}")


def test_problems_in_blocks_that_nothing_uses():
    blocks = """\
blocks:
  a: {body: [{scan: {over: x, of: [nope]}}, {while: {states: {}, of: [relu]}}]}
  b: {body: [{when: [{nope: 1}], then: [{relu: {alpha: 3}}], else: [{scan: {over: x}}]}]}
  d: {body: [{loop: {with: {a: [1]}, of: [{scale: $a}, {scale: $b}]}}]}
"""
    found = said("  - relu: {from: x}\n", HEAD.replace("net:\n", blocks + "net:\n"))
    assert found == [
        "5: unknown layer 'nope'", "5: while needs 'condition', 'at_most'", "6: unknown layer 'nope'", "6: 'relu' has no 'alpha'",
        "6: scan needs 'of'", "7: unknown variable '$b': known here: a, c, channels, features, i",
    ]  # fmt: skip


ALL = """\
  - sum: {from: y, axis: 0, as: s}
  - scan:
      over: {a: x, b: y}
      axis: 1
      reverse: true
      states: {h: {shape: [n, 3], value: 0.5}, g: s, q: 0}
      of:
        - when: f
          from: a
          then: [{dense: {out: 3, as: e}}, {relu: {}}]
          else: [{neg: {as: e}}]
        - let: {g: g + 1.0, q: q + $c, h: h + e}
      collect: {all: h, r: last}
  - while:
      states: {s: s, t: 0.0, again: true}
      condition: again
      at_most: 5
      of: [{loop: {with: {w: [1.0, 2.0]}, of: [{let: {s: s*$w}}]}}, {let: {t: t + 1.0, again: t < 3.0}}]
outputs: [all, r, h, g, q, s, t]
"""
_WORDS = [
    "", "-1", "relu", "$c", "$zz", "[", "{", "0", "n", "null", "1.5", "x", "as", "last", "scan", "h", "when", "true", "of"
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutilated_net_has_problems_with_places(data):
    """Lose or swap words: every problem is ours, has a place, and is told once; without problems it can be written as ONNX."""
    words = re.split(r"(\W)", HEAD + ALL)
    start = len(re.split(r"(\W)", HEAD))
    for _ in range(data.draw(st.integers(0, 3))):
        words[data.draw(st.integers(start, len(words) - 1))] = data.draw(st.sampled_from(_WORDS))
    try:
        graph = loads_yaml("".join(words), file="m.yaml")
        verify(graph)
        to_onnx(graph)
    except GraphcError as error:
        found = getattr(error, "problems", [error])
        assert all(p.source.file == "m.yaml" and p.source.place for p in found)
        assert len({(p.source.place, p.message) for p in found}) == len(found)


def test_all_together():
    found = results(load(ALL), FEEDS)
    assert found["q"] == 20 and found["t"] == 3
    np.testing.assert_allclose(found["s"], Y.sum(0) * 8, rtol=1e-5)
    np.testing.assert_allclose(found["g"], Y.sum(0) + 5, rtol=1e-5)
    w = weights(load(ALL))
    after = X @ w["net.1.0.then.0.dense.weight"].T + w["net.1.0.then.0.dense.bias"]
    sums = 0.5 + np.cumsum(after[:, ::-1], 1)[:, ::-1]
    for name in ("all", "r"):
        np.testing.assert_allclose(found[name], sums, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["h"], sums[:, 0], rtol=1e-4, atol=1e-5)


# --- warnings ---------------------------------------------------------------------------------------------------------
INPUTS = {name: f"no output depends on the input '{name}'" for name in "xyfvk"}


@pytest.mark.parametrize(
    ("net", "used", "wanted"),
    [
        ("  - scan: {over: {t: x, u: y}, states: {h: {shape: [n, 3]}}, of: [{relu: {from: t, as: a}}, {tanh: {from: t}}, {tanh: {from: t, as: h}}]}\n",
         "xy", ["nothing reads the result of layer 'net.0.0.relu'", "nothing reads the result of layer 'net.0.1.tanh'"]),
        # a state, and something collected, that nothing reads outside; a state that another one needs
        ("  - scan: {over: {t: x}, states: {h: {shape: [n, 3]}, a: {like: v}, b: {like: v}}, of: [{add: {from: [t, b], as: h}}, {exp: {from: h, as: q}}, "
         "{Add: {inputs: [a, v], as: a}}, {Add: {inputs: [b, 1.0], as: b}}], collect: [q]}\n  - relu: {from: h}\n",
         "xv", ["no output depends on the result of layer 'net.0.1.exp'", "no output depends on the result of layer 'net.0.2.Add'"]),
        ("  - while: {states: {s: v}, condition: f, at_most: 4, of: [{Add: {inputs: [s, 1.0], as: s}}, {tanh: {from: x}}]}\n",
         "vf", ["nothing reads the result of layer 'net.0.1.tanh'"]),
        ("  - {when: f, then: [{relu: {from: v, as: a}}, {relu: {from: v}}], else: [{tanh: {from: v, as: a}}, {exp: {from: y}}, {relu: {from: v}}]}\n",
         "vf", ["no output depends on the result of layer 'net.0.then.0.relu'", "no output depends on the result of layer 'net.0.else.0.tanh'",
                "nothing reads the result of layer 'net.0.else.1.exp'"]),
        ("  - loop: {with: {a: [1.0, 2.0], b: [3, 4]}, of: [{scale: {by: $a, from: x, as: q}}]}\n", "x",
         ["nothing uses 'b'", "nothing reads the result of layer 'net.0.0.0.scale'"]),
    ],
)  # fmt: skip
def test_what_nothing_uses_is_warned_about(net: str, used: str, wanted: list[str]):
    graph = load(net, HEAD.replace("params: {c: 4}\n", ""))
    found = [w.message for w in graph.meta["warnings"]]
    assert found == [INPUTS[name] for name in "xyfvk" if name not in used] + wanted
