"""A package that only a few commands need, and that is not installed: one message, how to install it, and exit code 5."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from graphc.cli import exits, main

YAML = "graphc: 1\ninputs: {x: [1, 3, 4, 4]}\nnet: [relu]\noutputs: {y: last}\n"


@pytest.mark.parametrize(
    ("package", "args", "install"),
    [
        ("hypothesis", "test", "'graphc[testing]'"),
        ("onnxruntime", "compare m.yaml --target reference --against onnxruntime", "onnxruntime"),
        ("distributed", "run m.yaml a.png --target reference --on dask://local?workers=1", "'graphc[dask]'"),
        ("PIL", "run m.yaml a.png b.png --target reference", "'graphc[images]'"),
        ("soundfile", "run s.yaml a.flac --target reference", "'graphc[sound]'"),
        ("cuda.bindings", "compile m.yaml --target cuda", "'graphc[cuda]'"),
    ],
)
def test_what_to_install(
    package: str, args: str, install: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text(YAML)
    Path("s.yaml").write_text("graphc: 1\ninputs: {x: [1, 4]}\nnet: [relu]\noutputs: {y: last}\n")
    for name in ("a.png", "b.png", "a.flac"):
        Path(name).write_bytes(b"fLaC")
    needing = ("graphc.testing", "graphc.fleet.dask_engine")
    for name in [n for n in sys.modules if n.startswith(needing)]:
        monkeypatch.delitem(sys.modules, name)
    if "." not in package or find_spec(package.partition(".")[0]):
        monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(main, args.split())
    assert result.exit_code == exits.MACHINE, result.output
    message, hint = result.stderr.splitlines()
    assert message.startswith("graphc: error: ") and f"pip install {install}" in hint
