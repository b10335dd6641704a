"""The list of twins is true: of examples that exist, and of functions and classes that are there. PyTorch is not needed."""

from __future__ import annotations

import ast
from pathlib import Path

from twins.registry import TWINS, Twin

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "examples" / "zoo"


def test_the_list_is_true():
    assert len(TWINS) >= 40
    assert set(TWINS) <= {path.stem for path in EXAMPLES.glob("*.yaml")}
    for name, twin in TWINS.items():
        body = ast.parse((HERE / f"{twin.family}.py").read_text(encoding="utf-8")).body
        assert name in {f.name for f in body if isinstance(f, (ast.FunctionDef, ast.ClassDef))}, (
            f"{twin.family}.py has no {name}"
        )
        assert bool(twin.reason) == (twin.exact > Twin("").exact), f"a looser bound of {name} needs its reason"
