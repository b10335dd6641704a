"""Blocks of other files; blocks that have the name of a layer; and what a compiled model notices of included files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import graphc
from graphc.cli import main
from graphc.errors import GraphcError, LoadError
from graphc.frontends.yaml_load import check, load_yaml, loads_yaml
from graphc.graph import Graph

COMMON = """graphc: 1
params: {width: 5, act: relu}
defaults: {dense: {bias: false}}
blocks:
  layer:
    args: {out: $width, act: $act}
    body: [{dense: $out}, $act]
  apply:
    args: {of: required}
    body: [$of, {dense: 2}]
"""
HEAD = "graphc: 1\ninputs: {x: [n, 4]}\n"


def write(folder: Path, **files: str) -> Path:
    """Files by their names; gives the path of m.yaml."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder / "m.yaml"


def weights(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {v.name: v.shape for v in graph.constants()}


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def said(path: Path) -> list[str]:
    return [str(e) for e in check(path)]


def test_a_block_means_the_same_in_every_file(tmp_path: Path):
    """Its params and defaults are those of its file, also where the file that includes it has others of these names."""
    path = write(
        tmp_path,
        common=COMMON,
        m=HEAD + "include: common.yaml\nparams: {width: 9, act: tanh}\ndefaults: {layer: {out: $width}}\n"
        "net: [layer, {dense: 3}, {layer: {out: 6, act: $act}}]\n",
    )
    graph = load_yaml(path)
    assert ops(graph) == ["Gemm", "Relu", "Gemm", "Gemm", "Tanh"]
    assert weights(graph) == {
        "net.0.dense.weight": (9, 4),  # the default of the file in which the step stands
        "net.1.dense.weight": (3, 9),
        "net.1.dense.bias": (3,),
        "net.2.dense.weight": (6, 3),
    }
    assert load_yaml(path, {"width": 7}).constants()[0].shape == (7, 4)
    assert graph.meta["warnings"] == ()


def test_steps_that_are_handed_to_a_block_mean_what_they_mean_where_they_stand(tmp_path: Path):
    path = write(
        tmp_path,
        common=COMMON,
        m=HEAD + "include: common.yaml\nblocks: {mine: {body: [{dense: 7}, tanh]}}\n"
        "net: [{apply: mine}, {apply: {of: [{dense: 8}]}}]\n",
    )
    assert {k: v for k, v in weights(load_yaml(path)).items() if "bias" in k} == {
        "net.0.mine.dense.bias": (7,),
        "net.1.dense.bias": (8,),
    }


def test_includes_of_includes(tmp_path: Path):
    """Paths are relative to the file that they stand in; a file that is included twice is no clash."""
    path = write(
        tmp_path,
        parts__base="graphc: 1\nblocks: {low: {body: [{dense: {out: 3, weights: {bias: {file: b.npy}}}}]}}\n",
        parts__high="graphc: 1\ninclude: base.yaml\nblocks: {high: {body: [low, relu]}}\n",
        m=HEAD + "include: [parts/high.yaml, parts/base.yaml]\nnet: [high, low]\n",
    )
    np.save(tmp_path / "parts" / "b.npy", np.arange(3, dtype=np.float32))
    graph = load_yaml(path)
    assert ops(graph) == ["Gemm", "Relu", "Gemm"] and graph.meta["warnings"] == ()
    assert all(v.data.tolist() == [0, 1, 2] for v in graph.constants() if v.name.endswith("bias"))
    assert [n.source.file for n in graph.nodes] == [f"{tmp_path}/parts/{f}.yaml" for f in ("base", "high", "base")]


def test_a_whole_model_can_be_included_for_its_blocks(tmp_path: Path):
    model = COMMON + "inputs: {y: [n, 2]}\nnet: [{dense: 1000}, {nonsense: 3}]\nweights: {file: none.npz}\n"
    assert ops(load_yaml(write(tmp_path, common=model, m=HEAD + "include: common.yaml\nnet: [layer]\n"))) == [
        "Gemm",
        "Relu",
    ]


# --- what is wrong ----------------------------------------------------------------------------------------------------
def test_all_problems_of_all_files_at_once(tmp_path: Path):
    path = write(
        tmp_path,
        a="graphc: 1\nblocks:\n  one: {body: [{conv: {out: 3, kk: 3}}]}\n  two: {args: {c: $nix}, body: [relu]}\n",
        b="graphc: 1\nblocks: {three: {body: [relu, rleu]}, four: {}}\n",
        m=HEAD + "include: [a.yaml, b.yaml, none.yaml]\nnet: [one, four, of_none, {dense: {out: 3, bais: true}}]\n",
    )
    found = said(path)
    assert len(found) == 6, found
    for file, place, message in (
        ("a", "line 3, column 32", "'conv' has no 'kk'"),
        ("a", "line 4, column 19", "unknown variable '$nix'"),
        ("b", "line 2, column 31", "unknown layer 'rleu'"),
        ("b", "line 2, column 45", "block 'four' has no body"),
        ("m", "line 3, column 27", "'none.yaml' does not exist"),
        ("m", "line 4, column 44", "'dense' has no 'bais'"),
    ):
        assert any(f.startswith(f"{tmp_path / file}.yaml: {place}: {message}") for f in found), (file, place, found)


@pytest.mark.parametrize(
    "files, message",
    [
        ({"m": "include: m.yaml\nnet: [relu]\n"}, "line 3, column 10: files include each other: m.yaml -> m.yaml"),
        (
            {"m": "include: a.yaml\nnet: [relu]\n", "a": "graphc: 1\ninclude: b.yaml\n", "b": "graphc: 1\ninclude: a.yaml\n"},
            "b.yaml: line 2, column 10: files include each other: a.yaml -> b.yaml -> a.yaml",
        ),
        (
            {"m": "include: common.yaml\nblocks:\n  layer: {body: [relu]}\nnet: [layer]\n"},
            "line 5, column 3: block 'layer' is included, too: it is in line 6 of {folder}/common.yaml",
        ),
        (
            {"m": "include: [common.yaml, a.yaml]\nnet: [layer]\n", "a": "graphc: 1\nblocks: {layer: {body: [relu]}}\n"},
            "line 3, column 24: block 'layer' is in line 2 of {folder}/a.yaml, and in line 6 of {folder}/common.yaml",
        ),
        ({"m": "include: ../m.yaml\nnet: [relu]\n"}, "'../m.yaml' lies outside the model's folder"),
        ({"m": "include: w.npz\nnet: [relu]\n"}, "'w.npz' is neither .yaml nor .yml"),
        ({"m": "include: a.yaml\nnet: [relu]\n", "a": "blocks: {}\n"}, "a.yaml: line 1, column 1: is not a graphc model"),
        ({"m": "include: a.yaml\nnet: [relu]\n", "a": "graphc: 1\n- x\n"}, "a.yaml: line 2, column 1: is not valid YAML"),
        ({"m": "include: a.yaml\nnet: [relu]\n", "a": "graphc: 1\nblock: {}\n"}, "a.yaml: line 2, column 1: a file of blocks has no 'block'\n  did you mean 'blocks'?"),
        ({"m": "include: common.yaml\nnet: [layr]\n"}, "unknown layer 'layr'\n  did you mean 'layer' or 'layernorm'?"),
        ({"m": "include: {file: common.yaml}\nnet: [relu]\n"}, "file must be a name, not a mapping"),
        ({"m": "include: a.yaml\nblocks: {mine: {body: [relu]}}\nnet: [theirs, mine]\n", "a": "graphc: 1\nblocks: {theirs: {body: [mine]}}\n"}, "a.yaml: line 2, column 26: unknown layer 'mine'"),
    ],
)  # fmt: skip
def test_one_problem(tmp_path: Path, files: dict[str, str], message: str):
    (tmp_path / "w.npz").write_bytes(b"")
    path = write(tmp_path, common=COMMON, **{**files, "m": HEAD + files["m"]})
    (found,) = said(path)
    assert message.format(folder=tmp_path) in found


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path):
    inside = tmp_path / "inside"
    path = write(inside, m=HEAD + "include: a.yaml\nnet: [relu]\n")
    write(tmp_path, a=COMMON)
    (inside / "a.yaml").symlink_to(tmp_path / "a.yaml")
    (found,) = said(path)
    assert "'a.yaml' lies outside the model's folder" in found


