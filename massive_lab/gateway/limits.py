"""How often one may ask: an exact sliding window for each token, and one for all of them.

A call counts for exactly one period from the moment it was let through; what was refused does not count. So no window of
that length, wherever it begins, holds more calls than the limit, and a call is refused only when the limit really is
reached. Pure: the caller brings a time that has no meaning but its differences, in seconds; inside it is whole nanoseconds,
so that boundaries are exact.

Every call that counts for a name counts in total too, so the memory is bounded by the total limit, however many names come.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

__all__ = ["Limits", "Wait"]

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wait:
    """Too many calls.

    Attributes
    ----------
    wait_ns : int
        After this time, and not a nanosecond before, the call goes through if nobody else takes the place.
    scope : {"token", "total"}
        Whose limit it is; with both reached, the one that lasts longer.
    """

    wait_ns: int
    scope: Literal["token", "total"]

    @property
    def seconds(self) -> float:
        return self.wait_ns / _NS

    @property
    def retry_after(self) -> int:
        """For the header ``Retry-After``: whole seconds, rounded up, at least 1."""
        return max(1, -(-self.wait_ns // _NS))


class Limits:
    """The counters.

    Parameters
    ----------
    per_token, total : int
        Calls in any `period_s` seconds. A grant may bring its own limit instead of `per_token`.

    Examples
    --------
    >>> limits = Limits(per_token=2, total=3)
    >>> [limits.take("desk", now) for now in (0.0, 1.0)]
    [None, None]
    >>> limits.take("desk", 30.5).retry_after, limits.take("other", 30.5), limits.take("third", 30.5).scope
    (30, None, 'total')
    >>> limits.take("desk", 60.0) is None
    True
    """

    def __init__(self, per_token: int = 1200, total: int = 1200, *, period_s: float = 60.0) -> None:
        if per_token < 1 or total < 1 or period_s <= 0:
            raise ValueError(f"limits are at least 1 and the period positive: {per_token}, {total}, {period_s}")
        self.per_token = per_token
        self.total = total
        self._period_ns = round(period_s * _NS)
        self._all: deque[int] = deque()
        # Ordered by each name's last call, so that the idle ones are in front.
        self._names: OrderedDict[str, deque[int]] = OrderedDict()
        self._latest_ns = 0
        self._started = False

    @property
    def n_names(self) -> int:
        """Names with a call in the window."""
        return len(self._names)

    def take(self, name: str, now_s: float, *, limit: int | None = None) -> Wait | None:
        """Count one call of `name`, or say how long it must wait; then nothing was counted.

        Parameters
        ----------
        name : str
            The name of the grant, never a text the client sent. Spellings that differ in case or Unicode form are one.
        now_s : float
            Seconds of a clock that does not go back; should it, time stands still until it has caught up.
        limit : int, optional
            This name's own limit.
        """
        now_ns = self._advance(now_s)
        key = _key(name)
        mine = self._names.get(key)
        limit = self.per_token if limit is None else limit
        if limit < 1:
            raise ValueError(f"a limit is at least 1: {limit}")
        token_ns = 0 if mine is None else self._wait_ns(mine, limit, now_ns)
        total_ns = self._wait_ns(self._all, self.total, now_ns)
        if token_ns or total_ns:
            return Wait(token_ns, "token") if token_ns >= total_ns else Wait(total_ns, "total")
        if mine is None:
            mine = self._names[key] = deque()
        mine.append(now_ns)
        self._names.move_to_end(key)
        self._all.append(now_ns)
        return None

    def used(self, name: str, now_s: float) -> int:
        """Calls of a name that count now."""
        now_ns = self._advance(now_s)
        mine = self._names.get(_key(name))
        return 0 if mine is None else sum(at + self._period_ns > now_ns for at in mine)

    def _advance(self, now_s: float) -> int:
        now_ns = round(now_s * _NS)
        if self._started:
            now_ns = max(now_ns, self._latest_ns)
        self._started, self._latest_ns = True, now_ns
        _drop(self._all, now_ns - self._period_ns)
        while self._names:
            key, oldest = next(iter(self._names.items()))
            if oldest[-1] > now_ns - self._period_ns:
                break
            del self._names[key]
        return now_ns

    def _wait_ns(self, taken: deque[int], limit: int, now_ns: int) -> int:
        _drop(taken, now_ns - self._period_ns)
        # A limit may have been lowered below what already counts: then more than one call must fall out first.
        over = len(taken) - limit
        return 0 if over < 0 else taken[over] + self._period_ns - now_ns


def _drop(taken: deque[int], until_ns: int) -> None:
    while taken and taken[0] <= until_ns:
        taken.popleft()


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
