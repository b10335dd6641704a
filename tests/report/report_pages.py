"""Models whose pages the tests look at, and the pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import onnx
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from graphc.cli import main

BAD = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>&amp; $title \u2028"


def report(model: Path, *options: object, code: int = 0) -> Result:
    """Writes the model's page beside it."""
    out = model.with_suffix(".html")
    result = CliRunner().invoke(main, ["report", str(model), "-o", str(out), *map(str, options)])
    assert result.exit_code == code, result.output
    return result


def parsed(page: Path) -> Any:
    """The document, by a strict parser of HTML."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(page.read_text("utf-8"))


def data_of(page: Path) -> dict[str, Any]:
    return json.loads(parsed(page).find(".//script[@id='data']").text)


def two_blocks(folder: Path, blocks: int = 2) -> Path:
    """Blocks of a convolution, a ReLU and a pool each, by names with slashes."""
    nodes, held, last = [], [], "x"
    for i in range(blocks):
        held.append(numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32) / 36, f"w{i}"))
        nodes += [
            helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], name=f"/block{i}/conv/Conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"/block{i}/relu/Relu"),
            helper.make_node(
                "MaxPool", [f"r{i}"], [f"p{i}"], name=f"/block{i}/pool/Pool", kernel_shape=[3, 3], pads=[1] * 4
            ),
        ]
        last = f"p{i}"
    return saved(folder / "blocks.onnx", nodes, [1, 4, 8, 8], last, held)


def hostile(folder: Path) -> Path:
    """A file of a stranger, whose names would be markup."""
    nodes = [
        helper.make_node("Softmax", ["x"], [f"{BAD}v"], name=f"{BAD}/{BAD}softmax"),
        helper.make_node("Relu", [f"{BAD}v"], [f"{BAD}result"], name=f"{BAD}relu"),
    ]
    return saved(folder / "hostile.onnx", nodes, [2, 3], f"{BAD}result", [], name=BAD)


def saved(path: Path, nodes: list[Any], shape: list[int], result: str, held: list[Any], name: str = "g") -> Path:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [info("x", TensorProto.FLOAT, shape)],
        [info(result, TensorProto.FLOAT, None)],
        initializer=held,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
