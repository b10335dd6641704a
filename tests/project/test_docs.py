"""What the pages name exists: files, folders, links and their headings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]
PAGES += sorted(ROOT.glob("benchmarks/*.md"))
TOP = "graphc|frontends|backends|tests|docs|examples|benchmarks|findings"
FILE = re.compile(rf"(?<![\w./-])((?:{TOP})/[\w./{{}},*-]*[\w/*}}])")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAST = {"docs/performance-log.md"}  # tells what was: its files may be gone


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def alternatives(name: str) -> Iterator[str]:
    """a/{b,c} as a/b and a/c."""
    found = re.search(r"{([^{}]*)}", name)
    if found is None:
        yield name
    else:
        for one in found[1].split(","):
            yield from alternatives(name[: found.start()] + one + name[found.end() :])


def exists(name: str) -> bool:
    return any(ROOT.glob(name.rstrip("/"))) if "*" in name else (ROOT / name).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_links(page: Path):
    text = text_of(page)
    missing = []
    if str(page.relative_to(ROOT)) not in PAST:
        new = re.findall(r"^# (\S+\.py)$", text, re.M)  # files that the page writes
        missing += [
            name for found in FILE.findall(text) for name in alternatives(found) if not exists(name) and name not in new
        ]
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            missing.append(link)
    assert missing == []


def test_the_files_of_add_an_operator_are_all_it_takes(tmp_path: Path):
    """In a copy of the packages, each file where its first line says, and the last one run."""
    for package in ("graphc", "frontends", "backends"):
        shutil.copytree(ROOT / package, tmp_path / package, symlinks=True)
    blocks = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", text_of(ROOT / "docs/add-an-operator.md"), re.M | re.S)
    assert len(blocks) >= 9
    for name, code in blocks:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        assert not path.exists(), f"{name} is there already"
        path.write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, blocks[-1][0]], env=environment, cwd=tmp_path, check=True)


def test_the_backend_of_the_page_is_that_of_the_tests():
    backend = (ROOT / "tests/loops_backend.py").read_text(encoding="utf-8").splitlines()
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(ROOT / "docs/add-a-backend.md"), re.M | re.S)
    lines = [line.removesuffix(" ...") for block in blocks for line in block.splitlines()]
    assert lines and [line for line in lines if line not in backend] == []
