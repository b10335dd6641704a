#!/usr/bin/env python3
"""Does this checkout plan what an older one plans? For changes that must not change what runs.

    python benchmarks/same_plans.py ../graphc-before [MODEL ...]

Plans each model (by default all of examples/zoo, and the light models of sets.py) in both, compiles nothing, and compares the
table that threads walk: kernels by specification, argument words, where addresses go, the arena. Prints a row per model; the
exit status is 1 where one differs. Kernels of one specification are taken to be one code: see --code.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ("execute", "submit", "work", "bind", "entry")  # kernels that run tables, and are in none
OPEN = 2  # in place of dims that a model leaves open


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("models", nargs="*", help="files; default: examples and light models")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--code", action="store_true", help="compile every kernel and compare the machine code, too")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "models", help="where model files are made")
    options = parser.parse_args()
    models = [*map(os.path.abspath, options.models)]
    models = models or [
        *map(str, sorted((ROOT / "examples" / "zoo").glob("*.yaml"))),
        *_light(options.folder.resolve()),
    ]
    before, now = (_planned(path, models, options) for path in (options.before.resolve(), ROOT))
    differing = 0
    for model in models:
        what = _difference(before[model], now[model])
        differing += bool(what)
        print(f"{Path(model).name:40} {what or 'same'}: {len(now[model].get('steps', ()))} steps")
    sys.exit(bool(differing))


def _light(folder: Path) -> list[str]:
    from models import light
    from sets import LIGHT

    return [str(light(name).files(folder)[0]) for name in LIGHT]


def _planned(checkout: Path, models: list[str], options: argparse.Namespace) -> dict:
    worker = "import same_plans; same_plans.work()"
    environment = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{Path(__file__).parent}"}
    asked = json.dumps([models, options.target, options.threads, options.code])
    done = subprocess.run(
        [sys.executable, "-c", worker],
        input=asked,
        env=environment,
        cwd="/",  # Python looks for modules in the current folder first, which may be a checkout
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{checkout}: the plans could not be made")
    return json.loads(done.stdout)


def work() -> None:
    """Standard input: what to plan, as JSON. Standard output: the plans."""
    models, target, threads, code = json.load(sys.stdin)
    json.dump({m: _plan(m, target, threads, code) for m in models}, sys.stdout)


def _plan(model: str, target: str, threads: int, code: bool) -> dict:
    import graphc

    Toolchain = _toolchain()  # noqa: N806  (a class)
    codes: dict[str, str] = {}

    def addresses(self: Toolchain, kernels, progress=None) -> dict:  # of nothing: nobody runs the plan
        wanted = dict.fromkeys(kernels)
        if code:
            codes.update((k.spec, _digest(self.build(k).code)) for k in wanted if k.spec not in codes)
        return {k: 64 * (i + 1) for i, k in enumerate(wanted)}

    Toolchain.addresses = addresses  # type: ignore[method-assign]
    compiled = graphc.compile(model, target=target, threads=threads, cache=False)
    shapes = {s.name: tuple(d if isinstance(d, int) else OPEN for d in s.shape) for s in compiled.inputs}
    compiled.prepare(shapes)
    (executable,) = compiled._plans.values()
    if not hasattr(executable, "_plan"):
        return {"error": "its shapes follow from data"}
    plan = executable._plan
    a = plan.assembled
    slots = {
        n: [x.tolist() for x in getattr(a, n)]
        for n in ("kernel_slots", "constant_slots", "arena_slots", "extern_slots")
    }
    return {
        "kernels": [k.spec for k in plan.kernels if k.name not in RUNTIME],
        "steps": [[s.kernel, s.algorithm, s.reason, list(s.nodes), s.output] for s in plan.report().steps],
        "blocks": a.blocks[:, :2].tolist(),
        "words": a.words.tolist(),
        "arena": a.arena,
        **slots,
        "code": codes,
    }


def _toolchain() -> Any:
    """Where this or an older checkout has it."""
    for folder in ("codegen.", ""):
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"graphc.backends.cpu.{folder}toolchain").Toolchain
    raise ImportError("no toolchain")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _difference(a: dict, b: dict) -> str:
    """The first field that differs, and where."""
    for name in a.keys() | b.keys():
        x, y = a.get(name), b.get(name)
        if x == y:
            continue
        if isinstance(x, list) and isinstance(y, list):
            at = next((i for i, (p, q) in enumerate(zip(x, y)) if p != q), min(len(x), len(y)))
            return f"{name} DIFFER at {at}: {str(x[at : at + 1])[:200]} -> {str(y[at : at + 1])[:200]}"
        return f"{name} DIFFER"
    return ""


if __name__ == "__main__":
    main()
