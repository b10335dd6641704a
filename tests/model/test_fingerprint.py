"""The digest of graphc's own text, remembered as long as no file's stamp changes."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from graphc import store
from graphc.fingerprint import text_digest, text_stamp


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    root = tmp_path / "package"
    (root / "inner" / "__pycache__").mkdir(parents=True)
    for name in ("a.py", "b.txt", "inner/c.py", "inner/__pycache__/d.py"):
        (root / name).write_text("one = 1\n")
    return root


def edit(root: Path) -> None:
    (root / "inner" / "c.py").write_text("two = 2\n")  # of the same size


def edit_with_an_old_time(root: Path) -> None:
    before = (root / "a.py").stat()
    (root / "a.py").write_text("two = 2\n")
    os.utime(root / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))


def add(root: Path) -> None:
    (root / "e.py").write_text("")


def remove(root: Path) -> None:
    (root / "inner" / "c.py").unlink()


def rename(root: Path) -> None:
    (root / "a.py").rename(root / "z.py")


@pytest.mark.parametrize("change", [edit, edit_with_an_old_time, add, remove, rename])
def test_a_change_of_the_text_is_noticed(change, sources: Path):
    before = text_stamp(str(sources)), text_digest(str(sources))
    change(sources)
    after = text_stamp(str(sources)), text_digest(str(sources))
    assert before[0] != after[0] and before[1] != after[1]


def test_other_files_do_not_count(sources: Path):
    before = text_stamp(str(sources)), text_digest(str(sources))
    (sources / "b.txt").write_text("other")
    (sources / "inner" / "__pycache__" / "d.py").write_text("other")
    assert before == (text_stamp(str(sources)), text_digest(str(sources)))


def test_a_linked_folder_counts(sources: Path, tmp_path: Path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "f.py").write_text("one = 1\n")
    (sources / "part").symlink_to(tmp_path / "part")
    before = text_digest(str(sources))
    (tmp_path / "part" / "f.py").write_text("two = 2\n")
    assert text_digest(str(sources)) != before


@pytest.mark.parametrize("settled", [True, False])
def test_the_text_is_read_again_where_it_may_have_changed(
    settled: bool, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "SETTLED", -1 if settled else 1 << 62)
    kept, read = store.Store(tmp_path), []

    def make() -> str:
        read.append(1)
        return text_digest(str(sources))

    ask = partial(kept.remembered, str(sources), partial(text_stamp, str(sources)), make)
    first = ask()
    assert ask() == first and len(read) == (1 if settled else 2)
    edit(sources)
    assert ask() == text_digest(str(sources)) != first
