"""graphc compare: run every node on the target and in NumPy, and name the first that differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.console import progress_bars, stop
from graphc.cli.feeds import load_graph, make_feeds
from graphc.cli.options import Tolerance, compile_options, feed_options, model_argument, open_model
from graphc.cli.passes import removable
from graphc.graph import Graph, Node, Value

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

    Names the first node that differs, and exits with 1.
    """
    graph = load_graph(model, dict(shapes))
    feeds = make_feeds(graph.inputs, inputs, dict(shapes), batch, seed)
    random, values = comparable(graph)
    for node in random:
        click.echo(f"not compared, nor what follows from it: {node.op.name} '{node.name}' is random")
    with progress_bars() as progress:
        build = partial(open_model, **settings, progress=progress)
        nodes = compare_nodes(graph, values, feeds, partial(build, disable=disable))
        first = next((d for d in nodes if not d.error <= tolerance), None)
        if first is not None:
            stop(1, describe(first))
        outputs = [(name, v) for name, v in zip(graph.output_names, graph.outputs) if any(v is w for _, w in values)]
        expected = {name: next(d.expected for d in nodes if d.value is v) for name, v in outputs}
        wrong = differing(graph, expected, feeds, tolerance, partial(build, disable=disable))
        if wrong:
            without = passes_at_fault(graph, expected, feeds, tolerance, build, settings["target"], disable)
            hint = f"; it agrees with --disable {' or --disable '.join(without)}" if without else ""
            stop(1, f"every node alone agrees, but the whole model differs in {', '.join(wrong)}{hint}")
    worst = max((d.error for d in nodes), default=0.0)
    click.echo(
        f"{len(nodes)} values of {len(graph.nodes)} nodes agree within {tolerance:g}, and so does the whole model"
    )
    click.echo(f"worst error {worst:.2e} of a value's scale")


@dataclass(frozen=True)
class Difference:
    """A node's result on the target and in NumPy."""

    node: Node
    value: Value
    actual: np.ndarray
    expected: np.ndarray

    @property
    def error(self) -> float:
        return error_of(self.actual, self.expected)


Build = Callable[..., "Model"]


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
    import graphc

    names = [f"{i}:{v.name}" for i, (_, v) in enumerate(values)]
    tapped = replace(graph, outputs=tuple(v for _, v in values), output_names=tuple(names), states=())
    expected = graphc.compile(tapped, target="reference").run(feeds)
    actual = build(tapped).run(feeds)
    return [Difference(node, v, actual[name], expected[name]) for name, (node, v) in zip(names, values)]


def differing(
    graph: Graph, expected: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray], tolerance: float, build: Build
) -> list[str]:
    """Outputs of the model as it is compiled for use that are not as expected: 'name (error …)'."""
    results = build(graph).run(feeds)
    errors = {name: error_of(results[name], array) for name, array in expected.items()}
    return [f"{name} (error {error:.2e})" for name, error in errors.items() if not error <= tolerance]


def passes_at_fault(
    graph: Graph,
    expected: Mapping[str, np.ndarray],
    feeds: Mapping[str, np.ndarray],
    tolerance: float,
    build: Build,
    target: str,
    disabled: tuple[str, ...],
) -> list[str]:
    """Passes and algorithms without which the whole model agrees."""
    names = [name for name in removable(target) if name not in disabled]
    return [
        n for n in names if not differing(graph, expected, feeds, tolerance, partial(build, disable=(*disabled, n)))
    ]


def error_of(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest magnitude of `expected`; inf where dtype, shape, NaNs or infinities differ.

    Integers, booleans and strings are equal (0) or not (inf).
    """
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
