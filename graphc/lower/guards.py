"""The guards of a plan, summed up: of each expression the least and the most that it may be, where the others do not say so."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import gcd, inf
from typing import NamedTuple

from graphc.dims import Dim, Sym, bounds
from graphc.lower.codes import Code
from graphc.sizes import MOST, Trace


class Tested(NamedTuple):
    """Is `expr` as the operation says, compared with 0? text: for people, '' where that tells them nothing. where: who asked."""

    code: Code
    expr: Dim
    text: str
    where: str


@dataclass
class _Span:
    least: float = -inf
    most: float = inf
    where: str = ""

    def narrow(self, least: float, most: float, where: str) -> None:
        if least > self.least or most < self.most:
            self.where = where
        self.least, self.most = max(self.least, least), min(self.most, most)


def summed_up(trace: Trace, names: Collection[str]) -> Iterator[Tested]:
    """What must be tested for all guards of the trace to hold. names: of the sizes that inputs give, which come first."""
    spans: dict[Sym, _Span] = {Sym(name): _Span(*trace.assumed[name]) for name in names}
    unequal: list[tuple[Sym, int, str]] = []
    for guard, where in trace.guards.items():
        expr, factor, number = _parts(guard.expr)  # factor expr + number
        if guard.relation == "==":
            value = -number // factor
            if guard.outcome:
                spans.setdefault(expr, _Span()).narrow(value, value, where)
            else:
                unequal.append((expr, value, where))
            continue
        strict = guard.relation == "<"
        above = guard.outcome != (factor > 0)  # does it say that the expression is above something?
        if guard.outcome:  # factor expr < -number, or <=
            end = -number - strict
        else:  # factor expr >= -number, or >
            end = -number + (not strict)
        if above:
            spans.setdefault(expr, _Span()).narrow(_up(end, factor), inf, where)
        else:
            spans.setdefault(expr, _Span()).narrow(-inf, end // factor, where)
    ranges = {name: (spans[Sym(name)].least, spans[Sym(name)].most) for name in names}
    known = trace.assumed | ranges  # without what the guards below narrow
    for expr, span in spans.items():
        implied = (-inf, inf) if str(expr) in ranges else bounds(expr, known)
        yield from _tested(expr, span, implied)
    for expr, value, where in unequal:
        span = spans.get(expr, _Span())
        implied = bounds(expr, known)
        if max(span.least, implied[0]) <= value <= min(span.most, implied[1]):
            yield Tested(Code.NOT_EQUAL, expr - value, f"{expr} ≠ {value}", where)


def _parts(expr: Sym) -> tuple[Sym, int, int]:
    """(e, factor, number) with expr = factor e + number, and e the same for all that differ in these only."""
    number = expr.terms.get(frozenset(), 0)
    terms = {m: c for m, c in expr.terms.items() if m}
    factor = gcd(*terms.values())
    if str(Sym.of(terms)).startswith("-"):
        factor = -factor
    return Sym.of({m: c // factor for m, c in terms.items()}), factor, number


def _up(end: int, factor: int) -> int:
    """ceil(end / factor)"""
    return -(-end // factor)


def _tested(expr: Sym, span: _Span, implied: tuple[float, float]) -> Iterator[Tested]:
    least, most = span.least, span.most
    below, above = most < implied[1] and most < inf, least > implied[0] and least > -inf
    shown = most < MOST
    if below and above and least == most:
        yield Tested(Code.EQUAL, expr - int(least), f"{expr} = {int(least)}", span.where)
        return
    if above:
        text = f"{int(least)} ≤ {expr} ≤ {int(most)}" if below and shown else f"{expr} ≥ {int(least)}"
        yield Tested(Code.NOT_LESS, expr - int(least), text, span.where)
    if below:
        text = f"{expr} ≤ {int(most)}" if shown and not above else ""
        yield Tested(Code.LESS_EQUAL, expr - int(most), text, span.where)
