"""The runtimes that are compared: each is a function (model file, threads) -> (inputs -> outputs)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], list[np.ndarray]]


def graphc(path: Path, threads: int, precision: str = "float32") -> Run:
    import graphc

    model = graphc.compile(str(path), threads=threads, precision=precision)
    return lambda feeds: list(model.run(feeds).values())


def onnxruntime(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def openvino(path: Path, threads: int, precision: str = "f32") -> Run:
    import openvino

    core = openvino.Core()
    # float32 unless it is asked for otherwise, so that all engines compute the same thing
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(core.read_model(str(path)), "CPU", options)
    request = compiled.create_infer_request()

    def run(feeds: Feeds) -> list[np.ndarray]:
        results = request.infer(list(feeds.values()))
        return [results[output] for output in compiled.outputs]

    return run


def mnn(path: Path, threads: int) -> Run:
    import MNN

    interpreter = MNN.Interpreter(str(mnn_file(path)))
    session = interpreter.createSession({"numThread": threads, "precision": "high", "backend": "CPU"})
    inputs = interpreter.getSessionInputAll(session)
    outputs = interpreter.getSessionOutputAll(session)

    def tensor(array: np.ndarray) -> MNN.Tensor:
        whole = array.dtype.kind == "i"  # int64 is int32 to MNN
        kind = MNN.Halide_Type_Int if whole else MNN.Halide_Type_Float
        return MNN.Tensor(array.shape, kind, array.astype(np.int32) if whole else array, MNN.Tensor_DimensionType_Caffe)

    def run(feeds: Feeds) -> list[np.ndarray]:
        for name, array in feeds.items():
            inputs[name].copyFrom(tensor(array))
        interpreter.runSession(session)
        results = []
        for output in outputs.values():
            host = tensor(np.zeros(output.getShape(), np.float32))
            output.copyToHostTensor(host)
            results.append(np.array(host.getData()).reshape(output.getShape()))
        return results

    return run


ENGINES = {"graphc": graphc, "onnxruntime": onnxruntime, "openvino": openvino, "mnn": mnn}
# in bfloat16, which is OpenVINO's default on CPUs that multiply it
BFLOAT16 = {
    "graphc in bfloat16": partial(graphc, precision="bf16"),
    "openvino in bfloat16": partial(openvino, precision="bf16"),
}


CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv[1:])"


def mnn_file(path: Path) -> Path:
    """MNN's form of a model, made at the first call. Raises CalledProcessError or FileNotFoundError where MNN can't convert it."""
    converted = path.with_suffix(".mnn")
    if not converted.exists():
        arguments = ["-f", "ONNX", "--modelFile", path, "--MNNModel", converted, "--bizCode", "benchmark"]
        # in another process, whose memory is not measured; the command `mnnconvert` would install packages at each start
        command = [sys.executable, "-c", CONVERT, "mnnconvert", *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return converted.resolve(strict=True)


def installed() -> dict[str, str]:
    """Engine -> version, of those that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    from graphc import __version__

    found = {"graphc": __version__}
    for name in [e for e in ENGINES if e != "graphc"]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
