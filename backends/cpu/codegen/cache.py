"""Machine code on disk: one object file per kernel, its readable source beside it.

The key holds everything that the code depends on (the kernel's specification, the text of the generators, the versions
of LLVM and Numba, the CPU), so an entry is either right or not found. Writes are atomic; a damaged entry (its checksum
differs) is rebuilt. What lies in a directory that may only be read is used; of what should be written there one warning tells.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from graphc import documents
from graphc.backends.cpu.target import Target
from graphc.documents import cache_dir, open_own, own_folder, own_root, write_atomic
from graphc.errors import GraphcWarning
from graphc.fingerprint import package_version

_MAGIC = b"graphc-object-1\n"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)  # as in a container, whose image brings the entries
SHARED = (
    "expr.py",
    "dtypes.py",
    "lower/block.py",
    "lower/kernel.py",
    "lower/limits.py",
    "lower/codes.py",
    "ops/_positions.py",
)  # of graphc/, what generators read


@lru_cache
def text_of_generators(backend: str) -> bytes:
    """A digest of a backend's own text, and of what generators share."""
    digest = hashlib.sha256()
    shared = [Path(documents.__file__).parent / name for name in SHARED]
    folders = [Path(__file__).parents[2] / name for name in (backend, "llvm")]
    for path in [*(p for folder in folders for p in sorted(folder.rglob("*.py"))), *shared]:
        digest.update(path.read_bytes())
    return digest.digest()


@lru_cache(maxsize=1)
def code_fingerprint() -> bytes:
    """Text of everything that generates code, and the versions of what compiles it."""
    digest = hashlib.sha256(text_of_generators("cpu"))
    for package in ("llvmlite", "numba"):
        digest.update(package_version(package))
    return digest.digest()


class ObjectCache:
    """Object files by key. `enabled=False` keeps nothing. fingerprint: of what the code depends on beside the target and its
    specification, where that is not `code_fingerprint`."""

    def __init__(self, target: Target, enabled: bool = True, fingerprint: bytes | None = None) -> None:
        self.target, self._fingerprint = target, fingerprint
        self._writes = enabled
        self.directory: Path | None = self._open() if enabled else None
        self.hits = self.misses = 0

    def _open(self) -> Path | None:
        directory: Path | str = "the user's cache folder"
        try:
            directory = cache_dir() / self.target.isa
            own_root()
            own_folder(directory)
            _require_room(directory)
        except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
            warnings.warn(
                f"no kernel cache: {directory} is not usable ({error}); every process compiles anew. "
                "Set GRAPHC_CACHE_DIR to a private, writable folder.",
                GraphcWarning,
                stacklevel=2,
            )
            return None
        return directory

    def path(self, name: str, spec: str) -> Path:
        """Of an entry. Needs a folder."""
        assert self.directory is not None
        made_by = code_fingerprint() if self._fingerprint is None else self._fingerprint
        key = hashlib.sha256(
            b"\0".join([made_by, self.target.cpu.encode(), self.target.features.encode(), spec.encode()])
        ).hexdigest()[:24]
        return self.directory / f"{name[:64]}-{key}.o"

    def has(self, name: str, spec: str) -> bool:
        """Whether there is an entry, damaged or not."""
        return self.directory is not None and self.path(name, spec).exists()

    def get(self, name: str, spec: str) -> bytes | None:
        """The object code, or None. A damaged entry is removed."""
        if self.directory is None:
            return None
        path = self.path(name, spec)
        try:
            with os.fdopen(open_own(path), "rb") as f:
                blob = f.read()
        except OSError:
            self.misses += 1
            return None
        head, code = blob[: len(_MAGIC) + 32], blob[len(_MAGIC) + 32 :]
        if head != _MAGIC + hashlib.sha256(code).digest():
            with suppress(OSError):  # the next one that is written takes its place
                path.unlink()
            self.misses += 1
            return None
        self.hits += 1
        return code

    def put(self, name: str, spec: str, code: bytes, source: str, suffix: str) -> None:
        """Keep object code and its readable source (`suffix` .ll or .py) beside it."""
        if self.directory is None or not self._writes:
            return
        path = self.path(name, spec)
        try:
            write_atomic(path.with_suffix(suffix), source.encode())
            write_atomic(path, _MAGIC + hashlib.sha256(code).digest() + code)
        except OSError as error:
            self._writes = False
            text = f"the kernel cache {self.directory} can't be written: {error}"
            if error.errno in READ_ONLY:
                text += "; every process compiles anew what is not there. `graphc compile MODEL` fills it beforehand"
            warnings.warn(text, GraphcWarning, stacklevel=2)


def _require_room(directory: Path) -> None:
    """Raises OSError where nothing can be written, but for a folder that may be read and has something to read."""
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        if error.errno not in READ_ONLY or next(directory.glob("*.o"), None) is None:
            raise
