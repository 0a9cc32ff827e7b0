"""What the sandbox served: the truth other counters are compared with.

A request is counted when its head has been parsed, bytes and frames when they have passed all faults and been handed to
the operating system. So an answer that a fault cut short counts as one request, as aborted, and with the bytes that left.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from massive_lab.typing import AssetClass

__all__ = ["ClusterCount", "ConnectionCount", "Counts", "EndpointCount"]


@dataclass(slots=True)
class EndpointCount:
    """One REST endpoint."""

    requests: int = 0
    status: Counter[int] = field(default_factory=Counter)
    """Answers begun, by status."""
    body_bytes: int = 0
    """Body as sent, compressed where it was."""
    pages: int = 0
    """Answers with status 200."""
    continued: int = 0
    """Requests that carried a cursor."""
    aborted: int = 0
    """Connections a fault cut while this endpoint was being asked or answered."""
    disconnected: int = 0
    """Answers the client did not wait for."""

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "status": {str(code): n for code, n in sorted(self.status.items())},
            "body_bytes": self.body_bytes,
            "pages": self.pages,
            "continued": self.continued,
            "aborted": self.aborted,
            "disconnected": self.disconnected,
        }


@dataclass(slots=True)
class ConnectionCount:
    """One WebSocket connection."""

    id: int
    cluster: AssetClass
    delayed: bool
    account: str | None = None
    open: bool = True
    ended_by: str | None = None
    """Why it is no longer open: ``client``, or what the sandbox did."""
    frames: int = 0
    """Text frames, statuses included."""
    events: int = 0
    """Items in frames that are not statuses; a frame sent twice counts twice, a malformed one as none."""
    statuses: int = 0
    sent_bytes: int = 0
    """Payload bytes of text frames."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class ClusterCount:
    """All connections of one cluster, real-time and delayed together."""

    opened: int = 0
    closed: int = 0
    refused: int = 0
    """Upgrades refused."""
    authenticated: int = 0
    auth_failed: int = 0
    subscribe_params: int = 0
    """Params received in subscribe messages; confirmed + denied + ignored."""
    unsubscribe_params: int = 0
    confirmed: int = 0
    denied: int = 0
    ignored: int = 0
    """Params never answered: unknown prefix, already held, or a fault."""
    unsubscribed: int = 0
    frames: int = 0
    events: int = 0
    statuses: int = 0
    sent_bytes: int = 0
    topics: Counter[str] = field(default_factory=Counter)
    """Events by topic (``T.AAPL``), whatever subscription brought them."""

    def to_json(self) -> dict[str, Any]:
        scalars = {name: getattr(self, name) for name in self.__slots__ if name != "topics"}
        return {**scalars, "topics": dict(sorted(self.topics.items()))}


class Counts:
    """All counters. Owned by the event loop.

    Examples
    --------
    >>> counts = Counts()
    >>> counts.endpoint("trades").requests += 1
    >>> counts.to_json()["rest"]["total"]["requests"]
    1
    """

    def __init__(self) -> None:
        self.rest: dict[str, EndpointCount] = {}
        self.ws: dict[AssetClass, ClusterCount] = {}
        self.connections: dict[int, ConnectionCount] = {}
        self.faults: Counter[str] = Counter()

    def endpoint(self, name: str) -> EndpointCount:
        return self.rest.setdefault(name, EndpointCount())

    def cluster(self, name: AssetClass) -> ClusterCount:
        return self.ws.setdefault(name, ClusterCount())

    def fault_fired(self, fault_id: str) -> None:
        self.faults[fault_id] += 1

    def reset(self) -> None:
        """Start from zero. Open connections stay listed, with their own counters at zero."""
        self.rest.clear()
        self.ws.clear()
        self.faults.clear()
        self.connections = {key: count for key, count in self.connections.items() if count.open}
        for count in self.connections.values():
            count.frames = count.events = count.statuses = count.sent_bytes = 0

    def to_json(self) -> dict[str, Any]:
        total = EndpointCount()
        for one in self.rest.values():
            total.status.update(one.status)
            for name in ("requests", "body_bytes", "pages", "continued", "aborted", "disconnected"):
                setattr(total, name, getattr(total, name) + getattr(one, name))
        return {
            "rest": {
                "total": total.to_json(),
                "endpoints": {name: one.to_json() for name, one in sorted(self.rest.items())},
            },
            "ws": {name: one.to_json() for name, one in sorted(self.ws.items())},
            "connections": [one.to_json() for one in self.connections.values()],
            "faults": dict(sorted(self.faults.items())),
        }
