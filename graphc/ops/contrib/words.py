"""Hashes, words of texts, and what is distinct: operators that run on the host."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from graphc.dtypes import names
from graphc.op import NUMBERS, Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.contrib.record import DOMAIN
from graphc.ops.index import dim_of_data
from graphc.types import TensorType, dtype_name

# --- MurmurHash3 ------------------------------------------------------------------------------------------------------
_HASHED = (*names("int", "uint", bits=(32, 64)), *names("float", bits=(32, 64)), "object")
_WORD = 0xFFFFFFFF


def _hash_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if x.dtype.name not in _HASHED:
        raise call.fail(f"takes {', '.join(_HASHED[:-1])} or strings, not {dtype_name(x.dtype)}", "insert a Cast")
    return [x.with_dtype(np.uint32 if call.attrs.positive else np.int32)]


def murmur3(data: bytes, seed: int) -> int:
    """The 32-bit MurmurHash3 of bytes (Appleby, MurmurHash3_x86_32)."""

    def mixed(k: int) -> int:
        k = k * 0xCC9E2D51 & _WORD
        return ((k << 15 | k >> 17) & _WORD) * 0x1B873593 & _WORD

    h, whole = seed & _WORD, len(data) // 4 * 4
    for i in range(0, whole, 4):
        h ^= mixed(int.from_bytes(data[i : i + 4], "little"))
        h = (h << 13 | h >> 19) & _WORD
        h = h * 5 + 0xE6546B64 & _WORD
    h ^= mixed(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = (h ^ h >> shift) * factor & _WORD
    return h


def _hash(x, seed, positive):
    words = (v.encode() if isinstance(v, str) else v.tobytes() for v in x.reshape(-1))
    hashes = np.array([murmur3(w, seed) for w in words], np.uint32).reshape(x.shape)
    return hashes if positive else hashes.astype(np.int32)


register(
    Op(
        f"{DOMAIN}::MurmurHash3",
        ("x",),
        _hash_type,
        _hash,
        {"seed": Attr(int, 0), "positive": Attr(bool, True)},
        tolerance=0.0,
        samples=Samples(
            ("int32", "int64", "float32", "float64"),
            cases=(
                Case((Tensor((2, 3)),)),
                Case((Tensor((4,)),), {"positive": False, "seed": -5}),
                Case((Const(["abc", "", "a longer text"], "object"),), {"seed": 7}),
            ),
        ),
        family=Family.INDEX,
    )
)


# --- Tokenizer --------------------------------------------------------------------------------------------------------
def _token_type(call: Call) -> list[TensorType]:
    x, attrs = call.type(0), call.attrs
    if dtype_name(x.dtype) != "string" or x.rank not in (1, 2):
        raise call.fail(f"takes strings [C] or [N, C], not {x}")
    if not attrs.separators and not attrs.tokenexp:
        raise call.fail("has neither separators nor a tokenexp", "give one of them")
    if attrs.mincharnum < 1 or (attrs.separators == ("",) and attrs.mincharnum > 1):
        raise call.fail(f"mincharnum is {attrs.mincharnum}", "use 1 or more, and 1 where each character is a token")
    for pattern in (*attrs.separators, attrs.tokenexp):
        try:
            re.compile(pattern)
        except re.error as error:
            raise call.fail(f"pattern {pattern!r}: {error}") from None
    if attrs.separators != ("",) and any(re.fullmatch(s, "") for s in attrs.separators):
        raise call.fail(f"separators {list(attrs.separators)} match nothing", "use one that has a character at least")
    detail = f", {attrs.separators}, {attrs.tokenexp!r}, {attrs.mark}, {attrs.mincharnum}"
    return [x.with_shape((*x.shape, dim_of_data(call, 0, detail=detail)))]


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of each match, leftmost and of those longest; matches of nothing do not count."""
    at = 0
    while found := pattern.search(text, at):
        begin = found.start()
        end = next((e for e in range(len(text), found.end(), -1) if pattern.fullmatch(text, begin, e)), found.end())
        if end > begin:
            yield begin, end
        at = end if end > begin else begin + 1
        if at > len(text):
            return


