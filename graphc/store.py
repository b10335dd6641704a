"""Compiled models on disk: one folder per model, found by everything that its machine code and weights follow from.

    models/<key>/model.json          signature, files that it was read from, what the other files hold
    models/<key>/plan-<key>.json     one binding of the input shapes
    models/<key>/weights-*.bin       packed constants, mapped by whoever runs the model
    models/<key>/code-*.so           kernels
    sources/<key>.json               content digest of a file, as long as its size, times and inode stay

Documents are JSON behind a checksum; data files are named by documents that hold their digests. All writes are atomic,
and whoever writes holds the folder's lock. Nothing is ever unpickled. What is damaged is not found, and made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from graphc.errors import GraphcWarning

FORMAT = b"graphc-document-1\n"
MAX_GB = 8.0  # of all models together, unless GRAPHC_CACHE_MAX_GB says otherwise
SETTLED = 2_000_000_000  # ns: a file changed later than this before it was read may change again within one time stamp
MEMO_LIFE = 90 * 86400.0  # seconds
SCAN_LIFE = 86400.0  # seconds after which the sizes of all models are looked at again
ROOM = 0.9  # of the limit is what eviction leaves, so that the next model does not scan again
_PACKAGES = ("numpy", "numba", "llvmlite", "onnx", "ml_dtypes", "yaml", "safetensors")


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


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Of graphc's own text and of the packages that it computes with."""
    digest = hashlib.sha256(sys.version.encode())
    root = os.path.dirname(os.path.abspath(__file__))
    for folder, below, files in os.walk(root, followlinks=True):  # in a checkout, frontends and backends are links
        below[:] = sorted(d for d in below if d != "__pycache__")
        for name in sorted(f for f in files if f.endswith(".py")):
            with open(os.path.join(folder, name), "rb") as f:
                digest.update(name.encode() + b"\0" + f.read())
    for package in _PACKAGES:
        digest.update(package_version(package))
    return digest.hexdigest()


def package_version(package: str) -> bytes:
    """What tells versions of a package apart, without importing it (importlib.metadata is slow to load)."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return b"none"
    for name in ("_version.py", "version.py", "version.txt"):
        path = os.path.join(os.path.dirname(spec.origin), name)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                return f.read()
    info = os.stat(spec.origin)
    return f"{info.st_size} {info.st_mtime_ns}".encode()


# --- documents --------------------------------------------------------------------------------------------------------
def write_atomic(path: Path, data: bytes) -> None:
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


def stamp_of(info: os.stat_result) -> list[int]:
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


# --- the store --------------------------------------------------------------------------------------------------------
class Store:
    """The folder of all models. `open_store` gives the process's."""

    def __init__(self, root: Path) -> None:
        self.models, self.sources = own_folder(root / "models"), own_folder(root / "sources")
        self._ledger = _Ledger(root)
        self._sizes: dict[Path, int] = {}  # of folders that this process wrote

    def source_digest(self, path: Path) -> str:
        """`content_digest`, remembered as long as the file's stamp stays. Raises OSError."""
        stamp = stamp_of(os.stat(path))
        memo = self.sources / f"{digest_of(os.path.abspath(path))}.json"
        known = read_document(memo)
        if known is not None and known["stamp"] == stamp:
            return known["digest"]
        digest = content_digest(path)
        newest = max(stamp[1], stamp[2])
        if time.time_ns() - newest > SETTLED and stamp_of(os.stat(path)) == stamp:
            with _forgiven():
                write_document(memo, {"stamp": stamp, "digest": digest})
        return digest

    def entry(self, key: str) -> ModelFolder:
        return ModelFolder(self, self.models / key)

    def wrote(self, folder: Path) -> None:
        """A model's folder has grown: make room where all models together have outgrown the limit."""
        with _forgiven():
            size = _size(folder)
            self._ledger.add(size - self._sizes.get(folder, 0))
            self._sizes[folder] = size
            if self._ledger.total() > _limit():
                self._evict(folder)

    def _evict(self, keep: Path) -> None:
        """Delete the models that were used longest ago until the rest fits with some room, and memos of files not seen for
        long."""
        entries = []
        for folder in self.models.iterdir():
            with _forgiven():
                entries.append((_last_use(folder), _size(folder), folder))
        total, limit = sum(size for _, size, _ in entries), _limit()
        room = limit if total <= limit else ROOM * limit
        for _, size, folder in sorted(entries):
            if total <= room:
                break
            if folder != keep and ModelFolder(self, folder).delete():
                total -= size
        for memo in self.sources.iterdir():
            with _forgiven():
                if memo.stat().st_mtime < time.time() - MEMO_LIFE:
                    memo.unlink()
        self._ledger.restart(total)


