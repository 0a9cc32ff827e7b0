"""What a gateway adds to the vendor's events: where REST's come from, and their nanoseconds."""

from __future__ import annotations

import json

import pytest

from massive_lab.decode.stream import StreamDecoder

EVENTS = {
    "T": {"ev": "T", "sym": "AAPL", "t": 1_545_145_200_000, "p": 100.5, "s": 3},
    "Q": {"ev": "Q", "sym": "AAPL", "t": 1_545_145_200_000, "bp": 100.5, "ap": 100.6},
    "A": {"ev": "A", "sym": "AAPL", "s": 1_545_145_200_000, "o": 1, "h": 2, "l": 1, "c": 2},
    "AM": {"ev": "AM", "sym": "AAPL", "s": 1_545_145_200_000, "o": 1, "h": 2, "l": 1, "c": 2},
    "V": {"ev": "V", "T": "I:SPX", "t": 1_545_145_200_000, "val": 2500.25},
}


@pytest.mark.parametrize("source", ["poll", "backfill"])
@pytest.mark.parametrize("channel", EVENTS)
def test_the_source_a_gateway_names_is_kept(channel: str, source: str) -> None:
    plain, marked = EVENTS[channel], {**EVENTS[channel], "src": source}
    events = StreamDecoder().decode(json.dumps([plain, marked]).encode())
    assert [event.source for event in events] == ["stream", source]


@pytest.mark.parametrize("channel", ["T", "Q", "V"])
def test_the_nanoseconds_a_gateway_tells_are_kept(channel: str) -> None:
    plain, fine = EVENTS[channel], {**EVENTS[channel], "src": "backfill", "ns": 123_456}
    first, second = StreamDecoder().decode(json.dumps([plain, fine]).encode())
    assert second.ts_event - first.ts_event == 123_456


@pytest.mark.parametrize("ns", [-1, 1_000_000, 10**30, 0.5, "7"])
def test_nanoseconds_that_are_none_are_set_aside(ns: object) -> None:
    decoder = StreamDecoder()
    events = decoder.decode(json.dumps([{**EVENTS["T"], "ns": ns}, EVENTS["T"]]).encode())
    assert len(events) == 1
    assert len(decoder.take_faults()) == 1
