#!/usr/bin/env python3
"""The CUDA backend on a GPU that is at hand for minutes, on a machine that need not have compilers, or a network.

    python benchmarks/gpu.py prepare FOLDER [--arch sm_90a]   # anywhere: kernels, and results to compare with
    python benchmarks/gpu.py check FOLDER                    # anywhere: is every kernel there, without a compiler?
    python benchmarks/gpu.py run FOLDER --out DIR            # on the GPU, beside PyTorch where it is installed
    python benchmarks/gpu.py publish FOLDER --out DIR        # anywhere: the table into docs/cuda.md

`run` needs the same sources as `prepare`. It writes DIR/rows.jsonl and DIR/table.md anew after each row, the most important ones
first: what is cut off leaves what was measured. A ratio below 1 means that graphc is faster. --tiny: a quick run of all parts;
with `--target cuda:emulate` on a machine without a GPU, where times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from queue import Empty, Queue
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

KERNELS, EXPECTED, MANIFEST = "kernels.zip", "expected.npz", "manifest.json"
PAGE = ROOT / "docs" / "cuda.md"
WORKER = Path(__file__).resolve().parent / "gpu_worker.py"
MARK = "answer "  # gpu_worker's
NO_COMPILERS = ("numba", "llvmlite", "numba_cuda")
LAUNCH = 2e-6  # seconds from the end of a kernel to the work of the next: of the bounds
# the longest a task may take, and what must be left for it to begin, in seconds
LIMITS = {
    "device": (90, 0),
    "operator": (40, 5),
    "example": (60, 10),
    "time": (60, 10),
    "compiled": (150, 60),
    "tuned": (60, 20),
}
AHEAD = ("time", "operator", "example", "tuned")  # tasks whose kernels are prepared
SANITIZED = ("lenet5", "transformer_encoder")


# --- prepare ------------------------------------------------------------------------------------------------------------
def prepare(folder: Path, arch: str, tiny: bool, jobs: int, only: Sequence[str] = ()) -> None:
    import numpy as np
    from gpu_cases import cases

    from graphc.documents import cache_dir

    folder.mkdir(parents=True, exist_ok=True)
    asked, planned, expected, sources = set(), {}, {}, _sources()
    for kind, name, found in _each(jobs, arch, tiny, only):
        if found["sources"] != sources:
            raise SystemExit("sources of kernels were changed meanwhile: prepare again")
        asked |= set(found["files"])
        if kind == "time":
            planned[name] = found["planned"]
        expected |= found.get("expected", {})
        print(f"{kind} {name}: {len(found['files'])} kernels {found.get('note', '')}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        chosen = Path(scratch, "cuda")
        chosen.mkdir()
        for path in asked:  # not the sources beside them
            shutil.copy2(cache_dir() / "cuda" / path, chosen)
        shutil.make_archive(str(folder / Path(KERNELS).stem), "zip", scratch)
    np.savez_compressed(folder / EXPECTED, **expected)
    ordered = [planned[c.key] for c in cases(tiny) if c.key in planned]
    manifest = {
        "arch": arch, "tiny": tiny, "only": list(only), "sources": sources, "planned": ordered, "kernels": len(asked)
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    size = sum(p.stat().st_size for p in folder.iterdir())
    print(f"{len(asked)} kernels for {arch}; {folder} has {size / 2**20:.1f} MiB")


def _each(jobs: int, arch: str, tiny: bool, only: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    work = [(kind, name) for kind, name, _ in tasks(tiny, only) if kind in AHEAD]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_prepared, kind, name, arch, tiny): (kind, name) for kind, name in work}
        for done in as_completed(futures):
            yield (*futures[done], done.result())


def _prepared(kind: str, name: str, arch: str, tiny: bool) -> dict[str, Any]:
    """One task's kernels compiled; which files of the cache they are."""
    files: set[str] = set()
    with _recorded(files, arch):
        found = _compiled_ahead(kind, name, arch, tiny)
    return found | {"files": sorted(files), "sources": _sources()}


