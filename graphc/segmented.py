"""What runs a graph that data decides shapes or branches of: programs, and what is done between them. It knows no graph, so that
it is the same whether it was made now (graphc/segments.py) or found on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import prod
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from graphc.classes import CantServeMany
from graphc.errors import UnsupportedError
from graphc.executable import PLANNING, Executable, Shared, remember, taken, value_key
from graphc.objects import own
from graphc.records import record
from graphc.types import TensorType, dtype_from_name

if TYPE_CHECKING:
    from graphc.report import Pending, Plan, StepInfo

Axes: TypeAlias = "tuple[int | None, ...]"  # of the results of a bounded node, those of the dim that data tells
Source: TypeAlias = (
    "int | np.ndarray | None"  # an operand: the graph's inputs, then the prefix's results by number, or a constant
)
# (shapes that turn up, for them alone?) -> an executable, and whether it is for many shapes
Bind: TypeAlias = "Callable[[Sequence[np.ndarray], bool], tuple[Executable, bool]]"

MOST_KEPT = 1 << 16  # elements of a constant that a document holds


class Plans:
    """The plans of one graph, for the shapes that have turned up. valued: inputs whose values decide, too."""

    def __init__(self, valued: Sequence[int], bind: Bind) -> None:
        self.valued, self.bind = valued, bind
        self.made = 0
        self._alone = False
        self._kept: dict[tuple, Executable] = {}
        self._many = Shared()

    def of(self, values: Sequence[np.ndarray]) -> Executable:
        """The plan for inputs of these shapes, made when such turn up first."""
        found = self._many.holding(values)
        if found is not None:
            return found
        key = (*((a.shape, a.dtype.str) for a in values), *(value_key(values[i]) for i in self.valued))
        plan = self._kept.get(key)
        if plan is None:
            with PLANNING:
                plan = self._many.holding(values) or self._kept.get(key)
                if plan is None:
                    self.made += 1
                    plan, for_many = self.bind(values, self._alone)
                    if for_many:
                        self._many.add(plan)
                    else:
                        remember(self._kept, key, plan)
        return plan

    def give_up_many(self) -> bool:
        """From now on each plan is for its shapes alone: one for many turned out, while it ran, to be for none. False where they
        are so already."""
        with PLANNING:
            before, self._alone = self._alone, True
            self._many.clear()
        return not before


class Between(Protocol):
    """A data-dependent node, which runs between two programs."""

    @property
    def steps(self) -> Sequence[StepInfo]:
        """For reports."""
        ...

    def run(self, operands: Sequence[np.ndarray | None]) -> Sequence[np.ndarray]: ...


@record(frozen=True, eq=False)
class CollectingLoop:
    """A Loop that collects rows (graphc/loop_rows.py), which takes and gives what its reference does.

    program  computes so many trips at most, `rows`: its inputs are the number of the first trip, then the node's operands at
             the positions `given`, of these types
    states   how many there are; results: how many the node has
    """

    program: Executable
    given: tuple[int, ...]
    types: tuple[TensorType, ...]
    rows: int
    states: int
    results: int

    @property
    def steps(self) -> Sequence[StepInfo]:
        return self.program.plan.steps

    def run(self, operands: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """Raises what a run of the body does."""
        values, n = list(operands), self.states
        limit = None if values[0] is None else int(values[0].reshape(()))
        first, collected = 0, []
        while True:
            arrays = (np.array(first, np.int64), *(values[i] for i in self.given))
            shaped = [np.ascontiguousarray(a).reshape(t.extents) for a, t in zip(arrays, self.types)]
            done, going, *results = self.program.run(shaped)
            count = int(done)
            first += count
            values[2 : 2 + n] = results[:n]
            collected.append([rows[:count] for rows in results[n:]])
            if not going or count < self.rows or first == limit:
                break
        return [*results[:n], *map(np.concatenate, zip(*collected))][: self.results]


@record(frozen=True, eq=False)
class Seam:
    """From the graph's inputs, which are so many, and the prefix's results to the suffix's inputs: the former, then the results that
    are none of a bounded node, then the results of bounded nodes, then those of the nodes between."""

    inputs: int
    bounded: tuple[Axes, ...]
    between: tuple[tuple[Between, tuple[Source, ...]], ...]

    def across(self, inputs: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> list[np.ndarray]:
        at = computed = len(results) - sum(len(axes) + 1 for axes in self.bounded)
        produced: list[np.ndarray] = []
        for axes in self.bounded:
            produced += heads(axes, results[at : at + len(axes) + 1])
            at += len(axes) + 1
        known = (*inputs, *results) if self.between else ()
        for node, sources in self.between:
            operands = [known[s] if isinstance(s, int) else s for s in sources]
            produced += (np.ascontiguousarray(a) if a.ndim else a for a in node.run(operands))
        return [*inputs, *results[:computed], *produced]


def heads(axes: Axes, made: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results of a bounded node from those of its bounded form, a buffer each and the size of the dim; views."""
    *buffers, total = made
    size = int(total)
    return [_head(a, axis, size) for a, axis in zip(buffers, axes)]


def _head(buffer: np.ndarray, axis: int | None, size: int) -> np.ndarray:
    if axis is None:
        return buffer
    if axis == 0:
        return buffer[:size]
    shape = [*buffer.shape[:axis], size, *buffer.shape[axis + 1 :]]
    return buffer.reshape(-1)[: prod(shape)].reshape(shape)


