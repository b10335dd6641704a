"""Machine code for GPUs, compiled without one: networks as a whole, nothing spilled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import graphc

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FEW = 24  # bytes of a thread, outside of its loops, by which ptxas gets along with 32 registers: 2048 threads live at once
EVERY = sorted(p.stem for p in EXAMPLES.glob("*.yaml"))


def check(name: str, arch: str) -> None:
    model = graphc.compile(EXAMPLES / f"{name}.yaml", target="cuda", arch=arch)
    shapes = {s.name: [d if isinstance(d, int) else 1 for d in s.shape] for s in model.inputs}
    steps = model.plan(shapes).steps
    assert steps and all("registers" in s.reason for s in steps)
    spilled = {s.kernel: int(found[1]) for s in steps if (found := re.search(r"(\d+) bytes spilled", s.reason))}
    assert {kernel: nbytes for kernel, nbytes in spilled.items() if nbytes > FEW} == {}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("name", ["lenet5", "resnet18"])
def test_small_networks(name: str, arch: str):
    check(name, arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", EVERY)
def test_every_example(name: str, arch: str):
    check(name, arch)
