"""Load, compile, run; what came of it."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from click.testing import CliRunner

import graphc
from graphc import frontends
from graphc.cli.app import main
from graphc.errors import GraphcError, NoNetError, OutOfMemoryError

from .arrays import made_up
from .make import Harm

LONGEST = 100_000  # characters of a message
MOST_NODES = 80  # of a graph that is compiled
MOST_BYTES = 1 << 22  # of its constants


@dataclass(frozen=True)
class Fault:
    """kind: exception, memory, message. where: the innermost line of graphc, which tells faults apart."""

    kind: str
    where: str
    text: str


def attempt(harm: Harm, tell: Callable[[str], None]) -> tuple[str, list[Fault]]:
    """(the stage that it came to: 'refused', 'loaded', 'compiled', 'run refused', 'ran'; what is wrong). tell: of each stage."""
    faults: list[Fault] = []
    outcome = _attempt(harm, tell, faults)
    if harm.line:
        tell("command line")
        result = CliRunner().invoke(main, ["check", str(harm.path)])
        if result.exit_code not in (0, 3, 4, 5) or "Traceback" in result.output:
            end = result.output.strip().splitlines()[-4:]
            faults.append(Fault("command line", f"exit code {result.exit_code}", "\n".join(end)))
    return outcome, faults


def _attempt(harm: Harm, tell: Callable[[str], None], faults: list[Fault]) -> str:
    stage = "refused"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            tell("load")
            graph = frontends.load(harm.path)
            stage = "loaded"
            data = sum(v.data.nbytes for n in graph.nodes for v in n.inputs if v is not None and v.data is not None)
            if len(graph.nodes) > MOST_NODES or data > MOST_BYTES:
                return stage
            tell(f"compile for {harm.target}")
            options = {"threads": 1} if harm.target == "cpu" else {}
            model = graphc.compile(harm.path, target=harm.target, **options)
            stage = "compiled"
            feeds = harm.feeds if harm.feeds is not None else made_up(model.inputs, harm.rng)
            if feeds is not None:
                loops = "loops " if any(n.op.name in ("Loop", "Scan") for n in graph.nodes) else ""
                tell(f"run {loops}on {harm.target}")
                stage = "run refused"
                model.run(feeds)
                stage = "ran"
        except NoNetError:
            pass
        except GraphcError as error:
            text = str(error)
            if not text.strip() or len(text) > LONGEST or "Traceback" in text:
                faults.append(Fault("message", type(error).__name__, f"{len(text)} characters: {text[:500]}"))
        except (Exception, RecursionError) as error:
            kind = (
                "memory" if isinstance(error, MemoryError) and not isinstance(error, OutOfMemoryError) else "exception"
            )
            faults.append(Fault(kind, _where(error), "".join(traceback.format_exception(error, limit=-6))[-3000:]))
    return stage


def _where(error: BaseException) -> str:
    """'type at file:line' of the innermost line of graphc."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/graphc/" in f.filename or "/frontends/" in f.filename or "/backends/" in f.filename]
    last = (own or frames)[-1]
    return f"{type(error).__name__} at {'/'.join(last.filename.split('/')[-3:])}:{last.lineno}"
