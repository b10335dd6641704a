"""What a box and an edge say: the attributes that matter of an operator, and types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.draw.text import shortened
from graphc.graph import Graph, Node, Value
from graphc.objects import is_object
from graphc.op import REQUIRED
from graphc.types import dtype_name

_LONGEST_SIZE = 16


def type_text(value: Value) -> str:
    """'batch×64×56×56'; the dtype before it where it is not float32, '' where the type is not known."""
    if value.type is None:
        return ""
    if is_object(value.type):
        return shortened(str(value.type))
    dtype = "" if value.dtype == np.float32 else dtype_name(value.dtype)
    return shortened(f"{dtype} {_times(value.shape) or ('' if dtype else 'scalar')}".strip())


def details(node: Node) -> str:
    """The attributes that matter, as 'kernel, channels, stride' of a convolution."""
    try:
        found = _DETAILS.get(node.op.name, _plain)(node)
    except (LookupError, TypeError, ValueError):  # an operand whose rank or value is not known
        found = []
    return shortened(", ".join(part for part in found if part))


def _times(sizes: Sequence[Any]) -> str:
    return "×".join(_size(str(s)) for s in sizes)


def _size(text: str) -> str:
    """One that follows from data has a name that says from which, and fills the picture."""
    if len(text) > _LONGEST_SIZE:
        return "…"
    return f"({text})" if " " in text else text


def _constant(node: Node, i: int) -> np.ndarray | None:
    v = node.inputs[i] if i < len(node.inputs) else None
    return None if v is None else v.data


def _steps(name: str, values: Sequence[int] | None, usual: int = 1) -> str:
    """'stride 2', 'stride 2×1', or '' for the usual one."""
    if not values or all(v == usual for v in values):
        return ""
    return f"{name} {values[0] if len(set(values)) == 1 else _times(values)}"


def _named(node: Node, key: str, text: str = "") -> str:
    """'axis 1'; '' where the attribute is what it is by default."""
    value, spec = node.attrs.get(key), node.op.attrs.get(key)
    if value is None or spec is None or isinstance(value, (Graph, np.ndarray)):
        return ""
    if spec.default is not REQUIRED and value == spec.default:
        return ""
    word = text or key.replace("_", " ")
    if spec.type is bool:
        return word if value else f"no {word}"
    if isinstance(value, tuple):
        value = " ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in value)
    return f"{word} {value:.3g}" if isinstance(value, float) else f"{word} {value}"


def _conv(node: Node) -> list[str]:
    transposed = node.op.name == "ConvTranspose"
    at = 3 if node.op.name == "QLinearConv" else 1
    weights = node.inputs[at]
    assert weights is not None
    group = node.attrs.get("group", 1)
    out = weights.shape[1] * group if transposed else weights.shape[0]
    return [
        _times(weights.shape[2:]),
        str(out),
        _steps("stride", node.attrs.get("strides")),
        _steps("dilation", node.attrs.get("dilations")),
        f"{group} groups" if group != 1 else "",
    ]


def _pool(node: Node) -> list[str]:
    return [_times(node.attrs["kernel_shape"]), _steps("stride", node.attrs.get("strides"))]


def _product(node: Node) -> list[str]:
    weights = node.inputs[1]
    if weights is None or len(weights.shape) != 2:
        return []
    sizes = weights.shape[::-1] if node.attrs.get("transB") else weights.shape
    return [f"{sizes[0]} → {sizes[1]}"]


def _gather(node: Node) -> list[str]:
    table = _constant(node, 0)
    return [_times(table.shape) if table is not None and table.ndim > 1 else _named(node, "axis")]


def _axes(node: Node) -> list[str]:
    axes = _constant(node, 1)
    if axes is None or not axes.size:
        return _plain(node)
    return [f"ax{'e' if axes.size > 1 else 'i'}s {' '.join(map(str, axes.reshape(-1)))}"]


def _arithmetic(node: Node) -> list[str]:
    """The number beside the other operand, where it is one: '0.5', or '1 - x'."""
    for i in (0, 1):
        n = _constant(node, i)
        if n is not None and n.size == 1 and n.dtype.kind in "fiu":
            number = f"{n.reshape(()).item():.4g}"
            return [f"{number} {_SIGNS[node.op.name]} x" if i == 0 and node.op.name in _SIGNS else number]
    return _plain(node)


_SIGNS = {"Sub": "-", "Div": "/", "Pow": "^", "Mod": "%"}
_SIGNS |= {"Greater": ">", "GreaterOrEqual": ">=", "Less": "<", "LessOrEqual": "<="}


def _clip(node: Node) -> list[str]:
    low, high = _constant(node, 1), _constant(node, 2)
    return [" to ".join("…" if bound is None else f"{bound.item():.4g}" for bound in (low, high))]


def _cast(node: Node) -> list[str]:
    return [f"to {dtype_name(node.attrs['to'])}"]


def _recurrent(node: Node) -> list[str]:
    weights = node.inputs[2]
    assert weights is not None
    direction = node.attrs.get("direction", "forward")
    return [f"{weights.shape[2]} hidden", direction if direction != "forward" else ""]


def _resize(node: Node) -> list[str]:
    scales = _constant(node, 2)
    factors = [] if scales is None else [f"{f:.3g}" for f in scales[2:]]
    return [_times(factors) and f"by {_times(sorted(set(factors)))}", _named(node, "mode")]


def _plain(node: Node) -> list[str]:
    """Attributes that are not what they are by default, two at most."""
    return [text for key in node.op.attrs if key not in _DULL and (text := _named(node, key))][:2]


_DULL = {
    "pads",
    "auto_pad",
    "epsilon",
    "momentum",
    "training_mode",
    "ceil_mode",
    "allowzero",
    "alpha",
    "beta",
    "transA",
}
_DULL |= {"transB", "to", "dtype", "stash_type", "output_shape", "kernel_shape", "keepdims", "noop_with_empty_axes"}
_DULL |= {"exact", "num_outputs"}
_DETAILS: dict[str, Callable[[Node], list[str]]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv"), _conv),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "MaxUnpool"), _pool),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger"), _product),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Equal")
        + ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        _arithmetic,
    ),
    **dict.fromkeys(
        [f"Reduce{name}" for name in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")]
        + ["Squeeze", "Unsqueeze"],
        _axes,
    ),
    "Gather": _gather,
    "Clip": _clip,
    "Cast": _cast,
    "Resize": _resize,
    "LeakyRelu": lambda node: [_named(node, "alpha")],
    "Elu": lambda node: [_named(node, "alpha")],
    "Gelu": lambda node: [_named(node, "approximate")],
    "Transpose": lambda node: [" ".join(map(str, node.attrs["perm"] or ()))],
}
