"""The second process that compiles kernels: with it, without it, and when it fails."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from graphc.backends.cpu.blocked.reorder_block import ClearHalo, ToBlocked, ToDense
from graphc.backends.cpu.codegen import compile_process
from graphc.backends.cpu.codegen.compile_process import Other
from graphc.backends.cpu.codegen.toolchain import Toolchain
from graphc.backends.cpu.conv.winograd_block import WinogradIn
from graphc.backends.cpu.kernel import Built
from graphc.backends.cpu.product.gemm_block import PackRows
from graphc.backends.cpu.target import detect
from graphc.lower.kernel import Kernel

QUICK = [WinogradIn(2), WinogradIn(4)]
SLOW = [ClearHalo(), PackRows(), ToDense(), ToBlocked()]


class Nonesuch(Kernel, name="nonesuch"):
    """Nobody generates it."""


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Toolchain:
    monkeypatch.setattr(compile_process, "cpu_count", lambda: 2)
    return Toolchain(detect(None), cache=False)


def build(tools: Toolchain, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[Kernel, Built], list[Kernel]]:
    """What was built, and which of it in this process."""
    results: dict[Kernel, Built] = {}
    here: list[Kernel] = []
    own = Toolchain.build
    monkeypatch.setattr(tools, "build", lambda k: (here.append(k), own(tools, k))[1])
    compile_process.build_all(tools.target, tools.build, QUICK, SLOW, results.__setitem__)
    assert results.keys() == {*QUICK, *SLOW}
    assert all(isinstance(b, Built) and b.code for b in results.values())
    return results, here


def test_both_processes_build(tools: Toolchain, monkeypatch: pytest.MonkeyPatch):
    """This one waits for the other's first kernel, which is the one that it would have built."""
    theirs, delivered = Other.build, threading.Event()

    def of_the_other(self: Other, kernel: Kernel) -> Built | None:
        built = theirs(self, kernel)
        delivered.set()
        return built

    monkeypatch.setattr(Other, "build", of_the_other)
    own = Toolchain.build
    monkeypatch.setattr(Toolchain, "build", lambda *args: (delivered.wait(60), own(*args))[1])
    results, here = build(tools, monkeypatch)
    assert here and SLOW[0] not in here
    assert results[SLOW[0]].source == own(tools, SLOW[0]).source


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "print('hello', flush=True); import time; time.sleep(60)"])
def test_a_process_that_fails_costs_nothing(code: str, tools: Toolchain, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile_process, "CODE", code)
    _, here = build(tools, monkeypatch)
    assert {*here} == {*QUICK, *SLOW}


def test_a_process_that_hangs_is_stopped(tools: Toolchain, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile_process, "CODE", "import time; time.sleep(600)")
    monkeypatch.setattr(compile_process, "PATIENCE", 0.1)
    _, here = build(tools, monkeypatch)
    assert {*here} == {*QUICK, *SLOW}


def test_a_program_that_embeds_python_is_not_started_again(tools: Toolchain, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    assert Other.start(tools.target) is None
    _, here = build(tools, monkeypatch)
    assert {*here} == {*QUICK, *SLOW}


def test_the_error_of_a_kernel_is_raised_here(tools: Toolchain):
    with pytest.raises(KeyError, match="nonesuch"):
        compile_process.build_all(tools.target, tools.build, [], [*SLOW, Nonesuch()], lambda k, b: None)


def test_the_process_is_started_ahead_only_for_what_nobody_has(
    tmp_path: Path, tools: Toolchain, monkeypatch: pytest.MonkeyPatch
):
    started: list[Other] = []
    start = Other.start
    monkeypatch.setattr(Other, "start", lambda target: started.append(start(target)) or started[-1])
    for _ in range(2):  # the second time its address is known
        with tools.expecting(SLOW[:1]):
            tools.addresses(SLOW[:1])
    assert len(started) == 1 and started[0]._process.poll() is not None
    with tools.expecting(SLOW[1:]), pytest.raises(ZeroDivisionError), tools.expecting(SLOW[1:]):
        raise ZeroDivisionError
    assert len(started) == 2 and started[1]._process.poll() is not None

    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    for _ in range(2):  # the second time the cache has it
        another = Toolchain(tools.target)
        with another.expecting(SLOW[:1]):
            another.addresses(SLOW[:1])
    assert len(started) == 3
