"""After an outage the tables hold what the sandbox's own history says of the span, no row less and none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import polars as pl
import pytest

import massive_lab as ml
from massive_lab import telemetry as t
from massive_lab.live.registry import n_hubs
from massive_lab.sandbox.process import SandboxProcess
from tests.e2e.ear import Ear

WAIT_S = 30.0
TRADE = ("ms", "price", "size", "exchange")
QUOTE = ("ms", "bid_price", "bid_size", "bid_exchange", "ask_price", "ask_size", "ask_exchange")


@pytest.fixture
def lab(sandbox: SandboxProcess) -> Iterator[ml.Lab]:
    sandbox.control.reset_faults()
    with ml.connect("sandbox", sandbox=sandbox) as lab:
        yield lab
    assert n_hubs() == 0


@pytest.fixture
def ear(lab: ml.Lab) -> Ear:
    ear = Ear()
    lab.telemetry.add(ear)
    return ear


def outage(
    sandbox: SandboxProcess, ear: Ear, cluster: str, seconds: float, n_topics: int, *, after_s: float = 70.0
) -> None:
    """Cut the sockets of a cluster, let time pass, let it back, and let it stream again until every gap is decided."""
    n_before = len(ear.of(t.TopicConfirmed)), len(ear.of(t.GapFilled)), len(ear.of(t.Reconnected))
    fault = sandbox.control.add_fault("refuse_upgrade", scope=cluster)
    for connection in sandbox.control.connections():
        if connection["cluster"] == cluster and connection["open"]:
            sandbox.control.close_connection(connection["id"], abrupt=True)
    ear.wait(lambda: any(e.previous == "live" for e in ear.of(t.FeedStateChanged)[-3:]))
    sandbox.control.jump(seconds)
    sandbox.control.remove_fault(fault)
    ear.wait(lambda: len(ear.of(t.Reconnected)) > n_before[2])
    ear.wait(lambda: len(ear.of(t.TopicConfirmed)) == n_before[0] + n_topics)
    sandbox.control.jump(after_s)
    ear.wait(lambda: len(ear.of(t.GapFilled)) == n_before[1] + n_topics)


def prints(frame: pl.DataFrame, columns: tuple[str, ...]) -> Counter[tuple[object, ...]]:
    return Counter(frame.with_columns(ms=pl.col("ts_sip").dt.epoch("ms")).select(columns).rows())


@pytest.mark.parametrize("seconds", [5.0, 90.0])
def test_the_tables_equal_the_history_of_the_span(seconds, sandbox, lab, ear):
    live = lab.live(["AAPL", "SPY"], channels=("T", "Q", "A", "AM")).wait_live(WAIT_S)
    sandbox.control.jump(90.0)
    ear.wait(lambda: all(live.quotes(symbol).frame().height for symbol in live.symbols))
    outage(sandbox, ear, "stocks", seconds, 8)
    gaps = live.gaps()
    assert gaps["state"].to_list() == ["filled"] * 8, gaps.to_dicts()
    assert gaps["reason"].null_count() == 8
    for symbol in live.symbols:
        for frame, load, columns in (
            (live.trades(symbol).frame(), lab.trades, TRADE),
            (live.quotes(symbol).frame(), lab.quotes, QUOTE),
        ):
            first, last = frame.select(
                first=pl.col("ts_sip").min().dt.truncate("1ms") + pl.duration(milliseconds=1),
                last=pl.col("ts_sip").max().dt.truncate("1ms"),
            ).row(0)
            history = load(symbol, first, last)
            inside = frame.filter(pl.col("ts_sip") >= first, pl.col("ts_sip") < last)
            assert prints(inside, columns) == prints(history, columns)
            assert frame["ts_sip"].is_sorted()
            told = inside.filter(pl.col("source") != "poll")
            assert not told.select("symbol", "sequence").is_duplicated().any()
        bars = live.bars(symbol, channel="A").frame()
        history = lab.bars(symbol, "1s", bars["ts_event"].min(), bars["ts_event"].max(), adjustment="none")
        inside = bars.filter(pl.col("ts_event") < bars["ts_event"].max())
        assert inside["ts_event"].to_list() == history["ts_event"].to_list()
        assert seconds < 60 or inside.filter(source="backfill").height > 0
        newest = live.trades(symbol).last
        assert newest is not None
        assert newest.ts_event == live.trades(symbol).frame()["ts_sip"].dt.epoch("ns").max()
    assert seconds < 60 or gaps.filter(topic="T.SPY")["events"][0] > 0


def test_what_rest_keeps_no_history_of_is_said(sandbox, lab, ear):
    live = lab.live(["I:SPX"], channels=("V", "AM")).wait_live(WAIT_S)
    sandbox.control.jump(130.0)
    ear.wait(lambda: live.values().frame().height and live.bars().frame().height)
    outage(sandbox, ear, "indices", 130.0, 2, after_s=130.0)
    value, bar = live.gaps().sort("topic", descending=True).to_dicts()
    assert (value["topic"], value["state"], value["events"]) == ("V.I:SPX", "unfilled", 0)
    assert "no history of index values" in value["reason"]
    assert (bar["topic"], bar["state"], bar["reason"]) == ("AM.I:SPX", "filled", None)
    times = live.bars().frame()["ts_event"]
    assert times.diff().drop_nulls().unique().dt.total_seconds().to_list() == [60]


def test_lost_again_and_again_the_history_is_still_whole(sandbox, lab, ear):
    live = lab.live(["SPY"], channels=("T",)).wait_live(WAIT_S)
    sandbox.control.jump(60.0)
    ear.wait(lambda: live.trades().frame().height)
    for _ in range(3):
        outage(sandbox, ear, "stocks", 40.0, 1, after_s=40.0)
    assert live.gaps()["state"].to_list() == ["filled"] * 3
    frame = live.trades().frame()
    first, last = frame["ts_sip"].min(), frame["ts_sip"].max()
    assert first is not None
    assert last is not None
    history = lab.trades("SPY", first, last)
    assert prints(frame.filter(pl.col("ts_sip") < last), TRADE) == prints(history, TRADE)
    assert set(frame["source"]) >= {"stream", "backfill"}
    assert [event.state for event in ear.of(t.GapFilled)] == ["filled"] * 3
