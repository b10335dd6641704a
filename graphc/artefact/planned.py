"""A model's plans in a folder of their own, out of which `build` makes what is shipped."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from graphc.backend import Progress, Request
from graphc.backends.cpu.backend import CpuBackend
from graphc.backends.cpu.options import CpuOptions
from graphc.backends.cpu.target import AVX512, EXTRAS, detect
from graphc.compiler import Compilation, located
from graphc.errors import InputError, UnsupportedError
from graphc.lower.plans import MAX_PLANS
from graphc.model import Model
from graphc.model_folder import ModelFolder
from graphc.origin import origin_of
from graphc.reading import Reading
from graphc.report import Plan
from graphc.signature import Signature, Spec
from graphc.store import Store

Shapes = Mapping[str, "Sequence[int | range]"]
MOST_SIZES = 100_000
STEPS = 3  # of a session: without a past, with one of one position, with a longer one
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
    samples: Sequence[Mapping[str, Any]] = (),
) -> Planned:
    """The plans of a model for these sets of shapes, in a folder below `root`. many: where dims are open, one for as many sizes as it
    serves, too. samples: inputs to run it with, so that there are plans for what follows from data. Raises UnsupportedError, InputError, and what compiling raises."""
    backend = _backend(target, options, progress)
    entry = Store(root).entry("model")
    request = Request(options=options, progress=progress)
    compilation = _Building(source, backend.target, request, backend, reading, entry)
    _require_plain(compilation.signature)
    model = Model(compilation, {"target": target})
    examples = [_planned(model, compilation.signature, given, many) for given in shapes or [{}]]
    for sample in samples:
        model.run(sample)
    for example in examples:
        _require_native(model.plan(example), entry, model.name)
    made = Planned(backend, entry, compilation.signature)
    if len(made.keys) >= MAX_PLANS:  # the folder forgets the oldest
        raise InputError(f"the shapes want more than {MAX_PLANS - 1} plans", hint="fewer sizes, or several files")
    return made


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


def _planned(model: Model, signature: Signature, shapes: Shapes, many: bool) -> dict[str, tuple[int, ...]]:
    """Make plans for these shapes alone, and where dims are open for as many as they serve; of ranges, for all sizes within. Gives one
    of the sets of shapes. Raises InputError."""
    open_ones = [s for s in model.inputs if not s.is_static]
    if open_ones and not shapes:
        raise InputError(
            f"dims of the inputs are open: {', '.join(map(str, open_ones))}",
            hint=f"give sizes, or ranges: --shapes '{' '.join(_example(s) for s in open_ones)}'",
        )
    if not open_ones:
        model.prepare()
        return {}
    every = list(_sizes_within(model.inputs, shapes))
    if len(every) == 1:
        model.prepare(every[0])
    for given in every if many else ():
        model.prepare(given, many=True)
    if many:
        _step(model, signature, every)
    return every[0]


def _step(model: Model, signature: Signature, sizes: Sequence[Mapping[str, Sequence[int]]]) -> None:
    """The plans that steps of sessions want, which only steps tell: some of each size, with zeros."""
    states = {s.input for s in signature.states or signature.caches}
    if not states:
        return
    named = {s.name: s for s in model.inputs if s.name not in states}
    for given in {tuple(tuple(d[n]) for n in named): d for d in sizes}.values():
        try:
            session = model.session()
        except InputError:  # a state wants a first value
            return
        for _ in range(STEPS):
            session.run({n: np.zeros(given[n], s.dtype) for n, s in named.items()})


def _sizes_within(inputs: Sequence[Spec], shapes: Shapes) -> Iterator[dict[str, tuple[int, ...]]]:
    """Each set of shapes that ranges stand for. Sizes may be given by the names of dims, too; dims of one name are equal."""
    by_dim = {n: dims for n, dims in shapes.items() if all(n != s.name for s in inputs)}
    for n, dims in by_dim.items():
        if len(dims) != 1 or all(n not in (s.shape or ()) for s in inputs):
            raise InputError(f"'{n}' is no input, and no dim of one", hint=f"inputs: {', '.join(map(str, inputs))}")
    ranges: dict[object, Sequence[int]] = {}
    made: dict[str, list[object]] = {}  # by input: keys of ranges
    for s in inputs:
        wanted: Sequence[Any] = shapes.get(s.name) or [by_dim[d][0] if d in by_dim else d for d in s.shape or ()]
        free = [d for d in wanted if isinstance(d, str)]
        if free:
            raise InputError(
                f"dims of '{s.name}' are open: {', '.join(free)}", hint=f"give them: --shapes '{_example(s)}'"
            )
        named = s.shape if s.shape is not None and len(s.shape) == len(wanted) else [None] * len(wanted)
        keys: list[object] = [
            (name, d) if isinstance(name, str) else (s.name, axis) for axis, (name, d) in enumerate(zip(named, wanted))
        ]
        ranges |= {key: d if isinstance(d, range) else (int(d),) for key, d in zip(keys, wanted)}
        made[s.name] = keys
    count = math.prod(map(len, ranges.values()))
    if count > MOST_SIZES:
        raise InputError(f"ranges of sizes stand for {count} sets of shapes, and {MOST_SIZES} is the most")
    for sizes in product(*ranges.values()):
        found = dict(zip(ranges, sizes))
        yield {n: tuple(found[k] for k in keys) for n, keys in made.items()}


def _example(spec: Spec) -> str:
    dims = spec.shape or ()
    return f"{spec.name}={','.join(str(d) if isinstance(d, int) else '1..8' for d in dims)}"


def _require_native(plan: Plan, entry: ModelFolder, name: str) -> None:
    """Raises UnsupportedError for a plan that could not be kept."""
    hosts = [f"{op} '{node}'" for s in plan.steps if s.host for op, node in zip(s.ops, s.nodes)]
    hosts += [f"{p.op} '{p.node}'" for p in plan.pending if p.host]
    if hosts:
        raise UnsupportedError(
            f"'{name}' has nodes that NumPy computes, which a built file can't hold: {_few(hosts)}",
            hint="graphc explain MODEL says why",
        )
    if plan.pending:
        waiting = [f"{p.op} '{p.node}'" for p in plan.pending]
        raise UnsupportedError(
            f"'{name}' has nodes whose shapes follow from data, or that data decides to run: {_few(waiting)}",
            hint="give inputs, by which they are planned: --input NAME=FILE, or samples=[{…}]",
        )
    if not entry.has_plans():
        raise UnsupportedError(f"the plan of '{name}' can't be kept: a result is a constant of the model")


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
