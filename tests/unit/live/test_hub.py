from __future__ import annotations

import asyncio

import pytest

from massive_lab import telemetry as t
from massive_lab.config import Secret
from massive_lab.errors import RateLimited, SubscriptionFailed, Unauthorized

pytestmark = pytest.mark.asyncio


def trade(symbol="AAPL", ms=1_750_000_000_000, price=100.0, **more):
    return {"ev": "T", "sym": symbol, "t": ms, "p": price, "s": 10, **more}


async def test_two_readers_of_a_topic_make_one_subscription_and_one_leaving_hurts_nobody(bench, upstream, tools):
    one, two, topic = tools.Inbox(), tools.Inbox(), bench.topic("T.AAPL")
    first = bench.hub.open(topic, [one])
    bench.hub.open(topic, [two])
    await bench.live("T.AAPL")
    bench.hub.close_reader(first)
    await upstream.push(trade())
    await bench.until(lambda: two.got)
    assert not one.got
    assert upstream.sent("subscribe") == ["T.AAPL"]
    assert upstream.sent("unsubscribe") == []
    assert bench.hub.topics().rows(named=True)[0]["duplicates_avoided"] == 1


async def test_churn_within_the_linger_never_reaches_the_server(bench, upstream, tools):
    topic = bench.topic("T.AAPL")
    reader = bench.hub.open(topic, [tools.Inbox()])
    await bench.live("T.AAPL")
    for _ in range(5):
        bench.hub.close_reader(reader)
        bench.clock.advance(0.5)
        reader = bench.hub.open(topic, [tools.Inbox()])
    assert [len(upstream.sent(action)) for action in ("subscribe", "unsubscribe")] == [1, 0]
    bench.hub.close_reader(reader)
    await bench.until(lambda: upstream.sent("unsubscribe"), step_s=0.25)
    assert upstream.held[-1] == set()
    assert [type(event).__name__ for event in bench.events if "Topic" in type(event).__name__] == [
        "TopicOpened", "TopicConfirmed", "TopicClosed",
    ]  # fmt: skip


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1009, 1011, 1012, 1013])
async def test_every_end_nobody_asked_for_is_an_outage(code, bench, upstream, tools):
    inbox = tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [inbox])
    bench.hub.open(bench.topic("Q.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL", "Q.AAPL")
    old = upstream.connections[-1]
    old.transport.abort() if code == 1006 else await old.close(code)
    await bench.until(lambda: bench.hub.state != "live")
    await bench.until(lambda: len(upstream.held) == 2 and upstream.held[1] == {"T.AAPL", "Q.AAPL"}, step_s=0.05)
    await bench.live("T.AAPL", "Q.AAPL")
    await upstream.push(trade())
    await bench.until(lambda: inbox.got)
    (reconnected,) = bench.told(t.Reconnected)
    (gap,) = bench.told(t.GapDetected)
    assert (reconnected.attempt, reconnected.n_topics) == (1, 2)
    assert gap.end_ns > gap.start_ns
    assert upstream.double == []


async def test_the_budget_of_attempts_is_per_outage_and_a_stable_connection_clears_the_back_off(make_bench, upstream, tools):
    bench = make_bench(max_attempts=3, stable_s=10.0)
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    for n in range(1, 9):
        await bench.until(lambda n=n: len(upstream.held) == n and upstream.held[-1], step_s=0.05)
        bench.clock.advance(11.0)
        upstream.connections[-1].transport.abort()
    await bench.until(lambda: len(upstream.held) == 9 and upstream.held[-1], step_s=0.05)
    assert {event.attempt for event in bench.told(t.Reconnected)} == {1}


async def test_attempts_without_success_run_out_and_the_readers_are_told(make_bench, upstream, tools):
    bench = make_bench(max_attempts=3)
    upstream.refuse_upgrade = 500
    ears = tools.Ears()
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], ears)
    await bench.until(lambda: ears.suspended_by, step_s=0.2)
    assert bench.hub.state == "closed"
    assert "gave up" in str(ears.suspended_by["T.AAPL"])
    upstream.refuse_upgrade = None
    await bench.hub.retry()
    await bench.live("T.AAPL")
    assert ears.lost == {}
    assert ears.refused_by is None


async def test_a_topic_asked_for_during_an_outage_is_subscribed_once_after_it(bench, upstream, tools):
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    upstream.connections[-1].transport.abort()
    await bench.until(lambda: bench.hub.state == "connecting")
    bench.hub.open(bench.topic("T.MSFT"), [tools.Inbox()])
    await bench.until(lambda: len(upstream.held) == 2 and upstream.held[1] == {"T.AAPL", "T.MSFT"}, step_s=0.05)
    assert ",".join(upstream.sent("subscribe")).count("T.MSFT") == 1


