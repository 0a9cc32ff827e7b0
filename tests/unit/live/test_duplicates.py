"""Loads that repeat each other, and polls beside a stream: the finder alone, and as a client sees it."""

from __future__ import annotations

import pytest

from massive_lab.clock import ManualClock
from massive_lab.live.duplicates import LoadedTwice, LoadWatch, place_of
from massive_lab.telemetry import DuplicateWork, LoadDone, Telemetry


def load(loader="bars", symbols=("AAPL",), requests=("a",), caller="run.py:3", outcome="ok"):
    return LoadDone(0.0, loader, symbols, 1, 1, 0.1, outcome, caller, requests)


@pytest.fixture
def finder():
    return LoadedTwice(60.0, 3, lambda: {"SPY"})


def test_the_same_load_within_the_window_is_found_once(finder):
    assert finder.loaded(load(), 0.0) == []
    (found,) = finder.loaded(load(caller="run.py:9"), 59.0)
    assert (found.kind, found.what, found.callers, found.n) == ("repeated_load", "bars AAPL", ("run.py:3", "run.py:9"), 2)
    assert finder.loaded(load(), 70.0) == []


def test_a_load_that_others_have_covered_together_is_found(finder):
    finder.loaded(load(symbols=("AAPL", "MSFT"), requests=("a", "m")), 0.0)
    finder.loaded(load(symbols=("SPY",), requests=("s",)), 1.0)
    assert finder.loaded(load(symbols=("MSFT", "QQQ"), requests=("m", "q")), 2.0) == []
    (found,) = finder.loaded(load(symbols=("MSFT", "SPY"), requests=("m", "s")), 3.0)
    assert found.kind == "repeated_load"


@pytest.mark.parametrize(
    ("second", "at_s"),
    [
        (load(), 60.1),
        (load(requests=("b",)), 1.0),
        (load(outcome="error"), 1.0),
        (load(requests=()), 1.0),
    ],
    ids=["later", "other", "failed", "cached"],
)
def test_what_is_no_repetition(second, at_s, finder):
    finder.loaded(load(), 0.0)
    assert finder.loaded(second, at_s) == []


@pytest.mark.parametrize("loader", ["poll:stocks", "backfill:stocks"])
def test_what_the_live_system_asks_for_by_itself_is_no_repetition_of_the_user(loader, finder):
    finder.loaded(load(loader), 0.0)
    assert finder.loaded(load(loader), 1.0) == []


@pytest.mark.parametrize("loader", ["snapshot", "indices", "last", "chain", "market_status"])
def test_the_present_may_be_asked_for_again(loader, finder):
    finder.loaded(load(loader), 0.0)
    assert finder.loaded(load(loader), 1.0) == []


@pytest.mark.parametrize("loader", ["snapshot", "indices", "last"])
def test_a_streamed_symbol_polled_three_times_a_minute_is_found_once(loader, finder):
    at = (0.0, 31.0, 59.0, 60.0, 90.0)
    found = [finder.loaded(load(loader, ("SPY", "AAPL"), caller=f"run.py:{n}"), at_s) for n, at_s in enumerate(at)]
    assert [len(each) for each in found] == [0, 0, 1, 0, 0]
    (poll,) = found[2]
    assert (poll.kind, poll.what, poll.n) == ("poll_beside_stream", "SPY", 3)
    assert poll.callers == ("run.py:0", "run.py:1", "run.py:2")


def test_slow_polls_and_those_before_the_stream_do_not_count():
    live = set()
    finder = LoadedTwice(60.0, 3, lambda: live)
    for at_s in (0.0, 1.0, 2.0):
        assert finder.loaded(load("last", ("SPY",)), at_s) == []
    live.add("SPY")
    for at_s in (3.0, 40.0, 80.0, 120.0):
        assert finder.loaded(load("last", ("SPY",)), at_s) == []
    live.clear()
    finder.loaded(load("last", ("SPY",)), 121.0)
    live.add("SPY")
    assert finder.loaded(load("last", ("SPY",)), 122.0) == []


def test_memory_is_bounded(finder):
    for n in range(25_000):
        finder.loaded(load(requests=(str(n),)), float(n) / 1_000)
    assert len(finder._asked) == 10_000


def test_a_finding_is_a_row_and_an_event():
    seen, telemetry = [], Telemetry()
    watch = LoadWatch(telemetry, ManualClock(start_ns=5))
    telemetry.add(seen.append)
    telemetry.emit(load())
    telemetry.emit(load())
    (row,) = watch.warned
    (event,) = [event for event in seen if isinstance(event, DuplicateWork)]
    assert (row.since_ns, row.kind, row.topic, row.callers) == (5, event.kind, event.what, event.callers)


def test_a_cell_is_one_place_and_a_line_is_one():
    assert place_of("In[12]:3") == place_of("In[12]:40")
    assert place_of("run.py:3") != place_of("run.py:40")
