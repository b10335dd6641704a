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
from graphc.errors import GraphcError, MissingPackageError

if TYPE_CHECKING:
    from graphc.model import Model
    from graphc.signature import Spec

MOST_BYTES = 8 << 20  # of the inputs of a batch
MOST_ROWS = 256
WORTH = 8  # rows that are worth a plan for a batch
APART = 1e-2  # of a result's scale: no rounding lies between a row alone and in a batch
PICTURES = 4  # dims of a batch of them


@dataclass
class Sample:
    """What a file, or a row of a table, gives: inputs and, of ONNX test data, results that are expected; or what is wrong with it.

    number: of the file, from 0 on
    """

    name: str
    feeds: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    error: GraphcError | None = None
    number: int = 0


@dataclass
class Answer:
    """The results for a sample, or why there are none."""

    sample: Sample
    results: dict[str, Any] = field(default_factory=dict)
    error: GraphcError | None = None


def samples(files: Iterable[File | TestSet], reader: Reader, outputs: Sequence[Spec]) -> Iterator[Sample]:
    """The samples of files, as they are read; of a table, each row is one where the model reads rows."""
    for number, file in enumerate(files):
        try:
            feeds = reader.read(file)
            expected = _expected(file, outputs) if isinstance(file, TestSet) else {}
        except MissingPackageError:  # other files will want it, too
            raise
        except GraphcError as error:
            yield Sample(str(file), error=error, number=number)
            continue
        rows = _rows(feeds, reader.specs) if isinstance(file, File) and file.kind == "table" else None
        if rows is None:
            yield Sample(str(file), feeds, expected, number=number)
            continue
        for i in range(rows):
            yield Sample(f"{file}[{i}]", {name: a[i : i + 1] for name, a in feeds.items()}, number=number)


def _rows(feeds: Mapping[str, np.ndarray], specs: Sequence[Spec]) -> int | None:
    """Of a table whose rows can be given one by one; None of another."""
    open_ = {s.name for s in specs if s.shape and (s.shape[0] == 1 or not isinstance(s.shape[0], int))}
    counts = {len(a) for a in feeds.values() if a.ndim}
    return counts.pop() if feeds.keys() <= open_ and len(counts) == 1 else None


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
    runner = _Runner(model, base, rows_at_once(model, base) if batch != 1 else 1, batch)
    group: list[Sample] = []
    for sample in found:
        if sample.error is not None or sample.expected or not runner.takes(sample):
            yield from runner.answers(group)
            group = []
            yield Answer(sample, error=sample.error) if sample.error else runner.alone(sample)
            continue
        if group and _kind(group[0]) != _kind(sample):
            yield from runner.answers(group)
            group = []
        if runner.first is None and runner.rows is None:
            yield runner.begin(sample)
            continue
        group.append(sample)
        if len(group) >= runner.room(sample):
            yield from runner.answers(group)
            group = []
    yield from runner.answers(group)


def run_on(on: str, model: Model, found: Iterable[Sample], base: Mapping[str, Any]) -> Iterator[Answer]:
    """The same by an engine of other processes, at this address. Raises UnreachableError where nobody answers there."""
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


@dataclass
class _Runner:
    """rows: see `rows_at_once`. first: the answer for a row that was run alone, with which the first batch must agree."""

    model: Model
    base: Mapping[str, Any]
    rows: int | None
    batch: int | None
    first: Answer | None = None
    proved: bool = False

    def takes(self, sample: Sample) -> bool:
        """Is it one row of a batch?"""
        arrays = sample.feeds.values()
        return self.rows != 1 and all(isinstance(a, np.ndarray) and a.ndim and len(a) == 1 for a in arrays)

    def room(self, sample: Sample) -> int:
        size = sum(a.nbytes for a in sample.feeds.values())
        return self.rows or self.batch or max(1, min(MOST_ROWS, MOST_BYTES // max(1, size)))

    def alone(self, sample: Sample) -> Answer:
        try:
            return Answer(sample, self.model.run({**self.base, **sample.feeds}))
        except GraphcError as error:
            return Answer(sample, error=error)

    def begin(self, sample: Sample) -> Answer:
        answer = self.alone(sample)
        if answer.error is None:
            self.first = answer
        return answer

    def answers(self, group: Sequence[Sample]) -> Iterator[Answer]:
        """Of samples that are run as one batch; of fewer rows than the model takes, the last is there more than once."""
        few = self.rows is None and self.batch is None and len(group) < WORTH
        if not group or few or self.rows == 1 or (self.rows is None and len(group) == 1):
            yield from map(self.alone, group)
            return
        first = None  # a row that has been run alone goes along with the first batch
        if self.rows is None and not self.proved:
            if self.first is None or _kind(self.first.sample) != _kind(group[0]):
                yield self.begin(group[0])
                group = group[1:]
            first = self.first
            if first is None or _kind(first.sample) != _kind(group[0]):
                yield from map(self.alone, group)
                return
        filled = [*group, *[group[-1]] * ((self.rows or 0) - len(group)), *([] if first is None else [first.sample])]
        feeds = {name: np.concatenate([s.feeds[name] for s in filled]) for name in group[0].feeds}
        try:
            results = self.model.run({**self.base, **feeds})
        except GraphcError as error:
            yield from (Answer(s, error=error) for s in group) if self.rows else map(self.alone, group)
            return
        if any(not np.ndim(a) or len(a) != len(filled) for a in results.values()) or not (
            first is None or _agree(first, results)
        ):
            self.rows = 1  # no batch after all
            yield from map(self.alone, group)
            return
        self.proved = True
        for i, sample in enumerate(group):
            yield Answer(sample, {name: a[i : i + 1] for name, a in results.items()})


def _agree(alone: Answer, results: Mapping[str, np.ndarray]) -> bool:
    """Has the last row of a batch the results that it has alone?"""
    return all(
        error_of(a[-1:], alone.results[name]) <= allowed(alone.results[name], APART) for name, a in results.items()
    )


def _kind(sample: Sample) -> list[tuple[str, Any, tuple[int, ...]]]:
    return sorted((name, a.dtype.str, a.shape) for name, a in sample.feeds.items())
