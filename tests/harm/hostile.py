"""Files made by hand: each function writes what means harm into a folder and gives the path to load.

The folder has a neighbour, `outside`, with a secret that must not be read.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .corpus import network, onnx_model
from .mutate import NUMBERS, varint

Maker = Callable[[Path, random.Random], Path]
KINDS: dict[str, Maker] = {}
node, info = helper.make_node, helper.make_tensor_value_info
F, I = TensorProto.FLOAT, TensorProto.INT64


def kind(maker: Maker) -> Maker:
    KINDS[maker.__name__] = maker
    return maker


def _onnx(here: Path, model: onnx.ModelProto | bytes) -> Path:
    path = here / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def _yaml(here: Path, text: str | bytes) -> Path:
    path = here / "model.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _model(nodes, inputs=None, functions=(), opsets=None, outputs=("y",), **initializers) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in initializers.items()]
    inputs = [info("x", F, [3])] if inputs is None else inputs
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=n) for n in outputs], tensors)
    made = [helper.make_opsetid(d, v) for d, v in (opsets or {"": 18, "own": 1}).items()]
    return helper.make_model(graph, opset_imports=made, ir_version=8, functions=functions)


# --- the wire format --------------------------------------------------------------------------------------------------
@kind
def lying_length(here: Path, rng: random.Random) -> Path:
    """A field that says it is longer than the file, or than any file."""
    data = network().SerializeToString()
    length = rng.choice((len(data) + 1, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, (1 << 64) - 1))
    return _onnx(here, varint(7 << 3 | 2) + varint(length) + data)


@kind
def nested_fields(here: Path, rng: random.Random) -> Path:
    """A graph within an attribute within a node within a graph …, by the thousand."""
    body, depth = b"", rng.choice((20, 60, 90, 101, 500, 4000))
    for _ in range(depth):
        for number in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            body = varint(number << 3 | 2) + varint(len(body)) + body
    return _onnx(here, varint(7 << 3 | 2) + varint(len(body)) + body)


@kind
def groups(here: Path, rng: random.Random) -> Path:
    """Wire types 3 and 4, which ONNX has no fields of; unknown fields by the thousand."""
    return _onnx(
        here, network().SerializeToString() + rng.choice((b"\x7b", b"\x7b\x7c", b"\x7b" * 9999, b"\xf8\x7f\x01" * 9999))
    )


@kind
def two_graphs(here: Path, rng: random.Random) -> Path:
    """A message that comes twice is merged: the weights that were read apart must not go astray."""
    one = network().SerializeToString()
    return _onnx(here, one + rng.choice((one, onnx_model(rng).SerializeToString())))


@kind
def not_a_model(here: Path, rng: random.Random) -> Path:
    data = rng.choice(
        (
            b"",
            b"\0" * 4096,
            b"PK\x03\x04" + bytes(99),
            b"version https://git-lfs",
            rng.randbytes(999),
            b"\x80\x04K\x01.",
            b"<html>",
        )
    )
    path = here / rng.choice(("model.onnx", "model.pb", "model.yaml", "model.yml", "model.txt", "model"))
    path.write_bytes(data)
    return path


@kind
def no_file(here: Path, rng: random.Random) -> Path:
    name = rng.choice(
        (
            "none.onnx",
            "none.yaml",
            "a" * 300 + ".onnx",
            "folder.onnx",
            "loop.onnx",
            "loop.yaml",
            "folder.yaml",
            "x/y.onnx",
        )
    )
    if name.startswith("folder"):
        (here / name).mkdir()
    if name.startswith("loop"):
        (here / name).symlink_to(name)
    return here / name


@kind
def sparse_file(here: Path, rng: random.Random) -> Path:
    """Gigabytes of nothing."""
    path = here / rng.choice(("model.onnx", "model.yaml"))
    with path.open("wb") as f:
        f.write(rng.choice((b"", network().SerializeToString(), varint(7 << 3 | 2) + varint((1 << 33) - 10))))
        f.truncate(1 << 33)
    return path


# --- tensors ----------------------------------------------------------------------------------------------------------
@kind
def lying_dims(here: Path, rng: random.Random) -> Path:
    model = network()
    tensor = rng.choice(model.graph.initializer)
    tensor.dims[:] = [rng.choice(NUMBERS) for _ in range(rng.choice((1, 2, 3, 65, 2000)))]
    if rng.random() < 0.3:
        tensor.ClearField("raw_data")
    return _onnx(here, model)


@kind
def wrong_storage(here: Path, rng: random.Random) -> Path:
    """Data in fields that are not its dtype's, of both kinds, of every dtype."""
    model = network()
    tensor = rng.choice(model.graph.initializer)
    tensor.data_type = rng.choice([*TensorProto.DataType.values(), 99, -1])
    if rng.random() < 0.7:
        tensor.ClearField("raw_data")
        field = rng.choice(("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"))
        many = int(np.prod([float(d) for d in tensor.dims])) + rng.choice((0, 0, 1))
        getattr(tensor, field).extend(
            [b"\xff"] * many if field == "string_data" else [rng.choice((0, 1, 255, 70000))] * many
        )
    return _onnx(here, model)


