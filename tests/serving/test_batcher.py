"""Dynamic batching: rows of many callers run together, and each gets its own results, or its own error."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import numpy as np
import pytest

import graphc
from graphc.errors import GraphcError, InputError
from graphc.graph import Builder, Graph
from graphc.model import Model

F32 = np.float32
ROWS = np.random.default_rng(0).uniform(-1, 1, (40, 6)).astype(F32)
LONG = 30.0  # seconds that nothing here takes


def dense() -> Graph:
    """x [batch, 6] -> y [batch, 4], top [batch]."""
    b = Builder("dense")
    x = b.input("x", F32, ("batch", 6))
    y = b.add("Tanh", b.add("Gemm", x, b.constant(np.linspace(-1, 1, 24).reshape(6, 4), F32)))
    return b.build({"y": y, "top": b.add("ArgMax", y, axis=1, keepdims=0)})


def lengths() -> Graph:
    """x [batch, length], k [] -> y [batch, length]: a number that all rows share, and rows of any length."""
    b = Builder("lengths")
    return b.build({"y": b.add("Mul", b.input("x", F32, ("batch", "length")), b.input("k", F32, ()))})


def lookup() -> Graph:
    """at [batch] -> y [batch, 2]: an index may be wrong."""
    b = Builder("lookup")
    return b.build(
        {"y": b.add("Gather", b.constant(np.arange(10).reshape(5, 2), F32), b.input("at", np.int64, ("batch",)))}
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return graphc.compile(dense())


class Counted:
    """How many rows each call of a model had; `gate` holds them up."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        run = model.run

        def counted(feeds):
            self.rows.append(len(next(iter(feeds.values()))))
            self.begun.set()
            assert self.gate.wait(LONG)
            return run(feeds)

        monkeypatch.setattr(model, "run", counted)


