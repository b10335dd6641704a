"""Compile a model into one file, `model.gcm` (see container.py), for one instruction set or several."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphc.artefact.abi import abi, version
from graphc.artefact.container import write
from graphc.artefact.planned import Planned, Shapes, planned, require_system, write_whole
from graphc.backend import Progress
from graphc.backends.cpu.target import AVX512
from graphc.coded_arrays import pack_bytes
from graphc.reading import AS_IT_IS, Reading


def build(
    source: Any,
    path: str | os.PathLike[str],
    *,
    targets: Sequence[str] = ("cpu",),
    shapes: Sequence[Shapes] = (),
    samples: Sequence[Mapping[str, Any]] = (),
    coded: bool = False,
    reading: Reading = AS_IT_IS,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """See `graphc.build`; gives the header of the file. options: as of `graphc.compile`, of target cpu."""
    system = require_system()
    parts: dict[str, Path | bytes] = {}
    described: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="graphc-build-") as root:
        for number, target in enumerate(dict.fromkeys(targets)):
            made = planned(source, target, Path(root, str(number)), shapes, reading, progress, options, samples=samples)
            described.append(_described(made, parts, coded))
        described.sort(key=lambda d: -len(d["needs"]))
        header = {
            "abi": abi(),
            "graphc": version(),
            "system": system,
            "signature": made.signature.to_json(),
            "shapes": [_text(given) for given in shapes],
            "targets": described,
        }
        write_whole(Path(path), lambda f: write(f, header, parts))
    return header


def _described(made: Planned, parts: dict[str, Path | bytes], coded: bool) -> dict[str, Any]:
    """One target's part of the header; what it consists of is added to `parts`."""
    document, target = made.document, made.backend.target
    for name in (*document["weights"], *document["code"]):
        parts[name] = made.entry.folder / name
    packed = {n: p for n in document["weights"] if coded and (p := _coded(made.entry.folder / n))}
    parts |= packed
    plans = {key: f"{target} {key}" for key in made.keys}
    for key, name in plans.items():
        parts[name] = json.dumps(made.entry.plan(key), separators=(",", ":")).encode()
    return {
        "target": _public(target),
        "needs": made.needs,
        "threads": made.backend.options.threads,
        "documents": plans,
        "weights": {n: {"coded": True} if n in packed else {} for n in document["weights"]},
        "code": {n: {"digest": f["digest"], "symbols": f["symbols"]} for n, f in document["code"].items()},
    }


def _coded(weights: Path) -> bytes | None:
    """None where codes take less than a quarter off: what is mapped starts faster, and processes share it."""
    data = weights.read_bytes()
    packed = pack_bytes(data)
    return packed if packed is not None and len(packed) < 0.75 * len(data) else None


def _public(target: str) -> str:
    """As a person names it."""
    return target.replace(AVX512, "avx512")


def _text(shapes: Shapes) -> str:
    return " ".join(f"{n}={','.join(map(_size_text, dims))}" for n, dims in shapes.items())


def _size_text(d: Any) -> str:
    return f"{d.start}..{d.stop - 1}" if isinstance(d, range) else str(d)
