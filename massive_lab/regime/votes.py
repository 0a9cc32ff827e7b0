"""Votes on features: numbers for the score, a table of evidence, and a sentence for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import polars as pl

from massive_lab.regime.rules import Rules

__all__ = ["evidence", "labels", "reasons", "score"]

_INDICES = ("spx", "ndx")
_NEEDED = ("trend_spx", "momentum_spx", "trend_ndx", "momentum_ndx", "realised_vol")


def score(frame: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """The frame with a column ``vote_<rule>`` for each vote, and `score`, null when a vote that is needed is missing."""
    levels = {name: vote for name, _, vote in rules.vix_levels}
    votes = {
        **{f"trend_{x}": _sign(pl.col(f"trend_{x}") == "up") for x in _INDICES},
        **{f"momentum_{x}": _sign(pl.col(f"momentum_{x}") > 0) for x in _INDICES},
        "vix_level": pl.col("vix_level").replace_strict(levels, default=None, return_dtype=pl.Int64),
        "realised_vol": -(pl.col("realised_vol_percentile") >= rules.vol_high).cast(pl.Int64),
    }
    made = frame.with_columns(vote.alias(f"vote_{rule}") for rule, vote in votes.items())
    needed = (*_NEEDED, "vix_level") if rules.vix_required else _NEEDED
    ready = pl.all_horizontal(pl.col(f"vote_{rule}").is_not_null() for rule in needed)
    return made.with_columns(score=pl.when(ready).then(pl.sum_horizontal(f"vote_{rule}" for rule in votes)))


def _sign(condition: pl.Expr) -> pl.Expr:
    # A null condition stays null: `when` would take it for false.
    return 2 * condition.cast(pl.Int64) - 1


def labels(
    scores: Sequence[int | None],
    levels: Sequence[str | None],
    rules: Rules,
    last: str | None = None,
    run: int = 0,
) -> tuple[list[str | None], list[int]]:
    """Labels of the scores, each depending on the one before, and the sessions in a row at the highest VIX level.

    `last` and `run` are the label and the sessions that the scores continue from.

    Examples
    --------
    >>> from massive_lab.regime.rules import DEFAULT_RULES
    >>> labels([3, 2, -3, -3, -3, None, -1], ["calm", *["stressed"] * 6], DEFAULT_RULES)
    (['risk_on', 'risk_on', 'risk_off', 'stress', 'stress', None, 'stress'], [0, 1, 2, 3, 4, 5, 6])
    """
    top = rules.vix_levels[-1][0]
    out: list[str | None] = []
    runs: list[int] = []
    last = "risk_off" if last == "stress" else last
    for total, level in zip(scores, levels, strict=True):
        run = run + 1 if level == top else 0
        runs.append(run)
        if total is None:
            out.append(None)
            continue
        last = _label(total, last, rules)
        out.append("stress" if last == "risk_off" and run >= rules.stress_sessions else last)
    return out, runs


def _label(total: int, last: str | None, rules: Rules) -> str:
    if total >= rules.on_enter or (last == "risk_on" and total >= rules.on_keep):
        return "risk_on"
    if total <= rules.off_enter or (last == "risk_off" and total <= rules.off_keep):
        return "risk_off"
    return "neutral"


@lru_cache(maxsize=8)
def evidence(rules: Rules) -> pl.Expr:
    """Every rule with its value, its threshold, the state it gives, its vote (null: it has none) and its source.

    The threshold of a trend is the distance at which it would change; of a level or band, the floor it stands on; of
    `stress`, the sessions it takes. Null values and states are missing input.
    """

    def row(
        rule: str, value: pl.Expr, threshold: pl.Expr, state: pl.Expr, vote: pl.Expr | None, source: str
    ) -> pl.Expr:
        return pl.struct(
            rule=pl.lit(rule),
            value=value.cast(pl.Float64),
            threshold=threshold.cast(pl.Float64),
            state=state.cast(pl.String),
            vote=pl.lit(None, dtype=pl.Int64) if vote is None else vote,
            source=pl.lit(rules.source(source)),
        )

    def edge(state: str) -> pl.Expr:
        up = pl.col(state) == "up"
        return pl.when(up).then(0.0 - rules.trend_band).when(~up).then(rules.trend_band)

    def floor(state: str, floors: dict[str, float]) -> pl.Expr:
        return pl.col(state).replace_strict(floors, default=None, return_dtype=pl.Float64)

    rows = []
    for what in _INDICES:
        slow, fast, momentum = f"trend_{what}", f"fast_trend_{what}", pl.col(f"momentum_{what}")
        rows += [
            row(slow, pl.col(f"distance_{what}"), edge(slow), pl.col(slow), pl.col(f"vote_{slow}"), "trend"),
            row(fast, pl.col(f"fast_distance_{what}"), edge(fast), pl.col(fast), None, "fast_trend"),
            row(
                f"momentum_{what}", momentum, pl.lit(0.0), _choose(momentum > 0, "up", "down"),
                pl.col(f"vote_momentum_{what}"), "momentum",
            ),
        ]  # fmt: skip
    levels, bands = {name: at for name, at, _ in rules.vix_levels}, dict(rules.vix_bands)
    vol, streak = pl.col("realised_vol_percentile"), pl.col("streak")
    rows += [
        row(
            "vix_level", pl.col("vix"), floor("vix_level", levels), pl.col("vix_level"), pl.col("vote_vix_level"), "vix_level"
        ),
        row("vix_band", pl.col("vix_percentile"), floor("vix_band", bands), pl.col("vix_band"), None, "vix_band"),
        row(
            "realised_vol", vol, pl.lit(rules.vol_high), _choose(vol >= rules.vol_high, "high", "usual"),
            pl.col("vote_realised_vol"), "realised_vol",
        ),
        row("alignment", pl.lit(None), pl.lit(None), pl.col("alignment"), None, "alignment"),
        row(
            "stress", pl.when(pl.col("vix").is_not_null()).then(streak), pl.lit(rules.stress_sessions),
            _choose(pl.col("regime") == "stress", "yes", "no"), None, "stress",
        ),
    ]  # fmt: skip
    return pl.concat_list(rows)


def _choose(condition: pl.Expr, yes: str, no: str) -> pl.Expr:
    return pl.when(condition).then(pl.lit(yes)).when(~condition).then(pl.lit(no))


def reasons(row: dict[str, Any], rules: Rules) -> list[str]:
    """A sentence per vote of one date, or why there is none, and the verdict."""
    said: list[str] = []
    for what in _INDICES:
        name = what.upper()
        if row[what] is None:
            said.append(f"{name} has no close on this date: no label.")
            continue
        said.append(_trend(name, row, what, rules))
        said.append(_momentum(name, row[f"momentum_{what}"], row[f"vote_momentum_{what}"], rules))
    said.append(_vix(row, rules))
    said.append(_volatility(row, rules))
    if row["score"] is not None:
        said.append(_verdict(row, rules))
    if not row["is_final"]:
        said.append("The day is not finished: its values and its label can still change.")
    return said


def _trend(name: str, row: dict[str, Any], what: str, rules: Rules) -> str:
    trend, distance, mean = row[f"trend_{what}"], row[f"distance_{what}"], row[f"mean_{what}"]
    if trend is None:
        return f"{name} has fewer than {rules.trend_sessions} closes: no trend yet."
    side = "above" if distance >= 0 else "below"
    kept = "" if abs(distance) > rules.trend_band else ", within the band, so the trend is kept"
    return (
        f"{name} {row[what]:,.2f} is {abs(distance):.1%} {side} its {rules.trend_sessions}-session mean {mean:,.2f} "
        f"(band {rules.trend_band:.1%}{kept}): trend {trend}, {row[f'vote_trend_{what}']:+d} ({rules.source('trend')})."
    )


def _momentum(name: str, momentum: float | None, vote: int | None, rules: Rules) -> str:
    if momentum is None:
        return f"{name} has fewer than {rules.momentum_sessions + 1} closes: no momentum yet."
    return (
        f"{name} returned {momentum:+.1%} over {rules.momentum_sessions} sessions (threshold 0): {vote:+d} "
        f"({rules.source('momentum')})."
    )


def _vix(row: dict[str, Any], rules: Rules) -> str:
    if row["vix"] is None:
        if rules.vix_required:
            return "VIX has no close on this date, and these rules need one: no label."
        return "VIX has no close on this date: no level and no vote."
    names = [name for name, _, _ in rules.vix_levels]
    at = names.index(row["vix_level"])
    _, floor, vote = rules.vix_levels[at]
    ceiling = f"to {rules.vix_levels[at + 1][1]:g}" if at + 1 < len(names) else "and more"
    return (
        f"VIX {row['vix']:.2f} is {row['vix_level']} ({floor:g} {ceiling}, left {rules.vix_margin:g} below): {vote:+d} "
        f"({rules.source('vix_level')})."
    )


def _volatility(row: dict[str, Any], rules: Rules) -> str:
    rank = row["realised_vol_percentile"]
    if rank is None:
        needed = rules.vol_sessions + rules.vol_history
        return f"SPX has fewer than {needed} closes: no percentile of realised volatility yet."
    return (
        f"Realised volatility of SPX over {rules.vol_sessions} sessions is {row['realised_vol']:.1%} a year, percentile "
        f"{rank:.0f} of {rules.vol_history} sessions (high from {rules.vol_high:g}): {row['vote_realised_vol']:+d} "
        f"({rules.source('realised_vol')})."
    )


def _verdict(row: dict[str, Any], rules: Rules) -> str:
    off = f"from {rules.off_enter:+d}, kept up to {rules.off_keep:+d}"
    bounds = {
        "risk_on": f"from {rules.on_enter:+d}, kept down to {rules.on_keep:+d}",
        "risk_off": off,
        "stress": f"risk_off {off}, with the VIX {row['vix_level']} for {row['streak']} sessions of the "
        f"{rules.stress_sessions} it takes",
        "neutral": f"below {rules.on_enter:+d} and above {rules.off_enter:+d}",
    }
    return f"The votes sum to {row['score']:+d}: {row['regime']} ({bounds[row['regime']]})."
