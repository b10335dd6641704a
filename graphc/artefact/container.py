"""The file: a header of JSON, then its parts, each on a page of its own, so that it can be mapped.

    16 bytes  MAGIC
     8        bytes of the header
     8        bytes of the file
    32        SHA-256 of the header
    …         header: {"abi": …, "parts": {name: [offset, bytes, digest]}, and what the writer says}

The header is compared with its digest when the file is opened, a part when it is read. The digest of a part is the SHA-256 of the
digests of its pieces, which several threads look at. It guards against accidents, not against people.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from graphc.documents import stamp_of
from graphc.errors import LoadError

MAGIC = b"graphc-model\n\0\0\0"
HEAD = struct.Struct("<16sQQ32s")
PAGE = 4096
PIECE = 4 << 20  # bytes


class Container:
    """An open file. `header` is what its writer said, `digest` that of the header, with which those of all parts are."""

    def __init__(self, path: Path) -> None:
        """Raises LoadError for a file that is none, or is damaged; OSError."""
        self.path = path
        self._file = open(path, "rb")  # noqa: SIM115  (parts are read as long as the model lives)
        head = self._file.read(HEAD.size)
        if len(head) < HEAD.size or not head.startswith(MAGIC):
            raise LoadError(f"'{path}' is no file that `graphc build` wrote")
        _, length, total, digest = HEAD.unpack(head)
        actual = os.fstat(self._file.fileno()).st_size
        if actual != total:
            raise damaged(path, f"it has {actual} bytes and should have {total}")
        text = self._file.read(min(length, actual))
        if hashlib.sha256(text).digest() != digest:
            raise damaged(path, "its header is not what was written")
        self.digest = digest.hex()
        self.header: dict[str, Any] = json.loads(text)
        self._parts: dict[str, tuple[int, int, str]] = self.header["parts"]

    def fileno(self) -> int:
        return self._file.fileno()

    def extent(self, name: str) -> tuple[int, int]:
        """Offset and bytes of a part; what is mapped there is compared with its digest by `check_mapped`."""
        offset, nbytes, _ = self._parts[name]
        return offset, nbytes

    def check_mapped(self, name: str) -> None:
        """The digest of a part that is mapped: bytes are not read again for it as long as the file's stamp stays, where there is a
        cache folder to remember it in. Raises LoadError, OSError."""
        from graphc.store import open_store

        offset, nbytes = self.extent(name)

        def digest() -> str:
            with (
                mmap.mmap(self.fileno(), nbytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=offset) as mapped,
                memoryview(mapped) as data,
            ):
                return digest_of_pieces(data)

        store = open_store()
        if store is None:
            self._compare(name, digest())
        else:
            key = f"{os.path.abspath(self.path)} {name}"
            self._compare(name, store.remembered(key, lambda: stamp_of(os.fstat(self.fileno())), digest))

    def _compare(self, name: str, digest: str) -> None:
        if digest != self._parts[name][2]:
            raise damaged(self.path, f"'{name}' in it is not what was written")

    def read(self, name: str) -> bytes:
        """Raises LoadError, OSError."""
        offset, nbytes = self.extent(name)
        data = os.pread(self.fileno(), nbytes, offset)
        self._compare(name, digest_of_pieces(memoryview(data)))
        return data


def damaged(path: Path, what: str) -> LoadError:
    return LoadError(f"'{path}' is damaged: {what}", hint="copy it again, or build it again")


def write(f: IO[bytes], header: Mapping[str, Any], parts: Mapping[str, Path | bytes]) -> None:
    """parts: files, or their content. Raises OSError."""
    described: dict[str, tuple[int, int, str]] = {}
    sizes = {name: len(p) if isinstance(p, bytes) else p.stat().st_size for name, p in parts.items()}
    digests = {name: _digest(p) for name, p in parts.items()}

    def text(start: int) -> bytes:
        at = start
        for name in parts:
            described[name] = at, sizes[name], digests[name]
            at = _aligned(at + sizes[name])
        return json.dumps({**header, "parts": described}, separators=(",", ":")).encode()

    start = _aligned(HEAD.size + len(text(1 << 60)))  # with numbers as long as any
    body = text(start)
    end = max((at + n for at, n, _ in described.values()), default=start)
    f.write(HEAD.pack(MAGIC, len(body), _aligned(end), hashlib.sha256(body).digest()) + body)
    f.write(bytes(start - HEAD.size - len(body)))
    for name, part in parts.items():
        f.write(part if isinstance(part, bytes) else part.read_bytes())
        f.write(bytes(-sizes[name] % PAGE))


def _digest(part: Path | bytes) -> str:
    if isinstance(part, bytes):
        return digest_of_pieces(memoryview(part))
    with open(part, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as data:
        return digest_of_pieces(data)


def _aligned(n: int) -> int:
    return -(-n // PAGE) * PAGE


def digest_of_pieces(data: memoryview) -> str:
    """Threads share the pieces of what is long: hashlib lets go of the interpreter."""
    pieces = [data[i : i + PIECE] for i in range(0, len(data), PIECE)]
    return hashlib.sha256(b"".join(_all(pieces))).hexdigest()


def _all(pieces: Sequence[memoryview]) -> list[bytes]:
    if len(pieces) < 4:
        return [hashlib.sha256(p).digest() for p in pieces]
    from concurrent.futures import ThreadPoolExecutor

    from graphc.backends.cpu.hardware import cpu_count

    with ThreadPoolExecutor(cpu_count()) as pool:
        return [*pool.map(lambda p: hashlib.sha256(p).digest(), pieces)]