class _Ledger:
    """How many bytes all models take, without looking at each: what a scan found, and what was written since.

    Each writer appends a byte per UNIT to a file, whose size is the sum: appending is atomic, and processes need no lock. The
    estimate is too large where files were replaced or deleted; then a scan comes early and puts it right.
    """

    UNIT = 1 << 14  # bytes

    def __init__(self, root: Path) -> None:
        self._scan, self._written = root / "scan.json", root / "written"

    def add(self, nbytes: int) -> None:
        fd = os.open(self._written, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, bytes(max(0, -(-nbytes // self.UNIT))))
        finally:
            os.close(fd)

    def total(self) -> float:
        """Infinite where no scan is known, or it was long ago."""
        scan = read_document(self._scan)
        if scan is None or not 0 <= time.time() - scan["time"] < SCAN_LIFE:
            return float("inf")
        return scan["bytes"] + os.stat(self._written).st_size * self.UNIT

    def restart(self, nbytes: int) -> None:
        write_document(self._scan, {"bytes": nbytes, "time": time.time()})
        os.truncate(self._written, 0)


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in os.scandir(folder))


def _limit() -> float:
    text = os.environ.get("GRAPHC_CACHE_MAX_GB")
    try:
        return (float(text) if text else MAX_GB) * 1e9
    except ValueError:
        warnings.warn(
            f"GRAPHC_CACHE_MAX_GB is '{text}', which is no number; the limit is {MAX_GB:g}", GraphcWarning, stacklevel=2
        )
        return MAX_GB * 1e9


def _last_use(folder: Path) -> float:
    used = folder / "used"
    return (used if used.exists() else folder).stat().st_mtime


@contextmanager
def _forgiven() -> Iterator[None]:
    """The cache is a help: what can't be read, written or deleted (another process did it, the disk is full or may not
    be written) is done without."""
    try:
        yield
    except OSError:
        return


class ModelFolder:
    """The folder of one model."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self._lock: int | None = None

    # --- reading -------------------------------------------------------------------------------------------------
    def model(self) -> dict[str, Any] | None:
        return read_document(self.folder / "model.json")

    def plan(self, key: str) -> dict[str, Any] | None:
        found = read_document(self.folder / f"plan-{key}.json")
        if found is not None:
            with _forgiven():
                os.utime(self.folder / "used")
        return found

    def open_intact(self, name: str, facts: dict[str, Any]) -> int | None:
        """A descriptor of a data file, where it is what it was when `adopt` described it. Its bytes are read only where its
        stamp differs. Raises OSError."""
        path = self.folder / name
        fd = open_own(path)
        try:
            if self._is_intact(fd, path, facts):
                fd, kept = -1, fd
                return kept
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def intact(self, name: str, facts: dict[str, Any]) -> bool:
        """Could `open_intact` open it?"""
        try:
            fd = self.open_intact(name, facts)
        except OSError:
            return False
        if fd is not None:
            os.close(fd)
        return fd is not None

    def _is_intact(self, fd: int, path: Path, facts: dict[str, Any]) -> bool:
        stamp = stamp_of(os.fstat(fd))
        if stamp == facts["stamp"]:
            return True
        known = read_document(path.with_suffix(".json"))
        if known is not None and known["stamp"] == stamp:
            return known["digest"] == facts["digest"]
        if stamp[0] != facts["stamp"][0]:
            return False
        digest = digest_of_file(fd)
        if digest == facts["digest"]:
            with _forgiven():
                write_document(path.with_suffix(".json"), {"stamp": stamp, "digest": digest})
        return digest == facts["digest"]

    # --- writing -------------------------------------------------------------------------------------------------
    def lock(self) -> bool:
        """Take the folder for writing; False, at once, where another process has it or it may not be written."""
        import fcntl

        if self._lock is not None:
            return True
        fd = None
        try:
            own_folder(self.folder)
            fd = os.open(self.folder / "used", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if fd is not None:
                os.close(fd)
            return False
        self._lock = fd
        return True

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def temporary(self) -> tuple[int, Path]:
        """An open file of the folder, and its name, which nothing refers to yet."""
        fd, name = tempfile.mkstemp(dir=self.folder, prefix=".tmp-")
        return fd, Path(name)

    def adopt(self, temporary: Path, prefix: str, suffix: str, digest: str) -> tuple[str, dict[str, Any]]:
        """Give a finished file its name; what documents have to say of it."""
        name = f"{prefix}-{digest[:16]}{suffix}"
        os.replace(temporary, self.folder / name)
        return name, {"digest": digest, "stamp": stamp_of(os.stat(self.folder / name))}

    def write_model(self, content: dict[str, Any]) -> None:
        write_document(self.folder / "model.json", content)

    def write_plan(self, key: str, content: dict[str, Any]) -> None:
        write_document(self.folder / f"plan-{key}.json", content)
        with _forgiven():
            os.utime(self.folder / "used")

    def trim(self, plans: int) -> None:
        """Leave room for one more: delete the oldest plans above that number."""
        found = sorted(self.folder.glob("plan-*.json"), key=lambda p: p.stat().st_mtime)
        for p in found[: max(0, len(found) - plans)]:
            p.unlink(missing_ok=True)

    def sweep(self, named: set[str]) -> None:
        """Delete data that no document names: of processes that died, of entries that were damaged."""
        stems = {name.partition(".")[0] for name in named}
        for f in os.scandir(self.folder):
            mine = f.name.startswith(("weights-", "code-", ".tmp-"))
            if mine and f.name.partition(".")[0] not in stems:
                os.unlink(f.path)

    def delete(self) -> bool:
        """The whole folder, unless another process is writing to it. Who has mapped its files keeps them."""
        if not self.lock():
            return False
        try:
            away = self.folder.with_name(f".gone-{os.getpid()}-{self.folder.name}")
            os.rename(self.folder, away)
            shutil.rmtree(away, ignore_errors=True)
        except OSError:
            return False
        finally:
            self.unlock()
        return True


@lru_cache(maxsize=4)
def _store(root: Path) -> Store | None:
    """One warning for each root whose folders are not to be trusted; of those that can't be made the kernel cache warns."""
    try:
        return Store(root)
    except OSError as error:
        if error.errno is None:  # of `own_folder`
            warnings.warn(f"plans in {root} are not used: {error}", GraphcWarning, stacklevel=5)
        return None


def open_store() -> Store | None:
    """The process's store, or None where its folder can't be used (of which the kernel cache warns) or locked."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return None
    try:
        return _store(own_root())
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None
