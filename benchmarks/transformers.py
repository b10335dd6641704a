#!/usr/bin/env python3
"""Transformers side by side with the peers that are installed: one run, engines in turn, medians, ratios to the fastest.

    python benchmarks/transformers.py [--threads 1,2] [--rounds N] [--only TEXT] [--clock processor] [--folder DIR]

A ratio below 1 means that graphc is faster. Weights are random, inputs and results are the same for all and compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from engines import installed
from measure import Effort, Measured, error, measure
from models import Network, example
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parent.parent / "build" / "models"
STEPS, WIDTH, HEADS, LAYERS = 128, 768, 12, 12
SIZES = {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "steps": STEPS}


def as_exported(batch: int) -> onnx.ModelProto:
    """The encoder as PyTorch exports it: three projections, and masks, normalisation and Gelu in small operators."""
    rng, nodes, weights = np.random.default_rng(0), [], []

    def constant(values: object, dtype: type = np.float32) -> str:
        weights.append(numpy_helper.from_array(np.asarray(values, dtype), f"w{len(weights)}"))
        return weights[-1].name

    def add(op: str, *inputs: str, **attrs: object) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{op}_{len(nodes)}"], **attrs))
        return nodes[-1].output[0]

    def dense(x: str, rows: int, columns: int) -> str:
        kernel = constant(rng.standard_normal((rows, columns)) / rows**0.5)
        return add("Add", add("MatMul", x, kernel), constant(rng.standard_normal(columns) * 0.02))

    def norm(x: str) -> str:
        centered = add("Sub", x, add("ReduceMean", x, axes=[-1]))
        variance = add("ReduceMean", add("Pow", centered, constant(2.0)), axes=[-1])
        y = add("Div", centered, add("Sqrt", add("Add", variance, constant(1e-12))))
        return add("Add", add("Mul", y, constant(np.ones(WIDTH))), constant(np.zeros(WIDTH)))

    def gelu(x: str) -> str:
        grown = add("Add", add("Erf", add("Div", x, constant(2**0.5))), constant(1.0))
        return add("Mul", add("Mul", x, grown), constant(0.5))

    def split(x: str, perm: Sequence[int]) -> str:
        shape = constant([batch, STEPS, HEADS, WIDTH // HEADS], np.int64)
        return add("Transpose", add("Reshape", x, shape), perm=perm)

    def attend(x: str, mask: str) -> str:
        q, k, v = (split(dense(x, WIDTH, WIDTH), perm) for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)))
        scores = add("Div", add("MatMul", q, k), constant((WIDTH / HEADS) ** 0.5))
        y = add("MatMul", add("Softmax", add("Add", scores, mask), axis=-1), v)
        merged = add("Reshape", add("Transpose", y, perm=(0, 2, 1, 3)), constant([batch, STEPS, WIDTH], np.int64))
        return dense(merged, WIDTH, WIDTH)

    x = "x"
    for _ in range(LAYERS):
        x = norm(add("Add", attend(x, "mask"), x))
        x = norm(add("Add", dense(gelu(dense(x, WIDTH, 4 * WIDTH)), 4 * WIDTH, WIDTH), x))
    inputs = {"x": (batch, STEPS, WIDTH), "mask": (batch, 1, 1, STEPS)}
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, (batch, STEPS, WIDTH))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETWORKS = (
    example("transformer_encoder", **SIZES),
    example("transformer_encoder", 4, **SIZES),
    Network("transformer_encoder_exported_batch1", lambda: as_exported(1)),
    example("vit_b16"),
    example("vit_b16", 4),
)


def line(network: Network, threads: int, found: Measured) -> str:
    """Milliseconds of each engine, graphc's ratio to the fastest peer and its difference from ONNX Runtime."""
    times = "  ".join(f"{engine} {seconds * 1e3:8.2f}" for engine, seconds in found.seconds.items())
    peers = [seconds for engine, seconds in found.seconds.items() if engine != "graphc"]
    text = f"{network.name:36} {threads} thread{'s' if threads > 1 else ' '}  {times}"
    if peers and "graphc" in found.seconds:
        text += f"  ratio {found.seconds['graphc'] / min(peers):.3f}"
    if {"graphc", "onnxruntime"} <= found.outputs.keys():
        text += f"  difference {error(found.outputs['graphc'], found.outputs['onnxruntime']):.1e}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=lambda t: [int(n) for n in t.split(",")], default=[1, 2], help="default: 1,2")
    parser.add_argument("--rounds", type=int, default=Effort.rounds)
    parser.add_argument("--seconds", type=float, default=7.0, help="for a model and an engine, all rounds")
    parser.add_argument("--only", default="", help="measure the models whose name contains this text")
    parser.add_argument(
        "--clock", choices=["wall", "processor"], default="wall", help="processor: with one thread only"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where model files are made")
    options = parser.parse_args()
    effort = Effort(options.rounds, options.seconds, clock=options.clock)
    for threads in options.threads:
        for network in NETWORKS:
            if options.only in network.name:
                found = measure(*network.files(options.folder), list(installed()), threads, effort)
                print(line(network, threads, found), flush=True)


if __name__ == "__main__":
    main()
