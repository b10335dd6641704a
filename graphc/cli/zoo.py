"""graphc zoo: the networks that graphc brings along."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import count, progress_bars, seconds, terminal_width
from graphc.cli.machine import Record, json_option
from graphc.errors import InputError
from graphc.report import format_bytes

if TYPE_CHECKING:
    from graphc.zoo import Network

ROUNDS = 5  # of which the fastest counts
WIDEST = 160  # columns of a line that goes to a file or another program


@click.command()
@click.argument("words", nargs=-1)
@click.option("--time", "timed", is_flag=True, help="Compile each for this CPU and time a run, the best of five.")
@json_option
def zoo(words: tuple[str, ...], timed: bool) -> Record:
    """List the networks that graphc brings along, those only that have all WORDS in group, name or comment.

    Parameters, multiply-adds (MACs) and the planned memory of intermediate values (arena) are those of one run of an example: a
    batch of one, and the sizes that --json tells. Every command takes zoo:NAME in the place of a file.
    """
    from graphc.zoo import networks

    found = networks(words)
    if not found:
        raise InputError(f"no network has {' and '.join(map(repr, words))}", hint="`graphc zoo` lists all of them")
    times = _times(found) if timed else {}
    _print(found, times)
    for n in found:
        if not n.current:
            click.echo(f"{n.name} has changed since it was planned: python docs/zoo.py")
    click.echo("graphc init NAME copies one here; graphc show zoo:NAME lists its layers")
    return {"networks": [_entry(n, times) for n in found]}


def _entry(n: Network, times: dict[str, float]) -> dict[str, Any]:
    page = {"title": n.page.title, "arxiv": n.page.papers, "page": str(n.path)}
    measured = {"seconds": times[n.name]} if n.name in times else {}
    return {"name": n.name, "group": n.group, **page, **n.figures(), **measured}


def _print(found: Sequence[Network], times: dict[str, float]) -> None:
    """A line for each, cut off at the edge of the terminal or of WIDEST, under the names of the groups."""
    rows: list[tuple[str, tuple[str, ...]]] = [("", ("network", "parameters", "MACs", "arena", "time", "what it is"))]
    rows += [(n.group, _cells(n, times)) for n in found]
    widths = [max(len(cells[i]) for _, cells in rows) for i in range(5)]
    room, last = terminal_width(sys.stdout) or WIDEST, ""
    for group, cells in rows:
        if group != last:
            click.echo(f"\n{group}")
        name, *numbers = (cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(cells, widths)))
        shown = numbers if times else numbers[:3]
        line = "  ".join((name, *shown, cells[5]))
        click.echo(line if len(line) <= room else f"{line[: room - 1]}…")
        last = group


def _cells(n: Network, times: dict[str, float]) -> tuple[str, ...]:
    macs = "?" if n.macs is None else count(n.macs)
    arena = format_bytes(n.arena) + ("+" if n.later else "")
    took = seconds(times[n.name]) if n.name in times else ""
    return n.name, count(n.parameters), macs, arena, took, n.page.title


def _times(found: Sequence[Network]) -> dict[str, float]:
    """Seconds of the fastest of a few runs, once it is compiled."""
    import graphc
    from graphc.cli.feeds import make_feeds

    times = {}
    with progress_bars() as progress:
        for i, n in enumerate(found):
            progress("networks", i, len(found))
            model = graphc.compile(n.path)
            feeds = make_feeds(model.inputs, (), n.shapes)
            model.run(feeds)
            times[n.name] = min(_timed(model, feeds) for _ in range(ROUNDS))
    return times


def _timed(model: Any, feeds: dict[str, Any]) -> float:
    start = time.perf_counter()
    model.run(feeds)
    return time.perf_counter() - start
