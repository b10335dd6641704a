"""ByteTable: a function of one byte, as a table of its 256 results. What graphc/passes/byte_tables.py makes of elementwise operators
between a DequantizeLinear and a QuantizeLinear; no file has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc import expr as e
from graphc.op import Attr, Call, Case, Op, Samples, Tensor, register
from graphc.ops.contract import require_dtype
from graphc.types import TensorType

BYTES = ("uint8", "int8")
ENTRIES = 256


def infer(call: Call) -> list[TensorType]:
    """Bytes of dtype `to`, in the operand's shape."""
    require_dtype(call, 0, BYTES)
    codes, to = call.attrs.codes, call.attrs.to
    if to.name not in BYTES or len(codes) != ENTRIES or not all(0 <= c < ENTRIES for c in codes):
        raise call.fail(f"takes {ENTRIES} bytes and gives {' or '.join(BYTES)}, not {len(codes)} of {to.name}")
    return [call.type(0).with_dtype(to)]


def reference(x: np.ndarray, codes: Sequence[int], to: np.dtype) -> np.ndarray:
    """codes: bytes as unsigned numbers, in the order of the operand's bits as such a number."""
    return np.array(codes, np.uint8)[x.view(np.uint8)].view(to)


def _case(kind: str, to: str, *shape: int) -> Case:
    info = np.iinfo(kind)
    codes = np.random.default_rng(shape).integers(0, ENTRIES, ENTRIES)
    return Case((Tensor(shape, info.min, info.max, kind),), {"codes": tuple(codes.tolist()), "to": np.dtype(to)})


register(
    Op(
        "ByteTable",
        ("x",),
        infer,
        reference,
        {"codes": Attr("ints"), "to": Attr("dtype")},
        scalar=lambda x, codes, to: e.table(x, bytes(codes), to),
        scalar_attrs=("codes", "to"),
        tolerance=0.0,
        samples=Samples(
            ("uint8",),
            cases=(
                _case("uint8", "uint8", 3, 100),
                _case("int8", "uint8", 5, 67),
                _case("uint8", "int8", 300),
                _case("int8", "int8", 2, 1, 3),
            ),
        ),
        internal=True,
    )
)
