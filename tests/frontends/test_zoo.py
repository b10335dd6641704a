"""The examples: parameter counts as published, types with a symbolic batch, and the digits that were really trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphc.backends.reference import run
from graphc.frontends.yaml_load import load_yaml
from graphc.types import Sym

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BATCH = Sym("batch")
IMAGENET = {"logits": (BATCH, 1000)}

# file: (trainable parameters as published, types of the results)
ZOO = {
    "lenet5": (61_706, {"logits": (BATCH, 10)}),
    "mlp": (335_114, {"logits": (BATCH, 10)}),
    "alexnet": (61_100_840, IMAGENET),
    "vgg16": (138_357_544, IMAGENET),
    "googlenet": (6_624_904, IMAGENET),
    "resnet18": (11_689_512, IMAGENET),
    "resnet50": (25_557_032, IMAGENET),
    "resnext50": (25_028_904, IMAGENET),
    "se_resnet50": (28_088_024, IMAGENET),
    "densenet121": (7_978_856, IMAGENET),
    "squeezenet": (1_235_496, IMAGENET),
    "mobilenet_v1": (4_231_976, IMAGENET),
    "mobilenet_v2": (3_504_872, IMAGENET),
    "mobilenet_v3": (5_483_032, IMAGENET),
    "efficientnet_b0": (5_288_548, IMAGENET),
    "vit_b16": (86_567_656, IMAGENET),
    "unet": (31_037_698, {"logits": (BATCH, 2, 256, 256)}),
    "yolo_v3_tiny": (8_852_366, {"coarse": (BATCH, 255, 13, 13), "fine": (BATCH, 255, 26, 26)}),
    "ssd300": (35_641_826, {"scores": (BATCH, 8732, 91), "boxes": (BATCH, 8732, 4)}),
    "lstm_classifier": (4_810_857, {"positive": (BATCH, 1)}),
    "gru_classifier": (2_759_169, {"positive": (BATCH, 1)}),
    "char_rnn": (4_022_850, {"logits": (BATCH, Sym("steps"), 66)}),
    "transformer_encoder": (4_385_920, {"hidden": (BATCH, 128, 128), "pooled": (BATCH, 128)}),
    "autoencoder": (222_384, {"reconstruction": (BATCH, 784), "code": (BATCH, 32)}),
    "vae_encoder": (69_076, {"mean": (BATCH, 2), "log_variance": (BATCH, 2)}),
    "vae_decoder": (65_089, {"image": (BATCH, 1, 28, 28)}),
    "vae": (134_165, {"image": (BATCH, 1, 28, 28), "code": (BATCH, 2), "mean": (BATCH, 2), "std": (BATCH, 2)}),
    "rbm_gibbs": (393_284, {"visible": (BATCH, 784), "ink": (BATCH, 784), "hidden": (BATCH, 500)}),
    "boltzmann": (0, {"state": (BATCH, 6)}),
    "deep_belief_net": (1_665_010, {"probabilities": (BATCH, 10), "label": (BATCH, 10)}),
    "dcgan_generator": (3_576_704, {"image": (BATCH, 3, 64, 64)}),
}


@pytest.mark.parametrize("name", ZOO)
def test_parameters_and_types(name):
    count, results = ZOO[name]
    path = EXAMPLES / f"{name}.yaml"
    graph = load_yaml(path)
    assert graph.meta["parameters"] == count
    assert graph.meta["warnings"] == ()
    assert sum(row.parameters for row in graph.meta["layers"]) == count
    assert {n: v.shape for n, v in zip(graph.output_names, graph.outputs)} == results
    assert all(v.dtype == np.float32 for v in graph.outputs)
    assert f"{count:,} parameters" in path.read_text(), "the file's comment says another number"


def test_fractalnet():
    """A block of three columns has seven convolutions, three of which read the block's input."""
    graph = load_yaml(EXAMPLES / "fractalnet.yaml")
    widths = [3, 64, 128, 256, 512, 512]
    blocks = sum(9 * (3 * a * b + 4 * b * b) + 7 * 2 * b for a, b in zip(widths, widths[1:]))
    assert graph.meta["parameters"] == blocks + 512 * 10 + 10
    assert sum(n.op.name == "Conv" for n in graph.nodes) == 5 * 7
    assert graph.outputs[0].shape == (BATCH, 10)


@pytest.mark.parametrize(
    ("name", "params", "count"),
    [
        ("resnet50", {"n3": 23}, 44_549_160),  # torchvision's ResNet-101
        ("resnet18", {"classes": 10}, 11_689_512 - 990 * 513),
        ("char_rnn", {"vocab": 65}, 4_022_850 - 256 - 1025),
        ("transformer_encoder", {"layers": 12, "width": 768, "heads": 12}, 109_482_240),  # BERT-base
    ],
)
def test_params_change_the_size(name, params, count):
    assert load_yaml(EXAMPLES / f"{name}.yaml", params).meta["parameters"] == count


def test_every_example_is_tested():
    assert {p.stem for p in EXAMPLES.glob("*.yaml")} == {*ZOO, "fractalnet"}


@pytest.mark.parametrize("name", ["lenet5", "vae_encoder", "vae_decoder", "autoencoder"])
def test_the_reference_runs_small_ones(name):
    graph = load_yaml(EXAMPLES / f"{name}.yaml")
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.random([2 if d == BATCH else d for d in v.shape], dtype=np.float32) for v in graph.inputs}
    for value, array in zip(graph.outputs, run(graph, feeds).values()):
        assert array.shape == (2, *value.shape[1:])
        assert np.isfinite(array).all()
        assert array.std() > 0


def test_digits_are_read():
    """The trained network on the images that it has not seen. The same weights in ONNX give the same numbers."""
    from graphc.frontends.onnx_load import load_onnx

    folder = EXAMPLES / "digits"
    with np.load(folder / "digits.npz") as data:
        x, y = data["test_x"].astype(np.float32)[:, None], data["test_y"]
    graph = load_yaml(folder / "digits.yaml")
    assert graph.meta["parameters"] == 40_506
    found = run(graph, {"image": x})["probabilities"]
    assert np.mean(found.argmax(axis=1) == y) > 0.98
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    other = run(load_onnx(folder / "digits.onnx"), {"image": x[:20]})["probabilities"]
    np.testing.assert_allclose(other, found[:20], rtol=1e-4, atol=1e-6)


def test_the_data_of_digits():
    folder = EXAMPLES / "digits"
    with np.load(folder / "digits.npz") as data:
        train, test = data["train_x"], data["test_x"]
    assert train.shape == (1297, 8, 8) and test.shape == (500, 8, 8) and train.dtype == np.uint8
    assert {t.tobytes() for t in train}.isdisjoint(t.tobytes() for t in test)
    assert sum(p.stat().st_size for p in folder.iterdir() if p.is_file()) < 500_000
