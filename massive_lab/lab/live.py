"""``lab.live``: everything live of one client, whoever in the process opened it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import polars as pl

from massive_lab.config import Secret
from massive_lab.errors import ClosedError
from massive_lab.frames.reconcile import reconcile_bars
from massive_lab.live import registry
from massive_lab.live.macro.input import SYMBOLS
from massive_lab.live.session import Live
from massive_lab.live.views import STATUS_COLUMNS, TOPIC_COLUMNS, gap_frame, outage_frame, warning_frame
from massive_lab.loaders.backfill import Backfiller
from massive_lab.loaders.reference import conditions
from massive_lab.loaders.snapshots import SnapshotPoller
from massive_lab.schema.symbols import parse_many
from massive_lab.typing import Symbols

if TYPE_CHECKING:
    from massive_lab.lab.core import Core
    from massive_lab.live.capture.record import Recording
    from massive_lab.live.duplicates import LoadWatch
    from massive_lab.live.macro.input import Loaded
    from massive_lab.live.macro.macro import Macro
    from massive_lab.loaders.session import Session
    from massive_lab.transports.runner import Runner

__all__ = ["LiveAccess"]

MACRO_INDICATORS = ("ema_20", "rsi_14", "atr_14", "macd_12_26_9")

# A feed needs the client it came from, also when nothing else holds it: `for trade in ml.connect(...).live(...).trades()`.
_owners: weakref.WeakKeyDictionary[Live, Core] = weakref.WeakKeyDictionary()


class LiveAccess:
    """Open live feeds by calling it; its methods tell about all feeds of this client's key in this process.

    Examples
    --------
    >>> lab.live.status().height
    0
    """

    def __init__(
        self, lab: Core, runner: Runner, session: Session, lives: weakref.WeakSet[Live], loads: LoadWatch
    ) -> None:
        self._lab = lab
        self._runner = runner
        self._session = session
        self._lives = lives
        self._conditions: pl.DataFrame | None = None
        self._loads = loads
        loads.finder.streamed = _streamed_by(lab)

    def __call__(self, symbols: Symbols, channels: Sequence[str] | None = None) -> Live:
        """Live data of some symbols, at once: the socket is opened in the background.

        However often the same thing is asked for, by whomever in this process, the server sees one subscription.

        Parameters
        ----------
        symbols : str or sequence of str
        channels : sequence of str, optional
            Wire names such as ``"T"``, ``"Q"``, ``"A"``, ``"AM"``, ``"V"``; trades, quotes and minute bars when left
            out, values and minute bars for indices.

        Returns
        -------
        massive_lab.live.session.Live
        """
        lab = self._lab
        wanted = parse_many(symbols)
        if not lab.closed:
            poller = SnapshotPoller(self._session)
            filler = Backfiller(self._session)
            live = Live(lab.settings, self._runner, lab.telemetry, lab.clock, poller, wanted, channels, filler=filler)
            self._lives.add(live)
            _owners[live] = lab
            if not lab.closed:
                return live
            live.close()  # the client was closed meanwhile, and may not have seen it
        raise ClosedError("The client is closed.", hint="Connect again.")

    def record(self, path: str | os.PathLike[str]) -> Recording:
        """Record every feed of this client, those that are open and those to come, until the recording is closed.

        Parameters
        ----------
        path : path-like
            The file to make. While recording it is ``<path>.part``, which is readable up to the last whole second even after
            a crash.

        Returns
        -------
        massive_lab.live.capture.record.Recording
            Close it, or use it in a ``with`` block; closing the client ends it as well. `massive_lab.replay` plays it.

        Raises
        ------
        InvalidRequest
            When there is such a file, or the key is too short to be told from data: no key is ever written.
        CaptureError
            When the file cannot be made.
        ClosedError
            When the client is closed.

        Examples
        --------
        >>> with lab.live.record("/nonexistent/session.mlcap"):
        ...     pass
        Traceback (most recent call last):
        massive_lab.errors.CaptureError: The capture session.mlcap cannot be written: No such file or directory. Check ...
        """
        from massive_lab.live.capture.record import Recording

        lab = self._lab
        if lab.closed:
            raise ClosedError("The client is closed.", hint="Connect again.")
        plan = self._session.plan
        recording = Recording(path, lab.settings, self._runner, plan=plan.tier if plan else None)
        recordings = lab._parts.recordings
        recordings[:] = [*(other for other in recordings if not other.is_closed), recording]
        if lab.closed:
            recording.end()  # the client was closed meanwhile, and may not have seen it
        return recording

    def macro(
        self, *, years: int = 3, indicators: Sequence[str] = MACRO_INDICATORS, stale_s: float = 30.0
    ) -> Macro:
        """The macro regime and its indicators, kept up to date by the stream of SPX, NDX and VIX.

        Parameters
        ----------
        years : int
            History to load, as ``lab.regime`` has it.
        indicators : sequence of str
            Of ``ema sma rsi atr macd`` with their periods, as `massive_lab.indicators.apply` reads them.
        stale_s : float
            Seconds of the market's time without a value, in a running session, that make an input stale.

        Returns
        -------
        massive_lab.live.macro.macro.Macro
            Its history is loaded; wait for its subscriptions with ``wait_live``.

        Raises
        ------
        InvalidRequest
            Years out of range, something that is no indicator, or `stale_s` not above 0.

        Examples
        --------
        >>> with lab.live.macro() as macro:
        ...     macro.frame()["symbol"].to_list()
        ['I:SPX', 'I:NDX', 'I:VIX']
        """
        macro = self._macro(years, indicators, stale_s)
        try:
            self._runner.call(macro._begin())
        except BaseException:
            macro.close()
            raise
        return macro

    async def amacro(
        self, *, years: int = 3, indicators: Sequence[str] = MACRO_INDICATORS, stale_s: float = 30.0
    ) -> Macro:
        """As `macro`, from any event loop."""
        macro = self._macro(years, indicators, stale_s)
        try:
            await self._runner.acall(macro._begin())
        except BaseException:
            await macro.aclose()
            raise
        return macro

    def _macro(self, years: int, indicators: Sequence[str], stale_s: float) -> Macro:
        from massive_lab.lab.macro import check_stale, check_years, load_macro
        from massive_lab.live.macro.macro import CHANNELS, Macro
        from massive_lab.live.macro.state import MacroState

        check_years(years)
        check_stale(stale_s)
        lab, session = self._lab, self._session
        state = MacroState(indicators, stale_s=stale_s)

        async def load(minutes: bool) -> Loaded:
            return await load_macro(session, years, minutes=minutes)

        live = self(SYMBOLS, CHANNELS)
        return Macro(live, state, lab.clock, self._runner, load, is_sandbox=lab.settings.sandbox)

    def reconcile(
        self, live: Live, symbols: Symbols | None = None, *, timeframe: str = "1m", bars: str = "stream"
    ) -> pl.DataFrame:
        """The trades of a feed beside the vendor's bars: every difference with its cause.

        Parameters
        ----------
        live : Live
            With trades (``T``), and the bars asked for.
        symbols : str or sequence of str, optional
            Some of the feed's; all when left out.
        timeframe : {"1m", "1s"}
        bars : {"stream", "rest"}
            Those that came over the socket (channels ``AM`` and ``A``), or those that REST gives now.

        Returns
        -------
        polars.DataFrame
            As `massive_lab.reconcile_bars` gives it; a gap of the feed that REST has not filled is a ``missing_trade``.

        Raises
        ------
        InvalidRequest
            The feed lacks a topic, or there is no such timeframe or source.

        Examples
        --------
        >>> with lab.live(["AAPL"], channels=("T", "AM")) as live:
        ...     lab.live.reconcile(live, "AAPL").filter(cause="unexplained").height
        0
        """
        trades, own, rules, gaps = self._runner.call(self._ticks_and_bars(live, symbols, timeframe, bars))
        return reconcile_bars(trades, own, rules, timeframe, gaps=gaps)

    async def areconcile(
        self, live: Live, symbols: Symbols | None = None, *, timeframe: str = "1m", bars: str = "stream"
    ) -> pl.DataFrame:
        """As `reconcile`, from any event loop."""
        trades, own, rules, gaps = await self._runner.acall(self._ticks_and_bars(live, symbols, timeframe, bars))
        return reconcile_bars(trades, own, rules, timeframe, gaps=gaps)

    async def _ticks_and_bars(
        self, live: Live, symbols: Symbols | None, timeframe: str, source: str
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        from massive_lab.lab.reconcile import check_choice, ticks_and_bars

        check_choice(live, timeframe, source)
        if self._conditions is None:
            self._conditions = await conditions(self._session)
        trades, bars, gaps = await ticks_and_bars(self._session, live, symbols, timeframe, source)
        return trades, bars, self._conditions, gaps

    def status(self) -> pl.DataFrame:
        """One row per cluster with an open feed; columns as `massive_lab.live.session.Live.status`."""
        return self._runner.call(self._status())

    def topics(self) -> pl.DataFrame:
        """One row per topic; columns as `massive_lab.live.session.Live.topics`."""
        return self._runner.call(self._topics())

    def gaps(self) -> pl.DataFrame:
        """Outages by topic, and what became of each; columns as `massive_lab.live.session.Live.gaps`."""
        return self._runner.call(self._gaps())

    def outages(self) -> pl.DataFrame:
        """When sockets were down: ``cluster start end seconds cause attempts``; ``end`` is null while one is."""
        return self._runner.call(self._outages())

    def warnings(self) -> pl.DataFrame:
        """What is probably not meant: confirmed topics that stay silent, and work that is done twice.

        Returns
        -------
        polars.DataFrame
            ``since cluster topic kind text callers``, oldest first. ``kind`` is ``silent_topic``, ``same_topic``,
            ``single_beside_wildcard``, ``poll_beside_stream`` or ``repeated_load``; the last two are of this client's loads and
            have no cluster. ``callers`` are lines of files, or cells and lines.
        """
        return self._runner.call(self._warnings())

    def retry(self, api_key: str | None = None) -> None:
        """Try at once to open the feeds that are down: after a refused key, an eviction, or attempts used up.

        Everything asked for so far is subscribed again, and every reader goes on.

        Parameters
        ----------
        api_key : str, optional
            Use another key (or another token of the gateway) from now on, for the feeds and for the calls of this client. Feeds
            that are up are closed and opened again with it.

        Raises
        ------
        InvalidRequest
            When feeds with that key are open in this process already. Nothing was changed.
        ConfigError
            When the key is malformed.
        """
        key, api_key = None if api_key is None else type(self._lab.settings.api_key)(api_key), None
        self._runner.call(self._retry(key))

    async def aretry(self, api_key: str | None = None) -> None:
        """As `retry`, from any event loop."""
        key, api_key = None if api_key is None else type(self._lab.settings.api_key)(api_key), None
        await self._runner.acall(self._retry(key))

    async def _retry(self, key: Secret | None) -> None:
        lab = self._lab
        settings = lab.settings if key is None else lab.settings.with_(api_key=key)
        await registry.retry(lab.settings, key)
        if key is not None:
            lab.settings = settings
            self._session.use_key(key)

    async def _outages(self) -> pl.DataFrame:
        return outage_frame(outage for hub in registry.hubs(self._lab.settings) for outage in hub.outages())

    async def _warnings(self) -> pl.DataFrame:
        live = [warned for hub in registry.hubs(self._lab.settings) for warned in hub.watch.warned]
        return warning_frame([*live, *self._loads.warned])

    async def _status(self) -> pl.DataFrame:
        hubs = registry.hubs(self._lab.settings)
        return pl.DataFrame([hub.status() for hub in hubs], schema=STATUS_COLUMNS, orient="row")

    async def _topics(self) -> pl.DataFrame:
        hubs = registry.hubs(self._lab.settings)
        return pl.concat([pl.DataFrame(schema=TOPIC_COLUMNS), *(hub.topics() for hub in hubs)])

    async def _gaps(self) -> pl.DataFrame:
        return gap_frame(gap for hub in registry.hubs(self._lab.settings) for gap in hub.gaps.rows())

    def __repr__(self) -> str:
        label = "SANDBOX " if self._lab.settings.sandbox else ""
        return f"<{label}live feeds of {self._lab.settings.ws_url}{', closed' if self._lab.closed else ''}>"


def _streamed_by(lab: Core) -> Callable[[], set[str]]:
    # Weakly: the telemetry that asks outlives a client that was forgotten while its feeds end.
    known = weakref.ref(lab)

    def streamed() -> set[str]:
        client = known()
        return set() if client is None else {s for hub in registry.hubs(client.settings) for s in hub.streamed()}

    return streamed
