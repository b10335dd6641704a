"""A process that tries files: numbers come in by standard input, a line of JSON each goes out."""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphc.documents import cache_dir

from . import watch
from .attempt import Fault, attempt
from .make import make


def serve(seed: int) -> None:
    """Try files until standard input ends."""
    faulthandler.enable()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not disturb the lines
    watch.limit_memory()
    watch.start_clock()
    with tempfile.TemporaryDirectory(prefix="harm-") as temporary:
        watching = watch.Watch((Path(os.path.realpath(temporary)), Path(os.path.realpath(cache_dir())), Path("/dev")))
        for line in sys.stdin:
            i = int(line)
            out.write(json.dumps(_tried(seed, i, Path(os.path.realpath(temporary)), watching, out)) + "\n")


def _tried(seed: int, i: int, temporary: Path, watching: watch.Watch, out: Any) -> dict:
    def tell(at: str) -> None:
        out.write(json.dumps({"at": f"{label}: {at}"}) + "\n")

    place = temporary / str(i)
    folder = place / "folder"
    folder.mkdir(parents=True)
    label = "make"
    try:
        tell("start")
        harm = make(seed, i, folder)
        label = f"{harm.kind} {harm.name}"
        watch.wind_clock(True)
        watching.begin(folder)
        outcome, faults = attempt(harm, tell)
        faults += [Fault("watch", what, "") for what in dict.fromkeys(watching.end())]
    finally:
        watch.wind_clock(False)
        watching.end()
        shutil.rmtree(place, ignore_errors=True)
    return {"i": i, "kind": harm.kind, "name": harm.name, "outcome": outcome, "faults": [asdict(f) for f in faults]}
