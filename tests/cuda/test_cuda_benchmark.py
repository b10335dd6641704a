"""benchmarks/gpu*.py: what is prepared for a GPU, and runs there; on the emulator. (The worker on a double of the driver:
on_double/double_bench.py.)"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import run_script

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SOME = ["product 32", "softmax, 4", "operator Concat", "example mlp"]
SCRIPT = "import runpy, sys; sys.argv[0] = {path!r}; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def gpu(*args: object) -> str:
    path = str(BENCHMARKS / "gpu.py")
    return run_script(f"import sys; sys.path[0] = {str(BENCHMARKS)!r}\n" + SCRIPT.format(path=path), *args)


def test_prepared_checked_and_run(tmp_path: Path):
    folder, out = tmp_path / "prepared", tmp_path / "out"
    only = [word for text in SOME for word in ("--only", text)]
    said = gpu("prepare", folder, "--tiny", "--jobs", 1, *only)
    assert re.search(r"operator Concat: \d kernels", said)
    assert "all kernels are there" in gpu("check", folder)

    gpu("run", folder, "--tiny", "--target", "cuda:emulate", "--out", out)
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [r["kind"] for r in rows] == ["device", "operator", "time", "time", "example"]
    assert not any(r.get("wrong") or "failed" in r for r in rows), rows
    by = {r["name"]: r for r in rows}
    assert by["Concat"]["samples"] > 10 and by["mlp"]["difference"] < 1e-5
    assert by["product 32, float16"]["graphc"]["seconds"] > 0
    table = (out / "table.md").read_text()
    for part in (
        "the emulator",
        "1 of 1 agree with the reference",
        "| product 32 | float16 |",
        "| softmax, 4 rows of 32 |",
    ):
        assert part in table

    manifest = json.loads((folder / "manifest.json").read_text())
    without_one(folder / "kernels.zip")
    with pytest.raises(AssertionError, match="lack a kernel"):
        gpu("check", folder)
    manifest["sources"] = "others"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AssertionError, match="prepare it again"):
        gpu("run", folder, "--tiny", "--target", "cuda:emulate", "--out", out)


def without_one(archive: Path) -> None:
    with zipfile.ZipFile(archive) as old:
        kept = {n: old.read(n) for n in old.namelist()}
    kept.pop(next(n for n in kept if "tensor" in n or "product" in n))
    with zipfile.ZipFile(archive, "w") as new:
        for name, data in kept.items():
            new.writestr(name, data)


# --- the process on the GPU ---------------------------------------------------------------------------------------------
WORKER = """
import json, os, sys, time
for line in sys.stdin:
    what = json.loads(line)["name"]
    print("libraries talk", flush=True)
    if what == "dies":
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    if what == "hangs":
        time.sleep(60)
    print("answer " + json.dumps({"pid": os.getpid(), "fatal": what == "fatal"}), flush=True)
