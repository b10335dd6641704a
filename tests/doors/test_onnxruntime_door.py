"""graphc.onnxruntime beside onnxruntime: the same calls on both give the same, or raise exceptions of one name and wording."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from doors import door_models as models
from doors.both import X, outcome

import graphc.onnxruntime as door
from graphc.errors import GraphcError, GraphcWarning


def args(nodes: list) -> list:
    return [(a.name, a.shape, a.type) for a in nodes]


def described(session: Any) -> list:
    return [args(session.get_inputs()), args(session.get_outputs()), args(session.get_overridable_initializers())]


@pytest.mark.parametrize("name", ["chain", "strings", "sequence", "maps", "optional", "convolutions"])
def test_inputs_and_outputs_are_described_alike(name: str):
    content = getattr(models, name)()
    assert described(door.InferenceSession(content)) == described(onnxruntime.InferenceSession(content))


@pytest.mark.parametrize("shape, to", [(None, None), ([], None), (["n", ""], ["k", None]), ([2, -1, "m"], None)])
def test_shapes_are_described_alike(shape: list | None, to: list | None):
    content = models.relu(shape, to)
    assert described(door.InferenceSession(content)) == described(onnxruntime.InferenceSession(content))


def test_metadata():
    mine, theirs = (ort.InferenceSession(models.chain()).get_modelmeta() for ort in (door, onnxruntime))
    fields = [
        "producer_name",
        "graph_name",
        "domain",
        "description",
        "graph_description",
        "version",
        "custom_metadata_map",
    ]
    assert [getattr(mine, f) for f in fields] == [getattr(theirs, f) for f in fields]
    assert mine.version == 7 and mine.custom_metadata_map["characters"] == "äöü"
    mine, theirs = (ort.InferenceSession(models.strings()).get_modelmeta() for ort in (door, onnxruntime))
    assert mine.version == theirs.version, "a file without one"


# --- runs -----------------------------------------------------------------------------------------------------------------
def run(
    feed: Any, names: Any = None, content: bytes = models.chain(), options: Any = None
) -> Callable[[ModuleType], Any]:
    return lambda ort: ort.InferenceSession(content).run(names, feed, options(ort) if options else None)


def terminated(ort: ModuleType) -> Any:
    options = ort.RunOptions()
    options.terminate = True
    return options


RUNS = {
    "all outputs": run({"x": X}),
    "none are all": run({"x": X}, []),
    "one": run({"x": X}, ["z"]),
    "by a tuple": run({"x": X}, ("z", "y")),
    "twice": run({"x": X}, ["z", "z"]),
    "with a default": run({"x": X, "b": np.float32([5])}),
    "strided": run({"x": np.asfortranarray(X)}),
    "a list": run({"x": X.tolist()}),
    "a list of ints": run({"x": [[1, -2]]}, content=models.relu(["n", 2])),
    "a list of bools": run({"x": [[True, False]]}, content=models.relu(["n", 2])),
    "an uneven list": run({"x": [[1, 2], [3]]}, content=models.relu(["n", 2])),
    "an empty list": run({"x": []}, content=models.relu(["n", 2])),
    "no elements": run({"x": X[:0]}),
    "a scalar": run({"x": np.array(-1, np.float32)}, content=models.relu([])),
    "strings": run({"x": np.array(["a", "äö"])}, content=models.strings()),
    "strings as objects": run({"x": np.array(["a", "äö"], object)}, content=models.strings()),
    "strings in a list": run({"x": ["a", "äö"]}, content=models.strings()),
    "a sequence": run({"s": [X[0, 0]], "x": X[0, 0, :2]}, content=models.sequence()),
    "maps": run({"x": X[0, :2, :2].copy()}, content=models.maps()),
    "an optional": run({"o": X[0, 0, :2].copy()}, content=models.optional()),
    "an optional that is None": run({"o": None}, content=models.optional()),
    "an optional that is not given": run({}, content=models.optional()),
    "an OrtValue": lambda ort: run({"x": ort.OrtValue.ortvalue_from_numpy(X)})(ort),
    # mistakes
    "no input": run({}),
    "another name": run({"q": X}),
    "one more name": run({"x": X, "q": X}),
    "a default of an old file": run({"x": X, "b": np.float32([5])}, content=models.chain(ir=3)),
    "another output": run({"x": X}, ["z", "q"]),
    "float64": run({"x": X.astype(np.float64)}),
    "int64": run({"x": X.astype(np.int64)}),
    "float16": run({"x": X.astype(np.float16)}),
    "texts for numbers": run({"x": np.array([[["a"]]])}),
    "another rank": run({"x": X[0]}),
    "another size": run({"x": X[:, :2].copy()}),
    "no dict": run([X]),
    "None": run(None),
    "terminated": run({"x": X}, options=terminated),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs(name: str):
    assert outcome(RUNS[name], door) == outcome(RUNS[name], onnxruntime)


@pytest.mark.parametrize("given", [1.0, "a", None, [1.5, "b"]], ids=str)
def test_what_is_no_array_is_refused_by_both(given: Any):
    for ort in (door, onnxruntime):
        with pytest.raises(Exception, match=r"."):
            ort.InferenceSession(models.chain()).run(None, {"x": given})


def test_numbers_that_a_list_would_lose_are_refused():
    """ONNX Runtime truncates 1.5 to 1."""
    with pytest.raises(Exception, match="1.5, which int64 can't hold exactly"):
        content = models.bytes_of(
            [models.helper.make_node("Neg", ["x"], ["y"])],
            [models.info("x", models.I, ["n"])],
            [models.info("y", models.I, None)],
        )
        door.InferenceSession(content).run(None, {"x": [1.5, 2]})


def test_arrays_of_the_other_byte_order():
    """ONNX Runtime takes their bytes for numbers of this one."""
    (z,) = run({"x": X.astype(">f4")}, ["z"])(door)
    np.testing.assert_array_equal(z, np.maximum(X + 1, 0))


def test_a_text_is_no_list_of_outputs():
    for ort in (door, onnxruntime):
        with pytest.raises(TypeError):
            ort.InferenceSession(models.chain()).run("z", {"x": X})


# --- loading --------------------------------------------------------------------------------------------------------------
LOADS = {
    "no such file": lambda ort, folder: ort.InferenceSession(str(folder / "none.onnx")),
    "no bytes": lambda ort, folder: ort.InferenceSession(b""),
    "not a path": lambda ort, folder: ort.InferenceSession(3),
    "a path": lambda ort, folder: ort.InferenceSession(folder / "m.onnx").run(None, {"x": X}),
    "a name without an ending": lambda ort, folder: ort.InferenceSession(str(folder / "m")).run(None, {"x": X}),
}


@pytest.mark.parametrize("name", LOADS)
def test_loading(name: str, tmp_path: Path):
    for file in ("m.onnx", "m"):
        (tmp_path / file).write_bytes(models.chain())
    assert outcome(lambda ort: LOADS[name](ort, tmp_path), door) == outcome(
        lambda ort: LOADS[name](ort, tmp_path), onnxruntime
    )


@pytest.mark.parametrize(
    "content, kind",
    [
        (b"no model at all", "InvalidProtobuf"),
        (models.node("And", "x"), "InvalidGraph"),
        (models.node("Relu", wrong=3), "InvalidGraph"),
    ],
    ids=["garbage", "types", "attribute"],
)
def test_models_that_can_not_be_loaded(content: bytes, kind: str):
    for ort in (door, onnxruntime):
        state = ort.capi.onnxruntime_pybind11_state
        with pytest.raises(getattr(state, kind), match=r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "):
            ort.InferenceSession(content)


def test_what_graphc_lacks_is_not_implemented():
    from graphc.onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Missing

    with pytest.raises(Missing, match="operator 'Nope' is not supported") as caught:
        door.InferenceSession(models.node("Nope"))
    assert isinstance(caught.value.__cause__, GraphcError)


def test_failures_on_the_way():
    content = models.bytes_of(
        [models.helper.make_node("Reshape", ["x", "to"], ["y"])],
        [models.info("x", models.F, ["n"]), models.info("to", models.I, [1])],
        [models.info("y", models.F, None)],
    )
    feed = {"x": X[0, 0], "to": np.int64([3])}
    for ort in (door, onnxruntime):
        with pytest.raises(ort.capi.onnxruntime_pybind11_state.Fail, match="Reshape"):
            ort.InferenceSession(content).run(None, feed)


# --- options --------------------------------------------------------------------------------------------------------------
def options_of(ort: ModuleType, **given: Any) -> Any:
    options = ort.SessionOptions()
    for name, value in given.items():
        setattr(options, name, value)
    return options


def test_options_have_the_same_names_and_defaults():
    mine, theirs = door.SessionOptions(), onnxruntime.SessionOptions()
    names = [n for n in dir(theirs) if not n.startswith("_") and not callable(getattr(theirs, n))]
    assert {n: plain_option(getattr(mine, n)) for n in names} == {n: plain_option(getattr(theirs, n)) for n in names}
    methods = {n for n in dir(theirs) if not n.startswith("_") and callable(getattr(theirs, n))}
    unknown = {n for n in methods if not hasattr(mine, n)}
    assert unknown == {"clear_ep_context_data_read_func", "set_ep_context_data_read_func", "set_load_cancellation_flag"}


def plain_option(value: Any) -> Any:
    return getattr(value, "name", value)


@pytest.mark.parametrize(
    "name, value",
    [("intra_op_num_threads", "a"), ("graph_optimization_level", 99), ("nothing", 3), ("logid", 3)],
)
def test_wrong_options_are_refused_by_both(name: str, value: Any):
    kinds = [
        type(pytest.raises((TypeError, AttributeError), options_of, ort, **{name: value}).value)
        for ort in (door, onnxruntime)
    ]
    assert kinds[0] is kinds[1]


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_levels_of_optimisation(level: str):
    x = np.random.default_rng(0).normal(size=(2, 3, 24, 24)).astype(np.float32)
    results = []
    for ort in (door, onnxruntime):
        options = options_of(
            ort, graph_optimization_level=getattr(ort.GraphOptimizationLevel, level), intra_op_num_threads=1
        )
        results.append(ort.InferenceSession(models.convolutions(), options).run(None, {"x": x})[0])
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-6)  # probabilities, of sums of float32 in other orders


def test_numbers_of_numpy_are_numbers():
    for ort in (door, onnxruntime):
        assert options_of(ort, intra_op_num_threads=np.int64(2)).intra_op_num_threads == 2


def test_levels_and_entries_are_options_of_graphc():
    options = options_of(door, intra_op_num_threads=1)
    options.add_session_config_entry("graphc.winograd", "0")
    options.add_session_config_entry("graphc.disabled", "strassen,fusion")
    assert options.compile_options() == {"threads": 1, "winograd": 0, "disabled": ("strassen", "fusion")}
    session = door.InferenceSession(models.convolutions(), options)
    assert session.get_session_options() is options and session.get_session_options().intra_op_num_threads == 1
    plan = session._model.plan({"x": (1, 3, 24, 24)})
    assert len(plan.steps) >= 8, "every node is a step of its own"


def test_sizes_of_named_dims():
    def fixed(ort: ModuleType) -> Any:
        options = ort.SessionOptions()
        options.add_free_dimension_override_by_name("n", 2)
        return ort.InferenceSession(models.relu(["n", 3], ["n", 3]), options)

    assert described(fixed(door)) == described(fixed(onnxruntime))
    for rows in (2, 4):
        feed = {"x": np.ones((rows, 3), np.float32)}
        assert outcome(lambda o, f=feed: fixed(o).run(None, f), door) == outcome(
            lambda o, f=feed: fixed(o).run(None, f), onnxruntime
        )


def test_what_would_be_another_result_is_refused_or_warned_of():
    missing = door.capi.onnxruntime_pybind11_state.NotImplemented
    with pytest.raises(missing, match="register_custom_ops_library"):
        door.SessionOptions().register_custom_ops_library("ops.so")
    with pytest.raises(missing, match="optimized_model_filepath"):
        door.InferenceSession(models.chain(), options_of(door, optimized_model_filepath="out.onnx"))
    for name, text in (("enable_profiling", "bench MODEL --profile"),):
        with pytest.warns(GraphcWarning, match=text):
            assert door.InferenceSession(models.chain(), options_of(door, **{name: True})).end_profiling() == ""
    with pytest.warns(GraphcWarning, match="set_seed"):
        door.set_seed(3)


PROVIDERS = [
    None,
    ["CPUExecutionProvider"],
    [("CPUExecutionProvider", {"a": "1"})],
    ["CUDAExecutionProvider", "CPUExecutionProvider"],
]


@pytest.mark.parametrize("providers", PROVIDERS, ids=str)
def test_providers(providers: Any):
    def chosen(ort: ModuleType) -> Any:
        session = ort.InferenceSession(models.chain(), providers=providers)
        return [p for p in session.get_providers() if p != "AzureExecutionProvider"], session.run(None, {"x": X})

    assert outcome(chosen, door) == outcome(chosen, onnxruntime)


def test_run_async():
    found: list[Any] = []
    done = threading.Event()

    def callback(results: Any, data: Any, error: str) -> None:
        found.append((results, data, error))
        done.set()

    session = door.InferenceSession(models.chain())
    session.run_async(["z"], {"x": X}, callback, "mine")
    assert done.wait(30)
    ((results, data, error),) = found
    np.testing.assert_array_equal(results[0], np.maximum(X + 1, 0))
    assert (data, error) == ("mine", "")
    done.clear()
    session.run_async(["z"], {"x": X[0]}, callback, "mine")
    assert done.wait(30) and "Invalid rank" in found[1][2] and found[1][0] == []


# --- in the place of onnxruntime -----------------------------------------------------------------------------------------------
SCRIPT = """
import sys
import onnxruntime as ort
from onnxruntime import InferenceSession, get_available_providers
from onnxruntime.capi import _pybind_state as C
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
import numpy as np
session = InferenceSession(sys.argv[1], providers=C.get_available_providers())
try:
    session.run(None, {"x": np.zeros(3)})
except InvalidArgument as error:
    print(ort.__name__, isinstance(session, ort.capi.onnxruntime_inference_collection.InferenceSession), __name__)
"""


def test_a_program_that_imports_onnxruntime(tmp_path: Path):
    (tmp_path / "use.py").write_text(SCRIPT)
    (tmp_path / "m.onnx").write_bytes(models.chain())
    root = str(Path(__file__).resolve().parents[2])
    for how in (["use.py"], ["-m", "use"]):
        command = [sys.executable, "-m", "graphc.onnxruntime", *how, "m.onnx"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}
        )
        assert done.stdout == "graphc.onnxruntime True __main__\n", done.stderr
    done = subprocess.run([sys.executable, "-m", "graphc.onnxruntime"], capture_output=True, text=True, cwd=root)
    assert done.returncode == 2 and "usage: python -m graphc.onnxruntime" in done.stderr


def test_install_refuses_where_the_other_is_imported(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(GraphcError, match="onnxruntime is imported already"):
        door.install()
    for name in [n for n in sys.modules if n.partition(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    door.install()
    door.install()  # which changes nothing
    import onnxruntime as found

    assert found is door
    door.uninstall()
    assert "onnxruntime" not in sys.modules
