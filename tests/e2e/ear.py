"""Telemetry that a test can wait on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from massive_lab import telemetry as t

WAIT_S = 60.0


class Ear:
    """Keeps every event, and sleeps until something holds of them."""

    def __init__(self) -> None:
        self.events: list[t.Event] = []
        self._came = threading.Condition()

    def __call__(self, event: t.Event) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        with self._came:
            assert self._came.wait_for(condition, WAIT_S), [type(event).__name__ for event in self.events[-20:]]

    def of(self, kind: type) -> list:
        return [event for event in list(self.events) if isinstance(event, kind)]

    def states(self) -> list[str]:
        return [event.state for event in self.of(t.FeedStateChanged)]

    def n_events(self, cluster: str) -> int:
        return sum(event.n_events for event in self.of(t.FrameReceived) if event.cluster == cluster)

    def by_topic(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for event in self.of(t.FrameReceived):
            for topic, n in event.by_topic:
                counts[event.cluster, topic] += n
        return counts
