"""A graph as a PyTorch module: the same operators and weights, as a PyTorch user would write them.

Products with a bias are `linear`, attention is `scaled_dot_product_attention`, recurrent layers are PyTorch's own. The module is
torch.fx's, so that `torch.compile` sees nothing but calls of torch's functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own name for it)

from graphc import pipeline
from graphc.bind import bind
from graphc.graph import Graph, Node, Value
from graphc.ops._geometry import geometry
from graphc.types import TensorType

PASSES = ("fuse_attention", "fuse_layer_norm")
Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "Abs": torch.abs, "Add": torch.add, "Div": torch.div, "Erf": torch.erf, "Exp": torch.exp, "HardSwish": F.hardswish,
    "Log": torch.log, "Max": torch.maximum, "Min": torch.minimum, "Mul": torch.mul, "Neg": torch.neg, "Pow": torch.pow,
    "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Softplus": F.softplus,
    "Sqrt": torch.sqrt, "Sub": torch.sub, "Tanh": torch.tanh, "Where": torch.where,
}  # fmt: skip
REDUCTIONS = {"ReduceMax": torch.amax, "ReduceMean": torch.mean, "ReduceMin": torch.amin, "ReduceSum": torch.sum}


class Unmapped(Exception):
    """An operator, or a form of one, that no rule writes in PyTorch."""


def peer(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> torch.fx.GraphModule:
    """The graph for inputs of these shapes: a module that takes them in order and gives a tuple of results. Raises Unmapped."""
    return _Building(prepared(graph, shapes)).module()


def prepared(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """Bound and simplified, batch norms folded into convolutions: what graphc does before it makes kernels, but for what is its
    own."""
    graph = pipeline.run(graph, pipeline.SHAPE_FREE)
    graph = bind(graph, {v.name: TensorType(v.dtype, tuple(shapes[v.name])) for v in graph.inputs})
    fusions = [p for p in pipeline.fusions() if p.name in PASSES]
    return pipeline.run(graph, [*pipeline.BOUND, *fusions, *pipeline.BOUND])


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


class _Building:
    """A module on its way from a graph's nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.root, self.fx = graph, torch.nn.Module(), torch.fx.Graph()
        self._tracer = torch.fx.proxy.GraphAppendingTracer(self.fx)
        self._values: dict[Value, Any] = {}
        self._producers, self._consumers = graph.producers(), graph.consumers()
        self._names = 0

    def module(self) -> torch.fx.GraphModule:
        for i, v in enumerate(self.graph.inputs):
            self._values[v] = torch.fx.Proxy(self.fx.placeholder(f"x{i}"), self._tracer)
        for node in self.graph.nodes:
            self._add(node)
        self.fx.output(tuple(self(v).node for v in self.graph.outputs))
        made = torch.fx.GraphModule(self.root, self.fx)
        made.graph.eliminate_dead_code()  # products that became layers
        made.recompile()
        return made.eval()

    def __call__(self, v: Value) -> Any:
        """What stands for a value; constants become buffers of the module."""
        if v not in self._values:
            self._values[v] = self.buffer(v.data)
        return self._values[v]

    def buffer(self, data: np.ndarray) -> Any:
        name = self._fresh("constant")
        self.root.register_buffer(name, torch.from_numpy(np.array(data)))
        return torch.fx.Proxy(self.fx.get_attr(name), self._tracer)

    def call(self, module: torch.nn.Module, *args: Any) -> Any:
        name = self._fresh("layer")
        self.root.add_module(name, module)
        node = self.fx.call_module(name, torch.fx.node.map_aggregate(args, lambda a: getattr(a, "node", a)))
        return torch.fx.Proxy(node, self._tracer)

    def only_reader(self, v: Value, op: str) -> Node | None:
        """The node of this operator that makes a value which nothing else reads."""
        made = self._producers.get(v)
        alone = len(self._consumers.get(v, ())) == 1 and not self.graph.is_output(v)
        return made if made is not None and made.op.name == op and alone else None

    def _add(self, node: Node) -> None:
        name = node.op.name
        if name in RULES:
            made = RULES[name](self, node, *[None if v is None else self(v) for v in node.inputs])
        elif name in ELEMENTWISE:
            made = ELEMENTWISE[name](*[self(v) for v in node.inputs])
        elif name in REDUCTIONS:
            made = REDUCTIONS[name](self(node.inputs[0]), axes_of(node), bool(node.attrs["keepdims"]))
        else:
            raise Unmapped(f"operator {name} of node '{node.name}' has no rule")
        self._values.update(zip(node.outputs, made if isinstance(made, (tuple, list)) else (made,)))

    def _fresh(self, stem: str) -> str:
        self._names += 1
        return f"{stem}_{self._names}"


