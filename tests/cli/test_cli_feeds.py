"""What the command line says of inputs: sizes by name, numbers that are written out, dtypes that are converted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from files import identity, run

from graphc.cli import main
from graphc.cli.feeds import make_feeds, resolve_shapes
from graphc.dims import Sym
from graphc.errors import InputError
from graphc.signature import Spec
from graphc.types import TensorType


def specs(**types: tuple) -> list[Spec]:
    """Inputs of shapes, of float32, or of ('dtype', shape)."""
    typed = {n: t if t and t[0] in DTYPES else ("float32", t) for n, t in types.items()}
    return [Spec.of(n, TensorType(*t)) for n, t in typed.items()]


DTYPES = ("float16", "float32", "int64", "uint8", "bool")
IMAGES = specs(image=(1, 3, Sym("h"), Sym("w")), mask=(3, Sym("w"), Sym("k")))


def test_all_open_sizes_are_told_at_once():
    with pytest.raises(InputError) as error:
        resolve_shapes(IMAGES, {})
    assert str(error.value) == (
        "input 'image' is [1, 3, h, w], and h, w must be known; input 'mask' is [3, w, k], and w, k must be known\n"
        "  give their sizes: --shape image=1,3,h,w --shape mask=3,w,k with numbers, or --size h=… --size w=… --size k=…"
    )


def test_sizes_by_name():
    assert resolve_shapes(IMAGES, {"h": (5,), "w": (7,), "k": (2,)}) == {"image": (1, 3, 5, 7), "mask": (3, 7, 2)}
    assert resolve_shapes(IMAGES, {"h": (5,), "image": (1, 3, 5, 7), "k": (2,)})["mask"] == (3, 7, 2)
    with pytest.raises(InputError, match=r"the model wants \[1, 3, h, w\] with h = 6"):
        resolve_shapes(IMAGES, {"h": (6,), "image": (1, 3, 5, 7)})
    with pytest.raises(InputError, match="no input 'height'\n.*inputs: image, mask; sizes: h, k, w"):
        resolve_shapes(IMAGES, {"height": (6,)})


def test_the_only_input_needs_no_name():
    assert resolve_shapes(specs(x=(Sym("n"), 3)), {"": (5, 3)}) == {"x": (5, 3)}
    with pytest.raises(InputError, match="which input is of shape 1,2"):
        resolve_shapes(IMAGES, {"": (1, 2)})
    with pytest.raises(InputError, match="the shape of 'x' is given twice"):
        resolve_shapes(specs(x=(Sym("n"), 3)), {"": (5, 3), "x": (5, 3)})


@pytest.mark.parametrize(
    "kind, shape, text, expected",
    [
        ("int64", (), "16000", np.int64(16000)),
        ("float32", (), "-1e-3", np.float32(-1e-3)),
        ("float32", (Sym("n"),), "1,2.5,3", np.float32([1, 2.5, 3])),
        ("int64", (1, Sym("n")), "5, 6", np.int64([[5, 6]])),
        ("bool", (2,), "true,false", np.array([True, False])),
        ("float16", (1, 1, 1), "2", np.float16([[[2]]])),
    ],
)
def test_numbers_that_are_written_out(kind, shape, text, expected):
    made = make_feeds(specs(a=(kind, shape)), [f"a={text}"], cast=False)["a"]
    assert made.dtype == expected.dtype
    np.testing.assert_array_equal(made, expected, strict=True)


@pytest.mark.parametrize(
    "kind, shape, text, said",
    [
        ("int64", (), "0.5", "none of int64"),
        ("uint8", (), "-1", "none of uint8"),
        ("float16", (), "1e9", "none of float16"),
        ("int64", (), "9" * 30, "beyond 64 bits"),
        ("int64", (), "1,2", "2 numbers in a row"),
        ("float32", (4, 2), "1,2", "2 numbers in a row"),
        ("string", (1,), "1", "'1' is numbers"),
    ],
)
def test_numbers_that_do_not_fit(kind, shape, text, said):
    with pytest.raises(InputError, match=said):
        make_feeds([Spec.of("a", TensorType(object if kind == "string" else kind, shape))], [f"a={text}"])


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with open("7", "wb") as f:
        np.save(f, np.float32(1))
    assert make_feeds(specs(a=()), ["a=7"])["a"] == 1


def test_cast_converts_files(tmp_path: Path):
    path, model = tmp_path / "x.npy", tmp_path / "m.yaml"
    np.save(path, np.array([[0.1, 2]]))
    model.write_text("graphc: 1\ninputs: {x: [n, 2]}\nnet: [relu]\n")
    wrong = CliRunner().invoke(main, ["run", str(model), "--input", f"x={path}", "--target", "reference"])
    assert wrong.exit_code == 4
    assert wrong.stderr.endswith("input 'x' is float64, the model wants float32[n, 2]\n  --cast converts it\n")
    done = CliRunner().invoke(main, ["run", str(model), "--input", f"x={path}", "--target", "reference", "--cast"])
    assert done.exit_code == 0 and "input x: float32[1, 2]" in done.output
    with pytest.raises(InputError, match="none of int64"):
        make_feeds(specs(a=("int64", (1, 2))), [f"a={path}"], cast=True)


def test_channels_in_another_place_get_the_remedy(tmp_path: Path):
    identity(tmp_path / "m.onnx", "float32", ("n", 3, 6, 8))
    np.save(tmp_path / "nhwc.npy", np.zeros((2, 6, 8, 3), np.float32))
    wrong = run(tmp_path / "m.onnx", "--input", f"x={tmp_path / 'nhwc.npy'}", code=4)
    told = "can't be [2, 6, 8, 3]: the model wants [n, 3, 6, 8]\n  put channels first: x.transpose(0, 3, 1, 2)"
    assert told in wrong.stderr


def test_random_weights_are_told(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros((1, 2), np.float32))
    model = tmp_path / "m.yaml"
    model.write_text("graphc: 1\ninputs: {x: [n, 2]}\nnet: [{dense: 3}]\n")
    assert "the weights of m are random" in run(model, tmp_path / "x.npy").stderr
    model.write_text("graphc: 1\ninputs: {x: [n, 2]}\nnet: [relu]\n")
    assert "random" not in run(model, tmp_path / "x.npy").stderr