@kind
def sparse_tensor(here: Path, rng: random.Random) -> Path:
    model = _model([node("Add", ["x", "s"], ["y"])])
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(rng.choice((0, 1, 2)), np.float32), "s"))
    sparse.indices.CopyFrom(
        numpy_helper.from_array(np.array([rng.choice(NUMBERS) for _ in range(rng.choice((0, 1, 2, 4)))], np.int64), "i")
    )
    if rng.random() < 0.3:
        sparse.indices.dims[:] = [len(sparse.indices.dims), 1]
    sparse.dims[:] = [rng.choice((3, *NUMBERS)) for _ in range(rng.choice((0, 1, 2, 70)))]
    return _onnx(here, model)


# --- external data ----------------------------------------------------------------------------------------------------
SECRET = "secret.bin"


@kind
def external_path(here: Path, rng: random.Random) -> Path:
    """`..`, absolute paths, links out of the folder, devices, pipes."""
    outside = here.parent / "outside"
    model = network()
    t = model.graph.initializer[0]
    nbytes = len(t.raw_data)
    (here / "inside.bin").write_bytes(t.raw_data)
    os.symlink(outside, here / "folder")
    os.symlink(outside / SECRET, here / "link.bin")
    os.symlink("link.bin", here / "link2.bin")
    os.mkfifo(here / "pipe")
    location = rng.choice((
        f"../outside/{SECRET}", f"./../outside/{SECRET}", f"x/../../outside/{SECRET}", str(outside / SECRET), "/etc/passwd", "/dev/zero",
        "/proc/self/mem", f"folder/{SECRET}", "link.bin", "link2.bin", "pipe", ".", "", "..", "inside.bin/", "inside.bin", "none.bin", "\0",
        f"..\\outside\\{SECRET}", "C:\\x", "a" * 5000, "//etc/passwd", f"file://{outside / SECRET}", "~/x", "$HOME/x", "model.onnx",
    ))  # fmt: skip
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "length": str(nbytes)}
    if rng.random() < 0.3:
        entries |= {"offset": rng.choice(("0", "-1", "8", "x", "", "1e9", str(1 << 62), "９", "0x10", "+0", " 0"))}
    for key, value in entries.items():
        t.external_data.add(key=key, value=value)
    if rng.random() < 0.2:
        t.external_data.add(key="location", value=f"../outside/{SECRET}")
    return _onnx(here, model)


@kind
def external_extent(here: Path, rng: random.Random) -> Path:
    """Offsets and lengths that are negative, beyond the file or no numbers; dims that say more than there is."""
    model = network()
    t = rng.choice(model.graph.initializer)
    (here / "w.bin").write_bytes(t.raw_data if rng.random() < 0.9 else b"")
    size = len(t.raw_data)
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    texts = (*map(str, NUMBERS), str(size), str(size - 1), str(size + 1), "", "x", "1.5", "0x9", "9" * 5000, "nan")
    for key, value in (
        ("location", "w.bin"),
        ("offset", rng.choice(("0", *texts))),
        ("length", rng.choice((str(size), *texts))),
    ):
        if rng.random() < 0.8:
            t.external_data.add(key=key, value=value)
    if rng.random() < 0.4:
        t.dims[:] = [rng.choice(NUMBERS) for _ in range(rng.choice((1, 2, 40)))]
    return _onnx(here, model)


