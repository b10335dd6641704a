"""What is compiled in front of a net: pictures decoded, cut to size and made into numbers, against Pillow and NumPy."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import graphc
from graphc.backends.reference import run
from graphc.cli import main
from graphc.errors import GraphcError, InputError, MissingPackageError
from graphc.frontends.onnx_export import to_onnx
from graphc.frontends.onnx_load import load_onnx
from graphc.frontends.yaml_load import check, load_yaml, loads_yaml
from graphc.pictures import decode

RNG = np.random.default_rng(11)
HEAD = "graphc: 1\ninputs: {image: {shape: [batch, height, width, 3], dtype: uint8}}\n"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TEXT = f"""{HEAD}preprocess:
  image:
    - to_nchw
    - resize: {{shorter: 40}}
    - crop: 32
    - cast: float32
    - scale: 1/255
    - standardize: {{mean: {MEAN}, std: {STD}}}
net: [identity]
outputs: {{seen: last, again: image}}
"""


def picture(height: int, width: int, batch: int = 1) -> np.ndarray:
    """Smooth colours with noise: uint8 [batch, height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([y * 200 / height, x * 200 / width, (x + y) % 97], -1)
    return (smooth + RNG.integers(0, 40, (batch, height, width, 3))).astype(np.uint8)


def with_pillow(image: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """One picture [height, width, 3] in another size."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], how))


def layer(text: str, x: np.ndarray, shape: str = "[batch, 3, height, width]") -> np.ndarray:
    """What one step gives, in NumPy and compiled."""
    graph = loads_yaml(f"graphc: 1\ninputs: {{x: {{shape: {shape}, dtype: {x.dtype}}}}}\nnet: [{text}]\n")
    (found,) = run(graph, {"x": x}).values()
    compiled = graphc.compile(graph)(x)
    assert compiled.dtype == found.dtype
    np.testing.assert_allclose(compiled.astype(np.float64), found.astype(np.float64), rtol=1e-5, atol=1e-4)
    return found


# --- the layers -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode, how", [("linear", Image.Resampling.BILINEAR), ("cubic", Image.Resampling.BICUBIC)])
@pytest.mark.parametrize("height, width, size", [(60, 90, (24, 30)), (20, 31, (45, 64))])
def test_resize_is_that_of_pillow(mode: str, how: Image.Resampling, height: int, width: int, size: tuple[int, int]):
    """In floats but for rounding. In bytes, Pillow rounds (and cuts off what a cubic overshoots) after each axis."""
    image = picture(height, width)
    step = f"{{resize: {{size: [{size[0]}, {size[1]}], mode: {mode}}}}}"
    found = layer(step, image.transpose(0, 3, 1, 2))
    assert found.dtype == np.uint8
    want = with_pillow(image[0], size, how).astype(int)
    assert np.abs(found[0].transpose(1, 2, 0).astype(int) - want).max() <= 2
    floats = image[..., 0].astype(np.float32)
    want = np.asarray(Image.fromarray(floats[0]).resize(size[::-1], how))
    np.testing.assert_allclose(layer(step, floats[:, None], "[batch, 1, height, width]")[0, 0], want, atol=1e-3)


def test_resize_to_the_shorter_side():
    for height, width, want in ((50, 100, (20, 40)), (100, 50, (40, 20)), (33, 33, (20, 20)), (10, 21, (20, 42))):
        x = RNG.random((1, 2, height, width), np.float32)
        assert layer("{resize: {shorter: 20}}", x, "[batch, 2, height, width]").shape[2:] == want


def test_resize_without_antialias_and_to_the_nearest():
    x = RNG.random((1, 1, 8, 8), np.float32)
    shape = "[batch, 1, height, width]"
    np.testing.assert_array_equal(layer("{resize: {size: 4, mode: nearest}}", x, shape), x[:, :, ::2, ::2])
    pairs = x.reshape(1, 1, 4, 2, 4, 2).mean((3, 5))  # half-way between two pixels
    np.testing.assert_allclose(layer("{resize: {size: 4, antialias: false}}", x, shape), pairs, rtol=1e-5)


def test_crop_flip_and_order_of_axes():
    x = RNG.random((2, 3, 9, 12), np.float32)
    np.testing.assert_array_equal(layer("{crop: [4, 5]}", x), x[:, :, 2:6, 3:8])
    np.testing.assert_array_equal(layer("{crop: 11}", x), np.pad(x[..., :11], ((0, 0), (0, 0), (1, 1), (0, 0))))
    np.testing.assert_array_equal(layer("flip", x), x[..., ::-1])
    np.testing.assert_array_equal(layer("{flip: 2}", x), x[:, :, ::-1])
    np.testing.assert_array_equal(layer("to_nchw", x, "[batch, a, b, 12]"), x.transpose(0, 3, 1, 2))


def test_grayscale_is_that_of_pillow():
    image = picture(7, 9)
    found = layer("grayscale", image.transpose(0, 3, 1, 2))
    want = np.asarray(Image.fromarray(image[0]).convert("L")).astype(int)
    assert np.abs(found[0, 0] - want).max() <= 1 and found.dtype == np.uint8
    x = RNG.random((2, 3, 4, 5), np.float32)
    luma = np.tensordot([0.299, 0.587, 0.114], x, (0, 1))
    np.testing.assert_allclose(layer("{grayscale: 3}", x), np.repeat(luma[:, None], 3, 1), rtol=1e-5)


def test_cast():
    x = np.array([[-1.7, 0.2, 2.9]], np.float32)
    assert layer("{cast: int32}", x, "[batch, 3]").tolist() == [[-1, 0, 2]]
    assert layer("{cast: float16}", x, "[batch, 3]").dtype == np.float16


@pytest.mark.parametrize(
    "step, message",
    [
        ("{resize: {mode: cubic}}", "needs either 'size' or 'shorter'"),
        ("{resize: {size: 3, shorter: 4}}", "needs either 'size' or 'shorter'"),
        ("{resize: [1, 2, 3]}", "size must be a positive number, or two"),
        ("[flatten, {resize: 3}]", "needs an input of rank 4"),
        ("{crop: 0}", "'size' of 'crop' must be at least 1, not 0"),
        ("{cast: flaot32}", "unknown dtype 'flaot32'\n  did you mean 'float32'?"),
        ("{grayscale: 2}", "channels must be 1 or 3, not 2"),
        ("[to_nchw, grayscale]", "needs 3 channels, not uint8[batch, 40, 3, 30]"),
        ("decode", "needs the bytes of a file, not uint8[batch, 3, 30, 40]"),
        ("center_crop", "unknown layer 'center_crop': here it is `crop: {size: …}`"),
        ("{resize: {interpolation: cubic, size: 3}}", "'resize' has no argument 'interpolation': it is called `mode`"),
    ],
)
def test_what_layers_refuse(step: str, message: str):
    with pytest.raises(GraphcError) as caught:
        loads_yaml(f"graphc: 1\ninputs: {{x: {{shape: [batch, 3, 30, 40], dtype: uint8}}}}\nnet: [{step}]\n")
    assert message in str(caught.value)


# --- the section ------------------------------------------------------------------------------------------------------
@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "m.yaml"
    file.write_text(TEXT)
    return file


def expected(image: np.ndarray) -> np.ndarray:
    """One picture [height, width, 3] as Pillow and NumPy prepare it. Both axes have one scale, so that part of a pixel is left at
    the end where a size is rounded down."""
    height, width = image.shape[:2]
    scale = 40 / min(height, width)
    size = round(width * scale), round(height * scale)
    box = (0, 0, size[0] / scale, size[1] / scale)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box))
    top, left = (small.shape[0] - 32) // 2, (small.shape[1] - 32) // 2
    part = small[top : top + 32, left : left + 32] / 255
    return ((part - MEAN) / STD).transpose(2, 0, 1)


def test_raw_pictures_of_any_size(path: Path):
    model = graphc.compile(path)
    assert [str(s) for s in model.inputs] == ["image: uint8[batch, height, width, 3]"]
    for height, width, batch in ((60, 80, 1), (80, 47, 2), (40, 40, 1), (33, 71, 3)):
        image = picture(height, width, batch)
        seen, again = model(image)
        for one, want in zip(seen, image):
            assert np.abs(one - expected(want)).max() <= 1.01 / 255 / min(STD)
        np.testing.assert_array_equal(seen, again)
    assert check(path) == [] and load_yaml(path).meta["warnings"] == ()


def test_without_it_inputs_are_what_it_gives(path: Path):
    for _ in range(2):  # made, and found on disk
        model = graphc.compile(path, preprocess=False)
        assert [str(s) for s in model.inputs] == ["image: float32[batch, 3, 32, 32]"]
        x = RNG.random((2, 3, 32, 32), np.float32)
        np.testing.assert_array_equal(model(x)[0], x)
        assert str(graphc.compile(path).inputs[0]) == "image: uint8[batch, height, width, 3]"


def test_sizes_that_are_computed_become_sizes_of_the_input():
    graph = loads_yaml(HEAD + "preprocess: {image: [to_nchw, {resize: {shorter: 8}}]}\nnet: [flip]\n", preprocess=False)
    assert repr(graph.inputs[0]) == "%image: uint8[batch, 3, image_d2, image_d3]"
    graph = loads_yaml(HEAD + "preprocess: {image: to_nchw}\nnet: [flip]\n", preprocess=False)
    assert repr(graph.inputs[0]) == "%image: uint8[batch, 3, height, width]"


def test_weights_are_the_same_with_and_without():
    text = HEAD + "preprocess: {image: [to_nchw, {cast: float32}, {crop: 4}]}\nnet: [flatten, {dense: 3}]\n"
    with_it, without = (loads_yaml(text, preprocess=p) for p in (True, False))
    x = picture(4, 4)
    (want,) = run(with_it, {"image": x}).values()
    (found,) = run(without, {"image": x.transpose(0, 3, 1, 2).astype(np.float32)}).values()
    np.testing.assert_array_equal(found, want)
    assert with_it.meta["parameters"] == without.meta["parameters"] == 48 * 3 + 3


def test_the_steps_of_a_net_among_several():
    text = """graphc: 1
params: {by: 0.5}
blocks: {halve: {body: [{scale: $by}]}}
nets:
  one: {inputs: {x: [n, 4], y: [n, 4]}, preprocess: {x: halve}, net: [{sub: {from: [x, y]}}]}
  two: {inputs: {a: [n, 4], b: [n, 4]}, net: [{one: {from: [a, b]}}]}
"""
    x, y = RNG.random((2, 3, 4), np.float32)
    np.testing.assert_allclose(run(loads_yaml(text), {"x": x, "y": y})["output"], x / 2 - y, rtol=1e-6)
    # as a step it takes what its net reads
    np.testing.assert_array_equal(run(loads_yaml(text, net="two"), {"a": x, "b": y})["output"], x - y)
    assert loads_yaml(text).meta["warnings"] == ()


@pytest.mark.parametrize(
    "section, message",
    [
        ("{imag: [to_nchw]}", "line 3, column 14: there is no input 'imag'\n  did you mean 'image'?"),
        ("{image: [to_nchv]}", "unknown layer 'to_nchv'"),
        ("[to_nchw]", "preprocess must be a mapping"),
        ("{image: [to_nchw, {conv: {out: 3}}]}", "has weights, which are floats"),
        ("{image: [{cast: $to}]}", "unknown variable '$to'"),
    ],
)
def test_one_problem(section: str, message: str):
    for preprocess in (True, False):
        with pytest.raises(GraphcError) as caught:
            loads_yaml(HEAD + f"preprocess: {section}\nnet: [identity, {{Neg: {{}}}}]\n", preprocess=preprocess)
        assert message in str(caught.value) and str(caught.value).count("line") == 1


def test_a_type_that_only_data_tells_can_not_be_declared():
    text = (
        "graphc: 1\ninputs: {x: [n]}\npreprocess: {x: [{Unique: {}}, {Reshape: {inputs: [last, last]}}]}\nnet: [neg]\n"
    )
    with pytest.raises(GraphcError, match="has a type that is known only when the model runs|takes"):
        loads_yaml(text, preprocess=False)


@pytest.mark.parametrize("command", ["run", "show", "check", "compile"])
def test_commands_without_it(path: Path, command: str):
    done = CliRunner().invoke(main, [command, str(path), "--batch", "1", "--no-preprocess"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (
        command not in ("run", "show") or "float32[1, 3, 32, 32]" in done.output or "[batch, 3, 32, 32]" in done.output
    )


# --- files of pictures ------------------------------------------------------------------------------------------------
def encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def test_run_takes_a_picture(path: Path, tmp_path: Path):
    image = picture(50, 64)[0]
    (tmp_path / "cat.png").write_bytes(encoded(image, "PNG"))
    for source in (f"image={tmp_path}/cat.png", f"{tmp_path}/cat.png"):
        more = ["--input", source, "--output", str(tmp_path / "out.npz")]
        done = CliRunner().invoke(main, ["run", str(path), *more], catch_exceptions=False)
        assert done.exit_code == 0 and "input image: uint8[1, 50, 64, 3]" in done.output, done.output
        found = np.load(tmp_path / "out.npz")["seen"]
        np.testing.assert_allclose(found, graphc.compile(path)(image[None])[0], rtol=1e-5)
    (tmp_path / "cat.jpg").write_bytes(b"no picture")
    done = CliRunner().invoke(main, ["run", str(path), "--input", f"image={tmp_path}/cat.jpg"])
    assert done.exit_code == 4 and "cat.jpg': no picture that can be read: its format is not known" in done.output
    done = CliRunner().invoke(main, ["run", str(path), "--input", f"image={tmp_path}/dog.jpg"])
    assert done.exit_code == 4 and "no file or folder '" in done.output


def test_a_picture_for_an_input_that_is_none(tmp_path: Path):
    (tmp_path / "cat.png").write_bytes(encoded(picture(5, 5)[0], "PNG"))
    (tmp_path / "numbers.yaml").write_text(
        "graphc: 1\ninputs: {x: [batch, 7]}\nnet: [relu]\noutputs: {y: last}\n", encoding="utf-8"
    )
    done = CliRunner().invoke(main, ["run", str(tmp_path / "numbers.yaml"), "--input", f"x={tmp_path}/cat.png"])
    assert done.exit_code == 4
    assert "input 'x' is [batch, 7] of float32, and" in done.output and "`preprocess`" in done.output


def test_without_its_preprocess_a_picture_is_prepared_as_others_are(path: Path, tmp_path: Path):
    """And that is told."""
    (tmp_path / "cat.png").write_bytes(encoded(picture(5, 5)[0], "PNG"))
    done = CliRunner().invoke(main, ["run", str(path), "--no-preprocess", "--input", f"image={tmp_path}/cat.png"])
    assert done.exit_code == 0 and "pictures as input 'image'" in done.output


DECODES = """graphc: 1
inputs: {file: {shape: [bytes], dtype: uint8}}
preprocess: {file: [decode, to_nchw, {cast: float32}, {resize: 8}]}
net: [global_avgpool]
"""


def test_decode_is_a_layer(tmp_path: Path):
    """It becomes ImageDecoder, on the host; what follows is compiled for each size that turns up."""
    graph = loads_yaml(DECODES)
    model = graphc.compile(graph)
    for height, width in ((16, 24), (8, 8)):
        image = picture(height, width)
        data = np.frombuffer(encoded(image[0], "PNG"), np.uint8)
        np.testing.assert_allclose(model(data)[0], image[0].mean((0, 1)), rtol=0.05)
        np.testing.assert_allclose(model(data), run(graph, {"file": data})["output"], rtol=1e-5)
    again = load_onnx(to_onnx(graph))
    np.testing.assert_allclose(run(again, {"file": data})["output"], model(data), rtol=1e-5)
    assert [n.op.name for n in again.nodes][0] == "ImageDecoder"
    (tmp_path / "m.yaml").write_text(DECODES)
    (tmp_path / "cat.png").write_bytes(data.tobytes())
    done = CliRunner().invoke(main, ["run", str(tmp_path / "m.yaml"), "--input", f"file={tmp_path}/cat.png"])
    assert done.exit_code == 0 and f"input file: uint8[{data.size}]" in done.output, done.output


def test_formats_of_pictures():
    image = picture(6, 10)[0]
    for kind in ("PNG", "BMP", "TIFF", "PPM", "WebP"):
        data = encoded(image, kind, **({"lossless": True} if kind == "WebP" else {}))
        np.testing.assert_array_equal(decode(data), image)
        np.testing.assert_array_equal(decode(data, "BGR"), image[..., ::-1])
    assert np.abs(decode(encoded(image, "JPEG", quality=95)).astype(int) - image).mean() < 12
    grey = decode(encoded(image, "PNG"), "Grayscale")
    assert grey.shape == (6, 10, 1)
    with_alpha = np.dstack([image, np.full((6, 10), 9, np.uint8)])
    np.testing.assert_array_equal(decode(encoded(with_alpha, "PNG")), image)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    data = encoded(image, "PNG", exif=turned)
    assert decode(data).shape == (6, 10, 3) and decode(data, upright=True).shape == (10, 6, 3)
    with pytest.raises(InputError, match="pixels of mode 'I;16'"):
        decode(encoded(np.ones((4, 4), np.uint16), "PNG"))
    for damaged in (b"", data[: len(data) // 2], data[:20] + b"\0" * 100):
        with pytest.raises(InputError, match="no picture that can be read|a damaged picture"):
            decode(damaged)


def test_what_is_said_where_pillow_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        MissingPackageError, match=r"Pillow, which reads pictures, is not installed\n  pip install 'graphc\[images\]'"
    ):
        decode(b"")
