"""The macro regime from SPX, NDX and VIX: features, rules as data, and a label with its reasons. Pure and filtered."""

from __future__ import annotations

from massive_lab.regime.label import Regime, flips_per_year, latest
from massive_lab.regime.rules import DEFAULT_RULES, Rules, classify

__all__ = ["DEFAULT_RULES", "Regime", "Rules", "classify", "flips_per_year", "latest"]