@kind
def external_in_an_attribute(here: Path, rng: random.Random) -> Path:
    t = TensorProto(name="t", data_type=F, dims=[3], data_location=TensorProto.EXTERNAL)
    t.external_data.add(
        key="location", value=rng.choice((f"../outside/{SECRET}", str(here.parent / "outside" / SECRET), "none"))
    )
    model = _model([node("Constant", [], ["c"], value=t), node("Add", ["x", "c"], ["y"])])
    return _onnx(here, model)


# --- graphs -----------------------------------------------------------------------------------------------------------
@kind
def names(here: Path, rng: random.Random) -> Path:
    """Cycles, values made twice or by nobody, empty and doubled names."""
    model = _model(
        [
            node("Relu", ["x"], ["a"], name="n"),
            node("Neg", ["a"], ["b"], name="n"),
            node("Add", ["a", "b"], ["y"], name="m"),
        ]
    )
    for _ in range(rng.choice((1, 2, 3))):
        n = rng.choice(model.graph.node)
        field = rng.choice((n.input, n.output))
        if field:
            field[rng.randrange(len(field))] = rng.choice(("x", "a", "b", "y", "", "none", "x\0"))
    if rng.random() < 0.3:
        model.graph.output.add(name=rng.choice(("y", "x", "none", "")))
    if rng.random() < 0.3:
        model.graph.input.add().CopyFrom(model.graph.input[0])
    return _onnx(here, model)


@kind
def long_cycle(here: Path, rng: random.Random) -> Path:
    n = rng.choice((2, 100, 5000))
    return _onnx(
        here,
        _model([node("Add", ["x", f"v{(i + 1) % n}"], [f"v{i}"]) for i in range(n)] + [node("Relu", ["v0"], ["y"])]),
    )


@kind
def long_chain(here: Path, rng: random.Random) -> Path:
    """Thousands of nodes, each of which reads the one before twice; in reverse order."""
    n = rng.choice((50, 300))
    nodes = [node("Add", [f"v{i}", f"v{i}"], [f"v{i + 1}"]) for i in range(n)]
    return _onnx(here, _model([node("Relu", [f"v{n}"], ["y"]), *reversed(nodes), node("Neg", ["x"], ["v0"])]))


@kind
def nested_branches(here: Path, rng: random.Random) -> Path:
    inner = [node("Relu", ["x"], ["v0"])]
    depth = rng.choice((3, 10, 25, 29))
    for i in range(depth):
        body = helper.make_graph(inner, "b", [], [onnx.ValueInfoProto(name=f"v{i}")])
        if rng.random() < 0.5:
            inner = [
                node(
                    "If",
                    ["c"],
                    [f"v{i + 1}"],
                    then_branch=body,
                    else_branch=body
                    if depth < 12
                    else helper.make_graph([node("Neg", ["x"], ["e"])], "e", [], [onnx.ValueInfoProto(name="e")]),
                )
            ]
        else:
            loop = helper.make_graph(
                [node("Identity", ["go"], ["on"]), *inner],
                "l",
                [info("i", I, []), info("go", TensorProto.BOOL, [])],
                [onnx.ValueInfoProto(name="on"), onnx.ValueInfoProto(name=f"v{i}")],
            )
            inner = [
                node("Loop", ["trips", ""], [f"w{i + 1}"], body=loop),
                node("ReduceSum", [f"w{i + 1}"], [f"v{i + 1}"], keepdims=0),
            ]
    model = _model(
        [*inner, node("Identity", [f"v{depth}"], ["y"])],
        [info("x", F, [3]), info("c", TensorProto.BOOL, [])],
        trips=np.int64(2),
    )
    return _onnx(here, model)


