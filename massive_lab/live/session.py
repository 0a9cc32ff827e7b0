"""What ``lab.live([...])`` gives: topics of one user, opened at once and closed together."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Self, cast

import polars as pl

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.decode.stream import IndexValue, MinuteBar, Quote, SecondBar, Trade
from massive_lab.errors import ClosedError, InvalidRequest, MassiveLabError, Timeout
from massive_lab.live.core import Core
from massive_lab.live.gaps import Filler
from massive_lab.live.policy import Policy
from massive_lab.live.poll.polling import Poller
from massive_lab.live.read.callbacks import Callback, join_all
from massive_lab.live.read.columns import newest_frame
from massive_lab.live.read.mailbox import Overflow
from massive_lab.live.read.reader import Bounds, Reader
from massive_lab.live.topics import topics_for
from massive_lab.schema.symbols import Symbol
from massive_lab.telemetry import Telemetry
from massive_lab.transports.callers import user_code
from massive_lab.transports.runner import Runner
from massive_lab.typing import Symbols

__all__ = ["Live"]


class Live:
    """Live events of some symbols. Returns at once; connecting, subscribing and reconnecting happen behind it.

    Parameters
    ----------
    settings : Settings
    runner : Runner
        The loop thread.
    telemetry : Telemetry
    clock : Clock
    poller : Poller or None
        Stands in by REST while a socket is down; None: nothing does.
    symbols : sequence of Symbol
    channels : iterable of str, optional
        See `massive_lab.live.topics.topics_for`.
    policy : Policy, optional
    filler : Filler, optional
        Fetches by REST what was missed while a socket was down; None: gaps are listed and stay.

    Raises
    ------
    InvalidRequest
        For a channel that exists nowhere, or no symbol.
    """

    def __init__(
        self,
        settings: Settings,
        runner: Runner,
        telemetry: Telemetry,
        clock: Clock,
        poller: Poller | None,
        symbols: Sequence[Symbol],
        channels: Iterable[str] | None = None,
        *,
        policy: Policy | None = None,
        filler: Filler | None = None,
    ) -> None:
        topics = topics_for(symbols, channels)
        if not topics:
            raise InvalidRequest("The list of symbols is empty.", hint="Give at least one, for example ['AAPL'].")
        self.symbols = tuple(symbol.text for symbol in symbols)
        self._runner = runner
        self._core = Core(settings, runner, telemetry, clock, poller, topics, policy or Policy(), user_code(), filler)
        runner.spawn(self._core.start(), name="live session")
        # Closing at exit is the runner's work; this is for a session that is forgotten in a notebook.
        self._finalizer = weakref.finalize(self, _abandon, self._core)
        self._finalizer.atexit = False

    # ---- readers

    def trades(
        self,
        symbol: Symbols | None = None,
        *,
        limit: int | None = None,
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        overflow: Overflow = "drop_oldest",
    ) -> Reader[Trade]:
        """Trades of one symbol, of some, or of all. See `Reader`.

        Parameters
        ----------
        symbol : str or sequence of str, optional
        limit : int, optional
            Events the reader may fall behind while it iterates; default 100,000.
        max_bytes : int, optional
            The same in bytes, by `massive_lab.live.read.mailbox.EVENT_BYTES`; default 64 MiB.
        max_age_s : float, optional
            Seconds an event may wait for the reader; default 600.
        overflow : {"drop_oldest", "close", "latest"}
            What happens when one of the three is passed; see `massive_lab.live.read.mailbox`. Trades are never conflated.

        Raises
        ------
        InvalidRequest
            When the session has no such topic.
        """
        return cast("Reader[Trade]", self._reader(("T",), symbol, limit, max_bytes, max_age_s, overflow))

    def quotes(
        self,
        symbol: Symbols | None = None,
        *,
        limit: int | None = None,
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        overflow: Overflow = "drop_oldest",
    ) -> Reader[Quote]:
        """Best bids and offers. As `trades`."""
        return cast("Reader[Quote]", self._reader(("Q",), symbol, limit, max_bytes, max_age_s, overflow))

    def values(
        self,
        symbol: Symbols | None = None,
        *,
        limit: int | None = None,
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        overflow: Overflow = "drop_oldest",
    ) -> Reader[IndexValue]:
        """Index values. As `trades`."""
        return cast("Reader[IndexValue]", self._reader(("V",), symbol, limit, max_bytes, max_age_s, overflow))

    def bars(
        self,
        symbol: Symbols | None = None,
        *,
        channel: str | None = None,
        limit: int | None = None,
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        overflow: Overflow = "drop_oldest",
    ) -> Reader[SecondBar | MinuteBar]:
        """Bars of a minute (``channel="AM"``, default where subscribed) or of a second (``"A"``). As `trades`."""
        channels = (channel,) if channel else ("AM", "A")
        return cast(
            "Reader[SecondBar | MinuteBar]", self._reader(channels, symbol, limit, max_bytes, max_age_s, overflow)
        )

    def _reader(
        self,
        channels: Sequence[str],
        symbol: Symbols | None,
        limit: int | None,
        max_bytes: int | None,
        max_age_s: float | None,
        overflow: Overflow,
    ) -> Reader[Any]:
        core, policy = self._core, self._core.policy
        symbols = (symbol,) if isinstance(symbol, str) else None if symbol is None else tuple(symbol)
        bounds = Bounds(
            policy.mailbox_events if limit is None else limit,
            policy.mailbox_bytes if max_bytes is None else max_bytes,
            policy.mailbox_age_s if max_age_s is None else max_age_s,
            overflow,
        )
        missing = list(symbols or ())
        for channel in channels:
            topics = tuple(t for t in core.topics if t.channel == channel and (symbols is None or t.symbol in symbols))
            held = {topic.symbol for topic in topics}
            missing = [text for text in symbols or () if text not in held]
            if topics and not missing:
                return Reader(core, core.tables[channel], topics, symbols, bounds, session=self)
        asked = "/".join(channels) + (f".{missing[0]}" if missing else "")
        raise InvalidRequest(
            f"This session has no topic {asked}.", hint=f"It has {', '.join(topic.wire for topic in core.topics[:10])}."
        )

    def last(self) -> pl.DataFrame:
        """The newest event of each topic that has had one, and how old it is.

        Returns
        -------
        polars.DataFrame
            ``channel symbol price ts_event source ts_recv staleness_s age_s``. ``price`` is that of a trade, the middle of a
            quote, the close of a bar, or an index value; ``ts_event`` the time it speaks of (a bar's close), UTC;
            ``staleness_s`` how late it came, and ``age_s`` how long ago ``ts_event`` is now.
        """
        newest = {channel: list(table.last.values()) for channel, table in self._core.tables.items()}
        return newest_frame(newest, self._core.clock.now_ns())

    # ---- what is known

    def topics(self) -> pl.DataFrame:
        """The session's topics: ``cluster topic readers state since messages bytes last_event duplicates_avoided callers``.

        ``readers`` counts all of the process, not of this session alone.
        """
        return self._runner.call(self._core.topic_rows())

    def status(self) -> pl.DataFrame:
        """One row per cluster: its state, since when, and counts of the shared connection since it was made."""
        return self._runner.call(self._core.status_rows())

    def gaps(self) -> pl.DataFrame:
        """Outages by topic: ``cluster topic start end cause state events reason``; see `massive_lab.live.views.gap_frame`."""
        return self._runner.call(self._core.gap_rows())

    @property
    def errors(self) -> tuple[MassiveLabError, ...]:
        """What went wrong so far: topics that were refused, connections that broke, polls that failed."""
        told = [error for lease in list(self._core.leases.values()) for error in list(lease.hub.errors)]
        return (*list(self._core.failures.values()), *told)

    def wait_live(self, timeout: float | None = None) -> Self:
        """Wait until every topic is confirmed by the server.

        Raises
        ------
        Timeout
            After `timeout` seconds; names the topics still open.
        SubscriptionFailed, Unauthorized, NotEntitled, UpstreamError
            When a topic, or the whole connection, was refused.
        """
        try:
            self._runner.call(self._core.wait(), timeout)
        except Timeout:
            raise self._late(timeout) from None
        return self

    async def await_live(self) -> Self:
        """As `wait_live`, from any event loop; bound it with ``asyncio.timeout``."""
        await self._runner.acall(self._core.wait())
        return self

    def _late(self, timeout_s: float | None) -> Timeout:
        states = ", ".join(f"{cluster} is {lease.hub.state}" for cluster, lease in self._core.leases.items())
        waiting = self._core.waiting_for()
        shown = ", ".join(waiting[:5]) + (f" and {len(waiting) - 5} more" if len(waiting) > 5 else "")
        text = f"{shown} not confirmed within {timeout_s or 0:g} s; {states or 'nothing is open'}."
        return Timeout(text, hint="See live.errors.")

    # ---- life

    def close(self) -> None:
        """Close every reader and, with the last session that uses them, the sockets. Idempotent.

        No callback is called any more, and those that run are waited for (10 s at most).
        """
        self._finalizer.detach()
        callbacks = self._stop_callbacks()
        if not (self._core.is_closed and self._core.ended.is_set()):
            if self._runner.in_loop_thread:
                self._runner.submit(self._core.aclose())
            else:
                self._runner.call(self._core.aclose())
        if not self._runner.in_loop_thread:
            join_all(callbacks)

    async def aclose(self) -> None:
        """As `close`, from any event loop."""
        self._finalizer.detach()
        callbacks = self._stop_callbacks()
        if not self._core.ended.is_set():
            await self._runner.acall(self._core.aclose())
        if callbacks:
            await asyncio.to_thread(join_all, callbacks)

    def _stop_callbacks(self) -> list[Callback]:
        callbacks = [callback for callback in list(self._core.callbacks) if callback.is_running]
        for callback in callbacks:
            callback.stop()
        # One that closes its own session goes on when this returns.
        return [callback for callback in callbacks if not callback.is_here]

    @property
    def core(self) -> Core:
        """What is left of a session that nobody refers to; for the client that closes it."""
        return self._core

    @property
    def is_closed(self) -> bool:
        return self._core.is_closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        label = "SANDBOX " if self._core.is_sandbox else ""
        if self.is_closed:
            state = "closed"
        else:
            states = {cluster: lease.hub.state for cluster, lease in list(self._core.leases.items())}
            state = ", ".join(f"{cluster} {word}" for cluster, word in states.items()) or "connecting"
        shown = ", ".join(self.symbols[:5]) + (", ..." if len(self.symbols) > 5 else "")
        return f"<{label}Live {shown}: {len(self._core.topics)} topics, {state}>"


def _abandon(core: Core) -> None:
    if core.is_closed:
        return
    try:
        core.runner.submit(core.aclose())
    except ClosedError:
        core.is_closed = True  # the loop thread is gone, and every socket with it
