"""Plans on disk: a second process maps and runs them; what is damaged, changed or gone is made anew."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import agree
from onnx import external_data_helper
from scripts import run_script, start_script

import graphc
from graphc import documents, fingerprint, source_files, store
from graphc.backends.cpu.runtime import shared_object
from graphc.backends.cpu.runtime.object_file import CantLink
from graphc.backends.reference import run as reference
from graphc.errors import GraphcWarning, InputError, LoadError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph
from graphc.lower import plans as kept_plans
from graphc.lower import segment
from graphc.model_folder import ModelFolder

F32 = np.float32
X = np.random.default_rng(5).uniform(-1, 1, (3, 3, 12, 12)).astype(F32)

# compiles the file argv[1] and runs it for each batch size in argv[2:]; prints what was imported, and the results
PROGRAM = """
import hashlib, json, sys
import numpy as np
import graphc

x = np.random.default_rng(5).uniform(-1, 1, (3, 3, 12, 12)).astype(np.float32)
model = graphc.compile(sys.argv[1], threads=2)
results = [hashlib.sha256(model(x[: int(n)]).tobytes()).hexdigest() for n in sys.argv[2:]]
heavy = "onnx numba llvmlite yaml networkx google.protobuf graphc.op graphc.graph graphc.pipeline graphc.frontends".split()
print(json.dumps([sorted(m for m in heavy if m in sys.modules), results]))
"""


def network(seed: int = 0, batch: int | str = "n") -> Graph:
    """x [n, 3, 12, 12] -> y [n, 10]; its larger weights are read from the mapped file."""
    b, rng = Builder("network"), np.random.default_rng(seed)

    def weight(*shape: int):
        return b.constant(rng.uniform(-1, 1, shape) * (3 / np.prod(shape[1:])) ** 0.5, F32)

    x = b.input("x", F32, (batch, 3, 12, 12))
    x = b.add("Relu", b.add("Conv", x, weight(64, 3, 3, 3), pads=[1] * 4))
    x = b.add("Relu", b.add("Conv", x, weight(64, 64, 3, 3), pads=[1] * 4))
    x = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return b.build({"y": b.add("Gemm", b.add("Flatten", x), weight(64 * 36, 10))})


def write(path: Path, seed: int = 0, batch: int | str = "n") -> Path:
    onnx.save(to_onnx(network(seed, batch)), path)
    return path


def right(model: graphc.Model, n: int = 2, seed: int = 0) -> np.ndarray:
    got = model.run({"x": X[:n]})
    agree(got, reference(network(seed), {"x": X[:n]}))
    return got["y"]


def run_in(cache: Path, path: Path, *sizes: int, **environment: str) -> tuple[list[str], list[str]]:
    """(heavy modules that a process has imported, digests of its results) for a model file and batch sizes."""
    imported, results = json.loads(run_script(PROGRAM, path, *sizes, GRAPHC_CACHE_DIR=str(cache), **environment))
    return imported, results


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(cache after one process, model file, digest of the result for batch size 2)."""
    cache, path = tmp_path_factory.mktemp("cache"), write(tmp_path_factory.mktemp("model") / "net.onnx")
    os.utime(path, (1e9, 1e9))
    imported, (digest,) = run_in(cache, path, 2)
    assert {"onnx", "numba", "graphc.pipeline"} <= set(imported)
    return cache, path, digest


@pytest.fixture
def cache(filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that cache, for this process too."""
    folder = tmp_path / "cache"
    shutil.copytree(filled[0], folder)
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def kernels_only(filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the kernels of `network`, and no plans."""
    folder = tmp_path / "cache"
    shutil.copytree(filled[0], folder)
    shutil.rmtree(folder / "models")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(folder))
    return folder


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "models").iterdir())


def only(cache: Path, pattern: str) -> Path:
    (found,) = cache.glob(f"models/*/{pattern}")
    return found


def was_compiled(model: graphc.Model) -> bool:
    return model._source._infos != ()


# --- found again ------------------------------------------------------------------------------------------------------
def test_a_second_process_imports_neither_front_end_nor_compiler(filled, cache: Path):
    _, path, digest = filled
    assert run_in(cache, path, 2) == ([], [digest])


