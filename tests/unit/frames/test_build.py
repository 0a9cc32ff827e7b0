from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from massive_lab.errors import DecodeError, FrameInvariantError
from massive_lab.frames.build import build, concat, dtype, empty, sort, to_schema
from massive_lab.schema.columns import SCHEMAS


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_every_table_has_an_empty_frame_of_its_schema(name: str):
    table = SCHEMAS[name]
    for frame in (empty(name), build(name, {}), build(name, {}, 0), concat(name, []), concat(name, [empty(name)])):
        assert frame.height == 0
        assert frame.columns == list(table.names)
        assert frame.schema == to_schema(name)
    filled = build(name, {}, 3)
    assert filled.height == 3
    assert filled.schema == to_schema(name)
    assert all(column.null_count() == 3 for column in filled)


def test_types_are_those_of_the_vocabulary():
    assert dtype("ts") == pl.Datetime("ns", "UTC")
    assert dtype("list_i64") == pl.List(pl.Int64)
    with pytest.raises(KeyError):
        dtype("f32")


def test_order_types_and_missing_columns():
    frame = build("values", {"value": [1, 2.5], "symbol": "I:SPX"})
    assert frame.columns == ["symbol", "ts_event", "value"]
    assert frame["value"].to_list() == [1.0, 2.5]
    assert frame["symbol"].to_list() == ["I:SPX"] * 2
    assert frame["ts_event"].null_count() == 2


@pytest.mark.parametrize(
    "times",
    [
        [1_748_871_000_123_456_789, None],
        np.array([1_748_871_000_123_456_789, 0]),
        np.array([1_748_871_000_123_456_789, 0], "datetime64[ns]"),
        pl.Series([1_748_871_000_123_456_789, 0]),
        pl.Series([1_748_871_000_123_456_789, 0]).cast(pl.Datetime("ns", "UTC")),
    ],
)
def test_times_keep_their_nanosecond(times: object):
    frame = build("values", {"ts_event": times})
    assert frame["ts_event"].cast(pl.Int64)[0] == 1_748_871_000_123_456_789
    assert frame.schema == to_schema("values")


def test_datetimes_and_dates():
    moment = dt.datetime(2025, 6, 2, 13, 30, tzinfo=dt.UTC)
    assert build("values", {"ts_event": [moment]})["ts_event"][0] == moment
    assert build("holidays", {"date": [dt.date(2025, 7, 4)]})["date"][0] == dt.date(2025, 7, 4)


def test_a_single_value_makes_one_row_or_fills_many():
    assert build("values", {"symbol": "A", "value": 1}).height == 1
    assert build("values", {"symbol": "A", "value": 1.0}, 4)["value"].to_list() == [1.0] * 4


def test_unknown_columns_and_lengths():
    with pytest.raises(FrameInvariantError, match="'price'") as found:
        build("bars", {"price": [1]})
    assert found.value.rule == "columns"
    with pytest.raises(FrameInvariantError) as found:
        build("bars", {"open": [1], "high": [1, 2]})
    assert found.value.rule == "length"
    with pytest.raises(FrameInvariantError):
        build("bars", {"open": [1]}, 2)
    with pytest.raises(KeyError):
        build("candles", {})


@pytest.mark.parametrize(
    "columns",
    [
        {"open": [float("nan")]},
        {"open": [float("inf")]},
        {"open": float("nan")},
        {"open": np.array([1.0, np.nan])},
        {"open": ["1"]},
        {"symbol": [5]},
        {"trade_count": [1.5]},
        {"trade_count": [2**63]},
        {"ts_event": ["2025-06-02"]},
        {"ts_event": pl.Series(["soon"])},
        {"open": [{}]},
    ],
)
def test_values_of_another_type_raise(columns: dict[str, object]):
    with pytest.raises(DecodeError) as found:
        build("bars", columns)
    assert "\n" not in str(found.value)


def test_concat_checks_schemas():
    one, two = build("values", {"value": [1]}), build("values", {"value": [2]})
    assert concat("values", [one, empty("values"), two])["value"].to_list() == [1.0, 2.0]
    with pytest.raises(FrameInvariantError) as found:
        concat("values", [one, two.with_columns(value=pl.lit(1))])
    assert found.value.rule == "schema"


def test_sort_is_stable_and_puts_nulls_first():
    columns = {"symbol": "A", "ts_sip": [2, 1, 1, 1], "sequence": [1, 5, None, 5], "price": [1, 2, 3, 4]}
    frame = sort("trades", build("trades", columns))
    assert frame["price"].to_list() == [3, 2, 4, 1]
