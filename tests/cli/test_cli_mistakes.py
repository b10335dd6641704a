"""Whatever a person types, and whatever becomes of the terminal: one clear message and a proper exit code, no traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from graphc.cli import console, main
from graphc.cli.answers import Classes

YAML = "graphc: 1\ninputs: {x: [batch, 4]}\nnet: [{dense: 6}, sigmoid]\noutputs: {y: last}\n"
COMMANDS = ("run", "check", "show", "explain", "bench", "compare", "compile", "export", "quantize", "shrink")
WRITING = {"export": ["out.onnx"], "quantize": ["out.onnx"], "shrink": ["out.onnx", "--codebook", "4"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder: a model, and files of all kinds."""
    path = tmp_path_factory.mktemp("files")
    (path / "m.yaml").write_text(YAML)
    for name in ("empty.yaml", "empty.onnx", "empty.npy", "text.txt"):
        (path / name).write_text("")
    for name in ("folder.yaml", "folder.onnx", "folder.npy"):
        (path / name).mkdir()
    (path / "noise.yaml").write_bytes(bytes(range(256)))
    (path / "noise.onnx").write_bytes(bytes(range(256)) * 3)
    for name in ("net.pt", "net.keras", "net.tflite", "frozen.pb"):
        (path / name).write_bytes(b"another format")
    (path / "loop.yaml").symlink_to("loop.yaml")
    ok = np.ones((2, 4), np.float32)
    for name, array in {
        "ok": ok, "f64": ok.astype(np.float64), "ints": ok.astype(np.int64), "complex": ok.astype(np.complex64),
        "rank": ok[0], "size": ok[:, :3], "scalar": np.float32(1), "zero": ok[:0], "text": np.array([["a"] * 4]),
        "records": np.zeros((2, 4), [("a", "f4")]), "times": np.zeros((2, 4), "M8[s]"),
    }.items():  # fmt: skip
        np.save(path / f"{name}.npy", array)
    np.save(path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (path / "cut.npy").write_bytes((path / "ok.npy").read_bytes()[:100])
    np.savez(path / "ok.npz", x=ok)
    np.savez(path / "other.npz", x=ok, y=ok)
    np.savez(path / "nothing.npz")
    (path / "cut.npz").write_bytes((path / "ok.npz").read_bytes()[:200])
    for name, member in (("bytes", "x.npy"), ("foreign", "x.txt")):
        with zipfile.ZipFile(path / f"{name}.npz", "w") as archive:
            archive.writestr(member, b"no array")
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000), }"
    (path / "huge.npy").write_bytes(header.ljust(127) + b"\n")
    before = os.getcwd()
    os.chdir(path)
    yield path
    os.chdir(before)


def invoke(*args: str) -> Result:
    result = CliRunner().invoke(main, args)
    assert result.exit_code in range(6), result.output
    assert "Traceback" not in result.output and "bug in graphc" not in result.output
    return result


