"""Polling in place of lost sockets, against the sandbox: its own count of calls is the referee."""

from __future__ import annotations

import polars as pl
import pytest

import massive_lab as ml
from massive_lab import telemetry as t
from massive_lab.sandbox.process import SandboxProcess
from tests.e2e.ear import Ear

WAIT_S = 30.0
TEN = ["SPY", "AAPL", "MSFT", "QQQ", "I:SPX", "I:NDX", "I:VIX"]


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(at <= other < at + 60.0 for other in times) for at in times)


def test_ten_symbols_of_three_classes_make_forty_calls_a_minute_as_announced_and_as_the_server_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from massive_lab.audit import scenario

    for name in ("MASSIVE_LAB_AUDIT_ENDPOINTS", "MASSIVE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    audit = scenario.begin("sandbox", TEN, duration_s=120)
    chain = audit.lab.chain("SPY")
    symbols = [*TEN, *chain["contract"].to_list()[:3]]
    audit.streamed = symbols
    live = audit.lab.live(symbols, channels=["T", "Q", "V"])
    try:
        with audit.phase("live"):
            live.wait_live(WAIT_S)
        drop = audit.drop()
        status = audit.lab.live.status()
        assert audit._control is not None
        served = audit._control.counts()["rest"]["endpoints"]["snapshot"]["requests"]
    finally:
        audit.close(live)
    assert drop is not None
    assert drop["polls"].to_list() == drop["expected"].to_list()
    assert served == drop["polls"].sum()
    times = sorted(at for polled in audit.recorder.read(lambda r: list(r.polled_at_s.values())) for at in polled)
    naive = len(symbols) * 60 / 3
    assert 20 < most_in_a_minute(times) <= 40 == naive / 5
    shown = {row["cluster"]: row for row in status.iter_rows(named=True)}
    assert {row["serving"] for row in shown.values()} == {"poll"}
    assert shown["stocks"]["poll_note"] == "degraded: each symbol every 5.45 s instead of 4 s"
    assert (shown["stocks"]["poll_symbols"], shown["options"]["poll_symbols"]) == (4, 3)


def test_socket_and_rest_both_dead_is_shown_and_each_comes_back_without_a_double_row(sandbox: SandboxProcess) -> None:
    control, ear = sandbox.control, Ear()
    control.reset_faults()
    with ml.connect("sandbox", sandbox=sandbox, max_attempts=1) as lab:
        lab.telemetry.add(ear)
        live = lab.live(["AAPL", "SPY"]).wait_live(WAIT_S)
        control.jump(30.0)
        ear.wait(lambda: ear.of(t.FrameReceived))
        rest = control.add_fault("http_5xx", scope="snapshot", status=503)
        socket = control.add_fault("refuse_upgrade", scope="stocks")
        for connection in control.connections():
            if connection["open"]:
                control.close_connection(connection["id"], abrupt=True)
        ear.wait(lambda: "down" in ear.states())
        (row,) = lab.live.status().iter_rows(named=True)
        assert (row["state"], row["serving"]) == ("down", "none")
        control.jump(30.0)
        control.remove_fault(rest)
        ear.wait(lambda: ear.of(t.PollTick))
        ear.wait(lambda: ear.states()[-1] == "polling")
        (row,) = lab.live.status().iter_rows(named=True)
        assert (row["state"], row["serving"], row["poll_symbols"]) == ("polling", "poll", 2)
        control.remove_fault(socket)
        ear.wait(lambda: ear.of(t.FallbackStopped))
        ear.wait(lambda: len(ear.of(t.TopicConfirmed)) == 12)
        n_frames = len(ear.of(t.FrameReceived))
        control.jump(30.0)
        ear.wait(lambda: len(ear.of(t.FrameReceived)) > n_frames)
        assert live.status()["serving"].to_list() == ["stream"]
        trades = live.trades().frame()
        key = ["symbol", pl.col("ts_sip").dt.epoch("ms"), "price", "size"]
        polled, streamed = (trades.filter(source=source).select(key) for source in ("poll", "stream"))
        assert polled.height > 0
        assert polled.join(streamed, on=polled.columns).is_empty(), "what was polled is not streamed again"
        assert not polled.is_duplicated().any()
