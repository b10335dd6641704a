"""The shallow pages of the zoo: gates, regressions, associative memories, maps, and the rules by which they learn.

Each is compared with loops in NumPy, and runs as it is compiled by default.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from formulas import sigmoid, windows
from pages import EXAMPLES, compiled, described, page, weights

from graphc.types import Sym

BATCH, SAMPLES = Sym("batch"), Sym("samples")
# page: parameters, shapes of the results
PAGES: dict[str, tuple[int, dict[str, tuple]]] = {
    "logic_gates": (14, dict.fromkeys(("and", "or", "nand", "nor", "not"), (BATCH, 1))),
    "linear_regression": (11, {"y": (BATCH, 1)}),
    "logistic_regression": (31, {"probability": (BATCH, 1), "log_odds": (BATCH, 1)}),
    "softmax_regression": (650, {"probabilities": (BATCH, 10), "class": (BATCH,)}),
    "adaline": (0, {"w": (2,), "b": (), "error": (SAMPLES,), "response": (SAMPLES,)}),
    "perceptron_training": (0, {"w": (2,), "b": (), "mistakes": (), "epochs": ()}),
    "backpropagation": (0, {"w1": (2, 3), "b1": (3,), "w2": (3, 1), "b2": (1,), "loss": (Sym("epochs"),)}),
    "contrastive_divergence": (
        0,
        {"w": (784, 100), "a": (784,), "b": (100,), "error": (Sym("batches"),), "drawn": (Sym("batches"), 20, 100)},
    ),
    "modern_hopfield": (0, {"state": (BATCH, 64), "updates": ()}),
    "som": (6_400, dict.fromkeys(("unit", "row", "column", "error"), (BATCH,))),
    "hopfield": (0, {"state": (BATCH, 64), "energy": (BATCH,), "sweeps": ()}),
    "bam": (0, {"left": (BATCH, 32), "right": (BATCH, 20)}),
    "lvq": (0, {"prototypes": (6, 2), "found": (SAMPLES,)}),
    "oja": (0, {"w": (5,), "y": (SAMPLES,)}),
    "pnn": (0, {"class": (BATCH,), "probabilities": (BATCH, 3)}),
    "neocognitron": (24 * 25 + 2 * 24 * 24 * 25 + 3 * 24, {"response": (BATCH, 24), "features": (BATCH, 24, 14, 14)}),
    "elm": (64 * 65 + 64 * 10, {"scores": (BATCH, 10), "hidden": (BATCH, 64)}),
    "cascade_correlation": (sum(range(3, 18)) + 18, {"response": (BATCH, 1), "units": (BATCH, 17)}),
}
RNG = np.random.default_rng


@pytest.mark.parametrize("name", PAGES)
def test_parameters_and_shapes(name: str):
    count, results = PAGES[name]
    graph = described(name, count)
    assert {n: v.shape for n, v in zip(graph.output_names, graph.outputs)} == results


# --- gates and regressions --------------------------------------------------------------------------------------------
def test_truth_tables():
    found = compiled(page("logic_gates"), bits=[[0, 0], [0, 1], [1, 0], [1, 1]])
    assert {k: v.ravel().tolist() for k, v in found.items()} == {
        "and": [0, 0, 0, 1],
        "or": [0, 1, 1, 1],
        "nand": [1, 1, 1, 0],
        "nor": [1, 0, 0, 0],
        "not": [1, 1, 0, 0],
    }


def test_least_squares(tmp_path: Path):
    """With the weights that solve the normal equations, what is left of the targets is orthogonal to every feature."""
    rng = RNG(0)
    x = rng.normal(size=(200, 10)).astype(np.float32)
    y = x @ rng.normal(size=10) + 3 + rng.normal(size=200)
    ones = np.c_[x, np.ones(200)].astype(np.float64)
    w = np.linalg.solve(ones.T @ ones, ones.T @ y)
    given = {"net.0.dense.weight": w[None, :10], "net.0.dense.bias": w[10:]}
    found = compiled(page("linear_regression", given, tmp_path), x=x)["y"][:, 0]
    np.testing.assert_allclose(found, ones @ w, rtol=1e-4, atol=1e-4)
    assert abs(ones.T @ (y - found)).max() < 1e-2 < abs(ones.T @ y).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear_regression", "logistic_regression", "softmax_regression"])
def test_as_scikit_learn(name: str, tmp_path: Path):
    """Its data, and the coefficients that it finds."""
    datasets = pytest.importorskip("sklearn.datasets")
    linear = pytest.importorskip("sklearn.linear_model")
    data = {"linear": datasets.load_diabetes, "logistic": datasets.load_breast_cancer, "softmax": datasets.load_digits}
    x, y = data[name.split("_")[0]](return_X_y=True)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    model = (linear.LinearRegression() if name[:2] == "li" else linear.LogisticRegression(max_iter=200)).fit(x, y)
    given = {"net.0.dense.weight": np.atleast_2d(model.coef_), "net.0.dense.bias": np.atleast_1d(model.intercept_)}
    found = compiled(page(name, given, tmp_path), x=x)
    if name == "linear_regression":
        np.testing.assert_allclose(found["y"][:, 0], model.predict(x), rtol=1e-4)
    elif name == "logistic_regression":
        np.testing.assert_allclose(found["probability"][:, 0], model.predict_proba(x)[:, 1], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(found["log_odds"][:, 0], model.decision_function(x), rtol=1e-3, atol=1e-4)
        assert ((found["probability"][:, 0] > 0.5) == y).mean() > 0.97
    else:
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(x), rtol=1e-3, atol=1e-5)
        assert (found["class"] == model.predict(x)).all() and (found["class"] == y).mean() > 0.97


def test_probabilities_are_of_the_scores():
    """By their formulas, for those who have no scikit-learn."""
    x = RNG(1).normal(size=(6, 64)).astype(np.float32)
    graph = page("softmax_regression")
    w = weights(graph)
    scores = np.exp(x @ w["net.0.dense.weight"].T + w["net.0.dense.bias"])
    found = compiled(graph, x=x)
    np.testing.assert_allclose(found["probabilities"], scores / scores.sum(1, keepdims=True), rtol=1e-4)
    assert found["class"].tolist() == scores.argmax(1).tolist()
    graph = page("logistic_regression")
    w = weights(graph)
    want = sigmoid(x[:, :30] @ w["net.0.dense.weight"].T + w["net.0.dense.bias"])
    np.testing.assert_allclose(compiled(graph, x=x[:, :30])["probability"], want, rtol=1e-4)


# --- rules of learning ------------------------------------------------------------------------------------------------
def two_classes(seed: int, n: int = 60, gap: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Points on both sides of a line, none nearer to it than gap, and -1 or 1."""
    rng = RNG(seed)
    y = rng.choice([-1.0, 1.0], n)
    normal = np.array([0.6, 0.8])
    x = rng.normal(size=(n, 2)) * 2
    x += (y * (gap + rng.random(n)) + 0.5 - x @ normal)[:, None] * normal
    return x.astype(np.float32), y.astype(np.float32)


