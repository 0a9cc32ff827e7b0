"""A session recorded once, and what it must give for ever: the format is read, and the code that plays it decides the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from massive_lab import telemetry as t
from massive_lab.errors import InvalidRequest
from massive_lab.lab.replay import replay
from massive_lab.live.capture import player
from massive_lab.live.capture.output import Output
from massive_lab.live.capture.player import Player
from massive_lab.live.capture.reader import Capture

SESSION = Path(__file__).resolve().parents[3] / "golden" / "capture" / "session.mlcap"
CHAIN = "83a53ca269ee167a3a7e2bedac2abaf1c9411c160522622d43a95e2838374123"
EVENTS = "8d469fc3dde5169b452f54533b205e689d90a8cac8cf4847f28c1110f2479631"


@pytest.fixture(scope="module")
def played():
    return replay(SESSION).run()


def test_the_file_is_the_one_that_was_recorded(played):
    summary = played.summary
    assert (summary.sha256, summary.is_complete, summary.n_records, summary.is_sandbox) == (CHAIN, True, 130, True)


def test_the_same_events_come_out_in_the_same_order_with_the_same_times(played):
    digest = hashlib.sha256()
    for event in played.events:
        digest.update(repr(event).encode())
    assert digest.hexdigest() == EVENTS


@pytest.mark.parametrize(
    ("kind", "sources"),
    [
        ("trades", {"backfill": 17, "poll": 2, "stream": 68}),
        ("quotes", {"backfill": 25, "poll": 2, "stream": 95}),
        ("bars", {"stream": 6}),
        ("values", {"stream": 120}),
    ],
)
def test_the_tables_are_those_of_the_session(played, kind, sources):
    assert dict(played.frame(kind)["source"].value_counts().rows()) == sources


def test_the_outage_the_polls_the_return_and_the_filled_gaps_are_there(played):
    status = {row["cluster"]: row for row in played.status.rows(named=True)}
    assert (status["stocks"]["polls"], status["stocks"]["reconnects"], status["indices"]["reconnects"]) == (2, 1, 0)
    assert played.gaps["state"].to_list() == ["filled"] * 6
    told = [type(event) for event in played.telemetry]
    assert told.index(t.FallbackStarted) < told.index(t.Reconnected) < told.index(t.GapFilled)


def test_two_replays_of_it_are_the_same_bytes(played):
    assert replay(SESSION).sha256 == played.sha256


@pytest.mark.parametrize("speed", [1, 4, 0.25])
def test_at_a_speed_the_same_comes_out_and_the_waits_add_up_to_the_session(played, monkeypatch, speed):
    waited = [0.0]

    class Real:
        def monotonic(self) -> float:
            return waited[0]

    class Turns(player._Turns):
        """Counts the waiting instead of doing it."""

        def select(self, timeout=None):
            if timeout is None or timeout > 0:
                waited[0] += self._idle()
            return self._real.select(0)

    monkeypatch.setattr(player, "SystemClock", Real)
    monkeypatch.setattr(player, "_Turns", Turns)
    assert replay(SESSION).run(speed=speed).sha256 == played.sha256
    records = [record.mono_ns for record in Capture(SESSION)]
    assert waited[0] == pytest.approx((max(records) - records[0]) / 1e9 / speed)


def test_a_replay_that_is_left_early_closes_its_file_and_its_loop_at_once():
    playing = Player(Capture(SESSION), Output(keeps_events=True))
    turns = playing.turns(stop_for_events=True)
    next(turns)
    turns.close()
    assert playing._loop.is_closed()
    assert playing._records.gi_frame is None, "the file is open until the collector comes"


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf"), "fast"], ids=repr)
def test_what_is_no_speed_is_refused(played, speed):
    with pytest.raises(InvalidRequest, match="speed is"):
        played.run(speed=speed)


def test_a_table_that_does_not_exist_is_refused(played):
    with pytest.raises(InvalidRequest, match="no table 'ticks'"):
        played.frame("ticks")
    with pytest.raises(InvalidRequest, match="channel 'T'"):
        played.frame("bars", channel="T")
    assert played.frame("bars", channel="A").height == 0
