"""The snippets of docs/front-doors.md run; PyTorch's where PyTorch and its exporter are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from dropin.programs import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "front-doors.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_session(capsys: pytest.CaptureFixture[str]):
    space: dict = {}
    exec(SNIPPETS[0], space)
    said = re.search(r"# (\('image'.*\))", SNIPPETS[0])
    assert said is not None and repr((space["image"].name, space["image"].shape, space["image"].type)) == said[1]
    assert "Actual: (tensor(double)) , expected: (tensor(float))" in capsys.readouterr().out
    other = onnxruntime.InferenceSession("examples/digits/digits.onnx", providers=["CPUExecutionProvider"])
    (want,) = other.run(None, {"image": space["x"]})
    np.testing.assert_allclose(space["probabilities"], want, rtol=1e-4, atol=1e-5)  # sums of float32 in other orders


def test_the_swap(capsys: pytest.CaptureFixture[str]):
    exec(SNIPPETS[1], {})
    assert "onnxruntime is imported already" in capsys.readouterr().out, "by this test"


def test_every_package_has_its_row():
    rows = re.findall(r"^\| (\S+ \d\S+) \| .* \| \de-\d\d \|$", TEXT, re.M)
    assert rows == [f"{p.name} {p.version}" for p in PACKAGES]


@pytest.mark.slow
def test_torch_compile():
    torch = pytest.importorskip("torch", reason="torch.compile is PyTorch's: pip install '.[torch]'")
    pytest.importorskip("onnxscript", reason="PyTorch's exporter to ONNX needs it: pip install '.[torch]'")
    if "graphc" not in torch._dynamo.list_backends():  # graphc is on the path, but not installed
        from graphc.torch_backend import backend

        torch._dynamo.register_backend(backend, name="graphc")
    space: dict = {}
    exec(SNIPPETS[2], space)
    assert space["y"].shape == (5, 10)
    x = torch.randn(7, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(space["fast"](x), space["net"](x), rtol=1e-4, atol=1e-5)