class Segmented(Executable):
    """The static prefix, what comes between, and a suffix that is bound to the shapes that turn up."""

    def __init__(
        self,
        prefix: Executable,
        seam: Seam,
        plans: Plans,
        direct: Sequence[int] | None,
        outlook: Callable[[], tuple[Pending, ...]],
    ) -> None:
        """plans: of the suffix. direct: where nothing is left for it to compute, which of its inputs its results are. outlook: what
        will become of its nodes."""
        self.prefix, self.seam, self.plans = prefix, seam, plans
        self._direct, self._outlook = direct, outlook
        self._last: tuple[Executable, list[np.ndarray]] | None = None  # and inputs as its last ones were

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        return self.prefix.holds(arrays)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        return self.run_on(None, arrays, out)

    def run_on(self, stream: Any, arrays: Sequence[Any], out: Sequence[Any | None] | None = None) -> list[Any]:
        """Inputs on a device stay there; what the prefix makes of them comes to the host, where the rest is planned."""
        if self._direct is not None and stream is None and out is None and {*map(type, arrays)} <= {np.ndarray}:
            made = self.seam.across(arrays, self.prefix.run(arrays))
            return [_own(made[i]) for i in self._direct]
        results = [np.asarray(r) for r in self.prefix.run_on(stream, arrays)]
        values: list[Any] = self.seam.across([np.asarray(a) for a in arrays], results)
        valued = self.plans.valued
        values[: len(arrays)] = [values[i] if i in valued else a for i, a in enumerate(arrays)]
        values = taken(values, valued)
        try:
            return self._suffix(values).run_on(stream, values, out)
        except CantServeMany:
            if not self.plans.give_up_many():
                raise
            return self._suffix(values).run_on(stream, values, out)

    def _suffix(self, values: Sequence[np.ndarray]) -> Executable:
        """The rest of the graph for these shapes, planned when such turn up first."""
        suffix = self.plans.of(values)
        if self._last is None or self._last[0] is not suffix:  # for reports: of most inputs, the shape is enough
            nothing = [np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in values]
            self._last = suffix, [values[i] if i in self.plans.valued else a for i, a in enumerate(nothing)]
        return suffix

    def refusal(self, arrays: Sequence[np.ndarray]) -> str:
        return self.prefix.refusal(arrays)

    @property
    def plan(self) -> Plan:
        return self._joined(self.prefix.plan)

    def plan_for(self, arrays: Sequence[np.ndarray]) -> Plan:
        return replace(self._joined(self.prefix.plan_for(arrays)), because=self.because)

    def _joined(self, prefix: Plan) -> Plan:
        """The prefix's plan and what comes between; then the suffix's, as it last ran, or what can be told of it."""
        steps = [*prefix.steps, *(step for node, _ in self.seam.between for step in node.steps)]
        if self._last is None:
            pending = self._outlook()
        else:
            executable, values = self._last
            last = executable.plan_for(values)
            steps += last.steps
            pending = last.pending
        numbered = tuple(replace(s, index=i) for i, s in enumerate(steps))
        return replace(prefix, steps=numbered, measure=_unmeasured, pending=pending)

    # --- on disk -------------------------------------------------------------------------------------------------
    def document(self, keys: Sequence[str]) -> dict[str, Any]:
        """What it is, as JSON. keys: of the plans of the prefix and of the loops. No node may run on the host."""
        loops: list[dict[str, Any]] = []
        for node, sources in self.seam.between:
            assert isinstance(node, CollectingLoop)
            types = [(t.dtype.name, t.extents) for t in node.types]
            facts = node.given, types, node.rows, node.states, node.results
            loops.append({"sources": [_kept(s) for s in sources], "facts": facts})
        return {
            "programs": list(keys),
            "inputs": self.seam.inputs,
            "bounded": self.seam.bounded,
            "loops": loops,
            "valued": list(self.plans.valued),
            "direct": self._direct,
            "pending": [asdict(p) for p in self._outlook()],
        }

    @staticmethod
    def from_document(
        content: dict[str, Any], load: Callable[[str], Executable | None], bind: Bind
    ) -> Segmented | None:
        """load: what was kept under a key; None where one of the programs was not."""
        loaded = [load(key) for key in content["programs"]]
        programs = [p for p in loaded if p is not None]
        if len(programs) < len(loaded):
            return None
        between = []
        for loop, program in zip(content["loops"], programs[1:], strict=True):
            given, types, *numbers = loop["facts"]
            typed = tuple(TensorType(dtype_from_name(name), shape) for name, shape in types)
            node = CollectingLoop(program, tuple(given), typed, *numbers)
            between.append((node, tuple(_source(s) for s in loop["sources"])))
        seam = Seam(content["inputs"], tuple(map(tuple, content["bounded"])), tuple(between))
        return Segmented(
            programs[0], seam, Plans(content["valued"], bind), content["direct"], lambda: _pending(content)
        )


def is_small(s: Source) -> bool:
    """Is an operand fit for a document?"""
    return not isinstance(s, np.ndarray) or s.dtype.kind in "biuf" and s.size <= MOST_KEPT


def _kept(s: Source) -> Any:
    return {"dtype": s.dtype.name, "shape": s.shape, "data": s.tolist()} if isinstance(s, np.ndarray) else s


def _source(s: Any) -> Source:
    return np.array(s["data"], dtype_from_name(s["dtype"])).reshape(s["shape"]) if isinstance(s, dict) else s


def _pending(content: dict[str, Any]) -> tuple[Pending, ...]:
    from graphc.report import Pending

    return tuple(Pending(**p) for p in content["pending"])


def _own(a: np.ndarray) -> np.ndarray:
    """What shares memory with nothing. An array is copied where it is a small part of a buffer."""
    return a.copy() if a.base is not None and 2 * a.nbytes < a.base.nbytes else own(a)


def _unmeasured(feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
    raise UnsupportedError(
        "a model whose shapes follow from data can't be timed step by step",
        hint="time it whole: without --profile, --trace and --picture",
    )
