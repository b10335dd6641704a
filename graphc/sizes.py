"""Sizes that stand for many: a plan is made once, for one example, and holds for every size that answers its questions alike.

A `Size` is an int to whoever looks (`isinstance(size, int)`), but no Python int: arithmetic gives expressions (graphc/dims.py),
and whatever needs a number at once - a comparison, `bool`, an index, `range`, NumPy - asks. A question is answered from what
is known of the sizes for certain, else from the example, and the answer becomes a *guard* of the trace: what was made holds
for the sizes for which all guards give the same answers. So a decision can't be wrong outside its guards; it can only make
them narrow. What keeps them wide:

- `choose` and `where` make a decision a value, which is computed when a plan is bound to sizes;
- `for_speed` takes a decision that makes nothing wrong for the example, without guards; what its result needs of the sizes is
  asked behind it;
- arithmetic in the place of branches.
"""

from __future__ import annotations

import builtins
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import numpy as np

from graphc.dims import Dim, Sym, bounds, maximum, minimum, substitute, symbols
from graphc.polynomial import scaled

LONGEST = 48  # nodes of an expression, before it gets a name
LOOKED_UP = 512  # sizes for which `choose` tells values apart; larger ones take the last
LEAST = 2  # of a size that stands for many: 0 and 1 make other plans (nothing to do, broadcasting)
MOST = 1 << 31
MOST_GUARDS = 2000  # of a plan: a loop over a size asks for ever

Function = TypeVar("Function", bound=Callable[..., Any])


_RELATIONS = {"==": "=≠", "<": "<≥", "<=": "≤>"}  # true, false
_SWAPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}


class Guard(NamedTuple):
    """`expr relation 0` is `outcome`. relation: '==', '<' or '<='."""

    relation: str
    expr: Sym
    outcome: bool

    def __str__(self) -> str:
        return " ".join(_sides(self.expr, _RELATIONS[self.relation][not self.outcome]))


class Definition(NamedTuple):
    """What a name stands for. op: 'is' (args: a Sym), 'look' (a Sym, the values for 0, 1, …: the last for all beyond), 'positive'
    (a Sym: 1 where it is above 0, else 0)."""

    op: str
    args: tuple[Any, ...]

    def value(self, sizes: Mapping[str, int]) -> int:
        n = number_of(self.args[0], sizes)
        if self.op == "look":
            return self.args[1][max(0, min(n, len(self.args[1]) - 1))]
        return builtins.int(n > 0) if self.op == "positive" else n


class Known(NamedTuple):
    """Guards and ranges of a trace."""

    guards: dict[Guard, str]
    ranges: dict[str, tuple[float, float]]


