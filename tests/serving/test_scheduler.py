"""The queue in front of the models: turns, batches, deadlines, refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_tagger.serving.config_files import BatchingOptions
from keras_tagger.serving.scheduler import FULL, Call, Scheduler
from keras_tagger.serving.status import StatusError
from raw_requests import wait_until

ONE = np.ones((1, 4), np.float32)
ADAPTIVE = BatchingOptions(max_batch_size=16, max_enqueued_batches=64, threads=1, max_batch_bytes=2**20)


class Model:
    """Doubles its input; notes the rows of each run, which takes `seconds` or lasts until `go` is set."""

    def __init__(self, independent: bool = True, seconds: float = 0.0) -> None:
        self.rows_are_independent = independent
        self.seconds = seconds
        self.go = threading.Event()
        self.go.set()
        self.runs: list[int] = []
        self.threads: list[int] = []

    def run(self, feeds: Any, fetches: Any, arrays: Any, deadline: float | None) -> list[Any]:
        self.runs.append(len(arrays[0]))
        self.threads.append(threading.get_ident())
        time.sleep(self.seconds)
        assert self.go.wait(20)
        return [arrays[0] * 2]


def run(scheduler: Scheduler, model: Any, array: np.ndarray = ONE, call: Call | None = None) -> Any:
    return scheduler.run(model, ["x"], ["y"], [array], call or Call())[0]


class Others:
    """Threads that each run one request; `results` has their values or errors in order."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self._threads: list[threading.Thread] = []

    def start(self, function: Callable[[], Any]) -> None:
        index = len(self.results)
        self.results.append(None)

        def work() -> None:
            try:
                self.results[index] = function()
            except StatusError as error:
                self.results[index] = error

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def join(self) -> list[Any]:
        for thread in self._threads:
            thread.join(20)
        return self.results


def busy(scheduler: Scheduler, model: Model, count: int, array: np.ndarray = ONE) -> Others:
    """Occupy the one place with a run, and let `count` others wait behind it."""
    model.go.clear()
    others = Others()
    others.start(lambda: run(scheduler, model))
    wait_until(lambda: scheduler.running == 1)
    for number in range(count):
        others.start(lambda number=number: run(scheduler, model, array * (number + 1)))
        wait_until(lambda number=number: scheduler.queued == number + 1)
    return others


def test_a_lone_request_runs_at_once_in_its_own_thread() -> None:
    scheduler, model = Scheduler(ADAPTIVE), Model()
    assert run(scheduler, model).tolist() == (ONE * 2).tolist()
    assert model.threads == [threading.get_ident()]


def test_what_waits_runs_together_and_each_gets_its_own() -> None:
    scheduler, model = Scheduler(ADAPTIVE), Model()
    others = busy(scheduler, model, 5)
    model.go.set()
    first, *rest = others.join()
    assert first.tolist() == (ONE * 2).tolist()
    assert [value[0, 0] for value in rest] == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert model.runs == [1, 5]


@pytest.mark.parametrize(
    ("independent", "batch_all", "runs"),
    [(False, None, [1, 1, 1, 1]), (False, True, [1, 3]), (True, False, [1, 1, 1, 1])],
)
def test_only_known_models_are_batched_unless_asked(independent: bool, batch_all: bool | None, runs: list[int]) -> None:
    scheduler, model = Scheduler(ADAPTIVE, batch_all), Model(independent)
    others = busy(scheduler, model, 3)
    model.go.set()
    others.join()
    assert model.runs == runs


def test_a_batch_has_a_limit_of_bytes() -> None:
    scheduler, model = Scheduler(ADAPTIVE), Model()
    others = busy(scheduler, model, 5, np.ones((1, 2**17), np.float32))
    model.go.set()
    others.join()
    # Half a megabyte each: two in a batch.
    assert model.runs == [1, 2, 2, 1]


def test_a_full_queue_refuses_at_once() -> None:
    options = BatchingOptions(max_batch_size=1, max_enqueued_batches=2, threads=1)
    scheduler, model = Scheduler(options, False), Model()
    others = busy(scheduler, model, 2)
    with pytest.raises(StatusError, match=FULL) as caught:
        run(scheduler, model)
    assert caught.value.code.name == "UNAVAILABLE"
    model.go.set()
    assert len(others.join()) == 3


def test_a_request_that_cannot_be_on_time_is_refused_on_arrival_and_not_run() -> None:
    scheduler, model = Scheduler(ADAPTIVE), Model(seconds=0.2)
    # It learns how long a run takes.
    run(scheduler, model)
    others = busy(scheduler, model, 1)
    begun = time.monotonic()
    with pytest.raises(StatusError, match="which is beyond its deadline") as caught:
        run(scheduler, model, call=Call(time.monotonic() + 0.1))
    assert caught.value.code.name == "RESOURCE_EXHAUSTED"
    assert time.monotonic() - begun < 0.1
    with pytest.raises(StatusError, match="which is beyond its deadline"):
        scheduler.check(Call(time.monotonic() + 0.05))
    model.go.set()
    others.join()
    assert model.runs == [1, 1, 1]


def test_an_idle_server_tries_everything() -> None:
    """A run that was slow once does not lock out requests with short deadlines for ever."""
    scheduler, model = Scheduler(ADAPTIVE), Model(seconds=0.3)
    run(scheduler, model)
    model.seconds = 0.0
    for _ in range(3):
        assert run(scheduler, model, call=Call(time.monotonic() + 0.1))[0, 0] == 2.0


def test_what_became_hopeless_or_was_cancelled_is_dropped() -> None:
    scheduler, model = Scheduler(ADAPTIVE, False), Model()
    others = busy(scheduler, model, 0)
    gone, late = Call(), Call(time.monotonic() + 0.2)
    others.start(lambda: run(scheduler, model, call=gone))
    others.start(lambda: run(scheduler, model, call=late))
    wait_until(lambda: scheduler.queued == 2)
    gone.cancel()
    time.sleep(0.3)
    model.go.set()
    _, cancelled, expired = others.join()
    assert (cancelled.code.name, expired.code.name) == ("CANCELLED", "DEADLINE_EXCEEDED")
    assert model.runs == [1]


def test_goodput_at_twice_the_capacity() -> None:
    """One place, 20 ms a run: 50 a second. Of 100 a second with deadlines of 0.2 s, about 50 come in time."""
    scheduler, model = Scheduler(ADAPTIVE, False), Model(seconds=0.02)
    good = []

    def ask(deadline: float) -> None:
        run(scheduler, model, call=Call(deadline))
        if time.monotonic() <= deadline:
            good.append(deadline)

    others = Others()
    begun = time.monotonic()
    for number in range(150):
        time.sleep(max(begun + number / 100 - time.monotonic(), 0.0))
        others.start(lambda: ask(time.monotonic() + 0.2))
    others.join()
    seconds = time.monotonic() - begun
    # Those that ran and yet came too late were run in vain.
    assert len(good) >= 0.9 * len(model.runs)
    assert len(good) >= 0.6 * seconds / 0.02
