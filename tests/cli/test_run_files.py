"""graphc run over files: one line for each, in batches where the model takes such, and the others go on where one is broken."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from files import identity, run, save_model, save_sound
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import graphc
from graphc.cli.files import expanded
from graphc.cli.run_files import MOST_BYTES, Sample, rows_at_once, run_over, samples
from graphc.cli.sources import Reader
from graphc.dims import Sym
from graphc.errors import InputError
from graphc.signature import Spec
from graphc.types import TensorType

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
TELL = "pictures as input 'x': RGB, pixels / 255, channels first; --resize, --fit, --mean, --std, --scale and --pixels change it\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture of each colour, and a model that has each colour's share."""
    monkeypatch.chdir(tmp_path)
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 8), colour).save(f"{name}.png")
    colour_model(tmp_path / "m.onnx")
    return tmp_path


def colour_model(path: Path, batch: int | str = "n", metadata: dict[str, str] | None = None) -> Path:
    """p [batch, 3] = the mean of each channel."""
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["p"], keepdims=0)]
    names = {"names": "{0: 'red', 1: 'green', 2: 'blue'}"} if metadata is None else metadata
    x, p = {"x": ("float32", [batch, 3, 8, 8])}, {"p": ("float32", [batch, 3])}
    return save_model(path, nodes, x, p, {"axes": np.array([2, 3])}, names)


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_a_line_for_each_picture(here: Path, batch: int | str):
    colour_model(here / "m.onnx", batch)
    done = run("m.onnx", "red.png", "green.png", "blue.png", "--top", 1)
    assert done.stdout == "red.png  red 1\ngreen.png  green 1\nblue.png  blue 1\n"
    assert done.stderr == TELL


def test_folders_patterns_and_broken_files(here: Path):
    (here / "some").mkdir()
    (here / "some" / "notes.md").write_text("no data")
    Image.open("red.png").save("some/a.bmp")
    Image.open("blue.png").save("some/b.png")
    (here / "some" / "c.jpg").write_bytes(b"\xff\xd8\xff\xe0nothing")
    done = run("m.onnx", "some", "gre*.png", "**/b.png", "gone.png", "--top", 1, code=4)
    assert done.stdout == "some/a.bmp  red 1\nsome/b.png  blue 1\ngreen.png  green 1\nsome/b.png  blue 1\n"
    assert "graphc: 'some/c.jpg': a damaged picture: " in done.stderr
    assert "graphc: no file or folder 'gone.png'\n" in done.stderr and done.stderr.endswith("graphc: 2 of 6 failed\n")
    (here / "none").mkdir()
    assert "the folder 'none' holds no data" in run("m.onnx", "none", code=4).stderr
    assert "no file is like '*.gif'" in run("m.onnx", "*.gif", code=4).stderr


def test_a_shape_that_does_not_fit_is_told_of_its_file_alone(here: Path):
    np.save("a.npy", np.zeros((1, 8, 8, 3), np.float32))
    np.save("b.npy", np.zeros((1, 3, 8, 8), np.float64))
    done = run("m.onnx", "red.png", "a.npy", "b.npy", "blue.png", "--top", 1, code=4)
    assert done.stdout == "red.png  red 1\nblue.png  blue 1\n"
    assert "graphc: 'a.npy': input 'x' has shape (1, 8, 8, 3)" in done.stderr
    assert "channels first: x.transpose(0, 3, 1, 2)\ngraphc: 'b.npy': input 'x' is float64" in done.stderr


def test_stdin_is_a_file_of_any_kind(here: Path):
    assert run("m.onnx", "-", "--top", 1, stdin=Path("blue.png").read_bytes()).stdout == "-  blue 1\n"
    np.save("x.npy", np.ones((2, 3, 8, 8), np.float32) * np.float32([[1, 0, 0], [0, 0, 2]])[:, :, None, None])
    lines = "-[0]  red 1, green 0, blue 0\n-[1]  blue 2, red 0, green 0\n"
    assert run("m.onnx", "-", stdin=Path("x.npy").read_bytes()).stdout == lines
    assert "nothing on stdin" in run("m.onnx", "-", code=4, stdin=b"").stderr
    identity(here / "t.onnx", "float32", ["n", 2])
    assert run("t.onnx", "-", stdin=b"1,2\n3,4\n").stdout == "-[0]  [1, 2]\n-[1]  [3, 4]\n"
    identity(here / "s.onnx", "float32", ["n", "frames"])
    save_sound(here / "s.wav", np.int16([[-16384], [8192]]))
    assert run("s.onnx", "-", stdin=Path("s.wav").read_bytes()).stdout == "-  [-0.5, 0.25]\n"


