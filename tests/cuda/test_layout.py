"""Where images have their channels innermost in memory: what is copied between convolutions, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc import frontends, pipeline
from graphc.backend import Request
from graphc.backends import open_backend
from graphc.backends.cuda.conv import tensor_conv
from graphc.backends.cuda.product.costs import Choice
from graphc.bind import bind
from graphc.graph import Builder, Graph, Value
from graphc.lower.program import HostStep, Step
from graphc.report import StepInfo

TARGET = "cuda:emulate"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, accesses out of bounds and reads of what nobody wrote are errors; every convolution that can is on tensor cores."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    monkeypatch.setattr(tensor_conv, "choices_of", lambda *_: [Choice(tensor_conv.TILES[4][1], 1, 0, 0, 0)])


def weights(b: Builder, *shape: int) -> Value:
    scale = (3 / np.prod(shape[1:])) ** 0.5
    return b.constant(np.random.default_rng([len(b.nodes), *shape]).uniform(-scale, scale, shape), np.float32)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def copies(graph: Graph, *shape: int) -> list[StepInfo]:
    """Steps that only move elements; the results were compared with the reference."""
    model, feeds = graphc.compile(graph, target=TARGET), {"x": random(*shape)}
    want = graphc.compile(graph, target="reference").run(feeds)
    for name, y in model.run(feeds).items():
        np.testing.assert_allclose(y, want[name], rtol=0, atol=1e-5 * np.abs(want[name]).max())
    return [s for s in model.plan().steps if s.kernel.startswith("copy")]


def conv(b: Builder, x: Value, outputs: int, kernel: int = 3, **attrs: object) -> Value:
    group = int(attrs.get("group", 1))  # type: ignore[call-overload]
    w = weights(b, outputs, int(x.shape[1]) // group, kernel, kernel)
    return b.add("Conv", x, w, pads=[kernel // 2] * 4, **attrs)


def pool(b: Builder, x: Value, op: str = "MaxPool") -> Value:
    return b.add(op, x, kernel_shape=[2, 2], strides=[2, 2])


def split(b: Builder, x: Value) -> Sequence[Value]:
    """ShuffleNet's: one half of the channels as it is."""
    left, right = b.add("Split", x, axis=1, num_outputs=2, outputs=2)
    return left, conv(b, right, 4)


def resize(b: Builder, x: Value, mode: str) -> Value:
    return b.add("Resize", x, None, b.constant(np.array([1, 1, 2, 2], np.float32)), mode=mode)


def scaled(b: Builder, x: Value) -> Value:
    """A squeeze and excitation."""
    return b.add("Mul", x, b.add("Sigmoid", b.add("Conv", b.add("GlobalAveragePool", x), weights(b, 8, 8, 1, 1))))


BETWEEN: dict[str, Callable[[Builder, Value], Value]] = {
    "nothing": lambda b, x: x,
    "a function": lambda b, x: b.add("Tanh", b.add("Relu", x)),
    "a channel's number": lambda b, x: b.add("Relu", b.add("Mul", x, weights(b, 8, 1, 1))),
    "a row's number": lambda b, x: b.add("Relu", b.add("Mul", x, weights(b, 1, 8))),
    "a maximum": pool,
    "an average": lambda b, x: pool(b, x, "AveragePool"),
    "nearest neighbours": lambda b, x: resize(b, x, "nearest"),
    "interpolation": lambda b, x: resize(b, x, "linear"),
    "depthwise": lambda b, x: conv(b, x, 8, group=8),
    "pointwise": lambda b, x: conv(b, x, 24, 1),
    "groups": lambda b, x: conv(b, x, 12, group=2),
    "pointwise groups": lambda b, x: conv(b, x, 12, 1, group=2),
    "a concatenation": lambda b, x: b.add("Concat", conv(b, x, 4), x, conv(b, x, 8, 1), axis=1),
    "nested concatenations": lambda b, x: b.add("Concat", b.add("Concat", x, conv(b, x, 4), axis=1), conv(b, x, 4), axis=1),
    "a split": lambda b, x: b.add("Add", *(conv(b, part, 8) for part in split(b, x))),
    "a residual": lambda b, x: b.add("Relu", b.add("Add", conv(b, x, 8), x)),
    "a scale": scaled,
    "channels in another order": lambda b, x: b.add("ChannelShuffle", x, groups=2),
    "space to depth": lambda b, x: b.add("SpaceToDepth", x, blocksize=2),
    "depth to space": lambda b, x: b.add("DepthToSpace", conv(b, x, 16), blocksize=2),
    "padding": lambda b, x: b.add("Pad", x, b.constant(np.array([0, 0, 1, 2, 0, 0, 0, 1])), mode="reflect"),
    "a transposed convolution": lambda b, x: b.add("ConvTranspose", x, weights(b, 8, 4, 2, 2), strides=[2, 2]),
}  # fmt: skip
MOVES = {"channels in another order", "space to depth", "depth to space", "nearest neighbours", "padding"}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", BETWEEN)
def test_nothing_is_copied_between_convolutions(name: str, batch: int, checked: None):
    """But the input, which is the caller's, and what moves elements by itself."""
    b = Builder("net")
    x = conv(b, b.input("x", np.float32, (batch, 3, 8, 8)), 8)
    y = conv(b, BETWEEN[name](b, x), 8)
    assert len(copies(b.build({"y": b.add("GlobalAveragePool", y)}), batch, 3, 8, 8)) == 1 + (name in MOVES)


