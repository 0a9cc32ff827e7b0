"""The live macro context over real sockets, beside what the same client gives by REST at the same moment."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import re
import weakref
from collections.abc import Callable, Iterator

import polars as pl
import pytest

import massive_lab as ml
from massive_lab.errors import ClosedError, InvalidRequest, Timeout
from massive_lab.live.macro.macro import Macro
from massive_lab.live.registry import n_hubs
from massive_lab.sandbox import SandboxProcess

WAIT_S = 30.0
DAY = dt.date(2018, 12, 20)
SPECS = ["ema_20", "rsi_14", "atr_14", "macd_12_26_9"]


@pytest.fixture
def lab(sandbox: SandboxProcess) -> Iterator[ml.Lab]:
    with ml.connect("sandbox", sandbox=sandbox, progress=False) as lab:
        yield lab
    assert n_hubs() == 0


def until(condition: Callable[[], object]) -> None:
    """Bounded by turns: the loop thread takes the frames that the sandbox has already sent."""
    loop = asyncio.new_event_loop()
    try:
        for _ in range(6_000):
            if condition():
                return
            loop.run_until_complete(asyncio.sleep(0.005))
    finally:
        loop.close()
    raise AssertionError("the condition never came true")


def caught_up(macro: Macro, lab: ml.Lab) -> Callable[[], bool]:
    """Whether the newest values that REST tells have come over the socket too."""
    rest = lab.indices(["I:SPX", "I:NDX", "I:VIX"]).select("symbol", pl.col("ts_updated").dt.epoch("ms")).rows()

    def check() -> bool:
        return sorted(macro.frame().select("symbol", pl.col("ts_event").dt.epoch("ms")).rows()) == sorted(rest)

    return check


def test_through_a_day_it_is_what_the_loaders_give(sandbox: SandboxProcess, lab: ml.Lab) -> None:
    sandbox.control.jump_to("2018-12-20T09:00:00-05:00")
    with lab.live.macro() as macro:
        macro.wait_live(WAIT_S)
        assert repr(macro) == "<SANDBOX Macro risk_off as of 2018-12-19>"
        assert macro.regime.history.equals(lab.regime().history)
        assert "No session is running: the last finished day is shown." in macro.regime.source_notes
        first = macro.wait_change(0.0)
        assert (first.before, first.label, first.is_final) == (None, "risk_off", True)

        # Into the session, over the opening: the running day is a row, and its indicators those of its bars.
        sandbox.control.jump_to("2018-12-20T10:00:00-05:00")
        until(caught_up(macro, lab))
        by_rest, now = lab.regime(live=True), macro.regime
        assert (now.date, now.is_final, now.label) == (DAY, False, by_rest.label)
        assert now.history.equals(by_rest.history)
        assert any("SANDBOX" in note for note in now.source_notes)
        assert any(note.startswith("I:VIX is as of 09:5") and note.endswith("(stream).") for note in now.source_notes)
        day = lab.bars(["I:NDX", "I:SPX", "I:VIX"], "1d", "2015-12-21", "2018-12-21")
        expected = ml.indicators.apply(day, SPECS).group_by("symbol").last().sort("symbol")
        shown = macro.frame().sort("symbol")
        names = ["symbol", "open", "high", "low", *expected.columns[10:]]
        assert shown.select(names).equals(expected.select(names))
        assert shown.select("value").equals(expected.select(value="close"))
        assert shown["source"].to_list() == ["stream"] * 3

        # Minutes: those of yesterday came by REST, those of today by the stream. A minute comes a second after its end.
        sandbox.control.jump_to("2018-12-20T10:00:05-05:00")
        starts = dt.datetime(2018, 12, 20, 14, 59, tzinfo=dt.UTC)
        until(lambda: macro.frame("1m")["ts_bar"].to_list() == [starts] * 3)
        minutes = lab.bars(["I:NDX", "I:SPX", "I:VIX"], "1m", "2018-12-19", "2018-12-20T10:00:00-05:00")
        expected = ml.indicators.apply(minutes, SPECS).group_by("symbol").last().sort("symbol")
        shown = macro.frame("1m").sort("symbol")
        assert shown.select(expected.columns[10:]).equals(expected.select(expected.columns[10:]))
        assert macro.frame("1s")["ema_20"].null_count() < 3
        with pytest.raises(InvalidRequest, match="timeframe is '5m'"):
            macro.frame("5m")

        # The close: the day's final bars come by REST, once, and the day is a finished one.
        sandbox.control.jump_to("2018-12-20T15:59:50-05:00", deliver=False)
        sandbox.control.jump(30.0)
        until(lambda: macro.regime.is_final)
        assert (macro.regime.date, macro.frame()["value"].null_count()) == (DAY, 3)
        assert macro.regime.history.equals(lab.regime().history)
        assert macro.history()["label"][0] == "risk_off"
        assert macro.errors == ()

        # The next day is another row on top of it.
        sandbox.control.jump_to("2018-12-21T09:29:50-05:00", deliver=False)
        sandbox.control.jump(60.0)
        until(caught_up(macro, lab))
        assert macro.regime.date == dt.date(2018, 12, 21)
        assert macro.regime.history.equals(lab.regime(live=True).history)
    with pytest.raises(ClosedError):
        macro.wait_change(0.0)
    assert repr(macro).endswith("closed>")
    assert macro.regime.date == dt.date(2018, 12, 21)


def test_it_shares_the_subscriptions_of_everybody_else_and_leaves_nothing(sandbox: SandboxProcess, lab: ml.Lab) -> None:
    sandbox.control.jump_to("2018-12-26T12:00:00-05:00")
    sandbox.control.reset_counts()
    live = lab.live(["I:SPX"], channels=("V", "AM")).wait_live(WAIT_S)
    macro = lab.live.macro(indicators=["ema_5"]).wait_live(WAIT_S)
    twin = lab.live.macro(indicators=["ema_5"]).wait_live(WAIT_S)
    count = sandbox.control.counts()["ws"]["indices"]
    assert (count["opened"], count["subscribe_params"]) == (1, 9)
    sandbox.control.jump(20.0)
    until(caught_up(macro, lab))
    until(caught_up(twin, lab))
    assert macro.frame().drop("age_s").equals(twin.frame().drop("age_s"))
    assert macro.wait_change(0.0) == twin.wait_change(0.0)
    with pytest.raises(Timeout):
        macro.wait_change(0.0)
    twin.close()
    gone = weakref.ref(macro)
    del macro
    gc.collect()
    assert gone() is None
    live.close()
    until(lambda: n_hubs() == 0)


def test_while_the_socket_is_down_the_poll_feeds_it_and_the_stream_takes_over_again(
    sandbox: SandboxProcess, lab: ml.Lab
) -> None:
    sandbox.control.jump_to("2018-12-27T11:00:00-05:00", deliver=False)
    with lab.live.macro(stale_s=600.0).wait_live(WAIT_S) as macro:
        fault = sandbox.control.add_fault("refuse_upgrade", scope="indices")
        for connection in sandbox.control.connections():
            if connection["open"]:
                sandbox.control.close_connection(connection["id"], abrupt=True)
        sandbox.control.jump(90.0)
        until(lambda: macro.frame()["source"].to_list() == ["poll"] * 3)
        until(caught_up(macro, lab))
        assert macro.regime.history.equals(lab.regime(live=True).history)
        assert any(note.endswith("(poll).") for note in macro.regime.source_notes)
        sandbox.control.remove_fault(fault)
        until(lambda: macro.live.status()["state"].to_list() == ["live"])
        macro.wait_live(WAIT_S)
        sandbox.control.jump(30.0)
        until(lambda: macro.frame()["source"].to_list() == ["stream"] * 3)
        until(caught_up(macro, lab))
        assert macro.regime.history.equals(lab.regime(live=True).history)


def test_a_stale_input_is_said_while_the_others_go_on(sandbox: SandboxProcess, lab: ml.Lab) -> None:
    sandbox.control.jump_to("2018-12-28T11:00:00-05:00", deliver=False)
    sandbox.control.add_fault("not_authorized", scope="V.I:VIX")
    sandbox.control.add_fault("not_authorized", scope="A.I:VIX")
    sandbox.control.add_fault("not_authorized", scope="AM.I:VIX")
    try:
        with lab.live.macro(stale_s=120.0) as macro:
            sandbox.control.jump(200.0)
            until(lambda: macro.frame()["is_stale"].to_list() == [False, False, True])
            regime = macro.regime
            assert (regime.date, regime.inputs["vix"]) == (dt.date(2018, 12, 28), macro.frame()["value"][2])
            (stale,) = (note for note in regime.source_notes if "stale" in note)
            assert re.fullmatch(r"I:VIX is stale: its newest value is \d+ s old\.", stale)
            assert {getattr(error, "topic", None) for error in macro.errors} >= {"V.I:VIX", "A.I:VIX", "AM.I:VIX"}
    finally:
        sandbox.control.reset_faults()


def test_from_an_event_loop(sandbox: SandboxProcess) -> None:
    async def main() -> None:
        async with ml.aconnect("sandbox", sandbox=sandbox, progress=False) as lab:
            async with await lab.live.amacro(years=2) as macro:
                await macro.await_live()
                change = await macro.await_change()
                assert change.label == macro.regime.label
            with pytest.raises(ClosedError):
                await macro.await_change()

    asyncio.run(main())


def test_what_it_cannot_do_is_said_before_anything_is_asked(lab: ml.Lab) -> None:
    before = lab.load_report().requests
    for wrong in ({"years": 0}, {"stale_s": 0}, {"stale_s": "30"}, {"indicators": ["session_vwap"]}, {"indicators": "ema_20"}):
        with pytest.raises(InvalidRequest):
            lab.live.macro(**wrong)
    assert lab.load_report().requests == before
    assert n_hubs() == 0