def refused(*args: str, code: int = 2) -> str:
    """What a command says to a mistake: a usage error, or one message on stderr."""
    result = invoke(*args)
    assert result.exit_code == (2 if "Usage: " in result.stderr else code), result.output
    said = [line for line in result.output.splitlines() if re.match(r"(graphc: error|Error|- )", line)]
    assert len(said) == 1, result.output
    return said[0]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("none.yaml", "does not exist"),
        ("folder.yaml", "is a directory"),
        ("folder.onnx", "is a directory"),
        (".", "is a directory"),
        ("-", "does not exist"),
        ("", "does not exist"),
        ("loop.yaml", "does not exist"),
        ("empty.yaml", "is empty"),
        ("empty.onnx", "not an ONNX model"),
        ("noise.yaml", "is not text"),
        ("noise.onnx", "not an ONNX model"),
        ("text.txt", "unknown suffix '.txt'"),
        ("/dev/null", "unknown suffix ''"),
    ],
)
def test_no_model(command: str, model: str, said: str):
    code = 4 if "exist" in said or "directory" in said else 3
    assert said in refused(command, model, *WRITING.get(command, []), code=code)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("net.pt", "to ONNX: torch.onnx.export"),
        ("net.keras", "to ONNX: keras.models.load_model"),
        ("net.tflite", "to ONNX: python -m tf2onnx.convert --tflite"),
        ("frozen.pb", "--graphdef FILE"),
    ],
)
def test_models_of_other_frameworks(model: str, how: str):
    assert how in invoke("check", model).output


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["show", "check", "compare", "export", "build", "reduce"])
def test_a_built_file_has_no_graph(command: str):
    Path("built.gcm").write_bytes(b"plans")
    more = {"build": ["-o", "other.gcm"], "reduce": ["small.onnx"]}.get(command, WRITING.get(command, []))
    assert "'built.gcm' holds plans and no graph" in refused(command, "built.gcm", *more, code=3)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--batch 0", "0 is not in the range"),
        ("--batch x", "'x' is not a valid integer"),
        ("--batch 9999999999999999999", "is larger than any memory"),
        ("--batch 2 --shape x=1,4", "no input takes a batch of 2"),
        ("--shape x", "'x' is not a shape"),
        ("--shape =1,4", "is not a shape"),
        ("--shape x=1,,4", "is not a shape"),
        ("--shape x=1,-4", "is not a shape"),
        ("--shape x=1e3,4", "is not a shape"),
        ("--shape x=", "can't be []"),
        ("--shape x=1,5", "the model wants [batch, 4]"),
        ("--shape z=1", "no input 'z'"),
        ("--shape x=1,4 --shape x=2,4", "the shape of 'x' is given twice"),
        ("--shape x=99999999999999999999,4", "is larger than any memory"),
        ("--threads 0", "0 is not in the range"),
        ("--threads 100000", "threads must be at most 1024"),
        ("--winograd 3", "'3' is not one of"),
        ("--target gpu", "'gpu' is not one of"),
        ("--disable nope", "no pass is named 'nope'"),
        ("--target cuda:emulate --disable winograd", "'winograd' is a part of target 'cpu' that 'cuda:emulate' lacks"),
        ("--nope", "No such option"),
        ("--stop-after bound:nope", "no pass is named 'nope'"),
        ("--stop-after=", "no pass is named ''"),
        ("--input none.npy", "no file or folder 'none.npy'"),
        ("another.yaml", "unexpected extra argument"),
    ],
)
def test_wrong_options(options: str, said: str):
    assert said in refused("compile", "m.yaml", *options.split(), code=4)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.npy", "no file or folder 'none.npy'"),
        ("x=none.npy", "no file or folder 'none.npy'"),
        ("x=", "no file or folder ''"),
        ("-", "there is nothing on stdin"),
        ("z=ok.npy", "the model has no input 'z'"),
        ("z=ones", "the model has no input 'z'"),
        ("f64.npy", "'x' is float64, the model wants float32[batch, 4]"),
        ("x=ints.npy", "'x' is int64"),
        ("complex.npy", "'x' is complex64"),
        ("rank.npy", "can't be [4]"),
        ("size.npy", "can't be [2, 3]"),
        ("scalar.npy", "can't be []"),
        ("text.npy", "the model wants"),
        ("records.npy", "the model wants"),
        ("times.npy", "the model wants"),
        ("objects.npy", "is no .npy or .npz file"),
        ("cut.npy", "is no .npy or .npz file"),
        ("empty.npy", "is no .npy or .npz file"),
        ("m.yaml", "is no .npy or .npz file"),
        ("folder.npy", "the folder 'folder.npy' holds no data"),
        ("cut.npz", "is no .npy or .npz file"),
        ("nothing.npz", "holds no arrays"),
        ("bytes.npz", "what is no array"),
        ("foreign.npz", "what is no array"),
        ("other.npz", "the model has no input 'y'"),
        ("huge.npy", "out of memory"),
    ],
)
@pytest.mark.parametrize("command", ["run", "explain"])
def test_wrong_inputs(command: str, source: str, said: str):
    code = 5 if "memory" in said else 4
    assert said in refused(command, "m.yaml", "--target", "reference", "--input", source, code=code)


@pytest.mark.usefixtures("folder")
def test_inputs_that_are_given_twice():
    assert "input 'x' is given twice" in refused("run", "m.yaml", "--input", "ok.npy", "--input", "x=ok.npz", code=4)
    assert invoke("run", "m.yaml", "--target", "reference", "--input", "ones", "--input", "x=ok.npy").exit_code == 0


