"""The rules of the macro regime: thresholds and sources as data, and the columns they make.

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

``risk_on`` from a score of 3 (kept down to 2), ``risk_off`` from -2 down (kept up to -1), ``neutral`` between; ``stress`` is
a ``risk_off`` in which the VIX has stood at its highest level for 3 sessions. The 50-day mean, the percentile of the VIX
and the alignment of the three are shown and do not vote. All are descriptions of the present from the past, not forecasts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from massive_lab.errors import InvalidRequest

__all__ = ["DEFAULT_RULES", "SCHEMA", "SOURCES", "STRICT_RULES", "Rules"]

_EVIDENCE = pl.Struct(
    {
        "rule": pl.String(),
        "value": pl.Float64(),
        "threshold": pl.Float64(),
        "state": pl.String(),
        "vote": pl.Int64(),
        "source": pl.String(),
    }
)
_INDEX = {
    "": pl.Float64(),
    "mean": pl.Float64(),
    "distance": pl.Float64(),
    "trend": pl.String(),
    "fast_mean": pl.Float64(),
    "fast_distance": pl.Float64(),
    "fast_trend": pl.String(),
    "position": pl.String(),
    "momentum": pl.Float64(),
}
SCHEMA = pl.Schema(
    {
        "date": pl.Date(),
        "is_final": pl.Boolean(),
        **{f"{name}_{what}".lstrip("_"): kind for what in ("spx", "ndx") for name, kind in _INDEX.items()},
        "vix": pl.Float64(),
        "vix_level": pl.String(),
        "vix_percentile": pl.Float64(),
        "vix_band": pl.String(),
        "realised_vol": pl.Float64(),
        "realised_vol_percentile": pl.Float64(),
        "alignment": pl.String(),
        "score": pl.Int64(),
        "regime": pl.String(),
        "regime_without_bands": pl.String(),
        "bias": pl.String(),
        "reasons": pl.List(pl.String()),
        "evidence": pl.List(_EVIDENCE),
    }
)
"""Columns of `massive_lab.regime.classify`."""

_OWN = "convention of this library"
SOURCES: tuple[tuple[str, str], ...] = (
    ("trend", "Faber 2007"),
    ("fast_trend", _OWN),
    ("momentum", "Moskowitz, Ooi and Pedersen 2012"),
    ("vix_level", _OWN),
    ("vix_band", _OWN),
    ("realised_vol", "after Moreira and Muir 2017"),
    ("stress", _OWN),
    ("alignment", _OWN),
)
"""Where each rule of `DEFAULT_RULES` comes from, by name."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the regime; all windows count sessions.

    Attributes
    ----------
    version : str
        Changes with any threshold; a label is comparable only under one version.
    trend_sessions, fast_sessions, trend_band
        Lengths of the slow and the fast mean, and the share by which the close must leave a mean to change its trend.
    momentum_sessions
        Sessions of the return.
    vix_levels : tuple of (name, floor, vote)
        Ascending by floor, in VIX points.
    vix_margin
        Points below a floor before the level is left downwards.
    vix_history, vix_bands, vix_band_margin
        Sessions of the percentile of the VIX, its bands as (name, floor) from 0 to 100, and their margin.
    vix_required
        Whether a date without a VIX has no label. If not, it is labelled by the other votes.
    vol_sessions, vol_history, vol_high
        Sessions of the volatility, of its percentile, and the percentile that votes -1.
    on_enter, on_keep, off_enter, off_keep
        Scores: ``risk_on`` from `on_enter` and kept while at least `on_keep`; ``risk_off`` likewise downwards.
    stress_sessions
        Sessions in a row at the highest VIX level that turn ``risk_off`` into ``stress``; a date without a VIX starts
        the count anew.
    sources : tuple of (rule, source)
        Shown with every reason; the names are those of `SOURCES`.

    Raises
    ------
    InvalidRequest
        Thresholds that do not ascend, windows of no length, a rule without a source.
    """

    version: str = "2"
    trend_sessions: int = 200
    fast_sessions: int = 50
    trend_band: float = 0.01
    momentum_sessions: int = 252
    vix_levels: tuple[tuple[str, float, int], ...] = (
        ("calm", 0.0, 1), ("normal", 15.0, 0), ("elevated", 20.0, -1), ("stressed", 30.0, -2)
    )  # fmt: skip
    vix_margin: float = 1.0
    vix_history: int = 252
    vix_bands: tuple[tuple[str, float], ...] = (("low", 0.0), ("middle", 20.0), ("high", 80.0), ("extreme", 95.0))
    vix_band_margin: float = 5.0
    vix_required: bool = False
    vol_sessions: int = 21
    vol_history: int = 252
    vol_high: float = 80.0
    on_enter: int = 3
    on_keep: int = 2
    off_enter: int = -2
    off_keep: int = -1
    stress_sessions: int = 3
    sources: tuple[tuple[str, str], ...] = SOURCES

    def __post_init__(self) -> None:
        _ascend("VIX levels", [floor for _, floor, _ in self.vix_levels])
        _ascend("VIX bands", [floor for _, floor in self.vix_bands])
        if not self.off_enter <= self.off_keep < self.on_keep <= self.on_enter:
            raise InvalidRequest(
                "The scores of the regime do not ascend.", hint="off_enter <= off_keep < on_keep <= on_enter."
            )
        least = {
            "trend_sessions": 2, "fast_sessions": 2, "momentum_sessions": 1, "vix_history": 1, "vol_sessions": 2,
            "vol_history": 1, "stress_sessions": 1, "trend_band": 0, "vix_margin": 0, "vix_band_margin": 0,
        }  # fmt: skip
        for name, floor in least.items():
            if not getattr(self, name) >= floor:
                raise InvalidRequest(f"{name} is {getattr(self, name)!r}; at least {floor} is needed.")
        lost = dict(SOURCES).keys() - dict(self.sources).keys()
        if lost:
            raise InvalidRequest(f"No source is given for {', '.join(sorted(lost))}.")

    def source(self, rule: str) -> str:
        """Where a rule comes from.

        Examples
        --------
        >>> DEFAULT_RULES.source("trend")
        'Faber 2007'
        """
        return dict(self.sources)[rule]

    def without_bands(self) -> Rules:
        """The same thresholds without memory: every state follows from its day alone.

        Examples
        --------
        >>> DEFAULT_RULES.without_bands().trend_band
        0.0
        """
        return dataclasses.replace(
            self, version=f"{self.version}, without bands", trend_band=0.0, vix_margin=0.0, vix_band_margin=0.0,
            on_keep=self.on_enter, off_keep=self.off_enter, stress_sessions=1,
        )  # fmt: skip


def _ascend(what: str, floors: Sequence[float]) -> None:
    if not floors or list(floors) != sorted(set(floors)):
        raise InvalidRequest(f"The floors of the {what} do not ascend.")


DEFAULT_RULES = Rules()
STRICT_RULES = Rules(version="2, VIX required", vix_required=True)
"""`DEFAULT_RULES`, and no label for a date without a VIX."""
