"""PyTorch modules by torch.onnx.export: both exporters, opsets 11 to 26, shapes that are fixed and free."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's name)
from torch import nn

from exporters.frame import Case, Exported

Ways = tuple[str, ...]
DYNAMO, SCRIPT = "dynamo", "script"  # the two exporters
BOTH: Ways = ("dynamo 18", "script 17")


def export(
    module: nn.Module, runs: list[tuple], way: str, dynamic: Any = None, names: list[str] | None = None
) -> Exported:
    """module by one exporter and opset ("dynamo 18"), traced with the first of the runs."""
    exporter, opset = way.split()
    module.eval()
    with torch.no_grad():
        own = [_leaves(module(*(_copy(a) for a in args))) for args in runs]
        if exporter == DYNAMO:
            program = torch.onnx.export(
                module, runs[0], dynamo=True, opset_version=int(opset), dynamic_shapes=dynamic, verbose=False
            )
            data = program.model_proto.SerializeToString()
        else:
            file = io.BytesIO()
            named = names or [f"x{i}" for i in range(len(_leaves(runs[0])))]
            torch.onnx.export(
                module, runs[0], file, dynamo=False, opset_version=int(opset), input_names=named, dynamic_axes=dynamic
            )
            data = file.getvalue()
    return Exported(data, [feeds(data, args) for args in runs], own)


def feeds(data: bytes, args: tuple) -> dict[str, np.ndarray]:
    """The tensors of args by the names of the file's inputs."""
    import onnx

    proto = onnx.load_from_string(data)
    leaves = _leaves(args)
    names = [i.name for i in proto.graph.input]
    if len(names) != len(leaves):  # an input that nothing uses may be left out by name
        leaves = [leaves[int(n[1:])] for n in names]
    return dict(zip(names, leaves))


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _leaves(value: Any) -> list[np.ndarray]:
    if isinstance(value, torch.Tensor):
        return [torch.view_as_real(value).numpy() if value.is_complex() else value.numpy()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in _leaves(v)]
    return [] if value is None else [np.asarray(value)]


class Of(nn.Module):
    """A function, with the modules that it uses as arguments in front."""

    def __init__(self, function: Callable, *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, *args: Any) -> Any:
        return self.function(*self.parts, *args)


@dataclass(frozen=True)
class Model:
    """A module and the shapes of what it gets: (2, 3) normal numbers, or a function that makes the tensor.

    free    axes that are free, by input; runs then has a second set of shapes
    """

    name: str
    make: Callable[[], nn.Module]
    runs: list[tuple]
    ways: Ways = BOTH
    free: dict[int, dict[int, str]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def ints(*shape: int, high: int = 7, low: int = 0) -> Callable[[], torch.Tensor]:
    return lambda: torch.randint(low, high, shape)


def values(*given: Any, dtype: torch.dtype | None = None) -> Callable[[], torch.Tensor]:
    return lambda: torch.tensor(given[0] if len(given) == 1 else given, dtype=dtype)


def of(*shape: int, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(shape).to(dtype)


def boolean(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.rand(shape) > 0.4


def _tensors(run: tuple) -> tuple:
    return tuple(a() if callable(a) else torch.randn(a) if isinstance(a, tuple) else a for a in run)


def cases() -> Iterator[Case]:
    for model in every_model():
        for way in model.ways:
            yield Case("torch", model.name, way, lambda m=model, w=way: _export(m, w), **model.about)


def _export(model: Model, way: str) -> Exported:
    torch.manual_seed(0)
    module = model.make()
    runs = [_tensors(run) for run in model.runs]
    dynamic: Any = None
    if model.free and way.startswith(SCRIPT):
        dynamic = {
            f"x{i}": {a: f"x{i}_{a}" if n == "auto" else n for a, n in axes.items()} for i, axes in model.free.items()
        }
    elif model.free:
        for recurrent in (torch.ops.aten.lstm, torch.ops.aten.gru):  # findings/torch-onnx-export-second-lstm.sh
            recurrent.input._dispatch_cache.clear()
        dynamic = tuple(
            {a: torch.export.Dim.AUTO if n == "auto" else torch.export.Dim(n) for a, n in model.free.get(i, {}).items()}
            for i in range(len(runs[0]))
        )
        if isinstance(module, Of):
            dynamic = (dynamic,)
        elif isinstance(module, nn.RNNBase):  # of a tuple the exporter would fix the steps
            dynamic = {"input": dynamic[0]}
    return export(module, runs, way, dynamic)


# --- the models -------------------------------------------------------------------------------------------------------
EVERY_OPSET: Ways = (
    *(f"script {o}" for o in range(11, 21)),
    *(f"dynamo {o}" for o in range(18, 29)),
)
NEW: Ways = ("dynamo 18", "dynamo 23", "script 17")
ONLY_DYNAMO: Ways = ("dynamo 18",)
IMAGE = (2, 3, 12, 10)


def every_model() -> Iterator[Model]:
    yield from networks()
    yield from convolutions()
    yield from pools_and_pads()
    yield from norms()
    yield from pointwise()
    yield from recurrent()
    yield from attention()
    yield from indexing()
    yield from resampling()
    yield from signals()
    yield from control_flow()
    yield from shapes()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 5), nn.Softmax(-1))


class Residual(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(inplace=True),
            nn.Conv2d(outer, outer, 3, padding=1, bias=False),
            nn.BatchNorm2d(outer),
        )
        self.short = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.short(x))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(16, 8, 2, 2)
        self.deep, self.out = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = F.silu(self.down(x))
        low = F.silu(self.deep(F.max_pool2d(high, 2)))
        return self.out(torch.cat([high, self.up(low)], 1))


