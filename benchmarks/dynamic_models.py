"""Models whose shapes change from call to call: text, caches, images of any size, detections, loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from models import EXAMPLES
from onnx import TensorProto, helper
from onnx_writer import Writer

F32, I64 = np.float32, np.int64


# --- transformers -----------------------------------------------------------------------------------------------------
def encoder(
    layers: int = 6, width: int = 384, heads: int = 6, vocabulary: int = 1000, positions: int = 2048
) -> onnx.ModelProto:
    """ids [batch, length] -> hidden [batch, length, width]. Shapes of heads are computed from those of the input."""
    w = Writer()
    x = _embedded(w, "ids", w.integers(0), w.size("ids", 1), width, vocabulary, positions)
    for _ in range(layers):
        q, k, v = (_heads(w, w.dense(x, width, width), heads, width) for _ in range(3))
        x = _norm(w, w.add("Add", x, _attention(w, q, k, v, None, heads, width)), width)
        x = _norm(w, w.add("Add", x, _thinking(w, x, width)), width)
    hidden = w.named(x, "hidden")
    return w.model("encoder", {"ids": (I64, ("batch", "length"))}, {hidden: (F32, ("batch", "length", width))})


def decoder(
    layers: int = 6,
    width: int = 384,
    heads: int = 6,
    vocabulary: int = 1000,
    positions: int = 2048,
    causal: bool = False,
) -> onnx.ModelProto:
    """ids [batch, new], past_k0 [batch, heads, past, width // heads], past_v0, … -> logits [batch, new, vocabulary],
    present_k0 [batch, heads, past + new, width // heads], …

    causal: with the mask that several tokens at once need, made from positions; one token at a time needs none.
    """
    w = Writer()
    past = w.size("past_k0", 2)
    total = w.add("Add", past, w.size("ids", 1))
    x = _embedded(w, "ids", past, total, width, vocabulary, positions)
    mask = _causal_mask(w, past, total) if causal else None
    presents = []
    for layer in range(layers):
        y = _norm(w, x, width)
        q, k, v = (_heads(w, w.dense(y, width, width), heads, width) for _ in range(3))
        k = w.named(w.add("Concat", f"past_k{layer}", k, axis=2), f"present_k{layer}")
        v = w.named(w.add("Concat", f"past_v{layer}", v, axis=2), f"present_v{layer}")
        presents += [k, v]
        x = w.add("Add", x, _attention(w, q, k, v, mask, heads, width))
        x = w.add("Add", x, _thinking(w, _norm(w, x, width), width))
    logits = w.named(w.dense(_norm(w, x, width), width, vocabulary), "logits")

    def cache(length: str) -> tuple[Any, tuple[int | str, ...]]:
        return F32, ("batch", heads, length, width // heads)

    pasts = {name.replace("present", "past"): cache("past") for name in presents}
    return w.model(
        "decoder",
        {"ids": (I64, ("batch", "new")), **pasts},
        {logits: (F32, ("batch", "new", vocabulary)), **{name: cache("total") for name in presents}},
    )


def caches(model: onnx.ModelProto) -> dict[str, str]:
    """The output that each cache of a decoder comes back in."""
    return {i.name: i.name.replace("past", "present") for i in model.graph.input if i.name.startswith("past")}


def empty_caches(model: onnx.ModelProto, batch: int = 1) -> dict[str, np.ndarray]:
    """Caches of no token."""
    sizes = {"batch": batch, "past": 0}
    dims = {i.name: i.type.tensor_type.shape.dim for i in model.graph.input if i.name.startswith("past")}
    return {name: np.zeros([d.dim_value or sizes[d.dim_param] for d in shape], F32) for name, shape in dims.items()}


def _embedded(w: Writer, ids: str, start: str, end: str, width: int, vocabulary: int, positions: int) -> str:
    words = w.add("Gather", w.random(vocabulary, width), ids)
    return w.add("Add", words, w.add("Slice", w.random(positions, width, scale=0.1), start, end, w.integers(0)))


def _norm(w: Writer, x: str, width: int) -> str:
    return w.add("LayerNormalization", x, w.constant(np.ones(width)), w.constant(np.zeros(width)), epsilon=1e-5)


def _thinking(w: Writer, x: str, width: int) -> str:
    """The two dense layers behind attention, with Gelu in small operators between."""
    y = w.dense(x, width, 4 * width)
    grown = w.add("Add", w.add("Erf", w.add("Div", y, w.constant(2**0.5))), w.constant(1.0))
    return w.dense(w.add("Mul", w.add("Mul", y, grown), w.constant(0.5)), 4 * width, width)


def _heads(w: Writer, x: str, heads: int, width: int) -> str:
    """[batch, length, width] -> [batch, heads, length, width // heads]."""
    sizes = [w.size(x, 0), w.size(x, 1), w.integers(heads), w.integers(width // heads)]
    return w.add("Transpose", w.add("Reshape", x, w.add("Concat", *sizes, axis=0)), perm=(0, 2, 1, 3))


def _attention(w: Writer, q: str, k: str, v: str, mask: str | None, heads: int, width: int) -> str:
    scores = w.add("MatMul", q, w.add("Transpose", k, perm=(0, 1, 3, 2)))
    scores = w.add("Div", scores, w.constant((width / heads) ** 0.5))
    scores = scores if mask is None else w.add("Add", scores, mask)
    y = w.add("Transpose", w.add("MatMul", w.add("Softmax", scores, axis=-1), v), perm=(0, 2, 1, 3))
    sizes = [w.size(y, 0), w.size(y, 1), w.integers(width)]
    return w.dense(w.add("Reshape", y, w.add("Concat", *sizes, axis=0)), width, width)


def _causal_mask(w: Writer, past: str, total: str) -> str:
    """[new, total]: 0 where a token sees another, a large negative number elsewhere."""
    zero, one, axis = w.constant(0, I64), w.constant(1, I64), w.integers(0)
    start, end = w.add("Squeeze", past, axis), w.add("Squeeze", total, axis)
    rows = w.add("Unsqueeze", w.add("Range", start, end, one), w.integers(1))
    columns = w.add("Unsqueeze", w.add("Range", zero, end, one), axis)
    return w.add("Where", w.add("LessOrEqual", columns, rows), w.constant(0.0), w.constant(-1e9))


# --- images -----------------------------------------------------------------------------------------------------------
def image_model(name: str, **params: Any) -> onnx.ModelProto:
    """A YAML example of images [1, 3, height, width], for images of any size that its strides divide."""
    from graphc.frontends.onnx_export import to_onnx
    from graphc.frontends.yaml_load import load_yaml

    model = to_onnx(load_yaml(next(EXAMPLES.rglob(f"{name}.yaml")), params))
    (image,) = model.graph.input
    for value in (image, *model.graph.output):
        prefix = "" if value is image else f"{value.name}_"
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_value = 1
        for dim, side in zip(dims[2:], ("height", "width")):
            dim.dim_param = f"{prefix}{side}"
    del model.graph.value_info[:]
    return model


def detector(
    size: int | None = None, width: int = 16, classes: int = 8, most: int = 20, levels: int = 4
) -> onnx.ModelProto:
    """image [1, 3, height, width] -> boxes [kept, 4] (centre, width, height), scores [kept], labels [kept].

    Convolutions of stride 2, a box for each place of the grid, NonMaxSuppression and Gather of what it keeps.
    size: of both sides, where it is fixed; else sides are multiples of 2**levels.
    """
    w = Writer()
    x, channels = "image", 3
    for level in range(levels):
        out = width << level
        x = w.add("Relu", w.convolution(x, channels, out, 3, stride=2))
        x = w.add("Add", x, w.add("Relu", w.convolution(x, out, out, 3)))
        channels = out
    rows = w.add("Transpose", w.convolution(x, channels, 4 + classes, 1), perm=(0, 2, 3, 1))
    rows = w.add("Reshape", rows, w.integers(1, -1, 4 + classes))
    shifts, sides, likely = w.several("Split", 3, rows, w.integers(2, 2, classes), axis=2)
    stride = w.constant(float(1 << levels))
    centres = w.add("Mul", w.add("Add", w.add("Sigmoid", shifts), _grid(w, x)), stride)
    sides = w.add("Mul", w.add("Exp", w.add("Tanh", sides)), stride)
    boxes = w.add("Concat", centres, sides, axis=2)
    scores = w.add("Transpose", w.add("Softmax", likely, axis=2), perm=(0, 2, 1))
    limits = w.integers(most), w.constant([0.4]), w.constant([1.5 / classes])
    kept = w.add("NonMaxSuppression", boxes, scores, *limits, center_point_box=1)  # [kept, 3]: image, class, box
    labels = w.named(w.add("Gather", kept, w.constant(1, I64), axis=1), "labels")
    places = w.add("Gather", kept, w.constant(2, I64), axis=1)
    kept_boxes = w.named(w.add("Gather", w.add("Squeeze", boxes, w.integers(0)), places, axis=0), "boxes")
    kept_scores = w.named(w.add("GatherND", scores, kept), "scores")
    dims = (1, 3, *((size, size) if size else ("height", "width")))
    return w.model(
        "detector",
        {"image": (F32, dims)},
        {kept_boxes: (F32, ("kept", 4)), kept_scores: (F32, ("kept",)), labels: (I64, ("kept",))},
    )


def _grid(w: Writer, x: str) -> str:
    """[1, h * w, 2]: column and row of each place of x [1, c, h, w]."""
    zero, one, axis = w.constant(0.0), w.constant(1.0), w.integers(0)
    h, width = w.size(x, 2), w.size(x, 3)

    def numbers(size: str) -> str:
        return w.add("Range", zero, w.add("Cast", w.add("Squeeze", size, axis), to=TensorProto.FLOAT), one)

    shape = w.add("Concat", h, width, axis=0)
    columns = w.add("Expand", w.add("Unsqueeze", numbers(width), axis), shape)
    rows = w.add("Expand", w.add("Unsqueeze", numbers(h), w.integers(1)), shape)
    places = [w.add("Reshape", r, w.integers(1, -1, 1)) for r in (columns, rows)]
    return w.add("Concat", *places, axis=2)


# --- steps ------------------------------------------------------------------------------------------------------------
def classifier(vocab: int = 1000) -> onnx.ModelProto:
    """tokens [batch, steps] -> positive [batch, 1]: two bidirectional LSTM layers."""
    from graphc.frontends.onnx_export import to_onnx
    from graphc.frontends.yaml_load import load_yaml

    return to_onnx(load_yaml(EXAMPLES / "lstm_classifier.yaml", {"vocab": vocab}))


def counted_loop(width: int = 32) -> onnx.ModelProto:
    """x [trips, width], h [1, width] -> last [1, width], sums [trips]: h = tanh(h @ w + x[i]) by a Loop over the rows."""
    w, body = Writer(), Writer()
    row = body.add("Gather", "x", "i", axis=0)
    product = body.add("MatMul", "before", "kernel")
    after = body.named(body.add("Tanh", body.add("Add", product, row)), "after")
    total = body.named(body.add("ReduceSum", after, keepdims=0), "total")
    go_on = body.named("condition", "go_on")
    kinds: dict[str, tuple[int, list[int]]] = {
        "i": (TensorProto.INT64, []),
        "condition": (TensorProto.BOOL, []),
        "go_on": (TensorProto.BOOL, []),
        "before": (TensorProto.FLOAT, [1, width]),
        "after": (TensorProto.FLOAT, [1, width]),
        "total": (TensorProto.FLOAT, []),
    }
    types = {name: helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()}
    graph = helper.make_graph(
        body.nodes,
        "body",
        [types[n] for n in ("i", "condition", "before")],
        [types[n] for n in (go_on, after, total)],
        body.weights,
    )
    w.nodes.append(helper.make_node("Identity", [w.random(width, width, scale=width**-0.5)], ["kernel"]))
    trips = w.add("Squeeze", w.size("x", 0), w.integers(0))
    last, sums = w.several("Loop", 2, trips, w.constant(True, np.bool_), "h", body=graph)
    return w.model(
        "counted_loop",
        {"x": (F32, ("trips", width)), "h": (F32, (1, width))},
        {w.named(last, "last"): (F32, (1, width)), w.named(sums, "sums"): (F32, ("trips",))},
    )
