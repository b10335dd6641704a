"""The cache's folder of one model: its documents, its data files, and the lock of whoever writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphc.documents import (
    digest_of_file,
    forgiven,
    open_own,
    own_folder,
    read_document,
    stamp_of,
    write_document,
)

if TYPE_CHECKING:
    from graphc.store import Store


class ModelFolder:
    """The folder of one model."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self._lock: int | None = None

    # --- reading -------------------------------------------------------------------------------------------------
    def model(self) -> dict[str, Any] | None:
        return read_document(self.folder / "model.json")

    def document(self, name: str) -> Any:
        """What `write` has written; None where there is none, whole."""
        return read_document(self.folder / f"{name}.json")

    def plan(self, key: str) -> dict[str, Any] | None:
        found = read_document(self.folder / f"plan-{key}.json")
        if found is not None:
            with forgiven():
                os.utime(self.folder / "used")
        return found

    def has_plans(self) -> bool:
        return next(self.folder.glob("plan-*.json"), None) is not None

    def has_plan(self, key: str) -> bool:
        return (self.folder / f"plan-{key}.json").exists()

    def plans(self, prefix: str) -> list[str]:
        """Keys of the plans that begin so."""
        return sorted(p.stem.removeprefix("plan-") for p in self.folder.glob(f"plan-{prefix}-*.json"))

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
            with forgiven():
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
        import tempfile

        fd, name = tempfile.mkstemp(dir=self.folder, prefix=".tmp-")
        return fd, Path(name)

    def adopt(self, temporary: Path, prefix: str, suffix: str, digest: str) -> tuple[str, dict[str, Any]]:
        """Give a finished file its name; what documents have to say of it."""
        name = f"{prefix}-{digest[:16]}{suffix}"
        os.replace(temporary, self.folder / name)
        return name, {"digest": digest, "stamp": stamp_of(os.stat(self.folder / name))}

    def write_model(self, content: dict[str, Any]) -> None:
        write_document(self.folder / "model.json", content)

    def write(self, name: str, content: Any) -> None:
        """A small document, where there is a folder already and it can be written."""
        if self.folder.is_dir():
            with forgiven():
                write_document(self.folder / f"{name}.json", content)

    def write_plan(self, key: str, content: dict[str, Any]) -> None:
        write_document(self.folder / f"plan-{key}.json", content)
        with forgiven():
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
        import shutil

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
