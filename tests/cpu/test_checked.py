"""GRAPHC_CHECK=memory: a run that looks at every step finds what is planted, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from nets import convnet, recurrent, transformer, weights
from scripts import run_script, start_script

import graphc
from graphc.backends.cpu import stages
from graphc.backends.cpu.checked import values, wanted
from graphc.backends.cpu.checked.guard import HOLE, PAGE, Memory, Watch, spread
from graphc.backends.cpu.checked.values import CheckFailed
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.errors import InputError
from graphc.graph import Builder, Graph
from graphc.lower import lowering, movement
from graphc.lower.kernel import Kernel
from graphc.lower.lowering import Lowering
from graphc.lower.storage import Piece, Ref, Storage
from graphc.types import dtype_from_name

F32 = np.float32
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def checked(monkeypatch: Patch) -> None:
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


def feeds_of(graph: Graph, **sizes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    shapes = {v.name: [d if isinstance(d, int) else sizes[str(d)] for d in v.shape] for v in graph.inputs}
    return {name: rng.standard_normal(shape).astype(F32) for name, shape in shapes.items()}


# --- what is right stays right ----------------------------------------------------------------------------------------
MODELS = {
    "convnet": (convnet, {"n": 2}),
    "convnet depth-first": (lambda: convnet(64), {"n": 5}),
    "transformer": (transformer, {"n": 2, "length": 7}),
    "recurrent": (recurrent, {"n": 3, "length": 6}),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_models_agree_with_the_reference(name: str, threads: int):
    make, sizes = MODELS[name]
    graph = make()
    feeds = feeds_of(graph, **sizes)
    want = graphc.compile(graph, target="reference").run(feeds)
    model = graphc.compile(graph, threads=threads)
    for _ in range(2):
        for key, value in model.run(feeds).items():
            np.testing.assert_allclose(value, want[key], rtol=0, atol=2e-5 * np.abs(want[key]).max(), err_msg=key)


def test_results_of_every_kind():
    """Constants, inputs, strings, values of the host, the caller's own arrays, no elements."""
    b = Builder("results")
    x, s = b.input("x", F32, (3, 4)), b.input("s", object, (2,))
    y = b.add("Relu", x)
    graph = b.build(
        {
            "y": y,
            "x": x,
            "constant": b.constant([1.0, 2.0], F32),
            "s": b.add("StringConcat", s, s),
            "places": b.add("NonZero", b.add("Det", b.add("Reshape", x, b.constant([3, 2, 2], np.int64)))),
            "none": b.add("Slice", y, *(b.constant([n], np.int64) for n in (1, 1, 0))),
        }
    )
    feeds = {"x": np.arange(12, dtype=F32).reshape(3, 4) ** 2 - 5, "s": np.array(["a", "b"], object)}
    own = np.empty((3, 4), F32)
    got = graphc.compile(graph).run(feeds, out={"y": own})
    np.testing.assert_array_equal(own, np.maximum(feeds["x"], 0))
    assert got["y"] is own and got["s"].tolist() == ["aa", "bb"] and got["none"].shape == (0, 4)
    np.testing.assert_array_equal(got["x"], feeds["x"])
    np.testing.assert_array_equal(got["constant"], [1, 2])
    np.testing.assert_array_equal(got["places"], [[0, 1, 2]])


def test_a_position_out_of_range_is_still_the_callers_error():
    b = Builder("gather")
    x, i = b.input("x", F32, (3, 4)), b.input("i", np.int64, (2,))
    model = graphc.compile(b.build({"y": b.add("Gather", x, i)}))
    x = np.ones((3, 4), F32)
    with pytest.raises(InputError, match="index 3 at"):
        model.run({"x": x, "i": np.array([0, 3])})
    assert model.run({"x": x, "i": np.array([0, -1])})["y"].shape == (2, 4)


