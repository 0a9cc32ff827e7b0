"""The regime of the running day, over real sockets, while the sandbox's time moves from before the open to the close."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

import massive_lab as ml
from massive_lab.errors import InvalidRequest
from massive_lab.regime import STRICT_RULES
from massive_lab.sandbox import SandboxProcess

BEFORE, DURING, AFTER = (f"2018-12-20T{clock}:00-05:00" for clock in ("08:00", "14:00", "16:30"))


@pytest.fixture
def lab(sandbox: SandboxProcess) -> Iterator[ml.Lab]:
    with ml.connect("sandbox", sandbox=sandbox, progress=False) as lab:
        yield lab


def test_the_running_day_is_a_row_until_it_is_over(sandbox: SandboxProcess, lab: ml.Lab) -> None:
    sandbox.control.jump_to(BEFORE)
    early = lab.regime(live=True)
    assert (early.date, early.is_final) == (dt.date(2018, 12, 19), True)
    assert "No session is running: the last finished day is shown." in early.source_notes

    sandbox.control.jump_to(DURING)
    running, finished = lab.regime(live=True), lab.regime()
    assert (running.date, running.is_final) == (dt.date(2018, 12, 20), False)
    assert (finished.date, finished.is_final) == (dt.date(2018, 12, 19), True)
    values = dict(lab.indices(["I:SPX", "I:NDX", "I:VIX"]).select("symbol", "value").iter_rows())
    assert {f"I:{name.upper()}": running.inputs[name] for name in ("spx", "ndx", "vix")} == values
    assert running.history[:-1].equals(finished.history)
    assert running.reasons[-1] == "The day is not finished: its values and its label can still change."
    assert any(note.startswith("I:VIX is as of 1") for note in running.source_notes)
    assert any("SANDBOX" in note and "Composite" in note for note in running.source_notes)

    sandbox.control.jump_to(AFTER)
    late = lab.regime(live=True)
    assert (late.date, late.is_final, late.rules_version) == (dt.date(2018, 12, 20), True, STRICT_RULES.version)
    assert late.history[:-1].equals(finished.history)


def test_live_is_for_now_alone(lab: ml.Lab) -> None:
    before = lab.load_report().requests
    with pytest.raises(InvalidRequest, match="as_of names a finished day"):
        lab.regime(as_of="2018-12-18", live=True)
    with pytest.raises(InvalidRequest, match="live is 1"):
        lab.regime(live=1)  # type: ignore[arg-type]
    assert lab.load_report().requests == before
