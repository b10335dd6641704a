"""IOBinding: inputs and outputs of a session in memory that the caller chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.onnxruntime.values import OrtValue, at_pointer, require_cpu

if TYPE_CHECKING:
    from graphc.onnxruntime.session import InferenceSession


class IOBinding:
    """Made by `InferenceSession.io_binding`, run by `run_with_iobinding`. Its memory is the host's."""

    def __init__(self, session: InferenceSession) -> None:
        self._inputs = {a.name for a in (*session.get_inputs(), *session.get_overridable_initializers())}
        self.feeds: dict[str, Any] = {}
        self.buffers: dict[str, np.ndarray | None] = {}  # in the order of binding; None: made by the run
        self.results: list[Any] = []

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        self._bind(name, arr_on_cpu)

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Any, buffer_ptr: int
    ) -> None:
        """element_type: of NumPy, or ONNX's number. The caller keeps the memory alive."""
        require_cpu(device_type)
        self._bind(name, at_pointer(buffer_ptr, shape, element_type))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        self._bind(name, ortvalue.value)

    def _bind(self, name: str, value: Any) -> None:
        if name not in self._inputs:
            raise RuntimeError(f"Failed to find NodeArg with name: {name} in the def list")
        self.feeds[name] = value

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Without a pointer each run makes the array."""
        require_cpu(device_type)
        if buffer_ptr is not None and (element_type is None or shape is None):
            raise ValueError("`element_type` and `shape` are to be provided if pre-allocated memory is provided")
        self.buffers[name] = None if buffer_ptr is None else at_pointer(buffer_ptr, shape, element_type)

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        self.buffers[name] = ortvalue.numpy()

    def clear_binding_inputs(self) -> None:
        self.feeds.clear()

    def clear_binding_outputs(self) -> None:
        self.buffers.clear()
        self.results = []

    def synchronize_inputs(self) -> None:
        """Nothing is on its way."""

    synchronize_outputs = synchronize_inputs

    def get_outputs(self) -> list[OrtValue]:
        """Of the last run, in the order of binding."""
        return [OrtValue(r) for r in self.results]

    def copy_outputs_to_cpu(self) -> list[Any]:
        """Arrays of their own: the next run does not change them."""
        bound = self.buffers.values()
        return [r if buffer is None else np.array(r) for r, buffer in zip(self.results, bound)]


def shared(feeds: dict[str, Any], buffers: dict[str, np.ndarray]) -> bool:
    """Does a result lie on an input or on another result? Kernels would read what they have written."""
    given, taken = [a for a in feeds.values() if isinstance(a, np.ndarray)], [*buffers.values()]
    pairs = [(b, a) for i, b in enumerate(taken) for a in (*given, *taken[:i])]
    return any(np.may_share_memory(a, b) for a, b in pairs)
