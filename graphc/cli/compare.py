"""graphc compare: run every node on the target and in NumPy, and name the first that differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.console import progress_bars, stop
from graphc.cli.feeds import load_graph, make_feeds
from graphc.cli.options import Tolerance, compile_options, feed_options, model_argument, open_model
from graphc.cli.passes import removable, stages_of_parts
from graphc.graph import Graph, Node, Value
from graphc.objects import tensors_of

if TYPE_CHECKING:
    from graphc.model import Model


@click.command()
@model_argument
@feed_options
@click.option(
    "--tolerance",
    type=Tolerance(min=0),
    default=1e-4,
    show_default=True,
    help="Largest error, over the result's scale.",
)
@compile_options
def compare(
    model: str,
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    seed: int,
    tolerance: float,
    disable: tuple[str, ...],
    **settings: Any,
) -> None:
    """Compare MODEL with NumPy, node by node.

    Names the first node that differs, and the passes and parts of the backend without which it does not; exits with 1.
    """
    graph = load_graph(model, dict(shapes), settings.pop("reading"))
    feeds = make_feeds(graph.inputs, inputs, dict(shapes), batch, seed)
    random, values = comparable(graph)
    for node in random:
        click.echo(f"not compared, nor what follows from it: {node.op.name} '{node.name}' is random")
    target = settings["target"]
    with progress_bars() as progress:
        trial = Trial(feeds, tolerance, partial(open_model, **settings, progress=progress), disable)
        nodes = compare_nodes(graph, values, feeds, trial.compiled)
        expected = {d.value: d.expected for d in nodes}
        first = next((d for d in nodes if not d.error <= tolerance), None)
        if first is not None:
            tapped = with_results(graph, [v for _, v in values])
            stop(1, describe(first) + remedy(tapped, {first.value: first.expected}, trial, target))
        wrong = trial.differences(graph, expected)
        if wrong:
            said = ", ".join(f"{d.name} (error {d.error:.2e})" for d in wrong)
            part, first = smallest_wrong(graph, wrong[0], expected, trial)
            found = describe(first) + remedy(part, expected, trial, target)
            stop(1, f"every node alone agrees, but the whole model differs in {said}\n{found}")
    worst = max((d.error for d in nodes), default=0.0)
    click.echo(
        f"{len(nodes)} values of {len(graph.nodes)} nodes agree within {tolerance:g}, and so does the whole model"
    )
    click.echo(f"worst error {worst:.2e} of a value's scale")


@dataclass(frozen=True)
class Difference:
    """A result on the target and in NumPy: `name` of a graph, and the node that makes it."""

    name: str
    node: Node
    value: Value
    actual: Any
    expected: Any

    @property
    def error(self) -> float:
        return error_of(self.actual, self.expected)


Build = Callable[[Graph], "Model"]


@dataclass(frozen=True)
class Trial:
    """How graphs are compared. build(graph, disable=names): compiles one; disabled: what the user leaves out."""

    feeds: Mapping[str, np.ndarray]
    tolerance: float
    build: Callable[..., Model]
    disabled: tuple[str, ...]

    def compiled(self, graph: Graph, without: tuple[str, ...] = ()) -> Model:
        return self.build(graph, disable=(*self.disabled, *without))

    def differences(
        self, graph: Graph, expected: Mapping[Value, np.ndarray], without: tuple[str, ...] = ()
    ) -> list[Difference]:
        """Results of a graph that are not as expected, in order; what nothing is expected of is not looked at."""
        makers = graph.producers()
        looked_at = [(n, v) for n, v in zip(graph.output_names, graph.outputs) if v in expected]
        if not looked_at:
            return []
        results = self.compiled(graph, without).run(self.feeds)
        found = (Difference(n, makers[v], v, results[n], expected[v]) for n, v in looked_at)
        return [d for d in found if not d.error <= self.tolerance]


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


def compare_nodes(
    graph: Graph, values: list[tuple[Node, Value]], feeds: Mapping[str, np.ndarray], build: Build
) -> list[Difference]:
    """Every value of `values`, from a copy of the graph that gives them all out, so that nothing is fused away."""
    from graphc.backends import reference  # as the graph stands: passes are among what is compared

    tapped = with_results(graph, [v for _, v in values])
    expected = reference.run(tapped, feeds)
    actual = build(tapped).run(feeds)
    return [Difference(name, *at, actual[name], expected[name]) for name, at in zip(tapped.output_names, values)]


def with_results(graph: Graph, values: Sequence[Value]) -> Graph:
    """The graph with other results."""
    names = tuple(f"{i}:{v.name}" for i, v in enumerate(values))
    return replace(graph, outputs=tuple(values), output_names=names, states=())


def smallest_wrong(
    graph: Graph, known: Difference, expected: Mapping[Value, np.ndarray], trial: Trial
) -> tuple[Graph, Difference]:
    """A beginning of the graph that differs though it does not without its last node, and its first result that does.

    known: of the whole graph, which may be the only one that differs.
    """
    right, wrong = 0, len(graph.nodes)
    found = graph, known
    while wrong - right > 1:
        middle = (right + wrong) // 2
        part = beginning(graph, middle)
        differences = trial.differences(part, expected)
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


def remedy(graph: Graph, expected: Mapping[Value, np.ndarray], trial: Trial, target: str) -> str:
    """What a graph that differs agrees without: parts of the backend with their stages, and passes. Later ones first: without
    an earlier one, a later one may find nothing to do. '' where none helps."""
    stages = stages_of_parts(target)

    def agrees(without: str) -> bool:
        try:
            return not trial.differences(graph, expected, (without,))
        except Exception:  # what can't even be compiled is no remedy
            return False

    names = [n for n in reversed(removable(target)) if n not in trial.disabled and agrees(n)]
    kinds = [f"stage {stages[n]}" if n in stages else "a pass" for n in names]
    return "".join(f"\n  it agrees with --disable {n} ({kind})" for n, kind in zip(names, kinds))


def error_of(actual: Any, expected: Any) -> float:
    """Largest difference over the largest magnitude of `expected`; inf where dtype, shape, NaNs or infinities differ.

    Integers, booleans and strings are equal (0) or not (inf). Of sequences and maps it is the largest of what they hold.
    """
    if not isinstance(expected, np.ndarray):
        parts, wanted = (tensors_of("", value) for value in (actual, expected))
        if type(actual) is not type(expected) or parts.keys() != wanted.keys():
            return float("inf")
        return max((error_of(parts[key], a) for key, a in wanted.items()), default=0.0)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind not in "fcV":
        return 0.0 if np.array_equal(actual, expected) else float("inf")
    a, b = _wide(actual), _wide(expected)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale, worst = float(np.abs(b[finite]).max()), float(np.abs(a[finite] - b[finite]).max())
    return worst / scale if scale else worst


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def describe(difference: Difference) -> str:
    """Which node, over which operands, and where its result is wrong."""
    node, actual, expected = difference.node, difference.actual, difference.expected
    where = f" ({node.source})" if node.source else ""
    operands = ", ".join(str(v.type or "?") if v is not None else "-" for v in node.inputs)
    text = f"first difference: {node.op.name} '{node.name}'{where}, result '{difference.value.name}'\n"
    text += f"  operands: {operands}\n"
    if not isinstance(expected, np.ndarray):
        return f"{text}  error {difference.error:.2e} of the scale of what it holds"
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return f"{text}  it is {actual.dtype}{list(actual.shape)}, the reference {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind in "OUSb":
        gap = np.asarray(actual != expected, float)
    else:
        with np.errstate(all="ignore"):
            gap = np.nan_to_num(np.abs(_wide(actual) - _wide(expected)), nan=np.inf)
            gap[(actual == expected) | ((actual != actual) & (expected != expected))] = 0
    at = np.unravel_index(int(np.argmax(gap)), gap.shape)
    place = f"[{', '.join(str(int(i)) for i in at)}]"
    return (
        f"{text}  error {difference.error:.2e} of its scale; {np.count_nonzero(gap)} of {gap.size} elements differ, "
        f"most at {place}: {actual[at]} against {expected[at]}"
    )
