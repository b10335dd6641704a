"""What somebody gets who installs graphc: `python tests/project/installed.py [PYTHON …]`. Builds a source distribution, a wheel of it,
and one of the checkout, which are the same; installs it in a fresh environment of each interpreter (default: the newest and the oldest
beside this one that are at hand), and uses it from another folder. Nothing may be left in the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = 10, 14  # minor versions looked for


def neighbours() -> list[str]:
    """The newest and the oldest interpreter at hand that graphc may run on, and is not this one's version."""
    found = {}
    for minor in range(OLDEST, NEWEST + 1):
        for path in _named(f"3.{minor}"):
            if minor != sys.version_info.minor and _works(path, minor):
                found[minor] = path
                break
    return [found[minor] for minor in sorted({max(found), min(found)})] if found else []


def _named(version: str) -> list[str]:
    """Programs that may be that Python: on PATH, or kept by pyenv."""
    on_path = shutil.which(f"python{version}")
    kept = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    return [*([on_path] if on_path else []), *map(str, kept)]


def _works(path: str, minor: int) -> bool:
    program = "import sys, venv; print(sys.version_info.minor)"
    done = subprocess.run([path, "-c", program], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == str(minor)


def built(folder: Path) -> tuple[Path, Path]:
    """(source distribution, wheel): the wheel is made of the source distribution."""
    before = _state()
    _run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    direct = folder / "direct"
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", direct, ROOT)
    assert _names(wheel) == _names(next(direct.glob("*.whl"))), "a wheel of the source distribution holds other files"
    assert _state() == before, f"left in the checkout: {_state() ^ before}"
    return source, wheel


def _names(wheel: Path) -> list[str]:
    return sorted(zipfile.ZipFile(wheel).namelist())


def _state() -> set[Path]:
    """Files and folders of the checkout that are no Python's, Git's or a tool's own."""
    return {p for p in ROOT.iterdir() if not p.name.endswith("_cache")} | {*(ROOT / "graphc").iterdir()}


def check_contents(source: Path, wheel: Path) -> None:
    """Are all modules there, and pages, examples and metadata?"""
    names = set(_names(wheel))
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("graphc", "frontends", "backends", "examples"):
        for path in (ROOT / folder).rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            installed = name if folder == "graphc" else f"graphc/{name}"
            if path.is_file() and "__pycache__" not in name and not name.endswith("examples/index.yaml"):
                assert installed in names and installed in inside, f"{installed} is missing"
    pages = {f"graphc/docs/{p.name}" for p in (ROOT / "docs").glob("*.md")}
    assert pages <= names and not {n for n in names if n.startswith("graphc/docs/")} - pages
    assert not {n for n in names if not re.match(r"graphc(-[\d.]+\.dist-info)?/", n)}, "files beside the package"


def use(python: str, wheel: Path, work: Path) -> None:
    """Install the wheel for an interpreter, and use it from a folder that knows nothing of the checkout."""
    _run(python, "-m", "venv", work / "venv")
    there, here = work / "venv" / "bin", work / "here"
    here.mkdir()
    _run(there / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=here)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["GRAPHC_CACHE_DIR"] = str(work / "cache")

    def graphc(*args: str) -> str:
        return _run(there / "python", "-m", "graphc", *args, cwd=here, env=environment)

    assert str(there.parent) in _run(
        there / "python", "-c", "import graphc; print(graphc.__file__)", cwd=here, env=environment
    )
    assert _run(there / "graphc", "--version", cwd=here, env=environment) == graphc("--version")
    graphc("init", "digits")
    assert "99.6" in _run(
        there / "python", "digits/run.py", cwd=here, env=environment
    )  # of the test images, read correctly
    for model in ("digits/digits.yaml", "digits/digits.onnx"):
        (result,) = json.loads(graphc("run", model, "--seed", "3", "--json"))["outputs"]
        assert result["shape"] == [1, 10] and abs(result["mean"] - 0.1) < 1e-6  # probabilities of ten classes
    assert json.loads(graphc("compare", "digits/digits.onnx", "--json"))["agrees"]
    graphc("show", "zoo:resnet50")
    assert graphc("help", "yaml") == (ROOT / "docs" / "yaml.md").read_text(encoding="utf-8") + "\n"
    assert "conv: Convolution" in graphc("layers", "conv")
    assert json.loads(graphc("schema"))["$schema"]


def _run(*args: str | Path, **options: object) -> str:
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(map(str, args))}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


def main(pythons: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as work:
        source, wheel = built(Path(work) / "dist")
        check_contents(source, wheel)
        print(f"{source.name} and {wheel.name} hold what they should")
        for i, python in enumerate(pythons or neighbours() or [sys.executable]):
            folder = Path(work) / str(i)
            folder.mkdir()
            use(python, wheel, folder)
            print(f"{wheel.name} is installed and runs on {_run(python, '--version').strip()}")


if __name__ == "__main__":
    main(sys.argv[1:])
