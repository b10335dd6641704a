"""Calls of CUDA's driver: results without status codes, failures as errors of graphc."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

from graphc.errors import DeviceError, MissingPackageError, NoDeviceError, OutOfMemoryError

REMEDY = "pip install 'graphc[cuda]', or cuda-bindings alone where kernels were compiled ahead"
OLDEST_DRIVER = 12_000  # CUDA 12.0: what cubins of the first architectures that are compiled for want
FATAL = ("CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_MISALIGNED_ADDRESS", "CUDA_ERROR_LAUNCH_FAILED")
LOST = (
    "a kernel failed, and this process can't use the GPU any more. GRAPHC_CHECK=memory with target='cuda:emulate' finds which, "
    "and where: please report it"
)


@lru_cache(maxsize=1)
def driver() -> ModuleType:
    """The bindings, with the driver loaded. Raises MissingPackageError or NoDeviceError."""
    try:
        from cuda.bindings import driver as bindings
    except ImportError:
        raise MissingPackageError("running on a GPU needs cuda-bindings, which is not installed", hint=REMEDY) from None
    try:
        status = bindings.cuInit(0)[0]
    except RuntimeError as error:  # its library is not there
        raise NoDeviceError("there is no NVIDIA driver on this machine") from error
    if status == bindings.CUresult.CUDA_ERROR_NO_DEVICE:
        raise NoDeviceError("the NVIDIA driver finds no GPU")
    require(bindings, "cuInit", status)
    found = bindings.cuDriverGetVersion()[1]
    if found < OLDEST_DRIVER:
        raise NoDeviceError(f"the NVIDIA driver is for CUDA {found // 1000}.{found % 1000 // 10}, 12.0 is needed")
    return bindings


def call(name: str, *args: Any) -> Any:
    """What a function of the driver gives: nothing, one thing, or several. Raises OutOfMemoryError, DeviceError."""
    bindings = driver()
    status, *results = getattr(bindings, name)(*args)
    if status != bindings.CUresult.CUDA_SUCCESS:
        require(bindings, name, status)
    return results[0] if len(results) == 1 else tuple(results) or None


def require(bindings: ModuleType, name: str, status: Any) -> None:
    """Raises what `call` does, where the status says so."""
    results = bindings.CUresult
    if status == results.CUDA_SUCCESS:
        return
    if status == results.CUDA_ERROR_OUT_OF_MEMORY:
        raise OutOfMemoryError(f"the GPU's memory is full ({name})", hint="smaller inputs, or fewer models at once")
    said = bindings.cuGetErrorString(status)[1]
    text = said.decode() if isinstance(said, bytes) else str(said)
    raise DeviceError(f"{name}: {text} ({status.name})", hint=LOST if status.name in FATAL else None)
