"""WebSocket bytes to typed events, without input or output.

One pass of a typed parser per frame. When that fails, the frame is cut into its items and each is read alone: one bad
item is set aside with an excerpt, the rest of the frame lives. An event type this module does not know is counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from massive_lab.decode.stream_events import (
    WIRE_TAGS,
    Bar,
    Event,
    IndexValue,
    Message,
    MinuteBar,
    Notice,
    Quote,
    SecondBar,
    Status,
    Trade,
    Wire,
)

__all__ = [
    "Bar",
    "Event",
    "Fault",
    "IndexValue",
    "Message",
    "MinuteBar",
    "Notice",
    "Quote",
    "SecondBar",
    "Status",
    "StreamDecoder",
    "Trade",
]

_EXCERPT = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """A frame or an item that could not be read."""

    reason: str
    excerpt: str
    """At most 200 characters."""


class _Head(Struct):
    ev: str


class StreamDecoder:
    """Frames in, messages out; keeps what it could not read for the caller to collect.

    Attributes
    ----------
    unknown : dict of str to int
        Events by type that this library does not know.

    Examples
    --------
    >>> decoder = StreamDecoder()
    >>> frame = b'[{"ev":"T","sym":"AAPL","t":1,"p":5.5,"s":2},{"ev":"T","sym":"AAPL"},{"ev":"ZZ"}]'
    >>> [(trade.symbol, trade.ts_sip, trade.size) for trade in decoder.decode(frame)]
    [('AAPL', 1000000, 2.0)]
    >>> [fault.reason for fault in decoder.take_faults()], decoder.unknown
    (['Object missing required field `t`'], {'ZZ': 1})
    """

    __slots__ = ("_faults", "_frame", "_head", "_items", "_one", "unknown")

    def __init__(self) -> None:
        self._frame = msgspec.json.Decoder(list[Wire])
        self._items = msgspec.json.Decoder(list[msgspec.Raw])
        self._one = msgspec.json.Decoder(Wire)
        self._head = msgspec.json.Decoder(_Head)
        self._faults: list[Fault] = []
        self.unknown: dict[str, int] = {}

    def decode(self, data: bytes) -> list[Message]:
        """Read one frame. Never raises for what the bytes hold."""
        try:
            return self._frame.decode(data)  # type: ignore[return-value]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._slowly(data)

    def take_faults(self) -> list[Fault]:
        """What was set aside since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def _slowly(self, data: bytes) -> list[Message]:
        try:
            items = self._items.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._leniently(data)
        messages = []
        for item in items:
            raw = bytes(item)
            try:
                messages.append(self._one.decode(raw))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                self._set_aside(raw, self._event_type(raw), error)
        return messages

    def _leniently(self, data: bytes) -> list[Message]:
        # Not JSON by the letter. NaN, infinities and numbers beyond a double are what some writers emit; the standard
        # parser gets past them, so the other items of the frame can be saved.
        try:
            items = json.loads(data, parse_constant=_Unreadable, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            return self._lost(data, f"not JSON: {type(error).__name__}")
        if not isinstance(items, list):
            return self._lost(data, "not a list of events")
        messages = []
        for item in items:
            try:
                messages.append(msgspec.convert(item, Wire))
            except (msgspec.MsgspecError, RecursionError) as error:
                ev = item.get("ev") if isinstance(item, dict) else None
                self._set_aside(repr(item).encode(), ev if isinstance(ev, str) else None, error)
        return messages

    def _lost(self, data: bytes, reason: str) -> list[Message]:
        self._faults.append(Fault(reason, data[: 4 * _EXCERPT].decode("utf-8", "replace")[:_EXCERPT]))
        return []

    def _event_type(self, raw: bytes) -> str | None:
        try:
            return self._head.decode(raw).ev
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def _set_aside(self, raw: bytes, ev: str | None, error: Exception) -> None:
        if ev is not None and ev not in WIRE_TAGS:
            # Bounded: a hostile peer must not grow this table without end.
            ev = ev if len(ev) <= 16 and (ev in self.unknown or len(self.unknown) < 64) else "(other)"
            self.unknown[ev] = self.unknown.get(ev, 0) + 1
            return
        self._lost(raw, str(error))


class _Unreadable:
    """Stands where a number should, so that typed conversion refuses the item."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _finite(text: str) -> Any:
    value = float(text)
    return value if abs(value) < float("inf") else _Unreadable(text)
