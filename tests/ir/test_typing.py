"""What a type checker and `help` see of the package."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

import graphc
from graphc import compiler

PROGRAM = """
from pathlib import Path

import numpy as np
import onnx

import graphc

model = graphc.compile("net.onnx", target="cpu", threads=2, shapes={"x": (1, 3)}, disabled=["strassen"], tune=False)
graphc.compile(Path("net.onnx"), progress=lambda stage, done, total: None)
graphc.compile(b"bytes", winograd=4, cache=False)
graphc.compile(onnx.ModelProto())
graphc.compile(model.graph)
reveal_type(model)  # graphc.model.Model
reveal_type(model.run({"x": np.zeros(3)}))  # dict[str, numpy.ndarray
try:
    model(np.zeros(3))
except graphc.InputError as error:
    reveal_type(error.hint)  # str | None
graphc.compile("net.onnx", thread=2)  # did you mean "threads"?
graphc.compile("net.onnx", threads="two")  # incompatible type "str"
graphc.compile(3)  # incompatible type "int"
"""


def test_a_type_checker_knows_the_options_and_what_comes_back(tmp_path: Path):
    from mypy import api

    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    options = ["--no-error-summary", "--follow-imports=silent", f"--cache-dir={tmp_path}", str(path)]
    limit = sys.getrecursionlimit()
    try:
        said = [line for line in api.run(options)[0].splitlines() if "defined in" not in line]
    finally:
        sys.setrecursionlimit(limit)  # mypy raises it for the whole process
    wanted = {n: line.partition("  # ")[2] for n, line in enumerate(PROGRAM.splitlines(), 1) if "  # " in line}
    found = {int(re.search(r":(\d+): ", line)[1]): line for line in said}
    assert found.keys() == wanted.keys(), said
    for n, text in wanted.items():
        assert text in found[n]


def test_help_shows_each_option(monkeypatch: pytest.MonkeyPatch):
    shown = inspect.signature(graphc.compile).parameters
    monkeypatch.setattr(compiler, "compile", lambda source, **options: options)
    defaults = {n: p.default for n, p in shown.items() if n != "source"}
    of_one_target = {
        "host": True,
        "arch": "sm_90",
        "precision": "tf32",
        "device": 1,
    }  # others know nothing of them, so they are passed on only if given
    assert graphc.compile("model.onnx") == {n: v for n, v in defaults.items() if n not in of_one_target}
    assert graphc.compile("model.onnx", **of_one_target) == defaults | of_one_target
    for name in shown:
        assert f"\n{name} " in (inspect.getdoc(graphc.compile) or "")
