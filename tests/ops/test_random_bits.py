"""RandomBits: known answers of Philox 2x32-10, the same bits everywhere, and statistics of the stream."""

from __future__ import annotations

import numpy as np
import pytest
from controls import loop

import graphc
from graphc import expr as e
from graphc.backends.reference import run
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph
from graphc.ops.random_bits import random_bits

# counter (low, high), key -> result (low, high): kat_vectors of the paper's Random123
KNOWN = [
    ((0, 0), 0, (0xFF1DAE59, 0x6CD10DF2)),
    ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
    ((0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
]
EDGES = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, -1, -(2**63), 0x243F6A8885A308D3]


def graph(shape: tuple[int, ...] = (1000,)) -> Graph:
    b = Builder("bits")
    operands = [b.input(name, np.int64, s) for name, s in (("position", shape), ("draw", ()), ("seed", ()))]
    return b.build({"bits": b.add("RandomBits", *operands)})


def feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    position = rng.integers(-(2**63), 2**63, 1000, np.int64)
    position[: len(EDGES)] = EDGES
    return {"position": position, "draw": np.array(2**40 - 3), "seed": np.array(-987654321987654321)}


@pytest.mark.parametrize("counter, key, want", KNOWN)
def test_known_answers(counter, key, want):
    whole = want[0] + (want[1] << 32)
    assert e.philox(counter[0] + (counter[1] << 32), key) == whole
    assert random_bits(np.array(counter[0]), np.array(counter[1]), np.array(key)) == whole


@pytest.mark.parametrize("target", ["cpu", "cpu:portable", "cuda:emulate"])
def test_known_answers_of_kernels(target: str):
    model = graphc.compile(graph((1,)), target=target)
    for counter, key, want in KNOWN:
        got = model.run({"position": np.array(counter[:1]), "draw": np.array(counter[1]), "seed": np.array(key)})[
            "bits"
        ]
        assert got.tolist() == [want[0] + (want[1] << 32)], target


def test_the_reference_is_the_primitive():
    fed = feeds()
    want = run(graph(), fed)["bits"]
    draw, seed = int(fed["draw"]), int(fed["seed"]) % 2**64
    for position, bits in zip(fed["position"][:20].tolist(), want[:20].tolist()):
        assert e.philox(position + (draw << 32) + (seed >> 32 << 32), seed) == bits


@pytest.mark.parametrize("target, threads", [("cpu", 1), ("cpu", 2), ("cpu:portable", 1), ("cuda:emulate", None)])
def test_the_same_bits_everywhere(target: str, threads: int | None):
    """On the CPU with one and two threads, and in the emulator of a GPU, as in the reference."""
    g, fed = graph(), feeds()
    got = graphc.compile(g, target=target, **({"threads": threads} if threads else {})).run(fed)["bits"]
    np.testing.assert_array_equal(got, run(g, fed)["bits"])


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_that_share_a_large_array(threads: int):
    b = Builder("large")
    x = b.input("x", np.float32, ("n", 1000))
    g = b.build({"bits": b.add("RandomBits", b.add("Positions", x), b.constant(3), b.constant(9))})
    got = graphc.compile(g, threads=threads).run({"x": np.zeros((500, 1000), np.float32)})["bits"]
    want = random_bits(np.arange(500_000), np.array(3), np.array(9))
    np.testing.assert_array_equal(got.ravel(), want)


def test_onnx_runtime_gives_the_same_bits():
    import onnxruntime

    model, fed = to_onnx(graph()), feeds()
    assert {n.op_type for n in model.graph.node} == {
        "Cast",
        "BitShift",
        "BitwiseAnd",
        "BitwiseXor",
        "BitwiseOr",
        "Add",
        "Mul",
    }
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(["bits"], fed)
    np.testing.assert_array_equal(got, run(graph(), fed)["bits"])


def drawing_loop() -> tuple[Graph, dict[str, np.ndarray], np.ndarray]:
    """A loop whose turns count as draws: the graph, inputs, and the bits."""
    b = Builder("loop")
    x, seed, trips = b.input("x", np.float32, ("n", 3)), b.input("seed", np.int64, ()), b.input("trips", np.int64, ())

    def make(inner, turn, going, like, seed):
        return inner.add("Identity", going), inner.add("RandomBits", inner.add("Positions", like), turn, seed)

    (all_,) = loop(b, trips, None, [], [x, seed], make, 1)
    g = b.build({"bits": all_})
    fed = {"x": np.zeros((5, 3), np.float32), "seed": np.array(8), "trips": np.array(4)}
    return g, fed, random_bits(np.arange(15).reshape(1, 5, 3), np.arange(4).reshape(4, 1, 1), np.array(8))


@pytest.mark.parametrize("target", ["reference", "cpu", "cuda:emulate"])
def test_draws_of_a_loop(target: str):
    g, fed, want = drawing_loop()
    np.testing.assert_array_equal(graphc.compile(g, target=target).run(fed)["bits"], want)


def test_draws_of_a_loop_that_is_written_as_onnx():
    import onnxruntime

    g, fed, want = drawing_loop()
    session = onnxruntime.InferenceSession(to_onnx(g).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(["bits"], fed)[0], want)


# --- statistics, of fixed streams: every figure is a number of standard deviations ------------------------------------
N = 1 << 16


def words(draw: int = 0, seed: int = 0, first: int = 0) -> np.ndarray:
    """[N, 64] bits as +1 and -1, of positions in a row."""
    made = random_bits(np.arange(first, first + N), np.array(draw), np.array(seed))
    return np.unpackbits(made.view(np.uint8).reshape(N, 8), axis=1).astype(np.float64) * 2 - 1


@pytest.mark.parametrize("draw, seed", [(0, 0), (1, 0), (0, 1), (12345, 2**63 + 7)])
def test_every_bit_is_fair_and_independent_of_the_others(draw: int, seed: int):
    bits = words(draw, seed)
    deviations = bits.sum(0) / np.sqrt(N)
    assert abs(deviations).max() < 4.5  # of 64 normal numbers: one set in 2000 exceeds it
    between = bits.T @ bits / np.sqrt(N)
    assert abs(between[~np.eye(64, dtype=bool)]).max() < 5.5  # of 2016


@pytest.mark.parametrize(
    "other",
    [{"first": 1}, {"first": 64}, {"draw": 1}, {"draw": 2**31}, {"seed": 1}, {"seed": 2**32}, {"seed": 2**63}],
    ids=str,
)
def test_neighbours_draws_and_seeds_are_independent(other: dict[str, int]):
    between = words().T @ words(**other) / np.sqrt(N)
    if other.get("seed") == 2**32:  # the high half of a seed counts as draws do
        np.testing.assert_array_equal(words(**other), words(draw=1))
    assert abs(between).max() < 5.5  # of 4096 normal numbers


def test_draws_share_no_numbers():
    made = random_bits(np.arange(1000)[None, None], np.arange(20)[:, None, None], np.arange(10)[None, :, None])
    assert len(np.unique(made)) == made.size
