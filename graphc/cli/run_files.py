"""Run a model over files: a few at once where it takes a batch, one after the other else, and never all in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.cli.difference import allowed, error_of, told
from graphc.cli.files import File, TestSet
from graphc.cli.sources import Reader, read_message
from graphc.cli.specs import ANY
from graphc.errors import GraphcError

if TYPE_CHECKING:
    from graphc.model import Model
    from graphc.signature import Spec

MOST_BYTES = 8 << 20  # of the inputs of a batch
MOST_ROWS = 256
PICTURES = 4  # dims of a batch of them


@dataclass
class Sample:
    """What a file gives: inputs and, of ONNX test data, results that are expected; or what is wrong with it."""

    name: str
    feeds: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    error: GraphcError | None = None


@dataclass
class Answer:
    """The results for a sample, or why there are none."""

    sample: Sample
    results: dict[str, Any] = field(default_factory=dict)
    error: GraphcError | None = None


def samples(files: Iterable[File | TestSet], reader: Reader, outputs: Sequence[Spec]) -> Iterator[Sample]:
    """The samples of files, as they are read; of a table, each row is one where the model reads rows."""
    for file in files:
        try:
            feeds = reader.read(file)
            expected = _expected(file, outputs) if isinstance(file, TestSet) else {}
        except GraphcError as error:
            yield Sample(str(file), error=error)
            continue
        rows = _rows(feeds, reader.specs) if isinstance(file, File) and file.kind == "table" else 1
        if rows == 1:
            yield Sample(str(file), feeds, expected)
        for i in range(rows if rows > 1 else 0):
            yield Sample(f"{file}[{i}]", {name: a[i : i + 1] for name, a in feeds.items()})


def _rows(feeds: Mapping[str, np.ndarray], specs: Sequence[Spec]) -> int:
    """Of a table whose rows can be given one by one."""
    open_ = {s.name for s in specs if s.shape and (s.shape[0] == 1 or not isinstance(s.shape[0], int))}
    counts = {len(a) for a in feeds.values() if a.ndim}
    return counts.pop() if feeds.keys() <= open_ and len(counts) == 1 else 1


def _expected(files: TestSet, outputs: Sequence[Spec]) -> dict[str, Any]:
    found = {}
    for i, file in sorted(files.outputs.items()):
        named, value = read_message(file, outputs[i] if i < len(outputs) else None)
        name = named if any(s.name == named for s in outputs) else outputs[i].name if i < len(outputs) else named
        found[name or str(i)] = value
    return found


def mismatches(answer: Answer, tolerance: float) -> tuple[float, list[str]]:
    """(the largest error, what differs by more) of results from those that are expected."""
    worst, said = 0.0, []
    for name, want in answer.sample.expected.items():
        if name not in answer.results:
            said.append(f"there is no output '{name}'")
            continue
        got = answer.results[name]
        error = error_of(got, want)
        worst = max(worst, error)
        if error > allowed(want, tolerance):
            said.append(f"{name}: {told(got, want)}")
    return worst, said


def rows_at_once(model: Model, given: Iterable[str]) -> int | None:
    """How many rows the model takes: any number (None), or exactly so many. A batch is the first dim of all inputs and all outputs;
    of a fixed size it is one of pictures only, since it may be anything else. What is no batch is 1.

    given: inputs that are the same for every file.
    """
    constant = set(given)
    specs = [s for s in model.inputs if not s.optional]
    files, others = ([s for s in specs if (s.name in constant) == same] for same in (False, True))
    ends = [*files, *model.outputs]
    if not files or any(s.content is not None or not s.shape for s in ends):
        return 1
    firsts = {s.shape[0] for s in ends if s.shape}
    first = firsts.pop()
    if firsts or first == ANY or any(first in (s.shape or ()) for s in others if isinstance(first, str)):
        return 1
    if isinstance(first, int):
        return first if all(len(s.shape or ()) == PICTURES for s in files) else 1
    return None


def run_over(
    model: Model, found: Iterable[Sample], base: Mapping[str, Any], batch: int | None = None
) -> Iterator[Answer]:
    """The answer for each sample, in order. base: inputs that are the same for all. batch: at most so many rows at once."""
    fixed = rows_at_once(model, base)
    group: list[Sample] = []
    for sample in found:
        if sample.error is not None or sample.expected or not _is_row(sample, fixed):
            yield from _answers(model, group, base, fixed)
            group = []
            yield Answer(sample, error=sample.error) if sample.error else _alone(model, sample, base)
            continue
        if group and _kind(group[0]) != _kind(sample):
            yield from _answers(model, group, base, fixed)
            group = []
        group.append(sample)
        if len(group) >= (fixed or batch or _room(sample)):
            yield from _answers(model, group, base, fixed)
            group = []
    yield from _answers(model, group, base, fixed)


def run_on(on: str, model: Model, found: Iterable[Sample], base: Mapping[str, Any]) -> Iterator[Answer]:
    """The same by an engine of other processes, at this address. Raises GraphcError where nobody answers there."""
    from graphc.fleet import engine

    coming: deque[Sample] = deque()

    def feeds() -> Iterator[dict[str, Any]]:
        for sample in found:
            coming.append(sample)
            if sample.error is None:
                yield {**base, **sample.feeds}

    with engine(on) as opened:
        for result in opened.answers(model, feeds()):
            while (sample := coming.popleft()).error is not None:
                yield Answer(sample, error=sample.error)
            yield Answer(sample, error=result) if isinstance(result, GraphcError) else Answer(sample, result)
    yield from (Answer(sample, error=sample.error) for sample in coming)


def _is_row(sample: Sample, fixed: int | None) -> bool:
    """Is it one row of a batch?"""
    arrays = sample.feeds.values()
    return fixed != 1 and all(isinstance(a, np.ndarray) and a.ndim and len(a) == 1 for a in arrays)


def _kind(sample: Sample) -> list[tuple[str, Any, tuple[int, ...]]]:
    return sorted((name, a.dtype.str, a.shape) for name, a in sample.feeds.items())


def _room(sample: Sample) -> int:
    size = sum(a.nbytes for a in sample.feeds.values())
    return max(1, min(MOST_ROWS, MOST_BYTES // max(1, size)))


def _answers(model: Model, group: Sequence[Sample], base: Mapping[str, Any], fixed: int | None) -> Iterator[Answer]:
    """Of samples that are run as one batch; of fewer rows than the model takes, the last is there more than once."""
    if len(group) < 2 and not fixed:
        yield from (_alone(model, sample, base) for sample in group)
        return
    if not group:
        return
    filled = [*group, *[group[-1]] * ((fixed or 0) - len(group))]
    feeds = {name: np.concatenate([s.feeds[name] for s in filled]) for name in group[0].feeds}
    try:
        results = model.run({**base, **feeds})
    except GraphcError as error:
        if len(group) == 1 or fixed:
            yield from (Answer(sample, error=error) for sample in group)
        else:
            yield from (_alone(model, sample, base) for sample in group)
        return
    if any(not np.ndim(a) or len(a) != len(filled) for a in results.values()):  # no batch after all
        yield from (_alone(model, sample, base) for sample in group)
        return
    for i, sample in enumerate(group):
        yield Answer(sample, {name: a[i : i + 1] for name, a in results.items()})


def _alone(model: Model, sample: Sample, base: Mapping[str, Any]) -> Answer:
    try:
        return Answer(sample, model.run({**base, **sample.feeds}))
    except GraphcError as error:
        return Answer(sample, error=error)
