"""Problems are shown with the line of the file and a caret under the word."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from graphc.cli import main
from graphc.cli.excerpt import WIDTH, excerpt, shown
from graphc.errors import CheckError, LoadError, Location

TEXT = """graphc: 1
inputs: {image: [batch, 3, 8, 8]}
net:
  - conv: {out: 8, pad: sane}
  - reluu
  - dense: 10
"""


def test_each_problem_with_its_line(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text(TEXT)
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 3
    assert (
        "\n    - conv: {out: 8, pad: sane}\n                          ^^^^\n  did you mean 'same'?\n" in result.output
    )
    assert "\n    - reluu\n      ^^^^^\n" in result.output
    other = CliRunner().invoke(main, ["show", str(path)])
    assert other.exit_code == 3 and "      ^^^^^\n" in other.stderr


def test_a_warning_too(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text(TEXT.replace("sane", "same").replace("  - reluu\n  - dense: 10", "  - relu\nparams: {left: 3}"))
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 0
    assert "nothing uses the param 'left'" in result.output
    assert "\n    params: {left: 3}\n             ^^^^\n" in result.output


@pytest.mark.parametrize("at", [0, 30, 95, 130, 260])
def test_long_lines_are_cut_so_that_the_word_is_seen(tmp_path: Path, at: int):
    path = tmp_path / "m.yaml"
    path.write_text("first\n" + " " * 4 + "x" * at + " word " + "y" * 300 + "\n")
    line, caret = excerpt(Location(str(path), f"line 2, column {4 + at + 2}"))
    first = caret.index("^")
    assert line[first : caret.rindex("^") + 1] == "word" and len(line) <= 4 + WIDTH + 1


@pytest.mark.parametrize(
    ("text", "place", "line", "caret"),
    [
        ("net: [{as: 漢字}, reluu]", (1, 17), "net: [{as: 漢字}, reluu]", " " * 18 + "^" * 5),
        ("net: [漢字, relu]", (1, 7), "net: [漢字, relu]", " " * 6 + "^" * 4),
        ("net: [e\u0301x, reluu]", (1, 12), "net: [e\u0301x, reluu]", " " * 10 + "^" * 5),
        ("\ufeffgraphc: 2", (1, 9), "graphc: 2", " " * 8 + "^"),
        ("doc: 'a\u2028  b\x85  c'\r\nreluu", (4, 1), "reluu", "^" * 5),
    ],
)
def test_carets_stand_under_the_word(tmp_path: Path, text: str, place: tuple[int, int], line: str, caret: str):
    """Wide characters take two columns, accents none; byte order marks are no text; lines end where YAML ends them."""
    path = tmp_path / "m.yaml"
    path.write_bytes(text.encode())
    assert excerpt(Location(str(path), "line {}, column {}".format(*place))) == [f"    {line}", f"    {caret}"]


def test_what_has_no_line_has_no_excerpt(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text("a: 1\n")
    for source in (
        Location(str(path)),
        Location(str(path), "node 3"),
        Location(str(path), "line 9, column 1"),
        Location(str(path), "line 1, column 40"),
        Location(str(tmp_path / "gone.yaml"), "line 1, column 1"),
        Location("<text>", "line 1, column 1"),
    ):
        assert excerpt(source) == []
    error = LoadError("is wrong", hint="mend it", source=Location(str(path), "line 1, column 4"))
    assert shown(error) == f"{path}: line 1, column 4: is wrong\n    a: 1\n       ^\n  mend it"
    several = CheckError([error, LoadError("more")])
    assert shown(several) == f"2 problems:\n- {shown(error)}\n- more"