def numbers(node: Node, i: int) -> list[int]:
    """The values of an operand that must be a constant. Raises Unmapped."""
    v = node.inputs[i]
    if v is None or not v.is_const:
        raise Unmapped(f"{node.op.name} of node '{node.name}' has no constant for operand {i}")
    return [int(x) for x in np.asarray(v.data).reshape(-1)]


def axes_of(node: Node) -> list[int]:
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        return numbers(node, 1)
    if node.attrs.get("noop_with_empty_axes"):
        raise Unmapped(f"{node.op.name} of node '{node.name}' reduces nothing")
    return list(range(len(node.inputs[0].shape)))


def _refuse(node: Node, unless: bool, what: str) -> None:
    if not unless:
        raise Unmapped(f"{node.op.name} of node '{node.name}': {what}")


def _padded(node: Node, x: Any, fill: float = 0.0) -> tuple[Any, tuple[int, ...]]:
    """The input, and pads of both sides that are left to the operator: PyTorch knows only those that are equal."""
    g = geometry(node.call)
    if g.pads_begin == g.pads_end:
        return x, g.pads_begin
    pads = [n for pair in zip(g.pads_begin[::-1], g.pads_end[::-1]) for n in pair]
    return F.pad(x, pads, value=fill), (0,) * len(g.pads_begin)


@rule("Add")
def add(net: _Building, node: Node, x: Any, y: Any) -> Any:
    """With the product before it, `linear`."""
    product = net.only_reader(node.inputs[0], "MatMul")
    bias = node.inputs[1]
    if product is not None and bias.is_const and len(bias.shape) == 1 and _is_layer(product):
        weights = product.inputs[1].data
        if bias.shape[0] == weights.shape[1]:
            return F.linear(net(product.inputs[0]), net.buffer(np.ascontiguousarray(weights.T)), y)
    return torch.add(x, y)


def _is_layer(product: Node) -> bool:
    weights = product.inputs[1]
    return weights.is_const and len(weights.shape) == 2


@rule("MatMul")
def matmul(net: _Building, node: Node, x: Any, y: Any) -> Any:
    return torch.matmul(x, y)


@rule("Gemm")
def gemm(net: _Building, node: Node, a: Any, b: Any, c: Any = None) -> Any:
    alpha, beta = node.attrs["alpha"], node.attrs["beta"]
    a = a.t() if node.attrs["transA"] else a
    if alpha == beta == 1 and node.attrs["transB"] and (c is None or len(node.inputs[2].shape) == 1):
        return F.linear(a, b, c)
    b = b.t() if node.attrs["transB"] else b
    return torch.mm(a, b) * alpha if c is None else torch.addmm(c, a, b, beta=beta, alpha=alpha)


@rule("Conv")
def conv(net: _Building, node: Node, x: Any, w: Any, b: Any = None) -> Any:
    g = geometry(node.call)
    functions = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
    x, pads = _padded(node, x)
    return functions[len(g.kernel)](x, w, b, g.strides, pads, g.dilations, node.attrs["group"])


@rule("ConvTranspose")
def conv_transpose(net: _Building, node: Node, x: Any, w: Any, b: Any = None) -> Any:
    g = geometry(node.call)
    functions = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
    run, group = functions[len(g.kernel)], node.attrs["group"]
    more = tuple(p - e for p, e in zip(g.pads_begin, g.pads_end))
    if min(more) >= 0:
        return run(x, w, b, g.strides, g.pads_begin, more, group, g.dilations)
    whole = run(x, w, b, g.strides, 0, tuple(max(-e, 0) for e in g.pads_end), group, g.dilations)
    return whole[(..., *(slice(p, p + n) for p, n in zip(g.pads_begin, g.out_spatial)))]


@rule("BatchNormalization")
def batch_norm(net: _Building, node: Node, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    _refuse(node, not node.attrs.get("training_mode"), "training")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.attrs["epsilon"])


