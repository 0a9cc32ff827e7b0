"""Who reads what, as the leader knows it: the union of all replicas, counted, without the dead. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from massive_lab.gateway.bus.messages import Interest

__all__ = ["Interests"]


@dataclass(slots=True)
class _Replica:
    heard_at: float
    wanted: int
    version: int = -1
    topics: frozenset[str] = frozenset()
    parts: dict[int, list[str]] = field(default_factory=dict)


class Interests:
    """The replicas of one leader. Times are monotonic seconds given by the caller.

    Parameters
    ----------
    dead_s : float
        Silence after which a replica is taken for dead.
    max_replicas, max_topics : int
        More are not believed: replicas beyond are ignored, as are topics beyond, by replica.

    Examples
    --------
    >>> interests = Interests(3.0)
    >>> interests.heard(Interest("a", 1, 0, 1, ["T.SPY"]), 0.0), interests.heard(Interest("b", 1, 0, 1, ["T.SPY"]), 1.0)
    (True, True)
    >>> interests.union, interests.expire(3.0), interests.union, interests.expire(4.0), interests.union
    ({'T.SPY'}, ['a'], {'T.SPY'}, ['b'], set())
    """

    def __init__(self, dead_s: float, *, max_replicas: int = 1_000, max_topics: int = 200_000) -> None:
        self._dead_s = dead_s
        self._max_replicas = max_replicas
        self._max_topics = max_topics
        self._replicas: dict[str, _Replica] = {}
        self._counts: Counter[str] = Counter()

    @property
    def union(self) -> set[str]:
        """Topics that somebody reads."""
        return set(self._counts)

    def __contains__(self, wire: str) -> bool:
        return wire in self._counts

    def readers(self, wire: str) -> int:
        """How many replicas read a topic."""
        return self._counts[wire]

    @property
    def replicas(self) -> tuple[str, ...]:
        return tuple(self._replicas)

    def topics(self, replica: str) -> frozenset[str]:
        """What a replica reads, as far as is known."""
        known = self._replicas.get(replica)
        return known.topics if known else frozenset()

    @property
    def lacks(self) -> list[str]:
        """Replicas that read something else by now, which has not come in full."""
        return [name for name, replica in self._replicas.items() if replica.version != replica.wanted]

    def heard(self, message: Interest, now: float) -> bool:
        """A message came; whether it completed what a replica reads."""
        if message.is_leaving:
            self._drop(message.replica)
            return False
        replica = self._replicas.get(message.replica)
        if replica is None:
            if len(self._replicas) >= self._max_replicas:
                return False
            replica = self._replicas[message.replica] = _Replica(now, message.version)
        replica.heard_at = now
        if message.version < replica.wanted:
            return False
        if message.version > replica.wanted:
            replica.wanted = message.version
            replica.parts = {}
        if not message.parts or message.part >= message.parts:
            return False
        replica.parts[message.part] = message.topics
        if len(replica.parts) < message.parts:
            return False
        topics = [wire for part in sorted(replica.parts) for wire in replica.parts[part]]
        self._put(replica, topics[: self._max_topics])
        replica.version, replica.parts = message.version, {}
        return True

    def expire(self, now: float) -> list[str]:
        """Forget the dead; gives their names."""
        dead = [name for name, replica in self._replicas.items() if now - replica.heard_at >= self._dead_s]
        for name in dead:
            self._drop(name)
        return dead

    def _drop(self, name: str) -> None:
        if (replica := self._replicas.pop(name, None)) is not None:
            self._put(replica, ())

    def _put(self, replica: _Replica, topics: Iterable[str]) -> None:
        now = frozenset(topics)
        for wire in replica.topics - now:
            self._counts[wire] -= 1
            if not self._counts[wire]:
                del self._counts[wire]
        self._counts.update(now - replica.topics)
        replica.topics = now
