"""A server that is a gateway: its words, its patience, and how a refused token is told."""

from __future__ import annotations

import pytest
import pytest_asyncio

from massive_lab.config import ProxyToken, Secret
from massive_lab.errors import NotEntitled, Unauthorized
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy

AT_MS = 1_750_000_000_000


@pytest_asyncio.fixture
async def gateway(bench, upstream):
    """A hub that holds a token."""
    bench.hub = Hub(
        "stocks", f"{upstream.url}/stocks", ProxyToken("test-key"), clock=bench.clock, policy=Policy(),
        jitter=lambda: 1.0,
    )  # fmt: skip
    bench.hub.join(bench.telemetry)
    yield bench
    await bench.hub.aclose()


@pytest.mark.asyncio
async def test_a_topic_that_the_gateway_names_as_failed_is_lost_and_no_other(bench, upstream, tools):
    ears = tools.Ears()
    for wire in ("T.AAPL", "T.MSFT"):
        bench.hub.open(bench.topic(wire), [tools.Inbox()], ears)
    await bench.live("T.AAPL", "T.MSFT")
    await upstream.push(tools.status("subscription_failed", "subscription failed: T.AAPL: not in the plan: sorry"))
    await bench.until(lambda: ears.lost)
    assert list(ears.lost) == ["T.AAPL"]
    assert ears.lost["T.AAPL"].reason == "not in the plan: sorry"
    assert [topic.wire for topic in bench.hub.wanted] == ["T.MSFT"]
    assert upstream.sent("unsubscribe") == []


@pytest.mark.asyncio
@pytest.mark.parametrize("message", ["subscription failed: T.IBM: no", "subscription failed: ", "", "T.AAPL"])
async def test_a_failure_of_what_was_never_asked_for_harms_nobody(message, bench, upstream, tools):
    ears, inbox = tools.Ears(), tools.Inbox()
    bench.hub.open(bench.topic("T.MSFT"), [inbox], ears)
    await bench.live("T.MSFT")
    await upstream.push(tools.status("subscription_failed", message))
    await upstream.push({"ev": "T", "sym": "MSFT", "t": AT_MS, "p": 1.0})
    await bench.until(lambda: inbox.got)
    assert not ears.lost


@pytest.mark.asyncio
async def test_who_serves_is_told_by_the_gateway(bench, upstream, tools):
    inbox = tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [inbox])
    await bench.live("T.AAPL")
    seen = {}
    for number, name in enumerate(
        ("upstream_lost", "upstream_polling", "upstream_evicted", "upstream_refused", "upstream_stale", "upstream_restored")
    ):
        await upstream.push(tools.status(name, "words"), {"ev": "T", "sym": "AAPL", "t": AT_MS + number, "p": 1.0})
        await bench.until(lambda n=number: len(inbox.got) == n + 1)
        # A frame's events are handed on before its statuses are acted on.
        await bench.until(lambda name=name: bench.hub.beyond.trouble == ("" if name == "upstream_restored" else name))
        seen[name] = bench.hub.status()["serving"]
    assert list(seen.values()) == ["none", "poll", "none", "none", "stream", "stream"]
    assert bench.hub.state == "live"
    assert len([error for error in bench.hub.errors if "gateway" in str(error)]) == 5


@pytest.mark.asyncio
async def test_a_gateway_may_answer_when_its_own_upstream_is_back(gateway, upstream, tools):
    ears = tools.Ears()
    upstream.silent = {"T.AAPL"}
    gateway.hub.open(gateway.topic("T.AAPL"), [tools.Inbox()], ears)
    await gateway.until(lambda: upstream.sent("subscribe"))
    for _ in range(30):
        gateway.clock.advance(10.0)
        await tools.until(lambda: gateway.hub.book.deadline > gateway.clock.monotonic())
    assert not ears.lost
    await upstream.push(tools.status("success", "subscribed to: T.AAPL"))
    await gateway.live("T.AAPL")
    assert ears.live == ["T.AAPL"]
    assert upstream.sent("subscribe") == ["T.AAPL"]


@pytest.mark.asyncio
async def test_what_the_gateway_marks_keeps_its_source(bench, upstream, tools):
    inbox = tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [inbox])
    await bench.live("T.AAPL")
    at = {"ev": "T", "sym": "AAPL", "p": 1.0}
    await upstream.push({**at, "t": AT_MS, "q": 1}, {**at, "t": AT_MS - 5, "q": 2, "src": "backfill", "ns": 7})
    await bench.until(lambda: len(inbox.got) == 2)
    assert [(event.source, event.ts_sip % 1_000_000) for event in inbox.got] == [("stream", 0), ("backfill", 7)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("message", "error", "hint"),
    [
        ("authentication failed", Unauthorized, "MASSIVE_PROXY_TOKEN"),
        ("Your plan doesn't include websocket access.", NotEntitled, "cluster"),
    ],
)
async def test_a_refused_token_is_called_a_token(message, error, hint, gateway, upstream, tools):
    upstream.auth_answer = [tools.status("auth_failed", message)]
    ears = tools.Ears()
    gateway.hub.open(gateway.topic("T.AAPL"), [tools.Inbox()], ears)
    await gateway.until(lambda: ears.refused_by)
    assert type(ears.refused_by) is error
    assert "token" in str(ears.refused_by)
    assert hint in ears.refused_by.hint
    assert "API_KEY" not in str(ears.refused_by)


def test_a_token_is_a_secret_that_knows_what_it_is() -> None:
    token = ProxyToken("t" * 20)
    assert repr(token) == str(token) == "<secret>"
    assert token == Secret("t" * 20)
    assert hash(token) == hash(Secret("t" * 20))
