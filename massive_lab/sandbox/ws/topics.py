"""Which topics a cluster offers, and to whom."""

from __future__ import annotations

from typing import Literal

from massive_lab.errors import InvalidRequest, UnknownSymbol
from massive_lab.schema.plans import Plan
from massive_lab.schema.symbols import parse_symbol
from massive_lab.typing import AssetClass

__all__ = ["CLUSTERS", "Verdict", "fits_cluster", "judge", "split_param", "split_params"]

CLUSTERS: tuple[AssetClass, ...] = ("stocks", "options", "indices")

Verdict = Literal["granted", "denied", "unknown"]

_OFFERED: dict[AssetClass, frozenset[str]] = {
    "stocks": frozenset(("T", "Q", "A", "AM", "LULD", "NOI", "FMV", "LV")),
    "options": frozenset(("T", "Q", "A", "AM", "FMV", "LV")),
    "indices": frozenset(("V", "A", "AM")),
}
_REAL_TIME_ONLY = {"Q", "LULD", "NOI", "FMV", "LV"}


def split_params(params: str) -> list[str]:
    """The params of a message, blanks dropped.

    Examples
    --------
    >>> split_params("T.AAPL, A.AAPL,,")
    ['T.AAPL', 'A.AAPL']
    """
    return [param.strip() for param in params.split(",") if param.strip()]


def split_param(param: str) -> tuple[str, str]:
    """Prefix and symbol; symbols may hold dots.

    Examples
    --------
    >>> split_param("T.BRK.B"), split_param("nonsense")
    (('T', 'BRK.B'), ('nonsense', ''))
    """
    prefix, _, symbol = param.partition(".")
    return prefix, symbol


def judge(cluster: AssetClass, *, delayed: bool, plan: Plan, param: str) -> Verdict:
    """What becomes of a subscription, faults and the quote cap aside.

    ``unknown``: the cluster has no such topic, and the vendor does not answer. ``denied``: the plan, or the delayed feed,
    lacks it; so does everybody for ``Q.*`` of options, which the vendor does not offer.

    Examples
    --------
    >>> from massive_lab.schema.plans import plan
    >>> judge("options", delayed=False, plan=plan("advanced"), param="Q.*")
    'denied'
    >>> judge("stocks", delayed=True, plan=plan("starter"), param="AM.AAPL")
    'granted'
    >>> judge("stocks", delayed=False, plan=plan("starter"), param="AM.AAPL")
    'denied'
    """
    prefix, symbol = split_param(param)
    if not symbol or prefix not in _OFFERED[cluster]:
        return "unknown"
    allowed = {
        "T": plan.trades,
        "Q": plan.quotes and not (cluster == "options" and symbol == "*"),
        "A": plan.seconds,
        "FMV": plan.tier == "business",
        "LV": False,
    }.get(prefix, plan.websocket)
    if delayed and prefix in _REAL_TIME_ONLY:
        allowed = False
    if not delayed and plan.delay_s != 0:
        allowed = False
    return "granted" if allowed else "denied"


def fits_cluster(cluster: AssetClass, symbol: str) -> bool:
    """Whether the text is a symbol of the cluster's class at all."""
    try:
        return parse_symbol(symbol).asset_class == cluster
    except (UnknownSymbol, InvalidRequest):
        return False
