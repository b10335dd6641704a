"""Expansion of a net: steps, blocks, branches, repeats, loops and choices become operators of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from graphc.errors import GraphcError
from graphc.frontends.yaml_args import Env, computed, convert, is_number
from graphc.frontends.yaml_cell import Cell, Layer, Param
from graphc.frontends.yaml_join import join, project
from graphc.frontends.yaml_literals import DTYPES, Dtypes, Literal, read_literal
from graphc.frontends.yaml_names import Namer, Names, dotted
from graphc.frontends.yaml_step import STRUCTURES, Block, Catalog, Join, Step, merged, read_step
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean
from graphc.frontends.yaml_weights import Weights
from graphc.graph import Builder, Value
from graphc.op import Attr, Deferred, Op
from graphc.types import dtype_from_name

MAX_NESTING = 100  # of lists of steps
MAX_STEPS = 100_000
Values = tuple[Value, ...]


class LayerRow(NamedTuple):
    """One row of a model's table."""

    name: str
    line: int
    output: str  # the name of the value that it makes
    parameters: int  # trainable ones, counted where they are first used


@dataclass(frozen=True)
class Frame:
    """Where a list of steps is expanded."""

    env: Env
    names: Names
    path: str  # begins the names of nodes
    weights: str  # begins the names of weights
    calls: tuple[str, ...] = ()  # blocks being expanded, outermost first
    looped: bool = False  # inside a loop names may be given again
    residual: bool = False  # in a path that will be added to others

    def at(self, suffix: str, weights: str | None = None) -> Frame:
        """The frame of something inside this one."""
        return replace(
            self, path=dotted(self.path, suffix), weights=dotted(self.weights, suffix) if weights is None else weights
        )


