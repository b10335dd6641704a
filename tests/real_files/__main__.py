"""python -m tests.real_files --out FOLDER: ONNX files of packages, in graphc and in ONNX Runtime. See --help."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from .fetch import File, files
from .packages import PACKAGES
from .table import line, page

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "real-files.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real_files", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for downloads and results; a second run goes on"
    )
    parser.add_argument("--only", default="", help="packages and files whose name has this in it")
    parser.add_argument("--again", action="store_true", help="run files again that have a result")
    parser.add_argument("--seconds", type=float, default=300.0, help="for one file")
    parser.add_argument("--table", action="store_true", help="run nothing; write docs/real-files.md from the results")
    args = parser.parse_args()
    found = files(args.out, PACKAGES)
    results = []
    for file in sorted(found, key=lambda f: f.path.stat().st_size):
        kept = result_of(args.out, file)
        wanted = args.only in file.name
        if wanted and not args.table and (args.again or not kept.exists()):
            _run(file, kept, args.seconds)
        if kept.exists():
            results.append(json.loads(kept.read_text()) | {"packages": file.packages})
            if wanted and not args.table:
                print(line(results[-1]), flush=True)
    if args.table:
        DOCUMENT.write_text(page(sorted(results, key=lambda r: r["name"])), encoding="utf-8")
    return 0


def result_of(out: Path, file: File) -> Path:
    return out / "results" / f"{file.name.replace('/', '+').replace(' ', '-')}.json"


def _run(file: File, result: Path, seconds: float) -> None:
    """In a process of its own, so that a crash or a hang is a result too."""
    result.parent.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.real_files.run", str(file.path), file.name, str(result)]
    failed = ""
    try:
        done = subprocess.run(command, timeout=seconds, capture_output=True, text=True)
        failed = (done.stderr.strip().splitlines() or ["no word"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        failed = f"not done after {seconds:g} s"
    if not result.exists():
        size = file.path.stat().st_size
        result.write_text(json.dumps({"name": file.name, "size": size, "failed": failed}))


if __name__ == "__main__":
    sys.exit(main())
