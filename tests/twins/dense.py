"""Networks whose layers read all that are before them, or grow by a rule."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twins.parts import Paths, conv_bn, pooled


def _densenet(counts: tuple[int, ...], classes: int, growth: int) -> nn.Module:
    """torchvision.models.densenet: normalised and rectified before each convolution."""

    def pre(inside: int, out: int, k: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, out, k, padding=k // 2, bias=False)]

    width = 2 * growth
    layers: list[nn.Module] = [conv_bn(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for i, count in enumerate(counts):
        if i:
            layers += [*pre(width, width // 2, 1), nn.AvgPool2d(2, 2)]
            width //= 2
        for _ in range(count):
            new = nn.Sequential(*pre(width, 4 * growth, 1), *pre(4 * growth, growth, 3))
            layers.append(Paths(nn.Identity(), new))
            width += growth
    return pooled(nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU()), nn.Linear(width, classes))


def densenet121(classes: int = 1000, growth: int = 32) -> nn.Module:
    return _densenet((6, 12, 24, 16), classes, growth)


def densenet169(classes: int = 1000, growth: int = 32) -> nn.Module:
    return _densenet((6, 12, 32, 32), classes, growth)


class _Fractal(nn.Module):
    """f(1) is a layer; f(n) joins a layer with f(n-1) after f(n-1) (Larsson et al. 2016, section 3). As in the authors'
    github.com/gustavla/fractalnet, all columns that end at a place join there, by one mean; where a block ends, each is
    pooled before."""

    def __init__(self, inside: int, out: int, columns: int) -> None:
        super().__init__()
        self.layer = conv_bn(inside, out, 3)
        deep = (_Fractal(inside, out, columns - 1), _Fractal(out, out, columns - 1)) if columns > 1 else ()
        self.deep = nn.ModuleList(deep)

    def columns(self, x: Tensor) -> list[Tensor]:
        if not self.deep:
            return [self.layer(x)]
        first, second = self.deep
        return [self.layer(x), *second.columns(torch.stack(first.columns(x)).mean(0))]

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([F.max_pool2d(column, 2) for column in self.columns(x)]).mean(0)


def fractalnet(classes: int = 10, columns: int = 3) -> nn.Module:
    """Five blocks for CIFAR."""
    layers: list[nn.Module] = []
    inside = 3
    for out in (64, 128, 256, 512, 512):
        layers.append(_Fractal(inside, out, columns))
        inside = out
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, classes))
