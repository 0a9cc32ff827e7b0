"""Print what each convention gives on one made-up series: ``python -m massive_lab.indicators``."""

from __future__ import annotations

import sys

import polars as pl

from massive_lab.indicators import apply
from massive_lab.indicators._convention import suffix

__all__ = ["main", "table"]

_TEXTS = ("ema_20", "rsi_14", "atr_14", "macd_12_26_9", "macd_signal_12_26_9")
_ROWS = (33, 60, 120, 400)


def _bars() -> pl.DataFrame:
    close = [100 + (i * 37 % 23) / 4 + i / 50 for i in range(_ROWS[-1] + 1)]
    width = [0.5 + (i * 7 % 5) / 4 for i in range(len(close))]
    width[0] = 6.0  # the bar about which the ATRs disagree
    frame = pl.DataFrame({"close": close, "width": width})
    return frame.select("close", high=pl.col("close") + pl.col("width"), low=pl.col("close") - pl.col("width"))


def table() -> str:
    """The table in Markdown: one line per indicator and convention, its first row and its values at some rows.

    Examples
    --------
    >>> table().splitlines()[2]
    '| ema_20 | talib | 19 | 102.9576 | 103.8706 | 104.7325 | 110.5745 |'
    """
    head = ["indicator", "convention", "first row", *(f"row {row}" for row in _ROWS)]
    lines = [head, ["---"] * len(head)]
    bars = _bars()
    for text in _TEXTS:
        for convention in ("talib", "stockcharts", "tradingview", "massive"):
            if (text, convention) == ("atr_14", "massive"):
                continue
            tail = suffix(convention)
            made = apply(bars, [f"{text.replace('_signal', '')}@{convention}"])[f"{text}{tail}"]
            lines.append([text, convention, str(made.null_count()), *(f"{made[row]:.4f}" for row in _ROWS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the table."""
    sys.stdout.write(f"{table()}\n")


if __name__ == "__main__":
    main()
