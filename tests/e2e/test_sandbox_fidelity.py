"""The sandbox's bytes against what is known of the vendor's wire: raw HTTP and WebSocket, nothing decoded by massive_lab."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import http.client
import itertools
import json
import math
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from zoneinfo import ZoneInfo

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from massive_lab.sandbox import SandboxProcess

NEW_YORK = ZoneInfo("America/New_York")
CHICAGO = ZoneInfo("America/Chicago")
NS = 1_000_000_000
BARS = "/v2/aggs/ticker/{}/range/{}/{}/{}/{}"
MINUTES = BARS.format("AAPL", 1, "minute", "2018-12-18", "2018-12-18")
SNAPSHOTS = "/v2/snapshot/locale/us/markets/stocks"
CALL = "O:AAPL181221C00115000"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7, paused=True) as process:
        yield process


def ask(
    sandbox: SandboxProcess,
    target: str,
    *,
    key: str | None = "sandbox",
    method: str = "GET",
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """One request whose bytes are those given."""
    connection = http.client.HTTPConnection(sandbox.rest_url.removeprefix("http://"), timeout=60)
    connection.putrequest(method, target.removeprefix(sandbox.rest_url), skip_accept_encoding=True)
    sent = {} if key is None else {"Authorization": f"Bearer {key}"}
    for name, value in {**sent, **(headers or {})}.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def get(sandbox: SandboxProcess, target: str, *, key: str = "sandbox") -> Any:
    status, headers, body = ask(sandbox, target, key=key)
    assert (status, headers["Content-Type"]) == (200, "application/json"), (target, body[:300])
    return json.loads(body)


def pages(sandbox: SandboxProcess, target: str) -> list[Any]:
    """All pages of a list, each `next_url` followed as it is."""
    out = [get(sandbox, target)]
    while "next_url" in out[-1]:
        assert out[-1]["next_url"].startswith(f"{sandbox.rest_url}/")
        out.append(get(sandbox, out[-1]["next_url"]))
    return out


def rows_of(found: Sequence[Any]) -> list[Any]:
    return list(itertools.chain.from_iterable(page.get("results", []) for page in found))


def cursor_of(url: str) -> dict[str, str]:
    """The cursor of a `next_url`, which holds nothing else."""
    (pair,) = parse_qsl(urlsplit(url).query, strict_parsing=True)
    assert pair[0] == "cursor"
    assert "=" not in pair[1]
    text = base64.urlsafe_b64decode(pair[1] + "=" * (-len(pair[1]) % 4)).decode()
    return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True))


def local(stamp_ms: int, zone: ZoneInfo = NEW_YORK) -> str:
    return dt.datetime.fromtimestamp(stamp_ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S")


# --- bodies ------------------------------------------------------------------------------------------------------------

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


# --- transport ---------------------------------------------------------------------------------------------------------


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


# --- bars --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize(
    ("symbol", "multiplier", "timespan", "limit"),
    [("AAPL", 1, "minute", 150), ("AAPL", 1, "day", 3), ("I:SPX", 1, "day", 3), ("AAPL", 1, "week", 5)],
)
def test_the_path_moves_and_the_cursor_keeps_no_position(
    sandbox: SandboxProcess, symbol: str, multiplier: int, timespan: str, limit: int, sort: str
) -> None:
    target = BARS.format(symbol, multiplier, timespan, "2018-12-03", "2018-12-14")
    whole = get(sandbox, f"{target}?limit=50000&sort={sort}")["results"]
    found = pages(sandbox, f"{target}?limit={limit}&sort={sort}&apiKey=sandbox")
    assert rows_of(found) == whole
    assert all(page["results"] for page in found)
    for page in found[:-1]:
        url = page["next_url"]
        assert "apiKey" not in url
        assert cursor_of(url) == {"limit": str(limit), "sort": sort}
        start, end = urlsplit(url).path.split("/")[-2:]
        last = page["results"][-1]["t"]
        if sort == "desc":
            assert start == "2018-12-03"
            assert int(end) < last
            # The side that moved ends where the last bar's window begins.
            assert local(int(end) + 1)[11:] in {"00:00:00", local(last)[11:]}
        else:
            assert end == "2018-12-14"
            day_ms = {"minute": 60_000, "day": 86_400_000, "week": 7 * 86_400_000}[timespan]
            chicago = 3_600_000 if symbol == "I:SPX" else 0
            assert int(start) == last - chicago + day_ms


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_nothing_follows_an_exactly_full_page(sandbox: SandboxProcess, sort: str) -> None:
    days = BARS.format("AAPL", 1, "day", "2018-12-03", "2018-12-18")
    assert len(pages(sandbox, f"{days}?limit=11&sort={sort}")) == 1
    trades = "/v3/trades/NATH?timestamp.gte=2018-12-18&timestamp.lt=2018-12-19"
    n = len(get(sandbox, f"{trades}&limit=50000")["results"])
    assert n > 20
    assert len(pages(sandbox, f"{trades}&limit={n}&order={sort}")) == 1
    assert [len(page["results"]) for page in pages(sandbox, f"{trades}&limit={n - 1}&order={sort}")] == [n - 1, 1]
    indices = get(sandbox, "/v3/snapshot/indices?limit=250")["results"]
    assert len(pages(sandbox, f"/v3/snapshot/indices?limit={len(indices)}&order={sort}")) == 1


def test_limit_counts_the_minutes_that_hour_bars_are_made_of(sandbox: SandboxProcess) -> None:
    regular = [int(dt.datetime(2018, 12, 18, h, tzinfo=NEW_YORK).timestamp() * 1000) for h in (10, 15)]
    hours = BARS.format("SPY", 1, "hour", *regular)
    page = get(sandbox, f"{hours}?limit=120")
    assert (page["queryCount"], len(page["results"])) == (120, 2)
    none = get(sandbox, f"{hours}?limit=1")
    assert (none["queryCount"], none["resultsCount"], "results" in none) == (1, 0, False)
    assert none["next_url"]
    whole = get(sandbox, f"{hours}?limit=50000")["results"]
    assert [local(bar["t"])[11:] for bar in whole] == [f"{h}:00:00" for h in (10, 11, 12, 13, 14, 15)]
    assert rows_of(pages(sandbox, f"{hours}?limit=7")) == whole


@pytest.mark.parametrize(
    ("timespan", "start", "end", "expected"),
    [
        ("week", "2018-12-05", "2018-12-05", ["2018-12-02"]),
        ("month", "2018-11-30", "2018-12-03", ["2018-11-01", "2018-12-01"]),
        ("quarter", "2018-12-05", "2018-12-05", ["2018-10-01"]),
        ("year", "2017-12-31", "2018-01-01", ["2017-01-01", "2018-01-01"]),
        ("day", "2018-11-02", "2018-11-05", ["2018-11-02", "2018-11-05"]),
        ("day", "2018-03-09", "2018-03-12", ["2018-03-09", "2018-03-12"]),
    ],
)
def test_windows_snap_outwards_to_new_york_and_index_days_are_stamped_in_chicago(
    sandbox: SandboxProcess, timespan: str, start: str, end: str, expected: list[str]
) -> None:
    for symbol, zone in (("AAPL", NEW_YORK), ("I:SPX", CHICAGO)):
        bars = get(sandbox, BARS.format(symbol, 1, timespan, start, end))["results"]
        assert [local(bar["t"], zone) for bar in bars] == [f"{day} 00:00:00" for day in expected]


def test_numbers_inside_a_window_ask_for_all_of_it(sandbox: SandboxProcess) -> None:
    inside = int(dt.datetime(2018, 12, 18, 10, 17, 42, tzinfo=NEW_YORK).timestamp() * 1000)
    for multiplier, timespan, clock in ((1, "minute", "10:17"), (5, "minute", "10:15"), (1, "hour", "10:00")):
        (bar,) = get(sandbox, BARS.format("AAPL", multiplier, timespan, inside, inside))["results"]
        assert local(bar["t"])[11:16] == clock
    (day,) = get(sandbox, BARS.format("AAPL", 1, "day", inside, inside))["results"]
    assert [day] == get(sandbox, BARS.format("AAPL", 1, "day", "2018-12-18", "2018-12-18"))["results"]


@pytest.mark.parametrize("day", ["2018-03-12", "2018-11-05", "2018-12-18"])
def test_the_trading_day_is_new_yorks_whatever_the_season(sandbox: SandboxProcess, day: str) -> None:
    bars = get(sandbox, BARS.format("SPY", 1, "minute", day, day))["results"]
    clocks = [local(bar["t"]) for bar in bars]
    assert {clock[:10] for clock in clocks} == {day}
    assert "04:00" <= clocks[0][11:16] < "09:30"
    assert "16:00" <= clocks[-1][11:16] <= "19:59"
    assert sum("09:30" <= clock[11:16] < "16:00" for clock in clocks) == 390


def test_half_days_and_holidays(sandbox: SandboxProcess) -> None:
    half = get(sandbox, BARS.format("I:SPX", 1, "minute", "2018-11-23", "2018-11-23"))["results"]
    assert (local(half[0]["t"])[11:16], local(half[-1]["t"])[11:16]) == ("09:30", "12:59")
    option = get(sandbox, "/v3/reference/options/contracts?underlying_ticker=SPY&as_of=2018-11-23&strike_price=265")
    contract = option["results"][0]["ticker"]
    clocks = {
        local(bar["t"])[11:16]
        for bar in get(sandbox, BARS.format(contract, 1, "minute", "2018-11-23", "2018-11-23")).get("results", [])
    }
    assert max(clocks, default="09:30") < "13:00"
    grouped = get(sandbox, "/v2/aggs/grouped/locale/us/market/stocks/2018-11-23")["results"]
    assert {local(bar["t"]) for bar in grouped} == {"2018-11-23 13:00:00"}
    # The fifth of December 2018 was a day of mourning.
    week = get(sandbox, BARS.format("AAPL", 1, "day", "2018-12-03", "2018-12-07"))["results"]
    assert [local(bar["t"])[8:10] for bar in week] == ["03", "04", "06", "07"]
    closed = get(sandbox, "/v2/aggs/grouped/locale/us/market/stocks/2018-12-05")
    assert (closed["resultsCount"], "results" in closed) == (0, False)
    assert get(sandbox, "/v3/trades/AAPL?timestamp=2018-12-05")["results"] == []


def test_longer_bars_are_their_shorter_ones(sandbox: SandboxProcess) -> None:
    for symbol in ("AAPL", "I:NDX"):
        minutes = get(sandbox, BARS.format(symbol, 1, "minute", "2018-12-18", "2018-12-18"))["results"]
        for bar in get(sandbox, BARS.format(symbol, 1, "hour", "2018-12-18", "2018-12-18"))["results"]:
            some = [m for m in minutes if bar["t"] <= m["t"] < bar["t"] + 3_600_000]
            assert (bar["o"], bar["c"]) == (some[0]["o"], some[-1]["c"])
            assert (bar["h"], bar["l"]) == (max(m["h"] for m in some), min(m["l"] for m in some))
            if symbol == "AAPL":
                assert (bar["v"], bar["n"]) == (sum(m["v"] for m in some), sum(m["n"] for m in some))


# --- ticks and snapshots -----------------------------------------------------------------------------------------------


def test_rows_of_ticks(sandbox: SandboxProcess) -> None:
    stock = {"price", "size", "decimal_size", "exchange", "sip_timestamp", "participant_timestamp", "sequence_number"}
    optional = {"conditions", "correction", "tape", "trf_id", "trf_timestamp"}
    day = "timestamp.gte=2018-12-18&timestamp.lt=2018-12-19&order=asc&limit=50000"
    trades = get(sandbox, f"/v3/trades/AAPL?{day}")["results"]
    assert all(stock | {"id"} <= set(row) <= stock | {"id"} | optional for row in trades)
    assert all(row["conditions"] for row in trades if "conditions" in row)
    assert all(("trf_id" in row) == ("trf_timestamp" in row) for row in trades)
    assert all(row["participant_timestamp"] <= row["sip_timestamp"] for row in trades)
    sequence = [row["sequence_number"] for row in trades]
    assert sequence == sorted(set(sequence))
    assert len({(row["id"], row["exchange"], row.get("trf_id")) for row in trades}) == len(trades)
    option = get(sandbox, f"/v3/trades/{CALL}?{day}")["results"]
    assert {row["exchange"] // 100 for row in option} == {3}
    assert not {"participant_timestamp", "id", "tape", "trf_id"} & set().union(*option)
    quotes = get(sandbox, f"/v3/quotes/{CALL}?{day}")["results"]
    assert not {"participant_timestamp", "conditions", "indicators", "tape"} & set().union(*quotes)
    # Time bounds: dates are New York days; gt and lt leave their own instants out.
    first, last = trades[0]["sip_timestamp"], trades[-1]["sip_timestamp"]
    inner = get(sandbox, f"/v3/trades/AAPL?timestamp.gt={first}&timestamp.lt={last}&limit=50000&order=asc")["results"]
    assert inner == trades[1:-1]
    assert get(sandbox, f"/v3/trades/AAPL?timestamp={first}")["results"] == trades[:1]


def test_the_last_of_each_is_the_newest_row(sandbox: SandboxProcess) -> None:
    row = get(sandbox, "/v3/trades/AAPL?limit=1")["results"][0]
    last = get(sandbox, "/v2/last/trade/AAPL")["results"]
    assert {"T", "p", "i", "q", "t", "x", "y", "ds", "s"} <= set(last) <= set("TpiqtxysceFfrz") | {"ds"}
    assert (last["p"], last["i"], last["t"], last["q"]) == (
        *(row["price"], row["id"]),
        *(row["sip_timestamp"], row["sequence_number"]),
    )
    option = get(sandbox, f"/v2/last/trade/{CALL}")["results"]
    assert (option["T"], option["i"]) == (CALL, "")
    nbbo = get(sandbox, "/v2/last/nbbo/AAPL")["results"]
    quote_row = get(sandbox, "/v3/quotes/AAPL?limit=1")["results"][0]
    assert (nbbo["P"], nbbo["p"], nbbo["t"]) == (
        *(quote_row["ask_price"], quote_row["bid_price"]),
        quote_row["sip_timestamp"],
    )


def test_the_chain(sandbox: SandboxProcess) -> None:
    target = "/v3/snapshot/options/{}?expiration_date=2018-12-21&limit=250"
    rows = rows_of(pages(sandbox, target.format("AAPL")))
    assert [row["details"]["ticker"] for row in rows] == sorted({row["details"]["ticker"] for row in rows})
    always = {"break_even_price", "day", "details", "open_interest", "underlying_asset"}
    for row in rows:
        assert always <= set(row) <= always | {"greeks", "implied_volatility", "last_quote", "last_trade"}
        assert set(row.get("greeks", {})) <= {"delta", "gamma", "theta", "vega"}
        assert "price" in row["underlying_asset"]
        change = row["break_even_price"] - row["underlying_asset"]["price"]
        assert math.isclose(row["underlying_asset"]["change_to_break_even"], change, abs_tol=1e-3)
        if row["day"]:
            assert local(row["day"]["last_updated"] // 1_000_000) == "2018-12-19 00:00:00"
    assert any("greeks" not in row for row in rows)
    assert any(row["day"] == {} for row in rows)
    index = get(sandbox, target.format("I:SPX"))["results"]
    assert all("value" in row["underlying_asset"] and "price" not in row["underlying_asset"] for row in index)
    assert get(sandbox, target.format("SPX"))["results"] == []
    one = get(sandbox, f"/v3/snapshot/options/AAPL/{CALL}")
    assert one["results"] == next(row for row in rows if row["details"]["ticker"] == CALL)
    assert "next_url" not in one


def test_the_chain_has_no_past_and_contracts_have_one(sandbox: SandboxProcess) -> None:
    assert get(sandbox, "/v3/snapshot/options/AAPL?expiration_date=2018-12-14")["results"] == []
    contracts = "/v3/reference/options/contracts?underlying_ticker={}&expiration_date=2018-12-14&limit=1000"
    assert get(sandbox, contracts.format("AAPL"))["results"] == []
    past = get(sandbox, f"{contracts.format('AAPL')}&expired=true")["results"]
    then = get(sandbox, f"{contracts.format('AAPL')}&as_of=2018-12-13")["results"]
    assert past
    assert {row["ticker"] for row in then} <= {row["ticker"] for row in past}
    single = f"/v3/reference/options/contracts/{past[0]['ticker']}"
    assert ask(sandbox, single)[0] == 404
    assert get(sandbox, f"{single}?as_of=2018-12-13")["results"]["ticker"] == past[0]["ticker"]
    both = rows_of(pages(sandbox, "/v3/reference/options/contracts?underlying_ticker=SPX&limit=1000"))
    assert {row["ticker"][2:].rstrip("0123456789CP")[:4] for row in both} >= {"SPX", "SPXW"}
    assert get(sandbox, "/v3/reference/options/contracts?underlying_ticker=I:SPX")["results"] == []


def test_status_words(sandbox: SandboxProcess) -> None:
    now = get(sandbox, "/v1/marketstatus/now")
    assert (now["market"], now["earlyHours"], now["afterHours"]) == ("open", False, False)
    assert re.fullmatch(r"2018-12-19T\d\d:\d\d:\d\d-05:00", now["serverTime"])
    assert set(now["indicesGroups"]) == {
        *("s_and_p", "societe_generale", "cgi", "msci", "ftse_russell"),
        *("mstar", "mstarc", "cccy", "nasdaq", "dow_jones"),
    }
    coming = get(sandbox, "/v1/marketstatus/upcoming")
    eve = [day for day in coming if day["date"] == "2018-12-24"]
    assert {day["exchange"] for day in eve} == {"NYSE", "NASDAQ", "OTC"}
    assert {(day["status"], day["close"]) for day in eve} == {("early-close", "2018-12-24T18:00:00.000Z")}
    christmas = [day for day in coming if day["date"] == "2018-12-25"]
    assert {(day["status"], "open" in day) for day in christmas} == {("closed", False)}
    assert min(day["date"] for day in coming) > "2018-12-18"


# --- indicators --------------------------------------------------------------------------------------------------------


def indicator(sandbox: SandboxProcess, name: str, query: str) -> list[dict[str, Any]]:
    values = get(sandbox, f"/v1/indicators/{name}&order=asc&timestamp.lte=2018-12-18{query}")["results"]["values"]
    assert len(values) > 30
    return values


def test_indicators_are_arithmetic_on_the_bars(sandbox: SandboxProcess) -> None:
    closes = {
        bar["t"]: bar["c"] for bar in get(sandbox, BARS.format("AAPL", 1, "day", "2014-01-02", "2018-12-18"))["results"]
    }
    times, series = list(closes), list(closes.values())
    recent = "&timestamp.gte=2018-10-01&limit=5000"

    sma = indicator(sandbox, "sma/AAPL?window=20", recent)
    for value in sma:
        at = times.index(value["timestamp"])
        assert math.isclose(value["value"], math.fsum(series[at - 19 : at + 1]) / 20, rel_tol=1e-12)

    def smoothed(values: Sequence[float], window: int, alpha: float) -> list[float]:
        level = math.fsum(values[:window]) / window
        out = [math.nan] * (window - 1) + [level]
        for value in values[window:]:
            level += alpha * (value - level)
            out.append(level)
        return out

    ema = {n: smoothed(series, n, 2 / (n + 1)) for n in (12, 26)}
    for value in indicator(sandbox, "ema/AAPL?window=12", recent):
        assert math.isclose(value["value"], ema[12][times.index(value["timestamp"])], rel_tol=1e-9)

    changes = [b - a for a, b in itertools.pairwise(series)]
    up = smoothed([max(c, 0.0) for c in changes], 14, 1 / 14)
    down = smoothed([max(-c, 0.0) for c in changes], 14, 1 / 14)
    for value in indicator(sandbox, "rsi/AAPL?window=14", recent):
        at = times.index(value["timestamp"]) - 1
        assert math.isclose(value["value"], 100 * up[at] / (up[at] + down[at]), rel_tol=1e-9)

    line = [fast - slow for fast, slow in zip(ema[12], ema[26], strict=True)]
    signal = [math.nan] * 25 + smoothed(line[25:], 9, 0.2)
    for value in indicator(sandbox, "macd/AAPL?window=14", recent):
        at = times.index(value["timestamp"])
        assert math.isclose(value["value"], line[at], abs_tol=1e-9)
        assert math.isclose(value["signal"], signal[at], abs_tol=1e-9)
        assert math.isclose(value["histogram"], value["value"] - value["signal"], abs_tol=1e-12)


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        ("sma/AAPL?window=53&limit=1", 240),
        ("ema/AAPL?limit=1", 226),
        ("rsi/AAPL?limit=1", 66),
        ("macd/AAPL?limit=2", 121),
    ],
)
def test_the_underlying_address_has_the_documented_limit(sandbox: SandboxProcess, query: str, limit: int) -> None:
    results = get(sandbox, f"/v1/indicators/{query}")["results"]
    url = results["underlying"]["url"]
    assert url.startswith(f"{sandbox.rest_url}/v2/aggs/ticker/AAPL/range/1/day/")
    assert dict(parse_qsl(urlsplit(url).query))["limit"] == str(limit)
    assert get(sandbox, url)["results"][0]["t"] == results["values"][0]["timestamp"]


def test_indicator_cursors_hold_the_last_aggregate(sandbox: SandboxProcess) -> None:
    page = get(sandbox, "/v1/indicators/sma/AAPL?window=5&limit=3&series_type=open&expand_underlying=true")
    last = page["results"]["underlying"]["aggregates"][-1]
    cursor = cursor_of(page["next_url"])
    assert json.loads(cursor.pop("ap")) == last
    assert cursor == {
        "window": "5",
        "limit": "3",
        "series_type": "open",
        "expand_underlying": "true",
        "order": "desc",
        "as": "",
        "timestamp.lt": str(last["t"]),
    }
    # The vendor's own client writes datetimes as nanoseconds, the documentation says milliseconds: both are read.
    stamp = last["t"]
    same = [
        get(sandbox, f"/v1/indicators/sma/AAPL?window=5&timestamp.lte={text}")["results"]["values"]
        for text in (stamp, f"{stamp}000000", local(stamp)[:10])
    ]
    assert same[0] == same[1] == same[2]


# --- plans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "seconds", "snapshots", "trades", "quotes", "delay_s"),
    [
        ("basic", False, False, False, False, None),
        ("starter", True, True, False, False, 900),
        ("developer", True, True, True, False, 900),
        ("advanced", True, True, True, True, 0),
        ("business", True, True, True, True, 0),
    ],
)
def test_each_plan_shows_its_row_of_the_table(
    sandbox: SandboxProcess, tier: str, seconds: bool, snapshots: bool, trades: bool, quotes: bool, delay_s: int | None
) -> None:
    keys = (f"row-{tier}-{n}" for n in itertools.count())

    def status(target: str) -> int:
        key = next(keys)
        sandbox.control.add_account(key, plan=tier)  # a fresh one: the free plan has five calls a minute
        return ask(sandbox, target, key=key)[0]

    def code(allowed: bool) -> int:
        return 200 if allowed else 403

    assert status(MINUTES) == 200
    assert status(BARS.format("AAPL", 1, "second", "2018-12-18", "2018-12-18?limit=5")) == code(seconds)
    for target in (f"{SNAPSHOTS}/tickers?tickers=AAPL", f"{SNAPSHOTS}/gainers", f"{SNAPSHOTS}/tickers/AAPL"):
        assert status(target) == code(snapshots)
    for target in ("/v3/snapshot", "/v3/snapshot/indices", "/v3/snapshot/options/AAPL"):
        assert status(target) == code(snapshots)
    for target in ("/v3/trades/AAPL?limit=1", f"/v3/trades/{CALL}?limit=1", "/v2/last/trade/AAPL"):
        assert status(target) == code(trades)
    for target in ("/v3/quotes/AAPL?limit=1", f"/v3/quotes/{CALL}?limit=1", "/v2/last/nbbo/AAPL"):
        assert status(target) == code(quotes)
    for target in ("/v3/reference/tickers/AAPL", "/v1/marketstatus/now", "/v1/indicators/sma/AAPL"):
        assert status(target) == 200

    key = next(keys)
    sandbox.control.add_account(key, plan=tier)
    both = get(sandbox, f"/v3/snapshot?ticker.any_of=AAPL,{CALL}", key=key)["results"]
    today = BARS.format("AAPL", 1, "minute", "2018-12-19", "2018-12-19?sort=desc&limit=1")
    if delay_s is None:
        refused = {"error": "NOT_ENTITLED", "message": "Not entitled to this ticker."}
        assert both == [{"ticker": "AAPL", **refused}, {"ticker": CALL, **refused}]
        assert ask(sandbox, today, key=key)[0] == 403
        return
    for row in both:
        assert (("last_trade" in row), ("last_quote" in row)) == (trades, quotes)
        assert row["timeframe"] == ("DELAYED" if delay_s else "REAL-TIME")
        assert ("fmv" in row) == (tier == "business")
    now_ns = sandbox.control.status()["now_ns"]
    page = get(sandbox, today, key=key)
    assert page["status"] == ("DELAYED" if delay_s else "OK")
    age_s = now_ns / NS - page["results"][0]["t"] / 1000
    assert delay_s <= age_s <= delay_s + 180
    # Greeks are of now on every plan that has a chain; prices are not.
    chain = f"/v3/snapshot/options/AAPL/{CALL}"
    mine, best = get(sandbox, chain, key=key)["results"], get(sandbox, chain)["results"]
    assert (mine["greeks"], mine["implied_volatility"]) == (best["greeks"], best["implied_volatility"])
    assert mine["underlying_asset"]["last_updated"] <= now_ns - delay_s * NS
    assert (mine["underlying_asset"] == best["underlying_asset"]) == (delay_s == 0)


def test_history_is_clipped_without_a_word_and_five_calls_are_a_minute(sandbox: SandboxProcess) -> None:
    sandbox.control.add_account("free", plan="basic")
    clipped = get(sandbox, BARS.format("AAPL", 1, "day", "2016-12-01", "2018-12-19"), key="free")
    assert clipped["status"] == "OK"
    assert [local(clipped["results"][at]["t"])[:10] for at in (0, -1)] == ["2016-12-19", "2018-12-18"]
    # Each class of assets has an allowance of its own.
    index = BARS.format("I:NDX", 1, "day", "2018-12-17", "2018-12-18")
    licensed = index.replace("NDX", "SPX")
    assert [ask(sandbox, target, key="free")[0] for target in [index] * 4 + [licensed]] == [200] * 4 + [403]
    status, headers, body = ask(sandbox, index, key="free")
    told = json.loads(body)
    assert (status, told["status"], set(told)) == (429, "ERROR", {"status", "request_id", "error"})
    assert told["error"].startswith("You've exceeded the maximum requests per minute, please wait or upgrade")
    assert not any(name.lower() == "retry-after" or name.lower().startswith("x-ratelimit") for name in headers)
    assert ask(sandbox, "/v2/aggs/ticker/AAPL/prev", key="free")[0] == 200


def test_the_underlying_of_a_chain_needs_its_own_plan(sandbox: SandboxProcess) -> None:
    sandbox.control.add_account("options-only", plans={"options": "advanced"})
    for underlying in ("AAPL", "I:SPX"):
        row = get(sandbox, f"/v3/snapshot/options/{underlying}?limit=1", key="options-only")["results"][0]
        assert row["underlying_asset"] == {"ticker": underlying}
        assert "last_quote" in row


# --- the stream --------------------------------------------------------------------------------------------------------


class Wire:
    """A WebSocket client that knows nothing but frames."""

    def __init__(self, sandbox: SandboxProcess, open_socket: ClientConnection, key: str) -> None:
        self.sandbox = sandbox
        self.socket = open_socket
        self.largest = 0
        self._n = 0
        assert self.frame() == [{"ev": "status", "status": "connected", "message": "Connected Successfully"}]
        self.send("auth", key)
        assert self.frame() == [{"ev": "status", "status": "auth_success", "message": "authenticated"}]

    def send(self, action: str, params: str) -> None:
        self.socket.send(json.dumps({"action": action, "params": params}))

    def frame(self) -> list[dict[str, Any]]:
        text = self.socket.recv(30)
        self.largest = max(self.largest, len(text))
        found = json.loads(text)
        assert isinstance(found, list)
        return found

    def all(self) -> list[dict[str, Any]]:
        """Everything sent so far: up to the confirmation of a topic that has no events."""
        self._n += 1
        self.send("subscribe", f"AM.NOSUCH{self._n}")
        last = {"ev": "status", "status": "success", "message": f"subscribed to: AM.NOSUCH{self._n}"}
        out: list[dict[str, Any]] = []
        while last not in out:
            out += self.frame()
        out.remove(last)
        return out

    def subscribe(self, params: str) -> list[tuple[str, str]]:
        self.send("subscribe", params)
        return [(item["status"], item["message"]) for item in self.all()]

    def events(self) -> list[dict[str, Any]]:
        out = self.all()
        assert all(item["ev"] != "status" for item in out)
        return out

    def jump(self, seconds: float) -> tuple[int, int]:
        """Let virtual time pass; returns both ends of it."""
        start = self.sandbox.control.status()["now_ns"]
        return start, self.sandbox.control.jump(seconds)


@contextmanager
def wire(sandbox: SandboxProcess, cluster: str, *, key: str = "sandbox") -> Iterator[Wire]:
    with connect(f"{sandbox.ws_url}/{cluster}", compression=None, max_size=1_000_000) as open_socket:
        yield Wire(sandbox, open_socket, key)


def raw_socket(sandbox: SandboxProcess, cluster: str) -> socket.socket:
    host, port = sandbox.ws_url.removeprefix("ws://").split(":")
    raw = socket.create_connection((host, int(port)), 30)
    lines = [
        *(f"GET /{cluster} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade"),
        *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ]
    raw.sendall("\r\n".join([*lines, "", ""]).encode())
    return raw


def client_frame(message: dict[str, str]) -> bytes:
    data = json.dumps(message).encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


def read_to_end(raw: socket.socket) -> bytes:
    out = b""
    # What the sandbox has not read when it cuts the line makes the end a reset instead of a FIN.
    with suppress(ConnectionResetError):
        while data := raw.recv(65536):
            out += data
    return out


CONNECTED = b'[{"ev":"status","status":"connected","message":"Connected Successfully"}]'
REFUSED = b'[{"ev":"status","status":"auth_failed","message":"authentication failed"}]'


def test_the_handshake_byte_by_byte(sandbox: SandboxProcess) -> None:
    with raw_socket(sandbox, "stocks") as raw:
        # As some clients do: everything at once, before anything was read.
        raw.sendall(client_frame({"action": "auth", "params": "wrong"}))
        raw.sendall(client_frame({"action": "subscribe", "params": "T.AAPL"}))
        head, _, frames = read_to_end(raw).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"X-Massive-Lab: SANDBOX" in head
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    # Two frames of text, uncompressed, and then the end of TCP without a close frame.
    assert frames == b"".join(bytes([0x81, len(text)]) + text for text in (CONNECTED, REFUSED))


def test_early_messages_are_taken_in_order(sandbox: SandboxProcess) -> None:
    with raw_socket(sandbox, "indices") as raw:
        raw.sendall(client_frame({"action": "auth", "params": "sandbox"}))
        raw.sendall(client_frame({"action": "subscribe", "params": "V.I:SPX, ZZ.I:SPX,AM.*"}))
        raw.sendall(client_frame({"action": "unsubscribe", "params": "AM.*"}))
        raw.sendall(bytes([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8]))
        frames = read_to_end(raw).partition(b"\r\n\r\n")[2]
    texts = re.findall(rb"\[.*?\](?=\x81|\x88|$)", frames, re.DOTALL)
    assert [json.loads(text)[0]["status"] for text in texts] == ["connected", "auth_success", "success", "success"]
    assert [item["message"] for item in json.loads(texts[2])] == ["subscribed to: V.I:SPX", "subscribed to: AM.*"]
    assert json.loads(texts[3])[0]["message"] == "unsubscribed to: AM.*"
    assert frames.endswith(b"\x88\x02\x03\xe8")


def test_one_status_a_param_and_silence_where_the_vendor_is_silent(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "stocks") as client:
        assert client.subscribe("T.AAPL,A.AAPL,AM.AAPL,T.NOSUCH") == [
            ("success", f"subscribed to: {param}") for param in ("T.AAPL", "A.AAPL", "AM.AAPL", "T.NOSUCH")
        ]
        assert client.subscribe("ZZ.AAPL,AS.AAPL,V.I:SPX,T.AAPL") == []
        assert client.subscribe("LV.AAPL,FMV.AAPL,Q.MSFT") == [
            ("error", "not authorized"),
            ("error", "not authorized"),
            ("success", "subscribed to: Q.MSFT"),
        ]
        client.send("unsubscribe", "A.AAPL,A.MSFT")
        assert [item["message"] for item in client.all()] == ["unsubscribed to: A.AAPL"]
        client.jump(65)
        assert {item["ev"] + "." + item["sym"] for item in client.events()} == {"T.AAPL", "AM.AAPL", "Q.MSFT"}


def test_the_thousand_and_first_option_quote(sandbox: SandboxProcess) -> None:
    contracts = get(sandbox, "/v3/reference/options/contracts?underlying_ticker=SPY&limit=1000")["results"]
    names = [f"Q.{row['ticker']}" for row in contracts]
    assert len(names) == 1000
    with wire(sandbox, "options") as client:
        assert client.subscribe(",".join(names)) == [("success", f"subscribed to: {name}") for name in names]
        over = client.subscribe(f"Q.{CALL},T.{CALL},Q.*")
        assert [status for status, _ in over] == ["error", "success", "error"]
        assert CALL not in over[0][1]
        client.send("unsubscribe", names[0])
        client.all()
        assert client.subscribe(f"Q.{CALL}") == [("success", f"subscribed to: Q.{CALL}")]


def test_one_connection_too_many(sandbox: SandboxProcess) -> None:
    for victim in ("oldest", "newest"):
        sandbox.control.add_account(f"one-{victim}", plan="advanced", victim=victim)
        with (
            wire(sandbox, "stocks", key=f"one-{victim}") as first,
            wire(sandbox, "stocks", key=f"one-{victim}") as second,
        ):
            dead, alive = (first, second) if victim == "oldest" else (second, first)
            (told,) = dead.frame()
            assert (told["ev"], told["status"]) == ("status", "max_connections")
            assert told["message"] == (
                "Maximum number of websocket connections exceeded. You have reached the connection limit for your "
                "account. Please contact support at https://polygon.io/contact to increase your limit."
            )
            with pytest.raises(ConnectionClosed) as closed:
                dead.frame()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
            with wire(sandbox, "indices", key=f"one-{victim}"):  # clusters count apart
                assert alive.subscribe("T.AAPL") == [("success", "subscribed to: T.AAPL")]


def test_trades_and_quotes_are_the_rows_of_rest(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "stocks") as client:
        client.subscribe("T.AAPL,Q.AAPL")
        start, end = client.jump(90)
        events = client.events()
    window = f"timestamp.gte={start}&timestamp.lt={end}&order=asc&limit=50000"
    rows = get(sandbox, f"/v3/trades/AAPL?{window}")["results"]
    trades = [event for event in events if event["ev"] == "T"]
    assert len(trades) > 10
    names = {
        "i": "id",
        "p": "price",
        "s": "size",
        "ds": "decimal_size",
        "x": "exchange",
        "z": "tape",
        "c": "conditions",
    }
    stamps = {"t": "sip_timestamp", "pt": "participant_timestamp", "trft": "trf_timestamp"}
    names |= {"q": "sequence_number", "trfi": "trf_id"}
    for event, row in zip(trades, rows, strict=True):
        assert set(event) == {"ev", "sym"} | {w for w, name in (names | stamps).items() if name in row}
        assert {name: event[w] for w, name in names.items() if w in event} == {
            name: row[name] for name in names.values() if name in row
        }
        assert all(event[w] == row[name] // 1_000_000 for w, name in stamps.items() if w in event)
    rows = get(sandbox, f"/v3/quotes/AAPL?{window}")["results"]
    names = {"bp": "bid_price", "bs": "bid_size", "bx": "bid_exchange", "q": "sequence_number", "z": "tape"}
    names |= {"ap": "ask_price", "as": "ask_size", "ax": "ask_exchange"}
    for event, row in zip([event for event in events if event["ev"] == "Q"], rows, strict=True):
        assert {name: event[w] for w, name in names.items()} == {name: row[name] for name in names.values()}
        assert event["t"] == row["sip_timestamp"] // 1_000_000
        assert ([event["c"]] if "c" in event else None, event.get("i")) == (
            row.get("conditions"),
            row.get("indicators"),
        )


def test_option_ticks_are_the_rows_of_rest(sandbox: SandboxProcess) -> None:
    spot = get(sandbox, "/v2/last/trade/SPY")["results"]["p"]
    listed = "/v3/reference/options/contracts?underlying_ticker=SPY&expiration_date=2018-12-21&limit=1000"
    near = sorted(get(sandbox, listed)["results"], key=lambda row: abs(row["strike_price"] - spot))[:6]
    names = [row["ticker"] for row in near]
    with wire(sandbox, "options") as client:
        client.subscribe(",".join(f"{prefix}.{name}" for name in names for prefix in "TQ"))
        start, end = client.jump(180)
        events = client.events()
    assert {frozenset(event) - {"c"} for event in events} == {
        frozenset(("ev", "sym", "x", "p", "s", "t", "q")),
        frozenset(("ev", "sym", "bx", "ax", "bp", "ap", "bs", "as", "t", "q")),
    }
    fields = {
        "T": {"p": "price", "s": "size", "x": "exchange", "q": "sequence_number"},
        "Q": {"bp": "bid_price", "ap": "ask_price", "bs": "bid_size", "as": "ask_size", "q": "sequence_number"},
    }
    for name in names:
        for prefix, kind in (("T", "trades"), ("Q", "quotes")):
            window = f"timestamp.gte={start}&timestamp.lt={end}&order=asc&limit=50000"
            rows = get(sandbox, f"/v3/{kind}/{name}?{window}")["results"]
            mine = [event for event in events if (event["ev"], event["sym"]) == (prefix, name)]
            assert [(event["t"], *(event[w] for w in fields[prefix])) for event in mine] == [
                (row["sip_timestamp"] // 1_000_000, *(row[f] for f in fields[prefix].values())) for row in rows
            ]


def test_streamed_bars_end_as_the_bars_of_rest(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "stocks") as client:
        client.subscribe("AM.*,A.AAPL")
        start, _ = client.jump(1500)
        events = client.events()
        client.send("unsubscribe", "A.AAPL")
        client.all()
        _, end = client.jump(960)  # beyond this no late print changes a streamed bar
        events += client.events()
        assert client.largest < 1_000_000
    final: dict[tuple[str, str, int], dict[str, Any]] = {}
    n_again = 0
    base = {"ev", "sym", "v", "dv", "av", "dav", "vw", "o", "c", "h", "l", "a", "z", "s", "e"}
    for event in events:
        assert base <= set(event) <= base | {"op"}
        width = 60_000 if event["ev"] == "AM" else 1_000
        assert (event["e"] - event["s"], event["s"] % width) == (width, 0)
        assert (float(event["dv"]), float(event["dav"])) == (event["v"], event["av"])
        n_again += (event["ev"], event["sym"], event["s"]) in final
        final[event["ev"], event["sym"], event["s"]] = event
    assert n_again > 0  # revisions replace what was sent before
    first, last = start // 1_000_000 + 60_000, end // 1_000_000 - 960_000 - 120_000
    n_equal = 0
    for name, timespan in (("AM", "minute"), ("A", "second")):
        for symbol in ("AAPL",) if name == "A" else ("AAPL", "SPY", "NATH"):
            bars = get(sandbox, BARS.format(symbol, 1, timespan, first, last) + "?limit=50000").get("results", [])
            bars = [bar for bar in bars if first <= bar["t"] < last]
            mine = {s: e for (ev, sym, s), e in final.items() if (ev, sym) == (name, symbol) and first <= s < last}
            assert sorted(mine) == [bar["t"] for bar in bars]
            for bar in bars:
                event = mine[bar["t"]]
                assert [event[field] for field in ("o", "h", "l", "c", "v", "vw")] == [
                    *(bar["o"], bar["h"], bar["l"], bar["c"], bar["v"], bar["vw"])
                ]
                n_equal += 1
    assert n_equal > 60


def test_index_values_make_the_bars_of_rest(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "indices") as client:
        client.subscribe("V.I:SPX,AM.I:SPX,AM.*")
        client.jump(60 - sandbox.control.status()["now_ns"] / NS % 60)  # to a whole minute
        client.events()
        start, _ = client.jump(185)
        events = client.events()
    values = [event for event in events if event["ev"] == "V"]
    assert {frozenset(event) for event in values} == {frozenset(("ev", "val", "T", "t"))}
    bars = [event for event in events if event["ev"] == "AM"]
    assert {frozenset(event) for event in bars} == {frozenset(("ev", "sym", "op", "o", "c", "h", "l", "s", "e"))}
    # A wildcard and a single topic together bring each event once.
    assert len({(event["sym"], event["s"]) for event in bars}) == len(bars)
    first = start // 1_000_000
    found = get(sandbox, BARS.format("I:SPX", 1, "minute", first, first + 179_999))["results"]
    assert [bar["t"] for bar in found] == [first, first + 60_000, first + 120_000]
    for bar in found:
        inside = [event["val"] for event in values if bar["t"] <= event["t"] < bar["t"] + 60_000]
        assert (bar["o"], bar["h"], bar["l"], bar["c"]) == (inside[0], max(inside), min(inside), inside[-1])
        (streamed,) = [event for event in bars if (event["sym"], event["s"]) == ("I:SPX", bar["t"])]
        assert {name: streamed[name] for name in "ohlc"} == {name: bar[name] for name in "ohlc"}
    snapshot = get(sandbox, "/v3/snapshot/indices?ticker.any_of=I:SPX")["results"][0]
    assert (snapshot["value"], snapshot["last_updated"] // 1_000_000) == (values[-1]["val"], values[-1]["t"])


def test_whole_market_frames_stay_small_and_nothing_comes_twice(sandbox: SandboxProcess) -> None:
    with wire(sandbox, "stocks") as client:
        client.subscribe("T.*,T.AAPL,Q.*")
        client.jump(60)
        events = client.events()
        assert len(events) > 500
        assert client.largest < 1_000_000
        keys = [(event["ev"], event["sym"], event["q"]) for event in events]
        assert len(set(keys)) == len(keys)
        assert len({event["sym"] for event in events}) > 30
        client.send("unsubscribe", "T.*")
        client.all()
        client.jump(60)
        left = {(event["ev"], event["sym"]) for event in client.events()}
        assert {symbol for kind, symbol in left if kind == "T"} == {"AAPL"}


# --- time --------------------------------------------------------------------------------------------------------------


def test_one_seed_is_one_market_whatever_was_asked_before(sandbox: SandboxProcess) -> None:
    """A sandbox with a history, and one that starts at this moment: the same bytes, the same frames."""
    moment = "2018-12-24T12:59:00"
    targets = [
        *("/v3/trades/SPY?limit=200", "/v3/quotes/AAPL?limit=200", "/v3/snapshot/options/SPY?limit=20"),
        *("/v3/snapshot/indices", f"{SNAPSHOTS}/tickers?tickers=AAPL,NATH", "/v1/marketstatus/now"),
        BARS.format("AAPL", 1, "minute", "2018-12-21", "2018-12-24"),
    ]

    def seen(process: SandboxProcess) -> tuple[list[bytes], list[str]]:
        base = process.rest_url.encode()
        with connect(f"{process.ws_url}/stocks", compression=None) as client:
            for action, params in (("auth", "sandbox"), ("subscribe", "T.AAPL,Q.SPY,A.*,AM.*")):
                client.recv(30)
                client.send(json.dumps({"action": action, "params": params}))
            client.recv(30)
            process.control.jump(90)
            client.send(json.dumps({"action": "subscribe", "params": "T.NOSUCH"}))
            frames = [str(client.recv(30))]
            while "NOSUCH" not in frames[-1]:
                frames.append(str(client.recv(30)))
        return [ask(process, target)[2].replace(base, b"BASE") for target in targets], frames

    sandbox.control.jump_to(moment, deliver=False)
    with SandboxProcess(seed=7, paused=True, start=moment) as fresh:
        assert seen(sandbox) == seen(fresh)
        # Christmas Eve: a minute and a half have passed, and the market has closed at one.
        now = get(fresh, "/v1/marketstatus/now")
        assert (now["market"], now["earlyHours"], now["afterHours"]) == ("extended-hours", False, True)
        row = get(fresh, "/v3/snapshot?ticker.any_of=AAPL")["results"][0]
        assert row["market_status"] == "late_trading"
        fresh.control.jump_to("2018-12-25T11:00:00", deliver=False)
        now = get(fresh, "/v1/marketstatus/now")
        assert (now["market"], now["exchanges"]["nyse"]) == ("closed", "closed")
        (bar,) = get(fresh, "/v2/aggs/ticker/AAPL/prev")["results"]
        assert local(bar["t"]) == "2018-12-24 13:00:00"
        assert ask(fresh, "/v1/open-close/AAPL/2018-12-25")[0] == 404
        fresh.control.jump_to("2018-12-26T03:45:00", deliver=False)
        row = get(fresh, f"{SNAPSHOTS}/tickers/AAPL")["ticker"]
        assert (row["day"]["v"], row["todaysChange"], row["prevDay"]["c"]) == (0, 0, bar["c"])
        assert get(fresh, "/v1/marketstatus/now")["market"] == "closed"
        fresh.control.jump_to("2018-12-26T08:00:00", deliver=False)
        now = get(fresh, "/v1/marketstatus/now")
        assert (now["market"], now["earlyHours"]) == ("extended-hours", True)
