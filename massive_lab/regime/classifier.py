"""The rules applied to daily closes, with the values of a running day as an unfinished last row."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

import polars as pl

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.regime.features import closes, fear_features, held, index_features, ladder, volatility_features
from massive_lab.regime.rules import DEFAULT_RULES, SCHEMA, Rules
from massive_lab.regime.votes import evidence, labels, reasons, score

__all__ = ["LiveValues", "Memory", "bare_trends", "classify", "joined", "labelled", "unfinished"]


@dataclass(frozen=True, slots=True)
class LiveValues:
    """The last values of a day that is not over.

    Attributes
    ----------
    date : datetime.date
        New York date of the values.
    spx : float
    ndx, vix : float or None
        None where there is none: the day then has no label, or no VIX vote, and says so.
    """

    date: dt.date
    spx: float
    ndx: float | None = None
    vix: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What the label of a row depends on besides its own features; of no row before it, by default.

    Attributes
    ----------
    label, streak
        Last label there was, and sessions in a row at the highest VIX level.
    level : str or None
        Last VIX level.
    bare : tuple of (str or None)
        Last trends of SPX and NDX without bands.
    """

    label: str | None = None
    streak: int = 0
    level: str | None = None
    bare: tuple[str | None, str | None] = (None, None)


def classify(
    spx: pl.DataFrame,
    ndx: pl.DataFrame,
    vix: pl.DataFrame,
    *,
    rules: Rules = DEFAULT_RULES,
    live: LiveValues | None = None,
) -> pl.DataFrame:
    """Label every date of SPX from daily bars of SPX, NDX and VIX.

    A row uses data up to its date only: labels of a prefix of the data never change when later rows come.

    Parameters
    ----------
    spx, ndx, vix : polars.DataFrame
        Daily bars, one symbol each: table ``bars``, or `date` and `close`. VIX may lack dates or be empty. A column
        `is_final` may mark the last row as unfinished.
    rules : Rules
    live : LiveValues, optional
        Values of the running day: they become its row, unfinished, in place of a bar of the same date.

    Returns
    -------
    polars.DataFrame
        One row per date of `spx`, columns as `massive_lab.regime.rules.SCHEMA`:

        - `is_final`: false for the unfinished day.
        - Per index the close, its 200-day `mean`, the `distance` from it (a share) and the `trend` (``up``, ``down``); the
          same of the 50-day mean with the prefix ``fast_``; `position` (``above both``, ``below fast``, ``above fast``,
          ``below both``) and `momentum`, the 12-month return (a share).
        - `vix`, its level by absolute bands, its percentile over a year (0 to 100) and the band of it.
        - Realised volatility of SPX (annualised, a share) and its percentile (0 to 100).
        - `alignment`: ``up`` when both trends are up and the VIX votes 0 or more, ``down`` when both are down and it votes
          less, else ``mixed``; null when one of the three is missing.
        - `score`, the sum of the votes, `regime` (``risk_on``, ``neutral``, ``risk_off``, ``stress``), and
          `regime_without_bands`, what the same thresholds give without hysteresis. Null is unknown: SPX or NDX warm up
          or lack the date, or the VIX does and the rules require it; the reasons say which.
        - `bias`: ``long`` for ``risk_on`` with both trends up, ``short`` for ``risk_off`` or ``stress`` with both down, else
          ``flat``; null with the regime. The name of a side on which votes and trends agree, and no more than that.
        - `reasons`, a sentence for each vote with value, threshold and source; `evidence`, the same as numbers for every
          rule, see `massive_lab.regime.votes.evidence`.

    Raises
    ------
    FrameInvariantError
        See `massive_lab.regime.features.closes`; or a row other than the last is unfinished (rule ``final``).
    InvalidRequest
        `live` lies before the last date.

    Examples
    --------
    >>> days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(300)]
    >>> index = pl.DataFrame({"date": days, "close": [100.0 + i for i in range(300)]})
    >>> calm = pl.DataFrame({"date": days, "close": [12.0] * 300})
    >>> classify(index, index, calm).select("trend_spx", "vix_level", "score", "regime").row(-1)
    ('up', 'calm', 5, 'risk_on')
    >>> now = LiveValues(dt.date(2020, 10, 27), spx=150.0, ndx=401.0, vix=31.0)
    >>> classify(index, index, calm, live=now).select("date", "is_final", "trend_spx", "regime", "bias").row(-1)
    (datetime.date(2020, 10, 27), False, 'down', 'neutral', 'flat')
    """
    given = {"SPX": spx, "NDX": ndx, "VIX": vix}
    data = {what: closes(frame, what) for what, frame in given.items()}
    open_days = {day for what, frame in given.items() for day in unfinished(frame, data[what], what)}
    if live is not None:
        for what, value in zip(given, (live.spx, live.ndx, live.vix), strict=True):
            data[what] = _with_live(data[what], live.date, value, what)
        open_days.add(live.date)
    spx, ndx, vix = data["SPX"], data["NDX"], data["VIX"]
    parts = index_features(ndx, rules), fear_features(vix, rules), volatility_features(spx, rules)
    frame = joined(index_features(spx, rules), *parts)
    frame = frame.with_columns(is_final=~pl.col("date").is_in(list(open_days)))
    return labelled(frame, rules)


