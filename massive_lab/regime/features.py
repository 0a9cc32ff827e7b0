"""What the regime looks at: trailing features of daily closes. Row `t` uses rows up to `t` and never a later one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from massive_lab.errors import FrameInvariantError
from massive_lab.indicators import sma

if TYPE_CHECKING:
    from massive_lab.regime.rules import Rules

__all__ = [
    "closes",
    "fear_features",
    "held",
    "index_features",
    "ladder",
    "percentile",
    "scaled",
    "trends",
    "volatility_features",
]

_SESSIONS_A_YEAR = 252


def closes(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """Date and close of daily bars.

    Parameters
    ----------
    frame : polars.DataFrame
        Table ``bars`` of one symbol with daily bars, or any frame with `date` and `close`. The date of a bar is the New
        York date of its `ts_event`.
    what : str
        Name for errors.

    Returns
    -------
    polars.DataFrame
        `date` and `close`, Float64, ascending, one row a date.

    Raises
    ------
    FrameInvariantError
        Columns missing (rule ``columns``), more than one symbol (``symbol``), dates not strictly ascending (``sorted``:
        also for intraday bars), a close that is null, not finite or not above 0 (``price``).

    Examples
    --------
    >>> import datetime as dt
    >>> closes(pl.DataFrame({"date": [dt.date(2025, 6, 2)], "close": [5935.94]}), "SPX").row(0)
    (datetime.date(2025, 6, 2), 5935.94)
    """
    has_date = "date" in frame.columns
    missing = [name for name in ("close", "date" if has_date else "ts_event") if name not in frame.columns]
    if missing:
        raise FrameInvariantError(
            f"{what} lacks {' and '.join(missing)}.",
            rule="columns",
            hint="Give daily bars: ts_event and close, or date and close.",
        )
    if "symbol" in frame.columns and frame["symbol"].n_unique() > 1:
        names = ", ".join(map(str, frame["symbol"].unique().sort().head(5)))
        raise FrameInvariantError(f"{what} holds several symbols: {names}.", rule="symbol", hint="Filter one of them.")
    date = pl.col("date") if has_date else pl.col("ts_event").dt.convert_time_zone("America/New_York").dt.date()
    data = frame.select(date.cast(pl.Date).alias("date"), pl.col("close").cast(pl.Float64))
    bad = data.filter(pl.col("close").is_null() | ~pl.col("close").is_finite() | (pl.col("close") <= 0))
    if bad.height:
        raise FrameInvariantError(
            f"{what} has {bad.height} closes that are no prices, the first on {bad['date'][0]}.",
            rule="price",
            rows=bad.head(5),
            hint="Drop the dates without a close.",
        )
    disorder = data.filter(pl.col("date") <= pl.col("date").shift())
    if disorder.height:
        raise FrameInvariantError(
            f"{what} needs one row a date, ascending; {disorder['date'][0]} comes late or twice.",
            rule="sorted",
            rows=disorder.head(5),
            hint="Give daily bars, sorted by date.",
        )
    return data


def index_features(data: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Trends and momentum of one index.

    Returns
    -------
    polars.DataFrame
        `date close mean distance trend fast_mean fast_distance fast_trend position momentum`. `distance` is close over its
        mean less 1; `trend` is ``up`` or ``down``, and changes only when the distance leaves the band on the other side;
        the same for the fast mean. `position` joins the two trends: ``above both``, ``below fast`` (above the slow mean
        alone), ``above fast`` (alone) or ``below both``. `momentum` is the return over `rules.momentum_sessions`. Null
        while warming up.
    """
    made = data.with_columns(
        sma("close", period=rules.trend_sessions, by=None, name="mean"),
        sma("close", period=rules.fast_sessions, by=None, name="fast_mean"),
        before=pl.col("close").shift(rules.momentum_sessions),
    )
    return trends(made, rules)