def test_plans_are_not_kept(tmp_path, monkeypatch: Patch):
    """What a checked run uses is no plan for other runs, nor theirs one for it."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    graph = convnet(8)
    graphc.compile(graph, shapes={"x": (1, 3, 8, 8)})
    assert not list(tmp_path.rglob("plan-*"))


def test_unknown_modes_are_refused(monkeypatch: Patch):
    monkeypatch.setenv("GRAPHC_CHECK", "memroy")
    with pytest.raises(InputError, match="memroy.*\n.*memory"):
        graphc.compile(convnet(8))


def test_the_other_name(monkeypatch: Patch):
    monkeypatch.delenv("GRAPHC_CHECK")
    assert not wanted()
    monkeypatch.setenv("GRAPHC_DEBUG", "bounds")
    assert wanted()
    monkeypatch.setenv("GRAPHC_DEBUG", "bound")
    with pytest.raises(InputError, match="GRAPHC_DEBUG=bound\n.*bounds"):
        graphc.compile(convnet(8))


# --- planted faults ---------------------------------------------------------------------------------------------------
def feature_maps(n: int = 2, size: int = 9) -> Graph:
    """Blocked values with and without halos, parts that are copied and parts that are written in place."""
    b = Builder("planted")
    x = b.input("x", F32, (n, 16, size, size))
    y = b.add("Concat", x, b.add("Conv", x, weights(b, 20, 16, 1, 1)), axis=1)
    z = b.add("Conv", y, weights(b, 16, 36, 5, 5), pads=[2] * 4)
    z = b.add("Add", z, b.add("Conv", b.add("Tanh", y), weights(b, 16, 36, 1, 1)))
    z = b.add("Transpose", b.add("Sigmoid", z), perm=[0, 2, 3, 1])
    return b.build({"y": y, "z": b.add("Softmax", z)})


def run(graph: Graph, threads: int = 2, **options) -> None:
    graphc.compile(graph, threads=threads, **options).run(feeds_of(graph))


def shorter_scratch(patch: Patch) -> None:
    original = CpuLowering.scratch
    patch.setattr(CpuLowering, "scratch", lambda lo, name, nbytes: original(lo, name, nbytes - 8))


def shorter_values(patch: Patch) -> None:
    original = lowering.storage_bytes
    patch.setattr(lowering, "storage_bytes", lambda t: original(t) - 4)


def halos_left_as_they_are(patch: Patch) -> None:
    patch.setattr(CpuLowering, "clear_halo", lambda lo, s: None)


def copies(change: Callable[[Ref, Ref, list[int]], tuple[Ref, Ref, list[int]]]) -> Callable[[Patch], None]:
    """Change where strided copies read and write, and how much."""

    def plant(patch: Patch) -> None:
        original = Lowering.copy

        def copy(lo: Lowering, x: Ref, xs: Sequence[int], y: Ref, ys: Sequence[int], shape, item: int, info) -> None:
            x, y, shape = change(x, y, list(shape))
            original(lo, x, xs, y, ys, shape, item, info)

        patch.setattr(Lowering, "copy", copy)

    return plant


def steps(kernel: str, change: Callable[[list], list], declared: bool = False) -> Callable[[Patch], None]:
    """Change the arguments of the steps of one driver. declared: they say that they write all that they name."""

    def plant(patch: Patch) -> None:
        original = Lowering.emit

        def emit(lo: Lowering, k: Kernel, *others, **more) -> None:
            original(lo, k, *others, **more)
            if k.name == kernel:
                step = lo.program.steps[-1]
                step = replace(step, args=tuple(change(list(step.args))))
                lo.program.steps[-1] = replace(step, writes=tuple(step.buffers())) if declared else step

        patch.setattr(Lowering, "emit", emit)

    return plant


def whole_rows_of_another_halo(patch: Patch) -> None:
    """How parts of a concatenation were copied once: with the result's halo, whatever theirs was."""

    def emit(lo: Lowering, x: Storage, y: Storage, info) -> None:
        n, channels, *outer, _ = y.type.shape
        c = y.type.layout.c
        (_, row), (target, _) = y.whole_rows, y.whole_rows
        shape = [n, -(-channels // c), *outer, row // 4]
        lo.copy(x.whole_rows[0], [*x.strides[:-1], 4], target, [*y.strides[:-1], 4], shape, 4, info)

    patch.setattr(movement, "emit_blocked_copy", emit)


def result_onto_operand(args: list) -> list:
    """Of an elementwise step: the address of the first operand in the place of the result's."""
    return [*args[:12], args[20], *args[13:]]


def declares_what_it_reads(patch: Patch) -> None:
    """Elementwise steps, the other way round."""
    original = Lowering.emit

    def emit(lo: Lowering, k: Kernel, *others, **more) -> None:
        original(lo, k, *others, **more)
        if k.name == "map_rows":
            step = lo.program.steps[-1]
            scratch = tuple(b for b in step.writes if b.kind == "scratch")
            lo.program.steps[-1] = replace(step, writes=(*step.reads, *scratch), reads=step.writes)

    patch.setattr(Lowering, "emit", emit)


PLANTED = {
    "scratch": (shorter_scratch, r"writes byte \d+ of the memory '.*/scratch', which has"),
    "values": (shorter_values, "writes byte .* of the memory"),
    "no halo": (halos_left_as_they_are, "its left halo is .* not 0"),
    "too little": (copies(lambda x, y, s: (x, y, [*s[:-1], s[-1] - 1])), "element .* was not written"),
    "too much": (copies(lambda x, y, s: (x, y, [s[0] + 1, *s[1:]])), "(reads|writes) byte .* of the"),
    "too early": (copies(lambda x, y, s: (x, y + -64, s)), "writes before|not written|halo"),
    "another's halo": (whole_rows_of_another_halo, "halo|reads byte .* of the memory"),
    "an input": (steps("to_blocked", lambda a: [a[1], a[0], *a[2:]]), "writes the array 'x', which is only to be read"),
    "a constant": (
        steps("conv", lambda a: [*a[:4], a[2], *a[5:]]),
        "writes (the constant '.*', which is only to be read|byte .* of the constant)",  # which thread is first
    ),
    "a later step's halo": (
        steps("map_rows", result_onto_operand, declared=True),
        "-> %Tanh.*%Conv.*its left halo is .* not 0",
    ),
    "what is not declared": (
        steps("map_rows", result_onto_operand),
        "Tanh.*writes the memory .*, which it does not declare",
    ),
    "a wrong declaration": (declares_what_it_reads, "-> %Tanh.*writes the memory .*, which it does not declare"),
}


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_planted_fault_is_named(what: str, threads: int, monkeypatch: Patch):
    plant, message = PLANTED[what]
    graph = feature_maps()
    plant(monkeypatch)
    with pytest.raises(CheckFailed, match=rf"(?s)step \d+, .*{message}"):
        run(graph, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_table_for_thirty_two_operands(threads: int, monkeypatch: Patch):
    """As it was once: the other addresses lay in the next thread's table, or behind the last one."""
    original = CpuLowering.scratch
    monkeypatch.setattr(CpuLowering, "scratch", lambda lo, name, nbytes: original(lo, name, min(nbytes, 256)))
    for count in (31, 32):
        b = Builder("sum")
        graph = b.build({"y": b.add("Sum", *(b.input(f"x{i}", F32, (40, 30)) for i in range(count)))})
        if count < 32:
            run(graph, threads)
            continue
        with pytest.raises(CheckFailed, match="Sum.* writes byte 256 of the memory '.*/scratch', which has 256"):
            run(graph, threads)


def test_a_part_of_the_input_that_a_kernel_reads_too_much_of(monkeypatch: Patch):
    """The caller's array ends there, and so may his memory."""
    b = Builder("input")
    x = b.input("x", F32, (5, 7))
    graph = b.build({"y": b.add("Transpose", x)})
    run(graph)
    copies(lambda x, y, s: (x + 4, y, s))(monkeypatch)
    with pytest.raises(CheckFailed, match="reads byte 140 of the array 'x', which has 140"):
        run(graph)


@pytest.mark.parametrize("what", ["scratch", "values", "no halo"])
def test_faults_inside_a_step(what: str, monkeypatch: Patch):
    """Steps that run depth first within one, and those of the images that are left over."""
    plant, message = PLANTED[what]
    plant(monkeypatch)
    for images in (4, 5):
        graph = feature_maps(images, 64)
        with pytest.raises(CheckFailed, match=f"(?s){message}|nobody has written"):
            run(graph, 2 if images == 4 else 4)


def test_memory_that_nobody_has_written_is_told_by_what_follows_from_it(monkeypatch: Patch):
    """Products whose right operand was not packed."""
    b = Builder("product")
    x, w = b.input("x", F32, (6, 40)), b.input("w", F32, (40, 24))
    graph = b.build({"y": b.add("MatMul", x, w)})
    run(graph)
    steps("pack_b", lambda a: [*a[:2], 0, *a[3:]])(monkeypatch)
    with pytest.raises(CheckFailed, match="follows from memory that nobody has written"):
        run(graph)


def test_a_step_that_writes_into_its_operand(monkeypatch: Patch):
    b = Builder("operand")
    x = b.add("Softmax", b.input("x", F32, (4, 9)))
    graph = b.build({"x": x, "y": b.add("Tanh", x)})
    run(graph)
    steps("map_rows", result_onto_operand, declared=True)(monkeypatch)
    with pytest.raises(CheckFailed, match="Tanh.*%Softmax.*: it changed, and another step has made it"):
        run(graph)


def test_lanes_behind_the_last_channel_are_numbers(monkeypatch: Patch):
    """A zero weight times infinity would be NaN."""
    from graphc.lower import layout

    monkeypatch.setattr(layout, "_is_finite", lambda node: True)
    b = Builder("lanes")
    x = b.add("MaxPool", b.add("Sigmoid", b.input("x", F32, (1, 20, 4, 4))), kernel_shape=[1, 1])
    graph = b.build({"y": b.add("MaxPool", b.add("Log", x), kernel_shape=[1, 1])})
    with pytest.raises(CheckFailed, match="what lies behind its last channel is not finite"):
        run(graph)


def test_a_result_that_no_step_writes(monkeypatch: Patch):
    monkeypatch.setattr(stages, "copy_results", lambda lo, graph, *more: None)
    b = Builder("copied")
    x = b.input("x", F32, (3, 4))
    with pytest.raises(CheckFailed, match=r"result 'x': element \[0, 0\] of \[3, 4\] was not written"):
        run(b.build({"x": x, "y": b.add("Relu", x)}))


def test_a_step_that_ends_the_process_is_named():
    """An address that is nobody's: there is no going on."""
    code = """
from graphc.lower.lowering import Lowering
import test_checked
original = Lowering.emit
Lowering.emit = lambda lo, k, args, *more, **named: original(lo, k, args[:-1] if k.name == "to_blocked" else args, *more, **named)
test_checked.run(test_checked.feature_maps(), 1)
"""
    process = start_script(code, GRAPHC_CHECK="memory")
    _, err = process.communicate(timeout=240)
    assert process.returncode < 0 and "(to_blocked) ->" in err and "which is nobody's" in err, err


def test_a_fault_elsewhere_ends_as_it_would():
    code = """
import ctypes, faulthandler
from graphc.backends.cpu.checked.guard import Memory, Watch
from graphc.lower.storage import Piece
faulthandler.enable()
with Watch(Memory([(Piece(0, 8),)])):
    ctypes.c_int64.from_address(64).value
"""
    process = start_script(code)
    _, err = process.communicate(timeout=240)
    assert process.returncode < 0 and "Fatal Python error: Segmentation fault" in err, err
    assert run_script("print('well')").strip() == "well"


# --- the memory itself ------------------------------------------------------------------------------------------------
def test_pieces_end_where_pages_begin_that_nobody_may_touch():
    sizes = [24, 0, PAGE, 3 * PAGE + 40, 7]
    offsets, stride, pieces = spread(sizes, 3)
    assert stride % PAGE == 0 and [p.nbytes for p in pieces] == sizes * 3
    assert [p.offset for p in pieces] == [t * stride + o for t in range(3) for o in offsets]
    memory = Memory([(Piece(0, 100),), pieces, (Piece(0, PAGE),)])
    found = [piece for block in memory.pieces for piece in block]
    for (first, end), (after, _) in zip(found, [*found[1:], (None, None)]):
        assert end % PAGE == 0
        memory.bytes[first:end] = 1
        assert after is None or after // PAGE * PAGE - end >= HOLE
    with Watch(memory) as watch:
        for _, end in found:
            memory.bytes[end] = 2
        memory.freeze(0)
        assert memory.bytes[found[0][0]] == 1
        memory.bytes[found[0][0]] = 3
    places = [f.address - memory.address for f in watch.faults]
    assert places == [end for _, end in dict.fromkeys(found)] + [found[0][0]]
    assert {f.writes for f in watch.faults} <= {True, None}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128", "bfloat16"])
def test_memory_that_nobody_has_written_signals(dtype: str):
    """Every element is a signalling NaN, wherever the memory begins: the last byte belongs to a whole one."""
    kind = dtype_from_name(dtype)
    memory = np.zeros(3 * kind.itemsize + 1, np.uint8)
    values.fill(memory, kind)
    array = memory[1:].view(kind)
    with np.errstate(invalid="ignore"):
        assert np.isnan(array.astype(np.complex128)).all()
    assert "element [0] of [3] was not written" in values.unwritten(array)
    if dtype.startswith("float"):
        with np.errstate(invalid="ignore"):
            assert "follows from memory" in values.unwritten(array + array)
    assert values.unwritten(np.full(3, np.nan).astype(kind)) == ""


def test_integers_that_nobody_has_written():
    memory = np.zeros(24, np.uint8)
    values.fill(memory, np.dtype(np.int64))
    assert (memory == 0x7F).all() and "was not written" in values.unwritten(memory.view(np.int64))
    assert values.unwritten(memory.view(np.int8)) == "", "a common number"


def test_arguments_stay_as_they_are(monkeypatch: Patch):
    """A step whose result is its own argument block."""
    from graphc.backends.cpu.checked.run import _Run

    b = Builder("block")
    graph = b.build({"y": b.add("Neg", b.input("x", F32, (8,)))})
    original = _Run._write_block

    def write(self, step, number):
        words = original(self, step, number)
        words[12] = words.ctypes.data  # the first record's address: the result's
        return words

    monkeypatch.setattr(_Run, "_write_block", write)
    with pytest.raises(CheckFailed, match="it changed word 0 of its argument block"):
        run(graph, 1)