class Trace:
    """The sizes of one plan: their names, the example, and the guards so far.

    hints   of each name, the example
    assumed of each name, its range: of sizes that inputs give by convention, of others by what they are
    ranges  the same, narrowed by guards
    guards  with the place that asked
    names   of the sizes that inputs give
    """

    count = 0
    asking = 0  # traces of which plans are being made

    def __init__(self) -> None:
        Trace.count += 1
        self.serial = Trace.count
        self.names: list[str] = []
        self.hints: dict[str, int] = {}
        self.ranges: dict[str, tuple[float, float]] = {}
        self.assumed: dict[str, tuple[float, float]] = {}
        self.guards: dict[Guard, str] = {}
        self.definitions: dict[str, Definition] = {}
        self.open = False
        self._names: dict[Definition, str] = {}
        self._results: dict[tuple[Any, ...], Any] = {}  # of operations
        self._values: dict[Sym, int] = {}  # of expressions, for the example
        self._bounds: dict[Sym, tuple[float, float]] = {}

    def size(self, name: str, hint: int, least: float = LEAST, most: float = MOST) -> Size:
        """A new size that the inputs give."""
        if name in self.hints:
            raise ValueError(f"size '{name}' is there already")
        self.names.append(name)
        self.hints[name] = hint
        self.ranges[name] = self.assumed[name] = least, most
        return Size(self, Sym(name))

    # --- values --------------------------------------------------------------------------------------------------
    def of(self, dim: Dim) -> Any:
        """A dim over the trace's names: a Size, or the number that it is."""
        if not isinstance(dim, Sym):
            return dim
        if dim.nodes > LONGEST:
            return self.define("is", (dim,), self.bounds(dim))
        return Size(self, dim)

    def define(self, op: str, args: tuple[Any, ...], within: tuple[float, float], name: str = "") -> Size:
        """The size that a definition gives, of a name of its own. name: what people see."""
        definition = Definition(op, args)
        known = self._names.get(definition)
        if known is not None:
            name = known
        else:
            unnamed = f"f{len(self._names)}({args[0]})" if op == "look" else f"${len(self._names)}"
            name = name if name and name not in self.definitions else unnamed
            self._names[definition] = name
            self.definitions[name] = definition
            self.hints[name] = definition.value(self.hints)
            self.ranges[name] = self.assumed[name] = within
        return Size(self, Sym(name))

    def value(self, expr: Dim) -> int:
        """For the example."""
        if not isinstance(expr, Sym):
            return expr
        found = self._values.get(expr)
        if found is None:
            found = self._values[expr] = number_of(expr, self.hints)
        return found

    def bounds(self, expr: Dim) -> tuple[float, float]:
        if not isinstance(expr, Sym):
            return expr, expr
        found = self._bounds.get(expr)
        if found is None:
            found = self._bounds[expr] = bounds(expr, self.ranges)
        return found

    def result(self, op: Callable[..., Dim], *args: Dim) -> Any:
        """op(*args) of dims, as a Size or a number."""
        key = op, *args
        found = self._results.get(key)
        if found is None:
            dim = op(*args)
            if isinstance(dim, Sym) and _is_cut(dim):  # too long to be kept: the same of shorter names
                dim = op(*(self._named(a) for a in args))
            found = self._results[key] = self.of(dim)
        return found

    def _named(self, dim: Dim) -> Dim:
        short = not isinstance(dim, Sym) or dim.nodes <= 4
        return dim if short else self.define("is", (dim,), self.bounds(dim)).expr

    # --- questions -----------------------------------------------------------------------------------------------
    def ask(self, relation: str, expr: Dim) -> bool:
        """Is `expr relation 0`? What follows from the ranges makes no guard."""
        if not isinstance(expr, Sym):
            return {"==": expr == 0, "<": expr < 0, "<=": expr <= 0}[relation]
        known = _decided(relation, *self.bounds(expr))
        if known is not None:
            return known
        if relation == "==" and not _solvable(expr):
            return False
        simpler = self._without_quotient(relation, expr)
        if simpler is not None:
            return simpler
        value = self.value(expr)
        outcome = {"==": value == 0, "<": value < 0, "<=": value <= 0}[relation]
        guard = Guard(relation, expr, outcome)
        if len(self.guards) > MOST_GUARDS:
            raise RuntimeError(f"more than {MOST_GUARDS} questions about sizes, the last one from {_who_asks()}")
        if guard not in self.guards and not (
            relation == "==" and Guard(relation, Sym.of(scaled(expr.terms, -1)), outcome) in self.guards
        ):
            if not self.open:
                raise AssertionError(f"a size is looked at when nothing is planned: is {guard}?")
            self.guards[guard] = _who_asks()
            self._narrow(guard)
        return outcome

    def _without_quotient(self, relation: str, expr: Sym) -> bool | None:
        """`expr` is k floor(a / c) + n with numbers k, c and n: then it is asked of a itself, which tells more."""
        terms = dict(expr.terms)
        n = terms.pop(frozenset(), 0)
        if len(terms) != 1:
            return None
        ((monomial, k),) = terms.items()
        ((atom, power),) = monomial if len(monomial) == 1 else ((None, 0),)
        if power != 1 or atom is None or atom.op != "//" or not isinstance(atom.args[1], builtins.int):
            return None
        a, c = atom.args
        if c <= 0:
            return None
        if relation == "==":  # floor(a / c) = m
            if n % k:
                return False
            m = -n // k
            value = self.value(atom.args[0]) // c
            if value == m:
                return self.ask("<", m * c - 1 - a) and self.ask("<", a - (m + 1) * c)
            return not (self.ask("<", (m + 1) * c - 1 - a) if value > m else self.ask("<", a - m * c))
        strict = relation == "<"
        if k > 0:  # floor(a / c) < bound, for the least such number
            bound = -(n // k) if strict else -n // k + 1
            return self.ask("<", a - bound * c)
        bound = n // -k + 1 if strict else -(-n // -k)  # floor(a / c) >= bound
        return self.ask("<", bound * c - 1 - a)

    def _narrow(self, guard: Guard) -> None:
        """A guard on one name alone narrows its range for what follows."""
        terms = dict(guard.expr.terms)
        c = terms.pop(frozenset(), 0)
        if len(terms) != 1 or (guard.relation == "==" and not guard.outcome):
            return
        ((monomial, k),) = terms.items()
        if len(monomial) != 1:
            return
        ((atom, power),) = monomial
        if atom.op != "size" or power != 1:
            return
        name = atom.args[0]
        least, most = self.ranges[name]
        if guard.relation == "==":
            least = most = -c // k
        else:  # k n + c < 0, or its contrary
            strict = guard.relation == "<"
            if not guard.outcome:
                k, c, strict = -k, -c, not strict
            c += strict  # k n <= -c
            if k > 0:
                most = builtins.min(most, -c // k)
            else:
                least = builtins.max(least, -(-c // -k))
        self.ranges[name] = least, most
        self._bounds.clear()

    @property
    def known(self) -> Known:
        """What has been asked so far."""
        return Known(dict(self.guards), dict(self.ranges))

    @contextmanager
    def going_on(self, known: Known, hints: Mapping[str, int]) -> Iterator[None]:
        """Ask on from what was known, with another example; what is asked here is forgotten afterwards (take it by `known`).

        hints: of sizes that inputs give.
        """
        before = self.known
        self.guards, self.ranges = dict(known.guards), self.ranges | known.ranges
        self.hints |= hints
        for name, definition in self.definitions.items():
            if set(symbols(definition.args[0])) <= self.hints.keys():
                self.hints[name] = definition.value(self.hints)
        self._forget()
        self.begin()
        try:
            yield
        finally:
            self.guards, self.ranges = before.guards, self.ranges | before.ranges
            self._forget()
            self.close()

    def _forget(self) -> None:
        self._values.clear()
        self._bounds.clear()
        self._results.clear()

    def values_of(self, size: Size) -> tuple[int, ...] | None:
        """The numbers that a choice chooses among, in order; None for other sizes."""
        definition = self.definitions.get(str(size.expr))
        if definition is None or definition.op != "look":
            return None
        return tuple(sorted(set(definition.args[1])))

    def rank(self, size: Size, values: tuple[int, ...]) -> Size:
        """The number of a choice's value among `values`."""
        _, (expr, table) = self.definitions[str(size.expr)]
        return self.define("look", (expr, tuple(map(values.index, table))), (0, len(values) - 1))

    def begin(self) -> None:
        """Questions may be asked."""
        self.open = True
        Trace.asking += 1

    def close(self) -> None:
        """From now on a question that is new is a mistake."""
        self.open = False
        Trace.asking -= 1


def _is_cut(dim: Sym) -> bool:
    return any(atom.op == "long" for m in dim.terms for atom, _ in m)


def _decided(relation: str, least: float, most: float) -> bool | None:
    if relation == "==":
        return False if least > 0 or most < 0 else True if least == most == 0 else None
    if (most < 0) if relation == "<" else (most <= 0):
        return True
    return False if ((least >= 0) if relation == "<" else (least > 0)) else None


def _solvable(expr: Sym) -> bool:
    """May it be 0? Not where all coefficients share a factor that the number lacks."""
    from math import gcd

    number = expr.terms.get(frozenset(), 0)
    factor = gcd(*(c for m, c in expr.terms.items() if m))
    return number % factor == 0


def _sides(expr: Sym, relation: str) -> tuple[str, str, str]:
    """`expr relation 0` with nothing negative but numbers: left, relation, right; names on the left, if on one side only."""
    left = {m: c for m, c in expr.terms.items() if c > 0 and m}
    right = {m: -c for m, c in expr.terms.items() if c < 0 and m}
    number = expr.terms.get(frozenset(), 0)
    if not left:
        left, right, relation, number = right, left, _SWAPPED.get(relation, relation), -number
    if not right or number <= 0:
        right = right | {frozenset(): -number}
    else:
        left = left | {frozenset(): number}
    return _text(left), relation, _text(right)


def _text(terms: dict[Any, int]) -> str:
    terms = {m: c for m, c in terms.items() if c}
    return str(Sym.of(terms)) if terms else "0"


def number_of(dim: Dim, sizes: Mapping[str, int]) -> int:
    """A dim for sizes by name. Raises ValueError where one is missing."""
    value = substitute(dim, sizes)
    if isinstance(value, Sym):
        raise ValueError(f"the size of {', '.join(symbols(value)) or value} is missing")
    return value


def _who_asks() -> str:
    """The innermost functions of graphc outside this module."""
    frame = sys._getframe(2)
    found: list[str] = []
    while frame is not None and len(found) < 2:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("graphc.") and module not in (__name__, "graphc.dims", "graphc.types"):
            found.append(f"{module.removeprefix('graphc.')}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(found)


def _times(a: Dim, b: Dim) -> Dim:
    return a * b


def _plus(a: Dim, b: Dim) -> Dim:
    return a + b


def _minus(a: Dim, b: Dim) -> Dim:
    return a - b


def _over(a: Dim, b: Dim) -> Dim:
    return a // b


def _rest(a: Dim, b: Dim) -> Dim:
    return a % b


_OPERATORS = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "floor_divide": operator.floordiv,
    "remainder": operator.mod, "equal": operator.eq, "not_equal": operator.ne, "less": operator.lt,
    "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
}  # fmt: skip


class Size:
    """An expression of a trace's sizes that is an int to Python code; see the module."""

    __slots__ = ("expr", "trace")

    def __init__(self, trace: Trace, expr: Sym) -> None:
        self.trace, self.expr = trace, expr

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return builtins.int

    @property
    def hint(self) -> int:
        """What it is in the example."""
        return self.trace.value(self.expr)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy's functions want numbers. Arithmetic with NumPy's own numbers, and on arrays of objects, goes on with sizes."""
        arrays = [a for a in inputs if isinstance(a, np.ndarray) and a.ndim]
        if any(a.dtype == object for a in arrays):
            inputs = tuple(array_of(a) if type(a) is Size else a for a in inputs)
        elif not arrays and method == "__call__" and ufunc.__name__ in _OPERATORS:
            return _OPERATORS[ufunc.__name__](*(a if type(a) is Size else a.item() for a in inputs))
        else:
            inputs = tuple(a.__index__() if type(a) is Size else a for a in inputs)
        return getattr(ufunc, method)(*inputs, **kwargs)

    # --- arithmetic ----------------------------------------------------------------------------------------------
    def _with(self, op: Callable[[Dim, Dim], Dim], other: Any, swapped: bool = False) -> Any:
        a: Any = self.expr
        b: Any
        if type(other) is Size:
            b = other.expr
        elif type(other) is builtins.int or type(other) is bool:
            b = other
        elif type(other) is float:
            a, b = (other, float(self)) if swapped else (float(self), other)
            return op(a, b)
        elif hasattr(other, "__index__") and not isinstance(other, np.ndarray):
            b = other.__index__()
        else:
            return NotImplemented
        return self.trace.result(op, b, a) if swapped else self.trace.result(op, a, b)

    def __add__(self, other: Any) -> Any:
        return self._with(_plus, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._with(_minus, other)

    def __rsub__(self, other: Any) -> Any:
        return self._with(_minus, other, swapped=True)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, (list, tuple, str)):
            return other * self.__index__()
        return self._with(_times, other)

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self.trace.result(_times, self.expr, -1)

    def __pos__(self) -> Size:
        return self

    def __floordiv__(self, other: Any) -> Any:
        self._require_divisor(other)
        return self._with(_over, other)

    def __rfloordiv__(self, other: Any) -> Any:
        self._require_divisor(self)
        return self._with(_over, other, swapped=True)

    def __mod__(self, other: Any) -> Any:
        self._require_divisor(other)
        rest = self._with(_rest, other)
        if type(rest) is not Size or type(other) is not builtins.int:
            return rest
        within = self.trace.bounds(self.expr)
        if within[0] >= 0 and within[1] < other:
            return self
        return self.trace.define("is", (rest.expr,), (0, other - 1), f"$({self}) % {other}")

    def __rmod__(self, other: Any) -> Any:
        self._require_divisor(self)
        return self._with(_rest, other, swapped=True)

    def _require_divisor(self, other: Any) -> None:
        if not other:
            raise ZeroDivisionError("a size divided by 0")

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __truediv__(self, other: Any) -> float:
        return float(self) / other

    def __rtruediv__(self, other: Any) -> float:
        return other / float(self)

    def __pow__(self, power: Any) -> Any:
        if type(power) is not builtins.int or power < 0:
            return self.__index__() ** power
        total: Any = 1
        for _ in range(power):
            total = total * self
        return total

    def __rpow__(self, base: Any) -> Any:
        return base ** self.__index__()

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    # --- questions -----------------------------------------------------------------------------------------------
    def _ask(self, relation: str, other: Any) -> Any:
        if type(other) is Size:
            if other.trace is not self.trace:
                return NotImplemented
            expr = self.expr - other.expr
        elif type(other) is float:
            return {"==": float.__eq__, "<": float.__lt__, "<=": float.__le__}[relation](float(self), other)
        elif hasattr(other, "__index__") and not isinstance(other, np.ndarray):
            expr = self.expr - other.__index__()
        else:
            return NotImplemented
        return self.trace.ask(relation, expr)

    def __eq__(self, other: object) -> Any:
        return self._ask("==", other)

    def __ne__(self, other: object) -> Any:
        equal = self._ask("==", other)
        return equal if equal is NotImplemented else not equal

    def __lt__(self, other: Any) -> Any:
        return self._ask("<", other)

    def __le__(self, other: Any) -> Any:
        return self._ask("<=", other)

    def __gt__(self, other: Any) -> Any:
        within = self._ask("<=", other)
        return within if within is NotImplemented else not within

    def __ge__(self, other: Any) -> Any:
        below = self._ask("<", other)
        return below if below is NotImplemented else not below

    def __bool__(self) -> bool:
        return not self._ask("==", 0)

    def __index__(self) -> int:
        """A number is wanted: what is made of it is for this one alone."""
        hint = self.hint
        self._ask("==", hint)
        return hint

    __int__ = __trunc__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    @property
    def numerator(self) -> int:
        return self.__index__()

    @property
    def denominator(self) -> int:
        return 1

    def bit_length(self) -> int:
        return self.__index__().bit_length()

    def __round__(self, digits: int | None = None) -> Size:
        return self

    def __hash__(self) -> int:
        """By structure: a dict may miss an equal size, and finds no other one."""
        return hash((self.trace.serial, self.expr))

    def __str__(self) -> str:
        return str(self.expr)

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self)

    def __copy__(self) -> Size:
        return self

    def __deepcopy__(self, memo: Any) -> Size:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f"the size '{self}' stands for many: it can't be kept")


# --- for code that sizes go through -----------------------------------------------------------------------------------
def is_size(value: Any) -> bool:
    """Does it stand for many?"""
    return type(value) is Size


def has_sizes(values: Any) -> bool:
    return any(type(v) is Size for v in values)


def hint_of(value: Any) -> Any:
    return value.hint if type(value) is Size else value


def smallest(*values: Any) -> Any:
    """`min` as a value, without a question."""
    return _extreme(minimum, builtins.min, values)


def largest(*values: Any) -> Any:
    """`max` as a value, without a question."""
    return _extreme(maximum, builtins.max, values)


def _extreme(of_dims: Callable[..., Dim], plain: Callable[..., Any], values: Sequence[Any]) -> Any:
    trace = next((v.trace for v in values if type(v) is Size), None)
    if trace is None:
        return plain(values)
    kept = [values[0]]
    for v in values[1:]:  # what the ranges decide
        last = kept[-1]
        difference = v - last
        least, most = trace.bounds(_expr(difference))
        if (most if plain is builtins.min else -least) <= 0:
            kept[-1] = v
        elif (least if plain is builtins.min else -most) < 0:
            kept.append(v)
    return kept[0] if len(kept) == 1 else trace.result(of_dims, *map(_expr, kept))


def whole(value: Any) -> Any:
    """int(value), which leaves a Size as it is."""
    return value if type(value) is Size else builtins.int(value)


def most_of(value: Any) -> Any:
    """The largest number that a value of a known range can be."""
    if type(value) is not Size:
        return value
    most = value.trace.bounds(value.expr)[1]
    return builtins.int(most) if most < MOST else value.__index__()


def choose(function: Callable[[int], int], size: Any) -> Any:
    """function(size) as a value that is looked up when a plan is bound; of sizes above LOOKED_UP the value for that.

    For decisions about speed: function(n) must be right for every larger n, too.
    """
    if type(size) is not Size:
        return function(size)
    least, most = size.trace.bounds(size.expr)
    first, last = (builtins.int(builtins.min(builtins.max(end, 1), LOOKED_UP)) for end in (least, most))
    values = [function(n) for n in range(first, builtins.max(first, last) + 1)]
    table = (*([values[0]] * first), *values)
    if len(set(values)) == 1:
        return values[0]
    return size.trace.define("look", (size.expr, table), (builtins.min(values), builtins.max(values)))


def choose_row(function: Callable[[int], tuple[int, ...]], size: Any) -> tuple[Any, ...]:
    """`choose` of several numbers at once, of which the function gives always as many."""
    rows: dict[tuple[int, ...], int] = {}
    which = choose(lambda n: rows.setdefault(function(n), len(rows) + 1), size)
    columns = [(0, *column) for column in zip(*rows)]
    return tuple(choose(column.__getitem__, which) for column in columns)


def where(positive: Any, a: Any, b: Any) -> Any:
    """a where `positive` is above 0, else b, as a value."""
    if type(positive) is not Size:
        return a if positive > 0 else b
    trace = positive.trace
    known = _decided("<=", *trace.bounds(positive.expr))
    if known is not None:
        return b if known else a
    test = trace.define("positive", (positive.expr,), (0, 1))
    either = test * a + (1 - test) * b
    ends = [trace.bounds(_expr(x)) for x in (a, b)]
    return trace.define("is", (_expr(either),), (builtins.min(e[0] for e in ends), builtins.max(e[1] for e in ends)))


def for_speed(function: Function) -> Function:
    """Decorator: whatever the function decides makes no plan wrong, so it sees the example's numbers, and its result is a number.

    What its result needs of sizes (a tile of so many rows) must be asked behind it.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not Trace.asking:
            return function(*args, **kwargs)
        return function(*map(example, args), **{name: example(a) for name, a in kwargs.items()})

    return call  # type: ignore[return-value]


def need(truth: bool) -> None:
    """What a decision for speed relies on: to have asked makes it a guard."""
    if not truth:
        raise AssertionError("a decision does not fit the sizes that it was taken for")


def example(value: Any) -> Any:
    """The value with numbers in the place of its sizes: of a number, a tuple, a list, a dict, a frozen record of such."""
    if type(value) is Size:
        return value.hint
    if type(value) in (tuple, list):
        return type(value)(map(example, value)) if _holds(value) else value
    if type(value) is dict:
        return {k: example(v) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type) and _holds(value):
        changed = {f.name: example(getattr(value, f.name)) for f in fields(value) if f.init}
        return replace(value, **changed)
    return value


def _holds(value: Any) -> bool:
    """Is there a size in it?"""
    if type(value) is Size:
        return True
    if type(value) in (tuple, list, frozenset):
        return any(map(_holds, value))
    if type(value) is dict:
        return any(map(_holds, value.values()))
    if is_dataclass(value) and not isinstance(value, type):
        return any(_holds(getattr(value, f.name)) for f in fields(value))
    return type(value) is np.ndarray and value.dtype == object and any(type(v) is Size for v in value.flat)


def holds_sizes(value: Any) -> bool:
    """Is there a size in a number, a tuple, a list, a dict, a record or an array of objects?"""
    return _holds(value)


def pinned(value: Any) -> Any:
    """The value with numbers for its sizes, which from now on are only these: for what is made once and found again by it."""
    if type(value) is Size:
        return value.__index__()
    if type(value) is tuple:
        return tuple(map(pinned, value)) if _holds(value) else value
    return value


def _expr(value: Any) -> Dim:
    return value.expr if type(value) is Size else value


# --- arrays -----------------------------------------------------------------------------------------------------------
def array_of(values: Any, dtype: Any = None) -> np.ndarray:
    """np.asarray(values, dtype); an array of objects where a size is among the elements."""
    if type(values) is Size:
        alone = np.empty((), object)
        alone[()] = values
        return alone
    flat = list(values.flat) if isinstance(values, np.ndarray) and values.dtype == object else values
    if isinstance(flat, (list, tuple)) and has_sizes(flat):
        a = np.empty(len(flat), object)
        for i, v in enumerate(flat):
            a[i] = whole(v)
        return a.reshape(values.shape) if isinstance(values, np.ndarray) else a
    if isinstance(values, np.ndarray) and values.dtype == object and dtype is None:
        return values.astype(np.int64) if all(isinstance(v, (int, np.integer)) for v in values.flat) else values
    return np.asarray(values, dtype)


def is_size_array(a: Any) -> bool:
    """An array of objects that holds sizes, in the place of int64."""
    return isinstance(a, np.ndarray) and a.dtype == object and any(type(v) is Size for v in a.flat)
