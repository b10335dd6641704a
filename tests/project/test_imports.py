"""Who may import whom: read from the source, imports within functions too."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import numpy as np

from graphc.backends.cpu.families import FAMILIES, kind_of
from graphc.backends.cuda.kernel import FAMILIES as CUDA_FAMILIES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"graphc": "graphc", "frontends": "graphc.frontends", "backends": "graphc.backends"}

# Parts of the project by the modules that they begin with; the longest prefix counts. In the folders of the CPU's families the
# kind of a module (backends/cpu/families.py) says more.
PARTS = {
    "ir": "attrs huffman coded_arrays class_names converted dlpack dims sizes classes growing polynomial dtypes types objects structures bundles declared unread state errors expr op graph facts bind bounded interpret verify reading signature scores report tables words progress memory_limit source_files pictures records own ops._masks ops._positions",
    "ops": "ops",
    "passes": "passes pipeline",
    "lower": "lower",
    "program": "lower.aligned lower.storage lower.program lower.assembled lower.registers lower.kernel lower.segment lower.weights lower.block lower.checks lower.limits lower.memory lower.plans lower.binding lower.binder lower.codes lower.guards",
    "disk": "origin contents store model_folder documents fingerprint installed code_digest",
    "run": "backend executable segments segmented kept_segments loop_rows held_programs model taken_apart arguments remedies pickled serving session session_file sessions growing_plans in_place room",
    "explained": "explanation",
    "zoo": "zoo",
    "driver": "compiler",
    "quantizer": "quantizer",
    "shrinker": "shrinker",
    "gradient": "gradient",
    "interface": "onnx_backend",
    "doors": "onnxruntime torch_backend",
    "draw": "draw",
    "testing": "testing",
    "artefact": "artefact",
    "fleet": "fleet",
    "reduce": "reduce",
    "cli": "cli __main__",
    "frontends": "frontends",
    "backends": "backends",
    "cpu.runtime": "backends.cpu.runtime",
    "cpu.codegen": "backends.cpu.codegen",
    "cpu.blocks": "backends.cpu.tile.dot",
    "cpu.lower": " ".join(f"backends.cpu.{family}" for family in FAMILIES),
    "llvm": "backends.llvm",
    "cuda.codegen": "backends.cuda.codegen backends.cuda.kernel",
    "cuda.emulator": "backends.cuda.emulator",
    "cuda.runtime": "backends.cuda.runtime",
    "cuda.context": "backends.cuda.lower",
    "cuda.blocks": "backends.cuda.product.tile",
    "cuda.lower": " ".join(f"backends.cuda.{family}" for family in CUDA_FAMILIES),
}
KINDS = {"block": "cpu.blocks", "driver": "cpu.kernels", "micro": "cpu.kernels", "njit": "cpu.kernels"}
CUDA_KINDS = {"block": "cuda.blocks", "kernels": "cuda.kernels"}
MAY_IMPORT = {
    "ir": "ir",
    "ops": "ir ops",
    "passes": "ir ops passes lower",
    "lower": "ir ops lower program",
    "program": "ir disk program",
    "disk": "ir disk",
    "run": "ir disk run explained",
    "explained": "ir program explained",
    "zoo": "ir zoo",
    "interface": "ir frontends",
    "doors": "ir doors",
    "driver": "ir ops passes disk run zoo driver frontends backends",
    "draw": "ir draw",
    "quantizer": "ir ops passes driver draw quantizer frontends",
    "shrinker": "ir ops passes driver quantizer shrinker frontends",
    "artefact": "ir program disk run driver backends cpu.runtime cpu.blocks artefact",
    "cli": "ir ops passes program run explained zoo driver testing fleet reduce artefact draw quantizer shrinker cli frontends backends",
    "testing": "ir driver cli frontends backends testing",
    "fleet": "ir disk run driver backends fleet",
    "reduce": "ir cli frontends backends reduce",
    "gradient": "ir ops",
    "frontends": "ir ops gradient frontends",
    "backends": "ir ops passes lower program disk run backends cpu.runtime cpu.codegen cpu.lower cpu.kernels cpu.blocks cuda.runtime cuda.codegen cuda.context cuda.lower cuda.blocks",
    "cpu.runtime": "ir disk run program backends cpu.runtime cpu.blocks",
    "cpu.codegen": "ir disk program backends llvm cpu.codegen cpu.runtime cpu.blocks",
    "cpu.kernels": "ir program backends llvm cpu.codegen cpu.kernels cpu.runtime cpu.blocks",
    "cpu.lower": "ir ops passes lower program backends cpu.lower cpu.kernels cpu.runtime cpu.blocks",
    "cpu.blocks": "ir program backends cpu.blocks",
    "llvm": "ir llvm",
    "cuda.codegen": "ir disk run program backends llvm cpu.codegen cuda.codegen cuda.emulator",
    "cuda.emulator": "ir disk llvm backends cpu.codegen cpu.runtime cuda.emulator",
    "cuda.runtime": "ir ops run program lower cuda.codegen cuda.emulator cuda.runtime",
    "cuda.kernels": "ir lower program llvm cuda.codegen cuda.context cuda.kernels cuda.blocks",
    "cuda.context": "ir ops lower program cuda.codegen cuda.context cuda.lower",
    "cuda.lower": "ir ops passes lower program backends cuda.codegen cuda.context cuda.lower cuda.blocks",
    "cuda.blocks": "ir lower program cuda.blocks",
}
EXCEPTIONS = {
    ("graphc.op", "graphc.installed"),  # and the packages that bring more
    ("graphc.op", "graphc.ops"),  # an operator is looked up by its name, which loads the records
    ("graphc.backends.cpu.runtime.process", "graphc.backends.cpu.codegen.toolchain"),  # made when somebody compiles
}

THIRD_PARTIES = {
    "numba": ("graphc.backends.cpu.codegen", "graphc.backends.cuda.codegen", "driver", "njit", "kernels"),
    "llvmlite": (
        "graphc.backends.cpu.codegen",
        "graphc.backends.llvm",
        "graphc.backends.cuda.codegen",
        "graphc.backends.cuda.emulator",
        "kernels",
        "micro",
        "graphc.backends.cpu.executor.entry_driver",
        "graphc.backends.cpu.target",
    ),
    "onnx": ("graphc.frontends.onnx_", "graphc.onnx_backend"),
    "yaml": ("graphc.frontends.yaml_",),
    "safetensors": ("graphc.frontends.yaml_",),
    "PIL": ("graphc.pictures",),
    "soundfile": ("graphc.cli.sounds",),
    "click": ("graphc.cli", "graphc.__main__"),
    "rich": ("graphc.progress", "graphc.tables", "graphc.cli.excerpt"),
    "pygraphviz": ("graphc.draw.layout",),
    "resvg_py": ("graphc.draw.png",),
    "matplotlib": ("graphc.cli.picture",),
    "networkx": ("graphc.graph", "graphc.frontends.onnx_"),
    "distributed": ("graphc.fleet.dask_engine", "graphc.fleet.engine"),
    "torch": ("graphc.torch_backend",),
    "hypothesis": ("graphc.testing",),
}


def modules() -> dict[str, Path]:
    found = {}
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder != "graphc" or inside[0] not in PACKAGES:  # in a checkout the other two are links in this one
                found[".".join((package, *inside)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path, types: bool = False) -> Iterator[str]:
    """What a module imports, whenever it does. types: also what only a type checker sees."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test) and not types:
                continue
            if isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    yield whole if whole in MODULES else child.module
            elif isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            else:
                yield from visit(child)

    return visit(ast.parse(path.read_text()))


