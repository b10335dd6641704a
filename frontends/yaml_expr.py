"""Arithmetic in YAML scalars: '4*$c', '(h + 1)//2', '$s == 1 and $n > 2'. Nothing is ever evaluated as code.

or:      and ('or' and)*          sum:     product (('+' | '-') product)*
and:     not ('and' not)*         product: unary (('*' | '/' | '//' | '%') unary)*
not:     'not' not | compare      unary:   '-' unary | power
compare: sum (relation sum)?      power:   atom ('^' unary)?
                                  atom:    number | $name | word | word(or, …) | '(' or ')'

What the operations mean, an algebra says: here that of numbers and dims, in yaml_let.py that of a graph's values.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection
from typing import Any, Protocol
from zlib import crc32

from graphc import dims
from graphc.frontends.yaml_syntax import DIGITS, did_you_mean
from graphc.types import Dim, Sym

MAX_LENGTH = 400
MAX_DEPTH = 40
LIMIT = 1 << 62

_FLOAT = rf"(?:{DIGITS}\.?(?:{DIGITS})?|\.{DIGITS})(?:[eE][-+]?[0-9]+)?|\.(?:inf|nan)\b"
_TOKEN = re.compile(rf"\s*(?:({_FLOAT})|(\$?[A-Za-z_][A-Za-z_0-9]*)|(//|\*\*|==|!=|<=|>=|[-+*/%^()<>,]))")
_RELATIONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FUNCTIONS: dict[str, Callable[[Any], int | float]] = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "round": round,
    "sqrt": math.sqrt,
}
# What stands where an expression can't go on -> what to write
_ELSEWHERE = {
    "@": "a product of matrices is a step: matmul: {from: [a, b]}",
    "[": "a part of a value is a step: slice, gather or split",
    "&": "write `and`", "|": "write `or`", "!": "write `not`, or != between two values", "?": "write where(condition, a, b)",
    "if": "write where(condition, a, b)", "is": "write ==",
    "$": "write $name, without braces",
    "=": "the name goes before the colon: let: {y: x + 1}; == compares",
    ".": "names have no dots: functions go by their own, exp(x), and values by theirs",
}  # fmt: skip
_ARITHMETIC = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


class ExprError(ValueError):
    """What is wrong with an expression; `at` is the offset in its text."""

    def __init__(self, message: str, at: int = 0, hint: str | None = None) -> None:
        super().__init__(message)
        self.at, self.hint = at, hint


class Algebra(Protocol):
    """What an expression's parts mean. Each may raise ExprError; `at` is the offset of what is read."""

    functions: Collection[str]  # names that an argument list may follow

    def elsewhere(self, name: str) -> str | None:
        """What to write instead of a function that there is not, if that is known."""
        ...

    def variable(self, name: str) -> Any:
        """$name"""
        ...

    def word(self, name: str, at: int) -> Any: ...

    def call(self, name: str, args: list[Any]) -> Any: ...

    def computed(self, sign: str, a: Any, b: Any) -> Any:
        """sign: + - * / // % ^"""
        ...

    def compared(self, relation: str, a: Any, b: Any) -> Any: ...

    def joined(self, sign: str, a: Any, b: Any) -> Any:
        """sign: and, or"""
        ...

    def negative(self, a: Any) -> Any: ...

    def contrary(self, a: Any) -> Any: ...


def evaluate(text: str, variable: Callable[[str], Any], word: Callable[[str], Any] = str) -> Any:
    """The value of an expression: int, float, bool, Sym, or what a lone `$name` or word stands for.

    `variable(name)` gives the value of $name (raises ExprError if there is none), `word(name)` of a bare word: itself
    for comparisons ('$act == relu'), or a dim. Raises ExprError.
    """
    return evaluate_in(Numbers(variable, word), text)


def evaluate_in(algebra: Algebra, text: str) -> Any:
    """What an expression is in an algebra. Raises ExprError."""
    return _Parser(text, algebra).parse()


