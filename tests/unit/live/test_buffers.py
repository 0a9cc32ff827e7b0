"""Routes and the memory of polls."""

from __future__ import annotations

import polars as pl

from massive_lab.decode.stream import Quote, Trade
from massive_lab.live.poll.polling import PollMemory, snapshot_events
from massive_lab.live.routes import Routes
from massive_lab.live.topics import Topic


def trades(*ms, symbol="A"):
    return [Trade(symbol, m, float(m)) for m in ms]


def fill(box, events):
    box.inbox.extend(events)
    return box.flush()


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
