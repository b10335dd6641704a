"""Nodes that are per-channel affine maps with constant coefficients: y = scale·x + shift along one axis of x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphc.graph import Node, Value
from graphc.passes.rewrite import Skip, Sweep, same_type

AFFINE = ("BatchNormalization", "Mul", "Div", "Add", "Sub")


@dataclass(frozen=True)
class Affine:
    """y = scale·x + shift. Both are float64, [] (all elements alike) or [size of the axis]; None stands for 1 and 0.

    axis   along which they vary; None where both are scalars
    """

    x: Value
    axis: int | None
    scale: np.ndarray | None
    shift: np.ndarray | None

    def after(self, first: Affine) -> Affine | None:
        """self(first(x)) as one map: c·(a·x + b) + d = ca·x + (cb + d). None where they are along different axes."""
        if None not in (self.axis, first.axis) and self.axis != first.axis:
            return None
        moved = _product(first.shift, self.scale) if first.shift is not None else None
        shift = self.shift if moved is None else moved if self.shift is None else moved + self.shift
        axis = self.axis if first.axis is None else first.axis
        return Affine(first.x, axis, _product(first.scale, self.scale), shift)

    @property
    def operations(self) -> int:
        """Elementwise nodes that it takes."""
        return (self.scale is not None) + (self.shift is not None)


def _product(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return b if a is None else a if b is None else a * b


def along(coefficients: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    """Coefficients [size] with unit dims appended, so that they broadcast along that axis of a tensor of that rank."""
    if not coefficients.ndim:
        return coefficients
    assert axis is not None
    return coefficients.reshape(-1, *[1] * (rank - 1 - axis))


def as_affine(node: Node, sweep: Sweep) -> Affine | Skip | None:
    """The node as an affine map of its one operand that is not a constant; None if it is no such map."""
    if node.op.name == "BatchNormalization":
        return _batch_norm(node, sweep)
    if node.op.name not in AFFINE:
        return None
    a, b = node.inputs
    x, c = (b, a) if a.is_const else (a, b)
    if x.is_const or not c.is_const or not same_type(x, node.output):
        return None
    wide = [axis + len(x.shape) - c.data.ndim for axis, d in enumerate(c.data.shape) if d != 1]
    if len(wide) > 1:
        return None
    axis = wide[0] if wide else None
    number = c.data.astype(np.float64).reshape(-1 if wide else ())
    match node.op.name:
        case "Mul":
            return Affine(x, axis, number, None)
        case "Div" if c is b:
            return Affine(x, axis, 1 / number, None) if np.all(number) else Skip("it divides by zero")
        case "Add":
            return Affine(x, axis, None, number)
        case "Sub":
            return Affine(x, axis, None, -number) if c is b else Affine(x, axis, np.float64(-1).reshape(()), number)
    return None


def _batch_norm(node: Node, sweep: Sweep) -> Affine | Skip:
    """scale = gamma/sqrt(var + epsilon), shift = beta - mean·scale (Ioffe & Szegedy 2015, algorithm 2)."""
    x, *parameters = node.inputs
    if node.attrs["training_mode"]:
        return Skip("it is in training mode")
    moving = [p.name for p in parameters if not p.is_const]
    if moving:
        return Skip(f"'{moving[0]}' is not a constant")
    if any(sweep.is_read(v) for v in node.outputs[1:]):
        return Skip("its running statistics are read")
    gamma, beta, mean, var = (p.data.astype(np.float64) for p in parameters)
    scale = gamma / np.sqrt(var + node.attrs["epsilon"])
    shift = beta - mean * scale
    if len(x.shape) < 2:
        return Affine(x, None, scale.reshape(()), shift.reshape(()))
    return Affine(x, 1, scale, shift)
