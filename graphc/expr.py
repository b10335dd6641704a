"""Scalar expressions: the one body of an elementwise operator, for every backend.

An operator's `scalar` is plain Python over these functions. Called with numbers it computes (Python's own floats and
ints); called with `Expr` arguments it builds an expression tree that a backend turns into code (LLVM vector IR on the
CPU). Trees are typed: arithmetic needs both operands of one dtype, Python numbers take the dtype
of the other operand, comparisons give bool.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

import numpy as np

from graphc.dtypes import is_integer

BOOL = np.dtype(bool)


@dataclass(frozen=True)
class Expr:
    """A node of an expression tree. `prim` is 'arg' (value = operand index), 'const' (value = number), 'bytes' (value = the 256
    entries of a table) or a primitive."""

    prim: str
    args: tuple[Expr, ...]
    dtype: np.dtype
    value: int | float | bool | bytes | None = None

    @property
    def index(self) -> int:
        """Which operand an 'arg' is."""
        assert self.prim == "arg" and isinstance(self.value, int), self.prim
        return self.value

    @property
    def number(self) -> int | float | bool:
        """The number of a 'const'."""
        assert self.prim == "const" and self.value is not None and not isinstance(self.value, bytes), self.prim
        return self.value

    def __add__(self, o):
        return _binary("add", self, o)

    def __radd__(self, o):
        return _binary("add", o, self)

    def __sub__(self, o):
        return _binary("sub", self, o)

    def __rsub__(self, o):
        return _binary("sub", o, self)

    def __mul__(self, o):
        return _binary("mul", self, o)

    def __rmul__(self, o):
        return _binary("mul", o, self)

    def __truediv__(self, o):
        return _binary("div", self, o)

    def __rtruediv__(self, o):
        return _binary("div", o, self)

    def __neg__(self):
        return Expr("neg", (self,), self.dtype)

    def __abs__(self):
        return absolute(self)

    def __lt__(self, o):
        return _compare("lt", self, o)

    def __le__(self, o):
        return _compare("le", self, o)

    def __gt__(self, o):
        return _compare("gt", self, o)

    def __ge__(self, o):
        return _compare("ge", self, o)

    def __and__(self, o):
        return _binary("and", self, o)

    def __or__(self, o):
        return _binary("or", self, o)

    def __xor__(self, o):
        return _binary("xor", self, o)

    def __invert__(self):
        return Expr("not", (self,), self.dtype)

    def __bool__(self) -> bool:
        raise TypeError("a scalar body can't branch on an operand: use where(condition, a, b)")

    def __str__(self) -> str:
        if self.prim == "arg":
            return f"x{self.index}"
        if self.prim == "const":
            return repr(self.value)
        if self.prim == "bytes":
            return "bytes"
        if self.prim in _INFIX and len(self.args) == 2:
            return f"({self.args[0]} {_INFIX[self.prim]} {self.args[1]})"
        if self.prim == "cast":
            return f"{self.dtype.name}({self.args[0]})"
        return f"{self.prim}({', '.join(map(str, self.args))})"


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
          "eq": "==", "ne": "!=", "and": "&", "or": "|", "xor": "^"}  # fmt: skip
Number = Union[Expr, float, int, bool]


def arg(index: int, dtype) -> Expr:
    """Operand number `index` of the kernel."""
    return Expr("arg", (), np.dtype(dtype), index)


def const(value, dtype) -> Expr:
    dtype = np.dtype(dtype)
    value = bool(value) if dtype == BOOL else int(value) if is_integer(dtype) else float(value)
    return Expr("const", (), dtype, value)


def _pair(a: Number, b: Number) -> tuple[Expr, Expr]:
    if not isinstance(a, Expr):
        assert isinstance(b, Expr)
        a = const(a, b.dtype)
    if not isinstance(b, Expr):
        b = const(b, a.dtype)
    if a.dtype != b.dtype:
        raise TypeError(f"operands of one primitive differ in dtype: {a.dtype} and {b.dtype}")
    return a, b


def _binary(prim: str, a: Number, b: Number) -> Expr:
    a, b = _pair(a, b)
    return Expr(prim, (a, b), a.dtype)


def _compare(prim: str, a: Number, b: Number) -> Expr:
    return Expr(prim, _pair(a, b), BOOL)


def _unary_fn(prim: str, number: Callable) -> Callable:
    def fn(x: Number):
        return Expr(prim, (x,), x.dtype) if isinstance(x, Expr) else number(x)

    fn.__name__ = prim
    return fn


def _binary_fn(prim: str, number: Callable, compare: bool = False) -> Callable:
    build = _compare if compare else _binary

    def fn(a: Number, b: Number):
        return build(prim, a, b) if isinstance(a, Expr) or isinstance(b, Expr) else number(a, b)

    fn.__name__ = prim
    return fn


def _quiet(f: Callable, *, domain: float = math.nan, overflow: float = math.inf) -> Callable:
    """IEEE results where Python's math raises."""

    def g(*xs):
        try:
            return f(*xs)
        except OverflowError:
            return overflow
        except (ValueError, ZeroDivisionError):
            return domain

    return g