@pytest.mark.parametrize(
    ("sections", "suffix"),
    [
        ("include: FILE\nnet: [{dense: 2}]\n", ".yaml"),
        ("labels: {file: FILE}\nnet: [{dense: 2}]\n", ".txt"),
        ("weights: {file: FILE}\nnet: [{dense: 2}]\n", ".npz"),
        ("net: [{dense: {out: 2, weights: {bias: {file: FILE}}}}]\n", ".npy"),
    ],
)
def test_names_that_no_file_has(tmp_path: Path, sections: str, suffix: str):
    """Wherever a model names a file."""
    (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    for name, message in (
        (r"a\0b", "no file has a null character in its name"),
        ("a" * 1000, "aaa…aaa"),
        ("loop", f"'loop{suffix}' does not exist"),
        ("folder", f"'folder{suffix}' does not exist"),
    ):
        (found,) = said(write(tmp_path, m=HEAD + sections.replace("FILE", f'"{name}{suffix}"')))
        assert message in found and len(found) < 600


def test_text_includes_nothing():
    with pytest.raises(LoadError, match="blocks from a file need a model that is a file"):
        loads_yaml(HEAD + "include: common.yaml\nnet: [relu]\n")


def test_what_nothing_uses(tmp_path: Path):
    path = write(tmp_path, common=COMMON, m=HEAD + "include: common.yaml\nnet: [relu]\n")
    (warning,) = load_yaml(path).meta["warnings"]
    assert str(warning) == f"{path}: line 3, column 10: nothing uses a block of 'common.yaml'"


# --- blocks with the name of a layer ----------------------------------------------------------------------------------
def test_a_block_hides_the_layer_of_its_name(tmp_path: Path):
    """Everywhere but in itself, and in files that do not include it."""
    path = write(
        tmp_path,
        common="graphc: 1\nblocks: {wide: {body: [{dense: 6}]}}\n",
        m=HEAD + "include: common.yaml\ndefaults: {dense: {act: tanh}}\n"
        "blocks:\n  dense: {args: {out: required, act: relu}, body: [{repeat: {n: 2, of: dense, out: $out}}, $act]}\n"
        "  twice: {body: [{dense: 3}, {dense: {out: 2, act: neg}}]}\nnet: [twice, wide]\n",
    )
    graph = load_yaml(path)
    assert ops(graph) == ["Gemm", "Gemm", "Tanh", "Gemm", "Gemm", "Neg", "Gemm"]
    assert [v.shape for v in graph.constants() if v.name.endswith("weight")] == [(3, 4), (3, 3), (2, 3), (2, 2), (6, 2)]
    (warning,) = graph.meta["warnings"]
    assert "line 6, column 3: the block 'dense' hides the layer of that name" in str(warning)
    done = CliRunner().invoke(main, ["check", str(path)], catch_exceptions=False)
    assert done.exit_code == 0 and "warning:" in done.output


def test_a_block_hides_an_operator():
    graph = loads_yaml(HEAD + "blocks: {Relu: {body: [Neg, Relu]}}\nnet: [Relu]\n")
    assert ops(graph) == ["Neg", "Relu"]


# --- compiled models --------------------------------------------------------------------------------------------------
X = np.array([[-1, 0, 1, 2]], np.float32)
MODEL = HEAD + "include: acts.yaml\nnet: [act]\n"


def acts(op: str) -> str:
    return f"graphc: 1\nblocks: {{act: {{body: [{op}]}}}}\n"


def rewrite(path: Path, text: str) -> None:
    """Under the same name, with another stamp."""
    path.write_text(text)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10_000_000))


