from __future__ import annotations

from pathlib import Path

import pytest

import massive_lab as ml
from massive_lab.frames.build import build
from massive_lab.frames.replay import Bar
from massive_lab.live.capture.replay import Replay

SESSION = Path(__file__).resolve().parents[2] / "golden" / "capture" / "session.mlcap"


@pytest.mark.parametrize("path", [SESSION, str(SESSION)], ids=["path", "text"])
def test_a_path_is_a_capture(path):
    replay = ml.replay(path)
    assert isinstance(replay, Replay)
    assert repr(replay).startswith("<SANDBOX Replay session.mlcap: 130 records")


def test_a_frame_is_its_bars():
    minute = 60 * 10**9
    frame = build("bars", {
        "symbol": ["A", "A"], "ts_event": [0, minute], "ts_close": [minute, 2 * minute],
        "open": 1.0, "high": 1.0, "low": 1.0, "close": [1.0, 1.0],
    })  # fmt: skip
    assert [type(bar) for bar in ml.replay(frame)] == [Bar, Bar]


def test_no_capture_at_a_path_is_an_error(tmp_path):
    with pytest.raises(ml.CaptureError, match=r"nothing\.mlcap cannot be read"):
        ml.replay(tmp_path / "nothing.mlcap")
