"""The examples: parameter counts as published, types with a symbolic batch, and the digits that were really trained."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from graphc.backends.reference import run
from graphc.frontends.yaml_load import load_yaml
from graphc.types import Sym

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"
BATCH = Sym("batch")
IMAGENET = {"logits": (BATCH, 1000)}

VOC = {"logits": (BATCH, 21, 500, 500)}
FCN = 138_357_544 - 4097 * 1000 + 4097 * 21  # VGG-16 with scores of 21 classes

# file: (trainable parameters as published, types of the results)
ZOO = {
    "lenet5": (61_706, {"logits": (BATCH, 10)}),
    "mlp": (335_114, {"logits": (BATCH, 10)}),
    "alexnet": (61_100_840, IMAGENET),
    "perceptron": (401, {"response": (BATCH, 1), "excitation": (BATCH, 1)}),
    "mcculloch_pitts": (0, {"both": (BATCH,), "either": (BATCH,), "a_without_b": (BATCH,)}),
    "xor": (9, {"xor": (BATCH, 1), "hidden": (BATCH, 2)}),
    "rbf": (50 * 64 + 50 + 51 * 10, {"scores": (BATCH, 10)}),
    "zfnet": (62_357_608, IMAGENET),
    "nin": (966_986, {"logits": (BATCH, 10)}),
    "vgg11": (132_863_336, IMAGENET),
    "vgg13": (133_047_848, IMAGENET),
    "vgg16": (138_357_544, IMAGENET),
    "vgg19": (143_667_240, IMAGENET),
    "googlenet": (6_624_904, IMAGENET),
    "resnet18": (11_689_512, IMAGENET),
    "resnet34": (21_797_672, IMAGENET),
    "resnet50": (25_557_032, IMAGENET),
    "resnet101": (44_549_160, IMAGENET),
    "resnet152": (60_192_808, IMAGENET),
    "wide_resnet": (36_479_194, {"logits": (BATCH, 10)}),
    "resnext50": (25_028_904, IMAGENET),
    "se_resnet50": (28_088_024, IMAGENET),
    "densenet121": (7_978_856, IMAGENET),
    "densenet169": (14_149_480, IMAGENET),
    "inception_v3": (23_834_568, IMAGENET),
    "xception": (22_855_952, IMAGENET),
    "squeezenet": (1_235_496, IMAGENET),
    "squeezenet1_0": (1_248_424, IMAGENET),
    "shufflenet_v2": (2_278_604, IMAGENET),
    "convnext_t": (28_589_128, IMAGENET),
    "mobilenet_v1": (4_231_976, IMAGENET),
    "mobilenet_v2": (3_504_872, IMAGENET),
    "mobilenet_v3": (5_483_032, IMAGENET),
    "efficientnet_b0": (5_288_548, IMAGENET),
    "vit_b16": (86_567_656, IMAGENET),
    "unet": (31_037_698, {"logits": (BATCH, 2, 256, 256)}),
    "segnet": (29_449_932, {"logits": (BATCH, 12, 352, 480)}),
    "fcn32s": (FCN + 21 * 21 * 64**2, VOC),
    "fcn16s": (FCN + 513 * 21 + 21 * 21 * (4**2 + 32**2), VOC),
    "fcn8s": (FCN + (513 + 257) * 21 + 21 * 21 * (4**2 + 4**2 + 16**2), VOC),
    "espcn": (
        25 * 64 + 64 + (9 * 64 + 1) * 32 + (9 * 32 + 1) * 9,
        {"larger": (BATCH, 1, 3 * Sym("height"), 3 * Sym("width"))},
    ),
    "fast_rcnn": (
        138_357_544 - 4097 * 1000 + 4097 * 21 * 5,
        {"scores": (Sym("count"), 21), "offsets": (Sym("count"), 84)},
    ),
    "yolo_v3_tiny": (8_852_366, {"coarse": (BATCH, 255, 13, 13), "fine": (BATCH, 255, 26, 26)}),
    "ssd300": (35_641_826, {"scores": (BATCH, 8732, 91), "boxes": (BATCH, 8732, 4)}),
    "lstm_classifier": (4_810_857, {"positive": (BATCH, 1)}),
    "gru_classifier": (2_759_169, {"positive": (BATCH, 1)}),
    "char_rnn": (4_022_850, {"logits": (BATCH, Sym("steps"), 66)}),
    "elman": (7_514, {"next": (BATCH, Sym("steps"), 26), "context": (BATCH, 64)}),
    "transformer_encoder": (4_385_920, {"hidden": (BATCH, 128, 128), "pooled": (BATCH, 128)}),
    "gpt2": (124_439_808, {"logits": (BATCH, Sym("steps"), 50257)}),
    "transformer": (63_082_496, {"logits": (BATCH, Sym("written"), 37000)}),
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


def test_faster_rcnn():
    """Fast R-CNN and what proposes the regions: 2 scores and 4 offsets of 9 anchors. Of a small image the reference gives
    regions that lie in it, of both images, with the probabilities of 21 classes."""
    path = EXAMPLES / "faster_rcnn.yaml"
    graph = load_yaml(path, {"height": 32, "width": 48})
    count = ZOO["fast_rcnn"][0] + (9 * 512 + 1) * 512 + 513 * 9 * (2 + 4)
    assert graph.meta["parameters"] == count and graph.meta["warnings"] == ()
    assert f"{count:,} parameters" in path.read_text()
    assert [v.shape[1:] for v in graph.outputs] == [(5,), (21,), (84,)]
    assert len({v.shape[0] for v in graph.outputs}) == 1
    regions, scores, _ = run(
        graph, {"image": np.random.default_rng(0).random((2, 3, 32, 48), dtype=np.float32)}
    ).values()
    assert set(regions[:, 0]) == {0, 1} and len(regions) == len(scores)
    assert (regions[:, 1:] >= 0).all() and (regions[:, [1, 3]] <= 48).all() and (regions[:, [2, 4]] <= 32).all()
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)


def test_segnet_by_hand():
    """The convolutions of VGG-16 there, those of its mirror image back, all with batch norm, and the classes."""
    stages = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]
    widths = [3, *(c for n, c in stages for _ in range(n))]
    there = list(zip(widths, widths[1:]))
    back = [(b, a) for a, b in there[1:]]
    assert ZOO["segnet"][0] == sum(9 * a * b + 3 * b for a, b in there + back) + 9 * 64 * 12 + 12


def test_transformer_by_hand():
    """65 million in the paper, whose number of subwords is not exact; no more is shared than the embeddings."""
    f = 512
    attention, think, norm = 4 * f * f + 4 * f, 8 * f * f + 5 * f, 2 * f
    encoder, decoder = attention + think + 2 * norm, 2 * attention + think + 3 * norm
    assert ZOO["transformer"][0] == 37000 * f + 6 * (encoder + decoder)


def test_gates():
    """Neurons with fixed weights, for all cases."""
    a, b = np.array([0, 0, 1, 1], np.float32), np.array([0, 1, 0, 1], np.float32)
    found = run(load_yaml(EXAMPLES / "mcculloch_pitts.yaml"), {"a": a, "b": b})
    assert {k: v.tolist() for k, v in found.items()} == {
        "both": [0, 0, 0, 1],
        "either": [0, 1, 1, 1],
        "a_without_b": [0, 0, 1, 0],
    }
    found = run(load_yaml(EXAMPLES / "xor.yaml"), {"bits": np.stack([a, b], 1)})
    assert found["xor"].ravel().tolist() == [0, 1, 1, 0]


def test_gpt2_reads_nothing_ahead():
    graph = load_yaml(EXAMPLES / "gpt2.yaml", {"layers": 2, "width": 16, "heads": 2, "vocab": 50, "context": 9})
    tokens = np.random.default_rng(0).integers(0, 50, (2, 7))
    first, whole = (run(graph, {"tokens": t})["logits"] for t in (tokens[:, :4], tokens))
    np.testing.assert_allclose(whole[:, :4], first, rtol=1e-4, atol=1e-5)
    assert abs(whole[:, 4:] - whole[:, 3:4]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "params", "count"),
    [
        ("resnet50", {"n3": 23}, 44_549_160),  # torchvision's ResNet-101
        ("gpt2", {"layers": 24, "width": 1024, "heads": 16}, 354_823_168),
        ("resnet18", {"classes": 10}, 11_689_512 - 990 * 513),
        ("char_rnn", {"vocab": 65}, 4_022_850 - 256 - 1025),
        ("transformer_encoder", {"layers": 12, "width": 768, "heads": 12}, 109_482_240),  # BERT-base
    ],
)
def test_params_change_the_size(name, params, count):
    assert load_yaml(EXAMPLES / f"{name}.yaml", params).meta["parameters"] == count


def test_every_example_is_tested():
    tests = "".join(p.read_text("utf-8") for p in Path(__file__).parent.glob("test_zoo*.py"))
    assert [p.name for p in EXAMPLES.glob("*.yaml") if not re.search(rf'"{p.stem}(\.yaml)?"', tests)] == []


@pytest.mark.parametrize("name", ["lenet5", "vae_encoder", "vae_decoder", "autoencoder", "rbf", "nin"])
def test_the_reference_runs_small_ones(name):
    graph = load_yaml(EXAMPLES / f"{name}.yaml")
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.random([2 if d == BATCH else d for d in v.shape], dtype=np.float32) for v in graph.inputs}
    for value, array in zip(graph.outputs, run(graph, feeds).values()):
        assert array.shape == (2, *value.shape[1:])
        assert np.isfinite(array).all()
        assert array.std() > 0


def test_elman_reads_letters():
    graph = load_yaml(EXAMPLES / "elman.yaml", {"hidden": 5})
    held = next(n.attrs["body"] for n in graph.nodes if n.op.name == "Scan")
    w = {v.name: v.data for v in (*graph.constants(), *held.constants())}
    letters = np.eye(26, dtype=np.float32)[np.random.default_rng(0).integers(26, size=(2, 7))]
    context, logits = np.zeros((2, 5)), []
    for t in range(7):
        seen = letters[:, t] @ w["net.0.input.weight"].T + w["net.0.input.bias"]
        context = 1 / (1 + np.exp(-seen - context @ w["net.0.recurrent.weight"].T))
        logits.append(context @ w["net.1.dense.weight"].T + w["net.1.dense.bias"])
    found = run(graph, {"letters": letters})
    expected = np.exp(np.stack(logits, 1))
    np.testing.assert_allclose(found["next"], expected / expected.sum(-1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(found["context"], context, rtol=1e-4)


def test_a_map_organises_itself():
    """A line of units finds its order on a line of samples; each step as in NumPy."""
    graph = load_yaml(EXAMPLES / "som_training.yaml", {"features": 1})
    assert graph.meta["parameters"] == 0 and graph.meta["warnings"] == ()
    rng = np.random.default_rng(1)
    steps = 400
    feeds = {
        "samples": rng.random((steps, 1)),
        "units": rng.random((8, 1)),
        "grid": np.stack([np.arange(8), np.zeros(8)], 1),
        "rates": np.linspace(0.5, 0.05, steps),
        "radii": np.linspace(3, 0.5, steps),
    }
    feeds = {name: a.astype(np.float32) for name, a in feeds.items()}
    units, winners = feeds["units"].astype(np.float64), []
    for sample, rate, radius in zip(feeds["samples"], feeds["rates"], feeds["radii"]):
        best = np.linalg.norm(sample - units, axis=1).argmin()
        apart = np.linalg.norm(feeds["grid"] - feeds["grid"][best], axis=1)
        units += rate * np.exp(-(apart**2) / (2 * radius**2))[:, None] * (sample - units)
        winners.append(best)
    found = run(graph, feeds)
    np.testing.assert_array_equal(found["winners"], winners)
    np.testing.assert_allclose(found["units"], units, rtol=1e-3, atol=1e-4)
    assert abs(np.sign(np.diff(units[:, 0])).sum()) == 7, "the units lie in order"


def test_resonance():
    """The category is the one that a plain search over NumPy arrays ends with; all are reset where none matches."""
    vigilance, choice = 0.75, 0.5
    graph = load_yaml(EXAMPLES / "art1.yaml", {"vigilance": vigilance, "choice": choice})
    assert graph.meta["parameters"] == 0 and graph.meta["warnings"] == ()
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(40):
        pattern, prototypes = rng.random(12) > 0.4, rng.random((5, 12)) > 0.4
        common = (prototypes & pattern).sum(1)
        order = sorted(range(5), key=lambda j: (-np.float32(common[j] / (choice + prototypes[j].sum())), j))
        match = [k for k, j in enumerate(order) if common[j] >= vigilance * pattern.sum()]
        seen.add(match[0] if match else None)
        feeds = {"pattern": pattern.astype(np.float32), "prototypes": prototypes.astype(np.float32)}
        assert run(graph, feeds)["category"] == (order[match[0]] if match else -1)
    assert {None, 0, 1} <= seen, "searches of several lengths"


def test_digits_are_read():
    """The trained network on the images that it has not seen. The same weights in ONNX give the same numbers."""
    from graphc.frontends.onnx_load import load_onnx

    folder = EXAMPLES.parent / "digits"
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
    folder = EXAMPLES.parent / "digits"
    with np.load(folder / "digits.npz") as data:
        train, test = data["train_x"], data["test_x"]
    assert train.shape == (1297, 8, 8) and test.shape == (500, 8, 8) and train.dtype == np.uint8
    assert {t.tobytes() for t in train}.isdisjoint(t.tobytes() for t in test)
    assert sum(p.stat().st_size for p in folder.iterdir() if p.is_file()) < 500_000
