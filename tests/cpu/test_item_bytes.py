"""Inner steps and element types: sizes and the packing of operands follow from them, not from literals that fit float32 alone."""

from __future__ import annotations

import ast
import ctypes
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from graphc.backends.cpu.conv.conv_row_micro import BLOCK_BYTES, BLOCKS, HI, LO, YS_BLOCK, YS_W
from graphc.backends.cpu.conv.depthwise_block import DepthwiseRow
from graphc.backends.cpu.conv.filters import Filters, pack_filters, spans_of
from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.pool.pool_block import POOL_ROW, PoolRow
from graphc.backends.cpu.product.gemm_block import ProductTile
from graphc.backends.cpu.product.panels import panels_of
from graphc.backends.cpu.product.product_micro import TILES
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.cpu.target import Target, detect
from graphc.backends.cpu.tile.dot import BYTES, DOTS, FMA, Dot
from graphc.backends.cpu.tile.tile_micro import Tile
from graphc.backends.llvm.emit import Emit
from graphc.dtypes import BY_NAME, FLOAT32, pack_bits, unpack_bits

CPU = Path(__file__).resolve().parents[2] / "backends" / "cpu"
FOLDERS = ("attention", "conv", "pool", "product", "tile")
NO_BYTES = {
    ("conv", "node.inputs[0].shape[1] <= 4"): "channels",
    ("depthwise", "4 * most"): "pixels",
    ("attention", "len(node.inputs) < 4"): "operands",
    ("strassen_driver", "factor == 4"): "which of the seven",
}
# inner steps that may come: pairs of bfloat16 (vdpbf16ps), and weights of four bits
PAIRS = Dot("pairs", BY_NAME["bfloat16"], BY_NAME["bfloat16"], FLOAT32, 2)
NIBBLES = Dot("nibbles", FLOAT32, BY_NAME["int4"], FLOAT32, 1)


def literals(tree: ast.Module) -> list[str]:
    """Products, comparisons and constants of LLVM with a literal 4 or 64: bytes of a float32, of a vector or of a cache line."""
    found = []
    for node in ast.walk(tree):
        operands: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            operands = [node.left, node.right]
        elif isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "i64":
            operands = node.args
        lists = any(isinstance(o, ast.List) for o in operands)  # [I64] * 4: types of arguments
        if not lists and any(isinstance(o, ast.Constant) and o.value in (4, 64) for o in operands):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_literal_bytes(folder: str):
    """A number that is no size in bytes belongs in NO_BYTES."""
    found = [(f.stem, text) for f in (CPU / folder).glob("*.py") for text in literals(ast.parse(f.read_text()))]
    assert [case for case in found if case not in NO_BYTES] == []


