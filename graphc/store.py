"""Compiled models on disk: one folder per model, found by everything that its machine code and weights follow from.

    models/<key>/model.json          signature, files that it was read from, what the other files hold
    models/<key>/plan-<key>.json     one binding of the input shapes
    models/<key>/weights-*.bin       packed constants, mapped by whoever runs the model
    models/<key>/code-*.so           kernels
    sources/<key>.json               content digest of a file, as long as its size, times and inode stay; and of graphc's own text

Documents are JSON behind a checksum; data files are named by documents that hold their digests. All writes are atomic,
and whoever writes holds the folder's lock. Nothing is ever unpickled. What is damaged is not found, and made anew.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from graphc.documents import (
    Stamp,
    cache_dir,
    content_digest,
    digest_of,
    forgiven,
    own_folder,
    own_root,
    read_document,
    stamp_of,
    write_document,
)
from graphc.errors import GraphcWarning
from graphc.model_folder import ModelFolder

MAX_GB = 8.0  # of all models together, unless GRAPHC_CACHE_MAX_GB says otherwise
SETTLED = 2_000_000_000  # ns: a file changed later than this before it was read may change again within one time stamp
MEMO_LIFE = 90 * 86400.0  # seconds
SCAN_LIFE = 86400.0  # seconds after which the sizes of all models are looked at again
ROOM = 0.9  # of the limit is what eviction leaves, so that the next model does not scan again


class Store:
    """The folder of all models. `open_store` gives the process's."""

    def __init__(self, root: Path) -> None:
        self.models, self.sources = own_folder(root / "models"), own_folder(root / "sources")
        self._ledger = _Ledger(root)
        self._sizes: dict[Path, int] = {}  # of folders that this process wrote

    def source_digest(self, path: Path) -> str:
        """`content_digest`, remembered as long as the file's stamp stays. Raises OSError."""
        return self.remembered(os.path.abspath(path), lambda: stamp_of(os.stat(path)), lambda: content_digest(path))

    def remembered(self, name: str, stamp: Callable[[], Stamp], make: Callable[[], str]) -> str:
        """The digest that `make` gives, remembered under a name as long as the stamp stays. Raises what these two raise."""
        now = stamp()
        memo = self.sources / f"{digest_of(name)}.json"
        known = read_document(memo)
        if known is not None and known["stamp"] == now:
            return known["digest"]
        digest = make()
        _, modified, changed, *_ = now
        if time.time_ns() - max(modified, changed) > SETTLED and stamp() == now:
            with forgiven():
                write_document(memo, {"stamp": now, "digest": digest})
        return digest

    def entry(self, key: str) -> ModelFolder:
        return ModelFolder(self, self.models / key)

    def wrote(self, folder: Path) -> None:
        """A model's folder has grown: make room where all models together have outgrown the limit."""
        with forgiven():
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
            with forgiven():
                entries.append((_last_use(folder), _size(folder), folder))
        total, limit = sum(size for _, size, _ in entries), _limit()
        room = limit if total <= limit else ROOM * limit
        for _, size, folder in sorted(entries):
            if total <= room:
                break
            if folder != keep and ModelFolder(self, folder).delete():
                total -= size
        for memo in self.sources.iterdir():
            with forgiven():
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


@lru_cache(maxsize=4)
def _store(root: Path) -> Store | None:
    """One warning for each root whose folders are not to be trusted; of those that can't be made the kernel cache warns."""
    try:
        return Store(root)
    except OSError as error:
        if error.errno is None:  # of `own_folder`
            warnings.warn(f"plans in {root} are not used: {error}", GraphcWarning, stacklevel=5)
        return None


def is_store() -> bool:
    """Is the folder there?"""
    try:
        return (cache_dir() / "models").is_dir()
    except (OSError, RuntimeError):
        return False


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
