"""What comes out of a replay: tables, events in order, telemetry, gaps; and one digest over all of it."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from typing import Any

import polars as pl

from massive_lab import telemetry as t
from massive_lab.decode.stream import Event
from massive_lab.live.hub import Hub
from massive_lab.live.read.tables import RollingTable
from massive_lab.live.routes import Sink
from massive_lab.live.topics import Topic, kind_of
from massive_lab.live.views import STATUS_COLUMNS, gap_frame
from massive_lab.typing import Cluster

__all__ = ["Output"]


class _Log:
    """A sink that takes events in the order in which they are delivered."""

    def __init__(self, output: Output, cluster: Cluster) -> None:
        self.inbox: list[Event] = []
        self._output = output
        self._cluster = cluster

    def flush(self) -> int:
        for event in self.inbox:
            self._output.event(self._cluster, event)
        self.inbox.clear()
        return 0


class Output:
    """Gathers what the hubs of a replay deliver.

    Parameters
    ----------
    keeps_events : bool
        Whether events wait in `events` for somebody to take them.

    Attributes
    ----------
    tables : dict of str to RollingTable
        By channel, as a live session has them.
    told : list of telemetry events
        In order; but for `FrameReceived`, which is in the digest alone.
    events : deque
    n_events : int
    holes : list of dict
        Records and bytes that the capture lacks.
    """

    def __init__(self, *, keeps_events: bool = False) -> None:
        self.telemetry = t.Telemetry()
        self._hear_no_more = self.telemetry.add(self._tell)
        self.tables: dict[str, RollingTable] = {}
        self.told: list[t.Event] = []
        self.events: deque[Event] = deque()
        self.n_events = 0
        self.holes: list[dict[str, Any]] = []
        self.status = pl.DataFrame(schema=STATUS_COLUMNS)
        self.gaps = gap_frame(())
        self.sha256 = ""
        self._keeps_events = keeps_events
        self._digest = hashlib.sha256()
        self._logs: dict[Cluster, _Log] = {}
        self._hubs: list[Hub] = []
        self._rows: dict[int, dict[str, Any]] = {}

    @property
    def has_events(self) -> bool:
        return bool(self.events)

    def joined(self, hub: Hub) -> None:
        """A hub begins."""
        self._hubs.append(hub)

    def sinks(self, hub: Hub, topic: Topic) -> list[Sink]:
        """Where the events of a topic go."""
        table = self.tables.get(topic.channel)
        if table is None:
            policy = hub.policy
            table = RollingTable(kind_of(topic.channel), max_rows=policy.table_rows, keep_s=policy.table_s)
            self.tables[topic.channel] = table
        log = self._logs.setdefault(hub.cluster, _Log(self, hub.cluster))
        return [table, log]

    def event(self, cluster: Cluster, event: Event) -> None:
        """An event is delivered."""
        self.n_events += 1
        values = [getattr(event, name) for name in event.__struct_fields__]
        self._digest.update(_line("event", cluster, type(event).__name__, *values))
        if self._keeps_events:
            self.events.append(event)

    def _tell(self, event: t.Event) -> None:
        values = [getattr(event, name) for name in type(event).__dataclass_fields__]
        self._digest.update(_line("telemetry", type(event).__name__, *values))
        if not isinstance(event, t.FrameReceived):
            self.told.append(event)

    def hole(self, told: dict[str, Any]) -> None:
        """Something is missing in the capture here."""
        self.holes.append(told)
        self._digest.update(_line("hole", told["records"], told["bytes"]))

    def closing(self, hub: Hub) -> None:
        """A hub ends: this is its last state."""
        self._rows[self._hubs.index(hub)] = hub.status()

    def end(self, hubs: list[Hub]) -> None:
        """The capture is over: take what is left, and close the digest."""
        for hub in hubs:
            self.closing(hub)
        rows = [self._rows[index] for index in sorted(self._rows)]
        self.status = pl.DataFrame(rows, schema=STATUS_COLUMNS, orient="row")
        self.gaps = gap_frame(gap for hub in self._hubs for gap in hub.gaps.rows())
        for row in self.gaps.with_columns(pl.col("start", "end").to_physical()).iter_rows():
            self._digest.update(_line("gap", *row))
        self.sha256 = self._digest.hexdigest()
        # What the hubs say while they are taken down is not of the session.
        self._hear_no_more()


def _line(*values: Any) -> bytes:
    return json.dumps(values, separators=(",", ":"), default=str).encode() + b"\n"
