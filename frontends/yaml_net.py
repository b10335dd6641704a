"""Expansion of a net: steps, blocks, branches, repeats, loops and choices become operators of a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from graphc.errors import GraphcError, Location
from graphc.frontends.yaml_args import Env, convert
from graphc.frontends.yaml_catalog import BlockDefinition, Catalog
from graphc.frontends.yaml_control import scan, when, while_
from graphc.frontends.yaml_frame import Frame, check_count, dims, is_lost, require
from graphc.frontends.yaml_let import let
from graphc.frontends.yaml_literals import Dtypes, Literal
from graphc.frontends.yaml_names import NAME_HINT, Namer, Names, is_name
from graphc.frontends.yaml_operators import Values, listed, names_value, read_attribute, read_input, read_operand
from graphc.frontends.yaml_problems import Lost, Poisoned, Problems, TooLarge, labels, names_given
from graphc.frontends.yaml_registry import LayerBuilder, LayerDefinition, Param
from graphc.frontends.yaml_sections import input_type
from graphc.frontends.yaml_step import STRUCTURES, NetStep, read_step, read_structure
from graphc.frontends.yaml_structures import MAX_STEPS, branch, loop, repeat
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean
from graphc.frontends.yaml_weights import Weights
from graphc.graph import Builder, Node, Value
from graphc.op import Deferred, Op
from graphc.types import TensorType

MAX_NESTING = 100  # of lists of steps
EXPAND = {"branch": branch, "repeat": repeat, "loop": loop, "scan": scan, "while": while_, "when": when}
T = TypeVar("T")
R = TypeVar("R")


class LayerRow(NamedTuple):
    """One row of a model's table."""

    name: str
    line: int
    output: str  # the name of the value that it makes
    parameters: int  # trainable ones, counted where they are first used


class WeightRow(NamedTuple):
    """A weight by its name: its type, where the step is that it is of, where it comes from, in words, and whether it is learned."""

    name: str
    type: TensorType | None
    source: Location
    origin: str
    trainable: bool


