"""One bar at a time: warm-up, refusals that leave the state alone, copies."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import pickle
from typing import Any

import pytest

from massive_lab import indicators as ind
from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.schema.session import new_york_ns

OPEN = new_york_ns(dt.date(2025, 6, 2), 9, 30)
MINUTE = 60 * 10**9


def bar(i: int) -> tuple[float, float, float]:
    close = 100 + math.sin(i) * 3
    return close + 1, close - 1, close


MAKERS: list[tuple[Any, Any]] = [
    (lambda: ind.EMA(20), lambda i: bar(i)[2:]),
    (lambda: ind.SMA(20), lambda i: bar(i)[2:]),
    (ind.RSI, lambda i: bar(i)[2:]),
    (ind.ATR, bar),
    (ind.MACD, lambda i: bar(i)[2:]),
    (ind.SessionVWAP, lambda i: (OPEN + MINUTE * i, *bar(i), 5.0)),
]
IDS = ["ema", "sma", "rsi", "atr", "macd", "vwap"]


@pytest.mark.parametrize(("make", "row"), MAKERS, ids=IDS)
def test_warmup_is_the_number_of_nones(make: Any, row: Any) -> None:
    indicator = make()
    values = [indicator.update(*row(i)) for i in range(60)]
    assert values.count(None) == indicator.warmup
    assert None not in values[indicator.warmup :]
    assert indicator.value == values[-1]
    assert repr(values[-1])[:6] in repr(indicator)


@pytest.mark.parametrize("n_before", [0, 5, 50])
@pytest.mark.parametrize(("make", "row"), MAKERS, ids=IDS)
def test_refused_and_missing_values_leave_the_state_alone(make: Any, row: Any, n_before: int) -> None:
    plain, disturbed = make(), make()
    for i in range(80):
        expected = plain.update(*row(i))
        if i == n_before:
            for bad in (math.nan, math.inf, -math.inf):
                broken = (*row(i)[:-1], bad)
                for call in (disturbed.update, disturbed.peek):
                    with pytest.raises(FrameInvariantError) as caught:
                        call(*broken)
                    assert caught.value.rule == "finite"
            assert disturbed.update(*row(i)[:-1], None) is None
            assert disturbed.peek(*row(i)[:-1], None) is None
        assert disturbed.update(*row(i)) == expected


@pytest.mark.parametrize(("make", "row"), MAKERS, ids=IDS)
def test_copies_are_independent(make: Any, row: Any) -> None:
    for n in (3, 50):
        original = make()
        for i in range(n):
            original.update(*row(i))
        for fork in (original.copy(), copy.copy(original), copy.deepcopy(original)):
            for i in range(n, n + 40):
                fork.update(*row(i * 3))
        fresh = make()
        assert [fresh.update(*row(i)) for i in range(n + 40)][n:] == [
            original.update(*row(i)) for i in range(n, n + 40)
        ]


@pytest.mark.parametrize(("make", "row"), MAKERS, ids=IDS)
def test_nothing_can_be_amended_before_the_first_bar(make: Any, row: Any) -> None:
    with pytest.raises(InvalidRequest, match="update first"):
        make().amend(*row(0))
    indicator = make()
    indicator.update(*row(0))
    indicator.amend(*row(1))
    assert indicator.snapshot()["before"] == list(make()._state())


@pytest.mark.parametrize("n", [1, 3, 50])
@pytest.mark.parametrize(("make", "row"), MAKERS, ids=IDS)
def test_a_refused_amendment_leaves_the_last_bar(make: Any, row: Any, n: int) -> None:
    indicator = make()
    for i in range(n):
        indicator.update(*row(i))
    before = indicator.snapshot()
    for bad in (math.nan, math.inf):
        with pytest.raises(FrameInvariantError):
            indicator.amend(*row(n - 1)[:-1], bad)
        assert indicator.snapshot() == before
    indicator.amend(*row(n - 1)[:-1], None)  # the bar is taken back
    indicator.amend(*row(n - 1))
    assert indicator.snapshot() == before


def test_a_vwap_amends_only_after_the_bar_before() -> None:
    vwap = ind.SessionVWAP()
    vwap.update(OPEN, 1, 1, 1, 1)
    vwap.update(OPEN + MINUTE, 2, 2, 2, 1)
    before = vwap.snapshot()
    with pytest.raises(FrameInvariantError) as caught:
        vwap.amend(OPEN, 1, 1, 1, 1)
    assert caught.value.rule == "sorted"
    with pytest.raises(FrameInvariantError) as caught:
        vwap.amend(OPEN + MINUTE, 1, 1, 1, -1)
    assert caught.value.rule == "volume"
    assert vwap.snapshot() == before
    assert vwap.amend(OPEN + MINUTE, 3, 3, 3, 1) == 2.0


@pytest.mark.parametrize(("make", "row"), MAKERS, ids=IDS)
def test_a_state_of_another_version_or_class_is_refused(make: Any, row: Any, monkeypatch: Any) -> None:
    indicator = make()
    for i in range(40):
        indicator.update(*row(i))
    cls, saved = type(indicator), json.loads(json.dumps(indicator.snapshot()))
    other = ind.SMA if cls is not ind.SMA else ind.EMA
    with pytest.raises(InvalidRequest, match="no snapshot of"):
        other.restore(saved)
    for damage in (
        {"version": 0}, {"version": None}, {"state": None}, {"state": [*saved["state"][:-1], "x"]}, {"state": []},
        {"state": [*saved["state"][:-1], math.nan]}, {"parameters": None}, {"parameters": {"length": 3}},
        {"before": [1.0] * 9}, {"before": 7},
    ):  # fmt: skip
        with pytest.raises(InvalidRequest):
            cls.restore({**saved, **damage})
    for nothing in (None, 3, [], {}):
        with pytest.raises(InvalidRequest):
            cls.restore(nothing)
    stored = pickle.dumps(indicator)
    monkeypatch.setattr(cls, "VERSION", 2)
    with pytest.raises(InvalidRequest, match="version 1"):
        pickle.loads(stored)


def test_memory_does_not_grow_with_the_history() -> None:
    for make, row in MAKERS:
        indicator = make()
        for i in range(100):
            indicator.update(*row(i))
        size = len(pickle.dumps(indicator))
        for i in range(100, 3000):
            indicator.update(*row(i))
        assert abs(len(pickle.dumps(indicator)) - size) < 40


def test_session_vwap_resets_on_the_new_york_session() -> None:
    vwap = ind.SessionVWAP()
    friday = new_york_ns(dt.date(2025, 3, 7), 15, 59)  # daylight saving starts on the Sunday after
    monday = new_york_ns(dt.date(2025, 3, 10), 9, 30)
    assert vwap.update(friday, 10, 10, 10, 100) == 10.0
    assert vwap.update(friday + MINUTE, 99, 99, 99, 100) is None
    assert vwap.update(monday - MINUTE, 99, 99, 99, 100) is None
    assert vwap.update(monday, 20, 20, 20, 0) is None
    assert vwap.update(monday + MINUTE, 30, 30, 30, 50) == 30.0
    half_day = new_york_ns(dt.date(2025, 11, 28), 13, 0)
    assert vwap.update(half_day, 9, 9, 9, 9) is None
    with pytest.raises(FrameInvariantError) as caught:
        vwap.update(half_day, 9, 9, 9, 9)
    assert caught.value.rule == "sorted"


def test_anchors_cover_what_they_say() -> None:
    early, midnight = new_york_ns(dt.date(2025, 6, 2), 4), new_york_ns(dt.date(2025, 6, 2))
    extended, day = ind.SessionVWAP("extended"), ind.SessionVWAP("day")
    assert extended.update(midnight, 5, 5, 5, 5) is None
    assert extended.update(early, 6, 6, 6, 5) == 6.0
    assert day.update(midnight - MINUTE, 5, 5, 5, 5) == 5.0
    assert day.update(midnight, 7, 7, 7, 5) == 7.0
    assert day.update(early, 8, 8, 8, 5) == 7.5
