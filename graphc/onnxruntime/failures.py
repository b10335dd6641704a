"""ONNX Runtime's exceptions, and which of them stands for which error of graphc."""

from __future__ import annotations

from graphc.errors import CheckError, GraphcError, InputError, LoadError, OutOfMemoryError, UnsupportedError


class Fail(Exception):
    code = 1, "FAIL"


class InvalidArgument(Exception):
    code = 2, "INVALID_ARGUMENT"


class NoSuchFile(Exception):
    code = 3, "NO_SUCHFILE"


class NoModel(Exception):
    code = 4, "NO_MODEL"


class EngineError(Exception):
    code = 5, "ENGINE_ERROR"


class RuntimeException(Exception):  # noqa: N818  (ONNX Runtime's name, as all of these)
    code = 6, "RUNTIME_EXCEPTION"


class InvalidProtobuf(Exception):
    code = 7, "INVALID_PROTOBUF"


class ModelLoaded(Exception):
    code = 8, "MODEL_LOADED"


class NotImplemented(Exception):  # noqa: A001
    code = 9, "NOT_IMPLEMENTED"


class InvalidGraph(Exception):
    code = 10, "INVALID_GRAPH"


class EPFail(Exception):
    code = 11, "EP_FAIL"


class ModelLoadCanceled(Exception):
    code = 12, "MODEL_LOAD_CANCELED"


class ModelRequiresCompilation(Exception):
    code = 13, "MODEL_REQUIRES_COMPILATION"


class NotFound(Exception):
    code = 14, "NOT_FOUND"


class DeviceReset(Exception):
    code = 15, "DEVICE_RESET"


ALL = (
    *(Fail, InvalidArgument, NoSuchFile, NoModel, EngineError, RuntimeException, InvalidProtobuf, ModelLoaded),
    *(NotImplemented, InvalidGraph, EPFail, ModelLoadCanceled, ModelRequiresCompilation, NotFound, DeviceReset),
)


def failure(kind: type[Exception], message: object) -> Exception:
    """An exception of that kind, worded as ONNX Runtime words them."""
    number, name = kind.code  # type: ignore[attr-defined]
    return kind(f"[ONNXRuntimeError] : {number} : {name} : {message}")


def of_loading(error: GraphcError) -> Exception:
    """What ONNX Runtime raises where a model can't be loaded."""
    problems = error.problems if isinstance(error, CheckError) else [error]
    if any(isinstance(p, UnsupportedError) for p in problems):
        return failure(NotImplemented, error)
    if isinstance(error, CheckError) or not isinstance(error, (LoadError, InputError)):
        return failure(InvalidGraph, error)
    return failure(InvalidProtobuf if isinstance(error, LoadError) else InvalidArgument, error)


def of_running(error: GraphcError) -> Exception:
    """What ONNX Runtime raises where a model can't be run on these inputs."""
    if isinstance(error, OutOfMemoryError):
        return failure(RuntimeException, error)
    return failure(InvalidArgument if isinstance(error, InputError) else Fail, error)
