"""The macro regime and its indicators, live: SPX, NDX and VIX through the one subscription system.

History comes once by REST, and again after each session; from then on every frame of index events is one step of
`massive_lab.live.macro.state.MacroState`, on the loop thread, without a thread or a timer of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Self, TypeAlias, cast

import polars as pl

from massive_lab.clock import Clock
from massive_lab.decode.stream import Event
from massive_lab.errors import ClosedError, InvalidRequest, MassiveLabError
from massive_lab.live.macro.input import Loaded
from massive_lab.live.macro.state import Change, MacroState
from massive_lab.live.read.mailbox import Mailbox
from massive_lab.live.readers import Listener
from massive_lab.live.session import Live
from massive_lab.live.topics import Topic
from massive_lab.regime.label import Regime
from massive_lab.transports.runner import Runner, Submission

__all__ = ["CHANNELS", "TIMEFRAMES", "Macro"]

CHANNELS = ("V", "A", "AM")
TIMEFRAMES = ("1d", "1m", "1s")
Load: TypeAlias = Callable[[bool], Awaitable[Loaded]]
"""Fetches the history and the running day by REST; whether with minute bars."""

_RETRY_S = 60.0
_RETRY_MOST_S = 3_600.0


class _Inbox(Mailbox):
    """Where the hub puts the events: emptied at once, on the loop thread."""

    def __init__(self, engine: _Engine) -> None:
        super().__init__("macro")
        self._engine = engine

    def flush(self) -> int:
        batch = self.inbox.copy()
        self.inbox.clear()
        self._engine.take(batch)
        return 0

    def close(self, error: BaseException | None = None) -> None:
        super().close(error)
        self._engine.close(error)


class _Engine(Listener):
    """What the hub holds: it takes the frames, and asks for history when a session has ended.

    It never holds the `Macro` itself, so that a forgotten one can be collected, and its feed closed.
    """

    def __init__(self, state: MacroState, clock: Clock, runner: Runner, load: Load, topics: Iterable[Topic]) -> None:
        self.state = state
        self.inbox = _Inbox(self)
        self.changes = Mailbox("macro changes", limit=10_000)
        self.guard = threading.RLock()
        self.error: Exception | None = None
        self.refusal: MassiveLabError | None = None
        self._clock = clock
        self._runner = runner
        self._load = load
        self._left = set(topics)
        self._waiting: list[Event] = []
        self._is_taking_over = True
        self._is_asking = False
        self._reload: Submission | None = None
        self._next_s = 0.0
        self._pause_s = _RETRY_S
        self._n_told = 0

    # ---- on the loop thread

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        self._left.discard(topic)
        if not self._left:
            self.close(error)

    async def begin(self) -> None:
        """Load the history, then take what has come meanwhile."""
        await self._take_over(await self._load(True))

    async def _take_over(self, loaded: Loaded) -> None:
        # A tenth of a second of arithmetic: not on the loop thread, where everybody's frames would wait for it.
        self._is_taking_over = True
        try:
            await asyncio.to_thread(self._read_in, loaded)
        finally:
            self._is_taking_over = False
        waiting, self._waiting = self._waiting, []
        self.take(waiting)

    def _read_in(self, loaded: Loaded) -> None:
        with self.guard:
            self.state.load(loaded, self.now_ns())
            self._tell()

    def take(self, batch: list[Event]) -> None:
        """The events of one frame."""
        if self._is_taking_over:
            self._waiting += batch
            return
        if self.changes.is_closed or not batch:
            return
        with self.guard:
            try:
                self.state.take(batch, self.now_ns())
            except Exception as error:  # noqa: BLE001  the other readers of the socket must not suffer for it
                self.error = error
                self.changes.close(error)
                return
            self._tell()
        self.look()

    def look(self) -> None:
        """Ask for the bars of a session that has ended, once at a time; from any thread."""
        now_s = self._clock.monotonic()
        with self.guard:
            if self._is_asking or self.changes.is_closed or now_s < self._next_s or not self.state.is_loaded:
                return
            if not self.state.needs_history(self.now_ns()):
                self._pause_s = _RETRY_S
                return
            self._next_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, _RETRY_MOST_S)
            self._is_asking = True
            self._reload = self._runner.spawn(self._again(), name="history of the macro context")

    async def _again(self) -> None:
        try:
            await self._take_over(await self._load(False))
            self.refusal = None
        except MassiveLabError as error:
            self.refusal = error  # the next look tries again, later
        finally:
            self._is_asking = False

    def _tell(self) -> None:
        n_new = min(self.state.n_changes - self._n_told, len(self.state.changes))
        self._n_told = self.state.n_changes
        if n_new:
            self.changes.inbox.extend(cast("list[Event]", list(self.state.changes)[-n_new:]))
            self.changes.flush()

    def close(self, error: BaseException | None = None) -> None:
        if self._reload is not None:
            self._reload.cancel()
        self.changes.close(error)

    # ---- from any thread

    def now_ns(self) -> int:
        return self._clock.now_ns()


class Macro:
    """The macro regime of this moment. Made by ``lab.live.macro()``.

    Parameters
    ----------
    live : Live
        Values, second bars and minute bars of the three indices; closed with this.
    state : MacroState
    clock : Clock
    runner : Runner
    load : callable
        Fetches the history and the running day by REST.

    Attributes
    ----------
    live : Live
        The feed: its tables, status, gaps and errors.
    """

    def __init__(
        self, live: Live, state: MacroState, clock: Clock, runner: Runner, load: Load, *,
        is_sandbox: bool = False,
    ) -> None:  # fmt: skip
        self.live = live
        self._runner = runner
        self._is_sandbox = is_sandbox
        self._engine = _Engine(state, clock, runner, load, live._core.topics)

    async def _begin(self) -> None:
        """Subscribe and load; runs on the loop thread."""
        core = self.live._core
        await core.listen(self._engine.inbox, core.topics, self._engine)
        await self._engine.begin()

    # ---- what is known

    @property
    def regime(self) -> Regime:
        """The regime as of now: what ``lab.regime(live=True)`` gives on the same values.

        The running day is its last row, unfinished; without a value of SPX the last finished day is shown, and the notes
        say why. The notes also name each input with the time of its value, and those that are stale.
        """
        engine = self._ready()
        with engine.guard:
            return engine.state.regime(engine.now_ns())

    def frame(self, timeframe: str = "1d") -> pl.DataFrame:
        """The three indices as of now.

        Parameters
        ----------
        timeframe : {"1d", "1m", "1s"}
            Bars of the indicators: the daily history with the running day as its last bar, minute bars since the last
            finished session, or second bars since the opening of this object.

        Returns
        -------
        polars.DataFrame
            One row each for ``I:SPX I:NDX I:VIX``:

            - `symbol`, `date`: the day of the values, a New York date; null before the first value of a day.
            - `value`, `change` and `change_percent` since `previous_close`, `open high low` of the day, in index points.
            - `previous_close`: of the last finished session.
            - `ts_event`: time of the value, UTC; `age_s`: seconds since then on the market's time; `is_stale`: older than
              ``stale_s`` in a running session, or missing in one.
            - `source`: ``stream``, ``poll``, ``backfill``, or the recency REST states (``REAL-TIME``, ``DELAYED``).
            - `ts_bar`: start of the newest bar of the indicators, and one column for each of them, Float64, named as
              `massive_lab.indicators.apply` does; null while warming up.

        Raises
        ------
        InvalidRequest
            For another timeframe.
        """
        if timeframe not in TIMEFRAMES:
            raise InvalidRequest(f"timeframe is {timeframe!r}.", hint=f"Use one of {', '.join(TIMEFRAMES)}.")
        engine = self._ready()
        with engine.guard:
            return engine.state.frame(timeframe, engine.now_ns())

    def history(self) -> pl.DataFrame:
        """Every change of the label since this was opened, at most the last 10,000.

        Returns
        -------
        polars.DataFrame
            ``ts date before label bias score is_final reason``: `ts` is the UTC time of the newest input that made the
            change, `date` the New York date that the label is of, `before` null in the first row, and `reason` names the
            rules whose state changed.
        """
        engine = self._ready()
        with engine.guard:
            return engine.state.history()

    def wait_change(self, timeout: float | None = None) -> Change:
        """The next change of the label that this has not given yet; the first is the label at opening.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits as long as it takes.

        Raises
        ------
        Timeout
            None came in time.
        ClosedError
            This was closed.
        """
        change = self._engine.changes.get(timeout)
        if change is None:
            raise ClosedError("The macro context is closed.")
        return cast("Change", change)

    async def await_change(self) -> Change:
        """As `wait_change`, from any event loop; bound it with ``asyncio.timeout``."""
        change = await self._engine.changes.aget()
        if change is None:
            raise ClosedError("The macro context is closed.")
        return cast("Change", change)

    @property
    def errors(self) -> tuple[MassiveLabError, ...]:
        """What went wrong: as `massive_lab.live.session.Live.errors`, and why the last history could not be loaded."""
        refusal = self._engine.refusal
        return (*self.live.errors, *(() if refusal is None else (refusal,)))

    def _ready(self) -> _Engine:
        engine = self._engine
        if engine.error is not None:
            raise engine.error
        if not self.is_closed:
            engine.look()
        return engine

    # ---- life

    def wait_live(self, timeout: float | None = None) -> Self:
        """Wait until the server has confirmed every topic; raises as `massive_lab.live.session.Live.wait_live`."""
        self.live.wait_live(timeout)
        return self

    async def await_live(self) -> Self:
        """As `wait_live`, from any event loop."""
        await self.live.await_live()
        return self

    @property
    def is_closed(self) -> bool:
        return self.live.is_closed

    def close(self) -> None:
        """Close the feed and stop; what is known can still be read. Idempotent."""
        self.live.close()

    async def aclose(self) -> None:
        """As `close`, from any event loop."""
        await self.live.aclose()

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
        engine = self._engine
        with engine.guard:
            regime = engine.state.regime(engine.now_ns()) if engine.state.is_loaded else None
        said = "loading" if regime is None else f"{regime.label} as of {regime.date}"
        return f"<{label}Macro {said}{', closed' if self.is_closed else ''}>"
