"""What a compiled plan tells about itself, as plain data: its steps, its memory, why things fused, what each pass did.

Backends fill these records; the command line and the tests read them. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from graphc.dtypes import BY_NAME, FLOAT32, Element
from graphc.errors import UnsupportedError
from graphc.sizes import hint_of
from graphc.types import Shape
from graphc.words import count

STEPS = (">step", "nodes", "+kernel", "+algorithm", "type", "+because", ">flop", ">bytes")  # of a table of them
MANY = 16  # operators that a label does not list


@dataclass(frozen=True)
class StepInfo:
    """One step of the program: a kernel call, or a host call through the reference.

    nodes      names of the graph nodes that the step computes, in order of execution
    ops        their operators, in the same order
    kernel     name of the kernel; equal names share machine code
    algorithm  'direct', 'winograd F(4x4)', 'gemm', … ('' where there is no choice)
    reason     why this algorithm, in one sentence
    output     name of the value it makes
    flops      arithmetic of the operators (2 per multiply-accumulate), whatever the algorithm really does
    nbytes     bytes that must cross: operands, weights and results once each
    host       runs through the NumPy reference, because no kernel serves it
    inside     the steps of the program that the step runs itself, if any: label, kernel, algorithm, reason, flops
    occupancy  of a GPU's kernel: what part of the threads that a multiprocessor can have at a time it has there
    type       element type of what it multiplies: 'float32', 'uint8 x int8' for products of these, 'float32 x float16' for weights
               that lie in memory as float16 and are multiplied as float32; without products, of its result. '' where it only moves
    """

    index: int
    nodes: tuple[str, ...]
    ops: tuple[str, ...]
    kernel: str
    algorithm: str = ""
    reason: str = ""
    output: str = ""
    flops: int = 0
    nbytes: int = 0
    host: bool = False
    inside: tuple[tuple[str, str, str, str, int], ...] = ()
    occupancy: float | None = None
    type: str = ""

    @property
    def label(self) -> str:
        """'conv1: Conv + Relu', or the operators alone where the step computes no node ('Halo')."""
        if len(self.ops) > MANY:
            return f"{self.nodes[0]} … {self.nodes[-1]}: {len(self.ops)} operators"
        ops = " + ".join(self.ops)
        return f"{self.nodes[0]}: {ops}" if self.nodes else ops


def folded(steps: Sequence[StepInfo]) -> list[StepInfo]:
    """For a list that people read: of steps in a row that do the same for the same nodes (steps through time), the first, with
    what all of them do."""
    out: list[StepInfo] = []
    for _, alike in groupby(steps, lambda s: (s.nodes, s.ops, s.output, s.algorithm, s.host)):
        first, *others = alike
        if others and first.algorithm:
            every = [first, *others]
            flops, nbytes = sum(s.flops for s in every), sum(s.nbytes for s in every)
            first = replace(first, reason=f"{first.reason}, and {len(others)} like it", flops=flops, nbytes=nbytes)
            others = []
        out += [first, *others]
    return out


def rows_of(steps: Sequence[StepInfo]) -> list[tuple[Any, ...]]:
    """For the columns STEPS."""
    return [row for step in folded(steps) for row in _rows(step)]


def _rows(step: StepInfo) -> Iterator[tuple[Any, ...]]:
    """A step, and the steps that it runs itself."""
    kernel = "host (NumPy)" if step.host else step.kernel
    cost = count(step.flops), format_bytes(step.nbytes)
    yield step.index, step.label, kernel, step.algorithm, step.type, step.reason, *cost
    for label, kernel, algorithm, reason, flops in step.inside:
        yield "", f"  {label}", kernel, algorithm, "", reason, count(flops), ""


def type_of(steps: Iterable[StepInfo]) -> str:
    """Of a step that runs these: the type that most of their arithmetic is in."""
    amounts: dict[str, int] = {}
    for step in steps:
        amounts[step.type] = amounts.get(step.type, 0) + hint_of(step.flops)
    return max(amounts, key=amounts.__getitem__, default="")


def _like(a: Element, b: Element) -> bool:
    """The same type, but for the sign of integers."""
    return a is b or (a.bits == b.bits and {a.family, b.family} <= {"int", "uint"})


@dataclass(frozen=True)
class Roofline:
    """What a machine can do at most.

    peaks   operations per second by what is multiplied, as `StepInfo.type` tells it; of float32 always
    rates   (size, bytes per second) of reading that many bytes again and again: a size for each cache, memory last
    """

    peaks: Mapping[str, float]
    rates: tuple[tuple[int, float], ...]

    def seconds(self, step: StepInfo) -> float:
        """The least time of a direct algorithm that finds all it reads in the smallest cache that holds it."""
        rate = next((rate for size, rate in self.rates if step.nbytes <= size), self.rates[-1][1])
        return max(step.flops / self.flops_of(step), step.nbytes / rate)

    def flops_of(self, step: StepInfo) -> float:
        """Operations per second of what a step multiplies. Where that has no row: weights that are decoded are multiplied as other
        products of such rows are; all else is computed as float32, of which a vector has more than of wider types."""
        if step.type in self.peaks:
            return self.peaks[step.type]
        first, decoded, _ = step.type.partition(" x ")
        element = BY_NAME.get(first, FLOAT32)
        alike = [n for n in self.peaks if decoded and _like(element, BY_NAME[n.partition(" x ")[0]])]
        if alike:
            return self.peaks[alike[0]]
        return self.peaks[FLOAT32.name] * FLOAT32.item / max(FLOAT32.item, element.item)

    def about(self, threads: int) -> str:
        """For a person."""
        rates = ", ".join(f"{rate / 1e9:.3g} of {format_bytes(size)}" for size, rate in self.rates)
        plural = "s" * (threads > 1)
        peaks = ", ".join(f"{peak / 1e9:.3g} ({name})" for name, peak in self.peaks.items())
        return f"this machine, {threads} thread{plural}: GFLOP/s {peaks}; GB/s read: {rates}"


@dataclass(frozen=True)
class Interval:
    """A buffer of the arena: bytes [offset, offset + nbytes), in use from step `first` to step `last` inclusive."""

    name: str
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryReport:
    """Bytes of a plan.

    arena        size of the one block that holds every intermediate value
    lower_bound  largest sum of bytes in use at one step: no plan of this order needs less
    total        sum of all buffers: what it would take without reuse
    weights      constants as they lie packed, outside the arena
    by_type      (element type, bytes) of these, most bytes first
    """

    arena: int
    lower_bound: int
    total: int
    weights: int
    intervals: tuple[Interval, ...] = ()
    by_type: tuple[tuple[str, int], ...] = ()

    @property
    def ratio(self) -> float:
        """Of the weights' bytes to those of as many float32."""
        return self.weights / max(1.0, sum(n * FLOAT32.bits / BY_NAME[name].bits for name, n in self.by_type))

    @property
    def about_weights(self) -> str:
        """For a person: '3.2 MiB, 0.31 of what float32 takes: 2.9 MiB int8, …'; '3.2 MiB, float32' where all are."""
        if not self.weights:
            return "none"
        if [name for name, _ in self.by_type] == [FLOAT32.name]:
            return f"{format_bytes(self.weights)}, {FLOAT32.name}"
        types = ", ".join(f"{format_bytes(n)} {name}" for name, n in self.by_type)
        return f"{format_bytes(self.weights)}, {self.ratio:.2g} of what float32 takes: {types}"