@kind
def growing_states(here: Path, rng: random.Random) -> Path:
    """Loops and Scans within each other whose states no shape is declared for, and grow."""
    depth, op = rng.choice((3, 12, 20, 29)), rng.choice(("Loop", "Scan"))
    made: list[onnx.NodeProto] = []
    for i in range(depth):
        nodes = [*made, node("Concat", [f"v{i}" if made else f"s{i}", "x"], [f"t{i}"], axis=0)]
        if op == "Loop":
            nodes.append(node("Identity", [f"go{i}"], [f"on{i}"]))
            formal = [info(f"i{i}", I, []), info(f"go{i}", TensorProto.BOOL, []), info(f"s{i}", F, None)]
            body = helper.make_graph(nodes, "b", formal, [onnx.ValueInfoProto(name=n) for n in (f"on{i}", f"t{i}")])
            made = [node("Loop", ["trips", "", f"s{i + 1}"], [f"v{i + 1}"], body=body)]
        else:
            formal = [info(f"s{i}", F, None), info(f"e{i}", F, None)]
            body = helper.make_graph(nodes, "b", formal, [onnx.ValueInfoProto(name=f"t{i}")])
            made = [node("Scan", [f"s{i + 1}", "x"], [f"v{i + 1}"], body=body, num_scan_inputs=1)]
    start = node("Identity", ["x"], [f"s{depth}"])
    trips = np.int64(rng.choice((0, 1)))
    return _onnx(here, _model([start, *made, node("Identity", [f"v{depth}"], ["y"])], [info("x", F, [1])], trips=trips))


@kind
def multiplying_functions(here: Path, rng: random.Random) -> Path:
    """Functions that call the next one several times; functions that call each other, or themselves."""
    levels, times = rng.choice((3, 10, 40, 150)), rng.choice((1, 2, 10))
    functions = []
    for i in range(levels):
        other = f"f{i + 1}" if i + 1 < levels else rng.choice(("f0", f"f{i}", "", ""))
        calls = [
            node(other or "Relu", ["a" if k == 0 else f"t{k - 1}"], [f"t{k}"], domain="own" if other else "")
            for k in range(times)
        ]
        functions.append(
            helper.make_function(
                "own",
                f"f{i}",
                ["a"],
                [f"t{times - 1}"],
                calls,
                [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)],
            )
        )
    return _onnx(here, _model([node("f0", ["x"], ["y"], domain="own")], functions=functions))


@kind
def deep_types(here: Path, rng: random.Random) -> Path:
    """Inputs of sequences of optionals of maps of …"""
    model = _model(
        [node(rng.choice(("SequenceLength", "OptionalHasElement", "Identity", "Relu", "SequenceAt")), ["x"], ["y"])]
    )
    t = model.graph.input[0].type
    t.Clear()
    for _ in range(rng.choice((1, 2, 5, 20, 45))):
        t = rng.choice(
            (
                lambda t=t: t.sequence_type.elem_type,
                lambda t=t: t.optional_type.elem_type,
                lambda t=t: t.map_type.value_type,
            )
        )()
    t.tensor_type.elem_type = rng.choice((0, F, 99))
    return _onnx(here, model)


@kind
def odd_shapes(here: Path, rng: random.Random) -> Path:
    """Inputs of negative, huge, contradicting and named dims, of many axes; outputs that are declared otherwise."""
    model = _model(
        [node(rng.choice(("Relu", "Transpose", "Shape", "Softmax", "Flatten", "ReduceSum", "Size")), ["x"], ["y"])]
    )
    for value in (model.graph.input[0], model.graph.output[0]):
        shape = value.type.tensor_type.shape
        value.type.tensor_type.elem_type = rng.choice((F, F, I, 0, 8, 10, 14, 16, 22))
        for _ in range(rng.choice((0, 1, 2, 9, 70))):
            if rng.random() < 0.7:
                shape.dim.add(dim_value=rng.choice((1, 2, *NUMBERS)))
            else:
                shape.dim.add(dim_param=rng.choice(("n", "", "n+1", "x y", "-1", "(" * 500, "n" * 5000, "None")))
    return _onnx(here, model)


