"""What a hub keeps an eye on: its outages, topics that stay silent, what time it is in its data, and whom to warn of what."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from massive_lab import telemetry as t
from massive_lab.live.duplicates import Duplicate, OpenedTwice, Warned
from massive_lab.live.policy import Policy
from massive_lab.live.readers import HubReader
from massive_lab.live.topics import Topic
from massive_lab.typing import Cluster

if TYPE_CHECKING:
    from massive_lab.live.hub import Hub

__all__ = ["Outage", "Outages", "SilentTopics", "Watch", "stale_after_s"]

_KEPT = 1_000
_log = logging.getLogger("massive_lab.live")


@dataclass(frozen=True, slots=True)
class Outage:
    """The socket was down. Times are UTC ns; `end_ns` is None while it lasts."""

    cluster: Cluster
    start_ns: int
    end_ns: int | None
    seconds: float
    cause: str
    """What ended the connection, or kept the first one from being opened."""
    attempts: int
    """Connections tried to end it."""


class Outages:
    """The outages of one cluster, the last 1,000, and their total.

    Examples
    --------
    >>> outages = Outages("stocks")
    >>> outages.begin(5 * 10**9, 5.0, "closed with code 1000"); outages.begin(6 * 10**9, 6.0, "refused")
    >>> outages.total_s(7.0), outages.down_since_ns
    (2.0, 5000000000)
    >>> outages.end(8 * 10**9, 8.0, attempts=2); outages.total_s(20.0), outages.last_cause, outages.down_since_ns
    (3.0, 'closed with code 1000', None)
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._rows: deque[Outage] = deque(maxlen=_KEPT)
        self._open: Outage | None = None
        self._since = 0.0
        self._ended_s = 0.0

    def begin(self, start_ns: int, since: float, cause: str) -> None:
        """The socket is down since an instant, in both clocks; nothing when that is known."""
        if self._open is None:
            self._open = Outage(self._cluster, start_ns, None, 0.0, cause, 0)
            self._since = since

    def end(self, end_ns: int, now: float, attempts: int) -> None:
        """The socket is up, or nobody wants it any more; nothing when it was not down."""
        if self._open is not None:
            seconds = now - self._since
            self._rows.append(replace(self._open, end_ns=end_ns, seconds=seconds, attempts=attempts))
            self._ended_s += seconds
            self._open = None

    def total_s(self, now: float) -> float:
        """Seconds of all outages, the one that lasts included."""
        return self._ended_s + (now - self._since if self._open else 0.0)

    @property
    def down_since_ns(self) -> int | None:
        return self._open.start_ns if self._open else None

    @property
    def last_cause(self) -> str | None:
        last = self._open or (self._rows[-1] if self._rows else None)
        return last.cause if last else None

    def rows(self, now: float, attempts: int) -> list[Outage]:
        """All, oldest first; the one that lasts with its length and attempts so far."""
        running = [replace(self._open, seconds=now - self._since, attempts=attempts)] if self._open else []
        return [*self._rows, *running]


