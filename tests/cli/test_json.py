"""--json, exit codes, and docs/commands.md, which says what they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from graphc.cli import exits, machine, main
from graphc.errors import (
    CheckError,
    DeviceError,
    InputError,
    LoadError,
    Location,
    MissingPackageError,
    OutOfMemoryError,
    UnreachableError,
    UnsupportedError,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
LENET = "zoo:lenet5"
REFERENCE = ("--target", "reference")
YAML = "graphc: 1\ninputs: {x: {shape: [batch, 4]}}\nnet: [{dense: 6}, softmax]\noutputs: {y: last}\n"

CASES = {
    "run": ("run", "m.yaml", *REFERENCE),
    "run FILE": ("run", "m.yaml", "x.npz", *REFERENCE),
    "check": ("check", "m.yaml", *REFERENCE),
    "show": ("show", "m.yaml"),
    "show --weights": ("show", "m.yaml", "--weights"),
    "show --graph": ("show", "m.yaml", "--graph", "m.svg"),
    "explain": ("explain", "m.yaml"),
    "bench": ("bench", "m.yaml", "--rounds", "2"),
    "report": ("report", "m.yaml", "--no-time"),
    "test": ("test", "-k", "BitwiseNot", "--examples", "2"),
    "compare": ("compare", "m.yaml"),
    "reduce": ("reduce", "m.yaml", "small.onnx", "--device", "99"),  # which a CPU has not: an error on any machine
    "compile": ("compile", "m.yaml"),
    "compile --stop-after": ("compile", "m.yaml", "--stop-after", "dead_code"),
    "build": ("build", "m.yaml", "-o", "m.gcm", "--shapes", "batch=2"),
    "build --c": ("build", "m.yaml", "-o", "m.so", "--shapes", "batch=2", "--c"),
    "export": ("export", "m.yaml", "m.onnx"),
    "quantize": ("quantize", "m.yaml", "q.onnx", "--data", "x.npz"),
    "shrink": ("shrink", "m.yaml", "s.onnx", "--codebook", "4"),
    "schema": ("schema", "m.yaml"),
    "operators": ("operators", "softmax"),
    "layers": ("layers", "conv"),
    "zoo": ("zoo", "lenet"),
    "init": ("init", "lenet5"),
    "help": ("help",),
    "help PAGE": ("help", "yaml"),
    "help COMMAND": ("help", "run"),
}


def documented() -> dict[str, list[str]]:
    """The keys of each command, from the page."""
    text = PAGE.partition("<!-- keys: begin")[2].partition("<!-- keys: end")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    names = [name for name, _ in rows]
    assert len(names) == len({*names}), "a command has two rows"
    return {name.strip("`"): re.findall(r"`(\w+)`", keys) for name, keys in rows}


def said(*args: str, code: int = 0) -> dict:
    """The object that a command prints, and its exit code, which the object has, too."""
    result = CliRunner().invoke(main, [*args, "--json"])
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert found["exit_code"] == code and found["graphc"]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "m.yaml").write_text(YAML)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", CASES)
def test_every_command_has_the_documented_keys(name: str):
    if name == "show --graph":
        pytest.importorskip("pygraphviz")
    found = said(*CASES[name])
    assert list(found) == ["graphc", "command", "exit_code", *documented()[name]]
    assert found["command"] == name.partition(" ")[0]


def test_every_command_is_documented():
    assert {name.partition(" ")[0] for name in CASES} == set(main.commands) and [*CASES] == [*documented()]
    for command in main.commands.values():
        assert any("--json" in p.opts for p in command.params), command.name


def test_run_tells_of_arrays(folder: Path):
    (folder / "m.yaml").write_text(YAML + "labels: {y: [a, b, c, d, e, f]}\n")
    found = said("run", "m.yaml", "--batch", "2", "--output", "y.npz")
    (out,) = found["outputs"]
    y = np.load("y.npz")["y"]
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2, 4]}] and out["shape"] == [2, 6]
    assert (out["min"], out["max"], out["nan"]) == (float(y.min()), float(y.max()), 0)
    for i, row in enumerate(out["best"]):
        best = int(y[i].argmax())
        assert row["row"] == [i] and row["classes"][0] == {
            "class": best,
            "label": "abcdef"[best],
            "score": float(y[i, best]),
        }
    assert found["written"] == "y.npz" and found["seconds"]["first"] > 0


@pytest.mark.slow  # measures the machine's limits
@pytest.mark.usefixtures("folder")
def test_bench_tells_of_steps():
    found = said("bench", "m.yaml", "--rounds", "2", "--profile", "--trace", "t.json")
    assert found["written"] == ["t.json"] and found["seconds"]["rounds"] == 2 and found["profile"]
    assert all(step["seconds"] > 0 and step["roofline"] >= 0 and step["kernel"] for step in found["profile"])


@pytest.mark.usefixtures("folder")
def test_run_over_files_tells_of_each():
    Path("bad.npy").write_bytes(b"no array")
    found = said("run", "m.yaml", "x.npz", "bad.npy", *REFERENCE, code=exits.INPUT)
    good, bad = found["files"]
    assert good["file"] == "x.npz" and good["error"] is None and good["outputs"]
    assert bad["file"] == "bad.npy" and bad["error"]["kind"] == "InputError" and found["failed"] == 1


@pytest.mark.usefixtures("folder")
def test_numbers_that_json_has_not():
    np.save("bad.npy", np.float32([[np.nan, np.inf, 1, 2]]))
    Path("id.yaml").write_text("graphc: 1\ninputs: {x: {shape: [1, 4]}}\nnet: [identity]\noutputs: {y: last}\n")
    (out,) = said("run", "id.yaml", *REFERENCE, "--input", "bad.npy")["outputs"]
    assert (out["min"], out["max"], out["nan"]) == (1.0, "Infinity", 1)
    assert machine.plain([float("nan"), -np.inf, np.float32(0.5)]) == ["NaN", "-Infinity", 0.5]


def test_a_problem_says_where_it_is(folder: Path):
    (folder / "typo.yaml").write_text(YAML.replace("softmax", "sotfmax"))
    (problem,) = said("check", "typo.yaml", code=exits.MODEL)["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == ("typo.yaml", 3, 19)
    assert "softmax" in problem["hint"]
    assert said("run", "typo.yaml", code=exits.MODEL)["error"] == problem
    (folder / "typo.yaml").write_text(YAML.replace("softmax", "sotfmax").replace("dense", "dens"))
    error = said("run", "typo.yaml", code=exits.MODEL)["error"]
    assert error["kind"] == "CheckError" and [p["column"] for p in error["problems"]] == [8, 18]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("args", "code", "kind"),
    [
        (("nope",), exits.USAGE, "UsageError"),
        (("run", "none.yaml"), exits.INPUT, "InputError"),
        (("run", "zoo:nothing_of_the_kind"), exits.INPUT, "InputError"),
        (("run", "m.yaml", "--labels", "none.txt"), exits.INPUT, "InputError"),
        (("run", "m.yaml", "--output", "none/y.npz"), exits.INPUT, "InputError"),
        (("run", "m.yaml", "--output", "y.txt"), exits.USAGE, "UsageError"),
        (("run", "m.yaml", "--import", "none.py"), exits.INPUT, "InputError"),
        (("run", "m.yaml", "--precision", "fp8"), exits.USAGE, "UsageError"),
        (("quantize", "m.yaml", "q.onnx", "--data", "none"), exits.INPUT, "InputError"),
        (("test", "none.py"), exits.INPUT, "InputError"),
        (("test", "--out", "m.yaml"), exits.INPUT, "InputError"),
        (("init", "lenet5", "m.yaml"), exits.INPUT, "InputError"),
        (("run", "m.yaml", "--batch", "0"), exits.USAGE, "UsageError"),
        (("run", "m.yaml", "--nope"), exits.USAGE, "UsageError"),
        (("run", "x.npz"), exits.MODEL, "LoadError"),
        (("run", "m.yaml", "--input", "none.npy"), exits.INPUT, "InputError"),
        (("run", "m.yaml", "--disable", "nope"), exits.INPUT, "InputError"),
        (("zoo", "nothing_of_the_kind"), exits.INPUT, "InputError"),
    ],
)
def test_errors_are_objects(args: tuple[str, ...], code: int, kind: str):
    found = said(*args, code=code)
    assert list(found) == ["graphc", "command", "exit_code", "error"] and found["error"]["kind"] == kind
    assert found["command"] == (args[0] if args[0] in main.commands else None) and found["error"]["message"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("model", ["m.yaml", LENET])
def test_the_model_is_told_as_it_is_given(model: str):
    for args in (("show", model), ("export", model, "e.onnx")):
        assert said(*args)["model"] == model
    assert said("show", model)["name"] == model.removeprefix("zoo:").removesuffix(".yaml")


def test_every_precision_of_a_backend_can_be_named():
    from graphc.backends.cpu.options import PRECISIONS as OF_CPU
    from graphc.backends.cuda.options import PRECISIONS as OF_CUDA

    named = {
        name: next(p.type for p in main.commands[name].params if p.name == "precision") for name in ("run", "build")
    }
    assert set(named["run"].choices) == {*OF_CPU, *OF_CUDA} and set(named["build"].choices) == {*OF_CPU}


def test_a_difference_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from graphc.cli import compare

    monkeypatch.setattr(compare, "removable", lambda target: [])
    wrong = lambda self, build: {v: a + 1 for v, a in self.expected().items()}  # noqa: E731
    monkeypatch.setattr(compare.Taps, "actual", wrong)
    found = said("compare", "m.yaml", code=exits.DIFFERENT)
    assert not found["agrees"] and found["first"]["where"] == "node" and found["first"]["op"] == "Gemm"
    assert list(found) == ["graphc", "command", "exit_code", *documented()["compare"]]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LoadError("x"), 3),
        (UnsupportedError("x"), 3),
        (CheckError([LoadError("x")]), 3),
        (InputError("x"), 4),
        (FileNotFoundError(2, "no", "file"), 4),
        (OutOfMemoryError("x"), 5),
        (MemoryError(), 5),
        (DeviceError("x"), 5),
        (MissingPackageError("x"), 5),
        (UnreachableError("x"), 5),
        (OSError(28, "No space left on device"), 5),
        (KeyError("x"), 70),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes(error: Exception, code: int):
    assert exits.code_of(error) == code
    assert f"\n| {code} | " in PAGE


def test_no_key_is_explained_twice():
    rows = re.findall(r"^\| (`.*?) \| ", PAGE.partition("<!-- keys: end")[2], re.M)
    assert rows and len(rows) == len({*rows})


def test_a_new_command_takes_two_lines():
    @click.command()
    @machine.json_option
    def two() -> machine.Record:
        click.echo("for people")
        return {"found": np.arange(2), "at": Location("f", "line 1, column 2")}

    run: Result = CliRunner().invoke(two, ["--json"])
    at = {"file": "f", "place": "line 1, column 2", "path": []}
    assert {k: json.loads(run.stdout)[k] for k in ("found", "at")} == {"found": [0, 1], "at": at}
    assert CliRunner().invoke(two, []).stdout == "for people\n"


def examples() -> Iterator[tuple[str, str]]:
    block = re.search(r"```console\n(.*?)```", PAGE, re.S)
    assert block
    yield from re.findall(r"\$ (.*)\n([^$]*)", block[1])


@pytest.mark.parametrize("command, output", [*examples()])
def test_the_snippets_of_the_page(command: str, output: str, tmp_path: Path):
    yaml = re.search(r"```yaml\n(.*?)```", PAGE, re.S)
    assert yaml
    (tmp_path / "typo.yaml").write_text(yaml[1])
    shell = command.replace("graphc ", f"{sys.executable} -m graphc ", 1).replace("| python", f"| {sys.executable}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout == output, done.stderr