def test_the_same_bits_as_without_the_cache(filled, cache: Path):
    found, compiled = graphc.compile(filled[1], threads=2), graphc.compile(filled[1], threads=2, cache=False)
    np.testing.assert_array_equal(right(found), right(compiled))
    assert not was_compiled(found) and was_compiled(compiled)


def test_the_report_is_kept(filled, cache: Path):
    found, compiled = graphc.compile(filled[1], threads=2), graphc.compile(filled[1], threads=2, cache=False)
    a, b = found.plan({"x": (2, 3, 12, 12)}), compiled.plan({"x": (2, 3, 12, 12)})
    assert not was_compiled(found)
    assert (a.steps, a.memory, a.notes, a.shapes, a.target, a.threads) == (
        b.steps, b.memory, b.notes, b.shapes, b.target, b.threads,
    )  # fmt: skip
    assert [p.name for p in a.passes] == [p.name for p in b.passes]
    assert len(a.profile({"x": X[:2]}, 2)) == len(a.steps)
    assert (found.inputs, found.outputs, found.name, repr(found)) == (
        compiled.inputs, compiled.outputs, compiled.name, repr(compiled),
    )  # fmt: skip


def test_another_batch_size_after_a_hit(filled, cache: Path):
    model = graphc.compile(filled[1], threads=2)
    np.testing.assert_array_equal(right(model, 3)[:2], right(model, 2))
    assert was_compiled(model)
    assert run_in(cache, filled[1], 2, 3)[0] == []


def test_a_new_plan_shares_the_packed_weights(filled, cache: Path):
    first = only(cache, "weights-*.bin").stat().st_size
    right(graphc.compile(filled[1], threads=2), 3)
    second = [p.stat().st_size for p in cache.glob("models/*/weights-*.bin")]
    assert first > 300_000 and sum(second) - first < first / 4


def test_a_model_from_the_cache_can_be_pickled(filled, cache: Path):
    model = graphc.compile(filled[1], threads=2)
    want = right(model)
    assert not was_compiled(model)
    np.testing.assert_array_equal(right(pickle.loads(pickle.dumps(model))), want)


def test_its_graphs_are_loaded_when_asked_for(filled, cache: Path):
    model = graphc.compile(filled[1], threads=2)
    assert not was_compiled(model)
    assert [n.op.name for n in model.source_graph.nodes] == [n.op.name for n in network().nodes]
    assert all(source_files.mapping_of(v.data) is None for v in model.source_graph.constants())
    assert any(source_files.mapping_of(v.data) is not None for v in model._source.loaded.constants())
    assert len(model.graph.nodes) == model._source.signature.operators


def test_an_error_of_the_data_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    b = Builder("gather")
    rows = b.add("Gather", b.constant(np.ones((5, 2)), F32), b.input("i", np.int64, (3,)), name="rows")
    onnx.save(to_onnx(b.build({"y": rows})), tmp_path / "gather.onnx")
    texts = []
    for _ in range(2):
        model = graphc.compile(tmp_path / "gather.onnx", threads=1)
        with pytest.raises(InputError, match="rows.*index 7 at .* is out of range") as error:
            model(np.array([0, 7, 1]))
        texts.append(str(error.value))
        np.testing.assert_array_equal(model(np.array([0, -1, 4])), np.ones((3, 2)))
    assert texts[0] == texts[1] and not was_compiled(model)


@pytest.mark.parametrize("kind", ["bytes", "proto"])
def test_sources_that_are_no_files(filled, kernels_only: Path, kind: str):
    source = onnx.load(filled[1]) if kind == "proto" else filled[1].read_bytes()
    first = graphc.compile(source, threads=2)
    want = right(first)
    second = graphc.compile(source, threads=2)
    np.testing.assert_array_equal(right(second), want)
    assert was_compiled(first) and not was_compiled(second)
    if kind == "proto":
        source.graph.node[1].op_type = "Sigmoid"  # models have copies
        right(second, 3)
        with pytest.raises(AssertionError):
            right(graphc.compile(source, threads=2))


def test_where_the_file_lies_does_not_matter(filled, cache: Path, tmp_path: Path):
    moved = shutil.copy(filled[1], tmp_path / filled[1].name)
    assert run_in(cache, moved, 2) == ([], [filled[2]])


