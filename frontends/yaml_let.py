"""`let`: elementwise expressions over the names of values, as `exp(-d2/(2*sigma^2))`. Each operation becomes an operator."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.dtypes import is_float, is_integer
from graphc.frontends.yaml_args import is_number
from graphc.frontends.yaml_expr import ExprError, Numbers, evaluate_in
from graphc.frontends.yaml_frame import Frame, require
from graphc.frontends.yaml_literals import Literal, read_literal
from graphc.frontends.yaml_names import NAME_HINT, is_name
from graphc.frontends.yaml_operators import Values, read_operand
from graphc.frontends.yaml_problems import Lost
from graphc.frontends.yaml_registry import LayerBuilder
from graphc.frontends.yaml_step import NetStep
from graphc.frontends.yaml_synonyms import layer_for
from graphc.frontends.yaml_syntax import Item
from graphc.graph import Value
from graphc.op import get_op

if TYPE_CHECKING:
    from graphc.frontends.yaml_net import Expander

UNARY = {
    "abs": "Abs", "acos": "Acos", "asin": "Asin", "atan": "Atan", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "erf": "Erf",
    "exp": "Exp", "floor": "Floor", "log": "Log", "relu": "Relu", "round": "Round", "sigmoid": "Sigmoid", "sign": "Sign",
    "sin": "Sin", "sinh": "Sinh", "softplus": "Softplus", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip
CASTS: dict[str, np.dtype] = {"float": np.dtype(np.float32), "int": np.dtype(np.int64)}
OTHERS = {"min": None, "max": None, "clip": 3, "where": 3}  # with how many arguments
FUNCTIONS = sorted([*UNARY, *CASTS, *OTHERS])
CONSTANTS = {"pi": math.pi}  # where no value has the name
SIGNS = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "^": "Pow"}
FUNCTIONS_ELSEWHERE = {
    "pow": "x^y", "power": "x^y", "square": "x^2", "rsqrt": "1/sqrt(x)", "reciprocal": "1/x", "maximum": "max(a, b)",
    "minimum": "min(a, b)", "fabs": "abs(x)", "mod": "x % y", "ln": "log(x)", "log2": "log(x)/log(2.0)",
    "log10": "log(x)/log(10.0)", "expm1": "exp(x) - 1", "log1p": "log(1 + x)", "clamp": "clip(x, low, high)",
    "logistic": "sigmoid(x)", "arctan": "atan(x)", "arcsin": "asin(x)", "arccos": "acos(x)", "cast": "float(x) or int(x)",
    "silu": "x*sigmoid(x)", "swish": "x*sigmoid(x)", "step": "float(x > 0)", "select": "where(condition, a, b)",
}  # fmt: skip
RELATIONS = {"==": "Equal", "<": "Less", "<=": "LessOrEqual", ">": "Greater", ">=": "GreaterOrEqual"}


def let(x: Expander, step: NetStep, operands: Values, frame: Frame) -> Values:
    """The value of an expression, or of several with names, of which each sees those before it; gives the last."""
    if not isinstance(step.args.value, dict):
        return (_value(x, step.args, operands, frame),)
    if not step.args.value:
        raise step.place.error("let defines nothing", "for example: let: {y: exp(-x)}")
    for name, item in step.args.value.items():
        value: Value = Lost(name, None)
        with x.attempt(item, frame):
            value = _value(x, item, operands, frame.at(name))
        place = step.args.at_key(name)
        with x.attempt(item, frame):
            if not is_name(name):
                raise place.error(f"'{name}' can't be the name of a value", NAME_HINT)
            frame.names.define(name, value, place, again=frame.looped)
    return (value,)


def _value(x: Expander, item: Item, current: Values, frame: Frame) -> Value:
    item = item if isinstance(item.value, str) else frame.env.resolve(item)
    if is_number(item.value):
        literal = read_literal(item)
        return x.builder.constant(literal.array(literal.alone()), name=frame.path)
    if not isinstance(item.value, str) or not item.value:
        raise item.error(f"an expression must be text, not {item.kind}", "for example: let: {y: exp(-x)}")
    text = item.value
    cell = x.cell(item, frame)
    algebra = Elementwise(x, item, cell, current, frame)
    try:
        result = evaluate_in(algebra, text)
    except ExprError as e:
        raise Item(None, item.file, item.line, item.column + e.at).error(str(e), e.hint) from None
    if not isinstance(result, Value):
        result = algebra.constant(result)
    x.row(cell, (result,))
    return result


class Elementwise:
    """Numbers and values of the graph; what is made of numbers alone is a number."""

    functions: Collection[str] = FUNCTIONS

    def elsewhere(self, name: str) -> str | None:
        if name in FUNCTIONS_ELSEWHERE:
            return f"write {FUNCTIONS_ELSEWHERE[name]}"
        here = layer_for(name)
        return f"it is a layer, a step of its own: - {here}" if here else None

    def __init__(self, x: Expander, item: Item, cell: LayerBuilder, current: Values, frame: Frame) -> None:
        self._x, self._item, self._cell, self._current, self._frame = x, item, cell, current, frame
        self._numbers = Numbers(self.variable)

    # --- atoms -----------------------------------------------------------------------------------------------------
    def variable(self, name: str) -> Any:
        found = self._frame.env.lookup(name)
        if isinstance(found, str) and found in self._frame.names:
            return self.word(found, 0)
        if not is_number(found):
            raise ExprError(f"${name} is no number here", hint="a value goes by its name, without $")
        return found

    def word(self, name: str, at: int) -> Any:
        place = Item(name, self._item.file, self._item.line, self._item.column + at)
        if name not in self._frame.names and name in CONSTANTS:
            return CONSTANTS[name]
        if name not in self._frame.names:
            if name in self._frame.env.variables:
                raise ExprError(f"no value is named '{name}' here", at, f"did you mean ${name}?")
            if name in FUNCTIONS:
                raise ExprError(f"no value is named '{name}' here", at, f"a function takes ( ): {name}(x)")
            if odd := next((k for k in self._frame.names.known() if k.startswith(name) and not is_name(k)), None):
                hint = f"'{odd}' can't stand in an expression; name it anew: {{identity: {{from: {odd}, as: {name}}}}}"
                raise ExprError(f"no value is named '{name}' here", at, hint)
        value = read_operand(place, self._current, self._frame.names)
        require((value,))
        return value

    # --- operations --------------------------------------------------------------------------------------------------
    def computed(self, sign: str, a: Any, b: Any) -> Any:
        if not _has_value(a, b):
            return self._numbers.computed(sign, a, b)
        if sign == "^":
            return self._power(a, b)
        if sign in SIGNS:
            if sign == "/" and any(is_integer(d) for d in self._dtypes(a, b)):
                hint = "a // b rounds down; float(a)/b is a float"
                raise ExprError("'/' would cut off what whole numbers do not divide", hint=hint)
            return self._add(SIGNS[sign], a, b)
        if any(is_integer(d) for d in self._dtypes(a, b)):  # Mod has the sign of the divisor
            rest = self._add("Mod", a, b)
            return rest if sign == "%" else self._add("Div", self._add("Sub", a, rest), b)
        whole = self._add("Floor", self._add("Div", a, b))
        return whole if sign == "//" else self._add("Sub", a, self._add("Mul", whole, b))

    def _power(self, a: Any, b: Any) -> Value:
        """Operands of Pow have types of their own, and the result that of the base."""
        if not isinstance(a, Value):
            (dtype,) = self._dtypes(b) or [np.dtype(np.float32)]
            a = self.constant(a, dtype)
        elif any(map(is_integer, self._dtypes(a))) and not self._is_power_of_integers(b):
            raise ExprError("the power of whole numbers would be cut off", hint="float(a)^b is a float")
        return self._add("Pow", a, b)

    def _is_power_of_integers(self, b: Any) -> bool:
        """Is a whole number to the power of `b` one, as far as can be told?"""
        return not any(map(is_float, self._dtypes(b))) if isinstance(b, Value) else not isinstance(b, float) and b >= 0

    def compared(self, relation: str, a: Any, b: Any) -> Any:
        if not _has_value(a, b):
            return self._numbers.compared(relation, a, b)
        if relation == "!=":
            return self._add("Not", self._add("Equal", a, b))
        return self._add(RELATIONS[relation], a, b)

    def joined(self, sign: str, a: Any, b: Any) -> Any:
        if not _has_value(a, b):
            return self._numbers.joined(sign, a, b)
        return self._add("And" if sign == "and" else "Or", a, b)

    def negative(self, a: Any) -> Any:
        return self._add("Neg", a) if isinstance(a, Value) else self._numbers.negative(a)

    def contrary(self, a: Any) -> Any:
        return self._add("Not", a) if isinstance(a, Value) else self._numbers.contrary(a)

    def call(self, name: str, args: list[Any]) -> Any:
        wanted = 1 if name in UNARY or name in CASTS else OTHERS[name]
        if len(args) != (wanted or max(len(args), 2)):
            count = f"{wanted} argument{'s' * (wanted != 1)}" if wanted else "two arguments or more"
            along = f"along an axis it is a layer: - {name}: {{axis: …}}" if name in ("min", "max") else None
            raise ExprError(f"{name}() takes {count}, not {len(args)}", hint=along)
        if name in self._numbers.functions and not _has_value(*args):
            return self._numbers.call(name, args)
        if name in OTHERS:
            return self._add(name.capitalize(), *args)
        (a,) = args
        if name in CASTS:
            return self._cast(a, name)
        return self._add(UNARY[name], a)

    def _cast(self, a: Any, name: str) -> Any:
        if not isinstance(a, Value):
            return float(a) if name == "float" else int(a)
        result: Value = self._cell.add("Cast", a, to=CASTS[name])
        self._x.dtypes.note("Cast", (a,), (result,), CASTS[name])
        return result

    # --- operators ---------------------------------------------------------------------------------------------------
    def constant(self, number: Any, dtype: np.dtype | None = None) -> Value:
        literal = self._literal(number)
        return self._x.builder.constant(literal.array(dtype or literal.alone()))

    def _literal(self, number: Any) -> Literal:
        return Literal(self._item.of(number), (number,), ())

    def _dtypes(self, *operands: Any) -> list[np.dtype]:
        """Those that are known."""
        found = [self._x.dtypes.of(v) for v in operands if isinstance(v, Value)]
        return [d for d in found if d is not None]

    def _add(self, op: str, *operands: Any) -> Value:
        """A number beside values takes their type, as among the inputs of an operator."""
        given = [v if isinstance(v, Value) else self._literal(v) for v in operands]
        dtypes = self._x.dtypes.literals(get_op(op), given)
        taken = [
            self._x.builder.constant(v.array(dtype)) if isinstance(v, Literal) else v for v, dtype in zip(given, dtypes)
        ]
        result: Value = self._cell.add(op, *taken)
        self._x.dtypes.note(op, taken, (result,), None)
        return result


def _has_value(*operands: Any) -> bool:
    return any(isinstance(v, Value) for v in operands)
