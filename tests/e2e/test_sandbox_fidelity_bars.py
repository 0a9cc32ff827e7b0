"""Bars and indicators of the sandbox against what is known of the vendor's wire."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from massive_lab.sandbox import SandboxProcess
from tests.e2e.wire import (
    BARS,
    CHICAGO,
    NEW_YORK,
    cursor_of,
    get,
    local,
    pages,
    rows_of,
)


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
