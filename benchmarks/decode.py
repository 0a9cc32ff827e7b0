"""One page of 50,000 bars to a ready frame, end to end over HTTP on loopback, against the official client.

The page is fixed and irregular (some rows lack `vw` or `n`). It is served by a process of its own, gzip where accepted. Ways
take turns, so that all see the same machine; the figure is the median, the spread the quartiles. Before anything is timed the
frames of all ways are compared value by value.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import polars as pl
from massive import RESTClient

from benchmarks.decode_page import N_BARS, bars_page, ticks_page
from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.decode.bars import bar_columns_exact
from massive_lab.decode.pages import read_page
from massive_lab.frames import rest
from massive_lab.schema.timeframe import Timeframe
from massive_lab.telemetry import Telemetry
from massive_lab.transports.http import HttpTransport

PATH = "/v2/aggs/ticker/AAPL/range/1/minute/2025-01-02/2025-06-02"
ROUNDS = 9
MINUTE = Timeframe(1, "m")
LONG = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap", "n": "trade_count"}


def measure(ways: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Milliseconds per way; garbage of one turn is collected before the next starts, not inside it."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            gc.collect()
            started = time.perf_counter()
            way()
            elapsed = (time.perf_counter() - started) * 1e3
            if turn:  # the first turn warms up
                times[name].append(elapsed)
    return times


def show(times: dict[str, list[float]], against: str, n_rows: int = N_BARS) -> None:
    base = statistics.median(times[against])
    print(f"{'way':58} {'ms':>8} {'quartiles':>15} {'M rows/s':>9} {'ratio':>7}")
    for name, found in times.items():
        low, mid, high = statistics.quantiles(found, n=4)
        print(f"{name:58} {mid:8.1f} {low:7.1f}-{high:<7.1f} {n_rows / mid / 1e3:9.3f} {base / mid:6.1f}x")


def bars_over_http() -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.decode_page"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    loop = asyncio.new_event_loop()
    assert server.stdout is not None
    base = f"http://127.0.0.1:{int(server.stdout.readline())}"
    transport = HttpTransport(Settings(api_key=Secret("none"), rest_url=base), Telemetry(), SystemClock())
    official = RESTClient(api_key="none", base=base, pagination=False)

    def plain_fetch() -> bytes:
        with urllib.request.urlopen(base + PATH) as answer:
            return bytes(answer.read())

    def by_official() -> pd.DataFrame:
        rows = official.list_aggs("AAPL", 1, "minute", "2025-01-02", "2025-06-02", limit=50_000)
        return pd.DataFrame(rows)

    def by_json() -> pl.DataFrame:
        return pl.DataFrame(json.loads(plain_fetch())["results"], infer_schema_length=None)

    def fetch() -> bytes:
        return loop.run_until_complete(transport.get(PATH, cause="benchmark")).body

    def by_us() -> pl.DataFrame:
        page = read_page(fetch(), endpoint="aggs_range")
        return rest.bars([page.body], symbol="AAPL", timeframe=MINUTE)

    ways: dict[str, Callable[[], object]] = {
        "official client: list_aggs, pandas.DataFrame": by_official,
        "json.loads, polars.DataFrame": by_json,
    }
    if find_spec("orjson") is not None:
        import orjson

        ways["orjson.loads, polars.DataFrame"] = lambda: pl.DataFrame(
            orjson.loads(plain_fetch())["results"], infer_schema_length=None
        )
    else:
        print("orjson is not installed: its line is left out")
    ways["massive_lab: fetch, inflate, read_page, frames.rest.bars"] = by_us
    ways["  of it: fetch and inflate"] = fetch
    try:
        _check_equal(by_us(), by_json(), by_official())
        show(measure(ways), "official client: list_aggs, pandas.DataFrame")
    finally:
        loop.run_until_complete(transport.aclose())
        loop.close()
        server.terminate()
        server.wait()
        server.stdout.close()


def bars_from_bytes() -> None:
    body = bars_page()
    ways: dict[str, Callable[[], object]] = {
        "json.loads, polars.DataFrame": lambda: pl.DataFrame(json.loads(body)["results"], infer_schema_length=None),
        "massive_lab: the exact way (msgspec)": lambda: bar_columns_exact(body, endpoint="aggs_range"),
        "massive_lab: read_page": lambda: read_page(body, endpoint="aggs_range"),
        "massive_lab: frames.rest.bars": lambda: rest.bars([body], symbol="AAPL", timeframe=MINUTE),
    }
    show(measure(ways), "json.loads, polars.DataFrame")


def trades_from_bytes() -> None:
    body = ticks_page()

    def by_json() -> pl.DataFrame:
        rows = json.loads(body)["results"]
        names = dict.fromkeys(name for row in rows for name in row)
        return pl.DataFrame({name: [row.get(name) for row in rows] for name in names})

    assert by_json()["price"].equals(rest.trades([body], symbol="AAPL")["price"])
    ways: dict[str, Callable[[], object]] = {
        "json.loads, dict of columns, polars.DataFrame": by_json,
        "massive_lab: frames.rest.trades": lambda: rest.trades([body], symbol="AAPL"),
    }
    show(measure(ways), "json.loads, dict of columns, polars.DataFrame")


def _check_equal(ours: pl.DataFrame, plain: pl.DataFrame, official: pd.DataFrame) -> None:
    stamps = ours["ts_event"].cast(pl.Int64) // 1_000_000
    assert ours.height == N_BARS
    assert stamps.equals(plain["t"], check_names=False)
    assert stamps.to_list() == official["timestamp"].tolist()
    theirs = {"vwap": "vwap", "trade_count": "transactions"}
    for short, name in LONG.items():
        assert ours[name].equals(plain[short].cast(ours[name].dtype), check_names=False), name
        other = pl.Series(official[theirs.get(name, name)], dtype=pl.Float64, nan_to_null=True)
        assert ours[name].cast(pl.Float64).equals(other, check_names=False), name


def main() -> None:
    print(f"One page of {N_BARS:,} bars over HTTP to a frame")
    bars_over_http()
    print(f"\nThe same page from its bytes ({len(bars_page()) / 1e6:.1f} MB)")
    bars_from_bytes()
    print(f"\nOne page of {N_BARS:,} trades from its bytes")
    trades_from_bytes()


if __name__ == "__main__":
    main()