def _div(a, b):
    if isinstance(a, int) and isinstance(b, int):  # integer division truncates, as in C and ONNX
        q = abs(a) // abs(b) if b else 0
        return q if (a < 0) == (b < 0) else -q
    if b == 0:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def _log(x):
    return -math.inf if x == 0 else math.log(x)


def _log1p(x):
    return -math.inf if x == -1 else math.log1p(x)


def _sinh(x):
    try:
        return math.sinh(x)
    except OverflowError:
        return math.copysign(math.inf, x)


def _atanh(x):
    return math.copysign(math.inf, x) if abs(x) == 1 else math.atanh(x)


def _pow(a, b):
    if isinstance(a, int) and isinstance(b, int):
        return a**b if b >= 0 else {1: 1, -1: 1 - 2 * (b % 2)}.get(a, 0)
    odd = b % 2 == 1
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and odd else math.inf
    except ValueError:  # zero to a negative power, or the root of a negative number
        return math.nan if a else math.copysign(math.inf, a) if odd else math.inf


def _round_even(x):
    return float(round(x)) if math.isfinite(x) else x


def _fmod(a, b):
    if isinstance(a, int) and isinstance(b, int):
        return a - _div(a, b) * b if b else 0
    return math.fmod(a, b)


PHILOX_MULTIPLIER, PHILOX_WEYL, PHILOX_ROUNDS = 0xD256D193, 0x9E3779B9, 10


def _philox(counter, key):
    low, high, key = counter % 2**32, (counter >> 32) % 2**32, key % 2**32
    for i in range(PHILOX_ROUNDS):
        product = PHILOX_MULTIPLIER * low
        low, high = (product >> 32) ^ ((key + i * PHILOX_WEYL) % 2**32) ^ high, product % 2**32
    return low + (high << 32)


def _pick(a, b, take_b: bool):
    return a + b if a != a or b != b else (b if take_b else a)


