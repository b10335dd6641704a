"""The house rules: who may import whom, and that importing graphc stays light."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

import graphc
from graphc.op import all_ops, get_op

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"numba", "llvmlite", "onnx", "yaml"}
PACKAGES = {"frontends", "backends"}
ABOVE = {"cli", "artefact", "fleet", "reduce"}  # folders of what may know front ends and backends
DRIVERS = (("quantizer", "driver.py"), ("shrinker", "driver.py"))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(package, line) of each import in a file, also of those inside functions. The package is the top-level one, but for
    graphc's parts that have a folder of their own in the repository ("frontends", "backends")."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, below = name.partition(".")
            part = below.split(".")[0]
            yield part if top == "graphc" and part in PACKAGES else top, node.lineno


def forbidden(path: Path) -> set[str]:
    """What this file must not import."""
    package, *_, name = path.relative_to(ROOT).parts
    if package == "graphc":
        if name == "onnx_backend.py":  # ONNX's interface, for ONNX
            return HEAVY - {"onnx"} | {"backends", "hypothesis"}
        if "testing" in path.parts:
            return HEAVY
        above = bool(ABOVE & {*path.parts}) or name == "compiler.py" or path.parts[-2:] in DRIVERS
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
    text = "import numba\nfrom onnx.helper import make_node\nfrom . import yaml\nfrom graphc import frontends, op\n"
    text += "import graphc.backends.cpu\nfrom graphc.frontends.yaml_load import load_yaml\n"
    path.write_text("def f():\n" + textwrap.indent(text, "    "))
    expected = [("numba", 2), ("onnx", 3), ("frontends", 5), ("graphc", 5), ("backends", 6), ("frontends", 7)]
    assert list(imports(path)) == expected


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


@pytest.fixture(scope="module")
def operator_table() -> dict:
    return runpy.run_path(str(ROOT / "docs" / "operator_table.py"))


SHOWN = ("MatMul", "Conv", "GridSample", "Softmax", "And")


def test_the_table_of_operators_is_up_to_date(operator_table: dict):
    """Some of its rows; the test below has all."""
    lines = operator_table["PAGE"].read_text().splitlines()
    assert set(operator_table["render"](get_op(name) for name in SHOWN)) <= set(lines), (
        "run: python docs/operator_table.py"
    )


def test_the_table_has_every_operator_of_onnx(operator_table: dict):
    """With the opsets of its versions."""
    text = operator_table["PAGE"].read_text()
    if f"onnx {onnx.__version__}" not in text:
        pytest.skip("the table is of another version of onnx")
    lines = text.splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines if line.startswith("| `")}
    rows |= dict(line[2:].split(": ") for line in lines if re.fullmatch(r"- `[\w.:]+`: [\d, ]+", line))
    for name, versions in operator_table["opsets"]().items():
        if name in all_ops():
            assert rows[f"`{name}`"] == ", ".join(map(str, versions))


@pytest.mark.slow
def test_the_whole_table_of_operators_is_up_to_date(operator_table: dict):
    assert operator_table["PAGE"].read_text() == operator_table["page"](), "run: python docs/operator_table.py"


def test_folders_named_like_parts_of_graphc_may_lie_beside_a_program(tmp_path: Path):
    for name in ("frontends", "backends"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not the one that graphc wants')\n")
    (tmp_path / "net.yaml").write_text(
        "graphc: 1\ninputs: {x: {shape: [2]}}\nnet: [relu]\noutputs: {y: last}\n", encoding="utf-8"
    )
    program = (
        f"import sys; import numpy; sys.path.append({str(Path(graphc.__file__).parent.parent)!r}); import graphc\n"
    )
    program += "print(graphc.compile('net.yaml')(numpy.float32([-1, 2])), 'backends' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.strip() == "[0. 2.] False"