@dataclass(frozen=True)
class FusionNote:
    """Whether a node went into the kernel of its neighbour, and why or why not."""

    node: str
    applied: bool
    reason: str


@dataclass(frozen=True)
class PassInfo:
    """What one pass did: nodes before and after, seconds it took, and what it says about rewrites that it refused."""

    name: str
    before: int
    after: int
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pending:
    """A node that is planned when shapes are known that only the inputs, or running, can tell.

    result  types of its results, with symbolic dims; '?' for one that is not known
    host    it will run through the NumPy reference
    reason  why on the host, or what else becomes of it than a kernel
    """

    node: str
    op: str
    result: str
    host: bool = False
    reason: str = ""


Measure = Callable[[Mapping[str, np.ndarray], int], Sequence[float]]


@dataclass(frozen=True)
class Plan:
    """A model bound to input shapes: the program that runs, the arena that it runs in.

    `measure(feeds, rounds)` runs the program step by step and returns the median seconds of each step. `pending`: nodes
    behind the first result whose shape follows from data, where the model has not run yet. guards: what must hold of the
    inputs' sizes for the same plan to serve them; None of a plan for these shapes alone. because: of a plan for many shapes,
    guards of those that were there before, which do not hold for the shapes that it was made for; of a plan for one shape where one
    for many was asked for, why. emulated: it runs on what stands for its machine, and its times say nothing.
    """

    target: str
    threads: int
    shapes: Mapping[str, Shape]
    steps: tuple[StepInfo, ...]
    memory: MemoryReport
    notes: tuple[FusionNote, ...] = ()
    passes: tuple[PassInfo, ...] = ()
    measure: Measure | None = None
    pending: tuple[Pending, ...] = ()
    guards: tuple[str, ...] | None = None
    because: tuple[str, ...] = ()
    emulated: bool = False

    def require_times(self) -> None:
        """Raises UnsupportedError where its steps can't be timed."""
        if self.emulated:
            raise UnsupportedError(
                f"target '{self.target}' has no profile: times of the emulator say nothing about a GPU",
                hint="profile with target 'cuda' on a GPU, or with target 'cpu'",
            )
        if self.measure is None:
            raise UnsupportedError(f"target '{self.target}' has no profiler", hint="profile with target 'cpu'")

    def profile(self, feeds: Mapping[str, np.ndarray], rounds: int = 10) -> list[float]:
        """Median seconds of each step over `rounds` runs, in the order of `steps`.

        Raises InputError where `feeds` do not fit, UnsupportedError where the target or the model can't be profiled.
        """
        self.require_times()
        assert self.measure is not None
        return list(self.measure(feeds, rounds))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        later = f", {len(self.pending)} nodes pending" if self.pending else ""
        return (
            f"Plan for {self.target}, {self.threads} thread{'s' * (self.threads != 1)}, {sizes}: {len(self.steps)} steps{later}, "
            f"weights {format_bytes(self.memory.weights)}, arena {format_bytes(self.memory.arena)}"
        )

    def _repr_html_(self) -> str:
        from graphc.tables import html_table

        return html_table(STEPS, rows_of(self.steps), repr(self))

    def to_json(self) -> dict[str, Any]:
        """What it tells as dicts, tuples, numbers and text; of arithmetic with open sizes the expressions."""
        told = ("target", "threads", "shapes", "guards", "because", "emulated")
        return {
            **{name: getattr(self, name) for name in told},
            "steps": [asdict(step) for step in self.steps],
            "fusion": [asdict(note) for note in self.notes],
            "passes": [asdict(done) for done in self.passes],
            "memory": asdict(self.memory),
        }


def format_bytes(n: float) -> str:
    if n < 1024:
        return f"{n} B"
    for unit in ("KiB", "MiB"):
        n /= 1024
        if n < 1024:
            return f"{n:.1f} {unit}"
    n /= 1024
    if n < 1024:
        return f"{n:.2f} GiB"
    return f"{n / 1024:.2f} TiB" if n < 1e9 else f"{n / 1024:.2e} TiB"
