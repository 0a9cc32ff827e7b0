"""Every loader against the sandbox over real sockets, with the sandbox's own count as referee."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Iterator

import polars as pl
import pytest

import massive_lab as ml
from massive_lab.errors import (
    IncompletePagination,
    InvalidRequest,
    MassiveLabError,
    NotEntitled,
    Unauthorized,
    UnknownSymbol,
)
from massive_lab.frames.build import to_schema
from massive_lab.sandbox.process import SandboxProcess
from massive_lab.schema.session import sessions
from massive_lab.telemetry import Event, RequestDone

DAY, NEXT = "2018-12-18", "2018-12-19"
TEN, TEN_PAST = "2018-12-18T10:00:00-05:00", "2018-12-18T10:05:00-05:00"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7) as process:
        process.control.pause()
        yield process


@pytest.fixture
def lab(sandbox: SandboxProcess) -> Iterator[ml.Lab]:
    sandbox.control.reset_faults()
    with ml.connect("sandbox", sandbox=sandbox, progress=False, timeout_s=5.0) as lab:
        yield lab


def check(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    assert frame.schema == to_schema(table)
    assert not frame.is_empty()
    return frame


def test_bars_of_all_classes_and_timeframes(lab: ml.Lab) -> None:
    option = lab.contracts("AAPL", as_of=DAY, strike=(110, 120), expiration=("2018-12-20", "2019-02-01"))["contract"][0]
    for timeframe in ("1m", "5m", "1h", "1d"):
        frame = check("bars", lab.bars(["AAPL", "I:SPX", option], timeframe, DAY, NEXT))
        assert set(frame["symbol"]) >= {"AAPL", "I:SPX"}
        ml.check(frame)
    index = lab.bars("I:SPX", "1d", "2018-12-03", NEXT)
    assert index["volume"].is_null().all()
    assert index["ts_event"].dt.convert_time_zone("America/New_York").dt.hour().to_list() == [0] * index.height
    assert lab.bars("AAPL", "1s", TEN, TEN_PAST).height > 0
    for timeframe in ("1w", "1mo", "1q"):
        check("bars", lab.bars("AAPL", timeframe, "2018-06-01", "2018-12-01"))


def test_real_index_days_come_through_exactly(lab: ml.Lab) -> None:
    from massive_lab.sandbox.datafiles import data_file

    truth = pl.read_parquet(data_file("spx_ohlcv_1999_2018.parquet")).filter(
        pl.col("date").is_between(dt.date(2018, 11, 1), dt.date(2018, 12, 18))
    )
    bars = lab.bars("I:SPX", "1d", "2018-11-01", NEXT)
    assert bars["ts_event"].dt.convert_time_zone("America/New_York").dt.date().to_list() == truth["date"].to_list()
    for column in ("open", "high", "low", "close"):
        assert bars[column].to_list() == pytest.approx(truth[column].to_list(), abs=0.005)


def test_pages_join_without_seam(lab: ml.Lab) -> None:
    before = lab.load_report().pages
    frame = lab.bars("AAPL", "1m", "2017-07-03", "2018-09-01")
    assert lab.load_report().pages - before >= 3
    ml.check(frame)
    assert frame["ts_event"].is_unique().all()
    days = frame["ts_event"].dt.convert_time_zone("America/New_York").dt.date().n_unique()
    assert days == len(sessions(dt.date(2017, 7, 3), dt.date(2018, 9, 1)))


def test_ticks_and_last(lab: ml.Lab) -> None:
    trades = check("trades", lab.trades("AAPL", TEN, TEN_PAST))
    quotes = check("quotes", lab.quotes("AAPL", TEN, TEN_PAST))
    bars = lab.bars("AAPL", "1m", TEN, TEN_PAST)
    assert bars["volume"].sum() > 0
    assert (quotes["spread"].drop_nulls() >= 0).mean() > 0.9
    assert trades["ts_sip"].is_sorted()
    assert check("trades", lab.last("AAPL"))["symbol"].to_list() == ["AAPL"]
    assert check("quotes", lab.last("AAPL", kind="quote")).height == 1


def test_chain_contracts_and_snapshots(lab: ml.Lab) -> None:
    chain = check("chain", lab.chain("AAPL", expiration=("2018-12-19", "2018-12-31")))
    assert set(chain["option_type"]) == {"call", "put"}
    assert chain["underlying"].unique().to_list() == ["AAPL"]
    assert chain["expiration"].is_between(dt.date(2018, 12, 19), dt.date(2018, 12, 31)).all()
    assert chain["delta"].drop_nulls().is_between(-1, 1).all()
    spx = check("chain", lab.chain("I:SPX", expiration="2018-12-21"))
    assert spx["underlying"].unique().to_list() == ["I:SPX"]
    check("contracts", lab.contracts("I:SPX", expiration="2018-12-21"))
    option = chain["contract"][0]
    snap = check("snapshot", lab.snapshot(["AAPL", "I:SPX", option]))
    assert set(snap["asset_class"]) == {"stocks", "indices", "options"}
    check("indices", lab.indices(["I:SPX", "I:NDX", "I:VIX"]))


def test_reference_and_status(lab: ml.Lab) -> None:
    check("bars", lab.grouped_daily(DAY))
    check("bars", lab.previous_close(["AAPL", "I:SPX"]))
    check("open_close", lab.open_close(["AAPL", "I:SPX"], DAY))
    status = check("market_status", lab.market_status())
    assert status["ts_server"][0].astimezone(dt.UTC).date() == dt.date(2018, 12, 19)
    assert dt.date(2018, 12, 24) in lab.holidays()["date"].to_list()
    check("tickers", lab.tickers(market="indices"))
    check("exchanges", lab.exchanges(asset_class="options"))
    check("conditions", lab.conditions(asset_class="stocks"))


def test_server_indicators_agree_with_local_ones(lab: ml.Lab) -> None:
    bars = lab.bars("AAPL", "1d", "2015-01-02", NEXT)
    local = bars.select("ts_event", ml.ema("close", period=20), ml.rsi("close", period=14), *ml.macd("close"))
    for name, column in (("ema", "ema_20"), ("rsi", "rsi_14"), ("macd", "macd_12_26_9")):
        period = {"ema": 20, "rsi": 14}.get(name)
        server = check("server_indicator", lab.server_indicator("AAPL", name, "2018-12-03", NEXT, period=period))
        both = server.join(local, on="ts_event", how="inner")
        assert both.height == server.height
        assert both["value"].to_list() == pytest.approx(both[column].to_list(), rel=1e-6, abs=1e-4)


def test_regime_on_real_index_data(lab: ml.Lab) -> None:
    regime = lab.regime(as_of=DAY)
    assert regime.label == "risk_off"
    assert any("Composite" in note for note in (*regime.reasons, *regime.source_notes))
    assert lab.regime(as_of="2017-06-15").label == "risk_on"


def test_empty_results_have_the_full_schema(lab: ml.Lab) -> None:
    saturday = lab.bars("AAPL", "1m", "2018-12-15", "2018-12-16")
    assert saturday.is_empty()
    assert saturday.schema == to_schema("bars")
    assert lab.grouped_daily("2018-12-16").is_empty()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda lab: lab.bars("NOSUCH", "1d", DAY, NEXT), UnknownSymbol),
        (lambda lab: lab.chain("NOSUCH"), UnknownSymbol),
        (lambda lab: lab.snapshot(["AAPL", "NOSUCH"]), UnknownSymbol),
        (lambda lab: lab.trades("I:SPX", DAY, NEXT), InvalidRequest),
        (lambda lab: lab.indices("AAPL"), InvalidRequest),
        (lambda lab: lab.bars([], "1d", DAY, NEXT), InvalidRequest),
        (lambda lab: lab.open_close("NOSUCH", DAY), UnknownSymbol),
        (lambda lab: lab.previous_close("NOSUCH"), UnknownSymbol),
        (lambda lab: lab.server_indicator("NOSUCH", "ema", DAY, NEXT), UnknownSymbol),
    ],
    ids=["bars", "chain", "snapshot", "index-trades", "stock-index", "nothing", "open-close", "prev", "indicator"],
)
def test_bad_input_gets_a_typed_error(lab: ml.Lab, call, error: type[MassiveLabError]) -> None:
    with pytest.raises(error):
        call(lab)


def test_a_wrong_key_and_a_small_plan(sandbox: SandboxProcess) -> None:
    with (
        ml.connect("sandbox", sandbox=sandbox, api_key="wrong") as lab,
        pytest.raises(Unauthorized) as caught,
    ):
        lab.bars("AAPL", "1d", DAY, NEXT)
    assert "wrong" not in str(caught.value)
    with ml.connect("sandbox", sandbox=sandbox, api_key="sandbox-starter") as lab, pytest.raises(NotEntitled):
        lab.quotes("AAPL", TEN, TEN_PAST)
    with ml.connect("sandbox", sandbox=sandbox, api_key="sandbox-basic", plan="basic") as lab:
        with pytest.raises(InvalidRequest, match="reaches back 2 years"):
            lab.bars("AAPL", "1d", "2010-01-04", "2010-02-01")
        with pytest.raises(InvalidRequest, match="second bars"):
            lab.bars("AAPL", "1s", TEN, TEN_PAST)


def test_pandas_at_the_edge(lab: ml.Lab, sandbox: SandboxProcess) -> None:
    import pandas as pd

    frame = lab.bars("AAPL", "1d", "2018-12-03", NEXT, frame="pandas")
    assert isinstance(frame, pd.DataFrame)
    assert str(frame["ts_event"].dtype) == "datetime64[ns, UTC]"
    with ml.connect("sandbox", sandbox=sandbox, frame="pandas") as other:
        assert isinstance(other.market_status(), pd.DataFrame)


def test_the_async_client_gives_the_same_frames(lab: ml.Lab, sandbox: SandboxProcess) -> None:
    async def load() -> pl.DataFrame:
        async with ml.aconnect("sandbox", sandbox=sandbox) as other:
            return await other.bars(["MSFT", "AAPL"], "5m", DAY, NEXT)

    assert asyncio.run(load()).equals(lab.bars(["AAPL", "MSFT"], "5m", DAY, NEXT))


FAULTS = [
    ("latency", {"latency_ms": 30, "jitter_ms": 20}),
    ("http_429", {"retry_after_s": 0, "count": 2}),
    ("http_429", {"count": 2}),
    ("http_5xx", {"status": 503, "count": 2}),
    ("http_200_error", {"count": 1}),
    ("truncated_json", {"count": 1}),
    ("broken_page", {"page": 2, "count": 1}),
    ("page_loop", {"count": 1}),
    ("reset_peer", {"count": 2}),
    ("limit_data", {"limit_bytes": 100, "count": 2}),
    ("wrong_content_length", {"count": 1}),
    ("slicer", {"size_bytes": 512}),
    ("bandwidth", {"rate_bytes_s": 2_000_000}),
    ("slow_close", {"delay_ms": 20}),
    ("timeout", {"timeout_ms": 50, "count": 2}),
    ("down", {"count": 2}),
]


@pytest.mark.parametrize(("kind", "params"), FAULTS, ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(FAULTS)])
def test_our_count_equals_the_sandboxs_under_every_fault(sandbox: SandboxProcess, kind: str, params: dict) -> None:
    sandbox.control.reset_faults()
    with ml.connect("sandbox", sandbox=sandbox, progress=False, timeout_s=2.0) as lab:
        clean = lab.bars(["AAPL", "MSFT"], "1m", "2018-06-01", "2018-12-01")
        events: list[Event] = []
        lab.telemetry.add(events.append)
        sandbox.control.reset_counts()
        sandbox.control.add_fault(kind, scope="aggs_range", **params)
        try:
            frame = lab.bars(["AAPL", "MSFT"], "1m", "2018-06-01", "2018-12-01")
        except MassiveLabError as error:
            failure: MassiveLabError | None = error
            frame = error.partial if isinstance(error, IncompletePagination) else None
        else:
            failure = None
        # Either it failed aloud, with the good part if there was one, or nothing at all is missing.
        assert frame is None or (frame.height > 0 if failure else frame.equals(clean))
        sandbox.control.reset_faults()
        lab.snapshot(["AAPL", "I:SPX"])
        done = [e for e in events if isinstance(e, RequestDone) and e.sent]
        counts = sandbox.control.counts()
        theirs = counts["rest"]["endpoints"]
        assert Counter(e.endpoint for e in done) == {name: row["requests"] for name, row in theirs.items()}
        assert counts["faults"], "the fault never struck"
        answered = Counter(str(e.status) for e in done if e.status is not None)
        lost = Counter(counts["rest"]["total"]["status"]) - answered
        # The sandbox may have begun an answer that never arrived; it cannot have given one we did not count.
        assert answered - Counter(counts["rest"]["total"]["status"]) == Counter()
        assert lost.total() <= sum(e.status is None for e in done)
