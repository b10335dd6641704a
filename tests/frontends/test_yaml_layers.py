"""Every layer with a definition of its own, against NumPy; by the reference, by compiled code, and by ONNX Runtime."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

import graphc
from graphc.backends.reference import run
from graphc.cli import main
from graphc.errors import GraphcError
from graphc.frontends.onnx_export import to_onnx
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Graph
from graphc.types import Sym

RNG = np.random.default_rng(0)
Arrays = Mapping[str, np.ndarray]


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def load(inputs: str, net: str, outputs: str = "") -> Graph:
    text = f"graphc: 1\ninputs: {{{inputs}}}\nnet: {net}\n" + (f"outputs: {outputs}\n" if outputs else "")
    return loads_yaml(text, file="m.yaml")


def weights(graph: Graph) -> dict[str, np.ndarray]:
    """By the last part of the name: 'in.weight' of 'net.0.attention.in.weight'."""
    return {re.sub(r"^net\.\d+\.[a-z_]+\.", "", v.name): v.data for v in graph.constants()}


def onnx_runtime(graph: Graph, feeds: Arrays) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(to_onnx(graph).SerializeToString(), options).run(None, dict(feeds))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# --- what layers compute ----------------------------------------------------------------------------------------------
X = floats(3, 7)
R = floats(4, 7)
IDS = np.array([2, 0, 3], np.int64)
IMAGE = floats(2, 8, 6, 4)
WIDE = floats(3, 4, 5, 6)
SEQUENCE = floats(2, 5, 6)
MEMORY = floats(2, 3, 4)
STATE = floats(2, 4)
FEATURES = {"x": "[n, 7]"}
IMAGES = {"x": "[n, 8, 6, 4]"}


def sort_top(x: np.ndarray, k: int) -> np.ndarray:
    return -np.sort(-x, axis=-1)[:, :k]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).sum(1, keepdims=True))


def blocks(x: np.ndarray, r: int) -> np.ndarray:
    """pixel_unshuffle by hand."""
    return np.stack([x[:, c, i::r, j::r] for c in range(x.shape[1]) for i in range(r) for j in range(r)], 1)


def positions(steps: int, features: int) -> np.ndarray:
    out = np.empty((steps, features))
    for p in range(steps):
        for i in range(0, features, 2):
            angle = p / 10000 ** (i / features)
            out[p, i] = math.sin(angle)
            if i + 1 < features:
                out[p, i + 1] = math.cos(angle)
    return out


def masked(x: np.ndarray) -> np.ndarray:
    out = x.copy()
    for q in range(x.shape[-2]):
        out[..., q, q + 1 :] = -np.inf
    return out


def heads_of(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, causal: bool) -> np.ndarray:
    """Attention of one head after the other."""
    size = q.shape[2] // heads
    out = np.empty_like(q)
    for h in range(heads):
        at = np.s_[:, :, h * size : (h + 1) * size]
        scores = q[at] @ k[at].swapaxes(1, 2) / math.sqrt(size)
        out[at] = softmax(masked(scores) if causal else scores) @ v[at]
    return out


def self_attention(x: np.ndarray, w: Arrays, heads: int, causal: bool) -> np.ndarray:
    q, k, v = np.split(x @ w["in.weight"].T + w["in.bias"], 3, 2)
    return heads_of(q, k, v, heads, causal) @ w["out.weight"].T + w["out.bias"]


def cross_attention(x: np.ndarray, m: np.ndarray, w: Arrays, heads: int, causal: bool = False) -> np.ndarray:
    k, v = np.split(m @ w["memory.weight"].T + w["memory.bias"], 2, 2)
    q = x @ w["query.weight"].T + w["query.bias"]
    return heads_of(q, k, v, heads, causal) @ w["out.weight"].T + w["out.bias"]


def conv2d(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Same padding, odd kernel, by sums over the taps."""
    k = w.shape[2]
    p = np.pad(x, [(0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    h, wide = x.shape[2:]
    taps = (
        np.einsum("oc,nchw->nohw", w[:, :, i, j], p[:, :, i : i + h, j : j + wide]) for i in range(k) for j in range(k)
    )
    return sum(taps)


def conv_lstm(x: np.ndarray, w: Arrays, peep: bool = False, h=None, c=None) -> tuple[list[np.ndarray], np.ndarray]:
    """x [steps, batch, channels, height, width]; every h, and the last c."""
    hidden = w["r.weight"].shape[1]
    zero = np.zeros((x.shape[1], hidden, *x.shape[3:]), np.float32)
    h, c = zero if h is None else h, zero if c is None else c
    p = np.split(w["peephole"], 3) if peep else [0, 0, 0]
    out = []
    for step in x:
        read = conv2d(step, w["w.weight"]) if "w.weight" in w else 0
        i, o, f, g = np.split(read + w["bias"][:, None, None] + conv2d(h, w["r.weight"]), 4, axis=1)
        c_new = sigmoid(f + p[2] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
        h, c = sigmoid(o + p[1] * c_new) * np.tanh(c_new), c_new
        out.append(h)
    return out, c


def peephole_lstm(x: np.ndarray, w: Arrays, direction: int = 0) -> np.ndarray:
    W, R_, B, P = (w[f"l0.{k}"][direction] for k in "wrbp")
    n = R_.shape[1]
    (pi, po, pf), b = np.split(P, 3), B[: 4 * n] + B[4 * n :]
    h = c = np.zeros((len(x), n), np.float32)
    out = []
    for t in range(x.shape[1]):
        i, o, f, g = np.split(x[:, t] @ W.T + h @ R_.T + b, 4, axis=1)
        c_new = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * np.tanh(g)
        h, c = sigmoid(o + po * c_new) * np.tanh(c_new), c_new
        out.append(h)
    return np.stack(out, 1)


def recurrent(kind: str, x: np.ndarray, w: Arrays, *state: np.ndarray) -> list[np.ndarray]:
    """Every h of [batch, steps, features], and the state behind the last step."""
    W, R_, (B, C) = w["l0.w"][0], w["l0.r"][0], np.split(w["l0.b"][0], 2)
    h, *c = state or [np.zeros((len(x), R_.shape[1]), np.float32)] * (2 if kind == "lstm" else 1)
    out = []
    for t in range(x.shape[1]):
        a, b = x[:, t] @ W.T + B, h @ R_.T + C
        if kind == "rnn":
            h = np.tanh(a + b)
        elif kind == "gru":
            (z, r, n), (y, q, m) = np.split(a, 3, 1), np.split(b, 3, 1)
            z, r = sigmoid(z + y), sigmoid(r + q)
            h = (1 - z) * np.tanh(n + r * m) + z * h
        else:
            i, o, f, g = np.split(a + b, 4, 1)
            c = [sigmoid(f) * c[0] + sigmoid(i) * np.tanh(g)]
            h = sigmoid(o) * np.tanh(c[0])
        out.append(h)
    return [np.stack(out, 1), h, *c]


def local_contrast(x: np.ndarray, k: int) -> np.ndarray:
    d = np.arange(k) - k // 2
    g = np.exp(-(d[:, None] ** 2 + d**2) / (2 * (k / 6) ** 2))
    g = np.broadcast_to(g / g.sum() / x.shape[1], (1, x.shape[1], k, k))
    v = x - conv2d(x, g)
    s = np.sqrt(conv2d(v * v, g))
    return v / np.maximum(s, s.mean((2, 3), keepdims=True))


def squeezed(x: np.ndarray, w: Arrays, gate: Callable, act: Callable) -> np.ndarray:
    y = act(x.mean((2, 3)) @ w["reduce.weight"][:, :, 0, 0].T + w["reduce.bias"])
    return x * gate(y @ w["expand.weight"][:, :, 0, 0].T + w["expand.bias"])[:, :, None, None]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def swish(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def maxout(x: np.ndarray, w: Arrays, out: int) -> np.ndarray:
    return (x @ w["weight"].T + w["bias"]).reshape(*x.shape[:-1], out, -1).max(-1)


def unpooled(x: np.ndarray) -> np.ndarray:
    """Largest of every 2x2, where it stood."""
    out = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2):
        part = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        a, b = np.unravel_index(part.argmax(), (2, 2))
        out[n, c, 2 * i + a, 2 * j + b] = part[a, b]
    return out


# name: inputs, their arrays, the net, what it gives (a function of the arrays and the weights), the outputs
CASES: dict[str, tuple] = {
    "argmax": (FEATURES, [X], "[argmax]", lambda x, w: x.argmax(-1)),
    "argmax of axis 0": (FEATURES, [X], "[{argmax: {axis: 0, keepdims: true}}]", lambda x, w: x.argmax(0)[None]),
    "argmin": (FEATURES, [X], "[{argmin: 1}]", lambda x, w: x.argmin(1)),
    "topk": (FEATURES, [X], "[{topk: 3, as: [v, i]}]", lambda x, w: [sort_top(x, 3), np.argsort(-x, 1)[:, :3]], "[v, i]"),
    "smallest": (FEATURES, [X], "[{topk: {k: 2, largest: false}}]", lambda x, w: np.sort(x, 1)[:, :2]),
    "gather": ({"t": "[k, 7]", "i": "{shape: [n], dtype: int64}"}, [R, IDS], "[{gather: {from: [t, i]}}]", lambda t, i, w: t[i]),
    "gather by index": (FEATURES, [X], "[{gather: {index: [4, 4, 0], axis: 1}}]", lambda x, w: x[:, [4, 4, 0]]),
    "gather one": (FEATURES, [X], "[{gather: {index: -1, axis: 1}}]", lambda x, w: x[:, -1]),
    "one_hot": ({"i": "{shape: [n], dtype: int64}"}, [IDS], "[{one_hot: 5}]", lambda i, w: np.eye(5, dtype=np.float32)[i]),
    "equal": ({"i": "{shape: [n], dtype: int64}"}, [IDS], "[{equal: 3}]", lambda i, w: i == 3),
    "greater": (FEATURES, [X], "[{greater: 0.5}]", lambda x, w: x > 0.5),
    "greater_equal": (FEATURES, [X], "[{greater_equal: {from: [x, x]}}]", lambda x, w: x >= x),
    "less": (FEATURES, [X], "[{neg: {as: y}}, {less: {from: [x, y]}}]", lambda x, w: x < -x),
    "less_equal": (FEATURES, [X], "[{less_equal: 0}]", lambda x, w: x <= 0),
    "where": (FEATURES, [X], "[{greater: {to: 0, as: c}}, {neg: {from: x, as: y}}, {where: {from: [c, x, y]}}]", lambda x, w: abs(x)),
    "where other": (FEATURES, [X], "[{greater: {to: 0, as: c}}, {where: {from: [c, x], other: -1e9}}]", lambda x, w: np.where(x > 0, x, np.float32(-1e9))),
    "heaviside": (FEATURES, [X], "[{heaviside: 0.25}]", lambda x, w: np.float32(x >= 0.25)),
    "sign": (FEATURES, [X], "[sign]", lambda x, w: np.sign(x)),
    "cumsum": (FEATURES, [X], "[cumsum]", lambda x, w: np.cumsum(x, 1)),
    "cumsum from the end": (FEATURES, [X], "[{cumsum: {axis: 0, exclusive: true, reverse: true}}]", lambda x, w: np.cumsum(x[::-1], 0)[::-1] - x),
    "norm": (FEATURES, [X], "[norm]", lambda x, w: np.sqrt((x**2).sum(1))),
    "norm 1": (FEATURES, [X], "[{norm: {p: 1, axis: [0, 1], keepdims: true}}]", lambda x, w: abs(x).sum(keepdims=True)),
    "normalize": (FEATURES, [np.vstack([X, 0 * X[:1]])], "[normalize]", lambda x, w: np.vstack([unit(x[:3]), 0 * x[:1]])),
    "normalize 1": (FEATURES, [X], "[{normalize: 1}]", lambda x, w: x / abs(x).sum(1, keepdims=True)),
    "euclidean": ({"x": "[n, 7]", "r": "[k, 7]"}, [X, R], "[{distance: {from: [x, r]}}]", lambda x, r, w: np.sqrt(((x[:, None] - r) ** 2).sum(2))),
    "squared": ({"x": "[n, 7]", "r": "[k, 7]"}, [X, R], "[{distance: {metric: squared, from: [x, r]}}]", lambda x, r, w: ((x[:, None] - r) ** 2).sum(2)),
    "manhattan": (FEATURES, [X], "[{distance: {metric: manhattan, rows: 3}}]", lambda x, w: abs(x[:, None] - w["weight"]).sum(2)),
    "cosine": ({"x": "[n, 7]", "r": "[k, 7]"}, [X, R], "[{distance: {metric: cosine, from: [x, r]}}]", lambda x, r, w: 1 - unit(x) @ unit(r).T),
    "gram": ({"x": "[n, 4, h, w]"}, [WIDE], "[gram]", lambda x, w: np.einsum("nahw,nbhw->nab", x, x)),
    "gram mean": ({"x": "[n, 4, 5, 6]"}, [WIDE], "[{gram: {mean: true}}]", lambda x, w: np.einsum("nahw,nbhw->nab", x, x) / 120),
    "standardize": (IMAGES, [IMAGE], "[{standardize: {mean: 0.5, std: [1, 2, 3, 4, 5, 6, 7, 8]}}]", lambda x, w: (x - 0.5) / np.arange(1, 9)[:, None, None]),
    "zscore": (FEATURES, [X], "[zscore]", lambda x, w: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)),
    "minmax": (IMAGES, [IMAGE], "[{minmax: {axis: [1, 2, 3], low: -1}}]", lambda x, w: 2 * (x - (a := x.min((1, 2, 3), keepdims=True))) / (x.max((1, 2, 3), keepdims=True) - a) - 1),
    "local_contrast": (IMAGES, [IMAGE], "[{local_contrast: 5}]", lambda x, w: local_contrast(x, 5)),
    "pool and unpool": (IMAGES, [IMAGE], "[{maxpool: {indices: true, as: [p, i]}}, {unpool: {from: [p, i]}}]", lambda x, w: unpooled(x)),
    "pixel_shuffle": ({"x": "[n, 8, h, w]"}, [blocks(IMAGE[:, :2], 2)], "[pixel_shuffle]", lambda x, w: IMAGE[:, :2]),
    "pixel_unshuffle": ({"x": "[n, 8, h, w]"}, [IMAGE], "[{pixel_unshuffle: 2}]", lambda x, w: blocks(x, 2)),
    "channel_shuffle": (IMAGES, [IMAGE], "[{channel_shuffle: 2}]", lambda x, w: x[:, [0, 4, 1, 5, 2, 6, 3, 7]]),
    "channel_shuffle of any size": ({"x": "[n, 8, h, w]"}, [IMAGE], "[{channel_shuffle: 4}]", lambda x, w: x[:, [0, 2, 4, 6, 1, 3, 5, 7]]),
    "positions": ({"x": "[n, 5, 6]"}, [SEQUENCE], "[positions]", lambda x, w: x + positions(5, 6)),
    "positions of any number": ({"x": "[n, t, 6]"}, [SEQUENCE], "[positions]", lambda x, w: x + positions(5, 6)),
    "learned positions": ({"x": "[n, 5, 6]"}, [SEQUENCE], "[{positions: learned}]", lambda x, w: x + w["weight"]),
    "some of learned positions": ({"x": "[n, 5, 6]"}, [SEQUENCE], "[{positions: {kind: learned, rows: 9}}]", lambda x, w: x + w["weight"][:5]),
    "learned positions of any number": ({"x": "[n, t, 6]"}, [SEQUENCE], "[{positions: {kind: learned, rows: 9}}]", lambda x, w: x + w["weight"][:5]),
    "causal_mask": ({"x": "[n, q, k]"}, [SEQUENCE], "[causal_mask]", lambda x, w: masked(x)),
    "causal_mask of fixed steps": ({"x": "[n, 5, 6]"}, [SEQUENCE], "[causal_mask, softmax]", lambda x, w: softmax(masked(x))),
    "attention": ({"x": "[n, t, 6]"}, [SEQUENCE], "[{attention: 2}]", lambda x, w: self_attention(x, w, 2, False)),
    "causal attention": ({"x": "[n, t, 6]"}, [SEQUENCE], "[{attention: {heads: 3, causal: true}}]", lambda x, w: self_attention(x, w, 3, True)),
    "cross attention": ({"x": "[n, t, 6]", "m": "[n, s, 4]"}, [SEQUENCE, MEMORY], "[{attention: {heads: 2, from: [x, m]}}]", lambda x, m, w: cross_attention(x, m, w, 2)),
    "causal cross attention": ({"x": "[n, 5, 6]", "m": "[n, 3, 4]"}, [SEQUENCE, MEMORY], "[{attention: {heads: 2, from: [x, m], causal: true}}]", lambda x, m, w: cross_attention(x, m, w, 2, True)),
    "peephole lstm": ({"x": "[n, t, 6]"}, [SEQUENCE], "[{lstm: {hidden: 3, peepholes: true}}]", lambda x, w: peephole_lstm(x, w)),
    "peephole lstm both ways": ({"x": "[n, t, 6]"}, [SEQUENCE], "[{lstm: {hidden: 3, peepholes: true, bidirectional: true}}]", lambda x, w: np.concatenate([peephole_lstm(x, w), peephole_lstm(x[:, ::-1], w, 1)[:, ::-1]], 2)),
    "lstm and its states": ({"x": "[n, t, 6]"}, [SEQUENCE], "[{lstm: {hidden: 4, return: states, as: [y, a, b]}}]", lambda x, w: recurrent("lstm", x, w), "[y, a, b]"),
    "gru and its state": ({"x": "[n, t, 6]"}, [SEQUENCE], "[{gru: {hidden: 4, return: states, as: [y, a]}}]", lambda x, w: recurrent("gru", x, w), "[y, a]"),
    "lstm from a state": ({"x": "[n, t, 6]", "h": "[n, 4]", "c": "[n, 4]"}, [SEQUENCE, STATE, -STATE], "[{lstm: {hidden: 4, from: [x, h, c]}}]", lambda x, h, c, w: recurrent("lstm", x, w, h, c)[0]),
    "gru from a state, the last": ({"x": "[n, t, 6]", "h": "[n, 4]"}, [SEQUENCE, STATE], "[{gru: {hidden: 4, return: last, from: [x, h]}}]", lambda x, h, w: recurrent("gru", x, w, h)[1]),
    "lstm, a step": ({"x": "[n, 6]", "h": "[n, 4]", "c": "[n, 4]"}, [SEQUENCE[:, 0], STATE, -STATE], "[{lstm: {hidden: 4, from: [x, h, c], as: [a, b]}}]", lambda x, h, c, w: recurrent("lstm", x[:, None], w, h, c)[1:], "[a, b]"),
    "gru, a step": ({"x": "[n, 6]", "h": "[n, 4]"}, [SEQUENCE[:, 0], STATE], "[{gru: {hidden: 4, from: [x, h]}}]", lambda x, h, w: recurrent("gru", x[:, None], w, h)[1]),
    "rnn, a step": ({"x": "[n, 6]", "h": "[n, 4]"}, [SEQUENCE[:, 0], STATE], "[{rnn: {hidden: 4, from: [x, h]}}]", lambda x, h, w: recurrent("rnn", x[:, None], w, h)[1]),
    "conv_lstm": ({"x": "[n, 3, 2, 5, 6]"}, [floats(2, 3, 2, 5, 6)], "[{conv_lstm: 4}]", lambda x, w: np.stack(conv_lstm(x.swapaxes(0, 1), w)[0], 1)),
    "conv_lstm, the last": ({"x": "[n, 3, 2, 5, 6]"}, [floats(2, 3, 2, 5, 6)], "[{conv_lstm: {hidden: 4, peepholes: true, return: last}}]", lambda x, w: conv_lstm(x.swapaxes(0, 1), w, True)[0][-1]),
    "conv_lstm, a step that reads nothing": ({"h": "[n, 3, 5, 6]", "c": "[n, 3, 5, 6]"}, [floats(2, 3, 5, 6), floats(2, 3, 5, 6)], "[{conv_lstm: {hidden: 3, peepholes: channels, from: [h, c], as: [a, b]}}]", lambda h, c, w: [(r := conv_lstm(h[None], w, True, h, c))[0][0], r[1]], "[a, b]"),
    "conv_lstm, a step": ({"x": "[n, 2, 5, 6]", "h": "[n, 3, 5, 6]", "c": "[n, 3, 5, 6]"}, [floats(2, 2, 5, 6), floats(2, 3, 5, 6), floats(2, 3, 5, 6)], "[{conv_lstm: {hidden: 3, peepholes: true, from: [x, h, c], as: [a, b]}}]", lambda x, h, c, w: [(r := conv_lstm(x[None], w, True, h, c))[0][0], r[1]], "[a, b]"),
    "maxout": (FEATURES, [X], "[{maxout: {out: 4, k: 3}}]", lambda x, w: maxout(x, w, 4)),
    "maxout of steps": ({"x": "[n, t, 6]"}, [SEQUENCE], "[{maxout: 4}]", lambda x, w: maxout(x, w, 4)),
    "glu": (IMAGES, [IMAGE], "[{glu: 1}]", lambda x, w: x[:, :4] * sigmoid(x[:, 4:])),
    "squeeze_excite": (IMAGES, [IMAGE], "[{squeeze_excite: 2}]", lambda x, w: squeezed(x, w, sigmoid, relu)),
    "squeeze_excite of MobileNet": (IMAGES, [IMAGE], "[{squeeze_excite: {hidden: 3, gate: hsigmoid}}]", lambda x, w: squeezed(x, w, lambda v: np.clip(v / 6 + 0.5, 0, 1), relu)),
    "squeeze_excite of EfficientNet": (IMAGES, [IMAGE], "[{squeeze_excite: {hidden: 3, act: swish}}]", lambda x, w: squeezed(x, w, sigmoid, swish)),
}  # fmt: skip


# --- detection --------------------------------------------------------------------------------------------------------
def anchor_boxes(height: int, width: int, shapes: list[tuple[float, float]], unit: tuple[float, float], form: str):
    out = []
    for i in range(height):
        for j in range(width):
            y, x = (i + 0.5) * unit[0], (j + 0.5) * unit[1]
            for w, h in shapes:
                out.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2) if form == "corners" else (x, y, w, h))
    return np.array(out, np.float32)


def decoded(offsets: np.ndarray, boxes: np.ndarray, variances=(1, 1, 1, 1), limit=math.inf, to="corners") -> np.ndarray:
    """boxes: centres and sizes."""
    out = np.empty_like(offsets)
    for at in np.ndindex(*offsets.shape[:-1]):
        (dx, dy, dw, dh), (ax, ay, aw, ah) = offsets[at] * np.float32(variances), boxes[at[-1]]
        x, y, w, h = ax + dx * aw, ay + dy * ah, aw * math.exp(min(dw, limit)), ah * math.exp(min(dh, limit))
        out[at] = (x - w / 2, y - h / 2, x + w / 2, y + h / 2) if to == "corners" else (x, y, w, h)
    return out


def iou(a: np.ndarray, b: np.ndarray) -> float:
    w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = max(w, 0) * max(h, 0)
    return both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


def suppressed(
    boxes: np.ndarray, scores: np.ndarray, most: int, overlap: float, least: float, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    left: list[tuple[int, int, int]] = []
    for n, label in np.ndindex(*scores.shape[:2]):
        kept: list[int] = []
        for b in sorted(range(boxes.shape[1]), key=lambda b: -scores[n, label, b]):
            good = scores[n, label, b] > least and len(kept) < most
            rivals = [o for o in kept if groups is None or groups[n, o] == groups[n, b]]
            if good and all(iou(boxes[n, b], boxes[n, o]) <= overlap for o in rivals):
                kept.append(b)
        left += [(n, label, b) for b in kept]
    n, label, b = np.array(left, np.int64).T
    return [np.stack([n, label, b], 1), boxes[n, b], scores[n, label, b]]


def bilinear(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """A pixel between pixels; nothing beyond one pixel outside, the border before that."""
    h, w = image.shape[1:]
    if not (-1 <= y <= h and -1 <= x <= w):
        return np.zeros(len(image))
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    i, j = int(y), int(x)
    k, m = min(i + 1, h - 1), min(j + 1, w - 1)
    top = image[:, i, j] * (1 - (x - j)) + image[:, i, m] * (x - j)
    low = image[:, k, j] * (1 - (x - j)) + image[:, k, m] * (x - j)
    return top * (1 - (y - i)) + low * (y - i)


def roi_aligned(x: np.ndarray, boxes: np.ndarray, images: np.ndarray, size: int, scale: float, samples: int):
    out = np.zeros((len(boxes), x.shape[1], size, size))
    for r, box in enumerate(boxes.astype(np.float64) * scale - 0.5):
        step = (box[2:] - box[:2]) / size / samples  # width, height
        for i, j, a, b in np.ndindex(size, size, samples, samples):
            y, x_ = box[1] + (i * samples + a + 0.5) * step[1], box[0] + (j * samples + b + 0.5) * step[0]
            out[r, :, i, j] += bilinear(x[images[r]], y, x_) / samples**2
    return out


def roi_pooled(x: np.ndarray, boxes: np.ndarray, images: np.ndarray, size: int, scale: float) -> np.ndarray:
    out = np.zeros((len(boxes), x.shape[1], size, size))
    for r, box in enumerate(boxes):
        x1, y1, x2, y2 = (math.floor(v * scale + 0.5) for v in box)
        h, w = max(y2 - y1 + 1, 1) / size, max(x2 - x1 + 1, 1) / size
        for i, j in np.ndindex(size, size):
            rows = [y for y in range(x.shape[2]) if math.floor(i * h) + y1 <= y < math.ceil((i + 1) * h) + y1]
            columns = [v for v in range(x.shape[3]) if math.floor(j * w) + x1 <= v < math.ceil((j + 1) * w) + x1]
            if rows and columns:
                out[r, :, i, j] = x[images[r]][:, rows][:, :, columns].max((1, 2))
    return out


MAP = {"x": "[n, 2, 3, 4]"}
FEATURE_MAP = floats(2, 2, 3, 4)
OFFSETS = floats(2, 5, 4)
CENTRES = np.abs(floats(5, 4)) + 1
CORNERS = np.concatenate([CENTRES[:, :2] - CENTRES[:, 2:] / 2, CENTRES[:, :2] + CENTRES[:, 2:] / 2], 1)
DECODE = {"d": "[n, k, 4]", "a": "[k, 4]"}
CROWD = np.concatenate([c := RNG.uniform(0, 4, (2, 12, 2)), c + RNG.uniform(1, 3, (2, 12, 2))], 2).astype(np.float32)
CENTERS = np.concatenate([(CROWD[..., :2] + CROWD[..., 2:]) / 2, CROWD[..., 2:] - CROWD[..., :2]], 2)
GROUPS = np.arange(24).reshape(2, 12) % 3 - 1
SCORES = RNG.permutation(72).reshape(2, 3, 12).astype(np.float32) / 72
ROIS = np.array([[0, 0, 9, 7], [2, 1, 5, 6.5], [-2, -4, 30, 4], [4, 4, 4, 4]], np.float32)
OF = np.array([1, 0, 1, 1], np.int64)
FIVE = np.concatenate([OF[:, None].astype(np.float32), ROIS], 1)
ROI = {"x": "[n, 8, 6, 4]", "r": "[k, 5]"}
ROI_OF = {"x": "[n, 8, 6, 4]", "r": "[k, 4]", "i": "{shape: [k], dtype: int64}"}
RATIOS = [(4 / math.sqrt(q), 4 * math.sqrt(q)) for q in (0.5, 2)]

CASES |= {
    "anchors": (MAP, [FEATURE_MAP], "[{anchors: {sizes: [8, 16], stride: 4}}]", lambda x, w: anchor_boxes(3, 4, [(8, 8), (16, 16)], (4, 4), "corners")),
    "anchors of SSD": (MAP, [FEATURE_MAP], "[{anchors: {sizes: [4.0], ratios: [0.5, 2], extra: [0.7], form: centers}}]", lambda x, w: anchor_boxes(3, 4, [*RATIOS, (0.7, 0.7)], (1 / 3, 1 / 4), "centers")),
    "decode_boxes": (DECODE, [OFFSETS, CORNERS], "[{decode_boxes: {from: [d, a], limit: 0.5}}]", lambda d, a, w: decoded(d, CENTRES, limit=0.5)),
    "decode_boxes of SSD": (DECODE, [OFFSETS, CENTRES], "[{decode_boxes: {from: [d, a], form: centers, variances: [0.1, 0.1, 0.2, 0.2]}}]", lambda d, a, w: decoded(d, a, (0.1, 0.1, 0.2, 0.2))),
    "decode_boxes to centers": (DECODE, [OFFSETS, CENTRES], "[{decode_boxes: {from: [d, a], form: centers, to: centers}}]", lambda d, a, w: decoded(d, a, to="centers")),
    "nms": ({"b": "[n, k, 4]", "s": "[n, c, k]"}, [CROWD, SCORES], "[{nms: {from: [b, s], keep: 3, iou: 0.4, score: 0.2, as: [i, boxes, scores]}}]", lambda b, s, w: suppressed(b, s, 3, 0.4, 0.2), "[i, boxes, scores]"),
    "nms of anything": ({"b": "[2, 12, 4]", "s": "[2, 3, 12]"}, [CROWD, SCORES], "[{nms: {from: [b, s], as: [i]}}]", lambda b, s, w: suppressed(b, s, 100, 0.5, -1)[0]),
    "nms of the same boxes": ({"b": "[k, 4]", "s": "[n, c, k]"}, [CROWD[1], SCORES], "[{nms: {from: [b, s], keep: 3, as: i}}]", lambda b, s, w: suppressed(np.stack([b, b]), s, 3, 0.5, -1)[0]),
    "nms in groups": ({"b": "[n, k, 4]", "s": "[n, 1, k]", "g": "{shape: [n, k], dtype: int64}"}, [CROWD, SCORES[:, :1], GROUPS], "[{nms: {from: [b, s, g], iou: 0.2, as: [i, boxes, scores]}}]", lambda b, s, g, w: suppressed(b, s, 100, 0.2, -1, g), "[i, boxes, scores]"),
    "nms in the same groups": ({"b": "[n, k, 4]", "s": "[n, 1, k]", "g": "{shape: [k], dtype: int64}"}, [CENTERS, SCORES[:, :1], GROUPS[0]], "[{nms: {from: [b, s, g], iou: 0.2, form: centers, as: [i]}}]", lambda b, s, g, w: suppressed(CROWD, s, 100, 0.2, -1, np.stack([g, g]))[0]),
    "roi_align": (ROI, [IMAGE, FIVE], "[{roi_align: {from: [x, r], size: 2, scale: 0.5, samples: 2}}]", lambda x, r, w: roi_aligned(x, ROIS, OF, 2, 0.5, 2)),
    "roi_align by image": (ROI_OF, [IMAGE, ROIS, OF], "[{roi_align: {from: [x, r, i], size: 3, samples: 1}}]", lambda x, r, i, w: roi_aligned(x, r, i, 3, 1, 1)),
    "roi_align of one image": ({"x": "[1, c, h, w]", "r": "[k, 4]"}, [IMAGE[:1], ROIS], "[{roi_align: {from: [x, r], size: 2, samples: 2}}]", lambda x, r, w: roi_aligned(x, r, 0 * OF, 2, 1, 2)),
    "roi_pool": (ROI, [IMAGE, FIVE], "[{roi_pool: {from: [x, r], size: 2, scale: 0.5}}]", lambda x, r, w: roi_pooled(x, ROIS, OF, 2, 0.5)),
    "roi_pool by image": (ROI_OF, [IMAGE, ROIS, OF], "[{roi_pool: {from: [x, r, i], size: 3}}]", lambda x, r, i, w: roi_pooled(x, r, i, 3, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_layer_computes(name: str):
    """The reference, compiled code, and ONNX Runtime on what `graphc export` writes."""
    inputs, arrays, net, expected, *outputs = CASES[name]
    graph = load(", ".join(f"{k}: {v}" for k, v in inputs.items()), net, *outputs)
    feeds = dict(zip(inputs, arrays))
    wanted = expected(*arrays, weights(graph))
    wanted = wanted if isinstance(wanted, list) else [wanted]
    compiled = graphc.compile(graph).run(feeds)
    for found in ([*run(graph, feeds).values()], [*compiled.values()], onnx_runtime(graph, feeds)):
        for value, a, b in zip(graph.outputs, found, wanted, strict=True):
            assert len(value.shape) == b.ndim and value.dtype == a.dtype
            assert all(isinstance(d, Sym) or d == n for d, n in zip(value.shape, b.shape)), (value, b.shape)
            # sums of some dozens of products in float32
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_every_new_layer_is_here():
    """All layers of the modules that this file is for."""
    from graphc.frontends.yaml_registry import layers

    modules = [
        f"graphc.frontends.yaml_{m}" for m in ("select", "distance", "spatial", "detection", "positions", "gated")
    ]
    own = {name for name, made in layers().items() if made.build.__module__ in modules}
    used = {word for _, _, net, *_ in CASES.values() for word in re.findall(r"[a-z_0-9]+", net)}
    assert len(own) > 35 and own <= used


@pytest.mark.parametrize("shape", ["[2, 3, 4, 4]", "[2, 3, 4]", "[n, 4]", "[]", "[0, 0, 0, 0]"])
def test_any_layer_takes_any_values_or_says_why_not(shape: str):
    """However many values it is given: a GraphcError or a graph."""
    from graphc.frontends.yaml_registry import layers

    refused = 0
    for name, made in layers().items():
        given = "".join(f"{arg}: 2, " for arg in made.required)
        for count in range(5):
            try:
                load(f"x: {shape}", f"[{{{name}: {{{given}from: [{', '.join('x' * count)}]}}}}]")
            except GraphcError:
                refused += 1
    assert 2 * len(layers()) < refused < 5 * len(layers())
    with pytest.raises(GraphcError, match=r"nms: takes 2 or 3 values, not 1\n  name them: from: \[boxes, scores\]"):
        load(f"x: {shape}", "[nms]")


def test_positions_end_where_the_table_does():
    """More steps than there are rows: that is said, nothing beyond is read."""
    graph = load("x: [n, t, 6]", "[{positions: {kind: learned, rows: 4}}]")
    with pytest.raises(GraphcError, match="index 4 at .* is out of range"):
        run(graph, {"x": SEQUENCE})


def test_float16_and_empty_batches():
    """Constants take the type of what comes in, and no image is enough to know the sizes."""
    for net in (
        "[{distance: {rows: 2}}]",
        "[normalize]",
        "[zscore]",
        "[minmax]",
        "[heaviside]",
        "[{where: {from: [b, x], other: 1}}]",
    ):
        graph = load(
            "x: {shape: [n, 7], dtype: float16}, b: {shape: [n, 7], dtype: bool}",
            net.replace("[", "[{identity: {from: x}}, ", 1),
        )
        assert graph.outputs[0].dtype == np.float16, net
        (y,) = run(graph, {"x": np.ones((0, 7), np.float16), "b": np.ones((0, 7), bool)}).values()
        assert len(y) == 0


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats(dtype: str):
    """Nothing is divided by 0, and steps above 2048 are told apart."""
    for net in ("[normalize]", "[{normalize: 1}]", "[zscore]", "[minmax]", "[{distance: {metric: cosine, rows: 2}}]"):
        graph = load(f"x: {{shape: [n, 7], dtype: {dtype}}}", net)
        (y,) = run(graph, {"x": np.zeros((2, 7), dtype)}).values()
        assert y.dtype == dtype and np.isfinite(y).all(), net
    x = np.zeros((1, 3000, 6), dtype)
    (y,) = run(load(f"x: {{shape: [n, t, 6], dtype: {dtype}}}", "[positions]"), {"x": x}).values()
    np.testing.assert_allclose(y[0], positions(3000, 6), atol=1e-3 if dtype == "float16" else 1e-9)


def test_weights_that_a_step_gives():
    graph = load("x: [n, 2]", "[{distance: {rows: 2, metric: squared, weights: {weight: [[0, 0], [3, 4]]}}}]")
    np.testing.assert_array_equal(run(graph, {"x": np.zeros((1, 2), np.float32)})["output"], [[0, 25]])
    graph = load("x: [n, 2]", "[{maxout: {out: 1, k: 3, weights: {weight: [[1, 0], [0, 1], [1, 1]], bias: zeros}}}]")
    np.testing.assert_array_equal(run(graph, {"x": np.array([[2, -1]], np.float32)})["output"], [[2]])


def test_the_command_exports_what_onnx_runtime_runs(tmp_path):
    (tmp_path / "m.yaml").write_text(
        "graphc: 1\ninputs: {x: [n, 7]}\nnet: [{distance: {rows: 4}}, {argmin: {as: winner}}]\n"
    )
    result = CliRunner().invoke(main, ["export", str(tmp_path / "m.yaml"), str(tmp_path / "m.onnx")])
    assert result.exit_code == 0, result.output
    (found,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": X})
    rows = weights(load("x: [n, 7]", "[{distance: {rows: 4}}]"))["weight"]
    np.testing.assert_array_equal(found, ((X[:, None] - rows) ** 2).sum(2).argmin(1))


# --- errors -----------------------------------------------------------------------------------------------------------
WHOLE = "i: {shape: [n], dtype: int64}"
ERRORS = {
    ("x: [n, 7]", "[{topk: 0}]"): "'k' of 'topk' must be at least 1, not 0",
    ("x: [n, 7]", "[{gather: {from: [x, x]}}]"): "takes whole numbers, not float32[n, 7]\n  declare the input with dtype: int64",
    ("x: [n, 7]", "[gather]"): "takes 2 values, not 1\n  name them: from: [table, numbers], or give `index`",
    ("x: [n, 7]", "[{gather: {index: 1, from: [x, x]}}]"): "takes 1 value, not 2\n  `index` takes the place of the second one",
    ("x: [n, 7]", "[{one_hot: 3}]"): "takes whole numbers, not float32[n, 7]",
    (WHOLE, "[{one_hot: 0}]"): "'classes' of 'one_hot' must be at least 1, not 0",
    ("x: [n, 7]", "[greater]"): "takes 2 values, not 1\n  name them: from: [a, b], or give a number: to",
    (WHOLE, "[{equal: 1.5}]"): "1.5 is a float beside an operand of int64",
    ("x: [n, 7]", "[{where: {from: [x, x, x]}}]"): "the condition must be true or false, not float32[n, 7]\n  compare it: {greater: 0}",
    ("x: [n, 7]", "[{norm: 3}]"): "p must be 1 or 2, not 3",
    ("x: [n, 7]", "[distance]"): "takes 2 values, not 1\n  name them: from: [x, rows], or give `rows`, how many are learned",
    ("x: [n, 7], y: [k, 6]", "[{distance: {from: [x, y]}}]"): "measures [batch, features] to [rows, features], not float32[n, 7] to float32[k, 6]",
    ("x: [n, 7]", "[{distance: {rows: 2, metric: euclid}}]"): "'metric' of 'distance' must be 'euclidean' or 'squared' or 'cosine' or 'manhattan', not 'euclid'",
    ("x: [n, 3, h, 8]", "[{gram: {mean: true}}]"): "the size of the image must be a number, but the input is float32[n, 3, h, 8]",
    ("x: [n, 3, 8, 8]", "[{standardize: {mean: [1, 2]}}]"): "mean has 2 numbers, but axis 1 of float32[n, 3, 8, 8] has 3",
    ("x: [n, 3, 8, 8]", "[{standardize: {std: 0}}]"): "std must not be 0",
    ("x: [n, 3, 8, 8]", "[{standardize: {mean: [0, 1.0e+300, 0]}}]"): "1e+300 is too large for float32",
    ("x: {shape: [n, 3], dtype: float16}", "[{standardize: {std: [1, 1.0e-20, 1]}}]"): "std must not be 0",
    ("x: {shape: [n, 3], dtype: uint8}", "[{standardize: 2.0}]"): "takes floats, not uint8[n, 3]",
    ("x: [n, 3, 8, 8]", "[{local_contrast: 4}]"): "k must be odd, not 4",
    ("x: [n, 3, 8, 8]", "[{unpool: {from: [x, x]}}]"): "needs the indices of a maxpool, not float32[n, 3, 8, 8]\n  maxpool: {indices: true}, as: [pooled, places]",
    ("x: [n, 3, 8, 8]", "[{pixel_shuffle: 2}]"): "scale 2 squared does not divide 3 channels",
    ("x: [n, 3, 8, 8]", "[{pixel_unshuffle: 0}]"): "'scale' of 'pixel_unshuffle' must be at least 1, not 0",
    ("x: [n, 3, h, w]", "[{pixel_unshuffle: 1000000}]"): "gives 3000000000000 channels",
    ("x: [n, 3, 8, 8]", "[{channel_shuffle: 2}]"): "groups 2 does not divide 3 channels",
    ("x: [n, 3, h, 8]", "[{anchors: {sizes: [1.0]}}]"): "the size of the map must be a number",
    ("x: [n, 3, 8, 8]", "[{anchors: {sizes: [1, -1]}}]"): "sizes and ratios must be above 0",
    ("x: [n, 3, 8, 8]", "[{anchors: {sizes: [1, .nan]}}]"): "sizes and ratios must be above 0",
    ("x: {shape: [n, 3, 8, 8], dtype: uint8}", "[{anchors: {sizes: [1]}}]"): "takes a map of floats, not uint8[n, 3, 8, 8]",
    ("d: [n, 3], a: [3, 4]", "[{decode_boxes: {from: [d, a]}}]"): "the offsets must be four numbers for each box, not float32[n, 3]",
    ("d: [n, 4], a: [n, 4]", "[{decode_boxes: {from: [d, a], variances: [1, 2]}}]"): "variances must be four numbers above 0, not [1.0, 2.0]",
    ("b: [n, 9, 4], s: [n, 9, 5]", "[{nms: {from: [b, s]}}]"): "takes boxes [batch, n, 4] and scores [batch, classes, n], not float32[n, 9, 4] and float32[n, 9, 5]\n  put the boxes last: {transpose: [0, 2, 1]}",
    ("b: [9, 4], s: [n, 5, 8]", "[{nms: {from: [b, s]}}]"): "takes boxes [batch, n, 4] and scores [batch, classes, n], not float32[9, 4] and float32[n, 5, 8]",
    ("b: [n, 9, 4], s: [n, 1, 9]", "[{nms: {from: [b, s, s]}}]"): "takes groups as int64[batch, n] or int64[n], not float32[n, 1, 9]",
    ("b: [n, 9, 4], s: [n, 5, 9]", "[{nms: {from: [b, s], iou: 2}}]"): "keep must be at least 1 and iou from 0 to 1, not 100 and 2.0",
    ("x: [n, 3, 8, 8], r: [k, 4]", "[{roi_align: {from: [x, r], size: 7}}]"): "takes regions [n, 5], not float32[k, 4]\n  give the numbers of their images too: from: [x, boxes, images]",
    ("x: [n, 3, 8, 8], r: [k, 4]", "[{roi_pool: {from: [x, r, r], size: 7}}]"): "takes the numbers of the images as int64[n], not float32[k, 4]",
    ("x: [n, 3, 8, 8], r: [k, 5]", "[{roi_pool: {from: [x, r], size: [7]}}]"): "size has 1 numbers, but the input has 2 spatial axes",
    ("x: [n, 9, 6]", "[{positions: {kind: learned, rows: 4}}]"): "there are 9 steps and only 4 positions\n  raise rows to 9",
    ("x: [n, t, 6]", "[{positions: learned}]"): "the number of steps (or give `rows`) must be a number, but the input is float32[n, t, 6]",
    ("x: [n, t, 6]", "[{positions: {rows: 4}}]"): "rows are of learned positions\n  sinusoidal ones have no end",
    ("x: [n]", "[causal_mask]"): "takes scores […, queries, keys], not float32[n]",
    ("x: [n, t, 6]", "[{attention: {heads: 2, from: [x, x, x]}}]"): "takes 1 or 2 values, not 3\n  give one sequence, or two: from: [x, memory]",
    ("x: [n, t, 6], m: [n, 6]", "[{attention: {heads: 2, from: [x, m]}}]"): "needs an input of rank 3, not float32[n, 6]",
    ("x: [n, 7]", "[{maxout: {out: 3, k: 0}}]"): "'k' of 'maxout' must be at least 1, not 0",
    ("x: [n, 8, 4, 4]", "[squeeze_excite]"): "reduction 16 leaves none of 8 channels\n  lower it, or give `hidden`",
    ("x: [n, t, 6], h: [n, 4]", "[{lstm: {hidden: 4, from: [x, h]}}]"): "takes 1 or 3 values, not 2\n  give the steps, or a state, too: from: [x, h, c]",
    ("x: [n, t, 6], h: [n, 3]", "[{gru: {hidden: 4, from: [x, h]}}]"): "state h must be [batch, 4], not float32[n, 3]",
    ("x: [n, 6], h: [n, 4]", "[{gru: {hidden: 4, return: last, from: [x, h]}}]"): "one step gives the state behind it\n  leave `return` out",
    ("x: [n, t, 6], h: [n, 4]", "[{rnn: {hidden: 4, layers: 2, from: [x, h]}}]"): "a state is that of one layer in one direction\n  write a step for each layer",
    ("x: [n, t, 6]", "[{lstm: {hidden: 4, bidirectional: true, return: states}}]"): "a state is that of one layer in one direction",
    ("x: [n, 6]", "[{lstm: 4}]"): "needs an input of rank 3, not float32[n, 6]\n  a recurrent layer reads [batch, steps, features]",
    ("x: [n, t, 2, 4, 4]", "[{conv_lstm: 3}]"): "the number of steps must be a number, but the input is float32[n, t, 2, 4, 4]",
    ("x: [n, 2, 4, 4]", "[{conv_lstm: 3}]"): "needs an input of rank 5, not float32[n, 2, 4, 4]\n  a sequence is [batch, steps, channels, height, width]; one step: from: [x, h, c]",
    ("x: [n, 3, 2, 4, 4]", "[{conv_lstm: {hidden: 3, k: 2}}]"): "k must be odd, not [2, 2]\n  so that the size stays",
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS, ids=[f"{net} {inputs}" for inputs, net in ERRORS])
def test_errors(case: tuple[str, str]):
    inputs, net = case
    if inputs.count("[") > 1 and not re.search("from", net):
        net = net.replace("[", "[{identity: {from: x}}, ", 1)
    with pytest.raises(GraphcError) as caught:
        load(inputs, net)
    message = str(caught.value)
    assert message.startswith("m.yaml: line 3, column ")
    assert ERRORS[case] in message and f": {ERRORS[case]}" in message, message
