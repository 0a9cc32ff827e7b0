from __future__ import annotations

import threading

import pytest

from massive_lab.loaders.progress import Progress


def test_a_shown_bar_names_its_load_and_length_and_disappears(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("bars", ["AAPL"], total=3, unit="page", show=True) as progress:
        for _ in range(3):
            progress.step()
    text = capsys.readouterr().err
    assert "bars AAPL" in text
    assert "0/3" in text
    assert text.rsplit("\r", 1)[1] == ""


def test_a_short_load_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("bars", ["AAPL", "MSFT"], total=2, unit="page", show=None) as progress:
        progress.step(2)
    assert capsys.readouterr().err == ""


def test_it_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("bars", ["AAPL"], total=None, unit="page", show=False) as progress:
        progress.step()
    assert capsys.readouterr().err == ""


def test_a_bar_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    with Progress("bars", ["AAPL"], total=1, unit="page", show=True) as progress:
        progress.step()
    assert set(threading.enumerate()) == before
