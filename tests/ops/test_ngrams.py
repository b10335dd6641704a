"""TfIdfVectorizer against its text: what ONNX's examples do not tell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@st.composite
def tables(draw):
    """An operator's attributes, and rows."""
    item = st.integers(-(2**63), 2**63 - 1) if draw(st.booleans()) else st.integers(-2, 2)
    counts = [draw(st.integers(0, 5)) for _ in range(draw(st.integers(1, 4)))]
    counts[-1] = max(counts[-1], 1)
    grams = [[draw(item) for _ in range(n)] for n, k in enumerate(counts, 1) for _ in range(k)]
    pool = [i for gram in grams for i in gram]
    starts = np.cumsum([0, *(n * k for n, k in enumerate(counts, 1))])[:-1].tolist()
    shortest = draw(st.integers(1, len(counts)))
    attrs = {
        "mode": draw(st.sampled_from(["TF", "IDF", "TFIDF"])),
        "pool_int64s": pool,
        "ngram_counts": starts,
        "ngram_indexes": [draw(st.integers(0, len(grams))) for _ in grams],
        "min_gram_length": shortest,
        "max_gram_length": draw(st.integers(shortest, len(counts))),
        "max_skip_count": draw(st.integers(0, 3)),
        "weights": draw(st.none() | st.lists(st.integers(-3, 3).map(float), min_size=len(grams), max_size=len(grams))),
    }
    items = st.sampled_from(pool) | item
    rows, length = draw(st.integers(0, 3)), draw(st.integers(0, 7))
    x = np.array([[draw(items) for _ in range(length)] for _ in range(rows)], np.int64).reshape(rows, length)
    return attrs, x[0] if rows == 1 and draw(st.booleans()) else x


def counted(row, gram, skips):
    """How often an n-gram occurs among items that are equally far apart."""
    n, steps = len(gram), range(1, skips + 2)
    starts = [(at, d) for d in (steps if n > 1 else [1]) for at in range(len(row) - (n - 1) * d)]
    return sum(all(row[at + k * d] == item for k, item in enumerate(gram)) for at, d in starts)


@settings(max_examples=25, deadline=None)
@given(tables())
def test_numbers_are_found_by_machine_code(table):
    """Against a count of each n-gram by itself; weights are whole numbers, so that sums are exact."""
    attrs, x = table
    b = Builder()
    model = graphc.compile(b.build({"y": b.add("TfIdfVectorizer", b.input("x", x.dtype, x.shape), **attrs)}))
    grams, pool = [], attrs["pool_int64s"]
    for n, (start, end) in enumerate(zip(attrs["ngram_counts"], [*attrs["ngram_counts"][1:], len(pool)]), 1):
        grams += [pool[k : k + n] for k in range(start, end, n)]
    rows = x if x.ndim > 1 else x[None]
    want = np.zeros((len(rows), max(attrs["ngram_indexes"]) + 1), np.float32)
    for r, row in enumerate(rows.tolist()):
        for k, gram in enumerate(grams):
            if attrs["min_gram_length"] <= len(gram) <= attrs["max_gram_length"]:
                score = counted(row, gram, attrs["max_skip_count"])
                score = min(score, 1) if attrs["mode"] == "IDF" else score
                weight = 1 if attrs["mode"] == "TF" or attrs["weights"] is None else attrs["weights"][k]
                want[r, attrs["ngram_indexes"][k]] += score * weight
    got = model(x)
    np.testing.assert_array_equal(got, want if x.ndim > 1 else want[0])
    assert not np.signbit(got[got == 0]).any()
    if x.size and any(attrs["min_gram_length"] <= len(gram) <= attrs["max_gram_length"] for gram in grams):
        assert not any(step.host for step in model.plan().steps)


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
