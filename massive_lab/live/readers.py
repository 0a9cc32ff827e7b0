"""What a hub hands out and hears: readers of a topic, whom to tell, and why a topic failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from massive_lab.errors import MassiveLabError, SubscriptionFailed, TransportError
from massive_lab.live.refs import Denied
from massive_lab.live.routes import Sink
from massive_lab.live.topics import Topic

__all__ = ["HubReader", "Listener", "bare", "denial", "failure"]

E = TypeVar("E", bound=BaseException)


class Listener:
    """What the owner of a reader wants to hear; all on the loop thread. The defaults do nothing."""

    def confirmed(self, topic: Topic) -> None:
        """The topic is live."""

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        """The topic is lost to this reader, which is closed."""

    def suspended(self, topic: Topic, error: MassiveLabError) -> None:
        """Nothing more comes for the topic until the feed is opened again. The reader is kept, and so is the topic."""

    def refused(self, error: MassiveLabError) -> None:
        """The server will not have us: nothing more is confirmed, and what still comes, comes from polling."""

    def resumed(self) -> None:
        """What `refused` and `suspended` told is over: the socket is back, or somebody asked for another attempt."""


@dataclass(slots=True, eq=False)
class HubReader:
    """One reader of one topic."""

    id: str
    topic: Topic
    sinks: tuple[Sink, ...]
    listener: Listener
    caller: str | None
    opened_ns: int = 0
    is_open: bool = True
    n_dropped: int = 0


def denial(denied: Denied) -> SubscriptionFailed:
    hint = "The plan lacks this topic." if "not authorized" in denied.reason else "Check the topic and the plan."
    return SubscriptionFailed(denied.topic.wire, denied.reason, symbol=denied.topic.symbol, hint=hint)


def failure(topic: Topic, cause: TransportError) -> SubscriptionFailed:
    error = SubscriptionFailed(topic.wire, cause.message.rstrip("."), symbol=topic.symbol, hint=cause.hint)
    error.__cause__ = cause
    return error


def bare(error: E) -> E:
    """An error without the frames it passed through, which would keep sockets and answers alive."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
