"""OrtValue and IOBinding of graphc.onnxruntime beside onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from doors import door_models as models
from doors.both import X, outcome

import graphc.onnxruntime as door


def value_of_memory(ort: ModuleType) -> Any:
    x = X.copy()
    v = ort.OrtValue.ortvalue_from_numpy(x)
    x[0, 0, 0] = 5
    v.update_inplace(2 * X)
    facts = (
        v.shape(),
        v.data_type(),
        v.device_name(),
        v.element_type(),
        v.tensor_size_in_bytes(),
        v.data_ptr() == x.ctypes.data,
    )
    return (
        x,
        v.numpy(),
        np.asarray(v),
        facts,
        v.is_tensor(),
        v.has_value(),
        v.is_tensor_sequence(),
        v.is_sparse_tensor(),
    )


VALUES: dict[str, Callable[[ModuleType], Any]] = {
    "memory": value_of_memory,
    "made": lambda o: [(v := o.OrtValue.ortvalue_from_shape_and_type([2, 3], np.int64)).shape(), v.data_type()],
    "by ONNX's number": lambda o: o.OrtValue.ortvalue_from_shape_and_type([2], 10).data_type(),
    "of strings": lambda o: o.OrtValue.ortvalue_from_numpy(np.array(["a"])),
    "of another size": lambda o: o.OrtValue.ortvalue_from_numpy(X.copy()).update_inplace(X[0]),
    "of no array": lambda o: o.OrtValue.ortvalue_from_numpy(X.copy()).update_inplace([1.0]),
    "of DLPack": lambda o: o.OrtValue.from_dlpack(X.copy()).numpy(),
    "run": lambda o: [
        (v.numpy(), v.data_type())
        for v in o.InferenceSession(models.chain()).run_with_ort_values(
            ["z", "y"], {"x": o.OrtValue.ortvalue_from_numpy(X)}
        )
    ],
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str):
    assert outcome(VALUES[name], door) == outcome(VALUES[name], onnxruntime)


def bound(ort: ModuleType, bind: Callable[[Any, ModuleType], Any]) -> Any:
    """Results of two runs, and what `bind` kept."""
    session = ort.InferenceSession(models.chain())
    binding = session.io_binding()
    kept = bind(binding, ort)
    session.run_with_iobinding(binding)
    first = binding.copy_outputs_to_cpu()
    session.run_with_iobinding(binding)
    return first, binding.copy_outputs_to_cpu(), [v.shape() for v in binding.get_outputs()], kept


def to_pointers(binding: Any, ort: ModuleType) -> Any:
    x, z = X.copy(), np.zeros_like(X)
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("z", "cpu", 0, np.float32, z.shape, z.ctypes.data)
    binding.bind_output("y")
    binding._kept_by_the_test = x
    return z


def to_values(binding: Any, ort: ModuleType) -> Any:
    x, z = (ort.OrtValue.ortvalue_from_numpy(a) for a in (X.copy(), np.zeros_like(X)))
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("z", z)
    return z.numpy()


def wrong_shape(binding: Any, ort: ModuleType) -> Any:
    binding.bind_cpu_input("x", X)
    binding.bind_ortvalue_output("z", ort.OrtValue.ortvalue_from_numpy(np.zeros((2, 3, 5), np.float32)))


BINDINGS = {
    "arrays": lambda b, o: (b.bind_cpu_input("x", X), b.bind_output("z")),
    "pointers": to_pointers,
    "values": to_values,
    "another input": lambda b, o: b.bind_cpu_input("q", X),
    "no output": lambda b, o: b.bind_cpu_input("x", X),
    "memory without its type": lambda b, o: b.bind_output("z", "cpu", 0, buffer_ptr=X.ctypes.data),
}


@pytest.mark.parametrize("name", BINDINGS)
def test_bindings(name: str):
    mine, theirs = (outcome(lambda o: bound(o, BINDINGS[name]), ort) for ort in (door, onnxruntime))
    assert mine == theirs


@pytest.mark.parametrize(
    "bind",
    [wrong_shape, lambda b, o: b.bind_output("z"), lambda b, o: (b.bind_cpu_input("x", X[0]), b.bind_output("z"))],
    ids=["shape of a result", "no input", "rank"],
)
def test_bindings_that_do_not_fit_are_refused_by_both(bind: Callable[[Any, ModuleType], Any]):
    for ort in (door, onnxruntime):
        with pytest.raises(RuntimeError, match="Error in execution: "):
            bound(ort, bind)


def test_a_result_may_be_bound_to_its_input():
    """Caches are: the result is made beside, and copied."""
    session, x = door.InferenceSession(models.relu(["n", 3])), X.reshape(-1, 3).copy()
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", value := door.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("y", value)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(x, np.maximum(X.reshape(-1, 3), 0))


def test_devices_that_there_are_not():
    for ort in (door, onnxruntime):
        with pytest.raises(RuntimeError, match="Can't allocate memory on the device"):
            ort.OrtValue.ortvalue_from_numpy(X, "cuda", 0)
    with pytest.raises(RuntimeError, match="only the CPU's, not 'cuda'"):
        door.InferenceSession(models.chain()).io_binding().bind_output("z", "cuda")
