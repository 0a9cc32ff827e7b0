"""Toxics as pure stages: numbers in, numbers out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.sandbox.faults.toxics import (
    Bandwidth,
    BlackHole,
    End,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Stage,
)

chunks = st.lists(st.binary(min_size=1, max_size=300), max_size=10)


def run(stage: Stage, data: list[bytes], now: float = 0.0) -> list[tuple[float, bytes | End]]:
    return [item for chunk in data for item in stage.feed(now, chunk)]


@given(chunks, st.integers(0, 2**20))
def test_toxics_that_only_delay_or_cut_keep_every_byte_in_order(data: list[bytes], seed: int):
    kinds = (
        Latency(latency_ms=5, jitter_ms=5),
        Bandwidth(rate_bytes_s=1_000),
        Slicer(size_bytes=7, variation_bytes=6, delay_ms=1),
        LimitData(limit_bytes=10_000),
        SlowClose(),
    )
    for kind in kinds:
        passed = run(kind.stage(random.Random(seed)), data)
        assert b"".join(item for _, item in passed) == b"".join(data)
        assert all(due >= 0 for due, _ in passed)


def test_latency_is_the_latency():
    assert run(Latency(latency_ms=250).stage(random.Random(0)), [b"x"], 10.0) == [(10.25, b"x")]


@given(st.integers(0, 1_000))
def test_jitter_stays_within_its_bounds(seed: int):
    ((due, _),) = run(Latency(latency_ms=100, jitter_ms=40).stage(random.Random(seed)), [b"x"])
    assert 0.06 <= due <= 0.14


def test_bandwidth_adds_up_over_chunks_and_frees_itself_when_idle():
    stage = Bandwidth(rate_bytes_s=100).stage(random.Random(0))
    assert run(stage, [b"x" * 50, b"x" * 50])[-1][0] == pytest.approx(1.0)
    assert run(stage, [b"x" * 2], now=10.0)[-1][0] == pytest.approx(10.02)


def test_limit_passes_so_much_then_closes_and_drops_the_rest():
    stage = LimitData(limit_bytes=5).stage(random.Random(0))
    assert run(stage, [b"abc"]) == [(0.0, b"abc")]
    assert not stage.lost
    assert run(stage, [b"def", b"g"]) == [(0.0, b"de"), (0.0, End.CLOSE)]
    assert stage.lost


def test_a_limit_just_reached_loses_nothing():
    stage = LimitData(limit_bytes=3).stage(random.Random(0))
    assert run(stage, [b"abc"]) == [(0.0, b"abc")]
    assert not stage.lost


def test_black_hole_and_reset_pass_nothing_and_end_when_they_say():
    for kind, ends in (
        (BlackHole(), []),
        (BlackHole(timeout_ms=500), [(1.5, End.CLOSE)]),
        (ResetPeer(timeout_ms=500), [(1.5, End.RESET)]),
    ):
        stage = kind.stage(random.Random(0))
        assert list(stage.start(1.0)) == ends
        assert run(stage, [b"x"]) == []
        assert stage.lost


def test_slow_close_holds_the_close_alone():
    stage = SlowClose(delay_ms=500).stage(random.Random(0))
    assert run(stage, [b"x"]) == [(0.0, b"x")]
    assert stage.closing(2.0) == 2.5
    assert stage.ends