@pytest.mark.usefixtures("folder")
def test_names_of_files_may_hold_any_sign():
    Path("a=b.npy").write_bytes(Path("ok.npy").read_bytes())
    Path("ü [bold]:smile:.yaml").write_text(YAML)
    for source in ("a=b.npy", "x=a=b.npy"):
        assert (
            "float32[2, 4]" in invoke("run", "ü [bold]:smile:.yaml", "--target", "reference", "--input", source).output
        )
    assert "ü [bold]:smile:" in invoke("show", "ü [bold]:smile:.yaml").output


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("run", "m.yaml", "--seed", "-1"), "-1 is not in the range"),
        (("bench", "m.yaml", "--rounds", "0"), "0 is not in the range"),
        (("compare", "m.yaml", "--tolerance", "-1"), "-1.0 is not in the range"),
        (("compare", "m.yaml", "--tolerance", "nan"), "not a number"),
        (("bench", "m.yaml", "--rounds", "1", "--profile", "--target", "reference"), "has no profiler"),
        (("nope",), "No such command 'nope'"),
        (("run",), "Missing argument 'MODEL'"),
        (("export", "m.yaml"), "Missing argument 'OUT'"),
    ],
)
def test_other_mistakes(args: tuple[str, ...], said: str):
    assert said in refused(*args, code=3)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["run", "check", "explain", "bench", "compare", "compile", "show"])
def test_an_empty_batch_is_no_mistake(command: str):
    assert invoke(command, "m.yaml", "--shape", "x=0,4").exit_code == 0


def test_the_best_of_no_classes():
    assert Classes({}, ["y"]).told("y", np.zeros((0, 6), np.float32)) == []
    assert Classes({}, ["y"]).told("y", np.zeros((0, 6, 1), np.float32)) == []


def test_the_version_needs_no_installation():
    assert re.search(r"\d+\.\d+", invoke("--version").output)


# --- processes --------------------------------------------------------------------------------------------------------
def process(*args: str | bytes, **kwargs) -> tuple[int, str]:
    """Exit code and stderr of `python -m graphc`."""
    done = subprocess.run([sys.executable, "-m", "graphc", *args], stderr=subprocess.PIPE, timeout=120, **kwargs)
    return done.returncode, done.stderr.decode(errors="backslashreplace")


def test_names_of_files_may_be_any_bytes(folder: Path):
    model, arrays = b"\xff\xfe.yaml", b"\xfd.npz"
    (folder / os.fsdecode(model)).write_text(YAML)
    for env in ({}, {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}):
        code, error = process("run", model, "--output", arrays, stdout=subprocess.DEVNULL, env={**os.environ, **env})
        assert (code, error) == (0, "")
    assert np.load(folder / os.fsdecode(arrays))["y"].shape == (1, 6)
    code, error = process("export", model, b"\xfc.onnx", stdout=subprocess.DEVNULL)
    assert (code, error) == (0, "")
    code, error = process("check", b"\xff.yaml", stdout=subprocess.DEVNULL)
    assert code == 4 and "does not exist" in error


@pytest.mark.parametrize("args", [("show", "m.yaml"), ("run", "m.yaml", "--target", "reference"), ("--help",)])
@pytest.mark.usefixtures("folder")
def test_where_the_output_goes_may_fail(args: tuple[str, ...]):
    read, write = os.pipe()
    os.close(read)
    try:
        assert process(*args, stdout=write) == (141, "")  # as a program that SIGPIPE ends
    finally:
        os.close(write)
    with open("/dev/full", "w") as full:
        assert process(*args, stdout=full) == (5, "graphc: error: No space left on device\n")
    assert process(*args, stdout=None, preexec_fn=lambda: os.close(1)) == (0, "")


def test_an_interrupt_while_modules_load():
    program = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'graphc.cli.app': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from graphc.__main__ import run\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "graphc: interrupted\n")


@pytest.mark.parametrize(("columns", "width"), [("1", 80), ("20", 80), ("100", 100)])
def test_tables_on_narrow_terminals_lose_no_columns(columns: str, width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert console.table_width() == width
