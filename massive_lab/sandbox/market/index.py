"""Index values through a session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from massive_lab.sandbox.market.path import DayPath
from massive_lab.sandbox.market.rng import Floats, Ints, generator
from massive_lab.schema.session import Session

__all__ = ["IndexValues", "make_values"]


@dataclass(frozen=True)
class IndexValues:
    """Values ascending by time, in the regular session."""

    ts_ns: Ints
    value: Floats

    @property
    def nbytes(self) -> int:
        return self.ts_ns.nbytes + self.value.nbytes


def make_values(
    seed: int,
    symbol: str,
    day: Session,
    path: DayPath,
    ohlc: tuple[float, float, float, float],
    tick_s: float,
    density: float,
) -> IndexValues:
    """One session: the first value is the open, the last the close; high and low occur exactly."""
    o, h, lo, c = ohlc
    rng = generator(seed, symbol, day.date, "values")
    span = day.close_ns - day.open_ns
    n = max(40, int(span / 1e9 / tick_s * min(density, 1.0)))
    step = span / n
    ts = day.open_ns + ((np.arange(n) + 0.05 + 0.5 * rng.random(n)) * step).astype(np.int64)
    value = path.at(ts)
    value = np.clip(np.round(value + rng.standard_normal(n) * (h - lo) * 0.002, 2), lo, h)
    scale = path.step_ns / step
    high_at, low_at = (min(max(int(at * scale), 1), n - 2) for at in (path.high_at, path.low_at))
    if high_at == low_at:
        low_at += 1 if low_at < n - 2 else -1
    if h not in (o, c):
        value[high_at] = h
    if lo not in (o, c):
        value[low_at] = lo
    value[0], value[-1] = o, c
    return IndexValues(ts, value)
