"""Mailboxes and rolling tables against plain lists with the same rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.clock import ManualClock
from massive_lab.decode.stream import IndexValue, MinuteBar, Quote, Trade
from massive_lab.errors import SlowReader, Timeout
from massive_lab.live.read.mailbox import EVENT_BYTES, Mailbox
from massive_lab.live.read.tables import RollingTable

SYMBOLS = st.sampled_from("ABC")
MAYBE = st.none()


class Model:
    """A mailbox as a list of (arrival, event)."""

    def __init__(self, rule, limit, max_bytes, max_age_s):
        self.rule, self.limit, self.max_bytes, self.max_age_s = rule, limit, max_bytes, max_age_s
        self.rows, self.now, self.dropped, self.superseded, self.is_closed = [], 0.0, 0, 0, False

    def aged(self):
        return [row for row in self.rows if self.now - row[0] > (self.max_age_s or 1e9)]

    def expire(self):
        if self.aged() and self.rule == "close":
            self.is_closed = True
        elif not self.is_closed:
            old = self.aged()
            self.dropped += len(old)
            self.rows = [row for row in self.rows if row not in old]

    def is_over(self):
        n_bytes = sum(EVENT_BYTES[type(event)] for _, event in self.rows)
        return len(self.rows) > self.limit or (len(self.rows) > 1 and n_bytes > (self.max_bytes or 1e9))

    def put(self, events):
        if self.is_closed:
            return
        self.expire()
        if self.is_closed:
            self.dropped += len(events)
            return
        for event in events:
            if self.rule == "latest":
                others = [row for row in self.rows if (type(row[1]), row[1].symbol) != (type(event), event.symbol)]
                self.superseded += len(self.rows) - len(others)
                self.rows = others
            self.rows.append((self.now, event))
        while self.is_over():
            self.rows.pop(-1 if self.rule == "close" else 0)
            self.dropped += 1
            self.is_closed |= self.rule == "close"

    def get(self):
        if not self.is_closed:
            self.expire()
        return self.rows.pop(0)[1] if self.rows else None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.tuples(st.booleans(), SYMBOLS), min_size=1, max_size=6)),
        st.tuples(st.just("get"), st.integers(1, 5)),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 2.5])),
    ),
    max_size=40,
)


@given(
    rule=st.sampled_from(["drop_oldest", "latest", "close"]),
    limit=st.integers(1, 8),
    max_bytes=MAYBE | st.integers(1, 5_000),
    max_age_s=MAYBE | st.sampled_from([1.0, 2.0, 4.0]),
    steps=STEPS,
)
def test_a_mailbox_does_what_a_list_with_its_rules_does(rule, limit, max_bytes, max_age_s, steps):
    clock = ManualClock()
    box = Mailbox(
        "b", limit=limit, overflow=rule, max_bytes=max_bytes, max_age_s=max_age_s, clock=clock, tell=lambda _: None
    )
    model = Model(rule, limit, max_bytes, max_age_s)
    n_put = n_got = n_told = 0
    for what, value in steps:
        if what == "wait":
            clock.advance(value)
            model.now += value
        elif what == "put":
            events = [
                Quote(s, n_put + i) if quote else IndexValue(s, n_put + i, 1.0) for i, (quote, s) in enumerate(value)
            ]
            was_closed = box.is_closed
            box.inbox.extend(events)
            n_told += box.flush()
            model.put(events)
            n_put += 0 if was_closed else len(events)
        else:
            for _ in range(value):
                expected = model.get()
                try:
                    assert box.get(0) is expected
                except Timeout:
                    assert expected is None
                    assert not model.is_closed
                except SlowReader:
                    assert expected is None
                    assert model.is_closed
                n_got += expected is not None
        assert len(box) == len(model.rows) <= limit
        assert box.n_bytes == sum(EVENT_BYTES[type(event)] for _, event in model.rows)
        assert (box.n_dropped, box.n_superseded, box.is_closed) == (model.dropped, model.superseded, model.is_closed)
        assert n_put == n_got + len(box) + box.n_dropped + box.n_superseded, "every event is accounted for"
        assert n_told <= box.n_dropped


SOURCES = st.sampled_from(["stream", "backfill", "poll"])
BATCHES = st.lists(
    st.lists(st.tuples(SYMBOLS, st.integers(0, 60), st.integers(0, 99), SOURCES), max_size=9), max_size=12
)


def keys(frame):
    return frame.select("symbol", "price").rows()


@given(
    batches=BATCHES,
    max_rows=st.integers(1, 40),
    keep_s=MAYBE | st.sampled_from([0.01, 0.03]),
    reads=st.sets(st.integers(0, 12)),
)
def test_a_table_of_trades_holds_the_newest_rows_whatever_came_when(batches, max_rows, keep_s, reads):
    table = RollingTable("trades", max_rows=max_rows, keep_s=keep_s)
    everything = []
    for number, batch in enumerate(batches):
        trades = [Trade(s, ms, len(everything) + i, sequence=q, source=by) for i, (s, ms, q, by) in enumerate(batch)]
        everything += trades
        table.inbox.extend(trades)
        table.flush()
        if number in reads:
            table.frame()
    frame = table.frame()
    assert frame.height <= max_rows
    assert table.n_seen == len(everything)
    newest: dict[str, int] = {}
    late = False
    for trade in everything:
        late |= trade.ms < newest.get(trade.symbol, -1)
        newest[trade.symbol] = max(trade.ms, newest.get(trade.symbol, -1))
    assert {symbol: event.ms for symbol, event in table.last.items()} == newest
    held = frame["price"].to_list()
    assert len(set(held)) == len(held), "no row twice"
    by_price = {trade.price: trade for trade in everything}
    rows = [by_price[price] for price in held]
    if keep_s is not None and everything:
        assert all(row.ms >= max(newest.values()) - keep_s * 1_000 for row in rows)
    if not late:
        kept = [t.price for t in everything if keep_s is None or t.ms >= max(newest.values()) - keep_s * 1_000]
        assert held == kept[-len(held) :] if held else not kept
    if not reads and late and keep_s is None:
        ordered = sorted(everything, key=lambda t: (t.ms, t.sequence))
        assert [(row.ms, row.sequence) for row in rows] == [(t.ms, t.sequence) for t in ordered[-max_rows:]]


@given(batches=BATCHES)
def test_each_symbols_rows_stand_in_the_order_of_the_exchange_when_read_after_late_rows(batches):
    table = RollingTable("trades")
    n = 0
    for batch in batches:
        # A stream in order, then what REST says of the time before.
        stream = sorted((row for row in batch if row[3] == "stream"), key=lambda row: (row[1], row[2]))
        rest = [row for row in batch if row[3] != "stream"]
        for s, ms, q, by in [*stream, *rest]:
            n += 1
            table.inbox.append(Trade(s, ms, float(n), sequence=q, source=by))
        table.flush()
    last_of: dict[str, int] = {}
    for symbol, ms in table.frame().select("symbol", table.frame()["ts_sip"].dt.epoch("ms")).rows():
        assert ms >= last_of.get(symbol, -1)
        last_of[symbol] = ms


@given(rows=st.lists(st.tuples(SYMBOLS, st.integers(0, 9), SOURCES), max_size=60), every=st.integers(1, 9))
def test_bars_are_one_a_minute_the_streams_before_those_of_rest(rows, every):
    table = RollingTable("bars")
    model: dict[tuple[str, int], tuple[str, float]] = {}
    for number, (symbol, minute, by) in enumerate(rows):
        table.inbox.append(MinuteBar(symbol, minute * 60_000, 1, 1, 1, float(number), source=by))
        table.flush()
        if not number % every:
            table.frame()
        if by == "stream" or model.get((symbol, minute), ("", 0.0))[0] != "stream":
            model[symbol, minute] = by, float(number)
    frame = table.frame()
    held = list(
        zip(frame["symbol"], frame["ts_event"].dt.epoch("s") // 60, frame["source"], frame["close"], strict=True)
    )
    assert held == [(*key, *model[key]) for key in sorted(model)]


@pytest.mark.parametrize("rule", ["drop_oldest", "latest", "close"])
def test_a_reader_that_never_reads_costs_a_bounded_amount(rule):
    box = Mailbox("b", limit=500, overflow=rule, max_bytes=10**6)
    for n in range(200):
        box.inbox.extend(Quote(f"S{n % 50}{i}", n) for i in range(100))
        box.flush()
        assert len(box) <= 500
        assert len(box._arrivals) <= 500
        assert box.inbox == []
    assert box.n_dropped > 0
