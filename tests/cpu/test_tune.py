"""Algorithms of convolutions: what may be chosen, what is chosen, how exact each is, and choices by measurement."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import graphc
from graphc.backends import tuned
from graphc.backends.cpu import costs, tune
from graphc.backends.cpu.conv.algorithms import ERROR_LIMIT, candidates, choose, error_bound
from graphc.backends.cpu.conv.window import Window
from graphc.backends.cpu.lower.policy import DIRECT, WINOGRAD, Policy
from graphc.backends.cpu.target import Target, detect
from graphc.cli.app import main
from graphc.documents import write_document
from graphc.errors import InputError, UnsupportedError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph
from graphc.interpret import run_graph

F32 = np.float32
TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]
ALL = [DIRECT, *WINOGRAD.values()]


def target_of(name: str) -> Target:
    try:
        return detect(name.partition(":")[2] or None)
    except UnsupportedError as error:
        pytest.skip(str(error))


def layer(channels: int = 32, out: int = 32, size: int = 18, kernel: int = 3, seed: int = 0) -> Graph:
    """x [1, channels, size, size] -> y: a convolution with ReLU."""
    b, rng = Builder("layer"), np.random.default_rng(seed)
    x = b.input("x", F32, (1, channels, size, size))
    w = b.constant(rng.standard_normal((out, channels, kernel, kernel)) / (channels * kernel**2) ** 0.5, F32)
    bias = b.constant(rng.standard_normal(out), F32)
    y = b.add("Relu", b.add("Conv", x, w, bias, pads=[kernel // 2] * 4, name="conv"))
    return b.build({"y": y})


def window(channels: int = 64, out: int = 64, size: int = 56) -> Window:
    image, threes, ones = (1, size, size), (1, 3, 3), (1, 1, 1)
    return Window(1, channels, out, image, image, threes, ones, ones, (0, 1, 1), (0, 1, 1))


def step_of(model: graphc.Model):
    return next(s for s in model.plan().steps if "Conv" in s.ops)


def error(model: graphc.Model, graph: Graph) -> float:
    """Of a run on random data, over the result's scale."""
    x = np.random.default_rng(7).standard_normal(graph.inputs[0].shape).astype(F32)
    weights = {v: v.data for v in graph.constants()}
    wide = Graph("wide", graph.inputs, graph.outputs, graph.nodes, graph.output_names)
    assert weights
    expected = run_graph(wide, [x])[0].astype(np.float64)
    return float(np.abs(model(x) - expected).max() / np.abs(expected).max())