"""


def test_a_process_that_dies_hangs_or_is_lost_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import gpu as benchmark

    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(benchmark, "WORKER", tmp_path / "worker.py")
    process = benchmark._Process("cuda", tmp_path, True, tmp_path / "said.txt")

    def ask(name: str, limit: float = 30) -> dict[str, Any]:
        return process.ask({"name": name}, limit)

    first = ask("well")["pid"]
    assert ask("well") == {"pid": first}
    assert ask("dies") == {"failed": "the process ended with 3: last words"}
    second = ask("well")["pid"]
    assert ask("hangs", 0.3)["failed"].startswith("no answer within")
    third = ask("fatal")["pid"]
    fourth = ask("well")["pid"]
    assert len({first, second, third, fourth}) == 4
    process.close()


# --- its parts ----------------------------------------------------------------------------------------------------------
def test_graphs_in_half():
    import gpu_cases

    import graphc

    case = next(c for c in gpu_cases.tiny() if c.name.startswith("encoder") and c.precision == "float16")
    graph = case.source()
    assert {v.dtype.name for v in graph.values()} <= {"float16", "int64"}
    got = graphc.compile(graph, target="reference").run(case.feeds())
    want = graphc.compile(case.graph(), target="reference").run(case.feeds())
    for name, w in want.items():
        assert got[name].dtype == np.float16
        np.testing.assert_allclose(got[name].astype(np.float32), w, rtol=0, atol=2e-2 * np.abs(w).max())


def test_every_case_has_a_key_of_its_own():
    import gpu_cases

    for small in (True, False):
        keys = [c.key for c in gpu_cases.cases(small)]
        assert len(keys) == len(set(keys)) > 10


PLANNED = {"name": "a, float16", "title": "a", "precision": "float16", "memory": False, "products": True, "flops": 2e9, "bound": 1e-3, "card": "H100"}  # fmt: skip


def timed(seconds: float, host: float = 0.0) -> dict[str, float]:
    return {"seconds": seconds, "host": host, "spread": 1.0}


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (None, ["not measured"]),
        ({"graphc": timed(2e-3), "torch": timed(4e-3), "difference": 1e-3}, ["2 ms, 1 TFLOP/s", "4 ms", "0.50", "1e-03"]),
        ({"graphc": timed(2e-3, 2e-3)}, ["2 ms (host), 1 TFLOP/s"]),
        ({"graphc": timed(2e-3), "wrong": ["differs from PyTorch by 0.3"]}, ["| wrong |", "- a, float16: differs"]),
        ({"failed": "DeviceError: lost"}, ["| failed |", "- a, float16: DeviceError: lost"]),
    ],
)  # fmt: skip
def test_rows_of_the_table(row: dict[str, Any] | None, cells: list[str]):
    from gpu_table import table

    rows: list[dict[str, Any]] = [{"kind": "device", "name": "device", "device": "a GPU", "copy": 4e12}]
    if row is not None:
        rows.append({"kind": "time", "name": "a, float16", **row})
    said = table(rows, [PLANNED])
    assert "On a GPU" in said and "a copy moves 4 TB/s" in said and "1 ms (H100)" in said
    for cell in cells:
        assert cell in said, said


def test_memory_bound_rows_are_parts_of_a_copys_pace():
    from gpu_table import table

    planned = PLANNED | {"memory": True, "nbytes": 2e9}
    rows = [
        {"kind": "device", "name": "device", "device": "a GPU", "copy": 4e12},
        {"kind": "time", "name": "a, float16", "graphc": timed(1e-3), "torch": timed(2e-3)},
    ]
    assert "| a | 1 ms | 50% | 2 ms | 0.50 |" in table(rows, [planned])


def test_a_table_goes_into_the_page(tmp_path: Path):
    """Twice: the second takes the place of the first."""
    import gpu as benchmark

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: begin (of this) -->\n<!-- measured: end -->\nbehind\n")
    (tmp_path / "manifest.json").write_text(json.dumps({"planned": [PLANNED]}))
    for _ in range(2):
        benchmark.publish(tmp_path, tmp_path, page)
        text = page.read_text()
        assert text.startswith("before\n<!-- measured: begin (of this) -->\nNot measured yet.")
        assert text.endswith("<!-- measured: end -->\nbehind\n") and text.count("| a | float16 | not measured |") == 1


def test_nan_is_a_difference():
    from gpu_engines import difference

    bad = np.array([1, np.nan], np.float32)
    assert not difference([bad], [np.ones(2)]) < 1 and difference([np.ones(2)], [np.array([1, 2.0])]) == 0.5


# --- beside PyTorch -----------------------------------------------------------------------------------------------------
EXAMPLES = [
    "lenet5",
    "mobilenet_v3",
    "transformer_encoder",
    "vae_decoder",
    "yolo_v3_tiny",
    "char_rnn",
    "lstm_classifier",
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_graph_in_pytorch(name: str):
    torch = pytest.importorskip("torch")
    from gpu_checks import of_example, shapes_of
    from gpu_engines import difference
    from torch_peer import peer

    import graphc

    graph, feeds = of_example(name)
    with torch.inference_mode():
        got = peer(graph, shapes_of(feeds))(*[torch.from_numpy(a) for a in feeds.values()])
    want = graphc.compile(graph, target="cpu", threads=1).run(feeds)
    assert difference([y.numpy() for y in got], [*want.values()]) < 2e-5


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_recurrent_layers_in_pytorch(op: str, direction: str, layout: int):
    """Every result, of random weights."""
    torch = pytest.importorskip("torch")
    from gpu_engines import difference
    from torch_peer import peer

    from graphc.graph import Builder
    from graphc.interpret import run_graph

    b, rng, gates, ways = Builder(op), np.random.default_rng(0), {"GRU": 3, "LSTM": 4}[op], 1 + (direction != "forward")
    x = b.input("x", np.float32, (3, 5, 8))
    operands = [b.constant(rng.uniform(-1, 1, s), np.float32) for s in ((ways, gates * 6, 8), (ways, gates * 6, 6), (ways, gates * 12))]  # fmt: skip
    attrs = {"linear_before_reset": 1} if op == "GRU" else {}
    outputs = ["y", "h", "c"][: 2 + (op == "LSTM")]
    made = b.add(op, x, *operands, hidden_size=6, direction=direction, layout=layout, outputs=outputs, **attrs)
    graph, feed = b.build(made), rng.standard_normal((3, 5, 8)).astype(np.float32)
    with torch.inference_mode():
        got = peer(graph, {"x": (3, 5, 8)})(torch.from_numpy(feed))
    assert difference([y.numpy() for y in got], run_graph(graph, [feed])) < 1e-5


def test_pytorch_without_a_rule_says_so():
    pytest.importorskip("torch")
    from torch_peer import Unmapped, peer

    from graphc.graph import Builder

    b = Builder("none")
    graph = b.build([b.add("Det", b.input("x", np.float32, (2, 3, 3)))])
    with pytest.raises(Unmapped, match="Det"):
        peer(graph, {"x": (2, 3, 3)})
