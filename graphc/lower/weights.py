"""Packed constants: in memory, or streamed into one file per plan that every process maps (see segment.py)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graphc import source_files
from graphc.converted import origin
from graphc.dtypes import BY_NAME, FLOAT32, Element
from graphc.lower.aligned import aligned_empty
from graphc.lower.segment import Segment, SegmentWriter, Stored
from graphc.lower.storage import Buffer, Place
from graphc.sizes import hint_of, is_size, pinned
from graphc.types import dtype_name

if TYPE_CHECKING:
    from graphc.graph import Value

EDGE = 1 << 14  # bytes at either end of a constant that its key looks at closely


@dataclass(frozen=True, eq=False)
class Resident:
    """A constant in this process's memory."""

    array: np.ndarray

    @property
    def address(self) -> int:
        return self.array.ctypes.data


Kept = tuple[int, int, str]  # of a constant in a file: offset, bytes, element type


@dataclass
class _Draft:
    """What one plan adds."""

    writer: SegmentWriter | None
    made: dict[Hashable, Buffer] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)  # by content key


class WeightStore:
    """Packed constants of a model, shared by its plans: the same array packed the same way exists once.

    A plan is lowered between `begin` and `end`. With a writer, what it adds goes to a file; without, it stays in memory.
    """

    def __init__(self) -> None:
        self._packed: dict[Hashable, tuple[Buffer, tuple[np.ndarray, ...]]] = {}
        self._dense: dict[Buffer, np.ndarray] = {}
        self._draft = _Draft(None)
        self.nbytes = 0
        self.known: dict[str, tuple[Segment, Kept]] = {}  # content key -> what an earlier process has packed

    def begin(self, writer: SegmentWriter | None) -> None:
        """With a writer, what earlier plans had to keep in memory is packed anew."""
        self._dense.clear()
        if writer is not None:
            resident = [(k, b.nbytes) for k, (b, _) in self._packed.items() if isinstance(b.place, Resident)]
            for key, nbytes in resident:
                del self._packed[key]
                self.nbytes -= nbytes
        self._draft = _Draft(writer)

    def added(self) -> dict[str, Kept]:
        """By content key, what the plan has added to its writer's file."""
        return self._draft.kept

    def end(self) -> None:
        draft, self._draft = self._draft, _Draft(None)
        if draft.writer is not None and draft.writer.segment.name:
            self.known.update((k, (draft.writer.segment, kept)) for k, kept in draft.kept.items())

    def undo(self) -> None:
        """Forget what was packed since `begin`."""
        for key, buffer in self._draft.made.items():
            del self._packed[key]
            self.nbytes -= buffer.nbytes
        self._draft = _Draft(None)

    def pack(
        self,
        source: np.ndarray | tuple[np.ndarray, ...],
        recipe: tuple[Hashable, ...],
        make: Callable[[], np.ndarray],
        name: str = "weights",
        element: Element | None = None,
    ) -> Buffer:
        """The buffer of make(), an array derived from `source` alone as `recipe` says. element: of what it holds, by default the
        array's. Raises SegmentWriteError."""
        sources = source if isinstance(source, tuple) else (source,)
        recipe = pinned(recipe)
        origins = tuple(map(origin, sources))
        key = (*((id(o), a.dtype.str) for o, a in zip(origins, sources)), recipe)
        if key in self._packed:
            return self._packed[key][0]
        writer = self._draft.writer
        content = _content_key(sources, recipe) if writer is not None or self.known else ""
        if content in self.known:
            segment, (offset, nbytes, kind) = self.known[content]
            place: Resident | Stored = Stored(segment, offset)
        elif writer is not None and content in self._draft.kept:
            offset, nbytes, kind = self._draft.kept[content]
            place = Stored(writer.segment, offset)
        else:
            data = make()
            nbytes, kind = data.nbytes, element.name if element else dtype_name(data.dtype)
            place = self._place(data, content, kind)
        source_files.release(origins)
        buffer = Buffer(name, nbytes, "const", place, element=BY_NAME[kind])
        self._packed[key] = buffer, origins  # they stay alive: ids stay unique
        self._draft.made[key] = buffer
        self.nbytes += nbytes
        return buffer

    def zeros(self, nbytes: int) -> Buffer:
        """So many bytes of zeros, or more: of float32, as they are told."""
        if is_size(nbytes):
            most = 1 << (2 * hint_of(nbytes) - 1).bit_length()
            nbytes = most if nbytes <= most else pinned(nbytes)
        return self.pack((), ("zeros", nbytes), lambda: np.zeros(nbytes, np.uint8), "zeros", FLOAT32)

    def dense(self, v: Value, element: Element | None = None) -> Buffer:
        """A constant as it is. It gets a place when a step turns out to read it. element: as in `pack`."""
        buffer = Buffer(v.name, v.data.nbytes, "const", element=element or BY_NAME[dtype_name(v.dtype)])
        self._dense[buffer] = v.data
        return buffer

    def place_of(self, buffer: Buffer) -> Place:
        """Where the bytes of a constant lie; in place for one that this process owns and keeps in memory. Raises
        SegmentWriteError."""
        if buffer.place is not None:
            return buffer.place
        source = self._dense[buffer]
        data = np.ascontiguousarray(source)
        if self._draft.writer is None and data.flags.aligned and source_files.mapping_of(data) is None:
            return Resident(data)
        packed = self.pack(source, ("dense",), lambda: data, buffer.name, buffer.element).place
        assert packed is not None
        return packed

    def _place(self, data: np.ndarray, content: str, kind: str) -> Resident | Stored:
        draft = self._draft
        if draft.writer is None:
            store = aligned_empty(data.nbytes)
            np.copyto(store.view(data.dtype).reshape(data.shape), data)  # may be a transposed view: one pass
            return Resident(store)
        place = draft.writer.append(data)
        draft.kept[content] = place.offset, data.nbytes, kind
        return place


def _content_key(sources: Sequence[np.ndarray], recipe: tuple[Hashable, ...]) -> str:
    """Tells constants of one model apart in any process: a checksum of all bytes and a digest of the outermost ones."""
    digest = hashlib.blake2b(repr(recipe).encode(), digest_size=16)
    for a in sources:
        data = np.ascontiguousarray(a).reshape(-1).view(np.uint8).data
        head = f"{a.dtype.str} {a.shape} {zlib.crc32(data)} "
        digest.update(head.encode() + data[:EDGE] + data[-EDGE:])
    return digest.hexdigest()