def test_kernels_that_can_not_be_linked_are_found_one_by_one(filled, kernels_only: Path, monkeypatch):
    def refuse(objects):
        raise CantLink("another machine")

    monkeypatch.setattr(shared_object, "link", refuse)
    want = right(graphc.compile(filled[1], threads=2))
    assert not list(kernels_only.glob("models/*/*.so"))
    imported, (digest,) = run_in(kernels_only, filled[1], 2)
    assert imported == ["llvmlite"] and digest == filled[2]
    np.testing.assert_array_equal(right(graphc.compile(filled[1], threads=2)), want)


# --- not found --------------------------------------------------------------------------------------------------------
def test_a_changed_file_is_another_model(filled, cache: Path, tmp_path: Path):
    path = shutil.copy(filled[1], tmp_path / "net.onnx")
    before = os.stat(path)
    assert not was_compiled(graphc.compile(path, threads=2))
    write(Path(path), seed=1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_size == before.st_size
    model = graphc.compile(path, threads=2)
    right(model, seed=1)
    assert was_compiled(model)


def test_external_data_that_changes(kernels_only: Path, tmp_path: Path):
    path = tmp_path / "net.onnx"

    def save(seed: int) -> None:
        (tmp_path / "net.data").unlink(missing_ok=True)
        proto = to_onnx(network(seed))
        external_data_helper.convert_model_to_external_data(proto, location="net.data", size_threshold=1024)
        if not path.exists():
            onnx.save(proto, path)
        external_data_helper.write_external_data_tensors(proto, str(tmp_path))

    save(0)
    right(graphc.compile(path, threads=2))
    again = graphc.compile(path, threads=2)
    right(again)
    assert not was_compiled(again)
    save(1)
    for n in (2, 2, 3):
        right(graphc.compile(path, threads=2), n, seed=1)
    right(again, 3)  # the old data file has been replaced; who runs the old model still has it


def test_weights_of_a_yaml_model_that_change(kernels_only: Path, tmp_path: Path):
    path = tmp_path / "net.yaml"
    net = "graphc: 1\ninputs: {x: {shape: [n, 8]}}\nnet:\n- dense: {out: 4, bias: false}\n"
    (tmp_path / "seeded.yaml").write_text(net)
    path.write_text(net + "weights: {file: net.npz}\n")
    (v,) = graphc.compile(tmp_path / "seeded.yaml", threads=2).source_graph.constants()
    name, w = v.name, np.random.default_rng(0).uniform(-1, 1, v.shape).astype(F32)
    x = X.reshape(-1)[:16].reshape(2, 8)
    for k, compiled in ((1, True), (1, False), (2, True)):
        if compiled:
            np.savez(tmp_path / "net.npz", **{name: w * F32(k)})
        model = graphc.compile(path, threads=2)
        np.testing.assert_allclose(model(x), x @ (w if w.shape[0] == 8 else w.T) * k, rtol=1e-5, atol=1e-6)
        assert was_compiled(model) == compiled


@pytest.mark.parametrize("option", [{"threads": 1}, {"disabled": ["merge_pads"]}, {"target": "cpu:portable"}])
def test_other_options_are_other_plans(filled, cache: Path, option: dict):
    model = graphc.compile(filled[1], **{"threads": 2, **option})
    right(model)
    assert was_compiled(model) and len(entries(cache)) == 2


def test_another_version_finds_nothing(filled, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fingerprint, "fingerprint", lambda: "a later version")
    assert was_compiled(graphc.compile(filled[1], threads=2))


def test_graphs_are_not_kept(kernels_only: Path):
    right(graphc.compile(network(), threads=2))
    assert not entries(kernels_only)


def test_programs_with_host_steps_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    b = Builder("host")
    x = b.input("x", object, ("n",))
    onnx.save(to_onnx(b.build({"y": b.add("Unique", x, outputs=1, sorted=1)})), tmp_path / "host.onnx")
    for _ in range(2):
        model = graphc.compile(tmp_path / "host.onnx", threads=1)
        assert [*model(np.array(["b", "a", "b"], object))] == ["a", "b"]
    assert not list(tmp_path.glob("cache/models/*/plan-*"))


def test_without_cache_nothing_is_left(filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    right(graphc.compile(filled[1], threads=2, cache=False))
    assert not (tmp_path / "cache").exists()


# --- damage -----------------------------------------------------------------------------------------------------------
def flip(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, truncate, empty, Path.unlink], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["model.json", "plan-*.json", "weights-*.bin", "weights-*.keys", "code-*.so"])
def test_what_is_damaged_is_made_anew(filled, cache: Path, name: str, damage: Callable[[Path], None]):
    damage(only(cache, name))
    for rebuilt in (not name.endswith(".keys"), False):
        model = graphc.compile(filled[1], threads=2)
        right(model)
        assert was_compiled(model) == rebuilt
    right(graphc.compile(filled[1], threads=2), 3)
    for n in (2, 3):
        model = graphc.compile(filled[1], threads=2)
        right(model, n)
        assert not was_compiled(model)
    assert not list(cache.glob("models/*/.tmp-*"))


def test_a_damaged_memo_of_a_source_is_made_anew(filled, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "SETTLED", -1)
    graphc.compile(filled[1], threads=2)
    memo = cache / "sources" / f"{documents.digest_of(os.path.abspath(filled[1]))}.json"
    graphc.compile(filled[1], threads=2)
    for damage in (flip, truncate, empty):
        before = memo.stat().st_mtime_ns
        damage(memo)
        assert not was_compiled(graphc.compile(filled[1], threads=2))
        assert memo.stat().st_mtime_ns > before and documents.read_document(memo) is not None


def test_what_dead_processes_left_is_swept(filled, cache: Path):
    folder = entries(cache)[0]
    for name in (".tmp-abc", "weights-0123456789abcdef.bin", "code-0123456789abcdef.so"):
        (folder / name).write_bytes(b"left")
    right(graphc.compile(filled[1], threads=2), 3)
    assert not [p for p in folder.iterdir() if p.is_file() and p.read_bytes() == b"left"]


# --- the source goes away ---------------------------------------------------------------------------------------------
def test_a_file_that_is_deleted_or_replaced_stays_as_it_was(filled, cache: Path, tmp_path: Path):
    path = Path(shutil.copy(filled[1], tmp_path / "net.onnx"))
    deleted, replaced = graphc.compile(path, threads=2), graphc.compile(path, threads=2)
    os.replace(write(tmp_path / "other.onnx", seed=1), path)
    right(replaced, 3)
    path.unlink()
    right(deleted, 3)
    assert len(deleted.source_graph.nodes) == len(network().nodes)


@pytest.mark.parametrize("hit", [True, False])
def test_a_file_that_is_overwritten_is_said(filled, cache: Path, tmp_path: Path, hit: bool):
    path = Path(shutil.copy(filled[1], tmp_path / "net.onnx"))
    if not hit:
        shutil.rmtree(cache / "models")
    model = graphc.compile(path, threads=2)
    want = right(model)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LoadError, match="overwritten.*\n?.*compile the model again"):
        model(X[:3])
    np.testing.assert_array_equal(model(X[:2]), want)


