from __future__ import annotations

import asyncio
import gc
import itertools
import json
import threading

import polars as pl
import pytest

from massive_lab.clock import SystemClock
from massive_lab.errors import ClosedError, InvalidRequest, SlowReader, SubscriptionFailed, Timeout, Unauthorized
from massive_lab.frames.build import to_schema
from massive_lab.live.registry import n_hubs
from massive_lab.live.session import Live
from massive_lab.schema.symbols import parse_many
from massive_lab.telemetry import ReaderOpened, Telemetry
from massive_lab.transports.runner import Runner

WAIT_S = 20.0


@pytest.fixture
def open_live(served):
    _, settings, runner = served
    made = []

    def make(*symbols, channels=None, telemetry=None, **changes):
        heard = telemetry or Telemetry()
        made.append(Live(settings.with_(**changes), runner, heard, SystemClock(), None, parse_many(symbols), channels))
        return made[-1]

    yield make
    for live in made:
        live.close()
    assert n_hubs() == 0


def push(upstream, *events):
    upstream.thread.call(_push(upstream, events))


async def _push(upstream, events):
    for connection in upstream.connections:
        if connection.close_code is None:
            await connection.send(json.dumps(events))


def trade(symbol="AAPL", ms=1_000, price=100.0):
    return {"ev": "T", "sym": symbol, "t": ms, "p": price, "s": 10, "c": [14, 41], "i": "7", "x": 4, "z": 3, "q": ms}


