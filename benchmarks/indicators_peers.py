"""The five indicators against named peers, in the same run: TA-Lib, native Polars, polars-talib, pandas-ta-classic, talipp.

Same bars, same outputs (EMA 20, RSI 14, ATR 14, MACD 12 26 9 and the session VWAP: seven columns) from a frame to a frame.
Before anything is timed each peer's columns are compared with ours from row `SETTLED` on, where the known differences of
conventions (seeds, the first true range, the start of the fast average) have faded; a peer that differs stops the benchmark.
polars-talib has no VWAP and gets the one of native Polars; pandas-ta-classic resets its VWAP by the UTC date, which for
regular hours is the session's.

Ways take turns. Printed are the median, the least and largest, and the ratio of medians to `massive_lab`. A slow peer runs
fewer times: `turns` says how many. All in all about a minute; a peer that is not installed is named and left out.
"""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import talib

from benchmarks.indicators import NAMES, SPECS, frame_of
from massive_lab import indicators as ind

SETTLED = 700
COLUMNS = ["ema_20", "rsi_14", "atr_14", "macd_12_26_9", "macd_signal_12_26_9", "macd_hist_12_26_9", "session_vwap"]
Way = Callable[[], Any]
CLOSE = pl.col("close")


def ours(frame: pl.DataFrame) -> pl.DataFrame:
    return ind.apply(frame, SPECS)


def talib_loop(frame: pl.DataFrame) -> pl.DataFrame:
    """TA-Lib once per symbol on arrays, sums per session, back to a frame."""
    runs = np.concatenate(([0], np.flatnonzero(np.diff(frame["symbol"].rle_id().to_numpy())) + 1, [frame.height]))
    day = frame["ts_event"].dt.date().rle_id().to_numpy()
    arrays = [frame[name].to_numpy() for name in NAMES]
    parts: list[list[Any]] = []
    for start, end in pairwise(runs.tolist()):
        high, low, close, volume = (array[start:end] for array in arrays)
        edges = [0, *(np.flatnonzero(np.diff(day[start:end])) + 1).tolist(), end - start]
        money, weight = (high + low + close) / 3.0 * volume, volume.copy()
        for first, last in pairwise(edges):
            np.add.accumulate(money[first:last], out=money[first:last])
            np.add.accumulate(weight[first:last], out=weight[first:last])
        parts.append(
            [
                talib.EMA(close, 20),
                talib.RSI(close, 14),
                talib.ATR(high, low, close, 14),
                *talib.MACD(close),
                money / weight,
            ]
        )
    made = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return frame.with_columns(pl.Series(name, array) for name, array in zip(COLUMNS, made, strict=True))


def vwap() -> pl.Expr:
    keys = ["symbol", pl.col("ts_event").dt.date()]
    money = ((pl.col("high") + pl.col("low") + CLOSE) / 3.0 * pl.col("volume")).cum_sum().over(keys)
    return (money / pl.col("volume").cum_sum().over(keys)).alias("session_vwap")


def native(frame: pl.DataFrame) -> pl.DataFrame:
    """Polars' own exponential means: the seed is the first value."""
    change = CLOSE.diff()
    gain, loss = (
        part.ewm_mean(alpha=1 / 14, adjust=False, ignore_nulls=True).over("symbol")
        for part in (change.clip(lower_bound=0), (-change).clip(lower_bound=0))
    )
    before = CLOSE.shift()
    width = pl.max_horizontal(
        pl.col("high") - pl.col("low"), (pl.col("high") - before).abs(), (pl.col("low") - before).abs()
    )
    line = CLOSE.ewm_mean(span=12, adjust=False) - CLOSE.ewm_mean(span=26, adjust=False)
    return (
        frame.with_columns(
            CLOSE.ewm_mean(span=20, adjust=False).over("symbol").alias("ema_20"),
            (100 * gain / (gain + loss)).alias("rsi_14"),
            width.ewm_mean(alpha=1 / 14, adjust=False).over("symbol").alias("atr_14"),
            line.over("symbol").alias("macd_12_26_9"),
            vwap(),
        )
        .with_columns(pl.col("macd_12_26_9").ewm_mean(span=9, adjust=False).over("symbol").alias("macd_signal_12_26_9"))
        .with_columns((pl.col("macd_12_26_9") - pl.col("macd_signal_12_26_9")).alias("macd_hist_12_26_9"))
    )


