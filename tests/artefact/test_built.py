"""A model as one file: what it gives is what compiling gives; what can't be run is refused with the reason."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nets import convnet, transformer
from scripts import ROOT, run_script

import graphc
from graphc import pickled
from graphc.artefact import abi, container, load
from graphc.backends.cpu.hardware import cpu_flags
from graphc.errors import GraphcError, InputError, LoadError, UnsupportedError
from graphc.graph import Builder

DIGITS = ROOT / "examples/digits/digits.onnx"
TARGETS = ["cpu:avx2", "cpu:portable"]  # whose kernels other tests have compiled
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 17, (5, 1, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "digits.gcm"
    graphc.build(DIGITS, path, targets=TARGETS, shapes=[{"image": (range(1, 6), 1, 8, 8)}], threads=2)
    return path


pytestmark = pytest.mark.skipif("avx2" not in cpu_flags(), reason="no AVX2")


def targets_of(path: Path) -> list[str]:
    return [t["target"] for t in container.Container(path).header["targets"]]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_it_gives_what_the_compiled_model_gives(built: Path, threads: int) -> None:
    expected = graphc.compile(DIGITS, target="reference")
    for target in targets_of(built):
        model = graphc.load(built, threads=threads, target=target)
        for n in (1, 2, 5):
            # the reference sums in another order
            np.testing.assert_allclose(model(PICTURES[:n]), expected(PICTURES[:n]), rtol=1e-4, atol=1e-6)


def test_it_needs_numpy_alone(built: Path) -> None:
    code = """
    import sys
    for name in ("numba", "llvmlite", "onnx", "networkx", "yaml", "safetensors", "rich", "click", "google.protobuf"):
        sys.modules[name] = None
    import numpy as np, graphc
    model = graphc.load(sys.argv[1])
    print(model(np.ones((2, 1, 8, 8), np.float32)).shape, [s.name for s in model.inputs], model)
    print(len(model.plan({"image": (2, 1, 8, 8)}).steps) > 1)
    """
    out = run_script(code, built, GRAPHC_CACHE_DIR="/nonexistent/cache")
    assert "(2, 10) ['image'] Model 'digits'" in out
    assert out.endswith("True\n")


def test_where_there_are_no_files_without_a_name(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    monkeypatch.setattr("graphc.backends.cpu.runtime.process.RUNTIMES", {})  # nobody has loaded the code
    assert graphc.load(built)(PICTURES).shape == (5, 10)


def test_a_model_of_fixed_shapes_is_ready_when_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder("doubled")
    b_x = b.input("x", "float32", (3,))
    graphc.build(b.build({"y": b.add("Add", b_x, b_x)}), tmp_path / "m.gcm")
    model = graphc.load(tmp_path / "m.gcm")
    assert "1 plan" in repr(model)
    assert model(np.float32([1, 2, 3])).tolist() == [2, 4, 6]
    data = pickle.dumps(model)
    assert pickle.loads(data) is model and len(data) < 1000

    graphc.build(b.build({"y": b.add("Mul", b_x, b_x)}), tmp_path / "m.gcm")
    assert model(np.float32([1, 2, 3])).tolist() == [2, 4, 6]
    for held in ("_models", "_held"):  # as in another process
        monkeypatch.setattr(pickled, held, type(getattr(pickled, held))())
    with pytest.raises(LoadError, match="is not what it was"):
        pickle.loads(data)
    (tmp_path / "m.gcm").unlink()
    with pytest.raises(LoadError, match="No such file"):
        pickle.loads(data)


@pytest.mark.parametrize("graph, shape", [(convnet(), (2, 3, 28, 28)), (transformer(), (2, 7, 32))])
def test_networks(graph: graphc.Graph, shape: tuple[int, ...], tmp_path: Path) -> None:
    graphc.build(graph, tmp_path / "m.gcm", targets=["cpu:avx2"], shapes=[{"x": shape}])
    x = RNG.standard_normal(shape).astype(np.float32)
    model, compiled = graphc.load(tmp_path / "m.gcm"), graphc.compile(graph, target="cpu:avx2")
    for name, value in compiled.run({"x": x}).items():
        assert np.array_equal(model.run({"x": x})[name], value)  # of the same kernels


def test_sessions_whose_states_grow(tmp_path: Path) -> None:
    b = Builder("cache")
    x, past = b.input("x", "float32", ("batch", "new", 4)), b.input("past_key_0", "float32", ("batch", "past", 4))
    whole = b.add("Concat", past, x, axis=1)
    total = b.add("ReduceSum", whole, b.constant([1], "int64"))
    path = tmp_path / "m.gcm"
    graph = b.build({"y": total, "present_key_0": whole})
    graphc.build(
        graph, path, targets=["cpu:avx2"], shapes=[{"batch": (1,), "past": (0,), "new": (range(1, 4),)}], threads=1
    )
    session = graphc.load(path).session()
    seen = RNG.integers(0, 9, (1, 40, 4)).astype(np.float32)
    at = 0
    for n in (3, *[1] * 35, 2):
        y = session(seen[:, at : at + n])
        at += n
        assert np.array_equal(y, seen[:, :at].sum(1, keepdims=True))
    assert session.lengths == {"past_key_0": 40}


def test_shapes_that_follow_from_data(tmp_path: Path) -> None:
    b = Builder("positives")
    x = b.input("x", "float32", (20,))
    found = b.add("NonZero", b.add("Greater", x, b.constant(0, "float32")))
    taken = b.add("GatherND", x, b.add("Transpose", found, perm=[1, 0]))
    graph, path = b.build({"y": b.add("Mul", taken, b.constant(2, "float32"))}), tmp_path / "m.gcm"
    with pytest.raises(UnsupportedError, match="shapes follow from data.*GatherND.*\n.*--input"):
        graphc.build(graph, path, targets=["cpu:avx2"])
    samples = RNG.standard_normal((5, 20)).astype(np.float32)
    graphc.build(graph, path, targets=["cpu:avx2"], samples=[{"x": samples[0]}])
    model = graphc.load(path)
    for a in samples:
        assert np.array_equal(model(a), 2 * a[a > 0])
    with pytest.raises(InputError, match="lead to sizes that .* has no plan for"):
        model(-np.ones(20, np.float32))
    graphc.build(graph, path, targets=["cpu:avx2"], samples=[{"x": samples[0]}, {"x": -np.ones(20, np.float32)}])
    assert graphc.load(path)(-np.ones(20, np.float32)).shape == (0,)


def test_sizes_by_the_names_of_dims(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'width' is no input, and no dim of one"):
        graphc.build(transformer(), tmp_path / "m.gcm", shapes=[{"width": (3,)}])
    with pytest.raises(InputError, match="dims of 'x' are open: length"):
        graphc.build(transformer(), tmp_path / "m.gcm", shapes=[{"n": (3,)}])
    with pytest.raises(InputError, match="stand for 1000000 sets of shapes"):
        graphc.build(transformer(), tmp_path / "m.gcm", shapes=[{"n": (range(1000),), "length": (range(1000),)}])


# --- what is refused ------------------------------------------------------------------------------------------------------
def test_shapes_without_a_plan(built: Path) -> None:
    with pytest.raises(InputError, match=r"no plan for inputs of shapes image=3000,1,8,8\n.*image=1..5,1,8,8"):
        graphc.load(built)(np.zeros((3000, 1, 8, 8), np.float32))


def test_it_has_no_graph(built: Path) -> None:
    with pytest.raises(InputError, match="holds plans and no graph"):
        _ = graphc.load(built).graph


@pytest.mark.parametrize("at, what", [(100, "header"), (-5000, "in it is not what was written")])
def test_a_byte_that_has_changed(built: Path, tmp_path: Path, at: int, what: str) -> None:
    data = bytearray(built.read_bytes())
    offsets = [(o, n) for name, (o, n, _) in container.Container(built).header["parts"].items() if name[:4] == "weig"]
    places = [100] if at == 100 else [o + n // 2 for o, n in offsets]
    for i in places:
        data[i] ^= 1
    (tmp_path / "m.gcm").write_bytes(data)
    with pytest.raises(LoadError, match=what):
        graphc.load(tmp_path / "m.gcm")(PICTURES)


def test_a_damaged_plan_and_damaged_code(built: Path, tmp_path: Path) -> None:
    for kind in ("cpu:", "code-"):
        data = bytearray(built.read_bytes())
        for name, (offset, nbytes, _) in container.Container(built).header["parts"].items():
            if name.startswith(kind):
                data[offset + nbytes - 1] ^= 1
        (tmp_path / "m.gcm").write_bytes(data)
        with pytest.raises(LoadError, match="is damaged: '.*' in it is not what was written"):
            graphc.load(tmp_path / "m.gcm")(PICTURES)


def test_a_file_that_was_cut_off_and_others(built: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gcm"
    path.write_bytes(built.read_bytes()[:-1])
    with pytest.raises(LoadError, match=r"is damaged: it has \d+ bytes and should have \d+"):
        graphc.load(path)
    for content in (b"", b"PK", bytes(4096)):
        path.write_bytes(content)
        with pytest.raises(LoadError, match="is no file that `graphc build` wrote"):
            graphc.load(path)
    with pytest.raises(LoadError, match="can't be read: No such file"):
        graphc.load(tmp_path / "none.gcm")


def test_a_file_of_another_format(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "VERSION", abi.VERSION + 1)
    with pytest.raises(
        LoadError, match=rf"built by graphc {graphc.__version__} \(format 1\..*\), and this is .* \(format 2\."
    ):
        graphc.load(built)


def test_the_format_follows_from_the_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = abi.abi()
    monkeypatch.setattr(abi, "ENTRY", SimpleNamespace(at={"steps": 0}))
    assert abi.abi() != before


def test_a_cpu_that_lacks_instructions(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, portable = targets_of(built)
    assert best in repr(graphc.load(built))
    monkeypatch.setattr(load, "cpu_flags", lambda: frozenset({"sse2"}))
    assert portable in repr(graphc.load(built))
    with pytest.raises(
        UnsupportedError, match=rf"this CPU lacks instructions .*: {best.replace('+', '[+]')} needs avx"
    ):
        graphc.load(built, target=best)
    with pytest.raises(UnsupportedError, match="has nothing for target 'cpu:avx1'"):
        graphc.load(built, target="cpu:avx1")


def test_models_that_no_file_can_hold(tmp_path: Path) -> None:
    b = Builder("texts")
    texts = b.input("texts", "object", (3,))
    upper = b.build({"y": b.add("StringNormalizer", texts, case_change_action="UPPER")})
    b = Builder("valued")
    sizes = b.input("sizes", "int64", (2,))
    valued = b.build({"y": b.add("ConstantOfShape", sizes)})
    for graph, why in (
        (upper, "NumPy computes.*StringNormalizer"),
        (valued, "shapes follow from the values of 'sizes'"),
        (convnet(), "dims of the inputs are open: x.*\n.*--shapes 'x=1..8,3,28,28'"),
    ):
        with pytest.raises(GraphcError, match=why):
            graphc.build(graph, tmp_path / "m.gcm")
        assert not (tmp_path / "m.gcm").exists()
    with pytest.raises(UnsupportedError, match="built for target cpu, not 'cuda'"):
        graphc.build(convnet(), tmp_path / "m.gcm", targets=["cuda"])


def test_more_plans_than_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphc.artefact.planned.MAX_PLANS", 2)
    with pytest.raises(InputError, match="more than 1 plans"):
        graphc.build(DIGITS, tmp_path / "m.gcm", targets=["cpu:avx2"], shapes=[{"batch": (1,)}, {"batch": (2,)}])


def test_a_failed_build_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "m.gcm").write_bytes(b"before")
    with pytest.raises(GraphcError):
        graphc.build(convnet(), tmp_path / "m.gcm")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gcm"]
    assert (tmp_path / "m.gcm").read_bytes() == b"before"


# --- the small distribution -----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_graphc_runtime(built: Path, tmp_path: Path) -> None:
    """In a fresh environment with NumPy alone."""
    import subprocess
    import sys
    import venv
    import zipfile

    pytest.importorskip("hatchling")
    pip = [
        sys.executable,
        *["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"],
        tmp_path,
        ROOT / "runtime",
    ]
    subprocess.run(pip, check=True)
    venv.create(tmp_path / "env", symlinks=True)
    [packages] = (tmp_path / "env/lib").glob("python*/site-packages")
    with zipfile.ZipFile(next(tmp_path.glob("graphc_runtime-*.whl"))) as wheel:
        wheel.extractall(packages)
    size = sum(f.stat().st_size for f in packages.rglob("*"))
    assert size < 5 << 20
    for name in ("numpy", "numpy.libs"):
        found = Path(np.__file__).parents[1] / name
        if found.exists():
            (packages / name).symlink_to(found)
    shutil.copy(built, tmp_path / "m.gcm")
    code = "import sys, numpy, graphc; print(graphc.load(sys.argv[1])(numpy.ones((2, 1, 8, 8), 'float32')).argmax(1).tolist())"
    code += "; graphc.compile('model.onnx')"
    ran = subprocess.run(
        [tmp_path / "env/bin/python", "-I", "-c", code, tmp_path / "m.gcm"], capture_output=True, text=True
    )
    assert "UnsupportedError: this is graphc-runtime" in ran.stderr
    assert ran.stdout.strip() == str(graphc.load(built)(np.ones((2, 1, 8, 8), np.float32)).argmax(1).tolist())
