"""LSTM and GRU layers side by side with ONNX Runtime: one process, runs in turn, medians, and the ratio of the two.

    python benchmarks/recurrent.py [--threads N] [--rounds N] [--only TEXT]

A ratio below 1 means that graphc is faster. Inputs, weights and results are the same for both, and compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import engines
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEQUENCE, HIDDEN = 128, 256
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def network(op: str, batch: int, directions: int, layers: int) -> onnx.ModelProto:
    """Layers of one kind on top of each other, as PyTorch exports them; two directions are concatenated in between."""
    rng, nodes, weights, x, features = np.random.default_rng(0), [], [], "x", HIDDEN

    def weight(name: str, *shape: int) -> str:
        weights.append(numpy_helper.from_array((rng.uniform(-1, 1, shape) / HIDDEN**0.5).astype(np.float32), name))
        return name

    attrs = {"linear_before_reset": 1} if op == "GRU" else {}
    rows = GATES[op] * HIDDEN
    for i in range(layers):
        operands = [x]
        operands += [weight(f"w{i}", directions, rows, features), weight(f"r{i}", directions, rows, HIDDEN)]
        operands.append(weight(f"b{i}", directions, 2 * rows))
        direction = "bidirectional" if directions == 2 else "forward"
        nodes.append(helper.make_node(op, operands, [f"y{i}"], hidden_size=HIDDEN, direction=direction, **attrs))
        nodes.append(helper.make_node("Transpose", [f"y{i}"], [f"t{i}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"t{i}", "shape"], [f"x{i}"]))
        x, features = f"x{i}", directions * HIDDEN
    shape = numpy_helper.from_array(np.array([SEQUENCE, batch, -1], np.int64), "shape")
    graph = helper.make_graph(
        nodes,
        f"{op} batch {batch}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [SEQUENCE, batch, HIDDEN])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [SEQUENCE, batch, features])],
        [*weights, shape],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(model: onnx.ModelProto, batch: int, threads: int, rounds: int) -> tuple[float, float]:
    """Median milliseconds of graphc and of ONNX Runtime. Raises AssertionError where their results differ."""
    feeds = {"x": np.random.default_rng(1).standard_normal((SEQUENCE, batch, HIDDEN)).astype(np.float32)}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        ours, theirs = (engines.ENGINES[name](path, threads) for name in ("graphc", "onnxruntime"))
    for mine, other in zip(ours(feeds), theirs(feeds)):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5 * np.abs(other).max())
    times = [(seconds(lambda: ours(feeds)), seconds(lambda: theirs(feeds))) for _ in range(rounds)]
    a, b = np.median(np.array(times), axis=0) * 1e3
    return float(a), float(b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="measure the lines that contain this text")
    options = parser.parse_args()
    print(
        f"sequence {SEQUENCE}, hidden {HIDDEN}, {options.threads} thread(s): milliseconds, median of {options.rounds}"
    )
    for op in ("LSTM", "GRU"):
        for batch in (1, 16):
            for directions, layers in ((1, 1), (2, 1), (1, 2)):
                form = {(1, 1): "", (2, 1): "bidirectional", (1, 2): "two layers"}[directions, layers]
                name = f"{op} batch {batch} {form}"
                if options.only in name:
                    ours, theirs = compare(
                        network(op, batch, directions, layers), batch, options.threads, options.rounds
                    )
                    print(
                        f"{name:28} graphc {ours:7.2f}   onnxruntime {theirs:7.2f}   ratio {ours / theirs:.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
