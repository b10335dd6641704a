"""An ONNX Loop with a small body: what an iteration costs, beside ONNX Runtime in the same process.

python benchmarks/loops.py [--trips 1000] [--width 64] [--rounds 30] [--threads 1]
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def make_loop(trips: int, width: int, stops: bool = True) -> onnx.ModelProto:
    """y [width] from x [width], float32, by `trips` iterations y = tanh(y * a + b) - c, a counter in float32, and a comparison
    of it that never ends the loop. stops: the condition is computed; else it is the one that was given."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    f, b, i = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64
    node, info = helper.make_node, helper.make_tensor_value_info
    tensors = {
        "a": rng.uniform(0.5, 0.9, width).astype(np.float32),
        "b": rng.uniform(-0.1, 0.1, width).astype(np.float32),
        "c": np.float32(0.01),
        "one": np.float32(1),
        "most": np.float32(1e9),
    }
    nodes = [
        node("Mul", ["state", "a"], ["scaled"]), node("Add", ["scaled", "b"], ["shifted"]),
        node("Tanh", ["shifted"], ["bent"]), node("Sub", ["bent", "c"], ["next_state"]),
        node("Add", ["turns", "one"], ["next_turns"]),
        node("Less", ["next_turns", "most"], ["again"]) if stops else node("Identity", ["going"], ["again"]),
    ]  # fmt: skip
    vector, scalar = ("state", f, [width]), ("turns", f, [])
    body = helper.make_graph(
        nodes, "body", [info("i", i, []), info("going", b, []), info(*vector), info(*scalar)],
        [info("again", b, []), info("next_state", f, [width]), info("next_turns", f, [])],
    )  # fmt: skip
    start = numpy_helper.from_array(np.float32(0), "start")
    limit = numpy_helper.from_array(np.int64(trips), "limit")
    true = numpy_helper.from_array(np.array(True), "true")
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()]
    loop = node("Loop", ["limit", "true", "x", "start"], ["y", "count"], name="loop", body=body)
    graph = helper.make_graph(
        [loop], "loop", [info("x", f, [width])], [info("y", f, [width]), info("count", f, [])],
        [start, limit, true, *held],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    import onnxruntime

    import graphc

    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("trips", 1000), ("width", 64), ("rounds", 30), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    proto = make_loop(args.trips, args.width)
    model = graphc.compile(proto, threads=args.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    feeds = {"x": np.random.default_rng(1).uniform(-1, 1, args.width).astype(np.float32)}
    calls = {"graphc": lambda: model.run(feeds), "ONNX Runtime": lambda: session.run(None, feeds)}
    np.testing.assert_allclose(calls["graphc"]()["y"], calls["ONNX Runtime"]()[0], rtol=1e-4, atol=1e-5)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: float(np.median(t)) for name, t in seconds.items()}
    for name, median in medians.items():
        print(f"{name}: {1e3 * median:.3f} ms, {1e9 * median / args.trips:.0f} ns a trip")
    print(f"ratio {medians['graphc'] / medians['ONNX Runtime']:.3f}")


if __name__ == "__main__":
    main()
