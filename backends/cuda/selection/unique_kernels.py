"""The distinct elements of a tensor. Elements are equal where their keys are, as they are sorted by (verbs/ordered_kernels.py):
zeros of both signs, and all NaN."""

from __future__ import annotations

from collections.abc import Callable

from numba.cuda.extending import register_jitable

from graphc.backends.cuda.codegen.device import load, move, store, word
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.selection.ranks_kernels import counting, ranking
from graphc.backends.cuda.selection.unique_block import (
    COUNT_DISTINCT,
    COUNT_FIRSTS,
    DESCRIBE,
    NUMBER_DISTINCT,
    NUMBER_FIRSTS,
    CountDistinct,
    CountFirsts,
    Describe,
    NumberDistinct,
    NumberFirsts,
)
from graphc.backends.cuda.verbs.ordered_kernels import LEAST, key_of
from graphc.types import dtype_from_name

load_word, store_word = load("int64"), store("int64")


def _differs(dtype: str, elements: int) -> Callable[[int, int], bool]:
    """elements: the word with the address of those in order."""
    kind = dtype_from_name(dtype)
    item, key = kind.itemsize, key_of(kind, False, LEAST)

    @register_jitable
    def differs(a, i):
        at = word(a, elements) + i * item
        return i == 0 or key(at) != key(at - item)

    return differs


@makes(CountDistinct)
def count_distinct(dtype: str) -> Code:
    return Code(counting(_differs(dtype, *COUNT_DISTINCT["sorted"])))


@makes(NumberDistinct)
def number_distinct(dtype: str) -> Code:
    PLACES, GROUPS, FIRSTS, STARTS = NUMBER_DISTINCT["places groups firsts starts"]

    @register_jitable
    def assign(a, i, chosen, rank, total):
        place = load_word(word(a, PLACES) + 8 * i)
        group = rank if chosen else rank - 1
        store_word(word(a, GROUPS) + 8 * place, group)
        if chosen:
            store_word(word(a, FIRSTS) + 8 * group, place)
            store_word(word(a, STARTS) + 8 * group, i)

    return Code(ranking(_differs(dtype, *NUMBER_DISTINCT["sorted"]), assign))


def _is_first(groups: int, firsts: int) -> Callable[[int, int], bool]:
    """groups, firsts: words with their addresses."""

    @register_jitable
    def is_first(a, i):
        return load_word(word(a, firsts) + 8 * load_word(word(a, groups) + 8 * i)) == i

    return is_first


@makes(CountFirsts)
def count_firsts() -> Code:
    return Code(counting(_is_first(*COUNT_FIRSTS["groups firsts"])))


@makes(NumberFirsts)
def number_firsts() -> Code:
    GROUPS, FIRSTS, NUMBERS, OLD, NEW_FIRSTS = NUMBER_FIRSTS["groups firsts numbers old new_firsts"]

    @register_jitable
    def assign(a, i, chosen, rank, total):
        if chosen:
            group = load_word(word(a, GROUPS) + 8 * i)
            store_word(word(a, NUMBERS) + 8 * group, rank)
            store_word(word(a, OLD) + 8 * rank, group)
            store_word(word(a, NEW_FIRSTS) + 8 * rank, i)

    return Code(ranking(_is_first(GROUPS, FIRSTS), assign))


@makes(Describe)
def describe_groups(item: int) -> Code:
    """A thread for each element, of which the first ones have a group each, too."""
    N, TOTAL, X, FIRSTS, STARTS, VALUES = DESCRIBE["n total x firsts starts values"]
    REPEATS, OLD, NUMBERS, GROUPS, INVERSE = DESCRIBE["repeats old numbers groups inverse"]
    copy = move(item)

    def describe_groups(a):
        i, n = thread_number(THREADS), word(a, N)
        if i < n:
            total, group = load_word(word(a, TOTAL)), i
            if word(a, OLD) != 0:
                number = load_word(word(a, NUMBERS) + 8 * load_word(word(a, GROUPS) + 8 * i))
                store_word(word(a, INVERSE) + 8 * i, number)
                if i < total:
                    group = load_word(word(a, OLD) + 8 * i)
            if i < total:
                start = word(a, STARTS) + 8 * group
                end = load_word(start + 8) if group + 1 < total else n
                store_word(word(a, REPEATS) + 8 * i, end - load_word(start))
                copy(word(a, VALUES) + i * item, word(a, X) + load_word(word(a, FIRSTS) + 8 * i) * item)

    return Code(describe_groups)
