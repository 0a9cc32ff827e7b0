"""What a client is warned of, against the sandbox: polls beside a stream, and loads that repeat each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import massive_lab as ml
from massive_lab import telemetry as t
from massive_lab.sandbox.process import SandboxProcess

WAIT_S = 30.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7, paused=True) as process:
        yield process


@pytest.fixture
def lab(sandbox: SandboxProcess) -> Iterator[ml.Lab]:
    with ml.connect("sandbox", sandbox=sandbox) as lab:
        yield lab


def test_polling_what_is_streamed_is_told_with_the_lines_that_do_it(lab: ml.Lab) -> None:
    seen: list[t.DuplicateWork] = []
    lab.telemetry.add(lambda event: seen.append(event) if isinstance(event, t.DuplicateWork) else None)
    lab.last(["AAPL", "MSFT"])
    with lab.live("AAPL") as live:
        live.wait_live(WAIT_S)
        for _ in range(4):
            lab.last(["AAPL", "MSFT"])
        rows = lab.live.warnings().rows(named=True)
    (row,) = rows
    assert (row["kind"], row["topic"], row["cluster"]) == ("poll_beside_stream", "AAPL", None)
    assert [caller.partition(":")[0] for caller in row["callers"]] == ["test_warnings_sandbox.py"]
    assert [(event.kind, event.n) for event in seen] == [("poll_beside_stream", 3)]


def test_a_load_repeated_at_once_is_told_and_another_is_not(lab: ml.Lab) -> None:
    first = lab.bars(["AAPL", "MSFT"], "1d", "2018-11-01", "2018-12-01")
    lab.bars("AAPL", "1d", "2018-11-02", "2018-12-01")
    assert lab.live.warnings().is_empty()
    again = lab.bars("MSFT", "1d", "2018-11-01", "2018-12-01")
    assert again.equals(first.filter(symbol="MSFT"))
    (row,) = lab.live.warnings().rows(named=True)
    assert (row["kind"], row["topic"]) == ("repeated_load", "bars MSFT")
    assert len(row["callers"]) == 2
    assert all(caller.startswith("test_warnings_sandbox.py:") for caller in row["callers"])


def test_the_time_in_the_sandbox_decides_what_silence_means(lab: ml.Lab, sandbox: SandboxProcess) -> None:
    with lab.live("AAPL") as live:
        live.wait_live(WAIT_S)
        reader = live.trades()
        iter(reader)
        sandbox.control.jump(30.0)
        assert reader.get(WAIT_S) is not None
        hub = live.core.leases["stocks"].hub
        at_ns = hub.watch.market_ns()
        assert at_ns is not None
        assert abs(at_ns - sandbox.control.status()["now_ns"]) < 60 * 10**9
