"""Weights of an example's graph, as its twin takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from graphc.graph import Graph

Weights = dict[str, np.ndarray]
GATES = {
    "LSTM": [0, 2, 3, 1],
    "GRU": [1, 0, 2],
    "RNN_TANH": [0],
    "RNN_RELU": [0],
}  # of PyTorch, by their numbers in ONNX


def weights_of(graph: Graph) -> Weights:
    """By name, in the order in which the graph reads them. The names of other constants have a '/' or begin with 'const'."""
    found: Weights = {}
    for node in graph.nodes:
        for v in node.operands:
            if v.is_const and v.dtype.kind == "f" and "/" not in v.name and not v.name.startswith("const"):
                found[v.name] = v.data
        for value in node.attrs.values():
            found |= weights_of(value) if isinstance(value, Graph) else {}
    return found


def give(module: nn.Module, weights: Weights) -> None:
    """Each layer takes its weights in turn, in the order in which it was made. All must fit, and none be left."""
    left = deque(weights.items())
    taken: set[int] = set()
    with torch.no_grad():
        for layer in _layers(module):
            if isinstance(layer, nn.RNNBase):
                _recurrent(layer, left)
            elif isinstance(layer, nn.MultiheadAttention):
                _attention(layer, left)
            else:
                own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
                for name, target in own:
                    if name != "num_batches_tracked" and id(target) not in taken:
                        taken.add(id(target))
                        _copy(target, left, name)
    assert not left, f"nothing takes {list(dict(left))}"


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The module and all that it holds, in the order in which they compute."""
    yield module
    if not isinstance(module, nn.MultiheadAttention):  # which takes the weights of what it holds
        for child in _children(module):
            yield from _layers(child)


def _children(module: nn.Module) -> Iterable[nn.Module]:
    if not isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
        return module.children()
    sublayers: list[list[nn.Module]] = [[module.self_attn], [module.linear1, module.linear2]]
    norms = [module.norm1, module.norm2]
    if isinstance(module, nn.TransformerDecoderLayer):
        sublayers.insert(1, [module.multihead_attn])
        norms.append(module.norm3)
    return [m for a, b in zip(sublayers, norms) for m in ([b, *a] if module.norm_first else [*a, b])]


def _copy(target: Tensor, left: deque, name: str) -> None:
    assert left, f"no weight is left for '{name}' {list(target.shape)}"
    ours, array = left.popleft()
    fits = [n for n in array.shape if n > 1] == [n for n in target.shape if n > 1]  # a 1x1 convolution is a dense layer
    assert fits, f"'{ours}' {array.shape} is no '{name}' {list(target.shape)}"
    target.copy_(torch.from_numpy(array.copy()).reshape(target.shape))


def _recurrent(cells: nn.RNNBase, left: deque) -> None:
    order = GATES[cells.mode]
    for i in range(cells.num_layers):
        parts = {name.rpartition(".")[2]: array for name, array in (left.popleft() for _ in range(3))}
        w, r, b = (parts[key] for key in "wrb")
        for d in range(2 if cells.bidirectional else 1):
            one = len(b[d]) == len(w[d])  # one bias: that of the state is 0
            bias_w, bias_r = (b[d], np.zeros_like(b[d])) if one else np.split(b[d], 2)
            for name, array in (("weight_ih", w[d]), ("weight_hh", r[d]), ("bias_ih", bias_w), ("bias_hh", bias_r)):
                gates = np.split(array, len(order))
                target = getattr(cells, f"{name}_l{i}{'_reverse' if d else ''}")
                target.copy_(torch.from_numpy(np.concatenate([gates[g] for g in order])))


def _attention(layer: nn.MultiheadAttention, left: deque) -> None:
    """One weight for queries, keys and values, or one for queries and one for what is read from a memory."""
    parts = [left.popleft() for _ in range(4 if "query." in left[0][0] else 2)]
    for kind, target in (("weight", layer.in_proj_weight), ("bias", layer.in_proj_bias)):
        target.copy_(torch.from_numpy(np.concatenate([a for name, a in parts if name.endswith(kind)])))
    _copy(layer.out_proj.weight, left, "weight")
    _copy(layer.out_proj.bias, left, "bias")
