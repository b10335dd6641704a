"""Functions of graphs of kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from driver_double.abi import KernelNodeParams, Refused, driver_function, handle, i32, size, to, u32, u64
from driver_double.kernel_calls import LaunchOf, from_node, run, together, touched
from driver_double.state import Handle, State
from driver_double.stream_calls import give
from driver_double.work import Work

COOPERATIVE = 2  # CU_LAUNCH_ATTRIBUTE_COOPERATIVE


@dataclass(eq=False)
class Node(Handle):
    launch: LaunchOf
    after: list[Node]


@dataclass(eq=False)
class Graph(Handle):
    nodes: dict[int, Node] = field(default_factory=dict)


@dataclass(eq=False)
class GraphExec(Handle):
    launches: dict[Node, LaunchOf]
    enabled: dict[Node, bool]
    last: Work | None = None


@driver_function(10000, to(handle), u32, context=False)
def cuGraphCreate(d: State, to: Any, flags: int) -> None:
    if flags:
        raise Refused("INVALID_VALUE", "flags")
    to[0] = d.add(Graph(d.contexts[0]))


@driver_function(12000, to(handle), handle, to(handle), size, to(KernelNodeParams))
def cuGraphAddKernelNode(d: State, to: Any, graph: int, before: Any, count: int, parameters: Any) -> None:
    g = d.get(Graph, graph, anywhere=True)
    after = [g.nodes.get(before[i]) for i in range(count)]
    if None in after:
        raise Refused("INVALID_VALUE", "comes after a node of another graph")
    node = Node(d.current(), from_node(d, parameters), [n for n in after if n is not None])
    to[0] = d.add(node)
    g.nodes[to[0]] = node


@driver_function(11000, handle, i32, to(i32))
def cuGraphKernelNodeSetAttribute(d: State, node: int, attribute: int, value: Any) -> None:
    n = d.get(Node, node)
    assert attribute == COOPERATIVE, f"attribute {attribute} of a node"
    n.launch = together(d, n.launch) if value[0] else n.launch._replace(together=False)


@driver_function(11040, to(handle), handle, u64)
def cuGraphInstantiateWithFlags(d: State, to: Any, graph: int, flags: int) -> None:
    if flags:
        raise Refused("INVALID_VALUE", f"flags {flags}")
    nodes = [*d.get(Graph, graph, anywhere=True).nodes.values()]
    to[0] = d.add(GraphExec(d.current(), {n: n.launch for n in nodes}, dict.fromkeys(nodes, True)))


def _of(d: State, graph: int, node: int) -> tuple[GraphExec, Node]:
    g, n = d.get(GraphExec, graph), d.get(Node, node)
    if n not in g.launches:
        raise Refused("INVALID_VALUE", "a node of another graph")
    return g, n


@driver_function(12000, handle, handle, to(KernelNodeParams))
def cuGraphExecKernelNodeSetParams(d: State, graph: int, node: int, parameters: Any) -> None:
    g, n = _of(d, graph, node)
    launch = from_node(d, parameters)
    g.launches[n] = together(d, launch) if g.launches[n].together else launch


@driver_function(11060, handle, handle, u32)
def cuGraphNodeSetEnabled(d: State, graph: int, node: int, enabled: int) -> None:
    g, n = _of(d, graph, node)
    g.enabled[n] = bool(enabled)


@driver_function(10000, handle, handle)
def cuGraphLaunch(d: State, graph: int, stream: int) -> None:
    g = d.get(GraphExec, graph)
    launches = [g.launches[n] for n in _order([*g.launches]) if g.enabled[n]]

    def act() -> None:
        for launch in launches:
            if d.lost is None:
                run(d, launch)

    g.last = give(d, stream, f"a graph of {len(launches)} kernels", act, touched(launches), [g.last])


def _order(nodes: list[Node]) -> list[Node]:
    """Each after those that it comes after; else the later ones first."""
    found: dict[Node, None] = {}
    while len(found) < len(nodes):
        ready = [n for n in nodes if n not in found and all(a in found for a in n.after)]
        found[ready[-1]] = None
    return [*found]


@driver_function(10000, handle, context=False)
def cuGraphExecDestroy(d: State, graph: int) -> None:
    d.drop(GraphExec, graph)


@driver_function(10000, handle, context=False)
def cuGraphDestroy(d: State, graph: int) -> None:
    for number in d.drop(Graph, graph).nodes:
        d.drop(Node, number)
