"""The examples that draw: their samples against the distributions that NumPy computes, at fixed seeds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.backends.reference import run
from graphc.frontends.yaml_load import load_yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"
SEED = np.array(5)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def chi_square(states: np.ndarray, energy: np.ndarray) -> float:
    """Of rows of bits, and the energies of all rows in the order that counting gives."""
    p = np.exp(-energy) / np.exp(-energy).sum()
    numbers = states.astype(int) @ (1 << np.arange(states.shape[1])[::-1])
    counts = np.bincount(numbers, minlength=len(p))
    return float(((counts - len(states) * p) ** 2 / (len(states) * p)).sum())


def every(units: int) -> np.ndarray:
    return np.array(list(itertools.product((0, 1), repeat=units)), np.float64)


@pytest.fixture(scope="module")
def couplings() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    w = np.triu(rng.normal(0, 0.8, (5, 5)), 1).astype(np.float32)
    return w + w.T, rng.normal(0, 0.5, 5).astype(np.float32)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_boltzmann_machine_comes_to_its_distribution(couplings, temperature: float):
    w, b = couplings
    graph = load_yaml(EXAMPLES / "boltzmann.yaml", {"units": 5, "sweeps": 25, "temperature": temperature})
    feeds = {"state": np.zeros((4000, 5), np.float32), "couplings": w, "biases": b, "seed": SEED}
    states = graphc.compile(graph).run(feeds)["state"]
    s = every(5)
    energy = -(np.einsum("ni,ij,nj->n", s, w, s) / 2 + s @ b)
    assert (
        chi_square(states, energy / temperature) < 61.1
    )  # of 31 degrees of freedom: one seed in a thousand exceeds it
    assert chi_square(states, energy / (3 - temperature)) > 300, "and the test tells other temperatures"


def test_one_unit_of_a_boltzmann_machine_at_a_time(couplings):
    """The first sweep from one state: each unit by those before it as drawn, those after it as they were."""
    w, b = couplings
    graph = load_yaml(EXAMPLES / "boltzmann.yaml", {"units": 5, "sweeps": 1})
    start = np.float32([1, 0, 1, 1, 0])
    feeds = {"state": np.tile(start, (8000, 1)), "couplings": w, "biases": b, "seed": SEED}
    states = graphc.compile(graph).run(feeds)["state"].astype(np.float64)
    given, likely = np.tile(start.astype(np.float64), (32, 1)), np.ones(32)
    for i, bits in enumerate(every(5).T):
        p = sigmoid(given @ w[:, i] + b[i])
        likely *= np.where(bits == 1, p, 1 - p)
        given[:, i] = bits
    assert chi_square(states, -np.log(likely)) < 61.1


def test_a_restricted_boltzmann_machine_comes_to_its_distribution(tmp_path: Path):
    rng = np.random.default_rng(1)
    w, a, b = rng.normal(0, 1, (4, 3)), rng.normal(0, 0.5, 4), rng.normal(0, 0.5, 3)
    given = {f"net.{name}.value": v.astype(np.float32) for name, v in (("w", w), ("a", a), ("b", b))}
    np.savez(tmp_path / "w.npz", **given)
    text = (EXAMPLES / "rbm_gibbs.yaml").read_text(encoding="utf-8") + "weights: {file: w.npz}\n"
    (tmp_path / "rbm.yaml").write_text(text, encoding="utf-8")
    graph = load_yaml(tmp_path / "rbm.yaml", {"visible": 4, "hidden": 3, "steps": 20})
    made = graphc.compile(graph).run({"image": np.zeros((4000, 4), np.float32), "seed": SEED})
    np.testing.assert_allclose(made["ink"], sigmoid(made["hidden"] @ w.T + a), rtol=1e-4)
    v = every(4)
    free_energy = -(v @ a + np.log1p(np.exp(v @ w + b)).sum(1))
    assert chi_square(made["visible"], free_energy) < 37.7  # of 15 degrees of freedom
    assert chi_square(made["visible"], free_energy * 0) > 500


def test_a_variational_autoencoder_draws_about_the_mean():
    graph = load_yaml(EXAMPLES / "vae.yaml", {"latent": 8})
    image = np.tile(np.random.default_rng(2).random((1, 1, 28, 28), dtype=np.float32), (1500, 1, 1, 1))
    model = graphc.compile(graph)
    one, other = (model.run({"image": image, "seed": np.array(s)}) for s in (1, 2))
    noise = (one["code"] - one["mean"]) / one["std"]
    assert abs(noise.mean()) < 3.3 / np.sqrt(noise.size) and abs(noise.var() - 1) < 3.3 * np.sqrt(2 / noise.size)
    assert (one["code"] != other["code"]).mean() > 0.999
    few = {"image": image[:3], "seed": np.array(1)}
    for name, want in run(graph, few).items():
        np.testing.assert_allclose(one[name][:3], want, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_deep_belief_net_draws_labels():
    """One label in each row, drawn by the probabilities of the last step."""
    graph = load_yaml(EXAMPLES / "deep_belief_net.yaml", {"top": 40, "steps": 3})
    image = np.tile(np.random.default_rng(3).random((1, 784), dtype=np.float32), (300, 1))
    feeds = {"image": image, "seed": SEED}
    made = graphc.compile(graph).run(feeds)
    p = made["probabilities"].astype(np.float64)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    assert (np.sort(made["label"], axis=1) == [0] * 9 + [1]).all()
    drawn, expected = made["label"].sum(0), p.sum(0)
    assert (abs(drawn - expected) < 3.8 * np.sqrt((p * (1 - p)).sum(0))).all()
    for name, want in run(graph, feeds).items():
        np.testing.assert_allclose(made[name], want, rtol=1e-3, atol=1e-4, err_msg=name)
