"""Trades and quotes: a range of them, or the last one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from massive_lab.errors import IncompletePagination, InvalidRequest
from massive_lab.frames import rest
from massive_lab.frames.build import concat
from massive_lab.loaders.reference import ensure_known
from massive_lab.loaders.session import Load, Session, path_of
from massive_lab.loaders.when import Range, parse_range
from massive_lab.schema.plans import MAX_TICKS_LIMIT
from massive_lab.schema.symbols import Symbol, parse_many

__all__ = ["last", "quotes", "trades"]


async def trades(session: Session, symbols: object, start: object, end: object) -> pl.DataFrame:
    return await _ticks(session, "trades", rest.trades, symbols, start, end)


async def quotes(session: Session, symbols: object, start: object, end: object) -> pl.DataFrame:
    return await _ticks(session, "quotes", rest.quotes, symbols, start, end)


async def _ticks(
    session: Session, kind: str, build: Callable[..., pl.DataFrame], symbols: object, start: object, end: object
) -> pl.DataFrame:
    span = parse_range(start, end)
    wanted = sorted(parse_many(symbols), key=str)  # the order of the frame
    for symbol in wanted:
        if symbol.asset_class == "indices":
            raise InvalidRequest(f"Indices have no {kind}.", symbol=symbol.text, hint="Use bars, or live values.")
    async with session.load(kind, [s.text for s in wanted]) as load:

        async def one(symbol: Symbol) -> pl.DataFrame:
            return await _ticks_of(load, kind, build, symbol, span)

        frame = concat(kind, await session.gather(wanted, one))
        load.n_rows = frame.height
        return frame


async def _ticks_of(
    load: Load, kind: str, build: Callable[..., pl.DataFrame], symbol: Symbol, span: Range
) -> pl.DataFrame:
    params = {
        "timestamp.gte": str(span.start_ns),
        "timestamp.lt": str(span.end_ns),
        "order": "asc",
        "sort": "timestamp",
        "limit": str(MAX_TICKS_LIMIT),
    }
    try:
        pages = await load.pages(
            kind,
            path_of(kind, symbol=symbol),
            params=params,
            symbol=symbol.text,
            budget=symbol.asset_class,
            on_page=lambda _: load.progress.step(),
        )
    except IncompletePagination as error:
        error.symbol = symbol.text
        error.partial = build([page.body for page in error.partial], symbol=symbol.text)
        raise
    frame = build([page.body for page in pages], symbol=symbol.text)
    if frame.is_empty():
        await ensure_known(load, symbol, as_of=span.start_ns)
    return frame


async def last(session: Session, symbols: object, *, kind: object = "trade") -> pl.DataFrame:
    builders: dict[str, tuple[str, str, Callable[..., pl.DataFrame]]] = {
        "trade": ("last_trade", "trades", rest.last_trade),
        "quote": ("last_quote", "quotes", rest.last_quote),
    }
    if not isinstance(kind, str) or kind not in builders:
        raise InvalidRequest(f"kind is {kind!r}.", hint="Use 'trade' or 'quote'.")
    endpoint, table, build = builders[kind]
    wanted: Sequence[Symbol] = sorted(parse_many(symbols), key=str)
    for symbol in wanted:
        served = ("stocks",) if kind == "quote" else ("stocks", "options")
        if symbol.asset_class not in served:
            raise InvalidRequest(
                f"The vendor serves no last {kind} for {symbol.asset_class}.",
                symbol=symbol.text,
                hint="Use snapshot().",
            )
    async with session.load("last", [s.text for s in wanted]) as load:

        async def one(symbol: Symbol) -> pl.DataFrame:
            body = await load.fetch(
                endpoint, path_of(endpoint, symbol=symbol), symbol=symbol.text, budget=symbol.asset_class
            )
            return build(body, symbol=symbol.text)

        frame = concat(table, await session.gather(wanted, one))
        load.n_rows = frame.height
        return frame
