"""Compile a model into one file, `model.gcm` (see container.py), for one instruction set or several."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import IO, Any

from graphc import __version__
from graphc.artefact.abi import abi
from graphc.artefact.container import write
from graphc.backend import Request
from graphc.backends.cpu.backend import CpuBackend
from graphc.backends.cpu.options import CpuOptions
from graphc.backends.cpu.target import AVX512, EXTRAS, detect
from graphc.compiler import Compilation, located
from graphc.errors import InputError, UnsupportedError
from graphc.model import Model
from graphc.model_folder import ModelFolder
from graphc.origin import origin_of
from graphc.reading import AS_IT_IS, Reading
from graphc.report import Plan
from graphc.signature import Signature, Spec
from graphc.store import Store

Shapes = Mapping[str, "Sequence[int | range]"]
MOST_SIZES = 100_000
_V3 = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe")  # as Linux calls them
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_LINUX = dict(zip(EXTRAS, ("avx512_vnni", "avx512vbmi", "avx512_bf16")))
NEEDS = {"portable": (), "avx2": _V3, AVX512: _V4}


class _Building(Compilation):
    """A compilation whose plans go to a folder of its own."""

    def __init__(
        self, source: Any, target: str, request: Request, backend: CpuBackend, reading: Reading, to: ModelFolder
    ):
        self.entry = to
        super().__init__(origin_of(located(source), copy=False), target, request, backend, reading)

    def _find(self) -> Signature:
        signature = self._sign()
        self.backend.keep_in(self.entry, {"signature": {}, "files": [], "weights": {}, "code": {}})
        return signature


def build(
    source: Any,
    path: str | os.PathLike[str],
    *,
    targets: Sequence[str] = ("cpu",),
    shapes: Sequence[Shapes] = (),
    reading: Reading = AS_IT_IS,
    progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """See `graphc.build`; gives the header of the file. options: as of `graphc.compile`, of target cpu."""
    if hasattr(os, "uname") and (sys.platform, os.uname().machine) != ("linux", "x86_64"):
        raise UnsupportedError("files can be built on Linux on x86-64 only")
    parts: dict[str, Path | bytes] = {}
    described: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="graphc-build-") as root:
        for number, target in enumerate(dict.fromkeys(targets)):
            backend = _backend(target, options, progress)
            entry = Store(Path(root, str(number))).entry("model")
            request = Request(options=options, progress=progress)
            compilation = _Building(source, backend.target, request, backend, reading, entry)
            _require_plain(compilation.signature)
            model = Model(compilation, {"target": target})
            sets = shapes or [{}]
            for given in sets:
                _require_native(_plan(model, given), entry, compilation.signature.name)
            described.append(_described(backend, entry, parts))
        described.sort(key=lambda d: -len(d["needs"]))
        header = {
            "abi": abi(),
            "graphc": __version__,
            "system": f"{sys.platform} on {os.uname().machine}",
            "signature": compilation.signature.to_json(),
            "shapes": [_text(compilation.signature, given) for given in sets],
            "targets": described,
        }
        _write_whole(Path(path), lambda f: write(f, header, parts))
    return header


def _write_whole(path: Path, content: Callable[[IO[bytes]], object]) -> None:
    """A file that is there whole or not at all. Raises InputError."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".graphc-", delete=False) as f:
            try:
                content(f)
                f.flush()
                os.chmod(f.name, 0o644)
                os.replace(f.name, path)
            except BaseException:
                os.unlink(f.name)
                raise
    except OSError as error:
        raise InputError(f"can't write '{path}': {error.strerror or error}") from None


def _backend(target: str, options: Mapping[str, Any], progress: Any) -> CpuBackend:
    """For a person's target: code for 'cpu' is for what this CPU has, that for a named set for all CPUs with it."""
    kind, _, isa = target.partition(":")
    if kind != "cpu":
        raise UnsupportedError(
            f"files are built for target cpu, not '{target}'", hint="one of: cpu, cpu:avx512, cpu:avx2, cpu:portable"
        )
    host = detect(isa or None)
    name = host.isa
    if name == "avx512":
        extras = [e for e in EXTRAS if f"+{e}" in host.features.split(",")]
        name = "+".join([AVX512, *([] if isa else extras)])
    request = Request(variant=name, options=options, progress=progress)
    return CpuBackend(CpuOptions.parse(request), progress=progress)


