"""Silent topics, outages, what time it is in the data, and what is opened twice: on a hub with a scripted upstream."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from massive_lab import telemetry as t
from massive_lab.clock import ManualClock
from massive_lab.config import Secret
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.topics import Topic
from massive_lab.live.views import outage_frame, warning_frame
from massive_lab.schema.session import new_york_ns
from massive_lab.telemetry import Telemetry

pytestmark = pytest.mark.asyncio
MS = 1_750_000_000_000


def trade(symbol="AAPL", ms=MS, price=100.0):
    return {"ev": "T", "sym": symbol, "t": ms, "p": price, "s": 10}


async def pass_time(bench, seconds, step_s=5.0):
    for _ in range(round(seconds / step_s)):
        bench.clock.advance(step_s)
        await asyncio.sleep(0.001)


# ---- silent topics


async def test_a_confirmed_topic_without_an_event_is_warned_about_once(make_bench, upstream, tools, caplog):
    bench = make_bench(silent_topic_s=120.0)
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    bench.hub.open(bench.topic("T.NOPE"), [tools.Inbox()], caller="run.py:7")
    await bench.live("T.AAPL", "T.NOPE")
    for _ in range(40):
        await upstream.push(trade())
        await pass_time(bench, 10.0)
    await bench.until(lambda: bench.told(t.TopicSilent))
    (silent,) = bench.told(t.TopicSilent)
    assert (silent.topic, silent.silent_s) == ("T.NOPE", 120.0)
    (row,) = warning_frame(bench.hub.watch.warned).rows(named=True)
    assert (row["kind"], row["topic"], row["callers"], row["cluster"]) == ("silent_topic", "T.NOPE", ["run.py:7"], "stocks")
    (record,) = [record for record in caplog.records if record.levelname == "WARNING" and "T.NOPE" in record.message]
    assert "run.py:7" in record.message
    assert bench.hub.status()["warnings"] == 1


async def test_an_unknown_symbol_alone_is_warned_about_and_then_ends_no_connection(make_bench, upstream, tools):
    bench = make_bench(silent_topic_s=120.0)
    bench.hub.open(bench.topic("T.NOPE"), [tools.Inbox()])
    await bench.live("T.NOPE")
    await bench.until(lambda: bench.told(t.TopicSilent), step_s=2.0)
    await bench.live("T.NOPE")
    n = len(upstream.connections)
    await pass_time(bench, 1_000.0)
    assert len(upstream.connections) == n
    assert bench.hub.state == "live"


async def test_nothing_is_said_of_topics_while_the_market_is_closed(upstream, tools):
    hours = {"open": False}

    async def market(at_ns):
        return hours["open"]

    events, telemetry, clock = [], Telemetry(), ManualClock(start_ns=MS * 10**6)
    telemetry.add(events.append)
    hub = Hub("stocks", f"{upstream.url}/stocks", Secret("test-key"), clock=clock, policy=Policy(), market_open=market)
    hub.join(telemetry)
    try:
        topic = Topic("stocks", "T", "AAPL")
        hub.open(topic, [tools.Inbox()])
        await tools.until(lambda: hub.is_confirmed(topic))
        for _ in range(100):
            clock.advance(10.0)
            await asyncio.sleep(0.001)
        assert not [event for event in events if isinstance(event, t.TopicSilent)]
        assert hub.state == "live"
        hours["open"] = True
        await tools.until(lambda: [event for event in events if isinstance(event, t.TopicSilent)], clock, 1.0)
    finally:
        await hub.aclose()


# ---- what time it is


@pytest.mark.parametrize(
    ("event_at", "is_synthetic", "expects"),
    [
        (None, False, False),
        (None, True, False),
        ((2018, 12, 6, 11, 0), True, True),
        ((2018, 12, 6, 20, 0), True, False),
        ((2018, 12, 8, 11, 0), True, False),
        ((2018, 12, 6, 11, 0), False, True),
    ],
    ids=["real-clock-at-night", "sandbox-unheard", "its-morning", "its-evening", "its-saturday", "a-clock-gone-wrong"],
)
async def test_silence_is_judged_by_the_time_in_the_data(event_at, is_synthetic, expects, upstream, tools):
    night_ns = new_york_ns(dt.date(2025, 6, 18), 3)
    clock = ManualClock(start_ns=night_ns)
    hub = Hub(
        "stocks", f"{upstream.url}/stocks", Secret("test-key"), clock=clock, policy=Policy(), is_synthetic=is_synthetic
    )
    try:
        topic, inbox = Topic("stocks", "T", "AAPL"), tools.Inbox()
        hub.open(topic, [inbox])
        await tools.until(lambda: hub.is_confirmed(topic))
        if event_at is not None:
            at_ns = new_york_ns(dt.date(*event_at[:3]), *event_at[3:])
            await upstream.push(trade(ms=at_ns // 10**6))
            await tools.until(lambda: inbox.got)
            clock.advance(1.0)
            assert hub.watch.market_ns() == at_ns + 10**9
        assert await hub.watch.expects_data() is expects
    finally:
        await hub.aclose()


async def test_minute_bars_alone_have_a_minute_and_more(make_bench, upstream, tools):
    bench = make_bench()
    bench.hub.open(bench.topic("AM.AAPL"), [tools.Inbox()])
    await bench.live("AM.AAPL")
    machine = bench.hub.feed.machine
    assert machine.stale_s == 150.0
    reader = bench.hub.open(bench.topic("Q.AAPL"), [tools.Inbox()])
    assert machine.stale_s == 30.0
    bench.hub.close_reader(reader)
    await bench.until(lambda: machine.stale_s == 150.0, step_s=0.25)


# ---- outages


async def test_outages_are_listed_with_cause_length_and_attempts(bench, upstream, tools):
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    assert outage_frame(bench.hub.outages()).is_empty()
    assert bench.hub.status()["down_since"] is None
    upstream.refuse_upgrade = 503
    at_ns = bench.clock.now_ns()
    await upstream.connections[-1].close(1000)
    await bench.until(lambda: bench.hub.feed.machine.attempt >= 3, step_s=0.1)
    (running,) = outage_frame(bench.hub.outages()).rows(named=True)
    assert running["end"] is None
    assert running["attempts"] >= 3
    assert "code 1000" in running["cause"]
    assert bench.hub.status()["down_since"] == at_ns
    upstream.refuse_upgrade = None
    await bench.until(lambda: bench.hub.state == "live", step_s=0.1)
    (outage,) = bench.hub.outages()
    (told,) = bench.told(t.Reconnected)
    assert (outage.seconds, outage.attempts, outage.cause) == (told.outage_s, told.attempt, told.cause)
    assert outage.end_ns - outage.start_ns == round(outage.seconds * 1e9)
    status = bench.hub.status()
    assert (status["reconnects"], status["outage_total_s"], status["down_since"]) == (1, outage.seconds, None)
    assert status["last_cause"] == outage.cause


async def test_a_first_connection_that_cannot_be_opened_is_an_outage_too(bench, upstream, tools):
    upstream.refuse_upgrade = 503
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.until(lambda: bench.hub.feed.machine.attempt >= 2, step_s=0.1)
    upstream.refuse_upgrade = None
    await bench.until(lambda: bench.hub.is_confirmed(bench.topic("T.AAPL")), step_s=0.1)
    (outage,) = bench.hub.outages()
    assert "503" in outage.cause
    assert bench.hub.status()["reconnects"] == 0


# ---- who reads, and twice


async def test_topics_name_everybody_who_reads_them(bench, upstream, tools):
    topic = bench.topic("T.AAPL")
    bench.hub.open(topic, [tools.Inbox()], caller="run.py:1")
    reader = bench.hub.open(topic, [tools.Inbox()], caller="In[4]:2")
    bench.hub.open(topic, [tools.Inbox()])
    assert bench.hub.topics()["callers"].to_list() == [["run.py:1", "In[4]:2", None]]
    bench.hub.close_reader(reader)
    (row,) = bench.hub.topics().rows(named=True)
    assert (row["readers"], row["callers"]) == (2, ["run.py:1", None])


async def test_the_same_thing_opened_twice_from_one_cell_is_reported_once(bench, upstream, tools):
    for _ in range(2):
        for wire in ("T.AAPL", "Q.AAPL"):
            bench.hub.open(bench.topic(wire), [tools.Inbox()], name="live", caller="In[4]:2")
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], name="live", caller="In[5]:1")
    await bench.until(lambda: bench.told(t.DuplicateWork), step_s=0.25)
    for wire in ("T.AAPL", "Q.AAPL"):
        bench.hub.open(bench.topic(wire), [tools.Inbox()], name="live", caller="In[4]:3")
    await pass_time(bench, 10.0, 0.5)
    (found,) = bench.told(t.DuplicateWork)
    assert (found.kind, found.what, found.callers, found.n) == ("same_topic", "T.AAPL and 1 more", ("In[4]:2",), 2)
    assert [warned.kind for warned in bench.hub.watch.warned] == ["same_topic"]


async def test_a_reader_that_replaces_another_is_no_duplicate(bench, upstream, tools):
    reader = bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], name="live", caller="run.py:1")
    for _ in range(5):
        fresh = bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], name="live", caller="run.py:1")
        bench.hub.close_reader(reader)
        reader = fresh
        await pass_time(bench, 2.0, 0.5)
    assert not bench.told(t.DuplicateWork)


@pytest.mark.parametrize("wires", [("T.AAPL", "T.*"), ("T.*", "T.AAPL")], ids=["single-first", "wildcard-first"])
async def test_a_single_beside_its_wildcard_is_reported(wires, bench, upstream, tools):
    for wire in wires:
        bench.hub.open(bench.topic(wire), [tools.Inbox()], caller="run.py:3")
    bench.hub.open(bench.topic("A.AAPL"), [tools.Inbox()], caller="run.py:3")
    await bench.until(lambda: bench.told(t.DuplicateWork), step_s=0.25)
    (found,) = bench.told(t.DuplicateWork)
    assert (found.kind, found.what) == ("single_beside_wildcard", "T.AAPL")