class Detection(nn.Module):
    """A head of anchors: boxes decoded, scores, the best ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2 * 7, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.conv(x)
        n, _, h, w = y.shape
        y = y.view(n, 2, 7, h, w).permute(0, 1, 3, 4, 2).reshape(n, -1, 7)
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack([xs, ys], -1).reshape(1, -1, 2).repeat(1, 2, 1).float()
        centre, size, score = (y[..., :2].sigmoid() + grid) * 2, y[..., 2:4].exp(), y[..., 4:].sigmoid()
        best, kind = score.max(-1)
        top, index = best.topk(5, dim=1)
        boxes = torch.cat([centre - size / 2, centre + size / 2], -1).clamp(0, 20)
        return top, kind.gather(1, index), boxes.gather(1, index[..., None].expand(-1, -1, 4))


def networks() -> Iterator[Model]:
    yield Model("mlp", mlp, [((2, 6),), ((5, 6),)], EVERY_OPSET, {0: {0: "batch"}})
    yield Model(
        "resnet block",
        lambda: nn.Sequential(
            Residual(3, 8, 2), Residual(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        ),
        [(IMAGE,), ((1, 3, 16, 16),)],
        EVERY_OPSET,
        {0: {0: "batch", 2: "height", 3: "width"}},
    )
    yield Model("unet", UNet, [((1, 3, 8, 8),)], NEW)
    yield Model("detection head", Detection, [((2, 3, 8, 8),)], NEW)
    yield Model(
        "detection head free",
        Detection,
        [((2, 3, 8, 8),), ((1, 3, 12, 16),)],
        ("dynamo 18", "script 17"),
        {0: {0: "auto", 2: "auto", 3: "auto"}},
    )
    yield Model(
        "mobile block",
        lambda: nn.Sequential(
            nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.ReLU6(), nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.Hardswish()
        ),
        [(IMAGE,)],
        NEW,
    )
    yield Model(
        "squeeze and excite",
        lambda: Of(
            lambda a, b, x: x * torch.sigmoid(b(F.relu(a(x.mean((2, 3), keepdim=True))))),
            nn.Conv2d(3, 2, 1),
            nn.Conv2d(2, 3, 1),
        ),
        [(IMAGE,)],
    )
    yield Model(
        "pixel shuffle",
        lambda: nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.PixelUnshuffle(2)),
        [(IMAGE,)],
    )
    yield Model(
        "half precision",
        lambda: mlp().half(),
        [(of(3, 6, dtype=torch.float16),)],
        ("dynamo 18", "script 17"),
        about={"tolerance": 4e-3},
    )
    yield Model("double precision", lambda: mlp().double(), [(of(3, 6, dtype=torch.float64),)])


def convolutions() -> Iterator[Model]:
    def seq(*layers: nn.Module) -> Callable[[], nn.Module]:
        return lambda: nn.Sequential(*layers)

    yield Model(
        "conv1d forms", seq(nn.Conv1d(3, 6, 5, 2, 2), nn.Conv1d(6, 6, 3, dilation=2, groups=3)), [((2, 3, 30),)]
    )
    yield Model("conv3d", seq(nn.Conv3d(2, 4, 3, padding=1), nn.MaxPool3d(2), nn.AvgPool3d(2)), [((1, 2, 8, 8, 8),)])
    for mode in ("zeros", "reflect", "replicate", "circular"):
        yield Model(
            f"conv padding {mode}", lambda m=mode: nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode=m), [(IMAGE,)]
        )
    yield Model("conv same even", lambda: nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)), [(IMAGE,)])
    yield Model("conv unbatched", lambda: nn.Conv2d(3, 4, 3), [((3, 8, 8),)])
    yield Model(
        "conv transpose forms",
        seq(
            nn.ConvTranspose2d(3, 6, 3, 2, 1, output_padding=1),
            nn.ConvTranspose2d(6, 6, 4, 2, groups=3, dilation=2, bias=False),
        ),
        [((1, 3, 5, 6),)],
    )
    yield Model(
        "conv transpose 1d 3d",
        lambda: Of(lambda a, b, x, y: (a(x), b(y)), nn.ConvTranspose1d(3, 4, 3, 2), nn.ConvTranspose3d(2, 3, 2, 2)),
        [((1, 3, 7), (1, 2, 3, 4, 3))],
    )
    yield Model(
        "conv weights given", lambda: Of(lambda x, w, b: F.conv2d(x, w, b, stride=2)), [(IMAGE, (4, 3, 3, 3), (4,))]
    )
    yield Model(
        "conv free",
        lambda: nn.Conv2d(3, 4, 3, 2, 1),
        [(IMAGE,), ((3, 3, 9, 21),)],
        NEW,
        {0: {0: "batch", 2: "height", 3: "width"}},
    )


def pools_and_pads() -> Iterator[Model]:
    layers: dict[str, Callable[[], nn.Module]] = {
        "max pool ceil": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        "max pool dilated": lambda: nn.MaxPool2d(2, 1, dilation=2),
        "max pool indices": lambda: nn.MaxPool2d(2, return_indices=True),
        "average pool ceil": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        "average pool counting": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        "lp pool": lambda: nn.LPPool2d(2, 3, 2),
        "adaptive average": lambda: nn.AdaptiveAvgPool2d((4, 5)),
        "adaptive max": lambda: nn.AdaptiveMaxPool2d((3, 5)),
        "adaptive uneven": lambda: nn.AdaptiveAvgPool2d((5, 3)),
        "pad constant": lambda: nn.ConstantPad2d((1, 2, -1, 3), 0.5),
        "pad reflect": lambda: nn.ReflectionPad2d((1, 2, 3, 0)),
        "pad replicate": lambda: nn.ReplicationPad2d((1, 2, 3, 0)),
        "pad circular": lambda: nn.CircularPad2d((1, 2, 3, 0)),
        "unpool": lambda: Of(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)),
    }
    for name, make in layers.items():
        yield Model(name, make, [(IMAGE,)], ONLY_DYNAMO if name in ("adaptive uneven", "unpool") else BOTH)


def norms() -> Iterator[Model]:
    def trained(norm: nn.Module) -> nn.Module:
        for name, value in [*norm.named_parameters(), *norm.named_buffers()]:
            if value.is_floating_point():
                value.data = torch.rand_like(value) + (0.5 if "var" in name else 0)
        return norm

    for name, make in {
        "batch norm": lambda: nn.BatchNorm2d(3),
        "batch norm plain": lambda: nn.BatchNorm2d(3, affine=False),
        "batch norm batch": lambda: nn.BatchNorm2d(3, track_running_stats=False),
        "instance norm": lambda: nn.InstanceNorm2d(3, affine=True),
        "instance norm tracked": lambda: nn.InstanceNorm2d(3, track_running_stats=True),
        "group norm": lambda: nn.GroupNorm(3, 3),
        "layer norm": lambda: nn.LayerNorm((12, 10)),
        "layer norm plain": lambda: nn.LayerNorm(10, elementwise_affine=False),
        "rms norm": lambda: nn.RMSNorm(10, eps=1e-5),
        "local response norm": lambda: nn.LocalResponseNorm(3),
        "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        "lp normalize": lambda: Of(lambda x: F.normalize(x, dim=1)),
    }.items():
        yield Model(
            name, lambda m=make: trained(m()), [(IMAGE,)], ("dynamo 18", "dynamo 23") if name == "rms norm" else NEW
        )


def pointwise() -> Iterator[Model]:
    activations = "ELU SELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish ReLU6 SiLU Softplus Softshrink Softsign Tanhshrink".split()  # noqa: SIM905
    yield Model(
        "activations", lambda: Of(lambda x: [getattr(nn, a)()(x * 3) for a in activations]), [((3, 7),)], EVERY_OPSET
    )
    yield Model(
        "glu prelu threshold", lambda: nn.Sequential(nn.GLU(1), nn.PReLU(3), nn.Threshold(0.0, 0.0)), [((2, 6, 4),)]
    )
    yield Model("gelu tanh", lambda: nn.Sequential(nn.GELU("tanh"), nn.LeakyReLU(0.2)), [((2, 6),)], NEW)
    yield Model(
        "softmax forms",
        lambda: Of(lambda x: (x.softmax(1), x.log_softmax(0), F.softmin(x, 2), x.logsumexp((0, 2)))),
        [((2, 3, 4),)],
    )
    yield Model(
        "arithmetic",
        lambda: Of(
            lambda x, y: (
                x % y,
                x // y,
                torch.fmod(x, y),
                x**2,
                torch.remainder(x, 0.3),
                torch.atan2(x, y),
                x.lerp(y, 0.3),
                x.addcmul(x, y),
                x.sign(),
                x.trunc(),
                x.round(decimals=1),
            )
        ),
        [((3, 5), lambda: torch.rand(3, 5) + 0.5)],
        ONLY_DYNAMO,
    )
    yield Model(
        "transcendental",
        lambda: Of(
            lambda x: (
                x.sin(),
                x.tan(),
                x.asin(),
                x.acos(),
                x.log(),
                x.log1p(),
                x.erf(),
                x.rsqrt(),
                x.exp2(),
                x.log2(),
                x.sinc(),
                x.logit(),
            )
        ),
        [(lambda: torch.rand(3, 5) * 0.8 + 0.1,)],
        ONLY_DYNAMO,
    )
    yield Model(
        "integers and bits",
        lambda: Of(
            lambda x, y: (
                x & y,
                x | y,
                x ^ y,
                ~x,
                x << 2,
                x >> 1,
                x // y,
                x % y,
                torch.bitwise_left_shift(x, y % 3),
                x.clamp(2, 5),
                (x / y).floor().int(),
            )
        ),
        [(ints(3, 4, high=40), ints(3, 4, low=1, high=6))],
        ("dynamo 18",),
    )
    yield Model(
        "comparisons",
        lambda: Of(
            lambda x, y: (
                x > y,
                x <= 0,
                x.isnan(),
                x.isinf(),
                torch.maximum(x, y),
                torch.where(x > 0, x, y * 2),
                torch.logical_xor(x > 0, y > 0),
                x.nan_to_num(),
                x.isfinite(),
            )
        ),
        [((3, 4), (3, 4))],
    )
    yield Model(
        "reductions",
        lambda: Of(
            lambda x: (
                x.mean(1),
                x.std(0),
                x.var((0, 2), unbiased=False),
                x.amax((0, 1)),
                x.prod(2),
                x.norm(dim=1),
                x.norm(1, 2),
                x.argmin(2),
                x.any(1),
                x.all(0),
                x.cumsum(1),
                x.max(1).indices,
                x.sum(),
                torch.var_mean(x, 1),
                x.count_nonzero(1),
            )
        ),
        [((3, 4, 5),)],
        ("dynamo 18",),
    )
    yield Model(
        "reductions script",
        lambda: Of(
            lambda x: (
                x.mean(1),
                x.std(0),
                x.amax((0, 1)),
                x.prod(2),
                x.norm(dim=1),
                x.norm(1, 2),
                x.argmin(2),
                x.cumsum(1),
                x.max(1),
                x.sum(),
            )
        ),
        [((3, 4, 5),)],
        ("script 11", "script 13", "script 18"),
    )
    yield Model(
        "losses",
        lambda: Of(
            lambda x, y, t: (
                F.mse_loss(x, y),
                F.l1_loss(x, y, reduction="none"),
                F.smooth_l1_loss(x, y),
                F.binary_cross_entropy_with_logits(x, y.sigmoid()),
                F.cross_entropy(x, t),
                F.nll_loss(x.log_softmax(1), t, reduction="none"),
                F.cosine_similarity(x, y),
                F.kl_div(x, y.softmax(1)),
                F.pairwise_distance(x, y),
                F.huber_loss(x, y),
            )
        ),
        [((3, 5), (3, 5), ints(3, high=5))],
        ("dynamo 18",),
    )
    yield Model(
        "losses script",
        lambda: Of(
            lambda x, y, t: (
                F.mse_loss(x, y),
                F.cross_entropy(x, t, ignore_index=1),
                F.nll_loss(x.log_softmax(1), t),
                F.binary_cross_entropy_with_logits(x, y.sigmoid()),
            )
        ),
        [((3, 5), (3, 5), ints(3, high=5))],
        ("script 12", "script 17"),
    )
    yield Model(
        "type changes",
        lambda: Of(
            lambda x: (
                x.int(),
                x.half().float(),
                x.double(),
                x.bool(),
                x.to(torch.uint8),
                x.long() + 0.5,
                x.bfloat16().float(),
            )
        ),
        [(lambda: torch.rand(3, 4) * 9,)],
    )
    yield Model(
        "quantised by hand",
        lambda: Of(
            lambda x, w: (
                torch.fake_quantize_per_tensor_affine(x, 0.05, 3, -128, 127),
                torch.fake_quantize_per_channel_affine(
                    w, torch.tensor([0.1, 0.05]), torch.zeros(2, dtype=torch.int32), 0, -128, 127
                ),
            )
        ),
        [((3, 4), (2, 5))],
        ("dynamo 18", "script 13", "script 17"),
    )


class Packed(nn.Module):
    """Sequences of several lengths, packed and padded again."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, (h, _) = self.lstm(packed)
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0], h