class Expander:
    """Expands steps into a builder's graph. `rows` and `params` tell what was built."""

    def __init__(
        self,
        builder: Builder,
        weights: Weights,
        catalog: Catalog,
        problems: Problems,
    ) -> None:
        self.builder, self.weights, self.catalog, self.problems = builder, weights, catalog, problems
        self.rows: list[LayerRow] = []
        self.layers: list[tuple[LayerBuilder, Sequence[Node]]] = []  # each with its nodes
        self.nets: set[str] = set()  # that were used as a step
        self.results: dict[tuple[Builder, str, Values], Values] = {}  # of nets as steps, by where and of what
        self.blocks: dict[str, str] = {}  # names of blocks by their places
        self.inputs: Mapping[str, Value] = {}
        self.params: dict[str, Param] = {}
        self.trace: list[tuple[str, Value]] = []
        self.dtypes = Dtypes()
        self.depth = self.count = 0

    def prepare(self, item: Item, name: str, value: Value, path: str) -> Value:
        """What the steps that prepare an input give; a lost value where they have a problem."""
        names = Names(later=_later(item), labels=labels(item))
        names.define(name, value, item, again=False)
        result = self.steps(item, (value,), Frame(Env(self.catalog.main.params), names, path, path), Namer())
        return result[0] if result else Lost(name, None)

    def net(self, item: Item, inputs: Mapping[str, Value], places: Item, path: str = "net") -> tuple[Values, Names]:
        """Expand a net. Returns what the last step gives and the names that steps were given. places: of the inputs; path: begins
        the names of nodes and weights.

        What is wrong is added to the problems; its results, and what depends on them, are lost values.
        """
        names = Names(later=_later(item), labels=labels(item))
        for name, value in inputs.items():
            names.define(name, value, places.at_key(name), again=False)
        self.inputs = inputs
        self.trace = [(name, v) for name, v in inputs.items() if not isinstance(v, Lost)]
        current = tuple(inputs.values()) if len(inputs) == 1 else ()
        frame = Frame(Env(self.catalog.main.params), names, path, path)
        try:
            return self.steps(item, current, frame, Namer()), names
        except TooLarge as e:
            self.problems.add(e)
            self.problems.stop()
            raise

    def steps(self, item: Item, current: Values, frame: Frame, namer: Namer) -> Values:
        """Expand a list of steps (or one step) that starts with `current`; returns what the last one gives."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            hint = "a block that uses itself needs an `if` that ends it"
            raise TooLarge(f"blocks and branches are nested deeper than {MAX_NESTING}", hint=hint, source=item.source())
        for i, entry in enumerate(listed(item)):
            current = self._step(entry, i, current, frame, namer)
        self.depth -= 1
        return current

    def _step(self, entry: Item, index: int, current: Values, frame: Frame, namer: Namer) -> Values:
        """What a step gives. A step that has a problem gives a lost value, under all the names that it would give."""
        with self.attempt(entry, frame):
            self.tick(entry)
            if isinstance(entry.value, str):
                entry = frame.env.resolve(entry)
            step = read_step(entry)
            if isinstance(step.callee, str) and step.callee.startswith("$"):
                step = replace(step, callee=frame.env.resolve(step.place).word("the name of a layer"))
            operands = self.operands(step, current, frame)
            features = dims(step, operands)
            result = self._apply(step, operands, replace(frame, env=frame.env.with_special(**features)), index, namer)
            with self.attempt(entry, frame):
                self.save(step, result, frame)
            return result
        lost = Lost(frame.path, None)
        for item in names_given(entry):
            if isinstance(item.value, str) and item.value != "last" and (frame.looped or item.value not in frame.names):
                with suppress(GraphcError):
                    frame.names.define(item.value, lost, item, again=frame.looped)
        return (lost,)

    @contextmanager
    def attempt(self, entry: Item, frame: Frame) -> Iterator[None]:
        """Goes on behind the block after a problem in it, which is reported."""
        try:
            yield
        except TooLarge as e:
            self._locate(e, frame)
            raise
        except Deferred as e:
            self._report(entry.error(f"the {e} is known only when the model runs", "use fixed sizes here"), frame)
        except GraphcError as e:
            self._report(e, frame)
        except Poisoned:
            pass

    def each(self, items: Collection[T], read: Callable[[T], R], frame: Frame) -> list[R]:
        """What is read of each, after all their problems are reported. Raises Poisoned where there are any."""
        found: list[R] = []
        for item in items:
            try:
                found.append(read(item))
            except GraphcError as e:
                self._report(e, frame)
            except Poisoned:
                pass
        if len(found) < len(items):
            raise Poisoned
        return found

    def _report(self, error: GraphcError, frame: Frame) -> None:
        for e in getattr(error, "problems", [error]):
            self._locate(e, frame)
            self.problems.add(e)

    def tick(self, item: Item) -> None:
        self.count += 1
        if self.count > MAX_STEPS:
            hint = "check the counts of its repeats"
            raise TooLarge(f"the net has more than {MAX_STEPS} steps", hint=hint, source=item.source())

    def _locate(self, error: GraphcError, frame: Frame) -> None:
        """Add the path of blocks and the shapes so far."""
        if error.source is not None and frame.calls and not error.source.path:
            error.source = replace(error.source, path=_shortened(frame.calls))
        shapes = " -> ".join(f"{_short(name)} {v.type or '?'}" for name, v in self.trace[-4:])
        if shapes and "shapes so far: " not in (error.hint or ""):
            error.hint = f"{error.hint}\n  shapes so far: {shapes}" if error.hint else f"shapes so far: {shapes}"

    def operands(self, step: NetStep, current: Values, frame: Frame) -> Values:
        """What `from` names, or what the step before gave; lost values for names that there are not."""
        if step.operands is None:
            return current[:1]
        found: list[Value] = []
        for item in listed(step.operands):
            found.append(Lost("", None))
            with self.attempt(item, frame):
                found[-1] = read_operand(item, current, frame.names)
        return tuple(found)

    def _inputs(self, op: Op, item: Item, current: Values, frame: Frame) -> tuple[Value | None, ...]:
        """What an operator's `inputs` say: names, nothing (null), and literals, which become constants."""
        given = self.each(listed(item), lambda i: read_input(i, current, frame.names), frame)
        require(given)
        dtypes = self.dtypes.literals(op, given)
        return tuple(
            self.builder.constant(v.array(dtype)) if isinstance(v, Literal) else v for v, dtype in zip(given, dtypes)
        )

    def save(self, step: NetStep, result: Values, frame: Frame) -> None:
        if step.save is None:
            return
        items = listed(step.save)
        if len(items) > len(result):
            given = f"{len(result)} value{'s' * (len(result) != 1)}"
            raise step.save.error(f"`as` gives {len(items)} names, and the step gives {given}")
        for item, value in zip(items, result):
            if not is_name(item.word("what `as` gives")):
                raise item.error(f"'{item.value}' can't be the name of a value", NAME_HINT)
            frame.names.define(item.value, value, item, again=frame.looped)

    def _apply(self, step: NetStep, operands: Values, frame: Frame, index: int, namer: Namer) -> Values:
        if step.weights is not None and (isinstance(step.callee, Item) or step.callee in STRUCTURES):
            hint = "no value of `let` can be named weights" if step.callee == "let" else "give them to its layers"
            raise step.weights.error(
                f"{step.callee if isinstance(step.callee, str) else 'a list'} has no weights", hint
            )
        if isinstance(step.callee, Item):
            return self._list(step.callee, operands, frame, namer, index)
        if step.callee == "if":
            condition = self._chosen(frame.env.resolve(step.args))
            chosen = step.then if condition else step.otherwise
            return self._list(chosen, operands, frame, namer, index) if chosen is not None else operands
        callee = None if step.callee in STRUCTURES else self.catalog.callee(step.callee, step.place)
        stem = "" if step.callee == "branch" else step.callee
        name = step.name.word("name") if step.name else None
        inner = frame.at(
            namer.place(
                stem, index, name, step.name, leaf=callee is not None and not isinstance(callee, BlockDefinition)
            )
        )
        if step.share is not None:
            inner = replace(inner, weights=step.share.word("share"))
        if step.callee == "let":
            return let(self, step, operands, inner)
        if callee is None:
            spec = {} if step.callee == "when" else read_structure(step)
            return EXPAND[step.callee](
                self, step, spec, operands, inner, namer if inner.path == frame.path else Namer()
            )
        return self.call(callee, step, step.args, operands, inner)

    @staticmethod
    def _chosen(item: Item) -> bool:
        try:
            return convert(item, bool, "the condition of if")
        except GraphcError as e:
            if isinstance(item.value, str):
                e.hint = "`if` chooses by params and arguments, $name; `when` chooses by values, when the model runs"
            raise

    def _list(self, item: Item, operands: Values, frame: Frame, namer: Namer, index: int) -> Values:
        """A list in the place of a step: numbered inside a numbered list, else as if it stood there itself."""
        if namer.by_name:
            return self.steps(item, operands, frame, namer)
        return self.steps(item, operands, frame.at(str(index)), Namer())

    def call(
        self, callee: BlockDefinition | LayerDefinition | Op, step: NetStep, args: Item, operands: Values, frame: Frame
    ) -> Values:
        if step.weights is not None and not isinstance(callee, LayerDefinition):
            what = "block" if isinstance(callee, BlockDefinition) else "operator"
            raise step.weights.error(f"the {what} '{callee.name}' has no weights of its own", "give them to its layers")
        if isinstance(callee, BlockDefinition):
            return self._block(callee, step, args, operands, frame)
        cell = self.cell(step, frame)
        if isinstance(callee, Op):
            result = self._operator(callee, step, args, operands, frame, cell)
        else:
            result = self._layer(callee, step, args, operands, frame, cell)
        self.row(cell, result)
        return result

    def _require(self, callee: BlockDefinition | LayerDefinition, place: Item, operands: Values) -> None:
        """Raises Poisoned where operands or arguments are not known because of a problem."""
        if self.catalog.is_unsure(callee, place):
            raise Poisoned
        require(operands)

    def cell(self, step: NetStep | Item, frame: Frame) -> LayerBuilder:
        place = step if isinstance(step, Item) else step.place
        names = (frame.path, frame.weights)
        source = place.source(frame.calls)
        given = {} if isinstance(step, Item) else self._given(step, frame)
        folder = self.catalog.scope(place).folder
        return LayerBuilder(
            self.builder, self.weights, self.params, *names, place, source, frame.residual, given, folder
        )

    def _given(self, step: NetStep, frame: Frame) -> Mapping[str, Item]:
        """Weights that the step gives itself."""
        if step.weights is None:
            return {}
        return frame.env.resolve(step.weights).mapping("the weights of a layer")

    def row(self, cell: LayerBuilder, result: Values) -> None:
        self.rows.append(LayerRow(cell.name, cell.item.line, result[0].name, cell.new_parameters))
        self.layers.append((cell, tuple(self.builder.nodes[cell.start :])))
        self.trace.append((cell.name, result[0]))

    def _layer(
        self, callee: LayerDefinition, step: NetStep, args: Item, operands: Values, frame: Frame, cell: LayerBuilder
    ) -> Values:
        given = self.catalog.arguments(callee, args)

        def read(k: str) -> Any:
            item = frame.env.resolve(given[k])
            if names_value(item, callee.args[k][0]):
                return read_operand(item, operands, frame.names)
            return callee.read(k, item)

        values = dict(zip(given, self.each(given, read, frame)))
        self._require(callee, step.place, operands)
        if callee.operands == 0:
            operands = ()
        check_count(step, operands, callee.operands, callee.name)
        require(values.values())
        result = callee(cell, operands, values)
        wrong = [k for k in cell.given if k not in cell.asked]
        if wrong and step.weights is not None:
            hint = did_you_mean(wrong[0], set(cell.asked), "it has")
            raise step.weights.at_key(wrong[0]).error(f"'{callee.name}' has no weight '{wrong[0]}'", hint)
        return (result,) if isinstance(result, Value) else tuple(result)

    def _operator(
        self, op: Op, step: NetStep, args: Item, operands: Values, frame: Frame, cell: LayerBuilder
    ) -> Values:
        """An ONNX operator under its own name; numbers among its inputs are constants."""
        given = dict(check_keys(args, (*op.attrs, "inputs"), f"operator '{op.name}'")) if args.value is not None else {}
        inputs = given.pop("inputs", None)
        attrs: dict[str, Any] | None = None
        with self.attempt(args, frame):

            def read(k: str) -> Any:
                return read_attribute(frame.env.resolve(given[k]), op.attrs[k], k)

            attrs = dict(zip(given, self.each(given, read, frame)))
        taken: Sequence[Value | None] = operands
        if inputs is not None:
            taken = self._inputs(op, frame.env.resolve(inputs), operands, frame)
        elif not op.inputs:
            taken = ()
        elif not operands:
            raise step.place.error("there is nothing to apply it to", "name its operands: inputs: [a, b]")
        require(taken)
        if attrs is None:
            raise Poisoned
        outputs = len(step.save.value) if step.save is not None and isinstance(step.save.value, list) else 1
        result = cell.add(op.name, *taken, outputs=outputs, **attrs)
        result = (result,) if isinstance(result, Value) else tuple(result)
        self.dtypes.note(op.name, taken, result, attrs.get("to", attrs.get("dtype")))
        return result

    def _block(self, block: BlockDefinition, step: NetStep, args: Item, operands: Values, frame: Frame) -> Values:
        given = self.catalog.arguments(block, args)
        resolved = self.each(given, lambda k: frame.env.resolve(given[k]), frame)
        values = {**self.catalog.scope(block.item).params, **dict(zip(given, resolved))}
        for name, default in block.args.items():
            if name not in given and default is not None:
                values[name] = Env(values, frame.env.special).resolve(default)
        check_count(step, operands, len(block.inputs), block.name)
        self._require(block, step.place, operands)
        self.blocks.setdefault(frame.path, block.name)
        names = Names(block=block.name)
        for name, value in zip(block.inputs, operands):
            names.define(name, value, block.item, again=False)
        inner = Frame(
            Env(values), names, frame.path, frame.weights, (*frame.calls, block.name), residual=frame.residual
        )
        if block.net:
            self._begin_net(block, step, operands, frame)
            inner = replace(inner, weights=block.name)
            return self._once(block, operands, inner)
        return self._body(block, operands, inner)

    def _once(self, net: BlockDefinition, operands: Values, frame: Frame) -> Values:
        """What a net gives as a step. Used again on the same values, with the same weights, it gives the same, and is not
        expanded again, unless it draws random numbers."""
        builder, key = self.builder, (self.builder, net.name, operands)
        if key in self.results:
            return self.results[key]
        start = len(builder.nodes)
        result = self._body(net, operands, frame)
        if not is_lost(result) and all(node.deterministic for node in builder.nodes[start:]):
            self.results[key] = result
        return result

    def _body(self, block: BlockDefinition, operands: Values, frame: Frame) -> Values:
        """Its steps' results."""
        start = operands[: len(block.inputs) == 1] if block.net else operands[:1]
        result = self.steps(block.body, start, frame, Namer(by_name=not block.net))
        return (
            tuple(frame.names.find(o.word("an output"), o) if o.value != "last" else result[0] for o in block.outputs)
            or result
        )

    def _begin_net(self, net: BlockDefinition, step: NetStep, operands: Values, frame: Frame) -> None:
        """Raises LoadError where a net can't be a step here: it uses itself, or wants other operands."""
        around = (frame.path.partition(".")[0], *frame.calls)
        if net.name in around:
            chain = " -> ".join((*around[around.index(net.name) :], net.name))
            raise step.place.error(f"net '{net.name}' uses itself: {chain}", "nets can use others, not themselves")
        if step.share is not None:
            raise step.share.error("a net's weights go by its own name, wherever it is used", "leave out share")
        self.nets.add(net.name)
        for name, value in zip(net.inputs, operands):
            if value.type is None or name not in net.takes:
                continue
            wanted = input_type(name, Env(self.catalog.main.params).resolve(net.takes[name]))
            if not _fits(value.type, wanted):
                raise step.place.error(f"net '{net.name}' takes {wanted} as its input '{name}', not {value.type}")


def _later(item: Item) -> dict[str, Item]:
    """The names that steps give, where they stand."""
    return {i.value: i for i in names_given(item) if isinstance(i.value, str)}


def _fits(t: TensorType, wanted: TensorType) -> bool:
    """Could a value of one type be of the other? Sizes that are no numbers may turn out to be right."""
    known = ((a, b) for a, b in zip(t.shape, wanted.shape) if isinstance(a, int) and isinstance(b, int))
    return t.dtype == wanted.dtype and t.rank == wanted.rank and all(a == b for a, b in known)


def _short(name: str) -> str:
    """Without the middle, where it is long."""
    return name if len(name) <= 48 else f"{name[:20]}…{name[-24:]}"


def _shortened(calls: tuple[str, ...]) -> tuple[str, ...]:
    return calls if len(calls) <= 8 else (*calls[:3], "…", *calls[-3:])