def test_a_changed_include_is_another_model(tmp_path: Path):
    path = write(tmp_path, acts=acts("neg"), m=MODEL)
    for _ in range(2):  # made, and found on disk
        model = graphc.compile(path)
        assert model(X).tolist() == (-X).tolist()
    assert [p.name for p in model.files] == ["m.yaml", "acts.yaml"]
    rewrite(tmp_path / "acts.yaml", acts("abs"))
    assert graphc.compile(path)(X).tolist() == np.abs(X).tolist()


def test_an_include_that_changes_while_a_model_is_used(tmp_path: Path):
    path = write(tmp_path, acts=acts("neg"), m=MODEL)
    model = graphc.compile(path, cache=False)
    assert model(X).tolist() == (-X).tolist()
    rewrite(tmp_path / "acts.yaml", acts("abs"))
    with pytest.raises(GraphcError, match=r"acts\.yaml' has changed since it was compiled"):
        model(X.repeat(2, 0))


def test_a_model_from_disk_still_has_the_text_of_files_that_were_replaced(tmp_path: Path):
    path = write(tmp_path, acts=acts("neg"), m=MODEL)
    graphc.compile(path)(X)
    model = graphc.compile(path)
    assert model(X).tolist() == (-X).tolist()
    write(tmp_path, new=acts("abs"))
    os.replace(tmp_path / "new.yaml", tmp_path / "acts.yaml")
    try:
        assert model(X.repeat(3, 0)).tolist() == (-X.repeat(3, 0)).tolist()
    except LoadError as error:
        assert "has changed since it was compiled" in str(error)


@pytest.mark.parametrize(
    "text, held", [(COMMON, "2 blocks"), ("graphc: 1\ndefaults: {dense: {bias: false}}\n", "defaults")]
)
def test_a_file_for_others_is_right_and_no_model(tmp_path: Path, text: str, held: str):
    write(tmp_path, common=text)
    path = str(tmp_path / "common.yaml")
    done = CliRunner().invoke(main, ["check", path])
    assert (done.exit_code, done.output) == (
        0,
        f"{path}: no problems; it holds only {held}, for other files to include\n",
    )
    assert check(path) == graphc.frontends.check(path) == []
    for command in ("run", "show"):
        done = CliRunner().invoke(main, [command, path])
        assert done.exit_code == 3 and f"{path}: holds only {held}, for other files to include" in done.output


def test_the_blocks_of_a_file_for_others_are_checked(tmp_path: Path):
    write(tmp_path, common=COMMON.replace("dense: 2", "dens: 2"))
    done = CliRunner().invoke(main, ["check", str(tmp_path / "common.yaml")])
    assert done.exit_code == 3 and "line 10, column 18" in done.output and "1 problem" in done.output
    assert "holds only" not in done.output and "needs 'inputs'" not in done.output
