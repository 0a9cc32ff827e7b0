"""Rolling tables: what is kept, in which order, and what is the last."""

from __future__ import annotations

import threading

import pytest

from massive_lab.decode.stream import IndexValue, MinuteBar, Quote, Trade
from massive_lab.errors import InvalidRequest
from massive_lab.frames.build import to_schema
from massive_lab.live.read.columns import BATCH, TABLES, to_frame
from massive_lab.live.read.tables import RollingTable


def trades(*ms, symbol="A", **more):
    return [Trade(symbol, m, float(m), **more) for m in ms]


def fill(table, events):
    table.inbox.extend(events)
    return table.flush()


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
    assert {name for name, value in row.items() if value is not None} == {
        "symbol",
        "ts_sip",
        "price",
        "ts_recv",
        "source",
    }
    odd = to_frame(
        "trades", [Trade("A", 1, 2.0, trade_id=7, participant=10**18 + 1), Trade("A", 1, 2.0, participant=5)]
    )
    assert odd["trade_id"].to_list() == ["7", None]
    assert odd["ts_participant"].dt.epoch("ns").to_list() == [10**18 + 1, 5_000_000]
    values = to_frame("values", [IndexValue("I:X", 1, 2.0, 7, "poll", 3)])
    assert values["ts_event"].dt.epoch("ns").to_list() == [1_000_003]


@pytest.mark.parametrize("wrong", [{"max_rows": 0}, {"keep_s": 0.0}, {"keep_s": float("nan")}])
def test_a_table_that_holds_nothing_is_refused(wrong):
    with pytest.raises(InvalidRequest):
        RollingTable("trades", **wrong)


@pytest.mark.parametrize("batch", [1, BATCH, 40_000])
def test_rows_too_old_leave_by_the_time_of_the_exchange(batch):
    table = RollingTable("trades", keep_s=10.0)
    everything = trades(*range(0, 40_000, 2))
    for start in range(0, len(everything), batch):
        fill(table, everything[start : start + batch])
    frame = table.frame()
    assert frame["price"].to_list() == [float(ms) for ms in range(29_998, 40_000, 2)]
    assert table._n_rows == frame.height
    assert table.n_seen == len(everything)


def test_bars_too_old_leave_too():
    table = RollingTable("bars", keep_s=120.0)
    fill(table, [MinuteBar("A", minute * 60_000, 1, 1, 1, float(minute)) for minute in range(9)])
    assert table.frame()["close"].to_list() == [6.0, 7.0, 8.0]


def test_late_rows_find_their_place_by_time_and_sequence():
    table = RollingTable("trades")
    fill(table, [Trade("A", 5, 5.0, sequence=9), Trade("B", 6, 6.0, sequence=1)])
    assert table.frame()["price"].to_list() == [5.0, 6.0]
    late = [
        Trade("A", 3, 3.2, sequence=3, source="backfill", sub_ns=1),
        Trade("A", 3, 3.1, sequence=2, source="backfill", sub_ns=7),
    ]
    fill(table, late)
    assert table.frame()["price"].to_list() == [3.1, 3.2, 5.0, 6.0]
    assert table.last["A"].ms == 5
    fill(table, [Trade("A", 7, 7.0, sequence=10)])
    assert table.frame()["price"].to_list() == [3.1, 3.2, 5.0, 6.0, 7.0]


def test_a_table_without_late_rows_keeps_the_order_of_arrival_and_is_never_sorted(monkeypatch):
    monkeypatch.setattr(RollingTable, "_settle", lambda _: pytest.fail("sorted for nothing"))
    table = RollingTable("trades", max_rows=3_000)
    for i in range(0, 10_000, 50):
        # Another symbol that lags behind, as another exchange does, is not late.
        fill(table, [*trades(*range(i + 7, i + 57)), Trade("B", i, 0.5)])
        table.frame()


def test_late_rows_never_push_out_newer_ones():
    table = RollingTable("trades", max_rows=1_000)
    fill(table, trades(*range(5_000, 6_000)))
    for start in range(0, 5_000, 500):
        fill(table, trades(*range(start, start + 500), source="backfill"))
    assert table.frame()["price"].to_list() == [float(ms) for ms in range(5_000, 6_000)]


def test_memory_stays_bounded_while_nobody_reads_late_rows():
    table = RollingTable("trades", max_rows=2_000)
    fill(table, trades(10**6))
    for start in range(0, 100_000, BATCH):
        fill(table, trades(*range(start, start + BATCH), source="backfill"))
        held = sum(piece.frame.height for piece in table._pieces) + table._columns.n_rows + len(table.inbox)
        assert held <= 2 * 2_000 + 16_384 + 2 * BATCH


