"""A graph with QuantizeLinear and DequantizeLinear around its layers, in the form that ONNX Runtime's quantiser writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.dtypes import int_range
from graphc.graph import Graph, Node, Value
from graphc.passes.rewrite import Sweep, remove_dead
from graphc.quantizer.codes import (
    INT32,
    Affine,
    Codes,
    affine,
    bias_codes,
    block_codes,
    packed_pairs,
    symmetric_codes,
    weight_scales,
)
from graphc.quantizer.placement import CONVOLUTIONS, FLOAT32, Placement, is_product, values_of, weight_axis
from graphc.quantizer.ranges import EMPTY, Range
from graphc.quantizer.scheme import Scheme

NBITS = "com.microsoft::MatMulNBits"
ROOM = 0.99  # of int32, for a bias


@dataclass(frozen=True)
class Quantized:
    """graph: with integers; seen: what stands there for values of the float graph, for those who read them as bytes; weights: of each
    layer that has some, as they are and as they became."""

    graph: Graph
    seen: Mapping[Value, Value]
    weights: Mapping[Node, tuple[np.ndarray, np.ndarray]]


def quantized(
    placement: Placement, layers: Collection[Node], ranges: Mapping[Value, Range], scheme: Scheme
) -> Quantized:
    """The graph in which these layers compute with integers. ranges: of all values that become bytes and have no other's scale."""
    return _Insertion(placement, layers, ranges, scheme).run()


