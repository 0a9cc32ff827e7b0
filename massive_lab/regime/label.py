"""The regime of the last date, as one value to look at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType
from typing import Any

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.regime.rules import DEFAULT_RULES, SCHEMA, Rules

__all__ = ["Regime", "flips", "flips_per_year", "latest"]

_INPUTS = (
    "spx", "trend_spx", "position_spx", "momentum_spx", "ndx", "trend_ndx", "position_ndx", "momentum_ndx", "vix",
    "vix_level", "vix_percentile", "vix_band", "realised_vol", "realised_vol_percentile", "alignment",
)  # fmt: skip
_COLOURS = {
    "risk_on": "#1a7f37", "neutral": "#6e7781", "risk_off": "#b42318", "stress": "#b42318", "unknown": "#6e7781"
}  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Regime:
    """The macro regime as of one date.

    Attributes
    ----------
    date : datetime.date
        Last New York date used.
    label : str
        ``risk_on``, ``neutral``, ``risk_off``, ``stress``, or ``unknown`` when an input is missing or warming up.
    bias : str
        ``long``, ``flat``, ``short`` as `massive_lab.regime.classify` defines them, or ``unknown`` with the label. The side
        on which votes and trends agree today; no forecast and no advice.
    is_final : bool
        False while the day is not over.
    score : int or None
        Sum of the votes.
    reasons : tuple of str
        One sentence per vote with value, threshold and source, and the verdict.
    inputs : mapping
        The features the votes were taken on; None where there is none.
    flips_per_year : float or None
        Changes of the label per calendar year over `history`; None for less than a year of labels.
    flips_per_year_without_bands : float or None
        The same for the label without hysteresis.
    source_notes : tuple of str
        What to know about the data, such as one index standing in for another.
    rules_version : str
    history : polars.DataFrame
        The frame of `massive_lab.regime.classify`.
    """

    date: dt.date
    label: str
    bias: str
    is_final: bool
    score: int | None
    reasons: tuple[str, ...]
    inputs: Mapping[str, Any]
    flips_per_year: float | None
    flips_per_year_without_bands: float | None
    source_notes: tuple[str, ...]
    rules_version: str
    history: pl.DataFrame = field(compare=False)

    def __repr__(self) -> str:
        lines = [f"Regime {self.label} as of {self._when()}{self._score()}"]
        lines += [f"  - {reason}" for reason in self.reasons]
        lines += [f"  {note}" for note in (*self._facts(), *self.source_notes)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(reason)}</li>" for reason in self.reasons)
        notes = "".join(f"<div><small>{escape(note)}</small></div>" for note in (*self._facts(), *self.source_notes))
        colour = _COLOURS.get(self.label, _COLOURS["unknown"])
        return (
            f'<div><strong style="color:{colour}">{escape(self.label)}</strong> as of {self._when()}{escape(self._score())}'
            f"<ul>{items}</ul>{notes}</div>"
        )

    def _when(self) -> str:
        return f"{self.date}{'' if self.is_final else ' (not finished)'}"

    def _score(self) -> str:
        return "" if self.score is None else f", score {self.score:+d}, bias {self.bias}"

    def _facts(self) -> list[str]:
        flips = "" if self.flips_per_year is None else f", {self.flips_per_year:.1f} changes a year"
        if flips and self.flips_per_year_without_bands is not None:
            flips += f" ({self.flips_per_year_without_bands:.1f} without bands)"
        first = self.history["date"][0]
        return [f"{self.history.height} dates from {first} to {self.date}{flips}; rules {self.rules_version}."]


def latest(frame: pl.DataFrame, *, source_notes: Sequence[str] = (), rules: Rules = DEFAULT_RULES) -> Regime:
    """The last row of `massive_lab.regime.classify` as a `Regime`.

    Parameters
    ----------
    frame : polars.DataFrame
        As `classify` returns it.
    source_notes : sequence of str
        What to know about the data; shown with the label.
    rules : Rules
        Those the frame was made with; only their version is kept.

    Raises
    ------
    InvalidRequest
        The frame has no row, or is not of `classify`.

    Examples
    --------
    >>> days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(300)]
    >>> index = pl.DataFrame({"date": days, "close": [100.0 + i for i in range(300)]})
    >>> from massive_lab.regime import classify
    >>> regime = latest(classify(index, index, index.head(0)), source_notes=["Made up."])
    >>> regime.label, regime.inputs["vix"], regime.reasons[4]
    ('risk_on', None, 'VIX has no close on this date: no level and no vote.')
    """
    if list(frame.columns) != list(SCHEMA):
        raise InvalidRequest("The frame is not of classify().", hint="Pass what massive_lab.regime.classify returned.")
    if frame.height == 0:
        raise InvalidRequest(
            "There is no date to label: SPX has no bar.", hint="Load at least two years of daily bars."
        )
    row = frame.row(-1, named=True)
    return Regime(
        date=row["date"],
        label=row["regime"] or "unknown",
        bias=row["bias"] or "unknown",
        is_final=row["is_final"],
        score=row["score"],
        reasons=tuple(row["reasons"]),
        inputs=MappingProxyType({name: row[name] for name in _INPUTS}),
        flips_per_year=flips_per_year(frame),
        flips_per_year_without_bands=flips_per_year(frame, "regime_without_bands"),
        source_notes=tuple(source_notes),
        rules_version=rules.version,
        history=frame,
    )


def flips(frame: pl.DataFrame) -> pl.DataFrame:
    """How often the trends and the label change, with hysteresis and without.

    Parameters
    ----------
    frame : polars.DataFrame
        As `massive_lab.regime.classify` returns it.

    Returns
    -------
    polars.DataFrame
        `state flips_per_year flips_per_year_without_bands`, one row each for the trends of SPX and NDX and the regime; null
        for less than a year.

    Examples
    --------
    >>> days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(900)]
    >>> wave = pl.DataFrame({"date": days, "close": [100.0 + (i // 90 % 2) * 10 + i % 2 for i in range(900)]})
    >>> from massive_lab.regime import classify
    >>> flips(classify(wave, wave, wave.head(0)))["state"].to_list()
    ['trend_spx', 'trend_ndx', 'regime']
    """
    bare = frame.select(
        "date",
        *(pl.col(f"distance_{what}").gt(0).alias(f"trend_{what}") for what in ("spx", "ndx")),
        regime="regime_without_bands",
    )
    states = ("trend_spx", "trend_ndx", "regime")
    return pl.DataFrame(
        {
            "state": states,
            "flips_per_year": [flips_per_year(frame, state) for state in states],
            "flips_per_year_without_bands": [flips_per_year(bare, state) for state in states],
        },
        schema={"state": pl.String, "flips_per_year": pl.Float64, "flips_per_year_without_bands": pl.Float64},
    )


def flips_per_year(frame: pl.DataFrame, column: str = "regime") -> float | None:
    """Changes of a state per calendar year, nulls left out; None for less than a year.

    Examples
    --------
    >>> days = [dt.date(2020, 1, 1), dt.date(2021, 1, 1), dt.date(2022, 1, 1)]
    >>> round(flips_per_year(pl.DataFrame({"date": days, "regime": ["risk_on", "neutral", "neutral"]})), 2)
    0.5
    """
    known = frame.select("date", column).drop_nulls()
    if known.height < 2:
        return None
    years = (known["date"][-1] - known["date"][0]).days / 365.25
    if years < 0.99:
        return None
    changes = int((known[column] != known[column].shift()).sum())
    return float(changes / years)
