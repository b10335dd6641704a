"""The table of layers in docs/yaml.md says the defaults that the registry has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphc.frontends.yaml_args import convert
from graphc.frontends.yaml_registry import layers
from graphc.frontends.yaml_syntax import parse

PAGE = (Path(__file__).resolve().parents[2] / "docs/yaml.md").read_text(encoding="utf-8")
ROWS = [
    row.strip("| ").split(" | ", 1)
    for row in PAGE.partition("\n## Layers\n")[2].partition("\n## ")[0].splitlines()
    if row.startswith("| `")
]
ELSEWHERE = {"sample"}  # has a section of its own


def arguments(text: str) -> Iterator[tuple[str, str | None]]:
    """Each argument that a row names and what it says of it: a default, '?' where it may be missing, None where it must be given."""
    for code in re.findall("`([^`]+)`", text):
        for part in re.findall(r"(?:\[[^]]*\]|[^,;\[])+", code):
            if found := re.fullmatch(r"\s*(\w+)(\?|: *(.+?))?\s*", part):
                yield found[1], found[3] or found[2]


@pytest.mark.parametrize("names, text", ROWS, ids=[names for names, _ in ROWS])
def test_defaults(names: str, text: str):
    made = [layers()[n] for n in re.findall(r"\w+", names) if n not in ELSEWHERE]
    groups = text.split("; ") if names.count(";") == text.count("; ") > 0 else [text] * (names.count(";") + 1)
    said = {
        n: dict(reversed([*arguments(g)])) for ns, g in zip(names.split(";"), groups) for n in re.findall(r"\w+", ns)
    }
    for layer in made:
        for key, (hint, default) in layer.args.items():
            assert key in said[layer.name], f"{layer.name}: {key} is not in the table"
            told = said[layer.name][key]
            if default is inspect.Parameter.empty or default is None:
                assert told == (None if default is inspect.Parameter.empty else "?"), f"{layer.name}: {key} {told}"
            else:
                assert told not in (None, "?"), f"{layer.name}: {key} has the default {default}"
                assert convert(parse(told), hint, key) == default, f"{layer.name}: {key}"


def test_every_layer_has_a_row():
    assert {n for names, _ in ROWS for n in re.findall(r"\w+", names)} == set(layers())