class Expander:
    """Expands steps into a builder's graph. `rows` and `params` tell what was built."""

    def __init__(self, builder: Builder, weights: Weights, catalog: Catalog, params: Mapping[str, Item]) -> None:
        self.builder, self.weights, self.catalog, self.globals = builder, weights, catalog, params
        self.rows: list[LayerRow] = []
        self.params: dict[str, Param] = {}
        self.trace: list[tuple[str, Value]] = []
        self.dtypes = Dtypes()
        self.depth = self.count = 0
        self.told: GraphcError | None = None  # the error that already says where it is

    def net(self, item: Item, inputs: Mapping[str, Value]) -> tuple[Values, Names]:
        """Expand the net. Returns what the last step gives and the names that steps were given. Raises GraphcError."""
        names = Names()
        for name, value in inputs.items():
            names.define(name, value, item, again=False)
        self.trace = [(name, v) for name, v in inputs.items()]
        current = tuple(inputs.values()) if len(inputs) == 1 else ()
        frame = Frame(Env(self.globals), names, "net", "net")
        return self.steps(item, current, frame, Namer()), names

    def steps(self, item: Item, current: Values, frame: Frame, namer: Namer) -> Values:
        """Expand a list of steps (or one step) that starts with `current`; returns what the last one gives."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            hint = "a block that uses itself needs an `if` that ends it"
            raise item.error(f"blocks and branches are nested deeper than {MAX_NESTING}", hint)
        for i, entry in enumerate(item.value if isinstance(item.value, list) else [item]):
            current = self._step(entry, i, current, frame, namer)
        self.depth -= 1
        return current

    def _step(self, entry: Item, index: int, current: Values, frame: Frame, namer: Namer) -> Values:
        try:
            self._tick(entry)
            if isinstance(entry.value, str):
                entry = frame.env.resolve(entry)
            step = read_step(entry)
            if isinstance(step.callee, str) and step.callee.startswith("$"):
                step = replace(step, callee=frame.env.resolve(step.place).word("the name of a layer"))
            operands = self._operands(step, current, frame)
            features = _dims(step, operands)
            result = self._apply(step, operands, replace(frame, env=frame.env.with_special(**features)), index, namer)
            self._save(step, result, frame)
            return result
        except Deferred as e:
            error = entry.error(f"the {e} is known only when the model runs", "use fixed sizes here")
            raise self._located(error, frame) from None
        except GraphcError as e:
            raise self._located(e, frame) from None

    def _tick(self, item: Item) -> None:
        self.count += 1
        if self.count > MAX_STEPS:
            raise item.error(f"the net has more than {MAX_STEPS} steps", "check the counts of its repeats")

    def _located(self, error: GraphcError, frame: Frame) -> GraphcError:
        """The error with the path of blocks and the shapes so far."""
        if self.told is not error:
            self.told = error
            if error.source is not None and frame.calls and not error.source.path:
                error.source = replace(error.source, path=_shortened(frame.calls))
            shapes = " -> ".join(f"{name} {v.type or '?'}" for name, v in self.trace[-4:])
            if shapes:
                error.hint = f"{error.hint}\n  shapes so far: {shapes}" if error.hint else f"shapes so far: {shapes}"
        return error

    def _operands(self, step: Step, current: Values, frame: Frame) -> Values:
        """What `from` names, or what the step before gave."""
        if step.operands is None:
            return current[:1]
        return tuple(self._operand(i, current, frame) for i in _listed(step.operands))

    def _operand(self, item: Item, current: Values, frame: Frame) -> Value:
        if is_number(item.value):
            hint = "numbers can be among the `inputs` of an operator: Add: {inputs: [a, 2.0]}"
            raise item.error(f"`from` names values, and {item.value} is none", hint)
        name = item.word("a value")
        if name == "last":
            if not current:
                raise item.error("there is no last value here", "the net has several inputs: begin with from: NAME")
            return current[0]
        return frame.names.find(name, item)

    def _inputs(self, op: Op, item: Item, current: Values, frame: Frame) -> tuple[Value | None, ...]:
        """What an operator's `inputs` say: names, nothing (null), and literals, which become constants."""
        given = [self._input(i, current, frame) for i in _listed(item)]
        dtypes = self.dtypes.literals(op, given)
        return tuple(
            self.builder.constant(v.array(dtype)) if isinstance(v, Literal) else v for v, dtype in zip(given, dtypes)
        )

    def _input(self, item: Item, current: Values, frame: Frame) -> Value | Literal | None:
        if item.value is None:
            return None
        expression = isinstance(item.value, str) and item.value not in frame.names and is_number(computed(item))
        return (
            read_literal(item)
            if expression or is_number(item.value) or isinstance(item.value, list)
            else (self._operand(item, current, frame))
        )

    def _save(self, step: Step, result: Values, frame: Frame) -> None:
        if step.save is None:
            return
        items = step.save.value if isinstance(step.save.value, list) else [step.save]
        if len(items) > len(result):
            raise step.save.error(f"gives {len(items)} names to {len(result)} value{'s' * (len(result) != 1)}")
        for item, value in zip(items, result):
            frame.names.define(item.word("a name"), value, item, again=frame.looped)

    def _apply(self, step: Step, operands: Values, frame: Frame, index: int, namer: Namer) -> Values:
        if isinstance(step.callee, Item):
            return self._list(step.callee, operands, frame, namer, index)
        if step.callee == "if":
            condition = convert(frame.env.resolve(step.args), bool, "the condition of if")
            chosen = step.then if condition else step.otherwise
            return self._list(chosen, operands, frame, namer, index) if chosen is not None else operands
        structure = step.callee in STRUCTURES
        callee = None if structure else self.catalog.callee(step.callee, step.place)
        stem = "" if step.callee == "branch" else step.callee
        name = step.name.word("name") if step.name else None
        inner = frame.at(
            namer.place(stem, index, name, step.name, leaf=not structure and not isinstance(callee, Block))
        )
        if step.share is not None:
            inner = replace(inner, weights=step.share.word("share"))
        if structure:
            spec = step.args.mapping(f"'{step.callee}'")
            expand = {"branch": self._branch, "repeat": self._repeat, "loop": self._loop}[step.callee]
            return expand(step, spec, operands, inner, namer if inner.path == frame.path else Namer())
        return self._call(callee, step, step.args, operands, inner)

    def _list(self, item: Item, operands: Values, frame: Frame, namer: Namer, index: int) -> Values:
        """A list in the place of a step: numbered inside a numbered list, else as if it stood there itself."""
        if namer.by_name:
            return self.steps(item, operands, frame, namer)
        return self.steps(item, operands, frame.at(str(index)), Namer())

    def _call(self, callee: Block | Layer | Op, step: Step, args: Item, operands: Values, frame: Frame) -> Values:
        if isinstance(callee, Block):
            return self._block(callee, step, args, operands, frame)
        cell = self._cell(step, frame)
        if isinstance(callee, Op):
            result = self._operator(callee, step, args, operands, frame, cell)
        else:
            result = self._layer(callee, step, args, operands, frame, cell)
        self._row(cell, result)
        return result

    def _cell(self, step: Step, frame: Frame) -> Cell:
        source = step.place.source(frame.calls)
        names = (frame.path, frame.weights)
        return Cell(self.builder, self.weights, self.params, *names, step.place, source, frame.residual)

    def _row(self, cell: Cell, result: Values) -> None:
        self.rows.append(LayerRow(cell.name, cell.item.line, result[0].name, cell.new_parameters))
        self.trace.append((cell.name, result[0]))

    def _layer(self, callee: Layer, step: Step, args: Item, operands: Values, frame: Frame, cell: Cell) -> Values:
        given = self.catalog.arguments(callee, args)
        values = {
            k: convert(frame.env.resolve(v), callee.args[k][0], f"'{k}' of '{callee.name}'") for k, v in given.items()
        }
        if callee.operands == 0:
            operands = ()
        _check_count(step, operands, callee.operands, callee.name)
        result = callee(cell, operands, values)
        return (result,) if isinstance(result, Value) else tuple(result)

    def _operator(self, op: Op, step: Step, args: Item, operands: Values, frame: Frame, cell: Cell) -> Values:
        """An ONNX operator under its own name; numbers among its inputs are constants."""
        given = dict(check_keys(args, (*op.attrs, "inputs"), f"operator '{op.name}'")) if args.value is not None else {}
        inputs = given.pop("inputs", step.operands)
        if inputs is not None:
            operands = self._inputs(op, frame.env.resolve(inputs), operands, frame)
        elif not op.inputs:
            operands = ()
        elif not operands:
            raise step.place.error("there is nothing to apply it to", "name its operands: inputs: [a, b]")
        attrs = {k: _attribute(frame.env.resolve(v), op.attrs[k], k) for k, v in given.items()}
        outputs = len(step.save.value) if step.save is not None and isinstance(step.save.value, list) else 1
        result = cell.add(op.name, *operands, outputs=outputs, **attrs)
        result = (result,) if isinstance(result, Value) else tuple(result)
        self.dtypes.note(op.name, operands, result, attrs.get("to", attrs.get("dtype")))
        return result

    def _block(self, block: Block, step: Step, args: Item, operands: Values, frame: Frame) -> Values:
        given = self.catalog.arguments(block, args)
        values = {**self.globals, **{k: frame.env.resolve(v) for k, v in given.items()}}
        for name, default in block.args.items():
            if name not in given:
                values[name] = Env(values, frame.env.special).resolve(default)
        _check_count(step, operands, len(block.inputs), block.name)
        names = Names()
        for name, value in zip(block.inputs, operands):
            names.define(name, value, block.item, again=False)
        inner = Frame(
            Env(values), names, frame.path, frame.weights, (*frame.calls, block.name), residual=frame.residual
        )
        result = self.steps(block.body, operands[:1], inner, Namer(by_name=True))
        return (
            tuple(names.find(o.word("an output"), o) if o.value != "last" else result[0] for o in block.outputs)
            or result
        )

    def _branch(self, step: Step, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer) -> Values:
        check_keys(step.args, STRUCTURES["branch"], "branch")
        for key in ("join", "paths"):
            if key not in args:
                raise step.place.error(
                    f"branch needs '{key}'", "branch: {join: add, paths: {main: [...], skip: identity}}"
                )
        how = convert(frame.env.resolve(args["join"]), Join, "join")
        axis = convert(frame.env.resolve(args["axis"]), int, "axis") if "axis" in args else 1
        _check_count(step, operands, 1, "branch")
        paths = args["paths"].mapping("paths")
        results: dict[str, Value] = {}
        for name, item in paths.items():
            if not _is_projection(item):
                inside = replace(frame.at(namer.unique(name)), residual=frame.residual or how == "add")
                results[name] = self._one(self.steps(item, operands, inside, Namer()), item)
        for name, item in paths.items():
            if _is_projection(item):
                if not results or how == "concat":
                    raise item.error(
                        "a projection needs another path whose shape it takes, and a join other than concat"
                    )
                inside = frame.at(namer.unique(name))
                make = partial(self._part, step, inside)
                value = project(frame.env.resolve(item), operands[0], next(iter(results.values())), make)
                if value is not None:
                    results[name] = value
        ordered = {name: results[name] for name in paths if name in results}
        cell = self._cell(step, frame.at(namer.unique(how)))
        result = (join(cell, how, ordered, axis),)
        if len(ordered) > 1:
            self._row(cell, result)
        return result

    def _part(self, step: Step, frame: Frame, name: str, build: Callable[[Cell], Value]) -> Value:
        """One layer inside a structure, with its own row."""
        cell = self._cell(step, frame.at(name))
        value = build(cell)
        self._row(cell, (value,))
        return value

    def _one(self, values: Values, item: Item) -> Value:
        if not values:
            raise item.error("there is no value here", "the net has several inputs: begin with from: NAME")
        return values[0]

    def _count(self, args: Mapping[str, Item], step: Step, frame: Frame) -> int:
        for key in ("n", "of"):
            if key not in args:
                raise step.place.error(f"{step.callee} needs '{key}'", f"{step.callee}: {{n: 3, of: ...}}")
        n = convert(frame.env.resolve(args["n"]), int, "n")
        if not 0 <= n <= MAX_STEPS:
            raise args["n"].error(f"n must be from 0 to {MAX_STEPS}, not {n}")
        return n

    def _repeat(self, step: Step, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer) -> Values:
        n = self._count(args, step, frame)
        how = convert(frame.env.resolve(args["join"]), Join, "join") if "join" in args else None
        axis = convert(frame.env.resolve(args["axis"]), int, "axis") if "axis" in args else 1
        for i in range(n):
            turn = frame.at(str(i))
            turn = replace(turn, env=frame.env.with_special(i=lambda i=i: i), names=Names(frame.names))
            changes = [args[k] for k, now in (("first", i == 0), ("last", i == n - 1)) if now and k in args]
            result = self._turn(step, args, changes, operands, turn)
            if how is not None:
                both = {"so far": self._one(operands, step.place), f"iteration {i}": self._one(result, step.place)}
                cell = self._cell(step, turn.at(how))
                result = (join(cell, how, both, axis),)
                self._row(cell, result)
            operands = result
        return operands

    def _turn(
        self, step: Step, args: Mapping[str, Item], changes: Sequence[Item], operands: Values, frame: Frame
    ) -> Values:
        """One iteration of what `of` says: a name with arguments beside it, a step, or a list of steps."""
        self._tick(step.place)
        of = frame.env.resolve(args["of"]) if isinstance(args["of"].value, str) else args["of"]
        beside = {k: v for k, v in args.items() if k not in STRUCTURES["repeat"]}
        if isinstance(of.value, list):
            if extra := [*beside.values(), *changes]:
                raise extra[0].error(
                    "repeat of a list of steps takes no arguments", "make the list a block with arguments"
                )
            return self.steps(of, operands, frame, Namer())
        inner = read_step(of)
        if not isinstance(inner.callee, str) or inner.callee in STRUCTURES:
            return self.steps(of, operands, frame, Namer())
        callee = self.catalog.callee(inner.callee, inner.place)
        given = merged(callee, inner.args, beside, changes, step)
        place = frame if isinstance(callee, Block) else frame.at(inner.callee)
        within = replace(inner, item=of if isinstance(of.value, dict) else step.item)
        operands = self._operands(within, operands, frame)
        place = replace(place, env=place.env.with_special(**_dims(within, operands)))
        result = self._call(callee, within, given, operands, place)
        self._save(inner, result, frame)
        return result

    def _loop(self, step: Step, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer) -> Values:
        """n times the same steps with the same weights; names given inside carry over to the next time."""
        check_keys(step.args, STRUCTURES["loop"], "loop")
        for i in range(self._count(args, step, frame)):
            env = frame.env.with_special(i=lambda i=i: i)
            turn = replace(frame.at(str(i), weights=frame.weights), env=env, looped=True)
            operands = self.steps(args["of"], operands, turn, Namer())
        return operands