def test_constants_do_not_change_with_their_file(kernels_only: Path, tmp_path: Path):
    """Weights that a kernel reads as they are in the file, of a model that is not kept."""
    b = Builder("table")
    table = np.random.default_rng(0).uniform(-1, 1, (400, 100)).astype(F32)
    b2 = b.add("Gather", b.constant(table), b.input("i", np.int64, ("n",)))
    path = tmp_path / "table.onnx"
    onnx.save(to_onnx(b.build({"y": b2})), path)
    for keep in (True, False):
        model = graphc.compile(path, threads=1, cache=keep)
        model(np.array([0]))
        blob = path.read_bytes()
        path.write_bytes(bytes(len(blob)))
        np.testing.assert_array_equal(model(np.array([399])), table[399:])
        path.write_bytes(blob)


# --- many processes, limits -------------------------------------------------------------------------------------------
def test_processes_at_once(filled, kernels_only: Path):
    started = [start_script(PROGRAM, filled[1], 2, 1, GRAPHC_CACHE_DIR=str(kernels_only)) for _ in range(3)]
    for p in started:
        out, err = p.communicate(timeout=240)
        assert p.returncode == 0, err
        assert json.loads(out)[1][0] == filled[2]
    assert not list(kernels_only.glob("models/*/.tmp-*"))
    right(graphc.compile(filled[1], threads=2), 1)  # makes what the slower ones could not write
    imported, results = run_in(kernels_only, filled[1], 2)
    assert results == [filled[2]]
    assert run_in(kernels_only, filled[1], 2) == ([], results)


