"""What frames say about coverage, indicators and regime, as sections of the audit document. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import polars as pl

from massive_lab.regime.label import Regime

__all__ = [
    "chain_coverage",
    "compare_indicator",
    "index_coverage",
    "indicator_columns",
    "near_the_money",
    "price_chart",
    "regime_section",
]

Section = dict[str, Any]
_CHART_ROWS = 252


def chain_coverage(chain: pl.DataFrame, contracts: pl.DataFrame, *, today: dt.date) -> Section:
    """How much of a listed chain the snapshot holds, and which values its rows carry.

    Parameters
    ----------
    chain, contracts : polars.DataFrame
        The tables of these names, of one underlying.
    today : datetime.date
        The smile is that of the expiration nearest to thirty days from it.
    """

    def present(*columns: str) -> int:
        return chain.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in columns)).height

    return {
        "underlying": chain["underlying"][0] if chain.height else None,
        "contracts": chain.height,
        "listed": contracts.height,
        "not_listed": chain.join(contracts, on="contract", how="anti").height,
        "missing": contracts.join(chain, on="contract", how="anti").height,
        "expirations": chain["expiration"].n_unique(),
        "with_quote": present("bid_price", "ask_price"),
        "with_trade": present("trade_price"),
        "with_greeks": present("delta", "gamma", "theta", "vega"),
        "with_iv": present("implied_vol"),
        "with_open_interest": present("open_interest"),
        "smile": _smile(chain, today),
    }


def _smile(chain: pl.DataFrame, today: dt.date) -> Section | None:
    """Implied volatility in per cent by strike, within an eighth of the underlying's price."""
    rows = chain.drop_nulls(["implied_vol", "underlying_price"])
    if rows.is_empty():
        return None
    nearest = min(rows["expiration"].unique().to_list(), key=lambda day: (abs((day - today).days - 30), day))
    rows = rows.filter(
        pl.col("expiration") == nearest, (pl.col("strike") / pl.col("underlying_price") - 1).abs() <= 0.125
    )
    strikes = sorted(rows["strike"].unique().to_list())
    iv = {
        (kind, strike): round(vol * 100, 3)
        for kind, strike, vol in rows.select("option_type", "strike", "implied_vol").iter_rows()
    }
    return {
        "expiration": nearest.isoformat(),
        "strikes": strikes,
        "call": [iv.get(("call", strike)) for strike in strikes],
        "put": [iv.get(("put", strike)) for strike in strikes],
    }


def index_coverage(indices: pl.DataFrame) -> list[Section]:
    """One row for each index: its value, or why there is none."""
    columns = ("symbol", "name", "value", "market_status", "timeframe", "error")
    return indices.sort("symbol").select(columns).to_dicts()


def indicator_columns(frame: pl.DataFrame, columns: Sequence[str]) -> list[Section]:
    """Rows, leading nulls and last value of computed columns, over the first symbol of the frame."""
    return [
        {
            "column": name,
            "rows": frame.height,
            "warmup": frame.height - frame[name].drop_nulls().len(),
            "last": _round(frame[name][-1], 6),
        }
        for name in columns
    ]


def compare_indicator(
    ours: pl.DataFrame, column: str, theirs: pl.DataFrame, *, last: int = 60, tolerance: float = 1e-6
) -> Section:
    """Compare a computed column with the server's values of the same indicator, on the last bars both have.

    Parameters
    ----------
    ours : polars.DataFrame
        `ts_event` and `column`, of one symbol.
    theirs : polars.DataFrame
        The table ``server_indicator``.
    last : int
        Bars compared: the server may begin earlier, and its seed has died away by then.
    tolerance : float
        Largest difference that agrees, relative to the value.
    """
    pairs = (
        ours.select("ts_event", column)
        .join(theirs.select("ts_event", "value"), on="ts_event")
        .drop_nulls()
        .sort("ts_event")
        .tail(last)
        .with_columns(((pl.col(column) - pl.col("value")) / pl.col("value")).abs().alias("difference"))
    )
    worst = float(pairs["difference"].max() or 0.0) if pairs.height else float("inf")  # type: ignore[arg-type]
    agrees = pairs.height > 0 and worst <= tolerance
    # A difference below what doubles can carry is told as such: its digits depend on the machine.
    shown = 1e-12 if worst < 1e-12 else float(f"{worst:.2g}")
    return {"indicator": column, "n": pairs.height, "difference": shown if pairs.height else 1.0, "agrees": agrees}


def price_chart(frame: pl.DataFrame, symbol: str) -> Section:
    """The last year of close, EMA and RSI of one symbol."""
    rows = frame.filter(pl.col("symbol") == symbol).sort("ts_event").tail(_CHART_ROWS)
    days = rows["ts_event"].dt.convert_time_zone("America/New_York").dt.date()
    return {
        "symbol": symbol,
        "labels": [day.isoformat() for day in days],
        **{name: [_round(value, 4) for value in rows[name]] for name in ("close", "ema_20", "rsi_14")},
    }


def regime_section(regime: Regime) -> Section:
    """The label of the last date with its reasons, the count of days by label, and two years to look at."""
    days = regime.history
    labelled = days.drop_nulls("regime")
    names = ("risk_on", "neutral", "risk_off", "stress")
    counts = {name: labelled.filter(pl.col("regime") == name).height for name in names}
    shown = days.tail(2 * _CHART_ROWS)
    return {
        "last": regime.label,
        "date": regime.date.isoformat(),
        "days": days.height,
        "labelled": labelled.height,
        "score": regime.score,
        "reasons": list(regime.reasons),
        "notes": list(regime.source_notes),
        "rules_version": regime.rules_version,
        "flips_per_year": _round(regime.flips_per_year, 2),
        "by_regime": [
            {"regime": name, "days": n, "share": round(n / max(labelled.height, 1), 4)} for name, n in counts.items()
        ],
        "chart": {
            "labels": [day.isoformat() for day in shown["date"]],
            "price_title": "S&P 500",
            "price_name": "SPX",
            "price": [_round(value, 2) for value in shown["spx"]],
            "vix": [_round(value, 2) for value in shown["vix"]],
            "defensive": [label in ("risk_off", "stress") for label in shown["regime"]],
            "caption": "S&P 500 and VIX by day; days labelled risk_off or stress stand on a grey ground.",
        },
    }


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def near_the_money(chain: pl.DataFrame, *, after: dt.date) -> list[str]:
    """A call and a put to stream: the first expiration after a date, the strike nearest to the underlying.

    Returns
    -------
    list of str
        Empty when the chain has no such contract.
    """
    rows = chain.filter(pl.col("expiration") > after).drop_nulls("underlying_price")
    if rows.is_empty():
        return []
    rows = rows.filter(pl.col("expiration") == rows["expiration"].min())
    distance = (pl.col("strike") - pl.col("underlying_price")).abs()
    rows = rows.sort(distance, "contract").group_by("option_type", maintain_order=True).first()
    return sorted(rows["contract"].to_list())
