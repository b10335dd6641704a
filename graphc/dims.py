"""Dims that can be computed with: polynomials over named sizes, in one canonical form.

What is no polynomial (`//`, minimum, maximum, broadcasting) is an atom of one. Two dims are equal where their canonical forms
are, so `h + w == w + h`, `n - n == 0`, `(a*n)//a == n` and `(h - 1)//2 + 1 == (h + 1)//2`. Equal dims have equal values for all
sizes; not all dims with equal values are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Union

from graphc.polynomial import (
    MAX_COEFFICIENT,
    MAX_NODES,
    ONE,
    Atom,
    Monomial,
    Polynomial,
    Terms,
    added,
    digest,
    divided,
    divided_exactly,
    is_unknown,
    multiplied,
    of_atom,
    scaled,
    short_name,
    text_of,
)

_INF = math.inf
MOST_COMPARED = 16  # operands of a minimum or maximum that are held against each other


class Sym(Polynomial):
    """A dim that is known by name only, or an expression of such names ('batch', '(h + 1)//2'). Immutable, hashable.

    + - * // % with ints and other dims give dims, and ints where names cancel. '?' is the name of a size that nothing is
    known of: a difference or quotient of two such is not known either.
    """

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self._fill({of_atom(Atom("size", (short_name(name),))): 1})

    def __add__(self, other: Dim) -> Dim:
        more = _terms(other)
        if more is None:
            return NotImplemented
        return _dim(added(self.terms, more), self.unknown or is_unknown(other))

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Sym.of(scaled(self.terms, -1))

    def __sub__(self, other: Dim) -> Dim:
        more = _terms(other)
        if more is None:
            return NotImplemented
        return _dim(added(self.terms, scaled(more, -1)), self.unknown or is_unknown(other))

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        more = _terms(other)
        if more is None:
            return NotImplemented
        return _dim(multiplied(self.terms, more), bool(more) and (self.unknown or is_unknown(other)))

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        more = _terms(other)
        return NotImplemented if more is None else _quotient(self.terms, more, self.unknown or is_unknown(other))

    def __rfloordiv__(self, other: Dim) -> Dim:
        more = _terms(other)
        return NotImplemented if more is None else _quotient(more, self.terms, bool(more) and self.unknown)

    def __mod__(self, other: Dim) -> Dim:
        return self - self // other * other

    def __rmod__(self, other: Dim) -> Dim:
        return other - other // self * self


Dim = Union[int, Sym]


# --- functions of dims ------------------------------------------------------------------------------------------------
def minimum(*dims: Dim) -> Dim:
    return _extreme("min", dims)


def maximum(*dims: Dim) -> Dim:
    return _extreme("max", dims)


def broadcast_dims(*dims: Dim) -> Dim:
    """The size that dims broadcast to, as in NumPy. Raises ValueError where known ones disagree.

    A symbol against an int above 1 takes the int: binding checks it.
    """
    found = {d for d in _flat("broadcast", dims) if d != 1}
    known = [d for d in found if isinstance(d, int)]
    if any(d != known[0] for d in known[1:]):
        raise ValueError(f"sizes {' and '.join(sorted(map(str, known)))} do not broadcast")
    if known or not found:
        return known[0] if known else 1
    return found.pop() if len(found) == 1 else _atom("broadcast", frozenset(found))


def symbols(dim: Dim) -> tuple[str, ...]:
    """The names that the dim depends on, sorted."""
    return tuple(sorted(set(_names(dim))))


def substitute(dim: Dim, sizes: Mapping[str, Dim]) -> Dim:
    """The dim with names replaced. A name that merely contains another ('NonZero(x)') is one of its own.

    Raises ZeroDivisionError, and ValueError where sizes do not broadcast.
    """
    if not isinstance(dim, Sym):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms.items():
        term: Dim = coefficient
        for atom, power in monomial:
            value = _replaced(atom, sizes)
            for _ in range(power):
                term = term * value
        total = total + term
    return total


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The dim for sizes by name. Raises ValueError for negative sizes, for sizes that are missing or do not broadcast, and for
    an expression that was too long to keep; ZeroDivisionError."""
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"'{name}' is {size}: sizes are ints from 0 up")
    value = substitute(dim, sizes)
    if isinstance(value, Sym):
        missing = ", ".join(f"'{name}'" for name in symbols(value))
        raise ValueError(f"the dim '{dim}' needs the size of {missing}" if missing else f"the dim '{dim}' is too long")
    return value


