"""The bound on a truncated start holds for whatever came before, within what it takes for granted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from massive_lab import indicators as ind

TEXTS = [
    "ema_1", "ema_5", "ema_50", "ema_20@tradingview", "rsi_2", "rsi_14", "rsi_14@stockcharts", "atr_1", "atr_14",
    "atr_14@tradingview", "macd_12_26_9", "macd_3_7_4@stockcharts", "macd_12_26_9@tradingview", "macd_3_7_4@massive",
]  # fmt: skip


def closes(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    if kind == "walk":
        return 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    if kind == "steps":
        return rng.choice([90.0, 100.0, 100.0, 101.0], n)
    if kind == "tiny":
        return rng.uniform(1e-12, 2e-12, n)
    return np.full(n, 42.0)


def earlier_bars(text: str, rng: np.random.Generator, bars: pl.DataFrame, n: int, past: str) -> pl.DataFrame:
    """A history before the rows that keeps to what the bound takes for granted, up to its very limits."""
    size = {"low": np.zeros(n), "high": np.ones(n)}.get(past, rng.uniform(0, 1, n))
    close, period = bars["close"].to_numpy(), int(text.split("@", maxsplit=1)[0].split("_")[1])
    if text.startswith("rsi"):  # changes up to twice the largest of the seed window
        limit = 2 * np.abs(np.diff(close[: period + 1])).max()
        steps = limit * size * (rng.choice([-1.0, 1.0], n) if past == "any" else 1.0)
        prices = close[0] - np.cumsum(steps)[::-1]
        return pl.DataFrame({"close": prices, "high": prices, "low": prices})
    prices = np.full(n, close[0])
    if text.startswith("atr"):  # true ranges up to twice the largest of the seed window, which is at least high - low
        limit = 2 * (bars["high"] - bars["low"])[:period].min()  # type: ignore[operator]
        return pl.DataFrame({"close": prices, "high": prices + limit * size / 2, "low": prices - limit * size / 2})
    prices = 2 * close[:26].min() * size  # prices up to twice the highest of every seed window
    return pl.DataFrame({"close": prices, "high": prices, "low": prices})


@pytest.mark.parametrize("text", TEXTS)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["walk", "steps", "tiny", "still"]),
    before=st.sampled_from([1, 30, 400]),
    past=st.sampled_from(["low", "high", "any"]),
)
def test_the_bound_holds_against_longer_histories(text: str, seed: int, kind: str, before: int, past: str) -> None:
    rng = np.random.default_rng(seed)
    close = closes(rng, kind, 300)
    bars = pl.DataFrame({"close": close, "high": close * 1.01, "low": close * 0.99})
    whole = pl.concat([earlier_bars(text, rng, bars, before, past), bars])
    made = ind.apply(bars, [text], warmup_error=True)
    name = next(column for column in made.columns if column.endswith("_warmup_error"))
    plain = name.removesuffix("_warmup_error")
    reference = ind.apply(whole, [text]).slice(before)[plain].to_numpy()
    value, bound = made[plain].to_numpy(), made[name].to_numpy()
    np.testing.assert_array_equal(np.isnan(value), np.isnan(bound))
    here = ~np.isnan(value)
    assert here.any()
    assert not np.isnan(reference[here]).any()
    assert (np.abs(value - reference)[here] <= bound[here]).all()


def test_the_bound_is_no_wider_than_it_need_be() -> None:
    """A history at the limit comes within a factor of ten of it."""
    close = np.full(100, 10.0)
    made = ind.apply(pl.DataFrame({"close": close}), ["ema_5"], warmup_error=True)
    whole = ind.apply(pl.DataFrame({"close": np.r_[np.full(500, 20.0), close]}), ["ema_5"]).slice(500)
    off = (whole["ema_5"] - made["ema_5"])[4:20].abs()
    # The seed window itself is part of both, so the average has come down from 20 by then.
    assert (off <= made["ema_5_warmup_error"][4:20]).all()
    assert (off > 0.1 * made["ema_5_warmup_error"][4:20]).all()


def test_expressions_give_the_bound_beside_the_result() -> None:
    bars = pl.DataFrame({"close": np.arange(1.0, 60.0)}).with_columns(high=pl.col("close") + 1, low=pl.col("close") - 1)
    by_name = ind.apply(bars, ["ema_5", "rsi_14", "atr_14", "macd_12_26_9"], warmup_error=True)
    made = bars.with_columns(
        *ind.ema(period=5, warmup_error=True, by=None),
        *ind.rsi(warmup_error=True, by=None),
        *ind.atr(warmup_error=True, by=None),
        *ind.macd(warmup_error=True, by=None),
    )
    assert made.equals(by_name)
    assert bars.select(*ind.macd(warmup_error=True, by=None, name="m")).columns == [
        "m", "m_signal", "m_hist", "m_warmup_error",
    ]  # fmt: skip
    assert ind.apply(bars, ["sma_5"], warmup_error=True).columns == [*bars.columns, "sma_5"]


@pytest.mark.parametrize("text", ["ema_20", "rsi_14", "atr_14", "macd_12_26_9"])
def test_the_bound_fades(text: str) -> None:
    rng = np.random.default_rng(5)
    close = closes(rng, "walk", 1000)
    bars = pl.DataFrame({"close": close, "high": close + 1, "low": close - 1})
    bound = ind.apply(bars, [text], warmup_error=True).select(pl.selectors.ends_with("_warmup_error")).to_series()
    assert bound.drop_nulls()[0] > 0.5
    assert bound[-1] < 1e-6
