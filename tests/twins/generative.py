"""Networks that make images, or make them again."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from twins.parts import Residual


def autoencoder() -> nn.Module:
    """Chollet's "Building autoencoders in Keras", the deep one."""
    return _Autoencoder()


class _Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def chain(*widths: int) -> nn.Sequential:
            return nn.Sequential(*(m for a, b in zip(widths, widths[1:]) for m in (nn.Linear(a, b), nn.ReLU())))

        self.encoder, self.decoder = chain(784, 128, 64, 32), chain(32, 64, 128)
        self.last = nn.Linear(128, 784)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(image)
        return self.last(self.decoder(code)).sigmoid(), code


class _VaeEncoder(nn.Module):
    """Keras' example: two convolutions of stride 2 with padding 'same', which is behind; mean and log-variance."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, 2), nn.Conv2d(32, 64, 3, 2)
        self.dense, self.mean, self.variance = nn.Linear(7 * 7 * 64, 16), nn.Linear(16, latent), nn.Linear(16, latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for conv in (self.conv1, self.conv2):
            x = conv(F.pad(x, (0, 1, 0, 1))).relu()
        x = self.dense(x.flatten(1)).relu()
        return self.mean(x), self.variance(x)


def vae_encoder(latent: int = 2) -> nn.Module:
    return _VaeEncoder(latent)


class _VaeDecoder(nn.Module):
    """Keras' example. Conv2DTranspose with padding 'same' is the gradient of a convolution whose padding is behind."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.dense = nn.Linear(latent, 7 * 7 * 64)
        self.up1, self.up2 = nn.ConvTranspose2d(64, 64, 3, 2), nn.ConvTranspose2d(64, 32, 3, 2)
        self.last = nn.ConvTranspose2d(32, 1, 3, 1, 1)

    def forward(self, code: Tensor) -> Tensor:
        x = self.dense(code).relu().view(-1, 64, 7, 7)
        for up in (self.up1, self.up2):
            x = up(x)[:, :, :-1, :-1].relu()
        return self.last(x).sigmoid()


def vae_decoder(latent: int = 2) -> nn.Module:
    return _VaeDecoder(latent)


class _Vae(nn.Module):
    def __init__(self, latent: int) -> None:
        super().__init__()
        self.encoder, self.decoder = _VaeEncoder(latent), _VaeDecoder(latent)

    def forward(self, image: Tensor, seed: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(image)
        return self.decoder(code), code, mean, (log_variance / 2).exp()


def vae(latent: int = 2) -> nn.Module:
    """The code, which is drawn, is given."""
    return _Vae(latent)


def dcgan_generator(width: int = 64, colours: int = 3) -> nn.Module:
    """PyTorch's DCGAN tutorial."""

    def up(inside: int, out: int, s: int, pad: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(inside, out, 4, s, pad, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(
        *up(100, 8 * width, 1, 0), *up(8 * width, 4 * width, 2, 1), *up(4 * width, 2 * width, 2, 1), *up(2 * width, width, 2, 1),
        nn.ConvTranspose2d(width, colours, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def espcn(scale: int = 3) -> nn.Module:
    """Shi et al. 2016, 3.2: (f, n) of (5, 64), (3, 32), 3."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh(),
        nn.Conv2d(32, scale**2, 3, padding=1), nn.PixelShuffle(scale),
    )  # fmt: skip


def srcnn() -> nn.Module:
    """Dong et al. 2014: 9-5-5, with 64 and 32 filters, without padding."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 9), nn.ReLU(), nn.Conv2d(64, 32, 5), nn.ReLU(), nn.Conv2d(32, 1, 5)
    )  # fmt: skip


class _Scaled(nn.Module):
    def __init__(self, c: int, by: float) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1))
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by * self.main(x)


def edsr(n: int = 16, c: int = 64, by: float = 1.0) -> nn.Module:
    """EDSR-PyTorch's baseline for twice the size, without the mean of its pictures."""
    body = nn.Sequential(*(_Scaled(c, by) for _ in range(n)), nn.Conv2d(c, c, 3, padding=1))
    tail = (nn.Conv2d(c, 4 * c, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(c, 3, 3, padding=1))
    return nn.Sequential(nn.Conv2d(3, c, 3, padding=1), Residual(body), *tail)
