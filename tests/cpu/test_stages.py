"""The CPU's way from a bound graph to a program, stage by stage: what holds after each, and what a person sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from blocked_nets import Net
from click.testing import CliRunner
from nets import agree, convnet, recurrent, transformer
from passcheck import feeds as feeds_of

import graphc
from graphc import frontends, pipeline, zoo
from graphc.backend import Request, after
from graphc.backends import open_backend
from graphc.backends.cpu.stages import STAGES, Draft
from graphc.bind import bind
from graphc.cli import main
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Graph
from graphc.lower.kernel import Kernel
from graphc.lower.lowering import Lowering
from graphc.lower.storage import Ref
from graphc.segments import cut, is_static
from graphc.verify import BrokenInvariant

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"
QUICK = ("lenet5", "char_rnn", "gru_classifier", "squeezenet", "mobilenet_v3", "transformer_encoder", "dcgan_generator")
TARGETS = ("cpu", "cpu:portable")


def draft(
    graph: Graph, target: str = "cpu", threads: int = 2, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Draft:
    """Of the graph, after all passes: of the part before what only a run can tell. shapes: of inputs; else 2 for what is open."""
    backend = open_backend(target, Request(options={"threads": threads}))
    graph = pipeline.run(graph, pipeline.SHAPE_FREE)
    if shapes is None:
        shapes = {v.name: tuple(d if isinstance(d, int) else 2 for d in v.shape) for v in graph.inputs}
    types = {v.name: v.type.with_shape(shapes[v.name]) for v in graph.inputs}
    graph = pipeline.run(bind(graph, types), pipeline.bound(backend.kernel_operators()))
    return backend.draft(graph if is_static(graph) else cut(graph, backend.kernel_operators()).prefix)


def verified(d: Draft) -> Draft:
    for stage in STAGES:
        stage.run(d)
        stage.verify(d)
        assert stage.show(d)
    return d


@pytest.mark.parametrize("name", QUICK)
def test_examples(name: str):
    verified(draft(frontends.load(EXAMPLES / f"{name}.yaml")))


@pytest.mark.slow
@pytest.mark.parametrize("network", zoo.networks(), ids=lambda n: n.name)
def test_all_examples(network: zoo.Network):
    verified(draft(frontends.load(EXAMPLES / f"{network.name}.yaml"), shapes=network.shapes))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [convnet, transformer, recurrent])
def test_nets(make, target: str):
    verified(draft(make(), target))


@pytest.mark.parametrize("large", [False, True])
def test_blocked_nets(large: bool):
    for seed in range(3 if large else 25):
        verified(draft(Net(seed, large).build()))


def test_a_person_sees_each_stage():
    seen = {s.name: after(STAGES, s.name, draft(convnet())) for s in STAGES}
    assert "NCHW" in seen["layout"] and "Reorder" in seen["layout"]
    assert "Conv + Relu" in seen["fuse"]
    assert "in extern" in seen["place"]
    assert "0:" in seen["lower"] and "const 'weights'" in seen["lower"]
    assert "arena:" in seen["assemble"] and "steps 0-" in seen["assemble"]


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    onnx.save(to_onnx(frontends.load(EXAMPLES / "lenet5.yaml")), path)
    return path


@pytest.mark.parametrize("name", [s.name for s in STAGES])
@pytest.mark.parametrize("kind", ["zoo", "onnx"])
def test_the_command_line_stops_after_each_stage(kind: str, name: str, onnx_file: Path):
    """It prints what a program sees of the same stage."""
    path = EXAMPLES / "squeezenet.yaml" if kind == "zoo" else onnx_file
    command = ["compile", str(path), "--stop-after", name, "--batch", "2", "--threads", "2"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert result.output == after(STAGES, name, draft(frontends.load(path))) + "\n"


# --- what is broken is found ------------------------------------------------------------------------------------------
def broken(name: str, breaks) -> str:
    d = draft(convnet())
    for stage in STAGES:
        stage.run(d)
        if stage.name == name:
            break
    breaks(d)
    with pytest.raises(BrokenInvariant) as caught:
        stage.verify(d)
    return str(caught.value)


def test_a_node_that_is_left_out():
    assert "is in 0 groups" in broken("fuse", lambda d: d.groups.pop(3))


def test_groups_in_the_wrong_order():
    assert "which nobody has made" in broken("fuse", lambda d: d.groups.reverse())


def test_a_value_outside_of_its_buffer():
    def moved(d: Draft) -> None:
        v, s = next((v, s) for v, s in d.lowering.storage.items() if s.ref.buffer.nbytes)
        d.lowering.storage[v] = replace(s, ref=s.ref + 4)

    assert "is at bytes [4, " in broken("place", moved)


def test_an_address_outside_of_its_buffer():
    def moved(d: Draft) -> None:
        step = d.lowering.program.steps[2]
        args = tuple(Ref(a.buffer, -64) if isinstance(a, Ref) else a for a in step.args)
        d.lowering.program.steps[2] = replace(step, args=args)

    assert "byte -64 of" in broken("lower", moved)


def test_a_value_that_is_read_before_it_is_written():
    def late(d: Draft) -> None:
        steps = d.lowering.program.steps
        steps.insert(0, steps.pop())

    def nowhere(d: Draft) -> None:
        step = d.lowering.program.steps[-1]
        d.lowering.program.steps[-1] = replace(step, writes=())

    assert "which no step before it has written" in broken("lower", late)
    assert "no step writes the result" in broken("lower", nowhere)


def test_a_value_that_is_read_before_it_is_written_inside_of_a_step(monkeypatch: pytest.MonkeyPatch):
    emit = Lowering.emit

    def forgetful(lo: Lowering, kernel: Kernel, *args, **more) -> None:
        emit(lo, kernel, *args, **more)
        if kernel.name in ("conv", "clear_halo"):
            lo.program.steps[-1] = replace(lo.program.steps[-1], writes=())

    d = draft(convnet(64))
    verified(d)
    assert any(s.kernel.name == "nested" for s in d.lowering.program.steps)
    monkeypatch.setattr(Lowering, "emit", forgetful)
    with pytest.raises(BrokenInvariant, match=r"\+.*reads '.*', which no step before it has written"):
        verified(draft(convnet(64)))


def test_an_argument_block_of_another_kernel():
    def longer(d: Draft) -> None:
        step = next(s for s in d.lowering.program.steps if s.kernel.name == "conv")
        at = d.lowering.program.steps.index(step)
        d.lowering.program.steps[at] = replace(step, args=(*step.args, 0))

    assert "words are no argument block of conv" in broken("lower", longer)


def test_buffers_that_share_bytes():
    def moved(d: Draft) -> None:
        together = tuple(replace(i, offset=0) for i in d.memory.intervals)
        d.memory = replace(d.memory, intervals=together)

    assert "share bytes in steps" in broken("assemble", moved)


@pytest.mark.parametrize("make", [convnet, transformer])
def test_without_fusion_each_node_is_a_kernel(make):
    graph = make()
    feeds = feeds_of(graph)
    fused, alone = (graphc.compile(graph, threads=1, disabled=d) for d in ((), ["fusion"]))
    agree(alone.run(feeds), graphc.compile(graph, target="reference").run(feeds))
    steps = [m.plan({n: a.shape for n, a in feeds.items()}).steps for m in (fused, alone)]
    assert max(len(s.nodes) for s in steps[1]) <= 1 < max(len(s.nodes) for s in steps[0])
