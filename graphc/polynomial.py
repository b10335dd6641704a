"""Polynomials with whole coefficients over named sizes and other atoms: the canonical form of dims, and its text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

LONGEST_NAME = 256  # characters
MAX_NODES = 128  # of an expression: operations on dims take bounded time
MAX_COEFFICIENT = 1 << 63


class Atom(NamedTuple):
    """A factor of a term.

    op    'size' (args: its name, 0 or more), 'long' (args: the digest of an expression above MAX_NODES, any integer),
          '//' (args: two dims), or 'min', 'max', 'broadcast' (args: a frozenset of dims)
    """

    op: str
    args: Any


Monomial = frozenset[tuple[Atom, int]]  # atoms and their powers
Terms = Mapping[Monomial, int]  # coefficients, none of them 0
ONE: Monomial = frozenset()
P = TypeVar("P", bound="Polynomial")


class Polynomial:
    """A sum of terms; two are equal where their terms are. Immutable, hashable."""

    __slots__ = ("_hash", "nodes", "terms", "unknown")

    terms: Terms
    nodes: int  # of the expression
    unknown: bool  # does it hold a name with a '?'?

    @classmethod
    def of(cls: type[P], terms: Terms) -> P:
        """The polynomial as it is: neither a number nor too long."""
        made = cls.__new__(cls)
        made._fill(terms)
        return made

    def _fill(self, terms: Terms) -> None:
        self.terms = terms
        self._hash = hash(frozenset(terms.items()))
        atoms = [(atom, power) for m in terms for atom, power in m]
        self.nodes = len(terms) + sum(
            power * (1 + sum(map(_nodes, atom.args))) for atom, power in atoms
        )  # as the text has
        self.unknown = any(is_unknown(arg) for atom, _ in atoms for arg in atom.args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self._hash == other._hash and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).of, (self.terms,)  # hashes of text differ between processes

    def __str__(self) -> str:
        return text_of(self, str)

    __repr__ = __str__


def of_atom(atom: Atom) -> Monomial:
    return frozenset({(atom, 1)})


def added(a: Terms, b: Terms) -> Terms:
    total = dict(a)
    for m, c in b.items():
        total[m] = total.get(m, 0) + c
    return total


def scaled(a: Terms, factor: int) -> Terms:
    return {m: c * factor for m, c in a.items()}


def multiplied(a: Terms, b: Terms) -> Terms:
    total: dict[Monomial, int] = {}
    for m, c in a.items():
        for n, d in b.items():
            powers = dict(m)
            for atom, power in n:
                powers[atom] = powers.get(atom, 0) + power
            k = frozenset(powers.items())
            total[k] = total.get(k, 0) + c * d
    return total


def divided(m: Monomial, n: Monomial) -> Monomial | None:
    """m / n, None where n does not divide it."""
    powers = dict(m)
    for atom, power in n:
        left = powers.pop(atom, 0) - power
        if left < 0:
            return None
        if left:
            powers[atom] = left
    return frozenset(powers.items())


def divided_exactly(a: Terms, b: Terms) -> Terms | None:
    """a / b as a polynomial, None where it is none: long division in the lexicographic order of monomials."""
    atoms = sorted({atom for terms in (a, b) for m in terms for atom, _ in m}, key=lambda atom: _atom_text(atom, repr))

    def order(m: Monomial) -> list[int]:
        powers = dict(m)
        return [powers.get(atom, 0) for atom in atoms]

    lead = max(b, key=order)
    quotient: dict[Monomial, int] = {}
    for _ in range(MAX_NODES):
        if not a:
            return quotient
        first = max(a, key=order)
        k = divided(first, lead)
        if k is None or a[first] % b[lead]:
            return None
        quotient[k] = a[first] // b[lead]
        a = {m: c for m, c in added(a, multiplied({k: -quotient[k]}, b)).items() if c}
    return None


def text_of(p: int | Polynomial, name: Callable[[str], str]) -> str:
    """name: how a name is written. With `repr`, no two dims have the same text."""
    if not isinstance(p, Polynomial):
        return str(p)
    number_last = any(m and c > 0 for m, c in p.terms.items())
    parts = sorted(
        (not m and number_last, c < 0, -sum(power for _, power in m), _term_text(m, abs(c), name), c < 0)
        for m, c in p.terms.items()
    )
    text = "".join(f" {'-' if negative else '+'} {term}" for *_, term, negative in parts)
    if not text.startswith(" - "):
        return text[3:]
    first = parts[0][-2]  # -h//2 is (-h)//2
    return f"-{f'({first})' if '//' in first else first}{text[3 + len(first) :]}"


def _term_text(m: Monomial, coefficient: int, name: Callable[[str], str]) -> str:
    lone = len(m) == 1 and coefficient == 1 and next(iter(m))[1] == 1
    factors = [
        f"({text})" if not lone and (atom.op == "//" or (" " in text and atom.op == "size")) else text
        for atom, power in m
        for text in [_atom_text(atom, name)] * power
    ]
    numbers = [hex(coefficient) if coefficient >= MAX_COEFFICIENT else str(coefficient)]  # str has a limit
    return "*".join([*(numbers if coefficient != 1 or not m else []), *sorted(factors)])


def _atom_text(atom: Atom, name: Callable[[str], str]) -> str:
    if atom.op == "size":
        return name(atom.args[0])
    if atom.op == "long":
        return str(atom.args[0])
    if atom.op == "//":
        top, bottom = (text_of(d, name) for d in atom.args)
        top = f"({top})" if isinstance(atom.args[0], Polynomial) and len(atom.args[0].terms) > 1 else top
        return f"{top}//{bottom if bottom.isidentifier() or bottom.isdigit() else f'({bottom})'}"
    args = sorted((isinstance(d, int), text_of(d, name)) for d in atom.args)
    return f"{atom.op}({', '.join(text for _, text in args)})"


def short_name(name: str) -> str:
    """A long name is a digest of itself."""
    return name if len(name) <= LONGEST_NAME else f"<{digest(name)}{'?' * ('?' in name)}>"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _nodes(arg: int | str | Polynomial) -> int:
    return arg.nodes if isinstance(arg, Polynomial) else 1


def is_unknown(arg: int | str | Polynomial) -> bool:
    return arg.unknown if isinstance(arg, Polynomial) else isinstance(arg, str) and "?" in arg
