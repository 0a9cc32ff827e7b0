"""Our counters beside the server's own: two independent counts of one run, compared line by line.

The sandbox counts what it served on its control plane. Whatever we claim to have sent or received must be found there,
and the other way round; one line that differs means that one of the two is wrong, and the audit fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from massive_lab.audit.recorder import Recording

__all__ = ["Line", "Served", "reconcile"]


@dataclass(frozen=True, slots=True)
class Served:
    """What the server says it did. Topics are keyed ``stocks T.SPY``, statuses ``chain 200``."""

    requests: Mapping[str, int] = field(default_factory=dict)
    """REST requests by endpoint."""
    statuses: Mapping[str, int] = field(default_factory=dict)
    """REST answers by endpoint and status."""
    bytes: Mapping[str, int] = field(default_factory=dict)
    """REST body bytes by endpoint."""
    events: Mapping[str, int] = field(default_factory=dict)
    """Data events by topic."""
    connections: Mapping[str, int] = field(default_factory=dict)
    """WebSocket connections opened, by cluster."""
    subscribes: Mapping[str, int] = field(default_factory=dict)
    """Params of subscribe messages received, by cluster."""
    unsubscribes: Mapping[str, int] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    """WebSocket frames sent, by cluster."""
    stream_bytes: Mapping[str, int] = field(default_factory=dict)
    """Payload bytes of those frames, by cluster."""

    @classmethod
    def read(cls, counts: Mapping[str, Any]) -> Served:
        """Take over the counts of the sandbox's control plane.

        Examples
        --------
        >>> Served.read({"rest": {"endpoints": {"chain": {"requests": 2, "body_bytes": 9, "status": {"200": 2}}}}}).requests
        {'chain': 2}
        """
        rest = counts.get("rest", {}).get("endpoints", {})
        stream = counts.get("ws", {})

        def of_cluster(name: str) -> dict[str, int]:
            return {cluster: count.get(name, 0) for cluster, count in stream.items()}

        return cls(
            requests={name: count["requests"] for name, count in rest.items()},
            statuses={f"{name} {code}": n for name, count in rest.items() for code, n in count["status"].items()},
            bytes={name: count["body_bytes"] for name, count in rest.items()},
            events={
                f"{cluster} {topic}": n for cluster, count in stream.items() for topic, n in count["topics"].items()
            },
            connections=of_cluster("opened"),
            subscribes=of_cluster("subscribe_params"),
            unsubscribes=of_cluster("unsubscribe_params"),
            frames=of_cluster("frames"),
            stream_bytes=of_cluster("sent_bytes"),
        )


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
    subscribes: Counter[str] = Counter()
    unsubscribes: Counter[str] = Counter()
    for (cluster, _), tally in topics.items():
        subscribes[cluster] += tally.subscribes
        unsubscribes[cluster] += tally.unsubscribes
    connections = {cluster: n for (cluster, action), n in recording.wire.items() if action == "auth"}
    statuses = {f"{name} {code}": n for name, tally in ends.items() for code, n in tally.statuses.items()}
    pairs: list[tuple[str, Mapping[str, int], Mapping[str, int]]] = [
        ("REST requests", {name: tally.attempts - tally.unsent for name, tally in ends.items()}, served.requests),
        ("REST answers", statuses, served.statuses),
        ("REST bytes", {name: tally.bytes for name, tally in ends.items()}, served.bytes),
        ("connections", connections, served.connections),
        ("subscribe params", subscribes, served.subscribes),
        ("unsubscribe params", unsubscribes, served.unsubscribes),
        ("stream events", {" ".join(key): tally.events for key, tally in topics.items()}, served.events),
        ("stream frames", recording.frames, served.frames),
        ("stream bytes", recording.bytes, served.stream_bytes),
    ]
    return [
        Line(what, key, ours.get(key, 0), theirs.get(key, 0))
        for what, ours, theirs in pairs
        for key in sorted({*ours, *theirs})
        if ours.get(key) or theirs.get(key)
    ]
