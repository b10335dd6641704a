"""RNN, GRU and LSTM on CUDA kernels, in checked runs: a read or write out of bounds is an error, and so is a race."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suite import check, compiled, host_reasons, results, use, uses_of

import graphc
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.backends.cuda.codegen.figures import Card
from graphc.backends.cuda.recurrent import forms, recurrent
from graphc.backends.cuda.recurrent.recurrent import kernel_of
from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.ops.recurrent import bound_cell
from graphc.sizes import for_speed
from graphc.testing import Use

TARGET = "cuda:emulate"
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
WEIGHTS = (1, 2, 3, 7)  # operands
HIDDEN, BATCHES = (1, 3, 16, 33, 100), (1, 2, 5)


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


def layer(
    name: str,
    batch: int,
    hidden: int,
    seq: int = 3,
    inputs: int = 4,
    lens: Sequence[int] | None = None,
    states: bool = True,
    peepholes: bool = True,
    constants: Sequence[int] = WEIGHTS,
    outputs: int = 0,
    **attrs: Any,
) -> Use:
    """A layer of these sizes with biases."""
    rng, directions = np.random.default_rng(0), 2 if attrs.get("direction") == "bidirectional" else 1
    first, gates = attrs.get("layout", 0) == 1, GATES[name] * hidden

    def draw(*shape: int) -> np.ndarray:
        return (rng.uniform(-1, 1, shape) / hidden**0.5).astype(np.float32)

    x = draw(batch, seq, inputs) if first else draw(seq, batch, inputs)
    state = (batch, directions, hidden) if first else (directions, batch, hidden)
    arrays = [x, draw(directions, gates, inputs), draw(directions, gates, hidden), draw(directions, 2 * gates)]
    arrays.append(None if lens is None else np.array(lens[:batch], np.int32))  # type: ignore[arg-type]
    if states:
        arrays += [draw(*state) for _ in range(2 if name == "LSTM" else 1)]
        arrays += [draw(directions, 3 * hidden)] if name == "LSTM" and peepholes else []
    while arrays[-1] is None:
        arrays.pop()
    given = [i for i in constants if i < len(arrays) and arrays[i] is not None]
    return use(name, *arrays, constants=given, n_outputs=outputs or (3 if name == "LSTM" else 2), **attrs)


def run(one: Use) -> graphc.Model:
    """Results are those of the reference, and kernels made them. Gives the model."""
    model = check(one, TARGET)
    assert not host_reasons(model, one), one
    return model


def only(kind: str, monkeypatch: pytest.MonkeyPatch, multiprocessors: int | None = None) -> None:
    """Layers run in this way (recurrent/forms.py). multiprocessors: that there are."""

    def form_of(p: forms.Problem, card: Card, has: int, steps: bool) -> forms.Form:
        found = (f for f in forms.forms_of(p, card, multiprocessors or has, steps) if f.kind == kind)
        return min(found, key=lambda f: f.seconds)

    monkeypatch.setattr(recurrent, "form_of", for_speed(form_of))


def reason(model: graphc.Model) -> str:
    """Of the step through time."""
    return model.plan().steps[-1].reason


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", GATES)
def test_every_case(name: str):
    """Whatever the model of costs says is the fastest; the same by each way is below, and in test_persistent.py."""
    for one in uses_of(name):
        run(one)


@pytest.mark.sample(2)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_sizes(hidden: int):
    for batch in BATCHES:
        run(layer("LSTM", batch, hidden, direction="bidirectional", lens=(2, 3, 0, 1, 3)))
        run(layer("GRU", batch, hidden, direction="reverse"))
        run(layer("RNN", batch, hidden, layout=1, states=False, direction="bidirectional"))


@pytest.mark.sample(2)
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("lens", [None, (3, 0, 2, 1, 3)])
def test_directions_lengths_and_layouts(lens: Sequence[int] | None, layout: int):
    for direction in ("forward", "reverse", "bidirectional"):
        for name in GATES:
            run(layer(name, 5, 16, direction=direction, lens=lens, layout=layout))
            run(layer(name, 2, 33, direction=direction, lens=lens, layout=layout, states=False))


@pytest.mark.sample(2)
@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_lstm_peepholes_and_clip(peepholes: bool, clip: float | None):
    attrs = {} if clip is None else {"clip": clip}
    run(layer("LSTM", 3, 5, peepholes=peepholes, lens=(1, 3, 2), direction="bidirectional", **attrs))


# --- blocks -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name, batch, hidden, busy, rows, attrs",
    [
        ("LSTM", 5, 33, 2, 4, {"lens": (2, 3, 0, 1, 3)}),
        ("LSTM", 10, 100, 2, 8, {"lens": (2, 3, 0, 1, 3, 3, 0, 0, 2, 1), "direction": "bidirectional"}),
        ("GRU", 5, 33, 1, 4, {"lens": (2, 3, 0, 1, 3), "direction": "reverse"}),  # two stages
    ],
)
def test_rows_of_a_block(
    name: str, batch: int, hidden: int, busy: int, rows: int, attrs: dict, monkeypatch: pytest.MonkeyPatch
):
    only(forms.BLOCKS, monkeypatch)
    monkeypatch.setattr(recurrent, "BUSY", busy)
    model = run(layer(name, batch, hidden, **attrs))
    assert reason(model) == f"{rows} of {batch} rows a block, states in shared memory"


def test_states_that_do_not_fit_in_shared_memory(monkeypatch: pytest.MonkeyPatch):
    only(forms.BLOCKS, monkeypatch)
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 100)
    monkeypatch.setattr(recurrent, "BUSY", 4)
    model = run(layer("GRU", 6, 33, lens=(2, 3, 0, 1, 3, 2), direction="bidirectional"))
    assert reason(model) == "4 of 6 rows a block, states in scratch memory"


def test_blocks_of_large_layers():
    """What a kernel keeps follows from the sizes."""
    for name, batch, hidden, rows, shared in (
        ("LSTM", 1, 256, 1, True),
        ("LSTM", 200, 256, 4, True),
        ("LSTM", 5000, 256, 8, True),
        ("GRU", 5000, 256, 4, True),  # two stages
        ("LSTM", 5000, 1024, 4, True),
        ("LSTM", 5000, 4096, 1, True),
        ("LSTM", 5000, 4097, 4, False),
    ):
        kernel = kernel_of(*_sized(name, batch, hidden))
        assert (kernel.rows, kernel.shared) == (rows, shared), (name, batch, hidden)


def _sized(name: str, batch: int, hidden: int, dtype: str = "float32", **attrs: Any) -> tuple[Any, Any]:
    """A node and its cell, without any memory for the weights."""
    b = Builder("sizes")
    shapes = (3, batch, 4), (1, GATES[name] * hidden, 4), (1, GATES[name] * hidden, hidden)
    y = b.add(name, *(b.input(f"x{i}", dtype, s) for i, s in enumerate(shapes)), **attrs)
    (node,) = b.build({"y": y}).nodes
    return node, bound_cell(node.call)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "arch, name, batch, hidden",
    [((8, 0), "LSTM", 5000, 256), ((9, 0), "GRU", 250, 256), ((9, 0), "LSTM", 5000, 5000)],
)
def test_registers_are_not_spilled(arch: tuple[int, int], name: str, batch: int, hidden: int):
    kernel = kernel_of(*_sized(name, batch, hidden))
    assert kernel.rows == (8 if (name, hidden) == ("LSTM", 256) else 4)
    made = cubin_of(kernel, arch)
    assert not made.spilled and not made.stack and made.registers * kernel.threads <= 1 << 16


# --- step by step -----------------------------------------------------------------------------------------------------
@pytest.mark.sample(3)
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(
    "batch, hidden, attrs",
    [
        (1, 130, {"seq": 4}),
        (5, 70, {"direction": "bidirectional", "lens": (3, 1, 0, 2, 3)}),
        (9, 33, {"layout": 1}),
        (2, 7, {"direction": "reverse", "states": False, "lens": (1, 3)}),
        (3, 8, {"linear_before_reset": 1, "clip": 0.5}),
    ],
)
def test_step_by_step(name: str, batch: int, hidden: int, attrs: dict, monkeypatch: pytest.MonkeyPatch):
    """A launch for each stage of each step, of the whole grid."""
    only(forms.STEPS, monkeypatch)
    if name != "GRU":
        attrs = {k: v for k, v in attrs.items() if k != "linear_before_reset"}
    model = run(layer(name, batch, hidden, **attrs))
    stages = 2 if name == "GRU" and not attrs.get("linear_before_reset") else 1
    steps = [s for s in model.plan().steps if s.algorithm == "step by step"]
    assert len(steps) == attrs.get("seq", 3) * stages


def test_both_ways_give_the_same_lengths_out_of_range(monkeypatch: pytest.MonkeyPatch):
    only(forms.STEPS, monkeypatch)
    one = layer("GRU", 3, 5, lens=(1, 2, 3))
    model = compiled(one, TARGET)
    feeds = dict(zip([i.name for i in model.inputs], [a for i, a in enumerate(one.arrays) if i not in one.constants]))
    lens = next(n for n, a in feeds.items() if a.dtype == np.int32)
    with pytest.raises(InputError, match="4"):
        model.run(feeds | {lens: np.array([1, 4, 2], np.int32)})


# --- operands -----------------------------------------------------------------------------------------------------------
@pytest.mark.sample(2)
@pytest.mark.parametrize("name", GATES)
def test_weights_computed_at_run_time_give_the_same(name: str):
    for attrs in ({}, {"linear_before_reset": True}) if name == "GRU" else ({},):
        given = {"direction": "bidirectional", "peepholes": True, **attrs}
        constants, inputs = layer(name, 3, 6, **given), layer(name, 3, 6, constants=(), **given)
        for a, b in zip(results(run(constants), constants), results(run(inputs), inputs)):
            np.testing.assert_array_equal(a, b)


def test_states_and_input_that_are_views():
    """x, w, r, initial_h and sequence_lens are parts of larger tensors, or their transposes."""
    b, rng = Builder("views"), np.random.default_rng(0)
    sizes = {"x": (4, 6, 5), "w": (5, 27, 1), "r": (9, 1, 27), "h": (1, 6, 9)}
    x, w, r, h = (b.input(n, "float32", s) for n, s in sizes.items())
    n = b.input("n", "int64", (6,))

    def part(v: Value, axis: int) -> Value:
        return b.add("Split", v, b.constant(np.array([2, 4])), axis=axis, outputs=2)[1]

    lens = b.add("Cast", part(n, 0), to=np.dtype("int32"))
    w, r = b.add("Transpose", w, perm=(2, 1, 0)), b.add("Transpose", r, perm=(1, 2, 0))
    y, last = b.add("GRU", part(x, 1), w, r, None, lens, part(h, 1), outputs=2)
    graph = b.build({"y": y, "last": last})
    feeds = {k: rng.uniform(-0.5, 0.5, s).astype(np.float32) for k, s in sizes.items()}
    feeds["n"] = np.array([9, 9, 4, 1, 0, 3])
    want = graphc.compile(graph, target="reference").run(feeds)
    for k, got in graphc.compile(graph, target=TARGET).run(feeds).items():
        np.testing.assert_allclose(got, want[k], rtol=0, atol=1e-6)


@pytest.mark.sample(2)
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("seq, batch", [(0, 3), (4, 0), (0, 0)])
def test_empty_sequences_and_batches(seq: int, batch: int, layout: int):
    run(layer("LSTM", batch, 6, seq=seq, layout=layout))


def test_any_of_the_results():
    for outputs in (1, 2, 3):
        run(layer("LSTM", 3, 6, lens=(3, 0, 2), outputs=outputs))


def test_lengths_out_of_range_are_errors():
    for bad in ([4, 5, 1], [4, -1, 0]):
        for constants in (WEIGHTS, (*WEIGHTS, 4)):  # known at run time, and when compiling
            one = layer("LSTM", 3, 6, seq=4, lens=bad, constants=constants)
            with pytest.raises(InputError, match=rf"sequence_lens\[1\] is {bad[1]}.*between 0 and 4 steps") as error:
                results(compiled(one, TARGET), one)
            assert error.value.node == "node"


def test_infinite_rows_stay_alone():
    """States of one row are infinite or NaN, and it ends before the others."""
    one = layer("LSTM", 3, 6, lens=(3, 1, 3), peepholes=False)
    h = one.arrays[5]
    assert h is not None
    want = results(compiled(one, TARGET), one)
    h[0, 1] = np.inf
    for a, w in zip(results(compiled(one, TARGET), one), want):
        np.testing.assert_array_equal(np.delete(a, 1, a.ndim - 2), np.delete(w, 1, a.ndim - 2))


# --- other dtypes -----------------------------------------------------------------------------------------------------
DTYPES = ("float16", "bfloat16", "float64")


@pytest.mark.sample(2)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GATES)
def test_other_dtypes(name: str, dtype: str):
    for batch, hidden, lens in ((1, 33, None), (5, 16, (2, 3, 0, 1, 3))):
        for attrs in ({}, {"linear_before_reset": True}) if name == "GRU" else ({},):
            for constants in (WEIGHTS, ()):
                one = layer(name, batch, hidden, lens=lens, direction="bidirectional", constants=constants, **attrs)
                run(one.with_floats(dtype))


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype, half_a_digit", [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_only_results_are_rounded(dtype: str, half_a_digit: float):
    """States, sums and biases of narrow floats are float32: results are those of float32 operands with the same values, rounded."""
    for name in GATES:
        narrow = layer(name, 3, 33, seq=40, lens=(40, 7, 30)).with_floats(dtype)
        wide = narrow.with_floats("float32")
        for got, want in zip(results(run(narrow), narrow), results(run(wide), wide)):
            assert got.dtype == dtype
            assert (abs(got.astype(np.float32) - want) <= half_a_digit * abs(want) + 1e-6).all()


@pytest.mark.sample(2)
@pytest.mark.parametrize("arch", [(8, 0), (9, 0)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name, batch, hidden", [("LSTM", 5000, 256), ("GRU", 250, 256), ("LSTM", 5000, 5000), ("RNN", 1, 8)]
)
def test_registers_of_other_dtypes_are_not_spilled(
    dtype: str, arch: tuple[int, int], name: str, batch: int, hidden: int
):
    kernel = kernel_of(*_sized(name, batch, hidden, dtype))
    made = cubin_of(kernel, arch)
    assert not made.spilled and not made.stack and made.registers * kernel.threads <= 1 << 16


# --- networks ---------------------------------------------------------------------------------------------------------
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["lstm_classifier", "gru_classifier"])
def test_classifiers(name: str, tmp_path: Path):
    text = Path(f"examples/zoo/{name}.yaml").read_text()
    for size, small in (("25002", "50"), ("dim: 100", "dim: 12"), ("hidden: 256", "hidden: 20"), ("768", "10")):
        text = text.replace(size, small)
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    rng = np.random.default_rng(0)
    words = rng.standard_normal((2, 5, 10)).astype(np.float32)
    x = rng.integers(0, 50, (2, 5)) if name == "lstm_classifier" else words
    want = graphc.compile(str(path), target="cpu", threads=1)(x)
    model = graphc.compile(str(path), target=TARGET)
    np.testing.assert_allclose(model(x), want, rtol=0, atol=1e-6)
    assert not any(s.host for s in model.plan({model.inputs[0].name: x.shape}).steps)
