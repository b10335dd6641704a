"""Weights of one bit or of three values: a scale for each output channel, times -1 or 1, or 0, too.

Both have the least squares of errors that their form allows. Binary: the scale is the mean magnitude, W ≈ mean|W| · sign(W) (M. Rastegari,
V. Ordonez, J. Redmon and A. Farhadi, "XNOR-Net", ECCV 2016, equation 6). Ternary: of the k largest magnitudes of a channel, the k
with the largest (Σ|w|)²/k, whose mean is the scale (F. Li, B. Zhang and B. Liu, "Ternary weight networks", 2016). They
take all weights above 0.7 · mean|W| for it; sorted, the best k is found exactly.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from graphc.dtypes import BY_NAME
from graphc.errors import InputError
from graphc.graph import Graph, Value
from graphc.huffman import encoded
from graphc.shrinker.layers import Rebuilt, rows, unrows
from graphc.shrinker.report import LayerReport
from graphc.shrinker.storage import Stored, stored

KINDS = ("binary", "ternary")
FLOAT32 = np.dtype(np.float32)
MASKS = np.array([128, 64, 32, 16, 8, 4, 2, 1], np.uint8)  # of the bits of a byte, in the order of np.packbits


@dataclass(frozen=True)
class Signs:
    """Stores the weights of every layer as 'binary' (1 bit) or 'ternary' (2 bits) codes.

    Raises InputError for another kind.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"signs must be one of {', '.join(KINDS)}, not {self.kind!r}")

    def __str__(self) -> str:
        return f"{self.kind} weights, a scale for each output channel"

    def __call__(self, graph: Graph, keep: Collection[str]) -> tuple[Graph, tuple[LayerReport, ...]]:
        return stored(graph, keep, self._form)

    def _form(self, w: np.ndarray, axis: int) -> Stored:
        signs, scale = (binary if self.kind == "binary" else ternary)(rows(w, axis))
        codes = unrows(signs, w.shape, axis)
        scales = scale.reshape([-1 if i == axis else 1 for i in range(w.ndim)])
        floats = codes * scales
        if self.kind == "binary":
            size = -(-w.size // 8) + scale.nbytes
            return Stored(floats, "1 bit", size, None, lambda b, stem: _bits(b, stem, codes > 0, scales))
        size = BY_NAME["int2"].packed_bytes(w.size) + scale.nbytes
        coded = len(encoded(codes + 1)) + scale.nbytes
        made = f"{100 * np.mean(codes == 0):.0f} % zero"
        return Stored(floats, made, size, coded, lambda b, stem: _dequantized(b, stem, codes, scale, axis))


def binary(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes -1 and 1 (int8), and a scale (float32) for each row."""
    codes = np.where(matrix < 0, -1, 1).astype(np.int8)
    return codes, np.abs(matrix).mean(1, dtype=np.float64).astype(FLOAT32)


def ternary(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes -1, 0 and 1 (int8), and a scale (float32) for each row."""
    magnitude = np.abs(matrix).astype(np.float64)
    order = np.argsort(-magnitude, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(magnitude, order, 1), axis=1)
    count = np.arange(1, matrix.shape[1] + 1)
    best = np.argmax(sums**2 / count, axis=1)[:, None]
    used = np.zeros(matrix.shape, bool)
    np.put_along_axis(used, order, np.arange(matrix.shape[1]) <= best, 1)
    scale = np.take_along_axis(sums, best, 1)[:, 0] / count[best[:, 0]]
    return np.where(used, np.sign(matrix), 0).astype(np.int8), scale.astype(FLOAT32)


def _dequantized(sweep: Rebuilt, stem: str, codes: np.ndarray, scale: np.ndarray, axis: int) -> Value:
    values = sweep.weights(codes.astype(BY_NAME["int2"].numpy), f"{stem}_signs")
    scales = sweep.weights(scale, f"{stem}_scale")
    return sweep.made("DequantizeLinear", values, scales, stem=f"{stem}_ternary", axis=axis)


def _bits(sweep: Rebuilt, stem: str, positive: np.ndarray, scales: np.ndarray) -> Value:
    """ONNX has no numbers of one bit: eight are a byte, which BitwiseAnd takes apart."""
    packed = sweep.weights(np.packbits(positive)[:, None], f"{stem}_bits")
    bits = sweep.made("BitwiseAnd", packed, sweep.weights(MASKS, f"{stem}_masks"), stem=f"{stem}_bit")
    flags = sweep.made("Cast", bits, stem=f"{stem}_flag", to=np.dtype(bool))
    if positive.size % 8:
        flat = sweep.made("Reshape", flags, _ints(sweep, stem, [-1]), stem=f"{stem}_flat")
        ends = (_ints(sweep, stem, [n]) for n in (0, positive.size))
        flags = sweep.made("Slice", flat, *ends, stem=f"{stem}_used")
    shaped = sweep.made("Reshape", flags, _ints(sweep, stem, positive.shape), stem=f"{stem}_positive")
    both = (sweep.weights(sign * scales, f"{stem}_{name}") for sign, name in ((1, "scale"), (-1, "negative")))
    return sweep.made("Where", shaped, *both, stem=f"{stem}_binary")


def _ints(sweep: Rebuilt, stem: str, numbers: Collection[int]) -> Value:
    return sweep.weights(np.array(numbers, np.int64), f"{stem}_shape")