@dataclass
class _Insertion:
    placement: Placement
    layers: Collection[Node]
    ranges: Mapping[Value, Range]
    scheme: Scheme
    weights: dict[Node, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sweep = Sweep(self.placement.graph)
        self.names = {v.name for v in self.placement.graph.values()} | {n.name for n in self.placement.graph.nodes}
        self.bytes = self.placement.bytes_of(self.layers)
        self.seen: dict[Value, Value] = {}  # values, dequantized
        self.made = {self.placement.layers[n] for n in self.layers}  # by integers: floats that nobody keeps
        self.constants: dict[tuple, Value] = {}

    def run(self) -> Quantized:
        graph = self.placement.graph
        for v in graph.inputs:
            self._code(v)
        for node in graph.nodes:
            self._node(node)
        done = remove_dead(self.sweep.finish())
        return Quantized(done, {v: self.seen.get(v, self.sweep(v)) for v in graph.values()}, self.weights)

    def _node(self, node: Node) -> None:
        sweep, chosen = self.sweep, node in self.layers
        moves = node.output in self.bytes and self.bytes[node.output] is not node.output
        if moves and node.inputs[0] in self.made:
            self.made.update(node.outputs)
        inputs = [self._read(v, chosen or moves) for v in node.inputs]
        if chosen and self.scheme.in_blocks:
            inputs = inputs if self.scheme.nbits else self._in_blocks(node, inputs)
        elif chosen and is_product(node):
            inputs = self._product(node, inputs)
        elif chosen:
            constants = {v: self._constant(v) for v in values_of(node) if v.is_const}
            inputs = [constants.get(v, new) if v is not None else None for v, new in zip(node.inputs, inputs)]
        if chosen and self.scheme.nbits:
            made = self._nbits(node, inputs)
        else:
            place: dict[str, Any] = {
                "name": node.name,
                "outputs": [v.name for v in node.outputs],
                "source": node.source,
            }
            made = sweep.add(node.op, *inputs, types=[v.type for v in node.outputs], **place, **node.attrs)
        sweep.map.update(zip(node.outputs, (made,) if isinstance(made, Value) else made))
        for v in node.outputs:
            self._code(v)

    def _read(self, v: Value | None, as_bytes: bool) -> Value | None:
        """What reads a value as bytes reads them; so does what would keep a layer's floats in memory beside them."""
        if v is not None and v in self.seen and (as_bytes or v in self.made):
            return self.seen[v]
        return self.sweep(v)

    def _code(self, v: Value) -> None:
        """Put QuantizeLinear and DequantizeLinear behind a value that becomes bytes."""
        if v not in self.bytes:
            return
        numbers = self._affine(v)
        stem = self.bytes[v].name
        scale = self._shared((stem, "scale"), f"{stem}_scale", numbers.scale)
        zero = self._shared((stem, "zero"), f"{stem}_zero_point", numbers.zero)
        codes = self._add("QuantizeLinear", self.sweep(v), scale, zero, name=f"{v.name}_quantized")
        self.seen[v] = self._add("DequantizeLinear", codes, scale, zero, name=f"{v.name}_dequantized")

    def _affine(self, v: Value) -> Affine:
        return affine(self.ranges[self.bytes[v]], self.scheme.activation_dtype, self.scheme.symmetric)

    def _constant(self, v: Value) -> Value:
        """An operand that is constant, as an activation."""
        numbers = affine(EMPTY.joined(v.data), self.scheme.activation_dtype, self.scheme.symmetric)
        return self._dequantized(v.name, numbers.codes(v.data))

    def _dequantized(self, name: str, codes: Codes) -> Value:
        values, scale, zero = (
            self._shared((name, part, codes.scale.tobytes(), codes.axis), f"{name}_{part}", array)
            for part, array in (("quantized", codes.values), ("scale", codes.scale), ("zero_point", codes.zero))
        )
        attrs = {"axis": codes.axis, "block_size": codes.block} if codes.scale.ndim else {}
        return self._add("DequantizeLinear", values, scale, zero, name=f"{name}_dequantized", **attrs)

    # --- products -----------------------------------------------------------------------------------------------------
    def _product(self, node: Node, inputs: list[Value | None]) -> list[Value | None]:
        weights, bias = _weights(node), node.inputs[2] if len(node.inputs) > 2 else None
        axis = weight_axis(node) if self.scheme.per_channel else None
        dtype, most, x = self.scheme.weight_dtype, self.scheme.most, self._affine(node.inputs[0])
        scale = weight_scales(weights.data, axis, most)
        vector = None if bias is None else _bias_of(node, bias.data)
        if vector is not None:  # a scale at which the bias fits into int32
            least = np.abs(vector).astype(np.float64) / (float(x.scale) * ROOM * int_range(INT32)[1])
            scale = np.maximum(scale, _by_channel(least, scale))
        codes = symmetric_codes(weights.data, scale, axis, dtype, most)
        self.weights[node] = weights.data, codes.floats
        done = [inputs[0], self._dequantized(weights.name, codes)]
        if bias is not None:
            done.append(bias if vector is None else self._bias(bias, vector, x, codes))
        return done

    def _bias(self, bias: Value, vector: np.ndarray, x: Affine, weights: Codes) -> Value:
        scale = x.scale * weights.scale
        scale = np.resize(scale, vector.shape) if scale.ndim else scale
        return self._dequantized(bias.name, bias_codes(vector, scale))

    # --- weights in blocks --------------------------------------------------------------------------------------------
    def _in_blocks(self, node: Node, inputs: list[Value | None]) -> list[Value | None]:
        return [inputs[0], self._dequantized(_weights(node).name, self._block_codes(node)), *inputs[2:]]

    def _block_codes(self, node: Node) -> Codes:
        weights = _weights(node).data
        codes = block_codes(weights, 1 - weight_axis(node), self.scheme.block, self.scheme.weight_dtype)
        self.weights[node] = weights, codes.floats
        return codes

    def _nbits(self, node: Node, inputs: list[Value | None]) -> Value:
        """The product as MatMulNBits, whose weights are [N, blocks, bytes] and unsigned, and what a Gemm adds."""
        codes, name, size = self._block_codes(node), _weights(node).name, self.scheme.block
        least = int_range(codes.values.dtype)[0]
        values, scale, zero = (
            np.moveaxis(a.astype(kind), codes.axis, 1)
            for a, kind in ((codes.values, np.int32), (codes.scale, FLOAT32), (codes.zero, np.int32))
        )
        filled = np.pad(values - least, ((0, 0), (0, -values.shape[1] % size)))
        arrays = {
            "packed": packed_pairs(filled.reshape(len(values), -1, size)),
            "scales": scale,
            **({"zero_points": packed_pairs(zero)} if least == 0 else {}),
        }
        operands = [self._shared((name, part), f"{name}_{part}", array) for part, array in arrays.items()]
        attrs = {"K": values.shape[1], "N": len(values), "bits": 4, "block_size": size}
        bias = inputs[2] if len(inputs) > 2 else None
        if bias is None:
            return self.sweep.remake(node, inputs[0], *operands, op=NBITS, attrs=attrs)
        product = self._add(NBITS, inputs[0], *operands, name=f"{node.name}_product", **attrs)
        return self.sweep.remake(node, product, bias, op="Add")

    # --- names --------------------------------------------------------------------------------------------------------
    def _add(self, op: str, *inputs: Value | None, name: str, **attrs: Any) -> Value:
        unique = self._unique(name)
        return self.sweep.add(op, *inputs, name=unique, outputs=[unique], **attrs)

    def _shared(self, key: tuple, name: str, array: np.ndarray) -> Value:
        if key not in self.constants:
            self.constants[key] = self.sweep.constant(array, array.dtype, self._unique(name))
        return self.constants[key]

    def _unique(self, name: str) -> str:
        found, n = name, 1
        while found in self.names:
            found, n = f"{name}_{n}", n + 1
        self.names.add(found)
        return found


def _weights(node: Node) -> Value:
    weights = node.inputs[1]
    assert weights is not None, "products have weights"
    return weights


def _bias_of(node: Node, bias: np.ndarray) -> np.ndarray | None:
    """A number for each output channel; None where it is another for each row of a Gemm."""
    channels = node.output.shape[1] if node.op.name in CONVOLUTIONS else node.inputs[1].shape[weight_axis(node)]
    if bias.size not in (1, channels) or bias.ndim > 1 and bias.shape[-1] != bias.size:
        return None
    return np.broadcast_to(bias.reshape(-1), (channels,)).astype(FLOAT32)


def _by_channel(least: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Of output channels, as the scales of weights are: those of a ConvTranspose are one for the channels of a group that have one
    place in it, those of a tensor one for all."""
    return least.reshape(-1, scale.size).max(0).reshape(scale.shape)
