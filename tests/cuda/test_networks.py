"""Whole networks on CUDA kernels, against those of the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from nets import convnet, transformer

import graphc
from graphc.backends.cuda.conv import tensor_conv
from graphc.backends.cuda.lower.registry import RULES, load_lowerings
from graphc.backends.cuda.product.costs import Choice
from graphc.backends.outlook import outlook
from graphc.graph import Builder, Graph, Value

TARGET = "cuda:emulate"
SMALL = {
    "unet": {"256, 256": "32, 32", "width: 64": "width: 8"},
    "squeezenet": {"224, 224": "48, 48"},
    "densenet121": {"224, 224": "32, 32"},
}


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, accesses out of bounds and reads of what nobody wrote are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


def compare(source: str | Graph, feeds: dict[str, np.ndarray]) -> graphc.Model:
    """Every result is that of the CPU, and no step runs there. Gives the model."""
    model = graphc.compile(source, target=TARGET)
    want = graphc.compile(source, target="cpu").run(feeds)
    for _ in range(2):  # kernels leave nothing behind
        for name, y in model.run(feeds).items():
            np.testing.assert_allclose(y, want[name], rtol=0, atol=1e-5 * np.abs(want[name]).max())
    assert not [s for s in model.plan({n: a.shape for n, a in feeds.items()}).steps if s.host]
    return model


def weights(b: Builder, *shape: int) -> Value:
    """Uniform weights whose layer keeps the size of its input's elements."""
    scale = (3 / np.prod(shape[1:])) ** 0.5
    return b.constant(np.random.default_rng([len(b.nodes), *shape]).uniform(-scale, scale, shape), np.float32)


def normalized(b: Builder, x: Value, channels: int) -> Value:
    rng = np.random.default_rng(channels)
    numbers = [b.constant(rng.uniform(0.5, 1.5, channels), np.float32) for _ in range(4)]
    return b.add("BatchNormalization", x, *numbers)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_lenet(checked: None):
    model = compare("examples/zoo/lenet5.yaml", {"image": random(3, 1, 28, 28)})
    steps = model.plan({"image": (3, 1, 28, 28)}).steps
    assert len(steps) == 7 and [s.ops[0] for s in steps[:2]] == ["Conv", "AveragePool"]  # all else is fused


def test_a_residual_block(checked: None):
    """ResNet's, with a projection."""
    b = Builder("residual")
    x = b.input("x", np.float32, (2, 16, 12, 12))
    y = b.add("Conv", x, weights(b, 24, 16, 3, 3), pads=[1] * 4, strides=[2, 2])
    y = b.add("Relu", normalized(b, y, 24))
    y = normalized(b, b.add("Conv", y, weights(b, 24, 24, 3, 3), pads=[1] * 4), 24)
    skip = normalized(b, b.add("Conv", x, weights(b, 24, 16, 1, 1), strides=[2, 2]), 24)
    model = compare(b.build({"y": b.add("Relu", b.add("Add", y, skip))}), {"x": random(2, 16, 12, 12)})
    assert len(model.plan().steps) == 3


def test_an_inverted_residual(checked: None):
    """MobileNet v2's."""
    b = Builder("inverted")
    x = b.input("x", np.float32, (1, 8, 14, 14))
    low, high = b.constant(0, np.float32), b.constant(6, np.float32)
    y = b.add("Clip", normalized(b, b.add("Conv", x, weights(b, 48, 8, 1, 1)), 48), low, high)
    y = b.add("Conv", y, weights(b, 48, 1, 3, 3), pads=[1] * 4, group=48)
    y = b.add("Clip", normalized(b, y, 48), low, high)
    y = normalized(b, b.add("Conv", y, weights(b, 8, 48, 1, 1)), 8)
    model = compare(b.build({"y": b.add("Add", x, y)}), {"x": random(1, 8, 14, 14)})
    assert [s.algorithm for s in model.plan().steps][1] == "depthwise" and len(model.plan().steps) == 3


def test_a_transformer_block(checked: None):
    compare(transformer(), {"x": random(2, 9, 32)})


def test_branches_pools_and_groups(checked: None):
    compare(convnet(16), {"x": random(2, 3, 16, 16)})


def test_a_transformer_encoder():
    rng = np.random.default_rng(0)
    feeds = {"tokens": rng.integers(0, 30522, (2, 128)), "segments": rng.integers(0, 2, (2, 128))}
    compare("examples/zoo/transformer_encoder.yaml", feeds)


@pytest.mark.parametrize("name, changes", SMALL.items())
def test_small_networks_of_images(name: str, changes: dict[str, str], tmp_path: Path, checked: None):
    text = Path(f"examples/zoo/{name}.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "net.yaml").write_text(text)
    size = int(re.search(r"image: \[batch, 3, (\d+)", text)[1])
    model = compare(str(tmp_path / "net.yaml"), {"image": random(2, 3, size, size)})
    assert any(s.algorithm.startswith("tensor cores") for s in model.plan({"image": (2, 3, size, size)}).steps)


def test_a_residual_block_of_float16(checked: None, monkeypatch: pytest.MonkeyPatch):
    """All of it on tensor cores, within the rounding of each of its layers."""
    monkeypatch.setattr(tensor_conv, "choices_of", lambda *_: [Choice(tensor_conv.TILES[2][2], 1, 0, 0, 0)])
    half = np.dtype(np.float16)
    b = Builder("residual")
    x = b.input("x", half, (2, 32, 12, 12))
    y = b.add("Relu", b.add("Conv", x, b.add("Cast", weights(b, 64, 32, 3, 3), to=half), pads=[1] * 4, strides=[2, 2]))
    y = b.add("Conv", y, b.add("Cast", weights(b, 64, 64, 3, 3), to=half), pads=[1] * 4)
    skip = b.add("Conv", x, b.add("Cast", weights(b, 64, 32, 1, 1), to=half), strides=[2, 2])
    graph, feeds = b.build({"y": b.add("Relu", b.add("Add", y, skip))}), {"x": random(2, 32, 12, 12).astype(half)}
    model, want = graphc.compile(graph, target=TARGET), graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=0, atol=4 * 2.0**-11 * np.abs(want).max())
    convs = [s for s in model.plan().steps if "Conv" in s.ops]
    assert all(s.algorithm.startswith(("tensor cores", "the sum")) for s in convs)
    orders = [s.reason.partition(", ")[2] for s in convs]
    orders = [o.partition("; ")[0] for o in orders]
    assert orders == ["channels last", "channels last", "channels last to channels first"]


def test_nothing_runs_on_the_host_whatever_the_sizes():
    load_lowerings()
    for graph in (convnet(16), transformer()):
        assert not [p for p in outlook(graph, RULES) if p.host]


@pytest.mark.slow
@pytest.mark.parametrize("name, shape", [("resnet18", (1, 3, 224, 224)), ("mobilenet_v2", (2, 3, 224, 224))])
def test_of_images(name: str, shape: tuple[int, ...]):
    compare(f"examples/zoo/{name}.yaml", {"image": random(*shape)})
