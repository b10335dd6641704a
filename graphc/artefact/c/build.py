"""From a plan for one set of shapes to a shared object: kernels, constants, tables, and the function that C calls."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.artefact.c.function import function_ir
from graphc.artefact.c.header import header, identifier
from graphc.artefact.planned import Shapes, planned, require_system, write_whole
from graphc.backends.cpu.executor.program_block import RunLibrary
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.cpu.runtime.shared_object import Library, link
from graphc.errors import InputError, UnsupportedError
from graphc.lower.segment import Stored
from graphc.reading import AS_IT_IS, Reading

if TYPE_CHECKING:
    from graphc.backends.cpu.codegen.toolchain import Toolchain
    from graphc.lower.assembled import Assembled
    from graphc.lower.kernel import Kernel
    from graphc.lower.plans import CompiledPlan, KernelName


def build_c(
    source: Any,
    path: Path,
    *,
    targets: Sequence[str] = ("cpu",),
    shapes: Sequence[Shapes] = (),
    reading: Reading = AS_IT_IS,
    progress: Any = None,
    **options: Any,
) -> Path:
    """Write a shared object, and its header beside it, whose path it gives. Arguments as of `graphc.build`: one target, one set of
    shapes. Raises what that raises."""
    if len(targets) > 1:
        raise InputError("a C library is for one target", hint="build a library for each, with names of their own")
    if len(shapes) > 1 or any(isinstance(d, range) for s in shapes for dims in s.values() for d in dims):
        raise InputError("a C library is for one set of shapes", hint="give each input's sizes once, without ranges")
    stem = path.stem.removeprefix("lib")
    name = identifier(stem)
    require_system()
    with tempfile.TemporaryDirectory(prefix="graphc-build-") as root:
        made = planned(source, targets[0], Path(root), shapes, reading, progress, options | {"threads": 1}, many=False)
        folder = made.backend.folder
        assert folder is not None
        found = next(filter(None, map(folder.read, made.keys)), None)
        assert found is not None, "a plan was kept"
        plan, _ = found
        text = header(name, plan.inputs, plan.results, made.needs)
        segments = {n: made.entry.folder / n for n in made.document["weights"]}
        image = _shared_object(name, path.name, plan, made.needs, segments)
    write_whole(path, lambda f: f.write(image))
    beside = path.with_name(f"{stem}.h")
    write_whole(beside, lambda f: f.write(text.encode()))
    return beside


def _shared_object(
    name: str, file: str, plan: CompiledPlan, needs: Sequence[str], segments: Mapping[str, Path]
) -> bytes:
    a, tools = plan.assembled, runtime_of(plan.target).toolchain()
    if a.binding is not None or any(not isinstance(r, tuple) for r in a.runs):
        raise UnsupportedError("a C library is for models whose shapes are known, and that kernels compute alone")
    runner = RunLibrary()
    tools.addresses([runner])
    used = sorted({*a.blocks[:, 0].tolist(), *a.kernel_slots.what.tolist()})
    objects = {k.symbol: _code(tools, k) for k in (*(plan.kernels[i] for i in used), runner)}
    tables, constants = _tables(a, segments)
    entry = function_ir(f"{name}_run", runner.symbol, plan, tables, constants, needs)
    objects[f"{name}_run"] = tools.compile_ir(f"{name}_run", entry)
    library = Library(file, [f"{name}_run"], ["libm.so.6", "libc.so.6"], constants)
    return link(objects, library)


def _code(tools: Toolchain, kernel: Kernel | KernelName) -> bytes:
    code = tools.cache.get(kernel.name, kernel.spec)
    if code is None:
        raise UnsupportedError(
            "a C library is made of the kernels in the cache, which can't be used", hint="set GRAPHC_CACHE_DIR"
        )
    return code


def _tables(a: Assembled, segments: Mapping[str, Path]) -> tuple[dict[str, int], dict[str, bytes]]:
    """How many rows each table has, and what is constant in the library, by symbol."""
    stored = [c for c in a.constants if isinstance(c, Stored)]
    names = list(dict.fromkeys(c.segment.name for c in stored))
    slots = a.constant_slots
    offsets = [stored[w].offset + int(o) for w, o in zip(slots.what.tolist(), slots.offset.tolist())]
    numbers = [names.index(stored[w].segment.name) for w in slots.what.tolist()]
    ends = [*a.inputs, *(i for i in a.outputs if isinstance(i, int))]
    e = a.extern_slots
    rows = [
        (at, k, offset)
        for k, index in enumerate(ends)
        for at, what, offset in zip(e.at.tolist(), e.what.tolist(), e.offset.tolist())
        if what == index
    ]
    reports = [i for words, _ in a.checks for i in range(words.start, words.stop, 2)]
    tables = {
        "words": a.words,
        "steps": a.blocks[:, 1],
        "kernel_words": a.kernel_slots.at,
        "constants": np.stack([slots.at, numbers, offsets], 1) if len(slots.at) else np.empty(0),
        "places": np.stack([a.arena_slots.at, a.arena_slots.offset], 1) if len(a.arena_slots.at) else np.empty(0),
        "ends": np.array(rows),
        "reports": np.array(reports),
    }
    constants = {f"segment_{i}": segments[n].read_bytes() for i, n in enumerate(names)}
    constants |= {f"table_{n}": np.ascontiguousarray(t, np.int64).tobytes() or bytes(8) for n, t in tables.items()}
    counts = {n: len(t) for n, t in tables.items()} | {"segments": len(names)}
    return counts, constants
