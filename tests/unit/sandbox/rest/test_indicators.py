from __future__ import annotations

import datetime as dt
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from massive_lab.sandbox.rest.indicators import ema_series, macd_series, rsi_series, sma_series
from massive_lab.schema.session import new_york_ns

X = np.array([10.0, 11, 12, 11, 10, 12, 14, 13])


def test_sma_and_ema_by_hand():
    assert sma_series(X, 3)[2:].tolist() == pytest.approx([11, 34 / 3, 11, 11, 12, 13])
    ema = ema_series(X, 3)
    assert np.isnan(ema[:2]).all()
    assert ema[2:].tolist() == [11.0, 11.0, 10.5, 11.25, 12.625, 12.8125]
    assert np.isnan(ema_series(X[:2], 3)).all()


def test_rsi_is_wilders():
    rsi = rsi_series(X, 3)
    assert np.isnan(rsi[:3]).all()
    # Changes +1 +1 -1 | -1 +2 +2 -1: gains 2/3, losses 1/3 at first; then a third of each new one.
    up, down = 2 / 3, 1 / 3
    assert rsi[3] == pytest.approx(100 * up / (up + down))
    for i, change in enumerate((-1, 2, 2, -1), 4):
        up, down = (2 * up + max(change, 0)) / 3, (2 * down + max(-change, 0)) / 3
        assert rsi[i] == pytest.approx(100 * up / (up + down))


def test_the_macd_signal_starts_from_zero_over_the_zero_filled_line():
    line, signal = macd_series(X, 2, 3, 2)
    fast, slow = np.nan_to_num(ema_series(X, 2)), np.nan_to_num(ema_series(X, 3))
    level = 0.0
    for i, value in enumerate(fast - slow):
        level += 2 / 3 * (value - level)
        assert signal[i] == pytest.approx(level)
    # Before the long mean exists, the line counts as the short mean itself: the signal is wildly wrong.
    assert signal[1] == pytest.approx(2 / 3 * fast[1])
    assert np.isnan(line[:2]).all()


def test_long_warm_up_hides_the_seed(rest, call):
    closes = call(rest).get("/v2/aggs/ticker/I:SPX/range/1/day/1990-01-01/2025-06-05", {"limit": 50_000})["results"]
    x = np.array([row["c"] for row in closes])
    query = {"timestamp.lte": "2025-06-05", "limit": 5}
    stamps = [row["t"] for row in closes][:-6:-1]
    values = call(rest).get("/v1/indicators/ema/I:SPX", {**query, "window": 20})["results"]["values"]
    assert [v["timestamp"] for v in values] == stamps
    assert [v["value"] for v in values] == pytest.approx(ema_series(x, 20)[:-6:-1].tolist(), rel=1e-12)
    macd = call(rest).get("/v1/indicators/macd/I:SPX", query)["results"]["values"]
    line, signal = macd_series(x, 12, 26, 9)
    assert [v["signal"] for v in macd] == pytest.approx(signal[:-6:-1].tolist(), rel=1e-9)
    assert all(set(v) == {"timestamp", "value", "signal", "histogram"} for v in macd)
    assert all(v["histogram"] == pytest.approx(v["value"] - v["signal"]) for v in macd)
    rsi = call(rest).get("/v1/indicators/rsi/I:SPX", query)["results"]["values"]
    assert [v["value"] for v in rsi] == pytest.approx(rsi_series(x, 14)[:-6:-1].tolist(), rel=1e-9)
    assert line[-1] == pytest.approx(macd[0]["value"], rel=1e-9)


def test_the_underlying(rest, call):
    body = call(rest).get("/v1/indicators/sma/AAPL", {"window": 5, "limit": 3, "expand_underlying": "true"})
    underlying = body["results"]["underlying"]
    rows, values = underlying["aggregates"], body["results"]["values"]
    assert [row["t"] for row in rows] == [value["timestamp"] for value in values]
    url = urlsplit(underlying["url"])
    assert underlying["url"].startswith("http://127.0.0.1:9090/v2/aggs/ticker/AAPL/range/1/day/")
    assert call(rest).get(url.path, dict(parse_qsl(url.query)))["results"][:3] == rows
    assert "aggregates" not in call(rest).get("/v1/indicators/sma/AAPL")["results"]["underlying"]


def test_defaults_are_ten_values_newest_first(rest, call, helpers):
    body = call(rest).get("/v1/indicators/rsi/AAPL")
    stamps = [value["timestamp"] for value in body["results"]["values"]]
    assert len(stamps) == 10
    assert stamps == sorted(stamps, reverse=True)
    cursor = helpers.cursor_of(body["next_url"])
    assert cursor["timestamp.lt"] == str(stamps[-1])
    assert cursor["ap"].startswith('{"v":')


def test_the_windows_of_the_documented_samples(rest, call):
    samples = (("rsi", {"limit": 1}, 66), ("ema", {"limit": 1}, 226), ("sma", {"limit": 1, "window": 53}, 240))
    for name, query, n in samples:
        url = call(rest).get(f"/v1/indicators/{name}/AAPL", query)["results"]["underlying"]["url"]
        assert f"limit={n}&" in url


@pytest.mark.parametrize("unit", [10**6, 1])
def test_timestamps_in_milliseconds_or_as_the_official_client_sends_them(rest, call, unit):
    lo, hi = new_york_ns(dt.date(2025, 6, 2)), new_york_ns(dt.date(2025, 6, 5))
    query = {"timestamp.gte": lo // unit, "timestamp.lt": hi // unit, "order": "asc"}
    values = call(rest).get("/v1/indicators/sma/AAPL", query)["results"]["values"]
    assert [v["timestamp"] * 10**6 for v in values] == [lo, lo + 86_400 * 10**9, lo + 2 * 86_400 * 10**9]


def test_values_begin_where_the_window_is_full(tiny, call):
    body = call(tiny).get("/v1/indicators/sma/TST", {"window": 5, "order": "asc", "limit": 100})
    days = call(tiny).get("/v2/aggs/ticker/TST/range/1/day/2025-05-01/2025-06-06")["results"]
    values = body["results"]["values"]
    assert [v["timestamp"] for v in values] == [row["t"] for row in days[4:]]
    assert values[0]["value"] == pytest.approx(sum(row["c"] for row in days[:5]) / 5)


def test_nothing_to_compute_keeps_the_underlying(tiny, call):
    for path, query in (("NOPE", {}), ("TST", {"timestamp.gte": "2030-01-01"}), ("TST", {"window": 900})):
        results = call(tiny).get(f"/v1/indicators/sma/{path}", query)["results"]
        assert set(results) == {"underlying"}
