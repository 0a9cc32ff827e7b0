from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from massive_lab.audit.reconcile import Served, reconcile
from massive_lab.audit.recorder import Recording
from massive_lab.telemetry import RequestDone

_spec = importlib.util.spec_from_file_location("audit_conftest", Path(__file__).with_name("conftest.py"))
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)


def test_a_faithful_count_agrees_in_every_line(recording: Recording) -> None:
    lines = reconcile(recording, _conftest.served_by(recording))
    assert len(lines) > 20
    assert all(line.equal for line in lines)


@pytest.mark.parametrize("name", ["requests", "statuses", "bytes", "events", "subscribes", "frames", "stream_bytes"])
def test_a_single_count_that_is_off_by_one_is_found(recording: Recording, name: str) -> None:
    served = _conftest.served_by(recording)
    counts = dict(getattr(served, name))
    key = min(counts)
    counts[key] += 1
    lines = reconcile(recording, dataclasses.replace(served, **{name: counts}))
    assert [(line.key, line.served - line.ours) for line in lines if not line.equal] == [(key, 1)]


def test_what_only_the_server_saw_is_a_difference() -> None:
    lines = reconcile(Recording(), Served(requests={"chain": 2}, events={"stocks T.SPY": 5}, connections={"stocks": 0}))
    assert [(line.what, line.key, line.ours, line.served) for line in lines] == [
        ("REST requests", "chain", 0, 2), ("stream events", "stocks T.SPY", 0, 5)
    ]  # fmt: skip


def test_an_attempt_that_never_reached_the_wire_is_none_the_server_should_have_seen() -> None:
    recording = Recording()
    for sent in (True, False):
        recording.apply(RequestDone(0.0, "chain", "test", None, "connection", 0, 0.1, 1, sent=sent))
    assert recording.endpoints["chain"].attempts == 2
    assert [line.equal for line in reconcile(recording, Served(requests={"chain": 1}))] == [True]
