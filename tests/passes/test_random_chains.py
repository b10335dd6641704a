"""Random chains of operators that move elements, whose parameters refer to shapes: Reshape by 0 and -1, axes from the end, shapes that
are computed of shapes. No pass may drop or merge what a parameter of another refers to, whatever the sizes of open dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from passcheck import F32

import graphc
from graphc import pipeline
from graphc.backends.reference import run
from graphc.bind import bind
from graphc.graph import Builder, Graph, Value

SIZES = ({"a": 2, "b": 6}, {"a": 1, "b": 3}, {"a": 5, "b": 1}, {"a": 3, "b": 4})
DIMS: tuple[tuple[int | str, ...], ...] = (
    ("a", 3, "b"),
    ("a", "b"),
    (2, "a", 1, 4),
    (2, 3, 4),
    (1, 6, 1),
    (0, 3, "a"),
    ("b",),
)


@dataclass
class Chain:
    """A value, and what NumPy says it is for each of SIZES."""

    rng: np.random.Generator
    b: Builder
    value: Value
    arrays: list[np.ndarray]

    @property
    def rank(self) -> int:
        return self.arrays[0].ndim

    def sizes(self, axis: int) -> set[int]:
        return {a.shape[axis] for a in self.arrays}

    def fixed(self, axis: int) -> int | None:
        """The size of an axis, if it is the same for all sizes."""
        sizes = self.sizes(axis)
        return sizes.pop() if len(sizes) == 1 else None

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def axis(self) -> int:
        return self.integer(-self.rank, self.rank)

    def ints(self, *numbers: int) -> Value:
        return self.b.constant(list(numbers), np.int64)

    def becomes(self, value: Value, arrays: Sequence[np.ndarray]) -> None:
        self.value, self.arrays = value, list(arrays)

    # --- steps: each gives False where there is nothing that it could do ------------------------------------------------
    def identity(self) -> None:
        self.value = self.b.add("Identity", self.value)

    def elementwise(self) -> None:
        self.becomes(self.b.add("Neg", self.value), [-a for a in self.arrays])

    def transpose(self) -> None:
        order = [int(i) for i in self.rng.permutation(self.rank)]
        self.becomes(self.b.add("Transpose", self.value, perm=order), [a.transpose(order) for a in self.arrays])

    def unsqueeze(self) -> bool:
        if self.rank > 4:
            return False
        axis = self.integer(-self.rank - 1, self.rank + 1)
        self.becomes(
            self.b.add("Unsqueeze", self.value, self.ints(axis)), [np.expand_dims(a, axis) for a in self.arrays]
        )
        return True

    def squeeze(self) -> bool:
        ones = [i for i in range(self.rank) if self.sizes(i) == {1}]
        if not ones:
            return False
        axis = int(self.rng.choice(ones)) - self.rank * self.integer(0, 2)
        self.becomes(self.b.add("Squeeze", self.value, self.ints(axis)), [a.squeeze(axis) for a in self.arrays])
        return True

    def flatten(self) -> None:
        axis = self.integer(-self.rank, self.rank + 1)
        first = axis % self.rank if axis < 0 else axis
        y = self.b.add("Flatten", self.value, axis=axis)
        self.becomes(y, [a.reshape(int(np.prod(a.shape[:first])), int(np.prod(a.shape[first:]))) for a in self.arrays])

    def reshape(self) -> bool:
        """Merges neighbours, splits what can be split, and says what stays by 0, -1 or its size."""
        target: list[int] = []
        shapes: list[list[int]] = [[] for _ in self.arrays]
        free, i = True, 0  # may -1 be said still?
        while i < self.rank:
            many = 1 if self.rng.random() < 0.6 else self.integer(1, self.rank - i + 1)
            sizes = {int(np.prod(a.shape[i : i + many])) for a in self.arrays}
            same = sizes.pop() if len(sizes) == 1 else None
            parts: list[int] | None = None
            if many == 1 and len(target) == i and self.rng.random() < 0.6:
                parts = [0]
            elif same and same % 2 == 0 and self.rng.random() < 0.4:
                parts = [2, same // 2]
            elif same is not None and self.rng.random() < 0.6 and same > 0:
                parts = [same]
            elif free and all(a.size for a in self.arrays):
                parts, free = [-1], False
            elif same:
                parts = [same]
            if parts is None:
                return False
            for a, shape in zip(self.arrays, shapes):
                whole = int(np.prod(a.shape[i : i + many]))
                shape += parts if len(parts) == 2 else [whole]
            target += parts
            i += many
        y = self.b.add("Reshape", self.value, self.ints(*target))
        self.becomes(y, [a.reshape(s) for a, s in zip(self.arrays, shapes)])
        return True

    def reshape_to_zero(self) -> bool:
        """With allowzero, 0 is a size and copies nothing."""
        shapes = {a.shape for a in self.arrays}
        if len(shapes) > 1 or 0 not in (shape := shapes.pop()):
            return False
        turned = [int(d) for d in self.rng.permutation(shape)]
        y = self.b.add("Reshape", self.value, self.ints(*turned), allowzero=True)
        self.becomes(y, [a.reshape(turned) for a in self.arrays])
        return True

    def reshape_to_computed(self) -> bool:
        """To a shape that is put together of parts of the value's own: its first dims, and one for the others, said in some way."""
        if not all(a.size for a in self.arrays):
            return False
        k = self.integer(0, self.rank)
        end = k - self.rank if k and self.rng.random() < 0.5 else k
        if self.rng.random() < 0.5:
            first = self.b.add("Shape", self.value, start=0, end=end)
        else:
            first = self.b.add("Slice", self.b.add("Shape", self.value), self.ints(0), self.ints(end), self.ints(0))
        if self.rng.random() < 0.5:
            rest = self.ints(-1)
        else:
            rest = self.b.add("ReduceProd", self.b.add("Shape", self.value, start=k), self.ints(0), keepdims=True)
        y = self.b.add("Reshape", self.value, self.b.add("Concat", first, rest, axis=0))
        self.becomes(y, [a.reshape(*a.shape[:k], -1) for a in self.arrays])
        return True

    def turned_by_its_shape(self) -> None:
        """The shape in another order, by Gather: elements stay in their order."""
        order = [int(i) for i in self.rng.permutation(self.rank)]
        picked = self.b.add("Gather", self.b.add("Shape", self.value), self.ints(*(i - self.rank for i in order)))
        y = self.b.add("Reshape", self.value, picked, allowzero=True)
        self.becomes(y, [a.reshape([a.shape[i] for i in order]) for a in self.arrays])

    def expand(self) -> bool:
        if self.rank > 4 or max(a.size for a in self.arrays) > 400:
            return False
        ones = [i for i in range(self.rank) if self.sizes(i) == {1}]
        target = [1] * self.rank
        for i in ones:
            target[i] = self.integer(1, 4)
        target = [2] * self.integer(0, 2) + target
        shape = self.ints(*target)
        if self.rng.random() < 0.4:
            shape = self.b.add("Max", shape, self.ints(1))
        elif self.rng.random() < 0.5 and len(target) == self.rank:
            shape = self.b.add("Shape", self.value)
            target = [1] * self.rank
        y = self.b.add("Expand", self.value, shape)
        self.becomes(y, [a * np.ones(target, a.dtype) for a in self.arrays])
        return True

    def slice(self) -> None:
        axis, step = self.axis(), int(self.rng.choice([1, 1, 2, -1, -2]))
        start, end = (int(self.rng.choice([-9, -3, -2, -1, 0, 1, 2, 2**62])) for _ in range(2))
        last = np.iinfo(np.int64)
        if self.rng.random() < 0.5:  # what is left is not often nothing
            start, end = (0, last.max) if step > 0 else (-1, last.min)
        y = self.b.add("Slice", self.value, *map(self.ints, (start, end, axis, step)))
        self.becomes(y, [a.take(_places(a.shape[axis], start, end, step), axis) for a in self.arrays])

    def concat(self) -> bool:
        if max(a.size for a in self.arrays) > 400:
            return False
        axis = self.axis()
        other = self.b.add("Abs", self.value)
        y = self.b.add("Concat", self.value, other, axis=axis)
        self.becomes(y, [np.concatenate([a, abs(a)], axis) for a in self.arrays])
        return True

    def reduce(self) -> bool:
        axis, keep = self.axis(), bool(self.rng.random() < 0.5)
        if 0 in self.sizes(axis) or (self.rank == 1 and not keep):
            return False
        y = self.b.add("ReduceMax", self.value, self.ints(axis), keepdims=keep)
        self.becomes(y, [a.max(axis, keepdims=keep) for a in self.arrays])
        return True

    def gather(self) -> bool:
        axis = self.axis()
        if 0 in self.sizes(axis) or self.rank == 1:
            return False
        place = self.b.constant(-1 if self.rng.random() < 0.5 else 0)
        y = self.b.add("Gather", self.value, place, axis=axis)
        self.becomes(y, [a.take(int(place.data), axis) for a in self.arrays])
        return True


