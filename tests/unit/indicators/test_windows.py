"""Rolling VWAP, realised volatility and the namespace."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from massive_lab import indicators as ind
from massive_lab.errors import FrameInvariantError, InvalidRequest

START = dt.datetime(2025, 6, 2, 13, 30, tzinfo=dt.UTC)


def bars(seed: int, n: int, symbols: tuple[str, ...] = ("A", "B")) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
        minutes = np.cumsum(rng.choice([1, 1, 1, 7, 90], n)).tolist()
        parts.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * n,
                    "ts_event": [START + dt.timedelta(minutes=m) for m in minutes],
                    "high": close + 0.5,
                    "low": close - 0.25,
                    "close": close,
                    "volume": np.where(rng.random(n) < 0.4, 0.0, rng.uniform(0, 1000, n)),
                },
                schema_overrides={"symbol": pl.String, "ts_event": pl.Datetime("ns", "UTC")},
            )
        )
    return pl.concat(parts)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 120), minutes=st.sampled_from([1, 5, 30, 240]))
def test_rolling_vwap_is_the_mean_of_the_bars_in_the_window(seed: int, n: int, minutes: int) -> None:
    frame = bars(seed, n)
    frame = frame.filter(pl.col("volume").sum().over("symbol") > 0)
    made = frame.with_columns(ind.rolling_vwap(window=f"{minutes}m"))
    assert ind.apply(frame, [f"rolling_vwap_{minutes}m"]).equals(made)
    for part in made.partition_by("symbol"):
        rows = list(part.iter_rows(named=True))
        for row in rows:
            since = row["ts_event"] - dt.timedelta(minutes=minutes)
            inside = [r for r in rows if since < r["ts_event"] <= row["ts_event"]]
            weight = math.fsum(r["volume"] for r in inside)
            money = math.fsum((r["high"] + r["low"] + r["close"]) / 3 * r["volume"] for r in inside)
            expected = money / weight if weight else None
            assert row[f"rolling_vwap_{minutes}m"] == (expected and pytest.approx(expected, rel=1e-9))


def test_rolling_vwap_refuses_what_has_no_volume() -> None:
    frame = bars(1, 5)
    for broken, rule in (
        (frame.with_columns(volume=pl.when(pl.col("symbol") == "A").then(pl.col("volume"))), "volume"),
        (frame.with_columns(volume=-1 - pl.col("volume")), "volume"),
        (frame.reverse(), "sorted"),
        (frame.with_columns(close=math.inf), "finite"),
        (frame.drop("volume"), "columns"),
    ):
        with pytest.raises(FrameInvariantError) as caught:
            ind.apply(broken, ["rolling_vwap_5m"])
        assert caught.value.rule == rule


@pytest.mark.parametrize("window", ["", "30", "m", "0m", "-5m", "1w", "1.5h", "5 m", None, 31])
def test_unknown_windows_are_refused(window: Any) -> None:
    with pytest.raises(InvalidRequest, match="window"):
        ind.rolling_vwap(window=window)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 80), period=st.integers(2, 30))
def test_realised_vol_is_the_deviation_of_log_returns(seed: int, n: int, period: int) -> None:
    frame = bars(seed, n)
    made = frame.with_columns(ind.realised_vol(period=period))
    assert ind.apply(frame, [f"realised_vol_{period}"]).equals(made)
    for part in made.partition_by("symbol"):
        returns = np.diff(np.log(part["close"].to_numpy()))
        expected = [returns[t - period : t].std(ddof=1) * 252**0.5 for t in range(period, n)]
        ours = part[f"realised_vol_{period}"]
        assert ours.null_count() == min(n, period)
        np.testing.assert_allclose(ours[period:].to_numpy(), expected, rtol=1e-8)


def test_realised_vol_scales_with_the_year_and_refuses_what_has_no_return() -> None:
    frame = bars(2, 30)
    day, minute = (frame.select(ind.realised_vol(annualisation=a)).to_series() for a in (252, 252 * 390))
    np.testing.assert_allclose(minute.drop_nulls() / day.drop_nulls(), 390**0.5)
    with pytest.raises(FrameInvariantError) as caught:
        frame.select(ind.realised_vol(pl.col("close") - 200))
    assert caught.value.rule == "positive"
    for bad in (0, -1, math.inf, math.nan, True, "252"):
        with pytest.raises(InvalidRequest):
            ind.realised_vol(annualisation=bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        ind.realised_vol(period=1)


def test_the_namespace_is_the_functions() -> None:
    frame = bars(3, 60)
    close: Any = pl.col("close")
    by_column = frame.select(
        close.ta.ema(5), close.ta.sma(5), close.ta.rsi(), close.ta.realised_vol(), *close.ta.macd(),
        close.ta.rsi(14, convention="massive"), close.ta.ema(3, by=None, name="x"),
    )  # fmt: skip
    functions = frame.select(
        ind.ema(period=5), ind.sma(period=5), ind.rsi(), ind.realised_vol(), *ind.macd(),
        ind.rsi(convention="massive"), ind.ema(period=3, by=None, name="x"),
    )  # fmt: skip
    assert by_column.equals(functions)
