"""The search for look-ahead: planted leaks are found, clean functions are not blamed, and the rest is said."""

from __future__ import annotations

import datetime as dt
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from massive_lab import indicators as ind
from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.frames.bars import resample
from massive_lab.frames.build import build
from massive_lab.frames.lookahead import LookaheadReport, prove_no_lookahead
from massive_lab.frames.replay import replay
from massive_lab.regime import classify
from massive_lab.schema.session import new_york_ns

MINUTE = 60 * 10**9
DATA = Path(__file__).parents[3] / "data"
CLOSE = pl.col("close")
DAY = pl.col("ts_event").dt.convert_time_zone("America/New_York").dt.date()
Function = Callable[[Any], Any]


def make_bars(symbols: tuple[str, ...] = ("AAPL", "MSFT", "SPY"), days: int = 3, per_day: int = 60) -> pl.DataFrame:
    rng = np.random.default_rng(11)
    parts = []
    starts = np.concatenate(
        [new_york_ns(dt.date(2025, 6, 2 + day), 9, 30) + MINUTE * np.arange(per_day) for day in range(days)]
    )
    for symbol in symbols:
        n = len(starts)
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, n)))
        open_ = np.concatenate(([100.0], close[:-1]))
        volume = rng.integers(100, 1000, n).astype(float)
        volume[rng.choice(np.arange(20, n - 5), 2, replace=False)] *= 40
        parts.append(
            build(
                "bars",
                {
                    "symbol": symbol, "ts_event": starts, "ts_close": starts + MINUTE, "open": open_,
                    "high": np.maximum(open_, close) * 1.001, "low": np.minimum(open_, close) * 0.999, "close": close,
                    "volume": volume, "vwap": (open_ + close) / 2, "trade_count": rng.integers(1, 50, n),
                },
            )
        )  # fmt: skip
    return pl.concat(parts).sort("symbol", "ts_event")


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return make_bars()


def per_symbol(**columns: pl.Expr) -> Function:
    """Columns per symbol, in the order of time."""
    return lambda frame: frame.sort("symbol", "ts_event").with_columns(
        **{name: expression.over("symbol") for name, expression in columns.items()}
    )


def by_array(function: Callable[[np.ndarray], np.ndarray]) -> Function:
    """One column from the closes of each symbol as an array."""
    return per_symbol(
        x=CLOSE.map_batches(lambda s: pl.Series(function(s.to_numpy()), nan_to_null=True), return_dtype=pl.Float64)
    )


def forward_asof(frame: pl.DataFrame) -> pl.DataFrame:
    late = frame.select("symbol", pl.col("ts_event").dt.offset_by("-30s"), next_close="close").sort("ts_event")
    return frame.sort("ts_event").join_asof(
        late, on="ts_event", by="symbol", strategy="forward", check_sortedness=False
    )


