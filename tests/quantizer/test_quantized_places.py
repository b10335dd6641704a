"""Which nodes and values become integers, and what the graph with them looks like."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from quantized_nets import NETS, Net, data, net

import graphc
from graphc.backend import Request
from graphc.backends import open_backend
from graphc.graph import Graph, Value
from graphc.pipeline import PORTABLE, run, shape_free
from graphc.quantizer import Scheme
from graphc.quantizer.placement import Placement, placed
from graphc.verify import verify

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def placement(graph: Graph, **scheme) -> Placement:
    return placed(run(graph, PORTABLE), Scheme(**scheme))


def ops(graph: Graph) -> Counter:
    return Counter(n.op.name for n in graph.nodes)


def in_integers(graph: Graph) -> Counter:
    """What the CPU computes of it."""
    kernels = open_backend("cpu", Request(options={})).kernel_operators()
    return ops(run(graph, shape_free(kernels), verify=True))


# operators that compute with integers, and of these what the CPU makes of convolutions and products
EXPECTED = {
    "residual": ({"Conv": 4, "Add": 1}, {"ConvInteger": 4}),
    "inception": ({"Conv": 4, "Concat": 1}, {"ConvInteger": 4}),
    "squeezed": ({"Conv": 5, "Mul": 2, "Sigmoid": 2, "GlobalAveragePool": 1}, {"ConvInteger": 6}),  # and the mean
    "classifier": ({"Conv": 2, "AveragePool": 1, "Gemm": 2}, {"ConvInteger": 3, "MatMulInteger": 2}),
    "decoder": ({"Conv": 2, "ConvTranspose": 1, "Add": 1}, {"ConvInteger": 2, "ConvTranspose": 1}),
    "transformer": ({"MatMul": 6}, {"MatMulInteger": 6, "MatMul": 2}),
    "dense": ({"Conv": 4, "Mul": 2, "Concat": 2}, {"ConvInteger": 4}),
    "clipped": ({"Conv": 3, "LeakyRelu": 1}, {"ConvInteger": 3}),
}


@pytest.mark.parametrize("name", NETS)
def test_layers(name: str):
    wanted, integers = EXPECTED[name]
    graph = net(name)
    assert Counter(n.op.name for n in placement(graph).layers) == wanted
    made = graphc.quantize(graph, data(graph, 4), threads=1)
    verify(made.graph)
    assert [layer.op for layer in made.report.layers] == [n.op.name for n in placement(graph).layers]
    found = in_integers(made.graph)
    products = ("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger")
    assert {op: found[op] for op in products if found[op]} == integers
    assert made.graph.inputs == graph.inputs and made.graph.output_names == graph.output_names


def test_no_feature_map_between_convolutions_is_in_float():
    """Of a residual network every value behind the first QuantizeLinear is bytes when it leaves a kernel."""
    graph = net("residual")
    made = graphc.quantize(graph, data(graph, 2), threads=1)
    steps = graphc.compile(made.graph, threads=1).plan({"x": (2, 3, 8, 8)}).steps
    kernels = [s for s in steps if s.kernel.startswith("byte_conv")]
    assert len(kernels) == 4
    assert all(s.ops[-4:] == ("Round", "Add", "Clip", "Cast") for s in kernels[:-1]), [s.ops for s in kernels]
    others = {s.kernel for s in steps if s not in kernels}
    assert others == {"map", "byte_border", "copy_strided"}  # the input's bytes, borders, and the result


def test_moves_share_a_scale():
    graph = net("classifier")
    made = graphc.quantize(graph, data(graph, 4), threads=1).graph
    scales = {n.output.name: n.inputs[1] for n in made.nodes if n.op.name == QUANTIZE}
    makers = made.producers()
    for node in made.nodes:
        if node.op.name == QUANTIZE and makers.get(node.inputs[0]) is not None:
            moved = makers[node.inputs[0]]
            if moved.op.name in ("MaxPool", "Reshape", "Flatten"):
                assert scales[node.output.name] is makers[moved.inputs[0]].inputs[1]
    assert len({*scales.values()}) == len(scales) - 2


def test_results_stay_in_float():
    graph = net("residual")
    made = graphc.quantize(graph, data(graph, 4), threads=1).graph
    assert made.producers()[made.outputs[0]].op.name == "Conv"


def test_what_float_operators_make_they_read_in_float():
    """The mean of the image, which a convolution reads as bytes."""
    graph = net("clipped")
    made = graphc.quantize(graph, data(graph, 4), threads=1).graph
    largest = next(n for n in made.nodes if n.op.name == "ReduceMax")
    assert largest.inputs[0] is made.inputs[0]


def test_kept_layers_and_what_becomes_of_their_values():
    graph = net("residual")
    for n in placement(graph).layers:
        made = graphc.quantize(graph, data(graph, 2), keep=[n.name], threads=1)
        verify(made.graph)
        assert [layer.name for layer in made.report.kept] == [n.name]
    convs = [n.name for n in placement(graph).layers if n.op.name == "Conv"]
    made = graphc.quantize(graph, data(graph, 2), keep=convs[1:] + ["Add"], threads=1)
    assert ops(made.graph)[QUANTIZE] == 2  # what the first reads and makes
    assert in_integers(made.graph)["ConvInteger"] == 1


@pytest.mark.parametrize("per_channel", [True, False])
def test_forms(per_channel: bool):
    """Weights in int8 with scales along output channels, biases in int32, activations in uint8."""
    graph = net("decoder")
    made = graphc.quantize(graph, data(graph, 2), per_channel=per_channel, threads=1).graph
    makers = made.producers()
    seen = set()
    for node in made.nodes:
        if node.op.name not in ("Conv", "ConvTranspose"):
            continue
        seen.add(node.op.name)
        x, w, bias = (makers[v] for v in node.inputs)
        axis = 0 if node.op.name == "Conv" else 1
        assert {n.op.name for n in (x, w, bias)} == {DEQUANTIZE}
        assert x.inputs[0].dtype == np.uint8 and w.inputs[0].dtype == np.int8 and bias.inputs[0].dtype == np.int32
        assert w.inputs[1].shape == ((w.inputs[0].shape[axis],) if per_channel else ())
        assert not w.inputs[2].data.any() and (not per_channel or w.attrs["axis"] == axis)
        group = node.attrs["group"] if per_channel else 1
        scale = np.tile(x.inputs[1].data * w.inputs[1].data, group if w.inputs[1].shape else ())
        np.testing.assert_array_equal(bias.inputs[1].data, scale)
    assert seen == {"Conv", "ConvTranspose"}


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_activations(dtype: str, symmetric: bool):
    graph = net("residual")
    made = graphc.quantize(graph, data(graph, 2), activations=dtype, symmetric=symmetric, threads=1)
    zeros = [n.inputs[2].data for n in made.graph.nodes if n.op.name == QUANTIZE]
    assert {z.dtype.name for z in zeros} == {dtype}
    assert not symmetric or {int(z) for z in zeros} == {128 if dtype == "uint8" else 0}
    assert in_integers(made.graph)["ConvInteger"] == 4
    assert made.report.error < 0.05


def test_a_bias_that_is_large_beside_the_weights():
    """Its codes fit into int32, as the scale of its weights is raised."""
    b = Net()
    w = np.full((2, 3, 1, 1), 1e-9, np.float32)
    w[0] = 1
    y = b.add("Conv", b.image(), b.constant(w), b.constant([0.5, 1000], np.float32))
    graph = b.build({"y": y})
    x = data(graph, 4)
    made = graphc.quantize(graph, x, threads=1)
    y = graphc.compile(made.graph, threads=1)(x)
    np.testing.assert_allclose(y[:, 1], 1000, rtol=1e-5)
    codes = next(n.inputs[0].data for n in made.graph.nodes if n.inputs[0].dtype == np.int32)
    assert 2**30 < codes[1] < 2**31 - 1


@pytest.mark.parametrize(
    "form",
    ["transA", "alpha", "bias of rows", "scalar bias", "stack", "weights first", "computed weights"],
)
def test_forms_of_products(form: str):
    """What has no equivalent in integers stays in float, and what has one agrees with the float model."""
    b = Net()
    x = b.input("x", np.float32, (4, 4))
    w, bias = b.weights(4, 4), b.weights(4)

    def made() -> Value:
        if form == "transA":
            return b.add("Gemm", x, w, bias, transA=True)
        if form == "alpha":
            return b.add("Gemm", x, w, bias, alpha=0.5)
        if form == "bias of rows":
            return b.add("Gemm", x, w, b.weights(4, 1))
        if form == "scalar bias":
            return b.add("Gemm", x, w, b.constant(0.25, np.float32))
        if form == "stack":
            return b.add("MatMul", x, b.weights(3, 4, 4))
        if form == "weights first":
            return b.add("MatMul", w, x)
        return b.add("MatMul", x, b.add("Add", x, w))

    y = b.add(
        "Gemm",
        b.relu(made()) if form != "stack" else b.add("ReduceSum", made(), b.constant([0], np.int64), keepdims=False),
        w,
    )
    graph = b.build({"y": y})
    counts = {"bias of rows": 2, "scalar bias": 2, "alpha": 2}  # which the passes multiply into the weights
    assert len(placement(graph).layers) == counts.get(form, 1)
    sample = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    result = graphc.quantize(graph, sample, threads=1)
    verify(result.graph)
    assert result.report.error < 0.05


def test_weights_that_two_layers_share():
    b = Net()
    x = b.image(4)
    w = b.weights(4, 4, 1, 1)
    y = b.add("Conv", b.relu(b.add("Conv", x, w)), w)
    graph = b.build({"y": y})
    made = graphc.quantize(graph, data(graph, 2), threads=1)
    assert sum(v.dtype == np.int8 and v.data.ndim == 4 for v in made.graph.constants()) == 1
    assert made.report.error < 0.05


def test_names_that_are_taken():
    b = Net()
    x = b.image()
    y = b.add("Relu", b.conv(x, 4), name="x_quantized", outputs=["x_scale"])
    graph = b.build({"x_dequantized": b.add("Conv", y, b.weights(2, 4, 1, 1), outputs=["x_zero_point"])})
    made = graphc.quantize(graph, data(graph, 2), threads=1)
    verify(made.graph)
    assert made.graph.output_names == ("x_dequantized",)