def with_polars_talib(frame: pl.DataFrame) -> pl.DataFrame:
    import polars_talib as plta

    high, low = pl.col("high"), pl.col("low")
    made = frame.with_columns(
        plta.ema(CLOSE, 20).over("symbol").alias("ema_20"),
        plta.rsi(CLOSE, 14).over("symbol").alias("rsi_14"),
        plta.atr(high, low, CLOSE, 14).over("symbol").alias("atr_14"),
        plta.macd(CLOSE, 12, 26, 9).over("symbol").alias("macd"),
        vwap(),
    )
    return made.with_columns(
        pl.col("macd").struct.rename_fields(COLUMNS[3:6]),
    ).unnest("macd")


def pandas_ta(frame: pl.DataFrame) -> pl.DataFrame:
    """Its own arithmetic (`talib=False`), one symbol after the other; a symbol is a pandas frame already."""
    import pandas as pd
    import pandas_ta_classic as ta

    parts = []
    for data in pandas_parts(frame):
        high, low, close, volume = (data[name] for name in NAMES)
        macd = ta.macd(close, talib=False)
        parts.append(
            pd.DataFrame(
                {
                    "ema_20": ta.ema(close, length=20, talib=False),
                    "rsi_14": ta.rsi(close, length=14, talib=False),
                    "atr_14": ta.atr(high, low, close, length=14, talib=False),
                    "macd_12_26_9": macd["MACD_12_26_9"],
                    "macd_signal_12_26_9": macd["MACDs_12_26_9"],
                    "macd_hist_12_26_9": macd["MACDh_12_26_9"],
                    "session_vwap": ta.vwap(high, low, close, volume),
                }
            )
        )
    return pl.from_pandas(pd.concat(parts, ignore_index=True))


_PARTS: dict[int, list[Any]] = {}


def pandas_parts(frame: pl.DataFrame) -> list[Any]:
    """Pandas frames by symbol, made once: their making is not the peer's work."""
    if id(frame) not in _PARTS:
        _PARTS[id(frame)] = [
            part.with_columns(pl.col("ts_event").dt.replace_time_zone(None))
            .select("ts_event", *NAMES)
            .to_pandas()
            .set_index("ts_event")
            for part in frame.partition_by("symbol", maintain_order=True)
        ]
    return _PARTS[id(frame)]


PEERS: list[tuple[str, str, int, Callable[[pl.DataFrame], pl.DataFrame]]] = [
    ("massive_lab.indicators.apply", "", 7, ours),
    ("TA-Lib, a loop over symbols", "talib", 7, talib_loop),
    ("polars-talib, over", "polars_talib", 3, with_polars_talib),
    ("native Polars ewm, over", "polars", 3, native),
    ("pandas-ta-classic", "pandas_ta_classic", 2, pandas_ta),
]


def check(frame: pl.DataFrame, made: pl.DataFrame, expected: pl.DataFrame, who: str) -> None:
    """Equal to ours where conventions agree: after `SETTLED` rows of each symbol."""
    settled = frame.select(pl.int_range(pl.len()).over("symbol") >= SETTLED).to_series().to_numpy()
    for name in COLUMNS:
        a, b = expected[name].to_numpy()[settled], made[name].to_numpy()[settled]
        np.testing.assert_allclose(b, a, rtol=1e-7, atol=1e-7, err_msg=f"{who}: {name}")


