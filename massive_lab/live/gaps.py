"""What was missed: from the last frame before a loss to the first moment the socket was back, and what became of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from massive_lab import telemetry as t
from massive_lab.decode.stream import Event, Message
from massive_lab.errors import TransportError
from massive_lab.live.readers import Gap
from massive_lab.live.topics import Topic

if TYPE_CHECKING:
    from massive_lab.live.hub import Hub

__all__ = ["Filler", "Gaps"]

_KEPT = 1_000


class Filler(Protocol):
    """What the stitch asks of REST; the loaders implement it."""

    async def fill(self, topic: Topic, start_ns: int, end_ns: int) -> Sequence[Event]:
        """History of one topic as events marked ``backfill``, ``[start, end)`` in UTC ns, in the order of the exchange."""
        ...


class Gaps:
    """The outages of one hub.

    Attributes
    ----------
    fillers : list of Filler
        The REST clients of those who use the hub; the first serves all.
    is_online, was_online : bool
        Whether the socket serves now; whether it ever did.
    """

    def __init__(self, hub: Hub) -> None:
        self.fillers: list[Filler] = []
        self.is_online = False
        self.was_online = False
        self._hub = hub
        self._last_frame_ns: int | None = None
        self._from_ns: int | None = None
        self._cause = ""
        self._rows: deque[Gap] = deque(maxlen=_KEPT)

    def heard(self, messages: list[Message], now_ns: int) -> list[Message]:
        """A frame came over the live socket; gives back what is to be delivered."""
        self._last_frame_ns = now_ns
        return messages

    def offline(self, error: TransportError) -> None:
        """The socket is gone, or could not be opened again."""
        if self.is_online:
            self._from_ns, self._cause = self._last_frame_ns, error.message
            self.is_online = False

    def online(self) -> None:
        """The socket is back."""
        hub = self._hub
        self.is_online = self.was_online = True
        self._last_frame_ns = hub.clock.now_ns()
        if self._from_ns is None:
            return
        wires = tuple(topic.wire for topic in hub.book.wanted)
        gap = Gap(hub.cluster, wires, self._from_ns, hub.clock.now_ns(), self._cause)
        self._from_ns = None
        self._rows.append(gap)
        hub.emit(t.GapDetected(hub.now(), hub.cluster, wires, gap.start_ns, gap.end_ns))

    def rows(self) -> list[Gap]:
        """The gaps so far, the last 1,000."""
        return list(self._rows)
