"""Steps of a verb alone, in a checked run: what they may not touch is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np

from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.runtime.checked_run import CheckedRun
from graphc.lower import verify
from graphc.lower.storage import ExternBuffer, Ref, Storage, dense_strides
from graphc.lower.weights import WeightStore
from graphc.report import StepInfo
from graphc.types import TensorType

INFO = StepInfo(0, (), ("Verb",), "verb")


def storage(ref: Ref) -> Storage:
    """All of a buffer."""
    t = TensorType(ref.buffer.dtype, ref.buffer.shape)
    return Storage(ref, t, dense_strides(t))


def run(emit: Callable[..., None], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What `emit(lowering, *inputs, *outputs)` makes of the inputs: arrays of the dtypes and shapes of the outputs, whose bytes
    are 0xFF where nobody writes."""
    weights = WeightStore()
    lo = CudaLowering(weights, checked=True)
    buffers = [
        ExternBuffer(f"b{i}", a.nbytes, "extern", shape=a.shape, dtype=a.dtype)
        for i, a in enumerate([*inputs, *outputs])
    ]
    lo.program.inputs, lo.program.outputs = buffers[: len(inputs)], buffers[len(inputs) :]
    emit(lo, *map(Ref, buffers))
    verify.steps(lo)
    return CheckedRun(SimpleNamespace(lowering=lo, weights=weights), (9, 0)).run(inputs)
