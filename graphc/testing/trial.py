"""An operator tried with many uses, outside of a test."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky, Unsatisfiable

import graphc
from graphc.errors import GraphcError
from graphc.graph import Builder
from graphc.op import get_op
from graphc.testing.checking import check, host_reasons
from graphc.testing.files import write_use
from graphc.testing.strategies import uses
from graphc.testing.uses import Use

MORE = 4  # times as many small uses are tried where a large one has failed


@dataclass(frozen=True)
class Trial:
    """failure: what is wrong with the smallest use that fails, '' where none does. hosted: why uses run on the host."""

    examples: int
    failure: str
    hosted: tuple[str, ...]


def try_operator(name: str, targets: Sequence[str], examples: int, start: int, folder: Path) -> Trial:
    """Check so many uses of an operator, half of them small. Raises UnsupportedError for an unknown operator."""
    op, count, hosted, failed = get_op(name), 0, dict[str, None](), list[tuple[Use, Exception]]()

    def trial(use: Use) -> None:
        nonlocal count
        count += 1
        try:
            use.run()  # of what it gives, dtypes and shapes are those of the type rule
            for model in check(use, targets, folder=folder):
                hosted.update(dict.fromkeys(host_reasons(model)))
        except Exception as error:
            failed[:] = [(use, error)]
            raise

    def find(some: int, small: bool, start: int) -> bool:
        how = settings(
            max_examples=some,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=[*HealthCheck],
        )
        try:
            seed(start)(how(given(use=uses(op, small=small))(trial)))()
        except Exception:
            if not failed:
                raise
            return True
        return False

    try:
        found = find(-(-examples // 2), True, start)
        if not found and examples > 1 and find(examples // 2, False, start):
            found = True
            find(MORE * examples, True, start + 1)
    except (Flaky, Unsatisfiable, ValueError) as none:
        return Trial(count, f"  {none}", ())
    if not found:
        return Trial(count, "", tuple(hosted))
    use, error = failed[0]  # Hypothesis runs the smallest last
    return Trial(count, _told(use, error, targets, folder), ())


def try_target(target: str) -> None:
    """Raises what a target lacks on this machine, which is no fault of an operator's: NoDeviceError, UnsupportedError,
    MissingPackageError."""
    b = Builder("target")
    model = graphc.compile(b.build({"y": b.add("Neg", b.input("x", np.float32, (1,)))}), target=target)
    model.run({"x": np.zeros(1, np.float32)})


def _told(use: Use, error: Exception, targets: Sequence[str], folder: Path) -> str:
    if isinstance(error, AssertionError):
        return str(error)
    said = str(error) if isinstance(error, GraphcError) else "".join(traceback.format_exception(error)).rstrip()
    return f"{said}\n{use}\n  {write_use(use, targets, folder)}"
