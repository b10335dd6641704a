"""graphc compare: run every node on the target and in NumPy, and name the first that differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli import against as other
from graphc.cli.console import many, progress_bars
from graphc.cli.described import described
from graphc.cli.difference import Difference, describe, steps, told
from graphc.cli.exits import DIFFERENT
from graphc.cli.feeds import load_graph, make_feeds
from graphc.cli.machine import Failed, Record, json_option
from graphc.cli.options import Tolerance, compile_options, feed_options, model_argument, open_model
from graphc.cli.passes import removable, stages_of_parts
from graphc.cli.rounding import BFLOAT16, OWN, UNITS, alone, as_operand, drift, excused
from graphc.dtypes import is_integer
from graphc.graph import Graph, Node, Value
from graphc.objects import given_back

if TYPE_CHECKING:
    from graphc.cli.preparation import Preparation
    from graphc.model import Model

SEARCH = 60  # seconds after which no further compilation begins that only tells more of a difference

BEYOND = (
    "it differs without all passes and parts, too: a kernel, or the operator's own definition, is wrong; `graphc test` and "
    "`graphc reduce` narrow it down"
)


@click.command()
@model_argument
@feed_options
@click.option(
    "--tolerance",
    type=Tolerance(min=0),
    help="Largest error, over the result's scale.  [default: 1e-4; in bf16 4 steps of bfloat16, 0.0156]",
)
@click.option(
    "--against",
    metavar="WHAT",
    help="Compare results with these in the place of NumPy's: 'onnxruntime', a .npz FILE, or a folder of ONNX test data.",
)
@compile_options
@json_option
def compare(
    model: str,
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    seed: int,
    cast: bool,
    how: Preparation,
    tolerance: float | None,
    against: str | None,
    disable: tuple[str, ...],
    **settings: Any,
) -> Record:
    """Compare MODEL with NumPy, node by node; with --against its results alone, with those of something else.

    Names the first node that differs on the same operands, and the passes and parts of the backend without which it does not;
    exits with 1. What rounding explains is no difference, and is told.
    """
    graph = load_graph(model, dict(shapes), settings.pop("reading"))
    how = described(how, graph.meta.get("described", {}), model)
    target, rounding = settings["target"], BFLOAT16 if (settings["precision"] or "").startswith("bf16") else 0.0
    tolerance = max(1e-4, 4 * rounding) if tolerance is None else tolerance
    make = partial(make_feeds, graph.inputs, shapes=dict(shapes), batch=batch, seed=seed, cast=cast, how=how)
    if against is not None:
        compiled = open_model(graph, **settings, disable=disable)
        return _against(model, graph, compiled, against, inputs, make, how, tolerance)
    feeds = make(inputs)
    random, values = comparable(graph)
    for node in random:
        click.echo(f"not compared, nor what follows from it: {node.op.name} '{node.name}' is random")
    about = {"name": graph.name, "nodes": len(graph.nodes), "not_compared": [node.name for node in random]}
    with progress_bars() as progress:
        trial = Trial(feeds, partial(open_model, **settings, progress=progress), disable)
        taps = Taps(graph, values, feeds, rounding)
        wanted = Wanted(taps.expected(), tolerance)
        actual = taps.actual(trial.compiled)
        nodes = taps.differences(actual, wanted.values)
        about |= {"values": len(nodes), "tolerance": tolerance}
        off = [d for d in nodes if not wanted.accepts(d)]
        unequal = [d for d in (taps.on_same_operands(d, actual) for d in off) if not wanted.accepts(d)]
        first = next((d for d in unequal if not taps.excused(d, actual, tolerance)), None)
        if first is not None:
            click.echo(describe(first), err=True)
            remedies = search_remedy(partial(taps.agrees, first, trial, wanted), trial, target)
            raise _differs(about, first, "node", remedies)
        differing = trial.differences(graph, wanted)
        moved = drift(graph, feeds, wanted.values, say, rounding) if differing else {}
        wrong = [d for d in differing if not (wanted.accepts(replace(d, expected=actual[d.value])))]
        wanted = replace(wanted, moved=moved)
        wrong = [d for d in wrong if not wanted.accepts(d)]
        if wrong:
            said = ", ".join(f"{d.name} (error {d.error:.2e})" for d in wrong)
            say(f"every node alone agrees, but the whole model differs in {said}")
            part, first = smallest_wrong(graph, wrong[0], wanted, trial)
            say(describe(first))
            remedies = search_remedy(lambda without: not trial.differences(part, wanted, without), trial, target)
            raise _differs(about, first, "model", remedies)
    same = " on the same operands" if off else ""
    click.echo(
        f"{len(nodes)} values of {len(graph.nodes)} nodes agree within {tolerance:g}{same}, and so does the whole model"
    )
    notes = explained(off, unequal, differing, moved, tolerance, rounding)
    for line in notes:
        click.echo(line)
    worst = max((d.error for d in nodes), default=0.0)
    if not off:
        narrow = ", of a type whose own steps are as large" if worst > tolerance else ""
        click.echo(f"worst error {worst:.2e} of a value's scale{narrow}")
    return {**about, "agrees": True, "worst_error": worst, "notes": notes, "first": None, "without": []}


def _against(
    model: str,
    graph: Graph,
    compiled: Model,
    against: str,
    inputs: Sequence[str],
    make: Callable[..., dict[str, Any]],
    how: Preparation,
    tolerance: float,
) -> Record:
    """Compare results with what `--against` names. make: inputs, of their sources."""
    if against == other.ONNXRUNTIME:
        feeds = make(inputs)
        sets = [(feeds, other.of_onnxruntime(model, graph, feeds))]
    else:
        found = other.read(against, compiled.inputs, compiled.outputs, how)
        sets = [({**({} if given.keys() >= {*compiled.required} else make(inputs)), **given}, e) for given, e in found]
    worst, compared = 0.0, 0
    about = {"name": graph.name, "nodes": len(graph.nodes), "not_compared": []}
    for feeds, expected in sets:
        wrong, error = other.wrong_results(graph, feeds, compiled.run(feeds), expected, tolerance)
        compared, worst = compared + len(expected), max(worst, error)
        if wrong:
            other.explain(model, against, graph, feeds, wrong, tolerance)
            about |= {"values": len(expected), "tolerance": tolerance}
            raise _differs(about, wrong[0], "model", [])
    click.echo(
        f"{many(compared, 'result')} of {against} agree{'s' * (compared == 1)} within {tolerance:g}; worst error {worst:.2e} of its scale"
    )
    about |= {"values": compared, "tolerance": tolerance}
    return {**about, "agrees": True, "worst_error": worst, "notes": [], "first": None, "without": []}


def _differs(about: Record, first: Difference, where: str, remedies: Sequence[str]) -> Failed:
    """The end of a comparison. where: 'node' if it differs on the same operands, 'model' if every node alone agrees."""
    node = first.node
    found = {
        "where": where,
        "op": node.op.name,
        "node": node.name,
        "source": None if node.source is None else str(node.source),
        "value": first.value.name,
        "error": first.error,
        "told": told(first.actual, first.expected),
    }
    record = {"agrees": False, "worst_error": first.error, "notes": [], "first": found, "without": remedies}
    return Failed(DIFFERENT, about | record)


def say(text: str) -> None:
    click.echo(text, err=True)


def explained(
    off: Sequence[Difference],
    unequal: Sequence[Difference],
    differing: Sequence[Difference],
    moved: Mapping[Value, float],
    tolerance: float,
    rounding: float,
) -> list[str]:
    """What is said of differences that rounding explains. off: from the inputs on; unequal: of nodes on the same operands;
    differing: of the whole model."""
    lines = []
    coarser = " or a step of bfloat16" if rounding else ""
    if off:
        first = off[0]
        lines.append(
            f"{many(len(off), 'value')} differ where NumPy computes from the inputs on, because what leads there is rounded otherwise; "
            f"first {first.node.op.name} '{first.node.name}': {told(first.actual, first.expected)}"
        )
    codes = [d for d in unequal if isinstance(d.expected, np.ndarray) and is_integer(d.expected.dtype)]
    if codes:
        apart = [steps(d.actual, d.expected) for d in codes]
        most = int(max(a.max() for a in apart))
        away, total = sum(int(np.count_nonzero(a)) for a in apart), sum(a.size for a in apart)
        lines.append(
            f"{away} of {total} elements of {many(len(codes), 'result')} of integers are off, by {many(most, 'step')} at most: what is "
            f"rounded there lies within {tolerance:g} of its scale from halfway"
        )
    others = [d for d in unequal if d not in codes]
    if others:
        worst = max(others, key=lambda d: d.error)
        lines.append(
            f"{many(len(others), 'result')}, by {worst.error:.1e} at most ({worst.node.op.name} '{worst.node.name}'), differ no more than "
            f"NumPy's do when operands move by {UNITS} units in the last place"
        )
    for d in differing:
        why = "the model enlarges rounding" if d.error <= OWN * moved[d.value] else "it follows from the values above"
        lines.append(
            f"{d.name} is {d.error:.1e} of its scale from NumPy's, which itself moves by {moved[d.value]:.1e} when inputs and "
            f"results of nodes move by {UNITS} units in the last place{coarser}: {why}"
        )
    return lines


Build = Callable[[Graph], "Model"]


@dataclass(frozen=True)
class Wanted:
    """What is expected of values. moved: by how much of its scale the reference moves by rounding, where that was asked."""

    values: Mapping[Value, Any]
    tolerance: float
    moved: Mapping[Value, float] = field(default_factory=dict)

    def accepts(self, difference: Difference) -> bool:
        return difference.within(max(self.tolerance, OWN * self.moved.get(difference.value, 0.0)))


@dataclass(frozen=True)
class Trial:
    """How graphs are compared. build(graph, disable=names): compiles one; disabled: what the user leaves out."""

    feeds: Mapping[str, np.ndarray]
    build: Callable[..., Model]
    disabled: tuple[str, ...]

    def compiled(self, graph: Graph, without: tuple[str, ...] = ()) -> Model:
        return self.build(graph, disable=(*self.disabled, *without))

    def differences(self, graph: Graph, wanted: Wanted, without: tuple[str, ...] = ()) -> list[Difference]:
        """Results of a graph that are not as wanted, in order; what nothing is expected of is not looked at."""
        makers = graph.producers()
        looked_at = [(n, v) for n, v in zip(graph.output_names, graph.outputs) if v in wanted.values]
        if not looked_at:
            return []
        results = self.compiled(graph, without).run(self.feeds)
        found = (Difference(n, makers[v], v, results[n], wanted.values[v]) for n, v in looked_at)
        return [d for d in found if not wanted.accepts(d)]


class Taps:
    """Results of nodes, from a copy of a graph that gives them all out, so that nothing is fused away. rounding: as for `moved`."""

    def __init__(
        self, graph: Graph, values: Sequence[tuple[Node, Value]], feeds: Mapping[str, Any], rounding: float = 0.0
    ) -> None:
        self.graph = with_results(graph, [v for _, v in values])
        self._makers = values
        self._feeds, self._rounding = feeds, rounding

    def expected(self) -> dict[Value, Any]:
        """The reference's, of the graph as it stands: passes are among what is compared."""
        from graphc.backends import reference

        return self._by_value({n: given_back(a) for n, a in reference.run(self.graph, self._feeds).items()})

    def actual(self, build: Build) -> dict[Value, Any]:
        return self._by_value(build(self.graph).run(self._feeds))

    def _by_value(self, results: Mapping[str, Any]) -> dict[Value, Any]:
        return {v: results[n] for n, v in zip(self.graph.output_names, self.graph.outputs)}

    def differences(self, actual: Mapping[Value, Any], expected: Mapping[Value, Any]) -> list[Difference]:
        names = self.graph.output_names
        return [Difference(n, node, v, actual[v], expected[v]) for n, (node, v) in zip(names, self._makers)]

    def operands(self, node: Node, actual: Mapping[Value, Any]) -> list[np.ndarray | None]:
        """What the node got on the target."""
        fed = {v: self._feeds[v.name] for v in self.graph.inputs}
        return [
            None if v is None else v.data if v.is_const else as_operand(actual[v] if v in actual else fed[v], v.type)
            for v in node.inputs
        ]

    def on_same_operands(self, d: Difference, actual: Mapping[Value, Any]) -> Difference:
        """From what the reference makes of what the node got on the target."""
        results = alone(d.node, self.operands(d.node, actual))
        return replace(d, expected=results[d.node.outputs.index(d.value)])

    def excused(self, d: Difference, actual: Mapping[Value, Any], tolerance: float) -> bool:
        index, operands = d.node.outputs.index(d.value), self.operands(d.node, actual)
        return excused(d.node, index, d.actual, operands, tolerance, self._rounding)

    def agrees(self, wrong: Difference, trial: Trial, wanted: Wanted, without: tuple[str, ...]) -> bool:
        """Is that result right on its operands once something is left out?"""
        actual = self.actual(partial(trial.compiled, without=without))
        again = self.on_same_operands(replace(wrong, actual=actual[wrong.value]), actual)
        return wanted.accepts(again) or self.excused(again, actual, wanted.tolerance)


