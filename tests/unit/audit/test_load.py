from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.audit.load import NAIVE_INTERVAL_S, LoadRow, compare, predict
from massive_lab.errors import InvalidRequest, UnknownSymbol

_SYMBOLS = st.lists(
    st.one_of(
        st.from_regex(r"[A-Z]{1,5}", fullmatch=True),
        st.from_regex(r"I:[A-Z]{2,4}", fullmatch=True),
        st.builds(lambda strike: f"O:SPY190118C{strike * 1000:08d}", st.integers(1, 9999)),
    ),
    min_size=1,
    max_size=600,
    unique=True,
)


@given(_SYMBOLS, st.integers(1, 250))
def test_a_poll_takes_one_call_for_each_full_or_begun_batch(symbols: list[str], batch: int) -> None:
    plan = predict(symbols, batch=batch)
    assert sum(load.n_symbols for load in plan.clusters) == len(symbols)
    for load in plan.clusters:
        assert (load.batches - 1) * batch < load.n_symbols <= load.batches * batch
        assert load.fallback_per_minute == load.batches * 60 / load.interval_s
    assert plan.naive_per_minute == pytest.approx(len(symbols) * 60 / NAIVE_INTERVAL_S)


@given(_SYMBOLS)
def test_repeats_cost_nothing(symbols: list[str]) -> None:
    assert predict(symbols * 2) == predict(symbols)


def test_shared_polling_undercuts_naive_polling_from_a_few_symbols_on() -> None:
    plan = predict([f"S{chr(65 + i // 26)}{chr(65 + i % 26)}" for i in range(250)])
    assert (plan.worst_per_minute, plan.naive_per_minute, plan.sockets) == (15.0, 5_000.0, 1)


def test_three_classes_share_forty_calls_a_minute_and_a_basic_plan_four() -> None:
    watchlist = ["SPY", "AAPL", "I:SPX", "O:SPY190118C00250000"]
    plan = predict(watchlist)
    assert {load.cluster: load.fallback_per_minute for load in plan.clusters} == {
        "stocks": 11.0, "options": 21.0, "indices": 8.0
    }  # fmt: skip
    assert predict(watchlist, calls_per_minute=5).worst_per_minute == 4.0


@pytest.mark.parametrize(
    ("watchlist", "error"), [([], InvalidRequest), (["X:BTCUSD"], UnknownSymbol), (["spy"], UnknownSymbol)]
)
def test_bad_watchlists_are_refused(watchlist: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        predict(watchlist)


def test_nonsense_schedules_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        predict(["SPY"], batch=0)
    with pytest.raises(InvalidRequest):
        predict(["SPY"], interval_s={"stocks": 0.0})


def test_what_one_side_does_not_know_is_a_row_too() -> None:
    rows = compare({("live", "trades"): 2}, {("load", "chain"): 3.0, ("live", "chain"): 0.0}, windows={"live": 30.0})
    assert [(r.phase, r.endpoint, r.calls, r.predicted) for r in rows] == [
        ("load", "chain", 0, 3.0), ("live", "chain", 0, 0.0), ("live", "trades", 2, 0.0)
    ]  # fmt: skip
    assert [r.deviation for r in rows] == [-1.0, 0.0, math.inf]
    assert [r.per_minute(r.calls) for r in rows] == [None, 0.0, 4.0]


def test_a_rate_needs_a_window() -> None:
    assert LoadRow("load", "chain", 3, 3.0).per_minute(3) is None
    assert LoadRow("live", "chain", 3, 3.0, 10.0).per_minute(None) is None