def _dims(step: Step, operands: Values) -> dict[str, Callable[[], int]]:
    """$channels and $features: axes 1 and -1 of what comes in."""

    def dim(axis: int, what: str) -> int:
        if not operands or operands[0] is None:
            raise step.place.error(f"${what} is not known: nothing comes in here")
        shape = operands[0].shape
        if len(shape) < 2 or not isinstance(shape[axis], int):
            raise step.place.error(f"${what} is not a number here: the input is {operands[0].type}")
        return shape[axis]

    return {"channels": partial(dim, 1, "channels"), "features": partial(dim, -1, "features")}


def _shortened(calls: tuple[str, ...]) -> tuple[str, ...]:
    return calls if len(calls) <= 8 else (*calls[:3], "…", *calls[-3:])


def _is_projection(item: Item) -> bool:
    return isinstance(item.value, dict) and "project" in item.value


def _check_count(step: Step, operands: Values, wanted: int | None, name: str) -> None:
    if wanted is None and operands:
        return
    if len(operands) != (wanted if wanted is not None else 1):
        count = "no values" if not operands else f"{len(operands)} value{'s' * (len(operands) != 1)}"
        hint = (
            "name what it reads: from: NAME"
            if wanted == 1
            else f"name them: from: [{', '.join('abcdefgh'[: wanted or 2])}]"
        )
        raise step.place.error(f"'{name}' takes {wanted if wanted is not None else 'some'}, not {count}", hint)


def _listed(item: Item) -> list[Item]:
    return item.value if isinstance(item.value, list) else [item]


def _attribute(item: Item, spec: Attr, name: str) -> Any:
    """An attribute of an ONNX operator as its type says."""
    what = f"attribute '{name}'"
    hints = {"ints": int | tuple[int, ...], "floats": tuple[float, ...], "strings": tuple[str, ...], bool: bool | int}
    if spec.type == "dtype":
        if item.word(what) not in (*DTYPES, "bfloat16"):
            hint = did_you_mean(item.value, DTYPES)
            raise item.error(f"{what} must be a dtype like float32, not '{item.value}'", hint)
        return dtype_from_name(item.value)
    if spec.type == "tensor":
        literal = read_literal(item)
        return literal.array(literal.alone())
    if spec.type == "graph":
        raise item.error(f"{what} is a subgraph, which the language can't write", "use `if` and `loop`")
    value = convert(item, hints.get(spec.type, spec.type), what)
    return (value,) if spec.type == "ints" and isinstance(value, int) else value