def comparable(graph: Graph) -> tuple[list[Node], list[tuple[Node, Value]]]:
    """Nodes whose results are random, and every result that depends on none of them."""
    tainted: set[Value] = set()
    random, values = [], []
    for node in graph.nodes:
        if not node.deterministic:
            random.append(node)
        if not node.deterministic or any(v in tainted for v in node.operands):
            tainted.update(node.outputs)
        else:
            values += [(node, v) for v in node.outputs]
    return random, values


def with_results(graph: Graph, values: Sequence[Value]) -> Graph:
    """The graph with other results."""
    names = tuple(f"{i}:{v.name}" for i, v in enumerate(values))
    return replace(graph, outputs=tuple(values), output_names=names, states=())


def smallest_wrong(graph: Graph, known: Difference, wanted: Wanted, trial: Trial) -> tuple[Graph, Difference]:
    """A beginning of the graph that differs though it does not without its last node, and its first result that does.

    known: of the whole graph, which may be the only one that differs. Says where it stopped for lack of time.
    """
    right, wrong = 0, len(graph.nodes)
    found = graph, known
    end = time.monotonic() + SEARCH
    say(f"looking for the shortest beginning of its {many(wrong, 'node')} that differs, for {SEARCH} s at most")
    while wrong - right > 1:
        if time.monotonic() > end:
            say(f"stopped there: the first {right} nodes agree, the first {wrong} differ")
            break
        middle = (right + wrong) // 2
        part = beginning(graph, middle)
        differences = trial.differences(part, wanted)
        if differences:
            wrong, found = middle, (part, differences[0])
        else:
            right = middle
    return found


