"""Compiled plans on disk, see graphc/store.py: the table without addresses, the files that hold its constants.

A backend derives its `PlanFolder`, which adds how the code of kernels is kept. A second process maps the constants, finds the
kernels, fills in addresses, and runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphc.classes import Sources
from graphc.documents import read_document, write_document
from graphc.lower.assembled import Assembled, Extern, HostCall, JumpCall, Slots
from graphc.lower.registers import Binding, Register, SizeProgram, with_dims, with_numbers
from graphc.lower.segment import Segment, SegmentWriteError, SegmentWriter, Stored
from graphc.model_folder import ModelFolder
from graphc.records import record
from graphc.types import TensorType, dtype_from_name

if TYPE_CHECKING:
    from graphc.lower.checks import Check
    from graphc.lower.weights import Kept
    from graphc.report import FusionNote, Measure, MemoryReport, PassInfo, Plan, StepInfo

MAX_PLANS = 256  # of one model
CUT = "cut"  # what tells documents of graphs that were cut from those of plans


class KernelName(NamedTuple):
    """What finds a kernel again: in the cache by name and specification, in a shared object by symbol."""

    name: str
    spec: str
    symbol: str


@record(frozen=True, eq=False)
class Report:
    """What a plan tells of itself."""

    steps: tuple[StepInfo, ...]
    memory: MemoryReport
    notes: tuple[FusionNote, ...]
    passes: tuple[PassInfo, ...]


@record(frozen=True, eq=False)
class CompiledPlan:
    """A bound graph, compiled. kernels: the assembled program's by index, then those that run it. lengths: of states that grow in
    place, after a run, where the backend does not compute them as a result."""

    target: str
    threads: int
    inputs: tuple[tuple[str, TensorType], ...]
    results: tuple[tuple[str, TensorType], ...]
    assembled: Assembled
    kernels: tuple[KernelName, ...]
    report: Callable[[], Report]
    sources: Sources | None = None
    lengths: tuple[Any, ...] = ()

    @property
    def guards(self) -> tuple[str, ...] | None:
        """What must hold of the sizes of a plan for many."""
        b = self.assembled.binding
        return None if b is None else tuple(text for text, _ in b.program.texts if text)

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        """Of a plan for many sizes: is it for inputs of these shapes?"""
        assert self.sources is not None and self.assembled.binding is not None
        sizes = self.sources.sizes(arrays)
        return sizes is not None and self.assembled.binding.program.holds(sizes)

    def refusal(self, arrays: Sequence[np.ndarray]) -> str:
        """Of a plan for many sizes: the first guard that does not hold."""
        assert self.sources is not None and self.assembled.binding is not None
        sizes = self.sources.sizes(arrays)
        if sizes is None:
            return "other dims are 0 or 1, or equal"
        return self.assembled.binding.program.broken(sizes) or ""

    def described(self, measure: Measure, because: tuple[str, ...] = ()) -> Plan:
        """What a person is told. measure, because: see `Plan`."""
        from graphc.report import Plan

        r = self.report()
        shapes = {n: t.shape for n, t in self.inputs}
        told = r.steps, r.memory, r.notes, r.passes
        return Plan(self.target, self.threads, shapes, *told, measure, guards=self.guards, because=because)

    def bound(self, arrays: Sequence[np.ndarray]) -> CompiledPlan:
        """For a person: with numbers in the place of registers."""
        from graphc.lower.memory import measured

        if self.sources is None or self.assembled.binding is None:
            return self
        sizes = self.sources.sizes(arrays)
        registers = None if sizes is None else self.assembled.binding.program.run(sizes)
        assert registers is not None, "inputs of another plan"
        report = with_numbers(self.report(), registers)
        memory = measured(report.memory)
        return replace(
            self,
            inputs=with_numbers(self.inputs, registers),
            results=with_numbers(self.results, registers),
            report=lambda: replace(report, memory=memory),
        )


class PlanFolder:
    """The kept plans of one model. `document`: what model.json holds; `weights` and `code` in it are this class's."""

    def __init__(self, entry: ModelFolder, document: dict[str, Any]) -> None:
        self.entry, self.document = entry, document
        self._segments: dict[str, Segment] = {}

    # --- reading -------------------------------------------------------------------------------------------------
    def read(self, key: str) -> tuple[CompiledPlan, Sequence[str]] | None:
        """A plan, and the names of the files of its code; None where it is not there, whole."""
        content = self.entry.plan(key)
        if content is None or CUT in content:
            return None
        try:
            segments = [self._segment(name) for name in content["segments"]]
        except OSError:
            return None
        whole = [s for s in segments if s is not None]
        if len(whole) < len(segments):
            return None
        return _decode(content, [KernelName(*k) for k in content["kernels"]], whole), content["code"]

    def cut(self, key: str) -> dict[str, Any] | None:
        """What a graph that was cut consists of."""
        content = self.entry.plan(key)
        return None if content is None else content.get(CUT)

    def cuts(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Those whose keys begin so."""
        for key in self.entry.plans(prefix):
            content = self.cut(key)
            if content is not None:
                yield key, content

    def _segment(self, name: str) -> Segment | None:
        """A mapped file of constants. Raises OSError."""
        if name not in self._segments:
            facts = self.document["weights"].get(name)
            segment = None if facts is None else self._mapped(name, facts)
            if segment is None:
                return None
            self._segments[name] = segment
        return self._segments[name]

    def _mapped(self, name: str, facts: dict[str, Any]) -> Segment | None:
        """None where it is not what it was. Raises OSError."""
        fd = self.entry.open_intact(name, facts)
        if fd is None:
            return None
        segment = Segment(name)
        try:
            segment.map(fd)
        finally:
            os.close(fd)
        return segment

    def known(self) -> dict[str, tuple[Segment, Kept]]:
        """Content key -> the constants that are kept."""
        out: dict[str, tuple[Segment, Kept]] = {}
        for name in list(self.document["weights"]):
            keys = read_document((self.entry.folder / name).with_suffix(".keys"))
            try:
                segment = self._segment(name)
            except OSError:
                segment = None
            if segment is None:
                del self.document["weights"][name]
            elif keys is not None:
                out.update((k, (segment, tuple(kept))) for k, kept in keys.items())
        return out

    # --- writing, under the entry's lock ---------------------------------------------------------------------------
    def lock(self) -> bool:
        """Take the folder for writing, with what other processes have added since it was read."""
        if not self.entry.lock():
            return False
        found = self.entry.model()
        if found is not None and all(found[k] == v for k, v in self.document.items() if k not in ("weights", "code")):
            self.document = found
        return True

    def writer(self) -> SegmentWriter:
        """Raises OSError."""
        return SegmentWriter(*self.entry.temporary())

    def adopt(self, writer: SegmentWriter, added: Mapping[str, Kept], keep: bool) -> None:
        """Map a finished file of constants and give it a name, unless it is not to be found again. Raises SegmentWriteError."""
        digest = writer.finish()
        if not added or not keep:
            writer.discard()
            return
        segment = writer.segment
        try:
            segment.name, facts = self.entry.adopt(writer.path, "weights", ".bin", digest)
            write_document((self.entry.folder / segment.name).with_suffix(".keys"), dict(added))
        except OSError as error:
            raise SegmentWriteError(str(error)) from error
        self._segments[segment.name] = segment
        self.document["weights"][segment.name] = facts

    def write(self, key: str, plan: CompiledPlan, code: Sequence[str]) -> None:
        """code: names of the files that hold its kernels. Raises OSError."""
        self.entry.trim(MAX_PLANS - 1)
        self.entry.write_plan(key, _encode(plan) | {"code": list(code)})
        self.write_model()
        self.entry.store.wrote(self.entry.folder)

    def keep_cut(self, key: str, document: dict[str, Any]) -> None:
        """Nothing where another process is writing, or one of its programs is not kept. Raises OSError."""
        if not self.lock():
            return
        try:
            if all(self.entry.has_plan(k) for k in document["programs"]):
                self.entry.trim(MAX_PLANS - 1)
                self.entry.write_plan(key, {CUT: document})
        finally:
            self.entry.unlock()

    def write_model(self) -> None:
        self.entry.write_model(self.document)
        self.entry.sweep({*self.document["weights"], *self.document["code"]})


def can_keep(plan: CompiledPlan, new: Segment) -> bool:
    """Host steps, results that are constants, and constants in memory only are not kept. new: a file to be adopted."""
    from graphc.lower.checks import CHECKS

    a = plan.assembled
    return (
        not any(isinstance(r, HostCall) for r in a.runs)
        and all(isinstance(o, int) for o in a.outputs)
        and all(isinstance(c, Stored) and (c.segment.name or c.segment is new) for c in a.constants)
        and all(type(check).__name__ in CHECKS for _, check in a.checks)
        and all(t.dtype != object for _, t in (*plan.inputs, *plan.results))
    )


# --- documents --------------------------------------------------------------------------------------------------------
def _encode(plan: CompiledPlan) -> dict[str, Any]:
    a = plan.assembled
    constants = [c for c in a.constants if isinstance(c, Stored)]
    segments = list(dict.fromkeys(c.segment.name for c in constants))
    number = {name: i for i, name in enumerate(segments)}
    return {
        "target": plan.target,
        "threads": plan.threads,
        "inputs": [(n, _type(t)) for n, t in plan.inputs],
        "results": [(n, _type(t)) for n, t in plan.results],
        "kernels": plan.kernels,
        "segments": segments,
        "words": a.words.tolist(),
        "blocks": a.blocks.tolist(),
        "arena": a.arena,
        "constants": [(number[c.segment.name], c.offset) for c in constants],
        "externs": [(e.name, _shape(e.shape), e.dtype.name) for e in a.externs],
        "slots": [[column.tolist() for column in s] for s in _slots(a)],
        "input_externs": a.inputs,
        "output_externs": a.outputs,
        "checks": [(w.start, w.stop, *_check_document(c)) for w, c in a.checks],
        "runs": [asdict(r) if isinstance(r, JumpCall) else r for r in a.runs],
        "report": json.dumps(asdict(plan.report())),  # read when somebody asks
        "binding": None if a.binding is None else _encode_binding(a.binding),
        "sources": None if plan.sources is None else asdict(plan.sources),
    }


def _encode_binding(b: Binding) -> dict[str, Any]:
    arrays = {f.name: getattr(b, f.name).tolist() for f in fields(b) if isinstance(getattr(b, f.name), np.ndarray)}
    p = b.program
    program = {f.name: getattr(p, f.name) for f in fields(p)}
    program |= {name: value.tolist() for name, value in program.items() if isinstance(value, np.ndarray)}
    return arrays | {"arena": b.arena, "program": program}


def _decode_binding(c: Mapping[str, Any]) -> Binding:
    widths = {"words": 2, "places": 2, "constants": 3, "externs": 3, "choices": 3, "kernels": 3}
    arrays = {name: np.array(c[name], np.int64).reshape(-1, n) for name, n in widths.items()}
    arrays |= {name: np.array(c[name], np.int64) for name in ("variants", "costs")}
    p = c["program"]
    columns = {name: np.array(p[name], np.int64) for name in ("registers", "tables")}
    code = np.array(p["code"], np.int64).reshape(-1, 4)
    texts = tuple((text, where) for text, where in p["texts"])
    program = SizeProgram(tuple(p["names"]), code, **columns, guards=p["guards"], bound=p["bound"], texts=texts)
    return Binding(program=program, **arrays, arena=c["arena"])


def _slots(a: Assembled) -> tuple[Slots, ...]:
    return a.kernel_slots, a.constant_slots, a.arena_slots, a.extern_slots


def _type(t: TensorType) -> tuple[str, list[Any]]:
    return t.dtype.name, _shape(t.shape)


def _shape(shape: Sequence[Any]) -> list[Any]:
    return [asdict(d) if isinstance(d, Register) else d for d in shape]


def _typed(pair: Sequence[Any]) -> TensorType:
    return with_dims(dtype_from_name(pair[0]), _tuples(pair[1]))


def _run(r: Any) -> tuple[int, int] | JumpCall:
    if isinstance(r, Mapping):
        return JumpCall(**{**r, "reports": tuple(r["reports"])})
    first, count = r
    return first, count


def _decode(c: Mapping[str, Any], kernels: Sequence[KernelName], segments: Sequence[Segment]) -> CompiledPlan:
    slots = [
        Slots(np.array(at, np.intp), np.array(what, np.intp), np.array(offset, np.int64))
        for at, what, offset in c["slots"]
    ]
    assembled = Assembled(
        words=np.array(c["words"], np.int64),
        blocks=np.array(c["blocks"], np.int64).reshape(-1, 3),
        arena=c["arena"],
        constants=tuple(Stored(segments[i], offset) for i, offset in c["constants"]),
        externs=tuple(Extern(n, _tuples(shape), dtype_from_name(d)) for n, shape, d in c["externs"]),
        kernel_slots=slots[0],
        constant_slots=slots[1],
        arena_slots=slots[2],
        extern_slots=slots[3],
        inputs=tuple(c["input_externs"]),
        outputs=tuple(c["output_externs"]),
        checks=tuple((slice(a, b), _check(name, values)) for a, b, name, values in c["checks"]),
        runs=tuple(map(_run, c["runs"])),
        binding=None if c["binding"] is None else _decode_binding(c["binding"]),
    )
    return CompiledPlan(
        c["target"],
        c["threads"],
        tuple((n, _typed(t)) for n, t in c["inputs"]),
        tuple((n, _typed(t)) for n, t in c["results"]),
        assembled,
        tuple(kernels),
        partial(_report, c["report"]),
        None if c["sources"] is None else _record(Sources, c["sources"]),
    )


def _record(cls: type, values: Mapping[str, Any]) -> Any:
    """A dataclass from JSON, whose lists were tuples, and whose dicts were registers."""
    return cls(**{f.name: _tuples(values[f.name]) for f in fields(cls)})


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return Register(**value)
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _check_document(check: Check) -> tuple[str, Any]:
    from graphc.lower.checks import Among

    if isinstance(check, Among):
        return Among.__name__, {"checks": [_check_document(c) for c in check.checks]}
    return type(check).__name__, asdict(check)


def _check(name: str, values: Mapping[str, Any]) -> Any:
    from graphc.errors import Location
    from graphc.lower.checks import CHECKS, Among

    if name == Among.__name__:
        return Among(tuple(_check(*c) for c in values["checks"]))
    source = values["source"]
    return _record(CHECKS[name], dict(values) | {"source": None if source is None else _record(Location, source)})


def _report(text: str) -> Report:
    from graphc.report import FusionNote, Interval, MemoryReport, PassInfo, StepInfo

    r = json.loads(text)
    memory = r["memory"] | {"intervals": [_record(Interval, i) for i in r["memory"]["intervals"]]}
    return Report(
        tuple(_record(StepInfo, s) for s in r["steps"]),
        _record(MemoryReport, memory),
        tuple(_record(FusionNote, n) for n in r["notes"]),
        tuple(_record(PassInfo, p) for p in r["passes"]),
    )
