"""The look-ahead prover on the regime, and on a regime that looks ahead."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from massive_lab.frames.lookahead import prove_no_lookahead
from massive_lab.regime import Rules, classify, turbulence
from massive_lab.regime.markov import MarkovParameters

DATA = Path(__file__).parents[3] / "data"
FILES = {
    "I:SPX": "spx_ohlcv_1999_2018",
    "I:NDX": "nasdaq_composite_ohlcv_1999_2018",
    "I:VIX": "vix_close_2014_2019",
}
SHORT = Rules(
    version="short",
    trend_sessions=20,
    fast_sessions=5,
    momentum_sessions=25,
    vix_history=25,
    vol_sessions=5,
    vol_history=20,
)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """August 2015 with a run-up: all labels occur."""
    between = pl.col("date").is_between(dt.date(2015, 4, 1), dt.date(2015, 10, 30))
    return pl.concat(
        pl.read_parquet(DATA / f"{name}.parquet")
        .filter(between)
        .select(pl.lit(symbol).alias("symbol"), "date", "close")
        for symbol, name in FILES.items()
    )


def label(frame: pl.DataFrame) -> pl.DataFrame:
    return classify(*(frame.filter(pl.col("symbol") == symbol) for symbol in FILES), rules=SHORT)


def test_no_column_of_the_regime_looks_ahead(bars: pl.DataFrame) -> None:
    assert set(label(bars)["regime"]) == {None, "risk_on", "neutral", "risk_off", "stress"}
    report = prove_no_lookahead(label, bars, n_prefixes=12, tolerance=0.0)
    report.raise_if_leaking()
    judged = dict(report.columns.select("column", "n_values").iter_rows())
    assert all(judged[name] > 0 for name in ("regime", "bias", "alignment", "vix_band", "position_ndx", "reasons"))


def test_a_regime_scaled_by_the_whole_sample_is_found(bars: pl.DataFrame) -> None:
    def scaled(frame: pl.DataFrame) -> pl.DataFrame:
        return label(frame.with_columns(pl.col("close") / pl.col("close").max().over("symbol") * 30))

    report = prove_no_lookahead(scaled, bars, n_prefixes=5)
    assert report.verdict == "leaking"
    assert "vix_level" in set(report.leaks["column"])


def test_the_filtered_probability_does_not_look_ahead(bars: pl.DataFrame) -> None:
    known = MarkovParameters(0.99, 0.97, 0.07, -0.08, 0.45, 3.4)
    spx = bars.filter(pl.col("symbol") == "I:SPX").drop("symbol")
    prove_no_lookahead(lambda frame: turbulence(frame, parameters=known), spx, n_prefixes=8).raise_if_leaking()
