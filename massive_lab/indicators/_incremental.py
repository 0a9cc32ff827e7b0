"""What the incremental indicators share: one bar in, taking it back, and moving the state elsewhere.

An indicator is a few numbers, its state. The state before the last bar is kept, so that a bar the vendor sends again can
replace the one it corrects; and the numbers are what a pickle or a snapshot holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar, Generic, Self, TypeVar

from massive_lab.errors import FrameInvariantError, InvalidRequest

__all__ = ["Incremental", "OfValues", "number", "refused"]

T = TypeVar("T")


def number(value: float) -> float:
    """A finite float; anything else is refused and the indicator's state stays as it was.

    Examples
    --------
    >>> number(3)
    3.0
    """
    if not isfinite(value):
        raise refused(value)
    return float(value)


def refused(*bar: float) -> FrameInvariantError:
    """The error for a bar with a number that is none."""
    bad = [value for value in bar if not isfinite(value)]
    return FrameInvariantError(
        f"An indicator got {bad[0] if bad else bar}.",
        rule="finite",
        hint="A missing value is None: it is skipped and the state is kept.",
    )


class Incremental:
    """Base of the indicators that take one bar at a time. A subclass gives `update`, `peek`, `amend` and `warmup`."""

    __slots__ = ("_before", "_value")

    VERSION: ClassVar[int] = 1
    """Of the state; a snapshot or pickle of another version is refused."""
    PARAMETERS: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._before: tuple[Any, ...] | None = None
        self._value: Any = None

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._parameters().items())
        return f"{type(self).__name__}({given}, value={self._value})"

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

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.snapshot())

    def snapshot(self) -> dict[str, Any]:
        """The state in plain JSON types; `restore` continues from it bit for bit.

        Returns
        -------
        dict
            `indicator`, `version`, `parameters`, `state`, and `before`: the state `amend` goes back to, or None.
        """
        return {
            "indicator": type(self).__name__,
            "version": self.VERSION,
            "parameters": self._parameters(),
            "state": self._dump(),
            "before": None if self._before is None else list(self._before),
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Self:
        """An indicator at the bar where `snapshot` was taken.

        Raises
        ------
        InvalidRequest
            The snapshot is of another indicator or version, or is damaged.
        """
        found = snapshot.get("indicator") if hasattr(snapshot, "get") else type(snapshot).__name__
        if found != cls.__name__:
            raise InvalidRequest(
                f"This is no snapshot of {cls.__name__} but of {found!r}.", hint="Restore it with the class it is of."
            )
        if snapshot.get("version") != cls.VERSION:
            raise InvalidRequest(
                f"The snapshot of {cls.__name__} has version {snapshot.get('version')!r}; this is version {cls.VERSION}.",
                hint="Feed the bars again.",
            )
        made = cls(**_mapping(snapshot, "parameters", cls))
        before = snapshot.get("before")
        try:
            made._load(_numbers(snapshot.get("state"), cls))
            made._before = None if before is None else tuple(_numbers(before, cls))
            if before is not None and len(before) != len(made._state()):
                raise _damaged(cls)
        except (TypeError, ValueError, IndexError) as error:
            if isinstance(error, InvalidRequest):
                raise
            raise _damaged(cls) from error
        return made

    def _parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.PARAMETERS}

    def _state(self) -> tuple[Any, ...]:
        """The numbers that make the indicator, flat."""
        raise NotImplementedError

    def _rewind(self, state: Sequence[Any]) -> None:
        """Go to a state."""
        raise NotImplementedError

    def _dump(self) -> list[Any]:
        return list(self._state())

    def _load(self, state: Sequence[Any]) -> None:
        self._rewind(state)

    def _undo(self) -> None:
        """Take the last bar back."""
        if self._before is None:
            raise InvalidRequest(
                f"{type(self).__name__} has taken no bar that could be amended.", hint="Call update first."
            )
        self._rewind(self._before)


class OfValues(Incremental, Generic[T]):
    """An indicator of one series of values. A subclass gives `_step` and `_look` besides the state."""

    __slots__ = ()

    @property
    def value(self) -> T | None:
        """The last result; None while warming up."""
        return self._value  # type: ignore[no-any-return]

    def update(self, value: float | None) -> T | None:
        """Take the next value; None is skipped and gives None."""
        if value is None:
            self._before = self._state()
            return None
        if not isfinite(value):
            raise refused(value)
        self._before = self._state()
        found = self._step(float(value))
        self._value = found
        return found

    def peek(self, value: float | None) -> T | None:
        """What `update` would give, without taking the value."""
        return None if value is None else self._look(number(value))

    def amend(self, value: float | None) -> T | None:
        """Replace the last value, and give the result; None takes it back.

        Raises
        ------
        InvalidRequest
            There is no last value.
        """
        if value is not None and not isfinite(value):
            raise refused(value)
        self._undo()
        return self.update(value)

    def _step(self, value: float) -> T | None:
        raise NotImplementedError

    def _look(self, value: float) -> T | None:
        raise NotImplementedError


def _revive(cls: type[Incremental], snapshot: dict[str, Any]) -> Incremental:
    return cls.restore(snapshot)


def _damaged(cls: type[Incremental]) -> InvalidRequest:
    return InvalidRequest(f"The snapshot of {cls.__name__} is damaged.", hint="Feed the bars again.")


def _mapping(snapshot: Mapping[str, Any], key: str, cls: type[Incremental]) -> dict[str, Any]:
    found = snapshot.get(key)
    if not isinstance(found, Mapping) or set(found) != set(cls.PARAMETERS):
        raise _damaged(cls)
    return dict(found)


def _numbers(values: Any, cls: type[Incremental]) -> list[Any]:
    plain = isinstance(values, list | tuple) and all(
        value is None or (isinstance(value, int | float) and isfinite(value)) for value in values
    )
    if not plain:
        raise _damaged(cls)
    return list(values)