def test_adaline_goes_against_its_error():
    x, y = two_classes(0, 200)
    w, b, errors, responses = np.zeros(2), 0.0, [], []
    for sample, target in zip(x.astype(np.float64), y):
        total = sample @ w + b
        errors.append(target - total)
        responses.append(1 if total >= 0 else -1)
        w, b = w + 0.02 * errors[-1] * sample, b + 0.02 * errors[-1]
    found = compiled(page("adaline", rate=0.02), samples=x, targets=y, w=[0, 0], b=0)
    for name, want in {"w": w, "b": b, "error": errors, "response": responses}.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-3, atol=1e-4, err_msg=name)
    best = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
    assert abs(np.r_[w, b] - best).max() < 0.1, "it comes near the least squares"


def test_a_perceptron_learns_until_it_makes_no_mistake():
    x, y = two_classes(1, 40, gap=0.2)
    w, b, epochs = np.zeros(2), 0.0, 0
    while True:
        wrong, epochs = 0, epochs + 1
        for sample, target in zip(x.astype(np.float64), y):
            if target * (sample @ w + b) <= 0:
                w, b, wrong = w + target * sample, b + target, wrong + 1
        if not wrong:
            break
    assert epochs > 2
    start = {"samples": x, "targets": y, "w": [0, 0], "b": 0}
    found = compiled(page("perceptron_training"), **start)
    np.testing.assert_allclose(found["w"], w, rtol=1e-4)
    assert found["b"] == b and found["epochs"] == epochs and found["mistakes"] == 0
    assert (np.sign(x @ found["w"] + found["b"]) == y).all()