@pytest.mark.parametrize("isa, lanes", [("avx512", 16), ("avx2", 8)])
def test_sizes_of_a_step(isa: str, lanes: int):
    target = SimpleNamespace(vl=lanes, vector=4 * lanes, lanes=lambda e: 4 * lanes // e.item)
    assert [d.lanes(target) for d in (FMA, BYTES, PAIRS, NIBBLES)] == [lanes] * 4
    assert [d.weights(lanes) for d in (FMA, BYTES, PAIRS, NIBBLES)] == [4 * lanes, 4 * lanes, 4 * lanes, lanes // 2]
    assert [d.steps(30) for d in (FMA, BYTES, PAIRS, NIBBLES)] == [30, 8, 15, 30]


def test_steps_move_as_many_bytes():
    """The drivers that pack rows and columns at run time move a step at a time, whatever it holds."""
    assert {d.item for d in DOTS.values()} == {FMA.item}


@pytest.mark.parametrize("dot", [FMA, PAIRS, NIBBLES], ids=lambda d: d.name or "fma")
def test_panels(dot: Dot):
    target = detect("portable")
    panels = panels_of(target, 20, 100, dot.steps(300), dot)
    vectors = -(-100 // 8)
    assert (panels.padded, panels.vl) == (-(-dot.steps(300) // 8) * 8, 8)
    assert panels.panel == panels.padded * panels.nv * dot.weights(8)
    assert panels.nbytes == panels.padded * vectors * dot.weights(8)


def _filters(dot: Dot, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(weights [32, channels, 3, 3], the same packed for two tiles of 16) of whole numbers that int4 holds."""
    weights = np.random.default_rng(0).integers(-7, 8, (32, channels, 3, 3)).astype(np.float32)
    w = SimpleNamespace(channels=channels, out_channels=32, kernel=(1, 3, 3))
    lo = SimpleNamespace(weights=SimpleNamespace(pack=lambda source, recipe, make: make()))
    return weights, pack_filters(lo, Filters(weights, (), lambda: weights), w, spans_of(w, 8, 8, 16, 0, 4), dot)


@pytest.mark.parametrize("channels", [16, 12], ids=["whole", "ragged"])
@pytest.mark.parametrize("dot", [FMA, PAIRS, NIBBLES], ids=lambda d: d.name or "fma")
def test_packed_filters(dot: Dot, channels: int):
    weights, packed = _filters(dot, channels)
    assert packed.nbytes == 2 * 2 * 9 * dot.steps(8) * dot.weights(16)  # tiles, input blocks, window
    if dot is NIBBLES:
        packed = unpack_bits(packed.reshape(-1), dot.b, 2 * 2 * 9 * 8 * 16)
    there = packed.astype(np.float32).reshape(2, 2, 3, 3, dot.steps(8), 16, dot.k)
    padded = np.zeros((32, 16, 3, 3), np.float32)
    padded[:, :channels] = weights
    for block, step, k, row in ((0, 0, 0, 0), (1, 1, dot.k - 1, 2), (1, dot.steps(8) - 1, 0, 1)):
        want = padded[16:, block * 8 + step * dot.k + k, row, 1]
        np.testing.assert_array_equal(there[1, block, row, 1, step, :, k], want)


def test_last_step_is_filled_with_zeros():
    packed = PAIRS.pack(np.ones((3, 4), np.float32))
    assert packed.shape == (2, 4, 2) and packed.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(packed[1].astype(np.float32), [[1, 0]] * 4)


@pytest.mark.parametrize("name", ["int4", "uint2", "float6_e2m3fn"])
def test_bits(name: str):
    element = BY_NAME[name]
    values = np.array([0, 1, 2, 1, 1, 0, 3], np.float32) / (1 if name != "int4" else -1)
    raw = pack_bits(values.astype(element.numpy), element)
    assert raw.nbytes == element.packed_bytes(7)
    np.testing.assert_array_equal(unpack_bits(raw, element, 7).astype(np.float32), values)


def _pair_tile(q: Emit, target: Target, mr: int, nv: int, lines: int) -> Tile:
    class PairTile(Tile):
        def multiply_assembly(self, weight: str, spread: str, acc: str, registers: list[str]) -> list[str]:
            return [f"vdpbf16ps {weight}, {spread}, {acc}"]

    return PairTile(q, target, mr, nv, lines, PAIRS)


@pytest.mark.skipif("+avx512bf16" not in detect().features, reason="the target has no vdpbf16ps")
def test_another_inner_step(monkeypatch):
    """A row of the table and an instruction make another product."""
    monkeypatch.setitem(DOTS, PAIRS.name, PAIRS)
    monkeypatch.setitem(TILES, PAIRS, _pair_tile)
    target, rng = detect(), np.random.default_rng(3)
    mr, nv, blocks, vl = 6, 2, 3, target.vl
    a = rng.standard_normal((mr, blocks * vl * 2)).astype(ml_dtypes.bfloat16)
    b = rng.standard_normal((blocks * vl * 2, nv * vl)).astype(ml_dtypes.bfloat16)
    rows, columns = (
        np.ascontiguousarray(a.reshape(mr, blocks, vl * 2).swapaxes(0, 1)),
        np.ascontiguousarray(PAIRS.pack(b)),
    )
    words = [0] * (BLOCK_BYTES // 8)
    words[BLOCKS], words[YS_W], words[YS_BLOCK] = blocks, nv * target.vector, target.vector
    words[LO], words[HI] = (int(np.float32(v).view(np.uint32)) for v in (0, np.inf))
    y, bias = np.zeros((mr, nv * vl), np.float32), rng.standard_normal(nv * vl).astype(np.float32)
    kernel = ProductTile(mr=mr, nv=nv, epilogue=None, masked=False, lines=0, stage="", strided=False, dot=PAIRS.name)
    _call(kernel, words, rows, columns, y, bias, 0)
    want = np.maximum(a.astype(np.float32) @ b.astype(np.float32) + bias, 0)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)


# --- kernels of another storage type ----------------------------------------------------------------------------------
def _call(kernel: Kernel, words: list[int], *arguments: int | np.ndarray) -> None:
    block = np.array(words, np.int64)
    address = runtime_of(detect()).toolchain(cache=False).addresses([kernel])[kernel]
    values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in (block, *arguments)]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(values))(address)(*values)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_pool_of_a_storage_type(dtype: str):
    """Blocks of channels are as wide as a vector of the type; sums are float32."""
    element = BY_NAME[dtype]
    lanes, item = detect().lanes(element), element.item
    x = np.random.default_rng(1).standard_normal((2, 6, lanes)).astype(element.numpy)  # rows, columns, channels
    y = np.zeros((2, lanes), element.numpy)
    row, pixel = 6 * lanes * item, lanes * item
    words = POOL_ROW(planes=1, rows=2, columns=3, plane=0, row=row, column=pixel, pixel=2 * pixel, pixels=2)
    scale = int(np.float32(1 / 6).view(np.uint32))
    _call(PoolRow(op="average", mr=2, dtype=dtype), words, x, y, scale)
    wide = x.astype(np.float32)
    want = np.stack([wide[:, p : p + 3].reshape(6, lanes).sum(0) / 6 for p in (0, 2)])
    np.testing.assert_allclose(
        y.astype(np.float32), want, rtol=1e-6 if item == 4 else 8e-3, atol=1e-5 if item == 4 else 4e-3
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_depthwise_of_a_storage_type(dtype: str):
    element, rng = BY_NAME[dtype], np.random.default_rng(2)
    lanes = detect().lanes(element)
    x = rng.standard_normal((3, 6, lanes)).astype(element.numpy)
    w = rng.standard_normal((3, 3, lanes)).astype(element.numpy)
    bias, y = rng.standard_normal(lanes).astype(np.float32), np.zeros((4, lanes), element.numpy)
    bounds = [int(np.float32(v).view(np.uint32)) for v in (-np.inf, np.inf)]
    words = [6 * lanes * element.item, 4, *bounds, 0, 0]
    _call(DepthwiseRow(mr=2, kernel_w=3, stride=1, dilation=1, epilogue=None, dtype=dtype), words, x, w, y, bias, 3)
    wide, weights = x.astype(np.float32), w.astype(np.float32)
    want = np.stack([(wide[:, p : p + 3] * weights).sum((0, 1)) + bias for p in range(4)])
    np.testing.assert_allclose(y.astype(np.float32), want, rtol=1e-5 if dtype == "float32" else 8e-3, atol=1e-5)
