"""The book of one cluster: who wants what, what the server holds, and the next message that brings the two together.

Pure: no socket, no clock of its own. The shell tells it what readers ask, what the server says and what time it is, and
sends what `Book.next_send` returns.

- The first reader of a topic makes it wanted; the last one to leave starts a linger, after which the count is checked
  again and the topic is unsubscribed. Churn inside the linger never reaches the wire.
- What is wanted survives everything; what is held is forgotten with the connection.
- One control message is in flight at a time. The vendor answers each topic of a subscribe once, by a confirmation that
  names it or by a refusal that names nothing, so the refused ones are known once as many are open as were refused. Where
  the counts do not meet by the deadline, the open ones are asked again, one at a time. No answer at all by the deadline is
  a failure too: that is how the vendor treats an unknown channel.
- An unsubscribe is repeated until it is answered, in growing intervals. A topic that is wanted again meanwhile is subscribed
  anew, for nobody knows whether it is held; silence then means that it was.
- A single covered by a held wildcard is not subscribed; it is before its wildcard goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from massive_lab.errors import SubscriptionFailed
from massive_lab.live.outcomes import Closed, Confirmed, Denied, Opened, Outcome, Send
from massive_lab.live.policy import Policy
from massive_lab.live.topics import Topic, cap_of, cover, covers
from massive_lab.typing import Cluster

__all__ = ["Book", "Closed", "Confirmed", "Denied", "Opened", "Outcome", "Send", "TopicState"]

TopicState = Literal["wanted", "pending", "confirmed", "lingering"]
_SUBSCRIBED = "subscribed to:"
_UNSUBSCRIBED = "unsubscribed to:"


@dataclass(slots=True)
class _Flight:
    action: Literal["subscribe", "unsubscribe"]
    open: dict[Topic, None]
    deadline: float
    n_refused: int = 0
    reason: str = ""


@dataclass(slots=True)
class _Want:
    readers: dict[str, None] = field(default_factory=dict)
    n_avoided: int = 0


class Book:
    """Ref counts and upstream state of one cluster.

    Parameters
    ----------
    cluster : {"stocks", "options", "indices"}
    policy : Policy
        `linger_s`, `ack_s`, `batch_topics`, `unsubscribe_attempts` and `unsubscribe_cap_s` are used.
    answers_late : bool
        Silence is no refusal: a gateway whose own upstream is down answers when it can.

    Examples
    --------
    >>> book, aapl = Book("stocks", Policy()), Topic("stocks", "T", "AAPL")
    >>> book.open(aapl, "one"), book.open(aapl, "two")
    ([Opened(topic=Topic(cluster='stocks', channel='T', symbol='AAPL'))], [])
    >>> book.online(); book.next_send(0.0).topics[0].wire
    'T.AAPL'
    >>> [type(outcome).__name__ for outcome in book.status("success", "subscribed to: T.AAPL")]
    ['Confirmed']
    >>> book.close(aapl, "one", 0.2), book.next_send(0.2), book.readers(aapl)
    ([], None, ('two',))
    """

    def __init__(self, cluster: Cluster, policy: Policy, *, answers_late: bool = False) -> None:
        self.cluster = cluster
        self.answers_late = answers_late
        self._policy = policy
        self._wants: dict[Topic, _Want] = {}
        self._linger: dict[Topic, float] = {}
        self._held: dict[Topic, None] = {}
        self._sent: dict[str, Topic] = {}
        self._announced: set[Topic] = set()
        self._alone: set[Topic] = set()
        self._shadowed: set[Topic] = set()
        self._tries: dict[Topic, int] = {}
        self._again: dict[Topic, float] = {}
        self._doubtful: set[Topic] = set()
        self._flight: _Flight | None = None
        self._is_online = False

    # ---- what readers ask

    def open(self, topic: Topic, reader: str) -> list[Outcome]:
        """A reader wants a topic.

        Raises
        ------
        SubscriptionFailed
            When the connection may not hold another topic of this sort. The book is unchanged.
        """
        outcomes = self._make_room(topic)
        if self._tries.pop(topic, None) is not None or self._is_given_back(topic):
            self._held.pop(topic, None)
            self._again.pop(topic, None)
            self._doubtful.add(topic)
        want = self._wants.get(topic)
        if want is not None:
            want.n_avoided += 1
        else:
            want = self._wants[topic] = _Want(n_avoided=int(self._is_covered(topic)))
            outcomes.append(Opened(topic))
        want.readers[reader] = None
        self._linger.pop(topic, None)
        return [*outcomes, *self._announce([topic])]

    def close(self, topic: Topic, reader: str, now: float) -> list[Outcome]:
        """A reader leaves a topic. Leaving twice, or a topic that was denied, does nothing."""
        want = self._wants.get(topic)
        if want is None or reader not in want.readers:
            return []
        del want.readers[reader]
        if not want.readers:
            self._linger[topic] = now + self._policy.linger_s
        return self.tick(now)

    def _is_given_back(self, topic: Topic) -> bool:
        """Whether an unsubscribe of it is under way."""
        return self._flight is not None and self._flight.action == "unsubscribe" and topic in self._flight.open

    def _make_room(self, topic: Topic) -> list[Outcome]:
        cap = cap_of(topic)
        if cap is None or topic in self._wants:
            return []
        same = [other for other in self._wants if cap_of(other) is not None]
        if len(same) < cap:
            return []
        leaving = [other for other in same if other in self._linger]
        if not leaving:
            raise SubscriptionFailed(
                topic.wire, f"one connection holds at most {cap:,} option quotes", hint="Close others first.",
                symbol=topic.symbol,
            )  # fmt: skip
        return self._drop(min(leaving, key=self._linger.__getitem__))

    # ---- what the server says

    def online(self) -> None:
        """The handshake is done: nothing is held yet, everything wanted is to be asked."""
        self._is_online = True
        self._forget()

    def offline(self) -> None:
        """The connection is gone, and with it everything held."""
        self._is_online = False
        self._forget()

    def _forget(self) -> None:
        for book in (self._held, self._sent, self._announced, self._tries, self._again, self._doubtful, self._shadowed):
            book.clear()
        self._flight = None

    def status(self, status: str, message: str) -> list[Outcome]:
        """Take a ``success`` or ``error`` of the server."""
        flight = self._flight
        if status == "success":
            if message.startswith(_SUBSCRIBED):
                return self._confirmed(message.removeprefix(_SUBSCRIBED).strip())
            if message.startswith(_UNSUBSCRIBED):
                self._released(message.removeprefix(_UNSUBSCRIBED).strip())
        elif status == "error" and flight is not None and flight.action == "subscribe":
            flight.n_refused += 1
            flight.reason = message or "refused"
            return self._settle()
        return []

    def refused(self, wire: str, reason: str) -> list[Outcome]:
        """The server will not bring a topic, or not any more, and names it; nothing for what was never asked for."""
        topic = self._sent.get(wire)
        if topic is None:
            return []
        self._held.pop(topic, None)
        if self._flight is not None and self._flight.action == "subscribe":
            self._flight.open.pop(topic, None)
        return [*self._deny([topic], reason), *self._settle()]

    def data_wire(self, wire: str) -> list[Outcome]:
        """Data came. For a topic still open in flight that is an answer: a server is silent about what it already holds."""
        flight, topic = self._flight, self._sent.get(wire)
        if flight is None or flight.action != "subscribe" or topic is None or topic not in flight.open:
            return []
        return [] if _wildcard_of(topic) in self._held else self._confirmed(wire)

    def _confirmed(self, wire: str) -> list[Outcome]:
        # Only what was sent can be confirmed; anything else in a message is not trusted to be a topic.
        topic = self._sent.get(wire)
        if topic is None:
            return []
        self._held[topic] = None
        self._alone.discard(topic)
        self._shadowed.discard(topic)
        self._doubtful.discard(topic)
        if self._flight is not None and self._flight.action == "subscribe":
            self._flight.open.pop(topic, None)
        brought = [t for t in self._wants if covers(topic, t)] if topic.is_wildcard else [topic]
        return [*self._settle(), *self._announce(brought)]

    def _released(self, wire: str) -> None:
        topic = self._sent.get(wire)
        if topic is None:
            return
        self._held.pop(topic, None)
        self._tries.pop(topic, None)
        self._again.pop(topic, None)
        self._doubtful.discard(topic)
        if self._flight is not None and self._flight.action == "unsubscribe":
            self._flight.open.pop(topic, None)
            self._settle()

    def _settle(self) -> list[Outcome]:
        flight = self._flight
        if flight is None:
            return []
        if not flight.open:
            self._flight = None
        elif flight.n_refused >= len(flight.open):
            self._flight = None
            return self._deny(flight.open, flight.reason)
        return []

    def _deny(self, topics: Iterable[Topic], reason: str) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for topic in list(topics):
            self._alone.discard(topic)
            if (want := self._wants.get(topic)) is not None:
                if want.readers:
                    outcomes.append(Denied(topic, reason, tuple(want.readers)))
                outcomes += self._drop(topic)
        return outcomes

    def fail_all(self, reason: str, topics: Iterable[Topic] | None = None) -> list[Outcome]:
        """Give up on topics (default: all): their readers are told and leave the book."""
        return self._deny(list(self._wants) if topics is None else topics, reason)

    # ---- time

    def tick(self, now: float) -> list[Outcome]:
        """Act on what is due: lingers that ran out, answers that did not come."""
        outcomes: list[Outcome] = []
        for topic in [topic for topic, until in self._linger.items() if until <= now]:
            outcomes += self._drop(topic)
        for topic in [topic for topic, at in self._again.items() if at <= now]:
            del self._again[topic]
        flight = self._flight
        if flight is not None and flight.deadline <= now:
            self._flight = None
            if flight.action == "unsubscribe":
                self._unanswered(flight.open, now)
            elif flight.n_refused:
                self._alone.update(flight.open)
            elif self.answers_late:
                flight.deadline = now + self._policy.ack_s
                self._flight = flight
            else:
                # Under a wildcard that is on its way out a server may find nothing to answer: ask again after it left.
                shadowed = [topic for topic in flight.open if self._is_shadowed(topic)]
                self._shadowed.update(shadowed)
                for topic in [topic for topic in flight.open if topic in self._doubtful]:
                    outcomes += self._confirmed(topic.wire)
                silent = [topic for topic in flight.open if topic not in shadowed and topic not in self._held]
                outcomes += self._deny(silent, f"no answer within {self._policy.ack_s:g} s")
        return outcomes

    def _is_shadowed(self, topic: Topic) -> bool:
        return not topic.is_wildcard and topic not in self._shadowed and _wildcard_of(topic) in self._held

    def _unanswered(self, topics: Iterable[Topic], now: float) -> None:
        policy = self._policy
        for topic in topics:
            if topic not in self._held:
                continue  # wanted again meanwhile
            tries = self._tries[topic] = self._tries.get(topic, 0) + 1
            if tries >= policy.unsubscribe_attempts:
                doublings = min(tries - policy.unsubscribe_attempts, 16)
                self._again[topic] = now + min(policy.unsubscribe_cap_s, policy.ack_s * 2.0**doublings)

    def _drop(self, topic: Topic) -> list[Outcome]:
        del self._wants[topic]
        if topic in self._doubtful:
            self._doubtful.discard(topic)
            self._held[topic] = None  # as far as anybody knows
            self._tries[topic] = 1
        self._linger.pop(topic, None)
        self._announced.discard(topic)
        return [Closed(topic)]

    @property
    def deadline(self) -> float | None:
        """Monotonic seconds of the next thing that is due, or None."""
        due = [*self._linger.values(), *self._again.values()]
        if self._flight is not None:
            due.append(self._flight.deadline)
        return min(due, default=None)

    # ---- what to send

    def next_send(self, now: float) -> Send | None:
        """The next control message; None when there is nothing to say, or an answer is awaited.

        Whoever calls this must send what it returns, or call `offline`.
        """
        if not self._is_online or self._flight is not None:
            return None
        desired = cover(self._wants)
        missing = [topic for topic in self._wants if topic in desired and topic not in self._held]
        surplus = [topic for topic in self._held if topic not in desired and topic not in self._again]
        if surplus and self._over_cap(missing):
            capped = [topic for topic in surplus if cap_of(topic) is not None]
            return self._take_off("unsubscribe", capped, now)
        if surplus and missing and self._shadowed.issuperset(missing):
            return self._take_off("unsubscribe", surplus, now)
        if missing:
            together = [topic for topic in missing if topic not in self._alone]
            return self._take_off("subscribe", together or missing[:1], now)
        return self._take_off("unsubscribe", surplus, now) if surplus else None

    def _over_cap(self, missing: Iterable[Topic]) -> bool:
        caps = [cap for topic in (*self._held, *missing) if (cap := cap_of(topic)) is not None]
        return bool(caps) and len(caps) > caps[0]

    def _take_off(self, action: Literal["subscribe", "unsubscribe"], topics: list[Topic], now: float) -> Send:
        batch = tuple(topics[: self._policy.batch_topics])
        self._sent.update((topic.wire, topic) for topic in batch)
        self._flight = _Flight(action, dict.fromkeys(batch), now + self._policy.ack_s)
        return Send(action, batch)

    # ---- what is known

    def readers(self, topic: Topic) -> tuple[str, ...]:
        """Who reads a topic, in the order they came."""
        want = self._wants.get(topic)
        return tuple(want.readers) if want else ()

    def avoided(self, topic: Topic) -> int:
        """Openings of a topic that needed nothing from the server."""
        want = self._wants.get(topic)
        return want.n_avoided if want else 0

    @property
    def wanted(self) -> tuple[Topic, ...]:
        """Topics with readers, or lingering."""
        return tuple(self._wants)

    @property
    def held(self) -> frozenset[Topic]:
        """What the server has confirmed on this connection."""
        return frozenset(self._held)

    @property
    def is_settled(self) -> bool:
        """Nothing is in flight."""
        return self._flight is None

    def state(self, topic: Topic) -> TopicState | None:
        """Where a topic stands; None when nobody wants it."""
        want = self._wants.get(topic)
        if want is None:
            return None
        if not want.readers:
            return "lingering"
        if self._is_confirmed(topic):
            return "confirmed"
        return "pending" if self._flight is not None and topic in self._flight.open else "wanted"

    def _is_confirmed(self, topic: Topic) -> bool:
        return topic in self._held or self._is_covered(topic)

    def _is_covered(self, topic: Topic) -> bool:
        if topic.is_wildcard or cap_of(topic) is not None:
            return False
        wide = _wildcard_of(topic)
        return wide in self._held and wide in self._wants

    def _announce(self, topics: Iterable[Topic]) -> list[Outcome]:
        fresh = [
            t for t in topics if t in self._wants and t not in self._announced and self._is_confirmed(t)
        ]
        self._announced.update(fresh)
        return [Confirmed(topic) for topic in fresh]


@lru_cache(maxsize=64)
def _wildcard(cluster: Cluster, channel: str) -> Topic:
    return Topic(cluster, channel, "*")


def _wildcard_of(topic: Topic) -> Topic | None:
    return None if cap_of(topic) is not None else _wildcard(topic.cluster, topic.channel)
