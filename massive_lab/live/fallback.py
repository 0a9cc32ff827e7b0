"""When REST stands in for the socket of a hub, by whose client, and what of its answers is handed on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from massive_lab import telemetry as t
from massive_lab.decode.stream import Event, Message, Notice, Status
from massive_lab.errors import MassiveLabError, NotEntitled, Unauthorized
from massive_lab.live.policy import Policy
from massive_lab.live.polling import Poller, PollMemory, PollWorker, wanted_kinds
from massive_lab.live.topics import Kind, Topic, poll_kind
from massive_lab.typing import Cluster

if TYPE_CHECKING:
    from massive_lab.live.hub import Hub

__all__ = ["Fallback"]

_MEMORY_S = 30.0


class Fallback:
    """The one poll worker of a hub.

    Attributes
    ----------
    pollers : list of Poller
        The REST clients of those who use the hub; the first serves all.
    live_at : float
        Monotonic seconds at which the socket last became live.
    """

    def __init__(self, hub: Hub, policy: Policy, pollers: Iterable[Poller]) -> None:
        self.pollers = list(pollers)
        self.live_at = 0.0
        self._hub = hub
        self._policy = policy
        self._memory = PollMemory()
        self._task: asyncio.Task[None] | None = None
        self._polls_before: int | None = None
        self._is_refused = False

    @property
    def cluster(self) -> Cluster:
        return self._hub.cluster

    def can_serve(self, topic: Topic) -> bool:
        """Whether polling can stand in for a topic."""
        return bool(self.pollers) and not self._is_refused and poll_kind(topic) is not None

    def has_work(self) -> bool:
        """Whether polling would serve anybody."""
        return bool(self.pollers) and bool(self.poll_wanted())

    def begin(self) -> None:
        """Start the worker, if it would serve anybody and does not run."""
        if self.has_work() and self._task is None:
            worker = PollWorker(self, self._hub.clock, self._policy)
            self._task = self._hub.tasks.start("polling", worker.run, once=False)

    def end(self) -> None:
        """Stop the worker; nothing when it does not run."""
        if self._task is None:
            return
        self._task.cancel()
        self._task = None
        if self._polls_before is not None:
            n_polls = self._hub.counts["polls"] - self._polls_before
            self._polls_before = None
            self._hub.emit(t.FallbackStopped(self._hub.now(), self.cluster, n_polls))

    def without_repeats(self, messages: list[Message]) -> list[Message]:
        """Streamed messages less what the last poll has told already: the first event of each topic after an outage."""
        if not self._memory:
            return messages
        if self._hub.now() - self.live_at > _MEMORY_S:
            self._memory = PollMemory()
            return messages
        return [m for m in messages if isinstance(m, Status | Notice) or not self._memory.already_said(m)]

    # ---- what the worker asks and tells

    def poller(self) -> Poller | None:
        """Whose REST client serves the next round."""
        return self.pollers[0] if self.pollers else None

    def poll_wanted(self) -> dict[str, set[Kind]]:
        """Symbols and kinds asked for now."""
        return wanted_kinds(self._hub.wanted)

    def polling_begins(self) -> None:
        """The first poll goes out."""
        hub = self._hub
        self._polls_before = hub.counts["polls"]
        n_topics = sum(poll_kind(topic) is not None for topic in hub.wanted)
        hub.emit(t.FallbackStarted(hub.now(), self.cluster, hub.feed.machine.polling(hub.now()), n_topics))
        hub.changed()

    def polled(self, n_symbols: int, events: list[Event]) -> None:
        """One call was answered."""
        hub = self._hub
        hub.counts["polls"] += 1
        fresh = self._memory.news(events, hub.routes.newest)
        hub.emit(t.PollTick(hub.now(), self.cluster, "snapshot", n_symbols, len({event.symbol for event in fresh})))
        touched, _ = hub.routes.dispatch(fresh, hub.clock.now_ns())
        hub.deliver(touched)
        hub.routes.finish(touched, 0, len(fresh))

    def poll_failed(self, error: MassiveLabError) -> None:
        """A call failed; the next one comes later."""
        self._hub.counts["polls"] += 1
        self._hub.errors.append(error)
        if self._hub.final_error is not None and isinstance(error, Unauthorized | NotEntitled):
            # Socket and REST have both refused us for good.
            self._is_refused = True
            self._hub.over(error)
