"""TfIdfVectorizer against its text: what ONNX's examples do not tell."""

import numpy as np
import pytest

import graphc
from graphc.errors import GraphcError
from graphc.graph import Builder

WORDS = {"pool_strings": ("the", "a", "the", "cat"), "ngram_counts": (0, 2), "ngram_indexes": (2, 0, 1)}
LENGTHS = {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0}


def tfidf(x, **attrs):
    b = Builder()
    return graphc.compile(b.build({"y": b.add("TfIdfVectorizer", b.input("x", x.dtype, x.shape), **attrs)}))(x)


def words(text):
    return np.array(text.split(), object)


def test_strings():
    y = tfidf(words("the cat a cat the cat"), mode="TF", **WORDS, **LENGTHS)
    assert y.dtype == np.float32 and y.tolist() == [1, 2, 2]  # a; the cat; the


@pytest.mark.parametrize("mode, want", [("TFIDF", [3 * 1, 5 * 2, 2 * 2]), ("IDF", [3, 5, 2])])
def test_a_weight_is_of_an_ngram_not_of_a_column(mode, want):
    """ONNX: 'the i-th element in weights is the weight of the i-th n-gram in pool'."""
    y = tfidf(words("the cat a cat the cat"), mode=mode, weights=(2.0, 3.0, 5.0), **WORDS, **LENGTHS)
    assert y.tolist() == want


@pytest.mark.parametrize("skip", [0, 1, 2, 5])
def test_skips_are_equal_between_all_items(skip):
    x = np.random.default_rng(skip).integers(0, 3, (4, 9)).astype(np.int64)
    grams = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    table = {"pool_int64s": np.ravel(grams).tolist(), "ngram_counts": (0, 0, 0), "ngram_indexes": tuple(range(27))}
    y = tfidf(x, mode="TF", max_skip_count=skip, min_gram_length=3, max_gram_length=3, **table)
    for row, got in zip(x, y):
        windows = [tuple(row[i : i + 2 * d + 1 : d]) for d in range(1, skip + 2) for i in range(9 - 2 * d)]
        assert got.tolist() == [windows.count(g) for g in grams]


def test_ngrams_of_one_column_add_up():
    table = {"pool_int64s": (1, 2, 3), "ngram_counts": (0,), "ngram_indexes": (0, 0, 4)}
    y = tfidf(np.int32([1, 2, 3, 1, 9]), mode="TF", max_skip_count=3, min_gram_length=1, max_gram_length=1, **table)
    assert y.tolist() == [3, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pool_int64s": (1, 2)}, "one of them"),
        ({"ngram_counts": (0, 3)}, "do not cut the pool"),
        ({"ngram_indexes": (0, 1)}, "must be 3 numbers"),
        ({"weights": (1.0,)}, "weights must be 3 numbers"),
        ({"max_gram_length": 3}, "from 1 to 2"),
    ],
)
def test_attributes_that_do_not_fit(change, message):
    with pytest.raises(GraphcError, match=message):
        tfidf(words("the cat"), **{"mode": "TF", **WORDS, **LENGTHS, **change})
