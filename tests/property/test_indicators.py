"""Laws of the indicators: batch equals stream bit for bit, and both equal the plain formula."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from massive_lab import indicators as ind
from massive_lab.errors import FrameInvariantError
from massive_lab.schema.session import new_york_ns

MINUTE = 60 * 10**9
maybe = st.one_of(st.floats(1.0, 1000.0), st.sampled_from([1.0, 100.0, 100.01]), st.none())

KINDS = ("walk", "flat", "few", "tiny", "huge", "mixed")


def closes_of(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    match kind:
        case "walk":
            return 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, n)))
        case "flat":
            return np.full(n, 42.5)
        case "few":
            return rng.choice([1.0, 100.0, 100.01], n)
        case "tiny":
            return rng.uniform(1e-15, 1e-13, n)
        case "huge":
            return rng.uniform(1e9, 1e15, n)
        case _:
            return np.where(rng.random(n) < 0.5, rng.uniform(1e9, 1e15, n), rng.uniform(1e-9, 100.0, n))


@st.composite
def bars(draw: st.DrawFn) -> pl.DataFrame:
    """Bars of one symbol over some days: flat stretches, extremes, zero volumes and, in half of them, nulls."""
    n = draw(st.one_of(st.integers(0, 60), st.integers(0, 1500), st.integers(0, 5000)))
    kind = draw(st.sampled_from(KINDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    close = closes_of(rng, kind, n)
    spread = close * rng.choice([0.0, 0.001, 0.02], n)
    volume = np.where(rng.random(n) < 0.2, 0.0, rng.uniform(0.0, 1e9, n))
    steps = rng.choice([1, 1, 1, 1, 1, 30, 400], n).astype(np.int64)
    start = new_york_ns(dt.date(2025, 3, 6), draw(st.sampled_from([3, 9, 15])))
    frame = pl.DataFrame(
        {
            "symbol": pl.Series(["A"] * n, dtype=pl.String),
            "ts_event": pl.Series(start + np.cumsum(steps) * MINUTE).cast(pl.Datetime("ns", "UTC")),
            "high": close + spread,
            "low": close - spread,
            "close": close,
            "volume": volume,
        }
    )
    if draw(st.booleans()) and n:
        holes = [pl.Series(rng.random(n) < 0.1) for _ in range(4)]
        holes[3][0] = False  # a symbol without any volume is refused
        frame = frame.with_columns(
            pl.when(~hole).then(pl.col(name)).alias(name)
            for name, hole in zip(("high", "low", "close", "volume"), holes, strict=True)
        )
    return frame


def stream(indicator: Any, frame: pl.DataFrame, columns: tuple[str, ...]) -> list[Any]:
    data = frame.with_columns(pl.col("ts_event").to_physical()) if "ts_event" in columns else frame
    return [indicator.update(*row) for row in data.select(columns).iter_rows()]


def same(left: list[Any], right: list[Any]) -> bool:
    """Equality to the last bit; None only equals None."""
    return len(left) == len(right) and all(
        (a is None) == (b is None) and (a is None or a.hex() == b.hex()) for a, b in zip(left, right, strict=True)
    )


CASES: list[tuple[Callable[[], Any], str, tuple[str, ...]]] = [
    (lambda: ind.EMA(1), "ema_1", ("close",)),
    (lambda: ind.EMA(20), "ema_20", ("close",)),
    (lambda: ind.SMA(1), "sma_1", ("close",)),
    (lambda: ind.SMA(2), "sma_2", ("close",)),
    (lambda: ind.SMA(13), "sma_13", ("close",)),
    (lambda: ind.RSI(2), "rsi_2", ("close",)),
    (lambda: ind.RSI(14), "rsi_14", ("close",)),
    (lambda: ind.ATR(1), "atr_1", ("high", "low", "close")),
    (lambda: ind.ATR(14), "atr_14", ("high", "low", "close")),
    (lambda: ind.EMA(1, "tradingview"), "ema_1@tradingview", ("close",)),
    (lambda: ind.EMA(9, "tradingview"), "ema_9@tradingview", ("close",)),
    (lambda: ind.EMA(9, "massive"), "ema_9@massive", ("close",)),
    (lambda: ind.RSI(3, "stockcharts"), "rsi_3@stockcharts", ("close",)),
    (lambda: ind.RSI(14, "tradingview"), "rsi_14@tradingview", ("close",)),
    (lambda: ind.RSI(5, "massive"), "rsi_5@massive", ("close",)),
    (lambda: ind.ATR(1, "tradingview"), "atr_1@tradingview", ("high", "low", "close")),
    (lambda: ind.ATR(14, "stockcharts"), "atr_14@stockcharts", ("high", "low", "close")),
    (ind.SessionVWAP, "session_vwap", ("ts_event", "high", "low", "close", "volume")),
    (lambda: ind.SessionVWAP("extended"), "session_vwap_extended", ("ts_event", "high", "low", "close", "volume")),
    (lambda: ind.SessionVWAP("day"), "session_vwap_day", ("ts_event", "high", "low", "close", "volume")),
]


@pytest.mark.parametrize(("make", "text", "columns"), CASES, ids=[case[1] for case in CASES])
@settings(max_examples=60)
@given(frame=bars())
def test_stream_equals_batch_bit_for_bit(
    make: Callable[[], Any], text: str, columns: tuple[str, ...], frame: pl.DataFrame
) -> None:
    try:
        batch = ind.apply(frame, [text])[text].to_list()
    except FrameInvariantError as error:
        if error.rule != "intraday":  # a frame without one bar in trading hours is refused
            raise
        return
    assert same(stream(make(), frame, columns), batch)


@settings(max_examples=80)
@given(
    frame=bars(),
    periods=st.sampled_from([(12, 26, 9), (2, 3, 1), (3, 10, 4)]),
    convention=st.sampled_from(["talib", "stockcharts", "tradingview", "massive"]),
)
def test_macd_stream_equals_batch_bit_for_bit(
    frame: pl.DataFrame, periods: tuple[int, int, int], convention: Any
) -> None:
    batch = ind.apply(frame, ["macd_{}_{}_{}@{}".format(*periods, convention)])
    streamed = stream(ind.MACD(*periods, convention), frame, ("close",))
    for position, column in enumerate(batch.columns[-3:]):
        assert same([None if v is None else v[position] for v in streamed], batch[column].to_list())


@settings(max_examples=60)
@given(frame=bars(), at=st.integers(0, 100))
def test_copies_go_on_alike_and_peeking_changes_nothing(frame: pl.DataFrame, at: int) -> None:
    closes = frame["close"].to_list()[:200]
    for make in (lambda: ind.EMA(5), lambda: ind.SMA(5), lambda: ind.RSI(5), lambda: ind.MACD(3, 6, 4)):
        plain, watched = make(), make()
        for position, value in enumerate(closes):
            if position == at:
                watched = watched.copy()
            peeked = watched.peek(value)
            assert watched.peek(12.5) == watched.peek(12.5)
            assert plain.update(value) == watched.update(value) == peeked


MAKERS: list[Callable[[], Any]] = [
    *(case[0] for case in CASES),
    ind.MACD,
    *(lambda c=c: ind.MACD(3, 7, 4, c) for c in ("talib", "stockcharts", "tradingview", "massive")),  # type: ignore[misc]
]


def rows_of(indicator: Any, frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    names = {"ATR": ("high", "low", "close"), "SessionVWAP": ("ts_event", "high", "low", "close", "volume")}
    columns = names.get(type(indicator).__name__, ("close",))
    return list(frame.with_columns(pl.col("ts_event").to_physical()).select(columns).iter_rows())


def bits(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(bits, value))
    return None if value is None else float(value).hex()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), frame=bars(), make=st.sampled_from(MAKERS))
def test_amended_streams_equal_recomputation(data: st.DataObject, frame: pl.DataFrame, make: Callable[[], Any]) -> None:
    """Each bar may first come wrong, several times, and is then replaced by the right one."""
    rows = rows_of(make(), frame.head(250))
    rng = data.draw(st.randoms(use_true_random=False))
    plain, amended = make(), make()
    for position, row in enumerate(rows):
        expected = bits(plain.update(*row))
        wrong = [rows[rng.randrange(len(rows))] for _ in range(rng.choice([0, 0, 1, 3]))]
        drafts = [(*row[: len(row) - len(w[-3:])], *w[-3:]) if len(row) > 3 else w for w in wrong]
        for number, draft in enumerate(drafts):
            (amended.amend if number else amended.update)(*draft)
        assert bits((amended.amend if drafts else amended.update)(*row)) == expected, position
        assert bits(amended.value) == bits(plain.value)


@settings(max_examples=150, deadline=None)
@given(frame=bars(), make=st.sampled_from(MAKERS), at=st.one_of(st.integers(0, 40), st.integers(0, 250)))
def test_saved_at_any_bar_an_indicator_goes_on_bit_for_bit(
    frame: pl.DataFrame, make: Callable[[], Any], at: int
) -> None:
    original = make()
    rows = rows_of(original, frame.head(250))
    for row in rows[:at]:
        original.update(*row)
    text = json.dumps(original.snapshot(), allow_nan=False)
    saved = [type(original).restore(json.loads(text)), pickle.loads(pickle.dumps(original)), original.copy()]
    for twin in saved:
        assert twin.snapshot() == original.snapshot()
        assert (bits(twin.value), twin.warmup, repr(twin)) == (bits(original.value), original.warmup, repr(original))
    for position, row in enumerate(rows[at:]):
        expected = bits(original.amend(*row) if at and not position else original.update(*row))
        for twin in saved:
            assert bits(twin.amend(*row) if at and not position else twin.update(*row)) == expected


@settings(max_examples=80, deadline=None)
@given(data=st.data(), frame=bars(), make=st.sampled_from(MAKERS))
def test_chunks_saved_in_between_equal_the_whole(
    data: st.DataObject, frame: pl.DataFrame, make: Callable[[], Any]
) -> None:
    whole, chunked = make(), make()
    rows = rows_of(whole, frame)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    made: list[Any] = []
    for start, end in itertools.pairwise([0, *cuts, len(rows)]):
        chunked = type(chunked).restore(chunked.snapshot())
        made += [bits(chunked.update(*row)) for row in rows[start:end]]
    assert made == [bits(whole.update(*row)) for row in rows]


@settings(max_examples=100, deadline=None)
@given(frame=bars(), make=st.sampled_from(MAKERS))
def test_peek_foretells_update(frame: pl.DataFrame, make: Callable[[], Any]) -> None:
    indicator = make()
    for row in rows_of(indicator, frame.head(120)):
        foretold = bits(indicator.peek(*row))
        assert bits(indicator.update(*row)) == foretold


# The formulas, written plainly from their definitions and not from any library's code.


def plain_ema(x: list[float], period: int) -> list[float | None]:
    out: list[float | None] = [None] * len(x)
    for t in range(period - 1, len(x)):
        last = out[t - 1] if t >= period else None
        out[t] = (
            math.fsum(x[:period]) / period if last is None else 2 / (period + 1) * x[t] + (1 - 2 / (period + 1)) * last
        )
    return out


def plain_wilder(x: list[float], period: int) -> list[float]:
    out = [math.fsum(x[:period]) / period]
    for value in x[period:]:
        out.append(out[-1] + (value - out[-1]) / period)
    return out


def plain_rsi(x: list[float], period: int) -> list[float | None]:
    if len(x) <= period:
        return [None] * len(x)
    changes = [b - a for a, b in itertools.pairwise(x)]
    gains = plain_wilder([max(c, 0.0) for c in changes], period)
    losses = plain_wilder([max(-c, 0.0) for c in changes], period)
    return [None] * period + [100 - 100 / (1 + g / l) if l else 100.0 if g else 0.0 for g, l in zip(gains, losses)]  # noqa: B905, E741


def plain_atr(rows: list[tuple[float, float, float]], period: int) -> list[float | None]:
    if len(rows) <= period:
        return [None] * len(rows)
    true_range = [max(high, before) - min(low, before) for (_, _, before), (high, low, _) in itertools.pairwise(rows)]
    return [None] * period + plain_wilder(true_range, period)


def near(left: list[float | None], right: list[float | None]) -> bool:
    return len(left) == len(right) and all(
        (a is None) == (b is None) and (a is None or b is None or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9))
        for a, b in zip(left, right, strict=True)
    )


walks = st.lists(st.integers(-200, 200), max_size=150).map(
    lambda steps: [200.0 + sum(steps[:i]) / 100 + 0.01 * (i % 3) for i in range(len(steps))]
)


@settings(max_examples=80)
@given(x=walks, period=st.sampled_from([2, 5, 14, 20]))
def test_values_follow_the_formula(x: list[float], period: int) -> None:
    frame = pl.DataFrame({"close": x, "high": [v + 0.5 for v in x], "low": [v - 0.25 for v in x]}, schema_overrides={
        "close": pl.Float64, "high": pl.Float64, "low": pl.Float64})  # fmt: skip
    made = ind.apply(frame, [f"ema_{period}", f"sma_{period}", f"rsi_{period}", f"atr_{period}"])
    assert near(made[f"ema_{period}"].to_list(), plain_ema(x, period))
    assert near(made[f"rsi_{period}"].to_list(), plain_rsi(x, period))
    assert near(made[f"atr_{period}"].to_list(), plain_atr([(v + 0.5, v - 0.25, v) for v in x], period))
    means = [None if t < period - 1 else math.fsum(x[t - period + 1 : t + 1]) / period for t in range(len(x))]
    assert near(made[f"sma_{period}"].to_list(), means)


@settings(max_examples=60)
@given(x=walks)
def test_macd_follows_the_formula(x: list[float]) -> None:
    fast, slow, signal = 3, 7, 4
    made = ind.apply(pl.DataFrame({"close": pl.Series(x, dtype=pl.Float64)}), [f"macd_{fast}_{slow}_{signal}"])
    late = plain_ema(x[slow - fast :], fast)  # the fast seed ends where the slow seed ends
    slow_line = plain_ema(x, slow)[slow - 1 :]
    line = [f - s for f, s in zip(late[fast - 1 :], slow_line, strict=True)] if len(x) >= slow else []  # type: ignore[operator]
    smoothed = plain_ema(line, signal)
    head: list[float | None] = [None] * min(len(x), slow - 1)
    assert near(made.to_series(2).to_list(), head + smoothed)
    shown = [a if b is not None else None for a, b in zip(line, smoothed, strict=True)]
    assert near(made.to_series(1).to_list(), head + shown)


@settings(max_examples=60)
@given(data=st.data())
def test_grouping_and_row_order_do_not_matter(data: st.DataObject) -> None:
    """Symbols together, interleaved, or alone give the same numbers at their rows."""
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=5))
    rows = [
        (f"S{s}", i, c) for s, n in enumerate(lengths) for i, c in enumerate(data.draw(st.lists(maybe, min_size=n, max_size=n)))
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema={"symbol": pl.String, "i": pl.Int64, "close": pl.Float64}, orient="row")
    specs = ["ema_3", "rsi_4", "sma_2", "macd_2_4_2"]
    alone = pl.concat([
        frame.filter(pl.col("symbol") == s).drop("symbol").pipe(ind.apply, specs).with_columns(pl.lit(s).alias("symbol"))
        for s in sorted({r[0] for r in rows}) or ["S0"]
    ])  # fmt: skip
    expected = {(r["symbol"], r["i"]): r for r in alone.iter_rows(named=True)}
    for shaped in (frame, frame.sort("i", "symbol"), frame.sort("i", "symbol", descending=[False, True])):
        for made in (ind.apply(shaped, specs), ind.apply(shaped.lazy(), specs).collect()):
            assert made.select("symbol", "i", "close").equals(shaped)
            for row in made.iter_rows(named=True):
                twin = expected[row["symbol"], row["i"]]
                assert all(row[name] == twin[name] for name in made.columns[3:])
