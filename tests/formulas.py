"""Layers in NumPy, as their formulas say, for tests of whole networks. w: weights by name."""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def swish(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def dense(w: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def windows(x: np.ndarray, k: int, pad: int = 0, s: int = 1) -> np.ndarray:
    """[batch, channels, height, width] -> [batch, channels, places down, places across, k, k]."""
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::s, ::s]


def conv(w: Arrays, name: str, x: np.ndarray, pad: int = 0, s: int = 1) -> np.ndarray:
    taps = w[f"{name}.weight"]
    y = np.tensordot(windows(x, taps.shape[2], pad, s), taps, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)
    return y + w.get(f"{name}.bias", np.zeros(1))[:, None, None]


def maxpool(x: np.ndarray) -> np.ndarray:
    return windows(x, 2, 0, 2).max((4, 5))


def groupnorm(w: Arrays, name: str, x: np.ndarray, groups: int) -> np.ndarray:
    """As many groups as channels: instance normalisation."""
    g = x.reshape(len(x), groups, -1)
    y = ((g - g.mean(2, keepdims=True)) / np.sqrt(g.var(2, keepdims=True) + 1e-5)).reshape(x.shape)
    return y * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]


def layernorm(w: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return y * w[f"{name}.weight"] + w[f"{name}.bias"]


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, causal: bool = False) -> np.ndarray:
    """softmax(QKᵀ/√d)V of each head, of [batch, steps, features]; causal: the last query sees the last key."""
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2) for x in (q, k, v))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3])
    if causal:
        n, m = scores.shape[2:]
        scores = np.where(np.arange(m) <= np.arange(m - n, m)[:, None], scores, -np.inf)
    mixed = (softmax(scores) @ v).swapaxes(1, 2)
    return mixed.reshape(*mixed.shape[:2], -1)