def test_the_stream_wins_over_polls_at_one_millisecond():
    table = RollingTable("values")
    fill(table, [IndexValue("I", 1, 1.0), IndexValue("I", 1, 2.0, source="poll")])
    assert table.last["I"].value == 1.0
    fill(table, [IndexValue("I", 2, 3.0, source="poll"), IndexValue("I", 2, 4.0)])
    assert table.last["I"].value == 4.0


def test_a_bar_of_rest_fills_a_hole_but_replaces_none_of_the_stream():
    table = RollingTable("bars")
    fill(table, [MinuteBar("A", 120_000, 1, 1, 1, 2.0), MinuteBar("A", 180_000, 1, 1, 1, 3.0)])
    rest = [MinuteBar("A", ms, 9, 9, 9, 9.0, source="backfill") for ms in (60_000, 120_000, 180_000)]
    fill(table, rest)
    assert table.frame().select("close", "source").rows() == [(9.0, "backfill"), (2.0, "stream"), (3.0, "stream")]
    fill(table, [MinuteBar("A", 60_000, 1, 1, 1, 1.0)])
    assert table.frame()["close"].to_list() == [1.0, 2.0, 3.0]


def test_some_symbols_and_their_newest_rows_with_ages():
    table = RollingTable("quotes")
    fill(table, [Quote(s, 1_000, bid_price=1.0, ask_price=2.0, ts_recv=1_500_000_000) for s in "ABC"])
    assert table.frame(["A", "C"])["symbol"].to_list() == ["A", "C"]
    aged = table.last_frame(["B"], now_ns=3_000_000_000)
    assert aged.select("symbol", "mid_price", "staleness_s", "age_s").rows() == [("B", 1.5, 0.5, 2.0)]
    assert table.last_frame().schema == to_schema("live_quotes")
    assert table.last_frame(["Z"], now_ns=1).is_empty()


def test_ages_of_bars_run_from_their_close():
    table = RollingTable("bars")
    bar = MinuteBar("A", 60_000, 1, 1, 1, 1.0, ts_recv=121 * 10**9)
    fill(table, [bar])
    assert table.last_frame(None, now_ns=130 * 10**9).select("staleness_s", "age_s").rows() == [(1.0, 10.0)]
    assert bar.staleness_ns == 10**9


def test_numbers_that_a_frame_cannot_hold_become_nulls_and_spoil_nothing():
    frame = to_frame(
        "trades", [Trade("A", 1, 1.0, participant=9 * 10**13), Trade("A", 2, 2.0, participant=5, exchange=2**63 - 1)]
    )
    assert frame["ts_participant"].dt.epoch("ns").to_list() == [None, 5_000_000]
    assert frame["exchange"].to_list() == [None, 2**63 - 1]


def test_columns_with_nulls_here_and_there_come_out_as_they_went_in():
    n = 3 * BATCH
    events = [
        Quote(
            f"S{i % 5}", i, bid_price=None if i % 3 else 1.0, ask_price=0.0 if i % 7 == 0 else 2.0,
            bid_exchange=i if i % 2 else None,
            conditions=(None, 5, (1, 2), ())[i % 4] if i > BATCH else None, tape=3 if i >= 2 * BATCH else None,
            source="poll" if i == 7 else "stream", sub_ns=11 if i == 7 else 0,
        )
        for i in range(n)
    ]  # fmt: skip
    frame = to_frame("quotes", events)
    assert frame["bid_price"].to_list() == [e.bid_price for e in events]
    assert frame["ask_price"].to_list() == [e.ask_price or None for e in events]
    assert frame["mid_price"].to_list() == [e.mid_price for e in events]
    assert frame["spread"].to_list() == [e.spread for e in events]
    assert frame["bid_exchange"].to_list() == [e.bid_exchange for e in events]
    assert frame["tape"].to_list() == [e.tape for e in events]
    assert frame["conditions"].to_list() == [
        None if e.conditions is None else [5] if e.conditions == 5 else list(e.conditions) for e in events
    ]
    assert frame["ts_sip"].dt.epoch("ns").to_list() == [e.ts_sip for e in events]
    assert frame["source"].to_list() == [e.source for e in events]
    assert frame["symbol"].to_list() == [e.symbol for e in events]


def test_reading_while_the_loop_thread_writes_loses_and_repeats_nothing():
    table = RollingTable("trades", max_rows=10**6)
    n = 30_000

    def write():
        for start in range(0, n, 10):
            fill(table, trades(*range(start, start + 10)))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        seen = table.frame()["price"]
        assert seen.to_list() == [float(i) for i in range(len(seen))]
        assert len(table.last) <= 1
    writer.join()
    assert table.frame().height == table.n_seen == n