def recurrent() -> Iterator[Model]:
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        name = kind.__name__.lower()
        yield Model(name, lambda k=kind: k(4, 5, num_layers=2), [((6, 2, 4),)], ("dynamo 18", "script 11", "script 17"))
        yield Model(
            f"{name} batch first both ways",
            lambda k=kind: k(4, 5, batch_first=True, bidirectional=True),
            [((2, 6, 4),)],
        )
        free = {0: {0: "batch", 1: "steps"}}
        ways = {"script 17": {}, "dynamo 18": {"declared": "the file fixes the steps of the result"}}
        for way, about in list(ways.items())[: 1 if kind is nn.RNN else 2]:
            made = lambda k=kind: k(4, 5, batch_first=True)  # noqa: E731
            yield Model(f"{name} free", made, [((2, 6, 4),), ((3, 9, 4),)], (way,), free, about)
    yield Model(
        "lstm state given",
        lambda: Of(lambda m, x, h, c: m(x, (h, c)), nn.LSTM(4, 5)),
        [((6, 2, 4), (1, 2, 5), (1, 2, 5))],
    )
    yield Model("lstm packed", Packed, [((3, 6, 4), values([4, 6, 2]))], ("script 11", "script 17"))
    yield Model("gru cell loop", lambda: Of(_gru_loop, nn.GRUCell(4, 5)), [((5, 2, 4), (2, 5))])
    yield Model("rnn relu", lambda: nn.RNN(4, 5, nonlinearity="relu"), [((6, 2, 4),)])


