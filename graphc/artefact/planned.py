"""A model's plans in a folder of their own, out of which `build` makes what is shipped."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import IO, Any, NamedTuple

from graphc.backend import Progress, Request
from graphc.backends.cpu.backend import CpuBackend
from graphc.backends.cpu.options import CpuOptions
from graphc.backends.cpu.target import AVX512, EXTRAS, detect
from graphc.compiler import Compilation, located
from graphc.errors import InputError, UnsupportedError
from graphc.model import Model
from graphc.model_folder import ModelFolder
from graphc.origin import origin_of
from graphc.reading import Reading
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


def require_system() -> str:
    """What code is made for here. Raises UnsupportedError."""
    machine = os.uname().machine if hasattr(os, "uname") else ""
    if (sys.platform, machine) != ("linux", "x86_64"):
        raise UnsupportedError("models are built on Linux on x86-64 only")
    return f"{sys.platform} on {machine}"


class Planned(NamedTuple):
    """backend: whose target the plans are for; entry: the folder that has them."""

    backend: CpuBackend
    entry: ModelFolder
    signature: Signature

    @property
    def keys(self) -> list[str]:
        """Of the plans."""
        return sorted(p.stem.removeprefix("plan-") for p in self.entry.folder.glob("plan-*.json"))

    @property
    def document(self) -> dict[str, Any]:
        """What the folder's files are."""
        found = self.entry.model()
        assert found is not None, "a plan was kept"
        return found

    @property
    def needs(self) -> list[str]:
        """Instructions of the CPU, by Linux's names."""
        level, *extras = str(self.backend.machine).partition(":")[2].split("+")
        return [*NEEDS[level], *(_LINUX[e] for e in extras)]


def planned(
    source: Any,
    target: str,
    root: Path,
    shapes: Sequence[Shapes],
    reading: Reading,
    progress: Progress | None,
    options: Mapping[str, Any],
    many: bool = True,
) -> Planned:
    """The plans of a model for these sets of shapes, in a folder below `root`. many: where dims are open, one for as many sizes as it
    serves, too. Raises UnsupportedError, InputError, and what compiling raises."""
    backend = _backend(target, options, progress)
    entry = Store(root).entry("model")
    request = Request(options=options, progress=progress)
    compilation = _Building(source, backend.target, request, backend, reading, entry)
    _require_plain(compilation.signature)
    model = Model(compilation, {"target": target})
    for given in shapes or [{}]:
        _require_native(_plan(model, given, many), entry, compilation.signature.name)
    return Planned(backend, entry, compilation.signature)


def write_whole(path: Path, content: Callable[[IO[bytes]], object]) -> None:
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


def _plan(model: Model, shapes: Shapes, many: bool) -> Plan:
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
    for given in every if many else ():
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
