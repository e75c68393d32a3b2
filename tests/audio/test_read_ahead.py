"""Read-ahead in a thread."""

import threading
from collections.abc import Iterator

import pytest

from keras_tagger.audio.read_ahead import in_parallel, read_ahead


def test_order_is_kept():
    assert list(read_ahead(iter(range(100)), depth=3)) == list(range(100))


def test_no_items():
    assert list(read_ahead(iter(()))) == []


def test_errors_come_after_the_items_before_them():
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    ahead = read_ahead(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_computes_the_next_items_in_another_thread_and_no_more_than_asked():
    made: list[str] = []
    enough = threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(threading.current_thread().name)
            if len(made) == 4:
                enough.set()
            yield number

    ahead = read_ahead(items(), depth=3)
    assert next(ahead) == 0
    assert next(ahead) == 1
    # The items 0 and 1 were taken; of the others at most three are held.
    assert enough.wait(10)
    assert len(made) <= 5
    assert set(made) == {made[0]}
    assert made[0] != threading.current_thread().name
    assert list(ahead) == list(range(2, 10))


def test_given_up_iterators_are_closed():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.set()

    ahead = read_ahead(items())
    next(ahead)
    ahead.close()
    assert closed.wait(10)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_in_parallel_keeps_order_and_takes_few_items_in_advance() -> None:
    taken: list[int] = []
    gate = threading.Barrier(3, timeout=10)

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    def double(number: int) -> int:
        if number < 3:
            gate.wait()  # passes only if three threads work at the same time
        return 2 * number

    stopped = threading.Event()
    results = in_parallel(double, items(), 3, stopped)
    assert not taken
    assert [next(results) for _ in range(4)] == [0, 2, 4, 6]
    assert len(taken) <= 4 + 3 + 3
    assert list(results) == [2 * number for number in range(4, 100)]
    assert stopped.is_set()


def test_in_parallel_stops_what_is_under_way() -> None:
    stopped = threading.Event()

    def wait(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        return number if number == 0 else stopped.wait(30)

    results = in_parallel(wait, range(9), 2, stopped)
    assert next(results) == 0
    with pytest.raises(ValueError, match="one"):
        next(results)
    assert stopped.is_set()
