"""Kernels on disk: found again, rebuilt when damaged, never in the way."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nets import agree, transformer
from scripts import run_script, start_script

import graphc
from graphc.backends.cpu import target
from graphc.backends.cpu.codegen import cache
from graphc.backends.cpu.codegen.cache import ObjectCache, cache_dir
from graphc.backends.reference import run
from graphc.errors import GraphcWarning, UnsupportedError

# compiles a small net for the target argv[1], prints whether Numba was needed, kernels found and built, and the result
PROGRAM = """
import sys
import numpy as np
import graphc
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.graph import Builder

b = Builder("small")
x = b.input("x", np.float32, (3, 8))
w = b.constant(np.arange(32).reshape(8, 4), np.float32)
graph = b.build({"y": b.add("Softmax", b.add("MatMul", x, w))})
model = graphc.compile(graph, target=sys.argv[1], threads=2, cache="no cache" not in sys.argv)
y = model(np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8))
tools = runtime_of(model.plan().target).toolchain("no cache" not in sys.argv)
print("numba" if "numba" in sys.modules else "-", tools.cache.hits, tools.cache.misses, y.tobytes().hex())
"""
BEST = target.detect(None).isa


def compile_in(folder: Path | str, *arguments: str, **environment: str) -> tuple[bool, int, int, str]:
    """(was Numba imported, kernels found, kernels not found, result) of PROGRAM in a process with this cache."""
    numba, hits, misses, y = run_script(
        PROGRAM, *(arguments or ("cpu",)), GRAPHC_CACHE_DIR=str(folder), **environment
    ).split()
    return numba == "numba", int(hits), int(misses), y


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """(cache of PROGRAM's kernels, how many, the result)."""
    folder = tmp_path_factory.mktemp("cache")
    numba, hits, misses, y = compile_in(folder)
    assert numba and hits == 0 and misses > 2
    return folder, misses, y


def objects(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.o"))


def test_a_second_process_needs_neither_numba_nor_a_build(filled):
    folder, count, y = filled
    assert compile_in(folder) == (False, count, 0, y)


def test_sources_lie_beside_the_machine_code(filled):
    folder, count, _ = filled
    found = objects(folder)
    assert len(found) == count and all(p.parent == folder / BEST for p in found)
    drivers, micro = 0, 0
    for path in found:
        source, ir = path.with_suffix(".py"), path.with_suffix(".ll")
        assert source.exists() != ir.exists(), path
        text = (source if source.exists() else ir).read_text()
        assert "Kernel(name=" in text.splitlines()[0]
        drivers, micro = drivers + source.exists(), micro + ir.exists()
        if source.exists():
            compile(text.replace("\n    ", "\n"), str(source), "exec")
        else:
            assert "define" in text
    assert drivers and micro
    assert not [p for p in folder.rglob("*") if p.name.startswith(".tmp")]


def test_the_folder_is_private(filled):
    assert stat.S_IMODE((filled[0] / BEST).stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "header", "text"])
def test_a_damaged_entry_is_rebuilt(filled, damage: str, tmp_path: Path):
    folder, count, y = filled
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    victim = objects(tmp_path)[1]
    blob = bytearray(victim.read_bytes())
    match damage:
        case "truncated":
            del blob[len(blob) // 2 :]
        case "empty":
            blob.clear()
        case "flipped":
            blob[len(blob) // 2] ^= 1
        case "header":
            blob[3] ^= 1
        case "text":
            blob[:] = b"not an object file at all" * 10
    victim.write_bytes(blob)
    assert compile_in(tmp_path)[1:] == (count - 1, 1, y)
    assert len(victim.read_bytes()) > 500
    assert compile_in(tmp_path) == (False, count, 0, y)


def test_an_entry_of_other_generators_is_not_found(filled, monkeypatch: pytest.MonkeyPatch):
    folder, _, _ = filled
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(folder))
    store = ObjectCache(target.detect(None))
    assert store.get("execute", "Kernel(name='execute', params=())") is not None
    monkeypatch.setattr(cache, "code_fingerprint", lambda: b"a later version")
    assert store.get("execute", "Kernel(name='execute', params=())") is None


def test_two_processes_fill_one_cache_at_once(filled, tmp_path: Path):
    _, count, y = filled
    programs = [start_script(PROGRAM, "cpu", GRAPHC_CACHE_DIR=str(tmp_path)) for _ in range(3)]
    for p in programs:
        out, err = p.communicate(timeout=240)
        assert p.returncode == 0, err
        assert out.split()[3] == y
    assert len(objects(tmp_path)) == count
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".tmp")]
    assert compile_in(tmp_path) == (False, count, 0, y)


def test_threads_write_one_entry_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    store, code = ObjectCache(target.detect(None)), bytes(range(256)) * 1000
    wrong = []

    def work() -> None:
        for _ in range(20):
            store.put("kernel", "spec", code, "source", ".ll")
            if store.get("kernel", "spec") != code:
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_without_cache_nothing_is_left(filled, tmp_path: Path):
    _, _, y = filled
    assert compile_in(tmp_path, "cpu", "no cache") == (True, 0, 0, y)
    assert not list(tmp_path.iterdir())


