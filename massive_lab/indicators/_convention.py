"""Whose definition: the four conventions and how they are written.

=============== ===========================================================================================
``talib``       TA-Lib, the reference of this library and the default
``stockcharts`` ChartSchool's worksheets: averages seeded with simple means, each on its own first values
``tradingview`` the reference code in Pine Script's manual
``massive``     what the vendor's server computes, as far as its published numbers show
=============== ===========================================================================================

By name a convention follows an at sign, ``ema_20@tradingview``, and the columns made are named alike. TA-Lib's columns are
named without it, also when ``@talib`` was written.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from massive_lab.errors import InvalidRequest

__all__ = ["Convention", "check_convention", "suffix"]

Convention: TypeAlias = Literal["talib", "stockcharts", "tradingview", "massive"]


def check_convention(value: str, what: str, known: tuple[Convention, ...] = get_args(Convention)) -> Convention:
    """One of the conventions that `what` has.

    Examples
    --------
    >>> check_convention("talib", "An EMA")
    'talib'
    """
    for one in known:
        if value == one:
            return one
    raise InvalidRequest(f"{what} has no convention {value!r}.", hint=f"Use {', '.join(known)}.")


def suffix(convention: Convention) -> str:
    """What follows a column's name: nothing for TA-Lib.

    Examples
    --------
    >>> "ema_20" + suffix("tradingview"), "ema_20" + suffix("talib")
    ('ema_20@tradingview', 'ema_20')
    """
    return "" if convention == "talib" else f"@{convention}"
