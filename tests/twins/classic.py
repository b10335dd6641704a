"""The first convolutional networks, and those that are one layer after the other."""

from __future__ import annotations

from torch import nn

from twins.parts import pooled


def lenet5() -> nn.Module:
    """LeCun et al. 1998, figure 2, with what frameworks teach in place of trained pools, sparse connections and RBF outputs."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def lenet5_bn() -> nn.Module:
    """LeNet-5 with batch norm between each sum and its tanh, in place of the sum's bias."""

    def conv(a: int, b: int, pad: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 5, padding=pad, bias=False), nn.BatchNorm2d(b), nn.Tanh(), nn.AvgPool2d(2)]

    def dense(a: int, b: int) -> list[nn.Module]:
        return [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.Tanh()]

    return nn.Sequential(
        *conv(1, 6, 2), *conv(6, 16, 0), nn.Flatten(), *dense(400, 120), *dense(120, 84), nn.Linear(84, 10)
    )  # fmt: skip


def alexnet_2012(classes: int = 1000) -> nn.Module:
    """Krizhevsky et al. 2012, 3.2 to 3.5: two groups, and a norm whose squares are added, not averaged."""

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2)

    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        *_classifier(256 * 36, classes),
    )  # fmt: skip


def _classifier(features: int, classes: int) -> list[nn.Module]:
    return [
        nn.Flatten(),
        nn.Linear(features, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, classes),
    ]  # fmt: skip


def alexnet(classes: int = 1000) -> nn.Module:
    """torchvision.models.alexnet."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6), *_classifier(256 * 36, classes),
    )  # fmt: skip


def zfnet(classes: int = 1000) -> nn.Module:
    """Zeiler, Fergus 2013, figure 3 (maps of 110, 55, 26, 13, 6); normalisation as Caffe's AlexNet has it."""

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)

    return nn.Sequential(
        nn.Conv2d(3, 96, 7, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), norm(),
        nn.Conv2d(96, 256, 5, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), norm(),
        nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2),
        *_classifier(256 * 36, classes),
    )  # fmt: skip


def nin(classes: int = 10) -> nn.Module:
    """The authors' network for CIFAR-10 in Caffe, whose pools round sizes up."""

    def block(inside: int, k: int, *widths: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for out in widths:
            layers += [nn.Conv2d(inside, out, k, padding=k // 2), nn.ReLU()]
            inside, k = out, 1
        return layers

    return pooled(
        nn.Sequential(
            *block(3, 5, 192, 160, 96), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(),
            *block(96, 5, 192, 192, 192), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(),
            *block(192, 3, 192, 192, classes),
        )
    )  # fmt: skip


VGG = {
    11: [1, 1, 2, 2, 2],
    13: [2, 2, 2, 2, 2],
    16: [2, 2, 3, 3, 3],
    19: [2, 2, 4, 4, 4],
}


def vgg_features(depth: int) -> list[nn.Module]:
    """Simonyan, Zisserman 2014, table 1; configurations A, B, D, E."""
    layers: list[nn.Module] = []
    inside = 3
    for count, out in zip(VGG[depth], (64, 128, 256, 512, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(inside, out, 3, padding=1), nn.ReLU()]
            inside = out
        layers.append(nn.MaxPool2d(2))
    return layers


def _vgg(depth: int, classes: int) -> nn.Module:
    return nn.Sequential(*vgg_features(depth), nn.AdaptiveAvgPool2d(7), *_classifier(512 * 49, classes))


def vgg11(classes: int = 1000) -> nn.Module:
    return _vgg(11, classes)


def vgg13(classes: int = 1000) -> nn.Module:
    return _vgg(13, classes)


def vgg16(classes: int = 1000) -> nn.Module:
    return _vgg(16, classes)


def vgg19(classes: int = 1000) -> nn.Module:
    return _vgg(19, classes)


def vgg16_bn(classes: int = 1000, size: int = 224, hidden: int = 4096) -> nn.Module:
    """torchvision.models.vgg16_bn, whose convolutions have biases, too."""
    layers: list[nn.Module] = []
    for layer in vgg_features(16):
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    return nn.Sequential(
        *layers, nn.Flatten(),
        nn.Linear(512 * (size // 32) ** 2, hidden), nn.ReLU(), nn.Dropout(),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes),
    )  # fmt: skip
