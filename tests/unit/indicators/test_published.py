"""Published tables: values printed by sources outside this project."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from massive_lab import indicators as ind

GOLDEN = Path(__file__).parents[2] / "golden" / "indicators"


def test_rsi_gives_the_values_of_the_chart_school_page() -> None:
    table = pl.read_csv(GOLDEN / "stockcharts_rsi.csv")
    assert table.height == 20
    made = ind.apply(table.select("close"), ["rsi_14"])["rsi_14"]
    assert made.round(2).to_list() == table["rsi_14"].to_list()


def test_smoothing_and_seed_are_told_apart_by_the_first_value() -> None:
    # The same data with the averages of a plain EMA (alpha 2 / 15) would start at another value.
    closes = pl.read_csv(GOLDEN / "stockcharts_rsi.csv")["close"]
    changes = closes.diff()
    gain, loss = (
        pl.Series([max(sign * c, 0.0) for c in changes.drop_nulls()]).ewm_mean(alpha=2 / 15, adjust=False)[-1]
        for sign in (1, -1)
    )
    ours = ind.apply(pl.DataFrame({"close": closes}), ["rsi_14"])["rsi_14"][-1]
    assert abs(100 * gain / (gain + loss) - ours) > 1


@pytest.mark.parametrize(
    ("text", "first"), [("ema_20", 19), ("sma_50", 49), ("rsi_14", 14), ("atr_14", 14), ("macd_12_26_9", 33)]
)
def test_first_value_is_where_ta_lib_has_it(text: str, first: int) -> None:
    bars = pl.DataFrame({"close": [100.0 + (i % 7) for i in range(60)]}).with_columns(
        high=pl.col("close") + 1, low=pl.col("close") - 1
    )
    for column in ind.apply(bars, [text]).drop(bars.columns).iter_columns():
        assert column.null_count() == first
        assert column[:first].null_count() == first
