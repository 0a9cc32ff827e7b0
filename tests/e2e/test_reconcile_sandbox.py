"""The sandbox's ticks explain its bars completely: over REST and over the socket, of stocks and of an option."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

import massive_lab as ml
from massive_lab import telemetry as t
from massive_lab.errors import InvalidRequest
from massive_lab.live.session import Live
from massive_lab.sandbox import SandboxProcess

WAIT_S = 30.0
NOW = "2018-12-20T15:45:00-05:00"


@pytest.fixture
def lab(sandbox: SandboxProcess) -> Iterator[ml.Lab]:
    sandbox.control.reset_faults()
    with ml.connect("sandbox", sandbox=sandbox, progress=False) as lab:
        yield lab


def busiest(lab: ml.Lab) -> str:
    chain = lab.chain("SPY", expiration="2018-12-21")
    return str(chain.sort("day_volume", descending=True, nulls_last=True)["contract"][0])


def until(condition: Callable[[], object]) -> None:
    loop = asyncio.new_event_loop()
    try:
        for _ in range(6_000):
            if condition():
                return
            loop.run_until_complete(asyncio.sleep(0.005))
    finally:
        loop.close()
    raise AssertionError("the condition never came true")


@pytest.mark.parametrize("timeframe", ["1m", "1s"])
def test_a_finished_day_by_rest_is_explained_to_the_last_bar(sandbox: SandboxProcess, lab: ml.Lab, timeframe: str) -> None:
    sandbox.control.jump_to(NOW, deliver=False)
    symbols = ["AAPL", "SPY", busiest(lab)]
    day = ("2018-12-19", "2018-12-20")
    trades, bars = lab.trades(symbols, *day), lab.bars(symbols, timeframe, *day)
    midnight = dt.datetime(2018, 12, 19, 5, tzinfo=dt.UTC)
    whole = {"start": midnight, "end": midnight + dt.timedelta(days=1)}
    made = ml.reconcile_bars(trades, bars, lab.conditions(), timeframe, **whole)
    assert {"late_print", "odd_lot", "condition_code"} == set(made["cause"])
    assert made["built"].equals(made["vendor"])
    # All the bars there are, and not only those that differ: the rules make each of them.
    assert made.filter(field="bar")["vendor"].null_count() == made.filter(field="bar").height
    assert set(made["symbol"]) == {"AAPL", "SPY"}  # an option's trades are its bars as they are
    assert bars.filter(symbol=symbols[2]).height > 10
    some = trades.filter(~(trades["symbol"] == symbols[2]) | (trades["sequence"] % 2 == 0))
    holes = ml.reconcile_bars(some, bars, lab.conditions(), timeframe, **whole)
    assert set(holes.filter(symbol=symbols[2])["cause"]) == {"unexplained"}


def test_a_live_feed_through_the_close_is_explained_by_its_own_ticks(sandbox: SandboxProcess, lab: ml.Lab) -> None:
    sandbox.control.jump_to(NOW, deliver=False)
    option = busiest(lab)
    sandbox.control.reset_counts()
    heard: Counter[str] = Counter()

    def count(event: t.Event) -> None:
        if isinstance(event, t.FrameReceived):
            for topic, n in event.by_topic:
                heard[topic] += n

    lab.telemetry.add(count)
    with lab.live(["AAPL", "SPY", option], channels=("T", "A", "AM")).wait_live(WAIT_S) as live:
        for _ in range(3):
            sandbox.control.jump(400.0)
        served = {name: n for c in sandbox.control.counts()["ws"].values() for name, n in c["topics"].items()}
        until(lambda: heard == served)
        for timeframe in ("1m", "1s"):
            made = lab.live.reconcile(live, timeframe=timeframe)
            assert {"odd_lot", "condition_code"} <= set(made["cause"]) <= {"odd_lot", "condition_code", "late_print", "rounding"}
            known = made.filter(made["cause"] != "rounding").filter(~made["detail"].str.starts_with("It is from before"))
            assert known["built"].equals(known["vendor"])
            by_rest = lab.live.reconcile(live, ["AAPL", "SPY"], timeframe=timeframe, bars="rest")
            assert not {"unexplained", "missing_trade", "missing_bar"} & set(by_rest["cause"])
            assert set(by_rest["symbol"]) == {"AAPL", "SPY"}
        assert lab.live.reconcile(live, option).height == 0
        assert live.bars(option, channel="A").frame().height > 5
        _refusals(lab, live)


@pytest.mark.parametrize("rest_answers", [True, False], ids=["filled", "not_filled"])
def test_an_outage_that_was_filled_leaves_nothing_and_one_that_was_not_is_named(
    sandbox: SandboxProcess, lab: ml.Lab, rest_answers: bool
) -> None:
    sandbox.control.jump_to(f"2018-12-21T{11 if rest_answers else 12}:00:00-05:00", deliver=False)
    filled, back = [], []
    lab.telemetry.add(lambda event: filled.append(event) if isinstance(event, t.GapFilled) else None)
    lab.telemetry.add(lambda event: back.append(event) if isinstance(event, t.TopicConfirmed) else None)
    with lab.live(["AAPL"], channels=("T", "A", "AM")).wait_live(WAIT_S) as live:
        sandbox.control.jump(200.0)
        until(lambda: live.bars("AAPL", channel="AM").frame().height >= 3)
        down = sandbox.control.add_fault("refuse_upgrade", scope="stocks")
        for scope in () if rest_answers else ("trades", "aggs_range"):
            sandbox.control.add_fault("http_5xx", scope=scope, status=503)
        for connection in sandbox.control.connections():
            if connection["open"]:
                sandbox.control.close_connection(connection["id"], abrupt=True)
        until(lambda: live.status()["state"].to_list() != ["live"])
        sandbox.control.jump(200.0)
        sandbox.control.remove_fault(down)
        until(lambda: len(back) == 6)
        sandbox.control.jump(200.0)
        until(lambda: live.bars("AAPL", channel="AM").frame().height >= (9 if rest_answers else 5))
        if rest_answers:
            until(lambda: len(filled) == 3)
            assert live.gaps()["state"].to_list() == ["filled"] * 3
        for timeframe in ("1m", "1s"):
            found = set(lab.live.reconcile(live, timeframe=timeframe)["cause"])
            assert "unexplained" not in found
            if rest_answers:
                assert not {"missing_trade", "missing_bar"} & found
        if not rest_answers:
            assert {"missing_trade", "missing_bar"} & set(lab.live.reconcile(live)["cause"])


def _refusals(lab: ml.Lab, live: Live) -> None:
    with pytest.raises(InvalidRequest, match="timeframe is '5m'"):
        lab.live.reconcile(live, timeframe="5m")
    with pytest.raises(InvalidRequest, match="bars is 'file'"):
        lab.live.reconcile(live, bars="file")
    with pytest.raises(InvalidRequest, match="'AAPL' is not a feed"):
        lab.live.reconcile("AAPL")
    with pytest.raises(InvalidRequest, match="no topic"):
        lab.live.reconcile(live, "MSFT")
    with lab.live(["AAPL"], channels=("T",)) as lone, pytest.raises(InvalidRequest, match="no topic AM"):
        lab.live.reconcile(lone)


def test_from_an_event_loop_and_before_anything_has_come(sandbox: SandboxProcess) -> None:
    async def main() -> None:
        async with (
            ml.aconnect("sandbox", sandbox=sandbox, progress=False) as lab,
            lab.live(["AAPL"], channels=("T", "AM")) as live,
        ):
            assert (await lab.live.areconcile(live)).height == 0
            with pytest.raises(InvalidRequest, match="No trade has come yet"):
                await lab.live.areconcile(live, bars="rest")

    asyncio.run(main())
