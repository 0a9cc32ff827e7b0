"""The client: every loader as a blocking call, on top of the shared loop thread.

This file is the one to edit; ``aio.py`` is generated from it by ``tools/build_async.py``.
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

__all__ = ["Lab"]

F = TypeVar("F")
T = TypeVar("T")


class Lab(Core, Generic[F]):
    """A client of one server and one key, or one token of a gateway. Made by `massive_lab.connect`.

    Safe to use from several threads. Close it, or use it in a ``with`` block: closing aborts what is in flight and
    leaves no thread, task, socket or subscription of its own behind.

    Frames are Polars unless ``frame="pandas"`` was given to `connect` or to the call. Their columns are those of
    `massive_lab.schema.columns`; timestamps are UTC nanoseconds; an empty result is an empty frame with the full schema.
    For a type checker the kind of frame is the one given to `connect`.
    Every call may raise `Timeout`, `ConnectionLost`, `RateLimited`, `Unauthorized`, `NotEntitled`, `UpstreamError` and
    `DecodeError` besides the errors it names.
    """

    def _do(self, work: Coroutine[Any, Any, pl.DataFrame], frame: FrameKind | None) -> F:
        kind = self._kind(work, frame)
        result: Any = to_kind(self._runner.call(work), kind)
        return cast("F", result)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.call(work)

    def bars(
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

        Parameters
        ----------
        symbols : str or sequence of str
            Stocks, options (``O:``) and indices (``I:``), mixed as you like; several are loaded at once.
        timeframe : str
            ``1s 1m 5m 1h 1d 1w 1mo 1q 1y`` and multiples; ``m`` is minutes, ``mo`` months.
        start, end : str, date or datetime
            ``[start, end)`` by the start of the bar: New York dates, or instants with a zone.
        adjustment : {"split", "none"}
            The vendor adjusts for splits only, never for dividends.

        Returns
        -------
        frame
            Table ``bars``, sorted by symbol and ``ts_event``. A window without an eligible trade has no row. Indices
            have null ``volume``, ``vwap`` and ``trade_count``.

        Raises
        ------
        InvalidRequest
            Reversed or naive range, unknown timeframe, empty list, a range the plan does not reach.
        UnknownSymbol
            The vendor does not list a symbol.
        IncompletePagination
            A later page failed; ``partial`` is the frame of what came before it.

        Examples
        --------
        >>> lab.bars("AAPL", "1d", "2018-12-03", "2018-12-08")["ts_event"].dt.convert_time_zone(
        ...     "America/New_York"
        ... ).dt.date().to_list()[-1]
        datetime.date(2018, 12, 7)
        """
        return self._do(history.bars(self._session, symbols, timeframe, start, end, adjustment=adjustment), frame)

    def grouped_daily(
        self,
        date: Moment,
        *,
        adjustment: Adjustment = "split",
        frame: FrameKind | None = None,
    ) -> F:
        """The day bar of every stock.

        Parameters
        ----------
        date : str or date
            New York trading date. On a day without trading the frame is empty.

        Returns
        -------
        frame
            Table ``bars``, one row per symbol.

        Examples
        --------
        >>> "AAPL" in lab.grouped_daily("2018-12-18")["symbol"]
        True
        """
        return self._do(history.grouped_daily(self._session, date, adjustment=adjustment), frame)

    def previous_close(
        self,
        symbols: Symbols,
        *,
        adjustment: Adjustment = "split",
        frame: FrameKind | None = None,
    ) -> F:
        """The day bar of the last finished session.

        Returns
        -------
        frame
            Table ``bars``, one row per symbol.

        Raises
        ------
        UnknownSymbol

        Examples
        --------
        >>> lab.previous_close(["AAPL", "I:SPX"]).height
        2
        """
        return self._do(history.previous_close(self._session, symbols, adjustment=adjustment), frame)

    def open_close(
        self,
        symbols: Symbols,
        date: Moment,
        *,
        adjustment: Adjustment = "split",
        frame: FrameKind | None = None,
    ) -> F:
        """Official open and close of one date, with the prices before and after hours.

        Returns
        -------
        frame
            Table ``open_close``, one row per symbol.

        Raises
        ------
        UnknownSymbol
            The vendor has nothing for a symbol on that date.

        Examples
        --------
        >>> lab.open_close("AAPL", "2018-12-18")["date"].item()
        datetime.date(2018, 12, 18)
        """
        return self._do(history.open_close(self._session, symbols, date, adjustment=adjustment), frame)

    def trades(
        self,
        symbols: Symbols,
        start: Moment,
        end: Moment,
        *,
        frame: FrameKind | None = None,
    ) -> F:
        """Trade prints of stocks or options.

        Parameters
        ----------
        symbols : str or sequence of str
        start, end : str, date or datetime
            ``[start, end)`` by the time of the consolidated feed (``ts_sip``).

        Returns
        -------
        frame
            Table ``trades``, sorted by symbol, ``ts_sip`` and ``sequence``.

        Raises
        ------
        InvalidRequest, UnknownSymbol, IncompletePagination
            As `bars`.

        Examples
        --------
        >>> trades = lab.trades("AAPL", "2018-12-18T10:00:00-05:00", "2018-12-18T10:01:00-05:00")
        >>> (trades["size"] > 0).all()
        True
        """
        return self._do(ticks.trades(self._session, symbols, start, end), frame)

    def quotes(
        self,
        symbols: Symbols,
        start: Moment,
        end: Moment,
        *,
        frame: FrameKind | None = None,
    ) -> F:
        """Changes of the national best bid and offer of stocks or options.

        Parameters
        ----------
        symbols : str or sequence of str
        start, end : str, date or datetime
            ``[start, end)`` by the time of the consolidated feed (``ts_sip``).

        Returns
        -------
        frame
            Table ``quotes``, sorted by symbol, ``ts_sip`` and ``sequence``.

        Raises
        ------
        InvalidRequest, UnknownSymbol, IncompletePagination
            As `bars`.

        Examples
        --------
        >>> quotes = lab.quotes("AAPL", "2018-12-18T10:00:00-05:00", "2018-12-18T10:01:00-05:00")
        >>> quotes.columns[4:6]
        ['bid_price', 'bid_size']
        """
        return self._do(ticks.quotes(self._session, symbols, start, end), frame)

    def last(
        self,
        symbols: Symbols,
        *,
        kind: str = "trade",
        frame: FrameKind | None = None,
    ) -> F:
        """The last trade or quote.

        Parameters
        ----------
        kind : {"trade", "quote"}
            Trades of stocks and options; quotes of stocks.

        Returns
        -------
        frame
            Table ``trades`` or ``quotes``, one row per symbol.

        Examples
        --------
        >>> lab.last("AAPL").height
        1
        """
        return self._do(ticks.last(self._session, symbols, kind=kind), frame)

    def snapshot(
        self,
        symbols: Symbols,
        *,
        errors: str = "raise",
        frame: FrameKind | None = None,
    ) -> F:
        """Everything as of now, for any mix of symbols; one call serves 250.

        Parameters
        ----------
        errors : {"raise", "keep"}
            What to do about symbols the vendor does not know or the plan does not cover: raise, or keep their rows
            with the column ``error`` set.

        Returns
        -------
        frame
            Table ``snapshot``.

        Raises
        ------
        UnknownSymbol, NotEntitled
            With ``errors="raise"``.

        Examples
        --------
        >>> lab.snapshot(["AAPL", "I:SPX", "NOSUCH"], errors="keep")["error"].to_list()
        [None, None, 'NOT_FOUND']
        """
        return self._do(snapshots.snapshot(self._session, symbols, errors=errors), frame)

    def indices(
        self,
        symbols: Symbols,
        *,
        errors: str = "raise",
        frame: FrameKind | None = None,
    ) -> F:
        """Index values as of now; one call serves 250.

        Parameters
        ----------
        errors : {"raise", "keep"}
            As `snapshot`.

        Returns
        -------
        frame
            Table ``indices``.

        Examples
        --------
        >>> lab.indices(["I:SPX", "I:VIX"])["symbol"].to_list()
        ['I:SPX', 'I:VIX']
        """
        return self._do(snapshots.indices(self._session, symbols, errors=errors), frame)

    def chain(
        self,
        underlying: str,
        *,
        expiration: Any = None,
        strike: Any = None,
        option_type: OptionType | None = None,
        frame: FrameKind | None = None,
    ) -> F:
        """The option chain of an underlying as of now: quotes, last trades, greeks, open interest.

        Parameters
        ----------
        underlying : str
            ``AAPL``, or ``I:SPX`` with its prefix.
        expiration : str or date, or a pair, optional
            One date, or ``(first, last)``, both included; either may be None.
        strike : float, or a pair, optional
            One strike, or ``(low, high)``, both included; either may be None.
        option_type : {"call", "put"}, optional

        Returns
        -------
        frame
            Table ``chain``, one row per listed contract; greeks are null where the vendor could not solve them.

        Raises
        ------
        UnknownSymbol
            The vendor does not list the underlying.
        IncompletePagination
            A later page failed; ``partial`` is the frame of what came before it.

        Examples
        --------
        >>> calls = lab.chain("AAPL", expiration=("2018-12-19", "2018-12-31"), option_type="call")
        >>> calls["option_type"].unique().to_list()
        ['call']
        """
        return self._do(
            chains.chain(self._session, underlying, expiration=expiration, strike=strike, option_type=option_type),
            frame,
        )

    def contracts(
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

        Parameters
        ----------
        underlying : str
        expiration, strike, option_type
            As `chain`.
        as_of : str or date, optional
            Contracts as they were listed on that date; today when left out.
        expired : bool
            Expired contracts instead of listed ones.

        Returns
        -------
        frame
            Table ``contracts``.

        Examples
        --------
        >>> lab.contracts("AAPL", strike=(110, 120)).columns[0]
        'contract'
        """
        return self._do(
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

    def server_indicator(
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

        Parameters
        ----------
        indicator : {"sma", "ema", "rsi", "macd"}
        start, end
            ``[start, end)`` by the start of the bar.
        timeframe : str
            One unit: ``1m 1h 1d 1w 1mo 1q 1y``.
        period : int, optional
            Bars; 50 for sma and ema, 14 for rsi.
        fast, slow, signal : int
            For macd.
        column : {"open", "high", "low", "close"}

        Returns
        -------
        frame
            Table ``server_indicator``, oldest first.

        Examples
        --------
        >>> lab.server_indicator("AAPL", "ema", "2018-12-10", "2018-12-15", period=20).height
        5
        """
        return self._do(
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

    def indicator_diff(
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

        Parameters
        ----------
        indicator, start, end, timeframe, period, fast, slow, signal, column
            As `server_indicator`.
        convention : {"massive", "talib", "stockcharts", "tradingview"}
            By whose rules ours are computed; with ``"massive"`` only the warm-up can differ.
        warmup_bars : int
            Bars before `start` that ours begin with. The server reads as many as it likes, so a long memory needs more.

        Returns
        -------
        frame
            ``symbol ts_event line server local difference``, one row per value and line (``value``, and for macd
            ``signal`` and ``histogram``); ``local`` is null while warming up.

        Raises
        ------
        InvalidRequest, UnknownSymbol

        Examples
        --------
        >>> diff = lab.indicator_diff("AAPL", "ema", "2018-12-10", "2018-12-15", period=20)
        >>> diff["difference"].abs().max() < 1e-6
        True
        """
        return self._do(
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

    def market_status(
        self,
        *,
        frame: FrameKind | None = None,
    ) -> F:
        """Which markets are open.

        Returns
        -------
        frame
            Table ``market_status``; ``ts_server`` is the server's time.

        Examples
        --------
        >>> lab.market_status()["market"][0]
        'stocks'
        """
        return self._do(reference.market_status(self._session), frame)

    def holidays(
        self,
        *,
        frame: FrameKind | None = None,
    ) -> F:
        """Coming closures and half days.

        Returns
        -------
        frame
            Table ``holidays``.

        Examples
        --------
        >>> lab.holidays()["name"].is_empty()
        False
        """
        return self._do(reference.holidays(self._session), frame)

    def tickers(
        self,
        *,
        search: str | None = None,
        market: str | None = None,
        type: str | None = None,  # noqa: A002  the vendor's name for it
        active: bool = True,
        frame: FrameKind | None = None,
    ) -> F:
        """Instruments of the reference data.

        Parameters
        ----------
        search : str, optional
            In ticker and name.
        market : {"stocks", "indices", "otc"}, optional
        type : str, optional
            Instrument type code, such as ``CS`` or ``ETF``.
        active : bool
            Listed today; False gives those delisted.

        Returns
        -------
        frame
            Table ``tickers``.

        Examples
        --------
        >>> "I:SPX" in lab.tickers(market="indices")["symbol"]
        True
        """
        return self._do(reference.tickers(self._session, search=search, market=market, type=type, active=active), frame)

    def exchanges(
        self,
        *,
        asset_class: str | None = None,
        frame: FrameKind | None = None,
    ) -> F:
        """Reference data of exchange ids.

        Parameters
        ----------
        asset_class : {"stocks", "options"}, optional

        Returns
        -------
        frame
            Table ``exchanges``.

        Examples
        --------
        >>> lab.exchanges(asset_class="options")["exchange"].is_empty()
        False
        """
        return self._do(reference.exchanges(self._session, asset_class=asset_class), frame)

    def conditions(
        self,
        *,
        asset_class: str | None = None,
        frame: FrameKind | None = None,
    ) -> F:
        """Reference data of trade and quote condition ids.

        Parameters
        ----------
        asset_class : {"stocks", "options"}, optional

        Returns
        -------
        frame
            Table ``conditions``.

        Examples
        --------
        >>> lab.conditions(asset_class="options")["condition"].is_empty()
        False
        """
        return self._do(reference.conditions(self._session, asset_class=asset_class), frame)

    def regime(self, *, as_of: Moment | None = None, years: int = 3, live: bool = False) -> Regime:
        """The macro regime from daily bars of SPX, NDX and VIX.

        Parameters
        ----------
        as_of : str or date, optional
            Last New York date to use; the last finished session of the server's time when left out.
        years : int
            History to load; two are needed before every feature is warm.
        live : bool
            Add the running session with the index values of this moment, as an unfinished day (``is_final`` is false). A
            NDX or VIX without a value of today leaves the label ``unknown``; without one of SPX, or outside a session, the
            last finished day is shown and the notes say so. Not together with `as_of`.

        Returns
        -------
        massive_lab.regime.label.Regime
            Trend, VIX level and label with the reasons, and ``history``: one row per date. A date on which one of the
            three has no close has no label.

        Raises
        ------
        InvalidRequest
            `live` together with `as_of`, or years out of range.

        Examples
        --------
        >>> lab.regime(as_of="2018-12-18").label
        'risk_off'
        """
        return self._run(load_regime(self._session, as_of, years, live))

    @property
    def live(self) -> LiveAccess:
        """Live data: ``lab.live(["AAPL", "I:SPX"])`` opens a feed; its methods tell about all that is open."""
        return self._live

    def load_report(self) -> LoadReport:
        """What the loads of this client have cost so far.

        Examples
        --------
        >>> lab.load_report().failed
        0
        """
        return self._session.ledger.report()

    def close(self) -> None:
        """Abort what is in flight, close live feeds, and end the sandbox if this client started it. Idempotent."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
