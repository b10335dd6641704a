"""What many networks are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def conv_bn(
    inside: int,
    out: int,
    k: int | tuple[int, int] = 1,
    s: int = 1,
    pad: int | tuple[int, int] | None = None,
    groups: int = 1,
    act: Callable[[], nn.Module] | None = nn.ReLU,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution without a bias, batch norm, activation. pad: half of the kernel unless given."""
    if pad is None:
        pad = k // 2 if isinstance(k, int) else (k[0] // 2, k[1] // 2)
    layers = [nn.Conv2d(inside, out, k, s, pad, groups=groups, bias=False), nn.BatchNorm2d(out, eps=eps)]
    return nn.Sequential(*layers, *([] if act is None else [act()]))


class Squeeze(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        act: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.fc1, self.act = nn.Conv2d(channels, hidden, 1), act()
        self.fc2, self.gate = nn.Conv2d(hidden, channels, 1), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))))


class Residual(nn.Module):
    """act(main(x) + shortcut(x))."""

    def __init__(self, main: nn.Module, shortcut: nn.Module | None = None, act: nn.Module | None = None) -> None:
        super().__init__()
        self.main, self.shortcut, self.act = main, shortcut or nn.Identity(), act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.main(x) + self.shortcut(x))


class Paths(nn.Module):
    """Several ways from one input, side by side in the channels."""

    def __init__(self, *paths: nn.Module) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self.paths], 1)


class Weight(nn.Module):
    """A learned tensor by itself."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))


def pooled(features: nn.Module, *head: nn.Module) -> nn.Sequential:
    """Features, their mean over the image, and what reads it."""
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def divisible(value: float, by: int = 8) -> int:
    """The nearest multiple, not less than nine tenths of the value (torchvision's _make_divisible)."""
    new = max(by, int(value + by / 2) // by * by)
    return new + by if new < 0.9 * value else new
