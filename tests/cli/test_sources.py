"""Files as inputs: what is made of pictures, sounds and tables, against NumPy and Pillow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import identity, run, save_sound
from numpy.typing import NDArray
from PIL import Image

from graphc.cli.feeds import make_feeds
from graphc.cli.files import File
from graphc.cli.preparation import Preparation
from graphc.cli.sounds import read_sound
from graphc.cli.sources import Reader
from graphc.dims import Sym
from graphc.errors import InputError, MissingPackageError
from graphc.signature import Spec
from graphc.types import TensorType


def spec(shape: tuple, dtype: Any = "float32", name: str = "x") -> Spec:
    return Spec.of(name, TensorType(dtype, tuple(Sym(d) if isinstance(d, str) else d for d in shape)))


def read(path: Path, *specs: Spec, how: Preparation | None = None, name: str = "") -> tuple[Any, list[str]]:
    """(what the file is as the first input, what was told)."""
    told: list[str] = []
    reader = Reader(specs, how or Preparation(), tell=told.append)
    return reader.read(File(str(path)), name)[name or specs[0].name], told


# --- pictures -------------------------------------------------------------------------------------
@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, NDArray[np.uint8]]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    path = tmp_path / "p.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("how", "want", "said"),
    [
        ({}, lambda p: p / 255, "RGB, pixels / 255"),
        ({"mean": MEAN, "std": STD}, lambda p: (p / 255 - MEAN) / STD, "less 0.485,0.456,0.406, over 0.229,0.224,0.225"),
        ({"scale": 1.0, "mean": (103.9, 116.8, 123.7), "pixels": "bgr"}, lambda p: p[..., ::-1] - (103.9, 116.8, 123.7), "BGR, pixels from 0 to 255, less"),
        ({"scale": 2 / 255, "mean": (1.0,)}, lambda p: p * 2 / 255 - 1, "pixels / 127.5, less 1"),
    ],
)  # fmt: skip
def test_the_values_of_pixels(picture: tuple, how: dict, want: Any, said: str):
    path, pixels = picture
    wanted = want(pixels.astype(np.float64))
    first, told = read(path, spec(("n", 3, "h", "w")), how=Preparation(**how))
    assert len(told) == 1 and said in told[0] and "channels first" in told[0]
    assert first.dtype == np.float32 and first.flags.c_contiguous
    np.testing.assert_allclose(first, wanted.transpose(2, 0, 1)[None], rtol=1e-5, atol=1e-5)  # float32
    last, told = read(path, spec((20, 30, 3), np.float64), how=Preparation(**how))
    assert "channels last" in told[0]
    np.testing.assert_allclose(last, wanted, rtol=1e-5, atol=1e-5)


def scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("how", "want", "said"),
    [
        ({}, lambda p: scaled(p, 10, 15)[:, 3:11], "made to cover 10×8, the middle cut out"),
        ({"fit": "stretch"}, lambda p: scaled(p, 10, 8), "stretched to 10×8"),
        ({"fit": "pad"}, lambda p: np.pad(scaled(p, 5, 8), ((2, 3), (0, 0), (0, 0)), constant_values=114), "fit into 10×8 on grey"),
        ({"resize": (12,)}, lambda p: scaled(p, 12, 18)[1:11, 5:13], "the shorter side resized to 12, the middle 10×8 cut out"),
        ({"resize": (10, 8)}, lambda p: scaled(p, 10, 8), "resized to 10×8"),
    ],
)  # fmt: skip
def test_the_size_of_pictures(picture: tuple, how: dict, want: Any, said: str):
    path, pixels = picture
    got, told = read(path, spec((1, 10, 8, 3), np.uint8), how=Preparation(**how))
    assert said in told[0]
    np.testing.assert_array_equal(got, want(pixels)[None])
    with pytest.raises(InputError, match="is 4×6 after resizing, and the model wants 10×8\n.*larger"):
        read(path, spec((1, 10, 8, 3), np.uint8), how=Preparation(resize=(4,)))


def test_pixels_of_bytes_are_as_they_are_and_nothing_is_told(picture: tuple):
    path, pixels = picture
    got, told = read(path, spec((1, "h", "w", 3), np.uint8))
    np.testing.assert_array_equal(got, pixels[None])
    assert told == []
    first, told = read(path, spec((1, 3, "h", "w"), np.uint8))
    np.testing.assert_array_equal(first, pixels.transpose(2, 0, 1)[None])
    assert "channels first" in told[0]
    with pytest.raises(InputError, match="is uint8: pixels as they are"):
        read(path, spec((1, "h", "w", 3), np.uint8), how=Preparation(scale=2.0))


def test_grey_pictures(picture: tuple):
    path, pixels = picture
    got, told = read(path, spec((1, 1, "h", "w")))
    assert told[0].startswith("pictures as input 'x': grey, pixels / 255")
    np.testing.assert_allclose(got[0, 0] * 255, pixels @ (0.299, 0.587, 0.114), atol=0.51)  # BT.601, rounded to bytes
    with pytest.raises(InputError, match="has 3 channels, and pixels are to be grey"):
        read(path, spec((1, 3, "h", "w")), how=Preparation(pixels="grey"))


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        ({"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}, lambda p: p[..., ::-1]),
        ({"Image.NominalPixelRange": "Normalized_1_1", "Image.ColorSpaceGamma": "SRGB"}, lambda p: p / 127.5 - 1),
        ({"Image.NominalPixelRange": "Normalized_0_1"}, lambda p: p / 255),
        ({"Image.NominalPixelRange": "NominalRange_16_235"}, lambda p: 16 + p * 219 / 255),
    ],
)
def test_metadata_say_what_pictures_are(tmp_path: Path, picture: tuple, metadata: dict, want: Any):
    path, pixels = picture
    model = identity(tmp_path / "m.onnx", "float32", ["n", 3, "h", "w"], metadata)
    done = run(model, path, "--output", tmp_path / "out.npz")
    assert "channels first, of the model's metadata; --resize" in done.stderr
    got = np.load(tmp_path / "out.npz")[f"{path}/y"]
    np.testing.assert_allclose(got[0].transpose(1, 2, 0), want(pixels.astype(np.float64)), rtol=1e-4, atol=1e-4)
    own = run(model, path, "--scale", "1", "--pixels", "rgb", "--output", tmp_path / "out.npz")
    assert "RGB, pixels from 0 to 255" in own.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")[f"{path}/y"][0], pixels.transpose(2, 0, 1))


def test_metadata_that_no_picture_can_have(tmp_path: Path, picture: tuple):
    model = identity(tmp_path / "m.onnx", "float32", ["n", 3, "h", "w"], {"Image.ColorSpaceGamma": "Linear"})
    assert "'Image.ColorSpaceGamma: Linear'" in run(model, picture[0], code=4).stderr
    np.save(tmp_path / "x.npy", np.ones((1, 3, 1, 1), np.float32))
    assert run(model, tmp_path / "x.npy").stdout.endswith("  [1, 1, 1]\n")


CONFIGS: dict[str, tuple[dict, Any]] = {  # as exported processors have it, and the same in Pillow and NumPy
    "ViT": (
        {"do_resize": True, "size": {"height": 8, "width": 10}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2},
        lambda p: (scaled(p, 8, 10) / 255 - 0.5) / 0.5,
    ),
    "ViT of old": ({"size": 8, "do_normalize": False, "do_resize": True}, lambda p: scaled(p, 8, 8) / 255),
    "CLIP": (
        {"size": {"shortest_edge": 9}, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}, "resample": 3,
         "image_mean": list(MEAN), "image_std": list(STD)},
        lambda p: (np.asarray(Image.fromarray(p).resize((13, 9), Image.Resampling.BICUBIC))[0:8, 2:10] / 255 - MEAN) / STD,
    ),
    "ConvNeXt": ({"size": {"shortest_edge": 7}, "crop_pct": 0.875, "do_resize": True}, lambda p: scaled(p, 8, 12)[0:7, 2:9] / 255),
    "MobileViT": (
        {"do_resize": False, "do_flip_channel_order": True, "do_rescale": True, "rescale_factor": 1.0}, lambda p: p[..., ::-1]
    ),
    "of sounds": ({"feature_size": 1, "sampling_rate": 16000, "do_normalize": True}, lambda p: p / 255),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_beside_the_model(tmp_path: Path, picture: tuple, name: str):
    config, want = CONFIGS[name]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    model = identity(tmp_path / "m.onnx", "float32", ["n", 3, "h", "w"])
    done = run(model, picture[0], "--output", tmp_path / "out.npz")
    assert ("of preprocessor_config.json" in done.stderr) == (name != "of sounds")
    got = np.load(tmp_path / "out.npz")[f"{picture[0]}/y"]
    np.testing.assert_allclose(got[0].transpose(1, 2, 0), want(picture[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config", ["{", '{"do_resize": true, "size": {"longest_edge": 5}}', '{"do_resize": true}', '{"image_mean": [0.5]}']
)
def test_a_configuration_that_says_something_else(tmp_path: Path, picture: tuple, config: str):
    (tmp_path / "preprocessor_config.json").write_text(config)
    model = identity(tmp_path / "m.onnx", "float32", ["n", 3, "h", "w"])
    error = run(model, picture[0], code=4).stderr
    assert "preprocessor_config.json' says what graphc does not know" in error or "can't be read" in error
    if "size" in config:
        run(model, picture[0], "--resize", "8,8")


@pytest.mark.parametrize(
    ("want", "said"),
    [
        (spec((1, 5, "h", "w")), r"input 'x' is \[1, 5, h, w\] of float32, and '.*p.png' a picture"),
        (spec(("n", 784)), "a picture"),
        (spec((1, 3, "h", "w"), np.int64), "of int64"),
    ],
)
def test_inputs_that_are_no_pictures(picture: tuple, want: Spec, said: str):
    with pytest.raises(InputError, match=said):
        read(picture[0], want)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mean", "1,2"], "'1,2' is not one number, or three"),
        (["--mean", "nan"], "not one number"),
        (["--std", "0"], "divided by 0"),
        (["--resize", "0"], "is no size"),
        (["--resize", "1,2,3"], "is no size"),
        (["--fit", "zoom"], "'zoom' is not one of"),
    ],
)
def test_options_of_pictures(tmp_path: Path, options: list[str], said: str):
    assert said in run(identity(tmp_path / "m.onnx", "float32", [1]), *options, code=2).stderr


def test_means_of_bytes_want_a_scale(picture: tuple):
    with pytest.raises(
        InputError, match="--mean 123.7 is of pixels from 0 to 255, which are divided by 255\n.*--scale 1"
    ):
        read(picture[0], spec((1, 3, "h", "w")), how=Preparation(mean=(123.7,)))


def test_a_picture_as_an_input_of_other_commands(picture: tuple):
    made = make_feeds([spec((1, 3, 20, 30))], [f"x={picture[0]}"])
    np.testing.assert_allclose(made["x"][0], picture[1].transpose(2, 0, 1) / np.float32(255), rtol=1e-6)


# --- sounds ---------------------------------------------------------------------------------------
def frames_of(bits: int) -> tuple[np.ndarray, NDArray[np.float64]]:
    """(stereo frames as a file has them, their values)."""
    values = np.array([[0, 1], [-1, 0.5], [-0.25, -0.5]]) * (2.0 ** (bits - 1))
    whole = np.minimum(values, 2 ** (bits - 1) - 1).astype(np.int64)
    if bits == 8:
        return (whole + 128).astype(np.uint8), whole / 128
    if bits == 24:
        return whole.astype("<i4").view(np.uint8).reshape(3, 2, 4)[..., :3].copy(), whole / 2**23
    return whole.astype(f"<i{bits // 8}"), whole / 2.0 ** (bits - 1)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_sounds(tmp_path: Path, bits: int):
    frames, values = frames_of(bits)
    path = save_sound(tmp_path / "s.wav", frames)
    stereo, told = read(path, spec(("n", 2, "t")))
    assert told == ["sounds as input 'x': 8000 Hz, values from -1 to 1"]
    np.testing.assert_allclose(stereo, values.T[None], rtol=1e-7)
    mono, told = read(path, spec((1, "t")))
    assert told == ["sounds as input 'x': 8000 Hz, 2 channels averaged, values from -1 to 1"]
    np.testing.assert_allclose(mono, values.mean(1)[None], rtol=1e-6)
    assert read(path, spec(("t",), np.float64))[0].shape == (3,)


def test_whole_numbers_of_a_sound(tmp_path: Path):
    path = save_sound(tmp_path / "s.wav", np.int16([[-32768], [5], [32767]]))
    got, told = read(path, spec((1, 1, "t"), np.int16))
    np.testing.assert_array_equal(got, [[[-32768, 5, 32767]]])
    assert told[0].endswith("whole numbers")


def test_sounds_that_do_not_fit(tmp_path: Path):
    path = save_sound(tmp_path / "s.wav", np.int16([[1, 2], [3, 4]]))
    for want, said in (
        (spec((1, 16000)), r"has 2 frames at 8000 Hz, input 'x' is \[1, 16000\]"),
        (spec((1, 3, "t")), "has 2 channels"),
        (spec((1, "t"), np.int64), "a sound"),
    ):
        with pytest.raises(InputError, match=said):
            read(path, want)
    data = path.read_bytes()
    for broken, said in (
        (data[:20], "ends too early|is no WAV"),
        (b"RIFF\0\0\0\0WAVEjunk", "ends too early|is no WAV"),
    ):
        with pytest.raises(InputError, match=said):
            read_sound(broken, "s.wav")
    with pytest.raises((InputError, MissingPackageError), match="soundfile is not installed|no sound that can be read"):
        read_sound(b"fLaC nothing", "s.flac")


def test_a_sound_that_is_cut_off_has_the_frames_that_are_there(tmp_path: Path):
    path = save_sound(tmp_path / "s.wav", np.int16([[1, 2], [3, 4]]))
    path.write_bytes(path.read_bytes()[:-3])
    assert read(path, spec((1, 2, "t")))[0].shape == (1, 2, 1)


# --- tables ---------------------------------------------------------------------------------------
def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    ["1,2\n-3,4e1\n", "a,b\n1,2\n-3,4e1\n", "\ufeffa;b\r\n1;2\r\n-3;40\r\n", "1\t2\n\n-3\t40\n\n", '"1", 2\n"-3", 40'],
)
def test_tables_of_numbers(tmp_path: Path, text: str):
    got, _ = read(table(tmp_path / "t.csv", text), spec(("n", 2)))
    np.testing.assert_array_equal(got, np.float32([[1, 2], [-3, 40]]), strict=True)


def test_columns_are_inputs_by_name(tmp_path: Path):
    path = table(tmp_path / "t.csv", "species,age,name\ncat,3,Tom\nmouse,1,Jerry\n")
    specs = [spec(("n", 1), object, "name"), spec(("n",), np.int64, "age")]
    told: list[str] = []
    got = Reader(specs, tell=told.append).read(File(str(path)))
    assert got["name"].tolist() == [["Tom"], ["Jerry"]] and got["age"].dtype == np.int64
    assert got["age"].tolist() == [3, 1] and told == [f"columns of '{path}' that are no inputs: species"]


@pytest.mark.parametrize(
    ("text", "specs", "said"),
    [
        ("1,2\n3\n", [spec(("n", 2))], "line 2 has 1 columns, line 1 has 2"),
        ("a,b\n", [spec(("n", 2))], "a table without rows"),
        ("", [spec(("n", 2))], "a table without rows"),
        ("a,b\n1,two\n", [spec(("n", 2))], "line 2, column 'b': 'two' is no float32"),
        ("1,\n", [spec(("n", 2))], "line 1, column 2: there is nothing"),
        ("1,2,3\n", [spec(("n", 2))], "has 3 columns, input 'x' is"),
        ("1,2.5\n", [spec(("n", 2), np.int64)], "'2.5' is no int64"),
        ("1,300\n", [spec(("n", 2), np.uint8)], "'300' is no uint8"),
        ("yes,no\ntrue,maybe\n", [spec(("n", 2), bool)], "'maybe' is no bool"),
        ("a\n1\n", [spec(("n",), name="a"), spec(("n",), name="b")], "has no column of input b"),
        ("1,2\n", [spec(("n",), name="a"), spec(("n",), name="b")], "which input is"),
        ("1,2\n", [spec(("n", 1, 2))], "tables are .rows, columns."),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, text: str, specs: list[Spec], said: str):
    with pytest.raises(InputError, match=said):
        read(table(tmp_path / "t.csv", text), *specs)


def test_a_table_that_is_no_text(tmp_path: Path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe1\0")
    with pytest.raises(InputError, match="is no text in UTF-8"):
        read(tmp_path / "t.csv", spec(("n", 2)))