def test_inputs_that_are_the_same_for_every_file(here: Path):
    nodes = [helper.make_node("Mul", ["x", "by"], ["y"])]
    ends = {"x": ("float32", ["n", 2]), "by": ("float32", [])}
    save_model(here / "m.onnx", nodes, ends, {"y": ("float32", ["n", 2])})
    Path("t.csv").write_text("1,2\n3,4\n")
    assert run("m.onnx", "t.csv", "by=10").stdout == "t.csv[0]  [10, 20]\nt.csv[1]  [30, 40]\n"
    assert run("m.onnx", "t.csv", "--input", "by=2").stdout.endswith("[6, 8]\n")
    assert "which input is 't.csv'" in run("m.onnx", "t.csv", code=4).stderr
    assert "Beside files it needs a name" in run("m.onnx", "t.csv", "--input", "2", code=4).stderr
    assert "'t.csv' is for none" in run("m.onnx", "t.csv", "by=2", "x=t.csv", code=4).stderr
    once = run("m.onnx", "x=t.csv", "by=2")
    assert "loaded, compiled and ran in" in once.stdout and "input x: float32[2, 2]" in once.stdout


# --- results --------------------------------------------------------------------------------------
def test_results_go_into_one_file(here: Path):
    run("m.onnx", "red.png", "blue.png", "--output", "out.npz")
    found = np.load("out.npz")
    assert sorted(found) == ["blue.png/p", "red.png/p"]
    np.testing.assert_allclose(found["red.png/p"], [[1, 0, 0]], rtol=1e-6)
    assert "holds one array" in run("m.onnx", "red.png", "--output", "out.npy", code=4).stderr


def test_records_of_files(here: Path):
    Path("broken.png").write_bytes(b"\x89PNG")
    record = json.loads(run("m.onnx", "green.png", "broken.png", "--json", "--top", 1, code=4).stdout)
    assert record["model"] == "m.onnx" and record["name"] == "g" and record["failed"] == 1 and record["exit_code"] == 4
    good, bad = record["files"]
    best = good["outputs"][0]["best"]
    assert best[0]["row"] == [0] and best[0]["classes"][0]["label"] == "green" and best[0]["classes"][0]["class"] == 1
    assert "no picture that can be read" in bad["error"]["message"] and bad["outputs"] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "rot\ngrün\nblau\n"),
        ("l.json", '["rot", "grün", "blau"]'),
        ("l.json", '{"2": "blau", "0": "rot", "1": "grün"}'),
        ("l.json", '{"blau": 2, "rot": 0, "grün": 1}'),
        ("l.json", '{"0": ["n1", "rot"], "1": ["n2", "grün"], "2": ["n3", "blau"]}'),
        ("config.json", '{"architectures": ["A"], "id2label": {"0": "rot", "1": "grün", "2": "blau"}}'),
    ],
)
def test_labels_of_a_file(here: Path, name: str, text: str):
    Path(name).write_text(text, encoding="utf-8")
    assert run("m.onnx", "green.png", "--labels", name).stdout == "green.png  grün 1, rot 0, blau 0\n"
    assert "p[0] top 3: grün (1), rot (0), blau (0)" in run("m.onnx", "x=green.png", "--labels", name).stdout


def test_labels_that_do_not_fit(here: Path):
    Path("l.txt").write_text("a\nb\n")
    assert "'l.txt' has 2 names, and no output has as many entries: p: float32[n, 3]" in run("m.onnx", "red.png", "--labels", "l.txt", code=4).stderr  # fmt: skip
    for text in ("{", '{"0": "a", "2": "b"}', "[1.5]", ""):
        Path("l.json").write_text(text)
        assert "holds no names of classes" in run("m.onnx", "red.png", "--labels", "l.json", code=4).stderr


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"names": "['a', 'b', 'c']"}, "a 1, b 0, c 0"),
        ({"class_names": '["a", "b", "c"]'}, "a 1, b 0, c 0"),
        ({"classes": "a, b, c"}, "a 1, b 0, c 0"),
        ({"labels": "a\nb\nc"}, "a 1, b 0, c 0"),
        ({"id2label": '{"0": "a", "1": "b", "2": "c"}'}, "a 1, b 0, c 0"),
        ({"names": "{0: 'a', 1: 'b'}"}, "[1, 0, 0]"),
        ({"names": "__import__('os').getcwd()"}, "[1, 0, 0]"),
        ({"names": "(" * 5000}, "[1, 0, 0]"),
    ],
)
def test_labels_of_the_metadata_of_others(here: Path, metadata: dict[str, str], said: str):
    colour_model(here / "m.onnx", metadata=metadata)
    assert run("m.onnx", "red.png").stdout == f"red.png  {said}\n"