# --- primitives. Each is a function of numbers or of Exprs. -----------------------------------------------------------
exp = _unary_fn("exp", _quiet(math.exp))
log = _unary_fn("log", _quiet(_log))
log1p = _unary_fn("log1p", _quiet(_log1p))
expm1 = _unary_fn("expm1", _quiet(math.expm1))
sqrt = _unary_fn("sqrt", _quiet(math.sqrt))
sin = _unary_fn("sin", _quiet(math.sin))
cos = _unary_fn("cos", _quiet(math.cos))
tan = _unary_fn("tan", _quiet(math.tan))
asin = _unary_fn("asin", _quiet(math.asin))
acos = _unary_fn("acos", _quiet(math.acos))
atan = _unary_fn("atan", _quiet(math.atan))
sinh = _unary_fn("sinh", _sinh)
cosh = _unary_fn("cosh", _quiet(math.cosh))
tanh = _unary_fn("tanh", math.tanh)
asinh = _unary_fn("asinh", _quiet(math.asinh))
acosh = _unary_fn("acosh", _quiet(math.acosh))
atanh = _unary_fn("atanh", _quiet(_atanh))
erf = _unary_fn("erf", math.erf)
floor = _unary_fn("floor", lambda x: float(math.floor(x)) if math.isfinite(x) else x)
ceil = _unary_fn("ceil", lambda x: float(math.ceil(x)) if math.isfinite(x) else x)
rint = _unary_fn("rint", _round_even)  # half to even
trunc = _unary_fn("trunc", lambda x: float(math.trunc(x)) if math.isfinite(x) else x)
absolute = _unary_fn("abs", abs)
pow = _binary_fn("pow", _pow)  # noqa: A001  (the field's name)
minimum = _binary_fn("min", lambda a, b: _pick(a, b, b < a))  # NaN in either operand gives NaN, equals the first
maximum = _binary_fn("max", lambda a, b: _pick(a, b, b > a))
fmod = _binary_fn("fmod", _quiet(_fmod))  # sign of the dividend; 0 where an integer is divided by 0
div = _binary_fn("div", _div)  # truncates on integers
eq = _binary_fn("eq", lambda a, b: a == b, compare=True)
ne = _binary_fn("ne", lambda a, b: a != b, compare=True)
shift_left = _binary_fn("shl", lambda a, b: a << b)
shift_right = _binary_fn("shr", lambda a, b: a >> b)
# 64 random bits from a counter and the low 32 bits of a key, all uint64: Philox 2x32-10 (Salmon et al., Parallel random numbers:
# as easy as 1, 2, 3, SC 2011). A primitive of its own: as a tree of others it would have thousands, since rounds share parts.
philox = _binary_fn("philox", _philox)


def isnan(x: Number):
    return Expr("ne", (x, x), BOOL) if isinstance(x, Expr) else x != x


def where(condition: Number, a: Number, b: Number):
    """a where condition is true, else b. Both sides are computed."""
    if not any(isinstance(v, Expr) for v in (condition, a, b)):
        return a if condition else b
    a, b = _pair(a, b)
    if not isinstance(condition, Expr):
        condition = const(condition, BOOL)
    return Expr("select", (condition, a, b), a.dtype)


def cast(x: Number, dtype):
    """Convert to another dtype (floats to ints truncate, ints drop high bits; to bool compares with zero)."""
    dtype = np.dtype(dtype)
    if isinstance(x, Expr):
        return x if x.dtype == dtype else Expr("cast", (x,), dtype)
    with np.errstate(all="ignore"):
        return np.asarray(x).astype(dtype).item()


def bitcast(x: Expr, dtype) -> Expr:
    """The number of another dtype of as many bytes that has the same bits."""
    return Expr("bitcast", (x,), np.dtype(dtype))


def table(x: Number, entries: bytes, dtype):
    """The integer of one byte that a table has for another. A byte's place in it are its bits as an unsigned number."""
    dtype = np.dtype(dtype)
    if isinstance(x, Expr):
        return Expr("table", (x, Expr("bytes", (), dtype, entries)), dtype)
    return np.frombuffer(entries, dtype)[int(x) % 256].item()


def clamp(x: Number, lo: Number, hi: Number):
    return minimum(maximum(x, lo), hi)


def sigmoid(x: Number):
    """1 / (1 + exp(-x)); a primitive of its own because backends evaluate it without overflow."""
    if isinstance(x, Expr):
        return Expr("sigmoid", (x,), x.dtype)
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def clipped(e: Expr) -> tuple[Expr, float, float] | None:
    """(x, low, high) of a clip of x between two numbers, in the forms that operators have for it."""
    found: dict[str, float] = {}
    for _ in range(2):
        parts = e.args[1:] if e.prim == "select" else e.args
        if len(parts) != 2:  # noqa: PLR2004
            return None
        kind, (x, limit) = e.prim, parts
        if e.prim == "select" and e.args[0].args == e.args[1:]:
            kind = {"gt": "max", "lt": "min"}.get(e.args[0].prim, "")
        if kind not in ("min", "max") or kind in found or limit.prim != "const":
            return None
        found[kind], e = float(limit.number), x
    return e, found["max"], found["min"]


