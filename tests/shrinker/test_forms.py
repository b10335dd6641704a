"""Weights as zeros in blocks, codebooks and signs: the formulas, what takes how many bytes, and what files decode to."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import onnx
import pytest
from quantizer.quantized_nets import NETS, Net, data, in_onnxruntime, net

import graphc
from graphc.errors import InputError
from graphc.graph import Graph
from graphc.huffman import decoded, encoded
from graphc.pipeline import SHAPE_FREE, run
from graphc.shrinker import Codebook, Signs, Sparse, shrink
from graphc.shrinker.binary import binary, ternary
from graphc.shrinker.codebook import shared
from graphc.shrinker.layers import layers_of, weights_of
from graphc.shrinker.sparse import packed, pruned, unpacked


def matrix(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# --- zeros ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("block", [(1, 1), (1, 4), (3, 4), (5, 16), (8, 8)], ids=str)
def test_the_least_blocks_are_zero(block: tuple[int, int]):
    """Ranked one by one, those at the ends smaller."""
    w = matrix(13, 10)
    found, count, blocks = pruned(w, 0.6, block)
    places = [
        (slice(i, i + block[0]), slice(j, j + block[1]))
        for i, j in product(range(0, 13, block[0]), range(0, 10, block[1]))
    ]
    assert blocks == len(places) and count == int(0.6 * blocks)
    expected = w.copy()
    for place in sorted(places, key=lambda p: np.mean(w[p].astype(float) ** 2))[:count]:
        expected[place] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("block", [(1, 1), (2, 3), (16, 16)], ids=str)
def test_what_is_packed_comes_back(block: tuple[int, int]):
    sparse = pruned(matrix(13, 10), 0.5, block)[0]
    content = packed(sparse, block)
    np.testing.assert_array_equal(unpacked(content, (13, 10), np.float32, block), sparse)
    blocks = -(-13 // block[0]) * -(-10 // block[1])
    assert len(content) == -(-blocks // 8) + 4 * np.count_nonzero(sparse)
    for wrong in (content[:-1], content + b"\0", b""):
        with pytest.raises(InputError, match="the data"):
            unpacked(wrong, (13, 10), np.float32, block)


# --- codebooks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("entries", [1, 2, 4, 16])
def test_codebooks(entries: int):
    """Each weight has the nearest entry, and each entry is the mean of its weights: what k-means ends with."""
    w = matrix(30, 20)
    book, indices = shared(w, entries)
    assert len(book) == entries and (np.diff(book) > 0).all() and indices.dtype == np.uint8
    nearest = np.abs(w[..., None] - book).argmin(-1)
    np.testing.assert_array_equal(indices, nearest)
    np.testing.assert_allclose(book, [w[indices == i].mean() for i in range(entries)], rtol=1e-4, atol=1e-6)
    spread = np.linspace(w.min(), w.max(), entries)
    error, rounded = (np.square(w - b[np.abs(w[..., None] - b).argmin(-1)]).sum() for b in (book, spread))
    assert error < rounded


def test_the_best_codebook_of_few():
    """Of all ways to part sorted weights."""
    w = np.sort(matrix(12))
    book, indices = shared(w, 3)
    cuts = ((i, j) for i in range(1, 11) for j in range(i + 1, 12))
    best = min(sum(((p - p.mean()) ** 2).sum() for p in np.split(w, c)) for c in cuts)
    assert ((w - book[indices]) ** 2).sum() <= 1.05 * best


def test_zeros_stay_zeros():
    w = matrix(30, 20)
    w[np.abs(w) < 0.5] = 0
    book, indices = shared(w, 8)
    assert len(book) == 8 and 0 in book
    np.testing.assert_array_equal(book[indices] == 0, w == 0)


def test_few_values():
    w = np.array([[1, 2, 2], [1, -3, 1]], np.float32)
    book, indices = shared(w, 16)
    np.testing.assert_array_equal(book, [-3, 1, 2])
    np.testing.assert_array_equal(book[indices], w)


# --- signs ------------------------------------------------------------------------------------------------------------
def test_no_scale_is_better_for_signs():
    """Of binary codes the best scale is that of least squares; of ternary ones all choices of 7 weights are tried."""
    w = matrix(6, 7)
    codes, scale = binary(w)
    np.testing.assert_array_equal(codes, np.sign(w))
    np.testing.assert_allclose(scale, (w * codes).sum(1) / (codes.astype(float) ** 2).sum(1), rtol=1e-6)
    codes, scale = ternary(w)
    found = np.square(w - codes * scale[:, None]).sum(1)
    every = np.array(list(product((-1, 0, 1), repeat=7)))[:, None]
    alpha = (every * w).sum(-1) / np.maximum((every**2).sum(-1), 1)
    best = np.square(w - every * alpha[..., None]).sum(-1).min(0)
    np.testing.assert_allclose(found, best, rtol=1e-5)


def test_the_rule_of_ternary_networks_is_no_better():
    w = matrix(20, 100)
    used = np.abs(w) > 0.7 * np.abs(w).mean(1, keepdims=True)
    alpha = (np.abs(w) * used).sum(1) / used.sum(1)
    rule = np.square(w - used * np.sign(w) * alpha[:, None]).sum(1)
    codes, scale = ternary(w)
    assert (np.square(w - codes * scale[:, None]).sum(1) <= rule * (1 + 1e-6)).all()


def test_channels_of_zeros():
    for kind in (binary, ternary):
        codes, scale = kind(np.zeros((2, 3), np.float32))
        assert not (codes * scale[:, None]).any()


# --- files ------------------------------------------------------------------------------------------------------------
FORMS: dict[str, Callable] = {
    **{f"codebook {bits}": lambda bits=bits: Codebook(bits) for bits in (2, 4, 5)},
    **{kind: lambda kind=kind: Signs(kind) for kind in ("binary", "ternary")},
    "sparse": lambda: Sparse(0.5, (1, 4)),
}


def errors_of(before: Graph, after: Graph) -> dict[str, float]:
    """Of the weights of each layer, when all that is constant has been computed."""
    old, new = ({n.output.name: weights_of(n).data for n in layers_of(run(g, SHAPE_FREE))} for g in (before, after))
    return {name: np.linalg.norm(new[name] - old[name]) / np.linalg.norm(old[name]) for name in old}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["classifier", "decoder", "transformer"])
def test_files(name: str, form: str):
    """Another runtime computes what graphc does; the report has the weights' errors, and the bytes of the file."""
    graph = net(name)
    made = shrink(graph, [FORMS[form]()])
    model = made.to_onnx()
    onnx.checker.check_model(model, full_check=True)
    x = data(graph, 2)
    (expected,) = in_onnxruntime(model, {"x": x})
    for source in (made.graph, model):
        found = graphc.compile(source, threads=1)(x)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    errors = errors_of(graph, made.graph)
    for row in made.report.steps[0].layers:
        output = next(n.output.name for n in made.graph.nodes if n.name == row.name)
        assert (row.error or 0) == pytest.approx(errors[output], rel=1e-4)
    stored = sum(len(t.raw_data) for t in model.graph.initializer)
    assert made.report.bytes[1] <= stored < made.report.bytes[1] + 64, "shapes of bits take some more"


