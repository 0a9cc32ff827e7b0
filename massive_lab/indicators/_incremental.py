"""What the incremental indicators share: reading a number, copying, peeking, reprs."""

from __future__ import annotations

from math import isfinite
from typing import Any, Self

from massive_lab.errors import FrameInvariantError

__all__ = ["Incremental", "number"]


def number(value: float) -> float:
    """A finite float; anything else is refused and the indicator's state stays as it was.

    Examples
    --------
    >>> number(3)
    3.0
    """
    value = float(value)
    if not isfinite(value):
        raise FrameInvariantError(
            f"An indicator got {value}.",
            rule="finite",
            hint="A missing value is None: it is skipped and the state is kept.",
        )
    return value


class Incremental:
    """Base of the indicators that take one bar at a time.

    The state is a handful of plain numbers in slots, so that an indicator pickles and copies like any small object. A
    subclass gives `update`; its first parameters are what the indicator reads of a bar.
    """

    __slots__: tuple[str, ...] = ()

    @property
    def warmup(self) -> int:
        """Bars that give no value yet; the next one gives the first."""
        raise NotImplementedError

    def copy(self) -> Self:
        """An independent indicator at the same bar."""
        twin = object.__new__(type(self))
        for name in type(self).__slots__:
            value = getattr(self, name)
            setattr(twin, name, value.copy() if isinstance(value, list) else value)
        return twin

    def __copy__(self) -> Self:
        return self.copy()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # the state changes

    def _state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).__slots__}
