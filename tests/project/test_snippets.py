"""The snippets of pages that a reader goes through from top to bottom: all of them, in order, in one folder."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.M | re.S)
RUN = """
import shlex, subprocess, sys
def _command(line):
    words = shlex.split(line)
    assert words[0] == "graphc", line
    subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)
"""


def program(page: Path) -> str:
    """The page's Python, with its commands in their places; lines have the numbers that they have in the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text[: block.start()].count("\n") + 1
        for number, line in enumerate(block[2].splitlines(), first):
            lines[number] = line if block[1] == "python" else f"_command({line.removeprefix('$ ')!r})"
    return "\n".join(lines)


def run_page(page: Path, folder: Path) -> None:
    """Raises AssertionError with what the first snippet that failed said."""
    shutil.copytree(ROOT / "examples" / "digits", folder / "examples" / "digits")
    shutil.copy(ROOT / "examples" / "my_ops.py", folder / "examples")
    (folder / "page.py").write_text(f"exec({RUN!r})\n{program(page)}", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run(
        [sys.executable, "page.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.parametrize(
    "name",
    [
        "cookbook",
        "deploy",
        "inputs",
        "report",
        "serving",
        "testing",
        pytest.param("wrong-answer", marks=pytest.mark.slow),
    ],
)
def test_a_page_runs(name: str, tmp_path: Path):
    run_page(ROOT / "docs" / f"{name}.md", tmp_path)


@pytest.mark.slow
def test_the_engine_of_the_page_on_serving(tmp_path: Path):
    """As a script, which its workers import."""
    pytest.importorskip("distributed")
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(if __name__.*?)^```", text, re.M | re.S)
    model = ROOT / "examples" / "digits" / "digits.yaml"
    setup = f"import graphc, numpy as np\nfrom graphc import fleet\nmodel = graphc.compile({str(model)!r})\n"
    images = 'images = np.load("digits.npz")["test_x"][:64, None].astype("float32")\n'
    shown = block.replace("...", 'print("answer", len(results))')
    (tmp_path / "page.py").write_text(setup + images + shown, encoding="utf-8")
    shutil.copy(model.with_suffix(".npz"), tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "page.py"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0 and ended.stdout.count("answer 1\n") == 64, ended.stdout + ended.stderr


def test_the_tests_of_the_page_on_testing_pass(tmp_path: Path):
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    (name, code), *_ = re.findall(r"^```python\n# (test_\S+\.py)\n(.*?)^```", text, re.M | re.S)
    (tmp_path / name).write_text(code, encoding="utf-8")
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "my_ops.py", tmp_path / "examples")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path):
    for needed in ("torch", "onnxscript"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"the tutorial trains with PyTorch: pip install {needed}")
    run_page(ROOT / "docs" / "tutorial.md", tmp_path)


def test_what_fails_in_a_page_is_seen(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n```console\n$ graphc check missing.onnx\n```\n", encoding="utf-8")
    (tmp_path / "in").mkdir()
    with pytest.raises(AssertionError, match=r"missing\.onnx"):
        run_page(page, tmp_path / "in")