def _compiled_ahead(kind: str, name: str, arch: str, tiny: bool) -> dict[str, Any]:
    import gpu_checks

    import graphc

    if kind == "operator":
        _compile_samples(name, arch)
        return {}
    if kind == "example":
        graph, feeds = gpu_checks.of_example(name)
        graphc.compile(graph, target="cuda", arch=arch, shapes=gpu_checks.shapes_of(feeds))
        return {"expected": gpu_checks.expected(name)}
    from gpu_cases import cases

    case = next(c for c in cases(tiny) if c.key == name)
    planned: dict[str, Any] = {
        "name": case.key, "title": case.name, "precision": case.precision, "memory": case.memory,
        "products": case.group == "products",
    }  # fmt: skip
    if case.lacks:
        return {"planned": planned, "note": case.lacks}
    if kind == "tuned":  # all that can be chosen
        graphc.compile(case.source(), target="cuda", arch=arch, shapes=case.shapes, tune=True, **case.options)
        return {}
    model = graphc.compile(case.source(), target="cuda", arch=arch, shapes=case.shapes, **case.options)
    return {"planned": planned | _bound(model.plan(case.shapes), case, arch)}


def _compile_samples(name: str, arch: str) -> None:
    import gpu_checks

    import graphc
    from graphc.errors import UnsupportedError

    for use in gpu_checks.samples(name):
        try:
            graph = use.graph()
            if all(v.type is not None and v.type.is_static for v in graph.outputs):
                graphc.compile(graph, target="cuda", arch=arch)
            else:  # what its data decides is compiled when it runs
                model = graphc.compile(graph, target="cuda:emulate", arch=arch)
                model.run(dict(zip([s.name for s in model.inputs], use.inputs)))
        except UnsupportedError as error:
            if error.op is None:
                raise


def _bound(plan: Any, case: Any, arch: str) -> dict[str, Any]:
    """What the steps' operations and bytes take by the card's data sheet, with a launch for each."""
    from graphc.backends.cuda.codegen.figures import card_of
    from graphc.backends.cuda.options import capability
    from graphc.backends.cuda.roofline import of_card

    card, source = card_of(capability(arch)), case.source()
    limits, steps = of_card(card, sys.maxsize), [s for s in plan.steps if not s.host]
    return {
        "bound": sum(limits.seconds(s) + LAUNCH for s in steps),
        "card": str(card),
        "flops": sum(s.flops for s in steps),
        "nbytes": sum(_nbytes(v, case) for v in (*source.inputs, *source.outputs)),
    }


def _nbytes(v: Any, case: Any) -> int:
    import math

    shape = case.shapes.get(v.name) or v.type.shape
    return math.prod(d if isinstance(d, int) else 0 for d in shape) * v.dtype.itemsize


class _recorded:  # noqa: N801  (a context manager)
    """The files of the cubin cache that are asked for meanwhile. Emulated kernels count as those of the GPU, and are compiled."""

    def __init__(self, files: set[str], arch: str) -> None:
        self._files, self._arch = files, arch

    def __enter__(self) -> None:
        from graphc.backends.cuda.codegen import build, cubin
        from graphc.backends.cuda.options import capability
        from graphc.backends.cuda.runtime.emulated import EmulatedDevice

        self._get, self._function = build.ObjectCache.get, EmulatedDevice.function
        files, get, function, arch = self._files, self._get, self._function, capability(self._arch)

        def recorded(cache: Any, name: str, spec: str) -> bytes | None:
            if cache.target is build.ANY_MACHINE:
                files.add(cache.path(name, spec).name)
            return get(cache, name, spec)

        def compiled(device: Any, kernel: Any, cache: bool) -> Any:
            cubin.cubin_of(kernel, arch, cache)
            return function(device, kernel, cache)

        build.ObjectCache.get, EmulatedDevice.function = recorded, compiled  # type: ignore[method-assign]

    def __exit__(self, *args: object) -> None:
        from graphc.backends.cuda.codegen import build
        from graphc.backends.cuda.runtime.emulated import EmulatedDevice

        build.ObjectCache.get, EmulatedDevice.function = self._get, self._function  # type: ignore[method-assign]


def _sources() -> str:
    """Of what makes kernels: cubins are found under it."""
    from graphc.backends.cpu.codegen.cache import text_of_generators

    return text_of_generators("cuda").hex()


