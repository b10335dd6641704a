"""examples/generate.py: a session writes what pure calls write, and sampling keeps to its limits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import graphc

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "generate.py"
TEXT = "the cat sat on the mat. the cat sat on the "


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_example", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(example: ModuleType) -> graphc.Model:
    return graphc.compile(example.decoder(order=8, positions=128), threads=1)


def pure(model: graphc.Model, ids: np.ndarray) -> np.ndarray:
    """Logits of the last character, by one call that sees the whole text and empty caches."""
    empty = {}
    for spec in model.inputs:
        if spec.name.startswith("past"):
            _, heads, _, size = spec.shape
            empty[spec.name] = np.zeros((1, heads, 0, size), np.float32)
    return model.run({"ids": ids, **empty})["logits"][0, -1]


def test_greedy_with_a_session_is_greedy_with_pure_calls(example: ModuleType, model: graphc.Model):
    ids = example.encode(TEXT)
    written = list(example.generate(model.session(), ids, 24, example.greedy))
    text = ids
    for token in written:
        assert example.greedy(pure(model, text)) == token
        text = np.concatenate([text, [[token]]], axis=1)
    assert example.decode(written) == "mat. the cat sat on the "


def test_a_session_goes_on_where_it_was(example: ModuleType, model: graphc.Model):
    """In two parts, in a fork, and again after the answer was taken back."""
    ids, session = example.encode(TEXT), model.session()
    session.run({"ids": ids[:, :-1]})
    fork = session.fork()
    whole = list(example.generate(session, ids[:, -1:], 12, example.greedy))
    start = list(example.generate(fork, ids[:, -1:], 5, example.greedy))
    assert start + list(example.generate(fork, np.array([start[-1:]]), 7, example.greedy)) == whole
    session.truncate(ids.shape[1] - 1)
    assert list(example.generate(session, ids[:, -1:], 12, example.greedy)) == whole


def test_sampling_keeps_to_its_limits(example: ModuleType):
    likely = np.array([0.05, 0.5, 0.15, 0.3])
    logits = np.log(likely).astype(np.float32)

    def drawn(**limits: float) -> np.ndarray:
        rng = np.random.default_rng(0)
        return np.bincount([example.sample(logits, rng, **limits) for _ in range(4000)], minlength=4) / 4000

    np.testing.assert_allclose(drawn(), likely, atol=0.03)
    np.testing.assert_allclose(drawn(temperature=0.5), likely**2 / (likely**2).sum(), atol=0.03)
    np.testing.assert_allclose(drawn(top_k=2), [0, 0.625, 0, 0.375], atol=0.03)
    np.testing.assert_allclose(drawn(top_p=0.9), [0, 0.526, 0.158, 0.316], atol=0.03)
    np.testing.assert_allclose(drawn(top_k=3, top_p=0.7), [0, 0.625, 0, 0.375], atol=0.03)
    assert drawn(top_k=1)[1] == drawn(top_p=1e-9)[1] == 1 and example.greedy(logits) == 1


def test_characters_come_back(example: ModuleType):
    assert example.decode(example.encode("a line\nof 1 text ~é").ravel().tolist()) == "a line\nof 1 text ~ "


def test_the_example_runs(example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    arguments = ["--prompt", TEXT, "--length", "8", "--temperature", "1", "--top-k", "3", "--endings", "2"]
    monkeypatch.setattr("sys.argv", ["generate.py", *arguments])
    example.main()
    assert capsys.readouterr().out.count("...") == 2
