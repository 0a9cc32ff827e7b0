"""When REST stands in for the socket of a hub, by whose client, and what of its answers is handed on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from massive_lab import telemetry as t
from massive_lab.decode.stream import Event, Message, Notice, Status
from massive_lab.errors import MassiveLabError, NotEntitled, Unauthorized
from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget
from massive_lab.live.poll.polling import Poller, PollMemory, PollWorker, wanted_kinds
from massive_lab.live.poll.schedule import Call, Pace, Schedule
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
    budget : Budget
        What the polling of all clusters of the client may spend together.
    """

    def __init__(self, hub: Hub, policy: Policy, pollers: Iterable[Poller], budget: Budget | None = None) -> None:
        self.pollers = list(pollers)
        self.live_at = 0.0
        self._hub = hub
        self._policy = policy
        self._memory = PollMemory()
        self.budget = budget or Budget(policy)
        self._task: asyncio.Task[None] | None = None
        self._worker: PollWorker | None = None
        self._schedule: Schedule | None = None
        self._wanted: dict[str, set[Kind]] | None = None
        self._pace: Pace | None = None
        self._planned: Call | None = None
        self._is_answered = False
        self._polls_before: int | None = None
        self._is_refused = False
        self._remember_until = 0.0

    @property
    def cluster(self) -> Cluster:
        return self._hub.cluster

    def can_serve(self, topic: Topic) -> bool:
        """Whether polling can stand in for a topic."""
        return bool(self.pollers) and not self._is_refused and poll_kind(topic) is not None

    def has_work(self) -> bool:
        """Whether polling would serve anybody whom it does not serve yet."""
        return self._task is None and not self._is_refused and bool(self.pollers) and bool(self.poll_wanted())

    def begin(self) -> None:
        """Start the worker, if it would serve anybody and does not run."""
        if not self.has_work():
            return
        self._schedule = Schedule(self.cluster, self._policy, self.budget)
        self._worker = PollWorker(self, self._hub.clock, self._schedule, self.budget)
        # At once, so that clusters lost in the same moment know of each other before any of them plans.
        self.budget.join(self.cluster, len(self.poll_wanted()), self._worker.kick)
        self._task = self._hub.tasks.start("polling", self._worker.run, once=False)
        self._is_answered = False

    def retry(self) -> None:
        """What REST refused may be asked again: with another key, or because somebody says so."""
        self._is_refused = False

    def end(self) -> None:
        """Stop the worker; nothing when it does not run."""
        if self._task is None:
            return
        self._task.cancel()
        self._task = self._worker = self._schedule = self._pace = self._planned = None
        self.budget.leave(self.cluster)
        if self._polls_before is not None:
            n_polls = self._hub.counts["polls"] - self._polls_before
            self._polls_before = None
            self._hub.emit(t.FallbackStopped(self._hub.now(), self.cluster, n_polls))

    def topics_changed(self) -> None:
        """Topics came or went."""
        self._wanted = None
        if self._worker is not None:
            self._worker.kick()

    def status(self) -> dict[str, Any]:
        """What ``live.status()`` tells of who serves, and how often."""
        schedule = self._schedule
        is_served = schedule is not None and self._polls_before is not None and self._is_answered
        stream = "stream" if self._hub.feed.machine.state == "live" else "none"
        return {
            "serving": "poll" if is_served else self._hub.beyond.serving(stream),
            "poll_interval_s": schedule.interval_s if schedule else None,
            "poll_symbols": schedule.pace.n_symbols if schedule else None,
            "poll_note": schedule.pace.note if schedule else None,
        }

    def expect(self, newest: Iterable[Event]) -> None:
        """The stream is about to begin anew for topics of which polls have told these."""
        for event in newest:
            self._memory.keep(event)
            self._remember_until = self._hub.now() + _MEMORY_S

    def without_repeats(self, messages: list[Message]) -> list[Message]:
        """Streamed messages less what the last poll has told already: the first event of each topic after an outage."""
        if not self._memory:
            return messages
        if self._hub.now() > max(self._remember_until, self.live_at + _MEMORY_S):
            self._memory = PollMemory()
            return messages
        return [m for m in messages if isinstance(m, Status | Notice) or not self._memory.already_said(m)]

    # ---- what the worker asks and tells

    def poller(self) -> Poller | None:
        """Whose REST client serves the next round."""
        return self.pollers[0] if self.pollers else None

    def poll_wanted(self) -> dict[str, set[Kind]]:
        """Symbols and kinds asked for now; the same object until `topics_changed`."""
        if self._wanted is None:
            self._wanted = wanted_kinds(self._hub.wanted)
        return self._wanted

    def poll_planned(self, call: Call) -> None:
        """The next call is known."""
        hub = self._hub
        assert self._schedule is not None
        if (pace := self._schedule.pace) != self._pace:
            self._pace = pace
            hub.emit(
                t.PollPaced(hub.now(), self.cluster, pace.n_symbols, pace.calls_per_round, pace.interval_s, pace.wanted_s)
            )
        if call != self._planned:
            self._planned = call
            hub.emit(t.PollPlanned(hub.now(), self.cluster, call.at_s, call.n_symbols))

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
        self._answered(None)
        fresh = self._memory.news(events, hub.routes.newest)
        hub.emit(t.PollTick(hub.now(), self.cluster, "snapshot", n_symbols, len({event.symbol for event in fresh})))
        now_ns = hub.clock.now_ns()
        touched, _ = hub.routes.dispatch(fresh, now_ns)
        hub.gaps.polled(fresh, now_ns)
        hub.deliver(touched)
        hub.routes.finish(touched, 0, len(fresh))

    def poll_failed(self, error: MassiveLabError) -> None:
        """A call failed; the next one comes later."""
        self._hub.counts["polls"] += 1
        self._hub.keep(error)
        self._answered(error)
        if self._hub.final_error is not None and isinstance(error, Unauthorized | NotEntitled):
            # Socket and REST have both refused us for good: asking on would change nothing.
            self._is_refused = True
            self._hub.over(error)
            self.end()

    def _answered(self, error: MassiveLabError | None) -> None:
        self._is_answered = error is None
        self._hub.feed.machine.polled(error.message if error else None)
        self._hub.changed()