def trends(made: pl.DataFrame, rules: Rules, last: tuple[str | None, str | None] = (None, None)) -> pl.DataFrame:
    """What follows from `close mean fast_mean before`, the last being the close a momentum ago; `last` are the slow and
    the fast trend that the rows continue from.
    """
    made = made.with_columns(
        distance=pl.col("close") / pl.col("mean") - 1,
        fast_distance=pl.col("close") / pl.col("fast_mean") - 1,
        momentum=pl.col("close") / pl.col("before") - 1,
    ).drop("before")
    slow, fast = pl.col("trend"), pl.col("fast_trend")
    return made.with_columns(
        trend=pl.Series(held(made["distance"].to_list(), rules.trend_band, last[0]), dtype=pl.String),
        fast_trend=pl.Series(held(made["fast_distance"].to_list(), rules.trend_band, last[1]), dtype=pl.String),
    ).with_columns(
        position=pl.when(slow.is_null() | fast.is_null())
        .then(None)
        .when(slow == "up")
        .then(pl.when(fast == "up").then(pl.lit("above both")).otherwise(pl.lit("below fast")))
        .otherwise(pl.when(fast == "up").then(pl.lit("above fast")).otherwise(pl.lit("below both")))
    )


def held(distances: Sequence[float | None], band: float, state: str | None = None) -> list[str | None]:
    """Up or down with hysteresis: inside the band the last state is kept.

    The first value has no last state, unless one is given: its sign decides.

    Examples
    --------
    >>> held([None, 0.002, -0.005, -0.02, 0.005, 0.011], 0.01)
    [None, 'up', 'up', 'down', 'down', 'up']
    """
    out: list[str | None] = []
    for distance in distances:
        if distance is None:
            out.append(None)
            continue
        if distance > band or (state is None and distance > 0):
            state = "up"
        elif distance < -band or state is None:
            state = "down"
        out.append(state)
    return out


def ladder(
    values: Sequence[float | None], floors: Sequence[tuple[str, float]], margin: float, last: str | None = None
) -> list[str | None]:
    """The step a value stands on, with hysteresis: a step is left downwards only `margin` below its floor.

    Parameters
    ----------
    values : sequence of float or None
        None has no step and does not move the last one.
    floors : sequence of (name, floor)
        Ascending; the first floor is the least value there can be.
    margin : float
    last : str, optional
        The step that the values continue from.

    Examples
    --------
    >>> ladder([12.0, 15.5, 14.5, 13.9, None, 31.0], [("calm", 0), ("normal", 15), ("stressed", 30)], 1.0)
    ['calm', 'normal', 'normal', 'calm', None, 'stressed']
    """
    at = -1 if last is None else [name for name, _ in floors].index(last)
    out: list[str | None] = []
    for value in values:
        if value is None:
            out.append(None)
            continue
        at = max(at, 0)
        while at + 1 < len(floors) and value >= floors[at + 1][1]:
            at += 1
        while at > 0 and value < floors[at][1] - margin:
            at -= 1
        out.append(floors[at][0])
    return out


def volatility_features(data: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Realised volatility and its percentile.

    Returns
    -------
    polars.DataFrame
        `date realised_vol realised_vol_percentile`. Volatility is the sample standard deviation of log returns over
        `rules.vol_sessions`, times the root of 252; the percentile is as of `percentile` over `rules.vol_history`. Null
        while warming up.
    """
    return data.select(
        "date",
        realised_vol=scaled(pl.col("close").log().diff(), rules),
    ).with_columns(realised_vol_percentile=percentile("realised_vol", rules.vol_history))


def scaled(returns: pl.Expr, rules: Rules) -> pl.Expr:
    """Annualised volatility of log returns."""
    scale: float = _SESSIONS_A_YEAR**0.5
    return returns.rolling_std(rules.vol_sessions) * scale


def fear_features(data: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """The VIX by its own history.

    Returns
    -------
    polars.DataFrame
        `date vix vix_percentile vix_band`: the percentile over the last `rules.vix_history` closes of the VIX and its band.
        Null while warming up.
    """
    made = data.select("date", vix="close").with_columns(vix_percentile=percentile("vix", rules.vix_history))
    bands = ladder(made["vix_percentile"].to_list(), rules.vix_bands, rules.vix_band_margin)
    return made.with_columns(vix_band=pl.Series(bands, dtype=pl.String))


def percentile(column: str, window: int) -> pl.Expr:
    """Share, 0 to 100, of the last `window` values at or below today's, today included; null before there are as many.

    Examples
    --------
    >>> pl.DataFrame({"x": [1.0, 3.0, 2.0, 2.0]}).select(percentile("x", 2))["x"].to_list()
    [None, 100.0, 50.0, 100.0]
    """
    return pl.col(column).rolling_rank(window, method="max", min_samples=window) * 100.0 / window