def _gru_loop(cell: nn.Module, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    for step in x:
        h = cell(step, h)
    return h


def attention() -> Iterator[Model]:
    def sdpa(**more: Any) -> Callable[[], nn.Module]:
        return lambda: Of(lambda q, k, v, *m: F.scaled_dot_product_attention(q, k, v, *m, **more))

    qkv = ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))
    square = ((2, 3, 6, 8),) * 3
    yield Model("sdpa", sdpa(), [qkv], NEW)
    yield Model("sdpa causal", sdpa(is_causal=True), [square], NEW)
    yield Model("sdpa mask of numbers", sdpa(), [(*qkv, (5, 7))], NEW)
    yield Model("sdpa mask", sdpa(), [(*qkv, boolean(2, 1, 5, 7))], NEW)
    hidden = "a row that is hidden is the mean of the values below opset 23"
    yield Model(
        "sdpa hidden row",
        sdpa(),
        [(*qkv, lambda: torch.arange(5)[:, None] > torch.zeros(7))],
        ("dynamo 18", "script 17"),
        about={"different": hidden},
    )
    yield Model(
        "sdpa hidden row new", sdpa(), [(*qkv, lambda: torch.arange(5)[:, None] > torch.zeros(7))], ("dynamo 23",)
    )
    yield Model("sdpa scale", sdpa(scale=0.2), [qkv], NEW)
    yield Model(
        "sdpa grouped",
        sdpa(enable_gqa=True),
        [((2, 6, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))],
        ("dynamo 18", "dynamo 23", "dynamo 24"),
    )
    yield Model(
        "sdpa free", sdpa(), [square, ((1, 3, 9, 8),) * 3], NEW, {i: {0: "batch", 2: "steps"} for i in range(3)}
    )
    yield Model(
        "multihead",
        lambda: Of(lambda m, x: m(x, x, x), nn.MultiheadAttention(12, 3, batch_first=True)),
        [((2, 5, 12),)],
        NEW,
    )
    yield Model(
        "multihead masks",
        lambda: Of(
            lambda m, q, k, p: m(q, k, k, key_padding_mask=p, need_weights=False)[0],
            nn.MultiheadAttention(12, 3, add_bias_kv=True),
        ),
        [((5, 2, 12), (6, 2, 12), lambda: torch.tensor([[False] * 5 + [True]] * 2))],
        NEW,
    )
    yield Model(
        "encoder layer",
        lambda: nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, activation="gelu"),
        [((2, 5, 12),)],
        ("dynamo 18", "dynamo 23", "dynamo 20"),
    )
    yield Model(
        "encoder",
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=True), 2, enable_nested_tensor=False
        ),
        [((2, 5, 12),), ((4, 8, 12),)],
        ("dynamo 18", "dynamo 23"),
        {0: {0: "batch", 1: "steps"}},
    )
    yield Model("decoder layer", lambda: nn.TransformerDecoderLayer(12, 3, 20), [((5, 2, 12), (6, 2, 12))], NEW)
    yield Model(
        "transformer",
        lambda: Of(
            lambda m, s, t: m(s, t, tgt_mask=m.generate_square_subsequent_mask(4), tgt_is_causal=True),
            nn.Transformer(12, 3, 1, 1, 20),
        ),
        [((5, 2, 12), (4, 2, 12))],
        ("dynamo 18", "dynamo 23"),
    )


