"""The vendor's own Python client, unchanged, against the sandbox: the proof that the sandbox speaks the vendor's wire."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from massive import RESTClient, WebSocketClient
from massive.exceptions import AuthError, BadResponse
from massive.rest.models import Agg, OptionContractSnapshot, UniversalSnapshot

from massive_lab.sandbox.process import SandboxProcess

DAY = "2018-12-18"
TEN_NS = 1_545_145_200_000_000_000  # 2018-12-18 10:00 New York
MINUTE_NS = 60_000_000_000


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7, paused=True) as process:
        yield process


@pytest.fixture
def rest(sandbox: SandboxProcess) -> Iterator[RESTClient]:
    sandbox.control.reset_faults()
    client = RESTClient(api_key=sandbox.key, base=sandbox.rest_url)
    yield client
    client.client.clear()


def test_bars_are_paged_to_the_end(rest: RESTClient) -> None:
    paged = list(rest.list_aggs("AAPL", 1, "minute", "2018-12-10", DAY, limit=500, sort="asc"))
    whole = rest.get_aggs("AAPL", 1, "minute", "2018-12-10", DAY, limit=50_000, sort="asc")
    assert isinstance(paged[0], Agg)
    assert len(paged) > 2_000
    assert [(bar.timestamp, bar.close, bar.volume) for bar in paged] == [
        (bar.timestamp, bar.close, bar.volume) for bar in whole
    ]
    backwards = list(rest.list_aggs("AAPL", 1, "minute", "2018-12-10", DAY, limit=500, sort="desc"))
    assert [bar.timestamp for bar in backwards] == [bar.timestamp for bar in reversed(whole)]


def test_hour_bars_are_limited_by_the_minutes_they_read(rest: RESTClient) -> None:
    whole = rest.get_aggs("AAPL", 1, "hour", DAY, DAY, limit=50_000, sort="asc")
    few = rest.get_aggs("AAPL", 1, "hour", DAY, DAY, limit=120, sort="asc")
    assert 1 <= len(few) < len(whole)


def test_index_and_option_bars(rest: RESTClient) -> None:
    index = rest.get_aggs("I:SPX", 1, "day", "2018-12-03", DAY)
    assert len(index) == 11  # the exchange was closed on 5 December
    assert all(bar.volume is None and bar.vwap is None for bar in index)
    contract = next(
        iter(rest.list_options_contracts("AAPL", as_of=DAY, strike_price=115, expiration_date="2018-12-21"))
    )
    assert rest.get_aggs(contract.ticker, 1, "minute", DAY, DAY)


def test_one_day_endpoints(rest: RESTClient) -> None:
    assert rest.get_previous_close_agg("AAPL")[0].ticker == "AAPL"
    grouped = rest.get_grouped_daily_aggs(DAY)
    assert {"AAPL", "SPY"} <= {bar.ticker for bar in grouped}
    day = rest.get_daily_open_close_agg("AAPL", DAY)
    assert day.low <= day.open <= day.high
    assert day.symbol == "AAPL"
    index = rest.get_daily_open_close_agg("I:SPX", DAY)
    assert index.volume is None


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_trades_and_quotes_are_paged(rest: RESTClient, order: str) -> None:
    bounds: dict[str, Any] = {"timestamp_gte": TEN_NS, "timestamp_lt": TEN_NS + 5 * MINUTE_NS, "order": order}
    for method in (rest.list_trades, rest.list_quotes):
        paged = list(method("AAPL", limit=37, **bounds))
        whole = list(method("AAPL", limit=50_000, **bounds))
        assert len(paged) > 37
        assert [t.sip_timestamp for t in paged] == [t.sip_timestamp for t in whole]
        stamps = [t.sip_timestamp for t in whole]
        assert stamps == sorted(stamps, reverse=order == "desc")
        assert all(TEN_NS <= stamp < TEN_NS + 5 * MINUTE_NS for stamp in stamps)


def test_a_datetime_filter_goes_over_the_wire_in_nanoseconds(rest: RESTClient) -> None:
    start = dt.datetime(2018, 12, 18, 15, 0, tzinfo=dt.UTC)
    trades = list(itertools.islice(rest.list_trades("AAPL", timestamp_gte=start, order="asc", limit=10), 5))
    assert trades[0].sip_timestamp >= TEN_NS


def test_last_trade_and_quote(rest: RESTClient) -> None:
    trade = rest.get_last_trade("AAPL")
    quote = rest.get_last_quote("AAPL")
    assert trade.ticker == quote.ticker == "AAPL"
    assert trade.price > 0
    assert quote.bid_price <= quote.ask_price


def test_snapshots(rest: RESTClient) -> None:
    chain = list(rest.list_snapshot_options_chain("AAPL", params={"expiration_date": "2018-12-21", "limit": 10}))
    assert len(chain) > 10
    assert isinstance(chain[0], OptionContractSnapshot)
    assert {row.details.contract_type for row in chain} == {"call", "put"}
    one = rest.get_snapshot_option("AAPL", chain[0].details.ticker)
    assert one.details.ticker == chain[0].details.ticker
    mixed = list(
        rest.list_universal_snapshots(ticker_any_of=["AAPL", "I:SPX", chain[0].details.ticker, "NOSUCH"], limit=2)
    )
    assert all(isinstance(row, UniversalSnapshot) for row in mixed)
    assert {row.ticker: row.error for row in mixed}["NOSUCH"] == "NOT_FOUND"
    assert {row.type for row in mixed if row.error is None} == {"stocks", "indices", "options"}
    assert rest.get_snapshot_indices(ticker_any_of=["I:SPX"])[0].value > 0
    assert len(list(rest.list_snapshot_indices(limit=2))) >= 3
    stocks = rest.get_snapshot_all("stocks", tickers=["AAPL", "MSFT"])
    assert sorted(row.ticker for row in stocks) == ["AAPL", "MSFT"]
    assert rest.get_snapshot_ticker("stocks", "AAPL").day.close > 0
    gainers = rest.get_snapshot_direction("stocks", "gainers")
    assert gainers
    assert gainers[0].todays_change_percent >= gainers[-1].todays_change_percent


def test_reference(rest: RESTClient) -> None:
    contracts = list(rest.list_options_contracts("SPX", expiration_date="2018-12-21", limit=100))
    assert len(contracts) > 100
    assert {c.underlying_ticker for c in contracts} == {"SPX"}
    assert rest.get_options_contract(contracts[0].ticker).ticker == contracts[0].ticker
    names = [t.ticker for t in rest.list_tickers(market="stocks", limit=7)]
    assert names == sorted(names)
    assert len(names) >= 40
    assert rest.get_ticker_details("AAPL").ticker == "AAPL"
    assert rest.get_ticker_types()
    assert {e.asset_class for e in rest.get_exchanges(asset_class="options")} == {"options"}
    assert list(rest.list_conditions(asset_class="stocks", limit=5))


@pytest.mark.parametrize("name", ["get_sma", "get_ema", "get_rsi", "get_macd"])
def test_indicators(rest: RESTClient, name: str) -> None:
    method: Callable[..., Any] = getattr(rest, name)
    result = method("AAPL", timespan="day", timestamp_lte=DAY, limit=5, expand_underlying=True)
    assert len(result.values) == 5
    stamps = [value.timestamp for value in result.values]
    assert stamps == sorted(stamps, reverse=True)
    assert result.underlying.url.startswith("http")
    assert result.underlying.aggregates
    if name == "get_macd":
        value = result.values[0]
        assert value.histogram == pytest.approx(value.value - value.signal)


def test_market_status_and_holidays(rest: RESTClient) -> None:
    status = rest.get_market_status()
    assert status.market == "open"
    assert status.server_time.startswith("2018-12-19T10:30")
    holidays = rest.get_market_holidays()
    assert ("2018-12-24", "NYSE", "early-close") in {(h.date, h.exchange, h.status) for h in holidays}


def test_errors_arrive_as_the_client_knows_them(sandbox: SandboxProcess) -> None:
    with pytest.raises(BadResponse, match="Unknown API Key"):
        RESTClient(api_key="wrong", base=sandbox.rest_url).get_last_trade("AAPL")
    with pytest.raises(BadResponse, match="NOT_AUTHORIZED"):
        RESTClient(api_key="sandbox-starter", base=sandbox.rest_url).get_last_quote("AAPL")
    with pytest.raises(BadResponse, match="NOT_FOUND"):
        RESTClient(api_key=sandbox.key, base=sandbox.rest_url).get_last_trade("NOSUCH")


# --- WebSocket ---------------------------------------------------------------------------------------------------------


def _socket(sandbox: SandboxProcess, market: str, topics: list[str], **options: Any) -> WebSocketClient:
    host = sandbox.ws_url.removeprefix("ws://")
    return WebSocketClient(
        api_key=options.pop("api_key", sandbox.key),
        feed=host,
        market=market,
        subscriptions=topics,
        secure=False,
        **options,
    )


class Collector:
    """Messages of a client that runs as a task; time moves only when the test moves it."""

    def __init__(self, client: WebSocketClient) -> None:
        self.client = client
        self.messages: list[Any] = []
        self._grown = asyncio.Event()
        self.task = asyncio.create_task(client.connect(self._take))

    async def _take(self, messages: list[Any]) -> None:
        self.messages.extend(messages)
        self._grown.set()

    async def until(self, sandbox: SandboxProcess, done: Callable[[list[Any]], bool], *, step_s: float = 1.0) -> None:
        async with asyncio.timeout(60):
            while not done(self.messages):
                if self.task.done():
                    self.task.result()
                    raise AssertionError("the client ended")
                await asyncio.to_thread(sandbox.control.jump, step_s)
                self._grown.clear()
                # Either the jump brought something, or the client has not subscribed yet: then jump again.
                try:
                    async with asyncio.timeout(0.2):
                        await self._grown.wait()
                except TimeoutError:
                    continue

    async def close(self) -> None:
        await self.client.close()
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
def live(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    logging.getLogger("WebSocketClient").setLevel(logging.CRITICAL)
    sandbox.control.reset_faults()
    yield sandbox
    sandbox.control.reset_faults()


def _kinds(messages: list[Any]) -> set[tuple[str, str]]:
    return {(m.event_type, getattr(m, "symbol", None) or getattr(m, "ticker", None)) for m in messages}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("market", "topics", "wanted"),
    [
        (
            "stocks",
            ["T.AAPL", "Q.MSFT", "A.SPY", "AM.SPY"],
            {("T", "AAPL"), ("Q", "MSFT"), ("A", "SPY"), ("AM", "SPY")},
        ),
        ("indices", ["V.I:SPX", "A.I:SPX", "AM.I:SPX"], {("V", "I:SPX"), ("A", "I:SPX"), ("AM", "I:SPX")}),
    ],
)
async def test_every_channel_is_parsed_by_the_client(
    live: SandboxProcess, market: str, topics: list[str], wanted: set[tuple[str, str]]
) -> None:
    collector = Collector(_socket(live, market, topics))
    await collector.until(live, lambda messages: _kinds(messages) >= wanted, step_s=20)
    await collector.close()
    assert _kinds(collector.messages) == wanted


@pytest.mark.asyncio
async def test_option_quotes_reach_the_client(live: SandboxProcess) -> None:
    rest = RESTClient(api_key=live.key, base=live.rest_url)
    rows = list(rest.list_options_contracts("SPY", expiration_date="2018-12-21", limit=1000))
    middle = rest.get_last_trade("SPY").price
    nearest = sorted(rows, key=lambda c: abs(c.strike_price - middle))[:4]
    topics = [f"{channel}.{c.ticker}" for c in nearest for channel in ("T", "Q")]
    collector = Collector(_socket(live, "options", topics))
    await collector.until(live, lambda messages: {"T", "Q"} <= {m.event_type for m in messages}, step_s=30)
    await collector.close()
    assert {m.symbol for m in collector.messages} <= {c.ticker for c in nearest}


@pytest.mark.asyncio
async def test_wildcards_cover_the_market(live: SandboxProcess) -> None:
    collector = Collector(_socket(live, "stocks", ["T.*"]))
    await collector.until(live, lambda messages: len({m.symbol for m in messages}) >= 20)
    await collector.close()
    assert {m.event_type for m in collector.messages} == {"T"}


@pytest.mark.asyncio
async def test_subscribe_and_unsubscribe_while_connected(live: SandboxProcess) -> None:
    client = _socket(live, "stocks", ["T.AAPL"])
    collector = Collector(client)
    await collector.until(live, lambda messages: ("T", "AAPL") in _kinds(messages))
    client.subscribe("T.MSFT")
    client.unsubscribe("T.AAPL")
    await collector.until(live, lambda messages: ("T", "MSFT") in _kinds(messages))
    counts = live.control.counts()["ws"]["stocks"]
    assert counts["unsubscribe_params"] >= 1
    await collector.close()


@pytest.mark.asyncio
async def test_the_client_reconnects_and_goes_on(live: SandboxProcess) -> None:
    collector = Collector(_socket(live, "stocks", ["T.AAPL"]))
    await collector.until(live, bool)
    (connection,) = [c for c in live.control.connections() if c["cluster"] == "stocks"]
    live.control.close_connection(connection["id"], code=1011)
    seen = len(collector.messages)
    await collector.until(live, lambda messages: len(messages) > seen)
    await collector.close()


@pytest.mark.asyncio
async def test_a_wrong_key_is_told_by_auth_failed(live: SandboxProcess) -> None:
    client = _socket(live, "stocks", ["T.AAPL"], api_key="wrong")
    with pytest.raises(AuthError, match="authentication failed"):
        async with asyncio.timeout(30):
            await client.connect(lambda messages: asyncio.sleep(0))
