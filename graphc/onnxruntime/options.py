"""ONNX Runtime's options: what each of them means to graphc, and an error where it means nothing that could be ignored."""

from __future__ import annotations

import enum
import operator
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from graphc.errors import GraphcWarning
from graphc.onnxruntime import failures
from graphc.onnxruntime.failures import failure


class GraphOptimizationLevel(enum.IntEnum):
    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(enum.IntEnum):
    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


# Without optimisations: each node of the file as its definition says. What models need in order to run stays.
PLAIN = (
    *(
        "winograd",
        "strassen",
        "fusion",
        "canonicalize",
        "identities",
        "merge_reshapes",
        "fold_batch_norm",
        "merge_pads",
    ),
    *("common_subexpressions", "batch_first", "rows_for_columns"),
)
OWN = "graphc."  # of config entries that are options of graphc.compile
_TYPES: dict[str, Callable[[str], Any]] = {
    "graphc.winograd": int,
    "graphc.tune": lambda text: text not in ("0", "false", "False"),
}

_LIKEWISE = {  # attributes, their defaults; those that change no result, and nothing that is written
    "enable_cpu_mem_arena": True,
    "enable_mem_pattern": True,
    "enable_mem_reuse": True,
    "enable_profiling": False,
    "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
    "execution_order": ExecutionOrder.DEFAULT,
    "graph_optimization_level": GraphOptimizationLevel.ORT_ENABLE_ALL,
    "inter_op_num_threads": 0,
    "intra_op_num_threads": 0,
    "log_severity_level": -1,
    "log_verbosity_level": 0,
    "logid": "",
    "optimized_model_filepath": "",
    "profile_file_prefix": "onnxruntime_profile_",
    "use_deterministic_compute": False,
    "use_per_session_threads": True,
}
_ENUMS = {
    "execution_mode": ExecutionMode,
    "execution_order": ExecutionOrder,
    "graph_optimization_level": GraphOptimizationLevel,
}
_REFUSED = {  # methods whose effect graphc does not have
    "add_initializer": "put the values into the model, or make them inputs",
    "add_external_initializers": "put the values into the model, or make them inputs",
    "add_external_initializers_from_files_in_memory": "load the model by its path: its external data is found beside it",
    "add_free_dimension_override_by_denotation": "use add_free_dimension_override_by_name",
    "add_provider_for_devices": "graphc's only provider is CPUExecutionProvider",
    "register_custom_ops_library": "graphc runs no operators in C++: docs/add-an-operator.md tells how Python adds one",
    "set_provider_selection_policy_delegate": "graphc's only provider is CPUExecutionProvider",
}

_threads = 0  # of `set_global_thread_pool_sizes`


def set_global_thread_pool_sizes(intra_op: int, inter_op: int = 0) -> None:
    """For sessions whose options say `use_per_session_threads = False`."""
    global _threads
    _threads = intra_op


class _Entries:
    def __init__(self) -> None:
        self._entries: dict[str, str] = {}

    def _entry(self, key: str) -> str:
        if key not in self._entries:
            raise RuntimeError(f"there is no configuration entry '{key}'")
        return self._entries[key]


