"""Rolling tables: the last events of one kind, bounded, cheap to read as Polars at any time and from any thread.

New events wait as objects; every few thousand they become typed columns. Reading converts what waits and joins the
pieces, so the cost of an event is paid once, and a read of 100,000 rows takes a few milliseconds.
"""

from __future__ import annotations

import threading
from typing import Any

import polars as pl

from massive_lab.decode.stream import Event
from massive_lab.errors import InvalidRequest
from massive_lab.frames.build import to_schema
from massive_lab.live.columns import TABLES, to_frame
from massive_lab.live.topics import Kind

__all__ = ["RollingTable"]

# Small enough that the objects of a piece are still in the processor's cache when they become columns.
_PIECE = 1_024
_MANY_PIECES = 256


class RollingTable:
    """The newest rows of one kind.

    Parameters
    ----------
    kind : {"trades", "quotes", "bars", "values"}
    max_rows : int
        Rows kept; older ones leave first.

    Attributes
    ----------
    inbox : list
        Written by the loop thread alone, emptied by `flush`.
    last : dict of str to Event
        Newest event of each symbol by event time.
    n_seen : int
        Rows ever taken, those that have left included.

    Examples
    --------
    >>> from massive_lab.decode.stream import IndexValue
    >>> table = RollingTable("values", max_rows=2)
    >>> table.inbox.extend(IndexValue("I:VIX", ms, float(ms)) for ms in (1, 2, 3)); table.flush()
    0
    >>> table.frame()["value"].to_list(), table.last["I:VIX"].value, table.n_seen
    ([2.0, 3.0], 3.0, 3)
    """

    def __init__(self, kind: Kind, *, max_rows: int = 200_000) -> None:
        if max_rows < 1:
            raise InvalidRequest(f"A table of {max_rows} rows holds nothing.", hint="Give 1 or more.")
        self.kind: Kind = kind
        self.inbox: list[Event] = []
        self.last: dict[str, Event] = {}
        self.n_seen = 0
        self._max_rows = max_rows
        self._waiting: list[Event] = []
        self._pieces: list[pl.DataFrame] = [to_schema(TABLES[kind]).to_frame()]
        self._n_rows = 0
        self._swap = threading.Lock()
        self._reading = threading.Lock()

    def flush(self) -> int:
        """Take the inbox over; a rolling table drops nothing but its oldest rows, so this returns 0."""
        batch = self.inbox
        if not batch:
            return 0
        last = self.last
        for event in batch:
            before = last.get(event.symbol)
            if before is None or event.ms >= before.ms:
                last[event.symbol] = event
        with self._swap:
            self._waiting.extend(batch)
            n_waiting = len(self._waiting)
        self.n_seen += len(batch)
        batch.clear()
        # A reader that is converting right now will take these too, next time.
        if n_waiting >= _PIECE and self._reading.acquire(blocking=False):
            try:
                self._convert()
            finally:
                self._reading.release()
        return 0

    def frame(self, symbol: str | None = None) -> pl.DataFrame:
        """The rows as they stand.

        Parameters
        ----------
        symbol : str, optional
            Only this one.

        Returns
        -------
        polars.DataFrame
            The ``live_trades``, ``live_quotes``, ``live_values`` or ``live_bars`` table. Ticks in order of arrival; bars
            by symbol and start, each once: a bar sent again replaces the one before.
        """
        with self._reading:
            self._convert()
            whole = pl.concat(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
            if len(self._pieces) > 1 and self.kind == "bars":
                whole = self._trimmed_bars(whole)
                self._keep(whole)
            elif len(self._pieces) > _MANY_PIECES:
                self._keep(whole)
        return whole if symbol is None else whole.filter(pl.col("symbol") == symbol)

    def last_frame(self) -> pl.DataFrame:
        """One row per symbol: its newest event."""
        return to_frame(self.kind, list(dict(self.last).values()))

    def _convert(self) -> None:
        with self._swap:
            waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        # Bars replace each other, so how many rows these make is known only after that.
        fresh: Any = waiting if self.kind == "bars" else waiting[-self._max_rows :]
        self._pieces.append(to_frame(self.kind, fresh))
        self._n_rows += self._pieces[-1].height
        if self.kind == "bars":
            # Doubling before the repeats are dropped keeps the cost of a bar constant.
            if self._n_rows > 2 * self._max_rows:
                self._keep(self._trimmed_bars(pl.concat(self._pieces)))
            return
        while (surplus := self._n_rows - self._max_rows) > 0:
            oldest = self._pieces[0]
            n_out = min(surplus, oldest.height)
            self._n_rows -= n_out
            if n_out == oldest.height:
                del self._pieces[0]
            else:
                self._pieces[0] = oldest.slice(n_out)

    def _keep(self, whole: pl.DataFrame) -> None:
        self._pieces = [whole.rechunk()]
        self._n_rows = whole.height

    def _trimmed_bars(self, frame: pl.DataFrame) -> pl.DataFrame:
        newest = frame.unique(["symbol", "ts_event"], keep="last", maintain_order=True)
        surplus = newest.height - self._max_rows
        if surplus > 0:
            newest = newest.sort("ts_event", maintain_order=True).slice(surplus)
        return newest.sort("symbol", "ts_event")
