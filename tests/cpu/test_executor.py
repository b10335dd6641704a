"""Threads, processes and signals around a compiled model: never a hang, never a wrong answer.

What could hang runs in a process of its own with a time limit.
"""

from __future__ import annotations

import _thread
import os
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from nets import agree, convnet, recurrent, transformer
from scripts import run_script

import graphc
from graphc.backends.cpu import hardware, target
from graphc.backends.cpu.runtime import run
from graphc.backends.cpu.runtime.process import runtime_of
from graphc.backends.reference import run as reference
from graphc.errors import GraphcWarning, InputError

RNG = np.random.default_rng(0)
GRAPHS = {
    "convnet": (convnet, (2, 3, 28, 28)),
    "transformer": (transformer, (2, 10, 32)),
    "recurrent": (recurrent, (9, 3, 24)),
}
# what every program below begins with: two models of two threads, their feeds and their answers
SETUP = """
import multiprocessing, os, signal, sys, threading, time
import numpy as np
import graphc
from graphc.backends.cpu.runtime import run
from nets import convnet, transformer

run.SHARED_STEP = run.SHARED_PROGRAM = 0  # threads share small steps too
threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
net, text = graphc.compile(convnet(), threads=threads), graphc.compile(transformer(), threads=threads)
rng = np.random.default_rng(0)
x, t = rng.random((1, 3, 28, 28), np.float32), rng.random((1, 7, 32), np.float32)
want, want_text = net(x), text(t)

def right():
    return np.array_equal(net(x), want) and all(map(np.array_equal, text(t), want_text))
"""

# interrupted(call, seconds): was the call, begun now, interrupted after that time?
INTERRUPTS = """
armed = False

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)

def interrupted(call, seconds):
    global armed
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
        armed = False
    except KeyboardInterrupt:
        return True
    signal.setitimer(signal.ITIMER_REAL, 0)
    return False
"""


@pytest.fixture(autouse=True)
def share_small_steps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "SHARED_STEP", 0)
    monkeypatch.setattr(run, "SHARED_PROGRAM", 0)


def program(code: str) -> str:
    return SETUP + textwrap.dedent(code)


def random(shape: tuple[int, ...]) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


# --- threads of one inference -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", GRAPHS)
def test_any_number_of_threads_gives_the_same_bits(name: str):
    make, shape = GRAPHS[name]
    graph, x = make(), random(shape)
    one = graphc.compile(graph, threads=1).run({"x": x})
    agree(one, reference(graph, {"x": x}))
    for n in (2, 3, 4):
        model = graphc.compile(graph, threads=n)
        for _ in range(3):
            for output, a in model.run({"x": x}).items():
                np.testing.assert_array_equal(a, one[output], err_msg=f"{output}, {n} threads")


def test_the_number_of_threads_defaults_to_the_cpus_of_the_process():
    model = graphc.compile(convnet(), shapes={"x": (1, 3, 28, 28)})
    assert model.plan({"x": (1, 3, 28, 28)}).threads == hardware.cpu_count()


@pytest.mark.parametrize(("nanoseconds", "which"), [([9e3, 2e4], "none"), ([1e5, 100, 1e4], "long")])
def test_threads_share_what_is_worth_it(nanoseconds: list[float], which: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    flags = run.shared(np.array(nanoseconds))
    assert flags.tolist() == [which == "long" and n > 3000 for n in nanoseconds]


def test_a_worker_that_never_comes_holds_up_nobody():
    """The leader takes every part: here the worker threads are started but stay out."""
    code = """
    from graphc.backends.cpu.runtime.threads import Pool
    Pool._work = lambda self, worker: None
    fresh = graphc.compile(convnet(size=20), threads=threads)
    assert np.array_equal(fresh(x[:, :, :20, :20]), graphc.compile(convnet(size=20), threads=1)(x[:, :, :20, :20]))
    print("ok")
    """
    early = textwrap.dedent(code).replace(
        "fresh =",
        "from graphc.backends.cpu.runtime.process import RUNTIMES\nfor r in RUNTIMES.values(): r._executors.clear()\nfresh =",
        1,
    )
    assert run_script(SETUP + early, 3).strip() == "ok"


@pytest.mark.skipif(hardware.cpu_count() < 2, reason="one CPU only")
def test_a_caller_that_moves_between_the_cpus_of_its_workers():
    code = """
    cpus = sorted(os.sched_getaffinity(0))
    def workers():
        me = threading.get_native_id()
        return [os.sched_getaffinity(int(t)) for t in os.listdir("/proc/self/task") if int(t) != me]
    for cpu in cpus[:2] * 3:
        os.sched_setaffinity(0, {cpu})  # as if the scheduler had put us onto the worker's CPU
        for _ in range(500):
            assert right()
    os.sched_setaffinity(0, set(cpus))
    assert all(w and w <= set(cpus) for w in workers())
    print("ok")
    """
    assert run_script(program(code)).strip() == "ok"


# --- several Python threads -----------------------------------------------------------------------------------
def test_many_python_threads_call_two_models_at_once():
    code = """
    def caller(seed):
        own = np.random.default_rng(seed)
        for _ in range(40):
            n = int(own.integers(1, 4))
            scale = np.float32(own.uniform(0.5, 2))
            a = net(np.repeat(x * scale, n, 0))
            b = text(np.repeat(t, n, 0))
            if not np.array_equal(a, net(np.repeat(x * scale, n, 0))) or not np.array_equal(b[0][0], want_text[0][0]):
                failures.append(seed)

    failures = []
    callers = [threading.Thread(target=caller, args=(i,)) for i in range(6)]
    for c in callers: c.start()
    for c in callers: c.join()
    print("ok" if not failures else failures)
    """
    assert run_script(program(code), 4).strip() == "ok"


def test_recurrent_models_from_many_python_threads():
    graph, xs = recurrent(), [random((length, n, 24)) for length, n in ((9, 1), (5, 4), (1, 2))]
    models = [graphc.compile(graph, threads=n) for n in (2, 4)]
    want = [models[0](x) for x in xs]
    with ThreadPoolExecutor(6) as pool:
        for i, (y, last) in enumerate(pool.map(lambda i: models[i % 2](xs[i % 3]), range(120))):
            np.testing.assert_array_equal(y, want[i % 3][0])
            np.testing.assert_array_equal(last, want[i % 3][1])


def test_models_with_different_numbers_of_threads_run_at_once():
    graph, x = convnet(), random((1, 3, 28, 28))
    models = [graphc.compile(graph, threads=n) for n in (1, 2, 3)]
    want = models[0](x)
    with ThreadPoolExecutor(6) as pool:
        for y in pool.map(lambda i: models[i % 3](x), range(120)):
            np.testing.assert_array_equal(y, want)


def test_the_first_call_of_a_shape_may_come_from_many_threads():
    model = graphc.compile(convnet(), threads=2)
    x = random((3, 3, 28, 28))
    start = threading.Barrier(4)

    def call(_):
        start.wait()
        return model(x)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(4)))
    assert len(model._plans) == 1
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