def test_it_returns_at_once_and_serves_both_clusters(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL", "I:SPX")
    assert repr(live).startswith("<Live AAPL, I:SPX: 5 topics")
    live.wait_live(WAIT_S)
    assert live.topics()["topic"].to_list() == ["T.AAPL", "Q.AAPL", "AM.AAPL", "V.I:SPX", "AM.I:SPX"]
    assert live.status()["state"].to_list() == ["live", "live"]
    assert live.errors == ()
    assert len(upstream.connections) == 2


def test_the_sandbox_is_named_in_the_repr(open_live):
    live = open_live("AAPL", sandbox=True)
    assert repr(live).startswith("<SANDBOX Live AAPL")
    reader = live.trades()
    assert repr(reader) == "<SANDBOX Reader trades(*): 0 waiting, 0 dropped>"
    with reader.on(print) as callback:
        assert repr(callback) == "<SANDBOX Callback trades(*): running, 0 calls, 0 dropped>"
    live.close()
    assert repr(reader) == "<SANDBOX Reader trades(*): closed, 0 waiting, 0 dropped>"


def test_frames_of_every_kind_match_their_tables_empty_and_filled(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL", "I:SPX", channels=("T", "Q", "V", "A", "AM")).wait_live(WAIT_S)
    readers = {
        "live_trades": live.trades(), "live_quotes": live.quotes("AAPL"), "live_values": live.values(),
        "live_bars": live.bars("AAPL"),
    }  # fmt: skip
    for table, reader in readers.items():
        assert reader.frame().schema == to_schema(table)
        assert reader.frame().is_empty()
        assert reader.last is None
    bar = {"ev": "AM", "sym": "AAPL", "s": 60_000, "e": 120_000, "o": 1, "h": 2, "l": 0.5, "c": 1.5, "v": 3, "z": 2}
    second = {**bar, "ev": "A", "e": 61_000}
    quote = {"ev": "Q", "sym": "AAPL", "t": 5, "bp": 0, "ap": 10.5, "as": 2, "bs": 0}
    sink = live.trades()
    marker = threading.Event()
    threading.Thread(target=lambda: (sink.get(WAIT_S), marker.set())).start()
    while live.topics().filter(topic="T.AAPL")["readers"].item() != 2:
        pass
    push(upstream, quote, bar, {**bar, "c": 1.75}, second, {"ev": "V", "T": "I:SPX", "t": 9, "val": 5000.5}, trade())
    assert marker.wait(WAIT_S)
    for table, reader in readers.items():
        assert reader.frame().schema == to_schema(table)
    row = live.trades("AAPL").frame().row(0, named=True)
    assert (row["price"], row["size"], row["conditions"], row["exchange"], row["source"]) == (100.0, 10.0, [14, 41], 4, "stream")
    assert row["ts_sip"].timestamp() == 1.0
    q = live.quotes().frame().row(0, named=True)
    assert (q["bid_price"], q["ask_price"], q["mid_price"], q["spread"]) == (None, 10.5, None, None)
    bars = live.bars().frame()
    assert bars["close"].to_list() == [1.75], "the bar sent again replaces the first"
    assert live.bars(channel="A").frame()["close"].to_list() == [1.5]
    live.close()
    assert live.trades("AAPL").frame().height == 1, "what was received stays readable"


def test_a_cell_run_twice_subscribes_once(open_live, served):
    upstream, *_ = served
    open_live("AAPL").wait_live(WAIT_S)
    second = open_live("AAPL").wait_live(WAIT_S)
    assert len(upstream.connections) == 1
    assert upstream.sent("subscribe") == ["T.AAPL,Q.AAPL,AM.AAPL"]
    assert second.topics()["duplicates_avoided"].to_list() == [1, 1, 1]
    second.close()
    assert len(upstream.connections) == 1


def test_sync_iteration_ends_when_the_session_is_closed(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL").wait_live(WAIT_S)
    reader, got = live.trades("AAPL"), []
    first = threading.Event()

    def read():
        for event in reader:
            got.append(event.price)
            first.set()

    thread = threading.Thread(target=read)
    thread.start()
    for ms in itertools.count(1_000):
        if first.is_set():
            break
        push(upstream, trade(ms=ms))
    live.close()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert set(got) == {100.0}
    with pytest.raises(ClosedError):
        live.trades("AAPL").get(1.0)


def test_async_iteration_works_in_a_loop_of_the_users_own(open_live, served):
    upstream, *_ = served

    async def read():
        async with open_live("AAPL") as live:
            async with asyncio.timeout(WAIT_S):
                await live.await_live()
            reader = live.trades("AAPL")
            step = asyncio.ensure_future(anext(reader))
            for ms in itertools.count(1_000):
                if step.done():
                    break
                await asyncio.to_thread(push, upstream, trade(ms=ms))
            rest = [event async for event in _first(reader, 3, upstream)]
            return [step.result().price, *(event.price for event in rest)]

    assert asyncio.run(read()) == [100.0] * 4


async def _first(reader, n, upstream):
    for _ in range(n):
        step = asyncio.ensure_future(anext(reader))
        for ms in itertools.count(1_000):
            if step.done():
                break
            await asyncio.to_thread(push, upstream, trade(ms=ms))
        yield step.result()


def test_a_slow_reader_with_the_rule_close_is_told_and_harms_nobody(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL").wait_live(WAIT_S)
    slow, fast = live.trades(limit=2, overflow="close"), live.trades()
    for reader in (slow, fast):
        reader.__iter__()
    push(upstream, *(trade(ms=i) for i in range(5)))
    assert [fast.get(WAIT_S).ms for _ in range(5)] == [0, 1, 2, 3, 4]
    assert [slow.get(WAIT_S).ms for _ in range(2)] == [0, 1]
    with pytest.raises(SlowReader) as caught:
        slow.get(WAIT_S)
    assert caught.value.n_dropped == 3
    assert slow.n_dropped == 3


def test_one_denied_topic_is_named_and_ends_only_its_readers(open_live, served):
    upstream, *_ = served
    upstream.denied = {"Q.AAPL"}
    live = open_live("AAPL")
    with pytest.raises(SubscriptionFailed) as caught:
        live.wait_live(WAIT_S)
    assert caught.value.topic == "Q.AAPL"
    with pytest.raises(SubscriptionFailed):
        live.quotes().get(WAIT_S)
    trades = live.trades()
    trades.__iter__()
    push(upstream, trade())
    assert trades.get(WAIT_S).price == 100.0
    assert [error.topic for error in live.errors] == ["Q.AAPL"]


def test_a_refused_key_is_raised_as_such(open_live, served, tools):
    upstream, *_ = served
    upstream.auth_answer = [tools.status("auth_failed", "authentication failed")]
    with pytest.raises(Unauthorized) as caught:
        open_live("AAPL").wait_live(WAIT_S)
    assert "test-key" not in str(caught.value)


def test_waiting_in_vain_names_what_is_missing(open_live, served):
    upstream, *_ = served
    upstream.greeting = None
    with pytest.raises(Timeout, match=r"AM\.AAPL, Q\.AAPL, T\.AAPL not confirmed .* stocks is"):
        open_live("AAPL").wait_live(0.05)


def test_asking_for_what_the_session_does_not_have(open_live):
    live = open_live("AAPL")
    with pytest.raises(InvalidRequest, match="no topic V"):
        live.values()
    with pytest.raises(InvalidRequest, match=r"T\.MSFT"):
        live.trades("MSFT")
    with pytest.raises(InvalidRequest, match="not conflated"):
        live.trades(overflow="latest")
    with pytest.raises(InvalidRequest, match="'X'"):
        open_live("AAPL", channels=["X"])
    with pytest.raises(InvalidRequest, match="None of the channels V"):
        open_live("AAPL", channels=["V"])


def test_closing_is_idempotent_and_leaves_nothing(served):
    upstream, settings, runner = served
    before = {thread.name for thread in threading.enumerate()}
    for _ in range(3):
        live = Live(settings, runner, Telemetry(), SystemClock(), None, parse_many(["AAPL"]))
        live.wait_live(WAIT_S)
        live.close()
        live.close()
        assert live.is_closed
        assert "closed" in repr(live)
        assert live.topics().is_empty()
    assert runner.call(_tasks()) == []
    assert {thread.name for thread in threading.enumerate()} <= before | {"asyncio_0"}
    upstream.thread.call(_all_closed(upstream))
    assert n_hubs() == 0


async def _tasks():
    return [task.get_name() for task in asyncio.all_tasks() if "massive_lab" in task.get_name()]


async def _all_closed(upstream):
    for connection in upstream.connections:
        await connection.wait_closed()


def test_closed_before_it_ever_connected(served):
    _, settings, runner = served
    live = Live(settings, runner, Telemetry(), SystemClock(), None, parse_many(["AAPL", "I:SPX"]))
    live.close()
    assert runner.call(_tasks()) == []
    assert n_hubs() == 0
    with pytest.raises(ClosedError):
        live.wait_live(WAIT_S)


def test_a_forgotten_session_is_closed_by_the_collector(served):
    upstream, settings, runner = served
    live = Live(settings, runner, Telemetry(), SystemClock(), None, parse_many(["AAPL"]))
    live.wait_live(WAIT_S)
    del live
    gc.collect()
    upstream.thread.call(_all_closed(upstream), WAIT_S)


def test_a_session_forgotten_while_its_loop_ends_leaves_no_socket_and_no_hub(served):
    upstream, settings, _ = served
    runner = Runner("test-short")
    live = Live(settings, runner, Telemetry(), SystemClock(), None, parse_many(["AAPL", "I:SPX"]))
    live.wait_live(WAIT_S)
    upstream.thread.call(_deafen(upstream))
    del live
    gc.collect()
    runner.close()
    assert n_hubs() == 0
    upstream.thread.call(_hear_again(upstream))
    upstream.thread.call(_all_closed(upstream), WAIT_S)
    gc.collect()  # a socket left open would warn now, and a warning fails the test


async def _deafen(upstream):
    for connection in upstream.connections:
        connection.transport.pause_reading()


async def _hear_again(upstream):
    for connection in upstream.connections:
        connection.transport.resume_reading()


def test_the_line_that_asked_is_told(open_live):
    seen = []
    telemetry = Telemetry()
    telemetry.add(seen.append)
    open_live("AAPL", telemetry=telemetry).wait_live(WAIT_S)
    callers = {event.caller.partition(":")[0] for event in seen if isinstance(event, ReaderOpened)}
    assert callers == {"test_session.py"}


def test_two_keys_do_not_share_a_connection(served):
    upstream, settings, runner = served
    from massive_lab.config import Secret

    with (
        Live(settings, runner, Telemetry(), SystemClock(), None, parse_many(["AAPL"])) as one,
        Live(settings.with_(api_key=Secret("other")), runner, Telemetry(), SystemClock(), None, parse_many(["AAPL"])) as two,
    ):
        one.wait_live(WAIT_S)
        two.wait_live(WAIT_S)
        assert len(upstream.connections) == 2


def test_gaps_are_a_frame_even_when_there_is_none(open_live):
    gaps = open_live("AAPL").gaps()
    assert gaps.columns[:5] == ["cluster", "topic", "start", "end", "cause"]
    assert gaps.schema["start"] == pl.Datetime("ns", "UTC")


def test_a_closed_runner_is_no_obstacle_to_collection(served):
    _, settings, _ = served
    runner = Runner("test-short")
    live = Live(settings, runner, Telemetry(), SystemClock(), None, parse_many(["AAPL"]))
    live.wait_live(WAIT_S)
    runner.close()
    core = live._core
    del live
    gc.collect()
    assert core.is_closed