def _put(x: torch.Tensor, i: torch.Tensor, twice: torch.Tensor, v: torch.Tensor) -> Any:
    a, b, c, d = x.clone(), x.clone(), x.clone(), x.clone()
    a[i] = v
    b[:, 1:3] = 5
    c[c > 0.5] = -1
    d[..., ::2] *= 2
    return a, b, c, d, x.index_put((twice,), v, accumulate=True), x.index_add(0, twice, v), x.index_fill(0, i, 3.0)


def indexing() -> Iterator[Model]:
    yield Model(
        "embedding",
        lambda: nn.Embedding(9, 4, padding_idx=0),
        [(ints(2, 5, high=9),), (ints(1, 7, high=9),)],
        NEW,
        {0: {0: "batch", 1: "steps"}},
    )
    for mode in ("sum", "mean", "max"):
        yield Model(f"embedding bag {mode}", lambda m=mode: nn.EmbeddingBag(9, 4, mode=m), [(ints(3, 4, high=9),)])
    yield Model(
        "embedding bag offsets",
        lambda: nn.EmbeddingBag(9, 4, mode="sum", include_last_offset=True),
        [(ints(7, high=9), values([0, 3, 5, 7]))],
    )
    yield Model(
        "einsum",
        lambda: Of(
            lambda a, b, c: (
                torch.einsum("bij,bjk->bik", a, b),
                torch.einsum("bij,bjk,bk->bi", a, b, c),
                torch.einsum("bij->bji", a),
                torch.einsum("b...j,bjk->b...k", a, b),
            )
        ),
        [((2, 3, 4), (2, 4, 5), (2, 5))],
    )
    put = [((4, 5), values([0, 2, 3]), values([0, 2, 2]), (3, 5))]
    lost = {"different": "of two numbers that are added to one place the file keeps the last"}
    yield Model("index put", lambda: Of(_put), put, ("dynamo 18",))
    yield Model("index put", lambda: Of(_put), put, ("script 17",), about=lost)
    yield Model(
        "indexing",
        lambda: Of(
            lambda x, i: (
                x[i],
                x[:, i],
                x[i, i],
                x[..., None, 1],
                x[1:-1:2],
                x[:, [2, 0]],
                x[i[:, None], i],
                x.flip(0, 2),
                x[-1],
            )
        ),
        [((4, 5, 6), values([0, 2, 1]))],
    )
    yield Model(
        "masks",
        lambda: Of(lambda x: (x[x > 0], x.masked_fill(x > 0, 2.0), torch.nonzero(x > 0), torch.where(x > 0.3)[0])),
        [((4, 5),)],
    )
    yield Model(
        "gather scatter",
        lambda: Of(
            lambda x, i, v: (
                x.gather(1, i),
                x.scatter(1, i, v),
                x.scatter_add(1, i, v),
                x.take_along_dim(i, 1),
                torch.index_select(x, 1, i[0]),
                x.scatter_reduce(1, i, v, "amax"),
                x.take(i),
            )
        ),
        [((3, 5), lambda: torch.stack([torch.randperm(5)[:4] for _ in range(3)]), (3, 4))],
        ("dynamo 18",),
    )
    yield Model(
        "topk sort",
        lambda: Of(
            lambda x: (x.topk(3), x.topk(2, 0, largest=False), x.sort(1, descending=True), x.argsort(0), x.max(0)[0])
        ),
        [((4, 6),)],
    )
    yield Model("unique", lambda: Of(lambda x: torch.unique(x, return_inverse=True, return_counts=True)), [(ints(9),)])
    yield Model(
        "unique consecutive", lambda: Of(lambda x: torch.unique(x, dim=0)), [(ints(9, 2, high=2),)], ("script 17",)
    )
    yield Model(
        "one hot bucket",
        lambda: Of(lambda i, x: (F.one_hot(i, 7), torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])))),
        [(ints(2, 3), (3, 4))],
        ("dynamo 18", "script 17"),
    )
    yield Model("one hot", lambda: Of(lambda i: F.one_hot(i, 7)), [(ints(2, 3),)])
    yield Model(
        "triangles",
        lambda: Of(
            lambda x: (x.tril(), x.triu(1), torch.tril(x, -1), torch.eye(4) + x[0, :4, :4], torch.diagonal(x, 1, 1, 2))
        ),
        [((2, 4, 5),)],
    )
    yield Model(
        "ranges",
        lambda: Of(
            lambda x: (
                torch.arange(x.shape[0]) + x[:, 0],
                torch.linspace(0, 1, 5) + x[0, 0],
                torch.full_like(x, 3),
                x.new_zeros(2, x.shape[1]),
                torch.arange(0, 1, 0.25) * x[0, 0],
            )
        ),
        [((3, 4),), ((6, 4),)],
        NEW,
        {0: {0: "rows"}},
    )