@rule("MaxPool")
def max_pool(net: _Building, node: Node, x: Any) -> Any:
    g = geometry(node.call)
    _refuse(node, len(node.outputs) == 1, "indices")
    x, pads = _padded(node, x, float("-inf"))
    functions = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
    return functions[len(g.kernel)](x, g.kernel, g.strides, pads, g.dilations, bool(node.attrs["ceil_mode"]))


@rule("AveragePool")
def average_pool(net: _Building, node: Node, x: Any) -> Any:
    g = geometry(node.call)
    _refuse(node, g.pads_begin == g.pads_end and set(g.dilations) == {1}, "uneven pads, or dilations")
    functions = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
    ceil, counted = bool(node.attrs["ceil_mode"]), bool(node.attrs["count_include_pad"])
    return functions[len(g.kernel)](x, g.kernel, g.strides, g.pads_begin, ceil, counted)


@rule("GlobalAveragePool")
def global_average_pool(net: _Building, node: Node, x: Any) -> Any:
    return torch.mean(x, list(range(2, len(node.inputs[0].shape))), True)


@rule("Clip")
def clip(net: _Building, node: Node, x: Any, *limits: Any) -> Any:
    found = [None, None]
    for i, v in enumerate(node.inputs[1:]):
        if v is not None:
            _refuse(node, v.is_const, "limits that are computed")
            found[i] = float(v.data)
    return torch.clamp(x, *found)


@rule("LeakyRelu")
def leaky_relu(net: _Building, node: Node, x: Any) -> Any:
    return F.leaky_relu(x, node.attrs["alpha"])


@rule("HardSigmoid")
def hard_sigmoid(net: _Building, node: Node, x: Any) -> Any:
    alpha, beta = node.attrs["alpha"], node.attrs["beta"]
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0, 1)


@rule("Gelu")
def gelu(net: _Building, node: Node, x: Any) -> Any:
    return F.gelu(x, approximate=node.attrs["approximate"])


@rule("Softmax")
def softmax(net: _Building, node: Node, x: Any) -> Any:
    return torch.softmax(x, node.attrs["axis"])


@rule("LayerNormalization")
def layer_norm(net: _Building, node: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    _refuse(node, len(node.outputs) == 1, "mean or deviation as results")
    shape = node.inputs[0].shape
    return F.layer_norm(x, shape[node.attrs["axis"] % len(shape) :], scale, bias, node.attrs["epsilon"])


@rule("LpNormalization")
def lp_normalization(net: _Building, node: Node, x: Any) -> Any:
    return F.normalize(x, node.attrs["p"], node.attrs["axis"])


@rule("FusedAttention")
def attention(net: _Building, node: Node, q: Any, k: Any, v: Any, mask: Any = None, lengths: Any = None) -> Any:
    a = node.attrs
    plain = not a["softcap"] and a["before"] < 0 and a["after"] < 0 and lengths is None
    _refuse(node, plain and a["heads"] == a["kv_heads"], "windows, caps, lengths or groups of heads")

    def part(x: Any, axis: int, first: int) -> Any:
        x = x if axis == 1 else x.transpose(1, 2)
        return x[:, first : first + a["heads"]]

    q, k, v = (part(x, *where) for x, where in zip((q, k, v), zip(a["head_axes"], a["first_heads"])))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=a["scale"])
    return y if a["head_axes"][3] == 1 else y.transpose(1, 2)


# --- recurrent layers ---------------------------------------------------------------------------------------------------
ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}  # PyTorch's gates, by their places in ONNX: iofc, zrh


@rule("LSTM", "GRU")
def recurrent(net: _Building, node: Node, x: Any, *operands: Any) -> tuple[Any, ...]:
    name, a = node.op.name, node.attrs
    usual = a["activations"] is None and a["clip"] is None and a["direction"] != "reverse"
    _refuse(node, usual and len([v for v in node.inputs[3:] if v is not None]) <= 1, "other cells, lengths or states")
    _refuse(node, name == "LSTM" or a["linear_before_reset"], "a reset before the product")
    _refuse(node, name == "GRU" or not a["input_forget"], "coupled gates")
    w, r = (node.inputs[i].data for i in (1, 2))
    bias = node.inputs[3].data if len(node.inputs) > 3 and node.inputs[3] is not None else None
    both, hidden = a["direction"] == "bidirectional", a["hidden_size"]
    kind = torch.nn.LSTM if name == "LSTM" else torch.nn.GRU
    first = bool(a["layout"])
    layer = kind(w.shape[2], hidden, bias=bias is not None, bidirectional=both, batch_first=first)
    for direction, end in enumerate(("", "_reverse")[: 1 + both]):
        biases = () if bias is None else np.split(bias[direction], 2)
        for what, m in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (w[direction], r[direction], *biases)):
            gates = np.split(m, len(ORDER[name]))
            ordered = np.concatenate([gates[i] for i in ORDER[name]])
            getattr(layer, f"{what}_l0{end}").data = torch.from_numpy(np.array(ordered))
    made = net.call(layer, x)
    y, last = made[0], made[1]
    states = (last[0], last[1]) if name == "LSTM" else (last,)
    if first:
        batch, steps = node.inputs[0].shape[:2]
        y = y.reshape(batch, steps, 1 + both, hidden)
        return (y, *(s.transpose(0, 1) for s in states))[: len(node.outputs)]
    steps, batch = node.inputs[0].shape[:2]
    return (y.reshape(steps, batch, 1 + both, hidden).transpose(1, 2), *states)[: len(node.outputs)]