def test_bytes():
    b = Net()
    x = b.input("x", np.float32, ("batch", 100))
    graph = b.build({"y": b.add("MatMul", x, b.weights(100, 30))})
    for form, size in (("codebook 2", 750 + 16), ("codebook 4", 1500 + 64), ("codebook 5", 3000 + 128)):
        made = shrink(graph, [FORMS[form]()])
        (row,) = made.report.steps[0].layers
        assert row.bytes == (12000, size) and row.coded < 3000 * int(form[-1]) / 8 + row.bytes[1] - size + 150
    for form, size in (("binary", 375 + 120), ("ternary", 750 + 120)):
        assert shrink(graph, [FORMS[form]()]).report.steps[0].layers[0].bytes == (12000, size)


def test_coded_bytes_are_those_of_the_indices():
    b = Net()
    graph = b.build({"y": b.add("MatMul", b.input("x", np.float32, ("batch", 100)), b.weights(100, 30))})
    made = shrink(graph, [Codebook(5)])
    (row,) = made.report.steps[0].layers
    indices = next(v.data for v in made.graph.constants() if v.name.endswith("_indices"))
    content = encoded(indices)
    np.testing.assert_array_equal(decoded(content).reshape(indices.shape), indices)
    assert row.coded == len(content) + 4 * 32 and made.report.coded == row.coded


def test_weights_of_two_layers_are_stored_once():
    b = Net()
    w = b.weights(100, 100)
    x = b.add("Tanh", b.add("MatMul", b.input("x", np.float32, ("batch", 100)), w))
    made = shrink(b.build({"y": b.add("MatMul", x, w)}), [Codebook(4)])
    assert sum(v.name.endswith("_indices") for v in made.graph.constants()) == 1
    assert made.report.bytes == (40000, 5064) and [r.bytes for r in made.report.steps[0].layers] == [
        (40000, 5064),
        (0, 0),
    ]


def test_what_would_take_more_stays():
    """A codebook has no more numbers than there are."""
    b = Net()
    x = b.input("x", np.float32, ("batch", 4))
    x = b.add("MatMul", x, b.constant([[1, 2, 3, 1]] * 4, np.float32))
    made = shrink(b.build({"y": b.add("MatMul", x, b.weights(4, 2))}), [Codebook(8)])
    first, second = made.report.steps[0].layers
    assert first.made == "3 numbers" and first.bytes == (64, 16) and first.error == 0
    assert second.kept == "it would take no less" and second.bytes == (32, 32)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", NETS)
def test_networks(name: str):
    graph = net(name)
    made = shrink(graph, [Codebook(4)], data(graph, 4), options={"threads": 1})
    assert 0 < made.report.error < 0.3 and made.report.bytes[1] < made.report.bytes[0]
