"""Option chains and contract reference."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from typing import Any

import polars as pl

from massive_lab.decode.pages import Page
from massive_lab.errors import IncompletePagination, InvalidRequest
from massive_lab.frames import rest
from massive_lab.loaders.reference import ensure_known
from massive_lab.loaders.session import Load, Session, path_of
from massive_lab.loaders.when import parse_date
from massive_lab.schema.plans import MAX_CHAIN_LIMIT, MAX_CONTRACTS_LIMIT
from massive_lab.schema.symbols import OptionSymbol, Symbol, parse_symbol

__all__ = ["chain", "contracts"]

_MAX_STRIKE = 100_000
"""A contract's name has eight digits for thousandths."""


async def chain(
    session: Session,
    underlying: str,
    *,
    expiration: object = None,
    strike: object = None,
    option_type: str | None = None,
) -> pl.DataFrame:
    symbol = _underlying(underlying)
    params = {
        **_filters(expiration, strike, option_type),
        "limit": str(MAX_CHAIN_LIMIT),
        "sort": "ticker",
        "order": "asc",
    }
    async with session.load("chain", [symbol.text]) as load:
        pages = await _pages(
            load,
            "chain",
            path_of("chain", underlying=symbol),
            params,
            symbol,
            lambda got: rest.chain([page.body for page in got], underlying=symbol.text),
        )
        frame = rest.chain([page.body for page in pages], underlying=symbol.text)
        if frame.is_empty():
            await ensure_known(load, symbol)
        load.n_rows = frame.height
        return frame


async def contracts(
    session: Session,
    underlying: str,
    *,
    expiration: object = None,
    strike: object = None,
    option_type: str | None = None,
    as_of: object = None,
    expired: bool = False,
) -> pl.DataFrame:
    symbol = _underlying(underlying)
    params = {
        # The reference data write an index without the prefix that every other endpoint demands.
        "underlying_ticker": symbol.text.removeprefix("I:"),
        **_filters(expiration, strike, option_type),
        "limit": str(MAX_CONTRACTS_LIMIT),
        "sort": "ticker",
        "order": "asc",
    }
    if as_of is not None:
        params["as_of"] = parse_date(as_of, name="as_of").isoformat()
    if expired:
        params["expired"] = "true"
    async with session.load("contracts", [symbol.text]) as load:
        pages = await _pages(
            load,
            "contracts",
            path_of("contracts"),
            params,
            symbol,
            lambda got: rest.contracts([page.body for page in got]),
        )
        frame = rest.contracts([page.body for page in pages])
        if frame.is_empty():
            await ensure_known(load, symbol)
        load.n_rows = frame.height
        return frame


async def _pages(
    load: Load,
    endpoint: str,
    path: str,
    params: dict[str, str],
    symbol: Symbol,
    build: Callable[[list[Page]], pl.DataFrame],
) -> list[Page]:
    try:
        return await load.pages(
            endpoint,
            path,
            params=params,
            symbol=symbol.text,
            budget="options",
            on_page=lambda _: load.progress.step(),
        )
    except IncompletePagination as error:
        error.symbol = symbol.text
        error.partial = build(error.partial)
        raise


def _underlying(text: str) -> Symbol:
    symbol = parse_symbol(text)
    if isinstance(symbol, OptionSymbol):
        raise InvalidRequest(
            "A chain is asked for by its underlying.", symbol=symbol.text, hint=f"Use {symbol.underlying!r}."
        )
    return symbol


def _filters(expiration: object, strike: object, option_type: str | None) -> dict[str, str]:
    """Single values or ``(low, high)`` pairs, both included, either may be None."""
    params: dict[str, str] = {}
    params.update(_bounds("expiration_date", expiration, lambda v: parse_date(v, name="expiration").isoformat()))
    params.update(_bounds("strike_price", strike, _price))
    if option_type is not None:
        if option_type not in ("call", "put"):
            raise InvalidRequest(f"option_type is {option_type!r}.", hint="Use 'call' or 'put'.")
        params["contract_type"] = option_type
    return params


def _bounds(name: str, value: object, text: Callable[[Any], str]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, (tuple, list)):
        return {name: text(value)}
    if len(value) != 2:
        raise InvalidRequest(f"A range of {name} is a pair (low, high); this has {len(value)} parts.")
    low, high = value
    params = {}
    if low is not None:
        params[f"{name}.gte"] = text(low)
    if high is not None:
        params[f"{name}.lte"] = text(high)
    if low is not None and high is not None and _order(low) > _order(high):
        raise InvalidRequest(f"The range of {name} is reversed: {low} > {high}.")
    return params


def _order(value: Any) -> Any:
    return parse_date(value) if isinstance(value, (str, dt.date)) else value


def _price(value: object) -> str:
    # `Real` takes numpy's numbers too.
    number = float(value) if isinstance(value, Real | Decimal) and not isinstance(value, bool) else 0.0
    if not 0 < number < _MAX_STRIKE:
        raise InvalidRequest(f"strike is {value!r}, not a positive number below {_MAX_STRIKE:,}.")
    return str(int(number)) if number.is_integer() else repr(number)
