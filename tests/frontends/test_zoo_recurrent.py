"""The pages of the zoo that read or write series: each against its formulas, step by step in NumPy, and as it is compiled by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from formulas import dense, sigmoid, softmax
from pages import Arrays, compiled, described, lively, page, weights

from graphc.types import Sym

BATCH, STEPS = Sym("batch"), Sym("steps")
RNG = np.random.default_rng


def gates(n: int, features: int, hidden: int) -> int:
    """Parameters of n gates with one bias each."""
    return n * hidden * (features + hidden + 1)


# page: parameters, shapes of the results; None for a number of steps that follows from data
PAGES: dict[str, tuple[int, dict[str, tuple]]] = {
    "rnn": (gates(1, 28, 128) + 129 * 10, {"logits": (BATCH, 10)}),
    "gru": (gates(3, 28, 128) + 129 * 10, {"logits": (BATCH, 10)}),
    "lstm_peephole": (gates(4, 1, 2) + 3 * 2 + 3, {"output": (BATCH, STEPS, 1), "hidden": (BATCH, STEPS, 2)}),
    "lstm_stacked": (2 * gates(4, 650, 650) + (650 + 651) * 10_000, {"logits": (BATCH, STEPS, 10_000)}),
    "lstm_bidirectional": (
        2 * (gates(4, 26, 93) + 3 * 93) + 187 * 61,
        {"log_probabilities": (BATCH, STEPS, 61)},
    ),
    "jordan": (8 * 9 + 4 * 9, {"y": (BATCH, STEPS, 4), "context": (BATCH, 4)}),
    "echo_state": (100 + 100 * 100 + 102, {"y": (BATCH, STEPS, 1), "seen": (BATCH, STEPS, 101)}),
    "tcn": ((7 + 1) * 25 + 25 * 2 + 15 * (7 * 25 + 1) * 25 + 260, {"logits": (BATCH, 10)}),
    "wavenet": (
        2 * 256 * 32 + 32 + 20 * ((2 * 32 + 1) * 64 + 33 * 128) + 19 * 33 * 32 + 129 * (128 + 256),
        {"logits": (BATCH, STEPS, 256)},
    ),
    "seq2seq": (8 * gates(4, 256, 256) + 8000 * (256 + 256 + 257), {"target": (BATCH, None)}),
    "seq2seq_attention": (
        2 * 30_000 * 620  # words
        + 2 * gates(3, 620, 1000) + 1000 * 1000  # reads; begins
        + 1000 * 2000 + 1000 * 1000 + 1000  # attends
        + gates(3, 2620, 1000) + 2 * 500 * 3620 + 501 * 30_000,  # writes
        {"target": (BATCH, None), "attention": (BATCH, None, STEPS)},
    ),
    "caption": (
        1025 * 512 + gates(4, 512, 512) + 10_000 * (512 + 513),
        {"caption": (BATCH, None), "log_probabilities": (BATCH, None)},
    ),
    "caption_attention": (
        2 * 513 * 1000 + 512 * 512 + 1001 * 512 + 513 + 1001  # begins, attends, gates
        + gates(4, 1024, 1000) + 1001 * 512 + 512 * 512 + 10_000 * (512 + 513),
        {"caption": (BATCH, None), "attention": (BATCH, None, 196)},
    ),
    "lstm_anomaly": (
        2 * (gates(4, 1, 40) + 4 * 40) + 41,
        {"reconstruction": (BATCH, STEPS, 1), "errors": (BATCH, STEPS), "score": (BATCH,), "anomaly": (BATCH,)},
    ),
    "lstm_forecast": (gates(4, 1, 64) + 4 * 64 + 65, {"future": (BATCH, 24, 1), "fitted": (BATCH, STEPS, 1)}),
    "memory_network": (
        3 * 40 * 20 + 2 * 50 * 20 + 20 * 20 + 40 * 20,
        {"answer": (BATCH, 40), "look": (BATCH, 50)},
    ),
    "conv_lstm": (7_585_296, {"future": (BATCH, 10, 1, 64, 64)}),  # as published
    "pointer_net": (
        2 * gates(4, 2, 256) + 2 * 256 * 256 + 256 + 2,
        {"order": (BATCH, STEPS), "probabilities": (BATCH, STEPS, STEPS)},
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if PAGES[n][0] > 4e7 else []) for n in PAGES]
)
def test_parameters_and_shapes(name: str):
    count, results = PAGES[name]
    graph = described(name, count)
    assert {n: len(v.shape) for n, v in zip(graph.output_names, graph.outputs)} == {
        n: len(s) for n, s in results.items()
    }
    for v, shape in zip(graph.outputs, results.values()):
        assert [d for d, want in zip(v.shape, shape) if want is not None] == [d for d in shape if d is not None]


def test_sutskever_counted_384_million():
    words = 160_000 + 80_000 + 80_000
    assert (8 * gates(4, 1000, 1000) + words * 1000) // 1_000_000 == 384


# --- cells ------------------------------------------------------------------------------------------------------------
class Layer:
    """A recurrent layer's weights by the beginning of their names, and one step."""

    def __init__(self, w: Arrays, name: str, layer: int = 0, direction: int = 0, before: bool = False) -> None:
        """before: a GRU's reset gate comes before the product with the state."""
        self.w, self.r = (w[f"{name}.l{layer}.{k}"][direction] for k in "wr")
        self.n, self.before = self.r.shape[1], before
        biases = next((v[direction] for k, v in w.items() if k == f"{name}.l{layer}.b"))
        self.b = np.concatenate([biases, np.zeros(2 * len(self.w) - len(biases))]).reshape(2, -1)
        self.p = np.split(w[f"{name}.l{layer}.p"][direction], 3) if f"{name}.l{layer}.p" in w else [0, 0, 0]

    def rnn(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        return np.tanh(x @ self.w.T + h @ self.r.T + self.b.sum(0))

    def gru(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        (z, r, m), (bz, br, bm) = np.split(x @ self.w.T + self.b[0], 3, 1), np.split(self.b[1], 3)
        rz, rr, rm = np.split(self.r, 3)
        z, r = sigmoid(z + h @ rz.T + bz), sigmoid(r + h @ rr.T + br)
        seen = (r * h) @ rm.T + bm if self.before else r * (h @ rm.T + bm)
        return (1 - z) * np.tanh(m + seen) + z * h

    def lstm(self, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        i, o, f, g = np.split(x @ self.w.T + h @ self.r.T + self.b.sum(0), 4, 1)
        new = sigmoid(f + self.p[2] * c) * c + sigmoid(i + self.p[0] * c) * np.tanh(g)
        return sigmoid(o + self.p[1] * new) * np.tanh(new), new

    def run(self, kind: str, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Every h, [batch, steps, hidden], and the last state."""
        state: tuple[np.ndarray, ...] = (np.zeros((len(x), self.n)),) * (2 if kind == "lstm" else 1)
        out = []
        for t in range(x.shape[1]):
            state = getattr(self, kind)(x[:, t], *state)
            state = state if isinstance(state, tuple) else (state,)
            out.append(state[0])
        return np.stack(out, 1), *state


def series(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).normal(size=shape).astype(np.float32)


# --- classes and values of series -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["rnn", "gru"])
def test_many_to_one(name: str):
    graph, x = page(name, features=5, hidden=7, classes=3), series(2, 6, 5)
    w = weights(graph)
    last = Layer(w, f"net.0.{name}", before=True).run(name, x)[-1]
    np.testing.assert_allclose(compiled(graph, x=x)["logits"], dense(w, "net.1.dense", last), rtol=1e-4, atol=1e-5)


def test_gates_that_see_the_cell():
    graph, x = page("lstm_peephole", features=3, hidden=4), series(2, 6, 3)
    w = weights(graph)
    hidden = Layer(w, "net.0.lstm").run("lstm", x)[0]
    found = compiled(graph, x=x)
    np.testing.assert_allclose(found["hidden"], hidden, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["output"], sigmoid(dense(w, "net.1.dense", hidden)), rtol=1e-4)
    w["net.0.lstm.l0.p"] *= 0
    assert abs(Layer(w, "net.0.lstm").run("lstm", x)[0] - hidden).max() > 1e-3, "the peepholes matter"


def test_stacked_layers():
    graph, words = page("lstm_stacked", vocab=11, width=6, layers=3), RNG(1).integers(0, 11, (2, 5))
    w = weights(graph)
    x = w["net.0.embedding.weight"][words]
    for i in range(3):
        x = Layer(w, "net.2.lstm", i).run("lstm", x)[0]
    np.testing.assert_allclose(compiled(graph, words=words)["logits"], dense(w, "net.4.dense", x), rtol=1e-4, atol=1e-5)


def test_both_ways():
    graph, x = page("lstm_bidirectional", features=3, hidden=4, classes=5), series(2, 6, 3)
    w = weights(graph)
    there = Layer(w, "net.0.lstm").run("lstm", x)[0]
    back = Layer(w, "net.0.lstm", direction=1).run("lstm", x[:, ::-1])[0][:, ::-1]
    scores = dense(w, "net.1.dense", np.concatenate([there, back], 2))
    np.testing.assert_allclose(compiled(graph, frames=x)["log_probabilities"], np.log(softmax(scores)), rtol=1e-4)


def test_jordan_reads_its_outputs():
    graph, plan = page("jordan"), series(2, 6, 4)
    w, context, out = weights(graph), np.zeros((2, 4)), []
    for t in range(6):
        hidden = sigmoid(dense(w, "net.0.hidden", np.concatenate([plan[:, t], context], 1)))
        out.append(sigmoid(dense(w, "net.0.output", hidden)))
        context = 0.5 * context + out[-1]
    found = compiled(graph, plan=plan)
    np.testing.assert_allclose(found["y"], np.stack(out, 1), rtol=1e-4)
    np.testing.assert_allclose(found["context"], context, rtol=1e-4)


def test_an_echo_state_network_is_solved_for(tmp_path: Path):
    """Its states as in NumPy; with a readout by least squares it recalls a sine's value of 5 steps ago."""
    graph, n = page("echo_state"), 400
    x = (np.sin(np.arange(n) * 0.3) * np.sin(np.arange(n) * 0.071)).astype(np.float32).reshape(1, n, 1)
    w, r, states = weights(graph), np.zeros((1, 100)), []
    for t in range(n):
        r = 0.7 * r + 0.3 * np.tanh(dense(w, "net.0.input", x[:, t]) + 0.9 * dense(w, "net.0.reservoir", r))
        states.append(r)
    seen = np.concatenate([np.stack(states, 1), x], 2)
    np.testing.assert_allclose(compiled(graph, x=x)["seen"], seen, rtol=1e-3, atol=1e-4)
    target, late = x[0, 45:-5, 0], seen[0, 50:]
    ones = np.c_[late, np.ones(len(late))]
    solved = np.linalg.solve(ones.T @ ones + 1e-6 * np.eye(102), ones.T @ target)
    given = {"net.2.dense.weight": solved[None, :-1], "net.2.dense.bias": solved[-1:]}
    found = compiled(page("echo_state", given, tmp_path), rtol=1e-2, atol=1e-2, x=x)["y"][0, 50:, 0]
    assert np.sqrt(np.mean((found - target) ** 2)) < 0.05 * target.std()


# --- convolutions over time -------------------------------------------------------------------------------------------
def causal(x: np.ndarray, w: Arrays, name: str, dilation: int = 1) -> np.ndarray:
    """x [batch, channels, steps]; the last tap is of the step itself."""
    taps = w[f"{name}.weight"]
    k = taps.shape[2]
    padded = np.pad(x, [(0, 0), (0, 0), ((k - 1) * dilation, 0)])
    parts = (
        np.einsum("oc,bct->bot", taps[:, :, j], padded[:, :, j * dilation :][:, :, : x.shape[2]]) for j in range(k)
    )
    return sum(parts) + w[f"{name}.bias"][:, None]


def test_a_temporal_convolutional_network():
    graph, x = page("tcn", width=4, k=3, levels=3, features=2, classes=5), series(2, 2, 20)
    w, y = weights(graph), x.astype(np.float64)
    for i in range(3):
        at = f"net.0.{i}"
        deep = y
        for k in range(2):
            deep = np.maximum(causal(deep, w, f"{at}.deep.{k}.conv", 2**i), 0)
        skip = y if i else causal(y, w, f"{at}.skip.0.0.conv")
        y = np.maximum(deep + skip, 0)
    found = compiled(graph, x=x)["logits"]
    np.testing.assert_allclose(found, dense(w, "net.3.dense", y[:, :, -1]), rtol=1e-4, atol=1e-5)


def test_wavenet():
    small = {"levels": 9, "width": 4, "skips": 6, "stacks": 2, "dilations": 3}
    graph, sound = page("wavenet", **small), RNG(2).integers(0, 9, (2, 12))
    w = weights(graph)
    x = causal(np.eye(9)[sound].transpose(0, 2, 1), w, "net.2.conv")
    total, prefix = 0, "net.3"
    for n in range(6):
        f, g = np.split(causal(x, w, f"{prefix}.causal.conv", 2 ** (n % 3)), 2, 1)
        z = np.tanh(f) * sigmoid(g)
        total = total + causal(z, w, f"{prefix}.conv")
        if n < 5:
            x = x + causal(z, w, f"{prefix}.conv_2")
        prefix += ".skips"
    y = causal(np.maximum(total, 0), w, "net.5.conv")
    y = causal(np.maximum(y, 0), w, "net.7.conv").transpose(0, 2, 1)
    np.testing.assert_allclose(compiled(graph, sound=sound)["logits"], y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["wavenet", "tcn"])
def test_nothing_ahead_is_seen_and_all_of_what_should_be(name: str):
    """One changed step: as far as the dilations reach, and no step before it, results change."""
    if name == "wavenet":
        graph, reach, steps = page(name, levels=9, width=4, skips=6, stacks=2, dilations=3), 2 + 2 * 7, 24
        x = RNG(3).integers(0, 9, (1, steps))
        y = np.where(np.arange(steps) == 5, (x + 1) % 9, x)
        a, b = (compiled(graph, sound=v)["logits"][0] for v in (x, y))
        changed = abs(a - b).max(1) > 0
        assert changed.tolist() == [5 <= t < 5 + reach for t in range(steps)]
    else:
        graph, reach = page(name, width=4, k=3, levels=3), 1 + 2 * 2 * 7
        x = abs(series(1, 1, 40, seed=3))
        first = compiled(graph, x=x)["logits"]
        for back in (reach - 1, reach):  # steps before the last one
            y = x.copy()
            y[..., -1 - back] += 100
            assert (abs(compiled(graph, x=y)["logits"] - first).max() > 0) == (back < reach)


# --- films ------------------------------------------------------------------------------------------------------------
def test_frames_that_come():
    small = {"size": 4, "patch": 2, "a": 3, "b": 2, "ahead": 3}
    graph, film = page("conv_lstm", **small), abs(series(2, 4, 1, 4, 4))
    w = weights(graph)

    def conv(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
        k = taps.shape[2] // 2
        p = np.pad(x, [(0, 0), (0, 0), (k, k), (k, k)])
        shape = x.shape[2:]
        return sum(
            np.einsum("oc,bchw->bohw", taps[:, :, i, j], p[:, :, i : i + shape[0], j : j + shape[1]])
            for i, j in np.ndindex(*taps.shape[2:])
        )

    def step(name: str, x: np.ndarray | None, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        read = 0 if x is None else conv(x, w[f"{name}.w.weight"])
        i, o, f, g = np.split(read + conv(h, w[f"{name}.r.weight"]) + w[f"{name}.bias"][:, None, None], 4, 1)
        pi, po, pf = np.split(w[f"{name}.peephole"], 3)
        new = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * np.tanh(g)
        return sigmoid(o + po * new) * np.tanh(new), new

    states = [(np.zeros((2, c, 2, 2)),) * 2 for c in (3, 2, 2)]
    for t in range(4):
        x = film[:, t].reshape(2, 1, 2, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 4, 2, 2)
        for k in range(3):
            states[k] = step(f"net.0.{k + 1}.conv_lstm", x, *states[k])
            x = states[k][0]
    frames = []
    for _ in range(3):
        x = None
        for k in range(3):
            states[k] = step(f"net.3.{k}.conv_lstm", x, *states[k])
            x = states[k][0]
        y = conv(np.concatenate([h for h, _ in states], 1), w["net.3.4.conv.weight"])
        y = sigmoid(y + w["net.3.4.conv.bias"][:, None, None])
        frames.append(y.reshape(2, 1, 2, 2, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(2, 1, 4, 4))
    np.testing.assert_allclose(compiled(graph, film=film)["future"], np.stack(frames, 1), rtol=1e-4)


# --- anomalies --------------------------------------------------------------------------------------------------------
def test_what_can_not_be_told_is_an_anomaly():
    graph, x = page("lstm_anomaly", features=2, hidden=5, threshold=0.5), series(3, 6, 2) * [[[0.1]], [[1]], [[3]]]
    w = weights(graph)
    _, h, c = Layer(w, "net.0.lstm").run("lstm", x.astype(np.float32))
    reads = Layer(w, "net.2.2.lstm")
    told, out = dense(w, "told", h), []
    for _ in range(6):
        out.insert(0, told)
        h, c = reads.lstm(told, h, c)
        told = dense(w, "told", h)
    told = np.stack(out, 1)
    found = compiled(graph, x=x)
    np.testing.assert_allclose(found["reconstruction"], told, rtol=1e-4, atol=1e-5)
    errors = ((x - told) ** 2).mean(2)
    np.testing.assert_allclose(found["errors"], errors, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["score"], errors.mean(1), rtol=1e-3)
    assert found["anomaly"].tolist() == (errors.mean(1) > 0.5).tolist() and len(set(found["anomaly"].tolist())) == 2


def test_a_forecast_goes_on_with_what_it_told():
    graph, x = page("lstm_forecast", features=2, hidden=5, ahead=4), series(3, 6, 2)
    w = weights(graph)
    cell = Layer(w, "lstm")
    hidden, h, c = cell.run("lstm", x)
    told = [dense(w, "told", h)]
    for _ in range(3):
        h, c = cell.lstm(told[-1], h, c)
        told.append(dense(w, "told", h))
    found = compiled(graph, series=x)
    np.testing.assert_allclose(found["future"], np.stack(told, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["fitted"], dense(w, "told", hidden), rtol=1e-4, atol=1e-5)
    longer = np.concatenate([x, found["future"][:, :1]], 1)
    later = compiled(graph, series=longer)["future"]
    np.testing.assert_allclose(later[:, :3], found["future"][:, 1:], rtol=1e-3, atol=1e-5)


def test_a_memory_that_is_looked_through_several_times():
    graph, rng = page("memory_network", vocab=9, dim=4, sentences=5, looks=2), RNG(4)
    story, question = rng.integers(0, 9, (3, 5, 6)), rng.integers(0, 9, (3, 4))
    w = weights(graph)
    tables = {k: w[f"net.{k}.embedding.weight"] for k in ("key", "value", "question")}
    keys, values = (tables[k][story].sum(2) + w[f"net.{k}_times.weight"] for k in ("key", "value"))
    u = tables["question"][question].sum(1)
    for _ in range(2):
        look = softmax(np.einsum("bsd,bd->bs", keys, u))
        u = dense(w, "net.5.on", u) + np.einsum("bs,bsd->bd", look, values)
    found = compiled(graph, rtol=1e-3, story=story, question=question)
    np.testing.assert_allclose(found["look"], look, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found["answer"], softmax(dense(w, "net.answer", u)), rtol=1e-3, atol=1e-6)
    turned = np.take_along_axis(story, rng.permuted(np.tile(np.arange(6), (3, 5, 1)), axis=2), 2)
    again = compiled(graph, rtol=1e-3, story=turned, question=question)["answer"]
    np.testing.assert_allclose(again, found["answer"], rtol=1e-3, err_msg="a sentence is a bag of words")


# --- what writes ------------------------------------------------------------------------------------------------------
class Writer:
    """Greedy words of a batch: until all have ended, or `longest`."""

    def __init__(self, batch: int, begin: int, end: int, longest: int) -> None:
        self.word, self.ended = np.full(batch, begin), np.zeros(batch, bool)
        self.end, self.longest, self.words = end, longest, []

    @property
    def goes_on(self) -> bool:
        return not self.ended.all() and len(self.words) < self.longest

    def write(self, scores: np.ndarray) -> None:
        self.word = np.where(self.ended, self.end, scores.argmax(1))
        self.ended = self.word == self.end
        self.words.append(self.word)

    def text(self) -> np.ndarray:
        return np.stack(self.words, 1)


def ends(text: np.ndarray, longest: int) -> None:
    """The batch stops early, and rows stop at different words."""
    assert text.shape[1] < longest and (text[:, -1] == 2).all()
    assert len({row.tolist().index(2) for row in text}) > 1


def test_a_sentence_becomes_another(tmp_path: Path):
    params = {"width": 6, "source_words": 9, "target_words": 5, "longest": 40}
    graph, source = lively("seq2seq", tmp_path, 36, **params), RNG(0).integers(0, 9, (5, 4))
    w = weights(graph)
    x, states = w["net.0.embedding.weight"][source], []
    for i in range(4):
        x, *state = Layer(w, f"net.{i + 1}.lstm").run("lstm", x)
        states.append(state)
    writer, layers = Writer(5, 1, 2, 40), [Layer(w, f"net.5.{i + 1}.lstm") for i in range(4)]
    while writer.goes_on:
        x = w["net.5.0.embedding.weight"][writer.word]
        for i in range(4):
            states[i] = layers[i].lstm(x, *states[i])
            x = states[i][0]
        writer.write(dense(w, "net.5.5.dense", x))
    text = compiled(graph, source=source)["target"]
    np.testing.assert_array_equal(text, writer.text())
    ends(text, 40)
    few = compiled(lively("seq2seq", tmp_path, 36, **params | {"longest": 2}), source=source)["target"]
    np.testing.assert_array_equal(few, text[:, :2])


def test_attention_over_a_sentence(tmp_path: Path):
    params = {"words": 7, "embed": 5, "hidden": 6, "align": 4, "maxout": 3, "longest": 40}
    graph, source = lively("seq2seq_attention", tmp_path, 63, **params), RNG(1).integers(0, 7, (4, 5))
    w = weights(graph)
    x = w["net.0.embedding.weight"][source]
    there = Layer(w, "net.1.gru", before=True).run("gru", x)[0]
    back = Layer(w, "net.1.gru", direction=1, before=True).run("gru", x[:, ::-1])[0][:, ::-1]
    notes = np.concatenate([there, back], 2)
    s, cell = np.tanh(dense(w, "net.5.dense", back[:, 0])), Layer(w, "net.7.15.gru", before=True)
    writer, looks = Writer(4, 1, 2, 40), []
    while writer.goes_on:
        query = dense(w, "net.7.0.dense", s)[:, None]
        scores = dense(w, "net.7.3.dense", np.tanh(query + dense(w, "net.2.dense", notes)))[:, :, 0]
        looks.append(softmax(scores))
        context = np.einsum("bt,bth->bh", looks[-1], notes)
        previous = w["net.7.9.embedding.weight"][writer.word]
        pairs = np.concatenate([s, previous, context], 1) @ w["net.7.11.maxout.weight"].T
        writer.write(dense(w, "net.7.12.dense", pairs.reshape(4, 3, 2).max(2)))
        s = cell.gru(np.concatenate([previous, context], 1), s)
    found = compiled(graph, source=source, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found["target"], writer.text())
    np.testing.assert_allclose(found["attention"], np.stack(looks, 1), rtol=1e-3, atol=1e-4)
    assert found["attention"].std(1).max() > 0.05, "each word looks elsewhere"
    ends(found["target"], 40)


def test_a_caption(tmp_path: Path):
    params = {"features": 5, "width": 6, "words": 6, "longest": 30}
    graph, features = lively("caption", tmp_path, 17, **params), series(4, 5)
    w = weights(graph)
    cell = Layer(w, "writer")
    h, c = cell.lstm(dense(w, "net.0.dense", features), *np.zeros((2, 4, 6)))
    writer, likely = Writer(4, 1, 2, 30), []
    while writer.goes_on:
        h, c = cell.lstm(w["net.3.0.embedding.weight"][writer.word], h, c)
        p = np.log(softmax(dense(w, "net.3.2.dense", h)))
        likely.append(np.where(writer.ended, 0, p.max(1)))
        writer.write(p)
    found = compiled(graph, features=features)
    np.testing.assert_array_equal(found["caption"], writer.text())
    np.testing.assert_allclose(found["log_probabilities"], np.stack(likely, 1), rtol=1e-3, atol=1e-4)
    ends(found["caption"], 30)


def test_a_caption_that_looks_at_places(tmp_path: Path):
    params = {"places": 4, "features": 5, "embed": 6, "hidden": 7, "words": 6, "longest": 30}
    graph, places = lively("caption_attention", tmp_path, 9, **params), series(3, 4, 5)
    w = weights(graph)
    h, c = (np.tanh(dense(w, f"net.{i}.dense", places.mean(1))) for i in (1, 3))
    keys, cell = dense(w, "net.5.dense", places), Layer(w, "net.6.13.lstm")
    writer, looks = Writer(3, 1, 2, 30), []
    while writer.goes_on:
        scores = dense(w, "net.6.score", np.tanh(keys + dense(w, "net.6.query", h)[:, None]))[:, :, 0]
        looks.append(softmax(scores))
        z = sigmoid(dense(w, "net.6.gate", h)) * np.einsum("bp,bpf->bf", looks[-1], places)
        previous = w["net.6.11.embedding.weight"][writer.word]
        h, c = cell.lstm(np.concatenate([previous, z], 1), h, c)
        deep = np.tanh(previous + dense(w, "net.6.state", h) + dense(w, "net.6.image", z))
        writer.write(dense(w, "net.6.words", deep))
    found = compiled(graph, places=places, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found["caption"], writer.text())
    np.testing.assert_allclose(found["attention"], np.stack(looks, 1), rtol=1e-3, atol=1e-4)
    ends(found["caption"], 30)


def test_pointers_to_every_point_once(tmp_path: Path):
    graph, points = lively("pointer_net", tmp_path, 0, hidden=6), series(4, 5, 2)
    w = weights(graph)
    notes, h, c = Layer(w, "net.0.lstm").run("lstm", points)
    keys, cell = dense(w, "net.keys", notes), Layer(w, "net.8.0.lstm")
    read, free, order, each = np.repeat(w["net.begin.value"], 4, 0), np.ones((4, 5), bool), [], []
    for _ in range(5):
        h, c = cell.lstm(read, h, c)
        scores = dense(w, "net.8.score", np.tanh(keys + dense(w, "net.8.query", h)[:, None]))[:, :, 0]
        each.append(softmax(np.where(free, scores, -np.inf)))
        order.append(each[-1].argmax(1))
        free[np.arange(4), order[-1]] = False
        read = points[np.arange(4), order[-1]]
    found = compiled(graph, points=points)
    np.testing.assert_array_equal(found["order"], np.stack(order, 1))
    np.testing.assert_allclose(found["probabilities"], np.stack(each, 1), rtol=1e-3, atol=1e-5)
    assert (np.sort(found["order"], 1) == np.arange(5)).all() and len({tuple(o) for o in found["order"]}) > 1
