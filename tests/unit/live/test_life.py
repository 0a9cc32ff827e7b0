"""A client's feeds from beginning to end: another key, and every way to leave without leaving anything behind."""

from __future__ import annotations

import asyncio
import gc
import json
import threading

import pytest

import massive_lab as ml
from massive_lab.errors import ClosedError, InvalidRequest, SubscriptionFailed, Unauthorized
from massive_lab.live.registry import n_hubs

WAIT_S = 20.0
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def connect(served):
    upstream, *_ = served
    made = []

    def make(key="test-key"):
        made.append(ml.connect(api_key=key, ws_url=upstream.url, rest_url=NOWHERE, max_attempts=1))
        return made[-1]

    yield make
    for lab in made:
        lab.close()
    assert n_hubs() == 0


def trade(symbol="AAPL", ms=1_000, price=100.0):
    return {"ev": "T", "sym": symbol, "t": ms, "p": price, "s": 10}


async def _push(upstream, events):
    for connection in upstream.connections:
        if connection.close_code is None:
            await connection.send(json.dumps(events))


def push(upstream, *events):
    upstream.thread.call(_push(upstream, events))


async def _ended(upstream):
    """How each connection ended, once all have."""
    for connection in upstream.connections:
        await connection.wait_closed()
    return [connection.close_code for connection in upstream.connections]


async def _answer(upstream, status):
    upstream.auth_answer = [status]


# ---- another key


def test_another_key_brings_back_sessions_readers_and_rest(connect, served, tools):
    upstream, *_ = served
    upstream.auth_answer = [tools.status("auth_failed", "authentication failed")]
    lab = connect()
    live = lab.live("AAPL", channels=["AM"])
    with pytest.raises(Unauthorized):
        live.wait_live(WAIT_S)
    bars, called = live.bars(), threading.Event()
    callback = bars.on(lambda _: called.set())
    with pytest.raises(SubscriptionFailed) as told:
        bars.get(WAIT_S)
    assert isinstance(told.value.__cause__, Unauthorized)
    assert lab.live.topics()["topic"].to_list() == ["AM.AAPL"], "still wanted"
    upstream.thread.call(_answer(upstream, tools.status("auth_success", "authenticated")))
    lab.live.retry("another-key")
    live.wait_live(WAIT_S)
    push(upstream, {"ev": "AM", "sym": "AAPL", "s": 60_000, "e": 120_000, "o": 1, "h": 2, "l": 0.5, "c": 1.5, "v": 10})
    assert bars.get(WAIT_S).close == 1.5, "the same reader goes on"
    assert called.wait(WAIT_S), "and so does the callback"
    callback.close()
    assert live.bars().frame().height == 1
    assert upstream.sent("auth") == ["test-key", "another-key"]
    assert lab.settings.api_key.reveal() == lab._session.settings.api_key.reveal() == "another-key"
    with lab.live("AAPL", channels=["AM"]) as second:
        second.wait_live(WAIT_S)
    assert len(upstream.connections) == 2, "one key, one connection"


def test_a_client_that_knows_the_feed_by_its_old_key_still_finds_it(connect, served):
    upstream, *_ = served
    one, two = connect(), connect()
    first = one.live("AAPL").wait_live(WAIT_S)
    held = two.live("AAPL").wait_live(WAIT_S)
    one.live.retry("another-key")
    late = two.live("MSFT").wait_live(WAIT_S)
    assert two.live.topics()["topic"].to_list() == one.live.topics()["topic"].to_list()
    assert len(upstream.connections) == 2
    for session in (first, held, late):
        session.close()


def test_a_key_whose_feeds_are_open_already_is_refused_and_nothing_changes(connect, served):
    upstream, *_ = served
    one, two = connect(), connect("another-key")
    kept = [lab.live("AAPL").wait_live(WAIT_S) for lab in (one, two)]
    with pytest.raises(InvalidRequest, match="open in this process"):
        one.live.retry("another-key")
    assert one.settings.api_key.reveal() == "test-key"
    assert len(upstream.connections) == 2
    assert [session.status()["state"].to_list() for session in kept] == [["live"], ["live"]]


