"""examples/filters.py: a picture by all filters, each colour by itself, and drawn."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "filters.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("filters_example", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_colours_by_themselves(example: ModuleType):
    image = np.random.default_rng(0).random((14, 12, 3), np.float32)
    found = example.filtered(image)
    np.testing.assert_array_equal(found["identity"], image)
    grey = example.filtered(image[..., [1, 1, 1]])
    for name, result in found.items():
        assert result.shape == image.shape
        np.testing.assert_array_equal(result[..., 1], grey[name][..., 2])
        shown = example.visible(name, result)
        assert shown.min() >= 0 and shown.max() <= 1
    np.testing.assert_array_equal(example.visible("edges", np.zeros(3)), 0.5)


def test_without_matplotlib_one_line_says_what_to_install(example: ModuleType, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(sys, "argv", ["filters.py"])
    with pytest.raises(SystemExit) as end:
        example.main()
    assert end.value.code == 2 and capsys.readouterr().err.splitlines()[-1].endswith(": pip install matplotlib")


def test_a_drawing_is_a_picture(example: ModuleType, tmp_path: Path):
    pytest.importorskip("matplotlib").use("Agg")
    image = np.random.default_rng(0).random((14, 12, 3), np.float32)
    example.draw({"identity": image, "edges": image, "sobel": image, "emboss": image}, str(tmp_path / "all.png"))
    drawn = example.picture(str(tmp_path / "all.png"))
    assert drawn.ndim == 3 and drawn.shape[2] == 3 and drawn.dtype == np.float32
    assert drawn.min() >= 0 and drawn.max() == 1 and drawn.std() > 0.05
    assert example.picture(None).shape == (250, 250, 3)
