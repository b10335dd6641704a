"""The page of `graphc report`: complete, of one file, and harmless."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from report_pages import BAD, data_of, hostile, parsed, report, two_blocks
from zoo import EXAMPLES

import graphc
from graphc.cli import main
from graphc.cli.page.document import LIBRARIES

VENDOR = Path(graphc.__file__).parent / "cli/page/web/vendor"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = two_blocks(tmp_path_factory.mktemp("report"))
    report(model, "--rounds", 2)
    return model.with_suffix(".html")


def test_all_nodes_and_steps_are_there(page: Path):
    data, model = data_of(page), graphc.compile(page.with_suffix(".onnx"))
    plan = model.plan({"x": (1, 4, 8, 8)})
    nodes = {node["name"]: node for node in data["graph"]["nodes"]}
    assert {n.name for n in model.source_graph.nodes} <= set(nodes)
    assert [step["label"] for step in data["steps"]] == [step.label for step in plan.steps]
    assert sum(step["part"] for step in data["steps"]) == pytest.approx(1)
    conv = nodes["/block1/conv/Conv"]
    assert ["pads", "(1, 1, 1, 1)"] in conv["attributes"] and conv["outputs"] == [["c1", "float32[1, 4, 8, 8]"]]
    assert "blocks.onnx" in conv["source"] and "/block1/conv/Conv" in dict(data["steps"][conv["step"]]["told"])["step"]
    assert nodes["/block1/relu/Relu"]["step"] == conv["step"]  # fused


def test_groups_are_blocks_with_kernels_in_them(page: Path):
    graph = data_of(page)["graph"]
    groups = graph["groups"]
    titles = [group["title"] for group in groups if group["role"] == "block"]
    assert [t.rpartition(".")[2] for t in titles[1:]] == ["block0", "block1"]
    kernels = [group for group in groups if group["role"] == "kernel"]
    assert [k["title"] for k in kernels] == ["Conv + Relu"] * 2
    assert [groups[k["parent"]]["title"] for k in kernels] == titles[1:]


def test_plots_have_what_the_plan_has(page: Path):
    data = data_of(page)
    plan = graphc.compile(page.with_suffix(".onnx")).plan({"x": (1, 4, 8, 8)})
    assert [(b["offset"], b["nbytes"], b["first"], b["last"]) for b in data["memory"]["buffers"]] == [
        (i.offset, i.nbytes, i.first, i.last) for i in plan.memory.intervals if i.nbytes
    ]
    steps = {step.index: step for step in plan.steps}
    points = data["roofline"]["points"]
    assert {p["step"] for p in points} == {s.index for s in plan.steps if s.flops and s.nbytes}
    assert all(p["x"] == steps[p["step"]].flops / steps[p["step"]].nbytes and p["y"] > 0 for p in points)
    assert [note[0] for note in data["fusion"]["rows"]] == [n.node for n in sorted(plan.notes, key=lambda n: n.applied)]


def test_nothing_is_fetched_and_no_other_script_runs(page: Path):
    document = parsed(page)
    for tag in document.iter():
        assert not {"src", "href", "srcset", "action", "data"} & set(tag.attrib), tag.tag
        assert tag.tag not in ("link", "iframe", "object", "embed", "base", "img")
    assert "url(" not in document.find(".//style").text and "@import" not in document.find(".//style").text
    policy = document.find(".//meta[@http-equiv='Content-Security-Policy']").get("content")
    assert policy.startswith("default-src 'none'; ")
    scripts = [s for s in document.iter("script") if s.get("type") is None]
    digests = [base64.b64encode(hashlib.sha256(s.text.encode()).digest()).decode() for s in scripts]
    assert re.findall("'sha256-([^']*)'", policy) == digests and len(digests) == len(LIBRARIES) + 1


def test_names_of_a_strangers_file_are_text(tmp_path: Path):
    model = hostile(tmp_path)
    report(model, "--rounds", 1)
    document, data = parsed(model.with_suffix(".html")), data_of(model.with_suffix(".html"))
    assert [tag.tag for tag in document.iter() if tag.tag in ("img", "script")] == ["script"] * (len(LIBRARIES) + 2)
    assert document.find(".//title").text == BAD == data["title"]
    assert {f"{BAD}/{BAD}softmax", f"{BAD}relu"} <= {node["name"] for node in data["graph"]["nodes"]}


def test_without_times(tmp_path: Path):
    model = two_blocks(tmp_path)
    assert "a run" not in report(model, "--no-time").output
    data = data_of(model.with_suffix(".html"))
    assert "roofline" not in data and "operators" not in data and ">time" not in data["profile"]["columns"]
    assert all("part" not in step for step in data["steps"])
    assert len(data["memory"]["buffers"]) and len(data["graph"]["nodes"]) == 8


def test_options_that_change_the_plan(tmp_path: Path):
    model = two_blocks(tmp_path)
    report(model, "--no-time", "--disable", "fusion", "--threads", 1)
    data = data_of(model.with_suffix(".html"))
    assert dict(data["facts"])["target"].endswith(", 1 thread")
    assert not any(group["role"] == "kernel" for group in data["graph"]["groups"])


def test_sizes(tmp_path: Path):
    out = tmp_path / "rnn.html"
    options = ["--no-time", "--shape", "characters=2,9", "-o", str(out)]
    result = CliRunner().invoke(main, ["report", str(EXAMPLES / "char_rnn.yaml"), *options])
    assert result.exit_code == 0, result.output
    assert "[2, 9]" in dict(data_of(out)["facts"])["inputs"]


def test_the_page_of_a_file_with_problems_has_them(tmp_path: Path):
    model = tmp_path / "bad.yaml"
    model.write_text("graphc: 1\ninputs: {x: {shape: [1, 4]}}\nnet: [{dense: 3}, {densse: 2}, <b>]\n")
    assert "densse" in report(model, code=3).output
    data = data_of(model.with_suffix(".html"))
    assert any("densse" in problem for problem in data["problems"]) and "graph" not in data


def test_what_is_wrong_with_the_command_is_no_problem_of_the_file(tmp_path: Path):
    model = two_blocks(tmp_path)
    report(model, "--shape", "y=3", code=4)
    assert not model.with_suffix(".html").exists()


def test_a_target_without_times_says_so(tmp_path: Path):
    model = two_blocks(tmp_path)
    assert "no profiler" in report(model, "--target", "reference").output
    data = data_of(model.with_suffix(".html"))
    assert any("no profiler" in text for text in data["warnings"]) and len(data["graph"]["nodes"]) == 8


def test_a_model_whose_shapes_follow_from_data(tmp_path: Path):
    """The nodes behind are there, its steps have no times, and both is said."""
    model = tmp_path / "open.yaml"
    model.write_text("graphc: 1\ninputs: {x: {shape: [8]}}\nnet: [NonZero, {Cast: {to: float32}}, relu]\n")
    assert "steps have no times" in report(model, "--rounds", 1).output
    names = [node["name"] for node in data_of(model.with_suffix(".html"))["graph"]["nodes"]]
    assert any("relu" in name for name in names)
    report(model, "--no-time")
    assert data_of(model.with_suffix(".html"))["pending"]["rows"]


def test_it_does_not_overwrite_what_it_reads(tmp_path: Path):
    model = two_blocks(tmp_path).rename(tmp_path / "blocks.html")
    result = CliRunner().invoke(main, ["report", str(model), "-o", str(model)])
    assert result.exit_code == 4 and model.read_bytes()[:1] != b"<"


def test_vendored_files_are_those_of_their_packages():
    rows = re.findall(r"^\| (\S+\.js) \|.* ([0-9a-f]{64}) \|$", (VENDOR / "README.md").read_text(), re.M)
    assert {name for name, _ in rows} == set(LIBRARIES)
    for name, digest in rows:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
        assert (VENDOR / name.replace(".min.js", ".LICENSE")).exists()