@pytest.fixture
def counted(model: Model, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(model, monkeypatch)


def test_threads_get_the_results_of_their_own_rows(model: Model, counted: Counted):
    want = model(ROWS)
    with model.batcher(max_batch=8, max_delay=LONG) as batcher, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: batcher(ROWS[i : i + 1]), range(40)))
    np.testing.assert_allclose(np.concatenate([y for y, _ in found]), want[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([top for _, top in found]), want[1])
    assert counted.rows == [8, 1, 8, 8, 8, 8]  # the row alone was to check the first batch


def test_a_batch_that_is_not_full_runs_after_the_delay(model: Model, counted: Counted):
    with model.batcher(max_batch=8, max_delay=0.05, check=False) as batcher:
        begin = time.monotonic()
        futures = [batcher.submit(ROWS[i : i + 2]) for i in (0, 2, 4)]
        for future in futures:
            future.result(LONG)
        assert time.monotonic() - begin >= 0.05
    assert counted.rows == [6]


def test_rows_beyond_a_batch_wait_for_the_next(model: Model, counted: Counted):
    with model.batcher(max_batch=4, max_delay=0.01, check=False) as batcher:
        futures = [batcher.submit(ROWS[:3]) for _ in range(3)]
        assert [f.result(LONG)[0].shape for f in futures] == [(3, 4)] * 3
    assert counted.rows == [3, 3, 3]


def test_coroutines_of_two_loops(model: Model):
    want = model(ROWS)[0]

    async def ask(batcher, rows) -> np.ndarray:
        found = await asyncio.gather(*(batcher.call(x=ROWS[i : i + 1]) for i in rows))
        return np.concatenate([y for y, _ in found])

    with model.batcher(max_batch=4, max_waiting=2) as batcher, ThreadPoolExecutor(2) as pool:
        halves = pool.map(lambda rows: asyncio.run(ask(batcher, rows)), (range(20), range(20, 40)))
        np.testing.assert_allclose(np.concatenate(list(halves)), want, rtol=1e-5, atol=1e-6)


def test_rows_of_other_shapes_and_shared_inputs_run_apart(monkeypatch: pytest.MonkeyPatch):
    model = graphc.compile(lengths())
    counted = Counted(model, monkeypatch)
    asked = [(n, k) for n in (3, 5) for k in (1.0, 2.0) for _ in range(2)]
    with model.batcher(max_batch=2, max_delay=LONG, check=False) as batcher:
        futures = [batcher.submit(np.ones((1, n), F32), np.array(k, F32)) for n, k in asked]
        for (n, k), future in zip(asked, futures):
            np.testing.assert_array_equal(future.result(LONG), np.full((1, n), k, F32))
    assert counted.rows == [2, 2, 2, 2]


def test_an_error_reaches_its_own_caller_only():
    model = graphc.compile(lookup())
    with model.batcher(max_batch=3, max_delay=LONG) as batcher:
        futures = [batcher.submit(np.array([at])) for at in (1, 7, 4)]
        np.testing.assert_array_equal(futures[0].result(LONG), [[2, 3]])
        with pytest.raises(GraphcError):
            futures[1].result(LONG)
        np.testing.assert_array_equal(futures[2].result(LONG), [[8, 9]])


def test_what_does_not_fit_is_said_at_once(model: Model):
    with model.batcher(max_batch=2) as batcher:
        for wrong, message in (
            ((ROWS[0],), "shape"),
            ((ROWS[:1].astype(np.float64),), "float64"),
            ((), "missing: x"),
            ((ROWS[:1], ROWS[:1]), "takes 1 inputs"),
            ((ROWS[:3],), "3 rows, the batcher takes 1 to 2"),
            ((ROWS[:0],), "0 rows"),
        ):
            with pytest.raises(InputError, match=message):
                batcher(*wrong)


def test_models_without_a_batch_axis_are_refused():
    fixed, b = Builder("fixed"), Builder("summed")
    static = fixed.build({"y": fixed.add("Relu", fixed.input("x", F32, (1, 4)))})
    with pytest.raises(InputError, match="no input's first dim is open"):
        graphc.compile(static).batcher()
    total = b.add("ReduceSum", b.input("x", F32, ("n", 4)), b.constant([0], np.int64), keepdims=0)
    with pytest.raises(InputError, match="does not begin with a dim of the inputs"):
        graphc.compile(b.build({"total": total})).batcher()


def test_rows_that_depend_on_each_other_are_refused():
    b = Builder("mixed")
    model = graphc.compile(b.build({"y": b.add("Softmax", b.input("x", F32, ("n", 4)), axis=0)}))
    with model.batcher(max_batch=2, max_delay=LONG) as batcher:
        for future in [batcher.submit(np.ones((1, 4), F32)) for _ in range(2)]:
            with pytest.raises(InputError, match="depends on the other rows"):
                future.result(LONG)
        with pytest.raises(InputError, match="depends on the other rows"):
            batcher.submit(np.ones((2, 4), F32)).result(LONG)
    with model.batcher(max_batch=2, max_delay=LONG, check=False) as batcher:
        assert batcher(np.ones((2, 4), F32)).tolist() == [[0.5] * 4] * 2


@pytest.mark.parametrize(
    "wrong", [{"max_batch": 0}, {"max_batch": 2.5}, {"max_delay": -1}, {"max_delay": "1"}, {"max_waiting": 0}]
)
def test_options_that_make_no_sense(model: Model, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        model.batcher(**wrong)


def test_what_is_cancelled_before_its_batch_is_not_run(model: Model, counted: Counted):
    counted.gate.clear()
    with model.batcher(max_batch=1, check=False) as batcher:
        first, second, third = (batcher.submit(ROWS[:1]) for _ in range(3))
        assert counted.begun.wait(LONG)
        assert second.cancel() and not first.cancel()
        counted.gate.set()
        third.result(LONG)
        with pytest.raises(CancelledError):
            second.result(LONG)
    assert counted.rows == [1, 1]


def test_a_coroutine_that_is_cancelled_gives_its_place_back(model: Model, counted: Counted):
    counted.gate.clear()

    async def scene(batcher) -> None:
        running = asyncio.create_task(batcher.call(ROWS[:1]))
        while not counted.begun.is_set():
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(batcher.call(ROWS[:1]))  # has the one place
        queued = [asyncio.create_task(batcher.call(ROWS[:1])) for _ in range(2)]  # have none
        await asyncio.sleep(0.01)
        for task in (waiting, queued[0]):
            task.cancel()
        await asyncio.sleep(0)
        counted.gate.set()
        assert (await running)[0].shape == (await queued[1])[0].shape == (1, 4)
        assert [t.cancelled() for t in (waiting, queued[0])] == [True, True]
        await batcher.call(ROWS[:1])

    with model.batcher(max_batch=1, max_waiting=1, check=False) as batcher:
        asyncio.run(asyncio.wait_for(scene(batcher), LONG))
    assert counted.rows == [1, 1, 1]


def test_no_more_than_max_waiting_wait(model: Model, counted: Counted):
    counted.gate.clear()
    with model.batcher(max_batch=1, max_waiting=2, check=False) as batcher, ThreadPoolExecutor(1) as pool:
        taken = [batcher.submit(ROWS[:1])]
        assert counted.begun.wait(LONG)
        taken += [batcher.submit(ROWS[:1]) for _ in range(2)]
        beyond: Future = pool.submit(batcher.submit, ROWS[:1])
        time.sleep(0.02)
        assert not beyond.done()
        counted.gate.set()
        taken.append(beyond.result(LONG))
        assert all(f.result(LONG)[0].shape == (1, 4) for f in taken)


def test_a_callback_that_would_wait_for_itself_is_told(model: Model, counted: Counted):
    counted.gate.clear()
    with model.batcher(max_batch=1, max_delay=0, max_waiting=1) as batcher:
        said: Future = Future()

        def callback(_: Future) -> None:
            batcher.submit(ROWS[:1])  # there is a place
            for wait in (batcher, batcher.submit):
                with pytest.raises(GraphcError, match="the thread that it runs on"):
                    wait(ROWS[:1])
            said.set_result(True)

        batcher.submit(ROWS[:1]).add_done_callback(callback)
        counted.gate.set()
        assert said.result(LONG)


def test_close_runs_what_waits_and_takes_no_more(model: Model):
    batcher = model.batcher(max_batch=8, max_delay=LONG)
    future = batcher.submit(ROWS[:1])
    batcher.close()
    assert future.done() and future.result()[0].shape == (1, 4)
    batcher.close()
    with pytest.raises(GraphcError, match="closed"):
        batcher(ROWS[:1])


def test_an_exception_in_its_context_cancels_what_waits(model: Model):
    with pytest.raises(KeyError), model.batcher(max_batch=8, max_delay=LONG) as batcher:
        future = batcher.submit(ROWS[:1])
        raise KeyError
    assert future.cancelled()


def test_close_refuses_those_who_wait_for_a_place(model: Model, counted: Counted):
    counted.gate.clear()
    batcher = model.batcher(max_batch=1, max_waiting=1, check=False)
    with ThreadPoolExecutor(1) as pool:
        first = batcher.submit(ROWS[:1])
        assert counted.begun.wait(LONG)
        second, beyond = batcher.submit(ROWS[:1]), pool.submit(batcher.submit, ROWS[:1])
        time.sleep(0.02)
        closing = threading.Thread(target=batcher.close, args=(True,))
        closing.start()
        with pytest.raises(GraphcError, match="closed"):
            beyond.result(LONG)
        counted.gate.set()
        closing.join(LONG)
    assert second.cancelled() and first.result()[0].shape == (1, 4)


def test_a_batcher_that_nobody_holds_ends_its_thread(model: Model):
    batcher = model.batcher()
    thread = batcher._thread
    del batcher
    gc.collect()
    thread.join(LONG)
    assert not thread.is_alive()


def test_a_forked_child_is_told_that_nobody_would_answer(model: Model, monkeypatch: pytest.MonkeyPatch):
    with model.batcher() as batcher:
        here = os.getpid()
        with monkeypatch.context() as m:
            m.setattr(os, "getpid", lambda: here + 1)
            with pytest.raises(GraphcError, match="forked"):
                batcher(ROWS[:1])


def test_a_batcher_does_not_pickle(model: Model):
    with model.batcher() as batcher, pytest.raises(TypeError, match="pickle its model"):
        pickle.dumps(batcher)


def test_warm_makes_plans_for_every_size(model: Model, counted: Counted):
    with model.batcher(max_batch=4) as batcher:
        batcher.warm(ROWS[:1])
        assert counted.rows == [4, 3, 2, 1]
        with pytest.raises(InputError, match="one row"):
            batcher.warm(ROWS[:2])


@pytest.mark.slow
def test_many_threads_and_cancellations_lose_nothing(model: Model):
    want, rng = model(ROWS)[0], np.random.default_rng(1)
    cancel, picks = rng.random(3000) < 0.2, rng.integers(0, 38, 3000)

    def ask(i: int) -> None:
        at, rows = picks[i], 1 + i % 2
        future = batcher.submit(ROWS[at : at + rows])
        if cancel[i] and future.cancel():
            return
        np.testing.assert_allclose(future.result(LONG)[0], want[at : at + rows], rtol=1e-5, atol=1e-6)

    with model.batcher(max_batch=8, max_delay=0.001, max_waiting=6) as batcher, ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(3000)))
