"""Mailboxes, rolling tables, routes and the memory of polls."""

from __future__ import annotations

import asyncio
import threading

import polars as pl
import pytest

from massive_lab.decode.stream import IndexValue, MinuteBar, Quote, Trade
from massive_lab.errors import ClosedError, EventsDropped, InvalidRequest, SlowReader, Timeout
from massive_lab.frames.build import to_schema
from massive_lab.live.columns import TABLES, to_frame
from massive_lab.live.mailbox import Mailbox
from massive_lab.live.polling import PollMemory, snapshot_events
from massive_lab.live.routes import Routes
from massive_lab.live.tables import RollingTable
from massive_lab.live.topics import Topic


def trades(*ms, symbol="A"):
    return [Trade(symbol, m, float(m)) for m in ms]


def fill(box, events):
    box.inbox.extend(events)
    return box.flush()


# ---- mailbox


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


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"overflow": "block"}])
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


# ---- tables


@pytest.mark.parametrize("kind", list(TABLES))
def test_an_empty_table_has_the_full_schema(kind):
    assert RollingTable(kind).frame().schema == to_schema(TABLES[kind])
    assert to_frame(kind, []).schema == to_schema(TABLES[kind])


def test_a_table_keeps_exactly_the_newest_rows_whatever_the_batches():
    table = RollingTable("trades", max_rows=5_000)
    n = 0
    for size in (1, 4_095, 4_096, 7, 20_000, 3):
        fill(table, trades(*range(n, n + size)))
        n += size
        kept = min(n, 5_000)
        assert table.frame()["price"].to_list() == [float(i) for i in range(n - kept, n)]
    assert table.n_seen == n


def test_reading_often_does_not_pile_up_pieces():
    table = RollingTable("trades", max_rows=1_000)
    for i in range(500):
        fill(table, trades(i))
        assert table.frame().height == i + 1
    assert len(table._pieces) <= 257


def test_an_older_event_does_not_become_the_last():
    table = RollingTable("trades")
    fill(table, trades(5, 3))
    assert table.last["A"].ms == 5
    assert table.last_frame()["price"].to_list() == [5.0]


def test_bars_replace_each_other_and_stay_bounded():
    table = RollingTable("bars", max_rows=3)
    for minute in (1, 2, 2, 3, 1, 4):
        fill(table, [MinuteBar("A", minute * 60_000, 1, 1, 1, float(minute), whole=float(table.n_seen))])
    frame = table.frame()
    assert frame["close"].to_list() == [2.0, 3.0, 4.0]
    assert frame["volume"].to_list() == [2.0, 3.0, 5.0]


def test_columns_know_what_the_wire_leaves_out():
    row = to_frame("trades", [Trade("A", 1, 2.0)]).row(0, named=True)
    assert {name for name, value in row.items() if value is not None} == {"symbol", "ts_sip", "price", "ts_recv", "source"}
    odd = to_frame("trades", [Trade("A", 1, 2.0, trade_id=7, participant=10**18 + 1), Trade("A", 1, 2.0, participant=5)])
    assert odd["trade_id"].to_list() == ["7", None]
    assert odd["ts_participant"].dt.epoch("ns").to_list() == [10**18 + 1, 5_000_000]
    values = to_frame("values", [IndexValue("I:X", 1, 2.0, 7, "poll", 3)])
    assert values["ts_event"].dt.epoch("ns").to_list() == [1_000_003]


# ---- routes


class Sink:
    def __init__(self):
        self.inbox = []


def test_a_sink_of_single_and_wildcard_gets_each_event_once():
    routes, sink = Routes(), Sink()
    single, wide = Topic("stocks", "T", "A"), Topic("stocks", "T", "*")
    for topic in (single, wide):
        routes.open(topic, 0)
        routes.attach(topic, [sink])
    touched, _ = routes.dispatch(trades(1, 2) + trades(3, symbol="B"), 9)
    assert [e.ms for e in sink.inbox] == [1, 2, 3]
    assert routes.finish(touched, 300, 3) == (("T.A", 2), ("T.B", 1))
    assert (routes.tally(single).n_messages, routes.tally(wide).n_messages) == (2, 3)
    assert round(routes.tally(single).n_bytes) == 200
    routes.detach(wide, [sink])
    routes.dispatch(trades(4, symbol="B"), 9)
    assert len(sink.inbox) == 3
    routes.close(wide)
    routes.close(single)
    assert list(routes.newest) == []


def test_strays_are_counted_but_do_not_grow_without_end():
    routes = Routes()
    for i in range(25_000):
        touched, _ = routes.dispatch([Trade(f"S{i}", 1, 1.0)], 0)
        routes.finish(touched, 1, 1)
    assert len(list(routes.newest)) <= 10_000


# ---- polls


def snapshot(**columns):
    return pl.DataFrame({name: [value] for name, value in columns.items()})


def test_a_snapshot_row_becomes_the_events_that_are_wanted():
    ns = 1_000_000_007
    traded = {"trade_price": 5.0, "trade_size": 2.0, "trade_exchange": 4, "ts_trade": ns}
    frame = snapshot(symbol="A", error=None, **traded, bid_price=4.9, ask_price=5.1, ts_quote=ns)
    both = snapshot_events(frame, {"A": {"trades", "quotes"}}, 11)
    assert [(type(e), e.ts_sip, e.source, e.ts_recv) for e in both] == [(Trade, ns, "poll", 11), (Quote, ns, "poll", 11)]
    assert snapshot_events(frame, {"A": {"quotes"}}, 11)[0].mid_price == 5.0
    assert snapshot_events(frame, {"B": {"trades"}}, 11) == []
    assert snapshot_events(frame.with_columns(error=pl.lit("NOT_FOUND")), {"A": {"trades"}}, 11) == []
    assert snapshot_events(frame.with_columns(ts_trade=None), {"A": {"trades"}}, 11) == []
    typed = frame.with_columns(pl.col("ts_trade").cast(pl.Datetime("ns", "UTC")))
    assert snapshot_events(typed, {"A": {"trades"}}, 11)[0].ts_sip == ns
    value = snapshot(symbol="I:X", last_price=7.5, ts_updated=ns)
    assert snapshot_events(value, {"I:X": {"values"}}, 11)[0].ts_event == ns


def test_unchanged_answers_and_older_ones_are_suppressed():
    memory, newest = PollMemory(), {}
    poll = Trade("A", 10, 5.0, whole=1.0, source="poll")
    assert memory.news([poll], newest) == [poll]
    assert memory.news([Trade("A", 10, 5.0, whole=1.0, source="poll", sub_ns=3)], newest) == []
    newest[Trade, "A"] = Trade("A", 20, 6.0)
    for ms in (15, 20):
        assert memory.news([Trade("A", ms, 7.0, source="poll")], newest) == []
    assert len(memory.news([Trade("A", 21, 7.0, source="poll")], newest)) == 1
    assert memory.already_said(Trade("A", 21, 7.0))
    assert not memory.already_said(Trade("A", 21, 7.0)), "told apart once, then forgotten"
    assert not memory
