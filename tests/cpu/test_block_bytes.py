"""MatMulNBits at accuracy level 4: operands in bytes, block by block, and what that costs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphc
from graphc.backends.cpu.product.byte_tile_micro import has_dot
from graphc.backends.cpu.target import detect
from graphc.errors import UnsupportedError

EPS = float(np.finfo(np.float32).eps)
LARGEST = 256  # block of the operand


class Layer:
    """Random weights [n, k] in blocks. zeros: with a zero point each, else 2^(bits - 1) for all."""

    def __init__(self, k: int, n: int, bits: int = 4, size: int = 32, zeros: bool = False) -> None:
        rng, count = np.random.default_rng(k + n + bits + size), -(-k // size)
        self.k, self.n, self.bits, self.size = k, n, bits, size
        self.codes = rng.integers(0, 2**bits, (n, count * size))
        self.zero = rng.integers(0, 2**bits, (n, count)) if zeros else np.full((n, count), 2 ** (bits - 1))
        self.scale = rng.uniform(0.01, 0.1, (n, count)).astype(np.float32)
        self.zeros = zeros

    @property
    def weights(self) -> np.ndarray:
        """[n, k] in float64."""
        shifted = self.codes.reshape(*self.zero.shape, self.size) - self.zero[..., None]
        return (shifted * self.scale[..., None].astype(np.float64)).reshape(self.n, -1)[:, : self.k]

    def _packed(self, x: np.ndarray) -> np.ndarray:
        x = np.pad(x, [(0, 0), (0, -x.shape[1] % (8 // self.bits))])
        return (x if self.bits == 8 else x[:, ::2] | x[:, 1::2] << 4).astype(np.uint8)

    def model(self, rows: int | str, level: int = 4) -> bytes:
        constants = {"b": self._packed(self.codes).reshape(*self.zero.shape, -1), "s": self.scale}
        if self.zeros:
            constants["z"] = self._packed(self.zero)
        attrs = {"K": self.k, "N": self.n, "bits": self.bits, "block_size": self.size, "accuracy_level": level}
        graph = helper.make_graph(
            [helper.make_node("MatMulNBits", ["a", *constants], ["y"], domain="com.microsoft", **attrs)],
            "layer",
            [helper.make_tensor_value_info("a", TensorProto.FLOAT, (rows, self.k))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (rows, self.n))],
            [numpy_helper.from_array(v, name) for name, v in constants.items()],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()

    def run(self, a: np.ndarray, **options) -> np.ndarray:
        return graphc.compile(self.model(len(a)), **{"threads": 1, **options}).run({"a": a})["y"]


def steps_of(a: np.ndarray, size: int) -> np.ndarray:
    """What one step is of the block of each element."""
    size, k = min(size, LARGEST), a.shape[1]
    blocks = np.pad(a, [(0, 0), (0, -k % size)]).reshape(len(a), -(-k // size), size)
    return np.repeat(np.abs(blocks).max(-1) / np.float32(127), size, 1)[:, :k]


def operand(rows: int, k: int) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, k)).astype(np.float32)


def check(layer: Layer, a: np.ndarray, y: np.ndarray) -> None:
    """Two bounds: the exact product of rounded operands but for float32 sums, and that of operands as they are but for half a
    step each."""
    w, step = layer.weights, steps_of(a, layer.size)
    rounded = np.rint(a / np.where(step == 0, 1, step)).astype(np.float64) * step
    # of each block: one number for its sum, one for the zero points, each rounded a few times on its way into a sum of all
    blocks, largest = layer.zero.shape[1] * -(-layer.size // LARGEST), 2**layer.bits * layer.scale.max()
    rounding = EPS * (blocks + 4) * (np.abs(rounded) @ np.full(layer.k, largest))[:, None]
    assert np.all(np.abs(y - rounded @ w.T) <= rounding)
    assert np.all(np.abs(y - a.astype(np.float64) @ w.T) <= step @ np.abs(w).T / 2 + rounding)


@pytest.mark.sample(24)
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [16, 32, 64, 128, 256, 512])
@pytest.mark.parametrize("k,n", [(512, 32), (333, 21), (40, 5), (256, 48)])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 21])
def test_results_are_those_of_rounded_operands(rows: int, k: int, n: int, size: int, bits: int, zeros: bool):
    layer, a = Layer(k, n, bits, size, zeros), operand(rows, k)
    check(layer, a, layer.run(a))


@pytest.mark.parametrize("isa", ["avx2", "portable"])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("rows", [1, 7])
def test_other_instruction_sets_compute_in_float32(isa: str, rows: int, zeros: bool):
    layer, a = Layer(70, 32, zeros=zeros), operand(rows, 70)
    try:
        y = layer.run(a, target=f"cpu:{isa}")
    except UnsupportedError as error:
        pytest.skip(str(error))
    check(layer, a, y)


def test_bytes_are_multiplied_where_the_file_permits_it_and_there_is_an_instruction():
    layer = Layer(64, 32)
    kernels = {
        level: [s.kernel for s in graphc.compile(layer.model(3, level), threads=1).plan().steps] for level in (0, 4)
    }
    assert "round_rows" not in kernels[0]
    assert ("round_rows" in kernels[4]) == has_dot(detect())


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_threads_change_nothing(rows: int):
    layer, a = Layer(512, 320), operand(rows, 512)
    np.testing.assert_array_equal(layer.run(a, threads=2), layer.run(a))


@pytest.mark.parametrize("level", [0, 4])
def test_one_plan_serves_many_rows(level: int):
    layer = Layer(96, 48, zeros=True)
    model = graphc.compile(layer.model("rows", level), threads=1)
    for rows in (5, 9, 23, 1, 2, 64, 0):
        a = operand(rows, 96)
        y = model.run({"a": a})["y"]
        assert y.shape == (rows, 48)
        np.testing.assert_array_equal(y, graphc.compile(layer.model(rows, level), threads=1).run({"a": a})["y"])
        if level == 4:
            check(layer, a, y)
    assert len(model.classes) < 6


@pytest.mark.parametrize("what", [np.nan, np.inf, 0.0, 1e-42, 3e38])
def test_blocks_of_extreme_numbers(what: float):
    """They leave other rows alone."""
    layer, a = Layer(64, 32), operand(9, 64)
    a[4, :32] = np.where(np.arange(32) % 3, 0, what)
    y = layer.run(a)
    others = np.arange(9) != 4
    check(layer, a[others], y[others])
    if np.isfinite(what) and what < 1:  # a step below the least float32 is none
        tiny = layer.scale.max() * 8 * 64 * 1e-41
        rest = a.copy()
        rest[4, :32] = 0
        np.testing.assert_allclose(y[4], layer.run(rest)[4], rtol=0, atol=tiny)
        check(layer, rest[4:5], y[4:5])
    elif np.isfinite(what):
        check(layer, a / 2**20, layer.run(a / 2**20))
    else:
        assert not np.isfinite(y[4]).any()


@pytest.mark.parametrize("rows,bits,zeros", [(1, 4, False), (9, 4, True), (9, 8, False)])
def test_against_onnxruntime(rows: int, bits: int, zeros: bool):
    """It rounds by the same rule; what lies halfway between two steps may go to either."""
    ort = pytest.importorskip("onnxruntime")
    layer, a = Layer(320, 32, bits, 64, zeros), operand(rows, 320)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(layer.model(rows), options, providers=["CPUExecutionProvider"])
    (theirs,), y = session.run(None, {"a": a}), layer.run(a)
    one_step = steps_of(a, 64).max() * np.abs(layer.weights).max()
    np.testing.assert_allclose(y, theirs, rtol=0, atol=one_step)
    assert np.median(np.abs(y - theirs)) < 1e-5 * np.abs(theirs).max()