class SilentTopics:
    """Topics that were confirmed and have not been heard since.

    Examples
    --------
    >>> silent, topic = SilentTopics(120.0), Topic("stocks", "T", "NOPE")
    >>> silent.confirmed(topic, 1.0); silent.confirmed(topic, 50.0)
    >>> silent.due(100.0), silent.deadline, silent.due(121.0) == [topic], silent.deadline
    ([], 121.0, True, None)
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        # The patience is the same for all, so the order of insertion is that of the deadlines.
        self._due: dict[Topic, float] = {}
        self.known: set[Topic] = set()

    def confirmed(self, topic: Topic, now: float) -> None:
        """Begin to wait for a topic; a reconnect does not begin anew."""
        if topic not in self.known:
            self._due.setdefault(topic, now + self._patience_s)

    def closed(self, topic: Topic) -> None:
        self._due.pop(topic, None)
        self.known.discard(topic)

    @property
    def deadline(self) -> float | None:
        return next(iter(self._due.values()), None)

    def due(self, now: float) -> list[Topic]:
        """Take out the topics whose time has come."""
        due: list[Topic] = []
        for topic, until in self._due.items():
            if until > now:
                break
            due.append(topic)
        for topic in due:
            del self._due[topic]
        return due


def stale_after_s(policy: Policy, cluster: Cluster, channels: Iterable[str]) -> float:
    """Silence that means something, given what is subscribed: the most talkative channel decides.

    Examples
    --------
    >>> [stale_after_s(Policy(), "stocks", channels) for channels in (["T", "AM"], ["AM"], [])]
    [30.0, 150.0, 30.0]
    """
    ticks = policy.stale_s[cluster]
    return max(ticks, policy.minute_bar_stale_s) if set(channels) == {"AM"} else ticks


class Watch:
    """The part of a hub that looks for trouble; on the loop thread.

    Attributes
    ----------
    outages : Outages
    silent : SilentTopics
    warned : deque of Warned
        The last 1,000.
    """

    def __init__(self, hub: Hub, policy: Policy, *, is_synthetic: bool) -> None:
        self.outages = Outages(hub.cluster)
        self.silent = SilentTopics(policy.silent_topic_s)
        self.warned: deque[Warned] = deque(maxlen=_KEPT)
        self._twice = OpenedTwice(policy.linger_s)
        self._hub = hub
        self._policy = policy
        self._is_synthetic = is_synthetic
        self._lag_ns: int | None = None
        self._channels: Counter[str] = Counter()

    # ---- what the hub tells

    def joined(self, reader: HubReader) -> None:
        self._twice.opened(reader, self._hub.now())

    def left(self, reader: HubReader) -> None:
        self._twice.closed(reader)

    def opened(self, topic: Topic) -> None:
        self._channels[topic.channel] += 1
        self._mind_bound()

    def confirmed(self, topic: Topic) -> None:
        self.silent.confirmed(topic, self._hub.now())

    def closed(self, topic: Topic) -> None:
        self.silent.closed(topic)
        self._channels -= Counter((topic.channel,))
        self._mind_bound()

    def offline(self, cause: str) -> None:
        hub = self._hub
        now = hub.now()
        lost_at = hub.feed.machine.lost_at
        since = now if lost_at is None else lost_at
        self.outages.begin(hub.clock.now_ns() - round((now - since) * 1e9), since, cause)

    def online(self, attempts: int) -> None:
        self.outages.end(self._hub.clock.now_ns(), self._hub.now(), attempts)

    def _mind_bound(self) -> None:
        self._hub.feed.machine.stale_s = stale_after_s(self._policy, self._hub.cluster, self._channels)

    # ---- time

    def market_ns(self) -> int | None:
        """What time it is in the data, UTC ns: a delayed feed, a sandbox and a clock gone wrong are judged by their own.

        None where nothing is known yet of synthetic data; real data are taken to be on time until they have spoken.
        """
        newest = self._hub.routes.last_streamed()
        if newest is not None:
            self._lag_ns = newest.ts_recv - newest.ms * 1_000_000
        if self._lag_ns is None:
            return None if self._is_synthetic else self._hub.clock.now_ns()
        return self._hub.clock.now_ns() - self._lag_ns

    async def expects_data(self) -> bool:
        """Whether silence means something now: something is held that has spoken before, and its market is open."""
        hub = self._hub
        if not hub.book.held or self.silent.known.issuperset(hub.book.held):
            return False
        at_ns = self.market_ns()
        return at_ns is not None and await hub.steward.market_open(at_ns)

    @property
    def deadline(self) -> float | None:
        return min((at for at in (self.silent.deadline, self._twice.deadline) if at is not None), default=None)

    async def tick(self, now: float) -> None:
        """Look at what is due."""
        for duplicate in self._twice.due(now):
            self.duplicate(duplicate)
        if due := self.silent.due(now):
            await self._mind_silent(due, now)

    async def _mind_silent(self, topics: list[Topic], now: float) -> None:
        hub = self._hub
        at_ns = self.market_ns()
        # Open at both ends is open in between: patience counts regular hours only.
        since_ns = None if at_ns is None else at_ns - round(self._policy.silent_topic_s * 1e9)
        is_open = (
            at_ns is not None
            and since_ns is not None
            and await hub.steward.market_open(at_ns)
            and await hub.steward.market_open(since_ns)
        )
        found = []
        for topic in topics:
            tally = hub.routes.tally(topic)
            if tally is None or tally.n_messages:
                continue
            if not is_open or not hub.is_confirmed(topic):
                self.silent.confirmed(topic, now)
                continue
            self.silent.known.add(topic)
            found.append(topic)
            hub.emit(t.TopicSilent(now, hub.cluster, topic.wire, self._policy.silent_topic_s))
            self.warn("silent_topic", topic.wire, f"{topic} {self._silence}", hub.callers(topic))
        if found:
            callers = [caller for topic in found for caller in hub.callers(topic)]
            _tell(f"{_some([str(topic) for topic in found])} {self._silence}", callers)

    @property
    def _silence(self) -> str:
        return (
            f"was confirmed, but nothing came for {self._policy.silent_topic_s:g} s of regular hours. The vendor confirms "
            "symbols that do not exist too: check the symbol."
        )

    # ---- warnings

    def duplicate(self, found: Duplicate) -> None:
        """Report work that is done twice."""
        hub = self._hub
        hub.emit(t.DuplicateWork(hub.now(), found.kind, found.what, found.callers, found.n, hub.cluster))
        self.warn(found.kind, found.what, found.text, found.callers)
        _log.info(found.text)

    def warn(self, kind: str, topic: str, text: str, callers: Iterable[str | None]) -> None:
        """Keep a row for ``live.warnings()``."""
        told = tuple(dict.fromkeys(caller for caller in callers if caller))
        self.warned.append(Warned(self._hub.clock.now_ns(), self._hub.cluster, topic, kind, text, told))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tell(text: str, callers: Iterable[str | None]) -> None:
    told = list(dict.fromkeys(caller for caller in callers if caller))
    _log.warning("%s%s", text, f" Asked for at {_some(told)}." if told else "")