def shapes() -> Iterator[Model]:
    yield Model(
        "roll unfold",
        lambda: Of(lambda x: (x.roll((1, -2), (2, 3)), F.unfold(x, 3, 2, 1, 2), x.unfold(3, 4, 3))),
        [((1, 2, 9, 10),)],
    )
    yield Model("fold", lambda: nn.Fold((6, 7), (3, 2), padding=1), [((2, 12, 48),)], ("dynamo 18", "script 18"))
    yield Model(
        "reshapes",
        lambda: Of(
            lambda x: (
                x.view(x.shape[0], -1),
                x.permute(2, 0, 1).contiguous(),
                x.flatten(1),
                x.squeeze(),
                x.expand(3, -1, -1, -1),
                x.repeat(2, 1, 3),
                x.repeat_interleave(2, 1),
                x.tile(1, 2, 1),
                x.movedim(0, 2),
                x.swapaxes(0, 1),
            )
        ),
        [((2, 4, 3),), ((5, 4, 3),)],
        ("dynamo 18", "dynamo 23"),
        {0: {0: "batch"}},
    )
    yield Model(
        "unflatten free",
        lambda: Of(lambda x: x.unflatten(1, (2, 2))),
        [((2, 4, 3),), ((5, 4, 3),)],
        ("script 17",),
        {0: {0: "batch"}},
        {"declared": "the file fixes the batch of the result"},
    )
    yield Model(
        "split join",
        lambda: Of(
            lambda x: (
                *x.split(2, 1),
                *x.chunk(3, 1),
                torch.cat([x, x], 0),
                torch.stack([x, x], 1),
                *x.unbind(0),
                torch.hstack([x, x]),
            )
        ),
        [((2, 5),)],
    )
    yield Model(
        "matrix products",
        lambda: Of(
            lambda a, b, v: (
                a @ b,
                a @ v,
                v @ b,
                torch.bmm(a, b),
                torch.baddbmm(a @ b, a, b, beta=0.5, alpha=2),
                torch.outer(v, v),
                torch.tensordot(a, b, ([2], [1])),
                torch.linalg.vector_norm(a, dim=1),
                torch.dot(v, v),
                torch.linalg.cross(a[:, :, :3], a[:, :, :3].flip(1)),
            )
        ),
        [((2, 3, 4), (2, 4, 5), (4,))],
    )
    yield Model(
        "kronecker cdist",
        lambda: Of(lambda a, b: (torch.cdist(a, b), torch.linalg.det(a @ a.transpose(0, 1)))),
        [((3, 4), (5, 4))],
        ("script 17",),
    )
    yield Model(
        "derived dims",
        lambda: Of(lambda x: x.reshape(x.shape[0], x.shape[1] // 2, 2, -1).sum(2)),
        [((2, 6, 4),), ((3, 10, 4),)],
        ("script 17",),
        {0: {0: "batch", 1: "steps"}},
    )
    yield Model(
        "auto dims",
        lambda: Of(lambda x, y: torch.cat([x, y], 1).flatten(1)),
        [((2, 6, 4), (2, 3, 4)), ((3, 5, 4), (3, 1, 4))],
        ("dynamo 18", "dynamo 22"),
        {0: {0: "auto", 1: "auto"}, 1: {0: "auto", 1: "auto"}},
    )


def resampling() -> Iterator[Model]:
    def resize(**how: Any) -> Callable[[], nn.Module]:
        return lambda: Of(lambda x: F.interpolate(x, **how))

    for mode in ("nearest", "bilinear", "bicubic", "area", "nearest-exact"):
        ways = ("dynamo 18", "script 11", "script 17") if mode in ("nearest", "bilinear", "bicubic") else ("dynamo 18",)
        yield Model(f"interpolate {mode} size", resize(size=(17, 8), mode=mode), [(IMAGE,)], ways)
        yield Model(f"interpolate {mode} scale", resize(scale_factor=(1.5, 2.3), mode=mode), [(IMAGE,)], ways)
    for mode in ("bilinear", "bicubic"):
        yield Model(
            f"interpolate {mode} corners",
            resize(scale_factor=2, mode=mode, align_corners=True),
            [(IMAGE,)],
            ("dynamo 18", "script 11"),
        )
        yield Model(
            f"interpolate {mode} antialias",
            resize(size=(5, 7), mode=mode, antialias=True),
            [(IMAGE,)],
            ("dynamo 18",),
        )
    yield Model("interpolate linear", resize(scale_factor=2, mode="linear"), [((2, 3, 9),)])
    yield Model("interpolate trilinear", resize(size=(4, 7, 9), mode="trilinear"), [((1, 2, 5, 5, 6),)])
    yield Model(
        "interpolate free",
        resize(scale_factor=2, mode="bilinear"),
        [(IMAGE,), ((1, 3, 7, 9),)],
        NEW,
        {0: {0: "batch", 2: "height", 3: "width"}},
    )
    yield Model(
        "interpolate like",
        lambda: Of(lambda x, y: F.interpolate(x, y.shape[2:], mode="bilinear")),
        [(IMAGE, (2, 3, 20, 15)), (IMAGE, (2, 3, 9, 31))],
        ("dynamo 18", "script 17"),
        {1: {2: "height", 3: "width"}},
    )
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            yield Model(
                f"grid sample {mode} {padding}",
                lambda m=mode, p=padding: Of(lambda x, g: F.grid_sample(x, g, m, p, align_corners=p == "border")),
                [(IMAGE, lambda: torch.rand(2, 6, 7, 2) * 3 - 1.5)],
                ("dynamo 20", "script 16"),
            )
    yield Model(
        "affine grid",
        lambda: Of(lambda t, x: F.grid_sample(x, F.affine_grid(t, x.shape, align_corners=False), align_corners=False)),
        [(lambda: torch.tensor([[[0.9, 0.1, 0.0], [-0.2, 1.1, 0.1]]] * 2), IMAGE)],
        ("dynamo 20", "script 20"),
    )


def signals() -> Iterator[Model]:
    yield Model(
        "fft",
        lambda: Of(
            lambda x: (
                torch.view_as_real(torch.fft.fft(x)),
                torch.view_as_real(torch.fft.rfft(x)),
                torch.fft.irfft(torch.fft.rfft(x)),
                torch.fft.fft(x).abs(),
            )
        ),
        [((2, 16),)],
        ("dynamo 18", "dynamo 20"),
    )
    yield Model(
        "fft2", lambda: Of(lambda x: torch.view_as_real(torch.fft.fft2(x))), [((2, 6, 8),)], ("dynamo 18", "dynamo 20")
    )
    yield Model(
        "stft",
        lambda: Of(
            lambda x: torch.view_as_real(torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True))
        ),
        [((2, 64),)],
        ("dynamo 18", "script 17"),
    )
    yield Model(
        "spectrogram",
        lambda: Of(lambda x: torch.stft(x, 16, 8, return_complex=True, center=False).abs().pow(2).log1p()),
        [((2, 64),)],
        ("dynamo 18",),
    )
    yield Model(
        "complex",
        lambda: Of(lambda x, y: torch.view_as_real(torch.complex(x, y) * torch.complex(y, x) + 1)),
        [((2, 5), (2, 5))],
        ("dynamo 18",),
    )
    yield Model(
        "rotary by complex",
        lambda: Of(
            lambda x, a: torch.view_as_real(
                torch.view_as_complex(x.reshape(2, 5, 4, 2)) * torch.polar(torch.ones_like(a), a)
            ).flatten(2)
        ),
        [((2, 5, 8), (5, 4))],
        ("dynamo 18",),
    )


class Cond(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x, y: x.sin() + y, lambda x, y: x * y - 1, (x, y))


class Scan(nn.Module):
    def forward(self, h: torch.Tensor, x: torch.Tensor) -> Any:
        from torch._higher_order_ops import scan

        return scan(lambda c, v: (c * 0.5 + v, (c + v).tanh()), h, x)


class While(nn.Module):
    def forward(self, i: torch.Tensor, x: torch.Tensor) -> Any:
        from torch._higher_order_ops import while_loop

        return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 1.5 + i), (i, x))