async def test_a_subscription_on_a_quiet_socket_goes_out_without_any_time_passing(bench, upstream, tools):
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    before = bench.clock.monotonic()
    bench.hub.open(bench.topic("T.MSFT"), [tools.Inbox()])
    await bench.live("T.MSFT")
    assert bench.clock.monotonic() == before


@pytest.mark.parametrize("raw", ["{nonsense", '{"ev":"T"}', "[" * 5_000, b"\xff\xfe", '[{"sym":"AAPL"}]', "[[]]"])
async def test_a_bad_frame_is_set_aside_and_the_socket_lives(raw, bench, upstream, tools):
    inbox = tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [inbox])
    await bench.live("T.AAPL")
    await upstream.push(raw=raw)
    await upstream.push(trade())
    await bench.until(lambda: inbox.got)
    assert len(upstream.connections) == 1
    assert len(bench.told(t.EventQuarantined)) == 1


async def test_one_bad_item_costs_one_item(bench, upstream, tools):
    inbox = tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [inbox])
    await bench.live("T.AAPL")
    await upstream.push(trade(price=1.0), trade(price="2"), {"ev": "ZZ"}, trade(price=3.0))
    await bench.until(lambda: len(inbox.got) == 2)
    assert [event.price for event in inbox.got] == [1.0, 3.0]
    assert bench.hub.status()["unknown"] == 1
    (quarantined,) = bench.told(t.EventQuarantined)
    assert '"p": "2"' in quarantined.excerpt


async def test_one_refusal_in_a_batch_reaches_exactly_its_readers(bench, upstream, tools):
    upstream.denied = {"Q.AAPL"}
    good, bad = tools.Ears(), tools.Ears()
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], good)
    bench.hub.open(bench.topic("Q.AAPL"), [tools.Inbox()], bad)
    bench.hub.open(bench.topic("Q.AAPL"), [tools.Inbox()], bad)
    bench.hub.open(bench.topic("A.AAPL"), [tools.Inbox()], good)
    await bench.until(lambda: bad.lost)
    await bench.live("T.AAPL", "A.AAPL")
    assert good.lost == {}
    assert sorted(good.live) == ["A.AAPL", "T.AAPL"]
    error = bad.lost["Q.AAPL"]
    assert isinstance(error, SubscriptionFailed)
    assert (error.topic, error.reason) == ("Q.AAPL", "not authorized")
    assert bench.hub.topics()["topic"].to_list() == ["T.AAPL", "A.AAPL"]


async def test_no_answer_by_the_deadline_is_a_failure(bench, upstream, tools):
    upstream.silent = {"T.AAPL"}
    ears, other = tools.Ears(), tools.Ears()
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], ears)
    bench.hub.open(bench.topic("T.MSFT"), [tools.Inbox()], other)
    await bench.live("T.MSFT")
    bench.clock.advance(4.9)
    await asyncio.sleep(0.01)
    assert not ears.lost
    await bench.until(lambda: ears.lost, step_s=0.2)
    assert "no answer within 5 s" in str(ears.lost["T.AAPL"])
    assert not other.lost


async def test_more_readers_of_one_topic_than_one_hear_the_confirmation(bench, upstream, tools):
    ears = tools.Ears()
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], ears)
    await bench.live("T.AAPL")
    late = tools.Ears()
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], late)
    assert late.live == ["T.AAPL"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("authentication failed", "Unauthorized"), ("Your plan doesn't include websocket access.", "NotEntitled")],
)
async def test_a_refused_key_ends_the_feed_without_another_attempt(answer, kind, bench, upstream, tools):
    upstream.auth_answer = [tools.status("auth_failed", answer)]
    ears = tools.Ears()
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], ears)
    await bench.until(lambda: ears.suspended_by)
    for _ in range(50):
        bench.clock.advance(10.0)
        await asyncio.sleep(0)
    assert len(upstream.connections) == 1
    assert type(ears.suspended_by["T.AAPL"].__cause__).__name__ == kind
    assert "test-key" not in repr(bench.events)
    late = tools.Ears()
    bench.hub.open(bench.topic("T.MSFT"), [tools.Inbox()], late)
    assert isinstance(late.suspended_by["T.MSFT"], SubscriptionFailed), "told at once, and kept"
    assert len(upstream.connections) == 1


