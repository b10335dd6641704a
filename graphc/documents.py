"""Files that only this user may have written, documents with a checksum, digests and stamps: what the cache is made of."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphc.errors import GraphcWarning

FORMAT = b"graphc-document-1\n"


def cache_dir() -> Path:
    """`GRAPHC_CACHE_DIR`, or graphc under the user's cache folder. Raises RuntimeError where the user has no home."""
    root = os.environ.get("GRAPHC_CACHE_DIR")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphc"


def own_folder(directory: Path) -> Path:
    """Make a folder that only this user (or the superuser) may write into. Raises OSError where that can't be had."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _require_own(directory.stat())
    return directory


def own_root() -> Path:
    """`cache_dir()`, made where it is not there. Others may write into it only as into /tmp, where they can't touch what is not
    theirs. Raises OSError and what `cache_dir` does."""
    root = cache_dir()
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    info = root.stat()
    _require_own(info, writable=bool(info.st_mode & stat.S_ISVTX))
    return root


def _require_own(info: os.stat_result, writable: bool = False) -> None:
    """Raises PermissionError for what another user than this one and the superuser owns or may change. Machine code that the
    superuser runs must be the superuser's."""
    if info.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"it belongs to another user ({info.st_uid})")
    if info.st_mode & 0o022 and not writable:
        raise PermissionError("others may put code into it: chmod go-w")


def open_own(path: Path) -> int:
    """A descriptor of a file of the cache, for reading. Owner and modes of the file and of its folder are looked at on what has
    been opened, so that nothing can be put in its place in between.

    Raises OSError; PermissionError, once with a warning, where others could have written it.
    """
    plain = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    folder = os.open(path.parent, plain | os.O_DIRECTORY)
    try:
        _require_own(os.fstat(folder))
        fd = os.open(path.name, plain | os.O_NONBLOCK, dir_fd=folder)
        try:
            info = os.fstat(fd)
            _require_own(info)
            if not stat.S_ISREG(info.st_mode):
                raise PermissionError("it is no regular file")
        except BaseException:
            os.close(fd)
            raise
    except PermissionError as error:
        _say_unused(path.parent, str(error.strerror or error))
        raise
    finally:
        os.close(folder)
    return fd


@lru_cache(maxsize=64)
def _say_unused(folder: Path, reason: str) -> None:
    """Once for each folder."""
    warnings.warn(f"a file of the cache in {folder} is not used: {reason}", GraphcWarning, stacklevel=4)


def write_atomic(path: Path, data: bytes) -> None:
    import tempfile

    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_document(path: Path, content: dict[str, Any]) -> None:
    body = json.dumps(content, separators=(",", ":")).encode()
    write_atomic(path, FORMAT + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def read_document(path: Path) -> dict[str, Any] | None:
    """None where there is none, or it is damaged."""
    try:
        with os.fdopen(open_own(path), "rb") as f:
            blob = f.read()
    except OSError:
        return None
    head, body = blob[: len(FORMAT) + 65], blob[len(FORMAT) + 65 :]
    if head != FORMAT + hashlib.sha256(body).hexdigest().encode() + b"\n":
        return None
    return json.loads(body)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]  # names of files may be any bytes


Stamp = list[int]  # bytes, times of the last change of content and of anything (ns), and what else tells files apart


def stamp_of(info: os.stat_result) -> Stamp:
    """What changes when a file's content does, as far as the file system tells."""
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev]


def content_digest(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return digest_of_file(fd)
    finally:
        os.close(fd)


def digest_of_file(fd: int) -> str:
    """SHA-256 of the bytes of an open file, from its start. Raises OSError."""
    digest = hashlib.sha256()
    block = memoryview(bytearray(1 << 20))
    at = 0
    while n := os.preadv(fd, [block], at):
        digest.update(block[:n])
        at += n
    return digest.hexdigest()


@contextmanager
def forgiven() -> Iterator[None]:
    """The cache is a help: what can't be read, written or deleted (another process did it, the disk is full or may not
    be written) is done without."""
    try:
        yield
    except OSError:
        return
