"""When to try again: a pure rule, without time or chance of its own.

A request is repeated only when repeating can help: no answer, 408, 429, 499, and 5xx but for 501 and 505, which will
not change. Any other 4xx stays what it is. The vendor's ``Retry-After`` is obeyed up to a bound. A budget shared by all
requests of a client keeps retries from multiplying the load while the server is in trouble.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

__all__ = ["RetryBudget", "RetryPolicy", "parse_retry_after"]

_RETRYABLE = frozenset({408, 429, 499, *range(500, 600)} - {501, 505})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long.

    Attributes
    ----------
    max_attempts : int
        Tries in all, the first included.
    base_s, cap_s : float
        The k-th wait is drawn from ``[d/2, d)`` with ``d = min(cap_s, base_s * 2**(k-1))``.
    max_retry_after_s : float
        A longer wait than this is not waited for: the caller is told instead.
    """

    max_attempts: int = 4
    base_s: float = 0.25
    cap_s: float = 8.0
    max_retry_after_s: float = 70.0

    def delay(
        self, attempt: int, *, status: int | None, retry_after_s: float | None = None, chance: float = 0.0
    ) -> float | None:
        """Seconds to wait after failed attempt number `attempt`, or None to give up.

        Parameters
        ----------
        attempt : int
            1 for the first try.
        status : int or None
            None when no answer came.
        retry_after_s : float, optional
            What the server asked for.
        chance : float
            In ``[0, 1)``; spreads the waits of many clients.

        Examples
        --------
        >>> policy = RetryPolicy()
        >>> policy.delay(1, status=503), policy.delay(2, status=None), policy.delay(1, status=403)
        (0.125, 0.25, None)
        >>> policy.delay(1, status=429, retry_after_s=3)
        3.0
        """
        if attempt >= self.max_attempts or (status is not None and status not in _RETRYABLE):
            return None
        if retry_after_s is not None:
            return float(retry_after_s) if retry_after_s <= self.max_retry_after_s else None
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 64))
        return ceiling / 2 * (1 + chance)


@dataclass(slots=True)
class RetryBudget:
    """At most `ratio` retries per request, over `reserve` that are always allowed; each request earns, each retry spends.

    Examples
    --------
    >>> budget = RetryBudget(reserve=1, ratio=0.5)
    >>> budget.spend(), budget.spend()
    (True, False)
    >>> budget.earn(); budget.earn(); budget.spend()
    True
    """

    reserve: float = 20.0
    ratio: float = 0.2
    _tokens: float = -1.0

    def __post_init__(self) -> None:
        self._tokens = self.reserve

    def earn(self) -> None:
        self._tokens = min(self.reserve, self._tokens + self.ratio)

    def spend(self) -> bool:
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def parse_retry_after(value: str | None, now_ns: int) -> float | None:
    """Seconds from a ``Retry-After`` header: a number or an HTTP date; None when absent or unreadable.

    Examples
    --------
    >>> parse_retry_after("7", 0), parse_retry_after("Thu, 01 Jan 1970 00:00:09 GMT", 0), parse_retry_after("soon", 0)
    (7.0, 9.0, None)
    """
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, when.timestamp() - now_ns / 1e9)
