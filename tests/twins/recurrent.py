"""Networks that read a sequence step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Final(nn.Module):
    """github.com/bentrevett/pytorch-sentiment-analysis: the last layer's final state of both directions, and a sum of them."""

    def __init__(self, cells: nn.RNNBase, embedding: nn.Module | None = None) -> None:
        super().__init__()
        self.embedding, self.cells = embedding or nn.Identity(), cells
        self.fc = nn.Linear(2 * cells.hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.cells(self.embedding(x))
        hidden = state[0] if isinstance(state, tuple) else state
        return self.fc(torch.cat([hidden[-2], hidden[-1]], 1)).sigmoid()


def lstm_classifier(vocab: int = 25002) -> nn.Module:
    cells = nn.LSTM(100, 256, num_layers=2, bidirectional=True, batch_first=True)
    return _Final(cells, nn.Embedding(vocab, 100))


def gru_classifier() -> nn.Module:
    return _Final(nn.GRU(768, 256, num_layers=2, bidirectional=True, batch_first=True))


class _CharRnn(nn.Module):
    """TensorFlow's tutorial: Embedding, GRU (whose reset gate acts after the product, as PyTorch's), Dense."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.embedding, self.gru, self.dense = nn.Embedding(vocab, 256), nn.GRU(256, 1024, batch_first=True), nn.Linear(1024, vocab)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.gru(self.embedding(x))[0])


def char_rnn(vocab: int = 66) -> nn.Module:
    return _CharRnn(vocab)


class _Elman(nn.Module):
    """Elman 1990, with logistic units."""

    def __init__(self, symbols: int, hidden: int) -> None:
        super().__init__()
        self.input, self.recurrent = nn.Linear(symbols, hidden), nn.Linear(hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, symbols)

    def forward(self, letters: Tensor) -> tuple[Tensor, Tensor]:
        context = letters.new_zeros(len(letters), self.recurrent.in_features)
        seen = []
        for letter in letters.unbind(1):
            context = (self.input(letter) + self.recurrent(context)).sigmoid()
            seen.append(context)
        return self.output(torch.stack(seen, 1)).softmax(-1), context


def elman(symbols: int = 26, hidden: int = 64) -> nn.Module:
    return _Elman(symbols, hidden)


class _Words(nn.Module):
    def __init__(self, vocab: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(vocab, width), nn.LSTM(width, width, layers, batch_first=True)
        self.logits = nn.Linear(width, vocab)

    def forward(self, words: Tensor) -> Tensor:
        return self.logits(self.lstm(self.embedding(words))[0])


def lstm_stacked(vocab: int = 10000, width: int = 650, layers: int = 2) -> nn.Module:
    """Zaremba et al. 2014, the medium network."""
    return _Words(vocab, width, layers)


class _Series(nn.Module):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.cells, self.dense = nn.RNN(features, hidden, batch_first=True), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.cells(x)[1][0])


def rnn(features: int = 28, hidden: int = 128, classes: int = 10) -> nn.Module:
    """Many to one, with tanh."""
    return _Series(features, hidden, classes)
