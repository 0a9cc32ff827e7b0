"""Public type aliases. Nothing here is needed at run time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    Frame: TypeAlias = pl.DataFrame | pd.DataFrame
else:
    Frame: TypeAlias = Any

Symbols: TypeAlias = str | Sequence[str]
"""One symbol or several: ``"AAPL"``, ``["AAPL", "I:SPX"]``."""

Moment: TypeAlias = str | dt.date | dt.datetime
"""A New York trading date (``"2025-06-02"``, ``date``) or an instant (an aware ``datetime``, an ISO string with offset)."""

FrameKind: TypeAlias = Literal["polars", "pandas"]
Adjustment: TypeAlias = Literal["split", "none"]
AssetClass: TypeAlias = Literal["stocks", "options", "indices"]
Cluster: TypeAlias = Literal["stocks", "options", "indices"]
OptionType: TypeAlias = Literal["call", "put"]