async def test_after_a_refused_key_another_one_brings_back_every_topic_and_reader(bench, upstream, tools):
    upstream.auth_answer = [tools.status("auth_failed", "authentication failed")]
    ears, inbox, late = tools.Ears(), tools.Inbox(), tools.Inbox()
    reader = bench.hub.open(bench.topic("T.AAPL"), [inbox], ears)
    gone = bench.hub.open(bench.topic("A.AAPL"), [tools.Inbox()], ears)
    await bench.until(lambda: ears.refused_by)
    bench.hub.open(bench.topic("AM.AAPL"), [late], ears)
    bench.hub.close_reader(gone)
    bench.clock.advance(2.0)
    upstream.auth_answer = [tools.status("auth_success", "authenticated")]
    await bench.hub.retry(Secret("another-key"))
    await bench.live("T.AAPL", "AM.AAPL")
    await upstream.push(trade())
    await bench.until(lambda: inbox.got)
    assert upstream.sent("auth") == ["test-key", "another-key"]
    assert upstream.held[-1] == {"T.AAPL", "AM.AAPL"}
    assert reader.is_open
    assert ears.refused_by is None
    assert ears.lost == {}
    assert bench.hub.status()["last_cause"] == "The stocks server refused the key."


async def test_a_live_connection_is_given_up_for_another_key_and_kept_without_one(bench, upstream, tools):
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    await bench.hub.retry()
    assert len(upstream.connections) == 1
    await bench.hub.retry(Secret("another-key"))
    await bench.live("T.AAPL")
    assert upstream.sent("auth") == ["test-key", "another-key"]
    (gap,) = bench.told(t.GapDetected)
    assert gap.topics == ("T.AAPL",)
    assert upstream.double == []


async def test_an_upgrade_answered_401_is_a_refused_key(bench, upstream, tools):
    upstream.refuse_upgrade = 401
    ears = tools.Ears()
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], ears)
    await bench.until(lambda: ears.suspended_by)
    assert isinstance(ears.suspended_by["T.AAPL"].__cause__, Unauthorized)


@pytest.mark.parametrize("silent_at", ["greeting", "auth_answer"])
async def test_a_handshake_that_stalls_is_given_up_and_tried_again(silent_at, bench, upstream, tools):
    kept = getattr(upstream, silent_at)
    setattr(upstream, silent_at, None)
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.until(lambda: upstream.connections and (silent_at == "greeting" or upstream.messages))
    setattr(upstream, silent_at, kept)
    await bench.until(lambda: bench.hub.is_confirmed(bench.topic("T.AAPL")), step_s=0.2)
    assert len(upstream.connections) == 2


async def evict(connection):
    await connection.send('[{"ev":"status","status":"max_connections","message":"Maximum number"}]')
    await connection.close(1008)


async def test_eviction_is_reported_and_tried_again_once_a_lease(make_bench, upstream, tools):
    bench = make_bench(lease_s=300.0)
    upstream.after_auth = evict
    ears = tools.Ears()
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()], ears)
    await bench.until(lambda: bench.hub.state == "evicted")
    assert "connection limit" in str(ears.suspended_by["T.AAPL"])
    began = bench.clock.monotonic()
    for n in (2, 3, 4):
        await bench.until(lambda n=n: len(upstream.connections) == n and bench.hub.state == "evicted", step_s=5.0)
        assert bench.clock.monotonic() - began >= 300.0 * (n - 1)
    upstream.after_auth = None
    await bench.until(lambda: bench.hub.is_confirmed(bench.topic("T.AAPL")), step_s=5.0)
    assert len(upstream.connections) == 5
    assert ears.refused_by is None
    assert ears.lost == {}
    outage = bench.hub.outages()[-1]
    assert (outage.cause, outage.end_ns is None) == (bench.hub.status()["last_cause"], False)


async def test_an_attempt_after_the_lease_that_fails_otherwise_waits_for_the_next_lease(make_bench, upstream, tools):
    bench = make_bench(lease_s=300.0, max_attempts=3)
    upstream.after_auth = evict
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.until(lambda: bench.hub.state == "evicted")
    upstream.refuse_upgrade = 503
    for n in range(1, 6):
        await bench.until(lambda n=n: bench.hub.feed.machine.attempt == n and bench.hub.state == "evicted", step_s=5.0)
    assert bench.clock.monotonic() >= 4 * 300.0
    upstream.refuse_upgrade, upstream.after_auth = None, None
    await bench.until(lambda: bench.hub.is_confirmed(bench.topic("T.AAPL")), step_s=5.0)


