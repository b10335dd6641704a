"""PaddlePaddle layers by paddle.onnx.export, which folds constants, and by paddle2onnx.export, which does not.

The exporter writes to the process's own output and may end it, by a signal or by sys.exit, so it has one of its own."""

from __future__ import annotations

import io
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812  (Paddle's name)
import paddle2onnx
import polygraphy.config  # noqa: F401  (before the first export, which would let it install what it lacks with pip)
from paddle import nn, vision

from exporters.frame import Case, Exported

paddle.set_device("cpu")

Ways = tuple[str, ...]
FOLDED, PLAIN = "paddle.onnx", "paddle2onnx"  # the two ways
BOTH: Ways = ("paddle.onnx 13", "paddle2onnx 17")

STEPS, IMAGE = (2, 7, 5), (2, 6, 12, 10)


class Of(nn.Layer):
    """A function, with the layers that it uses as arguments in front."""

    def __init__(self, function: Callable, *layers: nn.Layer) -> None:
        super().__init__()
        self.function, self.parts = function, nn.LayerList(layers)

    def forward(self, x: Any, y: Any = None, z: Any = None) -> Any:  # the exporter takes no *args
        given = (x,) if y is None else (x, y) if z is None else (x, y, z)
        return self.function(*self.parts, *given)


@dataclass(frozen=True)
class Model:
    """A layer and what each run gives it: the shape of normal numbers, or a function that makes the array.

    free    axes that are free, by input; an axis that differs between runs must be
    """

    name: str
    make: Callable[[], nn.Layer]
    runs: list[tuple]
    ways: Ways = BOTH
    free: dict[int, tuple[int, ...]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


Make = Callable[[np.random.Generator], np.ndarray]


def ints(*shape: int, high: int = 7, low: int = 0, dtype: str = "int64") -> Make:
    return lambda rng: rng.integers(low, high, shape).astype(dtype)


def of(given: Any, dtype: str = "float32") -> Make:
    return lambda rng: np.array(given, dtype)


def uniform(*shape: int, low: float = 0, high: float = 1) -> Make:
    return lambda rng: rng.uniform(low, high, shape).astype(np.float32)


def batches(*shape: int) -> list[tuple]:
    """Two runs of one input, of two and of three samples."""
    return [((2, *shape),), ((3, *shape),)]


BATCH = {0: (0,)}  # the free axis of those


def cases() -> Iterator[Case]:
    for model in every_model():
        for way in model.ways:
            yield Case("paddle", model.name, way, lambda m=model, w=way: _isolated(m.name, w), **model.about)


def every_model() -> Iterator[Model]:
    for part in (vision_models, recurrent, attention, resizes, convolutions, pools, pointwise, norms, indexing, shapes):
        yield from part()
    for part in (reductions, detection, text_recognition, control_flow):
        yield from part()


_pool: ProcessPoolExecutor | None = None


def _isolated(name: str, way: str) -> Exported:
    """What the exporter makes in a process beside this one, which goes on to the next case unless it ends."""
    global _pool
    _pool = _pool or ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _silence)
    try:
        return _pool.submit(_export, name, way).result()
    except BrokenProcessPool as error:
        _pool = None
        raise RuntimeError("the exporter ends the process") from error


def _silence() -> None:
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _array(given: Any, rng: np.random.Generator) -> np.ndarray:
    return given(rng) if callable(given) else rng.normal(size=given).astype(np.float32)


def _layer(make: Callable[[], nn.Layer], rng: np.random.Generator) -> nn.Layer:
    """The layer as it is for inference; statistics, which would be 0 and 1, are random."""
    paddle.seed(0)
    layer = make()
    layer.eval()
    for name, buffer in layer.named_buffers():
        if name.endswith("_mean"):
            buffer.set_value(rng.normal(0, 0.2, buffer.shape).astype(np.float32))
        elif name.endswith("_variance"):
            buffer.set_value(rng.uniform(0.5, 2, buffer.shape).astype(np.float32))
    return layer


def _export(name: str, way: str) -> Exported:
    import onnx

    exporter, opset = way.split()
    model = next(m for m in every_model() if m.name == name)
    rng = np.random.default_rng(0)
    layer = _layer(model.make, rng)
    runs = [[_array(a, rng) for a in run] for run in model.runs]
    with paddle.no_grad():
        own = [_leaves(layer(*map(paddle.to_tensor, run))) for run in runs]
    spec = [
        paddle.static.InputSpec(
            [None if a in model.free.get(i, ()) else n for a, n in enumerate(x.shape)], str(x.dtype), f"x{i}"
        )
        for i, x in enumerate(runs[0])
    ]
    data = _file(layer, spec, exporter, int(opset))
    names = [i.name for i in onnx.load_from_string(data).graph.input]
    return Exported(data, [{n: run[int(n[1:])] for n in names} for run in runs], own)


def _file(layer: nn.Layer, spec: list[Any], exporter: str, opset: int) -> bytes:
    """Raises ValueError with what the exporter tells, where it fails."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()) as told:
        file = Path(folder) / "model.onnx"
        try:
            if exporter == FOLDED:
                paddle.onnx.export(layer, str(file.with_suffix("")), input_spec=spec, opset_version=opset)
            else:
                paddle.jit.save(layer, str(Path(folder) / "model"), input_spec=spec)
                stored = [str(Path(folder) / f"model.{end}") for end in ("json", "pdiparams")]
                paddle2onnx.export(*stored, str(file), opset_version=opset, optimize_tool="none")
        except SystemExit:
            pass
        if not file.exists():
            errors = [line for line in told.getvalue().splitlines() if "[ERROR]" in line]
            raise ValueError(errors[0].split("\t", 1)[1] if errors else "no file, and no error")
        return file.read_bytes()


def _leaves(value: Any) -> list[np.ndarray]:
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value.numpy()]


def vision_models() -> Iterator[Model]:
    made = vision.models
    for name, make, size in (
        ("LeNet", lambda: made.LeNet(), (1, 28, 28)),
        ("ResNet-18", lambda: made.resnet18(num_classes=10), (3, 64, 64)),
        ("MobileNet v1", lambda: made.mobilenet_v1(scale=0.25), (3, 64, 64)),
        ("MobileNet v2", lambda: made.mobilenet_v2(scale=0.25), (3, 64, 64)),
        ("MobileNet v3 small", lambda: made.mobilenet_v3_small(scale=0.5), (3, 64, 64)),
        ("MobileNet v3 large", lambda: made.mobilenet_v3_large(scale=0.35), (3, 64, 64)),
        ("SqueezeNet", lambda: made.squeezenet1_1(num_classes=10), (3, 64, 64)),
        ("ShuffleNet v2", lambda: made.shufflenet_v2_x0_25(num_classes=10), (3, 64, 64)),
        ("ShuffleNet v2 swish", lambda: made.shufflenet_v2_swish(num_classes=10), (3, 64, 64)),
        ("VGG-11 without its head", lambda: made.vgg11(num_classes=0, with_pool=False), (3, 32, 32)),
        ("GoogLeNet", lambda: made.googlenet(num_classes=10), (3, 208, 208)),
        ("DenseNet-121", lambda: made.densenet121(num_classes=10), (3, 64, 64)),
        ("Inception v3", lambda: made.inception_v3(num_classes=10), (3, 96, 96)),
    ):
        small = name in ("LeNet", "MobileNet v3 small", "ShuffleNet v2")
        yield Model(
            name,
            make,
            batches(*size),
            ("paddle.onnx 9", "paddle.onnx 13", "paddle2onnx 11", "paddle2onnx 17") if small else ("paddle.onnx 13",),
            BATCH,
        )


def recurrent() -> Iterator[Model]:
    for kind in (nn.LSTM, nn.GRU):
        name = kind.__name__
        ways = ("paddle.onnx 9", "paddle.onnx 13", "paddle2onnx 17")
        yield Model(name, lambda k=kind: k(5, 4), batches(7, 5), ways, BATCH)
        yield Model(
            f"{name} both ways, two layers",
            lambda k=kind: Of(lambda l, x: l(x)[0], k(5, 4, 2, direction="bidirect")),
            batches(7, 5),
            BOTH,
            BATCH,
        )
        yield Model(f"{name} time major", lambda k=kind: k(5, 4, time_major=True), [((7, 2, 5),)], BOTH)
    yield Model(
        "simple RNN",
        lambda: nn.SimpleRNN(5, 4),
        [((2, 7, 5),)],
        BOTH,
        about={"invalid": "the RNN itself is not written"},
    )
    yield Model(
        "LSTM with states",
        lambda: Of(lambda l, x, h, c: l(x, (h, c)), nn.LSTM(5, 4)),
        [((2, 7, 5), (1, 2, 4), (1, 2, 4))],
    )
    yield Model("GRU with a state", lambda: Of(lambda l, x, h: l(x, h), nn.GRU(5, 4)), [((2, 7, 5), (1, 2, 4))])
    yield Model(
        "LSTM of lengths",
        lambda: Of(lambda l, x, n: l(x, sequence_length=n), nn.LSTM(5, 4, direction="bidirect")),
        [((3, 7, 5), of([7, 3, 5], "int64"))],
        about={"different": "lengths are passed over"},
    )


def attention() -> Iterator[Model]:
    def encoder(**options: Any) -> nn.Layer:
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, **options), 2)

    yield Model("transformer encoder", encoder, batches(7, 8), ("paddle.onnx 11", *BOTH), BATCH)
    yield Model("transformer encoder of free length", encoder, [((2, 7, 8),), ((3, 5, 8),)], BOTH, {0: (0, 1)})
    yield Model(
        "transformer encoder, norm before, GELU",
        lambda: encoder(activation="gelu", normalize_before=True),
        batches(7, 8),
        BOTH,
        BATCH,
    )
    yield Model(
        "transformer encoder with a mask",
        lambda: Of(lambda l, x, m: l(x, m), encoder()),
        [((2, 7, 8), lambda rng: np.where(rng.random((2, 1, 7, 7)) < 0.3, -1e9, 0).astype(np.float32))],
    )
    yield Model(
        "transformer",
        lambda: Of(
            lambda t, a, b: t(a, b, None, paddle.tensor.triu(paddle.full([5, 5], -1e9), 1), None),
            nn.Transformer(8, 2, 1, 1, 16),
        ),
        [((2, 7, 8), (2, 5, 8))],
    )
    yield Model(
        "scaled dot product attention",
        lambda: Of(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        [((2, 5, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4))],
    )
    yield Model(
        "embedding",
        lambda: Of(lambda e, l, x: l(e(x).mean(1)), nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 3)),
        [(ints(2, 7, high=9),), (ints(3, 7, high=9),)],
        BOTH,
        BATCH,
    )


UNEVEN = "an adaptive pool whose windows differ is written as a pool"


def resizes() -> Iterator[Model]:
    for mode in ("nearest", "bilinear", "bicubic"):
        corners = (False, True) if mode in ("bilinear", "bicubic") else (False,)
        for align in corners:
            name = f"interpolate {mode}{', corners' if align else ''}"
            for by, options in (
                ("up", {"size": [19, 25]}),
                ("down", {"size": [7, 4]}),
            ):
                yield Model(
                    f"{name}, {by}",
                    lambda m=mode, a=align, o=options: Of(lambda x: F.interpolate(x, mode=m, align_corners=a, **o)),
                    batches(*IMAGE[1:]),
                    ("paddle.onnx 11", "paddle2onnx 17"),
                    BATCH,
                )
    yield Model(
        "interpolate bilinear, mode 1",
        lambda: Of(lambda x: F.interpolate(x, [19, 25], mode="bilinear", align_mode=1)),
        batches(*IMAGE[1:]),
        BOTH,
        BATCH,
    )
    yield Model(
        "interpolate to another's size",
        lambda: Of(lambda x, y: F.interpolate(x, paddle.shape(y)[2:], mode="bilinear") + y),
        [(IMAGE, (2, 6, 24, 20)), (IMAGE, (2, 6, 17, 31))],
        BOTH,
        {1: (2, 3)},
    )
    yield Model(
        "interpolate area",
        lambda: Of(lambda x: F.interpolate(x, [7, 4], mode="area")),
        batches(*IMAGE[1:]),
        BOTH,
        BATCH,
        about={"different": UNEVEN},
    )
    yield Model(
        "interpolate 1d",
        lambda: Of(lambda x: F.interpolate(x, [11], mode="linear", data_format="NCW")),
        [(STEPS,)],
    )
    yield Model(
        "interpolate 3d",
        lambda: Of(lambda x: F.interpolate(x, [7, 8, 9], mode="trilinear", data_format="NCDHW")),
        [((2, 3, 4, 5, 6),)],
    )
    yield Model("upsample", lambda: nn.Upsample(scale_factor=2, mode="nearest"), batches(*IMAGE[1:]), BOTH, BATCH)
    for mode in ("bilinear", "nearest"):
        for padding in ("zeros", "border", "reflection"):
            for align in (True, False):
                yield Model(
                    f"grid sample {mode}, {padding}{', corners' if align else ''}",
                    lambda m=mode, p=padding, a=align: Of(lambda x, g: F.grid_sample(x, g, m, p, a)),
                    [(IMAGE, uniform(2, 5, 7, 2, low=-1.3, high=1.3))],
                    ("paddle.onnx 16", "paddle2onnx 17"),
                )
    yield Model(
        "grid sample nearest",
        lambda: Of(lambda x, g: F.grid_sample(x, g, "nearest")),
        [(IMAGE, uniform(2, 5, 7, 2, low=-1.3, high=1.3))],
        ("paddle.onnx 20",),
    )
    yield Model(
        "grid sample bilinear",
        lambda: Of(lambda x, g: F.grid_sample(x, g)),
        [(IMAGE, uniform(2, 5, 7, 2, low=-1.3, high=1.3))],
        ("paddle.onnx 20",),
        about={"invalid": "bilinear is called linear from opset 20 on"},
    )


def convolutions() -> Iterator[Model]:
    images = batches(*IMAGE[1:])
    for name, make in (
        ("strided, dilated, grouped", lambda: nn.Sequential(nn.Conv2D(6, 8, 3, 2, 1), nn.Conv2D(8, 8, 3, 1, 2, 2, 4))),
        ("SAME", lambda: nn.Sequential(nn.Conv2D(6, 8, 3, 2, "SAME"), nn.Conv2D(8, 8, 4, 1, "SAME"))),
        ("VALID", lambda: nn.Conv2D(6, 8, 3, 2, "VALID")),
        ("uneven padding", lambda: nn.Conv2D(6, 8, 3, padding=[1, 2, 0, 1])),
        ("reflected", lambda: nn.Conv2D(6, 8, 3, padding=1, padding_mode="reflect")),
        ("circular", lambda: nn.Conv2D(6, 8, 3, padding=1, padding_mode="circular")),
        ("transposed", lambda: nn.Sequential(nn.Conv2DTranspose(6, 8, 3, 2, 1, 1), nn.Conv2DTranspose(8, 4, 2, 2))),
        ("transposed, grouped", lambda: nn.Conv2DTranspose(6, 8, 3, 2, groups=2, dilation=2)),
        ("transposed, SAME", lambda: nn.Conv2DTranspose(6, 8, 3, 2, "SAME")),
        ("weight norm", lambda: nn.utils.weight_norm(nn.Conv2D(6, 8, 3))),
    ):
        yield Model(f"convolution, {name}", make, images, BOTH, BATCH)
    yield Model(
        "convolutions 1d",
        lambda: nn.Sequential(nn.Conv1D(5, 6, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv1DTranspose(6, 4, 3, 2)),
        batches(5, 7),
        BOTH,
        BATCH,
    )
    yield Model(
        "convolutions 3d",
        lambda: nn.Sequential(nn.Conv3D(2, 4, 3, padding=1), nn.BatchNorm3D(4), nn.Conv3DTranspose(4, 2, 2, 2)),
        batches(2, 4, 5, 6),
        BOTH,
        BATCH,
    )
    yield Model(
        "deformable convolution",
        lambda: Of(lambda l, x, o, m: l(x, o, m), vision.ops.DeformConv2D(6, 4, 3, padding=1)),
        [(IMAGE, (2, 18, 12, 10), (2, 9, 12, 10))],
        ("paddle.onnx 19", "paddle2onnx 19"),
    )
    yield Model(
        "rearranged",
        lambda: Of(
            lambda x: (
                F.pixel_shuffle(x[:, :4], 2),
                F.unfold(x, [3, 2], [2, 1], [1, 0]),
            )
        ),
        [(IMAGE,)],
    )
    yield Model("temporal shift", lambda: Of(lambda x: F.temporal_shift(x, 2, 0.25)), [((4, 8, 3, 3),)])


def pools() -> Iterator[Model]:
    for name, make in (
        ("max", lambda x: F.max_pool2d(x, 3, 2, 1)),
        ("max, ceil", lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)),
        ("max, SAME", lambda x: F.max_pool2d(x, 3, 2, "SAME")),
        ("average", lambda x: F.avg_pool2d(x, 3, 2, 1)),
        ("average, padding counts", lambda x: F.avg_pool2d(x, 3, 2, 1, exclusive=False)),
        ("average, ceil", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
        ("average, ceil, padding counts", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, exclusive=False)),
        ("average, divisor", lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5)),
        ("average, SAME", lambda x: F.avg_pool2d(x, 3, 2, "SAME")),
        ("adaptive average, 1", lambda x: F.adaptive_avg_pool2d(x, 1)),
        ("adaptive average, divides", lambda x: F.adaptive_avg_pool2d(x, [3, 5])),
        ("adaptive average, one side", lambda x: F.adaptive_avg_pool2d(x, [None, 1])),
        ("adaptive max, divides", lambda x: F.adaptive_max_pool2d(x, [3, 5])),
        ("1d", lambda x: (F.max_pool1d(x[0], 3, 2), F.avg_pool1d(x[0], 3, 2, 1), F.adaptive_avg_pool1d(x[1], 2))),
        (
            "3d",
            lambda x: (F.max_pool3d(x[None], 2, 2), F.avg_pool3d(x[None], 2, 1, 1), F.adaptive_avg_pool3d(x[None], 1)),
        ),
    ):
        fixed = name in ("1d", "3d")
        yield Model(
            f"pool: {name}",
            lambda m=make: Of(m),
            [(IMAGE,)] if fixed else batches(*IMAGE[1:]),
            BOTH,
            {} if fixed else BATCH,
        )
    for kind in ("avg", "max"):
        yield Model(
            f"pool: adaptive {kind}, uneven",
            lambda k=kind: Of(lambda x: getattr(F, f"adaptive_{k}_pool2d")(x, [5, 7])),
            batches(*IMAGE[1:]),
            BOTH,
            BATCH,
            about={"different": UNEVEN},
        )
    yield Model(
        "pool: max with indices",
        lambda: Of(lambda x: F.max_pool2d(x, 2, 2, return_mask=True)),
        [(IMAGE,)],
        about={"invalid": "the indices are not written"},
    )


GARBAGE = "a parameter of 64 bits is not read: the file has what lay in the exporter's memory"


def pointwise() -> Iterator[Model]:
    one = [((2, 6, 5),)]
    for name, function in (
        ("hard", lambda x: [F.hardswish(x * 3), F.hardsigmoid(x * 3), F.hardtanh(x), F.relu6(x * 5), F.hardshrink(x)]),
        ("exponential", lambda x: [F.elu(x, 0.7), F.selu(x), F.mish(x)]),
        ("sigmoid", lambda x: [F.sigmoid(x), F.swish(x), F.silu(x), F.log_sigmoid(x), F.glu(x, 1)]),
        ("gelu", lambda x: [F.gelu(x), paddle.erf(x)]),
        ("shrink", lambda x: [F.softshrink(x), F.tanhshrink(x), F.softsign(x), F.thresholded_relu(x, 0.5)]),
        ("softmax", lambda x: [F.relu(x), F.softmax(x, 1), F.log_softmax(x, -1)]),
    ):
        ways = ("paddle.onnx 9", *BOTH) if name in ("hard", "softmax") else BOTH
        yield Model(f"activations: {name}", lambda f=function: Of(f), one, ways)
    yield Model(
        "activations: gelu by tanh",
        lambda: Of(lambda x: F.gelu(x, approximate=True)),
        one,
        about={"different": "the form by erf is written"},
    )
    yield Model("activations: leaky", lambda: nn.LeakyReLU(0.2), one, about={"different": GARBAGE})
    yield Model("PReLU", lambda: nn.PReLU(6, 0.2), batches(*IMAGE[1:]), BOTH, BATCH)
    yield Model(
        "dropout that scales in inference",
        lambda: nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.4, mode="downscale_in_infer")),
        batches(5),
        BOTH,
        BATCH,
    )
    yield Model(
        "arithmetic",
        lambda: Of(
            lambda x, y: [
                x % y,
                x // y,
                paddle.remainder(x, y),
                paddle.pow(x.abs(), 1.5),
                x.abs().rsqrt(),
                paddle.round(x * 2),
                paddle.floor(x),
                paddle.ceil(x),
                paddle.sign(x),
                x.square(),
                paddle.atan2(x, y),
                paddle.log1p(x.abs()),
                paddle.reciprocal(y),
                paddle.clip(x, -0.5, 0.7),
                paddle.maximum(x, y),
                paddle.log2(x.abs()),
            ]
        ),
        [((3, 4), (3, 4))],
    )
    yield Model(
        "trigonometry",
        lambda: Of(
            lambda x: [
                x.sin(),
                x.cos(),
                x.tan(),
                x.asin(),
                x.acos(),
                x.atan(),
                x.sinh(),
                x.cosh(),
                x.tanh(),
            ]
        ),
        [(uniform(3, 4, low=-0.9, high=0.9),)],
    )
    yield Model(
        "integers",
        lambda: Of(
            lambda x, y: [
                x % y,
                x // y,
                x + y,
                x * y,
                paddle.abs(x),
                paddle.clip(x, -2, 3),
                x.astype("float32") / 3,
                paddle.maximum(x, y),
                x**2,
            ]
        ),
        [(ints(3, 4, low=-9, high=9), of([[-3, 2, 4, -5]] * 3, "int64"))],
    )
    yield Model(
        "integers of 32 bits",
        lambda: Of(lambda x, y: [x % y, x // y, paddle.floor_mod(x, y), x / y]),
        [(ints(3, 4, low=-9, high=9, dtype="int32"), of([[-3, 2, 4, -5]] * 3, "int32"))],
    )
    yield Model(
        "bits",
        lambda: Of(lambda x, y: [x & y, x | y, x ^ y, ~x]),
        [(ints(3, 4, low=-9, high=9), ints(3, 4, low=-9, high=9))],
        ("paddle.onnx 18", "paddle2onnx 18"),
    )
    yield Model(
        "comparisons",
        lambda: Of(
            lambda x, y: [
                x > y,
                x <= y,
                x == y,
                x != y,
                (x > 0) & (y > 0),
                (x > 0) | (y > 0),
                ~(x > 0),
                (x > 0) ^ (y > 0),
                paddle.isnan(x),
                paddle.isfinite(x),
                paddle.isinf(x),
                paddle.where(x > y, x, y * 2),
            ]
        ),
        [(of([1.0, float("nan"), float("inf"), -2, 0]), of([1.0, 2, float("inf"), -3, 5]))],
    )


def norms() -> Iterator[Model]:
    image = batches(*IMAGE[1:])
    for name, make in (
        ("batch", lambda: nn.BatchNorm2D(6)),
        ("layer", lambda: nn.LayerNorm(10)),
        ("group", lambda: nn.GroupNorm(3, 6)),
        ("instance", lambda: nn.InstanceNorm2D(6)),
        ("local response", lambda: nn.LocalResponseNorm(5)),
        ("of vectors", lambda: Of(lambda x: F.normalize(x, axis=1))),
        (
            "without affine",
            lambda: nn.Sequential(
                nn.GroupNorm(2, 6, weight_attr=False, bias_attr=False),
                nn.LayerNorm(10, weight_attr=False, bias_attr=False),
            ),
        ),
    ):
        yield Model(f"norm: {name}", make, image, ("paddle.onnx 11", "paddle2onnx 17"), BATCH)
    for opset, invalid in ((13, ""), (17, "scale and bias have one axis")):
        yield Model(
            f"norm: layer over two axes, {opset}",
            lambda: nn.LayerNorm([12, 10]),
            image,
            (f"paddle.onnx {opset}",),
            BATCH,
            {"invalid": invalid},
        )
    yield Model("norm: batch 1d", lambda: nn.BatchNorm1D(5), batches(5), BOTH, BATCH)
    yield Model("norm: group, 18", lambda: nn.GroupNorm(3, 6), image, ("paddle.onnx 18", "paddle.onnx 21"), BATCH)
    yield Model("cosine similarity", lambda: Of(lambda x, y: F.cosine_similarity(x, y)), [((3, 4), (3, 4))])


def indexing() -> Iterator[Model]:
    yield Model(
        "arg",
        lambda: Of(
            lambda x: [
                x.argmax(1),
                x.argmin(-1, keepdim=True),
                x.argmax(),
                *paddle.topk(x, 3, 1),
                *paddle.topk(x, 2, largest=False),
                x.argsort(1, descending=True),
                x.sort(-1),
                x.argmax(dtype="int32"),
            ]
        ),
        [(STEPS,)],
        ("paddle.onnx 11", *BOTH),
    )
    yield Model(
        "gather",
        lambda: Of(
            lambda x, i, j: [
                paddle.gather(x, i),
                paddle.gather(x, i, 1),
                paddle.gather_nd(x, j),
                paddle.index_select(x, i, 2),
                paddle.index_sample(x[:, :, 0], paddle.stack([i, i, i])),
            ]
        ),
        [((3, 4, 5), ints(4, high=3), ints(2, 3, 2, high=3))],
    )
    yield Model(
        "along an axis",
        lambda: Of(lambda x, i: [paddle.take_along_axis(x, i, 1), paddle.put_along_axis(x, i, 1.5, 1)]),
        [((3, 4, 5), lambda rng: rng.permuted(np.tile(np.arange(4)[:, None], (3, 1, 5)), axis=1)[:, :2])],
    )
    yield Model(
        "put along an axis, add",
        lambda: Of(lambda x, i, v: paddle.put_along_axis(x, i, v, 1, reduce="add")),
        [((3, 4, 5), ints(3, 2, 5, high=4), (3, 2, 5))],
        ("paddle.onnx 16", "paddle2onnx 18"),
    )
    yield Model(
        "scatter",
        lambda: Of(lambda x, i, u: [paddle.scatter(x, i, u), paddle.scatter_nd_add(x, i[:, None], u)]),
        [((5, 4), of([3, 0, 4], "int64"), (3, 4))],
        ("paddle.onnx 16", "paddle2onnx 18"),
    )
    yield Model(
        "scatter, add to zeros",
        lambda: Of(lambda x, i, u: paddle.scatter(x, i, u, overwrite=False)),
        [((5, 4), of([3, 0, 3], "int64"), (3, 4))],
        ("paddle.onnx 16", "paddle2onnx 18"),
    )
    yield Model(
        "scatter nd of the same places twice",
        lambda: Of(lambda i, u: paddle.scatter_nd(i, u, [5, 4])),
        [(of([[3], [0], [3]], "int64"), (3, 4))],
        ("paddle.onnx 16", "paddle2onnx 18"),
    )
    yield Model(
        "nonzero", lambda: Of(lambda x: [paddle.nonzero(x > 0), paddle.masked_select(x, x > 0)]), [((3, 4),), ((3, 4),)]
    )
    yield Model("one hot", lambda: Of(lambda x: F.one_hot(x, 7)), [(ints(2, 3),), (ints(4, 3),)], BOTH, BATCH)
    yield Model(
        "set values",
        lambda: Of(_set_values),
        [((3, 6, 5),)],
        about={"invalid": "Unsqueeze of an axis that is not there"},
    )
    yield Model("index by a mask", lambda: Of(lambda x, y: x[y > 0]), [((3, 4), (3, 4))])
    yield Model("index by slices", lambda: Of(lambda x: [x[..., -1], x[:, None, ::2]]), [((3, 4, 5),)])
    yield Model("index by a list", lambda: Of(lambda x: x[:, [0, 2]]), [((3, 4, 5),)])
    yield Model(
        "unique",
        lambda: Of(lambda x: paddle.unique(x, return_index=True, return_inverse=True, return_counts=True)),
        [(ints(12),)],
        ("paddle.onnx 13",),
    )


def _set_values(x: Any) -> Any:
    y = x.clone()
    y[:, 1] = 0.5
    y[0, 2:4] = x[0, 4:6]
    y[:, :, -1] = x.sum()
    return y


def shapes() -> Iterator[Model]:
    image = [(IMAGE,)]
    for mode in ("reflect", "replicate", "circular"):
        yield Model(f"pad {mode}", lambda m=mode: Of(lambda x: F.pad(x, [1, 2, 3, 0], m, 1.5)), image)
    yield Model(
        "pad constant",
        lambda: Of(lambda x: F.pad(x, [1, 2, 3, 0], value=1.5)),
        image,
        about={"different": GARBAGE},
    )
    yield Model("crop by a negative pad", lambda: Of(lambda x: F.pad(x, [-1, 0, -3, -2])), image)
    yield Model(
        "joined and split",
        lambda: Of(
            lambda x: [
                *paddle.split(x, [2, -1, 1], 1),
                *paddle.chunk(x, 2, -1),
                paddle.stack([x, x * 2], 1),
                *paddle.unbind(x, 0),
                paddle.concat([x, x[:, :2]], 1),
                paddle.flip(x, [1, 2]),
                paddle.roll(x, [1, -2], [1, 2]),
            ]
        ),
        image,
    )
    yield Model(
        "reshaped",
        lambda: Of(
            lambda x: [
                x.flatten(1),
                x.reshape([0, -1, 5]),
                x.transpose([0, 2, 3, 1]),
                x.unsqueeze([0, 3]).squeeze([0]),
                x.tile([1, 2, 1, 1]),
                x[:, :1].expand([2, 4, 12, 10]),
                x.moveaxis(1, -1),
                x[0, 0].t(),
                paddle.repeat_interleave(x, 2, 1),
            ]
        ),
        image,
    )
    yield Model(
        "shapes that are free",
        lambda: Of(_of_free_shape),
        [(IMAGE,), ((3, 6, 4, 7),)],
        BOTH,
        {0: (0, 2, 3)},
    )
    yield Model(
        "triangles",
        lambda: Of(
            lambda x: [
                x.tril(-1),
                x.triu(1),
                paddle.eye(3),
                paddle.linspace(0, 1, 7),
            ]
        ),
        [((4, 4),)],
    )
    yield Model("meshgrid", lambda: Of(lambda x, y: paddle.meshgrid(x, y)), [((3,), (4,))])
    yield Model(
        "strided",
        lambda: Of(lambda x: [paddle.strided_slice(x, [2, 3], [-1, 0], [0, 9], [-2, 3]), x[:, ::2, 1:-1, ::-1]]),
        image,
    )
    yield Model(
        "cast",
        lambda: Of(lambda x: [x.astype(t) for t in ("int32", "int64", "float64", "float16", "bool")]),
        [((3, 4),)],
    )


def _of_free_shape(x: Any) -> Any:
    n, c, h, w = paddle.shape(x)
    return [
        x.flatten(2).transpose([0, 2, 1]),
        x.reshape([n, c, -1]),
        paddle.arange(h),
        paddle.zeros([n, 3]) + 1,
        paddle.full_like(x, 2.5),
        paddle.ones([w], "int32"),
        x[:, :, : h // 2],
    ]


def reductions() -> Iterator[Model]:
    yield Model(
        "reductions",
        lambda: Of(
            lambda x: [
                x.sum(1),
                x.mean([2, 3], keepdim=True),
                x.max(-1),
                x.prod(1),
                paddle.logsumexp(x, 1),
                x.std(1),
                paddle.norm(x, 2, 1),
                paddle.norm(x, 1, 1),
                (x > 0).any(1),
            ]
        ),
        [(IMAGE,)],
        ("paddle.onnx 11", "paddle.onnx 13", "paddle2onnx 18"),
    )
    yield Model(
        "infinite norm",
        lambda: Of(lambda x: paddle.norm(x, float("inf"), 1)),
        [((3, 4),)],
        about={"different": "a power of infinity is written"},
    )
    one = {"declared": "it has an axis of one more"}
    yield Model("reductions of all", lambda: Of(lambda x: [x.min(), x.sum(), (x > 0).all()]), [((3, 4),)], about=one)
    yield Model("products of rows", lambda: Of(lambda a, b: paddle.dot(a, b)), [((3, 4), (3, 4))], about=one)
    yield Model("distance", lambda: Of(lambda x, y: paddle.dist(x, y, 2)), [((3, 4), (3, 4))], about=one)
    yield Model(
        "cumulative", lambda: Of(lambda x: [x.cumsum(1), x.cumsum(), paddle.cumsum(x, -1, "float64")]), [((2, 7, 5),)]
    )
    yield Model(
        "products",
        lambda: Of(
            lambda a, b: [
                paddle.matmul(a, b, transpose_y=True),
                paddle.bmm(a, b.transpose([0, 2, 1])),
                paddle.einsum("bij,bkj->bik", a, b),
                paddle.mv(a[0], b[0, 0]),
            ]
        ),
        [((2, 3, 5), (2, 4, 5))],
    )


def _boxes(*shape: int) -> Make:
    def make(rng: np.random.Generator) -> np.ndarray:
        corner = rng.uniform(0, 40, (*shape, 2))
        return np.concatenate([corner, corner + rng.uniform(3, 20, (*shape, 2))], -1).astype(np.float32)

    return make


def _regions(rng: np.random.Generator) -> np.ndarray:
    return (rng.uniform(0, 8, (3, 4)) + [0, 0, 9, 11]).astype(np.float32)


def _multiclass_nms(boxes: Any, scores: Any, **options: Any) -> Any:
    """As PaddleDetection calls it; there is no name for it in paddle."""
    from paddle import _C_ops

    given = {
        "score_threshold": 0.3,
        "nms_top_k": 20,
        "keep_top_k": 10,
        "nms_threshold": 0.4,
        "normalized": True,
        "nms_eta": 1.0,
        "background_label": -1,
        **options,
    }
    out, _, counts = _C_ops.multiclass_nms3(boxes, scores, None, *given.values())
    return out, counts


def detection() -> Iterator[Model]:
    for name, options in (
        ("multiclass NMS", {}),
        ("multiclass NMS, pixels", {"normalized": False}),
        ("multiclass NMS, all kept", {"keep_top_k": -1}),
    ):
        yield Model(
            name,
            lambda o=options: Of(lambda b, s: _multiclass_nms(b, s, **o)),
            [(_boxes(1, 20), uniform(1, 3, 20))],
            ("paddle.onnx 11", *BOTH),
        )
    yield Model(
        "multiclass NMS but for the background",
        lambda: Of(lambda b, s: _multiclass_nms(b, s, background_label=0)),
        [(_boxes(1, 20), uniform(1, 3, 20))],
        about={"different": "the first box that is found comes again for each"},
    )
    yield Model(
        "YOLO boxes",
        lambda: Of(lambda x, s: vision.ops.yolo_box(x, s, [10, 13, 16, 30], 3, 0.01, 32)),
        [((2, 16, 4, 5), of([[128, 160], [120, 200]], "int32"))],
    )
    for name, aligned, images, opset, different in (
        ("ROI align", True, 1, 16, ""),
        ("ROI align, not aligned", False, 1, 11, ""),
        ("ROI align, not aligned, 16", False, 1, 16, "it is aligned"),
        ("ROI align of two images", True, 2, 16, "all regions are the first image's"),
    ):
        yield Model(
            name,
            lambda a=aligned: Of(lambda x, b, n: vision.ops.roi_align(x, b, n, (3, 4), 0.5, 2, a)),
            [((images, 6, 12, 10), _regions, of([3] if images == 1 else [1, 2], "int32"))],
            (f"paddle.onnx {opset}", f"paddle2onnx {opset}"),
            about={"different": different},
        )


class SqueezeExcite(nn.Layer):
    """PP-LCNet's and PP-OCR's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 4, 2)
        self.down, self.up = nn.Conv2D(channels, hidden, 1), nn.Conv2D(hidden, channels, 1)

    def forward(self, x: Any) -> Any:
        return x * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))), slope=0.2, offset=0.5)