def test_labels_of_a_classifier_node(here: Path):
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", coefficients=[1.0, 0, 0, 1, 1, 1],
        intercepts=[0.0, 0, 0], classlabels_strings=["left", "right", "both"], post_transform="NONE",
    )  # fmt: skip
    norm = helper.make_node("Normalizer", ["scores"], ["p"], domain="ai.onnx.ml", norm="L1")
    save_model(here / "m.onnx", [node, norm], {"x": ("float32", ["n", 2])}, {"p": ("float32", ["n", 3])})
    Path("t.csv").write_text("up;down\n3;1\n")
    assert run("m.onnx", "t.csv").stdout == "t.csv[0]  both 0.5, left 0.375, right 0.125\n"


# --- ONNX test data -------------------------------------------------------------------------------
def save_set(folder: Path, inputs: list, outputs: list) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, values in (("input", inputs), ("output", outputs)):
        for i, value in enumerate(values):
            (folder / f"{kind}_{i}.pb").write_bytes(value.SerializeToString())


def test_onnx_test_data_is_compared(here: Path):
    nodes = [helper.make_node("Sub", ["a", "b"], ["y"])]
    save_model(here / "m.onnx", nodes, {n: ("float32", ["n"]) for n in "ab"}, {"y": ("float32", ["n"])})
    a, b = np.float32([5, 7]), np.float32([1, 2])
    tensors = [numpy_helper.from_array(b, "b"), numpy_helper.from_array(a, "a")]  # in the order of their names
    for k, off in ((2, 0), (10, 1)):
        save_set(here / "case" / f"test_data_set_{k}", tensors, [numpy_helper.from_array(a - b + np.float32(off))])
    done = run("m.onnx", "case", code=1)
    first, second = done.stdout.splitlines()
    assert first == "case/test_data_set_2  as expected, error 0"
    assert second.startswith("case/test_data_set_10  differs: y: error 1.67e-01 of its scale; 2 of 2 elements differ")
    assert done.stderr == "graphc: 1 of 2 differ\n"
    assert run("m.onnx", "case/test_data_set_10", "--tolerance", 0.5).stdout.endswith("as expected, error 0.17\n")
    (here / "case" / "test_data_set_2" / "input_1.pb").write_bytes(b"\x0anonsense")
    assert "is no ONNX test data" in run("m.onnx", "case/test_data_set_2", code=4).stderr


def test_onnx_test_data_of_sequences(here: Path):
    value = [np.float32([1, 2]), np.float32([3])]
    of = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["k"]))
    node = helper.make_node("SequenceLength", ["s"], ["count"])
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    graph = helper.make_graph([node], "g", [helper.make_value_info("s", of)], [count])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), "m.onnx")
    save_set(here / "s", [numpy_helper.from_list(value, "s")], [numpy_helper.from_array(np.int64(2))])
    assert run("m.onnx", "s").stdout == "s  as expected, error 0\n"
    assert run("m.onnx", "s/input_0.pb").stdout == "s/input_0.pb  2\n"


# --- batches --------------------------------------------------------------------------------------
def test_what_is_a_batch(tmp_path: Path):
    def rows(x: list, b: list, y: list, given: tuple = ()) -> int | None:
        nodes = [helper.make_node("Add", ["x", "b"], ["y"])]
        inputs = {"x": ("float32", x), "b": ("float32", b)}
        save_model(tmp_path / "m.onnx", nodes, inputs, {"y": ("float32", y)})
        return rows_at_once(graphc.compile(tmp_path / "m.onnx", target="reference"), given)

    assert rows(["n", 4], ["n", 4], ["n", 4]) is None
    assert rows(["n", 4], [], ["n", 4]) == 1  # the other input has no batch
    assert rows(["n", 4], [], ["n", 4], ("b",)) is None
    assert rows(["n", 4], ["n", 4], ["n", 4], ("b",)) == 1  # what is the same for all files has the size of one
    assert rows([5, 3, 4, 4], [4], [5, 3, 4, 4], ("b",)) == 5
    assert rows([5, 4], [4], [5, 4], ("b",)) == 1  # it may be anything


