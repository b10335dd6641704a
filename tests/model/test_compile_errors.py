"""Whatever a user gets wrong when compiling: an error with the place and the remedy, exit code 2, never a traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import convnet
from onnx import TensorProto, helper, numpy_helper
from scripts import start_script

import graphc
from graphc import frontends
from graphc.backends.cpu import target
from graphc.cli import main
from graphc.errors import CheckError, GraphcError, InputError, LoadError, TypeRuleError, UnsupportedError
from graphc.graph import Builder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"
COMMANDS = ("run", "check", "compile", "show", "explain", "bench", "compare")
F32 = np.float32


def onnx_model(*nodes: onnx.NodeProto, opset: int = 18, **initializers: np.ndarray) -> onnx.ModelProto:
    """x [1, 4, 8, 8] -> y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(a, n) for n, a in initializers.items()]
    graph = helper.make_graph(nodes, "model", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def good() -> onnx.ModelProto:
    w = np.ones((8, 4, 3, 3), np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], "conv1"), helper.make_node("Relu", ["h"], ["y"], "relu1")]
    return onnx_model(*nodes, w=w)


def saved(folder: Path, content: onnx.ModelProto | bytes | str, name: str = "model.onnx") -> Path:
    path = folder / name
    if isinstance(content, onnx.ModelProto):
        content = content.SerializeToString()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fails(error: type[GraphcError], *parts: str, source: object = None, **options: object) -> None:
    """Compiling raises `error`, whose text holds all the parts."""
    with pytest.raises(error) as caught:
        graphc.compile(convnet() if source is None else source, **options)
    assert not [p for p in parts if p not in str(caught.value)], str(caught.value)


# --- options -----------------------------------------------------------------------------------------------
def test_targets():
    for wrong in ("gpu", "", "CPU", "cpu/avx2", "cpu:sse"):
        fails(UnsupportedError, f"unknown target '{wrong}'", "cpu:avx2", "reference", target=wrong)
    fails(UnsupportedError, "did you mean 'cpu:avx2'?", target="cpu:avx")
    fails(UnsupportedError, "unknown target 'reference:avx2'", target="reference:avx2")
    fails(UnsupportedError, "unknown target 'None'", target=None)


def test_an_instruction_set_that_the_machine_lacks(monkeypatch: pytest.MonkeyPatch):
    import llvmlite.binding as llvm

    class Old(dict):
        def flatten(self) -> str:
            return "+sse2"

    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: Old(sse2=True))
    target.detect.cache_clear()
    fails(UnsupportedError, "has no avx2", "it has: portable", target="cpu:avx2")
    assert target.detect(None).isa == "portable"
    target.detect.cache_clear()


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_threads(threads: object):
    fails(InputError, f"threads must be a positive int, not {threads!r}", threads=threads)


def test_too_many_threads():
    fails(InputError, "threads must be at most 1024, not 100000", "None takes all cores", threads=100_000)


def test_passes_to_leave_out():
    fails(GraphcError, "no pass is named 'fold_constant'", "did you mean 'fold_constants'?", disabled=["fold_constant"])
    fails(GraphcError, "no pass is named 'xyz'", "passes: ", "dead_code", disabled=["dead_code", "xyz"])
    fails(GraphcError, "names of passes", "['dead_code']", disabled="dead_code")
    for wrong in (b"fusion", [1], None, 3):
        fails(InputError, "disabled must hold names of passes", repr(wrong), disabled=wrong)


@pytest.mark.parametrize("shapes", [3, "x", {"x": 3}, {"x": None}, {"x": (True, 3, 8, 8)}])
def test_shapes_that_are_none(shapes: object):
    with pytest.raises(InputError, match="shape"):
        graphc.compile(convnet(), shapes=shapes)


