#!/usr/bin/env bash
# PyTorch's TransformerEncoderLayer computes another activation in evaluation than in training, where it was given nn.GELU("tanh").
#
# In evaluation without gradients the layer takes a fused path ("fast path"). Whether that may be taken is asked of the activation by
# its class: any nn.GELU counts as the exact one, whatever its `approximate`. So the same weights give other results under
# torch.no_grad() than with gradients, and than an exported or re-implemented network that follows the module. A function
# (lambda x: F.gelu(x, approximate="tanh")) as the activation is not recognised, takes the ordinary path, and agrees with itself.
#
# Seen with torch 2.13.0 (CPU), largest differences of results of about 1:
#   nn.GELU("tanh"), evaluation against the ordinary path    6e-04
#   a function, evaluation against the ordinary path         1e-06
#   nn.GELU("tanh") in evaluation against nn.GELU() there    0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


def layer(activation) -> nn.TransformerEncoderLayer:
    torch.manual_seed(1)
    made = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, activation=activation, batch_first=True)
    for p in made.parameters():  # so that what goes into the activation is spread wide
        if p.dim() == 2:
            nn.init.normal_(p, std=0.25)
    return made.eval()


x = torch.randn(8, 16, 64)


def fast(activation) -> torch.Tensor:
    with torch.no_grad():
        return layer(activation)(x)


def ordinary(activation) -> torch.Tensor:
    return layer(activation)(x.clone().requires_grad_()).detach()  # gradients: the fused path is not taken


def tanh_gelu(v: torch.Tensor) -> torch.Tensor:
    return F.gelu(v, approximate="tanh")


module = (fast(nn.GELU("tanh")) - ordinary(nn.GELU("tanh"))).abs().max().item()
function = (fast(tanh_gelu) - ordinary(tanh_gelu)).abs().max().item()
exact = (fast(nn.GELU("tanh")) - fast(nn.GELU())).abs().max().item()
print(f"torch {torch.__version__}")
print(f'nn.GELU("tanh"), evaluation against the ordinary path    {module:.0e}')
print(f"a function, evaluation against the ordinary path         {function:.0e}")
print(f'nn.GELU("tanh") in evaluation against nn.GELU() there    {exact:.0e}')
assert module > 1e-4 and function < 1e-5 and exact == 0, "the behaviour has changed"
PY
