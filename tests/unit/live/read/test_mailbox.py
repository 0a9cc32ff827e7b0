"""One reader's queue: what each rule does at each bound, and how waiting ends."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from massive_lab.clock import ManualClock
from massive_lab.decode.stream import IndexValue, MinuteBar, Quote, SecondBar, StreamDecoder, Trade
from massive_lab.errors import ClosedError, InvalidRequest, SlowReader, Timeout
from massive_lab.live.read.mailbox import EVENT_BYTES, EventsDropped, Mailbox


def trades(*ms, symbol="A"):
    return [Trade(symbol, m, float(m)) for m in ms]


def fill(box, events):
    box.inbox.extend(events)
    return box.flush()


def test_drop_oldest_keeps_the_newest_and_counts():
    box = Mailbox("b", limit=3)
    assert [fill(box, trades(1, 2)), fill(box, trades(3, 4, 5))] == [0, 2]
    with pytest.warns(EventsDropped, match="2 events"):
        assert [box.get(0).ms for _ in range(3)] == [3, 4, 5]
    assert box.n_dropped == 2


def test_latest_keeps_one_a_symbol_in_order_of_change():
    box = Mailbox("b", limit=2, overflow="latest")
    quotes = [Quote("A", 1), Quote("B", 2), Quote("A", 3)]
    assert fill(box, quotes) == 0
    assert [(e.symbol, e.ms) for e in (box.get(0), box.get(0))] == [("B", 2), ("A", 3)]
    assert (box.n_superseded, box.n_dropped, len(box)) == (1, 0, 0)
    assert fill(box, [Quote("A", 1), Quote("B", 2), Quote("C", 3)]) == 1


def test_close_gives_what_is_queued_then_says_what_was_lost_once():
    box = Mailbox("b", limit=2, overflow="close")
    assert fill(box, trades(1, 2, 3)) == 1
    assert fill(box, trades(4)) == 0, "a closed box takes nothing"
    assert [box.get(0).ms, box.get(0).ms] == [1, 2]
    with pytest.raises(SlowReader):
        box.get(0)
    assert box.get(0) is None


def test_closing_wakes_a_waiting_thread_and_keeps_what_is_queued():
    box = Mailbox("b")
    got = []
    thread = threading.Thread(target=lambda: got.extend((box.get(), box.get(), box.get())))
    thread.start()
    fill(box, trades(1))
    box.close()
    thread.join(20)
    assert [event and event.ms for event in got] == [1, None, None]
    box.close(ClosedError("late"))
    assert box.get(0) is None


def test_an_empty_box_times_out():
    with pytest.raises(Timeout):
        Mailbox("b").get(0.0)


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"overflow": "block"}, {"max_bytes": 0}, {"max_age_s": 0.0}, {"max_age_s": float("nan")}]
)
def test_bad_rules_are_refused(wrong):
    with pytest.raises(InvalidRequest):
        Mailbox("b", **wrong)


@pytest.mark.asyncio
async def test_an_async_reader_is_woken_from_another_thread_and_cancelling_loses_nothing():
    box = Mailbox("b")
    waiting = asyncio.ensure_future(box.aget())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    waiting = asyncio.ensure_future(box.aget())
    await asyncio.sleep(0)
    await asyncio.to_thread(fill, box, trades(1, 2))
    assert (await waiting).ms == 1
    assert (await box.aget()).ms == 2
    box.close()
    assert await box.aget() is None


@pytest.mark.asyncio
async def test_a_reader_whose_loop_is_gone_does_not_keep_the_others_from_being_woken():
    box = Mailbox("b")
    gone = asyncio.new_event_loop()
    box._waiters.append((gone, gone.create_future()))
    gone.close()
    mine = asyncio.ensure_future(box.aget())
    await asyncio.sleep(0)
    fill(box, trades(1))
    assert (await mine).ms == 1


@pytest.mark.parametrize("rule", ["drop_oldest", "latest"])
def test_what_has_waited_too_long_is_dropped_and_counted(rule):
    clock = ManualClock()
    box = Mailbox("b", overflow=rule, max_age_s=5.0, clock=clock)
    fill(box, [Quote("A", 1)])
    clock.advance(3)
    fill(box, [Quote("B", 2)])
    clock.advance(3)
    fill(box, [Quote("C", 3)])
    with pytest.warns(EventsDropped):
        assert box.get(0).symbol == "B"
    clock.advance(5.5)
    with pytest.raises(Timeout):
        box.get(0)
    assert box.n_dropped == 2
    assert fill(box, [Quote("D", 4)]) == 1, "what was dropped while reading is told with the next frame"


def test_a_newer_event_of_the_symbol_begins_to_wait_anew():
    clock = ManualClock()
    box = Mailbox("b", overflow="latest", max_age_s=5.0, clock=clock)
    fill(box, [Quote("A", 1)])
    clock.advance(4)
    fill(box, [Quote("A", 2)])
    clock.advance(4)
    assert box.get(0).ms == 2


def test_close_by_age_gives_what_is_queued_and_counts_what_came_after():
    clock = ManualClock()
    box = Mailbox("b", overflow="close", max_age_s=5.0, clock=clock)
    fill(box, trades(1, 2))
    clock.advance(6)
    assert fill(box, trades(3)) == 1
    assert [box.get(0).ms, box.get(0).ms] == [1, 2]
    with pytest.raises(SlowReader) as caught:
        box.get(0)
    assert caught.value.n_dropped == 1


@pytest.mark.parametrize("rule", ["drop_oldest", "latest", "close"])
def test_bytes_are_bounded_but_one_event_always_fits(rule):
    box = Mailbox("b", overflow=rule, max_bytes=3 * EVENT_BYTES[Quote])
    fill(box, [Quote(f"S{i}", i) for i in range(10)])
    assert (len(box), box.n_bytes, box.n_dropped) == (3, 3 * EVENT_BYTES[Quote], 7)
    tight = Mailbox("b", overflow=rule, max_bytes=1)
    fill(tight, [Quote("A", 1)])
    assert len(tight) == 1


WIRE = {
    "T": b'{"ev":"T","sym":"AAPL","x":12,"i":"123456","z":3,"p":114.12,"s":100,"c":[14,41],"t":1750000000000,"q":3681328}',
    "T of an option": b'{"ev":"T","sym":"O:AAPL250620C00200000","x":312,"p":4.12,"s":1,"c":[233],"t":1750000000000,"q":368132}',
    "T of a fraction": b'{"ev":"T","sym":"AAPL","x":4,"i":"123456","z":3,"p":114.12,"s":0,"ds":"0.25","c":[14,41],'
    b'"t":1750000000000,"q":3681328,"pt":1750000000000,"trfi":202,"trft":1750000000000}',
    "Q": b'{"ev":"Q","sym":"AAPL","bx":4,"bp":114.1,"bs":100,"ax":7,"ap":114.2,"as":160,"c":0,"i":[604],"t":1750000000000,'
    b'"q":50385480,"z":3}',
    "A": b'{"ev":"A","sym":"AAPL","v":4110,"av":9470157,"op":0.4372,"vw":1.2,"o":1.3,"c":1.1,"h":1.2,"l":1.1,"a":1.2,"z":685,'
    b'"s":1750000000000,"e":1750000001000}',
    "V": b'{"ev":"V","val":3988.5,"T":"I:SPX","t":1678220098130}',
}


@pytest.mark.parametrize("kind", WIRE)
def test_the_bytes_of_an_event_are_within_a_factor_of_what_it_really_holds(kind):
    (event,) = StreamDecoder().decode(b"[" + WIRE[kind] + b"]")
    event.ts_recv = 1_750_000_000_123_456_789
    held = [getattr(event, name) for name in type(event).__struct_fields__ if name != "source"]
    held += [part for value in held if isinstance(value, tuple) for part in value]
    real = sys.getsizeof(event) + sum(sys.getsizeof(value) for value in held if value is not None)
    assert 0.6 < EVENT_BYTES[type(event)] / real < 1.5


def test_every_kind_of_event_has_its_bytes():
    assert set(EVENT_BYTES) == {Trade, Quote, SecondBar, MinuteBar, IndexValue}


def test_a_loss_is_told_at_first_and_at_each_tenfold_and_costs_no_event():
    told = []
    box = Mailbox("b", limit=1, tell=told.append)
    for n in range(1, 130):
        fill(box, trades(2 * n, 2 * n + 1))
        assert box.get(0).ms == 2 * n + 1
    assert [text.split()[4] for text in told] == ["1", "10", "100"]


def test_a_warning_that_is_an_error_loses_nothing():
    box = Mailbox("b", limit=2)
    fill(box, trades(1, 2, 3))
    with pytest.raises(EventsDropped):
        box.get(0)
    assert [box.get(0).ms, box.get(0).ms] == [2, 3]


def test_discarding_ends_at_once():
    box = Mailbox("b")
    fill(box, trades(1))
    box.discard()
    assert (box.get(0), len(box), box.n_bytes) == (None, 0, 0)
