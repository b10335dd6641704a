"""What a description holds and nothing uses: warnings, for it may have been meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from graphc.errors import GraphcError, Location
from graphc.frontends.yaml_catalog import BlockDefinition, Catalog, Scope
from graphc.frontends.yaml_nets import Net
from graphc.frontends.yaml_registry import LayerBuilder
from graphc.frontends.yaml_syntax import Item
from graphc.graph import Graph, Node, Value

VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z_0-9]*)")


def unused(
    catalog: Catalog,
    nets: Sequence[Net],
    net: Net,
    layers: Sequence[tuple[LayerBuilder, Sequence[Node]]],
    graph: Graph,
) -> list[GraphcError]:
    """What the main file holds and nothing uses: params, blocks, includes and inputs, and layers that lead to no output; and its
    blocks that hide a layer.

    nets: of the file, of which `net` has become the graph; layers: of that one, each with its nodes, also those in graphs that
    nodes hold.
    """
    main = catalog.main
    spec, params, own = main.spec, main.params, main.own
    params_used = set(_params_used(main, nets))
    blocks_used = _blocks_used([*(steps for n in nets for steps in n.steps), *params.values()], catalog)
    found: list[GraphcError] = [
        spec["params"].at_key(name).error(f"nothing uses the param '{name}'", f"write ${name} where it is meant")
        for name in params
        if name not in params_used
    ]
    for steps in net.steps:
        found += _with_unused(steps)
    for block in own:
        found += _with_unused(block.body)
        place = spec["blocks"].at_key(block.name)
        if block not in blocks_used:
            found.append(place.error(f"nothing uses the block '{block.name}'"))
        found += _hiding(block, place)
    for other in nets:
        if other.name in main.blocks:
            found += _hiding(main.blocks[other.name], spec["nets"].at_key(other.name))
    found += [
        where.error(f"nothing uses a block of '{where.value}'")
        for where, scope in main.includes
        if blocks_used.isdisjoint(scope.blocks.values())
    ]
    live, read = _live(graph, graph.outputs)
    for v in graph.inputs:
        if v not in read:
            found.append(net.sections["inputs"].at_key(v.name).error(f"no output depends on the input '{v.name}'"))
    names = {n.name for n in nets}  # a net that is a step here may give more than this one needs
    found += _dead_layers([(cell, nodes) for cell, nodes in layers if names.isdisjoint(cell.source.path)], live)
    return found


def _hiding(block: BlockDefinition, place: Item) -> list[GraphcError]:
    """A warning of a block or net that has the name of a layer or operator."""
    what = "net" if block.net else "block"
    message = f"the {what} '{block.name}' hides the {block.hides} of that name"
    hint = f"in the {what} itself the name still means that; another name for the {what} would be clearer"
    return [place.error(message, hint)] if block.hides else []


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


def _params_used(scope: Scope, nets: Sequence[Net]) -> Iterator[str]:
    """The names of params that are read; in a block, its arguments come first."""
    for item in (scope.spec.get("defaults"), *(item for net in nets for item in net.sections.values())):
        yield from _names(item)
    for block in scope.own:
        for item in (block.body, *block.args.values()):
            yield from (name for name in _names(item) if name not in block.args)


def _names(item: Item | None) -> Iterator[str]:
    for text in variables(item) if item is not None else ():
        yield from VARIABLE.findall(text.value)


def _with_unused(item: Item) -> Iterator[GraphcError]:
    """Names that a repeat or loop has for each iteration, and that nothing in it reads."""
    if isinstance(item.value, dict):
        for args, names in with_names(item):
            used = {n for key, value in args.items() if key != "with" for n in _names(value)}
            for name in names:
                if name not in used:
                    yield args["with"].at_key(name).error(f"nothing uses '{name}'", f"write ${name} where it is meant")
        for value in item.value.values():
            yield from _with_unused(value)
    elif isinstance(item.value, list):
        for value in item.value:
            yield from _with_unused(value)


def with_names(item: Item) -> Iterator[tuple[dict[str, Item], tuple[str, ...]]]:
    """The arguments of a repeat or loop that a step is, and the names that they give to values of each iteration."""
    for key in ("repeat", "loop"):
        args = item.value.get(key) if isinstance(item.value, dict) else None
        if args is not None and isinstance(args.value, dict):
            names = args.value["with"].value if "with" in args.value else None
            if isinstance(names, dict):
                yield args.value, tuple(names)


def _blocks_used(waiting: list[Item], catalog: Catalog) -> set[BlockDefinition]:
    """Blocks whose names stand in the net, in params, or in blocks that are used. A name may come from anywhere."""
    used: set[BlockDefinition] = set()
    while waiting:
        item = waiting.pop()
        for name in _words(item):
            block = catalog.scope(item).blocks.get(name)
            if block is not None and block not in used:
                used.add(block)
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


def _live(graph: Graph, results: Iterable[Value]) -> tuple[set[Node], set[Value]]:
    """The nodes that these results depend on, in held graphs too, and the values that they read."""
    needed: set[Value] = set(results)
    live: set[Node] = set()
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.outputs):
            live.add(node)
            needed.update(_needs(node, needed, live))
    return live, needed


def _needs(node: Node, needed: Collection[Value], live: set[Node]) -> list[Value]:
    """Operands that its needed outputs depend on. What is live in the graphs that it holds is added."""
    wanted = {i for i, v in enumerate(node.outputs) if v in needed}
    if node.op.name == "If":
        reads = {0}
        for key in ("then_branch", "else_branch"):
            within = node.attrs[key]
            reads |= {1 + i for i in _reads(within, [within.outputs[k] for k in wanted], live)}
    elif node.op.name in ("Loop", "Scan"):
        body, n = node.attrs["body"], node.attrs["n_states"]
        first = 2 if node.op.name == "Loop" else 0  # of the states, among the operands
        condition = list(body.outputs[:1]) if first else []
        while True:  # a state that something needs has a next value
            within = _reads(body, [*condition, *(body.outputs[len(condition) + k] for k in wanted)], live)
            more = {k for k in range(n) if first + k in within} - wanted
            if not more:
                break
            wanted |= more
        always = {0, 1} if first else {n + k for k in range(node.attrs["num_scan_inputs"])}  # how often it runs
        reads = within | always | {first + k for k in wanted if k < n}
    else:
        return list(node.operands)
    return [v for i, v in enumerate(node.inputs) if v is not None and i in reads]


def _reads(held: Graph, results: Sequence[Value], live: set[Node]) -> set[int]:
    """Which inputs of a held graph the results depend on."""
    nodes, values = _live(held, results)
    live |= nodes
    return {i for i, v in enumerate(held.inputs) if v in values}


def _dead_layers(layers: Sequence[tuple[LayerBuilder, Sequence[Node]]], live: Collection[Node]) -> list[GraphcError]:
    """One warning for each place in the file, however many layers are made from it."""
    read = {v for _, nodes in layers for node in nodes for v in (*node.operands, *_results_within(node))}
    dead: dict[Location, list[tuple[LayerBuilder, bool]]] = {}
    for cell, nodes in layers:
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


def _results_within(node: Node) -> Iterator[Value]:
    """The results of the graphs that it holds."""
    for held in node.attrs.values():
        if isinstance(held, Graph):
            yield from held.outputs
