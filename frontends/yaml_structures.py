"""The structures of the language: branches that meet again, repeats, and loops that share their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from graphc.frontends.yaml_args import SPECIAL, Env, convert
from graphc.frontends.yaml_catalog import BlockDefinition, merged
from graphc.frontends.yaml_frame import Frame, check_count, dims, is_lost, require
from graphc.frontends.yaml_join import join, project
from graphc.frontends.yaml_names import Namer, Names
from graphc.frontends.yaml_operators import Values
from graphc.frontends.yaml_registry import LayerBuilder
from graphc.frontends.yaml_step import STRUCTURES, Join, NetStep, read_step
from graphc.frontends.yaml_syntax import Item
from graphc.graph import Value

if TYPE_CHECKING:
    from graphc.frontends.yaml_net import Expander

MAX_STEPS = 50_000  # of a net, and of one repeat


def branch(
    x: Expander, step: NetStep, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer
) -> Values:
    """The paths, which all start with what the branch reads, and their join."""
    how = convert(frame.env.resolve(args["join"]), Join, "join")
    axis = convert(frame.env.resolve(args["axis"]), int, "axis") if "axis" in args else 1
    check_count(step, operands, 1, "branch")
    paths = args["paths"].mapping("paths", "paths: {main: [{conv: 8}], skip: []}")
    results: dict[str, Value] = {}
    for name, item in paths.items():
        if not _is_projection(item):
            inside = replace(frame.at(namer.unique(name)), residual=frame.residual or how == "add")
            results[name] = _one(x.steps(item, operands, inside, Namer()), item)
    require((*operands, *results.values()))
    for name, item in paths.items():
        if _is_projection(item):
            if not results or how == "concat":
                raise item.error("a projection needs another path whose shape it takes, and a join other than concat")
            inside = frame.at(namer.unique(name))
            make, norm = partial(_part, x, step, inside), partial(_norm, x, step, inside)
            value = project(frame.env.resolve(item), operands[0], next(iter(results.values())), make, norm)
            if value is not None:
                results[name] = value
    ordered = {name: results[name] for name in paths if name in results}
    cell = x.cell(step, frame.at(namer.unique(how)))
    result = (join(cell, how, ordered, axis),)
    if len(ordered) > 1:
        x.row(cell, result)
    return result


def _part(x: Expander, step: NetStep, frame: Frame, name: str, build: Callable[[LayerBuilder], Value]) -> Value:
    """One layer inside a structure, with its own row."""
    cell = x.cell(step, frame.at(name))
    value = build(cell)
    x.row(cell, (value,))
    return value


def _norm(x: Expander, step: NetStep, frame: Frame, value: Value) -> Value:
    """Batch norm with the defaults of the file."""
    return x.call(x.catalog.callee("bn", step.place), step, step.place.of({}), (value,), frame.at("bn"))[0]


def _one(values: Values, item: Item) -> Value:
    if not values:
        raise item.error("there is no value here", "the net has several inputs: begin with from: NAME")
    return values[0]


def _count(args: Mapping[str, Item], frame: Frame, lists: Mapping[str, Sequence[Item]]) -> int:
    """How often: as `n` says, or as many values as a name has in each iteration."""
    if "n" not in args:
        return max(map(len, lists.values()))
    n = convert(frame.env.resolve(args["n"]), int, "n")
    if not 0 <= n <= MAX_STEPS:
        raise args["n"].error(f"n must be from 0 to {MAX_STEPS}, not {n}")
    return n


def _lists(x: Expander, args: Mapping[str, Item], frame: Frame) -> dict[str, Sequence[Item]]:
    """`with`: names with a value for each iteration."""
    if "with" not in args:
        return {}
    entries = args["with"].mapping("with")
    if not entries:
        raise args["with"].error("with names nothing", "for example: with: {lr: [0.1, 0.05]}")

    def read(name: str) -> list[Item]:
        place = args["with"].at_key(name)
        if name in SPECIAL or not name.isidentifier():
            raise place.error(f"'{name}' can't be a name here", f"letters, digits and _; not {', '.join(SPECIAL)}")
        if name in frame.env.variables:
            raise place.error(f"'{name}' is a param or argument already", "choose another name")
        return frame.env.resolve(entries[name]).listing(f"'{name}' of with")

    lists: dict[str, Sequence[Item]] = dict(zip(entries, x.each(tuple(entries), read, frame)))
    n = _count(args, frame, lists)

    def fits(name: str) -> None:
        if len(lists[name]) != n:
            raise entries[name].error(f"'{name}' has {len(lists[name])} of {n} values", "give one for each iteration")

    x.each(tuple(entries), fits, frame)
    return lists


def _at(frame: Frame, i: int, lists: Mapping[str, Sequence[Item]]) -> Env:
    """What `$name` stands for in iteration i."""
    variables = {**frame.env.variables, **{name: values[i] for name, values in lists.items()}}
    return Env(variables, frame.env.special).with_special(i=partial(int, i))


def repeat(
    x: Expander, step: NetStep, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer
) -> Values:
    """n times the same, each with weights of its own."""
    lists = _lists(x, args, frame)
    n = _count(args, frame, lists)
    how = convert(frame.env.resolve(args["join"]), Join, "join") if "join" in args else None
    axis = convert(frame.env.resolve(args["axis"]), int, "axis") if "axis" in args else 1
    for i in range(n if not is_lost(operands) else min(n, 1)):  # once for problems that do not follow from others
        turn = frame.at(str(i))
        turn = replace(turn, env=_at(frame, i, lists), names=Names(frame.names))
        changes = [args[k] for k, now in (("first", i == 0), ("last", i == n - 1)) if now and k in args]
        result = _turn(x, step, args, changes, operands, turn)
        if how is not None:
            require(result)
            both = {"so far": _one(operands, step.place), f"iteration {i}": _one(result, step.place)}
            cell = x.cell(step, turn.at(how))
            result = (join(cell, how, both, axis),)
            x.row(cell, result)
        operands = result
    return operands


def _turn(
    x: Expander, step: NetStep, args: Mapping[str, Item], changes: Sequence[Item], operands: Values, frame: Frame
) -> Values:
    """One iteration of what `of` says: a name with arguments beside it, a step, or a list of steps."""
    x.tick(step.place)
    of = frame.env.resolve(args["of"]) if isinstance(args["of"].value, str) else args["of"]
    beside = {k: v for k, v in args.items() if k not in STRUCTURES["repeat"]}
    if isinstance(of.value, list):
        if extra := [*beside.values(), *changes]:
            raise extra[0].error("repeat of a list of steps takes no arguments", "make the list a block with arguments")
        return x.steps(of, operands, frame, Namer())
    inner = read_step(of)
    if not isinstance(inner.callee, str) or inner.callee in STRUCTURES:
        return x.steps(of, operands, frame, Namer())
    callee = x.catalog.callee(inner.callee, inner.place)
    given = merged(callee, inner.args, beside, changes, step)
    place = frame if isinstance(callee, BlockDefinition) else frame.at(inner.callee)
    within = replace(inner, item=of if isinstance(of.value, dict) else step.item)
    operands = x.operands(within, operands, frame)
    place = replace(place, env=place.env.with_special(**dims(within, operands)))
    result = x.call(callee, within, given, operands, place)
    x.save(inner, result, frame)
    return result


def loop(x: Expander, step: NetStep, args: Mapping[str, Item], operands: Values, frame: Frame, namer: Namer) -> Values:
    """n times the same steps with the same weights; names given inside carry over to the next time."""
    lists = _lists(x, args, frame)
    for i in range(_count(args, frame, lists)):
        turn = replace(frame.at(str(i), weights=frame.weights), env=_at(frame, i, lists), looped=True)
        operands = x.steps(args["of"], operands, turn, Namer())
    return operands


def _is_projection(item: Item) -> bool:
    return isinstance(item.value, dict) and "project" in item.value
