"""The macro regime from SPX, NDX and VIX: features, rules as data, and a label with its reasons. Pure and filtered."""

from __future__ import annotations

from massive_lab.regime.classifier import LiveValues, classify
from massive_lab.regime.label import Regime, flips, flips_per_year, latest
from massive_lab.regime.markov import MarkovParameters, turbulence
from massive_lab.regime.picture import Picture, paint
from massive_lab.regime.rules import DEFAULT_RULES, STRICT_RULES, Rules

__all__ = [
    "DEFAULT_RULES",
    "STRICT_RULES",
    "LiveValues",
    "MarkovParameters",
    "Picture",
    "Regime",
    "Rules",
    "classify",
    "flips",
    "flips_per_year",
    "latest",
    "paint",
    "turbulence",
]
