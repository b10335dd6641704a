"""graphc compare --against: results of the whole model beside those of something else than NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.difference import Difference, describe
from graphc.cli.files import File, TestSet, expanded
from graphc.cli.rounding import OWN, drift
from graphc.cli.run_files import samples
from graphc.cli.sources import Reader, load_arrays
from graphc.errors import InputError
from graphc.graph import Graph
from graphc.objects import given_back

if TYPE_CHECKING:
    from graphc.cli.preparation import Preparation
    from graphc.signature import Spec

ONNXRUNTIME = "onnxruntime"
FORMS = "give onnxruntime, a .npz file with results by their names, or a folder of ONNX test data"
Arrays = dict[str, Any]


def read(
    against: str, inputs: Sequence[Spec], outputs: Sequence[Spec], how: Preparation
) -> list[tuple[Arrays, Arrays]]:
    """(inputs, results) by name, of each set of a file or a folder. Raises InputError."""
    path = Path(against)
    if path.is_dir():
        sets = [s for s in expanded([against]) if isinstance(s, TestSet)]
        if not sets:
            raise InputError(f"the folder '{against}' holds no ONNX test data", hint="input_0.pb and output_0.pb in it")
        found = []
        for sample in samples(sets, Reader(inputs, how, None), outputs):
            if sample.error is not None:
                raise sample.error
            found.append((sample.feeds, sample.expected))
        return found
    if path.suffix.lower() != ".npz":
        raise InputError(f"'{against}' is nothing to compare with", hint=FORMS)
    arrays = load_arrays(_file(against))
    taken, results = {s.name for s in inputs}, {s.name for s in outputs}
    expected = {n: a for n, a in arrays.items() if n in results}
    if not expected:
        held, wanted = ", ".join(arrays) or "nothing", ", ".join(results)
        raise InputError(f"'{against}' has no result of the model: it holds {held}", hint=f"results: {wanted}")
    return [({n: a for n, a in arrays.items() if n in taken}, expected)]


def _file(path: str) -> File:
    (file,) = expanded([path])
    assert isinstance(file, File)
    return file


def of_onnxruntime(model: str, graph: Graph, feeds: Mapping[str, Any]) -> Arrays:
    """From the file itself where it is an ONNX file, else from the graph, written as one. Raises InputError."""
    from graphc.reduce.onnxruntime import run

    return run(model if model.lower().endswith(".onnx") else graph, feeds)


def numpy_results(graph: Graph, feeds: Mapping[str, Any]) -> Arrays:
    from graphc.backends import reference

    return {n: given_back(a) for n, a in reference.run(graph, feeds).items()}


def wrong_results(
    graph: Graph, feeds: Mapping[str, Any], found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float
) -> tuple[list[Difference], float]:
    """(results that differ by more than rounding explains, the largest error of all)."""
    makers = graph.producers()
    pairs = [(n, v) for n, v in zip(graph.output_names, graph.outputs) if n in expected and v in makers]
    every = [Difference(n, makers[v], v, found[n], expected[n]) for n, v in pairs]
    off = [d for d in every if not d.within(tolerance)]
    if off:
        numpy = numpy_results(graph, feeds)  # what rounding moves is measured from where it stands
        moved = drift(graph, feeds, {d.value: numpy[d.name] for d in off}, lambda text: None)
        off = [d for d in off if d.error > OWN * moved[d.value]]
    return off, max((d.error for d in every), default=0.0)


def explain(
    model: str, against: str, graph: Graph, feeds: Mapping[str, Any], wrong: Iterable[Difference], tolerance: float
) -> None:
    """Say what differs, and who of the two NumPy agrees with."""
    numpy = numpy_results(graph, feeds)
    for d in wrong:
        click.echo(describe(d), err=True)
        ours, theirs = (replace(d, actual=numpy[d.name], expected=e).within(tolerance) for e in (d.actual, d.expected))
        if theirs:
            said = f"NumPy agrees with {against}: graphc compare {model} names the node that graphc computes otherwise"
        elif ours:
            said = (
                f"NumPy agrees with graphc: {against} has other inputs, other weights, or reads an operator otherwise"
            )
        else:
            said = "NumPy agrees with neither"
        click.echo(said, err=True)
    if against == ONNXRUNTIME:
        click.echo(f"graphc reduce {model} small.onnx --against onnxruntime cuts it down to what differs", err=True)