async def test_evicted_with_rest_at_hand_polls_what_can_be_polled_until_the_socket_is_ours_again(
    make_bench, upstream, rest, tools
):
    bench = make_bench(rest, lease_s=300.0)
    rest.rows["AAPL"] = {"trade_price": 5.0, "trade_size": 1.0, "ts_trade": 1_750_000_000 * 10**9}
    ears, inbox = tools.Ears(), tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [inbox], ears)
    bench.hub.open(bench.topic("AM.AAPL"), [tools.Inbox()], ears)
    await bench.live("T.AAPL", "AM.AAPL")
    await evict(upstream.connections[-1])
    await bench.until(lambda: inbox.got, step_s=0.05)
    assert list(ears.suspended_by) == ["AM.AAPL"]
    assert inbox.got[0].source == "poll"
    assert bench.hub.state == "evicted"
    await bench.until(lambda: bench.hub.state == "live", step_s=1.0)
    await bench.live("T.AAPL", "AM.AAPL")
    assert len(upstream.connections) == 2
    assert bench.told(t.GapDetected)[0].topics == ("T.AAPL", "AM.AAPL")
    assert bench.told(t.Reconnected)[0].outage_s >= 300.0
    assert ears.lost == {}
    assert bench.told(t.FallbackStopped)


async def test_two_owners_of_one_key_do_not_fight(make_bench, upstream, tools):
    """The server closes the older of two connections, as the vendor does: each owner takes one turn a lease."""

    async def one_only(newest):
        for older in upstream.connections:
            if older is not newest and older.close_code is None:
                await evict(older)

    upstream.after_auth = one_only
    quiet = {"stocks": 1e9}
    one, two = make_bench(lease_s=300.0, stale_s=quiet), make_bench(lease_s=300.0, stale_s=quiet)
    for bench in (one, two):
        bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
        await bench.live("T.AAPL")
    await one.until(lambda: one.hub.state == "evicted")
    for _ in range(180):
        # Time stands still while a handshake is under way, so that none runs out of it.
        await one.until(lambda: {one.hub.state, two.hub.state} == {"live", "evicted"})
        one.clock.advance(10.0)
        two.clock.advance(10.0)
        for _ in range(5):
            await asyncio.sleep(0)
    assert 4 <= len(upstream.connections) <= 2 + 1_800 // 300


async def test_mute_but_connected_becomes_stale_and_then_an_outage(bench, upstream, tools):
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    await bench.until(lambda: bench.hub.state == "stale", step_s=0.5)
    await upstream.push(trade())
    await bench.until(lambda: bench.hub.state == "live")
    await bench.until(lambda: len(upstream.connections) == 2, step_s=0.5)
    await bench.live("T.AAPL")
    states = [event.state for event in bench.told(t.FeedStateChanged)]
    assert states.count("stale") == 2


