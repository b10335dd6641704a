"""Files that commands write: refused before any work, never over what is read, never half written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

from graphc.cli import export as export_command
from graphc.cli import main
from graphc.cli.output import write_file
from graphc.errors import InputError

YAML = "graphc: 1\ninputs: {x: [batch, 4]}\nnet: [{dense: 3, as: y}, sigmoid]\noutputs: {y: y, z: last}\nweights: %s\n"
COMMANDS = {
    "export": ("export", "{model}", "{out}.onnx"),
    "run": ("run", "{model}", "--output", "{out}.npz"),
    "run npy": ("run", "{model}", "--output", "{out}.npy"),
    "trace": ("bench", "{model}", "--trace", "{out}.json"),
    "picture": ("bench", "{model}", "--picture", "{out}.svg"),
    "quantize": ("quantize", "--weights", "int4", "{model}", "{out}.onnx"),
    "quantize report": ("quantize", "{model}", "{out}.onnx", "--data", "{model}", "--report", "{out}.svg"),
    "shrink": ("shrink", "--codebook", "1", "{model}", "{out}.onnx"),
    "shrink report": ("shrink", "{model}", "{out}.onnx", "--codebook", "1", "--report", "{out}.json"),
    "schema": ("schema", "{model}", "-o", "{out}.json"),
}


def invoke(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def command(name: str, model: Path, out: str) -> list[str]:
    return [part.format(model=model, out=out) for part in COMMANDS[name]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(YAML.replace("y: y, ", "") % "{seed: 0}")
    return path


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a model is loaded or compiled."""
    from graphc import compiler, frontends

    def work(*args, **kwargs):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(compiler, "compile", work)
    monkeypatch.setattr(frontends, "load", work)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("place", ["missing", "folder", "a file as folder", "forbidden", "pipe", "dangling"])
@pytest.mark.usefixtures("no_work")
def test_what_can_not_be_written_is_refused_before_the_work(name: str, place: str, model: Path, tmp_path: Path):
    out, suffix = str(tmp_path / "out"), COMMANDS[name][-1].removeprefix("{out}")
    if place == "missing":
        out, said = str(tmp_path / "none" / "out"), "there is no folder"
    elif place == "a file as folder":
        out, said = str(model / "out"), "there is no folder"
    elif place == "forbidden":
        out, said = "/proc/out", "can't be written"
    elif place == "folder":
        Path(out + suffix).mkdir()
        said = "is a folder"
    elif place == "pipe":
        os.mkfifo(out + suffix)
        said = "is no file"
    else:
        Path(out + suffix).symlink_to(tmp_path / "gone" / "out")
        said = "there is no folder"
    assert said in invoke(*command(name, model, out), code=4).stderr


@pytest.mark.parametrize(
    ("args", "known"),
    [
        (("export", "{model}", "out.yaml"), ".onnx"),
        (("export", "{model}", "-"), ".onnx"),
        (("run", "{model}", "--output", "out.txt"), ".npz, .npy"),
        (("run", "{model}", "--output", "out"), ".npz, .npy"),
        (("bench", "{model}", "--trace", "out.svg"), ".json"),
        (("bench", "{model}", "--picture", "out.png"), ".svg"),
        (("quantize", "{model}", "out.yaml"), ".onnx"),
        (("quantize", "{model}", "out.onnx", "--report", "out.pdf"), ".svg, .png, .json"),
        (("shrink", "{model}", "out.yaml"), ".onnx"),
        (("shrink", "{model}", "out.onnx", "--report", "out.svg"), ".json"),
        (("schema", "{model}", "-o", "out.yaml"), ".json"),
    ],
)
@pytest.mark.usefixtures("no_work")
def test_other_suffixes_are_refused(args: tuple[str, ...], known: str, model: Path, tmp_path: Path):
    before = sorted(os.listdir(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        error = invoke(*(a.format(model=model) for a in args), code=2).stderr
    assert f"known: {known}" in error
    assert sorted(os.listdir(tmp_path)) == before


def _models(folder: Path) -> dict[str, Path]:
    """A model beside each kind of file that it reads: of its own suffix or not."""
    w = {"net.0.dense.weight": np.ones((3, 4), np.float32), "net.0.dense.bias": np.zeros(3, np.float32)}
    np.savez(folder / "weights.npz", **w)
    (folder / "npz.yaml").write_text(YAML % "{file: weights.npz}")
    tensor = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, 1, ["batch", k]) for n, k in (("x", 4), ("y", 3)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="weights.onnx", size_threshold=0)
    return {"yaml": folder / "npz.yaml", "onnx": folder / "net.onnx"}


@pytest.mark.parametrize("link", ["itself", "symbolic", "hard", "folder"])
@pytest.mark.parametrize(
    ("kind", "read", "args"),
    [
        ("onnx", "net.onnx", ("export", "{model}", "{out}")),
        ("onnx", "weights.onnx", ("export", "{model}", "{out}")),
        ("onnx", "net.onnx", ("quantize", "{model}", "{out}", "--weights", "int4")),
        ("onnx", "weights.onnx", ("quantize", "{model}", "{out}", "--weights", "int4")),
        ("onnx", "weights.onnx", ("shrink", "{model}", "{out}", "--codebook", "4")),
        ("yaml", "weights.npz", ("run", "{model}", "--output", "{out}")),
        ("yaml", "x.npz", ("run", "{model}", "--input", "{read}", "--output", "{out}")),
        ("yaml", "x.npz", ("run", "{model}", "--input", "x={read}", "--output", "{out}")),
        ("onnx", "x.npy", ("run", "{model}", "--input", "x={read}", "--output", "{out}")),
    ],
)
def test_nothing_that_is_read_is_overwritten(tmp_path: Path, link: str, kind: str, read: str, args: tuple[str, ...]):
    models = _models(tmp_path)
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), np.float32))
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    source, out = tmp_path / read, tmp_path / f"link{Path(read).suffix}"
    if link == "itself":
        out = source
    elif link == "symbolic":
        out.symlink_to(source)
    elif link == "hard":
        out.hardlink_to(source)
    else:
        (tmp_path / "same").symlink_to(tmp_path)
        out = tmp_path / "same" / read
    before = source.read_bytes()
    for _ in range(2):  # loaded, and found on disk
        result = invoke(*(a.format(model=models[kind], out=out, read=source) for a in args), code=4)
        assert "is read by this command" in result.stderr
    assert source.read_bytes() == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("bug")])