def bounds(dim: Dim, ranges: Mapping[str, tuple[float, float]] | None = None) -> tuple[float, float]:
    """Numbers that the dim lies between, ends included, for sizes in their ranges (from 0 up where none is given).

    By interval arithmetic: there may be tighter ones.
    """
    if not isinstance(dim, Sym):
        return dim, dim
    lo: float = 0
    hi: float = 0
    for monomial, coefficient in dim.terms.items():
        term: tuple[float, float] = (coefficient, coefficient)
        for atom, power in monomial:
            for _ in range(power):
                term = _interval(_product, term, _range(atom, ranges or {}))
        lo, hi = _plus(lo, term[0]), _plus(hi, term[1])
    return lo, hi


# --- polynomials ------------------------------------------------------------------------------------------------------


def _atom(op: str, args: Any) -> Dim:
    return _dim({of_atom(Atom(op, args)): 1}, any(map(is_unknown, args)))


def _terms(dim: Any) -> Terms | None:
    """None for what is no dim."""
    if isinstance(dim, Sym):
        return dim.terms
    if not hasattr(dim, "__index__"):
        return None
    number = dim.__index__()
    return {ONE: number} if number else {}


def _dim(terms: Terms, unknown: bool) -> Dim:
    """unknown: was something of it not known? Then it is still not, though it cancels."""
    terms = {m: c for m, c in terms.items() if c}
    if not terms or terms.keys() == {ONE}:
        return UNKNOWN if unknown else terms.get(ONE, 0)
    dim = Sym.of(terms)
    if unknown and not dim.unknown:
        return UNKNOWN
    if dim.nodes <= MAX_NODES and all(-MAX_COEFFICIENT < c < MAX_COEFFICIENT for c in terms.values()):
        return dim
    name = f"<{digest(text_of(dim, repr))}{'?' * dim.unknown}>"
    return Sym.of({of_atom(Atom("long", (name,))): 1})


# --- division ---------------------------------------------------------------------------------------------------------
def _quotient(a: Terms, b: Terms, unknown: bool) -> Dim:
    """floor(a / b), for all sizes for which b is not 0. Each step below is an equation of whole numbers."""
    if not b:
        raise ZeroDivisionError("a dim divided by 0")
    if all(c < 0 for c in b.values()):
        a, b = scaled(a, -1), scaled(b, -1)
    whole, rest = _split(a, b)
    if not rest:
        return _dim(whole, unknown)
    return _dim(added(whole, _fraction(rest, b)), unknown)