def separable(into: int, out: int, stride: Any = 1) -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(into, into, 3, stride, 1, groups=into, bias_attr=False),
        nn.BatchNorm2D(into),
        nn.Hardswish(),
        SqueezeExcite(into),
        nn.Conv2D(into, out, 1, bias_attr=False),
        nn.BatchNorm2D(out),
        nn.Hardswish(),
    )


class Recogniser(nn.Layer):
    """A CRNN: the picture's columns are steps."""

    def __init__(self, classes: int = 11) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8), nn.Hardswish())
        self.body = nn.Sequential(separable(8, 16, [2, 1]), separable(16, 16, [2, 1]), nn.MaxPool2D([2, 1]))
        self.steps = nn.LSTM(32, 6, 2, direction="bidirect")
        self.head = nn.Linear(12, classes)

    def forward(self, x: Any) -> Any:
        x = self.body(self.stem(x))
        n, c, h, w = x.shape
        x = x.reshape([n, c * h, 1, -1]) if h > 1 else x
        return F.softmax(self.head(self.steps(x.squeeze(2).transpose([0, 2, 1]))[0]), -1)


class Detector(nn.Layer):
    """A feature pyramid and DB's head, the binary map by a step that is differentiable."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.LayerList([separable(3, 8, 2), separable(8, 12, 2), separable(12, 16, 2)])
        self.inner = nn.LayerList([nn.Conv2D(c, 12, 1, bias_attr=False) for c in (8, 12, 16)])
        self.outer = nn.LayerList([nn.Conv2D(12, 4, 3, padding=1, bias_attr=False) for _ in range(3)])
        self.head = nn.Sequential(
            nn.Conv2D(12, 6, 3, padding=1, bias_attr=False),
            nn.BatchNorm2D(6),
            nn.ReLU(),
            nn.Conv2DTranspose(6, 6, 2, 2),
            nn.BatchNorm2D(6),
            nn.ReLU(),
            nn.Conv2DTranspose(6, 1, 2, 2),
            nn.Sigmoid(),
        )

    def forward(self, x: Any) -> Any:
        seen = []
        for level in self.levels:
            x = level(x)
            seen.append(x)
        c, b, a = [inner(s) for inner, s in zip(self.inner, seen)]
        b = b + self.enlarged(a, b)
        c = c + self.enlarged(b, c)
        first, *others = [outer(s) for outer, s in zip(self.outer, (c, b, a))]
        joined = paddle.concat([first, *[self.enlarged(o, first) for o in others]], 1)
        shrunk = self.head(joined)
        return shrunk, paddle.reciprocal(1 + paddle.exp(-50 * (shrunk - 0.5)))

    @staticmethod
    def enlarged(x: Any, to: Any) -> Any:
        return F.interpolate(x, paddle.shape(to)[2:], mode="nearest")


class Mixing(nn.Layer):
    """A block of SVTR: attention among all places of the picture."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2D(3, width, 4, 4)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norms = nn.LayerList([nn.LayerNorm(width, epsilon=1e-6) for _ in range(2)])
        self.dense = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.heads, self.width = heads, width

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose([0, 2, 1])
        y = self.norms[0](x)
        q, k, v = self.qkv(y).reshape([0, -1, 3, self.heads, self.width // self.heads]).transpose([2, 0, 3, 1, 4])
        weights = F.softmax(q * (self.width // self.heads) ** -0.5 @ k.transpose([0, 1, 3, 2]), -1)
        x = x + self.out((weights @ v).transpose([0, 2, 1, 3]).reshape([0, -1, self.width]))
        return x + self.dense(self.norms[1](x))


def text_recognition() -> Iterator[Model]:
    yield Model(
        "text recogniser", Recogniser, [((2, 3, 32, 48),), ((1, 3, 32, 80),)], ("paddle.onnx 11", *BOTH), {0: (0, 3)}
    )
    yield Model(
        "text detector", Detector, [((1, 3, 64, 96),), ((2, 3, 32, 64),)], ("paddle.onnx 11", *BOTH), {0: (0, 2, 3)}
    )
    yield Model("text recogniser by attention", Mixing, batches(3, 16, 24), BOTH, BATCH)


class While(nn.Layer):
    def forward(self, i: Any, x: Any) -> Any:
        return paddle.static.nn.while_loop(lambda i, x: i < 5, lambda i, x: [i + 1, x * 1.5 + 1], [i, x])


class Cond(nn.Layer):
    def forward(self, x: Any, y: Any) -> Any:
        return paddle.static.nn.cond(x.sum() > 0, lambda: x.sin() + y, lambda: x * y - 1)


def control_flow() -> Iterator[Model]:
    yield Model("while", While, [(of([0], "int64"), (3,)), (of([3], "int64"), (3,))])
    yield Model("cond", Cond, [(uniform(3, 4), (3, 4)), (uniform(3, 4, low=-1, high=0), (3, 4))])