async def test_a_drop_brings_polling_within_the_grace_and_the_stream_ends_it(make_bench, upstream, rest, tools):
    bench = make_bench(rest, grace_s=0.05, backoff_base_s=20.0)
    ns = 1_750_000_000 * 10**9
    rest.rows["AAPL"] = {"trade_price": 5.0, "trade_size": 1.0, "ts_trade": ns + 5, "market_status": "open"}
    inbox = tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [inbox])
    bench.hub.open(bench.topic("AM.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL", "AM.AAPL")
    upstream.connections[-1].transport.abort()
    await bench.until(lambda: bench.hub.state != "live")
    await bench.until(lambda: inbox.got, step_s=0.01)
    (started,) = bench.told(t.FallbackStarted)
    assert 0.05 <= started.since_loss_s <= 0.1
    assert started.n_topics == 1
    assert bench.hub.state == "polling"
    assert (inbox.got[0].ts_sip, inbox.got[0].source) == (ns + 5, "poll")
    await bench.until(lambda: len(rest.calls) == 3, step_s=0.1)
    assert [tick.n_changed for tick in bench.told(t.PollTick)] == [1, 0, 0]
    assert len(inbox.got) == 1

    await bench.until(lambda: bench.hub.state == "live", step_s=0.1)
    n_calls = len(rest.calls)
    (stopped,) = bench.told(t.FallbackStopped)
    assert stopped.n_polls == n_calls
    await bench.live("T.AAPL")
    await upstream.push(trade(ms=ns // 10**6, price=5.0, s=1), trade(ms=ns // 10**6 + 1, price=6.0))
    await bench.until(lambda: len(inbox.got) > 1)
    assert [event.price for event in inbox.got] == [5.0, 6.0], "the polled trade is not told a second time"
    for _ in range(30):
        bench.clock.advance(1.0)
        await asyncio.sleep(0)
    assert len(rest.calls) == n_calls


async def test_a_poll_never_brings_back_what_the_stream_has_passed(make_bench, upstream, rest, tools):
    bench = make_bench(rest, backoff_base_s=60.0)
    rest.rows["AAPL"] = {"trade_price": 5.0, "trade_size": 1.0, "ts_trade": 1_000 * 10**6}
    inbox = tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [inbox])
    await bench.live("T.AAPL")
    await upstream.push(trade(ms=1_000))
    await bench.until(lambda: inbox.got)
    upstream.connections[-1].transport.abort()
    await bench.until(lambda: len(rest.calls) == 2, step_s=0.1)
    assert len(inbox.got) == 1


async def test_600_symbols_are_polled_by_three_calls_and_a_failing_poll_slows_down(make_bench, upstream, rest, tools):
    bench = make_bench(rest)
    upstream.refuse_upgrade = 503
    rest.error = RateLimited("busy", retry_after_s=40.0)
    names = [f"S{chr(65 + i // 26 % 26)}{chr(65 + i % 26)}{chr(65 + i // 676)}" for i in range(600)]
    for name in names:
        bench.hub.open(bench.topic(f"T.{name}"), [tools.Inbox()])
        bench.hub.open(bench.topic(f"Q.{name}"), [tools.Inbox()])
    await bench.until(lambda: rest.calls, step_s=0.05)
    rest.error = None
    at = bench.clock.monotonic()
    await bench.until(lambda: len(rest.calls) == 4, step_s=1.0)
    assert bench.clock.monotonic() - at >= 39.0
    assert rest.calls[1][1] == names[250:500], "those whom the failed call did not ask for come first"
    assert {symbol for _, symbols in rest.calls[1:] for symbol in symbols} == set(names)
    assert max(len(symbols) for _, symbols in rest.calls) == 250


async def test_without_a_poller_there_is_no_fallback(bench, upstream, tools):
    upstream.refuse_upgrade = 503
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.until(lambda: bench.hub.status()["last_error"], step_s=0.1)
    assert bench.told(t.FallbackStarted) == []
    assert bench.hub.state == "connecting"


async def test_a_wildcard_covers_singles_and_hands_over_without_a_hole(bench, upstream, tools):
    single, wide = tools.Inbox(), tools.Inbox()
    bench.hub.open(bench.topic("T.AAPL"), [single])
    bench.hub.open(bench.topic("AM.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL", "AM.AAPL")
    reader = bench.hub.open(bench.topic("T.*"), [wide])
    await bench.until(lambda: upstream.held[-1] == {"T.*", "AM.AAPL"})
    await upstream.push(trade(), trade("MSFT"))
    await bench.until(lambda: len(wide.got) == 2)
    assert [event.symbol for event in single.got] == ["AAPL"]
    bench.hub.close_reader(reader)
    await bench.until(lambda: upstream.held[-1] == {"T.AAPL", "AM.AAPL"}, step_s=0.2)
    order = [(m["action"], m["params"]) for m in upstream.messages[-2:]]
    assert order == [("subscribe", "T.AAPL"), ("unsubscribe", "T.*")]


async def test_closing_leaves_no_task_and_no_socket(upstream, make_bench, rest, tools):
    before = asyncio.all_tasks()
    bench = make_bench(rest)
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    await bench.hub.aclose()
    await bench.until(lambda: upstream.connections[-1].close_code == 1000)
    await bench.until(lambda: not [task for task in asyncio.all_tasks() - before if "massive_lab" in task.get_name()])
    assert bench.hub.state == "closed"
    assert bench.hub.topics().is_empty()
    opened, closed = bench.told(t.ReaderOpened), bench.told(t.ReaderClosed)
    assert [e.reader for e in opened] == [e.reader for e in closed]
    await bench.hub.aclose()


async def test_every_frame_is_told_with_its_events_by_topic(bench, upstream, tools):
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    await upstream.push(trade(), trade(), trade("MSFT"), tools.status("success", "x"))
    await bench.until(lambda: bench.told(t.FrameReceived)[-1].n_events)
    frames = bench.told(t.FrameReceived)
    assert frames[-1].by_topic == (("T.AAPL", 2), ("T.MSFT", 1))
    assert len(frames) == 4, "greeting, auth, confirmation, data"
    row = bench.hub.topics().rows(named=True)[0]
    assert (row["topic"], row["messages"], row["state"], row["readers"]) == ("T.AAPL", 2, "confirmed", 1)
