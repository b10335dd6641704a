"""Operators of detectors beside ONNX Runtime: one process, runs in turn, medians, and their ratio.

    python benchmarks/detection.py [--threads N] [--rounds N] [--only TEXT]

A ratio below 1 means that graphc is faster. Each model is one node; where the size of its result follows from data, its time
includes what binds that size.
Inputs are the same for both, and results are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import engines
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from recurrent import seconds

Feeds = Mapping[str, np.ndarray]
Line = tuple[str, onnx.ModelProto, Feeds]


def model(
    op: str, feeds: Feeds, constants: Sequence[np.ndarray] = (), outputs: int = 1, **attrs: object
) -> onnx.ModelProto:
    """One node of the feeds, in order, then of the constants."""
    given = [numpy_helper.from_array(c, f"c{i}") for i, c in enumerate(constants)]
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, [*feeds, *(c.name for c in given)], names, **attrs)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()
    ]
    kinds = [next(iter(feeds.values())).dtype] if op in ("Compress", "Unique", "RoiAlign", "GridSample") else []
    types = [*map(helper.np_dtype_to_tensor_dtype, kinds), *[TensorProto.INT64] * outputs]
    results = [helper.make_tensor_value_info(n, t, None) for n, t in zip(names, types)]
    graph = helper.make_graph([node], op, inputs, results, given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def boxes(batch: int, n: int, extent: float, rng: np.random.Generator) -> np.ndarray:
    """Corners of boxes in the unit square, sides up to `extent`."""
    center, half = rng.random((batch, n, 2)), rng.random((batch, n, 2)) * extent / 2
    return np.concatenate([center - half, center + half], -1).astype(np.float32)


def suppressions(rng: np.random.Generator) -> Iterator[Line]:
    """Scores of a detector: few above the threshold ('sparse'), or all of them ('dense')."""
    for n in (1_000, 5_000, 20_000):
        for classes in (1, 20, 80):
            for kind, threshold, limit in (("sparse", 0.05, 100), ("dense", 0.0, 100), ("dense", 0.0, n)):
                if kind == "dense" and limit == n and n * classes > 400_000:
                    continue  # seconds, for both
                scores = rng.random((1, classes, n)).astype(np.float32)
                scores = scores**40 if kind == "sparse" else scores
                feeds = {"boxes": boxes(1, n, 0.2, rng), "scores": scores}
                numbers = np.array([limit]), np.float32([0.5]), np.float32([threshold])
                yield f"NMS {n} x {classes} {kind}, {limit}", model("NonMaxSuppression", feeds, numbers), feeds


def selections(rng: np.random.Generator) -> Iterator[Line]:
    for size in ((1_000,), (1_000_000,), (1_000, 1_000), (100, 100, 100)):
        for share in (0.01, 0.5):
            x = (rng.random(size) < share) * np.float32(1)
            for dtype in ("float32", "bool"):
                feeds = {"x": x.astype(dtype)}
                yield f"NonZero {dtype} {size}, {share:.0%}", model("NonZero", feeds), feeds
    for size, axis in (((1_000_000,), 0), ((10_000, 100), 0), ((1_000, 1_000), 1)):
        feeds = {"x": rng.random(size).astype(np.float32), "condition": rng.random(size[axis]) < 0.5}
        yield f"Compress {size}, axis {axis}", model("Compress", feeds, axis=axis), feeds
    for n in (1_000, 100_000, 1_000_000):
        for dtype, high in (("float32", 1 << 20), ("int64", 1_000)):
            feeds = {"x": rng.integers(0, high, n).astype(dtype)}
            yield f"Unique {dtype} {n}, {high}", model("Unique", feeds, outputs=4), feeds


def regions(rng: np.random.Generator) -> Iterator[Line]:
    """Mask R-CNN's: boxes of all sizes on a level of the pyramid."""
    for count, channels, side in ((1_000, 256, 50), (100, 256, 200), (300, 64, 32)):
        for ratio in (2, 0):
            rois = boxes(1, count, 0.5, rng)[0] * side * 4
            feeds = {
                "x": rng.normal(size=(1, channels, side, side)).astype(np.float32),
                "rois": rois,
                "batch": np.zeros(count, np.int64),
            }
            attrs = {"output_height": 7, "output_width": 7, "sampling_ratio": ratio, "spatial_scale": 0.25}
            yield f"RoiAlign {count} x {channels} of {side}, ratio {ratio}", model("RoiAlign", feeds, **attrs), feeds


def grids(rng: np.random.Generator) -> Iterator[Line]:
    """Deformable attention's: many heads with few channels, and images of three colours."""
    for n, channels, side, points in ((8, 32, 80, (300, 4)), (8, 32, 20, (300, 4)), (1, 3, 256, (256, 256))):
        for padding in ("zeros", "border"):
            feeds = {
                "x": rng.normal(size=(n, channels, side, side)).astype(np.float32),
                "grid": rng.uniform(-1.1, 1.1, (n, *points, 2)).astype(np.float32),
            }
            yield (
                f"GridSample {n} x {channels} of {side}, {padding}",
                model("GridSample", feeds, padding_mode=padding),
                feeds,
            )


def compare(proto: onnx.ModelProto, feeds: Feeds, threads: int, rounds: int) -> tuple[float, float]:
    """Median milliseconds of graphc and of ONNX Runtime. Raises AssertionError where their results differ (positions of samples
    have rounding errors)."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        ours, theirs = (engines.ENGINES[name](path, threads) for name in ("graphc", "onnxruntime"))
    for mine, other in zip(ours(feeds), theirs(feeds)):
        np.testing.assert_allclose(mine, other, rtol=0, atol=0 if mine.dtype.kind in "ib" else 1e-3)
    times = [(seconds(lambda: ours(feeds)), seconds(lambda: theirs(feeds))) for _ in range(rounds)]
    a, b = np.median(np.array(times), axis=0) * 1e3
    return float(a), float(b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="measure the lines that contain this text")
    options = parser.parse_args()
    print(f"{options.threads} thread(s): milliseconds, median of {options.rounds}")
    rng = np.random.default_rng(0)
    for name, proto, feeds in (*suppressions(rng), *selections(rng), *regions(rng), *grids(rng)):
        if options.only in name:
            ours, theirs = compare(proto, feeds, options.threads, options.rounds)
            print(f"{name:36} graphc {ours:9.3f}   onnxruntime {theirs:9.3f}   ratio {ours / theirs:.2f}", flush=True)


if __name__ == "__main__":
    main()