@kind
def opsets(here: Path, rng: random.Random) -> Path:
    model = onnx_model(rng)
    for _ in range(rng.choice((1, 2))):
        model.opset_import.add(
            domain=rng.choice(("", "ai.onnx", "ai.onnx.ml", "none", "com.microsoft")), version=rng.choice(NUMBERS)
        )
    if rng.random() < 0.5:
        del model.opset_import[0]
    model.ir_version = rng.choice((0, 1, 3, 8, 11, 99, -1, 1 << 62))
    return _onnx(here, model)


@kind
def metadata(here: Path, rng: random.Random) -> Path:
    """graphc's own metadata: states and labels."""
    model = network()
    texts = (
        "",
        "[",
        "{}",
        "[[]]",
        '[["a","b"]]',
        '[["s","x","y"]]',
        "[" * 5000,
        "null",
        '{"y": ["a"]}',
        '{"y": 3}',
        '{"x": ["a", "b"]}',
        "1e999",
        '[["s","x","y"],["s","x","y"]]',
    )
    for key in ("graphc.states", "graphc.labels", "labels", "classes"):
        model.metadata_props.add(key=key, value=rng.choice(texts))
    return _onnx(here, model)


# --- numbers that constants give --------------------------------------------------------------------------------------
@kind
def huge_results(here: Path, rng: random.Random) -> Path:
    """Small files whose values are larger than any memory, or nearly so."""
    big = rng.choice((1 << 28, 1 << 31, 1 << 33, 1 << 40, 1 << 62, (1 << 63) - 1, -1, 0))
    other = rng.choice((1, 2, big))
    i64 = np.int64
    name, nodes, constants = rng.choice((
        ("Expand", [node("Expand", ["x", "s"], ["y"])], {"s": i64([other, big, 3])}),
        ("Tile", [node("Tile", ["x", "s"], ["y"])], {"s": i64([big])}),
        ("Pad", [node("Pad", ["x", "s"], ["y"], mode=rng.choice(("constant", "reflect", "edge", "wrap")))], {"s": i64([big, other])}),
        ("ConstantOfShape", [node("ConstantOfShape", ["s"], ["c"]), node("Add", ["c", "x"], ["y"])], {"s": i64([big, other, 1])}),
        ("Range", [node("Range", ["a", "b", "c"], ["r"]), node("Size", ["r"], ["y"])], {"a": i64(0), "b": i64(big), "c": i64(rng.choice((1, -1, 0, 1 << 62)))}),
        ("OneHot", [node("OneHot", ["i", "d", "v"], ["y"])], {"i": i64([0, big]), "d": i64(big), "v": np.float32([0, 1])}),
        ("Reshape", [node("Reshape", ["x", "s"], ["y"])], {"s": i64([big, other])}),
        ("Loop", [node("Loop", ["n", "", "x"], ["l", "y"], body=_counting())], {"n": i64(big)}),
        ("Resize", [node("Reshape", ["x", "t"], ["i"]), node("Resize", ["i", "", "", "s"], ["y"])], {"t": i64([1, 1, 3]), "s": i64([1, 1, big])}),
        ("Slice", [node("Slice", ["x", "a", "b", "c", "d"], ["y"])], {"a": i64([big]), "b": i64([-big]), "c": i64([rng.choice((0, 1, -1, 7))]), "d": i64([rng.choice((big, other))])}),
        ("TopK", [node("TopK", ["x", "k"], ["y", "p"])], {"k": i64([big])}),
        ("Split", [node("Split", ["x", "s"], ["y", "z"])], {"s": i64([big, 3 - big if 0 <= big < 1 << 62 else 2])}),
        ("EyeLike", [node("Expand", ["x", "s"], ["e"]), node("EyeLike", ["e"], ["y"], k=big)], {"s": i64([2, 3])}),
        ("Trilu", [node("Expand", ["x", "s"], ["e"]), node("Trilu", ["e", "k"], ["y"])], {"s": i64([2, 3]), "k": i64(big)}),
        ("CumSum", [node("CumSum", ["x", "k"], ["y"])], {"k": i64(big)}),
        ("Bernoulli", [node("RandomNormal", [], ["y"], shape=[abs(other), abs(big)])], {}),
        ("HannWindow", [node("HannWindow", ["n"], ["y"])], {"n": i64(big)}),
        ("DFT", [node("Reshape", ["x", "t"], ["i"]), node("DFT", ["i", "n"], ["y"])], {"t": i64([1, 3, 1]), "n": i64(big)}),
        ("MelWeightMatrix", [node("MelWeightMatrix", ["n", "d", "r", "l", "u"], ["y"])], {"n": i64(other), "d": i64(big), "r": i64(8000), "l": np.float32(0), "u": np.float32(4000)}),
        ("Col2Im", [node("Reshape", ["x", "t"], ["i"]), node("Col2Im", ["i", "s", "b"], ["y"])], {"t": i64([1, 1, 3]), "s": i64([big, other]), "b": i64([1, other])}),
        ("MaxUnpool", [node("Reshape", ["x", "t"], ["i"]), node("MaxUnpool", ["i", "p"], ["y"], kernel_shape=[1], strides=[max(1, abs(big) % (1 << 62))])], {"t": i64([1, 1, 3]), "p": i64([[[big, 0, other]]])}),
    ))  # fmt: skip
    return _onnx(here, _model(nodes, **constants))


