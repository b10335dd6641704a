"""Models to begin with, by number; made when they are asked for."""

from __future__ import annotations

import random
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from graphc.op import Case, Op, all_ops

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "tests") not in sys.path:  # `python -m tests.harm` finds the other helpers, too
    sys.path.append(str(ROOT / "tests"))

import opcheck  # noqa: E402
from fuzz.generate import generate  # noqa: E402

OPSET = 22
RANDOM_MODELS = 60
LARGEST_TEXT, MOST_WEIGHTS = 3_000, 1_000_000  # characters of a YAML file, and what it says of its weights


@cache
def operators() -> list[tuple[Op, Case]]:
    """Every sample of every operator that is one node with operands."""
    ops = (op for op in all_ops().values() if not op.holds_graphs and op.name not in ("Constant", "Reorder"))
    return [(op, case) for op in ops for case in op.samples.cases]


def one_node(op: Op, case: Case, rng: random.Random) -> tuple[onnx.ModelProto, dict[str, np.ndarray]] | None:
    """A model of one use, with operands of a random dtype; None where the use can't be written so.

    Of its operands some are initializers; some of its inputs have open dims.
    """
    domain, _, name = op.name.rpartition("::")
    arrays = opcheck.operands(op, case, rng.choice(op.samples.dtypes), rng.randrange(100))
    try:
        model = opcheck.onnx_model(op.name, case, arrays, 1 if domain else OPSET, domain)
    except (TypeError, ValueError):  # attributes that onnx.helper can't write
        return None
    except Exception as error:  # a dtype that this case does not take
        if type(error).__module__ != "graphc.errors":
            raise
        return None
    model.graph.node[0].op_type = name
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
    for info in list(model.graph.input):
        array = feeds[info.name]
        if array.dtype.kind not in "OUS" and rng.random() < (0.5 if array.dtype.kind in "iu" else 0.15):
            model.graph.initializer.append(_tensor(array, info.name))
            model.graph.input.remove(info)
            del feeds[info.name]
        elif rng.random() < 0.3:
            for i, d in enumerate(info.type.tensor_type.shape.dim):
                d.dim_param = f"{info.name}_{i}"
    return model, feeds


def _tensor(array: np.ndarray, name: str) -> onnx.TensorProto:
    from graphc.frontends.onnx_data import from_array

    return from_array(array, name)


@cache
def random_model(i: int) -> bytes:
    """A model of many nodes: branches, loops, functions, states, quantized and recurrent layers."""
    return generate(17, i).model.SerializeToString()


@cache
def texts() -> list[str]:
    """YAML files of the examples, the short ones of few weights."""
    paths = sorted((ROOT / "examples").rglob("*.yaml"))
    return [t for p in paths if p.name != "index.yaml" and _is_small(t := p.read_text())]


def _is_small(text: str) -> bool:
    told = re.search(r"([\d,]+) parameters", text)
    return len(text) < LARGEST_TEXT and (told is None or int(told[1].replace(",", "")) < MOST_WEIGHTS)


def onnx_model(rng: random.Random) -> onnx.ModelProto:
    """Some model of the corpus."""
    while True:
        match rng.randrange(4):
            case 0:
                return onnx.ModelProto.FromString(random_model(rng.randrange(RANDOM_MODELS)))
            case 1:
                return whole(rng)
            case _:
                made = one_node(*rng.choice(operators()), rng)
                if made is not None:
                    return made[0]


MODELS = (
    """<ir_version: 8, opset_import: ["" : 18]>
    branches (float[n, 3] x, bool c) => (float[n, 3] y) {
        y = If (c) <
            then_branch = then_graph () => (t) { t = Relu (x) },
            else_branch = else_graph () => (e) { e = Neg (x) }>
    }""",
    """<ir_version: 8, opset_import: ["" : 18]>
    loop (int64 trips, bool go, float[3] x) => (float[3] y, float[k, 3] all) {
        y, all = Loop (trips, go, x) <body = body (int64 i, bool before, float[3] v) => (bool after, float[3] w, float[3] s) {
            after = Identity (before)
            w = Add (v, v)
            s = Neg (w) }>
    }""",
    """<ir_version: 8, opset_import: ["" : 18]>
    scan (float[2] first, float[5, 2] x) => (float[2] last, float[5, 2] y) {
        last, y = Scan <num_scan_inputs = 1, body = body (float[2] s, float[2] e) => (float[2] t, float[2] o) {
            t = Add (s, e)
            o = Identity (t) }> (first, x)
    }""",
    """<ir_version: 8, opset_import: ["" : 18, "own" : 1]>
    calls (float[4] x) => (float[4] y) { a = own.twice (x)  y = own.twice (a) }
    <domain: "own", opset_import: ["" : 18]>
    twice (x) => (y) { t = Constant <value_float = 2.0> ()  u = CastLike (t, x)  y = Mul (x, u) }""",
    """<ir_version: 8, opset_import: ["" : 18]>
    sequences (float[n, 4] x, int64 at) => (float[m, 4] y) {
        parts = SplitToSequence <axis = 0> (x)
        y = SequenceAt (parts, at)
    }""",
    """<ir_version: 8, opset_import: ["" : 18]>
    quantized (float[2, 4] x, float[4] scale, int8[4] zero) => (float[2, 4] y) {
        q = QuantizeLinear <axis = 1> (x, scale, zero)
        y = DequantizeLinear <axis = 1> (q, scale, zero)
    }""",
    """<ir_version: 8, opset_import: ["" : 18]>
    reshaped (float[2, 6] x, int64[r] shape) => (y) {
        a = Reshape (x, shape)
        s = Shape (a)
        o = ConstantOfShape (s)
        y = Add (a, o)
    }""",
    """<ir_version: 8, opset_import: ["" : 18]>
    ranges (int64 start, int64 end, int64 step, float[1] x) => (y) {
        r = Range (start, end, step)
        f = CastLike (r, x)
        y = Mul (f, x)
    }""",
)


@cache
def _parsed() -> list[bytes]:
    return [onnx.parser.parse_model(text).SerializeToString() for text in MODELS]


def whole(rng: random.Random) -> onnx.ModelProto:
    """A model of MODELS, or a small network with weights."""
    found = rng.randrange(len(MODELS) + 1)
    return onnx.ModelProto.FromString(_parsed()[found]) if found < len(MODELS) else network()


def network() -> onnx.ModelProto:
    """A convolution, a recurrent layer, a product; a weight large enough to be read apart from its message."""
    rng = np.random.default_rng(0)
    node = onnx.helper.make_node
    weights = {"w": (4, 3, 3, 3), "r": (1, 16, 4), "rr": (1, 16, 4), "m": (4, 90), "b": (90,)}
    tensors = [numpy_helper.from_array(rng.random(s, np.float32), n) for n, s in weights.items()]
    shape = numpy_helper.from_array(np.array([0, 4, -1]), "shape")
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Reshape", ["c", "shape"], ["f"]),
        node("Transpose", ["f"], ["t"], perm=[2, 0, 1]),
        node("LSTM", ["t", "r", "rr"], ["", "h"], hidden_size=4),
        node("MatMul", ["h", "m"], ["p"]),
        node("Add", ["p", "b"], ["y"]),
    ]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "network", [info("x", 1, ["n", 3, 4, 4])], [info("y", 1, None)], [*tensors, shape]
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
