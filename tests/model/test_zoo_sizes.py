"""The examples at shapes that come one after the other: plans for many give, bit for bit, what fresh plans for each give."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from many_sizes import ALGORITHMS, alone, guards

import graphc
from graphc import classes
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Graph

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = [{"batch": 1}, {"batch": 3}, {"batch": 2}, {"batch": 7}, {"batch": 33}]
SEQUENCES = [{"batch": b, "steps": n} for b, n in ((1, 8), (2, 9), (3, 31), (8, 5), (1, 40))]
IMAGES = [
    {"batch": b, "height": h, "width": w}
    for b, h, w in ((1, 64, 64), (1, 96, 64), (2, 64, 96), (3, 128, 96), (1, 160, 224))
]
# file: shapes that it runs at; images of any size where the file has them of one.
ZOO = {
    "lenet5": SMALL, "mlp": SMALL, "autoencoder": SMALL, "vae_encoder": SMALL, "vae_decoder": SMALL,
    "lstm_classifier": SEQUENCES, "gru_classifier": SEQUENCES, "char_rnn": SEQUENCES, "transformer_encoder": SMALL,
    "squeezenet": IMAGES, "mobilenet_v1": IMAGES, "mobilenet_v2": IMAGES, "mobilenet_v3": IMAGES, "efficientnet_b0": IMAGES,
    "resnet18": IMAGES, "resnet50": IMAGES, "resnext50": IMAGES, "se_resnet50": IMAGES, "densenet121": IMAGES,
    "googlenet": IMAGES, "unet": IMAGES, "yolo_v3_tiny": IMAGES,
    "dcgan_generator": SMALL[:3], "alexnet": SMALL[:3], "vgg16": SMALL[:3], "vit_b16": SMALL[:3], "ssd300": SMALL[:3],
    "fractalnet": SMALL[:3],
}  # fmt: skip
QUICK = ("lenet5", "mlp", "vae_decoder", "lstm_classifier", "squeezenet", "transformer_encoder")


def network(name: str) -> Graph:
    text = (EXAMPLES / f"{name}.yaml").read_text()
    if ZOO[name] is IMAGES:
        text = re.sub(r"(inputs: \{image: \[batch, \d+), \d+, \d+\]", r"\1, height, width]", text, count=1)
    return loads_yaml(text)


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
        feeds = {}
        for v in graph.inputs:
            shape = [d if isinstance(d, int) else sizes[str(d)] for d in v.type.shape]
            whole = v.dtype.kind == "i"
            feeds[v.name] = rng.integers(0, 2, shape, v.dtype) if whole else rng.standard_normal(shape, np.float32)
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
