from __future__ import annotations

import asyncio

import pytest

from massive_lab.clock import ManualClock
from massive_lab.config import Secret, Settings
from massive_lab.errors import RateLimited
from massive_lab.telemetry import Telemetry
from massive_lab.transports.http import Answer
from massive_lab.transports.replay import Recorded, ReplayTransport

pytestmark = pytest.mark.asyncio


def answer(body: bytes = b"{}") -> Answer:
    return Answer(200, {}, body, len(body), 0.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def transport(clock: ManualClock) -> ReplayTransport:
    return ReplayTransport(Settings(Secret("some-key")), Telemetry(), clock)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_request_waits_for_the_moment_of_its_answer(transport):
    recorded = Recorded("/v3/snapshot?limit=250&x=a%2Cb", 5.0)
    transport.expect(recorded)
    call = asyncio.create_task(transport.get("/v3/snapshot", params={"limit": "250", "x": "a,b"}, cause="poll"))
    await settle()
    assert not call.done()
    recorded.end(answer(b"one"))
    assert (await call).body == b"one"
    assert recorded.outcome is None  # a body is held no longer than it is needed


async def test_the_same_target_is_answered_in_the_order_of_the_recording(transport):
    first, second = Recorded("/a?n=1", 1.0), Recorded("/a?n=1", 2.0)
    transport.expect(first)
    transport.expect(second)
    calls = [asyncio.create_task(transport.get("/a?n=1", cause="c")) for _ in range(2)]
    await settle()
    second.end(answer(b"second"))
    first.end(answer(b"first"))
    assert [(await call).body for call in calls] == [b"first", b"second"]


async def test_another_query_of_the_same_path_stands_in_and_another_path_does_not(transport):
    recorded = Recorded("/v3/trades/A?timestamp.lt=10", 1.0)
    transport.expect(recorded)
    recorded.end(answer(b"A"))
    assert (await transport.get("/v3/trades/A?timestamp.lt=11", cause="c")).body == b"A"
    unknown = asyncio.create_task(transport.get("/v3/trades/B", cause="c"))
    await settle()
    assert not unknown.done()
    assert transport.n_unknown == 1
    unknown.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unknown


async def test_who_leaves_before_the_answer_leaves_it_to_the_next(transport):
    recorded = Recorded("/a", 1.0)
    transport.expect(recorded)
    gone = asyncio.create_task(transport.get("/a", cause="c"))
    await settle()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    recorded.end(answer(b"late"))
    assert (await transport.get("/a", cause="c")).body == b"late"


async def test_an_answer_that_nobody_asked_for_is_not_given_to_a_much_later_request(transport, clock):
    early, late = Recorded("/a", 1.0), Recorded("/a", 60.0)
    transport.expect(early)
    transport.expect(late)
    early.end(answer(b"early"))
    clock.advance(59.0)
    call = asyncio.create_task(transport.get("/a", cause="c"))
    await settle()
    late.end(answer(b"late"))
    assert (await call).body == b"late"
    assert early.outcome is None


async def test_a_recorded_failure_fails_again(transport):
    recorded = Recorded("/a", 1.0)
    transport.expect(recorded)
    recorded.end(RateLimited("Too many.", retry_after_s=3.0))
    with pytest.raises(RateLimited) as caught:
        await transport.get("/a", cause="c")
    assert caught.value.retry_after_s == 3.0
    await transport.aclose()