def _counting() -> onnx.GraphProto:
    """A loop that gives a row per trip."""
    nodes = [node("Identity", ["go"], ["on"]), node("Identity", ["v"], ["w"]), node("Expand", ["v", "wide"], ["row"])]
    inputs = [info("i", I, []), info("go", TensorProto.BOOL, []), info("v", F, [3])]
    wide = numpy_helper.from_array(np.array([1 << 18, 3], np.int64), "wide")
    return helper.make_graph(nodes, "body", inputs, [onnx.ValueInfoProto(name=n) for n in ("on", "w", "row")], [wide])


@kind
def odd_windows(here: Path, rng: random.Random) -> Path:
    """Kernels, strides, dilations, pads and groups of every size."""

    def n() -> int:
        return rng.choice((0, 1, 1, 2, 3, -1, *NUMBERS))

    op = rng.choice(("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "ConvInteger"))
    attrs = {
        k: [n() for _ in range(m)]
        for k, m in (
            ("kernel_shape", 2),
            ("strides", 2),
            ("dilations", 2),
            ("pads", 4),
            ("output_padding", 2),
            ("output_shape", 2),
        )
        if rng.random() < 0.3
    }
    attrs |= {k: n() for k in ("group", "ceil_mode", "p", "storage_order") if rng.random() < 0.2}
    attrs |= {"auto_pad": rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID", "x"))} if rng.random() < 0.2 else {}
    operands = ["x"] if "Pool" in op else ["x", "w"]
    dtype = np.uint8 if op == "ConvInteger" else np.float32
    model = _model(
        [node(op, operands, ["y"], **attrs)],
        [info("x", TensorProto.UINT8 if dtype is np.uint8 else F, [1, 2, 5, 6])],
        w=np.ones((2, rng.choice((1, 2)), 3, 3), dtype),
    )
    return _onnx(here, model)


# --- YAML -------------------------------------------------------------------------------------------------------------
NET = "name: m\ninputs: {x: float32[n, 4]}\nlayers:\n"


@kind
def yaml_bomb(here: Path, rng: random.Random) -> Path:
    """Aliases of aliases, items by the million, nesting."""
    n = rng.choice((3, 12, 200, 5000, 200_000))
    laughs = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else '1'}]\n" for i in range(min(n, 40)))
    return _yaml(here, rng.choice((
        laughs, "[" * n, "{a: " * n, "- " * n, "a: " * n, "&a [*a]", "a: &a {b: *a}", "? " * n, "- x\n" * n, "x" * n, "'" * n,
        f"{NET}  - dense: {'9' * n}\n", f"{NET}  - dense: {'(' * n}4{')' * n}\n", f"{NET}  - dense: {'-' * n}4\n", f"{NET}  - dense: {'2**' * n}2\n",
        f"{NET}  - dense: {'n+' * n}2\n", "\ufeff" * 3, "%YAML 9.9\n---\n", "!!python/object/apply:os.system ['true']", "--- a\n--- b", "<<: {a: b}", "\t" * n, "*" * n,
    )))  # fmt: skip


@kind
def yaml_repeats(here: Path, rng: random.Random) -> Path:
    """Blocks that repeat blocks that repeat …"""
    n, depth = rng.choice((1, 3, 1000, 10**6, 10**12, -1, 0)), rng.choice((1, 3, 12, 60))
    blocks = "".join(f"  b{i}:\n    - repeat: {n}\n      layers: [b{i + 1}]\n" for i in range(depth))
    last = rng.choice(("    - relu\n", "    - b0\n", f"    - b{depth}\n"))
    return _yaml(here, f"name: m\nblocks:\n{blocks}  b{depth}:\n{last}inputs: {{x: float32[n, 4]}}\nlayers:\n  - b0\n")


@kind
def yaml_repeat_form(here: Path, rng: random.Random) -> Path:
    """The repeat of the language's own form, and sizes of layers."""
    n = rng.choice((0, -1, 3, 1000, 10**5, 10**6, 10**9, 10**18, 10**40))
    step = rng.choice(
        (
            f"repeat: {n}\n    do: [relu]",
            f"repeat: {n}\n    body: [relu]",
            f"dense: {n}",
            f"conv: {{filters: {n}, kernel: {n}}}",
            f"reshape: [{n}, {n}]",
            f"tile: {n}",
            f"pad: {n}",
            f"upsample: {n}",
            f"embedding: {{vocabulary: {n}, size: {n}}}",
            f"lstm: {n}",
        )
    )
    return _yaml(here, f"{NET}  - {step}\n")


@kind
def yaml_includes(here: Path, rng: random.Random) -> Path:
    outside = here.parent / "outside"
    (outside / "secret.yaml").write_text("blocks:\n  secret:\n    - relu\n")
    os.symlink(outside / "secret.yaml", here / "link.yaml")
    os.symlink(outside, here / "folder")
    name = rng.choice(
        (
            "model.yaml",
            "a.yaml",
            "../outside/secret.yaml",
            str(outside / "secret.yaml"),
            "link.yaml",
            "folder/secret.yaml",
            "/dev/zero.yaml",
            "none.yaml",
            ".yaml",
            "x/../../outside/secret.yaml",
            "",
            "~",
            "a.yaml\\0",
        )
    )
    others = rng.choice((2, 5, 300))
    for i in range(others):
        (here / f"a{i or ''}.yaml").write_text(
            f"include: [a{i + 1}.yaml, a{min(i + 2, others - 1)}.yaml]\nblocks:\n  s{i}:\n    - relu\n"
        )
    (here / f"a{others}.yaml").write_text(rng.choice(("include: a.yaml\n", "blocks:\n  secret:\n    - relu\n")))
    return _yaml(here, f"include: {name!r}\n{NET}  - secret\n")


@kind
def yaml_weights(here: Path, rng: random.Random) -> Path:
    """Files of weights and labels outside the folder, or damaged: archives that hold pickles, safetensors that lie."""
    outside = here.parent / "outside"
    os.symlink(outside / SECRET, here / "link.safetensors")
    (here / "p.npz").write_bytes(rng.choice((b"PK\x05\x06" + bytes(18), b"", rng.randbytes(99))))
    np.savez(here / "objects.npz", **{"dense.weight": np.array([{}], object)})
    header = rng.choice(
        (
            "{}",
            "{" * 999,
            '{"dense.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 999999999999]}}',
            '{"dense.weight": {"dtype": "F32", "shape": [-1], "data_offsets": [-4, 0]}}',
            '{"a": 1}',
            "[]",
        )
    ).encode()
    (here / "w.safetensors").write_bytes(
        struct.pack("<Q", rng.choice((len(header), 1 << 62, 0, len(header) + 1))) + header
    )
    name = rng.choice(
        (
            f"../outside/{SECRET}",
            str(outside / SECRET),
            "link.safetensors",
            "p.npz",
            "objects.npz",
            "w.safetensors",
            "none.npz",
            "../outside/x.npz",
        )
    )
    key = rng.choice(("weights", "weights", "labels"))
    return _yaml(here, f"{NET}  - dense: 4\n{key}: {name!r}\n")