def beginning(graph: Graph, count: int) -> Graph:
    """The first nodes of a graph. Its results are those of the graph, and what the nodes left out read."""
    inside, later = graph.nodes[:count], graph.nodes[count:]
    needed = {v for n in later for v in n.operands} | set(graph.outputs)
    return with_results(replace(graph, nodes=inside), [v for n in inside for v in n.outputs if v in needed])


def search_remedy(agrees: Callable[[tuple[str, ...]], bool], trial: Trial, target: str) -> list[str]:
    """Say and give what it agrees without: parts of the backend with their stages, and passes. Later ones first: without an earlier
    one, a later one may find nothing to do. Where it differs without all of them, too, none is tried alone."""
    stages = stages_of_parts(target)
    names = [n for n in reversed(removable(target)) if n not in trial.disabled]
    end, found = time.monotonic() + SEARCH, []
    if names:
        with suppress(Exception):  # what can't even be compiled so tells nothing
            if not agrees(tuple(names)):
                say(BEYOND)
                return []
        say(f"leaving out one of {len(names)} passes and parts after the other, for {SEARCH} s at most")
    for i, name in enumerate(names):
        if time.monotonic() > end:
            say(f"  not tried any more: {', '.join(f'--disable {n}' for n in names[i:])}")
            break
        try:
            helps = agrees((name,))
        except Exception:  # what can't even be compiled is no remedy
            continue
        if helps:
            found.append(name)
            say(f"  it agrees with --disable {name} ({f'stage {stages[name]}' if name in stages else 'a pass'})")
    return found
