"""Recurrent layers as one grid whose blocks hand each other the state (backends/cuda/recurrent/persistent_block.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sass import instructions, of_kind
from suite import compiled, results
from test_recurrent import DTYPES, GATES, WEIGHTS, _sized, layer, only, run

import graphc
from graphc.backends.cuda.codegen.cubin import Cubin, cubin_of
from graphc.backends.cuda.codegen.figures import CARDS, REGISTERS, card_of
from graphc.backends.cuda.recurrent import forms, recurrent
from graphc.backends.cuda.recurrent.persistent_block import Layout, Persistent
from graphc.backends.cuda.recurrent.recurrent import _problem, kernel_of
from graphc.backends.cuda.recurrent.recurrent_block import Recurrent
from graphc.errors import InputError
from graphc.graph import Builder
from graphc.ops.recurrent import bound_cell
from graphc.types import dtype_from_name

TARGET = "cuda:emulate"
LENS = (3, 0, 2, 1, 3, 3, 1, 2)
pytestmark = pytest.mark.usefixtures("checked")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


def as_grid(model: graphc.Model) -> str:
    """Of a model whose layer is one: what is said of it."""
    (step,) = (s for s in model.plan().steps if s.algorithm.startswith("persistent"))
    return step.reason


# --- the same results -------------------------------------------------------------------------------------------------
@pytest.mark.sample(5)
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(
    "batch, hidden, attrs",
    [
        (1, 33, {}),
        (1, 7, {"direction": "reverse", "states": False}),
        (5, 16, {"direction": "bidirectional", "lens": LENS}),
        (3, 20, {"layout": 1, "direction": "bidirectional", "lens": (1, 3, 2)}),
        (2, 8, {"clip": 0.5, "seq": 5, "direction": "reverse", "lens": (4, 5)}),
    ],
)
def test_cells(name: str, batch: int, hidden: int, attrs: dict, monkeypatch: pytest.MonkeyPatch):
    only(forms.GRID, monkeypatch)
    for more in ({}, {"linear_before_reset": 1}) if name == "GRU" else ({},):
        as_grid(run(layer(name, batch, hidden, **attrs, **more)))


LAYOUTS = [  # one block, many, with units left over; rows in chunks, with rows left over; all that a thread may hold
    (1, 8, Layout(1, 32, 1, 1)),
    (1, 9, Layout(1, 8, 2, 1)),
    (2, 40, Layout(2, 16, 3, 1)),
    (5, 33, Layout(8, 8, 1, 2)),
    (7, 12, Layout(4, 32, 5, 1)),
    (33, 6, Layout(32, 32, 2, 1)),
    (3, 130, Layout(4, 32, 16, 2)),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("name, attrs", [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1})])
@pytest.mark.parametrize("batch, hidden, layout", LAYOUTS, ids=str)
def test_layouts(name: str, attrs: dict, batch: int, hidden: int, layout: Layout, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recurrent, "form_of", lambda *_: forms.Form(forms.GRID, 0.0, 0.0, layout))
    lens = [int(n) for n in np.random.default_rng(0).integers(0, 4, batch)]
    said = as_grid(run(layer(name, batch, hidden, lens=lens, inputs=2, **attrs)))
    blocks = -(-hidden // layout.units) * -(-batch // layout.rows)
    assert said.startswith(f"{blocks} blocks at once, each {layout.units} units and {layout.rows} of {batch} rows")


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GATES)
def test_dtypes(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch):
    only(forms.GRID, monkeypatch, multiprocessors=8)
    for batch, hidden, lens, constants in ((1, 33, None, WEIGHTS), (5, 16, LENS, ())):
        for attrs in ({}, {"linear_before_reset": True}) if name == "GRU" else ({},):
            one = layer(name, batch, hidden, lens=lens, constants=constants, direction="bidirectional", **attrs)
            as_grid(run(one.with_floats(dtype)))


def test_fewer_terms_than_sums_in_turn(monkeypatch: pytest.MonkeyPatch):
    """A thread has two products of one row and one gate."""
    monkeypatch.setattr(recurrent, "form_of", lambda *_: forms.Form(forms.GRID, 0.0, 0.0, Layout(1, 32, 2, 1, 8)))
    as_grid(run(layer("RNN", 3, 20).with_floats("float64")))


TENSOR = [  # units left over, rows left over, a last step of 8 or 24, several groups, a warp and many
    ("float16", 16, 32, Layout(16, 8, 1, 1, 4, True)),
    ("bfloat16", 3, 8, Layout(16, 8, 3, 1, 4, True)),
    ("bfloat16", 20, 40, Layout(16, 8, 2, 2, 4, True)),
    ("float16", 17, 88, Layout(16, 8, 8, 3, 4, True)),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize("name, attrs", [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})])
@pytest.mark.parametrize("dtype, batch, hidden, layout", TENSOR, ids=str)
def test_tensor_cores(
    name: str, attrs: dict, dtype: str, batch: int, hidden: int, layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recurrent, "form_of", lambda *_: forms.Form(forms.GRID, 0.0, 0.0, layout))
    lens = [int(n) for n in np.random.default_rng(0).integers(0, 4, batch)]
    one = layer(name, batch, hidden, lens=lens, inputs=2, direction="bidirectional", **attrs)
    model = run(one.with_floats(dtype))
    assert [s.algorithm for s in model.plan().steps].count("persistent, tensor cores") == 1


@pytest.mark.parametrize("dtype, half_a_digit", [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_states_on_tensor_cores_have_more_digits_than_results(
    dtype: str, half_a_digit: float, monkeypatch: pytest.MonkeyPatch
):
    """Two numbers of half precision each: results are those of float32 operands with the same values, rounded."""
    for name in GATES:
        narrow = layer(name, 3, 32, seq=40, lens=(40, 7, 30)).with_floats(dtype)
        wide = narrow.with_floats("float32")
        with monkeypatch.context() as m:
            form = forms.Form(forms.GRID, 0.0, 0.0, Layout(16, 8, 2, 1, 4, True))
            m.setattr(recurrent, "form_of", lambda *_, form=form: form)
            got = results(run(narrow), narrow)
        for a, want in zip(got, results(run(wide), wide)):
            assert a.dtype == dtype
            assert (abs(a.astype(np.float32) - want) <= half_a_digit * abs(want) + 1e-6).all()


def test_which_layers_have_tensor_cores():
    """Half precision, constants whose rows are vectors, states in the range of the dtype."""
    for given in ({"dtype": "float16"}, {"dtype": "bfloat16", "activations": ["Relu"]}):
        assert problem("RNN", **given).tensor
    for given in ({"dtype": "float32"}, {"hidden": 60}, {"constant": False}, {"activations": ["Relu"]}):
        assert not problem("RNN", **({"dtype": "float16"} | given)).tensor


def problem(
    name: str, hidden: int = 64, dtype: str = "float32", constant: bool = True, batch: int = 1, **attrs: Any
) -> forms.Problem:
    b, width = Builder("sizes"), GATES[name] * hidden
    x, w = b.input("x", dtype, (3, batch, 4)), b.input("w", dtype, (1, width, 4))
    shape = 1, width, hidden
    r = b.constant(np.zeros(shape, dtype_from_name(dtype))) if constant else b.input("r", dtype, shape)
    (node,) = b.build({"y": b.add(name, x, w, r, **attrs)}).nodes
    c = bound_cell(node.call)
    return _problem(node, c, kernel_of(node, c))


@pytest.mark.parametrize("seq, batch", [(0, 3), (1, 1), (2, 2)])
def test_short_sequences(seq: int, batch: int, monkeypatch: pytest.MonkeyPatch):
    only(forms.GRID, monkeypatch)
    as_grid(run(layer("LSTM", batch, 12, seq=seq)))


def test_any_of_the_results(monkeypatch: pytest.MonkeyPatch):
    only(forms.GRID, monkeypatch)
    for outputs in (1, 2, 3):
        as_grid(run(layer("LSTM", 3, 6, lens=(3, 0, 2), outputs=outputs)))


def test_different_activations(monkeypatch: pytest.MonkeyPatch):
    only(forms.GRID, monkeypatch)
    activations = ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Softsign", "Relu"]
    as_grid(run(layer("LSTM", 2, 10, direction="bidirectional", activations=activations)))


def test_lengths_out_of_range(monkeypatch: pytest.MonkeyPatch):
    only(forms.GRID, monkeypatch)
    one = layer("GRU", 3, 5, seq=4, lens=[4, 5, 1], constants=WEIGHTS)
    with pytest.raises(InputError, match=r"sequence_lens\[1\] is 5.*between 0 and 4 steps"):
        results(compiled(one, TARGET), one)


def test_infinite_rows_stay_alone(monkeypatch: pytest.MonkeyPatch):
    only(forms.GRID, monkeypatch, multiprocessors=1)  # all in one team
    one = layer("LSTM", 3, 6, lens=(3, 1, 3), peepholes=False)
    h = one.arrays[5]
    assert h is not None
    want = results(compiled(one, TARGET), one)
    h[0, 1] = np.inf
    for a, w in zip(results(compiled(one, TARGET), one), want):
        np.testing.assert_array_equal(np.delete(a, 1, a.ndim - 2), np.delete(w, 1, a.ndim - 2))


def test_runs_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch):
    """Tags of the run before lie in the same memory."""
    monkeypatch.delenv("GRAPHC_CHECK")
    only(forms.GRID, monkeypatch)
    one = layer("LSTM", 2, 20, seq=5)
    model = compiled(one, TARGET)
    first = results(model, one)
    as_grid(model)
    for _ in range(3):
        for a, b in zip(results(model, one), first):
            np.testing.assert_array_equal(a, b)


def test_one_plan_for_many_lengths(monkeypatch: pytest.MonkeyPatch):
    """And batches, up to what has room."""
    monkeypatch.delenv("GRAPHC_CHECK")
    only(forms.GRID, monkeypatch, multiprocessors=8)
    b, rng = Builder("lstm"), np.random.default_rng(0)
    shapes = (1, 80, 6), (1, 80, 20)
    w, r = (b.constant(rng.uniform(-0.3, 0.3, s).astype(np.float32)) for s in shapes)
    x = b.input("x", "float32", ("steps", "batch", 6))
    graph = b.build([b.add("LSTM", x, w, r, hidden_size=20, outputs=3)[0]])
    model, want = graphc.compile(graph, target=TARGET), graphc.compile(graph, target="reference")
    for shape in ((9, 3, 6), (3, 3, 6), (40, 2, 6), (9, 4, 6)):
        given = rng.standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(model(given), want(given), rtol=0, atol=1e-6)
    assert len(model._many) == 1 and len(model._plans) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, batch, dtype", [("LSTM", 1, "float32"), ("GRU", 64, "float32"), ("LSTM", 64, "float16")]
)
def test_layers_of_512_units(name: str, batch: int, dtype: str, monkeypatch: pytest.MonkeyPatch):
    """The kernels that a GPU runs, on 64 and 128 emulated multiprocessors."""
    monkeypatch.delenv("GRAPHC_CHECK")
    attrs = {"linear_before_reset": 1} if name == "GRU" else {}
    one = layer(name, batch, 512, seq=6, inputs=8, direction="reverse", **attrs)
    as_grid(run(one if dtype == "float32" else one.with_floats(dtype)))


# --- which of the ways ------------------------------------------------------------------------------------------------
def form(name: str, batch: int, hidden: int, seq: int = 128, dtype: str = "float32", **attrs: Any) -> forms.Form:
    node, c = _sized(name, batch, hidden, dtype, **attrs)
    c = replace(c, seq=seq)
    card = card_of((9, 0))
    return forms.form_of(_problem(node, c, kernel_of(node, c)), card, card.multiprocessors, True)


@pytest.mark.parametrize(
    "name, batch, hidden, kind",
    [
        ("LSTM", 1, 512, forms.GRID),
        ("LSTM", 64, 512, forms.GRID),
        ("GRU", 1, 512, forms.GRID),
        ("LSTM", 1, 1024, forms.GRID),
        ("LSTM", 1, 16, forms.BLOCKS),  # a block has its weights at hand
        ("LSTM", 1, 2048, forms.STEPS),  # no registers for 64 MB
        ("LSTM", 1000, 64, forms.BLOCKS),
    ],
)
def test_forms(name: str, batch: int, hidden: int, kind: str):
    assert form(name, batch, hidden).kind == kind


def test_many_steps_do_not_go_step_by_step():
    assert form("LSTM", 1, 2048, seq=4096).kind == forms.STEPS
    assert form("LSTM", 1, 2048, seq=4097).kind == forms.BLOCKS


def test_a_smaller_gpu_has_fewer_blocks():
    node, c = _sized("LSTM", 1, 512)
    p = _problem(node, c, kernel_of(node, c))
    for multiprocessors in (132, 114, 78, 60):
        for layout in forms.layouts(p, card_of((9, 0)), multiprocessors):
            assert forms.parts_of(layout, 512) <= multiprocessors
    assert not [*forms.layouts(p, card_of((9, 0)), 16)]


@pytest.mark.parametrize("arch", CARDS)
def test_layouts_fit(arch: tuple[int, int]):
    """A block finds its registers and its shared memory, and a lane of each unit every row."""
    card = CARDS[arch]
    for name, batch, hidden in (("LSTM", 1, 512), ("GRU", 64, 512), ("RNN", 40, 2000), ("LSTM", 100, 100)):
        node, c = _sized(name, batch, hidden)
        p = _problem(node, c, kernel_of(node, c))
        for layout in forms.layouts(p, card, card.multiprocessors):
            held = sum(p.gates) * layout.span * layout.vector
            assert (held + 100) * layout.threads <= REGISTERS and layout.threads <= 512
            assert layout.rows <= layout.lanes and layout.pitch >= hidden and card.fits(layout.shared)
            groups = -(-batch // layout.rows)
            assert groups * forms.parts_of(layout, hidden) <= card.multiprocessors


# --- machine code -----------------------------------------------------------------------------------------------------
def best(p: forms.Problem, arch: tuple[int, int]) -> Layout | None:
    """The layout of the fastest grid."""
    card = card_of(arch)
    found = (forms._grid(p, card, x) for x in forms.layouts(p, card, card.multiprocessors))
    return min(found, key=lambda f: f.seconds, default=forms.Form("", 0.0, 0.0)).layout


def code_of(whole: Recurrent, x: Layout, arch: tuple[int, int]) -> tuple[Cubin, Counter[str]]:
    """Of a grid: no spills, and a multiprocessor has room for a block."""
    shape = x.rows, x.lanes, x.warps, x.span, x.vector, x.tensor
    made = cubin_of(Persistent(whole.directions, whole.gates, *shape, whole.dtype), arch)
    found = instructions(made)
    assert (made.spilled, made.stack, of_kind(found, "(LDL|STL).*")) == (0, 0, {})
    assert card_of(arch).occupancy(made.threads, made.registers, made.dynamic) > 0
    # the state comes past L1, two tagged words at once
    assert of_kind(found, r"LDG.*STRONG.*").keys() == {"LDG.E.128.STRONG.GPU"}
    assert not of_kind(found, r"(MEMBAR|FENCE|ERRBAR|CCTL).*|(LD|ST)\.E.*|ATOM.*|RED.*")
    return made, found


LARGE: Sequence[tuple[str, int, int, str, dict]] = [
    ("LSTM", 1, 512, "float32", {}),
    ("LSTM", 64, 512, "float32", {}),
    ("LSTM", 1, 1024, "float32", {"peepholes": True}),
    ("GRU", 1, 512, "float32", {"linear_before_reset": 1}),
    ("GRU", 64, 512, "float32", {"linear_before_reset": 1}),
    ("GRU", 64, 512, "float32", {}),
    ("RNN", 1, 2048, "float32", {}),
    ("LSTM", 64, 512, "float16", {}),
    ("GRU", 16, 512, "bfloat16", {"linear_before_reset": 1}),
    ("LSTM", 1, 512, "float64", {}),
    ("GRU", 8, 256, "float64", {}),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize("arch", [(8, 0), (9, 0)])
@pytest.mark.parametrize("name, batch, hidden, dtype, attrs", LARGE)
def test_machine_code(arch: tuple[int, int], name: str, batch: int, hidden: int, dtype: str, attrs: dict):
    """Weights stay in registers; all of shared memory and all weights come by 128 bits (64 of half precision)."""
    attrs = {k: v for k, v in attrs.items() if k != "peepholes"}
    node, c = _sized(name, batch, hidden, dtype, **attrs)
    whole = kernel_of(node, c)
    p = _problem(node, c, whole)
    x = best(p, arch)
    if x is None:
        assert (arch, name, hidden) in {((8, 0), "LSTM", 1024), ((8, 0), "RNN", 2048)}
        return
    _, found = code_of(whole, x, arch)
    vectors = sum(p.gates) * x.span
    weights = found["LDG.E.64" if "16" in dtype else "LDG.E.128"]
    assert weights >= vectors and (weights == vectors or "16" in dtype)
    chunks = min(x.rows, 4) * x.span * len(p.gates)
    assert found["LDS.128"] == chunks and of_kind(found, "LDS.*").total() == chunks
    products = found["DFMA"] if dtype == "float64" else found["FFMA"]
    assert products >= min(x.rows, 4) * vectors * x.vector - sum(p.gates) * 4
    assert found["BAR.SYNC.DEFER_BLOCKING"] == len(p.gates)


@pytest.mark.sample(2)
@pytest.mark.parametrize("arch", [(8, 0), (9, 0)])
@pytest.mark.parametrize(
    "name, hidden, dtype, attrs",
    [
        ("LSTM", 512, "float16", {}),
        ("GRU", 512, "bfloat16", {"linear_before_reset": 1}),
        ("GRU", 512, "float16", {}),
        ("LSTM", 256, "bfloat16", {}),
    ],
)
def test_machine_code_of_tensor_cores(arch: tuple[int, int], name: str, hidden: int, dtype: str, attrs: dict):
    """Two products for each 16 steps and two gates; weights and states by 128 bits."""
    node, c = _sized(name, 64, hidden, dtype, **attrs)
    whole = kernel_of(node, c)
    p = replace(_problem(node, c, whole), tensor=True)
    card = card_of(arch)
    x = next(x for x in forms.layouts(p, card, card.multiprocessors) if x.tensor)
    _, found = code_of(whole, x, arch)
    tiles = sum(-(-gates // 2) for gates in p.gates)
    kind = "HMMA.16816.F32" + ".BF16" * (dtype == "bfloat16")
    assert of_kind(found, "HMMA.*") == {kind: 4 * tiles * x.span}
    assert found["LDG.E.128"] == tiles * x.span
    assert of_kind(found, "LDS.*") == {"LDS.128": 4 * x.span * len(p.gates)}