def substitute(e: Expr, args: list[Expr]) -> Expr:
    """e with its operands replaced: composition of expressions."""
    if e.prim == "arg":
        return args[e.index]
    if not e.args:
        return e
    return Expr(e.prim, tuple(substitute(a, args) for a in e.args), e.dtype, e.value)


def evaluate(e: Expr, values: list):
    """Interpret a tree on numbers (tests; the plain Python meaning of a kernel)."""
    if e.prim == "arg":
        return values[e.index]
    if e.prim in ("const", "bytes"):
        return e.value
    xs = [evaluate(a, values) for a in e.args]
    if e.prim == "bitcast":
        return np.array(xs[0]).astype(e.args[0].dtype).view(e.dtype).item()
    if e.prim == "table":
        return table(xs[0], xs[1], e.dtype)
    return cast(xs[0], e.dtype) if e.prim == "cast" else _NUMBERS[e.prim](*xs)


_NUMBERS: dict[str, Callable] = {
    "exp": exp, "log": log, "log1p": log1p, "expm1": expm1, "sqrt": sqrt, "sin": sin, "cos": cos, "tan": tan,
    "asin": asin, "acos": acos, "atan": atan, "sinh": sinh, "cosh": cosh, "tanh": tanh, "asinh": asinh, "acosh": acosh,
    "atanh": atanh, "erf": erf, "sigmoid": sigmoid, "floor": floor, "ceil": ceil, "rint": rint, "trunc": trunc,
    "abs": absolute, "pow": pow, "min": minimum, "max": maximum, "fmod": fmod, "div": div, "eq": eq, "ne": ne,
    "shl": shift_left, "shr": shift_right, "philox": philox, "select": where,
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "not": lambda a: (not a) if isinstance(a, bool) else ~a,
}  # fmt: skip
PRIMITIVES = frozenset(_NUMBERS) | {"cast", "bitcast", "table"}

# what needs no rounding: it leaves a number as it is, but for the sign, or takes one of two
_CHOICES = frozenset((
    "arg", "const", "bytes", "table", "cast", "bitcast", "select", "lt", "le", "gt", "ge", "eq", "ne", "min", "max", "abs",
    "neg",
))  # fmt: skip


def rounded(e: Expr) -> set[np.dtype]:
    """The dtypes of numbers that the tree computes, rather than reads, converts, compares or chooses."""
    found, seen, stack = set(), {id(e)}, [e]
    while stack:
        part = stack.pop()
        if part.prim not in _CHOICES:
            found.add(part.dtype)
        fresh = {id(a): a for a in part.args if id(a) not in seen}
        seen |= fresh.keys()
        stack += fresh.values()
    return found


# Of finite numbers these make finite ones, but for overflow. Not among them: quotients, exponentials and their inverses, powers,
# what has poles.
_FINITE = frozenset((
    "arg", "const", "bytes", "table", "cast", "add", "sub", "mul", "neg", "abs", "min", "max", "floor", "ceil", "rint", "trunc", "select", "lt",
    "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not", "philox", "sin", "cos", "atan", "tanh", "sigmoid", "erf",
))  # fmt: skip


def is_finite(e: Expr) -> bool:
    """Does the tree make finite numbers of finite ones, whatever they are? (False where that does not follow from its
    primitives.)"""
    whole = e.prim in _FINITE or (e.prim == "div" and e.args[1].prim == "const" and e.args[1].value != 0)
    return whole and all(map(is_finite, e.args))
