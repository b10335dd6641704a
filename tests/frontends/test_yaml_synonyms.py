"""Names of layers and arguments elsewhere lead to those of the language."""

from __future__ import annotations

import re

import pytest

from graphc.errors import GraphcError
from graphc.frontends.yaml_load import loads_yaml
from graphc.frontends.yaml_registry import layers
from graphc.frontends.yaml_step import STRUCTURES
from graphc.frontends.yaml_synonyms import (
    ABSENT,
    ARGUMENTS,
    LAYERS,
    NEEDLESS,
    absent,
    argument_for,
    layer_for,
    squashed,
)
from graphc.op import all_ops

HEAD = "graphc: 1\ninputs: {x: [n, 4, 8, 8]}\n"


def said(net: str, more: str = "") -> list[str]:
    """The problems, each without its place and the shapes so far."""
    try:
        loads_yaml(HEAD + more + f"net: {net}\n", file="m.yaml")
    except GraphcError as error:
        found = [str(p) for p in getattr(error, "problems", [error])]
        assert all(f.startswith("m.yaml: line ") for f in found)
        return [re.sub(r"^m.yaml: line \d+, column \d+: |\n  shapes so far: .*", "", f) for f in found]
    return []


@pytest.mark.parametrize(
    ("name", "here"),
    {
        # PyTorch
        "Conv2d": "conv: {out: …}", "nn.Conv1d": "conv: {out: …}", "BatchNorm2d": "bn", "Linear": "dense: {out: …}",
        "MaxPool2d": "maxpool", "AdaptiveAvgPool2d": "global_avgpool", "LeakyReLU": "leaky_relu", "ReLU6": "relu6",
        "Embedding": "embedding: {vocab: …, dim: …}", "MultiheadAttention": "attention: {heads: …}",
        "PixelShuffle": "pixel_shuffle", "ConvTranspose2d": "conv_transpose: {out: …}", "MaxUnpool2d": "unpool: {from: [a, b]}",
        "LayerNorm": "layernorm", "GroupNorm": "groupnorm: {groups: …}", "Upsample": "", "SiLU": "silu", "GELU": "gelu",
        "nn.Sequential": "[…], a list of steps", "cat": "concat: {from: [a, b]}", "cdist": "distance: {from: [a, b]}",
        # Keras
        "Conv2D": "conv: {out: …}", "Dense": "dense: {out: …}", "MaxPooling2D": "maxpool", "Conv2DTranspose": "conv_transpose: {out: …}",
        "GlobalAveragePooling2D": "global_avgpool", "DepthwiseConv2D": "depthwise", "UpSampling2D": "upsample",
        "keras.layers.LayerNormalization": "", "SimpleRNN": "rnn: {hidden: …}", "ZeroPadding2D": "pad: {by: …}",
        "Concatenate": "concat: {from: [a, b]}", "Multiply": "mul: {from: [a, b]}",
        # common words
        "batchnorm": "bn", "batch_norm": "bn", "fc": "dense: {out: …}", "linear": "dense: {out: …}", "maxpool2d": "maxpool",
        "avg_pool": "avgpool", "global_average_pool": "global_avgpool", "lrelu": "leaky_relu", "leakyrelu": "leaky_relu",
        "layer_norm": "layernorm", "group_norm": "groupnorm: {groups: …}", "upsampling": "upsample",
        "deconv": "conv_transpose: {out: …}", "convtranspose": "conv_transpose: {out: …}", "self_attention": "attention: {heads: …}",
        "positional_encoding": "positions", "se_block": "squeeze_excite", "rbf": "distance: {rows: …}",
    }.items(),
)  # fmt: skip
def test_a_layer(name: str, here: str):
    if name in all_ops():
        assert not here
        return
    if here:
        assert said(f"[{name}]") == [f"unknown layer '{name}': here it is `{here}`"]
        assert said("[relu]", f"defaults: {{{name}: {{}}}}\n") == [
            f"defaults for an unknown layer '{name}': here it is `{here}`"
        ]
    else:
        assert said(f"[{name}]") == [f"unknown layer '{name}': here it is `layernorm`"]


