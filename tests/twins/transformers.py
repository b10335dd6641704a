"""Networks of attention."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twins.parts import Weight


class _Encoder(nn.Module):
    """nn.TransformerEncoder with GELU by the error function, or by tanh."""

    def __init__(self, width: int, heads: int, layers: int, first: bool, eps: float, tanh: bool = False) -> None:
        super().__init__()
        act = partial(F.gelu, approximate="tanh") if tanh else F.gelu  # PyTorch takes any nn.GELU for the exact one
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, act, eps, batch_first=True, norm_first=first)
            for _ in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, src_mask=mask)
        return x


def ahead(steps: int) -> Tensor:
    return torch.ones(steps, steps, dtype=torch.bool).triu(1)


class _Vit(nn.Module):
    """torchvision.models.vit_b_16."""

    def __init__(self, classes: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, width, 16, 16)
        self.class_token, self.positions = Weight(1, 1, width), Weight(1, 197, width)
        self.encoder = _Encoder(width, heads, depth, first=True, eps=1e-6)
        self.ln, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.conv_proj(image).flatten(2).mT
        x = torch.cat([self.class_token.value.expand(len(image), -1, -1), patches], 1)
        return self.head(self.ln(self.encoder(x + self.positions.value))[:, 0])


def vit_b16(classes: int = 1000, width: int = 768, depth: int = 12, heads: int = 12) -> nn.Module:
    return _Vit(classes, width, depth, heads)


class _Gpt2(nn.Module):
    """OpenAI's model.py: normalised first, GELU by tanh, logits by the embeddings."""

    def __init__(self, layers: int, width: int, heads: int, vocab: int, context: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.h = _Encoder(width, heads, layers, first=True, eps=1e-5, tanh=True)
        self.ln_f = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        steps = tokens.shape[1]
        x = self.wte(tokens) + self.wpe.weight[:steps]
        return self.ln_f(self.h(x, ahead(steps))) @ self.wte.weight.T


def gpt2(layers: int = 12, width: int = 768, heads: int = 12, vocab: int = 50257, context: int = 1024) -> nn.Module:
    return _Gpt2(layers, width, heads, vocab, context)


class _Bert(nn.Module):
    """BertModel: embeddings of three kinds, layers that normalise last, and the pooler."""

    def __init__(self, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.words, self.kinds, self.positions = (nn.Embedding(n, width) for n in (30522, 2, 512))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.encoder = _Encoder(width, heads, layers, first=False, eps=1e-12)
        self.pooler = nn.Linear(width, width)

    def forward(self, tokens: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(tokens) + self.kinds(segments) + self.positions.weight[: tokens.shape[1]]
        x = self.encoder(self.norm(x))
        return x, self.pooler(x[:, 0]).tanh()


def transformer_encoder(layers: int = 2, width: int = 128, heads: int = 2, steps: int = 128) -> nn.Module:
    return _Bert(layers, width, heads)


class _Transformer(nn.Module):
    """Vaswani et al. 2017, with torch.nn's layers; embeddings are shared, and grow by the root of the width (3.4)."""

    def __init__(self, layers: int, width: int, heads: int, vocab: int) -> None:
        super().__init__()
        self.words, self.width = nn.Embedding(vocab, width), width
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, batch_first=True) for _ in range(layers)
        )
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(width, heads, 4 * width, 0.0, batch_first=True) for _ in range(layers)
        )

    def embed(self, tokens: Tensor) -> Tensor:
        words = self.words(tokens) * self.width**0.5
        place = torch.arange(tokens.shape[1], dtype=words.dtype)[:, None]
        angles = place / 10000 ** (torch.arange(0, self.width, 2, dtype=words.dtype) / self.width)
        return words + torch.stack([angles.sin(), angles.cos()], 2).flatten(1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.embed(source)
        for layer in self.encoder:
            memory = layer(memory)
        y = self.embed(target)
        for layer in self.decoder:
            y = layer(y, memory, tgt_mask=ahead(target.shape[1]))
        return y @ self.words.weight.T


def transformer(layers: int = 6, width: int = 512, heads: int = 8, vocab: int = 37000) -> nn.Module:
    return _Transformer(layers, width, heads, vocab)
