"""What the incremental indicators share: warm-up, TA-Lib's handles, copying and bad values.

TA-Lib's batch functions and its streaming handles run the same compiled loops. Python code with the same formulas does not
give the same bits: on processors that have it, the library uses a fused multiply-add, which rounds once instead of twice.
So an indicator whose recursion multiplies is carried by a handle, and only sums are kept in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NoReturn, Self

import numpy as np

from massive_lab.errors import FrameInvariantError

__all__ = ["Handled", "Incremental", "number", "refused"]


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
    """Base of the indicators that take one bar at a time. A subclass gives `update`, `peek` and `warmup`."""

    __slots__: tuple[str, ...] = ()

    @property
    def warmup(self) -> int:
        """Bars that give no value yet; the next one gives the first."""
        raise NotImplementedError

    def copy(self) -> Self:
        """An independent indicator at the same bar."""
        twin = object.__new__(type(self))
        for cls in type(self).__mro__:
            for name in getattr(cls, "__slots__", ()):
                value = getattr(self, name)
                setattr(twin, name, value.copy() if hasattr(value, "copy") else value)
        return twin

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()


class Handled(Incremental):
    """An indicator carried by a handle of TA-Lib; the first bars are kept until one can be opened."""

    __slots__ = ("_handle", "_history", "_value")

    def __init__(self) -> None:
        self._handle: Any = None
        self._history: list[tuple[float, ...]] = []
        self._value: Any = None

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} holds a handle of TA-Lib, which cannot be pickled. Pickle the bars and feed them again."
        )

    def _warm(self, bar: tuple[float, ...], opener: Callable[[Sequence[np.ndarray[Any, Any]]], Any]) -> Any:
        """Keep the bar; open the handle when there are enough, and give its value."""
        bar = tuple(map(number, bar))
        self._history.append(bar)
        if len(self._history) <= self.warmup:
            return None
        self._handle = opener([np.array(column) for column in zip(*self._history, strict=True)])
        self._history = []
        return self._handle.value


def refused(*bar: float) -> FrameInvariantError:
    """The error for a bar that a handle did not take."""
    bad = [value for value in bar if not isfinite(value)]
    return FrameInvariantError(
        f"An indicator got {bad[0] if bad else bar}.",
        rule="finite",
        hint="A missing value is None: it is skipped and the state is kept.",
    )
