"""Small networks."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twins.parts import Paths, Residual, Squeeze, conv_bn, divisible, pooled


class _Behind(nn.Module):
    """Keras' ZeroPadding2D(((0, 1), (0, 1))), which stands before its convolutions of stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 1, 0, 1))


def mobilenet_v1(classes: int = 1000) -> nn.Module:
    """keras.applications.MobileNet, before the softmax."""
    cbr = partial(conv_bn, act=nn.ReLU6, eps=0.001)
    layers: list[nn.Module] = [_Behind(), cbr(3, 32, 3, 2, 0)]
    inside = 32
    for out, s in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        layers += [_Behind()] if s == 2 else []
        layers += [cbr(inside, inside, 3, s, 2 - s, groups=inside), cbr(inside, out)]
        inside = out
    return pooled(nn.Sequential(*layers), nn.Dropout(0.001), nn.Linear(1024, classes))


def mobilenet_v2(classes: int = 1000) -> nn.Module:
    """torchvision.models.mobilenet_v2."""
    cbr = partial(conv_bn, act=nn.ReLU6)
    layers: list[nn.Module] = [cbr(3, 32, 3, 2)]
    inside = 32
    for t, c, n, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:  # fmt: skip
        for i in range(n):
            s, hidden = stride if i == 0 else 1, t * inside
            steps = [cbr(hidden, hidden, 3, s, groups=hidden), conv_bn(hidden, c, act=None)]
            main = nn.Sequential(*([cbr(inside, hidden)] if t > 1 else []), *steps)
            layers.append(Residual(main) if s == 1 and inside == c else main)
            inside = c
    return pooled(nn.Sequential(*layers, cbr(320, 1280)), nn.Dropout(0.2), nn.Linear(1280, classes))


Row = tuple[int, int, int, bool, type[nn.Module], int]  # kernel, wide, out, squeeze, activation, stride


def _mobilenet_v3(rows: list[Row], last: int, classes: int) -> nn.Module:
    cbr = partial(conv_bn, eps=0.001)
    layers: list[nn.Module] = [cbr(3, 16, 3, 2, act=nn.Hardswish)]
    inside = 16
    for k, wide, out, se, act, s in rows:
        main = nn.Sequential(
            *([cbr(inside, wide, act=act)] if wide != inside else []),
            cbr(wide, wide, k, s, groups=wide, act=act),
            *([Squeeze(wide, divisible(wide / 4), nn.ReLU, nn.Hardsigmoid)] if se else []),
            cbr(wide, out, act=None),
        )
        layers.append(Residual(main) if s == 1 and inside == out else main)
        inside = out
    layers.append(cbr(inside, 6 * inside, act=nn.Hardswish))
    head = (nn.Linear(6 * inside, last), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last, classes))
    return pooled(nn.Sequential(*layers), *head)


def mobilenet_v3(classes: int = 1000) -> nn.Module:
    """torchvision.models.mobilenet_v3_large."""
    rectifier, swish = nn.ReLU, nn.Hardswish
    rows: list[Row] = [
        (3, 16, 16, False, rectifier, 1),
        (3, 64, 24, False, rectifier, 2),
        (3, 72, 24, False, rectifier, 1),
        (5, 72, 40, True, rectifier, 2),
        (5, 120, 40, True, rectifier, 1),
        (5, 120, 40, True, rectifier, 1),
        (3, 240, 80, False, swish, 2),
        (3, 200, 80, False, swish, 1),
        (3, 184, 80, False, swish, 1),
        (3, 184, 80, False, swish, 1),
        (3, 480, 112, True, swish, 1),
        (3, 672, 112, True, swish, 1),
        (5, 672, 160, True, swish, 2),
        (5, 960, 160, True, swish, 1),
        (5, 960, 160, True, swish, 1),
    ]
    return _mobilenet_v3(rows, 1280, classes)


def mobilenet_v3_small(classes: int = 1000, size: int = 224) -> nn.Module:
    """torchvision.models.mobilenet_v3_small."""
    rectifier, swish = nn.ReLU, nn.Hardswish
    rows: list[Row] = [
        (3, 16, 16, True, rectifier, 2),
        (3, 72, 24, False, rectifier, 2),
        (3, 88, 24, False, rectifier, 1),
        (5, 96, 40, True, swish, 2),
        (5, 240, 40, True, swish, 1),
        (5, 240, 40, True, swish, 1),
        (5, 120, 48, True, swish, 1),
        (5, 144, 48, True, swish, 1),
        (5, 288, 96, True, swish, 2),
        (5, 576, 96, True, swish, 1),
        (5, 576, 96, True, swish, 1),
    ]
    return _mobilenet_v3(rows, 1024, classes)


