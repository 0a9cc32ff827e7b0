"""Local and server indicators side by side, on the sandbox's independent arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import massive_lab as ml
from massive_lab.errors import InvalidRequest, UnknownSymbol
from massive_lab.sandbox.process import SandboxProcess


@pytest.fixture(scope="module")
def lab() -> Iterator[ml.Lab]:
    with SandboxProcess(seed=7, paused=True) as sandbox, ml.connect("sandbox", sandbox=sandbox, progress=False) as lab:
        yield lab


@pytest.mark.parametrize("symbol", ["AAPL", "I:SPX"])
@pytest.mark.parametrize(("indicator", "period"), [("sma", 20), ("ema", 20), ("rsi", 14), ("macd", None)])
def test_by_the_vendors_rules_nothing_differs_but_the_forgotten_past(lab, symbol: str, indicator: str, period) -> None:
    diff = lab.indicator_diff(symbol, indicator, "2018-11-01", "2018-12-19", period=period, warmup_bars=400)
    lines = {"macd": ["value", "signal", "histogram"]}.get(indicator, ["value"])
    assert diff["line"].unique(maintain_order=True).to_list() == lines
    assert diff["local"].null_count() == 0
    relative = (diff["difference"] / diff["server"].abs().max()).abs().max()
    assert relative < 1e-6


def test_a_short_warm_up_shows_as_nulls_and_differences(lab) -> None:
    diff = lab.indicator_diff("AAPL", "ema", "2018-11-01", "2018-12-19", period=20, warmup_bars=0)
    assert diff["local"].null_count() > 0
    assert diff["difference"].abs().max() > 1e-3


def test_another_convention_is_told_apart(lab) -> None:
    diff = lab.indicator_diff("AAPL", "ema", "2018-11-01", "2018-12-19", convention="tradingview", warmup_bars=20)
    assert diff["difference"].abs().max() > 1e-6


@pytest.mark.parametrize("bad", [{"warmup_bars": -1}, {"warmup_bars": 1.5}, {"convention": "mine"}, {"period": 0}])
def test_bad_input_is_refused(lab, bad: dict) -> None:
    with pytest.raises(InvalidRequest):
        lab.indicator_diff("AAPL", "ema", "2018-12-03", "2018-12-19", **bad)


def test_an_unknown_symbol_or_indicator_is_refused(lab) -> None:
    with pytest.raises(UnknownSymbol):
        lab.indicator_diff("NOSUCH", "ema", "2018-12-03", "2018-12-19")
    with pytest.raises(InvalidRequest):
        lab.indicator_diff("AAPL", "atr", "2018-12-03", "2018-12-19")
