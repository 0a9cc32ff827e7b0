"""Reference data, market status, and the question whether a symbol exists."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl

from massive_lab.errors import InvalidRequest
from massive_lab.frames import rest
from massive_lab.loaders.session import Load, Session, path_of
from massive_lab.schema.session import trading_date
from massive_lab.schema.symbols import OptionSymbol, Symbol

__all__ = [
    "conditions",
    "ensure_known",
    "exchanges",
    "holidays",
    "market_status",
    "server_now_ns",
    "tickers",
]


async def ensure_known(load: Load, symbol: Symbol, *, as_of: int | None = None) -> None:
    """Return when the vendor lists the symbol; raise `UnknownSymbol` when it does not.

    Asked only after an empty answer, where the vendor does not tell "nothing" from "no such thing".
    """
    if isinstance(symbol, OptionSymbol):
        params = {}
        if as_of is not None:
            # An expired contract is only found as of a date at which it was alive.
            params["as_of"] = min(trading_date(as_of), symbol.expiration).isoformat()
        path = path_of("contract", contract=symbol)
        await load.fetch("contract", path, params=params, symbol=symbol.text, budget="options")
        return
    path = path_of("ticker_details", symbol=symbol)
    await load.fetch("ticker_details", path, symbol=symbol.text, budget=symbol.asset_class)


async def server_now_ns(load: Load) -> int:
    """The server's time: the sandbox has one of its own, and a notebook's clock may be wrong."""
    body = await load.fetch("market_status", path_of("market_status"))
    stamp: dt.datetime = rest.market_status(body)["ts_server"][0]
    return int(stamp.timestamp()) * 1_000_000_000


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise InvalidRequest(f"{name} is {value!r}.", hint=f"Use one of {', '.join(choices)}, or leave it out.")


async def market_status(session: Session) -> pl.DataFrame:
    async with session.load("market_status", ()) as load:
        frame = rest.market_status(await load.fetch("market_status", path_of("market_status")))
        load.n_rows = frame.height
        return frame


async def holidays(session: Session) -> pl.DataFrame:
    async with session.load("holidays", ()) as load:
        frame = rest.holidays(await load.fetch("market_holidays", path_of("market_holidays")))
        load.n_rows = frame.height
        return frame


async def tickers(
    session: Session,
    *,
    search: str | None = None,
    market: str | None = None,
    type: str | None = None,  # noqa: A002  the vendor's name for it
    active: bool = True,
) -> pl.DataFrame:
    params = {"active": "true" if active else "false", "sort": "ticker", "order": "asc", "limit": "1000"}
    _one_of("market", market, ("stocks", "indices", "otc"))
    given: tuple[tuple[str, Any], ...] = (("search", search), ("market", market), ("type", type))
    if wrong := [name for name, value in given if not isinstance(value, str | None)]:
        raise InvalidRequest(f"{wrong[0]} is not a text.")
    params |= {name: value for name, value in given if value is not None}
    async with session.load("tickers", ()) as load:
        pages = await load.pages("tickers", path_of("tickers"), params=params, on_page=lambda _: load.progress.step())
        frame = rest.tickers([page.body for page in pages])
        load.n_rows = frame.height
        return frame


async def exchanges(session: Session, *, asset_class: str | None = None) -> pl.DataFrame:
    _one_of("asset_class", asset_class, ("stocks", "options"))
    async with session.load("exchanges", ()) as load:
        params = {"asset_class": asset_class} if asset_class else {}
        frame = rest.exchanges(await load.fetch("exchanges", path_of("exchanges"), params=params))
        load.n_rows = frame.height
        return frame


async def conditions(session: Session, *, asset_class: str | None = None) -> pl.DataFrame:
    _one_of("asset_class", asset_class, ("stocks", "options"))
    async with session.load("conditions", ()) as load:
        params = {"limit": "1000", **({"asset_class": asset_class} if asset_class else {})}
        pages = await load.pages("conditions", path_of("conditions"), params=params)
        frame = rest.conditions([page.body for page in pages])
        load.n_rows = frame.height
        return frame
