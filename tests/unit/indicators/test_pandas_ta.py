"""Indicators by name from pandas-ta-classic: frames of every kind, symbols, refusals, and nothing imported before."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from massive_lab.errors import ConfigError, FrameInvariantError, InvalidRequest
from massive_lab.frames.lookahead import prove_no_lookahead
from massive_lab.indicators import pandas_ta
from massive_lab.indicators.pandas_ta import from_pandas_ta

pandas_ta_classic = pandas_ta._package()  # importing it by hand warns
ROOT = Path(__file__).parents[3]
NAMES = [
    ("supertrend", {"length": 10}, "SUPERT_10_3.0"),
    ("bbands", {"length": 20}, "BBL_20_2.0"),
    ("adx", {}, "ADX_14"),
    ("obv", {}, "OBV"),
    ("stoch", {"k": 14}, "STOCHk_14_3_3"),
    ("cdl_doji", {}, "CDL_DOJI_10_0.1"),
    ("hma", {"length": 9}, "HMA_9"),
]


def make_bars(symbols: tuple[str, ...] = ("AAPL", "MSFT"), n: int = 120) -> pl.DataFrame:
    rng = np.random.default_rng(4)
    start = dt.datetime(2025, 6, 2, 14, tzinfo=dt.UTC)
    parts = []
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, n)))
        open_ = np.concatenate(([100.0], close[:-1]))
        parts.append(
            pl.DataFrame(
                {
                    "symbol": symbol,
                    "ts_event": [start + dt.timedelta(minutes=i) for i in range(n)],
                    "open": open_,
                    "high": np.maximum(open_, close) * 1.001,
                    "low": np.minimum(open_, close) * 0.999,
                    "close": close,
                    "volume": rng.integers(1, 900, n).astype(float),
                }
            )
        )
    return pl.concat(parts).with_columns(pl.col("ts_event").cast(pl.Datetime("ns", "UTC")))


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return make_bars()


def directly(name: str, frame: pl.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """The package called by hand on one symbol."""
    data = frame.to_pandas().set_index("ts_event").rename(columns={"open": "open_"})
    function = getattr(pandas_ta_classic, name)
    arguments = {"supertrend": "high low close", "bbands": "close", "adx": "high low close", "obv": "close volume",
                 "stoch": "high low close", "cdl_doji": "open_ high low close", "hma": "close"}[name]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = function(**{a: data[a] for a in arguments.split()}, **params)
    return made if isinstance(made, pd.DataFrame) else made.to_frame()


@pytest.mark.parametrize(("name", "params", "column"), NAMES)
def test_each_symbol_has_what_the_package_gives(
    bars: pl.DataFrame, name: str, params: dict[str, Any], column: str
) -> None:
    made = from_pandas_ta(name, bars, **params)
    assert made.columns[:2] == ["symbol", "ts_event"]
    assert column in made.columns
    assert made.select("symbol", "ts_event").equals(bars.select("symbol", "ts_event"))
    for symbol in ("AAPL", "MSFT"):
        expected = directly(name, bars.filter(symbol=symbol), params)
        ours = made.filter(symbol=symbol)
        assert ours.columns[2:] == list(expected.columns)
        for found in expected.columns:
            np.testing.assert_array_equal(ours[found].to_numpy(), expected[found].to_numpy(float), err_msg=found)


@pytest.mark.parametrize(("name", "params", "column"), NAMES)
def test_the_kind_of_frame_order_and_index_are_kept(
    bars: pl.DataFrame, name: str, params: dict[str, Any], column: str
) -> None:
    expected = from_pandas_ta(name, bars, **params)
    lazy = from_pandas_ta(name, bars.lazy(), **params)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().equals(expected)
    mixed = bars.sort("ts_event", "symbol")
    assert from_pandas_ta(name, mixed, **params).equals(expected.sort("ts_event", "symbol"))
    frame = mixed.to_pandas().set_index(np.arange(bars.height) * 3)
    before = frame.copy()
    out = from_pandas_ta(name, frame, **params)
    assert isinstance(out, pd.DataFrame)
    pd.testing.assert_index_equal(out.index, frame.index)
    pd.testing.assert_frame_equal(frame, before)
    np.testing.assert_array_equal(out[column].to_numpy(), expected.sort("ts_event", "symbol")[column].to_numpy())
    by_index = from_pandas_ta(name, frame.set_index(["ts_event", "symbol"]), **params)
    assert by_index.index.names == ["ts_event", "symbol"]
    np.testing.assert_array_equal(by_index[column].to_numpy(), out[column].to_numpy())


def test_nulls_are_left_out_and_stay_null(bars: pl.DataFrame) -> None:
    one = bars.filter(symbol="AAPL")
    holes = one.with_columns(close=pl.when(pl.int_range(pl.len()) % 10 != 5).then("close"))
    made = from_pandas_ta("hma", holes, length=9)
    whole = from_pandas_ta("hma", holes.drop_nulls(), length=9)
    assert made.filter(holes["close"].is_not_null()).equals(whole)
    assert made.filter(holes["close"].is_null())["HMA_9"].null_count() == 12


def test_a_symbol_that_is_too_short_has_nulls_and_alone_is_refused(bars: pl.DataFrame) -> None:
    short = make_bars(("TINY",), 5)
    made = from_pandas_ta("hma", pl.concat([bars, short]), length=20)
    assert made.filter(symbol="TINY")["HMA_20"].null_count() == 5
    assert made.filter(symbol="AAPL")["HMA_20"].equals(
        from_pandas_ta("hma", bars, length=20).filter(symbol="AAPL")["HMA_20"]
    )
    with pytest.raises(InvalidRequest, match="longest symbol has 5 bars"):
        from_pandas_ta("hma", short, length=20)


def test_without_a_symbol_all_rows_are_one_series(bars: pl.DataFrame) -> None:
    one = bars.filter(symbol="AAPL")
    assert from_pandas_ta("adx", one.drop("symbol")).equals(from_pandas_ta("adx", one).drop("symbol"))


def test_an_unknown_name_is_met_with_close_ones(bars: pl.DataFrame) -> None:
    with pytest.raises(InvalidRequest, match=r"no indicator 'supertrnd'.*Did you mean 'supertrend'"):
        from_pandas_ta("supertrnd", bars)
    with pytest.raises(InvalidRequest, match="no indicator '__import__'"):
        from_pandas_ta("__import__", bars)
    with pytest.raises(InvalidRequest, match="Did you mean 'length'"):
        from_pandas_ta("hma", bars, lenght=9)
    with pytest.raises(InvalidRequest, match="is a column"):
        from_pandas_ta("hma", bars, close=[1.0])


@pytest.mark.parametrize("name", ["long_run", "ma", "amat", "vp"])
def test_what_is_no_column_of_bars_is_refused(bars: pl.DataFrame, name: str) -> None:
    with pytest.raises(InvalidRequest):
        from_pandas_ta(name, bars)


def test_missing_columns_and_disorder_are_refused(bars: pl.DataFrame) -> None:
    with pytest.raises(FrameInvariantError) as caught:
        from_pandas_ta("obv", bars.drop("volume"))
    assert caught.value.rule == "columns"
    with pytest.raises(FrameInvariantError) as caught:
        from_pandas_ta("obv", bars.reverse())
    assert caught.value.rule == "sorted"
    with pytest.raises(InvalidRequest, match="not list"):
        from_pandas_ta("obv", [1.0])  # type: ignore[call-overload]


def test_its_warnings_stay_inside(bars: pl.DataFrame) -> None:
    # Both warn when called by hand: a tuple that is deprecated, a time zone that is dropped.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = from_pandas_ta("ichimoku", bars)
        assert from_pandas_ta("vwap", bars)["VWAP_D"].null_count() == 0
    assert not caught
    assert made.height == bars.height


def test_every_indicator_answers_or_refuses_with_a_typed_error(bars: pl.DataFrame) -> None:
    names = sorted({name for group in pandas_ta_classic.Category.values() for name in group})
    answered = 0
    for name in names:
        try:
            made = from_pandas_ta(name, bars)
        except InvalidRequest:
            continue
        answered += 1
        assert made.height == bars.height, name
        assert set(made.dtypes[2:]) == {pl.Float64}, name
    assert answered > 150


def test_without_the_package_the_error_says_how_to_get_it(bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pandas_ta, "_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(ConfigError, match=r"pip install 'massive-lab\[pandas-ta\]'"):
        from_pandas_ta("hma", bars)


def test_nothing_of_it_is_imported_before_it_is_asked_for() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from massive_lab.indicators.pandas_ta import from_pandas_ta\n"
        "print([name for name in ('pandas_ta_classic', 'numba', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_search_for_lookahead_tells_its_indicators_apart(bars: pl.DataFrame) -> None:
    assert prove_no_lookahead(lambda b: from_pandas_ta("supertrend", b, length=5), bars, n_prefixes=6).ok
    centred = prove_no_lookahead(lambda b: from_pandas_ta("dpo", b), bars, n_prefixes=6)
    assert centred.verdict == "leaking"
    assert prove_no_lookahead(lambda b: from_pandas_ta("dpo", b, centered=False), bars, n_prefixes=6).ok
