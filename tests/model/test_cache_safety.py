"""Whose files the cache uses: those that only this user and the superuser can have written, as they were opened."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest

from graphc import documents
from graphc.errors import GraphcWarning
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    b = Builder("m")
    w = b.constant(np.random.default_rng(0).standard_normal((4, 300)).astype(np.float32))
    b_ = b.add("Relu", b.add("MatMul", b.input("x", "float32", ("n", 4)), w))
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(b.build({"y": b_})).SerializeToString())
    return path


PROGRAM = """
import sys, warnings, numpy as np, graphc
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    y = graphc.compile(sys.argv[1])(np.float32([[1, -2, 3, -4]]))
print(y.sum(), "numba" in sys.modules, *(str(w.message).replace("\\n", " ") for w in seen), sep="|")
"""


def run(model: Path, cache: Path) -> tuple[float, bool, list[str]]:
    """In a process of its own: the sum of its result, whether it compiled, and its warnings."""
    env = {**os.environ, "GRAPHC_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model)], capture_output=True, text=True, env=env, check=True
    )
    total, compiled, *said = done.stdout.strip().split("|")
    return float(total), compiled == "True", said


def files_of(cache: Path) -> list[Path]:
    return [p for p in cache.rglob("*") if p.is_file() and p.parent.name != "sources"]


@pytest.fixture
def cache(model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    run(model, folder)
    assert run(model, folder)[1:] == (False, [])
    return folder


@pytest.mark.parametrize("which", ["plan-", "model.json", "weights-", "code-"])
def test_a_file_that_others_may_write_is_not_used(model: Path, cache: Path, which: str):
    expected = run(model, cache)[0]
    for p in files_of(cache):
        if p.name.startswith(which) and p.suffix != ".keys":
            p.chmod(0o666)
    total, _, said = run(model, cache)
    assert total == expected
    assert len(said) == 1 and "others may put code into it" in said[0]


@pytest.mark.parametrize("which", ["", "models", "models/*"])
def test_a_folder_that_others_may_write_into_is_not_used(model: Path, cache: Path, which: str):
    expected = run(model, cache)[0]
    folders = [cache] if not which else list(cache.glob(which))
    for folder in folders:
        folder.chmod(0o777)
    total, _, said = run(model, cache)
    assert folders and total == expected
    assert said and all("others may put code into it" in s for s in said)


def test_the_root_may_be_a_folder_like_tmp(model: Path, cache: Path):
    cache.chmod(0o1777)
    assert run(model, cache)[1:] == (False, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give files away")
@pytest.mark.parametrize("which", ["plan-", "weights-", "code-", "folder", "root"])
def test_the_superuser_uses_nothing_of_other_users(model: Path, cache: Path, which: str):
    expected = run(model, cache)[0]
    given = [p for p in files_of(cache) if p.name.startswith(which)]
    if which == "folder":
        given = list((cache / "models").iterdir())
    elif which == "root":
        given = [cache]
    assert given
    for p in given:
        os.chown(p, 12345, 12345)
    total, _, said = run(model, cache)
    assert total == expected
    assert said and all("belongs to another user (12345)" in s for s in said)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path):
    folder = documents.own_folder(tmp_path / "own")
    (tmp_path / "other").write_text("{}")
    os.symlink(tmp_path / "other", folder / "plan.json")
    with pytest.raises(OSError):
        documents.open_own(folder / "plan.json")
    os.mkfifo(folder / "pipe", 0o600)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphcWarning)
        with pytest.raises(OSError):  # and does not wait for a writer
            documents.open_own(folder / "pipe")


def test_each_load_is_of_the_file_that_is_open(cache: Path, tmp_path: Path):
    """The loader knows libraries by name: numbers of descriptors come again, and must not give the library before."""
    code = next(p for p in files_of(cache) if p.name.startswith("code-"))
    copies = []
    for i in range(3):
        copies.append(tmp_path / f"copy-{i}.so")
        copies[-1].write_bytes(code.read_bytes())
    program = f"""
    import os
    from graphc.backends.cpu.runtime.process import runtime_of
    handles, runtime = [], runtime_of("cpu")
    for digest, path in enumerate({[str(p) for p in copies]!r} * 2):  # of a content that has been loaded one is enough
        fd = os.open(path, os.O_RDONLY)
        handles.append(runtime.library(fd, str(digest % 3))._handle)
        os.close(fd)
    print(len(set(handles)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"