def _between(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """What the separators leave."""
    at = 0
    for begin, end in _matches(pattern, text):
        yield text[at:begin]
        at = end
    yield text[at:]


def _tokens(text: str, separators: tuple[str, ...], tokenexp: str, mincharnum: int) -> list[str]:
    if separators == ("",):
        return list(text)
    if separators:
        tokens = [text]
        for separator in separators:
            tokens = [t for token in tokens for t in _between(re.compile(separator), token)]
    else:
        tokens = [text[i:j] for i, j in _matches(re.compile(tokenexp), text)]
    return [t for t in tokens if len(t) >= mincharnum]


def _tokenize(x, mark, mincharnum, pad_value, separators, tokenexp):
    rows = [_tokens(text, separators, tokenexp, mincharnum) for text in x.reshape(-1)]
    longest = max(map(len, rows), default=0)
    if mark and longest:
        rows, longest = [["\x02", *row, "\x03"] for row in rows], longest + 2
    y = np.full((len(rows), longest), pad_value, object)
    for line, row in zip(y, rows):
        line[: len(row)] = row
    return y.reshape(*x.shape, longest)


_TEXTS = Const(["a b cc", "x", " ünd  so"], "object")
_BASE = {"mark": False, "mincharnum": 1, "pad_value": "#"}
register(
    Op(
        f"{DOMAIN}::Tokenizer",
        ("x",),
        _token_type,
        _tokenize,
        {
            "mark": Attr(bool),
            "mincharnum": Attr(int),
            "pad_value": Attr(str),
            "separators": Attr("strings", ()),
            "tokenexp": Attr(str, ""),
        },
        tolerance=0.0,
        samples=Samples(
            ("object",),
            cases=(
                Case((_TEXTS,), {**_BASE, "separators": (" ",), "mark": True}),
                Case((_TEXTS,), {**_BASE, "separators": ("",)}),
                Case((_TEXTS,), {**_BASE, "tokenexp": "[a-z]|[a-z]+", "mincharnum": 2}),
                Case((Const([["a,b c", "d"]], "object"),), {**_BASE, "separators": (",", " ")}),
            ),
        ),
        family=Family.INDEX,
    )
)


# --- Unique -----------------------------------------------------------------------------------------------------------
def _unique_types(call: Call) -> list[TensorType]:
    x = call.type(0)
    if x.rank != 1:
        raise call.fail(f"takes one axis, not {x.shape}", "Reshape it to [-1]")
    count = dim_of_data(call, 0)
    return [x.with_shape((count,)), TensorType(np.int64, x.shape), TensorType(np.int64, (count,))]


def _unique(x):
    """In the order of first occurrence; of equal ones (-0 and 0 are) the first; each NaN by itself."""
    places: dict = {}
    keys = (k if k == k else object() for k in x.tolist())
    index = np.array([places.setdefault(k, len(places)) for k in keys], np.int64)
    first = np.unique(index, return_index=True)[1] if len(index) else np.zeros(0, np.int64)
    return x[first], index, np.bincount(index, minlength=len(first)).astype(np.int64)


register(
    Op(
        f"{DOMAIN}::Unique",
        ("x",),
        _unique_types,
        _unique,
        outputs=("y", "inverse_indices", "counts"),
        tolerance=0.0,
        bound=lambda call: call.type(0).size,
        samples=Samples(
            NUMBERS,
            cases=(
                Case((Tensor((9,)),), n_outputs=3),
                Case((Const([3, 1, 3, 2, 1, np.nan, np.nan, -0.0, 0.0], "float32"),), n_outputs=3),
            ),
        ),
        family=Family.INDEX,
    )
)
