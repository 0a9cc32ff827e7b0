from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from massive_lab.errors import InvalidRequest
from massive_lab.indicators import SessionVWAP, session_vwap


def _minutes(n: int, start_ns: int) -> pl.DataFrame:
    ts = [start_ns + i * 60 * 10**9 for i in range(n)]
    prices = [100.0 + (i * 7) % 11 for i in range(n)]
    return pl.DataFrame(
        {
            "symbol": ["A"] * n,
            "ts_event": pl.Series(ts).cast(pl.Datetime("ns", "UTC")),
            "high": [p + 1 for p in prices],
            "low": [p - 1 for p in prices],
            "close": prices,
            "volume": [float(1 + i % 5) for i in range(n)],
        }
    )


def test_an_instant_anchors_the_sums_for_good() -> None:
    first = 1_545_143_400_000_000_000  # 2018-12-18 09:30 New York
    bars = _minutes(2_000, first)  # runs over the close and the next open
    text = "2018-12-18T10:00:00-05:00"
    moment = dt.datetime.fromisoformat(text)
    found = bars.with_columns(session_vwap(anchor=text, name="a"), session_vwap(anchor=moment, name="b"))
    assert found["a"].to_list() == found["b"].to_list()
    assert found["a"].null_count() == 30
    since = bars.slice(30).with_columns(typical=(pl.col("high") + pl.col("low") + pl.col("close")) / 3)
    whole = (since["typical"] * since["volume"]).sum() / since["volume"].sum()
    assert found["a"][-1] == pytest.approx(whole, rel=1e-12)
    twin = SessionVWAP(text)
    rows = bars.select(pl.col("ts_event").dt.epoch("ns"), "high", "low", "close", "volume").iter_rows()
    assert [twin.update(*row) for row in rows] == found["a"].to_list()
    assert SessionVWAP.restore(twin.snapshot()).value == twin.value


@pytest.mark.parametrize("bad", ["2018-12-18T10:00:00", "noon", dt.datetime(2018, 12, 18, 10), 7, None])
def test_an_anchor_that_is_none_is_refused(bad: object) -> None:
    with pytest.raises(InvalidRequest, match="no anchor"):
        session_vwap(anchor=bad)
    with pytest.raises(InvalidRequest, match="no anchor"):
        SessionVWAP(bad)
