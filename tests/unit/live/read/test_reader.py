"""Readers of a session: callbacks in threads of their own, frames of several symbols, ages."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import CancelledError

import pytest

from massive_lab.clock import SystemClock
from massive_lab.errors import (
    ClosedError,
    InvalidRequest,
    SlowReader,
    SubscriptionFailed,
    Timeout,
    Unauthorized,
)
from massive_lab.live.read import callbacks
from massive_lab.live.read.mailbox import EventsDropped
from massive_lab.live.registry import n_hubs
from massive_lab.live.session import Live
from massive_lab.schema.symbols import parse_many
from massive_lab.telemetry import EventDropped, Telemetry

WAIT_S = 20.0


@pytest.fixture
def open_live(served):
    _, settings, runner = served
    made = []

    def make(*symbols, channels=None, telemetry=None):
        made.append(
            Live(settings, runner, telemetry or Telemetry(), SystemClock(), None, parse_many(symbols), channels)
        )
        return made[-1].wait_live(WAIT_S)

    yield make
    for live in made:
        live.close()
    assert n_hubs() == 0
    assert callback_threads() == []


def callback_threads():
    return [thread.name for thread in threading.enumerate() if "callback" in thread.name]


def push(upstream, *events):
    async def send():
        for connection in upstream.connections:
            if connection.close_code is None:
                await connection.send(json.dumps(events))

    upstream.thread.call(send())


def trade(ms=1_000, symbol="AAPL", price=100.0):
    return {"ev": "T", "sym": symbol, "t": ms, "p": price, "s": 10, "q": ms}


class Heard(list):
    """Collects what a callback was given; `until` waits for a number of them."""

    def __init__(self):
        super().__init__()
        self.arrived = threading.Condition()

    def __call__(self, event):
        with self.arrived:
            self.append(event)
            self.arrived.notify_all()

    def until(self, n):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self) >= n, WAIT_S)


def test_a_function_is_called_with_each_event_in_order_on_one_thread_that_is_not_the_loops(open_live, served):
    upstream, _, runner = served
    live = open_live("AAPL")
    heard, threads = Heard(), set()

    def function(event):
        threads.add(threading.current_thread())
        heard(event)

    callback = live.trades("AAPL").on(function)
    for ms in range(0, 100, 10):
        push(upstream, *(trade(ms + i) for i in range(10)))
    heard.until(100)
    assert [event.ms for event in heard] == list(range(100))
    (thread,) = threads
    assert not runner.call(_is_loop_thread(thread))
    assert repr(callback).startswith("<Callback trades(AAPL): running, ")
    callback.close()
    callback.close()
    assert (callback.is_running, callback.n_calls, callback.error) == (False, 100, None)
    assert not thread.is_alive()
    push(upstream, trade(200))
    assert len(heard) == 100
    assert live.topics().filter(topic="T.AAPL")["readers"].item() == 1, "only the session's table reads on"


async def _is_loop_thread(thread):
    return threading.current_thread() is thread


def test_a_coroutine_function_is_awaited_one_event_after_the_other(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")
    heard, running = Heard(), []

    async def function(event):
        running.append(event.ms)
        await asyncio.sleep(0)
        assert running.pop() == event.ms
        heard(event)

    with live.trades().on(function) as callback:
        push(upstream, *(trade(ms) for ms in range(20)))
        heard.until(20)
        assert [event.ms for event in heard] == list(range(20))
    assert not callback.is_running


def test_closing_cancels_a_coroutine_that_waits_for_ever(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")
    begun, cancelled = threading.Event(), []

    async def function(event):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.ms)
            raise

    callback = live.trades().on(function)
    push(upstream, trade(1), trade(2))
    assert begun.wait(WAIT_S)
    callback.close()
    assert cancelled == [1]
    assert callback.error is None


def test_what_a_coroutine_waits_for_may_be_cancelled_as_it_may_fail(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")
    heard, errors = Heard(), []

    async def function(event):
        if event.ms == 1:
            task = asyncio.create_task(asyncio.Event().wait())
            task.cancel()
            await task
        heard(event)

    callback = live.trades().on(function, on_error=errors.append)
    alone = live.trades().on(function)
    push(upstream, trade(1), trade(2))
    heard.until(1)
    callback.close()
    assert ([type(error) for error in errors], callback.n_calls) == ([CancelledError], 2)
    with pytest.raises(CancelledError, match="was cancelled"):
        alone.wait(WAIT_S)
    assert heard[0].ms == 2


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
def test_the_first_error_ends_it_and_is_raised_by_close(open_live, served, is_async, caplog):
    upstream, *_ = served
    live = open_live("AAPL")
    heard = Heard()

    def function(event):
        if event.ms == 3:
            raise ZeroDivisionError("of the user")
        heard(event)

    async def coroutine(event):
        function(event)

    callback = live.trades().on(coroutine if is_async else function)
    others = Heard()
    with live.trades().on(others):
        push(upstream, *(trade(ms) for ms in range(6)))
        with pytest.raises(ZeroDivisionError):
            callback.wait(WAIT_S)
        others.until(6)
        push(upstream, trade(7))
        others.until(7)
    assert [event.ms for event in heard] == [0, 1, 2]
    assert repr(callback).endswith("ended by ZeroDivisionError, 4 calls, 0 dropped>")
    callback.close()  # told once
    assert [record.message for record in caplog.records if record.name == "massive_lab.callbacks"] == [
        "the callback of trades(*) ended by ZeroDivisionError"
    ]
    assert live.errors == (), "the feed has nothing to do with it"


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
def test_on_error_hears_each_error_and_the_next_event_follows(open_live, served, is_async):
    upstream, *_ = served
    live = open_live("AAPL")
    errors = Heard()

    def function(event):
        raise LookupError(event.ms)

    async def coroutine(event):
        function(event)

    with live.trades().on(coroutine if is_async else function, on_error=errors) as callback:
        push(upstream, *(trade(ms) for ms in range(5)))
        errors.until(5)
    assert [error.args[0] for error in errors] == [0, 1, 2, 3, 4]
    assert callback.error is None


def test_an_on_error_that_fails_ends_it(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")

    def fail(what):
        raise (IndexError if isinstance(what, Exception) else KeyError)

    callback = live.trades().on(fail, on_error=fail)
    push(upstream, trade(1))
    with pytest.raises(IndexError):
        callback.wait(WAIT_S)


def test_an_error_of_the_block_is_not_hidden_by_that_of_the_callback(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")

    def block(callback):
        with callback:
            push(upstream, trade(1))
            callback.join(WAIT_S)
            raise KeyError

    callback = live.trades().on(lambda _: 1 / 0)
    with pytest.raises(KeyError):
        block(callback)
    assert isinstance(callback.error, ZeroDivisionError)


def test_a_function_that_blocks_harms_only_its_own_queue(open_live, served):
    upstream, *_ = served
    told = []
    telemetry = Telemetry()
    telemetry.add(lambda event: told.append(event) if isinstance(event, EventDropped) else None)
    live = open_live("AAPL", telemetry=telemetry)
    begun, release, slow, fast = threading.Event(), threading.Event(), Heard(), Heard()

    def blocks(event):
        begun.set()
        assert release.wait(WAIT_S)
        slow(event)

    callback = live.trades(limit=5).on(blocks)
    other = live.trades().on(fast)
    push(upstream, trade(0))
    assert begun.wait(WAIT_S)
    for start in range(1, 100, 10):
        push(upstream, *(trade(ms) for ms in range(start, start + 10)))
    fast.until(101)
    assert live.trades().frame().height == 101
    assert callback.n_dropped == 95
    assert sum(event.n_dropped for event in told) == 95
    with pytest.raises(Timeout):
        callback.close(timeout=0.0)
    release.set()
    callback.close()
    assert [event.ms for event in slow] == [0], "no call begins after close"
    other.close()


def test_what_ends_the_reader_ends_the_callback(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")
    begun, release, errors = threading.Event(), threading.Event(), Heard()
    heard = Heard()

    def blocks(event):
        begun.set()
        assert release.wait(WAIT_S)
        heard(event)

    callback = live.trades(limit=2, overflow="close").on(blocks, on_error=errors)
    push(upstream, trade(0))
    assert begun.wait(WAIT_S)
    push(upstream, *(trade(ms) for ms in range(1, 6)))
    mark = Heard()
    with live.trades().on(mark):
        while not mark:
            push(upstream, trade(9))
    release.set()
    with pytest.raises(SlowReader):
        callback.wait(WAIT_S)
    assert [event.ms for event in heard] == [0, 1, 2]
    assert [type(error) for error in errors] == [SlowReader]


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
def test_a_feed_that_is_refused_for_now_is_told_to_on_error_and_read_on(open_live, served, is_async):
    upstream, *_ = served
    live = open_live("AAPL")
    heard, errors = Heard(), Heard()

    async def coroutine(event):
        heard(event)

    callback = live.trades().on(coroutine if is_async else heard, on_error=errors)
    push(upstream, trade(1))
    heard.until(1)
    callback._source._mailbox.tell_once(Unauthorized("The key is refused."))
    errors.until(1)
    push(upstream, trade(2))
    heard.until(2)
    callback.close()


def test_a_denied_topic_reaches_the_callback(served):
    upstream, settings, runner = served
    upstream.denied = {"T.AAPL"}
    with Live(settings, runner, Telemetry(), SystemClock(), None, parse_many(["AAPL"])) as live:
        callback = live.trades().on(lambda _: None)
        with pytest.raises(SubscriptionFailed):
            callback.wait(WAIT_S)


def test_closing_the_session_ends_its_callbacks_and_waits_for_them(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")
    heard = Heard()

    async def coroutine(event):
        heard(event)

    callbacks = [live.trades().on(heard), live.trades().on(coroutine), live.quotes().on(heard)]
    push(upstream, trade(1))
    heard.until(2)
    live.close()
    assert callback_threads() == []
    assert [(callback.is_running, callback.error) for callback in callbacks] == [(False, None)] * 3
    with pytest.raises(ClosedError):
        live.trades().on(heard)


def test_a_session_closed_from_another_loop_ends_its_callbacks(open_live):
    live = open_live("AAPL")
    live.trades().on(lambda _: None)
    asyncio.run(live.aclose())
    assert callback_threads() == []


@pytest.mark.parametrize("what", ["callback", "session"])
def test_a_function_may_close_what_calls_it(open_live, served, what):
    upstream, *_ = served
    live = open_live("AAPL")
    heard = Heard()

    def function(event):
        heard(event)
        (callback if what == "callback" else live).close()

    callback = live.trades().on(function)
    push(upstream, trade(1), trade(2))
    callback.wait(WAIT_S)
    assert [event.ms for event in heard] == [1]


def test_a_function_may_call_the_client(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")
    heights = Heard()
    with live.trades().on(lambda _: heights(live.topics().height + live.trades().frame().height)):
        push(upstream, trade(1))
        heights.until(1)
    assert heights == [4]


def test_opening_and_closing_many_leaves_no_thread_and_no_reader(open_live):
    live = open_live("AAPL")
    reader = live.trades()
    for _ in range(50):
        reader.on(print).close()
    assert callback_threads() == []
    assert len(live._core.callbacks) <= 1
    assert live.topics().filter(topic="T.AAPL")["readers"].item() == 1


@pytest.mark.parametrize("wrong", [{"function": 5}, {"function": print, "on_error": 5}], ids=["function", "on_error"])
def test_what_cannot_be_called_is_refused_at_once(open_live, wrong):
    live = open_live("AAPL")
    with pytest.raises(InvalidRequest):
        live.trades().on(wrong.pop("function"), **wrong)
    assert callback_threads() == []
    assert live.topics().filter(topic="T.AAPL")["readers"].item() == 1


def test_a_process_that_ends_with_a_callback_running_ends(served):
    _, settings, _ = served
    script = f"""
