"""One bar at a time: warm-up, refusals that leave the state alone, copies."""

from __future__ import annotations

import copy
import datetime as dt
import math
import pickle
from typing import Any

import pytest

from massive_lab import indicators as ind
from massive_lab.errors import FrameInvariantError
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


def test_what_python_holds_pickles_and_the_rest_says_why_not() -> None:
    mean, vwap = ind.SMA(3), ind.SessionVWAP()
    for i in range(5):
        mean.update(i)
        vwap.update(OPEN + MINUTE * i, *bar(i), 3.0)
    assert pickle.loads(pickle.dumps(mean)).update(9.0) == mean.update(9.0)
    assert pickle.loads(pickle.dumps(vwap)).update(OPEN + MINUTE * 9, 1, 1, 1, 1) == vwap.update(
        OPEN + MINUTE * 9, 1, 1, 1, 1
    )
    with pytest.raises(TypeError, match="feed them again"):
        pickle.dumps(ind.RSI())


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
