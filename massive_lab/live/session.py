"""What ``lab.live([...])`` gives: topics of one user, opened at once and closed together."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any, Self, cast

import polars as pl

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.decode.stream import IndexValue, MinuteBar, Quote, SecondBar, Trade
from massive_lab.errors import ClosedError, InvalidRequest, MassiveLabError, Timeout
from massive_lab.live.core import Core
from massive_lab.live.gaps import Filler
from massive_lab.live.mailbox import Overflow
from massive_lab.live.policy import Policy
from massive_lab.live.polling import Poller
from massive_lab.live.reader import Reader
from massive_lab.live.topics import topics_for
from massive_lab.schema.symbols import Symbol
from massive_lab.telemetry import Telemetry
from massive_lab.transports.runner import Runner

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
        self._is_sandbox = settings.sandbox
        self._runner = runner
        self._core = Core(settings, runner, telemetry, clock, poller, topics, policy or Policy(), _caller(), filler)
        runner.spawn(self._core.start(), name="live session")
        # Closing at exit is the runner's work; this is for a session that is forgotten in a notebook.
        self._finalizer = weakref.finalize(self, _abandon, self._core)
        self._finalizer.atexit = False

    # ---- readers

    def trades(self, symbol: str | None = None, *, limit: int | None = None, overflow: Overflow = "drop_oldest") -> Reader[Trade]:
        """Trades of one symbol, or of all. See `Reader`.

        Parameters
        ----------
        symbol : str, optional
        limit : int, optional
            Events the reader may fall behind while it iterates; default 100,000.
        overflow : {"drop_oldest", "error", "conflate"}
            See `massive_lab.live.mailbox`.

        Raises
        ------
        InvalidRequest
            When the session has no such topic.
        """
        return cast("Reader[Trade]", self._reader(("T",), symbol, limit, overflow))

    def quotes(self, symbol: str | None = None, *, limit: int | None = None, overflow: Overflow = "drop_oldest") -> Reader[Quote]:
        """Best bids and offers of one symbol, or of all. As `trades`."""
        return cast("Reader[Quote]", self._reader(("Q",), symbol, limit, overflow))

    def values(
        self, symbol: str | None = None, *, limit: int | None = None, overflow: Overflow = "drop_oldest"
    ) -> Reader[IndexValue]:
        """Index values of one symbol, or of all. As `trades`."""
        return cast("Reader[IndexValue]", self._reader(("V",), symbol, limit, overflow))

    def bars(
        self,
        symbol: str | None = None,
        *,
        channel: str | None = None,
        limit: int | None = None,
        overflow: Overflow = "drop_oldest",
    ) -> Reader[SecondBar | MinuteBar]:
        """Bars of one symbol, or of all: of a minute (``channel="AM"``, default where subscribed) or of a second (``"A"``)."""
        channels = (channel,) if channel else ("AM", "A")
        return cast("Reader[SecondBar | MinuteBar]", self._reader(channels, symbol, limit, overflow))

    def _reader(self, channels: Sequence[str], symbol: str | None, limit: int | None, overflow: Overflow) -> Reader[Any]:
        core = self._core
        for channel in channels:
            topics = tuple(t for t in core.topics if t.channel == channel and symbol in (None, t.symbol))
            if topics:
                bound = core.policy.mailbox_events if limit is None else limit
                return Reader(core, core.tables[channel], topics, symbol, limit=bound, overflow=overflow, session=self)
        asked = "/".join(channels) + (f".{symbol}" if symbol else "")
        raise InvalidRequest(
            f"This session has no topic {asked}.", hint=f"It has {', '.join(topic.wire for topic in core.topics[:10])}."
        )

    # ---- what is known

    def topics(self) -> pl.DataFrame:
        """The session's topics: ``cluster topic readers state since messages bytes last_event duplicates_avoided``.

        ``readers`` counts all of the process, not of this session alone.
        """
        return self._runner.call(self._core.topic_rows())

    def status(self) -> pl.DataFrame:
        """One row per cluster: its state, since when, and counts of the shared connection since it was made."""
        return self._runner.call(self._core.status_rows())

    def gaps(self) -> pl.DataFrame:
        """Spans in which nothing was received: ``cluster topic start end``, UTC."""
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
        """Close every reader and, with the last session that uses them, the sockets. Idempotent."""
        self._finalizer.detach()
        if self._core.is_closed and self._core.ended.is_set():
            return
        if self._runner.in_loop_thread:
            self._runner.submit(self._core.aclose())
        else:
            self._runner.call(self._core.aclose())

    async def aclose(self) -> None:
        """As `close`, from any event loop."""
        self._finalizer.detach()
        if not self._core.ended.is_set():
            await self._runner.acall(self._core.aclose())

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
        label = "SANDBOX " if self._is_sandbox else ""
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


def _caller() -> str | None:
    """``file:line`` of the first frame outside the library; the cell number in a notebook."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "massive_lab":
        frame = frame.f_back
    if frame is None:
        return None
    name = frame.f_code.co_filename
    if "ipykernel" in name and isinstance(cells := frame.f_globals.get("In"), list):
        return f"In[{len(cells) - 1}]:{frame.f_lineno}"
    return f"{name.rpartition('/')[2]}:{frame.f_lineno}"
