"""The trained networks of examples/ reach the figures that their pages give."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import graphc

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_a_character_takes_as_many_bits_as_the_page_says(monkeypatch: pytest.MonkeyPatch):
    """The whole text by a session in chunks, and its beginning by one call of the reference."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = EXAMPLES / "characters"
    script = module(folder / "run.py")
    text = (folder / "heldout.txt").read_text(encoding="ascii")
    model = graphc.compile(folder / "characters.yaml", states={"state": "next_state"}, threads=1)
    found = re.search(r"takes the network (\d\.\d\d) bits", (folder / "README.md").read_text(encoding="utf-8"))
    assert found and f"{script.bits(model, text):.2f}" == found[1]
    assert sum(p.stat().st_size for p in folder.glob("*.safetensors")) < 210_000

    ids = script.encode(text[:200])
    reference = graphc.compile(folder / "characters.yaml", target="reference")
    whole = reference.run({"ids": ids, "state": np.zeros((1, 96), np.float32)})["logits"][0]
    session = model.session()
    parts = [session.run({"ids": ids[:, a:b]})["logits"][0] for a, b in ((0, 7), (7, 8), (8, 200))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4 * np.abs(whole).max())


def test_el_nino_alone_raises_an_alarm():
    folder = EXAMPLES / "elnino"
    table = np.loadtxt(folder / "elnino.csv", delimiter=",", skiprows=1, dtype=np.float32)
    results = graphc.compile(folder / "elnino.yaml", threads=1).run({"temperatures": table[:, 1:].reshape(1, 1, -1)})
    error, alarm = results["error"][0], results["alarm"][0]
    assert error.shape == (61 * 12 - 11,)
    last = 1950 + (np.arange(len(error)) + 11) // 12
    assert sorted(set(last[alarm])) == [1983, 1984, 1997, 1998, 1999]
    page = (folder / "README.md").read_text(encoding="utf-8")
    calm = ~np.isin(last, [1982, 1983, 1984, 1997, 1998, 1999])
    assert f"{error[last < 1980].max():.2f} at most" in page
    assert f"is {error[calm & (last >= 1980)].max():.2f}" in page
