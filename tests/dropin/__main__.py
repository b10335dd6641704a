"""python -m tests.dropin --out FOLDER: packages that import onnxruntime, with it and with graphc in its place. See --help."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .programs import PACKAGES, POSTLUDE, PRELUDE, Package

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = (
    2e-3  # of scores between 0 and 1, and of places in pixels: sums of float32 in other orders, through whole networks
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.dropin", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for what pip installs, and for answers")
    parser.add_argument("--only", default="", help="packages whose name has this in it")
    args = parser.parse_args()
    failed = 0
    for package in PACKAGES:
        if args.only not in package.name:
            continue
        outcome = tried(package, args.out)
        failed += not outcome.startswith("same")
        print(f"{package.name} {package.version}: {outcome}", flush=True)
    return min(failed, 1)


def tried(package: Package, out: Path) -> str:
    """What came of it: 'same' and the largest difference, or what differs."""
    installed = out / f"{package.name}-{package.version}"
    if not installed.exists():
        wanted = [f"{package.name}=={package.version}", *(n for n in package.needs if n != "torch")]
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--target"]
        subprocess.run([*pip, str(installed), *wanted], check=True)
    program = out / f"use-{package.name}.py"
    program.write_text(PRELUDE + package.program + POSTLUDE, encoding="utf-8")
    answers = {}
    for runtime, command in (("onnxruntime", []), ("graphc", ["-m", "graphc.onnxruntime"])):
        result = out / f"{package.name}-{runtime}.json"
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"), str(installed))))
        call = [sys.executable, *command, str(program), str(result)]
        done = subprocess.run(call, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
        if done.returncode:
            return f"fails with {runtime}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        answers[runtime] = json.loads(result.read_text())
        if ("graphc" in answers[runtime]["runtime"]) != (runtime == "graphc"):
            return f"was run by {answers[runtime]['runtime']}"
    try:
        worst = difference(answers["onnxruntime"]["answers"], answers["graphc"]["answers"])
    except ValueError as error:
        return f"differs: {error}"
    return (
        f"same: {package.answers}; largest difference of a number {worst:.0e}"
        if worst <= TOLERANCE
        else f"differs by {worst}"
    )


def difference(a: Any, b: Any) -> float:
    """The largest between numbers, relative where these are above 1. Raises ValueError where something else differs."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max(map(difference, a, b), default=0.0)
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max((difference(a[k], b[k]) for k in a), default=0.0)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) / max(1.0, abs(a))
    if a != b:
        raise ValueError(f"{str(a)[:80]} and {str(b)[:80]}")
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
