"""The sandbox's bytes against what is known of the vendor's wire: bodies, transport and refusals."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from massive_lab.sandbox import SandboxProcess
from tests.e2e.wire import (
    BARS,
    CALL,
    MINUTES,
    SNAPSHOTS,
    ask,
    get,
)

EVERYTHING = [
    MINUTES,
    BARS.format("NATH", 1, "second", "2018-12-17", "2018-12-18"),
    BARS.format("I:VIX", 1, "minute", "2018-12-18", "2018-12-19"),
    BARS.format(CALL, 1, "minute", "2018-12-17", "2018-12-19"),
    BARS.format("NOSUCH", 1, "day", "2018-12-17", "2018-12-19"),
    "/v2/aggs/ticker/AAPL/prev",
    "/v2/aggs/ticker/I:SPX/prev",
    f"/v2/aggs/ticker/{CALL}/prev",
    "/v2/aggs/grouped/locale/us/market/stocks/2018-11-23",
    "/v1/open-close/AAPL/2018-12-18",
    "/v1/open-close/I:SPX/2018-12-18",
    f"/v1/open-close/{CALL}/2018-12-18",
    "/v3/trades/AAPL?limit=3000",
    f"/v3/trades/{CALL}?limit=3000",
    "/v3/quotes/NATH?limit=3000",
    f"/v3/quotes/{CALL}?limit=3000",
    "/v2/last/trade/AAPL",
    f"/v2/last/trade/{CALL}",
    "/v2/last/nbbo/AAPL",
    "/v3/snapshot/options/AAPL?limit=250",
    "/v3/snapshot/options/I:SPX?limit=250&sort=strike_price&order=desc",
    f"/v3/snapshot/options/AAPL/{CALL}",
    "/v3/snapshot?limit=250",
    f"/v3/snapshot?ticker.any_of=AAPL,I:SPX,{CALL},NOSUCH,I:NO,O:AAPL181221C99999000",
    "/v3/snapshot/indices?limit=250",
    f"{SNAPSHOTS}/tickers",
    f"{SNAPSHOTS}/tickers/NATH",
    f"{SNAPSHOTS}/gainers",
    f"{SNAPSHOTS}/losers",
    "/v3/reference/options/contracts?limit=1000",
    f"/v3/reference/options/contracts/{CALL}",
    "/v3/reference/exchanges",
    "/v3/reference/conditions?limit=1000",
    "/v3/reference/tickers?limit=1000",
    "/v3/reference/tickers/BRK.B",
    "/v3/reference/tickers/types",
    "/v1/indicators/sma/I:SPX?expand_underlying=true",
    "/v1/indicators/macd/AAPL?timespan=minute&limit=1000",
    "/v1/indicators/rsi/NOSUCH",
    "/v1/marketstatus/now",
    "/v1/marketstatus/upcoming",
]


def nulls(value: Any, where: str = "") -> Iterator[str]:
    if value is None:
        yield where
    for name, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from nulls(part, f"{where}/{name}")


_TIMES = {"t", "y", "f", "updated", "last_updated", "timestamp"}


def units(value: Any, name: str = "", above: str = "") -> Iterator[tuple[str, int]]:
    """Every integer that is a time, with the name of its field."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from units(part, key, name)
    elif isinstance(value, list):
        for part in value:
            yield from units(part, name, above)
    elif type(value) is int and value and (name in _TIMES or name.endswith("_timestamp")):
        yield f"{above}.{name}", value


def test_absent_is_never_null_and_numbers_are_numbers(sandbox: SandboxProcess) -> None:
    for target in EVERYTHING:
        status, headers, body = ask(sandbox, target)
        assert (status, headers["X-Massive-Lab"], headers["Server"]) == (200, "SANDBOX", "nginx"), target
        assert not re.search(rb"\b(NaN|Infinity)\b", body), target
        found = json.loads(body)
        assert list(nulls(found)) == [], target
        if isinstance(found, dict) and "request_id" in found:
            assert re.fullmatch(r"[0-9a-f]{32}", found["request_id"])
            assert headers["X-Request-Id"] == found["request_id"]


def test_times_are_milliseconds_in_bars_and_nanoseconds_in_ticks_and_snapshots(sandbox: SandboxProcess) -> None:
    milliseconds = re.compile(
        r"/v2/aggs/.*results\.t|/v1/indicators/.*(values\.timestamp|aggregates\.t)|/v2/snapshot.*min\.t"
    )
    n_ms = n_ns = 0
    for target in EVERYTHING:
        for field, value in units(get(sandbox, target)):
            is_ms = milliseconds.fullmatch(f"{target} {field}") is not None
            assert len(str(value)) == (13 if is_ms else 19), (target, field, value)
            n_ms, n_ns = n_ms + is_ms, n_ns + (not is_ms)
    assert n_ms > 1_000
    assert n_ns > 10_000