# --- exactness --------------------------------------------------------------------------------------------------------
def exact_error(m: int, channels: int, seed: int) -> float:
    """Error of the target's F(m x m) over the scale of a result that float64 gives."""
    graph = layer(channels, 16, 18, seed=seed)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1, channels, 18, 18)).astype(F32)
    conv = graph.nodes[0]
    w, bias = (v.data.astype(np.float64) for v in conv.inputs[1:])
    padded = np.pad(x[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    expected = np.maximum(np.tensordot(w, views, ([1, 2, 3], [0, 3, 4])) + bias[:, None, None], 0)
    actual = forced(graph, detect(), WINOGRAD[m])(x)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def forced(graph: Graph, target: Target, algorithm: str, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Runs a graph of one input and one output with one algorithm for its convolutions."""
    from graphc.backends.cpu.runtime.process import runtime_of
    from graphc.backends.cpu.runtime.run import Runner
    from graphc.backends.cpu.stages import STAGES, Draft
    from graphc.lower.lowered import lowered
    from graphc.lower.weights import WeightStore

    weights = WeightStore()
    done = lowered(STAGES, Draft(graph, target, threads, weights, Policy(forced=algorithm)))
    assert any(s.algorithm == algorithm for s in done.steps)
    runtime = runtime_of(target)
    addresses = runtime.toolchain().addresses(done.kernels)
    results = [(t.shape, t.dtype) for _, t in done.results]
    runner = Runner(done.assembled, [addresses[k] for k in done.kernels], runtime.executor(threads), results)
    return lambda x, _=weights: runner.run([x])[0][0]


@pytest.mark.parametrize("m", WINOGRAD)
@pytest.mark.parametrize("channels", [16, 256])
def test_errors_stay_below_half_of_the_bound(m: int, channels: int) -> None:
    assert max(exact_error(m, channels, seed) for seed in range(3)) < error_bound(m, channels) / 2


def test_larger_tiles_and_more_channels_round_more() -> None:
    bounds = [error_bound(m, 64) for m in WINOGRAD]
    assert all(a < b for a, b in pairwise(bounds)) and error_bound(4, 256) == 2 * error_bound(4, 64)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_algorithm_gives_the_result(name: str, algorithm: str, threads: int) -> None:
    target = target_of(name)
    graph = layer(32, 48, 11)
    x = np.random.default_rng(3).standard_normal((1, 32, 11, 11)).astype(F32)
    expected = run_graph(graph, [x])[0][0]
    actual = forced(graph, target, algorithm, threads)(x)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


# --- choices ----------------------------------------------------------------------------------------------------------
def test_only_plain_3x3_layers_in_whole_blocks_have_a_choice() -> None:
    target = detect()
    assert [c.algorithm for c in candidates(window(), 1, target)] == ALL
    assert [c.algorithm for c in candidates(window(channels=target.vl + 1), 1, target)] == [DIRECT]
    assert [c.algorithm for c in candidates(window(), 2, target)] == [DIRECT]
    assert [c.algorithm for c in candidates(window(), 64, target)] == ["depthwise"]


@pytest.mark.parametrize("largest", [6, 4, 2, 0])
def test_the_largest_tile_bounds_the_choice(largest: int) -> None:
    for c in candidates(window(), 1, detect(), largest):
        allowed = c.algorithm == DIRECT or next(m for m, n in WINOGRAD.items() if n == c.algorithm) <= largest
        assert bool(c.excluded) == (not allowed)
    assert choose(window(size=224), 1, detect(), Policy(largest)).algorithm == WINOGRAD.get(largest, DIRECT)


def test_the_error_excludes_an_algorithm_and_the_reason_says_so() -> None:
    large = window(channels=1024, size=112)
    choice = choose(large, 1, detect(), Policy())
    assert error_bound(6, 1024) > ERROR_LIMIT and choice.algorithm != WINOGRAD[6]
    assert f"not {WINOGRAD[6]}: its error may reach 8.8e-05 of scale, more than 5e-05" in choice.reason


def test_the_reason_has_every_estimate() -> None:
    reason = choose(window(), 1, detect(), Policy()).reason
    assert reason.startswith("estimated ") and reason.count(" µs") + reason.count(" ms") == len(ALL)


def test_choices_depend_neither_on_threads_nor_on_the_batch() -> None:
    b = Builder("batch")
    x = b.input("x", F32, ("n", 32, 20, 20))
    w = b.constant(np.random.default_rng(0).standard_normal((32, 32, 3, 3)) / 17, F32)
    graph = b.build({"y": b.add("Conv", x, w, pads=[1] * 4)})
    data = np.random.default_rng(1).standard_normal((5, 32, 20, 20)).astype(F32)
    results = [graphc.compile(graph, threads=threads)(data) for threads in (1, 2, 3)]
    one = graphc.compile(graph, threads=1)
    results.append(np.concatenate([one(data[i : i + 1]) for i in range(5)]))
    assert all(np.array_equal(results[0], r) for r in results[1:])


def test_the_option_changes_the_plan_and_its_key(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(layer(64, 64, 112)).SerializeToString())
    found = {m: step_of(graphc.compile(str(path), winograd=m, threads=1)).algorithm for m in (6, 4, 2, 0, 6)}
    assert found == {6: WINOGRAD[6], 4: WINOGRAD[4], 2: WINOGRAD[2], 0: DIRECT}


@pytest.mark.parametrize("value", [3, 8, -2, True, "6", None, 4.0])
def test_a_tile_that_nobody_has(value) -> None:
    with pytest.raises(InputError, match="winograd must be 6, 4, 2 or 0"):
        graphc.compile(layer(), winograd=value)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_tune_is_a_truth_value(value) -> None:
    with pytest.raises(InputError, match="tune must be True or False"):
        graphc.compile(layer(), tune=value)


# --- measurements -----------------------------------------------------------------------------------------------------
@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Layers that were measured, with an empty cache of measurements; each time is a made-up one."""
    monkeypatch.setattr(tuned, "own_root", lambda: tmp_path)
    seen = []

    def measure(node, target, threads, names, cache=True, evict=None) -> dict[str, float]:
        seen.append(node.name)
        return {name: 1e-3 if name == WINOGRAD[2] else 2e-3 for name in names}

    monkeypatch.setattr(tune, "measure", measure)
    return seen


def test_what_was_measured_is_chosen_and_kept(measurements: list[str], tmp_path: Path) -> None:
    first = graphc.compile(layer(), tune=True, threads=1)
    step = step_of(first)
    assert measurements == ["conv"] and step.algorithm == WINOGRAD[2]
    assert step.reason.startswith("measured 1 ms (direct 2 ms, ")
    graphc.compile(layer(seed=5), tune=True, threads=1)  # another model with the same layer
    assert measurements == ["conv"] and len(list((tmp_path / "tuned").iterdir())) == 1
    assert step_of(graphc.compile(layer(), threads=1)).reason.startswith("estimated ")


def test_threads_instruction_set_and_layer_are_measured_apart(measurements: list[str]) -> None:
    graphc.compile(layer(), tune=True, threads=1)
    graphc.compile(layer(), tune=True, threads=2)
    graphc.compile(layer(), tune=True, threads=1, target="cpu:portable")
    graphc.compile(layer(size=20), tune=True, threads=1)
    assert len(measurements) == 4


def test_an_algorithm_that_was_not_allowed_is_measured_when_it_is(measurements: list[str]) -> None:
    graphc.compile(layer(), tune=True, winograd=4, threads=1)
    assert step_of(graphc.compile(layer(), tune=True, winograd=4, threads=1)).algorithm == WINOGRAD[2]
    assert len(measurements) == 1
    graphc.compile(layer(), tune=True, threads=1)
    assert len(measurements) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"nothing"),
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: write_document(path, {"layer": "another", "seconds": dict.fromkeys(ALL, 1.0)}),
        lambda path: write_document(path, {"layer": 3}),
        lambda path: write_document(path, [1, 2]),
        lambda path: _change(path, dict.fromkeys(ALL, "fast")),
        lambda path: _change(path, dict.fromkeys(ALL, -1.0)),
        lambda path: _change(path, {DIRECT: 1.0}),
    ],
)
def test_a_damaged_or_foreign_file_is_measured_anew(measurements: list[str], tmp_path: Path, damage) -> None:
    graphc.compile(layer(), tune=True, threads=1)
    (path,) = (tmp_path / "tuned").iterdir()
    damage(path)
    assert step_of(graphc.compile(layer(), tune=True, threads=1)).algorithm == WINOGRAD[2]
    assert len(measurements) == 2
    graphc.compile(layer(), tune=True, threads=1)
    assert len(measurements) == 2  # it was written again


