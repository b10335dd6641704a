"""What shells complete, asked as Bash asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from graphc import zoo
from graphc.cli import main
from graphc.cli.completion import Bash
from graphc.cli.passes import removable, shown_after, stops

ROOT = Path(__file__).resolve().parents[2]


def completed(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What Bash is given for the last word. As there, colons are words of their own."""
    monkeypatch.setenv("COMP_WORDS", "\n".join(("graphc", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    complete = Bash(main, {}, "graphc", "_GRAPHC_COMPLETE")
    return [line.partition(",")[2] for line in complete.complete().splitlines()]


def test_commands_and_options(monkeypatch: pytest.MonkeyPatch):
    assert completed(monkeypatch, "co") == ["compare", "compile"]
    assert "--json" in completed(monkeypatch, "check", "--j")


def test_networks_of_the_zoo(monkeypatch: pytest.MonkeyPatch):
    assert completed(monkeypatch, "run", "zo") == [f"zoo:{name}" for name in zoo.names()]
    assert completed(monkeypatch, "run", "zoo", ":", "alexnet_") == ["alexnet_2012"]
    assert completed(monkeypatch, "run", "zoo", ":") == zoo.names()
    assert completed(monkeypatch, "init", "digi") == ["digits"]


def test_passes_and_parts(monkeypatch: pytest.MonkeyPatch):
    model = ("compile", "zoo", ":", "lenet5")
    assert completed(monkeypatch, *model, "--disable", "wino") == ["winograd"]
    assert completed(monkeypatch, *model, "--disable", "") == removable("cpu")
    assert completed(monkeypatch, *model, "--target", "reference", "--stop-after", "lay") == []
    assert completed(monkeypatch, *model, "--stop-after", "lay") == ["layout"]
    assert completed(monkeypatch, *model, "--stop-after", "bound", ":", "fold_c") == ["fold_constants"]
    assert completed(monkeypatch, *model, "--target", "cpu", ":", "avx5") == ["avx512"]


def test_every_stop_that_is_offered_is_one():
    from functools import partial

    from graphc.backend import Request
    from graphc.backends import open_backend
    from graphc.cli.feeds import load_graph, resolve_shapes

    graph = load_graph(zoo.resolved("zoo:xor"), {})
    backend = open_backend("cpu", Request())
    for name in stops("cpu"):
        assert shown_after(graph, name, backend, (), partial(resolve_shapes, graph.inputs, {})), name


def test_other_shells_get_whole_names():
    names = ShellComplete(main, {}, "graphc", "_GRAPHC_COMPLETE").get_completions(["run"], "zoo:alexnet_")
    assert [(item.type, item.value) for item in names] == [("plain", "zoo:alexnet_2012")]


def test_files_beside_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "zoology.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    items = ShellComplete(main, {}, "graphc", "_GRAPHC_COMPLETE").get_completions(["run"], "zoo")
    assert [item.type for item in items] == ["file"]  # the shell looks for it


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no Bash")
def test_in_bash(tmp_path: Path):
    program = tmp_path / "graphc"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m graphc "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(_GRAPHC_COMPLETE=bash_source graphc)"\n'
        "COMP_WORDS=(graphc show zoo : alexnet_); COMP_CWORD=4; COMPREPLY=()\n"
        '_graphc_completion graphc; echo "${COMPREPLY[@]}"\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout == "alexnet_2012\n", done.stderr


def test_help_has_pages_commands_and_layers(monkeypatch: pytest.MonkeyPatch):
    from click.testing import CliRunner

    def said(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, args)
        assert result.exit_code == code, result.output
        return click.unstyle(result.output)

    page = (ROOT / "docs" / "yaml.md").read_text(encoding="utf-8")
    assert said("help", "yaml").startswith(page) and said("help", "docs/yaml.md").startswith(page)
    assert "Options:" in said("help", "run")
    assert said("help", "conv") == said("layers", "conv") and "dilation" in said("help", "conv")
    assert "did you mean 'conv'" in said("help", "cnov", code=4)
    assert "did you mean 'dense'" in said("layers", "dens", code=4)
    for name in ("yaml", "commands", "how-it-works"):
        assert f"\n{name} " in said("help")