class SessionOptions(_Entries):
    """Attributes of any other name, and values of another type, raise AttributeError and TypeError, as in ONNX Runtime.

    intra_op_num_threads is graphc's number of threads; ORT_DISABLE_ALL leaves out what makes models fast, all other levels are
    one. `add_session_config_entry("graphc.precision", "bf16")` gives `graphc.compile` an option of its own.
    """

    enable_cpu_mem_arena: bool
    enable_mem_pattern: bool
    enable_mem_reuse: bool
    enable_profiling: bool
    execution_mode: ExecutionMode
    execution_order: ExecutionOrder
    graph_optimization_level: GraphOptimizationLevel
    inter_op_num_threads: int
    intra_op_num_threads: int
    log_severity_level: int
    log_verbosity_level: int
    logid: str
    optimized_model_filepath: str
    profile_file_prefix: str
    use_deterministic_compute: bool
    use_per_session_threads: bool

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[str, int] = {}
        self._providers: list[tuple[str, dict[str, str]]] = []
        self.__dict__.update(_LIKEWISE)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        if name not in _LIKEWISE:
            raise AttributeError(f"'SessionOptions' object has no attribute '{name}'")
        kind = _ENUMS.get(name, type(_LIKEWISE[name]))
        fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if kind is int and not fits and hasattr(value, "__index__"):  # NumPy's numbers
            value, fits = operator.index(value), True
        if not fits and name == "optimized_model_filepath" and isinstance(value, os.PathLike):
            value, fits = os.fspath(value), True
        if not fits:
            raise TypeError(f"SessionOptions.{name} must be of type {kind.__name__}, not {value!r}")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _REFUSED:
            raise AttributeError(f"'SessionOptions' object has no attribute '{name}'")

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise failure(failures.NotImplemented, f"graphc has no SessionOptions.{name}\n  {_REFUSED[name]}")

        return refuse

    def add_session_config_entry(self, key: str, value: str) -> None:
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"a configuration entry is two texts, not {key!r} and {value!r}")
        self._entries[key] = value

    def get_session_config_entry(self, key: str) -> str:
        return self._entry(key)

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """A dim of inputs that the file only names has this size."""
        self._sizes[name] = int(size)

    def add_provider(self, name: str, options: dict[str, str]) -> None:
        self._providers.append((name, dict(options)))

    def has_providers(self) -> bool:
        return bool(self._providers)

    def set_provider_selection_policy(self, policy: Any) -> None:
        """There is one provider to select."""

    # --- what they are to graphc ---------------------------------------------------------------------------------------
    @property
    def sizes(self) -> dict[str, int]:
        """Of dims, by name."""
        return dict(self._sizes)

    def compile_options(self) -> dict[str, Any]:
        """Options of `graphc.compile`. Raises NotImplemented for what graphc can't do, warns of what it does otherwise."""
        if self._entries.get("session.load_model_format", "ONNX").upper() != "ONNX":
            raise failure(failures.NotImplemented, "graphc reads models in ONNX's format only, not in that of ORT")
        if self.optimized_model_filepath:
            message = (
                f"graphc does not write '{self.optimized_model_filepath}': it has no optimised models in ONNX's format"
            )
            raise failure(failures.NotImplemented, f"{message}\n  leave out optimized_model_filepath")
        if self.enable_profiling:
            _warn("graphc writes no profile of a session: `graphc bench MODEL --profile --trace FILE.json` does")
        if self._entries.get("session.set_denormal_as_zero") == "1":
            _warn("session.set_denormal_as_zero has no effect: graphc computes with denormal numbers as they are")
        threads = self.intra_op_num_threads if self.use_per_session_threads else _threads
        options: dict[str, Any] = {"threads": threads} if threads else {}
        if self.graph_optimization_level == GraphOptimizationLevel.ORT_DISABLE_ALL:
            options["disabled"] = PLAIN
        for key, text in self._entries.items():
            if key.startswith(OWN):
                options[key.removeprefix(OWN)] = _TYPES.get(key, str)(text)
        if isinstance(options.get("disabled"), str):
            options["disabled"] = tuple(filter(None, options["disabled"].split(",")))
        return options


class RunOptions(_Entries):
    """`terminate` is seen before a run begins; a run that has begun is not interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.log_severity_level, self.log_verbosity_level, self.logid = -1, 0, ""
        self.only_execute_path_to_fetches = self.terminate = False

    def add_run_config_entry(self, key: str, value: str) -> None:
        self._entries[key] = value

    def get_run_config_entry(self, key: str) -> str:
        return self._entry(key)

    def add_active_adapter(self, adapter: Any) -> None:
        raise failure(failures.NotImplemented, "graphc has no adapters\n  put their weights into the model")

    def check(self) -> None:
        """Raises Fail where the run is not to begin."""
        if self.terminate:
            raise failure(failures.Fail, "Exiting due to terminate flag being set to true.")


# --- providers ----------------------------------------------------------------------------------------------------------
CPU = "CPUExecutionProvider"
_OTHERS = (
    "Tensorrt CUDA MIGraphX OpenVINO Dnnl VitisAI QNN Nnapi VSINPU Js CoreML Dml Rknpu WebNN WebGpu Xnnpack CANN Azure"
)
ALL_PROVIDERS = (*(f"{name}ExecutionProvider" for name in _OTHERS.split()), CPU)


def get_available_providers() -> list[str]:
    return [CPU]


def get_all_providers() -> list[str]:
    return [*ALL_PROVIDERS]


def check_providers(providers: Any, options: Any) -> None:
    """Warns of each provider that there is not, and of lists that are none: graphc runs everything on the CPU all the same."""
    if isinstance(providers, str):
        providers = [providers]
    if providers is None:
        return
    if not isinstance(providers, Sequence):
        _warn("'providers' should be a sequence.")
        return
    if options is not None and (not isinstance(options, Sequence) or len(options) != len(providers)):
        _warn("'providers' and 'provider_options' should be the same length if both are given.")
    for given in providers:
        name = given[0] if isinstance(given, tuple) and given else given
        if name != CPU:
            text = f"Specified provider '{name}' is not in available provider names.Available providers: '{CPU}'"
            _warn(f"{text}: graphc runs on the CPU")


def _warn(text: str) -> None:
    warnings.warn(GraphcWarning(text), stacklevel=4)