ENDS: dict[str, tuple[int, Callable[[Builder, Value], Value]]] = {
    "a result": (0, lambda b, x: x),
    "a dense layer": (0, lambda b, x: b.add("MatMul", b.add("Flatten", x), weights(b, 8 * 36, 5))),
    "both": (1, lambda b, x: b.add("Concat", b.add("Flatten", conv(b, x, 8)), b.add("Flatten", x), axis=1)),
    "channels": (0, lambda b, x: b.add("ReduceMax", x, b.constant(np.array([1])))),
    "columns": (0, lambda b, x: b.add("ReduceSum", x, b.constant(np.array([2])))),
    "softmax": (0, lambda b, x: b.add("Softmax", x, axis=1)),
    "channels at the end": (0, lambda b, x: b.add("Sigmoid", b.add("Transpose", x, perm=[0, 2, 3, 1]))),
    "a slice": (0, lambda b, x: b.add("Slice", x, *(b.constant(np.array(n)) for n in ([1], [7], [1], [2])))),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_what_reads_rows_gets_rows(name: str, checked: None):
    """Directly from the convolution, where it is the only reader."""
    most, end = ENDS[name]
    b = Builder("net")
    x = conv(b, conv(b, b.input("x", np.float32, (2, 8, 6, 6)), 16), 8)
    found = copies(b.build({"y": end(b, x)}), 2, 8, 6, 6)
    assert len([s for s in found if s.ops[0] not in ("Concat", "Slice")]) == 1 + most


def test_results_that_convolutions_read_are_the_callers(checked: None):
    b = Builder("net")
    x = conv(b, b.input("x", np.float32, (1, 8, 6, 6)), 8)
    assert len(copies(b.build({"x1": x, "y": conv(b, x, 8)}), 1, 8, 6, 6)) == 2


def test_channels_at_the_end_are_innermost(checked: None):
    """Of graphs whose images are [N, H, W, C], and are transposed around convolutions."""
    b = Builder("net")
    x = b.add("Transpose", b.add("Abs", b.input("x", np.float32, (2, 6, 7, 8))), perm=[0, 3, 1, 2])
    y = b.add("Transpose", conv(b, x, 4), perm=[0, 2, 3, 1])
    y = b.add("Transpose", b.add("Softmax", y), perm=[0, 3, 1, 2])
    assert not copies(b.build({"y": b.add("GlobalAveragePool", conv(b, y, 4))}), 2, 6, 7, 8)


def test_odd_channels(checked: None):
    """Pixels that do not begin at multiples of 16 bytes are copied to where they do."""
    b = Builder("net")
    x = conv(b, b.input("x", np.float32, (2, 3, 6, 6)), 7)
    assert len(copies(b.build({"y": conv(b, x, 5)}), 2, 3, 6, 6)) == 2


def steps_of(name: str, batch: int) -> Sequence[Step | HostStep]:
    """Of an example, after all stages, each of which was verified."""
    backend = open_backend("cuda", Request(options={"arch": "sm_90"}))
    graph = pipeline.run(frontends.load(EXAMPLES / f"{name}.yaml"), pipeline.SHAPE_FREE)
    types = {v.name: v.type.with_shape([d if isinstance(d, int) else batch for d in v.shape]) for v in graph.inputs}
    draft = backend.draft(
        pipeline.run(bind(graph, types), pipeline.bound(backend.kernel_operators(), backend.compiles))
    )
    for stage in backend.stages():
        stage.run(draft)
        stage.verify(draft)
    return draft.lowering.program.steps


@pytest.mark.sample(4)
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", ["resnet50", "squeezenet", "unet", "mobilenet_v2", "densenet121", "googlenet"])
def test_networks_copy_their_input_at_most(name: str, batch: int):
    moved = [s.info for s in steps_of(name, batch) if s.info.kernel.startswith("copy")]
    assert [i.output for i in moved] in ([], ["image"]), moved