@pytest.mark.parametrize("batch", ["n", 4])
def test_batches_are_bounded_and_give_what_each_file_gives_alone(tmp_path: Path, batch: int | str):
    model = graphc.compile(colour_model(tmp_path / "m.onnx", batch), target="reference")
    seen: list[int] = []
    whole = model.run

    def counted(feeds, *rest):
        seen.append(len(feeds["x"]))
        return whole(feeds, *rest)

    model.run = counted  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    arrays = [rng.random((1, 3, 8, 8), np.float32) for _ in range(10)]
    found = (Sample(str(i), {"x": a}) for i, a in enumerate(arrays))
    answers = list(run_over(model, found, {}, 4))
    assert seen == ([1, 5, 4, 1] if batch == "n" else [4, 4, 4])  # the first one once more with the first batch
    assert [a.sample.name for a in answers] == list(map(str, range(10)))
    for answer, a in zip(answers, arrays):
        np.testing.assert_allclose(answer.results["p"], a.mean((2, 3)), rtol=1e-6)
    seen.clear()
    error = InputError("broken")
    mixed = [Sample("a", {"x": arrays[0]}), Sample("b", error=error), Sample("c", {"x": arrays[1][:, :, :4]})]
    first, second, third = run_over(model, iter(mixed), {})
    assert first.results and second.error is error and third.error is not None and "shape" in third.error.message


def test_rows_that_depend_on_each_other_are_run_alone(tmp_path: Path):
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=0)]
    ends = {"x": ("float32", ["n", 2])}
    model = graphc.compile(
        save_model(tmp_path / "m.onnx", nodes, ends, {"y": ("float32", ["n", 2])}), target="reference"
    )
    rng = np.random.default_rng(0)
    found = [Sample(str(i), {"x": rng.random((1, 2), np.float32)}) for i in range(20)]
    for batch in (None, 5):
        for answer in run_over(model, found, {}, batch):
            np.testing.assert_array_equal(answer.results["y"], [[1, 1]])


def test_each_size_is_a_batch_of_its_own(tmp_path: Path):
    model = graphc.compile(identity(tmp_path / "m.onnx", "float32", ["n", "k"]), target="reference")
    seen: list[tuple[int, ...]] = []
    whole = model.run
    model.run = lambda feeds, *rest: (seen.append(feeds["x"].shape), whole(feeds, *rest))[1]  # type: ignore
    sizes = [3, *[4] * 9, *[5] * 8, 3]
    found = [Sample(str(i), {"x": np.full((1, k), i, np.float32)}) for i, k in enumerate(sizes)]
    for i, answer in enumerate(run_over(model, found, {})):
        np.testing.assert_array_equal(answer.results["y"], np.full((1, sizes[i]), i, np.float32), strict=True)
    assert seen == [(1, 3), (1, 4), (9, 4), (8, 5), (1, 3)]


def test_no_more_files_are_read_than_a_batch_holds(tmp_path: Path):
    model = graphc.compile(identity(tmp_path / "m.onnx", "float32", ["n", "k"]), target="reference")
    read = done = 0

    def found():
        nonlocal read
        for i in range(9):
            read += 1
            yield Sample(str(i), {"x": np.zeros((1, MOST_BYTES // 4 // 3), np.float32)})

    for _ in run_over(model, found(), {}):
        done += 1
        assert read - done < 3
    assert done == 9


def test_files_are_not_kept(tmp_path: Path):
    size, count = 100_000, 60
    for i in range(count):
        (tmp_path / f"{i}.jpg").write_bytes(bytes(size))
    found = list(expanded([str(tmp_path)]))
    reader = Reader([Spec.of("x", TensorType(np.uint8, (Sym("bytes"),)))])
    tracemalloc.start()
    try:
        assert sum(len(s.feeds["x"]) for s in samples(found, reader, ())) == size * count
        assert tracemalloc.get_traced_memory()[1] < 10 * size
    finally:
        tracemalloc.stop()


def test_a_shape_beside_files_is_refused(here: Path):
    """Not ignored: a file has a shape."""
    np.save("x.npy", np.zeros((2, 3, 8, 8), np.float32))
    for given in (("x.npy",), ("--input", "x=x.npy")):
        assert "--shape" in run("m.onnx", *given, "--shape", "x=5,3,8,8", code=4).output
    run("m.onnx", "--input", "x=x.npy", "--shape", "x=2,3,8,8")
    done = run("m.onnx", "red.png", "--pixels", "grey", code=4)
    assert "has 3 channels, and pixels are to be grey" in done.output and "--pixels rgb" in done.output
