"""Files of ONNX test data: `input_0.pb`, `output_0.pb` of a folder `test_data_set_0` hold a TensorProto, SequenceProto … each."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import MapProto, OptionalProto, SequenceProto, TensorProto

from graphc.errors import LoadError
from graphc.frontends.onnx_data import to_array
from graphc.objects import Content, ObjectType

_MESSAGES = {"sequence": SequenceProto, "optional": OptionalProto, "map": MapProto}
Message = Any  # of one of these types


def read_test_data(data: bytes, want: Content | None = None) -> tuple[str, Any]:
    """(the name that the file gives, '' for none; the value): an array, a list, a dict or None.

    want: what the value is to be, which the file does not say; a tensor unless it is an ObjectType. Raises LoadError for bytes
    that are none of that.
    """
    message: Message = _MESSAGES[want.kind]() if isinstance(want, ObjectType) else TensorProto()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise LoadError(
            "is no ONNX test data", hint=f"it must be a {type(message).__name__}, as onnx writes it"
        ) from None
    return message.name, _value(message)


def _value(m: Message) -> Any:
    if isinstance(m, TensorProto):
        return to_array(m)
    if isinstance(m, SequenceProto):
        values: dict[int, Any] = {
            SequenceProto.TENSOR: m.tensor_values,
            SequenceProto.SEQUENCE: m.sequence_values,
            SequenceProto.MAP: m.map_values,
            SequenceProto.OPTIONAL: m.optional_values,
        }
        return [_value(v) for v in values.get(m.elem_type, ())]
    if isinstance(m, OptionalProto):
        of: dict[int, Message] = {
            OptionalProto.TENSOR: m.tensor_value,
            OptionalProto.SEQUENCE: m.sequence_value,
            OptionalProto.MAP: m.map_value,
        }
        return _value(of[m.elem_type]) if m.elem_type in of else None
    keys = [k.decode("utf-8", "replace") for k in m.string_keys] if m.key_type == TensorProto.STRING else list(m.keys)
    values = _value(m.values)
    return dict(zip(keys, [v[()] if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in values]))
