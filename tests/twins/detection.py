"""Networks that find things: raw scores and boxes, and what is made of them."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twins.classic import vgg_features
from twins.parts import Weight, conv_bn


class YoloTiny(nn.Module):
    """Darknet's yolov3-tiny.cfg. Its pool of stride 1 looks one place beyond the image, where nothing counts."""

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        cbl = partial(conv_bn, act=partial(nn.LeakyReLU, 0.1))
        pool, out = partial(nn.MaxPool2d, 2), 3 * (classes + 5)
        self.fine = nn.Sequential(
            cbl(3, 16, 3), pool(), cbl(16, 32, 3), pool(), cbl(32, 64, 3), pool(), cbl(64, 128, 3), pool(), cbl(128, 256, 3)
        )  # fmt: skip
        self.deep, self.deeper, self.neck = cbl(256, 512, 3), cbl(512, 1024, 3), cbl(1024, 256)
        self.head13 = nn.Sequential(cbl(256, 512, 3), nn.Conv2d(512, out, 1))
        self.lateral, self.larger = cbl(256, 128), nn.Upsample(scale_factor=2)
        self.head26 = nn.Sequential(cbl(384, 256, 3), nn.Conv2d(256, out, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x)
        deep = F.pad(self.deep(F.max_pool2d(fine, 2)), (0, 1, 0, 1), value=-float("inf"))
        neck = self.neck(self.deeper(F.max_pool2d(deep, 2, 1)))
        return self.head13(neck), self.head26(torch.cat([self.larger(self.lateral(neck)), fine], 1))


def yolo_v3_tiny(classes: int = 80) -> nn.Module:
    return YoloTiny(classes)


class Ssd(nn.Module):
    """torchvision.models.detection.ssd300_vgg16, before anything is decoded."""

    def __init__(self, classes: int = 91) -> None:
        super().__init__()
        vgg = vgg_features(16)
        vgg[16] = nn.MaxPool2d(2, ceil_mode=True)
        self.first = nn.Sequential(*vgg[:23])
        self.scale = Weight(512)
        self.second = nn.Sequential(
            *vgg[23:30], nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU(),
        )  # fmt: skip

        def extra(inside: int, hidden: int, out: int, s: int, pad: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(inside, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, out, 3, s, pad), nn.ReLU())

        self.extras = nn.ModuleList(
            [extra(1024, 256, 512, 2, 1), extra(512, 128, 256, 2, 1), extra(256, 128, 256, 1, 0), extra(256, 128, 256, 1, 0)]
        )  # fmt: skip
        widths, anchors = (512, 1024, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4)
        self.classify, self.regress = (
            nn.ModuleList(nn.Conv2d(w, a * of, 3, padding=1) for w, a in zip(widths, anchors)) for of in (classes, 4)
        )
        self.classes = classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        maps = [F.normalize(x) * self.scale.value[:, None, None], self.second(x)]
        for layer in self.extras:
            maps.append(layer(maps[-1]))

        def head(convs: nn.ModuleList, of: int) -> Tensor:
            parts = []
            for conv, features in zip(convs, maps):
                y = conv(features)
                n, _, h, w = y.shape
                parts.append(y.view(n, -1, of, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, of))
            return torch.cat(parts, 1)

        return head(self.classify, self.classes), head(self.regress, 4)


def ssd300(classes: int = 91) -> nn.Module:
    return Ssd(classes)


def roi_pool(x: Tensor, regions: Tensor, size: int, scale: float) -> Tensor:
    """Girshick's layer in Caffe: corners rounded (halves away from 0), each part at least one place, parts may overlap."""

    def rounded(v: Tensor) -> list[int]:
        return [int(a) for a in torch.sign(v) * torch.floor(v.abs() + 0.5)]

    out = x.new_zeros(len(regions), x.shape[1], size, size)
    for r, region in enumerate(regions):
        x1, y1, x2, y2 = rounded(region[1:] * scale)
        high, wide = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i in range(size):
            top, bottom = (min(max(v + y1, 0), x.shape[2]) for v in (i * high // size, -(-(i + 1) * high // size)))
            for j in range(size):
                left, right = (min(max(v + x1, 0), x.shape[3]) for v in (j * wide // size, -(-(j + 1) * wide // size)))
                if top < bottom and left < right:
                    out[r, :, i, j] = x[int(region[0]), :, top:bottom, left:right].amax((1, 2))
    return out


class FastRcnn(nn.Module):
    """Girshick 2015: VGG-16 to its last convolution, a pool over each region, two layers, and two that tell."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.features = nn.Sequential(*vgg_features(16)[:-1])
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()
        )  # fmt: skip
        self.scores, self.boxes = nn.Linear(4096, classes), nn.Linear(4096, 4 * classes)

    def forward(self, image: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        y = self.hidden(roi_pool(self.features(image), regions, 7, 1 / 16))
        return self.scores(y).softmax(1), self.boxes(y)


def fast_rcnn(classes: int = 21, **size: int) -> nn.Module:
    return FastRcnn(classes)


class FasterRcnn(nn.Module):
    """Ren et al. 2015, section 3; anchors of the paper's areas and shapes about the middle of each place."""

    def __init__(self, classes: int, height: int, width: int) -> None:
        super().__init__()
        self.size = height, width
        whole = FastRcnn(classes)
        self.features = whole.features
        self.seen = nn.Sequential(nn.Conv2d(512, 512, 3, padding=1), nn.ReLU())
        self.objectness, self.offsets = nn.Conv2d(512, 18, 1), nn.Conv2d(512, 36, 1)
        self.hidden, self.scores, self.boxes = whole.hidden, whole.scores, whole.boxes

    def proposals(self, scores: Tensor, offsets: Tensor) -> Tensor:
        """The 300 best of one image's boxes [places·9, 4] that overlap no better one by more than 0.7."""
        height, width = self.size
        boxes = []
        for place, shift in enumerate(offsets.tolist()):
            place, anchor = divmod(place, 9)
            row, column = divmod(place, width // 16)
            ratio, size = (0.5, 1.0, 2.0)[anchor // 3], (128, 256, 512)[anchor % 3]  # ratio: height to width
            w, h = size / ratio**0.5, size * ratio**0.5
            x, y = (column + 0.5) * 16 + shift[0] * w, (row + 0.5) * 16 + shift[1] * h
            w, h = w * math.exp(shift[2]), h * math.exp(shift[3])
            x1, x2 = (min(max(v, 0.0), width) for v in (x - w / 2, x + w / 2))
            y1, y2 = (min(max(v, 0.0), height) for v in (y - h / 2, y + h / 2))
            boxes.append((x1, y1, x2, y2))
        kept: list[tuple] = []
        for i in scores.argsort(descending=True, stable=True).tolist():
            if len(kept) < 300 and all(_iou(boxes[i], other) <= 0.7 for other in kept):
                kept.append(boxes[i])
        return offsets.new_tensor(kept)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(image)
        seen = self.seen(features)
        n = len(image)
        objectness = self.objectness(seen).permute(0, 2, 3, 1).reshape(n, -1, 2).softmax(2)[..., 1]
        offsets = self.offsets(seen).permute(0, 2, 3, 1).reshape(n, -1, 4)
        regions = []
        for i in range(n):
            found = self.proposals(objectness[i], offsets[i])
            regions.append(torch.cat([found.new_full((len(found), 1), i), found], 1))
        every = torch.cat(regions)
        y = self.hidden(roi_pool(features, every, 7, 1 / 16))
        return every, self.scores(y).softmax(1), self.boxes(y)


def _iou(a: tuple, b: tuple) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both and both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def faster_rcnn(height: int, width: int, classes: int = 21) -> nn.Module:
    return FasterRcnn(classes, height, width)