def test_envelopes_have_the_documented_fields_and_no_others(sandbox: SandboxProcess) -> None:
    def fields(target: str) -> set[str]:
        return set(get(sandbox, target)) - {"next_url"}

    counted = {"ticker", "queryCount", "resultsCount", "count", "status", "request_id", "results"}
    assert fields(MINUTES) == counted | {"adjusted"}
    assert fields(BARS.format("I:SPX", 1, "day", "2018-12-03", "2018-12-18?adjusted=true")) == counted
    assert fields(BARS.format("AAPL", 1, "day", "2018-12-05", "2018-12-05")) == counted - {"results", "count"} | {
        "adjusted"
    }
    assert fields("/v3/trades/AAPL?limit=1") == {"results", "status", "request_id"}
    # Neither the daily summary nor the lists of stock snapshots carry an id.
    assert fields("/v1/open-close/I:SPX/2018-12-18") == {"status", "symbol", "from", "open", "high", "low", "close"}
    assert fields(f"/v1/open-close/{CALL}/2018-12-18") == {
        *("status", "symbol", "from", "open", "high", "low", "close", "volume"),
    }
    assert fields(f"{SNAPSHOTS}/tickers?tickers=AAPL") == {"status", "count", "tickers"}
    assert fields(f"{SNAPSHOTS}/gainers") == {"status", "tickers"}
    assert fields(f"{SNAPSHOTS}/tickers/AAPL") == {"status", "request_id", "ticker"}
    assert isinstance(get(sandbox, "/v1/marketstatus/upcoming"), list)
    assert "status" not in get(sandbox, "/v1/marketstatus/now")


def test_addresses_are_read_leniently(sandbox: SandboxProcess) -> None:
    index = "/v2/aggs/ticker/I:SPX/prev"
    plain = ask(sandbox, index)[2]
    for same in ("/v2/aggs/ticker/I%3ASPX/prev", f"/{index}", f"//{index}", f"{index}?options=%3Cobject+at+0x7f%3E"):
        assert json.loads(ask(sandbox, same)[2])["results"] == json.loads(plain)["results"]
    assert ask(sandbox, f"{index}?apiKey=sandbox", key=None)[0] == 200
    encoded = get(sandbox, f"/v3/snapshot?ticker.any_of={quote(f'I:SPX,{CALL}', safe='')}")
    assert [row["ticker"] for row in encoded["results"]] == ["I:SPX", CALL]
    # Repeated keys are not joined; unknown ones are not read.
    assert len(get(sandbox, "/v3/snapshot?ticker.any_of=AAPL&ticker.any_of=MSFT")["results"]) == 1
    chain = "/v3/snapshot/options/AAPL?limit=3"
    assert get(sandbox, f"{chain}&as_of=2018-01-02")["results"] == get(sandbox, chain)["results"]
    assert get(sandbox, BARS.format("aapl", 1, "day", "2018-12-17", "2018-12-18"))["resultsCount"] == 0


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("gzip, deflate, br", True), ("gzip;q=0", False), ("identity", False), (None, False)],
)
def test_compression_is_what_was_accepted(sandbox: SandboxProcess, accepted: str | None, compressed: bool) -> None:
    _, headers, body = ask(sandbox, MINUTES, headers={} if accepted is None else {"Accept-Encoding": accepted})
    assert (headers.get("Content-Encoding") == "gzip") == compressed
    assert int(headers["Content-Length"]) == len(body)
    assert json.loads(gzip.decompress(body) if compressed else body)["ticker"] == "AAPL"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
def test_every_endpoint_is_a_get(sandbox: SandboxProcess, method: str) -> None:
    status, headers, body = ask(sandbox, MINUTES, method=method)
    assert (status, headers["Allow"], b"results" in body) == (405, "GET", False)
    assert (method == "HEAD") == (body == b"")


PRICING = "https://massive.com/pricing"


@pytest.mark.parametrize(
    ("target", "key", "status", "body"),
    [
        (MINUTES, None, 401, {"status": "ERROR", "error": "API Key was not provided"}),
        (MINUTES, "wrong", 401, {"status": "ERROR", "error": "Unknown API Key"}),
        (
            BARS.format("AAPL", 1, "day", "2018-12-18", "2018-12-03"),
            "sandbox",
            400,
            {"status": "ERROR", "error": "The parameter 'to' cannot be a time that occurs before 'from'"},
        ),
        (
            "/v3/quotes/AAPL",
            "sandbox-developer",
            403,
            {
                "status": "NOT_AUTHORIZED",
                "message": f"You are not entitled to this data. Please upgrade your plan at {PRICING}",
            },
        ),
        (
            BARS.format("AAPL", 1, "day", "2008-01-02", "2008-02-01"),
            "sandbox-starter",
            403,
            {
                "status": "NOT_AUTHORIZED",
                "message": f"Your plan doesn't include this data timeframe. Please upgrade your plan at {PRICING}",
            },
        ),
    ],
)
def test_refusals_to_the_letter(
    sandbox: SandboxProcess, target: str, key: str | None, status: int, body: dict[str, str]
) -> None:
    found = ask(sandbox, target, key=key)
    told = json.loads(found[2])
    assert re.fullmatch(r"[0-9a-f]{32}", told.pop("request_id"))
    assert (found[0], found[1]["Content-Type"], told) == (status, "application/json", body)


