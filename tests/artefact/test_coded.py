"""Weights of few different numbers in Huffman codes: a smaller file, and the same results to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scripts import ROOT

import graphc
from graphc.artefact.container import HEAD, Container
from graphc.errors import LoadError

X = np.random.default_rng(0).integers(0, 17, (3, 1, 8, 8)).astype(np.float32)
OPTIONS = {"targets": ["cpu:portable"], "shapes": [{"image": (range(1, 6), 1, 8, 8)}], "winograd": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose layers share 16 numbers each: as it is, coded, and one that has nothing to code."""
    made = tmp_path_factory.mktemp("coded")
    small = graphc.shrink(ROOT / "examples/digits/digits.onnx", codebook=4).graph
    for name, source, coded in (
        ("plain", small, False),
        ("coded", small, True),
        ("whole", ROOT / "examples/digits/digits.onnx", True),
    ):
        graphc.build(source, made / f"{name}.gcm", coded=coded, **OPTIONS)
    return made


def weights(path: Path) -> dict[str, dict]:
    return Container(path).header["targets"][0]["weights"]


def test_a_coded_file_gives_the_same_and_is_smaller(folder: Path) -> None:
    plain, coded = (graphc.load(folder / f"{n}.gcm") for n in ("plain", "coded"))
    np.testing.assert_array_equal(coded(X), plain(X))
    sizes = {
        n: sum(Container(folder / f"{n}.gcm").extent(w)[1] for w in weights(folder / f"{n}.gcm"))
        for n in ("plain", "coded")
    }
    assert sizes["coded"] < 0.25 * sizes["plain"]  # 4 of 32 bits, and what codes and codebooks add


def test_weights_that_codes_do_not_make_smaller_stay_mapped(folder: Path) -> None:
    assert all(facts.get("coded") for facts in weights(folder / "coded.gcm").values())
    assert not any(facts.get("coded") for facts in weights(folder / "whole.gcm").values())


def test_a_damaged_code_is_refused(folder: Path, tmp_path: Path) -> None:
    file = Container(folder / "coded.gcm")
    offset, nbytes = file.extent(next(iter(weights(folder / "coded.gcm"))))
    data = bytearray((folder / "coded.gcm").read_bytes())
    assert offset >= HEAD.size
    data[offset + nbytes // 2] ^= 1
    (tmp_path / "bad.gcm").write_bytes(data)
    with pytest.raises(LoadError, match="not what was written"):
        graphc.load(tmp_path / "bad.gcm")(X)
