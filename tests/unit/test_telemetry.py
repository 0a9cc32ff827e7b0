from __future__ import annotations

import dataclasses
import inspect
import logging
import pickle
import sys
import threading
from collections.abc import Iterator

import pytest

from massive_lab import telemetry
from massive_lab.telemetry import Event, RequestDone, Telemetry, TopicOpened

EVENT = TopicOpened(0.0, "stocks", "T.AAPL")


def kinds() -> list[type[Event]]:
    found = [kind for _, kind in inspect.getmembers(telemetry, inspect.isclass)]
    return [kind for kind in found if issubclass(kind, Event) and kind is not Event]


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Broken:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.n_calls = 0

    def __call__(self, event: Event, /) -> None:
        self.n_calls += 1
        raise self.error


def test_every_event_is_public_frozen_and_slotted() -> None:
    assert {kind.__name__ for kind in kinds()} <= set(telemetry.__all__)
    assert telemetry.__all__ == sorted(telemetry.__all__)
    for kind in kinds():
        assert dataclasses.fields(kind)[0].name == "at_s"
        assert "__slots__" in vars(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        EVENT.topic = "T.MSFT"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(EVENT)) == EVENT


def test_a_request_counts_as_sent_unless_told_otherwise() -> None:
    assert RequestDone(0.0, "chain", "chain", 200, "ok", 1, 0.1, 1).sent


def test_hooks_are_called_in_the_order_they_came() -> None:
    one, seen = Telemetry(), []
    for name in "abc":
        one.add(lambda _, name=name: seen.append(name))
    one.emit(EVENT)
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize("error", [ValueError("x"), AssertionError(), LookupError(), StopIteration(), OSError()])
def test_a_failing_hook_breaks_neither_the_caller_nor_the_others(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    one, before, after = Telemetry(), [], []
    broken = Broken(error)
    one.add(before.append)
    one.add(broken)
    one.add(after.append)
    for _ in range(3):
        one.emit(EVENT)
    assert len(before) == len(after) == broken.n_calls == 3
    assert one.n_hook_errors == 3
    # Logged once, with the traceback.
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("massive_lab.telemetry", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_each_failing_hook_is_logged_also_one_that_comes_after_another_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Telemetry()
    for _ in range(5):  # a removed hook's address is soon another's
        remove = one.add(Broken(ValueError()))
        one.emit(EVENT)
        remove()
    assert len(caplog.records) == one.n_hook_errors == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_program_is_no_failure_of_a_hook(error: type[BaseException]) -> None:
    def hook(event: Event, /) -> None:
        raise error

    one = Telemetry()
    one.add(hook)
    with pytest.raises(error):
        one.emit(EVENT)
    assert one.n_hook_errors == 0


def test_a_hook_added_twice_is_removed_one_by_one() -> None:
    one, seen = Telemetry(), []
    hook = seen.append
    first, second = one.add(hook), one.add(hook)
    one.emit(EVENT)
    assert len(seen) == 2
    first()
    first()  # again: nothing more
    one.emit(EVENT)
    assert len(seen) == 3
    assert one.has_hooks
    second()
    assert not one.has_hooks


def test_a_hook_may_add_and_remove_while_it_is_called() -> None:
    one, seen = Telemetry(), []

    def hook(event: Event, /) -> None:
        remove()
        one.add(seen.append)

    remove = one.add(hook)
    one.emit(EVENT)
    assert seen == []  # not yet there when the event was emitted
    one.emit(EVENT)
    assert seen == [EVENT]


def test_threads_that_add_remove_and_emit_at_once_lose_nothing(switching: None) -> None:
    one = Telemetry()
    n_threads, n_rounds = 8, 300
    steady: list[Event] = []
    one.add(steady.append)
    kept: list[list[Event]] = [[] for _ in range(n_threads)]
    errors: list[BaseException] = []
    start = threading.Barrier(n_threads)

    def work(mine: list[Event]) -> None:
        try:
            start.wait()
            for _ in range(n_rounds):
                one.add(lambda _: None)()
                one.emit(EVENT)
            one.add(mine.append)
        except BaseException as error:  # noqa: BLE001  told to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in kept]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(steady) == n_threads * n_rounds
    for mine in kept:
        mine.clear()
    one.emit(EVENT)
    assert kept == [[EVENT]] * n_threads
    assert len(one._hooks) == n_threads + 1


def test_two_telemetries_share_nothing() -> None:
    one, two = Telemetry(), Telemetry()
    one.add(Broken(ValueError()))
    two.emit(EVENT)
    assert (one.has_hooks, two.has_hooks, two.n_hook_errors) == (True, False, 0)