# --- check --------------------------------------------------------------------------------------------------------------
def check(folder: Path) -> int:
    """Compiles everything that `run` does from what was prepared, where no compiler can be imported. The number of failures."""
    manifest = _open(folder)
    sys.modules.update(dict.fromkeys(NO_COMPILERS))  # type: ignore[arg-type]
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        _unpack(folder, Path(scratch))
        for kind, name, _ in tasks(manifest["tiny"], manifest["only"]):
            try:
                if kind in AHEAD:
                    _found_again(kind, name, manifest)
            except Exception as error:  # noqa: BLE001  (each is counted)
                failed += 1
                print(f"{kind} {name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"{failed} of the tasks lack a kernel" if failed else f"all kernels are there: {manifest['kernels']}")
    return failed


def _found_again(kind: str, name: str, manifest: dict[str, Any]) -> None:
    import gpu_checks

    import graphc
    from graphc.errors import UnsupportedError

    options: dict[str, Any] = {"target": "cuda", "arch": manifest["arch"]}
    if kind == "example":
        graph, feeds = gpu_checks.of_example(name)
        graphc.compile(graph, shapes=gpu_checks.shapes_of(feeds), **options)
    elif kind in ("time", "tuned"):
        from gpu_cases import cases

        case = next(c for c in cases(manifest["tiny"]) if c.key == name)
        if not case.lacks:
            graphc.compile(case.source(), shapes=case.shapes, tune=kind == "tuned", **options, **case.options)
    else:
        for use in gpu_checks.samples(name):
            try:
                graphc.compile(use.graph(), **options)
            except UnsupportedError as error:
                if error.op is None:
                    raise


# --- run ----------------------------------------------------------------------------------------------------------------
def tasks(tiny: bool, only: Sequence[str]) -> list[tuple[str, str, float]]:
    """Kind, name, and of what is timed the seconds of each engine, in the order in which they run. only: texts of which a task has
    one in its kind and name."""
    from gpu_cases import cases
    from gpu_checks import SMALL, examples, operators

    timed, names = cases(tiny), operators(tiny)
    first = next(i for i, c in enumerate(timed) if c.name != timed[0].name)
    seconds = 0.01 if tiny else 0.6
    others = [e for e in examples(tiny) if e not in SMALL]
    every = [
        ("device", "device", 0),
        ("example", SMALL[0], 0),
        *(("time", c.key, seconds) for c in timed[:first]),
        *(("operator", n, 0) for n in names),
        *(("time", c.key, seconds) for c in timed[first:]),
        *(("example", e, 0) for e in [*SMALL[1:], *others]),
        *(("tuned", c.key, seconds) for c in timed if c.tuned),
        *(("compiled", c.key, seconds) for c in timed if c.compiled),
    ]
    return [t for t in every if not only or t[0] == "device" or any(text in f"{t[0]} {t[1]}" for text in only)]


def run(folder: Path, out: Path, target: str, budget: float, tiny: bool, only: Sequence[str]) -> list[dict[str, Any]]:
    manifest, deadline = _open(folder), time.monotonic() + budget
    if manifest["tiny"] != tiny:
        raise SystemExit(f"{folder} was prepared {'with' if manifest['tiny'] else 'without'} --tiny")
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        _unpack(folder, Path(scratch))
        process = _Process(target, folder, tiny, out / "worker.txt")
        for kind, name, seconds in tasks(tiny, only or manifest["only"]):
            limit, least = LIMITS[kind]
            left = deadline - time.monotonic()
            if left < least:
                continue
            begin = time.monotonic()
            answer = process.ask(
                {"kind": kind, "name": name, "seconds": seconds, "arch": manifest["arch"]}, min(limit, left)
            )
            rows.append({"kind": kind, "name": name, "took": round(time.monotonic() - begin, 2), **answer})
            _write(out, rows, manifest)
            if kind == "device" and "failed" in answer:
                break
        process.close()
        if target == "cuda" and deadline - time.monotonic() > LIMITS["compiled"][1]:
            rows.append(_sanitized(folder, target, deadline - time.monotonic()))
            _write(out, rows, manifest)
    return rows


def _open(folder: Path) -> dict[str, Any]:
    manifest = _manifest(folder)
    if manifest["sources"] != _sources():
        raise SystemExit(
            f"{folder} was prepared with other sources of kernels, whose code is not found: prepare it again"
        )
    return manifest


def _unpack(folder: Path, to: Path) -> None:
    """To a folder that nobody else may write to, as the cache of kernels must be."""
    shutil.unpack_archive(folder / KERNELS, to)
    for path in to.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    os.environ["GRAPHC_CACHE_DIR"] = str(to)


def _write(out: Path, rows: Sequence[dict[str, Any]], manifest: dict[str, Any]) -> None:
    from gpu_table import table

    with (out / "rows.jsonl").open("a" if len(rows) > 1 else "w") as file:
        file.write(json.dumps(rows[-1]) + "\n")
    (out / "table.md").write_text(table(rows, manifest["planned"]))
    print(json.dumps(rows[-1]), flush=True)


class _Process:
    """gpu_worker.py: another one after each that died or did not answer in time."""

    def __init__(self, target: str, folder: Path, tiny: bool, said: Path) -> None:
        self._command = [sys.executable, str(WORKER), target, str(folder), *(["--tiny"] if tiny else [])]
        self._said = said
        self._process: subprocess.Popen[str] | None = None
        said.write_text("")

    def ask(self, task: dict[str, Any], limit: float) -> dict[str, Any]:
        if self._process is None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=limit)
        except Empty:
            self.close(at_once=True)
            return {"failed": f"no answer within {limit:.0f} s"}
        if line is None:
            code = self._process.wait()
            self._process = None
            return {"failed": f"the process ended with {code}: {self._last_words()}"}
        answer = json.loads(line)
        if answer.pop("fatal", False):
            self.close(at_once=True)
        return answer

    def _start(self) -> None:
        with self._said.open("a") as errors:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._lines: Queue[str | None] = Queue()
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: Queue[str | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(MARK):
                lines.put(line.removeprefix(MARK))
        lines.put(None)

    def _last_words(self) -> str:
        return (self._said.read_text(errors="replace").strip().splitlines() or [""])[-1][:300]

    def close(self, at_once: bool = False) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        if at_once:
            self._process.kill()
        else:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process = None


def _sanitized(folder: Path, target: str, left: float) -> dict[str, Any]:
    """Examples under compute-sanitizer, which sees addresses out of bounds."""
    row: dict[str, Any] = {"kind": "sanitizer", "name": "sanitizer"}
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        return row | {"note": "compute-sanitizer is not installed"}
    lines = "".join(json.dumps({"kind": "example", "name": name}) + "\n" for name in SANITIZED)
    command = [tool, "--tool", "memcheck", sys.executable, str(WORKER), target, str(folder)]
    try:
        found = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
        return row | {"note": f"compute-sanitizer was not done within {left:.0f} s"}
    text = found.stdout + found.stderr
    said = [line.strip("= ") for line in text.splitlines() if "ERROR SUMMARY" in line or "not supported" in line]
    answers = text.count(MARK)
    return row | {"said": f"{'; '.join(said) or 'nothing'} ({answers} of {len(SANITIZED)} examples ran)"}


def _manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file():
        raise SystemExit(f"{folder} has no {MANIFEST}: run prepare first")
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return found


def publish(folder: Path, out: Path, page: Path = PAGE) -> None:
    """The table of a run into the page. Where there was none, every row says so, beside its bound."""
    from gpu_table import table

    rows = out / "rows.jsonl"
    found = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    made = table(found, _manifest(folder)["planned"])
    text = page.read_text()
    begin, end = (re.search(rf"<!-- measured: {word}.*?-->\n?", text) for word in ("begin", "end"))
    if begin is None or end is None:
        raise SystemExit(f"{page} has no place for measurements")
    page.write_text(f"{text[: begin.end()]}{made}{text[end.start() :]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("prepare", "check", "run", "publish"):
        one = commands.add_parser(name)
        one.add_argument("folder", type=Path)
        if name in ("run", "publish"):
            one.add_argument("--out", type=Path, required=True, help="folder of the results")
        if name in ("prepare", "run"):
            one.add_argument("--tiny", action="store_true", help="small sizes, few operators")
            one.add_argument("--only", action="append", default=[], help="what has this text in its kind or name")
        if name == "prepare":
            one.add_argument(
                "--arch", default="sm_90a", help="what the GPU's kernels are compiled for; default: sm_90a"
            )
            one.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
        if name == "run":
            one.add_argument("--target", choices=["cuda", "cuda:emulate"], default="cuda")
            one.add_argument("--budget", type=float, default=460, help="seconds after which nothing new begins")
    options = parser.parse_args()
    if options.command == "prepare":
        prepare(options.folder, options.arch, options.tiny, options.jobs, options.only)
    elif options.command == "check":
        sys.exit(min(check(options.folder), 1))
    elif options.command == "publish":
        publish(options.folder, options.out)
    else:
        rows = run(options.folder, options.out, options.target, options.budget, options.tiny, options.only)
        print((options.out / "table.md").read_text())
        sys.exit(any(r.get("wrong") or "failed" in r for r in rows))


if __name__ == "__main__":
    main()