def test_a_perceptron_gives_up_where_no_line_parts_the_classes():
    bits = np.float32([[0, 0], [0, 1], [1, 0], [1, 1]])
    start = {"samples": bits, "targets": [-1, 1, 1, -1], "w": [0, 0], "b": 0}
    found = compiled(page("perceptron_training", epochs=25), **start)
    assert found["epochs"] == 25 and found["mistakes"] > 0


def test_oja_finds_the_first_principal_component():
    rng = RNG(2)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    x = ((rng.normal(size=(500, 5)) * [3, 1, 0.7, 0.5, 0.2]) @ turn).astype(np.float32)
    rates = np.linspace(0.03, 0.002, 500)
    w, ys = np.full(5, 0.1), []
    for sample, rate in zip(x.astype(np.float64), rates):
        ys.append(sample @ w)
        w = w + rate * ys[-1] * (sample - ys[-1] * w)
    found = compiled(page("oja"), rtol=1e-3, samples=x, rates=rates, w=np.full(5, 0.1))
    np.testing.assert_allclose(found["w"], w, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["y"], ys, rtol=1e-2, atol=1e-3)
    first = np.linalg.svd(x - x.mean(0))[2][0]
    assert abs(found["w"] @ first) > 0.98 and abs(np.linalg.norm(found["w"]) - 1) < 0.05


def test_learning_vector_quantisation():
    rng = RNG(3)
    kinds = np.array([0, 0, 1, 1, 2, 2])
    classes = rng.integers(0, 3, 300)
    samples = (rng.normal(size=(300, 2)) * 0.5 + np.array([[0, 2], [2, 0], [-2, -1]])[classes]).astype(np.float32)
    start, rates = rng.normal(size=(6, 2)).astype(np.float32), np.linspace(0.3, 0.01, 300)
    prototypes, seen = start.astype(np.float64), []
    for sample, kind, rate in zip(samples, classes, rates):
        best = np.linalg.norm(sample - prototypes, axis=1).argmin()
        seen.append(kinds[best])
        prototypes[best] += (1 if kinds[best] == kind else -1) * rate * (sample - prototypes[best])
    found = compiled(page("lvq"), samples=samples, classes=classes, rates=rates, prototypes=start, kinds=kinds)
    np.testing.assert_allclose(found["prototypes"], prototypes, rtol=1e-3, atol=1e-4)
    assert found["found"].tolist() == seen
    nearest = kinds[np.linalg.norm(samples[:, None] - prototypes, axis=2).argmin(1)]
    assert (nearest == classes).mean() > 0.9