class ScriptedLoop(nn.Module):
    def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        y = x
        for i in range(int(n)):
            if bool(y.sum() > 10):
                y = y - x * i
            else:
                y = y + x.abs() * (i + 1)
        return y


class ScriptedList(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts: list[torch.Tensor] = []
        for row in range(x.size(0)):
            parts.append(x[row] * row)
        return torch.stack(parts, 1)


def control_flow() -> Iterator[Model]:
    yield Model(
        "cond",
        Cond,
        [(lambda: torch.rand(3, 4), (3, 4)), (lambda: -torch.rand(3, 4), (3, 4))],
        ("dynamo 18", "dynamo 24"),
    )
    yield Model("scan", Scan, [((3,), (6, 3))], ("dynamo 18", "dynamo 24"))
    yield Model("while loop", While, [(values(0), (3,)), (values(3), (3,))], ("dynamo 18", "dynamo 24"))
    yield Model(
        "scripted loop",
        lambda: torch.jit.script(ScriptedLoop()),
        [((3,), values(4)), ((3,), values(0))],
        ("script 11", "script 17"),
    )
    yield Model(
        "scripted list",
        lambda: torch.jit.script(ScriptedList()),
        [((4, 3),), ((6, 3),)],
        ("script 11", "script 17"),
        {0: {0: "rows"}},
    )
