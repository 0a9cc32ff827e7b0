"""What travels on the bus: subjects, messages, their bounds. Pure.

=================================== =============== ====================================================
subject below the key and cluster   message         from whom
=================================== =============== ====================================================
``events.<channel>.<symbol>``       `Events`        the leader: what the upstream brought for a topic
``leader``                          `State`         the leader: where it stands, once a beat and at changes
``leader``                          `Told`          the leader: topics that were confirmed or denied
``leader``                          `Heads`         the leader: how far the topics have come
``interest``                        `Interest`      every replica: what it reads, and that it lives
=================================== =============== ====================================================

The key is never in a message or a subject: `Subjects` has a digest of it, of the address it is used at and of the cluster.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Meta, Raw, Struct

from massive_lab.config import Secret
from massive_lab.errors import ConnectionLost
from massive_lab.live.topics import Topic
from massive_lab.typing import Cluster

__all__ = [
    "CHUNK",
    "MAX_BYTES",
    "BusDown",
    "Events",
    "Heads",
    "Interest",
    "Malformed",
    "Message",
    "State",
    "Subjects",
    "Told",
    "chunks",
    "decode",
    "encode",
    "events_of",
    "pack",
]

MAX_BYTES = 512 * 1024
"""Of a message; half of what a NATS server takes by default. A longer one is set aside unread."""
CHUNK = 2_000
"""Topics in one message."""

T = TypeVar("T")
_VERSION = "massive.v1"
_Epoch = Annotated[int, Meta(ge=1, le=2**62)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Wire = Annotated[str, Meta(min_length=3, max_length=64)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Text = Annotated[str, Meta(max_length=300)]
_EVENT = re.compile(rb'\{"ev":"([A-Z]{1,2})","sym":"')


class BusDown(ConnectionLost):
    """The bus cannot be reached, or did not take a message."""


class Malformed(Exception):
    """A message that cannot be read; its text says why."""


class Events(Struct, tag_field="m", tag="events", frozen=True):
    """Events of one topic, in the order of the upstream."""

    epoch: _Epoch
    sequence: Annotated[int, Meta(ge=1, le=2**53)]
    wire: _Wire
    events: Raw
    """A JSON array, as a frame of the vendor's."""


class State(Struct, tag_field="m", tag="state", frozen=True):
    """Where the leader stands."""

    epoch: _Epoch
    leader: _Name
    state: Annotated[str, Meta(max_length=16)]
    """``live``, ``connecting``, ``refused`` (the vendor will not have the key: `why` says it) or ``over``."""
    why: _Text = ""
    lacks: list[_Name] = []
    """Replicas whose interest is not known in full."""


class Told(Struct, tag_field="m", tag="told", frozen=True):
    """The upstream's answers."""

    epoch: _Epoch
    confirmed: list[_Wire] = []
    denied: dict[_Wire, _Text] = {}


class Heads(Struct, tag_field="m", tag="heads", frozen=True):
    """The last sequence of the topics that had events since the last beat."""

    epoch: _Epoch
    heads: dict[_Wire, _Count]


class Interest(Struct, tag_field="m", tag="interest", frozen=True):
    """What a replica reads: part of it, or (without parts) only that it is there."""

    replica: _Name
    version: _Count
    part: Annotated[int, Meta(ge=0, le=10_000)] = 0
    parts: Annotated[int, Meta(ge=0, le=10_000)] = 0
    topics: list[_Wire] = []
    is_leaving: bool = False


Message: TypeAlias = Events | State | Told | Heads | Interest

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode
_raws = msgspec.json.Decoder(list[Raw]).decode


def encode(message: Message) -> bytes:
    return _encode(message)


def decode(data: bytes) -> Message:
    """Read a message.

    Raises
    ------
    Malformed
        When it is too long, not JSON, of an unknown kind, or out of bounds.

    Examples
    --------
    >>> decode(encode(Told(7, ["T.SPY"])))
    Told(epoch=7, confirmed=['T.SPY'], denied={})
    """
    if len(data) > MAX_BYTES:
        raise Malformed(f"{len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        return _decode(data)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(type(error).__name__) from error


def events_of(message: Events) -> bytes:
    """The events, with a comma between them.

    Raises
    ------
    Malformed
        When something in it is no event of the topic's channel: no control message gets to a client by the bus.
    """
    try:
        items = _raws(message.events)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("events that are no list") from error
    channel = message.wire.partition(".")[0].encode()
    for item in items:
        found = _EVENT.match(bytes(item))
        if found is None or found[1] != channel:
            raise Malformed("something that is no event of the topic")
    return b",".join([bytes(item) for item in items])


def pack(events: Sequence[bytes], most: int = MAX_BYTES - 1024) -> Iterator[Raw]:
    """JSON arrays of at most `most` bytes each, in order.

    Examples
    --------
    >>> [bytes(each) for each in pack([b"{1}", b"{2}", b"{3}"], most=9)]
    [b'[{1},{2}]', b'[{3}]']
    """
    batch: list[bytes] = []
    size = 1
    for event in events:
        if batch and size + len(event) + 1 > most:
            yield Raw(b"[" + b",".join(batch) + b"]")
            batch, size = [], 1
        batch.append(event)
        size += len(event) + 1
    if batch:
        yield Raw(b"[" + b",".join(batch) + b"]")


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Lists of at most `size`, in order; none for nothing."""
    held = list(items)
    for start in range(0, len(held), size):
        yield held[start : start + size]


class Subjects:
    """Where messages of one key, address and cluster are found.

    Examples
    --------
    >>> subjects = Subjects("ws://host", Secret("k"), "stocks")
    >>> subjects.events(Topic("stocks", "T", "BRK.B")).removeprefix(subjects.base), "k." in subjects.base
    ('.events.T.BRK%2EB', False)
    """

    def __init__(self, ws_url: str, key: Secret, cluster: Cluster) -> None:
        secret = f"massive_lab bus\n{ws_url}\n{key.reveal()}".encode()
        digest = hashlib.sha256(secret).hexdigest()[:32]
        self.cluster: Cluster = cluster
        self.base = f"{_VERSION}.{digest}.{cluster}"
        self.lease = f"{digest}.{cluster}"
        """The name of the lease in the store."""
        self.leader = f"{self.base}.leader"
        self.interest = f"{self.base}.interest"

    def events(self, topic: Topic) -> str:
        """Of a topic; of a wildcard, those of every symbol."""
        return self.wire(topic.channel, topic.symbol)

    def wire(self, channel: str, symbol: str) -> str:
        # A dot would part the subject, and the letters that NATS gives a meaning may not be in a token.
        token = "*" if symbol == "*" else quote(symbol, safe=":-_").replace(".", "%2E")
        return f"{self.base}.events.{channel}.{token}"
