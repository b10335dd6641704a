"""com.microsoft's weights in blocks of 4 and 8 bits, with numbers that a formula decodes, and tables in 4-bit types."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphc


def run(op: str, consts: dict, feeds: dict, names: list[str], **attrs) -> np.ndarray:
    """One node, with operands of these names."""
    kinds = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in feeds.items()}
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], domain="com.microsoft", **attrs)],
        "g",
        [helper.make_tensor_value_info(k, kinds[k], v.shape) for k, v in feeds.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in consts.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return graphc.compile(data, threads=1).run(feeds)["y"]


@pytest.mark.parametrize("k,n", [(64, 32), (70, 5), (96, 48), (64, 80)])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 3, 7, 20])
def test_a_product_decodes_its_weights(rows: int, bits: int, k: int, n: int):
    rng, size = np.random.default_rng(rows + bits), 32
    count = -(-k // size)
    q, zero = rng.integers(0, 2**bits, (n, count * size)), rng.integers(0, 2**bits, (n, count))
    scale = rng.uniform(0.01, 0.1, (n, count)).astype(np.float32)
    w = ((q.reshape(n, count, size) - zero[..., None]) * scale[..., None]).reshape(n, -1)[:, :k]

    def packed(x):
        x = np.pad(x, [(0, 0), (0, -x.shape[1] % (8 // bits))])
        return (x if bits == 8 else x[:, ::2] | x[:, 1::2] << 4).astype(np.uint8)

    a = rng.standard_normal((rows, k)).astype(np.float32)
    consts = {"b": packed(q).reshape(n, count, -1), "s": scale, "z": packed(zero)}
    y = run("MatMulNBits", consts, {"a": a}, ["a", "b", "s", "z"], K=k, N=n, bits=bits, block_size=size)
    want = a.astype(np.float64) @ w.T.astype(np.float64)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_level_4_rounds_the_operand_of_constant_weights():
    rng, k = np.random.default_rng(1), 40
    q, scale = rng.integers(0, 256, (16, 2, 16)).astype(np.uint8), np.full((16, 2), 0.02, np.float32)
    a = rng.standard_normal((3, k)).astype(np.float32)
    w = np.stack([q & 15, q >> 4], -1).reshape(16, -1)[:, :k] * 0.02 - 8 * 0.02
    blocks = np.pad(a, [(0, 0), (0, 24)]).reshape(3, 2, 32)
    step = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    rounded = (np.rint(blocks / step) * step).reshape(3, -1)[:, :k]
    attrs = {"K": k, "N": 16, "bits": 4, "block_size": 32, "accuracy_level": 4}
    constant = run("MatMulNBits", {"b": q, "s": scale}, {"a": a}, ["a", "b", "s"], **attrs)
    np.testing.assert_allclose(constant, rounded @ w.T, atol=1e-5)
    computed = run("MatMulNBits", {"b": q}, {"a": a, "s": scale}, ["a", "b", "s"], **attrs)
    np.testing.assert_allclose(computed, a @ w.T, atol=1e-5)
    assert np.abs(constant - computed).max() > 1e-3


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
@pytest.mark.parametrize("gather,quantize", [(0, 1), (0, 0), (1, 1)])
def test_rows_of_4_bit_tables(dtype: str, gather: int, quantize: int):
    rng = np.random.default_rng(2)
    table = rng.integers(0, 8, (40, 48)).astype(getattr(ml_dtypes, dtype))
    scale = rng.uniform(0.01, 0.1, (3, 48) if quantize == 0 else (40, 3)).astype(np.float32)
    wide = table.astype(np.float32) * np.repeat(scale, 16, quantize)[:40]
    ids = np.array([[3, 7], [-1, 0]])
    attrs = {"block_size": 16, "gather_axis": gather, "quantize_axis": quantize}
    y = run("GatherBlockQuantized", {"d": table, "s": scale}, {"i": ids}, ["d", "i", "s"], **attrs)
    np.testing.assert_allclose(y, np.take(wide, ids, gather), rtol=1e-6)


def test_an_index_out_of_range_gives_zeros():
    table, scale = np.full((4, 16), 0x9A, np.uint8), np.ones((4, 2), np.float32)
    y = run(
        "GatherBlockQuantized", {"d": table, "s": scale}, {"i": np.array([0, 4, -5])}, ["d", "i", "s"], block_size=16
    )
    np.testing.assert_array_equal(y, [[2, 1] * 16, [0] * 32, [0] * 32])
