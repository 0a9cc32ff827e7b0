"""What the book of a cluster says: what became of a topic, and what is to be sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from massive_lab.live.topics import Topic

__all__ = ["Closed", "Confirmed", "Denied", "Opened", "Outcome", "Send"]


@dataclass(frozen=True, slots=True)
class Opened:
    """The first reader came."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The server brings this topic, by itself or by its wildcard."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class Closed:
    """The topic is no longer wanted."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class Denied:
    """The server will not bring this topic; these readers are to be told, and are off the book."""

    topic: Topic
    reason: str
    readers: tuple[str, ...]


Outcome: TypeAlias = Opened | Confirmed | Closed | Denied


@dataclass(frozen=True, slots=True)
class Send:
    """A control message to put on the wire now."""

    action: Literal["subscribe", "unsubscribe"]
    topics: tuple[Topic, ...]
