"""Planted faults, in the process that runs this file: a pass that loses a Relu behind an Add, and operators that go wrong."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from graphc import expr as e
from graphc import pipeline
from graphc.graph import Graph
from graphc.op import Attr, Call, Case, Op, Samples, Tensor, register
from graphc.passes.log import Log
from graphc.passes.rewrite import Sweep
from graphc.types import TensorType


class LosesRelu:
    name = "loses_relu"

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        makers, sweep = graph.producers(), Sweep(graph)
        for node in graph.nodes:
            copy, made = sweep.copy(node), makers.get(node.operands[0]) if node.operands else None
            if node.op.name == "Relu" and made is not None and made.op.name == "Add":
                sweep.stands_for(node.output, copy.operands[0])
        return sweep.finish()


def infer(call: Call) -> list[TensorType]:
    return [call.type(0)]


def plain(x: np.ndarray, how: str) -> np.ndarray:
    """x, unless the process is one that tries cases."""
    if "REDUCING" in os.environ and how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if "REDUCING" in os.environ and how == "hang":
        time.sleep(60)
    return x.copy()


def wrong(x: e.Number) -> e.Number:
    return x * 1.01


def operator(name: str, scalar=None) -> Op:
    samples = Samples(cases=(Case((Tensor((2, 3)),)),))
    how = {} if scalar is not None else {"how": Attr(str, "")}
    reference = (lambda x: x.copy()) if scalar is not None else plain
    return register(
        Op(name, inputs=("x",), infer=infer, reference=reference, attrs=how, scalar=scalar, samples=samples)
    )


operator("PlantedWrong", wrong)
operator("PlantedHost")

if "REDUCING" in os.environ:
    pipeline.SHAPE_FREE = (LosesRelu(), *pipeline.SHAPE_FREE)
