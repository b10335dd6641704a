"""Random bits to numbers of a distribution, in terms of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.graph import Value

FLOAT64 = np.dtype(np.float64)
# of sin(pi/2 x)/x in powers of x*x, to 1e-8 (Hastings, Approximations for digital computers, 1955, sheet 16)
SINE = (1.57079631847, -0.64596371106, 0.07968967928, -0.00467376557, 0.00015148419)


class Draws:
    """Numbers of float32 or float64 from 64 random bits each. add: makes a node, constant: a constant of a dtype."""

    def __init__(self, add: Callable[..., Any], constant: Callable[[Any, Any], Value]) -> None:
        self.add, self.constant = add, constant

    def op(self, op: str, x: Value, *others: Value | float) -> Value:
        """An operator of values and numbers of x's type."""
        operands = (v if isinstance(v, Value) else self.constant(v, x.dtype) for v in others)
        result: Value = self.add(op, x, *operands)
        return result

    def fraction(self, bits: Value, first: int, count: int, dtype: np.dtype, end: float = 1) -> Value:
        """Bits `first` and above, `count` of them, as a number from 0 up to the end."""
        if first:
            bits = self.add("BitShift", bits, self.constant(np.uint64(first), np.uint64), direction="RIGHT")
        if first + count < 64:
            bits = self.add("BitwiseAnd", bits, self.constant(np.uint64(2**count - 1), np.uint64))
        return self.op("Mul", self.add("Cast", bits, to=dtype), end * 2.0**-count)

    def uniform(self, bits: Value, dtype: np.dtype) -> Value:
        """From 0 up to 1, which is not reached: as many bits as the type has digits."""
        digits = 53 if dtype == FLOAT64 else 24
        return self.fraction(bits, 64 - digits, digits, dtype)

    def normal(self, bits: Value, dtype: np.dtype) -> Value:
        """sqrt(-2 ln u) sin(pi/2 v), where u is uniform in (0, 1] and v in [-1, 1) (Box, Muller 1958: the cosine of an angle
        anywhere on the circle is the sine of one in the half of it). u has 40 bits, so that it comes near to 0."""
        u = self.op("Add", self.fraction(bits, 24, 40, dtype), 2.0**-41)
        v = self.op("Sub", self.fraction(bits, 0, 24, dtype, 2), 1.0)
        return self.op("Mul", self.op("Sqrt", self.op("Mul", self.op("Log", u), -2.0)), self._sine(v))

    def _sine(self, x: Value) -> Value:
        """sin(pi/2 x), |x| <= 1, in sums and products, which kernels compute in vectors: the operator Sin takes 20 times as
        long."""
        square = self.op("Mul", x, x)
        total = self.op("Mul", square, SINE[-1])
        for term in SINE[-2:0:-1]:
            total = self.op("Mul", square, self.op("Add", total, term))
        return self.op("Mul", x, self.op("Add", total, SINE[0]))

    def exponential(self, bits: Value, dtype: np.dtype) -> Value:
        """-ln(1 - u). Near 0 1 - u has lost digits of u: times u/(1 - (1 - u)) they are back, as in Kahan's log1p (Goldberg
        1991, theorem 4)."""
        one = self.constant(1.0, dtype)
        u = self.op("Add", self.fraction(bits, 24, 40, dtype), 2.0**-41)
        rest = self.op("Sub", one, u)
        lost = self.op("Sub", one, rest)
        exact = self.op("Div", self.op("Mul", self.op("Neg", self.op("Log", rest)), u), lost)
        drawn: Value = self.add("Where", self.op("Greater", lost, 0.0), exact, u)
        return drawn
