"""The house rules: who may import whom, and that importing graphc stays light."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphc

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"numba", "llvmlite", "onnx", "yaml"}
PACKAGES = {"frontends", "backends"}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(top-level package, line) of each import in a file, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], node.lineno


def forbidden(path: Path) -> set[str]:
    """What this file must not import."""
    package, *_, name = path.relative_to(ROOT).parts
    if package == "graphc":
        above = path.parent.name == "cli" or name == "compiler.py"
        return HEAVY | {"hypothesis"} | (set() if above else PACKAGES)
    if package == "frontends":
        mine = {"onnx"} if name.startswith("onnx") else {"yaml"} if name.startswith("yaml") else set()
        return HEAVY - mine | {"backends", "hypothesis"}
    return {"onnx", "yaml", "frontends", "hypothesis"}


FILES = [p for package in ("graphc", "frontends", "backends") for p in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_import_rules(path: Path):
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}" for name, line in imports(path) if name in forbidden(path)
    ]
    assert not broken, "\n".join(broken)


def test_the_rules_see_imports_inside_functions(tmp_path: Path):
    path = tmp_path / "snippet.py"
    path.write_text("def f():\n    import numba\n    from onnx.helper import make_node\n    from . import yaml\n")
    assert list(imports(path)) == [("numba", 2), ("onnx", 3)]


def test_importing_graphc_is_light():
    heavy = sorted(HEAVY | {"networkx", "rich", "click", "hypothesis", "safetensors", "google.protobuf"})
    program = f"import sys, graphc; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_help_needs_no_compiler():
    heavy = sorted(HEAVY | {"networkx", "rich"})
    program = (
        "import sys; from graphc.cli import main; main(['--help'], standalone_mode=False); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip().endswith("\n[]")


def test_the_package_says_that_it_is_typed():
    assert (Path(graphc.__file__).parent / "py.typed").exists()


def test_the_page_of_operators_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs" / "operators.py"))
    assert page["PAGE"].read_text() == page["render"](), "run: python docs/operators.py"
