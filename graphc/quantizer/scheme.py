"""What is asked of a quantiser."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dtypes import int_range
from graphc.errors import InputError
from graphc.types import dtype_from_name

METHODS = ("minmax", "percentile", "entropy")
BYTES, BLOCKS = ("int8",), ("int4", "uint4")
ACTIVATIONS = ("uint8", "int8")
SMALLEST_BLOCK = 16
REDUCED = 64  # the largest code of a reduced range


@dataclass(frozen=True)
class Scheme:
    """How weights and activations become integers.

    weights      'int8': symmetric, with activations in 8 bits. 'int4' (symmetric) and 'uint4' (with zero points): in blocks of
                 `block` along the sums of products of matrices; activations stay in float
    per_channel  a scale for each output channel of int8 weights, else one for a tensor
    reduce_range int8 weights lie between -64 and 64, so that two products fit 16 bits: where there is no instruction for bytes (AVX-512
                 VNNI) they take fewer, and no runtime's sums saturate
    activations  'uint8' or 'int8'
    symmetric    zero points of activations are 0 (of uint8: 128)
    nbits        products by weights in blocks are MatMulNBits of com.microsoft, else of standard operators
    method       how the range of an activation follows from data: 'minmax', 'percentile' (`percentile` % of all values lie
                 within) or 'entropy' (the least Kullback-Leibler divergence)

    Raises InputError for what none of them is.
    """

    weights: str = "int8"
    per_channel: bool = True
    reduce_range: bool = False
    activations: str = "uint8"
    symmetric: bool = False
    method: str = "minmax"
    percentile: float = 99.99
    block: int = 32
    nbits: bool = False

    def __post_init__(self) -> None:
        for name, known in (("weights", BYTES + BLOCKS), ("activations", ACTIVATIONS), ("method", METHODS)):
            _require_one_of(name, getattr(self, name), known)
        if not isinstance(self.percentile, (int, float)) or not 50 < self.percentile <= 100:
            raise InputError(
                f"percentile must be above 50 and at most 100, not {self.percentile!r}", hint="percentile=99.99"
            )
        if not isinstance(self.block, int) or self.block < SMALLEST_BLOCK or self.block & (self.block - 1):
            raise InputError(f"block must be a power of two, {SMALLEST_BLOCK} or more, not {self.block!r}")
        if self.reduce_range and self.in_blocks:
            raise InputError("reduce_range is for weights of 8 bits", hint="weights='int8'")
        if self.nbits and not self.in_blocks:
            raise InputError("nbits is a form of weights of 4 bits", hint="weights='int4'")

    @property
    def in_blocks(self) -> bool:
        """Weights alone, in blocks?"""
        return self.weights in BLOCKS

    @property
    def weight_dtype(self) -> np.dtype:
        return dtype_from_name(self.weights)

    @property
    def most(self) -> int:
        """The largest code of weights in 8 bits."""
        return REDUCED if self.reduce_range else int_range(self.weight_dtype)[1]

    @property
    def activation_dtype(self) -> np.dtype:
        return np.dtype(self.activations)

    def __str__(self) -> str:
        if self.in_blocks:
            form = ", as MatMulNBits" if self.nbits else ""
            return f"weights {self.weights} in blocks of {self.block}{form}"
        bits = ", of 7 bits" if self.reduce_range else ""
        per = "channel" if self.per_channel else "tensor"
        how = f"{self.method} {self.percentile:g} %" if self.method == "percentile" else self.method
        symmetric = ", symmetric" if self.symmetric else ""
        return f"weights {self.weights} per {per}{bits}, activations {self.activations}{symmetric} by {how}"


def _require_one_of(name: str, value: Any, known: Collection[str]) -> None:
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}")
