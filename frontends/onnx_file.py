"""Bytes -> ModelProto, with the weights left out of the message.

protobuf would copy every weight twice and refuse files above 2 GiB. So the file's outer fields are walked first
(ModelProto.graph.initializer.raw_data, by the wire format of https://protobuf.dev/programming-guides/encoding), large
`raw_data` is read straight into arrays, and protobuf parses what remains.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from graphc import source_files
from graphc.errors import LoadError
from graphc.source_files import Folder

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # field numbers in ModelProto, GraphProto, TensorProto
_LIFT = 1024  # bytes of raw_data from which a tensor is read apart from the message
_MOST_FIELDS = 4_000_000  # of a message and its graph: as many take seconds
_MOST_KEPT = (1 << 31) - 1  # bytes of a message that protobuf reads
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5


@dataclass(frozen=True)
class ModelFile:
    """A parsed model. `raw[i]`: the bytes of initializer i where they are not in the message any more."""

    proto: ModelProto
    file: str | None = None
    folder: Folder | None = None
    raw: dict[int, np.ndarray] = field(default_factory=dict)


_NOT_ONNX = (
    "pass a ModelProto file (.onnx); a model of TensorFlow becomes one by python -m tf2onnx.convert --saved-model FOLDER "
    "--output m.onnx (--graphdef FILE --inputs … --outputs … for a frozen graph)"
)


def read_model(source: str | os.PathLike | bytes | ModelProto) -> ModelFile:
    """A path, the bytes of a file, or a ModelProto. Raises LoadError when it can't be read or is not an ONNX model."""
    if isinstance(source, ModelProto):
        return _checked(ModelFile(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read(io.BytesIO(source), len(source), None)
    path = Path(source)
    try:
        memory = source_files.mapped(path)
        if memory is not None:
            memory.seek(0)
            return _read(memory, len(memory), path)
        source_files.note(path)
        with path.open("rb") as f:
            return _read(f, os.fstat(f.fileno()).st_size, path)
    except OSError as e:
        raise LoadError(f"can't read '{path}': {e.strerror or e}", hint="check the path and its permissions") from None


def _read(f: BinaryIO | mmap.mmap, size: int, path: Path | None) -> ModelFile:
    name = str(path) if path else None
    try:
        scan = _Scan(f, path)
        slim = scan.model(size)
        proto = ModelProto.FromString(slim)
    except (_Damaged, DecodeError) as e:
        if "MaxDepth" in str(e):
            hint = "branches, loops or functions within each other: protobuf reads 100 messages deep, about 30 branches"
            raise LoadError(f"{name or 'model'}: it is nested too deeply", hint=hint) from None
        what = f"not an ONNX model, or a damaged one ({e})" if size else "the file is empty"
        hint = "if it was downloaded, check that it is complete; Git LFS pointers are text files of about 130 bytes"
        if path is not None and path.suffix.lower() == ".pb":
            hint = _NOT_ONNX
        raise LoadError(f"{name or 'model'}: {what}", hint=hint) from None
    return _checked(ModelFile(proto, name, Folder.of(path) if path else None, scan.raw))


def _checked(model: ModelFile) -> ModelFile:
    name = model.file or "model"
    if not model.proto.HasField("graph"):
        raise LoadError(f"{name}: not an ONNX model: it has no graph", hint=_NOT_ONNX)
    if any(isinstance(text, bytes) for text in _texts(model.proto)):
        raise LoadError(f"{name}: a name in it is not UTF-8", hint="the file is damaged: export it again")
    return model


def _texts(proto: ModelProto) -> Iterator[str | bytes]:
    """Every text that conversion uses; protobuf hands out bytes where it is not UTF-8."""
    yield proto.producer_name
    yield proto.producer_version
    yield from (i.domain for i in proto.opset_import)
    yield from _texts_of_graph(proto.graph)
    for f in proto.functions:
        yield from (f.name, f.domain, getattr(f, "overload", ""), *f.input, *f.output, *f.attribute)
        yield from (i.domain for i in f.opset_import)
        yield from _texts_of_attributes(f.attribute_proto)
        yield from _texts_of_nodes(f.node)


def _texts_of_graph(graph: GraphProto) -> Iterator[str | bytes]:
    yield graph.name
    for info in (*graph.input, *graph.output):
        yield info.name
        yield from (d.dim_param for d in info.type.tensor_type.shape.dim)
    for tensor in (*graph.initializer, *(t.values for t in graph.sparse_initializer)):
        yield tensor.name
        yield from (text for e in tensor.external_data for text in (e.key, e.value))
    yield from _texts_of_nodes(graph.node)


def _texts_of_nodes(nodes: Iterable[NodeProto]) -> Iterator[str | bytes]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, getattr(node, "overload", ""), *node.input, *node.output)
        yield from _texts_of_attributes(node.attribute)


def _texts_of_attributes(attributes: Iterable[AttributeProto]) -> Iterator[str | bytes]:
    for a in attributes:
        yield a.name
        yield a.ref_attr_name
        if a.HasField("t"):
            yield a.t.name
        for g in (a.g, *a.graphs) if a.HasField("g") or a.graphs else ():
            yield from _texts_of_graph(g)


class _Damaged(Exception):
    pass


class _Scan:
    def __init__(self, f: BinaryIO | mmap.mmap, path: Path | None) -> None:
        self.f, self.path, self.count, self.kept, self.fields = f, path, 0, 0, 0
        self.raw: dict[int, np.ndarray] = {}

    def model(self, end: int) -> bytes:
        """The whole message without the large raw_data of its initializers."""
        return self._rewrite(end, _GRAPH, self._graph)

    def _graph(self, end: int) -> bytes:
        return self._rewrite(end, _INITIALIZER, self._initializer)

    def _initializer(self, end: int) -> bytes:
        index, self.count = self.count, self.count + 1
        out: list[bytes] = []
        for start, number, wire, length in self._fields(end):
            if number == _RAW_DATA and wire == _LEN and length >= _LIFT:
                self.raw[index] = self._bytes(length)
            else:
                out.append(self._copy(start, length))
        return b"".join(out)

    def _bytes(self, length: int) -> np.ndarray:
        data = source_files.take(self.path, self.f.tell(), length) if self.path is not None else None
        if data is None:
            data = np.frombuffer(self.f.read(length), np.uint8)
            if data.size != length:
                raise _Damaged("it became shorter while it was read")
        return data

    def _rewrite(self, end: int, target: int, inner: Callable[[int], bytes]) -> bytes:
        """The message up to `end`, with each submessage of field `target` rewritten by `inner`."""
        out: list[bytes] = []
        for start, number, wire, length in self._fields(end):
            if number == target and wire == _LEN:
                body = inner(self.f.tell() + length)
                out += (_varint(number << 3 | _LEN), _varint(len(body)), body)
            else:
                out.append(self._copy(start, length))
        return b"".join(out)

    def _fields(self, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(start of the key, field number, wire type, length of what follows); the file stands after the key."""
        while (start := self.f.tell()) < end:
            self.fields += 1
            if self.fields > _MOST_FIELDS:
                raise LoadError(
                    f"{self.path or 'model'}: its graph has more than {_MOST_FIELDS} entries",
                    hint="no model has as many nodes and weights: the file is damaged, or means harm",
                )
            key = self._read_varint(end)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise _Damaged(f"field number 0 at byte {start}")
            if wire == _LEN:
                length = self._read_varint(end)
            elif wire == _VARINT:
                at = self.f.tell()
                self._read_varint(end)
                length = self.f.tell() - at
                self.f.seek(at)
            elif wire in (_I64, _I32):
                length = 8 if wire == _I64 else 4
            else:
                raise _Damaged(f"wire type {wire} at byte {start}")
            stop = self.f.tell() + length
            if stop > end:
                raise _Damaged(
                    f"field {number} at byte {start} ends at byte {stop}, after the end of its message, {end}"
                )
            yield start, number, wire, length
            self.f.seek(stop)

    def _copy(self, start: int, length: int) -> bytes:
        stop = self.f.tell() + length
        self.kept += stop - start
        if self.kept > _MOST_KEPT:
            raise LoadError(
                f"{self.path or 'model'}: it holds more than 2 GiB besides the weights of its graph, which protobuf does not read",
                hint="save it with external data, and large constants of nodes as initializers",
            )
        self.f.seek(start)
        return self.f.read(stop - start)

    def _read_varint(self, end: int) -> int:
        value = shift = 0
        while self.f.tell() < end and shift < 64:
            byte = self.f.read(1)
            if not byte:
                raise _Damaged("it became shorter while it was read")
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
            shift += 7
        raise _Damaged(f"a number without end at byte {self.f.tell()}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