class Numbers:
    """Numbers, booleans, symbolic dims, and words that are only compared."""

    functions: Collection[str] = ("min", "max", *_FUNCTIONS)

    def elsewhere(self, name: str) -> str | None:
        return None

    def __init__(self, variable: Callable[[str], Any], word: Callable[[str], Any] = str) -> None:
        self.variable, self._word = variable, word

    def word(self, name: str, at: int) -> Any:
        return self._word(name)

    def call(self, name: str, args: list[Any]) -> Any:
        if name in ("min", "max"):
            return _extreme(name, args)
        if len(args) != 1:
            raise ExprError(f"{name}() takes 1 argument, not {len(args)}")
        _number(args[0], name)
        try:
            return _FUNCTIONS[name](args[0])
        except (ValueError, OverflowError):
            raise ExprError(f"{name}({args[0]}) is no number") from None

    def computed(self, sign: str, a: Any, b: Any) -> Any:
        return _power(a, b) if sign == "^" else _compute(sign, a, b)

    def compared(self, relation: str, a: Any, b: Any) -> bool:
        if relation not in ("==", "!="):
            _number(a, relation)
            _number(b, relation)
        return bool(_RELATIONS[relation](a, b))

    def joined(self, sign: str, a: Any, b: Any) -> bool:
        a, b = _truth(a), _truth(b)
        return a and b if sign == "and" else a or b

    def negative(self, a: Any) -> Any:
        return -a if isinstance(a, float) else _compute("-", 0, a)  # 0 - 0.0 is not -0.0

    def contrary(self, a: Any) -> bool:
        return not _truth(a)