def test_results_of_python_threads_do_not_mix():
    model, xs = graphc.compile(convnet(), threads=2), [random((1, 3, 28, 28)) for _ in range(8)]
    want = [model(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for y, w in zip(pool.map(model, xs), want):
                np.testing.assert_array_equal(y, w)


def test_a_model_outlives_the_thread_that_made_and_used_it():
    made = []

    def make():
        model = graphc.compile(convnet(), threads=2)
        made.append((model, model(x)))

    x = random((1, 3, 28, 28))
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    model, y = made[0]
    np.testing.assert_array_equal(model(x), y)


# --- processes ---------------------------------------------------------------------------------------------------
def test_a_forked_child_computes_and_the_parent_goes_on():
    code = """
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if right() and right() else 1)
        assert right()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert right()
    grandchild = os.fork()
    if grandchild == 0:
        inner = os.fork()
        if inner == 0:
            os._exit(0 if right() else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) if right() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
    print("ok")
    """
    assert run_script(program(code)).strip() == "ok"


def test_a_child_forked_while_other_threads_run_the_model():
    code = """
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            assert right()
    workers = [threading.Thread(target=busy) for _ in range(2)]
    for w in workers: w.start()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(0 if right() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    for w in workers: w.join()
    assert right()
    print("ok")
    """
    assert run_script(program(code)).strip() == "ok"


def test_a_child_forked_while_another_thread_compiles():
    code = """
    def compile_often():
        for k in range(20):
            graphc.compile(convnet(size=16 + k), threads=2, shapes={"x": (1, 3, 16 + k, 16 + k)})
    worker = threading.Thread(target=compile_often)
    worker.start()
    for k in range(12):
        child = os.fork()
        if child == 0:
            fresh = graphc.compile(convnet(size=20), threads=2)
            os._exit(0 if right() and fresh(x[:, :, :20, :20]).shape == (1, 10) and net(np.repeat(x, 2, 0)).shape == (2, 10) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        time.sleep(0.01)
    worker.join()
    print("ok")
    """
    assert run_script(program(code)).strip() == "ok"


def test_a_child_forked_while_another_thread_is_in_the_runtime():
    """Compiling, measuring and loading take turns in what the process holds of a target."""
    code = """
    from graphc.backends.cpu.runtime.process import RUNTIMES
    runtime, inside, leave = next(iter(RUNTIMES.values())), threading.Event(), threading.Event()
    def stay():
        with runtime._lock:
            inside.set()
            leave.wait()
    worker = threading.Thread(target=stay)
    worker.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        fresh = graphc.compile(convnet(size=20), threads=2)
        os._exit(0 if right() and fresh(x[:, :, :20, :20]).shape == (1, 10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    leave.set()
    worker.join()
    assert len(RUNTIMES) == 1 and runtime.executor(2) is runtime.executor(2) and right()
    print("ok")
    """
    assert run_script(program(code)).strip() == "ok"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str, tmp_path: Path):
    code = """
    import multiprocessing, sys
    import numpy as np
    import graphc
    from nets import convnet

    def infer(job):
        model, x = job
        return model(x)

    if __name__ == "__main__":
        model = graphc.compile(convnet(), threads=2)
        x = np.random.default_rng(0).random((1, 3, 28, 28), np.float32)
        want = model(x)
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            for y in pool.map(infer, [(model, x)] * 4):
                assert np.array_equal(y, want)
        assert np.array_equal(model(x), want)
        print("ok")
    """
    program = tmp_path / "program.py"  # spawned children import the main module
    program.write_text(textwrap.dedent(code))
    runner = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    if method == "spawn":
        runner = "import subprocess, sys; raise SystemExit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)"
    assert run_script(runner, program, method).strip() == "ok"


# --- the end -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "time.sleep(0.3)", "del net, text"])
def test_the_interpreter_ends_at_once_while_workers_sleep_or_spin(ending: str):
    started = "print(time.time(), flush=True)"
    code = SETUP + f"assert right()\n{started}\n{ending}\n"
    end = float(run_script(code, 4))
    assert time.time() - end < 5


def test_the_interpreter_ends_while_a_daemon_thread_runs_a_model():
    code = """
    def forever():
        while True:
            net(x)
    for _ in range(2):
        threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.2)
    print("ok", flush=True)
    """
    for _ in range(3):
        assert run_script(program(code)).strip() == "ok"


def test_a_run_in_an_exit_handler_of_the_user():
    code = "import atexit\natexit.register(lambda: print('ok' if right() else 'wrong', flush=True))\n"
    assert run_script(SETUP + code).strip() == "ok"
    early = "import atexit\natexit.register(lambda: print('ok' if right() else 'wrong', flush=True))\n" + SETUP
    assert run_script(early).strip() == "ok"


def test_an_interrupt_leaves_the_model_whole():
    code = """
    big = np.repeat(x, 64, 0)
    want_big = net(big)

    def work():
        for _ in range(50):
            net(big)
            text(t)

    hits = 0
    for k in range(60):
        hits += interrupted(work, 0.0005 + 0.0007 * (k % 12))
        assert np.array_equal(net(big), want_big) and right()
    assert hits > 30, hits
    print("ok")
    """
    assert run_script(SETUP + INTERRUPTS + textwrap.dedent(code)).strip() == "ok"


def test_interrupts_while_the_worker_threads_start():
    code = """
    executor = next(iter(net._plans.values())).program.executor

    def start():
        executor._pool = None
        net(x)
        time.sleep(0.001)

    for k in range(200):
        interrupted(start, 0.00002 + 0.00001 * (k % 40))
    assert right()
    print("ok")
    """
    assert run_script(SETUP + INTERRUPTS + textwrap.dedent(code), 3).strip() == "ok"


def test_no_more_threads_can_be_started(monkeypatch: pytest.MonkeyPatch):
    """One warning, and the inference runs on the caller's thread alone."""
    monkeypatch.setattr(runtime_of(target.detect()), "_executors", {})  # a pool of five may be running already
    model, x = graphc.compile(convnet(), threads=5), random((1, 3, 28, 28))
    start, ended = _thread.start_new_thread, []

    def limited(function: Callable, args: tuple) -> int:
        if len(ended) == 2:
            raise RuntimeError("can't start new thread")
        ended.append(threading.Event())

        def run(end: threading.Event = ended[-1]) -> None:
            function(*args)
            end.set()

        return start(run, ())

    monkeypatch.setattr(_thread, "start_new_thread", limited)
    with pytest.warns(GraphcWarning, match="worker threads"):
        y = model(x)
    np.testing.assert_array_equal(y, graphc.compile(convnet(), threads=1)(x))
    np.testing.assert_array_equal(model(x), y)
    assert len(ended) == 2 and all(end.wait(10) for end in ended), "those that were started end"


def test_an_error_in_the_data_leaves_the_model_whole():
    from graphc.graph import Builder

    b = Builder("lookup")
    x, at = b.input("x", np.float32, (10, 4)), b.input("at", np.int64, (6,))
    model = graphc.compile(b.build({"y": b.add("Relu", b.add("Gather", x, at))}), threads=2)
    x, good = random((10, 4)), np.array([0, -1, 9, 3, -10, 5])
    for bad in (10, -11, 1 << 40):
        with pytest.raises(InputError, match=str(bad)):
            model(x, np.array([0, 1, bad, 2, 3, 4]))
        np.testing.assert_array_equal(model(x, good), np.maximum(x[good], 0))


# --- how many CPUs -------------------------------------------------------------------------------------------------
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_cpu_count_honours_the_affinity_mask():
    code = """
    import os
    from graphc.backends.cpu.hardware import cpu_count
    one = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {one})
    print(cpu_count())
    """
    assert run_script(textwrap.dedent(code)).strip() == "1"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "nonsense\n"}, 8),
        ({"cpu.max": "100000 0\n"}, 8),
        ({}, 8),
    ],
)
def test_cpu_count_honours_the_quota_of_a_container(
    files: dict[str, str], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert hardware.cpu_count() == count


def test_models_share_the_worker_threads():
    models = [graphc.compile(convnet(), threads=2, shapes={"x": (1, 3, 28, 28)}) for _ in range(2)]
    one, other = (next(iter(m._plans.values())).program.executor for m in models)
    assert one is other