def test_a_model_that_another_process_writes_is_compiled_and_not_kept(filled, kernels_only: Path):
    first = graphc.compile(filled[1], threads=2)
    entry = first._source.backend.folder.entry
    other = ModelFolder(entry.store, entry.folder)
    assert other.lock()
    right(first)
    assert not list(kernels_only.glob("models/*/plan-*"))
    other.unlock()
    right(first, 3)
    assert len(list(kernels_only.glob("models/*/plan-*"))) == 1


def test_models_used_longest_ago_are_evicted(filled, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (old,) = entries(cache)
    os.utime(old / "used", (1e9, 1e9))
    running = graphc.compile(filled[1], threads=2)
    want = right(running)
    os.utime(old / "used", (1e9, 1e9))
    size = sum(p.stat().st_size for p in old.iterdir())
    monkeypatch.setenv("GRAPHC_CACHE_MAX_GB", str(2.5 * size / 1e9))
    for seed in (1, 2):
        right(graphc.compile(write(tmp_path / "net.onnx", seed), threads=2), seed=seed)
    assert len(entries(cache)) == 2 and old not in entries(cache)
    np.testing.assert_array_equal(right(running), want)
    again = graphc.compile(filled[1], threads=2)
    right(again)
    assert was_compiled(again) and len(entries(cache)) == 2


def test_sizes_are_looked_at_only_where_the_limit_may_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scans: list[Path] = []
    evict = store.Store._evict
    monkeypatch.setattr(store.Store, "_evict", lambda self, keep: (scans.append(keep), evict(self, keep))[1])
    kept = store.Store(tmp_path)

    def write(name: str, nbytes: int, by: store.Store = kept) -> Path:
        folder = by.models / name
        folder.mkdir(exist_ok=True)
        (folder / "weights-1.bin").write_bytes(bytes(nbytes))
        by.wrote(folder)
        return folder

    monkeypatch.setenv("GRAPHC_CACHE_MAX_GB", "0.002")
    first = write("a", 500_000)
    assert scans == [first]  # nothing was known before
    os.utime(first, (1e9, 1e9))
    for i in range(3):
        write("b", 100_000 * (i + 1))
    write("c", 700_000, store.Store(tmp_path))  # another process's
    assert scans == [first]
    last = write("d", 900_000)  # 2.4 MB in all
    assert scans == [first, last] and not first.exists() and last.exists()
    write("d", 910_000)
    assert len(scans) == 2
    ledger = store._Ledger(tmp_path)
    assert ledger.total() < 2_000_000
    monkeypatch.setattr(store.time, "time", lambda: 1e11)  # long after the last scan
    write("d", 920_000)
    assert len(scans) == 3


def test_a_limit_that_is_no_number_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_MAX_GB", "lots")
    with pytest.warns(GraphcWarning, match="GRAPHC_CACHE_MAX_GB is 'lots'"):
        assert store._limit() == store.MAX_GB * 1e9


def test_plans_of_one_model_are_bounded(filled, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_plans, "MAX_PLANS", 2)
    model = graphc.compile(filled[1], threads=2)
    for n in (1, 3):
        right(model, n)
    assert len(list(cache.glob("models/*/plan-*.json"))) == 2
    assert run_in(cache, filled[1], 3)[0] == []


def test_a_folder_that_may_only_be_read(filled, cache: Path):
    code = """
    import errno, os, tempfile
    opened = os.open
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")
    def read_only(path, flags, *rest, **more):
        return refuse() if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else opened(path, flags, *rest, **more)
    os.open, os.replace, os.utime, os.unlink, os.rename, tempfile.mkstemp = read_only, *[refuse] * 5
    """
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*")}
    script = "import textwrap\nexec(textwrap.dedent(" + repr(code) + "))\n" + PROGRAM
    imported, results = json.loads(run_script(script, filled[1], 2, GRAPHC_CACHE_DIR=str(cache)))
    assert (imported, results) == ([], [filled[2]])
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*")} == before


def test_a_disk_that_is_full(filled, kernels_only: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segment, "BLOCK", 1 << 12)

    def full(fd: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segment.os, "write", full)
    model = graphc.compile(filled[1], threads=2)
    with pytest.warns(GraphcWarning, match="plan cache .* can't be written.*No space left"):
        right(model)
    monkeypatch.undo()
    assert not [p for p in kernels_only.glob("models/*/*") if p.name != "used"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right(model)