def backward_asof(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("ts_event").join_asof(
        frame.select("symbol", ts_event="ts_close", last_close="close").sort("ts_event"),
        on="ts_event",
        by="symbol",
        check_sortedness=False,
    )


def label_left(frame: pl.DataFrame) -> pl.DataFrame:
    coarse = (
        frame.sort("ts_event")
        .group_by_dynamic("ts_event", every="5m", group_by="symbol", label="left")
        .agg(close_5m=CLOSE.last())
    )
    return frame.sort("ts_event").join_asof(coarse, on="ts_event", by="symbol", check_sortedness=False)


def label_left_alone(frame: pl.DataFrame) -> pl.DataFrame:
    return (
        frame.sort("ts_event")
        .group_by_dynamic("ts_event", every="5m", group_by="symbol")
        .agg(high_5m=pl.col("high").max())
    )


def label_right(frame: pl.DataFrame) -> pl.DataFrame:
    coarse = resample(frame, "5m").select("symbol", known="ts_close", close_5m="close").sort("known")
    return (
        frame.sort("ts_close")
        .join_asof(coarse, left_on="ts_close", right_on="known", by="symbol", check_sortedness=False)
        .drop("known")
    )


def both_ways(closes: np.ndarray) -> np.ndarray:
    smooth = pd.Series(closes).ewm(span=5).mean()
    return smooth[::-1].ewm(span=5).mean()[::-1].to_numpy()


def residual(closes: np.ndarray) -> np.ndarray:
    t = np.arange(len(closes), dtype=float)
    slope, level = np.polyfit(t, closes, 1)
    return closes - slope * t - level


def drawdown_to_come(closes: np.ndarray) -> np.ndarray:
    return np.minimum.accumulate(closes[::-1])[::-1] / closes - 1


def fourier(closes: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(closes)
    spectrum[len(spectrum) // 4 :] = 0
    return np.fft.irfft(spectrum, len(closes))


def only_in_one_symbol(frame: pl.DataFrame) -> pl.DataFrame:
    x = pl.when(pl.col("symbol") == "MSFT").then(CLOSE.shift(-1)).otherwise(CLOSE.shift(1)).over("symbol")
    return frame.with_columns(x=x)


def only_in_the_last_rows(frame: pl.DataFrame) -> pl.DataFrame:
    n = pl.len().over("symbol")
    last = pl.int_range(pl.len()).over("symbol") >= n - 5
    return frame.with_columns(x=pl.when(last).then(CLOSE.last().over("symbol")).otherwise(CLOSE))


def only_after_spikes(frame: pl.DataFrame) -> pl.DataFrame:
    spike = pl.col("volume") > 10 * pl.col("volume").rolling_median(15).over("symbol")
    return frame.with_columns(x=pl.when(spike).then(CLOSE.shift(-1).over("symbol")).otherwise(CLOSE))


def only_before_spikes(frame: pl.DataFrame) -> pl.DataFrame:
    coming = pl.col("volume").shift(-1) > 100_000
    return frame.with_columns(warned=coming.over("symbol").fill_null(value=False))


def survivors(frame: pl.DataFrame) -> pl.DataFrame:
    alive = frame.group_by("symbol").agg(pl.col("ts_event").max()).filter(pl.col("ts_event") == frame["ts_event"].max())
    return frame.join(alive.select("symbol"), on="symbol", how="semi")


def one_column_per_day(frame: pl.DataFrame) -> pl.DataFrame:
    made = frame.with_columns(day=DAY)
    return made.hstack(made.select(pl.col("day").cast(pl.String)).to_dummies()).drop("day")


def pandas_bfill(frame: pl.DataFrame) -> pd.DataFrame:
    made = frame.to_pandas()
    every = made["close"].where(made.groupby("symbol").cumcount() % 4 == 0)
    made["x"] = every.groupby(made["symbol"]).bfill()
    return made


SPARSE = pl.when(pl.int_range(pl.len()) % 4 == 0).then(CLOSE)

LEAKS: dict[str, Function] = {
    "centred window": per_symbol(x=CLOSE.rolling_mean(5, center=True)),
    "back-fill": per_symbol(x=SPARSE.backward_fill()),
    "back-fill in pandas": pandas_bfill,
    "forward-fill, then back-fill": per_symbol(x=CLOSE.rolling_mean(10).forward_fill().backward_fill()),
    "shift(-1)": per_symbol(x=CLOSE.shift(-1)),
    "shift(-1), filled": per_symbol(x=CLOSE.shift(-1).fill_null(CLOSE)),
    "pct_change of the next bar": per_symbol(x=CLOSE.pct_change(-1)),
    "z-score of the sample": per_symbol(x=(CLOSE - CLOSE.mean()) / CLOSE.std()),
    "min-max of the sample": per_symbol(x=(CLOSE - CLOSE.min()) / (CLOSE.max() - CLOSE.min())),
    "rank in the sample": per_symbol(x=CLOSE.rank()),
    "quantile cuts of the sample": per_symbol(x=(CLOSE.rank() / pl.len() * 5).ceil().cast(pl.Int64)),
    "winsorised by the sample": per_symbol(x=CLOSE.clip(CLOSE.quantile(0.2), CLOSE.quantile(0.8))),
    "scaled by the last price": per_symbol(x=CLOSE / CLOSE.last()),
    "interpolation": per_symbol(x=SPARSE.interpolate()),
    "running sum in descending order": per_symbol(x=pl.col("volume").reverse().cum_sum().reverse()),
    "forward as-of join": forward_asof,
    "five minutes labelled left, joined": label_left,
    "five minutes labelled left": label_left_alone,
    "smoothed both ways": by_array(both_ways),
    "Fourier filter": by_array(fourier),
    "residual of a fit on the sample": by_array(residual),
    "drawdown to come": by_array(drawdown_to_come),
    "mean of the day": lambda b: b.with_columns(x=CLOSE.mean().over("symbol", DAY)),
    "last of the day": lambda b: b.with_columns(x=CLOSE.last().over("symbol", DAY)),
    "high of the day": lambda b: b.with_columns(x=pl.col("high").max().over("symbol", DAY)),
    "number of bars of the day": lambda b: b.with_columns(x=pl.len().over("symbol", DAY)),
    "next row in one symbol only": only_in_one_symbol,
    "last five rows only": only_in_the_last_rows,
    "after a spike in volume only": only_after_spikes,
    "before a spike in volume only": only_before_spikes,
    "symbols that survive": survivors,
    "last row dropped": lambda b: b.filter(pl.col("ts_event") < pl.col("ts_event").max().over("symbol")),
    "best row of the sample": lambda b: b.filter(CLOSE.max().over("symbol") == CLOSE).select("symbol", "ts_event"),
    "one column per day": one_column_per_day,
    "list with the next price": per_symbol(x=pl.concat_list(CLOSE, CLOSE.shift(-1))),
    "gap to the next bar": per_symbol(x=pl.col("ts_event").shift(-1) - pl.col("ts_event")),
    "other symbol's next bar": lambda b: b.with_columns(x=CLOSE.shift(-1).first().over("ts_event")).join(
        b.filter(pl.col("symbol") == "SPY").select("ts_event", spy=CLOSE.shift(-1)), on="ts_event", how="left"
    ),
    "day bar joined by date": lambda b: b.with_columns(day=DAY).join(
        resample(b, "1d").with_columns(day=DAY).select("symbol", "day", day_close="close"), on=["symbol", "day"]
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_planted_leaks_are_found(bars: pl.DataFrame, name: str) -> None:
    report = prove_no_lookahead(LEAKS[name], bars)
    assert report.verdict == "leaking", report
    assert not report.ok
    with pytest.raises(FrameInvariantError) as caught:
        report.raise_if_leaking()
    assert caught.value.rule == "lookahead"
    assert caught.value.rows.equals(report.leaks)
    guilty = set(report.columns.filter(pl.col("verdict") == "leaking")["column"])
    assert guilty == set(report.leaks["column"].unique())
    assert not guilty & set(bars.columns)  # what came in was passed on, and is not blamed


def one_bar_at_a_time(frame: pl.DataFrame) -> pl.DataFrame:
    averages: dict[str, ind.EMA] = {}
    rows = [
        (bar.symbol, bar.ts_event, averages.setdefault(bar.symbol, ind.EMA(5)).update(bar.close))
        for bar in replay(frame)
    ]
    return pl.DataFrame(rows, schema=["symbol", "ts_event", "ema"], orient="row").with_columns(
        pl.col("ts_event").cast(pl.Datetime("ns", "UTC"))
    )


def expanding_fit(closes: np.ndarray) -> np.ndarray:
    return np.array([residual(closes[: i + 1])[-1] if i > 5 else np.nan for i in range(len(closes))])


def by_fourier(closes: np.ndarray) -> np.ndarray:
    """A trailing mean through Fourier transforms: causal, but its last bits depend on the length."""
    n = len(closes)
    size = 2 * n
    kernel = np.ones(5) / 5
    made = np.fft.irfft(np.fft.rfft(closes, size) * np.fft.rfft(kernel, size), size)[:n]
    made[:4] = np.nan
    return made


def yesterday(frame: pl.DataFrame) -> pl.DataFrame:
    daily = resample(frame, "1d").select("symbol", ts_event="ts_close", yesterday="close").sort("ts_event")
    return frame.sort("ts_event").join_asof(daily, on="ts_event", by="symbol", check_sortedness=False)


def pandas_groups(frame: pl.DataFrame) -> pd.DataFrame:
    made = frame.to_pandas()
    made["x"] = made.groupby("symbol")["close"].transform(lambda s: s.rolling(7).std())
    made["y"] = made.groupby("symbol")["close"].transform(lambda s: s.ewm(span=9, adjust=False).mean())
    return made


def shuffled(frame: pl.DataFrame) -> pl.DataFrame:
    return per_symbol(x=CLOSE.rolling_max(9))(frame).sample(fraction=1.0, shuffle=True)


ALL = ["ema_20", "sma_10", "rsi_14", "atr_14", "macd_12_26_9", "session_vwap", "session_vwap_day"]

CLEAN: dict[str, Function] = {
    "the bars themselves": lambda b: b,
    "all indicators by name": lambda b: ind.apply(b, ALL),
    "indicators as expressions": lambda b: b.with_columns(ind.ema(period=9), ind.rsi(), ind.atr(), *ind.macd()),
    "indicators on a lazy frame": lambda b: ind.apply(b.lazy(), ALL),
    "indicators, one bar at a time": one_bar_at_a_time,
    "indicators in pandas": lambda b: ind.apply(b.to_pandas(), ALL),
    "trailing window": per_symbol(x=CLOSE.rolling_mean(20), y=CLOSE.rolling_std(20), z=CLOSE.rolling_median(20)),
    "shift(1)": per_symbol(x=CLOSE.shift(1), y=CLOSE.pct_change(), z=CLOSE.log().diff()),
    "forward-fill": per_symbol(x=SPARSE.forward_fill()),
    "expanding z-score": per_symbol(x=(CLOSE - CLOSE.cum_sum() / CLOSE.cum_count()) / CLOSE.rolling_std(1000, min_samples=5)),
    "ewm": per_symbol(x=CLOSE.ewm_mean(span=10, adjust=True, ignore_nulls=False), y=CLOSE.ewm_std(span=10, ignore_nulls=False)),
    "drawdown so far": per_symbol(x=CLOSE / CLOSE.cum_max() - 1),
    "rank among those before": per_symbol(x=CLOSE.rolling_rank(30, method="max")),
    "backward as-of join": backward_asof,
    "five minutes, known at their close": label_right,
    "five minutes with ts_close": lambda b: resample(b, "5m"),
    "yesterday's close": yesterday,
    "high of the day so far": lambda b: b.sort("symbol", "ts_event").with_columns(x=pl.col("high").cum_max().over("symbol", DAY)),
    "opening price of the day": lambda b: b.sort("symbol", "ts_event").with_columns(x=pl.col("open").first().over("symbol", DAY)),
    "rank across symbols at one time": lambda b: b.with_columns(x=CLOSE.rank().over("ts_event")),
    "expanding fit": by_array(expanding_fit),
    "trailing mean through Fourier": by_array(by_fourier),
    "pandas by group": pandas_groups,
    "rows in another order": shuffled,
    "warm-up dropped": lambda b: ind.apply(b, ["sma_20"]).drop_nulls("sma_20"),
    "warm-up as NaN": lambda b: ind.apply(b, ["rsi_14"]).with_columns(pl.col("rsi_14").fill_null(float("nan"))),
    "rows of a signal": lambda b: ind.apply(b, ["rsi_14"]).filter(pl.col("rsi_14") < 45),
    "keys of a signal": lambda b: b.filter(pl.col("open") < CLOSE).select("symbol", "ts_event"),
    "one row per time": lambda b: b.group_by("ts_event").agg(breadth=(pl.col("open") < CLOSE).mean()),
    "one row per symbol, time and name": lambda b: ind.apply(b, ["ema_5", "sma_5"]).select("symbol", "ts_event", "ema_5", "sma_5")
        .unpivot(index=["symbol", "ts_event"]),
    "text and lists": per_symbol(x=pl.when(CLOSE.shift(1) < CLOSE).then(pl.lit("up")).otherwise(pl.lit("down")),
                                 y=pl.concat_list(CLOSE.shift(1), CLOSE)),
    "at most 20 rows at a time": lambda b: b.sort("symbol", "ts_event").with_columns(
        x=CLOSE.rolling_map(lambda s: float(s.sort()[len(s) // 2]), 20).over("symbol")),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_clean_functions_are_not_blamed(bars: pl.DataFrame, name: str) -> None:
    report = prove_no_lookahead(CLEAN[name], bars, n_prefixes=15)
    assert report.verdict == "clean", report
    assert report.leaks.height == 0
    assert report.leaks.columns[-6:] == ["column", "value", "otherwise", "future", "known_until", "bars_back"]
    report.raise_if_leaking()


def test_the_suite_plants_at_least_twenty_of_each() -> None:
    assert len(LEAKS) >= 20
    assert len(CLEAN) >= 20


def macro_bars() -> pl.DataFrame:
    names = {
        "I:SPX": "spx_ohlcv_1999_2018",
        "I:NDX": "nasdaq_composite_ohlcv_1999_2018",
        "I:VIX": "vix_close_2014_2019",
    }
    parts = [
        pl.read_parquet(DATA / f"{name}.parquet").select(
            pl.lit(symbol).alias("symbol"), pl.col("date").cast(pl.Date), pl.col("close").cast(pl.Float64)
        )
        for symbol, name in names.items()
    ]
    found = pl.concat(parts).filter(pl.col("date").is_between(dt.date(2014, 1, 1), dt.date(2018, 12, 31)))
    return found.drop_nulls()


def test_the_regime_does_not_look_ahead() -> None:
    def regime(frame: pl.DataFrame) -> pl.DataFrame:
        spx, ndx, vix = (
            frame.filter(pl.col("symbol") == name, pl.col("close").is_not_null())
            for name in ("I:SPX", "I:NDX", "I:VIX")
        )
        return classify(spx, ndx, vix)

    bars = macro_bars()
    report = prove_no_lookahead(regime, bars, n_prefixes=5)
    assert report.ok, report
    assert {"regime", "score", "reasons"} <= set(report.columns.filter(pl.col("verdict") == "clean")["column"])

    def smoothed(frame: pl.DataFrame) -> pl.DataFrame:
        return regime(frame).with_columns(pl.col("score").rolling_mean(3, center=True))

    assert set(prove_no_lookahead(smoothed, bars, n_prefixes=5).leaks["column"]) == {"score"}


def test_every_value_that_changed_is_named(bars: pl.DataFrame) -> None:
    one = bars.filter(pl.col("symbol") == "AAPL").head(30)
    report = prove_no_lookahead(per_symbol(x=CLOSE.shift(-1)), one, n_prefixes=None)
    # Every row but the last has a next bar, and each is the last known bar of one cut.
    assert report.leaks["ts_event"].to_list() == one["ts_event"][:-1].to_list()
    assert report.leaks["column"].unique().to_list() == ["x"]
    assert report.leaks["bars_back"].to_list() == [0] * 29
    assert report.leaks["known_until"].to_list() == one["ts_close"][:-1].to_list()
    assert [float(v) for v in report.leaks["value"]] == one["close"][1:].to_list()
    assert report.leaks.schema["ts_event"] == pl.Datetime("ns", "UTC")
    two = prove_no_lookahead(per_symbol(x=CLOSE.shift(-3)), one, n_prefixes=None)
    assert two.columns.filter(column="x")["bars_back"].item() == 2


def test_the_same_seed_gives_the_same_report(bars: pl.DataFrame) -> None:
    function = LEAKS["z-score of the sample"]
    one, two = (prove_no_lookahead(function, bars, seed=5) for _ in range(2))
    assert one.leaks.equals(two.leaks)
    assert repr(one) == repr(two)
    assert pickle.loads(pickle.dumps(one)).leaks.equals(one.leaks)


def test_only_the_columns_asked_for_are_judged(bars: pl.DataFrame) -> None:
    function = per_symbol(good=CLOSE.shift(1), bad=CLOSE.shift(-1))
    assert prove_no_lookahead(function, bars, columns=["good"]).ok
    assert set(prove_no_lookahead(function, bars).leaks["column"]) == {"bad"}
    with pytest.raises(InvalidRequest, match="lacks 'ugly'"):
        prove_no_lookahead(function, bars, columns=["ugly"])


def test_rounding_is_counted_and_blamed_only_when_asked(bars: pl.DataFrame) -> None:
    function = CLEAN["trailing mean through Fourier"]
    report = prove_no_lookahead(function, bars)
    assert report.ok
    assert report.columns.filter(column="x")["n_rounding"].item() > 0
    assert "rounding" in repr(report)
    assert prove_no_lookahead(function, bars, tolerance=0).verdict == "leaking"


@pytest.mark.parametrize("name", sorted(set(CLEAN) - {"trailing mean through Fourier"}))
def test_usual_functions_and_all_indicators_are_clean_to_the_last_bit(bars: pl.DataFrame, name: str) -> None:
    assert prove_no_lookahead(CLEAN[name], bars, n_prefixes=4, tolerance=0).ok


def test_a_small_leak_is_not_rounding(bars: pl.DataFrame) -> None:
    function = per_symbol(x=CLOSE + 1e-6 * CLOSE.shift(-1).fill_null(0))
    assert not prove_no_lookahead(function, bars).ok


def test_chance_is_said_and_not_blamed(bars: pl.DataFrame) -> None:
    rng = np.random.default_rng()

    def noise(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(x=pl.Series(rng.random(frame.height)), y=CLOSE.shift(1).over("symbol"))

    report = prove_no_lookahead(noise, bars)
    assert report.verdict == "undetermined"
    assert report.leaks.height == 0
    assert report.columns.filter(column="x")["verdict"].item() == "nondeterministic"
    assert report.columns.filter(column="y")["verdict"].item() == "clean"
    with pytest.raises(FrameInvariantError) as caught:
        report.raise_if_leaking()
    assert caught.value.rule == "undetermined"
    assert "x: nondeterministic" in str(caught.value)
    assert prove_no_lookahead(noise, bars, columns=["y"]).ok


def test_a_leak_beside_chance_is_still_a_leak(bars: pl.DataFrame) -> None:
    rng = np.random.default_rng()

    def both(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(x=pl.Series(rng.random(frame.height)), y=CLOSE.shift(-1).over("symbol"))

    assert set(prove_no_lookahead(both, bars).leaks["column"]) == {"y"}


def test_rows_by_chance_and_memory_between_calls_are_chance(bars: pl.DataFrame) -> None:
    rng = np.random.default_rng()
    sampled = prove_no_lookahead(lambda b: b.filter(pl.Series(rng.random(b.height) < 0.5)), bars)
    assert sampled.verdict == "undetermined"
    calls = itertools.count()
    counted = prove_no_lookahead(lambda b: b.with_columns(x=pl.lit(next(calls))), bars)
    assert counted.columns.filter(column="x")["verdict"].item() == "nondeterministic"


def test_errors_on_short_prefixes_are_reported_and_tolerated(bars: pl.DataFrame) -> None:
    def needs_fifty(frame: pl.DataFrame) -> pl.DataFrame:
        if frame.filter(pl.col("symbol") == "AAPL").height < 50:
            raise ValueError("Fewer than 50 bars.")
        return ind.apply(frame, ["ema_20"])

    report = prove_no_lookahead(needs_fifty, bars)
    assert report.ok
    assert set(report.errors["error"]) == {"ValueError"}
    assert "runs raised ValueError" in repr(report)
    assert "Fewer than 50 bars." in repr(report)


def test_a_function_that_only_takes_the_whole_frame_is_undetermined(bars: pl.DataFrame) -> None:
    def only_this(frame: pl.DataFrame) -> pl.DataFrame:
        if not frame.equals(bars):
            raise RuntimeError("Another frame.")
        return frame

    report = prove_no_lookahead(only_this, bars)
    assert (report.verdict, report.n_cuts) == ("undetermined", 0)
    with pytest.raises(FrameInvariantError, match="Another frame"):
        report.raise_if_leaking()


def test_an_error_on_the_whole_frame_is_the_users(bars: pl.DataFrame) -> None:
    def broken(frame: pl.DataFrame) -> pl.DataFrame:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        prove_no_lookahead(broken, bars)


def test_a_column_without_values_proves_nothing(bars: pl.DataFrame) -> None:
    empty = prove_no_lookahead(lambda b: ind.apply(b, ["sma_500"]), bars, columns=["sma_500"])
    assert (empty.verdict, empty.columns.filter(column="sma_500")["verdict"].item()) == ("undetermined", "empty")
    nothing = prove_no_lookahead(lambda b: b.head(0), bars)
    assert nothing.verdict == "undetermined"


@pytest.mark.parametrize("index", [None, ["symbol", "ts_event"]])
def test_pandas_in_and_out_keeps_its_types(bars: pl.DataFrame, index: list[str] | None) -> None:
    frame = bars.to_pandas().assign(trade_count=lambda f: f["trade_count"].astype("Int64"), flag=True)
    frame = frame.set_index(index) if index else frame
    before, types = frame.copy(), []

    def clean(b: pd.DataFrame) -> pd.DataFrame:
        types.append(tuple(map(str, b.dtypes.drop("flag"))))
        b["x"] = b.groupby("symbol")["close"].shift(1)  # in place: the caller's frame must not change
        return b

    assert prove_no_lookahead(clean, frame).ok
    assert len(set(types)) == 1
    pd.testing.assert_frame_equal(frame, before)
    leaking = prove_no_lookahead(lambda b: b.assign(x=b.groupby("symbol")["close"].shift(-1)), frame)
    assert set(leaking.leaks["column"]) == {"x"}
    assert {"symbol", "ts_event"} <= set(leaking.leaks.columns)


def test_lazy_in_and_out(bars: pl.DataFrame) -> None:
    assert prove_no_lookahead(lambda b: b.with_columns(ind.ema(period=5)), bars.lazy()).ok
    assert not prove_no_lookahead(lambda b: b.with_columns(x=CLOSE.shift(-1)), bars.lazy()).ok


def test_row_order_of_the_input_is_free(bars: pl.DataFrame) -> None:
    mixed = bars.sample(fraction=1.0, shuffle=True, seed=1)
    assert prove_no_lookahead(per_symbol(x=CLOSE.rolling_mean(5)), mixed).ok
    assert not prove_no_lookahead(per_symbol(x=CLOSE.shift(-1)), mixed).ok


def test_a_row_is_known_at_its_close() -> None:
    # Two bars of one minute close inside a bar of five: the five-minute row may use both, the first minute may not.
    minute = make_bars(("AAPL",), days=1)
    wide = minute.with_columns(ts_close=pl.col("ts_event").dt.truncate("5m").dt.offset_by("5m"))

    def last_of_five(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(x=CLOSE.last().over(pl.col("ts_event").dt.truncate("5m")))

    assert prove_no_lookahead(last_of_five, wide).ok
    assert not prove_no_lookahead(last_of_five, minute).ok


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_prefixes": 0},
        {"n_prefixes": 2.5},
        {"n_prefixes": "all"},
        {"tolerance": -1},
        {"tolerance": 1.0},
        {"columns": "close"},
    ],
)
def test_wrong_arguments_are_refused(bars: pl.DataFrame, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        prove_no_lookahead(lambda b: b, bars, **arguments)


def test_frames_and_results_that_cannot_be_judged_are_refused(bars: pl.DataFrame) -> None:
    def same(frame: Any) -> Any:
        return frame

    with pytest.raises(FrameInvariantError) as caught:
        prove_no_lookahead(same, bars.drop("ts_event"))
    assert caught.value.rule == "columns"
    with pytest.raises(FrameInvariantError) as caught:
        prove_no_lookahead(same, bars.with_columns(ts_event=pl.lit(None, dtype=pl.Datetime("ns", "UTC"))))
    assert caught.value.rule == "null"
    with pytest.raises(InvalidRequest, match="fewer than two times"):
        prove_no_lookahead(same, bars.head(1))
    with pytest.raises(InvalidRequest, match="no ts_event"):
        prove_no_lookahead(lambda b: b.select("close"), bars)
    with pytest.raises(InvalidRequest, match="not float"):
        prove_no_lookahead(lambda b: 1.0, bars)
    with pytest.raises(InvalidRequest, match="not list"):
        prove_no_lookahead(same, [1, 2])  # type: ignore[arg-type]


def test_the_report_shows_what_matters(bars: pl.DataFrame) -> None:
    report = prove_no_lookahead(per_symbol(good=CLOSE.shift(1), bad=CLOSE.shift(-1)), bars)
    assert isinstance(report, LookaheadReport)
    text = repr(report)
    assert text.startswith("Look-ahead: leaking.")
    assert "good" in text.splitlines()[1]
    assert "bad: leaking" in text
    assert "first leaks:" in text
    clean = repr(prove_no_lookahead(lambda b: b, bars))
    assert len(clean.splitlines()) == 2
