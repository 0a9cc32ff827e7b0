"""A small memory of answers that do not change, and the rule of what may go into it.

An answer is kept where the vendor says so (``Cache-Control: public``, ``immutable`` or ``s-maxage``), and for a quarter of an
hour where it is a list of codes (exchanges, conditions, ticker types), which the vendor changes a few times a year and
documents as reference. Prices are never kept: the vendor corrects and adjusts also what is long past.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

__all__ = ["Cache", "lifetime_s"]

T = TypeVar("T")

_CODE_LISTS = frozenset(("conditions", "exchanges", "options_exchanges", "stocks_exchanges", "ticker_types"))
_CODE_LIST_S = 900.0
_MAX_S = 86_400.0
_DIRECTIVE = re.compile(r'([a-z-]+)(?:="?([^",;\s]*)"?)?')


class Cache(Generic[T]):
    """At most `max_bytes` of answers, the longest unused out first. Pure: the caller brings the time, in seconds.

    Examples
    --------
    >>> cache = Cache(max_bytes=10, max_entry_bytes=8)
    >>> cache.put("a", "first", 6, ttl_s=60, now_s=0)
    >>> cache.put("b", "second", 6, ttl_s=60, now_s=0)
    >>> cache.get("a", 1), cache.get("b", 1), cache.get("b", 60), cache.n_bytes
    (None, 'second', None, 0)
    """

    def __init__(self, max_bytes: int = 16 * 1024 * 1024, max_entry_bytes: int = 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._max_entry_bytes = max_entry_bytes
        self._entries: OrderedDict[str, tuple[T, int, float]] = OrderedDict()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, now_s: float) -> T | None:
        found = self._entries.get(key)
        if found is None:
            return None
        if now_s >= found[2]:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: str, value: T, n_bytes: int, *, ttl_s: float, now_s: float) -> None:
        """Remember `value`; not at all when it is too large or lives no time."""
        if key in self._entries:
            self._drop(key)
        if ttl_s <= 0 or n_bytes > min(self._max_bytes, self._max_entry_bytes):
            return
        self._entries[key] = value, n_bytes, now_s + ttl_s
        self.n_bytes += n_bytes
        while self.n_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        self.n_bytes -= self._entries.pop(key)[1]


def lifetime_s(endpoint: str, status: int, headers: Mapping[str, str]) -> float:
    """For how many seconds an answer may be given again; 0 for not at all.

    Parameters
    ----------
    endpoint : str
        Name of the path template.
    headers : mapping
        Of the vendor's answer, names in lower case.

    Examples
    --------
    >>> lifetime_s("trades", 200, {}), lifetime_s("exchanges", 200, {})
    (0.0, 900.0)
    >>> lifetime_s("branding", 200, {"cache-control": "public, max-age=3600", "age": "600"})
    3000.0
    >>> lifetime_s("exchanges", 200, {"cache-control": "no-store"}), lifetime_s("trades", 200, {"cache-control": "max-age=60"})
    (0.0, 0.0)
    """
    if status != 200:
        return 0.0
    told = dict(_DIRECTIVE.findall(headers.get("cache-control", "").lower()))
    if not told.keys().isdisjoint(("no-store", "no-cache", "private")):
        return 0.0
    if told.keys().isdisjoint(("public", "immutable", "s-maxage")):
        # Every request carries a key; without one of these words the answer is for its holder alone.
        return _CODE_LIST_S if endpoint in _CODE_LISTS else 0.0
    age = _seconds(str(told.get("s-maxage", told.get("max-age", ""))))
    return max(0.0, min(age, _MAX_S) - _seconds(headers.get("age", "")))


def _seconds(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0.0
