"""One smoothing at a time: TA-Lib's recursions from any level, in a state of two numbers.

TA-Lib's batch functions and its streaming handles run the same compiled steps, and Python with the same formula gives other
last bits. A handle cannot be pickled, rewound or set, but the two used here hold nothing except the level they show. So a
handle at a given level is made from a pristine one, which stands at zero, by feeding it the values that lead there: the
first lands within two roundings of the level, the second on it. That takes two steps whatever the history was.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from typing import Any, Self, TypeAlias

import numpy as np
import talib
from talib import stream

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.indicators._engine import Array

__all__ = ["Ema", "State", "Wilder", "ema_from", "ema_from_first"]

State: TypeAlias = tuple[int, float]

_TRIES = 64


class Ema:
    """TA-Lib's exponential average, seeded with the mean of the first `seed` values; with 0 it starts from level 0.

    Examples
    --------
    >>> average = Ema(3, seed=3)
    >>> [average.step(x) for x in (1.0, 2.0, 3.0, 4.0)]
    [None, None, 2.0, 3.0]
    >>> average.back((3, 2.0))
    >>> average.step(6.0)
    4.0
    """

    __slots__ = ("count", "handle", "level", "period", "seed")

    def __init__(self, period: int, *, seed: int) -> None:
        self.period = period
        self.seed = seed
        self.count, self.level = 0, 0.0
        self.handle: Any = None if seed else self._open(0.0)

    def step(self, x: float) -> float | None:
        """Take a value; the new level, or None while the seed is gathered."""
        if self.handle is None:
            return self._gather(x)
        level: float = self.handle.update(x)
        self.level = level
        return level

    def peek(self, x: float) -> float | None:
        """What `step` would give."""
        if self.handle is None:
            return (self.level + x) / self.seed if self.count + 1 == self.seed else None
        return self.handle.peek(x)  # type: ignore[no-any-return]

    def state(self) -> State:
        """Values gathered, and their sum; once the seed is full, its length and the level."""
        return self.count, self.level

    def back(self, state: State) -> None:
        """Go to a state."""
        count, level = state
        if not 0 <= count <= self.seed:
            raise InvalidRequest(f"{state!r} is no state of an average seeded with {self.seed} values.")
        self.handle = self._open(level) if count == self.seed else None
        self.count, self.level = count, level

    @property
    def value(self) -> float | None:
        """The level; None while the seed is gathered."""
        return self.level if self.count == self.seed else None

    def copy(self) -> Self:
        """An independent smoothing at the same state."""
        twin = object.__new__(type(self))
        twin.period, twin.seed, twin.count, twin.level = self.period, self.seed, self.count, self.level
        twin.handle = None if self.handle is None else self.handle.copy()
        return twin

    def _gather(self, x: float) -> float | None:
        total = self.level + x
        if self.count + 1 < self.seed:
            self.count += 1
            self.level = total
            return None
        level = total / self.seed
        self.back((self.seed, level))
        return level

    def _open(self, level: float) -> Any:
        return _ema_at(self.period, level)[0]


class Wilder(Ema):
    """Wilder's average with TA-Lib's arithmetic of the ATR, for values that are not negative."""

    __slots__ = ()

    def step(self, x: float) -> float | None:
        """Take a value; the new level, or None while the seed is gathered."""
        if self.handle is None:
            return self._gather(x)
        # A bar from 0 to x after a close of 0: its true range is x.
        level: float = self.handle.update(x, 0.0, 0.0)
        self.level = level
        return level

    def peek(self, x: float) -> float | None:
        """What `step` would give."""
        if self.handle is None:
            return super().peek(x)
        return self.handle.peek(x, 0.0, 0.0)  # type: ignore[no-any-return]

    def _open(self, level: float) -> Any:
        handle, period = _wilder_at_zero(self.period).copy(), self.period
        now = 0.0
        for _ in range(_TRIES):
            if now == level:
                return handle
            now = handle.update(max(now + (level - now) * period, 0.0), 0.0, 0.0)
        raise _unreachable(level, period)


@lru_cache(maxsize=256)
def _ema_at_zero(period: int) -> Any:
    return stream.EMA(np.zeros(period), timeperiod=period)


@lru_cache(maxsize=256)
def _wilder_at_zero(period: int) -> Any:
    zeros = np.zeros(period + 1)
    return stream.ATR(zeros, zeros, zeros, timeperiod=period)


def _ema_at(period: int, level: float) -> tuple[Any, list[float]]:
    """A handle at a level, and the values that led it there from zero."""
    handle = _ema_at_zero(period).copy()
    now = 0.0
    path: list[float] = []
    for _ in range(_TRIES):
        if now == level:
            return handle, path
        path.append(now + (level - now) * (period + 1) / 2)
        now = handle.update(path[-1]) if isfinite(path[-1]) else path[-1]
    raise _unreachable(level, period)


def _unreachable(level: float, period: int) -> FrameInvariantError:
    return FrameInvariantError(
        f"An average over {period} values cannot be carried at {level}: its sums leave the range of 64-bit floats.",
        rule="range",
        hint="Divide the prices by a constant.",
    )


def ema_from(values: Array, period: int, level: float) -> Array:
    """TA-Lib's exponential average of all values, from a level before the first of them."""
    head = np.concatenate((np.zeros(period), _ema_at(period, level)[1]))
    return talib.EMA(np.concatenate((head, values)), timeperiod=period)[len(head) :]


def ema_from_first(values: Array, period: int) -> Array:
    """TA-Lib's exponential average, which begins with the first value itself."""
    if len(values) == 0:
        return values
    return np.concatenate((values[:1], ema_from(values[1:], period, float(values[0]))))