def _change(path: Path, seconds: dict) -> None:
    from graphc.documents import read_document

    write_document(path, read_document(path) | {"seconds": seconds})


def test_without_a_cache_nothing_is_kept(measurements: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        graphc.compile(layer(), tune=True, threads=1, cache=False)
    assert len(measurements) == 2 and not (tmp_path / "tuned").exists()


def test_time_is_bounded(measurements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "TOTAL_SECONDS", -1.0)
    assert step_of(graphc.compile(layer(), tune=True, threads=1)).reason.startswith("estimated ")
    assert measurements == []


@pytest.mark.parametrize("threads", [1, 2])
def test_a_real_measurement(threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tuned, "own_root", lambda: tmp_path)
    monkeypatch.setattr(tune, "ROUNDS", 2)
    graph, stages = layer(32, 32, 14), []
    model = graphc.compile(graph, tune=True, threads=threads, progress=lambda *report: stages.append(report))
    step = step_of(model)
    assert step.reason.startswith("measured ") and step.algorithm in ALL
    assert ("tuning", 0, 1) in stages and ("tuning", 1, 1) in stages
    assert error(model, graph) < 2e-5


def test_layers_without_a_choice_are_not_measured(measurements: list[str]) -> None:
    graphc.compile(layer(kernel=1), tune=True, threads=1)
    graphc.compile(layer(channels=3), tune=True, threads=1)
    graphc.compile(layer(), tune=True, winograd=0, threads=1)
    graphc.compile(layer(channels=256, out=256, kernel=1), tune=True, disabled=["strassen"], threads=1)
    assert measurements == []


def test_command_line(tmp_path: Path, measurements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))  # which has no plan of an earlier session
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(layer()).SerializeToString())

    def run(*options: str) -> Result:
        return CliRunner().invoke(main, ["explain", str(path), "--threads", "1", *options])

    assert "switched off" in run("--winograd", "0").output
    assert "measured" in run("--tune").output and measurements == ["conv"]
    assert run("--winograd", "3").exit_code == 2


def test_the_constants_cover_every_target() -> None:
    for rates in costs.LAYERS.values():
        assert set(rates) == {DIRECT, "depthwise", "strassen", *WINOGRAD.values()}
        assert all(r >= 0 for values in rates.values() for r in values)