def test_trying_again_where_all_is_well_changes_nothing(connect, served):
    upstream, *_ = served
    lab = connect()
    lab.live.retry()
    live = lab.live("AAPL").wait_live(WAIT_S)
    lab.live.retry()
    assert len(upstream.connections) == 1
    assert live.status()["state"].to_list() == ["live"]
    assert lab.live.outages().is_empty()
    assert lab.live.warnings().is_empty()


# ---- leaving


@pytest.mark.parametrize("round_", range(5))
def test_a_feed_forgotten_right_before_its_client_closes_is_closed_and_not_cut(round_, connect, served):
    upstream, *_ = served
    lab = connect()
    live = lab.live("AAPL").wait_live(WAIT_S)
    del live
    lab.close()
    assert upstream.thread.call(_ended(upstream), WAIT_S) == [1000]
    assert n_hubs() == 0


def test_a_feed_in_a_cycle_that_the_collector_finds_last_is_closed_and_not_cut(connect, served):
    upstream, *_ = served
    lab = connect()
    knot = [lab.live("AAPL").wait_live(WAIT_S)]
    knot.append(knot)
    del knot
    gc.collect()
    lab.close()
    assert upstream.thread.call(_ended(upstream), WAIT_S) == [1000]


def test_an_exception_in_the_users_loop_closes_what_the_with_opened(connect, served):
    upstream, *_ = served
    lab = connect()
    opened = []

    def cell():
        with lab.live("AAPL") as live:
            live.wait_live(WAIT_S)
            reader = live.trades()
            opened.extend((live, reader))
            iter(reader)
            push(upstream, trade())
            for _ in reader:
                raise LookupError("the user's own")

    with pytest.raises(LookupError):
        cell()
    assert upstream.thread.call(_ended(upstream), WAIT_S) == [1000]
    assert all(each.is_closed for each in opened)
    assert n_hubs() == 0
    assert lab.live.topics().is_empty()


def test_a_cancelled_task_that_reads_leaves_nothing(connect, served):
    upstream, *_ = served
    lab = connect()
    waiting = threading.Event()

    async def read():
        async with lab.live("AAPL") as live:
            await live.await_live()
            waiting.set()
            async for _ in live.trades():
                pass

    async def main():
        task = asyncio.create_task(read())
        await asyncio.to_thread(waiting.wait, WAIT_S)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert upstream.thread.call(_ended(upstream), WAIT_S) == [1000]
    assert n_hubs() == 0


def test_a_close_that_is_cancelled_closes_all_the_same(connect):
    lab = connect()
    live = lab.live(["AAPL", "I:SPX"]).wait_live(WAIT_S)

    async def leave():
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(task.cancel)
        await live.core.aclose()

    with pytest.raises(ClosedError):
        live.core.runner.call(leave(), WAIT_S)
    assert live.core.ended.wait(WAIT_S)
    assert n_hubs() == 0


def test_a_wait_that_is_cancelled_harms_nobody_else(connect, served):
    upstream, *_ = served
    upstream.silent = {"T.AAPL"}
    lab = connect()

    async def main():
        async with lab.live("AAPL", channels=["T"]) as live:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await live.await_live()
            assert live.status()["readers"].to_list() == [1]

    asyncio.run(main())
    assert n_hubs() == 0


def test_closing_the_client_ends_who_waits(connect, served):
    lab = connect()
    live = lab.live("AAPL").wait_live(WAIT_S)
    told, begun = [], threading.Event()

    def wait():
        begun.set()
        try:
            live.trades().get(WAIT_S)
        except ClosedError as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait(WAIT_S)
    lab.close()
    thread.join(WAIT_S)
    assert len(told) == 1


# ---- who asked


def test_the_line_that_reads_is_named_beside_the_one_that_opened(connect, served):
    upstream, *_ = served
    lab = connect()
    live = lab.live("AAPL", channels=["T"]).wait_live(WAIT_S)
    reader = live.trades()
    iter(reader)
    ((opened, read),) = lab.live.topics()["callers"].to_list()
    assert opened.startswith("test_life.py:")
    assert read.startswith("test_life.py:")
    assert int(read.partition(":")[2]) == int(opened.partition(":")[2]) + 2
    assert upstream.sent("subscribe") == ["T.AAPL"]
