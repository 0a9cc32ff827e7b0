"""The regime on real index history, its missing inputs, its prefixes and its faces."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.frames.build import build
from massive_lab.regime import DEFAULT_RULES, Rules, classify, flips_per_year, latest
from massive_lab.regime.features import index_features
from massive_lab.regime.rules import SCHEMA
from massive_lab.schema.session import new_york_ns

DATA = Path(__file__).parents[3] / "data"


def series(name: str) -> pl.DataFrame:
    return pl.read_parquet(DATA / f"{name}.parquet").select("date", "close")


@pytest.fixture(scope="module")
def real() -> pl.DataFrame:
    # The Composite stands in for the Nasdaq 100.
    return classify(
        series("spx_ohlcv_1999_2018"), series("nasdaq_composite_ohlcv_1999_2018"), series("vix_close_2014_2019")
    )


@pytest.mark.parametrize(
    ("date", "label", "level"),
    [
        (dt.date(2000, 1, 31), None, None),  # 270 closes: the volatility percentile needs 273
        (dt.date(2001, 4, 4), "risk_off", None),
        (dt.date(2003, 10, 1), "risk_on", None),
        (dt.date(2007, 2, 20), "risk_on", None),
        (dt.date(2008, 11, 20), "risk_off", None),
        (dt.date(2009, 3, 9), "risk_off", None),
        (dt.date(2009, 12, 31), "risk_on", None),
        (dt.date(2011, 10, 3), "risk_off", None),
        (dt.date(2014, 6, 30), "risk_on", "calm"),
        (dt.date(2015, 8, 25), "risk_off", "stressed"),
        (dt.date(2017, 6, 15), "risk_on", "calm"),
        (dt.date(2018, 2, 8), "neutral", "stressed"),
        (dt.date(2018, 12, 18), "risk_off", "elevated"),
    ],
)
def test_well_known_dates(real: pl.DataFrame, date: dt.date, label: str | None, level: str | None) -> None:
    row = real.filter(pl.col("date") == date).row(0, named=True)
    assert (row["regime"], row["vix_level"]) == (label, level)


def test_whole_periods(real: pl.DataFrame) -> None:
    def share(start: dt.date, end: dt.date, label: str) -> float:
        part = real.filter(pl.col("date").is_between(start, end))
        return (part["regime"] == label).sum() / part.height

    assert share(dt.date(2008, 9, 15), dt.date(2009, 5, 29), "risk_off") == 1.0
    assert share(dt.date(2017, 1, 3), dt.date(2017, 12, 29), "risk_on") == 1.0
    assert real["regime"].null_count() == DEFAULT_RULES.vol_sessions + DEFAULT_RULES.vol_history - 1


def test_columns_and_reasons(real: pl.DataFrame) -> None:
    assert real.schema == SCHEMA
    assert real.height == 5031
    row = real.row(-1, named=True)
    assert (row["date"], row["score"]) == (dt.date(2018, 12, 31), -6)
    text = " ".join(row["reasons"])
    for part in ("SPX 2,506.85", "2,746.00", "Faber 2007", "Moskowitz", "VIX 25.42 is elevated (20 to 30", "sum to -6"):
        assert part in text
    early = real.row(0, named=True)
    assert "SPX has fewer than 200 closes: no trend yet." in early["reasons"]
    assert "VIX has no close on this date: no level and no vote." in early["reasons"]


def test_the_votes_in_the_reasons_are_the_score(real: pl.DataFrame) -> None:
    votes = real.drop_nulls("score").select(
        "score",
        said=pl.col("reasons").list.eval(
            pl.element().str.extract(r": (?:trend \w+, )?([+-]\d+) \(").cast(pl.Int64).drop_nulls()
        ),
    )
    assert (votes["said"].list.sum() == votes["score"]).all()
    assert votes["said"].list.len().unique().sort().to_list() == [5, 6]  # without and with a VIX


def test_hysteresis_against_the_published_counts() -> None:
    """S&P 500 1990 to 2022-03-10 over its 200-day mean: published 76.2 % of days; 6.5 changes a year, 2.8 with a band."""
    data = series("spx_close_1990_2022").filter(pl.col("date") <= dt.date(2022, 3, 10))
    banded = index_features(data, DEFAULT_RULES)
    plain = index_features(data, dataclasses.replace(DEFAULT_RULES, trend_band=0.0))
    above = (plain["trend"] == "up").sum() / (plain.height - plain["trend"].null_count())
    assert round(100 * above, 1) == pytest.approx(76.2, abs=0.11)
    years = (
        data["date"][-1] - data["date"][0]
    ).days / 365.25  # the published counts are per year of data, warm-up included
    for frame, changes, published in ((plain, 210, 6.5), (banded, 90, 2.8)):
        known = frame["trend"].drop_nulls()
        assert (known != known.shift()).sum() == changes
        assert round(changes / years, 1) == published


def test_the_label_changes_less_with_hysteresis(real: pl.DataFrame) -> None:
    bare = Rules(trend_band=0.0, vix_margin=0.0, on_keep=3, off_keep=-2)
    without = classify(
        series("spx_ohlcv_1999_2018"),
        series("nasdaq_composite_ohlcv_1999_2018"),
        series("vix_close_2014_2019"),
        rules=bare,
    )
    calm, nervous = flips_per_year(real), flips_per_year(without)
    assert calm is not None
    assert nervous is not None
    assert calm < 0.5 * nervous


SHORT = Rules(
    trend_sessions=5, momentum_sessions=8, vol_sessions=3, vol_history=6, vix_levels=(("calm", 0, 1), ("high", 20, -1))
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 60))
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(n)]
    schema = {"date": pl.Date, "close": pl.Float64}

    def one(level: float, width: float, missing: float) -> pl.DataFrame:
        close = level * np.exp(np.cumsum(rng.normal(0, width, n)))
        frame = pl.DataFrame({"date": days, "close": close}, schema=schema)
        return frame.filter(pl.Series(rng.random(n) >= missing, dtype=pl.Boolean))

    return one(100, 0.02, 0.0), one(50, 0.03, draw(st.sampled_from([0.0, 0.2]))), one(20, 0.1, 0.3)


@settings(max_examples=60)
@given(data=histories(), cut=st.integers(0, 60), shock=st.floats(0.2, 5.0))
def test_later_rows_never_change_earlier_labels(
    data: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], cut: int, shock: float
) -> None:
    whole = classify(*data, rules=SHORT)
    end = dt.date(2020, 1, 1) + dt.timedelta(days=cut)
    past = pl.col("date") < end
    prefix = classify(*(frame.filter(past) for frame in data), rules=SHORT)
    assert prefix.equals(whole.filter(past))
    shaken = [
        frame.with_columns(close=pl.when(past).then(pl.col("close")).otherwise(pl.col("close") * shock))
        for frame in data
    ]
    assert classify(*shaken, rules=SHORT).filter(past).equals(prefix)


@settings(max_examples=40)
@given(data=histories())
def test_a_label_needs_both_indices_and_a_null_says_why(data: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]) -> None:
    for row in classify(*data, rules=SHORT).iter_rows(named=True):
        assert (row["regime"] is None) == (row["score"] is None)
        if row["regime"] is None:
            assert any(reason.startswith(("SPX has", "NDX has")) for reason in row["reasons"])
        if row["vix"] is None:
            assert row["vix_level"] is None
            assert "VIX has no close on this date: no level and no vote." in row["reasons"]


def bars_of(frame: pl.DataFrame, symbol: str) -> pl.DataFrame:
    ts = [new_york_ns(day) for day in frame["date"]]
    close = frame["close"]
    return build(
        "bars",
        {"symbol": symbol, "ts_event": ts, "ts_close": [t + 1 for t in ts], "open": close, "high": close, "low": close,
         "close": close},
        len(ts),
    )  # fmt: skip


def test_bars_tables_give_the_same_as_dates_and_closes(real: pl.DataFrame) -> None:
    since = pl.col("date") >= dt.date(2014, 1, 3)
    parts = [
        series(name).filter(since)
        for name in ("spx_ohlcv_1999_2018", "nasdaq_composite_ohlcv_1999_2018", "vix_close_2014_2019")
    ]
    symbols = ("I:SPX", "I:NDX", "I:VIX")
    assert classify(*(bars_of(f, s) for f, s in zip(parts, symbols, strict=True))).equals(classify(*parts))


def test_bad_input_is_refused() -> None:
    good = series("spx_ohlcv_1999_2018").head(5)
    cases = [
        (good.drop("close"), "columns"),
        (good.reverse(), "sorted"),
        (pl.concat([good, good]).sort("date"), "sorted"),
        (good.with_columns(close=pl.lit(None, dtype=pl.Float64)), "price"),
        (good.with_columns(close=pl.lit(float("nan"))), "price"),
        (good.with_columns(close=pl.lit(0.0)), "price"),
        (good.with_columns(symbol=pl.Series(list("AABBB"))), "symbol"),
    ]
    for frame, rule in cases:
        for arguments in ((frame, good, good), (good, frame, good), (good, good, frame)):
            with pytest.raises(FrameInvariantError) as caught:
                classify(*arguments)
            assert caught.value.rule == rule
    with pytest.raises(InvalidRequest, match="do not ascend"):
        Rules(vix_levels=(("calm", 20.0, 1), ("normal", 15.0, 0)))
    with pytest.raises(InvalidRequest, match="do not ascend"):
        Rules(off_keep=4)


def test_latest_shows_itself(real: pl.DataFrame) -> None:
    note = "The Nasdaq Composite stands in for NDX <sandbox>."
    regime = latest(real, source_notes=[note])
    assert (regime.label, regime.score, regime.date) == ("risk_off", -6, dt.date(2018, 12, 31))
    assert regime.inputs["vix"] == 25.42
    assert 4 < (regime.flips_per_year or 0) < 6
    assert note in repr(regime)
    html = regime._repr_html_()
    assert "&lt;sandbox&gt;" in html
    assert html.count("<li>") == len(regime.reasons) == 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        regime.label = "risk_on"  # type: ignore[misc]


def test_latest_of_little_is_unknown_and_of_nothing_is_an_error() -> None:
    few = series("spx_ohlcv_1999_2018").head(30)
    regime = latest(classify(few, few, few.head(0)))
    assert (regime.label, regime.score, regime.flips_per_year) == ("unknown", None, None)
    assert "unknown" in repr(regime)
    nothing = classify(few.head(0), few, few)
    assert nothing.schema == SCHEMA
    with pytest.raises(InvalidRequest, match="no date"):
        latest(nothing)
    with pytest.raises(InvalidRequest, match="not of classify"):
        latest(few)