def _require_plain(signature: Signature) -> None:
    """Raises UnsupportedError for what a file can't hold."""
    for spec in (*signature.inputs, *signature.outputs):
        if spec.content is not None:
            raise UnsupportedError(
                f"'{spec.name}' is no tensor, but {spec.content}, which a built file can't take or give"
            )
    if signature.valued:
        names = ", ".join(f"'{n}'" for n in signature.valued)
        raise UnsupportedError(
            f"shapes follow from the values of {names}: each value has a plan", hint="make them constants of the model"
        )


def _plan(model: Model, shapes: Shapes) -> Plan:
    """Plans for these shapes alone, and where dims are open for as many as they serve; of ranges, for all sizes within. What one
    of them tells. Raises InputError."""
    open_ones = [s for s in model.inputs if not s.is_static]
    if open_ones and not shapes:
        raise InputError(
            f"dims of the inputs are open: {', '.join(map(str, open_ones))}",
            hint=f"give sizes, or ranges: --shapes '{' '.join(_example(s) for s in open_ones)}'",
        )
    if not open_ones:
        return model.plan()
    every = list(_sizes_within(shapes))
    if len(every) == 1:
        model.prepare(every[0])
    for given in every:
        model.prepare(given, many=True)
    return model.plan(every[0])


def _sizes_within(shapes: Shapes) -> Iterator[dict[str, tuple[int, ...]]]:
    """Each set of shapes that ranges stand for."""
    choices = {n: [d if isinstance(d, range) else (d,) for d in dims] for n, dims in shapes.items()}
    count = math.prod(len(c) for dims in choices.values() for c in dims)
    if count > MOST_SIZES:
        raise InputError(f"ranges of sizes stand for {count} sets of shapes, and {MOST_SIZES} is the most")
    ranks = [len(dims) for dims in choices.values()]
    for sizes in product(*(c for dims in choices.values() for c in dims)):
        rest = iter(sizes)
        yield {n: tuple(islice(rest, rank)) for n, rank in zip(choices, ranks)}


def _example(spec: Spec) -> str:
    dims = spec.shape or ()
    return f"{spec.name}={','.join(str(d) if isinstance(d, int) else '1..8' for d in dims)}"


def _require_native(plan: Plan, entry: ModelFolder, name: str) -> None:
    """Raises UnsupportedError for a plan that could not be kept."""
    hosts = [f"{op} '{node}'" for s in plan.steps if s.host for op, node in zip(s.ops, s.nodes)]
    waiting = [f"{p.op} '{p.node}'" for p in plan.pending]
    if hosts or waiting:
        what = "NumPy computes" if hosts else "data decides the shapes of, or whether to run,"
        raise UnsupportedError(
            f"'{name}' has nodes that {what}, which a built file can't hold: {_few(hosts or waiting)}",
            hint="graphc explain MODEL says why",
        )
    if not entry.has_plans():
        raise UnsupportedError(f"the plan of '{name}' can't be kept: a result is a constant of the model")


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _described(backend: CpuBackend, entry: ModelFolder, parts: dict[str, Path | bytes]) -> dict[str, Any]:
    """One target's part of the header; what it consists of is added to `parts`."""
    document = entry.model()
    assert document is not None
    level, *extras = str(backend.machine).partition(":")[2].split("+")
    for name in (*document["weights"], *document["code"]):
        parts[name] = entry.folder / name
    plans: dict[str, str] = {}
    for file in sorted(entry.folder.glob("plan-*.json")):
        key = file.stem.removeprefix("plan-")
        plans[key] = f"{backend.target} {key}"
        parts[plans[key]] = json.dumps(entry.plan(key), separators=(",", ":")).encode()
    return {
        "target": _public(backend.target),
        "needs": [*NEEDS[level], *(_LINUX[e] for e in extras)],
        "threads": backend.options.threads,
        "documents": plans,
        "weights": {n: {} for n in document["weights"]},
        "code": {n: {"digest": f["digest"], "symbols": f["symbols"]} for n, f in document["code"].items()},
    }


def _public(target: str) -> str:
    """As a person names it."""
    return target.replace(AVX512, "avx512")


def _text(signature: Signature, shapes: Shapes) -> str:
    given = {s.name: shapes.get(s.name, s.shape or ()) for s in signature.inputs}
    return " ".join(f"{n}={','.join(map(_size_text, dims))}" for n, dims in given.items())


def _size_text(d: Any) -> str:
    return f"{d.start}..{d.stop - 1}" if isinstance(d, range) else str(d)
