"""What a client may say: ``{"action":...,"params":...}``. Whatever else comes is named, never a crash. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from massive_lab.config import Secret
from massive_lab.errors import MassiveLabError
from massive_lab.live.topics import Topic
from massive_lab.typing import Cluster

__all__ = ["MAX_MESSAGE", "MAX_TOPICS", "Ask", "Auth", "Bad", "read_control", "topics_of"]

MAX_MESSAGE = 1024 * 1024
"""Bytes of a message; a larger one ends the connection with code 1009."""
MAX_TOPICS = 20_000
"""Topics of one client, and of one message."""
_MAX_WIRE = 64


class _Message(msgspec.Struct):
    action: str
    params: str = ""


_decoder = msgspec.json.Decoder(_Message)


@dataclass(frozen=True, slots=True)
class Auth:
    token: Secret


@dataclass(frozen=True, slots=True)
class Ask:
    """Topics to begin or to end, as they were written."""

    action: Literal["subscribe", "unsubscribe"]
    wires: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bad:
    """A message that cannot be followed, and the fixed text that says so."""

    text: str


Control: TypeAlias = Auth | Ask | Bad


def read_control(data: str | bytes, max_topics: int = MAX_TOPICS) -> Control:
    """Read one message of a client. Never raises for what it holds.

    Examples
    --------
    >>> read_control('{"action":"subscribe","params":"T.AAPL, AM.*,T.AAPL,"}')
    Ask(action='subscribe', wires=('T.AAPL', 'AM.*'))
    >>> read_control(b'{"action":"auth","params":"a token"}'), read_control("[" * 100_000)
    (Auth(token=<secret>), Bad(text='not a message: {"action":...,"params":...} is expected'))
    """
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Bad('not a message: {"action":...,"params":...} is expected')
    if message.action == "auth":
        return Auth(Secret(message.params))
    if message.action not in ("subscribe", "unsubscribe"):
        return Bad("unknown action: auth, subscribe and unsubscribe are known")
    # Counted before it is taken apart.
    if message.params.count(",") >= max_topics:
        return Bad(f"too many topics: {max_topics} are the most")
    wires = dict.fromkeys(wire for each in message.params.split(",") if (wire := each.strip()))
    if not wires:
        return Bad("no topics: params is a comma list such as T.AAPL,AM.*")
    return Ask("subscribe" if message.action == "subscribe" else "unsubscribe", tuple(wires))


def topics_of(cluster: Cluster, wires: tuple[str, ...]) -> Iterator[Topic | None]:
    """The topic of each text; None where it is none of this cluster's."""
    for wire in wires:
        try:
            yield Topic.parse(cluster, wire) if len(wire) <= _MAX_WIRE else None
        except MassiveLabError:
            yield None
