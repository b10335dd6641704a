"""The table of ONNX files of packages marks those whose own rounding moves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from real_files.run import UNSTEADY, moved
from real_files.table import unsteady


@pytest.mark.parametrize("trips, marked", [(1, False), (60, True)])
def test_files_that_enlarge_rounding(trips: int, marked: bool, tmp_path: Path):
    """The logistic map: after 60 trips a unit in the last place is another orbit."""
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
    g (float[4] x) => (float[4] y) <int64 n = {{{trips}}}, bool go = {{1}}, float r = {{3.9}}, float one = {{1}}> {{
      y = Loop(n, go, x) <body = step (int64 i, bool c, float[4] v) => (bool d, float[4] w) {{
        d = Identity(c)
        rest = Sub(one, v)
        rv = Mul(r, v)
        w = Mul(rv, rest)
      }}>
    }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    result = {"moved": moved(tmp_path / "m.onnx", {"x": np.float32([0.1, 0.2, 0.3, 0.4])})}
    assert unsteady(result) == marked == (result["moved"] > UNSTEADY)
    assert not unsteady({}), "a result from before that was asked"
