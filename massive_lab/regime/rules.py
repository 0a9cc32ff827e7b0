"""The rules of the macro regime, thresholds as data, and their application to daily closes.

Six votes are added up and the sum is the score:

==================== =================================================== =====================================
vote                 rule                                                source
==================== =================================================== =====================================
trend SPX, NDX       close above its 200-day mean +1, below -1; changes  Faber 2007 (SSRN 962461); the band is
                     only beyond a band of 1 %                           this library's
momentum SPX, NDX    12-month return above 0 +1, else -1                 Moskowitz, Ooi and Pedersen 2012 (JFE
                                                                         104:228), there on excess returns
VIX level            calm +1, normal 0, elevated -1, stressed -2         bands are this library's convention
realised volatility  percentile from 80: -1                              after Moreira and Muir 2017 (JF
                                                                         72:1611), who scale exposure by it
==================== =================================================== =====================================

``risk_on`` from a score of 3 (kept down to 2), ``risk_off`` from -2 down (kept up to -1), ``neutral`` between. These are
descriptions of the present from the past, not forecasts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.regime.features import closes, index_features, ladder, volatility_features

__all__ = ["DEFAULT_RULES", "SCHEMA", "Rules", "classify"]

SCHEMA = pl.Schema(
    {
        "date": pl.Date(),
        "spx": pl.Float64(),
        "mean_spx": pl.Float64(),
        "distance_spx": pl.Float64(),
        "trend_spx": pl.String(),
        "momentum_spx": pl.Float64(),
        "ndx": pl.Float64(),
        "mean_ndx": pl.Float64(),
        "distance_ndx": pl.Float64(),
        "trend_ndx": pl.String(),
        "momentum_ndx": pl.Float64(),
        "vix": pl.Float64(),
        "vix_level": pl.String(),
        "realised_vol": pl.Float64(),
        "realised_vol_percentile": pl.Float64(),
        "score": pl.Int64(),
        "regime": pl.String(),
        "reasons": pl.List(pl.String()),
    }
)
"""Columns of `classify`."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the regime; all windows count sessions.

    Attributes
    ----------
    version : str
        Changes with any threshold; a label is comparable only under one version.
    trend_sessions, trend_band
        Length of the mean, and the share by which the close must leave it to change the trend.
    momentum_sessions
        Sessions of the return.
    vix_levels : tuple of (name, floor, vote)
        Ascending by floor, in VIX points.
    vix_margin
        Points below a floor before the level is left downwards.
    vol_sessions, vol_history, vol_high
        Sessions of the volatility, of its percentile, and the percentile that votes -1.
    on_enter, on_keep, off_enter, off_keep
        Scores: ``risk_on`` from `on_enter` and kept while at least `on_keep`; ``risk_off`` likewise downwards.
    """

    version: str = "1"
    trend_sessions: int = 200
    trend_band: float = 0.01
    momentum_sessions: int = 252
    vix_levels: tuple[tuple[str, float, int], ...] = field(
        default=(("calm", 0.0, 1), ("normal", 15.0, 0), ("elevated", 20.0, -1), ("stressed", 30.0, -2))
    )
    vix_margin: float = 1.0
    vol_sessions: int = 21
    vol_history: int = 252
    vol_high: float = 80.0
    on_enter: int = 3
    on_keep: int = 2
    off_enter: int = -2
    off_keep: int = -1

    def __post_init__(self) -> None:
        floors = [floor for _, floor, _ in self.vix_levels]
        if not floors or floors != sorted(set(floors)):
            raise InvalidRequest("The floors of the VIX levels do not ascend.")
        if not self.off_enter <= self.off_keep < self.on_keep <= self.on_enter:
            raise InvalidRequest(
                "The scores of the regime do not ascend.", hint="off_enter <= off_keep < on_keep <= on_enter."
            )


DEFAULT_RULES = Rules()


def classify(spx: pl.DataFrame, ndx: pl.DataFrame, vix: pl.DataFrame, *, rules: Rules = DEFAULT_RULES) -> pl.DataFrame:
    """Label every date of SPX from daily bars of SPX, NDX and VIX.

    A row uses data up to its date only: labels of a prefix of the data never change when later rows come.

    Parameters
    ----------
    spx, ndx, vix : polars.DataFrame
        Daily bars, one symbol each: table ``bars``, or `date` and `close`. VIX may lack dates or be empty.
    rules : Rules

    Returns
    -------
    polars.DataFrame
        One row per date of `spx`, columns as `SCHEMA`: per index the close, its 200-day mean, the distance from it (a
        share), the trend (``up``, ``down``) and the 12-month return; VIX and its level; realised volatility (annualised
        decimal) and its percentile (0 to 100); `score`, `regime` (``risk_on``, ``neutral``, ``risk_off``) and `reasons`, a
        sentence for each vote with value, threshold and source. `score` and `regime` are null while SPX or NDX warm up
        or lack the date. Without a VIX the level is null, it has no vote, and the reasons say so.

    Raises
    ------
    FrameInvariantError
        See `massive_lab.regime.features.closes`.

    Examples
    --------
    >>> import datetime as dt
    >>> days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(300)]
    >>> index = pl.DataFrame({"date": days, "close": [100.0 + i for i in range(300)]})
    >>> calm = pl.DataFrame({"date": days, "close": [12.0] * 300})
    >>> classify(index, index, calm).select("trend_spx", "vix_level", "score", "regime").row(-1)
    ('up', 'calm', 5, 'risk_on')
    """
    base = closes(spx, "SPX")
    frame = _renamed(index_features(base, rules), "spx").join(volatility_features(base, rules), on="date", how="left")
    frame = frame.join(_renamed(index_features(closes(ndx, "NDX"), rules), "ndx"), on="date", how="left")
    fear = closes(vix, "VIX").rename({"close": "vix"})
    frame = frame.join(fear, on="date", how="left", maintain_order="left")
    floors = [(name, floor) for name, floor, _ in rules.vix_levels]
    frame = frame.with_columns(
        vix_level=pl.Series(ladder(frame["vix"].to_list(), floors, rules.vix_margin), dtype=pl.String)
    )
    scores: list[int | None] = []
    labels: list[str | None] = []
    reasons: list[list[str]] = []
    last: str | None = None
    for row in frame.iter_rows(named=True):
        score, said = _votes(row, rules)
        if score is not None:
            last = _label(score, last, rules)
            said.append(_verdict(score, last, rules))
        scores.append(score)
        labels.append(last if score is not None else None)
        reasons.append(said)
    return frame.with_columns(
        score=pl.Series(scores, dtype=pl.Int64),
        regime=pl.Series(labels, dtype=pl.String),
        reasons=pl.Series(reasons, dtype=pl.List(pl.String)),
    ).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def _renamed(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    names = {name: f"{name}_{what}" for name in ("mean", "distance", "trend", "momentum")}
    return frame.rename(names | {"close": what})


def _votes(row: dict[str, Any], rules: Rules) -> tuple[int | None, list[str]]:
    """The score of a date, or None when an index is not ready, and a sentence per vote."""
    votes: list[int] = []
    said: list[str] = []
    ready = True
    for what in ("spx", "ndx"):
        name, close = what.upper(), row[what]
        if close is None:
            ready = False
            said.append(f"{name} has no close on this date: no label.")
            continue
        ready &= _trend_vote(name, row, what, rules, votes, said)
        ready &= _momentum_vote(name, row[f"momentum_{what}"], rules, votes, said)
    _vix_vote(row, rules, votes, said)
    ready &= _volatility_vote(row, rules, votes, said)
    return (sum(votes) if ready else None), said


def _trend_vote(name: str, row: dict[str, Any], what: str, rules: Rules, votes: list[int], said: list[str]) -> bool:
    trend, distance, mean = row[f"trend_{what}"], row[f"distance_{what}"], row[f"mean_{what}"]
    if trend is None:
        said.append(f"{name} has fewer than {rules.trend_sessions} closes: no trend yet.")
        return False
    vote = 1 if trend == "up" else -1
    votes.append(vote)
    side = "above" if distance >= 0 else "below"
    kept = "" if abs(distance) > rules.trend_band else ", within the band, so the trend is kept"
    said.append(
        f"{name} {row[what]:,.2f} is {abs(distance):.1%} {side} its {rules.trend_sessions}-session mean {mean:,.2f} "
        f"(band {rules.trend_band:.1%}{kept}): trend {trend}, {vote:+d} (Faber 2007)."
    )
    return True


def _momentum_vote(name: str, momentum: float | None, rules: Rules, votes: list[int], said: list[str]) -> bool:
    if momentum is None:
        said.append(f"{name} has fewer than {rules.momentum_sessions + 1} closes: no momentum yet.")
        return False
    vote = 1 if momentum > 0 else -1
    votes.append(vote)
    said.append(
        f"{name} returned {momentum:+.1%} over {rules.momentum_sessions} sessions (threshold 0): {vote:+d} "
        "(Moskowitz, Ooi and Pedersen 2012)."
    )
    return True


def _vix_vote(row: dict[str, Any], rules: Rules, votes: list[int], said: list[str]) -> None:
    if row["vix"] is None:
        said.append("VIX has no close on this date: no level and no vote.")
        return
    names = [name for name, _, _ in rules.vix_levels]
    at = names.index(row["vix_level"])
    _, floor, vote = rules.vix_levels[at]
    ceiling = f"to {rules.vix_levels[at + 1][1]:g}" if at + 1 < len(names) else "and more"
    votes.append(vote)
    said.append(
        f"VIX {row['vix']:.2f} is {row['vix_level']} ({floor:g} {ceiling}, left {rules.vix_margin:g} below): {vote:+d} "
        "(bands of this library)."
    )


def _volatility_vote(row: dict[str, Any], rules: Rules, votes: list[int], said: list[str]) -> bool:
    percentile = row["realised_vol_percentile"]
    if percentile is None:
        needed = rules.vol_sessions + rules.vol_history
        said.append(f"SPX has fewer than {needed} closes: no percentile of realised volatility yet.")
        return False
    vote = -1 if percentile >= rules.vol_high else 0
    votes.append(vote)
    said.append(
        f"Realised volatility of SPX over {rules.vol_sessions} sessions is {row['realised_vol']:.1%} a year, percentile "
        f"{percentile:.0f} of {rules.vol_history} sessions (high from {rules.vol_high:g}): {vote:+d} (after Moreira and Muir "
        "2017)."
    )
    return True


def _label(score: int, last: str | None, rules: Rules) -> str:
    if score >= rules.on_enter or (last == "risk_on" and score >= rules.on_keep):
        return "risk_on"
    if score <= rules.off_enter or (last == "risk_off" and score <= rules.off_keep):
        return "risk_off"
    return "neutral"


def _verdict(score: int, label: str, rules: Rules) -> str:
    bounds = {
        "risk_on": f"from {rules.on_enter:+d}, kept down to {rules.on_keep:+d}",
        "risk_off": f"from {rules.off_enter:+d}, kept up to {rules.off_keep:+d}",
        "neutral": f"below {rules.on_enter:+d} and above {rules.off_enter:+d}",
    }
    return f"The votes sum to {score:+d}: {label} ({bounds[label]})."
