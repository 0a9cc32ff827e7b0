"""A progress bar that shows itself only when a load takes long."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress"]

_DELAY_S = 1.0


class Progress:
    """A `tqdm.auto` bar, made on the first step, shown after a second, removed at the end.

    Parameters
    ----------
    name : str
        The loader.
    symbols : sequence of str
    total : int, optional
        Steps expected, where it is known.
    unit : str
    show : bool or None
        None shows it after a second, False never, True at once.
    """

    __slots__ = ("_bar", "_label", "_show", "_total", "_unit")

    def __init__(self, name: str, symbols: Sequence[str], *, total: int | None, unit: str, show: bool | None) -> None:
        what = symbols[0] if len(symbols) == 1 else f"{len(symbols)} symbols" if symbols else ""
        self._label = f"{name} {what}".strip()
        self._total = total
        self._unit = unit
        self._show = show
        self._bar: Any = None

    def step(self, n: int = 1) -> None:
        if self._show is False:
            return
        if self._bar is None:
            from tqdm.auto import tqdm

            class Bar(tqdm):  # type: ignore[misc]
                # The monitor is a thread that outlives the bar; nothing of a load may.
                monitor_interval = 0

            self._bar = Bar(
                total=self._total,
                desc=self._label,
                unit=self._unit,
                leave=False,
                delay=0 if self._show else _DELAY_S,
                dynamic_ncols=True,
            )
        self._bar.update(n)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
