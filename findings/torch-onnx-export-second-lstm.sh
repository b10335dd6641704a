#!/usr/bin/env bash
# torch.onnx.export of an LSTM or a GRU keeps free steps in the first export of a process; the same call once more fixes them.
#
# The second file is told to have a free axis "steps" by dynamic_shapes, and has the number of the example instead: without an error or a
# warning of it, and also where the first export was of another module, without free axes. So in a long process (a test suite, a
# notebook, a server that converts models) a file depends on what was exported before. What the first export leaves in the operator's
# dispatch cache makes the difference: emptied (torch.ops.aten.lstm.input._dispatch_cache.clear()), the next export is as the first.
#
# Seen with torch 2.13.0 (CPU), onnxscript 0.7.2, input of the file, exported with free batch and steps:
#   first export     [batch, steps, 4]
#   second export    [batch, 6, 4]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
"$work/venv/bin/python" - 2> "$work/log" <<'PY' || { cat "$work/log"; exit 1; }
import torch
from torch import nn


def exported() -> list:
    module, x = nn.LSTM(4, 5, batch_first=True).eval(), torch.randn(2, 6, 4)
    free = {"input": {0: torch.export.Dim("batch"), 1: torch.export.Dim("steps")}}
    program = torch.onnx.export(module, (x,), dynamo=True, dynamic_shapes=free, opset_version=18, verbose=False)
    return [d.dim_param or d.dim_value for d in program.model_proto.graph.input[0].type.tensor_type.shape.dim]


first, second = exported(), exported()
print(f"torch {torch.__version__}")
print(f"first export     {first}")
print(f"second export    {second}")
assert first == ["batch", "steps", 4] and second == ["batch", 6, 4], "the behaviour has changed"
PY