def loss_of(w: dict[str, np.ndarray], x: np.ndarray, targets: np.ndarray) -> float:
    y = sigmoid(sigmoid(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"])
    return float(((y - targets) ** 2).sum() / 2)


def test_backpropagation_learns_exclusive_or():
    """The first step goes against the gradient that differences of the loss tell; in the end the truth table is right."""
    bits, targets = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([[0], [1], [1], [0.0]])
    rng = RNG(1)
    start = {"w1": rng.normal(size=(2, 3)), "b1": np.zeros(3), "w2": rng.normal(size=(3, 1)), "b2": np.zeros(1)}
    once = compiled(page("backpropagation"), x=bits, targets=targets, rates=[1], **start)
    for name, value in start.items():
        gradient = np.zeros(value.shape)
        for at in np.ndindex(value.shape):
            step = np.zeros(value.shape)
            step[at] = 1e-5
            ends = [loss_of(start | {name: value + s}, bits, targets) for s in (step, -step)]
            gradient[at] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(once[name], value - gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(once["loss"], [loss_of(start, bits, targets)], rtol=1e-5)
    feeds = {"x": bits, "targets": targets, "rates": np.full(600, 4.0), **start}
    found = compiled(page("backpropagation"), rtol=1e-2, atol=1e-2, **feeds)  # small errors grow over 600 steps
    assert found["loss"][-1] < 0.01 < 0.4 < found["loss"][0]
    y = sigmoid(sigmoid(bits @ found["w1"] + found["b1"]) @ found["w2"] + found["b2"])
    assert (y > 0.5).astype(int).tolist() == targets.astype(int).tolist()


def test_contrastive_divergence():
    """As in NumPy with the hidden units that were drawn, which were drawn as their probabilities say."""
    rng = RNG(10)
    prototypes = rng.random((3, 12)) > 0.5
    flips = rng.random((60, 20, 12)) < 0.05
    batches = (prototypes[rng.integers(0, 3, (60, 20))] ^ flips).astype(np.float32)
    w, a, b = rng.normal(0, 0.1, (12, 4)).astype(np.float32), np.zeros(12), np.zeros(4)
    graph = page("contrastive_divergence", visible=12, hidden=4)
    found = compiled(graph, rtol=1e-3, atol=1e-4, batches=batches, rates=np.full(60, 0.5), w=w, a=a, b=b, seed=1)
    expected, variance, errors = 0.0, 0.0, []
    for v, h in zip(batches.astype(np.float64), found["drawn"]):
        p = sigmoid(v @ w + b)
        expected, variance = expected + p.sum(), variance + (p * (1 - p)).sum()
        v2 = sigmoid(h @ w.T + a)
        p2 = sigmoid(v2 @ w + b)
        errors.append(((v - v2) ** 2).mean())
        w, a, b = w + 0.5 / 20 * (v.T @ p - v2.T @ p2), a + 0.5 / 20 * (v - v2).sum(0), b + 0.5 / 20 * (p - p2).sum(0)
    for name, want in {"w": w, "a": a, "b": b, "error": errors}.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-3, atol=1e-3, err_msg=name)
    assert set(np.unique(found["drawn"])) == {0, 1}
    assert abs(found["drawn"].sum() - expected) < 3.3 * np.sqrt(variance)
    assert np.mean(errors[-5:]) < 0.6 * np.mean(errors[:5]), "it comes to believe the data"
    drawn = found["drawn"].reshape(60, -1)
    assert len(np.unique(drawn, axis=0)) == 60, "each batch has draws of its own"


# --- memories and maps ------------------------------------------------------------------------------------------------
def sign_or(field: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.where(field == 0, kept, np.sign(field))


def test_a_hopfield_network_remembers():
    """As unit after unit in NumPy; patterns with a few wrong units come back, and the energy never rises."""
    rng = RNG(4)
    patterns = rng.choice([-1.0, 1.0], (3, 64))
    noisy = patterns.copy()
    for row in noisy:
        row[rng.choice(64, 9, replace=False)] *= -1
    state = np.concatenate([noisy, rng.choice([-1.0, 1.0], (2, 64))])
    w = patterns.T @ patterns / 64
    np.fill_diagonal(w, 0)
    s, sweeps, energies = state.copy(), 0, []
    while True:
        before, sweeps = s.copy(), sweeps + 1
        energies.append(-np.einsum("bi,ij,bj->b", s, w, s) / 2)
        for i in range(64):
            s[:, i] = sign_or(s @ w[i], s[:, i])
        if (s == before).all():
            break
    assert sweeps > 1
    found = compiled(page("hopfield"), patterns=patterns, state=state)
    np.testing.assert_array_equal(found["state"], s)
    np.testing.assert_array_equal(found["state"][:3], patterns)
    assert found["sweeps"] == sweeps
    np.testing.assert_allclose(found["energy"], energies[-1], rtol=1e-4)
    assert (np.diff(energies, axis=0) <= 1e-9).all() and (found["energy"] <= energies[0]).all()


def test_pairs_call_each_other():
    rng = RNG(5)
    lefts, rights = rng.choice([-1.0, 1.0], (3, 32)), rng.choice([-1.0, 1.0], (3, 20))
    cue = np.concatenate([lefts, rng.choice([-1.0, 1.0], (4, 32))])
    cue[:3, :4] *= -1
    w = lefts.T @ rights
    a, b = cue, np.where(cue @ w >= 0, 1, -1)
    while True:
        c = sign_or(b @ w.T, a)
        d = sign_or(c @ w, b)
        if (c == a).all() and (d == b).all():
            break
        a, b = c, d
    found = compiled(page("bam"), lefts=lefts, rights=rights, cue=cue)
    np.testing.assert_array_equal(found["left"], a)
    np.testing.assert_array_equal(found["right"], b)
    np.testing.assert_array_equal(found["left"][:3], lefts)
    np.testing.assert_array_equal(found["right"][:3], rights)


def test_continuous_patterns_are_found_again():
    rng = RNG(11)
    patterns = rng.normal(size=(20, 16)).astype(np.float32)
    noisy = (patterns[:3] + 0.4 * rng.normal(size=(3, 16))).astype(np.float32)
    state, updates, change = noisy.astype(np.float64), 0, np.inf
    while change > 1e-5:
        p = np.exp(8 * state @ patterns.T)
        new = p / p.sum(1, keepdims=True) @ patterns
        change, state, updates = abs(new - state).max(), new, updates + 1
    found = compiled(page("modern_hopfield", features=16), patterns=patterns, state=noisy)
    np.testing.assert_allclose(found["state"], state, rtol=1e-4, atol=1e-5)
    assert found["updates"] == updates > 1
    np.testing.assert_allclose(found["state"], patterns[:3], atol=1e-3)
    mean = compiled(page("modern_hopfield", features=16, beta=0.001), patterns=patterns, state=noisy)["state"]
    np.testing.assert_allclose(mean, np.tile(patterns.mean(0), (3, 1)), atol=0.02, err_msg="warm, all are one")


def test_places_on_a_map():
    graph = page("som", rows=3, columns=4, features=5)
    x = RNG(6).normal(size=(9, 5)).astype(np.float32)
    units = weights(graph)["net.0.distance.weight"]
    apart = np.linalg.norm(x[:, None] - units, axis=2)
    found = compiled(graph, samples=x)
    np.testing.assert_array_equal(found["unit"], apart.argmin(1))
    np.testing.assert_allclose(found["error"], apart.min(1), rtol=1e-4)
    np.testing.assert_array_equal(found["row"] * 4 + found["column"], found["unit"])
    assert len(set(found["row"])) > 1 and found["column"].max() < 4


def test_a_probabilistic_network():
    """Parzen windows: the mean of Gaussians around the patterns of each class."""
    rng = RNG(7)
    kinds = np.array([0, 0, 1, 2, 2, 2, 1])
    patterns = rng.normal(size=(7, 4)).astype(np.float32)
    x = (patterns + rng.normal(size=(7, 4)) * 0.3).astype(np.float32)
    near = np.exp(-((x[:, None].astype(np.float64) - patterns) ** 2).sum(2) / (2 * 0.7**2))
    density = np.stack([near[:, kinds == k].mean(1) for k in range(3)], 1)
    found = compiled(page("pnn", sigma=0.7), x=x, patterns=patterns, kinds=kinds)
    np.testing.assert_allclose(found["probabilities"], density / density.sum(1, keepdims=True), rtol=1e-4)
    assert found["class"].tolist() == density.argmax(1).tolist() == kinds.tolist()
    none = compiled(page("pnn", classes=4), x=x, patterns=patterns, kinds=kinds)["probabilities"]
    assert not none[:, 3].any() and np.isfinite(none).all(), "a class without patterns is never meant"


# --- networks that are built, or solved -------------------------------------------------------------------------------
def test_each_unit_of_a_cascade_sees_all_before():
    graph = page("cascade_correlation", hidden=4)
    w, seen = weights(graph), RNG(8).normal(size=(5, 2))
    found = compiled(graph, point=seen)
    for i in range(4):
        v = w[f"net.0.{i}.dense.weight"]
        assert v.shape == (1, 2 + i)
        seen = np.c_[seen, sigmoid(seen @ v.T + w[f"net.0.{i}.dense.bias"]) - 0.5]
    np.testing.assert_allclose(found["units"], seen, rtol=1e-4, atol=1e-6)
    out = sigmoid(seen @ w["net.1.dense.weight"].T + w["net.1.dense.bias"]) - 0.5
    np.testing.assert_allclose(found["response"], out, rtol=1e-4, atol=1e-6)


def test_an_extreme_learning_machine_is_solved_for(tmp_path: Path):
    """Digits, with the weights that least squares give for what the random units say."""
    with np.load(EXAMPLES.parent / "digits" / "digits.npz") as data:
        x, y = (data[f"train_{k}"] for k in "xy")
        test, labels = data["test_x"], data["test_y"]
    x, test = (v.reshape(len(v), 64).astype(np.float32) / 16 for v in (x, test))
    graph = page("elm", hidden=200)
    w = weights(graph)
    hidden = sigmoid(x @ w["net.0.dense.weight"].T + w["net.0.dense.bias"])
    solved = np.linalg.lstsq(hidden, np.eye(10)[y], rcond=None)[0]
    found = compiled(page("elm", {"net.2.dense.weight": solved.T}, tmp_path, hidden=200), rtol=1e-2, atol=1e-3, x=test)
    assert (found["scores"].argmax(1) == labels).mean() > 0.9
    want = sigmoid(test @ w["net.0.dense.weight"].T + w["net.0.dense.bias"])
    np.testing.assert_allclose(found["hidden"], want, rtol=1e-4)


# --- cells of the visual cortex ---------------------------------------------------------------------------------------
BELL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def simple_cells(x: np.ndarray, a: np.ndarray, b: np.ndarray, r: float, pad: int) -> np.ndarray:
    """Fukushima's u_S: what excites, over what the V-cell, a weighted root mean square of the same cells, inhibits."""
    w = windows(x, 5, pad)
    excited = np.einsum("bchwij,kcij->bkhw", w, abs(a))
    v = np.sqrt(np.einsum("bchwij,ij->bhw", w**2, BELL) / x.shape[1])[:, None]
    return r * np.maximum((1 + excited) / (1 + 2 * r / (1 + r) * abs(b) * v) - 1, 0)


def complex_cells(s: np.ndarray, d: np.ndarray, pad: int) -> np.ndarray:
    near = np.einsum("bchwij,ij->bchw", windows(s, len(d), pad), d)
    x = np.maximum((1 + near) / (1 + near.mean(1, keepdims=True)) - 1, 0)
    return x / (0.5 + x)


def test_cells_of_the_neocognitron():
    graph = page("neocognitron")
    w = weights(graph)
    x = (RNG(9).random((3, 1, 16, 16)) > 0.6).astype(np.float32)
    x[2] = 0  # of nothing comes nothing
    quarter = np.full((2, 2), 0.25)
    s1 = y = simple_cells(x, w["net.0.a.value"], w["net.0.b.value"], 4.0, 1)
    for i, pad in ((2, 1), (4, 0)):
        y = complex_cells(y, BELL, 0 if i == 2 else 1)
        y = simple_cells(y, w[f"net.{i}.a.value"], w[f"net.{i}.b.value"], 1.5, pad)
    response = complex_cells(y, quarter, 0)
    assert response.shape == (3, 24, 1, 1) and (response[:2] > 0).any() and not response[2].any()
    found = compiled(graph, image=x)
    np.testing.assert_allclose(found["features"], s1, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["response"], response[:, :, 0, 0], rtol=1e-3, atol=1e-4)


def test_a_trained_plane_finds_its_feature_anywhere(tmp_path: Path):
    """Reinforced as the paper says, a plane answers to a bar of its direction, wherever that is, and not to the other's."""
    w = {k: np.zeros_like(v) for k, v in weights(page("neocognitron")).items()}
    bars = np.zeros((2, 5, 5))
    bars[0, :, 2], bars[1, 2, :] = 1, 1
    for plane, bar in enumerate(bars):
        w["net.0.a.value"][plane, 0] = 16 * BELL * bar
        w["net.0.b.value"][plane] = 8 * np.sqrt((BELL * bar).sum())
    x = np.zeros((4, 1, 16, 16), np.float32)
    x[0, 0, 3:8, 4] = x[1, 0, 8:13, 10] = x[2, 0, 4, 3:8] = x[3, 0, 10, 8:13] = 1
    found = compiled(page("neocognitron", w, tmp_path), image=x)["features"].max((2, 3))
    assert (found[:2, 0] > 0.5).all() and (found[2:, 1] > 0.5).all()
    assert (found[:2, 1] < 0.1 * found[:2, 0]).all() and (found[2:, 0] < 0.1 * found[2:, 1]).all()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
