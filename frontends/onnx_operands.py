"""What ONNX's schemas say of an operator's operands: which of them are of one type, and which types those may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import onnx.defs

_NAMES = {"float": "float32", "double": "float64"}  # where ONNX's names are not NumPy's


@dataclass(frozen=True)
class OperatorSignature:
    """Type parameters ('T', or a type itself) of the operands and results; the last operand's stands for all that follow.

    dtypes: the names of the dtypes that each may be.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtypes: Mapping[str, tuple[str, ...]]

    def operand(self, i: int) -> str:
        return self.inputs[min(i, len(self.inputs) - 1)]


@lru_cache(maxsize=256)
def signature(name: str) -> OperatorSignature | None:
    """The newest signature of an operator ('Conv', 'ai.onnx.ml::Scaler'); None where ONNX has none."""
    domain, _, op = name.rpartition("::")
    try:
        schema = onnx.defs.get_schema(op, domain)
    except onnx.defs.SchemaError:
        return None
    inputs, outputs = (tuple(p.type_str for p in formals) for formals in (schema.inputs, schema.outputs))
    dtypes = {c.type_param_str: _dtypes(c.allowed_type_strs) for c in schema.type_constraints}
    fixed = {t: _dtypes([t]) for t in (*inputs, *outputs) if t not in dtypes}
    return OperatorSignature(inputs, outputs, dtypes | fixed)


def _dtypes(types: Iterable[str]) -> tuple[str, ...]:
    """'tensor(float)' -> 'float32'; sequences and optionals are left out."""
    bare = [t.removeprefix("tensor(").removesuffix(")") for t in types if t.startswith("tensor(")]
    return tuple(_NAMES.get(t, t) for t in bare)
