"""Residual networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twins.parts import Residual, Squeeze, Weight, conv_bn, pooled


def _stem(width: int = 64) -> list[nn.Module]:
    return [conv_bn(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]


def _bottleneck(inside: int, planes: int, s: int, groups: int, base: int, squeeze: int) -> nn.Module:
    """torchvision's Bottleneck: the stride is that of the 3x3 convolution. squeeze: timm's, before the sum."""
    width, out = planes * base // 64 * groups, 4 * planes
    main = nn.Sequential(
        conv_bn(inside, width),
        conv_bn(width, width, 3, s, groups=groups),
        conv_bn(width, out, act=None),
        *([Squeeze(out, out // squeeze)] if squeeze else []),
    )
    return Residual(main, conv_bn(inside, out, 1, s, act=None) if s > 1 or inside != out else None, nn.ReLU())


def _basic(inside: int, planes: int, s: int) -> nn.Module:
    main = nn.Sequential(conv_bn(inside, planes, 3, s), conv_bn(planes, planes, 3, act=None))
    return Residual(main, conv_bn(inside, planes, 1, s, act=None) if s > 1 else None, nn.ReLU())


def _resnet(
    counts: list[int], classes: int, deep: bool = True, groups: int = 1, base: int = 64, squeeze: int = 0
) -> nn.Module:
    layers, inside = _stem(), 64
    for i, count in enumerate(counts):
        for j in range(count):
            planes, s = 64 << i, 2 if i and not j else 1
            layers.append(_bottleneck(inside, planes, s, groups, base, squeeze) if deep else _basic(inside, planes, s))
            inside = planes * (4 if deep else 1)
    return pooled(nn.Sequential(*layers), nn.Linear(inside, classes))


def resnet18(classes: int = 1000) -> nn.Module:
    return _resnet([2, 2, 2, 2], classes, deep=False)


def resnet34(classes: int = 1000) -> nn.Module:
    return _resnet([3, 4, 6, 3], classes, deep=False)


def resnet50(classes: int = 1000) -> nn.Module:
    return _resnet([3, 4, 6, 3], classes)


def resnet101(classes: int = 1000) -> nn.Module:
    return _resnet([3, 4, 23, 3], classes)


def resnet152(classes: int = 1000) -> nn.Module:
    return _resnet([3, 8, 36, 3], classes)


def resnext50(classes: int = 1000) -> nn.Module:
    """torchvision.models.resnext50_32x4d."""
    return _resnet([3, 4, 6, 3], classes, groups=32, base=4)


def se_resnet50(classes: int = 1000) -> nn.Module:
    """timm's seresnet50."""
    return _resnet([3, 4, 6, 3], classes, squeeze=16)


def resnet50_d(classes: int = 1000, size: int = 224) -> nn.Module:
    """timm's resnet50d: a deep stem, and means before the shortcuts' convolutions."""
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2), conv_bn(32, 32, 3), conv_bn(32, 64, 3), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for i, count in enumerate((3, 4, 6, 3)):
        planes = 64 << i
        for j in range(count):
            s, out = 2 if i and not j else 1, 4 * planes
            main = nn.Sequential(conv_bn(inside, planes), conv_bn(planes, planes, 3, s), conv_bn(planes, out, act=None))
            mean = [nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)] if s == 2 else []
            skip = None if j else nn.Sequential(*mean, conv_bn(inside, out, act=None))
            layers.append(Residual(main, skip, nn.ReLU()))
            inside = out
    return pooled(nn.Sequential(*layers), nn.Linear(inside, classes))


class _PreActivation(nn.Module):
    """timm's PreActBottleneck: a shortcut that has a convolution reads what is normalised already."""

    def __init__(self, inside: int, width: int, s: int, first: bool) -> None:
        super().__init__()
        out = 4 * width
        self.norm = nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU())
        self.main = nn.Sequential(
            conv_bn(inside, width), conv_bn(width, width, 3, s), nn.Conv2d(width, out, 1, bias=False)
        )
        self.shortcut = nn.Conv2d(inside, out, 1, s, bias=False) if first else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.main(y) + (x if self.shortcut is None else self.shortcut(y))


def preact_resnet(classes: int = 1000, size: int = 224) -> nn.Module:
    """timm's resnetv2_50."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for i, count in enumerate((3, 4, 6, 3)):
        for j in range(count):
            layers.append(_PreActivation(inside, 64 << i, 2 if i and not j else 1, j == 0))
            inside = 256 << i
    return pooled(nn.Sequential(*layers, nn.BatchNorm2d(inside), nn.ReLU()), nn.Linear(inside, classes))


def regnet_y_400mf(classes: int = 1000, size: int = 224) -> nn.Module:
    """torchvision.models.regnet_y_400mf: groups of 8 channels, squeezed to a quarter of what the block reads."""
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2)]
    inside = 32
    for width, count in ((48, 1), (104, 3), (208, 6), (440, 6)):
        for i in range(count):
            s = 1 if i else 2
            main = nn.Sequential(
                conv_bn(inside, width),
                conv_bn(width, width, 3, s, groups=width // 8),
                Squeeze(width, round(0.25 * inside)),
                conv_bn(width, width, act=None),
            )
            layers.append(Residual(main, None if i else conv_bn(inside, width, 1, s, act=None), nn.ReLU()))
            inside = width
    return pooled(nn.Sequential(*layers), nn.Linear(inside, classes))


class _WideBlock(nn.Module):
    """The basic block of the authors' code: where the width changes, the shortcut reads what is normalised already."""

    def __init__(self, inside: int, out: int, s: int) -> None:
        super().__init__()
        self.bn0, self.conv0 = nn.BatchNorm2d(inside), nn.Conv2d(inside, out, 3, s, 1, bias=False)
        self.bn1, self.conv1 = nn.BatchNorm2d(out), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.convdim = nn.Conv2d(inside, out, 1, s, bias=False) if inside != out else None

    def forward(self, x: Tensor) -> Tensor:
        o1 = torch.relu(self.bn0(x))
        z = self.conv1(torch.relu(self.bn1(self.conv0(o1))))
        return z + (x if self.convdim is None else self.convdim(o1))


def wide_resnet(classes: int = 10, wide: int = 10, n: int = 4) -> nn.Module:
    """github.com/szagoruyko/wide-residual-networks."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    inside = 16
    for group in range(3):
        for i in range(n):
            out = (16 << group) * wide
            layers.append(_WideBlock(inside, out, 2 if group and not i else 1))
            inside = out
    return pooled(nn.Sequential(*layers, nn.BatchNorm2d(inside), nn.ReLU()), nn.Linear(inside, classes))


class _ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Scaled(nn.Module):
    """ConvNeXt's block: depthwise 7x7, a layer norm and two dense layers over the channels, times the layer's scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, eps=1e-6)
        self.wide, self.act, self.narrow = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.scale = Weight(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.spatial(x).permute(0, 2, 3, 1))
        return x + self.scale.value * self.narrow(self.act(self.wide(y))).permute(0, 3, 1, 2)


def convnext_t(classes: int = 1000) -> nn.Module:
    """torchvision.models.convnext_tiny."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), _ChannelNorm(96, eps=1e-6)]
    for i, count in enumerate((3, 3, 9, 3)):
        width = 96 << i
        if i:
            layers += [_ChannelNorm(width // 2, eps=1e-6), nn.Conv2d(width // 2, width, 2, 2)]
        layers += [_Scaled(width) for _ in range(count)]
    return pooled(nn.Sequential(*layers), nn.LayerNorm(768, eps=1e-6), nn.Linear(768, classes))
