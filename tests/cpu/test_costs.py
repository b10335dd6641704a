"""What decisions follow from: the caches of a machine, one table of costs, one model of register tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from targets import require

import graphc
from graphc.backends.cpu import costs, hardware, target
from graphc.backends.cpu.attention.attention import query_rows
from graphc.backends.cpu.conv.algorithms import candidates, choose
from graphc.backends.cpu.conv.depthwise import row_tile
from graphc.backends.cpu.conv.direct import rows_bytes
from graphc.backends.cpu.conv.window import Window
from graphc.backends.cpu.conv.winograd_groups import grouping
from graphc.backends.cpu.hardware import cache_sizes
from graphc.backends.cpu.lower.policy import DEFAULT
from graphc.backends.cpu.options import CpuOptions
from graphc.backends.cpu.options import machine as this_machine
from graphc.backends.cpu.product.panels import near_bytes, product_tile
from graphc.backends.cpu.target import Target, detect
from graphc.backends.cpu.tile import tile_model
from graphc.backends.cpu.tile.tiles import chunk_of, cut_channels, cut_row, lines_ahead, widest_tile
from graphc.graph import Builder, Graph
from graphc.lower.binding import Writer
from graphc.sizes import Trace

# Synthetic machines: a desktop with AVX-512, and one with AVX2 and a small second level.
WIDE = Target("avx512", 16, 32, "v", "", "", l1=48 << 10, l2=1 << 20, l3=32 << 20)
NARROW = Target("avx2", 8, 16, "x", "", "", l1=32 << 10, l2=256 << 10, l3=8 << 20)
MACHINES = {"avx512": WIDE, "avx2": NARROW, "portable": replace(NARROW, isa="portable", asm=None)}


def window(channels: int, out: int, size: int, kernel: int, stride: int = 1) -> Window:
    """A square convolution that keeps the size of its image, or divides it by the stride."""
    pad, small = kernel // 2, -(-size // stride)
    end = max(0, (small - 1) * stride + kernel - size - pad)
    return Window(
        1, channels, out, (1, size, size), (1, small, small), (1, kernel, kernel), (1, stride, stride), (1, 1, 1),
        (0, pad, pad), (0, end, end),
    )  # fmt: skip


# (network, channels, output channels, size, kernel, stride, groups)
LAYERS = {
    "resnet stem": (3, 64, 224, 7, 2, 1),
    "resnet 56": (64, 64, 56, 3, 1, 1),
    "resnet 56, in": (256, 64, 56, 1, 1, 1),
    "resnet 28": (128, 128, 28, 3, 1, 1),
    "resnet 28, stride": (128, 128, 56, 3, 2, 1),
    "resnet 14": (256, 256, 14, 3, 1, 1),
    "resnet 14, out": (256, 1024, 14, 1, 1, 1),
    "resnet 7": (512, 512, 7, 3, 1, 1),
    "resnet 7, out": (512, 2048, 7, 1, 1, 1),
    "mobilenet 112": (32, 32, 112, 3, 1, 32),
    "mobilenet 112, out": (32, 16, 112, 1, 1, 1),
    "mobilenet 56": (144, 144, 56, 3, 2, 144),
    "mobilenet 7": (960, 320, 7, 1, 1, 1),
    "vgg 224": (64, 64, 224, 3, 1, 1),
    "vgg 56": (128, 256, 56, 3, 1, 1),
    "vgg 14": (512, 512, 14, 3, 1, 1),
}


def decision(machine: Target, name: str) -> str:
    """The algorithm of a layer and its register tile."""
    channels, out, size, kernel, stride, groups = LAYERS[name]
    w = window(channels, out, size, kernel, stride)
    algorithm = choose(w, groups, machine, DEFAULT).algorithm
    if algorithm.tile:
        g = grouping(w, algorithm.tile, machine, 1)
        return f"{algorithm} {g.count}: {g.rows.heights[0]}x{g.nv}"
    if algorithm == "depthwise":
        return f"{algorithm} {row_tile(machine, w.out[2])}x1"
    flat = kernel == stride == 1
    pixels, weights = w.pixels if flat else w.out[2], 4 * machine.vl * channels * kernel**2
    found = cut_channels(machine, pixels, -(-out // machine.vl), weights)
    return f"{algorithm} {' '.join(f'{cut_row(machine, pixels, nv).heights[0]}x{nv}' for nv, _ in found)}"


# Change them only with measurements beside.
DECISIONS = {
    "avx512": {
        "resnet stem": "direct 7x4",
        "resnet 56": "winograd F(6x6) 25: 14x2",
        "resnet 56, in": "direct 7x4",
        "resnet 28": "winograd F(6x6) 25: 7x4",
        "resnet 28, stride": "direct 7x4",
        "resnet 14": "winograd F(4x4) 16: 8x2",
        "resnet 14, out": "strassen 7x4",
        "resnet 7": "winograd F(2x2) 16: 8x2",
        "resnet 7, out": "strassen 7x4",
        "mobilenet 112": "depthwise 14x1",
        "mobilenet 112, out": "direct 14x1",
        "mobilenet 56": "depthwise 14x1",
        "mobilenet 7": "direct 7x4",
        "vgg 224": "winograd F(6x6) 28: 14x2",
        "vgg 56": "winograd F(6x6) 100: 14x2",
        "vgg 14": "winograd F(4x4) 16: 8x2",
    },
    "avx2": {
        "resnet stem": "direct 6x2",
        "resnet 56": "winograd F(6x6) 34: 6x2",
        "resnet 56, in": "direct 6x2",
        "resnet 28": "winograd F(6x6) 25: 6x2",
        "resnet 28, stride": "direct 6x2",
        "resnet 14": "winograd F(4x4) 16: 3x4",
        "resnet 14, out": "strassen 6x2",
        "resnet 7": "winograd F(4x4) 4: 2x4",
        "resnet 7, out": "strassen 6x2",
        "mobilenet 112": "depthwise 6x1",
        "mobilenet 112, out": "direct 6x2",
        "mobilenet 56": "depthwise 6x1",
        "mobilenet 7": "strassen 6x2",
        "vgg 224": "winograd F(6x6) 47: 6x2",
        "vgg 56": "winograd F(6x6) 21: 3x4",
        "vgg 14": "winograd F(4x4) 16: 3x4",
    },
}


@pytest.mark.parametrize("isa", DECISIONS)
@pytest.mark.parametrize("name", LAYERS)
def test_decisions_of_layers(isa: str, name: str):
    assert decision(MACHINES[isa], name) == DECISIONS[isa][name]


def test_decisions_of_products_and_attention():
    """BERT's for 128 and 384 tokens, a classifier's for one image."""
    shapes = [(128, 768), (128, 3072), (384, 768), (7, 384), (1, 1000)]
    tiles = {n: [product_tile(m, rows, -(-columns // m.vl)) for rows, columns in shapes] for n, m in MACHINES.items()}
    assert tiles["avx512"] == [(8, 3), (8, 3), (8, 3), (7, 3), (1, 8)]
    assert tiles["avx2"] == tiles["portable"] == [(4, 3), (4, 3), (4, 3), (4, 3), (1, 6)]
    assert [query_rows(WIDE, queries) for queries in (128, 197, 384, 512)] == [8, 11, 8, 8]
    assert [query_rows(NARROW, queries) for queries in (128, 197, 384, 512)] == [6, 6, 6, 6]


# --- the model of a register tile -----------------------------------------------------------------------------------------
LOOPS = [
    tile_model.CONV,
    tile_model.CONV_AVX2,
    tile_model.WINOGRAD,
    tile_model.PRODUCT,
    tile_model.ATTENTION,
    tile_model.RECURRENT,
]


@pytest.mark.parametrize("machine", MACHINES.values(), ids=str)
@pytest.mark.parametrize("loop", LOOPS)
def test_efficiency_is_a_share_and_grows_with_the_tile(loop: tile_model.Loop, machine: Target):
    for nv in (1, 2, 3, 4, 6):
        shares = [tile_model.efficiency(machine, mr, nv, loop) for mr in range(1, tile_model.TALL + 1)]
        assert all(0 < share <= 1 for share in shares)
        assert shares == sorted(shares)
        far = [tile_model.efficiency(machine, mr, nv, loop, far=7) for mr in range(1, tile_model.TALL + 1)]
        assert all(f <= s for f, s in zip(far, shares)) and far[-1] == shares[-1]


def test_more_latency_wants_more_accumulators():
    slow = replace(WIDE, chains=16)
    for mr, nv in ((1, 1), (4, 2), (7, 2)):
        assert tile_model.cost(slow, mr, nv, tile_model.CONV) > tile_model.cost(WIDE, mr, nv, tile_model.CONV)
    assert tile_model.cost(slow, 14, 2, tile_model.CONV) == tile_model.cost(WIDE, 14, 2, tile_model.CONV)


# --- the machine ----------------------------------------------------------------------------------------------------------
def sysfs(folder: Path, *caches: tuple[int, str, str]) -> Path:
    for i, facts in enumerate(caches):
        index = folder / f"index{i}"
        index.mkdir(parents=True)
        for name, text in zip(("level", "type", "size"), facts):
            (index / name).write_text(f"{text}\n")
    return folder


def test_sizes_of_caches_are_read(tmp_path: Path):
    all_three = (1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2048K"), (3, "Unified", "32M")
    assert cache_sizes(sysfs(tmp_path / "a", *all_three)) == {"l1": 48 << 10, "l2": 2 << 20, "l3": 32 << 20}
    assert cache_sizes(sysfs(tmp_path / "b", *all_three[:3])) == {"l1": 48 << 10, "l2": 2 << 20, "l3": 2 << 20}
    assert cache_sizes(sysfs(tmp_path / "c", (1, "Data", ""), (2, "Unified", "0K"), (3, "Unified", "many"))) == {}
    assert cache_sizes(tmp_path / "nothing") == {}


def test_plans_of_machines_with_other_caches_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = CpuOptions(None, 1)
    identities = []
    for size in ("1024K", "2048K"):
        monkeypatch.setattr(hardware, "CACHES", sysfs(tmp_path / size, (2, "Unified", size)))
        this_machine.cache_clear()
        identities.append(options.identity())
    monkeypatch.undo()
    this_machine.cache_clear()
    assert identities[0] != identities[1] and identities[0][:2] == identities[1][:2]


def test_half_the_cache_never_takes_more_at_a_time():
    machines = [replace(WIDE, l1=WIDE.l1 >> i, l2=WIDE.l2 >> i, l3=WIDE.l3 >> i) for i in range(8)]
    for larger, smaller in zip(machines, machines[1:]):
        assert rows_bytes(smaller) <= rows_bytes(larger)
        assert near_bytes(smaller).stop <= near_bytes(larger).stop
        for blocks in (1, 2, 8, 32, 64):
            for weights in (1 << 10, 1 << 14, 1 << 17):
                assert widest_tile(smaller, weights) <= widest_tile(larger, weights)
                for rows in (1 << 12, 1 << 16):
                    assert 1 <= chunk_of(smaller, blocks, weights, rows) <= chunk_of(larger, blocks, weights, rows)
                assert lines_ahead(smaller, 36, 4, blocks * weights) >= lines_ahead(larger, 36, 4, blocks * weights)


@pytest.mark.parametrize("name", LAYERS)
def test_estimates_are_seconds(name: str):
    channels, out, size, kernel, stride, groups = LAYERS[name]
    for isa, machine in MACHINES.items():
        found = candidates(window(channels, out, size, kernel, stride), groups, machine)
        macs = channels // groups * out * kernel**2 * (size / stride) ** 2
        peak = costs.multiply(machine) * macs / machine.vl
        assert all(peak / 10 < c.seconds < 20 * peak + 1e-4 for c in found), isa


def convolutions() -> Graph:
    """Rows as they are and flat, wide tiles, chunks, Winograd's algorithm; then a pool, a product and a small batch."""
    rng, b = np.random.default_rng(0), Builder("net")

    def conv(x, out: int, channels: int, kernel: int, stride: int = 1):  # noqa: ANN001, ANN202
        w = rng.standard_normal((out, channels, kernel, kernel)) / (channels * kernel**2) ** 0.5
        y = b.add("Conv", x, b.constant(w, np.float32), pads=[kernel // 2] * 4, strides=[stride] * 2)
        return b.add("Relu", y)

    x = b.input("x", np.float32, (3, 5, 23, 23))
    y = conv(conv(x, 64, 5, 5), 96, 64, 3, 2)
    y = conv(conv(conv(y, 128, 96, 1), 64, 128, 3), 96, 64, 3)
    y = b.add("ReduceMean", y, b.constant([2, 3], np.int64), keepdims=0)
    return b.build({"y": b.add("MatMul", y, b.constant(rng.standard_normal((96, 50)), np.float32))})


@pytest.mark.parametrize("name", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("shift", [0, 4, 8])
def test_values_with_small_caches(shift: int, name: str, monkeypatch: pytest.MonkeyPatch):
    """Down to a second level of 4 KB: decisions change, results do not, for any number of threads."""
    require(name)

    def small(isa: str | None = None) -> Target:
        t = detect(isa)
        return replace(t, l1=WIDE.l1 >> shift, l2=WIDE.l2 >> shift, l3=WIDE.l3 >> shift)

    monkeypatch.setattr(target, "detect", small)
    graph = convolutions()
    x = {"x": np.random.default_rng(1).standard_normal((3, 5, 23, 23)).astype(np.float32)}
    results = [graphc.compile(graph, target=name, threads=n).run(x)["y"] for n in (1, 2)]
    exact = graphc.compile(graph, target="reference").run(x)["y"]
    np.testing.assert_allclose(results[0], exact, rtol=0, atol=1e-4 * np.abs(exact).max())
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("size", [13, 26, 52])
def test_images_that_share_an_algorithm(size: int):
    """A plan for many keeps the algorithm of its example as long as that costs little more than the best one."""
    machine = WIDE
    w = window(256, 512, size, 3, 1)
    trace = Trace()
    n = trace.size("n", size)
    trace.begin()
    many = choose(replace(w, size=(1, n, n), out=(1, n, n)), 1, machine, DEFAULT).algorithm
    trace.close()
    assert trace.guards and many == choose(w, 1, machine, DEFAULT).algorithm
    program = Writer(trace, trace.names).program
    shared = [other for other in range(2, 200) if program.holds([other])]
    assert size in shared and shared == [*range(shared[0], shared[-1] + 1)] and shared[-1] <= 2 * size + 1
    for other in shared:
        seconds = {
            c.algorithm: c.seconds for c in candidates(window(256, 512, other, 3, 1), 1, machine) if not c.excluded
        }
        assert seconds[many] <= 1.5 * min(seconds.values())
