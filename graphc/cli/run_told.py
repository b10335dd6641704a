"""What is said of files that a model was run over, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click
import numpy as np

from graphc.cli.answers import Classes
from graphc.cli.exits import DIFFERENT, INPUT
from graphc.cli.machine import Failed, Record
from graphc.cli.output import write_file
from graphc.cli.results import arrays_of, save_stream
from graphc.cli.run_files import Answer, mismatches
from graphc.cli.run_record import answer_record
from graphc.errors import GraphcError, InputError


@dataclass
class Telling:
    """Says a line for each row of each file, and counts the files.

    model: its name
    tolerance: of results that are expected
    keep: a record of each file, for --json; there may be too many to keep them for nobody
    """

    model: str
    classes: Classes
    tolerance: float
    keep: bool
    records: list[Record] = field(default_factory=list)
    count: int = 0
    failed: set[int] = field(default_factory=set)
    different: set[int] = field(default_factory=set)

    def say_all(self, answers: Iterable[Answer], output: Path | None) -> Record:
        """The record of all answers, whose results go into `output`. Raises Failed where one has failed, or was expected to be
        otherwise."""
        if output is not None and output.suffix.lower() == ".npy":
            raise InputError(f"'{output}' holds one array", hint="write the results of files to a .npz file")
        said = self._said(answers)
        if output is None:
            for _ in said:
                pass
        else:
            write_file(output, partial(save_stream, (pair for answer in said for pair in _named(answer))))
            click.echo(f"wrote {output}", err=True)
        record: Record = {"name": self.model, "files": self.records, "failed": len(self.failed)}
        record |= {"different": len(self.different), "written": output}
        wrong = [
            f"{len(files)} of {self.count} {what}"
            for files, what in ((self.failed, "failed"), (self.different, "differ"))
            if files
        ]
        if wrong:
            raise Failed(INPUT if self.failed else DIFFERENT, record, f"graphc: {', '.join(wrong)}")
        return record

    def _said(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """The answers that there are, as they come."""
        for answer in answers:
            self.count = answer.sample.number + 1
            expected = answer.sample.expected and answer.error is None
            found = mismatches(answer, self.tolerance) if expected else None
            if self.keep:
                self.records.append(answer_record(self.classes, answer, found))
            if answer.error is not None:
                self.failed.add(answer.sample.number)
                click.echo(_failure(answer.sample.name, answer.error), err=True)
                continue
            if found is not None and found[1]:
                self.different.add(answer.sample.number)
            name = answer.sample.name
            for line in self.classes.lines(name, answer.results) if found is None else _compared(name, *found):
                click.echo(line)
            yield answer


def _compared(name: str, worst: float, wrong: Sequence[str]) -> list[str]:
    if not wrong:
        return [f"{name}  as expected, error {worst:.2g}"]
    return [f"{name}  differs: {wrong[0]}", *(f"{' ' * len(name)}  {more}" for more in wrong[1:])]


def _failure(name: str, error: GraphcError) -> str:
    """The message, behind the file's name unless it holds that."""
    text = error.message if f"'{name}'" in error.message else f"'{name}': {error.message}"
    return f"graphc: {text}" + (f"\n  {error.hint}" if error.hint else "")


def _named(answer: Answer) -> Iterator[tuple[str, np.ndarray]]:
    return ((f"{answer.sample.name}/{name}", array) for name, array in arrays_of(answer.results).items())