def _fraction(a: Terms, b: Terms) -> Terms:
    """floor(a / b) where no part of a is a multiple of b."""
    divisor = b[ONE] if b.keys() == {ONE} else None
    smaller = _cancelled(a, b) if divisor is None else _reduced(a, divisor)
    if smaller is not None:
        return _terms(_quotient(*smaller, unknown=False)) or {}
    top, bottom = _dim(a, False), _dim(b, False)
    (lo, hi), (least, _) = bounds(top), bounds(bottom)
    if divisor is not None:
        if lo > -_INF and hi < _INF and lo // divisor == hi // divisor:
            return _terms(int(lo // divisor)) or {}
        if all(c < 0 for m, c in a.items() if m):  # floor(-x / d) = -floor((x + d - 1) / d)
            up = _quotient(added(scaled(a, -1), {ONE: divisor - 1}), b, unknown=False)
            return scaled(_terms(up) or {}, -1)
    elif lo >= 0 and hi < least:
        return {}
    return {of_atom(Atom("//", (top, bottom))): 1}


def _split(a: Terms, b: Terms) -> tuple[Terms, Terms]:
    """(q, r) with a = q b + r: r is 0 where b divides a, and holds no multiple of b where b is one term."""
    exact = divided_exactly(a, b)
    if exact is not None:
        return exact, {}
    if len(b) > 1:
        return {}, a
    ((n, d),) = b.items()
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for m, c in a.items():
        k = divided(m, n)
        count = 0 if k is None or (k and c % d) else c // d  # of a number also a part comes out
        if k is not None and count:
            whole[k] = count
        if c - count * d:
            rest[m] = c - count * d
    return whole, rest


def _reduced(a: Terms, divisor: int) -> tuple[Terms, Terms] | None:
    """Smaller operands with the same quotient, for a positive divisor; None where there are none."""
    common = math.gcd(divisor, *(c for m, c in a.items() if m))
    if common > 1:  # floor((g x + r) / (g d)) = floor((x + floor(r / g)) / d)
        return {m: c // common for m, c in a.items() if c // common}, {ONE: divisor // common}
    parts = [m for m in a if m]
    if len(parts) != 1 or a[parts[0]] != 1 or len(parts[0]) != 1:
        return None
    ((atom, power),) = parts[0]
    if atom.op != "//" or power != 1 or not isinstance(atom.args[1], int):
        return None
    inner, first = atom.args  # floor((floor(x / a) + c) / d) = floor((x + a c) / (a d))
    return added(inner.terms, {ONE: a.get(ONE, 0) * first}), {ONE: first * divisor}


def _cancelled(a: Terms, b: Terms) -> tuple[Terms, Terms] | None:
    """Both without the factors that all their terms have; None where there are none."""
    factor = math.gcd(*a.values(), *b.values())
    powers = [dict(m) for m in (*a, *b)]
    shared = frozenset(
        (atom, least) for atom in powers[0] if (least := min(p.get(atom, 0) for p in powers)) > 0
    )  # of one monomial: the divisor is not 0, so neither are they
    if factor == 1 and not shared:
        return None
    top, bottom = ({divided(m, shared) or ONE: c // factor for m, c in terms.items()} for terms in (a, b))
    return top, bottom


# --- functions --------------------------------------------------------------------------------------------------------
def _flat(op: str, dims: Iterable[Dim]) -> Iterator[Dim]:
    """The dims, and in the place of those that are `op` of others, these."""
    for d in dims:
        if isinstance(d, Sym) and len(d.terms) == 1:
            ((monomial, coefficient),) = d.terms.items()
            atom, power = next(iter(monomial))
            if (coefficient, len(monomial), power, atom.op) == (1, 1, 1, op):
                yield from atom.args
                continue
        yield d


def _extreme(op: str, dims: Iterable[Dim]) -> Dim:
    flat = dict.fromkeys(_flat(op, dims))
    numbers = [d for d in flat if isinstance(d, int)]
    found: list[Dim] = [d for d in flat if not isinstance(d, int)]
    if numbers:
        found.append(min(numbers) if op == "min" else max(numbers))
    if len(found) > MOST_COMPARED:
        return _atom(op, frozenset(found))
    kept: list[Dim] = []
    for d in found:
        if not any(_decides(op, e, d) for e in kept):
            kept = [e for e in kept if not _decides(op, d, e)] + [d]
    return kept[0] if len(kept) == 1 else _atom(op, frozenset(kept))


def _decides(op: str, d: Dim, e: Dim) -> bool:
    """Is the extreme of both d, whatever the sizes?"""
    if d in _flat("max" if op == "min" else "min", [e]):  # min(max(d, …), d) = d
        return True
    return bounds(e - d if op == "min" else d - e)[0] >= 0


def _replaced(atom: Atom, sizes: Mapping[str, Dim]) -> Dim:
    if atom.op in ("size", "long"):
        known = sizes.get(atom.args[0]) if atom.op == "size" else None
        return Sym.of({of_atom(atom): 1}) if known is None else known
    args = [substitute(d, sizes) for d in atom.args]
    if atom.op == "//":
        return args[0] // args[1]
    return broadcast_dims(*args) if atom.op == "broadcast" else _extreme(atom.op, args)


def _names(dim: Any) -> Iterator[str]:
    if isinstance(dim, Sym):
        for atom in (atom for m in dim.terms for atom, _ in m):
            if atom.op == "size":
                yield atom.args[0]
            elif atom.op != "long":
                for arg in atom.args:
                    yield from _names(arg)


# --- intervals --------------------------------------------------------------------------------------------------------
def _range(atom: Atom, ranges: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    if atom.op == "size" and not is_unknown(atom.args[0]):
        return ranges.get(atom.args[0], (0, _INF))
    if atom.op in ("size", "long"):
        return -_INF, _INF
    parts = [bounds(d, ranges) for d in atom.args]
    los, his = [lo for lo, _ in parts], [hi for _, hi in parts]
    if atom.op == "//":
        return _interval(_floor, *parts) if los[1] > 0 else (-_INF, _INF)
    return (max if atom.op == "max" else min)(los), (min if atom.op == "min" else max)(his)


def _interval(
    function: Callable[[float, float], float], a: tuple[float, float], b: tuple[float, float]
) -> tuple[float, float]:
    """Of a function that is monotonic in each argument."""
    ends = [function(x, y) for x in a for y in b]
    return min(ends), max(ends)


def _is_infinite(x: float) -> bool:
    return x in (_INF, -_INF)  # math.isinf makes a float of an int, which may be too large


def _plus(x: float, y: float) -> float:
    return x if _is_infinite(x) else y if _is_infinite(y) else x + y


def _product(x: float, y: float) -> float:
    if _is_infinite(x) or _is_infinite(y):
        return 0 if x == 0 or y == 0 else _INF if (x > 0) == (y > 0) else -_INF
    return x * y


def _floor(x: float, y: float) -> float:
    if _is_infinite(x):
        return x
    return (0 if x >= 0 else -1) if _is_infinite(y) else x // y


# --- text -------------------------------------------------------------------------------------------------------------


UNKNOWN = Sym("?")
