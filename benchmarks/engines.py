"""The runtimes that are compared: each is a function (model file, threads) -> (inputs -> outputs)."""

from __future__ import annotations

import shutil
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


def openvino(path: Path, threads: int, precision: str | None = "f32") -> Run:
    """precision: float32 unless it is asked for otherwise, so that all engines compute the same thing; None: its default."""
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision is not None:
        options["INFERENCE_PRECISION_HINT"] = precision
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


def ncnn(path: Path, threads: int, half: bool = False) -> Run:
    """half: weights and values in float16 and bfloat16 where ncnn stores them so, its default."""
    import ncnn
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    shapes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output]
    net = ncnn.Net()
    net.opt.num_threads = threads
    if not half:
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(net.opt, name, False)
    parameters, weights = ncnn_files(path, half)
    if net.load_param(str(parameters)) or net.load_model(str(weights)):
        raise RuntimeError("ncnn can't load what pnnx made of the model")
    inputs, outputs = net.input_names(), net.output_names()

    def run(feeds: Feeds) -> list[np.ndarray]:
        extractor = net.create_extractor()
        for name, array in zip(inputs, feeds.values()):
            whole = array.astype(np.int32) if array.dtype.kind == "i" else array
            extractor.input(name, ncnn.Mat(np.ascontiguousarray(whole), batch_index=0))
        results = []
        for name, shape in zip(outputs, shapes):
            failed, found = extractor.extract(name)
            if failed:
                raise RuntimeError(f"ncnn can't compute {name}")
            results.append(np.array(found).reshape(shape))
        return results

    return run


ENGINES = {"graphc": graphc, "onnxruntime": onnxruntime, "openvino": openvino, "mnn": mnn, "ncnn": ncnn}
# each as its package computes where nobody asks for anything: OpenVINO in bfloat16, ncnn with halves, on CPUs that have them
DEFAULTS = {
    "openvino by default": partial(openvino, precision=None),
    "ncnn by default": partial(ncnn, half=True),
}
# in bfloat16, which is OpenVINO's default on CPUs that multiply it
BFLOAT16 = {
    "graphc in bfloat16": partial(graphc, precision="bf16"),
    "openvino in bfloat16": partial(openvino, precision="bf16"),
}


def ncnn_files(path: Path, half: bool) -> tuple[Path, Path]:
    """ncnn's form of a model, made by pnnx at the first call. Raises RuntimeError where pnnx can't convert it."""
    from importlib.util import find_spec

    found = find_spec("pnnx")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("ncnn reads its own form of a model, which pnnx makes: pip install pnnx")
    converter = Path(found.submodule_search_locations[0]) / "pnnx"  # importing it would import torch
    folder = path.with_suffix(".ncnn16" if half else ".ncnn")
    made = folder / f"{path.stem}.ncnn.param", folder / f"{path.stem}.ncnn.bin"
    if not made[1].exists():
        folder.mkdir(exist_ok=True)
        source = folder / path.name  # pnnx writes beside what it reads
        source.symlink_to(path.resolve())
        command = [converter, source, f"fp16={int(half)}"]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if ended.returncode or not made[1].exists():
            shutil.rmtree(folder)
            raise RuntimeError("pnnx can't convert the model")
        for other in set(folder.iterdir()) - set(made):  # copies of all weights in other forms
            other.unlink()
    return made


CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv[1:])"


def mnn_file(path: Path) -> Path:
    """MNN's form of a model, made at the first call. Raises RuntimeError where MNN can't convert it."""
    converted = path.resolve().with_suffix(".mnn")
    if not converted.exists():
        arguments = ["-f", "ONNX", "--modelFile", path.resolve(), "--MNNModel", converted, "--bizCode", "benchmark"]
        # in another process, whose memory is not measured; the command `mnnconvert` would install packages at each start
        command = [sys.executable, "-c", CONVERT, "mnnconvert", *map(str, arguments)]
        # it leaves a file where it runs
        subprocess.run(command, check=False, cwd=path.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not converted.exists():
        raise RuntimeError("MNN can't convert the model")
    return converted


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
