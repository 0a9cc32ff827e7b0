"""Bands, levels, alignment, bias, stress, the unfinished day and what is said about each."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.regime import DEFAULT_RULES, STRICT_RULES, LiveValues, Rules, classify, flips, flips_per_year, latest
from massive_lab.regime.rules import SOURCES

DATA = Path(__file__).parents[3] / "data"
FRAMES = tuple(
    pl.read_parquet(DATA / f"{name}.parquet").select("date", "close").filter(pl.col("date") >= dt.date(2012, 1, 3))
    for name in ("spx_ohlcv_1999_2018", "nasdaq_composite_ohlcv_1999_2018", "vix_close_2014_2019")
)


@pytest.fixture(scope="module")
def labelled() -> pl.DataFrame:
    return classify(*FRAMES)


def on(frame: pl.DataFrame, date: dt.date) -> dict[str, object]:
    return frame.filter(pl.col("date") == date).row(0, named=True)


def test_stress_takes_three_sessions_of_a_stressed_vix(labelled: pl.DataFrame) -> None:
    """August 2015: VIX closes of 28.03, 40.74, 36.02 and 30.32 from the 21st to the 26th."""
    days = [dt.date(2015, 8, day) for day in (21, 24, 25, 26, 27)]
    assert [on(labelled, day)["regime"] for day in days] == ["risk_off"] * 3 + ["stress", "risk_off"]
    assert [on(labelled, day)["regime_without_bands"] for day in days] == ["risk_off"] + ["stress"] * 3 + ["risk_off"]
    assert "stress (risk_off from -2, kept up to -1, with the VIX stressed for 3 sessions of the 3 it takes)" in str(
        on(labelled, days[3])["reasons"]
    )
    impatient = classify(*FRAMES, rules=Rules(version="impatient", stress_sessions=1))
    assert on(impatient, days[1])["regime"] == "stress"


def test_stress_needs_a_vix_and_a_bad_score(labelled: pl.DataFrame) -> None:
    blind = classify(*FRAMES[:2], FRAMES[2].head(0))
    assert "stress" not in blind["regime"].to_list()
    for row in labelled.filter(pl.col("regime") == "stress").iter_rows(named=True):
        assert row["vix_level"] == "stressed"
        assert row["score"] <= DEFAULT_RULES.off_keep
    # February 2018: the VIX stood above 30 and the trends held.
    assert on(labelled, dt.date(2018, 2, 8))["regime"] == "neutral"


def test_positions_and_the_fast_mean_follow_the_closes(labelled: pl.DataFrame) -> None:
    for what, data in zip(("spx", "ndx"), FRAMES, strict=False):
        fast = data["close"].rolling_mean(50)
        for mine, theirs in zip(labelled[f"fast_mean_{what}"], fast, strict=True):
            assert mine == (None if theirs is None else pytest.approx(theirs, rel=1e-12))
        known = labelled.drop_nulls(f"position_{what}")
        slow_up, fast_up = known[f"trend_{what}"] == "up", known[f"fast_trend_{what}"] == "up"
        names = {(True, True): "above both", (True, False): "below fast", (False, True): "above fast"}
        expected = [names.get(pair, "below both") for pair in zip(slow_up, fast_up, strict=True)]
        assert known[f"position_{what}"].to_list() == expected
        assert set(expected) == {"above both", "below fast", "above fast", "below both"}


def test_the_percentile_of_the_vix_is_of_its_own_last_year(labelled: pl.DataFrame) -> None:
    closes = FRAMES[2]["close"].to_list()
    at = {day: i for i, day in enumerate(FRAMES[2]["date"])}
    for row in labelled.drop_nulls("vix").iter_rows(named=True):
        i = at[row["date"]]
        window = closes[i - 251 : i + 1]
        if i < 251:
            assert row["vix_percentile"] is row["vix_band"] is None
        else:
            assert row["vix_percentile"] == pytest.approx(100 * sum(x <= closes[i] for x in window) / 252)
            if row["vix_percentile"] >= 95:
                assert row["vix_band"] == "extreme"
    assert set(labelled["vix_band"].drop_nulls()) == {"low", "middle", "high", "extreme"}


def test_alignment_and_bias_claim_no_more_than_the_votes(labelled: pl.DataFrame) -> None:
    blind = classify(*FRAMES[:2], FRAMES[2].head(0))
    assert blind["alignment"].null_count() == blind.height
    seen = set()
    for row in labelled.iter_rows(named=True):
        trends = {row["trend_spx"], row["trend_ndx"]}
        quiet = row["vix_level"] in ("calm", "normal")
        if None in trends or row["vix_level"] is None:
            assert row["alignment"] is None
        else:
            one = trends == {"up"} and quiet, trends == {"down"} and not quiet
            assert row["alignment"] == ("up" if one[0] else "down" if one[1] else "mixed")
        long = row["regime"] == "risk_on" and trends == {"up"}
        short = row["regime"] in ("risk_off", "stress") and trends == {"down"}
        expected = None if row["regime"] is None else "long" if long else "short" if short else "flat"
        assert row["bias"] == expected
        seen.add((row["alignment"], row["bias"]))
    assert {bias for _, bias in seen} == {None, "long", "flat", "short"}
    assert {side for side, _ in seen} == {None, "up", "mixed", "down"}


def test_evidence_is_the_votes_as_numbers(labelled: pl.DataFrame) -> None:
    rows = labelled.select("date", "score", "evidence").explode("evidence").unnest("evidence")
    assert rows.height == labelled.height * 11
    votes = rows.drop_nulls("score").group_by("date").agg(pl.col("vote").sum(), pl.col("score").first())
    assert (votes["vote"] == votes["score"]).all()
    assert set(rows["source"]) == {source for _, source in SOURCES}
    assert (rows["value"].is_not_null() | rows["vote"].is_null()).all()
    last = {row["rule"]: row for row in labelled["evidence"][-1]}
    assert (last["trend_spx"]["state"], last["trend_spx"]["threshold"], last["trend_spx"]["vote"]) == ("down", 0.01, -1)
    assert last["trend_spx"]["value"] == pytest.approx(2506.85 / 2746.00 - 1, abs=1e-5)
    assert (last["vix_level"]["value"], last["vix_level"]["threshold"]) == (25.42, 20.0)
    assert (last["fast_trend_spx"]["vote"], last["stress"]["state"]) == (None, "no")
    early = {row["rule"]: row for row in labelled["evidence"][0]}
    assert early["trend_spx"] == {
        "rule": "trend_spx", "value": None, "threshold": None, "state": None, "vote": None, "source": "Faber 2007"
    }  # fmt: skip
    assert early["stress"]["value"] is early["stress"]["state"] is None


def test_the_label_without_bands_is_that_of_rules_without_bands(labelled: pl.DataFrame) -> None:
    bare = classify(*FRAMES, rules=DEFAULT_RULES.without_bands())
    assert (
        bare["regime"].to_list() == labelled["regime_without_bands"].to_list() == bare["regime_without_bands"].to_list()
    )
    table = flips(labelled)
    assert table["state"].to_list() == ["trend_spx", "trend_ndx", "regime"]
    assert (1.8 * table["flips_per_year"] < table["flips_per_year_without_bands"]).all()
    bare_flips = flips(bare)
    assert bare_flips["flips_per_year"].to_list() == bare_flips["flips_per_year_without_bands"].to_list()
    assert table["flips_per_year_without_bands"].to_list() == bare_flips["flips_per_year"].to_list()
    assert table["flips_per_year"][2] == flips_per_year(labelled) == latest(labelled).flips_per_year


def test_a_live_value_is_the_row_its_close_would_make_and_is_marked() -> None:
    head = tuple(frame.filter(pl.col("date") < dt.date(2018, 12, 24)) for frame in FRAMES)
    whole = tuple(frame.filter(pl.col("date") <= dt.date(2018, 12, 24)) for frame in FRAMES)
    values = {name: frame["close"][-1] for name, frame in zip(("spx", "ndx", "vix"), whole, strict=True)}
    live = LiveValues(dt.date(2018, 12, 24), **values)
    made, final = classify(*head, live=live), classify(*whole)
    hidden = ("is_final", "reasons")
    assert made.drop(hidden).equals(final.drop(hidden))
    assert made["is_final"].to_list() == [True] * (made.height - 1) + [False]
    assert final["is_final"].all()
    assert made["reasons"][-1].to_list() == [
        *final["reasons"][-1],
        "The day is not finished: its values and its label can still change.",
    ]
    # A bar of the running day is replaced, and a column may mark it instead.
    shaken = tuple(
        frame.with_columns(close=pl.when(pl.col("date") == live.date).then(1.0).otherwise("close")) for frame in whole
    )
    assert classify(*shaken, live=live).equals(made)
    marked = tuple(frame.with_columns(is_final=pl.col("date") < live.date) for frame in whole)
    assert classify(*marked).equals(made)
    shown = latest(made)
    assert (shown.is_final, shown.date) == (False, live.date)
    assert "2018-12-24 (not finished)" in repr(shown)
    assert "2018-12-24 (not finished)" in shown._repr_html_()


def test_a_live_value_that_is_missing_is_unknown_and_said() -> None:
    date = dt.date(2019, 1, 4)
    row = latest(classify(*FRAMES, live=LiveValues(date, spx=2500.0)))
    assert (row.label, row.bias, row.score, row.is_final) == ("unknown", "unknown", None, False)
    assert "NDX has no close on this date: no label." in row.reasons
    partial = latest(classify(*FRAMES, live=LiveValues(date, spx=2500.0, ndx=6600.0)))
    assert "VIX has no close on this date: no level and no vote." in partial.reasons
    assert partial.label == "risk_off"


def test_bad_live_values_are_refused() -> None:
    date = dt.date(2019, 1, 4)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(FrameInvariantError, match="live value of NDX") as caught:
            classify(*FRAMES, live=LiveValues(date, spx=2500.0, ndx=bad))
        assert caught.value.rule == "price"
    with pytest.raises(InvalidRequest, match="SPX has a bar of 2018-12-31"):
        classify(*FRAMES, live=LiveValues(dt.date(2018, 12, 28), spx=2500.0))
    spx = FRAMES[0].with_columns(is_final=pl.col("date") != dt.date(2018, 12, 28))
    with pytest.raises(FrameInvariantError, match="unfinished on 2018-12-28") as caught:
        classify(spx, *FRAMES[1:])
    assert caught.value.rule == "final"


def test_strict_rules_do_not_label_without_a_vix() -> None:
    strict = classify(*FRAMES, rules=STRICT_RULES)
    loose = classify(*FRAMES)
    assert (strict["regime"].is_null() == (loose["regime"].is_null() | loose["vix"].is_null())).all()
    early = on(strict, dt.date(2013, 12, 31))
    assert (early["regime"], early["score"], early["bias"]) == (None, None, None)
    assert "VIX has no close on this date, and these rules need one: no label." in early["reasons"]  # type: ignore[operator]
    assert on(loose, dt.date(2013, 12, 31))["regime"] == "risk_on"


@pytest.mark.parametrize(
    "change",
    [
        {"vix_bands": ()},
        {"vix_bands": (("low", 20.0), ("high", 10.0))},
        {"trend_band": -0.01},
        {"trend_band": float("nan")},
        {"stress_sessions": 0},
        {"vix_history": 0},
        {"sources": SOURCES[1:]},
    ],
    ids=str,
)
def test_rules_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        Rules(**change)  # type: ignore[arg-type]
