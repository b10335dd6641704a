"""What was measured, on disk: a document per layer, under a key of everything that its time depends on."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphc.documents import digest_of, own_folder, own_root, read_document, write_document

LIFE = 90 * 86400.0  # seconds that a document stays

Times = dict[str, float]  # seconds, of each candidate


class Tuned:
    """Documents of times. facts: what all of them depend on, the machine and the text of what generates code. kept: is there a
    disk to look at?"""

    def __init__(self, facts: Sequence[str], kept: bool = True) -> None:
        self._facts = facts
        self._folder = _folder() if kept else None

    def read(self, layer: str) -> Times:
        """{} where there is nothing, or nothing that makes sense."""
        try:
            document = read_document(self._path(self._folder, layer)) if self._folder is not None else None
        except ValueError:  # no JSON
            return {}
        times = document.get("seconds") if isinstance(document, dict) and document.get("layer") == layer else None
        return times if isinstance(times, dict) and all(map(_is_time, times.values())) else {}

    def write(self, layer: str, times: Mapping[str, float]) -> None:
        """What can't be written is measured again; what is old is deleted."""
        if self._folder is None:
            return
        try:
            write_document(self._path(self._folder, layer), {"layer": layer, "seconds": dict(times)})
            for old in self._folder.iterdir():
                if old.stat().st_mtime < time.time() - LIFE:
                    old.unlink(missing_ok=True)
        except OSError:
            return

    def _path(self, folder: Path, layer: str) -> Path:
        return folder / f"{digest_of(chr(0).join([*self._facts, layer]))}.json"


def _folder() -> Path | None:
    """None where it can't be had: then nothing is kept."""
    try:
        return own_folder(own_root() / "tuned")
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None


def _is_time(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < math.inf
