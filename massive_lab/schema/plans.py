"""What each plan may ask for, per asset class, and the limits that hold for everybody.

Sources: the vendor's pricing and documentation pages of 2026. Individual plans differ a little between asset classes in
history; the table keeps the smallest promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from massive_lab.errors import ConfigError

__all__ = [
    "ADVISED_CALLS_PER_SECOND",
    "MAX_AGGREGATES_LIMIT",
    "MAX_CHAIN_LIMIT",
    "MAX_CONTRACTS_LIMIT",
    "MAX_INDICATOR_LIMIT",
    "MAX_OPTION_QUOTES",
    "MAX_SNAPSHOT_TICKERS",
    "MAX_TICKS_LIMIT",
    "PROXY_CALLS_PER_MINUTE",
    "Plan",
    "Tier",
    "plan",
]

Tier = Literal["basic", "starter", "developer", "advanced", "business"]

ADVISED_CALLS_PER_SECOND = 100
"""The vendor's advice to paid plans."""
PROXY_CALLS_PER_MINUTE = 1_200
"""The budget of one gateway boundary, and the yardstick of the polling audit."""
MAX_AGGREGATES_LIMIT = 50_000
MAX_TICKS_LIMIT = 50_000
MAX_CHAIN_LIMIT = 250
MAX_SNAPSHOT_TICKERS = 250
MAX_CONTRACTS_LIMIT = 1_000
MAX_INDICATOR_LIMIT = 5_000
MAX_OPTION_QUOTES = 1_000
"""Option contracts with live quotes on one connection."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Entitlements of one tier for one asset class."""

    tier: Tier
    calls_per_minute: int | None
    """None: no limit but the advice above."""
    delay_s: int | None
    """0 real time, 900 delayed; None: end of day only."""
    history_years: int | None
    """None: all there is."""
    seconds: bool
    """Second bars."""
    snapshots: bool
    websocket: bool
    trades: bool
    quotes: bool
    connections: int
    """WebSocket connections per cluster."""


_PLANS: dict[str, Plan] = {
    "basic": Plan("basic", 5, None, 2, False, False, False, False, False, 0),
    "starter": Plan("starter", None, 900, 5, True, True, True, False, False, 1),
    "developer": Plan("developer", None, 900, 10, True, True, True, True, False, 1),
    "advanced": Plan("advanced", None, 0, None, True, True, True, True, True, 1),
    "business": Plan("business", None, 0, None, True, True, True, True, True, 3),
}


def plan(tier: str) -> Plan:
    """Look a tier up.

    Examples
    --------
    >>> plan("basic").calls_per_minute, plan("advanced").quotes
    (5, True)
    """
    try:
        return _PLANS[tier]
    except KeyError:
        raise ConfigError(f"There is no plan {tier!r}.", hint=f"One of: {', '.join(_PLANS)}.") from None
