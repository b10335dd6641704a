"""The examples, and shapes that they run at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Graph

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "zoo"
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


def page(name: str, image: tuple[int | str, int | str] | None = None) -> str:
    """An example's text. image: height and width in place of its own."""
    text = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    if image is None:
        return text
    size = ", ".join(map(str, image))
    text, count = re.subn(r"(inputs: \{image: \[batch, \d+, )\d+, \d+\]", rf"\g<1>{size}]", text, count=1)
    assert count == 1, f"{name} has no images of one size"
    return text


def network(name: str) -> Graph:
    return loads_yaml(page(name, ("height", "width") if ZOO[name] is IMAGES else None))


def feeds_of(graph: Graph, sizes: Mapping[str, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random inputs; sizes: of the dims that are names. Whole numbers are rows of the table that they index, else 0 or 1."""
    feeds = {}
    for v in graph.inputs:
        shape = [d if isinstance(d, int) else sizes[str(d)] for d in v.type.shape]
        if v.name == "regions":
            images, image = sizes["batch"], next(v for v in graph.inputs if v.name == "image")
            feeds[v.name] = _regions(shape[0], images, *image.shape[2:], rng)[:, -shape[1] :]
        elif v.dtype == np.uint8:
            feeds[v.name] = rng.integers(0, 256, shape, v.dtype)
        elif v.dtype.kind == "i":
            tables = [n.inputs[0].shape[0] for n in graph.nodes if n.op.name == "Gather" and n.inputs[1] is v]
            feeds[v.name] = rng.integers(0, min(tables, default=2), shape, v.dtype)
        else:
            feeds[v.name] = rng.standard_normal(shape, np.float32)
    return feeds


def _regions(count: int, images: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """[count, 5]: the number of an image and two corners in it, in pixels. Regions of one image have the corners alone."""
    a, b = (rng.random((count, 2)) * (width, height) for _ in range(2))
    numbers = rng.integers(0, images, (count, 1))
    return np.concatenate([numbers, np.minimum(a, b), np.maximum(a, b)], 1).astype(np.float32)
