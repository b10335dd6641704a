"""Networks of several paths, and Xception."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from twins.parts import Paths, Residual, conv_bn, pooled

cbr = partial(conv_bn, eps=0.001)


def googlenet(classes: int = 1000) -> nn.Module:
    """torchvision.models.googlenet with aux_logits=False: its fourth pool is 2x2, and the paths of 5x5 have 3x3."""
    pool = partial(nn.MaxPool2d, 3, ceil_mode=True)

    def block(inside: int, c1: int, r3: int, c3: int, r5: int, c5: int, after: int) -> nn.Module:
        return Paths(
            cbr(inside, c1),
            nn.Sequential(cbr(inside, r3), cbr(r3, c3, 3)),
            nn.Sequential(cbr(inside, r5), cbr(r5, c5, 3)),
            nn.Sequential(pool(1, 1), cbr(inside, after)),
        )

    features = nn.Sequential(
        cbr(3, 64, 7, 2), pool(2), cbr(64, 64), cbr(64, 192, 3), pool(2),
        block(192, 64, 96, 128, 16, 32, 32),
        block(256, 128, 128, 192, 32, 96, 64), pool(2),
        block(480, 192, 96, 208, 16, 48, 64),
        block(512, 160, 112, 224, 24, 64, 64),
        block(512, 128, 128, 256, 24, 64, 64),
        block(512, 112, 144, 288, 32, 64, 64),
        block(528, 256, 160, 320, 32, 128, 128), nn.MaxPool2d(2, 2, ceil_mode=True),
        block(832, 256, 160, 320, 32, 128, 128),
        block(832, 384, 192, 384, 48, 128, 128),
    )  # fmt: skip
    return pooled(features, nn.Dropout(0.2), nn.Linear(1024, classes))


def inception_v3(classes: int = 1000) -> nn.Module:
    """torchvision.models.inception_v3 without the auxiliary classifier; its pools of means count the padding."""
    row, column = (1, 7), (7, 1)

    def mean() -> nn.Module:
        return nn.AvgPool2d(3, 1, 1)

    def chain(inside: int, *layers: tuple) -> nn.Module:
        """Of (out, kernel, stride, pad), the last two if they are not the usual."""
        steps = []
        for out, *rest in layers:
            steps.append(cbr(inside, out, *rest))
            inside = out
        return nn.Sequential(*steps)

    def a(inside: int, after: int) -> nn.Module:
        return Paths(
            cbr(inside, 64),
            chain(inside, (48, 1), (64, 5)),
            chain(inside, (64, 1), (96, 3), (96, 3)),
            nn.Sequential(mean(), cbr(inside, after)),
        )

    def b(inside: int) -> nn.Module:
        return Paths(cbr(inside, 384, 3, 2, 0), chain(inside, (64, 1), (96, 3), (96, 3, 2, 0)), nn.MaxPool2d(3, 2))

    def c(c7: int) -> nn.Module:
        return Paths(
            cbr(768, 192),
            chain(768, (c7, 1), (c7, row), (192, column)),
            chain(768, (c7, 1), (c7, column), (c7, row), (c7, column), (192, row)),
            nn.Sequential(mean(), cbr(768, 192)),
        )

    def d() -> nn.Module:
        return Paths(
            chain(768, (192, 1), (320, 3, 2, 0)),
            chain(768, (192, 1), (192, row), (192, column), (192, 3, 2, 0)),
            nn.MaxPool2d(3, 2),
        )

    def e(inside: int) -> nn.Module:
        def split() -> nn.Module:
            return Paths(cbr(384, 384, (1, 3)), cbr(384, 384, (3, 1)))

        return Paths(
            cbr(inside, 320),
            nn.Sequential(cbr(inside, 384), split()),
            nn.Sequential(chain(inside, (448, 1), (384, 3)), split()),
            nn.Sequential(mean(), cbr(inside, 192)),
        )

    features = nn.Sequential(
        chain(3, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3)), nn.MaxPool2d(3, 2),
        chain(64, (80, 1), (192, 3, 1, 0)), nn.MaxPool2d(3, 2),
        a(192, 32), a(256, 64), a(288, 64),
        b(288), c(128), c(160), c(160), c(192),
        d(), e(1280), e(2048),
    )  # fmt: skip
    return pooled(features, nn.Dropout(), nn.Linear(2048, classes))


class _SamePool(nn.Module):
    """Keras' MaxPooling2D(3, 2, padding='same'): what is odd of the padding is behind."""

    def forward(self, x: Tensor) -> Tensor:
        high, wide = (max((-(-n // 2) - 1) * 2 + 3 - n, 0) for n in x.shape[2:])
        sides = (wide // 2, wide - wide // 2, high // 2, high - high // 2)
        return F.max_pool2d(F.pad(x, sides, value=-float("inf")), 3, 2)


def xception(classes: int = 1000) -> nn.Module:
    """keras.applications.Xception, before the softmax."""

    def separable(inside: int, out: int) -> list[nn.Module]:
        depthwise = nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False)
        return [depthwise, nn.Conv2d(inside, out, 1, bias=False), nn.BatchNorm2d(out, eps=0.001)]

    def down(inside: int, first: int, out: int, rectify: bool = True) -> nn.Module:
        main = [*([nn.ReLU()] if rectify else []), *separable(inside, first), nn.ReLU(), *separable(first, out)]
        return Residual(nn.Sequential(*main, _SamePool()), cbr(inside, out, 1, 2, act=None))

    def middle() -> nn.Module:
        return Residual(nn.Sequential(*(m for _ in range(3) for m in (nn.ReLU(), *separable(728, 728)))))

    features = nn.Sequential(
        cbr(3, 32, 3, 2, 0), cbr(32, 64, 3, 1, 0),
        down(64, 128, 128, rectify=False), down(128, 256, 256), down(256, 728, 728),
        *(middle() for _ in range(8)),
        down(728, 728, 1024),
        *separable(1024, 1536), nn.ReLU(), *separable(1536, 2048), nn.ReLU(),
    )  # fmt: skip
    return pooled(features, nn.Linear(2048, classes))
