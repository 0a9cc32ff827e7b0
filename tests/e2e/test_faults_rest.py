"""Faults of REST while REST is all there is: the fallback of a lost socket, and the filling of its gap.

The faults of REST as such are shown where REST is: `docs/faults.md` names each test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from massive_lab.errors import ConnectionLost, DecodeError, MassiveLabError, RateLimited, Timeout, UpstreamError
from tests.property.upstream import World, id_of

ERRORS = {
    "429": RateLimited("429"),
    "500": UpstreamError("HTTP 500.", status=500),
    "502": UpstreamError("HTTP 502.", status=502),
    "503": UpstreamError("HTTP 503.", status=503),
    "504": UpstreamError("HTTP 504.", status=504),
    "200 with error body": UpstreamError("ERROR", status=200),
    "reset": ConnectionLost("reset"),
    "timeout": Timeout("late"),
    "bad body": DecodeError("not JSON"),
}


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def start(**changes: object) -> World:
        worlds.append(World(**changes))
        return worlds[-1]

    yield start
    for world in worlds:
        try:
            world.check()
        finally:
            world.close()


@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
def test_polls_that_fail_end_without_a_double_row(error: MassiveLabError, make: Callable[..., World]) -> None:
    world = make()
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.upstream.refuse = 1_000
    world.rest.error = error
    world.drop()
    world.advance(0.01)
    world.burst("T.AAPL")
    world.advance(10.0)
    assert [id_of(event) for event in reader.sink.got] == [100]
    n_failed = len(world.rest.calls)
    assert 1 <= n_failed <= 4, "failing polls are spaced out"
    world.rest.error = None
    world.advance(70.0)
    assert [(id_of(event), event.source) for event in reader.sink.got] == [(100, "stream"), (101, "poll")]
    world.upstream.refuse = 0
    world.advance(10.0)
    world.burst("T.AAPL")
    assert [id_of(event) for event in reader.sink.got] == [100, 101, 102]
    assert [gap.topic.wire for gap in world.gaps] == ["T.AAPL"]


def test_the_fallback_waits_as_long_as_it_is_told(make: Callable[..., World]) -> None:
    world = make()
    world.open("T.AAPL")
    world.upstream.refuse = 1_000
    world.rest.error = RateLimited("429", retry_after_s=45.0)
    world.drop()
    world.advance(44.0)
    assert len(world.rest.calls) == 1
    world.advance(3.0)
    assert len(world.rest.calls) == 2


@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
def test_a_gap_is_filled_once_its_history_can_be_had(error: MassiveLabError, make: Callable[..., World]) -> None:
    world = make(with_history=True)
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.advance(1.0)
    world.drop()
    world.burst(*["T.AAPL"] * 5)
    world.rest.error = error
    world.advance(5.0)
    world.burst("T.AAPL")
    world.advance(2.0)
    assert [gap.state for gap in world.gaps] == ["filling"]
    world.rest.error = None
    world.advance(60.0)
    assert [gap.state for gap in world.gaps] == ["filled"]
    assert sorted(id_of(event) for event in reader.sink.got) == list(range(100, 107))
    assert world.missing(reader) == []
