"""What was delivered of late, kept as it came: one append for a frame, nothing for an event. And the exchange's time by it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from massive_lab.decode.stream import Event, Message, Notice, Status
from massive_lab.live.stitch.keys import Key, key_of, moment_ms

__all__ = ["Tail"]

_MS = 1_000_000


class Tail:
    """The last seconds of a cluster, by the exchange's clock, bounded in events.

    Parameters
    ----------
    window_ms : int
        A frame is kept until the exchange is this much later.
    max_events : int
        Held at most, beyond the newest frame.

    Examples
    --------
    >>> from massive_lab.decode.stream import Trade
    >>> tail = Tail(window_ms=1_000, max_events=10)
    >>> for ms in (1_000, 1_900, 2_500): tail.append([Trade("AAPL", ms, 5.0)], now_ns=(ms + 40) * 1_000_000)
    >>> [event.ms for event in tail.by_key()[Trade, "AAPL"]], tail.exchange_ms(2_640 * 1_000_000)
    ([1900, 2500], 2600)
    """

    def __init__(self, window_ms: int, max_events: int) -> None:
        self._window_ms = window_ms
        self._max_events = max_events
        self._frames: deque[tuple[int, Sequence[Message]]] = deque()
        self._n = 0
        self._high: tuple[int, int] | None = None
        self._cut_ms = -1

    def append(self, messages: Sequence[Message], now_ns: int) -> None:
        """A frame of the stream."""
        if not messages:
            return
        # Both ends, for a late bar may stand at either; the rest of a frame is as old as these.
        ends = [moment_ms(m) for m in (messages[0], messages[-1]) if not isinstance(m, Status | Notice)]
        if ends and (self._high is None or max(ends) > self._high[0]):
            self._high = max(ends), now_ns
        self._hold(messages, self._high[0] if self._high else 0)

    def add(self, events: Sequence[Event], now_ns: int) -> None:
        """Events by REST, which may be old: the exchange's time is taken from them only where it is ahead of the estimate."""
        if not events:
            return
        newest = max(map(moment_ms, events))
        known = self.exchange_ms(now_ns)
        if known is None or newest > known:
            self._high = newest, now_ns
        self._hold(events, newest if self._high is None else max(newest, self._high[0]))

    def _hold(self, messages: Sequence[Message], tag: int) -> None:
        frames = self._frames
        frames.append((tag, messages))
        self._n += len(messages)
        oldest_ms = self._high[0] - self._window_ms if self._high else 0
        while len(frames) > 1 and (frames[0][0] < oldest_ms or self._n > self._max_events):
            old = frames.popleft()
            self._n -= len(old[1])
            if old[0] >= oldest_ms:
                self._cut_ms = old[0]

    def exchange_ms(self, now_ns: int) -> int | None:
        """The exchange's time at a local instant, by the newest event; None before the first."""
        return None if self._high is None else self._high[0] + (now_ns - self._high[1]) // _MS

    @property
    def high_ms(self) -> int | None:
        """The exchange's time when it was last heard of; None before the first event."""
        return None if self._high is None else self._high[0]

    @property
    def is_cut(self) -> bool:
        """Whether the bound took frames that the window would have kept."""
        return self._high is not None and self._cut_ms >= self._high[0] - self._window_ms

    def by_key(self) -> dict[Key, list[Event]]:
        """The events held, by type and symbol, in order of arrival."""
        found: dict[Key, list[Event]] = {}
        for _, messages in self._frames:
            for message in messages:
                if not isinstance(message, Status | Notice):
                    found.setdefault(key_of(message), []).append(message)
        return found