def efficientnet_b0(classes: int = 1000) -> nn.Module:
    """torchvision.models.efficientnet_b0."""
    cbs = partial(conv_bn, act=nn.SiLU)
    layers: list[nn.Module] = [cbs(3, 32, 3, 2)]
    for t, k, stride, first, out, n in [
        (1, 3, 1, 32, 16, 1),
        (6, 3, 2, 16, 24, 2),
        (6, 5, 2, 24, 40, 2),
        (6, 3, 2, 40, 80, 3),
        (6, 5, 1, 80, 112, 3),
        (6, 5, 2, 112, 192, 4),
        (6, 3, 1, 192, 320, 1),
    ]:
        for i in range(n):
            inside, s = (first, stride) if i == 0 else (out, 1)
            wide = t * inside
            main = nn.Sequential(
                *([cbs(inside, wide)] if t > 1 else []),
                cbs(wide, wide, k, s, groups=wide),
                Squeeze(wide, max(1, inside // 4), nn.SiLU),
                conv_bn(wide, out, act=None),
            )
            layers.append(Residual(main) if s == 1 and inside == out else main)
    return pooled(nn.Sequential(*layers, cbs(320, 1280)), nn.Dropout(0.2), nn.Linear(1280, classes))


class _Unit(nn.Module):
    """ShuffleNet v2's: half of the channels go past, or both ways halve the image; then channels of the two take turns."""

    def __init__(self, inside: int, out: int, s: int) -> None:
        super().__init__()
        self.whole, half = s > 1, out // 2
        first = inside if self.whole else half
        self.past = nn.Sequential(conv_bn(first, first, 3, s, groups=first, act=None), conv_bn(first, half)) if self.whole else nn.Identity()  # fmt: skip
        self.main = nn.Sequential(conv_bn(first, half), conv_bn(half, half, 3, s, groups=half, act=None), conv_bn(half, half))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x, x) if self.whole else x.chunk(2, 1)
        return torch.stack([self.past(left), self.main(right)], 2).flatten(1, 2)


def shufflenet_v2(classes: int = 1000) -> nn.Module:
    """torchvision.models.shufflenet_v2_x1_0."""
    layers: list[nn.Module] = [conv_bn(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)]
    inside = 24
    for out, n in ((116, 4), (232, 8), (464, 4)):
        layers += [_Unit(inside if i == 0 else out, out, 2 if i == 0 else 1) for i in range(n)]
        inside = out
    return pooled(nn.Sequential(*layers, conv_bn(464, 1024)), nn.Linear(1024, classes))


def _squeezenet(layers: list[nn.Module], classes: int) -> nn.Module:
    head = [nn.Dropout(), nn.Conv2d(512, classes, 1), nn.ReLU()]
    return pooled(nn.Sequential(*layers, *head))


def _fire(inside: int, squeeze: int, expand: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, squeeze, 1),
        nn.ReLU(),
        Paths(nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)),
        nn.ReLU(),
    )


def squeezenet1_0(classes: int = 1000) -> nn.Module:
    pool = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
    return _squeezenet(
        [
            nn.Conv2d(3, 96, 7, 2), nn.ReLU(), pool(),
            _fire(96, 16, 64), _fire(128, 16, 64), _fire(128, 32, 128), pool(),
            _fire(256, 32, 128), _fire(256, 48, 192), _fire(384, 48, 192), _fire(384, 64, 256), pool(),
            _fire(512, 64, 256),
        ],
        classes,
    )  # fmt: skip


def squeezenet(classes: int = 1000) -> nn.Module:
    """torchvision.models.squeezenet1_1."""
    pool = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
    return _squeezenet(
        [
            nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(),
            _fire(64, 16, 64), _fire(128, 16, 64), pool(),
            _fire(128, 32, 128), _fire(256, 32, 128), pool(),
            _fire(256, 48, 192), _fire(384, 48, 192), _fire(384, 64, 256), _fire(512, 64, 256),
        ],
        classes,
    )  # fmt: skip
