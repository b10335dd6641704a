"""What runs a model: graphc's targets and ONNX Runtime."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper

import graphc
from graphc.errors import GraphcError
from graphc.pipeline import SHAPE_FREE, bound, fusions

from .case import Case
from .draws import BFLOAT16

RUNTIME = "onnxruntime"
TARGETS = ("reference", "cpu", "cpu:avx2", "cpu:portable")
ENGINES = (*TARGETS, RUNTIME)
EMULATED = "cuda:emulate"  # by name only, since it is slow

PASSES = {p.name for p in (*SHAPE_FREE, *bound(()), *fusions())}

Results = list[dict[str, np.ndarray]]  # for each world


class Refusal(Exception):
    """The engine says that it does not take the model."""


def run(engine: str, case: Case) -> Results:
    """The model's results in every world, and those of the first once more at the end. Raises Refusal; anything else that it
    raises is a fault. '@module:function' calls that function with the case."""
    if engine.startswith("@"):
        module, _, name = engine[1:].partition(":")
        return getattr(import_module(module), name)(case)
    return _runtime(case) if engine == RUNTIME else _graphc(engine, case)


def _graphc(target: str, case: Case) -> Results:
    how, disabled = case.options, case.options.disabled
    options: dict[str, Any] = {"threads": how.threads, "winograd": how.winograd}
    if target == EMULATED:
        options = {"host": True}
        disabled = tuple(n for n in disabled if n in PASSES)  # others are parts of the CPU's backend
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = graphc.compile(case.model, target=target, disabled=disabled, **options)
            return [model.run(dict(feeds)) for feeds in (*case.feeds, case.feeds[0])]
        except GraphcError as error:
            if "bug in graphc" in str(error) or "please report" in str(error):
                raise
            raise Refusal(str(error)) from error


def _runtime(case: Case) -> Results:
    """Without its optimisations: it is asked what operators mean."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model, names = _with_readable_results(case.model)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made = []
        for feeds in (*case.feeds, case.feeds[0]):
            results = session.run(list(names), {n: _given(a) for n, a in feeds.items()})
            made.append({n: np.asarray(r).astype(t) if t else r for (n, t), r in zip(names.values(), results)})
        return made
    except Exception as error:  # its errors are of many kinds
        raise Refusal(str(error)) from error


def _with_readable_results(model: ModelProto) -> tuple[ModelProto, dict[str, tuple[str, Any]]]:
    """Its Python interface can't return bfloat16: such results are cast to float32. Gives also, for each result's name in
    that model, the name in the model given, and the dtype to convert to."""
    names: dict[str, tuple[str, Any]] = {}
    narrow = {o.name for o in model.graph.output if o.type.tensor_type.elem_type == TensorProto.BFLOAT16}
    if narrow:
        copy = ModelProto()
        copy.CopyFrom(model)
        model = copy
    for o in model.graph.output:
        if o.name in narrow:
            name = o.name
            cast = helper.make_node("Cast", [name], [f"{name}/float"], to=TensorProto.FLOAT)
            if f"{name}/float" not in names:
                model.graph.node.append(cast)
            o.name, o.type.tensor_type.elem_type = f"{name}/float", TensorProto.FLOAT
            names[o.name] = (name, BFLOAT16)
        else:
            names[o.name] = (o.name, None)
    return model, names


def _given(a: np.ndarray) -> Any:
    """An array as ONNX Runtime takes it: it has a type of its own for bfloat16."""
    if a.dtype == BFLOAT16:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(a.view(np.uint16), TensorProto.BFLOAT16)
    return a