def part(module: str) -> str:
    inside = module.removeprefix("graphc.")
    if (
        inside.startswith("backends.cpu.")
        and inside.count(".") == 3
        and kind_of(inside)
        and inside.split(".")[2] in FAMILIES
    ):
        return KINDS[kind_of(inside)]
    if inside.startswith("backends.cuda.") and inside.split(".")[2] in CUDA_FAMILIES:
        last = inside.rpartition("_")[2]
        if last in CUDA_KINDS:
            return CUDA_KINDS[last]
    prefixes = [(p, name) for name, text in PARTS.items() for p in text.split() if f"{inside}.".startswith(f"{p}.")]
    return max(prefixes, key=lambda found: len(found[0]))[1] if prefixes else ""


def test_every_module_has_a_part():
    assert [m for m in MODULES if not part(m) and m != "graphc"] == []


def test_parts_import_what_they_may():
    wrong = []
    for module, path in MODULES.items():
        for other in imports(path):
            known = other in MODULES and part(module) and part(other) and (module, other) not in EXCEPTIONS
            if known and part(other) not in MAY_IMPORT[part(module)].split():
                wrong.append(f"{module} ({part(module)}) imports {other} ({part(other)})")
    assert wrong == []


def test_no_circles():
    graph = nx.DiGraph()
    graph.add_edges_from((m, other) for m, path in MODULES.items() for other in imports(path) if other in MODULES)
    assert [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1] == []


def test_other_packages_are_imported_where_they_belong():
    wrong = []
    for module, path in MODULES.items():
        for other in imports(path, types=True):
            homes = THIRD_PARTIES.get(str(other).partition(".")[0])
            kinds = {kind_of(module), module.rpartition("_")[2]}
            if homes is not None and kinds.isdisjoint(homes) and not module.startswith(homes):
                wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_what_generators_import_is_part_of_the_cache_key():
    """graphc.backends.cpu and .llvm as a whole are. Specifications of kernels say the rest."""
    from graphc.backends.cpu.codegen.cache import SHARED

    allowed = {f"graphc.{name.removesuffix('.py').replace('/', '.')}" for name in SHARED}
    read = {other for m, path in MODULES.items() if part(m) in ("cpu.kernels", "cpu.blocks") for other in imports(path)}
    whole = ("graphc.backends.cpu.", "graphc.backends.llvm.")
    assert {m for m in read if m.startswith("graphc.") and not m.startswith(whole)} <= allowed


RUN = """
import builtins, sys, numpy as np
original = builtins.__import__
def refusing(name, *more):
    if name.partition(".")[0] in ("numba", "llvmlite", "onnx"):
        raise ImportError(name)
    return original(name, *more)
if sys.argv[3] == "alone":
    builtins.__import__ = refusing
import graphc
x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
model = graphc.compile(sys.argv[1], threads=1, shapes={"image": x.shape})
np.save(sys.argv[2], model(x))
"""


def test_a_plan_from_disk_runs_without_numba_and_llvm(tmp_path: Path):
    environment = {**os.environ, "GRAPHC_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    environment.pop("GRAPHC_CHECK", None)  # then no plans are kept
    results = []
    for mode in ("first", "alone"):
        out = tmp_path / f"{mode}.npy"
        call = [sys.executable, "-c", RUN, str(ROOT / "examples" / "zoo" / "lenet5.yaml"), str(out), mode]
        subprocess.run(call, env=environment, cwd=tmp_path, check=True)
        results.append(np.load(out))
    np.testing.assert_array_equal(*results)


def test_tests_import_each_other_from_the_folder_of_tests():
    """`pytest` puts that folder on the path; only `python -m pytest` puts the one above it there."""
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [n for n in names if n.partition(".")[0] == "tests"], f"{file}, line {node.lineno}"


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone: of two that are called the same it collects one."""
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert [n for n in {*names} if names.count(n) > 1] == []