# --- movement -----------------------------------------------------------------------------------------------------------
@rule("Identity", "Dropout")
def identity(net: _Building, node: Node, x: Any, *others: Any) -> Any:
    return x


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(net: _Building, node: Node, x: Any, *others: Any) -> Any:
    return torch.reshape(x, node.output.shape)


@rule("Expand")
def expand(net: _Building, node: Node, x: Any, *others: Any) -> Any:
    return x.expand(node.output.shape)


@rule("Transpose")
def transpose(net: _Building, node: Node, x: Any) -> Any:
    return torch.permute(x, node.attrs["perm"] or tuple(range(len(node.output.shape)))[::-1])


@rule("Concat")
def concat(net: _Building, node: Node, *xs: Any) -> Any:
    return torch.cat(xs, node.attrs["axis"])


@rule("Split")
def split(net: _Building, node: Node, x: Any, *others: Any) -> Any:
    axis = node.attrs["axis"]
    parts = torch.split(x, [o.shape[axis] for o in node.outputs], axis)
    return [parts[i] for i in range(len(node.outputs))]


@rule("Slice")
def slice_(net: _Building, node: Node, x: Any, *others: Any) -> Any:
    shape = node.inputs[0].shape
    starts, ends = numbers(node, 1), numbers(node, 2)
    axes = numbers(node, 3) if len(node.inputs) > 3 and node.inputs[3] is not None else list(range(len(starts)))
    steps = numbers(node, 4) if len(node.inputs) > 4 and node.inputs[4] is not None else [1] * len(starts)
    parts = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps):
        _refuse(node, step > 0, "steps backward")
        parts[axis] = slice(*slice(start, end, step).indices(shape[axis]))
    return x[tuple(parts)]


@rule("Gather")
def gather(net: _Building, node: Node, x: Any, indices: Any) -> Any:
    axis = node.attrs["axis"] % len(node.inputs[0].shape)
    _refuse(node, axis == 0, "an axis behind the first")
    if len(node.inputs[0].shape) == 2 and node.inputs[0].is_const and len(node.inputs[1].shape) > 0:
        return F.embedding(indices, x)
    return x[indices]


@rule("Pad")
def pad(net: _Building, node: Node, x: Any, *others: Any) -> Any:
    rank, pads = len(node.inputs[0].shape), numbers(node, 1)
    axes = numbers(node, 3) if len(node.inputs) > 3 and node.inputs[3] is not None else list(range(rank))
    given = node.inputs[2] if len(node.inputs) > 2 else None
    fill = float(given.data) if given is not None and given.is_const else 0.0
    _refuse(node, node.attrs["mode"] == "constant" and (given is None or given.is_const), "other modes")
    sides = dict(zip([a % rank for a in axes], zip(pads, pads[len(axes) :])))
    return F.pad(x, [n for axis in reversed(range(rank)) for n in sides.get(axis, (0, 0))], value=fill)


@rule("Resize")
def resize(net: _Building, node: Node, x: Any, *others: Any) -> Any:
    a, shapes = node.attrs, (node.inputs[0].shape, node.output.shape)
    whole = all(n % m == 0 for m, n in zip(*shapes))
    nearest = a["mode"] == "nearest" and a["coordinate_transformation_mode"] == "asymmetric"
    _refuse(node, nearest and a["nearest_mode"] == "floor" and whole, "modes beside whole multiples of the nearest")
    return F.interpolate(x, size=shapes[1][2:], mode="nearest")