def clock(ways: dict[str, tuple[int, Way]]) -> dict[str, list[float]]:
    """Milliseconds of each turn; ways alternate, and garbage is collected between."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(max(turns for turns, _ in ways.values())):
        for name, (turns, way) in ways.items():
            if turn < turns:
                gc.collect()
                started = time.perf_counter()
                way()
                times[name].append((time.perf_counter() - started) * 1e3)
    return times


def installed() -> list[tuple[str, int, Callable[[pl.DataFrame], pl.DataFrame]]]:
    found = []
    for name, package, turns, way in PEERS:
        if package and find_spec(package) is None:
            print(f"  {name}: not installed, left out")
        else:
            found.append((name, turns, way))
    return found


def batch(n_symbols: int, n: int, goal: float) -> None:
    print(f"\n{n_symbols} x {n:,} bars, five indicators, seven columns (goal: {goal:g}x pandas-ta-classic)")
    frame = frame_of(n_symbols, n)
    expected = ours(frame)
    peers = installed()
    for name, _, way in peers:
        check(frame, way(frame), expected, name)
    times = clock({name: (turns, partial(way, frame)) for name, turns, way in peers})
    _PARTS.clear()
    base = statistics.median(times["massive_lab.indicators.apply"])
    for name, found in times.items():
        middle = statistics.median(found)
        print(
            f"  {name:30} {middle:9.1f} ms ({min(found):.1f} to {max(found):.1f}, {len(found)} turns) {middle / base:7.2f}x"
        )


def stream(n: int = 20_000) -> None:
    """One more bar, all four of one symbol."""
    print("\none more bar: EMA, RSI, ATR and MACD together")
    frame = frame_of(1, n + 200)
    bars = list(frame.select("high", "low", "close").iter_rows())
    warm, live = bars[:200], bars[200:]
    arrays = [np.array(column) for column in zip(*warm, strict=True)]
    high, low, close = arrays

    def loop(open_: Callable[[], Callable[[float, float, float], Any]]) -> Callable[[], list[Any]]:
        """A fresh set of indicators, warmed up; only the live bars are on the clock."""

        def run() -> list[Any]:
            step = open_()
            started = time.perf_counter()
            for h, lo, c in live:
                out = step(h, lo, c)
            spent.append((time.perf_counter() - started) * 1e3)
            return list(out)

        return run

    spent: list[float] = []

    def lab() -> Callable[[float, float, float], Any]:
        ema, rsi, atr, macd = ind.EMA(20), ind.RSI(), ind.ATR(), ind.MACD()

        def step(h: float, lo: float, c: float) -> Any:
            return ema.update(c), rsi.update(c), atr.update(h, lo, c), macd.update(c)

        for bar in warm:
            step(*bar)
        return step

    def handles() -> Callable[[float, float, float], Any]:
        ema, rsi = talib.stream.EMA(close, 20), talib.stream.RSI(close)
        atr, macd = talib.stream.ATR(high, low, close), talib.stream.MACD(close)

        def step(h: float, lo: float, c: float) -> Any:
            return ema.update(c), rsi.update(c), atr.update(h, lo, c), macd.update(c)

        return step

    def with_talipp() -> Callable[[float, float, float], Any]:
        from talipp import indicators as talipp
        from talipp.ohlcv import OHLCV

        ema, rsi, atr, macd = talipp.EMA(20), talipp.RSI(14), talipp.ATR(14), talipp.MACD(12, 26, 9)

        def step(h: float, lo: float, c: float) -> Any:
            ema.add(c)
            rsi.add(c)
            atr.add(OHLCV(c, h, lo, c))
            macd.add(c)
            return ema[-1], rsi[-1], atr[-1], macd[-1]

        for bar in warm:
            step(*bar)
        return step

    ways = {"massive_lab": loop(lab), "TA-Lib handles": loop(handles)}
    if find_spec("talipp") is None:
        print("  talipp: not installed, left out")
    else:
        ways["talipp"] = loop(with_talipp)
    times: dict[str, list[float]] = {name: [] for name in ways}
    last: dict[str, list[Any]] = {}
    for _ in range(5):
        for name, way in ways.items():
            gc.collect()
            last[name] = way()
            times[name].append(spent.pop())
    for name, found in last.items():
        np.testing.assert_allclose(found[:3], last["massive_lab"][:3], rtol=1e-9, err_msg=name)
        theirs, mine = (
            tuple(getattr(m, "__dict__", {}).values()) or tuple(m) for m in (found[3], last["massive_lab"][3])
        )
        np.testing.assert_allclose(theirs, mine, rtol=1e-6, atol=1e-9, err_msg=name)
    base = statistics.median(times["massive_lab"])
    for name, found_ms in times.items():
        middle = statistics.median(found_ms)
        fast, slow = n / min(found_ms) / 1e3, n / max(found_ms) / 1e3
        print(f"  {name:30} {n / middle / 1e3:8.3f} M bars/s ({slow:.3f} to {fast:.3f}) {middle / base:7.2f}x the time")


def main() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a peer's warnings are not ours to mend
        batch(1, 1_000_000, 40)
        batch(500, 2_000, 60)
        stream()


if __name__ == "__main__":
    main()
