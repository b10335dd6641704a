"""`graphc zoo`, `graphc init`, and zoo:NAME in the place of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_cli import invoke

import graphc
from graphc import zoo
from graphc.errors import InputError

PAGES = Path(__file__).resolve().parents[2] / "examples" / "zoo"


def test_all_networks_are_listed_by_group():
    lines = invoke("zoo").output.splitlines()
    groups = list(dict.fromkeys(n.group for n in zoo.networks()))
    assert [line for line in lines if line in groups] == groups
    listed = [line.split()[0] for line in lines if line]
    assert {n.name for n in zoo.networks()} <= set(listed)
    assert "LeNet-5 for 28x28 digits" in "\n".join(lines)


def test_words_filter():
    text = invoke("zoo", "ResNet", "he,").output
    assert "resnet50" in text and "vgg16" not in text
    assert "no network has 'resnet' and 'perceptron'" in invoke("zoo", "resnet", "perceptron", code=4).stderr


def test_json_is_exact():
    (entry,) = json.loads(invoke("zoo", "char_rnn", "--json").output)["networks"]
    assert entry["title"] == "A character-level language model: the next character at every step"
    assert entry["parameters"] == 4_022_850 and entry["shapes"] == {"characters": [1, 64]}
    # a GRU of 1024 units that reads embeddings of 256, and the scores of 66 characters, at each of 64 steps
    assert entry["macs"] == 64 * (3 * 1024 * (256 + 1024) + 66 * 1024)
    assert entry["host"] == [] and "seconds" not in entry


def test_time_is_measured():
    entries = json.loads(invoke("zoo", "xor", "--time", "--json").output)["networks"]
    assert "xor" in {e["name"] for e in entries} and all(0 < e["seconds"] < 1 for e in entries)
    assert "time" in invoke("zoo", "xor", "--time").output.splitlines()[0]


def test_lines_end_at_the_edge_of_a_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("graphc.cli.zoo.terminal_width", lambda stream: 80)
    lines = invoke("zoo", "xor").output.splitlines()
    assert max(map(len, lines)) == 80 and any(line.endswith("…") for line in lines)


def test_a_page_that_has_changed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "xor.yaml").write_text("# Else.\ngraphc: 1\n", encoding="utf-8")
    kept = [n for n in zoo.networks() if n.name == "xor"]
    monkeypatch.setattr(zoo, "PAGES", tmp_path)
    monkeypatch.setattr(zoo, "networks", lambda words: [zoo.Network.from_json(n.to_json()) for n in kept])
    assert "xor has changed since it was planned" in invoke("zoo").output


def test_init_copies_a_page_that_runs(tmp_path: Path):
    text = invoke("init", "lenet5", tmp_path / "new").output
    copied = tmp_path / "new" / "lenet5.yaml"
    assert copied.read_bytes() == (PAGES / "lenet5.yaml").read_bytes()
    assert f"graphc show {copied}" in text
    assert "61,706 parameters" in invoke("show", copied).output


def test_what_init_says_next_runs(tmp_path: Path):
    text = invoke("init", "elman", tmp_path).output
    (command,) = (line.split()[1:] for line in text.splitlines() if line.startswith("  graphc run"))
    assert "--shape" in command
    assert "next" in invoke(*command, "--target", "reference").output


def test_init_writes_over_nothing_without_force(tmp_path: Path):
    (tmp_path / "lenet5.yaml").write_text("mine", encoding="utf-8")
    assert "is there already" in invoke("init", "lenet5", tmp_path, code=4).stderr
    assert (tmp_path / "lenet5.yaml").read_text(encoding="utf-8") == "mine"
    invoke("init", "lenet5", tmp_path, "--force")
    assert (tmp_path / "lenet5.yaml").read_bytes() == (PAGES / "lenet5.yaml").read_bytes()


def test_init_does_not_write_through_links(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("mine", encoding="utf-8")
    (tmp_path / "lenet5.yaml").symlink_to(mine)
    invoke("init", "lenet5", tmp_path, "--force")
    assert mine.read_text(encoding="utf-8") == "mine"


def test_init_copies_the_files_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All of them or none."""
    pages, here = tmp_path / "pages", tmp_path / "here"
    pages.mkdir()
    here.mkdir()
    (pages / "xor.yaml").write_text("# Two files.\n", encoding="utf-8")
    (pages / "w.npy").write_bytes(b"weights")
    entry = next(n for n in zoo.networks() if n.name == "xor").to_json() | {"files": ["w.npy"]}
    monkeypatch.setattr(zoo, "PAGES", pages)
    monkeypatch.setattr(zoo, "networks", lambda: [zoo.Network.from_json(entry)])
    (here / "w.npy").write_bytes(b"mine")
    invoke("init", "xor", here, code=4)
    assert [p.name for p in here.iterdir()] == ["w.npy"]
    invoke("init", "xor", here, "--force")
    assert (here / "w.npy").read_bytes() == b"weights" and (here / "xor.yaml").exists()


@pytest.mark.parametrize("name", ["lenet5", "lenet5.yaml"])
def test_a_page_without_its_prefix(name: str):
    assert f"there is no file '{name}': did you mean zoo:lenet5?" in invoke("show", name, code=4).stderr


@pytest.mark.parametrize("command", [("init", "resnet-50"), ("show", "zoo:resnet-50"), ("run", "zoo:ResNet50")])
def test_a_name_that_is_not_there(command: tuple[str, ...]):
    assert "did you mean 'zoo:resnet50'?" in invoke(*command, code=4).stderr


def test_commands_take_names_of_the_zoo():
    assert "61,706 parameters" in invoke("show", "zoo:lenet5").output
    assert "xor" in invoke("run", "zoo:xor", "--target", "reference").output


def test_compile_takes_names_of_the_zoo():
    model = graphc.compile("zoo:xor", target="reference")
    np.testing.assert_array_equal(model.run({"bits": np.float32([[0, 1], [1, 1]])})["xor"], [[1], [0]])
    with pytest.raises(InputError, match="the zoo has no network 'nor'"):
        graphc.compile("zoo:nor")


@pytest.mark.parametrize("name", ["../zoo/xor", "/etc/passwd", ""])
def test_names_are_no_paths(name: str):
    with pytest.raises(InputError, match="the zoo has no network"):
        zoo.path_of(name)


def test_lines_that_go_to_a_file_end_somewhere():
    lines = invoke("zoo").output.splitlines()
    assert max(map(len, lines)) == 160


def test_a_network_is_found_by_the_name_that_commands_take():
    assert invoke("zoo", "zoo:lenet5").output == invoke("zoo", "lenet5").output


def test_init_wants_a_folder(tmp_path: Path):
    said = invoke("init", "mlp", tmp_path / "x.yaml", code=4).stderr
    assert "x.yaml' is to be a folder" in said and not (tmp_path / "x.yaml").exists()


def test_init_tells_of_every_file_that_is_there(tmp_path: Path):
    invoke("init", "picture_classifier", tmp_path)
    said = invoke("init", "picture_classifier", tmp_path, code=4).stderr
    assert "resnet18.yaml are there already\n  --force writes over them" in said
