"""Scenarios: named lists of faults that come and go at virtual seconds after the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from massive_lab.sandbox.clock import VirtualClock
from massive_lab.sandbox.faults.book import FaultBook

__all__ = ["SCENARIOS", "Step", "play"]


@dataclass(frozen=True, slots=True)
class Step:
    """At `at_s` virtual seconds: arm `fault`, or disarm the one named `clear`."""

    at_s: float
    fault: Mapping[str, Any] = field(default_factory=dict)
    clear: str = ""


SCENARIOS: dict[str, Sequence[Step]] = {
    "calm": (),
    # The socket is cut and the host unreachable for five seconds: what a client must survive every night.
    "drop": (
        Step(20, {"kind": "down", "name": "drop"}),
        Step(25, clear="drop"),
    ),
    # A bad day: slow lines, throttling, broken answers, frames out of order, a muted socket, a closed one.
    "rough": (
        Step(2, {"kind": "latency", "name": "slow", "scope": "rest", "latency_ms": 40, "jitter_ms": 30, "seed": 1}),
        Step(4, {"kind": "http_429", "name": "throttled", "probability": 0.1, "count": 5, "seed": 2}),
        Step(6, {"kind": "http_5xx", "name": "broken", "probability": 0.1, "count": 5, "status": 502, "seed": 3}),
        Step(8, {"kind": "duplicate", "name": "twice", "scope": "ws", "probability": 0.05, "seed": 4}),
        Step(8, {"kind": "reorder", "name": "swapped", "scope": "ws", "probability": 0.05, "seed": 5}),
        Step(12, {"kind": "mute", "name": "mute", "scope": "ws"}),
        Step(20, clear="mute"),
        Step(25, {"kind": "close", "name": "closed", "scope": "ws", "code": 1011, "count": 3}),
        Step(27, clear="closed"),
        Step(35, {"kind": "abrupt", "name": "cut", "scope": "ws", "count": 3}),
        Step(37, clear="cut"),
        Step(40, clear="twice"),
        Step(40, clear="swapped"),
        Step(40, clear="slow"),
    ),
}


async def play(steps: Sequence[Step], clock: VirtualClock, book: FaultBook) -> None:
    """Arm and disarm in virtual time."""
    start_ns = clock.now_ns()
    for step in steps:
        await clock.sleep_until(start_ns + int(step.at_s * 1e9))
        if step.fault:
            book.add(step.fault)
        if step.clear:
            book.remove(step.clear)