from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.live.session import Live
from massive_lab.schema.symbols import parse_many
from massive_lab.telemetry import Telemetry
from massive_lab.transports.runner import Runner

async def coroutine(event): pass
settings = Settings(Secret("k"), ws_url={settings.ws_url!r})
live = Live(settings, Runner.acquire(), Telemetry(), SystemClock(), None, parse_many("AAPL"))
live.trades().on(print)
live.trades().on(coroutine)
live.wait_live(20)
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "end\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("is_late", [False, True], ids=["before_it_has_begun", "after_it_has_begun"])
def test_a_first_step_that_is_cancelled_is_made_again_by_the_next_one(open_live, served, tools, is_late):
    upstream, _, runner = served
    live = open_live("AAPL", channels=["T"])
    reader = live.trades()

    async def read():
        gate, reached = threading.Event(), threading.Event()
        if not is_late:
            runner.submit(_hold(reached, gate))
            assert reached.wait(WAIT_S)
        step = asyncio.create_task(anext(reader))
        if is_late:
            await tools.until(lambda: live._core._mailboxes)
        else:
            await asyncio.sleep(0)  # it has asked the loop thread, which is busy
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        gate.set()
        async with asyncio.timeout(WAIT_S):
            first = asyncio.create_task(anext(reader))
            await tools.until(lambda: live._core._mailboxes)
            await asyncio.to_thread(push, upstream, trade(1), trade(2))
            return [(await first).ms, (await anext(reader)).ms]

    assert asyncio.run(read()) == [1, 2]
    assert len(reader._mailbox) == 0, "it is subscribed once"
    reader.close()
    assert live.topics()["readers"].to_list() == [1]