def labelled(frame: pl.DataFrame, rules: Rules, before: Memory | None = None) -> pl.DataFrame:
    """The frame of `classify` from features as `joined` and `is_final`; the rows continue from `before`."""
    before = before or Memory()
    frame = score(frame.with_columns(vix_level=_levels(frame["vix"], rules, before.level)), rules)
    levels = frame["vix_level"].to_list()
    regime, streak = labels(frame["score"].to_list(), levels, rules, before.label, before.streak)
    frame = frame.with_columns(
        regime=pl.Series(regime, dtype=pl.String),
        regime_without_bands=pl.Series(_without_bands(frame, rules, before), dtype=pl.String),
        streak=pl.Series(streak, dtype=pl.Int64),
        alignment=_alignment(rules),
    ).with_columns(bias=_bias(), evidence=evidence(rules))
    said = [reasons(row, rules) for row in frame.drop("evidence").iter_rows(named=True)]
    frame = frame.with_columns(reasons=pl.Series(said, dtype=pl.List(pl.String)))
    return frame.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def unfinished(frame: pl.DataFrame, data: pl.DataFrame, what: str) -> list[dt.date]:
    """The date that `is_final` says is not over; data are its `closes`."""
    if "is_final" not in frame.columns:
        return []
    open_days: list[dt.date] = data.filter(~frame["is_final"].fill_null(False))["date"].to_list()
    if open_days[:-1] or (open_days and open_days[-1] != data["date"][-1]):
        raise FrameInvariantError(
            f"{what} is unfinished on {open_days[0]}, which is not its last date.",
            rule="final",
            hint="Only the last row can be of a day that is not over.",
        )
    return open_days


def _with_live(data: pl.DataFrame, date: dt.date, value: float | None, what: str) -> pl.DataFrame:
    if data.height and date < data["date"][-1]:
        raise InvalidRequest(f"The live values are of {date}, and {what} has a bar of {data['date'][-1]}.")
    if value is None:
        return data
    if not (math.isfinite(value) and value > 0):
        raise FrameInvariantError(f"The live value of {what} is {value!r}.", rule="price")
    row = pl.DataFrame({"date": [date], "close": [float(value)]}, schema=data.schema)
    return pl.concat([data.filter(pl.col("date") < date), row])


def joined(spx: pl.DataFrame, ndx: pl.DataFrame, fear: pl.DataFrame, volatility: pl.DataFrame) -> pl.DataFrame:
    """Features side by side, one row per date of SPX."""
    frame = _named(spx, "spx")
    for part in (volatility, _named(ndx, "ndx"), fear):
        frame = frame.join(part, on="date", how="left", maintain_order="left")
    return frame


def _named(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    return frame.rename(
        {name: what if name == "close" else f"{name}_{what}" for name in frame.columns if name != "date"}
    )


def _levels(vix: pl.Series, rules: Rules, last: str | None) -> pl.Series:
    floors = [(name, floor) for name, floor, _ in rules.vix_levels]
    return pl.Series("vix_level", ladder(vix.to_list(), floors, rules.vix_margin, last), dtype=pl.String)


def bare_trends(frame: pl.DataFrame, last: tuple[str | None, str | None] = (None, None)) -> list[pl.Series]:
    """Trends of SPX and NDX by the sign of the distance alone."""
    pairs = zip(("spx", "ndx"), last, strict=True)
    return [
        pl.Series(f"trend_{what}", held(frame[f"distance_{what}"].to_list(), 0.0, state), dtype=pl.String)
        for what, state in pairs
    ]


def _without_bands(frame: pl.DataFrame, rules: Rules, before: Memory) -> list[str | None]:
    bare = rules.without_bands()
    frame = frame.with_columns(_levels(frame["vix"], bare, None), *bare_trends(frame, before.bare))
    found, _ = labels(score(frame, bare)["score"].to_list(), frame["vix_level"].to_list(), bare)
    return found


def _alignment(rules: Rules) -> pl.Expr:
    quiet = pl.col("vix_level").is_in([name for name, _, vote in rules.vix_levels if vote >= 0])
    up = (pl.col("trend_spx") == "up") & (pl.col("trend_ndx") == "up") & quiet
    down = (pl.col("trend_spx") == "down") & (pl.col("trend_ndx") == "down") & ~quiet
    known = pl.all_horizontal(pl.col("trend_spx", "trend_ndx", "vix_level").is_not_null())
    return pl.when(known).then(
        pl.when(up).then(pl.lit("up")).when(down).then(pl.lit("down")).otherwise(pl.lit("mixed"))
    )


def _bias() -> pl.Expr:
    up = (pl.col("trend_spx") == "up") & (pl.col("trend_ndx") == "up")
    down = (pl.col("trend_spx") == "down") & (pl.col("trend_ndx") == "down")
    return pl.when(pl.col("regime").is_not_null()).then(
        pl.when((pl.col("regime") == "risk_on") & up)
        .then(pl.lit("long"))
        .when(pl.col("regime").is_in(["risk_off", "stress"]) & down)
        .then(pl.lit("short"))
        .otherwise(pl.lit("flat"))
    )