def test_a_file_stays_as_it_was_when_writing_fails(tmp_path: Path, error: BaseException):
    path = tmp_path / "out.npz"
    path.write_bytes(b"old")

    def fail(stream):
        stream.write(b"new")
        raise error

    with pytest.raises(InputError if isinstance(error, OSError) else type(error)) as caught:
        write_file(path, fail)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.npz"]
    if isinstance(error, OSError):
        assert "out.npz': No space left" in str(caught.value)


@pytest.mark.parametrize("name", ["export", "run", "quantize", "shrink", "schema"])
def test_what_is_there_is_replaced(name: str, model: Path, tmp_path: Path):
    args = command(name, model, str(tmp_path / "o"))
    out = Path(next(a for a in args if a.startswith(f"{tmp_path / 'o'}.")))
    out.write_bytes(b"old")
    invoke(*args)
    assert out.stat().st_size > 3


def test_links_and_modes_stay(tmp_path: Path):
    target, link = tmp_path / "a.npz", tmp_path / "b.npz"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_file(link, lambda f: f.write(b"new"))
    assert link.is_symlink() and target.read_bytes() == b"new" and target.stat().st_mode & 0o777 == 0o640
    write_file(tmp_path / "c.npz", lambda f: f.write(b"new"))
    assert (tmp_path / "c.npz").stat().st_mode & 0o400


def test_a_single_result_may_be_a_npy_file(model: Path, tmp_path: Path):
    for suffix in ("npy", "NPY"):
        invoke("run", model, "--target", "reference", "--batch", 2, "--output", tmp_path / f"y.{suffix}")
        assert np.load(tmp_path / f"y.{suffix}").shape == (2, 3)
    model.write_text(YAML % "{seed: 0}")
    error = invoke("run", model, "--output", tmp_path / "y.npy", code=4).stderr
    assert "there are 2 results: y, z" in error and ".npz" in error


def test_a_scalar_result_is_saved_as_one(tmp_path: Path):
    path = tmp_path / "sum.yaml"
    path.write_text("graphc: 1\ninputs: {x: [4]}\nnet: [{ReduceSum: {keepdims: 0}}]\n")
    for out in ("y.npy", "y.npz"):
        invoke("run", path, "--input", "ones", "--target", "reference", "--output", tmp_path / out)
    assert np.load(tmp_path / "y.npy").shape == np.load(tmp_path / "y.npz")["output"].shape == ()


def test_bench_writes_a_trace_and_a_picture(model: Path, tmp_path: Path):
    invoke("bench", model, "--rounds", 1, "--trace", tmp_path / "t.json", "--picture", tmp_path / "p.svg")
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag.endswith("svg")


def test_weights_too_large_for_a_file_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export_command, "MAX_BYTES", 10)
    assert "an ONNX file holds 10 B" in invoke("export", model, tmp_path / "o.onnx", code=3).stderr
    assert not (tmp_path / "o.onnx").exists()
