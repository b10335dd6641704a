"""What docs/security.md says: of each statement whether its tests exist, and the statements that are tested nowhere else."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from graphc import memory_limit, pictures
from graphc.errors import InputError
from graphc.report import format_bytes

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
UNTESTED = ("Hard links", "Other packages' parsers", "Operators of your own", "Secrets", "All memory together")


def test_every_statement_names_its_tests():
    promises, refusals = PAGE.split("## What is promised")[1].split("\n## What is not")
    promises, _, tried = promises.partition("\n### What was tried")
    assert "`tests/model/test_harm.py`" in tried
    rows = re.findall(r"^\| (.*) \|$", promises, re.M)[2:]
    bold = re.split(r"\n\n(?=\*\*)", promises)[1:]
    items = re.split(r"\n- ", refusals.partition("\n## ")[0])[1:]
    assert len(rows) >= 8 and len(bold) >= 6 and len(items) >= 8
    for text in (*rows, *bold, *items):
        named = re.findall(r"`(tests/[\w/]+\.py)`", text)
        assert all((ROOT / name).is_file() for name in named)
        assert named or "these numbers" in text or text.startswith(tuple(f"**{t}" for t in UNTESTED + ("Time",))), text
    assert "(docs/security.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_of_limits(tmp_path: Path):
    """A process of its own runs as the page says, and values are bounded by its limit."""
    code = "from graphc import memory_limit; print(memory_limit.memory())"
    command = f'(ulimit -v 8000000 -t 60; GRAPHC_CACHE_DIR="$(mktemp -d)" {sys.executable} -c "{code}")'
    assert "ulimit -v 8000000 -t 60" in PAGE
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) == min(8_000_000 << 10, memory_limit.memory())


def test_the_limit_of_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine in miniature: its files of control groups."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/memory.max").write_text("4000000\n")
    (tmp_path / "a/b/memory.max").write_text("max\n")
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    monkeypatch.setattr(memory_limit, "_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory_limit, "_GROUPS", tmp_path)
    assert 4_000_000 in memory_limit._limits()
    (tmp_path / "cgroup").write_text("1:cpu:/\n")
    assert 4_000_000 not in memory_limit._limits()
    (tmp_path / "cgroup").unlink()
    assert 4_000_000 not in memory_limit._limits()


def test_the_error_tells_whose_limit_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_limit, "memory", lambda: 1 << 20)
    monkeypatch.setattr(memory_limit, "_bounds", lambda: (1 << 20, "this process may take"))
    with pytest.raises(MemoryError, match=re.escape(f"this process may take {format_bytes(1 << 20)}")):
        memory_limit.require(1 << 21, "a value")


def test_a_picture_that_unpacks_to_very_many_pixels():
    pytest.importorskip("PIL")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = (60_000).to_bytes(4, "big")
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side + side + b"\x08\0\0\0\0") + chunk(b"IDAT", zlib.compress(bytes(99)))
    )
    with pytest.raises(InputError, match="too large"):
        pictures.decode(bomb)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_pictures(seed: int):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    form = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "PNG")[seed]
    image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(stream, form)
    for _ in range(30):
        data = bytearray(stream.getvalue())
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            assert pictures.decode(bytes(data[: rng.integers(len(data) // 2, len(data) + 1)])).dtype == np.uint8
        except InputError as error:
            assert str(error)


def test_a_model_reads_no_file_outside_by_a_way_that_python_does_not_see(tmp_path: Path):
    """Descriptors that stay open after a load: none but those of the folder."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    import onnx
    from harm.corpus import network

    from graphc import frontends

    (tmp_path / "secret").write_bytes(bytes(432))
    folder = tmp_path / "folder"
    folder.mkdir()
    model = network()
    t = model.graph.initializer[0]
    t.ClearField("raw_data")
    t.data_location = onnx.TensorProto.EXTERNAL
    t.external_data.add(key="location", value="../secret")
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    assert any("outside the model's folder" in str(p) for p in frontends.check(folder / "m.onnx"))
    opened = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    assert str(tmp_path / "secret") not in opened
