"""Bars: a range of them, one day of the whole market, the previous session, official opens and closes."""

from __future__ import annotations

import datetime as dt

import polars as pl

from massive_lab.errors import IncompletePagination, InvalidRequest, UnknownSymbol
from massive_lab.frames import rest
from massive_lab.frames.build import concat
from massive_lab.loaders.reference import ensure_known, server_now_ns
from massive_lab.loaders.session import Load, Session, path_of
from massive_lab.loaders.when import Range, parse_date, parse_range
from massive_lab.schema.plans import MAX_AGGREGATES_LIMIT
from massive_lab.schema.session import new_york_ns
from massive_lab.schema.symbols import Symbol, parse_many
from massive_lab.schema.timeframe import Timeframe, parse_timeframe

__all__ = ["bars", "grouped_daily", "open_close", "previous_close"]


async def bars(
    session: Session, symbols: object, timeframe: object, start: object, end: object, *, adjustment: str = "split"
) -> pl.DataFrame:
    grid = parse_timeframe(timeframe)
    span = parse_range(start, end)
    adjusted = _adjusted(adjustment)
    wanted = sorted(parse_many(symbols), key=str)  # the order of the frame
    if session.plan is not None and not session.plan.seconds and grid.unit == "s":
        raise InvalidRequest(f"The {session.plan.tier} plan has no second bars.", hint="Use '1m' or longer.")
    several = len(wanted) > 1
    async with session.load("bars", [s.text for s in wanted], total=len(wanted) if several else None) as load:
        if session.plan is not None and session.plan.history_years is not None:
            session.check_history(span.start_ns, await server_now_ns(load))

        async def one(symbol: Symbol) -> pl.DataFrame:
            frame = await _bars_of(load, symbol, grid, span, adjusted, show_pages=not several)
            if several:
                load.progress.step()
            return frame

        frame = concat("bars", await session.gather(wanted, one))
        load.n_rows = frame.height
        return frame


async def _bars_of(
    load: Load, symbol: Symbol, grid: Timeframe, span: Range, adjusted: str, *, show_pages: bool
) -> pl.DataFrame:
    first, last = span.path_segments()
    path = path_of(
        "aggs_range", symbol=symbol, multiplier=grid.multiplier, timespan=grid.timespan, start=first, end=last
    )
    params = {"sort": "asc", "limit": str(MAX_AGGREGATES_LIMIT)}
    if symbol.asset_class != "indices":
        params["adjusted"] = adjusted
    try:
        pages = await load.pages(
            "aggs_range",
            path,
            params=params,
            symbol=symbol.text,
            budget=symbol.asset_class,
            on_page=(lambda _: load.progress.step()) if show_pages else None,
        )
    except IncompletePagination as error:
        error.symbol = symbol.text
        error.partial = rest.bars([page.body for page in error.partial], symbol=symbol.text, timeframe=grid)
        raise
    frame = rest.bars([page.body for page in pages], symbol=symbol.text, timeframe=grid)
    # The vendor widens the range to whole windows; what starts outside was not asked for.
    moment = pl.Datetime("ns", "UTC")
    frame = frame.filter(
        pl.col("ts_event") >= pl.lit(span.start_ns).cast(moment), pl.col("ts_event") < pl.lit(span.end_ns).cast(moment)
    )
    if frame.is_empty():
        # An empty answer may mean "no bars" or "no such symbol"; only the second is an error.
        await ensure_known(load, symbol, as_of=span.start_ns)
    return frame


async def grouped_daily(session: Session, date: object, *, adjustment: str = "split") -> pl.DataFrame:
    day = parse_date(date)
    async with session.load("grouped_daily", ()) as load:
        body = await load.fetch(
            "aggs_grouped",
            path_of("aggs_grouped", date=day.isoformat()),
            params={"adjusted": _adjusted(adjustment), "include_otc": "false"},
        )
        frame = rest.grouped_daily(body, date=day)
        load.n_rows = frame.height
        return frame


async def previous_close(session: Session, symbols: object, *, adjustment: str = "split") -> pl.DataFrame:
    wanted = sorted(parse_many(symbols), key=str)  # the order of the frame
    adjusted = _adjusted(adjustment)
    async with session.load("previous_close", [s.text for s in wanted]) as load:

        async def one(symbol: Symbol) -> pl.DataFrame:
            params = {} if symbol.asset_class == "indices" else {"adjusted": adjusted}
            body = await load.fetch(
                "aggs_prev",
                path_of("aggs_prev", symbol=symbol),
                params=params,
                symbol=symbol.text,
                budget=symbol.asset_class,
            )
            frame = rest.previous_close(body, symbol=symbol.text)
            if frame.is_empty():
                await ensure_known(load, symbol)
            return frame

        frame = concat("bars", await session.gather(wanted, one))
        load.n_rows = frame.height
        return frame


async def open_close(session: Session, symbols: object, date: object, *, adjustment: str = "split") -> pl.DataFrame:
    wanted = sorted(parse_many(symbols), key=str)  # the order of the frame
    day: dt.date = parse_date(date)
    adjusted = _adjusted(adjustment)
    async with session.load("open_close", [s.text for s in wanted]) as load:

        async def one(symbol: Symbol) -> pl.DataFrame:
            params = {} if symbol.asset_class == "indices" else {"adjusted": adjusted}
            path = path_of("open_close", symbol=symbol, date=day.isoformat())
            try:
                body = await load.fetch(
                    "open_close", path, params=params, symbol=symbol.text, budget=symbol.asset_class
                )
            except UnknownSymbol as error:
                # The vendor answers a day without a session as it answers a symbol that does not exist.
                await ensure_known(load, symbol, as_of=new_york_ns(day))
                raise UnknownSymbol(
                    f"{symbol} has no open and close on {day}.",
                    symbol=symbol.text,
                    endpoint="open_close",
                    request_id=error.request_id,
                    hint="It is listed: the market was closed on that date, or nothing was traded.",
                ) from None
            return rest.open_close(body, symbol=symbol.text)

        frame = concat("open_close", await session.gather(wanted, one))
        load.n_rows = frame.height
        return frame


def _adjusted(adjustment: str) -> str:
    if adjustment not in ("split", "none"):
        raise InvalidRequest(
            f"adjustment is {adjustment!r}.", hint="Use 'split' or 'none'; the vendor never adjusts for dividends."
        )
    return "true" if adjustment == "split" else "false"
