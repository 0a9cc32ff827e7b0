"""Our counters beside the server's own: two independent counts of one run, compared line by line.

The sandbox counts what it served on its control plane. Whatever we claim to have sent or received must be found there,
and the other way round; one line that differs means that one of the two is wrong, and the audit fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from massive_lab.audit.recorder import Recording

__all__ = ["Line", "Served", "reconcile"]


@dataclass(frozen=True, slots=True)
class Served:
    """What the server says it did. Topics are keyed ``(cluster, topic)``."""

    requests: Mapping[str, int] = field(default_factory=dict)
    """REST requests by endpoint."""
    bytes: Mapping[str, int] = field(default_factory=dict)
    """REST body bytes by endpoint."""
    events: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Data events by topic."""
    subscribes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Subscribe params accepted by topic."""
    frames: Mapping[str, int] = field(default_factory=dict)
    """WebSocket frames sent by cluster."""
    stream_bytes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of those frames by cluster."""


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison."""

    what: str
    key: str
    ours: int
    served: int

    @property
    def equal(self) -> bool:
        """Whether the two counts agree."""
        return self.ours == self.served


def reconcile(recording: Recording, served: Served) -> list[Line]:
    """Compare every counter that both sides keep.

    Returns
    -------
    list of Line
        Sorted by kind and key. A key that only one side knows counts as 0 on the other.

    Examples
    --------
    >>> [line.equal for line in reconcile(Recording(), Served(requests={"chain": 1}))]
    [False]
    """
    ends, topics = recording.endpoints, recording.topics
    pairs: list[tuple[str, Mapping[str, int], Mapping[str, int]]] = [
        ("REST requests", {name: tally.attempts for name, tally in ends.items()}, served.requests),
        ("REST bytes", {name: tally.bytes for name, tally in ends.items()}, served.bytes),
        ("stream events", {_name(key): tally.events for key, tally in topics.items()}, _named(served.events)),
        ("subscribe requests", {_name(key): tally.subscribes for key, tally in topics.items()}, _named(served.subscribes)),
        ("stream frames", recording.frames, served.frames),
        ("stream bytes", recording.bytes, served.stream_bytes),
    ]  # fmt: skip
    return [
        Line(what, key, ours.get(key, 0), theirs.get(key, 0))
        for what, ours, theirs in pairs
        for key in sorted({*ours, *theirs})
        if ours.get(key) or theirs.get(key)
    ]


def _name(key: tuple[str, str]) -> str:
    return " ".join(key)


def _named(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    return {_name(key): n for key, n in counts.items()}
