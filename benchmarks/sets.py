"""What is measured: models by set, each with the largest ratio to the best peer that counts as reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forests import forest
from measure import WRONG
from models import Network, example, light, written
from quantized import decoder_step, in_dynamic_int8, in_float16, in_int8


@dataclass(frozen=True)
class Case:
    """A model; `target` is graphc's time over the fastest peer's."""

    network: Network
    target: float

    @property
    def name(self) -> str:
        return self.network.name


@dataclass(frozen=True)
class Set:
    """Models of one kind. target: geometric mean of their ratios, None where only each model's counts.

    peers: the engines that count, all where it is empty. in_bfloat16: graphc and OpenVINO compute in it; a row has graphc's time in
    float32, too. by_default: every engine as its package computes where nobody asks for anything. wrong: difference from ONNX Runtime, of the scale, that no rounding explains.
    """

    cases: tuple[Case, ...]
    target: float | None = None
    peers: tuple[str, ...] = ()
    in_bfloat16: bool = False
    by_default: bool = False
    wrong: float = WRONG


LIGHT = [
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
]
LIGHT_TARGETS = {"vgg19": 0.65, "resnet50": 0.80, "squeezenet": 0.80}
MOBILE = ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "efficientnet_b0", "resnext50", "se_resnet50"]

ENCODER = example("transformer_encoder", layers=12, width=768, heads=12, steps=128)
RECURRENT = """
graphc: 1
inputs: {{x: [batch, 128, 256]}}
net: [{cell}: {{hidden: 256, layers: {layers}, bidirectional: {bidirectional}}}]
"""
CHAR_RNN_STEP = """
# A step of min-char-rnn: gist.github.com/karpathy/d4dee566867f8291f086
graphc: 1
inputs: {character: {shape: [batch], dtype: int64}, state: [batch, 100]}
net:
  - embedding: {vocab: 65, dim: 100, from: character, as: seen}
  - dense: {out: 100, from: state, as: kept}
  - add: {from: [seen, kept]}
  - tanh: {as: next}
  - dense: 65
outputs: {logits: last, next: next}
"""


def _recurrent() -> Iterator[Case]:
    for cell in ("lstm", "gru"):
        for form, layers, bidirectional in (("", 1, "false"), ("_stacked", 2, "false"), ("_bidirectional", 1, "true")):
            for batch in (1, 16):
                text = RECURRENT.format(cell=cell, layers=layers, bidirectional=bidirectional)
                yield Case(written(f"{cell}{form}", text, batch), 0.8)


def _forests() -> Iterator[Case]:
    for rows, target in ((1, 0.6), (1000, 0.7)):
        yield Case(forest("random_forest", 100, 10, rows), target)
        yield Case(forest("booster", 500, 4, rows, boosted=True), target)


SETS = {
    "light": Set(tuple(Case(light(n), LIGHT_TARGETS.get(n, 0.95)) for n in LIGHT), 0.75),
    "mobile": Set(tuple(Case(example(n), 0.95) for n in MOBILE), 0.85),
    "dense": Set(tuple(Case(example(n), 0.95) for n in ("unet", "yolo_v3_tiny", "ssd300"))),
    "recurrent": Set(tuple(_recurrent())),
    "transformers": Set(
        (
            Case(ENCODER, 0.95),
            Case(example("vit_b16"), 0.95),
        )
    ),
    "small": Set(
        (
            Case(example("lenet5"), 0.4),
            Case(example("mlp"), 0.4),
            Case(written("char_rnn_step", CHAR_RNN_STEP), 0.4),
        ),
        peers=("onnxruntime",),
    ),
    "forests": Set(tuple(_forests()), peers=("onnxruntime",)),
    "batch": Set(tuple(Case(example(n, batch), 0.85) for n in ("resnet50", "mobilenet_v2") for batch in (8, 32))),
    "half": Set(
        tuple(Case(in_float16(network), 0.8) for network in (example("resnet50"), example("mobilenet_v2"), ENCODER)),
    ),
    "precision": Set(
        tuple(
            Case(in_int8(network), 0.95)
            for network in (
                example("resnet50"),
                example("mobilenet_v2"),
                light("squeezenet"),
                example("vgg16"),
                example("ssd300"),
                example("unet"),
                ENCODER,
            )
        ),
        0.8,
        wrong=0.4,  # with random weights a step of an early quantisation moves all: ONNX Runtime's optimised encoder is 0.3 off its plain one
    ),
    "bfloat16": Set(
        tuple(
            Case(network, 0.95) for network in (*map(light, LIGHT), *map(example, MOBILE), ENCODER, example("vit_b16"))
        ),
        0.8,
        peers=("openvino",),
        wrong=0.4,
        in_bfloat16=True,
    ),
    "defaults": Set(
        tuple(
            Case(network, 1.0)
            for network in (*map(light, ("resnet50", "squeezenet", "vgg19")), example("mobilenet_v2"), ENCODER)
        ),
        wrong=0.4,
        by_default=True,
    ),
    "weights": Set(
        (
            Case(in_dynamic_int8(ENCODER), 0.85),
            Case(
                in_dynamic_int8(written("lstm", RECURRENT.format(cell="lstm", layers=1, bidirectional="false"))), 0.85
            ),
            Case(decoder_step(), 0.8),
            Case(decoder_step(level=4), 0.8),
        ),
        wrong=0.4,
    ),
}
