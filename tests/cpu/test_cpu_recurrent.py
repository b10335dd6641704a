"""RNN, GRU and LSTM on the CPU backend against the reference in float64: every sample case, target and way of giving weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import opcheck
import pytest

import graphc
from graphc.backends.cpu.recurrent import recurrent_plan
from graphc.errors import InputError, UnsupportedError
from graphc.graph import Builder, Value
from graphc.op import Case, Const, Tensor, get_op
from graphc.ops.recurrent import _ACTIVATIONS

NAMES = ("RNN", "GRU", "LSTM")
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
TARGETS = ("cpu", "cpu:avx2", "cpu:portable")


def compiled(name, case, arrays, fixed=(1, 2, 3, 7), results=None, **options):
    """(results of a compiled model, the model). fixed: operands that are constants; results: which outputs the graph has."""
    b, inputs, feeds = Builder("layer"), [], []
    for i, a in enumerate(arrays):
        if a is None:
            inputs.append(None)
        elif i in fixed:
            inputs.append(b.constant(a))
        else:
            inputs.append(b.input(f"x{i}", a.dtype, a.shape))
            feeds.append(a)
    b.add(name, *inputs, name="node", outputs=case.n_outputs, **case.attrs)
    values = b.nodes[-1].outputs
    graph = b.build({f"y{i}": values[i] for i in (range(len(values)) if results is None else results)})
    try:
        model = graphc.compile(graph, **options)
    except UnsupportedError as error:
        if "this CPU" in str(error):
            pytest.skip(str(error))
        raise
    assert not any(step.host for step in model.plan().steps), [s.reason for s in model.plan().steps]
    return list(model.run(dict(zip([v.name for v in graph.inputs], feeds))).values()), model


def wanted(name, case, arrays):
    return [a.astype(np.float32) for a in opcheck.reference(name, case, [opcheck.wider(a) for a in arrays])]


def sized(name, seq, batch, inputs, hidden, directions=2, lens=None, layout=0, states=True, **attrs):
    """A case of these sizes with biases and, where there are, initial states and peepholes."""
    g = GATES[name]
    state = (batch, directions, hidden) if layout else (directions, batch, hidden)
    x = (batch, seq, inputs) if layout else (seq, batch, inputs)
    shapes = [x, (directions, g * hidden, inputs), (directions, g * hidden, hidden), (directions, 2 * g * hidden)]
    operands = [Tensor(s, -1 / hidden**0.5 if i else -1, 1 / hidden**0.5 if i else 1) for i, s in enumerate(shapes)]
    operands.append(Const(lens, "int32") if lens is not None else None)
    if states:
        operands += [Tensor(state)] * (2 if name == "LSTM" else 1)
        operands += [Tensor((directions, 3 * hidden))] if name == "LSTM" else []
    direction = "bidirectional" if directions == 2 else attrs.pop("direction", "forward")
    attrs = {"direction": direction, "hidden_size": hidden, "layout": layout, **attrs}
    return Case(tuple(operands), attrs, 3 if name == "LSTM" else 2)


@pytest.mark.sample(48)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "case"), opcheck.cases(*NAMES))
def test_domain_case(name, case, target):
    arrays = opcheck.operands(get_op(name), case)
    actual, _ = compiled(name, case, arrays, target=target, threads=1)
    opcheck.agree(actual, wanted(name, case, arrays))


@pytest.mark.parametrize(("name", "case"), opcheck.cases(*NAMES))
def test_weights_and_lengths_computed_at_run_time(name, case):
    arrays = opcheck.operands(get_op(name), case)
    constants, _ = compiled(name, case, arrays, threads=1)
    actual, model = compiled(name, case, arrays, fixed=(), threads=2)
    assert "pack_columns" in [s.kernel for s in model.plan().steps]
    for a, w in zip(actual, constants):
        np.testing.assert_array_equal(a, w)


LARGE = [
    sized("LSTM", 5, 2, 20, 70),
    sized("LSTM", 4, 71, 5, 33, lens=[(3 * i) % 5 for i in range(71)]),  # several groups of tiles, ragged
    sized("LSTM", 3, 17, 9, 130, directions=1, layout=1, direction="reverse", input_forget=True),
    sized("GRU", 4, 19, 30, 100),
    sized("GRU", 4, 1, 8, 200, linear_before_reset=True, layout=1),
    sized("GRU", 6, 40, 8, 48, directions=1, lens=[i % 7 for i in range(40)], direction="reverse"),
    sized("RNN", 3, 5, 600, 300),
    sized("RNN", 3, 150, 2, 17, lens=[i % 4 for i in range(150)], layout=1),
    sized("LSTM", 9, 3, 5, 70, lens=[4, 0, 3]),  # no sequence is as long as the input
    sized("GRU", 8, 1, 5, 112, lens=[5], layout=1),
    sized("GRU", 4, 2, 5, 33, lens=[0, 0]),
]
OF_LARGE = ["LSTM"] * 3 + ["GRU"] * 3 + ["RNN"] * 2 + ["LSTM"] + ["GRU"] * 2


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "case"), list(zip(OF_LARGE, LARGE)), ids=lambda v: v if isinstance(v, str) else "")
def test_any_number_of_threads_gives_the_same_bits(name, case, target, monkeypatch):
    monkeypatch.setattr(recurrent_plan, "WORTH_SHARING", 0)  # share panels however small they are
    arrays = opcheck.operands(get_op(name), case)
    alone, _ = compiled(name, case, arrays, target=target, threads=1)
    opcheck.agree(alone, wanted(name, case, arrays))
    for threads in (2, 3, 5):
        together, _ = compiled(name, case, arrays, target=target, threads=threads)
        for a, b in zip(together, alone):
            np.testing.assert_array_equal(a, b)


def test_one_direction_is_shared_between_threads():
    case = sized("LSTM", 3, 1, 16, 256, directions=1)
    _, model = compiled("LSTM", case, opcheck.operands(get_op("LSTM"), case), threads=2)
    assert model.plan().steps[-1].reason.endswith("panels shared")


def test_a_program_for_two_threads_runs_on_one():
    """While the pool is busy, a program runs alone on the calling thread."""
    case = sized("GRU", 6, 3, 16, 256, directions=1)
    arrays = opcheck.operands(get_op("GRU"), case)
    want, model = compiled("GRU", case, arrays, threads=2)
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None and i in (0, 5)}
    with ThreadPoolExecutor(3) as pool:
        for results in pool.map(lambda _: model.run(feeds), range(12)):
            for a, w in zip(results.values(), want):
                np.testing.assert_array_equal(a, w)


@pytest.mark.parametrize("name", NAMES)
def test_any_of_the_results(name):
    case = sized(name, 4, 3, 5, 6, lens=[4, 0, 2])
    arrays = opcheck.operands(get_op(name), case)
    want = wanted(name, case, arrays)
    for chosen in ([1], [0], [0, 1], [1, 0], *([[2], [0, 2], [1, 2]] if name == "LSTM" else [])):
        actual, _ = compiled(name, case, arrays, results=chosen, threads=1)
        opcheck.agree(actual, [want[i] for i in chosen])


@pytest.mark.parametrize("activation", sorted(_ACTIVATIONS))
@pytest.mark.parametrize("name", NAMES)
def test_every_activation_at_every_place(name, activation):
    rng, count = np.random.default_rng(0), {"RNN": 1, "GRU": 2, "LSTM": 3}[name]
    case = sized(name, 3, 2, 5, 7, activations=(activation,) * 2 * count, activation_alpha=(0.3,) * 6)
    arrays = [
        a if a is None else rng.uniform(-0.6, 0.6, a.shape).astype("f4") for a in opcheck.operands(get_op(name), case)
    ]
    for target in ("cpu", "cpu:portable"):
        actual, _ = compiled(name, case, arrays, target=target, threads=1)
        opcheck.agree(actual, wanted(name, case, arrays))


@pytest.mark.parametrize("batch", (1, 2, 20))
@pytest.mark.parametrize("target", TARGETS)
def test_units_that_fill_a_vector_up_do_not_reach_the_others(target, batch):
    """Their cell doubles at each step until it is infinite, that of the others is 0: an odd number reads one of them."""
    hidden, seq = 3, 200
    attrs = {"direction": "forward", "hidden_size": hidden, "activations": ["Affine"] * 3}
    attrs |= {"activation_alpha": [0.0, 1.0, 1.0], "activation_beta": [2.0, 1.0, 0.0]}
    biases = np.zeros((1, 8, hidden), np.float32)
    biases[:, 3] = -1  # of the candidate
    case = Case((), attrs, 3)
    weights = [np.zeros((1, 4 * hidden, n), np.float32) for n in (2, hidden)]
    arrays = [np.ones((seq, batch, 2), np.float32), *weights, biases.reshape(1, -1)]
    for result in compiled("LSTM", case, arrays, target=target)[0]:
        np.testing.assert_array_equal(result, np.zeros_like(result))


@pytest.mark.parametrize("layout", (0, 1))
@pytest.mark.parametrize(("seq", "batch"), [(0, 3), (4, 0), (0, 0)])
def test_empty_sequences_and_batches(seq, batch, layout):
    case = sized("LSTM", seq, batch, 5, 6, layout=layout)
    arrays = opcheck.operands(get_op("LSTM"), case)
    opcheck.agree(compiled("LSTM", case, arrays, threads=2)[0], wanted("LSTM", case, arrays))


def test_operands_that_are_views():
    """x, initial_h and sequence_lens are parts of larger tensors."""
    b, rng = Builder("views"), np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype("f4")

    x, h, n = b.input("x", "float32", (4, 6, 5)), b.input("h", "float32", (1, 6, 9)), b.input("n", "int64", (6,))
    w, r = draw(1, 27, 5), draw(1, 27, 9)

    def part(v: Value, axis: int) -> Value:
        return b.add("Split", v, b.constant(np.array([2, 4])), axis=axis, outputs=2)[1]

    lens = b.add("Cast", part(n, 0), to=np.dtype("int32"))
    y, last = b.add("GRU", part(x, 1), b.constant(w), b.constant(r), None, lens, part(h, 1), outputs=2)
    model = graphc.compile(b.build({"y": y, "last": last}), threads=1)
    feeds = {"x": draw(4, 6, 5), "h": draw(1, 6, 9), "n": np.array([9, 9, 4, 1, 0, 3])}
    case = Case((*(Tensor(a.shape) for a in (draw(4, 4, 5), w, r)), None, Tensor((4,)), Tensor((1, 4, 9))), {}, 2)
    arrays = [feeds["x"][:, 2:], w, r, None, feeds["n"][2:].astype("i4"), feeds["h"][:, 2:]]
    opcheck.agree(list(model.run(feeds).values()), wanted("GRU", case, arrays))


def test_lengths_out_of_range():
    for bad in ([4, 5, 1], [4, -1, 0]):
        case = sized("LSTM", 4, 3, 5, 6, lens=bad)
        arrays = opcheck.operands(get_op("LSTM"), case)
        for fixed in ((1, 2, 3, 4, 7), (1, 2, 3, 7)):  # known when compiling, and not
            with pytest.raises(InputError, match=rf"sequence_lens\[1\] is {bad[1]}.*between 0 and 4 steps") as error:
                compiled("LSTM", case, arrays, fixed=fixed, threads=1)
            assert error.value.node == "node"


def test_open_sequence_length():
    b, rng = Builder("open"), np.random.default_rng(0)
    w, r = (b.constant(rng.uniform(-1, 1, s).astype("f4")) for s in ((1, 24, 5), (1, 24, 6)))
    y = b.add("LSTM", b.input("x", "float32", ("seq", 1, 5)), w, r)
    model = graphc.compile(b.build({"y": y}), threads=1)
    for seq in (1, 2, 9):
        x = rng.uniform(-1, 1, (seq, 1, 5)).astype("f4")
        case = Case((Tensor(x.shape), Tensor(w.shape), Tensor(r.shape)), {}, 1)
        opcheck.agree([model(x)], wanted("LSTM", case, [x, w.data, r.data])[:1])


def test_other_dtypes_run_on_the_host_and_say_so():
    case = sized("GRU", 3, 2, 4, 5)
    b = Builder("double")
    arrays = [opcheck.wider(a) for a in opcheck.operands(get_op("GRU"), case)]
    inputs = [None if a is None else b.input(f"x{i}", a.dtype, a.shape) for i, a in enumerate(arrays)]
    b.add("GRU", *inputs, name="node", outputs=2, **case.attrs)
    model = graphc.compile(b.build(list(b.nodes[-1].outputs)))
    (step,) = [s for s in model.plan().steps if s.host]
    assert "float64" in step.reason
