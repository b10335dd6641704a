"""A class for every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twins.classic import vgg_features
from twins.parts import conv_bn


class UNet(nn.Module):
    """github.com/milesial/Pytorch-UNet, bilinear=False."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()

        def twice(inside: int, out: int) -> nn.Module:
            return nn.Sequential(conv_bn(inside, out, 3), conv_bn(out, out, 3))

        widths = [width << i for i in range(5)]
        self.down = nn.ModuleList(twice(a, b) for a, b in zip([3, *widths], widths))
        pairs = [(2 * w, w) for w in reversed(widths[:-1])]
        self.up = nn.ModuleList(nn.ModuleList([nn.ConvTranspose2d(a, b, 2, 2), twice(a, b)]) for a, b in pairs)
        self.outc = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, layer in enumerate(self.down):
            x = layer(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        kept.pop()
        for larger, layer in self.up:
            x = layer(torch.cat([kept.pop(), larger(x)], 1))
        return self.outc(x)


def unet(classes: int = 2, width: int = 64) -> nn.Module:
    return UNet(classes, width)


class SegNet(nn.Module):
    """Badrinarayanan et al. 2015: VGG-16's convolutions with batch norm, and back; convolutions have biases as theirs in Caffe."""

    def __init__(self, classes: int) -> None:
        super().__init__()

        def stage(*widths: int) -> nn.Module:
            layers: list[nn.Module] = []
            for a, b in zip(widths, widths[1:]):
                layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
            return nn.Sequential(*layers)

        self.there = nn.ModuleList(
            [stage(3, 64, 64), stage(64, 128, 128), stage(128, 256, 256, 256), stage(256, 512, 512, 512), stage(512, 512, 512, 512)]
        )  # fmt: skip
        self.back = nn.ModuleList(
            [stage(512, 512, 512, 512), stage(512, 512, 512, 256), stage(256, 256, 256, 128), stage(128, 128, 64), stage(64, 64)]
        )  # fmt: skip
        self.classify = nn.Conv2d(64, classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for layer in self.there:
            x = layer(x)
            size = x.shape
            x, places = F.max_pool2d(x, 2, return_indices=True)
            kept.append((places, size))
        for layer in self.back:
            places, size = kept.pop()
            x = layer(F.max_unpool2d(x, places, 2, output_size=size[2:]))
        return self.classify(x)


def segnet(classes: int = 12) -> nn.Module:
    return SegNet(classes)


class Fcn(nn.Module):
    """voc-fcn32s, voc-fcn16s and voc-fcn8s of github.com/shelhamer/fcn.berkeleyvision.org. Caffe's pools round sizes up.

    steps: how often scores of an earlier pool are added; the crops are those of its files."""

    def __init__(self, classes: int, steps: int) -> None:
        super().__init__()
        vgg = vgg_features(16)
        vgg[0] = nn.Conv2d(3, 64, 3, padding=100)
        for i, layer in enumerate(vgg):
            if isinstance(layer, nn.MaxPool2d):
                vgg[i] = nn.MaxPool2d(2, ceil_mode=True)
        self.pool3, self.pool4, self.pool5 = (nn.Sequential(*vgg[a:b]) for a, b in ((0, 17), (17, 24), (24, 31)))
        self.fc = nn.Sequential(
            nn.Conv2d(512, 4096, 7), nn.ReLU(), nn.Dropout(), nn.Conv2d(4096, 4096, 1), nn.ReLU(), nn.Dropout()
        )  # fmt: skip
        self.score = nn.Conv2d(4096, classes, 1)
        adds = []
        for width in (512, 256)[:steps]:
            adds += [nn.ConvTranspose2d(classes, classes, 4, 2, bias=False), nn.Conv2d(width, classes, 1)]
        self.adds = nn.ModuleList(adds)
        s = 32 >> steps
        self.enlarge = nn.ConvTranspose2d(classes, classes, 2 * s, s, bias=False)
        self.offset = {0: 19, 1: 27, 2: 31}[steps]

    def forward(self, image: Tensor) -> Tensor:
        pool3 = self.pool3(image)
        pool4 = self.pool4(pool3)
        y = self.score(self.fc(self.pool5(pool4)))
        for larger, score, pool, at in zip(self.adds[::2], self.adds[1::2], (pool4, pool3), (5, 9)):
            y = larger(y)
            y = y + score(pool)[:, :, at : at + y.shape[2], at : at + y.shape[3]]
        (h, w), at = image.shape[2:], self.offset
        return self.enlarge(y)[:, :, at : at + h, at : at + w]


def fcn32s(classes: int = 21, size: int = 500) -> nn.Module:
    return Fcn(classes, 0)


def fcn16s(classes: int = 21, size: int = 500) -> nn.Module:
    return Fcn(classes, 1)


def fcn8s(classes: int = 21, size: int = 500) -> nn.Module:
    return Fcn(classes, 2)
