"""The row of a running day against the whole classification, bit for bit."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.regime import DEFAULT_RULES, STRICT_RULES, LiveValues, classify
from massive_lab.regime.running import Running

# Short windows, so that short histories are warm; the laws do not depend on lengths.
SHORT = replace(
    DEFAULT_RULES, trend_sessions=5, fast_sessions=3, momentum_sessions=8, vol_sessions=3, vol_history=6, vix_history=6
)
RULES = [SHORT, replace(SHORT, vix_required=True), STRICT_RULES]
START = dt.date(2020, 1, 1)


def _index(rng: np.random.Generator, n: int, level: float, vol: float, keep: float) -> pl.DataFrame:
    path = level * np.exp(np.cumsum(rng.normal(0.0, vol, n)))
    # Rounded, so that distances of exactly nothing and values on a floor occur.
    frame = pl.DataFrame({"date": [START + dt.timedelta(days=i) for i in range(n)], "close": path.round(0)})
    return frame.filter(pl.Series(rng.random(n) < keep))


@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(0, 40), rules=st.sampled_from(RULES[:2]), later=st.integers(0, 3),
    missing=st.sampled_from(["", "ndx", "vix", "ndx vix"]), flat=st.booleans(),
)  # fmt: skip
def test_the_row_is_that_of_the_whole(seed, n, rules, later, missing, flat):
    rng = np.random.default_rng(seed)
    vol = 0.0 if flat else 0.02
    spx, ndx, vix = _index(rng, n, 100, vol, 1.0), _index(rng, n, 300, vol, 0.9), _index(rng, n, 20, 0.15, 0.85)
    day = START + dt.timedelta(days=n - 1 + later) if n else START
    running = Running(spx, ndx, vix, day, rules=rules)
    for _ in range(3):
        values = {"ndx": 300 * (1 + rng.normal(0, 0.05)), "vix": float(rng.choice([13.0, 15.0, 20.0, 29.0, 30.0, 44.0]))}
        live = LiveValues(day, round(100 * (1 + rng.normal(0, 0.05))), **{k: v for k, v in values.items() if k not in missing})
        whole = classify(spx, ndx, vix, rules=rules, live=live)
        assert running.frame(live).equals(whole, null_equal=True)


def test_three_years_with_the_usual_rules():
    rng = np.random.default_rng(11)
    spx, ndx, vix = _index(rng, 780, 4000, 0.01, 1.0), _index(rng, 780, 15000, 0.012, 0.99), _index(rng, 780, 20, 0.06, 1.0)
    day = START + dt.timedelta(days=800)
    running = Running(spx, ndx, vix, day, rules=STRICT_RULES)
    for spx_now, vix_now in ((spx["close"][-1], 14.0), (1.0, 60.0), (1e6, None)):
        live = LiveValues(day, spx_now, ndx["close"][-1], vix_now)
        assert running.frame(live).equals(classify(spx, ndx, vix, rules=STRICT_RULES, live=live))


def test_what_is_wrong_is_said():
    rng = np.random.default_rng(3)
    index = _index(rng, 20, 100, 0.02, 1.0)
    with pytest.raises(InvalidRequest, match="has a bar of 2020-01-20"):
        Running(index, index, index, dt.date(2020, 1, 19))
    running = Running(index, index, index, dt.date(2020, 1, 21))
    with pytest.raises(InvalidRequest, match="the running day is 2020-01-21"):
        running.row(LiveValues(dt.date(2020, 1, 22), 100.0))
    with pytest.raises(FrameInvariantError, match="live value of VIX is nan"):
        running.row(LiveValues(running.day, 100.0, 100.0, float("nan")))
