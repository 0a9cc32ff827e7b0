"""Several indicators on one series of bars that grows, is amended and is now and then corrected far back.

One definition: at any time the values are those of `massive_lab.indicators.apply` on the bars as they then stand, bit for
bit. A new bar and a last bar sent again cost one step of each indicator; a bar further back is taken up from the nearest
of the states that are kept every few hundred bars.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from math import isfinite
from typing import Any

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.indicators.apply import parse_spec
from massive_lab.indicators.atr import ATR
from massive_lab.indicators.ema import EMA
from massive_lab.indicators.macd import MACD
from massive_lab.indicators.rsi import RSI
from massive_lab.indicators.sma import SMA

__all__ = ["Track"]

_CLASSES: dict[str, type[Any]] = {"ema": EMA, "sma": SMA, "rsi": RSI, "atr": ATR, "macd": MACD}
_BLOCK = 256

Bar = tuple[float, float, float]
"""High, low, close."""


class Track:
    """Indicators of one symbol and one bar length.

    Parameters
    ----------
    indicators : sequence of str
        As `massive_lab.indicators.apply` reads them, of ``ema sma rsi atr macd``.
    max_bars : int
        Bars that can still be corrected; the indicators remember all.

    Attributes
    ----------
    outputs : tuple of str
        Columns, as `massive_lab.indicators.apply` names them.
    n_ignored : int
        Corrections of bars that are no longer kept.

    Raises
    ------
    InvalidRequest
        Something is not an indicator, or not one of a bar at a time.

    Examples
    --------
    >>> track = Track(["ema_2"])
    >>> for start, close in ((0, 1.0), (1, 2.0), (2, 4.0), (1, 3.0)):
    ...     track.put(start, close, close, close)
    >>> track.values()
    {'ema_2': 3.333333333333333}
    """

    def __init__(self, indicators: Sequence[str], *, max_bars: int = 50_000) -> None:
        if isinstance(indicators, str):
            raise InvalidRequest(f"indicators is {indicators!r}.", hint="Give a list: ['ema_20', 'rsi_14'].")
        specs = {spec.text: spec for spec in (parse_spec(str(text)) for text in indicators)}
        self._names = [spec.outputs for spec in specs.values()]
        self.outputs = tuple(name for names in self._names for name in names)
        self.n_ignored = 0
        self._max_bars = max_bars
        self._indicators = [_made(text) for text in specs]
        self._starts: list[int] = []
        self._bars: list[Bar] = []
        self._blocks: list[list[Any]] = []  # the indicators before bar 0, 256, 512 ...
        self._is_cut = False

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def last_start(self) -> int | None:
        """Start of the newest bar."""
        return self._starts[-1] if self._starts else None

    def put(self, start: int, high: float, low: float, close: float) -> None:
        """Take a bar by its start: a new one, or one that replaces the one of the same start.

        Raises
        ------
        FrameInvariantError
            A price is not finite; the track stays as it was.
        """
        bar = float(high), float(low), float(close)
        if not all(map(isfinite, bar)):
            raise FrameInvariantError(f"A bar has the prices {bar}.", rule="finite")
        starts = self._starts
        if not starts or start > starts[-1]:
            self._append(start, bar)
        elif start == starts[-1]:
            if bar != self._bars[-1]:
                self._bars[-1] = bar
                for indicator in self._indicators:
                    indicator.amend(*_inputs(indicator, bar))
        elif self._is_cut and start < starts[0]:
            self.n_ignored += 1
        else:
            self._correct(start, bar)

    def values(self) -> dict[str, float | None]:
        """The value of each column at the newest bar; None while warming up."""
        found: dict[str, float | None] = {}
        for names, indicator in zip(self._names, self._indicators, strict=True):
            value = indicator.value
            many = value if isinstance(value, tuple) else (value,) * len(names)
            found.update(zip(names, many, strict=True))
        return found

    def _append(self, start: int, bar: Bar) -> None:
        self._starts.append(start)
        self._bars.append(bar)
        self._step(len(self._bars) - 1)
        if len(self._bars) >= self._max_bars + _BLOCK:
            del self._starts[:_BLOCK], self._bars[:_BLOCK], self._blocks[0]
            self._is_cut = True

    def _step(self, at: int) -> None:
        if at % _BLOCK == 0:
            self._blocks.append([indicator.copy() for indicator in self._indicators])
        bar = self._bars[at]
        for indicator in self._indicators:
            indicator.update(*_inputs(indicator, bar))

    def _correct(self, start: int, bar: Bar) -> None:
        at = bisect_left(self._starts, start)
        if self._starts[at] == start:
            if self._bars[at] == bar:
                return
            self._bars[at] = bar
        else:
            self._starts.insert(at, start)
            self._bars.insert(at, bar)
        block = at // _BLOCK
        self._indicators = [indicator.copy() for indicator in self._blocks[block]]
        del self._blocks[block:]
        for later in range(block * _BLOCK, len(self._bars)):
            self._step(later)


def _inputs(indicator: Any, bar: Bar) -> tuple[float, ...]:
    return bar if isinstance(indicator, ATR) else bar[2:]


def _made(text: str) -> Any:
    match = re.fullmatch(r"([a-z]+)((?:_\d+)+)(?:@([a-z]+))?", text)
    if match is None or match[1] not in _CLASSES:
        raise InvalidRequest(
            f"{text!r} is not known one bar at a time.", hint=f"Use {', '.join(_CLASSES)} with their periods."
        )
    options = {} if match[3] is None else {"convention": match[3]}
    return _CLASSES[match[1]](*(int(period) for period in match[2].split("_")[1:]), **options)