def _places(size: int, start: int, end: int, step: int) -> list[int]:
    """Of Slice, by ONNX's text: unlike NumPy's, a start before the first element is the first, backwards too."""
    start, end = (i + size if i < 0 else i for i in (start, end))
    if step > 0:
        return list(range(min(max(start, 0), size), min(max(end, 0), size), step))
    return list(range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step))


STEPS = [name for name, f in vars(Chain).items() if callable(f) and name not in ("sizes", "fixed", "integer", "axis", "ints", "becomes") and not name.startswith("_")]  # fmt: skip


def chain(seed: int) -> tuple[Graph, list[np.ndarray], list[list[np.ndarray]]]:
    """A graph, and its operand and its results for each of SIZES."""
    rng = np.random.default_rng(seed)
    dims = DIMS[seed % len(DIMS)]
    operands = [rng.standard_normal([s.get(str(d), d) for d in dims]).astype(F32) for s in SIZES]
    b = Builder(f"chain {seed}")
    made = Chain(rng, b, b.input("x", F32, dims), operands)
    results = []
    for _ in range(int(rng.integers(4, 10))):
        getattr(made, str(rng.choice(STEPS)) if made.rank else "unsqueeze")()
        if rng.random() < 0.15:
            results.append((made.value, made.arrays))
    results.append((made.value, made.arrays))
    graph = b.build({f"y{i}": b.add("Identity", v) for i, (v, _) in enumerate(results)})
    return graph, operands, [[arrays[k] for _, arrays in results] for k in range(len(SIZES))]


