"""One file in graphc and in ONNX Runtime: what graphc has to say of it, results, times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.measure import Effort, Worker, measure

from .inputs import feeds_of, shapes_of

ENGINES = ("graphc", "onnxruntime")
EFFORT = Effort(rounds=5, seconds=1.5, clock="processor")
STARTS = 3

FLOAT32 = 1e-4  # of an output's scale: the order of summation, through up to a hundred layers
FLOAT16 = 1e-2  # 11 digits: the same
CODES = 5e-2  # a number that lies between two codes of 8 bits, 1/127 of the scale apart, becomes either; recurrent layers go on from it
SMALL = 1e-3  # a scale below which an output is nothing: where all that a detector says is the tail of a sigmoid
NUDGE = 1e-6  # of an input's numbers: 8 units of float32 in the last place
TRIALS = 8
UNSTEADY = 1e-2  # by which results move then: more than a step between two codes
OWN = 3  # times what ONNX Runtime differs from itself by
CODED = ("Quantize", "Integer")  # in the names of operators on codes


def run(path: Path, name: str) -> dict[str, Any]:
    """What is known of a file, as JSON can hold it. 'failed' is there where it did not come to the end, by stage."""
    found: dict[str, Any] = {"name": name, "size": path.stat().st_size}
    try:
        model = onnx.load(path)
        found |= statistics(model)
        feeds = feeds_of(path, name)
        found["shapes"] = {n: list(a.shape) for n, a in feeds.items()}
    except Exception as error:
        return found | {"failed": f"the file: {_line(error)}"}
    found["check"] = _check(path, feeds)
    with TemporaryDirectory() as folder:
        arrays = Path(folder) / "feeds.npz"
        np.savez(arrays, **feeds)
        try:
            measured = measure(path, arrays, ENGINES, 1, EFFORT)
        except RuntimeError as error:
            return found | {"failed": _line(error)}
        if measured.failed:
            return found | {"failed": "; ".join(f"{e}: {said}" for e, said in measured.failed.items())}
        found["seconds"] = measured.seconds
        found["error"] = _error(*(measured.outputs[e] for e in ENGINES))
        found["own"] = _error(plain(path, feeds), measured.outputs["onnxruntime"])
        found["moved"] = moved(path, feeds)
        found["tolerance"] = tolerance(found["operators"], model, found["own"])
        found["start"] = _starts(path, arrays, Path(folder))
    return found


def statistics(model: onnx.ModelProto) -> dict[str, Any]:
    operators: dict[str, int] = {}
    for node in _nodes(model.graph):
        operator = f"{node.domain}.{node.op_type}".removeprefix("ai.onnx.").lstrip(".")
        operators[operator] = operators.get(operator, 0) + 1
    return {
        "opset": next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None),
        "operators": dict(sorted(operators.items(), key=lambda item: -item[1])),
    }


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def plain(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """ONNX Runtime's results without its optimisations: how much the order of summation matters to the file."""
    return _plain_session(path).run(None, feeds)


def _plain_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def moved(path: Path, feeds: dict[str, np.ndarray]) -> float:
    """What ONNX Runtime's results differ by when inputs differ by rounding: the most of a few trials, each with the numbers of the
    inputs in another order, as codes hide what is smaller than a step from most inputs."""
    session = _plain_session(path)
    found = []
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        mixed = {n: rng.permuted(a, axis=None) if a.dtype.kind == "f" else a for n, a in feeds.items()}
        by = {n: 1 + NUDGE * rng.uniform(-1, 1, a.shape) for n, a in mixed.items() if a.dtype.kind == "f"}
        nudged = {n: (a * by[n]).astype(a.dtype) if n in by else a for n, a in mixed.items()}
        found.append(_error(session.run(None, nudged), session.run(None, mixed)))
    return max(found)


def tolerance(operators: dict[str, int], model: onnx.ModelProto, own: float) -> float:
    """own: what ONNX Runtime differs from itself by, with and without optimisations; a net may enlarge what rounding does."""
    return max(_by_kind(operators, model), OWN * min(own, CODES))


def _by_kind(operators: dict[str, int], model: onnx.ModelProto) -> float:
    if any(word in operator for operator in operators for word in CODED):
        return CODES
    kinds = {t.data_type for t in model.graph.initializer}
    return FLOAT16 if onnx.TensorProto.FLOAT16 in kinds else FLOAT32


def _check(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, Any]:
    """What `graphc check` says beside 'no problems': its warnings and problems, and the nodes that run in NumPy."""
    command = [sys.executable, "-m", "graphc", "check", str(path), "--threads", "1", *shapes_of(feeds)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line.replace(str(path), "FILE") for line in (done.stdout + done.stderr).splitlines()]
    said = [line for line in lines if line.startswith(("warning:", "- ", "Error")) or (done.returncode and line)]
    return {"said": said, "host": _listed(lines, "on the host, in NumPy:")}


def _listed(lines: list[str], title: str) -> list[str]:
    """The lines that stand below a title, which may be indented itself."""
    found, depth = [], None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip() == title:
            depth = indent
        elif depth is not None and indent > depth:
            found.append(line.strip())
        else:
            depth = None
    return found


def _error(actual: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Largest difference over the largest magnitude, of the worst output; infinite where shapes or what is not finite differ."""
    worst = 0.0
    for a, e in zip(actual, expected, strict=True):
        a, e = a.astype(np.float64), e.astype(np.float64)
        if a.shape != e.shape or not np.array_equal(np.isfinite(a), np.isfinite(e)):
            return float("inf")
        finite = np.isfinite(e)
        if finite.any():
            worst = max(worst, float(np.abs(a - e)[finite].max() / max(np.abs(e[finite]).max(), SMALL)))
    return worst


def _starts(path: Path, feeds: Path, folder: Path) -> dict[str, float]:
    """Processor seconds of a process up to its first result, graphc's cache warm: the medians."""
    times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for _ in range(STARTS):
        for engine in ENGINES:
            worker = Worker(engine, path, feeds, 1, folder)
            times[engine].append(worker.processor)
            worker.close()
    return {engine: float(np.median(t)) for engine, t in times.items()}


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def main() -> None:
    """run.py's own process: FILE NAME RESULT.json."""
    path, name, result = sys.argv[1:]
    Path(result).write_text(json.dumps(run(Path(path), name), indent=1))


if __name__ == "__main__":
    main()
