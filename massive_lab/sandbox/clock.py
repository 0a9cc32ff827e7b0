"""Virtual time: real time times a speed, paused, or jumped.

Prices, market status, the delayed feed, rate limits and scenarios read this clock, so one control call moves them all.
Bytes on the wire (latency, bandwidth, close delays) are physical and follow real time instead.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable

from massive_lab.errors import InvalidRequest
from massive_lab.schema.session import NEW_YORK

__all__ = ["DEFAULT_START", "VirtualClock", "parse_moment"]

DEFAULT_START = "2018-12-19T10:30:00"
"""New York time: a lively regular session (a Fed day) inside the bundled index history."""

_NS = 1_000_000_000


def parse_moment(moment: int | str) -> int:
    """UTC nanoseconds of an integer or an ISO text; a text without an offset is New York time.

    Examples
    --------
    >>> parse_moment("2018-12-19T10:30:00") == parse_moment("2018-12-19T15:30:00+00:00")
    True
    """
    if isinstance(moment, int):
        return moment
    try:
        parsed = dt.datetime.fromisoformat(moment)
    except ValueError:
        raise InvalidRequest(
            f"{moment!r} is not a moment.", hint="Write 2018-12-19T10:30:00 (New York) or give an offset."
        ) from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=NEW_YORK)
    whole = int(parsed.replace(microsecond=0).timestamp())
    return whole * _NS + parsed.microsecond * 1_000


class VirtualClock:
    """The sandbox's time. Not thread safe: the event loop owns it.

    Parameters
    ----------
    start_ns : int
        Virtual UTC nanoseconds at the start.
    speed : float
        Virtual seconds per real second, greater than 0.
    paused : bool
        Start standing still.
    monotonic_ns : callable
        Real time in nanoseconds; a test hands in its own.

    Examples
    --------
    >>> clock = VirtualClock(1_000, paused=True, monotonic_ns=lambda: 0)
    >>> clock.jump_to(5_000)
    >>> clock.now_ns()
    5000
    """

    def __init__(
        self,
        start_ns: int,
        *,
        speed: float = 1.0,
        paused: bool = False,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._virtual_ns = start_ns
        self._real_ns = monotonic_ns()
        self._speed = _checked(speed)
        self._paused = paused
        self._changed: set[asyncio.Future[None]] = set()

    @property
    def speed(self) -> float:
        return self._speed

    @property
    def paused(self) -> bool:
        return self._paused

    def now_ns(self) -> int:
        if self._paused:
            return self._virtual_ns
        return self._virtual_ns + int((self._monotonic_ns() - self._real_ns) * self._speed)

    def pause(self) -> None:
        self._rebase(self.now_ns())
        self._paused = True
        self._wake()

    def resume(self) -> None:
        self._rebase(self.now_ns())
        self._paused = False
        self._wake()

    def set_speed(self, speed: float) -> None:
        checked = _checked(speed)
        self._rebase(self.now_ns())
        self._speed = checked
        self._wake()

    def jump_to(self, moment_ns: int) -> None:
        """Move forward at once; the past is served and cannot come back.

        Raises
        ------
        InvalidRequest
            When `moment_ns` lies before now.
        """
        now = self.now_ns()
        if moment_ns < now:
            raise InvalidRequest(f"Virtual time does not go back: asked {moment_ns}, now {now}.")
        self._rebase(moment_ns)
        self._wake()

    async def sleep_until(self, moment_ns: int) -> None:
        """Return once virtual time has reached `moment_ns`, however it got there."""
        while (left := moment_ns - self.now_ns()) > 0:
            changed = asyncio.get_running_loop().create_future()
            self._changed.add(changed)
            try:
                # One real microsecond more, so that rounding never wakes the sleeper just before its moment.
                timeout = None if self._paused else left / self._speed / _NS + 1e-6
                await asyncio.wait((changed,), timeout=timeout)
            finally:
                self._changed.discard(changed)

    def _rebase(self, virtual_ns: int) -> None:
        self._virtual_ns = virtual_ns
        self._real_ns = self._monotonic_ns()

    def _wake(self) -> None:
        for changed in self._changed:
            if not changed.done():
                changed.set_result(None)


def _checked(speed: float) -> float:
    if not 0 < speed <= 1_000_000:
        raise InvalidRequest(f"Speed must be greater than 0 and at most 1,000,000, not {speed}.", hint="Pause instead.")
    return float(speed)
