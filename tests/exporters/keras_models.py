"""Keras models: by Keras itself with PyTorch below (`model.export`), and by tf2onnx where TensorFlow is installed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from exporters.frame import Case, Exported, missing

if not os.environ.get("KERAS_BACKEND"):
    os.environ["KERAS_BACKEND"] = "tensorflow" if missing(["tensorflow"]) is None else "torch"

import keras  # noqa: E402
from keras import layers  # noqa: E402

Shape = tuple[int, ...]


def stack(*parts: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        for part in parts:
            x = part(x)
        return x

    return run


def _residual(x: Any) -> Any:
    y = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(x))
    return layers.ReLU()(layers.Add()([y, layers.Conv2D(6, 1)(x)]))


def _attention(x: Any) -> Any:
    y = layers.MultiHeadAttention(2, 6)(x, x, use_causal_mask=True)
    return layers.LayerNormalization()(layers.Add()([x, y]))


def _joins(x: Any) -> Any:
    a, b = layers.Dense(5)(x), layers.Dense(5, activation="tanh")(x)
    return layers.Concatenate()(
        [
            layers.Multiply()([a, b]),
            layers.Subtract()([a, b]),
            layers.Maximum()([a, b]),
            layers.Average()([a, b]),
            layers.Dot(1)([a, b]),
        ]
    )


IMAGE, STEPS = (12, 10, 3), (7, 5)
# By name: the shape of one sample, the layers.
MODELS: dict[str, tuple[Shape, Callable[[Any], Any]]] = {
    "dense": (
        (6,),
        lambda x: stack(
            layers.Dense(16, activation="relu"), layers.Dropout(0.5), layers.Dense(3, activation="softmax")
        )(x),
    ),
    "activations": (
        (6,),
        lambda x: layers.Concatenate()(
            [
                layers.Activation(a)(x)
                for a in (
                    "elu",
                    "selu",
                    "silu",
                    "softplus",
                    "softsign",
                    "hard_sigmoid",
                    "exponential",
                    "mish",
                    "relu6",
                    "leaky_relu",
                    "log_softmax",
                )
            ]
        ),
    ),
    "gelu": ((6,), lambda x: layers.Activation("gelu")(x)),
    "joins": ((6,), _joins),
    "convolutions": (
        IMAGE,
        lambda x: stack(
            layers.Conv2D(8, 3, 2, padding="same"),
            layers.BatchNormalization(),
            layers.SeparableConv2D(6, 3, padding="same"),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.GlobalAveragePooling2D(),
        )(x),
    ),
    "dilated": (
        IMAGE,
        lambda x: stack(
            layers.Conv2D(8, 3, dilation_rate=2, padding="same"),
            layers.MaxPooling2D(3, 2, padding="same"),
            layers.AveragePooling2D(2, 1, padding="same"),
        )(x),
    ),
    "transposed": (
        IMAGE,
        lambda x: stack(layers.Conv2DTranspose(4, 3, 2, padding="same"), layers.Conv2DTranspose(3, 2, 2))(x),
    ),
    "residual": (IMAGE, _residual),
    "convolutions 1d": (
        STEPS,
        lambda x: stack(
            layers.Conv1D(6, 3, padding="causal", dilation_rate=2),
            layers.MaxPooling1D(2),
            layers.Conv1DTranspose(4, 3, 2),
            layers.GlobalMaxPooling1D(),
        )(x),
    ),
    "convolutions 3d": (
        (5, 6, 7, 2),
        lambda x: stack(layers.Conv3D(4, 3, padding="same"), layers.AveragePooling3D(2), layers.Flatten())(x),
    ),
    "shapes": (
        IMAGE,
        lambda x: stack(
            layers.ZeroPadding2D(((1, 2), (0, 3))),
            layers.Cropping2D(1),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.Permute((3, 1, 2)),
            layers.Reshape((3, -1)),
        )(x),
    ),
    "up sampling": (IMAGE, lambda x: layers.UpSampling2D((2, 3))(x)),
    "resizing": (
        IMAGE,
        lambda x: stack(
            layers.Rescaling(1 / 127.5, -1),
            layers.Resizing(9, 14),
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 0.5]),
        )(x),
    ),
    "norms": (
        IMAGE,
        lambda x: stack(
            layers.LayerNormalization(),
            layers.GroupNormalization(3),
            layers.UnitNormalization(),
            layers.BatchNormalization(scale=False),
        )(x),
    ),
    "lstm": (STEPS, lambda x: layers.LSTM(4, return_sequences=True)(x)),
    "lstm both ways": (STEPS, lambda x: layers.Bidirectional(layers.LSTM(4))(x)),
    "lstm backwards": (STEPS, lambda x: layers.LSTM(4, go_backwards=True, return_state=True)(x)),
    "gru": (STEPS, lambda x: layers.GRU(4, return_sequences=True)(x)),
    "gru reset before": (STEPS, lambda x: layers.GRU(4, reset_after=False)(x)),
    "simple rnn": (STEPS, lambda x: layers.SimpleRNN(4)(x)),
    "conv lstm": ((3, 6, 5, 2), lambda x: layers.ConvLSTM2D(3, 3, padding="same")(x)),
    "time distributed": (STEPS, lambda x: stack(layers.TimeDistributed(layers.Dense(3)), layers.Flatten())(x)),
    "embedding": ((7,), lambda x: stack(layers.Embedding(9, 4), layers.GlobalAveragePooling1D(), layers.Dense(2))(x)),
    "embedding masked": ((7,), lambda x: stack(layers.Embedding(9, 4, mask_zero=True), layers.LSTM(3))(x)),
    "attention": ((6, 12), _attention),
    "additive attention": (STEPS, lambda x: layers.AdditiveAttention()([x, x])),
    "grouped attention": ((6, 12), lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x)),
    "einsum dense": (STEPS, lambda x: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")(x)),
    "prelu": (IMAGE, lambda x: layers.PReLU(shared_axes=[1, 2])(x)),
}


def build(name: str) -> Any:
    keras.utils.set_random_seed(0)
    shape, make = MODELS[name]
    x = keras.Input(shape, dtype="int32" if name.startswith("embedding") else "float32")
    return keras.Model(x, make(x))


def samples(name: str, count: int) -> np.ndarray:
    shape, _ = MODELS[name]
    rng = np.random.default_rng(count)
    if name.startswith("embedding"):
        return rng.integers(0, 9, (count, *shape)).astype(np.int32)
    return rng.normal(size=(count, *shape)).astype(np.float32)


def _finished(data: bytes, model: Any, name: str) -> Exported:
    import onnx

    given, *others = onnx.load_from_string(data).graph.input
    if others:
        raise ValueError(f"constants became inputs: {', '.join(o.name for o in others)}")
    runs = [samples(name, count) for count in (2, 3)]
    own = [model(x, training=False) for x in runs]
    arrays = [[keras.ops.convert_to_numpy(y) for y in (o if isinstance(o, (list, tuple)) else [o])] for o in own]
    return Exported(data, [{given.name: x} for x in runs], arrays)


def by_keras(name: str, **options: Any) -> Exported:
    model = build(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        model(samples(name, 2))  # which it must have been called with before
        model.export(file, format="onnx", verbose=False, **options)
        return _finished(file.read_bytes(), model, name)


def by_tf2onnx(name: str, opset: int, channels_first: bool) -> Exported:
    import tensorflow as tf
    import tf2onnx

    model = build(name)
    shape, _ = MODELS[name]
    spec = tf.TensorSpec((None, *shape), samples(name, 1).dtype, name="x")
    function = tf.function(lambda x: model(x, training=False), input_signature=[spec])
    first = ["x:0"] if channels_first and len(shape) == 3 else None
    proto, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=opset, inputs_as_nchw=first)
    out = _finished(proto.SerializeToString(), model, name)
    if first:
        turned = [{k: x.transpose(0, 3, 1, 2).copy() for k, x in feeds.items()} for feeds in out.feeds]
        return Exported(out.data, turned, out.own)
    return out


# What tf2onnx writes that is no ONNX, by model or by model and opset.
INVALID = {
    "gelu": "Erfc is an operator of TensorFlow",
    "attention 11": "Einsum is an operator from opset 12 on",
    "grouped attention 11": "Einsum is an operator from opset 12 on",
}


def cases() -> Iterator[Case]:
    backend = keras.backend.backend()
    opsets = (11, 13, 18) if backend == "tensorflow" else ()
    for name in MODELS:
        yield _case(name, f"keras {backend}", lambda n=name: by_keras(n))
        for opset in opsets:
            yield _case(name, f"tf2onnx {opset}", lambda n=name, o=opset: by_tf2onnx(n, o, False))
    for name in ("convolutions", "dilated", "transposed", "residual") if opsets else ():
        yield _case(name, "tf2onnx NCHW", lambda n=name: by_tf2onnx(n, 15, True))


def _case(name: str, exporter: str, make: Callable[[], Exported]) -> Case:
    by_tensorflow = exporter != "keras torch"
    invalid = INVALID.get(name) or INVALID.get(f"{name} {exporter.split()[-1]}", "") if by_tensorflow else ""
    return Case("keras", name, exporter, make, invalid=invalid)