# --- sources ------------------------------------------------------------------------------------------------
def test_what_is_no_model_file(tmp_path: Path):
    fails(LoadError, "none.onnx' does not exist", source=tmp_path / "none.onnx")
    fails(LoadError, "none.yaml' does not exist", source=str(tmp_path / "none.yaml"))
    fails(LoadError, "unknown suffix '.h5'", ".onnx", ".yaml", source="model.h5")
    fails(LoadError, "unknown suffix ''", source=tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    fails(LoadError, "is a folder", source=tmp_path / "folder.onnx")
    fails(LoadError, "can't load a model from int", "ModelProto", source=7)
    fails(LoadError, "can't load a model from list", source=[1])


def test_random_bytes(tmp_path: Path):
    rng = np.random.default_rng(0)
    for n in (0, 1, 10, 1000, 100_000):
        content = rng.bytes(n)
        fails(GraphcError, "bad.onnx", source=saved(tmp_path, content, "bad.onnx"))
        fails(GraphcError, source=content)
        fails(GraphcError, "bad.yaml", source=saved(tmp_path, content, "bad.yaml"))


def test_every_truncation_of_a_file(tmp_path: Path):
    content = good().SerializeToString()
    for end in [*range(60), *range(60, len(content), 31)]:
        path = saved(tmp_path, content[:end])
        fails(GraphcError, "model.onnx", source=path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_end_in_an_error_or_in_a_model(data: st.DataObject):
    """A byte changed anywhere: graphc says what is wrong, or the file still means something."""
    content = bytearray(good().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph = frontends.load(bytes(content))
    except GraphcError as error:
        assert str(error)
        return
    sizes = [d for v in graph.inputs for d in v.shape if isinstance(d, int)]
    if np.prod(sizes, dtype=float) < 1e6:
        try:
            graphc.compile(graph, target="reference")
        except GraphcError as error:
            assert str(error)


def test_truncated_yaml_and_typos(tmp_path: Path):
    text = (EXAMPLES / "lenet5.yaml").read_text()
    typo = re.sub(r"\bconv\b", "convv", text, count=1)
    fails(GraphcError, "typo.yaml", "line ", "convv", "conv", source=saved(tmp_path, typo, "typo.yaml"))
    fails(GraphcError, "open.yaml", "line ", source=saved(tmp_path, text + "\n  - [1, 2", "open.yaml"))
    fails(GraphcError, "tab.yaml", "line ", source=saved(tmp_path, text + "\n\t- x: 1", "tab.yaml"))
    for end in range(0, len(text), 97):
        path = saved(tmp_path, text[:end], "cut.yaml")
        try:
            frontends.load(path)
        except GraphcError as error:
            assert "cut.yaml" in str(error)


# --- models ---------------------------------------------------------------------------------------------------
def test_every_unknown_operator_is_reported_at_once(tmp_path: Path):
    nodes = [
        helper.make_node("Relux", ["x"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "second"),
        helper.make_node("Quantum", ["b"], ["y"], "third", domain="com.example"),
    ]
    path = saved(tmp_path, onnx_model(*nodes))
    with pytest.raises(CheckError) as caught:
        graphc.compile(path)
    text = str(caught.value)
    assert len(caught.value.problems) == 2
    for part in ("model.onnx", "Relux", "'first'", "did you mean", "Relu", "Quantum", "'third'", "com.example"):
        assert part in text, text


def test_wrong_types_name_the_node(tmp_path: Path):
    w = np.ones((8, 5, 3, 3), np.float32)
    path = saved(tmp_path, onnx_model(helper.make_node("Conv", ["x", "w"], ["y"], "conv7"), w=w))
    fails(GraphcError, "model.onnx", "Conv 'conv7'", "float32[1, 4, 8, 8]", "float32[8, 5, 3, 3]", source=path)


def test_wrong_attributes_name_the_node(tmp_path: Path):
    w = np.ones((8, 4, 3, 3), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv7", stride=[2, 2])
    fails(
        GraphcError, "model.onnx", "Conv 'conv7'", "'stride'", "strides", source=saved(tmp_path, onnx_model(node, w=w))
    )


def test_what_is_found_only_when_sizes_are_known_names_the_node():
    """A window that is larger than the image, behind an open dim."""
    b = Builder("late")
    x = b.input("x", F32, (1, 4, "h", "h"))
    model = graphc.compile(b.build({"y": b.add("MaxPool", x, name="pool3", kernel_shape=[5, 5])}))
    with pytest.raises(TypeRuleError, match="MaxPool 'pool3'"):
        model(np.ones((1, 4, 3, 3), F32))
    assert model(np.ones((1, 4, 6, 6), F32)).shape == (1, 4, 2, 2)


def test_dims_of_one_name_that_an_operator_finds_different():
    b = Builder("late")
    x, y = b.input("x", F32, ("n", 4)), b.input("y", F32, ("m", 4))
    model = graphc.compile(b.build({"z": b.add("Add", x, y, name="sum9")}))
    assert model(np.ones((1, 4), F32), np.ones((3, 4), F32)).shape == (3, 4)
    with pytest.raises(GraphcError, match="Add 'sum9'"):
        model(np.ones((2, 4), F32), np.ones((3, 4), F32))


def test_an_error_in_the_progress_callback_leaves_the_compiler_whole():
    class Stop(Exception):
        pass

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "compiling kernels" and done == 2:
            raise Stop

    x, shapes = np.ones((1, 3, 28, 28), F32), {"x": (1, 3, 28, 28)}
    with pytest.raises(Stop):
        graphc.compile(convnet(), target="cpu:portable", shapes=shapes, progress=progress, cache=False)
    y = graphc.compile(convnet(), target="cpu:portable", shapes=shapes, cache=False)(x)
    np.testing.assert_allclose(y, graphc.compile(convnet(), target="reference")(x), rtol=1e-4, atol=1e-6)


def test_progress_is_told_to_the_end():
    seen: dict[str, list[tuple[int, int]]] = {}
    graphc.compile(
        convnet(),
        shapes={"x": (1, 3, 28, 28)},
        progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)),
    )
    assert "lowering" in seen
    for counts in seen.values():
        assert counts == sorted(counts) and len({total for _, total in counts}) == 1


# --- the command line ---------------------------------------------------------------------------------------------
def mistakes(folder: Path) -> Iterator[tuple[Path, str]]:
    """Model files with a mistake, and what the message must hold."""
    content = good().SerializeToString()
    yield saved(folder, content[: len(content) // 2], "half.onnx"), "half.onnx"
    yield saved(folder, b"\x00\xff" * 100, "noise.onnx"), "noise.onnx"
    yield saved(folder, "graphc: 1\ninputs: {x: {shape: [1, 4]}}\nnet:\n  - dens: 3\n", "typo.yaml"), "dens"
    yield saved(folder, onnx_model(helper.make_node("Nope", ["x"], ["y"], "bad")), "unknown.onnx"), "Nope"
    yield saved(folder, "text", "model.txt"), ".txt"
    yield folder / "none.onnx", "none.onnx"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_with_a_code_and_a_message(command: str, tmp_path: Path):
    for path, part in mistakes(tmp_path):
        result = CliRunner().invoke(main, [command, str(path)])
        assert result.exit_code == (3 if path.exists() else 4), result.output
        assert part in result.output and "Traceback" not in result.output, result.output


@pytest.mark.parametrize(
    "options",
    [
        ("--disable", "fold_constant"),
        ("--threads", "0"),
        ("--target", "cpu:sse"),
        ("--shape", "nonsense=1,2"),
        ("--shape", "x=1,4,9,9"),
    ],
)
def test_wrong_options_end_with_a_code_and_a_message(options: tuple[str, ...], tmp_path: Path):
    result = CliRunner().invoke(main, ["run", str(saved(tmp_path, good())), *options])
    assert result.exit_code == (2 if "Usage: " in result.stderr else 4), result.output
    assert "Traceback" not in result.output, result.output
    assert options[1].split("=")[0] in result.output, result.output


def test_the_installed_command(tmp_path: Path):
    path = saved(tmp_path, good().SerializeToString()[:100])
    process = start_script("from graphc.cli import main; main()", "run", path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3 and "model.onnx" in err and "Traceback" not in err


def test_the_module_runs_too(tmp_path: Path):
    code = "import runpy, sys; runpy.run_module('graphc', run_name='__main__')"
    process = start_script(code, "check", saved(tmp_path, good()))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "no problems" in out, err
