"""The client whose methods are awaited, from any event loop.

Generated from ``sync.py`` by ``tools/build_async.py``; edit that file.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from massive_lab.frames.convert import to_kind
from massive_lab.lab.compare import indicator_diff
from massive_lab.lab.core import Core
from massive_lab.lab.macro import load_regime
from massive_lab.loaders import chains, history, indicators, reference, snapshots, ticks
from massive_lab.loaders.report import LoadReport
from massive_lab.typing import Adjustment, FrameKind, Moment, OptionType, Symbols

if TYPE_CHECKING:
    import polars as pl

    from massive_lab.lab.live import LiveAccess
    from massive_lab.regime.label import Regime

__all__ = ["AsyncLab"]

F = TypeVar("F")
T = TypeVar("T")


class AsyncLab(Core, Generic[F]):
    """A client of one server and one key, or one token of a gateway. Made by `massive_lab.aconnect`.

    Safe to use from several loops. Close it, or use it in an ``async with`` block: closing aborts what is in flight and
    leaves no thread, task, socket or subscription of its own behind.

    Frames are Polars unless ``frame="pandas"`` was given to `connect` or to the call. Their columns are those of
    `massive_lab.schema.columns`; timestamps are UTC nanoseconds; an empty result is an empty frame with the full schema.
    For a type checker the kind of frame is the one given to `connect`.
    Every call may raise `Timeout`, `ConnectionLost`, `RateLimited`, `Unauthorized`, `NotEntitled`, `UpstreamError` and
    `DecodeError` besides the errors it names.
    """

    async def _do(self, work: Coroutine[Any, Any, pl.DataFrame], frame: FrameKind | None) -> F:
        kind = self._kind(work, frame)
        result: Any = to_kind(await self._runner.acall(work), kind)
        return cast("F", result)

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._runner.acall(work)

    async def bars(
        self,
        symbols: Symbols,
        timeframe: str,
        start: Moment,
        end: Moment,
        *,
        adjustment: Adjustment = "split",
        frame: FrameKind | None = None,
    ) -> F:
        """Bars of one or more symbols.

        See `massive_lab.lab.sync.Lab.bars`.
        """
        return await self._do(history.bars(self._session, symbols, timeframe, start, end, adjustment=adjustment), frame)

    async def grouped_daily(
        self,
        date: Moment,
        *,
        adjustment: Adjustment = "split",
        frame: FrameKind | None = None,
    ) -> F:
        """The day bar of every stock.

        See `massive_lab.lab.sync.Lab.grouped_daily`.
        """
        return await self._do(history.grouped_daily(self._session, date, adjustment=adjustment), frame)

    async def previous_close(
        self,
        symbols: Symbols,
        *,
        adjustment: Adjustment = "split",
        frame: FrameKind | None = None,
    ) -> F:
        """The day bar of the last finished session.

        See `massive_lab.lab.sync.Lab.previous_close`.
        """
        return await self._do(history.previous_close(self._session, symbols, adjustment=adjustment), frame)

    async def open_close(
        self,
        symbols: Symbols,
        date: Moment,
        *,
        adjustment: Adjustment = "split",
        frame: FrameKind | None = None,
    ) -> F:
        """Official open and close of one date, with the prices before and after hours.

        See `massive_lab.lab.sync.Lab.open_close`.
        """
        return await self._do(history.open_close(self._session, symbols, date, adjustment=adjustment), frame)

    async def trades(
        self,
        symbols: Symbols,
        start: Moment,
        end: Moment,
        *,
        frame: FrameKind | None = None,
    ) -> F:
        """Trade prints of stocks or options.

        See `massive_lab.lab.sync.Lab.trades`.
        """
        return await self._do(ticks.trades(self._session, symbols, start, end), frame)

    async def quotes(
        self,
        symbols: Symbols,
        start: Moment,
        end: Moment,
        *,
        frame: FrameKind | None = None,
    ) -> F:
        """Changes of the national best bid and offer of stocks or options.

        See `massive_lab.lab.sync.Lab.quotes`.
        """
        return await self._do(ticks.quotes(self._session, symbols, start, end), frame)

    async def last(
        self,
        symbols: Symbols,
        *,
        kind: str = "trade",
        frame: FrameKind | None = None,
    ) -> F:
        """The last trade or quote.

        See `massive_lab.lab.sync.Lab.last`.
        """
        return await self._do(ticks.last(self._session, symbols, kind=kind), frame)

    async def snapshot(
        self,
        symbols: Symbols,
        *,
        errors: str = "raise",
        frame: FrameKind | None = None,
    ) -> F:
        """Everything as of now, for any mix of symbols; one call serves 250.

        See `massive_lab.lab.sync.Lab.snapshot`.
        """
        return await self._do(snapshots.snapshot(self._session, symbols, errors=errors), frame)

    async def indices(
        self,
        symbols: Symbols,
        *,
        errors: str = "raise",
        frame: FrameKind | None = None,
    ) -> F:
        """Index values as of now; one call serves 250.

        See `massive_lab.lab.sync.Lab.indices`.
        """
        return await self._do(snapshots.indices(self._session, symbols, errors=errors), frame)

    async def chain(
        self,
        underlying: str,
        *,
        expiration: Any = None,
        strike: Any = None,
        option_type: OptionType | None = None,
        frame: FrameKind | None = None,
    ) -> F:
        """The option chain of an underlying as of now: quotes, last trades, greeks, open interest.

        See `massive_lab.lab.sync.Lab.chain`.
        """
        return await self._do(
            chains.chain(self._session, underlying, expiration=expiration, strike=strike, option_type=option_type),
            frame,
        )

    async def contracts(
        self,
        underlying: str,
        *,
        expiration: Any = None,
        strike: Any = None,
        option_type: OptionType | None = None,
        as_of: Moment | None = None,
        expired: bool = False,
        frame: FrameKind | None = None,
    ) -> F:
        """Reference data of option contracts.

        See `massive_lab.lab.sync.Lab.contracts`.
        """
        return await self._do(
            chains.contracts(
                self._session,
                underlying,
                expiration=expiration,
                strike=strike,
                option_type=option_type,
                as_of=as_of,
                expired=expired,
            ),
            frame,
        )

    async def server_indicator(
        self,
        symbol: str,
        indicator: str,
        start: Moment,
        end: Moment,
        *,
        timeframe: str = "1d",
        period: int | None = None,
        fast: int = 12,
        slow: int = 26,
        signal: int = 9,
        column: str = "close",
        adjustment: Adjustment = "split",
        frame: FrameKind | None = None,
    ) -> F:
        """Indicator values computed by the vendor; kept for 60 seconds, and one request however many ask at once.

        See `massive_lab.lab.sync.Lab.server_indicator`.
        """
        return await self._do(
            indicators.server_indicator(
                self._session,
                symbol,
                indicator,
                start,
                end,
                timeframe=timeframe,
                period=period,
                fast=fast,
                slow=slow,
                signal=signal,
                column=column,
                adjustment=adjustment,
            ),
            frame,
        )

    async def indicator_diff(
        self,
        symbol: str,
        indicator: str,
        start: Moment,
        end: Moment,
        *,
        timeframe: str = "1d",
        period: int | None = None,
        fast: int = 12,
        slow: int = 26,
        signal: int = 9,
        column: str = "close",
        convention: str = "massive",
        warmup_bars: int = 250,
        frame: FrameKind | None = None,
    ) -> F:
        """The vendor's indicator values beside our own.

        See `massive_lab.lab.sync.Lab.indicator_diff`.
        """
        return await self._do(
            indicator_diff(
                self._session,
                symbol,
                indicator,
                start,
                end,
                timeframe=timeframe,
                period=period,
                fast=fast,
                slow=slow,
                signal=signal,
                column=column,
                convention=convention,
                warmup_bars=warmup_bars,
            ),
            frame,
        )

    async def market_status(
        self,
        *,
        frame: FrameKind | None = None,
    ) -> F:
        """Which markets are open.

        See `massive_lab.lab.sync.Lab.market_status`.
        """
        return await self._do(reference.market_status(self._session), frame)

    async def holidays(
        self,
        *,
        frame: FrameKind | None = None,
    ) -> F:
        """Coming closures and half days.

        See `massive_lab.lab.sync.Lab.holidays`.
        """
        return await self._do(reference.holidays(self._session), frame)

    async def tickers(
        self,
        *,
        search: str | None = None,
        market: str | None = None,
        type: str | None = None,  # noqa: A002  the vendor's name for it
        active: bool = True,
        frame: FrameKind | None = None,
    ) -> F:
        """Instruments of the reference data.

        See `massive_lab.lab.sync.Lab.tickers`.
        """
        return await self._do(
            reference.tickers(self._session, search=search, market=market, type=type, active=active), frame
        )

    async def exchanges(
        self,
        *,
        asset_class: str | None = None,
        frame: FrameKind | None = None,
    ) -> F:
        """Reference data of exchange ids.

        See `massive_lab.lab.sync.Lab.exchanges`.
        """
        return await self._do(reference.exchanges(self._session, asset_class=asset_class), frame)

    async def conditions(
        self,
        *,
        asset_class: str | None = None,
        frame: FrameKind | None = None,
    ) -> F:
        """Reference data of trade and quote condition ids.

        See `massive_lab.lab.sync.Lab.conditions`.
        """
        return await self._do(reference.conditions(self._session, asset_class=asset_class), frame)

    async def regime(self, *, as_of: Moment | None = None, years: int = 3, live: bool = False) -> Regime:
        """The macro regime from daily bars of SPX, NDX and VIX.

        See `massive_lab.lab.sync.Lab.regime`.
        """
        return await self._run(load_regime(self._session, as_of, years, live))

    @property
    def live(self) -> LiveAccess:
        """Live data: ``lab.live(["AAPL", "I:SPX"])`` opens a feed; its methods tell about all that is open.

        See `massive_lab.lab.sync.Lab.live`.
        """
        return self._live

    def load_report(self) -> LoadReport:
        """What the loads of this client have cost so far.

        See `massive_lab.lab.sync.Lab.load_report`.
        """
        return self._session.ledger.report()

    async def close(self) -> None:
        """Abort what is in flight, close live feeds, and end the sandbox if this client started it. Idempotent."""
        await self._aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
