"""Model files of few bits, as the tools of ONNX Runtime make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from dynamic_models import decoder
from models import Network, in_dtype, random_feeds
from onnx import helper, numpy_helper

Tool = Callable[[Path, Path], None]  # of a model without batch norms: writes another


def in_int8(network: Network, images: int = 4) -> Network:
    """QuantizeLinear and DequantizeLinear around each operator, uint8 activations with the ranges of some random inputs, int8
    weights with a scale for each channel."""
    return Network(f"{network.name}_int8", lambda: _made(network.make(), lambda x, y: _statically(x, y, images)))


def in_dynamic_int8(network: Network) -> Network:
    """int8 weights; activations are quantised as they come."""
    return Network(f"{network.name}_dynamic_int8", lambda: _made(network.make(), _dynamically))


def in_float16(network: Network) -> Network:
    """Weights, inputs, results and all between in float16."""
    return Network(f"{network.name}_float16", lambda: in_dtype(network.make(), np.float16))


def decoder_step(layers: int = 12, width: int = 768, heads: int = 12, past: int = 128, level: int = 0) -> Network:
    """One token after `past` others. Its products have 4-bit weights in blocks of 32 with a scale each. level: of accuracy, 0 to
    compute in float32, 4 to allow activations of 8 bits."""

    def make() -> onnx.ModelProto:
        model = decoder(layers, width, heads)
        sizes = {"batch": 1, "new": 1, "past": past, "total": past + 1}
        for value in (*model.graph.input, *model.graph.output):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_value = sizes.get(dim.dim_param, past + 1)
        return _in_4_bits(model, level)

    return Network(f"decoder_{layers}x{width}_int4" + (f"_level{level}" if level else ""), make)


def _made(model: onnx.ModelProto, tool: Tool) -> onnx.ModelProto:
    from graphc.frontends.onnx_export import to_onnx
    from graphc.frontends.onnx_load import load_onnx
    from graphc.pipeline import SHAPE_FREE, run

    with TemporaryDirectory() as folder:
        given, plain, made = (Path(folder) / f"{name}.onnx" for name in ("given", "plain", "made"))
        onnx.save(model, given)
        onnx.save(to_onnx(run(load_onnx(given), SHAPE_FREE)), plain)
        tool(plain, made)
        return onnx.load(made)


def _statically(plain: Path, made: Path, images: int) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    feeds = iter([random_feeds(plain, seed) for seed in range(images)])

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(plain, made, Reader(), QuantFormat.QDQ, per_channel=True, **kinds)


def _dynamically(plain: Path, made: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(plain, made, per_channel=True, weight_type=QuantType.QInt8)


def _in_4_bits(model: onnx.ModelProto, level: int, block: int = 32) -> onnx.ModelProto:
    """Products by a constant matrix [K, N] become MatMulNBits of com.microsoft: weights from -8 to 7, as 0 to 15."""
    graph = model.graph
    weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            continue
        name, w = node.input[1], weights[node.input[1]]
        k, n = w.shape
        blocks = w.T.reshape(n, k // block, block)
        scales = np.maximum(np.abs(blocks).max(-1) / 7, 1e-10)
        codes = np.clip(np.round(blocks / scales[..., None]), -8, 7).astype(np.int8) + 8
        packed = (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)
        graph.initializer.extend(
            [numpy_helper.from_array(packed, f"{name}_4"), numpy_helper.from_array(scales, f"{name}_scales")]
        )
        node.op_type, node.domain = "MatMulNBits", "com.microsoft"
        node.input[:] = [node.input[0], f"{name}_4", f"{name}_scales"]
        for key, value in {"K": k, "N": n, "bits": 4, "block_size": block, "accuracy_level": level}.items():
            node.attribute.append(helper.make_attribute(key, value))
    used = {i for node in graph.node for i in node.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model
