"""Weights of convolutions, in the two orders that kernels read them in."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from graphc.lower.constants import zero
from graphc.lower.storage import Buffer, Ref, dense_strides
from graphc.report import StepInfo
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering


@dataclass(frozen=True)
class Packed:
    """Constant weights: `make` derives them from `source` alone, as `recipe` says, as [outputs, inputs of a group, *taps]."""

    source: np.ndarray
    recipe: tuple[Hashable, ...]
    make: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Filters:
    """Weights [outputs, inputs of a group, *taps]. weights: constant ones, or where they lie, dense. exact: see `emit_product`."""

    weights: Packed | Ref
    dtype: np.dtype
    outputs: int
    inputs: int
    groups: int
    taps: tuple[int, ...]
    exact: bool = False

    @property
    def per_group(self) -> int:
        """Outputs of a group."""
        return self.outputs // self.groups

    def rows(self, lo: CudaLowering) -> Ref:
        """As they are."""
        w = self.weights
        return w if isinstance(w, Ref) else Ref(lo.weights.pack(w.source, w.recipe, w.make))

    def lines(self, lo: CudaLowering, width: int) -> Ref:
        """As [outputs, *taps, inputs], each tap's inputs filled with zeros to `width` elements."""
        w, taps = self.weights, prod(self.taps)
        whole = TensorType(self.dtype, (self.outputs, taps, width))
        if isinstance(w, Packed):
            make = w.make

            def lines() -> np.ndarray:
                out = np.zeros(whole.extents, self.dtype)
                out[..., : self.inputs] = make().reshape(self.outputs, self.inputs, taps).swapaxes(1, 2)
                return out

            return Ref(lo.weights.pack(w.source, (*w.recipe, "channels last", width), lines))
        item, to = self.dtype.itemsize, Ref(Buffer("weights", whole.nbytes))
        info = StepInfo(
            0, (), ("Copy",), "copy_strided", "", "weights with channels last", "weights", 0, 2 * whole.nbytes
        )
        if width > self.inputs:
            lo.copy(zero(lo, self.dtype), [0] * 3, to, dense_strides(whole), whole.extents, item, info)
        given = [self.inputs * taps * item, item, taps * item]
        lo.copy(w, given, to, dense_strides(whole), [self.outputs, taps, self.inputs], item, info)
        return to

    def columns(self, lo: CudaLowering) -> tuple[Ref, tuple[int, int]]:
        """Of one input to a group, and the byte strides of outputs and taps: constant ones as [taps, outputs]."""
        w, taps, item = self.weights, prod(self.taps), self.dtype.itemsize
        if isinstance(w, Ref):
            return w, (taps * item, item)
        make = w.make

        def columns() -> np.ndarray:
            return np.ascontiguousarray(make().reshape(self.outputs, taps).T)

        return Ref(lo.weights.pack(w.source, (*w.recipe, "columns"), columns)), (item, self.outputs * item)
