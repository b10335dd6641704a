"""Installed packages that bring operators: by an entry point of the group `graphc.operators`, whose value is the module that
registers them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from functools import lru_cache
from importlib import import_module

from graphc.documents import Stamp, stamp_of
from graphc.errors import GraphcWarning
from graphc.store import is_store, open_store

GROUP = "graphc.operators"
METADATA = (".dist-info", ".egg-info", ".egg-link")


@lru_cache(maxsize=1)
def load_installed() -> None:
    """Import what installed packages name as bringing operators. One that fails is a GraphcWarning: others go on."""
    for name, module in _entry_points():
        try:
            import_module(module)
        except Exception as error:
            said = f"operators of the installed package '{name}' are missing: {module}: {type(error).__name__}: {error}"
            warnings.warn(said, GraphcWarning, stacklevel=2)


def _entry_points() -> list[tuple[str, str]]:
    """(name, module) of each. Looking through all packages takes tens of milliseconds, so what was found is remembered, where there
    are kept models already: who wants no cache gets no folder."""
    store = open_store() if is_store() else None
    found = _scan() if store is None else store.remembered(f"{GROUP} {sys.path}", _stamp, _scan)
    return [(name, module) for name, module in json.loads(found)]


def _scan() -> str:
    from importlib.metadata import entry_points

    return json.dumps([[e.name, e.value.partition(":")[0]] for e in sorted(entry_points(group=GROUP))])


def _stamp() -> Stamp:
    """What changes when a package is installed, or removed: the folders of their metadata. Others change for many reasons."""
    stamps: list[tuple[str, str, Stamp]] = []
    for folder in dict.fromkeys(sys.path):
        try:
            with os.scandir(folder or ".") as entries:
                stamps += [(folder, e.name, stamp_of(e.stat())) for e in entries if e.name.endswith(METADATA)]
        except OSError:
            continue
    text = repr(sorted(stamps)).encode("utf-8", "surrogateescape")
    last = max((max(stamp[1:3]) for *_, stamp in stamps), default=0)
    return [len(stamps), last, last, int.from_bytes(hashlib.sha256(text).digest(), "big")]