# --- folders -----------------------------------------------------------------------------------------------


def warnings_of(folder: Path | str, **environment: str) -> tuple[list[str], str]:
    """(texts of the GraphcWarnings, result) of PROGRAM run twice in one process with this cache."""
    code = f"""
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        exec({PROGRAM!r})
for w in caught:
    if w.category.__name__ == "GraphcWarning":
        print("warning", w.message)
"""
    lines = run_script(code, "cpu", GRAPHC_CACHE_DIR=str(folder), **environment).splitlines()
    return [line for line in lines if line.startswith("warning")], lines[0].split()[3]


def test_an_unusable_folder_is_said_once_and_everything_works(filled, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    folder = tmp_path / "file" / "cache"
    (text,), y = warnings_of(folder)
    assert y == filled[2]
    assert str(folder) in text and "every process compiles anew" in text and "GRAPHC_CACHE_DIR" in text


def test_no_home_folder_is_said_once_and_everything_works(filled):
    code = "import os\nfor name in ('HOME', 'GRAPHC_CACHE_DIR', 'XDG_CACHE_HOME'):\n    os.environ.pop(name, None)\n"
    nobody = "import pathlib\ndef home():\n    raise RuntimeError('no home')\npathlib.Path.home = staticmethod(home)\n"
    check = f"""
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    exec({PROGRAM!r})
print([str(w.message) for w in caught if w.category.__name__ == "GraphcWarning"])
"""
    first, second = run_script(code + nobody + check, "cpu").splitlines()
    assert first.split()[3] == filled[2]
    assert second.count("no kernel cache") == 1 and "GRAPHC_CACHE_DIR" in second


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.warns(GraphcWarning, match="no kernel cache"):
        assert ObjectCache(target.detect(None)).directory is None


def test_what_lies_in_a_folder_that_may_only_be_read_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder of a container's image. The superuser, as who tests may run, may write anywhere: so writing fails by order."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    ObjectCache(target.detect(None)).put("kernel", "spec", b"code", "source", ".ll")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(cache, "write_atomic", refused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = ObjectCache(target.detect(None))
        assert store.get("kernel", "spec") == b"code"
    with pytest.warns(GraphcWarning, match="graphc compile MODEL"):
        store.put("other", "spec", b"code", "source", ".ll")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put("third", "spec", b"code", "source", ".ll")
        assert store.get("kernel", "spec") == b"code"


def test_a_folder_that_others_may_write_into_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    assert ObjectCache(target.detect(None)).directory == tmp_path / BEST
    (tmp_path / BEST).chmod(0o777)
    with pytest.warns(GraphcWarning, match="others may put code into it"):
        assert ObjectCache(target.detect(None)).directory is None


def test_a_disk_that_fills_up_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    store = ObjectCache(target.detect(None))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(cache, "write_atomic", full)
    with pytest.warns(GraphcWarning, match="can't be written.*No space left"):
        store.put("kernel", "spec", b"code", "source", ".ll")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put("kernel", "spec", b"code", "source", ".ll")
        assert store.get("kernel", "spec") is None


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        cache.write_atomic(tmp_path / "entry", b"data")
    assert not list(tmp_path.iterdir())


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("GRAPHC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "graphc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "graphc"


# --- instruction sets ----------------------------------------------------------------------------------------
def offered() -> list[str]:
    """Instruction sets of this machine, the best first."""
    names = []
    for isa in ("avx512", "avx2", "portable"):
        try:
            names.append(target.detect(isa).isa)
        except UnsupportedError:
            continue
    return names


def test_instruction_sets_keep_entries_of_their_own(filled, tmp_path: Path):
    _, count, y = filled
    want = np.frombuffer(bytes.fromhex(y), np.float32)
    for isa in offered():
        _, hits, misses, got = compile_in(tmp_path, f"cpu:{isa}")
        assert (hits, misses) == (0, count) and len(objects(tmp_path / isa)) == count
        np.testing.assert_allclose(np.frombuffer(bytes.fromhex(got), np.float32), want, rtol=1e-5)
    assert len(objects(tmp_path)) == count * len(offered())


@pytest.fixture
def fresh_detection() -> Iterator[None]:
    """The target is looked up anew, in the test and after it."""
    target.detect.cache_clear()
    yield
    target.detect.cache_clear()


def test_the_environment_names_the_instruction_set(fresh_detection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_ISA", "portable")
    assert target.detect(None).isa == "portable"
    assert target.detect(BEST).isa == BEST  # a target that is named wins
    assert graphc.compile(transformer()).plan({"x": (1, 5, 32)}).target == "cpu:portable"


def test_the_environment_may_name_no_instruction_set(fresh_detection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_ISA", "sse9")
    with pytest.raises(UnsupportedError, match="sse9.*GRAPHC_ISA"):
        target.detect(None)


def test_targets_of_one_process_do_not_disturb_each_other():
    graph, x = transformer(), np.random.default_rng(0).random((1, 5, 32), np.float32)
    want = run(graph, {"x": x})
    models = [graphc.compile(graph, target=f"cpu:{isa}", threads=t) for isa in offered() for t in (1, 2)]
    for model in (*models, *reversed(models)):
        agree(model.run({"x": x}), want)