PASSES = pipeline.bound(
    {"Reshape", "Transpose", "Slice", "Concat", "Expand", "Gather", "ReduceMax", "Neg", "Abs", "Shape"}
)


@pytest.mark.sample(70)
@pytest.mark.parametrize("seed", range(1000))
def test_passes_keep_what_shapes_mean(seed: int):
    graph, operands, wanted = chain(seed)
    for x, want in zip(operands, wanted):
        for got, array in zip(run(graph, {"x": x}).values(), want):
            np.testing.assert_array_equal(got, array)
    free = pipeline.run(graph, pipeline.SHAPE_FREE, verify=True)
    for x, want in zip(operands, wanted):
        bound = bind(free, {"x": free.inputs[0].type.with_shape(x.shape)})
        for after in (free, bound, pipeline.run(bound, PASSES, verify=True)):
            for got, array in zip(run(after, {"x": x}).values(), want):
                np.testing.assert_array_equal(got, array)


@pytest.mark.sample(16)
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_compiled_chains(seed: int):
    graph, operands, wanted = chain(seed)
    model = graphc.compile(graph, target="cpu", threads=1)
    for x, want in zip(operands, wanted):
        for got, array in zip(model.run({"x": x}).values(), want):
            np.testing.assert_array_equal(got, array)
