"""Where the time goes: the profile of `graphc bench`, its trace and picture, and the limits of the machine."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from graphc.backends.cpu.roofline import roofline
from graphc.backends.cpu.target import detect
from graphc.cli import main
from graphc.cli.page import Findings, content
from graphc.cli.picture import COLOURS, MOST, picture
from graphc.cli.profile import chrome_trace, print_profile
from graphc.report import MemoryReport, Plan, Roofline, StepInfo

SVG = "{http://www.w3.org/2000/svg}"
YAML = """\
graphc: 1
inputs: {x: {shape: [batch, 3, 16, 16]}}
net: [{conv: {out: 8, k: 3, pad: same}}, relu, flatten, {dense: 10}]
"""


def plan(*ops: str) -> Plan:
    steps = tuple(StepInfo(i, (f"n{i}",), (op,), op.lower(), flops=1000) for i, op in enumerate(ops))
    return Plan("cpu", 1, {}, steps, MemoryReport(0, 0, 0, 0))


LIMITS = Roofline({"float32": 1e9}, ((1024, 8e9), (1 << 20, 1e9)))


def bars(svg: str) -> list[tuple[float, str]]:
    """Length and colour of the bar of each step."""
    groups = [g for g in ElementTree.fromstring(svg).iter(f"{SVG}g") if re.fullmatch(r"step\d+", g.get("id", ""))]
    found = []
    for path in (g.find(f"{SVG}path") for g in groups):
        across = [float(x) for x in re.findall(r"[ML] ([\d.]+)", path.get("d"))]
        found.append((max(across) - min(across), re.search("fill: (#[0-9a-f]+)", path.get("style"))[1]))
    return found


def texts(svg: str) -> list[str]:
    return ["".join(t.itertext()) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_bench_profiles_traces_and_draws(tmp_path: Path):
    model, trace, drawing = (tmp_path / name for name in ("tiny.yaml", "trace.json", "steps.svg"))
    model.write_text(YAML)
    options = ["--rounds", "2", "--profile", "--trace", str(trace), "--picture", str(drawing)]
    result = CliRunner().invoke(main, ["bench", str(model), *options])
    assert result.exit_code == 0, result.output
    for part in ("median", "GFLOP/s", "GB/s", "of roofline", "this machine"):
        assert part in result.output
    events = json.loads(trace.read_text())["traceEvents"]
    assert events and all(e["ph"] == "X" and e["dur"] >= 0 for e in events)
    assert len(bars(drawing.read_text())) == len(events)


def test_a_target_whose_limits_nobody_knows(capsys: pytest.CaptureFixture):
    """A backend may measure its steps and have no roofline."""
    print_profile(plan("Relu", "Conv"), [1e-6, 2e-6], None)
    said = capsys.readouterr().out
    assert "n1: Conv" in said and "this machine" not in said and "occupancy" not in said


def test_a_report_says_how_steps_pass_the_roofline():
    """The roofline of 2000 operations is 2 µs here, and these take 1."""
    made = content(Findings("net", plan=plan("Relu", "Conv"), spent=[4e-7, 6e-7], limits=LIMITS))
    name, value, more = made["cards"][0]
    assert (name, value) == ("all steps at the roofline", "2 µs")
    assert more == "its steps take 1 µs, one by one; an algorithm of fewer operations (Winograd) may pass it"
    assert dict(made["steps"][0]["told"])["of the roofline"].startswith("250%: an algorithm of fewer operations")


def test_weights_are_told_by_type():
    assert MemoryReport(0, 0, 0, 2**20, (), (("float32", 2**20),)).about_weights == "1.0 MiB, float32"
    mixed = MemoryReport(0, 0, 0, 2**20, (), (("int8", 2**20),)).about_weights
    assert mixed == "1.0 MiB, 0.25 of what float32 takes: 1.0 MiB int8"


def test_occupancy_of_gpus_kernels(capsys: pytest.CaptureFixture):
    made = plan("Relu", "Conv")
    made = replace(made, steps=(replace(made.steps[0], occupancy=0.375), made.steps[1]))
    print_profile(made, [1e-6, 2e-6], None)
    said = capsys.readouterr().out
    assert "occupancy" in said and "38%" in said
    first, second = chrome_trace(made, [1e-6, 2e-6])["traceEvents"]
    assert first["args"]["occupancy"] == 0.375 and "occupancy" not in second["args"]


@pytest.mark.cuda
@pytest.mark.parametrize("option", ["--profile", "--trace=steps.json", "--picture=steps.svg"])
def test_the_emulator_has_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str):
    """Nothing is timed before it says so."""
    monkeypatch.setattr(import_module("graphc.cli.bench"), "time_runs", lambda run, rounds: pytest.fail("timed"))
    (tmp_path / "tiny.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["bench", "tiny.yaml", "--target", "cuda:emulate", option])
    assert result.exit_code != 0 and "say nothing about a GPU" in result.output, result.output
    assert not (tmp_path / "steps.json").exists() and not (tmp_path / "steps.svg").exists()


@pytest.mark.cuda
def test_times_of_the_emulator_are_called_so(tmp_path: Path):
    model = tmp_path / "tiny.yaml"
    model.write_text(YAML)
    result = CliRunner().invoke(main, ["bench", str(model), "--target", "cuda:emulate", "--rounds", "2"])
    assert result.exit_code == 0, result.output
    assert "of the emulator" in result.output and "median" in result.output and "FLOP/s" not in result.output


def test_trace_events_follow_each_other():
    events = chrome_trace(plan("Relu", "Conv", "Relu"), [1e-6, 2e-6, 3e-6])["traceEvents"]
    assert [round(e["ts"], 6) for e in events] == [0, 1, 3]
    assert [e["name"] for e in events] == ["n0: Relu", "n1: Conv", "n2: Relu"]


def test_bars_are_as_long_as_their_times_and_coloured_by_operator():
    drawn = picture(plan("Relu", "Conv", "Relu"), [1e-6, 4e-6, 2e-6], "model", None)
    (relu, relu_colour), (conv, conv_colour), (other, other_colour) = bars(drawn)
    assert conv == pytest.approx(4 * relu, rel=1e-4) and conv == pytest.approx(2 * other, rel=1e-4)
    assert relu_colour == other_colour != conv_colour
    assert "time of a step, µs" in texts(drawn) and {"0", "1", "4"} <= set(texts(drawn))  # ticks
    assert "operations per byte" not in texts(drawn)  # there is no roofline


def test_operators_beyond_the_palette_share_its_last_colour():
    ops = [f"Op{i}" for i in range(len(COLOURS) + 3)]
    drawn = bars(picture(plan(*ops), [1.0 / (i + 1) for i in range(len(ops))], "model", None))
    assert [colour for _, colour in drawn] == [*COLOURS, *[COLOURS[-1]] * 3]


def test_the_roofline_below_the_bars():
    made = plan("Conv", "Reorder", "Conv")
    flops, kinds = (1000, 0, 1000), ("float32", "", "uint8 x int8")
    steps = [replace(s, flops=f, nbytes=100, type=k) for s, f, k in zip(made.steps, flops, kinds)]
    limits = replace(LIMITS, peaks={"float32": 1e9, "uint8 x int8": 4e9})
    drawn = picture(replace(made, steps=tuple(steps)), [1e-6, 2e-6, 3e-6], "model", limits)
    said = texts(drawn)
    assert {
        "operations per byte",
        "GFLOP/s",
        "float32 1",
        "uint8 x int8 4",
        "8 GB/s of 1.0 KiB",
        "at the roofline",
    } <= {*said}
    points = next(g for g in ElementTree.fromstring(drawn).iter(f"{SVG}g") if g.get("id") == "points")
    assert len(list(points.iter(f"{SVG}use"))) + len(list(points.iter(f"{SVG}path"))) >= 2


def test_of_many_steps_the_slowest_have_bars():
    made = plan(*["Relu"] * (MOST + 20))
    drawn = picture(made, [1e-3 + 1e-6 * i for i in range(MOST + 20)], "model", None)
    assert len(bars(drawn)) == MOST and any("; 20 steps more take" in text for text in texts(drawn))
    assert f"n{MOST + 19}: Relu" in texts(drawn) and "n0: Relu" not in texts(drawn)


def test_the_picture_has_names_as_they_are():
    """Names are neither XML nor formulas."""
    step = StepInfo(0, ("<&\0>$x_1$",), ("Relu",), "relu")
    svg = picture(Plan("cpu", 1, {}, (step,), MemoryReport(0, 0, 0, 0)), [1e-6], 'a "<model>" $', None)
    assert any("<&\ufffd>$x_1$" in text for text in texts(svg)) and 'a "<model>" $' in texts(svg)


def test_what_a_picture_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Said before anything is timed."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(import_module("graphc.cli.bench"), "time_runs", lambda run, rounds: pytest.fail("timed"))
    (tmp_path / "tiny.yaml").write_text(YAML)
    result = CliRunner().invoke(main, ["bench", str(tmp_path / "tiny.yaml"), "--picture", str(tmp_path / "steps.svg")])
    assert (
        result.exit_code == 5
        and "pip install 'graphc[draw]'" in result.output
        and not (tmp_path / "steps.svg").exists()
    )


def test_a_step_is_bound_by_arithmetic_or_by_the_cache_that_holds_it():
    limits = Roofline({"float32": 100.0}, ((10, 50.0), (100, 5.0)))

    def step(flops: int, nbytes: int) -> StepInfo:
        return StepInfo(0, (), (), "", flops=flops, nbytes=nbytes)

    assert limits.seconds(step(1000, 10)) == 10  # arithmetic
    assert limits.seconds(step(10, 10)) == pytest.approx(0.2)  # 10 bytes at 50 per second
    assert limits.seconds(step(10, 50)) == 10  # 50 bytes at 5
    assert limits.seconds(step(10, 1000)) == 200  # more than all caches: memory


@pytest.mark.parametrize("isa", ["portable", None])
def test_the_machine_has_limits(isa: str | None):
    limits = roofline(detect(isa), 1)
    assert all(1e8 < peak < 1e13 for peak in limits.peaks.values())
    assert [size for size, _ in limits.rates] == sorted(size for size, _ in limits.rates)
    assert all(1e8 < rate < 1e13 for _, rate in limits.rates)
    assert limits.rates[0][1] > limits.rates[-1][1]  # the smallest cache against memory
    assert roofline(detect(isa), 1) is limits


def test_two_threads_read_twice_as_many_bytes():
    target = detect()
    one, two = roofline(target, 1), roofline(target, 2)
    assert [size for size, _ in two.rates] == [2 * size for size, _ in one.rates]
