#!/usr/bin/env python3
"""Writes docs/zoo.md, and graphc/zoo/networks.json, which `graphc zoo` prints. `python docs/zoo.py`; tests compare.

Plans the networks whose pages or example sizes have changed; --all: every one; NAME …: these.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

import graphc
from graphc import source_files, zoo
from graphc.cli.console import count
from graphc.cli.feeds import load_graph, make_feeds
from graphc.cli.layers import layers
from graphc.graph import Graph
from graphc.report import format_bytes
from graphc.zoo import Network

PAGE = Path(__file__).with_suffix(".md")
INDEX = PAGE.parents[1] / "examples" / "index.yaml"
PICTURES = PAGE.parent / "zoo"

HEAD = """\
# The zoo

{total} networks, a page of YAML each. `graphc zoo` lists them in the terminal, `graphc zoo WORD …` those that have the words;
`graphc init NAME` copies one into the folder that you are in, and every command takes `zoo:NAME` in the place of a file.

Weights are random, unless a page names a file of them. Parameters are what is learned. Multiply-adds and the arena (the one block of
memory that holds every intermediate value) are those of one run of the example under the table: a batch of one, and the sizes
that a page leaves open. The arena is planned for the CPU, in float32; weights come on top of it. This page is written by
`python docs/zoo.py`.
"""


@dataclass(frozen=True)
class Line:
    """One of examples/index.yaml. host: why nodes of it run in NumPy."""

    name: str
    group: str
    sizes: dict[str, int]
    host: str


def index() -> list[Line]:
    """Raises ValueError where the file is not as it says itself."""
    lines = []
    for group, entries in yaml.safe_load(INDEX.read_text(encoding="utf-8")).items():
        for entry in entries:
            name, more = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            if unknown := set(more) - {"sizes", "host"}:
                raise ValueError(f"{INDEX}: '{name}' has {', '.join(unknown)}; known are sizes and host")
            lines.append(Line(name, group, more.get("sizes", {}), more.get("host", "")))
    return lines


def planned(line: Line) -> Network:
    """The network, compiled for target cpu. Where data decides shapes, it runs once, on random inputs."""
    path = zoo.path_of(line.name)
    with source_files.Files(mapped=False).reading() as read:
        graph = load_graph(str(path), {})
    shapes = _shapes(line, graph)
    rows = layers(graph, shapes)
    macs = [row.macs for row in rows]
    model = graphc.compile(graph)
    feeds = make_feeds(model.inputs, (), shapes)
    plan = model.plan(values=feeds)
    later = len(plan.pending)
    if later:
        model.run(feeds)
        plan = model.plan(values=feeds)
    host = {f"{step.ops[0]}: {step.reason}": None for step in plan.steps if step.host}
    host |= {f"{node.op}: {node.reason}": None for node in plan.pending if node.host}
    return Network(
        name=line.name,
        group=line.group,
        digest=zoo.Page(path.read_text(encoding="utf-8")).digest,
        sizes=line.sizes,
        files=tuple(p.name for p in read.paths if p != path),
        shapes=shapes,
        parameters=sum(row.parameters for row in rows),
        macs=None if None in macs else sum(n for n in macs if n is not None),
        arena=plan.memory.arena,
        later=later,
        host=tuple(host),
    )


def _shapes(line: Line, graph: Graph) -> dict[str, tuple[int, ...]]:
    """Of the inputs. Raises ValueError where the index gives no size of a dim that is open, and not the first, or one of none."""
    dims = {v.name: v.type.shape for v in graph.inputs}
    open_ = {str(d) for shape in dims.values() for d in shape if not isinstance(d, int)}
    needed = {str(d) for shape in dims.values() for d in shape[1:] if not isinstance(d, int)}
    for name in sorted(needed - line.sizes.keys()):
        raise ValueError(f"{INDEX}: write '{line.name}: {{sizes: {{{name}: …}}}}': '{name}' is open")
    for name in sorted(line.sizes.keys() - open_):
        raise ValueError(f"{INDEX}: '{line.name}' has no open dim '{name}', but {', '.join(sorted(open_)) or 'none'}")
    return {
        name: tuple(d if isinstance(d, int) else line.sizes.get(str(d), 1) for d in shape)
        for name, shape in dims.items()
    }


def fits(line: Line, network: Network | None) -> bool:
    """Are these the numbers of the page as it is, for the sizes that the index gives?"""
    return network is not None and network.current and network.sizes == line.sizes


# --- the page ---------------------------------------------------------------------------------------------------------
def render(networks: list[Network], lines: list[Line]) -> str:
    text = HEAD.format(total=len(networks))
    for group in dict.fromkeys(n.group for n in networks):
        text += "\n".join(["", f"## {group}", "", *_table([n for n in networks if n.group == group]), ""])
    return text + "\n".join(
        ["", *_hosted([n for n in networks if n.host], {line.name: line.host for line in lines}), ""]
    )


def _table(networks: list[Network]) -> Iterator[str]:
    yield "| network | what it is | from | parameters | multiply-adds | arena |"
    yield "| --- | --- | --- | --: | --: | --: |"
    for n in networks:
        picture = f" ([graph](zoo/{n.name}.svg))" if (PICTURES / f"{n.name}.svg").exists() else ""
        macs = "as data decides" if n.macs is None else count(n.macs)
        arena = format_bytes(n.arena) + (" and more as data decides" if n.later else "")
        cells = [
            f"[{n.name}](../examples/zoo/{n.name}.yaml){picture}",
            _plain(n.page.title),
            _linked(_plain(n.page.source)),
            f"{n.parameters:,}",
            macs,
            arena,
        ]
        yield f"| {' | '.join(cells)} |"
    sizes = [f"{n.name} {', '.join(f'{k} [{_dims(s)}]' for k, s in n.shapes.items())}" for n in networks]
    yield ""
    yield f"Examples: {'; '.join(sizes)}."


def _hosted(networks: list[Network], reasons: dict[str, str]) -> Iterator[str]:
    yield "## What runs in NumPy"
    yield ""
    if not networks:
        yield "Nothing: every node of every network is compiled."
    for n in networks:
        yield f"- {n.name}: {reasons[n.name]} ({_plain('; '.join(n.host))})"


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _plain(text: str) -> str:
    """As text that Markdown shows as it is, but for `code`."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        part.replace("|", r"\|") if i % 2 else re.sub(r"([|*_<>\[\]`])", r"\\\1", part) for i, part in enumerate(parts)
    )


def _linked(text: str) -> str:
    return zoo.ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="plan these again")
    parser.add_argument("--all", action="store_true", help="plan every network again")
    options = parser.parse_args()
    lines = index()
    kept = {n.name: n for n in zoo.networks()} if zoo.NUMBERS.exists() else {}
    for line in lines:
        if options.all or line.name in options.names or not fits(line, kept.get(line.name)):
            start = time.perf_counter()
            kept[line.name] = network = planned(line)
            host = f", on the host: {'; '.join(network.host)}" if network.host else ""
            print(f"{line.name}: planned in {time.perf_counter() - start:.1f} s{host}", flush=True)
            _write(list(kept.values()))
    if missing := set(zoo.names()) - {line.name for line in lines}:
        print(f"no line in {INDEX}: {', '.join(sorted(missing))}")
    networks = [replace(kept[line.name], group=line.group) for line in lines]
    _write(networks)
    PAGE.write_text(render(networks, lines), encoding="utf-8")


def _write(networks: list[Network]) -> None:
    """A line for each, so that changes are easy to read."""
    lines = ",\n".join(json.dumps(n.to_json(), ensure_ascii=False) for n in networks)
    zoo.NUMBERS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
