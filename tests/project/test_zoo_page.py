"""docs/zoo.md and what `graphc zoo` prints are those of the pages and of examples/index.yaml, and no network needs NumPy.

Numbers are compared where that is cheap; slow tests plan each network again.
"""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

import pytest
from targets import offered

from graphc import zoo

ROOT = Path(__file__).resolve().parents[2]
WRITER = runpy.run_path(str(ROOT / "docs" / "zoo.py"))
LINES = {line.name: line for line in WRITER["index"]()}
KEPT = {n.name: n for n in zoo.networks()}
QUICK = ("mcculloch_pitts", "xor", "lenet5", "elman")
AGAIN = "run: python docs/zoo.py"


def test_every_page_has_a_line_in_the_index():
    pages = {path.stem for path in (ROOT / "examples" / "zoo").glob("*.yaml")}
    missing, gone = sorted(pages - LINES.keys()), sorted(LINES.keys() - pages)
    assert not missing, f"add to a group of examples/index.yaml: {', '.join(missing)}; then {AGAIN}"
    assert not gone, f"examples/index.yaml names what is not there: {', '.join(gone)}"


def test_every_network_is_in_the_index_once():
    assert [name for name, times in Counter(line.name for line in WRITER["index"]()).items() if times > 1] == []


def test_an_index_with_a_mistake_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "index.yaml"
    path.write_text("Group:\n  - lenet5: {size: {x: 1}}\n", encoding="utf-8")
    monkeypatch.setitem(WRITER["index"].__globals__, "INDEX", path)
    with pytest.raises(ValueError, match="'lenet5' has size; known are sizes and host"):
        WRITER["index"]()


def test_numbers_are_those_of_the_pages():
    assert [(n.name, n.group) for n in KEPT.values()] == [(line.name, line.group) for line in LINES.values()], AGAIN
    stale = [line.name for line in LINES.values() if not WRITER["fits"](line, KEPT[line.name])]
    assert not stale, f"pages or sizes changed: {', '.join(stale)}; {AGAIN}"


def test_the_page_is_up_to_date():
    page = WRITER["render"](list(KEPT.values()), list(LINES.values()))
    assert WRITER["PAGE"].read_text(encoding="utf-8") == page, AGAIN


def test_the_readme_counts_them():
    assert f"holds {len(zoo.networks())} architectures" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KEPT)
def test_a_page_tells_what_it_is(name: str):
    """A title, and the number of parameters that was counted."""
    page = KEPT[name].page
    assert page.title and page.title.count("(") == page.title.count(")"), "its comment begins with a sentence"
    assert f"{KEPT[name].parameters:,} parameters" in page.comment


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in LINES])
def test_it_is_planned_as_the_page_says(name: str):
    line, kept = LINES[name], KEPT[name]
    found = WRITER["planned"](line)
    assert not found.host or line.host, (
        f"runs in NumPy: {found.host}; mend it, or tell why: host in examples/index.yaml"
    )
    assert found.host or not line.host, "nothing runs in NumPy any more: remove its host from examples/index.yaml"
    for field in ("files", "shapes", "parameters", "macs", "later", "host"):
        assert getattr(found, field) == getattr(kept, field), f"{field}: python docs/zoo.py {name}"
    # other instruction sets pad channels to other widths and have other algorithms, other numbers of threads other scratch memory
    near = found.arena == pytest.approx(kept.arena, rel=0.5)
    if offered("cpu:avx512"):  # which the page was written with
        assert near, f"python docs/zoo.py {name}"
    assert near or kept.arena / 3 < found.arena < kept.arena, f"python docs/zoo.py {name}"


@pytest.mark.parametrize(
    ("sizes", "said"),
    [({}, "elman: {sizes: {steps: …}}"), ({"steps": 3, "rows": 2}, "'elman' has no open dim 'rows', but batch, steps")],
)
def test_sizes_are_those_of_open_dims(sizes: dict[str, int], said: str):
    with pytest.raises(ValueError, match=said):
        WRITER["planned"](WRITER["Line"]("elman", "", sizes, ""))


def test_a_changed_page_is_planned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    line, kept = LINES["lenet5"], KEPT["lenet5"]
    text = kept.path.read_text(encoding="utf-8")
    (tmp_path / "lenet5.yaml").write_text(f"# Other words.\n{text}", encoding="utf-8")
    monkeypatch.setattr(zoo, "PAGES", tmp_path)
    assert WRITER["fits"](line, zoo.Network.from_json(kept.to_json()))
    (tmp_path / "lenet5.yaml").write_text(text.replace("120", "121"), encoding="utf-8")
    assert not WRITER["fits"](line, zoo.Network.from_json(kept.to_json()))


def test_every_network_has_a_picture():
    pictures = {path.stem for path in (ROOT / "docs" / "zoo").glob("*.svg")}
    assert pictures == set(zoo.names()), "run: python docs/pictures.py, then python docs/zoo.py; remove what is gone"