@pytest.mark.parametrize(
    ("step", "messages"),
    {
        "{conv: {filters: 8, kernel_size: 3, strides: 2, padding: same}}": [
            "'conv' has no argument 'filters': it is called `out`",
            "'conv' has no argument 'kernel_size': it is called `k`",
            "'conv' has no argument 'strides': it is called `s`",
            "'conv' has no argument 'padding': it is called `pad`",
        ],
        "{conv: {in_channels: 4, out_channels: 8}}": [
            "'conv' has no argument 'in_channels': it follows from what comes in",
            "'conv' has no argument 'out_channels': it is called `out`",
        ],
        "{conv: {in_channels: 4}}": [
            "'conv' needs 'out' (it also takes k, s, pad, groups, dilation, bias)",
            "'conv' has no argument 'in_channels': it follows from what comes in",
        ],
        "{conv: {out: 4, activation: relu}}": ["'conv' has no argument 'activation': it is a step of its own behind this one"],
        "{bn: {num_features: 4, momentum: 0.1}}": [
            "'bn' has no argument 'num_features': it follows from what comes in",
            "'bn' has no argument 'momentum': it changes nothing when a model runs",
        ],
        "{dropout: {rate: 0.5}}": ["'dropout' has no argument 'rate': it is called `p`"],
        "{dense: {units: 4}}": ["'dense' has no argument 'units': it is called `out`"],
        "{lstm: {units: 4, return_sequences: true}}": [
            "'lstm' has no argument 'units': it is called `hidden`",
            "'lstm' has no argument 'return_sequences': it is called `return`",
        ],
        "{rnn: {hidden: 4, activation: relu}}": ["'rnn' has no argument 'activation': it is called `act`"],
        "{softmax: {dim: 1}}": ["'softmax' has no argument 'dim': it is called `axis`"],
        "{conv: {outt: 4}}": ["'conv' has no 'outt'\n  did you mean 'out'?"],
        "{Conv: {out: 4, k: 3}}": [
            "operator 'Conv' of ONNX has no 'out': the layer is `conv: {out: …}`",
            "operator 'Conv' of ONNX has no 'k': the layer is `conv: {out: …}`",
        ],
        "{BatchNormalization: {eps: 0.1}}": ["operator 'BatchNormalization' of ONNX has no 'eps': the layer is `bn`"],
        "{Dropout: {p: 0.5}}": ["operator 'Dropout' of ONNX has no 'p': the layer is `dropout`"],
        "{MaxPool: {kernel_size: 2}}": ["operator 'MaxPool' of ONNX has no 'kernel_size': the layer is `maxpool`"],
        "{MaxPool: {kernel_shapes: [2, 2]}}": ["operator 'MaxPool' has no 'kernel_shapes'\n  did you mean 'kernel_shape'?"],
    }.items(),
)  # fmt: skip
def test_an_argument(step: str, messages: list[str]):
    assert said(f"[{step}]") == messages


def test_arguments_in_defaults_and_repeats():
    assert said("[{conv: 4}]", "defaults: {conv: {kernel_size: 3}}\n") == [
        "'conv' has no argument 'kernel_size': it is called `k`"
    ]
    assert said("[{repeat: {n: 2, of: conv, filters: 4}}]") == ["'conv' has no argument 'filters': it is called `out`"]


def test_operators_and_blocks_keep_their_names():
    """What is known is never taken for another name of something."""
    for name in ("Flatten", "Softmax", "Sigmoid", "GlobalAveragePool", "Identity"):
        assert not said(f"[{name}]")
    assert not said("[{Linear: 3}]", "blocks: {Linear: {args: {c: required}, body: [{conv: {out: $c}}]}}\n")


def test_the_tables_lead_somewhere():
    for name, here in LAYERS.items():
        assert name == squashed(name), f"'{name}' is never looked up"
        assert name not in {squashed(own) for own in layers()}, f"'{name}' is the name of a layer already"
        words = set(re.findall(r"[A-Za-z_]+", here))
        assert (
            words & (layers().keys() | STRUCTURES.keys() | all_ops().keys())
            or "list of steps" in here
            or "inputs" in here
        )
        assert layer_for(name)
    for key, names in ARGUMENTS.items():
        for name in names:
            takers = [m for m in layers().values() if name in m.args and key not in m.args]
            assert takers, f"no layer has '{name}' and lacks '{key}'"
            assert all(argument_for(m, key) for m in takers)
    own = {key for key in NEEDLESS if any(key in made.args for made in layers().values())}
    assert own == {"act"}  # which rnn and squeeze_excite have, and dense and conv have not
    for name in ABSENT:
        assert name == squashed(name) and name not in LAYERS and absent(name), name
        assert name not in {squashed(own) for own in layers()}


def test_what_is_told_can_be_written():
    """A step that is told for another name, with its blanks filled, is one of the language."""
    for name in LAYERS:
        step = layer_for(name) or ""
        if re.search("section|list of|own", step):
            continue
        filled = step.replace("[…]", "[relu]").replace("…", "1")
        text = f"{{{filled}}}" if ":" in filled and filled[0] != "[" else filled
        found = said(f"[{text}]")
        assert not any(re.search("unknown layer|has no|a step ", f) for f in found), (name, step, found)