@pytest.mark.parametrize(
    "target",
    [
        "/v2/last/trade/NOSUCH",
        "/v2/last/trade/I:SPX",
        f"/v2/last/nbbo/{CALL}",
        "/v1/open-close/NOSUCH/2018-12-18",
        "/v1/open-close/AAPL/2018-12-05",
        f"{SNAPSHOTS}/tickers/NOSUCH",
        "/v3/snapshot/options/AAPL/O:AAPL181221C99999000",
        f"/v3/snapshot/options/MSFT/{CALL}",
        "/v3/reference/options/contracts/O:AAPL181221C99999000",
        "/v3/reference/tickers/NOSUCH",
    ],
)
def test_single_objects_that_are_not_there(sandbox: SandboxProcess, target: str) -> None:
    status, _, body = ask(sandbox, target)
    told = json.loads(body)
    assert (status, told["status"], set(told)) == (404, "NOT_FOUND", {"status", "request_id", "message"})


def test_paths_that_lead_nowhere(sandbox: SandboxProcess) -> None:
    for target in ("/", "/v2/aggs/ticker/AAPL", "/v1/indicators/vwap/AAPL", f"{SNAPSHOTS}/movers", "/forex"):
        status, headers, body = ask(sandbox, target)
        assert (status, headers["Content-Type"], body) == (404, "text/plain", b"404 page not found")


@pytest.mark.parametrize(
    "target",
    [
        f"{MINUTES}?limit=50001",
        f"{MINUTES}?limit=0",
        f"{MINUTES}?limit=ten",
        f"{MINUTES}?sort=timestamp",
        f"{MINUTES}?adjusted=yes",
        BARS.format("AAPL", 0, "day", "2018-12-17", "2018-12-18"),
        BARS.format("AAPL", 1, "fortnight", "2018-12-17", "2018-12-18"),
        BARS.format("AAPL", 1, "day", "2018-02-30", "2018-12-18"),
        "/v3/trades/AAPL?limit=50001",
        "/v3/quotes/AAPL?sort=price",
        "/v3/trades/AAPL?timestamp.gte=yesterday",
        "/v3/snapshot/options/AAPL?limit=251",
        "/v3/snapshot/options/AAPL?sort=delta",
        "/v3/snapshot/options/AAPL?contract_type=calls",
        "/v3/snapshot/options/AAPL?expiration_date=20181221",
        "/v3/snapshot?limit=251",
        "/v3/snapshot?ticker.any_of=" + ",".join(f"A{i}" for i in range(251)),
        "/v3/snapshot/indices?ticker.any_of=" + ",".join(f"I:A{i}" for i in range(251)),
        "/v3/snapshot?type=bonds",
        "/v3/reference/options/contracts?limit=1001",
        "/v3/reference/tickers?limit=1001",
        "/v3/reference/conditions?limit=1001",
        "/v1/indicators/sma/AAPL?limit=5001",
        "/v1/indicators/ema/AAPL?timespan=second",
        "/v1/indicators/rsi/AAPL?series_type=vwap",
        "/v1/open-close/AAPL/yesterday",
        "/v3/trades/AAPL?cursor=!!!",
    ],
)
def test_bad_parameters_are_400_and_say_which(sandbox: SandboxProcess, target: str) -> None:
    status, _, body = ask(sandbox, target)
    told = json.loads(body)
    assert (status, told["status"], set(told)) == (400, "ERROR", {"status", "request_id", "error"})
    assert re.match(r"The parameter '[\w.]+' ", told["error"])
    assert ": ," not in told["error"]


def test_250_tickers_are_taken(sandbox: SandboxProcess) -> None:
    several = ",".join(["AAPL", *(f"NO{i}" for i in range(249))])
    rows = get(sandbox, f"/v3/snapshot?limit=250&ticker.any_of={several}")["results"]
    assert len(rows) == 250
    missing = {"ticker": "NO7", "error": "NOT_FOUND", "message": "Ticker not found."}
    assert missing in rows


def test_default_pages(sandbox: SandboxProcess) -> None:
    sizes = {
        "/v3/trades/AAPL": 1000,
        "/v3/quotes/AAPL": 1000,
        "/v3/snapshot/options/AAPL": 10,
        "/v3/snapshot": 10,
        "/v3/reference/options/contracts": 10,
        "/v3/reference/conditions": 10,
    }
    for target, size in sizes.items():
        assert len(get(sandbox, target)["results"]) == size, target
    assert len(get(sandbox, "/v1/indicators/sma/AAPL")["results"]["values"]) == 10
    long = get(sandbox, BARS.format("SPY", 1, "minute", "2018-11-01", "2018-12-18"))
    assert (long["queryCount"], long["resultsCount"]) == (5000, 5000)
    stamps = [bar["t"] for bar in long["results"]]
    assert stamps == sorted(stamps)
    trades = [row["sip_timestamp"] for row in get(sandbox, "/v3/trades/AAPL")["results"]]
    assert trades == sorted(trades, reverse=True)
