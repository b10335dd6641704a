"""Einsum equations: parsing, the shape of the result, and a plan of transpositions, sums and matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graphc.types import Dim, Shape, Sym, broadcast, prod

Label = str  # a letter of the equation, or '.0', '.1' … for the axes of an ellipsis, counted from the right
Labels = tuple[Label, ...]


@dataclass(frozen=True)
class EinsumStep:
    """One operator of a plan. Operands are registers: the einsum's operands come first, then each step's result.

    param: Transpose perm, ReduceSum/Squeeze/Unsqueeze axes (axes that are summed are dropped), Reshape shape (0 copies
    the operand's dim, -1 takes what is left), Slice the end and step along the last axis, MatMul and Mul nothing.
    """

    op: str
    operands: tuple[int, ...]
    param: tuple[int, ...] = ()


class _NotLowerable(Exception):
    """A Reshape would need two dims that are not known yet."""


def einsum_plan(equation: str, shapes: Sequence[Shape]) -> tuple[EinsumStep, ...] | None:
    """Lower an einsum, its operands taken from left to right, to transpositions, sums, MatMul and Mul.

    The last step is the result; no step means that the one operand is. None where it can't be done: a diagonal of unknown size
    is taken, or merging or splitting axes needs two symbolic dims or an empty one. Raises ValueError on a bad equation.
    """
    terms, output = parse_einsum(equation, [len(s) for s in shapes])
    try:
        plan = _Plan(terms, shapes)
        result = 0
        for i in range(1, len(terms)):
            later = (label for term in terms[i + 1 :] for label in term)
            result = plan.pair(result, i, tuple(dict.fromkeys((*output, *later))))
        plan.order(plan.total(result, output), output)
    except _NotLowerable:
        return None
    return tuple(plan.steps)


def einsum_shape(equation: str, shapes: Sequence[Shape], every_index: bool = False) -> Shape:
    """Shape of the result (or the size of every index). Raises ValueError on a bad equation or sizes that disagree."""
    terms, output = parse_einsum(equation, [len(s) for s in shapes])
    sizes = _sizes(terms, shapes)
    return tuple(sizes.values()) if every_index else tuple(sizes[label] for label in output)


def parse_einsum(equation: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """The label of every axis of each operand, and of the result. Raises ValueError."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(ranks):
        raise ValueError(f"it has {len(texts)} terms for {len(ranks)} operands")
    terms = [_labels(text, rank) for text, rank in zip(texts, ranks)]
    counts = Counter(label for term in terms for label in term)
    ellipsis = tuple(sorted((label for label in counts if label[0] == "."), key=lambda label: -int(label[1:])))
    if not arrow:
        return terms, (*ellipsis, *sorted(label for label, n in counts.items() if n == 1 and label[0] != "."))
    if ellipsis and "..." not in right:
        raise ValueError("the result leaves out the axes of '...': write '...' after '->' too")
    output = _labels(right, len(right.replace("...", "")) + len(ellipsis) if "..." in right else len(right))
    for label, n in Counter(output).items():
        if n > 1:
            raise ValueError(f"index '{label}' comes twice in the result")
        if label not in counts:
            raise ValueError(f"index '{label}' of the result is in no operand")
    return terms, output


def _labels(text: str, rank: int) -> Labels:
    before, dots, after = text.partition("...")
    letters = before + after
    if not letters.isascii() or not (letters.isalpha() or not letters):
        raise ValueError(f"'{text}' is not a term: letters, at most one '...', commas and one '->'")
    hidden = rank - len(letters)
    if hidden < 0 or (hidden and not dots):
        raise ValueError(f"term '{text}' names {len(letters)} axes of an operand of rank {rank}")
    return (*before, *(f".{k}" for k in reversed(range(hidden))), *after)


def _sizes(terms: Sequence[Labels], shapes: Sequence[Shape]) -> dict[Label, Dim]:
    sizes: dict[Label, Dim] = {}
    for term, shape in zip(terms, shapes):
        own: dict[Label, Dim] = {}
        for label, dim in zip(term, shape):
            first = own.setdefault(label, dim)
            if isinstance(first, int) and isinstance(dim, int) and first != dim:
                raise ValueError(f"index '{label}' has size {first} in one place and {dim} in another")
            try:
                sizes[label] = broadcast((sizes.get(label, dim),), (dim,))[0]
            except ValueError:
                name = "an axis of '...'" if label[0] == "." else f"index '{label}'"
                raise ValueError(f"{name} has size {sizes[label]} in one place and {dim} in another") from None
    return sizes


class _Plan:
    """Registers with the labels of their axes, and the steps that make them."""

    def __init__(self, terms: Sequence[Labels], shapes: Sequence[Shape]) -> None:
        self.labels: list[Labels] = list(terms)
        self.sizes = _sizes(terms, shapes)
        self.steps: list[EinsumStep] = []
        self._operand: dict[int, int] = {}
        for i, (term, shape) in enumerate(
            zip(terms, shapes)
        ):  # an axis of 1 that is longer elsewhere broadcasts: drop it
            ones = tuple(k for k, label in enumerate(term) if shape[k] == 1 and self.sizes[label] != 1)
            kept = tuple(label for k, label in enumerate(term) if k not in ones)
            self._operand[i] = self._diagonals(self._add("Squeeze", (i,), kept, ones) if ones else i)

    def _add(self, op: str, operands: tuple[int, ...], labels: Labels, param: Sequence[int] = ()) -> int:
        self.steps.append(EinsumStep(op, operands, tuple(param)))
        self.labels.append(labels)
        return len(self.labels) - 1

    def _diagonals(self, i: int) -> int:
        """Register i with each label once: of n x n elements side by side, every (n + 1)-th lies on the diagonal."""
        for label, count in Counter(self.labels[i]).items():
            for _ in range(count - 1):
                labels, n = self.labels[i], self.sizes[label]
                if not isinstance(n, int):
                    raise _NotLowerable
                own = [k for k, other in enumerate(labels) if other == label]
                lead = tuple(k for k in range(len(labels)) if k not in own[:2])
                kept = tuple(labels[k] for k in lead)
                i = self._add("Transpose", (i,), (*kept, label, label), (*lead, *own[:2]))
                i = self._reshape(i, kept, [(label, label)])
                i = self._add("Slice", (i,), (*kept, label), (n * n, n + 1))
        return i

    def total(self, i: int, keep: Collection[Label]) -> int:
        """Register i summed over the labels not in `keep`."""
        i = self._operand.get(i, i)
        axes = [k for k, label in enumerate(self.labels[i]) if label not in keep]
        return (
            self._add("ReduceSum", (i,), tuple(label for label in self.labels[i] if label in keep), axes) if axes else i
        )

    def order(self, i: int, labels: Labels) -> int:
        """Register i with its axes in the order of `labels`."""
        perm = [self.labels[i].index(label) for label in labels]
        return i if perm == sorted(perm) else self._add("Transpose", (i,), labels, perm)

    def pair(self, a: int, b: int, keep: Labels) -> int:
        """The product of two registers, summed over what both have and `keep` has not."""
        a, b = self._operand.get(a, a), self._operand.get(b, b)
        a, b = self.total(a, {*keep, *self.labels[b]}), self.total(b, {*keep, *self.labels[a]})
        in_a, in_b = self.labels[a], self.labels[b]
        if all(label in keep for label in in_a if label in in_b):
            result = tuple(label for label in keep if label in in_a or label in in_b)
            return self._add("Mul", (self._spread(a, result), self._spread(b, result)), result)
        batch = tuple(label for label in keep if label in in_a and label in in_b)
        rows = tuple(label for label in keep if label in in_a and label not in in_b)
        columns = tuple(label for label in keep if label in in_b and label not in in_a)
        inner = tuple(label for label in in_a if label in in_b and label not in keep)
        lead, rows = (
            (batch, rows) if batch else (rows[:-1], rows[-1:])
        )  # MatMul takes the left operand's rows as they are
        left = self._matrix(a, lead, rows, inner)
        right = self._matrix(b, batch, inner, columns)
        product = self._add("MatMul", (left, right), (*lead, *rows, *columns))
        return (
            product
            if len(rows) == len(columns) == 1
            else self._reshape(product, lead, [(label,) for label in (*rows, *columns)])
        )

    def _spread(self, i: int, result: Labels) -> int:
        """Register i with an axis of 1 for every label of the result that it lacks."""
        i = self.order(i, tuple(label for label in result if label in self.labels[i]))
        missing = [k for k, label in enumerate(result) if label not in self.labels[i]]
        return self._add("Unsqueeze", (i,), result, missing) if missing else i

    def _matrix(self, i: int, lead: Labels, rows: Labels, columns: Labels) -> int:
        """Register i as [*lead, rows, columns], each group merged into one axis."""
        i = self.order(i, (*lead, *rows, *columns))
        return i if len(rows) == len(columns) == 1 else self._reshape(i, lead, [rows, columns])

    def _reshape(self, i: int, lead: Labels, groups: Sequence[Labels]) -> int:
        """The leading axes copied, and one axis for each group."""
        sizes = [prod(self.sizes[label] for label in group) for group in groups]
        if sum(isinstance(s, Sym) for s in sizes) > 1 or 0 in sizes:  # in a Reshape, 0 means: copy
            raise _NotLowerable
        copied = [d if isinstance(d := self.sizes[label], int) else 0 for label in lead]
        target = [*copied, *(s if isinstance(s, int) else -1 for s in sizes)]
        return self._add("Reshape", (i,), (*lead, *(g[0] if len(g) == 1 else "+".join(g) for g in groups)), target)
