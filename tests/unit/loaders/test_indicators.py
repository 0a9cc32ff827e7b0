from __future__ import annotations

import asyncio

import pytest

from massive_lab.clock import ManualClock
from massive_lab.errors import InvalidRequest, NotEntitled
from massive_lab.loaders import indicators
from massive_lab.telemetry import CacheHit, RequestCoalesced

DAY = 86_400_000
FIRST = 1_543_813_200_000


def values(path, query):
    rows = [{"timestamp": FIRST + i * DAY, "value": 100.0 + i} for i in range(3)]
    return 200, {"status": "OK", "results": {"underlying": {"url": "x"}, "values": rows}}


def ask(desk, **extra):
    return indicators.server_indicator(desk.session, "AAPL", "ema", "2018-12-03", "2018-12-08", **extra)


def test_answers_are_kept_for_sixty_seconds(server, desk) -> None:
    clock = ManualClock()
    desk.session.clock = clock
    server.answer = values
    first = desk.run(ask(desk, period=20))
    clock.advance(59.9)
    assert desk.run(ask(desk, period=20)).equals(first)
    assert len(server.asked) == 1
    clock.advance(0.2)
    desk.run(ask(desk, period=20))
    assert len(server.asked) == 2
    desk.run(ask(desk, period=21))
    assert len(server.asked) == 3
    assert [type(e) for e in desk.events].count(CacheHit) == 1


def test_what_a_caller_does_to_its_frame_does_not_reach_the_next_one(server, desk) -> None:
    server.answer = values
    frame = desk.run(ask(desk))
    frame.drop_in_place("value")
    assert "value" in desk.run(ask(desk)).columns


def test_callers_at_once_share_one_request(server, desk) -> None:
    server.answer = values

    async def many():
        return await asyncio.gather(*(ask(desk) for _ in range(100)))

    frames = desk.run(many())
    assert len(server.asked) == 1
    assert all(frame.equals(frames[0]) for frame in frames)
    assert len({id(frame) for frame in frames}) == 100
    assert [type(e) for e in desk.events].count(RequestCoalesced) == 99
    assert desk.session.ledger.report().coalesced == 99


def test_an_answer_is_as_old_as_its_question(server, desk) -> None:
    clock = ManualClock()
    desk.session.clock = clock

    def slow(path, query):
        clock.advance(50.0)
        return values(path, query)

    server.answer = slow
    desk.run(ask(desk))
    clock.advance(11.0)
    desk.run(ask(desk))
    assert len(server.asked) == 2


def test_a_failure_is_told_to_all_who_asked_and_not_kept(server, desk) -> None:
    server.answer = lambda path, query: (403, {"status": "NOT_AUTHORIZED", "message": "no"})

    async def many():
        return await asyncio.gather(*(ask(desk) for _ in range(5)), return_exceptions=True)

    assert [type(error) for error in desk.run(many())] == [NotEntitled] * 5
    assert len(server.asked) == 1
    server.answer = values
    assert desk.run(ask(desk)).height == 3


def test_the_memory_of_answers_is_bounded(desk) -> None:
    desk.session.clock = ManualClock()
    for i in range(1_005):
        desk.session.store(("key", i), i, 0.0)
    assert desk.session.cached(("key", 4), 60.0) is None
    assert desk.session.cached(("key", 1_004), 60.0) == 1_004


@pytest.mark.parametrize(
    "bad",
    [
        {"indicator": "vwap"},
        {"indicator": "ema", "period": 0},
        {"indicator": "macd", "fast": 26, "slow": 12},
        {"indicator": "ema", "timeframe": "5m"},
        {"indicator": "ema", "timeframe": "1s"},
        {"indicator": "ema", "column": "vwap"},
        {"indicator": "ema", "adjustment": "dividends"},
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(server, desk, bad) -> None:
    with pytest.raises(InvalidRequest):
        desk.run(indicators.server_indicator(desk.session, "AAPL", start="2018-12-03", end="2018-12-08", **bad))
    assert server.asked == []
