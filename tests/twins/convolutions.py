"""The pages that compare kinds of convolutions: every result by the layer of torch.nn that makes it directly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Each(nn.Module):
    """Several networks that read the same. results: numbers of those that give them; one can give several."""

    def __init__(self, *parts: nn.Module, results: tuple[int, ...]) -> None:
        super().__init__()
        self.parts, self.results = nn.ModuleList(parts), results

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made = [part(x) for part in self.parts]
        return tuple(made[i] for i in self.results)


def conv_1d(channels: int = 32, out: int = 64, k: int = 5) -> nn.Module:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(channels, out, k, padding=k // 2, bias=False)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            image = F.conv2d(x[:, :, None], self.conv.weight[:, :, None], padding=(0, k // 2))
            return self.conv(x), image[:, :, 0]

    return Both()


def conv_3d(channels: int = 64, between: int = 144) -> nn.Module:
    """C3D's, R(2+1)D's with its rectifier between the two, and of single frames."""

    def conv(a: int, b: int, *k: int) -> nn.Module:
        return nn.Conv3d(a, b, k, padding=tuple(n // 2 for n in k), bias=False)

    apart = nn.Sequential(conv(channels, between, 1, 3, 3), nn.ReLU(), conv(between, channels, 3, 1, 1))
    return Each(conv(channels, channels, 3, 3, 3), apart, conv(channels, channels, 1, 3, 3), results=(0, 1, 2))


def conv_causal(channels: int = 32, steps: int = 1000) -> nn.Module:
    """Zeros are put before the sequence, as many as the kernel reaches back."""

    def layer(k: int, gap: int) -> list[nn.Module]:
        return [nn.ConstantPad1d(((k - 1) * gap, 0), 0.0), nn.Conv1d(channels, channels, k, dilation=gap)]

    dilated = nn.Sequential(*(m for gap in (1, 2, 4, 8) for m in (*layer(2, gap), nn.ReLU())))
    return Each(nn.Sequential(*layer(16, 1)), dilated, results=(0, 1))


def conv_factorized(channels: int = 64) -> nn.Module:
    def conv(*k: int) -> nn.Module:
        return nn.Conv2d(channels, channels, k, padding=tuple(n // 2 for n in k))

    return Each(
        conv(5, 5),
        nn.Sequential(conv(3, 3), nn.ReLU(), conv(3, 3)),
        nn.Sequential(conv(5, 1), nn.ReLU(), conv(1, 5)),
        results=(0, 1, 2),
    )


def conv_transposed() -> nn.Module:
    resized = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(64, 32, 3, padding=1))
    return Each(nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), resized, results=(0, 0, 1))


def conv_bottleneck_1x1(out: int = 32, squeezed: int = 16) -> nn.Module:
    """GoogLeNet's: every convolution is rectified."""
    direct = nn.Sequential(nn.Conv2d(192, out, 5, padding=2), nn.ReLU())
    narrow = nn.Sequential(nn.Conv2d(192, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, out, 5, padding=2), nn.ReLU())
    return Each(direct, narrow, results=(0, 1))


def conv_depthwise(channels: int = 64) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return Each(conv, nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), results=(0, 1, 1))


def conv_dilated(channels: int = 64) -> nn.Module:
    large = nn.Conv2d(channels, channels, 5, padding=2, bias=False)
    return Each(large, nn.Conv2d(channels, channels, 3, padding=2, dilation=2, bias=False), results=(0, 1, 1))


def conv_grouped() -> nn.Module:
    convs = (nn.Conv2d(96, 256, 5, padding=2, groups=g, bias=False) for g in (1, 2))
    return Each(*convs, results=(0, 1, 1))


def conv_im2col() -> nn.Module:
    return Each(nn.Conv2d(32, 64, 3, padding=1, bias=False), results=(0, 0))


def conv_winograd() -> nn.Module:
    return Each(nn.Conv2d(64, 64, 3, padding=1, bias=False), results=(0, 0))


def conv_separable() -> nn.Module:
    separable = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.Conv2d(64, 128, 1, bias=False))
    return Each(nn.Conv2d(64, 128, 3, padding=1, bias=False), separable, results=(0, 1, 1))


def conv_strided(channels: int = 64) -> nn.Module:
    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, 2, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            strided, every = self.conv(x), F.conv2d(x, self.conv.weight, self.conv.bias, padding=1)
            return strided, every[:, :, ::2, ::2], F.max_pool2d(every, 2)

    return Strided()


def unpooling() -> nn.Module:
    class Unpooling(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            pooled, places = F.max_pool2d(x, 2, return_indices=True)
            nails = torch.zeros_like(x)
            nails[:, :, ::2, ::2] = pooled
            larger = [F.interpolate(pooled, scale_factor=2.0, mode=mode) for mode in ("nearest", "bilinear")]
            return pooled, F.max_unpool2d(pooled, places, 2), nails, *larger

    return Unpooling()
