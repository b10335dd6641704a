"""The examples at shapes that come one after the other: plans for many give, bit for bit, what fresh plans for each give."""

from __future__ import annotations

import re

import numpy as np
import pytest
from many_sizes import ALGORITHMS, alone, guards
from zoo import ZOO, feeds_of, network

import graphc
from graphc import classes

QUICK = ("lenet5", "mlp", "vae_decoder", "lstm_classifier", "squeezenet", "transformer_encoder")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in ZOO])
def test_examples_at_many_shapes(name: str, threads: int, monkeypatch: pytest.MonkeyPatch):
    if threads > 1 and name not in QUICK[2:5]:
        return
    monkeypatch.setattr(classes, "STRICT", True)
    graph, rng = network(name), np.random.default_rng(1)
    options = {"threads": threads, "disabled": ALGORITHMS}
    model = graphc.compile(graph, **options)
    for sizes in ZOO[name]:
        feeds = feeds_of(graph, sizes, rng)
        got, want = model.run(feeds), alone(graph, feeds, **options)
        for key in want:
            assert got[key].shape == want[key].shape
            np.testing.assert_array_equal(got[key], want[key], err_msg=f"{name} at {sizes}")
    assert len(model._plans) <= 1 and model._many
    pins = [text for many in model._many for text in guards(many) if re.search(r"^[^%/]* = \d+$", text)]
    pins = [
        text for text in pins if not re.search(r" = [234]$", text)
    ]  # ranges whose ends meet; batches of recurrent layers
    assert not pins, "a plan is for one size only"