async def _hold(reached, gate):
    reached.set()
    gate.wait(WAIT_S)


def test_a_forked_child_ends_without_the_callbacks_of_its_parent(open_live):
    with open_live("AAPL").trades().on(print) as callback, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork with threads
        with callback._lock:  # as the thread that does not come along may hold it
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                callbacks._at_exit()
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert callback.is_running


def test_some_symbols_are_read_together(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL", "MSFT", "SPY", channels=["T"])
    some = live.trades(["AAPL", "SPY"])
    some.__iter__()
    push(upstream, trade(1, "AAPL"), trade(2, "MSFT"), trade(3, "SPY", price=5.0))
    assert [some.get(WAIT_S).symbol, some.get(WAIT_S).symbol] == ["AAPL", "SPY"]
    assert some.frame()["symbol"].to_list() == ["AAPL", "SPY"]
    assert some.last.price == 5.0
    assert repr(some) == "<Reader trades(AAPL, SPY): 0 waiting, 0 dropped>"
    with pytest.raises(InvalidRequest, match=r"T\.TSLA"):
        live.trades(["AAPL", "TSLA"])
    with pytest.raises(InvalidRequest):
        live.trades([])


def test_the_newest_of_everything_with_its_age(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL", "MSFT", channels=["T", "Q"])
    assert live.last().is_empty()
    assert live.trades().staleness_s is None
    reader = live.trades()
    reader.__iter__()
    quote = {"ev": "Q", "sym": "AAPL", "t": 5, "bp": 10.0, "ap": 11.0, "as": 2, "bs": 1}
    push(upstream, quote, trade(1, "MSFT"), trade(2, "MSFT", price=7.0))
    assert [reader.get(WAIT_S).ms, reader.get(WAIT_S).ms] == [1, 2]
    last = live.last()
    assert last.select("channel", "symbol", "price", "source").rows() == [
        ("T", "MSFT", 7.0, "stream"),
        ("Q", "AAPL", 10.5, "stream"),
    ]
    assert last["staleness_s"].min() > 0
    assert (last["age_s"] >= last["staleness_s"]).all()
    frame = live.trades().last_frame()
    assert frame.columns[-2:] == ["staleness_s", "age_s"]
    assert frame["price"].to_list() == [7.0]
    assert live.trades().staleness_s == pytest.approx(frame["staleness_s"].item())


def test_a_loss_is_announced_where_the_reader_stands(open_live, served):
    upstream, *_ = served
    live = open_live("AAPL")
    slow, mark = live.trades(limit=2), live.trades()
    slow.__iter__()
    mark.__iter__()
    push(upstream, *(trade(ms) for ms in range(5)))
    assert [mark.get(WAIT_S).ms for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.warns(EventsDropped, match="3 events") as caught:
        assert slow.get(WAIT_S).ms == 3
    assert caught[0].filename == __file__
