"""A least-recently-used cache bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Generic, TypeVar

__all__ = ["ByteCache"]

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Keeps what was used last, up to a number of bytes.

    Parameters
    ----------
    max_bytes : int
        When the sizes add up to more, the entries unused for longest go.
    size : callable
        Bytes of one value.
    """

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        self._max_bytes = max_bytes
        self._size = size
        self._entries: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._n_bytes = 0
        self._lock = RLock()

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The entry of `key`, made first when it is not there."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
                return found[0]
        value = make()  # outside the lock: two threads may make the same value twice, never a different one
        with self._lock:
            if key not in self._entries:
                size = self._size(value)
                self._entries[key] = (value, size)
                self._n_bytes += size
                while self._n_bytes > self._max_bytes and len(self._entries) > 1:
                    _, (_, gone) = self._entries.popitem(last=False)
                    self._n_bytes -= gone
            return value
