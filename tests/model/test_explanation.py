"""model.explain(), and how plans and graphs show themselves."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

import graphc
from graphc.cli import main
from graphc.tables import MOST, html_table


@pytest.fixture(scope="module")
def model() -> graphc.Model:
    return graphc.compile("zoo:lenet5", shapes={"image": (1, 1, 28, 28)})


SHAPES = {"image": (1, 1, 28, 28)}


class Rows(HTMLParser):
    """Text of the cells, row by row; every tag must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_it_is_what_the_command_prints(model: graphc.Model):
    printed = CliRunner().invoke(main, ["explain", "zoo:lenet5"]).output
    times = "\npasses\n"  # which differ
    assert model.explain(SHAPES).text(160).partition(times)[0] == printed.partition(times)[0]


def test_it_holds_the_plan(model: graphc.Model):
    said = model.explain(SHAPES)
    assert said.plan.steps == model.plan(SHAPES).steps and all(step.label in str(said) for step in said.plan.steps)
    table = said.text(80).partition("\nstep ")[2].partition("\n\n")[0]
    assert table and max(map(len, table.splitlines())) <= 80
    with pytest.raises(graphc.InputError, match="which is no input"):
        model.explain({"nope": (1,)})


def test_short(model: graphc.Model):
    plan = model.plan(SHAPES)
    assert repr(plan).startswith(
        f"Plan for {plan.target}, "
    ) and f"image [1, 1, 28, 28]: {len(plan.steps)} steps" in repr(plan)
    graph = model.source_graph
    types = "image: float32[batch, 1, 28, 28] -> logits: float32[batch, 10]"
    assert repr(graph) == f"Graph 'lenet5', {len(graph.nodes)} nodes: {types}"


def test_html(model: graphc.Model):
    plan, graph = model.plan(SHAPES), model.source_graph
    rows = Rows(plan._repr_html_()).rows
    assert rows[0][:3] == ["step", "nodes", "kernel"] and [r[1] for r in rows[1:]] == [s.label for s in plan.steps]
    assert [r[1] for r in Rows(graph._repr_html_()).rows[1:]] == [n.name for n in graph.nodes]
    assert Rows(model.explain(SHAPES)._repr_html_()).rows == rows


def test_html_of_very_many_rows_and_of_any_names():
    text = html_table(("a", ">b"), [("<script>&", i) for i in range(MOST + 5)])
    assert len(Rows(text).rows) == MOST + 1 and "… and 5 more" in text and "<script>" not in text


def test_data(model: graphc.Model):
    plan = model.plan(SHAPES)
    told = plan.to_json()
    assert [s["kernel"] for s in told["steps"]] == [s.kernel for s in plan.steps]
    assert told["memory"]["arena"] == plan.memory.arena and told["passes"][0]["name"] == plan.passes[0].name
