"""Control flow when the model runs: `scan` along an axis, `while` a condition holds, and `when`, which takes one of two ways.

Each becomes an ONNX operator that holds a graph. What its steps read from outside becomes the graph's last inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.frontends.yaml_args import convert
from graphc.frontends.yaml_frame import Frame, is_lost, require
from graphc.frontends.yaml_held import Held, inside
from graphc.frontends.yaml_names import Namer, Names, dotted
from graphc.frontends.yaml_operators import Values, listed, read_operand
from graphc.frontends.yaml_problems import Lost
from graphc.frontends.yaml_registry import LayerBuilder
from graphc.frontends.yaml_states import differ, first_values, way_out
from graphc.frontends.yaml_step import NetStep
from graphc.frontends.yaml_syntax import Item
from graphc.graph import Value
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.frontends.yaml_net import Expander

MAX_TRIPS = 1 << 31
COUNT, FLAG = TensorType(np.dtype(np.int64), ()), TensorType(np.dtype(bool), ())


@dataclass(frozen=True)
class _Turn:
    """One step of a scan or while: what its names mean, and what it makes of the states."""

    x: Expander
    step: NetStep
    args: Mapping[str, Item]
    frame: Frame  # outside
    firsts: Mapping[str, Value]  # of the states
    held: Held
    names: Names  # inside

    @property
    def kind(self) -> str:
        return str(self.step.callee)

    @property
    def inside(self) -> Frame:
        return replace(self.frame, names=self.names, looped=True)

    def run(self, start: Values) -> Values:
        """What the last of the steps gives; the first one reads `start`."""
        return self.x.steps(self.args["of"], start, self.inside, Namer())

    def results(self, last: Values, axis: int | None) -> tuple[dict[str, Value], dict[str, Value]]:
        """The next states, and what is collected by its name outside. Raises Poisoned after all problems are reported."""
        collect = self.args.get("collect", self.step.item.of({}))
        items = _collected(self.frame.env.resolve(collect))
        reads = {name: partial(self._next, name) for name in self.firsts}
        reads |= {name: partial(self._item, name, *where, last, axis) for name, where in items.items()}
        found = dict(zip(reads, self.x.each(tuple(reads), lambda name: reads[name](), self.frame)))
        return {name: found[name] for name in self.firsts}, {name: found[name] for name in items}

    def _next(self, name: str) -> Value:
        value, place = self.names.values[name]
        first = self.firsts[name]
        if place.source() == self._place(name).source():
            raise place.error(f"no step gives the next '{name}'", f"name what it becomes: as: {name}")
        require((value, first))
        if differ(value.type, first.type):
            message = f"state '{name}' is {first.type} at first and {value.type} after a step"
            raise place.error(message, way_out(first, value))
        return value

    def _item(self, name: str, place: Item, item: Item, last: Values, axis: int | None) -> Value:
        if name in self.firsts:
            hint = f"collect it under another: collect: {{all: {item.value}}}"
            raise place.error(f"'{name}' is a state: its last value goes by that name", hint)
        if name == "last":
            raise place.error("'last' always means what the step before gave", "name it: collect: {y: last}")
        value = read_operand(item, last, self.names)
        require((value,))
        if value.type is not None and axis is not None:
            rank = len(value.shape)
            if not -rank - 1 <= axis <= rank:
                if axis > 0:
                    hint = (
                        f"give it axes, in a step before: unsqueeze: {[*range(axis - rank)] if axis - rank > 1 else 0}"
                    )
                else:
                    hint = f"give an axis from {-rank - 1} to {rank}"
                raise item.error(f"'{item.value}' is {value.type}: it can't be stacked along axis {axis}", hint)
        return value

    def _place(self, name: str) -> Item:
        return self.args["states"].at_key(name)

    def finish(self, cell: LayerBuilder, finals: Mapping[str, Value], collected: Mapping[str, Value]) -> Values:
        """Give the results their names outside."""
        names = self.frame.names
        for name in self.names.values:
            line = self.step.place.line
            names.inside.setdefault(name, f"it is inside the {self.kind} of line {line}: `collect` hands its values on")
        known = names.values
        with self.x.attempt(self.step.place, self.frame):
            for name, value in collected.items():
                item = self.args["collect"]
                place = item.at_key(name) if isinstance(item.value, dict) else item
                names.define(name, value, place, again=self.frame.looped)
            for name, value in finals.items():  # a state that begins as the value of its name goes on with it
                again = self.frame.looped or (name in known and known[name][0] is self.firsts[name])
                names.define(name, value, self._place(name), again=again)
        result = (*collected.values(), *finals.values())
        self.x.row(cell, result)
        return result


def _begin(
    x: Expander, step: NetStep, args: Mapping[str, Item], frame: Frame, firsts: Mapping[str, Value], held: Held
) -> _Turn:
    names = Names(frame.names, held=str(step.callee))
    for name, first in firsts.items():
        state = first if isinstance(first, Lost) else held.given(name, first.type)
        names.define(name, state, args["states"].at_key(name), again=False)
    return _Turn(x, step, args, frame, firsts, held, names)


def _collected(item: Item) -> dict[str, tuple[Item, Item]]:
    """`{all: h}`, `[y, z]` or `y`: by the name outside its place, and what inside."""
    if isinstance(item.value, dict):
        return {name: (item.at_key(name), value) for name, value in item.value.items()}
    entries: dict[str, tuple[Item, Item]] = {}
    for i in listed(item):
        name = i.word("what is collected")
        if name in entries:
            raise i.error(f"'{name}' is collected twice", f"name them: collect: {{{name}: {name}, again: {name}}}")
        entries[name] = i, i
    return entries


# --- scan -------------------------------------------------------------------------------------------------------------
def scan(x: Expander, step: NetStep, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer) -> Values:
    """The steps once for each element along an axis; states go on from one to the next."""
    axis, reverse = _arguments(x, args, frame, axis=(int, 1), reverse=(bool, False))
    if not args.get("collect", step.item.of(None)).value and not _states(args):
        raise step.place.error("scan gives nothing: it has neither states nor `collect`", "for example: collect: [y]")
    cell = x.cell(step, frame)
    firsts = first_values(x, step, _states(args), operands, frame)
    held = Held(f"{cell.name}/body")
    turn = _begin(x, step, args, frame, firsts, held)
    scanned: list[Value] = []
    elements: list[Value] = []
    entries = _over(frame.env.resolve(args["over"]))
    for name, item in entries:
        value: Value = Lost("", None)
        with x.attempt(item, frame):
            found = read_operand(item, operands, frame.names)
            require((found,))
            value = _fitting(found, item, axis, dict(zip((i.value for _, i in entries), scanned)))
        scanned.append(value)
        lost = isinstance(value, Lost)
        elements.append(value if lost else held.given(name or value.name, _without(value, axis)))
        if name:
            place = args["over"].at_key(name) if isinstance(args["over"].value, dict) else item
            if name in firsts:
                raise place.error(f"'{name}' is both a state and an element", "name the element: over: {element: NAME}")
            turn.names.define(name, elements[-1], place, again=False)
    with inside(x, held):
        last = turn.run(tuple(elements[:1]))
    nexts, items = turn.results(last, None if is_lost(scanned) else axis)
    require(scanned)
    n, m = len(nexts), len(scanned)
    names = [dotted(cell.name, name) for name in (*nexts, *items)]
    outputs = {f"{name}.next": v for name, v in nexts.items()} | items
    axes = [axis % (len(v.shape) + 1) if v.type is not None else axis for v in items.values()]
    made = cell.builder.add(
        "Scan", *firsts.values(), *scanned, *held.seen(outputs.values()), name=cell.name, outputs=names,
        source=cell.source, body=held.graph(outputs), n_states=n, num_scan_inputs=m,
        scan_input_axes=[axis % len(v.shape) for v in scanned], scan_input_directions=[int(reverse)] * m,
        scan_output_axes=axes, scan_output_directions=[int(reverse)] * len(axes),
    )  # fmt: skip
    made = (made,) if isinstance(made, Value) else made
    return turn.finish(cell, dict(zip(nexts, made)), dict(zip(items, made[n:])))


def _over(item: Item) -> list[tuple[str, Item]]:
    """`x`, `[x, y]`, or `{element: x}`: what an element is named inside ('': not at all), and what is scanned."""
    if isinstance(item.value, dict):
        entries = [(name, value) for name, value in item.value.items()]
    else:
        entries = [("" if i.value == "last" else i.word("a value"), i) for i in listed(item)]
    if not entries:
        raise item.error("there is nothing to scan over", "name a value: over: x")
    return entries


def _fitting(v: Value, item: Item, axis: int, others: Mapping[str, Value]) -> Value:
    """A scanned value, which has the axis, and there the length of the others."""
    rank = len(v.shape)
    if not -rank <= axis < rank:
        raise item.error(f"'{item.value}' is {v.type}: it has no axis {axis} to scan along", "give another `axis`")
    for name, other in others.items():
        if not isinstance(other, Lost):
            a, b = v.shape[axis], other.shape[axis]
            if isinstance(a, int) and isinstance(b, int) and a != b:
                message = f"'{item.value}' is {v.type}, but '{name}' is {other.type}: they differ along axis {axis}"
                raise item.error(message, "what is scanned together has as many elements")
    return v


def _without(v: Value, axis: int) -> TensorType:
    axis %= len(v.shape)
    return v.type.with_shape((*v.shape[:axis], *v.shape[axis + 1 :]))


# --- while ------------------------------------------------------------------------------------------------------------
def while_(
    x: Expander, step: NetStep, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer
) -> Values:
    """The steps as long as a condition holds, which is asked before each time."""
    axis, limit = _arguments(x, args, frame, axis=(int, 0), at_most=(int, 0))
    if not 1 <= limit <= MAX_TRIPS:
        raise args["at_most"].error(f"at_most must be from 1 to {MAX_TRIPS}, not {limit}")
    if not _states(args):
        raise args["states"].error("while needs a state: nothing else changes its condition", "states: {x: x0}")
    cell = x.cell(step, frame)
    firsts = first_values(x, step, _states(args), operands, frame)
    held = Held(f"{cell.name}/body")
    held.given("count", COUNT), held.given("holds", FLAG)
    turn = _begin(x, step, args, frame, firsts, held)
    before = Names(frame.names, held="while")
    for name, value in firsts.items():
        before.define(name, value, args["states"].at_key(name), again=False)
    weights = dotted(frame.weights, "condition")
    starts: Value = Lost("", None)
    with x.attempt(args["condition"], frame):
        where = replace(frame.at("first", weights), names=before, looped=True)
        starts = _condition(x, args["condition"], tuple(firsts.values())[:1], where, firsts)
    states = tuple(turn.names.values[name][0] for name in firsts)
    with inside(x, held):
        last = turn.run(states[:1])
        nexts, items = turn.results(last, axis)
        require((starts,))
        where = replace(turn.inside.at("condition"), names=Names(turn.names, held="while"))
        goes_on = _condition(x, args["condition"], tuple(nexts.values())[:1], where, firsts)
    require((goes_on, *firsts.values()))
    n = len(nexts)
    names = [dotted(cell.name, name) for name in (*nexts, *items)]
    outputs = {"condition": goes_on} | {f"{name}.next": v for name, v in nexts.items()} | items
    bound = cell.builder.constant(limit, np.int64, name=f"{cell.name}.at_most")
    made = cell.builder.add(
        "Loop", bound, starts, *firsts.values(), *held.seen(outputs.values()), name=cell.name, outputs=names,
        source=cell.source, body=held.graph(outputs), n_states=n,
    )  # fmt: skip
    made = (made,) if isinstance(made, Value) else made
    stacked = {name: _moved(cell, v, axis, name) for name, v in zip(items, made[n:])}
    return turn.finish(cell, dict(zip(nexts, made)), stacked)


def _moved(cell: LayerBuilder, v: Value, axis: int, name: str) -> Value:
    """What a Loop collects lies along axis 0."""
    if axis == 0:
        return v
    rank = len(v.shape)
    perm = list(range(1, rank))
    perm.insert(axis % rank, 0)
    moved: Value = cell.builder.add("Transpose", v, perm=perm, name=f"{cell.name}.{name}/Transpose", source=cell.source)
    return moved


# --- when -------------------------------------------------------------------------------------------------------------
def when(x: Expander, step: NetStep, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer) -> Values:
    """One of two lists of steps, as a boolean of the graph says. Names that both give are known behind it."""
    cell = x.cell(step, frame)
    holds: Value = Lost("", None)
    with x.attempt(step.args, frame):
        holds = _condition(x, step.args, operands, frame.at("condition"), ())
    ways: dict[str, tuple[Held, Names, Values]] = {}
    for key, item in (("then", step.then), ("else", step.otherwise)):
        held, names = Held(f"{cell.name}/{key}"), Names(frame.names, held="when")
        with inside(x, held):
            result = operands if item is None else x.steps(item, operands, replace(frame.at(key), names=names), Namer())
        ways[key] = held, names, result
    (_, then, _), (_, otherwise, _) = ways.values()
    line = step.place.line
    results: dict[str, tuple[Value, Value, Item]] = {}
    for name, (_, place) in {**otherwise.values, **then.values}.items():
        pair = [names.values[name][0] if name in names.values else None for names in (then, otherwise)]
        if None in pair and not (frame.looped and name in frame.names):
            frame.names.inside.setdefault(name, f"only one way of the when of line {line} gives it: name it on both")
            continue
        a, b = (frame.names.find(name, place) if v is None else v for v in pair)
        results[name] = a, b, place
    lasts = [values[:1] for _, _, values in ways.values()]

    def agree(name: str) -> None:
        a, b, place = results[name]
        require((a, b))
        if differ(a.type, b.type):
            raise place.error(f"'{name}' is {a.type} by `then` and {b.type} by `else`", "it must be of one type")

    x.each(tuple(results), agree, frame)
    require((holds, *lasts[0], *lasts[1]))
    outputs: list[tuple[str, Value, Value]] = [(name, a, b) for name, (a, b, _) in results.items()]
    same = all(lasts) and not differ(lasts[0][0].type, lasts[1][0].type)
    if same:
        outputs.insert(0, ("", lasts[0][0], lasts[1][0]))
    elif not outputs:
        raise step.place.error(*_apart(lasts))
    sides = [
        (held, {name or "last": pair[i] for name, *pair in outputs}) for i, (held, _, _) in enumerate(ways.values())
    ]
    captured = tuple(dict.fromkeys(v for held, values in sides for v in held.seen(values.values())))
    then_branch, else_branch = (held.graph(values, captured) for held, values in sides)
    made = cell.builder.add(
        "If", holds, *captured, name=cell.name, outputs=[dotted(cell.name, name) for name, _, _ in outputs],
        source=cell.source, then_branch=then_branch, else_branch=else_branch,
    )  # fmt: skip
    made = (made,) if isinstance(made, Value) else made
    for (name, _, _), value in zip(outputs, made):
        if name:
            with x.attempt(results[name][2], frame):
                frame.names.define(name, value, results[name][2], again=frame.looped)
    x.row(cell, made)
    return made if same else ()


def _apart(lasts: Sequence[Values]) -> tuple[str, str]:
    """What is wrong with two ways that end differently and give no names."""
    shown = [str(v[0].type) if v else "nothing" for v in lasts]
    hint = "both must give the same type; a missing `else` gives what comes in"
    return f"`then` gives {shown[0]} and `else` {shown[1]}", hint


# --- what they have in common -----------------------------------------------------------------------------------------
def _arguments(x: Expander, args: Mapping[str, Item], frame: Frame, **wanted: tuple[type, Any]) -> list[Any]:
    """wanted: types and defaults."""

    def read(key: str) -> Any:
        hint, default = wanted[key]
        return convert(frame.env.resolve(args[key]), hint, key) if key in args else default

    return x.each(wanted, read, frame)


def _states(args: Mapping[str, Item]) -> dict[str, Item]:
    return args["states"].mapping("states", "states: {h: {shape: [batch, 8]}}") if "states" in args else {}


def _condition(x: Expander, item: Item, current: Values, frame: Frame, states: Collection[str]) -> Value:
    """A boolean of the graph: a name, an expression as of `let`, or steps that give it."""
    if isinstance(item.value, str) and item.value.removeprefix("$").isidentifier():
        item = frame.env.resolve(item)  # an expression's numbers are for `let`, which knows the names of values
    if isinstance(item.value, str) and item.value.isidentifier():
        if states and item.value not in frame.names:
            hint = "it is asked before the first step, too: make it a state, with a first value"
            raise item.error(f"the condition '{item.value}' is not known", hint)
        found: Values = (read_operand(item, current, frame.names),)
    elif isinstance(item.value, (str, list, dict)) and item.value:
        found = x.steps(item.of({"let": item}) if isinstance(item.value, str) else item, current, frame, Namer())
    else:
        raise item.error(f"the condition must be the name of a boolean, or steps that give one, not {item.kind}")
    require(found)
    if not found or (found[0].type is not None and found[0].type != FLAG):
        hint = "compare, and reduce to one: ReduceMin (all) and ReduceMax (any) take booleans"
        raise item.error(
            f"the condition must be one boolean, bool[], not {found[0].type if found else 'nothing'}", hint
        )
    return found[0]
