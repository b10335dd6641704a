"""The table of element types, and what is derived from it."""

import numpy as np
import pytest

from graphc.dtypes import BY_NAME, ELEMENTS, find, int_range, is_float, is_integer, is_narrow, is_signed, names
from graphc.frontends.onnx_data import DTYPES as ONNX
from graphc.frontends.yaml_literals import DTYPES as YAML
from graphc.op import FLOATS, INTS
from graphc.ops.contract import FLOAT_NAMES
from graphc.ops.qlinear import BYTES
from graphc.ops.quantize import QUANTIZED
from graphc.types import dtype_name


@pytest.mark.parametrize("element", ELEMENTS, ids=str)
def test_row_agrees_with_numpy(element):
    dtype = element.numpy
    assert dtype_name(dtype) == element.name and find(dtype) is element
    assert element.family == "string" or element.item == dtype.itemsize
    assert is_float(dtype) == (element.family == "float")
    assert is_integer(dtype) == (element.family in ("int", "uint"))
    assert is_signed(dtype) == (element.family == "int")
    assert is_narrow(dtype) == (is_float(dtype) and dtype.itemsize < 4)
    assert BY_NAME[element.accumulates_in].bits >= element.bits
    if is_integer(dtype):
        from ml_dtypes import iinfo

        assert int_range(dtype) == (iinfo(dtype).min, iinfo(dtype).max)


def test_lists():
    assert FLOATS == ("float32", "float64")
    assert INTS == ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    assert FLOAT_NAMES == ("float16", "bfloat16", "float32", "float64")
    assert BYTES == ("int8", "uint8")
    assert set(YAML) == {*names("float", "int", "uint", "bool", bits=range(8, 65))} & set(dir(np))
    wide = {"int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2"}
    narrow = {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"}
    assert {*QUANTIZED} == wide | narrow | {"float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"}


def test_kernels_compute_with():
    from graphc.backends.llvm.emit import memory_type, register_type
    from graphc.dtypes import MOVED, NATIVE, STORED

    assert {*NATIVE} == {"bool", "float16", "bfloat16", *FLOATS, *INTS}
    assert {*STORED} == {e.name for e in ELEMENTS if 0 < e.bits <= 8} - NATIVE
    assert {*MOVED} == {e.name for e in ELEMENTS} - {"string"}
    for name in NATIVE | STORED:
        assert register_type(BY_NAME[name].numpy) and memory_type(BY_NAME[name].numpy)


def test_every_onnx_dtype():
    from onnx import TensorProto

    known = {enum for name, enum in TensorProto.DataType.items() if name != "UNDEFINED"}
    assert {*ONNX} == known
    assert all(find(dtype) for dtype in ONNX.values())


def test_elements_of_less_than_a_byte():
    four = BY_NAME["uint4"]
    assert (four.item, four.packed_bytes(3), BY_NAME["float6_e3m2fn"].packed_bytes(4)) == (1, 2, 3)
    assert find(np.dtype("datetime64[s]")) is None
