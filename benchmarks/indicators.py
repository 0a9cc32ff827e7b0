"""Five indicators (EMA 20, RSI 14, ATR 14, MACD 12 26 9, session VWAP) against TA-Lib on NumPy arrays, in the same run.

TA-Lib has no session VWAP, so the other side gets the least one can do in NumPy: sums per session whose bounds are known
beforehand. It works on arrays that are ready, one symbol at a time, and keeps its results as arrays; ours starts from a frame
and ends with one. Two shapes: one symbol of a million minutes, and 500 symbols of 2,000 each. Then the cost of one more bar.

Ways take turns; the figure is the median. Before anything is timed the results are compared bit for bit.
"""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import talib

from massive_lab import indicators as ind
from massive_lab.schema.session import session, sessions

ROUNDS = 9
SPECS = ["ema_20", "rsi_14", "atr_14", "macd_12_26_9", "session_vwap"]
NAMES = ("high", "low", "close", "volume")
Arrays = dict[str, np.ndarray[Any, np.dtype[np.float64]]]


def minutes(n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Starts of `n` regular-hours minutes up to the middle of 2025."""
    days = sessions(dt.date(2025, 6, 2) - dt.timedelta(days=int(n / 390 * 1.6) + 20), dt.date(2025, 6, 2))
    found = [np.arange(s.open_ns, s.close_ns, 60 * 10**9) for day in days if (s := session(day))]
    return np.concatenate(found)[-n:]


def frame_of(n_symbols: int, n: int) -> pl.DataFrame:
    """Random walks with spreads and whole volumes."""
    rng = np.random.default_rng(7)
    ts = minutes(n)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.0005, (n_symbols, n)), axis=1)).ravel()
    spread = np.abs(rng.normal(0, 0.0005, n_symbols * n)) * close
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{i:03}" for i in range(n_symbols)], n),
            "ts_event": pl.Series(np.tile(ts, n_symbols)).cast(pl.Datetime("ns", "UTC")),
            "high": close + spread,
            "low": close - spread,
            "close": close,
            "volume": rng.integers(1, 10_000, n_symbols * n).astype(np.float64),
        }
    )


def bare(parts: list[Arrays], bounds: list[list[int]]) -> list[list[Any]]:
    """TA-Lib and the least VWAP, on arrays."""
    out = []
    for part, edges in zip(parts, bounds, strict=True):
        high, low, close, volume = (part[name] for name in NAMES)
        made: list[Any] = [
            talib.EMA(close, 20),
            talib.RSI(close, 14),
            talib.ATR(high, low, close, 14),
            *talib.MACD(close),
        ]
        money, weight = (high + low + close) / 3.0 * volume, np.empty_like(volume)
        sums = np.empty_like(money)
        for start, end in itertools.pairwise(edges):
            np.add.accumulate(money[start:end], out=sums[start:end])
            np.add.accumulate(volume[start:end], out=weight[start:end])
        out.append([*made, sums / weight])
    return out


def expressions(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(ind.ema(period=20), ind.rsi(), ind.atr(), *ind.macd(), ind.session_vwap())


def measure(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds; garbage of one turn is collected before the next starts."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            gc.collect()
            started = time.perf_counter()
            way()
            if turn:  # the first turn warms up
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(found) for name, found in times.items()}


def batch(n_symbols: int, n: int, goal: float) -> None:
    frame = frame_of(n_symbols, n)
    columns = {name: frame[name].to_numpy() for name in NAMES}
    ts = frame["ts_event"].to_physical().to_numpy()
    opens = np.array(
        [found.open_ns for day in sessions(dt.date(2010, 1, 4), dt.date(2025, 6, 2)) if (found := session(day))]
    )
    parts, bounds = [], []
    for start in range(0, n_symbols * n, n):
        parts.append({name: column[start : start + n] for name, column in columns.items()})
        bounds.append(np.unique(np.concatenate(([0], np.searchsorted(ts[start : start + n], opens), [n]))).tolist())
    columns_made = list(zip(*bare(parts, bounds), strict=True))
    for made in (ind.apply(frame, SPECS), expressions(frame)):
        for series, theirs in zip(made.iter_columns(), [None] * 6 + columns_made, strict=True):
            if theirs is not None:
                assert np.array_equal(series.fill_null(np.nan).to_numpy(), np.concatenate(theirs), equal_nan=True), (
                    series.name
                )
    found = measure(
        {
            "TA-Lib and NumPy on arrays": lambda: bare(parts, bounds),
            "massive_lab.indicators.apply": lambda: ind.apply(frame, SPECS),
            "massive_lab expressions": lambda: expressions(frame),
        }
    )
    print(f"\n{n_symbols} x {n:,} bars, five indicators, seven columns (goal for apply: {goal:g}x)")
    base = found["TA-Lib and NumPy on arrays"]
    for name, ms in found.items():
        print(f"  {name:34} {ms:8.1f} ms {ms / base:6.2f}x")


def stream(n: int = 200_000) -> None:
    closes = frame_of(1, n)["close"].to_list()

    def run(*updates: Callable[[float], object]) -> Callable[[], None]:
        def loop() -> None:
            for value in closes:
                for update in updates:
                    update(value)

        return loop

    history = np.array(closes[:100])
    width = ind.ATR()
    bare_width = talib.stream.ATR(history, history, history)
    ways = {
        "TA-Lib handles, all four": run(
            talib.stream.EMA(history, 20).update,
            talib.stream.RSI(history).update,
            lambda x: bare_width.update(x, x, x),
            talib.stream.MACD(history).update,
        ),
        "massive_lab EMA, RSI, ATR, MACD": run(
            ind.EMA(20).update, ind.RSI().update, lambda x: width.update(x, x, x), ind.MACD().update
        ),
        "massive_lab EMA alone": run(ind.EMA(20).update),
    }
    print("\none more bar (goal for all four: 0.8 M/s)")
    for name, ms in measure(ways).items():
        print(f"  {name:34} {n / ms / 1e3:8.2f} M bars/s")


def main() -> None:
    print(f"TA-Lib {talib.__version__}, Polars {pl.__version__}, NumPy {np.__version__}")
    batch(1, 1_000_000, 1.15)
    batch(500, 2_000, 1.2)
    stream()


if __name__ == "__main__":
    main()