class _Parser:
    def __init__(self, text: str, algebra: Algebra) -> None:
        if len(text) > MAX_LENGTH:
            raise ExprError(f"expression is longer than {MAX_LENGTH} characters")
        self.text, self.algebra = text, algebra
        self.tokens: list[tuple[str, int]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if not match:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise ExprError(f"unexpected '{text[at]}' in '{text}'", at, _ELSEWHERE.get(text[at]))
            token = match.group(match.lastindex or 0)
            self.tokens.append((token, match.end() - len(token)))
            at = match.end()
        self.i = self.depth = 0

    def parse(self) -> Any:
        value = self._or()
        if self.i < len(self.tokens):
            raise self._unexpected()
        return value

    @property
    def token(self) -> str:
        return self.tokens[self.i][0] if self.i < len(self.tokens) else ""

    def _unexpected(self) -> ExprError:
        if not self.token:
            return ExprError(f"'{self.text}' ends too early", len(self.text))
        at = self.tokens[self.i][1]
        hint = _ELSEWHERE.get(self.token)
        if hint is None and self.i and at == self.tokens[self.i - 1][1] + len(self.tokens[self.i - 1][0]):
            number = self.tokens[self.i - 1][0]
            if number[0].isdigit() and (self.token[0].isalpha() or self.token[0] in "$("):
                hint = f"a product is written {number}*{self.token}"
        return ExprError(f"unexpected '{self.token}' in '{self.text}'", at, hint)

    def _take(self, *wanted: str) -> str | None:
        if self.token in wanted and self.i < len(self.tokens):
            self.i += 1
            return self.tokens[self.i - 1][0]
        return None

    def _or(self) -> Any:
        value = self._and()
        while self._take("or"):
            value = self.algebra.joined("or", value, self._and())
        return value

    def _and(self) -> Any:
        value = self._not()
        while self._take("and"):
            value = self.algebra.joined("and", value, self._not())
        return value

    def _not(self) -> Any:
        if self._take("not"):
            return self._deeper(lambda: self.algebra.contrary(self._not()))
        return self._compare()

    def _compare(self) -> Any:
        a = self._sum()
        if relation := self._take(*_RELATIONS):
            return self.algebra.compared(relation, a, self._sum())
        return a

    def _sum(self) -> Any:
        value = self._product()
        while sign := self._take("+", "-"):
            value = self.algebra.computed(sign, value, self._product())
        return value

    def _product(self) -> Any:
        value = self._unary()
        while sign := self._take("*", "/", "//", "%"):
            value = self.algebra.computed(sign, value, self._unary())
        return value

    def _unary(self) -> Any:
        if self._take("-"):
            return self._deeper(lambda: self.algebra.negative(self._unary()))
        return self._power()

    def _power(self) -> Any:
        value = self._atom()
        if self._take("^", "**"):
            value = self.algebra.computed("^", value, self._deeper(self._unary))
        return value

    def _deeper(self, rule: Callable[[], Any]) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExprError("expression is nested too deeply")
        value = rule()
        self.depth -= 1
        return value

    def _atom(self) -> Any:
        token = self.token
        if self._take("("):
            value = self._deeper(self._or)
            if not self._take(")"):
                raise self._unexpected()
            return value
        if not token or not (token[0].isalnum() or token[0] in "$_."):
            raise self._unexpected()
        at = self.tokens[self.i][1]
        self.i += 1
        if token[0] == "$":
            return self.algebra.variable(token[1:])
        if token[0].isdigit() or token[0] == ".":
            return _literal(token)
        if token in ("true", "false"):
            return token == "true"
        if token in self.algebra.functions and self._take("("):
            values = [self._deeper(self._or)]
            while self._take(","):
                values.append(self._deeper(self._or))
            if not self._take(")"):
                raise self._unexpected()
            return self.algebra.call(token, values)
        if token in ("and", "or", "not"):
            self.i -= 1
            raise self._unexpected()
        if self.token == "(":
            known = self.algebra.functions
            hint = (
                self.algebra.elsewhere(token) or did_you_mean(token, known) or f"functions: {', '.join(sorted(known))}"
            )
            raise ExprError(f"no function is named '{token}'", at, hint)
        return self.algebra.word(token, at)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ExprError(f"'and', 'or' and 'not' take conditions, not {value}")
    return value


def _number(value: Any, sign: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ExprError(
            f"'{sign}' takes numbers, not {value!r}"
            if isinstance(value, str)
            else f"'{sign}' takes numbers, not {value}"
        )


def _literal(token: str) -> int | float:
    if token[-1].isdigit() and token.replace("_", "").isdigit():
        return int(token)
    value = float(token.removeprefix(".") if token in (".inf", ".nan") else token)
    if math.isinf(value) and token != ".inf":
        raise ExprError("the number is too large")
    return value


def _extreme(name: str, values: list[Any]) -> int | float:
    """The smallest or largest: a float where one of them is."""
    for v in values:
        _number(v, name)
    value = min(values) if name == "min" else max(values)
    return float(value) if any(isinstance(v, float) for v in values) else value


def _power(a: Any, b: Any) -> int | float:
    """Whole where both are, and b is not below 0."""
    _number(a, "^")
    _number(b, "^")
    if a == 0 and b < 0:
        raise ExprError("division by zero")
    if a < 0 and b != int(b):
        raise ExprError(f"{a} ^ {b} is no real number")
    if isinstance(a, int) and isinstance(b, int) and b >= 0:
        if abs(a) > 1 and b * math.log2(abs(a)) > math.log2(LIMIT):
            raise ExprError("the number is too large")
        return int(a**b)
    try:
        return float(a) ** float(b)
    except OverflowError:
        raise ExprError("the number is too large") from None


def _compute(sign: str, a: Any, b: Any) -> Any:
    if isinstance(a, Sym) or isinstance(b, Sym):
        if sign in "/%" or not all(isinstance(v, (int, Sym)) and not isinstance(v, bool) for v in (a, b)):
            raise ExprError(f"a symbolic dim knows + - * //, not {a} {sign} {b}")
    else:
        _number(a, sign)
        _number(b, sign)
    if sign in ("/", "//", "%") and b == 0:
        raise ExprError("division by zero")
    try:
        value = _ARITHMETIC[sign](a, b)
    except OverflowError:
        raise ExprError("the number is too large") from None
    if isinstance(value, int) and abs(value) > LIMIT:
        raise ExprError("the number is too large")
    if isinstance(value, float) and math.isinf(value) and not any(math.isinf(v) for v in (a, b)):
        raise ExprError("the number is too large")
    return value


def same_dim(a: Dim, b: Dim) -> bool:
    """Are two dims the same number, whatever their symbols are? Where their forms differ, decided on sample values.

    'h - h//2' and '(h + 1)//2' are.
    """
    if a == b:
        return True
    try:
        return all(_sample(a, seed) == _sample(b, seed) for seed in range(6))
    except (ValueError, ZeroDivisionError):  # sizes that do not broadcast, an expression that was too long
        return False


def _sample(dim: Dim, seed: int) -> int:
    # large numbers, different for different names, of both parities over the seeds
    names = dims.symbols(dim)
    return dims.evaluate(dim, {name: 96 + 131 * seed + 7 * (crc32(name.encode()) % 9973) for name in names})
