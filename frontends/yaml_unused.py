"""What a description holds and nothing uses: warnings, for it may have been meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from graphc.errors import GraphcError, Location
from graphc.frontends.yaml_registry import LayerBuilder
from graphc.frontends.yaml_step import Catalog
from graphc.frontends.yaml_syntax import Item
from graphc.graph import Graph, Node, Value

VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z_0-9]*)")


def unused(
    spec: Mapping[str, Item],
    params: Mapping[str, Item],
    catalog: Catalog,
    layers: Sequence[tuple[LayerBuilder, range]],
    graph: Graph,
) -> list[GraphcError]:
    """Params, blocks and inputs that nothing uses, and layers that lead to no output, in the order of the file.

    layers: each with the numbers of its nodes in the graph.
    """
    params_used = set(_params_used(spec, catalog))
    blocks_used = _blocks_used(spec["net"], params.values(), catalog)
    found: list[GraphcError] = [
        spec["params"].at_key(name).error(f"nothing uses the param '{name}'", f"write ${name} where it is meant")
        for name in params
        if name not in params_used
    ]
    found += [
        spec["blocks"].at_key(name).error(f"nothing uses the block '{name}'")
        for name in catalog.blocks
        if name not in blocks_used
    ]
    live = _live(graph)
    read = {v for node in live for v in node.operands} | set(graph.outputs)
    for v in graph.inputs:
        if v not in read:
            found.append(spec["inputs"].at_key(v.name).error(f"no output depends on the input '{v.name}'"))
    found += _dead_layers(layers, graph, live)
    return found


def variables(item: Item) -> Iterator[Item]:
    """Every text below an item that holds a `$name`, keys included."""
    if isinstance(item.value, dict):
        for key, value in item.value.items():
            if key.startswith("$"):
                yield item.at_key(key)
            yield from variables(value)
    elif isinstance(item.value, list):
        for value in item.value:
            yield from variables(value)
    elif isinstance(item.value, str) and "$" in item.value:
        yield item


def _params_used(spec: Mapping[str, Item], catalog: Catalog) -> Iterator[str]:
    """The names of params that are read; in a block, its arguments come first."""
    for section in ("inputs", "defaults", "net"):
        yield from _names(spec.get(section))
    for block in catalog.blocks.values():
        for item in (block.body, *block.args.values()):
            yield from (name for name in _names(item) if name not in block.args)


def _names(item: Item | None) -> Iterator[str]:
    for text in variables(item) if item is not None else ():
        yield from VARIABLE.findall(text.value)


def _blocks_used(net: Item, params: Iterable[Item], catalog: Catalog) -> set[str]:
    """Blocks whose names stand in the net, in params, or in blocks that are used. A name may come from anywhere."""
    used: set[str] = set()
    waiting = [net, *params]
    while waiting:
        for name in _words(waiting.pop()):
            if name in catalog.blocks and name not in used:
                used.add(name)
                block = catalog.blocks[name]
                waiting += [block.body, *(d for d in block.args.values() if d is not None)]
    return used


def _words(item: Item) -> Iterator[str]:
    if isinstance(item.value, dict):
        yield from item.value
        for value in item.value.values():
            yield from _words(value)
    elif isinstance(item.value, list):
        for value in item.value:
            yield from _words(value)
    elif isinstance(item.value, str):
        yield item.value


def _live(graph: Graph) -> set[Node]:
    """The nodes that an output depends on."""
    needed: set[Value] = set(graph.outputs)
    live: set[Node] = set()
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.outputs):
            live.add(node)
            needed.update(node.operands)
    return live


def _dead_layers(
    layers: Sequence[tuple[LayerBuilder, range]], graph: Graph, live: Collection[Node]
) -> list[GraphcError]:
    """One warning for each place in the file, however many layers are made from it."""
    read = {v for node in graph.nodes for v in node.operands}
    dead: dict[Location, list[tuple[LayerBuilder, bool]]] = {}
    for cell, numbers in layers:
        nodes = [graph.nodes[i] for i in numbers]
        if nodes and not any(node in live for node in nodes):
            dead.setdefault(cell.source, []).append((cell, any(v in read for v in nodes[-1].outputs)))
    found = []
    for source, cells in dead.items():
        name, goes_on = cells[0][0].name, cells[0][1]
        more = f" (nor of {len(cells) - 1} others from this line)" if len(cells) > 1 else ""
        what = "no output depends on the result" if goes_on else "nothing reads the result"
        hint = None if goes_on else "name it by `as`, and read it by `from` or list it under `outputs`"
        found.append(GraphcError(f"{what} of layer '{name}'{more}", hint=hint, source=source))
    return found
