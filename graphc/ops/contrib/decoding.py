"""Operators of com.microsoft that search for texts: NGramRepeatBlock and BifurcationDetector."""

from __future__ import annotations

import numpy as np

from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype
from graphc.ops.contrib.attention import expect
from graphc.ops.contrib.record import DOMAIN, contrib, where_static
from graphc.ops.index import dim_of_data
from graphc.ops.within import emit_within
from graphc.types import TensorType

INT64 = np.dtype(np.int64)


# --- NGramRepeatBlock -------------------------------------------------------------------------------------------------
def _repeat_type(call: Call) -> list[TensorType]:
    require_dtype(call, 0, ("int64",))
    require_dtype(call, 1, FLOAT_NAMES)
    if call.rank(0) != 2 or call.rank(1) != 2 or differ(call.shape(0)[0], call.shape(1)[0]):
        raise call.fail(
            f"operands have shapes {call.shape(0)} and {call.shape(1)}",
            "give [batch, sequence] and [batch, vocabulary]",
        )
    if call.attrs.ngram_size < 1:
        raise call.fail(f"ngram_size is {call.attrs.ngram_size}", "1 or more")
    return [call.type(1)]


def _repeat_reference(ids, scores, ngram_size):
    y, n = scores.copy(), ngram_size
    for row, tokens in zip(y, ids.tolist()):
        last = tokens[len(tokens) - n + 1 :]
        for i in range(len(tokens) - n + 1):
            if tokens[i : i + n - 1] == last:
                token = tokens[i + n - 1]
                if not 0 <= token < len(row):
                    raise InputError(f"token {token} of a vocabulary of {len(row)}")
                row[token] = -np.inf
    return y


@where_static
def _expand_repeat(b: Builder, call: Call) -> Value:
    """Scores of tokens that end an n-gram whose beginning stands at the end become the lowest; where it does not, nothing is lower."""
    (ids, scores), n = call.inputs, call.attrs.ngram_size
    batch, length = ids.shape
    count = length - n + 1  # of n-grams
    if count < 1:
        call.ignore(0)
        return b.add("Identity", scores)

    def part(start, size) -> Value:
        return b.add("Slice", ids, *(b.constant([k], np.int64) for k in (start, start + size, 1)))

    repeats = b.add("Expand", b.constant(True), b.constant([batch, count], np.int64))
    for k in range(n - 1):
        repeats = b.add("And", repeats, b.add("Equal", part(k, count), part(count + k, 1)))
    tokens = b.add("Where", repeats, part(n - 1, count), b.constant(0, INT64))
    lowest, highest = (b.constant(sign * np.inf, scores.dtype) for sign in (-1, 1))
    banned = b.add("Where", repeats, lowest, highest)
    tokens = emit_within(b, tokens, scores.shape[1], "token", "the scores", call.op.name)
    return b.add("ScatterElements", scores, tokens, banned, axis=1, reduction="min")


_IDS = Const([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]])
contrib(
    "NGramRepeatBlock",
    "input_ids scores",
    _repeat_type,
    _repeat_reference,
    _expand_repeat,
    [Case((_IDS, Tensor((2, 6), dtype="float32")), {"ngram_size": n}) for n in (1, 3, 6)],
    {"ngram_size": Attr(int)},
    dtypes=("int64",),
    tolerance=0.0,
)


# --- BifurcationDetector ----------------------------------------------------------------------------------------------
def _bifurcation_type(call: Call) -> list[TensorType]:
    for i in range(len(call.inputs)):
        if call.has(i):
            require_dtype(call, i, ("int64",))
            if call.rank(i) > 1 or (i != 2 and call.rank(i) != 1):
                raise call.fail(f"'{call.op.inputs[i].rstrip('?')}' has shape {call.shape(i)}", "one axis")
    expect(call, 2, (), (1,))
    if call.has(3):
        (source,), (predicted,) = call.shape(0), call.shape(3)
        most = source + 1
        if predicted == 0 or (isinstance(predicted, int) and isinstance(most, int) and predicted > most):
            raise call.fail(f"{predicted} tokens are predicted of {source}", f"from 1 to {most}")
    if call.attrs.min_ngram_size < 1 or call.attrs.max_ngram_size < call.attrs.min_ngram_size:
        raise call.fail(f"n-grams from {call.attrs.min_ngram_size} to {call.attrs.max_ngram_size} tokens")
    length = dim_of_data(call, 0, 1, 2, 3) if call.has(3) else call.shape(1)[0]
    return [TensorType(INT64, (length,)), TensorType(INT64, (1,))]


def _bifurcation_reference(source, current, previous, predicted=None, *, min_ngram_size, max_ngram_size):
    """The prefix of what is predicted that agrees with the source from `previous` on, and one token more, comes behind; then the
    last n tokens are looked for in the source, longer ones where there are several."""
    tokens, source = current.tolist(), source.tolist()
    if predicted is not None:
        at = int(np.reshape(previous, ()))
        if not 0 <= at <= len(source) or len(predicted) != len(source) + 1 - at:
            raise InputError(
                f"{len(predicted)} tokens are predicted behind token {at} of {len(source)}: there must be one more than left"
            )
        agree = 0
        while agree < len(predicted) - 1 and predicted[agree] == source[at + agree]:
            agree += 1
        tokens += predicted[: agree + 1].tolist()
    found = -1
    for n in range(min_ngram_size, max_ngram_size + 1):
        if n > len(tokens):
            break
        places = [i for i in range(len(source) - n + 1) if source[i : i + n] == tokens[len(tokens) - n :]]
        if len(places) != 1:
            if not places:
                break
            continue
        found = places[0] + n
        break
    return np.array(tokens, INT64), np.array([found], INT64)


register(
    Op(
        f"{DOMAIN}::BifurcationDetector",
        ("src_tokens", "cur_tokens", "prev_suffix_match_idx", "pred_tokens?"),
        _bifurcation_type,
        _bifurcation_reference,
        {"min_ngram_size": Attr(int, 1), "max_ngram_size": Attr(int, 3)},
        ("tokens", "suffix_match_idx"),
        tolerance=0.0,
        samples=Samples(
            ("int64",),
            cases=(
                Case((Const([1, 2, 3, 4, 5, 6]), Const([1, 2]), Const([0])), {}, 2),
                Case((Const([1, 2, 3, 4, 5, 6]), Const([1]), Const([0]), Const([1, 2, 3, 9, 1, 1, 1])), {}, 2),
            ),
        ),
    )
)
