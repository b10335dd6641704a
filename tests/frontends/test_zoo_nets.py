"""Examples with several nets, or of several files: parameter counts as published, types, and what nets of one file share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import graphc
from graphc.backends.reference import run
from graphc.cli import main
from graphc.frontends.yaml_load import load_yaml
from graphc.types import Sym

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"
BATCH = Sym("batch")
GENERATOR, DISCRIMINATOR = 3_576_704, 2_765_568
FEATURES = (4 * 8 * 8 + 1) * 16 + (16 * 4 * 4 + 1) * 32 + (32 * 9 * 9 + 1) * 256
IMAGE = (BATCH, 3, 64, 64)

# file: {net: (trainable parameters, types of the results)}
NETS = {
    "dcgan": {
        "generator": (GENERATOR, {"image": IMAGE}),
        "discriminator": (DISCRIMINATOR, {"real": (BATCH, 1)}),
        "gan": (GENERATOR + DISCRIMINATOR, {"real": (BATCH, 1), "image": IMAGE}),
    },
    "actor_critic": {
        "agent": (681_027, {"policy": (BATCH, 18), "value": (BATCH, 1)}),
        "policy": (FEATURES + 257 * 18, {"policy": (BATCH, 18)}),
        "value": (FEATURES + 257, {"value": (BATCH, 1)}),
        "features": (FEATURES, {"features": (BATCH, 256)}),
    },
}


@pytest.mark.parametrize("name, net", [(name, net) for name in NETS for net in NETS[name]])
def test_parameters_and_types(name: str, net: str):
    count, results = NETS[name][net]
    graph = load_yaml(EXAMPLES / f"{name}.yaml", net=net)
    assert graph.meta["parameters"] == count and graph.meta["nets"] == tuple(NETS[name])
    assert graph.meta["warnings"] == ()
    assert {n: v.shape for n, v in zip(graph.output_names, graph.outputs)} == results
    assert all(v.dtype == np.float32 for v in graph.outputs)


@pytest.mark.parametrize("name, counts", [("dcgan", (GENERATOR, DISCRIMINATOR)), ("actor_critic", (681_027,))])
def test_the_comments_say_how_many_parameters(name: str, counts: tuple[int, ...]):
    text = (EXAMPLES / f"{name}.yaml").read_text()
    assert all(f"{count:,}" in text for count in counts)


def test_the_classifier_of_pictures():
    """Its blocks are those of ResNet-18."""
    path = EXAMPLES / "picture_classifier.yaml"
    graph = load_yaml(path)
    assert graph.meta["parameters"] == 11_689_512 - 513 * 1000 + 513 * 10
    assert graph.meta["warnings"] == () and f"{graph.meta['parameters']:,} parameters" in path.read_text()
    prepared, resnet = load_yaml(path, preprocess=False), load_yaml(EXAMPLES / "resnet18.yaml", {"classes": 10})
    assert [(n.op.name, n.output.shape) for n in prepared.nodes[:-1]] == [
        (n.op.name, n.output.shape) for n in resnet.nodes
    ]


@pytest.mark.slow
def test_a_picture_of_any_size_gets_names(tmp_path: Path):
    path = EXAMPLES / "picture_classifier.yaml"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).save(tmp_path / "cat.jpg")
    done = CliRunner().invoke(main, ["run", str(path), "--input", f"image={tmp_path}/cat.jpg"], catch_exceptions=False)
    assert done.exit_code == 0 and "probabilities[0] top 5: " in done.output, done.output
    assert sum(name in done.output for name in load_yaml(path).meta["labels"]["probabilities"]) == 5


def test_the_generator_is_that_of_its_own_page():
    """Layer by layer, and in numbers where the weights are the same."""
    alone, one = load_yaml(EXAMPLES / "dcgan_generator.yaml"), load_yaml(EXAMPLES / "dcgan.yaml", net="generator")
    assert [(n.op.name, n.output.shape) for n in alone.nodes] == [(n.op.name, n.output.shape) for n in one.nodes]


def test_the_chain_is_one_net_after_the_other():
    params, rng = {"width": 4}, np.random.default_rng(1)
    noise = rng.standard_normal((2, 100, 1, 1), np.float32)
    image = run(load_yaml(EXAMPLES / "dcgan.yaml", params, net="generator"), {"noise": noise})["image"]
    real = run(load_yaml(EXAMPLES / "dcgan.yaml", params, net="discriminator"), {"image": image})["real"]
    both = run(load_yaml(EXAMPLES / "dcgan.yaml", params, net="gan"), {"noise": noise})
    np.testing.assert_allclose(both["real"], real, rtol=1e-5)
    np.testing.assert_allclose(both["image"], image, rtol=1e-5, atol=1e-6)
    assert real.min() > 0 and real.max() < 1


def test_actor_and_critic_share_their_features():
    """The graph that is compiled holds the convolutions once."""
    path = EXAMPLES / "actor_critic.yaml"
    agent = graphc.compile(path, target="reference")
    frames = np.random.default_rng(2).random((2, 4, 84, 84), np.float32)
    found = agent.run({"frames": frames})
    for net in ("policy", "value"):
        np.testing.assert_allclose(
            run(load_yaml(path, net=net), {"frames": frames})[net], found[net], rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(found["policy"].sum(1), 1, rtol=1e-5)
    counts = Counter(n.op.name for n in agent.graph.nodes)
    assert counts["Conv"] == 2 and counts["Gemm"] == 3
