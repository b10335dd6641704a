"""What must hold after each stage: see graphc/verify.py for the passes before them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from graphc.graph import Graph, Value
from graphc.lower.assembled import Assembled
from graphc.lower.block import Block
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.program import Program, Step
from graphc.lower.storage import Buffer, Ref, Storage, halo_bytes, storage_bytes
from graphc.report import MemoryReport
from graphc.verify import BrokenInvariant
from graphc.verify import verify as verify_graph


def graph(g: Graph) -> None:
    verify_graph(g, "layout")


def groups(g: Graph, found: Sequence[Group]) -> None:
    """Each node is in one group, and each group comes after those that make what it reads."""
    _raise("fuse", _groups(g, found))


def _groups(g: Graph, found: Sequence[Group]) -> Iterator[str]:
    owners = [n for group in found for n in group.every_node]
    yield from (f"node '{n.name}' is in {owners.count(n)} groups" for n in g.nodes if owners.count(n) != 1)
    made: set[Value] = set(g.inputs)
    for group in found:
        for v in group.inputs:
            if not v.is_const and v not in made:
                yield f"{group} reads %{v.name}, which nobody has made"
        made.update(v for n in group.every_node for v in n.outputs)


def places(storage: Mapping[Value, Storage]) -> None:
    """Each value lies within its buffer, with its halo."""
    _raise("place", _places(storage))


def _places(storage: Mapping[Value, Storage]) -> Iterator[str]:
    for v, s in storage.items():
        left, _ = halo_bytes(s.type)
        first = s.ref.offset - left
        last = first + _reach(s)
        if s.ref.buffer.nbytes and not 0 <= first <= last <= s.ref.buffer.nbytes:
            yield f"%{v.name} is at bytes [{first}, {last}) of '{s.ref.buffer.name}', which has {s.ref.buffer.nbytes}"


def _reach(s: Storage) -> int:
    """Bytes from the first to behind the last that a value has."""
    t = s.type
    if t.size == 0:
        return 0
    if t.layout is None:
        return sum((d - 1) * stride for d, stride in zip(t.extents, s.strides) if stride > 0) + t.dtype.itemsize
    one = storage_bytes(t) // t.extents[0]
    return (t.extents[0] - 1) * s.strides[0] + one


def steps(lo: Lowering) -> None:
    """Addresses are within their buffers; what steps made is within its buffer, too. Argument blocks are as long as their
    kernels declare. What a step reads was written before, and so is each result."""
    _raise("lower", [*_places(lo.storage), *_steps(lo), *_order(lo.program)])


def _steps(lo: Lowering) -> Iterator[str]:
    for i, step in enumerate(lo.program.steps):
        if not isinstance(step, Step):
            continue
        for a in step.args:
            # one byte behind the end is where a loop over nothing would begin
            if isinstance(a, Ref) and a.buffer.nbytes and not 0 <= a.offset <= a.buffer.nbytes:
                yield f"step {i} ({step.info.label}): byte {a.offset} of '{a.buffer.name}', which has {a.buffer.nbytes}"

        block: Block | None = getattr(step.kernel, "block", None)
        if block is not None:
            words = len(step.args) - (lo.check_words if step.check else 0) - block.size
            if words and (words < 0 or not block.record_size or words % block.record_size):
                yield f"step {i} ({step.info.label}): {len(step.args)} words are no argument block of {step.kernel.name}"


def _order(program: Program) -> Iterator[str]:
    written: set[Buffer] = set(program.inputs)

    def missing(buffers: Iterable[Buffer]) -> Iterator[Buffer]:
        return (b for b in buffers if b.kind != "const" and b.nbytes and b not in written)

    for i, step in enumerate(program.steps):
        for b in missing(step.reads):
            yield f"step {i} ({step.info.label}) reads '{b.name}', which no step before it has written"
        written.update(step.writes)
    for b in missing(b for b in program.outputs if isinstance(b, Buffer)):
        yield f"no step writes the result '{b.name}'"


def table(a: Assembled, memory: MemoryReport) -> None:
    """Buffers that live at the same time are apart, inside of the arena; addresses go into words of the table."""
    _raise("assemble", _table(a, memory))


def _table(a: Assembled, memory: MemoryReport) -> Iterator[str]:
    for i in memory.intervals:
        if i.offset + i.nbytes > a.arena:
            yield f"'{i.name}' ends behind the arena"
    for i, j in combinations(memory.intervals, 2):
        at_once = i.first <= j.last and j.first <= i.last
        if at_once and i.offset < j.offset + j.nbytes and j.offset < i.offset + i.nbytes:
            yield f"'{i.name}' and '{j.name}' share bytes in steps {max(i.first, j.first)} to {min(i.last, j.last)}"
    slots = [at for s in (a.kernel_slots, a.constant_slots, a.arena_slots, a.extern_slots) for at in s.at]
    if len(set(slots)) < len(slots) or any(not 0 <= at < len(a.words) for at in slots):
        yield "two addresses go into one word, or one goes behind the table"


def _raise(stage: str, problems: Iterator[str] | Sequence[str]) -> None:
    lines = [f"- {p}" for p in problems]
    if lines:
        raise BrokenInvariant(f"broken after stage '{stage}':\n" + "\n".join(lines))
